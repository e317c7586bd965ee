/* SPDX-License-Identifier: BSD-3-Clause
 *
 * bench-life - what does the life of a page cost, from its fill or its first write to its eviction?
 *
 * A whole cache over an origin that moves no byte: what is left is ours, and the copy to and from the client.  For
 * one client the origin answers at once; for several, from a thread of its own, so that requests overlap as they
 * do in life.  The export is sixteen times the cache: each page that comes sends another one away.
 *
 *   bench-life [CASE [MIB [THREADS]]]
 *
 * Prints processor time (all threads) and wall time a page.  Under callgrind, instructions a page: run it with MIB
 * and with 2 * MIB and divide the difference by the pages (what comes before the first eviction and the end then fall out).
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache.h"
#include "compiler.h"
#include "inode.h"

#define CACHE ((uint64_t) 64 << 20)
#define SIZE (16 * CACHE)
#define WARM (CACHE + CACHE / 4)        /* what fills the cache before anything is counted */
#define PAGE ((uint64_t) 4096)

static _Atomic uint64_t carried, requests;

/* The far side: answers at once, or one after the other from a thread. */
static struct {
  bool is_thread, end;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t more;
  struct list asked;
} far = { .lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER };

static void *
answer (void *arg PC_UNUSED)
{
  struct list_node *n;

  pthread_mutex_lock (&far.lock);
  while (!far.end) {
    n = list_pop_front (&far.asked);
    if (!n) {
      pthread_cond_wait (&far.more, &far.lock);
      continue;
    }
    pthread_mutex_unlock (&far.lock);
    list_entry (n, struct origin_req, node)->done (list_entry (n, struct origin_req, node), 0);
    pthread_mutex_lock (&far.lock);
  }
  pthread_mutex_unlock (&far.lock);
  return NULL;
}

static void
submit (struct origin *o PC_UNUSED, struct origin_req *req)
{
  atomic_fetch_add_explicit (&carried, req->len, memory_order_relaxed);
  atomic_fetch_add_explicit (&requests, req->len > 0, memory_order_relaxed);
  req->carrier = 1;
  if (!far.is_thread) {
    req->done (req, 0);
    return;
  }
  pthread_mutex_lock (&far.lock);
  list_push_back (&far.asked, &req->node);
  pthread_cond_signal (&far.more);
  pthread_mutex_unlock (&far.lock);
}

static void
far_start (bool as_thread)
{
  far.is_thread = as_thread;
  far.end = false;
  list_init (&far.asked);
  if (as_thread && pthread_create (&far.thread, NULL, answer, NULL) != 0)
    abort ();
}

static void
far_end (void)
{
  if (!far.is_thread)
    return;
  pthread_mutex_lock (&far.lock);
  far.end = true;
  pthread_cond_signal (&far.more);
  pthread_mutex_unlock (&far.lock);
  pthread_join (far.thread, NULL);
}

static unsigned
deep (struct origin *o PC_UNUSED)
{
  return 16;
}

static bool
always_up (struct origin *o PC_UNUSED)
{
  return true;
}

/* As the contract has it: no answer is being given any more. */
static void
close_origin (struct origin *o)
{
  far_end ();
  free (o);
}

static const struct origin_ops ops = {
  .name = "null", .submit = submit, .depth = deep, .is_up = always_up, .close = close_origin,
};

static const struct origin_info info = {
  .size = SIZE, .can_flush = true, .can_fua = true, .can_trim = true, .can_zero = true, .can_multi_conn = true,
  .block_min = 1, .block_pref = 4096, .block_max = 32 << 20,
};

static int
null_probe (void *arg PC_UNUSED, const char *name PC_UNUSED, struct origin_info *ret, char **why PC_UNUSED)
{
  *ret = info;
  return 0;
}

static int
null_open (void *arg PC_UNUSED, const char *name PC_UNUSED, struct evloop *loop PC_UNUSED, struct origin **ret,
           char **canonical PC_UNUSED, char **why PC_UNUSED)
{
  struct origin *o = calloc (1, sizeof *o);

  if (!o)
    return ENOMEM;
  o->ops = &ops;
  o->info = info;
  snprintf (o->name, sizeof o->name, "null");
  *ret = o;
  return 0;
}

/*----------------------------------------------------------------------*/

struct job {
  const char *name, *what;
  uint64_t len;                 /* of a request */
  bool write, random;
};

static const struct job jobs[] = {
  { "read-256k", "256 KiB reads in order", 256 << 10, false, false },
  { "read-64k", "64 KiB reads at random", 64 << 10, false, true },
  { "read-4k", "4 KiB reads at random", 4 << 10, false, true },
  { "write-256k", "256 KiB writes in order", 256 << 10, true, false },
  { "write-4k", "4 KiB writes at random", 4 << 10, true, true },
};

struct worker {
  pthread_t thread;
  const struct job *job;
  struct pagecache_file *file;
  uint64_t first, end, bytes;   /* its part of the export; how much of it to do */
  uint64_t at;                  /* where it is */
  uint8_t *buf;
};

/* Part after part, each once before one comes again: an odd step goes through a power of two. */
static void *
work (void *arg)
{
  struct worker *w = arg;
  uint64_t slots = (w->end - w->first) / w->job->len, done;

  for (done = 0; done < w->bytes; done += w->job->len) {
    uint64_t slot = w->job->random ? w->at * UINT64_C (0x9e3779b97f4a7c15) % slots : w->at % slots;
    uint64_t off = w->first + slot * w->job->len;
    int err;

    w->at++;
    if (w->job->write)
      err = pagecache_write (w->file, w->buf, w->job->len, off, 0);
    else
      err = pagecache_read (w->file, w->buf, w->job->len, off);
    if (err) {
      fprintf (stderr, "bench-life: %s at %" PRIu64 ": %s\n", w->job->name, off, strerror (err));
      exit (1);
    }
  }
  return NULL;
}

static void
run (struct worker *w, unsigned n, uint64_t bytes)
{
  for (unsigned i = 0; i < n; i++)
    w[i].bytes = bytes / n;
  for (unsigned i = 1; i < n; i++)
    if (pthread_create (&w[i].thread, NULL, work, &w[i]) != 0)
      abort ();
  work (&w[0]);
  for (unsigned i = 1; i < n; i++)
    pthread_join (w[i].thread, NULL);
}

static double
seconds (clockid_t clock)
{
  struct timespec ts;

  clock_gettime (clock, &ts);
  return (double) ts.tv_sec + (double) ts.tv_nsec * 1e-9;
}

static void
measure (const struct job *job, uint64_t bytes, unsigned nthreads)
{
  struct cache_factory factory = { .probe = null_probe, .open = null_open };
  struct worker *w = calloc (nthreads, sizeof *w);
  struct pagecache_options o;
  struct pagecache *pc;
  struct pagecache_file *file;
  double cpu, wall, pages = (double) (bytes / PAGE);
  uint64_t before, asked;

  far_start (nthreads > 1);
  pagecache_options_init (&o);
  o.cache_size = CACHE;
  o.dirty_max = CACHE / 2;
  o.dirty_background = CACHE / 10;
  o.readahead = 0;
  if (!w || cache_create (&o, &factory, NULL, &pc) != 0 || pagecache_start (pc) != 0
      || pagecache_open (pc, NULL, false, &file) != 0)
    abort ();
  for (unsigned i = 0; i < nthreads; i++) {
    w[i] = (struct worker) { .job = job, .file = file, .first = SIZE / nthreads * i, .end = SIZE / nthreads * (i + 1) };
    w[i].buf = aligned_alloc (PAGE, job->len);
    if (!w[i].buf)
      abort ();
    memset (w[i].buf, 0x5a, job->len);
  }
  run (w, nthreads, WARM);
  before = atomic_load (&carried);
  asked = atomic_load (&requests);
  wall = seconds (CLOCK_MONOTONIC);
  cpu = seconds (CLOCK_PROCESS_CPUTIME_ID);
  run (w, nthreads, bytes);
  cpu = seconds (CLOCK_PROCESS_CPUTIME_ID) - cpu;
  wall = seconds (CLOCK_MONOTONIC) - wall;
  before = atomic_load (&carried) - before;
  asked = atomic_load (&requests) - asked;
  printf ("%-11s %-24s %2u threads  %8.1f ns CPU a page  %8.1f ns wall  %6.0f MiB/s  origin: %3.0f %% in %5.1f KiB\n",
          job->name, job->what, nthreads, cpu * 1e9 / pages, wall * 1e9 / pages, pages / 256 / wall,
          100.0 * (double) before / (double) bytes, asked ? (double) before / 1024 / (double) asked : 0);
  fflush (stdout);
  for (unsigned i = 0; i < nthreads; i++)
    free (w[i].buf);
  pagecache_drain (pc, NULL);
  pagecache_close (file);
  pagecache_free (pc);
  free (w);
}

int
main (int argc, char *argv[])
{
  const char *only = argc > 1 ? argv[1] : NULL;
  uint64_t mib = argc > 2 ? strtoull (argv[2], NULL, 0) : 1024;
  unsigned nthreads = argc > 3 ? (unsigned) strtoul (argv[3], NULL, 0) : 0;
  bool found = false;

  for (size_t i = 0; i < PC_ARRAY_SIZE (jobs); i++) {
    if (only && strcmp (only, jobs[i].name) != 0)
      continue;
    found = true;
    if (nthreads)
      measure (&jobs[i], mib << 20, nthreads);
    else {
      measure (&jobs[i], mib << 20, 1);
      measure (&jobs[i], mib << 20, 16);
    }
  }
  if (!found) {
    fprintf (stderr, "usage: bench-life [CASE [MIB [THREADS]]]\n");
    return 2;
  }
  return 0;
}
