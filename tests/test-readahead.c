/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-readahead - which ranges are fetched ahead of which reads.
 *
 * First a reader to whom everything given out comes at once, and exact answers;
 * then clients, a cache without end and an origin on a simulated clock, for the
 * figures of P3, P8 and P14.
 */
#include "test.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "readahead.h"

#define KIB UINT64_C (1024)
#define MIB (KIB * KIB)
#define GIB (MIB * KIB)
#define PAGE UINT64_C (4096)
#define MS UINT64_C (1000000)
#define SEC UINT64_C (1000000000)

static uint64_t
get_random (uint64_t *seed)
{
  uint64_t z = (*seed += UINT64_C (0x9e3779b97f4a7c15));

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static uint64_t
get_seed (void)
{
  const char *s = getenv ("PC_SEED");

  return s ? strtoull (s, NULL, 0) : 1;
}

/* A cache that holds everything, at once. */
enum { ABSENT, READ, AHEAD };

struct reader {
  struct readahead ra;
  uint64_t size, now;
  uint64_t given, used;         /* bytes */
  unsigned misses;
  unsigned n;                   /* of the last read: */
  struct range out[READAHEAD_BATCH];
  uint8_t *page;
};

static void
set_up (struct reader *r, uint64_t size)
{
  const struct readahead_limits limits = {
    .size = size, .window_max = 32 * MIB, .memory = 64 * MIB,
  };

  memset (r, 0, sizeof *r);
  r->size = size;
  r->page = calloc (size / PAGE + 1, 1);
  assert_non_null (r->page);
  readahead_init (&r->ra, &limits);
}

static void
tear_down (struct reader *r)
{
  readahead_check (&r->ra);
  free (r->page);
}

/* What every range must be. */
static void
check_range (uint64_t size, struct range g)
{
  assert_true (g.start < g.end);
  assert_true (g.end <= size);
  assert_int_equal (g.start % PAGE, 0);
  assert_true (g.end % PAGE == 0 || g.end == size);
  assert_int_equal (g.start / READAHEAD_STRIPE, (g.end - 1) / READAHEAD_STRIPE);
}

static void
read_some (struct reader *r, uint64_t off, uint64_t len)
{
  struct readahead_event ev = { .off = off, .len = len, .now_ns = r->now };
  uint64_t used = 0;

  ev.what = READAHEAD_HIT;
  for (uint64_t p = off / PAGE; p * PAGE < off + len && p * PAGE < r->size;
       p++) {
    if (r->page[p] == ABSENT)
      ev.what = READAHEAD_MISS;
    else if (r->page[p] == AHEAD) {
      if (ev.what == READAHEAD_HIT)
        ev.what = READAHEAD_USED;
      used += PAGE;
    }
    r->page[p] = READ;
  }
  r->misses += ev.what == READAHEAD_MISS;
  r->used += used;
  readahead_feedback (&r->ra, used, 0);
  r->n = readahead_access (&r->ra, &ev, r->out, READAHEAD_BATCH);
  assert_true (r->n <= READAHEAD_BATCH);
  for (unsigned i = 0; i < r->n; i++) {
    check_range (r->size, r->out[i]);
    r->given += r->out[i].end - r->out[i].start;
    for (uint64_t p = r->out[i].start / PAGE; p * PAGE < r->out[i].end; p++)
      if (r->page[p] == ABSENT)
        r->page[p] = AHEAD;
  }
  r->now += MS / 10;
}

static void
assert_given (const struct reader *r, unsigned n, const struct range want[])
{
  assert_int_equal (r->n, n);
  for (unsigned i = 0; i < n; i++) {
    assert_int_equal (r->out[i].start, want[i].start);
    assert_int_equal (r->out[i].end, want[i].end);
  }
}

TEST (the_table_of_an_export_fits_8_kib)
{
  assert_true (sizeof (struct readahead) <= 8 * KIB);
  assert_true (sizeof (struct readahead_stream) <= 64);
}

TEST (the_third_4_kib_read_in_a_row_fetches_two_chunks_ahead)
{
  static const struct range third[] = { { 12 * KIB, 128 * KIB },
                                        { 128 * KIB, 256 * KIB } };
  static const struct range later[] = { { 256 * KIB, 384 * KIB } };
  struct reader r;

  set_up (&r, GIB);
  read_some (&r, 0, 4 * KIB);
  assert_int_equal (r.n, 0);
  assert_int_equal (readahead_places (&r.ra), 0);
  read_some (&r, 4 * KIB, 4 * KIB);
  assert_int_equal (r.n, 0);
  read_some (&r, 8 * KIB, 4 * KIB);
  assert_given (&r, 2, third);
  assert_int_not_equal (readahead_places (&r.ra), 0);
  for (uint64_t off = 12 * KIB; off < 124 * KIB; off += 4 * KIB) {
    read_some (&r, off, 4 * KIB);
    assert_int_equal (r.n, 0);
  }
  /* A chunk is read, the next is there, the one after it is asked for. */
  read_some (&r, 124 * KIB, 4 * KIB);
  assert_given (&r, 1, later);
  tear_down (&r);
}

TEST (sequential_reads_of_any_size_miss_three_times)
{
  static const uint64_t sizes[] = { 512, 4 * KIB, 12 * KIB, 64 * KIB,
                                    256 * KIB, MIB, 3 * MIB };

  for (unsigned k = 0; k < PC_ARRAY_SIZE (sizes); k++) {
    struct reader r;
    uint64_t off = 16 * MIB;

    set_up (&r, GIB);
    for (; off < 16 * MIB + 64 * sizes[k] * 4; off += sizes[k])
      read_some (&r, off, sizes[k]);
    assert_int_equal (r.misses, 3);
    /* Never more ahead than was read, but for the first two chunks. */
    assert_true (r.given - r.used
                 <= (off - 16 * MIB) + 2 * READAHEAD_CHUNK_MIN);
    tear_down (&r);
  }
}

TEST (the_window_is_what_the_stream_has_read)
{
  struct reader r;
  uint64_t off = 0;

  set_up (&r, GIB);
  for (; off < 64 * MIB; off += 64 * KIB) {
    uint64_t ahead, run = off + 64 * KIB, most = run, chunk = 128 * KIB;

    read_some (&r, off, 64 * KIB);
    if (off < 128 * KIB)
      continue;
    if (most < 256 * KIB)
      most = 256 * KIB;
    if (most > 8 * MIB)         /* no bandwidth x delay is known */
      most = 8 * MIB;
    while (chunk < MIB && chunk < most / 16)
      chunk *= 2;
    ahead = r.ra.stream[r.ra.last].end - run;
    assert_in_range (ahead, most > chunk ? most - chunk : 0, most);
  }
  tear_down (&r);
}

TEST (chunks_grow_with_the_window_and_are_aligned)
{
  struct reader r;

  set_up (&r, GIB);
  for (uint64_t off = 0; off < 64 * MIB; off += MIB) {
    read_some (&r, off, MIB);
    for (unsigned i = 0; i < r.n; i++) {
      uint64_t len = r.out[i].end - r.out[i].start;

      assert_in_range (len, 128 * KIB, MIB);
      assert_int_equal (r.out[i].start % len, 0);
      if (off > 16 * MIB)
        assert_int_equal (len, 512 * KIB);
    }
  }
  tear_down (&r);
}

/* What looks like a stream by chance is one: of random reads some three follow
 * each other (24 times in 8.7 million reads of these sizes).  So the bound for
 * any seed is on the sum; without neighbours and equal distances it is nothing.
 */
TEST (random_reads_fetch_nothing_but_where_three_happen_to_follow)
{
  static const uint64_t sizes[] = { 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB };
  uint64_t seed = get_seed (), given = 0, read = 0;

  print_message ("PC_SEED=%" PRIu64 "\n", seed);
  for (unsigned k = 0; k < 4 * PC_ARRAY_SIZE (sizes); k++) {
    uint64_t len = sizes[k / 4];
    struct reader r;

    set_up (&r, 4 * GIB);
    for (unsigned i = 0; i < 256 * MIB / len; i++)
      read_some (&r, get_random (&seed) % (4 * GIB / len) * len, len);
    given += r.given;
    read += 256 * MIB;
    tear_down (&r);
  }
  print_message ("%" PRIu64 " KiB of %" PRIu64 " MiB\n", given / KIB,
                 read / MIB);
  assert_true (given <= read / 400);
}

TEST (scattered_reads_fetch_nothing_at_all)
{
  struct reader r;

  /* Squares modulo a prime: no neighbours, no three at equal distances that
   * follow each other.
   */
  set_up (&r, 4 * GIB);
  for (uint64_t i = 1; i < 100000; i++)
    read_some (&r, i * i % 524287 * 2 * PAGE, PAGE);
  assert_int_equal (r.given, 0);
  tear_down (&r);
}

TEST (warm_reads_fetch_nothing)
{
  struct reader r;

  set_up (&r, 64 * MIB);
  memset (r.page, READ, 64 * MIB / PAGE);
  for (uint64_t off = 0; off < 64 * MIB; off += 64 * KIB)
    read_some (&r, off, 64 * KIB);
  assert_int_equal (r.given, 0);
  assert_int_equal (readahead_places (&r.ra), 0);
  tear_down (&r);
}

TEST (eight_interleaved_streams_are_told_apart)
{
  struct reader r;
  uint64_t seed = get_seed (), at[8];

  set_up (&r, 4 * GIB);
  for (unsigned k = 0; k < 8; k++)
    at[k] = (k * 200 + k * k * 7) * MIB;
  for (unsigned i = 0; i < 8 * 256; i++) {
    unsigned k = i < 64 ? i % 8 : (unsigned) (get_random (&seed) % 8);

    read_some (&r, at[k], 64 * KIB);
    at[k] += 64 * KIB;
  }
  assert_int_equal (r.misses, 8 * 3);
  tear_down (&r);
}

TEST (a_stream_survives_a_flood_of_random_reads)
{
  struct reader r;
  uint64_t seed = get_seed (), at = 0, misses = 0;

  set_up (&r, 4 * GIB);
  for (unsigned i = 0; i < 500; i++) {
    unsigned before = r.misses;

    read_some (&r, at, 64 * KIB);
    at += 64 * KIB;
    if (i >= 4)
      misses += r.misses - before;
    for (unsigned k = 0; i >= 4 && k < 200; k++)
      read_some (&r, 128 * MIB + get_random (&seed) % 900000 * PAGE, PAGE);
  }
  assert_int_equal (misses, 0);
  tear_down (&r);
}

/* nbdkit's 16 workers: each 16 reads come in any order. */
TEST (sixteen_workers_may_shuffle_the_reads_of_a_stream)
{
  static const uint64_t sizes[] = { 4 * KIB, 64 * KIB, 256 * KIB };
  uint64_t seed = get_seed ();

  for (unsigned k = 0; k < PC_ARRAY_SIZE (sizes); k++) {
    struct reader r;
    unsigned nstreams = 0;

    set_up (&r, GIB);
    for (uint64_t first = 0; first < 1024; first += 16) {
      unsigned left = 0xffff;

      while (left) {
        unsigned j = (unsigned) (get_random (&seed) % 16);

        if (left & 1u << j)
          read_some (&r, 256 * MIB + (first + j) * sizes[k], sizes[k]);
        left &= ~(1u << j);
      }
    }
    for (unsigned i = 0; i < READAHEAD_STREAMS; i++)
      nstreams += r.ra.stream[i].taken;
    assert_int_equal (nstreams, 1);
    assert_true (r.misses <= 20);
    tear_down (&r);
  }
}

TEST (backward_reads_are_fetched_ahead_below)
{
  static const struct range fourth[] = {
    { 64 * MIB - 384 * KIB, 64 * MIB - 256 * KIB },
    { 64 * MIB - 512 * KIB, 64 * MIB - 384 * KIB },
  };
  struct reader r;
  uint64_t off = 64 * MIB;

  set_up (&r, GIB);
  for (unsigned i = 0; i < 4; i++) {
    assert_int_equal (r.n, 0);
    off -= 64 * KIB;
    read_some (&r, off, 64 * KIB);
  }
  assert_given (&r, 2, fourth);
  while (off > 0) {
    off -= 64 * KIB;
    read_some (&r, off, 64 * KIB);
  }
  assert_int_equal (r.misses, 4);
  /* All of it once, and nothing below 0. */
  assert_int_equal (r.given, 64 * MIB - 4 * 64 * KIB);
  tear_down (&r);
}

TEST (equal_steps_fetch_the_blocks_at_the_steps_and_nothing_between)
{
  static const int64_t steps[] = { 24 * KIB, 104 * KIB, MIB, 5 * MIB,
                                   -(int64_t) MIB };

  for (unsigned k = 0; k < PC_ARRAY_SIZE (steps); k++) {
    struct reader r;
    uint64_t off = steps[k] < 0 ? 900 * MIB : 8 * KIB;

    set_up (&r, GIB);
    for (unsigned i = 0; i < 150; i++) {
      read_some (&r, off, 8 * KIB);
      off += (uint64_t) steps[k];
      for (unsigned j = 0; j < r.n; j++) {
        assert_int_equal (r.out[j].end - r.out[j].start, 8 * KIB);
        assert_int_equal ((int64_t) (r.out[j].start - off) % steps[k], 0);
      }
    }
    assert_int_equal (r.misses, 4);
    tear_down (&r);
  }
}

TEST (a_change_of_step_stops_the_fetching)
{
  struct reader r;
  uint64_t before;

  set_up (&r, GIB);
  for (uint64_t i = 0; i < 50; i++)
    read_some (&r, i * MIB, 8 * KIB);
  assert_int_not_equal (readahead_places (&r.ra), 0);
  before = r.given;
  for (uint64_t i = 0; i < 20; i++)
    read_some (&r, 200 * MIB + i * (i + 1) / 2 * MIB, 8 * KIB);
  assert_int_equal (r.given, before);
  tear_down (&r);
}

TEST (a_reader_that_leaves_out_a_little_is_followed)
{
  struct reader r;
  uint64_t seed = get_seed (), off = 0;

  set_up (&r, GIB);
  for (unsigned i = 0; i < 500; i++) {
    read_some (&r, off, 64 * KIB);
    off += 64 * KIB + get_random (&seed) % 8 * PAGE;
  }
  assert_true (r.misses <= 10);
  tear_down (&r);
}

TEST (a_reader_that_leaves_out_most_is_not)
{
  struct reader r;
  uint64_t seed = get_seed (), off = 0;

  set_up (&r, GIB);
  for (unsigned i = 0; i < 500; i++) {
    read_some (&r, off, PAGE);
    off += (2 + get_random (&seed) % 14) * PAGE;
  }
  assert_true (r.given <= 500 * PAGE / 10);     /* three steps equal by luck */
  tear_down (&r);
}

TEST (nothing_is_fetched_beyond_the_end)
{
  /* Two sizes that end within a page, one with a stripe of one byte. */
  static const uint64_t sizes[] = { 4 * MIB, 4 * MIB - 512, 4 * MIB + 1,
                                    4 * MIB + PAGE };

  for (unsigned k = 0; k < PC_ARRAY_SIZE (sizes); k++) {
    struct reader r;

    set_up (&r, sizes[k]);
    for (uint64_t off = 0; off < sizes[k]; off += 64 * KIB)
      read_some (&r, off, 64 * KIB);
    assert_int_equal (r.misses, 3);
    assert_int_equal (r.given, sizes[k] - 192 * KIB);
    read_some (&r, sizes[k], 64 * KIB);
    assert_int_equal (r.n, 0);
    tear_down (&r);

    /* Backwards from a last page that is not whole. */
    set_up (&r, sizes[k]);
    for (uint64_t off = sizes[k] & ~(PAGE - 1); off > 0; off -= PAGE)
      read_some (&r, off - PAGE, PAGE);
    assert_int_equal (r.misses, 4);
    tear_down (&r);
  }
}

TEST (off_means_off)
{
  struct readahead_limits limits = { .size = GIB, .memory = 64 * MIB };
  struct reader r;

  set_up (&r, GIB);
  readahead_set_limits (&r.ra, &limits);
  for (uint64_t off = 0; off < 8 * MIB; off += 64 * KIB)
    read_some (&r, off, 64 * KIB);
  assert_int_equal (r.given, 0);
  tear_down (&r);
}

TEST (windows_of_all_streams_stay_within_memory)
{
  struct reader r;
  struct readahead_limits limits = { .size = 16 * GIB, .window_max = 32 * MIB,
                                     .memory = 8 * MIB };

  set_up (&r, 16 * GIB);
  readahead_set_limits (&r.ra, &limits);
  for (uint64_t i = 0; i < 100; i++)
    for (uint64_t k = 0; k < 16; k++) {
      uint64_t ahead = 0;

      read_some (&r, k * GIB + k * k * MIB + i * 256 * KIB, 256 * KIB);
      for (unsigned s = 0; s < READAHEAD_STREAMS; s++)
        if (r.ra.stream[s].taken)
          ahead += r.ra.stream[s].end - r.ra.pos[s];
      assert_true (ahead <= 8 * MIB);
    }
  assert_true (r.misses <= 4 * 16);
  tear_down (&r);
}

TEST (a_tiny_cache_gets_a_tiny_window)
{
  struct reader r;
  struct readahead_limits limits = { .size = GIB, .window_max = 128 * KIB,
                                     .memory = 256 * KIB };

  set_up (&r, GIB);
  readahead_set_limits (&r.ra, &limits);
  for (uint64_t off = 0; off < 16 * MIB; off += 4 * KIB) {
    read_some (&r, off, 4 * KIB);
    assert_true (r.ra.stream[r.ra.last].end - r.ra.pos[r.ra.last]
                 <= 128 * KIB);
  }
  assert_true (r.given > 15 * MIB);
  tear_down (&r);
}

TEST (waste_shrinks_the_windows_of_short_runs_to_nothing)
{
  struct reader r;
  uint64_t before;

  set_up (&r, 4 * GIB);
  /* A near, slow origin: BDP 12 KiB. */
  for (unsigned i = 0; i < 1000; i++)
    readahead_done (&r.ra, 128 * KIB, MS, i * MS);
  for (unsigned i = 0; i < 1000; i++)
    readahead_done (&r.ra, 4 * KIB, MS / 10, SEC + i * MS / 10 * 4);
  /* Runs of three reads and nothing more. */
  for (uint64_t i = 0; i < 100; i++) {
    for (uint64_t k = 0; k < 3; k++)
      read_some (&r, i * 32 * MIB + k * PAGE, PAGE);
    readahead_feedback (&r.ra, 0, 240 * KIB);
  }
  before = r.given;
  assert_true (before < 30 * 256 * KIB);
  for (uint64_t i = 0; i < 50; i++)
    for (uint64_t k = 0; k < 3; k++)
      read_some (&r, i * 32 * MIB + 8 * MIB + k * PAGE, PAGE);
  assert_int_equal (r.given, before);
  /* A long run is still followed, and mends the name of all. */
  for (uint64_t k = 0; k < 2000; k++)
    read_some (&r, 20 * MIB + k * 16 * KIB, 16 * KIB);
  assert_true (r.misses < 3 * 150 + 200);
  assert_true (r.ra.accuracy > 900);
  tear_down (&r);
}

TEST (what_was_given_out_and_lost_halves_the_run)
{
  struct reader r;
  uint64_t run;

  set_up (&r, GIB);
  for (uint64_t off = 0; off < 4 * MIB; off += 64 * KIB)
    read_some (&r, off, 64 * KIB);
  run = r.ra.stream[r.ra.last].run;
  assert_int_equal (run, 4 * MIB);
  memset (r.page + 4 * MIB / PAGE, ABSENT, 64 * MIB / PAGE);
  read_some (&r, 4 * MIB, 64 * KIB);
  assert_int_equal (r.ra.stream[r.ra.last].run, (4 * MIB + 64 * KIB) / 2);
  assert_true (r.n > 0);
  assert_int_equal (r.out[0].start, 4 * MIB + 64 * KIB);
  tear_down (&r);
}

TEST (a_declined_range_is_given_out_again)
{
  struct reader r;
  struct range first;

  set_up (&r, GIB);
  for (uint64_t off = 0; off < 192 * KIB; off += 64 * KIB)
    read_some (&r, off, 64 * KIB);
  assert_int_equal (r.n, 2);
  first = r.out[0];
  readahead_declined (&r.ra, r.out[1]);
  readahead_declined (&r.ra, first);
  readahead_declined (&r.ra, (struct range) { 512 * MIB, 513 * MIB });
  read_some (&r, 192 * KIB, 64 * KIB);
  assert_true (r.n > 0);
  assert_int_equal (r.out[0].start, 256 * KIB);
  tear_down (&r);
}

TEST (ranges_that_do_not_fit_the_callers_array_come_later)
{
  struct readahead ra;
  const struct readahead_limits limits = { .size = GIB, .window_max = 32 * MIB,
                                           .memory = 64 * MIB };
  struct range out[1];
  uint64_t next = 3 * MIB;

  readahead_init (&ra, &limits);
  for (uint64_t i = 0; i < 12; i++) {
    struct readahead_event ev = { .off = i * MIB, .len = MIB,
                                  .what = i < 3 ? READAHEAD_MISS
                                                : READAHEAD_USED };
    unsigned n = readahead_access (&ra, &ev, out, 1);

    assert_int_equal (n, i >= 2 && next < (i + 1) * MIB + 8 * MIB);
    if (n) {
      if (out[0].start != next)
        assert_int_equal (out[0].start, (i + 1) * MIB);
      next = out[0].end;
    }
  }
  readahead_check (&ra);
}

TEST (a_reset_forgets_everything)
{
  struct reader r;

  set_up (&r, GIB);
  for (uint64_t off = 0; off < 8 * MIB; off += 64 * KIB)
    read_some (&r, off, 64 * KIB);
  readahead_reset (&r.ra);
  assert_int_equal (readahead_places (&r.ra), 0);
  memset (r.page, ABSENT, GIB / PAGE);
  read_some (&r, 8 * MIB, 64 * KIB);
  assert_int_equal (r.n, 0);
  tear_down (&r);
}

TEST (neighbours_with_others_between_are_no_row)
{
  struct reader r;

  set_up (&r, GIB);
  read_some (&r, 512 * KIB, PAGE);
  read_some (&r, 516 * KIB, PAGE);
  read_some (&r, 100 * KIB, PAGE);
  read_some (&r, 520 * KIB, PAGE);
  assert_int_equal (r.given, 0);
  read_some (&r, 524 * KIB, PAGE);
  assert_true (r.given > 0);
  /* And what lay near before is not part of the run. */
  assert_int_equal (r.ra.stream[r.ra.last].run, 3 * PAGE);
  tear_down (&r);
}

/* An origin next door is known: 100 us, 1 GiB/s; twice their product is less than the least that counts. */
static void
see_a_near_origin (struct reader *r)
{
  for (unsigned i = 0; i < 200; i++) {
    r->now += MS;
    readahead_done (&r->ra, MIB, MS / 10, r->now);
  }
}

/* The client's reads of len come in fours, the last of each first. */
static void
read_shuffled (struct reader *r, uint64_t off, uint64_t end, uint64_t len)
{
  for (; off < end; off += 4 * len)
    for (unsigned i = 4; i-- > 0;)
      read_some (r, off + i * len, len);
}

TEST (reads_that_overtake_each_other_by_enough_need_nothing_ahead)
{
  uint64_t before;
  struct reader r;

  set_up (&r, GIB);
  see_a_near_origin (&r);
  read_shuffled (&r, 0, 16 * MIB, 256 * KIB);
  before = r.given;
  read_shuffled (&r, 16 * MIB, 64 * MIB, 256 * KIB);
  assert_int_equal (r.given, before);

  /* One after the other again: after a while they are helped. */
  for (uint64_t off = 64 * MIB; off < 128 * MIB; off += 256 * KIB)
    read_some (&r, off, 256 * KIB);
  assert_true (r.given > before);
  tear_down (&r);
}

TEST (at_a_near_origin_256_kib_that_wait_are_enough)
{
  struct readahead_event ev = { .len = 64 * KIB, .what = READAHEAD_MISS };
  struct reader r;

  set_up (&r, GIB);
  see_a_near_origin (&r);
  for (; ev.off < 4 * MIB; ev.off += ev.len) {
    ev.now_ns = r.now += MS / 10;
    ev.demand_bytes = 256 * KIB + 1;
    assert_int_equal (readahead_access (&r.ra, &ev, r.out, READAHEAD_BATCH), 0);
  }
  ev.demand_bytes = 256 * KIB;
  assert_true (readahead_access (&r.ra, &ev, r.out, READAHEAD_BATCH) > 0);
  tear_down (&r);
}

TEST (reads_that_overtake_each_other_by_little_are_fetched_ahead)
{
  struct reader r;

  set_up (&r, GIB);
  see_a_near_origin (&r);
  read_shuffled (&r, 0, 16 * MIB, 16 * KIB);
  assert_true (r.given > 14 * MIB);
  tear_down (&r);
}

TEST (a_read_that_lies_behind_by_chance_stops_nothing)
{
  uint64_t off, before;
  struct reader r;

  set_up (&r, GIB);
  see_a_near_origin (&r);
  for (off = 512 * KIB; off < 1280 * KIB; off += 64 * KIB)
    read_some (&r, off, 64 * KIB);
  before = r.given;
  read_some (&r, 320 * KIB, 64 * KIB);
  for (; off < 2 * MIB; off += 64 * KIB)
    read_some (&r, off, 64 * KIB);
  assert_true (r.given > before);
  tear_down (&r);
}

TEST (the_clients_own_queue_is_no_round_trip)
{
  struct readahead_event ev = { .len = 256 * KIB, .what = READAHEAD_MISS, .demand_bytes = 16 * MIB };
  struct reader r;

  set_up (&r, GIB);
  see_a_near_origin (&r);
  for (unsigned i = 0; i < 2000; i++) {
    ev.now_ns = r.now += MS;
    readahead_access (&r.ra, &ev, r.out, READAHEAD_BATCH);
    ev.off += ev.len;
    readahead_done (&r.ra, ev.len, 10 * MS, r.now);
  }
  assert_int_equal (r.ra.rtt_ns, MS / 10);

  /* Without one it may have become longer. */
  r.now += 2 * SEC;
  for (unsigned i = 0; i < 2000; i++)
    readahead_done (&r.ra, 64 * KIB, 10 * MS, r.now += MS);
  assert_true (r.ra.rtt_ns > 9 * MS);
  tear_down (&r);
}

TEST (a_stream_that_comes_to_warm_pages_fetches_nothing_there)
{
  struct reader r;
  uint64_t before;

  set_up (&r, GIB);
  memset (r.page + 8 * MIB / PAGE, READ, 64 * MIB / PAGE);
  for (uint64_t off = 0; off < 8 * MIB; off += 64 * KIB)
    read_some (&r, off, 64 * KIB);
  before = r.given;
  for (uint64_t off = 8 * MIB; off < 72 * MIB; off += 64 * KIB) {
    read_some (&r, off, 64 * KIB);
    if (off < 17 * MIB)
      before = r.given;         /* what was given before lies here */
  }
  assert_int_equal (r.given, before);
  /* It is the same stream where they end: one miss. */
  before = r.misses;
  for (uint64_t off = 72 * MIB; off < 80 * MIB; off += 64 * KIB)
    read_some (&r, off, 64 * KIB);
  assert_int_equal (r.misses, before + 1);
  tear_down (&r);
}

TEST (an_open_stream_that_grows_sparse_is_shut)
{
  struct reader r;
  uint64_t seed = get_seed (), off = 0;

  set_up (&r, GIB);
  for (; off < 2 * MIB; off += 16 * KIB)
    read_some (&r, off, 16 * KIB);
  assert_int_not_equal (readahead_places (&r.ra), 0);
  for (unsigned i = 0; i < 400; i++) {
    read_some (&r, off, PAGE);
    off += (5 + get_random (&seed) % 11) * PAGE;
  }
  /* Three steps may be equal by chance: that is another reason to be open. */
  for (unsigned i = 0; i < READAHEAD_STREAMS; i++)
    assert_true (!r.ra.stream[i].open || r.ra.stream[i].strided);
  tear_down (&r);
}

TEST (steps_that_were_given_out_and_lost_start_small_again)
{
  struct reader r;

  set_up (&r, GIB);
  for (uint64_t i = 0; i < 50; i++)
    read_some (&r, i * MIB, 8 * KIB);
  assert_true (r.ra.stream[r.ra.last].steps > 40);
  memset (r.page, ABSENT, GIB / PAGE);
  read_some (&r, 50 * MIB, 8 * KIB);
  assert_int_equal (r.ra.stream[r.ra.last].steps, 1);
  assert_int_equal (r.n, 2);
  assert_int_equal (r.out[0].start, 51 * MIB);
  tear_down (&r);
}

TEST (steps_end_with_the_export)
{
  for (unsigned back = 0; back < 2; back++) {
    struct reader r;

    set_up (&r, 64 * MIB + 8 * KIB);
    for (uint64_t i = 0; i <= 64; i++)
      read_some (&r, (back ? 64 - i : i) * MIB, 8 * KIB);
    assert_int_equal (r.misses, 4);
    assert_int_equal (r.given, (65 - 4) * 8 * KIB);
    tear_down (&r);
  }
}

TEST (another_size_begins_anew)
{
  struct reader r;
  struct readahead_limits limits;

  set_up (&r, GIB);
  for (uint64_t off = 0; off < 8 * MIB; off += 64 * KIB)
    read_some (&r, off, 64 * KIB);
  limits = r.ra.limits;
  limits.memory = 32 * MIB;
  readahead_set_limits (&r.ra, &limits);
  assert_int_not_equal (readahead_places (&r.ra), 0);
  limits.size /= 2;
  readahead_set_limits (&r.ra, &limits);
  assert_int_equal (readahead_places (&r.ra), 0);
  tear_down (&r);
}

TEST (a_stream_left_for_two_seconds_gives_up_its_share)
{
  struct reader r;

  set_up (&r, GIB);
  for (uint64_t k = 0; k < 8; k++)
    for (uint64_t off = 0; off < MIB; off += 64 * KIB)
      read_some (&r, k * 100 * MIB + off, 64 * KIB);
  r.now += 3 * SEC;
  for (uint64_t off = MIB; off < 32 * MIB; off += 64 * KIB)
    read_some (&r, 700 * MIB + off, 64 * KIB);
  for (unsigned i = 0; i < READAHEAD_STREAMS; i++)
    assert_true (!r.ra.stream[i].open || i == r.ra.last);
  tear_down (&r);
}

TEST (any_reads_whatever_keep_the_invariants)
{
  struct reader r;
  uint64_t seed = get_seed (), at = 0;

  print_message ("PC_SEED=%" PRIu64 "\n", seed);
  set_up (&r, 64 * MIB + 1234);
  for (unsigned i = 0; i < 200000; i++) {
    uint64_t len = 1 + get_random (&seed) % (256 * KIB);

    switch (get_random (&seed) % 8) {
    case 0:
      at = get_random (&seed) % r.size;
      break;
    case 1:
      at = at > len ? at - len : 0;
      break;
    case 2:
      at += get_random (&seed) % (64 * KIB);
      break;
    case 3:
      if (r.n > 0)
        readahead_declined (&r.ra, r.out[get_random (&seed) % r.n]);
      break;
    case 4:
      memset (r.page, ABSENT, r.size / PAGE + 1);
      break;
    case 5:
      readahead_done (&r.ra, len, get_random (&seed) % (20 * MS), r.now);
      break;
    case 6:
      r.now += get_random (&seed) % SEC;
      break;
    default:
      break;
    }
    if (at >= r.size)
      at = 0;
    if (len > r.size - at)
      len = r.size - at;
    read_some (&r, at, len);
    at += len;
    readahead_check (&r.ra);
  }
  tear_down (&r);
}

/* Readers of every kind in a large export, and hits anywhere. */
static void
read_this_and_that (struct reader *r, uint64_t *pos, uint64_t *seed)
{
  uint64_t len = PAGE << get_random (seed) % 6;

  switch (get_random (seed) % 4) {
  case 0:                       /* forward, shuffled a little */
    read_some (r, (pos[0] += len) + get_random (seed) % 4 * len, len);
    break;
  case 1:
    pos[1] -= 64 * KIB;
    read_some (r, pos[1], 64 * KIB);
    break;
  case 2:                       /* by steps that leave a region out */
    read_some (r, pos[2] += 40 * MIB, 64 * KIB);
    if (pos[2] > 7 * GIB)
      pos[2] = GIB + get_random (seed) % GIB;
    break;
  default:
    read_some (r, get_random (seed) % (8 * GIB - MIB), len);
  }
}

TEST (a_hit_that_may_not_follow_is_no_news)
{
  uint64_t seed = get_seed (), pos[3] = { 2 * GIB, 6 * GIB, GIB }, told = 0, left_out = 0;
  struct reader r;

  print_message ("PC_SEED=%" PRIu64 "\n", seed);
  set_up (&r, 8 * GIB);
  for (unsigned i = 0; i < 40000; i++) {
    struct readahead_event hit = { .what = READAHEAD_HIT, .now_ns = r.now };
    struct readahead before = r.ra, after;
    bool may;

    hit.len = PAGE << get_random (&seed) % 14;
    switch (get_random (&seed) % 3) {
    case 0:
      hit.off = get_random (&seed) % (8 * GIB - 32 * MIB);
      break;
    case 1:
      hit.off = i % 2 ? pos[get_random (&seed) % 2] : pos[2] + 40 * MIB;
      break;
    default:
      hit.off = pos[get_random (&seed) % 3] + get_random (&seed) % (16 * MIB) - 8 * MIB;
    }
    hit.off &= ~(PAGE - 1);
    may = readahead_may_follow (readahead_places (&r.ra), hit.off, hit.len);
    if (may)
      told++;
    else {
      left_out++;
      after = before;
      assert_int_equal (readahead_access (&after, &hit, r.out, READAHEAD_BATCH), 0);
      assert_memory_equal (after.stream, before.stream, sizeof before.stream);
      assert_memory_equal (after.pos, before.pos, sizeof before.pos);
      assert_int_equal (after.last, before.last);
    }
    read_this_and_that (&r, pos, &seed);
    readahead_check (&r.ra);
  }
  print_message ("%" PRIu64 " told, %" PRIu64 " left out\n", told, left_out);
  assert_true (told > 1000);
  assert_true (left_out > 10000);
  tear_down (&r);
}

TEST (hits_are_told_no_longer_when_a_stream_has_no_reader)
{
  struct reader r;

  set_up (&r, GIB);
  for (uint64_t off = 0; off < 64 * MIB; off += 64 * KIB)
    read_some (&r, off, 64 * KIB);
  assert_true (readahead_may_follow (readahead_places (&r.ra), 64 * MIB, 64 * KIB));
  assert_false (readahead_may_follow (readahead_places (&r.ra), 512 * MIB, 64 * KIB));
  r.now += 3 * SEC;
  read_some (&r, 60 * MIB, 4 * KIB);
  read_some (&r, 512 * MIB, 4 * KIB);
  assert_int_equal (readahead_places (&r.ra), 0);

  /* Its reader comes back to what was fetched ahead. */
  read_some (&r, 64 * MIB, 64 * KIB);
  assert_true (readahead_may_follow (readahead_places (&r.ra), 64 * MIB + 64 * KIB, 64 * KIB));
  tear_down (&r);
}

/* Scans.  A cache of 64 MiB; reads of 256 KiB that are not there, while `demand' bytes of others wait. */
#define SCAN (64 * MIB)
#define SCAN_LEN (256 * KIB)

static void
set_up_scan (struct reader *r, uint64_t scan)
{
  struct readahead_limits limits = { .size = 64 * GIB, .window_max = 32 * MIB, .memory = 16 * MIB, .scan = scan };

  memset (r, 0, sizeof *r);
  r->now = SEC;
  readahead_init (&r->ra, &limits);
  readahead_done (&r->ra, SCAN_LEN, MS / 10, r->now);
}

static void
scan_read (struct reader *r, uint64_t off, uint64_t demand, bool shared)
{
  struct readahead_event ev = {
    .off = off, .len = SCAN_LEN, .what = READAHEAD_MISS, .demand_bytes = demand, .now_ns = r->now,
    .bypass = readahead_is_scan (&r->ra), .shared = shared,
  };

  r->n = readahead_access (&r->ra, &ev, r->out, READAHEAD_BATCH);
  r->now += MS / 10;
  readahead_check (&r->ra);
}

/* In order from off on, until it is taken for a scan; how much that took. */
static uint64_t
scan_from (struct reader *r, uint64_t off, uint64_t most)
{
  uint64_t n = 0;

  while (n < most && !readahead_is_scan (&r->ra)) {
    scan_read (r, off + n, 8 * MIB, false);
    n += SCAN_LEN;
  }
  return n;
}

TEST (a_scan_is_what_is_longer_than_the_cache)
{
  struct reader r;

  set_up_scan (&r, SCAN);
  for (uint64_t off = 0; r.ra.scanned < SCAN; off += SCAN_LEN) {
    scan_read (&r, off, 8 * MIB, false);
    assert_false (readahead_is_scan (&r.ra));
    assert_true (off <= SCAN + MIB);
  }
  assert_int_equal (r.ra.scanned, SCAN);
  scan_read (&r, r.ra.pos[r.ra.last], 8 * MIB, false);
  assert_true (readahead_is_scan (&r.ra));
  assert_int_equal (r.n, 0);
}

TEST (without_a_limit_nothing_is_a_scan)
{
  struct reader r;

  set_up_scan (&r, 0);
  assert_int_equal (scan_from (&r, 0, 8 * SCAN), 8 * SCAN);
}

TEST (several_readers_in_order_are_a_scan_together)
{
  struct reader r;
  uint64_t n;

  set_up_scan (&r, SCAN);
  for (n = 0; n < 2 * SCAN && !readahead_is_scan (&r.ra); n += SCAN_LEN)
    scan_read (&r, n / SCAN_LEN % 4 * GIB + n / 4 / SCAN_LEN * SCAN_LEN, 8 * MIB, false);
  assert_true (n > SCAN && n <= SCAN + 4 * MIB);
}

TEST (who_waits_for_each_answer_is_no_scan)
{
  struct reader r;

  set_up_scan (&r, SCAN);
  for (uint64_t off = 0; off < 4 * SCAN; off += SCAN_LEN)
    scan_read (&r, off, 0, false);
  assert_false (readahead_is_scan (&r.ra));
}

/* A scan whose client has less under way than the way to the origin holds, and not only now and then, is read ahead for
 * again, and kept.
 */
TEST (a_scan_ends_with_its_client_s_queue)
{
  struct reader r;
  uint64_t off = 0, enough;

  set_up_scan (&r, SCAN);
  for (unsigned i = 0; i < 400; i++)    /* about 2.5 GiB/s, 1 ms */
    readahead_done (&r.ra, SCAN_LEN, MS, r.now += MS / 10);
  r.ra.rtt_ns = MS;
  enough = (r.ra.rate >> 10) * (MS >> 10) / (SEC >> 20);
  assert_true (enough > MIB && enough < 4 * MIB);
  off = scan_from (&r, 0, 2 * SCAN);
  for (unsigned i = 0; i < 200; i++, off += SCAN_LEN) {
    scan_read (&r, off, i % 2 ? enough : enough + 1, false);
    assert_true (readahead_is_scan (&r.ra));
    assert_int_equal (r.n, 0);
  }
  for (unsigned i = 0; i < 100; i++, off += SCAN_LEN)
    scan_read (&r, off, enough + 1, false);
  for (unsigned i = 1; i < 16 * MIB / SCAN_LEN; i++, off += SCAN_LEN) {
    scan_read (&r, off, enough, false);
    assert_true (readahead_is_scan (&r.ra));
    assert_int_equal (r.n, 0);
  }
  scan_read (&r, off, enough, false);
  assert_false (readahead_is_scan (&r.ra));
  assert_true (r.n > 0);
}

TEST (reads_here_and_there_are_no_scan)
{
  uint64_t seed = get_seed ();
  struct reader r;

  print_message ("PC_SEED=%" PRIu64 "\n", seed);
  set_up_scan (&r, SCAN);
  for (unsigned i = 0; i < 4096; i++)
    scan_read (&r, get_random (&seed) % (60 * GIB) / PAGE * PAGE, 8 * MIB, false);
  assert_true (r.ra.scanned < SCAN / 8);
  assert_false (readahead_is_scan (&r.ra));
}

TEST (after_a_second_of_quiet_it_begins_anew)
{
  struct reader r;
  uint64_t off;

  set_up_scan (&r, SCAN);
  off = scan_from (&r, 0, 2 * SCAN);
  r.now += SEC - MS;
  scan_read (&r, off, 8 * MIB, false);
  assert_true (readahead_is_scan (&r.ra));
  r.now += SEC + MS;
  scan_read (&r, off + SCAN_LEN, 8 * MIB, false);
  assert_false (readahead_is_scan (&r.ra));
  assert_int_equal (r.ra.scanned, SCAN_LEN);
}

/* A second reader, so much behind: what it wants was not kept.  Twice as much has to be read then. */
TEST (a_scan_that_has_ended_takes_nothing_from_who_reads_in_steps)
{
  struct reader r;

  set_up_scan (&r, SCAN);
  scan_from (&r, 0, 2 * SCAN);
  assert_true (readahead_is_scan (&r.ra));
  r.now += 3600 * SEC;
  for (unsigned i = 0; i < 8; i++)
    scan_read (&r, 32 * GIB + i * 16 * MIB, 0, false);
  assert_true (r.n > 0);
  assert_false (readahead_is_scan (&r.ra));
}

/* At 10 ms and 4 KiB a read the 16 MiB of slack are 40 s. */
TEST (who_waits_for_each_answer_is_read_ahead_for_once_the_scan_is_over)
{
  struct reader r;
  uint64_t off, end;

  set_up_scan (&r, SCAN);
  for (off = 0; off < 2 * SCAN; off += SCAN_LEN)
    scan_read (&r, off, 8 * MIB, false);
  assert_true (readahead_is_scan (&r.ra));
  end = r.now + SEC;
  for (off = 32 * GIB; r.n == 0 && r.now <= end; off += 4 * KIB, r.now += 10 * MS) {
    struct readahead_event ev = { .off = off, .len = 4 * KIB, .what = READAHEAD_MISS, .now_ns = r.now };

    assert_true (readahead_is_scan (&r.ra));
    r.n = readahead_access (&r.ra, &ev, r.out, READAHEAD_BATCH);
  }
  assert_true (r.n > 0 && r.now >= end);
  assert_false (readahead_is_scan (&r.ra));
}

TEST (what_is_read_again_shortly_was_no_scan)
{
  struct reader r;
  uint64_t ahead, behind = 0, first, n;

  set_up_scan (&r, SCAN);
  first = scan_from (&r, 0, 2 * SCAN);
  for (ahead = first; ahead < first + SCAN / 2; ahead += SCAN_LEN)
    scan_read (&r, ahead, 8 * MIB, false);
  assert_true (readahead_is_scan (&r.ra));
  for (behind = first; readahead_is_scan (&r.ra); behind += SCAN_LEN, ahead += SCAN_LEN) {
    scan_read (&r, ahead, 8 * MIB, false);
    scan_read (&r, behind, 8 * MIB, false);
    assert_true (behind < first + SCAN / 2);
  }
  n = scan_from (&r, 32 * GIB, 8 * SCAN);
  assert_true (n > 2 * SCAN && n <= 2 * SCAN + 2 * MIB);
}

/* Many that were under way together are one wrong guess. */
/* Files of 4 MiB, read in order by many at once and without a pause: three of four reads are of a few that are wanted again,
 * and these change once.  What else is read goes past; they must come back into the cache, of which they need half.
 */
enum { NFILES = 1024, NWANTED = 8, FILE_READS = 16 };

struct shelf {
  uint64_t used[NFILES], kept, reads;
  uint16_t have[NFILES];        /* bits: which reads of it would be hits */
};

static void
make_room (struct shelf *s, unsigned but)
{
  while (s->kept > SCAN) {
    unsigned old = NFILES;

    for (unsigned i = 0; i < NFILES; i++)
      if (s->have[i] && i != but && (old == NFILES || s->used[i] < s->used[old]))
        old = i;
    s->kept -= (uint64_t) __builtin_popcount (s->have[old]) * SCAN_LEN;
    s->have[old] = 0;
  }
}

static unsigned
read_file (struct reader *r, struct shelf *s, unsigned f)
{
  unsigned hits = 0;

  s->used[f] = ++s->reads;
  for (unsigned k = 0; k < FILE_READS; k++) {
    struct readahead_event ev = { .off = f * 4 * MIB + k * SCAN_LEN, .len = SCAN_LEN, .demand_bytes = 8 * MIB, .now_ns = r->now };
    bool hit = s->have[f] >> k & 1;

    ev.what = hit ? READAHEAD_HIT : READAHEAD_MISS;
    ev.bypass = !hit && readahead_is_scan (&r->ra);
    readahead_access (&r->ra, &ev, r->out, READAHEAD_BATCH);
    r->now += MS / 10;
    hits += hit;
    if (!hit && !ev.bypass) {
      s->have[f] |= (uint16_t) (1 << k);
      s->kept += SCAN_LEN;
      make_room (s, f);
    }
  }
  return hits;
}

TEST (what_many_want_again_comes_back_into_the_cache)
{
  static struct shelf s;
  uint64_t seed = get_seed (), hits = 0;
  bool scanned = false;
  struct reader r;

  print_message ("PC_SEED=%" PRIu64 "\n", seed);
  memset (&s, 0, sizeof s);
  set_up_scan (&r, SCAN);
  for (unsigned i = 0; i < 4000; i++) {
    unsigned wanted = (unsigned) (get_random (&seed) % NWANTED) * 100 + (i >= 1000);
    unsigned f = get_random (&seed) % 4 ? wanted : (unsigned) (get_random (&seed) % NFILES);
    unsigned n = read_file (&r, &s, f);

    scanned = scanned || readahead_is_scan (&r.ra);
    hits += i >= 2000 ? n : 0;
  }
  print_message ("%u %% hits\n", (unsigned) (100 * hits / (2000 * FILE_READS)));
  assert_true (scanned);
  assert_true (hits >= 60 * 2000 * FILE_READS / 100);
}

TEST (what_another_one_waits_for_was_no_scan)
{
  struct reader r;
  uint64_t off, n;

  set_up_scan (&r, SCAN);
  off = scan_from (&r, 0, 2 * SCAN);
  scan_read (&r, off, 8 * MIB, true);
  assert_false (readahead_is_scan (&r.ra));
  assert_int_equal (r.ra.scanned, 0);
  for (unsigned i = 0; i < 16; i++)
    scan_read (&r, off += SCAN_LEN, 8 * MIB, true);
  n = scan_from (&r, 32 * GIB, 8 * SCAN);
  assert_true (n > 2 * SCAN && n <= 2 * SCAN + 2 * MIB);
}

TEST (doubt_has_an_end)
{
  struct reader r;
  uint64_t off = 0, n, before = 0;

  set_up_scan (&r, MIB);
  for (unsigned i = 0; i < 12; i++) {
    n = scan_from (&r, off, 512 * MIB);
    assert_true (readahead_is_scan (&r.ra));
    assert_true (i > 8 ? n == before : n > before);
    before = n;
    scan_read (&r, off += n, 8 * MIB, true);
    off += SCAN_LEN;
  }
}

TEST (a_disk_read_twice_is_two_scans)
{
  struct reader r;

  for (uint64_t scan = MIB; scan <= 4 * SCAN; scan *= 2) {
    set_up_scan (&r, scan);
    scan_from (&r, 0, 2 * scan + MIB);
    for (unsigned turn = 0; turn < 3; turn++)
      for (uint64_t off = turn ? 0 : 4 * scan; off < 8 * scan; off += SCAN_LEN) {
        scan_read (&r, off, 8 * MIB, false);
        assert_true (readahead_is_scan (&r.ra));
      }
  }
}

/* Their times are kept in milliseconds. */
TEST (readers_that_begin_at_one_moment_do_not_take_each_other_s_place)
{
  struct reader r;

  set_up_scan (&r, 0);
  for (unsigned i = 0; i < READAHEAD_STREAMS; i++) {
    scan_read (&r, 60 * GIB - i * i * 9 * MIB, 8 * MIB, false);
    r.now = SEC;
  }
  for (uint64_t turn = 0; turn < 3; turn++)
    for (uint64_t i = 0; i < 10; i++) {
      scan_read (&r, i * i * 200 * MIB + turn * SCAN_LEN, 8 * MIB, false);
      r.now = SEC;
    }
  assert_int_equal (__builtin_popcountll (r.ra.opened), 10);
}

/* Clients on a simulated clock.  Each keeps depth reads in flight over its own
 * part of the export; a reply costs cpu_ns of the one processor.  The origin
 * sends at rate on one line; a reply arrives a round trip after its turn.
 */
struct client {
  uint64_t next, end;           /* its part */
  uint64_t len;
  uint64_t done_at;
};

struct request {
  uint64_t at;                  /* when all its bytes are there */
  unsigned client;
  uint64_t waits;               /* bytes of demand while it waits */
};

struct world {
  struct readahead ra;
  uint64_t rate, rtt_ns, cpu_ns;
  bool off;                     /* no read-ahead */

  uint64_t *arrives;            /* of each page, 0 = absent */
  uint8_t *ahead;               /* fetched ahead and unread */
  uint64_t line_free, cpu_free;
  uint64_t given, asked, demand, now;
  struct { uint64_t at, bytes, took; } reply[4096]; /* a queue */
  unsigned head, tail;
};

enum { MOST_REQUESTS = 64 };

static void
world_init (struct world *w, uint64_t size, uint64_t rate)
{
  const struct readahead_limits limits = {
    .size = size, .window_max = 32 * MIB, .memory = 64 * MIB,
  };

  memset (w, 0, sizeof *w);
  w->rate = rate;
  w->rtt_ns = 5 * MS;
  w->now = SEC;
  w->arrives = calloc (size / PAGE, sizeof *w->arrives);
  w->ahead = calloc (size / PAGE, 1);
  assert_true (w->arrives && w->ahead);
  readahead_init (&w->ra, &limits);
}

static void
world_release (struct world *w)
{
  readahead_check (&w->ra);
  free (w->arrives);
  free (w->ahead);
}

static void
fetch (struct world *w, uint64_t start, uint64_t end, bool ahead)
{
  uint64_t bytes = 0, p;

  for (p = start / PAGE; p < end / PAGE; p++)
    bytes += w->arrives[p] ? 0 : PAGE;
  if (bytes == 0)
    return;
  if (w->line_free < w->now)
    w->line_free = w->now;
  w->line_free += bytes * SEC / w->rate;
  for (p = start / PAGE; p < end / PAGE; p++)
    if (w->arrives[p] == 0) {
      w->arrives[p] = w->line_free + w->rtt_ns;
      w->ahead[p] = ahead;
    }
  w->asked += bytes;
  if (ahead)
    w->given += bytes;
  w->reply[w->head % PC_ARRAY_SIZE (w->reply)].at = w->line_free + w->rtt_ns;
  w->reply[w->head % PC_ARRAY_SIZE (w->reply)].bytes = bytes;
  w->reply[w->head % PC_ARRAY_SIZE (w->reply)].took =
    w->line_free + w->rtt_ns - w->now;
  w->head++;
  assert_true (w->head - w->tail < PC_ARRAY_SIZE (w->reply));
}

/* A read of client i begins. */
static struct request
start_read (struct world *w, struct client *c, unsigned i)
{
  uint64_t off = c[i].next, len = c[i].len;
  struct readahead_event ev = { .off = off, .len = len,
                                .demand_bytes = w->demand, .now_ns = w->now };
  struct range out[READAHEAD_BATCH];
  uint64_t at = w->now, used = 0;
  unsigned n;

  for (; w->tail != w->head; w->tail++) {
    unsigned k = w->tail % PC_ARRAY_SIZE (w->reply);

    if (w->reply[k].at > w->now)
      break;
    readahead_done (&w->ra, w->reply[k].bytes, w->reply[k].took,
                    w->reply[k].at);
  }
  ev.what = READAHEAD_HIT;
  for (uint64_t p = off / PAGE; p < (off + len) / PAGE; p++) {
    if (w->arrives[p] == 0)
      ev.what = READAHEAD_MISS;
    else if (w->arrives[p] > w->now && ev.what != READAHEAD_MISS)
      ev.what = READAHEAD_JOIN;
    else if (w->ahead[p] && ev.what == READAHEAD_HIT)
      ev.what = READAHEAD_USED;
    used += w->ahead[p] ? PAGE : 0;
    w->ahead[p] = 0;
  }
  readahead_feedback (&w->ra, used, 0);
  fetch (w, off, off + len, false);
  if (!w->off) {
    n = readahead_access (&w->ra, &ev, out, READAHEAD_BATCH);
    for (unsigned k = 0; k < n; k++)
      fetch (w, out[k].start, out[k].end, true);
  }
  for (uint64_t p = off / PAGE; p < (off + len) / PAGE; p++)
    if (w->arrives[p] > at)
      at = w->arrives[p];
  c[i].next += len;
  if (at == w->now)
    return (struct request) { at, i, 0 };
  w->demand += len;
  return (struct request) { at, i, len };
}

/* Let n clients read their parts, depth reads each; returns the time. */
static uint64_t
run_clients (struct world *w, struct client *c, unsigned n, unsigned depth)
{
  struct request q[MOST_REQUESTS];
  unsigned nq = 0;
  uint64_t start = w->now;

  assert_true (n * depth <= MOST_REQUESTS);
  for (unsigned d = 0; d < depth; d++)
    for (unsigned i = 0; i < n; i++)
      q[nq++] = start_read (w, c, i);
  while (nq > 0) {
    unsigned first = 0, i;

    for (i = 1; i < nq; i++)
      if (q[i].at < q[first].at)
        first = i;
    i = q[first].client;
    if (w->now < q[first].at)
      w->now = q[first].at;
    w->demand -= q[first].waits;
    if (w->cpu_free < w->now)
      w->cpu_free = w->now;
    w->cpu_free += w->cpu_ns;
    w->now = w->cpu_free;
    c[i].done_at = w->now;
    if (c[i].next < c[i].end)
      q[first] = start_read (w, c, i);
    else
      q[first] = q[--nq];
  }
  return w->now - start;
}

static double
mib_per_s (uint64_t bytes, uint64_t ns)
{
  return (double) bytes / (double) MIB / ((double) ns / 1e9);
}

/* P3: one reader at depth 1, 5 ms away, cpu_ns a warm read. */
TEST (a_cold_sequential_reader_gets_nine_tenths_of_what_there_is)
{
  static const struct { uint64_t len, cpu_ns; } kinds[] = {
    { 4 * KIB, 42000 }, { 64 * KIB, 65000 }, { MIB, 500000 },
  };
  static const uint64_t rates[] = { 100 * MIB, 1000 * MIB, 3000 * MIB };

  for (unsigned k = 0; k < PC_ARRAY_SIZE (kinds); k++)
    for (unsigned j = 0; j < PC_ARRAY_SIZE (rates); j++) {
      struct world w;
      struct client c = { .next = 0, .end = 32 * MIB, .len = kinds[k].len };
      double cap = mib_per_s (kinds[k].len, kinds[k].cpu_ns), whole, later;
      uint64_t ramp_ns;

      if (cap > (double) (rates[j] / MIB))
        cap = (double) (rates[j] / MIB);
      world_init (&w, GIB, rates[j]);
      w.cpu_ns = kinds[k].cpu_ns;
      ramp_ns = run_clients (&w, &c, 1, 1);
      c.end = 512 * MIB;
      later = mib_per_s (480 * MIB, run_clients (&w, &c, 1, 1));
      whole = mib_per_s (512 * MIB, w.now - SEC);
      print_message ("%4" PRIu64 " KiB at %4" PRIu64 " MiB/s: %.0f of %.0f "
                     "after 32 MiB, %.0f in all, first 32 MiB %.0f ms, "
                     "%.1f MiB unread\n",
                     kinds[k].len / KIB, rates[j] / MIB, later, cap, whole,
                     (double) ramp_ns / 1e6,
                     (double) (w.asked - 512 * MIB) / (double) MIB);
      assert_true (later >= 0.9 * cap);
      assert_true (whole >= 0.85 * cap);
      /* A line that is full needs no more than the usual window. */
      assert_true (w.asked - 512 * MIB <= (j == 0 ? 9 : 33) * MIB);
      world_release (&w);
    }
}

/* P14: eight readers of 64 KiB share what one would have. */
TEST (eight_readers_share_evenly)
{
  struct world w;
  struct client c[8];
  uint64_t took, first = UINT64_MAX, last = 0;

  world_init (&w, GIB, 1000 * MIB);
  w.cpu_ns = 65000;
  for (unsigned i = 0; i < 8; i++)
    c[i] = (struct client) { .next = i * 100 * MIB,
                             .end = i * 100 * MIB + 64 * MIB,
                             .len = 64 * KIB };
  took = run_clients (&w, c, 8, 1);
  for (unsigned i = 0; i < 8; i++) {
    if (c[i].done_at < first)
      first = c[i].done_at;
    if (c[i].done_at > last)
      last = c[i].done_at;
  }
  print_message ("%.0f MiB/s in all, first after %.0f ms, last %.0f ms\n",
                 mib_per_s (512 * MIB, took), (double) (first - SEC) / 1e6,
                 (double) (last - SEC) / 1e6);
  assert_true (mib_per_s (512 * MIB, took) >= 0.8 * 961);
  assert_true ((last - SEC) <= 2 * (first - SEC));
  world_release (&w);
}

/* P8: nbdcopy, four parts, 16 requests of 256 KiB each, no worse than without,
 * and next to nothing asked of the origin that nobody would have asked.
 */
TEST (a_client_with_much_in_flight_is_left_alone)
{
  uint64_t took[2];

  for (unsigned k = 0; k < 2; k++) {
    struct world w;
    struct client c[4];

    world_init (&w, GIB, 2000 * MIB);
    w.rtt_ns = 10 * MS;
    w.cpu_ns = 60000;
    w.off = k == 0;
    for (unsigned i = 0; i < 4; i++)
      c[i] = (struct client) { .next = i * 128 * MIB,
                               .end = (i + 1) * 128 * MIB,
                               .len = 256 * KIB };
    took[k] = run_clients (&w, c, 4, 16);
    print_message ("read-ahead %s: %.0f MiB/s, %" PRIu64 " KiB given out\n",
                   k ? "on" : "off", mib_per_s (512 * MIB, took[k]),
                   w.given / KIB);
    assert_true (w.given <= 16 * MIB);
    world_release (&w);
  }
  assert_true (took[1] <= took[0] + took[0] / 50);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (a_scan_is_what_is_longer_than_the_cache),
    cmocka_unit_test (without_a_limit_nothing_is_a_scan),
    cmocka_unit_test (several_readers_in_order_are_a_scan_together),
    cmocka_unit_test (who_waits_for_each_answer_is_no_scan),
    cmocka_unit_test (a_scan_ends_with_its_client_s_queue),
    cmocka_unit_test (reads_here_and_there_are_no_scan),
    cmocka_unit_test (after_a_second_of_quiet_it_begins_anew),
    cmocka_unit_test (a_scan_that_has_ended_takes_nothing_from_who_reads_in_steps),
    cmocka_unit_test (who_waits_for_each_answer_is_read_ahead_for_once_the_scan_is_over),
    cmocka_unit_test (what_is_read_again_shortly_was_no_scan),
    cmocka_unit_test (what_many_want_again_comes_back_into_the_cache),
    cmocka_unit_test (what_another_one_waits_for_was_no_scan),
    cmocka_unit_test (doubt_has_an_end),
    cmocka_unit_test (a_disk_read_twice_is_two_scans),
    cmocka_unit_test (readers_that_begin_at_one_moment_do_not_take_each_other_s_place),
    cmocka_unit_test (the_table_of_an_export_fits_8_kib),
    cmocka_unit_test (
      the_third_4_kib_read_in_a_row_fetches_two_chunks_ahead),
    cmocka_unit_test (sequential_reads_of_any_size_miss_three_times),
    cmocka_unit_test (the_window_is_what_the_stream_has_read),
    cmocka_unit_test (chunks_grow_with_the_window_and_are_aligned),
    cmocka_unit_test (
      random_reads_fetch_nothing_but_where_three_happen_to_follow),
    cmocka_unit_test (scattered_reads_fetch_nothing_at_all),
    cmocka_unit_test (warm_reads_fetch_nothing),
    cmocka_unit_test (eight_interleaved_streams_are_told_apart),
    cmocka_unit_test (a_stream_survives_a_flood_of_random_reads),
    cmocka_unit_test (sixteen_workers_may_shuffle_the_reads_of_a_stream),
    cmocka_unit_test (backward_reads_are_fetched_ahead_below),
    cmocka_unit_test (
      equal_steps_fetch_the_blocks_at_the_steps_and_nothing_between),
    cmocka_unit_test (a_change_of_step_stops_the_fetching),
    cmocka_unit_test (a_reader_that_leaves_out_a_little_is_followed),
    cmocka_unit_test (a_reader_that_leaves_out_most_is_not),
    cmocka_unit_test (nothing_is_fetched_beyond_the_end),
    cmocka_unit_test (off_means_off),
    cmocka_unit_test (windows_of_all_streams_stay_within_memory),
    cmocka_unit_test (a_tiny_cache_gets_a_tiny_window),
    cmocka_unit_test (waste_shrinks_the_windows_of_short_runs_to_nothing),
    cmocka_unit_test (what_was_given_out_and_lost_halves_the_run),
    cmocka_unit_test (a_declined_range_is_given_out_again),
    cmocka_unit_test (ranges_that_do_not_fit_the_callers_array_come_later),
    cmocka_unit_test (a_reset_forgets_everything),
    cmocka_unit_test (neighbours_with_others_between_are_no_row),
    cmocka_unit_test (reads_that_overtake_each_other_by_enough_need_nothing_ahead),
    cmocka_unit_test (at_a_near_origin_256_kib_that_wait_are_enough),
    cmocka_unit_test (reads_that_overtake_each_other_by_little_are_fetched_ahead),
    cmocka_unit_test (a_read_that_lies_behind_by_chance_stops_nothing),
    cmocka_unit_test (the_clients_own_queue_is_no_round_trip),
    cmocka_unit_test (a_stream_that_comes_to_warm_pages_fetches_nothing_there),
    cmocka_unit_test (an_open_stream_that_grows_sparse_is_shut),
    cmocka_unit_test (steps_that_were_given_out_and_lost_start_small_again),
    cmocka_unit_test (steps_end_with_the_export),
    cmocka_unit_test (another_size_begins_anew),
    cmocka_unit_test (a_stream_left_for_two_seconds_gives_up_its_share),
    cmocka_unit_test (any_reads_whatever_keep_the_invariants),
    cmocka_unit_test (a_hit_that_may_not_follow_is_no_news),
    cmocka_unit_test (hits_are_told_no_longer_when_a_stream_has_no_reader),
    cmocka_unit_test (
      a_cold_sequential_reader_gets_nine_tenths_of_what_there_is),
    cmocka_unit_test (eight_readers_share_evenly),
    cmocka_unit_test (a_client_with_much_in_flight_is_left_alone),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
