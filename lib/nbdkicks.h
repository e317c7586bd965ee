/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdkicks - eventfds that end the poll of whoever drives a connection (waiter_kick).
 *
 * They are lent to connections and never closed before all origins are: a late kick may still come for one
 * whose connection has gone, and must hit no other file.  For who has it then it is a turn in vain.  They are
 * shared by all origins of a cache, so there are as many as there were connections at once.
 *
 * Threads  any.
 * Locks    one of its own, of the rank of an origin's; none is held by who calls.
 * Errors   nbdkicks_take: NULL without memory or descriptors; who has none does without.
 */
#ifndef PC_NBDKICKS_H
#define PC_NBDKICKS_H

#include "list.h"

struct nbdkicks;

struct nbdkick {
  int fd;
  struct list_node node;        /* while nobody has it */
};

extern struct nbdkicks *nbdkicks_create (void);         /* NULL: no memory */
extern void nbdkicks_free (struct nbdkicks *);          /* all were given back */
extern struct nbdkick *nbdkicks_take (struct nbdkicks *);
extern void nbdkicks_give (struct nbdkicks *, struct nbdkick *);

#endif /* PC_NBDKICKS_H */
