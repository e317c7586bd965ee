/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-holes - where does the origin hold nothing, so that nobody need ask for it?
 *
 * What the origin says reads as zeros (base:allocation's ZERO bit; HOLE alone says nothing, N-51) is kept in ino->zeros as
 * ZERO_HOLE: read without a frame and without a request.  It is cache content like a clean page (D8): never
 * newer than a write, and forgotten with a lost connection, an origin that changed, an invalidation.
 *
 * When is block status asked?  Never on a disk that is fully written.
 *
 *   an answer came back all zeros        the window of 128 MiB around it, while the reader goes on
 *   a read begins where a hole ended     the next window, before the read: it would be all zeros again
 *     because no more was asked
 *   read-ahead comes to a window that    the window, while it goes on; only where holes were found before
 *     nobody asked about
 *
 * A window doubles up to 1 GiB while all of the last one was a hole.  A read that begins just behind what came back as
 * zeros waits for the answer, but no longer than a few round trips; any other read goes its way.  Where zeros were read and
 * the origin says data, the window is not asked about again, and after some of those the next ones are let pass: 2, 4, 8 ...
 *
 * The race (CON-3, N-54).  The answer is of some moment between question and answer.  A byte may be taken for a hole only if it
 * did not become data at the origin after that moment.  All that becomes data there does so by a write request; so a question
 * notes each one that is answered while it is open (touched), and takes nothing of those, of requests
 * still under way, nor of what is dirty or in zeros by then.  A fill under way in a hole is told that its pages are dead.
 *
 * Locks    questions, waiters and what was answered: sync.  What is learned: the stripe's lock, zlock and sync, a MiB at a time.
 * Errors   none: a question that fails or finds no memory teaches nothing.
 * Memory   a question is 9 KiB of the budget while it is open; holes are at most one for every 16 frames an inode.
 * Cost     a miss loads one word.  What is learned costs about a microsecond a MiB, on the loop.
 */
#include <config.h>

#include <assert.h>
#include <string.h>

#include "inode-priv.h"

#define WINDOW ((uint64_t) 128 << 20)
#define WINDOW_MAX ((uint64_t) 1 << 30)

/* How far behind the zeros that raised a question a reader is likely to want what it is about. */
#define NEAR ((uint64_t) 16 << 20)

/* Extents kept of one answer; what lies behind them is asked for when somebody comes there. */
#define MAX_HOLES 512
#define MAX_TOUCHED 16

/* A disk with this many fruitless questions in a row has no holes that pay. */
#define FRUITLESS_MAX 8
#define WORTH ((uint64_t) 64 << 10)

struct hole_ask {
  struct origin_req req;
  struct inode *ino;
  struct range asked;
  struct range near;            /* reads that begin here wait */
  uint64_t told;                /* how far the origin answered */
  uint64_t started_ns, patience_ns;
  unsigned n, ntouched;
  bool dead;                    /* teaches nothing */
  bool full;                    /* no room for more: told stays where it is */
  struct range hole[MAX_HOLES];
  struct range touched[MAX_TOUCHED];
};

void
holes_init (struct inode *ino)
{
  list_init (&ino->holes.waiters);
}

/* Is off in what was answered lately? */
static bool
is_answered_locked (struct inode *ino, uint64_t off)
{
  unsigned i;

  for (i = 0; i < HOLES_ANSWERED; i++)
    if (range_contains (ino->holes.answered[i], off))
      return true;
  return false;
}

static struct hole_ask *
ask_about_locked (struct inode *ino, uint64_t off)
{
  unsigned i;

  for (i = 0; i < HOLES_ASKS; i++)
    if (ino->holes.ask[i] && range_contains (ino->holes.ask[i]->asked, off))
      return ino->holes.ask[i];
  return NULL;
}

/*----------------------------------------------------------------------*/
/* The answer. */

static void
got_extent (struct origin_req *req, uint64_t off, uint64_t len, unsigned type)
{
  struct hole_ask *a = container_of (req, struct hole_ask, req);
  uint64_t mask = a->ino->unit - 1, end = off + len;
  struct range *last = a->n ? &a->hole[a->n - 1] : NULL;

  /* After a reconnect the question is sent again and the answer starts over: skip what is known already. */
  if (a->full || off != a->told)
    return;
  if (type & ORIGIN_EXTENT_ZERO) {
    if (last && last->end == off)
      last->end = end;
    else if (a->n < MAX_HOLES)
      a->hole[a->n++] = (struct range) { off, end };
    else {
      a->full = true;
      return;
    }
  }
  else if (last && last->end == off) {
    /* Whole units inside what was said. */
    last->start = (last->start + mask) & ~mask;
    last->end &= ~mask;
    if (last->start >= last->end)
      a->n--;
  }
  a->told = end;
}

static struct range
outward (struct inode *ino, struct range r)
{
  r.start &= ~(ino->unit - 1);
  r.end = (r.end + ino->unit - 1) & ~(ino->unit - 1);
  return r;
}

/* Cut from *r what `busy` has of it.  What lies before busy stays; if nothing does, what lies behind it. */
static void
cut (struct inode *ino, struct range *r, struct range busy)
{
  busy = outward (ino, busy);
  if (range_is_empty (*r) || !range_overlaps (*r, busy))
    return;
  if (r->start < busy.start)
    r->end = busy.start;
  else
    r->start = busy.end < r->end ? busy.end : r->end;
}

/* The first part of r, in one MiB, that may become a hole.  The stripe is held exclusively.  Each turn either ends or moves
 * r.start on or r.end down; a cut in front may uncover another exclusion, so it is done until nothing changes.
 */
static struct range
free_part (struct hole_ask *a, struct stripe *st, struct range r)
{
  struct inode *ino = a->ino;
  struct range was;

  do {
    struct dirty_value dv;
    struct zero_value zv;
    struct list_node *n;
    struct range seg;
    unsigned i;

    was = r;
    if (!range_is_empty (r) && dirtyset_next (&st->dirty, r.start, WB_NOT_CLEAN, WB_SEQ_ANY, &seg, &dv))
      cut (ino, &r, seg);
    /* What is mapped stays where it is. */
    if (!range_is_empty (r) && map_first (ino, st, r, &seg))
      cut (ino, &r, seg);
    rwlock_take_shared (&ino->zlock);
    if (!range_is_empty (r) && zeroset_next (&ino->zeros, r, WB_ANY, WB_SEQ_ANY, &seg, &zv))
      cut (ino, &r, seg);
    rwlock_drop (&ino->zlock);
    lock_take (&ino->sync);
    if (!PLANTED (PLANT_HOLE_OVER_WRITE)) {
      for (i = 0; i < a->ntouched; i++)
        cut (ino, &r, a->touched[i]);
      list_for_each (n, &ino->wbs)
        cut (ino, &r, container_of (n, struct wb, node)->range);
    }
    if (a->dead)
      r.start = r.end;
    lock_drop (&ino->sync);
  } while (!range_is_empty (r) && !range_equal (was, r));
  return r;
}

/* Still so, and nobody can change it: the stripe is held, and zlock and sync.  In between a write request may have been
 * answered, never sent: what is sent is dirty, and that changes under the stripe's lock.
 */
static bool
is_still_free_locked (struct hole_ask *a, struct range r)
{
  unsigned i;

  if (PLANTED (PLANT_HOLE_OVER_WRITE))
    return !a->dead;
  for (i = 0; i < a->ntouched; i++)
    if (range_overlaps (outward (a->ino, a->touched[i]), r))
      return false;
  return !a->dead;
}

/* What may be learned of part, which lies in one MiB.  False: no memory, or not worth while any more. */
static bool
learn_part (struct hole_ask *a, struct range part)
{
  const struct zero_value hole = { .kind = ZERO_HOLE, .state = WB_CLEAN };
  struct inode *ino = a->ino;
  struct stripe *st = inode_stripe (ino, part.start);
  struct range r;
  int err = 0;

  rwlock_take (&st->lock);
  while (part.start < part.end) {
    r = free_part (a, st, part);
    if (range_is_empty (r))
      break;
    err = stripe_nodes (ino, st, rangeset_remove_inserts (&st->map, r), 0);
    if (!err)
      err = zeros_nodes (ino, st, 2);
    if (err == EAGAIN)
      continue;
    if (err)
      break;
    rwlock_take (&ino->zlock);
    lock_take (&ino->sync);
    /* Other stripes take from the same spare nodes. */
    if (zeros_have_nodes (ino, 2) && is_still_free_locked (a, r)) {
      zeroset_put (&ino->zeros, r, &hole, NULL, NULL);
      atomic_store_explicit (&ino->nzeros, zeroset_count (&ino->zeros), memory_order_relaxed);
      part.start = r.end;
    }
    else
      r.end = r.start;
    lock_drop (&ino->sync);
    rwlock_drop (&ino->zlock);
    if (!range_is_empty (r)) {
      fill_kill (st, r);
      map_remove (ino, st, r);
    }
  }
  stripe_trim (st);
  rwlock_drop (&st->lock);
  return !err;
}

static enum zeroset_verdict
drop_hole (void *arg, struct range piece, struct zero_value *v)
{
  (void) arg;
  (void) piece;
  return v->kind == ZERO_HOLE ? ZEROSET_DROP : ZEROSET_LEAVE;
}

static void
drop_holes (struct inode *ino)
{
  if (atomic_load (&ino->nzeros) == 0)
    return;
  rwlock_take (&ino->zlock);
  lock_take (&ino->sync);
  zeroset_change (&ino->zeros, RANGE_ALL, WB_BIT (WB_CLEAN), drop_hole, NULL, NULL);
  atomic_store (&ino->nzeros, zeroset_count (&ino->zeros));
  lock_drop (&ino->sync);
  segnodes_trim (&ino->znodes, 0);
  rwlock_drop (&ino->zlock);
}

/* Knowledge is dropped when it becomes too much (D13): what is read now is found again. */
static void
learn (struct hole_ask *a)
{
  struct inode *ino = a->ino;
  uint64_t most = holes_most (ino), pos;
  unsigned i;

  if (atomic_load (&ino->nzeros) + a->n > most)
    drop_holes (ino);
  for (i = 0; i < a->n; i++)
    for (pos = a->hole[i].start; pos < a->hole[i].end; ) {
      struct range part = stripe_part ((struct range) { pos, a->hole[i].end });

      if (!learn_part (a, part))
        return;
      pos = part.end;
    }
}

static void
wake_waiters_locked (struct inode *ino)
{
  struct list_node *n;

  while ((n = list_pop_front (&ino->holes.waiters)) != NULL) {
    struct inode_op *op = container_of (n, struct inode_op, node);

    op->on = NULL;
    op->wake (op);
  }
}

static void
note_answer_locked (struct hole_ask *a)
{
  struct inode *ino = a->ino;
  struct holes *h = &ino->holes;
  uint64_t zeros = 0;
  unsigned i;

  for (i = 0; i < a->n; i++)
    if (range_len (a->hole[i]) > zeros)
      zeros = range_len (a->hole[i]);
  h->took_ns = clock_now (ino->env->clock) - a->started_ns;
  if (zeros >= WORTH || (a->n && zeros == range_len (a->asked))) {
    h->fruitless = h->let_pass = 0;
    atomic_store (&h->some, true);
  }
  else {
    if (h->fruitless < FRUITLESS_MAX)
      h->fruitless++;
    else
      atomic_store (&h->some, false);
    h->let_pass = 1u << h->fruitless;
  }
  h->answered[h->next++ % HOLES_ANSWERED] = (struct range) { a->asked.start, a->told };
  h->all_to = a->n == 1 && a->hole[0].start == a->asked.start && a->hole[0].end == a->asked.end ? a->told : 0;
  h->window = range_len (a->asked);
}

static void
ask_done (struct origin_req *req, int err)
{
  struct hole_ask *a = container_of (req, struct hole_ask, req);
  struct inode *ino = a->ino;
  unsigned i;

  /* Whoever writes from here on finds what was learned in zeros, and takes it out. */
  if (!err && a->told > a->asked.start) {
    if (a->n) {
      struct range *last = &a->hole[a->n - 1];

      last->start = (last->start + ino->unit - 1) & ~(ino->unit - 1);
      if (last->end != ino->size)
        last->end &= ~(ino->unit - 1);
      if (last->start >= last->end)
        a->n--;
    }
    learn (a);
    inode_env_wake_memory (ino->env);   /* what lay in holes left its frames */
  }
  lock_take (&ino->sync);
  if (!err && !a->dead && a->told > a->asked.start)
    note_answer_locked (a);
  for (i = 0; i < HOLES_ASKS; i++)
    if (ino->holes.ask[i] == a)
      ino->holes.ask[i] = NULL;
  atomic_fetch_sub (&ino->holes.nasks, 1);
  wake_waiters_locked (ino);
  lock_drop (&ino->sync);
  meta_free (ino->env, a, sizeof *a);
}

/*----------------------------------------------------------------------*/
/* The question. */

/* The window for off.  Aligned, so that a reader that goes down finds it, too; but where the beginning was answered
 * already and not all, from off on.
 */
static struct range
window_locked (struct inode *ino, uint64_t off)
{
  struct holes *h = &ino->holes;
  uint64_t len = WINDOW;
  struct range r;

  r.start = off & ~(WINDOW - 1);
  if (is_answered_locked (ino, r.start))
    r.start = off & ~(ino->unit - 1);
  if (h->all_to && h->all_to == r.start)
    len = h->window < WINDOW_MAX / 2 ? 2 * h->window : WINDOW_MAX;
  r.end = (r.start & ~(WINDOW - 1)) + len;
  if (r.end > ino->size)
    r.end = ino->size;
  return r;
}

/* Ask about the window of off, unless that was done.  near: whose readers wait. */
static void
ask (struct inode *ino, uint64_t off, struct range near, uint64_t took_ns)
{
  struct inode_env *env = ino->env;
  struct hole_ask *a;
  unsigned i;

  if (!ino->origin->info.can_extents || (a = meta_alloc (env, sizeof *a)) == NULL)
    return;
  memset (a, 0, sizeof *a);
  a->ino = ino;
  a->near = near;
  a->started_ns = clock_now (env->clock);
  a->patience_ns = 50 * NSEC_PER_MSEC + 4 * took_ns;
  lock_take (&ino->sync);
  for (i = 0; i < HOLES_ASKS && ino->holes.ask[i]; i++)
    ;
  if (i == HOLES_ASKS || is_answered_locked (ino, off) || ask_about_locked (ino, off)) {
    lock_drop (&ino->sync);
    meta_free (env, a, sizeof *a);
    return;
  }
  a->asked = window_locked (ino, off);
  a->told = a->asked.start;
  ino->holes.ask[i] = a;
  atomic_fetch_add (&ino->holes.nasks, 1);
  lock_drop (&ino->sync);

  list_node_init (&a->req.node);
  a->req.cmd = ORIGIN_STATUS;
  a->req.prio = ORIGIN_PRIO_DEMAND;
  a->req.off = a->asked.start;
  a->req.len = range_len (a->asked);
  a->req.extent = got_extent;
  a->req.done = ask_done;
  origin_submit (ino->origin, &a->req);
}

void
holes_zeros_read (struct inode *ino, struct range r, uint64_t took_ns)
{
  struct range near = { r.start > STRIPE_LEN ? r.start - STRIPE_LEN : 0, r.end + NEAR };
  bool pass;

  if (!ino->origin->info.can_extents)
    return;
  lock_take (&ino->sync);
  pass = ino->holes.let_pass > 0;
  if (pass)
    ino->holes.let_pass--;
  pass = pass || is_answered_locked (ino, r.start) || ask_about_locked (ino, r.start);
  lock_drop (&ino->sync);
  if (!pass)
    ask (ino, r.start, near, took_ns);
}

void
inode_ask_holes (struct inode *ino, uint64_t off)
{
  ask (ino, off, (struct range) { off, off }, 0);
}

/* Does a hole end at off because nobody asked what comes then? */
static bool
is_behind_hole (struct inode *ino, uint64_t off)
{
  struct zero_value v;
  struct range seg;
  bool found;

  if (off == 0 || atomic_load_explicit (&ino->nzeros, memory_order_relaxed) == 0)
    return false;
  rwlock_take_shared (&ino->zlock);
  found = zeroset_find (&ino->zeros, off - 1, &seg, &v) && v.kind == ZERO_HOLE;
  rwlock_drop (&ino->zlock);
  if (!found)
    return false;
  lock_take (&ino->sync);
  found = !is_answered_locked (ino, off);
  lock_drop (&ino->sync);
  return found;
}

bool
holes_wait (struct inode_op *op, uint64_t off)
{
  struct inode *ino = op->ino;
  struct hole_ask *a;
  bool wait = false;

  if (op->asked_holes)
    return false;
  if (atomic_load_explicit (&ino->holes.some, memory_order_relaxed) && is_behind_hole (ino, off))
    ask (ino, off, (struct range) { off, off + NEAR }, ino->holes.took_ns);
  if (atomic_load_explicit (&ino->holes.nasks, memory_order_acquire) == 0)
    return false;
  lock_take (&ino->sync);
  a = ask_about_locked (ino, off);
  if (a && !a->dead && range_contains (a->near, off)) {
    op->asked_holes = wait = true;
    op->on = &ino->holes.waiters;
    list_push_back (&ino->holes.waiters, &op->node);
    op->wake_at_ns = a->started_ns + a->patience_ns;
  }
  lock_drop (&ino->sync);
  return wait;
}

void
holes_unwait (struct inode_op *op)
{
  struct inode *ino = op->ino;

  if (!op->asked_holes)
    return;
  lock_take (&ino->sync);
  if (op->on == &ino->holes.waiters) {
    list_remove (&op->node);
    op->on = NULL;
  }
  lock_drop (&ino->sync);
}

bool
holes_prefetch (struct inode *ino, uint64_t off)
{
  struct hole_ask *a;
  bool asked;

  if (atomic_load_explicit (&ino->holes.some, memory_order_relaxed)) {
    lock_take (&ino->sync);
    asked = is_answered_locked (ino, off) || ask_about_locked (ino, off);
    lock_drop (&ino->sync);
    if (!asked)
      ask (ino, off, (struct range) { off, off }, ino->holes.took_ns);
  }
  if (atomic_load_explicit (&ino->holes.nasks, memory_order_acquire) == 0)
    return false;
  lock_take (&ino->sync);
  a = ask_about_locked (ino, off);
  asked = a && !a->dead && !range_is_empty (a->near) && off >= a->near.start;
  lock_drop (&ino->sync);
  return asked;
}

/*----------------------------------------------------------------------*/
/* What makes it untrue. */

void
holes_touched_locked (struct inode *ino, struct range r)
{
  unsigned i;

  if (atomic_load_explicit (&ino->holes.nasks, memory_order_relaxed) == 0)
    return;
  for (i = 0; i < HOLES_ASKS; i++) {
    struct hole_ask *a = ino->holes.ask[i];
    struct range *last;

    if (!a || !range_overlaps (a->asked, r))
      continue;
    last = a->ntouched ? &a->touched[a->ntouched - 1] : NULL;
    if (last && r.start <= last->end && r.end >= last->start) {
      last->start = r.start < last->start ? r.start : last->start;
      last->end = r.end > last->end ? r.end : last->end;
    }
    else if (a->ntouched < MAX_TOUCHED)
      a->touched[a->ntouched++] = r;
    else
      a->dead = true;
  }
}

void
inode_forget_holes (struct inode *ino)
{
  unsigned i;

  lock_take (&ino->sync);
  for (i = 0; i < HOLES_ASKS; i++)
    if (ino->holes.ask[i])
      ino->holes.ask[i]->dead = true;
  memset (ino->holes.answered, 0, sizeof ino->holes.answered);
  ino->holes.all_to = 0;
  ino->holes.fruitless = ino->holes.let_pass = 0;
  wake_waiters_locked (ino);
  lock_drop (&ino->sync);
  drop_holes (ino);
}
