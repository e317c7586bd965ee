/* SPDX-License-Identifier: BSD-3-Clause
 *
 * rnd - random numbers for model tests, repeatable.
 *
 * Answers: which numbers did the run take that failed?
 *
 * rnd_begin prints the seed; PC_SEED=n in the environment sets it.  Not thread safe.
 */
#ifndef PC_TESTS_RND_H
#define PC_TESTS_RND_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "compiler.h"

static uint64_t rnd_state;

static inline void
rnd_begin (void)
{
  const char *seed = getenv ("PC_SEED");

  rnd_state = seed ? strtoull (seed, NULL, 0) : UINT64_C (0x9e3779b97f4a7c15);
  printf ("PC_SEED=%" PRIu64 "\n", rnd_state);
  rnd_state += rnd_state == 0;  /* nothing comes of 0 */
}

PC_UNUSED static inline uint32_t
rnd (void)
{
  rnd_state ^= rnd_state << 13;
  rnd_state ^= rnd_state >> 7;
  rnd_state ^= rnd_state << 17;
  return rnd_state >> 32;
}

/* Of [0, n) */
PC_UNUSED static inline uint32_t
rnd_below (uint32_t n)
{
  return rnd () % n;
}

#endif /* PC_TESTS_RND_H */
