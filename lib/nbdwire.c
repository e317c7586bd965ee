/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdwire - the callbacks that libnbd is given, and the checks of what they noted.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <libnbd.h>

#include "nbdwire.h"
#include "range.h"

/* N-50; what needs more is nonsense or not worth its memory. */
#define MAX_DESCRIPTORS ((size_t) 1 << 20)

/* Chunks of a read that came out of order. */
struct chunks {
  size_t n, max;
  bool bad;                     /* memory was short */
  struct range v[];
};

/* Block status as it came: length, type, length, type... */
struct descriptors {
  size_t n;                     /* words */
  bool bad;                     /* came twice, or too many */
  uint32_t v[];
};

void
nbdwire_init (struct nbdwire *w, struct nbdlink *link)
{
  w->link = *link;
  link->h = NULL;
  link->fd = -1;
  link->canonical = NULL;
  atomic_init (&w->done, NULL);
}

/* What the calling thread is just giving to libnbd.
 *
 * A connection that dies while a command is being sent ends the command inside the very call that sent it.
 * libnbd 1.14.2 frees it then, if its callback retires it, and reads the cookie that the call returns out of what it
 * freed (valgrind); -1, which the memory may hold by now, would say that the command was never taken,
 * and its request would be answered twice.  So that one command is retired after the call.
 */
static _Thread_local struct {
  const struct origin_req *req;
  bool ended;
} sending;

/* Thread  whoever entered libnbd.   Locks  the handle's: no nbd_* call here.
 * Runs    once for each command that was accepted, unless the handle is closed first.
 */
static int
command_done (void *opaque, int *error)
{
  struct origin_req *req = opaque;
  struct nbdwire *w = req->conn;
  struct origin_req *head = atomic_load_explicit (&w->done, memory_order_relaxed);
  bool retire;

  retire = req != sending.req;
  if (!retire)
    sending.ended = true;
  req->err = *error;
  do
    req->next = head;
  while (!atomic_compare_exchange_weak_explicit (&w->done, &head, req, memory_order_release,
                                                 memory_order_relaxed));
  return retire;                /* req may be gone already */
}

static void
note_chunk (struct origin_req *req, uint64_t off, uint64_t len)
{
  struct chunks *c = req->reply;

  if (c == NULL || c->n == c->max) {
    size_t max = c == NULL ? 8 : 2 * c->max;
    struct chunks *bigger = realloc (c, sizeof *c + max * sizeof c->v[0]);

    if (bigger == NULL) {
      if (c != NULL)
        c->bad = true;
      else
        req->got = UINT64_MAX;  /* never verified */
      return;
    }
    if (c == NULL)
      *bigger = (struct chunks) { .n = 0 };
    c = req->reply = bigger;
    c->max = max;
  }
  c->v[c->n++] = (struct range) { off, off + len };
}

/* Thread, locks  as command_done.   Runs  once for each chunk.
 * The bounds were checked by libnbd.
 */
static int
chunk_came (void *opaque, const void *buf, size_t len, uint64_t off, unsigned status, int *error)
{
  struct origin_req *req = opaque;

  (void) buf;
  (void) error;
  if (status == LIBNBD_READ_ERROR || len == 0 || req->got == UINT64_MAX)
    return 0;
  if (off == req->off + req->got)
    req->got += len;
  else
    note_chunk (req, off, len);
  return 0;
}

/* Thread, locks  as command_done.   Runs  once for each context in each chunk, or
 * never.
 */
static int
extents_came (void *opaque, const char *context, uint64_t off, uint32_t *entries, size_t n,
              int *error)
{
  struct origin_req *req = opaque;
  struct descriptors *d;

  (void) off;
  (void) error;
  if (strcmp (context, NBDLINK_ALLOCATION) != 0)
    return 0;
  if (req->reply != NULL) {
    ((struct descriptors *) req->reply)->bad = true;
    return 0;
  }
  if (n > 2 * MAX_DESCRIPTORS)
    n = 0;                      /* refused by verify */
  d = malloc (sizeof *d + n * sizeof d->v[0]);
  if (d == NULL)
    return 0;                   /* as if nothing had come: refused as well */
  d->n = n;
  d->bad = false;
  memcpy (d->v, entries, n * sizeof d->v[0]);
  req->reply = d;
  return 0;
}

static uint32_t
wire_flags (const struct origin_req *req)
{
  return (req->flags & ORIGIN_FUA ? LIBNBD_CMD_FLAG_FUA : 0)
    | (req->flags & ORIGIN_NO_HOLE ? LIBNBD_CMD_FLAG_NO_HOLE : 0)
    | (req->flags & ORIGIN_FAST ? LIBNBD_CMD_FLAG_FAST_ZERO : 0)
    | (req->flags & ORIGIN_ONE ? LIBNBD_CMD_FLAG_REQ_ONE : 0);
}

static bool
supports (const struct nbdlink *link, const struct origin_req *req)
{
  switch (req->cmd) {
  case ORIGIN_FLUSH: return link->info.can_flush;
  case ORIGIN_TRIM: return link->info.can_trim;
  case ORIGIN_ZERO:
    return link->info.can_zero && (link->info.can_fast_zero || !(req->flags & ORIGIN_FAST));
  case ORIGIN_CACHE: return link->info.can_cache;
  case ORIGIN_STATUS: return link->extents;
  case ORIGIN_READ:
  case ORIGIN_WRITE:
    break;
  }
  return true;
}

static int64_t
issue (struct nbdwire *w, struct origin_req *req)
{
  struct nbd_handle *h = w->link.h;
  nbd_completion_callback done = { .callback = command_done, .user_data = req };
  uint32_t flags = wire_flags (req);

  switch (req->cmd) {
  case ORIGIN_READ:
    if (w->link.structured) {
      nbd_chunk_callback chunk = { .callback = chunk_came, .user_data = req };

      return nbd_aio_pread_structured (h, req->buf, req->len, req->off, chunk, done, flags);
    }
    return nbd_aio_pread (h, req->buf, req->len, req->off, done, flags);
  case ORIGIN_WRITE:
    return nbd_aio_pwrite (h, req->buf, req->len, req->off, done, flags);
  case ORIGIN_FLUSH:
    return nbd_aio_flush (h, done, flags);
  case ORIGIN_TRIM:
    return nbd_aio_trim (h, req->len, req->off, done, flags);
  case ORIGIN_ZERO:
    return nbd_aio_zero (h, req->len, req->off, done, flags);
  case ORIGIN_CACHE:
    return nbd_aio_cache (h, req->len, req->off, done, flags);
  case ORIGIN_STATUS: {
    nbd_extent_callback extent = { .callback = extents_came, .user_data = req };

    return nbd_aio_block_status (h, req->off + req->len - req->status_at, req->status_at, extent,
                                 done, flags);
    }
  }
  return -1;
}

/* No .free is set: who closes the handle knows its requests, and a command that libnbd
 * did not accept is answered by its caller (nbd.L-17).
 */
int
nbdwire_issue (struct nbdwire *w, struct origin_req *req)
{
  int64_t cookie;
  int err;

  if (!supports (&w->link, req))
    return ENOTSUP;
  nbdwire_forget (req);
  req->conn = w;
  sending.req = req;
  sending.ended = false;
  cookie = issue (w, req);
  sending.req = NULL;
  if (cookie != -1) {
    if (sending.ended)
      (void) nbd_aio_command_completed (w->link.h, (uint64_t) cookie);
    return 0;
  }
  err = nbd_get_errno ();
  if (nbd_aio_is_closed (w->link.h) || nbd_aio_is_dead (w->link.h))
    return ENOTCONN;
  /* A disconnect of ours was under way, or strict mode found a mistake of ours
   * (nbd.L-22, nbd.L-25).
   */
  return err == ENOMEM ? ENOMEM : EIO;
}

bool
nbdwire_has_done (struct nbdwire *w)
{
  return atomic_load_explicit (&w->done, memory_order_relaxed) != NULL;
}

struct origin_req *
nbdwire_take_done (struct nbdwire *w)
{
  struct origin_req *req, *next, *oldest = NULL;

  if (!nbdwire_has_done (w))
    return NULL;
  req = atomic_exchange_explicit (&w->done, NULL, memory_order_acquire);
  for (; req != NULL; req = next) {
    next = req->next;
    req->next = oldest;
    oldest = req;
  }
  return oldest;
}

static int
by_start (const void *a, const void *b)
{
  const struct range *x = a, *y = b;

  return x->start < y->start ? -1 : x->start > y->start;
}

static bool
chunks_tile (const struct origin_req *req)
{
  struct chunks *c = req->reply;
  uint64_t at = req->off + req->got;
  size_t i;

  if (req->got == UINT64_MAX)
    return false;
  if (c != NULL) {
    if (c->bad)
      return false;
    qsort (c->v, c->n, sizeof c->v[0], by_start);
    for (i = 0; i < c->n; at = c->v[i].end, i++)
      if (c->v[i].start != at)
        return false;
  }
  return at == req->off + req->len;
}

/* N-50: lengths above 0, and no descriptor begins behind the request. */
static bool
descriptors_make_sense (const struct origin_req *req)
{
  const struct descriptors *d = req->reply;
  uint64_t at = req->status_at, end = req->off + req->len;
  size_t i;

  if (d == NULL || d->bad || d->n < 2 || d->n % 2 != 0)
    return false;
  if ((req->flags & ORIGIN_ONE) && d->n != 2)
    return false;
  for (i = 0; i < d->n; i += 2) {
    if (d->v[i] == 0 || at >= end)
      return false;
    at += d->v[i];
  }
  return true;
}

bool
nbdwire_verify (const struct nbdwire *w, const struct origin_req *req)
{
  if (req->cmd == ORIGIN_READ)
    return !w->link.structured || chunks_tile (req);
  if (req->cmd == ORIGIN_STATUS)
    return descriptors_make_sense (req);
  return true;
}

bool
nbdwire_tell_extents (struct origin_req *req)
{
  const struct descriptors *d = req->reply;
  uint64_t end = req->off + req->len;
  size_t i;

  for (i = 0; i < d->n; i += 2) {
    uint64_t off = req->status_at, len = d->v[i];
    unsigned type = d->v[i + 1] & (ORIGIN_EXTENT_HOLE | ORIGIN_EXTENT_ZERO);

    /* Neighbours of one type are one extent. */
    while (i + 2 < d->n && (d->v[i + 3] & (ORIGIN_EXTENT_HOLE | ORIGIN_EXTENT_ZERO)) == type) {
      i += 2;
      len += d->v[i];
    }
    if (len > end - off)
      len = end - off;
    req->status_at = off + len;
    req->extent (req, off, len, type);
  }
  return req->status_at == end || (req->flags & ORIGIN_ONE);
}

void
nbdwire_forget (struct origin_req *req)
{
  free (req->reply);
  req->reply = NULL;
  req->got = 0;
}
