/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-zero - ranges become zeros, or nobody's business (D8, CIN-26..28).
 *
 * Whole units (a page, or the origin's block if that is larger) leave map and dirty set, never written
 * back, and are remembered in ino->zeros: O(1) in memory.  MiB by MiB where something is held; what lies between in one
 * step, with all stripes held, so that trimming a disk costs what is cached of it and not its size.  What is left at the edges
 * of a zero is written as zeros, like any write, and admitted like one; at the edges of a trim it is left as it is (N-33).
 *
 * A zero that must not become a hole is forwarded before the reply (N-41); FAST and NO_HOLE together are
 * refused before anything changes (N-42).
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "inode-priv.h"

enum { STAGE_BEGIN, STAGE_ADMIT, STAGE_DELAY, STAGE_HEAD, STAGE_BODY, STAGE_TAIL, STAGE_SAFE };

static const uint8_t zero_block[65536];

/* The whole units of r; the export's end counts as a boundary. */
static struct range
whole_units (struct inode *ino, struct range r)
{
  struct range u = { (r.start + ino->unit - 1) & ~(ino->unit - 1), r.end & ~(ino->unit - 1) };

  if (r.end == ino->size)
    u.end = r.end;
  if (u.start >= u.end)
    u.start = u.end = r.start;
  return u;
}

/* Write zeros over the edge [from, to), which is shorter than a unit; from inside our own op, which was admitted. */
static int
write_edge (struct inode_op *op, uint64_t from, uint64_t to)
{
  struct inode_op edge;
  int err;

  assert (to - from <= sizeof zero_block);
  inode_op_write (&edge, op->ino, zero_block, (struct range) { from, to }, 0);
  /* What it learned of the frames it needs is kept while it waits: else it takes one, finds that it needs more, gives it
   * back, and is woken by that, for ever.
   */
  edge.min_frames = op->min_frames;
  edge.max_frames = op->max_frames;
  err = write_pages (&edge);
  op->min_frames = edge.min_frames;
  op->max_frames = edge.max_frames;
  return err;
}

/* What was owed there is owed as zeros or as a trim from now on.  Without trim at the origin nothing is sent, and what a
 * flush that waits finds there is bytes the sector once held (N-32).
 */
static void
body_zeros (struct inode_op *op, struct stripe *st, struct range r)
{
  if (op->kind == OP_ZERO)
    zero_mark (op->ino, st, r, ZERO_ZERO, op->flags & INODE_MAY_TRIM);
  else if (op->ino->can_trim)
    zero_mark (op->ino, st, r, ZERO_TRIM, false);
  else {
    if (st)
      dirty_drop (op->ino, st, r);
    zero_drop (op->ino, r);
  }
}

/* The units of one MiB, up to the first that is mapped.  0 and part.end cut; EAGAIN: again, ENOMEM; EBUSY: the first
 * is *mapped.
 */
static int
body_part (struct inode_op *op, struct range *whole, struct range *mapped)
{
  struct inode *ino = op->ino;
  struct range part = *whole;
  struct stripe *st = inode_stripe (ino, part.start);
  int err;

  rwlock_take (&st->lock);
  if (map_first (ino, st, part, mapped)) {
    if (mapped->start <= part.start) {
      rwlock_drop (&st->lock);
      return EBUSY;
    }
    part.end = whole->end = mapped->start;
  }
  err = stripe_nodes (ino, st, rangeset_remove_inserts (&st->map, part),
                      dirtyset_is_empty (&st->dirty) ? 0 : 2);
  if (!err)
    err = zeros_nodes (ino, st, 3);
  if (err) {
    rwlock_drop (&st->lock);
    return err;
  }
  rwlock_take (&ino->zlock);
  if (zeros_have_nodes (ino, 3))
    body_zeros (op, st, part);
  else
    err = EAGAIN;
  rwlock_drop (&ino->zlock);
  if (!err) {
    map_remove (ino, st, part);
    fill_kill (st, part);
    stripe_trim (st);
  }
  rwlock_drop (&st->lock);
  return err;
}

#define BULK_MIN (2 * STRIPE_LEN)

static void
all_stripes_take (struct inode *ino)
{
  unsigned i;

  /* In this order; nobody else takes a second one. */
  rwlock_take (&ino->stripe[0].lock);
  for (i = 1; i < NSTRIPES; i++)
    rwlock_take_next (&ino->stripe[i].lock);
}

static void
all_stripes_drop (struct inode *ino)
{
  unsigned i;

  for (i = NSTRIPES; i-- > 1; )
    rwlock_drop_next (&ino->stripe[i].lock);
  rwlock_drop (&ino->stripe[0].lock);
}

/* The first byte of r of which something is held or on its way: a MiB's start; r.end: nothing.  What is dirty has its
 * page in the map.
 */
static uint64_t
first_held (struct inode *ino, struct range r)
{
  uint64_t first = r.end;
  unsigned i;

  for (i = 0; i < NSTRIPES && first > r.start; i++) {
    struct stripe *st = &ino->stripe[i];
    struct range piece;
    struct list_node *n;
    uint32_t frame;

    if (rangeset_next (&st->map, (struct range) { r.start, first }, &piece, &frame))
      first = piece.start;
    list_for_each (n, &st->fills) {
      struct fill *f = container_of (n, struct fill, node);

      if (f->range.start < first && f->range.end > r.start)
        first = f->range.start > r.start ? f->range.start : r.start;
    }
  }
  return first == r.end ? first : first & ~(STRIPE_LEN - 1);
}

/* The units of r up to the first MiB of which something is held: *done is where that is.  0, EAGAIN: again, ENOMEM. */
static int
body_bulk (struct inode_op *op, struct range r, uint64_t *done)
{
  struct inode *ino = op->ino;
  int err = zeros_nodes (ino, NULL, 3);

  *done = r.start;
  if (err)
    return err;
  all_stripes_take (ino);
  r.end = first_held (ino, r);
  if (r.end > r.start) {
    rwlock_take (&ino->zlock);
    if (!zeros_have_nodes (ino, 3))
      err = EAGAIN;             /* another used them meanwhile */
    else {
      body_zeros (op, NULL, r);
      *done = r.end;
    }
    rwlock_drop (&ino->zlock);
  }
  all_stripes_drop (ino);
  return err;
}

static bool
finish (struct inode_op *op, int err)
{
  struct inode_env *env = op->ino->env;

  op->err = err;
  /* Some of it may be zeros by now, and nobody was told. */
  if (err && op->stage != STAGE_BEGIN)
    env->dirtied (env->hook_arg, op->ino);
  inode_env_wake_memory (env);
  return true;
}

/* Whole units from op->pos on, as many as one look settles.  What is mapped is written into the frames where they are,
 * whatever is asked for: a mapping and a client see one thing (CIN-28).  0, ENOMEM; EAGAIN: no frames.
 *
 * Those pages become dirty though nobody admitted them, at most as much as is mapped (D13).  Admitted one by one from here,
 * the op waited at the head of the queue with its edges' reservation in its hands, for room which that took: for ever where
 * little may be dirty, and all writers behind it.  What first maps pages for long has to admit them in admit_edges,
 * with the edges, before anything changes, and to look again there if what is mapped has changed by then; a fast
 * zero is refused there, too (N-42).
 */
static int
zero_some_units (struct inode_op *op, uint64_t end)
{
  for (;;) {
    struct range rest = { op->pos, end }, part = stripe_part (rest), mapped = part;
    int err = 0;

    if (range_len (rest) >= BULK_MIN) {
      err = body_bulk (op, rest, &op->pos);
      if (op->pos > rest.start)
        return 0;
    }
    if (!err)
      err = body_part (op, &part, &mapped);
    if (err == EAGAIN)
      continue;
    if (err == EBUSY) {
      part.end = mapped.end;
      err = write_edge (op, mapped.start, mapped.end);
    }
    if (!err)
      op->pos = part.end;
    return err;
  }
}

/* Both, before anything changes, for a fast one is refused if it had to wait (N-42). */
static bool
admit_edges (struct inode_op *op, struct range units)
{
  uint64_t edges = range_len (op->range) - range_len (units);

  if (op->stage == STAGE_ADMIT) {
    if (edges > 0 && !write_admit (op, edges, !(op->flags & INODE_FAST)))
      return false;
    op->stage = STAGE_DELAY;
  }
  if (write_is_delayed (op))
    return false;
  op->stage = STAGE_HEAD;
  return true;
}

bool
zero_run (struct inode_op *op)
{
  struct inode *ino = op->ino;
  struct range units = whole_units (ino, op->range);
  bool hole_ok = op->kind == OP_TRIM || (op->flags & INODE_MAY_TRIM);
  int err;

  if (op->stage == STAGE_BEGIN) {
    if (op->kind == OP_ZERO && (op->flags & INODE_FAST) && !hole_ok)
      return finish (op, ENOTSUP);
    op->stage = op->kind == OP_ZERO ? STAGE_ADMIT : STAGE_BODY;
    op->pos = units.start;
  }
  if ((op->stage == STAGE_ADMIT || op->stage == STAGE_DELAY) && !admit_edges (op, units))
    return op->err != 0;
  if (op->kind == OP_ZERO)
    write_through_begin (op);
  while (op->stage == STAGE_HEAD || op->stage == STAGE_TAIL) {
    uint64_t from = op->stage == STAGE_HEAD ? op->range.start : units.end;
    uint64_t to = op->stage == STAGE_HEAD ? units.start : op->range.end;

    /* No whole unit at all: everything is head. */
    if (range_is_empty (units)) {
      from = op->stage == STAGE_HEAD ? op->range.start : op->range.end;
      to = op->range.end;
    }
    while (from < to) {
      uint64_t end = to - from > sizeof zero_block ? from + sizeof zero_block : to;

      err = write_edge (op, from, end);
      if (op_may_wait (op, err)) {
        op_park_memory (op);
        return false;
      }
      if (err)
        return finish (op, err == EAGAIN ? EIO : err);
      from = end;
    }
    op->stage = op->stage == STAGE_HEAD ? STAGE_BODY : STAGE_SAFE;
    if (op->stage == STAGE_BODY)
      op->pos = units.start;
  }
  if (op->stage == STAGE_BODY) {
    while (op->pos < units.end) {
      err = zero_some_units (op, units.end);
      if (err && op_may_wait (op, err)) {
        op_park_memory (op);
        return false;
      }
      if (err)
        return finish (op, err == EAGAIN ? EIO : err);
    }
    if (op->kind == OP_ZERO) {
      op->stage = STAGE_TAIL;
      return zero_run (op);
    }
    op->stage = STAGE_SAFE;
  }
  assert (op->stage == STAGE_SAFE);
  if (!op->syncing) {
    enum inode_mode mode = atomic_load (&ino->env->mode);

    op_forget_dirt (op);        /* the edges are dirty */
    if (mode == INODE_UNSAFE
        || (!(op->flags & INODE_FUA) && mode == INODE_WRITEBACK && hole_ok)) {
      ino->env->dirtied (ino->env->hook_arg, ino);
      return finish (op, 0);
    }
    sync_begin (op, op->range, op->flags & INODE_FUA ? INODE_FUA : INODE_ACCEPTED);
  }
  if (!sync_step (op))
    return false;
  sync_end (op);
  return finish (op, op->err);
}
