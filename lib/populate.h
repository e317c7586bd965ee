/* SPDX-License-Identifier: BSD-3-Clause
 *
 * populate - memory is there before it is needed.
 *
 * Answers: who takes the page faults of frames that were never used?
 *
 * The first touch of a page of a memfd costs as much as three copies of it, and it is paid by the loop, which reads
 * answers into frames, or by a writer.  With the first open one thread populates `first` frames, before much is read, and
 * from then on keeps `ahead` of them populated, in steps of 2 MiB.  When there is nothing left that was never used, its work
 * is done for good: evicted frames keep their memory.  Where the budget or the system has none just then, it is tried again with
 * the next that are taken.
 *
 * Threads  one, with all signals blocked (K-13).  populate_note from any, with any lock held: one atomic addition, now and then a semaphore.
 * Memory   charged to the budget by memfile_populate; given back by memfile_shrink like any free frame.
 */
#ifndef PC_POPULATE_H
#define PC_POPULATE_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "memfile.h"

struct populate {
  struct memfile *mf;
  uint32_t first, ahead;        /* frames */
  pthread_t thread;
  sem_t work;
  _Atomic uint32_t taken;       /* frames handed out since the thread was woken */
  atomic_bool stop, done;
  atomic_bool begun;            /* `first` were there once */
  bool started;
};

/* After a fork, if there is one; never before. */
extern int populate_start (struct populate *, struct memfile *, uint32_t first, uint32_t ahead);
extern void populate_stop (struct populate *);  /* also if it was never started */

/* n frames were taken; 0: begin. */
extern void populate_note (struct populate *, uint32_t n);

#endif /* PC_POPULATE_H */
