/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdwire - a request becomes an NBD command, and its answer is checked.
 *
 * Answers: what does libnbd have to be told for this request, which requests has the
 * server answered, and is an answer whole?
 *
 * libnbd calls us back with its handle's lock held, perhaps before the call that sent
 * the command has returned (nbd.L-10).  So a callback only notes what came and pushes
 * the request on a stack
 * without a lock; who drives the connection takes the stack afterwards.  When the
 * handle is closed, callbacks may never come (nbd.L-16): whoever closes it takes what
 * is left from its own list of requests under way.
 *
 * A command retires itself when its callback returns (nbd.L-11), but for one that ends
 * inside the call that sends it (nbdwire.c, "sending").  What that
 * would hide, a structured read with bytes missing (nbd.L-12), is found here: its
 * chunks must tile the request exactly (nbd.L-13).
 *
 * Threads  issue: any, several at once; take_done: one at a time, the driver; verify
 *          and extents: who took it.
 * Locks    none of ours is held while libnbd is called; libnbd's own inside.
 * Memory   a simple reply and a structured one in order allocate nothing; block status
 *          and chunks out of order allocate in the callback, and nbdwire_forget frees.
 */
#ifndef PC_NBDWIRE_H
#define PC_NBDWIRE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "nbdlink.h"
#include "origin.h"

struct nbdwire {
  struct nbdlink link;
  _Atomic (struct origin_req *) done;   /* newest first, by req->next */
};

extern void nbdwire_init (struct nbdwire *, struct nbdlink *);  /* takes the link over */

/* Send req, a STATUS from status_at on.  0: a callback, or the closing of the handle,
 * ends it.
 *   ENOTCONN  not sent: the connection has ended
 *   ENOTSUP   not sent: the server has no such command
 *   other     not sent: libnbd refused it
 */
PC_MUST_CHECK
extern int nbdwire_issue (struct nbdwire *, struct origin_req *);

/* Those answered since the last call, oldest first, by req->next; req->err is libnbd's
 * errno, where ENOTCONN means that the connection ended first.
 */
extern struct origin_req *nbdwire_take_done (struct nbdwire *);
extern bool nbdwire_has_done (struct nbdwire *);

/* Has every byte of a READ, which ended without an error, come exactly once?  Are the
 * descriptors of a STATUS such as the protocol allows (nbd.L-19)?
 */
extern bool nbdwire_verify (const struct nbdwire *, const struct origin_req *);

/* Call req->extent for what a verified STATUS brought.  True when the request is
 * covered; else status_at says where to go on.
 */
extern bool nbdwire_tell_extents (struct origin_req *);

/* Drop what an answer brought: before a request is sent again and before it is done. */
extern void nbdwire_forget (struct origin_req *);

#endif /* PC_NBDWIRE_H */
