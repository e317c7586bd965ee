/* SPDX-License-Identifier: BSD-3-Clause
 *
 * segnodes - what segment sets are made of: the head of a set, and spare nodes.
 *
 * Answers: where does a set get a node from, when it may not allocate?
 *
 * A set changes under its owner's lock, where nobody may allocate or fail.  So
 * nodes are taken beforehand:
 *
 *      take the lock
 *      want = rangeset_need (&ino->ranges, 1) + dirtyset_need (&ino->dirty, 3)
 *      missing = segnodes_missing (&ino->nodes, want)
 *      if (missing) {
 *        drop the lock
 *        err = segnodes_batch_alloc (&ino->nodes, missing, &batch)   may fail
 *        take the lock
 *        segnodes_give (&ino->nodes, &batch)
 *        look again: the sets may have grown
 *      }
 *      change the sets: cannot fail
 *
 * or, where allocating under the lock is no harm, segnodes_reserve (nodes, want).
 * The number of nodes that an operation can need is a bound, so most of them stay in
 * the list for the next; what removals free comes back to it too.
 *
 * All sets that live under one lock and have one node size share one list; the sets of
 * tier 5 all have SEGNODE_SIZE.
 *
 * Units    nodes; bytes where said.
 * Threads  none: the owner's lock guards list and sets.  segnodes_batch_alloc and _free
 *          use only what never changes after init, so they need no lock.
 * Errors   0, or what the allocator means: ENOMEM.  Then nothing was changed.
 * Cost     missing O(1); give, trim O(nodes moved).
 */
#ifndef PC_SEGNODES_H
#define PC_SEGNODES_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "compiler.h"

/* Bytes of a node of every set in tier 5: 67 entries of 16 bytes in a leaf.  bench-segset at
 * 1 M ranges, insertion and look-up beside absl's: 256 bytes 1.57, 1.51 (before prefetching);
 * 512: 1.07, 0.85; 1024: 0.82, 0.68; 1088: 0.80, 0.66; 1536: 0.84, 0.78.  Bytes a range: 23.6, 20.9, 19.5,
 * 19.4, 19.1.  Of 1024 a leaf holds 63, and a power of two of pages, which is what strides and tests make, leaves the
 * last leaf of a stripe empty.
 */
#define SEGNODE_SIZE 1088

/* Where the memory comes from: alloc returns NULL when it may not have SIZE bytes, aligned
 * as by malloc (64 is better).  Called without any lock by segnodes_batch_alloc and
 * _free, under the owner's by segnodes_reserve, _trim and _release.
 */
typedef void *segnodes_alloc_fn (void *arg, size_t size);
typedef void segnodes_free_fn (void *arg, void *node, size_t size);

struct segnode {                /* a node that is in no set */
  struct segnode *next;
};

struct segnodes {
  /* Fixed by segnodes_init. */
  uint32_t size;                /* bytes of a node */
  segnodes_alloc_fn *alloc;
  segnodes_free_fn *dealloc;
  void *arg;

  /* Guarded by the owner's lock. */
  struct segnode *spare;
  uint32_t nspare;
  uint32_t nused;               /* nodes that are in sets */
};

/* Nodes on their way into or out of a list. */
struct segnodes_batch {
  struct segnode *first;
  uint32_t count;
};

#define SEGNODES_BATCH_INIT ((struct segnodes_batch) { NULL, 0 })

/* The head of any set, 24 bytes; its nodes' type is known to the set's .c file only.  It
 * can be moved by assignment: nothing in the nodes points at it (SEG-10).
 */
struct segset {
  void *root;                   /* NULL: empty, and then there is no node at all */
  struct segnodes *nodes;       /* fixed */
  uint32_t nsegs;
  uint32_t height;              /* levels; 0 when empty */
};

_Static_assert (sizeof (struct segset) <= 24, "an empty set is small");

/* What the decider of X_edit (segset.h) wants done with a piece. */
enum segset_verdict {
  SEGSET_LEAVE,                 /* nothing */
  SEGSET_PUT,                   /* it gets the new value */
  SEGSET_DROP,                  /* it leaves the set; for a gap as LEAVE */
};

/* Begin with no node.  alloc and dealloc NULL: malloc and free. */
extern void segnodes_init (struct segnodes *, size_t size, segnodes_alloc_fn *alloc,
                           segnodes_free_fn *dealloc, void *arg) PC_NONNULL (1);

/* Give all spare nodes back.  No set may use the list any more. */
extern void segnodes_release (struct segnodes *) PC_NONNULL (1);

/* How many of WANT spare nodes are not there; 0: go on. */
static inline uint32_t
segnodes_missing (const struct segnodes *nodes, uint32_t want)
{
  return want > nodes->nspare ? want - nodes->nspare : 0;
}

/* See to it that there are WANT spare nodes. */
extern int segnodes_reserve (struct segnodes *, uint32_t want)
  PC_NONNULL (1) PC_MUST_CHECK;

/* Allocate COUNT nodes fit for the list; without the owner's lock.  BATCH must be empty; it
 * stays so on failure.
 */
extern int segnodes_batch_alloc (const struct segnodes *, uint32_t count,
                                 struct segnodes_batch *batch)
  PC_NONNULL (1, 3) PC_MUST_CHECK;

/* Free what is in BATCH; without the owner's lock. */
extern void segnodes_batch_free (const struct segnodes *, struct segnodes_batch *batch)
  PC_NONNULL (1, 2);

/* Move a batch into the list; BATCH is empty afterwards. */
extern void segnodes_give (struct segnodes *, struct segnodes_batch *batch)
  PC_NONNULL (1, 2);

/* Move all spare nodes but KEEP into BATCH, to be freed when the lock is dropped. */
extern void segnodes_take (struct segnodes *, uint32_t keep, struct segnodes_batch *batch)
  PC_NONNULL (1, 3);

/* Free all spare nodes but KEEP, at once. */
extern void segnodes_trim (struct segnodes *, uint32_t keep) PC_NONNULL (1);

/* For what is made of nodes: one out of the list, which the reserve put there, and back. */
static inline void *
segnodes_pop (struct segnodes *nodes)
{
  struct segnode *node = nodes->spare;

  assert (node != NULL);        /* the caller did not ask how many it needs */
  nodes->spare = node->next;
  nodes->nspare--;
  nodes->nused++;
  return node;
}

static inline void
segnodes_push (struct segnodes *nodes, void *used)
{
  struct segnode *node = used;

  assert (nodes->nused > 0);
  node->next = nodes->spare;
  nodes->spare = node;
  nodes->nspare++;
  nodes->nused--;
}

/* All bytes that came from the allocator, in sets and spare. */
static inline size_t
segnodes_bytes (const struct segnodes *nodes)
{
  return ((size_t) nodes->nspare + nodes->nused) * nodes->size;
}

#endif /* PC_SEGNODES_H */
