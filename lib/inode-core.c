/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-core - birth and end of an inode, what its operations share, and who drives them.
 *
 * The paths are in inode-read.c, inode-write.c, inode-zero.c, inode-sync.c; how pages come in
 * inode-fill.c, how they go out in inode-wb.c, what is owed in inode-ledger.c.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "inode-priv.h"

/*----------------------------------------------------------------------*/
/* Memory. */

/* Tree nodes and fills are charged before they are allocated (D13).  Never waits and never evicts: it is called
 * under a stripe's lock too, and eviction takes those.
 */
void *
meta_alloc (void *opaque, size_t size)
{
  struct inode_env *env = opaque;
  void *p;

  if (budget_take (env->budget, BUDGET_META, size) != 0)
    return NULL;
  p = aligned_alloc (64, (size + 63) & ~(size_t) 63);
  if (!p)
    budget_give (env->budget, BUDGET_META, size);
  return p;
}

/* The budget is spent: frames make room, their memory goes back to the system.  With no lock held.  False: no clean
 * frame is to be had.
 */
bool
meta_make_room (struct inode_env *env, size_t size)
{
  uint32_t frames = (uint32_t) (size / PAGE_SIZE) + 1;

  lock_assert_none_held ();
  if (memfile_shrink (env->mf, frames) >= frames)
    return true;
  return env->reclaim (env->hook_arg, frames < 16 ? 16 : frames);
}

/* meta_alloc, trying hard; with no lock held. */
void *
meta_alloc_hard (struct inode_env *env, size_t size)
{
  unsigned tries;
  void *p;

  for (tries = 0; (p = meta_alloc (env, size)) == NULL && tries < 64; tries++)
    if (!meta_make_room (env, size))
      break;
  return p;
}

void
meta_free (void *opaque, void *p, size_t size)
{
  struct inode_env *env = opaque;

  free (p);
  budget_give (env->budget, BUDGET_META, size);
}

/* A node for a set.  Those that are between two uses wait in one list for all inodes: a bound for one insertion is
 * several nodes, most of which come back at once, and kept by each stripe they were more than all nodes in use of an export
 * of which a few thousand pages are here.  Under any lock below RANK_MEMFILE.
 */
void *
node_alloc (void *opaque, size_t size)
{
  struct inode_env *env = opaque;
  struct segnodes_batch one = SEGNODES_BATCH_INIT;

  assert (size == SEGNODE_SIZE);
  lock_take (&env->node_lock);
  if (env->spare_nodes.nspare > 0)
    segnodes_take (&env->spare_nodes, env->spare_nodes.nspare - 1, &one);
  lock_drop (&env->node_lock);
  return one.first ? one.first : meta_alloc (env, size);
}

void
node_free (void *opaque, void *node, size_t size)
{
  struct segnodes_batch one = { node, 1 };
  struct inode_env *env = opaque;
  bool keep;

  one.first->next = NULL;
  lock_take (&env->node_lock);
  keep = env->spare_nodes.nspare < env->most_spare_nodes;
  if (keep)
    segnodes_give (&env->spare_nodes, &one);
  lock_drop (&env->node_lock);
  if (!keep)
    meta_free (env, node, size);
}

/* Are so many there?  Then they go to a set's list, which asks the system for nothing. */
static bool
nodes_spare (struct inode_env *env, struct segnodes *nodes, uint32_t missing)
{
  struct segnodes_batch batch = SEGNODES_BATCH_INIT;
  bool there;

  lock_take (&env->node_lock);
  there = env->spare_nodes.nspare >= missing;
  if (there)
    segnodes_take (&env->spare_nodes, env->spare_nodes.nspare - missing, &batch);
  lock_drop (&env->node_lock);
  segnodes_give (nodes, &batch);
  return there;
}

/* With no lock held. */
int
nodes_fetch (struct inode_env *env, struct segnodes *nodes, uint32_t missing, struct segnodes_batch *batch)
{
  unsigned tries;
  int err;

  *batch = SEGNODES_BATCH_INIT;
  for (tries = 0; (err = segnodes_batch_alloc (nodes, missing, batch)) == ENOMEM && tries < 64; tries++)
    if (!meta_make_room (env, (size_t) missing * SEGNODE_SIZE))
      break;
  return err;
}

int
stripe_nodes (struct inode *ino, struct stripe *st, uint32_t map_inserts, uint32_t dirty_inserts)
{
  struct segnodes_batch batch;
  uint32_t want = 0, missing;
  int err;

  if (map_inserts)
    want += rangeset_need (&st->map, map_inserts);
  if (dirty_inserts)
    want += dirtyset_need (&st->dirty, dirty_inserts);
  missing = segnodes_missing (&st->nodes, want);
  if (missing == 0 || nodes_spare (ino->env, &st->nodes, missing))
    return 0;
  rwlock_drop (&st->lock);
  err = nodes_fetch (ino->env, &st->nodes, missing, &batch);
  rwlock_take (&st->lock);
  if (err)
    return err;
  segnodes_give (&st->nodes, &batch);
  return EAGAIN;
}

/* What an operation did not need of its spare nodes goes back.  The stripe is held exclusively. */
void
stripe_trim (struct stripe *st)
{
  if (st->nodes.nspare > 0)
    segnodes_trim (&st->nodes, 0);
}

/* The same for zeros; the caller holds st exclusively (st may be NULL) and not zlock. */
int
zeros_nodes (struct inode *ino, struct stripe *st, uint32_t inserts)
{
  struct segnodes_batch batch;
  uint32_t missing;
  int err;

  rwlock_take (&ino->zlock);
  missing = segnodes_missing (&ino->znodes, zeroset_need (&ino->zeros, inserts));
  if (missing && nodes_spare (ino->env, &ino->znodes, missing))
    missing = 0;
  rwlock_drop (&ino->zlock);
  if (missing == 0)
    return 0;
  if (st)
    rwlock_drop (&st->lock);
  err = nodes_fetch (ino->env, &ino->znodes, missing, &batch);
  if (st)
    rwlock_take (&st->lock);
  if (err)
    return err;
  rwlock_take (&ino->zlock);
  segnodes_give (&ino->znodes, &batch);
  rwlock_drop (&ino->zlock);
  return EAGAIN;
}

#define MAX_SPARE 4096          /* 16 MiB */

/* Free or reclaimed frames, as many of n as can be had without waiting.
 *
 * In one run, if that can be had by evicting a little ahead: what streams brought leaves in runs.  To take the pieces
 * that are free first breaks the next run as well, and so on: nbdcopy through a full cache then sent ten requests
 * where one would do.  Pieces lie free, up to a thirty-second of the cache, until their neighbours go too: with half of that
 * a fifth of nbdcopy's requests through 256 MiB still got pieces, which broke the next runs; with this one in fifty.
 */
static unsigned
find_frames (struct inode_env *env, unsigned n, uint32_t *out)
{
  uint32_t spare = memfile_max (env->mf) / 32;
  unsigned tries, got;

  if (spare > MAX_SPARE)
    spare = MAX_SPARE;
  got = memfile_alloc_run (env->mf, n, out);
  for (tries = 0; got == 0 && tries < 8 && memfile_available (env->mf) < n + spare; tries++) {
    if (!env->reclaim (env->hook_arg, n))
      break;
    got = memfile_alloc_run (env->mf, n, out);
  }
  if (got)
    return got;
  got = memfile_alloc (env->mf, n, out);
  for (tries = 0; got < n && tries < 4; tries++) {
    if (!env->reclaim (env->hook_arg, n - got))
      break;
    got += memfile_alloc (env->mf, n - got, out + got);
  }
  return got;
}

unsigned
env_alloc_frames (struct inode_env *env, unsigned n, uint32_t *out)
{
  unsigned got = find_frames (env, n, out);

  if (got && env->populate)
    populate_note (env->populate, got);
  return got;
}

void
env_free_frames (struct inode_env *env, const uint32_t *frames, unsigned n)
{
  if (n) {
    memfile_put_many (env->mf, frames, n);
    inode_env_wake_memory (env);
  }
}

void
inode_env_wake_memory (struct inode_env *env)
{
  struct list_node *n;

  /* A waiter counts itself and then looks whether something came free since it tried: one of us sees the other. */
  atomic_fetch_add (&env->mem_events, 1);
  if (atomic_load (&env->nmem_waiters) == 0)
    return;
  lock_take (&env->mem_lock);
  while ((n = list_pop_front (&env->mem_waiters)) != NULL) {
    struct inode_op *op = container_of (n, struct inode_op, node);

    op->on = NULL;
    atomic_fetch_sub (&env->nmem_waiters, 1);
    op->wake (op);
  }
  lock_drop (&env->mem_lock);
}

#define STARVED_NS (60 * NSEC_PER_SEC)

/* Is it worth waiting after err?  EAGAIN: no frame; ENOMEM: none for metadata, which frames make room for as
 * they are cleaned.  Not for ever: memory that the system itself refuses does not come back by write-back.  And not while
 * nothing can be cleaned (D15), unless
 * reads hold frames: those come back.
 *
 * Counted in time and since the op last came further, not in attempts: a busy cache wakes whoever waits thousands of
 * times a second.
 */
bool
op_may_wait (struct inode_op *op, int err)
{
  uint64_t now;

  if (err != EAGAIN && err != ENOMEM)
    return false;
  if (atomic_load (&op->ino->wb_err) || atomic_load (&op->ino->flush_err)) {
    struct inode_env *env = op->ino->env;

    return err == EAGAIN && (atomic_load (&env->nfills) > 0 || atomic_load (&env->mem_events) != op->mem_seen);
  }
  if (err == EAGAIN)
    return true;
  now = clock_now (op->ino->env->clock);
  if (op->starved_at_ns == 0 || op->starved_pos != op->pos) {
    op->starved_at_ns = now;    /* no clock says 0 */
    op->starved_pos = op->pos;
  }
  return now - op->starved_at_ns < STARVED_NS;
}

/* op found no frame, or no buffer.  It is woken when something came free since it last ran; it also looks again by itself
 * after a while, since what makes a frame evictable is not always seen (a mapping goes, a touch ages).  Not "while a
 * frame is free": one is not enough where whole blocks are needed, and it would run on the spot.
 */
void
op_park_memory (struct inode_op *op)
{
  struct inode_env *env = op->ino->env;

  lock_take (&env->mem_lock);
  if (!op->on) {
    op->parked = true;
    op->on = &env->mem_waiters;
    list_push_back (&env->mem_waiters, &op->node);
    atomic_fetch_add (&env->nmem_waiters, 1);
  }
  lock_drop (&env->mem_lock);

  env->starved (env->hook_arg);
  op->wake_at_ns = clock_now (env->clock) + 20 * NSEC_PER_MSEC;
  if (atomic_load (&env->mem_events) != op->mem_seen)
    op->wake (op);
}

static void
op_unpark_memory (struct inode_op *op)
{
  struct inode_env *env = op->ino->env;

  /* Not op->on: who took it off may not have called wake yet, and must have done so before the op ends. */
  if (!op->parked)
    return;
  op->parked = false;
  lock_take (&env->mem_lock);
  if (op->on == &env->mem_waiters) {
    list_remove (&op->node);
    op->on = NULL;
    atomic_fetch_sub (&env->nmem_waiters, 1);
  }
  lock_drop (&env->mem_lock);
}

int
inode_env_init (struct inode_env *env)
{
  size_t size = env->nwb * sizeof (struct wb);
  struct wb *wb;
  unsigned i;
  int err;

  lock_init (&env->evict_lock, RANK_EVICT);
  lock_init (&env->mem_lock, RANK_MEMFILE);
  lock_init (&env->wb_lock, RANK_MEMFILE);
  lock_init (&env->node_lock, RANK_MEMFILE);
  list_init (&env->mem_waiters);
  list_init (&env->wb_free);
  err = budget_take (env->budget, BUDGET_FIXED, size);
  if (err)
    return err;
  env->wb_mem = wb = calloc (env->nwb, sizeof *wb);
  if (!wb) {
    budget_give (env->budget, BUDGET_FIXED, size);
    return ENOMEM;
  }
  /* Never written, so it costs no memory: all of it is the kernel's zero page. */
  env->zeros = mmap (NULL, ZEROS_LEN, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (env->zeros == MAP_FAILED) {
    err = errno;
    free (wb);
    env->wb_mem = env->zeros = NULL;
    budget_give (env->budget, BUDGET_FIXED, size);
    return err;
  }
  for (i = 0; i < env->nwb; i++) {
    list_node_init (&wb[i].node);
    list_node_init (&wb[i].req.node);
    list_push_back (&env->wb_free, &wb[i].node);
  }
  env->wb_nfree = env->nwb;
  /* Up to 32 KiB, a five-hundredth of a small cache. */
  segnodes_init (&env->spare_nodes, SEGNODE_SIZE, meta_alloc, meta_free, env);
  env->most_spare_nodes = env->budget->limit >> 19 < 32 ? (uint32_t) (env->budget->limit >> 19) : 32;
  return 0;
}

void
inode_env_release (struct inode_env *env)
{
  assert (env->wb_nfree == env->nwb);
  assert (list_is_empty (&env->mem_waiters));
  munmap (env->zeros, ZEROS_LEN);
  free (env->wb_mem);
  budget_give (env->budget, BUDGET_FIXED, env->nwb * sizeof (struct wb));
  lock_release (&env->evict_lock);
  lock_release (&env->mem_lock);
  lock_release (&env->wb_lock);
  segnodes_release (&env->spare_nodes);
  lock_release (&env->node_lock);
}

/*----------------------------------------------------------------------*/
/* Birth and end. */

static void
origin_lost (void *arg, uint32_t carrier)
{
  ledger_lost (arg, carrier);
  inode_forget_holes (arg);     /* the next connection may lead to a server that lost what this one had */
}

static void
origin_failed (void *arg, int err, const char *why)
{
  struct inode *ino = arg;

  inode_forget_holes (ino);
  atomic_store (&ino->failed_err, err);
  if (ino->env->news.failed)
    ino->env->news.failed (ino->env->hook_arg, ino, err, why);
}

static void
origin_resized (void *arg, uint64_t end)
{
  struct inode *ino = arg;

  attr_resized (ino, end);
  if (ino->env->news.resized)
    ino->env->news.resized (ino->env->hook_arg, ino, end);
}

static void
origin_notice (void *arg, int level, const char *line)
{
  struct inode *ino = arg;

  if (ino->env->news.notice)
    ino->env->news.notice (ino->env->hook_arg, ino, level, line);
}

/* An inode and its carriers. */
static size_t
inode_bytes (unsigned ncarriers)
{
  return sizeof (struct inode) + ncarriers * sizeof (struct carrier);
}

/* goals.md: an inode without connections takes 16 KiB at most, with the carriers of 4. */
_Static_assert (sizeof (struct inode) + sizeof (struct readahead) + NCARRIERS (4) * sizeof (struct carrier) <= 16384,
                "an idle export is small");

int
inode_create (struct inode_env *env, struct origin *origin, uint32_t id, const char *name, struct inode **ret)
{
  const struct origin_info *info = &origin->info;
  const struct origin_events ev = {
    .lost = origin_lost, .failed = origin_failed, .resized = origin_resized, .notice = origin_notice,
  };
  struct throttle_limits tl = { .dirty_max = env->dirty_max, .dirty_background = env->dirty_background };
  struct origin_events events = ev;
  unsigned i, ncarriers = origin->most_conns ? NCARRIERS (origin->most_conns) : MOST_CARRIERS;
  struct inode *ino;

  assert (ncarriers <= MOST_CARRIERS);
  assert (id != 0 && id < 1u << FRAME_ID_BITS);
  ino = meta_alloc_hard (env, inode_bytes (ncarriers));
  if (!ino)
    return ENOMEM;
  memset (ino, 0, inode_bytes (ncarriers));
  ino->carrier = (struct carrier *) (ino + 1);
  ino->most_carriers = ncarriers;
  ino->env = env;
  ino->origin = origin;
  ino->id = id;
  snprintf (ino->name, sizeof ino->name, "%s", name);
  ino->size = info->size;
  ino->end = ino->end_told = info->size;
  ino->unit = info->block_min > PAGE_SIZE ? info->block_min : PAGE_SIZE;
  ino->block_min = info->block_min;
  ino->data_max = info->block_max < STRIPE_LEN ? info->block_max & ~(PAGE_SIZE - 1) : STRIPE_LEN;
  assert (ino->data_max > 0);           /* open_export refuses less than a page */
  ino->can_flush = info->can_flush;
  ino->can_fua = info->can_fua;
  ino->can_zero = info->can_zero;
  ino->can_trim = info->can_trim;

  rwlock_init (&ino->zlock, RANK_ZEROS);
  lock_init (&ino->sync, RANK_SYNC);
  lock_init (&ino->ra_lock, RANK_RA);
  segnodes_init (&ino->znodes, SEGNODE_SIZE, node_alloc, node_free, env);
  zeroset_init (&ino->zeros, &ino->znodes);
  lock_init (&ino->attr, RANK_ATTR);
  map_init (ino);
  list_init (&ino->wbs);
  list_init (&ino->tokens);
  list_init (&ino->through);
  list_init (&ino->dirty_waiters);
  throttle_init (&ino->throttle, &tl);
  ledger_init (ino);
  holes_init (ino);
  for (i = 0; i < NSTRIPES; i++) {
    struct stripe *st = &ino->stripe[i];

    rwlock_init (&st->lock, RANK_STRIPE);
    segnodes_init (&st->nodes, SEGNODE_SIZE, node_alloc, node_free, env);
    rangeset_init (&st->map, &st->nodes);
    dirtyset_init (&st->dirty, &st->nodes);
    list_init (&st->fills);
  }
  if (env->readahead_max) {
    ino->ra = meta_alloc_hard (env, sizeof *ino->ra);
    if (ino->ra) {
      struct readahead_limits rl = {
        .size = ino->size, .window_max = env->readahead_max,
        .memory = (uint64_t) memfile_max (env->mf) * PAGE_SIZE / 4,
        .scan = (uint64_t) memfile_max (env->mf) * PAGE_SIZE,
      };
      readahead_init (ino->ra, &rl);
    }
  }
  events.arg = ino;
  origin_set_events (origin, &events);
  *ret = ino;
  return 0;
}

struct drop_ctx {
  struct inode *ino;
  uint32_t frames[STRIPE_PAGES];
  unsigned n;
};

static void
drop_flush (struct drop_ctx *d)
{
  struct inode_env *env = d->ino->env;
  unsigned i;

  lock_take (&env->evict_lock);
  for (i = 0; i < d->n; i++)
    if (evict_forget (env->evict, d->frames[i]))
      STAT_ADD (d->ino, readahead_wasted, PAGE_SIZE);
  lock_drop (&env->evict_lock);
  memfile_put_many (env->mf, d->frames, d->n);
  d->n = 0;
}

static void
drop_page (void *arg, uint64_t pgoff, uint32_t frame)
{
  struct drop_ctx *d = arg;

  (void) pgoff;
  if (d->n == STRIPE_PAGES)
    drop_flush (d);
  d->frames[d->n++] = frame;
}

/* Bytes r (in one stripe's MiB, or all of the stripe) leave the map; their frames are let go.  The stripe is
 * held exclusively; the caller has seen to a spare node if r cuts a segment.
 */
void
map_remove (struct inode *ino, struct stripe *st, struct range r)
{
  struct drop_ctx d = { .ino = ino };

  rangeset_remove (&st->map, r, drop_page, &d);
  if (d.n)
    drop_flush (&d);
}

/* The page at pgoff, which lives in frame, lives in `ours` from now on, with the same bytes.  The stripe is held
 * exclusively; the caller has seen to nodes for two insertions.
 */
void
map_replace_frame (struct inode *ino, struct stripe *st, uint64_t pgoff, uint32_t frame, uint32_t ours)
{
  struct inode_env *env = ino->env;

  assert (frame_maps (memfile_frame (env->mf, frame)) == 0);
  memcpy (memfile_addr (env->mf, ours), memfile_addr (env->mf, frame), PAGE_SIZE);
  memfile_set_owner (env->mf, ours, frame_owner (ino->id, pgoff >> PAGE_SHIFT));
  rangeset_set_frame (&st->map, pgoff, ours);
  lock_take (&env->evict_lock);
  evict_forget (env->evict, frame);
  evict_insert (env->evict, ours, evict_key (ino->id, pgoff >> PAGE_SHIFT), 0);
  lock_drop (&env->evict_lock);
  memfile_put (env->mf, frame);
}

void
inode_free (struct inode *ino)
{
  struct inode_env *env = ino->env;
  unsigned i;

  assert (list_is_empty (&ino->wbs));
  assert (list_is_empty (&ino->tokens));
  assert (list_is_empty (&ino->through));
  assert (ino->holes.nasks == 0);
  map_release (ino);
  for (i = 0; i < NSTRIPES; i++) {
    struct stripe *st = &ino->stripe[i];

    rwlock_take (&st->lock);
    assert (list_is_empty (&st->fills));
    map_remove (ino, st, RANGE_ALL);
    dirtyset_release (&st->dirty);
    rangeset_release (&st->map);
    rwlock_drop (&st->lock);
    segnodes_release (&st->nodes);
    rwlock_release (&st->lock);
  }
  zeroset_release (&ino->zeros);
  segnodes_release (&ino->znodes);
  atomic_fetch_sub (&env->dirty_total, ino->charged);
  rwlock_release (&ino->zlock);
  lock_release (&ino->attr);
  lock_release (&ino->sync);
  lock_release (&ino->ra_lock);
  if (ino->ra)
    meta_free (env, ino->ra, sizeof *ino->ra);
  meta_free (env, ino, inode_bytes (ino->most_carriers));
  inode_env_wake_memory (env);
}

struct inode_env *
inode_env (struct inode *ino)
{
  return ino->env;
}

uint32_t
inode_id (struct inode *ino)
{
  return ino->id;
}

const char *
inode_name (struct inode *ino)
{
  return ino->name;
}

uint64_t
inode_size (struct inode *ino)
{
  return ino->size;
}

struct origin *
inode_origin (struct inode *ino)
{
  return ino->origin;
}

struct inode_stats *
inode_get_stats (struct inode *ino)
{
  for (unsigned i = 0; i < NSTRIPES; i++)
    STAT_ADD (ino, hits, atomic_exchange_explicit (&ino->stripe[i].lock.tally, 0, memory_order_relaxed));
  return &ino->stats;
}

/*----------------------------------------------------------------------*/
/* Operations. */

void
op_init (struct inode_op *op, struct inode *ino, enum inode_op_kind kind, struct range r, unsigned flags)
{
  assert (range_is_well_formed (r));
  op->wake = NULL;
  op->err = 0;
  op->wake_at_ns = 0;
  op->kind = kind;
  op->ino = ino;
  op->range = r;
  op->buf = NULL;
  op->flags = flags;
  op->stage = 0;
  op->pos = r.start;
  op->delay_until_ns = 0;
  op->min_frames = op->max_frames = op->mem_seen = 0;
  op->starved_at_ns = op->starved_pos = 0;
  op->missed = op->joined = op->told = op->asked_holes = op->alone = false;
  op->bypass = op->lent = op->shared = false;
  op->nmissed = op->used_ahead = 0;
  op->counted = r.start;
  list_node_init (&op->node);
  op->on = NULL;
  op->parked = op->begun = false;
  op->queued = op->admitted = false;
  op->wants = op->reserved = op->blocked_at_ns = 0;
  op->nfills = 0;
  op->waits = 0;
  op->fill_err = 0;
  op->not_his = 0;
  op->syncing = op->through = false;
  list_node_init (&op->through_node);
}

void
inode_op_read (struct inode_op *op, struct inode *ino, void *buf, struct range r)
{
  op_init (op, ino, OP_READ, r, 0);
  op->buf = buf;
}

void
inode_op_write (struct inode_op *op, struct inode *ino, const void *buf, struct range r, unsigned flags)
{
  op_init (op, ino, OP_WRITE, r, flags);
  op->buf = (uint8_t *) (uintptr_t) buf;        /* read only: nothing writes through it */
}

void
inode_op_zero (struct inode_op *op, struct inode *ino, struct range r, unsigned flags)
{
  op_init (op, ino, OP_ZERO, r, flags);
}

void
inode_op_trim (struct inode_op *op, struct inode *ino, struct range r, unsigned flags)
{
  op_init (op, ino, OP_TRIM, r, flags);
}

void
inode_op_sync (struct inode_op *op, struct inode *ino, struct range r, unsigned flags)
{
  op_init (op, ino, OP_SYNC, r, flags);
}

/* Is op refused before it begins?  What is under way hears from the origin what became of it (D14). */
static bool
op_refused (struct inode_op *op)
{
  struct inode *ino = op->ino;
  bool fresh = !op->begun;

  op->begun = true;
  if (fresh && atomic_load (&ino->failed_err)) {
    op->err = atomic_load (&ino->failed_err);
    return true;
  }
  if (op->kind == OP_SYNC || op->kind == OP_MAP || op->range.end <= inode_end (ino))
    return false;
  if (op->range.end <= ino->size) {
    op->err = fresh ? EIO : op->err;
    return fresh;
  }
  /* nbdkit refuses these before us; the core does not rely on it (N-74). */
  op->err = op->kind == OP_READ || op->kind == OP_TRIM ? EINVAL : ENOSPC;
  return true;
}

static bool
sync_run (struct inode_op *op)
{
  if (!op->syncing)
    sync_begin (op, op->range, op->flags);
  if (!sync_step (op))
    return false;
  sync_end (op);
  return true;
}

bool
inode_op_run (struct inode_op *op)
{
  bool done = true;

  lock_assert_none_held ();
  op->wake_at_ns = 0;
  op_unpark_memory (op);
  holes_unwait (op);
  op->mem_seen = atomic_load (&op->ino->env->mem_events);
  if (op_refused (op))
    return true;
  if (range_is_empty (op->range))
    return true;                /* CIN-15, sem.B-60 */
  switch (op->kind) {
  case OP_READ: done = read_run (op); break;
  case OP_WRITE: done = write_run (op); break;
  case OP_ZERO:
  case OP_TRIM: done = zero_run (op); break;
  case OP_SYNC: done = sync_run (op); break;
  case OP_MAP: done = map_run (op); break;
  }
  if (done) {
    op_unpark_memory (op);
    op_forget_dirt (op);
    write_through_end (op);
    assert (op->on == NULL);
    assert (op->nfills == 0 || op->kind == OP_MAP);
    assert (!op->syncing);
  }
  return done;
}

void
inode_op_cancel (struct inode_op *op)
{
  assert (!inode_op_is_lent (op));
  op_unpark_memory (op);
  holes_unwait (op);
  op_forget_dirt (op);
  fill_release (op);
  if (op->syncing)
    sync_end (op);
  write_through_end (op);
  if (op->kind == OP_READ && op->missed)
    atomic_fetch_sub_explicit (&op->ino->demand_bytes, range_len (op->range), memory_order_relaxed);
  /* What it wrote so far is dirty, and nobody was told yet. */
  if (op->kind != OP_READ && op->kind != OP_SYNC)
    op->ino->env->dirtied (op->ino->env->hook_arg, op->ino);
  op->err = ECANCELED;
}

/*----------------------------------------------------------------------*/
/* The blocking driver. */

/* How often a client that may have gone is looked after. */
#define GONE_NS (100 * NSEC_PER_MSEC)

/* Every wake comes under a lock that the op takes before it ends (the list it was on), so the waiter, which lies on
 * the stack, and what wakes it outlive the waker's use of them.
 */
static void
wake_waiter (struct inode_op *op)
{
  waiter_wake (op->wake_arg);
}

static uint64_t
wait_until (struct inode_op *op, bool ask)
{
  uint64_t until = op->wake_at_ns ? op->wake_at_ns : WAITER_FOR_EVER;
  uint64_t asks = ask ? clock_now (op->ino->env->clock) + GONE_NS : WAITER_FOR_EVER;

  return until < asks ? until : asks;
}

int
inode_op_wait (struct inode_op *op, bool (*gone) (void *), void *gone_arg)
{
  struct waiter waiter;

  waiter_init (&waiter);
  op->wake = wake_waiter;
  op->wake_arg = &waiter;
  for (;;) {
    /* What it sends to the origin it may read the answer of (D22). */
    origin_promise_begin ();
    if (inode_op_run (op))
      break;
    origin_promise_wait (&waiter, op->ino->env->clock, wait_until (op, gone != NULL));
    if (!waiter_take (&waiter) && gone && !inode_op_is_lent (op) && gone (gone_arg)) {
      inode_op_cancel (op);
      return op->err;
    }
  }
  origin_promise_end ();
  return op->err;
}
