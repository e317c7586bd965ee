/* SPDX-License-Identifier: BSD-3-Clause
 *
 * reply - the border where an errno value becomes what nbdkit and its client see.
 *
 * nbdkit turns an errno that it does not know into EINVAL (K-25), which tells a file
 * system that it made a mistake when its disk was lost.  So every error passes here,
 * and leaves as one of EPERM, EIO, ENOMEM, EINVAL, ENOSPC, ESHUTDOWN, or, for a fast
 * zero only, ENOTSUP.  What is like one of these the core has made that already
 * (cache-io.c, public_errno); here the rest is EIO: what opening an export can bring.
 *
 * Threads  reply: a thread that serves a connection; the sink: any.
 */
#ifndef PC_REPLY_H
#define PC_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

/* What the client may be told for err; never 0 unless err is 0. */
extern int reply_errno (int err, bool fast_zero);

/* One request, for the message: "vm1: write [0, 512): ...". */
struct request {
  const char *who, *what;
  uint64_t off, len;            /* both 0: the whole export */
  bool fast_zero;
  struct log_limit *limit;      /* shared by what the same peer can provoke */
};

/* 0, or -1 after telling nbdkit and the log; the latter in limits, for a client can
 * cause as many of these lines as it likes (S-3).
 */
extern int reply (struct log *, const struct request *, int err);

/* A struct log's fn: nbdkit's error and debug channels. */
extern void reply_log_sink (void *arg, int level, const char *line);

#endif /* PC_REPLY_H */
