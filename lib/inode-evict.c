/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-evict - may this page leave, and what of the export is held at all?
 *
 * A page leaves if no byte of it is newer than the origin (in any state: WRITING and UNSTABLE are dirty, D3),
 * nobody uses its frame but the map, and no fill is about to complete it (CON-6, MFL-8).  The
 * question is asked under the stripe's lock, long after the policy chose the frame.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>

#include "inode-priv.h"

static enum inode_evict
may_leave (struct inode *ino, struct stripe *st, uint32_t frame, struct range page)
{
  if (PLANTED (PLANT_EVICT_WRITING) && dirtyset_overlaps (&st->dirty, page, WB_BIT (WB_WRITING)))
    return INODE_EVICTED;
  if (dirtyset_overlaps (&st->dirty, page, WB_NOT_CLEAN))
    return INODE_EVICT_DIRTY;
  if (frame_refs (memfile_frame (ino->env->mf, frame)) > 1 || fill_in_way (st, page))
    return INODE_EVICT_BUSY;
  /* A page out of the middle of a segment makes two of it. */
  if (rangeset_remove_inserts (&st->map, page)
      && segnodes_reserve (&st->nodes, rangeset_need (&st->map, 1)) != 0)
    return INODE_EVICT_BUSY;
  return INODE_EVICTED;
}

/* The verdict reaches the policy while the stripe is held: a page that is mapped is in a queue or picked, and
 * that changes under its stripe's lock only (but for being picked).
 */
static enum inode_evict
evict_one (struct inode *ino, struct stripe *st, uint32_t frame, uint64_t pgno)
{
  struct inode_env *env = ino->env;
  struct range page = { pgno << PAGE_SHIFT, (pgno + 1) << PAGE_SHIFT };
  enum inode_evict ret;
  uint32_t there;
  bool wasted = false;

  if (!rangeset_page_frame (&st->map, page.start, &there) || there != frame)
    return INODE_EVICT_MOVED;
  ret = may_leave (ino, st, frame, page);
  lock_take (&env->evict_lock);
  if (!evict_is_picked (env->evict, frame))
    ret = INODE_EVICT_MOVED;    /* gone and come back since it was chosen */
  else if (ret == INODE_EVICTED)
    wasted = evict_gone (env->evict, frame, evict_key (ino->id, pgno));
  else
    evict_unpick (env->evict, frame, ret == INODE_EVICT_DIRTY ? EVICT_DIRTY : EVICT_BUSY);
  lock_drop (&env->evict_lock);
  if (ret == INODE_EVICTED)
    rangeset_remove (&st->map, page, NULL, NULL);
  if (wasted)
    STAT_ADD (ino, readahead_wasted, PAGE_SIZE);
  return ret;
}

unsigned
inode_evict_run (struct inode *ino, const uint32_t *frames, const uint64_t *pgnos, unsigned n, unsigned *dirty)
{
  struct stripe *held = NULL;
  uint32_t gone[64];
  unsigned i, ngone = 0, total = 0;

  for (i = 0; i < n; i++) {
    struct stripe *st = inode_stripe (ino, pgnos[i] << PAGE_SHIFT);
    enum inode_evict e;

    if (st != held) {
      if (held) {
        stripe_trim (ino, held);
        rwlock_drop (&held->lock);
      }
      rwlock_take (&st->lock);
      held = st;
    }
    e = evict_one (ino, st, frames[i], pgnos[i]);
    if (e == INODE_EVICTED)
      gone[ngone++] = frames[i];
    else if (e == INODE_EVICT_DIRTY)
      ++*dirty;
    if (ngone == 64 || i + 1 == n) {
      memfile_put_many (ino->env->mf, gone, ngone);
      total += ngone;
      ngone = 0;
    }
  }
  if (held) {
    stripe_trim (ino, held);
    rwlock_drop (&held->lock);
  }
  if (total)
    STAT_ADD (ino, evicted, total);
  return total;
}

/* Drop what is clean in r of one stripe, page by page where it is mixed.  True: something could not go. */
static void
invalidate_stripe (struct inode *ino, struct stripe *st, struct range r)
{
  struct range piece;
  uint32_t frame;

  rwlock_take (&st->lock);
  fill_kill (st, r);
  while (rangeset_next (&st->map, r, &piece, &frame)) {
    struct range page = { page_of (piece.start), page_of (piece.start) + PAGE_SIZE };

    r.start = page.end;
    if (dirtyset_overlaps (&st->dirty, page, WB_NOT_CLEAN)) {
      if (r.start >= r.end)
        break;
      continue;
    }
    if (rangeset_remove_inserts (&st->map, page)
        && segnodes_reserve (&st->nodes, rangeset_need (&st->map, 1)) != 0)
      break;
    map_remove (ino, st, page);
    if (r.start >= r.end)
      break;
  }
  rwlock_drop (&st->lock);
}

void
inode_invalidate (struct inode *ino, struct range r)
{
  unsigned i;

  for (i = 0; i < NSTRIPES; i++)
    invalidate_stripe (ino, &ino->stripe[i], r);
  inode_forget_holes (ino);
  inode_env_wake_memory (ino->env);
}

bool
inode_is_empty (struct inode *ino)
{
  bool empty = true;
  unsigned i;

  for (i = 0; i < NSTRIPES && empty; i++) {
    struct stripe *st = &ino->stripe[i];

    rwlock_take_shared (&st->lock);
    empty = rangeset_is_empty (&st->map) && dirtyset_is_empty (&st->dirty) && list_is_empty (&st->fills);
    rwlock_drop (&st->lock);
  }
  if (empty) {
    struct inode_dirty d = inode_get_dirty (ino);

    empty = d.dirty + d.writing + d.unstable == 0;
  }
  return empty;
}

int
inode_dirty_ranges (struct inode *ino, int (*fn) (void *, struct range), void *arg)
{
  struct range seg = { 0, 0 }, z;
  uint64_t pos = 0, nstripes = (ino->size + STRIPE_LEN - 1) >> STRIPE_SHIFT, k;
  struct dirty_value v;
  struct zero_value zv;
  int err = 0;

  /* Data first, stripe by stripe in file order where there is any; a failed exit is no hot path. */
  for (k = 0; k < nstripes && !err; k++) {
    struct stripe *st = &ino->stripe[k % NSTRIPES];

    if (k >= NSTRIPES && k % NSTRIPES == 0) {
      struct inode_dirty d = inode_get_dirty (ino);

      if (d.dirty + d.writing + d.unstable == 0)
        break;
    }
    rwlock_take_shared (&st->lock);
    if (!dirtyset_is_empty (&st->dirty)) {
      uint64_t from = k << STRIPE_SHIFT;

      while (!err && dirtyset_next (&st->dirty, from, WB_NOT_CLEAN, UINT32_MAX, &seg, &v)
             && seg.start < (k + 1) << STRIPE_SHIFT) {
        from = seg.end;
        rwlock_drop (&st->lock);
        err = fn (arg, seg);
        rwlock_take_shared (&st->lock);
      }
    }
    rwlock_drop (&st->lock);
  }
  while (!err) {
    bool found;

    rwlock_take_shared (&ino->zlock);
    found = zeroset_next (&ino->zeros, pos, WB_NOT_CLEAN, UINT32_MAX, &z, &zv);
    rwlock_drop (&ino->zlock);
    if (!found)
      break;
    pos = z.end;
    err = fn (arg, z);
  }
  return err;
}
