/* SPDX-License-Identifier: BSD-3-Clause
 *
 * uri - reading an NBD URI from left to right.
 *
 * A cursor over the text is cut into scheme, user, host, port, path and query before
 * anything is decoded, so that a decoded delimiter is never taken for one.
 */
#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "uri.h"

/* A piece of the text, not terminated. */
struct piece {
  const char *at;
  size_t len;
};

struct reader {
  struct uri *uri;
  char *why;
  size_t whylen;
};

PC_PRINTF (2, 3)
static int
refuse (struct reader *r, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  vsnprintf (r->why, r->whylen, fmt, args);
  va_end (args);
  return EINVAL;
}

static int
hex_digit (char c)
{
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

/* Decode p into a fresh string.  what names it in the message; what it holds is not
 * repeated, it may be a user's name.
 */
static int
decode (struct reader *r, struct piece p, const char *what, char **ret)
{
  char *s = malloc (p.len + 1);
  size_t i, n = 0;

  if (s == NULL)
    return ENOMEM;
  for (i = 0; i < p.len; i++) {
    unsigned char c = p.at[i];

    if (c == '%') {
      int hi = i + 1 < p.len ? hex_digit (p.at[i + 1]) : -1;
      int lo = i + 2 < p.len ? hex_digit (p.at[i + 2]) : -1;

      if (hi < 0 || lo < 0) {
        free (s);
        return refuse (r, "%s: %% must be followed by two hexadecimal digits", what);
      }
      c = hi << 4 | lo;
      i += 2;
      if (c == 0) {
        free (s);
        return refuse (r, "%s: %%00 is not allowed", what);
      }
    }
    s[n++] = c;
  }
  s[n] = '\0';
  *ret = s;
  return 0;
}

static struct piece
cut (struct piece *rest, size_t len)
{
  struct piece p = { rest->at, len };

  rest->at += len;
  rest->len -= len;
  return p;
}

static bool
is (struct piece p, const char *s)
{
  return p.len == strlen (s) && memcmp (p.at, s, p.len) == 0;
}

static const char *
find (struct piece p, char c)
{
  return memchr (p.at, c, p.len);
}

static size_t
span_until (struct piece p, const char *stop)
{
  size_t i;

  for (i = 0; i < p.len && strchr (stop, p.at[i]) == NULL; i++)
    ;
  return i;
}

/* Continuation bytes that must follow lead byte c, and the least code point that needs as
 * many: a longer way to write a smaller one is refused.
 */
static int
utf8_follow (unsigned char c, uint32_t *code, uint32_t *least)
{
  if (c < 0x80) {
    *code = c;
    *least = 0;
    return 0;
  }
  if (c >= 0xc2 && c < 0xe0) {
    *code = c & 0x1f;
    *least = 0x80;
    return 1;
  }
  if (c >= 0xe0 && c < 0xf0) {
    *code = c & 0x0f;
    *least = 0x800;
    return 2;
  }
  if (c >= 0xf0 && c < 0xf5) {
    *code = c & 0x07;
    *least = 0x10000;
    return 3;
  }
  return -1;
}

bool
uri_export_is_valid (const char *name, size_t len)
{
  size_t i = 0;

  if (len > URI_EXPORT_MAX)
    return false;
  while (i < len) {
    uint32_t code, least;
    int follow = utf8_follow (name[i], &code, &least);

    if (follow < 0 || name[i] == '\0')
      return false;
    for (i++; follow > 0; follow--, i++) {
      if (i >= len || ((unsigned char) name[i] & 0xc0) != 0x80)
        return false;
      code = code << 6 | ((unsigned char) name[i] & 0x3f);
    }
    if (code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
      return false;
  }
  return true;
}

int
uri_parse_port (const char *text, size_t len, uint32_t max, uint32_t *port)
{
  uint64_t n = 0;
  size_t i;

  if (len == 0 || text[0] == '0')
    return EINVAL;
  for (i = 0; i < len; i++) {
    if (text[i] < '0' || text[i] > '9')
      return EINVAL;
    n = n * 10 + (text[i] - '0');
    if (n > max)
      return EINVAL;
  }
  *port = n;
  return 0;
}

static int
read_scheme (struct reader *r, struct piece *rest)
{
  static const struct {
    const char *name;
    enum uri_transport transport;
    bool tls;
  } schemes[] = {
    { "nbd", URI_TCP, false },        { "nbds", URI_TCP, true },
    { "nbd+unix", URI_UNIX, false },  { "nbds+unix", URI_UNIX, true },
    { "nbd+vsock", URI_VSOCK, false },{ "nbds+vsock", URI_VSOCK, true },
  };
  struct piece scheme;
  size_t i, len = span_until (*rest, ":/?#@");

  if (len + 3 > rest->len || memcmp (rest->at + len, "://", 3) != 0)
    return refuse (r, "not an NBD URI: it should begin with nbd://, nbds://, nbd+unix:// "
                   "or nbd+vsock://");
  scheme = cut (rest, len);
  cut (rest, 3);
  for (i = 0; i < PC_ARRAY_SIZE (schemes); i++) {
    if (is (scheme, schemes[i].name)) {
      r->uri->transport = schemes[i].transport;
      r->uri->tls = schemes[i].tls;
      return 0;
    }
  }
  return refuse (r, "unknown scheme %.*s: it should be nbd, nbds, nbd+unix, nbds+unix, "
                 "nbd+vsock or nbds+vsock", (int) (len < 32 ? len : 32), scheme.at);
}

static int
read_user (struct reader *r, struct piece *authority)
{
  const char *end = find (*authority, '@');
  struct piece user;
  int err;

  if (end == NULL)
    return 0;
  user = cut (authority, end - authority->at);
  cut (authority, 1);
  if (user.len == 0)
    return refuse (r, "empty user name before @");
  if (find (user, ':') != NULL)
    return refuse (r, "a password in the URI has no meaning for NBD");
  if (find (*authority, '@') != NULL)
    return refuse (r, "more than one @ before the path");
  if (!r->uri->tls)
    return refuse (r, "a user name needs TLS: nbds instead of nbd");
  err = decode (r, user, "user name", &r->uri->username);
  return err;
}

/* What TCP and VSOCK have in common: host[:port], of which the port is cut off. */
static int
cut_port (struct reader *r, struct piece *authority, uint32_t max, uint32_t *port, bool *given)
{
  const char *colon = find (*authority, ':');
  struct piece digits;

  *given = colon != NULL;
  if (colon == NULL)
    return 0;
  digits = (struct piece) { colon + 1, authority->at + authority->len - (colon + 1) };
  if (uri_parse_port (digits.at, digits.len, max, port) != 0)
    return refuse (r, "port %.*s: it should be a number from 1 to %u",
                   (int) (digits.len < 32 ? digits.len : 32), digits.at, max);
  authority->len = colon - authority->at;
  return 0;
}

static int
read_tcp_host (struct reader *r, struct piece authority)
{
  struct piece host = authority;
  uint32_t port;
  bool given;
  int err;
  size_t i;

  if (authority.len > 0 && authority.at[0] == '[') {
    const char *end = find (authority, ']');

    if (end == NULL)
      return refuse (r, "host: [ without ]");
    host = (struct piece) { authority.at + 1, end - authority.at - 1 };
    cut (&authority, end + 1 - authority.at);
    if (authority.len > 0 && authority.at[0] != ':')
      return refuse (r, "host: only :PORT may follow ]");
    if (host.len > 0 && find (host, ':') == NULL)
      return refuse (r, "host: brackets are for IPv6 addresses");
    err = cut_port (r, &authority, 65535, &port, &given);
  }
  else {
    const char *colon = find (authority, ':');

    if (colon != NULL && memchr (colon + 1, ':', authority.at + authority.len - colon - 1))
      return refuse (r, "host: an IPv6 address needs brackets: [::1]");
    err = cut_port (r, &authority, 65535, &port, &given);
    host = authority;
  }
  if (err != 0)
    return err;
  if (host.len == 0)
    return refuse (r, "empty host");
  err = decode (r, host, "host", &r->uri->host);
  if (err != 0)
    return err;
  for (i = 0; r->uri->host[i] != '\0'; i++)
    if ((unsigned char) r->uri->host[i] <= ' ' || r->uri->host[i] == 0x7f
        || strchr ("/?#@[]", r->uri->host[i]) != NULL)
      return refuse (r, "host: a character that no host name has");

  if (!given) {
    r->uri->port = strdup (URI_DEFAULT_PORT);
    return r->uri->port == NULL ? ENOMEM : 0;
  }
  return asprintf (&r->uri->port, "%u", port) == -1 ? (r->uri->port = NULL, ENOMEM) : 0;
}

static int
read_vsock_host (struct reader *r, struct piece authority)
{
  struct uri *uri = r->uri;
  bool given;
  int err;

  uri->cid = 2;                 /* the host, as libnbd has it */
  uri->vsock_port = 10809;
  err = cut_port (r, &authority, UINT32_MAX - 1, &uri->vsock_port, &given);
  if (err != 0 || authority.len == 0)
    return err;
  if (uri_parse_port (authority.at, authority.len, UINT32_MAX - 1, &uri->cid) != 0)
    return refuse (r, "vsock CID %.*s: it should be a number from 1 to %u",
                   (int) (authority.len < 32 ? authority.len : 32), authority.at,
                   UINT32_MAX - 1);
  return 0;
}

static int
read_authority (struct reader *r, struct piece *rest)
{
  struct piece authority = cut (rest, span_until (*rest, "/?#"));
  int err = read_user (r, &authority);

  if (err != 0)
    return err;
  switch (r->uri->transport) {
  case URI_TCP:
    return read_tcp_host (r, authority);
  case URI_VSOCK:
    return read_vsock_host (r, authority);
  case URI_UNIX:
    if (authority.len > 0)
      return refuse (r, "a Unix socket has no host: the path goes into ?socket=PATH");
    return 0;
  }
  return EINVAL;
}

static int
read_path (struct reader *r, struct piece *rest)
{
  struct piece path = cut (rest, span_until (*rest, "?#"));
  int err;

  if (path.len > 0)
    cut (&path, 1);             /* the slash */
  err = decode (r, path, "export name", &r->uri->export_name);
  if (err == 0 && !uri_export_is_valid (r->uri->export_name, strlen (r->uri->export_name)))
    err = refuse (r, "export name: it should be UTF-8 of at most %d bytes", URI_EXPORT_MAX);
  return err;
}

static int
read_key (struct reader *r, struct piece key, struct piece value)
{
  struct uri *uri = r->uri;
  struct {
    const char *name;
    char **where;
    bool wants_tls;
  } keys[] = {
    { "socket", &uri->socket, false },
    { "tls-certificates", &uri->tls_certificates, true },
    { "tls-psk-file", &uri->tls_psk_file, true },
  };
  size_t i;

  for (i = 0; i < PC_ARRAY_SIZE (keys); i++) {
    if (!is (key, keys[i].name))
      continue;
    if (*keys[i].where != NULL)
      return refuse (r, "%s is given twice", keys[i].name);
    if (value.len == 0)
      return refuse (r, "%s is empty", keys[i].name);
    if (keys[i].wants_tls && !uri->tls)
      return refuse (r, "%s needs TLS: nbds instead of nbd", keys[i].name);
    return decode (r, value, keys[i].name, keys[i].where);
  }
  return refuse (r, "unknown key %.*s: it should be socket, tls-certificates or tls-psk-file",
                 (int) (key.len < 32 ? key.len : 32), key.at);
}

static int
read_query (struct reader *r, struct piece rest)
{
  int err;

  if (rest.len == 0)
    return 0;
  if (rest.at[0] == '#' || find (rest, '#') != NULL)
    return refuse (r, "a fragment (#) has no meaning for NBD");
  cut (&rest, 1);               /* the question mark */
  while (rest.len > 0) {
    struct piece item = cut (&rest, span_until (rest, "&;"));
    struct piece key;

    if (rest.len > 0)
      cut (&rest, 1);
    if (item.len == 0)
      continue;
    key = cut (&item, span_until (item, "="));
    if (item.len > 0)
      cut (&item, 1);
    err = read_key (r, key, item);
    if (err != 0)
      return err;
  }
  return 0;
}

static int
check_socket (struct reader *r)
{
  const struct uri *uri = r->uri;

  if (uri->transport != URI_UNIX)
    return uri->socket == NULL ? 0
      : refuse (r, "socket needs a Unix scheme: nbd%s+unix", uri->tls ? "s" : "");
  if (uri->socket == NULL)
    return refuse (r, "socket is missing: nbd%s+unix:///EXPORT?socket=PATH",
                   uri->tls ? "s" : "");
  if (strlen (uri->socket) > URI_SOCKET_MAX)
    return refuse (r, "socket: the path has %zu bytes, more than the %d that the system takes",
                   strlen (uri->socket), URI_SOCKET_MAX);
  return 0;
}

static int
read_all (struct reader *r, struct piece rest)
{
  size_t i;
  int err;

  for (i = 0; i < rest.len; i++)
    if ((unsigned char) rest.at[i] <= ' ' || rest.at[i] == 0x7f)
      return refuse (r, "a space or control character at byte %zu: write it as %%%02X",
                     i, (unsigned char) rest.at[i]);
  if ((err = read_scheme (r, &rest)) != 0 || (err = read_authority (r, &rest)) != 0
      || (err = read_path (r, &rest)) != 0 || (err = read_query (r, rest)) != 0)
    return err;
  return check_socket (r);
}

int
uri_parse (const char *text, struct uri *uri, char *why, size_t whylen)
{
  struct reader r = { uri, why, whylen };
  int err;

  memset (uri, 0, sizeof *uri);
  err = read_all (&r, (struct piece) { text, strlen (text) });
  if (err == ENOMEM)
    snprintf (why, whylen, "out of memory");
  if (err != 0)
    uri_release (uri);
  return err;
}

void
uri_release (struct uri *uri)
{
  free (uri->export_name);
  free (uri->host);
  free (uri->port);
  free (uri->socket);
  free (uri->username);
  free (uri->tls_certificates);
  free (uri->tls_psk_file);
  memset (uri, 0, sizeof *uri);
}

int
uri_make_absolute (const char *path, char **ret)
{
  char *cwd = NULL;
  int n;

  *ret = NULL;
  if (*path != '/' && (cwd = getcwd (NULL, 0)) == NULL)
    return errno;
  n = cwd ? asprintf (ret, "%s/%s", cwd, path) : asprintf (ret, "%s", path);
  free (cwd);
  if (n == -1)
    *ret = NULL;
  return n == -1 ? ENOMEM : 0;
}
