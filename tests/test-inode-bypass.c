/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-inode-bypass - a read past the cache: straight into the client's buffer, and right whatever happens to its bytes
 * while the origin answers.
 *
 * As test-inode.  When a scan goes past the cache is test-readahead's question; here reads are told to (INODE_BYPASS).
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inode-bed.h"

static uint8_t buf[2 * MIB], other[2 * MIB];

static struct task *
past (struct bed *b, void *to, uint64_t off, uint64_t len)
{
  struct task *t = task (b);

  memset (to, 0xee, len);
  inode_op_read (&t->op, b->ino, to, at (off, len));
  t->op.flags |= INODE_BYPASS;
  return begin (b, t);
}

static uint64_t
bypassed (struct bed *b)
{
  return atomic_load (&inode_get_stats (b->ino)->bypass_bytes);
}

static unsigned
frames_used (struct bed *b)
{
  return memfile_in_use (b->w.env.mf);
}

TEST (it_brings_the_bytes_and_keeps_nothing)
{
  struct bed b;

  set_up (&b);
  assert_ok (past (&b, buf, 0, 256 * K));
  assert_orig (buf, 0, 256 * K);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_int_equal (bypassed (&b), 256 * K);
  assert_int_equal (frames_used (&b), 0);
  assert_ok (past (&b, buf, 0, 256 * K));
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  assert_orig (buf, 0, 256 * K);
  tear_down (&b);
}

TEST (it_crosses_stripes)
{
  struct bed b;

  set_up (&b);
  assert_ok (past (&b, buf, MIB - 128 * K, 256 * K));
  assert_orig (buf, MIB - 128 * K, 256 * K);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  assert_int_equal (bypassed (&b), 256 * K);
  tear_down (&b);
}

/* One page less than whole ones at either end: those go through the cache, for a page is of one moment (D6). */
TEST (only_whole_pages_of_its_own_go_past)
{
  struct bed b;

  set_up (&b);
  assert_ok (past (&b, buf, PAGE, 16 * PAGE - 1));
  assert_orig (buf, PAGE, 16 * PAGE - 1);
  assert_int_equal (bypassed (&b), 0);
  assert_ok (past (&b, buf, 64 * PAGE + 1, 16 * PAGE - 1));
  assert_orig (buf, 64 * PAGE + 1, 16 * PAGE - 1);
  assert_int_equal (bypassed (&b), 0);
  assert_ok (past (&b, buf, 128 * PAGE, 16 * PAGE));
  assert_int_equal (bypassed (&b), 16 * PAGE);
  tear_down (&b);
}

TEST (the_last_page_may_be_cut_by_the_end)
{
  struct bed b;

  set_up_with (&b, world_info (MIB + 1000), (struct world_options) { 0 });
  assert_ok (past (&b, buf, MIB - 64 * K, 64 * K + 1000));
  assert_orig (buf, MIB - 64 * K, 64 * K + 1000);
  assert_int_equal (bypassed (&b), 64 * K + 1000);
  tear_down (&b);
}

TEST (blocks_of_the_origin_go_past_whole)
{
  struct bed b;

  set_up_with (&b, with_blocks (SIZE, 64 * K, MIB), (struct world_options) { .nframes = 512 });
  assert_ok (past (&b, buf, 4 * K, 124 * K));
  assert_orig (buf, 4 * K, 124 * K);
  assert_int_equal (bypassed (&b), 0);
  assert_ok (past (&b, buf, 256 * K, 128 * K));
  assert_orig (buf, 256 * K, 128 * K);
  assert_int_equal (bypassed (&b), 128 * K);
  tear_down (&b);
}

TEST (what_is_there_is_copied_and_only_the_rest_goes_past)
{
  struct bed b;

  set_up (&b);
  assert_ok (wr (&b, ones, 4 * PAGE, PAGE, 0));
  assert_ok (zero (&b, 8 * PAGE, 2 * PAGE, INODE_MAY_TRIM));
  assert_ok (past (&b, buf, 0, 16 * PAGE));
  assert_orig (buf, 0, 4 * PAGE);
  assert_is (buf + 4 * PAGE, 1, PAGE);
  assert_orig (buf + 5 * PAGE, 5 * PAGE, 3 * PAGE);
  assert_is (buf + 8 * PAGE, 0, 2 * PAGE);
  assert_orig (buf + 10 * PAGE, 10 * PAGE, 6 * PAGE);
  assert_int_equal (bypassed (&b), 13 * PAGE);
  tear_down (&b);
}

/* The block in which the gap begins is asked for whole, and its first page was copied already. */
TEST (what_was_copied_stays)
{
  struct bed b;

  set_up_with (&b, with_blocks (SIZE, 16 * K, MIB), (struct world_options) { .nframes = 512 });
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  assert_ok (past (&b, buf, 0, 64 * K));
  assert_is (buf, 1, PAGE);
  assert_orig (buf + PAGE, PAGE, 15 * PAGE);
  tear_down (&b);
}

/* What happens while the origin answers, and what a read that began before it must see, or may. */
static void
write_over (struct bed *b)
{
  assert_ok (wr (b, ones, 2 * PAGE, PAGE, 0));
}

static void
write_in_part (struct bed *b)
{
  assert_ok (wr (b, ones, 2 * PAGE + 100, 1, 0));
}

static void
zero_over (struct bed *b)
{
  assert_ok (zero (b, 2 * PAGE, PAGE, INODE_MAY_TRIM));
}

/* Written, made clean by the origin, and dropped: nothing is left of it here. */
static void
write_and_drop (struct bed *b)
{
  assert_ok (wr (b, ones, 2 * PAGE, PAGE, 0));
  assert_ok (flush (b));
  assert_int_equal (inode_invalidate (b->ino, RANGE_ALL), 0);
}

static void
write_and_zero (struct bed *b)
{
  assert_ok (wr (b, ones, 2 * PAGE, PAGE, 0));
  assert_ok (zero (b, 2 * PAGE, PAGE, INODE_MAY_TRIM));
}

/* Whoever asks after the change was answered sees it, though the origin's answer was made before it. */
static void
change_meanwhile (void (*change) (struct bed *), uint8_t now)
{
  struct bed b;
  struct task *t, *later;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  t = past (&b, buf, 0, 16 * PAGE);
  assert_false (t->done);
  change (&b);
  later = past (&b, other, 2 * PAGE, PAGE);
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_ok (later);
  assert_is (other + 100, now, 1);
  assert_is (buf + 2 * PAGE + 100, now, 1);
  assert_orig (buf, 0, 2 * PAGE);
  assert_orig (buf + 3 * PAGE, 3 * PAGE, 13 * PAGE);
  tear_down (&b);
}

TEST (a_write_meanwhile_is_seen)
{
  change_meanwhile (write_over, 1);
}

TEST (a_byte_written_meanwhile_is_seen)
{
  change_meanwhile (write_in_part, 1);
}

TEST (a_zero_meanwhile_is_seen)
{
  change_meanwhile (zero_over, 0);
}

TEST (a_page_written_and_dropped_meanwhile_is_read_again)
{
  change_meanwhile (write_and_drop, 1);
}

TEST (a_page_written_and_zeroed_meanwhile_is_zeros)
{
  change_meanwhile (write_and_zero, 0);
}

TEST (what_was_touched_is_read_again_through_the_cache)
{
  struct bed b;
  struct task *t;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  t = past (&b, buf, 0, 16 * PAGE);
  assert_ok (wr (&b, ones, 15 * PAGE, PAGE, 0));
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  assert_int_equal (bypassed (&b), 16 * PAGE);
  assert_int_equal (frames_used (&b), 16);
  tear_down (&b);
}

TEST (another_reader_waits_and_asks_for_itself)
{
  struct bed b;
  struct task *t, *u;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  t = past (&b, buf, 0, 16 * PAGE);
  u = rd (&b, other, PAGE, 2 * PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_ok (u);
  assert_orig (buf, 0, 16 * PAGE);
  assert_orig (other, PAGE, 2 * PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  assert_true (u->op.shared);
  assert_false (t->op.shared);
  tear_down (&b);
}

TEST (a_writer_of_part_of_a_block_waits_and_asks_for_itself)
{
  struct bed b;
  struct task *t, *u;

  set_up_with (&b, with_blocks (SIZE, 8 * K, MIB), (struct world_options) { .nframes = 512 });
  close_door (&b, ORIGIN_READ);
  t = past (&b, buf, 0, 16 * PAGE);
  u = wr (&b, ones, PAGE, PAGE, INODE_FUA);
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_ok (u);
  assert_ok (rd (&b, other, 0, 16 * PAGE));
  assert_orig (other, 0, PAGE);
  assert_is (other + PAGE, 1, PAGE);
  assert_orig (other + 2 * PAGE, 2 * PAGE, 14 * PAGE);
  tear_down (&b);
}

TEST (its_error_is_told_and_nothing_is_left)
{
  struct bed b;
  struct task *t, *u;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  t = past (&b, buf, 0, 16 * PAGE);
  u = rd (&b, other, PAGE, PAGE);
  answer (&b, 0, EIO);
  assert_err (t, EIO);
  assert_false (u->done);
  open_door (&b, ORIGIN_READ);
  assert_ok (u);
  assert_orig (other, PAGE, PAGE);
  assert_ok (past (&b, buf, 0, 16 * PAGE));
  assert_orig (buf, 0, 16 * PAGE);
  tear_down (&b);
}

/* The origin writes into its buffer until then, so it cannot be given up before. */
TEST (its_buffer_is_lent_until_the_last_answer)
{
  struct bed b;
  struct task *t;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  t = past (&b, buf, MIB - 4 * PAGE, 8 * PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  assert_true (inode_op_is_lent (&t->op));
  answer (&b, 0, EIO);
  assert_true (inode_op_is_lent (&t->op));
  assert_false (t->done);
  answer (&b, 0, 0);
  assert_false (inode_op_is_lent (&t->op));
  assert_err (t, EIO);
  tear_down (&b);
}

TEST (a_usual_read_is_not_lent)
{
  struct bed b;
  struct task *t;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  t = rd (&b, buf, 0, 4 * PAGE);
  assert_false (inode_op_is_lent (&t->op));
  inode_op_cancel (&t->op);
  t->done = true;
  open_door (&b, ORIGIN_READ);
  tear_down (&b);
}

/* Its own memory is a few hundred bytes a request; without them it goes the usual way, or fails as that does. */
TEST (each_allocation_may_fail)
{
  unsigned long before, n, i;
  struct bed b;

  set_up (&b);
  before = world_allocs ();
  assert_ok (past (&b, buf, 0, 16 * PAGE));
  n = world_allocs () - before;
  assert_true (n > 0);
  for (i = 0; i < n; i++) {
    uint64_t off = (i + 1) * 64 * K;
    struct task *t;

    world_fail_alloc_nth ((long) i);
    t = past (&b, buf, off, 16 * PAGE);
    world_fail_alloc_nth (-1);
    if (t->done && t->op.err == 0)
      assert_orig (buf, off, 16 * PAGE);
    else
      assert_true (t->done ? t->op.err == ENOMEM : t->op.parked);
    if (!t->done)
      inode_op_cancel (&t->op);
    t->done = true;
  }
  tear_down (&b);
}

/* A cache that is full of what cannot leave still serves a scan. */
TEST (it_needs_no_frame)
{
  struct world_options o = { .nframes = 64, .dirty_max = 64 * PAGE, .dirty_background = 64 * PAGE };
  struct bed b;

  set_up_with (&b, world_info (SIZE), o);
  close_door (&b, ORIGIN_WRITE);
  assert_ok (wr (&b, ones, 0, 32 * PAGE, 0));
  assert_ok (past (&b, buf, MIB, MIB));
  assert_orig (buf, MIB, MIB);
  assert_int_equal (bypassed (&b), MIB);
  open_door (&b, ORIGIN_WRITE);
  tear_down (&b);
}

static bool
no_room (void *arg, unsigned n)
{
  (void) arg;
  (void) n;
  return false;
}

/* D15: a read that finds no frame while the origin takes nothing is answered, and does not wait for what a scan holds. */
TEST (nobody_waits_for_frames_that_it_does_not_hold)
{
  enum { N = 64 };
  uint32_t frames[N];
  struct task *t, *u;
  uint32_t events;
  struct bed b;

  set_up_with (&b, world_info (SIZE), (struct world_options) { .nframes = N });
  assert_int_equal (memfile_alloc (b.w.mf, N, frames), N);
  b.w.env.reclaim = no_room;
  atomic_store (&b.ino->wb_err, ENOSPC);
  close_door (&b, ORIGIN_READ);
  t = past (&b, buf, 0, 16 * PAGE);
  assert_false (t->done);
  u = rd (&b, other, MIB, PAGE);
  assert_true (u->done);
  assert_err (u, EIO);
  events = atomic_load (&b.w.env.mem_events);
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_int_equal (atomic_load (&b.w.env.mem_events), events);
  atomic_store (&b.ino->wb_err, 0);
  memfile_put_many (b.w.mf, frames, N);
  tear_down (&b);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (it_brings_the_bytes_and_keeps_nothing),
    cmocka_unit_test (it_crosses_stripes),
    cmocka_unit_test (only_whole_pages_of_its_own_go_past),
    cmocka_unit_test (the_last_page_may_be_cut_by_the_end),
    cmocka_unit_test (blocks_of_the_origin_go_past_whole),
    cmocka_unit_test (what_is_there_is_copied_and_only_the_rest_goes_past),
    cmocka_unit_test (what_was_copied_stays),
    cmocka_unit_test (a_write_meanwhile_is_seen),
    cmocka_unit_test (a_byte_written_meanwhile_is_seen),
    cmocka_unit_test (a_zero_meanwhile_is_seen),
    cmocka_unit_test (a_page_written_and_dropped_meanwhile_is_read_again),
    cmocka_unit_test (a_page_written_and_zeroed_meanwhile_is_zeros),
    cmocka_unit_test (what_was_touched_is_read_again_through_the_cache),
    cmocka_unit_test (another_reader_waits_and_asks_for_itself),
    cmocka_unit_test (a_writer_of_part_of_a_block_waits_and_asks_for_itself),
    cmocka_unit_test (its_error_is_told_and_nothing_is_left),
    cmocka_unit_test (its_buffer_is_lent_until_the_last_answer),
    cmocka_unit_test (a_usual_read_is_not_lent),
    cmocka_unit_test (each_allocation_may_fail),
    cmocka_unit_test (it_needs_no_frame),
    cmocka_unit_test (nobody_waits_for_frames_that_it_does_not_hold),
  };

  return cmocka_run_group_tests (tests, fill_patterns, NULL);
}
