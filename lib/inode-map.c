/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-map - see inode-map.h.
 *
 * Three counts belong together, and change under the page's stripe held exclusively:
 *   frame's use     translations of it, writable ones (memfile.h)
 *   dirty.keep      set on all bytes of a page, up to the end, that has a writable one
 *   nmapped, nkept  frames of the inode with translations, with writable ones
 * While a frame has a translation it is where its page is: who would replace it (a write to a page under way, D5)
 * writes in place, for such a page travels as a copy only; who would drop it (zero, trim, a failed write-through,
 * eviction) goes around it.  Only what ends the page itself drops it all the same: a smaller size, another origin.
 * These end the translations first; what is left then is held by somebody who has been told.
 *
 * Locks    ino->maps (RANK_MAPS): mappings and their nodes.  Above the stripes, so that `invalidate` may
 *          give translations back; nobody holds a stripe and asks for it.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "inode-map.h"
#include "inode-priv.h"

static uint64_t
page_up (uint64_t off)
{
  return (off + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
}

static bool
is_pages (struct range r)
{
  return ((r.start | r.end) & (PAGE_SIZE - 1)) == 0;
}

/*----------------------------------------------------------------------*/
/* Mappings. */

void
map_init (struct inode *ino)
{
  lock_init (&ino->maps, RANK_MAPS);
  segnodes_init (&ino->map_nodes, SEGNODE_SIZE, node_alloc, node_free, ino->env);
  segnodes_init (&ino->map_cells, MAPPINGSET_CELL, meta_alloc, meta_free, ino->env);
  mappingset_init (&ino->mappings, &ino->map_nodes, &ino->map_cells);
}

void
map_release (struct inode *ino)
{
  /* CIN-43: who maps it still believes that it is there. */
  assert (mappingset_is_empty (&ino->mappings));
  assert (ino->nmapped == 0 && ino->nkept == 0);
  mappingset_release (&ino->mappings);
  segnodes_release (&ino->map_nodes);
  segnodes_release (&ino->map_cells);
  lock_release (&ino->maps);
}

/* Take the mappings' lock, with nodes for a change of offs. */
static int
maps_take (struct inode *ino, struct range offs)
{
  struct segnodes_batch nodes = SEGNODES_BATCH_INIT, cells = SEGNODES_BATCH_INIT;

  for (;;) {
    struct mappingset_wants want;
    uint32_t nnodes, ncells;
    int err;

    lock_take (&ino->maps);
    if (nodes.count)
      segnodes_give (&ino->map_nodes, &nodes);
    if (cells.count)
      segnodes_give (&ino->map_cells, &cells);
    want = mappingset_wants (&ino->mappings, offs);
    nnodes = segnodes_missing (&ino->map_nodes, want.nodes);
    ncells = segnodes_missing (&ino->map_cells, want.cells);
    if (nnodes == 0 && ncells == 0)
      return 0;
    lock_drop (&ino->maps);
    err = nodes_fetch (ino->env, &ino->map_nodes, nnodes, &nodes);
    if (!err)
      err = nodes_fetch (ino->env, &ino->map_cells, ncells, &cells);
    if (err) {
      segnodes_batch_free (&ino->map_nodes, &nodes);
      return err;
    }
  }
}

static void
maps_drop (struct inode *ino)
{
  atomic_store (&ino->nmappings, ino->mappings.set.nsegs);
  lock_drop (&ino->maps);
}

int
inode_add_mapping (struct inode *ino, struct mapping_space *space, struct range addrs, uint64_t off, bool writable)
{
  uint64_t end;
  int err;

  lock_assert_none_held ();
  if (!is_pages (addrs) || range_is_empty (addrs) || (off & (PAGE_SIZE - 1))
      || checked_add (off, range_len (addrs), &end) || end > INT64_MAX)
    return EINVAL;              /* sem.B-15 */
  if (writable && ino->origin->info.read_only)
    return EPERM;
  err = maps_take (ino, (struct range) { off, end });
  if (err)
    return err;
  mappingset_add (&ino->mappings, space, addrs, off, writable, NULL, NULL);
  maps_drop (ino);
  return 0;
}

int
inode_copy_mapping (struct inode *ino, struct mapping_space *space, struct range src, struct range dst, uint64_t off,
                    bool writable)
{
  (void) src;                   /* stays as it is (CIN-37) */
  return inode_add_mapping (ino, space, dst, off, writable);
}

int
inode_remove_mapping (struct inode *ino, struct mapping_space *space, struct range addrs, uint64_t off, bool writable)
{
  int err;

  lock_assert_none_held ();
  err = maps_take (ino, (struct range) { off, off + range_len (addrs) });
  if (err)
    return err;
  mappingset_remove (&ino->mappings, space, addrs, off, writable, NULL, NULL);
  maps_drop (ino);
  /* CIN-36: its pages can leave now, and what is dirty can become clean, when somebody wants it. */
  inode_env_wake_memory (ino->env);
  ino->env->dirtied (ino->env->hook_arg, ino);
  return 0;
}

static void
tell (void *arg, void *space, struct range addrs, uint64_t off, bool writable)
{
  struct mapping_space *ms = space;

  (void) off;
  (void) writable;
  ms->invalidate (ms, addrs, *(unsigned *) arg);
}

void
inode_unmap (struct inode *ino, struct range r, unsigned flags)
{
  if (atomic_load (&ino->nmappings) == 0)
    return;
  lock_take (&ino->maps);
  mappingset_invalidate (&ino->mappings, r, tell, &flags);
  lock_drop (&ino->maps);
}

bool
inode_has_mappings (struct inode *ino)
{
  return atomic_load (&ino->nmappings) != 0 || atomic_load (&ino->nmapped) != 0;
}

uint32_t
inode_mapped_frames (struct inode *ino)
{
  return atomic_load (&ino->nmapped);
}

uint32_t
inode_kept_frames (struct inode *ino)
{
  return atomic_load (&ino->nkept);
}

/*----------------------------------------------------------------------*/
/* References. */

static void
get_frame (struct inode *ino, uint32_t frame, bool write)
{
  uint32_t old = memfile_use (ino->env->mf, frame, FRAME_MAP + (write ? FRAME_MAP_WRITE : 0));

  if ((old / FRAME_MAP & FRAME_MAX_MAPS) == 0)
    atomic_fetch_add (&ino->nmapped, 1);
  if (write && (old / FRAME_MAP_WRITE & FRAME_MAX_MAPS) == 0)
    atomic_fetch_add (&ino->nkept, 1);
}

/* True: it was the last writable one. */
static bool
put_frame (struct inode *ino, uint32_t frame, bool write)
{
  uint32_t old = memfile_unuse (ino->env->mf, frame, FRAME_MAP + (write ? FRAME_MAP_WRITE : 0));
  bool last = write && (old / FRAME_MAP_WRITE & FRAME_MAX_MAPS) == 1;

  if ((old / FRAME_MAP & FRAME_MAX_MAPS) == 1)
    atomic_fetch_sub (&ino->nmapped, 1);
  if (last)
    atomic_fetch_sub (&ino->nkept, 1);
  return last;
}

/* No writable translation of this page is left: it is an ordinary dirty page now.  That can cut a segment in two or three;
 * without memory for that it stays kept for now, which costs a flush some bytes, and inode_unkeep tries again.
 */
static void
page_unkeep (struct inode *ino, struct stripe *st, struct range page)
{
  if (segnodes_reserve (&st->nodes, dirtyset_need (&st->dirty, dirtyset_change_inserts (&st->dirty, page))) != 0)
    atomic_store (&ino->keep_late, true);
  else
    dirty_unkeep (ino, st, page);
}

static void
change_refs (struct inode *ino, const struct inode_translation *t, bool get)
{
  bool write = t->perms & INODE_MAP_WRITE;
  uint64_t off = t->range.start;

  assert (is_pages (t->range));
  while (off < t->range.end) {
    struct range part = stripe_part ((struct range) { off, t->range.end });
    struct stripe *st = inode_stripe (ino, off);
    uint32_t gone[STRIPE_PAGES], there;
    unsigned ngone = 0;

    rwlock_take (&st->lock);
    for (; off < part.end; off += PAGE_SIZE) {
      uint32_t frame = rangeset_frame_of (t->range.start, t->frame, off);

      if (get) {
        assert (frame_maps (memfile_frame (ino->env->mf, frame)) > 0);
        assert (!write || frame_maps_write (memfile_frame (ino->env->mf, frame)) > 0);
        get_frame (ino, frame, write);
        continue;
      }
      if (put_frame (ino, frame, write) && rangeset_page_frame (&st->map, off, &there) && there == frame)
        page_unkeep (ino, st, (struct range) { off, off + PAGE_SIZE });
      gone[ngone++] = frame;
    }
    rwlock_drop (&st->lock);
    memfile_put_many (ino->env->mf, gone, ngone);
  }
  /* It may have been the pin that held the end. */
  if (!get && atomic_load (&ino->end_told) != inode_end (ino))
    ino->env->dirtied (ino->env->hook_arg, ino);
}

void
inode_inc_ref (struct inode *ino, const struct inode_translation *t)
{
  change_refs (ino, t, true);
}

void
inode_dec_ref (struct inode *ino, const struct inode_translation *t)
{
  change_refs (ino, t, false);
}

/*----------------------------------------------------------------------*/
/* Translations. */

struct range
inode_map_window (struct range required, struct range optional, uint64_t limit)
{
  assert (range_is_superset (optional, required));
  if (range_len (required) >= limit)
    return required;
  if (range_len (optional) <= limit)
    return optional;
  optional.start = required.start;
  if (range_len (optional) > limit)
    optional.end = optional.start + limit;
  return optional;
}

bool
inode_translation_holds (struct range required, struct range optional, unsigned access,
                         const struct inode_translation *ts, unsigned n, int err)
{
  unsigned i;

  if (n == 0)
    return err != 0;
  if (!range_contains (ts[0].range, required.start))
    return false;
  for (i = 0; i < n; i++)
    if (range_is_empty (ts[i].range) || !is_pages (ts[i].range)
        || (i > 0 && ts[i].range.start != ts[i - 1].range.end)
        || range_is_empty (range_intersect (ts[i].range, required))
        || !range_is_superset (optional, ts[i].range) || (ts[i].perms & access) != access)
      return false;
  return err || ts[n - 1].range.end >= required.end;
}

/* A page that is all there, up to the end, in a frame that stays. */
static bool
page_is_ready (struct inode *ino, struct stripe *st, uint64_t pgoff, uint64_t end, uint32_t *frame)
{
  return pgoff < end && rangeset_page_frame (&st->map, pgoff, frame)
         && rangeset_page_valid (&st->map, pgoff, end)
         && !frame_is_sending (memfile_frame (ino->env->mf, *frame));
}

struct asking {
  struct inode *ino;
  const struct inode_op *op;
  struct range required, optional;      /* as far as the export goes */
  bool write;
  struct inode_translation *ts;
  unsigned n, max;
};

/* Bytes of the last page that are behind the end, and others that are nobody's, are zeros when it is mapped first
 * (S-4, FRS-8): a recycled frame has somebody's bytes there.
 */
static void
blank_rest (struct inode *ino, struct stripe *st, uint64_t pgoff, uint32_t frame)
{
  struct range rest = { pgoff, pgoff + PAGE_SIZE }, gap;

  while (rest.start < rest.end && rangeset_next_gap (&st->map, rest, &gap)) {
    memset (memfile_addr (ino->env->mf, frame) + (gap.start - pgoff), 0, range_len (gap));
    rest.start = gap.end;
  }
}

/* One page more, in front of ts[0] or behind ts[n - 1]; n pieces may not become more than max. */
static int
emit (struct asking *a, uint64_t off, uint32_t frame, bool front)
{
  unsigned perms = INODE_MAP_READ | (a->write ? INODE_MAP_WRITE : 0);
  struct inode_translation *t;

  if (front) {
    a->ts[0].range.start = off;
    a->ts[0].frame = frame;
    return 0;
  }
  t = a->n ? &a->ts[a->n - 1] : NULL;
  if (t && rangeset_frame_of (t->range.start, t->frame, off) == frame) {
    t->range.end += PAGE_SIZE;
    return 0;
  }
  if (a->n == a->max)
    return EOVERFLOW;
  a->ts[a->n++] = (struct inode_translation) { { off, off + PAGE_SIZE }, frame, perms };
  return 0;
}

/* Give out the page at off.  EAGAIN: it is not fit, or there is no memory under the lock. */
static int
give_page (struct asking *a, struct stripe *st, uint64_t off, bool front)
{
  struct inode *ino = a->ino;
  uint64_t end = inode_end (ino);
  struct range bytes = { off, off + PAGE_SIZE };
  struct frame *f;
  uint32_t frame;
  bool keep;
  int err;

  if (!page_is_ready (ino, st, off, end, &frame))
    return EAGAIN;
  f = memfile_frame (ino->env->mf, frame);
  keep = a->write && frame_maps_write (f) == 0;
  if (!range_contains (a->required, off)) {
    /* Beside what is asked for: only what costs nothing.  A page is not made dirty by its neighbour's fault (sem.B-5), and
     * a piece of its own would lie outside (MEM-5).
     */
    struct inode_translation *t = front ? &a->ts[0] : &a->ts[a->n - 1];

    if (keep || frame != (front ? t->frame - 1 : rangeset_frame_of (t->range.start, t->frame, off)))
      return ENOENT;
  }
  if (frame_maps (f) == FRAME_MAX_MAPS)
    return ENOMEM;
  if (bytes.end > end)
    bytes.end = end;
  if (keep && segnodes_reserve (&st->nodes, dirtyset_need (&st->dirty, dirtyset_mark_inserts (&st->dirty, bytes))))
    return EAGAIN;
  err = emit (a, off, frame, front);
  if (err)
    return err;
  if (frame_maps (f) == 0)
    blank_rest (ino, st, off, frame);
  get_frame (ino, frame, a->write);
  if (keep)
    dirty_keep (ino, st, bytes);
  return 0;
}

/* The part of required in one MiB, and what lies beside it there. */
static int
give_part (struct asking *a, struct range part)
{
  struct inode *ino = a->ino;
  struct stripe *st = inode_stripe (ino, part.start);
  uint64_t mib = part.start & ~(STRIPE_LEN - 1), off;
  struct range beside = range_intersect (a->optional, (struct range) { mib, mib + STRIPE_LEN });
  int err = 0;

  rwlock_take (&st->lock);
  if (atomic_load (&ino->maps_shut))
    err = ESHUTDOWN;
  else if (atomic_load (&ino->maps_stopped))
    err = EAGAIN;
  for (off = part.start; off < part.end && !err; off += PAGE_SIZE) {
    err = give_page (a, st, off, false);
    if (!err)
      evict_touch (ino->env->evict, rangeset_frame_at (&st->map, off));
  }
  if (!err && part.end == a->required.end)
    while (off < beside.end && give_page (a, st, off, false) == 0)
      off += PAGE_SIZE;
  if (a->n && part.start == a->required.start)
    for (off = part.start; off > beside.start && give_page (a, st, off - PAGE_SIZE, true) == 0; off -= PAGE_SIZE)
      ;
  rwlock_drop (&st->lock);
  return err;
}

/* A write fault that nobody admitted (D13): below the background bound it need not wait. */
static bool
must_ask_first (struct inode *ino, const struct inode_op *op)
{
  return op == NULL
         && atomic_load_explicit (&ino->env->dirty_total, memory_order_relaxed) > ino->env->dirty_background;
}

int
inode_translate (struct inode *ino, const struct inode_op *op, struct range required, struct range optional,
                 unsigned access, struct inode_translation *ts, unsigned max, unsigned *n)
{
  struct asking a = { .ino = ino, .op = op, .required = required, .write = access & INODE_MAP_WRITE,
                      .ts = ts, .max = max };
  uint64_t pgend = page_up (inode_end (ino)), pos = required.start;
  int err = 0;

  assert (is_pages (required) && !range_is_empty (required));
  assert (is_pages (optional) && range_is_superset (optional, required));
  *n = 0;
  err = atomic_load (&ino->failed_err);
  if (err)
    return err;
  if (a.write && ino->origin->info.read_only)
    return EPERM;
  if (required.start >= pgend)
    return ENXIO;               /* CIN-31 */
  if (a.write && must_ask_first (ino, op))
    return EAGAIN;
  if (a.required.end > pgend)
    a.required.end = pgend;
  a.optional = inode_map_window (required, optional, INODE_MAP_LIMIT);
  if (a.optional.end > pgend)
    a.optional.end = pgend;
  while (pos < a.required.end && !err) {
    struct range part = stripe_part ((struct range) { pos, a.required.end });

    err = give_part (&a, part);
    pos = part.end;
  }
  if (!err && a.required.end < required.end)
    err = ENXIO;
#ifdef PC_DEBUG
  assert (inode_translation_holds (required, optional, access, ts, a.n, err));
#endif
  *n = a.n;
  return err;
}

/*----------------------------------------------------------------------*/
/* Step one: make pages ready. */

enum readiness { READY, MISSING, ZEROS, SENDING };

static enum readiness
look (struct inode *ino, struct stripe *st, uint64_t pgoff)
{
  uint64_t end = inode_end (ino);
  struct zero_value v;
  struct range seg;
  uint32_t frame;
  bool zero;

  if (page_is_ready (ino, st, pgoff, end, &frame) || pgoff >= end)
    return READY;
  if (rangeset_page_valid (&st->map, pgoff, end))
    return SENDING;
  if (atomic_load_explicit (&ino->nzeros, memory_order_relaxed) == 0)
    return MISSING;
  rwlock_take_shared (&ino->zlock);
  zero = zeroset_find (&ino->zeros, pgoff, &seg, &v);
  rwlock_drop (&ino->zlock);
  return zero ? ZEROS : MISSING;
}

/* Zeros without a frame become data: the whole unit, in one hold, for zero ranges stay whole units.  What the origin need
 * not be told is clean.  frames: one for each page of u.
 */
static int
materialise_zeros (struct inode *ino, struct stripe *st, struct range u, const uint32_t *frames)
{
  struct inode_env *env = ino->env;
  struct zero_value v;
  struct range z;
  uint32_t npages = (uint32_t) ((range_len (u) + PAGE_SIZE - 1) >> PAGE_SHIFT), i;
  bool clean;
  int err;

  err = stripe_nodes (ino, st, npages + 1, dirtyset_mark_inserts (&st->dirty, u));
  if (!err)
    err = zeros_nodes (ino, st, 3);
  if (err)
    return err;
  rwlock_take (&ino->zlock);
  /* The stripe was held since somebody looked, but zeros go without it: holes that are forgotten, and what was trimmed
   * when a flush was answered.  Then another turn.
   */
  if (!zeroset_find (&ino->zeros, u.start, &z, &v) || z.end < u.end || !zeros_have_nodes (ino, 1)) {
    rwlock_drop (&ino->zlock);
    return EAGAIN;
  }
  assert (!rangeset_overlaps (&st->map, u));
  clean = v.state == WB_CLEAN;
  if (clean)
    zero_drop (ino, u);
  rwlock_drop (&ino->zlock);
  /* What is on its way, a request may take and the origin answer meanwhile: clean zeros are sent once more then. */
  if (!clean)
    err = dirty_mark (ino, st, u, false);
  if (err)
    return err;
  for (i = 0; i < npages; i++) {
    uint64_t pgoff = u.start + ((uint64_t) i << PAGE_SHIFT);

    memset (memfile_addr (env->mf, frames[i]), 0, PAGE_SIZE);
    memfile_set_owner (env->mf, frames[i], frame_owner (ino->id, pgoff >> PAGE_SHIFT));
    rangeset_add (&st->map, range_intersect (u, (struct range) { pgoff, pgoff + PAGE_SIZE }), frames[i]);
    lock_take (&env->evict_lock);
    evict_insert (env->evict, frames[i], evict_key (ino->id, pgoff >> PAGE_SHIFT), 0);
    lock_drop (&env->evict_lock);
  }
  fill_kill (st, u);
  return 0;
}

/* The page at op->pos is zeros, or is being sent from its frame: with frames of ours it can be mapped.
 * 0: look again; EAGAIN: no frames; ENOMEM.
 */
static int
make_ready (struct inode_op *op, enum readiness what)
{
  struct inode *ino = op->ino;
  struct inode_env *env = ino->env;
  struct stripe *st = inode_stripe (ino, op->pos);
  struct range u = { op->pos, op->pos + PAGE_SIZE };
  uint32_t frames[STRIPE_PAGES];
  unsigned n, got;
  int err = 0;

  if (what == ZEROS) {
    u = (struct range) { op->pos & ~(ino->unit - 1), (op->pos & ~(ino->unit - 1)) + ino->unit };
    if (u.end > ino->size)
      u.end = ino->size;
  }
  n = (unsigned) ((range_len (u) + PAGE_SIZE - 1) >> PAGE_SHIFT);
  got = env_alloc_frames (env, n, frames);
  if (got < n) {
    memfile_put_many (env->mf, frames, got);
    return EAGAIN;
  }
  rwlock_take (&st->lock);
  if (look (ino, st, op->pos) == what) {
    if (what == ZEROS)
      err = materialise_zeros (ino, st, u, frames);
    else {
      err = stripe_nodes (ino, st, 2, 0);
      /* The request keeps the old frame until its answer. */
      if (!err)
        map_replace_frame (ino, st, op->pos, rangeset_frame_at (&st->map, op->pos), frames[0]);
    }
    if (err == 0)
      n = 0;
  }
  rwlock_drop (&st->lock);
  /* As in a write: what was too little for us wakes nobody, nor ourselves. */
  if (err)
    memfile_put_many (env->mf, frames, n);
  else
    env_free_frames (env, frames, n);
  return err == EAGAIN ? 0 : err;
}

/* What is missing from op->pos on is asked for, as in a read; `alone`: nothing beside it, for an error there is none
 * of the fault's business (FRS-10, D7).
 */
static int
ask (struct inode_op *op, uint64_t end)
{
  struct inode *ino = op->ino;
  struct range window = inode_map_window (op->range, op->optional, INODE_FILL_LIMIT);
  struct range gap, rest = { op->pos, window.end };
  unsigned had = op->nfills;

  /* What failed beside us (is_his_error). */
  if (atomic_load (&op->not_his))
    op->alone = true;
  if (op->alone)
    rest.end = end;
  if (rest.end > inode_end (ino))
    rest.end = inode_end (ino);
  while (op->nfills < INODE_OP_FILLS && fill_next_missing (ino, rest, &gap) && gap.start < end) {
    uint64_t done;
    int err = fill_want (ino, gap, op, false, &done);

    /* What came before and is kept for us may be what is in the way: then it is let go and we wait. */
    if (err)
      return op->nfills > had ? 0 : err;
    rest.start = done > gap.start ? done : gap.start;
  }
  if (!op->alone && !op->told) {
    op->told = true;
    inode_prefetch (ino, (struct range) { window.start, op->range.start }, false);
  }
  return 0;
}

/* From op->pos on, over what is ready; the first page that is not stops it. */
static enum readiness
walk (struct inode_op *op, uint64_t end)
{
  struct inode *ino = op->ino;
  enum readiness r = READY;

  while (op->pos < end && r == READY) {
    uint64_t stop = stripe_part ((struct range) { op->pos, end }).end;
    struct stripe *st = inode_stripe (ino, op->pos);
    uint32_t frame;

    rwlock_take_shared (&st->lock);
    while (op->pos < stop && (r = look (ino, st, op->pos)) == READY) {
      if (rangeset_page_frame (&st->map, op->pos, &frame))
        evict_touch (ino->env->evict, frame);
      op->pos += PAGE_SIZE;
    }
    rwlock_drop (&st->lock);
  }
  return r;
}

/* Nodes that keeping the pages dirty will take, for under the lock of step two there may be no memory. */
static int
reserve_keep (struct inode_op *op, uint64_t end)
{
  uint64_t pos = op->range.start;

  while (pos < end) {
    struct range part = stripe_part ((struct range) { pos, end });
    struct stripe *st = inode_stripe (op->ino, pos);
    int err;

    rwlock_take (&st->lock);
    while ((err = stripe_nodes (op->ino, st, 0, dirtyset_mark_inserts (&st->dirty, part))) == EAGAIN)
      ;
    rwlock_drop (&st->lock);
    if (err)
      return err;
    pos = part.end;
  }
  return 0;
}

static bool
map_done (struct inode_op *op, int err)
{
  if (err) {
    fill_release (op);
    op_forget_dirt (op);        /* it may have waited for that, and the end was cut off meanwhile */
  }
  op->err = err;
  return true;
}

static bool
map_wait (struct inode_op *op, int err)
{
  if (!op_may_wait (op, err))
    return map_done (op, err == EAGAIN ? EIO : err);
  fill_release (op);            /* what waits for memory keeps none */
  op_park_memory (op);
  return false;
}

/* Answers have come, if any are awaited. */
static int
answered (struct inode_op *op)
{
  int err = atomic_exchange (&op->fill_err, 0);

  if (err && err != ENOMEM && !op->alone) {
    op->alone = true;
    err = 0;
    fill_release (op);
  }
  else if (op->nfills == INODE_OP_FILLS)
    fill_release (op);
  return err;
}

static bool
map_go_on (struct inode_op *op, uint64_t end)
{
  enum readiness r;
  int err;

  for (;;) {
    if (op->nfills) {
      if (atomic_load (&op->waits) > 0)
        return false;
      err = answered (op);
      if (err)
        return err == ENOMEM ? map_wait (op, err) : map_done (op, err);
    }
    r = walk (op, end);
    if (r == READY)
      break;
    err = r == MISSING ? ask (op, end) : make_ready (op, r);
    if (err)
      return map_wait (op, err);
  }
  if (op->flags & INODE_MAP_WRITE) {
    err = reserve_keep (op, end);
    if (err)
      return map_wait (op, err);
  }
  return map_done (op, 0);
}

bool
map_run (struct inode_op *op)
{
  struct inode *ino = op->ino;
  uint64_t end = page_up (inode_end (ino));

  if (atomic_load (&ino->maps_shut))
    return map_done (op, ESHUTDOWN);
  if ((op->flags & INODE_MAP_WRITE) && ino->origin->info.read_only)
    return map_done (op, EPERM);
  if (op->range.start >= end)
    return map_done (op, ENXIO);
  if (end > op->range.end)
    end = op->range.end;
  if (atomic_load (&ino->maps_stopped)) {
    op->wake_at_ns = clock_now (ino->env->clock) + NSEC_PER_MSEC;
    return false;
  }
  if ((op->flags & INODE_MAP_WRITE) && !write_may_copy (op))
    return op->err != 0;
  return map_go_on (op, end);
}

void
inode_op_map (struct inode_op *op, struct inode *ino, struct range required, struct range optional, unsigned access)
{
  op_init (op, ino, OP_MAP, required, access);
  op->optional = optional;
}

void
inode_op_map_end (struct inode_op *op)
{
  fill_release (op);
}

/*----------------------------------------------------------------------*/
/* For the other files of the inode. */

bool
map_first (struct inode *ino, struct stripe *st, struct range r, struct range *unit)
{
  struct range piece;
  uint32_t frame;

  if (atomic_load_explicit (&ino->nmapped, memory_order_relaxed) == 0)
    return false;
  while (r.start < r.end && rangeset_next (&st->map, r, &piece, &frame)) {
    uint64_t off;

    for (off = page_of (piece.start); off < piece.end; off += PAGE_SIZE, frame++)
      if (frame_maps (memfile_frame (ino->env->mf, frame))) {
        unit->start = off & ~(ino->unit - 1);
        unit->end = unit->start + ino->unit < ino->size ? unit->start + ino->unit : ino->size;
        return true;
      }
    r.start = piece.end;
  }
  return false;
}

void
map_unmap_pages (struct inode *ino, const uint64_t *pgnos, unsigned n)
{
  unsigned i;

  for (i = 0; i < n; i++)
    inode_unmap (ino, (struct range) { pgnos[i] << PAGE_SHIFT, (pgnos[i] + 1) << PAGE_SHIFT }, 0);
}

/* No new translation in between, and none of r is left. */
void
map_stop (struct inode *ino, struct range r, unsigned flags)
{
  atomic_fetch_add (&ino->maps_stopped, 1);
  inode_unmap (ino, r, flags);
}

void
map_go (struct inode *ino)
{
  atomic_fetch_sub (&ino->maps_stopped, 1);
}

/*----------------------------------------------------------------------*/
/* Kept pages become clean only after they were taken back. */

#define UNKEEP_BATCH 64

/* Pieces of st that are kept, from *pos on, at most UNKEEP_BATCH; true: there may be more. */
static bool
find_kept (struct stripe *st, uint64_t *pos, uint32_t seq, struct range *out, unsigned *n)
{
  struct dirty_value v;
  struct range seg;
  bool more = false;

  *n = 0;
  rwlock_take (&st->lock);
  while (dirtyset_next (&st->dirty, *pos, WB_BIT (WB_DIRTY), UINT32_MAX, &seg, &v)) {
    if (*n == UNKEEP_BATCH) {
      more = true;
      break;
    }
    *pos = seg.end;
    if (v.keep && seq_le (v.seq, seq))
      out[(*n)++] = seg;
  }
  rwlock_drop (&st->lock);
  return more;
}

/* Pages that stayed kept for want of memory. */
static void
unkeep_late (struct inode *ino, struct stripe *st, const struct range *r, unsigned n)
{
  unsigned i;

  rwlock_take (&st->lock);
  for (i = 0; i < n; i++) {
    uint64_t off;
    uint32_t frame;

    /* A page may be zeros by now, the stripe was let go. */
    for (off = page_of (r[i].start); off < r[i].end; off += PAGE_SIZE)
      if (rangeset_page_frame (&st->map, off, &frame)
          && frame_maps_write (memfile_frame (ino->env->mf, frame)) == 0)
        page_unkeep (ino, st, (struct range) { off, off + PAGE_SIZE });
  }
  rwlock_drop (&st->lock);
}

void
inode_unkeep (struct inode *ino, uint32_t seq)
{
  bool late = atomic_exchange (&ino->keep_late, false);
  uint64_t stripes;
  unsigned i;

  if (!late && atomic_load (&ino->nkept) == 0)
    return;
  lock_take (&ino->sync);
  stripes = ino->dirty_stripes;
  lock_drop (&ino->sync);
  for (i = 0; i < NSTRIPES; i++) {
    struct range kept[UNKEEP_BATCH];
    uint64_t pos = 0;
    bool more = stripes >> i & 1;
    unsigned n, k;

    while (more) {
      more = find_kept (&ino->stripe[i], &pos, seq, kept, &n);
      for (k = 0; k < n; k++)
        inode_unmap (ino, (struct range) { page_of (kept[k].start), page_up (kept[k].end) }, 0);
      if (late)
        unkeep_late (ino, &ino->stripe[i], kept, n);
    }
  }
}

/*----------------------------------------------------------------------*/
/* The ends of what is held. */

void
inode_shut_maps (struct inode *ino, bool shut)
{
  atomic_store (&ino->maps_shut, shut);
  if (shut)
    inode_unmap (ino, RANGE_ALL, 0);
}

int
inode_invalidate_unsavable (struct inode *ino)
{
  struct inode_op op;
  int err;

  inode_shut_maps (ino, true);
  inode_op_sync (&op, ino, RANGE_ALL, INODE_FUA);
  err = inode_op_wait (&op, NULL, NULL);
  if (!err)
    err = inode_invalidate (ino, RANGE_ALL);
  if (err)
    inode_shut_maps (ino, false);
  return err;
}

int
inode_origin_changed (struct inode *ino)
{
  return inode_invalidate (ino, RANGE_ALL);
}
