/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-populate - memory is there before it is needed, as much as was asked for and no more.
 */
#include <config.h>

#include "test.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "populate.h"

#define FRAMES 4096u

struct bed {
  struct budget budget;
  struct memfile *mf;
  struct populate p;
};

static void
set_up (struct bed *b, uint32_t first, uint32_t ahead)
{
  *b = (struct bed) { 0 };
  budget_init (&b->budget, (uint64_t) FRAMES * 4096 + memfile_table_bytes (FRAMES));
  assert_int_equal (memfile_create (&b->budget, FRAMES, &b->mf), 0);
  assert_int_equal (populate_start (&b->p, b->mf, first, ahead), 0);
}

static void
tear_down (struct bed *b)
{
  populate_stop (&b->p);
  memfile_check (b->mf);
  memfile_free (b->mf);
  budget_check (&b->budget);
}

/* The thread gets so far within 20 s, or the test ends here. */
static void
wait_ready (struct bed *b, uint32_t least)
{
  time_t end = time (NULL) + 20;

  while (memfile_ready (b->mf) < least) {
    assert_true (time (NULL) < end);
    poll (NULL, 0, 1);
  }
}

TEST (nothing_is_populated_before_somebody_begins)
{
  struct bed b;

  set_up (&b, 2048, 1024);
  assert_int_equal (memfile_ready (b.mf), 0);
  tear_down (&b);
}

TEST (memory_is_kept_ahead_of_what_is_taken)
{
  static uint32_t frames[1024];
  struct bed b;

  set_up (&b, 0, 1024);
  populate_note (&b.p, 0);
  wait_ready (&b, 1024);
  assert_true (memfile_ready (b.mf) < 1024 + 512);
  assert_int_equal (memfile_alloc (b.mf, 1024, frames), 1024);
  populate_note (&b.p, 1024);
  wait_ready (&b, 1024);
  memfile_put_many (b.mf, frames, 1024);
  tear_down (&b);
}

/* All of a cache of 1 MiB was frames for a moment, and an export that was opened just then found no memory. */
TEST (no_frame_more_than_was_asked_for)
{
  struct bed b;

  set_up (&b, 0, 100);
  populate_note (&b.p, 0);
  wait_ready (&b, 100);
  populate_stop (&b.p);
  assert_int_equal (memfile_ready (b.mf), 100);
  tear_down (&b);
}

/* For a moment others have all that there is. */
TEST (where_there_was_no_room_it_is_tried_again)
{
  struct bed b;
  uint64_t rest = (uint64_t) FRAMES * 4096;

  set_up (&b, 0, 100);
  assert_int_equal (budget_take (&b.budget, BUDGET_META, rest), 0);
  populate_note (&b.p, 0);
  poll (NULL, 0, 50);           /* it has tried by then, or the test is a little easier */
  assert_int_equal (memfile_ready (b.mf), 0);
  budget_give (&b.budget, BUDGET_META, rest);
  populate_note (&b.p, 0);
  wait_ready (&b, 100);
  tear_down (&b);
}

TEST (its_thread_takes_no_signals)
{
  struct bed b;
  struct dirent *d;
  unsigned n = 0;
  DIR *tasks;

  set_up (&b, 0, 100);
  populate_note (&b.p, 0);
  wait_ready (&b, 100);         /* until it runs the system has them blocked for it */
  tasks = opendir ("/proc/self/task");
  assert_non_null (tasks);
  while ((d = readdir (tasks)) != NULL) {
    char path[300], line[200], name[100] = "";
    unsigned long long blocked = 0;
    FILE *fp;

    snprintf (path, sizeof path, "/proc/self/task/%s/status", d->d_name);
    fp = fopen (path, "r");
    while (fp != NULL && fgets (line, sizeof line, fp) != NULL) {
      sscanf (line, "Name: %99s", name);
      sscanf (line, "SigBlk: %llx", &blocked);
    }
    if (fp != NULL)
      fclose (fp);
    if (strcmp (name, "pc-memory") != 0)
      continue;
    n++;
    /* SIGHUP, SIGINT, SIGTERM */
    assert_true ((blocked & 1) && (blocked & 2) && (blocked & 1 << 14));
  }
  closedir (tasks);
  assert_int_equal (n, 1);
  tear_down (&b);
}

/* What somebody took back meanwhile, because memory was short, is not had again at once. */
TEST (there_is_more_at_first_and_only_once)
{
  static uint32_t frames[500];
  struct bed b;
  time_t end = time (NULL) + 20;

  set_up (&b, 2000, 1000);
  populate_note (&b.p, 0);
  while (!atomic_load (&b.p.begun)) {
    assert_true (time (NULL) < end);
    poll (NULL, 0, 1);
  }
  assert_int_equal (memfile_ready (b.mf), 2000);
  assert_int_equal (memfile_shrink (b.mf, 700), 700);
  populate_note (&b.p, 0);
  assert_int_equal (memfile_alloc (b.mf, 500, frames), 500);
  populate_note (&b.p, 0);
  wait_ready (&b, 1000);
  populate_stop (&b.p);
  assert_int_equal (memfile_ready (b.mf), 1000);
  memfile_put_many (b.mf, frames, 500);
  tear_down (&b);
}

/* Frames that the first client took while they were populated are there, too. */
TEST (what_is_in_use_counts_among_the_first)
{
  static uint32_t frames[300];
  struct bed b;
  time_t end = time (NULL) + 20;

  set_up (&b, 1000, 100);
  assert_int_equal (memfile_alloc (b.mf, 300, frames), 300);
  populate_note (&b.p, 0);
  while (!atomic_load (&b.p.begun)) {
    assert_true (time (NULL) < end);
    poll (NULL, 0, 1);
  }
  assert_int_equal (memfile_ready (b.mf), 700);
  memfile_put_many (b.mf, frames, 300);
  tear_down (&b);
}

TEST (when_all_was_used_once_there_is_nothing_left_to_do)
{
  static uint32_t frames[FRAMES];
  struct bed b;
  time_t end = time (NULL) + 20;

  set_up (&b, 0, FRAMES + 1);
  populate_note (&b.p, 0);
  while (!atomic_load (&b.p.done)) {
    assert_true (time (NULL) < end);
    poll (NULL, 0, 1);
  }
  assert_int_equal (memfile_ready (b.mf), FRAMES);
  assert_int_equal (memfile_alloc (b.mf, FRAMES, frames), FRAMES);
  populate_note (&b.p, FRAMES);
  memfile_put_many (b.mf, frames, FRAMES);
  tear_down (&b);
}

TEST (what_was_never_started_can_be_stopped)
{
  struct populate p = { 0 };

  populate_stop (&p);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (nothing_is_populated_before_somebody_begins),
    cmocka_unit_test (memory_is_kept_ahead_of_what_is_taken),
    cmocka_unit_test (where_there_was_no_room_it_is_tried_again),
    cmocka_unit_test (its_thread_takes_no_signals),
    cmocka_unit_test (no_frame_more_than_was_asked_for),
    cmocka_unit_test (there_is_more_at_first_and_only_once),
    cmocka_unit_test (what_is_in_use_counts_among_the_first),
    cmocka_unit_test (when_all_was_used_once_there_is_nothing_left_to_do),
    cmocka_unit_test (what_was_never_started_can_be_stopped),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
