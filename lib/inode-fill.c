/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-fill - how missing pages come in: one read request, any number of readers.
 *
 * A fill is one request for whole pages of one MiB.  It is listed in its stripe while under way, so
 * that a second reader of the same page joins it and asks nothing (single flight, sem.T-16).  Its answer is put
 * into the map only where nothing happened to the page since it was issued (CON-3): a page that was zeroed,
 * trimmed or dropped is marked dead; a page that got bytes written keeps those, and only the absent ones
 * are taken from the fill (D2).  Pages in a fill's way are not evicted, so what was written
 * into them while it was under way cannot have left again.
 *
 * A bypass takes no frames: its answer goes into the buffer of the read that asked.  Whether a page of it was touched since
 * is known in the same way, but then all of it is read again.  Who joins it only waits, and asks anew.
 *
 * Frames   allocated before the request is sent, in one run where possible: then the answer is
 *          read straight into them.  Otherwise through a buffer of the bounce pool, or, when there is none,
 *          for the first run only (D20).
 * Locks    the stripe's, exclusively; dropped before the origin is called.
 * Errors   who waited gets the fill's errno, once (D7); a fill nobody waited for tells nobody.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "inode-priv.h"

static const uint8_t zeros[16];

static void free_buffer (struct inode_env *, void *bounce, bool heap, unsigned npages);

/* How many of the n frames at f are neighbours? */
static unsigned
contiguous (const uint32_t *f, unsigned n)
{
  unsigned i;

  for (i = 1; i < n && f[i] == f[i - 1] + 1; i++)
    ;
  return i;
}

static size_t
fill_size (uint32_t npages)
{
  return sizeof (struct fill) + npages * sizeof (uint32_t);
}

static struct fill *
fill_overlapping (struct stripe *st, struct range r)
{
  struct list_node *n;

  list_for_each (n, &st->fills) {
    struct fill *f = container_of (n, struct fill, node);

    if (range_overlaps (f->range, r))
      return f;
  }
  return NULL;
}

bool
fill_in_way (struct stripe *st, struct range r)
{
  return fill_overlapping (st, r) != NULL;
}

void
fill_kill (struct stripe *st, struct range r)
{
  struct list_node *n;

  list_for_each (n, &st->fills) {
    struct fill *f = container_of (n, struct fill, node);
    struct range in = range_intersect (f->range, r);
    uint64_t off;

    if (range_is_empty (in))
      continue;
    for (off = page_of (in.start); off < in.end; off += PAGE_SIZE) {
      unsigned i = (unsigned) ((off - f->range.start) >> PAGE_SHIFT);

      f->dead[i / 64] |= (uint64_t) 1 << (i % 64);
    }
  }
}

static bool
fill_is_dead (const struct fill *f, unsigned i)
{
  return f->dead[i / 64] >> (i % 64) & 1;
}

/* The stripe is held exclusively.  One user less; true: the caller frees it, with no lock held. */
static bool
fill_put_locked (struct fill *f)
{
  assert (f->refs > 0);
  return --f->refs == 0;
}

static void
fill_free (struct fill *f)
{
  struct inode_env *env = f->ino->env;
  uint32_t frames[STRIPE_PAGES];
  unsigned i, n = 0;

  for (i = 0; i < f->npages; i++)
    if (f->frames[i] != FRAME_NONE)
      frames[n++] = f->frames[i];
  /* A bypass has no frames to wait for: of a long scan there is always one. */
  if (f->npages > 0) {
    memfile_put_many (env->mf, frames, n);
    inode_env_wake_memory (env);
    atomic_fetch_sub (&env->nfills, 1); /* last: see op_may_wait */
  }
  meta_free (env, f, fill_size (f->npages));
}

/* op waits for f, or has already got what it brings pinned. */
static void
fill_join (struct fill *f, struct inode_op *op)
{
  struct inode_op_fill *w;
  unsigned i;

  for (i = 0; i < op->nfills; i++)
    if (op->fill[i].fill == f)
      return;
  assert (op->nfills < INODE_OP_FILLS);
  if (f->reader && f->reader != op)
    op->shared = true;
  w = &op->fill[op->nfills++];
  list_node_init (&w->node);
  w->op = op;
  w->fill = f;
  list_push_back (&f->waiters, &w->node);
  f->refs++;
  f->demand++;
  atomic_fetch_add (&op->waits, 1);
}

void
fill_release (struct inode_op *op)
{
  unsigned i;

  for (i = 0; i < op->nfills; i++) {
    struct inode_op_fill *w = &op->fill[i];
    struct fill *f = w->fill;
    struct stripe *st = inode_stripe (f->ino, f->range.start);
    bool last;

    rwlock_take (&st->lock);
    list_remove (&w->node);
    last = fill_put_locked (f);
    rwlock_drop (&st->lock);
    if (last)
      fill_free (f);
  }
  op->nfills = 0;
  atomic_store (&op->waits, 0);
}

/*----------------------------------------------------------------------*/
/* The answer. */

/* Page i is partly there: written since the fill was sent, or before.  Only what is absent comes from the origin; its own
 * frame stays in f->frames, to be freed.
 */
static void
commit_rest (struct fill *f, struct stripe *st, unsigned i)
{
  struct inode *ino = f->ino;
  struct inode_env *env = ino->env;
  uint64_t pgoff = f->range.start + ((uint64_t) i << PAGE_SHIFT);
  struct range page = { pgoff, pgoff + PAGE_SIZE }, gap;
  uint8_t *from = memfile_addr (env->mf, f->frames[i]);
  bool there;
  uint32_t frame;

  if (page.end > f->range.end)
    page.end = f->range.end;
  there = rangeset_page_frame (&st->map, pgoff, &frame);
  assert (there);
  (void) there;
  if (PLANTED (PLANT_FILL_OVER_WRITE))
    memcpy (memfile_addr (env->mf, frame), from, range_len (page));
  while (rangeset_next_gap (&st->map, page, &gap)) {
    memcpy (memfile_addr (env->mf, frame) + (gap.start - pgoff), from + (gap.start - pgoff), range_len (gap));
    rangeset_add (&st->map, gap, frame);
  }
}

/* A run of pages of which nothing is there goes in as one segment.  keep: somebody waits, so each frame gets a reference
 * that lasts until he has copied.
 */
static unsigned
commit_run (struct fill *f, struct stripe *st, unsigned i, bool keep, uint32_t *fresh, unsigned *nfresh)
{
  struct inode *ino = f->ino;
  struct inode_env *env = ino->env;
  uint32_t frame, first = f->frames[i];
  uint64_t pgoff = f->range.start + ((uint64_t) i << PAGE_SHIFT);
  struct range r = { pgoff, pgoff };
  unsigned n;

  for (n = 0; i + n < f->npages; n++) {
    uint64_t off = pgoff + ((uint64_t) n << PAGE_SHIFT);

    if (fill_is_dead (f, i + n) || f->frames[i + n] != first + n
        || rangeset_page_frame (&st->map, off, &frame))
      break;
    memfile_set_owner (env->mf, first + n, frame_owner (ino->id, off >> PAGE_SHIFT));
    fresh[(*nfresh)++] = first + n;
    if (keep)
      memfile_get (env->mf, first + n);
    else
      f->frames[i + n] = FRAME_NONE;
    r.end = off + PAGE_SIZE;
  }
  if (n) {
    if (r.end > f->range.end)
      r.end = f->range.end;
    rangeset_add (&st->map, r, first);
  }
  return n;
}

static void
fill_commit (struct fill *f, struct stripe *st, uint32_t *fresh, unsigned *nfresh)
{
  bool keep = !list_is_empty (&f->waiters);
  unsigned i = 0;

  while (i < f->npages) {
    unsigned n;

    if (fill_is_dead (f, i)) {
      i++;
      continue;
    }
    n = commit_run (f, st, i, keep, fresh, nfresh);
    if (n == 0) {
      commit_rest (f, st, i);
      n = 1;
    }
    i += n;
  }
}

static bool
nothing_is_there (struct stripe *st, struct range r)
{
  struct range gap;

  return rangeset_next_gap (&st->map, r, &gap) && range_equal (gap, r);
}

/* Are the bytes that a bypass brought those of its range at this moment?  Where something was written since it was sent there is
 * a frame, for what is in a fill's way does not leave; and nothing was there when it was sent.  Bytes of an earlier moment would
 * do, for the write and the read were under way together; but what the origin made of the two may be half of each (D6).
 */
static bool
bypass_is_good (struct fill *f, struct stripe *st)
{
  unsigned i;

  if (PLANTED (PLANT_BYPASS_OVER_DIRTY))
    return true;
  for (i = 0; i < PC_ARRAY_SIZE (f->dead); i++)
    if (f->dead[i])
      return false;
  return nothing_is_there (st, f->range);
}

/* What a commit can need: each page adds at most one run and, where it is partly there, a piece per gap;
 * a page never has more gaps than fragments and one.
 */
static uint32_t
commit_inserts (struct fill *f, struct stripe *st)
{
  uint32_t inserts = 1;
  unsigned i;

  for (i = 0; i < f->npages; i++) {
    uint64_t pgoff = f->range.start + ((uint64_t) i << PAGE_SHIFT);
    uint32_t frags = rangeset_page_fragments (&st->map, pgoff);

    if (frags)
      inserts += frags + 2;
    else if (i > 0 && f->frames[i] != f->frames[i - 1] + 1)
      inserts++;
    else if (fill_is_dead (f, i))
      inserts++;
  }
  return inserts;
}

/* D7: what failed for bytes that op did not ask for may be good for those it did: it asks for these alone, and whoever
 * wants the same joins it.  Not for ever, for others may ask for more than their own again and again.
 */
static bool
is_his_error (struct fill *f, struct inode_op *op, int err)
{
  uint64_t mask = f->ino->unit - 1;
  struct range his = { op->range.start & ~mask, (op->range.end + mask) & ~mask };

  return err == ENOMEM || range_is_superset (his, f->range)
         || atomic_fetch_add (&op->not_his, 1) >= INODE_OP_FILLS;
}

static void
fill_tell (struct fill *f, int err)
{
  struct list_node *n;

  list_for_each (n, &f->waiters) {
    struct inode_op_fill *w = container_of (n, struct inode_op_fill, node);
    struct inode_op *op = w->op;

    if (err && is_his_error (f, op, err))
      atomic_store (&op->fill_err, err);
    if (atomic_fetch_sub (&op->waits, 1) == 1)
      op->wake (op);
  }
}

static bool
all_zeros (const uint8_t *p, size_t n)
{
  return memcmp (p, zeros, n < sizeof zeros ? n : sizeof zeros) == 0
         && (n <= sizeof zeros || memcmp (p, p + sizeof zeros, n - sizeof zeros) == 0);
}

/* On a disk that is full of data this looks at 16 bytes. */
static bool
fill_is_zeros (struct fill *f)
{
  uint64_t len = range_len (f->range);
  unsigned i;

  if (f->reader)
    return all_zeros (f->req.buf, len);
  for (i = 0; i < f->npages; i++) {
    const uint8_t *p = memfile_addr (f->ino->env->mf, f->frames[i]);
    size_t n = len - ((uint64_t) i << PAGE_SHIFT) < PAGE_SIZE ? (size_t) (len & (PAGE_SIZE - 1)) : PAGE_SIZE;

    if (!all_zeros (p, n))
      return false;
  }
  return true;
}

static void
copy_from_bounce (struct fill *f)
{
  unsigned i, n;

  for (i = 0; i < f->npages; i += n) {
    n = contiguous (f->frames + i, f->npages - i);
    memcpy (memfile_addr (f->ino->env->mf, f->frames[i]), (uint8_t *) f->bounce + ((size_t) i << PAGE_SHIFT),
            (size_t) n << PAGE_SHIFT);
  }
}

/* The stripe is held; it is let go for memory, and taken again. */
static int
fill_take_in (struct fill *f, struct stripe *st)
{
  struct inode *ino = f->ino;
  struct inode_env *env = ino->env;
  uint32_t fresh[STRIPE_PAGES];
  unsigned i, nfresh = 0;
  int err;

  while ((err = stripe_nodes (ino, st, commit_inserts (f, st), 0)) == EAGAIN)
    ;
  if (err)
    return err;
  fill_commit (f, st, fresh, &nfresh);
  lock_take (&env->evict_lock);
  for (i = 0; i < nfresh; i++) {
    uint64_t owner = memfile_owner (env->mf, fresh[i]);

    evict_insert (env->evict, fresh[i], evict_key (ino->id, frame_owner_pgno (owner)), f->ahead ? EVICT_AHEAD : 0);
  }
  lock_drop (&env->evict_lock);
  return 0;
}

static void
fill_done (struct origin_req *req, int err)
{
  struct fill *f = req->arg;
  struct inode *ino = f->ino;
  struct inode_env *env = ino->env;
  struct stripe *st = inode_stripe (ino, f->range.start);
  uint64_t len = range_len (f->range), started_ns = f->started_ns;
  unsigned i;
  struct range r = f->range;
  bool last, is_zeros;

  if (f->bounce) {
    if (!err)
      copy_from_bounce (f);
    free_buffer (env, f->bounce, f->heap, f->npages);
    f->bounce = NULL;
    inode_env_wake_memory (env);
  }
  is_zeros = !err && ino->origin->info.can_extents && fill_is_zeros (f);
  for (i = 0; i < f->npages; i++)
    evict_expect (env->evict, evict_key (ino->id, (r.start >> PAGE_SHIFT) + i));

  rwlock_take (&st->lock);
  if (f->reader)
    f->good = !err && bypass_is_good (f, st);
  else if (!err)
    err = fill_take_in (f, st);
  list_remove (&f->node);
  f->done = true;
  fill_tell (f, err);
  last = fill_put_locked (f);
  stripe_trim (st);
  rwlock_drop (&st->lock);
  /* Unless it was the last, f belongs to those who wait from here on. */

  if (ino->ra && !err) {
    uint64_t now = clock_now (env->clock);

    lock_take (&ino->ra_lock);
    readahead_done (ino->ra, len, now - started_ns, now);
    lock_drop (&ino->ra_lock);
  }
  if (last)
    fill_free (f);
  if (is_zeros)
    holes_zeros_read (ino, r, clock_now (env->clock) - started_ns);
}

/*----------------------------------------------------------------------*/
/* The question. */

/* Is page pgoff to be asked for: not all there, not zeros, not under way already?  *end: how far that is so at least if
 * it is not.
 */
static bool
page_is_wanted (struct inode *ino, struct stripe *st, uint64_t pgoff, uint64_t *end)
{
  struct range seg, page = { pgoff, pgoff + PAGE_SIZE };
  struct zero_value v;
  bool zero = false;

  *end = page.end;
  if (rangeset_page_valid (&st->map, pgoff, inode_end (ino)))
    return false;
  if (atomic_load_explicit (&ino->nzeros, memory_order_relaxed)) {
    rwlock_take_shared (&ino->zlock);
    zero = zeroset_find (&ino->zeros, pgoff, &seg, &v);
    rwlock_drop (&ino->zlock);
  }
  if (zero && seg.end > page.end)
    *end = stripe_part ((struct range) { pgoff, seg.end }).end;
  return !zero && !fill_in_way (st, page);
}

/* From off, a page's start, on: pages of which nothing at all is here, seen at one look.  Where they end; it may be off.  Page by
 * page they took a fifth of the instructions of a cold read.
 */
static uint64_t
skip_absent (struct inode *ino, struct stripe *st, uint64_t off, uint64_t end)
{
  struct range gap, piece;
  struct zero_value v;

  if (off >= end || !rangeset_next_gap (&st->map, (struct range) { off, end }, &gap) || gap.start != off
      || fill_in_way (st, gap))
    return off;
  if (atomic_load_explicit (&ino->nzeros, memory_order_relaxed)) {
    rwlock_take_shared (&ino->zlock);
    if (zeroset_next_piece (&ino->zeros, gap, &piece, &v))
      gap.end = piece.start;
    rwlock_drop (&ino->zlock);
  }
  return page_of (gap.end);
}

/* What is to be done for r.start and what follows it. */
enum plan {
  PLAN_NOTHING,                 /* it is there up to run->end */
  PLAN_JOIN,                    /* *in_way, under way, brings it up to run->end */
  PLAN_ASK,                     /* the pages of *run are to be asked for */
};

static enum plan
plan (struct inode *ino, struct stripe *st, struct range r, struct range *run, struct fill **in_way)
{
  uint64_t off = page_of (r.start);
  uint64_t limit = off + ino->data_max, end;
  struct range page = { off, off + PAGE_SIZE };
  struct fill *f = fill_overlapping (st, page);

  /* Also where the page is dead in it, or it ends before r.start, where the origin ended then: what it brings is useless, but a
   * new request has to wait until it has ended.
   */
  if (f && !rangeset_page_valid (&st->map, off, inode_end (ino))) {
    *in_way = f;
    run->end = f->range.end > page.end ? f->range.end : page.end;
    return PLAN_JOIN;
  }
  if (!page_is_wanted (ino, st, off, &run->end))
    return PLAN_NOTHING;
  run->start = off;
  off = skip_absent (ino, st, off + PAGE_SIZE, r.end < limit ? r.end : limit);
  for (; off < r.end && off < limit && page_is_wanted (ino, st, off, &end); off += PAGE_SIZE)
    ;
  run->end = off;
  return PLAN_ASK;
}

/* Whole units, not beyond end, which lies behind run->start; not in the way of another fill. */
static bool
align_run (struct inode *ino, struct stripe *st, uint64_t end, struct range *run)
{
  struct range in = *run;

  run->start &= ~(ino->unit - 1);
  run->end = (run->end + ino->unit - 1) & ~(ino->unit - 1);
  if (run->end > end)
    run->end = end;
  if (range_len (*run) > ino->data_max && ino->unit > PAGE_SIZE)
    run->end = run->start + (ino->data_max & ~(ino->unit - 1));
  return range_equal (in, *run) || ino->unit == PAGE_SIZE || !fill_in_way (st, *run);
}

static void
fill_submit (struct fill *f, uint8_t *buf)
{
  struct inode *ino = f->ino;

  f->req.cmd = ORIGIN_READ;
  f->req.prio = f->ahead ? ORIGIN_PRIO_READAHEAD : ORIGIN_PRIO_DEMAND;
  f->req.off = f->range.start;
  f->req.len = range_len (f->range);
  f->req.buf = buf;
  f->req.done = fill_done;
  f->req.arg = f;
  f->started_ns = clock_now (ino->env->clock);
  STAT_ADD (ino, fills, 1);
  STAT_ADD (ino, fill_bytes, f->req.len);
  if (f->ahead)
    STAT_ADD (ino, readahead_bytes, f->req.len);
  if (f->reader)
    STAT_ADD (ino, bypass_bytes, f->req.len);
  origin_submit (ino->origin, &f->req);
}

static unsigned
pages_of (struct range r)
{
  return (unsigned) ((r.end - r.start + PAGE_SIZE - 1) >> PAGE_SHIFT);
}

/* A run shorter than this is not worth a request of its own, which costs the three processes on its way more than
 * copying 256 KiB does (D20 says 64 KiB, at which nbdcopy through a full cache sent 5 % more requests and took more).
 * Of a longer one whole multiples are used: what is left of runs of any length is crumbs that fit nobody, and make the next
 * ones shorter.
 */
#define RUN_WORTH_IT 64

/* Where the answer is read into (D20): the frames, if they are one run of 256 KiB or more, or all of the request; else a
 * buffer; else only the first run.  Returns how many frames are used, the others are given back; 0: none.
 * Whole blocks of the origin larger than a page must come at once, so for them memory is asked for.
 */
static unsigned
choose_buffer (struct inode *ino, uint32_t *frames, unsigned n, void **bounce, bool *heap)
{
  struct inode_env *env = ino->env;
  unsigned unit = (unsigned) (ino->unit >> PAGE_SHIFT);
  unsigned c = contiguous (frames, n), most = (unsigned) (bounce_size (env->bounce) >> PAGE_SHIFT), use;

  *bounce = NULL;
  *heap = false;
  if (c == n)
    return n;
  use = c / unit * unit;
  if (use > RUN_WORTH_IT)
    use = use / RUN_WORTH_IT * RUN_WORTH_IT;
  if (use < RUN_WORTH_IT) {
    use = n < most ? n : most / unit * unit;
    *bounce = bounce_take (env->bounce, false, 0);
    if (!*bounce && c < unit) {
      use = unit < n ? unit : n;
      *bounce = meta_alloc_hard (env, (size_t) use << PAGE_SHIFT);
      *heap = *bounce != NULL;
      if (!*bounce)
        use = 0;
    }
    else if (!*bounce)
      use = c / unit * unit;
  }
  if (use)
    env_free_frames (env, frames + use, n - use);
  else
    memfile_put_many (env->mf, frames, n);
  return use;
}

static void
free_buffer (struct inode_env *env, void *bounce, bool heap, unsigned npages)
{
  if (heap)
    meta_free (env, bounce, (size_t) npages << PAGE_SHIFT);
  else if (bounce)
    bounce_give (env->bounce, bounce);
}

static struct fill *
fill_new (struct inode *ino, const uint32_t *frames, unsigned n, void *bounce, bool heap)
{
  struct fill *f = meta_alloc_hard (ino->env, fill_size (n));

  if (!f)
    return NULL;
  memset (f, 0, sizeof *f);
  f->ino = ino;
  f->npages = n;
  f->bounce = bounce;
  f->heap = heap;
  f->refs = 1;
  if (n)
    atomic_fetch_add (&ino->env->nfills, 1);
  list_node_init (&f->node);
  list_init (&f->waiters);
  list_node_init (&f->req.node);
  if (n)
    memcpy (f->frames, frames, n * sizeof *frames);
  return f;
}

/* A fill with frames for up to `want` pages and a buffer.  EAGAIN: not one unit's frames, or no buffer; ENOMEM. */
static int
fill_equip (struct inode *ino, unsigned want, struct fill **ret)
{
  struct inode_env *env = ino->env;
  uint32_t frames[STRIPE_PAGES];
  unsigned n, unit = (unsigned) (ino->unit >> PAGE_SHIFT);
  void *bounce;
  bool heap;

  for (;;) {
    n = env_alloc_frames (env, want, frames);
    if (n < want) {
      unsigned whole = n / unit * unit;

      /* The frames wake nobody who waits for as many: two would wake each other for ever. */
      memfile_put_many (env->mf, frames + whole, n - whole);
      if (whole == 0)
        return EAGAIN;
      n = whole;
    }
    n = choose_buffer (ino, frames, n, &bounce, &heap);
    if (n == 0)
      return EAGAIN;
    *ret = fill_new (ino, frames, n, bounce, heap);
    if (*ret)
      return 0;
    /* The frames in our hand may be the very memory that is missing: with fewer.  They wake nobody, nor ourselves. */
    free_buffer (env, bounce, heap, n);
    memfile_put_many (env->mf, frames, n);
    if (n <= unit)
      return ENOMEM;
    want = n / 2 < unit ? unit : n / 2 / unit * unit;
  }
}

/* May run go straight into op's buffer?  Only whole units that are all its own, so that nothing of another moment shares a page
 * with them, and of which nothing is there or was copied before: that may be newer than what the origin says.
 */
static bool
may_bypass (struct inode_op *op, struct stripe *st, struct range run)
{
  return op && op->bypass && run.start >= op->pos && range_is_superset (op->range, run)
         && (nothing_is_there (st, run) || PLANTED (PLANT_BYPASS_OVER_DIRTY));
}

static struct fill *
bypass_new (struct inode_op *op)
{
  struct fill *f = fill_new (op->ino, NULL, 0, NULL, false);

  if (f)
    f->reader = op;
  return f;
}

bool
fill_next_missing (struct inode *ino, struct range r, struct range *missing)
{
  bool found = false;

  while (!found && r.start < r.end) {
    struct range part = stripe_part (r);
    struct stripe *st = inode_stripe (ino, r.start);

    rwlock_take_shared (&st->lock);
    found = rangeset_next_gap (&st->map, part, missing);
    rwlock_drop (&st->lock);
    r.start = part.end;
  }
  return found;
}

int
fill_want (struct inode *ino, struct range r, struct inode_op *op, bool ahead, uint64_t *end)
{
  struct inode_env *env = ino->env;
  struct stripe *st = inode_stripe (ino, r.start);
  struct range run, planned;
  uint64_t origin_end = inode_end (ino);
  struct fill *f, *in_way = NULL;
  enum plan what;
  bool past;
  int err;

  if (r.start >= origin_end)
    return EIO;                 /* the origin became shorter under op's hands (D14) */
  /* Look without hurry: nothing is held while frames are found. */
  rwlock_take (&st->lock);
  what = plan (ino, st, r, &run, &in_way);
  if (what == PLAN_JOIN && op) {
    fill_join (in_way, op);
    op->joined = true;
  }
  if (what == PLAN_ASK && !align_run (ino, st, origin_end, &run)) {
    /* Units larger than a page: a neighbour is under way and brings part of ours. */
    what = PLAN_JOIN;
    in_way = fill_overlapping (st, run);
    if (op)
      fill_join (in_way, op);
    run.end = page_of (r.start) + PAGE_SIZE;
  }
  past = what == PLAN_ASK && may_bypass (op, st, run);
  rwlock_drop (&st->lock);
  if (what != PLAN_ASK) {
    *end = run.end;
    return 0;
  }

  f = past ? bypass_new (op) : NULL;
  if (!f) {
    err = fill_equip (ino, pages_of (run), &f);
    if (err)
      return err;
    if (run.end > run.start + ((uint64_t) f->npages << PAGE_SHIFT))
      run.end = run.start + ((uint64_t) f->npages << PAGE_SHIFT);
  }
  f->ahead = ahead;

  rwlock_take (&st->lock);
  planned = run;
  what = plan (ino, st, r, &run, &in_way);
  if (what == PLAN_ASK)
    align_run (ino, st, origin_end, &run);
  if (what == PLAN_ASK && run.start == planned.start && run.end >= planned.end && !fill_in_way (st, planned)
      && inode_end (ino) == origin_end && (!f->reader || may_bypass (op, st, planned))) {
    f->range = planned;
    list_push_back (&st->fills, &f->node);
    if (f->reader)
      op->lent = true;
    if (op)
      fill_join (f, op);
    rwlock_drop (&st->lock);
    *end = planned.end;
    if (f->reader)
      fill_submit (f, op->buf + (planned.start - op->range.start));
    else
      fill_submit (f, f->bounce ? f->bounce : memfile_addr (env->mf, f->frames[0]));
    return 0;
  }
  rwlock_drop (&st->lock);
  /* Somebody was faster: look again with what is there now. */
  free_buffer (env, f->bounce, f->heap, f->npages);
  fill_free (f);
  *end = r.start;
  return 0;
}
