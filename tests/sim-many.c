/* SPDX-License-Identifier: BSD-3-Clause
 *
 * sim-many - short runs of the simulation by the hundred thousand.
 *
 * Answers: is there, among so many seeds, one whose order of events gives a wrong byte?
 *
 *   sim-many [--state FILE] [--jobs N] [--first N] SEEDS
 *   sim-many --seed N            that run alone, with its steps if PC_SIM_TRACE=1
 *
 * Here a seed decides the world as well: its size, frames, mode, kind of origin and what goes wrong.  The worlds are
 * small (a few dozen pages, a few dozen operations), because an error wants a short story, and so thousands of them
 * pass in a second.  test-sim has the long ones.
 *
 * FILE says how many seeds have passed, all runs together, and which failed; a run goes on where the last one
 * ended, also where it was interrupted.  A failing seed ends only its own process: it is said, and the rest goes on.
 *
 * Exit status 0: all passed; 1: some seed failed; 2: could not run.
 */
#include <config.h>

#include "test.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

#define BATCH 250               /* seeds of a process */
#define MAX_JOBS 64
#define LIMIT 120               /* seconds: longer is a standstill */

struct job {
  pid_t pid;
  uint64_t next, end;           /* what is left of its batch */
};

struct state {
  uint64_t next, passed, failed;
};

static _Atomic uint64_t *at;    /* by job: the seed that it runs now */

static uint64_t
mix (uint64_t *x)
{
  uint64_t z = *x += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ z >> 30) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C (0x94d049bb133111eb);
  return z ^ z >> 31;
}

static uint64_t
among (uint64_t *x, uint64_t n)
{
  return mix (x) % n;
}

static bool
one_in (uint64_t *x, uint64_t n)
{
  return among (x, n) == 0;
}

/* What goes wrong: little or much of it, so that an error is not always hidden by another. */
static void
choose_faults (struct sim_options *o, uint64_t *x)
{
  o->errors = one_in (x, 4);
  o->losses = one_in (x, 2);
  o->aways = one_in (x, 6);
  o->cancels = one_in (x, 4);
  o->nomem = one_in (x, 8);
  if (o->mode == INODE_UNSAFE) {
    o->drain = true;
    o->losses = o->aways = o->nomem = o->cancels = false;
  }
}

static struct sim_options
world_of (uint64_t seed)
{
  static const uint32_t blocks[] = { 1, 1, 1, 1, 1, 1, 512, 4096, 16384, 65536 };
  uint64_t x = seed * 2 + 1;
  struct sim_options o = { .seed = seed, .check_every = 31 };
  uint64_t unit;

  o.mode = among (&x, 8) < 5 ? INODE_WRITEBACK : one_in (&x, 3) ? INODE_UNSAFE : INODE_WRITETHROUGH;
  o.block_min = blocks[among (&x, PC_ARRAY_SIZE (blocks))];
  o.nframes = 24 + (uint32_t) among (&x, 40);
  if (o.block_min >= 16384)
    o.nframes = o.block_min == 65536 ? 160 : 96;
  o.ndisks = one_in (&x, 5) ? 2 : 1;
  unit = o.block_min > 1 ? o.block_min : 1 + among (&x, 700);
  o.size = (30000 + among (&x, 200000)) / unit * unit;
  if (o.size < unit)
    o.size = unit;
  o.steps = 150 + (unsigned) among (&x, 450);
  o.fua = !one_in (&x, 4);
  o.zero = !one_in (&x, 4);
  o.trim = !one_in (&x, 4);
  o.readahead = one_in (&x, 4) ? 32768 : 0;
  o.no_flush = one_in (&x, 10);
  if (o.no_flush)
    o.fua = false;
  if (o.block_min == 1 && one_in (&x, 10))
    o.spare = 40000;
  choose_faults (&o, &x);
  o.few = one_in (&x, 4);
  return o;
}

static void
run_one (uint64_t seed)
{
  struct sim_options o = world_of (seed);

  o.trace = getenv ("PC_SIM_TRACE") != NULL;
  alarm (LIMIT);
  sim_run (&o);
}

static void
start (struct job *j, unsigned slot)
{
  fflush (NULL);
  j->pid = fork ();
  if (j->pid < 0) {
    perror ("fork");
    exit (2);
  }
  if (j->pid == 0) {
    struct rlimit none = { 0, 0 };
    uint64_t seed;

    setrlimit (RLIMIT_CORE, &none);
    for (seed = j->next; seed < j->end; seed++) {
      atomic_store (&at[slot], seed);
      run_one (seed);
    }
    _exit (0);
  }
}

static void
load (const char *file, struct state *st)
{
  FILE *f = file ? fopen (file, "r") : NULL;
  char line[128];

  if (f == NULL)
    return;
  while (fgets (line, sizeof line, f)) {
    sscanf (line, "next %" SCNu64, &st->next);
    sscanf (line, "passed %" SCNu64, &st->passed);
    sscanf (line, "failed %" SCNu64, &st->failed);
  }
  fclose (f);
}

static void
save (const char *file, const struct state *st)
{
  char tmp[4096];
  FILE *f;

  if (file == NULL)
    return;
  snprintf (tmp, sizeof tmp, "%s.new", file);
  f = fopen (tmp, "w");
  if (f == NULL || fprintf (f, "next %" PRIu64 "\npassed %" PRIu64 "\nfailed %" PRIu64 "\n", st->next, st->passed,
                            st->failed) < 0
      || fclose (f) != 0 || rename (tmp, file) != 0) {
    perror (file);
    exit (2);
  }
}

/* A process ended: count what it did; what is left of its batch stays in j. */
static void
count (struct job *j, unsigned slot, int status, struct state *st)
{
  uint64_t seed;

  j->pid = 0;
  if (status == 0) {
    st->passed += j->end - j->next;
    j->next = j->end;
    return;
  }
  seed = atomic_load (&at[slot]);
  st->passed += seed - j->next;
  st->failed++;
  printf ("sim-many: seed %" PRIu64 " failed (%s %d); again: PC_SIM_TRACE=1 tests/sim-many --seed %" PRIu64 "\n", seed,
          WIFSIGNALED (status) ? "signal" : "exit status",
          WIFSIGNALED (status) ? WTERMSIG (status) : WEXITSTATUS (status), seed);
  j->next = seed + 1;
}

static unsigned
slot_of (const struct job *job, unsigned njobs, pid_t pid)
{
  unsigned i;

  for (i = 0; i < njobs; i++)
    if (job[i].pid == pid)
      return i;
  abort ();
}

/* Seeds from st->next to end.  Of an interrupted run, batches under way are neither counted nor done again. */
static void
run_all (uint64_t end, unsigned njobs, const char *file, struct state *st)
{
  struct job job[MAX_JOBS] = { 0 };
  uint64_t next = st->next;
  unsigned busy = 0, i;
  int status;

  for (;;) {
    struct state now;

    for (i = 0; i < njobs; i++) {
      if (job[i].pid)
        continue;
      if (job[i].next == job[i].end) {
        if (next == end)
          continue;
        job[i].next = next;
        next = job[i].end = next + BATCH < end ? next + BATCH : end;
      }
      start (&job[i], i);
      busy++;
    }
    if (busy == 0)
      break;
    i = slot_of (job, njobs, wait (&status));
    busy--;
    count (&job[i], i, status, st);
    now = *st;
    now.next = next;
    save (file, &now);
  }
  st->next = end;
  save (file, st);
}

int
main (int argc, char **argv)
{
  static const struct option options[] = {
    { "state", required_argument, NULL, 's' }, { "jobs", required_argument, NULL, 'j' },
    { "first", required_argument, NULL, 'f' }, { "seed", required_argument, NULL, 'o' }, { 0 },
  };
  struct state st = { .next = 1 }, before;
  const char *file = NULL;
  uint64_t seeds, first = 0;
  unsigned njobs = 1;
  struct timespec t0, t1;
  double took;
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (c) {
    case 's': file = optarg; break;
    case 'j': njobs = (unsigned) atoi (optarg); break;
    case 'f': first = strtoull (optarg, NULL, 0); break;
    case 'o':
      run_one (strtoull (optarg, NULL, 0));
      printf ("sim-many: seed %s passes\n", optarg);
      return 0;
    default: return 2;
    }
  if (optind + 1 != argc || njobs < 1 || njobs > MAX_JOBS)
    return 2;
  seeds = strtoull (argv[optind], NULL, 0);
  at = mmap (NULL, MAX_JOBS * sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED)
    return 2;
  load (file, &st);
  if (first)
    st.next = first;
  before = st;
  clock_gettime (CLOCK_MONOTONIC, &t0);
  run_all (st.next + seeds, njobs, file, &st);
  clock_gettime (CLOCK_MONOTONIC, &t1);
  took = (double) (t1.tv_sec - t0.tv_sec) + (double) (t1.tv_nsec - t0.tv_nsec) / 1e9;
  printf ("sim-many: seeds %" PRIu64 " to %" PRIu64 ": %" PRIu64 " passed, %" PRIu64 " failed in %.1f s (%.0f a second); "
          "with earlier runs %" PRIu64 " passed, %" PRIu64 " failed\n", before.next, st.next - 1,
          st.passed - before.passed, st.failed - before.failed, took, (double) seeds / took, st.passed, st.failed);
  return st.failed > before.failed;
}
