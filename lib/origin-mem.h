/* SPDX-License-Identifier: BSD-3-Clause
 *
 * origin-mem - an origin in memory for tests: doors, delays, errors, a log.
 *
 * It keeps a volatile and a durable image apart; a flush copies what its carrier
 * wrote; origin_mem_lose() ends the connection and may forget the rest.  Without doors a
 * request is answered inside submit.  A request that is held (door closed, or
 * everything deferred) waits until it is released by hand: tests and the simulator
 * decide the order.
 *
 * Threads  any; one lock of its own (RANK_ORIGIN), dropped before done() is called.
 */
#ifndef PC_ORIGIN_MEM_H
#define PC_ORIGIN_MEM_H

#include <stddef.h>

#include "origin.h"

struct origin_mem_log {
  enum origin_cmd cmd;
  unsigned flags;
  uint64_t off, len;
  int err;                      /* what it was answered with; -1 while it waits */
};

/* info as it shall be seen (size at least); image is zeros. */
extern int origin_mem_create (const struct origin_info *info, struct origin **);

extern uint8_t *origin_mem_volatile (struct origin *);  /* size bytes each */
extern uint8_t *origin_mem_durable (struct origin *);

/* Doors: a closed door holds requests of that command; open releases those held, in order. */
extern void origin_mem_close_door (struct origin *, enum origin_cmd);
extern void origin_mem_open_door (struct origin *, enum origin_cmd);
extern void origin_mem_close_all (struct origin *);
extern void origin_mem_open_all (struct origin *);

/* How many requests of cmd are held; wait until at least n are (other threads submit). */
extern size_t origin_mem_held (struct origin *, enum origin_cmd);
extern void origin_mem_wait_held (struct origin *, enum origin_cmd, size_t n);

/* Release held request number i (in order of arrival over all commands), answering it
 * with err (0: carry it out).  Returns 0, or ENOENT.
 */
extern int origin_mem_release_nth (struct origin *, size_t i, int err);
extern size_t origin_mem_held_total (struct origin *);

/* When is a held write's data taken: at its release (default), so that a caller that
 * changes the buffer in flight is found: a checksum taken at submit is compared.
 */

/* The next `count` requests of cmd fail with err, after letting `skip` pass. */
extern void origin_mem_fail (struct origin *, enum origin_cmd, int err, unsigned skip, unsigned count);

/* The connection is lost: held requests that are write-like answer ENOTCONN (carried
 * out or not as `apply` says), reads stay held; the volatile image becomes the
 * durable one if `forget`; a new carrier number begins.  Answers that other threads are
 * giving are waited for, so not from done().
 */
extern void origin_mem_lose (struct origin *, bool apply, bool forget);

/* The origin is away (requests are held although doors are open) or back. */
extern void origin_mem_away (struct origin *, bool away);

extern size_t origin_mem_log_len (struct origin *);
extern struct origin_mem_log origin_mem_log_at (struct origin *, size_t i);
extern size_t origin_mem_count (struct origin *, enum origin_cmd);
extern void origin_mem_log_clear (struct origin *);

#endif /* PC_ORIGIN_MEM_H */
