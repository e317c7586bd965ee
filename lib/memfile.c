/* SPDX-License-Identifier: BSD-3-Clause
 *
 * memfile - frames in one memfd, and the bounce pool.
 *
 * A frame is in one of four states:
 *
 *   used     refs > 0; charged
 *   ready    free, with memory behind it (recycled or populated); charged
 *   bare     free, no memory behind it, reads as zeros; not charged
 *   moving   taken out of ready or bare by shrink or populate, which is in the
 *            system with no lock held; charged
 *
 * ready and bare are runsets.  A segment set of used frames, whose gaps are the free
 * ones, answers the same question, and was measured (bench-frames): as fast for whole
 * runs of 64 and more, twice as slow for 16, and 20 times where single frames at random
 * are free, which is what eviction leaves; and it takes nodes when memory is short.
 *
 * Locks    one, RANK_MEMFILE, for both sets and the counters; taken once for a batch.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lock.h"
#include "memfile.h"
#include "runset.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* One call to the system while populating or punching: 2 MiB, about 1 ms of page
 * faults, so that whoever waits for the calling thread waits for no more than that.
 */
#define STEP_FRAMES 512

struct memfile {
  /* Fixed at creation. */
  struct budget *budget;
  uint32_t max;
  int fd;
  uint8_t *base;
  _Atomic uint64_t *owner;      /* of each frame, */
  struct frame *table;          /* and behind the owners, its counts */

  struct lock lock;

  /* Written under lock; read without it by available() and in_use(). */
  _Atomic uint32_t nr_used, nr_ready, nr_bare;

  /* Guarded by lock. */
  struct runset ready, bare;
  uint32_t nr_moving;

  atomic_bool populate_unknown; /* the kernel has no MADV_POPULATE_WRITE (MFL-5) */
};

static size_t
table_len (uint32_t max_frames)
{
  return (max_frames * (sizeof (uint64_t) + sizeof (struct frame)) + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
}

uint64_t
memfile_table_bytes (uint32_t max_frames)
{
  return sizeof (struct memfile) + table_len (max_frames) + 2 * runset_footprint (max_frames);
}

static int
map_frames (struct memfile *m)
{
  uint64_t len = (uint64_t) m->max << PAGE_SHIFT;
  int err;

  m->fd = memfd_create ("pagecache", MFD_CLOEXEC);
  if (m->fd == -1)
    return errno;
  if (ftruncate (m->fd, (off_t) len) == -1) {
    err = errno;
    goto close_fd;
  }
  m->base = mmap (NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, 0);
  if (m->base == MAP_FAILED) {
    err = errno;
    goto close_fd;
  }
  /* An export's bytes belong in no core file (D30).  A fork keeps the advice. */
  if (madvise (m->base, len, MADV_DONTDUMP) == -1) {
    err = errno;
    goto unmap;
  }
  return 0;

 unmap:
  munmap (m->base, len);
 close_fd:
  close (m->fd);
  return err;
}

int
memfile_create (struct budget *budget, uint32_t max_frames, struct memfile **ret)
{
  struct memfile *m;
  int err;

  /* Frames are the host's pages; with larger ones nothing here was tested (D29). */
  if (sysconf (_SC_PAGESIZE) != (long) PAGE_SIZE)
    return EINVAL;
  if (max_frames == 0 || max_frames == FRAME_NONE)
    return EINVAL;

  err = budget_take (budget, BUDGET_FIXED, memfile_table_bytes (max_frames));
  if (err != 0)
    return err;
  m = calloc (1, sizeof *m);
  if (m == NULL) {
    err = ENOMEM;
    goto give_budget;
  }
  m->budget = budget;
  m->max = max_frames;

  if ((err = runset_init (&m->ready, max_frames)) != 0)
    goto free_m;
  if ((err = runset_init (&m->bare, max_frames)) != 0)
    goto release_ready;
  m->owner = mmap (NULL, table_len (max_frames), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if ((void *) m->owner == MAP_FAILED) {
    err = errno;
    goto release_bare;
  }
  m->table = (struct frame *) (m->owner + max_frames);
  if ((err = map_frames (m)) != 0)
    goto unmap_table;

  /* From the top, so that the lists give low numbers first. */
  for (uint32_t end = max_frames; end > 0;) {
    uint32_t start = (end - 1) / RUNSET_GROUP * RUNSET_GROUP;

    runset_add (&m->bare, start, end - start);
    end = start;
  }
  atomic_init (&m->nr_bare, max_frames);
  lock_init (&m->lock, RANK_MEMFILE);
  *ret = m;
  return 0;

 unmap_table:
  munmap ((void *) m->owner, table_len (max_frames));
 release_bare:
  runset_release (&m->bare);
 release_ready:
  runset_release (&m->ready);
 free_m:
  free (m);
 give_budget:
  budget_give (budget, BUDGET_FIXED, memfile_table_bytes (max_frames));
  return err;
}

void
memfile_free (struct memfile *m)
{
  if (m == NULL)
    return;
  assert (m->nr_used == 0);
  assert (m->nr_moving == 0);

  munmap (m->base, (uint64_t) m->max << PAGE_SHIFT);
  close (m->fd);
  munmap ((void *) m->owner, table_len (m->max));
  budget_give (m->budget, BUDGET_FRAMES, (uint64_t) m->ready.count << PAGE_SHIFT);
  budget_give (m->budget, BUDGET_FIXED, memfile_table_bytes (m->max));
  runset_release (&m->bare);
  runset_release (&m->ready);
  lock_release (&m->lock);
  free (m);
}

uint8_t *
memfile_addr (struct memfile *m, uint32_t frame)
{
  assert (frame < m->max);
  return m->base + ((uint64_t) frame << PAGE_SHIFT);
}

struct frame *
memfile_frame (struct memfile *m, uint32_t frame)
{
  assert (frame < m->max);
  return &m->table[frame];
}

int
memfile_fd (struct memfile *m)
{
  return m->fd;
}

uint32_t
memfile_max (struct memfile *m)
{
  return m->max;
}

/* Publish the sets' sizes for those who look without the lock. */
static void
publish_locked (struct memfile *m, uint32_t used)
{
  lock_assert_held (&m->lock);
  atomic_store_explicit (&m->nr_used, used, memory_order_relaxed);
  atomic_store_explicit (&m->nr_ready, m->ready.count, memory_order_relaxed);
  atomic_store_explicit (&m->nr_bare, m->bare.count, memory_order_relaxed);
}

static uint32_t
used_locked (struct memfile *m)
{
  return atomic_load_explicit (&m->nr_used, memory_order_relaxed);
}

/* A run of frames without memory, paid for. */
static uint32_t
take_bare_locked (struct memfile *m, uint32_t want, uint32_t min, uint32_t *start)
{
  uint64_t affordable = budget_free_bytes (m->budget) >> PAGE_SHIFT;
  uint32_t len;

  if (want > affordable)
    want = affordable;
  if (want == 0 || want < min)
    return 0;
  len = runset_take (&m->bare, want, min, start);
  if (len > 0
      && budget_take (m->budget, BUDGET_FRAMES, (uint64_t) len << PAGE_SHIFT) != 0) {
    /* Somebody else was quicker; segments are paid from the same budget. */
    runset_add (&m->bare, *start, len);
    return 0;
  }
  return len;
}

static uint32_t
take_run_locked (struct memfile *m, uint32_t want, uint32_t *start)
{
  uint32_t whole = want < RUNSET_GROUP ? want : RUNSET_GROUP;
  uint32_t len;

  if ((len = runset_take (&m->ready, want, whole, start)) != 0
      || (len = take_bare_locked (m, want, whole, start)) != 0
      || (len = runset_take (&m->ready, want, 1, start)) != 0
      || (len = take_bare_locked (m, want, 1, start)) != 0)
    return len;
  return 0;
}

static void
hand_out_locked (struct memfile *m, uint32_t start, uint32_t len, uint32_t *out)
{
  for (uint32_t i = 0; i < len; i++) {
    assert (frame_counts (&m->table[start + i]) == 0);
    atomic_store_explicit (&m->table[start + i].counts, FRAME_REF, memory_order_relaxed);
    out[i] = start + i;
  }
}

size_t
memfile_alloc_run (struct memfile *m, size_t n, uint32_t *out)
{
  uint32_t start, len;

  if (n == 0 || n > m->max)
    return 0;
  lock_take (&m->lock);
  len = runset_take (&m->ready, n, n, &start);
  if (len == 0)
    len = take_bare_locked (m, n, n, &start);
  if (len > 0) {
    hand_out_locked (m, start, len, out);
    publish_locked (m, used_locked (m) + len);
  }
  lock_drop (&m->lock);
  return len;
}

size_t
memfile_alloc (struct memfile *m, size_t n, uint32_t *out)
{
  size_t got = 0;

  lock_take (&m->lock);
  while (got < n) {
    uint32_t want = n - got < m->max ? n - got : m->max;
    uint32_t start, len;

    len = take_run_locked (m, want, &start);
    if (len == 0)
      break;
    hand_out_locked (m, start, len, out + got);
    got += len;
  }
  publish_locked (m, used_locked (m) + got);
  lock_drop (&m->lock);
  return got;
}

void
memfile_set_owner (struct memfile *m, uint32_t frame, uint64_t owner)
{
  assert (frame < m->max);
  atomic_store_explicit (&m->owner[frame], owner, memory_order_relaxed);
}

uint64_t
memfile_owner (struct memfile *m, uint32_t frame)
{
  assert (frame < m->max);
  return atomic_load_explicit (&m->owner[frame], memory_order_relaxed);
}

void
memfile_get (struct memfile *m, uint32_t frame)
{
  uint32_t old = atomic_fetch_add_explicit (&memfile_frame (m, frame)->counts, FRAME_REF,
                                            memory_order_relaxed) & FRAME_MAX_REFS;

  assert (old > 0 && old < FRAME_MAX_REFS);
  (void) old;
}

uint32_t
memfile_use (struct memfile *m, uint32_t frame, uint32_t use)
{
  uint32_t old = atomic_fetch_add (&memfile_frame (m, frame)->counts, use + FRAME_REF);

  assert ((old & FRAME_MAX_REFS) > 0 && (old & FRAME_MAX_REFS) < FRAME_MAX_REFS);
  if (use == FRAME_SENDER)
    assert (old / FRAME_SENDER < FRAME_MAX_SENDERS && (old / FRAME_MAP & FRAME_MAX_MAPS) == 0);
  else
    assert (old / FRAME_SENDER == 0 && (old / FRAME_MAP & FRAME_MAX_MAPS) < FRAME_MAX_MAPS);
  return old;
}

uint32_t
memfile_unuse (struct memfile *m, uint32_t frame, uint32_t use)
{
  uint32_t old = atomic_fetch_sub (&memfile_frame (m, frame)->counts, use);

  if (use == FRAME_SENDER)
    assert (old / FRAME_SENDER > 0);
  else
    assert ((old / FRAME_MAP & FRAME_MAX_MAPS) > 0
            && (use == FRAME_MAP || (old / FRAME_MAP_WRITE & FRAME_MAX_MAPS) > 0));
  return old;
}

/* One reference less; true if it was the last: the frame is then the caller's to free. */
static bool
drop_ref (struct memfile *m, uint32_t frame)
{
  struct frame *f = memfile_frame (m, frame);
  uint32_t old;

  assert (frame_refs (f) > 0);
  old = atomic_fetch_sub_explicit (&f->counts, FRAME_REF, memory_order_acq_rel);
  if ((old & FRAME_MAX_REFS) != FRAME_REF)
    return false;
  assert (old == FRAME_REF);    /* no use is left */
  /* Nobody else knows the frame until it is in a set again. */
  memfile_set_owner (m, frame, 0);
  return true;
}

bool
memfile_put (struct memfile *m, uint32_t frame)
{
  if (!drop_ref (m, frame))
    return false;
  lock_take (&m->lock);
  runset_add (&m->ready, frame, 1);
  publish_locked (m, used_locked (m) - 1);
  lock_drop (&m->lock);
  return true;
}

void
memfile_put_many (struct memfile *m, const uint32_t *frames, size_t n)
{
  uint32_t start = 0, len = 0, freed = 0;
  bool locked = false;

  for (size_t i = 0; i < n; i++) {
    if (!drop_ref (m, frames[i]))
      continue;
    if (!locked) {
      lock_take (&m->lock);
      locked = true;
    }
    freed++;
    if (len > 0 && frames[i] == start + len) {
      len++;
      continue;
    }
    if (len > 0)
      runset_add (&m->ready, start, len);
    start = frames[i];
    len = 1;
  }
  if (locked) {
    runset_add (&m->ready, start, len);
    publish_locked (m, used_locked (m) - freed);
    lock_drop (&m->lock);
  }
}

uint32_t
memfile_available (struct memfile *m)
{
  uint64_t affordable = budget_free_bytes (m->budget) >> PAGE_SHIFT;
  uint32_t bare = atomic_load_explicit (&m->nr_bare, memory_order_relaxed);

  return atomic_load_explicit (&m->nr_ready, memory_order_relaxed)
         + (bare < affordable ? bare : (uint32_t) affordable);
}

uint32_t
memfile_ready (struct memfile *m)
{
  return atomic_load_explicit (&m->nr_ready, memory_order_relaxed);
}

uint32_t
memfile_in_use (struct memfile *m)
{
  return atomic_load_explicit (&m->nr_used, memory_order_relaxed);
}

static bool
punch (struct memfile *m, uint32_t start, uint32_t len)
{
  return fallocate (m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    (off_t) start << PAGE_SHIFT, (off_t) len << PAGE_SHIFT) == 0;
}

uint32_t
memfile_shrink (struct memfile *m, uint32_t n)
{
  uint32_t done = 0;

  lock_assert_none_held ();
  while (done < n) {
    uint32_t want = n - done < STEP_FRAMES ? n - done : STEP_FRAMES;
    uint32_t start, len;
    bool ok;

    lock_take (&m->lock);
    len = runset_take (&m->ready, want, 1, &start);
    m->nr_moving += len;
    publish_locked (m, used_locked (m));
    lock_drop (&m->lock);
    if (len == 0)
      break;

    ok = punch (m, start, len);

    lock_take (&m->lock);
    m->nr_moving -= len;
    /* What could not be punched keeps its memory, its charge and its old bytes (MFL-3
     * zeroes by hand instead; a ready frame promises no zeros, so we need not).
     */
    runset_add (ok ? &m->bare : &m->ready, start, len);
    if (ok)
      budget_give (m->budget, BUDGET_FRAMES, (uint64_t) len << PAGE_SHIFT);
    publish_locked (m, used_locked (m));
    lock_drop (&m->lock);
    if (!ok)
      break;
    done += len;
  }
  return done;
}

/* Back [start, start + len) with memory.  True if all of it is. */
static bool
populate (struct memfile *m, uint32_t start, uint32_t len)
{
  uint64_t off = (uint64_t) start << PAGE_SHIFT;
  uint64_t bytes = (uint64_t) len << PAGE_SHIFT;

  if (!m->populate_unknown) {
    if (madvise (m->base + off, bytes, MADV_POPULATE_WRITE) == 0)
      return true;
    if (errno != EINVAL)
      return false;
    m->populate_unknown = true;
  }
  /* Memory, but no page table entries: less than half of the gain. */
  return fallocate (m->fd, 0, (off_t) off, (off_t) bytes) == 0;
}

uint32_t
memfile_populate (struct memfile *m, uint32_t n)
{
  uint32_t done = 0;

  lock_assert_none_held ();
  while (done < n) {
    uint32_t want = n - done < STEP_FRAMES ? n - done : STEP_FRAMES;
    uint32_t start, len;
    bool ok;

    lock_take (&m->lock);
    len = take_bare_locked (m, want, 1, &start);
    m->nr_moving += len;
    publish_locked (m, used_locked (m));
    lock_drop (&m->lock);
    if (len == 0)
      break;

    ok = populate (m, start, len);
    if (!ok)
      punch (m, start, len);    /* a part may have memory that nobody pays for */

    lock_take (&m->lock);
    m->nr_moving -= len;
    runset_add (ok ? &m->ready : &m->bare, start, len);
    if (!ok)
      budget_give (m->budget, BUDGET_FRAMES, (uint64_t) len << PAGE_SHIFT);
    publish_locked (m, used_locked (m));
    lock_drop (&m->lock);
    if (!ok)
      break;
    done += len;
  }
  return done;
}

bool
memfile_never_used (struct memfile *m)
{
  bool any;

  lock_take (&m->lock);
  any = m->bare.count > 0 || m->nr_moving > 0;
  lock_drop (&m->lock);
  return any;
}

static void
check_failed (const struct memfile *m, const char *what, uint32_t frame)
{
  fprintf (stderr, "pagecache: memfile: wrong: %s (frame %u; used %u, ready %u, bare %u,"
           " moving %u of %u)\n", what, frame, m->nr_used, m->ready.count, m->bare.count,
           m->nr_moving, m->max);
  abort ();
}

void
memfile_check (struct memfile *m)
{
  uint64_t charged;

  lock_take (&m->lock);
  runset_check (&m->ready);
  runset_check (&m->bare);
  for (uint32_t f = 0; f < m->max; f++) {
    bool ready = runset_has (&m->ready, f), bare = runset_has (&m->bare, f);

    if (ready && bare)
      check_failed (m, "free twice", f);
    if ((ready || bare) && frame_counts (&m->table[f]) != 0)
      check_failed (m, "free with references", f);
    if ((ready || bare) && memfile_owner (m, f) != 0)
      check_failed (m, "free with an owner", f);
  }
  if ((uint64_t) m->nr_used + m->ready.count + m->bare.count + m->nr_moving != m->max)
    check_failed (m, "the sum of states", FRAME_NONE);
  if (m->nr_ready != m->ready.count || m->nr_bare != m->bare.count)
    check_failed (m, "the published counts", FRAME_NONE);
  charged = atomic_load (&m->budget->by_class[BUDGET_FRAMES]);
  if (charged < (uint64_t) (m->max - m->bare.count) << PAGE_SHIFT)
    check_failed (m, "the charge", FRAME_NONE);
  lock_drop (&m->lock);
}

/* ---- The bounce pool. ---- */

struct bounce {
  struct budget *budget;
  size_t size;
  unsigned count, reserved;
  uint8_t *base;
  struct lock lock;

  /* Guarded by lock: a stack, so that the buffer used last is used next. */
  unsigned nr_free;
  unsigned free_list[];
};

static uint64_t
bounce_bytes (size_t size, unsigned count)
{
  return sizeof (struct bounce) + count * (sizeof (unsigned) + (uint64_t) size);
}

int
bounce_create (struct budget *budget, size_t size, unsigned count, unsigned reserved,
               struct bounce **ret)
{
  struct bounce *b;
  int err;

  if (size == 0 || size % PAGE_SIZE != 0 || count == 0 || reserved > count
      || size > SIZE_MAX / 2 / count)
    return EINVAL;
  err = budget_take (budget, BUDGET_FIXED, bounce_bytes (size, count));
  if (err != 0)
    return err;
  b = calloc (1, sizeof *b + count * sizeof *b->free_list);
  if (b == NULL) {
    err = ENOMEM;
    goto give_budget;
  }
  b->base = mmap (NULL, size * count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1, 0);
  if (b->base == MAP_FAILED) {
    err = errno;
    goto free_b;
  }
  if (madvise (b->base, size * count, MADV_DONTDUMP) == -1) {
    err = errno;
    goto unmap;
  }
  b->budget = budget;
  b->size = size;
  b->count = count;
  b->reserved = reserved;
  lock_init (&b->lock, RANK_MEMFILE);
  for (unsigned i = 0; i < count; i++)
    b->free_list[b->nr_free++] = count - 1 - i;
  *ret = b;
  return 0;

 unmap:
  munmap (b->base, size * count);
 free_b:
  free (b);
 give_budget:
  budget_give (budget, BUDGET_FIXED, bounce_bytes (size, count));
  return err;
}

void
bounce_free (struct bounce *b)
{
  if (b == NULL)
    return;
  assert (b->nr_free == b->count);
  munmap (b->base, b->size * b->count);
  budget_give (b->budget, BUDGET_FIXED, bounce_bytes (b->size, b->count));
  lock_release (&b->lock);
  free (b);
}

void *
bounce_take (struct bounce *b, bool flush, unsigned own)
{
  unsigned left;
  void *buf = NULL;

  lock_take (&b->lock);
  left = b->nr_free + own;
  if (b->nr_free > (flush ? 0 : b->reserved) && (own == 0 || own < left - (left + 7) / 8))
    buf = b->base + (size_t) b->free_list[--b->nr_free] * b->size;
  lock_drop (&b->lock);
  return buf;
}

void
bounce_give (struct bounce *b, void *buf)
{
  size_t off = (uint8_t *) buf - b->base;

  assert (off % b->size == 0 && off / b->size < b->count);
  lock_take (&b->lock);
  assert (b->nr_free < b->count);
  b->free_list[b->nr_free++] = off / b->size;
  lock_drop (&b->lock);
}

size_t
bounce_size (struct bounce *b)
{
  return b->size;
}
