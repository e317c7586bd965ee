/* SPDX-License-Identifier: BSD-3-Clause
 *
 * origin - where bytes come from and where they are kept.
 *
 * Answers: what may an inode ask of the far side, and what does an answer mean?
 *
 * An origin takes requests from any thread and answers each exactly once.  It
 * owns its connections: their number, their loss and return, deadlines, the
 * gate at which requests wait for a lost origin, priorities and the bound on
 * requests in flight.  It knows nothing of pages, dirtiness or generations.
 *
 * Units    bytes from the start of the export; requests are inside the export,
 *          not empty, aligned to block_min, and data requests are no longer than
 *          block_max.  The front (origin_submit) asserts all of that.
 * Threads  origin_submit from any thread.  done() comes from any thread, most
 *          often the event loop, perhaps before origin_submit has returned.
 * Locks    the caller of origin_submit holds none of ours, and done() is called
 *          with none held (ours or libnbd's): it may take any.
 * Errors   done(req, err): 0, or
 *            ENOTCONN   write-like requests only: the connection that carried it was
 *                       lost and its outcome is unknown (N-93).  The old socket
 *                       is known dead (or the quarantine of D16 is over) before
 *                       this is said, so newer bytes may follow at once.  Who repeats
 *                       it gives up after give_up_ns: an origin may take connections
 *                       and answer reads while its disk takes nothing.
 *            ETIMEDOUT  not carried out: the origin has been away longer than the
 *                       gate waits (`reconnect`), or it never came
 *            ENOTSUP    the origin has no such command, or a fast zero was refused
 *            ECANCELED  the origin is being closed
 *            EIO, ENOSPC, EPERM, ENOMEM, EINVAL, EOVERFLOW: the origin's own answer
 *          After an error the bytes of a READ's buffer are undefined.
 * Memory   a request and its buffer belong to the origin from origin_submit to
 *          done(); submitting allocates nothing (the request carries the links).
 *
 * Reads and block status that were under way on a lost connection are sent again
 * by the origin itself; a caller sees only the delay, or ETIMEDOUT.
 */
#ifndef PC_ORIGIN_H
#define PC_ORIGIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "list.h"
#include "waiter.h"

struct origin;
struct origin_req;

enum origin_cmd {
  ORIGIN_READ,
  ORIGIN_WRITE,
  ORIGIN_FLUSH,                 /* see carrier below */
  ORIGIN_TRIM,
  ORIGIN_ZERO,
  ORIGIN_CACHE,
  ORIGIN_STATUS,                /* block status: extent() for each extent */
};

/* Which request goes first when the origin's slots are short.  A flush, and a
 * write that somebody waits for, is demand.
 */
enum origin_prio {
  ORIGIN_PRIO_DEMAND,
  ORIGIN_PRIO_READAHEAD,
  ORIGIN_PRIO_WRITEBACK,
  ORIGIN_NR_PRIO,
};

enum {
  ORIGIN_FUA = 1,               /* WRITE, TRIM, ZERO: durable at the reply; only if info.can_fua */
  ORIGIN_NO_HOLE = 2,           /* ZERO */
  ORIGIN_FAST = 4,              /* ZERO: ENOTSUP rather than slow; only if info.can_fast_zero */
  ORIGIN_ONE = 8,               /* STATUS: one extent is enough */
};

/* Extent types as NBD's base:allocation has them (N-51). */
enum {
  ORIGIN_EXTENT_HOLE = 1,
  ORIGIN_EXTENT_ZERO = 2,
};

struct origin_req {
  /* Set by the caller, not changed by the origin. */
  enum origin_cmd cmd;
  enum origin_prio prio;
  unsigned flags;
  uint64_t off, len;            /* len <= 2^32-1; FLUSH: both 0 */
  void *buf;                    /* READ: filled; WRITE: must not change until done */
  void (*done) (struct origin_req *, int err);
  void *arg;                    /* the caller's */

  /* STATUS: called in ascending order, lengths > 0, contiguous from off, the last one
   * clipped to the request; from any thread, no lock held, never after done().
   */
  void (*extent) (struct origin_req *, uint64_t off, uint64_t len, unsigned type);

  /* The connection.  Every life of every connection has its own number, never
   * used again by this origin; 0 is no connection.
   * WRITE, TRIM, ZERO   set by the origin before done(): who carried it; also with an error that came
   *                     from there, which the caller may forgive (a refused trim).
   * FLUSH               set by the caller: the flush must be answered on exactly this
   *                     connection; if that has gone, done(ENOTCONN).  0: on any.  A reply on the
   *                     connection that carried a write is the only proof that the
   *                     flush reached the server that took the write (4.3, D16).
   *                     0: any connection will do, since nothing was written.
   */
  uint32_t carrier;

  /* The origin's own, from submit to done. */
  struct list_node node;        /* in the queue, or among those under way */
  struct origin_req *next;      /* among those answered and not yet looked at */
  void *conn;
  void *reply;                  /* what an answer brought, for the check of it */
  int64_t cookie;
  uint64_t at_ns;               /* when it was sent */
  uint64_t lost_ns;             /* when it first lost its connection; 0 never */
  uint64_t got;                 /* READ over structured replies: bytes that came, in order */
  uint64_t status_at;           /* STATUS: where the next extent must begin */
  int err;
  unsigned tries;
};

/* What was negotiated; a value, compared again at each reconnect (nbd.L-24, D14). */
struct origin_info {
  uint64_t size;
  bool read_only, rotational;
  bool can_flush, can_fua, can_trim, can_zero, can_fast_zero, can_cache;
  bool can_multi_conn, can_extents;
  uint32_t block_min;           /* power of two, 1..65536 */
  uint32_t block_pref;
  uint32_t block_max;           /* largest READ or WRITE; 1 MiB..32 MiB as we use it, or less if it says so */
};

/* News from an origin, called on the event loop with no lock held, in order with
 * the done() calls of the same connection.
 *
 * lost     connection `carrier` is gone: what it wrote and did not flush may be lost
 *          with it (UNSTABLE becomes DIRTY).  Comes before the done(ENOTCONN) of its
 *          requests, and before any done() of a request carried by a later connection; but for one that is made while
 *          some thread is still in a call that concerns the lost one, so be ready for carriers that come a little out of order.
 * failed   the origin came back as something else (D14): err is EIO for good, or
 *          0 when it is right again.  Requests are answered accordingly.
 * resized  it came back with another size (D14): what lies at `end' or beyond fails until
 *          this is told again; info.size stays.  end = info.size: it is larger, or as it was.
 * notice   one line for the log, of level 0 (debug) to 3 (error) as pagecache.h has them.
 */
struct origin_events {
  void (*lost) (void *arg, uint32_t carrier);
  void (*failed) (void *arg, int err, const char *why);
  void (*resized) (void *arg, uint64_t end);
  void (*notice) (void *arg, int level, const char *line);
  void *arg;
};

struct origin_stats {
  uint64_t reads, read_bytes, writes, write_bytes, flushes, trims, zeros, status, reconnects;
};

struct origin_ops {
  const char *name;             /* "nbd", "mem": for messages */
  void (*submit) (struct origin *, struct origin_req *);

  /* Keep a promise: `what` is as it was given to origin_promise_take.  Read answers on the
   * calling thread, or sleep while another one reads them, until the waiter is woken or
   * until_ns; may return before that.  waiter NULL: do not wait, leave `what` to the loop.
   * NULL for an origin that takes no promises.
   */
  void (*drive) (struct origin *, void *what, struct waiter *, uint64_t until_ns);

  /* How many requests are worth having under way at once now. */
  unsigned (*depth) (struct origin *);

  /* Is a connection up, so that a request submitted now would be sent now? */
  bool (*is_up) (struct origin *);

  /* Let go of what is not needed just now and can be had again: connections.  Says how many.  Not from the event
   * loop.  May be NULL.
   */
  unsigned (*rest) (struct origin *);

  /* Add what the front cannot count (reconnects).  May be NULL. */
  void (*get_stats) (struct origin *, struct origin_stats *);

  /* Every request has been answered and no more will be submitted.  Blocks until
   * connections are closed; not from the event loop, except for origins that have none.
   */
  void (*close) (struct origin *);
};

/* Requests submitted and their bytes, by enum origin_cmd; kept by the front. */
struct origin_counters {
  _Atomic uint64_t requests[ORIGIN_STATUS + 1], bytes[ORIGIN_STATUS + 1];
};

struct origin {
  const struct origin_ops *ops;
  struct origin_info info;      /* fixed while the origin exists (D14) */
  struct origin_events events;  /* set with origin_set_events before the first submit */
  _Atomic bool has_events;      /* they are set; what happens before that is told to nobody */
  struct origin_counters counters;
  unsigned most_conns;          /* connections at a time that carry requests; 0: up to 64 */
  uint64_t give_up_ns;          /* ENOTCONN again and again for so long: whoever repeats it fails; 0: never */
  const char *description;      /* the origin's words about the export, or NULL; for people */
  const char *export_name;      /* by which it was asked for, or NULL where exports have no names */
  char name[128];               /* printable: "nbd://host/export"; for messages only */
};

/* The checked front: every call goes through these. */
extern void origin_submit (struct origin *, struct origin_req *);
extern void origin_set_events (struct origin *, const struct origin_events *);
extern unsigned origin_depth (struct origin *);
extern bool origin_is_up (struct origin *);
extern unsigned origin_rest (struct origin *);
extern void origin_get_stats (struct origin *, struct origin_stats *);
extern void origin_close (struct origin *);

/* For implementations: tell the one who listens, if there is one yet. */
extern void origin_tell_lost (struct origin *, uint32_t carrier);
extern void origin_tell_failed (struct origin *, int err, const char *why);
extern void origin_tell_resized (struct origin *, uint64_t end);
extern void origin_tell (struct origin *, int level, const char *line);

/* A thread that will wait for an answer can read it by itself instead of being woken by the
 * loop that read it (D22).  But somebody must know of it when the request is sent, or the
 * loop has to be told to look out for the answer; hence a promise:
 *
 *   origin_promise_begin ()      what this thread submits with demand priority from here
 *                                on, it will wait for
 *   origin_submit ()             ...
 *   origin_promise_wait ()       it does, once, and perhaps not until the waiter is woken
 *   or origin_promise_end ()     it need not: what is still to come is left to the loop
 *
 * Between begin and wait or end the thread waits for nothing else, with one exception: a thread that makes room in memory may
 * close another origin, which takes a second at worst.  The loop takes what it should drive after a while then.  The promise is the
 * thread's, for the code that waits does not know what the code that submits, deep inside an
 * operation, sends where.  The waiter is woken with waiter_wake, in done() or as its
 * consequence, by whoever has called origin code that runs done().
 */
extern void origin_promise_begin (void);
extern void origin_promise_end (void);
extern void origin_promise_wait (struct waiter *, struct clock *, uint64_t until_ns);

/* For implementations, in submit: true if this thread has promised to wait and owes nothing
 * yet.  It owes `what` now, and ops->drive is called with it.
 */
extern bool origin_promise_take (struct origin *, void *what);

/* Submit and wait on the calling thread, which must not be the event loop and has promised
 * nothing.
 */
extern int origin_do (struct origin *, struct origin_req *);

#endif /* PC_ORIGIN_H */
