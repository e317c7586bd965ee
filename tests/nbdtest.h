/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdtest - what the tests of the NBD origin share: a server, a loop, an origin on it,
 * requests that can be waited for, and the news that came.
 *
 * Header only, for cmocka's asserts point to the line that called them.
 */
#ifndef PC_TESTS_NBDTEST_H
#define PC_TESTS_NBDTEST_H

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

#include "clock.h"
#include "evloop.h"
#include "nbdserver.h"
#include "origin-nbd.h"

static struct clock real_clock PC_UNUSED = CLOCK_REAL_INIT;

struct fixture {
  struct nbdserver server;
  struct evloop *loop;
  struct nbdlink_params *params;
  struct origin *origin;
  char *canonical;

  pthread_mutex_t mutex;
  _Atomic int nlost, nfailed;
  uint32_t lost[64];            /* guarded by mutex */
  int failed_err;
  char said[4096];              /* notices, one a line */
};

struct ask {
  struct origin_req req;
  char *buf;
  _Atomic int answered;
  int err;
  int nlost_before;             /* losses told before the answer */
  struct fixture *f;
};

/* How much longer all takes under valgrind: of an origin's patience, and before what is idle counts as that. */
PC_UNUSED static uint64_t
slowness (void)
{
  return getenv ("PC_VALGRIND") ? 20 : 1;
}

/* Until cond holds; a test that waits in vain fails. */
#define WAIT_FOR(cond)                                                        \
  do {                                                                        \
    uint64_t end_ = clock_now (&real_clock) + 60 * NSEC_PER_SEC;              \
                                                                              \
    while (!(cond)) {                                                         \
      if (clock_now (&real_clock) > end_)                                     \
        fail_msg ("waited in vain for %s", #cond);                            \
      poll (NULL, 0, 1);                                                      \
    }                                                                         \
  } while (0)

PC_UNUSED static void
on_lost_ (void *arg, uint32_t carrier)
{
  struct fixture *f = arg;

  pthread_mutex_lock (&f->mutex);
  f->lost[f->nlost % 64] = carrier;
  f->nlost++;
  pthread_mutex_unlock (&f->mutex);
}

PC_UNUSED static void
on_failed_ (void *arg, int err, const char *why)
{
  struct fixture *f = arg;

  (void) why;
  pthread_mutex_lock (&f->mutex);
  f->failed_err = err;
  f->nfailed++;
  pthread_mutex_unlock (&f->mutex);
}

PC_UNUSED static void
on_notice_ (void *arg, int level, const char *line)
{
  struct fixture *f = arg;

  (void) level;
  pthread_mutex_lock (&f->mutex);
  strncat (f->said, line, sizeof f->said - strlen (f->said) - 2);
  strcat (f->said, "\n");
  pthread_mutex_unlock (&f->mutex);
}

/* Have the words been in a notice? */
PC_UNUSED static bool
said (struct fixture *f, const char *words)
{
  bool r;

  pthread_mutex_lock (&f->mutex);
  r = strstr (f->said, words) != NULL;
  pthread_mutex_unlock (&f->mutex);
  return r;
}

/* Parameters for a Unix socket, or (NULL) for a port of this machine; timeouts are the caller's to shorten. */
PC_UNUSED static struct nbdlink_params *
params_at (const char *socket, const char *port)
{
  struct pagecache_origin o = {
    .unix_socket = socket, .hostname = socket != NULL ? NULL : "127.0.0.1", .port = port, .tls_verify = true,
    .timeout_ns = 60 * NSEC_PER_SEC, .reconnect_ns = 60 * NSEC_PER_SEC,
  };
  struct nbdlink_params *params;
  char *why;
  int err = nbdlink_params_create (&o, &params, &why);

  if (err != 0)
    fail_msg ("%s", why != NULL ? why : strerror (err));
  return params;
}

PC_UNUSED static struct nbdlink_params *
params_for (const char *socket)
{
  return params_at (socket, NULL);
}

/* A loop and parameters for some server at the socket. */
PC_UNUSED static void
fixture_init_at (struct fixture *f, const char *socket)
{
  memset (f, 0, sizeof *f);
  pthread_mutex_init (&f->mutex, NULL);
  nbdserver_init (&f->server);
  assert_int_equal (evloop_create (&real_clock, &f->loop), 0);
  assert_int_equal (evloop_start (f->loop), 0);
  f->params = params_for (socket != NULL ? socket : f->server.socket);
}

PC_UNUSED static void
fixture_init (struct fixture *f, const char *args)
{
  fixture_init_at (f, NULL);
  nbdserver_start (&f->server, args);
}

PC_UNUSED static void
fixture_begin (struct fixture *f, const char *name)
{
  struct origin_events events = {
    .lost = on_lost_, .failed = on_failed_, .notice = on_notice_, .arg = f
  };
  char *why;
  int err = origin_nbd_open (f->params, name, -1, f->loop, &f->origin, &f->canonical, &why);

  if (err != 0)
    fail_msg ("%s", why != NULL ? why : strerror (err));
  origin_set_events (f->origin, &events);
}

PC_UNUSED static void
fixture_open (struct fixture *f, const char *args, const char *name)
{
  fixture_init (f, args);
  fixture_begin (f, name);
}

PC_UNUSED static void
fixture_close (struct fixture *f)
{
  origin_close (f->origin);
  evloop_free (f->loop);
  nbdlink_params_free (f->params);
  nbdserver_release (&f->server);
  free (f->canonical);
  pthread_mutex_destroy (&f->mutex);
}

PC_UNUSED static int
command (struct fixture *f, enum origin_cmd cmd, uint64_t off, uint64_t len, void *buf)
{
  struct origin_req req = { .cmd = cmd, .off = off, .len = len, .buf = buf };

  return origin_do (f->origin, &req);
}

/* What write requests of ask_one write at off. */
PC_UNUSED static unsigned char
pattern (uint64_t off)
{
  return off / 512 * 7 + off / 65536 + 1;
}

PC_UNUSED static void
ask_done_ (struct origin_req *req, int err)
{
  struct ask *a = container_of (req, struct ask, req);

  assert (!atomic_load (&a->answered));
  a->err = err;
  a->nlost_before = a->f->nlost;
  atomic_store (&a->answered, 1);
}

PC_UNUSED static struct ask *
asks (size_t n)
{
  struct ask *a = calloc (n, sizeof *a);

  assert_non_null (a);
  return a;
}

PC_UNUSED static void
ask_one (struct fixture *f, struct ask *a, enum origin_cmd cmd, uint64_t off, uint64_t len,
         enum origin_prio prio)
{
  a->f = f;
  a->req.cmd = cmd;
  a->req.prio = prio;
  a->req.off = off;
  a->req.len = len;
  if (a->req.done == NULL)
    a->req.done = ask_done_;
  if (cmd == ORIGIN_READ || cmd == ORIGIN_WRITE) {
    a->buf = malloc (len);
    assert_non_null (a->buf);
    memset (a->buf, cmd == ORIGIN_WRITE ? pattern (off) : 0xee, len);
    a->req.buf = a->buf;
  }
  origin_submit (f->origin, &a->req);
}

/* n reads of 512 bytes from off on. */
PC_UNUSED static void
ask_many (struct fixture *f, struct ask *a, size_t n, uint64_t off, enum origin_prio prio)
{
  size_t i;

  for (i = 0; i < n; i++)
    ask_one (f, &a[i], ORIGIN_READ, off + i * 512, 512, prio);
}

PC_UNUSED static void
ask_wait (struct ask *a)
{
  WAIT_FOR (atomic_load (&a->answered));
}

PC_UNUSED static size_t
asks_pending (struct ask *a, size_t n)
{
  size_t i, pending = 0;

  for (i = 0; i < n; i++)
    pending += !atomic_load (&a[i].answered);
  return pending;
}

/* How many commands in [start, end) have reached the server? */
PC_UNUSED static size_t
came (struct fixture *f, uint64_t start, uint64_t end)
{
  size_t len = 1 << 20, n = 0;
  char *log = malloc (len), *at;

  assert_non_null (log);
  assert_true (nbdserver_say (&f->server, log, len, "log"));
  for (at = log; (at = strstr (at, " off=")) != NULL; at++) {
    uint64_t off = strtoull (at + 5, NULL, 10);

    n += off >= start && off < end;
  }
  free (log);
  return n;
}

PC_UNUSED static void
asks_free (struct ask *a, size_t n)
{
  while (n > 0)
    free (a[--n].buf);
  free (a);
}

/* All have been answered with err; they are freed. */
PC_UNUSED static void
asks_wait (struct ask *a, size_t n, int err)
{
  size_t i;

  for (i = 0; i < n; i++) {
    ask_wait (&a[i]);
    assert_int_equal (a[i].err, err);
  }
  asks_free (a, n);
}

/* Connections to a socket, as the kernel sees them: its far ends carry the name.  One
 * that our side has closed and the server has not counts.
 */
PC_UNUSED static unsigned
connections_to (const char *path)
{
  FILE *fp = fopen ("/proc/net/unix", "r");
  char line[512], where[256];
  unsigned state, n = 0;

  assert_non_null (fp);
  while (fgets (line, sizeof line, fp) != NULL)
    if (sscanf (line, "%*s %*s %*s %*s %*s %x %*s %255s", &state, where) == 2
        && state == 3 && strcmp (where, path) == 0)
      n++;
  fclose (fp);
  return n;
}

PC_UNUSED static unsigned
connections (struct fixture *f)
{
  return connections_to (f->server.socket);
}

PC_UNUSED static void
wait_for_connections (struct fixture *f, unsigned n)
{
  WAIT_FOR (connections (f) == n);
}

struct extents {
  struct origin_req req;
  uint64_t end;
  int n, err;
  unsigned type[256];
  uint64_t len[256];
};

PC_UNUSED static void
on_extent_ (struct origin_req *req, uint64_t off, uint64_t len, unsigned type)
{
  struct extents *e = container_of (req, struct extents, req);

  assert (off == e->end && len > 0);
  if (e->n < 256) {
    e->type[e->n] = type;
    e->len[e->n] = len;
  }
  e->n++;
  e->end += len;
}

PC_UNUSED static void
extents_of (struct fixture *f, struct extents *e, uint64_t off, uint64_t len, unsigned flags)
{
  memset (e, 0, sizeof *e);
  e->end = off;
  e->req = (struct origin_req) {
    .cmd = ORIGIN_STATUS, .off = off, .len = len, .flags = flags, .extent = on_extent_
  };
  e->err = origin_do (f->origin, &e->req);
}

/* Write, read back, zero, trim, cache, flush, FUA. */
PC_UNUSED static void
commands_work (struct fixture *f, char *in, char *out, size_t len)
{
  struct origin_req fua = {
    .cmd = ORIGIN_WRITE, .flags = ORIGIN_FUA, .off = 65536 + 3, .len = len, .buf = in
  };
  struct origin_req zero = {
    .cmd = ORIGIN_ZERO, .flags = ORIGIN_NO_HOLE | ORIGIN_FAST, .off = 4096 + 10, .len = 10
  };
  size_t i;

  for (i = 0; i < len; i++)
    in[i] = i * 13 + 1;
  assert_int_equal (command (f, ORIGIN_WRITE, 4096, len, in), 0);
  memset (out, 0xee, len);
  assert_int_equal (command (f, ORIGIN_READ, 4096, len, out), 0);
  assert_memory_equal (in, out, len);
  assert_int_equal (origin_do (f->origin, &zero), 0);
  assert_int_equal (command (f, ORIGIN_READ, 4096, len, out), 0);
  assert_memory_equal (in, out, 10);
  for (i = 10; i < 20; i++)
    assert_int_equal (out[i], 0);
  assert_memory_equal (in + 20, out + 20, len - 20);
  assert_int_equal (origin_do (f->origin, &fua), 0);
  assert_int_equal (command (f, ORIGIN_READ, 65536 + 3, len, out), 0);
  assert_memory_equal (in, out, len);
  assert_int_equal (command (f, ORIGIN_TRIM, 65536, 8192, NULL), 0);
  assert_int_equal (command (f, ORIGIN_CACHE, 0, 65536, NULL), 0);
  assert_int_equal (command (f, ORIGIN_FLUSH, 0, 0, NULL), 0);
}

#endif /* PC_TESTS_NBDTEST_H */
