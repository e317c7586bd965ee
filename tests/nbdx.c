/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdx - random operations over several NBD connections against a model.
 *
 * Answers: does this server, over any number of connections, ever give a byte
 * that no order of the operations explains, or answer a flush before the
 * origin has what it covers?  (goals.md R1; nbd.T-20, nbd.T-21)
 *
 *   nbdx [OPTIONS] URI|SOCKET
 *
 *   --seed N             default: the environment's PC_SEED, else the clock
 *   --ops N              operations (10000)
 *   --connections N      (8; 1 where the server has no multi-conn)
 *   --depth N            at most so many in flight on each (4)
 *   --size SIZE, --at OFFSET     the window to work in (the whole export)
 *   --atom BYTES         what must be atomic (4096); --torn: nothing is
 *   --max-len BYTES      longest read or write (4 MiB)
 *   --stamped            the export holds what --make-image wrote
 *   --make-image FILE    write such an image (needs --size, --seed) and end
 *   --durable FILE       the origin's durable image: compared after each flush
 *                        reply and each FUA reply, and all of it now and then
 *   --mix KIND=N,...     weights of read write zero trim flush cache status
 *   --allow-errors       errors and lost connections are part of the game
 *   --force-multi-conn   use all connections even without the flag
 *   --timeout SECONDS    without a reply: hung (60)
 *   --export NAME        with a socket
 *   --no-final           leave out flush and whole compare at the end
 *   --check-model        check the model's own invariants now and then
 *
 *   --never-flush-write BYTES [--block BYTES]    pace of writes without flush
 *   --parallel-misses N [--hit-while-miss]       N reads at once
 *
 * Exit status 0: no wrong byte; 1: a wrong byte, an error or a hang, described
 * on standard output with the seed; 2: could not run.  The seed repeats the
 * operations, not the order in which the server's threads take them.
 *
 * Threads  one; libnbd's asynchronous calls and poll (2).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "nbdx.h"
#include "nbdx-stamp.h"

#define MAX_CONNECTIONS 64
#define HOT_SPOTS 16
#define NOTHING 0xa5            /* what a buffer holds before a read */

struct extent {
  uint64_t off, len;
  bool hole, zero;
};

struct request {
  uint32_t op;
  unsigned conn;
  int64_t cookie;
  uint8_t *buf;
  struct extent *extents;
  size_t nextents;
  struct request *next;         /* done, or in flight */
  struct run *run;
};

struct conn {
  struct nbd_handle *nbd;
  unsigned in_flight;
  uint64_t next_seq;            /* where a sequential run goes on */
};

struct run {
  const struct options *opt;
  struct model *m;
  struct conn conns[MAX_CONNECTIONS];
  unsigned nconns;
  unsigned in_flight, target;
  bool barrier;                 /* send nothing until all have answered */
  struct request *done;
  uint64_t rng;
  uint64_t hot[HOT_SPOTS];
  uint64_t issued, completed, counts[OP_KINDS], errors, bytes, flushes;
  uint64_t last_reply_ns;
  uint32_t min_block, max_block;
  bool can[OP_KINDS], can_fua, can_fast;
  const uint8_t *durable;
  bool wrong;
};

void
die (const char *fmt, ...)
{
  va_list args;

  fflush (stdout);
  fprintf (stderr, "nbdx: ");
  va_start (args, fmt);
  vfprintf (stderr, fmt, args);
  va_end (args);
  fprintf (stderr, "\n");
  exit (2);
}

void
nbd_die (const char *what)
{
  die ("%s: %s", what, nbd_get_error ());
}

uint64_t
now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

struct nbd_handle *
nbdx_connect (const struct options *opt, bool may_fail)
{
  struct nbd_handle *nbd = nbd_create ();
  int r;

  if (nbd == NULL)
    nbd_die ("nbd_create");
  /* Poisoned by ourselves: a reply that leaves bytes out shall be seen. */
  nbd_set_pread_initialize (nbd, false);
  nbd_add_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION);
  if (strstr (opt->target, "://"))
    r = nbd_connect_uri (nbd, opt->target);
  else {
    if (opt->export)
      nbd_set_export_name (nbd, opt->export);
    r = nbd_connect_unix (nbd, opt->target);
  }
  if (r == -1) {
    if (!may_fail)
      nbd_die (opt->target);
    nbd_close (nbd);
    return NULL;
  }
  return nbd;
}

/* ---- choosing ---- */

static uint64_t
rnd (struct run *r, uint64_t n)
{
  r->rng += UINT64_C (0x9e3779b97f4a7c15);
  return n ? stamp_mix (r->rng) % n : 0;
}

static uint32_t
choose_len (struct run *r, enum op_kind kind)
{
  uint64_t max = r->m->end - r->m->base, n;

  switch (rnd (r, 20)) {
  case 0: n = 1 + rnd (r, 16); break;
  case 1: n = 1 + rnd (r, 600); break;
  case 2: case 3: n = 512 * (1 + rnd (r, 16)); break;
  case 4: case 5: case 6: case 7: case 8: n = 4096; break;
  case 9: n = 4096 * (1 + rnd (r, 4)) + rnd (r, 3) - 1; break;
  case 10: case 11: case 12: case 13: n = 1 + rnd (r, 16384); break;
  case 14: case 15: case 16: n = 4096 * (1 + rnd (r, 16)); break;
  case 17: case 18: n = 1 + rnd (r, 131072); break;
  default:
    n = rnd (r, 8) ? 65536 * (1 + rnd (r, 4)) : 1 + rnd (r, 4 << 20);
  }
  if ((kind == OP_ZERO || kind == OP_TRIM || kind == OP_STATUS)
      && rnd (r, 8) == 0)
    n *= 1 + rnd (r, 8);
  else if (n > r->opt->max_len)
    n = r->opt->max_len;
  /* A small window shall not be wiped by every tenth operation. */
  if (n > max / 8)
    n = 1 + rnd (r, max / 8);
  if (n > r->max_block)
    n = r->max_block;
  return n ? n : 1;
}

/* An operation that is under way now, to collide with. */
static uint64_t
choose_rival (struct run *r)
{
  const struct model *m = r->m;
  const struct op *o;

  if (m->nin_flight == 0)
    return m->base + rnd (r, m->end - m->base);
  o = &m->ops[m->in_flight[rnd (r, m->nin_flight)]];
  return o->off + rnd (r, o->len + 1);
}

static uint64_t
choose_off (struct run *r, struct conn *c, uint32_t len)
{
  uint64_t base = r->m->base, size = r->m->end - base, off;

  switch (rnd (r, 20)) {
  case 0: case 1: case 2: case 3: case 4:
    off = base + rnd (r, size) / 4096 * 4096;
    break;
  case 5: case 6:
    off = base + rnd (r, size) / 512 * 512;
    break;
  case 7: case 8:
    off = base + rnd (r, size);
    break;
  case 9:
    off = (base + rnd (r, size)) / 4096 * 4096 + 4095 + rnd (r, 3);
    break;
  case 10: case 11:
    off = (base + rnd (r, size) + (1 << 20)) / (1 << 20) * (1 << 20)
      - rnd (r, 8192) / (rnd (r, 2) ? 4096 : 1) * 4096;
    break;
  case 12:
    off = base + size - len - (rnd (r, 2) ? 0 : rnd (r, 8192));
    break;
  case 13: case 14: case 15:
    off = r->hot[rnd (r, HOT_SPOTS)] + rnd (r, 3) * 512;
    break;
  case 16: case 17:
    off = choose_rival (r);
    if (rnd (r, 2))
      off = off / 4096 * 4096;
    break;
  default:
    off = c->next_seq;
  }
  if (off < base || off >= base + size)
    off = base + rnd (r, size);
  return off;
}

static enum op_kind
choose_kind (struct run *r)
{
  uint64_t sum = 0, x;
  int k;

  for (k = 0; k < OP_KINDS; ++k)
    sum += r->opt->weight[k];
  x = rnd (r, sum);
  for (k = 0; x >= r->opt->weight[k]; ++k)
    x -= r->opt->weight[k];
  return r->can[k] ? (enum op_kind) k : OP_READ;
}

/* ---- one request ---- */

static int
on_complete (void *opaque, int *error)
{
  struct request *q = opaque;

  (void) error;
  q->next = q->run->done;
  q->run->done = q;
  return 0;                     /* retired by nbd_aio_command_completed */
}

static int
on_extents (void *opaque, const char *context, uint64_t off,
            uint32_t *entries, size_t n, int *error)
{
  struct request *q = opaque;
  size_t i;

  (void) error;
  if (strcmp (context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
    return 0;
  q->extents = reallocarray (q->extents, q->nextents + n / 2 + 1,
                             sizeof q->extents[0]);
  if (q->extents == NULL)
    die ("out of memory");
  for (i = 0; i + 1 < n; i += 2) {
    q->extents[q->nextents++] = (struct extent) {
      .off = off, .len = entries[i],
      .hole = entries[i + 1] & LIBNBD_STATE_HOLE,
      .zero = entries[i + 1] & LIBNBD_STATE_ZERO,
    };
    off += entries[i];
  }
  return 0;
}

static uint32_t
nbd_flags (unsigned flags)
{
  return (flags & OP_FUA ? LIBNBD_CMD_FLAG_FUA : 0)
    | (flags & OP_NO_HOLE ? LIBNBD_CMD_FLAG_NO_HOLE : 0)
    | (flags & OP_FAST ? LIBNBD_CMD_FLAG_FAST_ZERO : 0);
}

static void
submit (struct run *r, struct request *q)
{
  struct nbd_handle *nbd = r->conns[q->conn].nbd;
  const struct op *o = &r->m->ops[q->op];
  nbd_completion_callback done = { .callback = on_complete, .user_data = q };
  nbd_extent_callback extent = { .callback = on_extents, .user_data = q };

  switch (o->kind) {
  case OP_READ:
    q->cookie = nbd_aio_pread (nbd, q->buf, o->len, o->off, done, 0);
    break;
  case OP_WRITE:
    q->cookie = nbd_aio_pwrite (nbd, q->buf, o->len, o->off, done,
                                nbd_flags (o->flags));
    break;
  case OP_ZERO:
    q->cookie = nbd_aio_zero (nbd, o->len, o->off, done, nbd_flags (o->flags));
    break;
  case OP_TRIM:
    q->cookie = nbd_aio_trim (nbd, o->len, o->off, done, nbd_flags (o->flags));
    break;
  case OP_FLUSH:
    q->cookie = nbd_aio_flush (nbd, done, 0);
    break;
  case OP_CACHE:
    q->cookie = nbd_aio_cache (nbd, o->len, o->off, done, 0);
    break;
  default:
    q->cookie = nbd_aio_block_status (nbd, o->len, o->off, extent, done, 0);
  }
  if (q->cookie == -1 && !r->opt->allow_errors)
    nbd_die ("submit");
}

static void
issue (struct run *r, unsigned conn, enum op_kind kind, uint64_t off,
       uint32_t len, unsigned flags)
{
  struct request *q = calloc (1, sizeof *q);

  if (q == NULL)
    die ("out of memory");
  q->conn = conn;
  q->run = r;
  q->op = model_issue (r->m, kind, conn, off, len, flags);
  if (kind == OP_READ || kind == OP_WRITE) {
    q->buf = malloc (len);
    if (q->buf == NULL)
      die ("out of memory");
    if (kind == OP_READ)
      memset (q->buf, NOTHING, len);
    else
      model_fill (r->m, q->op, q->buf);
    r->bytes += len;
  }
  r->conns[conn].in_flight++;
  r->in_flight++;
  r->counts[kind]++;
  submit (r, q);
  if (q->cookie == -1)          /* refused: it completes here and now */
    on_complete (q, &errno);
}

static void
issue_random (struct run *r)
{
  enum op_kind kind = choose_kind (r);
  unsigned conn = rnd (r, r->nconns), flags = 0;
  struct conn *c;
  uint32_t len;
  uint64_t off;

  while (r->conns[conn].in_flight >= r->opt->depth)
    conn = (conn + 1) % r->nconns;
  c = &r->conns[conn];
  r->issued++;
  if (kind == OP_FLUSH) {
    issue (r, conn, kind, r->m->base, 0, 0);
    return;
  }
  len = choose_len (r, kind);
  off = choose_off (r, c, len);
  if (len > r->m->end - off)
    len = r->m->end - off;
  if (r->min_block > 1) {
    uint64_t end = (off + len + r->min_block - 1) / r->min_block * r->min_block;

    off = off / r->min_block * r->min_block;
    if (end > r->m->end)
      end = r->m->end;
    len = end - off;
  }
  c->next_seq = off + len;
  if (r->can_fua && (kind == OP_WRITE || kind == OP_ZERO || kind == OP_TRIM)
      && rnd (r, 10) == 0)
    flags |= OP_FUA;
  if (kind == OP_ZERO && rnd (r, 2))
    flags |= OP_NO_HOLE;
  if (kind == OP_ZERO && r->can_fast && rnd (r, 3) == 0)
    flags |= OP_FAST;
  issue (r, conn, kind, off, len, flags);
}

/* ---- replies ---- */

static bool
check_extents (struct run *r, const struct request *q)
{
  const struct op o = r->m->ops[q->op];
  uint64_t at = o.off, end = o.off + o.len, len;
  size_t i;

  for (i = 0; i < q->nextents && at < end; ++i) {
    const struct extent *e = &q->extents[i];

    if (e->off != at || e->len == 0) {
      printf ("block status skips or repeats bytes at %" PRIu64 "\n", at);
      return false;
    }
    len = e->len < end - at ? e->len : end - at;
    if (!model_check_status (r->m, q->op, at, len, e->hole, e->zero))
      return false;
    at += e->len;
  }
  if (q->nextents == 0) {
    printf ("block status without an extent, by ");
    model_print_op (r->m, q->op);
  }
  return q->nextents > 0;
}

static bool
check_reply (struct run *r, const struct request *q)
{
  const struct op *o = &r->m->ops[q->op];

  switch (o->kind) {
  case OP_READ:
    return model_check_read (r->m, q->op, q->buf);
  case OP_STATUS:
    return check_extents (r, q);
  case OP_FLUSH:
    r->flushes++;
    return r->durable == NULL
      || model_check_flush (r->m, q->op, r->durable, r->flushes % 64 == 0);
  case OP_WRITE:
  case OP_ZERO:
    return r->durable == NULL || !(o->flags & OP_FUA)
      || model_check_fua (r->m, q->op, r->durable);
  default:
    return true;
  }
}

static void
finish (struct run *r, struct request *q)
{
  struct conn *c = &r->conns[q->conn];
  const struct op *o = &r->m->ops[q->op];
  enum op_state state = OP_OK;
  int e = EINVAL;

  if (q->cookie == -1 || nbd_aio_command_completed (c->nbd, q->cookie) == -1) {
    if (q->cookie != -1)
      e = nbd_get_errno ();
    state = e == ENOTSUP && (o->flags & OP_FAST) ? OP_VOID : OP_FAILED;
  }
  c->in_flight--;
  r->in_flight--;
  r->completed++;
  r->last_reply_ns = now_ns ();
  model_reply (r->m, q->op, state);
  if (state == OP_OK)
    r->wrong |= !check_reply (r, q);
  else if (state == OP_FAILED) {
    r->errors++;
    if (!r->opt->allow_errors) {
      printf ("error %s for ", strerror (e));
      model_print_op (r->m, q->op);
      r->wrong = true;
    }
  }
  free (q->buf);
  free (q->extents);
  free (q);
}

static void
hung (struct run *r)
{
  size_t i;

  printf ("no reply for %u s; in flight are\n", r->opt->timeout);
  for (i = 0; i < r->m->nin_flight; ++i) {
    printf ("  ");
    model_print_op (r->m, r->m->in_flight[i]);
  }
  r->wrong = true;
}

/* A connection that has gone: new ones are tried until the time is up. */
static void
reconnect (struct run *r, unsigned i)
{
  uint64_t give_up = now_ns () + r->opt->timeout * UINT64_C (1000000000);
  struct conn *c = &r->conns[i];

  nbd_close (c->nbd);
  while ((c->nbd = nbdx_connect (r->opt, r->opt->allow_errors)) == NULL) {
    if (now_ns () > give_up)
      nbd_die ("reconnect");
    poll (NULL, 0, 5);
  }
}

static void
poll_once (struct run *r)
{
  struct pollfd fds[MAX_CONNECTIONS];
  struct request *q;
  unsigned i;

  for (i = 0; i < r->nconns; ++i) {
    unsigned dir = nbd_aio_get_direction (r->conns[i].nbd);

    fds[i].fd = nbd_aio_get_fd (r->conns[i].nbd);
    fds[i].events = (dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0)
      | (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
  }
  /* A refused submit has no event of its own. */
  if (poll (fds, r->nconns, r->done ? 0 : 1000) == -1 && errno != EINTR)
    die ("poll: %s", strerror (errno));
  for (i = 0; i < r->nconns; ++i) {
    struct nbd_handle *nbd = r->conns[i].nbd;
    unsigned dir = nbd_aio_get_direction (nbd);

    if ((fds[i].revents & (POLLIN | POLLHUP | POLLERR))
        && (dir & LIBNBD_AIO_DIRECTION_READ))
      nbd_aio_notify_read (nbd);
    else if ((fds[i].revents & POLLOUT) && (dir & LIBNBD_AIO_DIRECTION_WRITE))
      nbd_aio_notify_write (nbd);
  }
  while ((q = r->done) != NULL && !r->wrong) {
    r->done = q->next;
    finish (r, q);
  }
  for (i = 0; i < r->nconns && !r->wrong; ++i)
    if (nbd_aio_is_dead (r->conns[i].nbd)
        || nbd_aio_is_closed (r->conns[i].nbd)) {
      if (!r->opt->allow_errors) {
        printf ("connection %u lost\n", i);
        r->wrong = true;
      }
      else if (r->conns[i].in_flight == 0)
        reconnect (r, i);
    }
  if (!r->wrong && r->in_flight > 0
      && now_ns () - r->last_reply_ns
         > r->opt->timeout * UINT64_C (1000000000))
    hung (r);
}

/* ---- a run ---- */

static void
drain (struct run *r)
{
  while (r->in_flight > 0 && !r->wrong)
    poll_once (r);
}

/* All has been answered: the moment to look at things that need quiet. */
static void
at_barrier (struct run *r)
{
  unsigned i = rnd (r, r->nconns);

  r->barrier = false;
  if (r->opt->check_model)
    model_check (r->m);
  if (rnd (r, 4) == 0) {
    nbd_shutdown (r->conns[i].nbd, 0);
    reconnect (r, i);
  }
}

static void
random_operations (struct run *r)
{
  r->target = 1;
  while (r->issued < r->opt->ops && !r->wrong) {
    if (r->barrier && r->in_flight == 0)
      at_barrier (r);
    while (!r->barrier && r->in_flight < r->target
           && r->issued < r->opt->ops) {
      issue_random (r);
      if (rnd (r, 50) == 0)
        r->target = 1 + rnd (r, r->nconns * r->opt->depth);
      if (rnd (r, 400) == 0)
        r->barrier = true;
    }
    poll_once (r);
  }
  drain (r);
}

/* What everybody agreed on, read once more and compared with the disk. */
static void
final_look (struct run *r)
{
  uint64_t off;
  uint32_t n = 256 * 1024;

  if (r->opt->no_final)
    return;
  if (r->can[OP_FLUSH]) {
    r->flushes = 63;            /* the whole image */
    issue (r, 0, OP_FLUSH, r->m->base, 0, 0);
    drain (r);
  }
  for (off = r->m->base; off < r->m->end && !r->wrong; off += n) {
    /* Parts of a giant that nobody touched are not worth a read. */
    if (r->m->end - r->m->base > UINT64_C (4) << 30)
      break;
    if (n > r->m->end - off)
      n = r->m->end - off;
    while (r->in_flight >= 8 && !r->wrong)
      poll_once (r);
    issue (r, (off / n) % r->nconns, OP_READ, off, n, 0);
  }
  drain (r);
}

static void
ask_abilities (struct run *r)
{
  struct nbd_handle *nbd = r->conns[0].nbd;
  bool rw = nbd_is_read_only (nbd) == 0;
  int64_t n;

  r->can[OP_READ] = true;
  r->can[OP_WRITE] = rw;
  r->can[OP_ZERO] = rw && nbd_can_zero (nbd) > 0;
  r->can[OP_TRIM] = rw && nbd_can_trim (nbd) > 0;
  r->can[OP_FLUSH] = nbd_can_flush (nbd) > 0;
  r->can[OP_CACHE] = nbd_can_cache (nbd) > 0;
  r->can[OP_STATUS] =
    nbd_can_meta_context (nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
  r->can_fua = nbd_can_fua (nbd) > 0;
  r->can_fast = nbd_can_fast_zero (nbd) > 0;
  n = nbd_get_block_size (nbd, LIBNBD_SIZE_MINIMUM);
  r->min_block = n > 1 ? n : 1;
  n = nbd_get_block_size (nbd, LIBNBD_SIZE_MAXIMUM);
  r->max_block = n > 0 && n < 32 << 20 ? n : 32 << 20;
}

static void
map_durable (struct run *r)
{
  int fd = open (r->opt->durable, O_RDONLY | O_CLOEXEC);
  struct stat st;

  if (fd == -1 || fstat (fd, &st) == -1)
    die ("%s: %s", r->opt->durable, strerror (errno));
  if ((uint64_t) st.st_size < r->m->end)
    die ("%s: shorter than the export", r->opt->durable);
  r->durable = mmap (NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
  if (r->durable == MAP_FAILED)
    die ("%s: mmap: %s", r->opt->durable, strerror (errno));
  close (fd);
}

static int
run_model (const struct options *opt)
{
  struct run *r = calloc (1, sizeof *r);
  uint64_t end, began, ns;
  int64_t size;
  unsigned i;

  if (r == NULL)
    die ("out of memory");
  r->opt = opt;
  r->rng = opt->seed;
  r->conns[0].nbd = nbdx_connect (opt, false);
  r->nconns = opt->connections;
  if (r->nconns > 1 && nbd_can_multi_conn (r->conns[0].nbd) <= 0
      && !opt->force_multi_conn) {
    printf ("nbdx: no multi-conn, one connection\n");
    r->nconns = 1;
  }
  for (i = 1; i < r->nconns; ++i)
    r->conns[i].nbd = nbdx_connect (opt, false);
  size = nbd_get_size (r->conns[0].nbd);
  if (size < 0 || opt->at >= (uint64_t) size)
    die ("the export has %" PRId64 " bytes", size);
  end = opt->size && opt->size < size - opt->at ? opt->at + opt->size
    : (uint64_t) size;
  r->m = model_create (opt->seed, opt->at, end, opt->atom);
  r->m->torn = opt->torn;
  r->m->stamped = opt->stamped;
  ask_abilities (r);
  if (opt->durable)
    map_durable (r);
  for (i = 0; i < HOT_SPOTS; ++i)
    r->hot[i] = opt->at + rnd (r, end - opt->at) / 4096 * 4096;

  began = r->last_reply_ns = now_ns ();
  random_operations (r);
  if (!r->wrong)
    final_look (r);
  ns = now_ns () - began;
  if (opt->check_model && !r->wrong)
    model_check (r->m);
  printf ("nbdx: %s seed=%" PRIu64 " ops=%" PRIu64 " read=%" PRIu64
          " write=%" PRIu64 " zero=%" PRIu64 " trim=%" PRIu64 " flush=%" PRIu64
          " cache=%" PRIu64 " status=%" PRIu64 " errors=%" PRIu64
          " MiB=%" PRIu64 " durable-MiB=%" PRIu64 " seconds=%.2f ops/s=%.0f\n",
          r->wrong ? "WRONG" : "ok", opt->seed, r->completed,
          r->counts[OP_READ], r->counts[OP_WRITE], r->counts[OP_ZERO],
          r->counts[OP_TRIM], r->counts[OP_FLUSH], r->counts[OP_CACHE],
          r->counts[OP_STATUS], r->errors, r->bytes >> 20,
          r->m->compared >> 20, ns / 1e9, r->completed / (ns / 1e9));
  if (r->wrong)
    return 1;                   /* requests may be under way: leave it to exit */
  for (i = 0; i < r->nconns; ++i) {
    nbd_shutdown (r->conns[i].nbd, 0);
    nbd_close (r->conns[i].nbd);
  }
  model_free (r->m);
  free (r);
  return 0;
}

static int
make_image (const struct options *opt)
{
  struct model *m = model_create (opt->seed, 0, opt->size, opt->atom);
  int fd = open (opt->make_image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  uint8_t *p;

  if (fd == -1 || ftruncate (fd, opt->size) == -1)
    die ("%s: %s", opt->make_image, strerror (errno));
  p = mmap (NULL, opt->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (p == MAP_FAILED)
    die ("%s: mmap: %s", opt->make_image, strerror (errno));
  stamp_fill (m->key, 0, 0, p, opt->size);
  munmap (p, opt->size);
  close (fd);
  model_free (m);
  return 0;
}

/* ---- options ---- */

static uint64_t
parse_size (const char *name, const char *s)
{
  static const char units[] = "KMGTP";
  char *end;
  const char *u;
  uint64_t n = strtoull (s, &end, 0);

  if (*end && (u = strchr (units, *end)) != NULL) {
    n <<= 10 * (u - units + 1);
    end++;
  }
  if (end == s || *end)
    die ("--%s %s: not a number", name, s);
  return n;
}

static void
parse_mix (struct options *opt, char *s)
{
  static const char *const names[OP_KINDS] = {
    "", "read", "write", "zero", "trim", "flush", "cache", "status",
  };
  char *save = NULL, *w, *eq;
  int k;

  for (w = strtok_r (s, ",", &save); w; w = strtok_r (NULL, ",", &save)) {
    eq = strchr (w, '=');
    if (eq)
      *eq = '\0';
    for (k = 1; k < OP_KINDS && strcmp (w, names[k]) != 0; ++k)
      ;
    if (k == OP_KINDS || eq == NULL)
      die ("--mix %s: not KIND=N", w);
    opt->weight[k] = parse_size ("mix", eq + 1);
  }
}

enum {
  O_SEED = 1, O_OPS, O_CONNECTIONS, O_DEPTH, O_SIZE, O_AT, O_ATOM, O_TORN,
  O_MAX_LEN, O_STAMPED, O_MAKE_IMAGE, O_DURABLE, O_MIX, O_ALLOW_ERRORS,
  O_FORCE, O_TIMEOUT, O_EXPORT, O_NO_FINAL, O_CHECK_MODEL, O_NEVER_FLUSH,
  O_BLOCK, O_MISSES, O_HIT,
};

static const struct option long_options[] = {
  { "seed", 1, NULL, O_SEED }, { "ops", 1, NULL, O_OPS },
  { "connections", 1, NULL, O_CONNECTIONS }, { "depth", 1, NULL, O_DEPTH },
  { "size", 1, NULL, O_SIZE }, { "at", 1, NULL, O_AT },
  { "atom", 1, NULL, O_ATOM }, { "torn", 0, NULL, O_TORN },
  { "max-len", 1, NULL, O_MAX_LEN }, { "stamped", 0, NULL, O_STAMPED },
  { "make-image", 1, NULL, O_MAKE_IMAGE }, { "durable", 1, NULL, O_DURABLE },
  { "mix", 1, NULL, O_MIX }, { "allow-errors", 0, NULL, O_ALLOW_ERRORS },
  { "force-multi-conn", 0, NULL, O_FORCE }, { "timeout", 1, NULL, O_TIMEOUT },
  { "export", 1, NULL, O_EXPORT }, { "no-final", 0, NULL, O_NO_FINAL },
  { "check-model", 0, NULL, O_CHECK_MODEL },
  { "never-flush-write", 1, NULL, O_NEVER_FLUSH },
  { "block", 1, NULL, O_BLOCK }, { "parallel-misses", 1, NULL, O_MISSES },
  { "hit-while-miss", 0, NULL, O_HIT },
  { NULL, 0, NULL, 0 },
};

static void
set_option (struct options *opt, int o, char *arg)
{
  switch (o) {
  case O_SEED: opt->seed = parse_size ("seed", arg); break;
  case O_OPS: opt->ops = parse_size ("ops", arg); break;
  case O_CONNECTIONS: opt->connections = parse_size ("connections", arg); break;
  case O_DEPTH: opt->depth = parse_size ("depth", arg); break;
  case O_SIZE: opt->size = parse_size ("size", arg); break;
  case O_AT: opt->at = parse_size ("at", arg); break;
  case O_ATOM: opt->atom = parse_size ("atom", arg); break;
  case O_TORN: opt->torn = true; break;
  case O_MAX_LEN: opt->max_len = parse_size ("max-len", arg); break;
  case O_STAMPED: opt->stamped = true; break;
  case O_MAKE_IMAGE: opt->make_image = arg; break;
  case O_DURABLE: opt->durable = arg; break;
  case O_MIX: parse_mix (opt, arg); break;
  case O_ALLOW_ERRORS: opt->allow_errors = true; break;
  case O_FORCE: opt->force_multi_conn = true; break;
  case O_TIMEOUT: opt->timeout = parse_size ("timeout", arg); break;
  case O_EXPORT: opt->export = arg; break;
  case O_NO_FINAL: opt->no_final = true; break;
  case O_CHECK_MODEL: opt->check_model = true; break;
  case O_NEVER_FLUSH: opt->never_flush = parse_size ("never-flush-write", arg);
    break;
  case O_BLOCK: opt->block = parse_size ("block", arg); break;
  case O_MISSES: opt->misses = parse_size ("parallel-misses", arg); break;
  case O_HIT: opt->hit_while_miss = true; break;
  default: exit (2);
  }
}

int
main (int argc, char *argv[])
{
  struct options opt = {
    .ops = 10000, .connections = 8, .depth = 4, .atom = 4096,
    .max_len = 4 << 20, .timeout = 60, .block = 256 << 10,
    .weight = {
      [OP_READ] = 40, [OP_WRITE] = 34, [OP_ZERO] = 6, [OP_TRIM] = 5,
      [OP_FLUSH] = 3, [OP_CACHE] = 3, [OP_STATUS] = 5,
    },
  };
  const char *seed = getenv ("PC_SEED");
  int o;

  opt.seed = seed ? parse_size ("seed", seed) : now_ns () % 1000000000;
  while ((o = getopt_long (argc, argv, "", long_options, NULL)) != -1)
    set_option (&opt, o, optarg);
  if (opt.connections == 0 || opt.connections > MAX_CONNECTIONS
      || opt.depth == 0)
    die ("--connections: 1..%d, --depth: at least 1", MAX_CONNECTIONS);
  if (opt.atom < 512 || opt.atom > MODEL_ATOM_MAX || (opt.atom & (opt.atom - 1)) || opt.at % opt.atom)
    die ("--atom: a power of two from 512 to 65536, and --at a multiple of it");
  if (opt.make_image)
    return make_image (&opt);
  if (optind + 1 != argc)
    die ("one URI or socket is needed");
  opt.target = argv[optind];
  /* Buffers of megabytes come and go; each as its own mapping is slow. */
  mallopt (M_MMAP_THRESHOLD, 128 << 20);
  mallopt (M_TRIM_THRESHOLD, 256 << 20);
  setvbuf (stdout, NULL, _IOLBF, 0);
  if (opt.never_flush)
    return run_never_flush (&opt);
  if (opt.misses)
    return run_misses (&opt);
  return run_model (&opt);
}
