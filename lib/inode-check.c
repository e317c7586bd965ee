/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-check - do the books of an inode agree with each other?
 *
 *   (1) each set's own invariants; everything of stripe s lies in MiBs k with k % NSTRIPES == s
 *   (2) a DIRTY, WRITING or UNSTABLE byte is valid in the map (sem.L-17)
 *   (3) a byte in zeros is in no map and no dirty set; zero ranges on their way are whole units
 *   (4) a page's frame has a reference for the map and one for each translation, and its owner field names the page
 *   (5) bytes by state, bytes DIRTY by stripe and pending bytes by generation (kept ones also while they travel) are what a recount gives
 *   (6) requests under way do not overlap each other (N-21)
 *   (7) what is DIRTY is seen by each flush that waits for its generation
 *   (8) a frame with translations is not sent from, its page is all there; with writable ones all of it is kept, and
 *       nothing else is
 *
 * Takes each lock in turn; other threads may work meanwhile only if the caller does not mind (5) being
 * asserted between their steps: so, call it when none does.
 */
#include <config.h>

#include <assert.h>
#include <string.h>

#include "inode-priv.h"

struct tally {
  uint64_t bytes[3], zbytes[3];
  unsigned nzeros;              /* that are not clean */
  uint64_t pending[NGENS];
};

static unsigned
gen_index (struct inode *ino, uint32_t seq)
{
  unsigned i;

  for (i = ino->ngens; i-- > 1; )
    if (seq_le (ino->gen[(ino->gen_first + i) % NGENS].lo, seq))
      return i;
  return 0;
}

static void
check_translations (struct inode *ino, struct stripe *st, uint64_t pgoff, struct frame *f)
{
  struct range page = { pgoff, pgoff + PAGE_SIZE }, seg = page;
  struct dirty_value v;
  bool kept = frame_maps_write (f) > 0;

  if (page.end > inode_end (ino))
    page.end = inode_end (ino);
  assert (frame_refs (f) >= 1 + frame_maps (f));
  assert (frame_maps (f) >= frame_maps_write (f));
  if (frame_maps (f) == 0 || page.start >= page.end)
    return;
  assert (!frame_is_sending (f));
  assert (rangeset_covers (&st->map, page));
  for (; kept && page.start < page.end; page.start = seg.end) {
    assert (dirtyset_find (&st->dirty, page.start, &seg, &v));
    assert (v.keep);
  }
}

static void
check_kept (struct inode *ino, struct stripe *st, struct range seg)
{
  uint64_t off;

  for (off = page_of (seg.start); off < seg.end && !atomic_load (&ino->keep_late); off += PAGE_SIZE) {
    uint32_t frame;

    assert (rangeset_page_frame (&st->map, off, &frame));
    assert (frame_maps_write (memfile_frame (ino->env->mf, frame)) > 0);
  }
}

static void
check_map (struct inode *ino, struct stripe *st, unsigned s)
{
  struct range all = { 0, ino->size }, piece, z;
  struct zero_value zv;
  uint32_t frame;

  rangeset_check (&st->map);
  while (!range_is_empty (all) && rangeset_next (&st->map, all, &piece, &frame)) {
    uint64_t off;

    assert ((piece.start >> STRIPE_SHIFT) % NSTRIPES == s);
    assert (piece.start >> STRIPE_SHIFT == (piece.end - 1) >> STRIPE_SHIFT);
    assert (!zeroset_next_piece (&ino->zeros, piece, &z, &zv));
    for (off = page_of (piece.start); off < piece.end; off += PAGE_SIZE, frame++) {
      struct frame *f = memfile_frame (ino->env->mf, frame);

      assert (frame_refs (f) >= 1);
      assert (memfile_owner (ino->env->mf, frame) == frame_owner (ino->id, off >> PAGE_SHIFT));
      assert (evict_has (ino->env->evict, frame));
      check_translations (ino, st, page_of (off), f);
    }
    all.start = piece.end;
  }
}

static void
check_dirty (struct inode *ino, struct stripe *st, unsigned s, struct tally *t)
{
  uint64_t from = 0, ndirty = 0;
  struct dirty_value v;
  struct range seg;

  dirtyset_check (&st->dirty);
  while (dirtyset_next (&st->dirty, from, WB_NOT_CLEAN, WB_SEQ_ANY, &seg, &v)) {
    assert ((seg.start >> STRIPE_SHIFT) % NSTRIPES == s);
    assert (rangeset_covers (&st->map, seg));
    if (v.keep)
      check_kept (ino, st, seg);
    t->bytes[v.state] += range_len (seg);
    if (v.state == WB_DIRTY)
      ndirty += range_len (seg);
    if (v.state == WB_DIRTY || (v.state == WB_WRITING && v.keep)) {
      t->pending[gen_index (ino, v.seq)] += range_len (seg);
      assert (gen_is_seen_locked (ino, v.seq));
    }
    from = seg.end;
  }
  assert (ndirty == st->ndirty);
  assert ((ndirty > 0) == (ino->dirty_stripes >> s & 1));
}

static void
check_zeros (struct inode *ino, struct tally *t)
{
  struct range rest = RANGE_ALL, seg;
  struct zero_value v;

  zeroset_check (&ino->zeros);
  assert (zeroset_count (&ino->zeros) == atomic_load (&ino->nzeros));
  while (zeroset_next (&ino->zeros, rest, WB_ANY, WB_SEQ_ANY, &seg, &v)) {
    if (v.state != WB_CLEAN) {
      t->nzeros++;
      t->zbytes[v.state] += range_len (seg);
      assert ((seg.start & (ino->unit - 1)) == 0);
      assert ((seg.end & (ino->unit - 1)) == 0 || seg.end == ino->size);
    }
    if (v.state == WB_DIRTY) {
      t->pending[gen_index (ino, v.seq)] += range_len (seg);
      assert (gen_is_seen_locked (ino, v.seq));
    }
    rest.start = seg.end;
  }
}

static void
check_requests (struct inode *ino, struct tally *t)
{
  struct list_node *n, *m;

  list_for_each (n, &ino->wbs) {
    struct wb *wb = container_of (n, struct wb, node);

    t->pending[gen_index (ino, wb->seq)] += wb->counted;
    for (m = list_next (&ino->wbs, n); m; m = list_next (&ino->wbs, m))
      assert (!range_overlaps (wb->range, container_of (m, struct wb, node)->range));
  }
}

void
inode_check (struct inode *ino)
{
  struct tally t;
  unsigned i;

  memset (&t, 0, sizeof t);
  lock_take (&ino->maps);
  mappingset_check (&ino->mappings);
  assert (atomic_load (&ino->nmappings) == ino->mappings.set.nsegs);
  lock_drop (&ino->maps);
  for (i = 0; i < NSTRIPES; i++) {
    struct stripe *st = &ino->stripe[i];

    rwlock_take (&st->lock);
    rwlock_take (&ino->zlock);
    lock_take (&ino->sync);
    check_map (ino, st, i);
    check_dirty (ino, st, i, &t);
    lock_drop (&ino->sync);
    rwlock_drop (&ino->zlock);
    rwlock_drop (&st->lock);
  }
  rwlock_take (&ino->zlock);
  lock_take (&ino->sync);
  check_zeros (ino, &t);
  check_requests (ino, &t);
  for (i = 0; i < 3; i++) {
    assert (t.bytes[i] == ino->bytes[i]);
    assert (t.zbytes[i] == ino->zbytes[i]);
  }
  assert (atomic_load (&ino->charged) == t.bytes[0] + t.bytes[1] + t.bytes[2] + 64 * (uint64_t) t.nzeros);
  for (i = 0; i < ino->ngens; i++)
    assert (t.pending[i] == ino->gen[(ino->gen_first + i) % NGENS].pending);
  lock_drop (&ino->sync);
  rwlock_drop (&ino->zlock);
}
