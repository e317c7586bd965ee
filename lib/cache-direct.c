/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cache-direct - mode none: the origin does it all (D17).
 *
 * Answers: which acknowledged writes may be lost with a connection, and who has still to hear of it?
 *
 * Every file has an origin of its own with one connection at a time, so what it flushes is what it wrote.  The origin
 * makes a new connection when one is lost, behind which may be a server that forgot what was not flushed.  Nothing is
 * kept here that could be sent again; so the next flush fails, once (DUR-7).
 *
 * The writes of a file are numbered as they are acknowledged, and remembered are the connection of the newest ones and
 * the number of the last one that lies on a connection before it.  A flush covers the numbers that it finds.  It
 * must be answered by the connection of the newest ones; older ones can only be lost, for a new connection comes
 * after the old one's end.  An event is not needed for that: who writes sees the other carrier, who does
 * not asks for the old one.
 *
 * With multi-conn a flush on any connection covers all of them, and a client sends it on one only.  So a flush here goes
 * to the origin of each file of the export with writes that nobody flushed, and a loss is told to every file that
 * is open, once: which of them are one client's nobody says.  For the same reason a file flushes when it is closed before
 * others.  Otherwise each file is by itself.
 *
 * Locks    the table (RANK_TABLE) guards the list and what is remembered; not held over a request.
 * Errors   an errno of the origin's contract; ENOTCONN: acknowledged writes may be lost, or the outcome is unknown.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache-priv.h"

struct direct {
  struct pagecache *pc;
  struct list_node node;        /* pc->directs */
  struct origin *origin;
  char *name;
  unsigned refs;                /* flushes of others that use the origin, or its place in the list */

  uint64_t noted;               /* the number of the newest write */
  uint32_t carrier;             /* its connection; 0: all of that one are flushed */
  uint64_t carrier_at;          /* the newest on that connection */
  uint64_t lost_at;             /* the newest that was not flushed on one before it; 0: none */
  uint64_t losses, told;        /* of this file and those together with it: that are known, and that a flush has told */
};

/* name: what exports with one store have in common. */
int
direct_create (struct pagecache *pc, struct origin *origin, const char *name, struct direct **ret)
{
  struct direct *d = calloc (1, sizeof *d);

  if (!d || !(d->name = strdup (name))) {
    free (d);
    return ENOMEM;
  }
  d->pc = pc;
  d->origin = origin;
  list_node_init (&d->node);
  lock_take (&pc->table);
  list_push_back (&pc->directs, &d->node);
  lock_drop (&pc->table);
  *ret = d;
  return 0;
}

static void
note_write (struct direct *d, uint32_t carrier)
{
  lock_take (&d->pc->table);
  d->noted++;
  if (d->carrier != 0 && carrier < d->carrier)
    d->lost_at = d->noted;      /* acknowledged before, noted after: its thread was slow */
  else {
    if (d->carrier != 0 && carrier > d->carrier)
      d->lost_at = d->carrier_at;
    d->carrier = carrier;
    d->carrier_at = d->noted;
  }
  lock_drop (&d->pc->table);
}

/* The longest request.  Aligned, as both limits are multiples of a power of two. */
static uint64_t
longest (const struct direct *d, enum origin_cmd cmd)
{
  const struct origin_info *info = &d->origin->info;

  return cmd == ORIGIN_READ || cmd == ORIGIN_WRITE ? info->block_max : UINT32_MAX & ~((uint64_t) info->block_min - 1);
}

int
direct_do (struct direct *d, enum origin_cmd cmd, void *buf, uint64_t len, uint64_t off, unsigned flags)
{
  struct origin_req req = { .cmd = cmd, .prio = ORIGIN_PRIO_DEMAND, .off = off, .buf = buf };
  uint64_t max = longest (d, cmd);
  int err = 0;

  if (flags & PAGECACHE_FUA)
    req.flags |= ORIGIN_FUA;
  if (cmd == ORIGIN_ZERO && !(flags & PAGECACHE_MAY_TRIM))
    req.flags |= ORIGIN_NO_HOLE;
  if (flags & PAGECACHE_FAST_ZERO) {
    if (len > max)
      return ENOTSUP;           /* the second part may be refused when the first is done */
    req.flags |= ORIGIN_FAST;
  }
  while (!err && len > 0) {
    req.len = len < max ? len : max;
    err = origin_do (d->origin, &req);
    if (!err && cmd != ORIGIN_READ && cmd != ORIGIN_CACHE && !(flags & PAGECACHE_FUA))
      note_write (d, req.carrier);
    req.off += req.len;
    len -= req.len;
    if (req.buf)
      req.buf = (uint8_t *) req.buf + req.len;
  }
  return err;
}

/*----------------------------------------------------------------------*/
/* Flush. */

/* A flush on one origin, and what it covers. */
struct part {
  struct origin_req req;
  struct direct *d;
  struct parts *all;
  uint64_t at;
  bool lost;
  int err;
};

/* Flushes on the origins of other files. */
struct parts {
  struct waiter waiter;
  _Atomic unsigned left;
  unsigned n;
  struct part part[8];
};

static void
part_init_locked (struct part *p, struct direct *d)
{
  *p = (struct part) {
    .req = { .cmd = ORIGIN_FLUSH, .prio = ORIGIN_PRIO_DEMAND, .carrier = d->carrier },
    .d = d, .at = d->noted, .lost = d->lost_at != 0,
  };
}

static bool
is_unflushed (const struct direct *d)
{
  return d->carrier != 0 || d->lost_at != 0;
}

static bool
is_together (const struct direct *a, const struct direct *b)
{
  return a != b && a->origin->info.can_multi_conn && strcmp (a->name, b->name) == 0;
}

/* d too: another flush of it that begins before this one is answered has to fail as well. */
static void
tell_all_locked (struct direct *d)
{
  struct list_node *n;

  list_for_each (n, &d->pc->directs) {
    struct direct *o = container_of (n, struct direct, node);

    if (o == d || is_together (d, o))
      o->losses++;
  }
}

/* The answer to a part has come: what it covers is safe, or its loss is known.  True: it is lost. */
static bool
settle_locked (struct part *p)
{
  struct direct *d = p->d;

  if (p->err != 0 && p->err != ENOTCONN)
    return false;               /* nothing is known, so all is asked for again */
  if (d->carrier_at <= p->at)
    d->carrier = 0;
  if (d->lost_at <= p->at)
    d->lost_at = 0;
  return p->lost || p->err == ENOTCONN;
}

static void
part_done (struct origin_req *req, int err)
{
  struct part *p = req->arg;
  struct parts *all = p->all;

  p->err = err;
  if (atomic_fetch_sub (&all->left, 1) == 1)
    waiter_wake (&all->waiter);
}

/* The next files after *after, or from the beginning, whose writes are to be flushed with d's.  Each of them gets a
 * reference, which keeps its place.
 */
static void
collect_locked (struct direct *d, struct direct *after, struct parts *all)
{
  struct list *l = &d->pc->directs;
  struct list_node *n = after ? list_next (l, &after->node) : list_first (l);

  for (all->n = 0; n && all->n < PC_ARRAY_SIZE (all->part); n = list_next (l, n)) {
    struct direct *o = container_of (n, struct direct, node);

    if (is_together (d, o) && is_unflushed (o)) {
      o->refs++;
      part_init_locked (&all->part[all->n++], o);
    }
  }
}

static void
submit_all (struct parts *all)
{
  unsigned i, n = all->n;

  waiter_init (&all->waiter);
  atomic_init (&all->left, n);
  for (i = 0; i < n; i++) {
    struct part *p = &all->part[i];

    p->all = all;
    p->req.done = part_done;
    p->req.arg = p;
    origin_submit (p->d->origin, &p->req);
  }
}

static void
wait_all (struct parts *all)
{
  while (all->n > 0 && !waiter_is_woken (&all->waiter))
    waiter_rest (&all->waiter, NULL, WAITER_FOR_EVER);
}

static void
put_direct_locked (struct direct *d)
{
  assert (d->refs > 0);
  if (--d->refs == 0)
    pthread_cond_broadcast (&d->pc->changed);
}

/* True: some of it is lost.  *err: the first error that says neither. */
static bool
settle_all_locked (struct parts *all, int *err)
{
  bool lost = false;
  unsigned i;

  for (i = 0; i < all->n; i++) {
    lost |= settle_locked (&all->part[i]);
    if (all->part[i].err != ENOTCONN && !*err)
      *err = all->part[i].err;
  }
  return lost;
}

/* References go, but the last one's, which is returned: there the walk goes on. */
static struct direct *
put_all_locked (struct parts *all)
{
  unsigned i;

  for (i = 0; i + 1 < all->n; i++)
    put_direct_locked (all->part[i].d);
  return all->n ? all->part[all->n - 1].d : NULL;
}

int
direct_flush (struct direct *d)
{
  struct pagecache *pc = d->pc;
  struct direct *last;
  struct parts others;
  struct part own;
  uint64_t known, found = 0;
  bool lost, owed;
  int err = 0;

  lock_take (&pc->table);
  known = d->losses;
  owed = d->told < known;
  part_init_locked (&own, d);
  collect_locked (d, NULL, &others);
  lock_drop (&pc->table);
  submit_all (&others);
  own.err = origin_do (d->origin, &own.req);
  wait_all (&others);

  lock_take (&pc->table);
  lost = settle_locked (&own);
  if (own.err != ENOTCONN)
    err = own.err;
  lost |= settle_all_locked (&others, &err);
  for (;;) {
    /* With what is settled, before the table is let go: nobody may find nothing to flush and nothing told. */
    if (lost) {
      found++;
      tell_all_locked (d);
    }
    last = put_all_locked (&others);
    if (!last)
      break;
    collect_locked (d, last, &others);
    put_direct_locked (last);
    lock_drop (&pc->table);
    submit_all (&others);
    wait_all (&others);
    lock_take (&pc->table);
    lost = settle_all_locked (&others, &err);
  }
  if (!err && (owed || found)) {
    /* What others found meanwhile is told by the next one. */
    if (d->losses == known + found)
      known = d->losses;
    if (d->told < known)
      d->told = known;
    err = ENOTCONN;
  }
  lock_drop (&pc->table);
  return err;
}

static bool
has_company_locked (const struct direct *d)
{
  struct list_node *n;

  list_for_each (n, &d->pc->directs)
    if (is_together (d, container_of (n, struct direct, node)))
      return true;
  return false;
}

void
direct_close (struct direct *d)
{
  struct pagecache *pc = d->pc;
  struct part p;

  lock_take (&pc->table);
  if (d->origin->info.can_flush && is_unflushed (d) && has_company_locked (d)) {
    part_init_locked (&p, d);
    lock_drop (&pc->table);
    /* Not when the server ends: there may be many files, and an origin that is silent. */
    p.err = atomic_load (&pc->draining) ? ECANCELED : origin_do (d->origin, &p.req);
    lock_take (&pc->table);
    if (settle_locked (&p) || p.err)
      tell_all_locked (d);
    d->carrier = 0;
    d->lost_at = 0;
  }
  while (d->refs > 0)
    pthread_cond_wait (&pc->changed, &pc->table.mutex);
  list_remove (&d->node);
  lock_drop (&pc->table);
  origin_close (d->origin);
  free (d->name);
  free (d);
}

/*----------------------------------------------------------------------*/
/* Block status. */

/* origin_do has req.arg to itself while it waits. */
struct question {
  struct origin_req req;
  int (*fn) (void *, uint64_t, uint64_t, unsigned);
  void *arg;
  int err;
};

static void
got_extent (struct origin_req *req, uint64_t off, uint64_t len, unsigned type)
{
  struct question *q = container_of (req, struct question, req);

  if (!q->err)
    q->err = q->fn (q->arg, off, len, type);
}

int
direct_extents (struct direct *d, uint64_t len, uint64_t off, bool one,
                int (*fn) (void *, uint64_t, uint64_t, unsigned), void *arg)
{
  struct question q = {
    .req = {
      .cmd = ORIGIN_STATUS, .prio = ORIGIN_PRIO_DEMAND, .flags = one ? ORIGIN_ONE : 0, .off = off,
      .extent = got_extent,
    },
    .fn = fn, .arg = arg,
  };
  uint64_t max = longest (d, ORIGIN_STATUS);
  int err;

  do {
    q.req.len = len < max ? len : max;
    err = origin_do (d->origin, &q.req);
    q.req.off += q.req.len;
    len -= q.req.len;
  } while (!err && !q.err && len > 0 && !one);
  return err ? err : q.err;
}
