/* SPDX-License-Identifier: BSD-3-Clause
 *
 * segset - an ordered set of disjoint ranges, each with a value: a template.
 *
 * Answers: which segment or gap holds this key, and how is a range inserted, cut out, split,
 * merged, walked over, changed?
 *
 * Define the macros, include this header in a .c file, and all functions X_..., where X is
 * SEGSET_NAME, are there, static.  The macros are undefined at the end, so that a file may
 * include it several times.
 *
 *   SEGSET_NAME          prefix of all names
 *   SEGSET_VALUE         type of values, moved by assignment
 *   SEGSET_LEN_TYPE      uint32_t or uint64_t (default): how a length is stored.  A segment
 *                        must fit; a merge that would not is refused.
 *   SEGSET_NODE_BYTES    size of a node (default SEGNODE_SIZE), or else
 *   SEGSET_DEGREE        at least 3: nodes of up to 2 * degree - 1 segments
 *   SEGSET_GAPS          1: each node knows its largest gap (default 0)
 *   SEGSET_MARK(v)       expression: a few bits of what *v says, 8 at most.  Each node has
 *                        those of all beneath, and X_next_marked finds the next segment
 *                        with one of some, past any number of others.  Default: none.
 *   SEGSET_TALLY(v, n)   statement: n (1 or -1) segments with *v are there.  Default: none.
 *   SEGSET_MERGE(r1, v1, r2, v2, out)
 *                        expression: r1.end == r2.start, v1 and v2 point at values, out at
 *                        neither; may they be one?  Then *out is the value and what v1
 *                        and v2 own was moved or freed.  Default: false.  SEG-30
 *   SEGSET_SPLIT(r, v, at, out1, out2)
 *                        statement: *v, the value of r, moves to *out1 for [r.start, at) and
 *                        *out2 for [at, r.end); none is another.  Default: copies.
 *   SEGSET_DEINIT(v)     statement: the segment was removed; free what *v owns.
 *
 * In the four last a variable SET (struct segset *) can be used.  They run under the owner's
 * lock: they do not block, fail or touch the set.
 * With MARK or TALLY values are changed by X_edit and X_mutate_range only, and a merge or a split
 * leaves them as they are.  TALLY hears nothing of X_remove_all.
 *
 * Units    the owner's; keys 0 .. UINT64_MAX - 1 (SEG-5).
 * Threads  none; the owner's lock.  Functions that take a const set only read.
 * Errors   X_import alone can fail.  A precondition that does not hold stops the program;
 *          so does a missing node.
 * Nodes    X_need (set, n) spare nodes in set->nodes let n insertions succeed
 *          (segnodes.h).  Counted as insertions: X_insert* 1, X_split* 1, X_isolate 2,
 *          X_remove_range 1, X_apply_contiguous, X_mutate_range 2, X_edit 2 and one for
 *          each gap that it fills.  Nothing else takes a node; X_import sees to its own.
 * Cost     O(log n) a search or change, O(1) amortised a step (SEG-8); the number of
 *          segments is set->nsegs.  Memory: bench-segset.
 *
 * Iterators   values; a change of structure makes all invalid but the one that is returned
 *          (SEG-13).  n segments have n + 1 gaps, of which some are empty (SEG-15).
 *          Adjacent segments may stay apart; "maximally merged" is the owner's matter
 *          (SEG-11).
 *
 * The tree itself is in segtree.h; both are one interface.
 *
 * LONG: each function is a few lines on the same macros and types; half of them in another file would need all
 * of these there, too.
 */

#if defined SEGSET_NAME || !defined SEGSET_ALONE
#ifndef SEGSET_NAME             /* so that the header compiles alone */
#define SEGSET_ALONE
#define SEGSET_NAME segset_alone
#define SEGSET_VALUE uint32_t
#endif

#include "segtree.h"

/* ---- life ---- */

SEGSET_INLINE void
SS (init) (struct segset *set, struct segnodes *nodes)
{
  assert (nodes->size >= SS (NODE_SIZE));
  *set = (struct segset) { .nodes = nodes };
}

/* Make sure that INSERTS insertions can be done; 0 or ENOMEM, and nothing changed. */
SEGSET_INLINE int
SS (reserve) (struct segset *set, uint32_t inserts)
{
  return segnodes_reserve (set->nodes, SS (need) (set, inserts));
}

SEGSET_FN void
SS (free_tree) (struct segset *set, struct SS (node) *n)
{
#ifdef SEGSET_DEINIT
  for (int i = 0; i < n->n; i++)
    SEGSET_DEINIT ((&SS (vals) (n)[i]));
#endif
  if (!n->leaf)
    for (int i = 0; i <= n->n; i++)
      SS (free_tree) (set, n->i.child[i]);
  SS (free_node) (set, n);
}

SEGSET_FN void
SS (remove_all) (struct segset *set)
{
  if (set->root)
    SS (free_tree) (set, set->root);
  set->root = NULL;
  set->nsegs = set->height = 0;
}

/* ---- ends, neighbours ---- */

/* SEG-18: terminal when the set is empty; a gap there always is. */
SEGSET_INLINE struct SS (gap)
SS (first_gap) (const struct segset *set)
{
  return (struct SS (gap)) { set->root ? SS (leftmost) (set->root) : NULL, 0 };
}

SEGSET_INLINE struct SS (gap)
SS (last_gap) (const struct segset *set)
{
  struct SS (node) *n = set->root ? SS (rightmost) (set->root) : NULL;

  return (struct SS (gap)) { n, n ? n->n : 0 };
}

SEGSET_INLINE struct SS (iter)
SS (first) (const struct segset *set)
{
  return SS (gap_next) (SS (first_gap) (set));
}

SEGSET_INLINE struct SS (iter)
SS (last) (const struct segset *set)
{
  return SS (gap_prev) (SS (last_gap) (set));
}

/* From gap to gap; terminal at the ends. */
SEGSET_INLINE struct SS (gap)
SS (gap_next_gap) (struct SS (gap) g)
{
  struct SS (iter) it = SS (gap_next) (g);

  return SS (iter_ok) (it) ? SS (next_gap) (it) : SEGSET_NO_GAP;
}

SEGSET_INLINE struct SS (gap)
SS (gap_prev_gap) (struct SS (gap) g)
{
  struct SS (iter) it = SS (gap_prev) (g);

  return SS (iter_ok) (it) ? SS (prev_gap) (it) : SEGSET_NO_GAP;
}

/* A segment (then gap is terminal), a gap, or both terminal. */
struct SS (place)
{
  struct SS (iter) seg;
  struct SS (gap) gap;
};

/* SEG-19: the neighbouring segment if it touches, else the gap; at the end of all keys neither. */
SEGSET_INLINE struct SS (place)
SS (next_nonempty) (struct SS (iter) it)
{
  struct SS (gap) g = SS (next_gap) (it);

  if (!range_is_empty (SS (gap_range) (g)))
    return (struct SS (place)) { SEGSET_NO_ITER, g };
  return (struct SS (place)) { SS (gap_next) (g), SEGSET_NO_GAP };
}

SEGSET_INLINE struct SS (place)
SS (prev_nonempty) (struct SS (iter) it)
{
  struct SS (gap) g = SS (prev_gap) (it);

  if (!range_is_empty (SS (gap_range) (g)))
    return (struct SS (place)) { SEGSET_NO_ITER, g };
  return (struct SS (place)) { SS (gap_prev) (g), SEGSET_NO_GAP };
}

/* ---- search ---- */

/* SEG-16: what holds KEY: the one or the other; UINT64_MAX is in neither. */
SEGSET_INLINE struct SS (place)
SS (find) (const struct segset *set, uint64_t key)
{
  struct SS (place) p;

  SS (locate) (set, key, false, &p.seg, &p.gap);
  if (SS (iter_ok) (p.seg) && key < SS (end_at) (p.seg.node, p.seg.idx))
    p.gap = SEGSET_NO_GAP;
  else
    p.seg = SEGSET_NO_ITER;
  if (PC_UNLIKELY (key == UINT64_MAX))
    p.gap = SEGSET_NO_GAP;
  return p;
}

SEGSET_INLINE struct SS (iter)
SS (find_segment) (const struct segset *set, uint64_t key)
{
  return SS (find) (set, key).seg;
}

SEGSET_INLINE struct SS (gap)
SS (find_gap) (const struct segset *set, uint64_t key)
{
  return SS (find) (set, key).gap;
}

/* SEG-17: the first segment or gap with a key >= MIN, the last with one <= MAX. */
SEGSET_INLINE struct SS (iter)
SS (lower_bound) (const struct segset *set, uint64_t min)
{
  struct SS (iter) pred;
  struct SS (gap) g;

  SS (locate) (set, min, false, &pred, &g);
  if (SS (iter_ok) (pred) && min < SS (end_at) (pred.node, pred.idx))
    return pred;
  return SS (gap_next) (g);
}

SEGSET_INLINE struct SS (iter)
SS (upper_bound) (const struct segset *set, uint64_t max)
{
  struct SS (iter) pred;
  struct SS (gap) g;

  SS (locate) (set, max, false, &pred, &g);
  return pred;
}

SEGSET_INLINE struct SS (gap)
SS (lower_bound_gap) (const struct segset *set, uint64_t min)
{
  struct SS (iter) pred;
  struct SS (gap) g;

  /* The gap behind pred holds MIN or is the first behind the segment that does. */
  SS (locate) (set, min, false, &pred, &g);
  return g;
}

SEGSET_INLINE struct SS (gap)
SS (upper_bound_gap) (const struct segset *set, uint64_t max)
{
  struct SS (iter) pred;
  struct SS (gap) g;

  SS (locate) (set, max, false, &pred, &g);
  if (SS (iter_ok) (pred) && max < SS (end_at) (pred.node, pred.idx))
    return SS (prev_gap) (pred);
  return g;
}

/* ---- values ---- */

SEGSET_INLINE bool
SS (merge_values) (struct segset *set PC_UNUSED, struct range r1, SS (val) *v1 PC_UNUSED,
                   struct range r2, SS (val) *v2 PC_UNUSED, SS (val) *out PC_UNUSED)
{
  if (r1.end != r2.start || r2.end - r1.start > SEGSET_LEN_MAX)
    return false;
#ifdef SEGSET_MERGE
  return SEGSET_MERGE (r1, v1, r2, v2, out);
#else
  return false;
#endif
}

SEGSET_INLINE void
SS (split_value) (struct segset *set PC_UNUSED, struct range r PC_UNUSED, SS (val) *v,
                  uint64_t at PC_UNUSED, SS (val) *out1, SS (val) *out2)
{
#ifdef SEGSET_SPLIT
  SEGSET_SPLIT (r, v, at, out1, out2);
#else
  *out1 = *out2 = *v;
#endif
}

SEGSET_INLINE void
SS (deinit_value) (struct segset *set PC_UNUSED, SS (val) *v PC_UNUSED)
{
#ifdef SEGSET_DEINIT
  SEGSET_DEINIT (v);
#endif
}

/* ---- insert ---- */

/* SEG-20: R, not empty and inside gap G, with *VALUE moved in; merges with what is before
 * and behind.  Returns the segment that contains R.
 */
SEGSET_FN struct SS (iter)
SS (insert) (struct segset *set, struct SS (gap) g, struct range r, SS (val) *value)
{
  struct SS (iter) prev = SS (gap_prev) (g), next = SS (gap_next) (g);
  struct range pr, nr = { 0, 0 };
  SS (val) m, m2;

  assert (r.start < r.end);
  if (SS (iter_ok) (next)) {
    nr = SS (range) (next);
    assert (r.end <= nr.start);
  }
  if (SS (iter_ok) (prev)) {
    pr = SS (range) (prev);
    assert (pr.end <= r.start);
    if (SS (merge_values) (set, pr, SS (value) (prev), r, value, &m)) {
      pr.end = r.end;
      if (SS (iter_ok) (next)
          && SS (merge_values) (set, pr, &m, nr, SS (value) (next), &m2)) {
        prev = SS (gap_prev) (SS (remove_raw) (set, next));
        pr.end = nr.end;
        m = m2;
      }
      *SS (value) (prev) = m;
      SS (set_range) (prev, pr);
      return prev;
    }
  }
  if (SS (iter_ok) (next) && SS (merge_values) (set, r, value, nr, SS (value) (next), &m)) {
    *SS (value) (next) = m;
    SS (set_range) (next, (struct range) { r.start, nr.end });
    return next;
  }
  return SS (insert_unmerged) (set, g, r, value);
}

/* The same, merging only backwards: a walk that goes on with the next segment must find it
 * as it was (FRF-5).
 */
SEGSET_FN struct SS (iter)
SS (insert_behind) (struct segset *set, struct SS (gap) g, struct range r, SS (val) *value)
{
  struct SS (iter) prev = SS (gap_prev) (g);
  SS (val) m;

  if (SS (iter_ok) (prev)) {
    struct range pr = SS (range) (prev);

    if (SS (merge_values) (set, pr, SS (value) (prev), r, value, &m)) {
      *SS (value) (prev) = m;
      SS (set_range) (prev, (struct range) { pr.start, r.end });
      return prev;
    }
  }
  return SS (insert_unmerged) (set, g, r, value);
}

/* The gap that holds all of R, which is not empty; terminal: something is there. */
SEGSET_INLINE struct SS (gap)
SS (gap_for) (const struct segset *set, struct range r)
{
  struct SS (iter) pred, next;
  struct SS (gap) g;

  assert (r.start < r.end);
  SS (locate) (set, r.start, true, &pred, &g);
  if (SS (iter_ok) (pred) && r.start < SS (end_at) (pred.node, pred.idx))
    return SEGSET_NO_GAP;
  next = SS (gap_next) (g);
  if (SS (iter_ok) (next) && next.node->l.start[next.idx] < r.end)
    return SEGSET_NO_GAP;
  return g;
}

/* SEG-21: false and nothing changed if R overlaps a segment. */
SEGSET_INLINE bool
SS (try_insert) (struct segset *set, struct range r, SS (val) value)
{
  struct SS (gap) g = SS (gap_for) (set, r);

  if (!SS (gap_ok) (g))
    return false;
  SS (insert) (set, g, r, &value);
  return true;
}

SEGSET_INLINE bool
SS (try_insert_unmerged) (struct segset *set, struct range r, SS (val) value)
{
  struct SS (gap) g = SS (gap_for) (set, r);

  if (!SS (gap_ok) (g))
    return false;
  SS (insert_unmerged) (set, g, r, &value);
  return true;
}

/* The same, where an overlap is the caller's mistake. */
SEGSET_INLINE struct SS (iter)
SS (insert_range) (struct segset *set, struct range r, SS (val) value)
{
  struct SS (gap) g = SS (gap_for) (set, r);

  assert (SS (gap_ok) (g));
  return SS (insert) (set, g, r, &value);
}

SEGSET_INLINE struct SS (iter)
SS (insert_range_unmerged) (struct segset *set, struct range r, SS (val) value)
{
  struct SS (gap) g = SS (gap_for) (set, r);

  assert (SS (gap_ok) (g));
  return SS (insert_unmerged) (set, g, r, &value);
}

/* ---- split and merge ---- */

/* SEG-22: AT strictly inside the segment.  Returns the second part; the first is before it. */
SEGSET_FN struct SS (iter)
SS (split) (struct segset *set, struct SS (iter) it, uint64_t at)
{
  struct range r = SS (range) (it);
  SS (val) v1, v2;

  assert (range_can_split (r, at));
  SS (split_value) (set, r, SS (value) (it), at, &v1, &v2);
  *SS (value) (it) = v1;
  /* Gaps are right again when both parts are there. */
  SS (set_range) (it, (struct range) { r.start, at });
  return SS (insert_unmerged) (set, SS (next_gap) (it), (struct range) { at, r.end }, &v2);
}

/* False: AT is in no segment, or at a segment's border. */
SEGSET_FN bool
SS (split_at) (struct segset *set, uint64_t at)
{
  struct SS (iter) it = SS (find_segment) (set, at);

  if (!SS (iter_ok) (it) || !range_can_split (SS (range) (it), at))
    return false;
  SS (split) (set, it, at);
  return true;
}

/* Cut the segment, which meets R, to R; returns the piece inside. */
SEGSET_FN struct SS (iter)
SS (isolate) (struct segset *set, struct SS (iter) it, struct range r)
{
  if (range_can_split (SS (range) (it), r.start))
    it = SS (split) (set, it, r.start);
  if (range_can_split (SS (range) (it), r.end))
    it = SS (prev) (SS (split) (set, it, r.end));
  return it;
}

/* The segment with its predecessor, if they touch and may; returns where it is now. */
SEGSET_FN struct SS (iter)
SS (merge_prev) (struct segset *set, struct SS (iter) it, bool *merged)
{
  struct SS (iter) prev = SS (prev) (it);
  struct range r;
  SS (val) m;

  *merged = false;
  if (!SS (iter_ok) (prev))
    return it;
  r = SS (range) (prev);
  if (!SS (merge_values) (set, r, SS (value) (prev), SS (range) (it), SS (value) (it), &m))
    return it;
  *merged = true;
  r.end = SS (range) (it).end;
  prev = SS (gap_prev) (SS (remove_raw) (set, it));
  *SS (value) (prev) = m;
  SS (set_range) (prev, r);
  return prev;
}

/* SEG-25: neighbours; terminal if they may not. */
SEGSET_FN struct SS (iter)
SS (merge) (struct segset *set, struct SS (iter) a, struct SS (iter) b)
{
  bool merged;

  assert (SS (iter_equal) (SS (next) (a), b));
  b = SS (merge_prev) (set, b, &merged);
  return merged ? b : SEGSET_NO_ITER;
}

/* SEG-26: all that touch inside R, not across its ends. */
SEGSET_FN void
SS (merge_range) (struct segset *set, struct range r)
{
  struct SS (iter) it = SS (lower_bound) (set, r.start);
  bool merged;

  if (!SS (iter_ok) (it))
    return;
  for (it = SS (next) (it); SS (iter_ok) (it) && SS (range) (it).start < r.end;
       it = SS (next) (it))
    it = SS (merge_prev) (set, it, &merged);
}

/* SEG-27: only across the ends of R. */
SEGSET_FN void
SS (merge_adjacent) (struct segset *set, struct range r)
{
  struct SS (iter) it = SS (find_segment) (set, r.start);
  bool merged;

  if (SS (iter_ok) (it))
    SS (merge_prev) (set, it, &merged);
  if (r.end == 0)
    return;
  it = SS (find_segment) (set, r.end - 1);
  if (SS (iter_ok) (it) && SS (iter_ok) (it = SS (next) (it)))
    SS (merge_prev) (set, it, &merged);
}

/* ---- remove ---- */

/* SEG-23: returns the gap that holds the range now. */
SEGSET_FN struct SS (gap)
SS (remove) (struct segset *set, struct SS (iter) it)
{
  SS (deinit_value) (set, SS (value) (it));
  return SS (remove_raw) (set, it);
}

/* Sees each piece that leaves, cut to the range, before it goes; may move out of *value what it
 * owns, if DEINIT does not mind.
 */
typedef void SS (piece_fn) (void *arg, struct range piece, SS (val) *value);

/* How many insertions cutting R out of the set counts: 1 if R is strictly inside a segment. */
SEGSET_INLINE uint32_t
SS (remove_range_inserts) (const struct segset *set, struct range r)
{
  struct SS (iter) it = SS (lower_bound) (set, r.start);
  struct range sr;

  if (!SS (iter_ok) (it))
    return 0;
  sr = SS (range) (it);
  return sr.start < r.start && r.end < sr.end;
}

/* How many insertions isolating the ends of R counts: one for each that is in a segment. */
SEGSET_INLINE uint32_t
SS (isolate_inserts) (const struct segset *set, struct range r)
{
  struct SS (iter) a = SS (find_segment) (set, r.start), b = SS (find_segment) (set, r.end);

  return (SS (iter_ok) (a) && range_can_split (SS (range) (a), r.start))
         + (SS (iter_ok) (b) && range_can_split (SS (range) (b), r.end));
}

/* SEG-24: cut R out; what sticks out at an end is trimmed in place.  Returns the gap. */
SEGSET_FN struct SS (gap)
SS (remove_range_with) (struct segset *set, struct range r, SS (piece_fn) *fn, void *arg)
{
  struct SS (iter) it;
  struct SS (gap) g;
  SS (val) left = { 0 }, gone, right = { 0 };   /* for gcc, which does not see that each two ifs are one */

  SS (locate) (set, r.start, true, &it, &g);
  if (!SS (iter_ok) (it) || r.start >= SS (end_at) (it.node, it.idx))
    it = SS (gap_next) (g);
  while (SS (iter_ok) (it) && r.start < r.end) {
    struct range sr = SS (range) (it), piece = range_intersect (sr, r);

    if (sr.start >= r.end)
      break;
    gone = *SS (value) (it);
    if (sr.start < piece.start) {
      SS (val) all = gone;

      SS (split_value) (set, sr, &all, piece.start, &left, &gone);
    }
    if (piece.end < sr.end) {
      SS (val) all = gone;

      SS (split_value) (set, (struct range) { piece.start, sr.end }, &all, piece.end,
                        &gone, &right);
    }
    if (fn)
      fn (arg, piece, &gone);
    SS (deinit_value) (set, &gone);

    if (sr.start < piece.start) {
      *SS (value) (it) = left;
      SS (set_range) (it, (struct range) { sr.start, piece.start });
      g = SS (next_gap) (it);
      if (piece.end < sr.end)
        g = SS (prev_gap) (SS (insert_unmerged) (
          set, g, (struct range) { piece.end, sr.end }, &right));
    }
    else if (piece.end < sr.end) {
      *SS (value) (it) = right;
      SS (set_range) (it, (struct range) { piece.end, sr.end });
      g = SS (prev_gap) (it);
    }
    else
      g = SS (remove_raw) (set, it);
    it = SS (gap_next) (g);
  }
  return g;
}

SEGSET_INLINE struct SS (gap)
SS (remove_range) (struct segset *set, struct range r)
{
  return SS (remove_range_with) (set, r, NULL, NULL);
}

/* ---- sums ---- */

/* SEG-29: keys of R that are in the set. */
SEGSET_FN uint64_t
SS (span_range) (const struct segset *set, struct range r)
{
  uint64_t span = 0;

  for (struct SS (iter) it = SS (lower_bound) (set, r.start);
       SS (iter_ok) (it) && SS (range) (it).start < r.end; it = SS (next) (it))
    span += range_len (range_intersect (SS (range) (it), r));
  return span;
}

SEGSET_INLINE uint64_t
SS (span) (const struct segset *set)
{
  return SS (span_range) (set, RANGE_ALL);
}

SEGSET_INLINE bool
SS (is_empty_range) (const struct segset *set, struct range r)
{
  struct SS (iter) it = SS (lower_bound) (set, r.start);

  return r.start == r.end || !SS (iter_ok) (it) || SS (range) (it).start >= r.end;
}

/* Is there no gap in R?  An empty R: true. */
SEGSET_FN bool
SS (covers) (const struct segset *set, struct range r)
{
  struct SS (iter) it = SS (find_segment) (set, r.start);

  if (r.start == r.end)
    return true;
  while (SS (iter_ok) (it)) {
    uint64_t end = SS (range) (it).end;

    if (end >= r.end)
      return true;
    it = SS (next) (it);
    if (SS (iter_ok) (it) && SS (range) (it).start != end)
      return false;
  }
  return false;
}

SEGSET_INLINE struct SS (gap)
SS (remove_full_range) (struct segset *set, struct range r)
{
  assert (SS (covers) (set, r));
  return SS (remove_range) (set, r);
}

/* ---- visit and change ---- */

/* False: stop.  *value may be changed in place. */
typedef bool SS (visit_fn) (void *arg, struct range r, SS (val) *value);

/* Each segment that meets R, whole, ascending.  False if FN stopped it. */
SEGSET_FN bool
SS (visit_range) (const struct segset *set, struct range r, SS (visit_fn) *fn, void *arg)
{
  for (struct SS (iter) it = SS (lower_bound) (set, r.start);
       r.start < r.end && SS (iter_ok) (it) && SS (range) (it).start < r.end;
       it = SS (next) (it))
    if (!fn (arg, SS (range) (it), SS (value) (it)))
      return false;
  return true;
}

SEGSET_INLINE bool
SS (visit_full_range) (const struct segset *set, struct range r, SS (visit_fn) *fn, void *arg)
{
  assert (SS (covers) (set, r));
  return SS (visit_range) (set, r, fn, arg);
}

/* SEG-28: FN on isolated pieces of R from its start; the first gap ends it and is returned,
 * terminal if R is covered.  Nothing is merged.
 */
SEGSET_FN struct SS (gap)
SS (apply_contiguous) (struct segset *set, struct range r,
                       void (*fn) (void *arg, struct range piece, SS (val) *value),
                       void *arg)
{
  struct SS (place) p = SS (find) (set, r.start);

  while (r.start < r.end && SS (iter_ok) (p.seg)) {
    struct range piece;

    p.seg = SS (isolate) (set, p.seg, r);
    piece = SS (range) (p.seg);
    fn (arg, piece, SS (value) (p.seg));
    if (piece.end >= r.end)
      return SEGSET_NO_GAP;
    p = SS (next_nonempty) (p.seg);
  }
  return r.start < r.end ? p.gap : SEGSET_NO_GAP;
}

/* SEG-28: FN on each piece of a segment in R, cut at the ends of R; each is merged with the
 * one before after FN, the last with the one behind, too.  False if FN stopped it.
 */
SEGSET_FN bool
SS (mutate_range) (struct segset *set, struct range r, SS (visit_fn) *fn, void *arg)
{
  struct SS (iter) it = SS (lower_bound) (set, r.start);
  bool go_on = true, merged;

  if (r.start == r.end)
    return true;
  while (SS (iter_ok) (it) && SS (range) (it).start < r.end) {
    it = SS (isolate) (set, it, r);
    SEGSET_TALLY (SS (value) (it), -1);
    go_on = fn (arg, SS (range) (it), SS (value) (it));
    SEGSET_TALLY (SS (value) (it), 1);
    SEGSET_FIX_MARKS (it.node);
    it = SS (next) (SS (merge_prev) (set, it, &merged));
    if (!go_on)
      break;
  }
  if (SS (iter_ok) (it))
    SS (merge_prev) (set, it, &merged);
  return go_on;
}

SEGSET_INLINE bool
SS (mutate_full_range) (struct segset *set, struct range r, SS (visit_fn) *fn, void *arg)
{
  assert (SS (covers) (set, r));
  return SS (mutate_range) (set, r, fn, arg);
}

/* Decides on a piece of R: of a segment, *old its value, or of a gap, old NULL.  With PUT, *now,
 * which begins as a copy of *old, is its value from now on.  May not touch the set.
 * For values that own nothing.
 */
typedef enum segset_verdict SS (edit_fn) (void *arg, struct range piece,
                                          const SS (val) *old, SS (val) *now);

/* How many insertions X_edit of R counts at most. */
SEGSET_FN uint32_t
SS (edit_inserts) (const struct segset *set, struct range r)
{
  uint64_t at = r.start;
  uint32_t inserts = 2;

  if (r.start == r.end)
    return 0;
  for (struct SS (iter) it = SS (lower_bound) (set, at);
       SS (iter_ok) (it) && SS (range) (it).start < r.end; it = SS (next) (it)) {
    inserts += SS (range) (it).start > at;
    at = SS (range) (it).end;
  }
  return inserts + (at < r.end);
}

/* One piece of a segment; returns the place to go on from, whose part before piece.end is
 * done.  *touched: what ends at piece.end may merge with what comes.
 */
SEGSET_FN struct SS (place)
SS (edit_segment) (struct segset *set, struct SS (iter) it, struct range r, SS (edit_fn) *fn,
                   void *arg, bool *touched)
{
  struct range sr = SS (range) (it), piece = range_intersect (sr, r);
  SS (val) all = *SS (value) (it), old = all, before, now;
  bool merged;

  if (sr.start < piece.start)
    SS (split_value) (set, sr, &all, piece.start, &before, &old);
  now = old;
  switch (fn (arg, piece, &old, &now)) {
  case SEGSET_PUT:
    it = SS (isolate) (set, it, r);
    SEGSET_TALLY (SS (value) (it), -1);
    *SS (value) (it) = now;
    SEGSET_TALLY (&now, 1);
    SEGSET_FIX_MARKS (it.node);
    it = SS (merge_prev) (set, it, &merged);
    *touched = true;
    break;
  case SEGSET_DROP:
    *touched = false;
    return (struct SS (place)) { SEGSET_NO_ITER, SS (remove_range) (set, piece) };
  case SEGSET_LEAVE:
    if (*touched)
      it = SS (merge_prev) (set, it, &merged);
    *touched = false;
    break;
  }
  return (struct SS (place)) { SEGSET_NO_ITER, SS (next_gap) (it) };
}

/* FN decides on each piece of R, of segments and of gaps, ascending.  What was changed merges
 * with what touches it, in R and across its ends.
 */
SEGSET_FN void
SS (edit) (struct segset *set, struct range r, SS (edit_fn) *fn, void *arg)
{
  struct SS (place) p = SS (find) (set, r.start);
  struct SS (iter) it;
  uint64_t at = r.start;        /* all before is done */
  bool touched = false, merged;

  while (at < r.end) {
    struct range piece = { at, r.end };

    if (SS (iter_ok) (p.seg)) {
      uint64_t end = SS (range) (p.seg).end;

      p = SS (edit_segment) (set, p.seg, r, fn, arg, &touched);
      at = end;
      continue;
    }
    it = SS (gap_next) (p.gap);
    if (SS (iter_ok) (it) && SS (range) (it).start < r.end)
      piece.end = SS (range) (it).start;
    if (piece.start < piece.end) {
      SS (val) now;

      touched = fn (arg, piece, NULL, &now) == SEGSET_PUT;
      if (touched)
        it = SS (next) (SS (insert_behind) (set, p.gap, piece, &now));
    }
    at = piece.end;
    p.seg = it;
  }
  if (!touched || r.start == r.end)
    return;
  it = SS (lower_bound) (set, r.end);
  if (SS (iter_ok) (it) && SS (range) (it).start == r.end)
    SS (merge_prev) (set, it, &merged);
}

/* ---- marks ---- */

#ifdef SEGSET_MARK
/* The first under N, which has one. */
SEGSET_FN struct SS (iter)
SS (marked_below) (struct SS (node) *n, uint8_t bits)
{
  int i = 0;

  for (;;) {
    assert (i <= n->n);
    if (!n->leaf && (n->i.child[i]->marks & bits)) {
      n = n->i.child[i];
      i = 0;
    }
    else if (i < n->n && (SEGSET_MARK (&SS (vals) (n)[i]) & bits))
      return (struct SS (iter)) { n, i };
    else
      i++;
  }
}

/* As lower_bound, but the first that has one of BITS.  O(log n). */
SEGSET_FN struct SS (iter)
SS (next_marked) (const struct segset *set, uint64_t min, uint8_t bits)
{
  struct SS (iter) it = SS (lower_bound) (set, min);

  /* All before segment it.idx of the node is done. */
  while (SS (iter_ok) (it)) {
    struct SS (node) *n = it.node;

    for (; (n->marks & bits) && it.idx < n->n; it.idx++) {
      if (SEGSET_MARK (&SS (vals) (n)[it.idx]) & bits)
        return it;
      if (!n->leaf && (n->i.child[it.idx + 1]->marks & bits))
        return SS (marked_below) (n->i.child[it.idx + 1], bits);
    }
    it = (struct SS (iter)) { n->parent, n->pos };
  }
  return it;
}
#endif

/* ---- large gaps ---- */

#if SEGSET_GAPS
/* The first gap of at least MIN among gaps FROM to TO (backwards if BACK) of leaf N. */
SEGSET_INLINE struct SS (gap)
SS (large_in_leaf) (struct SS (node) *n, int from, int to, uint64_t min, bool back)
{
  for (int i = from; back ? i >= to : i <= to; i += back ? -1 : 1)
    if (range_len (SS (gap_range) ((struct SS (gap)) { n, i })) >= min)
      return (struct SS (gap)) { n, i };
  return SEGSET_NO_GAP;
}

/* The first (last) one under N, which has one. */
SEGSET_FN struct SS (gap)
SS (large_below) (struct SS (node) *n, uint64_t min, bool back)
{
  while (!n->leaf) {
    int i = back ? n->n : 0;

    while (n->i.child[i]->maxgap < min)
      i += back ? -1 : 1;
    n = n->i.child[i];
  }
  return back ? SS (large_in_leaf) (n, n->n, 0, min, true)
              : SS (large_in_leaf) (n, 0, n->n, min, false);
}

SEGSET_FN struct SS (gap)
SS (large_beside) (struct SS (gap) g, uint64_t min, bool back)
{
  struct SS (node) *n = g.node;
  struct SS (gap) found;

  if (n == NULL)
    return SEGSET_NO_GAP;
  if (n->maxgap >= min) {
    found = back ? SS (large_in_leaf) (n, g.idx - 1, 0, min, true)
                 : SS (large_in_leaf) (n, g.idx + 1, n->n, min, false);
    if (SS (gap_ok) (found))
      return found;
  }
  for (; n->parent; n = n->parent) {
    struct SS (node) *p = n->parent;

    for (int i = n->pos + (back ? -1 : 1); i >= 0 && i <= p->n; i += back ? -1 : 1)
      if (p->i.child[i]->maxgap >= min)
        return SS (large_below) (p->i.child[i], min, back);
  }
  return SEGSET_NO_GAP;
}

/* SEG-31: the next (previous) gap, not G itself, of at least MIN; terminal: none.  O(log n). */
SEGSET_INLINE struct SS (gap)
SS (next_large_enough_gap) (struct SS (gap) g, uint64_t min)
{
  return SS (large_beside) (g, min, false);
}

SEGSET_INLINE struct SS (gap)
SS (prev_large_enough_gap) (struct SS (gap) g, uint64_t min)
{
  return SS (large_beside) (g, min, true);
}

/* The lowest gap of at least MIN. */
SEGSET_INLINE struct SS (gap)
SS (first_large_enough_gap) (const struct segset *set, uint64_t min)
{
  struct SS (gap) g = SS (first_gap) (set);

  return range_len (SS (gap_range) (g)) >= min ? g : SS (next_large_enough_gap) (g, min);
}
#endif

/* ---- export, import ---- */

struct SS (entry)
{
  struct range range;
  SS (val) value;
};

/* SEG-32: up to MAX segments, ascending; returns how many there are.  What values own stays the
 * set's.
 */
SEGSET_FN uint32_t
SS (export) (const struct segset *set, struct SS (entry) *entries, uint32_t max)
{
  uint32_t n = 0;

  for (struct SS (iter) it = SS (first) (set); n < max && SS (iter_ok) (it);
       it = SS (next) (it))
    entries[n++] = (struct SS (entry)) { SS (range) (it), *SS (value) (it) };
  return set->nsegs;
}

/* EINVAL: the set is not empty, or ENTRIES are not ascending, disjoint, and of lengths that
 * fit; ENOMEM.  Then nothing was changed, and what the values own is the caller's.
 * Nothing is merged.
 */
PC_MUST_CHECK SEGSET_FN int
SS (import) (struct segset *set, const struct SS (entry) *entries, uint32_t n)
{
  uint64_t at = 0;
  uint32_t want = 2, level = n, fill = SS (LEAF_MAX);
  int err;

  if (set->root)
    return EINVAL;
  for (uint32_t i = 0; i < n; i++) {
    struct range r = entries[i].range;

    if (r.start < at || r.start >= r.end || r.end - r.start > SEGSET_LEN_MAX)
      return EINVAL;
    at = r.end;
  }
  /* Inserted in order, nodes are full; see segtree.h. */
  do {
    level = level / fill + 1;
    want += level;
    fill = SS (INNER_MAX);
  } while (level > 1);
  err = segnodes_reserve (set->nodes, want);
  if (err)
    return err;
  for (uint32_t i = 0; i < n; i++) {
    SS (val) value = entries[i].value;

    SS (insert_unmerged) (set, SS (last_gap) (set), entries[i].range, &value);
  }
  return 0;
}

#undef SEGSET_CAT
#undef SEGSET_CAT_
#undef SEGSET_DEGREE
#undef SEGSET_DEINIT
#undef SEGSET_ENTRY
#undef SEGSET_FIX
#undef SEGSET_FIX_AROUND
#undef SEGSET_FIX_GAPS
#undef SEGSET_FIX_GAPS_AROUND
#undef SEGSET_FIX_GAPS_PAIR
#undef SEGSET_FIX_MARKS
#undef SEGSET_FIX_MARKS_PAIR
#undef SEGSET_FIX_PAIR
#undef SEGSET_FN
#undef SEGSET_GAPS
#undef SEGSET_HEADER
#undef SEGSET_INLINE
#undef SEGSET_LEN_MAX
#undef SEGSET_LEN_TYPE
#undef SEGSET_MARK
#undef SEGSET_MERGE
#undef SEGSET_NAME
#undef SEGSET_NODE_BYTES
#undef SEGSET_NO_GAP
#undef SEGSET_NO_ITER
#undef SEGSET_ODD
#undef SEGSET_SPLIT
#undef SEGSET_TALLY
#undef SEGSET_VALUE
#undef SS

#endif /* SEGSET_ALONE */
