/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdx - what the model tester's files share: options and connections.
 */
#ifndef PC_NBDX_H
#define PC_NBDX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libnbd.h>

#include "nbdx-model.h"

struct options {
  const char *target;           /* a URI, or the path of a socket */
  const char *export;           /* with a socket */
  const char *durable, *make_image;
  uint64_t seed, ops, size, at;
  uint32_t atom, max_len;
  unsigned connections, depth, timeout;
  bool torn, stamped, allow_errors, force_multi_conn, check_model, no_final;
  unsigned weight[OP_KINDS];
  /* The other jobs. */
  uint64_t never_flush, block;
  unsigned misses;
  bool hit_while_miss;
};

extern void die (const char *fmt, ...)
  __attribute__ ((format (printf, 1, 2), noreturn));
extern void nbd_die (const char *what) __attribute__ ((noreturn));
extern uint64_t now_ns (void);
extern struct nbd_handle *nbdx_connect (const struct options *opt,
                                        bool may_fail);

/* nbdx-pace.c: exit status. */
extern int run_never_flush (const struct options *opt);
extern int run_misses (const struct options *opt);

#endif
