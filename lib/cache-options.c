/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cache-options - what a cache is made with: the defaults, and what makes no sense.
 *
 * Answers: are these sizes ones that the core can work with, and which line says so if not?
 *
 * Where an origin is and how it is reached nbdlink.c judges.  In mode none what has no effect is accepted whatever it
 * is (D17).
 *
 * Units    bytes.
 * Threads  any, on options of its own.
 * Errors   EINVAL, and a line in the log.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "cache-priv.h"

void
pagecache_options_init (struct pagecache_options *o)
{
  memset (o, 0, sizeof *o);
  o->origin.tls_verify = true;
  o->origin.timeout_ns = 30 * NSEC_PER_SEC;
  o->origin.reconnect_ns = 60 * NSEC_PER_SEC;
  o->mode = PAGECACHE_WRITEBACK;
  o->cache_size = (uint64_t) 256 << 20;
  o->readahead = (uint64_t) 32 << 20;
  o->dirty_max = PAGECACHE_AUTO;
  o->dirty_background = PAGECACHE_AUTO;
  o->dirty_expire_ns = 5 * NSEC_PER_SEC;
  o->revalidate = PAGECACHE_REVALIDATE_OPEN;
}

static int
outside (struct log *log, const char *what, uint64_t value, uint64_t from, uint64_t to)
{
  log_error (log, "%s is %" PRIu64 ": it should be %" PRIu64 " to %" PRIu64, what, value, from, to);
  return EINVAL;
}

static int
resolve_sizes (struct pagecache_options *o, struct log *log)
{
  uint64_t size = o->cache_size;

  if (o->readahead > size / 8)
    o->readahead = size / 8;

  if (o->dirty_max == PAGECACHE_AUTO)
    o->dirty_max = size / 2;
  if (o->dirty_max < PAGECACHE_DIRTY_MAX_MIN || o->dirty_max > size)
    return outside (log, "dirty_max", o->dirty_max, PAGECACHE_DIRTY_MAX_MIN, size);

  if (o->dirty_background == PAGECACHE_AUTO) {
    o->dirty_background = size / 10;
    if (o->dirty_background > o->dirty_max)
      o->dirty_background = o->dirty_max / 5;   /* as far apart as the defaults are */
  }
  if (o->dirty_background > o->dirty_max)
    return outside (log, "dirty_background", o->dirty_background, 0, o->dirty_max);
  return 0;
}

/* Check, and put numbers where the defaults depend on others. */
int
cache_options_resolve (struct pagecache_options *o, struct log *log)
{
  if ((unsigned) o->mode > PAGECACHE_UNSAFE)
    return outside (log, "mode", o->mode, 0, PAGECACHE_UNSAFE);
  if (o->cache_size < PAGECACHE_SIZE_MIN || o->cache_size > PAGECACHE_SIZE_MAX)
    return outside (log, "cache_size", o->cache_size, PAGECACHE_SIZE_MIN, PAGECACHE_SIZE_MAX);
  if (o->mode == PAGECACHE_NONE)
    return 0;
  if (o->revalidate == PAGECACHE_REVALIDATE_INTERVAL && o->revalidate_ns < NSEC_PER_MSEC)
    return outside (log, "revalidate_ns", o->revalidate_ns, NSEC_PER_MSEC, UINT64_MAX);
  return resolve_sizes (o, log);
}
