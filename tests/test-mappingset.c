/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: does mappingset keep MAP-1 to MAP-6?
 */
#include "test.h"

#include <stdlib.h>
#include <string.h>

#include "mappingset.h"
#include "rnd.h"

#define R(start, end) ((struct range) { start, end })

static struct segnodes nodes, cells;
static struct mappingset ms;
static int spaces[3];           /* their addresses are the spaces */

/* ---- what was told ---- */

static struct call {
  void *space;
  struct range r;
} calls[200];
static int ncalls;

static void
on_edge (void *arg PC_UNUSED, struct range offs)
{
  assert_true (offs.start < offs.end);
  assert_true (ncalls == 0 || calls[ncalls - 1].r.end < offs.start);
  calls[ncalls++].r = offs;
}

static void
on_invalidate (void *arg PC_UNUSED, void *space, struct range addrs, uint64_t off PC_UNUSED,
               bool writable PC_UNUSED)
{
  calls[ncalls].space = space;
  calls[ncalls++].r = addrs;
}

static int
set_up (void **state PC_UNUSED)
{
  segnodes_init (&nodes, SEGNODE_SIZE, NULL, NULL, NULL);
  segnodes_init (&cells, MAPPINGSET_CELL, NULL, NULL, NULL);
  mappingset_init (&ms, &nodes, &cells);
  return 0;
}

/* No cell may be lost: the lists refuse to be released otherwise. */
static int
tear_down (void **state PC_UNUSED)
{
  mappingset_release (&ms);
  segnodes_release (&nodes);
  segnodes_release (&cells);
  return 0;
}

static void
reserve (struct range offs)
{
  struct mappingset_wants wants;

  ncalls = 0;
  segnodes_trim (&nodes, 0);
  segnodes_trim (&cells, 0);
  wants = mappingset_wants (&ms, offs);
  assert_int_equal (segnodes_reserve (&nodes, wants.nodes), 0);
  assert_int_equal (segnodes_reserve (&cells, wants.cells), 0);
}

static void
add (int space, uint64_t start, uint64_t end, uint64_t off, bool writable)
{
  reserve (R (off, off + end - start));
  mappingset_add (&ms, &spaces[space], R (start, end), off, writable, on_edge, NULL);
  mappingset_check (&ms);
}

static void
del (int space, uint64_t start, uint64_t end, uint64_t off, bool writable)
{
  reserve (R (off, off + end - start));
  mappingset_remove (&ms, &spaces[space], R (start, end), off, writable, on_edge, NULL);
  mappingset_check (&ms);
}

static void
invalidate (uint64_t start, uint64_t end)
{
  ncalls = 0;
  mappingset_invalidate (&ms, R (start, end), on_invalidate, NULL);
}

#define assert_call(i, start_, end_)                                          \
  do {                                                                        \
    assert_true ((i) < ncalls);                                               \
    assert_int_equal (calls[i].r.start, start_);                              \
    assert_int_equal (calls[i].r.end, end_);                                  \
  } while (0)

/* ---- the seeds' cases ---- */

TEST (adding_and_removing_tell_what_became_mapped_and_unmapped)
{
  add (0, 0x10000, 0x12000, 0x1000, true);
  assert_int_equal (ncalls, 1);
  assert_call (0, 0x1000, 0x3000);
  add (0, 0x20000, 0x21000, 0x2000, true);
  assert_int_equal (ncalls, 0);
  add (0, 0x30000, 0x31000, 0x4000, true);
  assert_int_equal (ncalls, 1);
  assert_call (0, 0x4000, 0x5000);
  add (0, 0x12000, 0x15000, 0x3000, true);
  assert_int_equal (ncalls, 2);
  assert_call (0, 0x3000, 0x4000);
  assert_call (1, 0x5000, 0x6000);

  del (0, 0x10000, 0x11000, 0x1000, true);
  assert_int_equal (ncalls, 1);
  assert_call (0, 0x1000, 0x2000);
  del (0, 0x20000, 0x21000, 0x2000, true);
  assert_int_equal (ncalls, 0);
  del (0, 0x11000, 0x15000, 0x2000, true);
  assert_int_equal (ncalls, 2);
  assert_call (0, 0x2000, 0x4000);
  assert_call (1, 0x5000, 0x6000);
  del (0, 0x30000, 0x31000, 0x4000, true);
  assert_int_equal (ncalls, 1);
  assert_call (0, 0x4000, 0x5000);
  assert_true (mappingset_is_empty (&ms));
  assert_int_equal (cells.nused, 0);
}

TEST (invalidating_all_of_a_mapping_names_all_its_addresses)
{
  add (0, 0x10000, 0x11000, 0, true);
  invalidate (0, 0x1000);
  assert_int_equal (ncalls, 1);
  assert_call (0, 0x10000, 0x11000);
  assert_ptr_equal (calls[0].space, &spaces[0]);
}

TEST (invalidating_a_part_names_that_part)
{
  add (0, 0x10000, 0x13000, 0, true);
  invalidate (0x1000, 0x2000);
  assert_int_equal (ncalls, 1);
  assert_call (0, 0x11000, 0x12000);
  invalidate (0x1000, 0x1000);
  assert_int_equal (ncalls, 0);
}

TEST (invalidating_skips_what_is_not_mapped)
{
  add (0, 0x10000, 0x11000, 0, true);
  add (0, 0x20000, 0x21000, 0x2000, true);
  invalidate (0, 0x3000);
  assert_int_equal (ncalls, 2);
  assert_call (0, 0x10000, 0x11000);
  assert_call (1, 0x20000, 0x21000);
}

TEST (each_of_two_spaces_hears_its_own_addresses)
{
  int a;

  add (0, 0x10000, 0x12000, 0, true);
  add (1, 0x20000, 0x22000, 0x1000, true);
  invalidate (0x1000, 0x2000);
  assert_int_equal (ncalls, 2);
  a = calls[0].space == &spaces[0] ? 0 : 1;
  assert_call (a, 0x11000, 0x12000);
  assert_call (1 - a, 0x20000, 0x21000);
  assert_ptr_equal (calls[1 - a].space, &spaces[1]);
}

TEST (writable_is_part_of_what_a_mapping_is)
{
  add (0, 0x10000, 0x12000, 0x1000, true);
  assert_call (0, 0x1000, 0x3000);
  add (0, 0x20000, 0x22000, 0x2000, false);
  assert_int_equal (ncalls, 1);
  assert_call (0, 0x3000, 0x4000);

  del (0, 0x10000, 0x12000, 0x1000, false);
  assert_int_equal (ncalls, 0);
  del (0, 0x20000, 0x22000, 0x2000, true);
  assert_int_equal (ncalls, 0);
  assert_int_equal (cells.nused, 4);
  del (0, 0x10000, 0x12000, 0x1000, true);
  assert_int_equal (ncalls, 1);
  assert_call (0, 0x1000, 0x2000);
  del (0, 0x20000, 0x22000, 0x2000, false);
  assert_call (0, 0x2000, 0x4000);
}

TEST (a_mapping_added_twice_goes_when_removed_once)
{
  add (0, 0x10000, 0x12000, 0, true);
  add (0, 0x10000, 0x13000, 0, true);
  assert_call (0, 0x2000, 0x3000);
  assert_int_equal (ms.set.nsegs, 1);
  assert_int_equal (cells.nused, 1);
  del (0, 0x10000, 0x13000, 0, true);
  assert_call (0, 0, 0x3000);
}

TEST (neighbours_of_the_same_mapping_are_one_segment_again)
{
  add (0, 0x10000, 0x14000, 0, true);
  add (1, 0x51000, 0x52000, 0x1000, false);
  assert_int_equal (ms.set.nsegs, 3);
  del (1, 0x51000, 0x52000, 0x1000, false);
  assert_int_equal (ms.set.nsegs, 1);
  assert_int_equal (cells.nused, 1);
}

/* ---- beside an array ---- */

#define PAGES 64
#define KINDS 12                /* 3 spaces, 2 distances, writable or not */

TEST (random_mappings_match_an_array_of_sets)
{
  uint16_t model[PAGES + 1] = { 0 };    /* a bit a kind */

  for (int i = 0; i < 20000; i++) {
    int kind = rnd_below (KINDS), a = rnd_below (PAGES), b = a + 1 + rnd_below (9), n = 0;
    uint64_t base = kind / 6 % 2 ? 1000 : 5000, seen = 0;
    bool up = rnd_below (i / 300 % 2 ? 3 : 4) > 1, on = false;

    if (b > PAGES)
      b = PAGES;
    if (!up && model[a] == 0)
      continue;
    (up ? add : del) (kind % 3, base + a, base + b, a, kind / 3 % 2);
    for (int p = a; p < b; p++) {
      uint16_t old = model[p];
      bool edge;

      model[p] = up ? old | 1 << kind : old & ~(1 << kind);
      edge = old != model[p] && (up ? old == 0 : model[p] == 0);
      if (edge && !on)
        assert_int_equal (calls[n++].r.start, p);
      if (edge)
        assert_true (range_contains (calls[n - 1].r, p));
      else if (on)
        assert_int_equal (calls[n - 1].r.end, p);
      on = edge;
    }
    assert_int_equal (n, ncalls);

    for (int p = 0, used = 0; p <= PAGES; p++) {
      if (p < PAGES && model[p] && (p == 0 || model[p] != model[p - 1]))
        used++;
      if (p == PAGES)
        assert_int_equal (ms.set.nsegs, used);
    }
    a = rnd_below (PAGES);
    invalidate (a, a + 1);
    assert_int_equal (ncalls, __builtin_popcount (model[a]));
    for (int c = 0; c < ncalls; c++)
      seen += calls[c].r.start;
    for (kind = 0; kind < KINDS; kind++)
      if (model[a] >> kind & 1)
        seen -= (kind / 6 % 2 ? 1000 : 5000) + a;
    assert_int_equal (seen, 0);
  }
}

#define T(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    T (adding_and_removing_tell_what_became_mapped_and_unmapped),
    T (invalidating_all_of_a_mapping_names_all_its_addresses),
    T (invalidating_a_part_names_that_part),
    T (invalidating_skips_what_is_not_mapped),
    T (each_of_two_spaces_hears_its_own_addresses),
    T (writable_is_part_of_what_a_mapping_is),
    T (a_mapping_added_twice_goes_when_removed_once),
    T (neighbours_of_the_same_mapping_are_one_segment_again),
    T (random_mappings_match_an_array_of_sets),
  };

  rnd_begin ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
