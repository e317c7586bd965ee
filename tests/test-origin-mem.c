/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of the origin that tests use, and of the checked front through which they do.
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "origin-mem.h"

#define SIZE 65536

static const struct origin_info all = {
  .size = SIZE,
  .can_flush = true,
  .can_fua = true,
  .can_trim = true,
  .can_zero = true,
  .can_fast_zero = true,
  .can_cache = true,
  .can_multi_conn = true,
  .can_extents = true,
};

struct ask {
  struct origin_req req;
  int err;                      /* -1: not yet */
  int number;                   /* which answer it was */
};

static int answers;

static void
ask_done (struct origin_req *req, int err)
{
  struct ask *a = container_of (req, struct ask, req);

  assert_int_equal (a->err, -1);
  a->err = err;
  a->number = answers++;
}

static void
ask (struct origin *o, struct ask *a, enum origin_cmd cmd, uint64_t off, uint64_t len, void *buf)
{
  *a = (struct ask) { .err = -1 };
  a->req.cmd = cmd;
  a->req.off = off;
  a->req.len = len;
  a->req.buf = buf;
  a->req.done = ask_done;
  origin_submit (o, &a->req);
}

static struct origin *
make (void)
{
  struct origin *o;

  assert_int_equal (origin_mem_create (&all, &o), 0);
  return o;
}

static int
flush (struct origin *o, uint32_t carrier)
{
  struct origin_req req = { .cmd = ORIGIN_FLUSH, .carrier = carrier };

  return origin_do (o, &req);
}

TEST (without_doors_a_request_is_answered_inside_submit)
{
  struct origin *o = make ();
  char in[512], out[512];
  struct ask a;

  memset (in, 7, sizeof in);
  ask (o, &a, ORIGIN_WRITE, 1024, sizeof in, in);
  assert_int_equal (a.err, 0);
  ask (o, &a, ORIGIN_READ, 1024, sizeof out, out);
  assert_int_equal (a.err, 0);
  assert_memory_equal (in, out, sizeof in);
  ask (o, &a, ORIGIN_ZERO, 1024, 256, NULL);
  ask (o, &a, ORIGIN_READ, 1024, sizeof out, out);
  assert_int_equal (out[255], 0);
  assert_int_equal (out[256], 7);
  ask (o, &a, ORIGIN_CACHE, 0, SIZE, NULL);
  assert_int_equal (a.err, 0);
  assert_int_equal (origin_mem_count (o, ORIGIN_READ), 2);
  origin_close (o);
}

TEST (only_a_flush_or_fua_makes_a_write_durable)
{
  struct origin *o = make ();
  char in[512];
  struct ask a;
  struct origin_req fua = {
    .cmd = ORIGIN_WRITE, .flags = ORIGIN_FUA, .off = 8192, .len = sizeof in, .buf = in
  };

  memset (in, 7, sizeof in);
  ask (o, &a, ORIGIN_WRITE, 0, sizeof in, in);
  assert_int_equal (origin_mem_volatile (o)[0], 7);
  assert_int_equal (origin_mem_durable (o)[0], 0);
  assert_int_equal (origin_do (o, &fua), 0);
  assert_int_equal (origin_mem_durable (o)[8192], 7);
  assert_int_equal (origin_mem_durable (o)[0], 0);
  assert_int_equal (flush (o, a.req.carrier), 0);
  assert_int_equal (origin_mem_durable (o)[0], 7);
  origin_close (o);
}

TEST (a_closed_door_holds_its_command_and_opening_answers_in_order)
{
  struct origin *o = make ();
  struct ask r[3], w;
  char buf[4][512] = { { 0 } };
  int i;

  origin_mem_close_door (o, ORIGIN_READ);
  for (i = 0; i < 3; i++)
    ask (o, &r[i], ORIGIN_READ, i * 512, 512, buf[i]);
  ask (o, &w, ORIGIN_WRITE, 0, 512, memset (buf[3], 9, 512));
  assert_int_equal (w.err, 0);
  assert_int_equal (origin_mem_held (o, ORIGIN_READ), 3);
  assert_int_equal (origin_mem_held_total (o), 3);
  assert_int_equal (origin_mem_log_at (o, 0).err, -1);
  origin_mem_wait_held (o, ORIGIN_READ, 3);
  origin_mem_open_door (o, ORIGIN_READ);
  assert_int_equal (buf[0][0], 9);      /* read when it was let out */
  assert_true (r[0].number < r[1].number && r[1].number < r[2].number);
  assert_int_equal (origin_mem_log_at (o, 0).err, 0);
  origin_close (o);
}

TEST (held_requests_are_released_in_any_order_and_with_any_error)
{
  struct origin *o = make ();
  struct ask a[3];
  char buf[3][512] = { { 0 } };
  int i;

  origin_mem_close_all (o);
  for (i = 0; i < 3; i++)
    ask (o, &a[i], ORIGIN_WRITE, i * 512, 512, memset (buf[i], i + 1, 512));
  assert_int_equal (origin_mem_release_nth (o, 3, 0), ENOENT);
  assert_int_equal (origin_mem_release_nth (o, 1, 0), 0);
  assert_int_equal (a[1].err, 0);
  assert_int_equal (origin_mem_release_nth (o, 1, ENOSPC), 0);
  assert_int_equal (a[2].err, ENOSPC);
  assert_int_equal (a[0].err, -1);
  assert_int_equal (origin_mem_volatile (o)[512], 2);
  assert_int_equal (origin_mem_volatile (o)[1024], 0);
  assert_int_equal (origin_mem_log_at (o, 2).err, ENOSPC);
  origin_mem_open_all (o);
  assert_int_equal (a[0].err, 0);
  assert_int_equal (origin_mem_release_nth (o, 0, 0), ENOENT);
  origin_close (o);
}

TEST (planned_failures_hit_the_requests_they_were_planned_for)
{
  struct origin *o = make ();
  struct ask a[5];
  char buf[512] = { 0 };
  int i;

  origin_mem_fail (o, ORIGIN_WRITE, EIO, 1, 2);
  for (i = 0; i < 5; i++)
    ask (o, &a[i], ORIGIN_WRITE, 0, 512, buf);
  assert_int_equal (a[0].err, 0);
  assert_int_equal (a[1].err, EIO);
  assert_int_equal (a[2].err, EIO);
  assert_int_equal (a[3].err, 0);
  origin_close (o);
}

TEST (a_command_that_the_origin_lacks_is_refused)
{
  struct origin_info info = { .size = SIZE };
  struct origin *o;
  struct ask a;

  assert_int_equal (origin_mem_create (&info, &o), 0);
  ask (o, &a, ORIGIN_TRIM, 0, 512, NULL);
  assert_int_equal (a.err, ENOTSUP);
  ask (o, &a, ORIGIN_ZERO, 0, 512, NULL);
  assert_int_equal (a.err, ENOTSUP);
  assert_int_equal (flush (o, 0), ENOTSUP);
  origin_close (o);
}

struct loss {
  struct ask *write;
  uint32_t carrier;
  int count;
};

static void
on_lost (void *arg, uint32_t carrier)
{
  struct loss *loss = arg;

  assert_int_equal (loss->write->err, -1);      /* told before the answers */
  loss->carrier = carrier;
  loss->count++;
}

static void
lose (bool apply, bool forget, int expect_acknowledged, int expect_held)
{
  struct origin *o = make ();
  struct ask w[2], r;
  char buf[3][512] = { { 0 } };
  struct loss loss = { .write = &w[1] };
  struct origin_events events = { .lost = on_lost, .arg = &loss };
  uint32_t carrier;

  origin_set_events (o, &events);
  ask (o, &w[0], ORIGIN_WRITE, 0, 512, memset (buf[0], 1, 512));
  carrier = w[0].req.carrier;
  assert_true (carrier != 0);
  origin_mem_close_all (o);
  ask (o, &w[1], ORIGIN_WRITE, 512, 512, memset (buf[1], 2, 512));
  ask (o, &r, ORIGIN_READ, 0, 512, buf[2]);
  origin_mem_lose (o, apply, forget);

  assert_int_equal (loss.count, 1);
  assert_int_equal (loss.carrier, carrier);
  assert_int_equal (w[1].err, ENOTCONN);
  assert_int_equal (r.err, -1);
  assert_int_equal (origin_mem_volatile (o)[0], expect_acknowledged);
  assert_int_equal (origin_mem_volatile (o)[512], expect_held);

  /* The old connection's claims are gone with it. */
  origin_mem_open_all (o);
  assert_int_equal (flush (o, carrier), ENOTCONN);
  assert_int_equal (flush (o, 0), 0);
  assert_int_equal (origin_mem_durable (o)[0], 0);
  ask (o, &w[0], ORIGIN_WRITE, 0, 512, buf[0]);
  assert_true (w[0].req.carrier > carrier);
  assert_int_equal (flush (o, w[0].req.carrier), 0);
  assert_int_equal (origin_mem_durable (o)[0], 1);
  origin_close (o);
}

TEST (a_lost_connection_answers_writes_enotconn_whatever_became_of_them)
{
  lose (false, false, 1, 0);
  lose (true, false, 1, 2);
  lose (false, true, 0, 0);
  lose (true, true, 0, 0);
}

/* An answer of one thread that is still being given when another loses the connection. */
struct slow_answer {
  struct origin_req req;
  struct ask probe;
  struct origin *o;
  pthread_t loser;
  uint32_t carrier;
  atomic_bool given;            /* the answer has been taken in */
  atomic_bool too_early;
};

static void
on_lost_during (void *arg, uint32_t carrier)
{
  struct slow_answer *s = arg;

  assert_int_equal (carrier, s->carrier);
  if (!atomic_load (&s->given))
    atomic_store (&s->too_early, true);
}

static void *
lose_it (void *arg)
{
  origin_mem_lose (arg, false, false);
  return NULL;
}

/* Ends once the loss has begun, which is when an open door lets nothing through. */
static void
slow_done (struct origin_req *req, int err)
{
  struct slow_answer *s = container_of (req, struct slow_answer, req);
  static char buf[512];
  unsigned i;

  assert_int_equal (err, 0);
  s->carrier = req->carrier;
  assert_int_equal (pthread_create (&s->loser, NULL, lose_it, s->o), 0);
  do
    ask (s->o, &s->probe, ORIGIN_READ, 0, 512, buf);
  while (s->probe.err == 0 && !atomic_load (&s->too_early));
  for (i = 0; i < 1000; i++)
    sched_yield ();
  atomic_store (&s->given, true);
}

TEST (a_loss_is_told_after_the_answers_that_are_being_given)
{
  struct origin *o = make ();
  char buf[512] = { 1 };
  struct slow_answer s = { .o = o };
  struct origin_events events = { .lost = on_lost_during, .arg = &s };

  origin_set_events (o, &events);
  s.req = (struct origin_req) { .cmd = ORIGIN_WRITE, .len = 512, .buf = buf, .done = slow_done };
  origin_submit (o, &s.req);
  pthread_join (s.loser, NULL);
  assert_false (atomic_load (&s.too_early));
  assert_int_equal (s.probe.err, 0);         /* let out when the loss had been told */
  origin_close (o);
}

TEST (while_the_origin_is_away_everything_waits)
{
  struct origin *o = make ();
  struct ask a;
  char buf[512];

  assert_true (origin_is_up (o));
  origin_mem_away (o, true);
  assert_false (origin_is_up (o));
  ask (o, &a, ORIGIN_READ, 0, 512, buf);
  assert_int_equal (a.err, -1);
  origin_mem_open_all (o);
  assert_int_equal (a.err, -1);
  origin_mem_away (o, false);
  assert_int_equal (a.err, 0);
  origin_close (o);
}

struct extents {
  struct origin_req req;
  uint64_t at;
  int n;
  unsigned type[16];
  uint64_t len[16];
};

static void
on_extent (struct origin_req *req, uint64_t off, uint64_t len, unsigned type)
{
  struct extents *e = container_of (req, struct extents, req);

  assert_int_equal (off, e->at);
  assert_true (e->n < 16);
  e->type[e->n] = type;
  e->len[e->n++] = len;
  e->at += len;
}

TEST (block_status_covers_the_request_in_order)
{
  struct origin *o = make ();
  struct extents e = { .at = 100 };

  origin_mem_volatile (o)[8192] = 1;
  e.req = (struct origin_req) {
    .cmd = ORIGIN_STATUS, .off = 100, .len = SIZE - 100, .extent = on_extent
  };
  assert_int_equal (origin_do (o, &e.req), 0);
  assert_int_equal (e.n, 3);
  assert_int_equal (e.len[0], 8192 - 100);
  assert_int_equal (e.type[0], ORIGIN_EXTENT_HOLE | ORIGIN_EXTENT_ZERO);
  assert_int_equal (e.len[1], 4096);
  assert_int_equal (e.type[1], 0);
  assert_int_equal (e.at, SIZE);

  e = (struct extents) { .at = 100, .req = e.req };
  e.req.flags = ORIGIN_ONE;
  assert_int_equal (origin_do (o, &e.req), 0);
  assert_int_equal (e.n, 1);
  origin_close (o);
}

static void *
open_doors (void *arg)
{
  struct origin *o = arg;

  origin_mem_wait_held (o, ORIGIN_READ, 1);
  origin_mem_open_all (o);
  return NULL;
}

TEST (the_blocking_call_waits_for_an_answer_from_another_thread)
{
  struct origin *o = make ();
  struct origin_req req = { .cmd = ORIGIN_READ, .len = 512 };
  struct origin_stats stats;
  char buf[512];
  pthread_t thread;

  req.buf = buf;
  buf[0] = 1;
  origin_mem_volatile (o)[0] = 5;
  origin_mem_close_all (o);
  assert_int_equal (pthread_create (&thread, NULL, open_doors, o), 0);
  assert_int_equal (origin_do (o, &req), 0);
  assert_int_equal (buf[0], 5);
  pthread_join (thread, NULL);
  origin_get_stats (o, &stats);
  assert_int_equal (stats.reads, 1);
  assert_int_equal (stats.read_bytes, 512);
  assert_int_equal (origin_depth (o), 64);
  origin_close (o);
}

/* Does fn abort?  Its complaint goes to /dev/null. */
static bool
aborts (void (*fn) (struct origin *))
{
  int status;
  pid_t pid = fork ();

  assert_true (pid >= 0);
  if (pid == 0) {
    struct origin *o = make ();

    signal (SIGABRT, SIG_DFL);
    if (freopen ("/dev/null", "w", stderr) == NULL)
      _exit (1);
    fn (o);
    _exit (0);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  return WIFSIGNALED (status) && WTERMSIG (status) == SIGABRT;
}

static char scratch[2][SIZE];
static struct ask asks[2];

static void
change_in_flight (struct origin *o)
{
  origin_mem_close_all (o);
  ask (o, &asks[0], ORIGIN_WRITE, 0, 512, scratch[0]);
  scratch[0][17] ^= 1;
  origin_mem_open_all (o);
}

static void
overlap (struct origin *o)
{
  origin_mem_close_all (o);
  ask (o, &asks[0], ORIGIN_WRITE, 0, 512, scratch[0]);
  ask (o, &asks[1], ORIGIN_ZERO, 511, 512, NULL);
}

static void
touch (struct origin *o)
{
  origin_mem_close_all (o);
  ask (o, &asks[0], ORIGIN_WRITE, 0, 512, scratch[0]);
  ask (o, &asks[1], ORIGIN_WRITE, 512, 512, scratch[1]);
}

static void
beyond_the_end (struct origin *o)
{
  ask (o, &asks[0], ORIGIN_READ, SIZE - 512, 513, scratch[0]);
}

static void
nothing (struct origin *o)
{
  ask (o, &asks[0], ORIGIN_READ, 0, 0, scratch[0]);
}

static void
last_byte (struct origin *o)
{
  ask (o, &asks[0], ORIGIN_READ, SIZE - 1, 1, scratch[0]);
}

static void
close_in_flight (struct origin *o)
{
  origin_mem_close_all (o);
  ask (o, &asks[0], ORIGIN_READ, 0, 512, scratch[0]);
  origin_close (o);
}

TEST (mistakes_of_the_caller_abort)
{
  assert_true (aborts (change_in_flight));
  assert_true (aborts (overlap));
  assert_false (aborts (touch));
  assert_true (aborts (beyond_the_end));
  assert_true (aborts (nothing));
  assert_false (aborts (last_byte));
  assert_true (aborts (close_in_flight));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (without_doors_a_request_is_answered_inside_submit),
    cmocka_unit_test (only_a_flush_or_fua_makes_a_write_durable),
    cmocka_unit_test (a_closed_door_holds_its_command_and_opening_answers_in_order),
    cmocka_unit_test (held_requests_are_released_in_any_order_and_with_any_error),
    cmocka_unit_test (planned_failures_hit_the_requests_they_were_planned_for),
    cmocka_unit_test (a_command_that_the_origin_lacks_is_refused),
    cmocka_unit_test (a_lost_connection_answers_writes_enotconn_whatever_became_of_them),
    cmocka_unit_test (a_loss_is_told_after_the_answers_that_are_being_given),
    cmocka_unit_test (while_the_origin_is_away_everything_waits),
    cmocka_unit_test (block_status_covers_the_request_in_order),
    cmocka_unit_test (the_blocking_call_waits_for_an_answer_from_another_thread),
    cmocka_unit_test (mistakes_of_the_caller_abort),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
