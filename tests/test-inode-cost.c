/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-inode-cost - what does a request cost beside many holes that are known, and what do those count for?
 *
 * As test-inode.  What is counted is how many zero ranges are looked at, not time: this program has the zero set's code with
 * a counter in it.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static unsigned long looks;

#define ZEROSET_LOOK() ((void) looks++)
#include "zeroset.c"
#include "inode-bed.h"

#define DISK (16 * MIB)
#define HOLES (4 * MIB)         /* from here on */

static uint8_t page[PAGE];

/* An inode that knows of n holes. */
static void
set_up_holes (struct bed *b, unsigned n)
{
  unsigned i;

  set_up_blank (b, world_info (DISK), (struct world_options) { .nframes = 16384 });
  for (i = 0; i < n; i++) {
    forget_tasks (b);
    assert_ok (zero (b, HOLES + 2 * i * PAGE, PAGE, INODE_MAY_TRIM));
  }
  clean (b);
  assert_int_equal (b->ino->nzeros, n);
  forget_tasks (b);
}

static int
count_extents (void *arg, uint64_t off, uint64_t len, unsigned type)
{
  (void) off;
  (void) len;
  (void) type;
  ++*(unsigned *) arg;
  return 0;
}

/* Sixteen times the holes may cost a few looks more in the nodes on the way, not sixteen times as many. */
static void
compare (void (*act) (struct bed *))
{
  const unsigned few = 64, many = 1024;
  unsigned long n[2];
  unsigned i;

  for (i = 0; i < 2; i++) {
    struct bed b;

    set_up_holes (&b, i == 0 ? few : many);
    looks = 0;
    act (&b);
    n[i] = looks;
    assert_int_equal (b.ino->nzeros, i == 0 ? few : many);
    tear_down (&b);
  }
  print_message ("%lu ranges looked at beside %u holes, %lu beside %u\n", n[0], few, n[1], many);
  assert_true (n[1] <= 4 * n[0] + 100);
}

static void
flush_scattered_pages (struct bed *b)
{
  unsigned i;

  for (i = 0; i < 32; i++)
    assert_ok (wr (b, page, 2 * i * PAGE, PAGE, 0));
  looks = 0;
  assert_ok (flush (b));
  assert_int_equal (count (b, ORIGIN_WRITE), 32);
}

static void
flush_a_trim_behind (struct bed *b)
{
  unsigned i;

  for (i = 0; i < 32; i++)
    assert_ok (trim (b, DISK - 2 * (i + 1) * PAGE, PAGE));
  looks = 0;
  assert_ok (flush (b));
  assert_int_equal (count (b, ORIGIN_TRIM), 32);
}

static void
write_through (struct bed *b)
{
  unsigned i;

  for (i = 0; i < 32; i++)
    assert_ok (wr (b, page, 2 * i * PAGE, PAGE, INODE_FUA));
}

static void
ask_status (struct bed *b)
{
  unsigned n = 0;

  assert_int_equal (inode_extents (b->ino, (struct range) { 0, DISK }, false, count_extents, &n), 0);
  assert_true (n > 0);
}

TEST (a_flush_of_pages_costs_the_same_beside_many_holes)
{
  compare (flush_scattered_pages);
}

TEST (a_flush_of_trims_costs_the_same_beside_many_holes)
{
  compare (flush_a_trim_behind);
}

TEST (a_write_with_fua_costs_the_same_beside_many_holes)
{
  compare (write_through);
}

TEST (block_status_costs_the_same_beside_many_holes)
{
  compare (ask_status);
}

/* D13: what is to be written is charged; what is known is cache content. */
TEST (zeros_are_charged_and_holes_beside_them_are_not)
{
  struct bed b;

  set_up_holes (&b, 512);
  assert_int_equal (b.w.env.dirty_total, 0);
  assert_ok (zero (&b, 0, PAGE, INODE_MAY_TRIM));
  assert_ok (trim (&b, DISK - PAGE, PAGE));
  assert_int_equal (b.w.env.dirty_total, 2 * 64);
  /* What splits a hole, or takes one away, is charged for itself. */
  assert_ok (wr (&b, page, HOLES, PAGE, 0));
  assert_int_equal (b.w.env.dirty_total, 2 * 64 + PAGE);
  close_door (&b, ORIGIN_ZERO);
  assert_int_equal (inode_write_some (b.ino, b.ino->seq, 100), 3);
  assert_int_equal (b.w.env.dirty_total, 2 * 64 + PAGE);
  open_door (&b, ORIGIN_ZERO);
  assert_ok (flush (&b));
  assert_int_equal (b.w.env.dirty_total, 0);
  tear_down (&b);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (a_flush_of_pages_costs_the_same_beside_many_holes),
    cmocka_unit_test (a_flush_of_trims_costs_the_same_beside_many_holes),
    cmocka_unit_test (a_write_with_fua_costs_the_same_beside_many_holes),
    cmocka_unit_test (block_status_costs_the_same_beside_many_holes),
    cmocka_unit_test (zeros_are_charged_and_holes_beside_them_are_not),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
