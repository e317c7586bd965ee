/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of who reads a connection: the thread that waits, another that waits, or the loop
 * (D22).  The question in each: is there an answer that nobody reads?
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbdpool.h"
#include "nbdserver.h"
#include "nbdtest.h"

#define M (UINT64_C (1024) * 1024)

static struct nbdpool *
pool_of (struct fixture *f)
{
  return container_of (f->origin, struct nbdpool, base);
}

/* Of the first connection; -1: there is none.  Its invariants are looked at, too. */
static int
driver_of (struct fixture *f)
{
  struct nbdpool *p = pool_of (f);
  int driver;

  lock_take (&p->lock);
  nbdpool_check_locked (p);
  driver = p->nconns > 0 ? atomic_load (&p->conn[0]->driver) : -1;
  lock_drop (&p->lock);
  return driver;
}

static bool
has_followers (struct fixture *f, unsigned n)
{
  struct nbdpool *p = pool_of (f);
  bool r;

  lock_take (&p->lock);
  r = p->nconns > 0 && list_count (&p->conn[0]->followers) == n;
  lock_drop (&p->lock);
  return r;
}

/* A read that is waited for as an inode's operation does, and who answered it. */
struct reading {
  struct fixture *f;
  pthread_t thread, answered_by;
  uint64_t off, wait_ns;        /* 0: until it is answered */
  struct origin_req req;
  struct waiter waiter;
  char buf[512];
  int err;
  _Atomic bool answered, back;
};

static void
reading_done (struct origin_req *req, int err)
{
  struct reading *r = req->arg;

  r->err = err;
  r->answered_by = pthread_self ();
  atomic_store (&r->answered, true);
  waiter_wake (&r->waiter);
}

static void *
reading_main (void *arg)
{
  struct reading *r = arg;
  uint64_t until = r->wait_ns ? clock_now (&real_clock) + r->wait_ns : WAITER_FOR_EVER;

  origin_promise_begin ();
  origin_submit (r->f->origin, &r->req);
  origin_promise_wait (&r->waiter, &real_clock, until);
  while (!waiter_is_woken (&r->waiter) && !r->wait_ns)
    waiter_rest (&r->waiter, &real_clock, until);
  atomic_store (&r->back, true);
  return NULL;
}

static void
reading_init (struct reading *r, struct fixture *f, uint64_t off, uint64_t wait_ns)
{
  memset (r, 0, sizeof *r);
  r->f = f;
  r->off = off;
  r->wait_ns = wait_ns;
  waiter_init (&r->waiter);
  r->req = (struct origin_req) {
    .cmd = ORIGIN_READ, .prio = ORIGIN_PRIO_DEMAND, .off = off, .len = 512, .buf = r->buf,
    .done = reading_done, .arg = r,
  };
}

static void
reading_start (struct reading *r, struct fixture *f, uint64_t off, uint64_t wait_ns)
{
  reading_init (r, f, off, wait_ns);
  assert_int_equal (pthread_create (&r->thread, NULL, reading_main, r), 0);
}

static void
reading_end (struct reading *r)
{
  pthread_join (r->thread, NULL);
  WAIT_FOR (atomic_load (&r->answered));
  assert_int_equal (r->err, 0);
}

/* After a read that the loop has read the answer of, nobody drives. */
static void
make_it_idle (struct fixture *f)
{
  char buf[512];

  assert_int_equal (command (f, ORIGIN_READ, 0, 512, buf), 0);
  WAIT_FOR (driver_of (f) == DRIVER_NOBODY);
}

static void
open_one (struct fixture *f, const char *args)
{
  fixture_init (f, args);
  f->params->connections = 1;
  fixture_begin (f, NULL);
  make_it_idle (f);
}

/* Nobody drives still: when it took long to say so, the loop looks after what has been idle. */
static void
close_reads (struct fixture *f)
{
  do {
    assert_true (nbdserver_say (&f->server, NULL, 0, "open read"));
    make_it_idle (f);
    assert_true (nbdserver_say (&f->server, NULL, 0, "close read"));
  } while (driver_of (f) != DRIVER_NOBODY);
}

TEST (a_lone_reader_reads_its_answer_itself)
{
  struct fixture f;
  struct reading r;

  open_one (&f, "size=1M");
  reading_init (&r, &f, 4096, 0);
  r.thread = pthread_self ();
  reading_main (&r);
  assert_true (atomic_load (&r.answered));
  assert_true (pthread_equal (r.answered_by, r.thread));
  assert_int_equal (driver_of (&f), DRIVER_NOBODY);
  fixture_close (&f);
}

TEST (what_nobody_has_promised_to_wait_for_is_read_by_the_loop)
{
  struct fixture f;
  struct ask *a = asks (1);

  open_one (&f, "size=1M");
  ask_one (&f, a, ORIGIN_READ, 0, 512, ORIGIN_PRIO_DEMAND);
  asks_wait (a, 1, 0);
  fixture_close (&f);
}

TEST (who_has_promised_and_does_not_wait_leaves_it_to_the_loop)
{
  struct fixture f;
  struct ask *a = asks (1);

  open_one (&f, "size=1M");
  close_reads (&f);
  origin_promise_begin ();
  ask_one (&f, a, ORIGIN_READ, 0, 512, ORIGIN_PRIO_DEMAND);
  assert_int_equal (driver_of (&f), DRIVER_NOBODY);
  origin_promise_end ();
  assert_int_equal (driver_of (&f), DRIVER_LOOP);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open read"));
  asks_wait (a, 1, 0);
  fixture_close (&f);
}

TEST (the_background_does_not_need_a_promise_of_its_own_while_there_is_one)
{
  struct fixture f;
  struct ask *a = asks (2);

  open_one (&f, "size=1M");
  origin_promise_begin ();
  ask_one (&f, &a[0], ORIGIN_READ, 0, 512, ORIGIN_PRIO_DEMAND);
  ask_one (&f, &a[1], ORIGIN_READ, 4096, 512, ORIGIN_PRIO_READAHEAD);
  origin_promise_end ();
  asks_wait (a, 2, 0);
  fixture_close (&f);
}

TEST (a_leader_whose_news_come_from_elsewhere_leaves_and_its_answer_is_read)
{
  struct fixture f;
  struct reading r;

  open_one (&f, "size=1M");
  close_reads (&f);
  reading_start (&r, &f, 0, 0);
  WAIT_FOR (driver_of (&f) == DRIVER_WORKER);
  waiter_wake (&r.waiter);
  WAIT_FOR (atomic_load (&r.back));
  assert_false (atomic_load (&r.answered));
  assert_int_equal (driver_of (&f), DRIVER_LOOP);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open read"));
  reading_end (&r);
  fixture_close (&f);
}

TEST (a_leader_whose_time_is_over_leaves_and_its_answer_is_read)
{
  struct fixture f;
  struct reading r;

  open_one (&f, "size=1M");
  close_reads (&f);
  reading_start (&r, &f, 0, 20 * NSEC_PER_MSEC);
  WAIT_FOR (atomic_load (&r.back));
  assert_int_equal (driver_of (&f), DRIVER_LOOP);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open read"));
  reading_end (&r);
  fixture_close (&f);
}

/* The newest follows on, and each is answered. */
TEST (a_leader_that_leaves_hands_over_to_one_that_waits)
{
  struct fixture f;
  struct reading r[4];
  unsigned i;

  open_one (&f, "size=1M");
  close_reads (&f);
  for (i = 0; i < 4; i++) {
    reading_start (&r[i], &f, i * 4096, 0);
    WAIT_FOR (i == 0 ? driver_of (&f) == DRIVER_WORKER : has_followers (&f, i));
  }
  waiter_wake (&r[0].waiter);
  WAIT_FOR (atomic_load (&r[0].back));
  assert_int_equal (driver_of (&f), DRIVER_WORKER);
  assert_true (has_followers (&f, 2));
  waiter_wake (&r[3].waiter);   /* it leads now */
  WAIT_FOR (atomic_load (&r[3].back));
  assert_int_equal (driver_of (&f), DRIVER_WORKER);
  assert_true (has_followers (&f, 1));
  /* One that is woken before it is promoted is passed over. */
  waiter_wake (&r[1].waiter);
  waiter_wake (&r[2].waiter);
  WAIT_FOR (atomic_load (&r[1].back) && atomic_load (&r[2].back));
  assert_int_equal (driver_of (&f), DRIVER_LOOP);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open read"));
  for (i = 0; i < 4; i++)
    reading_end (&r[i]);
  fixture_close (&f);
}

TEST (the_loop_hands_over_to_those_who_wait_when_the_background_is_done)
{
  struct fixture f;
  struct ask *a = asks (1);
  struct reading r;

  open_one (&f, "-t16 size=1M");
  close_reads (&f);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close cache"));
  ask_one (&f, a, ORIGIN_CACHE, 0, 4096, ORIGIN_PRIO_READAHEAD);
  reading_start (&r, &f, 0, 0);
  WAIT_FOR (has_followers (&f, 1));
  assert_int_equal (driver_of (&f), DRIVER_LOOP);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open cache"));
  asks_wait (a, 1, 0);
  WAIT_FOR (driver_of (&f) == DRIVER_WORKER);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open read"));
  reading_end (&r);
  assert_true (pthread_equal (r.answered_by, r.thread));
  fixture_close (&f);
}

static void
restart_one (struct fixture *f)
{
  nbdserver_stop (&f->server, SIGKILL);
  nbdserver_start (&f->server, "size=1M");
}

TEST (when_its_connection_dies_under_a_leader_the_next_one_answers)
{
  struct fixture f;
  struct reading r[3];
  unsigned i;

  open_one (&f, "size=1M");
  close_reads (&f);
  for (i = 0; i < 3; i++) {
    reading_start (&r[i], &f, i * 4096, 0);
    WAIT_FOR (i == 0 ? driver_of (&f) == DRIVER_WORKER : has_followers (&f, i));
  }
  restart_one (&f);
  for (i = 0; i < 3; i++)
    reading_end (&r[i]);
  assert_int_equal (f.nlost, 1);
  fixture_close (&f);
}

TEST (a_leader_does_not_keep_a_silent_server_from_being_given_up)
{
  struct fixture f;
  struct reading r;

  fixture_init (&f, "size=1M");
  f.params->connections = 1;
  f.params->timeout_ns = 300 * NSEC_PER_MSEC;
  fixture_begin (&f, NULL);
  make_it_idle (&f);
  nbdserver_pause (&f.server);
  reading_start (&r, &f, 0, 0);
  WAIT_FOR (driver_of (&f) == DRIVER_WORKER);
  WAIT_FOR (said (&f, "no answer within the timeout"));
  nbdserver_go_on (&f.server);
  reading_end (&r);
  fixture_close (&f);
}

TEST (the_end_of_an_idle_connection_is_seen)
{
  struct fixture f;
  char buf[512];

  open_one (&f, "size=1M");
  nbdserver_stop (&f.server, SIGKILL);
  WAIT_FOR (f.nlost == 1);
  nbdserver_start (&f.server, "size=1M");
  assert_int_equal (command (&f, ORIGIN_READ, 0, 512, buf), 0);
  fixture_close (&f);
}

/* Sockets that take no more: what is left to be written is the loop's, while a worker
 * drives.
 */
struct writing {
  struct fixture *f;
  pthread_t thread;
  unsigned i;
  char *buf;
  int err;
};

static void *
writing_main (void *arg)
{
  struct writing *w = arg;

  w->err = command (w->f, ORIGIN_WRITE, w->i * M, M, w->buf);
  return NULL;
}

TEST (writes_that_do_not_fit_into_the_socket_are_sent_while_a_worker_drives)
{
  struct fixture f;
  struct writing w[16];
  unsigned i;
  char out[512];

  open_one (&f, "size=16M");
  nbdserver_pause (&f.server);
  for (i = 0; i < 16; i++) {
    w[i] = (struct writing) { .f = &f, .i = i, .buf = malloc (M) };
    assert_non_null (w[i].buf);
    memset (w[i].buf, i + 1, M);
    assert_int_equal (pthread_create (&w[i].thread, NULL, writing_main, &w[i]), 0);
  }
  WAIT_FOR (driver_of (&f) == DRIVER_WORKER && has_followers (&f, 15));
  nbdserver_go_on (&f.server);
  for (i = 0; i < 16; i++) {
    pthread_join (w[i].thread, NULL);
    assert_int_equal (w[i].err, 0);
    assert_int_equal (command (&f, ORIGIN_READ, (i + 1) * M - 512, 512, out), 0);
    assert_int_equal (out[511], i + 1);
    free (w[i].buf);
  }
  fixture_close (&f);
}

/* Many threads, several connections, the background, short waits, and a server that dies:
 * every request is answered, with the right bytes.
 */
#define NREADERS 6
#define NROUNDS 3
#define NREADS 150

struct reader {
  struct fixture *f;
  pthread_t thread;
  unsigned seed;
  _Atomic unsigned nread;
  _Atomic bool stop;
};

static void
read_one (struct reader *rd)
{
  struct reading r;
  unsigned x = rand_r (&rd->seed);

  reading_init (&r, rd->f, (uint64_t) (x % 2048) * 512, x % 16 == 0 ? NSEC_PER_MSEC / 50 : 0);
  if (x % 16 == 1) {
    origin_promise_begin ();
    origin_submit (rd->f->origin, &r.req);
    origin_promise_end ();
  }
  else
    reading_main (&r);
  while (!waiter_is_woken (&r.waiter))
    waiter_rest (&r.waiter, &real_clock, WAITER_FOR_EVER);
  assert (r.err == 0);
  assert ((unsigned char) r.buf[0] == pattern (r.off) && r.buf[511] == r.buf[0]);
}

static void *
reader_main (void *arg)
{
  struct reader *rd = arg;

  while (!atomic_load (&rd->stop)) {
    read_one (rd);
    atomic_fetch_add (&rd->nread, 1);
  }
  return NULL;
}

static void
readers_are_answered (const char *args, unsigned connections, bool dies)
{
  struct fixture f;
  struct reader rd[NREADERS] = { 0 };
  struct ask *a;
  unsigned i, round, before[NREADERS];
  char all[200];

  fixture_init_at (&f, NULL);
  snprintf (all, sizeof all, "size=1M durable=%s/disk %s", f.server.dir, args);
  nbdserver_start (&f.server, all);
  f.params->connections = connections;
  fixture_begin (&f, NULL);
  a = asks (2048);
  for (i = 0; i < 2048; i++)
    ask_one (&f, &a[i], ORIGIN_WRITE, i * 512, 512, ORIGIN_PRIO_WRITEBACK);
  asks_wait (a, 2048, 0);
  assert_int_equal (command (&f, ORIGIN_FLUSH, 0, 0, NULL), 0);

  for (i = 0; i < NREADERS; i++) {
    rd[i].f = &f;
    rd[i].seed = i + 1;
    assert_int_equal (pthread_create (&rd[i].thread, NULL, reader_main, &rd[i]), 0);
  }
  for (round = 0; round < NROUNDS; round++) {
    for (i = 0; i < NREADERS; i++)
      before[i] = rd[i].nread;
    a = asks (64);
    ask_many (&f, a, 64, 0, ORIGIN_PRIO_READAHEAD);
    asks_wait (a, 64, 0);
    for (i = 0; i < NREADERS; i++)
      WAIT_FOR (rd[i].nread >= before[i] + NREADS);
    driver_of (&f);
    if (dies) {
      nbdserver_stop (&f.server, SIGKILL);
      nbdserver_start (&f.server, all);
    }
  }
  for (i = 0; i < NREADERS; i++)
    atomic_store (&rd[i].stop, true);
  for (i = 0; i < NREADERS; i++)
    pthread_join (rd[i].thread, NULL);
  fixture_close (&f);
}

TEST (every_reader_of_one_connection_is_answered)
{
  readers_are_answered ("", 1, false);
}

TEST (every_reader_of_four_connections_is_answered)
{
  readers_are_answered ("delay=0.0002", 4, false);
}

TEST (every_reader_is_answered_though_the_server_dies)
{
  readers_are_answered ("", 2, true);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (a_lone_reader_reads_its_answer_itself),
    cmocka_unit_test (what_nobody_has_promised_to_wait_for_is_read_by_the_loop),
    cmocka_unit_test (who_has_promised_and_does_not_wait_leaves_it_to_the_loop),
    cmocka_unit_test (the_background_does_not_need_a_promise_of_its_own_while_there_is_one),
    cmocka_unit_test (a_leader_whose_news_come_from_elsewhere_leaves_and_its_answer_is_read),
    cmocka_unit_test (a_leader_whose_time_is_over_leaves_and_its_answer_is_read),
    cmocka_unit_test (a_leader_that_leaves_hands_over_to_one_that_waits),
    cmocka_unit_test (the_loop_hands_over_to_those_who_wait_when_the_background_is_done),
    cmocka_unit_test (when_its_connection_dies_under_a_leader_the_next_one_answers),
    cmocka_unit_test (a_leader_does_not_keep_a_silent_server_from_being_given_up),
    cmocka_unit_test (the_end_of_an_idle_connection_is_seen),
    cmocka_unit_test (writes_that_do_not_fit_into_the_socket_are_sent_while_a_worker_drives),
    cmocka_unit_test (every_reader_of_one_connection_is_answered),
    cmocka_unit_test (every_reader_of_four_connections_is_answered),
    cmocka_unit_test (every_reader_is_answered_though_the_server_dies),
  };

  cmocka_set_test_filter (getenv ("PC_TEST"));
  return cmocka_run_group_tests (tests, NULL, NULL);
}
