/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-inode - the promises of one inode, each by itself, over an origin with doors.
 *
 * One thread, one clock that stands still, nothing at random: a test says which request is answered when.  The
 * simulation (test-sim) looks for the orders nobody thought of; test-cache for what only threads do.
 *
 * What others got wrong in such a cache (the list of faults in the semantics reference, 3.1 to 3.6; numbers are
 * its own), and where it is tested here, or why it cannot happen:
 *
 *    1  size trusted though others change it   the size is fixed while an export is open (D14)
 *    3  redundant requests at each sync        a_flush_of_nothing_asks_nothing
 *    4  dirty set changed under a shared lock  dirty_mark and its kin assert nothing: test-cache, thread checker
 *    5  reading makes dirty                    reading_writes_nothing_back
 *    7  write-back inside an unmap             eviction never writes: a_dirty_page_does_not_leave
 *   11  writing to a read-only export          test-cache, a_read_only_file_sends_nothing
 *   12  a read too many at the end             nothing_beyond_the_size_is_asked_or_sent
 *   13  writethrough flushes each write        a_written_through_write_is_not_flushed
 *   15  endless loop at offsets near the top   ranges_are_checked_at_their_last_byte
 *   16  a counted set merges                   test-framerefs
 *   19  FUA is nothing, or everything          fua_makes_its_own_range_durable_and_no_other
 *   20  a lock held when construction fails    every_allocation_may_fail
 *   21  size after a direct write              there is one write path, and it never changes the size
 *   22  destroyed twice                        inode_free has one caller; world_release counts what is left
 *   25  flush of a read-only handle            a flush is the inode's: one_flush_covers_all_writers
 *   26  older data over newer                  a_write_during_a_fill_stays, a_zero_during_a_fill_stays
 *   28  freed while evictable                  an_inode_goes_with_its_pages
 *   32  short transfers told as whole          an op has no count: all of it, or an error
 *   34  write-back against truncation          a_trim_waits_for_the_write_before_it
 *   36  a callback takes the lock again        lock ranks, in every build with debug checks
 *   37  "done" before it is                    flush_waits_for_the_reply_of_the_origins_flush
 *   38  an error of flush is lost              a_failed_flush_is_told_and_all_is_written_again
 *   39  off by one at the end                  ranges_are_checked_at_their_last_byte
 *   47  leaks on the paths less tested         every_allocation_may_fail; world_release checks frames and budget
 *   48  a cache without a bound                requests_larger_than_the_cache_go_in_slices
 *   53, 54  locks in callbacks                 lock ranks
 *   60  an empty request loops                 an_empty_request_is_done_at_once
 *   66  a stale pointer after the lock was let go   test-sim with check_every, address checker
 *   71  waiters of what failed                 a_failed_fill_answers_every_waiter_once
 *   73  one miss fetches everything            a_miss_fetches_its_pages_only
 *   74  the last page is missed                nothing_beyond_the_size_is_asked_or_sent
 *   L2  a failed write-back drops the page     failed_bytes_stay_dirty_until_they_are_safe
 *   L3  no progress, no error                  an origin's reply is all or an error (origin.h)
 *   L5  many small writes never merge          writes_that_touch_go_out_as_one
 *   L8  as 38
 *   L11 more marked dirty than was written     a_partial_write_sends_its_own_bytes
 *   L12 hits take the exclusive lock           a_hit_does_not_wait_for_a_miss
 *   L13 writers wait for a long write-back     a_write_does_not_wait_for_write_back
 *   L15 changed before the origin agreed       a_failed_write_through_leaves_no_bytes
 *   L17 dirty without a page                   inode_check (2), in test-sim
 *   L20 a lock held while the origin works     every test here that has a door closed
 *
 * Attributes, names, handles, mappings and directories (2, 6, 8 to 10, 14, 17, 18, 23, 24, 27, 29 to 31, 33, 35, 40 to
 * 46, 49 to 52, 55 to 59, 61 to 65, 67 to 70, 72, 75 to 95) are not an inode's business, or nobody's here.
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inode-bed.h"

static uint8_t buf[SIZE], bufs[16][PAGE];

/*----------------------------------------------------------------------*/
/* Fills. */

TEST (sixteen_readers_of_a_page_are_one_read_of_the_origin)
{
  struct bed b;
  unsigned i;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  for (i = 0; i < 16; i++)
    rd (&b, bufs[i], 8192 + i, 1000);
  for (i = 0; i < 16; i++)
    assert_false (b.task[i].done);
  open_door (&b, ORIGIN_READ);
  for (i = 0; i < 16; i++) {
    assert_ok (&b.task[i]);
    assert_orig (bufs[i], 8192 + i, 1000);
  }
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  tear_down (&b);
}

TEST (a_failed_fill_answers_every_waiter_once)
{
  struct bed b;
  unsigned i;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  for (i = 0; i < 16; i++)
    rd (&b, bufs[i], 0, PAGE);
  answer (&b, 0, EIO);
  for (i = 0; i < 16; i++)
    assert_err (&b.task[i], EIO);
  assert_int_equal (count (&b, ORIGIN_READ), 1);

  /* And it is not remembered. */
  open_door (&b, ORIGIN_READ);
  assert_ok (rd (&b, buf, 0, PAGE));
  assert_orig (buf, 0, PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  tear_down (&b);
}

/* Victims leave as they came, in runs, and runs are kept whole for who needs them. */
TEST (a_stream_through_a_full_cache_is_read_in_whole_requests)
{
  enum { LEN = 256 * K, STREAM = 24 << 20 };
  struct bed b;
  uint64_t off;

  set_up_with (&b, world_info (STREAM), (struct world_options) { .nframes = 2000 });
  assert_ok (rd (&b, buf, 0, 13 * PAGE));
  for (off = LEN; off < STREAM; off += LEN) {
    assert_ok (rd (&b, buf, off, LEN));
    memset (&b.task[--b.ntasks], 0, sizeof b.task[0]);
  }
  assert_orig (buf, STREAM - LEN, LEN);
  assert_in_range (count (&b, ORIGIN_READ), STREAM / LEN, STREAM / LEN * 5 / 4);       /* the pool has no buffer for 256 KiB here */
  assert_true (memfile_available (b.w.mf) < 2 * 64 + 2000 / 64 + 64);
  tear_down (&b);
}

TEST (of_a_run_of_victims_what_is_dirty_in_use_or_gone_is_left_out)
{
  struct bed b;
  uint32_t picked[64], frames[64];
  uint64_t pgnos[64], pgno;
  unsigned i, n = 0, dirty = 0;

  set_up (&b);
  assert_ok (rd (&b, buf, 0, 32 * PAGE));
  assert_ok (wr (&b, ones, 5 * PAGE + 100, 10, 0));
  assert_ok (trim (&b, 9 * PAGE, PAGE));
  assert_int_equal (evict_pick (b.w.env.evict, picked, 32, EVICT_RUNS), 31);
  for (pgno = 0; pgno < 32; pgno++)
    for (i = 0; i < 31; i++)
      if (frame_owner_pgno (memfile_owner (b.w.mf, picked[i])) == pgno) {
        frames[n] = picked[i];
        pgnos[n++] = pgno;
      }
  assert_int_equal (n, 31);
  memfile_get (b.w.mf, frames[20]);
  assert_ok (trim (&b, pgnos[25] * PAGE, PAGE));        /* goes after it was chosen */
  assert_int_equal (inode_evict_run (b.ino, frames, pgnos, n, &dirty), 31 - 3);
  assert_int_equal (dirty, 1);
  assert_int_equal (memfile_in_use (b.w.mf), 2);
  assert_int_equal (evict_count (b.w.env.evict), 2);
  inode_check (b.ino);
  memfile_put (b.w.mf, frames[20]);
  clean (&b);
  assert_ok (rd (&b, buf, 0, 32 * PAGE));
  assert_orig (buf, 0, 5 * PAGE + 100);
  assert_orig (buf + 10 * PAGE, 10 * PAGE, 15 * PAGE);
  tear_down (&b);
}

/* New pages are written and fill their queue; what was read before is in the other. */
TEST (dirt_among_the_new_pages_does_not_hide_the_clean_ones)
{
  struct bed b;
  struct evict_stats st;
  unsigned i, clean;

  set_up (&b);
  assert_ok (rd (&b, buf, 0, 150 * PAGE));
  assert_true (world_reclaim (&b.w, 1));
  for (i = 0; i < 60; i += 4)
    assert_ok (wr (&b, ones, (512 + i) * PAGE, 4 * PAGE, 0));
  clean = memfile_in_use (b.w.mf) - 60;
  while (clean > 0) {
    assert_true (world_reclaim (&b.w, 1));
    clean = memfile_in_use (b.w.mf) - 60;
  }
  evict_get_stats (b.w.env.evict, &st);
  assert_true (st.dirty < 4 * 150);
  assert_false (world_reclaim (&b.w, 1));
  tear_down (&b);
}

TEST (a_hit_does_not_wait_for_a_miss)
{
  struct bed b;
  struct task *miss;

  set_up (&b);
  assert_ok (rd (&b, buf, 0, PAGE));
  close_door (&b, ORIGIN_READ);
  miss = rd (&b, bufs[0], PAGE, PAGE);          /* the same MiB, the page beside */
  assert_ok (rd (&b, bufs[1], 0, PAGE));
  assert_ok (wr (&b, ones, 2 * PAGE, PAGE, 0));
  assert_false (miss->done);
  open_door (&b, ORIGIN_READ);
  assert_ok (miss);
  tear_down (&b);
}

TEST (a_miss_fetches_its_pages_only)
{
  struct bed b;

  set_up (&b);
  assert_ok (rd (&b, buf, 3 * PAGE + 5, PAGE));
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_int_equal (origin_mem_log_at (b.o, 0).off, 3 * PAGE);
  assert_int_equal (origin_mem_log_at (b.o, 0).len, 2 * PAGE);
  tear_down (&b);
}

TEST (a_write_during_a_fill_stays)
{
  struct bed b;
  struct task *t;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  t = rd (&b, buf, 0, 3 * PAGE);
  assert_ok (wr (&b, ones, 100, 50, 0));
  assert_ok (wr (&b, ones, PAGE, PAGE, 0));
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_orig (buf, 0, 100);
  assert_is (buf + 100, 1, 50);
  assert_orig (buf + 150, 150, PAGE - 150);
  assert_is (buf + PAGE, 1, PAGE);
  assert_orig (buf + 2 * PAGE, 2 * PAGE, PAGE);
  tear_down (&b);
}

TEST (a_zero_during_a_fill_stays)
{
  struct bed b;
  struct task *t;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  close_door (&b, ORIGIN_ZERO);
  t = rd (&b, buf, 0, 2 * PAGE);
  assert_ok (zero (&b, 0, PAGE, INODE_MAY_TRIM));
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_is (buf, 0, PAGE);
  assert_orig (buf + PAGE, PAGE, PAGE);
  open_door (&b, ORIGIN_ZERO);
  assert_ok (rd (&b, buf, 0, PAGE));
  assert_is (buf, 0, PAGE);
  tear_down (&b);
}

TEST (an_error_of_a_prefetch_is_told_to_nobody)
{
  struct bed b;

  set_up (&b);
  origin_mem_fail (b.o, ORIGIN_READ, EIO, 0, 1);
  assert_int_equal (inode_prefetch (b.ino, at (0, PAGE), true), PAGE);
  assert_ok (rd (&b, buf, 0, PAGE));
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  tear_down (&b);
}

TEST (who_joins_a_failing_prefetch_is_told)
{
  struct bed b;
  struct task *t;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  inode_prefetch (b.ino, at (0, PAGE), true);
  t = rd (&b, buf, 0, PAGE);
  assert_int_equal (origin_mem_held_total (b.o), 1);
  answer (&b, 0, EIO);
  assert_err (t, EIO);
  open_door (&b, ORIGIN_READ);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Writes. */

TEST (a_whole_page_is_written_without_a_read)
{
  struct bed b;

  set_up (&b);
  assert_ok (wr (&b, ones, PAGE, 4 * PAGE, 0));
  assert_ok (rd (&b, buf, PAGE, 4 * PAGE));
  assert_is (buf, 1, 4 * PAGE);
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_READ), 0);
  tear_down (&b);
}

TEST (a_partial_write_asks_nothing_until_the_rest_is_read)
{
  struct bed b;

  set_up (&b);
  assert_ok (wr (&b, ones, 10, 20, 0));
  assert_ok (rd (&b, buf, 10, 20));
  assert_is (buf, 1, 20);
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_READ), 0);
  assert_ok (rd (&b, buf, 9, 20));
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_orig (buf, 9, 1);
  assert_is (buf + 1, 1, 19);
  tear_down (&b);
}

TEST (a_partial_write_sends_its_own_bytes)
{
  struct bed b;

  set_up (&b);
  assert_ok (wr (&b, ones, 10, 20, 0));
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_WRITE), 1);
  assert_int_equal (origin_mem_log_at (b.o, 0).off, 10);
  assert_int_equal (origin_mem_log_at (b.o, 0).len, 20);
  tear_down (&b);
}

TEST (writes_that_touch_go_out_as_one)
{
  struct bed b;
  unsigned i;

  set_up (&b);
  for (i = 0; i < 32; i++)
    assert_ok (wr (&b, ones, i * 512, 512, 0));
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_WRITE), 1);
  tear_down (&b);
}

TEST (a_page_in_more_than_eight_pieces_is_fetched_whole)
{
  struct bed b;
  unsigned i;

  set_up (&b);
  for (i = 0; i < 8; i++)
    assert_ok (wr (&b, ones, i * 100, 10, 0));
  assert_int_equal (count (&b, ORIGIN_READ), 0);
  assert_ok (wr (&b, ones, 800, 10, 0));
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_ok (rd (&b, buf, 0, PAGE));
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_is (buf + 800, 1, 10);
  assert_orig (buf + 810, 810, PAGE - 810);
  tear_down (&b);
}

TEST (a_write_during_write_back_goes_out_again)
{
  struct bed b;
  struct task *f;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  close_door (&b, ORIGIN_WRITE);
  f = flush (&b);
  assert_int_equal (origin_mem_held (b.o, ORIGIN_WRITE), 1);
  assert_ok (wr (&b, twos, 1000, 100, 0));      /* the origin judges: bytes in flight do not change */
  assert_int_equal (origin_mem_held (b.o, ORIGIN_WRITE), 1);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (f);
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_WRITE), 2);
  assert_is (origin_mem_durable (b.o), 1, 1000);
  assert_is (origin_mem_durable (b.o) + 1000, 2, 100);
  assert_is (origin_mem_durable (b.o) + 1100, 1, PAGE - 1100);
  tear_down (&b);
}

/* A byte in three is written: each goes out by itself, and 100 at once are more than a frame counts. */
TEST (a_page_that_is_sent_often_enough_travels_as_copies)
{
  static const struct world_options o = { .nframes = 64, .nwb = 256 };
  struct wb_ask ask = { .limit = RANGE_ALL, .seq = WB_SEQ_ANY, .max = 256 };
  struct origin_info info = world_info (SIZE);
  struct bed b = { .ntasks = 0 };
  uint8_t one = 1, page[PAGE];
  uint64_t taken;
  unsigned i;

  info.can_extents = false;     /* or what is read were a hole, and data as a whole once it is written to */
  world_init (&b.w, &o);
  b.ino = world_add (&b.w, &info)->ino;
  b.o = b.w.disk[0].origin;
  assert_ok (rd (&b, page, 0, PAGE));
  for (i = 0; i < 100; i++) {
    b.ntasks = 0;
    assert_ok (wr (&b, &one, 3 * i, 1, 0));
  }
  close_door (&b, ORIGIN_WRITE);
  /* 63 from the frame, and with two of the world's three buffers: the third is for others. */
  assert_int_equal (wb_start (b.ino, &ask, &taken), FRAME_MAX_SENDERS + 2);
  inode_check (b.ino);
  origin_mem_open_door (b.o, ORIGIN_WRITE);
  b.ntasks = 0;
  assert_ok (flush (&b));
  for (i = 0; i < 300; i++)
    assert_int_equal (origin_mem_durable (b.o)[i], i % 3 ? page[i] : 1);
  world_release (&b.w);
}

TEST (a_write_does_not_wait_for_write_back)
{
  struct bed b;
  struct task *f;
  unsigned i;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, 64 * K, 0));
  close_door (&b, ORIGIN_WRITE);
  f = flush (&b);
  for (i = 0; i < 16; i++)
    assert_ok (wr (&b, twos, i * PAGE, PAGE, 0));
  open_door (&b, ORIGIN_WRITE);
  assert_ok (f);
  tear_down (&b);
}

TEST (reading_writes_nothing_back)
{
  struct bed b;

  set_up (&b);
  assert_ok (rd (&b, buf, 0, 64 * K));
  assert_ok (flush (&b));
  world_turn (&b.w, NULL, true);
  assert_int_equal (count (&b, ORIGIN_WRITE) + count (&b, ORIGIN_FLUSH), 0);
  tear_down (&b);
}

TEST (a_dirty_page_does_not_leave)
{
  struct bed b;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  assert_ok (rd (&b, buf, PAGE, PAGE));
  while (world_reclaim (&b.w, 64))
    ;
  inode_invalidate (b.ino, RANGE_ALL);
  origin_mem_log_clear (b.o);
  close_door (&b, ORIGIN_READ);
  assert_ok (rd (&b, buf, 0, PAGE));
  assert_is (buf, 1, PAGE);
  open_door (&b, ORIGIN_READ);

  /* WRITING and UNSTABLE are dirty. */
  close_door (&b, ORIGIN_WRITE);
  close_door (&b, ORIGIN_FLUSH);
  flush (&b);
  assert_false (world_reclaim (&b.w, 64));
  open_door (&b, ORIGIN_WRITE);
  assert_true (inode_get_dirty (b.ino).unstable == PAGE);
  assert_false (world_reclaim (&b.w, 64));
  open_door (&b, ORIGIN_FLUSH);
  assert_true (world_reclaim (&b.w, 64));
  tear_down (&b);
}

TEST (a_writer_at_the_bound_waits_and_a_flush_goes_on)
{
  struct world_options o = { .nframes = 64, .dirty_max = 16 * PAGE, .dirty_background = 4 * PAGE };
  struct bed b;
  struct task *t, *f;

  set_up_with (&b, world_info (SIZE), o);
  close_door (&b, ORIGIN_WRITE);
  assert_ok (wr (&b, ones, 0, 16 * PAGE, 0));
  t = wr (&b, ones, 32 * PAGE, PAGE, 0);
  assert_false (t->done);
  f = flush (&b);
  assert_false (f->done);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (f);
  clock_fake_advance (&b.w.clock, NSEC_PER_SEC);
  t->woken = true;
  pump (&b);
  if (!t->done) {               /* slowed down, no longer blocked */
    clock_fake_advance (&b.w.clock, NSEC_PER_SEC);
    t->woken = true;
    pump (&b);
  }
  assert_ok (t);
  tear_down (&b);
}

TEST (a_cancelled_writer_that_waits_is_on_no_list)
{
  struct world_options o = { .nframes = 64, .dirty_max = 16 * PAGE, .dirty_background = 4 * PAGE };
  struct bed b;
  struct task *t;

  set_up_with (&b, world_info (SIZE), o);
  close_door (&b, ORIGIN_WRITE);
  assert_ok (wr (&b, ones, 0, 16 * PAGE, 0));
  t = wr (&b, twos, 32 * PAGE, PAGE, 0);
  assert_false (t->done);
  inode_op_cancel (&t->op);
  t->done = true;
  assert_int_equal (t->op.err, ECANCELED);
  t->woken = false;
  open_door (&b, ORIGIN_WRITE);
  assert_ok (flush (&b));
  assert_false (t->woken);
  assert_ok (rd (&b, buf, 32 * PAGE, PAGE));
  assert_orig (buf, 32 * PAGE, PAGE);
  tear_down (&b);
}

TEST (a_cancelled_read_leaves_its_fill_to_the_others)
{
  struct bed b;
  struct task *t, *other;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  t = rd (&b, bufs[0], 0, PAGE);
  other = rd (&b, bufs[1], 0, PAGE);
  inode_op_cancel (&t->op);
  t->done = true;
  open_door (&b, ORIGIN_READ);
  assert_ok (other);
  assert_orig (bufs[1], 0, PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Flush. */

TEST (a_flush_of_nothing_asks_nothing)
{
  struct bed b;

  set_up (&b);
  assert_ok (flush (&b));
  assert_int_equal (origin_mem_log_len (b.o), 0);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  clean (&b);
  assert_ok (flush (&b));
  assert_int_equal (origin_mem_log_len (b.o), 0);
  tear_down (&b);
}

TEST (flush_waits_for_the_reply_of_the_origins_flush)
{
  struct bed b;
  struct task *f;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  close_door (&b, ORIGIN_FLUSH);
  f = flush (&b);
  assert_int_equal (count (&b, ORIGIN_WRITE), 1);
  assert_int_equal (origin_mem_held (b.o, ORIGIN_FLUSH), 1);
  assert_false (f->done);
  assert_orig (origin_mem_durable (b.o), 0, PAGE);
  open_door (&b, ORIGIN_FLUSH);
  assert_ok (f);
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  tear_down (&b);
}

TEST (a_flush_does_not_wait_for_a_later_write)
{
  struct bed b;
  struct task *f;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  close_door (&b, ORIGIN_WRITE);
  f = flush (&b);
  assert_ok (wr (&b, twos, 8 * PAGE, PAGE, 0));
  assert_int_equal (inode_write_some (b.ino, INODE_SEQ_ALL (b.ino), 8), 1);
  assert_int_equal (origin_mem_held (b.o, ORIGIN_WRITE), 2);
  answer (&b, 0, 0);            /* only the first */
  assert_ok (f);
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  open_door (&b, ORIGIN_WRITE);
  tear_down (&b);
}

TEST (a_short_run_stays_while_something_is_under_way_and_a_flush_takes_it)
{
  struct bed b;
  unsigned i;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  close_door (&b, ORIGIN_WRITE);
  assert_int_equal (inode_write_behind (b.ino, INODE_SEQ_ALL (b.ino), false), 1);
  for (i = 0; i < 4; i++) {
    assert_ok (wr (&b, twos, (8 + i) * PAGE, PAGE, 0));
    assert_int_equal (inode_write_behind (b.ino, INODE_SEQ_ALL (b.ino), false), 0);
  }
  /* They have grown together by the time they go. */
  answer (&b, 0, 0);
  assert_int_equal (inode_write_behind (b.ino, INODE_SEQ_ALL (b.ino), false), 1);
  assert_int_equal (inode_get_dirty (b.ino).writing, 4 * PAGE);
  /* Who is asked for does not stay. */
  assert_ok (wr (&b, twos, 20 * PAGE, PAGE, 0));
  flush (&b);
  assert_int_equal (inode_get_dirty (b.ino).writing, 5 * PAGE);
  open_door (&b, ORIGIN_WRITE);
  tear_down (&b);
}

TEST (short_runs_stay_for_patience_though_nothing_is_under_way)
{
  struct bed b;
  unsigned i;

  set_up (&b);
  close_door (&b, ORIGIN_WRITE);
  for (i = 0; i < 16; i++)
    assert_ok (wr (&b, ones, 2 * i * PAGE, PAGE, 0));
  assert_int_equal (inode_write_behind (b.ino, INODE_SEQ_ALL (b.ino), true), 0);
  /* One more is too many: they are scattered. */
  assert_ok (wr (&b, ones, 2 * i * PAGE, PAGE, 0));
  assert_true (inode_write_behind (b.ino, INODE_SEQ_ALL (b.ino), true) > 0);
  open_door (&b, ORIGIN_WRITE);
  flush (&b);
  /* It has grown, or is asked for without patience. */
  close_door (&b, ORIGIN_WRITE);
  assert_ok (wr (&b, ones, 0, 4 * PAGE, 0));
  assert_int_equal (inode_write_behind (b.ino, INODE_SEQ_ALL (b.ino), true), 0);
  assert_ok (wr (&b, ones, 4 * PAGE, 4 * PAGE, 0));
  assert_int_equal (inode_write_behind (b.ino, INODE_SEQ_ALL (b.ino), true), 1);
  answer (&b, 0, 0);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  assert_int_equal (inode_write_behind (b.ino, INODE_SEQ_ALL (b.ino), true), 0);
  assert_int_equal (inode_write_behind (b.ino, INODE_SEQ_ALL (b.ino), false), 1);
  open_door (&b, ORIGIN_WRITE);
  tear_down (&b);
}

TEST (two_flushes_share_one_of_the_origins)
{
  struct bed b;
  struct task *f, *g;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  close_door (&b, ORIGIN_WRITE);
  f = flush (&b);
  g = flush (&b);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (f);
  assert_ok (g);
  assert_int_equal (count (&b, ORIGIN_FLUSH), 1);
  tear_down (&b);
}

TEST (a_flush_under_way_does_not_cover_a_write_answered_since)
{
  struct bed b;
  struct task *f, *g;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  close_door (&b, ORIGIN_FLUSH);
  f = flush (&b);
  assert_ok (wr (&b, twos, 8 * PAGE, PAGE, 0));
  g = flush (&b);
  assert_int_equal (count (&b, ORIGIN_WRITE), 2);
  answer (&b, 0, 0);
  assert_ok (f);
  assert_false (g->done);
  open_door (&b, ORIGIN_FLUSH);
  assert_ok (g);
  assert_int_equal (count (&b, ORIGIN_FLUSH), 2);
  assert_is (origin_mem_durable (b.o) + 8 * PAGE, 2, PAGE);
  tear_down (&b);
}

TEST (one_flush_covers_all_writers)
{
  struct bed b;
  unsigned i;

  set_up (&b);
  for (i = 0; i < 8; i++)
    assert_ok (wr (&b, ones, i * (512 << 10), PAGE, 0));
  assert_ok (flush (&b));
  for (i = 0; i < 8; i++)
    assert_is (origin_mem_durable (b.o) + i * (512 << 10), 1, PAGE);
  assert_int_equal (count (&b, ORIGIN_FLUSH), 1);
  tear_down (&b);
}

TEST (a_failed_flush_is_told_and_all_is_written_again)
{
  struct bed b;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  origin_mem_fail (b.o, ORIGIN_FLUSH, EIO, 0, 1);
  assert_err (flush (&b), EIO);
  assert_int_equal (inode_get_dirty (b.ino).dirty, PAGE);
  assert_int_equal (count (&b, ORIGIN_WRITE), 1);
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_WRITE), 2);
  assert_int_equal (count (&b, ORIGIN_FLUSH), 2);
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  tear_down (&b);
}

TEST (failed_bytes_stay_dirty_until_they_are_safe)
{
  struct bed b;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  origin_mem_fail (b.o, ORIGIN_WRITE, ENOSPC, 0, 2);
  assert_err (flush (&b), ENOSPC);
  assert_err (flush (&b), ENOSPC);
  while (world_reclaim (&b.w, 64))
    ;
  assert_ok (rd (&b, buf, 0, PAGE));
  assert_is (buf, 1, PAGE);
  assert_ok (flush (&b));
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  tear_down (&b);
}

/* The offset of the one request that write-behind sends now. */
static uint64_t
sends_next (struct bed *b)
{
  size_t n = origin_mem_log_len (b->o);

  assert_int_equal (inode_write_some (b->ino, INODE_SEQ_ALL (b->ino), 8), 1);
  assert_int_equal (origin_mem_log_len (b->o), n + 1);
  return origin_mem_log_at (b->o, n).off;
}

/* As when the origin came back smaller: for an hour, perhaps, nobody can write what lies behind its end. */
TEST (what_fails_again_and_again_keeps_nothing_else_from_the_origin)
{
  static const uint64_t bad[] = { MIB, MIB + 512 * K, 2 * MIB, 3 * MIB };
  struct bed b;
  unsigned i, k;

  set_up (&b);
  close_door (&b, ORIGIN_WRITE);
  close_door (&b, ORIGIN_ZERO);
  assert_ok (wr (&b, ones, bad[0], PAGE, 0));
  assert_int_equal (sends_next (&b), bad[0]);
  assert_ok (wr (&b, ones, bad[1], PAGE, 0));
  assert_ok (wr (&b, ones, 64 * K, PAGE, 0));
  assert_ok (zero (&b, bad[2], 64 * K, INODE_MAY_TRIM));
  assert_ok (zero (&b, bad[3], 64 * K, INODE_MAY_TRIM));
  assert_ok (zero (&b, 3 * MIB + 512 * K, 64 * K, INODE_MAY_TRIM));
  answer (&b, 0, ENOSPC);
  for (k = 0; k < 2; k++) {
    uint64_t good = k == 0 ? 64 * K : 3 * MIB + 512 * K;

    for (i = 0; i < 8 && sends_next (&b) != good; i++)
      answer (&b, 0, ENOSPC);
    assert_in_range (i, 0, 7);
    /* Also this fails, so that it is one at a time for the other. */
    answer (&b, 0, ENOSPC);
  }
  open_door (&b, ORIGIN_WRITE);
  open_door (&b, ORIGIN_ZERO);
  assert_ok (flush (&b));
  tear_down (&b);
}

TEST (what_a_lost_connection_did_not_flush_is_written_again)
{
  struct bed b;
  struct task *f;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  inode_write_some (b.ino, INODE_SEQ_ALL (b.ino), 8);
  assert_int_equal (inode_get_dirty (b.ino).unstable, PAGE);
  origin_mem_lose (b.o, false, true);
  assert_int_equal (inode_get_dirty (b.ino).dirty, PAGE);
  assert_ok (flush (&b));
  assert_is (origin_mem_durable (b.o), 1, PAGE);

  /* A flush that waits over the loss. */
  assert_ok (wr (&b, twos, 0, PAGE, 0));
  close_door (&b, ORIGIN_FLUSH);
  f = flush (&b);
  origin_mem_lose (b.o, false, true);
  world_turn (&b.w, NULL, false);
  pump (&b);
  assert_false (f->done);
  open_door (&b, ORIGIN_FLUSH);
  assert_ok (f);
  assert_is (origin_mem_durable (b.o), 2, PAGE);
  tear_down (&b);
}

TEST (fua_makes_its_own_range_durable_and_no_other)
{
  struct bed b;
  struct origin_mem_log l;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  assert_ok (wr (&b, twos, 8 * PAGE, PAGE, INODE_FUA));
  assert_int_equal (origin_mem_log_len (b.o), 1);
  l = origin_mem_log_at (b.o, 0);
  assert_int_equal (l.cmd, ORIGIN_WRITE);
  assert_int_equal (l.off, 8 * PAGE);
  assert_true (l.flags & ORIGIN_FUA);
  assert_is (origin_mem_durable (b.o) + 8 * PAGE, 2, PAGE);
  assert_orig (origin_mem_durable (b.o), 0, PAGE);
  tear_down (&b);
}

TEST (without_fua_at_the_origin_it_is_a_write_and_a_flush)
{
  struct origin_info info = world_info (SIZE);
  struct bed b;

  info.can_fua = false;
  set_up_with (&b, info, (struct world_options) { 0 });
  assert_ok (wr (&b, twos, 8 * PAGE, PAGE, INODE_FUA));
  assert_int_equal (count (&b, ORIGIN_WRITE), 1);
  assert_int_equal (count (&b, ORIGIN_FLUSH), 1);
  assert_is (origin_mem_durable (b.o) + 8 * PAGE, 2, PAGE);
  tear_down (&b);
}

/* nbd.B-43 */
TEST (without_flush_at_the_origin_accepted_is_enough)
{
  struct origin_info info = world_info (SIZE);
  struct bed b;
  struct task *f;

  info.can_flush = info.can_fua = false;
  set_up_with (&b, info, (struct world_options) { 0 });
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  close_door (&b, ORIGIN_WRITE);
  f = flush (&b);
  assert_false (f->done);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (f);
  assert_int_equal (count (&b, ORIGIN_FLUSH), 0);
  assert_int_equal (inode_get_dirty (b.ino).unstable, 0);
  tear_down (&b);
}

TEST (unsafe_ignores_a_flush_but_not_a_drain)
{
  struct bed b;
  struct task *t;

  set_up_with (&b, world_info (SIZE), (struct world_options) { .mode = INODE_UNSAFE });
  assert_ok (wr (&b, ones, 0, PAGE, INODE_FUA));
  assert_ok (flush (&b));
  assert_int_equal (origin_mem_log_len (b.o), 0);
  t = task (&b);
  inode_op_sync (&t->op, b.ino, RANGE_ALL, INODE_FUA);
  assert_ok (begin (&b, t));
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Written through. */

static const struct world_options through = { .mode = INODE_WRITETHROUGH };

TEST (a_written_through_write_is_not_flushed)
{
  struct bed b;
  struct task *t;

  set_up_with (&b, world_info (SIZE), through);
  close_door (&b, ORIGIN_WRITE);
  t = wr (&b, ones, 0, PAGE, 0);
  assert_false (t->done);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (t);
  assert_is (origin_mem_volatile (b.o), 1, PAGE);
  assert_int_equal (count (&b, ORIGIN_FLUSH), 0);
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_FLUSH), 1);
  tear_down (&b);
}

TEST (a_failed_write_through_leaves_no_bytes)
{
  struct bed b;

  set_up_with (&b, world_info (SIZE), through);
  assert_ok (rd (&b, buf, 0, PAGE));
  origin_mem_fail (b.o, ORIGIN_WRITE, EIO, 0, 1);
  assert_err (wr (&b, ones, 0, 100, 0), EIO);
  assert_int_equal (inode_get_dirty (b.ino).dirty, 0);
  assert_ok (rd (&b, buf, 0, PAGE));
  assert_orig (buf, 0, PAGE);
  tear_down (&b);
}

TEST (a_failed_write_through_keeps_what_was_dirty)
{
  struct bed b;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, 100, 0));
  b.w.env.mode = INODE_WRITETHROUGH;
  origin_mem_fail (b.o, ORIGIN_WRITE, EIO, 0, 1);
  assert_err (wr (&b, twos, 50, 100, 0), EIO);
  assert_int_equal (inode_get_dirty (b.ino).dirty, 100);
  assert_ok (rd (&b, buf, 0, 200));
  assert_is (buf, 1, 50);
  assert_orig (buf + 100, 100, 100);
  assert_ok (flush (&b));
  assert_is (origin_mem_durable (b.o), 1, 50);
  assert_orig (origin_mem_durable (b.o) + 100, 100, 100);
  tear_down (&b);
}

/* The first of some writes that overlap is under way and fails; the others have answers of their own.  It took their bytes
 * with its own, and they were answered as if they were at the origin.
 */
TEST (a_failed_write_through_takes_nothing_of_another_one)
{
  static const unsigned flags[] = { 0, INODE_FUA };
  struct task *t1, *t2;
  struct bed b;
  unsigned i;

  for (i = 0; i < PC_ARRAY_SIZE (flags); i++) {
    set_up_with (&b, world_info (SIZE), through);
    close_door (&b, ORIGIN_WRITE);
    t1 = wr (&b, ones, 0, PAGE, 0);
    t2 = wr (&b, twos, 0, PAGE, flags[i]);
    answer (&b, 0, EIO);
    assert_err (t1, EIO);
    assert_false (t2->done);
    open_door (&b, ORIGIN_WRITE);
    assert_ok (t2);
    assert_is (flags[i] ? origin_mem_durable (b.o) : origin_mem_volatile (b.o), 2, PAGE);
    assert_int_equal (inode_get_dirty (b.ino).dirty, 0);
    assert_ok (rd (&b, buf, 0, PAGE));
    assert_is (buf, 2, PAGE);
    tear_down (&b);
  }
}

TEST (a_failed_write_through_takes_what_is_its_own_alone)
{
  struct task *t1, *t2, *t3;
  struct bed b;

  set_up_with (&b, world_info (SIZE), through);
  close_door (&b, ORIGIN_WRITE);
  t1 = wr (&b, ones, 0, 6 * PAGE, 0);
  t2 = wr (&b, twos, PAGE + 100, PAGE, 0);
  t3 = wr (&b, ones, 2 * PAGE, 2 * PAGE, 0);
  answer (&b, 0, EIO);
  assert_err (t1, EIO);
  assert_false (t2->done || t3->done);
  assert_int_equal (inode_get_dirty (b.ino).dirty + inode_get_dirty (b.ino).writing, 3 * PAGE - 100);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (t2);
  assert_ok (t3);
  assert_orig (origin_mem_volatile (b.o), 0, PAGE + 100);
  assert_is (origin_mem_volatile (b.o) + PAGE + 100, 2, PAGE - 100);
  assert_is (origin_mem_volatile (b.o) + 2 * PAGE, 1, 2 * PAGE);
  assert_orig (origin_mem_volatile (b.o) + 4 * PAGE, 4 * PAGE, 2 * PAGE);
  assert_ok (rd (&b, buf, 0, 6 * PAGE));
  assert_memory_equal (buf, origin_mem_volatile (b.o), 6 * PAGE);
  tear_down (&b);
}

/* The second fails as well, and then nothing is left of either. */
TEST (write_throughs_that_overlap_and_all_fail_leave_no_bytes)
{
  struct task *t1, *t2, *t3;
  struct bed b;

  set_up_with (&b, world_info (SIZE), through);
  close_door (&b, ORIGIN_WRITE);
  t1 = wr (&b, ones, 0, 2 * PAGE, 0);
  t2 = wr (&b, twos, PAGE, 2 * PAGE, 0);
  t3 = wr (&b, ones, PAGE, PAGE, 0);
  answer (&b, 0, EIO);
  assert_err (t1, EIO);
  assert_false (t2->done || t3->done);
  answer (&b, 0, EIO);
  assert_err (t2, EIO);
  if (!t3->done)
    answer (&b, 0, EIO);
  assert_err (t3, EIO);
  assert_int_equal (inode_get_dirty (b.ino).dirty, 0);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (rd (&b, buf, 0, 3 * PAGE));
  assert_orig (buf, 0, 3 * PAGE);
  tear_down (&b);
}

/* The failed one's bytes lie over those of one that is under way still: that waits for them now. */
TEST (what_a_failed_write_through_leaves_goes_to_the_origin_with_what_it_lies_over)
{
  struct task *t1, *t2;
  struct bed b;

  set_up_with (&b, world_info (SIZE), through);
  close_door (&b, ORIGIN_WRITE);
  t1 = wr (&b, ones, MIB - 2 * PAGE, 2 * PAGE, 0);
  t2 = wr (&b, twos, MIB - PAGE, 2 * PAGE, 0);
  answer (&b, 1, EIO);
  assert_err (t2, EIO);
  assert_false (t1->done);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (t1);
  assert_is (origin_mem_volatile (b.o) + MIB - 2 * PAGE, 1, PAGE);
  assert_is (origin_mem_volatile (b.o) + MIB - PAGE, 2, PAGE);
  assert_int_equal (inode_get_dirty (b.ino).dirty, 0);
  assert_ok (rd (&b, buf, MIB - 2 * PAGE, 3 * PAGE));
  assert_is (buf, 1, PAGE);
  assert_is (buf + PAGE, 2, PAGE);
  assert_orig (buf + 2 * PAGE, MIB, PAGE);
  tear_down (&b);
}

/* Edges that are data included: what a zero answered is at the origin. */
TEST (a_failed_write_through_takes_nothing_of_a_zero)
{
  struct task *t1, *t2;
  struct bed b;

  set_up_with (&b, world_info (SIZE), through);
  close_door (&b, ORIGIN_WRITE);
  close_door (&b, ORIGIN_ZERO);
  t1 = wr (&b, ones, 0, 4 * PAGE, 0);
  t2 = zero (&b, 100, 3 * PAGE, INODE_MAY_TRIM);
  answer (&b, 0, EIO);
  assert_err (t1, EIO);
  assert_false (t2->done);
  open_door (&b, ORIGIN_WRITE);
  open_door (&b, ORIGIN_ZERO);
  assert_ok (t2);
  assert_is (origin_mem_volatile (b.o) + 100, 0, 3 * PAGE);
  assert_orig (origin_mem_volatile (b.o), 0, 100);
  tear_down (&b);
}

/* Its bytes lay over zeros that were on their way: a reader was sent to the origin before these were there. */
TEST (a_failed_write_through_uncovers_no_zero_under_way)
{
  struct task *t1, *t2;
  struct bed b;

  set_up_with (&b, world_info (SIZE), through);
  close_door (&b, ORIGIN_WRITE);
  close_door (&b, ORIGIN_ZERO);
  t1 = zero (&b, MIB - PAGE, PAGE, INODE_MAY_TRIM);
  t2 = wr (&b, ones, MIB - PAGE, 2 * PAGE, 0);
  assert_int_equal (origin_mem_held_total (b.o), 2);
  answer (&b, 1, EIO);
  assert_err (t2, EIO);
  assert_false (t1->done);
  assert_ok (rd (&b, buf, MIB - PAGE, PAGE));
  open_door (&b, ORIGIN_ZERO);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (t1);
  assert_ok (rd (&b, buf, MIB - PAGE, PAGE));
  assert_true (buf[0] == 0 || buf[0] == 1);
  assert_is (buf, buf[0], PAGE);
  assert_memory_equal (buf, origin_mem_volatile (b.o) + MIB - PAGE, PAGE);
  tear_down (&b);
}

/* A write of part of a page makes data of all its zeros: those are the zero's, and not the write's. */
TEST (a_failed_write_through_takes_no_zeros_that_became_data)
{
  struct task *t1, *t2, *t3;
  struct bed b;

  set_up_with (&b, world_info (SIZE), through);
  close_door (&b, ORIGIN_WRITE);
  close_door (&b, ORIGIN_ZERO);
  t1 = wr (&b, ones, 0, PAGE, 0);
  t2 = zero (&b, 0, PAGE, INODE_MAY_TRIM);      /* waits for the answer of that */
  t3 = wr (&b, twos, 50, 100, 0);
  answer (&b, 0, EIO);
  assert_err (t1, EIO);
  assert_false (t2->done || t3->done);
  open_door (&b, ORIGIN_WRITE);
  open_door (&b, ORIGIN_ZERO);
  assert_ok (t2);
  assert_ok (t3);
  assert_is (origin_mem_volatile (b.o), 0, 50);
  assert_is (origin_mem_volatile (b.o) + 50, 2, 100);
  assert_is (origin_mem_volatile (b.o) + 150, 0, PAGE - 150);
  tear_down (&b);
}

/* What a trim dropped is not looked for. */
TEST (a_failed_write_through_under_a_trim_is_told_to_its_own_client_only)
{
  struct task *t1, *t2, *t3;
  struct bed b;

  set_up_with (&b, world_info (SIZE), through);
  close_door (&b, ORIGIN_WRITE);
  close_door (&b, ORIGIN_TRIM);
  t1 = wr (&b, ones, 0, 4 * PAGE, 0);
  t2 = trim (&b, PAGE, 2 * PAGE);
  t3 = wr (&b, twos, 2 * PAGE, PAGE, 0);
  answer (&b, 0, EIO);
  assert_err (t1, EIO);
  assert_false (t2->done || t3->done);
  open_door (&b, ORIGIN_TRIM);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (t2);
  assert_ok (t3);
  assert_is (origin_mem_volatile (b.o) + 2 * PAGE, 2, PAGE);
  assert_orig (origin_mem_volatile (b.o), 0, PAGE);
  assert_orig (origin_mem_volatile (b.o) + 3 * PAGE, 3 * PAGE, PAGE);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Zeros and trims. */

TEST (trim_gives_zeros_and_then_what_the_origin_has)
{
  struct bed b;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, 2 * PAGE, 0));
  close_door (&b, ORIGIN_TRIM);
  assert_ok (trim (&b, 0, 2 * PAGE));
  assert_ok (rd (&b, buf, 0, 2 * PAGE));
  assert_is (buf, 0, 2 * PAGE);
  assert_int_equal (origin_mem_log_len (b.o), 0);
  open_door (&b, ORIGIN_TRIM);
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_TRIM), 1);
  assert_int_equal (count (&b, ORIGIN_WRITE), 0);       /* what was trimmed is not written first */
  memset (origin_mem_volatile (b.o), 7, 2 * PAGE);      /* an origin may leave anything there (N-32) */
  assert_ok (rd (&b, buf, 0, 2 * PAGE));
  assert_is (buf, 7, 2 * PAGE);
  tear_down (&b);
}

TEST (a_trim_leaves_the_edges)
{
  struct bed b;

  set_up (&b);
  assert_ok (trim (&b, 100, 2 * PAGE));
  assert_ok (rd (&b, buf, 0, 3 * PAGE));
  assert_orig (buf, 0, PAGE);
  assert_is (buf + PAGE, 0, PAGE);
  assert_orig (buf + 2 * PAGE, 2 * PAGE, PAGE);
  tear_down (&b);
}

TEST (a_trim_waits_for_the_write_before_it)
{
  struct bed b;
  struct task *f, *g;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  close_door (&b, ORIGIN_WRITE);
  f = flush (&b);
  assert_ok (trim (&b, 0, PAGE));
  g = flush (&b);
  assert_int_equal (count (&b, ORIGIN_TRIM), 0);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (f);
  assert_ok (g);
  assert_int_equal (count (&b, ORIGIN_TRIM), 1);
  tear_down (&b);
}

TEST (a_write_after_a_trim_waits_for_it)
{
  struct bed b;
  struct task *f, *g;

  set_up (&b);
  assert_ok (trim (&b, 0, 4 * PAGE));
  close_door (&b, ORIGIN_TRIM);
  f = flush (&b);
  assert_int_equal (origin_mem_held (b.o, ORIGIN_TRIM), 1);
  assert_ok (wr (&b, ones, PAGE, PAGE, 0));
  g = flush (&b);
  assert_int_equal (count (&b, ORIGIN_WRITE), 0);
  open_door (&b, ORIGIN_TRIM);
  assert_ok (f);
  assert_ok (g);
  assert_is (origin_mem_durable (b.o) + PAGE, 1, PAGE);
  tear_down (&b);
}

TEST (a_zero_that_may_be_a_hole_is_answered_at_once)
{
  struct bed b;

  set_up (&b);
  close_door (&b, ORIGIN_ZERO);
  assert_ok (zero (&b, 100, 1 << 20, INODE_MAY_TRIM));
  assert_int_equal (origin_mem_log_len (b.o), 0);
  assert_ok (rd (&b, buf, 0, (1 << 20) + PAGE));
  assert_orig (buf, 0, 100);
  assert_is (buf + 100, 0, 1 << 20);
  assert_orig (buf + 100 + (1 << 20), 100 + (1 << 20), PAGE - 100);
  open_door (&b, ORIGIN_ZERO);
  assert_ok (flush (&b));
  tear_down (&b);
}

TEST (a_zero_that_must_not_be_a_hole_is_forwarded_first)
{
  struct bed b;
  struct task *t;

  set_up (&b);
  close_door (&b, ORIGIN_ZERO);
  t = zero (&b, 0, 4 * PAGE, 0);
  assert_false (t->done);
  assert_int_equal (origin_mem_held (b.o, ORIGIN_ZERO), 1);
  assert_true (origin_mem_log_at (b.o, 0).flags & ORIGIN_NO_HOLE);
  open_door (&b, ORIGIN_ZERO);
  assert_ok (t);
  tear_down (&b);
}

TEST (fast_and_no_hole_is_refused_and_changes_nothing)
{
  struct bed b;

  set_up (&b);
  assert_err (zero (&b, 0, 4 * PAGE, INODE_FAST), ENOTSUP);
  assert_int_equal (inode_get_dirty (b.ino).dirty, 0);
  assert_ok (rd (&b, buf, 0, PAGE));
  assert_orig (buf, 0, PAGE);
  assert_ok (zero (&b, 0, 4 * PAGE, INODE_FAST | INODE_MAY_TRIM));
  tear_down (&b);
}

/* nbd.B-56 */
TEST (an_origin_that_refuses_zeros_is_sent_data)
{
  struct bed b;

  set_up (&b);
  origin_mem_fail (b.o, ORIGIN_ZERO, ENOTSUP, 0, 1);
  assert_ok (zero (&b, 0, 4 * PAGE, INODE_MAY_TRIM));
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_ZERO), 1);
  assert_int_equal (count (&b, ORIGIN_WRITE), 1);
  assert_is (origin_mem_durable (b.o), 0, 4 * PAGE);
  tear_down (&b);
}

/* Blocks of 16 KiB: half a block of zeros becomes data when the other half is written. */
TEST (a_block_of_zeros_that_is_written_into_is_sent_whole)
{
  struct origin_info info = world_info (SIZE);
  struct bed b;

  info.block_min = 16 * K;
  set_up_with (&b, info, (struct world_options) { 0 });
  assert_ok (zero (&b, 0, 32 * K, INODE_MAY_TRIM));
  assert_ok (wr (&b, ones, 5000, 10, 0));
  inode_check (b.ino);
  assert_ok (rd (&b, buf, 0, 32 * K));
  assert_is (buf, 0, 5000);
  assert_is (buf + 5000, 1, 10);
  assert_is (buf + 5010, 0, 32 * K - 5010);
  assert_ok (flush (&b));
  assert_int_equal (memcmp (origin_mem_durable (b.o), buf, 32 * K), 0);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Block status. */

struct said {
  unsigned n;
  struct {
    uint64_t off, len;
    unsigned type;
  } v[16];
};

static int
say (void *arg, uint64_t off, uint64_t len, unsigned type)
{
  struct said *s = arg;

  assert_true (s->n < 16);
  s->v[s->n].off = off;
  s->v[s->n].len = len;
  s->v[s->n++].type = type;
  return 0;
}

TEST (what_is_newer_lies_over_the_origins_extents)
{
  struct bed b;
  struct said s = { 0 };
  const unsigned hole = ORIGIN_EXTENT_HOLE | ORIGIN_EXTENT_ZERO;

  set_up (&b);
  memset (origin_mem_volatile (b.o), 0, 16 * PAGE);
  assert_ok (wr (&b, ones, PAGE, PAGE, 0));
  assert_ok (zero (&b, 16 * PAGE, PAGE, INODE_MAY_TRIM));
  assert_ok (trim (&b, 17 * PAGE, PAGE));
  assert_int_equal (inode_extents (b.ino, at (0, 20 * PAGE), false, say, &s), 0);
  assert_int_equal (s.n, 4);
  assert_int_equal (s.v[0].len, PAGE);
  assert_int_equal (s.v[0].type, hole);
  assert_int_equal (s.v[1].len, PAGE);
  assert_int_equal (s.v[1].type, 0);
  assert_int_equal (s.v[2].len, 15 * PAGE);
  assert_int_equal (s.v[2].type, hole);
  assert_int_equal (s.v[3].off + s.v[3].len, 20 * PAGE);
  assert_int_equal (s.v[3].type, 0);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Bounds, sizes, memory, ends. */

struct hear {
  struct budget *budget;
  uint64_t before, end;
  unsigned n;
};

static int
hear (void *arg, uint64_t off, uint64_t len, unsigned type)
{
  struct hear *h = arg;

  (void) type;
  assert_true (h->budget->by_class[BUDGET_META] > h->before);
  assert_int_equal (off, h->end);
  h->end = off + len;
  h->n++;
  return 0;
}

/* 256 extents; with memory for some dozens of them. */
TEST (extents_are_paid_for_and_fewer_are_told_when_memory_is_short)
{
  struct bed b;
  uint64_t all, left;
  struct hear h;
  unsigned i;

  set_up (&b);
  for (i = 0; i < 256; i += 2)
    memset (origin_mem_volatile (b.o) + i * PAGE, 0, PAGE);
  h = (struct hear) { .budget = &b.w.budget, .before = b.w.budget.by_class[BUDGET_META] };
  assert_int_equal (inode_extents (b.ino, at (0, 256 * PAGE), false, hear, &h), 0);
  assert_int_equal (h.n, 256);
  assert_int_equal (b.w.budget.by_class[BUDGET_META], h.before);

  all = budget_free_bytes (&b.w.budget);
  left = 4096;
  assert_int_equal (budget_take (&b.w.budget, BUDGET_FIXED, all - left), 0);
  h.end = h.n = 0;
  assert_int_equal (inode_extents (b.ino, at (0, 256 * PAGE), false, hear, &h), 0);
  assert_in_range (h.n, 16, 255);
  assert_int_equal (b.w.budget.by_class[BUDGET_META], h.before);
  budget_give (&b.w.budget, BUDGET_FIXED, all - left);
  tear_down (&b);
}

TEST (nothing_beyond_the_size_is_asked_or_sent)
{
  struct origin_info info = world_info (10000);
  struct bed b;
  size_t i;

  set_up_with (&b, info, (struct world_options) { 0 });
  assert_ok (rd (&b, buf, 9000, 1000));
  assert_orig (buf, 9000, 1000);
  assert_ok (wr (&b, ones, 9990, 10, 0));
  assert_ok (flush (&b));
  assert_ok (zero (&b, 5000, 5000, INODE_MAY_TRIM));
  assert_ok (flush (&b));
  assert_ok (trim (&b, 0, 10000));
  assert_ok (flush (&b));
  for (i = 0; i < origin_mem_log_len (b.o); i++)
    assert_true (origin_mem_log_at (b.o, i).off + origin_mem_log_at (b.o, i).len <= 10000);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  tear_down (&b);
}

TEST (ranges_are_checked_at_their_last_byte)
{
  struct origin_info info = world_info (10000);
  struct bed b;

  set_up_with (&b, info, (struct world_options) { 0 });
  assert_ok (rd (&b, buf, 9999, 1));
  assert_err (rd (&b, buf, 9999, 2), EINVAL);
  assert_err (rd (&b, buf, 10000, 1), EINVAL);
  assert_ok (wr (&b, ones, 9999, 1, 0));
  assert_err (wr (&b, ones, 9999, 2, 0), ENOSPC);
  assert_err (wr (&b, ones, 10000, 1, 0), ENOSPC);
  assert_err (zero (&b, 9999, 2, 0), ENOSPC);
  assert_err (trim (&b, 9999, 2), EINVAL);
  assert_err (rd (&b, buf, UINT64_MAX - 1, 1), EINVAL);
  assert_err (wr (&b, buf, INT64_MAX, PAGE, 0), ENOSPC);
  tear_down (&b);
}

TEST (an_empty_request_is_done_at_once)
{
  struct bed b;

  set_up (&b);
  origin_mem_close_all (b.o);
  assert_ok (rd (&b, buf, 5, 0));
  assert_ok (wr (&b, ones, SIZE, 0, INODE_FUA));
  assert_ok (zero (&b, 0, 0, 0));
  assert_ok (trim (&b, 0, 0));
  origin_mem_open_all (b.o);
  assert_int_equal (origin_mem_log_len (b.o), 0);
  tear_down (&b);
}

/* nbd.B-7 */
TEST (requests_larger_than_the_cache_go_in_slices)
{
  struct world_options o = { .nframes = 64 };
  struct bed b;

  set_up_with (&b, world_info (SIZE), o);
  assert_ok (rd (&b, buf, 0, SIZE));
  assert_orig (buf, 0, SIZE);
  assert_true (memfile_in_use (b.w.mf) <= 64);
  tear_down (&b);
}

/* With all stripes held where nothing is, MiB by MiB where something is: clean, dirty in part, being read, zeros. */
TEST (a_large_trim_or_zero_takes_what_is_held_on_its_way)
{
  const uint64_t big = (uint64_t) 96 << 20, m = 1 << 20;
  static uint8_t zeros[4096 * 8];
  static const uint64_t spot[] = { 3, 4, 20, 40, 41, 69, 95 };
  unsigned i, round;

  for (round = 0; round < 2; round++) {
    struct bed b;
    struct task *late, *t;

    set_up_with (&b, world_info (big), (struct world_options) { 0 });
    for (i = 0; i < 7; i++) {
      if (i % 2)
        assert_ok (wr (&b, ones, spot[i] * m + 100, PAGE, 0));
      else
        assert_ok (rd (&b, buf, spot[i] * m, PAGE));
    }
    assert_ok (zero (&b, 50 * m, m, INODE_MAY_TRIM));
    origin_mem_close_door (b.o, ORIGIN_READ);
    late = rd (&b, buf, 30 * m, PAGE);
    assert_false (late->done);

    /* Not at a MiB's start, and to the end of the export. */
    t = round ? zero (&b, m + 8 * PAGE, big - m - 8 * PAGE, INODE_MAY_TRIM) : trim (&b, m + 8 * PAGE, big - m - 8 * PAGE);
    assert_ok (t);
    inode_check (b.ino);
    origin_mem_open_door (b.o, ORIGIN_READ);
    pump (&b);
    assert_ok (late);

    assert_ok (rd (&b, buf, m, 8 * PAGE));
    assert_orig (buf, m, 8 * PAGE);
    assert_ok (rd (&b, buf, m + 8 * PAGE, 8 * PAGE));
    assert_memory_equal (buf, zeros, 8 * PAGE);
    for (i = 0; i < 7; i++) {
      assert_ok (rd (&b, buf, spot[i] * m, 8 * PAGE));
      assert_memory_equal (buf, zeros, 8 * PAGE);
    }
    assert_ok (rd (&b, buf, 30 * m, PAGE));
    assert_memory_equal (buf, zeros, PAGE);
    assert_ok (wr (&b, ones, 60 * m, PAGE, 0));
    b.ntasks = 0;
    assert_ok (flush (&b));
    assert_memory_equal (origin_mem_durable (b.o) + 20 * m, zeros, PAGE);
    assert_is (origin_mem_durable (b.o) + 60 * m, 1, PAGE);
    assert_int_equal (origin_mem_durable (b.o)[m], orig (m));
    b.ntasks = 0;
    tear_down (&b);
  }
}

/* Leave room for that many frames, and for nothing else. */
static uint64_t
take_the_rest (struct bed *b, unsigned nframes)
{
  uint64_t rest = budget_free_bytes (&b->w.budget) - (uint64_t) nframes * PAGE;

  assert_int_equal (budget_take (&b->w.budget, BUDGET_FIXED, rest), 0);
  return rest;
}

/* Two exports with 1 MiB between them answered ENOMEM: a write held all the memory there was as frames, found none for
 * tree nodes, gave the frames back, was woken by that, and so on, thousands of times a second until it had waited enough.
 */
TEST (a_write_that_could_take_every_frame_leaves_room_for_its_nodes)
{
  struct world_options o = { .nframes = 64, .dirty_max = 64 * PAGE };
  struct bed b;
  struct task *t;
  uint64_t rest;
  unsigned i;

  set_up_with (&b, world_info (SIZE), o);
  rest = take_the_rest (&b, 64);
  t = wr (&b, ones, 512 * K, 64 * PAGE, 0);
  for (i = 0; i < 10 && !t->done; i++) {
    world_turn (&b.w, NULL, false);
    clock_fake_advance (&b.w.clock, 20 * NSEC_PER_MSEC);
    t->woken = true;
    pump (&b);
  }
  assert_ok (t);
  assert_ok (rd (&b, buf, 512 * K, 64 * PAGE));
  assert_is (buf, 1, 64 * PAGE);
  budget_give (&b.w.budget, BUDGET_FIXED, rest);
  tear_down (&b);
}

TEST (a_read_that_could_take_every_frame_leaves_room_for_its_nodes)
{
  struct world_options o = { .nframes = 64 };
  struct bed b;
  uint64_t rest;

  set_up_with (&b, world_info (SIZE), o);
  rest = take_the_rest (&b, 64);
  assert_ok (rd (&b, buf, 512 * K, 300 * K));
  assert_orig (buf, 512 * K, 300 * K);
  budget_give (&b.w.budget, BUDGET_FIXED, rest);
  tear_down (&b);
}

/* Woken a hundred thousand times is not the same as having waited. */
TEST (who_finds_no_memory_waits_a_minute_and_no_longer)
{
  struct bed b;
  struct task *t;
  uint64_t rest;
  unsigned i;

  set_up (&b);
  rest = take_the_rest (&b, 1);
  t = wr (&b, ones, 0, PAGE, 0);
  assert_false (t->done);
  for (i = 0; i < 100000; i++) {
    t->woken = true;
    pump (&b);
  }
  assert_false (t->done);
  clock_fake_advance (&b.w.clock, 60 * NSEC_PER_SEC - 1);
  t->woken = true;
  pump (&b);
  assert_false (t->done);
  budget_give (&b.w.budget, BUDGET_FIXED, rest);
  inode_env_wake_memory (&b.w.env);
  pump (&b);
  assert_ok (t);
  tear_down (&b);
}

/* Bytes of metadata a page, when n places of len bytes are read or written: what each brings, and its part of the tables. */
static double
bytes_a_page (uint64_t len, uint64_t step, unsigned n, bool write, bool mixed)
{
  static uint8_t data[64 * K] = { 1 };
  unsigned i, pages = n * (len < PAGE ? 1 : (unsigned) (len / PAGE));
  uint64_t all = 4 * (uint64_t) pages * PAGE, before, after;
  const struct world_options o = { .nframes = pages + 256, .dirty_max = all, .dirty_background = all };
  struct origin_info info = world_info (n * step);
  struct bed b = { .ntasks = 0 };

  info.can_extents = false;
  world_init (&b.w, &o);
  b.ino = world_add (&b.w, &info)->ino;
  b.o = b.w.disk[0].origin;
  before = b.w.budget.by_class[BUDGET_META];
  for (i = 0; i < n; i++) {
    /* An odd factor visits each of a power of two of places once. */
    uint64_t off = (mixed ? i * 40503u % n : i) * step;

    b.ntasks = 0;
    assert_ok (write ? wr (&b, data, off, len, 0) : rd (&b, data, off, len));
  }
  after = b.w.budget.by_class[BUDGET_META];
  assert_int_equal (memfile_in_use (b.w.mf), pages);
  world_release (&b.w);
  return (double) (after - before) / pages + (memfile_table_bytes (1 << 20) + evict_size (1 << 20)) / (double) (1 << 20);
}

/* goals.md, Memory. */
TEST (metadata_stays_within_its_bounds)
{
  static const struct { const char *what; uint64_t len, step; unsigned n; bool write, mixed; int most; } rows[] = {
    { "clean, scattered", PAGE, 64 * K, 8192, false, false, 48 },
    { "clean, scattered, in any order", PAGE, 64 * K, 16384, false, true, 48 },
    { "clean, in clusters", 64 * K, 192 * K, 1024, false, false, 28 },
    { "dirty, scattered", PAGE, 64 * K, 8192, true, false, 96 },
    { "dirty, scattered, in any order", PAGE, 64 * K, 8192, true, true, 96 },
    { "a part of it dirty", 512, 64 * K, 8192, true, false, 96 },
  };
  unsigned i;

  for (i = 0; i < PC_ARRAY_SIZE (rows); i++) {
    double each = bytes_a_page (rows[i].len, rows[i].step, rows[i].n, rows[i].write, rows[i].mixed);

    print_message ("%s: %.1f bytes a page, at most %d\n", rows[i].what, each, rows[i].most);
    assert_true (each <= rows[i].most);
  }
}

/* What waits for the origin is counted to see whether the client is ahead by itself: without the read that asks. */
TEST (large_reads_one_at_a_time_are_helped)
{
  struct bed b;
  uint64_t off;

  set_up_with (&b, world_info (SIZE), (struct world_options) { .nframes = 2048, .readahead = 2 * MIB });
  for (off = 0; off < 3 * 512 * K; off += 512 * K)
    assert_ok (rd (&b, buf, off, 512 * K));
  assert_true (inode_get_stats (b.ino)->readahead_bytes > 0);
  tear_down (&b);
}

/* What was there already was taken for what could not be had: the stream stopped in front of it, each time. */
TEST (what_is_fetched_ahead_reaches_over_what_is_there)
{
  struct inode_stats *st;
  struct bed b;
  uint64_t off;

  set_up_with (&b, world_info (SIZE), (struct world_options) { .nframes = 2048, .readahead = 2 * MIB });
  st = inode_get_stats (b.ino);
  assert_ok (rd (&b, buf, MIB, 512 * K));
  for (off = 0; off < MIB + 512 * K; off += 32 * K)
    assert_ok (rd (&b, buf, off, 32 * K));
  st->misses = 0;
  assert_ok (rd (&b, buf, MIB + 512 * K, 32 * K));
  assert_int_equal (st->misses, 0);
  assert_orig (buf, MIB + 512 * K, 32 * K);
  tear_down (&b);
}

TEST (an_inode_takes_16_KiB)
{
  const struct world_options o = { .nframes = 64, .readahead = MIB };
  const struct origin_info info = world_info (SIZE);
  struct world w;
  struct origin *origin;
  struct inode *ino;
  uint64_t before;

  world_init (&w, &o);
  before = w.budget.by_class[BUDGET_META];
  assert_int_equal (origin_mem_create (&info, &origin), 0);
  origin->most_conns = 4;
  assert_int_equal (inode_create (&w.env, origin, 1, "world", &ino), 0);
  print_message ("%u bytes\n", (unsigned) (w.budget.by_class[BUDGET_META] - before));
  assert_true (w.budget.by_class[BUDGET_META] - before <= 16 * K);
  inode_free (ino);
  origin_close (origin);
  assert_int_equal (w.budget.by_class[BUDGET_META], before);
  world_release (&w);
}

TEST (an_inode_goes_with_its_pages)
{
  struct bed b;

  set_up (&b);
  assert_ok (rd (&b, buf, 0, 64 * K));
  assert_ok (wr (&b, ones, 128 * K, 64 * K, 0));
  assert_ok (zero (&b, 1 << 20, 1 << 20, INODE_MAY_TRIM));
  tear_down (&b);               /* world_release counts frames and budget */
}

/* A little of everything; each op is done, perhaps with ENOMEM, and what it said it did is there. */
static bool
some_work (struct bed *b)
{
  struct task *t;
  bool all = true, wrote;
  unsigned i;

  t = wr (b, ones, 100, 50, 0);
  wrote = t->done && t->op.err == 0;
  all &= wrote;
  for (i = 0; i < 20; i++) {
    t = wr (b, twos, PAGE * (2 + 2 * i) + 10 * i, 300, 0);
    all &= t->done && t->op.err == 0;
  }
  all &= zero (b, 1 << 20, 1 << 20, INODE_MAY_TRIM)->done;
  t = rd (b, buf, 0, PAGE);
  all &= t->done && t->op.err == 0;
  if (wrote && t->done && t->op.err == 0)
    assert_is (buf + 100, 1, 50);
  all &= flush (b)->done;
  return all;
}

TEST (every_allocation_may_fail)
{
  unsigned long nth = 0;
  bool fine;

  do {
    struct bed b;
    unsigned i, tries;

    set_up (&b);
    world_fail_alloc_nth ((long) nth);
    fine = some_work (&b) && world_allocs () <= nth;
    world_fail_alloc_nth (-1);
    /* Who waits for memory looks again by and by. */
    for (tries = 0; tries < 20; tries++) {
      clock_fake_advance (&b.w.clock, 20 * NSEC_PER_MSEC);
      for (i = 0; i < b.ntasks; i++)
        b.task[i].woken = !b.task[i].done;
      pump (&b);
    }
    for (i = 0; i < b.ntasks; i++) {
      assert_true (b.task[i].done);
      assert_true (b.task[i].op.err == 0 || b.task[i].op.err == ENOMEM);
    }
    b.ntasks = 0;
    assert_ok (flush (&b));
    tear_down (&b);
    nth++;
    assert_true (nth < 1000);
  } while (!fine);
  printf ("# %lu allocations failed, one at a time\n", nth - 1);
  assert_true (nth > 3);
}

/*----------------------------------------------------------------------*/
/* What stood in the way of others. */

/* As after four thousand million flushes. */
static void
set_generation (struct bed *b, uint32_t seq)
{
  b->ino->seq = b->ino->gen[0].lo = b->ino->gen[0].hi = seq;
}

TEST (generations_wrap_and_nothing_is_forgotten)
{
  struct bed b;
  uint32_t before;

  for (before = 1; before < 9; before++) {
    unsigned i;

    set_up (&b);
    set_generation (&b, UINT32_MAX - before);
    /* Dirty since before the wrap, while others make generation after generation. */
    assert_ok (wr (&b, ones, 0, PAGE, 0));
    assert_ok (zero (&b, MIB, PAGE, INODE_MAY_TRIM));
    for (i = 0; i < 8; i++)
      assert_ok (wr (&b, twos, 64 * K, PAGE, INODE_FUA));
    assert_ok (wr (&b, twos, 0, 10, INODE_FUA));
    assert_is (origin_mem_durable (b.o), 2, 10);
    assert_ok (zero (&b, MIB, PAGE, INODE_MAY_TRIM | INODE_FUA));
    assert_is (origin_mem_durable (b.o) + MIB, 0, PAGE);
    assert_ok (flush (&b));
    assert_is (origin_mem_durable (b.o) + 10, 1, PAGE - 10);
    tear_down (&b);
  }
}

/* D7: 64 KiB fail for one bad sector at their end; the first page is good. */
TEST (an_error_elsewhere_in_a_fill_is_not_the_joiners)
{
  struct bed b;
  struct task *all, *first;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  all = rd (&b, buf, 0, 64 * K);
  first = rd (&b, bufs[0], 0, 100);
  answer (&b, 0, EIO);
  assert_err (all, EIO);
  open_door (&b, ORIGIN_READ);
  assert_ok (first);
  assert_orig (bufs[0], 0, 100);
  tear_down (&b);
}

TEST (an_error_of_what_is_read_ahead_is_asked_again_for_the_part_that_is_wanted)
{
  struct bed b;
  struct task *t;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  inode_prefetch (b.ino, at (0, 64 * K), true);
  t = rd (&b, bufs[0], 0, PAGE);
  answer (&b, 0, EIO);
  assert_false (t->done);
  assert_int_equal (origin_mem_held_total (b.o), 1);
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_orig (bufs[0], 0, PAGE);
  tear_down (&b);
}

/* A disk of 4 EiB with one dirty page: naming what is lost walks over what is dirty, not over the disk. */
static int
count_range (void *arg, struct range r)
{
  uint64_t *n = arg;

  n[0]++;
  n[1] += range_len (r);
  return 0;
}

TEST (naming_what_is_dirty_does_not_walk_over_the_disk)
{
  struct bed b;
  uint64_t n[2] = { 0 };

  set_up (&b);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  assert_ok (wr (&b, ones, MIB - PAGE, 3 * PAGE, 0));
  b.ino->size = INT64_MAX;
  alarm (5);
  assert_int_equal (inode_dirty_ranges (b.ino, count_range, n), 0);
  alarm (0);
  b.ino->size = SIZE;
  assert_true (n[0] == 2 || n[0] == 3);
  assert_int_equal (n[1], 4 * PAGE);
  tear_down (&b);
}

/* One export's origin is away and its dirt stays; the other's is well. */
TEST (an_export_whose_origin_is_away_does_not_stop_the_writers_of_another)
{
  struct bed b;
  struct world_options o = { .nframes = 256 };
  struct origin_info info = world_info (SIZE);
  struct origin *o1;
  struct inode *i1;
  struct task *t;
  unsigned i;

  set_up_with (&b, info, o);
  o1 = b.o;
  i1 = b.ino;
  close_door (&b, ORIGIN_WRITE);
  origin_mem_away (b.o, true);
  for (i = 0; i < 128; i++) {   /* the bound is 512 KiB */
    t = task (&b);
    inode_op_write (&t->op, b.ino, ones, at (i * PAGE, PAGE), 0);
    begin (&b, t);
    if (!t->done)
      break;
    b.ntasks--;
  }
  b.o = world_add (&b.w, &info)->origin;
  b.ino = b.w.disk[1].ino;
  t = wr (&b, twos, 0, PAGE, 0);
  for (i = 0; i < 1000 && !t->done; i++) {
    clock_fake_advance (&b.w.clock, 50 * NSEC_PER_MSEC);
    world_turn (&b.w, NULL, false);
    b.task[0].woken = b.task[0].begun && !b.task[0].done;
    t->woken = true;
    pump (&b);
  }
  assert_ok (t);
  t = flush (&b);
  for (i = 0; i < 1000 && !t->done; i++) {
    clock_fake_advance (&b.w.clock, 50 * NSEC_PER_MSEC);
    world_turn (&b.w, NULL, false);
    t->woken = true;
    pump (&b);
  }
  assert_ok (t);
  b.o = o1;
  b.ino = i1;
  origin_mem_away (b.o, false);
  open_door (&b, ORIGIN_WRITE);
  for (i = 0; i < 100; i++) {
    clock_fake_advance (&b.w.clock, 50 * NSEC_PER_MSEC);
    world_turn (&b.w, NULL, false);
    b.task[0].woken = b.task[0].begun && !b.task[0].done;
    pump (&b);
  }
  tear_down (&b);
}

/* The last client has gone and the origin is full: asked now and then, not as fast as it answers. */
/* Each request reads the rest of a block of 64 KiB, in a buffer of the pool's, which has three. */
TEST (an_export_whose_origin_is_away_leaves_buffers_for_another)
{
  struct bed b;
  struct world_options o = { .nframes = 256 };
  struct origin_info info = world_info (SIZE);
  struct origin *o1;
  struct inode *i1;
  unsigned i;

  set_up_with (&b, info, o);
  o1 = b.o;
  i1 = b.ino;
  i1->block_min = 2 * PAGE;
  close_door (&b, ORIGIN_READ);
  for (i = 0; i < 8; i++)
    assert_ok (wr (&b, ones, i * 4 * PAGE, PAGE, 0));
  flush (&b);
  assert_int_equal (origin_mem_held (b.o, ORIGIN_READ), 2);
  b.o = world_add (&b.w, &info)->origin;
  b.ino = b.w.disk[1].ino;
  b.ino->block_min = 2 * PAGE;
  assert_ok (wr (&b, twos, 0, PAGE, 0));
  assert_ok (flush (&b));
  assert_is (origin_mem_durable (b.o), 2, PAGE);
  b.o = o1;
  b.ino = i1;
  open_door (&b, ORIGIN_READ);
  assert_ok (&b.task[8]);
  tear_down (&b);
}

TEST (an_origin_that_refuses_is_not_asked_without_pause_after_the_last_close)
{
  struct bed b;
  unsigned i;

  set_up (&b);
  origin_mem_fail (b.o, ORIGIN_WRITE, ENOSPC, 0, 100000);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  for (i = 0; i < 1000; i++)
    world_turn (&b.w, &b.w.disk[0], true);
  assert_true (count (&b, ORIGIN_WRITE) < 5);
  origin_mem_fail (b.o, ORIGIN_WRITE, 0, 0, 0);
  tear_down (&b);
}

/* The front of every origin ends the program for a request that is too long. */
TEST (an_origins_largest_request_need_not_be_whole_pages)
{
  struct bed b;
  struct origin_info info = world_info (SIZE);

  info.block_max = 9 * 1024;
  set_up_with (&b, info, (struct world_options) { 0 });
  assert_ok (rd (&b, buf, 0, 64 * K));
  assert_orig (buf, 0, 64 * K);
  assert_ok (wr (&b, ones, MIB, 64 * K, 0));
  assert_ok (zero (&b, 2 * MIB, 64 * K, INODE_MAY_TRIM));
  assert_ok (flush (&b));
  assert_is (origin_mem_durable (b.o) + MIB, 1, 64 * K);
  tear_down (&b);
}

/* The origin refused a write some time ago; readers that are in each other's way wait as ever. */
TEST (a_refused_write_does_not_fail_reads_that_wait_for_frames)
{
  struct bed b;
  struct task *big, *small;
  unsigned i;

  set_up_with (&b, world_info (SIZE), (struct world_options) { .nframes = 32 });
  origin_mem_fail (b.o, ORIGIN_WRITE, ENOSPC, 0, 1);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  assert_err (flush (&b), ENOSPC);
  close_door (&b, ORIGIN_READ);
  big = rd (&b, buf, MIB, 256 * K);
  small = rd (&b, bufs[0], 2 * MIB, PAGE);
  assert_false (big->done);
  assert_false (small->done);
  open_door (&b, ORIGIN_READ);
  for (i = 0; i < 100; i++) {
    clock_fake_advance (&b.w.clock, 50 * NSEC_PER_MSEC);
    small->woken = !small->done;
    big->woken = !big->done;
    pump (&b);
  }
  assert_ok (small);
  assert_ok (big);
  tear_down (&b);
}

/* Clean zero knowledge is the first to go (D13): more of it than memory holds. */
TEST (holes_that_are_known_make_room)
{
  struct bed b = { 0 };
  struct world_options o = { .nframes = 64, .spare = 64 * K };
  struct origin_info info = world_info ((uint64_t) 128 << 20);
  uint64_t off;

  world_init (&b.w, &o);
  b.o = world_add (&b.w, &info)->origin;
  b.ino = b.w.disk[0].ino;
  for (off = 0; off < info.size; off += 2 * PAGE) {
    assert_ok (zero (&b, off, PAGE, INODE_MAY_TRIM));
    b.ntasks = 0;
    if (off % (64 * K) == 0) {
      assert_ok (flush (&b));
      b.ntasks = 0;
    }
  }
  assert_ok (flush (&b));
  assert_ok (wr (&b, ones, PAGE, PAGE, 0));
  assert_ok (rd (&b, bufs[0], 3 * PAGE, PAGE));
  assert_ok (flush (&b));
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Zeros that were written, and writers beside an origin that is gone. */

TEST (zeros_that_were_written_go_out_as_a_zero_request)
{
  static uint8_t data[512 * K];
  struct origin_mem_log l;
  struct bed b;

  /* Data, 128 KiB of zeros, data; and zeros that are too few to be worth it. */
  set_up (&b);
  memset (data, 1, sizeof data);
  memset (data + 128 * K, 0, 128 * K);
  memset (data + 320 * K, 0, 32 * K);
  assert_ok (wr (&b, data, 0, sizeof data, 0));
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_ZERO), 1);
  l = origin_mem_log_at (b.o, 1);
  assert_int_equal (l.cmd, ORIGIN_ZERO);
  assert_int_equal (l.flags & ORIGIN_NO_HOLE, ORIGIN_NO_HOLE);
  assert_int_equal (l.off, 128 * K);
  assert_int_equal (l.len, 128 * K);
  assert_memory_equal (origin_mem_durable (b.o), data, sizeof data);
  tear_down (&b);
}

TEST (what_only_begins_with_zeros_is_data)
{
  static uint8_t data[256 * K];
  struct bed b;

  set_up (&b);
  memset (data, 1, sizeof data);
  memset (data + 64 * K, 0, 64 * K);
  data[128 * K - 1] = 7;
  assert_ok (wr (&b, data, 0, sizeof data, 0));
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_ZERO), 0);
  assert_memory_equal (origin_mem_durable (b.o), data, sizeof data);
  tear_down (&b);
}

TEST (written_zeros_that_the_origin_refuses_as_such_are_sent_as_data)
{
  struct bed b;

  set_up (&b);
  origin_mem_fail (b.o, ORIGIN_ZERO, EINVAL, 0, 1);
  memset (buf, 0, 256 * K);
  assert_ok (wr (&b, buf, 0, 256 * K, 0));
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_ZERO), 1);
  assert_memory_equal (origin_mem_durable (b.o), buf, 256 * K);
  assert_ok (wr (&b, buf, 512 * K, 256 * K, 0));
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_ZERO), 1);
  tear_down (&b);
}

TEST (an_origin_that_never_answers_does_not_stop_writers_of_another)
{
  struct world_options o = { .nframes = 1024, .dirty_max = 256 * K, .dirty_background = 64 * K };
  struct world_disk *other;
  struct inode *dead;
  struct task *t;
  struct bed b;
  unsigned i;

  set_up_with (&b, world_info (SIZE), o);
  other = world_add (&b.w, &(struct origin_info) {
      .size = SIZE, .can_flush = true, .block_min = 1, .block_max = 1 << 20 });
  dead = b.ino;
  origin_mem_away (b.o, true);
  for (i = 0; i < 4; i++)
    assert_ok (wr (&b, ones, i * 64 * K, 64 * K, 0));
  t = wr (&b, ones, 512 * K, PAGE, 0);
  assert_false (t->done);               /* it has all of cache-dirty-max */
  world_turn (&b.w, NULL, false);

  /* Much more than the bound, 16 KiB at a time, cleaned as it comes. */
  b.ino = other->ino;
  for (i = 0; i < 24; i++) {
    struct task *w = wr (&b, twos, i * 16 * K, 16 * K, 0);
    unsigned turns = 0;

    while (!w->done && turns++ < 10) {
      world_turn (&b.w, NULL, false);
      clock_fake_advance (&b.w.clock, 50 * NSEC_PER_MSEC);
      w->woken = true;
      pump (&b);
    }
    assert_ok (w);
  }
  assert_false (t->done);
  origin_mem_away (b.o, false);
  for (i = 0; i < 10 && !t->done; i++) {
    world_turn (&b.w, NULL, true);
    t->woken = true;
    pump (&b);
  }
  assert_ok (t);
  b.ino = dead;
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Short hits. */

static unsigned
heat (struct bed *b)
{
  unsigned sum = 0;
  uint32_t f;

  for (f = 0; f < memfile_max (b->w.mf); f++)
    sum += b->w.env.evict->heat[f];
  return sum;
}

TEST (what_is_there_is_copied_without_an_op)
{
  struct bed b;
  uint64_t hits, reads;
  unsigned before;

  set_up (&b);
  assert_ok (rd (&b, buf, 0, 128 * K));
  assert_ok (rd (&b, buf, MIB - 4 * PAGE, 8 * PAGE));
  hits = inode_get_stats (b.ino)->hits;
  reads = count (&b, ORIGIN_READ);
  memset (buf, 0xee, sizeof buf);
  before = heat (&b);
  assert_true (inode_read_hit (b.ino, buf, at (3 * PAGE, PAGE)));
  assert_int_equal (heat (&b), before + 1);
  assert_orig (buf, 3 * PAGE, PAGE);
  assert_true (inode_read_hit (b.ino, buf, at (PAGE - 1, 2)));
  assert_int_equal (heat (&b), before + 3);
  assert_orig (buf, PAGE - 1, 2);
  assert_orig (buf + 2, 3 * PAGE + 2, PAGE - 2);
  assert_true (inode_read_hit (b.ino, buf, at (128 * K - 1, 1)));
  assert_int_equal (inode_get_stats (b.ino)->hits, hits + 4);
  assert_int_equal (count (&b, ORIGIN_READ), reads);
  tear_down (&b);
}

TEST (what_wants_more_than_a_copy_is_left_to_an_op)
{
  struct bed b;
  uint64_t hits;

  set_up (&b);
  assert_ok (rd (&b, buf, 0, 128 * K));
  assert_ok (rd (&b, buf, MIB - 4 * PAGE, 8 * PAGE));
  assert_ok (zero (&b, 8 * PAGE, PAGE, 0));
  assert_int_equal (inode_prefetch (b.ino, at (2 * MIB, 4 * PAGE), true), 4 * PAGE);
  hits = inode_get_stats (b.ino)->hits;
  memset (buf, 0xee, sizeof buf);
  /* Too long for one hold; half of it is not there; in two stripes; zeros; nobody has read it yet. */
  assert_false (inode_read_hit (b.ino, buf, at (10 * PAGE, 64 * K + 1)));
  assert_false (inode_read_hit (b.ino, buf, at (128 * K - 1, 2)));
  assert_false (inode_read_hit (b.ino, buf, at (128 * K, 1)));
  assert_false (inode_read_hit (b.ino, buf, at (MIB - PAGE, 2 * PAGE)));
  assert_false (inode_read_hit (b.ino, buf, at (8 * PAGE, 512)));
  assert_false (inode_read_hit (b.ino, buf, at (2 * MIB, PAGE)));
  assert_int_equal (inode_get_stats (b.ino)->hits, hits);
  assert_int_equal (buf[0], 0xee);
  assert_true (inode_read_hit (b.ino, buf, at (10 * PAGE, 64 * K)));
  assert_orig (buf, 10 * PAGE, 64 * K);
  /* Once it was read it is like any other. */
  assert_ok (rd (&b, buf, 2 * MIB, PAGE));
  assert_true (inode_read_hit (b.ino, buf, at (2 * MIB, PAGE)));
  assert_false (inode_read_hit (b.ino, buf, at (2 * MIB, 2 * PAGE)));

  /* The origin is another one, or ends before. */
  atomic_store (&b.ino->failed_err, EIO);
  assert_false (inode_read_hit (b.ino, buf, at (0, PAGE)));
  atomic_store (&b.ino->failed_err, 0);
  atomic_store (&b.ino->end, 2 * PAGE);
  assert_false (inode_read_hit (b.ino, buf, at (PAGE, PAGE + 1)));
  assert_true (inode_read_hit (b.ino, buf, at (PAGE, PAGE)));
  atomic_store (&b.ino->end, b.ino->size);
  clean (&b);
  tear_down (&b);
}

/* Read-ahead must hear of it. */
TEST (a_hit_that_a_stream_may_follow_is_left_to_an_op)
{
  struct bed b;

  set_up_with (&b, world_info (SIZE), (struct world_options) { .nframes = 2048, .readahead = 2 * MIB });
  assert_ok (rd (&b, buf, PAGE, PAGE));
  assert_true (inode_read_hit (b.ino, buf, at (PAGE, PAGE)));
  assert_ok (rd (&b, buf, 2 * PAGE, PAGE));
  assert_ok (rd (&b, buf, 3 * PAGE, PAGE));
  assert_true (atomic_load (&b.ino->ra_places) != 0);
  assert_false (inode_read_hit (b.ino, buf, at (PAGE, PAGE)));
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Counters. */

TEST (hits_and_misses_are_blocks)
{
  struct inode_stats *st;
  struct bed b;

  set_up (&b);
  assert_ok (rd (&b, buf, 0, 4 * PAGE));
  st = inode_get_stats (b.ino);
  assert_int_equal (st->misses, 4);
  assert_int_equal (st->hits, 0);
  assert_ok (rd (&b, buf, PAGE, 2 * PAGE));
  st = inode_get_stats (b.ino);
  assert_int_equal (st->hits, 2);
  /* Half of it is there; the ends are in the middle of pages. */
  assert_ok (rd (&b, buf, 2 * PAGE + 10, 4 * PAGE));
  st = inode_get_stats (b.ino);
  assert_int_equal (st->hits, 4);
  assert_int_equal (st->misses, 7);
  tear_down (&b);
}

/* They are counted with the stripe's lock, in 32 bits. */
TEST (hits_of_all_stripes_are_told_and_none_is_lost)
{
  struct bed b;
  uint64_t off;

  set_up (&b);
  for (off = 0; off < SIZE; off += MIB)
    assert_ok (rd (&b, buf, off, PAGE));
  for (off = 0; off < SIZE; off += MIB)
    assert_ok (rd (&b, buf, off, PAGE));
  assert_int_equal (inode_get_stats (b.ino)->hits, SIZE / MIB);
  assert_int_equal (inode_get_stats (b.ino)->hits, SIZE / MIB);

  atomic_store (&b.ino->stripe[0].lock.tally, (UINT32_C (1) << 30) - 1);
  assert_ok (rd (&b, buf, 0, PAGE));
  assert_int_equal (atomic_load (&b.ino->stripe[0].lock.tally), 0);
  assert_int_equal (inode_get_stats (b.ino)->hits, SIZE / MIB + (UINT64_C (1) << 30));
  tear_down (&b);
}

TEST (what_was_fetched_ahead_and_dropped_unread_is_counted)
{
  struct inode_stats *st;
  struct bed b;

  set_up (&b);
  st = inode_get_stats (b.ino);
  assert_int_equal (inode_prefetch (b.ino, at (0, 8 * PAGE), true), 8 * PAGE);
  assert_int_equal (st->readahead_bytes, 8 * PAGE);
  assert_ok (rd (&b, buf, 0, 3 * PAGE));
  while (world_reclaim (&b.w, 64))
    ;
  assert_int_equal (st->readahead_wasted, 5 * PAGE);
  assert_int_equal (st->evicted, 8);
  tear_down (&b);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (sixteen_readers_of_a_page_are_one_read_of_the_origin),
    cmocka_unit_test (a_failed_fill_answers_every_waiter_once),
    cmocka_unit_test (a_stream_through_a_full_cache_is_read_in_whole_requests),
    cmocka_unit_test (of_a_run_of_victims_what_is_dirty_in_use_or_gone_is_left_out),
    cmocka_unit_test (dirt_among_the_new_pages_does_not_hide_the_clean_ones),
    cmocka_unit_test (a_hit_does_not_wait_for_a_miss),
    cmocka_unit_test (a_miss_fetches_its_pages_only),
    cmocka_unit_test (a_write_during_a_fill_stays),
    cmocka_unit_test (a_zero_during_a_fill_stays),
    cmocka_unit_test (an_error_of_a_prefetch_is_told_to_nobody),
    cmocka_unit_test (who_joins_a_failing_prefetch_is_told),
    cmocka_unit_test (a_whole_page_is_written_without_a_read),
    cmocka_unit_test (a_partial_write_asks_nothing_until_the_rest_is_read),
    cmocka_unit_test (a_partial_write_sends_its_own_bytes),
    cmocka_unit_test (writes_that_touch_go_out_as_one),
    cmocka_unit_test (a_page_in_more_than_eight_pieces_is_fetched_whole),
    cmocka_unit_test (a_write_during_write_back_goes_out_again),
    cmocka_unit_test (a_page_that_is_sent_often_enough_travels_as_copies),
    cmocka_unit_test (a_write_does_not_wait_for_write_back),
    cmocka_unit_test (reading_writes_nothing_back),
    cmocka_unit_test (a_dirty_page_does_not_leave),
    cmocka_unit_test (a_writer_at_the_bound_waits_and_a_flush_goes_on),
    cmocka_unit_test (a_cancelled_writer_that_waits_is_on_no_list),
    cmocka_unit_test (a_cancelled_read_leaves_its_fill_to_the_others),
    cmocka_unit_test (a_flush_of_nothing_asks_nothing),
    cmocka_unit_test (flush_waits_for_the_reply_of_the_origins_flush),
    cmocka_unit_test (a_flush_does_not_wait_for_a_later_write),
    cmocka_unit_test (a_short_run_stays_while_something_is_under_way_and_a_flush_takes_it),
    cmocka_unit_test (short_runs_stay_for_patience_though_nothing_is_under_way),
    cmocka_unit_test (two_flushes_share_one_of_the_origins),
    cmocka_unit_test (a_flush_under_way_does_not_cover_a_write_answered_since),
    cmocka_unit_test (one_flush_covers_all_writers),
    cmocka_unit_test (a_failed_flush_is_told_and_all_is_written_again),
    cmocka_unit_test (failed_bytes_stay_dirty_until_they_are_safe),
    cmocka_unit_test (what_fails_again_and_again_keeps_nothing_else_from_the_origin),
    cmocka_unit_test (what_a_lost_connection_did_not_flush_is_written_again),
    cmocka_unit_test (fua_makes_its_own_range_durable_and_no_other),
    cmocka_unit_test (without_fua_at_the_origin_it_is_a_write_and_a_flush),
    cmocka_unit_test (without_flush_at_the_origin_accepted_is_enough),
    cmocka_unit_test (unsafe_ignores_a_flush_but_not_a_drain),
    cmocka_unit_test (a_written_through_write_is_not_flushed),
    cmocka_unit_test (a_failed_write_through_leaves_no_bytes),
    cmocka_unit_test (a_failed_write_through_keeps_what_was_dirty),
    cmocka_unit_test (a_failed_write_through_takes_nothing_of_another_one),
    cmocka_unit_test (a_failed_write_through_takes_what_is_its_own_alone),
    cmocka_unit_test (write_throughs_that_overlap_and_all_fail_leave_no_bytes),
    cmocka_unit_test (what_a_failed_write_through_leaves_goes_to_the_origin_with_what_it_lies_over),
    cmocka_unit_test (a_failed_write_through_takes_nothing_of_a_zero),
    cmocka_unit_test (a_failed_write_through_uncovers_no_zero_under_way),
    cmocka_unit_test (a_failed_write_through_takes_no_zeros_that_became_data),
    cmocka_unit_test (a_failed_write_through_under_a_trim_is_told_to_its_own_client_only),
    cmocka_unit_test (trim_gives_zeros_and_then_what_the_origin_has),
    cmocka_unit_test (a_trim_leaves_the_edges),
    cmocka_unit_test (a_trim_waits_for_the_write_before_it),
    cmocka_unit_test (a_write_after_a_trim_waits_for_it),
    cmocka_unit_test (a_zero_that_may_be_a_hole_is_answered_at_once),
    cmocka_unit_test (a_zero_that_must_not_be_a_hole_is_forwarded_first),
    cmocka_unit_test (fast_and_no_hole_is_refused_and_changes_nothing),
    cmocka_unit_test (an_origin_that_refuses_zeros_is_sent_data),
    cmocka_unit_test (a_block_of_zeros_that_is_written_into_is_sent_whole),
    cmocka_unit_test (what_is_newer_lies_over_the_origins_extents),
    cmocka_unit_test (extents_are_paid_for_and_fewer_are_told_when_memory_is_short),
    cmocka_unit_test (nothing_beyond_the_size_is_asked_or_sent),
    cmocka_unit_test (ranges_are_checked_at_their_last_byte),
    cmocka_unit_test (an_empty_request_is_done_at_once),
    cmocka_unit_test (requests_larger_than_the_cache_go_in_slices),
    cmocka_unit_test (a_large_trim_or_zero_takes_what_is_held_on_its_way),
    cmocka_unit_test (a_write_that_could_take_every_frame_leaves_room_for_its_nodes),
    cmocka_unit_test (a_read_that_could_take_every_frame_leaves_room_for_its_nodes),
    cmocka_unit_test (who_finds_no_memory_waits_a_minute_and_no_longer),
    cmocka_unit_test (metadata_stays_within_its_bounds),
    cmocka_unit_test (large_reads_one_at_a_time_are_helped),
    cmocka_unit_test (what_is_fetched_ahead_reaches_over_what_is_there),
    cmocka_unit_test (an_inode_takes_16_KiB),
    cmocka_unit_test (an_inode_goes_with_its_pages),
    cmocka_unit_test (every_allocation_may_fail),
    cmocka_unit_test (zeros_that_were_written_go_out_as_a_zero_request),
    cmocka_unit_test (what_only_begins_with_zeros_is_data),
    cmocka_unit_test (written_zeros_that_the_origin_refuses_as_such_are_sent_as_data),
    cmocka_unit_test (an_origin_that_never_answers_does_not_stop_writers_of_another),
    cmocka_unit_test (what_is_there_is_copied_without_an_op),
    cmocka_unit_test (what_wants_more_than_a_copy_is_left_to_an_op),
    cmocka_unit_test (a_hit_that_a_stream_may_follow_is_left_to_an_op),
    cmocka_unit_test (hits_and_misses_are_blocks),
    cmocka_unit_test (hits_of_all_stripes_are_told_and_none_is_lost),
    cmocka_unit_test (generations_wrap_and_nothing_is_forgotten),
    cmocka_unit_test (an_error_elsewhere_in_a_fill_is_not_the_joiners),
    cmocka_unit_test (an_error_of_what_is_read_ahead_is_asked_again_for_the_part_that_is_wanted),
    cmocka_unit_test (naming_what_is_dirty_does_not_walk_over_the_disk),
    cmocka_unit_test (an_export_whose_origin_is_away_does_not_stop_the_writers_of_another),
    cmocka_unit_test (an_export_whose_origin_is_away_leaves_buffers_for_another),
    cmocka_unit_test (an_origin_that_refuses_is_not_asked_without_pause_after_the_last_close),
    cmocka_unit_test (an_origins_largest_request_need_not_be_whole_pages),
    cmocka_unit_test (a_refused_write_does_not_fail_reads_that_wait_for_frames),
    cmocka_unit_test (holes_that_are_known_make_room),
    cmocka_unit_test (what_was_fetched_ahead_and_dropped_unread_is_counted),
  };

  return cmocka_run_group_tests (tests, fill_patterns, NULL);
}
