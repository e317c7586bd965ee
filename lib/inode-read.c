/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-read - what are these bytes now?
 *
 * From op->pos on, what is there is copied under the stripe's lock held shared (D6); zeros are made; at
 * the first gap the walk goes on without copying, so that everything missing of the request is asked for
 * at once, and the op waits for all of it.  Then it copies on.  Pages that a waiter's fill brought are
 * pinned until the op has passed them, so that a small cache cannot take them away first.
 *
 * Of a scan longer than memory (readahead.h) what is missing is not kept: it goes straight into the client's buffer, and
 * counts if nothing happened to it meanwhile.  Else it is read again, the usual way.
 *
 * No lock is held for more than COPY_MAX of copying.  A hit takes no other lock, allocates nothing, makes no
 * system call and writes one byte a page at most (evict_touch).
 *
 * Most hits are short and lie in one piece: inode_read_hit () is the way for them, and read_run () for everything.  Preparing an
 * op, driving and ending it is more than half of what such a hit costs.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "inode-priv.h"

/* A shared hold longer than a page: 64 KiB are copied in about 5 us, which a writer can wait (D6 asks for one
 * page; one look-up and one lock for each 4 KiB of a 256 KiB read cost a fifth of its time).
 */
#define COPY_MAX ((uint64_t) 64 << 10)

static void
touch_pages (struct inode_op *op, uint64_t off, uint64_t end, uint32_t frame)
{
  struct evict *e = op->ino->env->evict;
  uint64_t p;

  for (p = page_of (off); p < end; p += PAGE_SIZE, frame++)
    if (evict_touch (e, frame))
      op->used_ahead++;
}

/* Copy what is there from op->pos on, up to limit, in one hold.  A page of which only part is there is not begun: its
 * bytes must be of one moment, and the rest comes later (D6).  False: nothing was copied.
 */
static bool
copy_some (struct inode_op *op, struct stripe *st, uint64_t limit)
{
  struct inode_env *env = op->ino->env;
  uint64_t stop = page_of (op->pos) + COPY_MAX, from = op->pos;

  if (stop > limit)
    stop = limit;
  rwlock_take_shared (&st->lock);
  while (op->pos < stop) {
    struct range seg;
    uint32_t frame;
    uint64_t end;

    if (!rangeset_find (&st->map, op->pos, &seg, &frame))
      break;
    end = seg.end < stop ? seg.end : stop;
    memcpy (op->buf + (op->pos - op->range.start),
            memfile_addr (env->mf, frame) + (op->pos & (PAGE_SIZE - 1)), end - op->pos);
    touch_pages (op, op->pos, end, frame);
    op->pos = end;
  }
  rwlock_drop (&st->lock);
  if (op->pos < stop && page_of (op->pos) != op->pos)
    op->pos = page_of (op->pos) > from ? page_of (op->pos) : from;
  return op->pos > from;
}

/* Is op->pos known to be zero?  Then make zeros as far as that goes.  The map is looked at again under the same
 * hold, for a byte is never in both but may have changed from one to the other.  They are made when nothing is held any
 * more: they are what was there at that moment, and clearing a MiB takes long.
 */
static bool
zero_some (struct inode_op *op, struct stripe *st, uint64_t limit)
{
  struct inode *ino = op->ino;
  struct range seg, valid;
  struct zero_value v;
  uint32_t frame;
  bool found;

  if (atomic_load_explicit (&ino->nzeros, memory_order_acquire) == 0)
    return false;
  rwlock_take_shared (&st->lock);
  rwlock_take_shared (&ino->zlock);
  found = !rangeset_find (&st->map, op->pos, &valid, &frame) && zeroset_find (&ino->zeros, op->pos, &seg, &v);
  rwlock_drop (&ino->zlock);
  rwlock_drop (&st->lock);
  if (found) {
    uint64_t end = seg.end < limit ? seg.end : limit;

    memset (op->buf + (op->pos - op->range.start), 0, end - op->pos);
    op->pos = end;
  }
  return found;
}

/* Did the origin put op->pos and what follows into the buffer already?  Whole pages, each of one moment; what was there or is
 * newer stops a bypass as a whole.
 */
static bool
pass_some (struct inode_op *op)
{
  unsigned i;

  for (i = 0; op->bypass && i < op->nfills; i++) {
    const struct fill *f = op->fill[i].fill;

    if (f->reader != op || op->pos < f->range.start || op->pos >= f->range.end)
      continue;
    if (!f->good) {
      op->bypass = false;
      return false;
    }
    op->pos = f->range.end < op->range.end ? f->range.end : op->range.end;
    return true;
  }
  return false;
}

static unsigned
pages_touched (struct range r)
{
  return (unsigned) ((page_of (r.end - 1) - page_of (r.start)) >> PAGE_SHIFT) + 1;
}

/* What is missing up to end is being fetched: count its pages, each once a read. */
static void
count_missing (struct inode_op *op, struct range gap, uint64_t end)
{
  struct range r = range_intersect (op->range, (struct range) { gap.start, end });

  if (r.start < op->counted)
    r.start = op->counted;
  if (r.start >= r.end)
    return;
  op->nmissed += pages_touched (r);
  op->counted = page_of (r.end - 1) + PAGE_SIZE;
}

/* Everything missing from op->pos to the end is asked for, as far as frames and room in op->fill allow. */
static int
ask_for_rest (struct inode_op *op)
{
  struct inode *ino = op->ino;
  struct range gap, rest = { op->pos, op->range.end };

  while (op->nfills < INODE_OP_FILLS && fill_next_missing (ino, rest, &gap)) {
    unsigned nfills = op->nfills;
    uint64_t end;
    int err = fill_want (ino, gap, op, false, &end);

    if (err)
      return op->nfills ? 0 : err;
    if (op->nfills > nfills)
      count_missing (op, gap, end);
    rest.start = end > gap.start ? end : gap.start;
  }
  return 0;
}

/* What became of pages that were fetched ahead: read now, or dropped unread since the last time.  ra_lock is held. */
static void
feed_back (struct inode_op *op)
{
  struct inode *ino = op->ino;
  uint64_t wasted = atomic_load_explicit (&ino->stats.readahead_wasted, memory_order_relaxed);

  if (op->used_ahead || wasted != ino->ra_wasted)
    readahead_feedback (ino->ra, (uint64_t) op->used_ahead << PAGE_SHIFT, wasted - ino->ra_wasted);
  op->used_ahead = 0;
  ino->ra_wasted = wasted;
}

static void
tell_readahead (struct inode_op *op)
{
  struct inode *ino = op->ino;
  struct range ahead[READAHEAD_BATCH];
  struct readahead_event ev = {
    .off = op->range.start, .len = range_len (op->range),
    .what = op->nmissed ? op->joined ? READAHEAD_JOIN : READAHEAD_MISS
            : op->used_ahead ? READAHEAD_USED : READAHEAD_HIT,
    .demand_bytes = atomic_load_explicit (&ino->demand_bytes, memory_order_relaxed),
    .bypass = op->bypass, .shared = op->shared,
  };
  uint64_t places;
  unsigned i, n;

  if (op->told && op->missed)   /* it stands in line itself */
    ev.demand_bytes -= ev.len;
  if (ev.what == READAHEAD_HIT
      && !readahead_may_follow (atomic_load_explicit (&ino->ra_places, memory_order_relaxed), ev.off, ev.len))
    return;
  ev.now_ns = clock_now (ino->env->clock);
  lock_take (&ino->ra_lock);
  feed_back (op);
  n = readahead_access (ino->ra, &ev, ahead, READAHEAD_BATCH);
  atomic_store_explicit (&ino->ra_scan, readahead_is_scan (ino->ra), memory_order_relaxed);
  places = readahead_places (ino->ra);
  if (places != atomic_load_explicit (&ino->ra_places, memory_order_relaxed))
    atomic_store_explicit (&ino->ra_places, places, memory_order_relaxed);
  lock_drop (&ino->ra_lock);
  for (i = 0; i < n; i++)
    if (inode_prefetch (ino, ahead[i], true) == 0) {
      lock_take (&ino->ra_lock);
      readahead_declined (ino->ra, ahead[i]);
      lock_drop (&ino->ra_lock);
    }
}

/* Smaller ones are rather somebody else's than the scan's. */
#define BYPASS_MIN ((uint64_t) 64 << 10)

static bool
is_scanning (struct inode_op *op)
{
  struct inode *ino = op->ino;
  uint64_t len = range_len (op->range);

  return ino->ra && len >= BYPASS_MIN && atomic_load_explicit (&ino->ra_scan, memory_order_relaxed)
         && readahead_may_follow (atomic_load_explicit (&ino->ra_places, memory_order_relaxed), op->range.start, len);
}

static void
first_miss (struct inode_op *op)
{
  op->missed = true;
  op->bypass = (op->flags & INODE_BYPASS) || is_scanning (op);
  atomic_fetch_add_explicit (&op->ino->demand_bytes, range_len (op->range), memory_order_relaxed);
}

/* With the lock of the stripe, for who reads elsewhere shall not wait for this line. */
static void
count_hits (struct inode *ino, uint64_t off, unsigned n)
{
  _Atomic uint32_t *tally = &inode_stripe (ino, off)->lock.tally;

  if (atomic_fetch_add_explicit (tally, n, memory_order_relaxed) + n >= UINT32_C (1) << 30)
    STAT_ADD (ino, hits, atomic_exchange_explicit (tally, 0, memory_order_relaxed));
}

/* The same memory at the same moment as an op would give, without one: what is in one run of frames, in one hold.  Whatever
 * wants more than a copy (a gap, what was fetched ahead, a hit that a stream may follow, an error) is an op's.
 */
bool
inode_read_hit (struct inode *ino, void *buf, struct range r)
{
  struct inode_env *env = ino->env;
  struct stripe *st = inode_stripe (ino, r.start);
  unsigned n = pages_touched (r), i;
  struct range seg;
  uint32_t frame;
  bool hit;

  lock_assert_none_held ();
  assert (range_is_well_formed (r) && !range_is_empty (r));
  if (range_len (r) > COPY_MAX || atomic_load (&ino->failed_err) || r.end > inode_end (ino)
      || (ino->ra && readahead_may_follow (atomic_load_explicit (&ino->ra_places, memory_order_relaxed), r.start,
                                           range_len (r))))
    return false;
  rwlock_take_shared (&st->lock);
  hit = rangeset_find (&st->map, r.start, &seg, &frame) && r.end <= seg.end;
  for (i = 0; hit && i < n; i++)
    hit = !evict_is_ahead (env->evict, frame + i);
  if (hit) {
    memcpy (buf, memfile_addr (env->mf, frame) + (r.start & (PAGE_SIZE - 1)), range_len (r));
    for (i = 0; i < n; i++)
      evict_touch (env->evict, frame + i);
    count_hits (ino, r.start, n);
  }
  rwlock_drop (&st->lock);
  return hit;
}

static bool
read_done (struct inode_op *op, int err)
{
  struct inode *ino = op->ino;
  unsigned hits;

  fill_release (op);
  if (op->missed) {
    atomic_fetch_sub_explicit (&ino->demand_bytes, range_len (op->range), memory_order_relaxed);
    if (op->joined)
      STAT_ADD (ino, joined, 1);
  }
  if (op->nmissed)
    STAT_ADD (ino, misses, op->nmissed);
  hits = pages_touched (op->range) - op->nmissed;
  if (hits)
    count_hits (ino, op->range.start, hits);
  if (ino->ra && !err && !op->told)
    tell_readahead (op);
  else if (ino->ra && op->used_ahead) {
    lock_take (&ino->ra_lock);
    feed_back (op);
    lock_drop (&ino->ra_lock);
  }
  op->err = err;
  return true;
}

bool
read_run (struct inode_op *op)
{
  struct inode *ino = op->ino;
  int err;

  for (;;) {
    if (op->nfills) {
      if (atomic_load (&op->waits) > 0)
        return false;
      op->lent = false;
      err = atomic_exchange (&op->fill_err, 0);
      if (err == ENOMEM && op_may_wait (op, err)) {
        fill_release (op);
        op_park_memory (op);
        return false;
      }
      if (err)
        return read_done (op, err);
    }
    while (op->pos < op->range.end) {
      uint64_t limit = stripe_part ((struct range) { op->pos, op->range.end }).end;
      struct stripe *st = inode_stripe (ino, op->pos);

      if (!pass_some (op) && !copy_some (op, st, limit) && !zero_some (op, st, limit))
        break;
    }
    if (op->pos == op->range.end)
      return read_done (op, 0);

    /* What this op's last fills brought has been copied, up to a page that went another way. */
    fill_release (op);
    if (!op->missed)
      first_miss (op);
    if (holes_wait (op, op->pos))
      return false;
    err = ask_for_rest (op);
    if (ino->ra && !op->told) {
      op->told = true;          /* both leave together, the demand first */
      tell_readahead (op);
    }
    if (err && op_may_wait (op, err)) {
      op_park_memory (op);
      return false;
    }
    if (err)
      return read_done (op, err == EAGAIN ? EIO : err);
    /* No fill although something was missing: it came meanwhile, or was planned by another.  Copy on. */
  }
}

uint64_t
inode_prefetch (struct inode *ino, struct range r, bool ahead)
{
  uint64_t asked = 0, end, all;
  struct range gap;

  if (r.end > inode_end (ino))
    r.end = inode_end (ino);
  all = r.end > r.start ? r.end - r.start : 0;
  while (fill_next_missing (ino, r, &gap)) {
    if (ahead && holes_prefetch (ino, gap.start)) {
      r.start = stripe_part ((struct range) { gap.start, r.end }).end;
      asked += r.start - gap.start;
      continue;
    }
    if (fill_want (ino, gap, NULL, ahead, &end) != 0)
      return asked;
    if (end <= gap.start)
      break;
    asked += end - gap.start;
    r.start = end;
  }
  return all;
}
