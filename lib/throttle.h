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
 *   own        0        bg          F          S            L
 *   delay      |---- none ---------|--- rising ---|-- 200 ms --|  blocked
 *   cleaning   |-- when old -|------------- at full rate -------------
 *
 * L = min (dirty_max, what the origin cleans in 10 s, the inode's share while
 * others write); F, where slowing starts, lies half way from bg to L.
 */
#ifndef PC_THROTTLE_H
#define PC_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

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

  /* The rate at which the origin takes bytes. */
  uint64_t rate;                /* EWMA, bytes a second; 0 = not known yet */
  uint64_t busy_since_ns;       /* start of the sample being taken */
  uint64_t busy_bytes;          /* cleaned in it */
  bool busy;                    /* write-back has work */

  /* Pacing: the virtual instant up to which admitted writes have paid. */
  uint64_t paid_until_ns;

  /* Counters. */
  uint64_t throttled_ns;        /* sum of delays given out */
  uint64_t blocked;             /* times throttle_must_block said yes */
};

extern void throttle_init (struct throttle *t,
                           const struct throttle_limits *limits);

extern void throttle_set_limits (struct throttle *t,
                                 const struct throttle_limits *limits);

/* Write-back begins to have something in flight at the origin, or has nothing
 * left: the rate is taken over busy time only.
 */
extern void throttle_busy (struct throttle *t, bool busy, uint64_t now_ns);

/* The origin accepted (write reply) so many bytes. */
extern void throttle_cleaned (struct throttle *t, uint64_t bytes,
                              uint64_t now_ns);

/* The bound that holds now for this inode, bytes. */
extern uint64_t throttle_limit (const struct throttle *t,
                                const struct throttle_load *load);

/* Write-back should clean although nothing is old or asked for. */
extern bool throttle_wants_cleaning (const struct throttle *t,
                                     const struct throttle_load *load);

/* A write of bytes would pass the bound: wait until throttle_cleaned or a drop
 * changed the load, then ask again.  A write larger than the bound passes
 * alone (when nothing is dirty).
 */
extern bool throttle_must_block (struct throttle *t,
                                 const struct throttle_load *load,
                                 uint64_t bytes);

/* A write of bytes is admitted; returns how long to wait before (or after) it,
 * 0..THROTTLE_DELAY_MAX_NS; delays below 1 ms are saved up and given later.
 * Call once a write, with the load before it.
 */
extern uint64_t throttle_delay (struct throttle *t,
                                const struct throttle_load *load,
                                uint64_t bytes, uint64_t now_ns);

#endif /* PC_THROTTLE_H */
