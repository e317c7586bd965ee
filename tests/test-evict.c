/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-evict - the eviction policy alone: where frames are, who leaves first.
 *
 * The hit ratio on real traces is bench-traces' matter; here small patterns
 * with known answers, a model of who is where, and touches from two threads.
 */
#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evict.h"

struct world {
  struct evict e;
  void *mem;
  uint64_t seed;
};

static uint64_t
get_random (struct world *w)
{
  uint64_t z = (w->seed += UINT64_C (0x9e3779b97f4a7c15));

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

static void
set_up (struct world *w, uint32_t nframes)
{
  const char *s = getenv ("PC_SEED");

  w->mem = aligned_alloc (64, evict_size (nframes));
  assert_non_null (w->mem);
  memset (w->mem, 0xa5, evict_size (nframes));
  evict_init (&w->e, w->mem, nframes);
  w->seed = s ? strtoull (s, NULL, 0) : 1;
}

static void
tear_down (struct world *w)
{
  evict_check (&w->e);
  free (w->mem);
}

static void
insert (struct world *w, uint32_t frame, uint64_t page, unsigned flags)
{
  evict_insert (&w->e, frame, evict_key (1, page), flags);
}

static void
touch (struct world *w, uint32_t frame, unsigned times)
{
  while (times-- > 0)
    assert_false (evict_touch (&w->e, frame));
}

/* Frames [0, n) hold pages [0, n); the first fill is over. */
static void
fill (struct world *w, uint32_t n)
{
  uint32_t none[1];

  evict_pick (&w->e, none, 0, 0);
  for (uint32_t f = 0; f < n; f++)
    insert (w, f, f, 0);
}

static uint32_t
pick_one (struct world *w)
{
  uint32_t f;

  assert_int_equal (evict_pick (&w->e, &f, 1, 0), 1);
  return f;
}

/* A cache of n frames over a string of pages: misses of count accesses. */
struct replay {
  struct world w;
  uint32_t n, npages, used;
  uint32_t *frame_of, *page_of, *spare;
};

static void
replay_init (struct replay *r, uint32_t n, uint32_t npages)
{
  set_up (&r->w, n);
  r->n = n;
  r->npages = npages;
  r->frame_of = malloc (npages * sizeof (uint32_t));
  r->page_of = malloc (n * sizeof (uint32_t));
  r->spare = malloc (n * sizeof (uint32_t));
  assert_true (r->frame_of && r->page_of && r->spare);
  memset (r->frame_of, 0xff, npages * sizeof (uint32_t));
  for (uint32_t i = 0; i < n; i++)
    r->spare[i] = i;
  r->used = n;
}

static bool
replay_access (struct replay *r, uint32_t page)
{
  uint32_t f = r->frame_of[page];

  assert_true (page < r->npages);
  if (f != UINT32_MAX) {
    evict_touch (&r->w.e, f);
    return true;
  }
  if (r->used == 0) {
    uint32_t out[64];
    unsigned n = evict_pick (&r->w.e, out, evict_batch (&r->w.e), 0);

    assert_true (n > 0);
    for (unsigned i = 0; i < n; i++) {
      evict_gone (&r->w.e, out[i], evict_key (1, r->page_of[out[i]]));
      r->frame_of[r->page_of[out[i]]] = UINT32_MAX;
      r->spare[r->used++] = out[i];
    }
  }
  f = r->spare[--r->used];
  r->frame_of[page] = f;
  r->page_of[f] = page;
  insert (&r->w, f, page, 0);
  return false;
}

static void
replay_release (struct replay *r)
{
  tear_down (&r->w);
  free (r->frame_of);
  free (r->page_of);
  free (r->spare);
}

TEST (metadata_takes_at_most_12_bytes_a_frame)
{
  for (uint32_t n = 1; n < 100; n++)
    assert_true (evict_size (n) <= 12 * (size_t) n + 2560);
  assert_true (evict_size (256) <= 12 * 256 + 2560);
  assert_true (evict_size (65536) <= 12 * 65536 + 2560);
  assert_true (evict_size (1 << 22) <= 12 * ((size_t) 1 << 22));
}

TEST (pages_used_twice_outlive_pages_used_once)
{
  struct world w;

  set_up (&w, 100);
  fill (&w, 100);
  touch (&w, 0, 1);
  touch (&w, 1, 2);
  /* Until the small queue is down to its share, 10 frames. */
  for (unsigned i = 0; i < 90; i++) {
    uint32_t f = pick_one (&w);

    assert_int_equal (f, i == 0 ? 0 : i + 1);
    evict_gone (&w.e, f, evict_key (1, f));
  }
  assert_int_equal (pick_one (&w), 1);
  tear_down (&w);
}

TEST (a_page_that_comes_back_while_remembered_outlives_new_ones)
{
  struct world w;
  uint32_t f;

  set_up (&w, 100);
  fill (&w, 100);
  f = pick_one (&w);
  assert_int_equal (f, 0);
  evict_gone (&w.e, f, evict_key (1, 0));
  insert (&w, 0, 0, 0);         /* back: to the main queue */
  /* The small queue's share is 11 now: it came back soon. */
  for (uint32_t i = 1; i <= 89; i++) {
    assert_int_equal (pick_one (&w), i);
    evict_gone (&w.e, i, evict_key (1, i));
  }
  assert_int_equal (pick_one (&w), 0);
  tear_down (&w);
}

/* All keys of the last 1000 evictions are known, but for a few that shared a
 * full bucket; none older.
 */
TEST (a_page_that_comes_back_too_late_is_a_new_one)
{
  struct world w;
  struct evict_stats st;

  set_up (&w, 1000);
  fill (&w, 1000);
  for (uint32_t i = 0; i < 2000; i++) {
    uint32_t f = pick_one (&w);

    evict_gone (&w.e, f, evict_key (1, i));
    insert (&w, f, 10000 + i, 0);
  }
  for (uint32_t f = 0; f < 1000; f++) {
    evict_forget (&w.e, f);
    insert (&w, f, f, 0);
  }
  evict_get_stats (&w.e, &st);
  assert_in_range (st.returned, 0, 1);  /* a false match has 1 in 16,000 */
  for (uint32_t f = 0; f < 1000; f++) {
    evict_forget (&w.e, f);
    insert (&w, f, 1000 + f, 0);
  }
  evict_get_stats (&w.e, &st);
  assert_in_range (st.returned, 950, 1000);
  tear_down (&w);
}

TEST (what_was_dropped_by_others_is_not_remembered)
{
  struct world w;
  struct evict_stats st;

  set_up (&w, 10);
  fill (&w, 10);
  assert_false (evict_forget (&w.e, 3));
  assert_false (evict_has (&w.e, 3));
  insert (&w, 3, 3, 0);
  evict_get_stats (&w.e, &st);
  assert_int_equal (st.returned, 0);
  assert_int_equal (st.forgotten, 1);
  tear_down (&w);
}

TEST (a_forgotten_frame_is_never_picked)
{
  struct world w;
  uint32_t out[100];

  set_up (&w, 100);
  fill (&w, 100);
  for (uint32_t f = 0; f < 100; f += 2)
    evict_forget (&w.e, f);
  assert_int_equal (evict_pick (&w.e, out, 100, 0), 50);
  for (unsigned i = 0; i < 50; i++) {
    assert_int_equal (out[i], 2 * i + 1);
    evict_gone (&w.e, out[i], evict_key (1, out[i]));
  }
  assert_int_equal (evict_pick (&w.e, out, 100, 0), 0);
  tear_down (&w);
}

TEST (a_picked_frame_may_be_forgotten)
{
  struct world w;

  set_up (&w, 4);
  fill (&w, 4);
  evict_forget (&w.e, pick_one (&w));
  assert_int_equal (evict_count (&w.e), 3);
  insert (&w, 0, 9, 0);
  tear_down (&w);
}

TEST (a_frame_given_back_waits_for_all_others_of_its_queue)
{
  for (enum evict_reason why = EVICT_BUSY; why <= EVICT_DIRTY; why++) {
    struct world w;
    struct evict_stats st;
    uint32_t f;

    set_up (&w, 50);
    fill (&w, 50);
    f = pick_one (&w);
    evict_unpick (&w.e, f, why);
    for (uint32_t i = 1; i < 50; i++)
      assert_int_equal (pick_one (&w), i);
    assert_int_equal (pick_one (&w), f);
    evict_get_stats (&w.e, &st);
    assert_int_equal (why == EVICT_BUSY ? st.busy : st.dirty, 1);
    tear_down (&w);
  }
}

TEST (a_first_use_of_what_was_fetched_ahead_is_told_once_and_heats_nothing)
{
  struct world w;

  set_up (&w, 40);
  fill (&w, 0);
  insert (&w, 0, 0, EVICT_AHEAD);
  assert_true (evict_is_ahead (&w.e, 0));
  assert_true (evict_touch (&w.e, 0));
  assert_false (evict_is_ahead (&w.e, 0));
  assert_true (evict_is_cold (&w.e, 0));
  touch (&w, 0, 1);
  assert_true (evict_is_cold (&w.e, 0));
  touch (&w, 0, 1);
  assert_false (evict_is_cold (&w.e, 0));
  tear_down (&w);
}

TEST (what_was_fetched_ahead_and_never_used_is_told_as_waste)
{
  struct world w;
  struct evict_stats st;
  uint32_t f;

  set_up (&w, 40);
  fill (&w, 0);
  insert (&w, 0, 0, EVICT_AHEAD);
  insert (&w, 1, 1, EVICT_AHEAD);
  insert (&w, 2, 2, EVICT_AHEAD);
  insert (&w, 3, 3, 0);
  assert_true (evict_touch (&w.e, 1));
  assert_true (evict_forget (&w.e, 2));
  f = pick_one (&w);
  assert_int_equal (f, 0);
  assert_true (evict_gone (&w.e, f, evict_key (1, 0)));
  f = pick_one (&w);
  assert_int_equal (f, 1);
  assert_false (evict_gone (&w.e, f, evict_key (1, 1)));
  f = pick_one (&w);
  assert_false (evict_gone (&w.e, f, evict_key (1, 3)));
  evict_get_stats (&w.e, &st);
  assert_int_equal (st.wasted, 2);
  assert_int_equal (st.inserted_ahead, 3);
  /* Waste is not remembered: nobody had asked for it. */
  insert (&w, 0, 0, 0);
  evict_get_stats (&w.e, &st);
  assert_int_equal (st.returned, 0);
  tear_down (&w);
}

TEST (a_window_fetched_ahead_does_not_evict_itself)
{
  struct world w;

  /* 75 old frames in the main queue, then a window of 20 where the small
   * queue's share is 10: the main queue pays.
   */
  set_up (&w, 100);
  for (uint32_t f = 0; f < 85; f++)
    insert (&w, f, f, 0);       /* first fill: 10 small, 75 main */
  for (uint32_t f = 0; f < 10; f++)
    evict_forget (&w.e, f);
  for (uint32_t f = 85; f < 105; f++)
    insert (&w, f % 100, 1000 + f, EVICT_AHEAD);
  assert_int_equal (pick_one (&w), 10);
  for (uint32_t f = 85; f < 94; f++)
    assert_true (evict_touch (&w.e, f));
  assert_int_equal (pick_one (&w), 11);
  assert_true (evict_touch (&w.e, 94));
  assert_int_equal (pick_one (&w), 85);
  tear_down (&w);
}

TEST (more_than_a_quarter_fetched_ahead_does_evict_itself)
{
  struct world w;

  set_up (&w, 100);
  for (uint32_t f = 0; f < 60; f++)
    insert (&w, f, f, 0);       /* first fill: 10 small, 50 main */
  for (uint32_t f = 0; f < 10; f++)
    evict_forget (&w.e, f);
  fill (&w, 0);
  for (uint32_t f = 60; f < 100; f++)
    insert (&w, f, 1000 + f, EVICT_AHEAD);
  /* 10 of share and 25 of grace hold 35: the oldest leave until 34 are left. */
  for (uint32_t f = 60; f <= 65; f++)
    assert_int_equal (pick_one (&w), f);
  assert_int_equal (pick_one (&w), 10);
  tear_down (&w);
}

/* Neighbours follow the last victim, cold ones only, and no more than as many again. */
TEST (a_run_that_begins_to_leave_leaves_whole)
{
  struct world w;
  uint32_t out[40];

  set_up (&w, 100);
  fill (&w, 30);
  evict_forget (&w.e, 13);
  touch (&w, 25, 2);
  assert_int_equal (evict_pick (&w.e, out, 10, 0), 10);
  assert_int_equal (evict_pick (&w.e, out, 1, EVICT_RUNS), 2);
  assert_int_equal (out[1], 11);
  assert_int_equal (evict_pick (&w.e, out, 1, EVICT_RUNS), 1);  /* 13 has gone */
  assert_int_equal (out[0], 12);
  assert_int_equal (evict_pick (&w.e, out, 8, EVICT_RUNS), 11);  /* 25 is in use */
  assert_int_equal (out[10], 24);
  assert_int_equal (evict_pick (&w.e, out, 0, EVICT_RUNS), 0);
  evict_check (&w.e);
  tear_down (&w);
}

/* Ten in the small queue, its share, and the rest of a first fill in the main one. */
TEST (the_queue_whose_turn_it_is_not_can_be_asked)
{
  struct world w;
  uint32_t out[100];

  set_up (&w, 100);
  for (uint32_t f = 0; f < 30; f++)
    insert (&w, f, f, 0);
  assert_int_equal (evict_pick (&w.e, out, 2, EVICT_OTHER), 2);
  assert_int_equal (out[0], 10);
  assert_int_equal (out[1], 11);
  evict_unpick (&w.e, 10, EVICT_DIRTY);
  assert_int_equal (evict_pick (&w.e, out, 1, 0), 1);
  assert_int_equal (out[0], 0);
  assert_int_equal (evict_pick (&w.e, out, 100, EVICT_OTHER), 28);
  assert_int_equal (evict_count (&w.e), 0);
  evict_check (&w.e);
  tear_down (&w);
}

TEST (the_tail_shows_what_the_next_pick_takes)
{
  struct world w;
  uint32_t seen[20], out[20];

  set_up (&w, 300);
  fill (&w, 300);
  for (uint32_t f = 0; f < 300; f += 3)
    touch (&w, f, 2);
  assert_int_equal (evict_tail (&w.e, seen, 20), 20);
  assert_int_equal (evict_count (&w.e), 300);
  assert_int_equal (evict_pick (&w.e, out, 20, 0), 20);
  assert_memory_equal (seen, out, sizeof out);
  tear_down (&w);
}

TEST (the_tail_goes_on_in_the_other_queue)
{
  struct world w;
  uint32_t seen[20];

  set_up (&w, 100);
  for (uint32_t f = 0; f < 15; f++)
    insert (&w, f, f, 0);       /* first fill: 10 small, 5 main */
  assert_int_equal (evict_tail (&w.e, seen, 20), 15);
  tear_down (&w);
}

TEST (a_scan_for_victims_ends_when_everything_is_hot)
{
  struct world w;
  uint32_t out[64];
  struct evict_stats st;

  set_up (&w, 5000);
  for (uint32_t f = 0; f < 5000; f++) {
    insert (&w, f, f, 0);
    touch (&w, f, 3);
  }
  assert_int_equal (evict_pick (&w.e, out, 64, 0), 64);
  evict_get_stats (&w.e, &st);
  assert_int_equal (st.promoted + st.second_chances, 4 * 64 + 256);
  assert_int_equal (st.scan_limits, 64);
  tear_down (&w);
}

TEST (a_frame_forgotten_and_put_back_over_and_over_has_one_place)
{
  struct world w;
  struct evict_stats st;

  set_up (&w, 100);
  fill (&w, 100);
  for (unsigned i = 0; i < 5000; i++) {
    uint32_t f = 7 + i % 3;

    evict_forget (&w.e, f);
    insert (&w, f, 1000 + i, 0);
    evict_check (&w.e);
  }
  evict_get_stats (&w.e, &st);
  assert_true (st.squeezes > 0);
  for (unsigned i = 0; i < 100; i++)
    evict_gone (&w.e, pick_one (&w), i);
  assert_int_equal (evict_count (&w.e), 0);
  tear_down (&w);
}

TEST (a_smaller_target_asks_for_the_difference)
{
  struct world w;
  uint32_t out[64];

  set_up (&w, 100);
  fill (&w, 100);
  assert_int_equal (evict_excess (&w.e), 0);
  evict_set_target (&w.e, 99);
  assert_int_equal (evict_excess (&w.e), 1);
  evict_set_target (&w.e, 40);
  assert_int_equal (evict_excess (&w.e), 60);
  assert_int_equal (evict_pick (&w.e, out, 60, 0), 60);
  assert_int_equal (evict_excess (&w.e), 0);
  evict_set_target (&w.e, 100);
  evict_set_target (&w.e, 1);
  assert_int_equal (evict_batch (&w.e), 1);
  tear_down (&w);
}

TEST (a_loop_larger_than_the_cache_keeps_a_part_of_itself)
{
  struct replay r;
  unsigned hits = 0;

  replay_init (&r, 1000, 2500);
  for (unsigned round = 0; round < 20; round++)
    for (uint32_t p = 0; p < 2500; p++)
      hits += replay_access (&r, p);
  /* LRU has none; the best that can be is 19 x 1000. */
  assert_true (hits > 19 * 850);
  replay_release (&r);
}

TEST (a_loop_of_the_size_of_the_cache_is_found_late)
{
  struct replay r;
  unsigned hits = 0;

  replay_init (&r, 1000, 3000);
  for (unsigned round = 0; round < 5; round++)
    for (uint32_t p = 0; p < 1000; p++)
      replay_access (&r, p);
  for (unsigned round = 0; round < 10; round++)
    for (uint32_t p = 2000; p < 3000; p++)
      hits += replay_access (&r, p);
  assert_true (hits > 7 * 1000);
  replay_release (&r);
}

TEST (a_long_scan_leaves_the_hot_set_alone)
{
  struct replay r;
  unsigned hits = 0;

  replay_init (&r, 1000, 100000);
  for (unsigned round = 0; round < 10; round++)
    for (uint32_t p = 0; p < 500; p++)
      replay_access (&r, p);
  for (uint32_t p = 1000; p < 100000; p++)
    replay_access (&r, p);
  for (uint32_t p = 0; p < 500; p++)
    hits += replay_access (&r, p);
  assert_true (hits >= 450);
  replay_release (&r);
}

/* Pages used for a while and then never again: LRU's home ground (10,900
 * misses).  A small queue of a fixed tenth has 19,267; adapting, 16,737.
 */
TEST (a_sliding_working_set_makes_the_small_queue_grow)
{
  struct replay r;
  unsigned misses = 0;
  const unsigned count = 200000;

  replay_init (&r, 1000, count);
  for (uint32_t i = 0; i < count; i++) {
    /* The window of 900 pages moves by one page in 20 accesses. */
    uint32_t p = i / 20 + (uint32_t) (get_random (&r.w) % 900);

    misses += !replay_access (&r, p);
  }
  assert_true (r.w.e.small_target > 120);
  assert_true (misses < 17500);
  replay_release (&r);
}

/* Random operations; place[] says where each frame must be. */
TEST (random_operations_leave_every_frame_in_one_place)
{
  enum { N = 700 };
  struct world w;
  enum { OUT, IN, PICKED } place[N] = { OUT };
  bool ahead[N] = { false };
  uint64_t page[N], told = 0, fetched = 0;
  uint32_t count = 0, picked = 0, out[64];

  set_up (&w, N);
  print_message ("PC_SEED=%llu\n", (unsigned long long) w.seed);
  for (unsigned step = 0; step < 300000; step++) {
    uint32_t f = (uint32_t) (get_random (&w) % N);
    unsigned op = get_random (&w) % 16;

    if (op < 6 && place[f] == OUT) {
      ahead[f] = get_random (&w) % 3 == 0;
      fetched += ahead[f];
      page[f] = get_random (&w) % 3000;
      insert (&w, f, page[f], ahead[f] ? EVICT_AHEAD : 0);
      place[f] = IN;
      count++;
    }
    else if (op < 11 && place[f] != OUT) {
      bool first = evict_touch (&w.e, f);

      assert_int_equal (first, ahead[f]);
      told += first;
      ahead[f] = false;
    }
    else if (op == 11 && place[f] != OUT) {
      assert_int_equal (evict_forget (&w.e, f), ahead[f]);
      told += ahead[f];
      *(place[f] == IN ? &count : &picked) -= 1;
      place[f] = OUT;
      ahead[f] = false;
    }
    else if (op == 12 && place[f] == PICKED) {
      evict_unpick (&w.e, f, get_random (&w) % 2 ? EVICT_BUSY : EVICT_DIRTY);
      place[f] = IN;
      picked--;
      count++;
    }
    else if (op == 13 && place[f] == PICKED) {
      assert_int_equal (evict_gone (&w.e, f, evict_key (1, page[f])),
                        ahead[f]);
      told += ahead[f];
      place[f] = OUT;
      ahead[f] = false;
      picked--;
    }
    else if (op == 14) {
      unsigned max = get_random (&w) % 8;
      unsigned dice = get_random (&w) % 3;
      unsigned flags = dice == 0 ? EVICT_RUNS : dice == 1 ? EVICT_OTHER : 0;
      unsigned n = evict_pick (&w.e, out, max, flags);

      if (flags == EVICT_RUNS)
        assert_in_range (n, max < count ? max : count, 2 * max);
      else
        assert_int_equal (n, max < count ? max : count);
      for (unsigned i = 0; i < n; i++) {
        assert_int_equal (place[out[i]], IN);
        place[out[i]] = PICKED;
      }
      count -= n;
      picked += n;
    }
    else if (op == 15) {
      unsigned n = evict_tail (&w.e, out, 64);

      for (unsigned i = 0; i < n; i++)
        assert_true (place[out[i]] == IN && evict_is_cold (&w.e, out[i]));
      if (get_random (&w) % 1000 == 0)
        evict_set_target (&w.e, (uint32_t) (1 + get_random (&w) % N));
      if (get_random (&w) % 5000 == 0)
        evict_rewarm (&w.e);
    }
    assert_int_equal (evict_count (&w.e), count);
    assert_int_equal (evict_has (&w.e, f), place[f] != OUT);
    assert_int_equal (w.e.picked, picked);
    if (step % 64 == 0)
      evict_check (&w.e);
  }
  for (uint32_t f = 0; f < N; f++)
    told += ahead[f];
  assert_int_equal (told, fetched);
  tear_down (&w);
}

/* Two threads touch while a third evicts.  As the cache does it: a frame may
 * be forgotten while pinned, but gets a new page only when nobody holds it.
 */
enum { CROWD = 8 };             /* few, so that they meet */

struct crowd {
  struct world w;
  bool stop;
  unsigned pins[CROWD];         /* HELD: it is getting a new page */
};
#define HELD 1000u

struct toucher {
  struct crowd *crowd;
  uint64_t told;
};

static void *
touch_all (void *arg)
{
  struct toucher *t = arg;
  struct crowd *c = t->crowd;

  while (!__atomic_load_n (&c->stop, __ATOMIC_RELAXED))
    for (uint32_t f = 0; f < CROWD; f++) {
      if (__atomic_fetch_add (&c->pins[f], 1, __ATOMIC_ACQUIRE) < HELD)
        t->told += evict_touch (&c->w.e, f);
      __atomic_fetch_sub (&c->pins[f], 1, __ATOMIC_RELEASE);
    }
  return NULL;
}

static bool
try_insert_ahead (struct crowd *c, uint32_t f)
{
  unsigned nobody = 0;

  if (!__atomic_compare_exchange_n (&c->pins[f], &nobody, HELD, false,
                                    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
    return false;
  insert (&c->w, f, get_random (&c->w) % 2000, EVICT_AHEAD);
  __atomic_fetch_sub (&c->pins[f], HELD, __ATOMIC_RELEASE);
  return true;
}

TEST (touches_from_two_threads_tell_each_frame_fetched_ahead_once)
{
  struct crowd *c = calloc (1, sizeof *c);
  struct toucher toucher[2] = { { c, 0 }, { c, 0 } };
  pthread_t t[2];
  uint64_t told = 0, fetched = 0;
  struct evict_stats st;

  assert_non_null (c);
  set_up (&c->w, CROWD);
  for (unsigned i = 0; i < 2; i++)
    assert_int_equal (pthread_create (&t[i], NULL, touch_all, &toucher[i]), 0);
  for (unsigned round = 0; round < 100000; round++) {
    uint32_t out[2];
    unsigned n;

    for (uint32_t f = 0; f < CROWD; f++)
      if (!evict_has (&c->w.e, f))
        fetched += try_insert_ahead (c, f);
    n = evict_pick (&c->w.e, out, 2, 0);
    for (unsigned i = 0; i < n; i++)
      told += evict_gone (&c->w.e, out[i], evict_key (2, out[i] + round));
    if (evict_has (&c->w.e, round % CROWD))
      told += evict_forget (&c->w.e, round % CROWD);
    if (round % 256 == 0)
      evict_check (&c->w.e);
  }
  __atomic_store_n (&c->stop, true, __ATOMIC_RELAXED);
  for (unsigned i = 0; i < 2; i++) {
    assert_int_equal (pthread_join (t[i], NULL), 0);
    told += toucher[i].told;
  }
  for (uint32_t f = 0; f < CROWD; f++)
    told += evict_has (&c->w.e, f) && evict_is_ahead (&c->w.e, f);
  assert_int_equal (told, fetched);
  evict_get_stats (&c->w.e, &st);
  assert_int_equal (st.inserted_ahead, fetched);
  tear_down (&c->w);
  free (c);
}

TEST (keys_of_different_pages_differ)
{
  /* Pages of one inode and inodes of one page, and both mixed. */
  for (uint64_t i = 0; i < 1000; i++)
    for (uint64_t j = 0; j < 10; j++)
      if (i || j) {
        assert_int_not_equal (evict_key (i, j), evict_key (0, 0));
        assert_int_not_equal (evict_key (j, i << 20), evict_key (0, 0));
      }
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (metadata_takes_at_most_12_bytes_a_frame),
    cmocka_unit_test (pages_used_twice_outlive_pages_used_once),
    cmocka_unit_test (a_page_that_comes_back_while_remembered_outlives_new_ones),
    cmocka_unit_test (a_page_that_comes_back_too_late_is_a_new_one),
    cmocka_unit_test (what_was_dropped_by_others_is_not_remembered),
    cmocka_unit_test (a_forgotten_frame_is_never_picked),
    cmocka_unit_test (a_picked_frame_may_be_forgotten),
    cmocka_unit_test (a_frame_given_back_waits_for_all_others_of_its_queue),
    cmocka_unit_test (
      a_first_use_of_what_was_fetched_ahead_is_told_once_and_heats_nothing),
    cmocka_unit_test (what_was_fetched_ahead_and_never_used_is_told_as_waste),
    cmocka_unit_test (a_window_fetched_ahead_does_not_evict_itself),
    cmocka_unit_test (more_than_a_quarter_fetched_ahead_does_evict_itself),
    cmocka_unit_test (a_run_that_begins_to_leave_leaves_whole),
    cmocka_unit_test (the_queue_whose_turn_it_is_not_can_be_asked),
    cmocka_unit_test (the_tail_shows_what_the_next_pick_takes),
    cmocka_unit_test (the_tail_goes_on_in_the_other_queue),
    cmocka_unit_test (a_scan_for_victims_ends_when_everything_is_hot),
    cmocka_unit_test (a_frame_forgotten_and_put_back_over_and_over_has_one_place),
    cmocka_unit_test (a_smaller_target_asks_for_the_difference),
    cmocka_unit_test (a_loop_larger_than_the_cache_keeps_a_part_of_itself),
    cmocka_unit_test (a_loop_of_the_size_of_the_cache_is_found_late),
    cmocka_unit_test (a_long_scan_leaves_the_hot_set_alone),
    cmocka_unit_test (a_sliding_working_set_makes_the_small_queue_grow),
    cmocka_unit_test (random_operations_leave_every_frame_in_one_place),
    cmocka_unit_test (
      touches_from_two_threads_tell_each_frame_fetched_ahead_once),
    cmocka_unit_test (keys_of_different_pages_differ),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
