/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-world - everything an inode needs, in one thread, with a clock that stands still.
 *
 * Answers: how do the simulation and the unit tests come by inodes without a cache above them?
 *
 * A world is a budget, frames, a policy and up to WORLD_DISKS exports over origins in memory.  Nothing happens by
 * itself: the caller drives the ops, opens the doors, moves the clock and gives write-back its turns.
 * Failures end the program, with what failed.
 */
#ifndef PC_INODE_WORLD_H
#define PC_INODE_WORLD_H

#include "inode.h"
#include "origin-mem.h"
#include "writeback.h"

#define WORLD_DISKS 3

struct world_options {
  uint32_t nframes;
  uint64_t spare;               /* bytes of the budget for tree nodes and fills; 0: plenty */
  enum inode_mode mode;
  uint64_t readahead;
  uint64_t dirty_max, dirty_background;         /* 0: half and a tenth of the frames */
  unsigned nwb;                 /* 0: 16 */
};

struct world_disk {
  struct origin *origin;
  struct inode *ino;
  struct writeback_state ws;
  bool dirtied;
};

struct world {
  struct clock_fake clock;
  struct budget budget;
  struct memfile *mf;
  struct bounce *bounce;
  struct evict evict;
  void *evict_mem;
  struct inode_env env;
  struct world_disk disk[WORLD_DISKS];
  unsigned ndisks;
  bool starved;
};

/* An origin that can do everything; what it cannot is changed by the caller. */
extern struct origin_info world_info (uint64_t size);

extern void world_init (struct world *, const struct world_options *);
extern struct world_disk *world_add (struct world *, const struct origin_info *);

/* Drop up to `want` clean pages of whoever has them.  Returns whether one went. */
extern bool world_reclaim (struct world *, unsigned want);

/* A turn of write-back for one export, or for all that asked for one. */
extern void world_turn (struct world *, struct world_disk *, bool drain);

/* Frees all of it and checks that nothing is missing.  What is dirty is lost. */
extern void world_release (struct world *);

/* The allocations for tree nodes and fills fail from now on: one in `n` by chance of *rng; 0: none.  For programs linked
 * with --wrap=aligned_alloc.
 */
extern void world_fail_alloc (unsigned n, uint64_t *rng);

/* Each of them from now on, or none: no tree node, no fill, no question of an op. */
extern void world_refuse (bool on);

/* Or exactly number `nth` from now on (0: the next one); and how many there were since. */
extern void world_fail_alloc_nth (long nth);
extern unsigned long world_allocs (void);

#endif /* PC_INODE_WORLD_H */
