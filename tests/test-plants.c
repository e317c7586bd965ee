/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-plants - does the simulation find what it is there to find?
 *
 * The inode is built once more with errors that can be switched on one at a time (enum plant in inode-priv.h).  Each
 * must end a run within SEEDS seeds, which takes seconds; without one, the same seeds pass.  The check of invariants is
 * off, so that what is found is found by its effect: a wrong byte, a promise broken, or what a strict origin
 * refuses.
 */
#include <config.h>

#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inode-priv.h"
#include "sim.h"

#define SEEDS 200

enum plant inode_plant;

static void
simulate (enum plant plant, uint64_t seed)
{
  struct sim_options o = {
    .seed = seed, .size = (1 << 20) + (100 << 10) + 700, .nframes = 40, .block_min = 1, .mode = INODE_WRITEBACK,
    .steps = 3000, .fua = true, .zero = true, .trim = true, .losses = seed & 1,
  };

  if (plant == PLANT_REPLACED_IS_FORGOTTEN) {
    /* It wants a flush that waits for nothing else, and a block that is read first. */
    o.few = true;
    o.block_min = 4096;
    o.size = 128 << 10;
  }
  if (plant == PLANT_DROP_OTHERS) {
    o.mode = INODE_WRITETHROUGH;
    o.errors = true;
    o.size = (100 << 10) + 700; /* so that writes meet */
  }
  inode_plant = plant;
  sim_run (&o);
}

/* The number of the first seed that ends its process; 0: all pass. */
static unsigned
first_found (enum plant plant, unsigned seeds)
{
  unsigned seed;

  for (seed = 1; seed <= seeds; seed++) {
    int status;
    pid_t pid;

    fflush (NULL);
    pid = fork ();
    assert_true (pid >= 0);
    if (pid == 0) {
      struct rlimit none = { 0, 0 };
      int null = open ("/dev/null", O_WRONLY);

      setrlimit (RLIMIT_CORE, &none);
      dup2 (null, STDERR_FILENO);
      signal (SIGABRT, SIG_DFL);
      alarm (60);
      simulate (plant, seed);
      _exit (0);
    }
    assert_int_equal (waitpid (pid, &status, 0), pid);
    if (status != 0) {
      /* Not a crash, nor a standstill: something looked and said no. */
      assert_true (WIFSIGNALED (status));
      assert_int_equal (WTERMSIG (status), SIGABRT);
      return seed;
    }
  }
  return 0;
}

static void
is_found (enum plant plant)
{
  unsigned seed = first_found (plant, SEEDS);

  if (seed == 0)
    fail_msg ("plant %d was not found by %d seeds", (int) plant, SEEDS);
  printf ("# plant %d: found by seed %u\n", (int) plant, seed);
}

TEST (without_a_plant_all_seeds_pass)
{
  assert_int_equal (first_found (PLANT_NONE, 20), 0);
}

TEST (a_fill_over_a_racing_write_is_found)
{
  is_found (PLANT_FILL_OVER_WRITE);
}

TEST (a_flush_that_ignores_unstable_bytes_is_found)
{
  is_found (PLANT_FLUSH_FORGETS_UNSTABLE);
}

TEST (eviction_of_a_page_that_travels_is_found)
{
  is_found (PLANT_EVICT_WRITING);
}

TEST (a_trim_that_overtakes_a_later_write_is_found)
{
  is_found (PLANT_TRIM_OVERTAKES);
}

TEST (an_older_attempt_after_newer_bytes_is_found)
{
  is_found (PLANT_OLD_AFTER_NEW);
}

TEST (a_hole_over_newer_data_is_found)
{
  is_found (PLANT_HOLE_OVER_WRITE);
}

TEST (a_byte_lost_at_the_edge_of_a_segment_is_found)
{
  is_found (PLANT_EDGE_LOST);
}

TEST (a_flush_that_forgets_what_is_replaced_is_found)
{
  is_found (PLANT_REPLACED_IS_FORGOTTEN);
}

TEST (a_failed_write_through_that_takes_another_ones_bytes_is_found)
{
  is_found (PLANT_DROP_OTHERS);
}

TEST (a_read_past_the_cache_where_it_is_newer_is_found)
{
  is_found (PLANT_BYPASS_OVER_DIRTY);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (without_a_plant_all_seeds_pass),
    cmocka_unit_test (a_fill_over_a_racing_write_is_found),
    cmocka_unit_test (a_flush_that_ignores_unstable_bytes_is_found),
    cmocka_unit_test (eviction_of_a_page_that_travels_is_found),
    cmocka_unit_test (a_trim_that_overtakes_a_later_write_is_found),
    cmocka_unit_test (an_older_attempt_after_newer_bytes_is_found),
    cmocka_unit_test (a_hole_over_newer_data_is_found),
    cmocka_unit_test (a_byte_lost_at_the_edge_of_a_segment_is_found),
    cmocka_unit_test (a_flush_that_forgets_what_is_replaced_is_found),
    cmocka_unit_test (a_failed_write_through_that_takes_another_ones_bytes_is_found),
    cmocka_unit_test (a_read_past_the_cache_where_it_is_newer_is_found),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
