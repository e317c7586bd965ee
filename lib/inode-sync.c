/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-sync - when may one say "safe"?
 *
 * A token (an op on ino->tokens) waits for everything written before it: a flush for the whole
 * inode, a FUA write or a write-through for its own range.  sync_step is the one function that decides
 * "may reply" (architecture, 6.8):
 *
 *   A   nothing of generations up to op->s is DIRTY or under way in op->sync
 *   B   every connection that carried something has answered a flush sent after A held
 *
 * Writethrough stops after A (D1), and so does an origin without flush (D4).  Flushes are shared: one a
 * connection is under way at a time, and serves all tokens whose A held when it was sent (group commit; sem.T-19).
 *
 * When a write request fails, tokens that asked for it end with its errno; what failed stays DIRTY
 * and the next flush tries again (D7).  When a connection is lost, all tokens begin anew, for all there is
 * (inode-ledger.c).  When connections are lost again and again, that is a failure after a while (losses_judge_locked).
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>

#include "inode-priv.h"

#define RETRY_NS (5 * NSEC_PER_MSEC)

void
sync_begin (struct inode_op *op, struct range r, unsigned flags)
{
  struct inode *ino = op->ino;

  op->sync = r;
  op->need = UINT64_MAX;
  op->sync_err = 0;
  op->accepted_only = (flags & INODE_ACCEPTED) || !ino->can_flush;
  op->durable_fua = !range_equal (r, RANGE_ALL) && (flags & INODE_FUA) && ino->can_fua;
  op->want_flush = !op->durable_fua;
  op->asked = op->unsent = false;
  lock_take (&ino->sync);
  op->s = gen_close_locked (ino);
  op->serial = ino->wb_serial;
  op->syncing = true;
  list_push_back (&ino->tokens, &op->node);
  lock_drop (&ino->sync);
}

void
sync_end (struct inode_op *op)
{
  struct inode *ino = op->ino;

  lock_take (&ino->sync);
  list_remove (&op->node);
  op->syncing = false;
  lock_drop (&ino->sync);
}

/* A, for a range: look into its stripes. */
static bool
range_pending (struct inode *ino, struct range r, uint32_t s)
{
  const unsigned states = WB_BIT (WB_DIRTY) | WB_BIT (WB_WRITING);
  struct range seg;
  bool found;
  uint64_t pos;

  for (pos = r.start; pos < r.end; ) {
    struct range part = stripe_part ((struct range) { pos, r.end });
    struct stripe *st = inode_stripe (ino, pos);
    struct dirty_value v;

    rwlock_take_shared (&st->lock);
    found = dirtyset_next (&st->dirty, pos, states, s, &seg, &v) && seg.start < part.end;
    rwlock_drop (&st->lock);
    if (found)
      return true;
    pos = part.end;
  }
  if (atomic_load (&ino->nzeros)) {
    struct zero_value v;

    rwlock_take_shared (&ino->zlock);
    found = zeroset_next (&ino->zeros, r, states, s, &seg, &v);
    rwlock_drop (&ino->zlock);
    if (found)
      return true;
  }
  return false;
}

/* Bytes of ours that were overwritten while they travelled are in no set; their request is. */
static bool
range_travels_locked (struct inode *ino, struct range r, uint32_t s)
{
  struct list_node *n;

  list_for_each (n, &ino->wbs) {
    struct wb *wb = container_of (n, struct wb, node);

    if (range_overlaps (wb->range, r) && seq_le (wb->seq, s))
      return true;
  }
  return false;
}

/* *epoch: what happened to the books after that changes its number. */
static bool
still_pending (struct inode_op *op, bool *failed, uint32_t *epoch)
{
  struct inode *ino = op->ino;
  bool whole = range_equal (op->sync, RANGE_ALL), pending, again = false;
  uint32_t s, moved;

  do {
    lock_take (&ino->sync);
    *failed = op->sync_err != 0;
    *epoch = ino->escalations;
    s = op->s;
    moved = ino->moved;
    pending = whole ? gen_pending_locked (ino, s) : range_travels_locked (ino, op->sync, s);
    lock_drop (&ino->sync);
    if (!whole && !pending) {
      pending = range_pending (ino, op->sync, s);
      /* It may have gone from a set into a request and out again between the two looks: then its answer
       * woke us, and we look once more.  And zeros may have become data after we looked for data: then at once.
       */
      lock_take (&ino->sync);
      pending |= range_travels_locked (ino, op->sync, s) || op->s != s;
      again = ino->moved != moved;
      lock_drop (&ino->sync);
    }
  } while (!pending && again);
  return pending;
}

static bool
all_flushed_locked (struct inode *ino, uint64_t need)
{
  unsigned i;

  for (i = 0; i < ino->ncarriers; i++) {
    struct carrier *c = &ino->carrier[i];

    if (c->id && c->written > c->flushed && c->flushed < need)
      return false;
  }
  return true;
}

/* Requests, or the buffers they travel in, are all with other inodes, whose answers do not wake us. */
static bool
nothing_under_way (struct inode *ino)
{
  bool none;

  lock_take (&ino->sync);
  none = ino->nwbs == 0;
  lock_drop (&ino->sync);
  return none;
}

/* Send what op waits for.  Were all of its bytes sent with FUA in one go, then no flush is owed: unless they came back
 * (the epoch), and then somebody else's request may carry them.
 */
static void
send_pending (struct inode_op *op, uint32_t epoch)
{
  struct inode *ino = op->ino;
  struct wb_ask ask = {
    .limit = op->sync, .max = origin_depth (ino->origin), .prio = ORIGIN_PRIO_DEMAND, .fua = op->durable_fua,
    .kept = true,
  };
  unsigned under_way;
  uint64_t taken;

  lock_take (&ino->sync);
  under_way = ino->nwbs;
  ask.seq = op->s;
  lock_drop (&ino->sync);
  ask.max = ask.max > under_way ? ask.max - under_way : 1;
  wb_start (ino, &ask, &taken);
  lock_take (&ino->sync);
  if (!op->asked || taken)
    op->want_flush = op->asked || !op->durable_fua || taken != range_len (op->sync) || ino->escalations != epoch;
  op->asked = true;
  lock_drop (&ino->sync);
}

bool
sync_step (struct inode_op *op)
{
  struct inode *ino = op->ino;
  bool whole = range_equal (op->sync, RANGE_ALL), failed, pending, safe;
  uint32_t epoch;

  if (ino->env->mode == INODE_UNSAFE && !op->accepted_only && whole && !(op->flags & INODE_FUA))
    return true;                /* flush is ignored: asked for by name (D1); a drain says FUA */
  pending = still_pending (op, &failed, &epoch);
  if (pending && !failed) {
    send_pending (op, epoch);
    pending = still_pending (op, &failed, &epoch);
  }
  if (pending && !failed) {
    if (nothing_under_way (ino))
      op->wake_at_ns = clock_now (ino->env->clock) + RETRY_NS;
    return false;
  }

  lock_take (&ino->sync);
  if (!op->asked)
    op->want_flush = true;      /* somebody else's requests carried it */
  if (op->sync_err) {
    op->err = op->sync_err;
    safe = true;
  }
  else if (op->accepted_only || !(op->want_flush || op->unsent) || PLANTED (PLANT_FLUSH_FORGETS_UNSTABLE))
    safe = true;
  else {
    if (op->need == UINT64_MAX)
      op->need = ino->nwritten;
    /* A connection lost, or a flush failed, since the look above: begin again; the wake for that is on its way. */
    safe = all_flushed_locked (ino, op->need) && ino->escalations == epoch
           && !(whole && gen_pending_locked (ino, op->s));
  }
  lock_drop (&ino->sync);
  if (!safe)
    flush_carriers (ino);
  return safe;
}

/* Something was answered: who may have got what he waits for looks again. */
void
tokens_wake_locked (struct inode *ino)
{
  struct list_node *n;

  list_for_each (n, &ino->tokens) {
    struct inode_op *op = container_of (n, struct inode_op, node);

    if (op->sync_err || !range_equal (op->sync, RANGE_ALL) || !gen_pending_locked (ino, op->s))
      op->wake (op);
  }
}

/* What is owed in r was taken for a request that sends it with FUA when the rest of its blocks has been read; but it is something
 * else by now, or that request ended without it.  Whoever sends it may do so without FUA.
 */
void
tokens_unsent_locked (struct inode *ino, struct range r)
{
  struct list_node *n;

  list_for_each (n, &ino->tokens) {
    struct inode_op *op = container_of (n, struct inode_op, node);

    if (op->durable_fua && range_overlaps (op->sync, r))
      op->unsent = true;
  }
}

void
tokens_fail_locked (struct inode *ino, struct wb *wb, int err)
{
  struct list_node *n;

  list_for_each (n, &ino->tokens) {
    struct inode_op *op = container_of (n, struct inode_op, node);

    /* Whatever its generation: a failure raises every flush to all there is (ledger_wb_failed_locked). */
    if (range_overlaps (wb->range, op->sync) && seq_le (op->serial, wb->serial))
      op->sync_err = err;
  }
}

/*----------------------------------------------------------------------*/
/* What never is answered. */

/* A disk may hang behind an origin that goes on to take connections and to answer reads.  What it does not answer is
 * lost with its connection, sent again, lost again: without an end, for the origin is not away (D15).  It may hang in
 * one place only: then other writes are answered.  What is lost first is that one, or is answered the next time: of
 * what is under way on a connection it is the oldest, and is told first.
 */
int
losses_judge_locked (struct inode *ino, struct losses *l, struct range r, int err, bool *tell)
{
  uint64_t give_up_ns = ino->origin->give_up_ns, now;
  bool stuck = range_overlaps (l->stuck, r);

  *tell = false;
  if (err == ETIMEDOUT || err == ECANCELED)
    return err;                 /* no answer either, and not sent */
  if (err != ENOTCONN) {
    l->since_ns = 0;
    if (stuck || range_is_empty (l->stuck))
      *l = (struct losses) { .since_ns = 0 };
    return err;
  }
  now = clock_now (ino->env->clock);
  if (l->since_ns == 0)
    l->since_ns = now;          /* no clock says 0 */
  if (range_is_empty (l->stuck)) {
    l->stuck = r;
    l->stuck_since_ns = now;
  }
  if (give_up_ns == 0 || (now - l->since_ns < give_up_ns && !(stuck && now - l->stuck_since_ns >= give_up_ns)))
    return ENOTCONN;
  *tell = !l->told;
  l->told = true;
  return EIO;
}

void
losses_tell (struct inode *ino, const char *what)
{
  char line[320];

  if (!ino->env->news.notice)
    return;
  snprintf (line, sizeof line, "%s: %s was not answered for %.3g s, though the origin can be connected to: "
            "flushes fail until it is", ino->origin->name, what, (double) ino->origin->give_up_ns / NSEC_PER_SEC);
  ino->env->news.notice (ino->env->hook_arg, ino, 3, line);
}

/*----------------------------------------------------------------------*/
/* The origin's flush. */

static void
flush_failed_locked (struct inode *ino, int err)
{
  struct list_node *n;

  STAT_ADD (ino, writeback_errors, 1);
  atomic_store (&ino->flush_err, err);
  list_for_each (n, &ino->tokens) {
    struct inode_op *op = container_of (n, struct inode_op, node);

    if (!op->accepted_only)
      op->sync_err = err == ETIMEDOUT || err == ECANCELED ? EIO : err;
  }
  ino->retry_at_ns = clock_now (ino->env->clock) + 100 * NSEC_PER_MSEC;
  dirty_waiters_wake_locked (ino);
}

static void
flush_done (struct origin_req *req, int err)
{
  struct inode *ino = req->arg;
  struct carrier *c = container_of (req, struct carrier, req);
  uint32_t id = req->carrier;
  uint64_t asked = c->asked;
  bool lost = err == ENOTCONN, tell;

  if (err == 0)
    ledger_flushed (ino, id, asked);
  else if (!lost)
    ledger_flush_failed (ino, id, asked);

  lock_take (&ino->sync);
  err = losses_judge_locked (ino, &ino->flushes_lost, RANGE_ALL, err, &tell);
  c->flushing = false;
  ino->nflushing--;
  if (err == 0)
    atomic_store (&ino->flush_err, 0);
  if (c->id == id && !lost && c->flushed < asked)
    c->flushed = asked;         /* after an error: nothing of it is owed to a flush alone any more */
  /* What a lost one should have made durable is DIRTY since the loss was told. */
  if (err && err != ENOTCONN && (lost || c->id == id))
    flush_failed_locked (ino, err);
  tokens_wake_locked (ino);
  lock_drop (&ino->sync);
  if (tell)
    losses_tell (ino, "a flush");
  ino->env->dirtied (ino->env->hook_arg, ino);
}

/* Send a flush on every connection that has carried something since its last one, and has none under way. */
void
flush_carriers (struct inode *ino)
{
  struct carrier *go[MOST_CARRIERS];
  unsigned i, n = 0;

  lock_take (&ino->sync);
  for (i = 0; i < ino->ncarriers; i++) {
    struct carrier *c = &ino->carrier[i];

    if (c->id == 0 || c->flushing || c->written <= c->flushed)
      continue;
    c->flushing = true;
    c->asked = ino->nwritten;
    ino->nflushing++;
    list_node_init (&c->req.node);
    c->req.cmd = ORIGIN_FLUSH;
    c->req.prio = ORIGIN_PRIO_DEMAND;
    c->req.flags = 0;
    c->req.off = c->req.len = 0;
    c->req.buf = NULL;
    c->req.carrier = c->id;
    c->req.done = flush_done;
    c->req.arg = ino;
    go[n++] = c;
  }
  lock_drop (&ino->sync);
  for (i = 0; i < n; i++)
    origin_submit (ino->origin, &go[i]->req);
}

void
inode_flush_origin (struct inode *ino)
{
  flush_carriers (ino);
}

uint64_t
inode_unstable_since (struct inode *ino)
{
  uint64_t ret;

  lock_take (&ino->sync);
  ret = ino->unstable_since_ns;
  lock_drop (&ino->sync);
  return ret;
}

/*----------------------------------------------------------------------*/
/* For the owner of the hooks. */

uint32_t
inode_seq_now (struct inode *ino)
{
  uint32_t seq;

  lock_take (&ino->sync);
  seq = ino->seq;
  lock_drop (&ino->sync);
  return seq;
}

bool
inode_seq_older (struct inode *ino, uint64_t born_ns, uint32_t *seq)
{
  bool found = false;
  unsigned i;

  lock_take (&ino->sync);
  for (i = 0; i < ino->ngens; i++) {
    struct gen *g = &ino->gen[(ino->gen_first + i) % NGENS];

    if (g->pending && g->born_ns <= born_ns) {
      *seq = g->hi;
      found = true;
    }
  }
  lock_drop (&ino->sync);
  return found;
}

void
inode_seq_tick (struct inode *ino, uint64_t born_ns)
{
  struct gen *g;

  lock_take (&ino->sync);
  g = &ino->gen[(ino->gen_first + ino->ngens - 1) % NGENS];
  if (g->pending && g->born_ns <= born_ns && ino->ngens < NGENS / 2)
    gen_close_locked (ino);
  lock_drop (&ino->sync);
}

uint64_t
inode_retry_at (struct inode *ino)
{
  uint64_t ret;

  lock_take (&ino->sync);
  ret = ino->retry_at_ns;
  lock_drop (&ino->sync);
  return ret;
}

struct inode_dirty
inode_get_dirty (struct inode *ino)
{
  struct inode_dirty d;

  lock_take (&ino->sync);
  d.dirty = ino->bytes[WB_DIRTY] + ino->zbytes[WB_DIRTY];
  d.writing = ino->bytes[WB_WRITING] + ino->zbytes[WB_WRITING];
  d.unstable = ino->bytes[WB_UNSTABLE] + ino->zbytes[WB_UNSTABLE];
  lock_drop (&ino->sync);
  return d;
}

void
inode_take_notice (struct inode *ino)
{
  atomic_store (&ino->noticed, false);
}

uint64_t
inode_writes_seen (struct inode *ino)
{
  uint64_t ret;

  lock_take (&ino->sync);
  ret = ino->writes_seen;
  lock_drop (&ino->sync);
  return ret;
}

bool
inode_wants_cleaning (struct inode *ino)
{
  return atomic_load (&ino->env->nblocked) > 0;
}

/* Keep requests under way for the tokens that wait: called when one was answered. */
void
inode_pump (struct inode *ino)
{
  struct wb_ask ask = { .limit = RANGE_ALL, .prio = ORIGIN_PRIO_DEMAND, .kept = true };
  unsigned depth = origin_depth (ino->origin);
  bool any = false;
  struct list_node *n;

  lock_take (&ino->sync);
  list_for_each (n, &ino->tokens) {
    struct inode_op *op = container_of (n, struct inode_op, node);

    if (op->sync_err || !range_equal (op->sync, RANGE_ALL) || !gen_pending_locked (ino, op->s))
      continue;
    ask.seq = op->s;            /* in the order in which they came: the last is the newest */
    any = true;
  }
  ask.max = ino->nwbs < depth ? depth - ino->nwbs : 0;
  lock_drop (&ino->sync);
  if (any && ask.max)
    wb_start (ino, &ask, NULL);
}
