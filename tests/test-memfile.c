/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of lib/memfile: who has which frame, what it holds and who pays.
 *
 * The cases of the seeds' FindUnallocatedRange table that mean something here are below
 * under "placement".  Not applicable, because frames do not grow from the top, the file
 * never doubles and no frame is huge: every top-down row, "space at end of file", "double
 * the file", "doubles more than once", "within one gap from top", "between gaps", "large
 * top gap", "shifted down", and the huge page rows but for one: a misaligned hole of the
 * wanted size is used here, since a run need only be consecutive to be one buffer.
 * Of the later {small, huge} x {bottom-up, top-down} x {fresh, recycled} matrix the
 * rows {small, bottom-up} x {fresh, recycled} remain; waste, releasing and used frames
 * are `recycled frames are handed out before fresh ones', `frames on their way to the
 * system are not handed out' and the model.
 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"
#include "memfile.h"

/* ---- The system, made to fail: call number fail_at of all wrapped ones. ---- */

static int fail_at = -1, calls;
static int fail_errno;
static int fail_advice = -1;    /* madvise with this advice fails */
static bool fail_fallocate;
static long page_size = 4096;
static void (*in_fallocate) (void);

extern void *__real_mmap (void *, size_t, int, int, int, off_t);
extern int __real_madvise (void *, size_t, int);
extern int __real_memfd_create (const char *, unsigned);
extern int __real_ftruncate (int, off_t);
extern int __real_fallocate (int, int, off_t, off_t);
extern void *__real_calloc (size_t, size_t);

extern void *__wrap_mmap (void *, size_t, int, int, int, off_t);
extern int __wrap_madvise (void *, size_t, int);
extern int __wrap_memfd_create (const char *, unsigned);
extern int __wrap_ftruncate (int, off_t);
extern int __wrap_fallocate (int, int, off_t, off_t);
extern void *__wrap_calloc (size_t, size_t);
extern long __wrap_sysconf (int);

static bool
must_fail (void)
{
  if (fail_at < 0 || calls++ != fail_at)
    return false;
  errno = fail_errno;
  return true;
}

void *
__wrap_mmap (void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
  return must_fail () ? MAP_FAILED : __real_mmap (addr, len, prot, flags, fd, off);
}

int
__wrap_madvise (void *addr, size_t len, int advice)
{
  if (advice == fail_advice) {
    errno = fail_errno;
    return -1;
  }
  return must_fail () ? -1 : __real_madvise (addr, len, advice);
}

int
__wrap_memfd_create (const char *name, unsigned flags)
{
  return must_fail () ? -1 : __real_memfd_create (name, flags);
}

int
__wrap_ftruncate (int fd, off_t len)
{
  return must_fail () ? -1 : __real_ftruncate (fd, len);
}

int
__wrap_fallocate (int fd, int mode, off_t off, off_t len)
{
  if (in_fallocate)
    in_fallocate ();
  if (fail_fallocate) {
    errno = fail_errno;
    return -1;
  }
  return must_fail () ? -1 : __real_fallocate (fd, mode, off, len);
}

void *
__wrap_calloc (size_t n, size_t size)
{
  return must_fail () ? NULL : __real_calloc (n, size);
}

long
__wrap_sysconf (int name)
{
  (void) name;
  return page_size;
}

/* ---- A file of `max` frames, with memory for `paid` of them. ---- */

struct fixture {
  struct budget budget;
  struct memfile *m;
};

static void
open_file (struct fixture *f, uint32_t max, uint32_t paid)
{
  budget_init (&f->budget, memfile_table_bytes (max) + paid * PAGE_SIZE);
  assert_int_equal (memfile_create (&f->budget, max, &f->m), 0);
  memfile_check (f->m);
}

static void
close_file (struct fixture *f)
{
  memfile_check (f->m);
  assert_int_equal (memfile_in_use (f->m), 0);
  memfile_free (f->m);
  budget_check (&f->budget);
  assert_int_equal (f->budget.used, 0);
}

static uint32_t
alloc_one (struct fixture *f)
{
  uint32_t frame;

  assert_int_equal (memfile_alloc (f->m, 1, &frame), 1);
  return frame;
}

/* Use exactly the frames of [0, n) that `map' marks with an x. */
static void
use_pattern (struct fixture *f, const char *map)
{
  uint32_t n = strlen (map), frames[256];

  assert_int_equal (memfile_alloc (f->m, n, frames), n);
  for (uint32_t i = 0; i < n; i++) {
    assert_int_equal (frames[i], i);
    if (map[i] != 'x')
      assert_true (memfile_put (f->m, frames[i]));
  }
}

static void
drop_pattern (struct fixture *f, const char *map)
{
  for (uint32_t i = 0; map[i]; i++)
    if (map[i] == 'x')
      memfile_put (f->m, i);
}

static uint64_t
memory_of (struct memfile *m)
{
  struct stat st;

  assert_int_equal (fstat (memfile_fd (m), &st), 0);
  return (uint64_t) st.st_blocks * 512;
}

/* ---- Placement ---- */

TEST (the_first_frames_of_an_empty_file_are_the_lowest)
{
  struct fixture f;
  uint32_t out[3];

  open_file (&f, 1024, 1024);
  assert_int_equal (memfile_alloc (f.m, 3, out), 3);
  for (uint32_t i = 0; i < 3; i++)
    assert_int_equal (out[i], i);
  memfile_put_many (f.m, out, 3);
  close_file (&f);
}

TEST (one_frame_goes_where_it_fits)
{
  static const struct { const char *used; uint32_t expected; } rows[] = {
    { "_x", 0 },                /* the second page used */
    { "xx", 2 },                /* both used, whatever their references */
    { "x_x", 1 },               /* a hole */
    { "xx_x", 2 },              /* the search begins inside a used piece */
    { "_x_x", 0 },              /* low holes first, rather than in the top */
  };

  for (size_t i = 0; i < PC_ARRAY_SIZE (rows); i++) {
    struct fixture f;
    uint32_t got;

    open_file (&f, 64, 64);
    use_pattern (&f, rows[i].used);
    if (i == 1)
      memfile_get (f.m, 1);
    got = alloc_one (&f);
    assert_int_equal (got, rows[i].expected);
    memfile_put (f.m, got);
    if (i == 1)
      assert_false (memfile_put (f.m, 1));
    drop_pattern (&f, rows[i].used);
    close_file (&f);
  }
}

TEST (a_hole_that_is_too_small_is_left_alone)
{
  struct fixture f;
  uint32_t out[2];

  open_file (&f, 64, 64);
  use_pattern (&f, "x_x");
  assert_int_equal (memfile_alloc (f.m, 2, out), 2);
  assert_int_equal (out[0], 3);
  assert_int_equal (out[1], 4);
  memfile_put_many (f.m, out, 2);
  drop_pattern (&f, "x_x");
  close_file (&f);
}

TEST (a_misaligned_hole_of_sixteen_serves_sixteen)
{
  struct fixture f;
  uint32_t out[16];

  open_file (&f, 64, 20);
  use_pattern (&f, "xx________________xx");
  assert_int_equal (memfile_alloc (f.m, 16, out), 16);
  for (uint32_t i = 0; i < 16; i++)
    assert_int_equal (out[i], 2 + i);
  memfile_put_many (f.m, out, 16);
  drop_pattern (&f, "xx________________xx");
  close_file (&f);
}

TEST (when_all_but_one_are_used_two_are_not_to_be_had)
{
  struct fixture f;
  uint32_t out[64], two[2];

  open_file (&f, 64, 64);
  assert_int_equal (memfile_alloc (f.m, 63, out), 63);
  assert_int_equal (memfile_available (f.m), 1);
  assert_int_equal (memfile_alloc (f.m, 2, two), 1);
  assert_int_equal (memfile_available (f.m), 0);
  assert_int_equal (memfile_alloc (f.m, 1, two + 1), 0);
  memfile_put (f.m, two[0]);
  memfile_put_many (f.m, out, 63);
  close_file (&f);
}

TEST (runs_of_256_are_consecutive_in_a_fresh_and_in_a_recycled_file)
{
  struct fixture f;
  uint32_t out[1024];

  open_file (&f, 1024, 1024);
  for (int recycled = 0; recycled < 2; recycled++) {
    for (uint32_t at = 0; at < 1024; at += 256) {
      assert_int_equal (memfile_alloc (f.m, 256, out + at), 256);
      for (uint32_t i = 1; i < 256; i++)
        assert_int_equal (out[at + i], out[at] + i);
    }
    memfile_check (f.m);
    memfile_put_many (f.m, out, 1024);
  }
  close_file (&f);
}

TEST (who_asks_for_one_run_gets_one_or_nothing)
{
  struct fixture f;
  uint32_t held[200], out[200];

  open_file (&f, 200, 192);
  assert_int_equal (memfile_alloc_run (f.m, 0, out), 0);
  assert_int_equal (memfile_alloc_run (f.m, 201, out), 0);
  assert_int_equal (memfile_alloc (f.m, 192, held), 192);
  assert_int_equal (memfile_alloc_run (f.m, 1, out), 0);        /* nobody paid for the last eight */
  for (int i = 0; i < 64; i++)
    if (i != 40)
      memfile_put (f.m, held[i]);
  assert_int_equal (memfile_alloc_run (f.m, 41, out), 0);
  assert_int_equal (memfile_alloc_run (f.m, 40, out), 40);
  for (uint32_t i = 0; i < 40; i++) {
    assert_int_equal (out[i], i);
    assert_int_equal (frame_refs (memfile_frame (f.m, i)), 1);
  }
  assert_int_equal (memfile_available (f.m), 23);
  assert_int_equal (memfile_in_use (f.m), 169);
  memfile_check (f.m);
  memfile_put_many (f.m, out, 40);
  memfile_put_many (f.m, held + 40, 1);
  memfile_put_many (f.m, held + 64, 128);
  assert_int_equal (memfile_alloc_run (f.m, 192, out), 192);
  for (uint32_t i = 0; i < 192; i++)
    assert_int_equal (out[i], i);
  memfile_put_many (f.m, out, 192);
  close_file (&f);
}

TEST (recycled_frames_are_handed_out_before_fresh_ones)
{
  struct fixture f;
  uint32_t out[64];

  open_file (&f, 1000, 1000);
  assert_int_equal (memfile_alloc (f.m, 64, out), 64);
  memfile_put_many (f.m, out, 64);
  assert_int_equal (f.budget.by_class[BUDGET_FRAMES], 64 * PAGE_SIZE);
  for (uint32_t i = 0; i < 4; i++)
    assert_int_equal (memfile_alloc (f.m, 16, out + 16 * i), 16);
  assert_int_equal (f.budget.by_class[BUDGET_FRAMES], 64 * PAGE_SIZE);
  memfile_put_many (f.m, out, 64);
  close_file (&f);
}

/* ---- What a frame holds ---- */

static bool
is_zero (const uint8_t *p)
{
  return p[0] == 0 && memcmp (p, p + 1, PAGE_SIZE - 1) == 0;
}

TEST (a_frame_reads_as_zeros_at_first_after_populate_and_after_a_punch)
{
  struct fixture f;
  uint32_t out[8];

  open_file (&f, 8, 8);
  assert_int_equal (memfile_populate (f.m, 4), 4);
  for (int turn = 0; turn < 2; turn++) {
    assert_int_equal (memfile_alloc (f.m, 8, out), 8);
    for (int i = 0; i < 8; i++) {
      assert_true (is_zero (memfile_addr (f.m, out[i])));
      memset (memfile_addr (f.m, out[i]), 0xa5, PAGE_SIZE);
    }
    memfile_put_many (f.m, out, 8);
    assert_int_equal (memfile_shrink (f.m, 8), 8);
  }
  close_file (&f);
}

TEST (neighbouring_frames_are_neighbours_in_memory)
{
  struct fixture f;

  open_file (&f, 8, 8);
  for (uint32_t i = 0; i < 7; i++)
    assert_ptr_equal (memfile_addr (f.m, i) + PAGE_SIZE, memfile_addr (f.m, i + 1));
  close_file (&f);
}

TEST (a_frame_that_becomes_free_has_no_owner)
{
  struct fixture f;
  uint32_t frame;

  open_file (&f, 8, 8);
  frame = alloc_one (&f);
  memfile_set_owner (f.m, frame, frame_owner (4095, UINT64_C (0xfffffffffffff)));
  assert_int_equal (frame_owner_id (memfile_owner (f.m, frame)), 4095);
  assert_int_equal (frame_owner_pgno (memfile_owner (f.m, frame)),
                    UINT64_C (0xfffffffffffff));
  memfile_get (f.m, frame);
  assert_int_equal (frame_refs (memfile_frame (f.m, frame)), 2);
  assert_false (memfile_put (f.m, frame));
  assert_int_not_equal (memfile_owner (f.m, frame), 0);
  assert_true (memfile_put (f.m, frame));
  assert_int_equal (memfile_owner (f.m, frame), 0);
  close_file (&f);
}

TEST (references_and_uses_are_counted_apart)
{
  struct fixture f;
  struct frame *fr;
  uint32_t frame;

  open_file (&f, 8, 8);
  frame = alloc_one (&f);
  fr = memfile_frame (f.m, frame);
  for (unsigned i = 1; i <= FRAME_MAX_SENDERS; i++) {
    memfile_use (f.m, frame, FRAME_SENDER);
    assert_int_equal (frame_senders (fr), i);
    assert_int_equal (frame_refs (fr), 1 + i);
    assert_true (frame_is_sending (fr));
  }
  assert_int_equal (frame_maps (fr), 0);
  for (unsigned i = 0; i < FRAME_MAX_SENDERS; i++) {
    assert_false (memfile_put (f.m, frame));
    assert_true (frame_is_sending (fr));
    memfile_unuse (f.m, frame, FRAME_SENDER);
  }
  assert_int_equal (frame_refs (fr), 1);
  assert_false (frame_is_sending (fr));

  for (unsigned i = 1; i <= FRAME_MAX_MAPS; i++) {
    memfile_use (f.m, frame, i % 2 ? FRAME_MAP : FRAME_MAP + FRAME_MAP_WRITE);
    assert_int_equal (frame_maps (fr), i);
    assert_int_equal (frame_maps_write (fr), i / 2);
    assert_int_equal (frame_refs (fr), 1 + i);
  }
  for (unsigned i = FRAME_MAX_MAPS + 1; frame_refs (fr) < FRAME_MAX_REFS; i++)
    memfile_get (f.m, frame);
  assert_int_equal (frame_maps (fr), FRAME_MAX_MAPS);
  assert_false (frame_is_sending (fr));
  for (unsigned i = 1; i <= FRAME_MAX_MAPS; i++)
    memfile_unuse (f.m, frame, i % 2 ? FRAME_MAP : FRAME_MAP + FRAME_MAP_WRITE);
  assert_int_equal (frame_counts (fr), FRAME_MAX_REFS);
  for (unsigned i = 1; i < FRAME_MAX_REFS; i++)
    assert_false (memfile_put (f.m, frame));
  assert_true (memfile_put (f.m, frame));
  close_file (&f);
}

/* ---- Who pays ---- */

TEST (the_budget_is_the_bound_to_the_frame)
{
  for (uint32_t paid = 15; paid <= 17; paid++) {
    struct fixture f;
    uint32_t out[64];

    open_file (&f, 64, paid);
    assert_int_equal (memfile_available (f.m), paid);
    assert_int_equal (memfile_alloc (f.m, 16, out), paid < 16 ? paid : 16);
    memfile_put_many (f.m, out, paid < 16 ? paid : 16);
    assert_int_equal (memfile_alloc (f.m, 64, out), paid);
    memfile_check (f.m);
    memfile_put_many (f.m, out, paid);
    close_file (&f);
  }
}

TEST (a_free_frame_stays_charged_until_it_is_punched)
{
  struct fixture f;
  uint32_t out[40];

  open_file (&f, 64, 64);
  assert_int_equal (memfile_alloc (f.m, 40, out), 40);
  for (uint32_t i = 0; i < 40; i++)
    memset (memfile_addr (f.m, out[i]), 1, PAGE_SIZE);
  assert_int_equal (memory_of (f.m), 40 * PAGE_SIZE);
  memfile_put_many (f.m, out, 40);
  assert_int_equal (f.budget.by_class[BUDGET_FRAMES], 40 * PAGE_SIZE);
  assert_int_equal (memory_of (f.m), 40 * PAGE_SIZE);

  assert_int_equal (memfile_shrink (f.m, 39), 39);
  assert_int_equal (f.budget.by_class[BUDGET_FRAMES], PAGE_SIZE);
  assert_int_equal (memory_of (f.m), PAGE_SIZE);
  assert_int_equal (memfile_shrink (f.m, 5), 1);
  assert_int_equal (memory_of (f.m), 0);
  assert_int_equal (memfile_shrink (f.m, 5), 0);
  close_file (&f);
}

TEST (populate_pays_and_stops_at_the_budget)
{
  struct fixture f;

  open_file (&f, 2000, 1100);
  assert_int_equal (memfile_populate (f.m, 600), 600);
  assert_int_equal (memory_of (f.m), 600 * PAGE_SIZE);
  assert_int_equal (f.budget.by_class[BUDGET_FRAMES], 600 * PAGE_SIZE);
  assert_int_equal (memfile_available (f.m), 1100);
  assert_int_equal (memfile_populate (f.m, 2000), 500);
  assert_int_equal (memfile_populate (f.m, 1), 0);
  assert_int_equal (memfile_available (f.m), 1100);
  close_file (&f);
}

/* ---- The system fails ---- */

TEST (create_gives_everything_back_whichever_call_fails)
{
  struct budget b;
  struct memfile *m;
  int err, n;

  fail_errno = ENOMEM;
  for (n = 0;; n++) {
    budget_init (&b, 10000000);
    calls = 0;
    fail_at = n;
    err = memfile_create (&b, 100, &m);
    fail_at = -1;
    if (err == 0)
      break;
    assert_int_equal (err, ENOMEM);
    budget_check (&b);
    assert_int_equal (b.used, 0);
  }
  /* Three callocs, two mmaps, memfd_create, ftruncate, madvise. */
  assert_int_equal (n, 8);
  memfile_free (m);
}

TEST (create_refuses_a_budget_that_does_not_hold_its_table)
{
  struct budget b;
  struct memfile *m;

  budget_init (&b, memfile_table_bytes (100) - 1);
  assert_int_equal (memfile_create (&b, 100, &m), ENOMEM);
  budget_init (&b, memfile_table_bytes (100));
  assert_int_equal (memfile_create (&b, 100, &m), 0);
  assert_int_equal (memfile_available (m), 0);
  memfile_free (m);
}

TEST (another_page_size_is_refused)
{
  struct budget b;
  struct memfile *m;

  budget_init (&b, 10000000);
  for (page_size = 2048; page_size <= 65536; page_size *= 2)
    if (page_size != 4096)
      assert_int_equal (memfile_create (&b, 100, &m), EINVAL);
  page_size = 4096;
  assert_int_equal (memfile_create (&b, 0, &m), EINVAL);
  assert_int_equal (memfile_create (&b, FRAME_NONE, &m), EINVAL);
  assert_int_equal (b.used, 0);
}

TEST (a_punch_that_fails_leaves_the_frames_free_and_charged)
{
  struct fixture f;
  uint32_t out[10];

  open_file (&f, 64, 64);
  assert_int_equal (memfile_alloc (f.m, 10, out), 10);
  memfile_put_many (f.m, out, 10);
  fail_errno = EINTR;
  fail_fallocate = true;
  assert_int_equal (memfile_shrink (f.m, 10), 0);
  fail_fallocate = false;
  memfile_check (f.m);
  assert_int_equal (f.budget.by_class[BUDGET_FRAMES], 10 * PAGE_SIZE);
  assert_int_equal (memfile_shrink (f.m, 10), 10);
  close_file (&f);
}

TEST (a_populate_that_fails_pays_nothing)
{
  struct fixture f;

  open_file (&f, 64, 64);
  fail_errno = ENOMEM;
  fail_advice = MADV_POPULATE_WRITE;
  assert_int_equal (memfile_populate (f.m, 64), 0);
  fail_advice = -1;
  memfile_check (f.m);
  assert_int_equal (f.budget.by_class[BUDGET_FRAMES], 0);
  assert_int_equal (memfile_populate (f.m, 64), 64);
  close_file (&f);
}

TEST (a_kernel_without_populate_is_asked_once_and_then_otherwise)
{
  struct fixture f;
  uint32_t out[20];

  open_file (&f, 64, 64);
  fail_errno = EINVAL;
  fail_advice = MADV_POPULATE_WRITE;
  assert_int_equal (memfile_populate (f.m, 10), 10);
  fail_errno = ENOSPC;
  assert_int_equal (memfile_populate (f.m, 10), 10);
  fail_advice = -1;
  assert_int_equal (memory_of (f.m), 20 * PAGE_SIZE);
  assert_int_equal (memfile_alloc (f.m, 20, out), 20);
  for (int i = 0; i < 20; i++)
    assert_true (is_zero (memfile_addr (f.m, out[i])));
  memfile_put_many (f.m, out, 20);
  close_file (&f);
}

/* ---- Frames on their way (MFL-2) ---- */

static struct fixture *moving;

static void
look_while_moving (void)
{
  uint32_t out[8];

  assert_int_equal (memfile_available (moving->m), 4);
  assert_int_equal (memfile_in_use (moving->m), 0);
  memfile_check (moving->m);
  assert_int_equal (memfile_alloc (moving->m, 8, out), 4);
  memfile_put_many (moving->m, out, 4);
}

TEST (frames_on_their_way_to_the_system_are_not_handed_out)
{
  struct fixture f;
  uint32_t out[8];

  open_file (&f, 8, 8);
  assert_int_equal (memfile_alloc (f.m, 8, out), 8);
  memfile_put_many (f.m, out, 8);
  moving = &f;
  in_fallocate = look_while_moving;
  assert_int_equal (memfile_shrink (f.m, 4), 4);
  in_fallocate = NULL;
  close_file (&f);
}

/* ---- Against an array ---- */

#define MODEL_FRAMES 500
#define MODEL_PAID 300

TEST (random_operations_agree_with_an_array)
{
  const char *env = getenv ("PC_SEED");
  unsigned seed = env ? strtoul (env, NULL, 0) : (unsigned) time (NULL);
  uint32_t refs[MODEL_FRAMES] = { 0 }, out[MODEL_FRAMES], used = 0;
  uint8_t tag[MODEL_FRAMES];
  struct fixture f;

  print_message ("PC_SEED=%u\n", seed);
  open_file (&f, MODEL_FRAMES, MODEL_PAID);
  for (unsigned round = 0; round < 20000; round++) {
    uint32_t n = 1 + rand_r (&seed) % (round % 16 == 0 ? 300 : 24);
    uint32_t available = memfile_available (f.m);
    uint32_t frame = rand_r (&seed) % MODEL_FRAMES;
    uint32_t got = 0;

    switch (rand_r (&seed) % 8) {
    case 0: case 1: case 2:
      got = memfile_alloc (f.m, n, out);
      assert_int_equal (got, n < available ? n : available);
      for (uint32_t i = 0; i < got; i++) {
        assert_int_equal (refs[out[i]], 0);
        refs[out[i]] = 1;
        tag[out[i]] = 1 + rand_r (&seed) % 255;
        memset (memfile_addr (f.m, out[i]), tag[out[i]], PAGE_SIZE);
        memfile_set_owner (f.m, out[i], frame_owner (1, out[i]));
      }
      used += got;
      break;
    case 3:
      if (refs[frame] > 0) {
        memfile_get (f.m, frame);
        refs[frame]++;
      }
      break;
    case 4: case 5:
      for (uint32_t i = frame; i < MODEL_FRAMES && got < n; i++)
        if (refs[i] > 0) {
          out[got++] = i;
          used -= --refs[i] == 0;
        }
      memfile_put_many (f.m, out, got);
      break;
    case 6:
      if (refs[frame] > 0) {
        refs[frame]--;
        assert_int_equal (memfile_put (f.m, frame), refs[frame] == 0);
        used -= refs[frame] == 0;
      }
      break;
    case 7:
      if (rand_r (&seed) % 2)
        memfile_shrink (f.m, n);
      else
        memfile_populate (f.m, n);
      assert_int_equal (memfile_available (f.m), available);
      break;
    }
    assert_int_equal (memfile_in_use (f.m), used);
    assert_true (f.budget.used <= f.budget.limit);
    if (round % 32 == 0) {
      memfile_check (f.m);
      budget_check (&f.budget);
      assert_true (memory_of (f.m) <= f.budget.by_class[BUDGET_FRAMES]);
      for (uint32_t i = 0; i < MODEL_FRAMES; i++)
        if (refs[i] > 0) {
          uint8_t *p = memfile_addr (f.m, i);

          assert_int_equal (p[0], tag[i]);
          assert_int_equal (p[PAGE_SIZE - 1], tag[i]);
          assert_int_equal (frame_refs (memfile_frame (f.m, i)), refs[i]);
        }
    }
  }
  for (uint32_t i = 0; i < MODEL_FRAMES; i++)
    while (refs[i]-- > 0)
      memfile_put (f.m, i);
  close_file (&f);
}

/* ---- Threads ---- */

#define THREADS 4

static void *
alloc_and_put (void *arg)
{
  struct fixture *f = arg;
  unsigned seed = (uintptr_t) &seed >> 4;
  uint32_t out[64];

  for (unsigned round = 0; round < 3000; round++) {
    uint32_t want = 1 + rand_r (&seed) % 64;
    uint32_t got = memfile_alloc (f->m, want, out);

    /* Plain stores: a frame that two threads had would be a race for TSan. */
    for (uint32_t i = 0; i < got; i++)
      *memfile_addr (f->m, out[i]) = round;
    if (got > 0 && round % 3 == 0) {
      memfile_get (f->m, out[0]);
      memfile_put (f->m, out[0]);
    }
    memfile_put_many (f->m, out, got);
    if (round % 64 == 0)
      memfile_shrink (f->m, 32);
    if (round % 64 == 32)
      memfile_populate (f->m, 32);
    if (f->budget.used > f->budget.limit)
      abort ();
    memfile_available (f->m);
  }
  return NULL;
}

TEST (threads_share_the_frames_and_the_budget)
{
  struct fixture f;
  pthread_t t[THREADS];

  open_file (&f, 200, 150);
  for (unsigned i = 0; i < THREADS; i++)
    assert_int_equal (pthread_create (&t[i], NULL, alloc_and_put, &f), 0);
  for (unsigned i = 0; i < 20; i++)
    memfile_check (f.m);
  for (unsigned i = 0; i < THREADS; i++)
    pthread_join (t[i], NULL);
  budget_check (&f.budget);
  close_file (&f);
}

/* Two drop the last two references of one frame at once: exactly one frees it. */
static void *
drop_all (void *arg)
{
  struct fixture *f = arg;
  uintptr_t freed = 0;

  for (uint32_t i = 0; i < 1000; i++)
    freed += memfile_put (f->m, i);
  return (void *) freed;
}

TEST (of_two_that_drop_the_last_references_one_frees)
{
  struct fixture f;
  pthread_t t;
  void *theirs;
  uint32_t out[1000];
  uintptr_t mine;

  open_file (&f, 1000, 1000);
  assert_int_equal (memfile_alloc (f.m, 1000, out), 1000);
  for (uint32_t i = 0; i < 1000; i++) {
    memfile_set_owner (f.m, i, frame_owner (1, i));
    memfile_get (f.m, i);
  }
  assert_int_equal (pthread_create (&t, NULL, drop_all, &f), 0);
  mine = (uintptr_t) drop_all (&f);
  pthread_join (t, &theirs);
  assert_int_equal (mine + (uintptr_t) theirs, 1000);
  close_file (&f);
}

/* ---- The checks are tested too ---- */

static void
put_twice (void)
{
  struct fixture f;
  uint32_t frame;

  open_file (&f, 8, 8);
  frame = alloc_one (&f);
  memfile_put (f.m, frame);
  memfile_put (f.m, frame);
}

static void
get_a_free_frame (void)
{
  struct fixture f;

  open_file (&f, 8, 8);
  memfile_get (f.m, 0);
}

static void
reference_behind_the_back (void)
{
  struct fixture f;

  open_file (&f, 8, 8);
  memfile_frame (f.m, 3)->counts = FRAME_REF;
  memfile_check (f.m);
}

static void
owner_of_a_free_frame (void)
{
  struct fixture f;

  open_file (&f, 8, 8);
  memfile_set_owner (f.m, 3, frame_owner (1, 1));
  memfile_check (f.m);
}

static void
free_with_a_frame_in_use (void)
{
  struct fixture f;

  open_file (&f, 8, 8);
  alloc_one (&f);
  memfile_free (f.m);
}

static void
charge_behind_the_back (void)
{
  struct fixture f;

  open_file (&f, 8, 8);
  memfile_populate (f.m, 8);
  budget_give (&f.budget, BUDGET_FRAMES, 1);
  memfile_check (f.m);
}

TEST (the_checks_themselves_abort)
{
  static void (*const wrong[]) (void) = {
    put_twice, get_a_free_frame, reference_behind_the_back, owner_of_a_free_frame,
    free_with_a_frame_in_use, charge_behind_the_back,
  };

  for (size_t i = 0; i < PC_ARRAY_SIZE (wrong); i++) {
    int status;
    pid_t pid = fork ();

    if (pid == 0) {
      struct rlimit none = { 0, 0 };

      setrlimit (RLIMIT_CORE, &none);
      if (freopen ("/dev/null", "w", stderr) == NULL)
        _exit (1);
      signal (SIGABRT, SIG_DFL);
      wrong[i] ();
      _exit (0);
    }
    assert_int_equal (waitpid (pid, &status, 0), pid);
    assert_true (WIFSIGNALED (status) && WTERMSIG (status) == SIGABRT);
  }
}

/* ---- The bounce pool ---- */

TEST (the_last_buffers_of_the_pool_are_for_the_flush_path)
{
  struct budget b;
  struct bounce *p;
  uint8_t *buf[4];

  budget_init (&b, 10000000);
  assert_int_equal (bounce_create (&b, 8192, 4, 2, &p), 0);
  assert_int_equal (bounce_size (p), 8192);
  assert_true (b.by_class[BUDGET_FIXED] >= 4 * 8192);
  buf[0] = bounce_take (p, false, 0);
  buf[1] = bounce_take (p, false, 0);
  assert_non_null (buf[1]);
  assert_null (bounce_take (p, false, 0));
  buf[2] = bounce_take (p, true, 0);
  buf[3] = bounce_take (p, true, 0);
  assert_non_null (buf[3]);
  assert_null (bounce_take (p, true, 0));
  for (int i = 0; i < 4; i++) {
    assert_int_equal ((uintptr_t) buf[i] % PAGE_SIZE, 0);
    memset (buf[i], i + 1, 8192);
  }
  for (int i = 0; i < 4; i++) {
    assert_int_equal (buf[i][0], i + 1);
    assert_int_equal (buf[i][8191], i + 1);
    bounce_give (p, buf[i]);
  }
  /* What was used last is warm and comes first. */
  assert_ptr_equal (bounce_take (p, false, 0), buf[3]);
  bounce_give (p, buf[3]);
  bounce_free (p);
  assert_int_equal (b.used, 0);
}

TEST (one_inode_leaves_buffers_for_the_next)
{
  struct budget b;
  struct bounce *p;
  void *buf[16];
  unsigned n = 0;

  budget_init (&b, 10000000);
  assert_int_equal (bounce_create (&b, 4096, 16, 0, &p), 0);
  while ((buf[n] = bounce_take (p, true, n)) != NULL)
    n++;
  assert_int_equal (n, 14);
  /* Of the two that are left one is for a third. */
  buf[n++] = bounce_take (p, true, 0);
  assert_non_null (buf[14]);
  assert_null (bounce_take (p, true, 1));
  buf[n++] = bounce_take (p, true, 0);
  assert_non_null (buf[15]);
  assert_null (bounce_take (p, true, 0));
  for (unsigned i = 0; i < 16; i++)
    bounce_give (p, buf[i]);
  bounce_free (p);
}

TEST (a_pool_gives_everything_back_whichever_call_fails)
{
  struct budget b;
  struct bounce *p;
  int err, n;

  fail_errno = ENOMEM;
  for (n = 0;; n++) {
    budget_init (&b, 10000000);
    calls = 0;
    fail_at = n;
    err = bounce_create (&b, 4096, 4, 0, &p);
    fail_at = -1;
    if (err == 0)
      break;
    assert_int_equal (err, ENOMEM);
    assert_int_equal (b.used, 0);
  }
  assert_int_equal (n, 3);
  bounce_free (p);

  budget_init (&b, 4 * 4096);
  assert_int_equal (bounce_create (&b, 4096, 4, 0, &p), ENOMEM);
  assert_int_equal (bounce_create (&b, 4095, 1, 0, &p), EINVAL);
  assert_int_equal (bounce_create (&b, 4096, 0, 0, &p), EINVAL);
  assert_int_equal (bounce_create (&b, 4096, 1, 2, &p), EINVAL);
  assert_int_equal (bounce_create (&b, SIZE_MAX - 4095, 4, 0, &p), EINVAL);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (the_first_frames_of_an_empty_file_are_the_lowest),
    cmocka_unit_test (one_frame_goes_where_it_fits),
    cmocka_unit_test (a_hole_that_is_too_small_is_left_alone),
    cmocka_unit_test (a_misaligned_hole_of_sixteen_serves_sixteen),
    cmocka_unit_test (when_all_but_one_are_used_two_are_not_to_be_had),
    cmocka_unit_test (runs_of_256_are_consecutive_in_a_fresh_and_in_a_recycled_file),
    cmocka_unit_test (who_asks_for_one_run_gets_one_or_nothing),
    cmocka_unit_test (recycled_frames_are_handed_out_before_fresh_ones),
    cmocka_unit_test (a_frame_reads_as_zeros_at_first_after_populate_and_after_a_punch),
    cmocka_unit_test (neighbouring_frames_are_neighbours_in_memory),
    cmocka_unit_test (a_frame_that_becomes_free_has_no_owner),
    cmocka_unit_test (references_and_uses_are_counted_apart),
    cmocka_unit_test (the_budget_is_the_bound_to_the_frame),
    cmocka_unit_test (a_free_frame_stays_charged_until_it_is_punched),
    cmocka_unit_test (populate_pays_and_stops_at_the_budget),
    cmocka_unit_test (create_gives_everything_back_whichever_call_fails),
    cmocka_unit_test (create_refuses_a_budget_that_does_not_hold_its_table),
    cmocka_unit_test (another_page_size_is_refused),
    cmocka_unit_test (a_punch_that_fails_leaves_the_frames_free_and_charged),
    cmocka_unit_test (a_populate_that_fails_pays_nothing),
    cmocka_unit_test (a_kernel_without_populate_is_asked_once_and_then_otherwise),
    cmocka_unit_test (frames_on_their_way_to_the_system_are_not_handed_out),
    cmocka_unit_test (random_operations_agree_with_an_array),
    cmocka_unit_test (threads_share_the_frames_and_the_budget),
    cmocka_unit_test (of_two_that_drop_the_last_references_one_frees),
    cmocka_unit_test (the_checks_themselves_abort),
    cmocka_unit_test (the_last_buffers_of_the_pool_are_for_the_flush_path),
    cmocka_unit_test (one_inode_leaves_buffers_for_the_next),
    cmocka_unit_test (a_pool_gives_everything_back_whichever_call_fails),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
