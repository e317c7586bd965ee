/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-map - an export in address spaces: who maps it, and through which frames.
 *
 * Answers: in which frame is this page, for somebody who keeps the answer; and who must hear
 * when the answer is no longer true?
 *
 * A mapping says that a space may ask (MEM-1).  A translation is an answer: these bytes are in
 * these frames, and may be read, or read and written.  It holds a reference on each frame, so that no page
 * leaves and no frame is replaced under it, until the space gives it back with inode_dec_ref.  A page
 * fault is two steps (D21):
 *
 *     lock the space; err = inode_translate (...); install; unlock
 *     EAGAIN: inode_op_map (&op, ...); run it to its end, holding no lock; translate again, with &op;
 *             inode_op_map_end (&op)
 *
 * Translations are given up when the space unmaps, and when the inode says `invalidate`: the size shrank, the
 * origin is another, the page is to be evicted or written back (write-behind takes the frames back before it
 * sends them; a flush sends a copy and leaves them where they are).
 *
 * Writable translations change bytes unseen.  While a page has one, all of it is dirty and "kept" (DRT-2):
 * every flush sends it.  With the last one it becomes an ordinary dirty page (DRT-5).
 *
 * What clients write shows in mappings at once and the other way round: there is one frame.  Trims and zeros
 * of mapped pages are written into them.
 *
 * Units    bytes; offsets and addresses of whole pages; frames of env->mf.
 * Locks    inode_add_mapping, _copy_mapping, _remove_mapping and everything that may invalidate: the caller holds none.
 *          inode_translate, inode_inc_ref, inode_dec_ref: may hold RANK_MM_ACTIVE and below.
 * Errors   as said at each; of translations (MEM-6): EAGAIN: run the op; ENXIO: beyond the end; EPERM:
 *          read-only export; EIO: another export now; ESHUTDOWN: drained; ENOMEM: this page has FRAME_MAX_MAPS translations; EOVERFLOW: more
 *          pieces than asked for.  But for EAGAIN and EOVERFLOW they are the fault's end.
 * Memory   24 bytes and more a mapping (mappingset.h); a translation costs nothing here.
 * Source   MEM-1..8, MAP-6, CIN-30..37, CIN-40, D13, D21.
 */
#ifndef PC_INODE_MAP_H
#define PC_INODE_MAP_H

#include <stdbool.h>
#include <stdint.h>

#include "inode.h"

/* What a fault brings beside what it needs, and what it maps of that which is there: two numbers,
 * for reading costs the origin's time and mapping costs ours (sem.B-73).
 */
#define INODE_FILL_LIMIT ((uint64_t) 64 << 10)
#define INODE_MAP_LIMIT ((uint64_t) 2 << 20)

enum { INODE_MAP_READ = 1, INODE_MAP_WRITE = 2 };       /* WRITE: and read */

enum { MAPPING_PRIVATE = 1 };   /* private copies of the bytes as well: they are no more (MEM-8) */

/* Part of an address space; the owner's.
 *
 * invalidate  addrs must not be accessed any more: take what is installed there away and give each
 *             translation back (inode_dec_ref) before it returns.  The next fault asks again.  Called with the inode's
 *             mappings locked: may take RANK_MM_ACTIVE and below, may not call back for mappings (MAP-6).
 */
struct mapping_space {
  void (*invalidate) (struct mapping_space *, struct range addrs, unsigned flags);
};

struct inode_translation {
  struct range range;           /* bytes of the export, whole pages */
  uint32_t frame;               /* of the first page; the others follow */
  unsigned perms;
};

/* The space maps bytes [off, off + length of addrs) at addrs from now on; writable: shared, and may ever be written
 * through.  0, EINVAL: not whole pages, or off overflows; EPERM: writable of a read-only export; ENOMEM.
 */
extern int inode_add_mapping (struct inode *, struct mapping_space *, struct range addrs, uint64_t off,
                              bool writable);

/* The same for a mapping that was moved or doubled (MEM-2); src may be empty. */
extern int inode_copy_mapping (struct inode *, struct mapping_space *, struct range src, struct range dst,
                               uint64_t off, bool writable);

/* The reverse, also of a part.  The space has given its translations back.  Waits for nobody and writes nothing: what is
 * dirty goes later (sem.B-7).  0; ENOMEM: nothing changed, only where a mapping is cut.
 */
extern int inode_remove_mapping (struct inode *, struct mapping_space *, struct range addrs, uint64_t off,
                                 bool writable);

/* Step one: an op (inode.h) that makes required ready for inode_translate as far as it lies in the export, and
 * begins to read some of optional, which contains it.  Write access waits at the dirty bound like a write (D13).
 * op->err: 0; ENXIO, EPERM, ESHUTDOWN; the origin's.  What it read stays until inode_op_map_end.
 */
extern void inode_op_map (struct inode_op *, struct inode *, struct range required, struct range optional,
                          unsigned access);
extern void inode_op_map_end (struct inode_op *);

/* Step two: never waits, asks nobody.  ts: the first at required.start, contiguous, each of
 * them in required at least in part and all in optional (MEM-5); *n of them.  0: all of required; else a prefix of
 * it, which may be empty, and why it ends.  op: which has just prepared this, or NULL.
 */
extern int inode_translate (struct inode *, const struct inode_op *op, struct range required,
                            struct range optional, unsigned access, struct inode_translation *ts, unsigned max,
                            unsigned *n);

/* Is that so?  For assertions (MEM-5). */
extern bool inode_translation_holds (struct range required, struct range optional, unsigned access,
                                     const struct inode_translation *ts, unsigned n, int err);

/* One reference more on frames of which the caller has one (a fork, a pin), or one less.  The same range, frame and
 * perms as in a translation, or any part of it.
 */
extern void inode_inc_ref (struct inode *, const struct inode_translation *);
extern void inode_dec_ref (struct inode *, const struct inode_translation *);

/* required, with as much of optional as fits into limit (CIN-33). */
extern struct range inode_map_window (struct range required, struct range optional, uint64_t limit);

/* Tell all mappings of r. */
extern void inode_unmap (struct inode *, struct range r, unsigned flags);

/* Write-behind: take back the writable translations of what became dirty in generations up to seq, so that it can
 * be written and become clean.
 */
extern void inode_unkeep (struct inode *, uint32_t seq);

/* No translation any more (ESHUTDOWN), or again. */
extern void inode_shut_maps (struct inode *, bool shut);

/* Drain (MEM-9, CIN-40): no translation from now on; all are taken back; everything is
 * written and durable; nothing is held.  Blocks.  After an error translations are given again.
 */
extern int inode_invalidate_unsavable (struct inode *);

/* The origin has other bytes than it had (CIN-41): nothing clean survives, mapped or not.  ENOMEM: some could not go. */
extern int inode_origin_changed (struct inode *);

/* For counters and checks: frames with a translation, with a writable one; is anything mapped? */
extern uint32_t inode_mapped_frames (struct inode *);
extern uint32_t inode_kept_frames (struct inode *);
extern bool inode_has_mappings (struct inode *);

#endif /* PC_INODE_MAP_H */
