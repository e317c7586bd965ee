/* SPDX-License-Identifier: BSD-3-Clause
 *
 * wbstate - how far a change is on its way to the origin.
 *
 * Answers: which words do dirtyset (bytes) and zeroset (zeros, trims) share?
 *
 *      DIRTY ----> WRITING ----> UNSTABLE ----> CLEAN
 *        ^            |              |
 *        +------------+--------------+   error, connection lost, written again
 *
 * D1, D3, D16.  Who moves what when is the inode's business; the sets only keep it.
 */
#ifndef PC_WBSTATE_H
#define PC_WBSTATE_H

#include <stdbool.h>
#include <stdint.h>

enum wbstate {
  WB_DIRTY,                     /* newer than the origin, nothing under way */
  WB_WRITING,                   /* a write-back request carries these bytes */
  WB_UNSTABLE,                  /* the origin answered, but no flush covers it yet */
  WB_CLEAN,                     /* same as the origin; stored by zeroset only */
};

/* A set of states, for searches. */
#define WB_BIT(state) (1u << (state))
#define WB_NOT_CLEAN (WB_BIT (WB_DIRTY) | WB_BIT (WB_WRITING) | WB_BIT (WB_UNSTABLE))
#define WB_ANY (WB_NOT_CLEAN | WB_BIT (WB_CLEAN))

/* Generations are compared around the wrap of 32 bits; the largest number is none of them and says "any". */
#define WB_SEQ_ANY UINT32_MAX

static inline bool
wb_seq_is_upto (uint32_t seq, uint32_t max)
{
  return max == WB_SEQ_ANY || (int32_t) (seq - max) <= 0;
}

/* Connection ids are kept in this many bits, beside state and flags in one word. */
#define WB_CARRIER_BITS 27
#define WB_CARRIER_MAX ((1u << WB_CARRIER_BITS) - 1)

#endif /* PC_WBSTATE_H */
