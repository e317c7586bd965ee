/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdtend - what an NBD origin does as time passes: connections are made, judged and
 * given up.
 *
 * Answers: when is a connection made, is what came back the same origin, which request
 * has waited too long?
 *
 * One function, nbdtend_turn, looks at everything.  It runs on the loop when somebody
 * wakes it (nbdpool_wake) and when the earliest instant has come at which it would have
 * something to do; while requests are outstanding that is at most a second.
 *
 * When a connection is given up (D12): nothing on it moves, or one request is left out.
 *
 *   1. Something is under way, and for `timeout' nothing has come and the far side has taken nothing of what we
 *      send; ten times that while a flush is under way, or a trim or zero of more than 32 MiB, for the server
 *      may do nothing else meanwhile: because it does one thing at a time, or the disk does.
 *   2. The oldest request is not answered and others are, for four times `timeout', or ten times if it
 *      is one of those.  Those that were under way with it may come in any order, so the time begins when no
 *      more of them come; it ends with an answer, so that a long reply or request is not cut off: while
 *      that travels nothing else is answered.
 *
 * How long a request has waited is not asked: that may be our own doing, with 64 of them before a slow
 * server or link.  As long as it works on one after the other, at whatever pace, it is not given up.  One that hangs
 * is: its answers end, or go by the oldest.  No request but the oldest can be the first that is left out.
 *
 * Threads  the loop.  A connection is made in a thread of its own (nbdlink.h), one at a
 *          time a pool, which ends with it.
 * Source   D10, D12, D14, D15, D16; nbd.L-24, nbd.L-28.
 */
#ifndef PC_NBDTEND_H
#define PC_NBDTEND_H

#include "nbdpool.h"

extern void nbdtend_turn (struct nbdpool *);

/* Set the timer for the next turn. */
extern void nbdtend_arm_timer (struct nbdpool *);

/* Close what is idle, now: on the loop.  How many connections it was. */
extern unsigned nbdtend_rest (struct nbdpool *);

/* Answer every queued request that would not be admitted now. */
extern void nbdtend_refuse_queued (struct nbdpool *);

/* D14: is the origin at the far end of link what we had?  NULL, or what differs. */
extern const char *nbdtend_compare (struct nbdpool *, const struct nbdlink *);

#endif /* PC_NBDTEND_H */
