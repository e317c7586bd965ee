/* SPDX-License-Identifier: BSD-3-Clause
 *
 * testorigin-gate - what stands between a command and the test origin's image.
 *
 * Answers: when may this command go on, must it fail, and in which order did
 * commands come and go?
 *
 * A command passes, in this order: the log (arrival), its delay, its door,
 * the scripted faults, [the image], its reply door, the log (end).  A door
 * KIND holds a command before it has any effect, KIND.reply after it: the
 * reply is late, or (kill the process then) never comes.
 *
 * Units    bytes; instants in ns of CLOCK_MONOTONIC.
 * Threads  any; one lock, never held while waiting for anything but a door.
 * Errors   gate_enter gives the errno that the client shall see.
 *
 * Invariants
 *   (1) started >= finished, and both only grow between two gate_clear_log ()
 *   (2) a command is in flight[] from gate_enter to gate_leave
 */
#ifndef PC_TESTORIGIN_GATE_H
#define PC_TESTORIGIN_GATE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum kind {
  KIND_READ, KIND_WRITE, KIND_FLUSH, KIND_TRIM, KIND_ZERO, KIND_CACHE,
  KIND_EXTENTS,
  KINDS
};

#define GATE_FUA 1
#define GATE_MAY_TRIM 2
#define GATE_FAST 4

/* A command under way; lives on its worker's stack. */
struct passage {
  enum kind kind;
  unsigned conn;
  const char *export;
  uint64_t off, len;
  unsigned flags;
  uint64_t id;                  /* arrival number, from 1 */
  uint64_t generation;          /* of the log it is recorded in */
  struct passage *next, **prev; /* in flight */
};

extern int gate_open_log (const char *path);
/* KIND.delay, seconds; kind KINDS is every kind. */
extern void gate_set_delay (enum kind kind, double seconds);
extern void gate_set_jitter (double seconds);

extern int gate_enter (struct passage *p);
extern void gate_leave (struct passage *p, int err);
extern void gate_connection (int change);
extern void gate_misaligned (void);

/* A name such as "read", "read.reply" or "all"; -1 if it is none. */
extern int gate_door (const char *name);
extern int gate_kind (const char *name);
#define GATE_ALL (2 * KINDS)

extern void gate_close (int door);
extern void gate_open (int door);
extern void gate_release (int door, uint64_t n);
/* ETIMEDOUT if fewer than n were there after so many seconds. */
extern int gate_wait_at_door (int door, uint64_t n, double seconds);
extern int gate_wait_finished (enum kind kind, uint64_t n, double seconds);

/* Let count commands of the kind (KINDS: any) that touch [start, end) fail;
 * count < 0: all of them.  A flush touches everything.
 */
extern int gate_fail (enum kind kind, uint64_t start, uint64_t end, int err,
                      int64_t count);
extern void gate_clear_faults (void);
/* Kill the process when the n-th command of the kind from now on arrives. */
extern void gate_die_at (enum kind kind, uint64_t n);

extern uint64_t gate_print_log (FILE *fp);
extern void gate_clear_log (void);
extern void gate_print_stats (FILE *fp);

#endif
