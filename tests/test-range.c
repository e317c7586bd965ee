/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: do the functions of range.h keep SEG-1 to SEG-5?
 */
#include "test.h"

#include <errno.h>

#include "range.h"

#define R(start, end) ((struct range) { start, end })

static void
assert_range (struct range r, uint64_t start, uint64_t end)
{
  assert_true (r.start == start);
  assert_true (r.end == end);
}

TEST (a_range_ends_before_its_end)
{
  assert_true (range_len (R (10, 20)) == 10);
  assert_false (range_is_empty (R (10, 11)));
  assert_true (range_is_empty (R (10, 10)));
  assert_true (range_is_well_formed (R (10, 10)));
  assert_false (range_is_well_formed (R (11, 10)));
  assert_false (range_contains (R (10, 20), 9));
  assert_true (range_contains (R (10, 20), 10));
  assert_true (range_contains (R (10, 20), 19));
  assert_false (range_contains (R (10, 20), 20));
  assert_false (range_contains (R (10, 10), 10));
}

TEST (the_last_position_ends_ranges_and_is_in_none)
{
  struct range r = R (1, 2);

  assert_false (range_contains (RANGE_ALL, UINT64_MAX));
  assert_true (range_contains (RANGE_ALL, UINT64_MAX - 1));
  assert_int_equal (range_of_len (UINT64_MAX - 1, 1, &r), 0);
  assert_range (r, UINT64_MAX - 1, UINT64_MAX);
  r = R (1, 2);
  assert_int_equal (range_of_len (UINT64_MAX - 1, 2, &r), EOVERFLOW);
  assert_range (r, 1, 2);
}

TEST (touching_ranges_do_not_overlap)
{
  assert_true (range_overlaps (R (10, 20), R (19, 30)));
  assert_false (range_overlaps (R (10, 20), R (20, 30)));
  assert_true (range_overlaps (R (19, 30), R (10, 20)));
  assert_false (range_overlaps (R (20, 30), R (10, 20)));
  assert_true (range_overlaps (R (10, 20), R (12, 13)));
  assert_true (range_overlaps (R (12, 13), R (10, 20)));
}

TEST (a_superset_holds_all_of_it_even_of_an_empty_one)
{
  assert_true (range_is_superset (R (10, 20), R (10, 20)));
  assert_false (range_is_superset (R (10, 20), R (9, 20)));
  assert_false (range_is_superset (R (10, 20), R (10, 21)));
  assert_true (range_is_superset (R (10, 20), R (20, 20)));
  assert_false (range_is_superset (R (10, 20), R (21, 21)));
}

TEST (disjoint_ranges_share_nothing)
{
  assert_range (range_intersect (R (10, 20), R (15, 30)), 15, 20);
  assert_range (range_intersect (R (15, 30), R (10, 20)), 15, 20);
  assert_range (range_intersect (R (10, 20), R (12, 13)), 12, 13);
  assert_true (range_is_empty (range_intersect (R (10, 20), R (20, 30))));
  assert_true (range_is_empty (range_intersect (R (10, 20), R (25, 30))));
  assert_true (range_is_empty (range_intersect (R (25, 30), R (10, 20))));
}

TEST (a_range_splits_only_inside)
{
  assert_false (range_can_split (R (10, 20), 9));
  assert_false (range_can_split (R (10, 20), 10));
  assert_true (range_can_split (R (10, 20), 11));
  assert_true (range_can_split (R (10, 20), 19));
  assert_false (range_can_split (R (10, 20), 20));
  assert_false (range_can_split (R (10, 20), 21));
}

TEST (growing_takes_in_both_edges)
{
  struct range r = R (1, 2);

  assert_int_equal (range_grow_to_unit (R (4095, 4097), 4096, &r), 0);
  assert_range (r, 0, 8192);
  assert_int_equal (range_grow_to_unit (R (4096, 8192), 4096, &r), 0);
  assert_range (r, 4096, 8192);
  assert_int_equal (range_grow_to_unit (R (0, UINT64_MAX), 4096, &r),
                    EOVERFLOW);
  assert_range (r, 4096, 8192);
}

TEST (shrinking_leaves_whole_units)
{
  assert_range (range_shrink_to_unit (R (1, 12287), 4096), 4096, 8192);
  assert_range (range_shrink_to_unit (R (4096, 8192), 4096), 4096, 8192);
  assert_true (range_is_empty (range_shrink_to_unit (R (1, 8191), 4096)));
  assert_true (range_is_empty (range_shrink_to_unit (R (4097, 4098), 4096)));
  assert_true (range_is_empty (
    range_shrink_to_unit (R (UINT64_MAX - 1, UINT64_MAX), 4096)));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (a_range_ends_before_its_end),
    cmocka_unit_test (the_last_position_ends_ranges_and_is_in_none),
    cmocka_unit_test (touching_ranges_do_not_overlap),
    cmocka_unit_test (a_superset_holds_all_of_it_even_of_an_empty_one),
    cmocka_unit_test (disjoint_ranges_share_nothing),
    cmocka_unit_test (a_range_splits_only_inside),
    cmocka_unit_test (growing_takes_in_both_edges),
    cmocka_unit_test (shrinking_leaves_whole_units),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
