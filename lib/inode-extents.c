/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-extents - what is data, what is zero, what is a hole?
 *
 * Clean ranges are asked of the origin each time (D8); what is newer here lies over its answer (N-53):
 * bytes that are dirty in any state are data, zeros on their way are zero (and a hole, if the client allowed
 * one), trims on their way are data, which is always a safe answer (N-51).
 *
 * The overlay is taken before the origin is asked.  Taken after, a range could have been written back
 * in between: the origin's answer would be from before, the overlay from after, and bytes acknowledged
 * long ago would be called a hole (N-54).
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "inode-priv.h"

#define MAX_EXTENTS 4096        /* each of ours and the origin's: 192 KiB */
#define FEW_EXTENTS 16          /* for a client that takes one; and when memory is short */

struct ext {
  uint64_t start, end;
  unsigned type;
};

struct exts {
  struct ext *v;
  unsigned n, most;
  bool full;
};

static void
ext_add (struct exts *e, uint64_t start, uint64_t end, unsigned type)
{
  if (e->full)
    return;
  if (e->n && e->v[e->n - 1].end == start && e->v[e->n - 1].type == type) {
    e->v[e->n - 1].end = end;
    return;
  }
  if (e->n == e->most) {
    e->full = true;
    return;
  }
  e->v[e->n++] = (struct ext) { start, end, type };
}

static unsigned
zero_type (const struct zero_value *v)
{
  if (v->kind == ZERO_TRIM)
    return 0;
  return ORIGIN_EXTENT_ZERO | (v->may_trim ? ORIGIN_EXTENT_HOLE : 0);
}

/* What is newer than the origin in part, which lies in one MiB; the stripe and zlock are held shared. */
static void
overlay_part (struct inode *ino, struct stripe *st, struct range part, struct exts *out)
{
  uint64_t pos = part.start;

  while (pos < part.end) {
    struct range data = { part.end, part.end }, zero = data, rest = { pos, part.end }, seg;
    struct dirty_value dv;
    struct zero_value zv = { 0 };

    if (dirtyset_next (&st->dirty, pos, WB_NOT_CLEAN, WB_SEQ_ANY, &seg, &dv) && seg.start < part.end)
      data = range_intersect (seg, rest);
    if (zeroset_next (&ino->zeros, rest, WB_NOT_CLEAN, WB_SEQ_ANY, &seg, &zv))
      zero = range_intersect (seg, rest);
    if (data.start == part.end && zero.start == part.end)
      return;
    if (data.start < zero.start) {
      ext_add (out, data.start, data.end, 0);
      pos = data.end;
    }
    else {
      ext_add (out, zero.start, zero.end, zero_type (&zv));
      pos = zero.end;
    }
  }
}

/* The same for any range; stops when out is full. */
static void
overlay (struct inode *ino, struct range r, struct exts *out)
{
  uint64_t pos = r.start;

  while (pos < r.end && !out->full) {
    struct range part = stripe_part ((struct range) { pos, r.end });
    struct stripe *st = inode_stripe (ino, pos);

    rwlock_take_shared (&st->lock);
    rwlock_take_shared (&ino->zlock);
    overlay_part (ino, st, part, out);
    rwlock_drop (&ino->zlock);
    rwlock_drop (&st->lock);
    pos = part.end;
  }
}

/* origin_do has req.arg to itself while it waits. */
struct question {
  struct origin_req req;
  struct exts *under;
};

static void
got_extent (struct origin_req *req, uint64_t off, uint64_t len, unsigned type)
{
  ext_add (container_of (req, struct question, req)->under, off, off + len, type);
}

static int
ask_origin (struct inode *ino, struct range r, bool one, struct exts *under)
{
  struct question q = {
    .req = {
      .cmd = ORIGIN_STATUS, .prio = ORIGIN_PRIO_DEMAND, .flags = one ? ORIGIN_ONE : 0,
      .off = r.start, .len = range_len (r), .extent = got_extent,
    },
    .under = under,
  };
  uint64_t mask = (uint64_t) ino->block_min - 1;
  int err = ENOTSUP;

  if (q.req.off & mask)
    q.req.flags = 0;            /* one extent may end before r begins */
  q.req.off &= ~mask;
  q.req.len = ((r.end + mask) & ~mask) - q.req.off;     /* a size is whole blocks */
  list_node_init (&q.req.node);
  if (ino->origin->info.can_extents && q.req.len <= UINT32_MAX)
    err = origin_do (ino->origin, &q.req);
  if (err || under->n == 0 || under->v[under->n - 1].end <= r.start) {
    /* N-55: not knowing is said as "data". */
    under->n = 0;
    under->full = false;
    ext_add (under, r.start, r.end, 0);
  }
  return 0;
}

/* Room for both lists, of the budget; where it is short, a client hears of less at a time.  NULL: few have to do. */
static struct ext *
room_for (struct inode_env *env, unsigned *most)
{
  struct ext *v = NULL;

  for (*most = MAX_EXTENTS; *most > FEW_EXTENTS && !v; ) {
    v = meta_alloc (env, 2 * *most * sizeof *v);
    if (!v)
      *most /= 4;
  }
  return v;
}

int
inode_extents (struct inode *ino, struct range r, bool one,
               int (*fn) (void *, uint64_t, uint64_t, unsigned), void *arg)
{
  struct exts over = { 0 }, under = { 0 };
  struct ext last = { 0 };
  unsigned o = 0, u = 0;
  uint64_t pos = r.start, stop = r.end;
  struct ext few[2 * FEW_EXTENTS], *many = NULL;
  unsigned most = FEW_EXTENTS;
  int err = 0;

  if (!one)
    many = room_for (ino->env, &most);
  over.v = many ? many : few;
  under.v = over.v + most;
  over.most = under.most = most;
  overlay (ino, r, &over);
  if (over.full)
    stop = over.v[over.n - 1].end;      /* what lies behind is told at the next request */
  if (!(over.n && over.v[0].start <= r.start && over.v[0].end >= stop))
    err = ask_origin (ino, (struct range) { r.start, stop }, one && over.n == 0, &under);

  while (!err && pos < stop) {
    struct ext e = { pos, stop, 0 };

    while (o < over.n && over.v[o].end <= pos)
      o++;
    while (u < under.n && under.v[u].end <= pos)
      u++;
    if (o < over.n && over.v[o].start <= pos)
      e = (struct ext) { pos, over.v[o].end, over.v[o].type };
    else if (u == under.n) {
      stop = pos;               /* the origin told no more */
      break;
    }
    else {
      e = (struct ext) { pos, under.v[u].end, under.v[u].type };
      if (o < over.n && over.v[o].start < e.end)
        e.end = over.v[o].start;
    }
    if (e.end > stop)
      e.end = stop;
    pos = e.end;
    if (last.end == e.start && last.end > last.start && last.type == e.type)
      last.end = e.end;
    else {
      if (last.end > last.start) {
        err = fn (arg, last.start, last.end - last.start, last.type);
        if (one) {
          last.end = last.start;
          break;
        }
      }
      last = e;
    }
  }
  if (!err && last.end > last.start)
    err = fn (arg, last.start, last.end - last.start, last.type);
  if (many)
    meta_free (ino->env, many, 2 * most * sizeof *many);
  return err;
}
