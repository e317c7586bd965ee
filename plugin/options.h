/* SPDX-License-Identifier: BSD-3-Clause
 *
 * options - what the operator typed, checked and turned into struct pagecache_options.
 *
 * Answers: is this parameter known, given once, well formed, in range, and does it
 * agree with the others?  If not, which one line says so?
 *
 * The order of use is init, set for each NAME=VALUE, complete, release.  Paths are made
 * absolute in set, against the folder that is current then: nbdkit leaves it when it
 * goes to the background (K-8).
 *
 * Threads  one.
 * Errors   0, EINVAL (the operator's mistake) or ENOMEM.  *why is then a line of
 *          the form "NAME=VALUE: reason (allowed: ...)", to be freed by the caller; NULL when
 *          there was no memory even for that.
 * Memory   what options->cache points at belongs to options.
 */
#ifndef PC_OPTIONS_H
#define PC_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "compiler.h"
#include "pagecache.h"
#include "uri.h"

/* Every parameter, in the order of the manual. */
enum option {
  OPTION_URI,
  OPTION_SOCKET,
  OPTION_HOSTNAME,
  OPTION_PORT,
  OPTION_VSOCK,
  OPTION_EXPORT,
  OPTION_DYNAMIC_EXPORT,
  OPTION_TLS,
  OPTION_TLS_CERTIFICATES,
  OPTION_TLS_VERIFY,
  OPTION_TLS_USERNAME,
  OPTION_TLS_PSK,
  OPTION_FILE,
  OPTION_DIR,
  OPTION_CONNECTIONS,
  OPTION_TIMEOUT,
  OPTION_RECONNECT,
  OPTION_CLIENTS,
  OPTION_CACHE,
  OPTION_CACHE_SIZE,
  OPTION_CACHE_READAHEAD,
  OPTION_CACHE_DIRTY_MAX,
  OPTION_CACHE_DIRTY_BACKGROUND,
  OPTION_CACHE_DIRTY_EXPIRE,
  OPTION_CACHE_REVALIDATE,
  OPTION_CACHE_STATS,
  OPTION_NR,
};

#define OPTIONS_READAHEAD_MIN UINT64_C (4096)
#define OPTIONS_CONNECTIONS_MAX 64
#define OPTIONS_CLIENTS_MAX 65535
#define OPTIONS_CLIENTS 1000
#define OPTIONS_EXPORT_NAME_MAX 4096                    /* K-33 */

/* A share of cache-size that is not known when the parameter is read. */
struct option_share {
  uint64_t bytes;
  unsigned percent;
  bool is_percent;
};

struct options {
  struct pagecache_options cache;       /* right after options_complete */

  char *value[OPTION_NR];       /* as typed; NULL: not given */
  char *path[OPTION_NR];        /* the same made absolute, where it is a path */
  struct uri uri;               /* what OPTION_URI says */
  unsigned clients;             /* that may be connected at once */
  struct option_share dirty_max, dirty_background;
  uint64_t ram;                 /* bytes; a test may change it between init and complete */
  char *warning;                /* from complete: one line, or NULL */
};

extern void options_init (struct options *);
extern void options_release (struct options *);

extern int options_set (struct options *, const char *name, const char *value, char **why)
  PC_MUST_CHECK;
extern int options_complete (struct options *, char **why) PC_MUST_CHECK;

/* "NAME   VALUES   meaning" lines for nbdkit pagecache --help; constant text. */
extern const char options_help[];

#endif /* PC_OPTIONS_H */
