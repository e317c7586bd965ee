/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-evict - may this page leave, and what of the export is held at all?
 *
 * A page leaves if no byte of it is newer than the origin (in any state: WRITING and UNSTABLE are dirty, D3),
 * nobody uses its frame but the map, and no fill is about to complete it (CON-6, MFL-8).  The
 * question is asked under the stripe's lock, long after the policy chose the frame.  Victims come in runs, as they were read
 * or written, and leave so: one look into each set, one hold of the policy's lock and one removal for all of a run.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "inode-priv.h"

#define RUN_MAX 64

/* Victims of one stripe, in the order of their pages. */
struct victims {
  const uint32_t *frames;
  const uint64_t *pgnos;
  unsigned n;
  enum inode_evict verdict[RUN_MAX];
};

static struct range
pages (uint64_t first, uint64_t n)
{
  return (struct range) { first << PAGE_SHIFT, (first + n) << PAGE_SHIFT };
}

/* How many from i on are neighbours (and, if so wanted, have the same verdict)? */
static unsigned
neighbours (const struct victims *v, unsigned i, bool same)
{
  unsigned k = i + 1;

  while (k < v->n && v->pgnos[k] == v->pgnos[k - 1] + 1 && (!same || v->verdict[k] == v->verdict[i]))
    k++;
  return k - i;
}

static bool
is_dirty (struct stripe *st, struct range r)
{
  if (PLANTED (PLANT_EVICT_WRITING) && dirtyset_overlaps (&st->dirty, r, WB_BIT (WB_WRITING)))
    return false;
  return dirtyset_overlaps (&st->dirty, r, WB_NOT_CLEAN);
}

/* n neighbours from i on.  The sets are asked once for all of them; page by page only where something is in the way of
 * some.
 */
static void
judge_run (struct inode *ino, struct stripe *st, struct victims *v, unsigned i, unsigned n)
{
  struct range all = pages (v->pgnos[i], n), piece = { 0, 0 };
  bool dirty = is_dirty (st, all), filled = fill_in_way (st, all), some = true;
  uint32_t first = 0;

  for (; n > 0; i++, n--) {
    struct range page = pages (v->pgnos[i], 1);

    if (some && piece.end <= page.start)
      some = rangeset_next (&st->map, (struct range) { page.start, all.end }, &piece, &first);
    if (!some || piece.start >= page.end || rangeset_frame_of (piece.start, first, page.start) != v->frames[i])
      v->verdict[i] = INODE_EVICT_MOVED;
    else if (dirty && is_dirty (st, page))
      v->verdict[i] = INODE_EVICT_DIRTY;
    else if (frame_refs (memfile_frame (ino->env->mf, v->frames[i])) > 1 || (filled && fill_in_way (st, page)))
      v->verdict[i] = INODE_EVICT_BUSY;
    else
      v->verdict[i] = INODE_EVICTED;
  }
}

/* A run out of the middle of a segment makes two of it: see to nodes, or it stays. */
static void
see_to_nodes (struct stripe *st, struct victims *v)
{
  unsigned i, k, inserts = 0;

  for (i = 0; i < v->n; i += k) {
    k = neighbours (v, i, true);
    if (v->verdict[i] != INODE_EVICTED || !rangeset_remove_inserts (&st->map, pages (v->pgnos[i], k)))
      continue;
    if (segnodes_reserve (&st->nodes, rangeset_need (&st->map, inserts + 1)) == 0)
      inserts++;
    else
      for (unsigned j = i; j < i + k; j++)
        v->verdict[j] = INODE_EVICT_BUSY;
  }
}

/* Who is not picked any more went and came back since it was chosen.  A page that is mapped is in a queue or
 * picked, and comes back from being picked under its stripe's lock only: what is found here stays so.
 */
static void
see_who_is_picked (struct inode *ino, struct victims *v)
{
  struct inode_env *env = ino->env;

  for (unsigned i = 0; i < v->n; i++)
    evict_expect (env->evict, evict_key (ino->id, v->pgnos[i]));
  lock_take (&env->evict_lock);
  for (unsigned i = 0; i < v->n; i++)
    if (!evict_is_picked (env->evict, v->frames[i]))
      v->verdict[i] = INODE_EVICT_MOVED;
  lock_drop (&env->evict_lock);
}

/* Tell the policy.  Returns how many go that nobody had asked for. */
static unsigned
tell_policy (struct inode *ino, struct victims *v)
{
  struct inode_env *env = ino->env;
  unsigned wasted = 0;

  lock_take (&env->evict_lock);
  for (unsigned i = 0; i < v->n; i++)
    if (v->verdict[i] == INODE_EVICTED)
      wasted += evict_gone (env->evict, v->frames[i], evict_key (ino->id, v->pgnos[i]));
    else if (v->verdict[i] != INODE_EVICT_MOVED)
      evict_unpick (env->evict, v->frames[i], v->verdict[i] == INODE_EVICT_DIRTY ? EVICT_DIRTY : EVICT_BUSY);
  lock_drop (&env->evict_lock);
  return wasted;
}

/* The stripe is held exclusively throughout: verdict, policy and map agree.  Frames that went to gone. */
static unsigned
evict_some (struct inode *ino, struct stripe *st, struct victims *v, uint32_t *gone, unsigned *dirty)
{
  unsigned i, k, ngone = 0, wasted;

  for (i = 0; i < v->n; i += k) {
    k = neighbours (v, i, false);
    judge_run (ino, st, v, i, k);
  }
  see_who_is_picked (ino, v);
  see_to_nodes (st, v);
  wasted = tell_policy (ino, v);
  for (i = 0; i < v->n; i += k) {
    k = neighbours (v, i, true);
    if (v->verdict[i] == INODE_EVICTED) {
      rangeset_remove (&st->map, pages (v->pgnos[i], k), NULL, NULL);
      memcpy (gone + ngone, v->frames + i, k * sizeof *gone);
      ngone += k;
    }
    else if (v->verdict[i] == INODE_EVICT_DIRTY)
      *dirty += k;
  }
  if (wasted)
    STAT_ADD (ino, readahead_wasted, wasted * PAGE_SIZE);
  return ngone;
}

/* Those that are mapped; the stripe is held. */
static unsigned
mapped_of (struct inode *ino, const struct victims *v, uint64_t *mapped)
{
  unsigned i, n = 0;

  for (i = 0; i < v->n; i++)
    if (v->verdict[i] == INODE_EVICT_BUSY && frame_maps (memfile_frame (ino->env->mf, v->frames[i])))
      mapped[n++] = v->pgnos[i];
  return n;
}

unsigned
inode_evict_run (struct inode *ino, const uint32_t *frames, const uint64_t *pgnos, unsigned n, unsigned *dirty)
{
  uint32_t gone[2 * RUN_MAX];
  uint64_t mapped[RUN_MAX];
  unsigned i, ngone = 0, nmapped, total = 0;

  for (i = 0; i < n; ) {
    struct stripe *st = inode_stripe (ino, pgnos[i] << PAGE_SHIFT);
    struct victims v = { .frames = frames + i, .pgnos = pgnos + i };

    while (i < n && v.n < RUN_MAX && inode_stripe (ino, pgnos[i] << PAGE_SHIFT) == st) {
      v.n++;
      i++;
    }
    rwlock_take (&st->lock);
    ngone += evict_some (ino, st, &v, gone + ngone, dirty);
    nmapped = mapped_of (ino, &v, mapped);
    stripe_trim (st);
    rwlock_drop (&st->lock);
    /* They stay another turn, but without their translations: who still uses them faults, which the policy sees (D13). */
    map_unmap_pages (ino, mapped, nmapped);
    if (ngone >= RUN_MAX || i == n) {
      memfile_put_many (ino->env->mf, gone, ngone);
      total += ngone;
      ngone = 0;
    }
  }
  if (total)
    STAT_ADD (ino, evicted, total);
  return total;
}

/* Drop what is clean in r of one stripe, page by page where it is mixed.  ENOMEM: something could not go. */
static int
invalidate_stripe (struct inode *ino, struct stripe *st, struct range r)
{
  struct range piece;
  uint32_t frame;
  int err = 0;

  rwlock_take (&st->lock);
  fill_kill (st, r);
  while (r.start < r.end && rangeset_next (&st->map, r, &piece, &frame)) {
    struct range page = { page_of (piece.start), page_of (piece.start) + PAGE_SIZE };

    r.start = page.end;
    if (dirtyset_overlaps (&st->dirty, page, WB_NOT_CLEAN))
      continue;
    if (rangeset_remove_inserts (&st->map, page)
        && (err = segnodes_reserve (&st->nodes, rangeset_need (&st->map, 1))) != 0)
      break;
    map_remove (ino, st, page);
  }
  rwlock_drop (&st->lock);
  return err;
}

int
drop_clean (struct inode *ino, struct range r)
{
  unsigned i;
  int err = 0, e;

  /* First, or a page that is made of a hole in a stripe that was passed already is left behind. */
  inode_forget_holes (ino);
  for (i = 0; i < NSTRIPES; i++) {
    e = invalidate_stripe (ino, &ino->stripe[i], r);
    err = e ? e : err;
  }
  return err;
}

int
inode_invalidate (struct inode *ino, struct range r)
{
  int err;

  /* First nobody can map what is to go, then those who have it give it back (CIN-41). */
  map_stop (ino, r, 0);
  err = drop_clean (ino, r);
  map_go (ino);
  inode_env_wake_memory (ino->env);
  return err;
}

bool
inode_is_empty (struct inode *ino)
{
  bool empty = atomic_load (&ino->nmappings) == 0 && atomic_load (&ino->nmapped) == 0;
  unsigned i;

  for (i = 0; i < NSTRIPES && empty; i++) {
    struct stripe *st = &ino->stripe[i];

    rwlock_take_shared (&st->lock);
    /* What is dirty has its page in the map. */
    empty = rangeset_is_empty (&st->map) && list_is_empty (&st->fills);
    rwlock_drop (&st->lock);
  }
  if (empty) {
    struct inode_dirty d = inode_get_dirty (ino);

    empty = d.dirty + d.writing + d.unstable == 0;
  }
  return empty;
}

/* The first dirty data from pos on: O(log n) for each stripe. */
static bool
next_dirty (struct inode *ino, uint64_t pos, struct range *first)
{
  bool found = false;
  unsigned i;

  first->start = UINT64_MAX;
  for (i = 0; i < NSTRIPES; i++) {
    struct stripe *st = &ino->stripe[i];
    struct dirty_value v;
    struct range seg;

    rwlock_take_shared (&st->lock);
    if (dirtyset_next (&st->dirty, pos, WB_NOT_CLEAN, WB_SEQ_ANY, &seg, &v)
        && seg.start < first->start) {
      *first = seg;
      found = true;
    }
    rwlock_drop (&st->lock);
  }
  return found;
}

int
inode_dirty_ranges (struct inode *ino, int (*fn) (void *, struct range), void *arg)
{
  struct range r;
  struct zero_value zv;
  uint64_t pos;
  int err = 0;

  /* Data first, in file order; a failed exit is no hot path. */
  for (pos = 0; !err && next_dirty (ino, pos, &r); pos = r.end)
    err = fn (arg, r);
  for (pos = 0; !err; pos = r.end) {
    bool found;

    rwlock_take_shared (&ino->zlock);
    found = zeroset_next (&ino->zeros, (struct range) { pos, RANGE_ALL.end }, WB_NOT_CLEAN, WB_SEQ_ANY, &r, &zv);
    rwlock_drop (&ino->zlock);
    if (!found)
      break;
    err = fn (arg, r);
  }
  return err;
}
