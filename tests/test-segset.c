/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: does segset.h keep SEG-6 to SEG-33, for several kinds of set?
 *
 * The kinds: the smallest tree (degree 3, so few segments make many levels) with and
 * without gap tracking, 32-bit lengths, values that own memory, nodes as in production.
 */
#include "test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "range.h"
#include "rnd.h"
#include "segnodes.h"

#define R(start, end) ((struct range) { start, end })

/* ---- the kinds ---- */

#define EQUAL(r1, v1, r2, v2, out) (*(v1) == *(v2) && (*(out) = *(v1), true))

#define SEGSET_NAME small
#define SEGSET_VALUE uint32_t
#define SEGSET_DEGREE 3
#define SEGSET_MERGE EQUAL
#include "segset.h"

#define SEGSET_NAME gaps
#define SEGSET_VALUE uint32_t
#define SEGSET_DEGREE 3
#define SEGSET_GAPS 1
#define SEGSET_MERGE EQUAL
#include "segset.h"

#define SEGSET_NAME prod
#define SEGSET_VALUE uint32_t
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_NODE_BYTES 256
#define SEGSET_MERGE EQUAL
#include "segset.h"

/* Leaf and inner node differ, 64-bit values behind 32-bit lengths. */
#define SEGSET_NAME wide
#define SEGSET_VALUE uint64_t
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_NODE_BYTES 320
#define SEGSET_GAPS 1
#define SEGSET_MERGE EQUAL
#include "segset.h"

/* Never merges; the value says where the segment belongs. */
#define SEGSET_NAME fixed
#define SEGSET_VALUE uint64_t
#define SEGSET_DEGREE 3
#define SEGSET_GAPS 1
#include "segset.h"

/* The node size, lengths and values of rangeset. */
#define SEGSET_NAME large
#define SEGSET_VALUE uint32_t
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_MERGE EQUAL
#include "segset.h"

/* Each node knows which numbers are beneath, and somebody counts them, and how many are looked at. */
static uint32_t marked_tally[5];
static unsigned long marked_looks;

#define SEGSET_NAME marked
#define SEGSET_VALUE uint32_t
#define SEGSET_DEGREE 3
#define SEGSET_MARK(v) (marked_looks++, 1 << *(v))
#define SEGSET_TALLY(v, n) (marked_tally[*(v)] += (n))
#define SEGSET_MERGE EQUAL
#include "segset.h"

struct thing {
  uint32_t id;
};

static int model_live;

static struct thing *
thing_create (uint32_t id)
{
  struct thing *t = malloc (sizeof *t);

  assert_non_null (t);
  t->id = id;
  model_live++;
  return t;
}

static void
thing_free (struct thing *t)
{
  free (t);
  model_live--;
}

#define SEGSET_NAME owner
#define SEGSET_VALUE struct thing *
#define SEGSET_DEGREE 3
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_MERGE(r1, v1, r2, v2, out) \
  ((*(v1))->id == (*(v2))->id && (thing_free (*(v2)), *(out) = *(v1), true))
#define SEGSET_SPLIT(r, v, at, out1, out2)                                    \
  do {                                                                        \
    *(out1) = *(v);                                                           \
    *(out2) = thing_create ((*(v))->id);                                      \
  } while (0)
#define SEGSET_DEINIT(v) thing_free (*(v))
#include "segset.h"

/* ---- beside an array ---- */

#define MODEL_KEYS 600

#define PLAIN_ID(v) (*(v))
#define PLAIN_MAKE(id) (id)
#define PLAIN_FREE(v) ((void) (v))

#define MODEL small
#define MODEL_ID PLAIN_ID
#define MODEL_MAKE PLAIN_MAKE
#define MODEL_FREE PLAIN_FREE
#define MODEL_OWNS 0
#define MODEL_GAPS 0
#include "segset-model.h"

#define MODEL gaps
#define MODEL_ID PLAIN_ID
#define MODEL_MAKE PLAIN_MAKE
#define MODEL_FREE PLAIN_FREE
#define MODEL_OWNS 0
#define MODEL_GAPS 1
#include "segset-model.h"

#define MODEL marked
#define MODEL_ID PLAIN_ID
#define MODEL_MAKE PLAIN_MAKE
#define MODEL_FREE PLAIN_FREE
#define MODEL_OWNS 0
#define MODEL_GAPS 0
#define MODEL_TALLY marked_tally
#include "segset-model.h"

#define MODEL prod
#define MODEL_ID PLAIN_ID
#define MODEL_MAKE PLAIN_MAKE
#define MODEL_FREE PLAIN_FREE
#define MODEL_OWNS 0
#define MODEL_GAPS 0
#include "segset-model.h"

#define MODEL wide
#define MODEL_ID PLAIN_ID
#define MODEL_MAKE PLAIN_MAKE
#define MODEL_FREE PLAIN_FREE
#define MODEL_OWNS 0
#define MODEL_GAPS 1
#include "segset-model.h"

#define MODEL owner
#define MODEL_ID(v) ((*(v))->id)
#define MODEL_MAKE thing_create
#define MODEL_FREE(v) thing_free (*(v))
#define MODEL_OWNS 1
#define MODEL_GAPS 0
#include "segset-model.h"

TEST (random_operations_on_the_smallest_nodes_match_an_array)
{
  small_model (0, 10000);
}

TEST (random_operations_with_gap_tracking_match_an_array)
{
  gaps_model (12345, 10000);
}

TEST (random_operations_with_marks_match_an_array)
{
  memset (marked_tally, 0, sizeof marked_tally);
  marked_model (12345, 10000);
}

TEST (the_next_marked_segment_is_found_past_any_number_of_others)
{
  struct segnodes nodes;
  struct segset set;
  struct marked_iter it;
  unsigned i;

  segnodes_init (&nodes, marked_NODE_SIZE, NULL, NULL, NULL);
  marked_init (&set, &nodes);
  for (i = 0; i < 10000; i++) {
    assert_int_equal (marked_reserve (&set, 1), 0);
    assert_true (marked_try_insert (&set, R (2 * i, 2 * i + 1), i == 7000 ? 2 : 1));
  }
  marked_looks = 0;
  it = marked_next_marked (&set, 0, 1 << 2);
  assert_true (marked_iter_ok (it));
  assert_int_equal (marked_range (it).start, 14000);
  assert_false (marked_iter_ok (marked_next_marked (&set, 14001, 1 << 2)));
  assert_false (marked_iter_ok (marked_next_marked (&set, 0, 1 << 3)));
  /* Three looks, each at a leaf's worth of segments a level. */
  assert_true (marked_looks <= 3 * set.height * marked_LEAF_MAX);
  marked_remove_all (&set);
  segnodes_release (&nodes);
}

TEST (random_operations_at_the_end_of_all_keys_match_an_array)
{
  gaps_model (UINT64_MAX - MODEL_KEYS, 10000);
  wide_model (UINT64_MAX - MODEL_KEYS, 10000);
}

TEST (random_operations_with_short_lengths_match_an_array)
{
  prod_model (UINT64_C (1) << 40, 10000);
}

TEST (random_operations_on_values_that_own_memory_leak_nothing)
{
  owner_model (7, 10000);
}

/* ---- the seeds' cases ---- */

#define SIZE 2000
#define OFFSET 100000           /* value less start: values travel with their keys */

static struct segnodes nodes;
static struct segset set;

static void
begin (size_t node_size)
{
  segnodes_init (&nodes, node_size, NULL, NULL, NULL);
  set = (struct segset) { .nodes = &nodes };
}

static void
end (void)
{
  assert_int_equal (nodes.nused, 0);
  segnodes_release (&nodes);
}

/* 0 .. SIZE - 1 in random order. */
static const uint32_t *
shuffled (void)
{
  static uint32_t order[SIZE];

  for (uint32_t i = 0; i < SIZE; i++)
    order[i] = i;
  for (uint32_t i = SIZE; i > 1; i--) {
    uint32_t j = rnd_below (i), t = order[i - 1];

    order[i - 1] = order[j];
    order[j] = t;
  }
  return order;
}

static void
fixed_add (uint64_t start, uint64_t len)
{
  assert_int_equal (fixed_reserve (&set, 1), 0);
  assert_true (fixed_try_insert (&set, R (start, start + len), start + OFFSET));
}

/* fixed_check says that the tree is right, largest gaps included. */
static void
fixed_verify (uint32_t count)
{
  uint32_t n = 0;

  fixed_check (&set);
  for (struct fixed_iter it = fixed_first (&set); fixed_iter_ok (it); it = fixed_next (it)) {
    assert_true (*fixed_value (it) == fixed_range (it).start + OFFSET);
    n++;
  }
  assert_int_equal (n, count);
}

TEST (segments_added_and_removed_in_any_order_keep_their_values)
{
  const uint32_t *order = shuffled ();

  begin (fixed_NODE_SIZE);
  for (uint32_t i = 0; i < SIZE; i++) {
    fixed_add (order[i], 1);
    fixed_verify (i + 1);
  }
  assert_true (set.height >= 5);
  order = shuffled ();
  for (uint32_t i = 0; i < SIZE; i++) {
    fixed_remove (&set, fixed_find_segment (&set, order[i]));
    fixed_verify (SIZE - i - 1);
  }
  end ();
}

TEST (the_largest_gap_is_known_for_segments_of_any_length)
{
  const uint32_t *order = shuffled ();
  uint32_t left = SIZE;

  begin (fixed_NODE_SIZE);
  for (uint32_t i = 0; i < SIZE; i++) {
    fixed_add (order[i] * 10, 1 + rnd_below (9));
    if (i % 4 == 0)
      fixed_verify (i + 1);
  }
  order = shuffled ();
  for (uint32_t i = 0; i < SIZE / 2; i++) {
    fixed_remove (&set, fixed_find_segment (&set, order[i] * 10));
    fixed_verify (--left);
  }
  fixed_remove_all (&set);
  end ();
}

TEST (merging_in_any_order_ends_as_one_segment)
{
  const uint32_t *order = shuffled ();

  begin (gaps_NODE_SIZE);
  for (uint32_t i = 0; i < SIZE; i++) {
    assert_int_equal (gaps_reserve (&set, 1), 0);
    gaps_insert_range (&set, R (order[i] * 10, order[i] * 10 + 10), 1);
    gaps_check (&set);
  }
  assert_int_equal (set.nsegs, 1);
  assert_int_equal (set.height, 1);
  /* And in the other direction: half of it is punched out. */
  order = shuffled ();
  for (uint32_t i = 0; i < SIZE / 2; i++) {
    assert_int_equal (gaps_reserve (&set, 1), 0);
    gaps_remove_range (&set, R (order[i] * 10, order[i] * 10 + 10));
    gaps_check (&set);
  }
  assert_int_equal (gaps_span (&set), SIZE / 2 * 10);
  gaps_remove_all (&set);
  end ();
}

TEST (large_gaps_are_those_that_a_walk_finds)
{
  const uint32_t *order = shuffled ();
  struct fixed_gap walk, jump;
  uint32_t found = 0;

  begin (fixed_NODE_SIZE);
  for (uint32_t i = 0; i < SIZE; i++)
    fixed_add (order[i] * 2, 1);
  order = shuffled ();
  for (uint32_t i = 0; i < SIZE / 2; i++)
    fixed_remove (&set, fixed_find_segment (&set, order[i] * 2));

  jump = fixed_first_gap (&set);
  for (walk = fixed_gap_next_gap (jump); fixed_gap_ok (walk);
       walk = fixed_gap_next_gap (walk))
    if (range_len (fixed_gap_range (walk)) >= 7) {
      jump = fixed_next_large_enough_gap (jump, 7);
      assert_true (fixed_gap_equal (walk, jump));
      found++;
    }
  assert_true (found > 10);
  assert_false (fixed_gap_ok (fixed_next_large_enough_gap (jump, 7)));

  jump = fixed_last_gap (&set);
  for (walk = fixed_gap_prev_gap (jump); fixed_gap_ok (walk);
       walk = fixed_gap_prev_gap (walk))
    if (range_len (fixed_gap_range (walk)) >= 7) {
      jump = fixed_prev_large_enough_gap (jump, 7);
      assert_true (fixed_gap_equal (walk, jump));
    }
  assert_false (fixed_gap_ok (fixed_prev_large_enough_gap (jump, 7)));
  fixed_remove_all (&set);
  assert_false (fixed_gap_ok (fixed_next_large_enough_gap (fixed_first_gap (&set), 1)));
  end ();
}

TEST (the_next_nonempty_is_the_segment_that_touches_else_the_gap)
{
  struct fixed_place p;

  begin (fixed_NODE_SIZE);
  for (int step = 1; step <= 2; step++) {
    for (uint32_t i = 0; i < SIZE; i++)
      fixed_add (i * step, 1);
    for (uint32_t i = 0; i < SIZE; i++) {
      struct fixed_iter it = fixed_find_segment (&set, i * step);

      p = fixed_next_nonempty (it);
      assert_true (fixed_iter_ok (p.seg) == (step == 1 && i < SIZE - 1));
      assert_true (fixed_gap_ok (p.gap) != fixed_iter_ok (p.seg));
      if (fixed_iter_ok (p.seg))
        assert_true (fixed_range (p.seg).start == i + 1);
      p = fixed_prev_nonempty (it);
      assert_true (fixed_iter_ok (p.seg) == (step == 1 && i > 0));
      /* At key 0 there is neither. */
      assert_true (fixed_gap_ok (p.gap) == (!fixed_iter_ok (p.seg) && i > 0));
      if (fixed_iter_ok (p.seg))
        assert_true (fixed_range (p.seg).start == i - 1);
    }
    fixed_remove_all (&set);
  }
  end ();
}

/* What is in a set of small values: "start-end=value ..." */
static const char *
shown (void)
{
  static char text[400];
  size_t at = 0;

  small_check (&set);
  text[0] = 0;
  for (struct small_iter it = small_first (&set); small_iter_ok (it); it = small_next (it)) {
    struct range r = small_range (it);

    at += snprintf (text + at, sizeof text - at, "%s%d-%d=%d", at ? " " : "",
                    (int) r.start, (int) r.end, (int) *small_value (it));
  }
  return text;
}

static void
small_add (uint64_t start, uint64_t stop, uint32_t value)
{
  assert_int_equal (small_reserve (&set, 1), 0);
  assert_true (small_try_insert_unmerged (&set, R (start, stop), value));
}

TEST (insertion_merges_before_behind_and_between)
{
  begin (small_NODE_SIZE);
  assert_int_equal (small_reserve (&set, 10), 0);
  small_add (100, 200, 1);
  assert_true (small_try_insert (&set, R (200, 300), 1));
  assert_string_equal (shown (), "100-300=1");
  assert_true (small_try_insert (&set, R (0, 100), 1));
  assert_string_equal (shown (), "0-300=1");
  small_add (400, 500, 1);
  assert_true (small_try_insert (&set, R (300, 400), 1));
  assert_string_equal (shown (), "0-500=1");
  assert_true (small_try_insert (&set, R (500, 600), 2));
  assert_string_equal (shown (), "0-500=1 500-600=2");
  assert_false (small_try_insert (&set, R (599, 700), 2));
  assert_false (small_try_insert_unmerged (&set, R (0, 1), 2));
  assert_string_equal (shown (), "0-500=1 500-600=2");
  small_insert_range_unmerged (&set, R (600, 700), 2);
  assert_string_equal (shown (), "0-500=1 500-600=2 600-700=2");
  small_remove_all (&set);
  end ();
}

TEST (splitting_the_set_needs_a_point_inside_a_segment)
{
  begin (small_NODE_SIZE);
  small_add (100, 200, 1);
  assert_int_equal (small_reserve (&set, 1), 0);
  assert_false (small_split_at (&set, 300));
  assert_false (small_split_at (&set, 100));
  assert_false (small_split_at (&set, 200));
  assert_true (small_split_at (&set, 150));
  assert_string_equal (shown (), "100-150=1 150-200=1");
  small_remove_all (&set);
  end ();
}

TEST (isolating_clips_a_segment_at_both_ends)
{
  static const struct {
    uint64_t start, stop;
    const char *want;
  } cases[] = {
    { 100, 200, "100-200=1" },
    { 50, 200, "50-100=1 100-200=1" },
    { 100, 250, "100-200=1 200-250=1" },
    { 50, 250, "50-100=1 100-200=1 200-250=1" },
  };

  begin (small_NODE_SIZE);
  for (size_t i = 0; i < PC_ARRAY_SIZE (cases); i++) {
    struct small_iter it;

    small_add (cases[i].start, cases[i].stop, 1);
    assert_int_equal (small_isolate_inserts (&set, R (100, 200)), (i & 1) + (i >> 1));
    assert_int_equal (small_reserve (&set, 2), 0);
    it = small_isolate (&set, small_first (&set), R (100, 200));
    assert_true (range_equal (small_range (it), R (100, 200)));
    assert_string_equal (shown (), cases[i].want);
    small_remove_all (&set);
  }
  end ();
}

static bool
increment (void *arg, struct range r, uint32_t *value)
{
  int *calls = arg;

  assert_true (range_is_superset (R (100, 200), r));
  ++*value;
  return --*calls != 0;
}

TEST (mutating_cuts_at_the_ends_and_merges_what_became_equal)
{
  int calls = 9;

  begin (small_NODE_SIZE);
  assert_true (small_mutate_range (&set, R (100, 200), increment, &calls));
  assert_int_equal (calls, 9);
  small_add (50, 250, 1);
  assert_int_equal (small_reserve (&set, 2), 0);
  assert_true (small_mutate_range (&set, R (100, 200), increment, &calls));
  assert_string_equal (shown (), "50-100=1 100-200=2 200-250=1");
  small_remove_all (&set);
  small_add (0, 100, 1);
  small_add (100, 200, 0);
  small_add (200, 300, 1);
  assert_true (small_mutate_full_range (&set, R (100, 200), increment, &calls));
  assert_string_equal (shown (), "0-300=1");
  small_remove_all (&set);
  small_add (100, 110, 1);
  small_add (120, 130, 1);
  small_add (130, 140, 2);
  calls = 2;
  assert_false (small_mutate_range (&set, R (100, 200), increment, &calls));
  assert_string_equal (shown (), "100-110=2 120-140=2");
  small_remove_all (&set);
  end ();
}

/* ---- what the seeds' tests leave out ---- */

TEST (merging_inside_a_range_stays_inside_and_outside_outside)
{
  begin (small_NODE_SIZE);
  for (int i = 0; i < 60; i += 10)
    small_add (i, i + 10, 1);
  small_merge_range (&set, R (20, 40));
  assert_string_equal (shown (), "0-10=1 10-20=1 20-40=1 40-50=1 50-60=1");
  small_merge_adjacent (&set, R (20, 40));
  assert_string_equal (shown (), "0-10=1 10-50=1 50-60=1");
  /* The segment with the last key of the range counts, wherever it ends. */
  small_merge_adjacent (&set, R (15, 25));
  assert_string_equal (shown (), "0-60=1");
  assert_int_equal (small_reserve (&set, 1), 0);
  assert_true (small_split_at (&set, 50));
  small_merge_adjacent (&set, R (0, 0));
  small_merge_range (&set, R (60, 90));
  assert_string_equal (shown (), "0-50=1 50-60=1");
  *small_value (small_last (&set)) = 2;
  assert_false (small_iter_ok (small_merge (&set, small_first (&set), small_last (&set))));
  *small_value (small_last (&set)) = 1;
  assert_true (small_iter_ok (small_merge (&set, small_first (&set), small_last (&set))));
  assert_string_equal (shown (), "0-60=1");
  small_remove_all (&set);
  end ();
}

TEST (removing_over_several_segments_trims_the_outer_ones)
{
  struct small_gap g;

  begin (small_NODE_SIZE);
  small_add (0, 10, 1);
  small_add (20, 30, 2);
  small_add (30, 40, 3);
  small_add (50, 60, 4);
  assert_int_equal (small_remove_range_inserts (&set, R (5, 55)), 0);
  segnodes_trim (&nodes, 0);
  g = small_remove_range (&set, R (5, 55));
  assert_true (range_equal (small_gap_range (g), R (5, 55)));
  assert_string_equal (shown (), "0-5=1 55-60=4");
  assert_int_equal (small_remove_range_inserts (&set, R (1, 3)), 1);
  assert_int_equal (small_reserve (&set, 1), 0);
  g = small_remove_range (&set, R (1, 3));
  assert_true (range_equal (small_gap_range (g), R (1, 3)));
  assert_string_equal (shown (), "0-1=1 3-5=1 55-60=4");
  g = small_remove_range (&set, R (10, 20));
  assert_true (range_equal (small_gap_range (g), R (5, 55)));
  g = small_remove_full_range (&set, R (55, 60));
  assert_true (range_equal (small_gap_range (g), R (5, UINT64_MAX)));
  small_remove_all (&set);
  end ();
}

static void
sum_up (void *arg, struct range r, uint32_t *value)
{
  uint64_t *sum = arg;

  *sum += range_len (r) * *value;
}

static bool
count_two (void *arg, struct range r PC_UNUSED, uint32_t *value PC_UNUSED)
{
  return ++*(int *) arg < 2;
}

TEST (applying_stops_at_the_first_gap_and_visiting_does_not)
{
  struct small_gap g;
  uint64_t sum = 0;
  int n = 0;

  begin (small_NODE_SIZE);
  small_add (0, 10, 1);
  small_add (10, 20, 2);
  small_add (30, 40, 3);
  assert_int_equal (small_reserve (&set, 2), 0);
  g = small_apply_contiguous (&set, R (5, 35), sum_up, &sum);
  assert_int_equal (sum, 5 + 20);
  assert_true (range_equal (small_gap_range (g), R (20, 30)));
  assert_string_equal (shown (), "0-5=1 5-10=1 10-20=2 30-40=3");
  assert_int_equal (small_reserve (&set, 2), 0);
  assert_false (small_gap_ok (small_apply_contiguous (&set, R (6, 15), sum_up, &sum)));
  assert_false (small_gap_ok (small_apply_contiguous (&set, R (25, 25), sum_up, &sum)));
  g = small_apply_contiguous (&set, R (25, 35), sum_up, &sum);
  assert_true (range_equal (small_gap_range (g), R (20, 30)));
  assert_false (small_visit_range (&set, R (7, 35), count_two, &n));
  assert_int_equal (n, 2);
  n = -10;
  assert_true (small_visit_range (&set, R (7, 35), count_two, &n));
  assert_int_equal (n, -6);
  assert_true (small_visit_full_range (&set, R (7, 7), count_two, &n));
  assert_int_equal (n, -6);
  small_remove_all (&set);
  end ();
}

TEST (the_empty_set_has_one_gap_and_no_segment)
{
  struct small_place p;

  begin (small_NODE_SIZE);
  small_check (&set);
  assert_false (small_iter_ok (small_first (&set)));
  assert_false (small_iter_ok (small_last (&set)));
  assert_true (small_gap_equal (small_first_gap (&set), small_last_gap (&set)));
  assert_true (range_equal (small_gap_range (small_first_gap (&set)), RANGE_ALL));
  assert_false (small_gap_ok (small_gap_next_gap (small_first_gap (&set))));
  p = small_find (&set, 5);
  assert_true (small_gap_ok (p.gap) && !small_iter_ok (p.seg));
  assert_false (small_iter_ok (small_lower_bound (&set, 0)));
  assert_false (small_iter_ok (small_upper_bound (&set, UINT64_MAX)));
  assert_true (range_equal (small_gap_range (small_remove_range (&set, R (5, 9))),
                            RANGE_ALL));
  assert_int_equal (small_span (&set), 0);
  assert_true (small_is_empty_range (&set, RANGE_ALL));
  assert_true (small_covers (&set, R (5, 5)));
  assert_false (small_covers (&set, R (5, 6)));
  assert_true (small_is_empty_range (&set, R (5, 5)));
  end ();
}

TEST (the_last_key_is_one_below_the_largest_number)
{
  struct small_place p;

  begin (small_NODE_SIZE);
  small_add (0, 1, 1);
  small_add (UINT64_MAX - 1, UINT64_MAX, 2);
  p = small_find (&set, UINT64_MAX - 1);
  assert_true (small_iter_ok (p.seg));
  p = small_next_nonempty (p.seg);
  assert_false (small_iter_ok (p.seg) || small_gap_ok (p.gap));
  p = small_prev_nonempty (small_first (&set));
  assert_false (small_iter_ok (p.seg) || small_gap_ok (p.gap));
  p = small_find (&set, UINT64_MAX);
  assert_false (small_iter_ok (p.seg) || small_gap_ok (p.gap));
  assert_true (range_is_empty (small_gap_range (small_last_gap (&set))));
  assert_int_equal (small_span (&set), 2);
  assert_int_equal (small_reserve (&set, 1), 0);
  assert_true (small_try_insert (&set, R (1, UINT64_MAX - 1), 2));
  assert_int_equal (set.nsegs, 2);
  assert_true (small_span (&set) == UINT64_MAX);
  small_remove_range (&set, RANGE_ALL);
  end ();
}

TEST (a_length_that_would_not_fit_is_not_merged)
{
  uint64_t most = UINT32_MAX;

  begin (large_NODE_SIZE);
  assert_int_equal (large_reserve (&set, 4), 0);
  large_insert_range (&set, R (0, most - 1), 1);
  large_insert_range (&set, R (most - 1, most), 1);
  assert_int_equal (set.nsegs, 1);
  large_insert_range (&set, R (most, most + 1), 1);
  assert_int_equal (set.nsegs, 2);
  /* Between two: with the first only. */
  large_insert_range (&set, R (most + 3, 2 * most), 1);
  large_insert_range (&set, R (most + 1, most + 3), 1);
  assert_int_equal (set.nsegs, 2);
  assert_true (large_covers (&set, R (0, 2 * most)));
  large_check (&set);
  large_remove_all (&set);
  end ();
}

TEST (an_exported_set_can_be_imported)
{
  static struct fixed_entry entries[SIZE + 1];
  struct fixed_entry bad[] = { { R (5, 10), 0 }, { R (9, 12), 0 } };
  const uint32_t *order = shuffled ();

  begin (fixed_NODE_SIZE);
  for (uint32_t i = 0; i < SIZE; i++)
    fixed_add (order[i] * 3, 1 + order[i] % 3);
  assert_int_equal (fixed_export (&set, entries, 10), SIZE);
  assert_int_equal (fixed_export (&set, entries, SIZE + 1), SIZE);
  assert_int_equal (fixed_import (&set, entries, SIZE), EINVAL);
  fixed_verify (SIZE);
  fixed_remove_all (&set);
  segnodes_trim (&nodes, 0);
  for (uint32_t n = 0; n <= SIZE; n = n * 3 / 2 + 1) {
    assert_int_equal (fixed_import (&set, entries, n), 0);
    fixed_verify (n);
    fixed_remove_all (&set);
    segnodes_trim (&nodes, 0);
  }
  assert_int_equal (fixed_import (&set, bad, 2), EINVAL);
  bad[1].range = R (10, 10);
  assert_int_equal (fixed_import (&set, bad, 2), EINVAL);
  fixed_verify (0);
  bad[1] = (struct fixed_entry) { R (10, 11), 10 + OFFSET };
  bad[0].value = 5 + OFFSET;
  assert_int_equal (fixed_import (&set, bad, 2), 0);
  fixed_verify (2);
  fixed_remove_all (&set);
  end ();
}

static void *
no_alloc (void *arg PC_UNUSED, size_t size)
{
  int *left = arg;

  return (*left)-- > 0 ? malloc (size) : NULL;
}

static void
no_free (void *arg PC_UNUSED, void *p, size_t size PC_UNUSED)
{
  free (p);
}

TEST (without_memory_a_set_stays_as_it_is)
{
  struct fixed_entry two[] = { { R (5, 10), 5 + OFFSET }, { R (10, 12), 10 + OFFSET } };
  int left = 1000;

  segnodes_init (&nodes, fixed_NODE_SIZE, no_alloc, no_free, &left);
  set = (struct segset) { .nodes = &nodes };
  left = 0;
  assert_int_equal (fixed_import (&set, two, 2), ENOMEM);
  fixed_verify (0);
  left = 1000;
  for (uint32_t i = 0; i < 100; i++)
    fixed_add (i * 10, 5);
  segnodes_trim (&nodes, 0);
  for (int have = 0; have < (int) fixed_need (&set, 2); have++) {
    left = have;
    assert_int_equal (fixed_reserve (&set, 2), ENOMEM);
    assert_int_equal (nodes.nspare, 0);
    fixed_verify (100);
  }
  left = fixed_need (&set, 2);
  assert_int_equal (fixed_reserve (&set, 2), 0);
  /* Removing and changing in place need none. */
  segnodes_trim (&nodes, 0);
  for (uint32_t i = 0; i < 100; i += 2)
    fixed_remove_range (&set, R (i * 10, i * 10 + 5));
  fixed_verify (50);
  fixed_remove_all (&set);
  assert_int_equal (segnodes_missing (&nodes, 3), 0);
  end ();
}

TEST (loading_in_order_fills_nodes_from_both_ends)
{
  for (int down = 0; down < 2; down++) {
    begin (large_NODE_SIZE);
    for (uint32_t i = 0; i < 100000; i++) {
      uint64_t at = (down ? 100000 - i : i) * 10;

      assert_int_equal (large_reserve (&set, 1), 0);
      large_insert_range (&set, R (at, at + 5), 1);
    }
    large_check (&set);
    assert_true (nodes.nused * large_LEAF_MAX < 100000 * 105 / 100);
    large_remove_all (&set);
    end ();
  }
}

/* A node on an edge may hold one segment; what it gets must not come from nodes that then have
 * too few.
 */
TEST (changes_near_the_edges_leave_inner_nodes_half_full)
{
  for (int down = 0; down < 2; down++)
    for (int round = 0; round < 40; round++) {
      uint32_t n = 50 + rnd_below (100);

      begin (prod_NODE_SIZE);
      for (uint32_t i = 0; i < n; i++) {
        assert_int_equal (prod_reserve (&set, 1), 0);
        prod_insert_range_unmerged (&set, R ((down ? n - i : i) * 2, (down ? n - i : i) * 2 + 1),
                                    1);
      }
      prod_check (&set);
      while (set.nsegs > 0) {
        uint64_t at = rnd_below (40);   /* close to the edge that was loaded last */
        struct prod_iter it = down ? prod_first (&set) : prod_last (&set);

        for (; at > 0 && prod_iter_ok (it); at--)
          it = down ? prod_next (it) : prod_prev (it);
        if (!prod_iter_ok (it))
          continue;
        if (round % 2 && rnd_below (5) < 2) {
          at = prod_range (it).end;     /* odd: free, or was filled by this */
          assert_int_equal (prod_reserve (&set, 1), 0);
          prod_try_insert_unmerged (&set, R (at, at + 1), 1);
        }
        else
          prod_remove (&set, it);
        prod_check (&set);
      }
      end ();
    }
}

/* Loads in order until the last leaf to come has one segment, and returns that. */
static struct prod_iter
load_to_a_sparse_edge (bool down)
{
  struct prod_iter it = { NULL, 0 };

  begin (prod_NODE_SIZE);
  for (uint32_t i = 0; set.nsegs < 40 || it.node->n != 1; i++) {
    uint64_t at = (down ? 1000 - i : i) * 4;

    assert_int_equal (prod_reserve (&set, 1), 0);
    it = prod_insert_range_unmerged (&set, R (at, at + 1), 1);
  }
  return it;
}

TEST (a_full_node_gives_a_sparse_edge_no_more_than_it_can_spare)
{
  for (int down = 0; down < 2; down++) {
    struct prod_iter it = load_to_a_sparse_edge (down);

    /* Over the segment between the two leaves, then insert at the far end. */
    it = down ? prod_next (prod_next (it)) : prod_prev (prod_prev (it));
    for (int i = 0; i < 3; i++) {
      uint64_t at;

      it.idx = down ? it.node->n - 1 : 0;
      at = down ? prod_range (it).end : prod_range (it).start - 1;
      assert_int_equal (prod_reserve (&set, 1), 0);
      it = prod_insert_range_unmerged (&set, R (at, at + 1), 1);
      prod_check (&set);
    }
    prod_remove_all (&set);
    end ();
  }
}

TEST (an_emptied_edge_borrows_no_more_than_its_neighbour_can_spare)
{
  for (int down = 0; down < 2; down++) {
    struct prod_iter edge = load_to_a_sparse_edge (down), it;

    it = down ? prod_next (prod_next (edge)) : prod_prev (prod_prev (edge));
    it.idx = 0;
    while (it.node->n > prod_LEAF_MIN + 1)
      prod_remove (&set, it);
    prod_check (&set);
    prod_remove (&set, edge);
    prod_check (&set);
    prod_remove_all (&set);
    end ();
  }
}

/* Half-full leaves would have five eighths of that. */
TEST (random_insertion_fills_nodes_to_four_fifths)
{
  begin (large_NODE_SIZE);
  for (uint32_t i = 0; i < 100000; i++) {
    uint64_t at = (uint64_t) rnd () * 10;

    assert_int_equal (large_reserve (&set, 1), 0);
    large_try_insert (&set, R (at, at + 5), 1);
  }
  large_check (&set);
  assert_true (set.nsegs > nodes.nused * large_LEAF_MAX * 4 / 5 * 97 / 100);
  large_remove_all (&set);
  end ();
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (random_operations_on_the_smallest_nodes_match_an_array),
    cmocka_unit_test (random_operations_with_gap_tracking_match_an_array),
    cmocka_unit_test (random_operations_with_marks_match_an_array),
    cmocka_unit_test (the_next_marked_segment_is_found_past_any_number_of_others),
    cmocka_unit_test (random_operations_at_the_end_of_all_keys_match_an_array),
    cmocka_unit_test (random_operations_with_short_lengths_match_an_array),
    cmocka_unit_test (random_operations_on_values_that_own_memory_leak_nothing),
    cmocka_unit_test (segments_added_and_removed_in_any_order_keep_their_values),
    cmocka_unit_test (the_largest_gap_is_known_for_segments_of_any_length),
    cmocka_unit_test (merging_in_any_order_ends_as_one_segment),
    cmocka_unit_test (large_gaps_are_those_that_a_walk_finds),
    cmocka_unit_test (the_next_nonempty_is_the_segment_that_touches_else_the_gap),
    cmocka_unit_test (insertion_merges_before_behind_and_between),
    cmocka_unit_test (splitting_the_set_needs_a_point_inside_a_segment),
    cmocka_unit_test (isolating_clips_a_segment_at_both_ends),
    cmocka_unit_test (mutating_cuts_at_the_ends_and_merges_what_became_equal),
    cmocka_unit_test (merging_inside_a_range_stays_inside_and_outside_outside),
    cmocka_unit_test (removing_over_several_segments_trims_the_outer_ones),
    cmocka_unit_test (applying_stops_at_the_first_gap_and_visiting_does_not),
    cmocka_unit_test (the_empty_set_has_one_gap_and_no_segment),
    cmocka_unit_test (the_last_key_is_one_below_the_largest_number),
    cmocka_unit_test (a_length_that_would_not_fit_is_not_merged),
    cmocka_unit_test (an_exported_set_can_be_imported),
    cmocka_unit_test (without_memory_a_set_stays_as_it_is),
    cmocka_unit_test (loading_in_order_fills_nodes_from_both_ends),
    cmocka_unit_test (changes_near_the_edges_leave_inner_nodes_half_full),
    cmocka_unit_test (a_full_node_gives_a_sparse_edge_no_more_than_it_can_spare),
    cmocka_unit_test (an_emptied_edge_borrows_no_more_than_its_neighbour_can_spare),
    cmocka_unit_test (random_insertion_fills_nodes_to_four_fifths),
  };

  rnd_begin ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
