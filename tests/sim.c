/* SPDX-License-Identifier: BSD-3-Clause
 *
 * sim - the core under a scheduler that decides everything by a seed.
 *
 * Answers: is there an order of fills, writes, zeros, trims, flushes, evictions, answers, lost connections
 * and clock steps in which a wrong byte is read, or a flush answered too early?
 *
 * One thread.  Every request to the origin is held until the scheduler releases it, in any order; operations
 * are objects that it drives one step at a time; the clock moves when it says so.  A seed is a run: a failing one
 * is printed and replayed with PC_SEED=n (and PC_SIM_TRACE=1 to see the steps).
 *
 * The model: an array of bytes as they must be read (cur), the values each byte ever had (a set of 256 bits) and a
 * flag "loose" for bytes of which only that is known (after a trim, a failed write, or a lost write-through).
 * Write-like operations under way at once do not overlap each other; everything else may overlap.
 * A read may show what a byte was when it began, or what any write under way since would make it.  At the reply to a
 * flush each byte of the durable image must be what it was when the flush was sent, or something newer.
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inode.h"
#include "origin-mem.h"
#include "reclaim.h"
#include "sim.h"
#include "writeback.h"

#define NSLOTS 12
#define OLDEST 64               /* writes remembered as newer than a waiting op's view */

enum kind { READ, WRITE, FUA, ZERO, TRIM, FLUSH, NKINDS };

struct slot {
  struct inode_op op;
  enum kind kind;
  bool busy, woken;
  uint64_t id;
  struct range r;
  uint8_t *buf;
  uint8_t *snap;                /* cur when it began (reads: of r; flushes: all) */
  uint8_t *loose;
  uint8_t *newer;               /* flag a byte: a write-like op touched it since it began */
};

struct sim {
  struct sim_options o;
  uint64_t rng;
  struct clock_fake clock;
  struct budget budget;
  struct memfile *mf;
  struct bounce *bounce;
  struct evict evict;
  void *evict_mem;
  struct inode_env env;
  struct origin *origin;
  struct inode *ino;
  struct writeback_state ws;
  bool dirtied, starved;
  uint64_t size;
  uint8_t *cur, *loose;
  uint8_t (*hist)[32];
  struct slot slot[NSLOTS];
  uint64_t next_id;
  uint64_t done[NKINDS], errors, losses;
  bool away;
};

static uint64_t
rnd (struct sim *s)
{
  /* xorshift64*: any seed but 0 */
  s->rng ^= s->rng >> 12;
  s->rng ^= s->rng << 25;
  s->rng ^= s->rng >> 27;
  return s->rng * UINT64_C (2685821657736338717);
}

static uint64_t
below (struct sim *s, uint64_t n)
{
  return rnd (s) % n;
}

static bool
one_in (struct sim *s, unsigned n)
{
  return n && below (s, n) == 0;
}

#define trace(s, ...) do { if ((s)->o.trace) fprintf (stderr, __VA_ARGS__); } while (0)

static void
violation (struct sim *s, const char *what, uint64_t off, uint64_t id, unsigned got, unsigned want)
{
  fprintf (stderr, "sim: seed %" PRIu64 ": %s at byte %" PRIu64 " (op %" PRIu64 "): got %#x, want %#x%s\n",
           s->o.seed, what, off, id, got, want, s->loose[off] ? " (loose)" : "");
  abort ();
}

/*----------------------------------------------------------------------*/

static struct inode *
get_ino (void *arg, uint32_t id)
{
  struct sim *s = arg;

  return id == 1 ? s->ino : NULL;
}

static void
put_ino (void *arg, struct inode *ino)
{
  (void) arg;
  (void) ino;
}

static bool
hook_reclaim (void *arg, unsigned want)
{
  struct sim *s = arg;
  struct reclaim_hooks h = { get_ino, put_ino, s };
  unsigned dirty = 0;

  return s->ino && reclaim_frames (&s->env, &h, want, &dirty) > 0;
}

static void
hook_starved (void *arg)
{
  ((struct sim *) arg)->starved = true;
}

static void
hook_dirtied (void *arg, struct inode *ino)
{
  (void) ino;
  ((struct sim *) arg)->dirtied = true;
}

static void
wake (struct inode_op *op)
{
  ((struct slot *) op->wake_arg)->woken = true;
}

static uint8_t
value (uint64_t id, uint64_t off)
{
  return (uint8_t) (id * 37 + off * 11 + (off >> 9) * 101 + 1);
}

static void
remember (struct sim *s, uint64_t off, uint8_t v)
{
  s->hist[off][v / 8] |= (uint8_t) (1 << (v % 8));
}

static bool
was_ever (struct sim *s, uint64_t off, uint8_t v)
{
  return s->hist[off][v / 8] >> (v % 8) & 1;
}

static uint8_t
op_value (const struct slot *sl, uint64_t off)
{
  return sl->kind == ZERO || sl->kind == TRIM ? 0 : value (sl->id, off);
}

static bool
is_write (enum kind k)
{
  return k == WRITE || k == FUA || k == ZERO || k == TRIM;
}

/*----------------------------------------------------------------------*/
/* Starting operations. */

static struct range
random_range (struct sim *s)
{
  static const uint64_t anchors[] = { 4096, 512, 1 << 20, 65536, 1 };
  uint64_t unit = anchors[below (s, 5)];
  uint64_t off = below (s, s->size), len;

  if (one_in (s, 3))
    off = below (s, 256 << 10) % s->size;       /* a hot spot */
  if (one_in (s, 12))
    off = s->size - 1 - below (s, 8192) % s->size;
  off = off / unit * unit;
  switch (below (s, 5)) {
  case 0: len = 1 + below (s, 700); break;
  case 1: len = 4096 * (1 + below (s, 4)); break;
  case 2: len = 1 + below (s, 20000); break;
  case 3: len = 4096; break;
  default: len = 1 + below (s, s->o.big_ops ? 600 << 10 : 40000); break;
  }
  if (unit == 1)
    off += below (s, 3) == 0 ? below (s, 4096) : 0;
  if (off >= s->size)
    off = s->size - 1;
  if (len > s->size - off)
    len = s->size - off;
  return (struct range) { off, off + len };
}

static bool
conflicts (struct sim *s, struct range r)
{
  unsigned i;

  for (i = 0; i < NSLOTS; i++)
    if (s->slot[i].busy && is_write (s->slot[i].kind) && range_overlaps (s->slot[i].r, r))
      return true;
  return false;
}

/* sl changes its range from now on: whoever looks at it may see that. */
static void
begin_write (struct sim *s, struct slot *sl)
{
  uint64_t off;
  unsigned i;

  for (off = sl->r.start; off < sl->r.end; off++)
    remember (s, off, op_value (sl, off));
  for (i = 0; i < NSLOTS; i++) {
    struct slot *o = &s->slot[i];
    struct range in;

    if (!o->busy || o == sl || !o->newer)
      continue;
    in = range_intersect (o->r, sl->r);
    if (!range_is_empty (in))
      memset (o->newer + (in.start - o->r.start), 1, range_len (in));
  }
}

static void
begin_look (struct sim *s, struct slot *sl)
{
  uint64_t len = range_len (sl->r);
  unsigned i;

  sl->snap = malloc (len);
  sl->loose = malloc (len);
  sl->newer = calloc (1, len);
  memcpy (sl->snap, s->cur + sl->r.start, len);
  memcpy (sl->loose, s->loose + sl->r.start, len);
  for (i = 0; i < NSLOTS; i++) {
    struct slot *o = &s->slot[i];
    struct range in;

    if (!o->busy || o == sl || !is_write (o->kind))
      continue;
    in = range_intersect (o->r, sl->r);
    if (!range_is_empty (in))
      memset (sl->newer + (in.start - sl->r.start), 1, range_len (in));
  }
}

static void
start (struct sim *s)
{
  static const enum kind weights[] = {
    READ, READ, READ, READ, WRITE, WRITE, WRITE, WRITE, WRITE, FUA, ZERO, TRIM, FLUSH,
  };
  struct slot *sl = NULL;
  unsigned i, flags = 0;
  uint64_t off;

  for (i = 0; i < NSLOTS; i++)
    if (!s->slot[i].busy)
      sl = &s->slot[i];
  if (!sl)
    return;
  memset (sl, 0, sizeof *sl);
  sl->kind = weights[below (s, PC_ARRAY_SIZE (weights))];
  sl->r = sl->kind == FLUSH ? (struct range) { 0, s->size } : random_range (s);
  if (is_write (sl->kind) && conflicts (s, sl->r))
    return;
  sl->busy = sl->woken = true;
  sl->id = ++s->next_id;
  trace (s, "start op %" PRIu64 " kind %d " RANGE_FMT "\n", sl->id, sl->kind, RANGE_ARG (sl->r));
  if (sl->kind == READ || sl->kind == WRITE || sl->kind == FUA) {
    sl->buf = malloc (range_len (sl->r));
    memset (sl->buf, 0xa5, range_len (sl->r));
  }
  if (sl->kind == WRITE || sl->kind == FUA)
    for (off = sl->r.start; off < sl->r.end; off++)
      sl->buf[off - sl->r.start] = value (sl->id, off);
  switch (sl->kind) {
  case READ:
    inode_op_read (&sl->op, s->ino, sl->buf, sl->r);
    break;
  case WRITE:
    inode_op_write (&sl->op, s->ino, sl->buf, sl->r, 0);
    break;
  case FUA:
    inode_op_write (&sl->op, s->ino, sl->buf, sl->r, INODE_FUA);
    break;
  case ZERO:
    flags = one_in (s, 2) ? INODE_MAY_TRIM : 0;
    if (one_in (s, 4))
      flags |= INODE_FUA;
    inode_op_zero (&sl->op, s->ino, sl->r, flags);
    break;
  case TRIM:
    inode_op_trim (&sl->op, s->ino, sl->r, one_in (s, 4) ? INODE_FUA : 0);
    break;
  case FLUSH:
    inode_op_sync (&sl->op, s->ino, RANGE_ALL, 0);
    break;
  case NKINDS:
    abort ();
  }
  sl->op.wake = wake;
  sl->op.wake_arg = sl;
  if (is_write (sl->kind))
    begin_write (s, sl);
  if (sl->kind != WRITE)
    begin_look (s, sl);
}

/*----------------------------------------------------------------------*/
/* Ending them. */

static void
end_read (struct sim *s, struct slot *sl)
{
  uint64_t i, len = range_len (sl->r);

  for (i = 0; i < len; i++) {
    uint64_t off = sl->r.start + i;

    if (sl->buf[i] == sl->snap[i] && !sl->loose[i])
      continue;
    if (sl->newer[i] || sl->loose[i]) {
      /* One of the writes since, or what it was: all of them are remembered. */
      if (!was_ever (s, off, sl->buf[i]))
        violation (s, "read of a byte that was never there", off, sl->id, sl->buf[i], sl->snap[i]);
      continue;
    }
    violation (s, "wrong byte", off, sl->id, sl->buf[i], sl->snap[i]);
  }
}

static void
end_write (struct sim *s, struct slot *sl, int err)
{
  uint64_t off, first = sl->r.start, end = sl->r.end;

  for (off = first; off < end; off++) {
    if (err || sl->kind == TRIM) {
      /* Trim: zeros, or bytes it once held (N-32).  An error: any of them. */
      if (sl->kind == TRIM && !err && off / 4096 * 4096 < first)
        continue;               /* the edge is kept as it was */
      if (sl->kind == TRIM && !err && off / 4096 * 4096 + 4096 > end && end != s->size)
        continue;
      s->loose[off] = 1;
      continue;
    }
    s->cur[off] = op_value (sl, off);
    s->loose[off] = 0;
  }
}

/* What a flush, or the FUA of a write, promised. */
static void
check_durable (struct sim *s, struct slot *sl)
{
  const uint8_t *durable = origin_mem_durable (s->origin);
  uint64_t i, len = range_len (sl->r);

  for (i = 0; i < len; i++) {
    uint64_t off = sl->r.start + i;
    uint8_t want = sl->kind == FLUSH ? sl->snap[i] : op_value (sl, off);

    if (sl->kind == FLUSH && sl->loose[i]) {
      if (!was_ever (s, off, durable[off]))
        violation (s, "durable image holds a byte that was never there", off, sl->id, durable[off], want);
      continue;
    }
    if (durable[off] == want)
      continue;
    if (sl->newer[i]) {
      if (!was_ever (s, off, durable[off]))
        violation (s, "durable image holds a byte that was never there", off, sl->id, durable[off], want);
      continue;
    }
    violation (s, "flush answered too early", off, sl->id, durable[off], want);
  }
}

static void
finish (struct sim *s, struct slot *sl)
{
  int err = sl->op.err;

  trace (s, "done op %" PRIu64 " err %d\n", sl->id, err);
  s->done[sl->kind]++;
  if (err) {
    s->errors++;
    if (!s->o.errors && !s->o.losses)
      violation (s, "an error nobody made", sl->r.start, sl->id, (unsigned) err, 0);
  }
  if (is_write (sl->kind))
    end_write (s, sl, err);
  if (!err && sl->kind == READ)
    end_read (s, sl);
  if (!err && (sl->kind == FLUSH || sl->kind == FUA
               || (sl->kind == ZERO && (sl->op.flags & INODE_FUA))))
    check_durable (s, sl);
  free (sl->buf);
  free (sl->snap);
  free (sl->loose);
  free (sl->newer);
  sl->busy = false;
}

static bool
step_ops (struct sim *s)
{
  unsigned i, from = (unsigned) below (s, NSLOTS);

  for (i = 0; i < NSLOTS; i++) {
    struct slot *sl = &s->slot[(from + i) % NSLOTS];

    if (!sl->busy)
      continue;
    if (!sl->woken && !(sl->op.wake_at_ns && sl->op.wake_at_ns <= clock_now (&s->clock.base)))
      continue;
    sl->woken = false;
    if (inode_op_run (&sl->op))
      finish (s, sl);
    return true;
  }
  return false;
}

static void
release_one (struct sim *s)
{
  size_t n = origin_mem_held_total (s->origin);
  int err = 0;

  if (n == 0 || s->away)
    return;
  if (s->o.errors && one_in (s, 60))
    err = one_in (s, 2) ? EIO : ENOSPC;
  origin_mem_release_nth (s->origin, below (s, n), err);
}

static void
lose (struct sim *s)
{
  bool apply = one_in (s, 2), forget = one_in (s, 2);

  trace (s, "connection lost, apply %d forget %d\n", apply, forget);
  s->losses++;
  origin_mem_lose (s->origin, apply, forget);
}

static void
step (struct sim *s)
{
  switch (below (s, 12)) {
  case 0: case 1:
    start (s);
    break;
  case 2: case 3: case 4: case 5:
    step_ops (s);
    break;
  case 6: case 7: case 8:
    release_one (s);
    break;
  case 9:
    if (s->dirtied || s->starved || one_in (s, 4)) {
      bool starved = s->starved || atomic_load (&s->env.nmem_waiters) > 0;

      s->dirtied = s->starved = false;
      writeback_turn (s->ino, &s->ws, starved, one_in (s, 16));
    }
    break;
  case 10:
    clock_fake_advance (&s->clock, below (s, 30 * NSEC_PER_MSEC));
    if (one_in (s, 40))
      clock_fake_advance (&s->clock, below (s, 3 * NSEC_PER_SEC));
    break;
  case 11:
    if (s->o.losses && one_in (s, 40))
      lose (s);
    else if (one_in (s, 6))
      hook_reclaim (s, 1 + (unsigned) below (s, 40));
    else if (one_in (s, 6)) {
      struct range r = random_range (s);

      inode_prefetch (s->ino, r, true);
    }
    else if (one_in (s, 30))
      inode_invalidate (s->ino, RANGE_ALL);
    break;
  }
}

static bool
any_busy (struct sim *s)
{
  unsigned i;

  for (i = 0; i < NSLOTS; i++)
    if (s->slot[i].busy)
      return true;
  return false;
}

/* Run until nothing is under way; it must end. */
static void
settle (struct sim *s)
{
  unsigned turns = 0;

  while (any_busy (s) || origin_mem_held_total (s->origin)) {
    if (++turns > 400000)
      violation (s, "it does not come to rest", 0, 0, 0, 0);
    while (step_ops (s))
      ;
    if (origin_mem_held_total (s->origin))
      origin_mem_release_nth (s->origin, below (s, origin_mem_held_total (s->origin)), 0);
    else {
      clock_fake_advance (&s->clock, 10 * NSEC_PER_MSEC);
      writeback_turn (s->ino, &s->ws, atomic_load (&s->env.nmem_waiters) > 0, false);
    }
  }
}

static void
final_flush (struct sim *s)
{
  struct slot *sl = &s->slot[0];
  unsigned tries;

  for (tries = 0; ; tries++) {
    memset (sl, 0, sizeof *sl);
    sl->kind = FLUSH;
    sl->r = (struct range) { 0, s->size };
    sl->busy = sl->woken = true;
    sl->id = ++s->next_id;
    inode_op_sync (&sl->op, s->ino, RANGE_ALL, INODE_FUA);
    sl->op.wake = wake;
    sl->op.wake_arg = sl;
    begin_look (s, sl);
    settle (s);
    if (sl->op.err == 0)
      break;
    if (tries == 3)
      violation (s, "the last flush fails although the origin is well", 0, sl->id, (unsigned) sl->op.err, 0);
  }
}

void
sim_run (const struct sim_options *o)
{
  struct origin_info info = {
    .size = o->size, .can_flush = true, .can_fua = o->fua, .can_trim = o->trim, .can_zero = o->zero,
    .can_fast_zero = o->zero, .can_multi_conn = true, .can_extents = true,
    .block_min = o->block_min, .block_pref = 4096, .block_max = 32 << 20,
  };
  struct sim *s = calloc (1, sizeof *s);
  uint64_t i;
  struct inode_dirty d;
  unsigned step_no;

  s->o = *o;
  s->rng = o->seed * UINT64_C (0x9e3779b97f4a7c15) | 1;
  for (i = 0; i < 8; i++)
    rnd (s);
  s->clock = (struct clock_fake) CLOCK_FAKE_INIT;
  s->size = o->size;
  s->cur = calloc (1, s->size);
  s->loose = calloc (1, s->size);
  s->hist = calloc (s->size, sizeof *s->hist);
  for (i = 0; i < s->size; i++)
    remember (s, i, 0);

  budget_init (&s->budget, (uint64_t) 16 << 20);
  assert_int_equal (memfile_create (&s->budget, o->nframes, &s->mf), 0);
  assert_int_equal (bounce_create (&s->budget, 65536, 3, 1, &s->bounce), 0);
  s->evict_mem = aligned_alloc (64, (evict_size (o->nframes) + 63) & ~(size_t) 63);
  evict_init (&s->evict, s->evict_mem, o->nframes);
  s->env = (struct inode_env) {
    .clock = &s->clock.base, .budget = &s->budget, .mf = s->mf, .bounce = s->bounce, .evict = &s->evict,
    .mode = o->mode, .readahead_max = o->readahead,
    .dirty_max = (uint64_t) o->nframes * 4096 / 2, .dirty_background = (uint64_t) o->nframes * 4096 / 10,
    .dirty_expire_ns = NSEC_PER_SEC, .nwb = 16,
    .reclaim = hook_reclaim, .starved = hook_starved, .dirtied = hook_dirtied, .hook_arg = s,
  };
  assert_int_equal (inode_env_init (&s->env), 0);
  assert_int_equal (origin_mem_create (&info, &s->origin), 0);
  origin_mem_close_all (s->origin);
  assert_int_equal (inode_create (&s->env, s->origin, 1, "sim", &s->ino), 0);

  for (step_no = 0; step_no < o->steps; step_no++) {
    step (s);
    if (o->check_every && step_no % o->check_every == 0)
      inode_check (s->ino);
  }
  settle (s);
  final_flush (s);
  inode_check (s->ino);
  d = inode_get_dirty (s->ino);
  assert_int_equal (d.dirty + d.writing + d.unstable, 0);
  for (i = 0; i < s->size; i++)
    if (!s->loose[i] && origin_mem_durable (s->origin)[i] != s->cur[i])
      violation (s, "the durable image differs at the end", i, 0, origin_mem_durable (s->origin)[i], s->cur[i]);
  if (o->report)
    fprintf (stderr, "sim: seed %" PRIu64 ": %" PRIu64 " reads %" PRIu64 " writes %" PRIu64 " fua %" PRIu64
             " zeros %" PRIu64 " trims %" PRIu64 " flushes, %" PRIu64 " errors, %" PRIu64 " losses\n", o->seed,
             s->done[READ], s->done[WRITE], s->done[FUA], s->done[ZERO], s->done[TRIM], s->done[FLUSH],
             s->errors, s->losses);

  inode_free (s->ino);
  origin_close (s->origin);
  inode_env_release (&s->env);
  memfile_check (s->mf);
  assert_int_equal (memfile_in_use (s->mf), 0);
  free (s->evict_mem);
  memfile_free (s->mf);
  bounce_free (s->bounce);
  budget_check (&s->budget);
  free (s->cur);
  free (s->loose);
  free (s->hist);
  free (s);
}
