/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of the NBD origin against a server that says what no honest server says.
 */
#include "test.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/sockios.h>

#include "evil.h"
#include "nbdtest.h"

#define K 1024u
#define ALL_FLAGS (EVIL_HAS_FLAGS | EVIL_SEND_FLUSH | EVIL_SEND_FUA | EVIL_SEND_TRIM | EVIL_SEND_ZERO)

/* What serve () does with the first read, status or write of a connection; the rest is served well. */
enum trick {
  HONEST,
  SHORT, NOTHING, OVERLAP_GAP, TWICE, OUT_OF_ORDER, MANY_CHUNKS, HOLES, OUT_OF_RANGE, ERROR_AFTER_DATA,
  BAD_MAGIC, UNKNOWN_HANDLE, WRONG_TYPE, HUGE_CHUNK, SIMPLE_TO_STRUCTURED, STRUCTURED_TO_SIMPLE, HALF_REPLY,
  SHUTTING_DOWN, UNKNOWN_ERROR,
  STATUS_ZERO_LENGTH, STATUS_BEHIND, STATUS_BEYOND, STATUS_CRUMBS, STATUS_NONE, STATUS_TWICE, STATUS_ERROR,
  SILENT_WRITE,
};

static _Atomic int trick;
static _Atomic int once;        /* the trick is played so many times, then never */
static _Atomic int played;

static bool
serve_read_well (struct evil_conn *c, const struct evil_request *r)
{
  char buf[64 * K];

  assert_true (r->len <= sizeof buf);
  memset (buf, 7, r->len);
  if (c->evil->structured)
    return evil_data (c, r->handle, EVIL_DONE, r->off, 7, r->len);
  return evil_simple (c, r->handle, 0, buf, r->len);
}

static bool
play_read (struct evil_conn *c, const struct evil_request *r, enum trick t)
{
  uint32_t half = r->len / 2, at;

  switch (t) {
  case SHORT:
    return evil_data (c, r->handle, EVIL_DONE, r->off, 7, half);
  case NOTHING:
    return evil_chunk (c, r->handle, EVIL_DONE, EVIL_NONE, NULL, 0);
  case OVERLAP_GAP:             /* as many bytes as were asked for */
    return evil_data (c, r->handle, 0, r->off, 7, half)
      && evil_data (c, r->handle, EVIL_DONE, r->off, 7, half);
  case TWICE:
    return evil_data (c, r->handle, 0, r->off, 7, r->len)
      && evil_data (c, r->handle, EVIL_DONE, r->off, 7, half);
  case OUT_OF_ORDER:
    return evil_data (c, r->handle, 0, r->off + half, 7, half)
      && evil_data (c, r->handle, EVIL_DONE, r->off, 7, half);
  case MANY_CHUNKS:             /* from the back, 16 bytes each */
    for (at = r->len; at > 0; at -= 16)
      if (!evil_data (c, r->handle, at == 16 ? EVIL_DONE : 0, r->off + at - 16, 7, 16))
        return false;
    return true;
  case HOLES:
    return evil_hole (c, r->handle, 0, r->off, half)
      && evil_data (c, r->handle, EVIL_DONE, r->off + half, 7, half);
  case OUT_OF_RANGE:
    return evil_data (c, r->handle, EVIL_DONE, r->off + half, 7, r->len);
  case ERROR_AFTER_DATA: {
    static const unsigned char eio[6] = { 0, 0, 0, 5, 0, 0 };

    return evil_data (c, r->handle, 0, r->off, 7, r->len)
      && evil_chunk (c, r->handle, EVIL_DONE, EVIL_ERROR, eio, sizeof eio);
    }
  case BAD_MAGIC:
    return evil_raw (c, "this is no NBD reply at all......", 32);
  case UNKNOWN_HANDLE:
    return evil_simple (c, ~r->handle, 0, NULL, 0);
  case WRONG_TYPE:
    return evil_chunk (c, r->handle, EVIL_DONE, 77, NULL, 0);
  case HUGE_CHUNK: {
    static const unsigned char head[20] = { 0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1 };
    unsigned char h[20];

    memcpy (h, head, sizeof h);
    memcpy (h + 8, &r->handle, 8);
    memset (h + 16, 0xff, 4);
    return evil_raw (c, h, sizeof h);
    }
  case SIMPLE_TO_STRUCTURED:
    return evil_simple (c, r->handle, 0, "abc", 3);
  case STRUCTURED_TO_SIMPLE:
    return evil_data (c, r->handle, EVIL_DONE, r->off, 7, r->len);
  case HALF_REPLY:
    evil_simple (c, r->handle, 0, "abc", 3);
    return false;
  case SHUTTING_DOWN:
    return evil_simple (c, r->handle, 108, NULL, 0);
  case UNKNOWN_ERROR:
    return evil_simple (c, r->handle, 4711, NULL, 0);
  default:
    return serve_read_well (c, r);
  }
}

static bool
play_status (struct evil_conn *c, const struct evil_request *r, enum trick t)
{
  uint32_t w[8] = { 0 };

  switch (t) {
  case STATUS_ZERO_LENGTH:
    w[0] = 512; w[3] = 3; w[4] = r->len - 512;
    return evil_status (c, r->handle, w, 6);
  case STATUS_BEHIND:           /* a descriptor that begins behind the request */
    w[0] = r->len; w[2] = 512; w[3] = 3;
    return evil_status (c, r->handle, w, 4);
  case STATUS_BEYOND:           /* the last one may end there */
    w[0] = 512; w[2] = r->len; w[3] = 3;
    return evil_status (c, r->handle, w, 4);
  case STATUS_CRUMBS:
    w[0] = 8 * K < r->len ? 8 * K : r->len; w[1] = r->off / 8192 % 2 ? 3 : 0;
    return evil_status (c, r->handle, w, 2);
  case STATUS_NONE:
    return evil_chunk (c, r->handle, EVIL_DONE, EVIL_NONE, NULL, 0);
  case STATUS_ERROR: {
    static const unsigned char einval[6] = { 0, 0, 0, 22, 0, 0 };

    return evil_chunk (c, r->handle, EVIL_DONE, EVIL_ERROR, einval, sizeof einval);
    }
  default:
    w[0] = r->len / 2; w[1] = 3; w[2] = r->len - w[0]; w[3] = 0;
    return evil_status (c, r->handle, w, 4);
  }
}

static bool
serve (struct evil_conn *c, const struct evil_request *r)
{
  enum trick t = HONEST;

  if (once > 0 || trick == STATUS_CRUMBS) {
    t = trick;
    once--;
    played++;
  }
  if (r->type == EVIL_READ)
    return play_read (c, r, t);
  if (r->type == EVIL_STATUS)
    return play_status (c, r, t);
  if (t == SILENT_WRITE)
    return true;
  if (t == SHUTTING_DOWN)
    return evil_simple (c, r->handle, 108, NULL, 0);
  return evil_simple (c, r->handle, 0, NULL, 0);
}

static void
evil_begin (struct fixture *f, struct evil *e, const struct evil *like)
{
  *e = *like;
  if (e->size == 0)
    e->size = 1 << 20;
  if (e->flags == 0)
    e->flags = ALL_FLAGS;
  if (e->serve == NULL)
    e->serve = serve;
  trick = HONEST;
  once = played = 0;
  fixture_init_at (f, NULL);
  evil_start (e, f->server.dir);
  nbdlink_params_free (f->params);
  f->params = params_at (e->tcp ? NULL : e->path, e->tcp ? e->port : NULL);
}

static void
evil_end (struct fixture *f, struct evil *e)
{
  origin_close (f->origin);
  f->origin = NULL;
  evil_stop (e);
  fixture_close (f);
}

static const struct evil structured = { .structured = true, .extents = true };
static const struct evil simple = { .structured = false };

/* The read that meets the trick ends with err, the connection is dropped if lost, and the next read is right. */
static void
read_meets (const struct evil *like, enum trick t, int err, bool lost)
{
  struct fixture f;
  struct evil e;
  unsigned char buf[8 * K];
  unsigned i;

  evil_begin (&f, &e, like);
  fixture_begin (&f, NULL);
  trick = t;
  once = 1;
  memset (buf, 0xee, sizeof buf);
  assert_int_equal (command (&f, ORIGIN_READ, 4096, sizeof buf, buf), err);
  assert_int_equal (played, 1);
  if (err == 0)
    for (i = 0; i < sizeof buf; i++)
      assert_int_equal (buf[i], t == HOLES && i < sizeof buf / 2 ? 0 : 7);
  if (lost)
    WAIT_FOR (f.nlost == 1);
  memset (buf, 0xee, sizeof buf);
  assert_int_equal (command (&f, ORIGIN_READ, 4096, sizeof buf, buf), 0);
  for (i = 0; i < sizeof buf; i++)
    assert_int_equal (buf[i], 7);
  assert_int_equal (f.nlost, lost);
  evil_end (&f, &e);
}

/* nbd.B-52 */
TEST (a_read_whose_chunks_do_not_tile_it_is_eio_and_ends_the_connection)
{
  read_meets (&structured, SHORT, EIO, true);
  read_meets (&structured, NOTHING, EIO, true);
  read_meets (&structured, OVERLAP_GAP, EIO, true);
  read_meets (&structured, TWICE, EIO, true);
}

TEST (a_read_may_come_in_any_order_and_with_holes)
{
  read_meets (&structured, HONEST, 0, false);
  read_meets (&structured, OUT_OF_ORDER, 0, false);
  read_meets (&structured, MANY_CHUNKS, 0, false);
  read_meets (&structured, HOLES, 0, false);
  read_meets (&structured, ERROR_AFTER_DATA, EIO, false);
}

/* nbd.B-53, nbd.B-54: the connection breaks, and the next one answers. */
TEST (a_reply_that_nobody_understands_breaks_the_connection_and_the_read_is_sent_again)
{
  read_meets (&structured, OUT_OF_RANGE, 0, true);
  read_meets (&structured, BAD_MAGIC, 0, true);
  read_meets (&structured, UNKNOWN_HANDLE, 0, true);
  read_meets (&structured, WRONG_TYPE, 0, true);
  read_meets (&structured, HUGE_CHUNK, 0, true);
  read_meets (&structured, SIMPLE_TO_STRUCTURED, 0, true);
  read_meets (&simple, BAD_MAGIC, 0, true);
  read_meets (&simple, UNKNOWN_HANDLE, 0, true);
  read_meets (&simple, STRUCTURED_TO_SIMPLE, 0, true);
  read_meets (&simple, HALF_REPLY, 0, true);
}

TEST (an_error_that_the_protocol_does_not_know_is_einval)
{
  read_meets (&simple, UNKNOWN_ERROR, EINVAL, false);
}

TEST (a_server_that_shuts_down_is_left_and_nothing_fails)
{
  struct fixture f;
  struct evil e;
  char buf[512] = { 0 };

  read_meets (&simple, SHUTTING_DOWN, 0, true);

  evil_begin (&f, &e, &simple);
  fixture_begin (&f, NULL);
  trick = SHUTTING_DOWN;
  once = 5;
  assert_int_equal (command (&f, ORIGIN_WRITE, 0, 512, buf), 0);
  assert_int_equal (f.nlost, 5);
  assert_true (said (&f, "shutting down"));
  evil_end (&f, &e);
}

/* Only what came may be told; nonsense is all data (nbd.B-55). */
static void
status_meets (enum trick t, int err, int nextents, unsigned first_type, bool lost)
{
  struct fixture f;
  struct evil e;
  struct extents x;

  evil_begin (&f, &e, &structured);
  fixture_begin (&f, NULL);
  trick = t;
  once = 1;
  extents_of (&f, &x, 0, 64 * K, 0);
  assert_int_equal (x.err, err);
  if (err == 0) {
    assert_int_equal (x.end, 64 * K);
    assert_int_equal (x.n, nextents);
    assert_int_equal (x.type[0], first_type);
  }
  if (lost)
    WAIT_FOR (f.nlost == 1);
  trick = HONEST;
  once = 0;
  extents_of (&f, &x, 0, 64 * K, 0);
  assert_int_equal (x.err, 0);
  assert_int_equal (x.n, 2);
  assert_int_equal (f.nlost, lost);
  evil_end (&f, &e);
}

TEST (block_status_that_makes_no_sense_is_all_data_and_ends_the_connection)
{
  status_meets (HONEST, 0, 2, 3, false);
  status_meets (STATUS_ZERO_LENGTH, 0, 1, 0, true);
  status_meets (STATUS_BEHIND, 0, 1, 0, true);
  status_meets (STATUS_NONE, 0, 1, 0, true);
}

TEST (block_status_may_reach_beyond_the_request_or_come_in_crumbs)
{
  status_meets (STATUS_BEYOND, 0, 2, 0, false);
  status_meets (STATUS_CRUMBS, 0, 8, 0, false);
  status_meets (STATUS_ERROR, EINVAL, 0, 0, false);
}

TEST (where_several_connections_are_allowed_nonsense_about_block_status_costs_no_data)
{
  struct evil multi = {
    .structured = true, .extents = true, .flags = ALL_FLAGS | EVIL_MULTI_CONN,
  };
  struct fixture f;
  struct evil e;
  struct extents x;

  evil_begin (&f, &e, &multi);
  fixture_begin (&f, NULL);
  trick = STATUS_ZERO_LENGTH;
  once = 1;
  extents_of (&f, &x, 0, 64 * K, 0);
  assert_int_equal (x.err, 0);
  assert_int_equal (x.n, 1);
  extents_of (&f, &x, 0, 64 * K, 0);
  assert_int_equal (x.n, 2);
  assert_int_equal (f.nlost, 0);
  evil_end (&f, &e);
}

TEST (a_write_that_is_never_answered_is_given_up)
{
  struct fixture f;
  struct evil e;
  char buf[512] = { 0 };

  evil_begin (&f, &e, &simple);
  f.params->timeout_ns = 100 * NSEC_PER_MSEC;
  f.params->quarantine_ns = 60 * NSEC_PER_SEC;
  fixture_begin (&f, NULL);
  trick = SILENT_WRITE;
  once = 1;
  /* Long before the quarantine is over: the server sees that we hung up, and closes. */
  assert_int_equal (command (&f, ORIGIN_WRITE, 0, 512, buf), ENOTCONN);
  assert_int_equal (f.nlost, 1);
  assert_int_equal (command (&f, ORIGIN_WRITE, 0, 512, buf), 0);
  evil_end (&f, &e);
}

/* The last ten first, one every half timeout. */
static bool
serve_backwards (struct evil_conn *c, const struct evil_request *r)
{
  static uint64_t handle[10];   /* there is one connection */
  unsigned i;

  handle[c->nrequests - 1] = r->handle;
  for (i = c->nrequests < 10 ? 0 : 10; i-- > 0;) {
    poll (NULL, 0, 150);
    if (!evil_simple (c, handle[i], 0, NULL, 0))
      return false;
  }
  return true;
}

TEST (what_is_under_way_together_may_be_answered_in_any_order)
{
  struct evil backwards = { .serve = serve_backwards };
  struct fixture f;
  struct evil e;
  struct ask *a = asks (10);
  unsigned i;

  evil_begin (&f, &e, &backwards);
  f.params->timeout_ns = 300 * slowness () * NSEC_PER_MSEC;
  fixture_begin (&f, NULL);
  for (i = 0; i < 10; i++)
    ask_one (&f, &a[i], ORIGIN_WRITE, i * 512, 512, ORIGIN_PRIO_DEMAND);
  asks_wait (a, 10, 0);
  assert_int_equal (f.nlost, 0);
  evil_end (&f, &e);
}

/* What libnbd sees of it is that there is room in the socket, every half second; no answer comes for four timeouts. */
TEST (a_link_that_takes_a_long_write_slowly_is_not_given_up)
{
  struct evil slow = { .pace_ms = 50 };
  struct fixture f;
  struct evil e;
  struct ask *a = asks (2);

  evil_begin (&f, &e, &slow);
  f.params->timeout_ns = 400 * slowness () * NSEC_PER_MSEC;
  fixture_begin (&f, NULL);
  ask_one (&f, &a[0], ORIGIN_WRITE, 0, 512 * K, ORIGIN_PRIO_DEMAND);
  ask_one (&f, &a[1], ORIGIN_READ, 0, 512, ORIGIN_PRIO_DEMAND);
  asks_wait (a, 2, 0);
  assert_int_equal (f.nlost, 0);
  evil_end (&f, &e);
}

/* Some kinds of socket do not tell how much the far side has not taken. */
static _Atomic bool tells_nothing;
static _Atomic unsigned times_asked;

int
ioctl (int fd, unsigned long request, ...)
{
  int (*real) (int, unsigned long, ...) = dlsym (RTLD_NEXT, "ioctl");
  va_list args;
  void *arg;

  va_start (args, request);
  arg = va_arg (args, void *);
  va_end (args);
  if (request == SIOCOUTQ && atomic_load (&tells_nothing)) {
    atomic_fetch_add (&times_asked, 1);
    errno = EINVAL;
    return -1;
  }
  return real (fd, request, arg);
}

/* Then there is room in the socket now and then, which is all that can be seen. */
TEST (nor_is_one_whose_socket_does_not_tell_what_is_taken)
{
  struct evil slow = { .pace_ms = 20 };
  struct fixture f;
  struct evil e;
  struct ask *a = asks (1);

  evil_begin (&f, &e, &slow);
  f.params->timeout_ns = 800 * slowness () * NSEC_PER_MSEC;
  fixture_begin (&f, NULL);
  atomic_store (&tells_nothing, true);
  times_asked = 0;
  ask_one (&f, a, ORIGIN_WRITE, 0, 1024 * K, ORIGIN_PRIO_DEMAND);
  asks_wait (a, 1, 0);
  atomic_store (&tells_nothing, false);
  assert_int_equal (f.nlost, 0);
  assert_true (times_asked > 0 || slowness () > 1);
  evil_end (&f, &e);
}

/* The first connection's first request is served when it is let go; then what else came on that connection is. */
static sem_t let_go;
static _Atomic bool old_write_came;

static bool
serve_stuck (struct evil_conn *c, const struct evil_request *r)
{
  if (c->number > 1)
    return serve (c, r);
  if (c->nrequests == 1)
    while (sem_wait (&let_go) == -1)
      ;
  else
    atomic_store (&old_write_came, true);
  return true;
}

static _Atomic int old_fd;      /* the far end of the first connection */
static _Atomic bool was_reset;

static void
old_done (struct origin_req *req, int err)
{
  struct pollfd p = { .fd = old_fd };

  poll (&p, 1, 0);
  atomic_store (&was_reset, (p.revents & POLLERR) != 0);
  ask_done_ (req, err);
}

/* The server of a connection that was given up wakes up when a newer write has been answered on the next one.  All of an older
 * write lay in the system's buffers, ours for the most part: closed as usual, the system went on to deliver it.
 */
TEST (what_lies_in_the_buffers_of_a_lost_connection_does_not_come_after_newer_writes)
{
  struct evil stuck = { .tcp = true, .serve = serve_stuck, .size = 2 << 20 };
  struct fixture f;
  struct evil e;
  struct ask *first = asks (1), *old = asks (1);
  char buf[512] = { 0 };

  assert_int_equal (sem_init (&let_go, 0, 0), 0);
  atomic_store (&old_write_came, false);
  evil_begin (&f, &e, &stuck);
  f.params->timeout_ns = 200 * slowness () * NSEC_PER_MSEC;
  f.params->quarantine_ns = 1 * NSEC_PER_MSEC;
  fixture_begin (&f, NULL);
  ask_one (&f, first, ORIGIN_WRITE, 0, 512, ORIGIN_PRIO_DEMAND);
  WAIT_FOR (e.nconns == 1);
  old_fd = e.conn_fd[0];
  old->req.done = old_done;
  ask_one (&f, old, ORIGIN_WRITE, 4096, 1024 * K, ORIGIN_PRIO_DEMAND);
  asks_wait (first, 1, ENOTCONN);
  asks_wait (old, 1, ENOTCONN);
  assert_true (was_reset);      /* before anybody may send newer bytes */
  assert_int_equal (f.nlost, 1);
  assert_int_equal (command (&f, ORIGIN_WRITE, 4096, 512, buf), 0);
  sem_post (&let_go);
  WAIT_FOR (atomic_load (&e.nended) == 1 || atomic_load (&old_write_came));
  assert_false (atomic_load (&old_write_came));
  evil_end (&f, &e);
  sem_destroy (&let_go);
}

TEST (one_more_connection_that_is_not_like_the_others_is_not_used)
{
  struct evil multi = { .flags = ALL_FLAGS | EVIL_MULTI_CONN };
  struct fixture f;
  struct evil e;
  struct ask *a = asks (64);

  evil_begin (&f, &e, &multi);
  fixture_begin (&f, NULL);
  e.flags |= EVIL_READ_ONLY;    /* from the next on */
  ask_many (&f, a, 64, 0, ORIGIN_PRIO_DEMAND);
  asks_wait (a, 64, 0);
  WAIT_FOR (e.nconns < 2 || said (&f, "not like the others: it is read-only now"));
  assert_true (origin_is_up (f.origin));
  assert_int_equal (f.nlost, 0);
  assert_int_equal (f.nfailed, 0);
  evil_end (&f, &e);
}

TEST (the_server_is_told_goodbye)
{
  struct fixture f;
  struct evil e;

  evil_begin (&f, &e, &simple);
  fixture_begin (&f, NULL);
  origin_close (f.origin);
  f.origin = NULL;
  WAIT_FOR (e.said_goodbye == e.nconns);
  evil_stop (&e);
  fixture_close (&f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (a_read_whose_chunks_do_not_tile_it_is_eio_and_ends_the_connection),
    cmocka_unit_test (a_read_may_come_in_any_order_and_with_holes),
    cmocka_unit_test (a_reply_that_nobody_understands_breaks_the_connection_and_the_read_is_sent_again),
    cmocka_unit_test (an_error_that_the_protocol_does_not_know_is_einval),
    cmocka_unit_test (a_server_that_shuts_down_is_left_and_nothing_fails),
    cmocka_unit_test (block_status_that_makes_no_sense_is_all_data_and_ends_the_connection),
    cmocka_unit_test (block_status_may_reach_beyond_the_request_or_come_in_crumbs),
    cmocka_unit_test (where_several_connections_are_allowed_nonsense_about_block_status_costs_no_data),
    cmocka_unit_test (a_write_that_is_never_answered_is_given_up),
    cmocka_unit_test (what_is_under_way_together_may_be_answered_in_any_order),
    cmocka_unit_test (a_link_that_takes_a_long_write_slowly_is_not_given_up),
    cmocka_unit_test (nor_is_one_whose_socket_does_not_tell_what_is_taken),
    cmocka_unit_test (what_lies_in_the_buffers_of_a_lost_connection_does_not_come_after_newer_writes),
    cmocka_unit_test (one_more_connection_that_is_not_like_the_others_is_not_used),
    cmocka_unit_test (the_server_is_told_goodbye),
  };

  cmocka_set_test_filter (getenv ("PC_TEST"));
  return cmocka_run_group_tests (tests, NULL, NULL);
}
