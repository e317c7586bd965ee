/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of lib/runset against an array of bools.
 */
#include "test.h"

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runset.h"

TEST (an_empty_set_gives_nothing)
{
  struct runset s;
  uint32_t start;

  assert_int_equal (runset_init (&s, 1), 0);
  assert_int_equal (runset_take (&s, 1, 1, &start), 0);
  assert_int_equal (runset_take (&s, 1, 0, &start), 0);
  runset_check (&s);
  runset_release (&s);
}

TEST (runs_of_any_length_up_to_a_group_are_found_whole)
{
  for (uint32_t at = 0; at < 64; at++)
    for (uint32_t len = 1; at + len <= 64; len++) {
      struct runset s;
      uint32_t start;

      assert_int_equal (runset_init (&s, 200), 0);
      runset_add (&s, 64 + at, len);
      runset_check (&s);
      assert_int_equal (runset_take (&s, len, len, &start), len);
      assert_int_equal (start, 64 + at);
      assert_int_equal (s.count, 0);
      runset_check (&s);
      runset_release (&s);
    }
}

TEST (one_more_than_the_longest_run_gives_the_longest_or_nothing)
{
  for (uint32_t len = 1; len < 64; len++) {
    struct runset s;
    uint32_t start;

    assert_int_equal (runset_init (&s, 64), 0);
    runset_add (&s, 0, len);
    assert_int_equal (runset_take (&s, len + 1, len + 1, &start), 0);
    assert_int_equal (s.count, len);
    assert_int_equal (runset_take (&s, len + 1, 1, &start), len);
    assert_int_equal (start, 0);
    runset_release (&s);
  }
}

TEST (full_neighbours_make_one_long_run)
{
  struct runset s;
  uint32_t start;

  assert_int_equal (runset_init (&s, 1000), 0);
  runset_add (&s, 60, 4 + 5 * 64 + 7);
  assert_int_equal (runset_take (&s, 256, 256, &start), 256);
  runset_check (&s);
  /* The rest: part of a group, whole, part, and not all in one piece any more. */
  assert_int_equal (s.count, 64 + 11);
  runset_release (&s);
}

/* A group that stands alone was first on the list for good, and nobody got two. */
TEST (a_full_group_that_stands_alone_does_not_hide_longer_runs)
{
  struct runset s;
  uint32_t start, alone;

  assert_int_equal (runset_init (&s, 64 * 64), 0);
  runset_add (&s, 0, 64 * 4);
  for (alone = 0; alone < 15; alone++)
    runset_add (&s, 64 * (6 + 2 * alone), 64);
  assert_int_equal (runset_take (&s, 128, 128, &start), 128);
  assert_true (start + 128 <= 64 * 4);
  assert_int_equal (runset_take (&s, 129, 65, &start), 128);
  assert_true (start + 128 <= 64 * 4);
  runset_check (&s);
  /* Only single ones are left: one of them, or none. */
  assert_int_equal (runset_take (&s, 128, 128, &start), 0);
  assert_int_equal (runset_take (&s, 128, 1, &start), 64);
  runset_check (&s);
  runset_release (&s);
}

TEST (a_short_run_is_followed_over_the_edge_of_its_group)
{
  for (uint32_t at = 57; at < 64; at++) {
    struct runset s;
    uint32_t start;

    assert_int_equal (runset_init (&s, 128), 0);
    runset_add (&s, at, 14);
    assert_int_equal (runset_take (&s, 20, 14, &start), 14);
    assert_int_equal (start, at);
    runset_check (&s);
    runset_release (&s);
  }
}

TEST (a_run_over_the_end_of_the_set_ends_there)
{
  struct runset s;
  uint32_t start;

  assert_int_equal (runset_init (&s, 130), 0);
  runset_add (&s, 0, 130);
  runset_check (&s);
  assert_int_equal (runset_take (&s, 1000, 1, &start), 130);
  assert_int_equal (start, 0);
  runset_check (&s);
  runset_release (&s);
}

TEST (small_takes_come_from_broken_groups_first)
{
  struct runset s;
  uint32_t start;

  assert_int_equal (runset_init (&s, 192), 0);
  runset_add (&s, 0, 64);
  runset_add (&s, 70, 1);
  runset_add (&s, 128, 64);
  assert_int_equal (runset_take (&s, 1, 1, &start), 1);
  assert_int_equal (start, 70);
  runset_release (&s);
}

TEST (sixteen_come_aligned_where_that_can_be)
{
  struct runset s;
  uint32_t start;

  assert_int_equal (runset_init (&s, 64), 0);
  runset_add (&s, 3, 40);
  assert_int_equal (runset_take (&s, 16, 16, &start), 16);
  assert_int_equal (start, 16);
  /* Now 3..16 and 32..43: not sixteen anywhere. */
  assert_int_equal (runset_take (&s, 16, 16, &start), 0);
  runset_release (&s);
}

static uint32_t
longest_of (const bool *model, uint32_t size)
{
  uint32_t longest = 0, run = 0;

  for (uint32_t i = 0; i < size; i++) {
    run = model[i] ? run + 1 : 0;
    if (run > longest)
      longest = run;
  }
  return longest;
}

#define SIZE 777

TEST (random_operations_agree_with_an_array)
{
  const char *env = getenv ("PC_SEED");
  unsigned seed = env ? strtoul (env, NULL, 0) : (unsigned) time (NULL);
  bool model[SIZE] = { false };
  struct runset s;

  print_message ("PC_SEED=%u\n", seed);
  assert_int_equal (runset_init (&s, SIZE), 0);
  for (unsigned round = 0; round < 30000; round++) {
    uint32_t start = rand_r (&seed) % SIZE;
    uint32_t len = 1 + rand_r (&seed) % (round % 7 == 0 ? 300 : 20);

    if (rand_r (&seed) % 2) {
      /* Add the part of [start, start + len) up to the first member. */
      uint32_t n = 0;

      while (n < len && start + n < SIZE && !model[start + n])
        model[start + n++] = true;
      if (n > 0)
        runset_add (&s, start, n);
    }
    else {
      uint32_t min = rand_r (&seed) % 2 ? 1 : len;
      uint32_t longest = longest_of (model, SIZE);
      uint32_t got = runset_take (&s, len, min, &start);

      assert_true (got <= len);
      assert_true (got == 0 || got >= min);
      /* Inside a group nothing may be missed: half of the longest is the worst that
       * a border between two groups can cost, and classes cost another half.
       */
      if (min == 1)
        assert_true (got >= (longest < len ? longest : len) / 4);
      if (min == 1 && longest > 0)
        assert_true (got > 0);
      for (uint32_t i = 0; i < got; i++) {
        assert_true (model[start + i]);
        model[start + i] = false;
      }
    }
    if (round % 64 == 0) {
      runset_check (&s);
      for (uint32_t i = 0; i < SIZE; i++)
        assert_int_equal (runset_has (&s, i), model[i]);
    }
  }
  runset_release (&s);
}

/*----------------------------------------------------------------------*/
/* runset_check ends the program; here it goes on. */

static sigjmp_buf after_abort;

static void
aborted (int sig)
{
  (void) sig;
  siglongjmp (after_abort, 1);
}

static bool
is_refused (const struct runset *s)
{
  struct sigaction ours = { .sa_handler = aborted }, theirs;
  volatile bool refused = false;

  assert_int_equal (sigaction (SIGABRT, &ours, &theirs), 0);
  if (sigsetjmp (after_abort, 1) == 0)
    runset_check (s);
  else
    refused = true;
  sigaction (SIGABRT, &theirs, NULL);
  return refused;
}

TEST (a_broken_set_is_recognised)
{
  struct runset s;
  uint32_t three;

  assert_int_equal (runset_init (&s, 130), 0);
  runset_add (&s, 4, 4);
  runset_add (&s, 68, 4);
  three = s.head[3];
  assert_false (is_refused (&s));

  s.count++;
  assert_true (is_refused (&s));
  s.count--;

  /* As many bits, but apart. */
  s.word[0] = 0x1111;
  assert_true (is_refused (&s));
  s.word[0] = 0xf0;

  s.word[2] = 4;                /* number 130 */
  s.count++;
  assert_true (is_refused (&s));
  s.word[2] = 0;
  s.count--;

  s.head[3] = UINT32_MAX;
  assert_true (is_refused (&s));
  s.head[3] = 99;
  assert_true (is_refused (&s));
  s.head[3] = three;
  s.link[three].prev = 0;
  assert_true (is_refused (&s));
  s.link[three].prev = UINT32_MAX;

  /* One group on two lists: more listed than there are. */
  s.head[4] = s.head[5] = three;
  assert_true (is_refused (&s));
  s.head[4] = s.head[5] = UINT32_MAX;
  assert_false (is_refused (&s));
  runset_release (&s);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (an_empty_set_gives_nothing),
    cmocka_unit_test (runs_of_any_length_up_to_a_group_are_found_whole),
    cmocka_unit_test (one_more_than_the_longest_run_gives_the_longest_or_nothing),
    cmocka_unit_test (full_neighbours_make_one_long_run),
    cmocka_unit_test (a_full_group_that_stands_alone_does_not_hide_longer_runs),
    cmocka_unit_test (a_short_run_is_followed_over_the_edge_of_its_group),
    cmocka_unit_test (a_run_over_the_end_of_the_set_ends_there),
    cmocka_unit_test (small_takes_come_from_broken_groups_first),
    cmocka_unit_test (sixteen_come_aligned_where_that_can_be),
    cmocka_unit_test (random_operations_agree_with_an_array),
    cmocka_unit_test (a_broken_set_is_recognised),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
