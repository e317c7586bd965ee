/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-inode-rare - what one inode does where things go wrong or come in an order that is hardly ever met.
 *
 * As test-inode: a clock that stands still, an origin with doors.  Here are besides
 *
 *   what happens while an op looks for frames        the reclaim hook, which is where others would get the processor
 *   another thread between two of our steps          when_chosen
 *   memory that the system refuses                   world_fail_alloc, and malloc, calloc and mmap of this program
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "inode-attr.h"
#include "inode-bed.h"

static uint8_t buf[SIZE], bufs[16][PAGE];

/*----------------------------------------------------------------------*/
/* The system refuses. */

extern void *__real_calloc (size_t, size_t);
extern void *__wrap_calloc (size_t, size_t);
extern void *__real_mmap (void *, size_t, int, int, int, off_t);
extern void *__wrap_mmap (void *, size_t, int, int, int, off_t);

static bool no_calloc, no_mmap;

void *
__wrap_calloc (size_t n, size_t size)
{
  return no_calloc ? NULL : __real_calloc (n, size);
}

void *
__wrap_mmap (void *at, size_t len, int prot, int flags, int fd, off_t off)
{
  if (no_mmap) {
    errno = EAGAIN;
    return MAP_FAILED;
  }
  return __real_mmap (at, len, prot, flags, fd, off);
}

/* What another thread does the moment that a stripe is let go with a write request chosen; we wait for it. */
extern int __real_pthread_rwlock_unlock (pthread_rwlock_t *);
extern int __wrap_pthread_rwlock_unlock (pthread_rwlock_t *);

static struct bed *chosen_bed;
static void *(*when_chosen) (void *);

int
__wrap_pthread_rwlock_unlock (pthread_rwlock_t *l)
{
  void *(*run) (void *) = when_chosen;
  int err = __real_pthread_rwlock_unlock (l);
  pthread_t other;

  if (run && l == &chosen_bed->ino->stripe[0].lock.rw && chosen_bed->ino->nwbs > 0) {
    when_chosen = NULL;
    assert_int_equal (pthread_create (&other, NULL, run, chosen_bed), 0);
    pthread_join (other, NULL);
  }
  return err;
}

/*----------------------------------------------------------------------*/
/* Beds. */

static struct task *
sync_range (struct bed *b, struct range r, unsigned flags)
{
  struct task *t = task (b);

  inode_op_sync (&t->op, b->ino, r, flags);
  return begin (b, t);
}

/* Time passes and everybody looks again, until t is done. */
static void
wait_for (struct bed *b, struct task *t)
{
  unsigned i, k;

  for (i = 0; i < 1000 && !t->done; i++) {
    clock_fake_advance (&b->w.clock, 50 * NSEC_PER_MSEC);
    world_turn (&b->w, NULL, false);
    for (k = 0; k < b->ntasks; k++)
      b->task[k].woken = b->task[k].begun && !b->task[k].done;
    pump (b);
  }
}

/*----------------------------------------------------------------------*/
/* What is held, and what may go. */

TEST (what_cannot_be_cut_out_of_its_run_stays_and_is_told)
{
  struct bed b;
  unsigned i;

  set_up_with (&b, world_info (SIZE), tight_options ());
  assert_ok (rd (&b, buf, 0, 200 * PAGE));
  /* A node has room for some runs. */
  world_refuse (true);
  for (i = 1; i < 199 && inode_invalidate (b.ino, at (i * PAGE, PAGE)) == 0; i += 2)
    ;
  assert_in_range (i, 3, 197);
  assert_int_equal (inode_invalidate (b.ino, at (i * PAGE, PAGE)), ENOMEM);
  world_refuse (false);
  inode_check (b.ino);
  origin_mem_log_clear (b.o);
  assert_ok (rd (&b, bufs[0], i * PAGE, PAGE));
  assert_int_equal (count (&b, ORIGIN_READ), 0);
  assert_int_equal (inode_invalidate (b.ino, at (i * PAGE, PAGE)), 0);
  assert_ok (rd (&b, buf, 0, 200 * PAGE));
  assert_orig (buf, 0, 200 * PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), i / 2 + 1);
  tear_down (&b);
}

TEST (what_is_dirty_at_the_end_of_a_range_stays_when_that_goes)
{
  struct bed b;

  set_up (&b);
  assert_ok (rd (&b, buf, 0, 4 * PAGE));
  assert_ok (wr (&b, ones, 3 * PAGE, 10, 0));
  assert_int_equal (inode_invalidate (b.ino, at (0, 4 * PAGE)), 0);
  assert_int_equal (memfile_in_use (b.w.mf), 1);
  assert_ok (rd (&b, buf, 3 * PAGE, PAGE));
  assert_is (buf, 1, 10);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  tear_down (&b);
}

TEST (an_inode_is_empty_when_nothing_is_there_and_nothing_comes)
{
  struct bed b;

  set_up (&b);
  assert_true (inode_is_empty (b.ino));
  close_door (&b, ORIGIN_READ);
  rd (&b, buf, 0, PAGE);
  assert_false (inode_is_empty (b.ino));
  open_door (&b, ORIGIN_READ);
  assert_false (inode_is_empty (b.ino));
  inode_invalidate (b.ino, RANGE_ALL);
  assert_true (inode_is_empty (b.ino));
  assert_ok (trim (&b, 0, PAGE));
  assert_false (inode_is_empty (b.ino));
  assert_ok (flush (&b));
  assert_true (inode_is_empty (b.ino));
  tear_down (&b);
}

struct named {
  struct range r[8];
  unsigned n, stop_at;
};

static int
name_range (void *arg, struct range r)
{
  struct named *n = arg;

  assert_true (n->n < 8);
  n->r[n->n++] = r;
  return n->n == n->stop_at ? EPIPE : 0;
}

/* MiB 64 is in the first stripe, MiB 1 in the second. */
TEST (what_is_dirty_is_named_in_order_until_it_is_enough)
{
  static const uint64_t where[] = { 1, 2, 64, 3, 5 };   /* the last two are trims */
  struct named n = { .n = 0 };
  struct bed b;
  unsigned i;

  set_up_hole (&b, 66 * MIB, (struct world_options) { 0 });
  assert_ok (wr (&b, ones, 64 * MIB, PAGE, 0));
  assert_ok (wr (&b, ones, 2 * MIB, PAGE, 0));
  assert_ok (wr (&b, ones, MIB, PAGE, 0));
  assert_ok (trim (&b, 5 * MIB, PAGE));
  assert_ok (trim (&b, 3 * MIB, PAGE));
  assert_int_equal (inode_dirty_ranges (b.ino, name_range, &n), 0);
  assert_int_equal (n.n, 5);
  for (i = 0; i < 5; i++)
    assert_true (n.r[i].start == where[i] * MIB && n.r[i].end == where[i] * MIB + PAGE);
  for (i = 1; i <= 5; i++) {
    n = (struct named) { .stop_at = i };
    assert_int_equal (inode_dirty_ranges (b.ino, name_range, &n), EPIPE);
    assert_int_equal (n.n, i);
  }
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Fills. */

/* The origin ended in the middle of a block and grew while that part was on its way. */
TEST (a_block_that_the_old_end_cut_waits_for_its_part_under_way)
{
  struct bed b;
  struct task *first, *rest;

  set_up_with (&b, with_blocks (64 * K, 16 * K, 1 << 20), (struct world_options) { 0 });
  assert_int_equal (inode_set_size (b.ino, 20 * K), 0);
  close_door (&b, ORIGIN_READ);
  b.o->info.block_min = 1;              /* such an origin is another one by now, to which 20 KiB are whole blocks */
  first = rd (&b, bufs[0], 16 * K, PAGE);
  assert_int_equal (origin_mem_log_at (b.o, 0).len, 4 * K);
  assert_int_equal (inode_set_size (b.ino, 64 * K), 0);
  inode_prefetch (b.ino, at (24 * K, PAGE), false);
  rest = rd (&b, buf, 24 * K, 8 * K);
  assert_int_equal (origin_mem_held_total (b.o), 1);
  assert_false (rest->done);
  open_door (&b, ORIGIN_READ);
  assert_ok (first);
  assert_orig (bufs[0], 16 * K, PAGE);
  assert_ok (rest);
  assert_orig (buf, 24 * K, 8 * K);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  tear_down (&b);
}

/* D7 has an end: others ask for more than their own, and for all of them the sector is bad. */
TEST (who_hears_others_errors_again_and_again_is_told_in_the_end)
{
  struct bed b;
  struct task *t;
  unsigned i;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  assert_int_equal (inode_prefetch (b.ino, at (0, 64 * K), false), 64 * K);
  t = rd (&b, buf, 0, PAGE);
  for (i = 0; i < INODE_OP_FILLS; i++) {
    assert_int_equal (origin_mem_held_total (b.o), 1);
    assert_int_equal (origin_mem_release_nth (b.o, 0, EIO), 0);
    assert_int_equal (inode_prefetch (b.ino, at (0, 64 * K), false), 64 * K);   /* before t looks again */
    pump (&b);
    assert_false (t->done);
  }
  answer (&b, 0, EIO);
  assert_err (t, EIO);
  open_door (&b, ORIGIN_READ);
  tear_down (&b);
}

TEST (the_last_few_bytes_of_a_disk_are_looked_at_for_zeros_too)
{
  static const uint64_t tails[] = { 1, 10, 16, 17, 100 };
  unsigned i, full;

  for (i = 0; i < 5; i++)
    for (full = 0; full < 2; full++) {
      struct bed b;

      set_up_hole (&b, 64 * K + tails[i], (struct world_options) { 0 });
      origin_mem_volatile (b.o)[64 * K + tails[i] - 1] = (uint8_t) full;
      assert_ok (rd (&b, buf, 64 * K, tails[i]));
      assert_int_equal (buf[tails[i] - 1], full);
      assert_int_equal (count (&b, ORIGIN_STATUS), full ? 0 : 1);
      tear_down (&b);
    }
}

TEST (nothing_is_prefetched_where_a_fill_under_way_was_written_over)
{
  struct bed b;
  struct task *t;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  t = rd (&b, buf, 0, 3 * PAGE);
  assert_ok (wr (&b, ones, PAGE, PAGE, 0));
  assert_int_equal (inode_prefetch (b.ino, at (PAGE, PAGE), true), PAGE);
  assert_int_equal (origin_mem_held_total (b.o), 1);
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_is (buf + PAGE, 1, PAGE);
  tear_down (&b);
}

TEST (reads_of_an_origin_with_large_blocks_are_whole_blocks_and_no_longer_than_it_takes)
{
  struct bed b;
  size_t i;

  set_up_with (&b, with_blocks (SIZE, 16 * K, 64 * K), (struct world_options) { 0 });
  assert_ok (rd (&b, buf, 12 * K, 200 * K));
  assert_orig (buf, 12 * K, 200 * K);
  for (i = 0; i < origin_mem_log_len (b.o); i++) {
    struct origin_mem_log l = origin_mem_log_at (b.o, i);

    assert_true (l.off % (16 * K) == 0 && l.len % (16 * K) == 0 && l.len <= 64 * K);
  }
  assert_int_equal (origin_mem_log_len (b.o), 4);       /* 0 to 224 KiB */
  tear_down (&b);
}

/* What happens while an op looks for frames: the first time only. */
static struct bed *race_bed;
static void (*race) (struct bed *);

static bool
reclaim_and_race (void *arg, unsigned want)
{
  void (*run) (struct bed *) = race;

  race = NULL;
  if (run)
    run (race_bed);
  return world_reclaim (arg, want);
}

static void
set_up_race (struct bed *b, void (*what) (struct bed *))
{
  set_up_with (b, world_info (SIZE), (struct world_options) { .nframes = 64 });
  assert_ok (rd (b, buf, 0, 64 * PAGE));
  origin_mem_log_clear (b->o);
  b->w.env.reclaim = reclaim_and_race;
  race_bed = b;
  race = what;
}

static void
another_reads (struct bed *b)
{
  rd (b, bufs[1], 2 * MIB + PAGE, PAGE);
}

/* 74 frames in a row and 60 elsewhere are free. */
TEST (of_a_run_that_is_too_short_whole_multiples_are_used)
{
  uint32_t frames[256];
  struct memfile *mf;
  struct bed b;

  set_up (&b);
  mf = b.w.mf;
  assert_int_equal (memfile_alloc (mf, 256, frames), 256);
  memfile_put_many (mf, frames, 74);
  memfile_put_many (mf, frames + 100, 60);
  assert_ok (rd (&b, buf, 0, 100 * PAGE));
  assert_orig (buf, 0, 100 * PAGE);
  assert_int_equal (count (&b, ORIGIN_READ), 2);
  assert_int_equal (origin_mem_log_at (b.o, 0).len, 64 * PAGE);
  assert_int_equal (origin_mem_log_at (b.o, 1).len, 36 * PAGE);
  memfile_put_many (mf, frames + 74, 26);
  memfile_put_many (mf, frames + 160, 96);
  tear_down (&b);
}

TEST (who_is_second_to_ask_for_a_page_waits_for_the_first)
{
  struct bed b;
  struct task *t;

  set_up_race (&b, another_reads);
  close_door (&b, ORIGIN_READ);
  t = rd (&b, buf, 2 * MIB, 4 * PAGE);
  assert_null (race);
  assert_int_equal (b.ntasks, 3);
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_ok (&b.task[2]);
  assert_orig (buf, 2 * MIB, 4 * PAGE);
  assert_orig (bufs[1], 2 * MIB + PAGE, PAGE);
  {
    uint64_t bytes = 0;
    size_t i;

    for (i = 0; i < origin_mem_log_len (b.o); i++)
      bytes += origin_mem_log_at (b.o, i).len;
    assert_true (bytes == 4 * PAGE);
  }
  tear_down (&b);
}

static void
another_writes (struct bed *b)
{
  assert_ok (wr (b, ones, 2 * MIB, 2 * PAGE, 0));
}

TEST (who_finds_a_page_written_since_does_not_ask_for_it)
{
  struct bed b;
  struct task *t;

  set_up_race (&b, another_writes);
  t = rd (&b, buf, 2 * MIB, 4 * PAGE);
  assert_null (race);
  assert_ok (t);
  assert_is (buf, 1, 2 * PAGE);
  assert_orig (buf + 2 * PAGE, 2 * MIB + 2 * PAGE, 2 * PAGE);
  assert_int_equal (origin_mem_log_at (b.o, 0).off, 2 * MIB + 2 * PAGE);
  tear_down (&b);
}

static void
the_origin_shrinks (struct bed *b)
{
  assert_int_equal (inode_set_size (b->ino, 2 * MIB + PAGE), 0);
}

TEST (nothing_is_asked_for_behind_an_end_that_moved_just_now)
{
  struct bed b;
  struct task *t;
  size_t i;

  set_up_race (&b, the_origin_shrinks);
  t = rd (&b, buf, 2 * MIB, 4 * PAGE);
  assert_null (race);
  assert_err (t, EIO);
  for (i = 0; i < origin_mem_log_len (b.o); i++)
    assert_true (origin_mem_log_at (b.o, i).off + origin_mem_log_at (b.o, i).len <= 2 * MIB + PAGE);
  tear_down (&b);
}

static void
the_page_goes (struct bed *b)
{
  assert_int_equal (inode_invalidate (b->ino, at (0, PAGE)), 0);
}

/* Its page was there when the frames were counted. */
TEST (a_write_whose_page_goes_while_it_looks_for_frames_is_written)
{
  struct bed b;

  set_up_race (&b, the_page_goes);
  assert_ok (wr (&b, ones, 0, 2 * PAGE + 100, 0));      /* all there: it needs no frame, and nobody races */
  assert_non_null (race);
  assert_ok (flush (&b));
  assert_int_equal (inode_invalidate (b.ino, at (PAGE, PAGE)), 0);
  assert_ok (rd (&b, bufs[0], 3 * MIB, PAGE));          /* takes its frame */
  if (!race)
    race = the_page_goes;
  assert_ok (wr (&b, twos, 0, 2 * PAGE, 0));
  assert_null (race);
  assert_ok (rd (&b, buf, 0, 2 * PAGE));
  assert_is (buf, 2, 2 * PAGE);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Generations and flushes. */

TEST (more_flushes_wait_than_generations_are_kept)
{
  enum { N = 90 };
  struct world_options o = { .nframes = 512, .dirty_max = 512 * PAGE, .dirty_background = 512 * PAGE };
  struct task *f[N];
  struct bed b;
  unsigned i;

  set_up_with (&b, world_info (SIZE), o);
  close_door (&b, ORIGIN_WRITE);
  for (i = 0; i < N; i++) {
    assert_ok (wr (&b, ones, 2 * i * PAGE, PAGE, 0));
    f[i] = flush (&b);
    assert_false (f[i]->done);
  }
  inode_check (b.ino);
  assert_true (b.ino->ngens <= NGENS);
  /* Whoever looks again still waits, the oldest too, whose generation is one with younger ones now. */
  for (i = 0; i < N; i++)
    f[i]->woken = true;
  pump (&b);
  for (i = 0; i < N; i++)
    assert_false (f[i]->done);
  open_door (&b, ORIGIN_WRITE);
  for (i = 0; i < N; i++) {
    assert_ok (f[i]);
    assert_is (origin_mem_durable (b.o) + 2 * i * PAGE, 1, PAGE);
  }
  tear_down (&b);
}

/* In which generation is what is dirty?  All of it is sent up to that number, and nothing up to the one before. */
static void
assert_oldest (struct bed *b, uint32_t seq)
{
  assert_int_equal (inode_write_some (b->ino, seq - 1, 8), 0);
  assert_true (inode_write_some (b->ino, seq, 8) > 0);
  assert_int_equal (inode_get_dirty (b->ino).dirty, 0);
}

static void
tick (struct bed *b)
{
  uint32_t was = inode_seq_now (b->ino);

  inode_seq_tick (b->ino, clock_now (&b->w.clock.base));
  assert_int_equal (inode_seq_now (b->ino), was + 1);
}

/* first, second: a page each, in this order; then all of it is zeroed. */
static void
replaced_by_zeros (bool first_zero, bool second_zero, bool downwards)
{
  uint64_t a = downwards ? PAGE : 0, c = downwards ? 0 : PAGE;
  struct bed b;
  uint32_t seq;

  set_up (&b);
  assert_ok (wr (&b, ones, MIB, PAGE, 0));      /* so that 1 is not the oldest there can be */
  assert_ok (flush (&b));
  seq = inode_seq_now (b.ino);
  assert_ok (first_zero ? zero (&b, a, PAGE, INODE_MAY_TRIM) : wr (&b, ones, a, PAGE, 0));
  tick (&b);
  assert_ok (second_zero ? zero (&b, c, PAGE, INODE_MAY_TRIM) : wr (&b, ones, c, PAGE, 0));
  tick (&b);
  assert_ok (zero (&b, 0, 2 * PAGE, INODE_MAY_TRIM));
  assert_oldest (&b, seq);
  assert_ok (flush (&b));
  assert_is (origin_mem_durable (b.o), 0, 2 * PAGE);
  tear_down (&b);
}

TEST (zeros_inherit_the_oldest_generation_of_what_they_replace)
{
  unsigned i;

  for (i = 0; i < 8; i++)
    replaced_by_zeros (i & 1, i & 2, i & 4);
}

TEST (generations_are_closed_by_age_in_bounded_number)
{
  struct bed b;
  uint32_t seq;
  unsigned i;

  set_up (&b);
  seq = inode_seq_now (b.ino);
  inode_seq_tick (b.ino, UINT64_MAX);           /* nothing in it */
  assert_int_equal (inode_seq_now (b.ino), seq);
  for (i = 0; i < NGENS; i++) {
    assert_ok (wr (&b, ones, i * PAGE, PAGE, 0));
    inode_seq_tick (b.ino, 0);                  /* too young */
    inode_seq_tick (b.ino, clock_now (&b.w.clock.base));
  }
  assert_int_equal (inode_seq_now (b.ino), seq + NGENS / 2 - 1);
  assert_ok (flush (&b));
  assert_is (origin_mem_durable (b.o), 1, NGENS * PAGE);
  tear_down (&b);
}

/* What expires first is what was written first, also when more generations wait than are kept. */
TEST (a_generation_that_is_one_with_a_younger_one_is_as_old_as_it_was)
{
  struct world_options o = { .nframes = 512, .dirty_max = 512 * PAGE, .dirty_background = 512 * PAGE };
  uint64_t born;
  uint32_t seq;
  struct bed b;
  unsigned i;

  set_up_with (&b, world_info (SIZE), o);
  close_door (&b, ORIGIN_WRITE);
  born = clock_now (&b.w.clock.base);
  for (i = 0; i < NGENS + 8; i++) {
    assert_ok (wr (&b, ones, 2 * i * PAGE, PAGE, 0));
    flush (&b);
    clock_fake_advance (&b.w.clock, NSEC_PER_MSEC);
  }
  assert_true (inode_seq_older (b.ino, born, &seq));
  open_door (&b, ORIGIN_WRITE);
  assert_false (inode_seq_older (b.ino, born, &seq));
  tear_down (&b);
}

/* Its FUA request is lost with its connection, and write-behind carries its bytes next, without FUA. */
TEST (a_write_through_whose_bytes_others_carry_waits_for_a_flush)
{
  struct task *t;
  struct bed b;

  set_up (&b);
  close_door (&b, ORIGIN_WRITE);
  t = wr (&b, ones, 0, PAGE, INODE_FUA);
  assert_false (t->done);
  close_door (&b, ORIGIN_FLUSH);
  assert_int_equal (origin_mem_release_nth (b.o, 0, ENOTCONN), 0);
  assert_true (inode_write_some (b.ino, inode_seq_now (b.ino), 8) > 0);
  open_door (&b, ORIGIN_WRITE);
  t->woken = true;
  pump (&b);
  assert_false (t->done);
  open_door (&b, ORIGIN_FLUSH);
  assert_ok (t);
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  tear_down (&b);
}

/* D16: it covers what was answered before it was sent. */
static void
answered_after_the_flush_was_sent (bool zeros)
{
  struct task *f;
  struct bed b;

  set_up (&b);
  close_door (&b, ORIGIN_FLUSH);
  assert_ok (zeros ? zero (&b, 0, PAGE, INODE_MAY_TRIM) : wr (&b, ones, 0, PAGE, 0));
  f = flush (&b);
  assert_int_equal (origin_mem_held (b.o, ORIGIN_FLUSH), 1);
  assert_ok (zeros ? zero (&b, PAGE, PAGE, INODE_MAY_TRIM) : wr (&b, ones, PAGE, PAGE, 0));
  assert_true (inode_write_some (b.ino, inode_seq_now (b.ino), 8) > 0);
  assert_int_equal (inode_get_dirty (b.ino).unstable, 2 * PAGE);
  answer (&b, 0, 0);
  assert_ok (f);
  assert_int_equal (inode_get_dirty (b.ino).unstable, PAGE);
  open_door (&b, ORIGIN_FLUSH);
  assert_ok (flush (&b));
  assert_int_equal (inode_get_dirty (b.ino).unstable, 0);
  tear_down (&b);
}

TEST (a_flush_makes_nothing_clean_that_was_answered_after_it_was_sent)
{
  answered_after_the_flush_was_sent (false);
  answered_after_the_flush_was_sent (true);
}

/* Its request is in the origin's hands until that has answered, however long the connection is gone. */
TEST (a_lost_connections_flush_keeps_its_place_until_it_is_answered)
{
  struct task *f, *g;
  struct bed b;

  set_up (&b);
  close_door (&b, ORIGIN_FLUSH);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  f = flush (&b);
  assert_int_equal (origin_mem_held (b.o, ORIGIN_FLUSH), 1);
  assert_true (b.ino->carrier[0].flushing);
  origin_tell_lost (b.o, b.ino->carrier[0].id);
  assert_int_equal (b.ino->carrier[0].id, 0);
  pump (&b);
  assert_ok (wr (&b, twos, PAGE, PAGE, 0));
  g = flush (&b);
  assert_true (b.ino->carrier[0].flushing);
  assert_int_equal (b.ino->carrier[0].id, 0);
  assert_int_equal (b.ino->ncarriers, 2);
  answer (&b, 0, ENOTCONN);
  assert_false (b.ino->carrier[0].flushing);
  open_door (&b, ORIGIN_FLUSH);
  assert_ok (f);
  assert_ok (g);
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  assert_is (origin_mem_durable (b.o) + PAGE, 2, PAGE);
  tear_down (&b);
}

/* D14 */
TEST (what_was_under_way_when_the_origin_became_another_one_is_answered_by_it)
{
  struct task *t;
  struct bed b;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  t = rd (&b, buf, 0, PAGE);
  origin_tell_failed (b.o, EIO, "another one");
  assert_err (rd (&b, bufs[0], 0, PAGE), EIO);
  open_door (&b, ORIGIN_READ);
  assert_ok (t);
  assert_orig (buf, 0, PAGE);
  tear_down (&b);
}

TEST (a_cancelled_read_counts_as_demand_no_longer)
{
  struct task *t;
  struct bed b;

  set_up (&b);
  close_door (&b, ORIGIN_READ);
  t = rd (&b, buf, 0, 4 * PAGE);
  assert_int_equal (b.ino->demand_bytes, 4 * PAGE);
  inode_op_cancel (&t->op);
  t->done = true;
  assert_int_equal (b.ino->demand_bytes, 0);
  open_door (&b, ORIGIN_READ);
  tear_down (&b);
}

TEST (a_flush_is_not_failed_by_a_write_that_was_sent_before_it)
{
  struct bed b;
  struct task *f;

  set_up (&b);
  close_door (&b, ORIGIN_WRITE);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  assert_int_equal (inode_write_some (b.ino, INODE_SEQ_ALL (b.ino), 8), 1);
  f = flush (&b);
  answer (&b, 0, EIO);
  assert_false (f->done);
  assert_int_equal (inode_get_stats (b.ino)->writeback_errors, 1);
  open_door (&b, ORIGIN_WRITE);
  wait_for (&b, f);
  assert_ok (f);
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  tear_down (&b);
}

/* It was raised to all there is, for newer bytes may be the only copy of older ones. */
TEST (a_flush_is_failed_by_any_write_that_is_sent_while_it_waits)
{
  struct bed b;
  struct task *f;

  set_up (&b);
  close_door (&b, ORIGIN_WRITE);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  f = flush (&b);
  assert_ok (wr (&b, twos, 8 * PAGE, PAGE, 0));
  assert_int_equal (inode_write_some (b.ino, INODE_SEQ_ALL (b.ino), 8), 1);
  answer (&b, 1, EIO);
  assert_err (f, EIO);
  open_door (&b, ORIGIN_WRITE);
  f = flush (&b);
  wait_for (&b, f);
  assert_ok (f);
  assert_is (origin_mem_durable (b.o) + 8 * PAGE, 2, PAGE);
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  tear_down (&b);
}

TEST (an_answer_that_did_not_come_in_time_is_an_io_error_to_clients)
{
  static const enum origin_cmd cmds[] = { ORIGIN_WRITE, ORIGIN_FLUSH };
  static const int errs[] = { ETIMEDOUT, ECANCELED };
  unsigned i;

  for (i = 0; i < 4; i++) {
    struct bed b;
    struct task *f;

    set_up (&b);
    assert_ok (wr (&b, ones, 0, PAGE, 0));
    origin_mem_fail (b.o, cmds[i / 2], errs[i % 2], 0, 1);
    assert_err (flush (&b), EIO);
    f = flush (&b);
    wait_for (&b, f);
    assert_ok (f);
    assert_is (origin_mem_durable (b.o), 1, PAGE);
    tear_down (&b);
  }
}

TEST (a_flush_that_its_connection_did_not_answer_is_sent_again)
{
  struct bed b;
  struct task *f;

  set_up (&b);
  close_door (&b, ORIGIN_FLUSH);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  f = flush (&b);
  answer (&b, 0, ENOTCONN);
  assert_false (f->done);
  assert_int_equal (inode_get_stats (b.ino)->writeback_errors, 0);
  open_door (&b, ORIGIN_FLUSH);
  wait_for (&b, f);
  assert_ok (f);
  assert_int_equal (count (&b, ORIGIN_FLUSH), 2);
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  tear_down (&b);
}

TEST (a_write_through_is_not_failed_by_a_flush_of_others)
{
  struct bed b;
  struct task *f, *w;

  set_up_with (&b, world_info (SIZE), (struct world_options) { .mode = INODE_WRITETHROUGH });
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  close_door (&b, ORIGIN_FLUSH);
  f = flush (&b);
  close_door (&b, ORIGIN_WRITE);
  w = wr (&b, twos, 8 * PAGE, PAGE, 0);
  assert_false (f->done || w->done);
  answer (&b, 0, EIO);
  assert_err (f, EIO);
  assert_false (w->done);
  open_door (&b, ORIGIN_WRITE);
  wait_for (&b, w);
  assert_ok (w);
  open_door (&b, ORIGIN_FLUSH);
  assert_ok (flush (&b));
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  assert_is (origin_mem_durable (b.o) + 8 * PAGE, 2, PAGE);
  tear_down (&b);
}

TEST (unsafe_ignores_flushes_and_nothing_else)
{
  struct bed b;

  set_up_with (&b, world_info (SIZE), (struct world_options) { .mode = INODE_UNSAFE });
  assert_ok (wr (&b, ones, 0, 16 * PAGE, 0));
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_WRITE), 0);
  assert_ok (sync_range (&b, at (0, PAGE), 0));
  assert_is (origin_mem_durable (b.o), 1, PAGE);
  assert_int_equal (count (&b, ORIGIN_WRITE), 1);
  assert_ok (sync_range (&b, RANGE_ALL, INODE_ACCEPTED));
  assert_is (origin_mem_volatile (b.o), 1, 16 * PAGE);
  tear_down (&b);
}

TEST (a_cancelled_flush_is_on_no_list)
{
  struct bed b;
  struct task *f;

  set_up (&b);
  close_door (&b, ORIGIN_WRITE);
  assert_ok (wr (&b, ones, 0, PAGE, 0));
  f = flush (&b);
  assert_false (f->done);
  inode_op_cancel (&f->op);
  f->done = true;
  f->woken = false;
  assert_int_equal (f->op.err, ECANCELED);
  open_door (&b, ORIGIN_WRITE);
  assert_false (f->woken);
  assert_ok (flush (&b));
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Write-back. */

TEST (a_third_export_waits_for_a_write_request_of_the_others)
{
  struct origin_info info = world_info (SIZE);
  struct world_options o = { .nframes = 512, .dirty_max = 512 * PAGE, .dirty_background = 512 * PAGE };
  struct world_disk *d[3];
  struct bed b;
  unsigned i, k;

  set_up_with (&b, info, o);
  d[0] = &b.w.disk[0];
  d[1] = world_add (&b.w, &info);
  d[2] = world_add (&b.w, &info);
  for (k = 0; k < 3; k++) {
    b.ino = d[k]->ino;
    origin_mem_close_door (d[k]->origin, ORIGIN_WRITE);
    for (i = 0; i < 20; i++)
      assert_ok (wr (&b, ones, 2 * i * PAGE, PAGE, 0));
  }
  assert_int_equal (inode_write_some (d[0]->ino, INODE_SEQ_ALL (d[0]->ino), 32), 14);
  assert_int_equal (inode_write_some (d[1]->ino, INODE_SEQ_ALL (d[1]->ino), 32), 2);
  assert_int_equal (inode_write_some (d[2]->ino, INODE_SEQ_ALL (d[2]->ino), 32), 0);
  assert_int_equal (origin_mem_release_nth (d[0]->origin, 0, 0), 0);
  assert_int_equal (inode_write_some (d[2]->ino, INODE_SEQ_ALL (d[2]->ino), 32), 1);
  for (k = 0; k < 3; k++) {
    origin_mem_open_door (d[k]->origin, ORIGIN_WRITE);
    b.ino = d[k]->ino;
    assert_ok (flush (&b));
  }
  b.ino = d[0]->ino;
  tear_down (&b);
}

/* nbd.B-56, nbd.B-57 */
TEST (a_refused_trim_is_forgiven_and_a_failed_one_is_not)
{
  static const int forgiven[] = { EINVAL, ENOTSUP };
  struct bed b;
  unsigned i;

  set_up (&b);
  for (i = 0; i < 2; i++) {
    origin_mem_fail (b.o, ORIGIN_TRIM, forgiven[i], 0, 1);
    assert_ok (trim (&b, 0, PAGE));
    assert_ok (flush (&b));
  }
  assert_int_equal (count (&b, ORIGIN_TRIM), 2);
  origin_mem_fail (b.o, ORIGIN_TRIM, EOVERFLOW, 0, 1);
  assert_ok (trim (&b, 0, PAGE));
  assert_err (flush (&b), EOVERFLOW);
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_TRIM), 4);

  origin_mem_fail (b.o, ORIGIN_ZERO, EOVERFLOW, 0, 1);
  assert_ok (zero (&b, 0, PAGE, INODE_MAY_TRIM));
  assert_ok (flush (&b));
  assert_int_equal (count (&b, ORIGIN_ZERO), 1);
  assert_int_equal (count (&b, ORIGIN_WRITE), 1);
  assert_is (origin_mem_durable (b.o), 0, PAGE);
  tear_down (&b);
}

/* A request out of the middle of what is dirty makes three of it; a node has room for some. */
TEST (what_finds_no_node_to_travel_is_sent_later)
{
  enum { N = 150 };
  struct bed b;
  struct task *t = NULL;
  unsigned zeros, i, run, step;

  for (zeros = 0; zeros < 2; zeros++) {
    set_up_with (&b, world_info (SIZE), (struct world_options) {
        .nframes = 256, .spare = 1 << 20, .dirty_max = 256 * PAGE, .dirty_background = 256 * PAGE });
    run = zeros ? 3 * PAGE : 1500;
    step = zeros ? 4 * PAGE : 2048;
    for (i = 0; i < N; i++) {
      forget_tasks (&b);
      assert_ok (zeros ? zero (&b, i * step, run, INODE_MAY_TRIM) : wr (&b, ones, i * step, run, 0));
    }
    for (i = 0; i < N; i++) {
      forget_tasks (&b);
      world_refuse (true);
      t = sync_range (&b, at (i * step + run / 3, run / 3), INODE_ACCEPTED);
      world_refuse (false);
      if (!t->done)
        break;
      assert_ok (t);
    }
    assert_true (i < N);
    assert_int_equal (origin_mem_log_len (b.o), i);
    inode_check (b.ino);
    wait_for (&b, t);
    assert_ok (t);
    assert_is (origin_mem_volatile (b.o) + i * step + run / 3, zeros ? 0 : 1, run / 3);
    assert_ok (flush (&b));
    for (i = 0; i < N; i++)
      assert_is (origin_mem_durable (b.o) + i * step, zeros ? 0 : 1, run);
    tear_down (&b);
  }
}

TEST (a_read_modify_write_that_finds_no_node_or_whose_read_fails_is_begun_anew)
{
  unsigned how;

  for (how = 0; how < 2; how++) {
    struct bed b;
    struct task *f;

    set_up_with (&b, with_blocks (SIZE, 16 * K, 1 << 20), tight_options ());
    assert_ok (wr (&b, ones, 100, 100 * K, 0));
    close_door (&b, ORIGIN_READ);
    f = flush (&b);
    assert_true (origin_mem_held (b.o, ORIGIN_READ) > 0);
    world_refuse (how == 0);
    answer (&b, 0, how == 0 ? 0 : EIO);
    world_refuse (false);
    inode_check (b.ino);
    open_door (&b, ORIGIN_READ);
    wait_for (&b, f);
    assert_err (f, how == 0 ? 0 : EIO);
    f = flush (&b);
    wait_for (&b, f);
    assert_ok (f);
    assert_orig (origin_mem_durable (b.o), 0, 100);
    assert_is (origin_mem_durable (b.o) + 100, 1, 100 * K);
    assert_orig (origin_mem_durable (b.o) + 100 + 100 * K, 100 + 100 * K, 16 * K);
    tear_down (&b);
  }
}

static void *
evict_all (void *arg)
{
  while (world_reclaim (&((struct bed *) arg)->w, 64))
    ;
  return NULL;
}

/* Its block is sent whole, as a copy, for its frames are no run.  The clean rest of it was evicted between choice and copy,
 * and zeros were sent.
 */
TEST (a_clean_page_that_leaves_when_its_block_is_chosen_is_sent_as_it_was)
{
  struct bed b;
  struct task *f;

  set_up_with (&b, with_blocks (SIZE, 64 * K, 1 << 20), (struct world_options) { 0 });
  assert_ok (wr (&b, ones, 5 * PAGE, PAGE, 0));
  assert_ok (rd (&b, buf, 0, 64 * K));
  chosen_bed = &b;
  when_chosen = evict_all;
  f = flush (&b);
  assert_null (when_chosen);
  assert_ok (f);
  assert_orig (origin_mem_durable (b.o), 0, 5 * PAGE);
  assert_is (origin_mem_durable (b.o) + 5 * PAGE, 1, PAGE);
  assert_orig (origin_mem_durable (b.o) + 6 * PAGE, 6 * PAGE, 10 * PAGE);
  tear_down (&b);
}

static unsigned
writers (struct inode *ino)
{
  unsigned n;

  lock_take (&ino->sync);
  n = inode_writers_locked (ino);
  lock_drop (&ino->sync);
  return n;
}

TEST (writers_are_who_wrote_in_this_second_or_the_one_before)
{
  struct origin_info info = world_info (SIZE);
  struct inode *one, *two;
  struct bed b;

  set_up (&b);
  one = b.ino;
  two = world_add (&b.w, &info)->ino;
  assert_int_equal (writers (one), 1);
  assert_int_equal (writers (one), 1);
  assert_int_equal (writers (two), 2);
  clock_fake_advance (&b.w.clock, NSEC_PER_SEC);
  assert_int_equal (writers (one), 2);
  clock_fake_advance (&b.w.clock, NSEC_PER_SEC);
  assert_int_equal (writers (one), 1);
  assert_int_equal (writers (two), 2);
  clock_fake_advance (&b.w.clock, 5 * NSEC_PER_SEC);
  assert_int_equal (writers (two), 1);
  tear_down (&b);
}

/* A fill that ends in the middle of a page, where the origin ended then.  Who wanted the rest of that page, now that there
 * is some, ran on the spot until its answer.
 */
TEST (who_reads_behind_a_shorter_end_that_is_none_any_more_waits_for_the_page)
{
  struct task *t1, *t2, *t3;
  struct bed b;

  set_up (&b);
  assert_int_equal (inode_set_size (b.ino, 2 * PAGE + 100), 0);
  close_door (&b, ORIGIN_READ);
  t1 = rd (&b, buf, PAGE, PAGE + 100);
  assert_int_equal (inode_set_size (b.ino, SIZE), 0);
  alarm (20);
  t2 = rd (&b, buf + MIB, 2 * PAGE + 200, 1000);
  t3 = rd (&b, buf + 2 * MIB, 2 * PAGE + 50, 3 * PAGE);
  assert_false (t1->done || t2->done || t3->done);
  open_door (&b, ORIGIN_READ);
  alarm (0);
  assert_ok (t1);
  assert_ok (t2);
  assert_ok (t3);
  assert_orig (buf, PAGE, PAGE + 100);
  assert_orig (buf + MIB, 2 * PAGE + 200, 1000);
  assert_orig (buf + 2 * MIB, 2 * PAGE + 50, 3 * PAGE);
  tear_down (&b);
}

/* The block of a FUA write is read first, and meanwhile its bytes become zeros; those are on their way for somebody who needs
 * no FUA.  Answered without a flush, neither was safe.
 */
TEST (a_fua_write_that_became_zeros_before_it_was_sent_is_flushed)
{
  struct origin_info info = with_blocks (SIZE, PAGE, MIB);
  struct task *w, *z;
  struct bed b;

  info.can_fua = true;
  set_up_with (&b, info, (struct world_options) { 0 });
  close_door (&b, ORIGIN_READ);
  z = task (&b);                /* runs before the other, when both are woken */
  w = wr (&b, ones, 0, 512, INODE_FUA);
  inode_op_zero (&z->op, b.ino, at (0, PAGE), 0);
  begin (&b, z);
  assert_false (w->done || z->done);
  close_door (&b, ORIGIN_FLUSH);
  open_door (&b, ORIGIN_READ);
  assert_ok (z);
  assert_false (w->done && origin_mem_durable (b.o)[0] == orig (0));
  open_door (&b, ORIGIN_FLUSH);
  assert_ok (w);
  assert_is (origin_mem_durable (b.o), 0, PAGE);
  tear_down (&b);
}

/* The block was read, and there was no node for taking the bytes.  They are on their way for somebody who needs no FUA
 * before the write looks again: it had asked for all of them with FUA, and was answered without a flush.
 */
TEST (a_fua_write_whose_request_ended_without_it_is_flushed)
{
  struct origin_info info = with_blocks (SIZE, PAGE, MIB);
  struct world_options o = tight_options ();
  struct task *w;
  struct bed b;
  unsigned i;

  info.can_fua = true;
  o.dirty_max = o.dirty_background = 256 * PAGE;
  set_up_with (&b, info, o);
  b.w.env.most_spare_nodes = 0;
  assert_ok (wr (&b, ones, 100, 2 * PAGE - 100, 0));
  for (i = 4; i < 104; i += 2)  /* more than a node of them */
    assert_ok (wr (&b, ones, i * PAGE, PAGE, 0));
  close_door (&b, ORIGIN_READ);
  w = wr (&b, twos, 200, 300, INODE_FUA);       /* its block is cut out of what is dirty */
  assert_int_equal (origin_mem_held (b.o, ORIGIN_READ), 1);
  assert_ok (wr (&b, ones, 104 * PAGE, PAGE, 0));       /* takes the stripe's spare nodes along */
  world_refuse (true);
  assert_int_equal (origin_mem_release_nth (b.o, 0, 0), 0);
  world_refuse (false);
  assert_int_equal (count (&b, ORIGIN_WRITE), 0);
  assert_int_equal (inode_write_some (b.ino, inode_seq_now (b.ino), 1), 1);
  assert_int_equal (origin_mem_held (b.o, ORIGIN_READ), 1);
  pump (&b);
  assert_false (w->done);
  close_door (&b, ORIGIN_FLUSH);
  open_door (&b, ORIGIN_READ);
  assert_is (origin_mem_volatile (b.o) + 200, 2, 300);
  assert_false (w->done && origin_mem_durable (b.o)[200] == orig (200));
  open_door (&b, ORIGIN_FLUSH);
  assert_ok (w);
  assert_is (origin_mem_durable (b.o) + 200, 2, 300);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Where zeros are made. */

static uint8_t *trap;
static volatile unsigned ntraps;

/* A byte of the trap is written for the first time: with a lock held?  A debug build dies of it. */
static void
sprung (int sig, siginfo_t *si, void *context)
{
  uint8_t *page = (uint8_t *) ((uintptr_t) si->si_addr & ~(uintptr_t) (PAGE - 1));

  (void) context;
  if (page < trap || page >= trap + MIB) {
    signal (sig, SIG_DFL);
    return;
  }
  lock_assert_none_held ();
  ntraps++;
  mprotect (page, PAGE, PROT_READ | PROT_WRITE);
}

/* Up to a MiB of them were made with the zeros' lock held, which every writer of a sparse disk wants. */
TEST (zeros_are_made_with_no_lock_held)
{
  struct sigaction action = { .sa_sigaction = sprung, .sa_flags = SA_SIGINFO }, before;
  struct bed b;

  if (getenv ("PC_VALGRIND"))
    skip ();                    /* it does not say which page it was */
  set_up (&b);
  assert_ok (zero (&b, MIB, MIB, INODE_MAY_TRIM));
  trap = mmap (NULL, MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true (trap != MAP_FAILED);
  ntraps = 0;
  sigaction (SIGSEGV, &action, &before);
  assert_ok (rd (&b, trap, MIB, MIB));
  sigaction (SIGSEGV, &before, NULL);
  assert_int_equal (ntraps, MIB / PAGE);
  assert_is (trap, 0, MIB);
  munmap (trap, MIB);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Writes and zeros that cannot be. */

TEST (a_failed_write_through_leaves_no_bytes_in_either_mib)
{
  struct bed b;
  unsigned kept;

  for (kept = 0; kept < 2; kept++) {
    set_up_with (&b, world_info (SIZE), (struct world_options) { .mode = INODE_WRITETHROUGH });
    origin_mem_fail (b.o, ORIGIN_WRITE, EIO, 0, 8);
    assert_err (wr (&b, ones, MIB - 2 * PAGE, 4 * PAGE, 0), EIO);
    origin_mem_fail (b.o, ORIGIN_WRITE, 0, 0, 0);
    assert_int_equal (inode_get_dirty (b.ino).dirty, 0);
    assert_ok (rd (&b, buf, MIB - 2 * PAGE, 4 * PAGE));
    assert_orig (buf, MIB - 2 * PAGE, 4 * PAGE);
    tear_down (&b);
  }
}

/* It ran on the spot for ever. */
TEST (a_failed_write_through_without_memory_ends)
{
  struct bed b;
  struct task *t;

  set_up_with (&b, world_info (SIZE), (struct world_options) { .nframes = 256, .spare = 1 << 20, .mode = INODE_WRITETHROUGH });
  b.w.env.most_spare_nodes = 0;
  close_door (&b, ORIGIN_WRITE);
  t = wr (&b, ones, 0, 4 * PAGE, 0);
  assert_false (t->done);
  world_refuse (true);
  alarm (20);
  answer (&b, 0, EIO);
  alarm (0);
  world_refuse (false);
  assert_err (t, EIO);
  inode_check (b.ino);
  open_door (&b, ORIGIN_WRITE);
  /* What could not be dropped is dirty: what became of a failed write nobody knows (D1). */
  t = flush (&b);
  wait_for (&b, t);
  assert_ok (t);
  tear_down (&b);
}

/* The first waits for frames with half of it written, and is in no list of those that wait for the origin.  A read
 * that holds some is why it goes on waiting.
 */
TEST (a_failed_write_through_takes_nothing_of_one_that_waits_for_frames)
{
  struct world_options o = {
    .nframes = 16, .dirty_max = 64 * PAGE, .dirty_background = 64 * PAGE, .mode = INODE_WRITETHROUGH,
  };
  struct task *t1, *t2, *r;
  const uint8_t *at;
  struct bed b;

  set_up_with (&b, world_info (SIZE), o);
  close_door (&b, ORIGIN_READ);
  r = rd (&b, buf, 2 * MIB, PAGE);
  close_door (&b, ORIGIN_WRITE);
  t1 = wr (&b, ones, 0, 24 * PAGE, 0);
  t2 = wr (&b, twos, 0, PAGE, 0);
  assert_false (r->done || t1->done || t2->done);
  assert_int_equal (origin_mem_held (b.o, ORIGIN_WRITE), 1);
  answer (&b, 1, EIO);
  assert_err (t2, EIO);
  assert_false (t1->done);
  open_door (&b, ORIGIN_WRITE);
  wait_for (&b, t1);
  assert_ok (t1);
  open_door (&b, ORIGIN_READ);
  assert_ok (r);
  at = origin_mem_volatile (b.o);
  assert_true (at[0] == 1 || at[0] == 2);       /* in no order */
  assert_is (at, at[0], PAGE);
  assert_is (at + PAGE, 1, 23 * PAGE);
  tear_down (&b);
}

/* D15: everything is dirty and the origin takes nothing. */
TEST (where_nothing_gets_clean_what_needs_a_frame_fails)
{
  struct world_options o = { .nframes = 16, .dirty_max = 64 * PAGE, .dirty_background = 64 * PAGE };
  struct bed b;

  set_up_with (&b, world_info (SIZE), o);
  origin_mem_fail (b.o, ORIGIN_WRITE, ENOSPC, 0, 1000);
  assert_ok (wr (&b, ones, 0, 16 * PAGE, 0));
  assert_err (flush (&b), ENOSPC);
  assert_err (wr (&b, ones, MIB, PAGE, 0), EIO);
  assert_err (rd (&b, buf, MIB, PAGE), EIO);
  assert_err (zero (&b, MIB + 100, 50, INODE_MAY_TRIM), EIO);
  world_refuse (true);
  assert_err (zero (&b, MIB, 16 * PAGE, INODE_MAY_TRIM), ENOMEM);
  world_refuse (false);
  /* What needs none goes on. */
  assert_ok (wr (&b, twos, 0, PAGE, 0));
  assert_ok (rd (&b, buf, 0, PAGE));
  assert_is (buf, 2, PAGE);
  origin_mem_fail (b.o, ORIGIN_WRITE, 0, 0, 0);
  assert_ok (flush (&b));
  assert_ok (wr (&b, ones, MIB, PAGE, 0));
  tear_down (&b);
}

/* The page it has zeroed is owed, though the rest failed. */
TEST (a_zero_that_fails_half_way_tells_of_its_dirt)
{
  struct world_options o = { .nframes = 16, .dirty_max = 64 * PAGE, .dirty_background = 64 * PAGE };
  struct bed b;

  set_up_with (&b, world_info (SIZE), o);
  origin_mem_fail (b.o, ORIGIN_WRITE, ENOSPC, 0, 1000);
  assert_ok (wr (&b, ones, 0, 16 * PAGE, 0));
  assert_err (flush (&b), ENOSPC);
  b.w.disk[0].dirtied = false;
  assert_err (zero (&b, MIB, PAGE + 100, INODE_MAY_TRIM), EIO);
  assert_int_equal (inode_get_dirty (b.ino).dirty, 17 * PAGE);
  assert_true (b.w.disk[0].dirtied);
  origin_mem_fail (b.o, ORIGIN_WRITE, 0, 0, 0);
  assert_ok (flush (&b));
  assert_is (origin_mem_durable (b.o) + MIB, 0, PAGE);
  tear_down (&b);
}

TEST (a_writer_above_the_background_is_slowed_for_as_long_as_it_is_told)
{
  struct world_options o = { .nframes = 256, .dirty_max = 128 * PAGE, .dirty_background = 8 * PAGE };
  struct bed b;
  struct task *t = NULL;
  unsigned i;

  set_up_with (&b, world_info (SIZE), o);
  /* A page in 100 ms is what the origin takes. */
  close_door (&b, ORIGIN_WRITE);
  for (i = 0; i < 12; i++) {
    assert_ok (wr (&b, ones, 2 * MIB + 2 * i * PAGE, PAGE, 0));
    assert_int_equal (inode_write_some (b.ino, INODE_SEQ_ALL (b.ino), 1), 1);
  }
  for (i = 0; i < 11; i++) {
    clock_fake_advance (&b.w.clock, 100 * NSEC_PER_MSEC);
    answer (&b, 0, 0);
  }
  for (i = 0; i < 120; i++) {
    t = wr (&b, ones, i * PAGE, PAGE, 0);
    if (!t->done)
      break;
  }
  assert_false (t->done);
  assert_int_equal (t->op.stage, WRITE_DELAY);
  assert_true (t->op.wake_at_ns > clock_now (&b.w.clock.base));
  clock_fake_advance (&b.w.clock, t->op.wake_at_ns - clock_now (&b.w.clock.base) - 1);
  t->woken = true;
  pump (&b);
  assert_false (t->done);
  clock_fake_advance (&b.w.clock, 1);
  t->woken = true;
  pump (&b);
  assert_ok (t);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (flush (&b));
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* Birth. */

TEST (an_environment_that_cannot_be_made_takes_nothing)
{
  struct clock_fake clock = CLOCK_FAKE_INIT;
  struct budget budget;
  struct inode_env env;
  int err, how;

  for (how = 0; how < 3; how++) {
    budget_init (&budget, how == 0 ? 1000 : 1 << 20);
    env = (struct inode_env) { .clock = &clock.base, .budget = &budget, .nwb = 16 };
    no_calloc = how == 1;
    no_mmap = how == 2;
    err = inode_env_init (&env);
    no_calloc = no_mmap = false;
    assert_int_equal (err, how == 2 ? EAGAIN : ENOMEM);
    assert_int_equal (budget_free_bytes (&budget), budget.limit);
    budget_check (&budget);
  }
}

TEST (an_inode_without_memory_for_read_ahead_reads_without_it)
{
  struct origin_info info = world_info (SIZE);
  struct inode *ino = NULL;
  struct origin *o;
  struct world w;

  world_init (&w, &(struct world_options) { .nframes = 256, .readahead = 1 << 20 });
  assert_int_equal (origin_mem_create (&info, &o), 0);
  world_fail_alloc_nth (0);
  assert_int_equal (inode_create (&w.env, o, 1, "none", &ino), ENOMEM);
  world_fail_alloc_nth (-1);
  assert_null (ino);
  origin_close (o);

  assert_int_equal (origin_mem_create (&info, &o), 0);
  world_fail_alloc_nth (1);
  assert_int_equal (inode_create (&w.env, o, 1, "some", &ino), 0);
  world_fail_alloc_nth (-1);
  assert_null (ino->ra);
  w.disk[0] = (struct world_disk) { .origin = o, .ino = ino };
  w.ndisks = 1;
  {
    struct inode_op op;
    uint64_t off;

    for (off = 0; off < MIB; off += 64 * K) {
      inode_op_read (&op, ino, buf, at (off, 64 * K));
      assert_int_equal (inode_op_wait (&op, NULL, NULL), 0);
    }
  }
  assert_int_equal (inode_get_stats (ino)->readahead_bytes, 0);
  world_release (&w);
}

/* A little of everything in which nodes, fills and buffers are made, 
 */
static bool
some_work (struct bed *b)
{
  struct task *t;
  bool all = true;
  unsigned i;

#define TRY(what) do { t = (what); all &= t->done && t->op.err == 0; } while (0)
  TRY (rd (b, buf, 0, 300 * K));
  for (i = 0; i < 8; i++)
    TRY (wr (b, twos, PAGE * (3 + 5 * i) + 10 * i, 300, 0));
  TRY (zero (b, 200, 3 * MIB, INODE_MAY_TRIM));
  TRY (wr (b, ones, MIB + 5000, 70 * K, 0));
  TRY (trim (b, MIB + 32 * K, 16 * K));
  TRY (sync_range (b, at (MIB + 20 * K, 4 * K), INODE_FUA));
  all &= inode_invalidate (b->ino, at (64 * K, 16 * K)) == 0;
  TRY (rd (b, buf, b->ino->size - 40 * K, 40 * K));
  TRY (wr (b, ones, b->ino->size - 3000, 3000, INODE_FUA));
  TRY (flush (b));
#undef TRY
  return all;
}

static void
each_allocation_fails (uint64_t size, uint32_t block, enum inode_mode mode)
{
  unsigned long nth = 0;
  bool fine;

  do {
    struct bed b;
    unsigned i;

    set_up_with (&b, with_blocks (size, block, 1 << 20),
                 (struct world_options) { .nframes = 256, .spare = 256 * K, .mode = mode });
    world_fail_alloc_nth ((long) nth);
    fine = some_work (&b) && world_allocs () <= nth;
    world_fail_alloc_nth (-1);
    for (i = 0; i < b.ntasks; i++) {
      wait_for (&b, &b.task[i]);
      assert_true (b.task[i].done);
      assert_true (b.task[i].op.err == 0 || b.task[i].op.err == ENOMEM);
    }
    forget_tasks (&b);
    assert_ok (rd (&b, buf, 300, 2000));
    assert_ok (flush (&b));
    tear_down (&b);
    nth++;
    assert_true (nth < 2000);
  } while (!fine);
  printf ("# %lu allocations failed, one at a time\n", nth - 1);
  assert_true (nth > 5);
}

TEST (every_allocation_may_fail_over_large_blocks)
{
  each_allocation_fails (SIZE - 48 * K, 16 * K, INODE_WRITEBACK);
}

TEST (every_allocation_may_fail_when_written_through)
{
  each_allocation_fails (SIZE - 1000, 1, INODE_WRITETHROUGH);
}

/* A test that failed may have left something broken. */
static int
calm_all (void **state)
{
  no_calloc = no_mmap = false;
  race = NULL;
  when_chosen = NULL;
  return calm (state);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup (what_cannot_be_cut_out_of_its_run_stays_and_is_told, calm_all),
    cmocka_unit_test_setup (what_is_dirty_at_the_end_of_a_range_stays_when_that_goes, calm_all),
    cmocka_unit_test_setup (an_inode_is_empty_when_nothing_is_there_and_nothing_comes, calm_all),
    cmocka_unit_test_setup (what_is_dirty_is_named_in_order_until_it_is_enough, calm_all),
    cmocka_unit_test_setup (a_block_that_the_old_end_cut_waits_for_its_part_under_way, calm_all),
    cmocka_unit_test_setup (who_hears_others_errors_again_and_again_is_told_in_the_end, calm_all),
    cmocka_unit_test_setup (the_last_few_bytes_of_a_disk_are_looked_at_for_zeros_too, calm_all),
    cmocka_unit_test_setup (nothing_is_prefetched_where_a_fill_under_way_was_written_over, calm_all),
    cmocka_unit_test_setup (reads_of_an_origin_with_large_blocks_are_whole_blocks_and_no_longer_than_it_takes, calm_all),
    cmocka_unit_test_setup (of_a_run_that_is_too_short_whole_multiples_are_used, calm_all),
    cmocka_unit_test_setup (who_is_second_to_ask_for_a_page_waits_for_the_first, calm_all),
    cmocka_unit_test_setup (who_finds_a_page_written_since_does_not_ask_for_it, calm_all),
    cmocka_unit_test_setup (nothing_is_asked_for_behind_an_end_that_moved_just_now, calm_all),
    cmocka_unit_test_setup (a_write_whose_page_goes_while_it_looks_for_frames_is_written, calm_all),
    cmocka_unit_test_setup (more_flushes_wait_than_generations_are_kept, calm_all),
    cmocka_unit_test_setup (zeros_inherit_the_oldest_generation_of_what_they_replace, calm_all),
    cmocka_unit_test_setup (generations_are_closed_by_age_in_bounded_number, calm_all),
    cmocka_unit_test_setup (a_generation_that_is_one_with_a_younger_one_is_as_old_as_it_was, calm_all),
    cmocka_unit_test_setup (a_write_through_whose_bytes_others_carry_waits_for_a_flush, calm_all),
    cmocka_unit_test_setup (a_flush_makes_nothing_clean_that_was_answered_after_it_was_sent, calm_all),
    cmocka_unit_test_setup (a_lost_connections_flush_keeps_its_place_until_it_is_answered, calm_all),
    cmocka_unit_test_setup (what_was_under_way_when_the_origin_became_another_one_is_answered_by_it, calm_all),
    cmocka_unit_test_setup (a_cancelled_read_counts_as_demand_no_longer, calm_all),
    cmocka_unit_test_setup (a_flush_is_not_failed_by_a_write_that_was_sent_before_it, calm_all),
    cmocka_unit_test_setup (a_flush_is_failed_by_any_write_that_is_sent_while_it_waits, calm_all),
    cmocka_unit_test_setup (an_answer_that_did_not_come_in_time_is_an_io_error_to_clients, calm_all),
    cmocka_unit_test_setup (a_flush_that_its_connection_did_not_answer_is_sent_again, calm_all),
    cmocka_unit_test_setup (a_write_through_is_not_failed_by_a_flush_of_others, calm_all),
    cmocka_unit_test_setup (unsafe_ignores_flushes_and_nothing_else, calm_all),
    cmocka_unit_test_setup (a_cancelled_flush_is_on_no_list, calm_all),
    cmocka_unit_test_setup (a_third_export_waits_for_a_write_request_of_the_others, calm_all),
    cmocka_unit_test_setup (a_refused_trim_is_forgiven_and_a_failed_one_is_not, calm_all),
    cmocka_unit_test_setup (what_finds_no_node_to_travel_is_sent_later, calm_all),
    cmocka_unit_test_setup (a_read_modify_write_that_finds_no_node_or_whose_read_fails_is_begun_anew, calm_all),
    cmocka_unit_test_setup (a_clean_page_that_leaves_when_its_block_is_chosen_is_sent_as_it_was, calm_all),
    cmocka_unit_test_setup (writers_are_who_wrote_in_this_second_or_the_one_before, calm_all),
    cmocka_unit_test_setup (who_reads_behind_a_shorter_end_that_is_none_any_more_waits_for_the_page, calm_all),
    cmocka_unit_test_setup (a_fua_write_that_became_zeros_before_it_was_sent_is_flushed, calm_all),
    cmocka_unit_test_setup (a_fua_write_whose_request_ended_without_it_is_flushed, calm_all),
    cmocka_unit_test_setup (zeros_are_made_with_no_lock_held, calm_all),
    cmocka_unit_test_setup (a_failed_write_through_leaves_no_bytes_in_either_mib, calm_all),
    cmocka_unit_test_setup (a_failed_write_through_without_memory_ends, calm_all),
    cmocka_unit_test_setup (a_failed_write_through_takes_nothing_of_one_that_waits_for_frames, calm_all),
    cmocka_unit_test_setup (where_nothing_gets_clean_what_needs_a_frame_fails, calm_all),
    cmocka_unit_test_setup (a_zero_that_fails_half_way_tells_of_its_dirt, calm_all),
    cmocka_unit_test_setup (a_writer_above_the_background_is_slowed_for_as_long_as_it_is_told, calm_all),
    cmocka_unit_test_setup (an_environment_that_cannot_be_made_takes_nothing, calm_all),
    cmocka_unit_test_setup (an_inode_without_memory_for_read_ahead_reads_without_it, calm_all),
    cmocka_unit_test_setup (every_allocation_may_fail_over_large_blocks, calm_all),
    cmocka_unit_test_setup (every_allocation_may_fail_when_written_through, calm_all),
  };

  return cmocka_run_group_tests (tests, fill_patterns, NULL);
}
