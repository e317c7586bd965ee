/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-ledger - what is newer than the origin, in which generation, carried by whom.
 *
 * Answers: how much is still owed to a flush, and what does each change of a state
 * do to that?
 *
 * The one way to become dirty is dirty_mark and zero_mark (and dirty_keep, for what is mapped writable), the one place where
 * something becomes clean is settle_all and the durable branch of the answers.
 * Nobody else touches dirtyset, or zeroset entries that are on their way.
 *
 * Generations (D23).  Each write belongs to the open generation; a flush closes it.  gen.pending
 * is the number of bytes that must still reach the origin: bytes in state DIRTY with a
 * number in [lo, hi], and bytes of write requests under way that were taken from
 * there.  A byte that is overwritten while DIRTY keeps its older number, because an
 * unfinished flush still needs it (whatever it holds then).  A byte that is overwritten
 * while it travels gets the new number; the request it travels in still counts for the
 * old one.  A kept page that travels counts for the number that was open when it was copied, as well.  If that request fails, or its connection is lost before a flush made it
 * durable, the newer bytes are all there is: every waiting flush is then
 * raised to the open generation (escalate_locked).
 *
 * Bytes become zeros and zeros bytes while a flush waits for them: what comes in the place of what is owed is owed to the
 * same flush.  So both happen in one hold of sync, and the generation is kept meanwhile (take_over_locked): once
 * forgotten, its number would mean the next one, of which the flush knows nothing.  In other words, at each release of sync
 *
 *   what is DIRTY in a generation up to op->s is seen by gen_pending_locked (op->s), for each flush op that waits
 *
 * which inode_check looks at, and taken_over_locked at its own part of it.  Only who takes back what a connection carried
 * may be in between, and he raises the flushes before the carrier goes (ledger_lost, ledger_flush_failed).
 *
 * Carriers.  A write request that was answered must be covered by a flush answered on the
 * same connection (origin.h).  Per carrier: number of the last answered write, and the
 * number up to which all is durable.
 *
 * Locks    the stripe's lock exclusively for dirty_*, and for zero_* where bytes change
 *          hands; zlock and sync are taken here.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "inode-priv.h"

static struct gen *
gen_open (struct inode *ino)
{
  return &ino->gen[(ino->gen_first + ino->ngens - 1) % NGENS];
}

/* The generation entry that seq belongs to; one older than all is the oldest's (its own entry
 * was closed as safe, and then a connection was lost).
 */
static struct gen *
gen_of (struct inode *ino, uint32_t seq)
{
  unsigned i;

  for (i = ino->ngens; i-- > 1; ) {
    struct gen *g = &ino->gen[(ino->gen_first + i) % NGENS];

    if (seq_le (g->lo, seq))
      return g;
  }
  return &ino->gen[ino->gen_first];
}

/* Closed generations with nothing pending are forgotten. */
void
gen_settle_locked (struct inode *ino)
{
  while (ino->ngens > 1 && ino->gen[ino->gen_first].pending == 0) {
    ino->gen_first = (ino->gen_first + 1) % NGENS;
    ino->ngens--;
  }
}

void
gen_add_locked (struct inode *ino, uint32_t seq, int64_t bytes)
{
  struct gen *g = gen_of (ino, seq);

  if (bytes > 0 && g->pending == 0)
    g->born_ns = clock_now (ino->env->clock);
  assert (bytes >= 0 || g->pending >= (uint64_t) -bytes);
  g->pending += (uint64_t) bytes;
}

/* Close the open generation if anything is in it.  Returns the newest number a flush that
 * comes now must wait for.
 */
uint32_t
gen_close_locked (struct inode *ino)
{
  struct gen *g = gen_open (ino);

  if (g->pending == 0)
    return ino->seq - 1;
  if (ino->ngens == NGENS) {
    /* Fold the two oldest: a flush that waits for the first now waits for both, which
     * is bounded, for neither grows by new writes.
     */
    struct gen *a = &ino->gen[ino->gen_first];
    struct gen *b = &ino->gen[(ino->gen_first + 1) % NGENS];

    b->lo = a->lo;
    b->pending += a->pending;
    assert (a->pending);        /* else it would have been forgotten */
    b->born_ns = a->born_ns;
    ino->gen_first = (ino->gen_first + 1) % NGENS;
    ino->ngens--;
  }
  ino->seq = seq_after (ino->seq);
  ino->gen[(ino->gen_first + ino->ngens) % NGENS] =
    (struct gen) { .lo = ino->seq, .hi = ino->seq };
  ino->ngens++;
  return ino->seq - 1;
}

/* Is anything of generations up to s still to reach the origin?  The oldest has something, or it is the open one. */
bool
gen_pending_locked (struct inode *ino, uint32_t s)
{
  const struct gen *g = &ino->gen[ino->gen_first];

  return g->pending > 0 && seq_le (g->lo, s);
}

/* Does each flush that waits for generation seq see that something of it is pending?  (A range is looked for in the sets.) */
bool
gen_is_seen_locked (struct inode *ino, uint32_t seq)
{
  struct list_node *n;

  list_for_each (n, &ino->tokens) {
    struct inode_op *op = container_of (n, struct inode_op, node);

    if (range_equal (op->sync, RANGE_ALL) && seq_le (seq, op->s) && !gen_pending_locked (ino, op->s))
      return false;
  }
  return true;
}

/* Every flush that waits must now wait for all there is. */
static void
escalate_locked (struct inode *ino)
{
  struct list_node *n;
  uint32_t s = gen_close_locked (ino);

  ino->escalations++;
  list_for_each (n, &ino->tokens) {
    struct inode_op *op = container_of (n, struct inode_op, node);

    op->s = s;                  /* no flush waits for more than what is closed by now */
    op->need = UINT64_MAX;      /* not decided: see sync_step */
    op->want_flush = true;      /* its FUA request may be what failed; somebody else's carries the bytes next */
  }
}

void
ledger_init (struct inode *ino)
{
  ino->seq = 1;
  ino->gen_first = 0;
  ino->ngens = 1;
  ino->gen[0] = (struct gen) { .lo = 1, .hi = 1 };
  ino->wb_next_id = 1;
}

static void
forget_failure_locked (struct inode *ino)
{
  atomic_store (&ino->wb_err, 0);
  ino->failures = 0;
  ino->retry_at_ns = 0;
}

/* r goes without being written.  If that is what failed to be written, then the origin may well take the rest, and who
 * waits for that need not be told that nothing gets clean.  What is written over is still there, and is tried again.
 */
static void
failed_dropped_locked (struct inode *ino, struct range r, bool zero)
{
  struct range *f = &ino->wb_failed, *stuck = &ino->writes_lost.stuck;

  /* Zeros that go are written over, mostly, and what is there then is answered or not. */
  if (!zero && range_overlaps (*stuck, r))
    *stuck = (struct range) { 0, 0 };
  if (atomic_load (&ino->wb_err) == 0 || ino->wb_failed_zero != zero || !range_overlaps (*f, r))
    return;
  if (r.start <= f->start)
    f->start = r.end < f->end ? r.end : f->end;
  else if (r.end >= f->end)
    f->end = r.start;
  if (range_is_empty (*f))
    forget_failure_locked (ino);
}

/* Something is dirty for the first time, or nothing any more. */
static void
forget_all_failures_locked (struct inode *ino)
{
  forget_failure_locked (ino);
  atomic_store (&ino->flush_err, 0);
  ino->writes_lost = ino->flushes_lost = (struct losses) { .since_ns = 0 };
}

/* The sum over all inodes follows ours (D13: a zero or trim range that is to be written costs 64 bytes).  Holes are cache
 * content: charged, they came in one step with the first zero, admitted by nobody, and went with the last.
 */
static void
charge_locked (struct inode *ino)
{
  uint64_t now = ino->bytes[0] + ino->bytes[1] + ino->bytes[2] + 64 * (uint64_t) zeroset_count_owed (&ino->zeros);
  uint64_t was = atomic_load_explicit (&ino->charged, memory_order_relaxed);

  if (now > was)
    atomic_fetch_add (&ino->env->dirty_total, now - was);
  else if (now < was)
    atomic_fetch_sub (&ino->env->dirty_total, was - now);
  else
    return;
  atomic_store_explicit (&ino->charged, now, memory_order_relaxed);
  if (now == 0 || was == 0)
    forget_all_failures_locked (ino);
  if (now < was)
    dirty_waiters_admit_locked (ino);
}

/* May len bytes more become dirty, on top of those that were admitted? */
bool
dirt_fits_locked (struct inode *ino, struct throttle_load load, uint64_t len)
{
  uint64_t reserved = atomic_load (&ino->reserved);

  load.own += reserved;
  load.total += reserved;
  return !throttle_must_block (&ino->throttle, &load, len);
}

void
dirt_admit_locked (struct inode_op *op, uint64_t len)
{
  op->admitted = true;
  op->reserved += len;
  atomic_fetch_add (&op->ino->reserved, len);
}

void
dirty_waiters_leave_locked (struct inode_op *op)
{
  struct inode *ino = op->ino;

  list_remove (&op->node);
  op->on = NULL;
  atomic_fetch_sub (&ino->env->nblocked, 1);
  STAT_ADD (ino, throttled_ns, clock_now (ino->env->clock) - op->blocked_at_ns);
}

/* Who has waited longest goes first, also if that is one who wants much: nobody overtakes it, so the dirt it waits for gets
 * less.  Who makes room lets in all who fit, and none of them has to wake the next.
 */
void
dirty_waiters_admit_locked (struct inode *ino)
{
  struct throttle_load load;
  struct inode_op *op;

  if (list_is_empty (&ino->dirty_waiters))
    return;
  load = inode_load_locked (ino, true);
  while ((op = list_entry (list_first (&ino->dirty_waiters), struct inode_op, node)) != NULL
         && dirt_fits_locked (ino, load, op->wants)) {
    dirty_waiters_leave_locked (op);
    dirt_admit_locked (op, op->wants);
    op->wake (op);
  }
}

/* Something else than less dirt is new: all look again, and stay where they are. */
void
dirty_waiters_wake_locked (struct inode *ino)
{
  struct list_node *n;

  list_for_each (n, &ino->dirty_waiters) {
    struct inode_op *op = container_of (n, struct inode_op, node);

    op->wake (op);
  }
}

/*----------------------------------------------------------------------*/
/* Carriers. */

static struct carrier *
carrier_get_locked (struct inode *ino, uint32_t id)
{
  struct carrier *c, *empty = NULL;
  unsigned i;

  assert (id != 0);
  for (i = 0; i < ino->ncarriers; i++) {
    c = &ino->carrier[i];
    if (c->id == id)
      return c;
    if (c->id == 0 && !c->flushing && !empty)
      empty = c;
  }
  if (!empty) {
    assert (ino->ncarriers < ino->most_carriers);
    empty = &ino->carrier[ino->ncarriers++];
  }
  memset (empty, 0, sizeof *empty);
  empty->id = id;
  empty->written = empty->flushed = ino->nwritten;
  return empty;
}

static struct carrier *
carrier_find_locked (struct inode *ino, uint32_t id)
{
  unsigned i;

  for (i = 0; i < ino->ncarriers; i++)
    if (ino->carrier[i].id == id)
      return &ino->carrier[i];
  return NULL;
}

/*----------------------------------------------------------------------*/
/* Accounting callbacks: run under stripe (or zlock) and sync. */

struct acct {
  struct inode *ino;
  struct stripe *st;
  struct wb *wb;                /* what a change function is about */
  uint32_t carrier;
  uint64_t stamp;               /* flush number */
  bool durable, any;
  uint32_t oldest;              /* of the DIRTY pieces that went */
  uint32_t lo;                  /* of its entry, while that is kept */
};

static void
count_state (struct inode *ino, uint64_t *bytes, unsigned state, uint32_t carrier, int64_t len)
{
  assert (len > 0 || bytes[state] >= (uint64_t) -len);
  bytes[state] += (uint64_t) len;
  if (state == WB_UNSTABLE) {
    struct carrier *c = carrier_find_locked (ino, carrier);

    /* The carrier may be lost: its pieces are being turned back just now. */
    if (c)
      c->unstable += (uint64_t) len;
  }
}

/* Must v still reach the origin, apart from what travels?  A kept page that travels must: it may have changed since
 * the copy was made.
 */
static bool
is_owed (const struct dirty_value *v)
{
  return v->state == WB_DIRTY || (v->state == WB_WRITING && v->keep);
}

static void
dirty_acct (void *arg, struct range piece, const struct dirty_value *old, const struct dirty_value *now)
{
  struct acct *a = arg;
  int64_t len = (int64_t) range_len (piece);

  /* No change of what is owed; taken out and put in, a generation would seem born anew. */
  if (old && now && old->state == now->state && old->seq == now->seq && old->carrier == now->carrier
      && is_owed (old) == is_owed (now))
    return;
  if (old) {
    count_state (a->ino, a->ino->bytes, old->state, old->carrier, -len);
    if (old->state == WB_DIRTY)
      a->st->ndirty -= (uint64_t) len;
    if (is_owed (old)) {
      gen_add_locked (a->ino, old->seq, -len);
      if (!now && (!a->any || !seq_le (a->oldest, old->seq))) {
        a->oldest = old->seq;
        a->any = true;
      }
    }
  }
  if (now) {
    count_state (a->ino, a->ino->bytes, now->state, now->carrier, len);
    if (now->state == WB_DIRTY)
      a->st->ndirty += (uint64_t) len;
    if (is_owed (now))
      gen_add_locked (a->ino, now->seq, len);
  }
}

static void
zero_acct (void *arg, struct range piece, const struct zero_value *old, const struct zero_value *now)
{
  struct acct *a = arg;
  int64_t len = (int64_t) range_len (piece);

  if (old && old->state != WB_CLEAN) {
    count_state (a->ino, a->ino->zbytes, old->state, old->carrier, -len);
    if (old->state == WB_DIRTY) {
      gen_add_locked (a->ino, old->seq, -len);
      if (!now && (!a->any || !seq_le (a->oldest, old->seq))) {
        a->oldest = old->seq;
        a->any = true;
      }
    }
  }
  if (now && now->state != WB_CLEAN) {
    count_state (a->ino, a->ino->zbytes, now->state, now->carrier, len);
    if (now->state == WB_DIRTY)
      gen_add_locked (a->ino, now->seq, len);
  }
}

static unsigned
stripe_index (struct inode *ino, struct stripe *st)
{
  return (unsigned) (st - ino->stripe);
}

/* After a change: bits, charge, forgotten generations. */
static void
settle_locked (struct inode *ino, struct stripe *st)
{
  if (st) {
    uint64_t bit = (uint64_t) 1 << stripe_index (ino, st);

    if (st->ndirty)
      ino->dirty_stripes |= bit;
    else
      ino->dirty_stripes &= ~bit;
  }
  atomic_store_explicit (&ino->nzeros, zeroset_count (&ino->zeros), memory_order_relaxed);
  charge_locked (ino);
  gen_settle_locked (ino);
}

/*----------------------------------------------------------------------*/
/* Data. */

/* What was owed went, as a says, and something else comes in its place.  Returns the generation of that; until
 * taken_over_locked it is kept, and is as old as it was, though nothing may be in it.
 */
static uint32_t
take_over_locked (struct acct *a)
{
  struct inode *ino = a->ino;

  if (!a->any)
    return ino->seq;
  a->lo = gen_of (ino, a->oldest)->lo;
  if (PLANTED (PLANT_REPLACED_IS_FORGOTTEN))
    gen_settle_locked (ino);
  gen_of (ino, a->oldest)->pending++;
  return a->oldest;
}

static void
taken_over_locked (const struct acct *a, struct stripe *st)
{
  struct inode *ino = a->ino;

  if (a->any)
    gen_of (ino, a->oldest)->pending--;
  settle_locked (ino, st);
  assert (!a->any || gen_of (ino, a->oldest)->lo == a->lo || PLANTED (PLANT_REPLACED_IS_FORGOTTEN));
}

/* Bytes r of st were written, or will be before the stripe is let go: newer than the origin from now on, and not zeros any
 * more; they take over what was owed of those.  wt: they may go again, if whoever writes them through fails; not if zeros were
 * owed to somebody else, which stay owed as data.  EAGAIN, and nothing is changed: see to nodes for zeros.
 */
int
dirty_mark (struct inode *ino, struct stripe *st, struct range r, bool wt)
{
  bool zeros = atomic_load_explicit (&ino->nzeros, memory_order_relaxed) && !PLANTED (PLANT_TRIM_OVERTAKES);
  struct acct a = { .ino = ino, .st = st };
  uint32_t seq;

  if (zeros) {
    rwlock_take (&ino->zlock);
    /* Whoever saw to them let zlock go since. */
    if (!zeros_have_nodes (ino, 1)) {
      rwlock_drop (&ino->zlock);
      return EAGAIN;
    }
  }
  lock_take (&ino->sync);
  if (zeros) {
    zeroset_drop (&ino->zeros, r, zero_acct, &a);
    failed_dropped_locked (ino, r, true);
    ino->moved += a.any;
  }
  ino->writes_seen += range_len (r);
  if (PLANTED (PLANT_EDGE_LOST) && r.start > 0 && range_len (r) > 1)
    r.start += dirtyset_overlaps (&st->dirty, (struct range) { r.start - 1, r.start }, WB_BIT (WB_DIRTY));
  seq = take_over_locked (&a);
  dirtyset_mark (&st->dirty, r, seq, wt && !a.any, dirty_acct, &a);
  taken_over_locked (&a, st);
  lock_drop (&ino->sync);
  if (zeros)
    rwlock_drop (&ino->zlock);
  return 0;
}

/* Bytes r are mapped writable from now on: they may change at any time, and that is what the next flush
 * has to see.
 */
void
dirty_keep (struct inode *ino, struct stripe *st, struct range r)
{
  struct acct a = { .ino = ino, .st = st };

  lock_take (&ino->sync);
  ino->writes_seen += range_len (r);
  dirtyset_keep_dirty (&st->dirty, r, ino->seq, dirty_acct, &a);
  settle_locked (ino, st);
  lock_drop (&ino->sync);
}

/* A request that is under way carries a copy from before the last store: its answer cleans nothing. */
static enum dirtyset_verdict
unkeep (void *arg, struct range piece, struct dirty_value *v)
{
  (void) arg;
  (void) piece;
  if (v->keep && v->state == WB_WRITING) {
    v->state = WB_DIRTY;
    v->stamp = v->carrier = 0;
  }
  v->keep = 0;
  return DIRTYSET_SET;
}

/* The last writable translation of r has gone (DRT-5). */
void
dirty_unkeep (struct inode *ino, struct stripe *st, struct range r)
{
  struct acct a = { .ino = ino, .st = st };

  lock_take (&ino->sync);
  dirtyset_change (&st->dirty, r, unkeep, dirty_acct, &a);
  settle_locked (ino, st);
  lock_drop (&ino->sync);
}

/* Bytes r go, and nothing comes in their place: whoever waits for them waits no more.  (What zeros replace is dropped by
 * zero_mark.)
 */
void
dirty_drop (struct inode *ino, struct stripe *st, struct range r)
{
  struct acct a = { .ino = ino, .st = st };

  lock_take (&ino->sync);
  dirtyset_drop (&st->dirty, r, dirty_acct, &a);
  failed_dropped_locked (ino, r, false);
  settle_locked (ino, st);
  lock_drop (&ino->sync);
}

static enum dirtyset_verdict
to_writing (void *arg, struct range piece, struct dirty_value *v)
{
  struct acct *a = arg;

  (void) piece;
  if (v->state != WB_DIRTY)
    return DIRTYSET_LEAVE;
  if (!a->any || !seq_le (a->wb->seq, v->seq))
    a->wb->seq = v->seq;
  a->any = true;
  v->state = WB_WRITING;
  v->stamp = a->wb->id;
  /* What is stored after the copy is made belongs to the generation that is open by then, and a flush may close that before
   * the answer.
   */
  if (v->keep)
    v->seq = a->ino->seq;
  return DIRTYSET_SET;
}

/* DIRTY bytes of wb->range travel now; sync is held.  wb counts for the oldest of them. */
void
dirty_writing_locked (struct inode *ino, struct stripe *st, struct wb *wb)
{
  struct acct a = { .ino = ino, .st = st, .wb = wb };

  dirtyset_change (&st->dirty, wb->range, to_writing, dirty_acct, &a);
  assert (a.any);
  wb->counted = range_len (wb->range);
  gen_add_locked (ino, wb->seq, (int64_t) wb->counted);
  settle_locked (ino, st);
}

static enum dirtyset_verdict
wb_answered (void *arg, struct range piece, struct dirty_value *v)
{
  struct acct *a = arg;

  (void) piece;
  if (v->state != WB_WRITING || v->stamp != a->wb->id)
    return DIRTYSET_LEAVE;      /* written again meanwhile */
  if (v->keep && a->carrier) {
    /* What was sent is not what is there now: as if written again meanwhile (DRT-2).  What was sent needs a flush
     * all the same: its carrier remembers, and if that is lost, all there is is written again.
     */
    v->state = WB_DIRTY;
    v->stamp = v->carrier = 0;
    return DIRTYSET_SET;
  }
  if (a->durable)
    return DIRTYSET_DROP;
  if (a->carrier == 0) {        /* failed, or unknown */
    v->state = WB_DIRTY;
    v->stamp = v->carrier = 0;
    return DIRTYSET_SET;
  }
  v->state = WB_UNSTABLE;
  v->stamp = (uint32_t) a->stamp;
  v->carrier = a->carrier;
  v->wt = 0;
  return DIRTYSET_SET;
}

static void
unstable_begins_locked (struct inode *ino)
{
  if (ino->unstable_since_ns == 0)
    ino->unstable_since_ns = clock_now (ino->env->clock);
}

/* A write request was answered on carrier; 0: it failed.  In the same hold as what its bytes become: a flush that is
 * sent from now on covers it, and what that flush answers for must be UNSTABLE by then.  Returns its number.
 */
static uint64_t
answered_locked (struct inode *ino, uint32_t carrier, bool durable)
{
  if (carrier) {
    /* A new carrier begins with all before this request behind it. */
    struct carrier *c = durable ? NULL : carrier_get_locked (ino, carrier);

    ino->nwritten++;
    if (c) {
      c->written = ino->nwritten;
      unstable_begins_locked (ino);
    }
  }
  return ino->nwritten;
}

/* A write request was answered: carrier 0: it failed or was lost; its bytes are DIRTY again. */
void
dirty_wb_answered (struct inode *ino, struct stripe *st, struct wb *wb, uint32_t carrier, bool durable)
{
  struct acct a = { .ino = ino, .st = st, .wb = wb, .carrier = carrier, .durable = durable };

  lock_take (&ino->sync);
  a.stamp = answered_locked (ino, carrier, durable);
  if (carrier && !durable)
    ino->unstable_stripes |= (uint64_t) 1 << stripe_index (ino, st);
  dirtyset_change (&st->dirty, wb->range, wb_answered, dirty_acct, &a);
  settle_locked (ino, st);
  lock_drop (&ino->sync);
}

/*----------------------------------------------------------------------*/
/* Zeros and trims.  The caller holds the stripe exclusively and zlock exclusively, and looked in this hold of zlock whether
 * the nodes are there (zeros_have_nodes): all stripes take from the same.
 */

/* r reads as zeros from now on, and the origin must be told.  It takes over what was owed of zeros there, and of bytes of
 * st (NULL: nothing is dirty in r).
 */
void
zero_mark (struct inode *ino, struct stripe *st, struct range r, enum zero_kind kind, bool may_trim)
{
  struct acct a = { .ino = ino, .st = st };
  struct zero_value v = { .kind = kind, .may_trim = may_trim, .state = WB_DIRTY };

  lock_take (&ino->sync);
  ino->writes_seen++;
  if (st) {
    dirtyset_drop (&st->dirty, r, dirty_acct, &a);
    failed_dropped_locked (ino, r, false);
  }
  zeroset_drop (&ino->zeros, r, zero_acct, &a);
  v.seq = take_over_locked (&a);
  zeroset_put (&ino->zeros, r, &v, zero_acct, &a);
  taken_over_locked (&a, st);
  if (a.any)
    tokens_unsent_locked (ino, r);
  lock_drop (&ino->sync);
}

/* r is unknown from now on, or held as clean data: as dirty_drop. */
void
zero_drop (struct inode *ino, struct range r)
{
  struct acct a = { .ino = ino };

  lock_take (&ino->sync);
  zeroset_drop (&ino->zeros, r, zero_acct, &a);
  failed_dropped_locked (ino, r, true);
  settle_locked (ino, NULL);
  lock_drop (&ino->sync);
}

static enum zeroset_verdict
zero_to_writing (void *arg, struct range piece, struct zero_value *v)
{
  struct acct *a = arg;

  (void) piece;
  if (v->state != WB_DIRTY)
    return ZEROSET_LEAVE;
  if (!a->any || !seq_le (a->wb->seq, v->seq))
    a->wb->seq = v->seq;
  a->any = true;
  v->state = WB_WRITING;
  v->stamp = a->wb->id;
  return ZEROSET_SET;
}

void
zero_writing_locked (struct inode *ino, struct wb *wb)
{
  struct acct a = { .ino = ino, .wb = wb };

  zeroset_change (&ino->zeros, wb->range, WB_BIT (WB_DIRTY), zero_to_writing, zero_acct, &a);
  assert (a.any);
  wb->counted = range_len (wb->range);
  gen_add_locked (ino, wb->seq, (int64_t) wb->counted);
  settle_locked (ino, NULL);
}

/* What becomes of a zero or trim that is durable: zeros are hole knowledge, which is cache content
 * like a clean page; what was trimmed is the origin's business again (D8).  No more than are learned from the
 * origin are kept, for nothing else takes them away again, and they would take the cache's memory (D13).
 */
static enum zeroset_verdict
zero_durable (struct inode *ino, struct zero_value *v)
{
  if (v->kind == ZERO_TRIM || zeroset_count (&ino->zeros) >= holes_most (ino))
    return ZEROSET_DROP;
  *v = (struct zero_value) { .kind = ZERO_HOLE, .state = WB_CLEAN };
  return ZEROSET_SET;
}

static enum zeroset_verdict
zero_answered (void *arg, struct range piece, struct zero_value *v)
{
  struct acct *a = arg;

  (void) piece;
  if (v->state != WB_WRITING || v->stamp != a->wb->id)
    return ZEROSET_LEAVE;
  if (a->durable)
    return zero_durable (a->ino, v);
  if (a->carrier == 0) {
    v->state = WB_DIRTY;
    v->stamp = v->carrier = 0;
    return ZEROSET_SET;
  }
  v->state = WB_UNSTABLE;
  v->stamp = (uint32_t) a->stamp;
  v->carrier = a->carrier;
  return ZEROSET_SET;
}

void
zero_wb_answered (struct inode *ino, struct wb *wb, uint32_t carrier, bool durable)
{
  struct acct a = { .ino = ino, .wb = wb, .carrier = carrier, .durable = durable };

  lock_take (&ino->sync);
  a.stamp = answered_locked (ino, carrier, durable);
  zeroset_change (&ino->zeros, wb->range, WB_BIT (WB_WRITING), zero_answered, zero_acct, &a);
  settle_locked (ino, NULL);
  lock_drop (&ino->sync);
}

/*----------------------------------------------------------------------*/
/* What an answered flush, a failed flush and a lost connection do. */

enum settle_kind { FLUSHED, BACK_TO_DIRTY };

struct settle {
  struct acct acct;             /* first */
  enum settle_kind kind;
  uint32_t carrier, upto;
  bool left;                    /* some UNSTABLE of anybody remain */
};

static enum dirtyset_verdict
settle_dirty (void *arg, struct range piece, struct dirty_value *v)
{
  struct settle *s = arg;

  (void) piece;
  if (v->state != WB_UNSTABLE)
    return DIRTYSET_LEAVE;
  if (v->carrier != s->carrier || !seq_le (v->stamp, s->upto)) {
    s->left = true;
    return DIRTYSET_LEAVE;
  }
  if (s->kind == FLUSHED)
    return DIRTYSET_DROP;
  v->state = WB_DIRTY;
  v->stamp = v->carrier = 0;
  return DIRTYSET_SET;
}

static enum zeroset_verdict
settle_zero (void *arg, struct range piece, struct zero_value *v)
{
  struct settle *s = arg;

  (void) piece;
  if (v->state != WB_UNSTABLE || v->carrier != s->carrier || !seq_le (v->stamp, s->upto))
    return ZEROSET_LEAVE;
  if (s->kind == FLUSHED)
    return zero_durable (s->acct.ino, v);
  v->state = WB_DIRTY;
  v->stamp = v->carrier = 0;
  return ZEROSET_SET;
}

/* Every UNSTABLE byte that `carrier` took up to answered write number `upto` is CLEAN, or DIRTY again.
 * Stripe by stripe: O(dirty), however many holes are known.
 */
static void
settle_all (struct inode *ino, enum settle_kind kind, uint32_t carrier, uint64_t upto)
{
  struct settle s = { .acct = { .ino = ino }, .kind = kind, .carrier = carrier, .upto = (uint32_t) upto };
  uint64_t stripes;
  bool zeros;
  unsigned i;

  lock_take (&ino->sync);
  stripes = ino->unstable_stripes;
  zeros = ino->zbytes[WB_UNSTABLE] > 0;
  lock_drop (&ino->sync);
  for (i = 0; i < NSTRIPES; i++) {
    struct stripe *st = &ino->stripe[i];

    if (!(stripes >> i & 1))
      continue;
    rwlock_take (&st->lock);
    lock_take (&ino->sync);
    s.acct.st = st;
    s.left = false;
    dirtyset_change (&st->dirty, RANGE_ALL, settle_dirty, dirty_acct, &s);
    if (!s.left)
      ino->unstable_stripes &= ~((uint64_t) 1 << i);
    settle_locked (ino, st);
    lock_drop (&ino->sync);
    rwlock_drop (&st->lock);
  }
  if (zeros) {
    rwlock_take (&ino->zlock);
    lock_take (&ino->sync);
    zeroset_change (&ino->zeros, RANGE_ALL, WB_BIT (WB_UNSTABLE), settle_zero, zero_acct, &s);
    settle_locked (ino, NULL);
    lock_drop (&ino->sync);
    rwlock_drop (&ino->zlock);
  }
  lock_take (&ino->sync);
  if (ino->bytes[WB_UNSTABLE] + ino->zbytes[WB_UNSTABLE] == 0)
    ino->unstable_since_ns = 0;
  else if (kind == FLUSHED)
    ino->unstable_since_ns = clock_now (ino->env->clock);
  lock_drop (&ino->sync);
}

/* A flush on carrier was answered; `asked` was nwritten when it was sent. */
void
ledger_flushed (struct inode *ino, uint32_t carrier, uint64_t asked)
{
  settle_all (ino, FLUSHED, carrier, asked);
  inode_env_wake_memory (ino->env);
}

/* A flush on carrier failed though the connection stands: what it should have made durable is written
 * again, never only flushed again (D-21 of the page states; 4.3).
 */
void
ledger_flush_failed (struct inode *ino, uint32_t carrier, uint64_t asked)
{
  settle_all (ino, BACK_TO_DIRTY, carrier, asked);
  lock_take (&ino->sync);
  escalate_locked (ino);
  lock_drop (&ino->sync);
}

/* The connection is gone, and with it perhaps all that it did not flush (D16).  First everything is DIRTY
 * again, then the tokens are raised: the other way round, what becomes DIRTY in the open generation
 * would be missed by a generation that was empty when it was to be closed.  Until the carrier is taken out no
 * token can think itself safe.
 */
void
ledger_lost (struct inode *ino, uint32_t carrier)
{
  struct carrier *c;
  uint64_t upto;

  lock_take (&ino->sync);
  c = carrier_find_locked (ino, carrier);
  upto = ino->nwritten;
  lock_drop (&ino->sync);
  if (!c)
    return;
  settle_all (ino, BACK_TO_DIRTY, carrier, upto);
  lock_take (&ino->sync);
  if (c->written > c->flushed)
    escalate_locked (ino);
  c->id = 0;                    /* its flush under way answers ENOTCONN */
  tokens_wake_locked (ino);
  lock_drop (&ino->sync);
  ino->env->dirtied (ino->env->hook_arg, ino);
}

/* wb was answered with an error or an unknown outcome.  Bytes overwritten while it travelled are now owed
 * to the flushes that wait, as their newer selves.
 */
void
ledger_wb_failed_locked (struct inode *ino)
{
  escalate_locked (ino);
}
