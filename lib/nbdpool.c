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

#include "nbdkicks.h"
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
    struct origin_req *req = container_of (node, struct origin_req, node);

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
    struct nbdconn *c = container_of (node, struct nbdconn, node);

    if (c->carrier == carrier)
      return c;
  }
  return NULL;
}

/* Who drives */

void
nbdpool_loop_drives_locked (struct nbdconn *c)
{
  atomic_store_explicit (&c->driver, DRIVER_LOOP, memory_order_relaxed);
  atomic_store (&c->attention, true);
  nbdpool_wake (c->pool);
}

static void
forget_followers_locked (struct nbdconn *c)
{
  /* They sleep on until they are answered, from wherever. */
  while (list_pop_front (&c->followers) != NULL)
    ;
}

/* A follower that is in the list has not taken the lock since it slept, so it exists. */
static struct nbdfollower *
pop_sleeper_locked (struct nbdconn *c)
{
  struct list_node *node;

  while ((node = list_pop_front (&c->followers)) != NULL) {
    struct nbdfollower *f = container_of (node, struct nbdfollower, node);

    if (!waiter_is_woken (f->waiter))
      return f;
  }
  return NULL;
}

_Atomic int *
nbdpool_hand_over_locked (struct nbdconn *c)
{
  struct nbdfollower *f;

  if (c->state >= CONN_DYING || c->nflight == 0)
    forget_followers_locked (c);
  else if (c->npromises == 0) {
    f = pop_sleeper_locked (c);
    if (f == NULL) {
      nbdpool_loop_drives_locked (c);
      return NULL;
    }
    f->promoted = true;
    atomic_fetch_add_explicit (&c->users, 1, memory_order_relaxed);
    atomic_store_explicit (&c->driver, DRIVER_WORKER, memory_order_relaxed);
    return waiter_nudge (f->waiter);
  }
  /* A thread that runs, and comes to drive in a moment, need not be woken. */
  atomic_store_explicit (&c->driver, DRIVER_NOBODY, memory_order_relaxed);
  return NULL;
}

/* req was attached by this thread.  A connection that somebody drives needs no promise, but
 * the thread follows then, and may be the next.
 */
static void
find_driver_locked (struct nbdconn *c, const struct origin_req *req)
{
  if (!is_back (req) && c->kick_fd != -1 && origin_promise_take (&c->pool->base, c)) {
    c->npromises++;
    atomic_fetch_add_explicit (&c->users, 1, memory_order_relaxed);
  }
  if (atomic_load_explicit (&c->driver, memory_order_relaxed) == DRIVER_NOBODY
      && c->npromises == 0)
    nbdpool_loop_drives_locked (c);
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
  find_driver_locked (c, req);
}

static void
detach_locked (struct nbdconn *c, struct origin_req *req)
{
  if (list_first (&c->under_way) == &req->node)
    c->passed_first_ns = 0;
  list_remove (&req->node);
  c->nflight--;
  c->nback -= is_back (req);
}

void
nbdpool_wake (struct nbdpool *p)
{
  evloop_post (p->loop, &p->work);
}

/* Back to the head of its queue: it was there before.  Nobody asked whether it is admitted. */
static void
requeue_locked (struct nbdpool *p, struct origin_req *req)
{
  if (!p->up)
    nbdpool_wake (p);
  if (req->cmd == ORIGIN_STATUS && !p->single)
    list_push_front (&p->status_queue, &req->node);
  else
    list_push_front (&p->queue[req->prio], &req->node);
}

/* Has the last call into libnbd left something to the loop: the end of the connection, or
 * bytes to be written?  Direction and state are published by libnbd and read without its lock
 * (nbd.L-1).
 */
static bool
is_for_loop (struct nbdconn *c)
{
  struct nbd_handle *h = c->wire.link.h;

  atomic_thread_fence (memory_order_seq_cst);   /* see settle_events () */
  return ((nbd_aio_get_direction (h) & LIBNBD_AIO_DIRECTION_WRITE)
          && !atomic_load (&c->writing_seen))
    || nbd_aio_is_closed (h) || nbd_aio_is_dead (h);
}

static void
call_loop (struct nbdconn *c)
{
  atomic_store (&c->attention, true);
  nbdpool_wake (c->pool);
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

  /* A reply may have been read in here: TLS keeps decrypted bytes. */
  if (is_for_loop (c) || nbdwire_has_done (&c->wire))
    look = true;
  if (look)
    call_loop (c);
  if (err != 0)
    nbdpool_answer_all (&answers);
  atomic_fetch_sub_explicit (&c->users, 1, memory_order_release);
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

/* What one look at a connection brought. */
struct round {
  struct list answers, tells;   /* to be told extents apart */
  struct sends sends;
  bool waited;                  /* somebody waits for one of them */
};

static void
round_init (struct round *r)
{
  list_init (&r->answers);
  list_init (&r->tells);
  sends_init (&r->sends);
  r->waited = false;
}

/* ESHUTDOWN: req was not carried out, and nothing more will be (N-91): again on the next
 * connection.
 */
static void
collect_refused_locked (struct nbdconn *c, struct origin_req *req, struct round *r)
{
  if (c->state == CONN_UP)
    c->state = CONN_LEAVING;
  if (req->cmd == ORIGIN_FLUSH && req->carrier != 0)
    list_push_back (&c->pinned, &req->node);
  else if (!send_again_locked (c->pool, req)) {
    c->pool->outstanding--;
    nbdpool_add_answer (&r->answers, req, ETIMEDOUT);
  }
}

/* For nbdtend.c's second rule: req, which is under way, has been answered. */
static void
note_answer_locked (struct nbdconn *c, const struct origin_req *req)
{
  uint64_t now = atomic_load_explicit (&c->heard_ns, memory_order_relaxed);

  c->answered_ns = now;
  if (list_first (&c->under_way) == &req->node)
    return;                     /* another becomes the oldest, and nothing has passed it */
  if (c->passed_first_ns == 0)
    c->passed_first_ns = c->passed_ns = now;
  else if (req->at_ns <= c->passed_first_ns)
    c->passed_ns = now;
}

/* Take from c what the server has answered. */
static void
collect_locked (struct nbdconn *c, struct round *r)
{
  struct origin_req *req, *next;

  for (req = nbdwire_take_done (&c->wire); req != NULL; req = next) {
    next = req->next;
    if (req->err == ENOTCONN)   /* left to nbdpool_bury () */
      continue;
    note_answer_locked (c, req);
    detach_locked (c, req);
    if (req->err == ESHUTDOWN) {
      collect_refused_locked (c, req, r);
      continue;
    }
    if (req->err == 0 && !nbdwire_verify (&c->wire, req)) {
      c->insane = true;
      if (c->state == CONN_UP)
        c->state = CONN_LEAVING;        /* nothing more is sent on it */
      if (req->cmd == ORIGIN_READ)
        req->err = EIO;         /* nbd.B-52 */
      else
        nbdwire_forget (req);   /* nbd.B-55: no descriptors mean all data */
    }
    c->pool->outstanding--;
    r->waited |= !is_back (req);
    if (req->err == 0 && is_write_like (req) && !(req->flags & ORIGIN_FUA))
      c->nwritten++;            /* a durable one needs no flush, and none may come */
    if (req->err == 0 && req->cmd == ORIGIN_FLUSH && (uint64_t) req->cookie > c->nflushed)
      c->nflushed = req->cookie;
    list_push_back (req->err == 0 && req->cmd == ORIGIN_STATUS ? &r->tells : &r->answers,
                    &req->node);
  }
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
tell_extents (struct nbdpool *p, struct round *r)
{
  struct list_node *node;
  bool more = false;

  while ((node = list_pop_front (&r->tells)) != NULL) {
    struct origin_req *req = container_of (node, struct origin_req, node);

    if (req->reply == NULL || ++req->tries > MAX_STATUS_TRIES)
      nbdpool_tell_all_data (req);
    else if (!nbdwire_tell_extents (req)) {
      /* A part of it: on from there. */
      nbdwire_forget (req);
      lock_take (&p->lock);
      p->outstanding++;
      requeue_locked (p, req);
      lock_drop (&p->lock);
      more = true;
      continue;
    }
    nbdpool_add_answer (&r->answers, req, 0);
  }
  if (more)
    nbdpool_pump (p);
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
    if (p->nconns == 0 && p->up && because == NULL)
      p->parked = true;         /* it was idle, or all ends */
    else if (p->nconns == 0 && p->up && !p->parked) {
      p->up = false;
      p->down_ns = clock_now (p->clock);
      nbdpool_plan_reconnect (p, p->down_ns - c->born_ns);
    }
    forget_followers_locked (c);
    if (atomic_load_explicit (&c->driver, memory_order_relaxed) == DRIVER_WORKER)
      waiter_kick (c->kick_fd);
  }
  lock_drop (&p->lock);
  event_del (c->readable);
  event_del (c->writable);
  nbdpool_wake (p);                     /* nbdtend_turn buries it */
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
    nbdpool_add_answer (gone, container_of (node, struct origin_req, node), ENOTCONN);
  }
}

static void
put_kick (struct nbdconn *c)
{
  if (c->kick != NULL)
    nbdkicks_give (c->pool->params->kicks, c->kick);
  c->kick = NULL;
  c->kick_fd = -1;
}

void
nbdpool_release (struct nbdconn *c)
{
  const struct linger abandon = { .l_onoff = 1, .l_linger = 0 };
  struct nbdpool *p = c->pool;
  struct list gone;
  struct list_node *node;

  list_init (&gone);
  lock_take (&p->lock);
  list_remove (&c->node);
  /* What the system still has of older writes must not arrive after the newer ones: it is thrown away, where the
   * kind of socket can (TCP).
   */
  if (!list_is_empty (&c->unanswered) && !p->closing)
    setsockopt (c->wire.link.fd, SOL_SOCKET, SO_LINGER, &abandon, sizeof abandon);
  while ((node = list_pop_front (&c->unanswered)) != NULL)
    nbdpool_add_answer (&gone, container_of (node, struct origin_req, node),
                        p->closing ? ECANCELED : ENOTCONN);
  lock_drop (&p->lock);
  /* Before the newer ones set out. */
  event_free (c->readable);
  event_free (c->writable);
  close (c->wire.link.fd);
  nbdpool_answer_all (&gone);

  put_kick (c);
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
  struct origin_req *req;
  struct round r;
  struct list gone;
  uint64_t now = clock_now (p->clock);
  bool wait;

  round_init (&r);
  list_init (&gone);
  nbd_close (c->wire.link.h);
  c->wire.link.h = NULL;
  free (c->wire.link.canonical);
  /* The server need not wait for more from us: it answers what it has and closes. */
  shutdown (c->wire.link.fd, SHUT_WR);

  lock_take (&p->lock);
  collect_locked (c, &r);
  lock_drop (&p->lock);
  tell_extents (p, &r);
  nbdpool_answer_all (&r.answers);

  lock_take (&p->lock);
  while ((req = list_entry (list_last (&c->under_way), struct origin_req, node)) != NULL)
    salvage_locked (c, req, &r.answers, &gone);
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
  nbdpool_answer_all (&r.answers);
  put_kick (c);

  if (!wait || far_side_has_gone (c->wire.link.fd)) {
    nbdpool_release (c);
    return;
  }
  /* D16: the writes are answered when the server has let go of them, or after a while. */
  c->buried_ns = now;
  c->quarantine_ns = UINT64_MAX;
  event_assign (c->readable, evloop_base (p->loop), c->wire.link.fd, EV_READ | EV_PERSIST,
                on_quarantined, c);
  event_add (c->readable, NULL);
}

/* Driving a connection */

void
nbdpool_read (struct nbdconn *c)
{
  struct nbd_handle *h = c->wire.link.h;

  if (!(nbd_aio_get_direction (h) & LIBNBD_AIO_DIRECTION_READ))
    return;
  nbd_aio_notify_read (h);
  /* When there was nothing to read after all (a TLS record without data), libnbd 1.14 stays
   * between READY and a reply, where it takes commands and does not send them.  A second
   * notification brings it back to READY.
   */
  if (nbd_aio_is_processing (h)
      && !(nbd_aio_get_direction (h) & LIBNBD_AIO_DIRECTION_WRITE))
    nbd_aio_notify_read (h);
  atomic_store_explicit (&c->heard_ns, clock_now (c->pool->clock), memory_order_relaxed);
}

/* Give what a round brought.  First of all more is sent: the server should not run dry. */
static void
finish_round (struct nbdpool *p, struct round *r)
{
  send_all (&r->sends);
  tell_extents (p, r);
  nbdpool_answer_all (&r->answers);
}

bool
nbdpool_deliver (struct nbdconn *c)
{
  struct nbdpool *p = c->pool;
  bool on = true, over;
  struct round r;

  if (nbdwire_has_done (&c->wire)) {
    round_init (&r);
    lock_take (&p->lock);
    collect_locked (c, &r);
    pump_locked (p, &r.sends);
    on = c->nflight > 0;
    over = c->insane || (c->state == CONN_LEAVING && c->nflight == 0);
    lock_drop (&p->lock);
    finish_round (p, &r);
    if (over) {
      call_loop (c);
      return false;
    }
  }
  if (is_for_loop (c)) {
    call_loop (c);
    on = on && !nbd_aio_is_closed (c->wire.link.h) && !nbd_aio_is_dead (c->wire.link.h);
  }
  return on;
}

/* False: the system has no memory for it. */
static bool
set_event (struct event *event, bool *added, bool wanted)
{
  if (wanted == *added)
    return true;
  if (wanted && event_add (event, NULL) == -1)
    return false;
  if (!wanted)
    event_del (event);
  *added = wanted;
  return true;
}

/* False: nobody would read c, or write what is left to be written. */
static bool
settle_events (struct nbdconn *c, bool drives)
{
  unsigned dir = nbd_aio_get_direction (c->wire.link.h);
  bool ok = true;

  ok &= set_event (c->readable, &c->reading, drives && (dir & LIBNBD_AIO_DIRECTION_READ));
  ok &= set_event (c->writable, &c->writing, dir & LIBNBD_AIO_DIRECTION_WRITE);
  if (atomic_load_explicit (&c->writing_seen, memory_order_relaxed) != c->writing)
    atomic_store (&c->writing_seen, c->writing);
  /* Either we see now what another thread's send left to be written, or it sees our
   * store and wakes us: both sides store, then load, sequentially consistent.
   */
  atomic_thread_fence (memory_order_seq_cst);
  if (!c->writing && (nbd_aio_get_direction (c->wire.link.h) & LIBNBD_AIO_DIRECTION_WRITE)) {
    ok &= set_event (c->writable, &c->writing, true);
    atomic_store (&c->writing_seen, true);
  }
  return ok;
}

/* Why c ends now, or NULL; closed and dead are libnbd's words. */
static const char *
why_over_locked (const struct nbdconn *c, bool closed, bool dead)
{
  if (c->insane)
    return "the server's answer was not what the protocol allows";
  if (closed)
    return "the server closed it";
  if (dead)
    return "it broke, or the server sent what no client understands";
  if (c->state == CONN_LEAVING && c->nflight == 0)
    return "the server is shutting down";
  return NULL;
}

/* Does the loop stop driving?  Not while there is something of the background, which
 * nobody waits for; nor at the end of that, for more of it will come.
 */
static bool
loop_may_leave_locked (struct nbdconn *c, const struct round *r)
{
  return c->kick_fd != -1 && c->nback == 0
    && (c->nflight == 0 ? r->waited : !list_is_empty (&c->followers));
}

void
nbdpool_service (struct nbdconn *c)
{
  struct nbdpool *p = c->pool;
  _Atomic int *nudged = NULL;
  const char *why;
  struct round r;
  bool drives, closed, dead;

  round_init (&r);
  if (c->wire.link.h == NULL)
    return;                     /* buried */
  closed = nbd_aio_is_closed (c->wire.link.h);
  dead = nbd_aio_is_dead (c->wire.link.h);
  lock_take (&p->lock);
  if (c->state >= CONN_DYING) {
    lock_drop (&p->lock);
    return;
  }
  collect_locked (c, &r);
  why = why_over_locked (c, closed, dead);
  drives = atomic_load_explicit (&c->driver, memory_order_relaxed) == DRIVER_LOOP;
  if (why == NULL) {
    pump_locked (p, &r.sends);
    if (drives && loop_may_leave_locked (c, &r)) {
      nudged = nbdpool_hand_over_locked (c);
      drives = atomic_load_explicit (&c->driver, memory_order_relaxed) == DRIVER_LOOP;
    }
  }
  lock_drop (&p->lock);
  waiter_nudge_end (nudged);

  if (why != NULL) {
    nbdpool_die (c, why);
    nbdpool_pump (p);           /* on the others */
  }
  send_all (&r.sends);
  tell_extents (p, &r);
  if (why == NULL && !settle_events (c, drives))
    nbdpool_die (c, "the system had no memory to watch its socket");
  nbdpool_answer_all (&r.answers);
}

static void
on_readable (evutil_socket_t fd, short what, void *arg)
{
  struct nbdconn *c = arg;

  (void) fd;
  (void) what;
  /* Only the loop gives up what it drives, so it knows when it does. */
  if (atomic_load_explicit (&c->driver, memory_order_relaxed) != DRIVER_LOOP) {
    set_event (c->readable, &c->reading, false);
    return;
  }
  nbdpool_read (c);
  nbdpool_service (c);
}

static void
on_writable (evutil_socket_t fd, short what, void *arg)
{
  struct nbdconn *c = arg;

  (void) fd;
  (void) what;
  if (nbd_aio_get_direction (c->wire.link.h) & LIBNBD_AIO_DIRECTION_WRITE) {
    c->taken_ns = clock_now (c->pool->clock);
    nbd_aio_notify_write (c->wire.link.h);
  }
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
  list_init (&c->followers);
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
  c->kick = nbdkicks_take (p->params->kicks);
  c->kick_fd = c->kick != NULL ? c->kick->fd : -1;
  atomic_init (&c->driver, DRIVER_LOOP);
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

