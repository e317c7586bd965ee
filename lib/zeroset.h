/* SPDX-License-Identifier: BSD-3-Clause
 *
 * zeroset - which ranges of one inode read as zeros without a frame.
 *
 * Answers: is this a zero or trim on its way to the origin, or a hole known to be there?
 *
 * A segment is a run of bytes with one value; a range of terabytes costs one (D8).  ZERO and
 * TRIM are changes that travel like dirty bytes: DIRTY, WRITING, UNSTABLE, and then CLEAN
 * or gone, as the owner wants.  HOLE is always CLEAN: knowledge from the origin.
 * The owner sees to it that no byte is here and in rangeset or dirtyset at once.
 *
 * Units    bytes of the inode; lengths up to 2^64 - 1.
 * Threads  none; the owner's lock guards set and node list.  Functions that take a const set
 *          may run at once under a shared lock.
 * Errors   none: an operation that can add segments needs spare nodes, see "Nodes";
 *          without them it stops the program.
 * Cost     O(log n + segments touched) each; what asks for some states goes past the others
 *          without looking at them, for holes may be ten thousands beside one zero that is
 *          DIRTY.  A segment costs 28 bytes of a node.
 *
 * Nodes    Before the call, under the same lock, for N insertions in all to come:
 *            segnodes_missing (nodes, zeroset_need (set, N)) == 0.
 *          zeroset_put counts 2, zeroset_drop 1, zeroset_change 2 or less:
 *          zeroset_change_inserts (set, r) is 0 when neither end of r lies inside a
 *          segment (and is a bound for zeroset_drop as well).
 *
 * Accounting   as dirtyset.h says: every piece whose value changed, once, ascending, inside the
 *          range; old NULL: was not in the set, now NULL: is not any more.  Under the
 *          caller's lock; may not touch this set.
 *
 * Invariants, run by zeroset_check():
 *   (1) segments are not empty, disjoint, ascending
 *   (2) HOLE is CLEAN
 *   (3) neighbours that touch differ
 *   (4) nclean counts the segments that are CLEAN
 */
#ifndef PC_ZEROSET_H
#define PC_ZEROSET_H

#include <stdbool.h>
#include <stdint.h>

#include "compiler.h"
#include "range.h"
#include "segnodes.h"
#include "wbstate.h"

enum zero_kind {
  ZERO_ZERO,                    /* the client wants zeros */
  ZERO_TRIM,                    /* the client does not care; zeros while remembered */
  ZERO_HOLE,                    /* the origin says so */
};

/* Neighbours that touch merge when all of it is equal. */
struct zero_value {
  uint32_t seq;                 /* flush generation */
  uint32_t stamp;               /* as in struct dirty_value */
  uint32_t carrier : WB_CARRIER_BITS; /* as in struct dirty_value */
  uint32_t state : 2;           /* enum wbstate */
  uint32_t kind : 2;            /* enum zero_kind */
  uint32_t may_trim : 1;        /* ZERO: the client allows a hole */
};

struct zeroset {
  struct segset set;
  uint32_t nclean;
};

typedef void zeroset_acct_fn (void *arg, struct range piece, const struct zero_value *old,
                              const struct zero_value *now);

extern void zeroset_init (struct zeroset *, struct segnodes *nodes) PC_NONNULL (1, 2);
extern void zeroset_release (struct zeroset *) PC_NONNULL (1);

extern uint32_t zeroset_need (const struct zeroset *, uint32_t inserts) PC_NONNULL (1);
extern uint32_t zeroset_change_inserts (const struct zeroset *, struct range r)
  PC_NONNULL (1);

static inline bool
zeroset_is_empty (const struct zeroset *zs)
{
  return zs->set.nsegs == 0;
}

static inline uint32_t
zeroset_count (const struct zeroset *zs)
{
  return zs->set.nsegs;
}

/* Those that the origin has to be told of. */
static inline uint32_t
zeroset_count_owed (const struct zeroset *zs)
{
  return zs->set.nsegs - zs->nclean;
}

/* All of R has *value now, whatever was there. */
extern void zeroset_put (struct zeroset *, struct range r, const struct zero_value *value,
                         zeroset_acct_fn *acct, void *arg) PC_NONNULL (1, 3);

/* Nothing of R is in the set any more: it was written, read from the origin, or forgotten. */
extern void zeroset_drop (struct zeroset *, struct range r, zeroset_acct_fn *acct,
                          void *arg) PC_NONNULL (1);

enum zeroset_verdict {
  ZEROSET_LEAVE,                /* nothing, whatever *value says now */
  ZEROSET_SET,                  /* it gets *value */
  ZEROSET_DROP,                 /* it leaves the set */
};

/* As dirtyset_change: FN decides on each piece in R that is in the set in one of STATES, ascending. */
typedef enum zeroset_verdict zeroset_change_fn (void *arg, struct range piece,
                                                struct zero_value *value);
extern void zeroset_change (struct zeroset *, struct range r, unsigned states, zeroset_change_fn *fn,
                            zeroset_acct_fn *acct, void *arg) PC_NONNULL (1, 4);

/* The value of the byte at OFF and its whole segment; false: it is not in the set. */
extern bool zeroset_find (const struct zeroset *, uint64_t off, struct range *seg,
                          struct zero_value *value) PC_NONNULL (1, 3, 4);

/* The first segment that meets R, whose state is in STATES (WB_BIT) and whose seq is not above
 * MAX_SEQ.  *seg is all of it, so it may begin before R.  False: none.  Goes over those
 * in R with these states and a larger seq one by one.
 */
extern bool zeroset_next (const struct zeroset *, struct range r, unsigned states,
                          uint32_t max_seq, struct range *seg, struct zero_value *value)
  PC_NONNULL (1, 5, 6);

/* The first piece of R that is in the set, cut to R; false: none. */
extern bool zeroset_next_piece (const struct zeroset *, struct range r,
                                struct range *piece, struct zero_value *value)
  PC_NONNULL (1, 3, 4);

/* Aborts if an invariant does not hold.  O(n). */
extern void zeroset_check (const struct zeroset *) PC_NONNULL (1);

#endif /* PC_ZEROSET_H */
