/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-inode-flush - does a flush wait for all that was acknowledged, at whatever moment it comes?
 *
 * As test-inode: a clock that stands still, an origin with doors.  Something was acknowledged and is not at the origin; then
 * another request goes over it.  A flush comes before that, or at one of the moments at which it lets go a lock, each in
 * its turn; it may not be answered while the origin takes nothing.
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inode-bed.h"
#include "inode-map.h"

/*----------------------------------------------------------------------*/
/* Others get the processor at the nth release of a lock, and we wait for them. */

extern int __real_pthread_mutex_unlock (pthread_mutex_t *);
extern int __wrap_pthread_mutex_unlock (pthread_mutex_t *);
extern int __real_pthread_rwlock_unlock (pthread_rwlock_t *);
extern int __wrap_pthread_rwlock_unlock (pthread_rwlock_t *);

static struct {
  void *lock;
  void *(*run) (void *);
  void *arg;
  unsigned left;
} moment;

static void
look (void *lock)
{
  pthread_t other;

  if (lock != moment.lock || moment.left-- > 0)
    return;
  moment.lock = NULL;
  assert_int_equal (pthread_create (&other, NULL, moment.run, moment.arg), 0);
  pthread_join (other, NULL);
}

int
__wrap_pthread_mutex_unlock (pthread_mutex_t *l)
{
  int err = __real_pthread_mutex_unlock (l);

  look (l);
  return err;
}

int
__wrap_pthread_rwlock_unlock (pthread_rwlock_t *l)
{
  int err = __real_pthread_rwlock_unlock (l);

  look (l);
  return err;
}

/*----------------------------------------------------------------------*/

enum what { WRITE, WRITE_PART, ZERO, TRIM, ZERO_ALL, TRIM_ALL, MAP, NWHATS };

static const char *const names[] = { "write", "part", "zero", "trim", "zero all", "trim all", "map" };

static struct task *
act (struct bed *b, enum what what, const uint8_t *bytes)
{
  struct task *t;

  switch (what) {
  case WRITE: return wr (b, bytes, 0, PAGE, 0);
  case WRITE_PART: return wr (b, bytes, 100, 512, 0);
  case ZERO: return zero (b, 0, PAGE, INODE_MAY_TRIM);
  case TRIM: return trim (b, 0, PAGE);
  case ZERO_ALL: return zero (b, 0, SIZE, INODE_MAY_TRIM);
  case TRIM_ALL: return trim (b, 0, SIZE);
  case MAP:
    t = task (b);
    inode_op_map (&t->op, b->ino, at (0, PAGE), at (0, PAGE), INODE_MAP_WRITE);
    return begin (b, t);
  case NWHATS: break;
  }
  abort ();
}

static void *
flush_comes (void *arg)
{
  struct task *f = arg;

  sync_begin (&f->op, RANGE_ALL, 0);
  return NULL;
}

/* `second` over what `first` wrote; the flush comes before `second` (nth: 0), or at its nth release of the books.  False: there
 * are not so many.
 */
static bool
comes_at (enum what first, enum what second, unsigned nth, unsigned *early)
{
  struct task *f, *t;
  struct bed b;
  bool came;

  set_up_blank (&b, world_info (SIZE), (struct world_options) { .nframes = 64 });
  close_door (&b, ORIGIN_READ);
  close_door (&b, ORIGIN_WRITE);
  close_door (&b, ORIGIN_ZERO);
  close_door (&b, ORIGIN_TRIM);
  assert_ok (act (&b, first, ones));
  f = task (&b);
  inode_op_sync (&f->op, b.ino, RANGE_ALL, 0);
  if (nth == 0)
    flush_comes (f);
  else {
    moment.run = flush_comes;
    moment.arg = f;
    moment.left = nth - 1;
    moment.lock = &b.ino->sync.mutex;
  }
  t = act (&b, second, twos);
  moment.lock = NULL;
  came = f->op.syncing;
  begin (&b, f);
  open_door (&b, ORIGIN_READ);
  if (f->done) {
    printf ("# %s over %s: a flush that comes at moment %u is answered\n", names[second], names[first], nth);
    ++*early;
  }
  open_door (&b, ORIGIN_TRIM);
  open_door (&b, ORIGIN_ZERO);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (t);
  if (second == MAP)
    inode_op_map_end (&t->op);
  assert_ok (f);
  tear_down (&b);
  return came;
}

TEST (a_flush_waits_for_what_replaces_what_it_waits_for)
{
  unsigned first, second, nth, most = 0, early = 0;

  for (first = 0; first < MAP; first++)
    for (second = 0; second < NWHATS; second++) {
      for (nth = 0; comes_at (first, second, nth, &early); nth++)
        ;
      if (nth > most)
        most = nth;
    }
  printf ("# up to %u moments of a request\n", most);
  assert_true (most > 2);
  assert_int_equal (early, 0);
}

TEST (a_flush_waits_for_zeros_that_go_over_a_block_that_is_being_read_for_it)
{
  struct task *f;
  struct bed b;

  set_up_with (&b, with_blocks (SIZE, PAGE, 32 << 20), (struct world_options) { .nframes = 64 });
  close_door (&b, ORIGIN_READ);
  close_door (&b, ORIGIN_ZERO);
  assert_ok (wr (&b, ones, 0, 512, 0));
  f = flush (&b);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_ok (zero (&b, 0, PAGE, INODE_MAY_TRIM));
  open_door (&b, ORIGIN_READ);
  assert_false (f->done);
  open_door (&b, ORIGIN_ZERO);
  assert_ok (f);
  assert_is (origin_mem_durable (b.o), 0, PAGE);
  tear_down (&b);
}

/*----------------------------------------------------------------------*/
/* FUA: only a range, which is looked for in two places one after the other. */

static void *
write_comes (void *arg)
{
  struct bed *b = arg;
  struct task *t = task (b);

  inode_op_write (&t->op, b->ino, twos, at (0, PAGE), 0);
  t->op.wake = wake;
  t->op.wake_arg = t;
  t->done = inode_op_run (&t->op);
  return NULL;
}

static bool
zero_is_written_over_at (unsigned nth)
{
  struct task *t;
  struct bed b;
  bool came;

  set_up_with (&b, world_info (SIZE), (struct world_options) { .nframes = 64 });
  close_door (&b, ORIGIN_WRITE);
  close_door (&b, ORIGIN_ZERO);
  moment.run = write_comes;
  moment.arg = &b;
  moment.left = nth;
  moment.lock = &b.ino->stripe[0].lock.rw;
  t = zero (&b, 0, PAGE, INODE_FUA | INODE_MAY_TRIM);
  came = moment.lock == NULL;
  moment.lock = NULL;
  if (t->done)
    fail_msg ("a zero with FUA was answered when it was written over at moment %u", nth);
  open_door (&b, ORIGIN_ZERO);
  open_door (&b, ORIGIN_WRITE);
  assert_ok (t);
  tear_down (&b);
  return came;
}

TEST (zeros_with_fua_wait_for_what_goes_over_them)
{
  unsigned nth;

  for (nth = 0; zero_is_written_over_at (nth); nth++)
    ;
  assert_true (nth > 2);
}

/* FUA over part of a block is sent when the rest of the block was read.  What of it is zeros by then goes with a request of
 * somebody else, who asked for no FUA; what is not goes as it should have, so that the request itself ends well.
 */
TEST (a_write_with_fua_waits_for_zeros_that_go_over_one_of_its_blocks_while_they_are_read)
{
  struct task *t, *f;
  struct bed b;

  set_up_with (&b, with_blocks (SIZE, PAGE, 32 << 20), (struct world_options) { .nframes = 64 });
  close_door (&b, ORIGIN_READ);
  close_door (&b, ORIGIN_FLUSH);
  t = wr (&b, twos, 0, PAGE + 512, INODE_FUA);
  assert_int_equal (count (&b, ORIGIN_READ), 1);
  assert_ok (zero (&b, 0, PAGE, INODE_MAY_TRIM));
  f = flush (&b);
  open_door (&b, ORIGIN_READ);
  assert_int_equal (count (&b, ORIGIN_ZERO), 1);
  assert_is (origin_mem_volatile (b.o), 0, PAGE);
  assert_false (t->done);
  open_door (&b, ORIGIN_FLUSH);
  assert_ok (t);
  assert_is (origin_mem_durable (b.o), 0, PAGE);
  assert_is (origin_mem_durable (b.o) + PAGE, 2, 512);
  assert_orig (origin_mem_durable (b.o) + PAGE + 512, PAGE + 512, PAGE - 512);
  assert_ok (f);
  tear_down (&b);
}

TEST (a_write_with_fua_over_part_of_a_block_is_durable_without_a_flush)
{
  struct task *t;
  struct bed b;

  set_up_with (&b, with_blocks (SIZE, PAGE, 32 << 20), (struct world_options) { .nframes = 64 });
  t = wr (&b, twos, 0, 512, INODE_FUA);
  assert_ok (t);
  assert_int_equal (count (&b, ORIGIN_FLUSH), 0);
  assert_is (origin_mem_durable (b.o), 2, 512);
  assert_orig (origin_mem_durable (b.o) + 512, 512, PAGE - 512);
  tear_down (&b);
}

static int
calm_all (void **state)
{
  moment.lock = NULL;
  return calm (state);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup (a_flush_waits_for_what_replaces_what_it_waits_for, calm_all),
    cmocka_unit_test_setup (a_flush_waits_for_zeros_that_go_over_a_block_that_is_being_read_for_it, calm_all),
    cmocka_unit_test_setup (zeros_with_fua_wait_for_what_goes_over_them, calm_all),
    cmocka_unit_test_setup (a_write_with_fua_waits_for_zeros_that_go_over_one_of_its_blocks_while_they_are_read, calm_all),
    cmocka_unit_test_setup (a_write_with_fua_over_part_of_a_block_is_durable_without_a_flush, calm_all),
  };

  return cmocka_run_group_tests (tests, fill_patterns, NULL);
}
