/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of lib/budget: the bound holds to the byte, also while many threads try.
 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "budget.h"

TEST (one_less_and_equal_fit_and_one_more_does_not)
{
  struct budget b;

  budget_init (&b, 1000);
  assert_int_equal (budget_take (&b, BUDGET_FRAMES, 999), 0);
  assert_int_equal (budget_take (&b, BUDGET_META, 2), ENOMEM);
  assert_int_equal (budget_take (&b, BUDGET_META, 1), 0);
  assert_int_equal (budget_take (&b, BUDGET_FIXED, 1), ENOMEM);
  assert_int_equal (budget_take (&b, BUDGET_FIXED, 0), 0);
  assert_int_equal (budget_free_bytes (&b), 0);
  budget_check (&b);
}

TEST (a_refusal_changes_nothing)
{
  struct budget b;

  budget_init (&b, 10);
  assert_int_equal (budget_take (&b, BUDGET_META, 4), 0);
  assert_int_equal (budget_take (&b, BUDGET_META, 7), ENOMEM);
  assert_int_equal (budget_free_bytes (&b), 6);
  assert_int_equal (b.by_class[BUDGET_META], 4);
  assert_int_equal (b.peak, 4);
}

TEST (huge_amounts_do_not_wrap)
{
  struct budget b;

  budget_init (&b, UINT64_MAX);
  assert_int_equal (budget_take (&b, BUDGET_META, UINT64_MAX - 1), 0);
  assert_int_equal (budget_take (&b, BUDGET_META, 2), ENOMEM);
  assert_int_equal (budget_take (&b, BUDGET_META, UINT64_MAX), ENOMEM);
  assert_int_equal (budget_take (&b, BUDGET_META, 1), 0);
  budget_check (&b);
}

TEST (what_is_given_back_can_be_taken_by_another_class)
{
  struct budget b;

  budget_init (&b, 10);
  assert_int_equal (budget_take (&b, BUDGET_FRAMES, 10), 0);
  budget_give (&b, BUDGET_FRAMES, 6);
  assert_int_equal (budget_take (&b, BUDGET_META, 7), ENOMEM);
  assert_int_equal (budget_take (&b, BUDGET_META, 6), 0);
  assert_int_equal (b.by_class[BUDGET_FRAMES], 4);
  assert_int_equal (b.by_class[BUDGET_META], 6);
  assert_int_equal (b.peak, 10);
  budget_check (&b);
}

/* Run fn in a child; true if it aborted. */
static bool
aborts (void (*fn) (void))
{
  int status;
  pid_t pid = fork ();

  if (pid == 0) {
    struct rlimit none = { 0, 0 };

    setrlimit (RLIMIT_CORE, &none);
    if (freopen ("/dev/null", "w", stderr) == NULL)
      _exit (1);
    signal (SIGABRT, SIG_DFL);
    fn ();
    _exit (0);
  }
  assert_int_equal (waitpid (pid, &status, 0), pid);
  return WIFSIGNALED (status) && WTERMSIG (status) == SIGABRT;
}

static void
give_too_much (void)
{
  struct budget b;

  budget_init (&b, 10);
  budget_take (&b, BUDGET_META, 5);
  budget_take (&b, BUDGET_FRAMES, 5);
  budget_give (&b, BUDGET_META, 6);
}

static void
check_a_wrong_sum (void)
{
  struct budget b;

  budget_init (&b, 10);
  b.used = 1;
  b.peak = 1;
  budget_check (&b);
}

static void
check_too_much_used (void)
{
  struct budget b;

  budget_init (&b, 10);
  b.used = b.by_class[BUDGET_META] = b.peak = 11;
  budget_check (&b);
}

TEST (the_checks_themselves_abort)
{
  assert_true (aborts (give_too_much));
  assert_true (aborts (check_a_wrong_sum));
  assert_true (aborts (check_too_much_used));
}

#define THREADS 4
#define ROUNDS 20000
#define LIMIT 1000

static void *
take_and_give (void *arg)
{
  struct budget *b = arg;
  uintptr_t refused = 0;
  unsigned seed = (uintptr_t) &seed >> 4;

  for (unsigned i = 0; i < ROUNDS; i++) {
    uint64_t bytes = rand_r (&seed) % (LIMIT / 2);
    enum budget_class class = i % BUDGET_NR_CLASSES;

    if (budget_take (b, class, bytes) != 0) {
      refused++;
      continue;
    }
    if (b->used > LIMIT)
      abort ();
    budget_give (b, class, bytes);
  }
  return (void *) refused;
}

TEST (threads_never_exceed_the_limit_and_leave_nothing_behind)
{
  struct budget b;
  pthread_t t[THREADS];

  budget_init (&b, LIMIT);
  for (unsigned i = 0; i < THREADS; i++)
    assert_int_equal (pthread_create (&t[i], NULL, take_and_give, &b), 0);
  for (unsigned i = 0; i < THREADS; i++)
    pthread_join (t[i], NULL);
  budget_check (&b);
  assert_int_equal (b.used, 0);
  assert_true (b.peak <= LIMIT);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (one_less_and_equal_fit_and_one_more_does_not),
    cmocka_unit_test (a_refusal_changes_nothing),
    cmocka_unit_test (huge_amounts_do_not_wrap),
    cmocka_unit_test (what_is_given_back_can_be_taken_by_another_class),
    cmocka_unit_test (the_checks_themselves_abort),
    cmocka_unit_test (threads_never_exceed_the_limit_and_leave_nothing_behind),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
