/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-throttle - the law that slows writers, by itself and in a closed loop
 * with a writer, write-back and an origin, all on one simulated clock.
 */
#include "test.h"

#include <stdlib.h>

#include "throttle.h"

#define MS UINT64_C (1000000)
#define SEC UINT64_C (1000000000)
#define MIB (UINT64_C (1) << 20)

static const struct throttle_limits big = { 128 * MIB, 26 * MIB };

/* An origin of exactly rate bytes a second, seen for long enough. */
static void
teach (struct throttle *t, uint64_t rate, uint64_t *now)
{
  throttle_busy (t, true);
  for (unsigned i = 0; i < 500; i++) {
    throttle_cleaned (t, rate / 100, *now);
    *now += SEC / 100;
  }
}

static struct throttle_load
alone (uint64_t dirty)
{
  return (struct throttle_load) { .own = dirty, .total = dirty, .writers = 1 };
}

TEST (the_rate_is_what_was_cleaned_in_busy_time)
{
  struct throttle t;
  uint64_t now = 5 * SEC;

  throttle_init (&t, &big);
  assert_int_equal (t.rate, 0);
  teach (&t, 100 * MIB, &now);
  assert_in_range (t.rate, 99 * MIB, 101 * MIB);

  /* An hour of nothing to do, then little to do: says nothing. */
  throttle_busy (&t, false);
  now += 3600 * SEC;
  for (unsigned i = 0; i < 1000; i++) {
    throttle_cleaned (&t, 4096, now);
    now += SEC / 10;
  }
  assert_in_range (t.rate, 99 * MIB, 101 * MIB);
  throttle_busy (&t, true);
  throttle_cleaned (&t, MIB, now);
  assert_in_range (t.rate, 99 * MIB, 101 * MIB);
}

TEST (the_rate_follows_a_slower_origin_in_some_seconds)
{
  struct throttle t;
  uint64_t now = 0;

  throttle_init (&t, &big);
  teach (&t, 100 * MIB, &now);
  teach (&t, 10 * MIB, &now);   /* five seconds of it */
  assert_in_range (t.rate, 10 * MIB, 30 * MIB);
  teach (&t, 10 * MIB, &now);
  teach (&t, 10 * MIB, &now);
  assert_in_range (t.rate, 10 * MIB, 11 * MIB);
}

TEST (a_burst_of_replies_is_not_taken_for_the_rate)
{
  struct throttle t;

  /* 64 replies of 64 KiB at once, every 200 ms: 20 MiB a second. */
  throttle_init (&t, &big);
  throttle_busy (&t, true);
  for (uint64_t burst = 1; burst < 50; burst++)
    for (unsigned i = 0; i < 64; i++)
      throttle_cleaned (&t, 65536, burst * 200 * MS);
  assert_in_range (t.rate, 19 * MIB, 21 * MIB);
}

TEST (no_write_is_slowed_below_the_free_mark)
{
  struct throttle t;
  struct throttle_load load = alone (77 * MIB);
  uint64_t now = 0;

  throttle_init (&t, &big);
  teach (&t, 100 * MIB, &now);
  for (unsigned i = 0; i < 1000; i++)
    assert_int_equal (throttle_delay (&t, &load, MIB, now), 0);
  load = alone (78 * MIB);      /* 26 + 102 / 2 = 77 */
  assert_int_not_equal (throttle_delay (&t, &load, MIB, now), 0);
}

TEST (writers_get_twice_once_and_none_of_the_rate_along_the_way)
{
  struct throttle t;
  /* F 77, S 102.5, L 128 MiB; 1 MiB costs 10 ms at 100 MiB/s. */
  static const struct { uint64_t dirty_kib, least, most; } want[] = {
    { 77 * 1024 + 1, 4900000, 5100000 },
    { 102 * 1024 + 512, 9900000, 10100000 },
    { 115 * 1024 + 256, 11300000, 11600000 },  /* 1 - 1/8 */
    { 127 * 1024, 80 * MS, 200 * MS },
    { 128 * 1024, 200 * MS, 200 * MS },
    { 200 * 1024, 200 * MS, 200 * MS },
  };

  for (unsigned i = 0; i < PC_ARRAY_SIZE (want); i++) {
    struct throttle_load load = alone (want[i].dirty_kib << 10);
    uint64_t now = 0;

    throttle_init (&t, &big);
    teach (&t, 100 * MIB, &now);
    t.rate = 100 * MIB;
    assert_in_range (throttle_delay (&t, &load, MIB, now), want[i].least,
                     want[i].most);
  }
}

TEST (small_writes_save_up_for_one_sleep)
{
  struct throttle t;
  struct throttle_load load = alone (102 * MIB + MIB / 2);
  uint64_t now = 0, sum = 0;
  unsigned sleeps = 0;

  throttle_init (&t, &big);
  teach (&t, 100 * MIB, &now);
  t.rate = 100 * MIB;
  for (unsigned i = 0; i < 2560; i++) { /* 10 MiB: 100 ms */
    uint64_t d = throttle_delay (&t, &load, 4096, now);

    assert_true (d == 0 || d >= MS);
    now += d;
    sum += d;
    sleeps += d > 0;
  }
  assert_in_range (sum, 98 * MS, 101 * MS);
  assert_in_range (sleeps, 90, 100);
  assert_int_equal (t.throttled_ns, sum);
}

TEST (many_writers_share_one_rate)
{
  struct throttle t;
  struct throttle_load load = alone (102 * MIB + MIB / 2);
  uint64_t now = 0, until[4] = { 0 }, start, bytes = 0;

  throttle_init (&t, &big);
  teach (&t, 100 * MIB, &now);
  t.rate = 100 * MIB;
  start = now;
  for (; now < start + SEC; now += MS / 10)
    for (unsigned w = 0; w < 4; w++)
      if (until[w] <= now) {
        until[w] = now + throttle_delay (&t, &load, 65536, now);
        bytes += 65536;
      }
  assert_in_range (bytes, 98 * MIB, 103 * MIB);
}

TEST (the_bound_is_ten_seconds_of_a_slow_origin)
{
  struct throttle t;
  struct throttle_load load = alone (1);
  uint64_t now = 0;

  throttle_init (&t, &big);
  assert_int_equal (throttle_limit (&t, &load), 128 * MIB);
  teach (&t, MIB, &now);
  assert_in_range (throttle_limit (&t, &load), 10 * MIB - 100000, 10 * MIB);
  load = alone (4 * MIB);
  assert_false (throttle_wants_cleaning (&t, &load));
  load = alone (6 * MIB);
  assert_true (throttle_wants_cleaning (&t, &load));
}

TEST (cleaning_starts_just_above_the_background_mark)
{
  struct throttle t;
  struct throttle_load load = alone (26 * MIB);

  throttle_init (&t, &big);
  assert_false (throttle_wants_cleaning (&t, &load));
  load = alone (26 * MIB + 1);
  assert_true (throttle_wants_cleaning (&t, &load));
  /* Others' bytes are reason enough for the own ones, not for none. */
  load = (struct throttle_load) { .own = 1, .total = 27 * MIB, .writers = 1 };
  assert_true (throttle_wants_cleaning (&t, &load));
  load.own = 0;
  assert_false (throttle_wants_cleaning (&t, &load));
}

TEST (a_flush_is_worth_it_before_writers_are_slowed)
{
  static const struct throttle_limits odd = { 10 * MIB, 50 * MIB };
  struct throttle t;
  struct throttle_load load = alone (MIB);

  throttle_init (&t, &big);
  assert_int_equal (throttle_flush_mark (&t, &load), 51 * MIB);
  throttle_set_limits (&t, &odd);
  assert_int_equal (throttle_flush_mark (&t, &load), 5 * MIB);
}

TEST (a_background_mark_above_the_bound_is_pulled_below_it)
{
  static const struct throttle_limits odd = { 10 * MIB, 50 * MIB };
  struct throttle t;
  struct throttle_load load = alone (5 * MIB + 1);

  throttle_init (&t, &odd);
  assert_true (throttle_wants_cleaning (&t, &load));
}

TEST (writes_up_to_the_bound_pass_and_one_byte_more_blocks)
{
  struct throttle t;
  struct throttle_load load = alone (128 * MIB - 4096);

  throttle_init (&t, &big);
  assert_false (throttle_must_block (&t, &load, 4095));
  assert_false (throttle_must_block (&t, &load, 4096));
  assert_true (throttle_must_block (&t, &load, 4097));
  load = alone (128 * MIB);
  assert_true (throttle_must_block (&t, &load, 1));
  load = alone (128 * MIB + 5);
  assert_true (throttle_must_block (&t, &load, 0));
  assert_int_equal (t.blocked, 3);
}

TEST (a_write_larger_than_the_bound_passes_alone)
{
  struct throttle t;
  struct throttle_load load = alone (0);

  throttle_init (&t, &big);
  assert_false (throttle_must_block (&t, &load, 129 * MIB));
  load = alone (1);
  assert_true (throttle_must_block (&t, &load, 129 * MIB));
}

TEST (while_others_write_each_has_its_share)
{
  struct throttle t;
  struct throttle_load load = { .own = 32 * MIB, .total = 40 * MIB,
                                .writers = 4 };

  throttle_init (&t, &big);
  assert_int_equal (throttle_limit (&t, &load), 32 * MIB);
  assert_true (throttle_must_block (&t, &load, 1));
  load.own = 1 * MIB;
  assert_false (throttle_must_block (&t, &load, MIB));
}

TEST (what_others_never_clean_leaves_room_for_each_of_us)
{
  struct throttle t;
  struct throttle_load load = { .own = 0, .writers = 1 };
  unsigned i;

  /* The first one takes all, and its origin goes; each that comes after it, the same. */
  throttle_init (&t, &big);
  for (i = 0; i < 8; i++) {
    uint64_t limit = throttle_limit (&t, &load);

    assert_true (limit >= (i == 0 ? 128 * MIB : 16 * MIB >> i));
    load.own = limit;
    load.total += limit;
    assert_true (throttle_must_block (&t, &load, 1));
    assert_true (load.total <= 144 * MIB);
    load.own = 0;
    assert_false (throttle_must_block (&t, &load, 65536));
  }
}

TEST (bytes_of_others_slow_a_writer_too)
{
  struct throttle t;
  struct throttle_load load = { .own = 54 * MIB + MIB / 2, .total = 118 * MIB + MIB / 2,
                                .writers = 1 };
  uint64_t now = 0;

  throttle_init (&t, &big);
  teach (&t, 100 * MIB, &now);
  t.rate = 100 * MIB;
  assert_in_range (throttle_delay (&t, &load, MIB, now), 9900000, 10100000);
  load.total = load.own;
  assert_int_equal (throttle_delay (&t, &load, MIB, now), 0);
}

TEST (tiny_bounds_neither_divide_by_zero_nor_lock_up)
{
  static const struct throttle_limits tiny = { 1, 0 };
  struct throttle t;
  uint64_t now = 0;

  throttle_init (&t, &tiny);
  teach (&t, 1000, &now);
  for (uint64_t d = 0; d < 4; d++) {
    struct throttle_load load = { .own = d, .total = d, .writers = 9 };

    assert_in_range (throttle_delay (&t, &load, 65536, now), 0,
                     THROTTLE_DELAY_MAX_NS);
    assert_int_equal (throttle_must_block (&t, &load, 1), d > 0);
  }
}

/* The closed loop.  Write-back sends 1 MiB requests, at most 16 at once, while
 * told to clean; an origin serves them one after the other at its rate and
 * replies a round trip later; when the accepted bytes exceed the background
 * mark an origin flush makes them clean (D3), and nothing is sent meanwhile
 * that would need it sooner.  One writer of 64 KiB at queue depth 1.
 */
struct loop {
  /* The set-up. */
  struct throttle_limits limits;
  uint64_t rate, rtt_ns, flush_ns;
  double offered;               /* share of rate; 0 = as fast as it may */
  uint64_t length_ns, total_bytes; /* which ends first */

  /* What came out. */
  uint64_t p50_ns, p99_ns, p999_ns, max_ns, most_dirty, bytes, took_ns;
  uint64_t half_bytes, least_dirty; /* of the second half of the time */
};

enum { WIDTH = 16 };
#define WRITE 65536
#define CHUNK MIB

static int
compare (const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return (x > y) - (x < y);
}

struct origin_state {
  uint64_t flight[WIDTH], size[WIDTH]; /* reply instant, bytes; FIFO */
  unsigned first, n;
  uint64_t line_free;           /* when the origin can take the next */
  uint64_t waiting, flying, unstable, flushing, flush_at;
};

static uint64_t
dirty_of (const struct origin_state *o)
{
  return o->waiting + o->flying + o->unstable + o->flushing;
}

/* Let everything happen that happens until now. */
static void
run_origin (struct loop *l, struct throttle *t, struct origin_state *o,
            uint64_t now)
{
  for (;;) {
    struct throttle_load load = alone (dirty_of (o));
    uint64_t at = UINT64_MAX;

    if (o->n > 0)
      at = o->flight[o->first];
    if (o->flushing > 0 && o->flush_at < at)
      at = o->flush_at;
    if (at > now)
      break;
    if (o->flushing > 0 && o->flush_at == at)
      o->flushing = 0;
    else {
      throttle_cleaned (t, o->size[o->first], at);
      o->flying -= o->size[o->first];
      o->unstable += o->size[o->first];
      o->first = (o->first + 1) % WIDTH;
      o->n--;
    }
    if (o->flushing == 0 && o->unstable > l->limits.dirty_background) {
      o->flushing = o->unstable;
      o->unstable = 0;
      o->flush_at = at + l->flush_ns;
    }
    while (o->n < WIDTH && o->waiting >= CHUNK
           && throttle_wants_cleaning (t, &load)) {
      unsigned i = (o->first + o->n++) % WIDTH;

      o->size[i] = CHUNK;
      o->waiting -= CHUNK;
      o->flying += CHUNK;
      if (o->line_free < at)
        o->line_free = at;
      o->line_free += CHUNK * SEC / l->rate;
      o->flight[i] = o->line_free + l->rtt_ns;
    }
    throttle_busy (t, o->n == WIDTH);
  }
}

/* A write may start write-back that stood still. */
static void
kick (struct loop *l, struct throttle *t, struct origin_state *o, uint64_t now)
{
  struct throttle_load load = alone (dirty_of (o));

  if (o->n == 0 && o->waiting >= CHUNK && throttle_wants_cleaning (t, &load)) {
    o->size[o->first] = CHUNK;
    o->waiting -= CHUNK;
    o->flying += CHUNK;
    if (o->line_free < now)
      o->line_free = now;
    o->line_free += CHUNK * SEC / l->rate;
    o->flight[o->first] = o->line_free + l->rtt_ns;
    o->n = 1;
  }
}

static void
run_loop (struct loop *l)
{
  enum { MOST = 1 << 18 };
  struct throttle t;
  struct origin_state o = { 0 };
  uint64_t *lat = malloc (MOST * sizeof *lat);
  uint64_t now = 0, due = 0;
  size_t n = 0;

  assert_non_null (lat);
  throttle_init (&t, &l->limits);
  l->least_dirty = UINT64_MAX;
  while (now < l->length_ns && l->bytes < l->total_bytes) {
    struct throttle_load load;
    uint64_t start = now;

    run_origin (l, &t, &o, now);
    load = alone (dirty_of (&o));
    while (throttle_must_block (&t, &load, WRITE)) {
      now += MS / 10;
      run_origin (l, &t, &o, now);
      load = alone (dirty_of (&o));
      assert_true (now < start + 60 * SEC);
    }
    now += throttle_delay (&t, &load, WRITE, now) + 20000;
    run_origin (l, &t, &o, now);
    o.waiting += WRITE;
    kick (l, &t, &o, now);
    assert_true (n < MOST);
    lat[n++] = now - start;
    l->bytes += WRITE;
    if (dirty_of (&o) > l->most_dirty)
      l->most_dirty = dirty_of (&o);
    if (now > l->length_ns / 2) {
      l->half_bytes += WRITE;
      if (dirty_of (&o) < l->least_dirty)
        l->least_dirty = dirty_of (&o);
    }
    if (l->offered > 0) {
      due += (uint64_t) (WRITE * 1e9 / (l->offered * (double) l->rate));
      if (now < due)
        now = due;
    }
  }
  l->took_ns = now;
  qsort (lat, n, sizeof *lat, compare);
  l->p50_ns = lat[n / 2];
  l->p99_ns = lat[n - 1 - n / 100];
  l->p999_ns = lat[n - 1 - n / 1000];
  l->max_ns = lat[n - 1];
  free (lat);
  print_message ("max %llu MiB, rate %llu MiB/s x %.1f: p50 %.2f p99 %.2f "
                 "p99.9 %.2f max %.2f ms, dirty %llu..%llu MiB, %.1f MiB/s\n",
                 (unsigned long long) (l->limits.dirty_max / MIB),
                 (unsigned long long) (l->rate / MIB), l->offered,
                 (double) l->p50_ns / 1e6, (double) l->p99_ns / 1e6,
                 (double) l->p999_ns / 1e6, (double) l->max_ns / 1e6,
                 (unsigned long long) (l->least_dirty / MIB),
                 (unsigned long long) (l->most_dirty / MIB),
                 (double) l->bytes / MIB / ((double) l->took_ns / 1e9));
}

static struct loop
new_loop (uint64_t cache, uint64_t rate, double offered)
{
  return (struct loop) {
    .limits = { cache / 2, cache / 10 }, .rate = rate, .rtt_ns = 5 * MS,
    .flush_ns = 15 * MS, .offered = offered, .length_ns = 60 * SEC,
    .total_bytes = UINT64_MAX,
  };
}

/* The figure: p99 of a 64 KiB write <= RTT + 20 ms. */
TEST (a_writer_at_four_fifths_of_the_origin_is_not_slowed)
{
  static const uint64_t caches[] = { 64 * MIB, 256 * MIB };
  static const uint64_t rates[] = { 10 * MIB, 100 * MIB, 250 * MIB };

  for (unsigned c = 0; c < PC_ARRAY_SIZE (caches); c++)
    for (unsigned r = 0; r < PC_ARRAY_SIZE (rates); r++) {
      struct loop l = new_loop (caches[c], rates[r], 0.8);

      run_loop (&l);
      assert_true (l.p99_ns <= l.rtt_ns + 20 * MS);
      assert_true (l.p999_ns <= l.rtt_ns + 20 * MS);
      assert_true (l.most_dirty <= l.limits.dirty_max);
      assert_true (l.bytes >= (uint64_t) (0.79 * 60 * (double) rates[r]));
    }
}

TEST (a_writer_at_the_rate_of_the_origin_keeps_it)
{
  struct loop l = new_loop (256 * MIB, 100 * MIB, 1.0);

  run_loop (&l);
  assert_true (l.p99_ns <= l.rtt_ns + 20 * MS);
  assert_true (l.most_dirty <= l.limits.dirty_max);
  assert_true (l.half_bytes >= 97 * 30 * MIB);
}

/* It settles at S: never blocked, never idle, no swinging from end to end. */
TEST (a_writer_faster_than_the_origin_settles_at_its_pace)
{
  static const double offered[] = { 1.2, 2.0, 10.0, 0 };

  for (unsigned i = 0; i < PC_ARRAY_SIZE (offered); i++) {
    struct loop l = new_loop (256 * MIB, 100 * MIB, offered[i]);

    run_loop (&l);
    assert_true (l.most_dirty <= l.limits.dirty_max);
    assert_true (l.half_bytes >= 97 * 30 * MIB);
    assert_true (l.p99_ns <= l.rtt_ns + 20 * MS);
    assert_true (l.least_dirty >= l.limits.dirty_max / 2);
  }
}

TEST (four_gib_through_a_small_cache_without_a_flush_keep_the_pace_of_the_origin)
{
  struct loop l = new_loop (64 * MIB, 200 * MIB, 0);

  l.total_bytes = 4096 * MIB;
  run_loop (&l);
  assert_int_equal (l.bytes, l.total_bytes);
  assert_true (l.most_dirty <= l.limits.dirty_max);
  /* 20.5 s at the origin's rate, less what stays dirty. */
  assert_true (l.took_ns <= 22 * SEC);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (the_rate_is_what_was_cleaned_in_busy_time),
    cmocka_unit_test (the_rate_follows_a_slower_origin_in_some_seconds),
    cmocka_unit_test (a_burst_of_replies_is_not_taken_for_the_rate),
    cmocka_unit_test (no_write_is_slowed_below_the_free_mark),
    cmocka_unit_test (writers_get_twice_once_and_none_of_the_rate_along_the_way),
    cmocka_unit_test (small_writes_save_up_for_one_sleep),
    cmocka_unit_test (many_writers_share_one_rate),
    cmocka_unit_test (the_bound_is_ten_seconds_of_a_slow_origin),
    cmocka_unit_test (cleaning_starts_just_above_the_background_mark),
    cmocka_unit_test (a_flush_is_worth_it_before_writers_are_slowed),
    cmocka_unit_test (a_background_mark_above_the_bound_is_pulled_below_it),
    cmocka_unit_test (writes_up_to_the_bound_pass_and_one_byte_more_blocks),
    cmocka_unit_test (a_write_larger_than_the_bound_passes_alone),
    cmocka_unit_test (while_others_write_each_has_its_share),
    cmocka_unit_test (what_others_never_clean_leaves_room_for_each_of_us),
    cmocka_unit_test (bytes_of_others_slow_a_writer_too),
    cmocka_unit_test (tiny_bounds_neither_divide_by_zero_nor_lock_up),
    cmocka_unit_test (a_writer_at_four_fifths_of_the_origin_is_not_slowed),
    cmocka_unit_test (a_writer_at_the_rate_of_the_origin_keeps_it),
    cmocka_unit_test (a_writer_faster_than_the_origin_settles_at_its_pace),
    cmocka_unit_test (
      four_gib_through_a_small_cache_without_a_flush_keep_the_pace_of_the_origin),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
