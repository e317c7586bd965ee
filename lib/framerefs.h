/* SPDX-License-Identifier: BSD-3-Clause
 *
 * framerefs - how often each frame is used, for users that come in ranges.
 *
 * Answers: who of these frames is in use, how often, and which became free just now?
 *
 * A set of frame ranges with their counts; what is in no segment has count 0 (FRF-1).  Where
 * neighbours have equal counts they are one segment (FRF-4), so a thousand frames used
 * once each by one mapping cost one entry.
 *
 * Units    frame numbers.
 * Threads  none; the owner's lock guards set and node list.  Functions that take a const set
 *          may run at once under a shared lock.
 * Errors   none; a frame put that nobody has stops the program.
 * Cost     O(log n + segments touched).  A segment costs 16 bytes of a node.
 *
 * Nodes    Before the call, under the same lock, for N insertions in all to come:
 *            segnodes_missing (nodes, framerefs_need (set, N)) == 0.
 *          framerefs_get counts framerefs_get_inserts (set, r), framerefs_put counts 2, or
 *          framerefs_put_inserts (set, r): 0 when neither end of r lies inside a segment.
 *
 * Invariants, run by framerefs_check():
 *   (1) segments are not empty, disjoint, ascending, of counts above 0
 *   (2) neighbours that touch differ
 */
#ifndef PC_FRAMEREFS_H
#define PC_FRAMEREFS_H

#include <stdbool.h>
#include <stdint.h>

#include "compiler.h"
#include "range.h"
#include "segnodes.h"

struct framerefs {
  struct segset set;
};

/* Called for each range that came into use or went out of it, ascending, under the caller's
 * lock; may not touch the set.  Exactly those frames whose count left or reached 0.
 */
typedef void framerefs_edge_fn (void *arg, struct range frames);

extern void framerefs_init (struct framerefs *, struct segnodes *nodes) PC_NONNULL (1, 2);
extern void framerefs_release (struct framerefs *) PC_NONNULL (1);

extern uint32_t framerefs_need (const struct framerefs *, uint32_t inserts) PC_NONNULL (1);
extern uint32_t framerefs_get_inserts (const struct framerefs *, struct range frames)
  PC_NONNULL (1);
extern uint32_t framerefs_put_inserts (const struct framerefs *, struct range frames)
  PC_NONNULL (1);

/* One more use of each of FRAMES (FRF-2).  USED, if not NULL, is told which are new.  Frame
 * numbers are 32 bit: FRAMES ends at 2^32 - 1 at most.
 */
extern void framerefs_get (struct framerefs *, struct range frames,
                           framerefs_edge_fn *used, void *arg) PC_NONNULL (1);

/* One less; each must have one (FRF-3).  UNUSED, if not NULL, is told which reached 0. */
extern void framerefs_put (struct framerefs *, struct range frames,
                           framerefs_edge_fn *unused, void *arg) PC_NONNULL (1);

/* How often is it used? */
extern uint32_t framerefs_count (const struct framerefs *, uint32_t frame) PC_NONNULL (1);

/* How many of FRAMES are used at least once? */
extern uint64_t framerefs_used (const struct framerefs *, struct range frames)
  PC_NONNULL (1);

extern void framerefs_check (const struct framerefs *) PC_NONNULL (1);

#endif /* PC_FRAMEREFS_H */
