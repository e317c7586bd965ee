/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: do zeros, trims and holes replace each other, move on and count exactly?
 */
#include "test.h"

#include <string.h>

#include "rnd.h"
#include "zeroset.h"

#define R(start, end) ((struct range) { start, end })
#define TIB (UINT64_C (1) << 40)

static struct segnodes nodes;
static struct zeroset zs;

static const struct zero_value zero = { .seq = 1, .kind = ZERO_ZERO, .state = WB_DIRTY };
static const struct zero_value trim = { .seq = 2, .kind = ZERO_TRIM, .state = WB_DIRTY };
static const struct zero_value hole = { .kind = ZERO_HOLE, .state = WB_CLEAN };

/* ---- who counts ---- */

#define BYTES 400

struct byte {
  bool in;
  struct zero_value v;
};

static struct {
  struct byte byte[BYTES];      /* as the callback says */
  struct range r;
  uint64_t at;
  uint64_t sum;
} acct;

static bool
same (const struct zero_value *a, const struct zero_value *b)
{
  return a->seq == b->seq && a->stamp == b->stamp && a->carrier == b->carrier
         && a->state == b->state && a->kind == b->kind && a->may_trim == b->may_trim;
}

static void
on_acct (void *arg PC_UNUSED, struct range piece, const struct zero_value *old,
         const struct zero_value *now)
{
  assert_true (piece.start < piece.end && piece.start >= acct.at);
  assert_true (range_is_superset (acct.r, piece));
  assert_true (old || now);
  if (old && now)
    assert_false (same (old, now));
  acct.at = piece.end;
  if (now && !old)
    acct.sum += range_len (piece);
  if (old && !now)
    acct.sum -= range_len (piece);
  for (uint64_t k = piece.start; k < piece.end && k < BYTES; k++) {
    struct byte *b = &acct.byte[k];

    assert_true (b->in == (old != NULL));
    if (old)
      assert_true (same (&b->v, old));
    *b = (struct byte) { .in = now != NULL };
    if (now)
      b->v = *now;
  }
}

static int
set_up (void **state PC_UNUSED)
{
  segnodes_init (&nodes, SEGNODE_SIZE, NULL, NULL, NULL);
  zeroset_init (&zs, &nodes);
  memset (&acct, 0, sizeof acct);
  return 0;
}

/* Bytes of r in one of these states. */
static uint64_t
span (struct range r, unsigned states)
{
  struct zero_value v;
  struct range piece;
  uint64_t sum = 0;

  for (; zeroset_next_piece (&zs, r, &piece, &v); r.start = piece.end)
    if (states & WB_BIT (v.state))
      sum += range_len (piece);
  return sum;
}

static int
tear_down (void **state PC_UNUSED)
{
  zeroset_check (&zs);
  assert_int_equal (acct.sum, span (RANGE_ALL, WB_ANY));
  zeroset_release (&zs);
  segnodes_release (&nodes);
  return 0;
}

static void
begin (struct range r, uint32_t inserts)
{
  acct.r = r;
  acct.at = r.start;
  segnodes_trim (&nodes, 0);
  assert_int_equal (segnodes_reserve (&nodes, zeroset_need (&zs, inserts)), 0);
}

static void
put (uint64_t start, uint64_t end, struct zero_value v)
{
  begin (R (start, end), 2);
  zeroset_put (&zs, R (start, end), &v, on_acct, NULL);
}

static void
drop (uint64_t start, uint64_t end)
{
  begin (R (start, end), 1);
  zeroset_drop (&zs, R (start, end), on_acct, NULL);
}

static struct move {
  enum wbstate from, to;
  uint32_t stamp;
  bool gone;
  unsigned states;              /* what is asked for; 0: any */
} move;

static enum zeroset_verdict
do_move (void *arg PC_UNUSED, struct range piece, struct zero_value *v)
{
  assert_true (range_is_superset (acct.r, piece));
  assert_true (move.states & WB_BIT (v->state));
  if (v->kind == ZERO_HOLE || v->state != move.from)
    return ZEROSET_LEAVE;
  if (move.gone)
    return ZEROSET_DROP;
  v->state = move.to;
  v->stamp = move.stamp;
  return ZEROSET_SET;
}

static void
change (uint64_t start, uint64_t end, struct move m)
{
  move = m;
  if (m.states == 0)
    move.states = WB_ANY;
  begin (R (start, end), zeroset_change_inserts (&zs, R (start, end)));
  zeroset_change (&zs, R (start, end), move.states, do_move, on_acct, NULL);
}

static int
kind_at (uint64_t off)
{
  struct zero_value v;
  struct range seg;

  return zeroset_find (&zs, off, &seg, &v) ? (int) v.kind : -1;
}

TEST (terabytes_of_zeros_are_one_segment)
{
  put (0, 8 * TIB, zero);
  put (8 * TIB, 16 * TIB, zero);
  assert_int_equal (zeroset_count (&zs), 1);
  assert_int_equal (kind_at (16 * TIB - 1), ZERO_ZERO);
  drop (TIB, TIB + 4096);
  assert_int_equal (zeroset_count (&zs), 2);
  assert_int_equal (kind_at (TIB), -1);
  assert_int_equal (span (R (0, 16 * TIB), WB_ANY), 16 * TIB - 4096);
  put (0, UINT64_MAX, hole);
  assert_int_equal (zeroset_count (&zs), 1);
}

TEST (the_last_one_put_counts)
{
  put (0, 100, zero);
  put (50, 150, trim);
  put (70, 80, hole);
  assert_int_equal (kind_at (49), ZERO_ZERO);
  assert_int_equal (kind_at (50), ZERO_TRIM);
  assert_int_equal (kind_at (79), ZERO_HOLE);
  assert_int_equal (kind_at (149), ZERO_TRIM);
  assert_int_equal (kind_at (150), -1);
  put (0, 150, trim);
  assert_int_equal (zeroset_count (&zs), 1);
  assert_int_equal (acct.sum, 150);
}

TEST (what_is_put_again_unchanged_is_not_told)
{
  put (0, 100, zero);
  acct.r = R (0, 0);            /* any piece would be outside */
  assert_int_equal (segnodes_reserve (&nodes, zeroset_need (&zs, 2)), 0);
  zeroset_put (&zs, R (20, 30), &zero, on_acct, NULL);
  assert_int_equal (zeroset_count (&zs), 1);
}

TEST (zeros_go_through_the_states_and_holes_do_not)
{
  struct zero_value v;
  struct range seg;

  put (0, 100, zero);
  put (100, 200, hole);
  put (200, 300, trim);
  change (0, 300, (struct move) { WB_DIRTY, WB_WRITING, 7, false, 0 });
  assert_int_equal (span (R (50, 250), WB_BIT (WB_WRITING)), 100);
  assert_true (zeroset_next (&zs, R (50, 300), WB_BIT (WB_WRITING), 2, &seg, &v));
  assert_true (range_equal (seg, R (0, 100)));
  assert_true (zeroset_next (&zs, R (100, 201), WB_BIT (WB_WRITING), 2, &seg, &v));
  assert_true (range_equal (seg, R (200, 300)));
  assert_int_equal (v.stamp, 7);
  assert_false (zeroset_next (&zs, R (100, 200), WB_BIT (WB_WRITING), 2, &seg, &v));
  assert_false (zeroset_next (&zs, R (100, 300), WB_BIT (WB_WRITING), 1, &seg, &v));
  assert_false (zeroset_next (&zs, R (50, 50), WB_ANY, WB_SEQ_ANY, &seg, &v));
  assert_int_equal (zeroset_count_owed (&zs), 2);
  change (0, 300, (struct move) { WB_WRITING, WB_CLEAN, 0, false, 0 });
  assert_int_equal (span (R (0, 300), WB_NOT_CLEAN), 0);
  change (0, 250, (struct move) { WB_CLEAN, WB_CLEAN, 0, true, 0 });
  assert_int_equal (kind_at (0), -1);
  assert_int_equal (kind_at (100), ZERO_HOLE);
  assert_int_equal (kind_at (249), -1);
  assert_int_equal (kind_at (250), ZERO_TRIM);
}

TEST (pieces_are_cut_to_the_range_that_was_asked)
{
  struct zero_value v;
  struct range r;

  put (10, 20, zero);
  put (30, 40, trim);
  assert_true (zeroset_next_piece (&zs, R (15, 35), &r, &v));
  assert_true (range_equal (r, R (15, 20)));
  assert_true (zeroset_next_piece (&zs, R (20, 35), &r, &v));
  assert_true (range_equal (r, R (30, 35)));
  assert_int_equal (v.kind, ZERO_TRIM);
  assert_false (zeroset_next_piece (&zs, R (20, 30), &r, &v));
  assert_false (zeroset_next_piece (&zs, R (15, 15), &r, &v));
}

TEST (nothing_is_put_or_dropped_in_an_empty_range)
{
  put (5, 5, zero);
  drop (5, 5);
  drop (0, UINT64_MAX);
  assert_true (zeroset_is_empty (&zs));
}

/* ---- beside an array ---- */

static struct byte model[BYTES];

static void
model_step (void)
{
  int a = rnd_below (BYTES), b = a + rnd_below (rnd_below (4) ? 12 : BYTES);
  struct zero_value v = {
    .seq = rnd_below (2), .stamp = rnd_below (2), .kind = rnd_below (3),
    .state = rnd_below (3), .may_trim = rnd_below (2),
  };
  struct move m = { rnd_below (4), rnd_below (4), rnd_below (2), rnd_below (4) == 0, 0 };

  if (rnd_below (2))
    m.states = WB_BIT (m.from) | rnd_below (16);
  if (b > BYTES)
    b = BYTES;
  if (v.kind == ZERO_HOLE)
    v = hole;
  switch (rnd_below (4)) {
  case 0: case 1:
    put (a, b, v);
    for (int k = a; k < b; k++)
      model[k] = (struct byte) { true, v };
    break;
  case 2:
    drop (a, b);
    for (int k = a; k < b; k++)
      model[k] = (struct byte) { false };
    break;
  case 3:
    change (a, b, m);
    for (int k = a; k < b; k++) {
      if (!model[k].in || model[k].v.kind == ZERO_HOLE || model[k].v.state != m.from)
        continue;
      if (m.gone)
        model[k] = (struct byte) { false };
      else {
        model[k].v.state = m.to;
        model[k].v.stamp = m.stamp;
      }
    }
  }
}

/* What comes next from a byte on, in some states, up to some generation. */
static void
model_look (void)
{
  uint64_t a = rnd_below (BYTES), b = a + rnd_below ((uint32_t) (BYTES - a + 1)), k;
  unsigned states = rnd_below (16);
  uint32_t most = rnd_below (2);
  struct zero_value v;
  struct range seg;

  for (k = a; k < b && !(model[k].in && (states & WB_BIT (model[k].v.state)) && model[k].v.seq <= most); k++)
    ;
  if (zeroset_next (&zs, R (a, b), states, most, &seg, &v)) {
    assert_true (k < b && range_contains (seg, k));
    assert_true (same (&model[k].v, &v));
  }
  else
    assert_int_equal (k, b);
}

TEST (random_operations_match_an_array_and_are_counted_exactly)
{
  memset (model, 0, sizeof model);
  for (int i = 0; i < 20000; i++) {
    struct zero_value v;
    struct range piece;
    uint64_t at = 0;

    model_step ();
    model_look ();
    zeroset_check (&zs);
    while (zeroset_next_piece (&zs, R (at, BYTES), &piece, &v)) {
      for (; at < piece.start; at++)
        assert_false (model[at].in);
      for (; at < piece.end; at++)
        assert_true (model[at].in && same (&model[at].v, &v));
    }
    for (; at < BYTES; at++)
      assert_false (model[at].in);
    for (int k = 0; k < BYTES; k++) {
      assert_true (model[k].in == acct.byte[k].in);
      if (model[k].in)
        assert_true (same (&model[k].v, &acct.byte[k].v));
    }
  }
}

#define T(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    T (terabytes_of_zeros_are_one_segment),
    T (the_last_one_put_counts),
    T (what_is_put_again_unchanged_is_not_told),
    T (zeros_go_through_the_states_and_holes_do_not),
    T (pieces_are_cut_to_the_range_that_was_asked),
    T (nothing_is_put_or_dropped_in_an_empty_range),
    T (random_operations_match_an_array_and_are_counted_exactly),
  };

  rnd_begin ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
