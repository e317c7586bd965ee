/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-cache - the whole cache with its threads, over an origin in memory.
 *
 * The simulation (test-sim) looks for wrong orders; this looks for what only threads do.  Each thread owns
 * every n-th block of 24 KiB and knows what is in it; all of them share stripes, frames, generations and flushes.
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "inode.h"
#include "log.h"
#include "origin-mem.h"

#define SIZE ((uint64_t) 12 << 20)
#define BLOCK ((uint64_t) 24 << 10)
#define NTHREADS 8

struct world {
  pthread_mutex_t losing;       /* one connection is lost at a time */
  bool losses;
  struct origin_info info;
  struct origin *last;          /* the origin opened last */
  unsigned opens;
  const char *canonical, *export_name;
  void (*meanwhile) (struct world *);   /* called while somebody looks whether the origin is what it was */
  struct pagecache *pc;
  unsigned looks;
  int (*open) (void *, const char *, struct evloop *, struct origin **, char **, char **);     /* or in memory */
};

static int
mem_probe (void *arg, const char *name, struct origin_info *info, char **why)
{
  struct world *w = arg;

  (void) name;
  (void) why;
  *info = w->info;
  return 0;
}

static int
mem_open (void *arg, const char *name, struct evloop *loop, struct origin **ret, char **canonical, char **why)
{
  struct world *w = arg;
  int err;

  (void) loop;
  if (name && strcmp (name, "missing") == 0) {
    *why = strdup ("no such export");
    return ENOENT;
  }
  err = origin_mem_create (&w->info, ret);
  if (!err) {
    w->last = *ret;
    (*ret)->export_name = w->export_name;
    if (w->canonical)
      *canonical = strdup (w->canonical);
    __atomic_add_fetch (&w->opens, 1, __ATOMIC_RELEASE);
  }
  return err;
}

/* As the servers' sizes say. */
static int
mem_look (void *arg, const char *name, const struct origin *was, const char *canonical, char **differs)
{
  struct world *w = arg;
  uint64_t size;

  (void) name;
  (void) canonical;
  __atomic_add_fetch (&w->looks, 1, __ATOMIC_ACQ_REL);
  if (w->meanwhile)
    w->meanwhile (w);
  size = __atomic_load_n (&w->info.size, __ATOMIC_ACQUIRE);
  if (was->info.size != size && asprintf (differs, "%u MiB", (unsigned) (size >> 20)) == -1)
    return ENOMEM;
  return 0;
}

static int
mem_list (void *arg, int (*fn) (void *, const char *, const char *), void *fn_arg, char **why)
{
  (void) arg;
  (void) why;
  return fn (fn_arg, "only", NULL);
}

static struct pagecache *
start (struct world *w, void (*tune) (struct pagecache_options *))
{
  struct cache_factory factory = {
    .probe = mem_probe, .open = w->open ? w->open : mem_open, .look = mem_look, .list = mem_list, .arg = w,
  };
  struct pagecache_options o;
  struct pagecache *pc;

  w->info = (struct origin_info) {
    .size = SIZE, .can_flush = true, .can_fua = true, .can_trim = true, .can_zero = true, .can_fast_zero = true,
    .can_multi_conn = true, .can_extents = true, .block_min = 1, .block_pref = 4096, .block_max = 32 << 20,
  };
  pagecache_options_init (&o);
  o.cache_size = 2 << 20;
  o.dirty_max = 1 << 20;
  o.dirty_background = 256 << 10;
  o.readahead = 256 << 10;
  if (tune)
    tune (&o);
  assert_int_equal (cache_create (&o, &factory, NULL, &pc), 0);
  assert_int_equal (pagecache_start (pc), 0);
  w->pc = pc;
  return pc;
}

/*----------------------------------------------------------------------*/

struct worker {
  pthread_t thread;
  struct world *world;
  struct pagecache *pc;
  unsigned me, ops;
  uint64_t rng;
  const char *bad;
  int err;
  uint8_t *model;               /* SIZE bytes; only our blocks are used */
};

static uint64_t
rnd (struct worker *w)
{
  w->rng ^= w->rng << 13;
  w->rng ^= w->rng >> 7;
  w->rng ^= w->rng << 17;
  return w->rng;
}

static int
one_op (struct worker *w, struct pagecache_file *f, uint8_t *buf)
{
  uint64_t nblocks = SIZE / BLOCK / NTHREADS, block = (rnd (w) % nblocks) * NTHREADS + w->me;
  uint64_t off = block * BLOCK + rnd (w) % BLOCK, end = (block + 1) * BLOCK, len = 1 + rnd (w) % (end - off);
  uint64_t i;
  int err;

  switch (rnd (w) % 10) {
  case 0: case 1: case 2: case 3:
    memset (buf, 0x5a, len);
    err = pagecache_read (f, buf, len, off);
    if (!err && memcmp (buf, w->model + off, len) != 0)
      w->bad = "a thread read what it had not written";
    return err;
  case 4: case 5: case 6: case 7:
    for (i = 0; i < len; i++)
      buf[i] = (uint8_t) rnd (w);
    memcpy (w->model + off, buf, len);
    return pagecache_write (f, buf, len, off, rnd (w) % 16 == 0 ? PAGECACHE_FUA : 0);
  case 8:
    memset (w->model + off, 0, len);
    return pagecache_zero (f, len, off, PAGECACHE_MAY_TRIM);
  default:
    if (w->world->losses && rnd (w) % 4 == 0) {
      pthread_mutex_lock (&w->world->losing);
      origin_mem_lose (w->world->last, rnd (w) & 1, rnd (w) & 1);
      pthread_mutex_unlock (&w->world->losing);
      return 0;
    }
    return rnd (w) % 4 ? pagecache_prefetch (f, len, off) : pagecache_flush (f);
  }
}

static void *
work (void *arg)
{
  struct worker *w = arg;
  struct pagecache_file *f;
  uint8_t *buf = malloc (BLOCK);
  unsigned i;

  if ((w->err = pagecache_open (w->pc, NULL, false, &f)) != 0) {
    w->bad = "open";
    return NULL;
  }
  for (i = 0; i < w->ops && !w->bad; i++)
    if ((w->err = one_op (w, f, buf)) != 0)
      w->bad = "an error nobody made";
  if (!w->bad && pagecache_flush (f) != 0)
    w->bad = "flush";
  pagecache_close (f);
  free (buf);
  return NULL;
}

static void
threads_agree (void (*tune) (struct pagecache_options *), unsigned ops, bool losses)
{
  struct world world = { .losing = PTHREAD_MUTEX_INITIALIZER, .losses = losses };
  struct pagecache *pc = start (&world, tune);
  struct worker w[NTHREADS];
  const char *seed = getenv ("PC_SEED");
  uint64_t base = seed ? strtoull (seed, NULL, 0) : 42, lost;
  unsigned i;
  uint64_t b;

  printf ("PC_SEED=%llu\n", (unsigned long long) base);
  for (i = 0; i < NTHREADS; i++) {
    w[i] = (struct worker) { .pc = pc, .world = &world, .me = i, .ops = ops, .rng = base * 1000003 + i * 7919 + 1 };
    w[i].model = calloc (1, SIZE);
    assert_int_equal (pthread_create (&w[i].thread, NULL, work, &w[i]), 0);
  }
  for (i = 0; i < NTHREADS; i++) {
    pthread_join (w[i].thread, NULL);
    if (w[i].bad)
      fail_msg ("thread %u: %s (%s)", i, w[i].bad, strerror (w[i].err));
  }
  assert_int_equal (world.opens, 1);
  assert_int_equal (pagecache_drain (pc, &lost), 0);
  assert_int_equal (lost, 0);
  for (b = 0; b < SIZE / BLOCK / NTHREADS * NTHREADS; b++)
    assert_memory_equal (origin_mem_durable (world.last) + b * BLOCK, w[b % NTHREADS].model + b * BLOCK, BLOCK);
  pagecache_free (pc);
  for (i = 0; i < NTHREADS; i++)
    free (w[i].model);
}

TEST (eight_threads_read_what_they_wrote_and_all_of_it_is_durable)
{
  threads_agree (NULL, 1500, false);
}

static void
tune_writethrough (struct pagecache_options *o)
{
  o->mode = PAGECACHE_WRITETHROUGH;
}

TEST (the_same_written_through)
{
  threads_agree (tune_writethrough, 600, false);
}

static void
tune_tiny (struct pagecache_options *o)
{
  o->cache_size = 1 << 20;
  o->dirty_max = 512 << 10;
  o->dirty_background = 100 << 10;
}

TEST (the_same_in_the_smallest_cache)
{
  threads_agree (tune_tiny, 800, false);
}

TEST (the_same_while_connections_are_lost)
{
  threads_agree (tune_tiny, 800, true);
}

static void
tune_writethrough_tiny (struct pagecache_options *o)
{
  tune_tiny (o);
  tune_writethrough (o);
}

TEST (the_same_written_through_while_connections_are_lost)
{
  threads_agree (tune_writethrough_tiny, 400, true);
}

/*----------------------------------------------------------------------*/

TEST (a_name_that_fails_leaves_nothing)
{
  struct world world = { 0 };
  struct pagecache *pc = start (&world, NULL);
  struct pagecache_file *f;

  assert_int_equal (pagecache_open (pc, "missing", false, &f), ENOENT);
  assert_int_equal (pagecache_open (pc, "missing", false, &f), ENOENT);
  assert_int_equal (world.opens, 0);
  pagecache_free (pc);
}

TEST (two_names_of_one_canonical_export_share_an_inode)
{
  struct world world = { .canonical = "disk" };
  struct pagecache *pc = start (&world, NULL);
  struct pagecache_file *a, *b;
  uint8_t buf[3] = { 0 };

  assert_int_equal (pagecache_open (pc, "", false, &a), 0);
  assert_int_equal (pagecache_open (pc, "disk", false, &b), 0);
  assert_ptr_equal (cache_file_inode (a), cache_file_inode (b));
  assert_int_equal (pagecache_write (a, "abc", 3, 5000, 0), 0);
  assert_int_equal (pagecache_read (b, buf, 3, 5000), 0);
  assert_memory_equal (buf, "abc", 3);
  pagecache_close (a);
  pagecache_close (b);
  assert_int_equal (pagecache_drain (pc, NULL), 0);
  pagecache_free (pc);
}

/* D18: whatever it is called by who comes first. */
TEST (who_comes_first_by_another_name_finds_the_disk_as_it_is_now)
{
  struct world world = { .canonical = "disk" };
  struct pagecache *pc = start (&world, NULL);
  struct pagecache_file *a, *b;
  struct inode *before;

  assert_int_equal (pagecache_open (pc, "disk", false, &a), 0);
  before = cache_file_inode (a);
  pagecache_close (a);
  assert_int_equal (pagecache_open (pc, "", false, &a), 0);
  assert_ptr_equal (cache_file_inode (a), before);
  assert_int_equal (world.looks, 1);
  pagecache_close (a);

  world.info.size = SIZE / 2;
  assert_int_equal (pagecache_open (pc, "", false, &a), 0);
  assert_int_equal (world.looks, 2);
  assert_int_equal (pagecache_get_info (a)->size, SIZE / 2);
  assert_int_equal (pagecache_open (pc, "disk", false, &b), 0);
  assert_ptr_equal (cache_file_inode (a), cache_file_inode (b));
  pagecache_close (a);
  pagecache_close (b);
  pagecache_free (pc);
}

static struct {
  pthread_t thread;
  struct pagecache_file *file;
  atomic_bool over;
} alias;

static void *
open_by_alias (void *arg)
{
  struct world *w = arg;

  assert_int_equal (pagecache_open (w->pc, "", false, &alias.file), 0);
  atomic_store (&alias.over, true);
  return NULL;
}

/* It has opened the origin, and would be done long before then if it did not wait. */
static void
alias_comes (struct world *w)
{
  struct clock clock = CLOCK_REAL_INIT;
  unsigned before = w->opens;
  uint64_t end_ns;

  w->meanwhile = NULL;
  assert_int_equal (pthread_create (&alias.thread, NULL, open_by_alias, w), 0);
  while (__atomic_load_n (&w->opens, __ATOMIC_ACQUIRE) == before)
    sched_yield ();
  end_ns = clock_now (&clock) + 50 * NSEC_PER_MSEC;
  while (!atomic_load (&alias.over) && clock_now (&clock) < end_ns)
    sched_yield ();
}

TEST (who_comes_by_another_name_while_the_disk_is_looked_at_waits)
{
  struct world world = { .canonical = "disk" };
  struct pagecache *pc = start (&world, NULL);
  struct pagecache_file *a;

  assert_int_equal (pagecache_open (pc, "disk", false, &a), 0);
  pagecache_close (a);
  world.meanwhile = alias_comes;
  world.info.size = SIZE / 2;
  assert_int_equal (pagecache_open (pc, "disk", false, &a), 0);
  pthread_join (alias.thread, NULL);
  assert_ptr_equal (cache_file_inode (a), cache_file_inode (alias.file));
  assert_int_equal (pagecache_get_info (a)->size, SIZE / 2);
  pagecache_close (a);
  pagecache_close (alias.file);
  pagecache_free (pc);
}

static void
note_name (void *arg, const char *line)
{
  const char *hits = strstr (line, ".hits=");

  if (hits)
    snprintf (arg, 100, "%.*s", (int) (hits - line), line);
}

TEST (counters_have_the_name_of_the_origin_or_that_of_the_client_or_that_of_the_parameters)
{
  static const struct { const char *canonical, *asked, *configured, *want; } names[] = {
    { "disk", "", "other", "disk" },
    { NULL, "asked", "other", "asked" },
    { "", NULL, "other", "other" },
    { NULL, NULL, "other", "other" },
    { NULL, NULL, "", "default" },
    { NULL, "", NULL, "default" },
    { NULL, NULL, "a\nb", "a\\x0ab" },
  };
  unsigned i;

  for (i = 0; i < PC_ARRAY_SIZE (names); i++) {
    struct world world = { .canonical = names[i].canonical, .export_name = names[i].configured };
    struct pagecache *pc = start (&world, NULL);
    struct pagecache_file *f;
    char name[100] = "";

    assert_int_equal (pagecache_open (pc, names[i].asked, false, &f), 0);
    assert_int_equal (pagecache_stats (pc, note_name, name), 0);
    assert_string_equal (name, names[i].want);
    pagecache_close (f);
    pagecache_free (pc);
  }
}

/* An origin that is away: who opens it waits for it, and in vain. */
static struct {
  _Atomic unsigned opens, asked;
  atomic_bool over;
} away;

static int
away_open (void *arg, const char *name, struct evloop *loop, struct origin **ret, char **canonical, char **why)
{
  (void) arg;
  (void) name;
  (void) loop;
  (void) ret;
  (void) canonical;
  (void) why;
  atomic_fetch_add (&away.opens, 1);
  while (!atomic_load (&away.over))
    sched_yield ();
  return ETIMEDOUT;
}

static void *
open_away (void *arg)
{
  struct worker *w = arg;
  struct pagecache_file *f;

  atomic_fetch_add (&away.asked, 1);
  w->err = pagecache_open (w->pc, "away", false, &f);
  return NULL;
}

TEST (those_who_wait_for_an_export_that_cannot_be_opened_do_not_try_one_after_the_other)
{
  struct world world = { .open = away_open };
  struct pagecache *pc = start (&world, NULL);
  struct worker w[4] = { 0 };
  unsigned i;

  for (i = 0; i < 4; i++) {
    w[i].pc = pc;
    assert_int_equal (pthread_create (&w[i].thread, NULL, open_away, &w[i]), 0);
  }
  while (atomic_load (&away.opens) < 1 || atomic_load (&away.asked) < 4)
    sched_yield ();
  /* One that was not there yet tries by itself: not all three are so late. */
  poll (NULL, 0, 50);
  atomic_store (&away.over, true);
  for (i = 0; i < 4; i++) {
    pthread_join (w[i].thread, NULL);
    assert_int_equal (w[i].err, ETIMEDOUT);
  }
  assert_true (atomic_load (&away.opens) < 4);
  pagecache_free (pc);
}

static void
tune_looking (struct pagecache_options *o)
{
  o->revalidate = PAGECACHE_REVALIDATE_INTERVAL;
  o->revalidate_ns = 10 * NSEC_PER_MSEC;
}

/* ...and that has been looked at more than once. */
static void
now_has (struct world *w, uint64_t size)
{
  unsigned before;

  __atomic_store_n (&w->info.size, size, __ATOMIC_RELEASE);
  before = __atomic_load_n (&w->looks, __ATOMIC_ACQUIRE);

  /* The second of them has begun after this, and the third after the second was over. */
  while (__atomic_load_n (&w->looks, __ATOMIC_ACQUIRE) < before + 3)
    sched_yield ();
}

TEST (an_origin_that_grew_empties_the_cache_once_and_not_at_every_look)
{
  struct world world = { 0 };
  struct pagecache *pc = start (&world, tune_looking);
  struct pagecache_file *f;
  unsigned char buf[4096];
  size_t reads;

  assert_int_equal (pagecache_open (pc, NULL, false, &f), 0);
  assert_int_equal (pagecache_read (f, buf, sizeof buf, 0), 0);
  reads = origin_mem_count (world.last, ORIGIN_READ);
  now_has (&world, 2 * SIZE);
  assert_int_equal (pagecache_read (f, buf, sizeof buf, 0), 0);
  assert_int_equal (origin_mem_count (world.last, ORIGIN_READ), ++reads);
  now_has (&world, 2 * SIZE);
  assert_int_equal (pagecache_read (f, buf, sizeof buf, 0), 0);
  assert_int_equal (origin_mem_count (world.last, ORIGIN_READ), reads);
  /* Another difference is another disk, and so it is after there was none. */
  now_has (&world, 3 * SIZE);
  assert_int_equal (pagecache_read (f, buf, sizeof buf, 0), 0);
  assert_int_equal (origin_mem_count (world.last, ORIGIN_READ), ++reads);
  now_has (&world, SIZE);
  now_has (&world, 3 * SIZE);
  assert_int_equal (pagecache_read (f, buf, sizeof buf, 0), 0);
  assert_int_equal (origin_mem_count (world.last, ORIGIN_READ), ++reads);
  pagecache_close (f);
  pagecache_free (pc);
}

static atomic_bool opened;

static void *
open_it (void *arg)
{
  struct worker *w = arg;
  struct pagecache_file *f;

  w->err = pagecache_open (w->pc, "late", false, &f);
  if (w->err == 0)
    pagecache_close (f);
  atomic_store (&opened, true);
  return NULL;
}

/* With 1 MiB for two exports the second could not be opened while the first one's pages were dirty. */
TEST (an_export_that_is_opened_waits_for_memory)
{
  struct world world = { 0 };
  struct worker w = { .pc = start (&world, NULL), .err = -1 };
  struct inode_env *env = cache_env (w.pc);
  uint64_t all;
  uint32_t frame;

  /* A frame in somebody's hand: there is hope. */
  assert_int_equal (memfile_alloc (env->mf, 1, &frame), 1);
  all = budget_free_bytes (env->budget);
  assert_int_equal (budget_take (env->budget, BUDGET_FIXED, all), 0);
  pthread_create (&w.thread, NULL, open_it, &w);
  while (atomic_load (&env->nmem_waiters) == 0 && !atomic_load (&opened))
    sched_yield ();
  budget_give (env->budget, BUDGET_FIXED, all);
  pthread_join (w.thread, NULL);
  assert_int_equal (w.err, 0);
  assert_int_equal (atomic_load (&env->nmem_waiters), 0);
  memfile_put_many (env->mf, &frame, 1);
  pagecache_free (w.pc);
}

/* Attempts to make an inode: how many there were, how many more find no memory, and how many waited for some at each. */
static atomic_uint attempts, refusals, waiters[4];

extern int __real_inode_create (struct inode_env *, struct origin *, uint32_t, const char *, struct inode **);
extern int __wrap_inode_create (struct inode_env *, struct origin *, uint32_t, const char *, struct inode **);

int
__wrap_inode_create (struct inode_env *env, struct origin *o, uint32_t id, const char *name, struct inode **ret)
{
  unsigned n = atomic_fetch_add (&attempts, 1);

  if (n < PC_ARRAY_SIZE (waiters))
    waiters[n] = atomic_load (&env->nmem_waiters);
  if (refusals == 0)
    return __real_inode_create (env, o, id, name, ret);
  refusals--;
  return ENOMEM;
}

/* A turn of the loop that sees somebody wait has all exports written out, and their origins flushed. */
TEST (who_opens_an_export_is_counted_as_waiting_for_memory_once_there_was_none)
{
  struct world world = { 0 };
  struct pagecache *pc = start (&world, NULL);
  struct inode_env *env = cache_env (pc);
  struct pagecache_file *f;
  uint32_t frame;

  attempts = 0;
  assert_int_equal (pagecache_open (pc, "at once", false, &f), 0);
  assert_int_equal (attempts, 1);
  assert_int_equal (waiters[0], 0);
  pagecache_close (f);
  attempts = 0;
  refusals = 2;
  assert_int_equal (memfile_alloc (env->mf, 1, &frame), 1);     /* there is hope */
  assert_int_equal (pagecache_open (pc, "late", false, &f), 0);
  assert_int_equal (attempts, 3);
  assert_int_equal (waiters[0], 0);
  assert_int_equal (waiters[1], 1);
  assert_int_equal (waiters[2], 1);
  assert_int_equal (atomic_load (&env->nmem_waiters), 0);
  memfile_put_many (env->mf, &frame, 1);
  pagecache_close (f);
  pagecache_free (pc);
}

TEST (who_waits_for_memory_to_open_an_export_waits_no_longer_when_the_server_ends)
{
  struct world world = { 0 };
  struct worker w = { .pc = start (&world, NULL), .err = -1 };
  struct inode_env *env = cache_env (w.pc);
  uint64_t all;
  uint32_t frame;

  assert_int_equal (memfile_alloc (env->mf, 1, &frame), 1);
  all = budget_free_bytes (env->budget);
  assert_int_equal (budget_take (env->budget, BUDGET_FIXED, all), 0);
  atomic_store (&opened, false);
  alarm (20);                   /* it would wait for a minute */
  pthread_create (&w.thread, NULL, open_it, &w);
  while (atomic_load (&env->nmem_waiters) == 0 && !atomic_load (&opened))
    sched_yield ();
  assert_false (atomic_load (&opened));
  assert_int_equal (pagecache_drain (w.pc, NULL), 0);
  pthread_join (w.thread, NULL);
  alarm (0);
  assert_int_equal (w.err, ENOMEM);
  assert_int_equal (atomic_load (&env->nmem_waiters), 0);
  budget_give (env->budget, BUDGET_FIXED, all);
  memfile_put_many (env->mf, &frame, 1);
  pagecache_free (w.pc);
}

/* Each costs metadata, and MAX_EMPTY of them are more than a small cache has. */
TEST (exports_that_nobody_uses_make_way_for_one_that_is_opened)
{
  struct world world = { 0 };
  struct pagecache *pc = start (&world, tune_tiny);
  struct pagecache_file *f;
  char name[20];
  unsigned i;

  for (i = 0; i < 300; i++) {
    snprintf (name, sizeof name, "n%u", i);
    assert_int_equal (pagecache_open (pc, name, false, &f), 0);
    pagecache_close (f);
  }
  pagecache_free (pc);
}

/* And who finds all of them in use hears of it at once. */
TEST (more_exports_in_use_than_memory_holds_are_refused)
{
  struct world world = { 0 };
  struct pagecache *pc = start (&world, tune_tiny);
  struct pagecache_file *f[300];
  char name[20];
  unsigned i;
  int err = 0;

  for (i = 0; i < 300; i++) {
    snprintf (name, sizeof name, "n%u", i);
    err = pagecache_open (pc, name, false, &f[i]);
    if (err)
      break;
  }
  assert_int_equal (err, ENOMEM);
  assert_true (i > 10);
  while (i-- > 0)
    pagecache_close (f[i]);
  pagecache_free (pc);
}

/*----------------------------------------------------------------------*/

/* An origin of which nobody asks anything. */
static struct {
  struct pagecache *pc;
  struct pagecache_file *file;
  char name[20];
  unsigned closed;
} meanwhile;

static void
bare_submit (struct origin *o, struct origin_req *req)
{
  (void) o;
  (void) req;
  abort ();
}

static unsigned
bare_depth (struct origin *o)
{
  (void) o;
  return 1;
}

static bool
bare_is_up (struct origin *o)
{
  (void) o;
  return true;
}

/* While an export is being closed to make room somebody else opens the very name that it makes room for. */
static void
bare_close (struct origin *o)
{
  if (meanwhile.closed++ == 0)
    assert_int_equal (pagecache_open (meanwhile.pc, meanwhile.name, false, &meanwhile.file), 0);
  free (o);
}

static int
bare_open (void *arg, const char *name, struct evloop *loop, struct origin **ret, char **canonical, char **why)
{
  static const struct origin_ops ops = {
    .name = "bare", .submit = bare_submit, .depth = bare_depth, .is_up = bare_is_up, .close = bare_close,
  };
  struct world *w = arg;

  (void) name;
  (void) loop;
  (void) canonical;
  (void) why;
  *ret = calloc (1, sizeof **ret);
  (*ret)->ops = &ops;
  (*ret)->info = w->info;
  return 0;
}

static void
tune_roomy (struct pagecache_options *o)
{
  o->cache_size = 512 << 20;
}

TEST (a_name_that_is_opened_twice_at_once_has_one_inode)
{
  struct world world = { 0 };
  struct pagecache *pc;
  struct pagecache_file *f;
  char name[20];
  unsigned i;

  world.open = bare_open;
  pc = start (&world, tune_roomy);
  for (i = 0; i < 1001; i++) {
    snprintf (name, sizeof name, "n%u", i);
    assert_int_equal (pagecache_open (pc, name, false, &f), 0);
    pagecache_close (f);
  }
  assert_int_equal (meanwhile.closed, 0);
  meanwhile.pc = pc;
  /* Those that write-back looks at just now do not count as unused: up to 64. */
  for (i = 0; i < 100; i++) {
    snprintf (meanwhile.name, sizeof meanwhile.name, "x%u", i);
    assert_int_equal (pagecache_open (pc, meanwhile.name, false, &f), 0);
    if (meanwhile.closed)
      break;
    pagecache_close (f);
  }
  assert_true (meanwhile.closed > 0);
  assert_ptr_equal (cache_file_inode (f), cache_file_inode (meanwhile.file));
  pagecache_close (f);
  pagecache_close (meanwhile.file);
  pagecache_free (pc);
}

static unsigned quiet_closes;

static void
quiet_close (struct origin *o)
{
  quiet_closes++;
  free (o);
}

/* One that takes no write; of the others nobody asks anything. */
static int
stuck_or_quiet_open (void *arg, const char *name, struct evloop *loop, struct origin **ret, char **canonical,
                     char **why)
{
  static const struct origin_ops ops = {
    .name = "bare", .submit = bare_submit, .depth = bare_depth, .is_up = bare_is_up, .close = quiet_close,
  };
  struct world *w = arg;
  int err;

  if (strcmp (name, "stuck") != 0) {
    err = bare_open (arg, name, loop, ret, canonical, why);
    (*ret)->ops = &ops;
    return err;
  }
  err = origin_mem_create (&w->info, ret);
  w->last = *ret;
  return err;
}

TEST (an_export_that_cannot_be_written_back_holds_up_no_other_that_may_go)
{
  struct world world = { .open = stuck_or_quiet_open };
  struct pagecache *pc = start (&world, tune_roomy);
  struct pagecache_file *f;
  char name[20];
  unsigned i;

  quiet_closes = 0;
  assert_int_equal (pagecache_open (pc, "stuck", false, &f), 0);
  origin_mem_close_door (world.last, ORIGIN_WRITE);
  assert_int_equal (pagecache_write (f, "abc", 3, 0, 0), 0);
  pagecache_close (f);
  for (i = 0; i < 1200 && quiet_closes == 0; i++) {
    snprintf (name, sizeof name, "n%u", i);
    assert_int_equal (pagecache_open (pc, name, false, &f), 0);
    pagecache_close (f);
  }
  assert_true (quiet_closes > 0);
  origin_mem_open_door (world.last, ORIGIN_WRITE);
  assert_int_equal (pagecache_drain (pc, NULL), 0);
  pagecache_free (pc);
}

#define MOST_EXPORTS 4095

/* Whoever could make way may be looked at by write-back just now: then again. */
static int
open_patiently (struct pagecache *pc, const char *name, struct pagecache_file **f)
{
  struct clock clock = CLOCK_REAL_INIT;
  uint64_t end_ns = clock_now (&clock) + 10 * NSEC_PER_SEC;
  int err;

  while ((err = pagecache_open (pc, name, false, f)) == ENOMEM && clock_now (&clock) < end_ns)
    sched_yield ();
  return err;
}

/* Each has a number, and those that nobody has open give theirs back. */
TEST (so_many_exports_can_be_open_at_once_and_not_one_more)
{
  struct world world = { .open = stuck_or_quiet_open };
  struct pagecache *pc = start (&world, tune_roomy);
  struct pagecache_file **f = calloc (MOST_EXPORTS + 1, sizeof *f);
  char name[20];
  unsigned i;

  for (i = 0; i < 900; i++) {
    snprintf (name, sizeof name, "n%u", i);
    assert_int_equal (pagecache_open (pc, name, false, &f[0]), 0);
    pagecache_close (f[0]);
  }
  for (i = 0; i < MOST_EXPORTS; i++) {
    snprintf (name, sizeof name, "x%u", i);
    assert_int_equal (open_patiently (pc, name, &f[i]), 0);
  }
  assert_int_equal (pagecache_open (pc, "y", false, &f[i]), ENOMEM);
  pagecache_close (f[7]);
  assert_int_equal (open_patiently (pc, "y", &f[7]), 0);
  for (i = 0; i < MOST_EXPORTS; i++)
    pagecache_close (f[i]);
  free (f);
  pagecache_free (pc);
}

/* Descriptors, of which there are few. */
static struct {
  unsigned free, rests;
} fds;

struct holder {
  struct origin o;
  bool holds;
};

static unsigned
holder_rest (struct origin *o)
{
  struct holder *h = container_of (o, struct holder, o);
  unsigned n = h->holds;

  fds.rests++;
  h->holds = false;
  fds.free += n;
  return n;
}

static void
holder_close (struct origin *o)
{
  struct holder *h = container_of (o, struct holder, o);

  fds.free += h->holds;
  free (h);
}

static int
holder_open (void *arg, const char *name, struct evloop *loop, struct origin **ret, char **canonical, char **why)
{
  static const struct origin_ops ops = {
    .name = "bare", .submit = bare_submit, .depth = bare_depth, .is_up = bare_is_up, .rest = holder_rest,
    .close = holder_close,
  };
  struct world *w = arg;
  struct holder *h;

  (void) name;
  (void) loop;
  (void) canonical;
  if (fds.free == 0) {
    *why = strdup ("no more files");
    return EMFILE;
  }
  fds.free--;
  h = calloc (1, sizeof *h);
  h->holds = true;
  h->o.ops = &ops;
  h->o.info = w->info;
  *ret = &h->o;
  return 0;
}

TEST (exports_that_nobody_has_open_make_way_when_descriptors_are_short)
{
  struct world world = { .open = holder_open };
  struct pagecache *pc;
  struct pagecache_file *a, *b, *c;

  fds.free = 2;
  fds.rests = 0;
  pc = start (&world, NULL);
  assert_false (pagecache_let_go (pc));
  assert_int_equal (pagecache_open (pc, "a", false, &a), 0);
  assert_int_equal (pagecache_open (pc, "b", false, &b), 0);
  /* Both are in use: the third is told so, once and without delay, and leaves nothing. */
  assert_int_equal (pagecache_open (pc, "c", false, &c), EMFILE);
  assert_false (pagecache_let_go (pc));
  assert_int_equal (fds.rests, 0);
  pagecache_close (b);
  assert_int_equal (pagecache_open (pc, "c", false, &c), 0);
  assert_int_equal (fds.rests, 1);
  /* What made way is still there, and is opened without asking. */
  assert_int_equal (pagecache_open (pc, "b", false, &b), 0);
  pagecache_close (b);
  pagecache_close (c);
  assert_true (pagecache_let_go (pc));
  assert_int_equal (fds.free, 1);
  pagecache_close (a);
  pagecache_free (pc);
  assert_int_equal (fds.free, 2);
}

/* A page has to fit into a request. */
TEST (an_origin_that_takes_less_than_a_page_is_refused)
{
  struct world world = { 0 };
  struct pagecache *pc = start (&world, NULL);
  struct pagecache_file *f;
  uint8_t buf[10];

  world.info.block_max = 4095;
  assert_int_equal (pagecache_open (pc, NULL, false, &f), EINVAL);
  world.info.block_max = 4096;
  assert_int_equal (pagecache_open (pc, NULL, false, &f), 0);
  assert_int_equal (pagecache_read (f, buf, 10, 0), 0);
  pagecache_close (f);
  pagecache_free (pc);
}

static void
tune_none (struct pagecache_options *o)
{
  o->mode = PAGECACHE_NONE;
}

/* D17: it is the writes that nobody flushed whose loss is told. */
TEST (without_a_cache_a_lost_connection_is_told_for_what_was_not_flushed_only)
{
  struct world world = { 0 };
  struct pagecache *pc = start (&world, tune_none);
  struct pagecache_file *f;

  assert_int_equal (pagecache_open (pc, NULL, false, &f), 0);
  assert_int_equal (pagecache_write (f, "abc", 3, 0, 0), 0);
  assert_int_equal (pagecache_flush (f), 0);
  origin_mem_lose (world.last, false, true);
  assert_int_equal (pagecache_flush (f), 0);
  assert_int_equal (pagecache_write (f, "abc", 3, 0, 0), 0);
  origin_mem_lose (world.last, false, true);
  assert_int_equal (pagecache_flush (f), EIO);
  assert_int_equal (pagecache_flush (f), 0);
  pagecache_close (f);
  pagecache_free (pc);
}

TEST (a_read_only_file_sends_nothing)
{
  struct world world = { 0 };
  struct pagecache *pc = start (&world, NULL);
  struct pagecache_file *f;

  assert_int_equal (pagecache_open (pc, NULL, true, &f), 0);
  assert_true (pagecache_get_info (f)->read_only);
  assert_int_equal (pagecache_write (f, "x", 1, 0, 0), EPERM);
  assert_int_equal (pagecache_zero (f, 1, 0, 0), EPERM);
  assert_int_equal (pagecache_trim (f, 1, 0, 0), EPERM);
  assert_int_equal (pagecache_flush (f), 0);
  pagecache_close (f);
  assert_int_equal (pagecache_drain (pc, NULL), 0);
  assert_int_equal (origin_mem_count (world.last, ORIGIN_WRITE) + origin_mem_count (world.last, ORIGIN_FLUSH), 0);
  pagecache_free (pc);
}

static bool heard;

static void
listen_for (void *arg, int level, const char *line)
{
  (void) arg;
  if (level == PAGECACHE_LOG_ERROR && strcmp (line, "another size") == 0)
    heard = true;
}

static void
with_listener (struct pagecache_options *o)
{
  o->log = listen_for;
}

static void
with_listener_uncached (struct pagecache_options *o)
{
  o->log = listen_for;
  o->mode = PAGECACHE_NONE;
}

TEST (an_error_is_said_however_often_connections_came_and_went)
{
  void (*const tune[]) (struct pagecache_options *) = { with_listener, with_listener_uncached };
  unsigned i, k;

  for (k = 0; k < 2; k++) {
    struct world world = { 0 };
    struct pagecache *pc = start (&world, tune[k]);
    struct pagecache_file *f;

    assert_int_equal (pagecache_open (pc, NULL, false, &f), 0);
    heard = false;
    for (i = 0; i < 2 * LOG_LIMIT_BURST; i++)
      origin_tell (world.last, PAGECACHE_LOG_WARNING, "connection lost");
    origin_tell (world.last, PAGECACHE_LOG_ERROR, "another size");
    assert_true (heard);
    pagecache_close (f);
    pagecache_free (pc);
  }
}

/* Without memory for it: in this mode none is taken. */
TEST (a_cache_has_no_more_frames_than_can_be_counted)
{
  static const struct { uint64_t size; int err; } sizes[] = {
    { PAGECACHE_SIZE_MIN - 1, EINVAL }, { PAGECACHE_SIZE_MIN, 0 }, { PAGECACHE_SIZE_MIN + 1, 0 },
    { PAGECACHE_SIZE_MAX - 1, 0 }, { PAGECACHE_SIZE_MAX, 0 }, { PAGECACHE_SIZE_MAX + 1, EINVAL },
    { UINT64_C (1) << 44, EINVAL }, { UINT64_MAX, EINVAL },
  };
  const struct cache_factory factory = { 0 };
  struct pagecache_options o;
  struct pagecache *pc;
  unsigned i;

  for (i = 0; i < PC_ARRAY_SIZE (sizes); i++) {
    pagecache_options_init (&o);
    o.mode = PAGECACHE_NONE;
    o.cache_size = sizes[i].size;
    assert_int_equal (cache_create (&o, &factory, NULL, &pc), sizes[i].err);
    if (sizes[i].err == 0)
      pagecache_free (pc);
  }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (eight_threads_read_what_they_wrote_and_all_of_it_is_durable),
    cmocka_unit_test (the_same_written_through),
    cmocka_unit_test (the_same_in_the_smallest_cache),
    cmocka_unit_test (the_same_while_connections_are_lost),
    cmocka_unit_test (the_same_written_through_while_connections_are_lost),
    cmocka_unit_test (a_name_that_fails_leaves_nothing),
    cmocka_unit_test (two_names_of_one_canonical_export_share_an_inode),
    cmocka_unit_test (who_comes_first_by_another_name_finds_the_disk_as_it_is_now),
    cmocka_unit_test (who_comes_by_another_name_while_the_disk_is_looked_at_waits),
    cmocka_unit_test (counters_have_the_name_of_the_origin_or_that_of_the_client_or_that_of_the_parameters),
    cmocka_unit_test (those_who_wait_for_an_export_that_cannot_be_opened_do_not_try_one_after_the_other),
    cmocka_unit_test (an_origin_that_grew_empties_the_cache_once_and_not_at_every_look),
    cmocka_unit_test (an_export_that_is_opened_waits_for_memory),
    cmocka_unit_test (who_opens_an_export_is_counted_as_waiting_for_memory_once_there_was_none),
    cmocka_unit_test (who_waits_for_memory_to_open_an_export_waits_no_longer_when_the_server_ends),
    cmocka_unit_test (exports_that_nobody_uses_make_way_for_one_that_is_opened),
    cmocka_unit_test (more_exports_in_use_than_memory_holds_are_refused),
    cmocka_unit_test (a_name_that_is_opened_twice_at_once_has_one_inode),
    cmocka_unit_test (an_export_that_cannot_be_written_back_holds_up_no_other_that_may_go),
    cmocka_unit_test (so_many_exports_can_be_open_at_once_and_not_one_more),
    cmocka_unit_test (a_cache_has_no_more_frames_than_can_be_counted),
    cmocka_unit_test (without_a_cache_a_lost_connection_is_told_for_what_was_not_flushed_only),
    cmocka_unit_test (exports_that_nobody_has_open_make_way_when_descriptors_are_short),
    cmocka_unit_test (an_origin_that_takes_less_than_a_page_is_refused),
    cmocka_unit_test (a_read_only_file_sends_nothing),
    cmocka_unit_test (an_error_is_said_however_often_connections_came_and_went),
  };

  cmocka_set_test_filter (getenv ("PC_TEST"));
  return cmocka_run_group_tests (tests, NULL, NULL);
}
