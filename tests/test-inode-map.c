/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-inode-map - an export in address spaces: frames, keeping, taking back.
 *
 * One thing after the other; what goes wrong is in test-inode-map-rare.
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inode-attr.h"
#include "inode-space.h"

/*----------------------------------------------------------------------*/
/* The seeds' tests. */

TEST (a_read_takes_what_a_mapping_brought_and_the_rest_from_the_origin)
{
  struct world *w = new_world (3 * P);
  struct space s = space_of (w);
  struct inode_op op;
  uint8_t buf[3 * P];

  map (&s, pages (1, 1), false);
  assert_int_equal (fault (&s, pages (1, 1), INODE_MAP_READ), 0);
  assert_int_equal (memfile_in_use (w->mf), 1);
  assert_int_equal (origin_mem_count (w->disk[0].origin, ORIGIN_READ), 1);
  inode_op_read (&op, s.ino, buf, pages (0, 3));
  assert_int_equal (run (w, &op), 0);
  assert_int_equal (buf[0], 'a');
  assert_int_equal (buf[P], 'b');
  assert_int_equal (buf[3 * P - 1], 'c');
  /* Page 1 was not asked for again. */
  assert_int_equal (origin_mem_count (w->disk[0].origin, ORIGIN_READ), 3);
  assert_int_equal (*at (&s, P), 'b');
  unmap (&s, pages (1, 1), false);
  assert_int_equal (inode_mapped_frames (s.ino), 0);
  while (world_reclaim (w, 8))
    ;
  assert_int_equal (memfile_in_use (w->mf), 0);
  free_world (w);
}

TEST (a_write_goes_into_mapped_pages_and_reaches_the_origin_with_a_flush)
{
  struct world *w = new_world (4 * P);
  struct space s = space_of (w);

  map (&s, pages (1, 2), true);
  assert_int_equal (fault (&s, pages (1, 2), INODE_MAP_WRITE), 0);
  assert_int_equal (dirty_bytes (w), 2 * P);
  assert_int_equal (write_at (w, 0, P, 'e'), 0);
  assert_int_equal (write_at (w, P, P, 'f'), 0);
  assert_int_equal (*at (&s, P), 'f');
  assert_true (durable_is (w, P, "b"));
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 0, "e"));
  assert_true (durable_is (w, P, "f"));
  assert_true (durable_is (w, 2 * P, "c"));
  /* Kept: still dirty, and nothing else is. */
  assert_int_equal (dirty_bytes (w), 2 * P);
  unmap (&s, pages (1, 2), true);
  assert_int_equal (flush (w), 0);
  assert_int_equal (dirty_bytes (w), 0);
  free_world (w);
}

TEST (a_ranged_truncate_goes_into_mapped_pages_where_they_are)
{
  static const struct { bool trim; uint32_t block_min; } cases[] = { { false, 1 }, { true, 1 }, { false, 16384 },
                                                                   { true, 16384 } };
  unsigned c;

  for (c = 0; c < PC_ARRAY_SIZE (cases); c++) {
    struct origin_info info = world_info (16 * P);
    struct world_options o = { .nframes = 256 };
    struct world *w;
    struct space s;
    struct inode_op op;
    uint32_t frame;

    info.block_min = cases[c].block_min;
    w = new_world_of (&info, &o);
    s = space_of (w);
    map (&s, pages (5, 2), true);
    assert_int_equal (fault (&s, pages (5, 1), INODE_MAP_READ), 0);
    assert_int_equal (fault (&s, pages (6, 1), INODE_MAP_WRITE), 0);
    frame = s.t[0].frame;
    read_is (w, 4 * P, P, "e");
    if (cases[c].trim)
      inode_op_trim (&op, s.ino, pages (0, 16), 0);
    else
      inode_op_zero (&op, s.ino, pages (0, 16), INODE_MAY_TRIM);
    assert_int_equal (run (w, &op), 0);
    assert_int_equal (s.calls, 0);
    assert_int_equal (s.t[0].frame, frame);
    assert_int_equal (*at (&s, 5 * P), 0);
    assert_int_equal (*at (&s, 7 * P - 1), 0);
    read_is (w, 0, 16 * P, "\0");
    inode_check (s.ino);
    store (&s, 6 * P, "new");
    read_is (w, 6 * P, 4, "new");
    unmap (&s, pages (5, 2), true);
    assert_int_equal (flush (w), 0);
    assert_true (durable_is (w, 6 * P, "new"));
    assert_int_equal (origin_mem_durable (w->disk[0].origin)[5 * P], 0);
    assert_int_equal (origin_mem_durable (w->disk[0].origin)[15 * P], 0);
    free_world (w);
  }
}

/*----------------------------------------------------------------------*/

static void
two_processes_one_page (bool first_leaves_first)
{
  struct world *w = new_world (4 * P);
  struct space one = space_of (w), two = space_of (w), *a = &one, *b = &two;
  size_t writes;

  map (&one, pages (1, 1), true);
  assert_int_equal (fault (&one, pages (1, 1), INODE_MAP_WRITE), 0);
  store (&one, P, "aaaaaaaa");
  map (&two, pages (1, 1), true);
  assert_int_equal (fault (&two, pages (1, 1), INODE_MAP_WRITE), 0);
  store (&two, P, "bbbb");
  read_is (w, P, 8, "bbbbaaaa");
  assert_int_equal (write_at (w, P + 6, 2, 'c'), 0);
  assert_memory_equal (at (&one, P), "bbbbaacc", 8);
  if (!first_leaves_first) {
    a = &two;
    b = &one;
  }
  writes = origin_mem_count (w->disk[0].origin, ORIGIN_WRITE);
  unmap (a, pages (1, 1), true);
  assert_int_equal (inode_kept_frames (one.ino), 1);
  store (b, P + 2, "zz");
  unmap (b, pages (1, 1), true);
  /* Neither has written anything or dropped it; the last leaves it dirty. */
  assert_int_equal (origin_mem_count (w->disk[0].origin, ORIGIN_WRITE), writes);
  assert_int_equal (dirty_bytes (w), P);
  assert_int_equal (inode_kept_frames (one.ino), 0);
  assert_false (inode_has_mappings (one.ino));
  read_is (w, P, 8, "bbzzaacc");
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, P, "bbzzaacc"));
  assert_int_equal (dirty_bytes (w), 0);
  free_world (w);
}

TEST (a_zero_over_a_mapped_page_ends_where_less_may_be_dirty_than_it_makes_so)
{
  struct origin_info info = world_info (16 * P);
  struct world_options o = { .nframes = 256, .dirty_max = 2 * P };
  struct world *w = new_world_of (&info, &o);
  struct space s = space_of (w);
  struct inode_op op;

  map (&s, pages (0, 16), false);
  assert_int_equal (fault (&s, pages (1, 1), INODE_MAP_READ), 0);
  inode_op_zero (&op, s.ino, (struct range) { 100, 3 * P - 100 }, INODE_MAY_TRIM);
  assert_int_equal (run (w, &op), 0);
  assert_int_equal (at (&s, P)[0], 0);
  assert_int_equal (op.reserved, 0);
  /* And who comes next gets in. */
  assert_int_equal (write_at (w, 8 * P, P, 'w'), 0);
  read_is (w, 100, 3 * P - 200, "\0");
  unmap (&s, pages (0, 16), false);
  assert_int_equal (flush (w), 0);
  free_world (w);
}

TEST (two_mappings_of_a_page_and_its_clients_see_one_thing)
{
  two_processes_one_page (true);
  two_processes_one_page (false);
}

TEST (each_flush_sends_what_is_in_a_kept_page_then)
{
  struct world *w = new_world (4 * P);
  struct space s = space_of (w);
  struct inode_op op;

  map (&s, pages (0, 1), true);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_WRITE), 0);
  store (&s, 0, "one");
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 0, "one"));
  store (&s, 0, "two");
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 0, "two"));

  /* A store while a copy travels; origin-mem ends the program if the bytes under way change. */
  origin_mem_close_door (w->disk[0].origin, ORIGIN_WRITE);
  inode_op_sync (&op, s.ino, RANGE_ALL, 0);
  assert_false (turn (w, &op));
  store (&s, 0, "three");
  assert_int_equal (write_at (w, 8, 4, 'w'), 0);
  assert_memory_equal (at (&s, 8), "wwww", 4);
  inode_check (s.ino);
  origin_mem_open_door (w->disk[0].origin, ORIGIN_WRITE);
  assert_int_equal (run (w, &op), 0);
  assert_true (durable_is (w, 0, "two"));
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 0, "three"));
  unmap (&s, pages (0, 1), true);
  free_world (w);
}

/* A flush that comes while the copy of another travels waits for a copy of its own, whatever becomes of the page meanwhile
 * (seed 3 of the simulation found the first of these).
 */
TEST (a_store_after_the_copy_is_owed_to_the_flush_that_comes_next)
{
  enum { NOTHING, WRITTEN, UNMAPPED, FAILED, NCASES } c;

  for (c = NOTHING; c < NCASES; c++) {
    struct world *w = new_world (4 * P);
    struct space s = space_of (w);
    struct inode_op one, two;

    map (&s, pages (0, 1), true);
    assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_WRITE), 0);
    store (&s, 0, "first.");
    origin_mem_close_door (w->disk[0].origin, ORIGIN_WRITE);
    inode_op_sync (&one, s.ino, RANGE_ALL, 0);
    assert_false (turn (w, &one));
    store (&s, 0, "second");
    inode_op_sync (&two, s.ino, RANGE_ALL, 0);
    assert_false (turn (w, &two));
    if (c == WRITTEN)
      assert_int_equal (write_at (w, 0, 1, 'S'), 0);
    if (c == UNMAPPED)
      unmap (&s, pages (0, 1), true);
    if (c == FAILED)
      assert_int_equal (origin_mem_release_nth (w->disk[0].origin, 0, ENOTCONN), 0);
    inode_check (s.ino);
    origin_mem_open_door (w->disk[0].origin, ORIGIN_WRITE);
    assert_int_equal (run (w, &two), 0);
    assert_true (durable_is (w, 0, c == WRITTEN ? "Second" : "second"));
    assert_int_equal (run (w, &one), 0);
    if (c != UNMAPPED)
      unmap (&s, pages (0, 1), true);
    free_world (w);
  }
}

TEST (a_store_after_the_copy_and_before_the_unmap_is_not_lost)
{
  struct world *w = new_world (4 * P);
  struct space s = space_of (w);
  struct inode_op op;

  map (&s, pages (0, 1), true);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_WRITE), 0);
  store (&s, 0, "before");
  origin_mem_close_door (w->disk[0].origin, ORIGIN_WRITE);
  inode_op_sync (&op, s.ino, RANGE_ALL, 0);
  assert_false (turn (w, &op));
  store (&s, 0, "after");
  unmap (&s, pages (0, 1), true);
  origin_mem_open_door (w->disk[0].origin, ORIGIN_WRITE);
  assert_int_equal (run (w, &op), 0);
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 0, "after"));
  assert_int_equal (dirty_bytes (w), 0);
  free_world (w);
}

TEST (a_page_under_way_gets_another_frame_before_it_is_mapped)
{
  struct world *w = new_world (4 * P);
  struct space s = space_of (w);
  struct inode_translation t;
  struct inode_op op;
  unsigned n;

  assert_int_equal (write_at (w, 0, P, 'x'), 0);
  origin_mem_close_door (w->disk[0].origin, ORIGIN_WRITE);
  inode_op_sync (&op, s.ino, RANGE_ALL, 0);
  assert_false (turn (w, &op));
  map (&s, pages (0, 1), true);
  assert_int_equal (inode_translate (s.ino, NULL, pages (0, 1), pages (0, 1), INODE_MAP_READ, &t, 1, &n), EAGAIN);
  assert_int_equal (n, 0);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_WRITE), 0);
  store (&s, 0, "mine");
  assert_int_equal (write_at (w, 4, 4, 'y'), 0);
  assert_memory_equal (at (&s, 0), "mineyyyyxx", 10);
  origin_mem_open_door (w->disk[0].origin, ORIGIN_WRITE);
  assert_int_equal (run (w, &op), 0);
  assert_true (durable_is (w, 0, "xxxxxxxx"));
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 0, "mineyyyyxx"));
  unmap (&s, pages (0, 1), true);
  free_world (w);
}

/* sem.T-6, MEM-7, sem.B-5, sem.B-41 */
TEST (reading_through_a_mapping_makes_nothing_dirty)
{
  struct world *w = new_world (64 * P);
  struct space s = space_of (w);

  map (&s, pages (0, 64), true);
  assert_int_equal (fault_in (&s, pages (8, 1), pages (0, 64), INODE_MAP_READ, UINT64_C (1) << 40), 0);
  assert_int_equal (dirty_bytes (w), 0);
  assert_int_equal (inode_kept_frames (s.ino), 0);
  assert_int_equal (s.t[0].perms, INODE_MAP_READ);
  /* And a store to one page makes one page dirty, however many could be mapped. */
  assert_int_equal (fault_in (&s, pages (8, 1), pages (0, 64), INODE_MAP_WRITE, UINT64_C (1) << 40), 0);
  assert_int_equal (dirty_bytes (w), P);
  assert_int_equal (inode_kept_frames (s.ino), 1);
  unmap (&s, pages (0, 64), true);
  assert_int_equal (flush (w), 0);
  assert_int_equal (origin_mem_count (w->disk[0].origin, ORIGIN_WRITE), 1);
  free_world (w);
}

TEST (a_fault_reads_64_KiB_and_maps_what_is_there_of_2_MiB)
{
  struct world *w = new_world (1024 * P);
  struct space s = space_of (w);
  struct range all = pages (0, 1024), win;
  uint8_t *buf = malloc (128 * P);
  struct inode_op op;

  win = inode_map_window (pages (4, 1), all, INODE_FILL_LIMIT);
  assert_true (range_equal (win, pages (4, 16)));
  assert_true (range_equal (inode_map_window (pages (4, 16), all, INODE_FILL_LIMIT), pages (4, 16)));
  assert_true (range_equal (inode_map_window (pages (4, 17), all, INODE_FILL_LIMIT), pages (4, 17)));
  assert_true (range_equal (inode_map_window (pages (4, 1), pages (0, 16), INODE_FILL_LIMIT), pages (0, 16)));
  assert_true (range_equal (inode_map_window (pages (4, 1), pages (0, 17), INODE_FILL_LIMIT), pages (4, 13)));

  map (&s, all, false);
  assert_int_equal (fault_in (&s, pages (4, 1), all, INODE_MAP_READ, UINT64_C (1) << 40), 0);
  assert_int_equal (memfile_in_use (w->mf), 16);
  assert_int_equal (inode_mapped_frames (s.ino), 16);
  assert_int_equal (origin_mem_count (w->disk[0].origin, ORIGIN_READ), 1);

  /* What a client brought is mapped as far as its frames go on. */
  inode_op_read (&op, s.ino, buf, pages (128, 100));
  assert_int_equal (run (w, &op), 0);
  assert_int_equal (fault_in (&s, pages (160, 1), pages (100, 924), INODE_MAP_READ, UINT64_C (1) << 40), 0);
  assert_int_equal (origin_mem_count (w->disk[0].origin, ORIGIN_READ), 2);
  assert_true (inode_mapped_frames (s.ino) >= 16 + 68);
  unmap (&s, all, false);
  assert_int_equal (inode_mapped_frames (s.ino), 0);
  free (buf);
  free_world (w);
}

TEST (an_error_beside_the_fault_is_not_the_faults)
{
  struct world *w = new_world (64 * P);
  struct space s = space_of (w);

  map (&s, pages (0, 64), false);
  origin_mem_fail (w->disk[0].origin, ORIGIN_READ, EIO, 0, 1);
  assert_int_equal (fault_in (&s, pages (8, 1), pages (0, 64), INODE_MAP_READ, UINT64_C (1) << 40), 0);
  assert_int_equal (origin_mem_count (w->disk[0].origin, ORIGIN_READ), 2);
  assert_int_equal (memfile_in_use (w->mf), 1);
  origin_mem_fail (w->disk[0].origin, ORIGIN_READ, EIO, 0, 2);
  assert_int_equal (fault_in (&s, pages (20, 1), pages (0, 64), INODE_MAP_READ, UINT64_C (1) << 40), EIO);
  assert_int_equal (fault_in (&s, pages (20, 1), pages (0, 64), INODE_MAP_READ, UINT64_C (1) << 40), 0);
  unmap (&s, pages (0, 64), false);
  free_world (w);
}

/* CIN-31, FRS-7, FRS-8, S-4 */
TEST (behind_the_end_of_the_last_page_are_zeros_and_then_nothing)
{
  struct world *w = new_world (3 * P);
  struct space s;
  uint64_t i;
  struct origin_info info = world_info (2 * P + 100);
  struct world_options o = { .nframes = 256 };

  free_world (w);
  w = new_world_of (&info, &o);
  s = space_of (w);
  /* Frames that held other bytes. */
  assert_int_equal (write_at (w, 0, 2 * P + 100, 'q'), 0);
  assert_int_equal (flush (w), 0);
  while (world_reclaim (w, 8))
    ;
  map (&s, pages (0, 4), true);
  assert_int_equal (fault (&s, pages (2, 1), INODE_MAP_WRITE), 0);
  assert_int_equal (*at (&s, 2 * P + 99), 'q');
  for (i = 2 * P + 100; i < 3 * P; i++)
    assert_int_equal (*at (&s, i), 0);
  assert_int_equal (dirty_bytes (w), 100);
  store (&s, 2 * P + 98, "endbehind");
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 2 * P + 97, "qen"));
  assert_int_equal (fault (&s, pages (3, 1), INODE_MAP_READ), ENXIO);
  assert_int_equal (fault (&s, pages (1, 3), INODE_MAP_READ), ENXIO);
  /* The prefix was given. */
  assert_int_equal (*at (&s, P), 'q');
  unmap (&s, pages (0, 4), true);
  free_world (w);
}

TEST (zeros_and_trims_can_be_mapped)
{
  struct world *w = new_world (16 * P);
  struct space s = space_of (w);
  struct inode_op op;

  inode_op_zero (&op, s.ino, pages (0, 4), INODE_MAY_TRIM);
  assert_int_equal (run (w, &op), 0);
  inode_op_trim (&op, s.ino, pages (4, 4), 0);
  assert_int_equal (run (w, &op), 0);
  map (&s, pages (0, 16), true);
  assert_int_equal (fault (&s, pages (1, 1), INODE_MAP_READ), 0);
  assert_int_equal (*at (&s, P), 0);
  assert_int_equal (fault (&s, pages (5, 1), INODE_MAP_WRITE), 0);
  store (&s, 5 * P, "five");
  inode_check (s.ino);
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 5 * P, "five"));
  assert_int_equal (origin_mem_durable (w->disk[0].origin)[P], 0);
  assert_int_equal (origin_mem_durable (w->disk[0].origin)[6 * P], 0);
  /* A hole that is durable: mapping it makes nothing dirty. */
  assert_int_equal (fault (&s, pages (2, 1), INODE_MAP_READ), 0);
  assert_int_equal (dirty_bytes (w), P);
  unmap (&s, pages (0, 16), true);
  assert_int_equal (flush (w), 0);
  free_world (w);
}

TEST (a_mapped_page_stays_where_the_origin_turns_out_to_hold_nothing)
{
  struct world *w = new_world (64 * P);
  struct space s = space_of (w);

  memset (origin_mem_volatile (w->disk[0].origin), 0, 64 * P);
  map (&s, pages (0, 64), true);
  assert_int_equal (fault (&s, pages (8, 1), INODE_MAP_READ), 0);
  inode_forget_holes (s.ino);   /* the read of zeros has asked, before anything was mapped */
  inode_ask_holes (s.ino, 0);
  inode_check (s.ino);
  assert_int_equal (write_at (w, 8 * P, P, 'x'), 0);
  assert_int_equal (*at (&s, 8 * P), 'x');
  read_is (w, 9 * P, P, "\0");
  unmap (&s, pages (0, 64), true);
  free_world (w);
}

TEST (a_page_that_is_there_in_part_is_completed)
{
  struct world *w = new_world (4 * P);
  struct space s = space_of (w);

  assert_int_equal (write_at (w, P + 10, 5, 'x'), 0);
  assert_int_equal (write_at (w, P + 1000, 5, 'y'), 0);
  map (&s, pages (1, 1), true);
  assert_int_equal (fault (&s, pages (1, 1), INODE_MAP_WRITE), 0);
  assert_memory_equal (at (&s, P), "bbbbbbbbbbxxxxxbb", 17);
  assert_int_equal (*at (&s, P + 1004), 'y');
  assert_int_equal (*at (&s, P + 1005), 'b');
  assert_int_equal (dirty_bytes (w), P);
  unmap (&s, pages (1, 1), true);
  free_world (w);
}

/*----------------------------------------------------------------------*/
/* Taking back. */

/* sem.T-7, sem.B-7 */
TEST (unmapping_waits_for_no_origin)
{
  struct world *w = new_world (4 * P);
  struct space s = space_of (w);
  struct inode_op op;

  map (&s, pages (0, 4), true);
  assert_int_equal (fault (&s, pages (0, 2), INODE_MAP_WRITE), 0);
  store (&s, 0, "kept");
  origin_mem_close_all (w->disk[0].origin);
  unmap (&s, pages (0, 1), true);
  unmap (&s, pages (1, 3), true);
  assert_int_equal (dirty_bytes (w), 2 * P);
  /* What is dirty stays whatever is asked of it. */
  world_reclaim (w, 100);
  read_is (w, 0, 4, "kept");
  inode_op_sync (&op, s.ino, RANGE_ALL, 0);
  assert_false (turn (w, &op));
  /* It is mapped again while it is on its way. */
  map (&s, pages (0, 1), true);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_WRITE), 0);
  store (&s, 0, "more");
  origin_mem_open_all (w->disk[0].origin);
  assert_int_equal (run (w, &op), 0);
  assert_true (durable_is (w, 0, "kept"));
  unmap (&s, pages (0, 1), true);
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 0, "more"));
  free_world (w);
}

/* CIN-42: never while mapped; then they go (D13). */
TEST (a_mapped_page_is_taken_back_before_it_is_evicted)
{
  struct world *w = new_world (8 * P);
  struct space s = space_of (w);
  unsigned tries;

  map (&s, pages (0, 8), true);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_READ), 0);
  assert_int_equal (fault (&s, pages (1, 1), INODE_MAP_WRITE), 0);
  for (tries = 0; tries < 4 && inode_mapped_frames (s.ino) > 1; tries++)
    world_reclaim (w, 8);
  /* The clean one lost its translation and then its frame; the kept one has both. */
  assert_int_equal (s.calls, 1);
  assert_true (range_equal (s.last, addrs (pages (0, 1))));
  world_reclaim (w, 8);
  assert_int_equal (memfile_in_use (w->mf), 1);
  assert_int_equal (inode_kept_frames (s.ino), 1);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_READ), 0);
  unmap (&s, pages (0, 8), true);
  free_world (w);
}

TEST (write_behind_takes_a_kept_page_back_and_cleans_it)
{
  struct world *w = new_world (8 * P);
  struct space s = space_of (w);
  unsigned i;

  map (&s, pages (0, 8), true);
  assert_int_equal (fault (&s, pages (1, 2), INODE_MAP_WRITE), 0);
  store (&s, P, "stored");
  for (i = 0; i < 100 && dirty_bytes (w); i++) {
    clock_fake_advance (&w->clock, 100 * NSEC_PER_MSEC);
    world_turn (w, &w->disk[0], false);
  }
  assert_int_equal (dirty_bytes (w), 0);
  assert_true (durable_is (w, P, "stored"));
  assert_int_equal (s.calls, 1);
  assert_int_equal (inode_kept_frames (s.ino), 0);
  /* The next store is a fault, and is seen. */
  assert_int_equal (fault (&s, pages (1, 1), INODE_MAP_WRITE), 0);
  store (&s, P, "again");
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, P, "again"));
  unmap (&s, pages (0, 8), true);
  free_world (w);
}

TEST (a_writer_at_the_dirty_bound_gets_on_though_all_is_kept)
{
  struct origin_info info = world_info (256 * P);
  struct world_options o = { .nframes = 64, .dirty_max = 16 * P };
  struct world *w = new_world_of (&info, &o);
  struct space s = space_of (w);
  uint64_t i;

  map (&s, pages (0, 256), true);
  for (i = 0; i < 16; i++)
    assert_int_equal (fault (&s, pages (i, 1), INODE_MAP_WRITE), 0);
  /* Faults waited at the bound as writers do, and so does this one. */
  assert_true (dirty_bytes (w) <= 16 * P);
  assert_int_equal (write_at (w, 100 * P, 8 * P, 'w'), 0);
  read_is (w, 100 * P, 8 * P, "w");
  unmap (&s, pages (0, 256), true);
  assert_int_equal (flush (w), 0);
  free_world (w);
}

/* CIN-40, MEM-9 */
TEST (a_drain_takes_all_back_writes_it_and_holds_nothing)
{
  struct world *w = new_world (8 * P);
  struct space s = space_of (w);

  map (&s, pages (0, 8), true);
  assert_int_equal (fault (&s, pages (0, 2), INODE_MAP_READ), 0);
  assert_int_equal (fault (&s, pages (4, 1), INODE_MAP_WRITE), 0);
  store (&s, 4 * P, "drained");
  origin_mem_fail (w->disk[0].origin, ORIGIN_WRITE, ENOSPC, 0, 1);
  assert_int_equal (inode_invalidate_unsavable (s.ino), ENOSPC);
  /* It failed: nothing is lost, and all goes on. */
  assert_int_equal (fault (&s, pages (4, 1), INODE_MAP_WRITE), 0);
  assert_memory_equal (at (&s, 4 * P), "drained", 7);
  assert_int_equal (inode_invalidate_unsavable (s.ino), 0);
  assert_true (durable_is (w, 4 * P, "drained"));
  assert_int_equal (memfile_in_use (w->mf), 0);
  assert_int_equal (s.n, 0);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_READ), ESHUTDOWN);
  inode_shut_maps (s.ino, false);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_READ), 0);
  unmap (&s, pages (0, 8), true);
  free_world (w);
}

/* CIN-41 */
TEST (another_origin_is_seen_through_mappings_and_what_is_dirty_stays)
{
  struct world *w = new_world (8 * P);
  struct space s = space_of (w);

  map (&s, pages (0, 8), true);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_READ), 0);
  assert_int_equal (fault (&s, pages (1, 1), INODE_MAP_WRITE), 0);
  store (&s, P, "ours");
  memset (origin_mem_volatile (w->disk[0].origin), 'N', 8 * P);
  assert_int_equal (*at (&s, 0), 'a');
  assert_int_equal (inode_origin_changed (s.ino), 0);
  assert_int_equal (s.n, 0);
  assert_int_equal (inode_kept_frames (s.ino), 0);
  assert_int_equal (fault (&s, pages (0, 2), INODE_MAP_READ), 0);
  assert_int_equal (*at (&s, 0), 'N');
  assert_memory_equal (at (&s, P), "oursb", 5);
  unmap (&s, pages (0, 8), true);
  free_world (w);
}

/* MAP-6, MEM-8 through the inode. */
TEST (only_who_maps_a_byte_hears_of_it_at_its_own_address)
{
  struct world *w = new_world (8 * P);
  struct space one = space_of (w), two = space_of (w);

  map (&one, pages (0, 4), false);
  assert_int_equal (inode_copy_mapping (two.ino, &two.base, (struct range) { 0, 0 }, pages (100, 2), 3 * P, false), 0);
  inode_unmap (one.ino, pages (3, 1), MAPPING_PRIVATE);
  assert_int_equal (one.calls, 1);
  assert_true (range_equal (one.last, addrs (pages (3, 1))));
  assert_int_equal (two.calls, 1);
  assert_int_equal (two.private_calls, 1);
  assert_true (range_equal (two.last, pages (100, 1)));
  inode_unmap (one.ino, pages (6, 1), 0);
  assert_int_equal (one.calls + two.calls, 2);
  unmap (&one, pages (0, 4), false);
  assert_true (inode_has_mappings (one.ino));
  assert_false (inode_is_empty (one.ino));
  assert_int_equal (inode_remove_mapping (two.ino, &two.base, pages (100, 2), 3 * P, false), 0);
  assert_true (inode_is_empty (one.ino));
  free_world (w);
}

TEST (a_mapping_is_refused_where_it_makes_no_sense)
{
  struct origin_info info = world_info (8 * P);
  struct world_options o = { .nframes = 64 };
  struct world *w;
  struct space s;

  info.read_only = true;
  w = new_world_of (&info, &o);
  s = space_of (w);
  assert_int_equal (inode_add_mapping (s.ino, &s.base, pages (0, 1), 100, false), EINVAL);
  assert_int_equal (inode_add_mapping (s.ino, &s.base, (struct range) { 0, 100 }, 0, false), EINVAL);
  assert_int_equal (inode_add_mapping (s.ino, &s.base, pages (0, 2), UINT64_MAX - P + 1, false), EINVAL);
  assert_int_equal (inode_add_mapping (s.ino, &s.base, pages (0, 1), INT64_MAX - P + 1, false), EINVAL);
  assert_int_equal (inode_add_mapping (s.ino, &s.base, pages (0, 1), INT64_MAX - 2 * P + 1, false), 0);
  assert_int_equal (inode_remove_mapping (s.ino, &s.base, pages (0, 1), INT64_MAX - 2 * P + 1, false), 0);
  assert_int_equal (inode_add_mapping (s.ino, &s.base, pages (0, 1), 0, true), EPERM);
  map (&s, pages (0, 1), false);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_WRITE), EPERM);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_READ), 0);
  assert_int_equal (origin_mem_count (w->disk[0].origin, ORIGIN_WRITE), 0);
  unmap (&s, pages (0, 1), false);
  free_world (w);
}

/* MEM-10, FRF-2, FRF-3 */
TEST (references_are_given_and_taken_by_parts)
{
  struct world *w = new_world (8 * P);
  struct space s = space_of (w);
  struct inode_translation t, part;

  map (&s, pages (0, 8), true);
  assert_int_equal (fault (&s, pages (0, 4), INODE_MAP_WRITE), 0);
  assert_int_equal (s.n, 1);
  t = s.t[0];
  part = (struct inode_translation) { pages (1, 2), t.frame + 1, t.perms };
  inode_inc_ref (s.ino, &part);
  unmap (&s, pages (0, 8), true);
  assert_int_equal (inode_mapped_frames (s.ino), 2);
  assert_int_equal (inode_kept_frames (s.ino), 2);
  /* A pin outlives the mapping: what is stored through it is still seen. */
  memcpy (frame_at (w, &part, 2 * P), "pinned", 6);
  inode_check (s.ino);
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 2 * P, "pinned"));
  part.range = pages (1, 1);
  inode_dec_ref (s.ino, &part);
  assert_int_equal (inode_kept_frames (s.ino), 1);
  inode_check (s.ino);
  part = (struct inode_translation) { pages (2, 1), t.frame + 2, t.perms };
  inode_dec_ref (s.ino, &part);
  assert_int_equal (inode_mapped_frames (s.ino), 0);
  assert_int_equal (flush (w), 0);
  assert_int_equal (dirty_bytes (w), 0);
  free_world (w);
}

TEST (a_page_has_so_many_translations_and_no_more)
{
  struct world *w = new_world (P);
  struct space s = space_of (w);
  struct inode_translation t;
  unsigned n, i;

  map (&s, pages (0, 1), false);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_READ), 0);
  for (i = 1; i < FRAME_MAX_MAPS; i++)
    assert_int_equal (inode_translate (s.ino, NULL, pages (0, 1), pages (0, 1), INODE_MAP_READ, &t, 1, &n), 0);
  assert_int_equal (inode_translate (s.ino, NULL, pages (0, 1), pages (0, 1), INODE_MAP_READ, &t, 1, &n), ENOMEM);
  t = s.t[0];
  for (i = 1; i < FRAME_MAX_MAPS; i++)
    inode_dec_ref (s.ino, &t);
  unmap (&s, pages (0, 1), false);
  free_world (w);
}

/* sem.T-8, sem.B-28, CIN-43 */
TEST (an_inode_ends_with_dirty_pages_and_frames_that_are_being_chosen)
{
  struct world *w = new_world (64 * P);
  struct space s = space_of (w);

  map (&s, pages (0, 64), true);
  assert_int_equal (fault (&s, pages (0, 8), INODE_MAP_WRITE), 0);
  assert_int_equal (fault (&s, pages (8, 8), INODE_MAP_READ), 0);
  world_reclaim (w, 4);
  unmap (&s, pages (0, 64), true);
  world_reclaim (w, 4);
  assert_int_equal (dirty_bytes (w), 8 * P);
  free_world (w);
}

/*----------------------------------------------------------------------*/
/* The end moves. */

static int
dirty_range (void *arg, struct range r)
{
  struct range *all = arg;

  if (all->end == 0)
    *all = r;
  all->end = r.end;
  return 0;
}

/* sem.T-1, sem.L-1, CIN-26, CIN-29 */
TEST (what_a_shorter_origin_cuts_off_is_kept_named_and_written_when_it_grows_back)
{
  struct world *w = new_world (8 * P);
  struct space s = space_of (w);
  struct range named = { 0, 0 };
  uint8_t buf[8];
  struct inode_op op;

  map (&s, pages (0, 8), true);
  assert_int_equal (fault (&s, pages (2, 1), INODE_MAP_WRITE), 0);
  assert_int_equal (fault (&s, pages (4, 1), INODE_MAP_WRITE), 0);
  assert_int_equal (fault (&s, pages (5, 1), INODE_MAP_READ), 0);
  store (&s, 2 * P + 2000, "cut");
  store (&s, 4 * P, "off");
  assert_int_equal (inode_set_size (s.ino, 2 * P + 2001), 0);
  /* Pages behind the last are taken back, and their private copies; the page that is cut is not. */
  assert_int_equal (s.private_calls, 1);
  assert_true (range_equal (s.last, addrs (pages (3, 5))));
  assert_int_equal (s.n, 1);
  assert_int_equal (inode_kept_frames (s.ino), 1);
  inode_check (s.ino);
  assert_int_equal (fault (&s, pages (3, 1), INODE_MAP_READ), ENXIO);
  assert_int_equal (fault (&s, pages (2, 1), INODE_MAP_READ), 0);
  assert_int_equal (fault (&s, pages (2, 1), INODE_MAP_WRITE), 0);
  inode_op_read (&op, s.ino, buf, (struct range) { 2 * P + 1999, 2 * P + 2002 });
  assert_int_equal (run (w, &op), EIO);
  assert_int_equal (write_at (w, 6 * P, 1, 'x'), EIO);
  inode_op_trim (&op, s.ino, pages (2, 1), 0);
  assert_int_equal (run (w, &op), EIO);
  inode_op_read (&op, s.ino, buf, (struct range) { 2 * P + 1999, 2 * P + 2001 });
  assert_int_equal (run (w, &op), 0);
  assert_memory_equal (buf, "cc", 2);
  origin_mem_log_clear (w->disk[0].origin);
  assert_int_equal (flush (w), EIO);
  assert_true (durable_is (w, 2 * P + 1999, "cc"));
  assert_true (durable_is (w, 4 * P, "eee"));
  inode_dirty_ranges (s.ino, dirty_range, &named);
  assert_true (named.start <= 2 * P + 2001 && named.end == 5 * P);

  assert_int_equal (inode_set_size (s.ino, 8 * P), 0);
  /* Nobody has the page that was cut as it was. */
  assert_int_equal (s.n, 0);
  assert_int_equal (fault (&s, pages (2, 1), INODE_MAP_WRITE), 0);
  store (&s, 2 * P + 3000, "tail");
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 2 * P + 2000, "cut"));
  assert_true (durable_is (w, 2 * P + 3000, "tail"));
  assert_true (durable_is (w, 4 * P, "off"));
  unmap (&s, pages (0, 8), true);
  assert_int_equal (flush (w), 0);
  assert_int_equal (dirty_bytes (w), 0);
  free_world (w);
}

TEST (what_is_clean_behind_a_shorter_end_is_asked_for_anew)
{
  struct world *w = new_world (8 * P);
  struct space s = space_of (w);
  struct inode_op op;

  map (&s, pages (0, 8), false);
  inode_op_zero (&op, s.ino, pages (6, 2), INODE_MAY_TRIM);
  assert_int_equal (run (w, &op), 0);
  assert_int_equal (flush (w), 0);
  assert_int_equal (fault (&s, pages (2, 3), INODE_MAP_READ), 0);
  assert_int_equal (*at (&s, 2 * P + 100), 'c');
  assert_int_equal (inode_set_size (s.ino, 2 * P + 100), 0);
  assert_int_equal (*at (&s, 2 * P + 99), 'c');
  assert_int_equal (*at (&s, 2 * P + 100), 0);
  assert_int_equal (*at (&s, 3 * P - 1), 0);
  assert_int_equal (s.n, 1);
  /* A reader of the cut page does not ask behind the end: the front of an origin that is so short would not let it. */
  while (s.n)
    space_drop (&s, addrs (pages (0, 8)));
  assert_int_equal (inode_invalidate (s.ino, RANGE_ALL), 0);
  origin_mem_log_clear (w->disk[0].origin);
  read_is (w, 2 * P, 100, "c");
  assert_int_equal (origin_mem_log_len (w->disk[0].origin), 1);
  assert_int_equal (origin_mem_log_at (w->disk[0].origin, 0).len, 100);
  memset (origin_mem_volatile (w->disk[0].origin) + 2 * P + 100, 'G', 6 * P - 100);
  assert_int_equal (inode_set_size (s.ino, 8 * P), 0);
  read_is (w, 2 * P, 100, "c");
  read_is (w, 2 * P + 100, 6 * P - 100, "G");
  unmap (&s, pages (0, 8), false);
  free_world (w);
}

TEST (an_end_in_front_of_zeros_on_their_way_holds_them_back)
{
  struct world *w = new_world (16 * P);
  struct inode *ino = w->disk[0].ino;
  struct inode_op op;

  inode_op_zero (&op, ino, pages (2, 8), INODE_MAY_TRIM);
  assert_int_equal (run (w, &op), 0);
  assert_int_equal (inode_set_size (ino, 4 * P), 0);
  assert_int_equal (flush (w), EIO);
  assert_int_equal (origin_mem_durable (w->disk[0].origin)[5 * P], 'f');
  assert_int_equal (inode_set_size (ino, 4 * P), 0);
  assert_int_equal (inode_set_size (ino, 16 * P + 1), EBUSY);
  assert_int_equal (inode_set_size (ino, 16 * P), 0);
  assert_int_equal (flush (w), 0);
  assert_int_equal (origin_mem_durable (w->disk[0].origin)[2 * P], 0);
  assert_int_equal (origin_mem_durable (w->disk[0].origin)[9 * P], 0);
  free_world (w);
}

/* sem.T-5, sem.T-12 */
TEST (the_end_moves_while_requests_are_under_way)
{
  struct world *w = new_world (8 * P);
  struct origin *o = w->disk[0].origin;
  struct inode *ino = w->disk[0].ino;
  struct inode_op rd, sync;
  uint8_t *buf = malloc (8 * P);

  /* A read of pages on both sides: what came for those behind the end is nobody's. */
  origin_mem_close_door (o, ORIGIN_READ);
  inode_op_read (&rd, ino, buf, pages (2, 5));
  assert_false (turn (w, &rd));
  origin_tell_resized (o, 4 * P);
  origin_mem_open_door (o, ORIGIN_READ);
  assert_int_equal (run (w, &rd), EIO);
  read_is (w, 2 * P, P, "c");
  inode_check (ino);
  origin_tell_resized (o, 8 * P);
  memset (origin_mem_volatile (o) + 4 * P, 'N', 4 * P);
  read_is (w, 4 * P, 4 * P, "N");

  /* A write on its way to where the origin ended meanwhile. */
  assert_int_equal (write_at (w, 6 * P, P, 'w'), 0);
  assert_int_equal (write_at (w, P, P, 'v'), 0);
  origin_mem_close_door (o, ORIGIN_WRITE);
  inode_op_sync (&sync, ino, RANGE_ALL, 0);
  assert_false (turn (w, &sync));
  origin_tell_resized (o, 5 * P);
  inode_check (ino);
  while (origin_mem_held (o, ORIGIN_WRITE) > 1)
    assert_int_equal (origin_mem_release_nth (o, 0, 0), 0);
  assert_int_equal (origin_mem_release_nth (o, 0, EIO), 0);
  origin_mem_open_door (o, ORIGIN_WRITE);
  assert_int_equal (run (w, &sync), EIO);
  origin_tell_resized (o, 8 * P);
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, P, "vvvv"));
  assert_true (durable_is (w, 6 * P, "wwww"));
  assert_int_equal (dirty_bytes (w), 0);
  free (buf);
  free_world (w);
}

TEST (a_page_that_is_cut_and_pinned_holds_the_end)
{
  struct world *w = new_world (8 * P);
  struct space s = space_of (w);
  struct inode_translation t;
  struct inode_op op;
  uint8_t buf[2];

  map (&s, pages (0, 8), false);
  assert_int_equal (fault (&s, pages (1, 1), INODE_MAP_READ), 0);
  t = s.t[0];
  inode_inc_ref (s.ino, &t);
  assert_int_equal (inode_set_size (s.ino, P + 1), 0);
  origin_tell_resized (w->disk[0].origin, 8 * P);
  assert_false (inode_settle_size (s.ino));
  world_turn (w, NULL, false);
  read_is (w, P, 1, "b");
  inode_op_read (&op, s.ino, buf, (struct range) { P, P + 2 });
  assert_int_equal (run (w, &op), EIO);
  inode_dec_ref (s.ino, &t);
  world_turn (w, NULL, false);
  assert_true (inode_settle_size (s.ino));
  read_is (w, P, P, "b");
  unmap (&s, pages (0, 8), false);
  free_world (w);
}

/* CIN-11, CIN-13, D14 */
TEST (attributes_are_what_clients_were_told_and_what_was_learned_stays)
{
  struct world *w = new_world (8 * P);
  struct origin *o = w->disk[0].origin;
  struct inode *ino = w->disk[0].ino;
  struct inode_attr a;
  struct inode_op op;

  inode_get_attr (ino, &a);
  assert_int_equal (a.size, 8 * P);
  assert_int_equal (a.end, 8 * P);
  assert_true (a.can_zero && a.can_trim && a.can_fua && a.can_flush && !a.read_only);
  assert_int_equal (a.dirty, 0);
  assert_int_equal (a.err, 0);

  /* It says that it can, and refuses. */
  inode_op_zero (&op, ino, pages (0, 1), INODE_MAY_TRIM);
  assert_int_equal (run (w, &op), 0);
  origin_mem_fail (o, ORIGIN_ZERO, EOVERFLOW, 0, 1);
  assert_int_equal (flush (w), 0);
  inode_get_attr (ino, &a);
  assert_false (a.can_zero);
  assert_int_equal (a.dirty, INODE_ATTR_ZERO);

  origin_tell_resized (o, 4 * P);
  inode_get_attr (ino, &a);
  assert_int_equal (a.size, 8 * P);
  assert_int_equal (a.end, 4 * P);
  assert_int_equal (a.dirty, INODE_ATTR_ZERO | INODE_ATTR_SIZE);
  origin_tell_resized (o, 12 * P);
  inode_get_attr (ino, &a);
  assert_int_equal (a.end, 8 * P);
  assert_int_equal (a.dirty, INODE_ATTR_ZERO);
  free_world (w);
}

TEST (another_export_is_not_read_or_written_and_what_is_dirty_waits_for_the_right_one)
{
  struct world *w = new_world (8 * P);
  struct origin *o = w->disk[0].origin;
  struct space s = space_of (w);
  struct inode_attr a;
  struct inode_op op;
  uint8_t buf[4];

  map (&s, pages (0, 8), false);
  assert_int_equal (write_at (w, 0, 4, 'd'), 0);
  origin_tell_failed (o, EIO, "read-only");
  inode_get_attr (s.ino, &a);
  assert_int_equal (a.err, EIO);
  /* Hits as well. */
  inode_op_read (&op, s.ino, buf, (struct range) { 0, 4 });
  assert_int_equal (run (w, &op), EIO);
  assert_int_equal (write_at (w, 0, 4, 'e'), EIO);
  assert_int_equal (flush (w), EIO);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_READ), EIO);
  assert_int_equal (origin_mem_count (o, ORIGIN_WRITE), 0);
  origin_tell_failed (o, 0, NULL);
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 0, "dddd"));
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_READ), 0);
  unmap (&s, pages (0, 8), false);
  free_world (w);
}

/* What a translation must be, as faults and the simulation ask it. */
TEST (translations_that_are_not_what_was_asked_for_are_recognised)
{
  const struct range req = pages (2, 2), opt = pages (1, 8);
  struct inode_translation good[2] = {
    { .range = pages (2, 1), .frame = 1, .perms = INODE_MAP_READ },
    { .range = pages (3, 2), .frame = 7, .perms = INODE_MAP_READ | INODE_MAP_WRITE },
  }, t[2];

  assert_true (inode_translation_holds (req, opt, INODE_MAP_READ, good, 2, 0));
  assert_true (inode_translation_holds (req, opt, INODE_MAP_READ, good, 1, EAGAIN));
  assert_true (inode_translation_holds (req, opt, INODE_MAP_READ, NULL, 0, EIO));
  assert_false (inode_translation_holds (req, opt, INODE_MAP_READ, NULL, 0, 0));
  assert_false (inode_translation_holds (req, opt, INODE_MAP_READ, good, 1, 0));       /* not all, and no error */
  assert_false (inode_translation_holds (req, opt, INODE_MAP_WRITE, good, 2, 0));
  assert_false (inode_translation_holds (req, opt, INODE_MAP_READ, good + 1, 1, 0));   /* not from the start */
#define WITH(change)                                                                        \
  memcpy (t, good, sizeof t);                                                               \
  change;                                                                                   \
  assert_false (inode_translation_holds (req, opt, INODE_MAP_READ, t, 2, EAGAIN))
  WITH (t[1].range.end = t[1].range.start);
  WITH (t[1].range.end -= 1);
  WITH (t[1].range = pages (4, 1));     /* a gap, and behind what was asked for */
  WITH (t[1].range = pages (3, 20));
  WITH (t[0].range = pages (2, 2); t[1].range = pages (4, 1));
  WITH (t[1].perms = 0);
#undef WITH
}

/* A little of everything that a space does; false: something found no memory. */
static bool
map_work (struct world *w, struct space *s, bool *mapped)
{
  struct inode *ino = w->disk[0].ino;
  bool all = true;
  unsigned i;

#define TRY(what) (all &= (what) == 0)
  for (i = 0; i < 40; i++)
    TRY (write_at (w, (64 + 2 * i) * P + 100, 50, 'x'));
  TRY (write_at (w, 4 * P + 100, 1000, 'y'));
  for (i = 0; i < 4; i++) {
    struct range r = pages (16 * i, 16);

    if (inode_add_mapping (ino, &s->base, addrs (r), r.start, i != 1) != 0) {
      all = false;
      continue;
    }
    mapped[i] = true;
    TRY (fault (s, pages (16 * i, 2), INODE_MAP_READ));
    TRY (fault (s, pages (16 * i + 4, 1), i == 1 ? INODE_MAP_READ : INODE_MAP_WRITE));
    TRY (fault (s, pages (16 * i + 9, 3), i == 1 ? INODE_MAP_READ : INODE_MAP_WRITE));
  }
  TRY (flush (w));
  TRY (inode_invalidate (ino, pages (5, 2)));
  space_drop (s, addrs (pages (10, 1)));
  TRY (flush (w));
#undef TRY
  return all;
}

TEST (every_allocation_may_fail_under_mappings)
{
  unsigned long nth = 0;
  bool fine;

  do {
    struct origin_info info = world_info (1 << 20);
    struct world_options o = { .nframes = 256, .spare = 256 << 10 };
    struct world *w = new_world_of (&info, &o);
    struct space s = space_of (w);
    bool mapped[4] = { false };
    unsigned i;

    world_fail_alloc_nth ((long) nth);
    fine = map_work (w, &s, mapped) && world_allocs () <= nth;
    world_fail_alloc_nth (-1);
    inode_check (w->disk[0].ino);
    space_drop (&s, addrs (pages (0, 64)));
    for (i = 0; i < 4; i++)
      if (mapped[i])
        inode_remove_mapping (s.ino, &s.base, addrs (pages (16 * i, 16)), 16 * i * P, i != 1);
    for (i = 0; i < 20; i++)
      world_turn (w, NULL, true);
    assert_int_equal (flush (w), 0);
    assert_int_equal (dirty_bytes (w), 0);
    assert_true (durable_is (w, 64 * P + 100, "xxxxx"));
    free_world (w);
    nth++;
    assert_true (nth < 2000);
  } while (!fine);
  assert_true (nth > 3);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (a_read_takes_what_a_mapping_brought_and_the_rest_from_the_origin),
    cmocka_unit_test (a_write_goes_into_mapped_pages_and_reaches_the_origin_with_a_flush),
    cmocka_unit_test (a_ranged_truncate_goes_into_mapped_pages_where_they_are),
    cmocka_unit_test (a_zero_over_a_mapped_page_ends_where_less_may_be_dirty_than_it_makes_so),
    cmocka_unit_test (two_mappings_of_a_page_and_its_clients_see_one_thing),
    cmocka_unit_test (each_flush_sends_what_is_in_a_kept_page_then),
    cmocka_unit_test (a_store_after_the_copy_is_owed_to_the_flush_that_comes_next),
    cmocka_unit_test (a_store_after_the_copy_and_before_the_unmap_is_not_lost),
    cmocka_unit_test (a_page_under_way_gets_another_frame_before_it_is_mapped),
    cmocka_unit_test (reading_through_a_mapping_makes_nothing_dirty),
    cmocka_unit_test (a_fault_reads_64_KiB_and_maps_what_is_there_of_2_MiB),
    cmocka_unit_test (an_error_beside_the_fault_is_not_the_faults),
    cmocka_unit_test (behind_the_end_of_the_last_page_are_zeros_and_then_nothing),
    cmocka_unit_test (zeros_and_trims_can_be_mapped),
    cmocka_unit_test (a_mapped_page_stays_where_the_origin_turns_out_to_hold_nothing),
    cmocka_unit_test (a_page_that_is_there_in_part_is_completed),
    cmocka_unit_test (unmapping_waits_for_no_origin),
    cmocka_unit_test (a_mapped_page_is_taken_back_before_it_is_evicted),
    cmocka_unit_test (write_behind_takes_a_kept_page_back_and_cleans_it),
    cmocka_unit_test (a_writer_at_the_dirty_bound_gets_on_though_all_is_kept),
    cmocka_unit_test (a_drain_takes_all_back_writes_it_and_holds_nothing),
    cmocka_unit_test (another_origin_is_seen_through_mappings_and_what_is_dirty_stays),
    cmocka_unit_test (only_who_maps_a_byte_hears_of_it_at_its_own_address),
    cmocka_unit_test (a_mapping_is_refused_where_it_makes_no_sense),
    cmocka_unit_test (references_are_given_and_taken_by_parts),
    cmocka_unit_test (a_page_has_so_many_translations_and_no_more),
    cmocka_unit_test (an_inode_ends_with_dirty_pages_and_frames_that_are_being_chosen),
    cmocka_unit_test (what_a_shorter_origin_cuts_off_is_kept_named_and_written_when_it_grows_back),
    cmocka_unit_test (what_is_clean_behind_a_shorter_end_is_asked_for_anew),
    cmocka_unit_test (an_end_in_front_of_zeros_on_their_way_holds_them_back),
    cmocka_unit_test (the_end_moves_while_requests_are_under_way),
    cmocka_unit_test (a_page_that_is_cut_and_pinned_holds_the_end),
    cmocka_unit_test (attributes_are_what_clients_were_told_and_what_was_learned_stays),
    cmocka_unit_test (translations_that_are_not_what_was_asked_for_are_recognised),
    cmocka_unit_test (every_allocation_may_fail_under_mappings),
    cmocka_unit_test (another_export_is_not_read_or_written_and_what_is_dirty_waits_for_the_right_one),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
