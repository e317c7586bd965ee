/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cache-io - a client's requests: to the inode, or in mode none to the origin.
 *
 * The one place where the core's errno values become those that pagecache.h promises.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache-priv.h"

/* What a client may see (N-80). */
int
public_errno (int err)
{
  switch (err) {
  case 0: case EPERM: case EIO: case ENOMEM: case EINVAL: case ENOSPC: case ENOTSUP: case ESHUTDOWN: case ECANCELED:
    return err;
  case EROFS: return EPERM;
  case EFBIG: case EDQUOT: return ENOSPC;
  default: return EIO;
  }
}

static void
note_write (struct pagecache_file *f, uint32_t carrier)
{
  uint64_t was = atomic_load (&f->carrier);

  while (!atomic_compare_exchange_weak (&f->carrier, &was, (uint64_t) carrier << 32 | (uint32_t) (was + 1)))
    ;
}

/* Mode none: the origin does it all (D17). */
static int
direct (struct pagecache_file *f, enum origin_cmd cmd, void *buf, uint64_t len, uint64_t off, unsigned flags)
{
  struct origin_req req = { .cmd = cmd, .prio = ORIGIN_PRIO_DEMAND, .off = off, .len = len, .buf = buf };
  uint64_t max = cmd == ORIGIN_READ || cmd == ORIGIN_WRITE ? f->origin->info.block_max : UINT32_MAX;
  int err = 0;

  if (flags & PAGECACHE_FUA)
    req.flags |= ORIGIN_FUA;
  if (cmd == ORIGIN_ZERO && !(flags & PAGECACHE_MAY_TRIM))
    req.flags |= ORIGIN_NO_HOLE;
  if (flags & PAGECACHE_FAST_ZERO)
    req.flags |= ORIGIN_FAST;
  while (!err && len > 0) {
    req.len = len < max ? len : max;
    list_node_init (&req.node);
    err = origin_do (f->origin, &req);
    if (!err && cmd != ORIGIN_READ && cmd != ORIGIN_CACHE)
      note_write (f, req.carrier);
    req.off += req.len;
    len -= req.len;
    if (req.buf)
      req.buf = (uint8_t *) req.buf + req.len;
  }
  return public_errno (err);
}

static bool
write_forbidden (struct pagecache_file *f)
{
  return f->info.read_only;     /* DUR-8: nothing write-like ever leaves */
}

static struct range
range_of (uint64_t len, uint64_t off)
{
  return (struct range) { off, off + len };
}

int
pagecache_read (struct pagecache_file *f, void *buf, uint64_t len, uint64_t off)
{
  struct inode_op op;
  int err;

  if (off + len < off)
    return EINVAL;
  if (!f->ex)
    return direct (f, ORIGIN_READ, buf, len, off, 0);
  err = cache_admit (f->ex, off, len);
  if (err)
    return err;
  inode_op_read (&op, f->ex->ino, buf, range_of (len, off));
  return public_errno (inode_op_wait (&op, f->gone, f->gone_arg));
}

static unsigned
inode_flags (unsigned flags)
{
  return (flags & PAGECACHE_FUA ? INODE_FUA : 0) | (flags & PAGECACHE_MAY_TRIM ? INODE_MAY_TRIM : 0)
         | (flags & PAGECACHE_FAST_ZERO ? INODE_FAST : 0);
}

int
pagecache_write (struct pagecache_file *f, const void *buf, uint64_t len, uint64_t off, unsigned flags)
{
  struct inode_op op;
  int err;

  if (write_forbidden (f))
    return EPERM;
  if (off + len < off)
    return ENOSPC;
  if (!f->ex)
    return direct (f, ORIGIN_WRITE, (void *) (uintptr_t) buf, len, off, flags);
  err = cache_admit (f->ex, off, len);
  if (err)
    return err;
  inode_op_write (&op, f->ex->ino, buf, range_of (len, off), inode_flags (flags));
  return public_errno (inode_op_wait (&op, f->gone, f->gone_arg));
}

/* Mode none: a flush goes to the connection that took the last write.  If that is lost, acknowledged writes may be,
 * and the client hears of it once (DUR-7, D17); what was flushed before is not lost.
 */
int
pagecache_flush (struct pagecache_file *f)
{
  struct inode_op op;
  int err;

  if (f->info.read_only)
    return 0;
  if (!f->ex) {
    uint64_t carrier = atomic_load (&f->carrier);
    struct origin_req req = { .cmd = ORIGIN_FLUSH, .prio = ORIGIN_PRIO_DEMAND, .carrier = (uint32_t) (carrier >> 32) };

    list_node_init (&req.node);
    err = origin_do (f->origin, &req);
    /* Not if a write was answered since. */
    if (err == 0 || err == ENOTCONN)
      atomic_compare_exchange_strong (&f->carrier, &carrier, (uint32_t) carrier);
    return public_errno (err);
  }
  err = cache_admit (f->ex, 0, 0);
  if (err)
    return err;
  inode_op_sync (&op, f->ex->ino, RANGE_ALL, 0);
  return public_errno (inode_op_wait (&op, f->gone, f->gone_arg));
}

int
pagecache_trim (struct pagecache_file *f, uint64_t len, uint64_t off, unsigned flags)
{
  struct inode_op op;
  int err;

  if (write_forbidden (f))
    return EPERM;
  if (off + len < off)
    return EINVAL;
  if (!f->ex)
    return direct (f, ORIGIN_TRIM, NULL, len, off, flags);
  err = cache_admit (f->ex, off, len);
  if (err)
    return err;
  inode_op_trim (&op, f->ex->ino, range_of (len, off), inode_flags (flags));
  return public_errno (inode_op_wait (&op, f->gone, f->gone_arg));
}

int
pagecache_zero (struct pagecache_file *f, uint64_t len, uint64_t off, unsigned flags)
{
  struct inode_op op;
  int err;

  if (write_forbidden (f))
    return EPERM;
  if (off + len < off)
    return ENOSPC;
  if (!f->ex)
    err = direct (f, ORIGIN_ZERO, NULL, len, off, flags);
  else if ((err = cache_admit (f->ex, off, len)) == 0) {
    inode_op_zero (&op, f->ex->ino, range_of (len, off), inode_flags (flags));
    err = public_errno (inode_op_wait (&op, f->gone, f->gone_arg));
  }
  /* ENOTSUP is an answer to a fast zero only (N-42). */
  return err == ENOTSUP && !(flags & PAGECACHE_FAST_ZERO) ? EIO : err;
}

int
pagecache_prefetch (struct pagecache_file *f, uint64_t len, uint64_t off)
{
  uint64_t most = f->pc->opt.cache_size / 4;
  int err;

  if (off + len < off || off + len > f->info.size)
    return EINVAL;
  if (!f->ex)
    return direct (f, ORIGIN_CACHE, NULL, len, off, 0);
  err = cache_admit (f->ex, off, len);
  if (err)
    return err;
  /* D19: at most a quarter of the cache, replied to at once; errors are dropped. */
  inode_prefetch (f->ex->ino, range_of (len < most ? len : most, off), true);
  return 0;
}

/* origin_do has req.arg to itself while it waits. */
struct direct_extents {
  struct origin_req req;
  int (*fn) (void *, uint64_t, uint64_t, unsigned);
  void *arg;
  int err;
};

static void
direct_extent (struct origin_req *req, uint64_t off, uint64_t len, unsigned type)
{
  struct direct_extents *d = container_of (req, struct direct_extents, req);

  if (!d->err)
    d->err = d->fn (d->arg, off, len, type);
}

int
pagecache_extents (struct pagecache_file *f, uint64_t len, uint64_t off, unsigned flags,
                   int (*fn) (void *, uint64_t, uint64_t, unsigned), void *arg)
{
  struct direct_extents d = {
    .req = {
      .cmd = ORIGIN_STATUS, .prio = ORIGIN_PRIO_DEMAND, .flags = flags & PAGECACHE_REQ_ONE ? ORIGIN_ONE : 0,
      .off = off, .len = len, .extent = direct_extent,
    },
    .fn = fn, .arg = arg,
  };
  int err;

  if (off + len < off || off + len > f->info.size)
    return EINVAL;
  if (f->ex && (err = cache_admit (f->ex, off, len)) != 0)
    return err;
  if (f->ex)
    return public_errno (inode_extents (f->ex->ino, range_of (len, off), flags & PAGECACHE_REQ_ONE, fn, arg));
  list_node_init (&d.req.node);
  err = origin_do (f->origin, &d.req);
  return public_errno (err ? err : d.err);
}

int
pagecache_list (struct pagecache *pc, int (*fn) (void *, const char *, const char *), void *arg)
{
  char *why = NULL;
  int err = pc->factory.list (pc->factory.arg, fn, arg, &why);

  if (err)
    report_why (pc, "export list", why);
  return public_errno (err);
}
