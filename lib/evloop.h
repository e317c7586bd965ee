/* SPDX-License-Identifier: BSD-3-Clause
 *
 * evloop - the one libevent thread: origins, timers, write-back, control.
 *
 * Threads  evloop_post from any thread, any lock of rank below RANK_LOOP held; the
 *          rest as said.  Work runs on the loop, or, before evloop_start and in tests,
 *          in the thread that calls evloop_run_until.
 * Errors   0 or an errno value.
 * Source   K-6, nbd.L-9: the base is created and the thread started after nbdkit's fork.
 */
#ifndef PC_EVLOOP_H
#define PC_EVLOOP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "clock.h"
#include "list.h"

struct evloop;
struct event_base;

/* Something to be done on the loop.  Embedded in its owner; posting one that is
 * already posted does nothing.  It may be posted again from inside its own fn.
 */
struct evloop_work {
  void (*fn) (struct evloop_work *);
  struct list_node node;
  bool posted;                  /* guarded by the loop's lock */
};

struct evloop_timer {
  void (*fn) (struct evloop_timer *);
  void *event;                  /* libevent's */
};

extern int evloop_create (struct clock *, struct evloop **);
extern int evloop_start (struct evloop *);      /* starts the thread; all signals blocked in it */

/* Stop the thread if there is one (after what has been posted ran), then free. */
extern void evloop_free (struct evloop *);

extern void evloop_post (struct evloop *, struct evloop_work *);
extern bool evloop_inside (struct evloop *);    /* is the caller the loop's thread? */
extern struct event_base *evloop_base (struct evloop *);
extern struct clock *evloop_clock (struct evloop *);

/* Run in the calling thread until *flag != 0 (instead of a thread: start-up, tests). */
extern void evloop_run_until (struct evloop *, _Atomic int *flag);

/* Timers: on the loop's thread only (or before it runs). */
extern int evloop_timer_init (struct evloop *, struct evloop_timer *, void (*fn) (struct evloop_timer *));
extern void evloop_timer_set (struct evloop_timer *, uint64_t after_ns);
extern void evloop_timer_clear (struct evloop_timer *);
extern void evloop_timer_release (struct evloop_timer *);

/* Wait until fn has run on the loop (from another thread; returns its value). */
extern int evloop_call (struct evloop *, int (*fn) (void *), void *arg);

#endif /* PC_EVLOOP_H */
