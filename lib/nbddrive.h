/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbddrive - a thread that waits for an answer reads the connection itself.
 *
 * Answers: what does a thread do that has sent a request and has nothing else to do?
 *
 * It leads, if nobody reads the connection: it waits for the socket itself, reads what
 * comes and gives it to whom it belongs, until its own event has come.  Otherwise it follows: it
 * sleeps until it is woken by whoever reads its answer, or is promoted by a leader that
 * leaves.  Who may drive and who takes over is in nbdpool.h.  Compared with a loop that reads
 * for all, a lone reader saves two changes of threads a request, and two system calls.
 *
 * Threads  any but the loop's, with no lock held.
 * Source   D22.
 */
#ifndef PC_NBDDRIVE_H
#define PC_NBDDRIVE_H

#include "nbdpool.h"

/* An origin's drive: what is the connection that was promised for. */
extern void nbddrive_run (struct origin *, void *what, struct waiter *, uint64_t until_ns);

#endif /* PC_NBDDRIVE_H */
