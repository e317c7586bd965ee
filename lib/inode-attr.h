/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-attr - what an export is: how long, and what may be done with it.
 *
 * Answers: what did we tell our clients, what is true at the origin now, and which of the two holds?
 *
 * NBD tells these once a connection, and has no way to change any of them from here; so nothing is ever
 * waiting to be told to the origin.  The origin compares what a new connection says with what we know, and tells us
 * (`failed`, `resized`): that is the seed's UpdateUnstable.  But an attribute that we know better than the origin says (it offered zeros
 * and refused them) is "dirty": what the origin says anew does not overwrite it (CIN-11, CIN-13).
 *
 * The size is fixed while the export is open (D14).  Where the origin ends is another number, never larger.
 * Behind it all fails with EIO; what is dirty there stays, is named by inode_dirty_ranges, fails every flush,
 * and is written if the origin grows back.
 *
 * Locks    RANK_ATTR, taken here; the caller holds none.
 */
#ifndef PC_INODE_ATTR_H
#define PC_INODE_ATTR_H

#include <stdbool.h>
#include <stdint.h>

#include "inode.h"

enum { INODE_ATTR_SIZE = 1, INODE_ATTR_ZERO = 2 };

struct inode_attr {
  uint64_t size;                /* what clients see */
  uint64_t end;                 /* where the origin ends: size, or less */
  uint32_t block_min;
  bool read_only, can_flush, can_fua, can_trim, can_zero;
  unsigned dirty;               /* INODE_ATTR_ that differ from what the origin says */
  int err;                      /* it is another export now: requests fail with this */
};

extern void inode_get_attr (struct inode *, struct inode_attr *);

/* The origin ends at `size` now: less than before, or more, up to what clients see (EBUSY beyond that).  In the order
 * of CIN-26: the number, then mappings, then pages; mappings behind the last page lose their private copies too.
 * Shorter, ENOMEM: it is so, but clean pages could not go; they are not seen until it grows, which tries again first.
 * Longer, EBUSY: somebody pins the page that the old end cut; ENOMEM: as above.  The end stays, and
 * inode_settle_size tries again.
 */
extern int inode_set_size (struct inode *, uint64_t size);

/* False: the end is not where it was told to be. */
extern bool inode_settle_size (struct inode *);

#endif /* PC_INODE_ATTR_H */
