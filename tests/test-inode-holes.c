/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-inode-holes - where does the origin hold nothing, and what do clients hear of it?
 *
 * As test-inode: a clock that stands still, an origin with doors.  Or its block status is said by hand: lie (), asked[].
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inode-bed.h"

static uint8_t buf[SIZE];

static void
read_zeros (struct bed *b, uint64_t off, uint64_t len)
{
  struct task *t;

  forget_tasks (b);
  memset (buf, 0xff, len);
  t = rd (b, buf, off, len);
  assert_ok (t);
  assert_is (buf, 0, len);
}

/*----------------------------------------------------------------------*/
/* Holes that are found by reading. */

#define HOLE_BUF (256 * K)

static uint32_t
frames (struct bed *b)
{
  return memfile_in_use (b->w.mf);
}

TEST (a_hole_costs_one_read_one_question_and_no_frame)
{
  struct bed b;
  uint64_t off;

  set_up_hole (&b, 40 << 20, (struct world_options) { 0 });
  for (off = 0; off < 40 << 20; off += HOLE_BUF)
    read_zeros (&b, off, HOLE_BUF);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_int_equal (count (&b, ORIGIN_STATUS), 1);
  assert_int_equal (frames (&b), 0);
  tear_down (&b);
}

TEST (behind_a_hole_the_next_window_is_asked_about_and_not_read)
{
  struct bed b;
  uint64_t mib = 1 << 20;

  set_up_hole (&b, 400 * mib, (struct world_options) { 0 });
  read_zeros (&b, 127 * mib, HOLE_BUF);
  read_zeros (&b, 0, HOLE_BUF);         /* the window has a beginning as well */
  assert_int_equal (count (&b, ORIGIN_STATUS), 1);
  read_zeros (&b, 128 * mib - PAGE, 2 * PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_int_equal (count (&b, ORIGIN_STATUS), 2);
  /* That one was twice as long. */
  read_zeros (&b, 384 * mib - PAGE, PAGE);
  assert_int_equal (count (&b, ORIGIN_STATUS), 2);
  read_zeros (&b, 384 * mib, 16 * mib / 16);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_int_equal (count (&b, ORIGIN_STATUS), 3);
  assert_int_equal (frames (&b), 0);
  tear_down (&b);
}

TEST (a_disk_full_of_data_is_never_asked_for_holes)
{
  struct bed b;
  uint64_t off;

  set_up (&b);
  for (off = 0; off < SIZE; off += 64 * K) {
    forget_tasks (&b);
    assert_ok (rd (&b, buf, off, 64 * K));
  }
  assert_int_equal (count (&b, ORIGIN_STATUS), 0);
  tear_down (&b);
}

TEST (zeros_that_are_data_are_asked_about_once_and_then_less_and_less)
{
  struct bed b;
  uint64_t i;

  /* One page of each 64 KiB is zero, which is no hole worth speaking of. */
  set_up_with (&b, world_info (SIZE), (struct world_options) { .nframes = 2048 });
  for (i = 0; i < SIZE; i += 64 * K)
    memset (origin_mem_volatile (b.o) + i, 0, PAGE);
  for (i = 0; i < SIZE; i += 64 * K) {
    forget_tasks (&b);
    assert_ok (rd (&b, buf, i, PAGE));
  }
  assert_int_equal (count (&b, ORIGIN_STATUS), 1);
  inode_forget_holes (b.ino);
  inode_invalidate (b.ino, RANGE_ALL);
  tear_down (&b);
}

TEST (who_reads_on_behind_zeros_waits_for_the_answer)
{
  struct bed b;
  struct task *near, *far;

  set_up_hole (&b, 64 << 20, (struct world_options) { 0 });
  close_door (&b, ORIGIN_STATUS);
  read_zeros (&b, 0, HOLE_BUF);
  near = rd (&b, buf, HOLE_BUF, HOLE_BUF);
  far = rd (&b, buf + HOLE_BUF, 60 << 20, PAGE);
  assert_false (near->done);
  assert_ok (far);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  open_door (&b, ORIGIN_STATUS);
  assert_ok (near);
  assert_is (buf, 0, HOLE_BUF);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  assert_int_equal (frames (&b), 0);
  tear_down (&b);
}

TEST (nobody_waits_long_for_an_answer_about_holes)
{
  struct bed b;
  struct task *t;

  set_up_hole (&b, 64 << 20, (struct world_options) { 0 });
  close_door (&b, ORIGIN_STATUS);
  read_zeros (&b, 0, PAGE);
  t = rd (&b, buf, PAGE, PAGE);
  assert_false (t->done);
  assert_true (t->op.wake_at_ns > 0);
  assert_true (t->op.wake_at_ns <= clock_now (&b.w.clock.base) + NSEC_PER_SEC);
  clock_fake_advance (&b.w.clock, t->op.wake_at_ns - clock_now (&b.w.clock.base));
  t->woken = true;
  pump (&b);
  assert_ok (t);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  open_door (&b, ORIGIN_STATUS);
  tear_down (&b);
}

TEST (a_cancelled_read_that_waits_for_an_answer_is_on_no_list)
{
  struct bed b;
  struct task *t;

  set_up_hole (&b, 64 << 20, (struct world_options) { 0 });
  close_door (&b, ORIGIN_STATUS);
  read_zeros (&b, 0, PAGE);
  t = rd (&b, buf, PAGE, PAGE);
  assert_false (t->done);
  inode_op_cancel (&t->op);
  t->done = true;
  open_door (&b, ORIGIN_STATUS);
  assert_false (t->woken);
  tear_down (&b);
}

TEST (what_was_written_before_the_answer_is_no_hole)
{
  struct bed b;

  set_up_hole (&b, 64 << 20, (struct world_options) { 0 });
  close_door (&b, ORIGIN_STATUS);
  read_zeros (&b, 0, PAGE);
  assert_int_equal (origin_mem_held (b.o, ORIGIN_STATUS), 1);
  assert_int_equal (origin_mem_log_at (b.o, 1).cmd, ORIGIN_STATUS);     /* the odd ones look when they come */
  forget_tasks (&b);
  assert_ok (wr (&b, ones, 8 * PAGE, PAGE, 0));
  clean (&b);
  world_reclaim (&b.w, 1024);
  assert_int_equal (frames (&b), 0);
  assert_ok (wr (&b, twos, 16 * PAGE, 100, 0));
  open_door (&b, ORIGIN_STATUS);
  forget_tasks (&b);
  assert_ok (rd (&b, buf, 7 * PAGE, 3 * PAGE));
  assert_is (buf, 0, PAGE);
  assert_is (buf + PAGE, 1, PAGE);
  assert_is (buf + 2 * PAGE, 0, PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 1);        /* of just that page */
  assert_ok (rd (&b, buf, 16 * PAGE, PAGE));
  assert_is (buf, 2, 100);
  assert_is (buf + 100, 0, PAGE - 100);
  tear_down (&b);
}

TEST (a_write_into_a_hole_is_data_and_the_rest_stays_a_hole)
{
  struct bed b;

  set_up_hole (&b, 64 << 20, (struct world_options) { 0 });
  read_zeros (&b, 0, PAGE);
  forget_tasks (&b);
  assert_ok (wr (&b, ones, 10 * PAGE + 100, PAGE, 0));
  assert_ok (rd (&b, buf, 9 * PAGE, 4 * PAGE));
  assert_is (buf, 0, PAGE + 100);
  assert_is (buf + PAGE + 100, 1, PAGE);
  assert_is (buf + 2 * PAGE + 100, 0, 2 * PAGE - 100);
  clean (&b);
  world_reclaim (&b.w, 1024);
  assert_ok (rd (&b, buf, 9 * PAGE, 4 * PAGE));
  assert_is (buf + PAGE + 100, 1, PAGE);
  assert_is (buf + 2 * PAGE + 100, 0, 2 * PAGE - 100);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  tear_down (&b);
}

TEST (holes_are_forgotten_with_the_connection_and_with_the_clean_pages)
{
  struct bed b;

  set_up_hole (&b, 64 << 20, (struct world_options) { 0 });
  read_zeros (&b, 0, HOLE_BUF);
  origin_mem_lose (b.o, false, false);
  read_zeros (&b, HOLE_BUF, HOLE_BUF);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  read_zeros (&b, 4 * HOLE_BUF, HOLE_BUF);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  inode_invalidate (b.ino, RANGE_ALL);
  read_zeros (&b, 8 * HOLE_BUF, HOLE_BUF);
  assert_int_equal (count (&b, ORIGIN_READ), 3);
  assert_int_equal (count (&b, ORIGIN_STATUS), 3);
  tear_down (&b);
}

TEST (an_answer_from_before_the_connection_was_lost_teaches_nothing)
{
  struct bed b;

  set_up_hole (&b, 64 << 20, (struct world_options) { 0 });
  close_door (&b, ORIGIN_STATUS);
  read_zeros (&b, 0, PAGE);
  origin_mem_lose (b.o, false, false);
  open_door (&b, ORIGIN_STATUS);
  read_zeros (&b, PAGE, PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  tear_down (&b);
}

TEST (an_answer_that_fails_teaches_nothing_and_stops_nobody)
{
  struct bed b;
  struct task *t;

  set_up_hole (&b, 64 << 20, (struct world_options) { 0 });
  close_door (&b, ORIGIN_STATUS);
  read_zeros (&b, 0, PAGE);
  t = rd (&b, buf, PAGE, PAGE);
  answer (&b, 0, EIO);
  assert_ok (t);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  open_door (&b, ORIGIN_STATUS);
  tear_down (&b);
}

TEST (what_is_known_of_holes_is_bounded)
{
  struct bed b;
  uint64_t i, k;

  /* Every other page of 64 MiB is a hole: 8192 of them, and room for 64 + 1024 / 16. */
  set_up_hole (&b, 64 << 20, (struct world_options) { 0 });
  for (i = PAGE; i < 64 << 20; i += 2 * PAGE)
    origin_mem_volatile (b.o)[i] = 1;
  for (k = 0; k < 8; k++) {
    inode_ask_holes (b.ino, k * 8 << 20);
    i = k * 8 << 20;
    forget_tasks (&b);
    assert_ok (rd (&b, buf, i, PAGE));
    assert_is (buf, 0, PAGE);
    assert_ok (rd (&b, buf, i + PAGE, PAGE));
    assert_is (buf, 1, 1);
  }
  assert_true (budget_free_bytes (&b.w.budget) > 0);
  inode_check (b.ino);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Block status by hand. */

static struct origin front, *behind;     /* what the inode asks, and who answers all but block status */
static void (*answer_status) (struct origin_req *);     /* NULL: it waits in asked[] */
static struct origin_req *asked[16];
static unsigned nasked;

static void
lie_submit (struct origin *o, struct origin_req *req)
{
  (void) o;
  if (req->cmd != ORIGIN_STATUS)
    behind->ops->submit (behind, req);
  else if (answer_status)
    answer_status (req);
  else {
    assert_true (nasked < 16);
    asked[nasked++] = req;
  }
}

static void
lie_drive (struct origin *o, void *what, struct waiter *w, uint64_t until_ns)
{
  (void) o;
  behind->ops->drive (behind, what, w, until_ns);
}

static unsigned
lie_depth (struct origin *o)
{
  (void) o;
  return origin_depth (behind);
}

static bool
lie_is_up (struct origin *o)
{
  (void) o;
  return origin_is_up (behind);
}

static const struct origin_ops liar = {
  .name = "liar", .submit = lie_submit, .drive = lie_drive, .depth = lie_depth, .is_up = lie_is_up,
};

static void
lie (struct bed *b, void (*how) (struct origin_req *))
{
  behind = b->o;
  memset (&front, 0, sizeof front);
  front.ops = &liar;
  front.info = b->o->info;
  b->ino->origin = &front;
  answer_status = how;
  nasked = 0;
}

static void
be_honest (struct bed *b)
{
  b->ino->origin = b->o;
}

/* A disk that is larger than anybody has memory for; nothing behind the first 4 MiB is read or written. */
static void
pretend (struct bed *b, uint64_t size)
{
  b->o->info.size = b->ino->size = b->ino->end = b->ino->end_told = size;
}

static void
say_all (struct origin_req *req, unsigned type)
{
  req->extent (req, req->off, req->len, type);
  req->done (req, 0);
}

#define HOLE (ORIGIN_EXTENT_HOLE | ORIGIN_EXTENT_ZERO)

TEST (an_answer_that_says_nothing_teaches_nothing)
{
  struct bed b;

  set_up_hole (&b, SIZE, (struct world_options) { 0 });
  lie (&b, NULL);
  read_zeros (&b, 0, PAGE);
  assert_int_equal (nasked, 1);
  asked[0]->done (asked[0], 0);
  read_zeros (&b, PAGE, PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  assert_int_equal (nasked, 2);         /* nor is it taken for an answer */
  say_all (asked[1], HOLE);
  read_zeros (&b, 2 * PAGE, PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  tear_down (&b);
}

/* A question that was sent again on another connection. */
TEST (an_answer_that_begins_anew_is_taken_from_where_it_was)
{
  struct origin_req *q;
  struct bed b;

  set_up_hole (&b, SIZE, (struct world_options) { 0 });
  origin_mem_volatile (b.o)[MIB] = 1;
  lie (&b, NULL);
  read_zeros (&b, 0, PAGE);
  q = asked[0];
  q->extent (q, 0, MIB, HOLE);
  q->extent (q, 0, MIB / 2, HOLE);
  q->extent (q, MIB / 2, MIB / 2, 0);
  q->extent (q, MIB, MIB, 0);
  q->extent (q, 2 * MIB, 2 * MIB, HOLE);
  q->done (q, 0);
  read_zeros (&b, 0, MIB);
  read_zeros (&b, 2 * MIB, 2 * MIB);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_ok (rd (&b, buf, MIB, PAGE));
  assert_is (buf, 1, 1);
  tear_down (&b);
}

TEST (a_hole_that_fills_no_block_is_none)
{
  struct bed b;
  struct origin_req *q;

  set_up_with (&b, with_blocks (SIZE, 16 * K, 1 << 20), (struct world_options) { 0 });
  memset (origin_mem_volatile (b.o), 0, 16 * K);
  memset (origin_mem_volatile (b.o) + MIB, 0, 64 * K);
  lie (&b, NULL);
  assert_ok (rd (&b, buf, 0, 16 * K));
  assert_int_equal (nasked, 1);
  q = asked[0];
  q->extent (q, 0, 16 * K + 100, 0);
  q->extent (q, 16 * K + 100, 8 * K, HOLE);             /* inside a block */
  q->extent (q, 24 * K + 100, MIB - 24 * K - 100 + 4 * K, 0);
  q->extent (q, MIB + 4 * K, 40 * K, HOLE);             /* all of two, some of two others */
  q->extent (q, MIB + 44 * K, 100, 0);
  q->extent (q, MIB + 44 * K + 100, 8 * K, HOLE);       /* and the answer ends in one */
  q->done (q, 0);
  origin_mem_log_clear (b.o);
  assert_ok (rd (&b, buf, 16 * K, 16 * K));
  assert_orig (buf, 16 * K, 16 * K);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_ok (rd (&b, buf, MIB + 16 * K, 16 * K));
  assert_is (buf, 0, 16 * K);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_ok (rd (&b, buf, MIB + 48 * K, 4 * K));
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  assert_ok (rd (&b, buf, MIB, 4 * K));
  assert_int_equal (count (&b, ORIGIN_READ), 3);
  tear_down (&b);
}

TEST (a_small_disk_that_is_all_hole_is_known_to_be)
{
  struct bed b;

  set_up_hole (&b, 32 * K, (struct world_options) { 0 });
  read_zeros (&b, 0, PAGE);
  assert_int_equal (count (&b, ORIGIN_STATUS), 1);
  assert_true (b.ino->holes.some);
  read_zeros (&b, PAGE, 28 * K);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  tear_down (&b);
}

TEST (who_asked_in_vain_nine_times_lets_zeros_pass)
{
  const uint64_t window = 128 * MIB;
  struct bed b;
  unsigned i;

  set_up_hole (&b, SIZE, (struct world_options) { 0 });
  pretend (&b, 16 * window);
  lie (&b, NULL);
  for (i = 1; i <= 9; i++) {
    nasked = 0;
    inode_ask_holes (b.ino, i * window);
    assert_int_equal (nasked, 1);
    assert_true (asked[0]->off == i * window);
    say_all (asked[0], 0);
  }
  assert_false (b.ino->holes.some);
  nasked = 0;
  for (i = 0; i < 256; i++) {
    read_zeros (&b, i * PAGE, PAGE);
    assert_int_equal (nasked, 0);
  }
  read_zeros (&b, i * PAGE, PAGE);
  assert_int_equal (nasked, 1);
  say_all (asked[0], 0);
  tear_down (&b);
}

TEST (windows_double_up_to_a_gibibyte_while_all_is_hole)
{
  const uint64_t window = 128 * MIB;
  static const unsigned len[] = { 1, 2, 4, 8, 8, 8 };
  uint64_t at = 0;
  struct bed b;
  unsigned i;

  set_up_hole (&b, SIZE, (struct world_options) { 0 });
  pretend (&b, 64 * window);
  lie (&b, NULL);
  for (i = 0; i < 6; i++) {
    nasked = 0;
    inode_ask_holes (b.ino, at);
    assert_int_equal (nasked, 1);
    assert_true (asked[0]->off == at);
    assert_true (asked[0]->len == len[i] * window);
    say_all (asked[0], HOLE);
    at += len[i] * window;
  }
  /* Where it was not all, from the start again. */
  nasked = 0;
  inode_ask_holes (b.ino, at);
  asked[0]->extent (asked[0], at, window, HOLE);
  asked[0]->extent (asked[0], at + window, asked[0]->len - window, 0);
  asked[0]->done (asked[0], 0);
  at += 8 * window;
  nasked = 0;
  inode_ask_holes (b.ino, at);
  assert_true (asked[0]->len == window);
  say_all (asked[0], 0);
  tear_down (&b);
}

TEST (four_questions_at_a_time_and_none_twice)
{
  const uint64_t window = 128 * MIB;
  struct bed b;
  unsigned i;

  set_up_hole (&b, SIZE, (struct world_options) { 0 });
  pretend (&b, 16 * window);
  lie (&b, NULL);
  for (i = 0; i < 6; i++)
    inode_ask_holes (b.ino, 2 * i * window);
  assert_int_equal (nasked, 4);
  for (i = 0; i < 4; i++)
    say_all (asked[i], HOLE);
  for (i = 0; i < 4; i++)
    inode_ask_holes (b.ino, 2 * i * window + MIB);
  assert_int_equal (nasked, 4);
  inode_ask_holes (b.ino, 8 * window);
  assert_int_equal (nasked, 5);
  inode_ask_holes (b.ino, 8 * window + MIB);            /* under way */
  assert_int_equal (nasked, 5);
  say_all (asked[4], 0);
  tear_down (&b);
}

/* A last page that the disk does not fill is whole as it is. */
TEST (a_hole_reaches_to_the_end_of_a_disk_that_ends_inside_a_page)
{
  struct bed b;

  set_up_hole (&b, SIZE + 512, (struct world_options) { 0 });
  lie (&b, NULL);
  read_zeros (&b, 0, PAGE);
  say_all (asked[0], HOLE);
  read_zeros (&b, SIZE, 512);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  tear_down (&b);
}

TEST (zeros_count_again_once_a_question_was_worth_it)
{
  const uint64_t window = 128 * MIB;
  struct bed b;
  unsigned i;

  set_up_hole (&b, SIZE, (struct world_options) { 0 });
  pretend (&b, 16 * window);
  lie (&b, NULL);
  for (i = 1; i <= 7; i++) {
    nasked = 0;
    inode_ask_holes (b.ino, i * window);
    say_all (asked[0], i == 6 ? HOLE : 0);
  }
  /* One in vain since: the next two go by. */
  nasked = 0;
  read_zeros (&b, 0, PAGE);
  read_zeros (&b, PAGE, PAGE);
  assert_int_equal (nasked, 0);
  read_zeros (&b, 2 * PAGE, PAGE);
  assert_int_equal (nasked, 1);
  say_all (asked[0], 0);
  tear_down (&b);
}

static void
say_every_other_page (struct origin_req *req, unsigned n)
{
  unsigned i;

  for (i = 0; i < n; i++)
    req->extent (req, req->off + i * PAGE, PAGE, i % 2 ? 0 : HOLE);
  req->done (req, 0);
}

TEST (as_many_holes_as_may_be_known_are_and_one_more_drops_the_old)
{
  const uint64_t window = 128 * MIB;
  struct bed b;
  uint64_t most;

  set_up_hole (&b, SIZE, (struct world_options) { .spare = 1 << 20 });
  pretend (&b, 4 * window);
  lie (&b, NULL);
  most = holes_most (b.ino);
  inode_ask_holes (b.ino, 0);
  say_every_other_page (asked[0], 2 * (unsigned) (most - 1));
  assert_int_equal (b.ino->nzeros, most - 1);
  inode_ask_holes (b.ino, window);
  say_every_other_page (asked[1], 2);
  assert_int_equal (b.ino->nzeros, most);
  inode_ask_holes (b.ino, 2 * window);
  say_every_other_page (asked[2], 2);
  assert_int_equal (b.ino->nzeros, 1);
  tear_down (&b);
}

TEST (what_a_fill_brings_into_a_hole_found_meanwhile_is_not_kept)
{
  struct bed b;
  struct task *t;

  set_up_hole (&b, SIZE, (struct world_options) { 0 });
  lie (&b, NULL);
  inode_ask_holes (b.ino, 0);
  close_door (&b, ORIGIN_READ);
  t = rd (&b, buf, 0, 4 * PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  say_all (asked[0], HOLE);
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_is (buf, 0, 4 * PAGE);
  assert_true (rangeset_is_empty (&inode_stripe (b.ino, 0)->map));
  tear_down (&b);
}

/* Write these pages, one after the other, while a question is open whose answer says that all is hole; nothing of them is in
 * memory when it comes.  Of page 15, between them, it teaches something or not.
 */
static void
write_while_asked (const unsigned *page, unsigned n, bool teaches)
{
  struct bed b;
  unsigned i;

  set_up_hole (&b, SIZE, (struct world_options) { 0 });
  lie (&b, NULL);
  inode_ask_holes (b.ino, 0);
  for (i = 0; i < n; i++) {
    forget_tasks (&b);
    assert_ok (wr (&b, ones, page[i] * PAGE, PAGE, 0));
    assert_ok (flush (&b));
  }
  while (world_reclaim (&b.w, 8))
    ;
  assert_true (rangeset_is_empty (&inode_stripe (b.ino, 0)->map));
  say_all (asked[0], HOLE);
  for (i = 0; i < n; i++) {
    forget_tasks (&b);
    assert_ok (rd (&b, buf, page[i] * PAGE, PAGE));
    assert_is (buf, 1, PAGE);
  }
  origin_mem_log_clear (b.o);
  read_zeros (&b, 15 * PAGE, PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), teaches ? 0 : 1);
  assert_int_equal (nasked, teaches ? 1 : 2);
  if (!teaches)
    say_all (asked[1], 0);
  tear_down (&b);
}

TEST (what_was_written_beside_and_beside_that_is_no_hole)
{
  write_while_asked ((const unsigned[]) { 8, 9, 7, 8, 20, 19, 21 }, 7, true);
}

TEST (more_writes_than_a_question_can_note_make_it_teach_nothing)
{
  unsigned page[17], i;

  for (i = 0; i < 17; i++)
    page[i] = 2 * i;
  write_while_asked (page, 16, true);
  write_while_asked (page, 17, false);
}

TEST (an_answer_without_memory_teaches_nothing_and_hurts_nobody)
{
  struct bed b;

  set_up_hole (&b, SIZE, tight_options ());
  b.w.env.most_spare_nodes = 0;
  lie (&b, NULL);
  read_zeros (&b, 0, PAGE);
  world_refuse (true);
  say_all (asked[0], HOLE);
  world_refuse (false);
  inode_check (b.ino);
  read_zeros (&b, PAGE, PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 2);

  /* And no memory for the question: it is not asked. */
  inode_forget_holes (b.ino);
  nasked = 0;
  world_refuse (true);
  inode_ask_holes (b.ino, 0);
  world_refuse (false);
  assert_int_equal (nasked, 0);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Extents. */

struct said {
  unsigned n, stop_at;
  uint64_t start, end;
  unsigned type[8];
};

static int
say (void *arg, uint64_t off, uint64_t len, unsigned type)
{
  struct said *s = arg;

  assert_true (len > 0);
  if (s->n == 0)
    s->start = off;
  else
    assert_true (off == s->end);
  s->end = off + len;
  if (s->n < 8)
    s->type[s->n] = type;
  return ++s->n == s->stop_at ? ENOMEM : 0;
}

static void
says_nothing (struct origin_req *req)
{
  req->done (req, 0);
}

static void
says_a_little (struct origin_req *req)
{
  req->extent (req, req->off, PAGE, HOLE);
  req->done (req, 0);
}

static void
says_too_much (struct origin_req *req)
{
  uint64_t off;

  for (off = req->off; off < req->off + req->len; off += PAGE)
    req->extent (req, off, PAGE, off / PAGE % 2 ? HOLE : 0);
  req->done (req, 0);
}

static void
must_not_be_asked (struct origin_req *req)
{
  fail_msg ("block status was asked for %llu bytes", (unsigned long long) req->len);
}

/* N-55 */
TEST (what_the_origin_does_not_say_is_data)
{
  struct origin_info info = with_blocks (SIZE, 16 * K, 1 << 20);
  struct said s = { 0 };
  struct bed b;

  set_up_with (&b, info, (struct world_options) { 0 });
  lie (&b, says_nothing);
  assert_int_equal (inode_extents (b.ino, at (0, MIB), false, say, &s), 0);
  assert_int_equal (s.n, 1);
  assert_true (s.end == MIB);
  assert_int_equal (s.type[0], 0);

  /* Of a block it said something that lies before what was asked. */
  be_honest (&b);
  lie (&b, says_a_little);
  s = (struct said) { 0 };
  assert_int_equal (inode_extents (b.ino, at (5000, MIB), true, say, &s), 0);
  assert_int_equal (s.n, 1);
  assert_true (s.start == 5000 && s.end == 5000 + MIB);
  assert_int_equal (s.type[0], 0);

  /* It said a part: that is told, and no more. */
  s = (struct said) { 0 };
  assert_int_equal (inode_extents (b.ino, at (0, MIB), false, say, &s), 0);
  assert_int_equal (s.n, 1);
  assert_true (s.start == 0 && s.end == PAGE);
  assert_int_equal (s.type[0], HOLE);

  be_honest (&b);
  origin_mem_fail (b.o, ORIGIN_STATUS, EIO, 0, 1);
  s = (struct said) { 0 };
  assert_int_equal (inode_extents (b.ino, at (0, MIB), false, say, &s), 0);
  assert_int_equal (s.type[0], 0);
  assert_true (s.end == MIB);
  tear_down (&b);
}

TEST (an_origin_without_block_status_is_never_asked)
{
  struct origin_info info = world_info (SIZE);
  struct said s = { 0 };
  struct bed b;

  info.can_extents = false;
  set_up_with (&b, info, (struct world_options) { 0 });
  lie (&b, must_not_be_asked);
  memset (origin_mem_volatile (b.o), 0, SIZE);
  assert_ok (rd (&b, buf, 0, 64 * K));
  assert_ok (rd (&b, buf, 64 * K, 64 * K));
  inode_ask_holes (b.ino, 0);
  assert_int_equal (inode_extents (b.ino, at (0, MIB), false, say, &s), 0);
  assert_int_equal (s.n, 1);
  assert_int_equal (s.type[0], 0);
  tear_down (&b);
}

TEST (a_question_longer_than_the_protocols_largest_is_not_asked)
{
  struct said s = { 0 };
  struct bed b;

  set_up_hole (&b, SIZE, (struct world_options) { 0 });
  pretend (&b, 16 * 1024 * MIB);
  lie (&b, must_not_be_asked);
  assert_int_equal (inode_extents (b.ino, at (0, 4096 * MIB), false, say, &s), 0);
  assert_int_equal (s.n, 1);
  assert_true (s.end == 4096 * MIB);
  assert_int_equal (s.type[0], 0);
  tear_down (&b);
}

TEST (more_extents_than_are_kept_are_told_up_to_there)
{
  struct said s = { 0 };
  struct bed b;

  set_up_hole (&b, SIZE, (struct world_options) { 0 });
  pretend (&b, 256 * MIB);
  lie (&b, says_too_much);
  assert_int_equal (inode_extents (b.ino, at (0, 64 * MIB), false, say, &s), 0);
  assert_int_equal (s.n, 4096);
  assert_true (s.end == 4096 * PAGE);
  assert_int_equal (s.type[0], 0);
  assert_int_equal (s.type[1], HOLE);
  tear_down (&b);
}

TEST (more_dirty_extents_than_are_kept_are_told_up_to_there)
{
  enum { N = 4200 };
  struct world_options o = { .nframes = N + 100, .dirty_max = 64 << 20, .dirty_background = 64 << 20 };
  struct said s = { 0 }, rest = { 0 };
  struct bed b;
  uint64_t i;

  set_up_hole (&b, 40 * MIB, o);
  for (i = 0; i < N; i++) {
    forget_tasks (&b);
    assert_ok (wr (&b, ones, 2 * i * PAGE, PAGE, 0));
  }
  assert_int_equal (inode_extents (b.ino, at (0, 40 * MIB), false, say, &s), 0);
  assert_true (s.start == 0);
  assert_true (s.end == (2 * 4095 + 1) * PAGE);
  assert_int_equal (s.n, 2 * 4095 + 1);
  assert_int_equal (inode_extents (b.ino, at (s.end, 40 * MIB - s.end), false, say, &rest), 0);
  assert_true (rest.end == 40 * MIB);
  assert_int_equal (rest.n, 2 * (N - 4096) + 1);
  tear_down (&b);
}

TEST (extents_end_with_the_first_error_and_need_no_memory)
{
  struct said s = { .stop_at = 2 };
  struct bed b;
  int err;

  set_up (&b);
  memset (origin_mem_volatile (b.o), 0, 64 * K);
  assert_ok (wr (&b, ones, PAGE, PAGE, 0));
  assert_ok (wr (&b, ones, 8 * PAGE, PAGE, 0));
  assert_int_equal (inode_extents (b.ino, at (0, MIB), false, say, &s), ENOMEM);
  assert_int_equal (s.n, 2);
  s = (struct said) { .stop_at = 1 };
  assert_int_equal (inode_extents (b.ino, at (0, MIB), true, say, &s), ENOMEM);
  assert_int_equal (s.n, 1);
  s = (struct said) { 0 };
  world_refuse (true);
  err = inode_extents (b.ino, at (0, MIB), false, say, &s);
  world_refuse (false);
  assert_int_equal (err, 0);
  assert_int_equal (s.end, MIB);
  tear_down (&b);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup (a_hole_costs_one_read_one_question_and_no_frame, calm),
    cmocka_unit_test_setup (behind_a_hole_the_next_window_is_asked_about_and_not_read, calm),
    cmocka_unit_test_setup (a_disk_full_of_data_is_never_asked_for_holes, calm),
    cmocka_unit_test_setup (zeros_that_are_data_are_asked_about_once_and_then_less_and_less, calm),
    cmocka_unit_test_setup (who_reads_on_behind_zeros_waits_for_the_answer, calm),
    cmocka_unit_test_setup (nobody_waits_long_for_an_answer_about_holes, calm),
    cmocka_unit_test_setup (a_cancelled_read_that_waits_for_an_answer_is_on_no_list, calm),
    cmocka_unit_test_setup (what_was_written_before_the_answer_is_no_hole, calm),
    cmocka_unit_test_setup (a_write_into_a_hole_is_data_and_the_rest_stays_a_hole, calm),
    cmocka_unit_test_setup (holes_are_forgotten_with_the_connection_and_with_the_clean_pages, calm),
    cmocka_unit_test_setup (an_answer_from_before_the_connection_was_lost_teaches_nothing, calm),
    cmocka_unit_test_setup (an_answer_that_fails_teaches_nothing_and_stops_nobody, calm),
    cmocka_unit_test_setup (what_is_known_of_holes_is_bounded, calm),
    cmocka_unit_test_setup (an_answer_that_says_nothing_teaches_nothing, calm),
    cmocka_unit_test_setup (an_answer_that_begins_anew_is_taken_from_where_it_was, calm),
    cmocka_unit_test_setup (a_hole_that_fills_no_block_is_none, calm),
    cmocka_unit_test_setup (a_small_disk_that_is_all_hole_is_known_to_be, calm),
    cmocka_unit_test_setup (who_asked_in_vain_nine_times_lets_zeros_pass, calm),
    cmocka_unit_test_setup (windows_double_up_to_a_gibibyte_while_all_is_hole, calm),
    cmocka_unit_test_setup (four_questions_at_a_time_and_none_twice, calm),
    cmocka_unit_test_setup (a_hole_reaches_to_the_end_of_a_disk_that_ends_inside_a_page, calm),
    cmocka_unit_test_setup (zeros_count_again_once_a_question_was_worth_it, calm),
    cmocka_unit_test_setup (as_many_holes_as_may_be_known_are_and_one_more_drops_the_old, calm),
    cmocka_unit_test_setup (what_a_fill_brings_into_a_hole_found_meanwhile_is_not_kept, calm),
    cmocka_unit_test_setup (what_was_written_beside_and_beside_that_is_no_hole, calm),
    cmocka_unit_test_setup (more_writes_than_a_question_can_note_make_it_teach_nothing, calm),
    cmocka_unit_test_setup (an_answer_without_memory_teaches_nothing_and_hurts_nobody, calm),
    cmocka_unit_test_setup (what_the_origin_does_not_say_is_data, calm),
    cmocka_unit_test_setup (an_origin_without_block_status_is_never_asked, calm),
    cmocka_unit_test_setup (a_question_longer_than_the_protocols_largest_is_not_asked, calm),
    cmocka_unit_test_setup (more_extents_than_are_kept_are_told_up_to_there, calm),
    cmocka_unit_test_setup (more_dirty_extents_than_are_kept_are_told_up_to_there, calm),
    cmocka_unit_test_setup (extents_end_with_the_first_error_and_need_no_memory, calm),
  };

  return cmocka_run_group_tests (tests, fill_patterns, NULL);
}
