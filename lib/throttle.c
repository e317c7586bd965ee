/* SPDX-License-Identifier: BSD-3-Clause
 *
 * throttle - how long a writer waits so that dirty memory stays bounded
 *            (throttle.h has the law).
 */
#include <config.h>

#include <assert.h>
#include <string.h>

#include "throttle.h"

#define NS_PER_S UINT64_C (1000000000)

/* A flush is what the user waits for: 10 s of it is the promise of
 * cache-dirty-max in the manual.
 */
#define LIMIT_S 10

/* Replies come in bursts, one a round trip: a sample must see several of them
 * on a near origin and at least one whole gap on a far one.
 */
#define SAMPLE_NS (NS_PER_S / 10)

/* Time constant of the rate: three seconds, as a disk's in Linux.  Until so
 * much was seen it is the plain mean.
 */
#define MEMORY_NS (3 * NS_PER_S)

/* Fixed point of the law: 1 = 1 << ONE_BITS. */
#define ONE_BITS 10
#define ONE (INT64_C (1) << ONE_BITS)

/* The marks of one bound. */
struct marks {
  uint64_t background, free, set, limit;
};

void
throttle_init (struct throttle *t, const struct throttle_limits *limits)
{
  memset (t, 0, sizeof *t);
  throttle_set_limits (t, limits);
}

void
throttle_set_limits (struct throttle *t, const struct throttle_limits *limits)
{
  assert (limits->dirty_max > 0);
  t->limits = *limits;
}

void
throttle_busy (struct throttle *t, bool busy)
{
  if (busy == t->busy)
    return;
  t->busy = busy;
  t->sampling = false;
}

/* Fold in: bytes in ns. */
static void
add_sample (struct throttle *t, uint64_t bytes, uint64_t ns)
{
  double now = (double) bytes * NS_PER_S / (double) ns, old, weight;

  if (ns > MEMORY_NS)
    ns = MEMORY_NS;
  t->seen_ns += ns;
  if (t->seen_ns > MEMORY_NS)
    t->seen_ns = MEMORY_NS;
  old = (double) t->rate;
  weight = (double) ns / (double) t->seen_ns;
  now = old + (now - old) * weight;
  t->rate = now < 1 ? 1 : (uint64_t) now;
}

void
throttle_cleaned (struct throttle *t, uint64_t bytes, uint64_t now_ns)
{
  if (!t->busy)
    return;
  /* From reply to reply: the way there of the first request is no work. */
  if (!t->sampling || now_ns < t->sample_ns) {
    t->sampling = true;
    t->sample_ns = now_ns;
    t->sample_bytes = 0;
    return;
  }
  t->sample_bytes += bytes;
  if (now_ns - t->sample_ns < SAMPLE_NS)
    return;
  add_sample (t, t->sample_bytes, now_ns - t->sample_ns);
  t->sample_ns = now_ns;
  t->sample_bytes = 0;
}

static struct marks
make_marks (const struct throttle *t, uint64_t limit)
{
  struct marks m = { .limit = limit, .background = t->limits.dirty_background };

  if (m.background > limit / 2)
    m.background = limit / 2;
  m.free = m.background + (limit - m.background) / 2;
  m.set = m.free + (limit - m.free) / 2;
  return m;
}

uint64_t
throttle_limit (const struct throttle *t, const struct throttle_load *load)
{
  uint64_t all = t->limits.dirty_max, limit = all, left;
  uint64_t rest = load->total > load->own ? load->total - load->own : 0;

  if (load->writers > 1)
    limit /= load->writers;     /* D13 */
  if (t->rate > 0 && t->rate < limit / LIMIT_S)
    limit = t->rate * LIMIT_S;
  left = rest < all ? all - rest : 0;
  if (left < limit) {
    /* Halves, so that the third, the fourth ... of those whose origins are gone
     * leave room as well.
     */
    uint64_t more = all + all / 8, half = rest < more ? (more - rest) / 2 : 0;

    if (left < half)
      left = half;
    if (left < limit)
      limit = left;
  }
  return limit > 0 ? limit : 1;
}

static struct marks
own_marks (const struct throttle *t, const struct throttle_load *load)
{
  return make_marks (t, throttle_limit (t, load));
}

static struct marks
total_marks (const struct throttle *t)
{
  return make_marks (t, t->limits.dirty_max);
}

bool
throttle_wants_cleaning (const struct throttle *t,
                         const struct throttle_load *load)
{
  return load->own > 0
         && (load->own > own_marks (t, load).background
             || load->total > total_marks (t).background);
}

uint64_t
throttle_flush_mark (const struct throttle *t, const struct throttle_load *load)
{
  struct marks own = own_marks (t, load);
  uint64_t rest = own.free - own.background;

  return rest > own.background ? rest : own.background;
}

/* bytes more on top of dirty pass limit, and are not the only ones. */
static bool
is_over (uint64_t dirty, uint64_t bytes, uint64_t limit)
{
  return dirty > 0 && (dirty >= limit || bytes > limit - dirty);
}

bool
throttle_must_block (struct throttle *t, const struct throttle_load *load,
                     uint64_t bytes)
{
  if (!is_over (load->own, bytes, throttle_limit (t, load)))
    return false;
  t->blocked++;
  return true;
}

/* Share of the origin's rate that writers get, 0..2 in units of ONE. */
static int64_t
get_share (struct marks m, uint64_t dirty)
{
  int64_t span = (int64_t) (m.limit - m.set), x;

  if (dirty >= m.limit || span <= 0)
    return 0;
  /* Both are below 2^53 for any memory there is; x is in -ONE..ONE. */
  x = ((int64_t) m.set - (int64_t) dirty) * ONE / span;
  if (x > ONE)
    x = ONE;
  return ONE + ((x * x >> ONE_BITS) * x >> ONE_BITS);
}

uint64_t
throttle_delay (struct throttle *t, const struct throttle_load *load,
                uint64_t bytes, uint64_t now_ns)
{
  struct marks own = own_marks (t, load);
  int64_t share;
  double cost;
  uint64_t delay;

  /* While the rate is not known nothing can be said but at the bound itself:
   * cleaning began at the background mark and will have told it soon.
   */
  if (load->own <= own.free || t->rate == 0) {
    t->paid_until_ns = now_ns;
    return 0;
  }

  share = get_share (own, load->own);

  if (t->paid_until_ns < now_ns)
    t->paid_until_ns = now_ns;
  cost = share <= 0 ? (double) THROTTLE_DELAY_MAX_NS
                    : (double) bytes * NS_PER_S / (double) t->rate * ONE
                        / (double) share;
  /* What exceeds the longest delay is forgiven: the bound holds without. */
  if (cost > (double) THROTTLE_DELAY_MAX_NS)
    cost = (double) THROTTLE_DELAY_MAX_NS;
  t->paid_until_ns += (uint64_t) cost;
  if (t->paid_until_ns > now_ns + THROTTLE_DELAY_MAX_NS)
    t->paid_until_ns = now_ns + THROTTLE_DELAY_MAX_NS;

  delay = t->paid_until_ns - now_ns;
  if (delay < THROTTLE_DELAY_MIN_NS)
    return 0;
  t->throttled_ns += delay;
  return delay;
}
