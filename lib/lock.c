/* SPDX-License-Identifier: BSD-3-Clause
 *
 * lock - the check behind the ranks of lock.h; empty without PC_DEBUG.
 */
#include <config.h>

#include <stdio.h>
#include <stdlib.h>

#include "lock.h"

typedef int lock_c_is_not_empty;

#ifdef PC_DEBUG

/* Bit r is set while this thread holds a lock of rank r. */
static _Thread_local unsigned held;

static void
die (const char *what, enum lock_rank rank)
{
  fprintf (stderr, "pagecache: lock order: %s rank %d while holding %#x\n",
           what, (int) rank, held);
  abort ();
}

void
lock_rank_take (enum lock_rank rank)
{
  if (held >> rank != 0)
    die ("taking", rank);
  held |= 1u << rank;
}

void
lock_rank_drop (enum lock_rank rank)
{
  if (!(held & 1u << rank))
    die ("dropping", rank);
  held &= ~(1u << rank);
}

bool
lock_rank_held (enum lock_rank rank)
{
  return held & 1u << rank;
}

void
lock_assert_none_held (void)
{
  if (held != 0)
    die ("leaving the core with", RANK_NONE);
}

void
lock_assert_rank_ (enum lock_rank rank)
{
  if (!(held & 1u << rank))
    die ("not holding", rank);
}

#endif
