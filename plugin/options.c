/* SPDX-License-Identifier: BSD-3-Clause
 *
 * options - the table of parameters and the checks between them.
 *
 * A parameter is checked alone when it comes, so that the first wrong one is named;
 * against the others in options_complete, in the order of the table.
 */
#include <config.h>

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "options.h"
#include "parse.h"

/* Long enough for any value that makes sense; the rest is refused before it is copied. */
#define VALUE_MAX 8192

#define REASON_MAX 200

#define SECONDS_MAX (UINT64_C (7) * 24 * 3600 * NSEC_PER_SEC)

struct rule {
  const char *name;
  const char *allowed;

  /* NULL, or the reason.  Wrong values that need more than a constant leave their
   * reason in buf and return it.
   */
  const char *(*read) (struct options *, enum option, const char *value, char buf[REASON_MAX]);
  bool may_be_empty;
};

/* ---- One value ---- */

static const char *
keep_path (struct options *o, enum option which, const char *value)
{
  switch (uri_make_absolute (value, &o->path[which])) {
  case 0:
    return NULL;
  case ENOMEM:
    return "out of memory";
  default:
    return "the current folder has no name";
  }
}

static const char *
read_uri (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  (void) which;
  switch (uri_parse (value, &o->uri, buf, REASON_MAX)) {
  case 0:
    return NULL;
  case ENOMEM:
    return "out of memory";
  default:
    return buf;
  }
}

static const char *
read_socket (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  const char *why = keep_path (o, which, value);
  size_t max = sizeof ((struct sockaddr_un *) NULL)->sun_path - 1;

  if (why == NULL && strlen (o->path[which]) > max) {
    snprintf (buf, REASON_MAX, "%zu bytes, a socket's path has at most %zu",
              strlen (o->path[which]), max);
    return buf;
  }
  o->cache.origin.unix_socket = o->path[which];
  return why;
}

static const char *
read_hostname (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  (void) value, (void) buf;
  o->cache.origin.hostname = o->value[which];
  return NULL;
}

static const char *
read_port (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  uint64_t n;

  (void) buf;
  if (parse_number (value, &n) == NULL) {
    if (n == 0 || n > UINT32_MAX)
      return "out of range";
  }
  else if (getservbyname (value, "tcp") == NULL)
    return "neither a number nor a known service";
  o->cache.origin.port = o->value[which];
  return NULL;
}

static const char *
read_vsock (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  uint64_t n;
  const char *why = parse_number (value, &n);

  (void) which, (void) buf;
  if (why != NULL)
    return why;
  if (n > UINT32_MAX)
    return "out of range";
  o->cache.origin.vsock = true;
  o->cache.origin.vsock_cid = n;
  return NULL;
}

static const char *
read_export (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  if (strlen (value) > OPTIONS_EXPORT_NAME_MAX) {
    snprintf (buf, REASON_MAX, "%zu bytes", strlen (value));
    return buf;
  }
  o->cache.origin.export_name = o->value[which];
  return NULL;
}

static const char *
read_dynamic_export (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  (void) which, (void) buf;
  return parse_bool (value, &o->cache.origin.dynamic_export);
}

static const char *
read_tls (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  (void) which, (void) buf;
  if (strcmp (value, "off") == 0)
    o->cache.origin.tls = PAGECACHE_TLS_OFF;
  else if (strcmp (value, "require") == 0)
    o->cache.origin.tls = PAGECACHE_TLS_REQUIRE;
  else if (strcmp (value, "on") == 0)
    return "would fall back to clear text when someone in between asks for it";
  else
    return "unknown";
  return NULL;
}

static const char *
read_tls_certificates (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  const char *why = keep_path (o, which, value);
  struct stat st;

  if (why != NULL)
    return why;
  if (stat (o->path[which], &st) == -1) {
    snprintf (buf, REASON_MAX, "%s", strerror (errno));
    return buf;
  }
  if (!S_ISDIR (st.st_mode))
    return "not a folder";
  o->cache.origin.tls_certificates = o->path[which];
  return NULL;
}

static const char *
read_tls_verify (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  (void) which, (void) buf;
  return parse_bool (value, &o->cache.origin.tls_verify);
}

static const char *
read_tls_username (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  (void) value, (void) buf;
  o->cache.origin.tls_username = o->value[which];
  return NULL;
}

static const char *
read_tls_psk (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  const char *why = keep_path (o, which, value);
  struct stat st;

  if (why != NULL)
    return why;
  if (stat (o->path[which], &st) == -1) {
    snprintf (buf, REASON_MAX, "%s", strerror (errno));
    return buf;
  }
  if (!S_ISREG (st.st_mode))
    return "not a file";
  o->cache.origin.tls_psk = o->path[which];
  return NULL;
}

static const char *
read_local (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  (void) o, (void) which, (void) value, (void) buf;
  return "not supported in this version, which has no origin for local files";
}

static const char *
read_connections (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  uint64_t n;
  const char *why = parse_number (value, &n);

  (void) which, (void) buf;
  if (why != NULL)
    return why;
  if (n < 1 || n > OPTIONS_CONNECTIONS_MAX)
    return "out of range";
  o->cache.origin.connections = n;
  return NULL;
}

/* Seconds in [min_ns, a week]. */
static const char *
read_seconds (const char *value, uint64_t min_ns, uint64_t *ret_ns)
{
  uint64_t ns;
  const char *why = parse_seconds (value, &ns);

  if (why != NULL)
    return why;
  if (ns < min_ns || ns > SECONDS_MAX)
    return "out of range";
  *ret_ns = ns;
  return NULL;
}

static const char *
read_timeout (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  (void) which, (void) buf;
  return read_seconds (value, NSEC_PER_MSEC, &o->cache.origin.timeout_ns);
}

static const char *
read_reconnect (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  (void) which, (void) buf;
  return read_seconds (value, 0, &o->cache.origin.reconnect_ns);
}

static const char *
read_clients (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  uint64_t n;
  const char *why = parse_number (value, &n);

  (void) which, (void) buf;
  if (why != NULL)
    return why;
  if (n < 1 || n > OPTIONS_CLIENTS_MAX)
    return "out of range";
  o->clients = n;
  return NULL;
}

static const char *
read_cache (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  static const struct { const char *word; enum pagecache_mode mode; } modes[] = {
    { "writeback", PAGECACHE_WRITEBACK },
    { "writethrough", PAGECACHE_WRITETHROUGH },
    { "none", PAGECACHE_NONE },
    { "unsafe", PAGECACHE_UNSAFE },
  };

  (void) which, (void) buf;
  for (size_t i = 0; i < PC_ARRAY_SIZE (modes); i++)
    if (strcmp (value, modes[i].word) == 0) {
      o->cache.mode = modes[i].mode;
      return NULL;
    }
  return "unknown mode";
}

static const char *
read_cache_size (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  uint64_t n;
  const char *why = parse_size (value, &n);

  (void) which, (void) buf;
  if (why != NULL)
    return why;
  if (n < PAGECACHE_SIZE_MIN)
    return "too small";
  if (n > PAGECACHE_SIZE_MAX)
    return "too large";
  o->cache.cache_size = n;
  return NULL;
}

static const char *
read_cache_readahead (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  uint64_t n;
  const char *why;

  (void) which, (void) buf;
  if (strcmp (value, "off") == 0) {
    o->cache.readahead = 0;
    return NULL;
  }
  if ((why = parse_size (value, &n)) != NULL)
    return why;
  if (n < OPTIONS_READAHEAD_MIN)
    return "too small";
  o->cache.readahead = n;
  return NULL;
}

static const char *
read_share (const char *value, struct option_share *ret)
{
  size_t len = strlen (value);

  ret->is_percent = len > 0 && value[len - 1] == '%';
  if (ret->is_percent)
    return parse_percent (value, &ret->percent);
  return parse_size (value, &ret->bytes);
}

static const char *
read_dirty_max (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  const char *why = read_share (value, &o->dirty_max);

  (void) which, (void) buf;
  if (why != NULL)
    return why;
  if (o->dirty_max.is_percent ? o->dirty_max.percent < 1
                              : o->dirty_max.bytes < PAGECACHE_DIRTY_MAX_MIN)
    return "too small";
  return NULL;
}

static const char *
read_dirty_background (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  (void) which, (void) buf;
  return read_share (value, &o->dirty_background);
}

static const char *
read_dirty_expire (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  (void) which, (void) buf;
  return read_seconds (value, NSEC_PER_MSEC, &o->cache.dirty_expire_ns);
}

static const char *
read_revalidate (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  const char *why;

  (void) which, (void) buf;
  if (strcmp (value, "never") == 0)
    o->cache.revalidate = PAGECACHE_REVALIDATE_NEVER;
  else if (strcmp (value, "open") == 0)
    o->cache.revalidate = PAGECACHE_REVALIDATE_OPEN;
  else {
    why = read_seconds (value, NSEC_PER_MSEC, &o->cache.revalidate_ns);
    if (why != NULL)
      return why;
    o->cache.revalidate = PAGECACHE_REVALIDATE_INTERVAL;
  }
  return NULL;
}

static const char *
read_stats (struct options *o, enum option which, const char *value, char buf[REASON_MAX])
{
  const char *why, *slash;
  char *folder;
  struct stat st;
  int r;

  if (strcmp (value, "-") == 0) {
    o->cache.stats_file = "-";
    return NULL;
  }
  if ((why = keep_path (o, which, value)) != NULL)
    return why;
  if (stat (o->path[which], &st) == 0 && S_ISDIR (st.st_mode))
    return "a folder, not a file";
  slash = strrchr (o->path[which], '/');
  folder = strndup (o->path[which], slash - o->path[which] + 1);
  if (folder == NULL)
    return "out of memory";
  r = stat (folder, &st);
  free (folder);
  if (r == -1) {
    snprintf (buf, REASON_MAX, "its folder: %s", strerror (errno));
    return buf;
  }
  o->cache.stats_file = o->path[which];
  return NULL;
}

/* ---- The table ---- */

static const struct rule rules[OPTION_NR] = {
  [OPTION_URI] =
  { "uri", "nbd://HOST[:PORT]/EXPORT, nbd+unix:///EXPORT?socket=PATH,"
    " nbd+vsock://CID[:PORT]/EXPORT, or the same with nbds", read_uri, false },
  [OPTION_SOCKET] =
  { "socket", "the path of a Unix socket", read_socket, false },
  [OPTION_HOSTNAME] =
  { "hostname", "a name or an address", read_hostname, false },
  [OPTION_PORT] =
  { "port", "1 to 65535, or a service's name; with vsock 1 to 4294967295", read_port, false },
  [OPTION_VSOCK] =
  { "vsock", "a context id, 0 to 4294967295", read_vsock, false },
  [OPTION_EXPORT] =
  { "export", "at most 4096 bytes", read_export, true },
  [OPTION_DYNAMIC_EXPORT] =
  { "dynamic-export", "true or false", read_dynamic_export, false },
  [OPTION_TLS] =
  { "tls", "off or require", read_tls, false },
  [OPTION_TLS_CERTIFICATES] =
  { "tls-certificates", "a folder with ca-cert.pem", read_tls_certificates, false },
  [OPTION_TLS_VERIFY] =
  { "tls-verify", "true or false", read_tls_verify, false },
  [OPTION_TLS_USERNAME] =
  { "tls-username", "a name", read_tls_username, false },
  [OPTION_TLS_PSK] =
  { "tls-psk", "a file of USER:KEY lines", read_tls_psk, false },
  [OPTION_FILE] =
  { "file", NULL, read_local, false },
  [OPTION_DIR] =
  { "dir", NULL, read_local, false },
  [OPTION_CONNECTIONS] =
  { "connections", "1 to 64", read_connections, false },
  [OPTION_TIMEOUT] =
  { "timeout", "0.001 to 604800 seconds", read_timeout, false },
  [OPTION_RECONNECT] =
  { "reconnect", "0 to 604800 seconds", read_reconnect, false },
  [OPTION_CLIENTS] =
  { "clients", "1 to 65535", read_clients, false },
  [OPTION_CACHE] =
  { "cache", "writeback, writethrough, none or unsafe", read_cache, false },
  [OPTION_CACHE_SIZE] =
  { "cache-size", "1M to 512G; a number and one of b k m g t", read_cache_size, false },
  [OPTION_CACHE_READAHEAD] =
  { "cache-readahead", "off, or 4K to an eighth of cache-size", read_cache_readahead, false },
  [OPTION_CACHE_DIRTY_MAX] =
  { "cache-dirty-max", "64K to cache-size, or 1% to 100% of it", read_dirty_max, false },
  [OPTION_CACHE_DIRTY_BACKGROUND] =
  { "cache-dirty-background", "0 to cache-dirty-max, or 0% to 100% of cache-size",
    read_dirty_background, false },
  [OPTION_CACHE_DIRTY_EXPIRE] =
  { "cache-dirty-expire", "0.001 to 604800 seconds", read_dirty_expire, false },
  [OPTION_CACHE_REVALIDATE] =
  { "cache-revalidate", "never, open, or 0.001 to 604800 seconds", read_revalidate, false },
  [OPTION_CACHE_STATS] =
  { "cache-stats", "a file, or - for standard error", read_stats, false },
};

const char options_help[] =
  "One of these names the origin:\n"
  "  [uri=]URI, socket=PATH, hostname=HOST [port=PORT], vsock=CID [port=PORT]\n"
  "More about it:\n"
  "  export=NAME, dynamic-export=BOOL, tls=off|require, tls-certificates=DIR,\n"
  "  tls-verify=BOOL, tls-username=NAME, tls-psk=FILE,\n"
  "  connections=N (4 where the origin allows several, else 1),\n"
  "  timeout=SECONDS (30), reconnect=SECONDS (60)\n"
  "Its clients:\n"
  "  clients=N (1000)\n"
  "The cache:\n"
  "  cache=writeback|writethrough|none|unsafe (writeback),\n"
  "  cache-size=SIZE (256M), cache-readahead=SIZE|off (32M),\n"
  "  cache-dirty-max=SIZE|N% (50%), cache-dirty-background=SIZE|N% (10%),\n"
  "  cache-dirty-expire=SECONDS (5), cache-revalidate=never|open|SECONDS (open),\n"
  "  cache-stats=FILE\n"
  "The manual, nbdkit-pagecache-plugin(1), says what each is for.";

/* ---- Messages ---- */

/* VALUE, fit to be shown: quoted, and of a URI not the user (nbd.L-37). */
static const char *
show (struct log_name *out, const char *name, const char *value)
{
  const char *authority = strstr (value, "://");
  const char *at = authority != NULL ? strpbrk (authority + 3, "@/?") : NULL;
  char *copy;

  if (strcmp (name, "uri") != 0 || at == NULL || *at != '@'
      || asprintf (&copy, "%.*s%s", (int) (authority + 3 - value), value, at + 1) == -1)
    return log_quote_string (out, value);
  log_quote_string (out, copy);
  free (copy);
  return out->text;
}

/* *why = "NAME=VALUE: reason (allowed: ...)".  Returns EINVAL, or ENOMEM. */
static int PC_PRINTF (4, 5)
refuse (char **why, const char *name, const char *value, const char *fmt, ...)
{
  struct log_name qname, qvalue;
  char *reason;
  va_list args;
  int n;

  *why = NULL;
  va_start (args, fmt);
  n = vasprintf (&reason, fmt, args);
  va_end (args);
  if (n == -1)
    return ENOMEM;
  log_quote_string (&qname, name);
  if (value != NULL)
    n = asprintf (why, "%s=%s: %s", qname.text, show (&qvalue, name, value), reason);
  else
    n = asprintf (why, "%s: %s", qname.text, reason);
  free (reason);
  if (n == -1) {
    *why = NULL;
    return ENOMEM;
  }
  return EINVAL;
}

/* How many letters must be put in, taken out or changed, at most max + 1. */
static unsigned
distance (const char *a, const char *b)
{
  unsigned row[64], lb = strlen (b);

  for (unsigned j = 0; j <= lb; j++)
    row[j] = j;
  for (unsigned i = 1; a[i - 1] != '\0'; i++) {
    unsigned diagonal = row[0];

    row[0] = i;
    for (unsigned j = 1; j <= lb; j++) {
      unsigned best = diagonal + (a[i - 1] != b[j - 1]);

      diagonal = row[j];
      if (row[j] + 1 < best)
        best = row[j] + 1;
      if (row[j - 1] + 1 < best)
        best = row[j - 1] + 1;
      row[j] = best;
    }
  }
  return row[lb];
}

/* The parameter that NAME was most likely meant to be, or NULL. */
static const char *
nearest (const char *name)
{
  const char *found = NULL;
  unsigned best = 4;            /* three typing mistakes are another word */

  if (strlen (name) >= 60)
    return NULL;
  for (enum option i = 0; i < OPTION_NR; i++) {
    unsigned d = distance (name, rules[i].name);

    if (d < best && d < strlen (rules[i].name)) {
      best = d;
      found = rules[i].name;
    }
  }
  return found;
}

static int
refuse_unknown (const char *name, const char *value, char **why)
{
  const char *near = nearest (name);

  if (near != NULL)
    return refuse (why, name, value, "unknown parameter (did you mean %s?)", near);
  return refuse (why, name, value, "unknown parameter (the manual,"
                 " nbdkit-pagecache-plugin(1), lists what is known)");
}

/* ---- The public face ---- */

void
options_init (struct options *o)
{
  long pages = sysconf (_SC_PHYS_PAGES), page_size = sysconf (_SC_PAGESIZE);

  *o = (struct options) {
    .dirty_max = { .is_percent = true, .percent = 50 },
    .dirty_background = { .is_percent = true, .percent = 10 },
    .clients = OPTIONS_CLIENTS,
    .ram = pages > 0 && page_size > 0 ? (uint64_t) pages * page_size : UINT64_MAX,
  };
  pagecache_options_init (&o->cache);
}

void
options_release (struct options *o)
{
  for (enum option i = 0; i < OPTION_NR; i++) {
    free (o->value[i]);
    free (o->path[i]);
    o->value[i] = o->path[i] = NULL;
  }
  uri_release (&o->uri);
  free (o->warning);
  o->warning = NULL;
}

int
options_set (struct options *o, const char *name, const char *value, char **why)
{
  const char *reason;
  enum option i;
  char buf[REASON_MAX];

  *why = NULL;
  for (i = 0; i < OPTION_NR; i++)
    if (strcmp (name, rules[i].name) == 0)
      break;
  if (i == OPTION_NR)
    return refuse_unknown (name, value, why);
  if (o->value[i] != NULL)
    return refuse (why, name, value, "given twice");

  if (*value == '\0' && !rules[i].may_be_empty)
    reason = "empty value";
  else if (strlen (value) > VALUE_MAX)
    reason = "too long";
  else {
    o->value[i] = strdup (value);
    if (o->value[i] == NULL)
      return ENOMEM;
    reason = rules[i].read (o, i, value, buf);
  }
  if (reason == NULL)
    return 0;
  if (rules[i].allowed == NULL)
    return refuse (why, name, value, "%s", reason);
  return refuse (why, name, value, "%s (allowed: %s)", reason, rules[i].allowed);
}

static int
contradiction (struct options *o, enum option a, enum option b, const char *hint, char **why)
{
  struct log_name q;

  return refuse (why, rules[a].name, o->value[a], "contradicts %s=%s%s", rules[b].name,
                 show (&q, rules[b].name, o->value[b]), hint);
}

/* A path of the URI takes the place of the parameter of the same meaning. */
static int
take_path (struct options *o, enum option which, const char *value, const char **ret,
           char **why)
{
  const char *reason;

  if (value == NULL)
    return 0;
  if (o->value[which] != NULL)
    return contradiction (o, which, OPTION_URI, " (which has one too)", why);
  if ((reason = keep_path (o, which, value)) != NULL)
    return refuse (why, "uri", o->value[OPTION_URI], "%s", reason);
  *ret = o->path[which];
  return 0;
}

/* What the URI says, in place of the URI: the core need not read it again, and paths are
 * absolute (K-8).
 */
static int
complete_uri (struct options *o, char **why)
{
  struct pagecache_origin *origin = &o->cache.origin;
  int err;

  switch (o->uri.transport) {
  case URI_TCP:
    origin->hostname = o->uri.host;
    origin->port = o->uri.port;
    break;
  case URI_UNIX:
    if ((err = take_path (o, OPTION_SOCKET, o->uri.socket, &origin->unix_socket, why)) != 0)
      return err;
    if (strlen (origin->unix_socket) > URI_SOCKET_MAX)
      return refuse (why, "uri", o->value[OPTION_URI], "the socket's absolute path has %zu"
                     " bytes (allowed: %d)", strlen (origin->unix_socket), URI_SOCKET_MAX);
    break;
  case URI_VSOCK:
    origin->vsock = true;
    origin->vsock_cid = o->uri.cid;
    origin->vsock_port = o->uri.vsock_port;
    break;
  }
  if (!origin->dynamic_export)
    origin->export_name = o->uri.export_name;

  if (o->uri.username != NULL) {
    if (o->value[OPTION_TLS_USERNAME] != NULL)
      return contradiction (o, OPTION_TLS_USERNAME, OPTION_URI, " (which has one too)", why);
    origin->tls_username = o->uri.username;
  }
  if ((err = take_path (o, OPTION_TLS_CERTIFICATES, o->uri.tls_certificates,
                        &origin->tls_certificates, why)) != 0)
    return err;
  return take_path (o, OPTION_TLS_PSK, o->uri.tls_psk_file, &origin->tls_psk, why);
}

static int
complete_origin (struct options *o, char **why)
{
  static const enum option places[] = {
    OPTION_URI, OPTION_SOCKET, OPTION_HOSTNAME, OPTION_VSOCK,
  };
  struct pagecache_origin *origin = &o->cache.origin;
  enum option place = OPTION_NR;
  uint64_t n;

  for (size_t i = 0; i < PC_ARRAY_SIZE (places); i++) {
    if (o->value[places[i]] == NULL)
      continue;
    if (place != OPTION_NR)
      return contradiction (o, place, places[i], ": one origin, named once", why);
    place = places[i];
  }
  if (place == OPTION_NR)
    return refuse (why, "uri", NULL, "missing: no origin is named (one of uri, socket,"
                   " hostname and vsock is needed)");

  if (o->value[OPTION_PORT] != NULL) {
    if (place != OPTION_HOSTNAME && place != OPTION_VSOCK)
      return contradiction (o, OPTION_PORT, place, " (a port belongs to hostname or vsock)",
                            why);
    if (parse_number (origin->port, &n) != NULL) {
      if (place == OPTION_VSOCK)
        return refuse (why, "port", origin->port, "not a number (with vsock: 1 to 4294967295)");
    }
    else if (place == OPTION_HOSTNAME && n > 65535)
      return refuse (why, "port", origin->port, "out of range (allowed: 1 to 65535)");
    else if (place == OPTION_VSOCK) {
      origin->vsock_port = n;
      origin->port = NULL;
    }
  }
  else if (place == OPTION_VSOCK)
    origin->vsock_port = 10809;

  if (o->value[OPTION_EXPORT] != NULL) {
    if (place == OPTION_URI)
      return contradiction (o, OPTION_EXPORT, OPTION_URI, " (the URI names the export)", why);
    if (origin->dynamic_export)
      return contradiction (o, OPTION_EXPORT, OPTION_DYNAMIC_EXPORT,
                            " (then each client names the export)", why);
  }
  return place == OPTION_URI ? complete_uri (o, why) : 0;
}

static int
complete_tls (struct options *o, char **why)
{
  static const enum option details[] = {
    OPTION_TLS_CERTIFICATES, OPTION_TLS_VERIFY, OPTION_TLS_USERNAME, OPTION_TLS_PSK,
  };
  struct pagecache_origin *origin = &o->cache.origin;
  enum option detail = OPTION_NR;

  for (size_t i = 0; i < PC_ARRAY_SIZE (details); i++)
    if (o->value[details[i]] != NULL && detail == OPTION_NR)
      detail = details[i];

  if (detail != OPTION_NR && origin->tls == PAGECACHE_TLS_OFF)
    return contradiction (o, detail, OPTION_TLS, "", why);
  if (o->value[OPTION_TLS_CERTIFICATES] != NULL && o->value[OPTION_TLS_PSK] != NULL)
    return contradiction (o, OPTION_TLS_CERTIFICATES, OPTION_TLS_PSK,
                          " (certificates or a shared key, not both)", why);
  if (origin->tls_certificates != NULL && origin->tls_psk != NULL)
    return refuse (why, "uri", o->value[OPTION_URI],
                   "certificates and a shared key: one of them, here or as a parameter");

  if (o->value[OPTION_URI] == NULL) {
    /* Whoever names certificates or a key wants them used. */
    if (detail != OPTION_NR)
      origin->tls = PAGECACHE_TLS_REQUIRE;
    return 0;
  }

  if (o->uri.tls && origin->tls == PAGECACHE_TLS_OFF)
    return contradiction (o, OPTION_TLS, OPTION_URI, " (nbd, not nbds, is without TLS)", why);
  if (!o->uri.tls && origin->tls == PAGECACHE_TLS_REQUIRE)
    return contradiction (o, OPTION_TLS, OPTION_URI, " (nbds is with TLS)", why);
  if (!o->uri.tls && detail != OPTION_NR)
    return contradiction (o, detail, OPTION_URI, " (nbds is with TLS)", why);
  origin->tls = o->uri.tls ? PAGECACHE_TLS_REQUIRE : PAGECACHE_TLS_OFF;
  return 0;
}

static uint64_t
share_of (const struct option_share *s, uint64_t cache_size)
{
  if (!s->is_percent)
    return s->bytes;
  /* Divide first: no product of 512 GiB and 100 is near the edge, but the habit is. */
  return cache_size / 100 * s->percent + cache_size % 100 * s->percent / 100;
}

static int
complete_sizes (struct options *o, char **why)
{
  struct pagecache_options *c = &o->cache;
  uint64_t eighth = c->cache_size / 8;

  if (c->readahead > eighth) {
    if (o->value[OPTION_CACHE_READAHEAD] != NULL)
      return refuse (why, "cache-readahead", o->value[OPTION_CACHE_READAHEAD],
                     "more than an eighth of cache-size, which is %ju of %ju bytes",
                     (uintmax_t) eighth, (uintmax_t) c->cache_size);
    c->readahead = eighth;
  }

  c->dirty_max = share_of (&o->dirty_max, c->cache_size);
  if (c->dirty_max > c->cache_size)
    return refuse (why, "cache-dirty-max", o->value[OPTION_CACHE_DIRTY_MAX],
                   "more than cache-size, which is %ju bytes", (uintmax_t) c->cache_size);
  if (c->dirty_max < PAGECACHE_DIRTY_MAX_MIN)
    c->dirty_max = PAGECACHE_DIRTY_MAX_MIN;       /* 1% of a very small cache */

  c->dirty_background = share_of (&o->dirty_background, c->cache_size);
  if (c->dirty_background > c->dirty_max) {
    if (o->value[OPTION_CACHE_DIRTY_BACKGROUND] != NULL)
      return refuse (why, "cache-dirty-background", o->value[OPTION_CACHE_DIRTY_BACKGROUND],
                     "%ju bytes, more than cache-dirty-max, which is %ju bytes",
                     (uintmax_t) c->dirty_background, (uintmax_t) c->dirty_max);
    /* Only the upper bound was given: keep the distance that the defaults have. */
    c->dirty_background = c->dirty_max / 5;
  }

  if (c->cache_size > o->ram
      && asprintf (&o->warning, "cache-size=%s: more than this machine's memory,"
                   " which is %ju bytes", o->value[OPTION_CACHE_SIZE]
                   ? o->value[OPTION_CACHE_SIZE] : "256M", (uintmax_t) o->ram) == -1) {
    o->warning = NULL;
    return ENOMEM;
  }
  return 0;
}

int
options_complete (struct options *o, char **why)
{
  int err;

  *why = NULL;
  if ((err = complete_origin (o, why)) != 0
      || (err = complete_tls (o, why)) != 0
      || (err = complete_sizes (o, why)) != 0)
    return err;
  return 0;
}
