/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of the event loop: posting from any thread, order, timers, the end.
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "evloop.h"
#include "lock.h"

static struct clock real = CLOCK_REAL_INIT;

struct job {
  struct evloop_work work;
  struct evloop *loop;
  _Atomic int runs;
  int again;                    /* how often to post itself again */
  int order;                    /* filled: which one of all it was */
  int *counter;
  _Atomic int *flag;
};

static void
job_run (struct evloop_work *work)
{
  struct job *job = container_of (work, struct job, work);

  assert_true (evloop_inside (job->loop));
  job->runs++;
  if (job->counter != NULL)
    job->order = (*job->counter)++;
  if (job->again > 0) {
    job->again--;
    evloop_post (job->loop, work);
  }
  else if (job->flag != NULL)
    atomic_store (job->flag, 1);
}

TEST (work_runs_in_the_order_of_posting)
{
  struct evloop *loop;
  struct job job[10] = { 0 };
  _Atomic int flag = 0;
  int counter = 0, i;

  assert_int_equal (evloop_create (&real, &loop), 0);
  for (i = 0; i < 10; i++) {
    job[i].work.fn = job_run;
    job[i].loop = loop;
    job[i].counter = &counter;
    job[i].flag = i == 9 ? &flag : NULL;
    evloop_post (loop, &job[i].work);
  }
  assert_false (evloop_inside (loop));
  evloop_run_until (loop, &flag);
  assert_false (evloop_inside (loop));
  for (i = 0; i < 10; i++)
    assert_int_equal (job[i].order, i);
  evloop_free (loop);
}

TEST (work_posted_twice_runs_once)
{
  struct evloop *loop;
  _Atomic int flag = 0;
  struct job job = { .work.fn = job_run, .flag = &flag };

  assert_int_equal (evloop_create (&real, &loop), 0);
  job.loop = loop;
  evloop_post (loop, &job.work);
  evloop_post (loop, &job.work);
  evloop_run_until (loop, &flag);
  assert_int_equal (job.runs, 1);
  evloop_free (loop);
}

TEST (work_may_post_itself_and_lets_others_run_between)
{
  struct evloop *loop;
  _Atomic int flag = 0;
  int counter = 0;
  struct job greedy = { .work.fn = job_run, .again = 3, .counter = &counter, .flag = &flag };
  struct job other = { .work.fn = job_run, .counter = &counter };

  assert_int_equal (evloop_create (&real, &loop), 0);
  greedy.loop = other.loop = loop;
  evloop_post (loop, &greedy.work);
  evloop_post (loop, &other.work);
  evloop_run_until (loop, &flag);
  assert_int_equal (greedy.runs, 4);
  assert_int_equal (other.order, 1);
  evloop_free (loop);
}

#define POSTERS 4
#define POSTS 2000

struct poster {
  pthread_t thread;
  struct evloop *loop;
  struct job job[POSTS];
};

static void *
poster_main (void *arg)
{
  struct poster *p = arg;
  int i;

  for (i = 0; i < POSTS; i++) {
    p->job[i].work.fn = job_run;
    p->job[i].loop = p->loop;
    evloop_post (p->loop, &p->job[i].work);
  }
  return NULL;
}

TEST (every_post_of_many_threads_runs_once_and_before_the_loop_ends)
{
  struct evloop *loop;
  struct poster *p = calloc (POSTERS, sizeof *p);
  int i, j;

  assert_non_null (p);
  assert_int_equal (evloop_create (&real, &loop), 0);
  assert_int_equal (evloop_start (loop), 0);
  for (i = 0; i < POSTERS; i++) {
    p[i].loop = loop;
    assert_int_equal (pthread_create (&p[i].thread, NULL, poster_main, &p[i]), 0);
  }
  for (i = 0; i < POSTERS; i++)
    pthread_join (p[i].thread, NULL);
  evloop_free (loop);
  for (i = 0; i < POSTERS; i++)
    for (j = 0; j < POSTS; j++)
      assert_int_equal (p[i].job[j].runs, 1);
  free (p);
}

TEST (what_was_posted_runs_even_if_no_thread_ever_did)
{
  struct evloop *loop;
  struct job job = { .work.fn = job_run };

  assert_int_equal (evloop_create (&real, &loop), 0);
  job.loop = loop;
  evloop_post (loop, &job.work);
  evloop_free (loop);
  assert_int_equal (job.runs, 1);
}

static int
double_it (void *arg)
{
  int *n = arg;

  return *n *= 2;
}

struct signals {
  struct evloop *loop;
  bool inside, blocked;
};

static int
look_at_signals (void *arg)
{
  struct signals *s = arg;
  sigset_t set;

  s->inside = evloop_inside (s->loop);
  pthread_sigmask (SIG_SETMASK, NULL, &set);
  s->blocked = sigismember (&set, SIGTERM) && sigismember (&set, SIGUSR1)
    && sigismember (&set, SIGCHLD);
  return 0;
}

TEST (a_call_waits_for_its_value_on_the_loop_where_signals_are_blocked)
{
  struct evloop *loop;
  struct signals s = { 0 };
  int n = 21;

  assert_int_equal (evloop_create (&real, &loop), 0);
  /* No thread yet: in place. */
  assert_int_equal (evloop_call (loop, double_it, &n), 42);
  s.loop = loop;
  assert_int_equal (evloop_start (loop), 0);
  assert_int_equal (evloop_call (loop, double_it, &n), 84);
  assert_int_equal (evloop_call (loop, look_at_signals, &s), 0);
  assert_true (s.inside);
  assert_true (s.blocked);
  assert_false (evloop_inside (loop));
  evloop_free (loop);
}

struct alarm {
  struct evloop_timer timer;
  struct evloop *loop;
  uint64_t at_ns;
  _Atomic int runs;
  _Atomic int *flag;
};

static void
alarm_rings (struct evloop_timer *timer)
{
  struct alarm *a = container_of (timer, struct alarm, timer);

  a->at_ns = clock_now (evloop_clock (a->loop));
  a->runs++;
  if (a->flag != NULL)
    atomic_store (a->flag, 1);
}

TEST (a_timer_runs_once_not_before_its_time_and_not_when_cleared)
{
  struct evloop *loop;
  _Atomic int flag = 0;
  struct alarm a = { .flag = &flag }, cleared = { 0 }, moved = { 0 };
  uint64_t start;

  assert_int_equal (evloop_create (&real, &loop), 0);
  a.loop = cleared.loop = moved.loop = loop;
  assert_int_equal (evloop_timer_init (loop, &a.timer, alarm_rings), 0);
  assert_int_equal (evloop_timer_init (loop, &cleared.timer, alarm_rings), 0);
  assert_int_equal (evloop_timer_init (loop, &moved.timer, alarm_rings), 0);
  start = clock_now (&real);
  evloop_timer_set (&a.timer, 20 * NSEC_PER_MSEC);
  evloop_timer_set (&cleared.timer, NSEC_PER_MSEC);
  evloop_timer_clear (&cleared.timer);
  evloop_timer_set (&moved.timer, NSEC_PER_MSEC);
  evloop_timer_set (&moved.timer, 1000 * NSEC_PER_SEC);
  evloop_run_until (loop, &flag);
  /* The kernel's coarse clock, which libevent reads, may be a tick behind ours. */
  assert_true (a.at_ns >= start + 10 * NSEC_PER_MSEC);
  assert_int_equal (a.runs, 1);
  assert_int_equal (cleared.runs, 0);
  assert_int_equal (moved.runs, 0);
  evloop_timer_release (&a.timer);
  evloop_timer_release (&a.timer);
  evloop_timer_release (&cleared.timer);
  evloop_timer_release (&moved.timer);
  evloop_free (loop);
}

struct restless {
  struct evloop_work work;
  struct evloop *loop;
  _Atomic int *flag;
};

static void
restless_run (struct evloop_work *work)
{
  struct restless *r = container_of (work, struct restless, work);

  if (atomic_load (r->flag) == 0)
    evloop_post (r->loop, work);
}

TEST (work_that_always_posts_itself_does_not_starve_a_timer)
{
  struct evloop *loop;
  _Atomic int flag = 0;
  struct restless r = { .work.fn = restless_run, .flag = &flag };
  struct alarm a = { .flag = &flag };

  assert_int_equal (evloop_create (&real, &loop), 0);
  r.loop = a.loop = loop;
  assert_int_equal (evloop_timer_init (loop, &a.timer, alarm_rings), 0);
  evloop_timer_set (&a.timer, NSEC_PER_MSEC);
  evloop_post (loop, &r.work);
  evloop_run_until (loop, &flag);
  assert_int_equal (a.runs, 1);
  evloop_timer_release (&a.timer);
  evloop_free (loop);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (work_runs_in_the_order_of_posting),
    cmocka_unit_test (work_posted_twice_runs_once),
    cmocka_unit_test (work_may_post_itself_and_lets_others_run_between),
    cmocka_unit_test (every_post_of_many_threads_runs_once_and_before_the_loop_ends),
    cmocka_unit_test (what_was_posted_runs_even_if_no_thread_ever_did),
    cmocka_unit_test (a_call_waits_for_its_value_on_the_loop_where_signals_are_blocked),
    cmocka_unit_test (work_that_always_posts_itself_does_not_starve_a_timer),
    cmocka_unit_test (a_timer_runs_once_not_before_its_time_and_not_when_cleared),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
