/* SPDX-License-Identifier: BSD-3-Clause
 *
 * evil - the honest half of a dishonest server: sockets, handshake, framing.
 */
#include <config.h>

#undef NDEBUG

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "evil.h"

#define REP_MAGIC UINT64_C (0x3e889045565a9)
enum { OPT_ABORT = 2, OPT_LIST = 3, OPT_INFO = 6, OPT_GO = 7, OPT_STRUCTURED = 8, OPT_SET_META = 10 };
enum { REP_ACK = 1, REP_SERVER = 2, REP_INFO = 3, REP_META = 4 };
#define REP_ERR_UNSUP UINT32_C (0x80000001)

static bool
get (int fd, void *buf, size_t len)
{
  return len == 0 || recv (fd, buf, len, MSG_WAITALL) == (ssize_t) len;
}

static bool
put (int fd, const void *buf, size_t len)
{
  return len == 0 || send (fd, buf, len, MSG_NOSIGNAL) == (ssize_t) len;
}

static bool
put_reply (int fd, uint32_t option, uint32_t type, const void *data, uint32_t len)
{
  struct __attribute__ ((packed)) {
    uint64_t magic;
    uint32_t option, type, len;
  } head = { htobe64 (REP_MAGIC), htobe32 (option), htobe32 (type), htobe32 (len) };

  return put (fd, &head, sizeof head) && put (fd, data, len);
}

static bool
put_info (struct evil *e, int fd, uint32_t option)
{
  struct __attribute__ ((packed)) {
    uint16_t type;
    uint64_t size;
    uint16_t flags;
  } export = { htobe16 (0), htobe64 (e->size), htobe16 (e->flags) };
  struct __attribute__ ((packed)) {
    uint16_t type;
    uint32_t min, pref, max;
  } block = { htobe16 (3), htobe32 (e->block_min), htobe32 (e->block_pref), htobe32 (e->block_max) };
  char name[2 + 256] = { 0, 1 };

  if (e->go_error != 0)
    return put_reply (fd, option, e->go_error, NULL, 0);
  if (!put_reply (fd, option, REP_INFO, &export, sizeof export))
    return false;
  if (e->block_min != 0 && !put_reply (fd, option, REP_INFO, &block, sizeof block))
    return false;
  if (e->canonical != NULL) {
    strcpy (name + 2, e->canonical);
    if (!put_reply (fd, option, REP_INFO, name, 2 + strlen (e->canonical)))
      return false;
  }
  return put_reply (fd, option, REP_ACK, NULL, 0);
}

/* True when transmission begins. */
static bool
negotiate (struct evil *e, int fd)
{
  struct __attribute__ ((packed)) {
    uint64_t magic, option_magic;
    uint16_t flags;
  } hello = { htobe64 (UINT64_C (0x4e42444d41474943)), htobe64 (UINT64_C (0x49484156454f5054)),
              htobe16 (3) };
  static const char meta[] = "\0\0\0\1base:allocation";
  static const char server[] = "\0\0\0\1x";
  struct __attribute__ ((packed)) {
    uint64_t magic;
    uint32_t option, len;
  } head;
  uint32_t flags;
  char data[65536];

  if (!put (fd, &hello, sizeof hello) || !get (fd, &flags, sizeof flags))
    return false;
  while (get (fd, &head, sizeof head)) {
    uint32_t option = be32toh (head.option), len = be32toh (head.len);

    if (len > sizeof data || !get (fd, data, len))
      return false;
    switch (option) {
    case OPT_STRUCTURED:
      put_reply (fd, option, e->structured ? REP_ACK : REP_ERR_UNSUP, NULL, 0);
      break;
    case OPT_SET_META:
      if (e->extents)
        put_reply (fd, option, REP_META, meta, sizeof meta - 1);
      put_reply (fd, option, REP_ACK, NULL, 0);
      break;
    case OPT_LIST:
      put_reply (fd, option, REP_SERVER, server, sizeof server - 1);
      put_reply (fd, option, REP_ACK, NULL, 0);
      break;
    case OPT_INFO:
    case OPT_GO:
      if (!put_info (e, fd, option))
        return false;
      if (option == OPT_GO && e->go_error == 0)
        return true;
      break;
    case OPT_ABORT:
      put_reply (fd, option, REP_ACK, NULL, 0);
      return false;
    default:
      put_reply (fd, option, REP_ERR_UNSUP, NULL, 0);
    }
  }
  return false;
}

static bool
begin_oldstyle (struct evil *e, int fd)
{
  struct __attribute__ ((packed)) {
    uint64_t magic, old_magic, size;
    uint16_t global, flags;
    char pad[124];
  } hello = { htobe64 (UINT64_C (0x4e42444d41474943)), htobe64 (UINT64_C (0x420281861253)),
              htobe64 (e->size), 0, htobe16 (e->flags), "" };

  return put (fd, &hello, sizeof hello);
}

/* As get; at the pace of a slow link, if that was asked for. */
static bool
get_paced (const struct evil *e, int fd, unsigned char *buf, size_t len)
{
  const size_t piece = 16384;

  while (e->pace_ms > 0 && len > piece) {
    if (!get (fd, buf, piece))
      return false;
    buf += piece;
    len -= piece;
    poll (NULL, 0, e->pace_ms);
  }
  return get (fd, buf, len);
}

static void
transmit (struct evil_conn *c)
{
  struct __attribute__ ((packed)) {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t handle, off;
    uint32_t len;
  } head;
  bool go_on = true;

  while (go_on && get (c->fd, &head, sizeof head)) {
    struct evil_request req = {
      .flags = be16toh (head.flags), .type = be16toh (head.type), .handle = head.handle,
      .off = be64toh (head.off), .len = be32toh (head.len),
    };

    assert (be32toh (head.magic) == 0x25609513);
    if (req.type == EVIL_DISC) {
      atomic_fetch_add (&c->evil->said_goodbye, 1);
      return;
    }
    if (req.type == EVIL_WRITE) {
      req.data = malloc (req.len);
      assert (req.data != NULL);
      if (!get_paced (c->evil, c->fd, req.data, req.len)) {
        free (req.data);
        return;
      }
    }
    c->nrequests++;
    go_on = c->evil->serve (c, &req);
    free (req.data);
  }
}

static void *
conn_main (void *arg)
{
  struct evil_conn *c = arg;
  struct evil *e = c->evil;
  char byte;

  if (e->silent)
    get (c->fd, &byte, 1);
  else if (e->oldstyle ? begin_oldstyle (e, c->fd) : negotiate (e, c->fd))
    transmit (c);
  shutdown (c->fd, SHUT_RDWR);
  free (c);
  atomic_fetch_add (&e->nended, 1);
  return NULL;
}

static void *
evil_main (void *arg)
{
  struct evil *e = arg;

  for (;;) {
    struct evil_conn *c;
    int fd = accept (e->listener, NULL, NULL);
    unsigned i = e->nconns;

    if (fd == -1)
      return NULL;
    assert (i < 64);
    c = calloc (1, sizeof *c);
    assert (c != NULL);
    c->evil = e;
    c->fd = e->conn_fd[i] = fd;
    c->number = i + 1;
    assert (pthread_create (&e->conn_thread[i], NULL, conn_main, c) == 0);
    atomic_fetch_add (&e->nconns, 1);
  }
}

static int
listen_tcp (struct evil *e)
{
  struct sockaddr_in sin = { .sin_family = AF_INET, .sin_addr = { htonl (INADDR_LOOPBACK) } };
  socklen_t len = sizeof sin;
  int fd = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), room = 65536;

  assert (fd != -1);
  assert (setsockopt (fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) == 0);
  assert (bind (fd, (struct sockaddr *) &sin, sizeof sin) == 0);
  assert (getsockname (fd, (struct sockaddr *) &sin, &len) == 0);
  snprintf (e->port, sizeof e->port, "%u", ntohs (sin.sin_port));
  return fd;
}

static int
listen_unix (struct evil *e)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  int fd;

  assert (strlen (e->path) < sizeof sun.sun_path);
  strcpy (sun.sun_path, e->path);
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  assert (fd != -1);
  assert (bind (fd, (struct sockaddr *) &sun, sizeof sun) == 0);
  return fd;
}

void
evil_start (struct evil *e, const char *dir)
{
  snprintf (e->path, sizeof e->path, "%s/evil.sock", dir);
  unlink (e->path);
  e->nconns = e->nended = 0;
  e->said_goodbye = 0;
  e->listener = e->tcp ? listen_tcp (e) : listen_unix (e);
  assert (listen (e->listener, 64) == 0);
  assert (pthread_create (&e->thread, NULL, evil_main, e) == 0);
}

void
evil_stop (struct evil *e)
{
  unsigned i;

  unlink (e->path);
  shutdown (e->listener, SHUT_RDWR);
  pthread_join (e->thread, NULL);
  close (e->listener);
  for (i = 0; i < e->nconns; i++) {
    shutdown (e->conn_fd[i], SHUT_RDWR);
    pthread_join (e->conn_thread[i], NULL);
    close (e->conn_fd[i]);
  }
}

bool
evil_raw (struct evil_conn *c, const void *data, size_t len)
{
  return put (c->fd, data, len);
}

bool
evil_simple (struct evil_conn *c, uint64_t handle, uint32_t error, const void *data, size_t len)
{
  struct __attribute__ ((packed)) {
    uint32_t magic, error;
    uint64_t handle;
  } head = { htobe32 (0x67446698), htobe32 (error), handle };

  return put (c->fd, &head, sizeof head) && put (c->fd, data, len);
}

bool
evil_chunk (struct evil_conn *c, uint64_t handle, unsigned flags, unsigned type, const void *data,
            size_t len)
{
  struct __attribute__ ((packed)) {
    uint32_t magic;
    uint16_t flags, type;
    uint64_t handle;
    uint32_t len;
  } head = { htobe32 (0x668e33ef), htobe16 (flags), htobe16 (type), handle, htobe32 (len) };

  return put (c->fd, &head, sizeof head) && put (c->fd, data, len);
}

bool
evil_data (struct evil_conn *c, uint64_t handle, unsigned flags, uint64_t off, int byte, uint32_t len)
{
  unsigned char *buf = malloc (8 + len);
  bool r;

  assert (buf != NULL);
  off = htobe64 (off);
  memcpy (buf, &off, 8);
  memset (buf + 8, byte, len);
  r = evil_chunk (c, handle, flags, EVIL_DATA, buf, 8 + len);
  free (buf);
  return r;
}

bool
evil_hole (struct evil_conn *c, uint64_t handle, unsigned flags, uint64_t off, uint32_t len)
{
  struct __attribute__ ((packed)) {
    uint64_t off;
    uint32_t len;
  } hole = { htobe64 (off), htobe32 (len) };

  return evil_chunk (c, handle, flags, EVIL_HOLE, &hole, sizeof hole);
}

bool
evil_status (struct evil_conn *c, uint64_t handle, const uint32_t *words, size_t n)
{
  uint32_t *buf = malloc ((n + 1) * sizeof *buf);
  size_t i;
  bool r;

  assert (buf != NULL);
  buf[0] = htobe32 (1);
  for (i = 0; i < n; i++)
    buf[i + 1] = htobe32 (words[i]);
  r = evil_chunk (c, handle, EVIL_DONE, EVIL_BLOCK_STATUS, buf, (n + 1) * sizeof *buf);
  free (buf);
  return r;
}
