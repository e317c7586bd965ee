/* SPDX-License-Identifier: BSD-3-Clause
 *
 * clock - which instant is it?
 *
 * The core reads time only through a struct clock, so that a test or the
 * simulator can move it by hand (D0).
 *
 * Units    nanoseconds of a monotonic clock; 0 never occurs.
 * Threads  now_ns may be called from any thread, with any lock held.
 */
#ifndef PC_CLOCK_H
#define PC_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define NSEC_PER_SEC  UINT64_C (1000000000)
#define NSEC_PER_MSEC UINT64_C (1000000)
#define NSEC_PER_USEC UINT64_C (1000)

struct clock {
  uint64_t (*now_ns) (struct clock *);
};

static inline uint64_t
clock_now (struct clock *c)
{
  return c->now_ns (c);
}

static inline uint64_t
clock_real_now_ (struct clock *c)
{
  struct timespec ts;

  (void) c;
  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * NSEC_PER_SEC + (uint64_t) ts.tv_nsec;
}

/* The machine's monotonic clock. */
#define CLOCK_REAL_INIT { .now_ns = clock_real_now_ }

/* A clock that stands still until it is told to move. */
struct clock_fake {
  struct clock base;
  _Atomic uint64_t at_ns;
};

static inline uint64_t
clock_fake_now_ (struct clock *c)
{
  return atomic_load (&((struct clock_fake *) c)->at_ns);
}

#define CLOCK_FAKE_INIT \
  { .base = { .now_ns = clock_fake_now_ }, .at_ns = NSEC_PER_SEC }

static inline void
clock_fake_advance (struct clock_fake *c, uint64_t by_ns)
{
  atomic_fetch_add (&c->at_ns, by_ns);
}

#endif /* PC_CLOCK_H */
