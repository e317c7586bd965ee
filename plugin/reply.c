/* SPDX-License-Identifier: BSD-3-Clause
 *
 * reply - the one table of errors.
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "reply.h"

int
reply_errno (int err, bool fast_zero)
{
  switch (err) {
  case 0:
  case EPERM:
  case EIO:
  case ENOMEM:
  case EINVAL:
  case ENOSPC:
  case ESHUTDOWN:
    return err;
  case ENOTSUP:
    return fast_zero ? ENOTSUP : EINVAL;
  case ECANCELED:               /* the client has gone, or the server goes */
    return ESHUTDOWN;
  default:
    return EIO;
  }
}

int
reply (struct log *log, const struct request *r, int err)
{
  int told = reply_errno (err, r->fast_zero);
  char where[50] = "";

  if (err == 0)
    return 0;
  if (r->len > 0)
    snprintf (where, sizeof where, " [%" PRIu64 ", %" PRIu64 ")", r->off, r->off + r->len);
  /* A refused fast zero is an answer, and a client that has gone needs none. */
  if (told == ENOTSUP || err == ECANCELED)
    log_debug (plugin, log, "%s: %s%s: %s", r->who, r->what, where, strerror (err));
  else
    log_limited (log, r->limit, LOG_LEVEL_ERROR, "%s: %s%s: %s", r->who, r->what, where,
                 strerror (err));
  nbdkit_set_error (told);
  errno = told;                 /* errno_is_preserved (K-26) */
  return -1;
}

void
reply_log_sink (void *arg, int level, const char *line)
{
  (void) arg;
  switch ((enum log_level) level) {
  case LOG_LEVEL_ERROR:
    nbdkit_error ("pagecache: %s", line);
    break;
  case LOG_LEVEL_WARNING:
    nbdkit_error ("pagecache: warning: %s", line);
    break;
  case LOG_LEVEL_INFO:
  case LOG_LEVEL_DEBUG:
    nbdkit_debug ("pagecache: %s", line);
    break;
  }
}
