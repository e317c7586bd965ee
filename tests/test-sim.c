/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-sim - seeds of the simulation, in each mode and over each kind of origin.
 *
 * PC_SEED=n runs that seed alone; PC_SOAK=1 runs a hundred thousand.  PC_SIM_TRACE=1 shows the steps.
 */
#include <config.h>

#include "test.h"

#include <stdlib.h>

#include "sim.h"

static void
run (struct sim_options o, unsigned seeds)
{
  const char *one = getenv ("PC_SEED");
  unsigned i;

  o.trace = getenv ("PC_SIM_TRACE") != NULL;
  o.report = getenv ("PC_SIM_REPORT") != NULL || one;
  if (getenv ("PC_SOAK"))
    seeds *= 1000;
  if (getenv ("PC_VALGRIND"))
    seeds = (seeds + 3) / 4;
  if (one) {
    o.seed = strtoull (one, NULL, 0);
    sim_run (&o);
    return;
  }
  for (i = 1; i <= seeds; i++) {
    o.seed = i;
    sim_run (&o);
  }
}

static const struct sim_options plain = {
  .size = (1 << 20) + (300 << 10) + 700, .nframes = 64, .block_min = 1, .mode = INODE_WRITEBACK, .steps = 4000,
  .check_every = 97, .fua = true, .zero = true, .trim = true,
};

static void
no_order_of_events_gives_a_wrong_byte (void **state)
{
  struct sim_options o = plain;

  (void) state;
  run (o, 12);
}

static void
nor_with_errors_of_the_origin (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.errors = true;
  run (o, 8);
}

static void
nor_with_lost_connections (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.losses = true;
  run (o, 12);
}

static void
nor_in_writethrough (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.mode = INODE_WRITETHROUGH;
  o.errors = true;
  o.losses = true;
  run (o, 6);
}

static void
over_blocks_of (uint32_t block_min, uint32_t nframes)
{
  struct sim_options o = plain;

  o.losses = o.errors = true;
  o.size = 1 << 20 | 256 << 10;
  o.block_min = block_min;
  o.nframes = nframes;
  run (o, 5);
}

static void
nor_over_an_origin_with_blocks_of_512 (void **state)
{
  (void) state;
  over_blocks_of (512, 64);
}

static void
nor_over_an_origin_with_blocks_of_4k (void **state)
{
  (void) state;
  over_blocks_of (4096, 64);
}

/* Seed 3 never ended once: pages of a block that are no neighbours were neither copied nor sent. */
static void
nor_over_an_origin_with_blocks_of_64k (void **state)
{
  (void) state;
  over_blocks_of (65536, 160);
}

/* Seeds 1 to 6 waited for each other once: a fill wanted frames for all of a MiB, or none. */
static void
nor_with_requests_larger_than_the_cache (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.mode = INODE_WRITETHROUGH;
  o.losses = o.errors = o.big_ops = true;
  o.size = 1 << 20 | 256 << 10;
  o.block_min = 16384;
  run (o, 6);
}

static void
nor_in_a_cache_of_24_pages (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.losses = o.cancels = true;
  o.nframes = 24;
  run (o, 6);
}

static void
nor_in_unsafe_mode_if_nothing_is_lost (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.mode = INODE_UNSAFE;
  o.drain = o.errors = true;
  run (o, 4);
}

static void
nor_while_the_origin_is_away (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.aways = o.losses = true;
  run (o, 6);
}

static void
nor_when_memory_is_refused (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.nomem = o.losses = true;
  run (o, 5);
}

static void
nor_in_a_budget_without_room_for_trees (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.spare = 40000;
  o.losses = true;
  run (o, 5);
}

/* And never a byte of the other. */
static void
nor_with_three_exports_in_one_tiny_cache (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.ndisks = 3;
  o.nframes = 32;
  o.size = 400000;
  o.losses = o.errors = true;
  run (o, 6);
}

static void
nor_over_an_origin_without_flush (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.no_flush = true;
  o.fua = false;
  o.losses = o.errors = true;
  run (o, 4);
}

static void
nor_over_an_origin_without_zero_trim_or_fua (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.fua = false;
  o.zero = false;
  o.trim = false;
  o.losses = true;
  run (o, 6);
}

static void
nor_with_readahead (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.readahead = 256 << 10;
  o.losses = true;
  o.nframes = 128;
  run (o, 6);
}

/* Loads and stores through mappings, among everything else. */
static void
nor_with_mappings (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.maps = true;
  run (o, 6);
  o.losses = o.errors = o.cancels = true;
  run (o, 6);
}

static void
nor_with_mappings_over_blocks_of_16k_in_a_tiny_cache (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.maps = o.losses = o.errors = true;
  o.size = 1 << 20 | 256 << 10;
  o.block_min = 16384;
  o.nframes = 40;
  run (o, 6);
}

static void
nor_with_mappings_when_memory_is_refused (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.maps = o.losses = o.nomem = true;
  run (o, 4);
}

static void
nor_with_mappings_in_writethrough (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.maps = o.losses = o.errors = true;
  o.mode = INODE_WRITETHROUGH;
  run (o, 6);
}

static void
nor_over_an_origin_that_shrinks_and_grows_back (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.resizes = true;
  run (o, 6);
  o.maps = o.losses = o.errors = true;
  run (o, 6);
  o.block_min = 16384;
  o.size = 1 << 20 | 256 << 10;
  run (o, 4);
}

/* What a flush waits for is replaced while nothing else keeps it waiting. */
static void
nor_where_few_operations_go_over_each_other (void **state)
{
  static const uint32_t blocks[] = { 1, 512, 4096, 16384 };
  struct sim_options o = plain;
  unsigned i;

  (void) state;
  o.few = true;
  o.size = 128 << 10;
  for (i = 0; i < PC_ARRAY_SIZE (blocks); i++) {
    o.block_min = blocks[i];
    o.maps = o.losses = o.errors = o.resizes = false;
    o.mode = INODE_WRITEBACK;
    run (o, 4);
    o.maps = o.losses = true;
    run (o, 4);
    o.errors = o.resizes = true;
    run (o, 4);
    o.mode = INODE_WRITETHROUGH;
    run (o, 4);
  }
}

/* The numbers of generations go from 2^32 - 9 over the wrap. */
static void
nor_where_generations_wrap (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.seq0 = UINT32_MAX - 8;
  run (o, 4);
  o.maps = o.losses = o.errors = true;
  run (o, 4);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (no_order_of_events_gives_a_wrong_byte),
    cmocka_unit_test (nor_with_errors_of_the_origin),
    cmocka_unit_test (nor_with_lost_connections),
    cmocka_unit_test (nor_in_writethrough),
    cmocka_unit_test (nor_over_an_origin_with_blocks_of_512),
    cmocka_unit_test (nor_over_an_origin_with_blocks_of_4k),
    cmocka_unit_test (nor_over_an_origin_with_blocks_of_64k),
    cmocka_unit_test (nor_with_requests_larger_than_the_cache),
    cmocka_unit_test (nor_in_a_cache_of_24_pages),
    cmocka_unit_test (nor_in_unsafe_mode_if_nothing_is_lost),
    cmocka_unit_test (nor_while_the_origin_is_away),
    cmocka_unit_test (nor_when_memory_is_refused),
    cmocka_unit_test (nor_in_a_budget_without_room_for_trees),
    cmocka_unit_test (nor_with_three_exports_in_one_tiny_cache),
    cmocka_unit_test (nor_over_an_origin_without_flush),
    cmocka_unit_test (nor_over_an_origin_without_zero_trim_or_fua),
    cmocka_unit_test (nor_with_readahead),
    cmocka_unit_test (nor_with_mappings),
    cmocka_unit_test (nor_with_mappings_over_blocks_of_16k_in_a_tiny_cache),
    cmocka_unit_test (nor_with_mappings_when_memory_is_refused),
    cmocka_unit_test (nor_with_mappings_in_writethrough),
    cmocka_unit_test (nor_over_an_origin_that_shrinks_and_grows_back),
    cmocka_unit_test (nor_where_few_operations_go_over_each_other),
    cmocka_unit_test (nor_where_generations_wrap),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
