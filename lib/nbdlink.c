/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdlink - connecting, in the thread that calls.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libnbd.h>

#include "checked.h"
#include "nbdkicks.h"
#include "nbdlink.h"

#define MAX_EXPORTS 10000
#define DEFAULT_BLOCK_PREF 4096
#define MAX_REQUEST (UINT32_C (32) << 20)       /* N-73 */

/* A host that is off answers no SYN, and the kernel asks again after 1, 3, 7, 15 s.  A
 * new attempt every 5 s finds it within 3 s of its return.
 */
#define TCP_CONNECT_NS (5 * NSEC_PER_SEC)

/* Sets *why; err is returned so that the caller can do it in one line. */
PC_PRINTF (3, 4)
static int
explain (char **why, int err, const char *fmt, ...)
{
  va_list args;
  char *s;

  va_start (args, fmt);
  if (vasprintf (&s, fmt, args) == -1)
    s = NULL;
  va_end (args);
  *why = s;
  for (; s != NULL && *s != '\0'; s++)
    if ((unsigned char) *s < ' ' || *s == 0x7f)
      *s = '?';
  return err;
}

/* Parameters */

/* Unless *to is set already; a parameter given twice was refused before. */
static int
copy (char **to, const char *from)
{
  if (from == NULL || *to != NULL)
    return 0;
  *to = strdup (from);
  return *to == NULL ? ENOMEM : 0;
}

static int
make_absolute (char **path)
{
  char *s;
  int err;

  if (*path == NULL)
    return 0;
  err = uri_make_absolute (*path, &s);
  if (err != 0)
    return err;
  free (*path);
  *path = s;
  return 0;
}

/* Hand the URI's strings over. */
static int
take_uri (const struct pagecache_origin *o, struct nbdlink_params *p, bool *uri_tls, char **why)
{
  char text[256];
  struct uri uri;
  int err;

  err = uri_parse (o->uri, &uri, text, sizeof text);
  if (err != 0)
    return explain (why, err, "%s", text);
  p->transport = uri.transport;
  p->host = uri.host;
  p->port = uri.port;
  p->socket = uri.socket;
  p->cid = uri.cid;
  p->vsock_port = uri.vsock_port;
  p->export_name = uri.export_name;
  p->certificates = uri.tls_certificates;
  p->psk = uri.tls_psk_file;
  p->username = uri.username;
  *uri_tls = uri.tls;

  if (o->export_name != NULL && p->export_name[0] != '\0')
    return explain (why, EINVAL, "export is given twice: in the URI and by itself");
  if ((o->tls_certificates != NULL && p->certificates != NULL)
      || (o->tls_psk != NULL && p->psk != NULL)
      || (o->tls_username != NULL && p->username != NULL))
    return explain (why, EINVAL, "a TLS parameter is given twice: in the URI and by itself");
  return 0;
}

static int
take_address (const struct pagecache_origin *o, struct nbdlink_params *p, char **why)
{
  uint32_t port;
  int err;

  if (o->unix_socket != NULL) {
    p->transport = URI_UNIX;
    if (o->unix_socket[0] == '\0')
      return explain (why, EINVAL, "socket is empty");
    return copy (&p->socket, o->unix_socket);
  }
  if (o->vsock) {
    p->transport = URI_VSOCK;
    p->cid = o->vsock_cid;
    p->vsock_port = o->vsock_port != 0 ? o->vsock_port : 10809;
    return 0;
  }
  if (o->hostname == NULL)
    return explain (why, EINVAL, "no origin is given");
  p->transport = URI_TCP;
  if (o->hostname[0] == '\0')
    return explain (why, EINVAL, "hostname is empty");
  if ((err = copy (&p->host, o->hostname)) != 0)
    return err;
  if ((err = copy (&p->port, o->port != NULL ? o->port : URI_DEFAULT_PORT)) != 0)
    return err;
  /* A service's name is looked up when we connect. */
  if (p->port[0] == '\0'
      || (strspn (p->port, "0123456789+-") == strlen (p->port)
          && uri_parse_port (p->port, strlen (p->port), 65535, &port) != 0))
    return explain (why, EINVAL, "port=%s: it should be a number from 1 to 65535", p->port);
  return 0;
}

static int
decide_tls (const struct pagecache_origin *o, struct nbdlink_params *p, bool uri_tls, char **why)
{
  switch (o->tls) {
  case PAGECACHE_TLS_DEFAULT:
    p->tls = uri_tls;
    break;
  case PAGECACHE_TLS_OFF:
    if (uri_tls)
      return explain (why, EINVAL, "tls=off contradicts the nbds URI");
    break;
  case PAGECACHE_TLS_REQUIRE:
    if (o->uri != NULL && !uri_tls)
      /* nbd.B-35 */
      return explain (why, EINVAL, "tls=require contradicts the nbd URI: write nbds");
    p->tls = true;
    break;
  }
  if (!p->tls && (p->certificates != NULL || p->psk != NULL || p->username != NULL))
    return explain (why, EINVAL, "TLS parameters are given, and TLS is not used: tls=require");
  return 0;
}

static int
set_address (struct nbdlink_params *p)
{
  const char *s = p->tls ? "s" : "";
  int r = -1;

  switch (p->transport) {
  case URI_TCP:
    r = asprintf (&p->address, strchr (p->host, ':') != NULL ? "nbd%s://[%s]:%s" : "nbd%s://%s:%s",
                  s, p->host, p->port);
    break;
  case URI_UNIX:
    r = asprintf (&p->address, "nbd%s+unix://%s:", s, p->socket);
    break;
  case URI_VSOCK:
    r = asprintf (&p->address, "nbd%s+vsock://%u:%u", s, p->cid, p->vsock_port);
    break;
  }
  if (r == -1)
    p->address = NULL;
  return r == -1 ? ENOMEM : 0;
}

static int
fill_params (const struct pagecache_origin *o, struct nbdlink_params *p, char **why)
{
  bool uri_tls = false;
  int err;

  err = o->uri != NULL ? take_uri (o, p, &uri_tls, why) : take_address (o, p, why);
  if (err != 0)
    return err;
  if (o->export_name != NULL) {
    free (p->export_name);
    p->export_name = NULL;
  }
  if ((err = copy (&p->export_name, o->export_name != NULL ? o->export_name : "")) != 0
      || (err = copy (&p->certificates, o->tls_certificates)) != 0
      || (err = copy (&p->psk, o->tls_psk)) != 0
      || (err = copy (&p->username, o->tls_username)) != 0)
    return err;
  if (!uri_export_is_valid (p->export_name, strlen (p->export_name)))
    return explain (why, EINVAL, "export: it should be UTF-8 of at most %d bytes", URI_EXPORT_MAX);
  if ((err = decide_tls (o, p, uri_tls, why)) != 0)
    return err;
  if ((err = make_absolute (&p->socket)) != 0 || (err = make_absolute (&p->certificates)) != 0
      || (err = make_absolute (&p->psk)) != 0)
    return err;
  if (p->socket != NULL && strlen (p->socket) > URI_SOCKET_MAX)
    return explain (why, EINVAL, "socket: the path %s has %zu bytes, more than the %d that the "
                    "system takes", p->socket, strlen (p->socket), URI_SOCKET_MAX);
  if (o->connections > 64)
    return explain (why, EINVAL, "connections=%u: it should be 1 to 64", o->connections);

  p->verify = o->tls_verify;
  p->dynamic_export = o->dynamic_export;
  p->connections = o->connections != 0 ? o->connections : 4;
  p->timeout_ns = o->timeout_ns != 0 ? o->timeout_ns : 30 * NSEC_PER_SEC;
  p->reconnect_ns = o->reconnect_ns;
  p->idle_ns = 60 * NSEC_PER_SEC;
  p->quarantine_ns = NSEC_PER_SEC;
  if ((p->kicks = nbdkicks_create ()) == NULL)
    return ENOMEM;
  return set_address (p);
}

int
nbdlink_params_create (const struct pagecache_origin *o, struct nbdlink_params **ret, char **why)
{
  struct nbdlink_params *p = calloc (1, sizeof *p);
  int err;

  *why = NULL;
  if (p == NULL)
    return ENOMEM;
  err = fill_params (o, p, why);
  if (err != 0) {
    nbdlink_params_free (p);
    return err;
  }
  *ret = p;
  return 0;
}

void
nbdlink_params_free (struct nbdlink_params *p)
{
  if (p == NULL)
    return;
  free (p->host);
  free (p->port);
  free (p->socket);
  free (p->export_name);
  free (p->certificates);
  free (p->psk);
  free (p->username);
  free (p->address);
  nbdkicks_free (p->kicks);
  free (p);
}

void
nbdlink_name (const struct nbdlink_params *p, const char *export_name, char *buf, size_t len)
{
  char *s;

  snprintf (buf, len, "%s/%s", p->address, export_name);
  for (s = buf; *s != '\0'; s++)
    if ((unsigned char) *s < ' ' || *s == 0x7f)
      *s = '?';
}

/* TLS: what libnbd would quietly leave unverified (nbd.L-30, nbd.L-33) */

/* Read the first bytes of a file; how many, or -1. */
static ssize_t
read_some (const char *path, char *buf, size_t len, struct stat *st)
{
  int fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  ssize_t n = -1;
  int err;

  if (fd == -1)
    return -1;
  if (fstat (fd, st) == 0) {
    if (S_ISREG (st->st_mode))
      n = read (fd, buf, len);
    else
      errno = EINVAL;
  }
  err = errno;
  close (fd);
  errno = err;
  return n;
}

static int
check_certificates (const char *dir, char **why)
{
  char path[PATH_MAX], buf[65536];
  struct stat st;
  ssize_t n;
  bool cert, key;

  if (stat (dir, &st) == -1)
    return explain (why, EPERM, "tls-certificates=%s: %s", dir, strerror (errno));
  if (!S_ISDIR (st.st_mode))
    return explain (why, EPERM, "tls-certificates=%s: it should be a directory", dir);

  snprintf (path, sizeof path, "%s/ca-cert.pem", dir);
  n = read_some (path, buf, sizeof buf - 1, &st);
  if (n == -1)
    return explain (why, EPERM, "tls-certificates: %s: %s; without it the server would not be "
                    "verified", path, strerror (errno));
  buf[n] = '\0';
  if (strstr (buf, "-----BEGIN ") == NULL)
    return explain (why, EPERM, "tls-certificates: %s holds no certificate", path);

  /* libnbd leaves both out when it cannot read one. */
  snprintf (path, sizeof path, "%s/client-cert.pem", dir);
  cert = access (path, F_OK) == 0;
  if (cert && access (path, R_OK) == -1)
    return explain (why, EPERM, "tls-certificates: %s: %s", path, strerror (errno));
  snprintf (path, sizeof path, "%s/client-key.pem", dir);
  key = access (path, F_OK) == 0;
  if (cert != key)
    return explain (why, EPERM, "tls-certificates=%s: client-cert.pem and client-key.pem go "
                    "together", dir);
  if (!key)
    return 0;
  n = read_some (path, buf, sizeof buf - 1, &st);
  if (n == -1)
    return explain (why, EPERM, "tls-certificates: %s: %s", path, strerror (errno));
  if ((st.st_mode & 077) != 0)
    return explain (why, EPERM, "tls-certificates: %s can be read by others: chmod 600", path);
  return 0;
}

/* One line USER:HEX of a PSK file; true if it is about user. */
static bool
psk_line_is_of (const char *line, const char *user, bool *good)
{
  size_t len = strlen (user), i;

  if (strncmp (line, user, len) != 0 || line[len] != ':')
    return false;
  line += len + 1;
  for (i = 0; line[i] != '\0' && line[i] != '\n' && line[i] != '\r'; i++)
    if (strchr ("0123456789abcdefABCDEF", line[i]) == NULL) {
      *good = false;
      return true;
    }
  *good = i > 0 && i % 2 == 0;
  return true;
}

/* nbd.B-38; the key itself never appears in a message. */
static int
check_psk (const char *path, const char *user, char **why)
{
  FILE *fp = fopen (path, "re");
  char *line = NULL;
  size_t max = 0;
  bool found = false, good = false;

  if (fp == NULL)
    return explain (why, EPERM, "tls-psk=%s: %s", path, strerror (errno));
  while (!found && getline (&line, &max, fp) != -1)
    found = psk_line_is_of (line, user, &good);
  if (line != NULL)
    explicit_bzero (line, max);
  free (line);
  fclose (fp);
  if (!found)
    return explain (why, EPERM, "tls-psk=%s: it has no line for the user that tls-username, "
                    "the URI or LOGNAME names", path);
  if (!good)
    return explain (why, EPERM, "tls-psk=%s: the user's key is not hexadecimal", path);
  return 0;
}

static int
check_psk_user (const struct nbdlink_params *p, char **why)
{
  struct nbd_handle *h;
  char *user;
  int err;

  if (p->username != NULL)
    return check_psk (p->psk, p->username, why);
  h = nbd_create ();
  if (h == NULL)
    return ENOMEM;
  user = nbd_get_tls_username (h);
  err = user != NULL ? check_psk (p->psk, user, why)
    : explain (why, EPERM, "tls-username is needed: the system does not say who we are");
  free (user);
  nbd_close (h);
  return err;
}

int
nbdlink_check_tls (const struct nbdlink_params *p, char **why)
{
  *why = NULL;
  if (!p->tls)
    return 0;
  if (p->psk != NULL) {
    if (p->certificates != NULL)
      return explain (why, EPERM, "tls-psk and tls-certificates exclude each other");
    return check_psk_user (p, why);
  }
  if (!p->verify)
    return p->certificates != NULL ? check_certificates (p->certificates, why) : 0;
  if (p->certificates == NULL)
    return explain (why, EPERM, "TLS needs tls-certificates or tls-psk: libnbd does not verify a "
                    "server against the system's certificates (or write tls-verify=false)");
  if (p->transport != URI_TCP)
    /* nbd.B-37 */
    return explain (why, EPERM, "libnbd does not verify a certificate over a Unix socket or "
                    "vsock: use tls-psk (or write tls-verify=false)");
  return check_certificates (p->certificates, why);
}

/* Connecting */

struct attempt {
  const struct nbdlink_params *params;
  struct nbd_handle *h;
  struct clock *clock;
  uint64_t start_ns, deadline_ns;
  int cancel_fd;
  char name[256];
  char **why;
};

/* The last error of this thread's libnbd call (nbd.L-1). */
static int
explain_nbd (struct attempt *a)
{
  const char *text = nbd_get_error ();
  int err = nbd_get_errno ();
  const char *colon;

  if (text == NULL)
    text = "the server closed the connection";
  /* libnbd begins with the name of its function, which says nothing to a user. */
  else if (strncmp (text, "nbd_", 4) == 0 && (colon = strstr (text, ": ")) != NULL)
    text = colon + 2;
  if (err == 0)
    err = ECONNRESET;
  /* A refused certificate or key comes as text alone. */
  if (a->params->tls && strstr (text, "gnutls") != NULL)
    err = EPERM;
  return explain (a->why, err, "%s: %s", a->name, text);
}

static int
to_ms (uint64_t ns)
{
  return ns / NSEC_PER_MSEC < INT_MAX ? (int) (ns / NSEC_PER_MSEC) + 1 : INT_MAX;
}

static bool
socket_is_connected (int fd)
{
  struct sockaddr_storage addr;
  socklen_t len = sizeof addr;

  return getpeername (fd, (struct sockaddr *) &addr, &len) == 0;
}

/* Let one event on the socket happen, or the deadline, or a cancellation. */
static int
turn (struct attempt *a)
{
  unsigned dir = nbd_aio_get_direction (a->h);
  uint64_t now = clock_now (a->clock), until = a->deadline_ns;
  struct pollfd fds[2] = {
    { .fd = nbd_aio_get_fd (a->h) },
    { .fd = a->cancel_fd, .events = POLLIN },
  };
  short got;
  int r, ms;

  if (fds[0].fd == -1)
    return explain_nbd (a);
  if (until > a->start_ns + TCP_CONNECT_NS && a->params->transport == URI_TCP
      && !socket_is_connected (fds[0].fd))
    until = a->start_ns + TCP_CONNECT_NS;
  if (now >= until)
    return explain (a->why, ETIMEDOUT, "%s: no answer in %.3g s", a->name,
                    (double) (now - a->start_ns) / NSEC_PER_SEC);
  ms = to_ms (until - now);

  if (dir & LIBNBD_AIO_DIRECTION_READ)
    fds[0].events |= POLLIN;
  if (dir & LIBNBD_AIO_DIRECTION_WRITE)
    fds[0].events |= POLLOUT;
  r = poll (fds, 2, ms);
  if (r == -1)
    return errno == EINTR ? 0 : explain (a->why, errno, "%s: poll: %s", a->name, strerror (errno));
  if (fds[1].revents != 0)
    return explain (a->why, ECANCELED, "%s: canceled", a->name);

  /* One notification a turn: the first may change what the second would mean (nbd.L-5).
   */
  got = fds[0].revents;
  r = 0;
  if ((got & (POLLIN | POLLHUP | POLLERR)) && (dir & LIBNBD_AIO_DIRECTION_READ))
    r = nbd_aio_notify_read (a->h);
  else if ((got & (POLLOUT | POLLHUP | POLLERR)) && (dir & LIBNBD_AIO_DIRECTION_WRITE))
    r = nbd_aio_notify_write (a->h);
  else if (got != 0)
    return explain (a->why, ECONNRESET, "%s: the server closed the connection", a->name);
  if (r == -1)
    return explain_nbd (a);
  if (nbd_aio_is_closed (a->h) || nbd_aio_is_dead (a->h))       /* nbd.L-3 */
    return explain (a->why, ECONNRESET, "%s: the server closed the connection", a->name);
  return 0;
}

static int
set_up (struct attempt *a, const char *export_name, bool structured, bool opt_mode)
{
  const struct nbdlink_params *p = a->params;
  struct nbd_handle *h = a->h;

  /* Strict mode stays on: what it refuses is a bug of ours (nbd.L-22).  Buffers are not
   * cleared first: simple replies fill them, chunks of structured ones are checked
   * (nbd.L-15).
   */
  if (nbd_set_export_name (h, export_name) == -1
      || nbd_set_full_info (h, true) == -1
      || nbd_set_request_structured_replies (h, structured) == -1
      || nbd_set_pread_initialize (h, false) == -1
      || nbd_set_opt_mode (h, opt_mode) == -1
      || (structured && nbd_add_meta_context (h, NBDLINK_ALLOCATION) == -1)
      || nbd_set_tls (h, p->tls ? LIBNBD_TLS_REQUIRE : LIBNBD_TLS_DISABLE) == -1)
    return -1;
  if (!p->tls)
    return 0;
  if (nbd_set_tls_verify_peer (h, p->verify) == -1
      || (p->certificates != NULL && nbd_set_tls_certificates (h, p->certificates) == -1)
      || (p->psk != NULL && nbd_set_tls_psk_file (h, p->psk) == -1)
      || (p->username != NULL && nbd_set_tls_username (h, p->username) == -1))
    return -1;
  return 0;
}

static int
begin (struct attempt *a)
{
  const struct nbdlink_params *p = a->params;

  switch (p->transport) {
  case URI_TCP:                 /* by name: else a certificate is not compared (nbd.L-32) */
    return nbd_aio_connect_tcp (a->h, p->host, p->port);
  case URI_UNIX:
    return nbd_aio_connect_unix (a->h, p->socket);
  case URI_VSOCK:
    return nbd_aio_connect_vsock (a->h, p->cid, p->vsock_port);
  }
  return -1;
}

/* Connect until the handle is ready, or negotiating with opt_mode. */
static int
attempt_connect (struct attempt *a, const struct nbdlink_params *p, const char *export_name,
                 bool structured, bool opt_mode, int cancel_fd, struct clock *clock, char **why)
{
  int err;

  *a = (struct attempt) { .params = p, .clock = clock, .cancel_fd = cancel_fd, .why = why };
  /* Each time: a CA file that went away since the start would mean no verification. */
  if ((err = nbdlink_check_tls (p, why)) != 0)
    return err;
  nbdlink_name (p, export_name, a->name, sizeof a->name);
  a->start_ns = clock_now (clock);
  a->deadline_ns = a->start_ns + p->timeout_ns;
  a->h = nbd_create ();
  if (a->h == NULL)
    return ENOMEM;
  if (set_up (a, export_name, structured, opt_mode) == -1 || begin (a) == -1) {
    err = explain_nbd (a);
    if (err == ENOENT)          /* of the socket; ours means the export */
      err = ECONNREFUSED;
    goto close;
  }
  while (!(opt_mode ? nbd_aio_is_negotiating (a->h) : nbd_aio_is_ready (a->h)))
    if ((err = turn (a)) != 0)
      goto close;
  if (p->tls && nbd_get_tls_negotiated (a->h) != 1) {           /* nbd.L-34 */
    err = explain (why, EPERM, "%s: the server did not begin TLS", a->name);
    goto close;
  }
  return 0;

 close:
  nbd_close (a->h);
  return err;
}

static uint32_t
block_size (struct nbd_handle *h, int which, uint32_t otherwise)
{
  int64_t n = nbd_get_block_size (h, which);

  /* What is not valid is not passed on by libnbd (nbd.B-51). */
  return n > 0 && n <= UINT32_MAX ? n : otherwise;
}

static int
read_info (struct attempt *a, struct origin_info *info)
{
  struct nbd_handle *h = a->h;
  int64_t size = nbd_get_size (h);

  if (size < 0)                 /* nbd.L-20 */
    return explain (a->why, EINVAL, "%s: its size, %llu, is 2^63 or larger", a->name,
                    (unsigned long long) size);
  memset (info, 0, sizeof *info);
  info->size = size;
  info->read_only = nbd_is_read_only (h) != 0 || size == 0;
  info->rotational = nbd_is_rotational (h) == 1;
  info->can_flush = nbd_can_flush (h) == 1;
  info->can_fua = nbd_can_fua (h) == 1;
  info->can_trim = nbd_can_trim (h) == 1;
  info->can_zero = nbd_can_zero (h) == 1;
  info->can_fast_zero = nbd_can_fast_zero (h) == 1;
  info->can_cache = nbd_can_cache (h) == 1;
  info->can_multi_conn = nbd_can_multi_conn (h) == 1;
  info->can_extents = nbd_can_meta_context (h, NBDLINK_ALLOCATION) == 1;
  info->block_min = block_size (h, LIBNBD_SIZE_MINIMUM, 1);
  info->block_pref = block_size (h, LIBNBD_SIZE_PREFERRED, DEFAULT_BLOCK_PREF);
  info->block_max = block_size (h, LIBNBD_SIZE_MAXIMUM, MAX_REQUEST);
  if (info->block_max > MAX_REQUEST)
    info->block_max = MAX_REQUEST;
  if (!checked_is_power_of_2 (info->block_min) || info->block_min > 65536
      || info->block_max < info->block_min)
    return explain (a->why, EINVAL, "%s: block sizes %u to %u make no sense", a->name,
                    info->block_min, info->block_max);
  info->block_max -= info->block_max % info->block_min;
  if (info->size % info->block_min != 0)
    return explain (a->why, EINVAL, "%s: its size, %llu, is not a multiple of its minimum "
                    "block, %u", a->name, (unsigned long long) size, info->block_min);
  return 0;
}

/* A dead peer is noticed even when it owes us nothing (nbd.L-29).  The system's own limit also ends a connection
 * on which the far side takes nothing for so long, as one does that flushes and has a full buffer of requests: so
 * it is the longest that we wait ourselves.
 */
static void
set_keepalive (const struct nbdlink_params *p, int fd)
{
  int on = 1, idle = 30, ms = to_ms (NBDLINK_SLOW_FACTOR * p->timeout_ns);

  if (p->transport != URI_TCP)
    return;
  /* Best effort: our own deadlines hold without it. */
  setsockopt (fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt (fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

int
nbdlink_connect (const struct nbdlink_params *p, const char *export_name, bool structured,
                 int cancel_fd, struct clock *clock, struct nbdlink *link, char **why)
{
  const char *protocol;
  struct attempt a;
  int err;

  memset (link, 0, sizeof *link);
  link->fd = -1;
  err = attempt_connect (&a, p, export_name, structured, false, cancel_fd, clock, why);
  if (err != 0)
    return err;
  link->h = a.h;
  if ((err = read_info (&a, &link->info)) != 0)
    goto close;
  /* An oldstyle server serves what it has, whatever name was asked. */
  protocol = nbd_get_protocol (a.h);
  if (export_name[0] != '\0' && protocol != NULL && strcmp (protocol, "oldstyle") == 0) {
    err = explain (why, ENOENT, "%s: an oldstyle server has no export names", a.name);
    goto close;
  }
  link->structured = nbd_get_structured_replies_negotiated (a.h) == 1;
  link->extents = link->info.can_extents;
  link->canonical = nbd_get_canonical_export_name (a.h);
  link->fd = fcntl (nbd_aio_get_fd (a.h), F_DUPFD_CLOEXEC, 0);
  if (link->fd == -1) {
    err = explain (why, errno, "%s: dup: %s", a.name, strerror (errno));
    goto close;
  }
  set_keepalive (p, link->fd);
  return 0;

 close:
  free (link->canonical);
  nbd_close (a.h);
  memset (link, 0, sizeof *link);
  link->fd = -1;
  return err;
}

void
nbdlink_close (struct nbdlink *link)
{
  /* The few bytes of a goodbye go into the socket at once or not at all: nbd_shutdown
   * would wait without end (nbd.L-27).
   */
  if (nbd_aio_is_ready (link->h))
    nbd_aio_disconnect (link->h, 0);
  nbd_close (link->h);
  close (link->fd);
  free (link->canonical);
  memset (link, 0, sizeof *link);
  link->fd = -1;
}

/* Leave a server with which nothing but options was negotiated. */
static void
abort_options (struct attempt *a)
{
  nbd_aio_opt_abort (a->h);
  nbd_close (a->h);
}

int
nbdlink_probe (const struct nbdlink_params *p, struct clock *clock, struct origin_info *info,
               char **why)
{
  struct nbdlink link;
  struct attempt a;
  int err;

  memset (info, 0, sizeof *info);
  if (p->dynamic_export) {
    err = attempt_connect (&a, p, p->export_name, true, true, -1, clock, why);
    if (err == 0)
      abort_options (&a);
    return err;
  }
  err = nbdlink_connect (p, p->export_name, true, -1, clock, &link, why);
  if (err != 0)
    return err;
  *info = link.info;
  nbdlink_close (&link);
  return 0;
}

struct listing {
  char **text;                  /* name, description or NULL, name, ... */
  size_t n, max;
  int err;
};

/* Locks libnbd's handle lock.  Threads the caller of nbdlink_list. */
static int
list_entry_came (void *opaque, const char *name, const char *description)
{
  struct listing *l = opaque;

  if (l->err != 0 || l->n >= 2 * MAX_EXPORTS || !uri_export_is_valid (name, strlen (name)))
    return 0;
  if (l->n + 2 > l->max) {
    size_t max = l->max == 0 ? 32 : 2 * l->max;
    char **text = realloc (l->text, max * sizeof *text);

    if (text == NULL) {
      l->err = ENOMEM;
      return 0;
    }
    l->text = text;
    l->max = max;
  }
  l->text[l->n] = strdup (name);
  l->text[l->n + 1] = *description != '\0' ? strdup (description) : NULL;
  if (l->text[l->n] == NULL || (*description != '\0' && l->text[l->n + 1] == NULL))
    l->err = ENOMEM;
  l->n += 2;
  return 0;
}

struct answer {
  bool came;
  int err;
};

static int
option_done (void *opaque, int *err)
{
  struct answer *answer = opaque;

  answer->came = true;
  answer->err = *err;
  return 0;
}

int
nbdlink_list (const struct nbdlink_params *p, int cancel_fd, struct clock *clock,
              int (*fn) (void *arg, const char *name, const char *description), void *arg,
              char **why)
{
  struct listing l = { .n = 0 };
  struct answer answer = { .came = false };
  nbd_list_callback came = { .callback = list_entry_came, .user_data = &l };
  nbd_completion_callback done = { .callback = option_done, .user_data = &answer };
  struct attempt a;
  size_t i;
  int err;

  err = attempt_connect (&a, p, "", false, true, cancel_fd, clock, why);
  if (err != 0)
    return err;
  if (nbd_aio_opt_list (a.h, came, done) == -1)
    err = explain_nbd (&a);
  while (err == 0 && !answer.came)
    err = turn (&a);
  if (err == 0 && answer.err != 0)
    err = explain (why, answer.err, "%s: the server does not list its exports: %s", a.name,
                   strerror (answer.err));
  if (err == 0)
    err = l.err;
  abort_options (&a);

  for (i = 0; i < l.n; i += 2) {
    if (err == 0)
      err = fn (arg, l.text[i], l.text[i + 1]);
    free (l.text[i]);
    free (l.text[i + 1]);
  }
  free (l.text);
  return err;
}

const char *
nbdlink_differs (const struct origin_info *was, const struct origin_info *is)
{
  if (was->read_only != is->read_only)
    return is->read_only ? "it is read-only now" : "it is not read-only any more";
  if (was->block_min != is->block_min || was->block_max != is->block_max)
    return "its block sizes are others";
  if (was->can_flush && !is->can_flush)
    return "it cannot flush any more";
  if (was->can_fua && !is->can_fua)
    return "it has no FUA any more";
  if (was->can_multi_conn && !is->can_multi_conn)
    return "it allows one connection only now";
  return NULL;
}
