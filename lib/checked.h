/* SPDX-License-Identifier: BSD-3-Clause
 *
 * checked - arithmetic on numbers that someone else sent.
 *
 * Answers: is the sum, the product, the rounded number still one that fits?
 *
 * Units    whatever the caller counts; 64 bit, unsigned.
 * Threads  none: functions of their arguments.
 * Errors   0, or EOVERFLOW, and then *ret is as it was.
 * Cost     one instruction and a branch.
 *
 * Past the border where it is checked, a size is trusted and asserted.
 */
#ifndef PC_CHECKED_H
#define PC_CHECKED_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compiler.h"

static inline bool
checked_is_power_of_2 (uint64_t n)
{
  return n != 0 && (n & (n - 1)) == 0;
}

PC_NONNULL (3) PC_MUST_CHECK
static inline int
checked_add (uint64_t a, uint64_t b, uint64_t *ret)
{
  uint64_t sum;

  if (__builtin_add_overflow (a, b, &sum))
    return EOVERFLOW;
  *ret = sum;
  return 0;
}

PC_NONNULL (3) PC_MUST_CHECK
static inline int
checked_sub (uint64_t a, uint64_t b, uint64_t *ret)
{
  if (b > a)
    return EOVERFLOW;
  *ret = a - b;
  return 0;
}

PC_NONNULL (3) PC_MUST_CHECK
static inline int
checked_mul (uint64_t a, uint64_t b, uint64_t *ret)
{
  uint64_t product;

  if (__builtin_mul_overflow (a, b, &product))
    return EOVERFLOW;
  *ret = product;
  return 0;
}

/* The number of bytes of N things of SIZE each, for malloc. */
PC_NONNULL (3) PC_MUST_CHECK
static inline int
checked_mul_size (size_t n, size_t size, size_t *ret)
{
  size_t product;

  if (__builtin_mul_overflow (n, size, &product))
    return EOVERFLOW;
  *ret = product;
  return 0;
}

/* The largest multiple of UNIT, a power of 2, that is not above N. */
static inline uint64_t
checked_round_down (uint64_t n, uint64_t unit)
{
  assert (checked_is_power_of_2 (unit));
  return n & ~(unit - 1);
}

/* The smallest multiple of UNIT, a power of 2, that is not below N. */
PC_NONNULL (3) PC_MUST_CHECK
static inline int
checked_round_up (uint64_t n, uint64_t unit, uint64_t *ret)
{
  uint64_t sum;

  assert (checked_is_power_of_2 (unit));
  if (__builtin_add_overflow (n, unit - 1, &sum))
    return EOVERFLOW;
  *ret = sum & ~(unit - 1);
  return 0;
}

/* How many UNITs, of any size but 0, it takes to hold N; cannot overflow. */
static inline uint64_t
checked_div_round_up (uint64_t n, uint64_t unit)
{
  assert (unit != 0);
  return n / unit + (n % unit != 0);
}

static inline bool
checked_is_aligned (uint64_t n, uint64_t unit)
{
  assert (checked_is_power_of_2 (unit));
  return (n & (unit - 1)) == 0;
}

#endif /* PC_CHECKED_H */
