/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-inode-map-rare - an export in address spaces where memory is short, where something moves between two steps of
 * a fault, and where the end of the origin moves inside a page.
 *
 * As test-inode-map, with inode-space.h.  Memory is refused by world_fail_alloc; what others do while a fault looks for
 * frames is done in the reclaim hook.
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "inode-attr.h"
#include "inode-priv.h"
#include "inode-space.h"

/* What another thread does when zlock was let go for the countdown-th time; we wait for it. */
extern int __real_pthread_rwlock_unlock (pthread_rwlock_t *);
extern int __wrap_pthread_rwlock_unlock (pthread_rwlock_t *);

static struct inode *watched;
static unsigned countdown;
static void *(*others) (void *);

static void *
forget (void *arg)
{
  inode_forget_holes (arg);
  return NULL;
}

static void *
flush_origin (void *arg)
{
  inode_flush_origin (arg);
  return NULL;
}

/* Who lets `gate` go says so, and waits there. */
static pthread_rwlock_t *gate;
static sem_t at_gate, gate_opens;

int
__wrap_pthread_rwlock_unlock (pthread_rwlock_t *l)
{
  int err = __real_pthread_rwlock_unlock (l);
  pthread_t other;

  if (countdown > 0 && l == &watched->zlock.rw && --countdown == 0) {
    assert_int_equal (pthread_create (&other, NULL, others, watched), 0);
    pthread_join (other, NULL);
  }
  if (l == gate) {
    gate = NULL;
    sem_post (&at_gate);
    while (sem_wait (&gate_opens) == -1)
      ;
  }
  return err;
}

/* No node waits between two uses: each insertion asks for its own. */
static struct world *
tight_world (uint64_t size)
{
  struct origin_info info = world_info (size);
  struct world_options o = { .nframes = 256, .spare = 1 << 20 };
  struct world *w = new_world_of (&info, &o);

  w->env.most_spare_nodes = 0;
  return w;
}

static struct inode *
ino_of (struct world *w)
{
  return w->disk[0].ino;
}

static void
load (struct world *w, struct range r)
{
  uint8_t *buf = malloc (range_len (r));
  struct inode_op op;

  inode_op_read (&op, ino_of (w), buf, r);
  assert_int_equal (run (w, &op), 0);
  free (buf);
}

/* Time passes, a second at a turn. */
static int
run_for (struct world *w, struct inode_op *op, unsigned seconds)
{
  bool woken;

  op->wake = wake;
  op->wake_arg = &woken;
  while (!inode_op_run (op)) {
    if (seconds-- == 0)
      return -1;
    clock_fake_advance (&w->clock, NSEC_PER_SEC);
    world_turn (w, NULL, false);
  }
  return op->err;
}

/*----------------------------------------------------------------------*/
/* What is given beside the fault. */

TEST (what_is_there_in_front_of_the_fault_is_mapped_with_it)
{
  struct world *w = new_world (64 * P);
  struct space s = space_of (w);

  load (w, pages (0, 64));
  map (&s, pages (0, 64), true);
  assert_int_equal (fault_in (&s, pages (32, 1), pages (8, 40), INODE_MAP_READ, UINT64_C (1) << 40), 0);
  assert_int_equal (s.n, 1);
  assert_true (range_equal (s.t[0].range, pages (8, 40)));
  assert_int_equal (*at (&s, 8 * P), 'a' + 8);
  assert_int_equal (*at (&s, 47 * P), 'a' + 47 % 26);
  inode_check (s.ino);
  unmap (&s, pages (0, 64), true);
  assert_int_equal (inode_mapped_frames (s.ino), 0);
  free_world (w);
}

/* sem.B-5 */
TEST (a_store_maps_beside_it_only_what_is_writable_somewhere)
{
  struct world *w = new_world (64 * P);
  struct space s = space_of (w);

  load (w, pages (0, 64));
  map (&s, pages (0, 64), true);
  assert_int_equal (fault (&s, pages (30, 2), INODE_MAP_WRITE), 0);
  assert_int_equal (fault (&s, pages (33, 1), INODE_MAP_WRITE), 0);
  assert_int_equal (fault_in (&s, pages (32, 1), pages (0, 64), INODE_MAP_WRITE, UINT64_C (1) << 40), 0);
  assert_true (range_equal (s.t[s.n - 1].range, pages (30, 4)));
  assert_int_equal (dirty_bytes (w), 4 * P);
  assert_int_equal (inode_kept_frames (s.ino), 4);
  unmap (&s, pages (0, 64), true);
  free_world (w);
}

/* MEM-5 */
TEST (neighbours_in_other_frames_are_not_mapped_beside_a_fault)
{
  struct world *w = new_world (64 * P);
  struct space s = space_of (w);

  load (w, pages (10, 4));
  load (w, pages (14, 2));
  load (w, pages (8, 2));
  map (&s, pages (0, 64), false);
  assert_int_equal (fault_in (&s, pages (11, 1), pages (8, 8), INODE_MAP_READ, UINT64_C (1) << 40), 0);
  assert_int_equal (s.n, 1);
  assert_int_equal (s.t[0].range.start, 10 * P);
  assert_int_equal (*at (&s, 10 * P), 'a' + 10);
  unmap (&s, pages (0, 64), false);
  free_world (w);
}

TEST (a_neighbour_with_all_the_translations_it_can_have_is_left_out)
{
  struct world *w = new_world (2 * P);
  struct space s = space_of (w);
  struct inode_translation t;
  unsigned n, i;

  load (w, pages (0, 2));
  map (&s, pages (0, 2), false);
  for (i = 0; i < FRAME_MAX_MAPS; i++)
    assert_int_equal (inode_translate (s.ino, NULL, pages (1, 1), pages (1, 1), INODE_MAP_READ, &t, 1, &n), 0);
  assert_int_equal (fault_in (&s, pages (0, 1), pages (0, 2), INODE_MAP_READ, UINT64_C (1) << 40), 0);
  assert_true (range_equal (s.t[0].range, pages (0, 1)));
  for (i = 0; i < FRAME_MAX_MAPS; i++)
    inode_dec_ref (s.ino, &t);
  unmap (&s, pages (0, 2), false);
  free_world (w);
}

/* More gaps than an op has room to remember, and more pieces than the caller has room for. */
TEST (a_fault_over_many_gaps_fills_them_all)
{
  enum { N = 2 * INODE_OP_FILLS + 8 };
  struct world *w = new_world (256 * P);
  struct inode_translation ts[8];
  struct space s = space_of (w);
  struct inode_op op;
  unsigned n, i;

  for (i = 0; i < N; i++)
    load (w, pages (2 * i, 1));
  map (&s, pages (0, 2 * N), false);
  origin_mem_log_clear (w->disk[0].origin);
  inode_op_map (&op, s.ino, pages (0, 2 * N), pages (0, 2 * N), INODE_MAP_READ);
  assert_int_equal (run (w, &op), 0);
  assert_int_equal (origin_mem_count (w->disk[0].origin, ORIGIN_READ), N);
  assert_int_equal (memfile_in_use (w->mf), 2 * N);
  assert_int_equal (inode_translate (s.ino, &op, pages (0, 2 * N), pages (0, 2 * N), INODE_MAP_READ, ts, 8, &n), EOVERFLOW);
  inode_op_map_end (&op);
  assert_int_equal (n, 8);
  assert_int_equal (inode_mapped_frames (s.ino), range_len ((struct range) { 0, ts[7].range.end }) / P);
  for (i = 0; i < n; i++)
    inode_dec_ref (s.ino, &ts[i]);
  assert_int_equal (inode_mapped_frames (s.ino), 0);
  unmap (&s, pages (0, 2 * N), false);
  free_world (w);
}

/*----------------------------------------------------------------------*/
/* What no waiting changes, and what waiting is for. */

TEST (a_fault_hears_at_once_what_no_waiting_changes)
{
  struct origin_info info = world_info (8 * P + 10);
  struct world_options o = { .nframes = 64 };
  struct world *w;
  struct inode_op op;

  info.read_only = true;
  w = new_world_of (&info, &o);
  inode_op_map (&op, ino_of (w), pages (0, 1), pages (0, 1), INODE_MAP_WRITE);
  assert_int_equal (run (w, &op), EPERM);
  inode_op_map (&op, ino_of (w), pages (9, 1), pages (9, 1), INODE_MAP_READ);
  assert_int_equal (run (w, &op), ENXIO);
  inode_shut_maps (ino_of (w), true);
  inode_op_map (&op, ino_of (w), pages (0, 1), pages (0, 1), INODE_MAP_READ);
  assert_int_equal (run (w, &op), ESHUTDOWN);
  assert_int_equal (origin_mem_log_len (w->disk[0].origin), 0);
  inode_shut_maps (ino_of (w), false);
  inode_op_map (&op, ino_of (w), pages (8, 1), pages (8, 1), INODE_MAP_READ);
  assert_int_equal (run (w, &op), 0);
  inode_op_map_end (&op);
  free_world (w);
}

TEST (a_fault_waits_while_translations_are_taken_back)
{
  struct world *w = new_world (8 * P);
  struct inode_translation t;
  struct inode_op op;
  unsigned n;

  load (w, pages (0, 1));
  map_stop (ino_of (w), pages (0, 1), 0);
  assert_int_equal (inode_translate (ino_of (w), NULL, pages (0, 1), pages (0, 1), INODE_MAP_READ, &t, 1, &n), EAGAIN);
  assert_int_equal (n, 0);
  inode_op_map (&op, ino_of (w), pages (0, 1), pages (0, 1), INODE_MAP_READ);
  assert_false (inode_op_run (&op));
  assert_true (op.wake_at_ns > clock_now (w->env.clock));
  map_go (ino_of (w));
  assert_int_equal (run (w, &op), 0);
  inode_op_map_end (&op);
  assert_int_equal (inode_translate (ino_of (w), NULL, pages (0, 1), pages (0, 1), INODE_MAP_READ, &t, 1, &n), 0);
  inode_dec_ref (ino_of (w), &t);
  free_world (w);
}

TEST (what_is_pinned_is_in_use_though_nobody_maps_it)
{
  struct world *w = new_world (8 * P);
  struct space s = space_of (w);
  struct inode_translation t;

  assert_int_equal (inode_add_mapping (s.ino, &s.base, (struct range) { P, P }, 0, false), EINVAL);
  assert_false (inode_has_mappings (s.ino));
  map (&s, pages (0, 1), false);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_READ), 0);
  t = s.t[0];
  inode_inc_ref (s.ino, &t);
  unmap (&s, pages (0, 1), false);
  assert_true (inode_has_mappings (s.ino));
  assert_false (inode_is_empty (s.ino));
  inode_dec_ref (s.ino, &t);
  assert_false (inode_has_mappings (s.ino));
  free_world (w);
}

/*----------------------------------------------------------------------*/
/* Something moves while a fault looks for frames. */

static struct world *moving;
static void (*move) (struct world *);

static bool
reclaim_moves (void *arg, unsigned want)
{
  void (*now) (struct world *) = move;

  (void) arg;
  move = NULL;
  if (now)
    now (moving);
  return world_reclaim (moving, want);
}

static void
meanwhile (struct world *w, void (*what) (struct world *))
{
  moving = w;
  move = what;
  w->env.reclaim = reclaim_moves;
}

static void
origin_answers (struct world *w)
{
  origin_mem_open_door (w->disk[0].origin, ORIGIN_WRITE);
}

/* A run of pages is sent straight from its frames. */
static struct world *
sending_world (struct inode_op *sync, uint32_t nframes)
{
  struct origin_info info = world_info (256 * P);
  struct world_options o = { .nframes = nframes, .dirty_max = 256 * P, .dirty_background = 256 * P };
  struct world *w = new_world_of (&info, &o);
  uint32_t frame;

  assert_int_equal (write_at (w, 0, 32 * P, 'x'), 0);
  origin_mem_close_door (w->disk[0].origin, ORIGIN_WRITE);
  inode_op_sync (sync, ino_of (w), RANGE_ALL, 0);
  assert_false (turn (w, sync));
  assert_true (rangeset_page_frame (&ino_of (w)->stripe[0].map, 4 * P, &frame));
  assert_true (frame_is_sending (memfile_frame (w->mf, frame)));
  return w;
}

TEST (a_page_that_is_sent_from_its_frame_is_mapped_in_another)
{
  struct inode_op sync;
  struct world *w = sending_world (&sync, 64);
  struct space s = space_of (w);

  map (&s, pages (4, 1), true);
  assert_int_equal (fault (&s, pages (4, 1), INODE_MAP_WRITE), 0);
  store (&s, 4 * P, "mine");
  inode_check (s.ino);
  /* The frame that is left to the request is nobody's to evict. */
  assert_int_equal (evict_count (&w->evict), 32);
  origin_mem_open_door (w->disk[0].origin, ORIGIN_WRITE);
  assert_int_equal (run (w, &sync), 0);
  assert_true (durable_is (w, 4 * P, "xxxxxxxx"));
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 4 * P, "minexxxx"));
  unmap (&s, pages (4, 1), true);
  free_world (w);
}

TEST (a_page_whose_answer_comes_while_its_fault_looks_for_a_frame_stays_where_it_is)
{
  struct inode_op sync;
  struct world *w = sending_world (&sync, 33);
  struct space s = space_of (w);
  uint32_t was, is;

  load (w, pages (100, 1));     /* which makes room */
  assert_true (rangeset_page_frame (&s.ino->stripe[0].map, 4 * P, &was));
  map (&s, pages (4, 1), true);
  meanwhile (w, origin_answers);
  assert_int_equal (fault (&s, pages (4, 1), INODE_MAP_WRITE), 0);
  assert_null (move);
  assert_true (rangeset_page_frame (&s.ino->stripe[0].map, 4 * P, &is));
  assert_int_equal (is, was);
  store (&s, 4 * P, "mine");
  assert_int_equal (run (w, &sync), 0);
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 4 * P, "minexxxx"));
  unmap (&s, pages (4, 1), true);
  free_world (w);
}

static void
origin_shrinks (struct world *w)
{
  assert_int_equal (inode_set_size (ino_of (w), 40 * P), 0);
}

TEST (a_page_of_zeros_that_the_end_leaves_while_its_fault_looks_for_a_frame_is_not_there)
{
  struct origin_info info = world_info (64 * P);
  struct world_options o = { .nframes = 32 };
  struct world *w = new_world_of (&info, &o);
  struct space s = space_of (w);
  struct inode_op op;

  inode_op_zero (&op, s.ino, pages (48, 4), INODE_MAY_TRIM);
  assert_int_equal (run (w, &op), 0);
  load (w, pages (0, 32));
  map (&s, pages (0, 64), true);
  meanwhile (w, origin_shrinks);
  assert_int_equal (fault (&s, pages (48, 1), INODE_MAP_READ), ENXIO);
  assert_null (move);
  inode_check (s.ino);
  assert_int_equal (inode_set_size (s.ino, 64 * P), 0);
  assert_int_equal (fault (&s, pages (48, 1), INODE_MAP_READ), 0);
  assert_int_equal (*at (&s, 48 * P), 0);
  unmap (&s, pages (0, 64), true);
  assert_int_equal (flush (w), 0);
  free_world (w);
}

/*----------------------------------------------------------------------*/
/* No memory. */

TEST (a_fault_whose_answer_finds_no_memory_waits_for_some)
{
  struct world *w = tight_world (8 * P);
  struct inode_op op;

  origin_mem_close_door (w->disk[0].origin, ORIGIN_READ);
  inode_op_map (&op, ino_of (w), pages (0, 1), pages (0, 1), INODE_MAP_READ);
  assert_false (turn (w, &op));
  world_refuse (true);
  origin_mem_open_door (w->disk[0].origin, ORIGIN_READ);
  assert_int_equal (run_for (w, &op, 5), -1);
  world_refuse (false);
  assert_int_equal (run_for (w, &op, 5), 0);
  inode_op_map_end (&op);
  free_world (w);
}

/* A minute: what the system itself refuses does not come back by write-back. */
TEST (a_fault_waits_a_minute_for_memory_and_then_says_so)
{
  unsigned write;

  for (write = 0; write < 2; write++) {
    struct world *w = tight_world (8 * P);
    struct inode_op op;

    if (write)
      load (w, pages (0, 1));   /* what it lacks is a node to keep it dirty */
    inode_op_map (&op, ino_of (w), pages (0, 1), pages (0, 1), write ? INODE_MAP_WRITE : INODE_MAP_READ);
    world_refuse (true);
    assert_int_equal (run_for (w, &op, 58), -1);
    assert_int_equal (run_for (w, &op, 5), ENOMEM);
    world_refuse (false);
    inode_op_map (&op, ino_of (w), pages (0, 1), pages (0, 1), write ? INODE_MAP_WRITE : INODE_MAP_READ);
    assert_int_equal (run (w, &op), 0);
    inode_op_map_end (&op);
    free_world (w);
  }
}

/* D15 */
TEST (where_nothing_gets_clean_a_fault_that_needs_a_frame_fails)
{
  struct origin_info info = world_info (256 * P);
  struct world_options o = { .nframes = 16, .dirty_max = 64 * P, .dirty_background = 64 * P };
  struct world *w = new_world_of (&info, &o);
  struct space s = space_of (w);

  origin_mem_fail (w->disk[0].origin, ORIGIN_WRITE, ENOSPC, 0, 1000);
  assert_int_equal (write_at (w, 0, 16 * P, 'x'), 0);
  assert_int_equal (flush (w), ENOSPC);
  map (&s, pages (0, 64), true);
  assert_int_equal (fault (&s, pages (32, 1), INODE_MAP_READ), EIO);
  assert_int_equal (fault (&s, pages (3, 1), INODE_MAP_READ), 0);
  assert_int_equal (*at (&s, 3 * P), 'x');
  origin_mem_fail (w->disk[0].origin, ORIGIN_WRITE, 0, 0, 0);
  assert_int_equal (flush (w), 0);
  assert_int_equal (fault (&s, pages (32, 1), INODE_MAP_READ), 0);
  unmap (&s, pages (0, 64), true);
  free_world (w);
}

/* D1: what is not mapped goes, what is mapped is seen and stays. */
TEST (a_failed_write_through_leaves_what_is_mapped)
{
  struct origin_info info = world_info (8 * P);
  struct world_options o = { .nframes = 64, .mode = INODE_WRITETHROUGH };
  struct world *w = new_world_of (&info, &o);
  struct space s = space_of (w);

  map (&s, pages (0, 8), false);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_READ), 0);
  assert_int_equal (fault (&s, pages (2, 1), INODE_MAP_READ), 0);
  origin_mem_fail (w->disk[0].origin, ORIGIN_WRITE, EIO, 0, 1);
  assert_int_equal (write_at (w, 0, 4 * P, 'x'), EIO);
  inode_check (s.ino);
  assert_int_equal (*at (&s, 0), 'x');
  assert_int_equal (*at (&s, 2 * P), 'x');
  read_is (w, 0, P, "x");
  read_is (w, P, P, "b");
  read_is (w, 2 * P, P, "x");
  read_is (w, 3 * P, P, "d");
  assert_int_equal (dirty_bytes (w), 2 * P);
  assert_int_equal (flush (w), 0);
  assert_true (durable_is (w, 0, "xxxx"));
  assert_true (durable_is (w, P, "bbbb"));
  assert_true (durable_is (w, 2 * P, "xxxx"));
  unmap (&s, pages (0, 8), false);
  free_world (w);
}

TEST (a_mapping_that_cannot_be_cut_for_want_of_memory_stays_whole)
{
  struct world *w = tight_world (256 * P);
  struct space s = space_of (w);
  uint64_t i;
  int err = 0;

  map (&s, pages (0, 200), false);
  world_refuse (true);
  for (i = 1; i < 199; i += 2) {
    err = inode_remove_mapping (s.ino, &s.base, addrs (pages (i, 1)), i * P, false);
    if (err)
      break;
  }
  world_refuse (false);
  assert_int_equal (err, ENOMEM);
  inode_unmap (s.ino, pages (i, 1), 0);
  assert_int_equal (s.calls, 1);
  assert_true (range_equal (s.last, addrs (pages (i, 1))));
  assert_int_equal (inode_remove_mapping (s.ino, &s.base, addrs (pages (i, 1)), i * P, false), 0);
  inode_unmap (s.ino, pages (i, 1), 0);
  assert_int_equal (s.calls, 1);
  assert_int_equal (inode_remove_mapping (s.ino, &s.base, addrs (pages (0, 200)), 0, false), 0);
  assert_false (inode_has_mappings (s.ino));
  free_world (w);
}

TEST (a_page_that_stays_kept_for_want_of_memory_gets_clean_later)
{
  struct world *w = tight_world (256 * P);
  struct space s = space_of (w);
  struct inode_translation pin;
  uint64_t i;

  map (&s, pages (0, 60), true);
  assert_int_equal (fault (&s, pages (0, 60), INODE_MAP_WRITE), 0);
  world_refuse (true);
  for (i = 1; i < 59 && !atomic_load (&s.ino->keep_late); i += 2)
    space_drop (&s, addrs (pages (i, 1)));
  world_refuse (false);
  assert_true (atomic_load (&s.ino->keep_late));
  i -= 2;
  assert_int_equal (inode_kept_frames (s.ino), 60 - (i + 1) / 2);
  inode_check (s.ino);
  /* Somebody has a page pinned, which must stay kept. */
  pin = (struct inode_translation) { pages (0, 1), s.t[0].frame, s.t[0].perms };
  assert_true (s.t[0].range.start == 0);
  inode_inc_ref (s.ino, &pin);
  unmap (&s, pages (0, 60), true);
  assert_int_equal (inode_kept_frames (s.ino), 1);
  assert_int_equal (flush (w), 0);
  assert_int_equal (dirty_bytes (w), 2 * P);
  inode_unkeep (s.ino, inode_seq_now (s.ino));
  assert_false (atomic_load (&s.ino->keep_late));
  assert_int_equal (flush (w), 0);
  assert_int_equal (dirty_bytes (w), P);
  inode_check (s.ino);
  inode_dec_ref (s.ino, &pin);
  assert_int_equal (flush (w), 0);
  assert_int_equal (dirty_bytes (w), 0);
  free_world (w);
}

TEST (a_page_that_stays_kept_is_let_go_though_nobody_maps_any)
{
  struct world *w = tight_world (256 * P);
  struct space s = space_of (w);
  uint64_t i;

  map (&s, pages (0, 60), true);
  assert_int_equal (fault (&s, pages (0, 60), INODE_MAP_WRITE), 0);
  world_refuse (true);
  for (i = 1; i < 59 && !atomic_load (&s.ino->keep_late); i += 2)
    space_drop (&s, addrs (pages (i, 1)));
  world_refuse (false);
  unmap (&s, pages (0, 60), true);
  assert_int_equal (inode_kept_frames (s.ino), 0);
  assert_int_equal (flush (w), 0);
  assert_int_equal (dirty_bytes (w), P);
  for (i = 0; i < 20 && dirty_bytes (w); i++) {
    clock_fake_advance (&w->clock, NSEC_PER_SEC);
    world_turn (w, &w->disk[0], false);
  }
  assert_int_equal (dirty_bytes (w), 0);
  free_world (w);
}

TEST (more_kept_pages_apart_than_one_batch_are_taken_back)
{
  struct world *w = new_world (512 * P);
  struct space s = space_of (w);
  uint64_t i;

  map (&s, pages (0, 512), true);
  for (i = 0; i < 100; i++)
    assert_int_equal (fault (&s, pages (2 * i, 1), INODE_MAP_WRITE), 0);
  assert_int_equal (inode_kept_frames (s.ino), 100);
  inode_unkeep (s.ino, inode_seq_now (s.ino));
  assert_int_equal (inode_kept_frames (s.ino), 0);
  assert_int_equal (s.n, 0);
  assert_int_equal (flush (w), 0);
  assert_int_equal (dirty_bytes (w), 0);
  unmap (&s, pages (0, 512), true);
  free_world (w);
}

/* Write-behind takes back what is old, and not what was stored to just now. */
TEST (only_kept_pages_of_old_generations_are_taken_back)
{
  struct world *w = new_world (8 * P);
  struct space s = space_of (w);
  uint32_t old = inode_seq_now (s.ino);

  map (&s, pages (0, 8), true);
  assert_int_equal (fault (&s, pages (0, 1), INODE_MAP_WRITE), 0);
  lock_take (&s.ino->sync);
  gen_close_locked (s.ino);
  lock_drop (&s.ino->sync);
  assert_int_equal (fault (&s, pages (2, 1), INODE_MAP_WRITE), 0);
  inode_unkeep (s.ino, old);
  assert_int_equal (s.calls, 1);
  assert_true (range_equal (s.last, addrs (pages (0, 1))));
  assert_int_equal (inode_kept_frames (s.ino), 1);
  inode_unkeep (s.ino, inode_seq_now (s.ino));
  assert_int_equal (inode_kept_frames (s.ino), 0);
  unmap (&s, pages (0, 8), true);
  free_world (w);
}

/*----------------------------------------------------------------------*/
/* The end moves inside a page, or cannot move. */

TEST (an_end_that_moves_inside_a_page_leaves_nothing_clean_behind_it)
{
  struct world *w = new_world (8 * P);
  struct inode *ino = ino_of (w);
  struct space s = space_of (w);

  map (&s, pages (0, 8), false);
  load (w, pages (6, 2));
  assert_int_equal (write_at (w, 7 * P + 200, 10, 'd'), 0);
  assert_int_equal (inode_set_size (ino, 7 * P + 150), 0);
  assert_int_equal (inode_set_size (ino, 7 * P + 100), 0);
  inode_check (ino);
  assert_int_equal (s.calls, 0);
  memset (origin_mem_volatile (w->disk[0].origin) + 7 * P, 'G', P);
  assert_int_equal (inode_set_size (ino, 7 * P + 300), 0);
  read_is (w, 7 * P, 100, "h");
  read_is (w, 7 * P + 100, 100, "G");
  read_is (w, 7 * P + 200, 10, "d");
  read_is (w, 7 * P + 210, 90, "G");
  assert_int_equal (inode_set_size (ino, 8 * P), 0);
  read_is (w, 7 * P + 300, P - 300, "G");
  unmap (&s, pages (0, 8), false);
  free_world (w);
}

/* It may hold what was there before. */
TEST (what_comes_for_a_page_whose_end_moved_twice_is_asked_for_anew)
{
  struct world *w = new_world (8 * P);
  struct origin *o = w->disk[0].origin;
  struct inode *ino = ino_of (w);
  uint8_t buf[P];
  struct inode_op op;

  origin_mem_close_door (o, ORIGIN_READ);
  inode_op_read (&op, ino, buf, pages (7, 1));
  assert_false (turn (w, &op));
  assert_int_equal (inode_set_size (ino, 7 * P + 100), 0);
  assert_int_equal (inode_set_size (ino, 8 * P), 0);
  origin_mem_open_door (o, ORIGIN_READ);
  assert_int_equal (run (w, &op), 0);
  assert_int_equal (origin_mem_count (o, ORIGIN_READ), 2);
  free_world (w);
}

TEST (what_could_not_be_written_is_tried_at_once_when_the_end_grows)
{
  struct world *w = new_world (8 * P);
  struct inode *ino = ino_of (w);

  assert_int_equal (write_at (w, 6 * P, P, 'w'), 0);
  origin_mem_fail (w->disk[0].origin, ORIGIN_WRITE, EIO, 0, 1);
  assert_int_equal (flush (w), EIO);
  assert_int_equal (inode_set_size (ino, 4 * P), 0);
  assert_true (inode_retry_at (ino) > clock_now (w->env.clock));
  assert_int_equal (inode_set_size (ino, 8 * P), 0);
  assert_true (inode_retry_at (ino) <= clock_now (w->env.clock));
  free_world (w);
}

TEST (a_hole_is_forgotten_where_the_end_was_inside_its_page)
{
  struct world *w = new_world (8 * P);
  struct inode *ino = ino_of (w);

  memset (origin_mem_volatile (w->disk[0].origin), 0, 8 * P);
  memset (origin_mem_durable (w->disk[0].origin), 0, 8 * P);
  read_is (w, 0, P, "\0");
  inode_ask_holes (ino, 0);
  origin_mem_log_clear (w->disk[0].origin);
  read_is (w, 7 * P, P, "\0");
  assert_int_equal (origin_mem_count (w->disk[0].origin, ORIGIN_READ), 0);
  assert_int_equal (inode_set_size (ino, 7 * P + 100), 0);
  memset (origin_mem_volatile (w->disk[0].origin) + 7 * P + 100, 'G', P - 100);
  assert_int_equal (inode_set_size (ino, 8 * P), 0);
  read_is (w, 7 * P, 100, "\0");
  read_is (w, 7 * P + 100, P - 100, "G");
  free_world (w);
}

/* Zeros go without the lock of the stripe in which somebody has just seen them. */
TEST (a_hole_that_is_forgotten_while_its_fault_makes_a_page_of_it_is_asked_for_anew)
{
  unsigned i;

  for (i = 1; i <= 4; i++) {
    struct world *w = new_world (8 * P);
    struct space s = space_of (w);

    memset (origin_mem_volatile (w->disk[0].origin), 0, 8 * P);
    read_is (w, 0, P, "\0");
    inode_ask_holes (ino_of (w), 0);
    memset (origin_mem_volatile (w->disk[0].origin) + 4 * P, 'G', P);
    map (&s, pages (0, 8), false);
    watched = ino_of (w);
    others = forget;
    countdown = i;
    assert_int_equal (fault (&s, pages (4, 1), INODE_MAP_READ), 0);
    countdown = 0;
    unmap (&s, pages (0, 8), false);
    free_world (w);
  }
}

/* Part of a unit that reads as zeros is written, and the zeros go the moment that they were seen: forgotten, or trimmed and
 * durable.  What is beside is zeros or what the origin has, all of it, and the origin has the same in the end.
 */
static void
goes_under_a_write (bool trimmed, uint32_t unit, unsigned nth)
{
  struct origin_info info = world_info (64 * P);
  struct world_options o = { .nframes = 64 };
  struct world *w;
  struct inode *ino;
  uint8_t buf[4 * P];
  struct inode_op op;
  unsigned i, used;

  info.block_min = unit;
  w = new_world_of (&info, &o);
  ino = ino_of (w);
  memset (origin_mem_volatile (w->disk[0].origin), 0, 64 * P);
  if (trimmed) {
    inode_op_trim (&op, ino, pages (0, 16), 0);
    assert_int_equal (run (w, &op), 0);
    assert_true (inode_write_some (ino, inode_seq_now (ino), 8) > 0);
    assert_int_equal (inode_get_dirty (ino).unstable, 16 * P);
  }
  else {
    read_is (w, 0, P, "\0");
    inode_ask_holes (ino, 0);
  }
  memset (origin_mem_volatile (w->disk[0].origin), 'G', 64 * P);
  memset (origin_mem_durable (w->disk[0].origin), 'G', 64 * P);
  watched = ino;
  others = trimmed ? flush_origin : forget;
  countdown = nth;
  assert_int_equal (write_at (w, 4 * P + 100, 50, 'w'), 0);
  used = countdown;
  countdown = 0;
  assert_int_equal (used, 0);
  inode_op_read (&op, ino, buf, pages (4, 4));
  assert_int_equal (run (w, &op), 0);
  for (i = 0; i < (unit > P ? unit : P); i++)
    assert_int_equal (buf[i], i >= 100 && i < 150 ? 'w' : buf[0]);
  assert_true (buf[0] == 0 || buf[0] == 'G');
  assert_int_equal (flush (w), 0);
  assert_memory_equal (origin_mem_durable (w->disk[0].origin) + 4 * P, buf, unit > P ? unit : P);
  free_world (w);
}

TEST (zeros_that_go_while_a_write_makes_data_of_their_unit_leave_it_in_one_piece)
{
  unsigned how, nth;

  for (how = 0; how < 4; how++)
    for (nth = 1; nth <= 4; nth++)
      goes_under_a_write (how & 1, how & 2 ? 4 * P : 1, nth);
}

static pthread_t changer;

static void *
another_origin_comes (void *arg)
{
  assert_int_equal (inode_origin_changed (arg), 0);
  return NULL;
}

/* All that is clean has gone but what is not looked at yet. */
static void
another_origin_has_come (struct world *w)
{
  memset (origin_mem_volatile (w->disk[0].origin), 'G', 16 * P);
  memset (origin_mem_durable (w->disk[0].origin), 'G', 16 * P);
  gate = &ino_of (w)->stripe[NSTRIPES - 1].lock.rw;
  assert_int_equal (pthread_create (&changer, NULL, another_origin_comes, ino_of (w)), 0);
  while (sem_wait (&at_gate) == -1)
    ;
}

/* Holes went after the pages: who made a page of one in between left it behind, as zeros that were told of for ever, or that were
 * written over what the other origin has beside the bytes of a client.
 */
TEST (no_page_is_made_of_a_hole_that_another_origin_had)
{
  struct world_options o = { .nframes = 8 };
  struct origin_info info = world_info (16 * P);
  uint8_t bytes[100];
  unsigned i;

  memset (bytes, 'w', sizeof bytes);
  for (i = 0; i < 2; i++) {
    struct world *w = new_world_of (&info, &o);
    struct inode *ino = ino_of (w);
    struct inode_op op;
    bool woken, done;

    memset (origin_mem_volatile (w->disk[0].origin), 0, 8 * P);
    read_is (w, 0, P, "\0");
    inode_ask_holes (ino, 0);
    load (w, pages (8, 8));
    meanwhile (w, another_origin_has_come);
    if (i == 0)
      inode_op_map (&op, ino, pages (4, 1), pages (4, 1), INODE_MAP_READ);
    else
      inode_op_write (&op, ino, bytes, (struct range) { 4 * P, 4 * P + 100 }, 0);
    op.wake = wake;
    op.wake_arg = &woken;
    done = inode_op_run (&op);
    assert_null (move);
    sem_post (&gate_opens);
    pthread_join (changer, NULL);
    assert_int_equal (done ? op.err : run (w, &op), 0);
    if (i == 0)
      inode_op_map_end (&op);
    read_is (w, 4 * P, 100, i == 0 ? "G" : "w");
    read_is (w, 4 * P + 100, P - 100, "G");
    assert_int_equal (flush (w), 0);
    assert_true (durable_is (w, 4 * P + 100, "GGGG"));
    free_world (w);
  }
}

/* It does not grow while something clean is left behind it, and it is tried again. */
TEST (an_end_that_memory_holds_moves_when_there_is_some)
{
  struct world *w = tight_world (256 * P);
  struct inode *ino = ino_of (w);
  uint64_t i;
  int err = 0;

  /* Until a node is full. */
  for (i = 0; !err; i += 2) {
    assert_true (i < 200);
    load (w, pages (i, 1));
    world_refuse (true);
    err = inode_set_size (ino, i * P + 100);
    if (err)
      break;
    world_refuse (false);
    assert_int_equal (inode_set_size (ino, 256 * P), 0);
  }
  assert_int_equal (err, ENOMEM);
  /* It is so, though something clean could not go. */
  assert_int_equal (inode_end (ino), i * P + 100);
  inode_check (ino);
  memset (origin_mem_volatile (w->disk[0].origin), 'G', 256 * P);
  assert_int_equal (inode_set_size (ino, 256 * P), ENOMEM);
  assert_int_equal (inode_end (ino), i * P + 100);
  assert_false (inode_settle_size (ino));
  world_refuse (false);
  world_turn (w, &w->disk[0], false);
  assert_true (inode_settle_size (ino));
  assert_int_equal (inode_end (ino), 256 * P);
  read_is (w, i * P + 100, P - 100, "G");
  free_world (w);
}

TEST (a_turn_that_cannot_move_the_end_comes_again_after_a_while_and_not_at_once)
{
  struct world *w = new_world (8 * P);
  struct space s = space_of (w);
  struct writeback_state *ws = &w->disk[0].ws;
  struct inode_translation t;
  uint64_t next;

  map (&s, pages (0, 8), false);
  assert_int_equal (fault (&s, pages (1, 1), INODE_MAP_READ), 0);
  t = s.t[0];
  inode_inc_ref (s.ino, &t);
  assert_int_equal (inode_set_size (s.ino, P + 1), 0);
  w->disk[0].dirtied = false;
  assert_int_equal (inode_set_size (s.ino, 8 * P), EBUSY);
  assert_true (w->disk[0].dirtied);
  w->disk[0].dirtied = false;
  next = writeback_turn (s.ino, ws, false, false);
  assert_true (next > clock_now (w->env.clock));
  assert_false (w->disk[0].dirtied);
  /* The pin goes: that asks for a turn. */
  inode_dec_ref (s.ino, &t);
  assert_true (w->disk[0].dirtied);
  world_turn (w, NULL, false);
  assert_int_equal (inode_end (s.ino), 8 * P);
  unmap (&s, pages (0, 8), false);
  free_world (w);
}

TEST (an_origin_that_cannot_zero_has_nothing_to_refuse)
{
  struct origin_info info = world_info (8 * P);
  struct world_options o = { .nframes = 64 };
  struct world *w;
  struct inode_attr a;
  struct inode_op op;

  info.can_zero = info.can_fast_zero = false;
  w = new_world_of (&info, &o);
  inode_op_zero (&op, ino_of (w), pages (0, 2), INODE_MAY_TRIM);
  assert_int_equal (run (w, &op), 0);
  assert_int_equal (flush (w), 0);
  inode_get_attr (ino_of (w), &a);
  assert_false (a.can_zero);
  assert_int_equal (a.dirty, 0);
  free_world (w);
}

/* A test that failed may have left memory refused. */
static int
calm (void **state)
{
  (void) state;
  world_refuse (false);
  move = NULL;
  countdown = 0;
  gate = NULL;
  return 0;
}

static int
make_gate (void **state)
{
  (void) state;
  return sem_init (&at_gate, 0, 0) == 0 && sem_init (&gate_opens, 0, 0) == 0 ? 0 : -1;
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup (what_is_there_in_front_of_the_fault_is_mapped_with_it, calm),
    cmocka_unit_test_setup (a_store_maps_beside_it_only_what_is_writable_somewhere, calm),
    cmocka_unit_test_setup (neighbours_in_other_frames_are_not_mapped_beside_a_fault, calm),
    cmocka_unit_test_setup (a_neighbour_with_all_the_translations_it_can_have_is_left_out, calm),
    cmocka_unit_test_setup (a_fault_over_many_gaps_fills_them_all, calm),
    cmocka_unit_test_setup (a_fault_hears_at_once_what_no_waiting_changes, calm),
    cmocka_unit_test_setup (a_fault_waits_while_translations_are_taken_back, calm),
    cmocka_unit_test_setup (what_is_pinned_is_in_use_though_nobody_maps_it, calm),
    cmocka_unit_test_setup (a_page_that_is_sent_from_its_frame_is_mapped_in_another, calm),
    cmocka_unit_test_setup (a_page_whose_answer_comes_while_its_fault_looks_for_a_frame_stays_where_it_is, calm),
    cmocka_unit_test_setup (a_page_of_zeros_that_the_end_leaves_while_its_fault_looks_for_a_frame_is_not_there, calm),
    cmocka_unit_test_setup (a_fault_whose_answer_finds_no_memory_waits_for_some, calm),
    cmocka_unit_test_setup (a_fault_waits_a_minute_for_memory_and_then_says_so, calm),
    cmocka_unit_test_setup (where_nothing_gets_clean_a_fault_that_needs_a_frame_fails, calm),
    cmocka_unit_test_setup (a_failed_write_through_leaves_what_is_mapped, calm),
    cmocka_unit_test_setup (a_mapping_that_cannot_be_cut_for_want_of_memory_stays_whole, calm),
    cmocka_unit_test_setup (a_page_that_stays_kept_for_want_of_memory_gets_clean_later, calm),
    cmocka_unit_test_setup (a_page_that_stays_kept_is_let_go_though_nobody_maps_any, calm),
    cmocka_unit_test_setup (more_kept_pages_apart_than_one_batch_are_taken_back, calm),
    cmocka_unit_test_setup (only_kept_pages_of_old_generations_are_taken_back, calm),
    cmocka_unit_test_setup (an_end_that_moves_inside_a_page_leaves_nothing_clean_behind_it, calm),
    cmocka_unit_test_setup (what_comes_for_a_page_whose_end_moved_twice_is_asked_for_anew, calm),
    cmocka_unit_test_setup (what_could_not_be_written_is_tried_at_once_when_the_end_grows, calm),
    cmocka_unit_test_setup (a_hole_is_forgotten_where_the_end_was_inside_its_page, calm),
    cmocka_unit_test_setup (a_hole_that_is_forgotten_while_its_fault_makes_a_page_of_it_is_asked_for_anew, calm),
    cmocka_unit_test_setup (zeros_that_go_while_a_write_makes_data_of_their_unit_leave_it_in_one_piece, calm),
    cmocka_unit_test_setup (no_page_is_made_of_a_hole_that_another_origin_had, calm),
    cmocka_unit_test_setup (an_end_that_memory_holds_moves_when_there_is_some, calm),
    cmocka_unit_test_setup (a_turn_that_cannot_move_the_end_comes_again_after_a_while_and_not_at_once, calm),
    cmocka_unit_test_setup (an_origin_that_cannot_zero_has_nothing_to_refuse, calm),
  };

  return cmocka_run_group_tests (tests, make_gate, NULL);
}
