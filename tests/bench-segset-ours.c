/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: how does bench-segset talk to segset.h?
 */
#include <config.h>

#include <assert.h>
#include <malloc.h>
#include <stdlib.h>

#include "bench-segset.h"
#include "segnodes.h"

#ifndef BENCH_NODE_BYTES
#define BENCH_NODE_BYTES SEGNODE_SIZE
#endif

#define SEGSET_NAME ours
#define SEGSET_VALUE uint32_t
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_NODE_BYTES BENCH_NODE_BYTES
#define SEGSET_MERGE(r1, v1, r2, v2, out) \
  (*(v1) == *(v2) && (*(out) = *(v1), true))
#include "segset.h"

struct segset_bench {
  struct segset set;
  struct segnodes nodes;
  size_t bytes;
};

/* What malloc takes for it, its own 8 bytes included. */
static void *
counted_alloc (void *arg, size_t size)
{
  struct segset_bench *b = arg;
  void *p = malloc (size);

  if (p)
    b->bytes += malloc_usable_size (p) + 8;
  return p;
}

static void
counted_free (void *arg, void *p, size_t size PC_UNUSED)
{
  struct segset_bench *b = arg;

  b->bytes -= malloc_usable_size (p) + 8;
  free (p);
}

struct segset_bench *
segset_bench_create (void)
{
  struct segset_bench *b = calloc (1, sizeof *b);

  assert (b);
  segnodes_init (&b->nodes, BENCH_NODE_BYTES, counted_alloc, counted_free, b);
  ours_init (&b->set, &b->nodes);
  return b;
}

void
segset_bench_free (struct segset_bench *b)
{
  ours_remove_all (&b->set);
  segnodes_release (&b->nodes);
  free (b);
}

size_t
segset_bench_bytes (struct segset_bench *b)
{
  return b->bytes;
}

void
segset_bench_insert (struct segset_bench *b, uint64_t start, uint32_t len, uint32_t val)
{
  int err = ours_reserve (&b->set, 1);

  assert (err == 0);
  ours_insert_range (&b->set, (struct range) { start, start + len }, val);
}

void
segset_bench_remove (struct segset_bench *b, uint64_t start, uint32_t len)
{
  int err = ours_reserve (&b->set, 1);

  assert (err == 0);
  ours_remove_range (&b->set, (struct range) { start, start + len });
}

struct bench_hit
segset_bench_find (struct segset_bench *b, uint64_t key)
{
  struct ours_iter it = ours_find_segment (&b->set, key);
  struct range r;

  if (!ours_iter_ok (it))
    return (struct bench_hit) { 0, 0, 0 };
  r = ours_range (it);
  return (struct bench_hit) { r.start, r.end - r.start, *ours_value (it) };
}

uint64_t
segset_bench_sum (struct segset_bench *b)
{
  uint64_t sum = 0;

  for (struct ours_iter it = ours_first (&b->set); ours_iter_ok (it); it = ours_next (it)) {
    struct range r = ours_range (it);

    sum += r.start ^ (r.end - r.start) ^ *ours_value (it);
  }
  return sum;
}

size_t
segset_bench_count (struct segset_bench *b)
{
  return b->set.nsegs;
}
