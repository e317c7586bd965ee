/* SPDX-License-Identifier: BSD-3-Clause
 *
 * origin-mem - an origin in memory for tests: doors, delays, errors, a log.
 *
 * Two images: `image` is what reads see, `durable` what survives a crash.  A write
 * goes to the first and is remembered in `unsynced`; a flush on the connection that
 * carried it copies it to the second.  What a lost connection carried and did not
 * flush is forgotten as a claim: no later flush makes it durable (4.3).
 *
 * It is a strict judge of its caller and aborts where a real origin would silently
 * be right or wrong by luck:
 *   (1) the bytes of a WRITE do not change between submit and done() (D5)
 *   (2) no two write-like requests under way overlap (N-21, D5)
 *   (3) a request and an origin that is closed have nothing to do with each other
 *
 * Locks    one, of rank ORIGIN, over everything below; done(), extent() and events
 *          are called without it.
 * Order    requests released together are carried out and answered in the order of
 *          their arrival, by the thread that releases them.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "compiler.h"
#include "lock.h"
#include "origin-mem.h"

#define NR_CMD (ORIGIN_STATUS + 1)

/* Extents of block status are found with this grain. */
#define GRAIN ((uint64_t) 4096)

/* Bytes that were written and are not durable. */
struct unsynced {
  uint64_t off, len;
};

struct fault {
  int err;
  unsigned skip, count;
};

struct origin_mem {
  struct origin base;
  struct lock lock;

  /* Guarded by lock. */
  uint8_t *image, *durable;
  struct unsynced *unsynced;
  size_t nunsynced, max_unsynced;
  struct list held;             /* by arrival, every command */
  size_t nheld[NR_CMD];
  bool closed[NR_CMD];          /* doors */
  bool away;
  bool losing;                  /* lost() is being told; everything is held */
  unsigned answering;           /* done() calls under way, of any thread */
  uint32_t carrier;             /* the connection of now */
  struct fault fault[NR_CMD];
  struct origin_mem_log *log;
  size_t nlog, max_log;
  int64_t log_base;             /* a request's number is log_base + its index */
  pthread_cond_t arrived;       /* nheld grew, or answering became 0 */
};

static const struct origin_ops ops;

static struct origin_mem *
origin_mem_of (struct origin *o)
{
  assert (o->ops == &ops);
  return container_of (o, struct origin_mem, base);
}

static bool
is_write_like (const struct origin_req *req)
{
  return req->cmd == ORIGIN_WRITE || req->cmd == ORIGIN_TRIM || req->cmd == ORIGIN_ZERO;
}

/* Memory for one more element.  A test that runs out of it has nothing to say. */
static void *
grow (void *v, size_t n, size_t *max, size_t size)
{
  if (n < *max)
    return v;
  *max = *max == 0 ? 64 : 2 * *max;
  v = realloc (v, *max * size);
  assert (v != NULL);
  return v;
}

static void
note_unsynced_locked (struct origin_mem *m, uint64_t off, uint64_t len)
{
  struct unsynced *last = m->nunsynced > 0 ? &m->unsynced[m->nunsynced - 1] : NULL;

  if (last != NULL && last->off + last->len == off) {
    last->len += len;
    return;
  }
  m->unsynced = grow (m->unsynced, m->nunsynced, &m->max_unsynced, sizeof *m->unsynced);
  m->unsynced[m->nunsynced++] = (struct unsynced) { off, len };
}

static void
sync_locked (struct origin_mem *m)
{
  size_t i;

  for (i = 0; i < m->nunsynced; i++) {
    struct unsynced *u = &m->unsynced[i];

    memcpy (m->durable + u->off, m->image + u->off, u->len);
  }
  m->nunsynced = 0;
}

/* The effect of a write-like request on the images. */
static void
apply_locked (struct origin_mem *m, struct origin_req *req)
{
  uint8_t *at = m->image + req->off;

  if (req->cmd == ORIGIN_WRITE) {
    /* Taken at submit, see submit (). */
    assert (XXH3_64bits (req->buf, req->len) == req->at_ns);
    memcpy (at, req->buf, req->len);
  }
  else
    memset (at, 0, req->len);

  if (req->flags & ORIGIN_FUA)
    memcpy (m->durable + req->off, at, req->len);
  else
    note_unsynced_locked (m, req->off, req->len);
}

static bool
supports (const struct origin_info *info, const struct origin_req *req)
{
  switch (req->cmd) {
  case ORIGIN_FLUSH: return info->can_flush;
  case ORIGIN_TRIM: return info->can_trim;
  case ORIGIN_ZERO: return info->can_zero;
  case ORIGIN_CACHE: return info->can_cache;
  case ORIGIN_STATUS: return info->can_extents;
  case ORIGIN_READ:
  case ORIGIN_WRITE:
    break;
  }
  return true;
}

/* Has the caller planned a failure for this one? */
static int
planned_error_locked (struct origin_mem *m, enum origin_cmd cmd)
{
  struct fault *f = &m->fault[cmd];

  if (f->count == 0)
    return 0;
  if (f->skip > 0) {
    f->skip--;
    return 0;
  }
  f->count--;
  return f->err;
}

/* Carry req out, unless err says how it fails. */
static int
carry_out_locked (struct origin_mem *m, struct origin_req *req, int err)
{
  if (req->cmd == ORIGIN_WRITE)
    assert (XXH3_64bits (req->buf, req->len) == req->at_ns);
  if (err == 0 && !supports (&m->base.info, req))
    err = ENOTSUP;
  if (req->cmd == ORIGIN_WRITE || req->cmd == ORIGIN_TRIM || req->cmd == ORIGIN_ZERO)
    req->carrier = m->carrier;
  if (err == 0)
    err = planned_error_locked (m, req->cmd);
  if (err != 0)
    return err;

  switch (req->cmd) {
  case ORIGIN_READ:
    memcpy (req->buf, m->image + req->off, req->len);
    break;
  case ORIGIN_WRITE:
  case ORIGIN_TRIM:
  case ORIGIN_ZERO:
    apply_locked (m, req);
    break;
  case ORIGIN_FLUSH:
    if (req->carrier != 0 && req->carrier != m->carrier)
      return ENOTCONN;
    sync_locked (m);
    break;
  case ORIGIN_CACHE:
  case ORIGIN_STATUS:           /* see tell_extents () */
    break;
  }
  return 0;
}

static unsigned
grain_type_locked (struct origin_mem *m, uint64_t off, uint64_t end)
{
  for (; off < end; off++)
    if (m->image[off] != 0)
      return 0;
  return ORIGIN_EXTENT_HOLE | ORIGIN_EXTENT_ZERO;
}

struct extent {
  uint64_t off, len;
  unsigned type;
};

/* What lies from `at` on, up to end. */
static struct extent
extent_at_locked (struct origin_mem *m, uint64_t at, uint64_t end)
{
  struct extent e = { at, 0, 0 };

  while (at < end) {
    uint64_t next = (at | (GRAIN - 1)) + 1;
    unsigned t;

    if (next > end)
      next = end;
    t = grain_type_locked (m, at, next);
    if (at == e.off)
      e.type = t;
    else if (t != e.type)
      break;
    at = next;
  }
  e.len = at - e.off;
  return e;
}

/* A question that is held may be one that the server looked at when it came, whatever was written since: every other
 * one is.  The list ends with a length of 0.
 */
static void
look_at_extents_locked (struct origin_mem *m, struct origin_req *req)
{
  uint64_t at = req->off, end = req->off + req->len;
  struct extent *v = NULL;
  size_t n = 0, max = 0;

  if (req->cookie % 2 == 0)
    return;
  do {
    v = grow (v, n, &max, sizeof *v);
    v[n] = extent_at_locked (m, at, end);
    at += v[n].len;
  } while (v[n++].len > 0);
  req->reply = v;
}

static void
forget_extents (struct origin_req *req)
{
  if (req->cmd != ORIGIN_STATUS)
    return;
  free (req->reply);
  req->reply = NULL;
}

/* One extent at a time, so that extent() is called with no lock held. */
static void
tell_extents (struct origin_mem *m, struct origin_req *req)
{
  uint64_t at = req->off, end = req->off + req->len;
  struct extent *v = req->reply, e;
  size_t i = 0;

  while (at < end) {
    if (v)
      e = v[i++];
    else {
      lock_take (&m->lock);
      e = extent_at_locked (m, at, end);
      lock_drop (&m->lock);
    }
    req->extent (req, e.off, e.len, e.type);
    at += e.len;
    if (req->flags & ORIGIN_ONE)
      break;
  }
}

/* req is out of every list and belongs to the caller after this.  m->answering counts it already. */
static void
answer (struct origin_mem *m, struct origin_req *req, int err)
{
  if (req->cmd == ORIGIN_STATUS && err == 0)
    tell_extents (m, req);
  forget_extents (req);
  lock_assert_none_held ();
  req->done (req, err);
  lock_take (&m->lock);
  if (--m->answering == 0)
    pthread_cond_broadcast (&m->arrived);
  lock_drop (&m->lock);
}

static bool
must_wait_locked (const struct origin_mem *m, enum origin_cmd cmd)
{
  return m->closed[cmd] || m->away || m->losing;
}

static void
check_overlap_locked (struct origin_mem *m, struct origin_req *req)
{
  struct list_node *node;

  list_for_each (node, &m->held) {
    struct origin_req *other = container_of (node, struct origin_req, node);

    /* (2): the server may carry them out in any order. */
    assert (!is_write_like (other)
            || req->off >= other->off + other->len || other->off >= req->off + req->len);
  }
}

static void
log_answer_locked (struct origin_mem *m, struct origin_req *req, int err)
{
  /* The log may have been cleared since. */
  if (req->cookie >= m->log_base)
    m->log[req->cookie - m->log_base].err = err;
}

static void
unhold_locked (struct origin_mem *m, struct origin_req *req)
{
  list_remove (&req->node);
  m->nheld[req->cmd]--;
}

static void
mem_submit (struct origin *o, struct origin_req *req)
{
  struct origin_mem *m = origin_mem_of (o);
  int err;

  /* The field for deadlines, which nothing here has, keeps the checksum of (1). */
  if (req->cmd == ORIGIN_WRITE)
    req->at_ns = XXH3_64bits (req->buf, req->len);

  lock_take (&m->lock);
  if (is_write_like (req))
    check_overlap_locked (m, req);
  m->log = grow (m->log, m->nlog, &m->max_log, sizeof *m->log);
  m->log[m->nlog] = (struct origin_mem_log) { req->cmd, req->flags, req->off, req->len, -1 };
  req->cookie = m->log_base + m->nlog++;

  req->reply = NULL;
  if (must_wait_locked (m, req->cmd)) {
    if (req->cmd == ORIGIN_STATUS)
      look_at_extents_locked (m, req);
    list_push_back (&m->held, &req->node);
    m->nheld[req->cmd]++;
    pthread_cond_broadcast (&m->arrived);
    lock_drop (&m->lock);
    return;
  }
  err = carry_out_locked (m, req, 0);
  log_answer_locked (m, req, err);
  m->answering++;
  lock_drop (&m->lock);
  answer (m, req, err);
}

/* The first held request that no door holds back any more. */
static struct origin_req *
next_free_locked (struct origin_mem *m)
{
  struct list_node *node;

  list_for_each (node, &m->held) {
    struct origin_req *req = container_of (node, struct origin_req, node);

    if (!must_wait_locked (m, req->cmd))
      return req;
  }
  return NULL;
}

/* Let out what may go, one by one: an answer may bring new requests or shut a door. */
static void
let_out (struct origin_mem *m)
{
  struct origin_req *req;
  int err;

  for (;;) {
    lock_take (&m->lock);
    req = next_free_locked (m);
    if (req == NULL)
      break;
    unhold_locked (m, req);
    err = carry_out_locked (m, req, 0);
    log_answer_locked (m, req, err);
    m->answering++;
    lock_drop (&m->lock);
    answer (m, req, err);
  }
  lock_drop (&m->lock);
}

int
origin_mem_create (const struct origin_info *info, struct origin **ret)
{
  struct origin_mem *m;

  m = calloc (1, sizeof *m);
  if (m == NULL)
    return ENOMEM;
  m->image = calloc (1, info->size + 1);
  m->durable = calloc (1, info->size + 1);
  if (m->image == NULL || m->durable == NULL) {
    free (m->image);
    free (m->durable);
    free (m);
    return ENOMEM;
  }
  m->base.ops = &ops;
  m->base.info = *info;
  if (m->base.info.block_min == 0)
    m->base.info.block_min = 1;
  if (m->base.info.block_pref == 0)
    m->base.info.block_pref = 4096;
  if (m->base.info.block_max == 0)
    m->base.info.block_max = 32 << 20;
  strcpy (m->base.name, "mem");
  lock_init (&m->lock, RANK_ORIGIN);
  list_init (&m->held);
  m->carrier = 1;
  pthread_cond_init (&m->arrived, NULL);
  *ret = &m->base;
  return 0;
}

static void
mem_close (struct origin *o)
{
  struct origin_mem *m = origin_mem_of (o);

  assert (list_is_empty (&m->held));    /* (3) */
  lock_take (&m->lock);
  while (m->answering > 0)
    pthread_cond_wait (&m->arrived, &m->lock.mutex);
  lock_drop (&m->lock);
  pthread_cond_destroy (&m->arrived);
  lock_release (&m->lock);
  free (m->log);
  free (m->unsynced);
  free (m->image);
  free (m->durable);
  free (m);
}

static unsigned
mem_depth (struct origin *o)
{
  (void) o;
  return 64;
}

static bool
mem_is_up (struct origin *o)
{
  struct origin_mem *m = origin_mem_of (o);
  bool up;

  lock_take (&m->lock);
  up = !m->away;
  lock_drop (&m->lock);
  return up;
}

static void
mem_get_stats (struct origin *o, struct origin_stats *stats)
{
  struct origin_mem *m = origin_mem_of (o);

  lock_take (&m->lock);
  stats->reconnects = m->carrier - 1;
  lock_drop (&m->lock);
}

static const struct origin_ops ops = {
  .name = "mem",
  .submit = mem_submit,
  .depth = mem_depth,
  .is_up = mem_is_up,
  .get_stats = mem_get_stats,
  .close = mem_close,
};

uint8_t *
origin_mem_volatile (struct origin *o)
{
  return origin_mem_of (o)->image;
}

uint8_t *
origin_mem_durable (struct origin *o)
{
  return origin_mem_of (o)->durable;
}

/* cmd == NR_CMD: every door. */
static void
set_doors (struct origin_mem *m, unsigned cmd, bool closed)
{
  unsigned i;

  lock_take (&m->lock);
  for (i = 0; i < NR_CMD; i++)
    if (cmd == i || cmd == NR_CMD)
      m->closed[i] = closed;
  lock_drop (&m->lock);
  if (!closed)
    let_out (m);
}

void
origin_mem_close_door (struct origin *o, enum origin_cmd cmd)
{
  set_doors (origin_mem_of (o), cmd, true);
}

void
origin_mem_open_door (struct origin *o, enum origin_cmd cmd)
{
  set_doors (origin_mem_of (o), cmd, false);
}

void
origin_mem_close_all (struct origin *o)
{
  set_doors (origin_mem_of (o), NR_CMD, true);
}

void
origin_mem_open_all (struct origin *o)
{
  set_doors (origin_mem_of (o), NR_CMD, false);
}

size_t
origin_mem_held (struct origin *o, enum origin_cmd cmd)
{
  struct origin_mem *m = origin_mem_of (o);
  size_t n;

  lock_take (&m->lock);
  n = m->nheld[cmd];
  lock_drop (&m->lock);
  return n;
}

void
origin_mem_wait_held (struct origin *o, enum origin_cmd cmd, size_t n)
{
  struct origin_mem *m = origin_mem_of (o);

  lock_take (&m->lock);
  while (m->nheld[cmd] < n)
    pthread_cond_wait (&m->arrived, &m->lock.mutex);
  lock_drop (&m->lock);
}

size_t
origin_mem_held_total (struct origin *o)
{
  struct origin_mem *m = origin_mem_of (o);
  size_t n;

  lock_take (&m->lock);
  n = list_count (&m->held);
  lock_drop (&m->lock);
  return n;
}

int
origin_mem_release_nth (struct origin *o, size_t i, int err)
{
  struct origin_mem *m = origin_mem_of (o);
  struct origin_req *req;
  struct list_node *node;

  lock_take (&m->lock);
  for (node = list_first (&m->held); node != NULL && i > 0; i--)
    node = list_next (&m->held, node);
  if (node == NULL) {
    lock_drop (&m->lock);
    return ENOENT;
  }
  req = container_of (node, struct origin_req, node);
  unhold_locked (m, req);
  err = carry_out_locked (m, req, err);
  log_answer_locked (m, req, err);
  m->answering++;
  lock_drop (&m->lock);
  answer (m, req, err);
  return 0;
}

void
origin_mem_fail (struct origin *o, enum origin_cmd cmd, int err, unsigned skip, unsigned count)
{
  struct origin_mem *m = origin_mem_of (o);

  lock_take (&m->lock);
  m->fault[cmd] = (struct fault) { err, skip, count };
  lock_drop (&m->lock);
}

void
origin_mem_lose (struct origin *o, bool apply, bool forget)
{
  struct origin_mem *m = origin_mem_of (o);
  struct list_node *node, *next;
  struct list dead;
  uint32_t old;

  list_init (&dead);
  lock_take (&m->lock);
  assert (!m->losing);
  m->losing = true;
  /* News of a connection come in order with its answers (origin.h): those that other threads are giving just now come
   * first.
   */
  while (m->answering > 0)
    pthread_cond_wait (&m->arrived, &m->lock.mutex);
  list_for_each_safe (node, next, &m->held) {
    struct origin_req *req = container_of (node, struct origin_req, node);

    forget_extents (req);        /* sent again, looked at again */
    if (!is_write_like (req) && req->cmd != ORIGIN_FLUSH)
      continue;
    unhold_locked (m, req);
    if (req->cmd == ORIGIN_WRITE)
      assert (XXH3_64bits (req->buf, req->len) == req->at_ns);
    if (apply && is_write_like (req))
      apply_locked (m, req);
    log_answer_locked (m, req, ENOTCONN);
    list_push_back (&dead, &req->node);
    m->answering++;
  }
  m->nunsynced = 0;
  if (forget)
    memcpy (m->image, m->durable, m->base.info.size);
  old = m->carrier++;
  lock_drop (&m->lock);

  origin_tell_lost (&m->base, old);
  while ((node = list_pop_front (&dead)) != NULL)
    answer (m, container_of (node, struct origin_req, node), ENOTCONN);

  lock_take (&m->lock);
  m->losing = false;
  lock_drop (&m->lock);
  let_out (m);
}

void
origin_mem_away (struct origin *o, bool away)
{
  struct origin_mem *m = origin_mem_of (o);

  lock_take (&m->lock);
  m->away = away;
  lock_drop (&m->lock);
  if (!away)
    let_out (m);
}

size_t
origin_mem_log_len (struct origin *o)
{
  struct origin_mem *m = origin_mem_of (o);
  size_t n;

  lock_take (&m->lock);
  n = m->nlog;
  lock_drop (&m->lock);
  return n;
}

struct origin_mem_log
origin_mem_log_at (struct origin *o, size_t i)
{
  struct origin_mem *m = origin_mem_of (o);
  struct origin_mem_log entry;

  lock_take (&m->lock);
  assert (i < m->nlog);
  entry = m->log[i];
  lock_drop (&m->lock);
  return entry;
}

size_t
origin_mem_count (struct origin *o, enum origin_cmd cmd)
{
  struct origin_mem *m = origin_mem_of (o);
  size_t i, n = 0;

  lock_take (&m->lock);
  for (i = 0; i < m->nlog; i++)
    n += m->log[i].cmd == cmd;
  lock_drop (&m->lock);
  return n;
}

void
origin_mem_log_clear (struct origin *o)
{
  struct origin_mem *m = origin_mem_of (o);

  lock_take (&m->lock);
  m->log_base += m->nlog;
  m->nlog = 0;
  lock_drop (&m->lock);
}
