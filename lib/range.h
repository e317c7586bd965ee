/* SPDX-License-Identifier: BSD-3-Clause
 *
 * range - the half-open range of bytes, pages or frame offsets.
 *
 * Answers: how long is it, what lies in it, what do two have in common?
 *
 * Units    the owner's; both ends count the same thing.
 * Threads  none: values.
 * Errors   range_of_len refuses what does not fit (EOVERFLOW); the others
 *          take well-formed ranges and cannot fail.
 * Cost     a few instructions.
 *
 * A range is well formed when start <= end (SEG-1).  As UINT64_MAX ends the
 * last range, no range contains it (SEG-5).
 */
#ifndef PC_RANGE_H
#define PC_RANGE_H

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>

#include "checked.h"
#include "compiler.h"

struct range {
  uint64_t start;               /* first inside */
  uint64_t end;                 /* first behind */
};

/* All there is (SEG-5). */
#define RANGE_ALL ((struct range) { 0, UINT64_MAX })

/* For messages: log ("read " RANGE_FMT, RANGE_ARG (r)). */
#define RANGE_FMT "[%" PRIu64 ", %" PRIu64 ")"
#define RANGE_ARG(r) (r).start, (r).end

static inline bool
range_is_well_formed (struct range r)
{
  return r.start <= r.end;
}

static inline uint64_t
range_len (struct range r)
{
  assert (range_is_well_formed (r));
  return r.end - r.start;
}

static inline bool
range_is_empty (struct range r)
{
  return range_len (r) == 0;
}

/* The range of LEN from START on, both as a peer sent them. */
PC_NONNULL (3) PC_MUST_CHECK
static inline int
range_of_len (uint64_t start, uint64_t len, struct range *ret)
{
  uint64_t end;
  int err;

  err = checked_add (start, len, &end);
  if (err)
    return err;
  *ret = (struct range) { start, end };
  return 0;
}

static inline bool
range_equal (struct range a, struct range b)
{
  return a.start == b.start && a.end == b.end;
}

/* SEG-2 */
static inline bool
range_contains (struct range r, uint64_t x)
{
  return r.start <= x && x < r.end;
}

/* SEG-2.  An empty range strictly inside another overlaps it by this rule,
 * though they share nothing: ask range_len (range_intersect (a, b)) for that.
 */
static inline bool
range_overlaps (struct range a, struct range b)
{
  return a.start < b.end && b.start < a.end;
}

/* Is B, even an empty B, within A's bounds?  SEG-2 */
static inline bool
range_is_superset (struct range a, struct range b)
{
  return a.start <= b.start && a.end >= b.end;
}

/* What both have; of disjoint ranges something of length 0 (SEG-3). */
static inline struct range
range_intersect (struct range a, struct range b)
{
  struct range r = {
    a.start > b.start ? a.start : b.start,
    a.end < b.end ? a.end : b.end,
  };

  if (r.end < r.start)
    r.end = r.start;
  return r;
}

/* Would both parts of R, cut at X, have something in them?  SEG-4 */
static inline bool
range_can_split (struct range r, uint64_t x)
{
  return r.start < x && x < r.end;
}

/* The whole UNITs, a power of 2, that lie in R: maybe none. */
static inline struct range
range_shrink_to_unit (struct range r, uint64_t unit)
{
  struct range in = { 0, checked_round_down (r.end, unit) };

  if (checked_round_up (r.start, unit, &in.start) || in.start > in.end)
    in.start = in.end = checked_round_down (r.start, unit);
  return in;
}

/* The whole UNITs, a power of 2, that R touches. */
PC_NONNULL (3) PC_MUST_CHECK
static inline int
range_grow_to_unit (struct range r, uint64_t unit, struct range *ret)
{
  uint64_t end;
  int err;

  err = checked_round_up (r.end, unit, &end);
  if (err)
    return err;
  *ret = (struct range) { checked_round_down (r.start, unit), end };
  return 0;
}

#endif /* PC_RANGE_H */
