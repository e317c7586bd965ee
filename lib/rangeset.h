/* SPDX-License-Identifier: BSD-3-Clause
 *
 * rangeset - which bytes of one inode are in memory, and in which frames.
 *
 * Answers: are these bytes valid, and in which frame is this page?
 *
 * A segment is a run of valid bytes; its value is the frame of the page that holds its
 * first byte, and the frames of its further pages follow in order (FRS-1).  A byte's place
 * within its frame is its place within its page, so a page may be valid in part (D2), in
 * several segments, which all name the same frame.  The set holds no references and
 * copies no bytes: its owner does, for each page that comes (rangeset_add into a page that
 * had no byte) and goes (the callback of rangeset_remove).
 *
 * Units    bytes of the inode; frame numbers of the memory file.
 * Threads  none; the owner's lock guards set and node list.  Functions that take a const set
 *          may run at once under a shared lock.
 * Errors   none: an operation that can add segments needs spare nodes, see "Nodes";
 *          without them it stops the program.
 * Cost     find, add: O(log n).  A segment costs 16 bytes of a node, 17..25 in all.
 *
 * Nodes    Before the call, under the same lock, for N insertions in all to come:
 *            segnodes_missing (nodes, rangeset_need (set, N)) == 0.
 *          rangeset_add counts 1, rangeset_remove at most 1 (only when it cuts the middle
 *          out of a segment), rangeset_set_frame at most 2; nothing else counts.
 *
 * Invariants, run by rangeset_check():
 *   (1) segments are not empty, disjoint, ascending, below 4 GiB long
 *   (2) all segments that touch one page agree on its frame
 * and one that is not, as it has an exception: neighbours whose bytes touch and whose
 * frames continue are one segment, but two that were too long for one stay two.
 */
#ifndef PC_RANGESET_H
#define PC_RANGESET_H

#include <stdbool.h>
#include <stdint.h>

#include "compiler.h"
#include "range.h"
#include "segnodes.h"

/* Frames hold 4 KiB (D29). */
#define RANGESET_PAGE_SHIFT 12
#define RANGESET_PAGE ((uint64_t) 1 << RANGESET_PAGE_SHIFT)

struct rangeset {
  struct segset set;
};

/* NODES, of SEGNODE_SIZE, lives longer than the set. */
extern void rangeset_init (struct rangeset *, struct segnodes *nodes) PC_NONNULL (1, 2);

/* Forget everything, nodes to the list; frames are not reported (see rangeset_remove). */
extern void rangeset_release (struct rangeset *) PC_NONNULL (1);

/* Spare nodes that INSERTS insertions can take at most, from the set as it is now. */
extern uint32_t rangeset_need (const struct rangeset *, uint32_t inserts) PC_NONNULL (1);

static inline bool
rangeset_is_empty (const struct rangeset *rs)
{
  return rs->set.nsegs == 0;
}

static inline uint32_t
rangeset_count (const struct rangeset *rs)
{
  return rs->set.nsegs;
}

/* Is the byte at OFF valid?  Then *seg is all of its segment and *frame the frame of
 * the page that holds OFF (not of seg->start).  The hit path: one descent, no writes.
 */
extern bool rangeset_find (const struct rangeset *, uint64_t off, struct range *seg,
                           uint32_t *frame) PC_NONNULL (1, 3, 4);

/* The frame of the valid byte at OFF, which must be valid. */
extern uint32_t rangeset_frame_at (const struct rangeset *, uint64_t off) PC_NONNULL (1);

/* Of a segment that starts at START in FRAME: the frame of the page of OFF. */
static inline uint32_t
rangeset_frame_of (uint64_t start, uint32_t frame, uint64_t off)
{
  return frame + (uint32_t) ((off >> RANGESET_PAGE_SHIFT) - (start >> RANGESET_PAGE_SHIFT));
}

/* Does the page at PGOFF (aligned) have any valid byte?  Then *frame is its frame. */
extern bool rangeset_page_frame (const struct rangeset *, uint64_t pgoff, uint32_t *frame)
  PC_NONNULL (1, 3);

/* Is every byte of [pgoff, min (pgoff + page, limit)) valid?  LIMIT is the inode's size:
 * bytes behind it do not exist.  True when nothing lies below the limit.
 */
extern bool rangeset_page_valid (const struct rangeset *, uint64_t pgoff, uint64_t limit)
  PC_NONNULL (1);

/* In how many pieces is what is valid of that page?  0: the page is not there. */
extern uint32_t rangeset_page_fragments (const struct rangeset *, uint64_t pgoff)
  PC_NONNULL (1);

/* Is every byte of R valid?  Does any overlap?  (An empty R: true, false.)  O(log n + segments in R). */
extern bool rangeset_covers (const struct rangeset *, struct range r) PC_NONNULL (1);
extern bool rangeset_overlaps (const struct rangeset *, struct range r) PC_NONNULL (1);

/* The first piece of R that is valid, cut to R, and the frame of the page of its first
 * byte; false: none.
 */
extern bool rangeset_next (const struct rangeset *, struct range r, struct range *piece,
                           uint32_t *frame) PC_NONNULL (1, 3, 4);

/* The first piece of R that is not valid, cut to R; false: R is valid throughout. */
extern bool rangeset_next_gap (const struct rangeset *, struct range r, struct range *gap)
  PC_NONNULL (1, 3);

/* How many pages of R (page aligned) have no valid byte: so many frames will a fill of R
 * need (FRS-11).
 */
extern uint64_t rangeset_absent_pages (const struct rangeset *, struct range r)
  PC_NONNULL (1);

/* The bytes of R, of which none was valid, are valid now; FRAME holds the page of r.start,
 * frame + 1 the next page and so on.  0 < length < 4 GiB.  Where a page had valid bytes
 * before, the frame must be the one it had.  Counts 1 insertion.
 */
extern void rangeset_add (struct rangeset *, struct range r, uint32_t frame)
  PC_NONNULL (1);

/* Called for each page of which no byte is left, ascending, before rangeset_remove
 * returns; it may not touch the set.  Gives the owner back the reference on FRAME (FRS-3).
 */
typedef void rangeset_gone_fn (void *arg, uint64_t pgoff, uint32_t frame);

/* No byte of R is valid any more.  R may have holes and may be of any length.  GONE may
 * be NULL.  Counts 1 insertion if R lies strictly inside one segment, else 0.
 */
extern void rangeset_remove (struct rangeset *, struct range r, rangeset_gone_fn *gone,
                             void *arg) PC_NONNULL (1);

/* Insertions that rangeset_remove of R counts now: 0 or 1. */
extern uint32_t rangeset_remove_inserts (const struct rangeset *, struct range r)
  PC_NONNULL (1);

/* The page at PGOFF, which has valid bytes, lives in FRAME from now on: copy on write
 * (D5).  Returns the frame it had.  Counts 2 insertions.
 */
extern uint32_t rangeset_set_frame (struct rangeset *, uint64_t pgoff, uint32_t frame)
  PC_NONNULL (1);

/* Aborts if an invariant does not hold.  O(n). */
extern void rangeset_check (const struct rangeset *) PC_NONNULL (1);

#endif /* PC_RANGESET_H */
