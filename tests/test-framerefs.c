/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: does framerefs keep FRF-1 to FRF-5?
 */
#include "test.h"

#include <string.h>

#include "framerefs.h"
#include "rnd.h"

#define R(start, end) ((struct range) { start, end })
#define FRAMES 300

static struct segnodes nodes;
static struct framerefs fr;

static struct {
  int n[FRAMES];                /* how often told */
  uint64_t at;
  uint64_t sum;
} told;

static void
on_edge (void *arg PC_UNUSED, struct range r)
{
  assert_true (r.start < r.end && r.start >= told.at);
  told.at = r.end;
  told.sum += range_len (r);
  for (uint64_t f = r.start; f < r.end && f < FRAMES; f++)
    told.n[f]++;
}

static int
set_up (void **state PC_UNUSED)
{
  segnodes_init (&nodes, SEGNODE_SIZE, NULL, NULL, NULL);
  framerefs_init (&fr, &nodes);
  return 0;
}

static int
tear_down (void **state PC_UNUSED)
{
  framerefs_release (&fr);
  segnodes_release (&nodes);
  return 0;
}

static void
reserve (uint32_t inserts)
{
  memset (&told, 0, sizeof told);
  segnodes_trim (&nodes, 0);
  assert_int_equal (segnodes_reserve (&nodes, framerefs_need (&fr, inserts)), 0);
}

static void
get (uint64_t start, uint64_t end)
{
  reserve (framerefs_get_inserts (&fr, R (start, end)));
  framerefs_get (&fr, R (start, end), on_edge, NULL);
  framerefs_check (&fr);
}

static void
put (uint64_t start, uint64_t end)
{
  reserve (framerefs_put_inserts (&fr, R (start, end)));
  framerefs_put (&fr, R (start, end), on_edge, NULL);
  framerefs_check (&fr);
}

TEST (what_nobody_has_counts_zero)
{
  assert_int_equal (framerefs_count (&fr, 0), 0);
  get (10, 20);
  assert_int_equal (told.sum, 10);
  assert_int_equal (framerefs_count (&fr, 9), 0);
  assert_int_equal (framerefs_count (&fr, 10), 1);
  assert_int_equal (framerefs_count (&fr, 19), 1);
  assert_int_equal (framerefs_count (&fr, 20), 0);
}

/* The one that a merging insert gets wrong. */
TEST (a_gap_before_a_used_range_does_not_swallow_its_count)
{
  get (10, 20);
  get (0, 20);
  assert_int_equal (told.sum, 10);
  assert_int_equal (framerefs_count (&fr, 0), 1);
  assert_int_equal (framerefs_count (&fr, 10), 2);
  put (10, 20);
  assert_int_equal (told.sum, 0);
  assert_int_equal (fr.set.nsegs, 1);
  put (0, 20);
  assert_int_equal (told.sum, 20);
  assert_int_equal (fr.set.nsegs, 0);
}

TEST (only_the_first_and_the_last_user_are_told)
{
  get (0, 10);
  get (5, 15);
  assert_int_equal (told.sum, 5);
  assert_int_equal (framerefs_used (&fr, R (0, 100)), 15);
  put (0, 10);
  assert_int_equal (told.sum, 5);
  assert_int_equal (told.n[0], 1);
  assert_int_equal (told.n[5], 0);
  put (5, 15);
  assert_int_equal (told.sum, 10);
}

TEST (the_last_frame_numbers_can_be_counted)
{
  get (UINT32_MAX - 1, UINT32_MAX);
  assert_int_equal (framerefs_count (&fr, UINT32_MAX - 1), 1);
  assert_int_equal (framerefs_count (&fr, UINT32_MAX), 0);
  reserve (1);
  framerefs_put (&fr, R (UINT32_MAX - 1, UINT32_MAX), NULL, NULL);
  assert_int_equal (framerefs_used (&fr, RANGE_ALL), 0);
}

TEST (random_uses_match_an_array_of_counts)
{
  uint32_t count[FRAMES + 1] = { 0 };

  for (int i = 0; i < 20000; i++) {
    int a = rnd_below (FRAMES), b = a + 1 + rnd_below (20), max = i / 500 % 2 ? 2 : 40;
    bool up = rnd_below (max == 2 ? 3 : 2);

    if (b > FRAMES)
      b = FRAMES;
    if (!up)
      for (int f = a; f < b; f++)
        if (count[f] == 0) {
          b = f;
          break;
        }
    if (up)
      get (a, b);
    else
      put (a, b);
    for (int f = a; f < b; f++) {
      count[f] += up ? 1 : -1;
      assert_int_equal (told.n[f], count[f] == up);
    }
    for (int f = 0; f < FRAMES; f++)
      assert_int_equal (framerefs_count (&fr, f), count[f]);
    assert_true (told.sum <= (uint64_t) (b - a));
  }
}

#define T(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    T (what_nobody_has_counts_zero),
    T (a_gap_before_a_used_range_does_not_swallow_its_count),
    T (only_the_first_and_the_last_user_are_told),
    T (the_last_frame_numbers_can_be_counted),
    T (random_uses_match_an_array_of_counts),
  };

  rnd_begin ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
