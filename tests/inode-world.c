/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-world - see inode-world.h.
 */
#include <config.h>

#include "test.h"

#include <stdlib.h>

#include "inode-world.h"
#include "reclaim.h"

struct origin_info
world_info (uint64_t size)
{
  return (struct origin_info) {
    .size = size, .can_flush = true, .can_fua = true, .can_trim = true, .can_zero = true, .can_fast_zero = true,
    .can_multi_conn = true, .can_extents = true, .block_min = 1, .block_pref = 4096, .block_max = 32 << 20,
  };
}

static struct inode *
get_ino (void *arg, uint32_t id)
{
  struct world *w = arg;

  return id >= 1 && id <= w->ndisks ? w->disk[id - 1].ino : NULL;
}

static void
put_ino (void *arg, struct inode *ino)
{
  (void) arg;
  (void) ino;
}

bool
world_reclaim (struct world *w, unsigned want)
{
  struct reclaim_hooks h = { get_ino, put_ino, w };
  unsigned dirty = 0;

  return w->ndisks && reclaim_frames (&w->env, &h, want, &dirty) > 0;
}

static bool
hook_reclaim (void *arg, unsigned want)
{
  lock_assert_none_held ();
  return world_reclaim (arg, want);
}

static void
hook_starved (void *arg)
{
  ((struct world *) arg)->starved = true;
}

static void
hook_dirtied (void *arg, struct inode *ino)
{
  ((struct world *) arg)->disk[inode_id (ino) - 1].dirtied = true;
}

void
world_init (struct world *w, const struct world_options *o)
{
  uint64_t bytes = (uint64_t) o->nframes * 4096;

  *w = (struct world) { .clock = CLOCK_FAKE_INIT };
  budget_init (&w->budget, o->spare ? bytes + memfile_table_bytes (o->nframes) + 3 * 65536 + 65536 + o->spare
                           : bytes + ((uint64_t) 16 << 20));
  assert_int_equal (memfile_create (&w->budget, o->nframes, &w->mf), 0);
  assert_int_equal (bounce_create (&w->budget, 65536, 3, 1, &w->bounce), 0);
  w->evict_mem = malloc (evict_size (o->nframes) + 64);
  evict_init (&w->evict, (void *) (((uintptr_t) w->evict_mem + 63) & ~(uintptr_t) 63), o->nframes);
  w->env = (struct inode_env) {
    .clock = &w->clock.base, .budget = &w->budget, .mf = w->mf, .bounce = w->bounce, .evict = &w->evict,
    .mode = o->mode, .readahead_max = o->readahead,
    .dirty_max = o->dirty_max ? o->dirty_max : bytes / 2,
    .dirty_background = o->dirty_background ? o->dirty_background : bytes / 10,
    .dirty_expire_ns = NSEC_PER_SEC, .nwb = o->nwb ? o->nwb : 16,
    .reclaim = hook_reclaim, .starved = hook_starved, .dirtied = hook_dirtied, .hook_arg = w,
  };
  assert_int_equal (inode_env_init (&w->env), 0);
}

struct world_disk *
world_add (struct world *w, const struct origin_info *info)
{
  struct world_disk *d = &w->disk[w->ndisks];

  assert_true (w->ndisks < WORLD_DISKS);
  assert_int_equal (origin_mem_create (info, &d->origin), 0);
  assert_int_equal (inode_create (&w->env, d->origin, w->ndisks + 1, "world", &d->ino), 0);
  w->ndisks++;
  return d;
}

void
world_turn (struct world *w, struct world_disk *only, bool drain)
{
  bool starved = w->starved || atomic_load (&w->env.nmem_waiters) > 0;
  unsigned i;

  w->starved = false;
  for (i = 0; i < w->ndisks; i++) {
    struct world_disk *d = &w->disk[i];

    if (only ? d != only : !d->dirtied && !starved && !drain)
      continue;
    d->dirtied = false;
    if (writeback_turn (d->ino, &d->ws, starved, drain) != 0)
      d->dirtied = true;
  }
}

void
world_release (struct world *w)
{
  unsigned i, n = w->ndisks;

  w->ndisks = 0;
  for (i = 0; i < n; i++) {
    inode_free (w->disk[i].ino);
    origin_close (w->disk[i].origin);
  }
  inode_env_release (&w->env);
  memfile_check (w->mf);
  assert_int_equal (memfile_in_use (w->mf), 0);
  free (w->evict_mem);
  memfile_free (w->mf);
  bounce_free (w->bounce);
  budget_check (&w->budget);
  assert_int_equal (budget_free_bytes (&w->budget), w->budget.limit);
}

/*----------------------------------------------------------------------*/

extern void *__real_aligned_alloc (size_t, size_t);
extern void *__wrap_aligned_alloc (size_t, size_t);

static uint64_t *fail_rng;
static unsigned fail_one_in;
static long fail_nth = -1;
static unsigned long allocs;

void
world_fail_alloc (unsigned n, uint64_t *rng)
{
  fail_one_in = n;
  fail_rng = rng;
}

void
world_refuse (bool on)
{
  static uint64_t any;

  world_fail_alloc (on ? 1 : 0, &any);
}

void
world_fail_alloc_nth (long nth)
{
  fail_nth = nth;
  allocs = 0;
}

unsigned long
world_allocs (void)
{
  return allocs;
}

void *
__wrap_aligned_alloc (size_t align, size_t size)
{
  unsigned long number = allocs++;

  if (fail_nth >= 0 && number == (unsigned long) fail_nth)
    return NULL;
  if (fail_one_in) {
    /* The run's own dice, so that a seed stays a run. */
    *fail_rng = *fail_rng * UINT64_C (6364136223846793005) + 1442695040888963407;
    if ((*fail_rng >> 33) % fail_one_in == 0)
      return NULL;
  }
  return __real_aligned_alloc (align, size);
}
