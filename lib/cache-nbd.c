/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cache-nbd - pagecache_create: a cache whose origins are NBD servers.
 *
 * The only file that knows both the cache and libnbd's side of the house.
 */
#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache.h"
#include "nbdlink.h"
#include "origin-nbd.h"

struct nbd_factory {
  struct nbdlink_params *params;
  struct clock clock;
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

  return origin_nbd_open (f->params, name, loop, ret, canonical, why);
}

static int
nbd_list (void *arg, int (*fn) (void *, const char *, const char *), void *fn_arg, char **why)
{
  struct nbd_factory *f = arg;

  return nbdlink_list (f->params, &f->clock, fn, fn_arg, why);
}

static void
nbd_free (void *arg)
{
  struct nbd_factory *f = arg;

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
    .probe = nbd_probe, .open = nbd_open, .list = nbd_list, .free = nbd_free, .arg = f,
  };
  struct pagecache_origin origin = opt->origin;
  char *why = NULL;
  int err;

  if (!f)
    return ENOMEM;
  f->clock = (struct clock) CLOCK_REAL_INIT;
  if (opt->mode == PAGECACHE_NONE)
    origin.connections = 1;     /* one for each client (D17): what it flushes is what it wrote */
  err = nbdlink_params_create (&origin, &f->params, &why);
  if (err) {
    if (why)
      say (opt, why);
    free (why);
    free (f);
    return err;
  }
  err = cache_create (opt, &factory, NULL, ret);
  if (err)
    nbd_free (f);
  return err;
}
