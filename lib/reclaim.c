/* SPDX-License-Identifier: BSD-3-Clause
 *
 * reclaim - batches of victims, sorted so that neighbours leave together.
 */
#include <config.h>

#include <stdlib.h>

#include "reclaim.h"

#define BATCH 64
#define TRIES 16

struct victim {
  uint64_t owner;
  uint32_t frame;
};

static int
by_owner (const void *a, const void *b)
{
  const struct victim *x = a, *y = b;

  return x->owner < y->owner ? -1 : x->owner > y->owner;
}

/* Larger batches cost fewer locks; but in a small cache 64 pages are much, and what leaves early is missed. */
static unsigned
batch_size (struct inode_env *env, unsigned want)
{
  unsigned n = memfile_max (env->mf) / 64;

  if (n < want)
    n = want;
  return n < 8 ? 8 : n > BATCH ? BATCH : n;
}

/* One batch.  *picked: how many were looked at. */
static unsigned
reclaim_batch (struct inode_env *env, const struct reclaim_hooks *hooks, unsigned want, unsigned flags,
               unsigned *dirty, unsigned *picked)
{
  uint32_t frames[2 * BATCH];
  uint64_t pgnos[2 * BATCH];
  struct victim v[2 * BATCH];
  unsigned i, k, n, gone = 0;
  bool sorted = true;

  lock_take (&env->evict_lock);
  n = evict_pick (env->evict, frames, batch_size (env, want), EVICT_RUNS | flags);
  lock_drop (&env->evict_lock);
  *picked = n;
  for (i = 0; i < n; i++) {
    v[i] = (struct victim) { memfile_owner (env->mf, frames[i]), frames[i] };
    sorted = sorted && (i == 0 || v[i - 1].owner <= v[i].owner);
  }
  if (!sorted)
    qsort (v, n, sizeof *v, by_owner);

  for (i = 0; i < n; i = k) {
    uint32_t id = frame_owner_id (v[i].owner);
    struct inode *ino = hooks->get (hooks->arg, id);

    for (k = i; k < n && frame_owner_id (v[k].owner) == id; k++) {
      frames[k] = v[k].frame;
      pgnos[k] = frame_owner_pgno (v[k].owner);
    }
    /* No such inode any more: it forgot its frames when it went. */
    if (ino) {
      gone += inode_evict_run (ino, frames + i, pgnos + i, k - i, dirty);
      hooks->put (hooks->arg, ino);
    }
  }
  return gone;
}

unsigned
reclaim_frames (struct inode_env *env, const struct reclaim_hooks *hooks, unsigned want, unsigned *dirty)
{
  unsigned tries, gone = 0, picked = 1;

  /* A batch may be dirty or busy throughout while others are clean.  Bounded: where nearly all is dirty the
   * caller had better wait for write-back.  What is written stands in the queue of new pages, which may be dirty from end
   * to end while the other holds clean ones, so the two take turns.
   */
  for (tries = 0; tries < TRIES && gone == 0 && picked > 0; tries++)
    gone = reclaim_batch (env, hooks, want, tries % 2 ? EVICT_OTHER : 0, dirty, &picked);
  return gone;
}
