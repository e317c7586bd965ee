/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode - one export, cached: what a client reads, writes, zeroes, trims and flushes.
 *
 * Answers: what are the bytes of [off, off + len) now, and what must happen before a
 * reply may be sent?
 *
 * Every operation is an object (struct inode_op) that somebody drives (D0):
 *
 *     inode_op_read (&op, ino, buf, range);     prepare; nothing happens yet
 *     while (!inode_op_run (&op))               go on as far as possible
 *       wait until op.wake was called, or op.wake_at_ns has come
 *     op.err                                    0 or an errno value
 *
 * A worker thread that blocks (inode_op_wait), the event loop and a simulator are three
 * drivers of the same object.  The core starts no thread and takes the time from env.
 *
 * Units    bytes from the start of the export; ranges lie inside [0, size).
 * Threads  inode_op_run of one op by one thread at a time; different ops from any.
 * Locks    callers hold none of ours.  wake is called with locks held up to RANK_SYNC or
 *          RANK_MEMFILE: it may set a flag, post to a loop or take RANK_LOOP and RANK_WAIT.
 *          It may come spuriously, and while inode_op_run is still running.
 * Errors   op.err: EIO, ENOSPC, EPERM, ENOMEM, EINVAL, ENOTSUP (fast zero), ESHUTDOWN,
 *          ECANCELED after inode_op_cancel.
 * Memory   an op is the caller's, without cleanup once inode_op_run returned true.  A
 *          buffer is lent until then.
 *
 * States and locks: lib/README.md.  Source: D0..D8, CIN-1..44, CON-1..10, DUR-1..8.
 */
#ifndef PC_INODE_H
#define PC_INODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "budget.h"
#include "clock.h"
#include "evict.h"
#include "list.h"
#include "lock.h"
#include "memfile.h"
#include "origin.h"
#include "populate.h"
#include "range.h"
#include "segnodes.h"
#include "throttle.h"

struct inode;
struct fill;

enum inode_mode { INODE_WRITEBACK, INODE_WRITETHROUGH, INODE_UNSAFE };

/* Counters of one inode; relaxed, for people (interface.md, cache-stats). */
#define INODE_STATS(X)                                                          \
  X (hits, "pages that were there when they were read")                         \
  X (misses, "pages that a read had to wait for")                               \
  X (joined, "reads that found what they need already under way")               \
  X (fills, "reads sent to the origin")                                         \
  X (fill_bytes, "bytes they asked for")                                        \
  X (readahead_bytes, "of these, before anybody asked")                         \
  X (readahead_wasted, "bytes fetched ahead and dropped unread")                \
  X (bypass_bytes, "bytes read past the cache")                                 \
  X (evicted, "pages that left to make room")                                   \
  X (writeback_bytes, "bytes sent to the origin")                               \
  X (writeback_errors, "writes that the origin refused or lost")

struct inode_stats {
#define X(name, text) _Atomic uint64_t name;
  INODE_STATS (X)
#undef X
  _Atomic uint64_t throttled_ns;        /* that writers were slowed, and waited for less dirt; told in milliseconds */
};

/* What all inodes of one cache share; filled in by the owner before the first inode. */
struct inode_env {
  struct clock *clock;
  struct budget *budget;
  struct memfile *mf;
  struct bounce *bounce;
  struct populate *populate;    /* told of frames that are taken; NULL: nobody is */
  struct evict *evict;          /* guarded by evict_lock, but for evict_touch */
  struct lock evict_lock;       /* RANK_EVICT */

  _Atomic int mode;             /* enum inode_mode; a drain makes it writethrough */
  uint64_t readahead_max;       /* largest window; 0: off */
  uint64_t dirty_max, dirty_background, dirty_expire_ns;
  unsigned nwb;                 /* write requests that may be under way, all inodes */

  /* Hooks upwards.
   * reclaim  make about `want` frames free by dropping clean ones; called with no lock
   *          held from the thread that needs them (D25).  False: nothing could go.
   * starved  nothing clean is left: somebody waits for write-back.  Any lock below
   *          RANK_LOOP may be held.
   * dirtied  an inode has something to write back or a flush to serve; same locks.
   * news     what the inode's origin has to say, as in origin.h; on the loop, no lock held.
   *          Members may be NULL; a hook may be called with an inode before inode_create has
   *          returned it.
   */
  bool (*reclaim) (void *arg, unsigned want);
  void (*starved) (void *arg);
  void (*dirtied) (void *arg, struct inode *);
  struct inode_news {
    void (*failed) (void *arg, struct inode *, int err, const char *why);
    void (*resized) (void *arg, struct inode *, uint64_t end);
    void (*notice) (void *arg, struct inode *, int level, const char *line);
  } news;
  void *hook_arg;

  /* Who waits for frames (guarded by mem_lock, RANK_MEMFILE). */
  struct lock mem_lock;
  struct list mem_waiters;
  _Atomic unsigned nmem_waiters;
  _Atomic unsigned mem_events;  /* how often frames or buffers came free */

  /* Write requests not under way: preallocated, so that a flush needs no memory. */
  struct lock wb_lock;          /* RANK_MEMFILE */
  struct list wb_free;
  unsigned wb_nfree;
  void *wb_mem;

  /* Tree nodes between two uses, of all inodes. */
  struct lock node_lock;        /* RANK_MEMFILE */
  struct segnodes spare_nodes;
  uint32_t most_spare_nodes;

  _Atomic unsigned nfills;      /* in being, with frames: those come back without write-back */
  _Atomic unsigned nblocked;    /* writers that wait for less dirt, of whichever inode */
  _Atomic uint64_t writers;     /* inodes that wrote this second and the one before; see inode_writers_locked */
  _Atomic uint64_t dirty_total; /* bytes dirty in all inodes (D3: all states) */
  void *zeros;                  /* read-only zero bytes, ZEROS_LEN, for origins without zero */
};

#define ZEROS_LEN ((uint64_t) 1 << 20)

extern int inode_env_init (struct inode_env *);   /* after the fields above hooks are set */
extern void inode_env_release (struct inode_env *);

/* Frames came free or became evictable: who waits looks again. */
extern void inode_env_wake_memory (struct inode_env *);

enum inode_op_kind {
  OP_READ,
  OP_WRITE,
  OP_ZERO,
  OP_TRIM,
  OP_SYNC,                      /* everything written before: durable */
  OP_MAP,                       /* pages ready to be mapped (inode-map.h) */
};

enum {
  INODE_FUA = 1,                /* durable at the reply */
  INODE_MAY_TRIM = 2,           /* OP_ZERO: a hole will do */
  INODE_FAST = 4,               /* OP_ZERO: ENOTSUP rather than wait */
  INODE_ACCEPTED = 8,           /* OP_SYNC: accepted by the origin is enough (writethrough) */
  INODE_BYPASS = 16,            /* OP_READ: what is missing is read straight into the buffer and not kept */
};

#define INODE_OP_FILLS 32

struct inode_op_fill {
  struct list_node node;        /* in fill->waiters */
  struct inode_op *op;
  struct fill *fill;
};

struct inode_op {
  /* The caller's, before the first run. */
  void (*wake) (struct inode_op *);
  void *wake_arg;

  /* For the driver. */
  int err;
  uint64_t wake_at_ns;          /* 0, or run again at this instant at the latest */

  /* The op's own. */
  enum inode_op_kind kind;
  struct inode *ino;
  struct range range;
  struct range optional;        /* OP_MAP */
  uint8_t *buf;
  unsigned flags;
  unsigned stage;
  uint64_t pos;
  uint64_t delay_until_ns;
  unsigned min_frames, mem_seen;
  unsigned max_frames;          /* write: no more a turn, for tree nodes want memory too; 0: any */
  uint64_t starved_at_ns, starved_pos;  /* ENOMEM since then, without coming further than there; 0: not */
  bool begun;                   /* has run once */
  bool missed, joined, told, asked_holes, alone;
  bool bypass, lent;            /* read: as INODE_BYPASS; the origin may be writing into buf, while waits > 0 */
  bool shared;                  /* read: waits for what another one's bypass brings, which is not kept for it */
  unsigned nmissed;             /* read: pages of it that were not there */
  unsigned used_ahead;          /* read: pages that were fetched ahead, and are read for the first time */
  uint64_t counted;             /* read: nmissed counts up to here */
  struct list_node node;        /* mem_waiters, tokens or dirty_waiters */
  struct list *on;              /* which of them, under that list's lock */
  bool parked, syncing;         /* was on mem_waiters; is on tokens */
  struct list_node through_node;
  bool through;                 /* is on the inode's list of write-throughs */

  /* Dirt to come (inode-write.c). */
  bool queued;                  /* went to dirty_waiters, and has not looked since it was taken off */
  bool admitted;                /* was taken off to go on; the inode's sync lock */
  uint64_t wants;               /* while on it: so many bytes */
  uint64_t reserved;            /* of what was admitted is not dirty yet */
  uint64_t blocked_at_ns;
  unsigned nfills;
  _Atomic unsigned waits;       /* fills not answered yet */
  _Atomic int fill_err;
  _Atomic unsigned not_his;     /* fills that failed, and may have for others' bytes only */

  /* OP_SYNC, and the durable part of a write: guarded by the inode's sync lock. */
  struct range sync;            /* what must be safe; RANGE_ALL for a flush */
  uint32_t s;                   /* every write of a generation up to this one */
  uint64_t need;                /* every write answered up to this number is flushed */
  uint32_t serial;              /* write requests issued from this one on are ours to fail with */
  int sync_err;
  bool accepted_only, durable_fua, want_flush, asked;
  bool unsent;                  /* what it sent for, or part of it, did not go with that request */

  struct inode_op_fill fill[INODE_OP_FILLS];
};

extern void inode_op_read (struct inode_op *, struct inode *, void *buf, struct range);

/* The short way of a read whose bytes are all there.  False: it did nothing, an op has to look. */
extern bool inode_read_hit (struct inode *, void *buf, struct range);

extern void inode_op_write (struct inode_op *, struct inode *, const void *buf, struct range, unsigned flags);
extern void inode_op_zero (struct inode_op *, struct inode *, struct range, unsigned flags);
extern void inode_op_trim (struct inode_op *, struct inode *, struct range, unsigned flags);
extern void inode_op_sync (struct inode_op *, struct inode *, struct range, unsigned flags);

/* True: done, op->err is set and the op is in nobody's hands.  False: wait. */
extern bool inode_op_run (struct inode_op *);

/* Give up an op that is not running and whose buffer the origin does not write into (inode_op_is_lent): it leaves every
 * list; what it did stays done.  After it returns the op is done with ECANCELED.
 */
extern void inode_op_cancel (struct inode_op *);

static inline bool
inode_op_is_lent (const struct inode_op *op)
{
  return op->lent && atomic_load (&op->waits) > 0;
}

/* The blocking driver.  gone (may be NULL) is asked about ten times a second. */
extern int inode_op_wait (struct inode_op *, bool (*gone) (void *), void *gone_arg);

/* Start reading range into the cache with nobody waiting (NBD_CMD_CACHE, read-ahead); takes only
 * frames that are free or cold.  Returns the length of range if all of it is there or on its way now; else how many
 * bytes were asked for before that failed.
 */
extern uint64_t inode_prefetch (struct inode *, struct range, bool ahead);

/* Create: origin is open and stays the caller's; it must outlive the inode.  id is 1..4095,
 * unique in the env.  name is for messages.
 */
extern int inode_create (struct inode_env *, struct origin *, uint32_t id, const char *name, struct inode **);

/* No op is under way.  Clean pages are dropped; what is dirty is lost (the caller drained, or
 * reports inode_dirty_ranges first).  CIN-43, sem.B-28.
 */
extern void inode_free (struct inode *);

extern struct inode_env *inode_env (struct inode *);
extern uint32_t inode_id (struct inode *);
extern const char *inode_name (struct inode *);
extern uint64_t inode_size (struct inode *);
extern struct origin *inode_origin (struct inode *);
extern struct inode_stats *inode_get_stats (struct inode *);   /* hits: as of this call */
extern bool inode_is_empty (struct inode *);        /* holds no page and nothing dirty */

/* Bytes by state, zero and trim ranges included at 64 bytes each. */
struct inode_dirty {
  uint64_t dirty, writing, unstable;
};
extern struct inode_dirty inode_get_dirty (struct inode *);

/* Drop every clean page, mapped or not (drain, revalidate, identity); dirty ones stay.  ENOMEM: some could not go. */
extern int inode_invalidate (struct inode *, struct range);

/* Ask the origin what of the surroundings of off it holds nothing of, unless that was done lately; reads of it then need
 * neither request nor frame.  Comes of itself where zeros are read.
 */
extern void inode_ask_holes (struct inode *, uint64_t off);

/* What was learned of holes is forgotten: to make room, or because it may not be true any more. */
extern void inode_forget_holes (struct inode *);

/* Eviction: of the pages pgnos[i], in frames[i] when they were picked, drop those that are clean and
 * unused; the others go back to the policy.  Sorted by page, so that each stripe is taken once.  Returns how many
 * went; *dirty is raised by those that must be cleaned first.
 */
enum inode_evict { INODE_EVICTED, INODE_EVICT_BUSY, INODE_EVICT_DIRTY, INODE_EVICT_MOVED };
extern unsigned inode_evict_run (struct inode *, const uint32_t *frames, const uint64_t *pgnos, unsigned n,
                                 unsigned *dirty);

/* Write-back: start requests for what is dirty in generations up to `seq`, at most `max` of
 * them; returns how many were started.  Never waits.  Any thread, no lock held.
 */
extern unsigned inode_write_some (struct inode *, uint32_t seq, unsigned max);
#define INODE_SEQ_ALL(ino) inode_seq_now (ino)

/* The same as far as the origin's connections allow, but while something is under way a few short runs of bytes stay, for
 * they may still grow: a writer of small pieces in order would have each sent by itself otherwise.  patient: also while
 * nothing is, for a near origin's answer is there before the next piece is; something else sends them in the end.
 */
extern unsigned inode_write_behind (struct inode *, uint32_t seq, bool patient);
extern uint32_t inode_seq_now (struct inode *);

/* The newest generation that is older than born_ns and has something to write; false: none. */
extern bool inode_seq_older (struct inode *, uint64_t born_ns, uint32_t *seq);

/* Close the open generation if it has something in it and is older than born_ns. */
extern void inode_seq_tick (struct inode *, uint64_t born_ns);

/* Send the origin a flush for what it took and has not made durable, if there is any. */
extern void inode_flush_origin (struct inode *);
extern uint64_t inode_unstable_since (struct inode *);  /* 0: nothing unstable */

/* Bytes that became dirty since the beginning: does it move?  Is a writer blocked, of any inode: all dirt counts. */
extern uint64_t inode_writes_seen (struct inode *);
extern bool inode_wants_cleaning (struct inode *);

/* Where ino stands between the marks of throttle.h.  flush_at, flush_short: UNSTABLE bytes that are worth a flush of the
 * origin, and that are when a writer is blocked.
 */
struct inode_marks {
  bool clean;                   /* more is dirty than in the background */
  uint64_t flush_at, flush_short;
};
extern struct inode_marks inode_get_marks (struct inode *);

/* Write-behind is about to look: what becomes dirty from here on is told again. */
extern void inode_take_notice (struct inode *);

/* Serve whoever waits for durability: called by the owner of the hooks after `dirtied`. */
extern void inode_pump (struct inode *);

/* No write-back before this instant after an error (0: none failed); flush ignores it. */
extern uint64_t inode_retry_at (struct inode *);

/* Dirty ranges in ascending order (named at a failed shutdown); fn != 0 stops. */
extern int inode_dirty_ranges (struct inode *, int (*fn) (void *arg, struct range), void *arg);

/* Block status (N-50..55, D8): extents covering a prefix of range, at least one. */
extern int inode_extents (struct inode *, struct range, bool one,
                          int (*fn) (void *arg, uint64_t off, uint64_t len, unsigned type), void *arg);

/* Abort if an invariant does not hold.  No op may be running.  O(cached). */
extern void inode_check (struct inode *);

#endif /* PC_INODE_H */
