/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-priv - what the files of the inode share; nobody else includes it.
 *
 * One inode is NSTRIPES stripes, a set of zero ranges, and a ledger of what a flush waits for.
 *
 *   stripe   MiB k of the export belongs to stripe k % NSTRIPES.  Its lock guards which bytes are
 *            valid in which frame (map), which of them are newer than the origin (dirty)
 *            and the fills under way.  Nothing crosses a MiB, so an operation
 *            holds one stripe at a time; but a zero or trim of what is not here holds all (inode-zero.c).
 *   zeros    ranges that read as zeros without a frame: zeroed and not yet written
 *            back, trimmed, or known to be a hole.  One set an inode, for a range
 *            may be terabytes.  A byte that is valid in a map is never in zeros.
 *   sync     generations, flush tokens, write requests under way, carriers.
 *
 *   maps     who maps the export; above the stripes (inode-map.h).
 *
 * Order: maps, stripe, zeros, sync.  A byte has one of three homes (map, zeros, neither).  It comes into a map or into zeros,
 * and leaves a map, under its stripe's lock held exclusively, so a reader that holds it shared sees one moment (D6).
 * Only what the origin has as well leaves zeros without it: holes that are forgotten, zeros and trims that are durable.
 * Whoever finds a byte in zeros, and takes zlock anew, may find it gone.
 */
#ifndef PC_INODE_PRIV_H
#define PC_INODE_PRIV_H

#include "dirtyset.h"
#include "inode.h"
#include "mappingset.h"
#include "rangeset.h"
#include "readahead.h"
#include "zeroset.h"

#define STRIPE_SHIFT 20
#define STRIPE_LEN ((uint64_t) 1 << STRIPE_SHIFT)

/* A stripe has two trees, whose last leaves are half full: with 8192 scattered pages in memory, 64 stripes cost 26 bytes of
 * nodes a page, 32 cost 21, and 16 would cost 19 by arithmetic.  Not measured, for want of cores: if a reader holds one for half a
 * microsecond of its ten, each of 16 threads finds its stripe taken once in 40 times.
 */
#define NSTRIPES 32
#define STRIPE_PAGES (STRIPE_LEN >> PAGE_SHIFT)
#define NGENS 64
#define NCARRIERS(nconns) ((nconns) + 8)        /* some were lost just now */
#define MOST_CARRIERS NCARRIERS (64)

struct stripe {
  struct rwlock lock;           /* RANK_STRIPE */
  struct rangeset map;
  struct dirtyset dirty;
  struct list fills;            /* struct fill.node */
  uint64_t wb_pos;              /* where write-back looks next; a hint */
  uint64_t ndirty;              /* bytes in state DIRTY; changed with sync held as well */
  struct segnodes nodes;        /* of both sets */
} PC_CACHE_ALIGNED;

/* Writes of generations lo..hi that are not safe yet: bytes in state DIRTY with that number, and
 * bytes of write requests under way that were given it.  The newest one is open.
 */
struct gen {
  uint32_t lo, hi;
  uint64_t pending;
  uint64_t born_ns;             /* first write */
};

/* A connection that carried writes.  Numbers count answered write requests of the inode. */
struct carrier {
  uint32_t id;                  /* 0: free */
  bool flushing;
  uint64_t written;             /* its last answered write */
  uint64_t flushed;             /* all up to here are durable */
  uint64_t asked;               /* value of nwritten when the flush under way was sent */
  uint64_t unstable;            /* bytes in state UNSTABLE that it carried */
  struct origin_req req;
};

enum wb_kind { WB_DATA, WB_ZERO, WB_TRIM };

/* One write request under way. */
struct wb {
  struct origin_req req;
  struct inode *ino;
  enum wb_kind kind;
  struct range range;           /* what may not be written by another meanwhile */
  uint32_t id;                  /* stamp of its WRITING segments */
  uint32_t seq;                 /* oldest generation in it */
  uint64_t counted;             /* bytes it holds of that generation */
  uint32_t serial;
  bool fua, may_trim, as_data;  /* as_data: zeros sent as a write */
  bool zeros;                   /* data, all of it zeros, sent as such */
  bool rmw, rmw_read;           /* the rest of its blocks is read first; has been */
  uint32_t frame, nframes;      /* direct: a reference on each */
  void *bounce;                 /* or the copy */
  bool copied;                  /* it is there already */
  bool gone;                    /* it failed, and nothing in its range is newer than the origin any more */
  uint64_t sent_ns;
  struct list_node node;        /* ino->wbs or env->wb_free */
};

/* Requests of one kind that are lost with their connections, none being answered: since when; told: people were.  And
 * the range of one of them, of which nothing has been answered since, whatever else was.
 */
struct losses {
  uint64_t since_ns;            /* 0: none was lost since the last answer */
  struct range stuck;           /* empty: none */
  uint64_t stuck_since_ns;
  bool told;
};

/* What is known and asked of the origin's holes (inode-holes.c). */
#define HOLES_ASKS 4
#define HOLES_ANSWERED 8

struct holes {
  _Atomic unsigned nasks;       /* questions open; 0 spares the lock */
  _Atomic bool some;            /* this disk has holes */

  /* Guarded by sync. */
  struct hole_ask *ask[HOLES_ASKS];
  struct list waiters;          /* struct inode_op.node of reads */
  struct range answered[HOLES_ANSWERED];        /* lately: asking again would bring nothing new */
  unsigned next;
  unsigned fruitless, let_pass;
  uint64_t all_to, window;      /* the last window was a hole up to its end; its length */
  uint64_t took_ns;             /* how long the last answer took */
};

struct inode {
  /* Fixed at creation. */
  struct inode_env *env;
  struct origin *origin;
  uint64_t size;
  uint32_t block_min;
  uint64_t unit;                /* fills and zero ranges are whole units: max (page, block_min) */
  uint32_t id;
  bool can_flush, can_fua, can_trim;
  _Atomic bool can_zero;        /* until the origin refuses one */
  uint32_t data_max;            /* largest READ or WRITE: min (1 MiB, block_max) */
  char name[128];

  struct lock attr;             /* RANK_ATTR: held while end changes */

  /* Guarded by maps (RANK_MAPS). */
  struct lock maps;
  struct mappingset mappings;
  struct segnodes map_nodes, map_cells;

  /* Mappings (segments); frames with translations, with writable ones: change with the stripe held. */
  _Atomic uint32_t nmappings, nmapped, nkept;
  atomic_uint maps_stopped;     /* no translation for now */
  atomic_bool maps_shut;        /* or ever */
  atomic_bool keep_late;        /* pages are kept without need */
  atomic_bool ra_scan;          /* readahead_is_scan (), of ra below */
  _Atomic uint64_t end;         /* the origin ends here: size, or less (D14) */
  _Atomic uint64_t end_told;    /* or will, when nobody pins the page that end cuts */

  /* Guarded by zlock (RANK_ZEROS).  What is in zeros, and in which state, changes with sync held as well; what comes
   * in, with the stripe.
   */
  struct rwlock zlock;
  struct zeroset zeros;
  struct segnodes znodes;
  _Atomic uint64_t nzeros;      /* segments in zeros; 0 spares the lock */

  /* Guarded by sync (RANK_SYNC). */
  struct lock sync;
  struct gen gen[NGENS];
  unsigned gen_first, ngens;
  uint32_t seq;                 /* the open generation's hi */
  uint64_t bytes[3];            /* by dirtyset state, data */
  uint64_t zbytes[3];           /* the same of zeros, in bytes */
  _Atomic uint64_t charged;     /* our share of env->dirty_total; read without the lock as a hint */
  uint64_t dirty_stripes;       /* bit i: stripe i has ndirty > 0 */
  uint64_t unstable_stripes;    /* bit i: may have UNSTABLE segments */
  uint64_t writes_seen;         /* bytes and zero ranges that became dirty; for idleness */
  uint64_t nwritten;            /* write requests answered */
  uint32_t wb_next_id, wb_serial;
  uint32_t escalations;         /* how often tokens had to begin anew */
  struct list wbs;              /* under way */
  unsigned nwbs;
  _Atomic unsigned nbuffers;    /* of env->bounce, with write requests */
  unsigned wb_stripe;           /* where the next pump begins */
  uint64_t wb_took_ns, wb_least_ns;     /* how long WRITEs take lately, and the least of them */
  struct carrier *carrier;      /* behind the inode */
  unsigned ncarriers, most_carriers, nflushing;
  struct list tokens;           /* struct inode_op.node of OP_SYNC */
  struct list through;          /* struct inode_op.through_node: writes and zeros on their way through */
  uint32_t moved;               /* how often zeros that were DIRTY became data */
  struct list dirty_waiters;    /* writers that wait for less dirt, first come first served */
  _Atomic uint64_t reserved;    /* bytes admitted and not dirty yet; grows with sync held */
  uint64_t unstable_since_ns;
  uint64_t retry_at_ns;
  uint32_t wrote_s;             /* the second in which we were counted in env->writers */
  unsigned failures;            /* in a row */
  _Atomic int wb_err;           /* last answer to a write request, if it was an error */
  _Atomic int flush_err;        /* the same of the origin's flush */
  struct losses writes_lost, flushes_lost;
  struct range wb_failed;       /* what that was for, as far as it is still there */
  bool wb_failed_zero;          /* that was for zeros; the last of those that failed ended there */
  uint64_t wb_zero_pos;
  atomic_bool noticed;          /* since the last turn of write-behind it was told of dirt */
  _Atomic int failed_err;       /* EIO: the origin is another one now (D14) */
  struct throttle throttle;

  struct holes holes;

  struct lock ra_lock;          /* RANK_RA */
  struct readahead *ra;         /* NULL: off */
  uint64_t ra_wasted;           /* of stats.readahead_wasted, this much was told; ra_lock */
  _Atomic uint64_t ra_places;   /* readahead_places (): hits that may follow a stream are told as well */
  _Atomic uint64_t demand_bytes;        /* of reads that wait for the origin */

  struct inode_stats stats;
  struct stripe stripe[NSTRIPES];
};

static inline struct stripe *
inode_stripe (struct inode *ino, uint64_t off)
{
  return &ino->stripe[off >> STRIPE_SHIFT & (NSTRIPES - 1)];
}

/* What lies behind it is with the origin no more. */
static inline uint64_t
inode_end (struct inode *ino)
{
  return atomic_load_explicit (&ino->end, memory_order_acquire);
}

/* The part of r in the MiB of r.start. */
static inline struct range
stripe_part (struct range r)
{
  uint64_t end = (r.start | (STRIPE_LEN - 1)) + 1;

  if (r.end > end)
    r.end = end;
  return r;
}

static inline uint64_t
page_of (uint64_t off)
{
  return off & ~(PAGE_SIZE - 1);
}

/* Generations are compared around the wrap of 32 bits. */
static inline bool
seq_le (uint32_t a, uint32_t b)
{
  return (int32_t) (a - b) <= 0;
}

/* So many zero ranges that an inode keeps hole knowledge: 28 to 56 bytes for each 64 KiB of frames. */
static inline uint64_t
holes_most (const struct inode *ino)
{
  return 64 + memfile_max (ino->env->mf) / 16;
}

/* 0 and UINT32_MAX are no generations: they say "none" and "any". */
static inline uint32_t
seq_after (uint32_t seq)
{
  return seq == WB_SEQ_ANY - 1 ? 1 : seq + 1;
}

/* Errors put in on purpose, one at a time, in a build that tests only make (tests/test-plants.c): does the simulation find
 * what it is there to find?  In any other build the condition is a constant.
 */
enum plant {
  PLANT_NONE,
  PLANT_FILL_OVER_WRITE,        /* a fill is taken over bytes written meanwhile */
  PLANT_FLUSH_FORGETS_UNSTABLE, /* a flush is answered when the origin has taken everything */
  PLANT_EVICT_WRITING,          /* a page leaves while it travels */
  PLANT_TRIM_OVERTAKES,         /* a trim goes out after a later write of its range */
  PLANT_OLD_AFTER_NEW,          /* newer bytes are sent beside an attempt that is unanswered */
  PLANT_HOLE_OVER_WRITE,        /* a hole is learned where data went since it was asked about */
  PLANT_EDGE_LOST,              /* where a write continues another one, its first byte is not dirty */
  PLANT_REPLACED_IS_FORGOTTEN,  /* a flush does not wait for zeros that replace the last bytes it waits for, or the reverse */
  PLANT_DROP_OTHERS,            /* a failed write-through takes another one's bytes */
  PLANT_BYPASS_OVER_DIRTY,      /* a read goes past the cache where part of a page is newer than the origin */
  NPLANTS,
};
#ifdef PC_PLANT
extern enum plant inode_plant;
#define PLANTED(what) (inode_plant == (what))
#else
#define PLANTED(what) false
#endif

#define STAT_ADD(ino, name, n) \
  atomic_fetch_add_explicit (&(ino)->stats.name, (n), memory_order_relaxed)

/* A fill: one read request for whole pages of one MiB.  A bypass has no frames: it goes into the buffer of the read that
 * started it, and is listed like any other, so that it is known what happened to its pages meanwhile.
 */
struct fill {
  struct origin_req req;
  struct inode *ino;
  struct range range;
  struct list_node node;        /* stripe->fills while under way */
  struct list waiters;          /* inode_op_fill.node */
  unsigned refs;                /* the request, and each waiter; stripe's lock */
  unsigned demand;              /* somebody waits or waited: an error is told */
  bool ahead, done, heap;       /* heap: bounce is not from the pool */
  bool good;                    /* bypass, done: these were the bytes when it was answered */
  struct inode_op *reader;      /* bypass: whose buffer it is, until done; else NULL */
  uint64_t started_ns;
  uint64_t dead[STRIPE_PAGES / 64];     /* pages zeroed, trimmed or dropped since (CON-3) */
  void *bounce;
  uint32_t npages;
  uint32_t frames[];            /* FRAME_NONE: not ours any more */
};

/* inode-core.c */
extern void *meta_alloc (void *env, size_t size);
extern void meta_free (void *env, void *p, size_t size);
extern void *node_alloc (void *env, size_t size);
extern void node_free (void *env, void *node, size_t size);
extern void *meta_alloc_hard (struct inode_env *, size_t size);
extern bool meta_make_room (struct inode_env *, size_t size);
extern int nodes_fetch (struct inode_env *, struct segnodes *, uint32_t missing, struct segnodes_batch *);

/* Take n frames, evicting if need be; returns how many (0: nothing can go now). */
extern unsigned env_alloc_frames (struct inode_env *, unsigned n, uint32_t *out);
extern void env_free_frames (struct inode_env *, const uint32_t *frames, unsigned n);

/* Wait for frames (EAGAIN) or for memory (ENOMEM), as op_may_wait allowed. */
extern void op_park_memory (struct inode_op *);
extern bool op_may_wait (struct inode_op *, int err);

/* See to spare tree nodes.  Called with the lock held exclusively, returns with it held.  0: they are
 * there.  EAGAIN: the lock was let go and they are there now, look again.  ENOMEM: the lock was let go.
 */
extern int stripe_nodes (struct inode *, struct stripe *, uint32_t map_inserts, uint32_t dirty_inserts);
extern void stripe_trim (struct stripe *);
extern int zeros_nodes (struct inode *, struct stripe *, uint32_t inserts);

/* They are still there.  zlock is held, and was let go since zeros_nodes. */
static inline bool
zeros_have_nodes (struct inode *ino, uint32_t inserts)
{
  return segnodes_missing (&ino->znodes, zeroset_need (&ino->zeros, inserts)) == 0;
}

/* inode-core.c */
extern void map_remove (struct inode *, struct stripe *, struct range);
extern void map_replace_frame (struct inode *, struct stripe *, uint64_t pgoff, uint32_t frame, uint32_t ours);

/* inode-fill.c */

/* The first bytes in r that are missing, as far as they lie in one stripe; false: there are none. */
extern bool fill_next_missing (struct inode *, struct range r, struct range *missing);

/* Make sure that what is missing of r (inside one MiB) is on its way, for op (NULL: nobody waits).  Starts at
 * most one fill, or joins those that are there.  *end: how far r is taken care of by now.
 * 0; EAGAIN: no frames now (op should finish its other fills, or op_park_memory); ENOMEM.
 */
extern int fill_want (struct inode *, struct range r, struct inode_op *op, bool ahead, uint64_t *end);
extern void fill_release (struct inode_op *);   /* op has copied, or gives up: all its fills */

/* Under the stripe's lock: is any of r being filled?  Pages of r are something else now. */
extern bool fill_in_way (struct stripe *, struct range r);
extern void fill_kill (struct stripe *, struct range r);

/* inode-holes.c: what the origin holds nothing of. */
extern void holes_init (struct inode *);

/* r came back from the origin as zeros, after took_ns. */
extern void holes_zeros_read (struct inode *, struct range r, uint64_t took_ns);

/* op is about to ask the origin for what is at off.  True: it waits until it is known whether that is a hole, or for a while. */
extern bool holes_wait (struct inode_op *, uint64_t off);
extern void holes_unwait (struct inode_op *);   /* at each run of op, and before it ends */

/* off is about to be fetched ahead.  True: better not, it is being asked about and is probably a hole. */
extern bool holes_prefetch (struct inode *, uint64_t off);

/* A write-like request for r was answered, whatever the answer.  sync is held. */
extern void holes_touched_locked (struct inode *, struct range r);

/* inode-read.c, inode-write.c, inode-zero.c, inode-map.c */
enum write_stage { WRITE_ADMIT, WRITE_DELAY, WRITE_COPY, WRITE_SAFE };
extern bool read_run (struct inode_op *);
extern bool write_run (struct inode_op *);

/* The one way to dirt: len bytes may become dirty, after op->delay_until_ns.  False: op waits, or op->err says why not; one
 * without patience does not wait and gets ENOTSUP.
 */
extern bool write_admit (struct inode_op *, uint64_t len, bool patient);

extern bool write_is_delayed (struct inode_op *);

/* Written through, a write's bytes and a zero's are its own from before its first change until its end: nobody else's failure
 * takes them, or what lies over them.  Nothing in any other mode.
 */
extern void write_through_begin (struct inode_op *);
extern void write_through_end (struct inode_op *);

/* So much of it is dirty now, or will not be. */
extern void write_unreserve (struct inode_op *, uint64_t len);
extern void op_forget_dirt (struct inode_op *); /* it wants no more, whether it waits or not */
extern bool write_may_copy (struct inode_op *); /* op's range is admitted, and the delay is over; false: as above */
extern bool map_run (struct inode_op *);
extern void op_init (struct inode_op *, struct inode *, enum inode_op_kind, struct range, unsigned flags);
extern int write_pages (struct inode_op *);
extern bool zero_run (struct inode_op *);

/* inode-attr.c: the origin ends there now. */
extern void attr_resized (struct inode *, uint64_t end);

/* inode-evict.c: nothing clean is left in r, mapped or not; ENOMEM: something is. */
extern int drop_clean (struct inode *, struct range r);

/* inode-map.c.  map_first: the first unit in r of which a page is mapped; under the stripe's lock.  map_stop: until
 * map_go no translation is given, and those of r are taken back; with no lock held.
 */
extern void map_init (struct inode *);
extern void map_release (struct inode *);
extern bool map_first (struct inode *, struct stripe *, struct range r, struct range *unit);
extern void map_unmap_pages (struct inode *, const uint64_t *pgnos, unsigned n);
extern void map_stop (struct inode *, struct range r, unsigned flags);
extern void map_go (struct inode *);

/* inode-ledger.c: what is owed to whom.  _locked: sync is held.  The dirty_ functions want the stripe held
 * exclusively, the zero_ functions zlock as well (and the stripe, where bytes change hands).
 *
 * What replaces something that is owed to a flush is owed to it as well: dirty_mark takes zeros away and zero_mark bytes, each
 * in one hold of sync.  dirty_drop and zero_drop are for what nothing replaces.
 */
extern void ledger_init (struct inode *);
extern void gen_add_locked (struct inode *, uint32_t seq, int64_t bytes);
extern uint32_t gen_close_locked (struct inode *);
extern void gen_settle_locked (struct inode *);
extern bool gen_pending_locked (struct inode *, uint32_t s);
extern bool gen_is_seen_locked (struct inode *, uint32_t seq);  /* by each flush that waits for it */
extern void dirty_waiters_wake_locked (struct inode *);
extern bool dirt_fits_locked (struct inode *, struct throttle_load, uint64_t len);
extern void dirt_admit_locked (struct inode_op *, uint64_t len);
extern void dirty_waiters_admit_locked (struct inode *);
extern void dirty_waiters_leave_locked (struct inode_op *);
/* Takes zlock.  wt: written through.  EAGAIN, and nothing is changed: zeros_nodes first. */
extern int dirty_mark (struct inode *, struct stripe *, struct range, bool wt) PC_MUST_CHECK;
extern void dirty_drop (struct inode *, struct stripe *, struct range);
extern void dirty_keep (struct inode *, struct stripe *, struct range);
extern void dirty_unkeep (struct inode *, struct stripe *, struct range);
extern void dirty_writing_locked (struct inode *, struct stripe *, struct wb *);
extern void dirty_wb_answered (struct inode *, struct stripe *, struct wb *, uint32_t carrier, bool durable);
extern void zero_mark (struct inode *, struct stripe *, struct range, enum zero_kind kind, bool may_trim);
extern void zero_drop (struct inode *, struct range);
extern void zero_writing_locked (struct inode *, struct wb *);
extern void zero_wb_answered (struct inode *, struct wb *, uint32_t carrier, bool durable);
extern void ledger_flushed (struct inode *, uint32_t carrier, uint64_t asked);
extern void ledger_flush_failed (struct inode *, uint32_t carrier, uint64_t asked);
extern void ledger_lost (struct inode *, uint32_t carrier);
extern void ledger_wb_failed_locked (struct inode *);

/* inode-sync.c */
extern void sync_begin (struct inode_op *, struct range, unsigned flags);
extern bool sync_step (struct inode_op *);      /* true: safe, or op->err says why not */
extern void sync_end (struct inode_op *);
extern void tokens_wake_locked (struct inode *);
extern void tokens_fail_locked (struct inode *, struct wb *, int err);
extern void tokens_unsent_locked (struct inode *, struct range);
extern void flush_carriers (struct inode *);

/* What err, the origin's answer to a request of that kind for that range (a flush: all), means: ENOTCONN, once that has gone on for too long, EIO; then
 * *tell says whether people should hear of it, from losses_tell, with no lock held.
 */
extern int losses_judge_locked (struct inode *, struct losses *, struct range, int err, bool *tell);
extern void losses_tell (struct inode *, const char *what);

/* inode-wb.c: start write requests for what is DIRTY in limit, generations up to seq.  *taken: bytes of
 * limit that are under way now because of this call.
 */
struct wb_ask {
  struct range limit;
  uint32_t seq;
  unsigned max;
  enum origin_prio prio;
  bool fua;
  bool kept;                    /* also what is mapped writable, which does not get clean by it */
  uint64_t grain;               /* see inode_write_behind; 0: everything */
  uint64_t hold_most;           /* bytes */
  bool patient;                 /* short runs stay also while nothing is under way */
};
extern unsigned wb_start (struct inode *, const struct wb_ask *, uint64_t *taken);

/* ino writes, or wants to.  How many inodes did within the last second (D13)?  At least 1; sync is held. */
extern unsigned inode_writers_locked (struct inode *);

/* What throttle wants to know; sync is held.  wants: ino writes, or wants to (D13 divides among those). */
extern struct throttle_load inode_load_locked (struct inode *, bool wants);

#endif /* PC_INODE_PRIV_H */
