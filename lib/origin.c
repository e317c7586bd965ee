/* SPDX-License-Identifier: BSD-3-Clause
 *
 * origin - the checked front of every origin.
 *
 * What origin.h promises to an implementation is asserted here once, so that no
 * implementation has to doubt its caller: these are our own mistakes, never the
 * network's.  Counting happens here as well; an implementation adds what only it
 * can know.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "lock.h"
#include "origin.h"

static void
check_flags (const struct origin *o, const struct origin_req *req)
{
  unsigned allowed = 0;

  switch (req->cmd) {
  case ORIGIN_WRITE:
  case ORIGIN_TRIM:
    allowed = ORIGIN_FUA;
    break;
  case ORIGIN_ZERO:
    allowed = ORIGIN_FUA | ORIGIN_NO_HOLE | ORIGIN_FAST;
    break;
  case ORIGIN_STATUS:
    allowed = ORIGIN_ONE;
    break;
  case ORIGIN_READ:
  case ORIGIN_FLUSH:
  case ORIGIN_CACHE:
    break;
  }
  assert ((req->flags & ~allowed) == 0);
  assert (!(req->flags & ORIGIN_FUA) || o->info.can_fua);
  assert (!(req->flags & ORIGIN_FAST) || o->info.can_fast_zero);
}

static void
check_request (const struct origin *o, const struct origin_req *req)
{
  assert (req->done != NULL);
  assert ((unsigned) req->prio < ORIGIN_NR_PRIO);
  check_flags (o, req);

  if (req->cmd == ORIGIN_FLUSH) {
    assert (req->off == 0 && req->len == 0);
    return;
  }
  assert (req->len > 0 && req->len <= UINT32_MAX);
  assert (req->off <= o->info.size && req->len <= o->info.size - req->off);
  assert ((req->off & (o->info.block_min - 1)) == 0);
  assert ((req->len & (o->info.block_min - 1)) == 0);

  switch (req->cmd) {
  case ORIGIN_WRITE:
    assert (!o->info.read_only);
    /* fallthrough */
  case ORIGIN_READ:
    assert (req->buf != NULL);
    assert (req->len <= o->info.block_max);
    break;
  case ORIGIN_TRIM:
  case ORIGIN_ZERO:
    assert (!o->info.read_only);
    break;
  case ORIGIN_STATUS:
    assert (req->extent != NULL);
    break;
  case ORIGIN_FLUSH:
  case ORIGIN_CACHE:
    break;
  }
}

static void
count (struct origin *o, const struct origin_req *req)
{
  struct origin_counters *c = &o->counters;

  /* Relaxed: a reader of statistics may be a request late. */
  atomic_fetch_add_explicit (&c->requests[req->cmd], 1, memory_order_relaxed);
  atomic_fetch_add_explicit (&c->bytes[req->cmd], req->len, memory_order_relaxed);
}

void
origin_submit (struct origin *o, struct origin_req *req)
{
  check_request (o, req);
  lock_assert_none_held ();     /* done() may come from in here */
  count (o, req);

  list_node_init (&req->node);
  req->next = NULL;
  req->conn = NULL;
  req->reply = NULL;
  req->cookie = 0;
  req->at_ns = 0;
  req->lost_ns = 0;
  req->got = 0;
  req->status_at = req->off;
  req->err = 0;
  req->tries = 0;
  o->ops->submit (o, req);
}

void
origin_set_events (struct origin *o, const struct origin_events *events)
{
  assert (!atomic_load (&o->has_events));
  o->events = *events;
  /* Pairs with the acquire below: the loop may be looking already. */
  atomic_store_explicit (&o->has_events, true, memory_order_release);
}

static bool
listens (struct origin *o)
{
  return atomic_load_explicit (&o->has_events, memory_order_acquire);
}

void
origin_tell_lost (struct origin *o, uint32_t carrier)
{
  lock_assert_none_held ();
  if (listens (o) && o->events.lost != NULL)
    o->events.lost (o->events.arg, carrier);
}

void
origin_tell_failed (struct origin *o, int err, const char *why)
{
  lock_assert_none_held ();
  if (listens (o) && o->events.failed != NULL)
    o->events.failed (o->events.arg, err, why);
}

void
origin_tell_resized (struct origin *o, uint64_t end)
{
  lock_assert_none_held ();
  if (listens (o) && o->events.resized != NULL)
    o->events.resized (o->events.arg, end);
}

void
origin_tell (struct origin *o, int level, const char *line)
{
  if (listens (o) && o->events.notice != NULL)
    o->events.notice (o->events.arg, level, line);
}

unsigned
origin_depth (struct origin *o)
{
  return o->ops->depth (o);
}

bool
origin_is_up (struct origin *o)
{
  return o->ops->is_up (o);
}

unsigned
origin_rest (struct origin *o)
{
  return o->ops->rest != NULL ? o->ops->rest (o) : 0;
}

void
origin_get_stats (struct origin *o, struct origin_stats *stats)
{
  struct origin_counters *c = &o->counters;

#define GET(what, cmd) atomic_load_explicit (&c->what[cmd], memory_order_relaxed)
  memset (stats, 0, sizeof *stats);
  stats->reads = GET (requests, ORIGIN_READ);
  stats->read_bytes = GET (bytes, ORIGIN_READ);
  stats->writes = GET (requests, ORIGIN_WRITE);
  stats->write_bytes = GET (bytes, ORIGIN_WRITE);
  stats->flushes = GET (requests, ORIGIN_FLUSH);
  stats->trims = GET (requests, ORIGIN_TRIM);
  stats->zeros = GET (requests, ORIGIN_ZERO);
  stats->status = GET (requests, ORIGIN_STATUS);
#undef GET
  if (o->ops->get_stats != NULL)
    o->ops->get_stats (o, stats);
}

void
origin_close (struct origin *o)
{
  if (o == NULL)
    return;
  lock_assert_none_held ();
  o->ops->close (o);
}

/* Promises */

static _Thread_local struct {
  bool on;
  struct origin *origin;        /* owes something to */
  void *what;
} promise;

void
origin_promise_begin (void)
{
  assert (!promise.on && promise.origin == NULL);
  promise.on = true;
}

bool
origin_promise_take (struct origin *o, void *what)
{
  if (!promise.on || promise.origin != NULL)
    return false;
  promise.origin = o;
  promise.what = what;
  return true;
}

/* The promise is over before it is kept: what done() submits while its thread drives is
 * another matter.
 */
static void
keep (struct waiter *w, uint64_t until_ns)
{
  struct origin *o = promise.origin;

  promise.on = false;
  promise.origin = NULL;
  if (o != NULL)
    o->ops->drive (o, promise.what, w, until_ns);
}

void
origin_promise_end (void)
{
  keep (NULL, 0);
}

void
origin_promise_wait (struct waiter *w, struct clock *clock, uint64_t until_ns)
{
  lock_assert_none_held ();
  keep (w, until_ns);
  waiter_rest (w, clock, until_ns);
}

/* One thread that waits for one request.  It leaves only when it has seen that it is woken,
 * which is the last store of the other side: wait lies on its stack.
 */
struct wait {
  struct waiter waiter;
  int err;
};

static void
do_done (struct origin_req *req, int err)
{
  struct wait *wait = req->arg;

  wait->err = err;
  waiter_wake (&wait->waiter);
}

int
origin_do (struct origin *o, struct origin_req *req)
{
  struct wait wait;

  waiter_init (&wait.waiter);
  req->done = do_done;
  req->arg = &wait;
  origin_promise_begin ();
  origin_submit (o, req);
  origin_promise_wait (&wait.waiter, NULL, WAITER_FOR_EVER);
  while (!waiter_is_woken (&wait.waiter))
    waiter_rest (&wait.waiter, NULL, WAITER_FOR_EVER);
  return wait.err;
}
