/* SPDX-License-Identifier: BSD-3-Clause
 *
 * bench-segset - what a set of ranges must be able to do to be measured.
 *
 * Answers: which operations, with which meaning, does the bench ask of each set?
 *
 * Keys are 64 bit, lengths and values 32 bit: 16 bytes of payload.  Ranges that touch and
 * have equal values are one.
 */
#ifndef PC_BENCH_SEGSET_H
#define PC_BENCH_SEGSET_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct bench_hit {
  uint64_t start;
  uint32_t len, val;            /* len 0: nothing there */
};

/* segset.h, through functions that the harness cannot look into. */
struct segset_bench;
struct segset_bench *segset_bench_create (void);
void segset_bench_free (struct segset_bench *);
size_t segset_bench_bytes (struct segset_bench *);      /* as the heap counts them */
void segset_bench_insert (struct segset_bench *, uint64_t start, uint32_t len, uint32_t val);
void segset_bench_remove (struct segset_bench *, uint64_t start, uint32_t len);
struct bench_hit segset_bench_find (struct segset_bench *, uint64_t key);
uint64_t segset_bench_sum (struct segset_bench *);      /* walks over all */
size_t segset_bench_count (struct segset_bench *);

#ifdef __cplusplus
}
#endif

#endif /* PC_BENCH_SEGSET_H */
