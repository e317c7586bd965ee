/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-attr - see inode-attr.h.
 */
#include <config.h>

#include <errno.h>
#include <string.h>

#include "inode-attr.h"
#include "inode-map.h"
#include "inode-priv.h"

static unsigned
dirty_attr (struct inode *ino)
{
  unsigned dirty = 0;

  if (inode_end (ino) != ino->size)
    dirty |= INODE_ATTR_SIZE;
  if (ino->origin->info.can_zero && !atomic_load (&ino->can_zero))
    dirty |= INODE_ATTR_ZERO;
  return dirty;
}

void
inode_get_attr (struct inode *ino, struct inode_attr *attr)
{
  lock_take (&ino->attr);
  *attr = (struct inode_attr) {
    .size = ino->size, .end = inode_end (ino), .block_min = ino->block_min,
    .read_only = ino->origin->info.read_only, .can_flush = ino->can_flush, .can_fua = ino->can_fua,
    .can_trim = ino->can_trim, .can_zero = atomic_load (&ino->can_zero), .dirty = dirty_attr (ino),
    .err = atomic_load (&ino->failed_err),
  };
  lock_drop (&ino->attr);
}

/* What is clean in r, part of one page that has a new end before it, is nobody's: zeros in a frame that is mapped
 * (CIN-28).  What is dirty stays, and stays kept (sem.L-1).
 */
static int
cut_page (struct inode *ino, struct range r)
{
  struct stripe *st = inode_stripe (ino, r.start);
  struct range piece;
  uint32_t frame;
  int err = 0;

  rwlock_take (&st->lock);
  fill_kill (st, r);
  while (!err && r.start < r.end && rangeset_next (&st->map, r, &piece, &frame)) {
    struct range seg;
    struct dirty_value v;

    /* Up to the next dirty byte. */
    if (dirtyset_next (&st->dirty, piece.start, WB_NOT_CLEAN, UINT32_MAX, &seg, &v) && seg.start < piece.end) {
      r.start = seg.end;
      if (seg.start <= piece.start)
        continue;
      piece.end = seg.start;
    }
    else
      r.start = piece.end;
    err = segnodes_reserve (&st->nodes, rangeset_need (&st->map, 1));
    if (err)
      break;
    if (frame_maps (memfile_frame (ino->env->mf, frame)))
      memset (memfile_addr (ino->env->mf, frame) + (piece.start & (PAGE_SIZE - 1)), 0, range_len (piece));
    map_remove (ino, st, piece);
  }
  rwlock_drop (&st->lock);
  return err;
}

/* Nothing clean is left in r, which begins at an end of the origin. */
static int
cut (struct inode *ino, struct range r)
{
  uint64_t pgend = (r.start + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
  int err = 0, e;

  if (pgend > r.end)
    pgend = r.end;
  if (r.start < pgend)
    err = cut_page (ino, (struct range) { r.start, pgend });
  if (pgend < r.end) {
    e = drop_clean (ino, (struct range) { pgend, r.end });
    err = err ? err : e;
  }
  else
    inode_forget_holes (ino);
  return err;
}

static int
shrink_locked (struct inode *ino, uint64_t from, uint64_t to)
{
  uint64_t pgend = (to + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);

  atomic_store (&ino->end, to);
  /* Nobody translates there any more. */
  if (pgend < from)
    inode_unmap (ino, (struct range) { pgend, (from + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1) }, MAPPING_PRIVATE);
  return cut (ino, (struct range) { to, from });
}

/* The page that the old end cut must be asked for anew, so nobody may have it mapped as it is. */
static int
grow_locked (struct inode *ino, uint64_t from, uint64_t to)
{
  struct range page = { page_of (from), page_of (from) + PAGE_SIZE };
  struct stripe *st = inode_stripe (ino, from);
  uint32_t frame;
  bool mapped;
  int err;

  err = cut (ino, (struct range) { from, to });
  if (err)
    return err;
  if (page.start == from) {
    atomic_store (&ino->end, to);
    return 0;
  }
  map_stop (ino, page, 0);
  rwlock_take (&st->lock);
  mapped = rangeset_page_frame (&st->map, page.start, &frame)
           && frame_maps (memfile_frame (ino->env->mf, frame)) > 0;
  if (!mapped)
    atomic_store (&ino->end, to);
  rwlock_drop (&st->lock);
  map_go (ino);
  return mapped ? EBUSY : 0;
}

/* To where it was told to be.  attr is held. */
static int
move_end_locked (struct inode *ino)
{
  uint64_t told = atomic_load (&ino->end_told), end = inode_end (ino);
  int err = 0;

  if (told < end)
    err = shrink_locked (ino, end, told);
  else if (told > end)
    err = grow_locked (ino, end, told);
  if (told > end && !err) {
    /* What could not be written may be now. */
    lock_take (&ino->sync);
    ino->retry_at_ns = 0;
    lock_drop (&ino->sync);
  }
  return err;
}

int
inode_set_size (struct inode *ino, uint64_t size)
{
  int err;

  lock_assert_none_held ();
  if (size > ino->size)
    return EBUSY;
  lock_take (&ino->attr);
  atomic_store (&ino->end_told, size);
  err = move_end_locked (ino);
  lock_drop (&ino->attr);
  inode_env_wake_memory (ino->env);
  ino->env->dirtied (ino->env->hook_arg, ino);
  return err;
}

/* Pinned pages and want of memory pass; writeback_turn tries again, after a while: who asked for another turn here would get it
 * at once.
 */
bool
inode_settle_size (struct inode *ino)
{
  bool there;

  if (atomic_load (&ino->end_told) == inode_end (ino))
    return true;
  lock_take (&ino->attr);
  there = move_end_locked (ino) == 0;
  lock_drop (&ino->attr);
  if (there) {
    inode_env_wake_memory (ino->env);
    ino->env->dirtied (ino->env->hook_arg, ino);
  }
  return there;
}

void
attr_resized (struct inode *ino, uint64_t end)
{
  inode_set_size (ino, end < ino->size ? end : ino->size);
}
