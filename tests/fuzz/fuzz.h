/* SPDX-License-Identifier: BSD-3-Clause
 *
 * fuzz - what a harness is: a function of some bytes that must not crash, and bytes to be taken one by one.
 *
 * Linked with libFuzzer ("make fuzz") somebody makes the bytes up; linked with play.c they come from the corpus.
 */
#ifndef PC_FUZZ_H
#define PC_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern int LLVMFuzzerTestOneInput (const uint8_t *, size_t);

struct tape {
  const uint8_t *at;
  size_t left;
};

/* 0 behind the end. */
static inline uint64_t
tape_take (struct tape *t, size_t bytes)
{
  uint64_t v = 0;

  while (bytes-- > 0 && t->left > 0) {
    v = v << 8 | *t->at++;
    t->left--;
  }
  return v;
}

#endif /* PC_FUZZ_H */
