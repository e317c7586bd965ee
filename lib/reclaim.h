/* SPDX-License-Identifier: BSD-3-Clause
 *
 * reclaim - who leaves when frames are short?
 *
 * The thread that needs frames takes a batch of victims from the policy under the eviction lock, drops that,
 * and asks each victim's inode whether the page may leave (D25).  Nothing is waited for: dirty, pinned and
 * filling pages stay.
 *
 * Threads  any, no lock held.
 * Cost     a batch of at most 64; one stripe lock a run of neighbours.
 */
#ifndef PC_RECLAIM_H
#define PC_RECLAIM_H

#include "inode.h"

/* How to find the inode of a frame; get returns it with a reference or NULL. */
struct reclaim_hooks {
  struct inode *(*get) (void *arg, uint32_t id);
  void (*put) (void *arg, struct inode *);
  void *arg;
};

/* Drop about `want` clean pages.  Returns how many went; *dirty: how many could not because they are dirty. */
extern unsigned reclaim_frames (struct inode_env *, const struct reclaim_hooks *, unsigned want, unsigned *dirty);

#endif /* PC_RECLAIM_H */
