/* SPDX-License-Identifier: BSD-3-Clause
 *
 * uri - what an NBD URI says, or why it says nothing.
 *
 * libnbd reads URIs too, but forgivingly: an unknown query key is skipped, so
 * a misspelt tls-certificate= switches verification off and nobody notices; the
 * last socket= wins; port 0 becomes 10809 (nbd.L-36).  An origin is configuration, where every
 * doubt is an error (nbd.L-37), so we read it ourselves and hand libnbd the parts.
 *
 *   nbd[s]://[USER@]HOST[:PORT]/EXPORT[?KEY=VALUE&...]
 *   nbd[s]+unix://[USER@]/EXPORT?socket=PATH[&...]
 *   nbd[s]+vsock://[USER@][CID[:PORT]]/EXPORT[?...]
 *
 * Keys: socket, tls-certificates, tls-psk-file.  Parts are percent decoded; a decoded
 * NUL, a control character and an export name that is not UTF-8 are refused.
 *
 * Threads  any; a function of its arguments.
 * Errors   EINVAL, with one line for the user that does not repeat the user part
 *          (nbd.L-37); ENOMEM.
 * Owner    uri_release frees; the strings live that long.
 */
#ifndef PC_URI_H
#define PC_URI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compiler.h"

#define URI_DEFAULT_PORT "10809"
#define URI_EXPORT_MAX 4096     /* N-2 */
#define URI_SOCKET_MAX 107      /* sun_path without its NUL, which libnbd forgets */

enum uri_transport {
  URI_TCP,
  URI_UNIX,
  URI_VSOCK,
};

struct uri {
  enum uri_transport transport;
  bool tls;                     /* the scheme begins with nbds */
  char *export_name;            /* never NULL */
  char *host;                   /* TCP: without brackets */
  char *port;                   /* TCP: decimal, 1..65535 */
  char *socket;                 /* UNIX */
  uint32_t cid, vsock_port;     /* VSOCK */
  char *username;               /* these may be NULL */
  char *tls_certificates;
  char *tls_psk_file;
};

/* why: one line without newline, cut at whylen. */
PC_NONNULL (1, 2, 3) PC_MUST_CHECK
extern int uri_parse (const char *text, struct uri *, char *why, size_t whylen);
extern void uri_release (struct uri *);

/* "1".."65535" without sign, space or leading zero, as *port; else EINVAL. */
extern int uri_parse_port (const char *text, size_t len, uint32_t max, uint32_t *port);

/* path as it is from /: nbdkit goes there when it goes to the background (D11, K-8).  ENOMEM, or another error: the current
 * folder has no name; then *ret is NULL.
 */
PC_NONNULL (1, 2) PC_MUST_CHECK
extern int uri_make_absolute (const char *path, char **ret);

/* Is this a name that may be sent as an export's: UTF-8, no NUL, at most URI_EXPORT_MAX bytes? */
extern bool uri_export_is_valid (const char *name, size_t len);

#endif /* PC_URI_H */
