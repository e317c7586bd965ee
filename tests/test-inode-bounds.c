/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of what bounds one inode: how long an origin may leave writes and flushes unanswered, how much
 * may be dirty and who is let in first, and how long a failure counts.
 */
#define PATTERN (8 * MIB)
#include "inode-bed.h"

#include <inttypes.h>
#include <stdlib.h>

/* Time passes and everybody looks again. */
static void
pass (struct bed *b, uint64_t ns)
{
  unsigned k;

  clock_fake_advance (&b->w.clock, ns);
  world_turn (&b->w, NULL, false);
  for (k = 0; k < b->ntasks; k++)
    b->task[k].woken = b->task[k].begun && !b->task[k].done;
  pump (b);
}

/*----------------------------------------------------------------------*/
/* D15: an origin that can be connected to, and does not answer. */

#define GIVE_UP (60 * NSEC_PER_SEC)

static unsigned notices;

static void
count_notice (void *arg, struct inode *ino, int level, const char *line)
{
  (void) arg;
  (void) ino;
  assert_int_equal (level, 3);
  assert_non_null (strstr (line, "was not answered for 60 s"));
  notices++;
}

static void
set_up_hung (struct bed *b, enum origin_cmd cmd, struct world_options o)
{
  set_up_with (b, world_info (SIZE), o);
  b->o->give_up_ns = GIVE_UP;
  b->w.env.news.notice = count_notice;
  notices = 0;
  close_door (b, cmd);
}

/* The connection is given up, and made again at once. */
static void
lose (struct bed *b)
{
  origin_mem_lose (b->o, false, true);
  pump (b);
  pass (b, NSEC_PER_MSEC);
}

static void
fails_in_time (enum origin_cmd cmd)
{
  struct bed b;
  struct task *f;
  unsigned i;

  set_up_hung (&b, cmd, (struct world_options) { 0 });
  assert_ok (wr (&b, ones, 0, 2 * PAGE, 0));
  f = flush (&b);
  pass (&b, 2 * GIVE_UP);       /* one that is slow is another matter */
  lose (&b);
  assert_false (f->done);
  pass (&b, GIVE_UP - 2 * NSEC_PER_MSEC);
  lose (&b);
  assert_false (f->done);
  assert_int_equal (notices, 0);
  pass (&b, NSEC_PER_MSEC);
  lose (&b);
  assert_err (f, EIO);
  assert_int_equal (notices, 1);

  /* What could not be written is kept, and each flush tries again. */
  for (i = 0; i < 2; i++) {
    f = flush (&b);
    assert_false (f->done);
    assert_true (origin_mem_held (b.o, cmd) > 0);
    lose (&b);
    assert_err (f, EIO);
  }
  assert_int_equal (notices, 1);
  inode_check (b.ino);
  f = flush (&b);
  open_door (&b, cmd);
  pass (&b, NSEC_PER_SEC);
  assert_ok (f);
  assert_is (origin_mem_durable (b.o), 1, 2 * PAGE);
  assert_int_equal (inode_get_dirty (b.ino).dirty, 0);

  /* That was an answer: patience begins anew. */
  close_door (&b, cmd);
  assert_ok (wr (&b, twos, PAGE, PAGE, 0));
  f = flush (&b);
  pass (&b, 2 * GIVE_UP);
  lose (&b);
  assert_false (f->done);
  open_door (&b, cmd);
  pass (&b, NSEC_PER_SEC);
  assert_ok (f);
  assert_is (origin_mem_durable (b.o) + PAGE, 2, PAGE);
  tear_down (&b);
}

TEST (a_flush_whose_writes_are_lost_again_and_again_fails_in_time)
{
  fails_in_time (ORIGIN_WRITE);
}

TEST (a_flush_that_is_lost_again_and_again_fails_in_time)
{
  fails_in_time (ORIGIN_FLUSH);
}

TEST (zeros_that_are_lost_again_and_again_fail_a_flush_too)
{
  struct bed b;
  struct task *f;

  set_up_hung (&b, ORIGIN_ZERO, (struct world_options) { 0 });
  assert_ok (zero (&b, 0, MIB, INODE_MAY_TRIM));
  f = flush (&b);
  lose (&b);
  pass (&b, GIVE_UP);
  assert_false (f->done);
  lose (&b);
  assert_err (f, EIO);
  open_door (&b, ORIGIN_ZERO);
  assert_ok (flush (&b));
  assert_is (origin_mem_durable (b.o), 0, MIB);
  tear_down (&b);
}

/* Connections may break as often as they like while some of it comes through. */
TEST (an_answer_however_bad_between_two_losses_begins_patience_anew)
{
  static const int errs[] = { 0, ENOSPC };
  unsigned i;

  for (i = 0; i < 2; i++) {
    struct bed b;
    struct task *f;

    set_up_hung (&b, ORIGIN_WRITE, (struct world_options) { 0 });
    assert_ok (wr (&b, ones, 0, PAGE, 0));
    assert_ok (wr (&b, ones, MIB, PAGE, 0));
    f = flush (&b);
    lose (&b);
    pass (&b, GIVE_UP - 2 * NSEC_PER_MSEC);
    answer (&b, 0, errs[i]);
    if (errs[i]) {
      assert_err (f, errs[i]);
      lose (&b);
      f = flush (&b);
    }
    pass (&b, 10 * NSEC_PER_MSEC);
    lose (&b);
    assert_false (f->done);
    open_door (&b, ORIGIN_WRITE);
    pass (&b, NSEC_PER_SEC);
    assert_ok (f);
    assert_int_equal (notices, 0);
    tear_down (&b);
  }
}

static size_t
held_at (struct bed *b, uint64_t off)
{
  size_t i, n = 0, len = origin_mem_log_len (b->o);

  for (i = 0; i < len; i++) {
    struct origin_mem_log l = origin_mem_log_at (b->o, i);

    if (l.err == -1 && l.off == off)
      return n;
    n += l.err == -1;
  }
  fail_msg ("nothing is held at %" PRIu64, off);
  return 0;
}

/* One bad place on a disk: whatever else is written comes through. */
TEST (one_write_that_never_is_answered_fails_a_flush_whatever_else_is)
{
  struct bed b;
  struct task *f;
  unsigned i;

  set_up_hung (&b, ORIGIN_WRITE, (struct world_options) { 0 });
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  assert_ok (wr (&b, ones, MIB, PAGE, 0));
  assert_ok (wr (&b, ones, 2 * MIB, PAGE, 0));
  f = flush (&b);
  for (i = 0; i < 2; i++) {
    answer (&b, held_at (&b, 0), 0);
    if (i > 0)                  /* the first time it is lost with the other */
      answer (&b, held_at (&b, MIB), 0);
    lose (&b);
    assert_false (f->done);
    pass (&b, GIVE_UP);
  }
  answer (&b, held_at (&b, 0), 0);
  answer (&b, held_at (&b, MIB), 0);
  lose (&b);
  assert_err (f, EIO);
  assert_int_equal (notices, 1);
  open_door (&b, ORIGIN_WRITE);
  f = flush (&b);
  pass (&b, NSEC_PER_SEC);
  assert_ok (f);
  assert_is (origin_mem_durable (b.o) + 2 * MIB, 1, PAGE);
  tear_down (&b);
}

/* D15: accepted while there is room for dirt, then EIO; not kept waiting for what does not come. */
static void
is_told_at_the_bound (enum origin_cmd cmd, bool waits)
{
  struct world_options o = { .nframes = 256, .dirty_max = 16 * PAGE, .dirty_background = 8 * PAGE };
  struct bed b;
  struct task *f, *w = NULL;

  set_up_hung (&b, cmd, o);
  assert_ok (wr (&b, ones, 0, 16 * PAGE, 0));
  f = flush (&b);
  lose (&b);
  if (waits) {
    w = wr (&b, ones, MIB, PAGE, 0);
    assert_false (w->done);
  }
  pass (&b, GIVE_UP);
  lose (&b);
  assert_err (f, EIO);
  if (!waits)
    w = wr (&b, ones, MIB, PAGE, 0);
  assert_err (w, EIO);
  origin_mem_open_all (b.o);
  pump (&b);
  f = flush (&b);
  pass (&b, NSEC_PER_SEC);
  assert_ok (f);
  assert_ok (wr (&b, ones, MIB, PAGE, 0));
  tear_down (&b);
}

TEST (a_writer_at_the_bound_of_dirt_is_told_when_nothing_is_answered)
{
  is_told_at_the_bound (ORIGIN_WRITE, false);
  is_told_at_the_bound (ORIGIN_WRITE, true);
  is_told_at_the_bound (ORIGIN_FLUSH, false);
  is_told_at_the_bound (ORIGIN_FLUSH, true);
}

/*----------------------------------------------------------------------*/
/* Who may make how much dirty, and when (D3, D13). */

static const struct world_options small = { .nframes = 1024, .dirty_max = 64 * PAGE, .dirty_background = 32 * PAGE };

TEST (who_waits_for_less_dirt_is_not_overtaken)
{
  struct bed b;
  struct task *large, *s[3], *f;
  unsigned i;

  set_up_with (&b, world_info (SIZE), small);
  close_door (&b, ORIGIN_WRITE);
  assert_ok (wr (&b, ones, 0, 60 * PAGE, 0));
  large = wr (&b, twos, MIB, 128 * PAGE, 0);
  assert_false (large->done);
  /* There would be room for these. */
  for (i = 0; i < 3; i++) {
    s[i] = wr (&b, twos, 2 * MIB + i * PAGE, PAGE, 0);
    assert_false (s[i]->done);
  }
  f = flush (&b);
  pass (&b, NSEC_PER_SEC);
  assert_false (large->done || s[0]->done);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (large);
  /* Larger than what may be dirty, it went alone. */
  assert_false (s[0]->done);
  pass (&b, NSEC_PER_SEC);
  pass (&b, NSEC_PER_SEC);
  for (i = 0; i < 3; i++)
    assert_ok (s[i]);
  assert_ok (f);
  assert_int_equal (b.w.env.nblocked, 0);
  assert_int_equal (b.ino->reserved, 0);
  assert_ok (flush (&b));
  tear_down (&b);
}

/* Nobody looks again by himself here: the one who makes room lets in who fits. */
TEST (all_who_fit_go_on_at_once_when_there_is_room)
{
  struct bed b;
  struct task *s[8];
  unsigned i;

  set_up_with (&b, world_info (SIZE), small);
  assert_ok (wr (&b, ones, 0, 64 * PAGE, 0));
  for (i = 0; i < 8; i++) {
    s[i] = wr (&b, twos, 2 * MIB + i * 16 * PAGE, (i == 6 ? 40 : 8) * PAGE, 0);
    assert_false (s[i]->done);
  }
  assert_ok (flush (&b));
  for (i = 0; i < 6; i++)
    assert_ok (s[i]);
  assert_false (s[6]->done || s[7]->done);
  /* Or the one that goes. */
  inode_op_cancel (&s[6]->op);
  s[6]->done = true;
  pump (&b);
  assert_ok (s[7]);
  assert_int_equal (b.w.env.nblocked, 0);
  assert_int_equal (b.ino->reserved, 0);
  assert_ok (flush (&b));
  tear_down (&b);
}

TEST (what_is_admitted_counts_before_it_is_dirty)
{
  struct world_options o = small;
  struct bed b;
  struct task *w, *v, *u;

  o.nframes = 16;
  set_up_with (&b, world_info (SIZE), o);
  close_door (&b, ORIGIN_WRITE);
  w = wr (&b, ones, 0, 40 * PAGE, 0);
  assert_false (w->done);
  assert_int_equal (inode_get_dirty (b.ino).dirty, 16 * PAGE);
  v = wr (&b, twos, 0, 25 * PAGE, 0);
  assert_false (v->done);
  assert_true (v->op.queued);
  u = wr (&b, twos, 0, PAGE, 0);
  assert_true (u->op.queued);
  open_door (&b, ORIGIN_WRITE);
  while (!w->done || !v->done || !u->done)
    pass (&b, NSEC_PER_SEC);
  assert_ok (flush (&b));
  assert_int_equal (b.ino->reserved, 0);
  tear_down (&b);
}

TEST (zeros_beside_whole_pages_are_admitted_like_writes)
{
  struct bed b;
  struct task *z, *f;
  unsigned i;

  set_up_with (&b, world_info (SIZE), small);
  close_door (&b, ORIGIN_WRITE);
  for (i = 0; i < 128; i++)
    assert_ok (zero (&b, i * PAGE, 2 * K, INODE_MAY_TRIM));
  assert_int_equal (inode_get_dirty (b.ino).dirty, 64 * PAGE);
  /* Whole pages take no frames, and wait for nobody; no more does a trim. */
  assert_ok (zero (&b, 2 * MIB, MIB, INODE_MAY_TRIM));
  assert_ok (trim (&b, 3 * MIB + K, PAGE));
  z = zero (&b, MIB + K, 3 * PAGE, INODE_MAY_TRIM);
  assert_false (z->done);
  /* A fast one does not wait, and changes nothing: neither a page that is whole in it nor another (N-42). */
  assert_err (zero (&b, MIB + 512 * K + K, 3 * PAGE, INODE_MAY_TRIM | INODE_FAST), ENOTSUP);
  assert_ok (rd (&b, twos, MIB + 512 * K, 4 * PAGE));
  assert_orig (twos, MIB + 512 * K, 4 * PAGE);
  assert_ok (rd (&b, twos, MIB, 4 * PAGE));
  assert_orig (twos, MIB, 4 * PAGE);
  f = flush (&b);
  open_door (&b, ORIGIN_WRITE);
  pass (&b, NSEC_PER_SEC);
  assert_ok (f);
  assert_ok (z);
  assert_ok (zero (&b, MIB + 512 * K + K, 3 * PAGE, INODE_MAY_TRIM | INODE_FAST));
  assert_ok (flush (&b));
  assert_is (origin_mem_durable (b.o) + MIB + K, 0, 3 * PAGE);
  assert_orig (origin_mem_durable (b.o) + MIB + K + 3 * PAGE, MIB + K + 3 * PAGE, K);
  assert_int_equal (b.ino->reserved, 0);
  memset (twos, 2, sizeof twos);
  tear_down (&b);
}

TEST (the_time_that_writers_waited_is_counted)
{
  struct bed b;
  struct task *w;

  set_up_with (&b, world_info (SIZE), small);
  assert_ok (wr (&b, ones, 0, 64 * PAGE, 0));
  assert_int_equal (inode_get_stats (b.ino)->throttled_ns, 0);
  w = wr (&b, ones, MIB, PAGE, 0);
  assert_false (w->done);
  clock_fake_advance (&b.w.clock, 12345678);
  assert_ok (flush (&b));
  assert_ok (w);
  assert_int_equal (inode_get_stats (b.ino)->throttled_ns, 12345678);
  assert_ok (flush (&b));
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* How long a failure counts. */

static bool
has_failed (struct bed *b)
{
  return atomic_load (&b->ino->wb_err) || atomic_load (&b->ino->flush_err)
         || inode_retry_at (b->ino) > clock_now (&b->w.clock.base);
}

/* Bytes that the origin does not take, and nothing else is known of it: with them goes what is known. */
TEST (a_failure_counts_no_longer_than_there_is_what_failed)
{
  enum { TRIM, ZERO, PARTS, UPWARDS, DOWNWARDS };
  unsigned how, i;

  for (how = TRIM; how <= DOWNWARDS; how++) {
    struct bed b;

    set_up (&b);
    assert_ok (wr (&b, ones, 0, 4 * PAGE, 0));
    origin_mem_fail (b.o, ORIGIN_WRITE, ENOSPC, 0, 1);
    assert_err (flush (&b), ENOSPC);
    assert_ok (wr (&b, ones, MIB, PAGE, 0));
    assert_true (has_failed (&b));
    assert_ok (trim (&b, 4 * PAGE, MIB - 4 * PAGE));
    assert_true (has_failed (&b));
    switch (how) {
    case TRIM:
      assert_ok (trim (&b, 0, 4 * PAGE));
      break;
    case ZERO:
      assert_ok (zero (&b, 0, 2 * MIB, INODE_MAY_TRIM));
      break;
    case PARTS:
      assert_ok (trim (&b, PAGE, 2 * PAGE));
      assert_true (has_failed (&b));
      assert_ok (trim (&b, 0, 4 * PAGE));
      break;
    case UPWARDS:
      for (i = 0; i < 4; i++) {
        assert_true (has_failed (&b));
        assert_ok (trim (&b, i * PAGE, PAGE));
      }
      break;
    case DOWNWARDS:
      for (i = 4; i-- > 0; ) {
        assert_true (has_failed (&b));
        assert_ok (trim (&b, i * PAGE, PAGE));
      }
      break;
    }
    assert_false (has_failed (&b));
    assert_ok (flush (&b));
    tear_down (&b);
  }
}

/* The same of a zero range that is written over. */
TEST (a_failed_zero_counts_no_longer_than_its_range_is_zeros)
{
  struct bed b;

  set_up (&b);
  assert_ok (zero (&b, 0, 4 * PAGE, INODE_MAY_TRIM));
  origin_mem_fail (b.o, ORIGIN_ZERO, EIO, 0, 1);
  assert_err (flush (&b), EIO);
  assert_true (has_failed (&b));
  assert_ok (wr (&b, ones, 0, 2 * PAGE, 0));
  assert_true (has_failed (&b));
  assert_ok (wr (&b, ones, 2 * PAGE, 2 * PAGE, 0));
  assert_false (has_failed (&b));
  assert_ok (flush (&b));
  tear_down (&b);
}

/* But bytes that are written over are still there, and fail as before, until they do not. */
TEST (a_failure_is_not_forgotten_by_writing_over_what_failed)
{
  struct bed b;

  set_up (&b);
  assert_ok (wr (&b, ones, 0, 4 * PAGE, 0));
  origin_mem_fail (b.o, ORIGIN_WRITE, ENOSPC, 0, 2);
  assert_err (flush (&b), ENOSPC);
  assert_ok (zero (&b, 2 * MIB, PAGE, INODE_MAY_TRIM));
  assert_ok (wr (&b, twos, 0, 4 * PAGE, 0));
  assert_true (has_failed (&b));
  assert_err (flush (&b), ENOSPC);
  assert_ok (flush (&b));
  assert_false (has_failed (&b));
  tear_down (&b);
}

/* Trimmed while it travels, and the origin is not told of trims: nothing is dirty, so nothing can fail. */
TEST (what_is_gone_when_its_request_fails_has_not_failed)
{
  struct origin_info info = world_info (SIZE);
  struct bed b;
  struct task *f;

  info.can_trim = false;
  set_up_with (&b, info, (struct world_options) { 0 });
  close_door (&b, ORIGIN_WRITE);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  f = flush (&b);
  assert_ok (trim (&b, 0, PAGE));
  answer (&b, 0, EIO);
  assert_false (has_failed (&b));
  assert_ok (f);

  /* Unless it was written anew meanwhile: a writer could hide the error from a flush for ever. */
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  f = flush (&b);
  assert_ok (wr (&b, twos, 0, PAGE, 0));
  answer (&b, 0, EIO);
  assert_true (has_failed (&b));
  assert_err (f, EIO);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (flush (&b));
  tear_down (&b);
}

/* All is gone: neither a failed flush nor how long one waited says anything of what comes. */
TEST (an_inode_with_nothing_dirty_knows_of_no_failure)
{
  struct origin_info info = world_info (SIZE);
  struct bed b;

  info.can_trim = false;
  set_up_with (&b, info, (struct world_options) { 0 });
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  origin_mem_fail (b.o, ORIGIN_FLUSH, EIO, 0, 1);
  assert_err (flush (&b), EIO);
  assert_true (has_failed (&b));
  assert_ok (trim (&b, 0, PAGE));
  assert_false (has_failed (&b));
  assert_ok (flush (&b));
  b.o->give_up_ns = GIVE_UP;
  close_door (&b, ORIGIN_WRITE);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  assert_int_equal (inode_write_some (b.ino, INODE_SEQ_ALL (b.ino), 8), 1);
  lose (&b);
  pass (&b, GIVE_UP);
  assert_ok (trim (&b, 0, PAGE));
  lose (&b);
  assert_false (has_failed (&b));
  pass (&b, GIVE_UP);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  assert_int_equal (inode_write_some (b.ino, INODE_SEQ_ALL (b.ino), 8), 1);
  lose (&b);
  assert_false (has_failed (&b));
  open_door (&b, ORIGIN_WRITE);
  assert_ok (flush (&b));
  tear_down (&b);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (a_flush_whose_writes_are_lost_again_and_again_fails_in_time),
    cmocka_unit_test (a_flush_that_is_lost_again_and_again_fails_in_time),
    cmocka_unit_test (zeros_that_are_lost_again_and_again_fail_a_flush_too),
    cmocka_unit_test (an_answer_however_bad_between_two_losses_begins_patience_anew),
    cmocka_unit_test (one_write_that_never_is_answered_fails_a_flush_whatever_else_is),
    cmocka_unit_test (a_writer_at_the_bound_of_dirt_is_told_when_nothing_is_answered),
    cmocka_unit_test (who_waits_for_less_dirt_is_not_overtaken),
    cmocka_unit_test (all_who_fit_go_on_at_once_when_there_is_room),
    cmocka_unit_test (what_is_admitted_counts_before_it_is_dirty),
    cmocka_unit_test (zeros_beside_whole_pages_are_admitted_like_writes),
    cmocka_unit_test (the_time_that_writers_waited_is_counted),
    cmocka_unit_test (a_failure_counts_no_longer_than_there_is_what_failed),
    cmocka_unit_test (a_failed_zero_counts_no_longer_than_its_range_is_zeros),
    cmocka_unit_test (a_failure_is_not_forgotten_by_writing_over_what_failed),
    cmocka_unit_test (what_is_gone_when_its_request_fails_has_not_failed),
    cmocka_unit_test (an_inode_with_nothing_dirty_knows_of_no_failure),
  };

  cmocka_set_test_filter (getenv ("PC_TEST"));
  return cmocka_run_group_tests (tests, fill_patterns, NULL);
}
