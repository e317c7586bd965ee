/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-wb - how what is newer goes to the origin.
 *
 * A write request (struct wb, from a pool filled at start: a flush needs no memory) takes a run of
 * DIRTY bytes of one MiB, or a zero or trim range, marks it WRITING and travels.  Its bytes do not change
 * meanwhile: it holds a reference on each frame, and a write to such a page goes to a copy (D5); or it travels as a copy
 * itself.  At most one request a byte is under way (N-21): what overlaps one waits for its answer.
 *
 *      DIRTY --wb_start--> WRITING --answered--> UNSTABLE --flush on that carrier--> CLEAN
 *        ^                    |                     |
 *        +--- failed, lost ---+------ lost ---------+
 *
 * A page that is mapped may change at any time, so it travels as a copy only; if it is mapped writable
 * (kept), it is DIRTY again with the answer, and only a flush asks for that.
 *
 * Threads  wb_start from any, with no lock held; answers come from the origin.
 * Cost     a request is found by going over its stripe's dirty segments from where the last one ended.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "inode-priv.h"

/* nbdkit before 1.44 leaves old bytes behind in some zero requests above 64 MiB (its own fallback); half of that is
 * far enough away.  A trim may be long: it is one call to the file system.
 */
#define ZERO_MAX ((uint64_t) 32 << 20)
#define TRIM_MAX ((uint64_t) 1 << 30)

/* A run of frames that is worth a request of its own (D20). */
#define DIRECT_MIN ((uint64_t) 64 << 10)

/* A run of bytes that need not grow before it is sent; and so many shorter ones may stay while something is under way.  If
 * there are more, then writes are scattered and will not grow together.
 */
#define GRAIN ((uint64_t) 256 << 10)
#define HOLD_MOST 16

/* More under way than this, and answers that take four times as long as they did at best: requests wait at the origin for
 * each other, and it would gain by fewer and longer ones.
 */
#define HOLD_DEPTH 8

/* An inode may have 7/8 of what the others leave, and one in any case: one whose origin does not answer must not
 * hold them all.
 */
static struct wb *
wb_get (struct inode *ino)
{
  struct inode_env *env = ino->env;
  struct wb *wb = NULL;
  unsigned own, left;

  lock_take (&ino->sync);
  own = ino->nwbs;
  lock_drop (&ino->sync);
  lock_take (&env->wb_lock);
  left = env->wb_nfree + own;
  if (own == 0 || own < left - left / 8) {
    wb = list_entry (list_pop_front (&env->wb_free), struct wb, node);
    if (wb)
      env->wb_nfree--;
  }
  lock_drop (&env->wb_lock);
  return wb;
}

static void *
buffer_take (struct inode *ino)
{
  void *buf = bounce_take (ino->env->bounce, true, atomic_load (&ino->nbuffers));

  if (buf)
    atomic_fetch_add (&ino->nbuffers, 1);
  return buf;
}

static void
buffer_give (struct inode *ino, void *buf)
{
  atomic_fetch_sub (&ino->nbuffers, 1);
  bounce_give (ino->env->bounce, buf);
}

static void
wb_put (struct inode_env *env, struct wb *wb)
{
  lock_take (&env->wb_lock);
  list_push_front (&env->wb_free, &wb->node);
  env->wb_nfree++;
  lock_drop (&env->wb_lock);
}

static bool
overlaps_locked (struct inode *ino, struct range r)
{
  struct list_node *n;

  if (PLANTED (PLANT_OLD_AFTER_NEW))
    return false;
  list_for_each (n, &ino->wbs)
    if (range_overlaps (container_of (n, struct wb, node)->range, r))
      return true;
  return false;
}

static void
wb_register_locked (struct inode *ino, struct wb *wb, enum wb_kind kind, struct range r)
{
  wb->ino = ino;
  wb->kind = kind;
  wb->range = r;
  wb->id = ino->wb_next_id++;
  wb->serial = ino->wb_serial++;
  wb->bounce = NULL;
  wb->nframes = 0;
  wb->rmw = wb->rmw_read = wb->copied = false;
  wb->as_data = wb->zeros = wb->gone = false;
  wb->counted = 0;
  wb->seq = ino->seq;
  list_push_back (&ino->wbs, &wb->node);
  ino->nwbs++;
}

/*----------------------------------------------------------------------*/
/* Data. */

/* The origin may have become shorter (D14): what lies before its end goes by itself, for the rest will fail. */
static struct range
before_end (struct inode *ino, struct range r, uint64_t mask)
{
  uint64_t end = inode_end (ino);

  if (end < r.end && (end & ~mask) > r.start)
    r.end = end & ~mask;
  return r;
}

/* A DIRTY run around seg, kept or not throughout, cut to limit, to one MiB and to the largest request; whole blocks
 * of the origin.
 */
static struct range
data_run (struct inode *ino, struct stripe *st, struct range seg, bool keep, const struct wb_ask *ask)
{
  uint64_t mask = (uint64_t) ino->block_min - 1;
  struct range r = range_intersect (seg, ask->limit), next;
  struct dirty_value v;

  r = stripe_part (r);
  if (r.end - r.start > ino->data_max)
    r.end = r.start + ino->data_max;
  r.start &= ~mask;
  while (r.end - r.start < ino->data_max && (r.end & (STRIPE_LEN - 1)) != 0
         && dirtyset_find (&st->dirty, r.end, &next, &v) && v.state == WB_DIRTY && v.keep == keep) {
    r.end = range_intersect (next, ask->limit).end;
    if (r.end <= next.start || r.end > r.start + ino->data_max || ask->limit.end < next.end)
      break;
  }
  if (r.end > r.start + ino->data_max)
    r.end = r.start + ino->data_max;
  r.end = (r.end + mask) & ~mask;
  assert (r.end <= stripe_part (r).end && r.end <= ino->size);  /* each is whole blocks, and no segment crosses a MiB */
  return before_end (ino, r, mask);
}

/* Does a page of r have all the senders that a frame counts?  Only one that r has a part of: what is sent whole has no other. */
static bool
sent_often (struct inode *ino, uint32_t frame, struct range r, uint64_t seg_end)
{
  struct memfile *mf = ino->env->mf;
  uint32_t last = rangeset_frame_of (r.start, frame, (r.end < seg_end ? r.end : seg_end) - 1);

  return frame_senders (memfile_frame (mf, frame)) == FRAME_MAX_SENDERS
         || frame_senders (memfile_frame (mf, last)) == FRAME_MAX_SENDERS;
}

/* Where will the bytes be sent from: frames, if they are one run of all of it or of 64 KiB; else a copy of as much as a
 * buffer holds, which is a block of the origin at least; without a buffer only what the first run has.
 */
static bool
data_source (struct inode *ino, struct stripe *st, const struct wb_ask *ask, struct wb *wb, struct range *r)
{
  struct inode_env *env = ino->env;
  struct range seg;
  uint64_t mask = (uint64_t) ino->block_min - 1, most = bounce_size (env->bounce) & ~mask, run_end;

  bool there = rangeset_find (&st->map, r->start, &seg, &wb->frame);

  assert (there);               /* all of r is, or it would be read first */
  (void) there;
  if (sent_often (ino, wb->frame, *r, seg.end) || map_first (ino, st, *r, &seg)) {
    if (range_len (*r) > most)
      r->end = r->start + most;
    wb->bounce = buffer_take (ino);
    return wb->bounce != NULL;
  }
  if (seg.end >= r->end)
    return true;
  run_end = seg.end & ~mask;
  if (run_end < r->start + DIRECT_MIN || range_len (*r) <= most
      || (ask->grain && run_end - r->start <= most / 2)) {
    wb->bounce = buffer_take (ino);
    if (wb->bounce) {
      if (range_len (*r) > most)
        r->end = r->start + most;
      return true;
    }
  }
  r->end = run_end;
  return r->end > r->start;
}

/* Zeros that a client wrote go out as a zero request, where that saves something; each run has one of its own. */
#define ZEROS_GRAIN ((uint64_t) 64 << 10)

static const uint8_t zero_bytes[16];

static bool
begins_with_zeros (const uint8_t *p)
{
  return memcmp (p, zero_bytes, sizeof zero_bytes) == 0;
}

/* Cut r, which is sent from its frames, where it looks as if zeros began or ended: only the first bytes of each 64 KiB are
 * looked at, for the stripe is held; the rest before it is sent.
 */
static void
cut_at_zeros (struct inode *ino, struct wb *wb, struct range *r)
{
  const uint8_t *p = memfile_addr (ino->env->mf, wb->frame) + (r->start & (PAGE_SIZE - 1));
  uint64_t pos, next;
  bool first = false;

  for (pos = r->start; pos < r->end; pos = next) {
    bool zeros;

    next = (pos | (ZEROS_GRAIN - 1)) + 1;
    zeros = next - pos == ZEROS_GRAIN && next <= r->end && begins_with_zeros (p + (pos - r->start));
    if (pos == r->start)
      first = zeros;
    else if (zeros != first) {
      r->end = pos;
      return;
    }
  }
}

static bool
is_zeros (const uint8_t *p, uint64_t len)
{
  return len >= ZEROS_GRAIN && begins_with_zeros (p) && memcmp (p, p + sizeof zero_bytes, len - sizeof zero_bytes) == 0;
}

/* The origin takes whole blocks and some of this one is not here: it is read, ours laid over it, and written, in
 * a buffer of the flush path's, so that no frame is needed (CON-6).  Of a run only its first part that fits.
 */
static bool
rmw_source (struct inode *ino, struct wb *wb, struct range *r)
{
  uint64_t mask = (uint64_t) ino->block_min - 1, most = bounce_size (ino->env->bounce) & ~mask;

  if (r->end - r->start > most)
    r->end = r->start + most;
  wb->bounce = buffer_take (ino);
  return wb->bounce != NULL;
}

/* [pos, stop) of the request's copy.  The stripe is held. */
static void
copy_part (struct inode *ino, struct stripe *st, struct wb *wb, uint64_t pos, uint64_t stop)
{
  while (pos < stop) {
    struct range piece;
    uint32_t frame;
    uint8_t *to = (uint8_t *) wb->bounce + (pos - wb->range.start);

    if (!rangeset_next (&st->map, (struct range) { pos, stop }, &piece, &frame)) {
      if (!wb->rmw)
        memset (to, 0, stop - pos);   /* zeroed or trimmed just now */
      return;
    }
    if (!wb->rmw)
      memset (to, 0, piece.start - pos);
    memcpy (to + (piece.start - pos),
            memfile_addr (ino->env->mf, frame) + (piece.start & (PAGE_SIZE - 1)), range_len (piece));
    pos = piece.end;
  }
}

enum pick { PICKED, NOTHING };

/* Take what can be sent of the DIRTY segment seg.  The stripe is held exclusively. */
static enum pick
take_run (struct inode *ino, struct stripe *st, struct range seg, const struct dirty_value *v, const struct wb_ask *ask,
          unsigned *hold, struct wb *wb)
{
  struct inode_env *env = ino->env;
  struct range r = data_run (ino, st, seg, v->keep, ask), all = r, gap;
  unsigned i;

  if (*hold > 0 && range_len (r) < ask->grain && range_len (r) < ino->data_max && (r.end & (STRIPE_LEN - 1)) != 0) {
    --*hold;
    return NOTHING;
  }
  wb->bounce = NULL;
  wb->rmw = rangeset_next_gap (&st->map, r, &gap);
  if (wb->rmw ? !rmw_source (ino, wb, &r) : !data_source (ino, st, ask, wb, &r))
    return NOTHING;
  /* All buffers travel, and from its frames only a piece could be sent. */
  if (*hold > 0 && !wb->bounce && range_len (r) < ask->grain && range_len (r) <= range_len (all) / 2) {
    --*hold;
    return NOTHING;
  }
  if (!wb->bounce && ino->can_zero)
    cut_at_zeros (ino, wb, &r);
  /* Hardly ever short: only a request cut out of the middle of a segment needs nodes. */
  if (segnodes_reserve (&st->nodes, dirtyset_need (&st->dirty, dirtyset_change_inserts (&st->dirty, r))))
    goto undo;
  lock_take (&ino->sync);
  if (overlaps_locked (ino, r)) {
    lock_drop (&ino->sync);
    goto undo;
  }
  {
    void *bounce = wb->bounce;
    bool rmw = wb->rmw;

    wb_register_locked (ino, wb, WB_DATA, r);
    wb->bounce = bounce;
    wb->rmw = rmw;
  }
  /* It takes nothing before its read is answered; who waits for v must hear if it fails. */
  if (wb->rmw)
    wb->seq = v->seq;
  else
    dirty_writing_locked (ino, st, wb);
  lock_drop (&ino->sync);
  /* Pages of the origin's large block that are clean may be evicted as soon as the lock is dropped, and their
   * place be taken for zeros.
   */
  if (wb->bounce && !wb->rmw && ino->unit > PAGE_SIZE) {
    copy_part (ino, st, wb, r.start, r.end);
    wb->copied = true;
  }
  if (!wb->bounce) {
    wb->nframes = (unsigned) ((page_of (r.end - 1) - page_of (r.start)) >> PAGE_SHIFT) + 1;
    for (i = 0; i < wb->nframes; i++)
      memfile_use (env->mf, wb->frame + i, FRAME_SENDER);
  }
  st->wb_pos = r.end;
  return PICKED;

 undo:
  if (wb->bounce)
    buffer_give (ino, wb->bounce);
  return NOTHING;
}

/* The next run of st to send, into wb. */
static enum pick
pick_data (struct inode *ino, struct stripe *st, const struct wb_ask *ask, unsigned *hold, struct wb *wb)
{
  bool whole = range_equal (ask->limit, RANGE_ALL);
  enum pick ret = NOTHING;
  int turn;

  rwlock_take (&st->lock);
  /* From where the last one ended, then from the start: a one-way elevator. */
  for (turn = whole && st->wb_pos ? 0 : 1; turn < 2 && ret != PICKED; turn++) {
    uint64_t from = whole ? turn == 0 ? st->wb_pos : 0 : ask->limit.start;
    struct range seg;
    struct dirty_value v;

    while (ret != PICKED
           && dirtyset_next (&st->dirty, from, WB_BIT (WB_DIRTY), ask->seq, &seg, &v)
           && seg.start < ask->limit.end) {
      if (!v.keep || ask->kept)
        ret = take_run (ino, st, seg, &v, ask, hold, wb);
      from = seg.end;
    }
  }
  rwlock_drop (&st->lock);
  return ret;
}

/* The bytes of a request that travels as a copy.  It is marked WRITING already; whatever is written over it from now on is
 * DIRTY again and sent again, so a mixture does no harm, and each page is of one moment.
 */
static void
copy_out (struct inode *ino, struct stripe *st, struct wb *wb)
{
  uint64_t pos = wb->range.start;

  while (pos < wb->range.end) {
    uint64_t stop = page_of (pos) + ((uint64_t) 64 << 10);

    if (stop > wb->range.end)
      stop = wb->range.end;
    rwlock_take_shared (&st->lock);
    copy_part (ino, st, wb, pos, stop);
    rwlock_drop (&st->lock);
    pos = stop;
  }
}

/*----------------------------------------------------------------------*/
/* Zeros and trims. */

static enum pick
pick_zero (struct inode *ino, const struct wb_ask *ask, struct wb *wb)
{
  struct range rest = ask->limit;
  enum pick ret = NOTHING;
  struct zero_value v;
  struct range r;

  rwlock_take (&ino->zlock);
  while (ret == NOTHING && zeroset_next (&ino->zeros, rest, WB_BIT (WB_DIRTY), ask->seq, &r, &v)) {
    bool as_data = v.kind == ZERO_ZERO && !ino->can_zero;
    uint64_t max = as_data ? ino->data_max : v.kind == ZERO_TRIM ? TRIM_MAX : ZERO_MAX;

    /* From where the last look ended: what is in the way of a segment's beginning stays there as long as this
     * loop has the lock that its answer needs.
     */
    r = range_intersect (r, rest);
    rest.start = r.end;
    /* Zero ranges are whole units and are sent so. */
    r.start &= ~(ino->unit - 1);
    r.end = r.end == ino->size ? r.end : (r.end + ino->unit - 1) & ~(ino->unit - 1);
    if (r.end > ino->size)
      r.end = ino->size;
    if (r.end - r.start > max) {
      r.end = (r.start + max) & ~(ino->unit - 1);
      rest.start = r.end;
    }
    if (inode_end (ino) < r.end)
      r = before_end (ino, r, ino->unit - 1);
    if (segnodes_reserve (&ino->znodes, zeroset_need (&ino->zeros, zeroset_change_inserts (&ino->zeros, r))))
      continue;
    lock_take (&ino->sync);
    if (!overlaps_locked (ino, r)) {
      wb_register_locked (ino, wb, v.kind == ZERO_TRIM ? WB_TRIM : WB_ZERO, r);
      wb->may_trim = v.may_trim;
      wb->as_data = as_data;
      zero_writing_locked (ino, wb);
      ret = PICKED;
    }
    lock_drop (&ino->sync);
  }
  rwlock_drop (&ino->zlock);
  return ret;
}

/*----------------------------------------------------------------------*/
/* The answer. */

/* A trim is a wish and a zero has another way: these answers are no failures (nbd.B-56, nbd.B-57). */
static int
forgive (struct inode *ino, struct wb *wb, int err)
{
  if (wb->kind == WB_TRIM && (err == EINVAL || err == ENOTSUP))
    return 0;
  if ((wb->zeros || (wb->kind == WB_ZERO && !wb->as_data)) && (err == EINVAL || err == ENOTSUP || err == EOVERFLOW)) {
    ino->can_zero = false;      /* from now on as data; this one again */
    return ENOTCONN;
  }
  return err;
}

static void
note_failure_locked (struct inode *ino, struct wb *wb, int err)
{
  uint64_t back_off = 100 * NSEC_PER_MSEC;

  ledger_wb_failed_locked (ino);
  if (err == ENOTCONN)
    return;                     /* unknown: written again as soon as there is a connection */
  STAT_ADD (ino, writeback_errors, 1);
  if (wb->gone)
    return;                     /* a flush tells what is true now (D7) */
  atomic_store (&ino->wb_err, err);
  ino->wb_failed = wb->range;
  ino->wb_failed_zero = wb->kind != WB_DATA;
  if (ino->wb_failed_zero)
    ino->wb_zero_pos = wb->range.end;
  /* An origin that is away costs nothing to ask, and all waits for the moment when it is back (D15). */
  if (err != ETIMEDOUT) {
    back_off <<= ino->failures < 8 ? ino->failures : 8;
    ino->failures++;
  }
  ino->retry_at_ns = clock_now (ino->env->clock) + back_off;
  tokens_fail_locked (ino, wb, err == ETIMEDOUT || err == ECANCELED ? EIO : err);
  dirty_waiters_wake_locked (ino);
}

static void wb_submit (struct inode *, const struct wb_ask *, struct wb *);

/* The rest of the blocks came.  What is DIRTY in them travels now, if it still is; what is here goes over what came. */
static bool
rmw_go_on (struct inode *ino, struct stripe *st, struct wb *wb)
{
  bool dirty;

  rwlock_take (&st->lock);
  dirty = dirtyset_overlaps (&st->dirty, wb->range, WB_BIT (WB_DIRTY))
          && segnodes_reserve (&st->nodes,
                               dirtyset_need (&st->dirty, dirtyset_change_inserts (&st->dirty, wb->range))) == 0;
  if (dirty) {
    lock_take (&ino->sync);
    dirty_writing_locked (ino, st, wb);
    lock_drop (&ino->sync);
  }
  rwlock_drop (&st->lock);
  return dirty;
}

static void wb_end (struct wb *, int err);

static void
rmw_read_done (struct origin_req *req, int err)
{
  struct wb *wb = req->arg;
  struct inode *ino = wb->ino;
  struct wb_ask ask = { .prio = ORIGIN_PRIO_WRITEBACK, .fua = wb->fua };

  if (!err && rmw_go_on (ino, inode_stripe (ino, wb->range.start), wb)) {
    ask.prio = req->prio;
    wb->rmw_read = true;
    wb_submit (ino, &ask, wb);
  }
  else {
    lock_take (&ino->sync);
    tokens_unsent_locked (ino, wb->range);
    lock_drop (&ino->sync);
    wb_end (wb, err);
  }
}

static void
note_time_locked (struct inode *ino, uint64_t took_ns)
{
  ino->wb_took_ns += took_ns / 8 - ino->wb_took_ns / 8;
  if (ino->wb_least_ns == 0 || took_ns < ino->wb_least_ns)
    ino->wb_least_ns = took_ns;
  else
    ino->wb_least_ns += ino->wb_least_ns >> 12; /* it may have moved away */
}

static void
wb_done (struct origin_req *req, int err)
{
  struct wb *wb = req->arg;
  struct inode *ino = wb->ino;
  struct inode_env *env = ino->env;
  struct stripe *st = inode_stripe (ino, wb->range.start);
  uint64_t now = clock_now (env->clock);
  uint32_t carrier;
  bool durable, tell;

  lock_take (&ino->sync);
  err = forgive (ino, wb, losses_judge_locked (ino, &ino->writes_lost, wb->range, err, &tell));
  assert (err || req->carrier != 0);
  carrier = err ? 0 : req->carrier;
  /* D4: an origin without flush has accepted it, and that is all one can have. */
  durable = !err && ((req->flags & ORIGIN_FUA) || !ino->can_flush);
  if (!err) {
    ino->failures = 0;
    ino->retry_at_ns = 0;
    atomic_store (&ino->wb_err, 0);
    throttle_cleaned (&ino->throttle, wb->kind == WB_DATA ? range_len (wb->range) : 64, now);
    if (req->cmd == ORIGIN_WRITE)
      note_time_locked (ino, now - wb->sent_ns);
  }
  lock_drop (&ino->sync);

  if (wb->kind == WB_DATA) {
    rwlock_take (&st->lock);
    dirty_wb_answered (ino, st, wb, carrier, durable);
    wb->gone = err && !dirtyset_overlaps (&st->dirty, wb->range, WB_BIT (WB_DIRTY));
    rwlock_drop (&st->lock);
  }
  else {
    rwlock_take (&ino->zlock);
    zero_wb_answered (ino, wb, carrier, durable);
    wb->gone = err && atomic_load (&ino->charged) == 0;
    rwlock_drop (&ino->zlock);
  }
  if (tell)
    losses_tell (ino, "a write");
  wb_end (wb, err);
}

/* The request is over: its books are closed, who waits is told, the next ones go. */
static void
wb_end (struct wb *wb, int err)
{
  struct inode *ino = wb->ino;
  struct inode_env *env = ino->env;
  uint32_t frames[STRIPE_PAGES + 1];
  unsigned i;

  lock_take (&ino->sync);
  if (err)
    note_failure_locked (ino, wb, err);
  if (wb->counted)
    gen_add_locked (ino, wb->seq, -(int64_t) wb->counted);
  list_remove (&wb->node);
  holes_touched_locked (ino, wb->range);
  if (--ino->nwbs == 0)
    throttle_busy (&ino->throttle, false);
  gen_settle_locked (ino);
  lock_drop (&ino->sync);

  if (wb->bounce)
    buffer_give (ino, wb->bounce);
  for (i = 0; i < wb->nframes; i++) {
    frames[i] = wb->frame + i;
    memfile_unuse (env->mf, frames[i], FRAME_SENDER);
  }
  if (wb->nframes)
    memfile_put_many (env->mf, frames, wb->nframes);
  wb_put (env, wb);
  /* Only now: who is woken may want just this buffer. */
  lock_take (&ino->sync);
  tokens_wake_locked (ino);
  lock_drop (&ino->sync);
  inode_env_wake_memory (env);
  inode_pump (ino);
  env->dirtied (env->hook_arg, ino);
}

/*----------------------------------------------------------------------*/

/* Nothing is sent to where the origin does not go any more; it stays dirty (D14). */
static void
send (struct inode *ino, struct origin_req *req)
{
  if (req->off + req->len > inode_end (ino))
    req->done (req, EIO);
  else
    origin_submit (ino->origin, req);
}

static void
wb_submit (struct inode *ino, const struct wb_ask *ask, struct wb *wb)
{
  struct inode_env *env = ino->env;
  struct origin_req *req = &wb->req;

  req->prio = ask->prio;
  req->flags = ask->fua ? ORIGIN_FUA : 0;       /* asked for only of an origin that can */
  req->off = wb->range.start;
  req->len = range_len (wb->range);
  req->done = wb_done;
  req->arg = wb;
  req->carrier = 0;
  wb->fua = ask->fua;
  wb->sent_ns = clock_now (env->clock);
  if (wb->rmw && !wb->rmw_read) {
    req->cmd = ORIGIN_READ;
    req->flags = 0;
    req->buf = wb->bounce;
    req->done = rmw_read_done;
    send (ino, req);
    return;
  }
  switch (wb->kind) {
  case WB_DATA:
    req->cmd = ORIGIN_WRITE;
    if (wb->bounce) {
      if (!wb->copied)
        copy_out (ino, inode_stripe (ino, req->off), wb);
      req->buf = wb->bounce;
    }
    else {
      req->buf = memfile_addr (env->mf, wb->frame) + (req->off & (PAGE_SIZE - 1));
      /* The bytes hold still now.  No hole: the client wrote something, and may rely on its room. */
      wb->zeros = ino->can_zero && is_zeros (req->buf, req->len);
      if (wb->zeros) {
        req->cmd = ORIGIN_ZERO;
        req->flags |= ORIGIN_NO_HOLE;
        req->buf = NULL;
      }
    }
    break;
  case WB_ZERO:
    req->cmd = wb->as_data ? ORIGIN_WRITE : ORIGIN_ZERO;
    req->buf = env->zeros;
    if (!wb->as_data && !wb->may_trim)
      req->flags |= ORIGIN_NO_HOLE;
    break;
  case WB_TRIM:
    req->cmd = ORIGIN_TRIM;
    req->buf = NULL;
    break;
  }
  STAT_ADD (ino, writeback_bytes, req->len);
  send (ino, req);
}

/* Data from the stripes, beginning with number `first`. */
static enum pick
pick_stripes (struct inode *ino, const struct wb_ask *ask, uint64_t stripes, unsigned first, unsigned hold, struct wb *wb)
{
  enum pick ret = NOTHING;
  unsigned k;

  for (k = 0; k < NSTRIPES && ret != PICKED; k++) {
    unsigned s = (first + k) % NSTRIPES;

    if (!(stripes >> s & 1))
      continue;
    ret = pick_data (ino, &ino->stripe[s], ask, &hold, wb);
    if (ret == PICKED) {
      lock_take (&ino->sync);
      ino->wb_stripe = s;
      lock_drop (&ino->sync);
    }
  }
  return ret;
}

static enum pick
pick_parts (struct inode *ino, const struct wb_ask *ask, struct wb *wb)
{
  enum pick ret = NOTHING;
  unsigned hold = 0;
  uint64_t pos;

  for (pos = ask->limit.start; pos < ask->limit.end && ret != PICKED; ) {
    struct wb_ask part = *ask;

    part.limit = stripe_part ((struct range) { pos, ask->limit.end });
    ret = pick_data (ino, inode_stripe (ino, pos), &part, &hold, wb);
    pos = part.limit.end;
  }
  return ret;
}

static enum pick
pick_zero_behind (struct inode *ino, const struct wb_ask *ask, uint64_t pos, struct wb *wb)
{
  struct wb_ask behind = *ask;

  behind.limit.start = pos;
  return pos > ask->limit.start && pick_zero (ino, &behind, wb) == PICKED ? PICKED : pick_zero (ino, ask, wb);
}

/* What limit has in it, request after request: zeros, then data from where the last one was.  While requests fail they
 * go one at a time, each from behind the one that failed, zeros and data in turn: bytes that the origin does not
 * take, perhaps for hours, keep no others back.
 */
static enum pick
pick (struct inode *ino, const struct wb_ask *ask, struct wb *wb)
{
  bool all = range_equal (ask->limit, RANGE_ALL), zeros, zeros_last = false;
  enum pick ret = NOTHING;
  uint64_t stripes, pos = 0;
  unsigned first, hold = 0;

  lock_take (&ino->sync);
  stripes = ino->dirty_stripes;
  zeros = ino->zbytes[WB_DIRTY] > 0;
  first = ino->wb_stripe;
  if (ino->bytes[WB_DIRTY] <= ask->hold_most ? ino->nwbs > 0 || ask->patient
      : ino->nwbs >= HOLD_DEPTH && ino->wb_took_ns / 4 > ino->wb_least_ns)
    hold = HOLD_MOST;
  if (all && atomic_load (&ino->wb_err)) {
    zeros_last = ino->wb_failed_zero;
    pos = ino->wb_zero_pos;
    first++;
  }
  lock_drop (&ino->sync);

  if (zeros && !zeros_last)
    ret = pick_zero_behind (ino, ask, pos, wb);
  if (ret != PICKED && stripes)
    ret = all ? pick_stripes (ino, ask, stripes, first, hold, wb) : pick_parts (ino, ask, wb);
  if (ret != PICKED && zeros && zeros_last)
    ret = pick_zero_behind (ino, ask, pos, wb);
  return ret;
}

unsigned
wb_start (struct inode *ino, const struct wb_ask *ask, uint64_t *taken)
{
  struct inode_env *env = ino->env;
  unsigned n;

  lock_assert_none_held ();
  if (taken)
    *taken = 0;
  for (n = 0; n < ask->max; n++) {
    struct wb *wb = wb_get (ino);

    if (!wb)
      break;                    /* an answer brings one back, and pumps */
    if (pick (ino, ask, wb) != PICKED) {
      wb_put (env, wb);
      break;
    }
    if (taken)
      *taken += range_len (range_intersect (wb->range, ask->limit));
    wb_submit (ino, ask, wb);
    /* The last answer was an error, perhaps to just this: one at a time until something succeeds, whose answer sends
     * the next.
     */
    if (atomic_load (&ino->wb_err)) {
      n++;
      break;
    }
  }
  /* The origin's rate is measured while it has all that it may have, or is far behind; a trickle says nothing of it. */
  if (range_equal (ask->limit, RANGE_ALL)) {
    struct throttle_load load;

    lock_take (&ino->sync);
    load = inode_load_locked (ino, false);
    throttle_busy (&ino->throttle, ino->nwbs > 0
                   && (n == ask->max || ino->bytes[WB_DIRTY] + ino->bytes[WB_WRITING]
                                        >= throttle_limit (&ino->throttle, &load) / 4));
    lock_drop (&ino->sync);
  }
  return n;
}

/* One word: the second, and how many wrote in it and in the one before. */
static unsigned
count_writers_locked (struct inode *ino, bool wants)
{
  struct inode_env *env = ino->env;
  uint32_t now_s = (uint32_t) (clock_now (env->clock) / NSEC_PER_SEC) + 1;
  uint64_t old = atomic_load (&env->writers), new;
  unsigned now, before;

  do {
    now = old >> 16 & 0xffff;
    before = old & 0xffff;
    if (old >> 32 != now_s) {
      before = (old >> 32) + 1 == now_s ? now : 0;
      now = 0;
    }
    if (!wants)
      break;
    if (ino->wrote_s != now_s && now < 0xffff)
      now++;
    new = (uint64_t) now_s << 32 | now << 16 | before;
  } while (new != old && !atomic_compare_exchange_weak (&env->writers, &old, new));
  if (wants)
    ino->wrote_s = now_s;
  return now > before ? now : before > 0 ? before : 1;
}

unsigned
inode_writers_locked (struct inode *ino)
{
  return count_writers_locked (ino, true);
}

struct throttle_load
inode_load_locked (struct inode *ino, bool wants)
{
  return (struct throttle_load) {
    .own = atomic_load_explicit (&ino->charged, memory_order_relaxed),
    .total = atomic_load_explicit (&ino->env->dirty_total, memory_order_relaxed),
    .writers = count_writers_locked (ino, wants),
  };
}

struct inode_marks
inode_get_marks (struct inode *ino)
{
  struct inode_marks m;
  struct throttle_load load;

  lock_take (&ino->sync);
  load = inode_load_locked (ino, false);
  m.clean = throttle_wants_cleaning (&ino->throttle, &load);
  m.flush_at = throttle_flush_mark (&ino->throttle, &load);
  m.flush_short = throttle_limit (&ino->throttle, &load) / 4;
  lock_drop (&ino->sync);
  return m;
}

static unsigned
start_some (struct inode *ino, struct wb_ask *ask)
{
  unsigned depth = origin_depth (ino->origin), room;

  depth -= depth / 4;
  lock_take (&ino->sync);
  room = ino->nwbs < depth ? depth - ino->nwbs : 0;
  lock_drop (&ino->sync);
  if (ask->max > room)
    ask->max = room;
  return ask->max ? wb_start (ino, ask, NULL) : 0;
}

unsigned
inode_write_some (struct inode *ino, uint32_t seq, unsigned max)
{
  struct wb_ask ask = { .limit = RANGE_ALL, .seq = seq, .max = max, .prio = ORIGIN_PRIO_WRITEBACK };

  return start_some (ino, &ask);
}

unsigned
inode_write_behind (struct inode *ino, uint32_t seq, bool patient)
{
  struct wb_ask ask = {
    .limit = RANGE_ALL, .seq = seq, .max = UINT32_MAX, .prio = ORIGIN_PRIO_WRITEBACK, .patient = patient,
  };
  struct throttle_load load;
  uint64_t limit;

  lock_take (&ino->sync);
  load = inode_load_locked (ino, false);
  limit = throttle_limit (&ino->throttle, &load);
  lock_drop (&ino->sync);
  ask.grain = GRAIN < limit / 16 ? GRAIN : limit / 16;
  ask.hold_most = limit / 8;
  return start_some (ino, &ask);
}
