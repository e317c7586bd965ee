/* SPDX-License-Identifier: BSD-3-Clause
 *
 * origin-nbd - an NBD server as an origin: connections, their loss and return.
 *
 * Answers: on which connection does a request go, what becomes of it when that is
 * lost, how long does it wait for another?
 *
 * A request is sent by the thread that submits it when a connection has room for it,
 * else it waits in one
 * of three queues and is sent by whoever makes room (D22).  Replies are read by one of the
 * threads that wait for one (nbddrive.h), or on the event loop.
 *
 *   up        requests are sent; more connections are opened while more than 8 a
 *             connection are outstanding (D10), and closed again when idle
 *   down      no connection: requests wait at the gate; a thread connects, again and
 *             again, after 5 ms doubling to 200 ms (D12)
 *   shut      down for longer than reconnect_ns: requests are answered ETIMEDOUT at
 *             once (D15)
 *   changed   the server came back as something else (D14): EIO at once
 *
 * Threads  any, see origin.h; open, probe and list block their caller, which is not the
 *          loop.
 * Errors   as nbdlink.h, with *why.
 * Locks    one of rank ORIGIN over queues and connections; none is held while libnbd or
 *          a done() is called.
 * Life     close before the loop is freed.
 * Source   D9, D10, D12, D14, D15, D16, D22; nbd.L-8, nbd.L-25.
 */
#ifndef PC_ORIGIN_NBD_H
#define PC_ORIGIN_NBD_H

#include "evloop.h"
#include "nbdlink.h"
#include "origin.h"

/* Connect once and keep it: blocks until the export is negotiated, for at most
 * reconnect_ns if the server
 * cannot be reached, and until cancel_fd (-1: never) can be read from: ECANCELED.  A name look-up is
 * not cut short.  name NULL: the configured export.  *canonical: as the server calls it, or NULL; freed by the
 * caller.  params must outlive the origin.
 */
PC_MUST_CHECK
extern int origin_nbd_open (const struct nbdlink_params *params, const char *name, int cancel_fd,
                            struct evloop *loop, struct origin **ret, char **canonical,
                            char **why);

#endif /* PC_ORIGIN_NBD_H */
