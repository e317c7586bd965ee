/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: does dirtyset keep DRT-1 to DRT-7, move states where told, and count exactly?
 */
#include "test.h"

#include <string.h>

#include "dirtyset.h"
#include "rnd.h"

#define R(start, end) ((struct range) { start, end })
#define P UINT64_C (4096)

static struct segnodes nodes;
static struct dirtyset ds;

/* ---- who counts: an array that only the callback changes ---- */

#define BYTES 400

struct byte {
  bool dirty;
  struct dirty_value v;
};

static struct {
  struct byte byte[BYTES];      /* as the callback says */
  struct range r;               /* of the call */
  uint64_t at;                  /* pieces come after it */
  int64_t sum;                  /* dirty bytes */
} acct;

static bool
same (const struct dirty_value *a, const struct dirty_value *b)
{
  return a->seq == b->seq && a->stamp == b->stamp && a->carrier == b->carrier
         && a->state == b->state && a->keep == b->keep && a->wt == b->wt;
}

static void
on_acct (void *arg PC_UNUSED, struct range piece, const struct dirty_value *old,
         const struct dirty_value *now)
{
  assert_true (piece.start < piece.end && piece.start >= acct.at);
  assert_true (range_is_superset (acct.r, piece));
  assert_true (old || now);
  if (old && now)
    assert_false (same (old, now));
  acct.at = piece.end;
  acct.sum += ((now != NULL) - (old != NULL)) * (int64_t) range_len (piece);
  for (uint64_t k = piece.start; k < piece.end && k < BYTES; k++) {
    struct byte *b = &acct.byte[k];

    assert_true (b->dirty == (old != NULL));
    if (old)
      assert_true (same (&b->v, old));
    *b = (struct byte) { .dirty = now != NULL };
    if (now)
      b->v = *now;
  }
}

static int
set_up (void **state PC_UNUSED)
{
  segnodes_init (&nodes, SEGNODE_SIZE, NULL, NULL, NULL);
  dirtyset_init (&ds, &nodes);
  memset (&acct, 0, sizeof acct);
  return 0;
}

/* Bytes in the set. */
static uint64_t
dirty_bytes (void)
{
  struct dirty_value v;
  struct range seg;
  uint64_t sum = 0, from = 0;

  for (; dirtyset_next (&ds, from, WB_NOT_CLEAN, WB_SEQ_ANY, &seg, &v); from = seg.end)
    sum += range_len (seg);
  return sum;
}

static int
tear_down (void **state PC_UNUSED)
{
  dirtyset_check (&ds);
  assert_int_equal (acct.sum, dirty_bytes ());
  dirtyset_release (&ds);
  segnodes_release (&nodes);
  return 0;
}

/* The nodes that the contract asks for, and not one more. */
static void
begin (struct range r, uint32_t inserts)
{
  acct.r = r;
  acct.at = r.start;
  segnodes_trim (&nodes, 0);
  assert_int_equal (segnodes_reserve (&nodes, dirtyset_need (&ds, inserts)), 0);
}

static void
mark (uint64_t start, uint64_t end, uint32_t seq, bool wt)
{
  begin (R (start, end), dirtyset_mark_inserts (&ds, R (start, end)));
  dirtyset_mark (&ds, R (start, end), seq, wt, on_acct, NULL);
}

static void
keep (uint64_t start, uint64_t end, uint32_t seq)
{
  begin (R (start, end), dirtyset_mark_inserts (&ds, R (start, end)));
  dirtyset_keep_dirty (&ds, R (start, end), seq, on_acct, NULL);
}

typedef void simple_fn (struct dirtyset *, struct range, dirtyset_acct_fn *, void *);

static void
simple (simple_fn *fn, uint64_t start, uint64_t end)
{
  begin (R (start, end), dirtyset_change_inserts (&ds, R (start, end)));
  fn (&ds, R (start, end), on_acct, NULL);
}

/* Changes what is in state FROM with stamp STAMP or any (0). */
static struct move {
  enum wbstate from, to;        /* to WB_CLEAN: drop */
  uint32_t max_seq, from_stamp, stamp, carrier, seq;
} move;

static enum dirtyset_verdict
do_move (void *arg PC_UNUSED, struct range piece, struct dirty_value *v)
{
  assert_true (range_is_superset (acct.r, piece));
  if (v->state != move.from || v->seq > move.max_seq
      || (move.from_stamp && v->stamp != move.from_stamp))
    return DIRTYSET_LEAVE;
  if (move.to == WB_CLEAN)
    return DIRTYSET_DROP;
  v->state = move.to;
  v->stamp = move.stamp;
  v->carrier = move.carrier;
  if (move.seq)
    v->seq = move.seq;
  return DIRTYSET_SET;
}

static void
change (uint64_t start, uint64_t end, struct move m)
{
  move = m;
  begin (R (start, end), dirtyset_change_inserts (&ds, R (start, end)));
  dirtyset_change (&ds, R (start, end), do_move, on_acct, NULL);
}

static struct dirty_value
value_at (uint64_t off)
{
  struct dirty_value v = { .seq = UINT32_MAX };
  struct range seg;

  assert_true (dirtyset_find (&ds, off, &seg, &v));
  assert_true (range_contains (seg, off));
  return v;
}

static bool
is_clean (uint64_t off)
{
  struct dirty_value v;
  struct range seg;

  return !dirtyset_find (&ds, off, &seg, &v);
}

/* ---- the seeds' cases ---- */

TEST (cleaning_leaves_what_is_kept)
{
  struct dirty_value v;
  struct range seg;

  mark (0, 2 * P, 1, false);
  keep (P, 2 * P, 1);
  simple (dirtyset_mark_clean, 0, 2 * P);
  assert_int_equal (dirtyset_count (&ds), 1);
  assert_true (dirtyset_next (&ds, 0, WB_ANY, UINT32_MAX, &seg, &v));
  assert_true (range_equal (seg, R (P, 2 * P)));
  assert_true (v.keep);
}

TEST (dirty_bytes_are_counted_once)
{
  mark (0, 100, 1, false);
  assert_int_equal (acct.sum, 100);
  mark (50, 150, 2, false);
  assert_int_equal (acct.sum, 150);
  keep (100, 200, 3);
  assert_int_equal (acct.sum, 200);
  simple (dirtyset_mark_clean, 0, 400);
  assert_int_equal (acct.sum, 100);
  simple (dirtyset_allow_clean, 0, 150);
  assert_int_equal (acct.sum, 100);
  simple (dirtyset_mark_clean, 0, 400);
  assert_int_equal (acct.sum, 50);
  simple (dirtyset_keep_clean, 0, UINT64_MAX);
  assert_int_equal (acct.sum, 0);
  assert_true (dirtyset_is_empty (&ds));
}

/* DRT-7, line by line, over one byte. */
TEST (each_state_answers_each_call_as_the_table_says)
{
  simple (dirtyset_mark_clean, 5, 6);           /* clean */
  simple (dirtyset_keep_clean, 5, 6);
  simple (dirtyset_allow_clean, 5, 6);
  assert_true (is_clean (5));
  keep (5, 6, 1);
  assert_true (value_at (5).keep);
  mark (5, 6, 1, false);                        /* kept */
  assert_true (value_at (5).keep);
  simple (dirtyset_mark_clean, 5, 6);
  assert_true (value_at (5).keep);
  simple (dirtyset_allow_clean, 5, 6);
  assert_false (value_at (5).keep);
  mark (5, 6, 1, false);                        /* dirty */
  assert_false (value_at (5).keep);
  simple (dirtyset_allow_clean, 5, 6);
  assert_false (is_clean (5));
  keep (5, 6, 1);
  assert_true (value_at (5).keep);
  simple (dirtyset_keep_clean, 5, 6);
  assert_true (is_clean (5));
  mark (5, 6, 1, false);
  simple (dirtyset_mark_clean, 5, 6);
  assert_true (is_clean (5));
  mark (5, 6, 1, false);
  simple (dirtyset_keep_clean, 5, 6);
  assert_true (is_clean (5));
}

/* ---- states ---- */

TEST (what_is_dirty_waits_for_its_older_flush)
{
  mark (0, 100, 1, false);
  mark (50, 150, 2, false);
  assert_int_equal (dirtyset_count (&ds), 2);
  assert_int_equal (value_at (99).seq, 1);
  assert_int_equal (value_at (100).seq, 2);
}

TEST (a_write_makes_what_is_under_way_dirty_again)
{
  mark (0, 100, 1, false);
  change (0, 100, (struct move) { WB_DIRTY, WB_WRITING, 1, .stamp = 42, .carrier = 3 });
  assert_int_equal (value_at (0).stamp, 42);
  mark (40, 60, 2, false);
  assert_int_equal (dirtyset_count (&ds), 3);
  assert_int_equal (value_at (50).state, WB_DIRTY);
  assert_int_equal (value_at (50).seq, 2);
  assert_int_equal (value_at (50).stamp, 0);
  assert_int_equal (value_at (50).carrier, 0);
  /* The reply moves on what it carried and was not written since. */
  change (0, 100, (struct move) { WB_WRITING, WB_UNSTABLE, UINT32_MAX, .from_stamp = 42,
                                  .stamp = 9, .carrier = 3 });
  assert_int_equal (value_at (39).state, WB_UNSTABLE);
  assert_int_equal (value_at (40).state, WB_DIRTY);
  assert_int_equal (value_at (60).state, WB_UNSTABLE);
  mark (90, 100, 3, false);
  assert_int_equal (value_at (90).state, WB_DIRTY);
  change (0, 100, (struct move) { WB_UNSTABLE, WB_CLEAN, UINT32_MAX, .from_stamp = 9 });
  assert_true (is_clean (0) && is_clean (60));
  assert_false (is_clean (40) || is_clean (90));
  assert_int_equal (acct.sum, 30);
}

TEST (a_kept_range_stays_kept_through_all_states)
{
  keep (0, 100, 1);
  change (0, 100, (struct move) { WB_DIRTY, WB_WRITING, 1, .stamp = 42 });
  assert_true (value_at (0).keep);
  mark (0, 50, 2, false);
  assert_true (value_at (0).keep);
  keep (50, 100, 3);
  assert_int_equal (value_at (50).state, WB_DIRTY);
  /* What was stored since the copy was made is owed to an older flush than what is written now. */
  assert_int_equal (value_at (0).seq, 1);
  assert_int_equal (value_at (50).seq, 1);
  /* Not kept, it is what travels that is owed. */
  mark (200, 300, 1, false);
  change (200, 300, (struct move) { WB_DIRTY, WB_WRITING, 1, .stamp = 43 });
  mark (200, 250, 2, false);
  keep (250, 300, 3);
  assert_int_equal (value_at (200).seq, 2);
  assert_int_equal (value_at (250).seq, 3);
}

TEST (what_was_dirty_before_a_write_through_is_not_dropped_with_it)
{
  mark (0, 50, 1, false);
  mark (0, 100, 2, true);
  assert_false (value_at (0).wt);
  assert_true (value_at (50).wt);
  mark (60, 70, 2, false);
  assert_true (value_at (59).wt);
  assert_false (value_at (60).wt);
  keep (50, 55, 2);
  assert_false (value_at (50).wt);
}

TEST (whole_segments_change_without_a_node)
{
  mark (100, 200, 1, false);
  mark (300, 400, 1, false);
  assert_int_equal (dirtyset_change_inserts (&ds, R (100, 400)), 0);
  assert_int_equal (dirtyset_change_inserts (&ds, R (0, UINT64_MAX)), 0);
  assert_int_equal (dirtyset_change_inserts (&ds, R (101, 400)), 1);
  assert_int_equal (dirtyset_change_inserts (&ds, R (101, 399)), 2);
  assert_int_equal (dirtyset_change_inserts (&ds, R (120, 180)), 2);
  change (0, 400, (struct move) { WB_DIRTY, WB_WRITING, 1, .stamp = 1 });
}

TEST (the_next_is_found_by_state_and_age)
{
  struct dirty_value v;
  struct range seg;

  mark (0, 100, 5, false);
  mark (100, 200, 7, false);
  change (100, 150, (struct move) { WB_DIRTY, WB_WRITING, 7, .stamp = 1 });
  assert_true (dirtyset_next (&ds, 50, WB_BIT (WB_DIRTY), 5, &seg, &v));
  assert_true (range_equal (seg, R (0, 100)));
  assert_false (dirtyset_next (&ds, 100, WB_BIT (WB_DIRTY), 6, &seg, &v));
  assert_true (dirtyset_next (&ds, 100, WB_BIT (WB_DIRTY), 7, &seg, &v));
  assert_true (range_equal (seg, R (150, 200)));
  assert_true (dirtyset_next (&ds, 0, WB_BIT (WB_WRITING), 7, &seg, &v));
  assert_true (range_equal (seg, R (100, 150)));
  assert_false (dirtyset_next (&ds, 200, WB_ANY, UINT32_MAX, &seg, &v));
  assert_false (dirtyset_next (&ds, 0, WB_BIT (WB_UNSTABLE), UINT32_MAX, &seg, &v));
  assert_true (dirtyset_overlaps (&ds, R (149, 150), WB_BIT (WB_WRITING)));
  assert_false (dirtyset_overlaps (&ds, R (150, 1000), WB_BIT (WB_WRITING)));
  assert_false (dirtyset_overlaps (&ds, R (120, 120), WB_ANY));
}

TEST (bytes_up_to_the_last_can_be_dirty)
{
  mark (UINT64_MAX - 10, UINT64_MAX, 1, false);
  assert_false (is_clean (UINT64_MAX - 1));
  assert_true (is_clean (UINT64_MAX - 11));
  keep (UINT64_MAX - 1, UINT64_MAX, 2);
  simple (dirtyset_drop, UINT64_MAX - 5, UINT64_MAX);
  assert_int_equal (acct.sum, 5);
  mark (7, 7, 1, false);
  keep (7, 7, 1);
  simple (dirtyset_drop, 7, 7);
  assert_int_equal (acct.sum, 5);
}

/* ---- beside an array ---- */

static struct byte model[BYTES];

static void
model_step (void)
{
  int a = rnd_below (BYTES), b = a + rnd_below (rnd_below (4) ? 12 : BYTES);
  uint32_t seq = 1 + rnd_below (3);
  bool wt = rnd_below (2);
  struct move m;

  if (b > BYTES)
    b = BYTES;
  switch (rnd_below (8)) {
  case 0: case 1: case 2:
    mark (a, b, seq, wt);
    for (int k = a; k < b; k++) {
      struct dirty_value *v = &model[k].v;

      if (!model[k].dirty)
        model[k] = (struct byte) { true, { .seq = seq, .wt = wt } };
      else if (v->state != WB_DIRTY)
        *v = (struct dirty_value) {
          .seq = v->state == WB_WRITING && v->keep ? v->seq : seq, .keep = v->keep, .wt = v->wt && wt,
        };
      else
        v->wt = v->wt && wt;
    }
    break;
  case 3:
    keep (a, b, seq);
    for (int k = a; k < b; k++) {
      struct dirty_value *v = &model[k].v;

      if (!model[k].dirty || v->state != WB_DIRTY)
        *v = (struct dirty_value) {
          .seq = model[k].dirty && v->state == WB_WRITING && v->keep ? v->seq : seq,
        };
      model[k].dirty = true;
      v->keep = 1;
      v->wt = 0;
    }
    break;
  case 4:
    simple (wt ? dirtyset_drop : dirtyset_mark_clean, a, b);
    for (int k = a; k < b; k++)
      if (wt || !model[k].v.keep)
        model[k] = (struct byte) { false };
    break;
  case 5:
    simple (dirtyset_allow_clean, a, b);
    for (int k = a; k < b; k++)
      model[k].v.keep = 0;
    break;
  default:
    m = (struct move) {
      .from = rnd_below (3), .to = rnd_below (4), .max_seq = rnd_below (4),
      .from_stamp = rnd_below (2), .stamp = rnd_below (2), .carrier = rnd_below (2),
      .seq = rnd_below (3),
    };
    if (rnd_below (4) == 0)
      a = 0, b = BYTES;
    change (a, b, m);
    for (int k = a; k < b; k++) {
      struct dirty_value *v = &model[k].v;

      if (!model[k].dirty || v->state != m.from || v->seq > m.max_seq
          || (m.from_stamp && v->stamp != m.from_stamp))
        continue;
      if (m.to == WB_CLEAN)
        model[k] = (struct byte) { false };
      else {
        v->state = m.to;
        v->stamp = m.stamp;
        v->carrier = m.carrier;
        v->seq = m.seq ? m.seq : v->seq;
      }
    }
  }
}

static void
assert_byte (const struct byte *a, const struct byte *b)
{
  assert_true (a->dirty == b->dirty);
  if (a->dirty)
    assert_true (same (&a->v, &b->v));
}

TEST (random_operations_match_an_array_and_are_counted_exactly)
{
  memset (model, 0, sizeof model);
  for (int i = 0; i < 20000; i++) {
    struct dirty_value v;
    struct range seg = { 0, 0 };
    uint64_t at = 0;
    uint32_t count = 0;

    model_step ();
    dirtyset_check (&ds);
    while (dirtyset_next (&ds, at, WB_ANY, UINT32_MAX, &seg, &v)) {
      for (; at < seg.start; at++)
        assert_false (model[at].dirty);
      for (; at < seg.end; at++)
        assert_byte (&model[at], &(struct byte) { true, v });
      /* Merged as far as can be. */
      if (seg.end < BYTES && model[seg.end].dirty)
        assert_false (same (&model[seg.end].v, &v));
      count++;
    }
    for (; at < BYTES; at++)
      assert_false (model[at].dirty);
    assert_int_equal (dirtyset_count (&ds), count);
    for (int k = 0; k < BYTES; k++)
      assert_byte (&model[k], &acct.byte[k]);
  }
}

#define T(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    T (cleaning_leaves_what_is_kept),
    T (dirty_bytes_are_counted_once),
    T (each_state_answers_each_call_as_the_table_says),
    T (what_is_dirty_waits_for_its_older_flush),
    T (a_write_makes_what_is_under_way_dirty_again),
    T (a_kept_range_stays_kept_through_all_states),
    T (what_was_dirty_before_a_write_through_is_not_dropped_with_it),
    T (whole_segments_change_without_a_node),
    T (the_next_is_found_by_state_and_age),
    T (bytes_up_to_the_last_can_be_dirty),
    T (random_operations_match_an_array_and_are_counted_exactly),
  };

  rnd_begin ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
