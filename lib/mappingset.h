/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mappingset - which address spaces map which bytes of one inode.
 *
 * Answers: who has to hear when these bytes change their place, and is anyone left?
 *
 * A segment is a run of bytes that the same mappings cover; its value is the list of them.  A
 * mapping is kept as (space, writable, distance from offset to address), which is the
 * same wherever the segment is cut, so neighbours merge when their lists are equal (MAP-4).
 *
 * Units    bytes of the inode (offsets) and of an address space (addresses).
 * Threads  none; the owner's lock guards set and both lists.  Functions that take a const
 *          set may run at once under a shared lock.
 * Errors   none; without the nodes and cells that mappingset_wants asks for, the program stops.
 * Cost     O(log n + segments touched x mappings there).  A segment costs 24 bytes of a
 *          node and 32 for each mapping of it.
 *
 * Nodes    Two lists: nodes of SEGNODE_SIZE and cells of MAPPINGSET_CELL, one a mapping and
 *          segment.  mappingset_add and _remove of a range need what mappingset_wants says for
 *          it now, under the same lock; for one without the lock, see segnodes.h.
 *
 * Invariants, run by mappingset_check():
 *   (1) segments are not empty, disjoint, ascending, each with at least one mapping
 *   (2) the mappings of a segment ascend by space, writable and distance, so that none is
 *       there twice (MAP-5)
 */
#ifndef PC_MAPPINGSET_H
#define PC_MAPPINGSET_H

#include <stdbool.h>
#include <stdint.h>

#include "compiler.h"
#include "range.h"
#include "segnodes.h"

#define MAPPINGSET_CELL 32

struct mappingset {
  struct segset set;
  struct segnodes *cells;       /* fixed */
};

struct mappingset_wants {
  uint32_t nodes, cells;
};

extern void mappingset_init (struct mappingset *, struct segnodes *nodes,
                             struct segnodes *cells) PC_NONNULL (1, 2, 3);
extern void mappingset_release (struct mappingset *) PC_NONNULL (1);

/* What adding or removing a mapping of OFFS can take at most. */
extern struct mappingset_wants mappingset_wants (const struct mappingset *,
                                                 struct range offs) PC_NONNULL (1);

/* Is told a range of offsets, ascending, each as long as can be; may not touch the set. */
typedef void mappingset_edge_fn (void *arg, struct range offs);

/* SPACE maps the bytes from OFF on at ADDRS.  WRITABLE: may ever be written through (MEM-1);
 * it is part of what the mapping is.  A mapping that is there already is not counted
 * twice.  FIRST, if not NULL, is told what had no mapping before (MAP-2).
 * OFF + the length of ADDRS must not overflow.
 */
extern void mappingset_add (struct mappingset *, void *space, struct range addrs,
                            uint64_t off, bool writable, mappingset_edge_fn *first,
                            void *arg) PC_NONNULL (1);

/* The reverse, also of a part.  Where the mapping is not, nothing happens, but the byte at OFF
 * must have some mapping.  LAST, if not NULL, is told what has none any more (MAP-3).
 */
extern void mappingset_remove (struct mappingset *, void *space, struct range addrs,
                               uint64_t off, bool writable, mappingset_edge_fn *last,
                               void *arg) PC_NONNULL (1);

/* FN for each mapping of each piece of OFFS, ascending: ADDRS there must go (MAP-6).  It may not
 * touch the set.
 */
typedef void mappingset_invalidate_fn (void *arg, void *space, struct range addrs,
                                       uint64_t off, bool writable);
extern void mappingset_invalidate (const struct mappingset *, struct range offs,
                                   mappingset_invalidate_fn *fn, void *arg)
  PC_NONNULL (1, 3);

static inline bool
mappingset_is_empty (const struct mappingset *ms)
{
  return ms->set.nsegs == 0;
}

extern void mappingset_check (const struct mappingset *) PC_NONNULL (1);

#endif /* PC_MAPPINGSET_H */
