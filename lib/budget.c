/* SPDX-License-Identifier: BSD-3-Clause
 *
 * budget - the atomics behind budget.h.
 *
 * Invariants, run by budget_check() while no call is under way:
 *   (1) used <= limit, at any moment
 *   (2) used == sum of by_class
 *   (3) peak >= used
 *
 * used is raised before by_class and lowered after it, so that a class never
 * claims bytes that used does not know.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "budget.h"

void
budget_init (struct budget *b, uint64_t limit)
{
  b->limit = limit;
  atomic_init (&b->used, 0);
  atomic_init (&b->peak, 0);
  for (unsigned i = 0; i < BUDGET_NR_CLASSES; i++)
    atomic_init (&b->by_class[i], 0);
}

int
budget_take (struct budget *b, enum budget_class class, uint64_t bytes)
{
  uint64_t used = atomic_load_explicit (&b->used, memory_order_relaxed);
  uint64_t peak;

  assert (class < BUDGET_NR_CLASSES);

  /* Compare and swap, not add and look: an add that is taken back would make others
   * fail meanwhile, and would show a sum above the limit.
   */
  do {
    if (bytes > b->limit - used)
      return ENOMEM;
  } while (!atomic_compare_exchange_weak_explicit (&b->used, &used, used + bytes,
                                                   memory_order_acq_rel,
                                                   memory_order_relaxed));
  atomic_fetch_add_explicit (&b->by_class[class], bytes, memory_order_acq_rel);

  used += bytes;
  peak = atomic_load_explicit (&b->peak, memory_order_relaxed);
  while (peak < used
         && !atomic_compare_exchange_weak_explicit (&b->peak, &peak, used,
                                                    memory_order_relaxed,
                                                    memory_order_relaxed))
    ;
  return 0;
}

void
budget_give (struct budget *b, enum budget_class class, uint64_t bytes)
{
  uint64_t old;

  assert (class < BUDGET_NR_CLASSES);
  old = atomic_fetch_sub_explicit (&b->by_class[class], bytes, memory_order_acq_rel);
  assert (old >= bytes);
  old = atomic_fetch_sub_explicit (&b->used, bytes, memory_order_acq_rel);
  assert (old >= bytes);
  (void) old;
}

uint64_t
budget_free_bytes (struct budget *b)
{
  return b->limit - atomic_load_explicit (&b->used, memory_order_acquire);
}

void
budget_check (struct budget *b)
{
  uint64_t used = atomic_load (&b->used);
  uint64_t peak = atomic_load (&b->peak);
  uint64_t sum = 0;

  for (unsigned i = 0; i < BUDGET_NR_CLASSES; i++)
    sum += atomic_load (&b->by_class[i]);

  if (used > b->limit || used != sum || peak < used || peak > b->limit) {
    fprintf (stderr, "pagecache: budget: limit %ju, used %ju, classes %ju, peak %ju\n",
             (uintmax_t) b->limit, (uintmax_t) used, (uintmax_t) sum, (uintmax_t) peak);
    abort ();
  }
}
