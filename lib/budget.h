/* SPDX-License-Identifier: BSD-3-Clause
 *
 * budget - who may have memory: one bound for everything the cache holds.
 *
 * Frames that have memory behind them, segments, the frame table, ghost entries, the
 * bounce pool and the reserve are all taken from here before they are allocated (D13),
 * so that the sum never exceeds the limit.  Nobody waits in here: a refusal is
 * ENOMEM and the caller reclaims (frames leave, their memory is punched) or parks.
 *
 * Units    bytes.
 * Threads  any; lock free (atomics), so it can be used under any lock.
 */
#ifndef PC_BUDGET_H
#define PC_BUDGET_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum budget_class {
  BUDGET_FIXED,                 /* frame table, eviction queues, bounce pool, reserve */
  BUDGET_FRAMES,                /* frames with memory behind them, used or free */
  BUDGET_META,                  /* segments and in-flight objects */
  BUDGET_NR_CLASSES,
};

struct budget {
  uint64_t limit;               /* fixed after init */
  _Atomic uint64_t used;        /* sum over classes; never above limit */
  _Atomic uint64_t by_class[BUDGET_NR_CLASSES];
  _Atomic uint64_t peak;
};

extern void budget_init (struct budget *, uint64_t limit);
extern int budget_take (struct budget *, enum budget_class, uint64_t bytes);    /* 0 or ENOMEM */
extern void budget_give (struct budget *, enum budget_class, uint64_t bytes);
extern uint64_t budget_free_bytes (struct budget *);
extern void budget_check (struct budget *);     /* aborts if the sums do not hold */

#endif /* PC_BUDGET_H */
