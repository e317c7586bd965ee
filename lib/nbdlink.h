/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdlink - one negotiated connection to an NBD server, or the reason why not.
 *
 * Answers: who is the origin, may we speak to it at all, and what did it say of
 * itself?
 *
 * Connecting is straight-line code that polls one socket with a deadline in the thread
 * that calls it: the probe and the opening worker by themselves, later connections in a
 * thread of
 * their own (origin-nbd.c).  So name look-up, which blocks (nbd.L-28), a server that
 * accepts and says nothing, and a slow TLS handshake stop nobody else, and no handshake
 * state lives on the event loop.
 *
 * Threads  any; a link belongs to one thread at a time until it is READY.
 * Locks    none; nbdlink_connect blocks and may be called with none held.
 * Errors   0 or an errno value and *why, one line to be freed by the caller (NULL when
 *          there was no memory for it): "nbd://host:10809/disk: reason".
 *            ENOENT     the server has no such export
 *            ETIMEDOUT  no answer within timeout_ns
 *            ECANCELED  cancel_fd became readable
 *            EPERM      TLS: refused, or would be unverified (nbd.L-33)
 *            EINVAL     what the server says of itself cannot be served
 *            other      connecting failed; another try may succeed
 * Source   D9, D11; nbd.L-1, nbd.L-3, nbd.L-5, nbd.L-20, nbd.L-28, nbd.L-33.
 */
#ifndef PC_NBDLINK_H
#define PC_NBDLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "clock.h"
#include "compiler.h"
#include "origin.h"
#include "pagecache.h"
#include "uri.h"

#define NBDLINK_ALLOCATION "base:allocation"

struct nbd_handle;
struct nbdkicks;

/* Where and how; checked, with its own copies of strings, paths absolute.  Never
 * changes.
 */
struct nbdlink_params {
  enum uri_transport transport;
  char *host, *port;            /* TCP */
  char *socket;                 /* UNIX */
  uint32_t cid, vsock_port;     /* VSOCK */
  char *export_name;            /* never NULL */
  bool dynamic_export;
  bool tls;
  bool verify;
  char *certificates, *psk, *username;  /* may be NULL */
  unsigned connections;         /* 1..64 */
  uint64_t timeout_ns, reconnect_ns;
  uint64_t idle_ns;             /* 60 s (D10); a test may shorten it */
  uint64_t quarantine_ns;       /* 1 s (D16) */
  char *address;                /* "nbd://host:10809", for messages */
  struct nbdkicks *kicks;       /* what drivers of connections are woken with */
};

PC_MUST_CHECK
extern int nbdlink_params_create (const struct pagecache_origin *, struct nbdlink_params **,
                                  char **why);
extern void nbdlink_params_free (struct nbdlink_params *);

/* "nbd://host:10809/export", control characters replaced, cut at len. */
extern void nbdlink_name (const struct nbdlink_params *, const char *export_name, char *buf,
                          size_t len);

/* Are the files that TLS needs there, and would the server really be verified?  EPERM
 * if not.
 */
PC_MUST_CHECK
extern int nbdlink_check_tls (const struct nbdlink_params *, char **why);

struct nbdlink {
  struct nbd_handle *h;
  /* The same socket under a number of our own.  libnbd closes its own when it sees the
   * connection end; ours stays registered, and tells when the far side has gone (D16).
   */
  int fd;
  bool structured;              /* else every reply is simple (nbd.L-14) */
  bool extents;                 /* base:allocation may be asked here */
  struct origin_info info;
  char *canonical;              /* as the server calls the export, or NULL */
};

/* An origin may be silent for so many times its timeout while it flushes (nbdtend.h). */
#define NBDLINK_SLOW_FACTOR 10

/* structured: ask for structured replies and base:allocation.  cancel_fd: -1 or an
 * eventfd.
 */
PC_MUST_CHECK
extern int nbdlink_connect (const struct nbdlink_params *, const char *export_name, bool structured,
                            int cancel_fd, struct clock *, struct nbdlink *, char **why);

/* Say goodbye if it can be said, and close. */
extern void nbdlink_close (struct nbdlink *);

/* Connect once and look: the export, or with dynamic_export whether there is a server
 * at all (*info is zeros then).
 */
PC_MUST_CHECK
extern int nbdlink_probe (const struct nbdlink_params *, struct clock *, struct origin_info *,
                          char **why);

/* The server's exports, at most 10000; fn != 0 stops and is returned. */
PC_MUST_CHECK
extern int nbdlink_list (const struct nbdlink_params *, int cancel_fd, struct clock *,
                         int (*fn) (void *arg, const char *name, const char *description),
                         void *arg, char **why);

/* Is a later connection to the same export the same origin (D14, nbd.L-24)?  Sizes are
 * not compared.  NULL, or what differs.
 */
extern const char *nbdlink_differs (const struct origin_info *was, const struct origin_info *is);

#endif /* PC_NBDLINK_H */
