/* SPDX-License-Identifier: BSD-3-Clause
 *
 * fuzz-origin - what a server says, from the greeting to the last reply: does any of it crash the client's side, or is
 * an answer taken for whole that is not?
 *
 * A real socket: a thread accepts, writes all it has to say at once, ends its half and listens until the client goes.
 * So a run is a function of the bytes: nothing depends on who is quicker.  The first byte says whether the handshake is an
 * honest one, written here, with the requests and replies read from the rest; or is the rest itself.
 *
 * Replies are told in a small language (reply () below) that knows the frames of the protocol, since bytes made up
 * blindly hardly get past a magic number.  As long as only chunks were used, data at offset x is byte_at (x):
 * what nbdwire_verify says is whole must hold that or, from a hole, zeros.
 */
#include <config.h>

#include "test.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <libnbd.h>

#include "fuzz.h"
#include "nbdwire.h"

#define SIZE 65536
#define NREQS 6
#define UNTOUCHED 0xee

struct script {
  uint8_t bytes[1 << 18];
  size_t len;
};

struct request {
  struct origin_req req;
  uint8_t buf[SIZE];
  uint64_t told;                /* STATUS: up to here */
};

static struct sockaddr_un address = { .sun_family = AF_UNIX };
static int listener = -1;
static pthread_t server;
static struct script script;
static sem_t gone;
static struct clock real_clock = CLOCK_REAL_INIT;
static struct nbdlink_params *params;

static uint8_t
byte_at (uint64_t off)
{
  return (uint8_t) (off % 199 + 1);
}

/*----------------------------------------------------------------------*/
/* The server. */

static void *
serve (void *arg)
{
  (void) arg;
  for (;;) {
    char sink[4096];
    int fd = accept (listener, NULL, NULL);
    size_t at = 0;

    if (fd < 0)
      break;                    /* end () */
    while (at < script.len) {
      ssize_t n = send (fd, script.bytes + at, script.len - at, MSG_NOSIGNAL);

      if (n <= 0)
        break;
      at += (size_t) n;
    }
    shutdown (fd, SHUT_WR);
    while (recv (fd, sink, sizeof sink, 0) > 0)
      ;
    close (fd);
    sem_post (&gone);
  }
  return NULL;
}

static void
end (void)
{
  shutdown (listener, SHUT_RDWR);
  pthread_join (server, NULL);
  unlink (address.sun_path);
}

static void
begin (void)
{
  struct pagecache_origin o = {
    .unix_socket = address.sun_path, .tls_verify = true, .timeout_ns = 20 * NSEC_PER_SEC,
    .reconnect_ns = NSEC_PER_SEC,
  };
  const char *tmp = getenv ("TMPDIR");
  char *why;

  snprintf (address.sun_path, sizeof address.sun_path, "%s/pc-fuzz-%ld", tmp ? tmp : "/tmp", (long) getpid ());
  unlink (address.sun_path);
  listener = socket (AF_UNIX, SOCK_STREAM, 0);
  assert (listener >= 0 && bind (listener, (struct sockaddr *) &address, sizeof address) == 0);
  assert (listen (listener, 4) == 0);
  sem_init (&gone, 0, 0);
  assert (nbdlink_params_create (&o, &params, &why) == 0);
  assert (pthread_create (&server, NULL, serve, NULL) == 0);
  atexit (end);
}

/*----------------------------------------------------------------------*/
/* What it says. */

static void
say (const void *bytes, size_t len)
{
  if (len > sizeof script.bytes - script.len)
    len = sizeof script.bytes - script.len;
  memcpy (script.bytes + script.len, bytes, len);
  script.len += len;
}

static void
say_number (uint64_t v, size_t bytes)
{
  uint64_t big = htobe64 (v);

  say ((const uint8_t *) &big + sizeof big - bytes, bytes);
}

static void
say_option (uint32_t option, uint32_t type, uint32_t len)
{
  say_number (UINT64_C (0x3e889045565a9), 8);
  say_number (option, 4);
  say_number (type, 4);
  say_number (len, 4);
}

/* What an honest server would, to a client that asks for structured replies and base:allocation, or for nothing. */
static void
handshake (bool structured, unsigned flags)
{
  say_number (UINT64_C (0x4e42444d41474943), 8);
  say_number (UINT64_C (0x49484156454f5054), 8);
  say_number (3, 2);
  if (structured) {
    say_option (8, 1, 0);
    say_option (10, 4, 4 + 15);
    say_number (1, 4);
    say ("base:allocation", 15);
    say_option (10, 1, 0);
  }
  say_option (7, 3, 12);
  say_number (0, 2);
  say_number (SIZE, 8);
  say_number (flags | 1, 2);
  say_option (7, 1, 0);
}

static void
say_data (struct tape *t, uint64_t off, uint64_t len)
{
  (void) t;
  for (; len > 0; len--, off++) {
    uint8_t b = byte_at (off);

    say (&b, 1);
  }
}

static void
say_chunk (uint64_t handle, unsigned flags, unsigned type, uint32_t len)
{
  say_number (0x668e33ef, 4);
  say_number (flags, 2);
  say_number (type, 2);
  say_number (handle, 8);
  say_number (len, 4);
}

/* One reply.  False if it may be one that no length or offset of ours describes. */
static bool
reply (struct tape *t)
{
  unsigned what = (unsigned) tape_take (t, 1), i, n;
  uint64_t handle = (what >> 4) % (NREQS + 1) + 1, off, len;
  unsigned flags = (unsigned) tape_take (t, 1);

  off = tape_take (t, 2);
  len = tape_take (t, 2);
  switch (what % 8) {
  case 0:
    say_number (0x67446698, 4);
    say_number (flags % 4 ? 0 : flags / 4, 4);
    say_number (handle, 8);
    say_data (t, off, len);
    return false;
  case 1:
    say_chunk (handle, flags & 1, 1, (uint32_t) len + 8);
    say_number (off, 8);
    say_data (t, off, len);
    return true;
  case 2:
    say_chunk (handle, flags & 1, 2, 12);
    say_number (off, 8);
    say_number (len, 4);
    return true;
  case 3:
    n = flags >> 1 & 31;
    say_chunk (handle, flags & 1, 5, 4 + 8 * n);
    say_number (1, 4);
    for (i = 0; i < n; i++) {
      say_number (tape_take (t, 2), 4);
      say_number (tape_take (t, 1), 4);
    }
    return true;
  case 4:
    say_chunk (handle, flags & 1, flags & 2 ? 0x8002 : 0x8001, flags & 2 ? 14 : 6);
    say_number (len % 40, 4);
    say_number (0, 2);
    if (flags & 2)
      say_number (off, 8);
    return true;
  case 5:
    say_chunk (handle, flags & 1, 0, 0);
    return true;
  case 6:
    say_chunk (handle, flags, (unsigned) off, (uint32_t) len);
    return false;
  default:
    n = flags < t->left ? flags : (unsigned) t->left;
    say (t->at, n);
    tape_take (t, n);
    return false;
  }
}

/*----------------------------------------------------------------------*/
/* The client. */

static void
never_done (struct origin_req *req, int err)
{
  (void) req;
  (void) err;
  abort ();                     /* who drives nbdwire calls it, and that is us */
}

static void
extent (struct origin_req *req, uint64_t off, uint64_t len, unsigned type)
{
  struct request *r = container_of (req, struct request, req);

  assert (off == r->told && len > 0 && len <= req->off + req->len - off && type <= 3);
  r->told = off + len;
}

static void
describe (struct request *r, struct tape *t)
{
  static const enum origin_cmd cmds[] = {
    ORIGIN_READ, ORIGIN_READ, ORIGIN_STATUS, ORIGIN_WRITE, ORIGIN_FLUSH, ORIGIN_TRIM, ORIGIN_ZERO, ORIGIN_CACHE,
  };
  unsigned what = (unsigned) tape_take (t, 1);

  memset (&r->req, 0, sizeof r->req);
  memset (r->buf, UNTOUCHED, sizeof r->buf);
  r->req.cmd = cmds[what % 8];
  r->req.done = never_done;
  r->req.extent = extent;
  if (r->req.cmd == ORIGIN_FLUSH)
    return;
  r->req.off = tape_take (t, 1) * 256;
  r->req.len = tape_take (t, 1) * 128 + 1;
  if (r->req.len > SIZE - r->req.off)
    r->req.len = SIZE - r->req.off;
  r->req.buf = r->buf;
  r->req.status_at = r->told = r->req.off;
  if (r->req.cmd == ORIGIN_STATUS && what & 8)
    r->req.flags = ORIGIN_ONE;
}

static void
look_at_answer (struct nbdwire *w, struct request *r, bool plain)
{
  uint64_t i;

  if (r->req.err != 0 || !nbdwire_verify (w, &r->req))
    return;
  if (r->req.cmd == ORIGIN_STATUS)
    (void) nbdwire_tell_extents (&r->req);
  if (r->req.cmd != ORIGIN_READ || !plain)
    return;
  for (i = 0; i < r->req.len; i++)
    assert (r->buf[i] == 0 || r->buf[i] == byte_at (r->req.off + i));
}

static void
talk (struct nbdlink *link, struct request *r, unsigned n, bool plain)
{
  struct origin_req *req;
  struct nbdwire w;
  unsigned i, turns;

  nbdwire_init (&w, link);
  for (i = 0; i < n; i++)
    if (nbdwire_issue (&w, &r[i].req) != 0)
      continue;
  for (turns = 0; !nbd_aio_is_closed (w.link.h) && !nbd_aio_is_dead (w.link.h); turns++) {
    assert (turns < 100000);
    if (nbd_poll (w.link.h, 20000) != 1)
      break;
  }
  while ((req = nbdwire_take_done (&w)) != NULL)
    for (; req != NULL; req = req->next)
      look_at_answer (&w, container_of (req, struct request, req), plain);
  nbdlink_close (&w.link);
  for (i = 0; i < n; i++)
    nbdwire_forget (&r[i].req);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t len)
{
  static struct request r[NREQS];
  struct tape t = { data, len };
  unsigned how = (unsigned) tape_take (&t, 1), n = 0;
  bool honest = how & 1, structured = how & 2, plain = structured;
  struct nbdlink link;
  char *why = NULL;
  int err;

  if (listener < 0)
    begin ();
  script.len = 0;
  if (honest) {
    handshake (structured, (unsigned) tape_take (&t, 2));
    for (n = 0; n < how >> 2 && n < NREQS; n++)
      describe (&r[n], &t);
    while (t.left > 0)
      plain = reply (&t) && plain;
  }
  else
    say (t.at, t.left);
  err = nbdlink_connect (params, "x", structured, -1, &real_clock, &link, &why);
  assert (err != 0 || why == NULL);
  if (err == 0) {
    assert (link.info.block_min >= 1 && link.info.block_max >= link.info.block_min);
    talk (&link, r, n, plain);
  }
  free (why);
  sem_wait (&gone);
  return 0;
}
