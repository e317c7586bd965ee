/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdserver - the test origin under nbdkit, for a C test that starts, stops, kills and
 * commands it.
 *
 * Start it from the main thread: nbdkit ends when the thread that forked it does, so
 * that a test which aborts leaves nothing behind.
 */
#ifndef PC_TESTS_NBDSERVER_H
#define PC_TESTS_NBDSERVER_H

#include <stdbool.h>
#include <sys/types.h>

struct nbdserver {
  char dir[64];                 /* a folder of the test's own */
  char socket[108];
  pid_t pid;                    /* 0: not running */
};

extern void nbdserver_init (struct nbdserver *);        /* makes the folder */
extern void nbdserver_release (struct nbdserver *);     /* stops the server, removes the folder */

/* args: parameters of testorigin, parted by spaces; nbdkit's own begin with -.  Returns
 * when it answers.
 */
extern void nbdserver_start (struct nbdserver *, const char *args);
extern void nbdserver_stop (struct nbdserver *, int signal);    /* and wait for its end */

extern void nbdserver_pause (struct nbdserver *);       /* returns when it has stopped */
extern void nbdserver_go_on (struct nbdserver *);

/* Has it ended by itself?  nbdkit 1.32 may: an assertion of its own fails now and then when a
 * client hangs up in the handshake, as one does whose timeout is over.
 */
extern bool nbdserver_died (struct nbdserver *);

/* A line to the control socket; true: "ok".  What else it said is in answer (may be
 * NULL).
 */
extern bool nbdserver_say (struct nbdserver *, char *answer, size_t len, const char *fmt, ...)
  __attribute__ ((__format__ (__printf__, 4, 5)));

#endif /* PC_TESTS_NBDSERVER_H */
