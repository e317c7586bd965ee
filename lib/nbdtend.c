/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdtend - see nbdtend.h.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <libnbd.h>
#include <linux/sockios.h>

#include "nbdtend.h"

#define EXTRA_BLOCK_NS (60 * NSEC_PER_SEC)
#define LARGE_ZERO (UINT64_C (32) << 20)
#define SLOW_FACTOR NBDLINK_SLOW_FACTOR
#define BUSY_FACTOR 4
#define MAX_TICK_NS (250 * NSEC_PER_MSEC)

/* Connecting */

static void *
connector_main (void *arg)
{
  struct nbdpool *p = arg;
  struct nbdconnector *k = p->connector;

  k->err = nbdlink_connect (p->params, p->export_name, k->structured, p->cancel_fd, p->clock,
                            &k->link, &k->why);
  atomic_store (&k->over, true);
  nbdpool_wake (p);
  return NULL;
}

/* The thread begins with all signals blocked (K-13).  Its stack: TLS and name look-up
 * use some 100 KiB.
 */
static int
start_connector (struct nbdpool *p, bool meta)
{
  struct nbdconnector *k = calloc (1, sizeof *k);
  pthread_attr_t attr;
  sigset_t all, old;
  int err;

  if (k == NULL)
    return ENOMEM;
  p->cancel_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (p->cancel_fd == -1) {
    err = errno;
    free (k);
    return err;
  }
  k->began_ns = clock_now (p->clock);
  k->meta = meta;
  k->structured = meta || p->single;
  p->connector = k;
  pthread_attr_init (&attr);
  pthread_attr_setstacksize (&attr, 1 << 20);
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&k->thread, &attr, connector_main, p);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  pthread_attr_destroy (&attr);
  if (err != 0) {
    p->connector = NULL;
    close (p->cancel_fd);
    p->cancel_fd = -1;
    free (k);
  }
  return err;
}

void
nbdtend_refuse_queued (struct nbdpool *p)
{
  struct list answers;
  struct list_node *node, *next;
  unsigned i;

  list_init (&answers);
  lock_take (&p->lock);
  for (i = 0; i <= ORIGIN_NR_PRIO; i++) {
    struct list *queue = i < ORIGIN_NR_PRIO ? &p->queue[i] : &p->status_queue;

    list_for_each_safe (node, next, queue) {
      struct origin_req *req = container_of (node, struct origin_req, node);
      int err = nbdpool_admission_locked (p, req);

      if (err == 0)
        continue;
      list_remove (&req->node);
      p->outstanding--;
      nbdpool_add_answer (&answers, req, err);
    }
  }
  lock_drop (&p->lock);
  nbdpool_answer_all (&answers);
}

static bool
same_name (const char *a, const char *b)
{
  return a == NULL || b == NULL || strcmp (a, b) == 0;
}

/* D14: is what came back what we had?  NULL, or what differs. */
const char *
nbdtend_compare (struct nbdpool *p, const struct nbdlink *link)
{
  if (!same_name (p->canonical, link->canonical))
    return "the server calls the export by another name";
  return nbdlink_differs (&p->base.info, &link->info);
}

static void
set_changed (struct nbdpool *p, const char *differs)
{
  bool before;

  lock_take (&p->lock);
  before = p->changed;
  p->changed = differs != NULL;
  lock_drop (&p->lock);
  if (differs != NULL)
    nbdtend_refuse_queued (p);
  if (before == (differs != NULL))
    return;
  if (differs != NULL)
    nbdpool_notice (p, 3, "the origin came back as another: %s; every request fails until it is "
                    "right", differs);
  origin_tell_failed (&p->base, differs != NULL ? EIO : 0, differs);
}

static void
compare_size (struct nbdpool *p, uint64_t size)
{
  uint64_t before;

  lock_take (&p->lock);
  before = p->size_now;
  p->size_now = size < p->base.info.size ? size : p->base.info.size;
  lock_drop (&p->lock);
  if (size < p->base.info.size && size != before)
    nbdpool_notice (p, 3, "the origin came back with %" PRIu64 " bytes instead of %" PRIu64
            ": what lies beyond fails", size, p->base.info.size);
  else if (size > p->base.info.size)
    nbdpool_notice (p, 3, "the origin came back with %" PRIu64 " bytes instead of %" PRIu64
            ": the old size is kept while the export is open", size, p->base.info.size);
  if (size != p->base.info.size || size != before)
    origin_tell_resized (&p->base, size < p->base.info.size ? size : p->base.info.size);
}

/* It was parked, and a connection is needed and cannot be had: so the origin is away, since it was tried. */
static void
unpark_in_vain (struct nbdpool *p, uint64_t since_ns)
{
  lock_take (&p->lock);
  if (p->parked) {
    p->parked = p->up = false;
    p->down_ns = since_ns;
    p->retry_ns = 0;
  }
  lock_drop (&p->lock);
}

/* A data connection is there: the first of a life, the first again, or one more. */
static void
adopt (struct nbdpool *p, struct nbdlink *link)
{
  const char *differs = nbdtend_compare (p, link);
  struct nbdconn *c;
  bool first, parked;

  lock_take (&p->lock);
  parked = p->parked;
  first = !p->up || parked;
  lock_drop (&p->lock);
  if (!first && (differs != NULL || link->info.size < p->size_now)) {
    nbdpool_notice (p, 2, "one more connection is not like the others: %s",
            differs != NULL ? differs : "its size is smaller");
    nbdlink_close (link);
    p->extra_blocked_ns = clock_now (p->clock) + EXTRA_BLOCK_NS;
    lock_take (&p->lock);
    p->more_failed = true;
    lock_drop (&p->lock);
    return;
  }
  if (first) {
    set_changed (p, differs);
    if (differs != NULL) {
      nbdlink_close (link);
      unpark_in_vain (p, p->connector_began_ns);
      nbdpool_plan_reconnect (p, 0);
      return;
    }
    compare_size (p, link->info.size);
  }
  if (nbdpool_make_conn (p, link, false, &c) != 0) {
    nbdlink_close (link);
    unpark_in_vain (p, p->connector_began_ns);
    nbdpool_plan_retry (p, NBDPOOL_BACKOFF_MAX_NS);
    return;
  }
  lock_take (&p->lock);
  p->conn[p->nconns++] = c;
  p->up = true;
  p->parked = p->shut = false;
  p->reconnects += first && !parked;
  lock_drop (&p->lock);
  p->retry_ns = 0;
  if (first) {
    if (!parked)
      nbdpool_notice (p, 2, "connected again");
    free (p->said_down);
    p->said_down = NULL;
    nbdtend_refuse_queued (p);     /* beyond a smaller end */
  }
}

static void
adopt_meta (struct nbdpool *p, struct nbdlink *link)
{
  struct nbdconn *c;

  if (nbdtend_compare (p, link) != NULL || !link->extents
      || nbdpool_make_conn (p, link, true, &c) != 0) {
    nbdlink_close (link);
    p->meta_blocked_ns = clock_now (p->clock) + EXTRA_BLOCK_NS;
    return;
  }
  lock_take (&p->lock);
  p->meta = c;
  lock_drop (&p->lock);
}

/* Once, and again when it is something else: a server that restarted, and has the wrong certificate now. */
static void
say_why_down (struct nbdpool *p, const char *why)
{
  if (p->said_down != NULL && strcmp (p->said_down, why) == 0)
    return;
  nbdpool_notice (p, 2, "cannot connect: %s; trying on", why);
  free (p->said_down);
  p->said_down = strdup (why);  /* without memory it is said again */
}

static void
connect_failed (struct nbdpool *p, const struct nbdconnector *k)
{
  uint64_t now = clock_now (p->clock);

  if (k->meta) {
    p->meta_blocked_ns = now + EXTRA_BLOCK_NS;
    return;
  }
  unpark_in_vain (p, k->began_ns);
  if (p->up) {
    p->extra_blocked_ns = now + EXTRA_BLOCK_NS;
    return;
  }
  say_why_down (p, k->why != NULL ? k->why : strerror (k->err));
  nbdpool_plan_reconnect (p, 0);
}

static void
take_connection (struct nbdpool *p)
{
  struct nbdconnector *k = p->connector;

  pthread_join (k->thread, NULL);
  close (p->cancel_fd);
  p->cancel_fd = -1;
  p->connector_began_ns = k->began_ns;
  lock_take (&p->lock);
  p->connector = NULL;
  if (k->meta)
    p->want_meta = false;
  else if (p->up)
    p->more_failed = k->err != 0;
  lock_drop (&p->lock);
  if (k->err != 0)
    connect_failed (p, k);
  else if (k->meta)
    adopt_meta (p, &k->link);
  else
    adopt (p, &k->link);
  free (k->why);
  free (k);
}

/* Writes wait for their origin to be heard of, on a connection that died before then. */
static bool
nothing_heard_locked (struct nbdpool *p)
{
  struct list_node *node;

  list_for_each (node, &p->dying) {
    struct nbdconn *c = container_of (node, struct nbdconn, node);

    if (c->state == CONN_BURIED && c->quarantine_ns == UINT64_MAX)
      return true;
  }
  return false;
}

/* Is one more data connection wanted still?  The one that came may have been the last
 * one needed, or one of many.
 */
static void
reconsider_more_locked (struct nbdpool *p, uint64_t now)
{
  if ((p->parked || now >= p->extra_blocked_ns) && p->connector == NULL)
    p->want_more = p->up && p->nconns < p->max_conns
      && (p->outstanding > NBDPOOL_MORE_ABOVE * p->nconns || nothing_heard_locked (p));
  if (!p->want_more || p->more_failed || now >= p->spread_until_ns)
    p->spread_until_ns = 0;
}

/* Is a connection to be made now, and which?  Only the loop starts one. */
static void
connect_if_needed (struct nbdpool *p)
{
  uint64_t now = clock_now (p->clock);
  bool data, meta;

  if (p->connector != NULL && atomic_load (&p->connector->over))
    take_connection (p);
  lock_take (&p->lock);
  reconsider_more_locked (p, now);
  /* Who came while the last one was on its way out asked for none. */
  if (p->meta == NULL && !list_is_empty (&p->status_queue))
    p->want_meta = true;
  data = p->up ? p->want_more && (p->parked || now >= p->extra_blocked_ns) : now >= p->retry_ns;
  meta = p->up && p->want_meta && p->meta == NULL && now >= p->meta_blocked_ns;
  if (p->connector != NULL)
    data = meta = false;
  if (data && p->up && !p->more_failed)
    p->spread_until_ns = now + NBDPOOL_SPREAD_NS;
  lock_drop (&p->lock);

  if ((data || meta) && start_connector (p, !data) != 0) {
    if (data)
      unpark_in_vain (p, now);
    if (data)
      nbdpool_plan_retry (p, NBDPOOL_BACKOFF_MAX_NS);
    else
      p->meta_blocked_ns = now + EXTRA_BLOCK_NS;
  }
}

/* Time */

static bool
is_slow (const struct origin_req *req)
{
  return req->cmd == ORIGIN_FLUSH
    || ((req->cmd == ORIGIN_TRIM || req->cmd == ORIGIN_ZERO) && req->len > LARGE_ZERO);
}

static bool
has_slow_locked (const struct nbdconn *c)
{
  struct list_node *node;

  list_for_each (node, &c->under_way)
    if (is_slow (container_of (node, struct origin_req, node)))
      return true;
  return false;
}

/* What libnbd has handed over may take minutes on a slow link, and libnbd sees nothing of that.  Not every kind of
 * socket tells: then it is as if nothing moved.
 */
static void
look_whether_taken (struct nbdconn *c, uint64_t now)
{
  int unsent;

  if (ioctl (c->wire.link.fd, SIOCOUTQ, &unsent) == -1)
    return;
  if (unsent < c->unsent)
    c->taken_ns = now;
  c->unsent = unsent;
}

/* How long has nothing moved on c, on which something is under way? */
static uint64_t
stillness_locked (struct nbdconn *c, const struct origin_req *oldest, uint64_t now)
{
  uint64_t since = atomic_load_explicit (&c->heard_ns, memory_order_relaxed);

  if (since < oldest->at_ns)
    since = oldest->at_ns;
  if (since < c->taken_ns)
    since = c->taken_ns;
  return now > since ? now - since : 0;
}

/* The rule of nbdtend.h. */
static bool
is_overdue_locked (struct nbdconn *c, uint64_t now)
{
  uint64_t timeout_ns = c->pool->params->timeout_ns;
  struct origin_req *oldest = list_entry (list_first (&c->under_way), struct origin_req, node);

  if (oldest == NULL)
    return false;
  if (c->passed_first_ns != 0
      && c->answered_ns - c->passed_ns >= timeout_ns * (is_slow (oldest) ? SLOW_FACTOR : BUSY_FACTOR))
    return true;
  if (stillness_locked (c, oldest, now) < timeout_ns / 4)
    c->unsent = 0;
  else
    look_whether_taken (c, now);
  return stillness_locked (c, oldest, now) >= timeout_ns * (has_slow_locked (c) ? SLOW_FACTOR : 1);
}

/* When the last connection was buried whose writes wait for something to be heard, if that was
 * as long ago as an answer may take; else 0.
 */
static uint64_t
silent_since_locked (struct nbdpool *p, uint64_t now)
{
  uint64_t since = 0;
  struct list_node *node;

  list_for_each (node, &p->dying) {
    struct nbdconn *c = container_of (node, struct nbdconn, node);

    if (c->state == CONN_BURIED && c->quarantine_ns == UINT64_MAX
        && now - c->buried_ns >= p->params->timeout_ns)
      since = c->buried_ns;
  }
  return since;
}

static bool
was_heard_since (const struct nbdconn *c, uint64_t since)
{
  return atomic_load_explicit (&c->heard_ns, memory_order_relaxed) >= since;
}

/* Idle, and with nothing written that a flush on this connection could still be asked
 * for.
 */
static bool
may_close_locked (struct nbdconn *c, uint64_t now, uint64_t idle_ns)
{
  return c->nflight == 0 && list_is_empty (&c->pinned)
    && (c->nwritten == c->nflushed || !c->pool->base.info.can_flush)
    && now - c->used_ns >= idle_ns
    && atomic_load_explicit (&c->users, memory_order_relaxed) == 0;
}

static bool
is_driven_by_nobody_locked (const struct nbdconn *c)
{
  return atomic_load_explicit (&c->driver, memory_order_relaxed) == DRIVER_NOBODY;
}

/* Nobody reads a connection on which nothing is under way, so nobody would see it end. */
static bool
look_after_locked (struct nbdconn *c, uint64_t now)
{
  if (!is_driven_by_nobody_locked (c))
    return false;
  if (now - c->used_ns >= NBDPOOL_IDLE_NS)
    nbdpool_loop_drives_locked (c);
  return true;
}

/* Is there one to come back for? */
static bool
look_after_idle_locked (struct nbdpool *p, uint64_t now)
{
  bool any = false;
  unsigned i;

  for (i = 0; i < p->nconns; i++)
    any |= look_after_locked (p->conn[i], now);
  if (p->meta != NULL)
    any |= look_after_locked (p->meta, now);
  return any;
}

/* Close one connection that was not used for idle_ns; the first goes last, when nothing waits for any.
 * False: there is none.
 */
static bool
close_idle (struct nbdpool *p, uint64_t idle_ns)
{
  uint64_t now = clock_now (p->clock);
  struct nbdconn *c = NULL;
  unsigned i;

  lock_take (&p->lock);
  if (p->meta != NULL && may_close_locked (p->meta, now, idle_ns))
    c = p->meta;
  for (i = p->nconns; c == NULL && i > 1; i--)
    if (may_close_locked (p->conn[i - 1], now, idle_ns))
      c = p->conn[i - 1];
  if (c == NULL && p->nconns == 1 && p->outstanding == 0 && p->connector == NULL && p->meta == NULL
      && may_close_locked (p->conn[0], now, idle_ns))
    c = p->conn[0];
  if (c != NULL)
    c->state = CONN_LEAVING;    /* nobody sends on it from here */
  lock_drop (&p->lock);
  if (c == NULL)
    return false;
  nbd_aio_disconnect (c->wire.link.h, 0);
  nbdpool_die (c, NULL);
  return true;
}

static void
check_deadlines (struct nbdpool *p)
{
  uint64_t now = clock_now (p->clock), silent;
  struct nbdconn *late[NBDPOOL_MAX_CONNS + 1];
  unsigned i, n = 0;

  lock_take (&p->lock);
  silent = silent_since_locked (p, now);
  for (i = 0; i < p->nconns; i++)
    if (is_overdue_locked (p->conn[i], now) || !was_heard_since (p->conn[i], silent))
      late[n++] = p->conn[i];
  if (p->meta != NULL && is_overdue_locked (p->meta, now))
    late[n++] = p->meta;
  lock_drop (&p->lock);
  for (i = 0; i < n; i++)
    nbdpool_die (late[i], "no answer within the timeout");
}

/* The queue is looked at in every turn while it is shut: a request that had a connection, and was not sent or not wholly
 * answered, comes back to it by itself.
 */
static void
check_gate (struct nbdpool *p)
{
  bool shuts, refuse;

  lock_take (&p->lock);
  shuts = !p->up && !p->shut && clock_now (p->clock) - p->down_ns >= p->params->reconnect_ns;
  if (shuts)
    p->shut = true;
  refuse = p->shut || p->changed;
  lock_drop (&p->lock);
  if (shuts && p->params->reconnect_ns > 0)
    nbdpool_notice (p, 3, "the origin has been away for %.3g s: requests fail until it is back",
            (double) p->params->reconnect_ns / NSEC_PER_SEC);
  if (refuse)
    nbdtend_refuse_queued (p);
}

/* Data connections are up and one for block status cannot be had: all data is always
 * right.
 */
static void
answer_without_meta (struct nbdpool *p)
{
  struct list answers, tells;
  struct list_node *node;

  list_init (&answers);
  list_init (&tells);
  lock_take (&p->lock);
  if (p->up && p->meta == NULL && clock_now (p->clock) < p->meta_blocked_ns) {
    p->want_meta = false;
    list_splice_back (&tells, &p->status_queue);
  }
  p->outstanding -= list_count (&tells);
  lock_drop (&p->lock);
  while ((node = list_pop_front (&tells)) != NULL) {
    struct origin_req *req = container_of (node, struct origin_req, node);

    nbdpool_tell_all_data (req);
    nbdpool_add_answer (&answers, req, 0);
  }
  nbdpool_answer_all (&answers);
}

/* What is due and was not done now waits for something else: look again soon, not at
 * once.
 */
static void
min_ns (uint64_t *next, uint64_t now, uint64_t at)
{
  if (at <= now)
    at = now + 100 * NSEC_PER_MSEC;
  if (at < *next)
    *next = at;
}

/* The first instant at which nbdtend_turn () has something to do.  A tick for deadlines, and
 * to see connections go idle.
 */
static uint64_t
next_instant_locked (struct nbdpool *p, uint64_t now)
{
  uint64_t next = UINT64_MAX, tick = p->params->timeout_ns / 4;
  struct list_node *node;
  unsigned i;

  if (p->ticking)
    min_ns (&next, now, now + (tick < MAX_TICK_NS ? tick : MAX_TICK_NS));
  if (!p->up && p->connector == NULL)
    min_ns (&next, now, p->retry_ns);
  if (!p->up && !p->shut)
    min_ns (&next, now, p->down_ns + p->params->reconnect_ns);
  list_for_each (node, &p->dying) {
    struct nbdconn *c = container_of (node, struct nbdconn, node);

    if (c->state == CONN_BURIED && c->quarantine_ns != UINT64_MAX)
      min_ns (&next, now, c->quarantine_ns);
  }
  for (i = 0; i < p->nconns; i++)
    min_ns (&next, now, p->conn[i]->used_ns + p->params->idle_ns);
  if (p->meta != NULL)
    min_ns (&next, now, p->meta->used_ns + p->params->idle_ns);
  if (p->want_more)
    min_ns (&next, now, p->extra_blocked_ns);
  if (p->spread_until_ns != 0)
    min_ns (&next, now, p->spread_until_ns);
  return next;
}

void
nbdtend_arm_timer (struct nbdpool *p)
{
  uint64_t now = clock_now (p->clock), next;

  lock_take (&p->lock);
#ifdef PC_DEBUG
  nbdpool_check_locked (p);
#endif
  p->ticking = look_after_idle_locked (p, now) || p->outstanding > 0
    || nothing_heard_locked (p);
  next = next_instant_locked (p, now);
  lock_drop (&p->lock);
  if (next == UINT64_MAX)
    evloop_timer_clear (&p->timer);
  else
    evloop_timer_set (&p->timer, next - now);
}

static bool
is_quarantine_over_locked (struct nbdpool *p, struct nbdconn *c, uint64_t now)
{
  unsigned i;

  for (i = 0; i < p->nconns && c->quarantine_ns == UINT64_MAX; i++)
    if (was_heard_since (p->conn[i], c->buried_ns))
      c->quarantine_ns = now + p->params->quarantine_ns;
  return now >= c->quarantine_ns || p->shut;
}

/* Bury what nobody uses any more, and end quarantines. */
static void
tend_dying (struct nbdpool *p)
{
  uint64_t now = clock_now (p->clock);
  struct list_node *node;
  struct nbdconn *c;

  for (;;) {
    c = NULL;
    lock_take (&p->lock);
    list_for_each (node, &p->dying) {
      struct nbdconn *d = container_of (node, struct nbdconn, node);

      if (d->state == CONN_BURIED ? is_quarantine_over_locked (p, d, now)
          : atomic_load_explicit (&d->users, memory_order_acquire) == 0) {
        c = d;
        break;
      }
      if (d->state == CONN_DYING)
        /* Users leave within microseconds, and the loop looks again; it does so all the while if one is kept from running,
         * or closes another origin to make room (origin.h) before it drives this one.
         */
        nbdpool_wake (p);
    }
    lock_drop (&p->lock);
    if (c == NULL)
      return;
    if (c->state == CONN_BURIED)
      nbdpool_release (c);
    else
      nbdpool_bury (c);
  }
}

static struct nbdconn *
next_attention (struct nbdpool *p)
{
  struct nbdconn *c = NULL;
  unsigned i;

  lock_take (&p->lock);
  for (i = 0; i < p->nconns && c == NULL; i++)
    if (atomic_exchange (&p->conn[i]->attention, false))
      c = p->conn[i];
  if (c == NULL && p->meta != NULL && atomic_exchange (&p->meta->attention, false))
    c = p->meta;
  lock_drop (&p->lock);
  return c;
}

/* Everything that the loop does for an origin but reading and writing its sockets. */
void
nbdtend_turn (struct nbdpool *p)
{
  struct nbdconn *c;

  assert (evloop_inside (p->loop));
  if (p->closing)
    return;
  while ((c = next_attention (p)) != NULL)
    nbdpool_service (c);
  check_deadlines (p);
  tend_dying (p);
  connect_if_needed (p);
  check_gate (p);
  answer_without_meta (p);
  close_idle (p, p->params->idle_ns);
  nbdpool_pump (p);
  nbdtend_arm_timer (p);
}


unsigned
nbdtend_rest (struct nbdpool *p)
{
  unsigned n = 0;

  while (!p->closing && close_idle (p, 0))
    n++;
  tend_dying (p);
  return n;
}
