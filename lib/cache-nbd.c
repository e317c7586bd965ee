/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cache-nbd - pagecache_create: a cache whose origins are NBD servers.
 *
 * The only file that knows both the cache and libnbd's side of the house.
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "cache.h"
#include "nbdlink.h"
#include "origin-nbd.h"

struct nbd_factory {
  struct nbdlink_params *params;
  struct clock clock;
  int cancel_fd;                /* can be read from when nothing shall be connected to any more */
};

static int
nbd_probe (void *arg, const char *name, struct origin_info *info, char **why)
{
  struct nbd_factory *f = arg;

  (void) name;                  /* the configured export is in params */
  return nbdlink_probe (f->params, &f->clock, info, why);
}

static int
nbd_open (void *arg, const char *name, struct evloop *loop, struct origin **ret, char **canonical, char **why)
{
  struct nbd_factory *f = arg;

  return origin_nbd_open (f->params, name, f->cancel_fd, loop, ret, canonical, why);
}

/* At most so long: whoever looks has a client waiting, and the server may be one that talks to one at a time. */
#define LOOK_S 1

static int
compare (const struct origin *was, const char *canonical, const struct nbdlink *link, char **differs)
{
  const char *what = nbdlink_differs (&was->info, &link->info);

  if (canonical && link->canonical && strcmp (canonical, link->canonical) != 0)
    what = "it calls the export by another name";
  if (what)
    *differs = strdup (what);
  else if (link->info.size == was->info.size)
    return 0;
  else if (asprintf (differs, "it has %" PRIu64 " bytes instead of %" PRIu64, link->info.size, was->info.size) == -1)
    *differs = NULL;
  return *differs ? 0 : ENOMEM;
}

static int
nbd_look (void *arg, const char *name, const struct origin *was, const char *canonical, char **differs)
{
  struct nbd_factory *f = arg;
  const struct itimerspec limit = { .it_value.tv_sec = LOOK_S };
  int fd = timerfd_create (CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), err;
  struct nbdlink link;
  char *why = NULL;

  if (fd == -1)
    return errno;
  timerfd_settime (fd, 0, &limit, NULL);
  err = nbdlink_connect (f->params, name ? name : f->params->export_name, true, fd, &f->clock, &link, &why);
  free (why);
  close (fd);
  if (err)
    return err;
  err = compare (was, canonical, &link, differs);
  nbdlink_close (&link);
  return err;
}

static int
nbd_list (void *arg, int (*fn) (void *, const char *, const char *), void *fn_arg, char **why)
{
  struct nbd_factory *f = arg;

  return nbdlink_list (f->params, f->cancel_fd, &f->clock, fn, fn_arg, why);
}

static void
nbd_cancel (void *arg)
{
  struct nbd_factory *f = arg;

  eventfd_write (f->cancel_fd, 1);      /* fails only when it has been canceled 2^64 times */
}

static void
nbd_free (void *arg)
{
  struct nbd_factory *f = arg;

  close (f->cancel_fd);
  nbdlink_params_free (f->params);
  free (f);
}

static void
say (const struct pagecache_options *opt, const char *why)
{
  if (opt->log)
    opt->log (opt->log_arg, PAGECACHE_LOG_ERROR, why);
  else
    fprintf (stderr, "pagecache: error: %s\n", why);
}

int
pagecache_create (const struct pagecache_options *opt, struct pagecache **ret)
{
  struct nbd_factory *f = calloc (1, sizeof *f);
  struct cache_factory factory = {
    .probe = nbd_probe, .open = nbd_open, .look = nbd_look, .list = nbd_list, .cancel = nbd_cancel,
    .free = nbd_free, .arg = f,
  };
  struct pagecache_origin origin = opt->origin;
  char *why = NULL;
  int err;

  if (!f)
    return ENOMEM;
  f->clock = (struct clock) CLOCK_REAL_INIT;
  if (opt->mode == PAGECACHE_NONE)
    origin.connections = 1;     /* one for each client (D17): what it flushes is what it wrote */
  f->cancel_fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  err = f->cancel_fd == -1 ? errno : nbdlink_params_create (&origin, &f->params, &why);
  if (err) {
    if (why)
      say (opt, why);
    free (why);
    if (f->cancel_fd != -1)
      close (f->cancel_fd);
    free (f);
    return err;
  }
  err = cache_create (opt, &factory, NULL, ret);
  if (err)
    nbd_free (f);
  return err;
}
