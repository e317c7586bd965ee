/* SPDX-License-Identifier: BSD-3-Clause
 *
 * segtree - the B-tree under every segment set: a template, the lower half of segset.h.
 *
 * Answers: how are segments kept in order, found, inserted and removed, when nothing merges?
 *
 * Never included directly; segset.h says which macros to define and what the functions
 * promise.  Here is how it works.
 *
 * Segments are in all nodes (SEG-6).  A node is one block of memory of the size that its
 * list (segnodes.h) hands out; a leaf uses it all for segments, an inner node has fewer
 * and the children behind them.  Starts, lengths and values are three arrays (SEG-7): a
 * search reads starts only, and 67 of them (16-byte segments in a node of 1088) are nine
 * cache lines, of which a binary search touches three.
 *
 * Search goes down to a leaf always, by starts alone, and looks at one length at the end:
 * the last start not above the key belongs to the only segment that can hold it.  To stop
 * early in an inner node (1 segment in 40) would read a length on each level.
 *
 * Fill.  A full leaf first gives to a neighbour under the same parent; it is split only when
 * both are full, so that random insertion ends at about 4/5 and not 2/3.  At the right
 * and left edge of the tree a split leaves everything on the inner side, so that loading in
 * order fills all nodes.  The price of that is a weaker rule there, see (3).
 *
 * Invariants, run by X_check():
 *   (1) in-order, starts ascend, segments are not empty and do not overlap (SEG-33)
 *   (2) all leaves are at level set->height; an inner node with n segments has n + 1 children
 *   (3) a node that is not on the tree's left or right edge holds at least half of its
 *       maximum; one on an edge at least 1; only the empty set has no root
 *   (4) a node knows its parent and its place in it
 *   (5) SEGSET_GAPS: maxgap is the largest gap beneath (SEG-31).  Each gap belongs to one
 *       leaf, also where the segment at its side is in an inner node.
 *   (6) SEGSET_MARK: marks has the bits of all values beneath, and no other.
 */

#ifndef SEGTREE_ALONE
#ifndef SEGSET_NAME             /* so that the header compiles alone */
#define SEGTREE_ALONE
#define SEGSET_NAME segset_alone
#define SEGSET_VALUE uint32_t
#endif

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "compiler.h"
#include "range.h"
#include "segnodes.h"

/* What is not given. */
#ifndef SEGSET_LEN_TYPE
#define SEGSET_LEN_TYPE uint64_t
#endif
#ifndef SEGSET_GAPS
#define SEGSET_GAPS 0
#endif
#ifndef SEGSET_TALLY
#define SEGSET_TALLY(v, n) ((void) 0)
#endif

#define SEGSET_CAT_(a, b) a##_##b
#define SEGSET_CAT(a, b) SEGSET_CAT_ (a, b)
#define SS(name) SEGSET_CAT (SEGSET_NAME, name)
#define SEGSET_FN static PC_UNUSED
#define SEGSET_INLINE static inline PC_UNUSED
#define SEGSET_LEN_MAX ((uint64_t) (SEGSET_LEN_TYPE) -1)

typedef SEGSET_VALUE SS (val);

/* Segments in a leaf and in an inner node: odd, so that both halves of a full one are as
 * good as half (3).
 */
#define SEGSET_HEADER (16 + 8 * SEGSET_GAPS)
#define SEGSET_ENTRY (8 + sizeof (SEGSET_LEN_TYPE) + sizeof (SS (val)))
#define SEGSET_ODD(n) (((n) - 1) | 1)
#ifdef SEGSET_DEGREE
_Static_assert (SEGSET_DEGREE >= 3, "a split needs something on both sides");
enum {
  SS (LEAF_MAX) = 2 * SEGSET_DEGREE - 1,
  SS (INNER_MAX) = 2 * SEGSET_DEGREE - 1,
};
#else
#ifndef SEGSET_NODE_BYTES
#define SEGSET_NODE_BYTES SEGNODE_SIZE
#endif
/* Alignment may cost up to 4 bytes before values and 4 before children. */
enum {
  SS (LEAF_PAD) = _Alignof (SS (val)) > 4 && sizeof (SEGSET_LEN_TYPE) == 4 ? 4 : 0,
  SS (LEAF_MAX) = SEGSET_ODD ((SEGSET_NODE_BYTES - SEGSET_HEADER - SS (LEAF_PAD))
                              / SEGSET_ENTRY),
  SS (INNER_MAX) = SEGSET_ODD ((SEGSET_NODE_BYTES - SEGSET_HEADER - 16)
                               / (SEGSET_ENTRY + sizeof (void *))),
};
_Static_assert ((int) SS (INNER_MAX) >= 5, "nodes too small for these values");
#endif
enum {
  SS (LEAF_MIN) = SS (LEAF_MAX) / 2,
  SS (INNER_MIN) = SS (INNER_MAX) / 2,
};

struct SS (node)
{
  struct SS (node) *parent;     /* NULL: the root */
#if SEGSET_GAPS
  uint64_t maxgap;
#endif
  uint16_t n;                   /* segments here */
  uint16_t pos;                 /* parent's child[pos] is this */
  uint8_t leaf;
#ifdef SEGSET_MARK
  uint8_t marks;                /* fits behind leaf in any case */
#endif
  union {
    struct {
      uint64_t start[SS (LEAF_MAX)];
      SEGSET_LEN_TYPE len[SS (LEAF_MAX)];
      SS (val) val[SS (LEAF_MAX)];
    } l;
    struct {
      uint64_t start[SS (INNER_MAX)];
      SEGSET_LEN_TYPE len[SS (INNER_MAX)];
      SS (val) val[SS (INNER_MAX)];
      struct SS (node) *child[SS (INNER_MAX) + 1];
    } i;
  };
};

#ifdef SEGSET_NODE_BYTES
_Static_assert (sizeof (struct SS (node)) <= SEGSET_NODE_BYTES, "the node fits");
enum { SS (NODE_SIZE) = SEGSET_NODE_BYTES };
#else
enum { SS (NODE_SIZE) = sizeof (struct SS (node)) };
#endif
_Static_assert (offsetof (struct SS (node), l.start) == SEGSET_HEADER,
                "starts follow the header in both kinds");

/* A segment; node NULL: none (terminal).  SEG-12 */
struct SS (iter)
{
  struct SS (node) *node;
  int idx;
};

/* The gap before segment idx of a leaf, or behind its last; idx -1: none (terminal).  The one
 * gap of the empty set is { NULL, 0 }.
 */
struct SS (gap)
{
  struct SS (node) *node;
  int idx;
};

#define SEGSET_NO_ITER ((struct SS (iter)) { NULL, 0 })
#define SEGSET_NO_GAP ((struct SS (gap)) { NULL, -1 })

/* ---- nodes ---- */

SEGSET_INLINE struct SS (node) *
SS (root) (const struct segset *set)
{
  return set->root;
}

SEGSET_INLINE SEGSET_LEN_TYPE *
SS (lens) (struct SS (node) *n)
{
  return n->leaf ? n->l.len : n->i.len;
}

SEGSET_INLINE SS (val) *
SS (vals) (struct SS (node) *n)
{
  return n->leaf ? n->l.val : n->i.val;
}

SEGSET_INLINE uint64_t
SS (end_at) (struct SS (node) *n, int idx)
{
  return n->l.start[idx] + SS (lens) (n)[idx];
}

SEGSET_FN struct SS (node) *
SS (take_node) (struct segset *set, bool leaf)
{
  struct SS (node) *n = segnodes_pop (set->nodes);

  n->parent = NULL;
#if SEGSET_GAPS
  n->maxgap = 0;
#endif
  n->n = n->pos = 0;
  n->leaf = leaf;
#ifdef SEGSET_MARK
  n->marks = 0;
#endif
  return n;
}

SEGSET_FN void
SS (free_node) (struct segset *set, struct SS (node) *n)
{
  segnodes_push (set->nodes, n);
}

SEGSET_INLINE struct SS (node) *
SS (leftmost) (struct SS (node) *n)
{
  while (!n->leaf)
    n = n->i.child[0];
  return n;
}

SEGSET_INLINE struct SS (node) *
SS (rightmost) (struct SS (node) *n)
{
  while (!n->leaf)
    n = n->i.child[n->n];
  return n;
}

/* Move CNT segments; the places may overlap. */
SEGSET_INLINE void
SS (move) (struct SS (node) *dst, int di, struct SS (node) *src, int si, int cnt)
{
  memmove (&dst->l.start[di], &src->l.start[si], cnt * sizeof dst->l.start[0]);
  memmove (&SS (lens) (dst)[di], &SS (lens) (src)[si], cnt * sizeof dst->l.len[0]);
  memmove (&SS (vals) (dst)[di], &SS (vals) (src)[si], cnt * sizeof dst->l.val[0]);
}

SEGSET_INLINE void
SS (move_children) (struct SS (node) *dst, int di, struct SS (node) *src, int si, int cnt)
{
  memmove (&dst->i.child[di], &src->i.child[si], cnt * sizeof dst->i.child[0]);
}

/* Children FROM to n have moved: tell them where they are. */
SEGSET_FN void
SS (adopt) (struct SS (node) *n, int from)
{
  for (int i = from; i <= n->n; i++) {
    n->i.child[i]->parent = n;
    n->i.child[i]->pos = i;
  }
}

/* ---- iterators ---- */

SEGSET_INLINE bool
SS (iter_ok) (struct SS (iter) it)
{
  return it.node != NULL;
}

SEGSET_INLINE bool
SS (gap_ok) (struct SS (gap) g)
{
  return g.idx >= 0;
}

SEGSET_INLINE bool
SS (iter_equal) (struct SS (iter) a, struct SS (iter) b)
{
  return a.node == b.node && (a.node == NULL || a.idx == b.idx);
}

SEGSET_INLINE bool
SS (gap_equal) (struct SS (gap) a, struct SS (gap) b)
{
  return a.node == b.node && a.idx == b.idx;
}

SEGSET_INLINE struct range
SS (range) (struct SS (iter) it)
{
  uint64_t start = it.node->l.start[it.idx];

  return (struct range) { start, start + SS (lens) (it.node)[it.idx] };
}

/* SEG-14: good until the iterator is not. */
SEGSET_INLINE SS (val) *
SS (value) (struct SS (iter) it)
{
  return &SS (vals) (it.node)[it.idx];
}

/* The segment behind the last gap of N, a gap of the parent's segments. */
SEGSET_INLINE struct SS (iter)
SS (after_node) (struct SS (node) *n)
{
  for (; n->parent; n = n->parent)
    if (n->pos < n->parent->n)
      return (struct SS (iter)) { n->parent, n->pos };
  return SEGSET_NO_ITER;
}

SEGSET_INLINE struct SS (iter)
SS (before_node) (struct SS (node) *n)
{
  for (; n->parent; n = n->parent)
    if (n->pos > 0)
      return (struct SS (iter)) { n->parent, n->pos - 1 };
  return SEGSET_NO_ITER;
}

SEGSET_INLINE struct SS (gap)
SS (prev_gap) (struct SS (iter) it)
{
  if (PC_LIKELY (it.node->leaf))
    return (struct SS (gap)) { it.node, it.idx };
  it.node = SS (rightmost) (it.node->i.child[it.idx]);
  return (struct SS (gap)) { it.node, it.node->n };
}

SEGSET_INLINE struct SS (gap)
SS (next_gap) (struct SS (iter) it)
{
  if (PC_LIKELY (it.node->leaf))
    return (struct SS (gap)) { it.node, it.idx + 1 };
  it.node = SS (leftmost) (it.node->i.child[it.idx + 1]);
  return (struct SS (gap)) { it.node, 0 };
}

SEGSET_INLINE struct SS (iter)
SS (gap_prev) (struct SS (gap) g)
{
  if (PC_LIKELY (g.idx > 0))
    return (struct SS (iter)) { g.node, g.idx - 1 };
  return g.node ? SS (before_node) (g.node) : SEGSET_NO_ITER;
}

SEGSET_INLINE struct SS (iter)
SS (gap_next) (struct SS (gap) g)
{
  if (g.node == NULL)
    return SEGSET_NO_ITER;
  if (PC_LIKELY (g.idx < g.node->n))
    return (struct SS (iter)) { g.node, g.idx };
  return SS (after_node) (g.node);
}

SEGSET_INLINE struct SS (iter)
SS (next) (struct SS (iter) it)
{
  if (PC_LIKELY (it.node->leaf && it.idx + 1 < it.node->n))
    return (struct SS (iter)) { it.node, it.idx + 1 };
  return SS (gap_next) (SS (next_gap) (it));
}

SEGSET_INLINE struct SS (iter)
SS (prev) (struct SS (iter) it)
{
  if (PC_LIKELY (it.node->leaf && it.idx > 0))
    return (struct SS (iter)) { it.node, it.idx - 1 };
  return SS (gap_prev) (SS (prev_gap) (it));
}

SEGSET_INLINE struct range
SS (gap_range) (struct SS (gap) g)
{
  struct SS (iter) prev = SS (gap_prev) (g), next = SS (gap_next) (g);

  return (struct range) {
    SS (iter_ok) (prev) ? SS (end_at) (prev.node, prev.idx) : 0,
    SS (iter_ok) (next) ? next.node->l.start[next.idx] : UINT64_MAX,
  };
}

/* ---- search ---- */

/* How many starts in N, which is not empty, are not above KEY?  Without branches: the
 * outcome of each step is a coin toss, and a wrong guess costs more than the load (look-up at
 * 1 M ranges 1.25 of absl's with branches, 0.95 without).  Only "behind all" is asked first:
 * it is seldom so, or, when a set is loaded in order, always (load 1.1 to 0.55).
 */
SEGSET_INLINE int
SS (upper) (const struct SS (node) *n, uint64_t key)
{
  const uint64_t *start = n->l.start, *base = start;
  size_t len = n->n;

  if (key >= start[len - 1])
    return len;
  while (len > 1) {
    size_t half = len / 2;

    base += half & -(size_t) (base[half - 1] <= key);
    len -= half;
  }
  return base - start;          /* the last of the window is above KEY all the time */
}

/* Ask for the first BYTES of a node at once: a binary search would wait for its lines one
 * after the other (look-up 0.95 to 0.75, insertion 1.05 to 0.88 of absl's at 1 M).
 */
SEGSET_INLINE void
SS (prefetch) (const struct SS (node) *n, size_t bytes)
{
  for (size_t at = 0; at < bytes; at += PC_CACHE_LINE)
    __builtin_prefetch ((const char *) n + at);
}

/* The last segment that starts at or before KEY, or none, and the gap behind it.  Whoever is
 * going to change the leaf says so, and has all of it fetched.
 */
SEGSET_INLINE void
SS (locate) (const struct segset *set, uint64_t key, bool change, struct SS (iter) *pred,
             struct SS (gap) *gap)
{
  struct SS (node) *n = SS (root) (set);
  int i;

  *pred = SEGSET_NO_ITER;
  *gap = (struct SS (gap)) { NULL, 0 };
  if (n == NULL)
    return;
  for (uint32_t level = set->height; level > 1; level--) {
    i = SS (upper) (n, key);
    if (i > 0)
      *pred = (struct SS (iter)) { n, i - 1 };
    n = n->i.child[i];
    if (level > 2)
      SS (prefetch) (n, offsetof (struct SS (node), i.len));
    else
      SS (prefetch) (n, change ? SS (NODE_SIZE) : offsetof (struct SS (node), l.len));
  }
  i = SS (upper) (n, key);
  if (i > 0)
    *pred = (struct SS (iter)) { n, i - 1 };
  *gap = (struct SS (gap)) { n, i };
}

/* ---- gap tracking (SEG-31) ---- */

#if SEGSET_GAPS
SEGSET_FN uint64_t
SS (compute_maxgap) (struct SS (node) *n)
{
  uint64_t max = 0, at;

  if (!n->leaf) {
    for (int i = 0; i <= n->n; i++)
      if (n->i.child[i]->maxgap > max)
        max = n->i.child[i]->maxgap;
    return max;
  }
  at = SS (gap_range) ((struct SS (gap)) { n, 0 }).start;
  for (int i = 0; i < n->n; i++) {
    if (n->l.start[i] - at > max)
      max = n->l.start[i] - at;
    at = SS (end_at) (n, i);
  }
  at = SS (gap_range) ((struct SS (gap)) { n, n->n }).end - at;
  return at > max ? at : max;
}

/* N's own is recomputed whatever it was; upwards only as far as it changes something. */
SEGSET_FN void
SS (fix_maxgap) (struct SS (node) *n)
{
  for (; n; n = n->parent) {
    uint64_t max = SS (compute_maxgap) (n);

    if (max == n->maxgap)
      return;
    n->maxgap = max;
  }
}

/* What hangs below children I and I + 1 of P was rearranged, and the segment in between. */
SEGSET_FN void
SS (fix_maxgap_pair) (struct SS (node) *p, int i)
{
  p->i.child[i]->maxgap = SS (compute_maxgap) (p->i.child[i]);
  if (i < p->n)
    p->i.child[i + 1]->maxgap = SS (compute_maxgap) (p->i.child[i + 1]);
  SS (fix_maxgap) (p);
}

/* The segment changed its bounds. */
SEGSET_FN void
SS (fix_maxgap_around) (struct SS (iter) it)
{
  SS (fix_maxgap) (SS (prev_gap) (it).node);
  if (!it.node->leaf)
    SS (fix_maxgap) (SS (next_gap) (it).node);
}

#define SEGSET_FIX_GAPS(n) SS (fix_maxgap) (n)
#define SEGSET_FIX_GAPS_PAIR(p, i) SS (fix_maxgap_pair) (p, i)
#define SEGSET_FIX_GAPS_AROUND(it) SS (fix_maxgap_around) (it)
#else
#define SEGSET_FIX_GAPS(n) ((void) 0)
#define SEGSET_FIX_GAPS_PAIR(p, i) ((void) 0)
#define SEGSET_FIX_GAPS_AROUND(it) ((void) 0)
#endif

/* ---- marks ---- */

#ifdef SEGSET_MARK
SEGSET_FN uint8_t
SS (compute_marks) (struct SS (node) *n)
{
  const SS (val) *val = SS (vals) (n);
  uint8_t marks = 0;

  for (int i = 0; i < n->n; i++)
    marks |= SEGSET_MARK (&val[i]);
  for (int i = 0; !n->leaf && i <= n->n; i++)
    marks |= n->i.child[i]->marks;
  return marks;
}

/* As fix_maxgap. */
SEGSET_FN void
SS (fix_marks) (struct SS (node) *n)
{
  for (; n; n = n->parent) {
    uint8_t marks = SS (compute_marks) (n);

    if (marks == n->marks)
      return;
    n->marks = marks;
  }
}

SEGSET_FN void
SS (fix_marks_pair) (struct SS (node) *p, int i)
{
  p->i.child[i]->marks = SS (compute_marks) (p->i.child[i]);
  if (i < p->n)
    p->i.child[i + 1]->marks = SS (compute_marks) (p->i.child[i + 1]);
  SS (fix_marks) (p);
}

#define SEGSET_FIX_MARKS(n) SS (fix_marks) (n)
#define SEGSET_FIX_MARKS_PAIR(p, i) SS (fix_marks_pair) (p, i)
#else
#define SEGSET_FIX_MARKS(n) ((void) 0)
#define SEGSET_FIX_MARKS_PAIR(p, i) ((void) 0)
#endif

/* Both: a node has other segments; it and its right neighbour under P do; a segment has other bounds or
 * another value.
 */
#define SEGSET_FIX(n) (SEGSET_FIX_GAPS (n), SEGSET_FIX_MARKS (n))
#define SEGSET_FIX_PAIR(p, i) (SEGSET_FIX_GAPS_PAIR (p, i), SEGSET_FIX_MARKS_PAIR (p, i))
#define SEGSET_FIX_AROUND(it) (SEGSET_FIX_GAPS_AROUND (it), SEGSET_FIX_MARKS ((it).node))

/* Change the bounds in place, or just now the value.  The caller keeps order (SEG-13). */
SEGSET_INLINE void
SS (set_range) (struct SS (iter) it, struct range r)
{
  assert (r.end - r.start <= SEGSET_LEN_MAX);
  it.node->l.start[it.idx] = r.start;
  SS (lens) (it.node)[it.idx] = r.end - r.start;
  SEGSET_FIX_AROUND (it);
}

/* ---- balance ---- */

/* In all of these *G, a gap at some leaf, is followed to where it goes; NULL: nobody cares. */

/* The last K segments' worth of child I of P moves to child I + 1, through P. */
SEGSET_FN void
SS (shift_right) (struct SS (node) *p, int i, int k, struct SS (gap) *g)
{
  struct SS (node) *l = p->i.child[i], *r = p->i.child[i + 1];
  int ln = l->n - k;

  SS (move) (r, k, r, 0, r->n);
  SS (move) (r, k - 1, p, i, 1);
  SS (move) (r, 0, l, ln + 1, k - 1);
  SS (move) (p, i, l, ln, 1);
  if (!l->leaf) {
    SS (move_children) (r, k, r, 0, r->n + 1);
    SS (move_children) (r, 0, l, ln + 1, k);
  }
  l->n = ln;
  r->n += k;
  if (!l->leaf)
    SS (adopt) (r, 0);
  if (g && g->node == r)
    g->idx += k;
  else if (g && g->node == l && g->idx > ln)
    *g = (struct SS (gap)) { r, g->idx - ln - 1 };
  SEGSET_FIX_PAIR (p, i);
}

/* The first K of child I + 1 moves to child I. */
SEGSET_FN void
SS (shift_left) (struct SS (node) *p, int i, int k, struct SS (gap) *g)
{
  struct SS (node) *l = p->i.child[i], *r = p->i.child[i + 1];
  int ln = l->n;

  SS (move) (l, ln, p, i, 1);
  SS (move) (l, ln + 1, r, 0, k - 1);
  SS (move) (p, i, r, k - 1, 1);
  SS (move) (r, 0, r, k, r->n - k);
  if (!l->leaf) {
    SS (move_children) (l, ln + 1, r, 0, k);
    SS (move_children) (r, 0, r, k, r->n - k + 1);
  }
  l->n += k;
  r->n -= k;
  if (!l->leaf) {
    SS (adopt) (l, ln + 1);
    SS (adopt) (r, 0);
  }
  if (g && g->node == r && g->idx >= k)
    g->idx -= k;
  else if (g && g->node == r)
    *g = (struct SS (gap)) { l, ln + 1 + g->idx };
  SEGSET_FIX_PAIR (p, i);
}

/* Child I + 1 of P goes into child I. */
SEGSET_FN void
SS (join) (struct segset *set, struct SS (node) *p, int i, struct SS (gap) *g)
{
  struct SS (node) *l = p->i.child[i], *r = p->i.child[i + 1];
  int ln = l->n;

  assert (ln + 1 + r->n <= (l->leaf ? SS (LEAF_MAX) : SS (INNER_MAX)));
  SS (move) (l, ln, p, i, 1);
  SS (move) (l, ln + 1, r, 0, r->n);
  if (!l->leaf)
    SS (move_children) (l, ln + 1, r, 0, r->n + 1);
  l->n += 1 + r->n;
  if (!l->leaf)
    SS (adopt) (l, ln + 1);
  SS (move) (p, i, p, i + 1, p->n - i - 1);
  SS (move_children) (p, i + 1, p, i + 2, p->n - i - 1);
  p->n--;
  SS (adopt) (p, i + 1);
  if (g && g->node == r)
    *g = (struct SS (gap)) { l, ln + 1 + g->idx };
  SS (free_node) (set, r);
  SEGSET_FIX_PAIR (p, i);
}

/* Which half gets the space when a full node is split before segment IDX is inserted:
 * in the middle of the tree both, at its right (1) and left (-1) edge the new one.
 */
SEGSET_FN int
SS (edge) (struct SS (gap) g)
{
  struct SS (node) *n = g.node;

  if (g.idx == n->n) {
    while (n->parent && n->pos == n->parent->n)
      n = n->parent;
    if (!n->parent)
      return 1;
  }
  else if (g.idx == 0) {
    while (n->parent && n->pos == 0)
      n = n->parent;
    if (!n->parent)
      return -1;
  }
  return 0;
}

/* Split N, which is full.  Takes one node for each level up to one that is not, and one more
 * for a new root.
 */
SEGSET_FN void
SS (split_node) (struct segset *set, struct SS (node) *n, int edge, struct SS (gap) *g)
{
  int max = n->leaf ? SS (LEAF_MAX) : SS (INNER_MAX);
  int ln = edge > 0 ? max - 1 : edge < 0 ? 0 : max / 2;
  struct SS (node) *p = n->parent, *r;
  int i;

  if (p == NULL) {
    p = SS (take_node) (set, false);
    p->i.child[0] = n;
    SS (adopt) (p, 0);
    set->root = p;
    set->height++;
  }
  else if (p->n == SS (INNER_MAX)) {
    SS (split_node) (set, p, edge, NULL);
    p = n->parent;
  }

  r = SS (take_node) (set, n->leaf);
  r->n = max - ln - 1;
  SS (move) (r, 0, n, ln + 1, r->n);
  if (!n->leaf) {
    SS (move_children) (r, 0, n, ln + 1, r->n + 1);
    SS (adopt) (r, 0);
  }
  i = n->pos;
  SS (move) (p, i + 1, p, i, p->n - i);
  SS (move_children) (p, i + 2, p, i + 1, p->n - i);
  SS (move) (p, i, n, ln, 1);
  p->i.child[i + 1] = r;
  p->n++;
  n->n = ln;
  SS (adopt) (p, i + 1);
  if (g && g->node == n && g->idx > ln)
    *g = (struct SS (gap)) { r, g->idx - ln - 1 };
  SEGSET_FIX_PAIR (p, i);
}

/* The leaf of *G is full: can a neighbour take some, so that there is room at *G? */
SEGSET_FN bool
SS (shift_to_neighbour) (struct SS (gap) *g)
{
  struct SS (node) *n = g->node, *p = n->parent;
  int room, k;

  if (p == NULL)
    return false;
  if (n->pos > 0) {
    /* All that fits, if the next ones will come behind, too. */
    room = SS (LEAF_MAX) - p->i.child[n->pos - 1]->n;
    k = g->idx == n->n ? room : (room + 1) / 2;
    if (k > SS (LEAF_MAX) - SS (LEAF_MIN))
      k = SS (LEAF_MAX) - SS (LEAF_MIN);
    if (room > 0 && (g->idx >= k || k < room)) {
      SS (shift_left) (p, n->pos - 1, k, g);
      return true;
    }
  }
  if (n->pos < p->n) {
    room = SS (LEAF_MAX) - p->i.child[n->pos + 1]->n;
    k = g->idx == 0 ? room : (room + 1) / 2;
    if (k > SS (LEAF_MAX) - SS (LEAF_MIN))
      k = SS (LEAF_MAX) - SS (LEAF_MIN);
    if (room > 0 && (g->idx <= n->n - k || k < room)) {
      SS (shift_right) (p, n->pos, k, g);
      return true;
    }
  }
  return false;
}

/* N lost a segment: is it still full enough (SEG-9)? */
SEGSET_FN void
SS (rebalance) (struct segset *set, struct SS (node) *n, struct SS (gap) *g)
{
  for (;;) {
    int min = n->leaf ? SS (LEAF_MIN) : SS (INNER_MIN);
    struct SS (node) *p = n->parent, *l, *r;
    int k;

    if (PC_LIKELY (n->n >= min))
      return;
    if (p == NULL) {
      if (n->n > 0)
        return;
      set->height--;
      if (n->leaf) {
        set->root = NULL;
        *g = (struct SS (gap)) { NULL, 0 };
      }
      else {
        set->root = n->i.child[0];
        n->i.child[0]->parent = NULL;
        n->i.child[0]->pos = 0;
      }
      SS (free_node) (set, n);
      return;
    }
    l = n->pos > 0 ? p->i.child[n->pos - 1] : NULL;
    r = n->pos < p->n ? p->i.child[n->pos + 1] : NULL;
    /* Half of the difference, so that the next removals find something here. */
    if (l && l->n > min) {
      k = (l->n - n->n) / 2;
      SS (shift_right) (p, n->pos - 1, k < l->n - min ? k : l->n - min, g);
      return;
    }
    if (r && r->n > min) {
      k = (r->n - n->n) / 2;
      SS (shift_left) (p, n->pos, k < r->n - min ? k : r->n - min, g);
      return;
    }
    SS (join) (set, p, l ? n->pos - 1 : n->pos, g);
    n = p;
  }
}

/* ---- insert and remove ---- */

/* Spare nodes that so many insertions can take at most: each one a node for every level but the root's,
 * while the root has room for what they push up; else a new root, too.  (It has one segment; before it is split itself,
 * so many have paid for a new root without taking it that it costs nothing more.)
 * Removals before them free at least what they make more of these: to lose a level frees two nodes.
 */
SEGSET_INLINE uint32_t
SS (need) (const struct segset *set, uint32_t inserts)
{
  if (inserts == 0)
    return 0;
  if (set->height <= 1 && (uint64_t) set->nsegs + inserts <= SS (LEAF_MAX))
    return set->height == 0;
  if (set->height == 1 && inserts < SS (INNER_MAX))
    return 1 + set->nsegs + inserts - SS (LEAF_MAX);
  if (set->height > 1 && SS (root) (set)->n + (uint64_t) inserts <= SS (INNER_MAX))
    return inserts * (set->height - 1);
  return inserts * ((set->height ? set->height : 1) + 1);
}

/* SEG-21: R, inside gap G, becomes a segment of its own; *VALUE is moved in. */
SEGSET_INLINE struct SS (iter)
SS (insert_unmerged) (struct segset *set, struct SS (gap) g, struct range r,
                      const SS (val) *value)
{
  struct SS (node) *n;

  assert (r.start < r.end && r.end - r.start <= SEGSET_LEN_MAX);
  if (PC_UNLIKELY (g.node == NULL)) {
    assert (set->root == NULL);
    set->root = g.node = SS (take_node) (set, true);
    set->height = 1;
  }
  else if (PC_UNLIKELY (g.node->n == SS (LEAF_MAX))) {
    int edge = SS (edge) (g);

    if (edge || !SS (shift_to_neighbour) (&g))
      SS (split_node) (set, g.node, edge, &g);
  }
  n = g.node;
  SS (move) (n, g.idx + 1, n, g.idx, n->n - g.idx);
  n->l.start[g.idx] = r.start;
  n->l.len[g.idx] = r.end - r.start;
  n->l.val[g.idx] = *value;
  n->n++;
  set->nsegs++;
  SEGSET_TALLY (value, 1);
  SEGSET_FIX (n);
  return (struct SS (iter)) { n, g.idx };
}

/* Take the segment out; its value was moved elsewhere.  SEG-23: the gap that is there now. */
SEGSET_FN struct SS (gap)
SS (remove_raw) (struct segset *set, struct SS (iter) it)
{
  struct SS (node) *n = it.node;
  struct SS (gap) g;

  set->nsegs--;
  SEGSET_TALLY (SS (value) (it), -1);
  if (PC_LIKELY (n->leaf)) {
    n->n--;
    SS (move) (n, it.idx, n, it.idx + 1, n->n - it.idx);
    g = (struct SS (gap)) { n, it.idx };
    SEGSET_FIX (n);
  }
  else {
    /* The last one before it, always in a leaf, takes its place. */
    g = SS (next_gap) (it);
    n = SS (rightmost) (n->i.child[it.idx]);
    n->n--;
    SS (move) (it.node, it.idx, n, n->n, 1);
    SEGSET_FIX (n);
    SEGSET_FIX (g.node);
    SEGSET_FIX_MARKS (it.node);
  }
  SS (rebalance) (set, n, &g);
  return g;
}

/* ---- check ---- */

SEGSET_FN void
SS (check_node) (const struct segset *set, struct SS (node) *n, uint32_t level,
                 bool left_edge, bool right_edge, uint64_t *at, uint64_t *count)
{
  int max = n->leaf ? SS (LEAF_MAX) : SS (INNER_MAX);

  assert (n->leaf == (level == set->height));
  assert (n->n >= 1 && n->n <= max);
  if (!left_edge && !right_edge)
    assert (n->n >= max / 2);
  for (int i = 0; i <= n->n; i++) {
    if (!n->leaf) {
      assert (n->i.child[i]->parent == n && n->i.child[i]->pos == i);
      SS (check_node) (set, n->i.child[i], level + 1, left_edge && i == 0,
                       right_edge && i == n->n, at, count);
    }
    if (i == n->n)
      break;
    assert (n->l.start[i] >= *at);
    assert (SS (end_at) (n, i) > n->l.start[i]);
    *at = SS (end_at) (n, i);
    ++*count;
  }
#if SEGSET_GAPS
  assert (n->maxgap == SS (compute_maxgap) (n));
#endif
#ifdef SEGSET_MARK
  assert (n->marks == SS (compute_marks) (n));
#endif
}

/* Aborts if an invariant does not hold.  O(n). */
SEGSET_FN void
SS (check) (const struct segset *set)
{
  struct SS (node) *root = SS (root) (set);
  uint64_t at = 0, count = 0;

  if (root) {
    assert (root->parent == NULL && root->pos == 0);
    SS (check_node) (set, root, 1, true, true, &at, &count);
  }
  else
    assert (set->height == 0);
  assert (count == set->nsegs);
}

#endif /* SEGTREE_ALONE */
