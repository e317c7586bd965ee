/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdpool - see nbdpool.h for the life of a connection and the order of news.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <libnbd.h>

#include "nbdpool.h"

#define MAX_STATUS_TRIES 1000           /* rounds of a block status that answers in crumbs */

void
nbdpool_notice (struct nbdpool *p, int level, const char *fmt, ...)
{
  char line[400];
  int n;
  va_list args;

  n = snprintf (line, sizeof line, "%s: ", p->base.name);
  va_start (args, fmt);
  vsnprintf (line + n, sizeof line - n, fmt, args);
  va_end (args);
  origin_tell (&p->base, level, line);
}

static bool
is_back (const struct origin_req *req)
{
  return req->prio != ORIGIN_PRIO_DEMAND;
}

static bool
is_write_like (const struct origin_req *req)
{
  return req->cmd == ORIGIN_WRITE || req->cmd == ORIGIN_TRIM || req->cmd == ORIGIN_ZERO;
}

/* Lists of requests to be done() with once the lock is dropped: req->err is set. */
void
nbdpool_answer_all (struct list *answers)
{
  struct list_node *node;

  while ((node = list_pop_front (answers)) != NULL) {
    struct origin_req *req = list_entry (node, struct origin_req, node);

    nbdwire_forget (req);
    req->done (req, req->err);
  }
}

void
nbdpool_add_answer (struct list *answers, struct origin_req *req, int err)
{
  req->err = err;
  list_push_back (answers, &req->node);
}

static void
check_conn_locked (const struct nbdconn *c)
{
  unsigned n = 0, back = 0;
  struct list_node *node;

  list_check (&c->under_way);
  list_for_each (node, &c->under_way) {
    n++;
    back += is_back (list_entry (node, struct origin_req, node));
  }
  assert (n == c->nflight && back == c->nback);
  assert (n <= NBDPOOL_MAX_FLIGHT && back <= NBDPOOL_MAX_BACK);
  assert (c->state == CONN_BURIED || list_is_empty (&c->unanswered));
}

void
nbdpool_check_locked (struct nbdpool *p)
{
  size_t n = list_count (&p->status_queue);
  struct list_node *node;
  unsigned i;

  for (i = 0; i < ORIGIN_NR_PRIO; i++)
    n += list_count (&p->queue[i]);
  for (i = 0; i < p->nconns; i++) {
    check_conn_locked (p->conn[i]);
    assert (p->conn[i]->state <= CONN_LEAVING && p->conn[i]->carrier != 0);
    n += p->conn[i]->nflight + list_count (&p->conn[i]->pinned);
  }
  if (p->meta != NULL) {
    check_conn_locked (p->meta);
    n += p->meta->nflight;
  }
  list_for_each (node, &p->dying) {
    struct nbdconn *c = list_entry (node, struct nbdconn, node);

    check_conn_locked (c);
    assert (c->state >= CONN_DYING);
    n += c->nflight + list_count (&c->pinned);
  }
  assert (n == p->outstanding);
  assert (p->up == (p->nconns > 0));
}

/* Choosing a connection */

/* An nbdkit serves 16 requests a connection at a time, so what is sent beyond that
 * while another connection is being made waits over there and cannot be moved: 64 at
 * once would take four round trips instead of one.
 */
bool
nbdpool_has_room_locked (const struct nbdconn *c, const struct origin_req *req)
{
  bool spread = c->pool->spread_until_ns != 0 && c->carrier != 0;

  return c->state == CONN_UP
    && c->nflight < (spread ? NBDPOOL_SPREAD_FLIGHT : NBDPOOL_MAX_FLIGHT)
    && (!is_back (req) || c->nback < NBDPOOL_MAX_BACK);
}

/* The least loaded connection.  Where there are several, read-ahead leaves the first
 * alone: a demand read would wait behind megabytes of replies, because libnbd receives
 * one after the other (D22).
 */
struct nbdconn *
nbdpool_pick_locked (struct nbdpool *p, const struct origin_req *req)
{
  struct nbdconn *best = NULL;
  unsigned i, load, least = UINT32_MAX;

  i = req->prio == ORIGIN_PRIO_READAHEAD && p->nconns > 1 ? 1 : 0;
  for (; i < p->nconns; i++) {
    struct nbdconn *c = p->conn[i];

    if (!nbdpool_has_room_locked (c, req))
      continue;
    load = c->nflight + (is_back (req) ? 0 : 4 * c->nback);
    if (load < least) {
      best = c;
      least = load;
    }
  }
  return best;
}

struct nbdconn *
nbdpool_find_locked (struct nbdpool *p, uint32_t carrier)
{
  struct list_node *node;
  unsigned i;

  for (i = 0; i < p->nconns; i++)
    if (p->conn[i]->carrier == carrier)
      return p->conn[i];
  list_for_each (node, &p->dying) {
    struct nbdconn *c = list_entry (node, struct nbdconn, node);

    if (c->carrier == carrier)
      return c;
  }
  return NULL;
}

/* req will be sent on c by the caller, who then calls nbdpool_send_out () without the
 * lock.
 */
void
nbdpool_attach_locked (struct nbdconn *c, struct origin_req *req)
{
  list_push_back (&c->under_way, &req->node);
  c->nflight++;
  c->nback += is_back (req);
  req->at_ns = c->used_ns = clock_now (c->pool->clock);
  /* A flush covers the writes answered before it is sent (N-11). */
  if (req->cmd == ORIGIN_FLUSH)
    req->cookie = c->nwritten;
  else if (is_write_like (req))
    req->carrier = c->carrier;
  atomic_fetch_add_explicit (&c->users, 1, memory_order_relaxed);
}

static void
detach_locked (struct nbdconn *c, struct origin_req *req)
{
  list_remove (&req->node);
  c->nflight--;
  c->nback -= is_back (req);
}

void
nbdpool_wake (struct nbdpool *p)
{
  evloop_post (p->loop, &p->work);
}

/* Back to the head of its queue: it was there before. */
static void
requeue_locked (struct nbdpool *p, struct origin_req *req)
{
  if (req->cmd == ORIGIN_STATUS && !p->single)
    list_push_front (&p->status_queue, &req->node);
  else
    list_push_front (&p->queue[req->prio], &req->node);
}

/* Send req, which is attached to c, and leave c.  req may be done, and c and o gone,
 * when this returns.
 */
void
nbdpool_send_out (struct nbdconn *c, struct origin_req *req)
{
  struct nbdpool *p = c->pool;
  struct list answers;
  bool look = false;
  int err;

  lock_assert_none_held ();
  err = nbdwire_issue (&c->wire, req);
  if (err != 0) {
    list_init (&answers);
    lock_take (&p->lock);
    detach_locked (c, req);
    if (err == ENOTCONN) {
      /* Not sent, so nothing is lost: it waits for the next connection, or with this
       * one.
       */
      if (req->cmd == ORIGIN_FLUSH && req->carrier != 0)
        list_push_front (&c->pinned, &req->node);
      else
        requeue_locked (p, req);
      look = true;
    }
    else {
      p->outstanding--;
      nbdpool_add_answer (&answers, req, err);
    }
    lock_drop (&p->lock);
  }

  /* Direction and state are published by libnbd and read without its lock (nbd.L-1).  A
   * reply may have been read in here: TLS keeps decrypted bytes.
   */
  atomic_thread_fence (memory_order_seq_cst);   /* see nbdpool_service () */
  if (nbdwire_has_done (&c->wire)
      || ((nbd_aio_get_direction (c->wire.link.h) & LIBNBD_AIO_DIRECTION_WRITE)
          && !atomic_load (&c->writing_seen))
      || nbd_aio_is_closed (c->wire.link.h) || nbd_aio_is_dead (c->wire.link.h))
    look = true;
  if (look) {
    atomic_store (&c->attention, true);
    nbdpool_wake (p);
  }
  atomic_fetch_sub_explicit (&c->users, 1, memory_order_release);
  if (err != 0)
    nbdpool_answer_all (&answers);
}

/* Requests attached by somebody who held the lock, by req->next, to be sent when it is
 * dropped.
 */
struct sends {
  struct origin_req *first, **last;
};

static void
sends_init (struct sends *s)
{
  s->first = NULL;
  s->last = &s->first;
}

static void
sends_add_locked (struct sends *s, struct nbdconn *c, struct origin_req *req)
{
  nbdpool_attach_locked (c, req);
  req->conn = c;
  req->next = NULL;
  *s->last = req;
  s->last = &req->next;
}

static void
send_all (struct sends *s)
{
  struct origin_req *req, *next;

  for (req = s->first; req != NULL; req = next) {
    next = req->next;
    nbdpool_send_out (req->conn, req);
  }
}

static void
pump_list_locked (struct nbdconn *c, struct list *from, struct sends *sends)
{
  struct origin_req *req;

  while ((req = list_entry (list_first (from), struct origin_req, node)) != NULL
         && nbdpool_has_room_locked (c, req)) {
    list_remove (&req->node);
    sends_add_locked (sends, c, req);
  }
}

/* Attach what can be sent now, in order of priority, first come first served in each. */
static void
pump_locked (struct nbdpool *p, struct sends *sends)
{
  struct origin_req *req;
  struct nbdconn *c;
  unsigned i, prio;

  for (i = 0; i < p->nconns; i++)
    pump_list_locked (p->conn[i], &p->conn[i]->pinned, sends);
  for (prio = 0; prio < ORIGIN_NR_PRIO; prio++)
    while ((req = list_entry (list_first (&p->queue[prio]), struct origin_req, node)) != NULL
           && (c = nbdpool_pick_locked (p, req)) != NULL) {
      list_remove (&req->node);
      sends_add_locked (sends, c, req);
    }
  if (p->meta != NULL)
    pump_list_locked (p->meta, &p->status_queue, sends);
}

void
nbdpool_pump (struct nbdpool *p)
{
  struct sends sends;

  sends_init (&sends);
  lock_take (&p->lock);
  pump_locked (p, &sends);
  lock_drop (&p->lock);
  send_all (&sends);
}

/* Why req cannot be taken now; 0 if it can. */
int
nbdpool_admission_locked (struct nbdpool *p, const struct origin_req *req)
{
  if (p->closing)
    return ECANCELED;
  if (req->cmd == ORIGIN_STATUS && !p->base.info.can_extents)
    return ENOTSUP;
  if (p->changed)
    return EIO;
  if (req->off + req->len > p->size_now)
    return EIO;
  if (!p->up && (p->shut || clock_now (p->clock) - p->down_ns >= p->params->reconnect_ns))
    return ETIMEDOUT;
  return 0;
}

/* Answers */

/* req was not carried out, for no fault of its own.  False: that has been going on for
 * longer than it may wait, over however many connections.
 */
static bool
send_again_locked (struct nbdpool *p, struct origin_req *req)
{
  uint64_t now = clock_now (p->clock);

  if (req->lost_ns == 0)
    req->lost_ns = now;
  if (p->closing || now - req->lost_ns >= p->params->reconnect_ns)
    return false;
  requeue_locked (p, req);
  return true;
}

/* Take from c what the server has answered; those to be told extents apart.  False: the
 * answers were such that c cannot be trusted any more.
 */
static bool
collect (struct nbdconn *c, struct list *answers, struct list *tells)
{
  struct nbdpool *p = c->pool;
  struct origin_req *req, *next;
  bool sane = true;

  req = nbdwire_take_done (&c->wire);
  if (req == NULL)
    return true;
  lock_take (&p->lock);
  for (; req != NULL; req = next) {
    next = req->next;
    if (req->err == ENOTCONN)   /* left to nbdpool_bury () */
      continue;
    detach_locked (c, req);
    if (req->err == ESHUTDOWN) {
      /* Not carried out, and nothing more will be (N-91): again on the next connection.
       */
      if (c->state == CONN_UP)
        c->state = CONN_LEAVING;
      if (req->cmd == ORIGIN_FLUSH && req->carrier != 0)
        list_push_back (&c->pinned, &req->node);
      else if (!send_again_locked (p, req)) {
        p->outstanding--;
        nbdpool_add_answer (answers, req, ETIMEDOUT);
      }
      continue;
    }
    if (req->err == 0 && !nbdwire_verify (&c->wire, req)) {
      sane = false;
      if (req->cmd == ORIGIN_READ)
        req->err = EIO;         /* nbd.B-52 */
      else
        nbdwire_forget (req);   /* nbd.B-55: no descriptors mean all data */
    }
    p->outstanding--;
    if (req->err == 0 && is_write_like (req))
      c->nwritten++;
    if (req->err == 0 && req->cmd == ORIGIN_FLUSH && (uint64_t) req->cookie > c->nflushed)
      c->nflushed = req->cookie;
    list_push_back (req->err == 0 && req->cmd == ORIGIN_STATUS ? tells : answers, &req->node);
  }
  lock_drop (&p->lock);
  return sane;
}

/* Block status that nobody can give: all data is always right (N-55). */
void
nbdpool_tell_all_data (struct origin_req *req)
{
  uint64_t off = req->status_at, end = req->off + req->len;

  req->status_at = end;
  req->extent (req, off, end - off, 0);
}

static void
tell_extents (struct nbdpool *p, struct list *tells, struct list *answers)
{
  struct list_node *node;

  while ((node = list_pop_front (tells)) != NULL) {
    struct origin_req *req = list_entry (node, struct origin_req, node);

    if (req->reply == NULL || ++req->tries > MAX_STATUS_TRIES)
      nbdpool_tell_all_data (req);
    else if (!nbdwire_tell_extents (req)) {
      /* A part of it: on from there. */
      nbdwire_forget (req);
      lock_take (&p->lock);
      p->outstanding++;
      requeue_locked (p, req);
      lock_drop (&p->lock);
      continue;
    }
    nbdpool_add_answer (answers, req, 0);
  }
}

/* Ends of connections */

void
nbdpool_plan_retry (struct nbdpool *p, uint64_t after_ns)
{
  uint64_t half = after_ns / 2;

  /* Many clients of one server that restarts should not come at once. */
  p->retry_ns = clock_now (p->clock) + half + (uint64_t) nrand48 (p->rnd) % (half + 1);
}

/* The first attempt comes at once, the next after 5 ms and so on (D12); a server that
 * accepts us and hangs up counts as one that cannot be reached.
 */
void
nbdpool_plan_reconnect (struct nbdpool *p, uint64_t lived_ns)
{
  if (lived_ns >= NSEC_PER_SEC)
    p->backoff_ns = 0;
  nbdpool_plan_retry (p, p->backoff_ns);
  p->backoff_ns = p->backoff_ns == 0 ? NBDPOOL_BACKOFF_MIN_NS : 2 * p->backoff_ns;
  if (p->backoff_ns > NBDPOOL_BACKOFF_MAX_NS)
    p->backoff_ns = NBDPOOL_BACKOFF_MAX_NS;
}

void
nbdpool_die (struct nbdconn *c, const char *because)
{
  struct nbdpool *p = c->pool;
  unsigned i;

  lock_take (&p->lock);
  if (c->state < CONN_DYING) {
    c->state = CONN_DYING;
    c->because = because;
    list_push_back (&p->dying, &c->node);
    if (c == p->meta)
      p->meta = NULL;
    for (i = 0; i < p->nconns; i++)
      if (p->conn[i] == c) {
        memmove (&p->conn[i], &p->conn[i + 1], (p->nconns - i - 1) * sizeof p->conn[0]);
        p->nconns--;
        break;
      }
    if (p->nconns == 0 && p->up) {
      p->up = false;
      p->down_ns = clock_now (p->clock);
      nbdpool_plan_reconnect (p, p->down_ns - c->born_ns);
    }
  }
  lock_drop (&p->lock);
  event_del (c->readable);
  event_del (c->writable);
  nbdpool_wake (p);                     /* turn () buries it */
}

/* Has the far side closed or reset the connection?  What still comes is thrown away. */
static bool
far_side_has_gone (int fd)
{
  char buf[16384];
  unsigned i;
  ssize_t n;

  for (i = 0; i < 64; i++) {
    n = recv (fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n == 0)
      return true;
    if (n == -1 && errno != EINTR)
      return errno != EAGAIN;
  }
  return false;
}

/* A request that was under way on a lost connection. */
static void
salvage_locked (struct nbdconn *c, struct origin_req *req, struct list *answers, struct list *gone)
{
  struct nbdpool *p = c->pool;

  list_remove (&req->node);
  if (is_write_like (req)) {
    p->outstanding--;
    list_push_front (&c->unanswered, &req->node);
    return;
  }
  if (req->cmd == ORIGIN_FLUSH && req->carrier != 0) {
    p->outstanding--;
    nbdpool_add_answer (gone, req, ENOTCONN);
    return;
  }
  if (!send_again_locked (p, req)) {
    p->outstanding--;
    nbdpool_add_answer (answers, req, p->closing ? ECANCELED : ETIMEDOUT);
  }
}

static void
take_pinned_locked (struct nbdconn *c, struct list *gone)
{
  struct list_node *node;

  while ((node = list_pop_front (&c->pinned)) != NULL) {
    c->pool->outstanding--;
    nbdpool_add_answer (gone, list_entry (node, struct origin_req, node), ENOTCONN);
  }
}

void
nbdpool_release (struct nbdconn *c)
{
  struct nbdpool *p = c->pool;
  struct list gone;
  struct list_node *node;

  list_init (&gone);
  lock_take (&p->lock);
  list_remove (&c->node);
  while ((node = list_pop_front (&c->unanswered)) != NULL)
    nbdpool_add_answer (&gone, list_entry (node, struct origin_req, node),
                        p->closing ? ECANCELED : ENOTCONN);
  lock_drop (&p->lock);
  nbdpool_answer_all (&gone);

  event_free (c->readable);
  event_free (c->writable);
  close (c->wire.link.fd);
  free (c);
}

static void
on_quarantined (evutil_socket_t fd, short what, void *arg)
{
  struct nbdconn *c = arg;

  (void) what;
  if (far_side_has_gone (fd))
    nbdpool_release (c);
}

/* The handle goes; see the head of this file for the order of what is said. */
void
nbdpool_bury (struct nbdconn *c)
{
  struct nbdpool *p = c->pool;
  struct list answers, tells, gone;
  struct origin_req *req;
  uint64_t now = clock_now (p->clock);
  bool wait;

  list_init (&answers);
  list_init (&tells);
  list_init (&gone);
  nbd_close (c->wire.link.h);
  c->wire.link.h = NULL;
  free (c->wire.link.canonical);
  /* The server need not wait for more from us: it answers what it has and closes. */
  shutdown (c->wire.link.fd, SHUT_WR);

  collect (c, &answers, &tells);
  tell_extents (p, &tells, &answers);
  nbdpool_answer_all (&answers);

  lock_take (&p->lock);
  while ((req = list_entry (list_last (&c->under_way), struct origin_req, node)) != NULL)
    salvage_locked (c, req, &answers, &gone);
  c->nflight = c->nback = 0;
  c->state = CONN_BURIED;
  lock_drop (&p->lock);

  if (c->because != NULL)
    nbdpool_notice (p, 2, "connection lost: %s", c->because);
  if (c->carrier != 0)
    origin_tell_lost (&p->base, c->carrier);

  lock_take (&p->lock);
  c->told = true;
  take_pinned_locked (c, &gone);
  wait = !list_is_empty (&c->unanswered) && !p->closing;
  lock_drop (&p->lock);
  nbdpool_answer_all (&gone);
  nbdpool_answer_all (&answers);

  if (!wait || far_side_has_gone (c->wire.link.fd)) {
    nbdpool_release (c);
    return;
  }
  /* D16: the writes are answered when the server has let go of them, or after a while. */
  c->quarantine_ns = now + p->params->quarantine_ns;
  event_assign (c->readable, evloop_base (p->loop), c->wire.link.fd, EV_READ | EV_PERSIST,
                on_quarantined, c);
  event_add (c->readable, NULL);
}

/* Driving a connection */

static void
set_event (struct event *event, bool *added, bool wanted)
{
  if (wanted == *added)
    return;
  *added = wanted;
  if (wanted)
    event_add (event, NULL);
  else
    event_del (event);
}

/* Look at what came of the last call into libnbd: answers, the end, the wish to write. */
void
nbdpool_service (struct nbdconn *c)
{
  struct nbdpool *p = c->pool;
  struct list answers, tells;
  unsigned dir;

  if (c->state >= CONN_DYING)
    return;
  list_init (&answers);
  list_init (&tells);
  if (!collect (c, &answers, &tells))
    nbdpool_die (c, "the server's answer was not what the protocol allows");
  else if (nbd_aio_is_closed (c->wire.link.h))
    nbdpool_die (c, "the server closed it");
  else if (nbd_aio_is_dead (c->wire.link.h))
    nbdpool_die (c, "it broke, or the server sent what no client understands");
  else if (c->state == CONN_LEAVING && c->nflight == 0)
    nbdpool_die (c, "the server is shutting down");
  tell_extents (p, &tells, &answers);
  nbdpool_pump (p);                     /* before the answers: the server should not run dry */

  if (c->state < CONN_DYING) {
    dir = nbd_aio_get_direction (c->wire.link.h);
    set_event (c->readable, &c->reading, dir & LIBNBD_AIO_DIRECTION_READ);
    set_event (c->writable, &c->writing, dir & LIBNBD_AIO_DIRECTION_WRITE);
    if (atomic_load_explicit (&c->writing_seen, memory_order_relaxed) != c->writing)
      atomic_store (&c->writing_seen, c->writing);
    /* Either we see now what another thread's send left to be written, or it sees our
     * store and wakes us: both sides store, then load, sequentially consistent.
     */
    atomic_thread_fence (memory_order_seq_cst);
    if (!c->writing && (nbd_aio_get_direction (c->wire.link.h) & LIBNBD_AIO_DIRECTION_WRITE)) {
      set_event (c->writable, &c->writing, true);
      atomic_store (&c->writing_seen, true);
    }
  }
  nbdpool_answer_all (&answers);
}

static void
on_readable (evutil_socket_t fd, short what, void *arg)
{
  struct nbdconn *c = arg;

  (void) fd;
  (void) what;
  if (nbd_aio_get_direction (c->wire.link.h) & LIBNBD_AIO_DIRECTION_READ) {
    nbd_aio_notify_read (c->wire.link.h);
    atomic_store_explicit (&c->heard_ns, clock_now (c->pool->clock), memory_order_relaxed);
  }
  nbdpool_service (c);
}

static void
on_writable (evutil_socket_t fd, short what, void *arg)
{
  struct nbdconn *c = arg;

  (void) fd;
  (void) what;
  if (nbd_aio_get_direction (c->wire.link.h) & LIBNBD_AIO_DIRECTION_WRITE)
    nbd_aio_notify_write (c->wire.link.h);
  nbdpool_service (c);
}

int
nbdpool_make_conn (struct nbdpool *p, struct nbdlink *link, bool meta, struct nbdconn **ret)
{
  struct nbdconn *c = calloc (1, sizeof *c);

  if (c == NULL)
    return ENOMEM;
  c->pool = p;
  list_node_init (&c->node);
  list_init (&c->under_way);
  list_init (&c->pinned);
  list_init (&c->unanswered);
  c->readable = event_new (evloop_base (p->loop), link->fd, EV_READ | EV_PERSIST, on_readable, c);
  c->writable = event_new (evloop_base (p->loop), link->fd, EV_WRITE | EV_PERSIST, on_writable, c);
  if (c->readable == NULL || c->writable == NULL || event_add (c->readable, NULL) == -1) {
    if (c->readable != NULL)
      event_free (c->readable);
    if (c->writable != NULL)
      event_free (c->writable);
    free (c);
    return ENOMEM;
  }
  c->reading = true;
  nbdwire_init (&c->wire, link);
  c->born_ns = c->used_ns = clock_now (p->clock);
  atomic_init (&c->heard_ns, c->used_ns);
  lock_take (&p->lock);
  if (!meta)
    c->carrier = ++p->last_carrier;
  lock_drop (&p->lock);
  *ret = c;
  return 0;
}

