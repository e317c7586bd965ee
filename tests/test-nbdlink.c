/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of connecting: parameters, what TLS must have, what a server may say of itself, deadlines.
 */
#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "evil.h"
#include "nbdtest.h"

#define FLAGS (EVIL_HAS_FLAGS | EVIL_SEND_FLUSH)

/* Parameters */

static void
refused (const struct pagecache_origin *o, const char *word)
{
  struct nbdlink_params *params;
  char *why;

  assert_int_equal (nbdlink_params_create (o, &params, &why), EINVAL);
  assert_non_null (why);
  if (strstr (why, word) == NULL)
    fail_msg ("%s lacks %s", why, word);
  free (why);
}

TEST (parameters_that_contradict_each_other_are_refused)
{
  static const char long_path[] =
    "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

  refused (&(struct pagecache_origin) { 0 }, "no origin");
  refused (&(struct pagecache_origin) { .uri = "nbd://host:0" }, "port 0");
  refused (&(struct pagecache_origin) { .uri = "nbd://host/a", .export_name = "b" }, "twice");
  refused (&(struct pagecache_origin) { .uri = "nbds://u@host", .tls_username = "v" }, "twice");
  refused (&(struct pagecache_origin) { .uri = "nbd://host", .tls = PAGECACHE_TLS_REQUIRE }, "nbds");
  refused (&(struct pagecache_origin) { .uri = "nbds://host", .tls = PAGECACHE_TLS_OFF }, "tls=off");
  refused (&(struct pagecache_origin) { .unix_socket = "" }, "empty");
  refused (&(struct pagecache_origin) { .unix_socket = long_path }, "108 bytes");
  refused (&(struct pagecache_origin) { .hostname = "" }, "empty");
  refused (&(struct pagecache_origin) { .hostname = "h", .port = "0" }, "port=0");
  refused (&(struct pagecache_origin) { .hostname = "h", .port = "65536" }, "port=65536");
  refused (&(struct pagecache_origin) { .hostname = "h", .port = "-1" }, "port=-1");
  refused (&(struct pagecache_origin) { .hostname = "h", .connections = 65 }, "connections=65");
  refused (&(struct pagecache_origin) { .hostname = "h", .export_name = "\xff" }, "UTF-8");
  refused (&(struct pagecache_origin) { .hostname = "h", .tls_psk = "/k" }, "TLS is not used");
}

TEST (parameters_become_an_address_and_have_defaults)
{
  struct pagecache_origin o = { .uri = "nbd://[::1]:1/x%0ay" };
  struct nbdlink_params *p;
  char *why, name[64];

  assert_int_equal (nbdlink_params_create (&o, &p, &why), 0);
  assert_string_equal (p->address, "nbd://[::1]:1");
  assert_string_equal (p->export_name, "x\ny");
  nbdlink_name (p, p->export_name, name, sizeof name);
  assert_string_equal (name, "nbd://[::1]:1/x?y");
  assert_int_equal (p->connections, 4);
  assert_int_equal (p->timeout_ns, 30 * NSEC_PER_SEC);
  nbdlink_params_free (p);

  o = (struct pagecache_origin) { .vsock = true, .vsock_cid = 3, .export_name = "e" };
  assert_int_equal (nbdlink_params_create (&o, &p, &why), 0);
  assert_string_equal (p->address, "nbd+vsock://3:10809");
  nbdlink_params_free (p);

  o = (struct pagecache_origin) { .unix_socket = "rel.sock" };
  assert_int_equal (nbdlink_params_create (&o, &p, &why), 0);
  assert_int_equal (p->socket[0], '/');
  assert_non_null (strstr (p->socket, "/rel.sock"));
  nbdlink_params_free (p);
}

/* TLS */

static void
put_file (const char *dir, const char *name, const char *text, mode_t mode)
{
  char path[256];
  int fd;

  snprintf (path, sizeof path, "%s/%s", dir, name);
  unlink (path);
  fd = open (path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
  assert_int_not_equal (fd, -1);
  assert_int_equal (write (fd, text, strlen (text)), strlen (text));
  assert_int_equal (fchmod (fd, mode), 0);
  close (fd);
}

/* word NULL: nothing to object to. */
static void
tls_says (const struct pagecache_origin *o, const char *word)
{
  struct nbdlink_params *p;
  char *why;
  int err = nbdlink_params_create (o, &p, &why);

  assert_int_equal (err, 0);
  err = nbdlink_check_tls (p, &why);
  if (word == NULL && err != 0)
    fail_msg ("%s", why);
  if (word != NULL) {
    assert_int_equal (err, EPERM);
    if (strstr (why, word) == NULL)
      fail_msg ("%s lacks %s", why, word);
  }
  free (why);
  nbdlink_params_free (p);
}

#define PEM "-----BEGIN CERTIFICATE-----\n"

/* nbd.B-36, nbd.B-37 */
TEST (certificates_that_would_leave_the_server_unverified_are_refused)
{
  struct nbdserver dir;
  struct pagecache_origin o = { .uri = "nbds://host", .tls_verify = true };
  char missing[128];

  nbdserver_init (&dir);
  snprintf (missing, sizeof missing, "%s/missing", dir.dir);
  tls_says (&o, "does not verify");                     /* the system's certificates */
  o.tls_certificates = missing;
  tls_says (&o, "No such file");
  o.tls_certificates = dir.dir;
  tls_says (&o, "ca-cert.pem");
  put_file (dir.dir, "ca-cert.pem", "", 0644);
  tls_says (&o, "holds no certificate");
  put_file (dir.dir, "ca-cert.pem", PEM, 0644);
  tls_says (&o, NULL);
  put_file (dir.dir, "client-cert.pem", PEM, 0644);
  tls_says (&o, "go together");
  put_file (dir.dir, "client-key.pem", "key", 0640);
  tls_says (&o, "chmod 600");
  put_file (dir.dir, "client-key.pem", "key", 0600);
  tls_says (&o, NULL);

  /* A certificate is not compared over a Unix socket (nbd.B-37). */
  o = (struct pagecache_origin) {
    .unix_socket = "/s", .tls = PAGECACHE_TLS_REQUIRE, .tls_verify = true, .tls_certificates = dir.dir
  };
  tls_says (&o, "Unix socket");
  o.tls_verify = false;
  tls_says (&o, NULL);
  o.tls_certificates = NULL;
  tls_says (&o, NULL);
  nbdserver_release (&dir);
}

/* nbd.B-38 */
TEST (a_psk_file_must_have_a_key_for_the_user)
{
  struct nbdserver dir;
  char path[128];
  struct pagecache_origin o = {
    .unix_socket = "/s", .tls = PAGECACHE_TLS_REQUIRE, .tls_verify = true, .tls_psk = path,
    .tls_username = "alice",
  };

  nbdserver_init (&dir);
  snprintf (path, sizeof path, "%s/psk", dir.dir);
  tls_says (&o, "No such file");
  put_file (dir.dir, "psk", "", 0600);
  tls_says (&o, "no line for the user");
  put_file (dir.dir, "psk", "bob:0123\nalicia:01\n", 0600);
  tls_says (&o, "no line for the user");
  put_file (dir.dir, "psk", "bob:0123\nalice:01xy\n", 0600);
  tls_says (&o, "not hexadecimal");
  put_file (dir.dir, "psk", "alice:\n", 0600);
  tls_says (&o, "not hexadecimal");
  put_file (dir.dir, "psk", "alice:012\n", 0600);
  tls_says (&o, "not hexadecimal");
  put_file (dir.dir, "psk", "bob:zz\nalice:0123abCD\n", 0600);
  tls_says (&o, NULL);
  o.tls_certificates = dir.dir;
  tls_says (&o, "exclude each other");
  nbdserver_release (&dir);
}

/* Servers */

static unsigned
threads (void)
{
  DIR *dir = opendir ("/proc/self/task");
  unsigned n = 0;

  assert_non_null (dir);
  while (readdir (dir) != NULL)
    n++;
  closedir (dir);
  return n;
}

TEST (a_probe_reads_what_there_is_and_leaves_nothing_behind)
{
  struct nbdserver s;
  struct nbdlink_params *p;
  struct origin_info info;
  unsigned before = threads ();
  char *why;

  nbdserver_init (&s);
  nbdserver_start (&s, "size=3M minblock=512 maxblock=1M readonly=yes");
  p = params_for (s.socket);
  assert_int_equal (nbdlink_probe (p, &real_clock, &info, &why), 0);
  assert_int_equal (info.size, 3 << 20);
  assert_true (info.read_only);
  assert_int_equal (info.block_min, 512);
  assert_int_equal (info.block_max, 1 << 20);
  assert_true (info.can_extents);
  assert_int_equal (threads (), before);
  WAIT_FOR (connections_to (s.socket) == 0);
  nbdlink_params_free (p);
  nbdserver_release (&s);
}

/* nbd.B-39 */
TEST (a_server_that_is_not_there_is_named_with_the_reason)
{
  struct nbdserver s;
  struct nbdlink_params *p;
  struct origin_info info;
  struct pagecache_origin o = { .hostname = "127.0.0.1", .port = "1", .tls_verify = true };
  char *why;

  nbdserver_init (&s);
  p = params_for (s.socket);
  assert_int_equal (nbdlink_probe (p, &real_clock, &info, &why), ECONNREFUSED);
  assert_non_null (strstr (why, s.socket));
  assert_non_null (strstr (why, "No such file"));
  free (why);
  nbdlink_params_free (p);
  nbdserver_release (&s);

  assert_int_equal (nbdlink_params_create (&o, &p, &why), 0);
  assert_int_equal (nbdlink_probe (p, &real_clock, &info, &why), ECONNREFUSED);
  assert_non_null (strstr (why, "nbd://127.0.0.1:1/"));
  free (why);
  nbdlink_params_free (p);

  o.hostname = "no-such-host.invalid";
  assert_int_equal (nbdlink_params_create (&o, &p, &why), 0);
  assert_int_not_equal (nbdlink_probe (p, &real_clock, &info, &why), 0);
  assert_non_null (strstr (why, "no-such-host.invalid"));
  free (why);
  nbdlink_params_free (p);
}

/* nbd.B-40 */
TEST (an_export_that_the_server_lacks_is_enoent)
{
  struct nbdserver s;
  struct nbdlink_params *p;
  struct nbdlink link;
  struct origin_info info;
  char *why;

  nbdserver_init (&s);
  nbdserver_start (&s, "size=1M exports=a,b default=b");
  p = params_for (s.socket);
  assert_int_equal (nbdlink_connect (p, "c", true, -1, &real_clock, &link, &why), ENOENT);
  assert_non_null (strstr (why, "/c: "));
  free (why);
  assert_int_equal (nbdlink_connect (p, "a", true, -1, &real_clock, &link, &why), 0);
  nbdlink_close (&link);
  assert_int_equal (nbdlink_connect (p, "", false, -1, &real_clock, &link, &why), 0);
  assert_string_equal (link.canonical, "b");
  assert_false (link.structured);
  nbdlink_close (&link);
  /* With dynamic exports the name is not yet known. */
  p->dynamic_export = true;
  free (p->export_name);
  p->export_name = strdup ("c");
  assert_int_equal (nbdlink_probe (p, &real_clock, &info, &why), 0);
  nbdlink_params_free (p);
  nbdserver_release (&s);
}

static int
note_name (void *arg, const char *name, const char *description)
{
  (void) description;
  strcat (arg, name);
  strcat (arg, ",");
  return strcmp (name, "stop") == 0 ? 77 : 0;
}

TEST (exports_are_listed)
{
  struct nbdserver s;
  struct nbdlink_params *p;
  char names[100] = "", *why;

  nbdserver_init (&s);
  nbdserver_start (&s, "size=1M exports=a,b,stop,d");
  p = params_for (s.socket);
  assert_int_equal (nbdlink_list (p, -1, &real_clock, note_name, names, &why), 77);
  assert_string_equal (names, "a,b,stop,");
  nbdlink_params_free (p);
  nbdserver_release (&s);
}

/* Connect to a server that says so of itself. */
static int
meet (struct evil *e, struct nbdlink *link, const char *name, uint64_t timeout_ns, int cancel_fd,
      const char *word)
{
  struct nbdserver dir;
  struct nbdlink_params *p;
  char *why;
  int err;

  nbdserver_init (&dir);
  evil_start (e, dir.dir);
  p = params_for (e->path);
  p->timeout_ns = timeout_ns;
  err = nbdlink_connect (p, name, true, cancel_fd, &real_clock, link, &why);
  if (err != 0) {
    assert_non_null (why);
    if (strstr (why, word) == NULL)
      fail_msg ("%s lacks %s", why, word);
    free (why);
  }
  evil_stop (e);
  nbdlink_params_free (p);
  nbdserver_release (&dir);
  return err;
}

static bool
hang_up (struct evil_conn *c, const struct evil_request *r)
{
  (void) c;
  (void) r;
  return false;
}

/* nbd.B-45, nbd.B-46, nbd.B-47 */
TEST (what_a_server_says_of_itself_is_checked)
{
  static const struct {
    struct evil evil;
    const char *name;
    int err;
    const char *word;
  } cases[] = {
    { { .size = 0 }, "", 0, NULL },
    { { .size = 1 }, "", 0, NULL },
    { { .size = INT64_MAX }, "", 0, NULL },
    { { .size = (uint64_t) INT64_MAX + 1 }, "", EINVAL, "9223372036854775808" },
    { { .size = UINT64_MAX }, "", EINVAL, "18446744073709551615" },
    { { .size = 8192, .block_min = 4096, .block_pref = 4096, .block_max = 1 << 20 }, "", 0, NULL },
    { { .size = 8193, .block_min = 4096, .block_pref = 4096, .block_max = 1 << 20 }, "", EINVAL, "multiple" },
    { { .size = 65536, .block_min = 65536, .block_pref = 65536, .block_max = 65536 }, "", 0, NULL },
    { { .size = 4096, .block_min = 1, .block_pref = 4096, .block_max = UINT32_MAX }, "", 0, NULL },
    { { .size = 4096, .block_min = 3, .block_pref = 4096, .block_max = 8192 }, "", 0, NULL },  /* nbd.B-51 */
    { { .size = 4096, .oldstyle = true }, "", 0, NULL },
    { { .size = 4096, .oldstyle = true }, "disk", ENOENT, "oldstyle" },
    { { .size = 4096, .go_error = 0x80000006 }, "disk", ENOENT, "disk" },
  };
  unsigned i;

  for (i = 0; i < PC_ARRAY_SIZE (cases); i++) {
    struct evil e = cases[i].evil;
    struct nbdlink link;
    int err;

    e.flags = FLAGS;
    e.serve = hang_up;
    err = meet (&e, &link, cases[i].name, 60 * NSEC_PER_SEC, -1, cases[i].word);
    if (err != cases[i].err)
      fail_msg ("case %u: %s", i, strerror (err));
    if (err != 0)
      continue;
    assert_int_equal (link.info.size, e.size);
    assert_int_equal (link.info.read_only, e.size == 0);
    assert_true (link.info.block_max <= 32 << 20 && link.info.block_max >= link.info.block_min);
    assert_true ((link.info.block_min & (link.info.block_min - 1)) == 0);
    nbdlink_close (&link);
  }
}

TEST (a_server_that_says_nothing_has_only_so_long)
{
  struct evil e = { .silent = true };
  struct nbdlink link;
  uint64_t start = clock_now (&real_clock);

  assert_int_equal (meet (&e, &link, "", 100 * NSEC_PER_MSEC, -1, "no answer in 0.1"), ETIMEDOUT);
  assert_true (clock_now (&real_clock) - start >= 100 * NSEC_PER_MSEC);
}

TEST (an_attempt_is_canceled_by_its_descriptor)
{
  struct evil e = { .silent = true };
  struct nbdlink link;
  int fd = eventfd (1, 0);

  assert_int_equal (meet (&e, &link, "", 60 * NSEC_PER_SEC, fd, "canceled"), ECANCELED);
  close (fd);
}

TEST (a_difference_that_matters_is_named)
{
  const struct origin_info was = {
    .size = 1, .can_flush = true, .can_fua = true, .can_multi_conn = true, .block_min = 1, .block_max = 2,
  };
  struct origin_info is = was;

  assert_null (nbdlink_differs (&was, &is));
  is.size = 7;
  is.can_trim = is.can_zero = is.rotational = true;
  is.block_pref = 4096;
  assert_null (nbdlink_differs (&was, &is));
  is = was; is.read_only = true;
  assert_non_null (nbdlink_differs (&was, &is));
  assert_non_null (nbdlink_differs (&is, &was));
  is = was; is.block_min = 2;
  assert_non_null (nbdlink_differs (&was, &is));
  is = was; is.block_max = 1;
  assert_non_null (nbdlink_differs (&was, &is));
  is = was; is.can_flush = false;
  assert_non_null (nbdlink_differs (&was, &is));
  assert_null (nbdlink_differs (&is, &was));
  is = was; is.can_fua = false;
  assert_non_null (nbdlink_differs (&was, &is));
  is = was; is.can_multi_conn = false;
  assert_non_null (nbdlink_differs (&was, &is));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (parameters_that_contradict_each_other_are_refused),
    cmocka_unit_test (parameters_become_an_address_and_have_defaults),
    cmocka_unit_test (certificates_that_would_leave_the_server_unverified_are_refused),
    cmocka_unit_test (a_psk_file_must_have_a_key_for_the_user),
    cmocka_unit_test (a_probe_reads_what_there_is_and_leaves_nothing_behind),
    cmocka_unit_test (a_server_that_is_not_there_is_named_with_the_reason),
    cmocka_unit_test (an_export_that_the_server_lacks_is_enoent),
    cmocka_unit_test (exports_are_listed),
    cmocka_unit_test (what_a_server_says_of_itself_is_checked),
    cmocka_unit_test (a_server_that_says_nothing_has_only_so_long),
    cmocka_unit_test (an_attempt_is_canceled_by_its_descriptor),
    cmocka_unit_test (a_difference_that_matters_is_named),
  };

  cmocka_set_test_filter (getenv ("PC_TEST"));
  return cmocka_run_group_tests (tests, NULL, NULL);
}
