/* SPDX-License-Identifier: BSD-3-Clause
 *
 * dirtyset - which bytes of one inode are newer than the origin, and how far they got.
 *
 * Answers: what has to be written back, for which flush, and what is under way?
 *
 * A segment is a run of bytes with one value; a byte in no segment is clean.  The set
 * knows neither frames nor time (room for dirty bytes that are not in memory).
 *
 * Units    bytes of the inode.
 * Threads  none; the owner's lock guards set and node list.  Functions that take a const set
 *          may run at once under a shared lock.
 * Errors   none: an operation that can add segments needs spare nodes, see "Nodes";
 *          without them it stops the program.
 * Cost     O(log n + segments touched) each.  A segment costs 24 bytes of a node, 25..36
 *          in all.
 *
 * Nodes    Before the call, under the same lock, for N insertions in all to come:
 *            segnodes_missing (nodes, dirtyset_need (set, N)) == 0.
 *          dirtyset_mark and keep_dirty count dirtyset_mark_inserts (set, r): one for
 *          each gap in r, and 2.  dirtyset_change, drop, mark_clean, keep_clean and
 *          allow_clean count 2, or less: dirtyset_change_inserts (set, r) is 0 when
 *          neither end of r lies inside a segment, so that changing what an earlier
 *          change of the same range made needs no node.
 *
 * Accounting   The callback gets every piece whose value changed: bytes [start, end) had
 *          *old (NULL: were clean) and have *now (NULL: are clean).  Pieces ascend, do not
 *          overlap, lie inside the range of the call, and together are exactly the bytes
 *          whose value differs; one run may come in several pieces.  It runs under the
 *          caller's lock in the middle of the change: it may add up and move its own
 *          lists, but not touch this set.  So for any per-byte quantity f,
 *          sum += (now ? f (now) : 0) - (old ? f (old) : 0) times the length stays exact
 *          (DRT-14).  NULL: nobody counts.
 *
 * Invariants, run by dirtyset_check():
 *   (1) segments are not empty, disjoint, ascending, below 4 GiB long
 *   (2) no segment says WB_CLEAN
 * and one that is not, as it has an exception: neighbours that touch differ, but two that
 * were too long for one segment stay two.
 */
#ifndef PC_DIRTYSET_H
#define PC_DIRTYSET_H

#include <stdbool.h>
#include <stdint.h>

#include "compiler.h"
#include "range.h"
#include "segnodes.h"
#include "wbstate.h"

/* Neighbours that touch merge when all of it is equal (DRT-1). */
struct dirty_value {
  uint32_t seq;                 /* flush generation: which flush waits for it (D23) */
  uint32_t stamp;               /* WRITING: id of the request; UNSTABLE: flush number at
                                 * which it became so; DIRTY: 0 */
  uint32_t carrier : WB_CARRIER_BITS; /* WRITING, UNSTABLE: connection; DIRTY: 0 */
  uint32_t state : 2;           /* enum wbstate, never WB_CLEAN */
  uint32_t keep : 1;            /* mapped writable: may change unseen (DRT-2) */
  uint32_t wt : 1;              /* written through and not acknowledged: valid before, to
                                 * be dropped and not kept if the write fails (D1) */
};

struct dirtyset {
  struct segset set;
};

typedef void dirtyset_acct_fn (void *arg, struct range piece,
                               const struct dirty_value *old,
                               const struct dirty_value *now);

extern void dirtyset_init (struct dirtyset *, struct segnodes *nodes) PC_NONNULL (1, 2);
extern void dirtyset_release (struct dirtyset *) PC_NONNULL (1);

extern uint32_t dirtyset_need (const struct dirtyset *, uint32_t inserts) PC_NONNULL (1);
extern uint32_t dirtyset_mark_inserts (const struct dirtyset *, struct range r)
  PC_NONNULL (1);
extern uint32_t dirtyset_change_inserts (const struct dirtyset *, struct range r)
  PC_NONNULL (1);

static inline bool
dirtyset_is_empty (const struct dirtyset *ds)
{
  return ds->set.nsegs == 0;
}

static inline uint32_t
dirtyset_count (const struct dirtyset *ds)
{
  return ds->set.nsegs;
}

/* The bytes of R were written, in generation SEQ (DRT-3):
 *      clean             -> DIRTY (seq), wt as given
 *      DIRTY             stays, with its older seq: a flush still waits for it
 *      WRITING, UNSTABLE -> DIRTY (seq): what is under way is old now
 *      WRITING and kept  -> DIRTY, with its own seq: stores since the copy are owed to that
 * keep stays where it was.  wt stays only where it was and is given again: bytes that were
 * dirty before a write-through stay dirty when that fails (D1).
 * R is shorter than 4 GiB.
 */
extern void dirtyset_mark (struct dirtyset *, struct range r, uint32_t seq, bool wt,
                           dirtyset_acct_fn *acct, void *arg) PC_NONNULL (1);

/* R is mapped writable: everything in it becomes kept, and DIRTY (seq) where it was not
 * DIRTY (DRT-3).  wt is cleared.  R is shorter than 4 GiB.
 */
extern void dirtyset_keep_dirty (struct dirtyset *, struct range r, uint32_t seq,
                                 dirtyset_acct_fn *acct, void *arg) PC_NONNULL (1);

/* Everything in R that is not kept becomes clean, in whatever state it is (DRT-4). */
extern void dirtyset_mark_clean (struct dirtyset *, struct range r,
                                 dirtyset_acct_fn *acct, void *arg) PC_NONNULL (1);

/* Everything in R becomes clean, kept or not: the page itself goes (DRT-4). */
extern void dirtyset_drop (struct dirtyset *, struct range r, dirtyset_acct_fn *acct,
                           void *arg) PC_NONNULL (1);

/* The seeds' name for dirtyset_drop. */
#define dirtyset_keep_clean dirtyset_drop

/* The last writable mapping of R went: nothing in it is kept; it stays dirty (DRT-5). */
extern void dirtyset_allow_clean (struct dirtyset *, struct range r,
                                  dirtyset_acct_fn *acct, void *arg) PC_NONNULL (1);

/* What dirtyset_change shall do with a piece. */
enum dirtyset_verdict {
  DIRTYSET_LEAVE,               /* nothing, whatever *value says now */
  DIRTYSET_SET,                 /* it gets *value */
  DIRTYSET_DROP,                /* it becomes clean */
};

/* Decide on PIECE, which lies in one segment and in the range of the call; *value is its value,
 * to be edited.  Called once a piece, ascending; not for clean bytes.  It may not touch
 * the set.
 */
typedef enum dirtyset_verdict dirtyset_change_fn (void *arg, struct range piece,
                                                  struct dirty_value *value);

/* The one way from state to state: FN (arg, ...) decides on each piece in R, for instance
 * DIRTY and seq <= 7 -> WRITING, stamp and carrier of the request about to be sent;
 * WRITING by request 42     -> UNSTABLE at flush number 9, or DIRTY after an error;
 * UNSTABLE by flush 9       -> drop; UNSTABLE or WRITING carried by connection 3 -> DIRTY.
 * R may be of any length (RANGE_ALL).  Equal neighbours merge in R and across its ends.
 * ACCT and FN share ARG.
 */
extern void dirtyset_change (struct dirtyset *, struct range r, dirtyset_change_fn *fn,
                             dirtyset_acct_fn *acct, void *arg) PC_NONNULL (1, 3);

/* The value of the byte at OFF and its whole segment; false: it is clean. */
extern bool dirtyset_find (const struct dirtyset *, uint64_t off, struct range *seg,
                           struct dirty_value *value) PC_NONNULL (1, 3, 4);

/* The first segment that ends behind FROM, whose state is in STATES (WB_BIT) and whose seq is
 * not above MAX_SEQ.  *seg is all of it, so it may begin before FROM.  False: none.
 * Goes over the segments in between one by one.
 */
extern bool dirtyset_next (const struct dirtyset *, uint64_t from, unsigned states,
                           uint32_t max_seq, struct range *seg,
                           struct dirty_value *value) PC_NONNULL (1, 5, 6);

/* Is anything in R in one of STATES? */
extern bool dirtyset_overlaps (const struct dirtyset *, struct range r, unsigned states)
  PC_NONNULL (1);

/* Aborts if an invariant does not hold.  O(n). */
extern void dirtyset_check (const struct dirtyset *) PC_NONNULL (1);

#endif /* PC_DIRTYSET_H */
