/* SPDX-License-Identifier: BSD-3-Clause
 *
 * throttle - how long a writer waits so that dirty memory stays bounded.
 *
 * Answers: with so much dirty and an origin this fast, how long should a write
 * of n bytes be delayed; must it wait until something was cleaned; and when
 * does cleaning begin?
 *
 * One struct throttle an inode: each origin has its own rate.  The bound on
 * dirty bytes is shared by all inodes, so the sums come as arguments.
 *
 * Units    bytes, nanoseconds of the monotonic clock, bytes per second.
 * Threads  none; the caller guards it (one small lock an inode) and sleeps
 *          with no lock held.
 * Errors   none; no allocation.
 *
 *   dirty      0 ------- B ------- F ------- S ------- L
 *   cleaning   when old  | at full rate -->
 *   writers    free                | slowed: x2 .. x1 .. x0 of the rate | blocked
 *
 *   L  of this inode: cache-dirty-max; what its origin cleans in 10 s; an equal
 *      share of cache-dirty-max while others write (D13); and what others leave
 *      of cache-dirty-max, but at least half of what they leave of 9/8 of it: so
 *      who writes to an origin that is well is let in, whatever others hold that
 *      never gets clean, and all together stay below 9/8
 *   B  cache-dirty-background, at most L/2
 *   F  half way from B to L        S  half way from F to L
 *
 * Between F and L writers together are given the origin's rate times
 * 1 + ((S - dirty) / (L - S))^3: twice the rate at F, the rate at S, nothing at
 * L, and flat around S so that noise in dirty bytes is not noise in delays (the
 * law of Linux' balance_dirty_pages, with the rate of the origin for a disk's).
 * So a writer slower than the origin is never slowed, and a faster one settles
 * at S at the origin's pace.
 *
 * Delays come from one virtual clock an inode instead of one rate a writer:
 * each write moves the instant up to which the origin's time is sold.  Nobody
 * needs to know how many writers there are, and small writes add up to one
 * sleep worth sleeping.
 */
#ifndef PC_THROTTLE_H
#define PC_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

/* Shorter sleeps cost more than they give: they are saved up.  Longer ones
 * would hold one of the client's 16 workers (D26) for too long.
 */
#define THROTTLE_DELAY_MIN_NS (UINT64_C (1000) * 1000)
#define THROTTLE_DELAY_MAX_NS (UINT64_C (200) * 1000 * 1000)

struct throttle_limits {
  uint64_t dirty_max;           /* cache-dirty-max in bytes, > 0 */
  uint64_t dirty_background;    /* cache-dirty-background in bytes */
};

/* What is dirty now (DIRTY, WRITING and UNSTABLE count: D3). */
struct throttle_load {
  uint64_t own;                 /* of this inode */
  uint64_t total;               /* of all inodes, own included */
  unsigned writers;             /* inodes that wrote within the last second,
                                   this one included; at least 1 */
};

struct throttle {
  struct throttle_limits limits;

  /* The rate at which the origin takes bytes when it has enough to do. */
  uint64_t rate;                /* bytes a second; 0 = not known yet */
  uint64_t seen_ns;             /* how much time stands behind it, at most 3 s */
  uint64_t sample_ns;           /* start of the sample being taken */
  uint64_t sample_bytes;
  bool busy, sampling;

  uint64_t paid_until_ns;       /* the virtual clock */

  /* Counters. */
  uint64_t throttled_ns;        /* sum of delays given out */
  uint64_t blocked;             /* times throttle_must_block said yes */
};

extern void throttle_init (struct throttle *t,
                           const struct throttle_limits *limits);

extern void throttle_set_limits (struct throttle *t,
                                 const struct throttle_limits *limits);

/* Write-back has more to send than it may have in flight (true), or could send
 * at once what comes (false).  Only in the first state does what is cleaned say
 * how fast the origin is.  May be called as often as one likes.
 */
extern void throttle_busy (struct throttle *t, bool busy);

/* The origin accepted (write reply) so many bytes. */
extern void throttle_cleaned (struct throttle *t, uint64_t bytes,
                              uint64_t now_ns);

/* L of this inode alone, bytes. */
extern uint64_t throttle_limit (const struct throttle *t,
                                const struct throttle_load *load);

/* Write-back should clean although nothing is old or asked for. */
extern bool throttle_wants_cleaning (const struct throttle *t,
                                     const struct throttle_load *load);

/* So much UNSTABLE is worth a flush of the origin: F - B, at least B.  Less and the origin flushes more often than its
 * writers gain by; more and the flush comes when writers are slowed already.
 */
extern uint64_t throttle_flush_mark (const struct throttle *t, const struct throttle_load *load);

/* A write of bytes would pass L: wait until throttle_cleaned or a drop
 * changed the load, then ask again.  A write larger than the bound passes
 * alone (when nothing is dirty).
 */
extern bool throttle_must_block (struct throttle *t,
                                 const struct throttle_load *load,
                                 uint64_t bytes);

/* A write of bytes is admitted; returns how long to wait before or after it,
 * 0 or THROTTLE_DELAY_MIN_NS..THROTTLE_DELAY_MAX_NS.  Call once a write, with
 * the load before it.
 */
extern uint64_t throttle_delay (struct throttle *t,
                                const struct throttle_load *load,
                                uint64_t bytes, uint64_t now_ns);

#endif /* PC_THROTTLE_H */
