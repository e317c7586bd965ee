/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cache-io - a client's requests: checked, and to the inode, or in mode none to the origin (cache-direct.c).
 *
 * The one place where a request is judged by what its file offers, and where the core's errno values become those that
 * pagecache.h promises.
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
  case EROFS: case EACCES: return EPERM;
  case EFBIG: case EDQUOT: return ENOSPC;
  default: return EIO;
  }
}

/* The border: no module behind it has to doubt a range or a flag, and asserts there are about our own mistakes.  nbdkit looks
 * at ranges and at most flags, but not whether requests are whole blocks (N-74).
 */
static int
check (const struct pagecache_file *f, enum origin_cmd cmd, uint64_t len, uint64_t off, unsigned flags, unsigned known)
{
  const struct pagecache_info *i = &f->info;
  bool writes = cmd == ORIGIN_WRITE || cmd == ORIGIN_TRIM || cmd == ORIGIN_ZERO;

  if (writes && i->read_only)
    return EPERM;               /* DUR-8: nothing write-like ever leaves */
  if (flags & ~known)
    return EINVAL;
  if (off > i->size || len > i->size - off)
    return cmd == ORIGIN_WRITE || cmd == ORIGIN_ZERO ? ENOSPC : EINVAL;
  if ((off | len) & (i->block_min - 1))
    return EINVAL;
  if ((flags & PAGECACHE_FUA) && !i->can_fua)
    return EINVAL;
  if ((cmd == ORIGIN_TRIM && !i->can_trim) || (cmd == ORIGIN_ZERO && !i->can_zero)
      || (cmd == ORIGIN_STATUS && !i->can_extents) || (cmd == ORIGIN_CACHE && !i->can_cache)
      || ((flags & PAGECACHE_FAST_ZERO) && !i->can_fast_zero))
    return ENOTSUP;
  return 0;
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
  int err = check (f, ORIGIN_READ, len, off, 0, 0);

  if (err || len == 0)
    return err;
  if (!f->ex)
    return public_errno (direct_do (f->direct, ORIGIN_READ, buf, len, off, 0));
  err = cache_admit (f->ex, off, len);
  if (err)
    return err;
  if (PC_LIKELY (inode_read_hit (f->ex->ino, buf, range_of (len, off))))
    return 0;
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
  int err = check (f, ORIGIN_WRITE, len, off, flags, PAGECACHE_FUA);

  if (err || len == 0)
    return err;
  if (!f->ex)
    return public_errno (direct_do (f->direct, ORIGIN_WRITE, (void *) (uintptr_t) buf, len, off, flags));
  err = cache_admit (f->ex, off, len);
  if (err)
    return err;
  inode_op_write (&op, f->ex->ino, buf, range_of (len, off), inode_flags (flags));
  return public_errno (inode_op_wait (&op, f->gone, f->gone_arg));
}

int
pagecache_flush (struct pagecache_file *f)
{
  struct inode_op op;
  int err;

  if (f->info.read_only)
    return 0;
  if (!f->info.can_flush)
    return ENOTSUP;
  if (!f->ex)
    return public_errno (direct_flush (f->direct));
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
  int err = check (f, ORIGIN_TRIM, len, off, flags, PAGECACHE_FUA);

  if (err || len == 0)
    return err;
  if (!f->ex)
    return public_errno (direct_do (f->direct, ORIGIN_TRIM, NULL, len, off, flags));
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
  int err = check (f, ORIGIN_ZERO, len, off, flags, PAGECACHE_FUA | PAGECACHE_MAY_TRIM | PAGECACHE_FAST_ZERO);

  if (err || len == 0)
    return err;
  if (!f->ex)
    err = public_errno (direct_do (f->direct, ORIGIN_ZERO, NULL, len, off, flags));
  else if ((err = cache_admit (f->ex, off, len)) == 0) {
    inode_op_zero (&op, f->ex->ino, range_of (len, off), inode_flags (flags));
    err = public_errno (inode_op_wait (&op, f->gone, f->gone_arg));
  }
  /* From there ENOTSUP is an answer to a fast zero only (N-42). */
  return err == ENOTSUP && !(flags & PAGECACHE_FAST_ZERO) ? EIO : err;
}

int
pagecache_prefetch (struct pagecache_file *f, uint64_t len, uint64_t off)
{
  uint64_t most = f->pc->opt.cache_size / 4;
  int err = check (f, ORIGIN_CACHE, len, off, 0, 0);

  if (err || len == 0)
    return err;
  if (!f->ex)
    return public_errno (direct_do (f->direct, ORIGIN_CACHE, NULL, len, off, 0));
  err = cache_admit (f->ex, off, len);
  if (err)
    return err;
  /* D19: at most a quarter of the cache, replied to at once; errors are dropped. */
  inode_prefetch (f->ex->ino, range_of (len < most ? len : most, off), true);
  return 0;
}

int
pagecache_extents (struct pagecache_file *f, uint64_t len, uint64_t off, unsigned flags,
                   int (*fn) (void *, uint64_t, uint64_t, unsigned), void *arg)
{
  bool one = flags & PAGECACHE_REQ_ONE;
  int err = check (f, ORIGIN_STATUS, len, off, flags, PAGECACHE_REQ_ONE);

  if (err || len == 0)
    return err;
  if (!f->ex)
    return public_errno (direct_extents (f->direct, len, off, one, fn, arg));
  err = cache_admit (f->ex, off, len);
  if (err)
    return err;
  return public_errno (inode_extents (f->ex->ino, range_of (len, off), one, fn, arg));
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
