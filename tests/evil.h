/* SPDX-License-Identifier: BSD-3-Clause
 *
 * evil - an NBD server whose answers are written by the test.
 *
 * Answers: what does our client do when a server says what no honest server says?
 *
 * The handshake is honest, as far as struct evil says; each request is then given to
 * serve(), which answers with evil_simple, evil_chunk, evil_raw or not at all.
 *
 * Threads  one that accepts and one a connection; serve() runs there.
 * Owner    evil_stop hangs up on everybody and ends the threads.
 */
#ifndef PC_TESTS_EVIL_H
#define PC_TESTS_EVIL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evil_request {
  uint16_t flags, type;
  uint64_t handle, off;
  uint32_t len;
  unsigned char *data;          /* of a write */
};

struct evil_conn {
  struct evil *evil;
  int fd;
  unsigned number;              /* of the connection, from 1 */
  unsigned nrequests;           /* this one included */
};

struct evil {
  /* Set by the test. */
  uint64_t size;
  _Atomic uint16_t flags;       /* transmission flags */
  uint32_t block_min, block_pref, block_max;    /* 0: not told */
  bool structured, extents;
  bool silent;                  /* accepts and says nothing */
  int pace_ms;                  /* a write's bytes are taken 16 KiB at a time, and so long after each; 0: at once */
  bool oldstyle;
  bool tcp;                     /* listens at 127.0.0.1, port; takes no more than 64 KiB in advance */
  const char *canonical;        /* told as NBD_INFO_NAME, or NULL */
  uint32_t go_error;            /* answer NBD_OPT_GO with this NBD_REP_ERR_... */
  bool (*serve) (struct evil_conn *, const struct evil_request *);      /* false: hang up */
  void *arg;

  /* evil's own. */
  char path[108], port[8];
  int listener;
  pthread_t thread;
  pthread_t conn_thread[64];
  int conn_fd[64];
  _Atomic unsigned nconns, nended;
  _Atomic unsigned said_goodbye;        /* NBD_CMD_DISC received */
};

enum { EVIL_READ, EVIL_WRITE, EVIL_DISC, EVIL_FLUSH, EVIL_TRIM, EVIL_CACHE, EVIL_ZERO, EVIL_STATUS };
enum { EVIL_NONE = 0, EVIL_DATA = 1, EVIL_HOLE = 2, EVIL_BLOCK_STATUS = 5, EVIL_ERROR = 0x8001 };
enum { EVIL_DONE = 1 };
enum {
  EVIL_HAS_FLAGS = 1, EVIL_READ_ONLY = 2, EVIL_SEND_FLUSH = 4, EVIL_SEND_FUA = 8, EVIL_SEND_TRIM = 32,
  EVIL_SEND_ZERO = 64, EVIL_MULTI_CONN = 256,
};

extern void evil_start (struct evil *, const char *dir);
extern void evil_stop (struct evil *);

extern bool evil_raw (struct evil_conn *, const void *, size_t);
extern bool evil_simple (struct evil_conn *, uint64_t handle, uint32_t error, const void *, size_t);
extern bool evil_chunk (struct evil_conn *, uint64_t handle, unsigned flags, unsigned type, const void *,
                        size_t);
/* A data chunk of len bytes of value `byte` for the disk's offset off; a hole. */
extern bool evil_data (struct evil_conn *, uint64_t handle, unsigned flags, uint64_t off, int byte,
                       uint32_t len);
extern bool evil_hole (struct evil_conn *, uint64_t handle, unsigned flags, uint64_t off, uint32_t len);
/* Block status: pairs of length and type. */
extern bool evil_status (struct evil_conn *, uint64_t handle, const uint32_t *words, size_t n);

#endif /* PC_TESTS_EVIL_H */
