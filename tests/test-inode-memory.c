/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-inode-memory - how long an inode looks for memory and frames, and when it stops.
 *
 * As test-inode: one thread, a clock that stands still.  Who would make room is a hook that counts how often it was asked.
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inode-bed.h"

static unsigned asked;

/* Pages go, it says, and nothing comes of it. */
static bool
room_for_nothing (void *arg, unsigned want)
{
  (void) arg;
  (void) want;
  asked++;
  return true;
}

static bool
no_room (void *arg, unsigned want)
{
  (void) arg;
  (void) want;
  asked++;
  return false;
}

TEST (what_the_system_refuses_is_not_asked_for_for_ever)
{
  struct segnodes_batch batch;
  uint32_t frames[256];
  struct bed b;

  set_up (&b);
  assert_int_equal (memfile_alloc (b.w.mf, 256, frames), 256);
  b.w.env.reclaim = room_for_nothing;
  world_refuse (true);
  asked = 0;
  assert_null (meta_alloc_hard (&b.w.env, PAGE));
  assert_in_range (asked, 2, 64);
  asked = 0;
  assert_int_equal (nodes_fetch (&b.w.env, &b.ino->stripe[0].nodes, 3, &batch), ENOMEM);
  assert_in_range (asked, 2, 64);
  /* And who cannot make room is asked once. */
  b.w.env.reclaim = no_room;
  asked = 0;
  assert_null (meta_alloc_hard (&b.w.env, PAGE));
  assert_int_equal (nodes_fetch (&b.w.env, &b.ino->stripe[0].nodes, 3, &batch), ENOMEM);
  assert_int_equal (asked, 2);
  world_refuse (false);
  memfile_put_many (b.w.mf, frames, 256);
  tear_down (&b);
}

TEST (frames_that_do_not_come_are_not_waited_for)
{
  uint32_t frames[256], more[4];
  struct bed b;

  set_up (&b);
  assert_int_equal (memfile_alloc (b.w.mf, 256, frames), 256);
  b.w.env.reclaim = room_for_nothing;
  asked = 0;
  assert_int_equal (env_alloc_frames (&b.w.env, 4, more), 0);
  assert_in_range (asked, 2, 12);
  /* What there is, is given. */
  memfile_put_many (b.w.mf, frames + 10, 1);
  memfile_put_many (b.w.mf, frames + 20, 1);
  assert_int_equal (env_alloc_frames (&b.w.env, 4, more), 2);
  memfile_put_many (b.w.mf, more, 2);
  memfile_put_many (b.w.mf, frames, 10);
  memfile_put_many (b.w.mf, frames + 11, 9);
  memfile_put_many (b.w.mf, frames + 21, 235);
  tear_down (&b);
}

/* D20: pieces lie free until their neighbours go, but no more than 16 MiB of them, however large the cache is. */
TEST (pieces_lie_free_for_a_run_up_to_sixteen_mebibytes)
{
  enum { N = 256 << 10, LIMIT = 4096 };
  uint32_t *frames = malloc (N * sizeof *frames), two[2];
  unsigned i, nfree = 0;
  struct bed b;

  set_up_blank (&b, world_info (SIZE), (struct world_options) { .nframes = N });
  assert_int_equal (memfile_alloc (b.w.mf, N, frames), N);
  b.w.env.reclaim = no_room;
  for (i = 0; nfree < LIMIT + 1; i += 2, nfree++)
    memfile_put_many (b.w.mf, &frames[i], 1);
  asked = 0;
  assert_int_equal (env_alloc_frames (&b.w.env, 2, two), 2);
  assert_int_equal (asked, 1);
  memfile_put_many (b.w.mf, two, 2);
  memfile_put_many (b.w.mf, &frames[i], 1);
  i += 2;
  asked = 0;
  assert_int_equal (env_alloc_frames (&b.w.env, 2, two), 2);
  assert_int_equal (asked, 0);
  memfile_put_many (b.w.mf, two, 2);
  for (unsigned k = 0; k < N; k++)
    if (k % 2 == 1 || k >= i)
      memfile_put_many (b.w.mf, &frames[k], 1);
  free (frames);
  tear_down (&b);
}

/* D15 */
TEST (while_the_origin_takes_nothing_only_what_reads_hold_is_waited_for)
{
  struct inode_op op;
  struct bed b;

  set_up (&b);
  inode_op_read (&op, b.ino, NULL, at (0, PAGE));
  op.mem_seen = atomic_load (&b.w.env.mem_events);
  assert_true (op_may_wait (&op, EAGAIN));
  assert_false (op_may_wait (&op, EIO));
  atomic_store (&b.ino->wb_err, ENOSPC);
  assert_false (op_may_wait (&op, EAGAIN));
  assert_false (op_may_wait (&op, ENOMEM));
  atomic_fetch_add (&b.w.env.nfills, 1);
  assert_true (op_may_wait (&op, EAGAIN));
  assert_false (op_may_wait (&op, ENOMEM));
  atomic_fetch_sub (&b.w.env.nfills, 1);
  /* Or what came free since it looked. */
  inode_env_wake_memory (&b.w.env);
  assert_true (op_may_wait (&op, EAGAIN));
  atomic_store (&b.ino->wb_err, 0);
  tear_down (&b);
}

TEST (a_minute_without_memory_begins_anew_with_each_step_forward)
{
  struct inode_op op;
  struct bed b;

  set_up (&b);
  inode_op_read (&op, b.ino, NULL, at (0, 8 * PAGE));
  assert_true (op_may_wait (&op, ENOMEM));
  clock_fake_advance (&b.w.clock, 59 * NSEC_PER_SEC);
  assert_true (op_may_wait (&op, ENOMEM));
  op.pos += PAGE;
  assert_true (op_may_wait (&op, ENOMEM));
  clock_fake_advance (&b.w.clock, 59 * NSEC_PER_SEC);
  assert_true (op_may_wait (&op, ENOMEM));
  clock_fake_advance (&b.w.clock, NSEC_PER_SEC);
  assert_false (op_may_wait (&op, ENOMEM));
  tear_down (&b);
}

/* Nobody wakes it for that any more. */
TEST (who_waits_for_what_came_free_meanwhile_looks_again_at_once)
{
  struct bed b;
  struct task t = { .done = false };

  set_up (&b);
  inode_op_read (&t.op, b.ino, NULL, at (0, PAGE));
  t.op.wake = wake;
  t.op.wake_arg = &t;
  t.op.mem_seen = atomic_load (&b.w.env.mem_events);
  op_park_memory (&t.op);
  assert_false (t.woken);
  inode_op_cancel (&t.op);
  inode_env_wake_memory (&b.w.env);
  assert_false (t.woken);
  op_park_memory (&t.op);
  assert_true (t.woken);
  inode_op_cancel (&t.op);
  tear_down (&b);
}

static unsigned news;

static void
hear_failed (void *arg, struct inode *ino, int err, const char *why)
{
  (void) arg;
  (void) ino;
  assert_int_equal (err, EIO);
  assert_string_equal (why, "why");
  news |= 1;
}

static void
hear_resized (void *arg, struct inode *ino, uint64_t end)
{
  (void) arg;
  (void) ino;
  assert_int_equal (end, MIB);
  news |= 2;
}

static void
hear_notice (void *arg, struct inode *ino, int level, const char *line)
{
  (void) arg;
  (void) ino;
  assert_int_equal (level, 1);
  assert_string_equal (line, "line");
  news |= 4;
}

static void
tell_news (struct bed *b)
{
  origin_tell (b->o, 1, "line");
  origin_tell_resized (b->o, MIB);
  origin_tell_failed (b->o, EIO, "why");
}

TEST (news_are_told_to_whoever_wants_them)
{
  struct bed b;

  set_up (&b);
  tell_news (&b);
  assert_true (inode_end (b.ino) == MIB);
  assert_err (rd (&b, NULL, 0, PAGE), EIO);
  b.w.env.news = (struct inode_news) { hear_failed, hear_resized, hear_notice };
  tell_news (&b);
  assert_int_equal (news, 7);
  tear_down (&b);
}

/* A test that failed may have left memory refused. */
static int
calm_all (void **state)
{
  news = 0;
  return calm (state);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup (what_the_system_refuses_is_not_asked_for_for_ever, calm_all),
    cmocka_unit_test_setup (frames_that_do_not_come_are_not_waited_for, calm_all),
    cmocka_unit_test_setup (pieces_lie_free_for_a_run_up_to_sixteen_mebibytes, calm_all),
    cmocka_unit_test_setup (while_the_origin_takes_nothing_only_what_reads_hold_is_waited_for, calm_all),
    cmocka_unit_test_setup (a_minute_without_memory_begins_anew_with_each_step_forward, calm_all),
    cmocka_unit_test_setup (who_waits_for_what_came_free_meanwhile_looks_again_at_once, calm_all),
    cmocka_unit_test_setup (news_are_told_to_whoever_wants_them, calm_all),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
