/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdx-stamp - the bytes that a write of the model tester consists of.
 *
 * Answers: which bytes does operation op write at this offset, and who wrote
 * the bytes that I see here?
 *
 * Each aligned 8 byte word is a bijection of (tag, op), seasoned with its own
 * place and the run's key.  So a word that is found can be undone: if the tag
 * comes out it names the operation, and a word at a wrong place comes out as
 * that operation's only when undone for the place it was meant for.  Nothing
 * of what was written needs to be kept.
 *
 * Units    bytes from the start of the export; words are 8 bytes.
 * Cost     about one ns a word.
 */
#ifndef PC_NBDX_STAMP_H
#define PC_NBDX_STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define STAMP_OP_BITS 40
#define STAMP_TAG UINT64_C (0x5a3c96)   /* the other 24 bits */

/* The finalizer of MurmurHash3: two odd multipliers, three shifts, each of
 * which can be undone.
 */
static inline uint64_t
stamp_mix (uint64_t x)
{
  x ^= x >> 33;
  x *= UINT64_C (0xff51afd7ed558ccd);
  x ^= x >> 33;
  x *= UINT64_C (0xc4ceb9fe1a85ec53);
  return x ^ x >> 33;
}

static inline uint64_t
stamp_unmix (uint64_t x)
{
  x ^= x >> 33;
  x *= UINT64_C (0x9cb4b2f8129337db);
  x ^= x >> 33;
  x *= UINT64_C (0x4f74430c22a54005);
  return x ^ x >> 33;
}

static inline uint64_t
stamp_place (uint64_t key, uint64_t word)
{
  return key + word * UINT64_C (0x9e3779b97f4a7c15);
}

static inline uint64_t
stamp_word (uint64_t key, uint64_t op, uint64_t word)
{
  return stamp_mix ((STAMP_TAG << STAMP_OP_BITS | op)
                    ^ stamp_place (key, word));
}

/* Who wrote this word here?  False if nobody did. */
static inline bool
stamp_decode (uint64_t key, uint64_t value, uint64_t word, uint64_t *op)
{
  uint64_t x = stamp_unmix (value) ^ stamp_place (key, word);

  *op = x & ((UINT64_C (1) << STAMP_OP_BITS) - 1);
  return x >> STAMP_OP_BITS == STAMP_TAG;
}

static inline uint8_t
stamp_byte (uint64_t key, uint64_t op, uint64_t off)
{
  uint64_t v = stamp_word (key, op, off / 8);

  return ((const uint8_t *) &v)[off % 8];
}

static inline void
stamp_fill (uint64_t key, uint64_t op, uint64_t off, uint8_t *buf, size_t len)
{
  uint64_t v;

  for (; len > 0 && off % 8; --len)
    *buf++ = stamp_byte (key, op, off++);
  for (; len >= 8; len -= 8, off += 8, buf += 8) {
    v = stamp_word (key, op, off / 8);
    memcpy (buf, &v, 8);
  }
  for (; len > 0; --len)
    *buf++ = stamp_byte (key, op, off++);
}

static inline bool
stamp_equal (uint64_t key, uint64_t op, uint64_t off, const uint8_t *buf,
             size_t len)
{
  uint64_t v, w, diff = 0;
  size_t n;

  for (; len > 0 && off % 8; --len)
    if (*buf++ != stamp_byte (key, op, off++))
      return false;
  while (len >= 8) {
    /* No branch in the inner loop; a wrong candidate is seen within 64 bytes. */
    for (n = 0; n < 8 && len >= 8; ++n, len -= 8, off += 8, buf += 8) {
      v = stamp_word (key, op, off / 8);
      memcpy (&w, buf, 8);
      diff |= v ^ w;
    }
    if (diff)
      return false;
  }
  for (; len > 0; --len)
    if (*buf++ != stamp_byte (key, op, off++))
      return false;
  return true;
}

#endif
