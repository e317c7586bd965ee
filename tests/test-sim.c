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
nor_over_an_origin_with_blocks_of_4k (void **state)
{
  struct sim_options o = plain;

  (void) state;
  o.losses = o.errors = true;
  o.size = 1 << 20 | 256 << 10;
  o.block_min = 4096;
  run (o, 5);
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

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (no_order_of_events_gives_a_wrong_byte),
    cmocka_unit_test (nor_with_errors_of_the_origin),
    cmocka_unit_test (nor_with_lost_connections),
    cmocka_unit_test (nor_in_writethrough),
    cmocka_unit_test (nor_over_an_origin_with_blocks_of_4k),
    cmocka_unit_test (nor_over_an_origin_without_zero_trim_or_fua),
    cmocka_unit_test (nor_with_readahead),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
