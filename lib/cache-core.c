/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cache-core - the public face: options in, files out, hooks wired.
 *
 * One struct export for each inode, found by the name it was asked by or its canonical one (D9).  It lives on
 * after its last file while it holds a page.  The loop runs one piece of work, turn(), that goes over the exports
 * that have something to write back, and one timer that starts it.
 *
 * Locks    table (RANK_TABLE) guards the list of exports and their counts; it is not held while an origin is opened or
 *          closed, an inode created or freed.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cache-priv.h"

/*----------------------------------------------------------------------*/
/* Hooks of the inodes. */

static struct inode *
get_by_id (void *arg, uint32_t id)
{
  struct pagecache *pc = arg;
  struct inode *ino = NULL;

  lock_take (&pc->table);
  if (id < MAX_IDS && pc->by_id[id] && pc->by_id[id]->state == EXPORT_READY) {
    pc->by_id[id]->refs++;
    ino = pc->by_id[id]->ino;
  }
  lock_drop (&pc->table);
  return ino;
}

void
put_export_locked (struct export *ex)
{
  assert (ex->refs > 0);
  if (--ex->refs == 0)
    pthread_cond_broadcast (&ex->pc->changed);
}

static void
put_inode (void *arg, struct inode *ino)
{
  struct pagecache *pc = arg;

  lock_take (&pc->table);
  put_export_locked (pc->by_id[inode_id (ino)]);
  lock_drop (&pc->table);
}

static bool drop_oldest_locked (struct pagecache *, unsigned keep);

static bool
hook_reclaim (void *arg, unsigned want)
{
  struct pagecache *pc = arg;
  unsigned dirty = 0;
  bool gone;

  if (reclaim_frames (&pc->env, &pc->reclaim_hooks, want, &dirty) > 0)
    return true;
  /* Exports that nobody uses may hold what there is of memory: then no page comes free whoever waits. */
  if (evloop_inside (pc->loop) || memfile_in_use (pc->mf) > 0)
    return false;
  lock_take (&pc->table);
  gone = drop_oldest_locked (pc, 0);
  lock_drop (&pc->table);
  return gone;
}

static void
hook_starved (void *arg)
{
  struct pagecache *pc = arg;

  evloop_post (pc->loop, &pc->work);
}

static void
hook_dirtied (void *arg, struct inode *ino)
{
  struct pagecache *pc = arg;
  struct export *ex = pc->by_id[inode_id (ino)];

  /* by_id[] of an inode that calls us does not change: the inode is in use. */
  atomic_store (&ex->dirty, true);
  evloop_post (pc->loop, &pc->work);
}

/*----------------------------------------------------------------------*/
/* The loop's work. */

/* Take up to max exports that want a turn; each gets a reference.  *closed: bit i, nobody has number i open.
 * Who was passed over for want of room comes first the next time.
 */
static unsigned
take_dirty (struct pagecache *pc, struct export **out, unsigned max, uint64_t *closed)
{
  struct list_node *n;
  unsigned count = 0, pass;

  assert (max <= 64);
  *closed = 0;
  lock_take (&pc->table);
  for (pass = 0; pass < 2 && count < max; pass++)
    list_for_each (n, &pc->exports) {
      struct export *ex = container_of (n, struct export, node);

      if (pass == 0 && ex->had_turn)
        continue;
      ex->had_turn = false;
      if (count < max && ex->state == EXPORT_READY && atomic_exchange (&ex->dirty, false)) {
        ex->refs++;
        *closed |= (uint64_t) (ex->files == 0) << count;
        out[count++] = ex;
      }
    }
  for (pass = 0; count == max && pass < count; pass++)
    out[pass]->had_turn = true;
  lock_drop (&pc->table);
  return count;
}

static void
turn (struct pagecache *pc)
{
  uint64_t next = 0, now = clock_now (pc->clock);
  bool starved = atomic_load (&pc->env.nmem_waiters) > 0, drain = atomic_load (&pc->draining);
  struct export *ex[64];
  uint64_t closed;
  unsigned i, n;

  if (pc->ending)
    return;

  if (starved) {                /* whoever is dirty may help */
    struct list_node *node;

    lock_take (&pc->table);
    list_for_each (node, &pc->exports)
      atomic_store (&container_of (node, struct export, node)->dirty, true);
    lock_drop (&pc->table);
  }
  n = take_dirty (pc, ex, 64, &closed);
  for (i = 0; i < n; i++) {
    uint64_t at = writeback_turn (ex[i]->ino, &ex[i]->ws, starved, drain || (closed >> i & 1));

    if (at) {
      atomic_store (&ex[i]->dirty, true);
      if (next == 0 || at < next)
        next = at;
    }
    lock_take (&pc->table);
    put_export_locked (ex[i]);
    lock_drop (&pc->table);
  }
  if (n == 64)
    next = now;
  if (pc->opt.stats_file && strcmp (pc->opt.stats_file, "-") != 0) {
    if (now >= pc->next_stats_ns) {
      write_stats_file (pc);
      pc->next_stats_ns = now + 10 * NSEC_PER_SEC;
    }
    if (next == 0 || pc->next_stats_ns < next)
      next = pc->next_stats_ns;
  }
  if (starved && (next == 0 || next > now + 10 * NSEC_PER_MSEC))
    next = now + 10 * NSEC_PER_MSEC;
  if (next)
    evloop_timer_set (&pc->timer, next > now ? next - now : 0);
}

static void
run_work (struct evloop_work *w)
{
  turn (container_of (w, struct pagecache, work));
}

static void
run_timer (struct evloop_timer *t)
{
  turn (container_of (t, struct pagecache, timer));
}

/*----------------------------------------------------------------------*/
/* Life. */

/* Tables and segments cost about 2 % where pages are scattered and dirty; more than that is made room for by giving
 * frames back.
 */
#define FRAMES_OF(size, reserve) (((size) - (reserve) - (size) / 32) / PAGE_SIZE)

_Static_assert (FRAMES_OF (PAGECACHE_SIZE_MAX, PAGECACHE_SIZE_MAX / 16) <= EVICT_MAX_FRAMES,
                "the largest cache's frames have numbers");

/* Everything that holds bytes, out of one budget (D13). */
static int
make_memory (struct pagecache *pc)
{
  uint64_t size = pc->opt.cache_size, reserve = size / 16;
  uint64_t piece;
  uint32_t nframes;
  int err;

  if (reserve < 256 << 10)
    reserve = 256 << 10;
  piece = reserve / 8;
  piece = piece > 1 << 20 ? 1 << 20 : piece < 64 << 10 ? 64 << 10 : piece & ~(PAGE_SIZE - 1);
  budget_init (&pc->budget, size);
  err = bounce_create (&pc->budget, piece, (unsigned) (reserve / piece), (unsigned) (reserve / piece / 2), &pc->bounce);
  if (err)
    return err;
  nframes = (uint32_t) FRAMES_OF (size, reserve);
  err = memfile_create (&pc->budget, nframes, &pc->mf);
  if (err)
    return err;
  pc->evict_len = (evict_size (nframes) + 63) & ~(size_t) 63;
  err = budget_take (&pc->budget, BUDGET_FIXED, pc->evict_len);
  if (err) {
    pc->evict_len = 0;
    return err;
  }
  pc->evict_mem = mmap (NULL, pc->evict_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pc->evict_mem == MAP_FAILED) {
    pc->evict_mem = NULL;
    return errno;
  }
  evict_init (&pc->evict, pc->evict_mem, nframes);
  return 0;
}

static void
free_memory (struct pagecache *pc)
{
  if (pc->evict_mem)
    munmap (pc->evict_mem, pc->evict_len);
  if (pc->evict_len)
    budget_give (&pc->budget, BUDGET_FIXED, pc->evict_len);
  if (pc->mf)
    memfile_free (pc->mf);
  if (pc->bounce)
    bounce_free (pc->bounce);
}

static int
make_env (struct pagecache *pc)
{
  struct inode_env *env = &pc->env;

  env->clock = pc->clock;
  env->budget = &pc->budget;
  env->mf = pc->mf;
  env->bounce = pc->bounce;
  env->evict = &pc->evict;
  env->mode = pc->opt.mode == PAGECACHE_WRITETHROUGH ? INODE_WRITETHROUGH
              : pc->opt.mode == PAGECACHE_UNSAFE ? INODE_UNSAFE : INODE_WRITEBACK;
  env->readahead_max = pc->opt.readahead;
  env->dirty_max = pc->opt.dirty_max;
  env->dirty_background = pc->opt.dirty_background;
  env->dirty_expire_ns = pc->opt.dirty_expire_ns;
  env->nwb = pc->opt.cache_size >= (uint64_t) 16 << 20 ? 256 : 32;
  env->reclaim = hook_reclaim;
  env->starved = hook_starved;
  env->dirtied = hook_dirtied;
  env->hook_arg = pc;
  cache_listen (env);
  pc->reclaim_hooks = (struct reclaim_hooks) { get_by_id, put_inode, pc };
  return inode_env_init (env);
}

int
cache_create (const struct pagecache_options *opt, const struct cache_factory *factory, struct clock *clock,
              struct pagecache **ret)
{
  struct pagecache *pc = calloc (1, sizeof *pc);
  pthread_condattr_t attr;
  int err;

  if (!pc)
    return ENOMEM;
  pc->opt = *opt;
  pc->factory = *factory;
  pc->real_clock = (struct clock) CLOCK_REAL_INIT;
  pc->clock = clock ? clock : &pc->real_clock;
  log_init (&pc->log, opt->log, opt->log_arg, pc->clock);
  lock_init (&pc->table, RANK_TABLE);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&pc->changed, &attr);
  pthread_condattr_destroy (&attr);
  list_init (&pc->exports);
  list_init (&pc->directs);
  if (opt->stats_file && !(pc->opt.stats_file = strdup (opt->stats_file))) {
    err = ENOMEM;
    goto free_pc;
  }
  err = cache_options_resolve (&pc->opt, &pc->log);
  if (!err && opt->mode != PAGECACHE_NONE)
    err = make_memory (pc);
  if (!err && opt->mode != PAGECACHE_NONE)
    err = make_env (pc);
  if (err)
    goto free_memory;
  *ret = pc;
  return 0;

 free_memory:
  free_memory (pc);
  free ((char *) pc->opt.stats_file);
 free_pc:
  log_release (&pc->log);
  lock_release (&pc->table);
  pthread_cond_destroy (&pc->changed);
  free (pc);
  return err;
}

/* Pages are fetched whole, and in one request. */
static int
check_block_max (struct pagecache *pc, const struct origin_info *info, char **why)
{
  if (pc->opt.mode == PAGECACHE_NONE || info->block_max == 0 || info->block_max >= PAGE_SIZE)
    return 0;
  if (asprintf (why, "the origin takes requests of at most %u bytes; the cache needs 4096", info->block_max) == -1)
    *why = NULL;
  return EINVAL;
}

int
pagecache_probe (struct pagecache *pc, char **why)
{
  struct origin_info info;
  int err;

  *why = NULL;
  err = pc->factory.probe (pc->factory.arg, NULL, &info, why);
  return err ? err : check_block_max (pc, &info, why);
}

/* Memory that is populated when the first client comes, for what it costs then it does not cost in the midst of a stream:
 * of 64 KiB reads in a row, one at a time, it was a seventh of the time.  Half of the cache did not do more, for it was
 * not there in time.  Then there is twice the largest read-ahead window ahead of need.  Not at start: it would
 * be at most a tenth more, and a server that nobody uses would hold it.
 */
#define POPULATE_FIRST (UINT64_C (256) << 20)
#define POPULATE_AHEAD (UINT64_C (64) << 20)

/* The part-th part of the cache, in frames of at most `most` bytes together. */
static uint32_t
share_of_cache (struct pagecache *pc, unsigned part, uint64_t most)
{
  uint64_t share = pc->opt.cache_size / part;

  return (uint32_t) ((share < most ? share : most) / PAGE_SIZE);
}

int
pagecache_start (struct pagecache *pc)
{
  int err;

  assert (!pc->started);
  err = evloop_create (pc->clock, &pc->loop);
  if (err)
    return err;
  pc->work.fn = run_work;
  list_node_init (&pc->work.node);
  err = evloop_timer_init (pc->loop, &pc->timer, run_timer);
  if (!err)
    err = evloop_start (pc->loop);
  if (err) {
    evloop_timer_release (&pc->timer);
    evloop_free (pc->loop);
    pc->loop = NULL;
    return err;
  }
  pc->started = true;
  /* Without it first fills are slower, that is all. */
  if (pc->opt.mode != PAGECACHE_NONE
      && populate_start (&pc->populate, pc->mf, share_of_cache (pc, 4, POPULATE_FIRST),
                         share_of_cache (pc, 8, POPULATE_AHEAD)) == 0)
    pc->env.populate = &pc->populate;
  if (pc->opt.stats_file)
    evloop_post (pc->loop, &pc->work);
  return cache_begin_looking (pc);
}

/* Leave the table and free.  The table is held, and is let go meanwhile; ex is READY, without files. */
static void
destroy_export (struct export *ex)
{
  struct pagecache *pc = ex->pc;

  assert (ex->files == 0);
  ex->state = EXPORT_CLOSING;
  while (ex->refs > 0)
    pthread_cond_wait (&pc->changed, &pc->table.mutex);
  lock_drop (&pc->table);
  origin_close (ex->origin);    /* answers what is still under way */
  inode_free (ex->ino);
  lock_take (&pc->table);
  pc->by_id[ex->id] = NULL;
  list_remove (&ex->node);
  pc->nexports--;
  pthread_cond_broadcast (&pc->changed);
  free (ex->name);
  free (ex->canonical);
  free (ex->differs);
  free (ex);
}

/* On the loop, the only one who sets it; work that is still posted finds that it is the end. */
static int
release_timer (void *arg)
{
  struct pagecache *pc = arg;

  pc->ending = true;
  evloop_timer_release (&pc->timer);
  return 0;
}

void
pagecache_free (struct pagecache *pc)
{
  struct list_node *n;

  cache_end_looking (pc);
  if (pc->opt.stats_file && pc->started)
    write_stats_file (pc);
  lock_take (&pc->table);
  assert (pc->nfiles == 0);
  while ((n = list_first (&pc->exports)) != NULL)
    destroy_export (container_of (n, struct export, node));
  lock_drop (&pc->table);
  if (pc->loop) {
    evloop_call (pc->loop, release_timer, pc);
    evloop_free (pc->loop);
    pc->loop = NULL;
  }
  populate_stop (&pc->populate);
  if (pc->opt.mode != PAGECACHE_NONE) {
    inode_env_release (&pc->env);
    free_memory (pc);
    budget_check (&pc->budget);
  }
  if (pc->factory.free)
    pc->factory.free (pc->factory.arg);
  log_release (&pc->log);
  lock_release (&pc->table);
  pthread_cond_destroy (&pc->changed);
  free ((char *) pc->opt.stats_file);
  free (pc);
}

/*----------------------------------------------------------------------*/
/* Exports and files. */

static struct export *
find_locked (struct pagecache *pc, const char *name)
{
  struct list_node *n;

  list_for_each (n, &pc->exports) {
    struct export *ex = container_of (n, struct export, node);

    if (strcmp (ex->name, name) == 0 || (ex->canonical && strcmp (ex->canonical, name) == 0))
      return ex;
  }
  return NULL;
}

/* The export without a file that was closed longest ago goes, if more than `keep` there are.  Those of which something
 * is to be written back stay, and hold up no other: their origin may be away for good.
 */
static bool
drop_oldest_locked (struct pagecache *pc, unsigned keep)
{
  struct export *oldest = NULL;
  struct list_node *n;
  unsigned unused = 0;

  list_for_each (n, &pc->exports) {
    struct export *ex = container_of (n, struct export, node);

    if (ex->state != EXPORT_READY || ex->files || ex->refs)
      continue;
    unused++;
    if ((!oldest || ex->closed_ns < oldest->closed_ns) && export_unsaved (ex) == 0)
      oldest = ex;
  }
  if (unused <= keep || !oldest)
    return false;
  destroy_export (oldest);
  return true;
}

static void
fill_info (struct pagecache *pc, const struct origin *o, bool cached, struct pagecache_info *i)
{
  const struct origin_info *oi = &o->info;

  memset (i, 0, sizeof *i);
  i->size = oi->size;
  i->read_only = oi->read_only || pc->opt.read_only;
  i->rotational = cached ? false : oi->rotational;
  i->can_extents = oi->can_extents;
  i->description = o->description;
  if (cached) {
    /* Offered by the cache itself, whatever the origin has (D4, D8, N-26). */
    i->can_flush = i->can_fua = i->can_trim = i->can_zero = i->can_fast_zero = true;
    i->can_cache = i->can_multi_conn = true;
    i->block_min = 1;
    i->block_pref = PAGE_SIZE;
    i->block_max = 32 << 20;
  }
  else {
    i->can_flush = oi->can_flush;
    i->can_fua = oi->can_fua;
    i->can_trim = oi->can_trim;
    i->can_zero = oi->can_zero;
    i->can_fast_zero = oi->can_fast_zero;
    i->can_cache = oi->can_cache;
    i->can_multi_conn = oi->can_multi_conn;
    i->block_min = oi->block_min;
    i->block_pref = oi->block_pref;
    i->block_max = oi->block_max;
  }
}

static uint32_t
free_id_locked (struct pagecache *pc)
{
  uint32_t id;

  for (id = 1; id < MAX_IDS; id++)
    if (!pc->by_id[id])
      return id;
  return 0;
}

void
report_why (struct pagecache *pc, const char *name, char *why)
{
  if (why)
    log_error (&pc->log, "%s: %s", name, why);
  free (why);
}

/* Exports that nobody has open let go of their connections.  The table is held, and is let go meanwhile. */
static unsigned
rest_locked (struct pagecache *pc)
{
  struct list_node *n;
  unsigned count = 0;

  list_for_each (n, &pc->exports) {
    struct export *ex = list_entry (n, struct export, node);

    if (ex->state != EXPORT_READY || ex->files)
      continue;
    ex->refs++;                 /* keeps ex, and so the place in the list */
    lock_drop (&pc->table);
    count += origin_rest (ex->origin);
    lock_take (&pc->table);
    put_export_locked (ex);
  }
  return count;
}

bool
pagecache_let_go (struct pagecache *pc)
{
  bool any;

  lock_take (&pc->table);
  any = rest_locked (pc) > 0;
  lock_drop (&pc->table);
  return any;
}

/* Open an origin.  When there are no descriptors for it, exports that nobody has open make way; their caches stay. */
static int
open_origin (struct pagecache *pc, const char *asked, struct origin **ret, char **canonical, char **why)
{
  int err = pc->factory.open (pc->factory.arg, asked, pc->loop, ret, canonical, why);

  if ((err == EMFILE || err == ENFILE) && pagecache_let_go (pc)) {
    free (*why);
    *why = NULL;
    err = pc->factory.open (pc->factory.arg, asked, pc->loop, ret, canonical, why);
  }
  return err;
}

/* Others may hold all the memory at the moment.  Exports that nobody uses make way; then opening waits for pages to be
 * written back, as reading and writing do (op_may_wait), and is counted as who waits, so that write-back makes haste.
 * Looked for every 10 ms, for at most a minute, and while there is a page at all that may go.
 */
static int
make_inode (struct export *ex)
{
  struct pagecache *pc = ex->pc;
  uint64_t give_up_at_ns = clock_now (&pc->real_clock) + 60 * NSEC_PER_SEC, at_ns;
  int err;

  err = inode_create (&pc->env, ex->origin, ex->id, ex->origin->name, &ex->ino);
  if (err != ENOMEM)
    return err;
  atomic_fetch_add (&pc->env.nmem_waiters, 1);
  while ((err = inode_create (&pc->env, ex->origin, ex->id, ex->origin->name, &ex->ino)) == ENOMEM
         && !atomic_load (&pc->draining) && (at_ns = clock_now (&pc->real_clock) + 10 * NSEC_PER_MSEC) < give_up_at_ns) {
    struct timespec at = { .tv_sec = at_ns / NSEC_PER_SEC, .tv_nsec = at_ns % NSEC_PER_SEC };
    bool hope;

    lock_take (&pc->table);
    if (!drop_oldest_locked (pc, 0)) {
      hope = atomic_load (&pc->budget.by_class[BUDGET_FRAMES]) > 0 || atomic_load (&pc->env.dirty_total) > 0;
      lock_drop (&pc->table);
      if (!hope)
        break;
      hook_starved (pc);
      lock_take (&pc->table);
      pthread_cond_timedwait (&pc->changed, &pc->table.mutex, &at);
    }
    lock_drop (&pc->table);
  }
  atomic_fetch_sub (&pc->env.nmem_waiters, 1);
  return err;
}

/* Open the origin and make the inode; ex is OPENING and ours.  The table is not held. */
static int
open_export (struct export *ex, const char *asked, char **canonical)
{
  struct pagecache *pc = ex->pc;
  char *why = NULL;
  int err;

  err = open_origin (pc, asked, &ex->origin, canonical, &why);
  if (err) {
    report_why (pc, asked ? asked : "origin", why);
    return err;
  }
  err = check_block_max (pc, &ex->origin->info, &why);
  if (err) {
    report_why (pc, ex->origin->name, why);
    origin_close (ex->origin);
    return err;
  }
  fill_info (pc, ex->origin, true, &ex->info);
  atomic_store (&ex->end, ex->info.size);
  ex->configured = asked == NULL;
  if (!ex->origin->info.can_flush)
    log_warning (&pc->log, "%s: the origin has no flush: a flush only says that it accepted every byte", ex->origin->name);
  err = make_inode (ex);
  if (err)
    origin_close (ex->origin);
  return err;
}

static int
new_export_locked (struct pagecache *pc, const char *name, struct export **ret)
{
  struct export *ex = calloc (1, sizeof *ex);
  uint32_t id = free_id_locked (pc);

  if (!ex || id == 0) {
    free (ex);
    return ENOMEM;
  }
  ex->name = strdup (name);
  if (!ex->name) {
    free (ex);
    return ENOMEM;
  }
  ex->pc = pc;
  ex->id = id;
  ex->state = EXPORT_OPENING;
  list_node_init (&ex->node);
  list_push_back (&pc->exports, &ex->node);
  pc->by_id[id] = ex;
  pc->nexports++;
  *ret = ex;
  return 0;
}

/* It could not be opened; who waited for it learns why.  The table is held, and is let go meanwhile. */
static void
forget_export_locked (struct export *ex, int err)
{
  struct pagecache *pc = ex->pc;

  list_remove (&ex->node);
  pc->by_id[ex->id] = NULL;
  pc->nexports--;
  ex->state = EXPORT_FAILED;
  ex->open_err = err;
  pthread_cond_broadcast (&pc->changed);
  while (ex->refs > 0)
    pthread_cond_wait (&pc->changed, &pc->table.mutex);
  free (ex->name);
  free (ex->canonical);
  free (ex->differs);
  free (ex);
}

static struct export *
find_same_locked (struct export *ex)
{
  struct list_node *n;

  if (!ex->canonical)
    return NULL;
  list_for_each (n, &ex->pc->exports) {
    struct export *o = container_of (n, struct export, node);

    if (o != ex && o->state == EXPORT_READY
        && (strcmp (o->name, ex->canonical) == 0 || (o->canonical && strcmp (o->canonical, ex->canonical) == 0)))
      return o;
  }
  return NULL;
}

/* "" and its canonical name are one inode (D9), and two that came at once meet here: the export that was there before
 * ex, which is OPENING and ours; or NULL.  One that nobody has open is looked at first, as when it is asked for by
 * the name that it has.  The table is held, and may be let go meanwhile.
 */
static struct export *
meet_same_locked (struct export *ex)
{
  struct pagecache *pc = ex->pc;
  struct export *same;

  while ((same = find_same_locked (ex)) != NULL)
    if (same->looking)
      pthread_cond_wait (&pc->changed, &pc->table.mutex);
    else if (same->files == 0 && cache_is_old_locked (same))
      destroy_export (same);
    else
      return same;
  return NULL;
}

/* Somebody is opening ex: how did that end?  If it failed the others do not try one after the other, each for as long as an
 * origin that is away may take.  The table is held, and is let go meanwhile; ex may be gone afterwards.
 */
static int
wait_for_opener_locked (struct export *ex)
{
  struct pagecache *pc = ex->pc;
  int err;

  ex->refs++;
  while (ex->state == EXPORT_OPENING)
    pthread_cond_wait (&pc->changed, &pc->table.mutex);
  err = ex->state == EXPORT_FAILED ? ex->open_err : 0;
  put_export_locked (ex);
  return err;
}

/* The export of that name with one file more.  Opened by whoever comes first; the others wait for him. */
static int
get_export (struct pagecache *pc, const char *asked, struct export **ret)
{
  const char *name = asked ? asked : "";
  struct export *ex, *same;
  char *canonical = NULL;
  int err;

  lock_take (&pc->table);
  for (;;) {
    ex = find_locked (pc, name);
    if (!ex) {
      /* Lets the table go: somebody may have opened the name meanwhile, and one export has one inode. */
      if (drop_oldest_locked (pc, pc->nexports < MAX_IDS - 1 ? MAX_EMPTY : 0))
        continue;
      break;
    }
    if (ex->state == EXPORT_READY && !ex->looking) {
      if (ex->files == 0 && cache_is_old_locked (ex)) {
        destroy_export (ex);
        continue;
      }
      ex->files++;
      goto found;
    }
    if (ex->state != EXPORT_OPENING)
      pthread_cond_wait (&pc->changed, &pc->table.mutex);
    else if ((err = wait_for_opener_locked (ex)) != 0) {
      lock_drop (&pc->table);
      return err;
    }
  }
  err = new_export_locked (pc, name, &ex);
  lock_drop (&pc->table);
  if (err)
    return err;
  err = open_export (ex, asked, &canonical);
  lock_take (&pc->table);
  ex->canonical = canonical;    /* not before: others look for names meanwhile */
  if (err) {
    forget_export_locked (ex, err);     /* a name that failed leaves nothing (D9) */
    lock_drop (&pc->table);
    return err;
  }
  same = meet_same_locked (ex);
  ex->state = EXPORT_READY;
  pthread_cond_broadcast (&pc->changed);
  if (same) {
    same->files++;
    destroy_export (ex);
    ex = same;
  }
  else
    ex->files++;
 found:
  pc->nfiles++;
  lock_drop (&pc->table);
  *ret = ex;
  return 0;
}

static void
direct_notice (void *arg, int level, const char *line)
{
  struct pagecache *pc = arg;

  log_limited (&pc->log, level == LOG_LEVEL_ERROR ? &pc->urgent : &pc->limit, level, "%s", line);
}

static int
open_direct (struct pagecache *pc, const char *asked, struct pagecache_file *f)
{
  const struct origin_events events = { .notice = direct_notice, .arg = pc };
  char *canonical = NULL, *why = NULL;
  struct origin *origin;
  int err = open_origin (pc, asked, &origin, &canonical, &why);

  if (err) {
    report_why (pc, asked ? asked : "origin", why);
    free (canonical);
    return err;
  }
  origin_set_events (origin, &events);
  fill_info (pc, origin, false, &f->info);
  err = direct_create (pc, origin, canonical ? canonical : asked ? asked : "", &f->direct);
  free (canonical);
  if (err) {
    origin_close (origin);
    return err;
  }
  lock_take (&pc->table);
  pc->nfiles++;
  lock_drop (&pc->table);
  return 0;
}

int
pagecache_open (struct pagecache *pc, const char *name, bool read_only, struct pagecache_file **ret)
{
  struct pagecache_file *f = calloc (1, sizeof *f);
  int err;

  if (!f)
    return ENOMEM;
  f->pc = pc;
  if (pc->opt.mode == PAGECACHE_NONE)
    err = open_direct (pc, name, f);
  else {
    if (pc->env.populate)
      populate_note (pc->env.populate, 0);
    err = get_export (pc, name, &f->ex);
    if (!err)
      f->info = f->ex->info;
  }
  if (err) {
    free (f);
    return err;
  }
  if (read_only)
    f->info.read_only = true;
  *ret = f;
  return 0;
}

void
pagecache_close (struct pagecache_file *f)
{
  struct pagecache *pc = f->pc;

  if (f->direct)
    direct_close (f->direct);
  lock_take (&pc->table);
  pc->nfiles--;
  if (f->ex && --f->ex->files == 0) {
    f->ex->closed_ns = clock_now (pc->clock);
    /* N-90, D9: the last close starts write-back and does not wait for it. */
    atomic_store (&f->ex->dirty, true);
    evloop_post (pc->loop, &pc->work);
  }
  lock_drop (&pc->table);
  free (f);
}

const struct pagecache_info *
pagecache_get_info (struct pagecache_file *f)
{
  return &f->info;
}

void
pagecache_set_gone (struct pagecache_file *f, bool (*gone) (void *), void *arg)
{
  f->gone = gone;
  f->gone_arg = arg;
}

struct inode *
cache_file_inode (struct pagecache_file *f)
{
  return f->ex ? f->ex->ino : NULL;
}

struct inode_env *
cache_env (struct pagecache *pc)
{
  return &pc->env;
}

const char *
pagecache_version (void)
{
  return PACKAGE_VERSION;
}
