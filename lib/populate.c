/* SPDX-License-Identifier: BSD-3-Clause
 *
 * populate - one thread, one loop (populate.h).
 */
#include <config.h>

#include <errno.h>
#include <signal.h>

#include "populate.h"

#define STEP 512u               /* frames: 2 MiB */

/* How many frames to populate now; 0: enough is there. */
static uint32_t
missing (struct populate *p)
{
  uint32_t ready = memfile_ready (p->mf), backed, n = 0;

  if (!p->begun) {
    /* Those that somebody took meanwhile have memory, too, or he is just getting it. */
    backed = ready + memfile_in_use (p->mf);
    n = backed < p->first ? p->first - backed : 0;
    p->begun = n == 0;
  }
  if (n == 0 && ready < p->ahead)
    n = p->ahead - ready;
  /* Not a step more than is wanted: a small cache would be all frames, and an inode finds no room in it. */
  return n < STEP ? n : STEP;
}

static void *
run (void *arg)
{
  struct populate *p = arg;
  uint32_t n;

  for (;;) {
    while (sem_wait (&p->work) == -1)
      ;
    if (atomic_load (&p->stop))
      return NULL;
    while (!atomic_load (&p->stop) && (n = missing (p)) > 0)
      if (memfile_populate (p->mf, n) == 0) {
        if (memfile_never_used (p->mf))
          break;                /* the budget, or the system, has no more just now: another time */
        atomic_store (&p->done, true);
        return NULL;
      }
  }
}

int
populate_start (struct populate *p, struct memfile *mf, uint32_t first, uint32_t ahead)
{
  sigset_t all, before;
  int err;

  p->mf = mf;
  p->first = first;
  p->ahead = ahead;
  p->taken = 0;
  p->stop = p->done = p->begun = false;
  if (sem_init (&p->work, 0, 0) == -1)
    return errno;
  sigfillset (&all);            /* signals are for the program's own threads (K-13) */
  pthread_sigmask (SIG_SETMASK, &all, &before);
  err = pthread_create (&p->thread, NULL, run, p);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
  if (err) {
    sem_destroy (&p->work);
    return err;
  }
  pthread_setname_np (p->thread, "pc-memory");
  p->started = true;
  return 0;
}

void
populate_stop (struct populate *p)
{
  if (!p->started)
    return;
  atomic_store (&p->stop, true);
  sem_post (&p->work);
  pthread_join (p->thread, NULL);
  sem_destroy (&p->work);
  p->started = false;
}

void
populate_note (struct populate *p, uint32_t n)
{
  if (atomic_load_explicit (&p->done, memory_order_relaxed))
    return;
  if (n == 0)
    sem_post (&p->work);
  else if (atomic_fetch_add_explicit (&p->taken, n, memory_order_relaxed) + n >= STEP) {
    atomic_store_explicit (&p->taken, 0, memory_order_relaxed);
    sem_post (&p->work);
  }
}
