/* SPDX-License-Identifier: BSD-3-Clause
 *
 * evloop - how work, timers and sockets come to run on one thread.
 *
 * The head comment of evloop.h says who may call what.  Here is how a post reaches
 * a sleeping loop: the work joins a list under the loop's lock, and only the post
 * that finds the list empty activates one libevent event, `wake`.  libevent then
 * writes to its own eventfd, if the loop sleeps in another thread and nobody has
 * done so since it woke.  So a burst of posts costs one system call.
 *
 * Invariant: `wake` is active or about to be activated while the list is not empty.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>

#include <event2/event.h>
#include <event2/thread.h>

#include "compiler.h"
#include "evloop.h"
#include "lock.h"

struct evloop {
  /* Fixed at creation. */
  struct clock *clock;
  struct event_base *base;
  struct event *wake;

  struct lock lock;             /* RANK_LOOP */
  /* Guarded by lock. */
  struct list posted;
  size_t nposted;

  pthread_t thread;
  bool running;                 /* there is a thread; start and free only */
  struct evloop_work stop;

  /* Whose thread dispatches now; 0 while nobody does.  Relaxed: a thread can only find
   * its own id here if it put it there itself.
   */
  _Atomic uintptr_t inside;
};

/* An id of the calling thread that needs no system call. */
static uintptr_t
thread_self_id (void)
{
  static _Thread_local char here;

  return (uintptr_t) &here;
}

/* Run what is posted now.  What the work itself posts waits for the next turn of the
 * loop, or a work that posts itself again would starve the sockets.
 */
static void
run_posted (struct evloop *loop)
{
  struct evloop_work *work;
  size_t n;
  bool more;

  lock_take (&loop->lock);
  for (n = loop->nposted; n > 0; n--) {
    work = list_entry (list_pop_front (&loop->posted), struct evloop_work, node);
    work->posted = false;
    loop->nposted--;
    lock_drop (&loop->lock);
    work->fn (work);            /* may free work */
    lock_take (&loop->lock);
  }
  more = loop->nposted > 0;
  lock_drop (&loop->lock);

  if (more)
    event_active (loop->wake, EV_READ, 0);
}

static void
on_wake (evutil_socket_t fd, short what, void *arg)
{
  (void) fd;
  (void) what;
  run_posted (arg);
}

int
evloop_create (struct clock *clock, struct evloop **ret)
{
  struct event_config *config;
  struct evloop *loop;
  int err = ENOMEM;

  if (evthread_use_pthreads () == -1)
    return ENOMEM;
  loop = calloc (1, sizeof *loop);
  if (loop == NULL)
    return ENOMEM;
  loop->clock = clock;

  config = event_config_new ();
  if (config == NULL)
    goto free_loop;
  /* No signal handling, and no surprises from EVENT_* in the environment. */
  event_config_set_flag (config, EVENT_BASE_FLAG_IGNORE_ENV);
  /* libevent runs active events until there is none before it looks at sockets and
   * timers again; one that activates itself would keep it there for ever.  32: the cost
   * of one epoll_wait over that many callbacks is not seen.
   */
  event_config_set_max_dispatch_interval (config, NULL, 32, 0);
  loop->base = event_base_new_with_config (config);
  event_config_free (config);
  if (loop->base == NULL)
    goto free_loop;

  loop->wake = event_new (loop->base, -1, EV_PERSIST, on_wake, loop);
  if (loop->wake == NULL)
    goto free_base;

  lock_init (&loop->lock, RANK_LOOP);
  list_init (&loop->posted);
  *ret = loop;
  return 0;

 free_base:
  event_base_free (loop->base);
 free_loop:
  free (loop);
  return err;
}

/* The one thread of the loop: it sleeps in epoll and nowhere else, and ends when the
 * work `stop` has run.
 */
static void *
loop_thread (void *arg)
{
  struct evloop *loop = arg;

  atomic_store_explicit (&loop->inside, thread_self_id (), memory_order_relaxed);
  event_base_loop (loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
  atomic_store_explicit (&loop->inside, 0, memory_order_relaxed);
  return NULL;
}

/* K-13: a signal that this thread took would interrupt nobody who waits for it. */
int
evloop_start (struct evloop *loop)
{
  sigset_t all, old;
  int err;

  assert (!loop->running);
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&loop->thread, NULL, loop_thread, loop);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  if (err == 0) {
    pthread_setname_np (loop->thread, "pc-loop");
    loop->running = true;
  }
  return err;
}

static void
stop_work (struct evloop_work *work)
{
  struct evloop *loop = container_of (work, struct evloop, stop);

  event_base_loopbreak (loop->base);
}

void
evloop_free (struct evloop *loop)
{
  if (loop == NULL)
    return;
  if (loop->running) {
    loop->stop.fn = stop_work;
    evloop_post (loop, &loop->stop);
    pthread_join (loop->thread, NULL);
  }
  atomic_store_explicit (&loop->inside, thread_self_id (), memory_order_relaxed);
  while (loop->nposted > 0)
    run_posted (loop);

  event_free (loop->wake);
  event_base_free (loop->base);
  lock_release (&loop->lock);
  free (loop);
}

void
evloop_post (struct evloop *loop, struct evloop_work *work)
{
  bool first = false;

  lock_take (&loop->lock);
  if (!work->posted) {
    work->posted = true;
    list_node_init (&work->node);
    list_push_back (&loop->posted, &work->node);
    first = loop->nposted++ == 0;
  }
  lock_drop (&loop->lock);

  if (first)
    event_active (loop->wake, EV_READ, 0);
}

bool
evloop_inside (struct evloop *loop)
{
  return atomic_load_explicit (&loop->inside, memory_order_relaxed) == thread_self_id ();
}

struct event_base *
evloop_base (struct evloop *loop)
{
  return loop->base;
}

struct clock *
evloop_clock (struct evloop *loop)
{
  return loop->clock;
}

void
evloop_run_until (struct evloop *loop, _Atomic int *flag)
{
  assert (!loop->running);
  atomic_store_explicit (&loop->inside, thread_self_id (), memory_order_relaxed);
  while (atomic_load (flag) == 0)
    event_base_loop (loop->base, EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY);
  atomic_store_explicit (&loop->inside, 0, memory_order_relaxed);
}

static void
on_timer (evutil_socket_t fd, short what, void *arg)
{
  struct evloop_timer *timer = arg;

  (void) fd;
  (void) what;
  timer->fn (timer);
}

int
evloop_timer_init (struct evloop *loop, struct evloop_timer *timer,
                   void (*fn) (struct evloop_timer *))
{
  timer->fn = fn;
  timer->event = event_new (loop->base, -1, 0, on_timer, timer);
  return timer->event == NULL ? ENOMEM : 0;
}

void
evloop_timer_set (struct evloop_timer *timer, uint64_t after_ns)
{
  struct timeval tv;

  /* Rounded up: a timer that comes early would be set again for nothing. */
  after_ns += NSEC_PER_USEC - 1;
  tv.tv_sec = after_ns / NSEC_PER_SEC;
  tv.tv_usec = after_ns % NSEC_PER_SEC / NSEC_PER_USEC;
  event_add (timer->event, &tv);
}

void
evloop_timer_clear (struct evloop_timer *timer)
{
  event_del (timer->event);
}

void
evloop_timer_release (struct evloop_timer *timer)
{
  if (timer->event != NULL)
    event_free (timer->event);
  timer->event = NULL;
}

struct call {
  struct evloop_work work;
  int (*fn) (void *);
  void *arg;
  pthread_mutex_t mutex;
  pthread_cond_t cond;
  bool ran;                     /* guarded by mutex */
  int ret;
};

static void
call_work (struct evloop_work *work)
{
  struct call *call = container_of (work, struct call, work);
  int ret = call->fn (call->arg);

  pthread_mutex_lock (&call->mutex);
  call->ret = ret;
  call->ran = true;
  pthread_cond_signal (&call->cond);
  pthread_mutex_unlock (&call->mutex);
}

int
evloop_call (struct evloop *loop, int (*fn) (void *), void *arg)
{
  struct call call = {
    .work.fn = call_work,
    .fn = fn,
    .arg = arg,
    .mutex = PTHREAD_MUTEX_INITIALIZER,
    .cond = PTHREAD_COND_INITIALIZER,
  };

  /* Without a thread there is nobody to wait for and nobody to run beside. */
  if (!loop->running || evloop_inside (loop))
    return fn (arg);

  lock_assert_none_held ();
  evloop_post (loop, &call.work);
  pthread_mutex_lock (&call.mutex);
  while (!call.ran)
    pthread_cond_wait (&call.cond, &call.mutex);
  pthread_mutex_unlock (&call.mutex);
  pthread_cond_destroy (&call.cond);
  pthread_mutex_destroy (&call.mutex);
  return call.ret;
}
