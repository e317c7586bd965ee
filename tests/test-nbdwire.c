/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of nbdwire: what no test of the whole origin brings about on purpose.
 */
#include "test.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <libnbd.h>

#include "evil.h"
#include "nbdwire.h"

static struct clock real_clock = CLOCK_REAL_INIT;

static bool
hang_up (struct evil_conn *c, const struct evil_request *r)
{
  (void) c;
  (void) r;
  return false;
}

static void
connect_to (struct evil *e, struct nbdwire *w)
{
  struct pagecache_origin o = {
    .unix_socket = e->path, .tls_verify = true, .timeout_ns = 60 * NSEC_PER_SEC, .reconnect_ns = NSEC_PER_SEC,
  };
  struct nbdlink_params *params;
  struct nbdlink link;
  char *why;

  assert_int_equal (nbdlink_params_create (&o, &params, &why), 0);
  assert_int_equal (nbdlink_connect (params, "", true, -1, &real_clock, &link, &why), 0);
  nbdlink_params_free (params);
  nbdwire_init (w, &link);
}

/* From now on, memory of such sizes that is freed is filled with 0xff: what is read from it says -1.  The C library fills
 * nothing that goes to a thread's own few chunks, so these are full.
 */
static void
fill_what_is_freed (void)
{
  void *chunk[16];
  size_t size, i;

  for (size = 24; size <= 512; size += 16) {
    for (i = 0; i < 16; i++)
      chunk[i] = malloc (size);
    for (i = 0; i < 16; i++)
      free (chunk[i]);
  }
  mallopt (M_PERTURB, 255);
}

TEST (a_command_that_ends_while_it_is_sent_is_answered_once)
{
  const char *tmp = getenv ("TMPDIR");
  char dir[80], buf[512];
  struct evil e = { .size = 1 << 20, .flags = EVIL_HAS_FLAGS, .structured = true, .serve = hang_up };
  struct origin_req first = { .cmd = ORIGIN_READ, .len = sizeof buf, .buf = buf }, req = first, *done;
  struct pollfd gone = { .events = POLLRDHUP };
  struct nbdwire w;
  unsigned answers = 0;
  int err;

  snprintf (dir, sizeof dir, "%s/pagecache-wire.XXXXXX", tmp != NULL ? tmp : "/tmp");
  assert_non_null (mkdtemp (dir));
  evil_start (&e, dir);
  connect_to (&e, &w);
  assert_int_equal (nbdwire_issue (&w, &first), 0);
  gone.fd = w.link.fd;
  assert_int_equal (poll (&gone, 1, 60000), 1);
  fill_what_is_freed ();
  err = nbdwire_issue (&w, &req);
  mallopt (M_PERTURB, 0);
  for (done = nbdwire_take_done (&w); done != NULL; done = done->next)
    answers += done == &req;
  assert_int_equal (answers, err == 0);
  assert_true (err == 0 || err == ENOTCONN);
  nbdlink_close (&w.link);
  evil_stop (&e);
  rmdir (dir);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (a_command_that_ends_while_it_is_sent_is_answered_once),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
