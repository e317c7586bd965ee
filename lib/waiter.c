/* SPDX-License-Identifier: BSD-3-Clause
 *
 * waiter - what a wake does, by what the waiter was doing.
 *
 *   was       waiter_wake leaves     and
 *   AWAKE     WOKEN                  nothing: it looks before it sleeps
 *   NUDGED    WOKEN                  nothing: the one who nudged wakes it
 *   ASLEEP    WOKEN                  futex wake
 *   POLLS+fd  WOKEN                  write to fd
 *   WOKEN     WOKEN                  nothing
 *
 * Only the waiter leaves WOKEN, and it goes to ASLEEP or POLLS from AWAKE only.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "waiter.h"

static void
futex_wake (_Atomic int *word)
{
  syscall (SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void
waiter_kick (int fd)
{
  uint64_t one = 1;

  /* EAGAIN: 2^64 - 2 kicks are waiting to be read, which is enough. */
  if (write (fd, &one, sizeof one) == -1)
    assert (errno == EAGAIN);
}

void
waiter_wake (struct waiter *w)
{
  _Atomic int *word = &w->state;
  int was = atomic_exchange (word, WAITER_WOKEN);

  /* Nothing of *w may be read from here on. */
  if (was == WAITER_ASLEEP)
    futex_wake (word);
  else if (was >= WAITER_POLLS)
    waiter_kick (was - WAITER_POLLS);
}

_Atomic int *
waiter_nudge (struct waiter *w)
{
  int was = atomic_load (&w->state);

  do {
    assert (was < WAITER_POLLS);
    if (was == WAITER_WOKEN || was == WAITER_NUDGED)
      return NULL;
  } while (!atomic_compare_exchange_weak (&w->state, &was, WAITER_NUDGED));
  return was == WAITER_ASLEEP ? &w->state : NULL;
}

void
waiter_nudge_end (_Atomic int *word)
{
  if (word != NULL)
    futex_wake (word);
}

void
waiter_rest (struct waiter *w, struct clock *clock, uint64_t until_ns)
{
  int was = WAITER_AWAKE;
  struct timespec ts;
  uint64_t now = 0;

  if (until_ns != WAITER_FOR_EVER && (now = clock_now (clock)) >= until_ns)
    return;
  if (!atomic_compare_exchange_strong (&w->state, &was, WAITER_ASLEEP))
    return;
  ts.tv_sec = (time_t) ((until_ns - now) / NSEC_PER_SEC);
  ts.tv_nsec = (long) ((until_ns - now) % NSEC_PER_SEC);
  syscall (SYS_futex, &w->state, FUTEX_WAIT_PRIVATE, WAITER_ASLEEP,
           until_ns == WAITER_FOR_EVER ? NULL : &ts, NULL, 0);
  was = WAITER_ASLEEP;
  atomic_compare_exchange_strong (&w->state, &was, WAITER_AWAKE);
}

static int
to_ms (uint64_t ns)
{
  uint64_t ms = (ns + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC;

  return ms < INT_MAX ? (int) ms : INT_MAX;
}

bool
waiter_poll (struct waiter *w, int fd, int kick_fd, struct clock *clock, uint64_t until_ns)
{
  struct pollfd fds[2] = {
    { .fd = fd, .events = POLLIN }, { .fd = kick_fd, .events = POLLIN }
  };
  int was = WAITER_AWAKE, ms = -1;
  uint64_t now, kicks;

  if (until_ns != WAITER_FOR_EVER) {
    now = clock_now (clock);
    ms = now < until_ns ? to_ms (until_ns - now) : 0;
  }
  if (!atomic_compare_exchange_strong (&w->state, &was, WAITER_POLLS + kick_fd))
    return false;
  if (poll (fds, 2, ms) == -1)
    fds[0].revents = fds[1].revents = 0;
  was = WAITER_POLLS + kick_fd;
  atomic_compare_exchange_strong (&w->state, &was, WAITER_AWAKE);
  /* An old kick for somebody else may be in it: then nothing was lost but this turn. */
  if (fds[1].revents != 0 && read (kick_fd, &kicks, sizeof kicks) == -1)
    assert (errno == EAGAIN);
  return fds[0].revents != 0 && fds[1].revents == 0;
}

void
waiter_steady (struct waiter *w)
{
  int was = WAITER_NUDGED;

  atomic_compare_exchange_strong (&w->state, &was, WAITER_AWAKE);
}

bool
waiter_take (struct waiter *w)
{
  return atomic_exchange (&w->state, WAITER_AWAKE) == WAITER_WOKEN;
}
