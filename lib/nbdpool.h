/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdpool - the connections of one NBD origin and the requests that wait for them.
 *
 * Answers: on which connection does a request go, what has been answered, what becomes
 * of the rest when a connection ends?
 *
 * Life of a connection
 *
 *   (connecting, nbdtend.c)      -> UP       nbdpool_make_conn, added by nbdtend.c
 *   UP           -> LEAVING      the server said ESHUTDOWN: nothing is sent any more,
 *                answers still come
 *   UP, LEAVING  -> DYING        nbdpool_die: lost, or given up; nobody enters libnbd
 *                any more
 *   DYING        -> BURIED       nbdpool_bury: the handle is closed, lost () is told,
 *                reads are queued again
 *   BURIED       -> gone         nbdpool_release: the far side has gone, or the
 *                quarantine is over
 *
 * The quarantine of D16 keeps newer bytes from overtaking a write that the origin may still
 * carry out.  It begins when something is heard of the origin on another connection: an
 * origin that stands still, or cannot be reached, lets go of nothing however long it takes.
 * If nothing is heard, one more connection is made to hear something; if still nothing is heard
 * within the timeout, what is left of the connections is given up too.  Only when
 * requests fail anyway, because the origin has been away too long, it ends without.
 *
 * Connections that nobody needs for a while are closed, the last one too: the pool is parked
 * then, which counts as up, and connects when something is submitted.  Only if that fails
 * the origin is away.  What comes back is compared as after a loss.
 *
 * All of that happens on the loop.  What another thread does with a connection is to
 * send on it and to drive it: it counts itself in users under the lock, calls libnbd
 * without it, and counts itself out when it has given the answers; a connection is buried
 * when users is 0, so a handle is never closed under somebody.
 *
 * Who drives a connection (D22), that is: reads what comes on it
 *
 *   LOOP      the event loop: the socket is registered for reading, or attention is set
 *             and the loop woken so that it will be
 *   WORKER    one thread in nbddrive_run, which waits for an answer of its own; or the
 *             follower that was promoted and is being woken
 *   NOBODY    nothing is under way, or a thread that sent something has promised to come
 *             and drive
 *
 *   NOBODY -> WORKER   the one who promised comes
 *   NOBODY -> LOOP     something is sent that nobody has promised to wait for, or who
 *                      promised does not wait; or the loop looks after a connection that
 *                      has been idle for a while, to see it end (nbdtend.c)
 *   WORKER, LOOP -> NOBODY, WORKER, LOOP   nbdpool_hand_over_locked: nobody, if nobody is
 *                      needed or one who promised will come; else a thread that waits for an
 *                      answer on this connection, the newest first, which has to wait longest;
 *                      else the loop
 *
 * The loop gives up driving when nothing of the background is under way and somebody
 * waited for what came, so one reader at a time costs it nothing: neither a wake-up nor
 * an epoll_ctl.  Writing what did not fit into the socket, and every end of a connection, is
 * always the loop's: other drivers set attention and wake it.
 *
 * Order of news (origin.h): answers that came before the loss are given before lost (),
 * because bury gives them; lost () comes before ENOTCONN, because bury tells it first;
 * and before a later connection's answers, because the loop takes that one up
 * afterwards.
 *
 * Threads  send_out: any; the rest: the loop, but for _locked ones.
 * Locks    _locked: the pool's; others take it.  No lock is held while libnbd, done(),
 *          extent() or an event is called.
 *
 * Invariants, under the lock, run by nbdpool_check_locked ():
 *   (1) a request is in exactly one place: a queue, a connection's pinned or under_way
 *       list, or unanswered
 *   (2) nflight is the length of under_way, nback that of those not of demand; both
 *       within their bounds
 *   (3) outstanding counts the requests that are queued, pinned or under way
 *   (4) driver is NOBODY only if nothing is under way, or a promise is: no request waits
 *       for an answer that nobody will read
 *   (5) there are followers only while there is a driver, or a promise
 *   (6) who promised or drives is counted in users
 *   (7) up if and only if there is a data connection, or parked
 *   While a connection is UP or LEAVING; a dying one has no followers, and is not driven.
 */
#ifndef PC_NBDPOOL_H
#define PC_NBDPOOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "compiler.h"
#include "evloop.h"
#include "lock.h"
#include "nbdwire.h"
#include "waiter.h"

#define NBDPOOL_MAX_CONNS 64
#define NBDPOOL_MAX_FLIGHT 64u          /* a connection (D12, nbd.L-8) */
#define NBDPOOL_MAX_BACK 48u            /* of these read-ahead and write-back */
#define NBDPOOL_SPREAD_FLIGHT 16u       /* a connection, while others are on their way... */
#define NBDPOOL_SPREAD_NS (500 * NSEC_PER_MSEC)         /* ...for at most so long */
#define NBDPOOL_MORE_ABOVE 8u           /* outstanding a connection: make one more (D10) */
#define NBDPOOL_IDLE_NS (100 * NSEC_PER_MSEC)   /* the loop looks after what was idle for so long */
#define NBDPOOL_BACKOFF_MIN_NS (5 * NSEC_PER_MSEC)
#define NBDPOOL_BACKOFF_MAX_NS (200 * NSEC_PER_MSEC)

struct event;
struct nbdkick;
struct nbdpool;

enum nbdconn_driver { DRIVER_LOOP, DRIVER_WORKER, DRIVER_NOBODY };

/* A thread in nbddrive_run that sleeps while another drives; on its stack. */
struct nbdfollower {
  struct list_node node;        /* conn->followers, newest first */
  struct waiter *waiter;
  bool promoted;                /* it is the driver now, and counted in users */
};

enum nbdconn_state { CONN_UP, CONN_LEAVING, CONN_DYING, CONN_BURIED };

struct nbdconn {
  /* Fixed. */
  struct nbdpool *pool;
  struct nbdwire wire;          /* its done stack: any thread */
  uint32_t carrier;             /* 0: for block status only */
  int kick_fd;                  /* ends a driver's poll; -1: the loop drives always */

  /* The loop's. */
  struct nbdkick *kick;         /* kick_fd's owner */
  struct event *readable, *writable;
  bool reading, writing;        /* which of them are added */
  uint64_t buried_ns;
  uint64_t quarantine_ns;       /* BURIED: until when; UINT64_MAX: nothing was heard since */
  const char *because;          /* why it dies, for the log */
  uint64_t taken_ns;            /* when the far side last took something of what we send */
  int unsent;                   /* of that: what the kernel held when it was last asked */

  /* Guarded by pool->lock. */
  enum nbdconn_state state;
  struct list_node node;        /* pool->dying */
  struct list under_way;        /* oldest first */
  struct list pinned;           /* flushes that wait to be sent on this connection */
  struct list unanswered;       /* BURIED: writes whose outcome nobody knows */
  unsigned nflight, nback;
  uint64_t passed_first_ns;     /* when one that was sent after the oldest under way was first answered; 0: none was */
  uint64_t passed_ns;           /* when one that was under way then was answered last */
  uint64_t answered_ns;         /* when anything was */
  bool told;                    /* lost () has been told */
  bool insane;                  /* an answer was not what the protocol allows */
  unsigned npromises;           /* threads that sent on it and have not come to drive yet */
  struct list followers;        /* struct nbdfollower */
  uint64_t born_ns;
  uint64_t nwritten, nflushed;  /* writes answered, but durable ones; of these before the last good flush was sent */
  uint64_t used_ns;             /* when it was last sent to */

  _Atomic unsigned users;       /* threads in libnbd; grows under the lock only */
  _Atomic int driver;           /* enum nbdconn_driver; stored under the lock */
  _Atomic bool attention;       /* the loop should look at it */
  _Atomic bool writing_seen;    /* mirror of writing, for those who would wake the loop */
  _Atomic uint64_t heard_ns;    /* when something last came */
};

/* One attempt to connect, in a thread of its own: it looks up the name, connects and
 * negotiates, posts the
 * origin's work and ends.  The loop, or close, joins it.
 */
struct nbdconnector {
  pthread_t thread;
  bool structured, meta;
  uint64_t began_ns;
  _Atomic bool over;
  struct nbdlink link;
  int err;
  char *why;
};

struct nbdpool {
  struct origin base;

  /* Fixed. */
  const struct nbdlink_params *params;
  char *export_name;
  char *canonical;
  char *description;
  struct evloop *loop;
  struct clock *clock;
  bool single;                  /* one connection for data and block status */
  unsigned max_conns;           /* for data */

  /* The loop's. */
  struct evloop_timer timer;
  struct nbdconnector *connector;
  int cancel_fd;                /* while there is a connector; else -1 */
  uint64_t backoff_ns, retry_ns;        /* next attempt not before retry_ns; 0: none is planned */
  uint64_t connector_began_ns;  /* the last one that ended */
  uint64_t extra_blocked_ns, meta_blocked_ns;
  char *said_down;              /* why it cannot be connected to, as was said last; or NULL */
  unsigned short rnd[3];

  struct evloop_work work;

  struct lock lock;             /* RANK_ORIGIN */
  /* Guarded by lock. */
  struct list queue[ORIGIN_NR_PRIO];
  struct list status_queue;     /* for the meta connection */
  struct nbdconn *conn[NBDPOOL_MAX_CONNS]; /* UP or LEAVING, for data */
  unsigned nconns;
  struct nbdconn *meta;
  struct list dying;
  unsigned outstanding;
  uint64_t size_now;            /* smaller than info.size after the origin shrank */
  bool up;                      /* there is a connection, or parked */
  bool parked;                  /* there is none, because none is needed */
  bool shut, changed, closing;
  bool ticking;                 /* the timer runs; else a submit wakes the loop */
  bool want_more, want_meta;
  bool more_failed;             /* the last attempt at one more did */
  uint64_t spread_until_ns;     /* more connections are expected until then; 0: none */
  uint64_t down_ns;             /* since when, if not up */
  uint32_t last_carrier;
  uint64_t reconnects;
};

/* Under the lock */

/* Why req cannot be taken now; 0 if it can. */
extern int nbdpool_admission_locked (struct nbdpool *, const struct origin_req *);
extern bool nbdpool_has_room_locked (const struct nbdconn *, const struct origin_req *);
extern struct nbdconn *nbdpool_pick_locked (struct nbdpool *, const struct origin_req *);
extern struct nbdconn *nbdpool_find_locked (struct nbdpool *, uint32_t carrier);

/* req will be sent on the connection by the caller, who calls send_out when the lock is
 * dropped.
 */
extern void nbdpool_attach_locked (struct nbdconn *, struct origin_req *);
extern void nbdpool_check_locked (struct nbdpool *);

/* Send req, which is attached.  req may be done, and connection and pool gone, when
 * this returns.
 */
extern void nbdpool_send_out (struct nbdconn *, struct origin_req *);

/* Lists of requests to be done() when the lock is dropped; req->err is the answer. */
extern void nbdpool_add_answer (struct list *answers, struct origin_req *, int err);
extern void nbdpool_answer_all (struct list *answers);

/* Have nbdtend_turn run on the loop; under the lock or not. */
extern void nbdpool_wake (struct nbdpool *);

extern void nbdpool_notice (struct nbdpool *, int level, const char *fmt, ...) PC_PRINTF (3, 4);

/* Send what can be sent now. */
extern void nbdpool_pump (struct nbdpool *);

/* Block status that nobody can give: all data is always right (N-55).  Not under the
 * lock.
 */
extern void nbdpool_tell_all_data (struct origin_req *);

/* For any driver: let libnbd read what has come; then take, and give, what has been
 * answered.  nbdpool_deliver returns false when there is nothing more to drive for: nothing
 * is under way, or the loop, which was woken, has to end the connection.
 */
extern void nbdpool_read (struct nbdconn *);
extern bool nbdpool_deliver (struct nbdconn *);

/* The driver stops: another takes over, or nobody need.  What it returns is for
 * waiter_nudge_end, when the lock is dropped.
 */
extern _Atomic int *nbdpool_hand_over_locked (struct nbdconn *);

/* The loop drives from here on, and is woken. */
extern void nbdpool_loop_drives_locked (struct nbdconn *);

/* For the loop: look at what came of the last call into libnbd: answers, the end, the wish
 * to write; and at who drives.
 */
extern void nbdpool_service (struct nbdconn *);

/* Takes the link over; the connection is in no list yet. */
PC_MUST_CHECK
extern int nbdpool_make_conn (struct nbdpool *, struct nbdlink *, bool meta, struct nbdconn **);

/* because: a literal for the log, or NULL if it is nothing to talk about. */
extern void nbdpool_die (struct nbdconn *, const char *because);
extern void nbdpool_bury (struct nbdconn *);
extern void nbdpool_release (struct nbdconn *);

/* When to try to connect again: about after_ns from now; after a connection that lived
 * so long.
 */
extern void nbdpool_plan_retry (struct nbdpool *, uint64_t after_ns);
extern void nbdpool_plan_reconnect (struct nbdpool *, uint64_t lived_ns);

#endif /* PC_NBDPOOL_H */
