/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-write - bytes become newer than the origin.
 *
 * A write never asks the origin for anything (D2): pages that are not there get a new frame and are valid in
 * the written bytes only.  Stages of an op:
 *
 *   ADMIT   wait while too much is dirty, first come first served; be slowed as throttle says (D3, D13).  What is
 *           admitted is reserved until it is dirty, so that those who come together do not pass the bound together
 *   COPY    a piece of one MiB after the other, in as many frames as can be had
 *   SAFE    FUA and writethrough: until the bytes are where they must be (D1).  If that fails the bytes go again, but not
 *           where a second write-through overlaps that has no answer yet
 *
 * New frames are filled before the stripe is locked, and go into the map as one segment.  A page that is there
 * is overwritten in place, one page a hold; one that is being sent from is replaced by a copy (D5).
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "inode-priv.h"

/* One turn: pages [first, first + n) of one MiB, the frames for those that need one. */
struct turn {
  struct inode_op *op;
  struct inode *ino;
  struct stripe *st;
  struct range r;               /* what of the request this turn copies */
  uint32_t frames[STRIPE_PAGES];
  unsigned nframes, used;       /* frames[used..nframes) are not in the map yet */
  bool filled;                  /* frames hold the request's bytes for pages in order */
  bool progress;                /* zeros beside the request became data */
  uint64_t want_rest;           /* a page with too many fragments, + 1 */
};

static const uint8_t *
source (struct turn *t, uint64_t off)
{
  return t->op->buf + (off - t->op->range.start);
}

/* The part of the request in the page at pgoff. */
static struct range
in_page (struct turn *t, uint64_t pgoff)
{
  return range_intersect (t->r, (struct range) { pgoff, pgoff + PAGE_SIZE });
}

/*----------------------------------------------------------------------*/

/* D15: err was the last answer to what cleans, and nothing gets cleaned for now.  Not so when the origin that was away is
 * back: then the next attempt is near.
 */
static bool
is_hopeless (struct inode *ino, int err)
{
  return err && (err != ETIMEDOUT || !origin_is_up (ino->origin));
}

/* op gets in, stays in the queue (true), or is refused. */
static bool
queue_locked (struct inode_op *op, bool hopeless)
{
  struct inode *ino = op->ino;
  struct inode_env *env = ino->env;

  if (!op->on) {
    op->on = &ino->dirty_waiters;
    op->queued = true;
    op->blocked_at_ns = clock_now (env->clock);
    list_push_back (&ino->dirty_waiters, &op->node);
    atomic_fetch_add (&env->nblocked, 1);
  }
  /* Not before it can be seen that somebody waits: see write_unreserve. */
  dirty_waiters_admit_locked (ino);
  if (!op->on || !hopeless)
    return op->on != NULL;
  dirty_waiters_leave_locked (op);
  op->queued = false;
  if (!dirt_fits_locked (ino, inode_load_locked (ino, true), op->wants))
    op->err = EIO;              /* what was accepted is kept */
  else
    dirt_admit_locked (op, op->wants);
  dirty_waiters_admit_locked (ino);
  return false;
}

bool
write_admit (struct inode_op *op, uint64_t len, bool patient)
{
  struct inode *ino = op->ino;
  struct inode_env *env = ino->env;
  bool blocked = false;
  struct throttle_load load;
  uint64_t now, delay = 0;

  lock_take (&ino->sync);
  load = inode_load_locked (ino, true);
  if (!op->admitted) {
    if (!op->queued && list_is_empty (&ino->dirty_waiters) && dirt_fits_locked (ino, load, len))
      dirt_admit_locked (op, len);
    else if (!patient)
      op->err = ENOTSUP;
    else {
      op->wants = len;
      blocked = queue_locked (op, is_hopeless (ino, ino->wb_err) || is_hopeless (ino, ino->flush_err));
    }
  }
  if (op->admitted) {
    op->admitted = op->queued = false;
    now = clock_now (env->clock);
    delay = throttle_delay (&ino->throttle, &load, len, now);
    op->delay_until_ns = delay && patient ? now + delay : 0;
  }
  lock_drop (&ino->sync);
  if (blocked) {
    /* Other inodes' dirt counts too, and they do not know us. */
    op->wake_at_ns = clock_now (env->clock) + 50 * NSEC_PER_MSEC;
    env->dirtied (env->hook_arg, ino);
    return false;
  }
  if (op->err)
    return false;
  if (op->delay_until_ns)
    STAT_ADD (ino, throttled_ns, delay);
  return true;
}

/* Without the lock, which a write that nobody slows would take for this alone.  Who comes to the queue looks at what is
 * reserved after he is counted in nblocked; we look at that afterwards: one of us sees the other.
 */
void
write_unreserve (struct inode_op *op, uint64_t len)
{
  struct inode *ino = op->ino;

  if (len > op->reserved)
    len = op->reserved;
  if (len == 0)
    return;
  op->reserved -= len;
  atomic_fetch_sub (&ino->reserved, len);
  if (atomic_load (&ino->env->nblocked) == 0)
    return;
  lock_take (&ino->sync);
  dirty_waiters_admit_locked (ino);
  lock_drop (&ino->sync);
}

void
op_forget_dirt (struct inode_op *op)
{
  struct inode *ino = op->ino;

  if (op->queued) {
    op->queued = false;
    lock_take (&ino->sync);
    if (op->on == &ino->dirty_waiters) {
      dirty_waiters_leave_locked (op);
      dirty_waiters_admit_locked (ino);
    }
    lock_drop (&ino->sync);
  }
  write_unreserve (op, op->reserved);
}

/* How many pages of t->r need a frame?  A hint, for the lock is let go again. */
static unsigned
frames_wanted (struct turn *t)
{
  unsigned n = 0;
  uint64_t off;

  rwlock_take_shared (&t->st->lock);
  for (off = page_of (t->r.start); off < t->r.end; off += PAGE_SIZE) {
    uint32_t frame;

    if (!rangeset_page_frame (&t->st->map, off, &frame)
        || frame_is_sending (memfile_frame (t->ino->env->mf, frame)))
      n++;
  }
  rwlock_drop (&t->st->lock);
  return n;
}

static void
new_owner (struct turn *t, uint32_t frame, uint64_t pgoff)
{
  memfile_set_owner (t->ino->env->mf, frame, frame_owner (t->ino->id, pgoff >> PAGE_SHIFT));
}

static void
evict_insert_run (struct turn *t, uint32_t frame, uint64_t pgoff, unsigned n)
{
  struct inode_env *env = t->ino->env;
  unsigned i;

  lock_take (&env->evict_lock);
  for (i = 0; i < n; i++)
    evict_insert (env->evict, frame + i, evict_key (t->ino->id, (pgoff >> PAGE_SHIFT) + i), 0);
  lock_drop (&env->evict_lock);
}

static int
nodes (struct turn *t, uint32_t map_inserts, struct range r)
{
  int err = stripe_nodes (t->ino, t->st, map_inserts, dirtyset_mark_inserts (&t->st->dirty, r));

  if (err == 0 && atomic_load_explicit (&t->ino->nzeros, memory_order_relaxed))
    err = zeros_nodes (t->ino, t->st, 2);
  return err;
}

/* Pages from off on that are not there: the frames that already hold their bytes go in as one segment.
 * Returns 0 and *next; ENOBUFS: no frame left; EAGAIN: look again; ENOMEM.
 */
static int
put_new (struct turn *t, uint64_t off, uint64_t *next)
{
  uint32_t first, frame;
  struct range r;
  unsigned n;
  int err;

  if (t->used == t->nframes)
    return ENOBUFS;
  err = nodes (t, 1, (struct range) { in_page (t, off).start, t->r.end });
  if (err)
    return err;
  first = t->frames[t->used];
  r = in_page (t, off);
  for (n = 0; ; ) {
    uint64_t pgoff = off + ((uint64_t) n << PAGE_SHIFT);

    if (!t->filled)
      memcpy (memfile_addr (t->ino->env->mf, first + n) + (in_page (t, pgoff).start - pgoff),
              source (t, in_page (t, pgoff).start), range_len (in_page (t, pgoff)));
    new_owner (t, first + n, pgoff);
    r.end = in_page (t, pgoff).end;
    n++;
    if (r.end == t->r.end || t->used + n == t->nframes || t->frames[t->used + n] != first + n
        || rangeset_page_frame (&t->st->map, pgoff + PAGE_SIZE, &frame))
      break;
    if (!t->filled)
      break;                    /* copied under the lock: one page a hold */
  }
  err = dirty_mark (t->ino, t->st, r, t->op->through);
  if (err)
    return err;
  rangeset_add (&t->st->map, r, first);
  evict_insert_run (t, first, off, n);
  t->used += n;
  *next = r.end;
  return 0;
}

/* The page at off is there in frame: write into it, or into a copy. */
static int
put_over (struct turn *t, uint64_t off, uint32_t frame, uint64_t *next)
{
  struct inode_env *env = t->ino->env;
  struct range r = in_page (t, off), gap;
  uint32_t frags = rangeset_page_fragments (&t->st->map, off);
  bool copy = frame_is_sending (memfile_frame (env->mf, frame));
  int err;

  t->filled = false;            /* this page was thought new: frames and pages are out of step */
  if (copy && t->used == t->nframes)
    return ENOBUFS;
  err = nodes (t, frags + 1 + (copy ? 2 : 0), r);
  if (!err)
    err = dirty_mark (t->ino, t->st, r, t->op->through);
  if (err)
    return err;
  if (copy) {
    /* From the end: the front ones may already hold bytes of pages to come. */
    uint32_t ours = t->frames[--t->nframes];

    map_replace_frame (t->ino, t->st, off, frame, ours);
    frame = ours;
  }
  memcpy (memfile_addr (env->mf, frame) + (r.start - off), source (t, r.start), range_len (r));
  while (rangeset_next_gap (&t->st->map, r, &gap))
    rangeset_add (&t->st->map, gap, frame);
  evict_touch (env->evict, frame);
  if (rangeset_page_fragments (&t->st->map, off) > 8)
    t->want_rest = off + 1;     /* D2: too many pieces, have it whole */
  *next = r.end;
  return 0;
}

/* The unit (page, or block of the origin) around `at` is zeros without a frame, and the request covers it in part, or
 * may do so a part at a time: all of it becomes data in one hold, so that zero ranges stay whole units.
 * (Page by page, what was sent as zeros for the rest of the unit went over data that had been written back
 * meanwhile.)  1: done, look again; 0: nothing to do; else as put_new, negative.
 */
static int
materialise (struct turn *t, uint64_t at)
{
  struct inode *ino = t->ino;
  struct range u = { at & ~(ino->unit - 1), (at & ~(ino->unit - 1)) + ino->unit }, z;
  struct zero_value v;
  unsigned npages, i;
  bool found;
  int err;

  if (u.end > ino->size)
    u.end = ino->size;
  /* A page that is written whole goes from zeros to data in one hold anyhow; a larger unit may not. */
  if (ino->unit == PAGE_SIZE && t->op->range.start <= u.start && u.end <= t->op->range.end)
    return 0;
  rwlock_take_shared (&ino->zlock);
  found = zeroset_find (&ino->zeros, u.start, &z, &v);
  rwlock_drop (&ino->zlock);
  if (!found)
    return 0;
  assert (z.end >= u.end);
  npages = (unsigned) ((range_len (u) + PAGE_SIZE - 1) >> PAGE_SHIFT);
  if (t->nframes - t->used < npages)
    return -ENOBUFS;
  err = nodes (t, npages, u);
  /* They may be gone by now, for what the origin has as well goes without the stripe: a hole that is forgotten, a trim or a zero
   * that is durable.  All of u becomes data all the same, as if we had been faster.  Nobody saw the origin's bytes there in
   * between: whoever fetches them, or takes them in, needs the stripe.  And all of it is dirty, so the origin gets what is read
   * here.  (As clean pages they would have to be what the origin has: see materialise_zeros.)
   */
  if (!err)
    err = dirty_mark (ino, t->st, u, false);
  if (err)
    return -err;
  t->filled = false;            /* frames and pages are out of step from now on */
  for (i = 0; i < npages; i++) {
    uint64_t pgoff = u.start + ((uint64_t) i << PAGE_SHIFT);
    struct range page = range_intersect (u, (struct range) { pgoff, pgoff + PAGE_SIZE });
    uint32_t frame = t->frames[--t->nframes];

    new_owner (t, frame, pgoff);
    memset (memfile_addr (ino->env->mf, frame), 0, PAGE_SIZE);
    rangeset_add (&t->st->map, page, frame);
    evict_insert_run (t, frame, pgoff, 1);
  }
  return 1;
}

/* The same for all units that the rest of the turn touches. */
static int
materialise_all (struct turn *t)
{
  uint64_t at;
  int err;

  if (atomic_load_explicit (&t->ino->nzeros, memory_order_relaxed) == 0)
    return 0;
  if (t->ino->unit == PAGE_SIZE) {
    err = materialise (t, t->r.start);
    return err ? err : materialise (t, t->r.end - 1);
  }
  for (at = t->op->pos & ~(t->ino->unit - 1); at < t->r.end; at += t->ino->unit) {
    err = materialise (t, at);
    if (err)
      return err;
  }
  return 0;
}

/* Copy the turn's pages.  Takes and leaves the stripe unlocked.  How far it came: t->op->pos. */
static int
copy_turn (struct turn *t)
{
  struct stripe *st = t->st;
  int err = 0;

  while (t->op->pos < t->r.end) {
    uint64_t off = page_of (t->op->pos), next = t->op->pos;
    uint32_t frame;

    rwlock_take (&st->lock);
    err = materialise_all (t);
    if (err != 0) {
      rwlock_drop (&st->lock);
      t->progress |= err == 1;
      if (err == 1 || err == -EAGAIN)
        continue;
      return -err;
    }
    if (rangeset_page_frame (&st->map, off, &frame))
      err = put_over (t, off, frame, &next);
    else
      err = put_new (t, off, &next);
    if (err == 0 && next == t->r.end)
      stripe_trim (st);
    rwlock_drop (&st->lock);
    if (err == EAGAIN)
      continue;
    if (err)
      return err;
    t->op->pos = next;
  }
  return 0;
}

/* Bytes of pages that are not there go into their frames before anything is locked.  Only where all of the turn is new:
 * then frame i belongs to page i.
 */
static void
fill_frames (struct turn *t, unsigned npages)
{
  unsigned i;

  t->filled = true;
  for (i = 0; i < npages; i++) {
    uint64_t pgoff = page_of (t->r.start) + ((uint64_t) i << PAGE_SHIFT);
    struct range r = in_page (t, pgoff);

    memcpy (memfile_addr (t->ino->env->mf, t->frames[i]) + (r.start - pgoff), source (t, r.start), range_len (r));
  }
}

/* What the turn did not use goes back.  Where it was too little for us it wakes nobody, nor ourselves: two that wait
 * would wake each other for ever.
 */
static void
give_back (struct turn *t, int err)
{
  if (err)
    memfile_put_many (t->ino->env->mf, t->frames + t->used, t->nframes - t->used);
  else
    env_free_frames (t->ino->env, t->frames + t->used, t->nframes - t->used);
}

/* ENOMEM for tree nodes while frames are in hand: they may be the very memory that the nodes want, and none but we can
 * let them go.  True: try again with half of them.
 */
static bool
with_fewer (struct inode_op *op, unsigned had)
{
  unsigned least = op->min_frames ? op->min_frames : 1;

  if (had <= least)
    return false;
  op->max_frames = had / 2 > least ? had / 2 : least;
  return true;
}

/* One turn: as much of one MiB as there are frames for.  EAGAIN: not one frame. */
static int
write_turn (struct inode_op *op)
{
  struct inode *ino = op->ino;
  struct inode_env *env = ino->env;
  struct turn t = { .op = op, .ino = ino };
  unsigned npages, counted, want, got;
  uint64_t before = op->pos;
  int err;

  t.r = stripe_part ((struct range) { op->pos, op->range.end });
  t.st = inode_stripe (ino, op->pos);
  npages = (unsigned) ((t.r.end - page_of (t.r.start) + PAGE_SIZE - 1) >> PAGE_SHIFT);
  counted = frames_wanted (&t);
  want = counted > op->min_frames ? counted : op->min_frames;
  if (op->max_frames && want > op->max_frames)
    want = op->max_frames > op->min_frames ? op->max_frames : op->min_frames;
  if (want)
    t.nframes = env_alloc_frames (env, want, t.frames);
  got = t.nframes;
  if (counted == npages && t.nframes > 0 && t.nframes < npages) {
    npages = counted = t.nframes;
    t.r.end = page_of (t.r.start) + ((uint64_t) npages << PAGE_SHIFT);
  }
  if (counted == npages && t.nframes >= npages)
    fill_frames (&t, npages);
  err = copy_turn (&t);
  if (err == ENOBUFS) {
    if (op->pos > before || t.progress)
      err = 0;
    else if (want && got < (op->min_frames ? op->min_frames : 1))
      err = EAGAIN;
    else {
      /* A page went, or is in flight, since the frames were counted; or zeros beside the request
       * become data.
       */
      op->min_frames = 2 + (unsigned) (ino->unit >> PAGE_SHIFT);
      err = 0;
    }
  }
  else if (err == 0) {
    op->min_frames = 0;
    op->max_frames = 2 * op->max_frames < STRIPE_PAGES ? 2 * op->max_frames : 0;
  }
  give_back (&t, err);
  if (err == ENOMEM && with_fewer (op, got))
    err = 0;
  if (t.want_rest)
    inode_prefetch (ino, (struct range) { t.want_rest - 1, t.want_rest - 1 + PAGE_SIZE }, false);
  return err;
}

void
write_through_begin (struct inode_op *op)
{
  struct inode *ino = op->ino;

  if (op->through || ino->env->mode != INODE_WRITETHROUGH)
    return;
  lock_take (&ino->sync);
  op->through = true;
  list_push_back (&ino->through, &op->through_node);
  lock_drop (&ino->sync);
}

void
write_through_end (struct inode_op *op)
{
  struct inode *ino = op->ino;

  if (!op->through)
    return;
  lock_take (&ino->sync);
  list_remove (&op->through_node);
  op->through = false;
  lock_drop (&ino->sync);
}

/* The first part of r that no write or zero on its way through covers; empty: none, and it ends there.  Who is about to
 * change something here is in the list before he takes the stripe, which is held.
 */
static struct range
nobody_elses (struct inode *ino, struct range r)
{
  struct list_node *n;
  bool again;

  lock_take (&ino->sync);
  do {
    again = false;
    list_for_each (n, &ino->through) {
      struct inode_op *o = container_of (n, struct inode_op, through_node);

      if (!range_overlaps (o->range, r))
        continue;
      if (o->range.start > r.start)
        r.end = o->range.start;
      else {
        r.start = o->range.end < r.end ? o->range.end : r.end;
        again = true;           /* those before it may reach over what is left */
      }
    }
  } while (again && r.start < r.end);
  lock_drop (&ino->sync);
  return r;
}

/* Writethrough failed: what was clean before is unknown now, and goes (D1).  Not what may be of another one that has
 * no answer yet: that was told that its bytes are at the origin, when they were nowhere.  They stay, ours between them,
 * until it succeeds, having waited for all of them since our failure raised it to all there is, or fails like we did.
 */
static void
drop_unwritten (struct inode_op *op)
{
  struct inode *ino = op->ino;
  uint64_t pos = op->range.start;
  int err;

  while (pos < op->range.end) {
    struct range part = stripe_part ((struct range) { pos, op->range.end }), seg, u;
    struct stripe *st = inode_stripe (ino, pos);
    struct dirty_value v;

    rwlock_take (&st->lock);
    err = stripe_nodes (ino, st, 2, 2);
    if (err) {
      rwlock_drop (&st->lock);
      /* Without memory the rest stays as it is, dirty: what became of a failed write nobody knows. */
      if (err == ENOMEM)
        return;
      continue;
    }
    if (!dirtyset_next (&st->dirty, pos, WB_BIT (WB_DIRTY), WB_SEQ_ANY, &seg, &v) || seg.start >= part.end)
      pos = part.end;
    else {
      seg = range_intersect (seg, (struct range) { pos, part.end });
      if (v.wt && !PLANTED (PLANT_DROP_OTHERS))
        seg = nobody_elses (ino, seg);
      /* A mapped page stays, dirty: whoever maps it sees it. */
      if (v.wt && map_first (ino, st, seg, &u)) {
        if (u.start <= seg.start)
          seg = (struct range) { u.end, u.end };
        else
          seg.end = u.start;
      }
      if (v.wt && !range_is_empty (seg)) {
        dirty_drop (ino, st, seg);
        map_remove (ino, st, seg);
        fill_kill (st, seg);
      }
      pos = seg.end;
    }
    rwlock_drop (&st->lock);
  }
}

/* Copy without admission and without making anything safe: 0, EAGAIN: no frames, or an error. */
int
write_pages (struct inode_op *op)
{
  while (op->pos < op->range.end) {
    uint64_t before = op->pos;
    int err = write_turn (op);

    write_unreserve (op, op->pos - before);
    if (err)
      return err;
  }
  return 0;
}

bool
write_is_delayed (struct inode_op *op)
{
  if (op->delay_until_ns == 0 || clock_now (op->ino->env->clock) >= op->delay_until_ns)
    return false;
  op->wake_at_ns = op->delay_until_ns;
  return true;
}

bool
write_may_copy (struct inode_op *op)
{
  if (op->stage == WRITE_ADMIT) {
    if (!write_admit (op, range_len (op->range), true))
      return false;
    op->stage = WRITE_DELAY;
  }
  if (op->stage == WRITE_DELAY) {
    if (write_is_delayed (op))
      return false;
    op->stage = WRITE_COPY;
  }
  return true;
}

bool
write_run (struct inode_op *op)
{
  struct inode *ino = op->ino;
  int err;

  if (!write_may_copy (op))
    return op->err != 0;
  if (op->stage == WRITE_COPY) {
    write_through_begin (op);
    err = write_pages (op);
    if (op_may_wait (op, err)) {
      op_park_memory (op);
      return false;
    }
    if (err) {
      /* EAGAIN: everything is dirty and nothing can be cleaned (D15).  What was copied is dirty all the same. */
      ino->env->dirtied (ino->env->hook_arg, ino);
      op->err = err == EAGAIN ? EIO : err;
      return true;
    }
    if (ino->env->mode == INODE_UNSAFE
        || (!(op->flags & INODE_FUA) && ino->env->mode != INODE_WRITETHROUGH)) {
      /* Below the background bound one word is enough: the clock of dirty_expire must run. */
      if (ino->charged > ino->env->dirty_background
          || (!atomic_load (&ino->noticed) && !atomic_exchange (&ino->noticed, true)))
        ino->env->dirtied (ino->env->hook_arg, ino);
      return true;
    }
    op->stage = WRITE_SAFE;
    sync_begin (op, op->range, op->flags & INODE_FUA ? INODE_FUA : INODE_ACCEPTED);
  }
  if (!sync_step (op))
    return false;
  sync_end (op);
  if (op->through) {
    write_through_end (op);     /* first: of two that fail at once, one has to */
    if (op->err)
      drop_unwritten (op);
  }
  return true;
}
