/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of the NBD origin whose server is killed, stops, and comes back, perhaps as
 * something else.
 */
#include "test.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <libnbd.h>

#include "nbdtest.h"

#define M (UINT64_C (1024) * 1024)
#define MSEC (slowness () * NSEC_PER_MSEC)

static void
restart (struct fixture *f, const char *args)
{
  nbdserver_stop (&f->server, SIGKILL);
  nbdserver_start (&f->server, args);
}

TEST (reads_under_way_when_the_server_dies_are_answered_by_the_next)
{
  struct fixture f;
  struct ask *a = asks (100);
  struct origin_stats stats;

  fixture_open (&f, "size=1M multiconn=no", NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close read"));
  ask_many (&f, a, 100, 0, ORIGIN_PRIO_DEMAND);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait read 16"));
  restart (&f, "size=1M multiconn=no");
  asks_wait (a, 100, 0);
  assert_int_equal (f.nlost, 1);
  origin_get_stats (f.origin, &stats);
  assert_int_equal (stats.reconnects, 1);
  assert_true (said (&f, "connection lost"));
  assert_true (said (&f, "connected again"));
  fixture_close (&f);
}

TEST (block_status_and_cache_under_way_are_sent_again_too)
{
  struct fixture f;
  struct ask *a = asks (1);
  struct extents e;

  fixture_open (&f, "size=1M multiconn=no", NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close cache"));
  ask_one (&f, a, ORIGIN_CACHE, 0, 4096, ORIGIN_PRIO_READAHEAD);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait cache 1"));
  restart (&f, "size=1M multiconn=no");
  asks_wait (a, 1, 0);
  extents_of (&f, &e, 0, M, 0);
  assert_int_equal (e.err, 0);
  assert_int_equal (e.end, M);
  fixture_close (&f);
}

TEST (writes_under_way_are_answered_enotconn_after_the_loss_was_told)
{
  struct fixture f;
  struct ask *a = asks (40);
  struct origin_req before = { .cmd = ORIGIN_WRITE, .off = M - 512, .len = 512 };
  struct origin_req flush = { .cmd = ORIGIN_FLUSH };
  char buf[512] = { 1 };
  unsigned i, nlost = 0;

  fixture_open (&f, "size=1M multiconn=no -t16", NULL);
  before.buf = buf;
  assert_int_equal (origin_do (f.origin, &before), 0);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close write"));
  for (i = 0; i < 40; i++)
    ask_one (&f, &a[i], ORIGIN_WRITE, i * 512, 512, ORIGIN_PRIO_DEMAND);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait write 16"));
  restart (&f, "size=1M multiconn=no -t16");
  for (i = 0; i < 40; i++) {
    ask_wait (&a[i]);
    assert_int_equal (a[i].err, ENOTCONN);
    nlost += a[i].nlost_before;
  }
  assert_int_equal (nlost, 40);
  asks_free (a, 40);
  assert_int_equal (f.lost[0], before.carrier);

  /* The write that was answered can only be flushed where it went. */
  flush.carrier = before.carrier;
  assert_int_equal (origin_do (f.origin, &flush), ENOTCONN);
  assert_int_equal (origin_do (f.origin, &before), 0);
  assert_true (before.carrier != flush.carrier);
  flush.carrier = before.carrier;
  assert_int_equal (origin_do (f.origin, &flush), 0);
  fixture_close (&f);
}

TEST (a_flush_under_way_is_answered_enotconn)
{
  struct fixture f;
  struct ask *w = asks (1), *a = asks (3);
  unsigned i;

  fixture_open (&f, "size=1M multiconn=no", NULL);
  ask_one (&f, w, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  ask_wait (w);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close flush"));
  for (i = 0; i < 3; i++) {
    a[i].req.carrier = i < 2 ? w->req.carrier : 0;
    ask_one (&f, &a[i], ORIGIN_FLUSH, 0, 0, ORIGIN_PRIO_DEMAND);
  }
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait flush 3"));
  restart (&f, "size=1M multiconn=no");
  for (i = 0; i < 3; i++) {
    ask_wait (&a[i]);
    assert_int_equal (a[i].err, i < 2 ? ENOTCONN : 0);
  }
  asks_free (w, 1);
  asks_free (a, 3);
  fixture_close (&f);
}

TEST (what_was_never_sent_waits_for_the_next_connection)
{
  struct fixture f;
  struct ask *first = asks (64), *a = asks (10);
  unsigned i;

  fixture_open (&f, "size=1M multiconn=no -t100", NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close all"));
  ask_many (&f, first, 64, 0, ORIGIN_PRIO_DEMAND);
  for (i = 0; i < 10; i++)
    ask_one (&f, &a[i], ORIGIN_WRITE, i * 512, 512, ORIGIN_PRIO_WRITEBACK);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait read 64"));
  restart (&f, "size=1M multiconn=no");
  asks_wait (first, 64, 0);
  asks_wait (a, 10, 0);
  fixture_close (&f);
}

TEST (requests_wait_at_the_gate_for_so_long_and_no_longer)
{
  struct fixture f;
  struct ask *a = asks (10), *b = asks (1);
  uint64_t start;
  unsigned i;
  char buf[512];

  fixture_init (&f, "size=1M multiconn=no");
  f.params->reconnect_ns = 300 * NSEC_PER_MSEC;
  fixture_begin (&f, NULL);
  nbdserver_stop (&f.server, SIGKILL);
  start = clock_now (&real_clock);
  for (i = 0; i < 10; i++)
    ask_one (&f, &a[i], i % 2 ? ORIGIN_READ : ORIGIN_WRITE, i * 512, 512, ORIGIN_PRIO_DEMAND);
  for (i = 0; i < 10; i++) {
    ask_wait (&a[i]);
    /* A write may have been sent before the loss was seen. */
    assert_true (a[i].err == ETIMEDOUT || (a[i].err == ENOTCONN && i % 2 == 0));
  }
  assert_true (clock_now (&real_clock) - start >= 250 * NSEC_PER_MSEC);
  assert_false (origin_is_up (f.origin));
  asks_free (a, 10);

  /* From here on at once. */
  start = clock_now (&real_clock);
  ask_one (&f, b, ORIGIN_READ, 0, 512, ORIGIN_PRIO_DEMAND);
  ask_wait (b);
  assert_int_equal (b->err, ETIMEDOUT);
  asks_free (b, 1);
  assert_true (said (&f, "has been away for 0.3 s"));

  nbdserver_start (&f.server, "size=1M multiconn=no");
  WAIT_FOR (origin_is_up (f.origin));
  assert_int_equal (command (&f, ORIGIN_READ, 0, 512, buf), 0);
  fixture_close (&f);
}

TEST (with_reconnect_0_nothing_waits)
{
  struct fixture f;
  struct ask *a = asks (20);
  char buf[512];

  fixture_init (&f, "size=1M multiconn=no -t16");
  f.params->reconnect_ns = 0;
  fixture_begin (&f, NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close read"));
  ask_many (&f, a, 20, 0, ORIGIN_PRIO_DEMAND);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait read 16"));
  nbdserver_stop (&f.server, SIGKILL);
  asks_wait (a, 20, ETIMEDOUT);
  assert_int_equal (command (&f, ORIGIN_READ, 0, 512, buf), ETIMEDOUT);
  nbdserver_start (&f.server, "size=1M multiconn=no");
  WAIT_FOR (origin_is_up (f.origin));
  assert_int_equal (command (&f, ORIGIN_READ, 0, 512, buf), 0);
  fixture_close (&f);
}

/* A thread that holds a request for a connection and has not given it to libnbd yet. */
static _Atomic bool hold, held;

int64_t
nbd_aio_pwrite (struct nbd_handle *h, const void *buf, size_t count, uint64_t offset,
                nbd_completion_callback completion, uint32_t flags)
{
  int64_t (*real) (struct nbd_handle *, const void *, size_t, uint64_t, nbd_completion_callback, uint32_t)
    = dlsym (RTLD_NEXT, "nbd_aio_pwrite");

  while (atomic_load (&hold)) {
    atomic_store (&held, true);
    poll (NULL, 0, 1);
  }
  return real (h, buf, count, offset, completion, flags);
}

static void *
ask_main (void *arg)
{
  struct ask *a = arg;

  ask_one (a->f, a, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  return NULL;
}

static int
nothing (void *arg)
{
  (void) arg;
  return 0;
}

TEST (nor_does_what_had_a_connection_and_was_not_sent_when_that_was_lost)
{
  struct fixture f;
  struct ask *a = asks (1);
  pthread_t thread;
  unsigned i;

  fixture_init (&f, "size=1M multiconn=no");
  f.params->reconnect_ns = 0;
  fixture_begin (&f, NULL);
  a->f = &f;
  atomic_store (&hold, true);
  assert_int_equal (pthread_create (&thread, NULL, ask_main, a), 0);
  WAIT_FOR (atomic_load (&held));
  nbdserver_stop (&f.server, SIGKILL);
  WAIT_FOR (!origin_is_up (f.origin));
  /* The turn of the loop in which that was seen is over, and what was in the queue has been answered. */
  for (i = 0; i < 3; i++)
    evloop_call (f.loop, nothing, NULL);
  atomic_store (&hold, false);
  pthread_join (thread, NULL);
  asks_wait (a, 1, ETIMEDOUT);
  fixture_close (&f);
}

/* The system has no memory just when a socket is to be watched for room. */
static _Atomic bool no_memory;

int
event_add (struct event *event, const struct timeval *timeout)
{
  int (*real) (struct event *, const struct timeval *) = dlsym (RTLD_NEXT, "event_add");

  if ((event_get_events (event) & EV_WRITE) && atomic_exchange (&no_memory, false))
    return -1;
  return real (event, timeout);
}

TEST (a_connection_that_cannot_be_watched_is_given_up_at_once)
{
  struct fixture f;
  struct ask *a = asks (1);

  fixture_open (&f, "size=8M multiconn=no", NULL);
  nbdserver_pause (&f.server);
  atomic_store (&no_memory, true);
  ask_one (&f, a, ORIGIN_WRITE, 0, 4 * M, ORIGIN_PRIO_WRITEBACK);
  WAIT_FOR (f.nlost == 1);
  assert_true (said (&f, "no memory to watch its socket"));
  nbdserver_go_on (&f.server);
  while (asks_pending (a, 1) > 0)
    if (nbdserver_died (&f.server))
      nbdserver_start (&f.server, "size=8M multiconn=no");
  asks_wait (a, 1, ENOTCONN);
  fixture_close (&f);
}

TEST (a_server_that_stops_is_given_up_and_its_reads_go_to_the_next)
{
  struct fixture f;
  struct ask *a = asks (4);
  struct nbdserver old;

  fixture_init (&f, "size=1M multiconn=no");
  f.params->timeout_ns = 200 * MSEC;
  fixture_begin (&f, NULL);
  nbdserver_pause (&f.server);
  ask_many (&f, a, 4, 0, ORIGIN_PRIO_DEMAND);
  WAIT_FOR (f.nlost == 1);
  assert_true (said (&f, "no answer within the timeout"));
  assert_int_equal (asks_pending (a, 4), 4);
  /* Another server under the same name. */
  old = f.server;
  f.server.pid = 0;
  nbdserver_start (&f.server, "size=1M multiconn=no");
  asks_wait (a, 4, 0);
  nbdserver_stop (&old, SIGKILL);
  fixture_close (&f);
}

TEST (a_server_that_stops_and_goes_on_answers_after_all)
{
  struct fixture f;
  struct ask *a = asks (4);

  fixture_init (&f, "size=1M multiconn=no");
  f.params->timeout_ns = 200 * MSEC;
  fixture_begin (&f, NULL);
  nbdserver_pause (&f.server);
  ask_many (&f, a, 4, 0, ORIGIN_PRIO_DEMAND);
  WAIT_FOR (f.nlost == 1);
  nbdserver_go_on (&f.server);
  while (asks_pending (a, 4) > 0)
    if (nbdserver_died (&f.server))
      nbdserver_start (&f.server, "size=1M multiconn=no");
  asks_wait (a, 4, 0);
  fixture_close (&f);
}

/* What the server still works on it may carry out after all: newer bytes wait a while (D16). */
TEST (a_write_that_a_server_still_works_on_is_answered_when_the_quarantine_is_over)
{
  struct fixture f;
  struct ask *a = asks (1);
  uint64_t start;

  fixture_init (&f, "size=1M multiconn=no");
  f.params->timeout_ns = 100 * MSEC;
  f.params->quarantine_ns = 400 * MSEC;
  fixture_begin (&f, NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close write"));
  ask_one (&f, a, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  WAIT_FOR (f.nlost == 1);
  start = clock_now (&real_clock);
  assert_int_equal (asks_pending (a, 1), 1);
  ask_wait (a);
  assert_int_equal (a->err, ENOTCONN);
  assert_true (clock_now (&real_clock) - start >= 350 * MSEC);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open write"));
  asks_free (a, 1);
  fixture_close (&f);
}

/* While the server stands still it lets go of nothing, however long that takes. */
TEST (a_write_to_a_stopped_server_is_not_answered_while_it_stands_still)
{
  struct fixture f;
  struct ask *a = asks (1);
  uint64_t start;

  fixture_init (&f, "size=1M multiconn=no");
  f.params->timeout_ns = 100 * MSEC;
  f.params->quarantine_ns = 1 * MSEC;
  fixture_begin (&f, NULL);
  nbdserver_pause (&f.server);
  ask_one (&f, a, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  WAIT_FOR (f.nlost == 1);
  start = clock_now (&real_clock);
  WAIT_FOR (clock_now (&real_clock) - start >= 500 * MSEC);
  assert_int_equal (asks_pending (a, 1), 1);
  nbdserver_go_on (&f.server);
  ask_wait (a);
  assert_int_equal (a->err, ENOTCONN);
  asks_free (a, 1);
  fixture_close (&f);
}

/* A connection on which nothing is asked tells nothing of the origin: others are tried. */
TEST (an_idle_connection_to_a_stopped_server_ends_no_quarantine)
{
  struct fixture f;
  struct ask *a = asks (40), *w = asks (1);
  uint64_t start;

  fixture_init (&f, "size=1M rdelay=0.02");
  f.params->timeout_ns = 1000 * MSEC;
  f.params->quarantine_ns = 1 * MSEC;
  fixture_begin (&f, NULL);
  ask_many (&f, a, 40, 0, ORIGIN_PRIO_DEMAND);
  asks_wait (a, 40, 0);
  nbdserver_pause (&f.server);
  ask_one (&f, w, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  WAIT_FOR (f.nlost >= 1);
  start = clock_now (&real_clock);
  WAIT_FOR (clock_now (&real_clock) - start >= 3000 * MSEC);
  assert_int_equal (asks_pending (w, 1), 1);
  nbdserver_go_on (&f.server);
  while (!said (&f, "connected again"))
    if (nbdserver_died (&f.server))
      nbdserver_start (&f.server, "size=1M");
  ask_wait (w);
  assert_int_equal (w->err, ENOTCONN);
  asks_free (w, 1);
  fixture_close (&f);
}

TEST (one_more_connection_tells_that_a_server_is_well)
{
  struct fixture f;
  struct ask *a = asks (40), *w = asks (1);

  fixture_init (&f, "size=1M rdelay=0.05");
  f.params->timeout_ns = 1000 * MSEC;
  f.params->quarantine_ns = 1 * MSEC;
  fixture_begin (&f, NULL);
  ask_many (&f, a, 40, 0, ORIGIN_PRIO_DEMAND);
  asks_wait (a, 40, 0);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close write"));
  ask_one (&f, w, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  ask_wait (w);
  assert_int_equal (w->err, ENOTCONN);
  assert_int_equal (f.nlost, 1);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open write"));
  asks_free (w, 1);
  fixture_close (&f);
}

/* Requests fail then, this one too: who waits for it has to be told. */
TEST (a_write_to_a_stopped_server_is_answered_when_that_has_been_away_too_long)
{
  struct fixture f;
  struct ask *a = asks (1);

  fixture_init (&f, "size=1M multiconn=no");
  f.params->timeout_ns = 100 * MSEC;
  f.params->reconnect_ns = 300 * MSEC;
  f.params->quarantine_ns = 60 * NSEC_PER_SEC;
  fixture_begin (&f, NULL);
  nbdserver_pause (&f.server);
  ask_one (&f, a, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  ask_wait (a);
  assert_int_equal (a->err, ENOTCONN);
  nbdserver_go_on (&f.server);
  asks_free (a, 1);
  fixture_close (&f);
}

TEST (a_write_to_a_stopped_server_is_answered_when_that_server_has_died)
{
  struct fixture f;
  struct ask *a = asks (1);
  uint64_t start;

  fixture_init (&f, "size=1M multiconn=no");
  f.params->timeout_ns = 100 * MSEC;
  f.params->quarantine_ns = 60 * NSEC_PER_SEC;
  fixture_begin (&f, NULL);
  nbdserver_pause (&f.server);
  ask_one (&f, a, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  WAIT_FOR (f.nlost == 1);
  assert_int_equal (asks_pending (a, 1), 1);
  start = clock_now (&real_clock);
  nbdserver_stop (&f.server, SIGKILL);
  ask_wait (a);
  assert_int_equal (a->err, ENOTCONN);
  assert_true (clock_now (&real_clock) - start < 30 * NSEC_PER_SEC);
  asks_free (a, 1);
  fixture_close (&f);
}

TEST (a_slow_flush_has_ten_times_as_long)
{
  struct fixture f;
  struct ask *a = asks (1);

  fixture_init (&f, "size=1M multiconn=no fdelay=0.6");
  f.params->timeout_ns = 200 * MSEC;
  fixture_begin (&f, NULL);
  ask_one (&f, a, ORIGIN_FLUSH, 0, 0, ORIGIN_PRIO_DEMAND);
  asks_wait (a, 1, 0);
  assert_int_equal (f.nlost, 0);
  fixture_close (&f);
}

/* What waits at the server behind a slow flush, or beside it for the disk, is not late before the flush is. */
TEST (what_is_under_way_with_a_slow_flush_has_ten_times_as_long_too)
{
  struct fixture f;
  struct ask *a = asks (2), *w = asks (1);

  fixture_init (&f, "size=1M multiconn=no fdelay=0.6 -t1");
  f.params->timeout_ns = 200 * MSEC;
  fixture_begin (&f, NULL);
  ask_one (&f, &a[0], ORIGIN_FLUSH, 0, 0, ORIGIN_PRIO_DEMAND);
  ask_one (&f, &a[1], ORIGIN_READ, 0, 512, ORIGIN_PRIO_DEMAND);
  asks_wait (a, 2, 0);
  assert_int_equal (f.nlost, 0);
  fixture_close (&f);

  fixture_init (&f, "size=1M multiconn=no fdelay=0.6");
  f.params->timeout_ns = 200 * MSEC;
  fixture_begin (&f, NULL);
  a = asks (1);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close write"));
  ask_one (&f, w, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  ask_one (&f, a, ORIGIN_FLUSH, 0, 0, ORIGIN_PRIO_DEMAND);
  ask_wait (a);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open write"));
  asks_wait (a, 1, 0);
  asks_wait (w, 1, 0);
  assert_int_equal (f.nlost, 0);
  fixture_close (&f);
}

/* The last of them has waited for ten times as long when it is its turn. */
TEST (a_slow_server_that_answers_one_after_the_other_is_not_given_up)
{
  struct fixture f;
  struct ask *a = asks (20);
  unsigned i;

  fixture_init (&f, "size=1M multiconn=no wdelay=0.1 -t1");
  f.params->timeout_ns = 200 * MSEC;
  fixture_begin (&f, NULL);
  for (i = 0; i < 20; i++)
    ask_one (&f, &a[i], ORIGIN_WRITE, i * 512, 512, ORIGIN_PRIO_WRITEBACK);
  asks_wait (a, 20, 0);
  assert_int_equal (f.nlost, 0);
  fixture_close (&f);
}

TEST (a_slow_request_has_four_times_as_long_while_others_are_answered)
{
  struct fixture f;
  struct ask *slow = asks (1), *late = asks (1);
  uint64_t start = clock_now (&real_clock);
  char buf[512];

  fixture_init (&f, "size=1M multiconn=no");
  f.params->timeout_ns = 300 * MSEC;
  fixture_begin (&f, NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close write"));
  ask_one (&f, slow, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait write 1"));
  while (clock_now (&real_clock) - start < 700 * MSEC)
    assert_int_equal (command (&f, ORIGIN_READ, 4096, 512, buf), 0);
  assert_int_equal (f.nlost, 0);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open write"));
  asks_wait (slow, 1, 0);

  assert_true (nbdserver_say (&f.server, NULL, 0, "close write"));
  ask_one (&f, late, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  while (f.nlost == 0 && clock_now (&real_clock) - start < 60 * NSEC_PER_SEC)
    assert_int_equal (command (&f, ORIGIN_READ, 4096, 512, buf), 0);
  assert_int_equal (f.nlost, 1);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open write"));
  asks_wait (late, 1, ENOTCONN);
  fixture_close (&f);
}

/* D14 */

/* nbd.B-49 */
TEST (a_server_that_comes_back_larger_keeps_its_old_size)
{
  struct fixture f;
  char buf[512];

  fixture_open (&f, "size=1M multiconn=no", NULL);
  restart (&f, "size=2M multiconn=no");
  assert_int_equal (command (&f, ORIGIN_READ, M - 512, 512, buf), 0);
  assert_int_equal (f.origin->info.size, M);
  assert_int_equal (f.nfailed, 0);
  assert_true (said (&f, "2097152 bytes instead of 1048576"));
  fixture_close (&f);
}

/* nbd.B-48 */
TEST (beyond_the_end_of_a_server_that_came_back_smaller_requests_fail)
{
  struct fixture f;
  struct ask *a = asks (2);
  char buf[512];

  fixture_open (&f, "size=2M multiconn=no", NULL);
  nbdserver_stop (&f.server, SIGKILL);
  WAIT_FOR (f.nlost == 1);
  ask_one (&f, &a[0], ORIGIN_WRITE, M - 512, 512, ORIGIN_PRIO_DEMAND);
  ask_one (&f, &a[1], ORIGIN_WRITE, M - 511, 512, ORIGIN_PRIO_DEMAND);
  nbdserver_start (&f.server, "size=1M multiconn=no");
  ask_wait (&a[0]);
  ask_wait (&a[1]);
  assert_int_equal (a[0].err, 0);
  assert_int_equal (a[1].err, EIO);
  asks_free (a, 2);
  assert_int_equal (command (&f, ORIGIN_READ, M, 512, buf), EIO);
  assert_int_equal (command (&f, ORIGIN_READ, M - 512, 512, buf), 0);
  assert_int_equal (f.nfailed, 0);
  assert_true (said (&f, "1048576 bytes instead of 2097152"));
  /* And back. */
  restart (&f, "size=2M multiconn=no");
  WAIT_FOR (f.nlost == 2);
  assert_int_equal (command (&f, ORIGIN_READ, 0, 512, buf), 0);
  assert_int_equal (command (&f, ORIGIN_READ, 2 * M - 512, 512, buf), 0);
  fixture_close (&f);
}

static void
comes_back_as (const char *was, const char *is, const char *words)
{
  struct fixture f;
  struct ask *a = asks (1);
  char buf[4096];

  fixture_open (&f, was, NULL);
  nbdserver_stop (&f.server, SIGKILL);
  WAIT_FOR (f.nlost == 1);
  ask_one (&f, a, ORIGIN_READ, 0, 4096, ORIGIN_PRIO_DEMAND);
  nbdserver_start (&f.server, is);
  asks_wait (a, 1, EIO);
  WAIT_FOR (f.nfailed == 1);
  assert_int_equal (f.failed_err, EIO);
  assert_true (said (&f, words));
  assert_int_equal (command (&f, ORIGIN_READ, 0, 4096, buf), EIO);
  assert_false (origin_is_up (f.origin));
  restart (&f, was);
  WAIT_FOR (f.nfailed == 2);
  assert_int_equal (f.failed_err, 0);
  WAIT_FOR (origin_is_up (f.origin));
  assert_int_equal (command (&f, ORIGIN_READ, 0, 4096, buf), 0);
  fixture_close (&f);
}

TEST (a_server_that_comes_back_as_another_fails_everything_until_it_is_right)
{
  comes_back_as ("size=1M", "size=1M readonly=yes", "read-only now");
  comes_back_as ("size=1M readonly=yes", "size=1M", "not read-only any more");
  comes_back_as ("size=1M", "size=1M minblock=4096", "block sizes");
  comes_back_as ("size=1M", "size=1M flush=no", "cannot flush");
  comes_back_as ("size=1M multiconn=yes", "size=1M multiconn=no", "one connection only");
  comes_back_as ("size=1M exports=a,b default=a", "size=1M exports=a,b default=b", "another name");
}

/* nbd.B-40 */
TEST (an_export_that_is_gone_is_asked_for_until_it_is_back)
{
  struct fixture f;
  char buf[512];

  fixture_open (&f, "size=1M exports=a,b", "a");
  restart (&f, "size=1M exports=b");
  WAIT_FOR (said (&f, "cannot connect"));
  restart (&f, "size=1M exports=a,b");
  assert_int_equal (command (&f, ORIGIN_READ, 0, 512, buf), 0);
  fixture_close (&f);
}

/* Writers and readers, while the server is killed and comes back: every answered and flushed write is there, and
 * no request is left without an answer.  The server keeps only what was flushed.
 */
#define NWRITERS 4
#define NROUNDS 6

struct writer {
  struct fixture *f;
  pthread_t thread;
  uint64_t off;
  _Atomic bool stop;
  _Atomic unsigned nflushed;
  unsigned char durable;        /* what was last known to be durable there */
};

static void *
writer_main (void *arg)
{
  struct writer *w = arg;
  unsigned char value = w->durable;

  while (!atomic_load (&w->stop)) {
    unsigned char in[512], out[512];
    struct origin_req write = { .cmd = ORIGIN_WRITE, .off = w->off, .len = 512, .buf = in };
    struct origin_req flush = { .cmd = ORIGIN_FLUSH };
    int err;

    memset (in, ++value, sizeof in);
    do {
      err = origin_do (w->f->origin, &write);
      assert (err == 0 || err == ENOTCONN);
      if (err != 0)
        continue;
      flush.carrier = write.carrier;
      err = origin_do (w->f->origin, &flush);
      assert (err == 0 || err == ENOTCONN);
    } while (err != 0);
    w->durable = value;
    atomic_fetch_add (&w->nflushed, 1);
    err = command (w->f, ORIGIN_READ, w->off, 512, out);
    assert (err == 0);
    assert (memcmp (in, out, sizeof in) == 0);
  }
  return NULL;
}

TEST (no_flushed_write_is_lost_when_the_server_dies_again_and_again)
{
  struct fixture f;
  struct writer w[NWRITERS] = { 0 };
  char args[200];
  unsigned i, round;

  fixture_init_at (&f, NULL);
  snprintf (args, sizeof args, "size=1M durable=%s/disk", f.server.dir);
  nbdserver_start (&f.server, args);
  fixture_begin (&f, NULL);
  for (i = 0; i < NWRITERS; i++) {
    w[i].f = &f;
    w[i].off = i * 65536;
    assert_int_equal (pthread_create (&w[i].thread, NULL, writer_main, &w[i]), 0);
  }
  for (round = 0; round < NROUNDS; round++) {
    unsigned before[NWRITERS];

    for (i = 0; i < NWRITERS; i++)
      before[i] = w[i].nflushed;
    for (i = 0; i < NWRITERS; i++)
      WAIT_FOR (w[i].nflushed > before[i] + 2);
    restart (&f, args);
  }
  for (i = 0; i < NWRITERS; i++)
    atomic_store (&w[i].stop, true);
  for (i = 0; i < NWRITERS; i++)
    pthread_join (w[i].thread, NULL);
  restart (&f, args);
  for (i = 0; i < NWRITERS; i++) {
    unsigned char out[512];

    assert_int_equal (command (&f, ORIGIN_READ, w[i].off, 512, out), 0);
    assert_int_equal (out[0], w[i].durable);
  }
  fixture_close (&f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (reads_under_way_when_the_server_dies_are_answered_by_the_next),
    cmocka_unit_test (block_status_and_cache_under_way_are_sent_again_too),
    cmocka_unit_test (writes_under_way_are_answered_enotconn_after_the_loss_was_told),
    cmocka_unit_test (a_flush_under_way_is_answered_enotconn),
    cmocka_unit_test (what_was_never_sent_waits_for_the_next_connection),
    cmocka_unit_test (requests_wait_at_the_gate_for_so_long_and_no_longer),
    cmocka_unit_test (with_reconnect_0_nothing_waits),
    cmocka_unit_test (nor_does_what_had_a_connection_and_was_not_sent_when_that_was_lost),
    cmocka_unit_test (a_connection_that_cannot_be_watched_is_given_up_at_once),
    cmocka_unit_test (a_server_that_stops_is_given_up_and_its_reads_go_to_the_next),
    cmocka_unit_test (a_server_that_stops_and_goes_on_answers_after_all),
    cmocka_unit_test (a_write_that_a_server_still_works_on_is_answered_when_the_quarantine_is_over),
    cmocka_unit_test (a_write_to_a_stopped_server_is_not_answered_while_it_stands_still),
    cmocka_unit_test (an_idle_connection_to_a_stopped_server_ends_no_quarantine),
    cmocka_unit_test (one_more_connection_tells_that_a_server_is_well),
    cmocka_unit_test (a_write_to_a_stopped_server_is_answered_when_that_has_been_away_too_long),
    cmocka_unit_test (a_write_to_a_stopped_server_is_answered_when_that_server_has_died),
    cmocka_unit_test (a_slow_flush_has_ten_times_as_long),
    cmocka_unit_test (what_is_under_way_with_a_slow_flush_has_ten_times_as_long_too),
    cmocka_unit_test (a_slow_server_that_answers_one_after_the_other_is_not_given_up),
    cmocka_unit_test (a_slow_request_has_four_times_as_long_while_others_are_answered),
    cmocka_unit_test (a_server_that_comes_back_larger_keeps_its_old_size),
    cmocka_unit_test (beyond_the_end_of_a_server_that_came_back_smaller_requests_fail),
    cmocka_unit_test (a_server_that_comes_back_as_another_fails_everything_until_it_is_right),
    cmocka_unit_test (an_export_that_is_gone_is_asked_for_until_it_is_back),
    cmocka_unit_test (no_flushed_write_is_lost_when_the_server_dies_again_and_again),
  };

  cmocka_set_test_filter (getenv ("PC_TEST"));
  return cmocka_run_group_tests (tests, NULL, NULL);
}
