/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: how do mappings come, go and hear of changes?  See mappingset.h.
 */
#include <config.h>

#include <assert.h>

#include "mappingset.h"

/* One mapping of one segment; the lists are sorted by cell_order. */
struct cell {
  struct cell *next;
  void *space;
  uint64_t distance;            /* address less offset, modulo 2^64 */
  bool writable;
};

_Static_assert (sizeof (struct cell) == MAPPINGSET_CELL, "as the header says");

static int
cell_order (const struct cell *a, const struct cell *b)
{
  if (a->space != b->space)
    return (uintptr_t) a->space < (uintptr_t) b->space ? -1 : 1;
  if (a->writable != b->writable)
    return a->writable < b->writable ? -1 : 1;
  return (a->distance > b->distance) - (a->distance < b->distance);
}

static bool
lists_equal (const struct cell *a, const struct cell *b)
{
  for (; a && b; a = a->next, b = b->next)
    if (cell_order (a, b) != 0)
      return false;
  return a == b;
}

static struct segnodes *
cells_of (struct segset *set)
{
  return container_of (set, struct mappingset, set)->cells;
}

static void
list_free (struct segset *set, struct cell *list)
{
  while (list) {
    struct cell *next = list->next;

    segnodes_push (cells_of (set), list);
    list = next;
  }
}

static struct cell *
list_dup (struct segset *set, const struct cell *list)
{
  struct cell *first = NULL, **end = &first;

  for (; list; list = list->next) {
    *end = segnodes_pop (cells_of (set));
    **end = *list;
    end = &(*end)->next;
  }
  *end = NULL;
  return first;
}

#define SEGSET_NAME maps
#define SEGSET_VALUE struct cell *
#define SEGSET_MERGE(r1, v1, r2, v2, out) \
  (lists_equal (*(v1), *(v2)) && (list_free (set, *(v2)), *(out) = *(v1), true))
#define SEGSET_SPLIT(r, v, at, out1, out2)                                    \
  do {                                                                        \
    *(out1) = *(v);                                                           \
    *(out2) = list_dup (set, *(v));                                           \
  } while (0)
#define SEGSET_DEINIT(v) list_free (set, *(v))
#include "segset.h"

void
mappingset_init (struct mappingset *ms, struct segnodes *nodes, struct segnodes *cells)
{
  assert (cells->size >= sizeof (struct cell));
  maps_init (&ms->set, nodes);
  ms->cells = cells;
}

void
mappingset_release (struct mappingset *ms)
{
  maps_remove_all (&ms->set);
}

struct mappingset_wants
mappingset_wants (const struct mappingset *ms, struct range offs)
{
  struct mappingset_wants wants = { 0, 0 };
  uint32_t inserts = maps_edit_inserts (&ms->set, offs);

  /* A cell for what is added to each segment and each gap; inserts counts the gaps. */
  wants.nodes = maps_need (&ms->set, inserts);
  wants.cells = inserts;
  for (struct maps_iter it = maps_lower_bound (&ms->set, offs.start);
       maps_iter_ok (it) && maps_range (it).start < offs.end; it = maps_next (it)) {
    struct range r = maps_range (it);
    uint32_t cuts = range_can_split (r, offs.start) + range_can_split (r, offs.end);

    wants.cells++;
    for (struct cell *c = *maps_value (it); cuts && c; c = c->next)
      wants.cells += cuts;
  }
  return wants;
}

/* Puts adjacent ranges together before somebody is told. */
struct teller {
  mappingset_edge_fn *fn;
  void *arg;
  struct range pending;
};

static void
tell (struct teller *t, struct range r)
{
  if (t->fn && t->pending.end == r.start && t->pending.start < t->pending.end) {
    t->pending.end = r.end;
    return;
  }
  if (t->fn && t->pending.start < t->pending.end)
    t->fn (t->arg, t->pending);
  t->pending = r;
}

static struct range
offsets (struct range addrs, uint64_t off)
{
  assert (range_len (addrs) <= UINT64_MAX - off);
  return (struct range) { off, off + range_len (addrs) };
}

/* Where in LIST is KEY, or where would it be? */
static struct cell **
find_cell (struct cell **list, const struct cell *key)
{
  while (*list && cell_order (*list, key) < 0)
    list = &(*list)->next;
  return list;
}

static bool
is_there (struct cell **at, const struct cell *key)
{
  return *at && cell_order (*at, key) == 0;
}

void
mappingset_add (struct mappingset *ms, void *space, struct range addrs, uint64_t off,
                bool writable, mappingset_edge_fn *first, void *arg)
{
  struct range r = offsets (addrs, off);
  struct cell key = { NULL, space, addrs.start - off, writable }, *c;
  struct teller teller = { first, arg, { 0, 0 } };
  struct maps_iter it;
  uint64_t at;
  bool merged;

  for (at = r.start; at < r.end; at = maps_range (it).end) {
    struct maps_place p = maps_find (&ms->set, at);

    if (maps_iter_ok (p.seg)) {
      struct cell **place = find_cell (maps_value (p.seg), &key);

      it = p.seg;
      if (!is_there (place, &key)) {
        it = maps_isolate (&ms->set, it, r);
        place = find_cell (maps_value (it), &key);
        c = segnodes_pop (ms->cells);
        *c = key;
        c->next = *place;
        *place = c;
      }
      it = maps_merge_prev (&ms->set, it, &merged);
    }
    else {
      struct range gap = range_intersect (maps_gap_range (p.gap), r);

      c = segnodes_pop (ms->cells);
      *c = key;
      tell (&teller, gap);
      it = maps_insert_behind (&ms->set, p.gap, gap, &c);
    }
  }
  maps_merge_adjacent (&ms->set, r);
  tell (&teller, r);
}

void
mappingset_remove (struct mappingset *ms, void *space, struct range addrs, uint64_t off,
                   bool writable, mappingset_edge_fn *last, void *arg)
{
  struct range r = offsets (addrs, off), piece;
  struct cell key = { NULL, space, addrs.start - off, writable }, *c;
  struct teller teller = { last, arg, { 0, 0 } };
  struct maps_iter it = maps_find_segment (&ms->set, r.start);
  bool merged;

  if (range_is_empty (r))
    return;
  assert (maps_iter_ok (it));
  while (maps_iter_ok (it) && maps_range (it).start < r.end) {
    struct cell **place = find_cell (maps_value (it), &key);

    if (is_there (place, &key)) {
      it = maps_isolate (&ms->set, it, r);
      piece = maps_range (it);
      place = find_cell (maps_value (it), &key);
      c = *place;
      *place = c->next;
      segnodes_push (ms->cells, c);
      if (*maps_value (it) == NULL) {
        tell (&teller, piece);
        it = maps_gap_next (maps_remove (&ms->set, it));
        continue;
      }
    }
    /* What did not change may be equal now to what did. */
    it = maps_next (maps_merge_prev (&ms->set, it, &merged));
  }
  maps_merge_adjacent (&ms->set, r);
  tell (&teller, r);
}

void
mappingset_invalidate (const struct mappingset *ms, struct range offs,
                       mappingset_invalidate_fn *fn, void *arg)
{
  for (struct maps_iter it = maps_lower_bound (&ms->set, offs.start);
       maps_iter_ok (it) && maps_range (it).start < offs.end; it = maps_next (it)) {
    struct range r = range_intersect (maps_range (it), offs);

    if (range_is_empty (r))
      continue;
    for (struct cell *c = *maps_value (it); c; c = c->next)
      fn (arg, c->space, (struct range) { r.start + c->distance, r.end + c->distance },
          r.start, c->writable);
  }
}

void
mappingset_check (const struct mappingset *ms)
{
  maps_check (&ms->set);
  for (struct maps_iter it = maps_first (&ms->set); maps_iter_ok (it); it = maps_next (it)) {
    assert (*maps_value (it) != NULL);
    for (struct cell *c = *maps_value (it); c->next; c = c->next)
      assert (cell_order (c, c->next) < 0);
  }
}
