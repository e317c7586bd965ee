/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of plugin/options and parse: what a user types, and what is said of it.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "options.h"
#include "parse.h"

/* ---- Memory, made to fail at allocation number fail_at ---- */

static int fail_at = -1, allocations;

extern char *__real_strdup (const char *);
extern char *__real_strndup (const char *, size_t);
extern int __real_vasprintf (char **, const char *, va_list);
extern char *__real_getcwd (char *, size_t);
extern void *__real_malloc (size_t);

extern char *__wrap_strdup (const char *);
extern char *__wrap_strndup (const char *, size_t);
extern int __wrap_vasprintf (char **, const char *, va_list);
extern int __wrap_asprintf (char **, const char *, ...) PC_PRINTF (2, 3);
extern char *__wrap_getcwd (char *, size_t);
extern void *__wrap_malloc (size_t);

static bool
must_fail (void)
{
  if (fail_at < 0 || allocations++ != fail_at)
    return false;
  errno = ENOMEM;
  return true;
}

char *
__wrap_strdup (const char *s)
{
  return must_fail () ? NULL : __real_strdup (s);
}

char *
__wrap_strndup (const char *s, size_t n)
{
  return must_fail () ? NULL : __real_strndup (s, n);
}

int
__wrap_vasprintf (char **ret, const char *fmt, va_list args)
{
  *ret = (char *) 1;            /* undefined after a failure */
  return must_fail () ? -1 : __real_vasprintf (ret, fmt, args);
}

int
__wrap_asprintf (char **ret, const char *fmt, ...)
{
  va_list args;
  int n;

  va_start (args, fmt);
  n = __wrap_vasprintf (ret, fmt, args);
  va_end (args);
  return n;
}

char *
__wrap_getcwd (char *buf, size_t size)
{
  return must_fail () ? NULL : __real_getcwd (buf, size);
}

void *
__wrap_malloc (size_t size)
{
  return must_fail () ? NULL : __real_malloc (size);
}

#define KIB UINT64_C (1024)
#define MIB (UINT64_C (1024) * KIB)
#define GIB (UINT64_C (1024) * MIB)

/* ---- parse ---- */

TEST (sizes_are_digits_and_one_letter)
{
  static const struct { const char *text; uint64_t bytes; } good[] = {
    { "0", 0 }, { "1", 1 }, { "512b", 512 }, { "1k", KIB }, { "1K", KIB }, { "3m", 3 * MIB },
    { "256M", 256 * MIB }, { "2G", 2 * GIB }, { "1t", 1024 * GIB }, { "1P", 1024 * 1024 * GIB },
    { "7E", UINT64_C (7) << 60 }, { "3s", 1536 }, { "9223372036854775807", INT64_MAX },
    { "007", 7 },
  };
  static const char *const bad[] = {
    "", "x", "abc", "1Q", "1.5G", "1GiB", "1MB", "-1", "+1", " 1", "1 ", "1 M", "0x10", "9E", "8E",
    "9223372036854775808", "18446744073709551616", "99999999999G", "M", "1,5M", "1mm",
  };
  uint64_t n = 42;

  for (size_t i = 0; i < PC_ARRAY_SIZE (good); i++) {
    assert_null (parse_size (good[i].text, &n));
    assert_int_equal (n, good[i].bytes);
  }
  n = 42;
  for (size_t i = 0; i < PC_ARRAY_SIZE (bad); i++) {
    assert_non_null (parse_size (bad[i], &n));
    assert_int_equal (n, 42);
  }
}

TEST (seconds_may_have_a_fraction)
{
  static const struct { const char *text; uint64_t ns; } good[] = {
    { "0", 0 }, { "5", 5 * NSEC_PER_SEC }, { "0.5", NSEC_PER_SEC / 2 }, { "0.000000001", 1 },
    { "1.25", NSEC_PER_SEC + NSEC_PER_SEC / 4 }, { "18446744073", 18446744073 * NSEC_PER_SEC },
  };
  static const char *const bad[] = {
    "", ".5", "1.", "-5", "1e9", "10ms", "5s", "1.0000000001", "18446744074", "inf", "nan", "1.-5",
    "18446744073.999999999",
  };
  uint64_t n = 42;

  for (size_t i = 0; i < PC_ARRAY_SIZE (good); i++) {
    assert_null (parse_seconds (good[i].text, &n));
    assert_int_equal (n, good[i].ns);
  }
  n = 42;
  for (size_t i = 0; i < PC_ARRAY_SIZE (bad); i++) {
    assert_non_null (parse_seconds (bad[i], &n));
    assert_int_equal (n, 42);
  }
}

TEST (percentages_are_whole_and_at_most_100)
{
  unsigned n = 42;

  assert_null (parse_percent ("0%", &n));
  assert_int_equal (n, 0);
  assert_null (parse_percent ("100%", &n));
  assert_int_equal (n, 100);
  assert_non_null (parse_percent ("101%", &n));
  assert_non_null (parse_percent ("4294967297%", &n));
  assert_non_null (parse_percent ("5", &n));
  assert_non_null (parse_percent ("5.5%", &n));
  assert_non_null (parse_percent ("-5%", &n));
  assert_non_null (parse_percent ("%", &n));
  assert_non_null (parse_percent ("5%%", &n));
  assert_int_equal (n, 100);
}

TEST (truth_has_the_words_of_nbdkit)
{
  bool b = false;

  assert_null (parse_bool ("TRUE", &b));
  assert_true (b);
  assert_null (parse_bool ("off", &b));
  assert_false (b);
  assert_null (parse_bool ("Y", &b));
  assert_true (b);
  assert_non_null (parse_bool ("", &b));
  assert_non_null (parse_bool ("2", &b));
  assert_non_null (parse_bool ("true ", &b));
  assert_true (b);
}

/* ---- options ---- */

static char folder[200];

static int
make_folder (void **state PC_UNUSED)
{
  const char *tmp = getenv ("TMPDIR");
  int fd;

  snprintf (folder, sizeof folder, "%s/pagecache-options.XXXXXX", tmp != NULL ? tmp : "/tmp");
  if (mkdtemp (folder) == NULL || chdir (folder) == -1 || mkdir ("pki", 0700) == -1)
    return -1;
  fd = creat ("keys", 0600);
  return fd == -1 ? -1 : close (fd);
}

static int
remove_folder (void **state PC_UNUSED)
{
  unlink ("keys");
  rmdir ("pki");
  return chdir ("/") == -1 ? -1 : rmdir (folder);
}

/* Give LINE's words "NAME=VALUE" to o; NULL, or the message of the first refusal. */
static char *
given (struct options *o, const char *line)
{
  char *words = strdup (line), *save, *why = NULL;
  int err = 0;

  options_init (o);
  for (char *w = strtok_r (words, " ", &save); w != NULL && err == 0;
       w = strtok_r (NULL, " ", &save)) {
    char *equals = strchr (w, '=');

    *equals = '\0';
    err = options_set (o, w, equals + 1, &why);
  }
  if (err == 0)
    err = options_complete (o, &why);
  assert_int_equal (err, why == NULL ? 0 : EINVAL);
  free (words);
  return why;
}

#define ORIGIN "uri=nbd://host/x "

static void
expect_refused (const char *line, const char *message)
{
  struct options o;
  char *why = given (&o, line);

  if (why == NULL || strcmp (why, message) != 0)
    fail_msg ("%s: \"%s\" instead of \"%s\"", line, why != NULL ? why : "(taken)", message);
  free (why);
  options_release (&o);
}

static struct options
expect_taken (const char *line)
{
  struct options o;
  char *why = given (&o, line);

  if (why != NULL)
    fail_msg ("%s: %s", line, why);
  return o;
}

TEST (defaults_are_those_of_the_manual)
{
  struct options o = expect_taken (ORIGIN);
  struct pagecache_options *c = &o.cache;

  assert_false (c->origin.dynamic_export);
  assert_true (c->origin.tls_verify);
  assert_int_equal (c->origin.connections, 0);
  assert_int_equal (o.clients, 1000);
  assert_int_equal (c->origin.timeout_ns, 30 * NSEC_PER_SEC);
  assert_int_equal (c->origin.reconnect_ns, 60 * NSEC_PER_SEC);
  assert_int_equal (c->mode, PAGECACHE_WRITEBACK);
  assert_int_equal (c->cache_size, 256 * MIB);
  assert_int_equal (c->readahead, 32 * MIB);
  assert_int_equal (c->dirty_max, 128 * MIB);
  assert_int_equal (c->dirty_background, 256 * MIB / 10);
  assert_int_equal (c->dirty_expire_ns, 5 * NSEC_PER_SEC);
  assert_int_equal (c->revalidate, PAGECACHE_REVALIDATE_OPEN);
  assert_null (c->stats_file);
  options_release (&o);
}

TEST (every_parameter_arrives)
{
  struct options o;
  char path[300];

  o = expect_taken ("socket=s export=e connections=64 timeout=0.5 reconnect=0 cache=writethrough"
                    " cache-size=8M cache-readahead=1M cache-dirty-max=50%"
                    " cache-dirty-background=1M cache-dirty-expire=1.5 cache-revalidate=7"
                    " cache-stats=stats dynamic-export=false");
  snprintf (path, sizeof path, "%s/s", folder);
  assert_string_equal (o.cache.origin.unix_socket, path);
  assert_string_equal (o.cache.origin.export_name, "e");
  assert_int_equal (o.cache.origin.connections, 64);
  assert_int_equal (o.cache.origin.timeout_ns, NSEC_PER_SEC / 2);
  assert_int_equal (o.cache.origin.reconnect_ns, 0);
  assert_int_equal (o.cache.mode, PAGECACHE_WRITETHROUGH);
  assert_int_equal (o.cache.cache_size, 8 * MIB);
  assert_int_equal (o.cache.readahead, MIB);
  assert_int_equal (o.cache.dirty_max, 4 * MIB);
  assert_int_equal (o.cache.dirty_background, MIB);
  assert_int_equal (o.cache.dirty_expire_ns, 3 * NSEC_PER_SEC / 2);
  assert_int_equal (o.cache.revalidate, PAGECACHE_REVALIDATE_INTERVAL);
  assert_int_equal (o.cache.revalidate_ns, 7 * NSEC_PER_SEC);
  snprintf (path, sizeof path, "%s/stats", folder);
  assert_string_equal (o.cache.stats_file, path);
  options_release (&o);

  o = expect_taken ("hostname=h port=nbd dynamic-export=true tls-certificates=pki"
                    " tls-verify=false tls-username=u cache=none cache-readahead=off"
                    " cache-revalidate=never cache-stats=-");
  assert_string_equal (o.cache.origin.hostname, "h");
  assert_string_equal (o.cache.origin.port, "nbd");
  assert_true (o.cache.origin.dynamic_export);
  assert_int_equal (o.cache.origin.tls, PAGECACHE_TLS_REQUIRE);
  assert_false (o.cache.origin.tls_verify);
  assert_string_equal (o.cache.origin.tls_username, "u");
  snprintf (path, sizeof path, "%s/pki", folder);
  assert_string_equal (o.cache.origin.tls_certificates, path);
  assert_int_equal (o.cache.mode, PAGECACHE_NONE);
  assert_int_equal (o.cache.readahead, 0);
  assert_int_equal (o.cache.revalidate, PAGECACHE_REVALIDATE_NEVER);
  assert_string_equal (o.cache.stats_file, "-");
  options_release (&o);

  o = expect_taken ("vsock=2 port=1024 tls=require tls-psk=keys cache=unsafe export=");
  assert_true (o.cache.origin.vsock);
  assert_int_equal (o.cache.origin.vsock_cid, 2);
  assert_int_equal (o.cache.origin.vsock_port, 1024);
  assert_int_equal (o.cache.origin.tls, PAGECACHE_TLS_REQUIRE);
  snprintf (path, sizeof path, "%s/keys", folder);
  assert_string_equal (o.cache.origin.tls_psk, path);
  assert_int_equal (o.cache.mode, PAGECACHE_UNSAFE);
  assert_string_equal (o.cache.origin.export_name, "");
  options_release (&o);

  o = expect_taken ("vsock=3 tls=off");
  assert_int_equal (o.cache.origin.vsock_port, 10809);
  assert_int_equal (o.cache.origin.tls, PAGECACHE_TLS_OFF);
  options_release (&o);
}

TEST (a_uri_arrives_in_parts_and_with_absolute_paths)
{
  struct options o;
  char path[300];

  o = expect_taken ("uri=nbd://host/a%20b");
  assert_null (o.cache.origin.uri);
  assert_null (o.cache.origin.unix_socket);
  assert_string_equal (o.cache.origin.hostname, "host");
  assert_string_equal (o.cache.origin.port, "10809");
  assert_string_equal (o.cache.origin.export_name, "a b");
  assert_int_equal (o.cache.origin.tls, PAGECACHE_TLS_OFF);
  options_release (&o);

  o = expect_taken ("uri=nbds+unix://me@/x?socket=s%26t&tls-psk-file=keys dynamic-export=yes");
  snprintf (path, sizeof path, "%s/s&t", folder);
  assert_string_equal (o.cache.origin.unix_socket, path);
  snprintf (path, sizeof path, "%s/keys", folder);
  assert_string_equal (o.cache.origin.tls_psk, path);
  assert_string_equal (o.cache.origin.tls_username, "me");
  assert_int_equal (o.cache.origin.tls, PAGECACHE_TLS_REQUIRE);
  assert_null (o.cache.origin.hostname);
  assert_null (o.cache.origin.export_name);     /* the client's name counts */
  options_release (&o);

  o = expect_taken ("uri=nbd+vsock://3:77/ tls=off");
  assert_true (o.cache.origin.vsock);
  assert_int_equal (o.cache.origin.vsock_cid, 3);
  assert_int_equal (o.cache.origin.vsock_port, 77);
  assert_string_equal (o.cache.origin.export_name, "");
  options_release (&o);

  o = expect_taken ("uri=nbds://[::1]:77/ tls=require tls-certificates=pki");
  assert_string_equal (o.cache.origin.hostname, "::1");
  assert_string_equal (o.cache.origin.port, "77");
  snprintf (path, sizeof path, "%s/pki", folder);
  assert_string_equal (o.cache.origin.tls_certificates, path);
  options_release (&o);
}

TEST (a_bad_uri_is_refused_without_showing_the_user)
{
  expect_refused ("uri=nbds://me@host:0/x", "uri=nbds://host:0/x: port 0: it should be a number"
                  " from 1 to 65535 (allowed: nbd://HOST[:PORT]/EXPORT,"
                  " nbd+unix:///EXPORT?socket=PATH, nbd+vsock://CID[:PORT]/EXPORT, or the same"
                  " with nbds)");
  expect_refused ("uri=nbds://me@host/?tls-certificates=pki tls-psk=keys",
                  "uri=nbds://host/?tls-certificates=pki: certificates and a shared key: one of"
                  " them, here or as a parameter");
  expect_refused ("uri=nbds://me@host/ tls-username=me",
                  "tls-username=me: contradicts uri=nbds://host/ (which has one too)");
  expect_refused ("uri=nbds://h/?tls-psk-file=keys tls-psk=keys",
                  "tls-psk=keys: contradicts uri=nbds://h/?tls-psk-file=keys (which has one too)");
}

TEST (a_relative_socket_must_fit_when_it_is_absolute)
{
  size_t prefix = strlen (folder) + 1;

  for (size_t len = 106; len <= 108; len++)
    for (int in_uri = 0; in_uri < 2; in_uri++) {
      struct options o;
      char line[300];
      char *why;

      snprintf (line, sizeof line, "%s%0*d", in_uri ? "uri=nbd+unix:///?socket=" : "socket=",
                (int) (len - prefix), 0);
      why = given (&o, line);
      assert_int_equal (why == NULL, len <= 107);
      if (why != NULL)
        assert_non_null (strstr (why, "108 bytes"));
      free (why);
      options_release (&o);
    }
}

/* nbd.B-1 */
TEST (unknown_parameters_name_the_nearest)
{
  expect_refused (ORIGIN "cache-sizes=1G",
                  "cache-sizes=1G: unknown parameter (did you mean cache-size?)");
  expect_refused (ORIGIN "cach=none", "cach=none: unknown parameter (did you mean cache?)");
  expect_refused (ORIGIN "tls-verify-peer=no", "tls-verify-peer=no: unknown parameter (the manual,"
                  " nbdkit-pagecache-plugin(1), lists what is known)");
  expect_refused (ORIGIN "URI=x", "URI=x: unknown parameter (the manual,"
                  " nbdkit-pagecache-plugin(1), lists what is known)");
  expect_refused (ORIGIN "x=1", "x=1: unknown parameter (the manual,"
                  " nbdkit-pagecache-plugin(1), lists what is known)");
}

/* nbd.B-8 */
TEST (a_parameter_is_given_once)
{
  expect_refused (ORIGIN "cache=none cache=none", "cache=none: given twice");
  expect_refused (ORIGIN "uri=nbd://other/", "uri=nbd://other/: given twice");
  expect_refused (ORIGIN "cache-size=1G cache-size=2G", "cache-size=2G: given twice");
}

/* nbd.B-2, nbd.B-3, nbd.B-4, nbd.B-5, nbd.B-9, nbd.B-13, nbd.B-14, nbd.B-18 */
TEST (bad_values_are_named_with_what_is_allowed)
{
#define SIZES " (allowed: 1M to 512G; a number and one of b k m g t)"
#define SECONDS " (allowed: 0.001 to 604800 seconds)"
#define MODES " (allowed: writeback, writethrough, none or unsafe)"
  expect_refused (ORIGIN "cache-size=", "cache-size=: empty value" SIZES);
  expect_refused (ORIGIN "cache-size=abc", "cache-size=abc: not a number" SIZES);
  expect_refused (ORIGIN "cache-size=1Q", "cache-size=1Q: unknown suffix" SIZES);
  expect_refused (ORIGIN "cache-size=1.5G", "cache-size=1.5G: a size has no fraction" SIZES);
  expect_refused (ORIGIN "cache-size=1GiB", "cache-size=1GiB: a suffix is one letter" SIZES);
  expect_refused (ORIGIN "cache-size=-1", "cache-size=-1: negative" SIZES);
  expect_refused (ORIGIN "cache-size=0", "cache-size=0: too small" SIZES);
  expect_refused (ORIGIN "cache-size=1048575", "cache-size=1048575: too small" SIZES);
  expect_refused (ORIGIN "cache-size=9E", "cache-size=9E: too large" SIZES);
  expect_refused (ORIGIN "cache-size=8T", "cache-size=8T: too large" SIZES);
  expect_refused (ORIGIN "cache-size=549755813889", "cache-size=549755813889: too large" SIZES);
  expect_refused (ORIGIN "cache=fast", "cache=fast: unknown mode" MODES);
  expect_refused (ORIGIN "cache=WriteBack", "cache=WriteBack: unknown mode" MODES);
  expect_refused (ORIGIN "connections=0", "connections=0: out of range (allowed: 1 to 64)");
  expect_refused (ORIGIN "connections=65", "connections=65: out of range (allowed: 1 to 64)");
  expect_refused (ORIGIN "clients=0", "clients=0: out of range (allowed: 1 to 65535)");
  expect_refused (ORIGIN "clients=65536", "clients=65536: out of range (allowed: 1 to 65535)");
  expect_refused (ORIGIN "connections=x", "connections=x: not a number (allowed: 1 to 64)");
  expect_refused (ORIGIN "timeout=0", "timeout=0: out of range" SECONDS);
  expect_refused (ORIGIN "timeout=-5", "timeout=-5: negative" SECONDS);
  expect_refused (ORIGIN "timeout=1e9", "timeout=1e9: not a number of seconds" SECONDS);
  expect_refused (ORIGIN "timeout=10ms", "timeout=10ms: not a number of seconds" SECONDS);
  expect_refused (ORIGIN "timeout=604801", "timeout=604801: out of range" SECONDS);
  expect_refused (ORIGIN "reconnect=-1",
                  "reconnect=-1: negative (allowed: 0 to 604800 seconds)");
  expect_refused (ORIGIN "cache-dirty-expire=0", "cache-dirty-expire=0: out of range" SECONDS);
  expect_refused (ORIGIN "cache-readahead=on", "cache-readahead=on: not a number"
                  " (allowed: off, or 4K to an eighth of cache-size)");
  expect_refused (ORIGIN "cache-readahead=0", "cache-readahead=0: too small"
                  " (allowed: off, or 4K to an eighth of cache-size)");
  expect_refused (ORIGIN "cache-dirty-max=0%", "cache-dirty-max=0%: too small"
                  " (allowed: 64K to cache-size, or 1% to 100% of it)");
  expect_refused (ORIGIN "cache-dirty-max=65535", "cache-dirty-max=65535: too small"
                  " (allowed: 64K to cache-size, or 1% to 100% of it)");
  expect_refused (ORIGIN "cache-dirty-max=101%", "cache-dirty-max=101%: more than 100%"
                  " (allowed: 64K to cache-size, or 1% to 100% of it)");
  expect_refused (ORIGIN "cache-revalidate=always", "cache-revalidate=always: not a number"
                  " (allowed: never, open, or 0.001 to 604800 seconds)");
  expect_refused (ORIGIN "dynamic-export=2",
                  "dynamic-export=2: neither true nor false (allowed: true or false)");
  expect_refused (ORIGIN "tls=on", "tls=on: would fall back to clear text when someone in"
                  " between asks for it (allowed: off or require)");
  expect_refused (ORIGIN "tls-certificates=nothing", "tls-certificates=nothing: No such file or"
                  " directory (allowed: a folder with ca-cert.pem)");
  expect_refused (ORIGIN "tls-certificates=keys",
                  "tls-certificates=keys: not a folder (allowed: a folder with ca-cert.pem)");
  expect_refused (ORIGIN "tls-psk=pki",
                  "tls-psk=pki: not a file (allowed: a file of USER:KEY lines)");
  expect_refused (ORIGIN "cache-stats=no/such/file", "cache-stats=no/such/file: its folder: No"
                  " such file or directory (allowed: a file, or - for standard error)");
  expect_refused (ORIGIN "cache-stats=pki", "cache-stats=pki: a folder, not a file"
                  " (allowed: a file, or - for standard error)");
  expect_refused ("hostname=h port=0", "port=0: out of range (allowed: 1 to 65535, or a"
                  " service's name; with vsock 1 to 4294967295)");
  expect_refused ("hostname=h port=no-such-service", "port=no-such-service: neither a number nor"
                  " a known service (allowed: 1 to 65535, or a service's name; with vsock 1 to"
                  " 4294967295)");
  expect_refused ("vsock=4294967296",
                  "vsock=4294967296: out of range (allowed: a context id, 0 to 4294967295)");
  expect_refused ("socket=", "socket=: empty value (allowed: the path of a Unix socket)");
}

TEST (local_files_are_refused_for_now)
{
  expect_refused ("file=/x", "file=/x: not supported in this version, which has no origin for"
                  " local files");
  expect_refused ("dir=/x", "dir=/x: not supported in this version, which has no origin for"
                  " local files");
}

/* nbd.B-16, nbd.B-35 */
TEST (contradictions_name_both_sides)
{
  expect_refused ("cache=none", "uri: missing: no origin is named (one of uri, socket, hostname"
                  " and vsock is needed)");
  expect_refused (ORIGIN "socket=/s", "uri=nbd://host/x: contradicts socket=/s: one origin, named"
                  " once");
  expect_refused ("hostname=h vsock=2", "hostname=h: contradicts vsock=2: one origin, named once");
  expect_refused (ORIGIN "port=1", "port=1: contradicts uri=nbd://host/x (a port belongs to"
                  " hostname or vsock)");
  expect_refused ("hostname=h port=65536", "port=65536: out of range (allowed: 1 to 65535)");
  expect_refused ("vsock=2 port=nbd", "port=nbd: not a number (with vsock: 1 to 4294967295)");
  expect_refused (ORIGIN "export=e",
                  "export=e: contradicts uri=nbd://host/x (the URI names the export)");
  expect_refused ("socket=/s export=e dynamic-export=true", "export=e: contradicts"
                  " dynamic-export=true (then each client names the export)");
  expect_refused (ORIGIN "tls=require",
                  "tls=require: contradicts uri=nbd://host/x (nbds is with TLS)");
  expect_refused (ORIGIN "tls-psk=keys",
                  "tls-psk=keys: contradicts uri=nbd://host/x (nbds is with TLS)");
  expect_refused ("uri=nbds://h/ tls=off",
                  "tls=off: contradicts uri=nbds://h/ (nbd, not nbds, is without TLS)");
  expect_refused ("socket=/s tls=off tls-username=u", "tls-username=u: contradicts tls=off");
  expect_refused ("uri=nbds://h/ tls-psk=keys tls-certificates=pki", "tls-certificates=pki:"
                  " contradicts tls-psk=keys (certificates or a shared key, not both)");
}

/* nbd.B-15 */
TEST (sizes_are_checked_against_each_other)
{
  struct options o;

  expect_refused (ORIGIN "cache-size=64M cache-readahead=8388609", "cache-readahead=8388609: more"
                  " than an eighth of cache-size, which is 8388608 of 67108864 bytes");
  expect_refused (ORIGIN "cache-readahead=1M cache-size=1M", "cache-readahead=1M: more"
                  " than an eighth of cache-size, which is 131072 of 1048576 bytes");
  expect_refused (ORIGIN "cache-size=1M cache-dirty-max=1048577", "cache-dirty-max=1048577: more"
                  " than cache-size, which is 1048576 bytes");
  expect_refused (ORIGIN "cache-dirty-max=10% cache-dirty-background=11%",
                  "cache-dirty-background=11%: 29527900 bytes, more than cache-dirty-max, which"
                  " is 26843545 bytes");
  expect_refused (ORIGIN "cache-dirty-background=60%", "cache-dirty-background=60%: 161061273"
                  " bytes, more than cache-dirty-max, which is 134217728 bytes");

  o = expect_taken (ORIGIN "cache-size=64M cache-readahead=8388608 cache-dirty-max=64M"
                    " cache-dirty-background=100%");
  assert_int_equal (o.cache.dirty_background, o.cache.cache_size);
  options_release (&o);
  o = expect_taken (ORIGIN "cache-size=1M cache-dirty-background=0");
  assert_int_equal (o.cache.readahead, MIB / 8);
  assert_int_equal (o.cache.dirty_background, 0);
  options_release (&o);
  o = expect_taken (ORIGIN "cache-size=1M cache-dirty-max=1%");
  assert_int_equal (o.cache.dirty_max, 64 * KIB);
  assert_int_equal (o.cache.dirty_background, 64 * KIB / 5);
  options_release (&o);
  o = expect_taken (ORIGIN "cache-size=549755813887");
  assert_int_equal (o.cache.cache_size, PAGECACHE_SIZE_MAX - 1);
  options_release (&o);
  o = expect_taken (ORIGIN "cache-size=512G");
  assert_int_equal (o.cache.cache_size, PAGECACHE_SIZE_MAX);
  assert_int_equal (o.cache.dirty_max, PAGECACHE_SIZE_MAX / 2);
  options_release (&o);
}

/* nbd.B-6 */
TEST (more_cache_than_memory_is_worth_a_warning)
{
  struct options o;
  char *why;

  for (int more = 0; more < 2; more++) {
    options_init (&o);
    o.ram = GIB - more;
    assert_int_equal (options_set (&o, "uri", "nbd://host/", &why), 0);
    assert_int_equal (options_set (&o, "cache-size", "1G", &why), 0);
    assert_int_equal (options_complete (&o, &why), 0);
    if (more)
      assert_string_equal (o.warning, "cache-size=1G: more than this machine's memory, which is"
                           " 1073741823 bytes");
    else
      assert_null (o.warning);
    options_release (&o);
  }
}

/* nbd.B-22 */
TEST (a_message_is_one_line_whatever_the_value)
{
  struct options o;
  char *why, *huge = malloc (1 << 20);

  options_init (&o);
  assert_int_equal (options_set (&o, "cache", "a\nnbdkit: all is well\x1b[2J", &why), EINVAL);
  assert_string_equal (why, "cache=a\\x0anbdkit: all is well\\x1b[2J: unknown mode (allowed:"
                       " writeback, writethrough, none or unsafe)");
  free (why);
  memset (huge, 'h', (1 << 20) - 1);
  huge[(1 << 20) - 1] = '\0';
  assert_int_equal (options_set (&o, "hostname", huge, &why), EINVAL);
  assert_true (strlen (why) < 300);
  assert_non_null (strstr (why, "...: too long"));
  free (why);
  assert_int_equal (options_set (&o, huge, huge, &why), EINVAL);
  assert_true (strlen (why) < 600);
  free (why);
  huge[4097] = '\0';
  assert_int_equal (options_set (&o, "export", huge, &why), EINVAL);
  assert_non_null (strstr (why, "4097 bytes (allowed: at most 4096 bytes)"));
  free (why);
  options_release (&o);
  options_init (&o);
  huge[4096] = '\0';
  assert_int_equal (options_set (&o, "export", huge, &why), 0);
  options_release (&o);
  free (huge);
}

TEST (without_memory_nothing_is_lost_but_the_message)
{
  static const char *const lines[][4] = {
    { "uri=nbds+unix://me@/x?socket=s&tls-psk-file=keys", "cache-size=512G", "cache-stats=stats" },
    { "uri=nbd://host/x", "cache=fast" },
    { "socket=s", "export=e", "cach=x" },
    { "hostname=h", "tls-certificates=pki", "tls-psk=keys" },
    { "uri=nbd://me@host/" },
  };

  for (size_t l = 0; l < PC_ARRAY_SIZE (lines); l++) {
    int n, err = ENOMEM;

    for (n = 0; n < 100; n++) {
      struct options o;
      char *why = NULL;

      options_init (&o);
      o.ram = 1;                /* a warning takes memory, too */
      err = 0;
      allocations = 0;
      for (size_t i = 0; i < 4 && lines[l][i] != NULL && err == 0; i++) {
        char name[20];
        const char *equals = strchr (lines[l][i], '=');

        snprintf (name, sizeof name, "%.*s", (int) (equals - lines[l][i]), lines[l][i]);
        fail_at = n;
        err = options_set (&o, name, equals + 1, &why);
        fail_at = -1;
      }
      if (err == 0) {
        fail_at = n;
        err = options_complete (&o, &why);
        fail_at = -1;
      }
      /* ENOMEM has no line; a line is EINVAL's, though it may be about memory. */
      assert_true (err == 0 || err == EINVAL || err == ENOMEM);
      assert_true ((why != NULL) == (err == EINVAL));
      free (why);
      options_release (&o);
      if (allocations <= n)
        break;
      assert_int_not_equal (err, 0);
    }
    assert_in_range (n, 3, 99);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (sizes_are_digits_and_one_letter),
    cmocka_unit_test (seconds_may_have_a_fraction),
    cmocka_unit_test (percentages_are_whole_and_at_most_100),
    cmocka_unit_test (truth_has_the_words_of_nbdkit),
    cmocka_unit_test (defaults_are_those_of_the_manual),
    cmocka_unit_test (every_parameter_arrives),
    cmocka_unit_test (a_uri_arrives_in_parts_and_with_absolute_paths),
    cmocka_unit_test (a_bad_uri_is_refused_without_showing_the_user),
    cmocka_unit_test (a_relative_socket_must_fit_when_it_is_absolute),
    cmocka_unit_test (unknown_parameters_name_the_nearest),
    cmocka_unit_test (a_parameter_is_given_once),
    cmocka_unit_test (bad_values_are_named_with_what_is_allowed),
    cmocka_unit_test (local_files_are_refused_for_now),
    cmocka_unit_test (contradictions_name_both_sides),
    cmocka_unit_test (sizes_are_checked_against_each_other),
    cmocka_unit_test (more_cache_than_memory_is_worth_a_warning),
    cmocka_unit_test (a_message_is_one_line_whatever_the_value),
    cmocka_unit_test (without_memory_nothing_is_lost_but_the_message),
  };

  return cmocka_run_group_tests (tests, make_folder, remove_folder);
}
