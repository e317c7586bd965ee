/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: does checked.h refuse exactly what does not fit?
 */
#include "test.h"

#include <errno.h>

#include "checked.h"

TEST (add_refuses_one_more_than_fits)
{
  uint64_t n = 7;

  assert_int_equal (checked_add (UINT64_MAX - 5, 4, &n), 0);
  assert_true (n == UINT64_MAX - 1);
  assert_int_equal (checked_add (UINT64_MAX - 5, 5, &n), 0);
  assert_true (n == UINT64_MAX);
  n = 7;
  assert_int_equal (checked_add (UINT64_MAX - 5, 6, &n), EOVERFLOW);
  assert_true (n == 7);
}

TEST (sub_refuses_to_go_below_zero)
{
  uint64_t n = 7;

  assert_int_equal (checked_sub (5, 5, &n), 0);
  assert_true (n == 0);
  n = 7;
  assert_int_equal (checked_sub (5, 6, &n), EOVERFLOW);
  assert_true (n == 7);
}

TEST (mul_refuses_one_more_than_fits)
{
  uint64_t n = 7;
  size_t size = 7;

  assert_int_equal (checked_mul (UINT64_C (1) << 32, (UINT64_C (1) << 32) - 1,
                                 &n), 0);
  assert_true (n == UINT64_MAX - UINT32_MAX);
  n = 7;
  assert_int_equal (checked_mul (UINT64_C (1) << 32, UINT64_C (1) << 32, &n),
                    EOVERFLOW);
  assert_true (n == 7);
  assert_int_equal (checked_mul_size (SIZE_MAX, 1, &size), 0);
  assert_true (size == SIZE_MAX);
  size = 7;
  assert_int_equal (checked_mul_size (SIZE_MAX / 2 + 1, 2, &size), EOVERFLOW);
  assert_true (size == 7);
}

TEST (rounding_keeps_multiples_and_moves_the_rest)
{
  uint64_t n;

  assert_true (checked_round_down (4095, 4096) == 0);
  assert_true (checked_round_down (4096, 4096) == 4096);
  assert_true (checked_round_down (UINT64_MAX, 4096) == UINT64_MAX - 4095);
  assert_int_equal (checked_round_up (0, 4096, &n), 0);
  assert_true (n == 0);
  assert_int_equal (checked_round_up (4096, 4096, &n), 0);
  assert_true (n == 4096);
  assert_int_equal (checked_round_up (4097, 4096, &n), 0);
  assert_true (n == 8192);
  assert_int_equal (checked_round_up (17, 1, &n), 0);
  assert_true (n == 17);
}

TEST (rounding_up_refuses_what_has_no_multiple_above)
{
  uint64_t n = 7;

  assert_int_equal (checked_round_up (UINT64_MAX - 4095, 4096, &n), 0);
  assert_true (n == UINT64_MAX - 4095);
  n = 7;
  assert_int_equal (checked_round_up (UINT64_MAX - 4094, 4096, &n), EOVERFLOW);
  assert_true (n == 7);
  assert_int_equal (checked_round_up (UINT64_MAX, 1, &n), 0);
  assert_true (n == UINT64_MAX);
}

TEST (dividing_up_counts_the_last_part)
{
  assert_true (checked_div_round_up (0, 3) == 0);
  assert_true (checked_div_round_up (2, 3) == 1);
  assert_true (checked_div_round_up (3, 3) == 1);
  assert_true (checked_div_round_up (4, 3) == 2);
  assert_true (checked_div_round_up (UINT64_MAX, 1) == UINT64_MAX);
}

TEST (alignment_and_powers_are_told)
{
  assert_true (checked_is_aligned (0, 512));
  assert_true (checked_is_aligned (1024, 512));
  assert_false (checked_is_aligned (1023, 512));
  assert_false (checked_is_power_of_2 (0));
  assert_true (checked_is_power_of_2 (1));
  assert_false (checked_is_power_of_2 (6));
  assert_true (checked_is_power_of_2 (UINT64_C (1) << 63));
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (add_refuses_one_more_than_fits),
    cmocka_unit_test (sub_refuses_to_go_below_zero),
    cmocka_unit_test (mul_refuses_one_more_than_fits),
    cmocka_unit_test (rounding_keeps_multiples_and_moves_the_rest),
    cmocka_unit_test (rounding_up_refuses_what_has_no_multiple_above),
    cmocka_unit_test (dividing_up_counts_the_last_part),
    cmocka_unit_test (alignment_and_powers_are_told),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
