/* SPDX-License-Identifier: BSD-3-Clause
 *
 * waiter - one thread that waits for one event, asleep or over a socket.
 *
 * Answers: how is a thread woken that may be running, asleep, or in poll(2) because it
 * reads a connection for everybody (D22)?
 *
 * A waiter is a word on the stack of the thread that waits.  Another thread that has news
 * for it exchanges the word, and learns from what was there whether the thread has to be
 * woken, and how: not at all while it runs, by futex(2) when it sleeps, by its eventfd when
 * it polls.  So news for a running thread cost no system call.
 *
 * Threads  waiter_wake, waiter_nudge: any; the rest: the one that waits.
 * Locks    none; waiter_wake may be called with any lock held.
 * Owner    the word may go as soon as the waiter has seen the news.  So a waker uses only
 *          its address afterwards, as futex(2) allows, and the eventfd, which whoever lent
 *          it to waiter_poll keeps open until no waker can still mean it.
 * Cost     one exchange a wake, one more each time the waiter goes to sleep or to poll.
 */
#ifndef PC_WAITER_H
#define PC_WAITER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "clock.h"

/* The word: one of these, or WAITER_POLLS + the number of the eventfd. */
enum { WAITER_AWAKE, WAITER_WOKEN, WAITER_NUDGED, WAITER_ASLEEP, WAITER_POLLS };

struct waiter {
  _Atomic int state;
};

#define WAITER_FOR_EVER UINT64_MAX

static inline void
waiter_init (struct waiter *w)
{
  atomic_init (&w->state, WAITER_AWAKE);
}

static inline bool
waiter_is_woken (struct waiter *w)
{
  return atomic_load (&w->state) == WAITER_WOKEN;
}

/* What it waits for has come; it stays woken until waiter_take. */
extern void waiter_wake (struct waiter *);

/* It should look around: something else than its event.  Not for one that polls.  Returns
 * what waiter_nudge_end is to be called with, which may be after a lock was dropped under
 * which the waiter was sure to exist.
 */
extern _Atomic int *waiter_nudge (struct waiter *);
extern void waiter_nudge_end (_Atomic int *);

/* Sleep until woken or nudged, or until_ns.  May return early. */
extern void waiter_rest (struct waiter *, struct clock *, uint64_t until_ns);

/* Wait until fd can be read (true), or kick_fd was written to, the waiter is woken or
 * until_ns has come (false).  Drains kick_fd.
 */
extern bool waiter_poll (struct waiter *, int fd, int kick_fd, struct clock *, uint64_t until_ns);

/* End a waiter_poll with this kick_fd, now or the next one, with no news. */
extern void waiter_kick (int kick_fd);

/* Forget a nudge. */
extern void waiter_steady (struct waiter *);

/* Has it been woken?  It waits anew from here on. */
extern bool waiter_take (struct waiter *);

#endif /* PC_WAITER_H */
