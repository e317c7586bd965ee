/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of URIs: what is accepted and as what, what is refused and with which word.
 */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rnd.h"
#include "uri.h"

#define A10 "aaaaaaaaaa"
#define A100 A10 A10 A10 A10 A10 A10 A10 A10 A10 A10

/* struct uri, but for literals. */
struct expected {
  enum uri_transport transport;
  bool tls;
  const char *export_name, *host, *port, *socket;
  uint32_t cid, vsock_port;
  const char *username, *tls_certificates, *tls_psk_file;
};

static const struct good {
  const char *text;
  struct expected uri;
} good[] = {
  { "nbd://host", { .export_name = "", .host = "host", .port = "10809" } },
  { "nbd://host/", { .export_name = "", .host = "host", .port = "10809" } },
  { "nbd://h.example.org:1/a/b", { .export_name = "a/b", .host = "h.example.org", .port = "1" } },
  { "nbd://127.0.0.1:65535//x", { .export_name = "/x", .host = "127.0.0.1", .port = "65535" } },
  { "nbd://[::1]:10810/d", { .export_name = "d", .host = "::1", .port = "10810" } },
  { "nbd://[fe80::1%25eth0]", { .export_name = "", .host = "fe80::1%eth0", .port = "10809" } },
  { "nbd://h/%E2%82%AC%2F%3F%23", { .export_name = "\xe2\x82\xac/?#", .host = "h", .port = "10809" } },
  { "nbd://h/?", { .export_name = "", .host = "h", .port = "10809" } },
  { "nbd://h/a+b", { .export_name = "a+b", .host = "h", .port = "10809" } },
  { "nbds://al%40ice@h/e?tls-psk-file=/k&tls-certificates=/c",
    { .tls = true, .export_name = "e", .host = "h", .port = "10809", .username = "al@ice",
      .tls_psk_file = "/k", .tls_certificates = "/c" } },
  { "nbd+unix:///disk?socket=/run/o.sock",
    { .transport = URI_UNIX, .export_name = "disk", .socket = "/run/o.sock" } },
  { "nbd+unix://?socket=/run/o.sock",
    { .transport = URI_UNIX, .export_name = "", .socket = "/run/o.sock" } },
  { "nbd+unix:///?&socket=%2fa%20b;", { .transport = URI_UNIX, .export_name = "", .socket = "/a b" } },
  { "nbd+unix:///?socket=/a=b", { .transport = URI_UNIX, .export_name = "", .socket = "/a=b" } },
  { "nbds+unix://u@/?socket=s", { .transport = URI_UNIX, .tls = true, .export_name = "", .username = "u",
                                  .socket = "s" } },
  { "nbd+unix:///?socket=/" A100 "aaaaaa",
    { .transport = URI_UNIX, .export_name = "", .socket = "/" A100 "aaaaaa" } },
  { "nbd+vsock:///e", { .transport = URI_VSOCK, .export_name = "e", .cid = 2, .vsock_port = 10809 } },
  { "nbd+vsock://7", { .transport = URI_VSOCK, .export_name = "", .cid = 7, .vsock_port = 10809 } },
  { "nbd+vsock://4294967294:4294967294",
    { .transport = URI_VSOCK, .export_name = "", .cid = 4294967294, .vsock_port = 4294967294 } },
};

/* Each with a part of the line that the user gets. */
static const struct bad {
  const char *text, *word;
} bad[] = {
  { "", "not an NBD URI" },
  { "http://x", "unknown scheme http" },                /* nbd.B-30 */
  { "nbd:host", "not an NBD URI" },
  { "nbd:/host", "not an NBD URI" },
  { "/run/o.sock", "not an NBD URI" },
  { "localhost:10809", "not an NBD URI" },
  { "NBD://host", "unknown scheme NBD" },
  { "nbd+ssh://host", "unknown scheme" },
  { "://host", "unknown scheme" },
  { "nbd://", "empty host" },                           /* nbd.B-31 */
  { "nbd:///export", "empty host" },
  { "nbd://:10809", "empty host" },
  { "nbd://[]", "empty host" },
  { "nbd://host:0", "port 0" },
  { "nbd://host:65536", "port 65536" },
  { "nbd://host:99999", "port 99999" },
  { "nbd://host:99999999999999999999999", "port 9999" },
  { "nbd://host:abc", "port abc" },
  { "nbd://host:+1", "port +1" },
  { "nbd://host:010809", "port 010809" },
  { "nbd://host:", "port :" },
  { "nbd://::1", "needs brackets" },
  { "nbd://[::1", "[ without ]" },
  { "nbd://[::1]x", "may follow ]" },
  { "nbd://[host]", "brackets are for IPv6" },
  { "nbd://a%20b", "host" },
  { "nbd://a%2fb", "host" },
  { "nbd://a b", "space or control" },
  { "nbd://host/\n", "space or control" },
  { "nbd://host/a\x7f", "space or control" },
  { "nbd://host/%", "hexadecimal" },
  { "nbd://host/%4", "hexadecimal" },
  { "nbd://host/%4g", "hexadecimal" },
  { "nbd://host/a%00b", "%00" },
  { "nbd://host/%ff", "UTF-8" },
  { "nbd://host/%c0%af", "UTF-8" },                     /* "/" written too long */
  { "nbd://host/%e0%80%af", "UTF-8" },
  { "nbd://host/%ed%a0%80", "UTF-8" },                  /* a surrogate */
  { "nbd://host/%f4%90%80%80", "UTF-8" },               /* beyond the last */
  { "nbd://host/%e2%82", "UTF-8" },
  { "nbd://host/#x", "fragment" },
  { "nbd://host/?a#x", "fragment" },
  { "nbd://user@host", "needs TLS" },
  { "nbds://@host", "empty user" },
  { "nbds://u:secret@host", "password" },
  { "nbds://a@b@host", "more than one @" },
  { "nbd+unix:///disk", "socket is missing" },          /* nbd.B-32 */
  { "nbd+unix:///?socket", "socket is empty" },
  { "nbd+unix:///?socket=", "socket is empty" },
  { "nbd+unix://host/?socket=/s", "no host" },
  { "nbd+unix:///?socket=/" A100 "aaaaaaa", "108 bytes" },
  { "nbd://host/?socket=/s", "Unix scheme" },
  { "nbds://host/?tls-certificate=/c", "unknown key tls-certificate" },       /* nbd.B-33 */
  { "nbd://host/?x", "unknown key x" },
  { "nbd://host/?=x", "unknown key" },
  { "nbd+unix:///?socket=/a&socket=/a", "socket is given twice" },            /* nbd.B-34 */
  { "nbds://h/?tls-psk-file=/a;tls-psk-file=/b", "tls-psk-file is given twice" },
  { "nbd://h/?tls-psk-file=/a", "needs TLS" },
  { "nbd://h/?tls-certificates=/a", "needs TLS" },
  { "nbd+vsock://x", "CID x" },
  { "nbd+vsock://0", "CID 0" },
  { "nbd+vsock://2:4294967295", "port 4294967295" },
};

static void
assert_same (const char *text, const char *got, const char *want)
{
  if (got == NULL || want == NULL ? got != want : strcmp (got, want) != 0)
    fail_msg ("%s: got %s, not %s", text, got ? got : "NULL", want ? want : "NULL");
}

TEST (every_part_of_a_good_uri_is_found_and_decoded)
{
  size_t i;

  for (i = 0; i < PC_ARRAY_SIZE (good); i++) {
    const struct good *g = &good[i];
    char why[200] = "";
    struct uri uri;

    if (uri_parse (g->text, &uri, why, sizeof why) != 0)
      fail_msg ("%s: %s", g->text, why);
    assert_int_equal (uri.transport, g->uri.transport);
    assert_int_equal (uri.tls, g->uri.tls);
    assert_same (g->text, uri.export_name, g->uri.export_name);
    assert_same (g->text, uri.host, g->uri.host);
    assert_same (g->text, uri.port, g->uri.port);
    assert_same (g->text, uri.socket, g->uri.socket);
    assert_same (g->text, uri.username, g->uri.username);
    assert_same (g->text, uri.tls_certificates, g->uri.tls_certificates);
    assert_same (g->text, uri.tls_psk_file, g->uri.tls_psk_file);
    assert_int_equal (uri.cid, g->uri.cid);
    assert_int_equal (uri.vsock_port, g->uri.vsock_port);
    uri_release (&uri);
  }
}

TEST (a_bad_uri_is_refused_with_the_word_that_helps)
{
  size_t i;

  for (i = 0; i < PC_ARRAY_SIZE (bad); i++) {
    char why[200] = "";
    struct uri uri;

    if (uri_parse (bad[i].text, &uri, why, sizeof why) != EINVAL)
      fail_msg ("%s: accepted", bad[i].text);
    if (strstr (why, bad[i].word) == NULL)
      fail_msg ("%s: %s", bad[i].text, why);
    if (strchr (why, '\n') != NULL || strstr (why, "secret") != NULL)
      fail_msg ("%s: %s", bad[i].text, why);
  }
}

TEST (an_export_name_has_at_most_4096_bytes)
{
  char text[URI_EXPORT_MAX + 100], why[200];
  struct uri uri;
  size_t len;

  for (len = URI_EXPORT_MAX - 1; len <= URI_EXPORT_MAX + 1; len++) {
    strcpy (text, "nbd://h/");
    memset (text + 8, 'x', len);
    text[8 + len] = '\0';
    assert_int_equal (uri_parse (text, &uri, why, sizeof why),
                      len <= URI_EXPORT_MAX ? 0 : EINVAL);
    uri_release (&uri);
  }
}

TEST (a_short_buffer_cuts_the_reason_and_nothing_else)
{
  struct uri uri;
  char why[8] = "1234567";

  assert_int_equal (uri_parse ("nbd://host:abc", &uri, why, 5), EINVAL);
  assert_string_equal (why, "port");
  assert_int_equal (why[5], '6');
}

/* Good and bad URIs, cut, joined and damaged: no crash, no leak, and what is accepted
 * has what its transport needs.
 */
TEST (no_damaged_uri_does_harm)
{
  static const char bytes[] = "/:?#[]@&=;%+nbdsunixvock0129\xff\x80 ";
  int turn;

  rnd_begin ();
  for (turn = 0; turn < 200000; turn++) {
    const char *from = rnd_below (2) ? good[rnd_below (PC_ARRAY_SIZE (good))].text
                                     : bad[rnd_below (PC_ARRAY_SIZE (bad))].text;
    char text[512], why[200] = "";
    size_t len = strlen (from), i;
    struct uri uri;
    int err;

    strcpy (text, from);
    for (i = rnd_below (4); i > 0 && len > 0; i--)
      text[rnd_below (len)] = bytes[rnd_below (sizeof bytes - 1)];
    if (rnd_below (4) == 0)
      text[rnd_below (len + 1)] = '\0';

    err = uri_parse (text, &uri, why, sizeof why);
    if (err == 0) {
      assert_non_null (uri.export_name);
      assert_true ((uri.host != NULL && uri.port != NULL) == (uri.transport == URI_TCP));
      assert_true ((uri.socket != NULL) == (uri.transport == URI_UNIX));
      uri_release (&uri);
    }
    else {
      assert_int_equal (err, EINVAL);
      assert_true (why[0] != '\0');
    }
  }
}

/* K-8 */
TEST (a_path_is_made_absolute_in_the_folder_that_is_current_then)
{
  const char *tmp = getenv ("TMPDIR");
  char *cwd = getcwd (NULL, 0), *folder, *path, *want;

  assert_non_null (cwd);
  assert_int_equal (uri_make_absolute ("/a/./b", &path), 0);
  assert_string_equal (path, "/a/./b");
  free (path);
  assert_int_equal (uri_make_absolute ("a/b", &path), 0);
  assert_int_not_equal (asprintf (&want, "%s/a/b", cwd), -1);
  assert_string_equal (path, want);
  free (want);
  free (path);

  assert_int_not_equal (asprintf (&folder, "%s/pagecache.XXXXXX", tmp ? tmp : "/tmp"), -1);
  assert_non_null (mkdtemp (folder));
  assert_int_equal (chdir (folder), 0);
  assert_int_equal (rmdir (folder), 0);
  assert_int_equal (uri_make_absolute ("a", &path), ENOENT);
  assert_null (path);
  assert_int_equal (uri_make_absolute ("/a", &path), 0);
  free (path);
  assert_int_equal (chdir (cwd), 0);
  free (folder);
  free (cwd);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (every_part_of_a_good_uri_is_found_and_decoded),
    cmocka_unit_test (a_bad_uri_is_refused_with_the_word_that_helps),
    cmocka_unit_test (an_export_name_has_at_most_4096_bytes),
    cmocka_unit_test (a_short_buffer_cuts_the_reason_and_nothing_else),
    cmocka_unit_test (no_damaged_uri_does_harm),
    cmocka_unit_test (a_path_is_made_absolute_in_the_folder_that_is_current_then),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
