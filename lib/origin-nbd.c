/* SPDX-License-Identifier: BSD-3-Clause
 *
 * origin-nbd - the way in and out: submit, open, close.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libnbd.h>

#include "nbddrive.h"
#include "nbdtend.h"
#include "origin-nbd.h"

static const struct origin_ops ops;

static struct nbdpool *
origin_nbd_of (struct origin *o)
{
  assert (o->ops == &ops);
  return container_of (o, struct nbdpool, base);
}

/* Submitting */

/* Is there somebody before req? */
static bool
must_queue_locked (const struct nbdpool *p, const struct origin_req *req)
{
  unsigned prio;

  for (prio = 0; prio <= req->prio; prio++)
    if (!list_is_empty (&p->queue[prio]))
      return true;
  return false;
}

/* A flush goes to its connection or nowhere.  ENOTCONN only after lost () was told. */
static int
route_flush_locked (struct nbdpool *p, struct origin_req *req, struct nbdconn **send_on)
{
  struct nbdconn *c = nbdpool_find_locked (p, req->carrier);

  if (c == NULL || c->told)
    return ENOTCONN;
  if (list_is_empty (&c->pinned) && nbdpool_has_room_locked (c, req))
    *send_on = c;
  else
    list_push_back (&c->pinned, &req->node);
  return 0;
}

static struct nbdconn *
route_locked (struct nbdpool *p, struct origin_req *req)
{
  struct nbdconn *c = NULL;

  if (req->cmd == ORIGIN_STATUS && !p->single) {
    if (p->meta != NULL && list_is_empty (&p->status_queue)
        && nbdpool_has_room_locked (p->meta, req))
      return p->meta;
    list_push_back (&p->status_queue, &req->node);
    return NULL;
  }
  if (!must_queue_locked (p, req))
    c = nbdpool_pick_locked (p, req);
  if (c == NULL)
    list_push_back (&p->queue[req->prio], &req->node);
  return c;
}

/* Does the loop have to do something that it does not know of? */
static bool
needs_loop_locked (struct nbdpool *p)
{
  bool needs = !p->ticking;

  p->ticking = true;
  if (!p->want_meta && p->meta == NULL && !list_is_empty (&p->status_queue))
    needs = p->want_meta = true;
  if (!p->want_more && p->up && p->nconns < p->max_conns
      && p->outstanding > NBDPOOL_MORE_ABOVE * p->nconns) {
    needs = p->want_more = true;
    if (!p->more_failed)
      p->spread_until_ns = clock_now (p->clock) + NBDPOOL_SPREAD_NS;
  }
  return needs;
}

static void
nbd_submit (struct origin *origin, struct origin_req *req)
{
  struct nbdpool *p = origin_nbd_of (origin);
  struct nbdconn *c = NULL;
  int err;

  lock_take (&p->lock);
  err = nbdpool_admission_locked (p, req);
  if (err == 0) {
    if (req->cmd == ORIGIN_FLUSH && req->carrier != 0)
      err = route_flush_locked (p, req, &c);
    else
      c = route_locked (p, req);
  }
  if (err == 0) {
    p->outstanding++;
    if (c != NULL)
      nbdpool_attach_locked (c, req);
    /* Under the lock: once req is seen in the queue it may be done, and the origin
     * gone.
     */
    if (needs_loop_locked (p))
      nbdpool_wake (p);
  }
  lock_drop (&p->lock);

  if (err != 0)
    req->done (req, err);
  else if (c != NULL)
    nbdpool_send_out (c, req);
}

static void
on_work (struct evloop_work *work)
{
  nbdtend_turn (container_of (work, struct nbdpool, work));
}

static void
on_timer (struct evloop_timer *timer)
{
  nbdtend_turn (container_of (timer, struct nbdpool, timer));
}

/* Opening and closing */

static bool
is_final (int err)
{
  return err == ENOENT || err == EPERM || err == EINVAL || err == ENOMEM || err == EMFILE || err == ENFILE
    || err == ECANCELED;
}

/* In the thread that opens: try until reconnect_ns has passed. */
static int
connect_patiently (const struct nbdlink_params *params, const char *name, bool structured, int cancel_fd,
                   struct clock *clock, struct nbdlink *link, char **why)
{
  struct pollfd canceled = { .fd = cancel_fd, .events = POLLIN };
  uint64_t start = clock_now (clock), backoff = NBDPOOL_BACKOFF_MIN_NS;
  int err;

  for (;;) {
    err = nbdlink_connect (params, name, structured, cancel_fd, clock, link, why);
    if (err == 0 || is_final (err) || clock_now (clock) + backoff - start >= params->reconnect_ns)
      return err;
    if (poll (&canceled, 1, backoff / NSEC_PER_MSEC) > 0)
      return ECANCELED;         /* and why it was still being tried */
    free (*why);
    *why = NULL;
    backoff = 2 * backoff < NBDPOOL_BACKOFF_MAX_NS ? 2 * backoff : NBDPOOL_BACKOFF_MAX_NS;
  }
}

struct opening {
  struct nbdpool *pool;
  struct nbdlink data, meta;    /* fd -1: none */
};

/* On the loop: the connections that the opening thread made come to life. */
static int
open_on_loop (void *arg)
{
  struct opening *opening = arg;
  struct nbdpool *p = opening->pool;
  struct nbdconn *data, *meta = NULL;
  int err;

  if ((err = evloop_timer_init (p->loop, &p->timer, on_timer)) != 0)
    return err;
  if (opening->meta.fd != -1 && (err = nbdpool_make_conn (p, &opening->meta, true, &meta)) != 0)
    nbdlink_close (&opening->meta);
  if ((err = nbdpool_make_conn (p, &opening->data, false, &data)) != 0) {
    evloop_timer_release (&p->timer);
    if (meta != NULL) {
      list_push_back (&p->dying, &meta->node);
      nbd_close (meta->wire.link.h);
      free (meta->wire.link.canonical);
      nbdpool_release (meta);
    }
    return err;
  }
  lock_take (&p->lock);
  p->conn[p->nconns++] = data;
  p->meta = meta;
  p->up = true;
  lock_drop (&p->lock);
  nbdtend_arm_timer (p);
  return 0;
}

static void
free_origin (struct nbdpool *p)
{
  if (p->cancel_fd != -1)
    close (p->cancel_fd);
  lock_release (&p->lock);
  free (p->export_name);
  free (p->canonical);
  free (p->description);
  free (p->said_down);
  free (p);
}

static int
make_origin (const struct nbdlink_params *params, const char *name, struct evloop *loop,
             const struct nbdlink *link, struct nbdpool **ret)
{
  struct nbdpool *p = calloc (1, sizeof *p);
  uint64_t seed;
  unsigned i;

  if (p == NULL)
    return ENOMEM;
  p->base.ops = &ops;
  p->base.info = link->info;
  p->size_now = link->info.size;
  nbdlink_name (params, name, p->base.name, sizeof p->base.name);
  p->params = params;
  p->loop = loop;
  p->clock = evloop_clock (loop);
  p->single = !link->info.can_multi_conn || params->connections == 1;
  p->max_conns = p->single ? 1 : params->connections;
  p->base.most_conns = p->max_conns;
  p->base.give_up_ns = params->reconnect_ns > 0 ? params->reconnect_ns : 1;
  p->work.fn = on_work;
  seed = clock_now (p->clock) ^ (uintptr_t) p;
  memcpy (p->rnd, &seed, sizeof p->rnd);
  lock_init (&p->lock, RANK_ORIGIN);
  for (i = 0; i < ORIGIN_NR_PRIO; i++)
    list_init (&p->queue[i]);
  list_init (&p->status_queue);
  list_init (&p->dying);
  p->base.export_name = p->export_name = strdup (name);
  if (link->canonical != NULL)
    p->canonical = strdup (link->canonical);
  p->base.description = p->description = nbd_get_export_description (link->h);  /* NULL: it has none */
  p->cancel_fd = -1;
  if (p->export_name == NULL || (link->canonical != NULL && p->canonical == NULL)) {
    free_origin (p);
    return ENOMEM;
  }
  *ret = p;
  return 0;
}

int
origin_nbd_open (const struct nbdlink_params *params, const char *name, int cancel_fd, struct evloop *loop,
                 struct origin **ret, char **canonical, char **why)
{
  struct opening opening = { .data.fd = -1, .meta.fd = -1 };
  int err;

  *canonical = *why = NULL;
  lock_assert_none_held ();
  assert (!evloop_inside (loop));
  if (name == NULL)
    name = params->export_name;

  /* Structured first, which alone can say whether there are extents.  Where several
   * connections are allowed it serves block status from now on, and data goes over one
   * with simple replies (D10, nbd.L-14).
   */
  err = connect_patiently (params, name, true, cancel_fd, evloop_clock (loop), &opening.data, why);
  if (err != 0)
    return err;
  err = make_origin (params, name, loop, &opening.data, &opening.pool);
  if (err != 0)
    goto close;
  if (!opening.pool->single && opening.data.structured && opening.data.extents) {
    opening.meta = opening.data;
    opening.data.fd = -1;
    err = connect_patiently (params, name, false, cancel_fd, evloop_clock (loop), &opening.data, why);
    if (err == 0 && nbdtend_compare (opening.pool, &opening.data) != NULL)
      err = EIO;
    if (err != 0)
      goto free_origin;
  }
  if (opening.pool->canonical != NULL && (*canonical = strdup (opening.pool->canonical)) == NULL) {
    err = ENOMEM;
    goto free_origin;
  }
  err = evloop_call (loop, open_on_loop, &opening);
  if (err != 0)
    goto free_origin;
  *ret = &opening.pool->base;
  return 0;

 free_origin:
  free_origin (opening.pool);
 close:
  if (opening.data.fd != -1)
    nbdlink_close (&opening.data);
  if (opening.meta.fd != -1)
    nbdlink_close (&opening.meta);
  free (*canonical);
  *canonical = NULL;
  return err;
}

static int
close_begins (void *arg)
{
  struct nbdpool *p = arg;
  uint64_t one = 1;

  lock_take (&p->lock);
  p->closing = true;
  lock_drop (&p->lock);
  if (p->connector != NULL && write (p->cancel_fd, &one, sizeof one) == -1)
    assert (errno == EAGAIN);
  return 0;
}

static void
wait_for_users (struct nbdpool *p)
{
  unsigned i, users;

  do {
    lock_take (&p->lock);
    users = p->meta != NULL ? atomic_load_explicit (&p->meta->users, memory_order_acquire) : 0;
    for (i = 0; i < p->nconns; i++)
      users += atomic_load_explicit (&p->conn[i]->users, memory_order_acquire);
    lock_drop (&p->lock);
    if (users > 0)
      sched_yield ();           /* a submit whose request is answered is about to return */
  } while (users > 0);
}

static int
close_ends (void *arg)
{
  struct nbdpool *p = arg;
  struct nbdconn *c;

  wait_for_users (p);
  nbdtend_refuse_queued (p);
  while ((c = p->meta != NULL ? p->meta : p->nconns > 0 ? p->conn[0] : NULL) != NULL) {
    if (nbd_aio_is_ready (c->wire.link.h))
      nbd_aio_disconnect (c->wire.link.h, 0);
    nbdpool_die (c, NULL);
  }
  while ((c = list_entry (list_first (&p->dying), struct nbdconn, node)) != NULL) {
    if (c->state == CONN_BURIED) {
      nbdpool_release (c);
      continue;
    }
    while (atomic_load_explicit (&c->users, memory_order_acquire) > 0)
      sched_yield ();
    nbdpool_bury (c);
  }
  evloop_timer_release (&p->timer);
  return 0;
}

static int
nothing (void *arg)
{
  (void) arg;
  return 0;
}

#define GOODBYE_NS NSEC_PER_SEC

/* How many requests travel; nothing new sets out. */
static int
still_under_way (void *arg)
{
  struct nbdpool *p = arg;
  unsigned i, n;

  nbdtend_refuse_queued (p);
  lock_take (&p->lock);
  n = p->meta != NULL ? p->meta->nflight : 0;
  for (i = 0; i < p->nconns; i++)
    n += p->conn[i]->nflight;
  lock_drop (&p->lock);
  return n > 0;
}

/* Nobody needs the answers any more, of read-ahead mostly.  But a server that has some to give when its client hangs up may
 * do worse than lose them: nbdkit 1.32 ends with a failed assertion.  So they are waited for, not long, and for a silent
 * server not at all longer.  Looked for every millisecond: it happens once in an origin's life.
 */
static void
let_answers_come (struct nbdpool *p)
{
  const struct timespec ms = { .tv_nsec = NSEC_PER_MSEC };
  uint64_t until = clock_now (p->clock) + GOODBYE_NS;
  unsigned tries = 0;

  /* A clock that stands still, in tests, does not keep us. */
  while (evloop_call (p->loop, still_under_way, p) && clock_now (p->clock) < until && tries++ < 1000)
    nanosleep (&ms, NULL);
}

static void
nbd_close_origin (struct origin *origin)
{
  struct nbdpool *p = origin_nbd_of (origin);

  assert (!evloop_inside (p->loop));
  evloop_call (p->loop, close_begins, p);
  /* From here on the loop neither starts nor joins a connector. */
  if (p->connector != NULL) {
    pthread_join (p->connector->thread, NULL);
    if (p->connector->err == 0)
      nbdlink_close (&p->connector->link);
    free (p->connector->why);
    free (p->connector);
  }
  let_answers_come (p);
  evloop_call (p->loop, close_ends, p);
  /* What was posted last runs before this does. */
  evloop_call (p->loop, nothing, NULL);
  free_origin (p);
}

static unsigned
nbd_depth (struct origin *origin)
{
  return NBDPOOL_MAX_FLIGHT * origin_nbd_of (origin)->max_conns;
}

static bool
nbd_is_up (struct origin *origin)
{
  struct nbdpool *p = origin_nbd_of (origin);
  bool up;

  lock_take (&p->lock);
  up = p->up && !p->changed;
  lock_drop (&p->lock);
  return up;
}

static void
nbd_get_stats (struct origin *origin, struct origin_stats *stats)
{
  struct nbdpool *p = origin_nbd_of (origin);

  lock_take (&p->lock);
  stats->reconnects = p->reconnects;
  lock_drop (&p->lock);
}

static int
rest_on_loop (void *arg)
{
  return nbdtend_rest (arg);
}

static unsigned
nbd_rest (struct origin *origin)
{
  struct nbdpool *p = origin_nbd_of (origin);

  return evloop_call (p->loop, rest_on_loop, p);
}

static const struct origin_ops ops = {
  .name = "nbd",
  .rest = nbd_rest,
  .submit = nbd_submit,
  .drive = nbddrive_run,
  .depth = nbd_depth,
  .is_up = nbd_is_up,
  .get_stats = nbd_get_stats,
  .close = nbd_close_origin,
};
