/* SPDX-License-Identifier: BSD-3-Clause
 *
 * fuzz-options - parameters and URIs: does any text crash the parsers, or pass them although it is wrong?
 *
 * A line is NAME=VALUE, as on nbdkit's command line; a line without "=" is a URI.  What is taken must be in
 * the ranges that the manual gives; what is refused must come with one line that says why.
 */
#include <config.h>

#include "test.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "fuzz.h"
#include "options.h"
#include "parse.h"

static void
check_why (int err, char *why)
{
  assert ((err == 0) == (why == NULL) || err == ENOMEM);
  if (why != NULL)
    assert (why[0] != '\0' && strchr (why, '\n') == NULL);
  free (why);
}

static void
check_uri (const char *text)
{
  char why[200] = "";
  struct uri u;
  int err = uri_parse (text, &u, why, sizeof why);

  assert (err == 0 || err == EINVAL || err == ENOMEM);
  if (err != 0) {
    assert (why[0] != '\0' && strchr (why, '\n') == NULL);
    return;
  }
  assert (u.export_name != NULL && uri_export_is_valid (u.export_name, strlen (u.export_name)));
  switch (u.transport) {
  case URI_TCP:
    assert (u.host != NULL && u.port != NULL && atoi (u.port) >= 1 && atoi (u.port) <= 65535);
    break;
  case URI_UNIX:
    assert (u.socket != NULL && strlen (u.socket) >= 1 && strlen (u.socket) <= URI_SOCKET_MAX);
    break;
  case URI_VSOCK:
    break;
  }
  uri_release (&u);
}

/* What they take, they take as a number that fits. */
static void
check_parsers (const char *value)
{
  uint64_t n = 77;
  unsigned p = 77;
  bool b;

  if (parse_percent (value, &p) == NULL)
    assert (p <= 100);
  else
    assert (p == 77);
  if (parse_number (value, &n) == NULL)
    assert (value[0] >= '0' && value[0] <= '9');
  else
    assert (n == 77);
  n = 77;
  if (parse_size (value, &n) != NULL)
    assert (n == 77);
  n = 77;
  if (parse_seconds (value, &n) != NULL)
    assert (n == 77);
  (void) parse_bool (value, &b);
}

static void
check_taken (const struct options *o)
{
  const struct pagecache_options *c = &o->cache;

  assert (c->cache_size >= PAGECACHE_SIZE_MIN && c->cache_size <= PAGECACHE_SIZE_MAX);
  assert (c->dirty_max <= c->cache_size && c->dirty_background <= c->dirty_max);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t len)
{
  char *text = malloc (len + 1), *line, *next, *why;
  struct options o;
  int err = 0;

  assert (text != NULL);
  memcpy (text, data, len);
  text[len] = '\0';
  options_init (&o);
  o.ram = UINT64_C (8) << 30;
  for (line = text; line != NULL && err == 0; line = next) {
    char *value;

    next = strchr (line, '\n');
    if (next != NULL)
      *next++ = '\0';
    value = strchr (line, '=');
    check_uri (line);
    if (value == NULL || value == line)
      continue;
    *value++ = '\0';
    check_uri (value);
    check_parsers (value);
    why = NULL;
    err = options_set (&o, line, value, &why);
    check_why (err, why);
  }
  if (err == 0) {
    why = NULL;
    err = options_complete (&o, &why);
    check_why (err, why);
    if (err == 0)
      check_taken (&o);
  }
  options_release (&o);
  free (text);
  return 0;
}
