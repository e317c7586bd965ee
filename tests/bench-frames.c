/* SPDX-License-Identifier: BSD-3-Clause
 *
 * bench-frames - what does a frame cost to free and to take again?
 *
 * The run set that memfile uses, beside a segment set of used frames whose gaps are the
 * free ones (how the seeds' allocator works): the same batches freed and taken, in runs
 * and in single frames at random, with a twentieth of 1 GiB free.  Prints nanoseconds a frame
 * (freed and taken), and how many frames a run has that is handed out.  No locks, reference counts or
 * budget on either side.
 */
#include <config.h>

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "compiler.h"
#include "runset.h"
#include "segnodes.h"

#define SEGSET_NAME used
#define SEGSET_VALUE char
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_GAPS 1
#define SEGSET_MERGE(r1, v1, r2, v2, out) (*(out) = *(v1), true)
#include "segset.h"

#define FRAMES (1u << 18)
#define FREE (FRAMES / 20)
#define FRAMES_EACH 2000000

static void *
node_alloc (void *arg PC_UNUSED, size_t size)
{
  return malloc (size);
}

static void
node_free (void *arg PC_UNUSED, void *node, size_t size PC_UNUSED)
{
  free (node);
}

/* ---- Two allocators with one face ---- */

struct allocator {
  const char *name;
  void (*open) (void);
  void (*give) (const uint32_t *frames, uint32_t n);
  uint32_t (*take) (uint32_t n, uint32_t *out);
  void (*close) (void);
};

static struct runset run_set;

static void
runset_open (void)
{
  if (runset_init (&run_set, FRAMES) != 0)
    abort ();
  runset_add (&run_set, 0, FRAMES);
}

static void
runset_give (const uint32_t *frames, uint32_t n)
{
  for (uint32_t i = 0, len; i < n; i += len) {
    for (len = 1; i + len < n && frames[i + len] == frames[i] + len; len++)
      ;
    runset_add (&run_set, frames[i], len);
  }
}

static uint32_t
runset_take_all (uint32_t n, uint32_t *out)
{
  uint32_t got = 0, start, len;

  while (got < n && (len = runset_take (&run_set, n - got, 1, &start)) > 0)
    while (len-- > 0)
      out[got++] = start++;
  return got;
}

static void
runset_close (void)
{
  runset_check (&run_set);
  runset_release (&run_set);
}

static struct segset used_set;
static struct segnodes nodes;

static void
segset_open (void)
{
  segnodes_init (&nodes, SEGNODE_SIZE, node_alloc, node_free, NULL);
  used_init (&used_set, &nodes);
}

static void
segset_give (const uint32_t *frames, uint32_t n)
{
  for (uint32_t i = 0, len; i < n; i += len) {
    struct range r = { frames[i], frames[i] };

    for (len = 1; i + len < n && frames[i + len] == frames[i] + len; len++)
      ;
    r.end += len;
    if (used_reserve (&used_set, used_remove_range_inserts (&used_set, r)) != 0)
      abort ();
    used_remove_range (&used_set, r);
  }
}

static uint32_t
segset_take (uint32_t n, uint32_t *out)
{
  uint32_t got = 0, want = n;

  while (got < n && want > 0) {
    struct used_gap g = used_first_large_enough_gap (&used_set, want);
    struct range r = used_gap_ok (g) ? used_gap_range (g) : (struct range) { 0, 0 };

    if (r.end > FRAMES)
      r.end = FRAMES;
    if (r.start >= r.end || r.end - r.start < want) {
      want /= 2;
      continue;
    }
    r.end = r.start + want;
    if (used_reserve (&used_set, 1) != 0)
      abort ();
    used_insert_range (&used_set, r, 0);
    for (; r.start < r.end; r.start++)
      out[got++] = r.start;
    want = n - got < want ? n - got : want;
  }
  return got;
}

static void
segset_close (void)
{
  used_remove_all (&used_set);
  segnodes_release (&nodes);
}

static const struct allocator allocators[] = {
  { "run set", runset_open, runset_give, runset_take_all, runset_close },
  { "segment set", segset_open, segset_give, segset_take, segset_close },
};

/* ---- The bench ---- */

static double
seconds (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec + ts.tv_nsec * 1e-9;
}

static void
measure (const struct allocator *a, uint32_t batch, bool scattered)
{
  uint32_t *held = malloc (FRAMES * sizeof *held), pos = 0, nheld = FRAMES - FREE;
  uint64_t frames = 0, runs = 0;
  unsigned seed = 1;
  double began, took;

  a->open ();
  if (a->take (FRAMES, held) != FRAMES)
    abort ();
  if (scattered)
    for (uint32_t i = FRAMES - 1; i > 0; i--) {
      uint32_t j = rand_r (&seed) % (i + 1), f = held[i];

      held[i] = held[j];
      held[j] = f;
    }
  a->give (held + nheld, FREE);

  began = seconds ();
  while (frames < FRAMES_EACH) {
    if (pos + batch > nheld)
      pos = 0;
    a->give (held + pos, batch);
    if (a->take (batch, held + pos) != batch)
      abort ();
    for (uint32_t i = 0; i < batch; i++)
      runs += i == 0 || held[pos + i] != held[pos + i - 1] + 1;
    pos += batch;
    frames += batch;
  }
  took = seconds () - began;
  printf ("%-12s %-18s %3u a batch  %7.1f ns a frame  %5.1f frames a run\n", a->name,
          scattered ? "frames at random" : "runs", batch, took * 1e9 / frames,
          (double) frames / runs);
  a->close ();
  free (held);
}

int
main (void)
{
  for (int scattered = 0; scattered < 2; scattered++)
    for (uint32_t batch = 1; batch <= 256; batch *= 4)
      for (size_t i = 0; i < PC_ARRAY_SIZE (allocators); i++)
        measure (&allocators[i], batch, scattered);
  return 0;
}
