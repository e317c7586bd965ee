/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of the NBD origin against an honest server: commands, queues, connections.
 */
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "nbdserver.h"
#include "nbdtest.h"
#include "origin-nbd.h"

#define K UINT64_C (1024)
#define M (UINT64_C (1024) * 1024)

/* Commands */

TEST (every_command_does_what_it_says_over_several_connections)
{
  struct fixture f;
  char in[4096], out[4096];
  struct extents e;

  fixture_open (&f, "size=1M", NULL);
  assert_true (f.origin->info.can_multi_conn);
  assert_int_equal (f.origin->info.size, M);
  assert_int_equal (f.origin->info.block_min, 1);
  assert_true (f.origin->info.block_max <= 32 * M);
  assert_true (origin_is_up (f.origin));
  commands_work (&f, in, out, sizeof in);
  extents_of (&f, &e, 0, M, 0);
  assert_int_equal (e.err, 0);
  assert_int_equal (e.end, M);
  fixture_close (&f);
}

TEST (every_command_does_what_it_says_over_one_structured_connection)
{
  struct fixture f;
  char in[4096], out[4096];
  struct extents e;

  fixture_open (&f, "size=1M multiconn=no", NULL);
  assert_false (f.origin->info.can_multi_conn);
  commands_work (&f, in, out, sizeof in);
  extents_of (&f, &e, 0, M, 0);
  assert_int_equal (e.err, 0);
  assert_int_equal (e.end, M);
  extents_of (&f, &e, 100, 5000, ORIGIN_ONE);
  assert_int_equal (e.err, 0);
  assert_int_equal (e.n, 1);
  fixture_close (&f);
}

TEST (every_command_does_what_it_says_over_one_connection_with_simple_replies)
{
  struct fixture f;
  char in[4096], out[4096];
  struct extents e;

  fixture_open (&f, "size=1M multiconn=no --no-sr", NULL);
  assert_false (f.origin->info.can_extents);
  commands_work (&f, in, out, sizeof in);
  extents_of (&f, &e, 0, M, 0);
  assert_int_equal (e.err, ENOTSUP);
  fixture_close (&f);
}

TEST (one_connection_is_enough_when_no_more_are_wanted)
{
  struct fixture f;
  char in[4096], out[4096];
  struct extents e;

  fixture_init (&f, "size=1M");
  f.params->connections = 1;
  fixture_begin (&f, NULL);
  commands_work (&f, in, out, sizeof in);
  extents_of (&f, &e, 0, M, 0);
  assert_int_equal (e.err, 0);
  wait_for_connections (&f, 1);
  fixture_close (&f);
}

static void
put_psk (const char *path, const char *text)
{
  FILE *fp = fopen (path, "w");

  assert_non_null (fp);
  fputs (text, fp);
  fclose (fp);
}

TEST (every_command_does_what_it_says_over_tls)
{
  struct fixture f;
  char in[65536], out[65536], psk[128], args[256], *why;
  struct ask *a = asks (200);
  struct origin_info info;

  fixture_init_at (&f, NULL);
  snprintf (psk, sizeof psk, "%s/psk", f.server.dir);
  put_psk (psk, "alice:00112233445566778899aabbccddeeff\n");
  snprintf (args, sizeof args, "--tls=require --tls-psk=%s size=1M", psk);
  nbdserver_start (&f.server, args);
  f.params->tls = true;
  f.params->psk = strdup (psk);
  f.params->username = strdup ("alice");
  fixture_begin (&f, NULL);
  commands_work (&f, in, out, sizeof in);
  ask_many (&f, a, 200, 0, ORIGIN_PRIO_DEMAND);
  asks_wait (a, 200, 0);

  /* A key that is wrong, and a server that has no TLS: never without. */
  put_psk (psk, "alice:00\n");
  assert_int_equal (nbdlink_probe (f.params, &real_clock, &info, &why), EPERM);
  free (why);
  unlink (psk);
  assert_int_equal (nbdlink_probe (f.params, &real_clock, &info, &why), EPERM);
  free (why);
  origin_close (f.origin);
  f.origin = NULL;
  nbdserver_stop (&f.server, SIGKILL);
  put_psk (psk, "alice:00112233445566778899aabbccddeeff\n");
  nbdserver_start (&f.server, "size=1M");
  assert_int_not_equal (nbdlink_probe (f.params, &real_clock, &info, &why), 0);
  free (why);
  fixture_close (&f);
}

TEST (what_the_server_cannot_do_is_not_supported)
{
  struct fixture f;

  fixture_open (&f, "size=1M flush=no fua=none trim=no zero=no cache=no extents=no fastzero=no", NULL);
  assert_false (f.origin->info.can_flush);
  assert_false (f.origin->info.can_fua);
  assert_int_equal (command (&f, ORIGIN_TRIM, 0, 4096, NULL), ENOTSUP);
  assert_int_equal (command (&f, ORIGIN_CACHE, 0, 4096, NULL), ENOTSUP);
  assert_int_equal (command (&f, ORIGIN_FLUSH, 0, 0, NULL), ENOTSUP);
  fixture_close (&f);
}

TEST (the_servers_errors_are_passed_on)
{
  static const struct { const char *name; int err; } errors[] = {
    { "EIO", EIO }, { "ENOSPC", ENOSPC }, { "EPERM", EPERM }, { "ENOMEM", ENOMEM }, { "EINVAL", EINVAL },
  };
  struct fixture f;
  char buf[512] = { 0 };
  unsigned i;

  fixture_open (&f, "size=1M", NULL);
  for (i = 0; i < PC_ARRAY_SIZE (errors); i++) {
    assert_true (nbdserver_say (&f.server, NULL, 0, "fail write %s 1", errors[i].name));
    assert_int_equal (command (&f, ORIGIN_WRITE, 0, 512, buf), errors[i].err);
  }
  assert_int_equal (command (&f, ORIGIN_WRITE, 0, 512, buf), 0);
  fixture_close (&f);
}

TEST (a_flush_is_answered_on_the_connection_that_carried_the_write)
{
  struct fixture f;
  char buf[512] = { 1 };
  struct origin_req write = { .cmd = ORIGIN_WRITE, .len = 512, .buf = buf };
  struct origin_req flush = { .cmd = ORIGIN_FLUSH };

  fixture_open (&f, "size=1M", NULL);
  assert_int_equal (origin_do (f.origin, &write), 0);
  assert_true (write.carrier != 0);
  flush.carrier = write.carrier;
  assert_int_equal (origin_do (f.origin, &flush), 0);
  flush.carrier = write.carrier + 1000;
  assert_int_equal (origin_do (f.origin, &flush), ENOTCONN);
  flush.carrier = 0;
  assert_int_equal (origin_do (f.origin, &flush), 0);
  fixture_close (&f);
}

/* Queues */

TEST (at_most_64_are_under_way_and_48_of_them_in_the_background)
{
  struct fixture f;
  struct ask *back = asks (100), *demand = asks (30);

  fixture_open (&f, "-t100 size=1M multiconn=no", NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close read"));
  ask_many (&f, back, 100, 0, ORIGIN_PRIO_READAHEAD);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait read 48"));
  assert_false (nbdserver_say (&f.server, NULL, 0, "wait read 49 0.1"));
  ask_many (&f, demand, 30, 100 * K, ORIGIN_PRIO_DEMAND);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait read 64"));
  assert_false (nbdserver_say (&f.server, NULL, 0, "wait read 65 0.1"));
  assert_true (nbdserver_say (&f.server, NULL, 0, "open read"));
  asks_wait (back, 100, 0);
  asks_wait (demand, 30, 0);
  fixture_close (&f);
}

TEST (demand_goes_before_readahead_and_that_before_writeback)
{
  struct fixture f;
  struct ask *first = asks (64), *wb = asks (20), *ra = asks (20), *demand = asks (20);

  fixture_open (&f, "-t100 size=1M multiconn=no", NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close read"));
  ask_many (&f, first, 64, 0, ORIGIN_PRIO_DEMAND);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait read 64"));
  ask_many (&f, wb, 20, 100 * K, ORIGIN_PRIO_WRITEBACK);
  ask_many (&f, ra, 20, 200 * K, ORIGIN_PRIO_READAHEAD);
  ask_many (&f, demand, 20, 300 * K, ORIGIN_PRIO_DEMAND);
  /* Room for 20: demand alone goes, then read-ahead. */
  assert_true (nbdserver_say (&f.server, NULL, 0, "release read 20"));
  WAIT_FOR (came (&f, 300 * K, 400 * K) == 20);
  assert_int_equal (came (&f, 100 * K, 300 * K), 0);
  assert_true (nbdserver_say (&f.server, NULL, 0, "release read 20"));
  WAIT_FOR (came (&f, 200 * K, 300 * K) == 20);
  assert_int_equal (came (&f, 100 * K, 200 * K), 0);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open read"));
  asks_wait (first, 64, 0);
  asks_wait (demand, 20, 0);
  asks_wait (ra, 20, 0);
  asks_wait (wb, 20, 0);
  fixture_close (&f);
}

TEST (more_connections_come_with_more_requests_and_go_when_idle)
{
  struct fixture f;
  struct ask *a = asks (64);

  fixture_init (&f, "-t16 size=1M extents=no");
  f.params->idle_ns = 50 * slowness () * NSEC_PER_MSEC;
  fixture_begin (&f, NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close read"));
  ask_many (&f, a, 8, 0, ORIGIN_PRIO_DEMAND);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait read 8"));
  wait_for_connections (&f, 1);
  ask_many (&f, a + 8, 56, 4096, ORIGIN_PRIO_DEMAND);
  wait_for_connections (&f, 4);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open read"));
  asks_wait (a, 64, 0);
  wait_for_connections (&f, 0);
  WAIT_FOR (f.nlost == 4);
  /* It all works as before. */
  assert_int_equal (command (&f, ORIGIN_FLUSH, 0, 0, NULL), 0);
  fixture_close (&f);
}

TEST (an_idle_connection_stays_while_its_writes_are_not_flushed)
{
  struct fixture f;
  struct ask *a = asks (64);
  uint32_t carrier[2] = { 0 };
  unsigned i;
  int before;

  fixture_init (&f, "-t16 size=1M extents=no");
  f.params->connections = 2;
  f.params->idle_ns = 20 * slowness () * NSEC_PER_MSEC;
  fixture_begin (&f, NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close write"));
  for (i = 0; i < 64; i++)
    ask_one (&f, &a[i], ORIGIN_WRITE, i * 512, 512, ORIGIN_PRIO_DEMAND);
  /* 16 at a time on each: both have some. */
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait write 32"));
  assert_true (nbdserver_say (&f.server, NULL, 0, "open write"));
  for (i = 0; i < 64; i++) {
    ask_wait (&a[i]);
    assert_int_equal (a[i].err, 0);
    carrier[a[i].req.carrier != a[0].req.carrier] = a[i].req.carrier;
  }
  assert_true (carrier[1] != 0);
  asks_free (a, 64);
  /* The first one may have been idle before the first write. */
  before = f.nlost;
  poll (NULL, 0, 300 * (int) slowness ());
  assert_int_equal (f.nlost, before);
  for (i = 0; i < 2; i++) {
    struct origin_req flush = { .cmd = ORIGIN_FLUSH, .carrier = carrier[i] };

    assert_int_equal (origin_do (f.origin, &flush), 0);
  }
  WAIT_FOR (f.nlost == before + 2);
  wait_for_connections (&f, 0);
  assert_int_equal (f.lost[before], carrier[1]);
  fixture_close (&f);
}

TEST (an_idle_connection_goes_when_all_that_it_wrote_is_durable)
{
  static const enum origin_cmd cmds[] = { ORIGIN_WRITE, ORIGIN_ZERO, ORIGIN_TRIM };
  struct fixture f;
  char buf[4096] = "durable";
  unsigned i;

  fixture_init (&f, "size=1M extents=no");
  f.params->connections = 1;
  f.params->idle_ns = 20 * slowness () * NSEC_PER_MSEC;
  fixture_begin (&f, NULL);
  for (i = 0; i < PC_ARRAY_SIZE (cmds); i++) {
    struct origin_req fua = { .cmd = cmds[i], .flags = ORIGIN_FUA, .off = 4096, .len = sizeof buf };

    if (cmds[i] == ORIGIN_WRITE)
      fua.buf = buf;
    assert_int_equal (origin_do (f.origin, &fua), 0);
    wait_for_connections (&f, 0);
  }
  fixture_close (&f);
}

static unsigned
open_descriptors (void)
{
  DIR *d = opendir ("/proc/self/fd");
  unsigned n = 0;

  assert_non_null (d);
  while (readdir (d) != NULL)
    n++;
  closedir (d);
  return n;
}

static uint64_t
reconnects (struct fixture *f)
{
  struct origin_stats stats;

  origin_get_stats (f->origin, &stats);
  return stats.reconnects;
}

TEST (the_last_connection_goes_when_idle_and_one_comes_when_needed)
{
  static const char *const servers[] = { "size=1M", "size=1M multiconn=no" };
  char in[4096], out[4096];
  struct extents e;
  unsigned i, before;

  for (i = 0; i < 2; i++) {
    struct fixture f;

    fixture_init (&f, servers[i]);
    f.params->idle_ns = 20 * slowness () * NSEC_PER_MSEC;
    before = open_descriptors ();
    fixture_begin (&f, NULL);
    wait_for_connections (&f, 0);
    /* Nothing is left but what wakes drivers, and that is kept for who comes next. */
    WAIT_FOR (open_descriptors () <= before + 2);
    assert_true (origin_is_up (f.origin));
    commands_work (&f, in, out, sizeof in);
    wait_for_connections (&f, 0);
    extents_of (&f, &e, 0, M, 0);
    assert_int_equal (e.err, 0);
    assert_int_equal (e.end, M);
    wait_for_connections (&f, 0);
    WAIT_FOR (open_descriptors () <= before + 2);
    /* That is no loss of the origin. */
    assert_int_equal (reconnects (&f), 0);
    assert_string_equal (f.said, "");
    fixture_close (&f);
  }
}

TEST (idle_connections_go_at_once_when_asked_to)
{
  struct fixture f;
  struct ask *a = asks (1);
  char in[4096], out[4096];

  fixture_open (&f, "size=1M multiconn=no", NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close read"));
  ask_one (&f, a, ORIGIN_READ, 0, 512, ORIGIN_PRIO_DEMAND);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait read 1"));
  assert_int_equal (origin_rest (f.origin), 0);
  assert_true (nbdserver_say (&f.server, NULL, 0, "open read"));
  asks_wait (a, 1, 0);
  WAIT_FOR (origin_rest (f.origin) == 1);
  wait_for_connections (&f, 0);
  assert_int_equal (origin_rest (f.origin), 0);
  commands_work (&f, in, out, sizeof in);
  fixture_close (&f);
}

TEST (an_origin_that_left_while_nothing_was_needed_is_waited_for)
{
  struct fixture f;
  struct ask *a = asks (1);
  char buf[512];

  fixture_init (&f, "size=1M");
  f.params->idle_ns = 20 * slowness () * NSEC_PER_MSEC;
  fixture_begin (&f, NULL);
  wait_for_connections (&f, 0);
  nbdserver_stop (&f.server, SIGKILL);
  assert_true (origin_is_up (f.origin));        /* as far as anybody knows */
  ask_one (&f, a, ORIGIN_READ, 0, 512, ORIGIN_PRIO_DEMAND);
  WAIT_FOR (said (&f, "cannot connect"));
  assert_false (origin_is_up (f.origin));
  nbdserver_start (&f.server, "size=1M");
  asks_wait (a, 1, 0);
  assert_true (said (&f, "connected again"));
  assert_int_equal (reconnects (&f), 1);

  /* As something else: nothing is asked of it. */
  wait_for_connections (&f, 0);
  nbdserver_stop (&f.server, SIGKILL);
  nbdserver_start (&f.server, "-r size=1M");
  assert_int_equal (command (&f, ORIGIN_READ, 0, 512, buf), EIO);
  WAIT_FOR (said (&f, "came back as another"));
  assert_false (origin_is_up (f.origin));
  fixture_close (&f);
}

TEST (an_origin_that_left_while_nothing_was_needed_is_not_waited_for_longer_than_another)
{
  struct fixture f;
  char buf[512];

  fixture_init (&f, "size=1M");
  f.params->idle_ns = 20 * slowness () * NSEC_PER_MSEC;
  f.params->reconnect_ns = 50 * NSEC_PER_MSEC;
  fixture_begin (&f, NULL);
  wait_for_connections (&f, 0);
  nbdserver_stop (&f.server, SIGKILL);
  assert_int_equal (command (&f, ORIGIN_READ, 0, 512, buf), ETIMEDOUT);
  fixture_close (&f);
}

TEST (without_descriptors_an_open_fails_at_once_and_says_so)
{
  struct fixture f;
  struct rlimit before, few;
  struct origin *origin;
  char *canonical, *why, buf[512];
  unsigned left;

  fixture_open (&f, "size=1M", NULL);
  assert_int_equal (getrlimit (RLIMIT_NOFILE, &before), 0);
  /* Down to none at all: wherever it fails, it fails cleanly. */
  for (left = 0; left < 8; left++) {
    int dup_of_0 = dup (0), err;

    assert_true (dup_of_0 != -1);
    close (dup_of_0);           /* the lowest that is free */
    few = before;
    few.rlim_cur = (unsigned) dup_of_0 + left;
    assert_int_equal (setrlimit (RLIMIT_NOFILE, &few), 0);
    canonical = why = NULL;
    err = origin_nbd_open (f.params, NULL, -1, f.loop, &origin, &canonical, &why);
    assert_int_equal (setrlimit (RLIMIT_NOFILE, &before), 0);
    if (err == 0)
      origin_close (origin);
    else if (err != EMFILE)
      fail_msg ("%u left: %s", left, strerror (err));
    assert_true (err == 0 || why == NULL || strstr (why, "Too many open files") != NULL);
    free (why);
    free (canonical);
  }
  /* Who is there goes on. */
  assert_int_equal (command (&f, ORIGIN_READ, 0, 512, buf), 0);
  fixture_close (&f);
}

TEST (a_socket_that_takes_no_more_is_written_when_it_does)
{
  struct fixture f;
  struct ask *a = asks (40);
  unsigned i;
  char out[512];

  fixture_open (&f, "size=64M multiconn=no", NULL);
  nbdserver_pause (&f.server);
  for (i = 0; i < 40; i++)
    ask_one (&f, &a[i], ORIGIN_WRITE, i * M, M, ORIGIN_PRIO_DEMAND);
  /* More than any socket buffer holds has been submitted, and nobody was blocked. */
  assert_int_equal (asks_pending (a, 40), 40);
  nbdserver_go_on (&f.server);
  asks_wait (a, 40, 0);
  assert_int_equal (command (&f, ORIGIN_READ, 39 * M + 512, 512, out), 0);
  assert_int_equal ((unsigned char) out[0], pattern (39 * M));
  fixture_close (&f);
}

TEST (an_origin_that_is_closed_answers_what_waits)
{
  struct fixture f;
  struct ask *a = asks (100);

  fixture_open (&f, "-t16 size=1M multiconn=no", NULL);
  assert_true (nbdserver_say (&f.server, NULL, 0, "close read"));
  ask_many (&f, a, 100, 0, ORIGIN_PRIO_DEMAND);
  assert_true (nbdserver_say (&f.server, NULL, 0, "wait read 16"));
  origin_close (f.origin);
  f.origin = NULL;
  asks_wait (a, 100, ECANCELED);
  /* nbdkit 1.32 may have died of the answers that it can give to nobody. */
  nbdserver_say (&f.server, NULL, 0, "open read");
  fixture_close (&f);
}

/* nbdkit 1.32 dies when its client hangs up with replies to come: read-ahead, at the end of a cache. */
TEST (a_server_that_is_about_to_answer_is_heard_out)
{
  struct fixture f;
  struct ask *a = asks (8);

  fixture_open (&f, "-t16 size=1M delay=0.1 multiconn=no", NULL);
  ask_many (&f, a, 8, 0, ORIGIN_PRIO_READAHEAD);
  origin_close (f.origin);
  f.origin = NULL;
  asks_wait (a, 8, 0);
  fixture_close (&f);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (every_command_does_what_it_says_over_several_connections),
    cmocka_unit_test (every_command_does_what_it_says_over_one_structured_connection),
    cmocka_unit_test (every_command_does_what_it_says_over_one_connection_with_simple_replies),
    cmocka_unit_test (one_connection_is_enough_when_no_more_are_wanted),
    cmocka_unit_test (every_command_does_what_it_says_over_tls),
    cmocka_unit_test (what_the_server_cannot_do_is_not_supported),
    cmocka_unit_test (the_servers_errors_are_passed_on),
    cmocka_unit_test (a_flush_is_answered_on_the_connection_that_carried_the_write),
    cmocka_unit_test (at_most_64_are_under_way_and_48_of_them_in_the_background),
    cmocka_unit_test (demand_goes_before_readahead_and_that_before_writeback),
    cmocka_unit_test (more_connections_come_with_more_requests_and_go_when_idle),
    cmocka_unit_test (an_idle_connection_stays_while_its_writes_are_not_flushed),
    cmocka_unit_test (an_idle_connection_goes_when_all_that_it_wrote_is_durable),
    cmocka_unit_test (the_last_connection_goes_when_idle_and_one_comes_when_needed),
    cmocka_unit_test (idle_connections_go_at_once_when_asked_to),
    cmocka_unit_test (an_origin_that_left_while_nothing_was_needed_is_waited_for),
    cmocka_unit_test (an_origin_that_left_while_nothing_was_needed_is_not_waited_for_longer_than_another),
    cmocka_unit_test (without_descriptors_an_open_fails_at_once_and_says_so),
    cmocka_unit_test (a_socket_that_takes_no_more_is_written_when_it_does),
    cmocka_unit_test (an_origin_that_is_closed_answers_what_waits),
    cmocka_unit_test (a_server_that_is_about_to_answer_is_heard_out),
  };

  cmocka_set_test_filter (getenv ("PC_TEST"));
  return cmocka_run_group_tests (tests, NULL, NULL);
}
