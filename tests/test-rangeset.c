/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: does rangeset know each valid byte, its frame, and which page goes when?
 */
#include "test.h"

#include <errno.h>
#include <string.h>

#include "rangeset.h"
#include "rnd.h"

#define R(start, end) ((struct range) { start, end })
#define PG RANGESET_PAGE

static struct segnodes nodes;
static struct rangeset rs;

static int
set_up (void **state PC_UNUSED)
{
  segnodes_init (&nodes, SEGNODE_SIZE, NULL, NULL, NULL);
  rangeset_init (&rs, &nodes);
  return 0;
}

static int
tear_down (void **state PC_UNUSED)
{
  rangeset_release (&rs);
  segnodes_release (&nodes);
  return 0;
}

/* With the spare nodes that the contract asks for, and not one more. */
static void
reserve (uint32_t inserts)
{
  segnodes_trim (&nodes, 0);
  assert_int_equal (segnodes_reserve (&nodes, rangeset_need (&rs, inserts)), 0);
}

static void
add (uint64_t start, uint64_t end, uint32_t frame)
{
  reserve (1);
  rangeset_add (&rs, R (start, end), frame);
  rangeset_check (&rs);
}

/* ---- pages that went ---- */

static struct {
  uint64_t pgoff[64];
  uint32_t frame[64];
  int n;
} gone;

static void
on_gone (void *arg, uint64_t pgoff, uint32_t frame)
{
  assert_ptr_equal (arg, &gone);
  assert_true (gone.n < 64);
  assert_true (gone.n == 0 || gone.pgoff[gone.n - 1] < pgoff);
  gone.pgoff[gone.n] = pgoff;
  gone.frame[gone.n++] = frame;
}

static void
drop (uint64_t start, uint64_t end)
{
  gone.n = 0;
  reserve (rangeset_remove_inserts (&rs, R (start, end)));
  rangeset_remove (&rs, R (start, end), on_gone, &gone);
  rangeset_check (&rs);
}

TEST (pages_whose_frames_follow_are_one_segment)
{
  add (0, PG, 7);
  add (PG, 2 * PG, 8);
  assert_int_equal (rangeset_count (&rs), 1);
  add (2 * PG, 3 * PG, 10);
  assert_int_equal (rangeset_count (&rs), 2);
  add (4 * PG, 5 * PG, 12);
  add (3 * PG, 4 * PG, 11);
  assert_int_equal (rangeset_count (&rs), 2);
  assert_int_equal (rangeset_frame_at (&rs, PG + 1), 8);
  assert_int_equal (rangeset_frame_at (&rs, 5 * PG - 1), 12);
}

TEST (bytes_of_one_page_are_one_segment_when_they_meet)
{
  add (10, 20, 7);
  add (30, 40, 7);
  assert_int_equal (rangeset_page_fragments (&rs, 0), 2);
  add (20, 30, 7);
  assert_int_equal (rangeset_page_fragments (&rs, 0), 1);
  assert_false (rangeset_page_valid (&rs, 0, UINT64_MAX));
  assert_false (rangeset_page_valid (&rs, 0, 40));
  add (0, 10, 7);
  assert_false (rangeset_page_valid (&rs, 0, 41));
  assert_true (rangeset_page_valid (&rs, 0, 40));
  assert_true (rangeset_page_valid (&rs, PG, 40));
}

TEST (a_frame_at_the_end_of_the_numbers_is_followed_by_none)
{
  add (0, PG, UINT32_MAX - 1);
  add (PG, 2 * PG, UINT32_MAX);
  add (2 * PG, 3 * PG, 0);
  assert_int_equal (rangeset_count (&rs), 2);
}

TEST (segments_stay_below_4_GiB)
{
  uint64_t half = UINT64_C (1) << 31;

  add (0, half, 0);
  add (half, 2 * half, half / PG);
  assert_int_equal (rangeset_count (&rs), 2);
  drop (2 * half - 1, 2 * half);
  assert_int_equal (gone.n, 0);
  assert_int_equal (rangeset_count (&rs), 2);
  assert_true (rangeset_covers (&rs, R (0, 2 * half - 1)));
  assert_false (rangeset_covers (&rs, R (0, 2 * half)));
}

TEST (a_page_goes_with_its_last_byte)
{
  add (0, 3 * PG, 5);
  drop (10, 20);
  assert_int_equal (gone.n, 0);
  drop (20, PG);
  assert_int_equal (gone.n, 0);
  drop (0, 9);
  assert_int_equal (gone.n, 0);
  drop (9, 10);
  assert_int_equal (gone.n, 1);
  assert_int_equal (gone.pgoff[0], 0);
  assert_int_equal (gone.frame[0], 5);
  drop (PG + 1, 3 * PG);
  assert_int_equal (gone.n, 1);
  assert_int_equal (gone.frame[0], 7);
  drop (0, UINT64_MAX);
  assert_int_equal (gone.n, 1);
  assert_int_equal (gone.pgoff[0], PG);
  assert_int_equal (gone.frame[0], 6);
  assert_true (rangeset_is_empty (&rs));
}

TEST (one_page_in_pieces_goes_once)
{
  add (0, 10, 5);
  add (20, 30, 5);
  add (40, 50, 5);
  drop (0, PG);
  assert_int_equal (gone.n, 1);
  add (0, 10, 5);
  add (20, 30, 5);
  drop (5, 25);
  assert_int_equal (gone.n, 0);
  assert_int_equal (rangeset_page_fragments (&rs, 0), 2);
}

TEST (removing_nothing_tells_nothing)
{
  drop (0, UINT64_MAX);
  assert_int_equal (gone.n, 0);
  add (PG, 2 * PG, 1);
  drop (0, PG);
  drop (2 * PG, 3 * PG);
  drop (PG + 5, PG + 5);
  assert_int_equal (gone.n, 0);
  reserve (1);
  rangeset_remove (&rs, R (PG + 5, PG + 6), NULL, NULL);
  assert_int_equal (rangeset_count (&rs), 2);
}

TEST (copy_on_write_changes_the_frame_of_one_page)
{
  uint32_t frame;

  add (0, 3 * PG, 5);
  reserve (2);
  assert_int_equal (rangeset_set_frame (&rs, PG, 100), 6);
  rangeset_check (&rs);
  assert_int_equal (rangeset_count (&rs), 3);
  assert_int_equal (rangeset_frame_at (&rs, PG), 100);
  assert_int_equal (rangeset_frame_at (&rs, 2 * PG), 7);
  reserve (2);
  assert_int_equal (rangeset_set_frame (&rs, PG, 6), 100);
  rangeset_check (&rs);
  assert_int_equal (rangeset_count (&rs), 1);
  assert_true (rangeset_page_frame (&rs, 2 * PG, &frame));
  assert_int_equal (frame, 7);
  assert_false (rangeset_page_frame (&rs, 3 * PG, &frame));
}

TEST (the_last_page_of_all_can_be_used)
{
  uint64_t last = UINT64_MAX - PG + 1;
  struct range r;
  uint32_t frame;

  add (last, UINT64_MAX, 3);
  assert_true (rangeset_page_valid (&rs, last, UINT64_MAX));
  assert_true (rangeset_find (&rs, UINT64_MAX - 1, &r, &frame));
  assert_int_equal (frame, 3);
  assert_false (rangeset_find (&rs, UINT64_MAX, &r, &frame));
  assert_true (rangeset_next_gap (&rs, R (0, UINT64_MAX), &r));
  assert_true (range_equal (r, R (0, last)));
  drop (last + 5, UINT64_MAX);
  assert_int_equal (gone.n, 0);
  assert_false (rangeset_page_valid (&rs, last, UINT64_MAX));
  assert_true (rangeset_page_valid (&rs, last, last + 5));
  assert_int_equal (rangeset_page_fragments (&rs, last), 1);
  assert_true (rangeset_page_frame (&rs, last, &frame));
  drop (0, last + 5);
  assert_int_equal (gone.n, 1);
}

TEST (a_reserve_that_fails_changes_nothing)
{
  struct segnodes_batch batch = SEGNODES_BATCH_INIT;

  add (0, PG, 7);
  assert_int_equal (segnodes_missing (&nodes, 3), 3);
  assert_int_equal (segnodes_batch_alloc (&nodes, 3, &batch), 0);
  segnodes_give (&nodes, &batch);
  assert_int_equal (batch.count, 0);
  assert_int_equal (segnodes_missing (&nodes, 3), 0);
  assert_int_equal (segnodes_bytes (&nodes), 4 * SEGNODE_SIZE);
  segnodes_take (&nodes, 1, &batch);
  assert_int_equal (batch.count, 2);
  segnodes_batch_free (&nodes, &batch);
  assert_int_equal (nodes.nspare, 1);
}

/* ---- beside an array ---- */

#define PAGES 12
#define BYTES (PAGES * 4096)
#define NO_FRAME UINT32_MAX

static struct {
  bool valid[BYTES + 1];
  uint32_t frame[PAGES];
} model;

static int
model_fragments (int pgno)
{
  int n = 0;

  for (int k = pgno * 4096; k < (pgno + 1) * 4096; k++)
    n += model.valid[k] && (k % 4096 == 0 || !model.valid[k - 1]);
  return n;
}

static void
model_add (void)
{
  int a = rnd_below (BYTES), b, p;
  uint32_t frame;

  for (; a < BYTES && model.valid[a]; a++)
    ;
  if (a == BYTES)
    return;
  if (rnd_below (2))
    for (; a > 0 && !model.valid[a - 1] && a % 4096; a--)
      ;
  p = a / 4096;
  frame = model.frame[p];
  if (frame == NO_FRAME)
    frame = p > 0 && model.frame[p - 1] != NO_FRAME && rnd_below (2)
              ? model.frame[p - 1] + 1 : 1000 + rnd_below (1000);
  for (b = a; b < BYTES && !model.valid[b]; b++) {
    p = b / 4096;
    if (b % 4096 == 0 && rnd_below (3) == 0 && b > a)
      break;
    if (model.frame[p] != NO_FRAME && model.frame[p] != frame + p - a / 4096)
      break;
    if (rnd_below (4096) == 0 && b > a)
      break;
  }
  if (b == a)
    return;
  reserve (1);
  rangeset_add (&rs, R (a, b), frame);
  for (int k = a; k < b; k++) {
    model.valid[k] = true;
    model.frame[k / 4096] = frame + k / 4096 - a / 4096;
  }
}

static void
model_remove (void)
{
  int a = rnd_below (BYTES + 1), b = a + rnd_below (rnd_below (8) ? 6000 : BYTES), n = 0;

  if (b > BYTES)
    b = BYTES;
  drop (a, b);
  memset (&model.valid[a], 0, b - a);
  for (int p = 0; p < PAGES; p++)
    if (model.frame[p] != NO_FRAME && model_fragments (p) == 0) {
      assert_true (n < gone.n);
      assert_int_equal (gone.pgoff[n] / 4096, p);
      assert_int_equal (gone.frame[n], model.frame[p]);
      n++;
      model.frame[p] = NO_FRAME;
    }
  assert_int_equal (n, gone.n);
}

static void
model_compare (void)
{
  struct range piece, r;
  uint32_t frame;
  uint64_t at = 0;
  uint32_t count = 0;

  rangeset_check (&rs);
  for (int k = 0; k < BYTES; k++)
    count += model.valid[k]
             && (k == 0 || !model.valid[k - 1]
                 || (k % 4096 == 0 && model.frame[k / 4096] != model.frame[k / 4096 - 1] + 1));
  assert_int_equal (rangeset_count (&rs), count);
  while (rangeset_next (&rs, R (at, BYTES), &piece, &frame)) {
    for (; at < piece.start; at++)
      assert_false (model.valid[at]);
    for (; at < piece.end; at++)
      if (!model.valid[at]
          || model.frame[at / 4096] != rangeset_frame_of (piece.start, frame, at))
        fail_msg ("byte %d", (int) at);
  }
  for (; at < BYTES; at++)
    assert_false (model.valid[at]);

  for (int p = 0; p < PAGES; p++) {
    int limit = p * 4096 + rnd_below (5000), end = (p + 1) * 4096, k;

    assert_int_equal (rangeset_page_fragments (&rs, p * PG), model_fragments (p));
    assert_int_equal (rangeset_page_frame (&rs, p * PG, &frame),
                      model.frame[p] != NO_FRAME);
    if (model.frame[p] != NO_FRAME)
      assert_int_equal (frame, model.frame[p]);
    for (k = p * 4096; k < end && k < limit && model.valid[k]; k++)
      ;
    assert_int_equal (rangeset_page_valid (&rs, p * PG, limit), k >= end || k >= limit);
  }
  r.start = rnd_below (BYTES);
  r.end = r.start + rnd_below (BYTES - r.start + 1);
  uint64_t span = 0, gap = r.start;
  for (uint64_t k = r.start; k < r.end; k++)
    span += model.valid[k];
  for (; gap < r.end && model.valid[gap]; gap++)
    ;
  assert_int_equal (rangeset_overlaps (&rs, r), span > 0);
  assert_int_equal (rangeset_covers (&rs, r), span == range_len (r));
  assert_int_equal (rangeset_next_gap (&rs, r, &piece), gap < r.end);
  if (gap < r.end) {
    assert_int_equal (piece.start, gap);
    for (; gap < r.end && !model.valid[gap]; gap++)
      ;
    assert_int_equal (piece.end, gap);
  }
  r = R (r.start & ~(PG - 1), (r.end + PG - 1) & ~(PG - 1));
  span = 0;
  for (uint64_t p = r.start / PG; p < r.end / PG; p++)
    span += model.frame[p] == NO_FRAME;
  assert_int_equal (rangeset_absent_pages (&rs, r), span);
}

TEST (random_operations_match_an_array_of_bytes)
{
  memset (model.frame, 0xff, sizeof model.frame);
  for (int i = 0; i < 2000; i++) {
    uint32_t what = rnd_below (i / 200 % 2 ? 10 : 6), frame, p;
    struct range seg;

    if (what < 4)
      model_add ();
    else if (what > 5)
      model_remove ();
    else {
      p = rnd_below (PAGES);
      if (model.frame[p] == NO_FRAME)
        continue;
      reserve (2);
      frame = rnd_below (2) ? 1000 + rnd_below (1000) : model.frame[(p + 1) % PAGES] - 1;
      if (frame >= NO_FRAME - 1)
        continue;
      assert_int_equal (rangeset_set_frame (&rs, p * PG, frame), model.frame[p]);
      model.frame[p] = frame;
    }
    model_compare ();
    p = rnd_below (BYTES);
    assert_int_equal (rangeset_find (&rs, p, &seg, &frame), model.valid[p]);
    if (model.valid[p]) {
      assert_true (range_contains (seg, p));
      assert_int_equal (frame, model.frame[p / 4096]);
    }
  }
}

#define T(name) cmocka_unit_test_setup_teardown (name, set_up, tear_down)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    T (pages_whose_frames_follow_are_one_segment),
    T (bytes_of_one_page_are_one_segment_when_they_meet),
    T (a_frame_at_the_end_of_the_numbers_is_followed_by_none),
    T (segments_stay_below_4_GiB),
    T (a_page_goes_with_its_last_byte),
    T (one_page_in_pieces_goes_once),
    T (removing_nothing_tells_nothing),
    T (copy_on_write_changes_the_frame_of_one_page),
    T (the_last_page_of_all_can_be_used),
    T (a_reserve_that_fails_changes_nothing),
    T (random_operations_match_an_array_of_bytes),
  };

  rnd_begin ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
