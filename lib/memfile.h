/* SPDX-License-Identifier: BSD-3-Clause
 *
 * memfile - the frames: 4 KiB pieces of one memfd, counted by references.
 *
 * Answers: which frame can I have, where is it in memory, who still uses it, to
 * which page of which inode does it belong?
 *
 * A frame is a 32-bit number; frame f lies at memfile_addr (f) = base + f * 4096, so
 * neighbouring numbers are neighbours in memory and a run of frames is one buffer.
 * Memory is charged to the budget when a frame is first handed out (populated) and stays
 * charged while the frame is free: frames are recycled, not punched (D20).
 * memfile_shrink() punches free frames and gives their charge back.
 *
 * References (MFL-1, FRS-3): memfile_alloc hands out frames with one reference.  The
 * map of an inode owns one; a write-back request under way, a fill whose
 * waiters have not copied yet and a mapping own one each.  At zero the frame is free.
 * A frame with exactly one reference is used by its map only: eviction may take it.
 *
 * Uses     why a frame has further references matters to who wants to write it: one that a
 *          request is sent from may not change (D5), one that is mapped may not be replaced.  So
 *          these two are counted apart, beside the references that they hold.  Rule: a
 *          frame is never both.
 *
 * Zeroes   a frame that is handed out for the first time, or after a punch, reads as
 *          zeros; a recycled one holds old bytes of anybody (S-4): the caller must not
 *          let a byte be read that it has not written.
 * Units    frames; bytes where said.
 * Threads  alloc, free, shrink: any thread, take RANK_MEMFILE; get, put, use, refs, owner: any
 *          thread, atomics (put takes RANK_MEMFILE when it frees).
 * Errors   0 or an errno value; alloc returns how many it got.
 * Source   MFL-1, MFL-2, MFL-3, MFL-5, D20, D29, D30.
 */
#ifndef PC_MEMFILE_H
#define PC_MEMFILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "budget.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE ((uint64_t) 1 << PAGE_SHIFT)
#define FRAME_NONE UINT32_MAX

struct memfile;

/* The frame table has 12 bytes a frame: an owner, and a word of four counts.  All references; and of these, requests that
 * send it (two may send different bytes of one page), translations, and translations that may be written through.  The last three are
 * the frame's uses: they begin under the stripe's lock and are 0 when it is free; a FRAME_SENDER ends without a
 * lock, by who has the reference that goes with it.
 *
 * Each count has a most, and who would go beyond it does without: a page has no further translation (ENOMEM), a request
 * travels as a copy.  References cannot: one is the map's, one a fill's, and the rest are uses.
 */
struct frame {
  _Atomic uint32_t counts;
};

#define FRAME_REF UINT32_C (1)
#define FRAME_MAP (UINT32_C (1) << 10)
#define FRAME_MAP_WRITE (UINT32_C (1) << 18)
#define FRAME_SENDER (UINT32_C (1) << 26)
#define FRAME_MAX_REFS 0x3ffu
#define FRAME_MAX_MAPS 0xffu
#define FRAME_MAX_SENDERS 0x3fu

_Static_assert (FRAME_MAX_REFS > FRAME_MAX_MAPS + FRAME_MAX_SENDERS + 64, "the map's, a fill's, and tests'");

#define FRAME_ID_BITS 12        /* inode id 1..4095; page numbers below 2^52 */
static inline uint64_t
frame_owner (uint32_t id, uint64_t pgno)
{
  return (uint64_t) id << (64 - FRAME_ID_BITS) | pgno;
}

static inline uint32_t
frame_owner_id (uint64_t owner)
{
  return owner >> (64 - FRAME_ID_BITS);
}

static inline uint64_t
frame_owner_pgno (uint64_t owner)
{
  return owner & (((uint64_t) 1 << (64 - FRAME_ID_BITS)) - 1);
}

/* max_frames: the size of the table and of the address range; memory is only taken
 * as frames are used.  Charges its table to BUDGET_FIXED.  EINVAL with another page
 * size (D29).
 */
extern int memfile_create (struct budget *, uint32_t max_frames, struct memfile **);
extern void memfile_free (struct memfile *);    /* every frame must be free */

/* What memfile_create charges to BUDGET_FIXED for so many frames. */
extern uint64_t memfile_table_bytes (uint32_t max_frames);

extern uint8_t *memfile_addr (struct memfile *, uint32_t frame);
extern struct frame *memfile_frame (struct memfile *, uint32_t frame);
extern int memfile_fd (struct memfile *);
extern uint32_t memfile_max (struct memfile *);

/* Take up to n frames with one reference each, in runs as long as can be had: n consecutive numbers when
 * there are such (in one lock and without a search up to 64; up to any length where whole groups of 64 are
 * free), ascending within a run.  Recycled frames first, then frames without memory as far as the budget
 * allows, then what is left in pieces.  Returns how many it got: fewer when free frames and budget are
 * short.  Never blocks, never evicts, never calls the system.
 */
extern size_t memfile_alloc (struct memfile *, size_t n, uint32_t *out);

/* The same, but all n in one run or nothing: returns n or 0. */
extern size_t memfile_alloc_run (struct memfile *, size_t n, uint32_t *out);

/* To which page of which inode a frame belongs: frame_owner (inode id, page number); 0: to none.  Written by the inode under
 * its stripe's lock, and 0 when the frame becomes free.
 */
extern void memfile_set_owner (struct memfile *, uint32_t frame, uint64_t owner);
extern uint64_t memfile_owner (struct memfile *, uint32_t frame);

/* One more reference; the frame must have one. */
extern void memfile_get (struct memfile *, uint32_t frame);

/* The same, for a use: FRAME_SENDER, or FRAME_MAP with or without FRAME_MAP_WRITE.  Returns the counts before.  Who counts a use
 * looked before whether one more may be.  memfile_unuse ends the use and leaves the reference.
 */
extern uint32_t memfile_use (struct memfile *, uint32_t frame, uint32_t use);
extern uint32_t memfile_unuse (struct memfile *, uint32_t frame, uint32_t use);

/* One less.  Returns true if that freed it. */
extern bool memfile_put (struct memfile *, uint32_t frame);

/* The same for an array: one lock for all that become free. */
extern void memfile_put_many (struct memfile *, const uint32_t *frames, size_t n);

static inline uint32_t
frame_counts (struct frame *f)
{
  return atomic_load_explicit (&f->counts, memory_order_acquire);
}

static inline uint32_t
frame_refs (struct frame *f)
{
  return frame_counts (f) & FRAME_MAX_REFS;
}

static inline unsigned
frame_senders (struct frame *f)
{
  return frame_counts (f) / FRAME_SENDER;
}

static inline bool
frame_is_sending (struct frame *f)
{
  return frame_counts (f) >= FRAME_SENDER;
}

static inline unsigned
frame_maps (struct frame *f)
{
  return frame_counts (f) / FRAME_MAP & FRAME_MAX_MAPS;
}

static inline unsigned
frame_maps_write (struct frame *f)
{
  return frame_counts (f) / FRAME_MAP_WRITE & FRAME_MAX_MAPS;
}

/* Frames that memfile_alloc could hand out now without anybody giving one back. */
extern uint32_t memfile_available (struct memfile *);
extern uint32_t memfile_in_use (struct memfile *);
extern uint32_t memfile_ready (struct memfile *);       /* free, with memory behind them */

/* Give the memory of up to n free frames back to the system and the budget, longest runs first; returns how
 * many.  Calls the system with no lock held; frames on their way are neither free nor in use (MFL-2).
 */
extern uint32_t memfile_shrink (struct memfile *, uint32_t n);

/* Populate up to n frames ahead of need (MADV_POPULATE_WRITE on address ranges never used yet), so that a
 * first fill does not fault.  For a background thread or timer.  Charges the budget.  Returns how many.
 */
extern uint32_t memfile_populate (struct memfile *, uint32_t n);

/* Is there a free frame without memory behind it, or one that is just getting or losing it? */
extern bool memfile_never_used (struct memfile *);

/* Aborts unless every frame is in exactly one state and the sums agree.  At any time, but alloc and put by
 * other threads wait meanwhile.
 */
extern void memfile_check (struct memfile *);

/* The bounce pool: `count` buffers of `size` bytes (page aligned, MADV_DONTDUMP), charged to
 * BUDGET_FIXED at creation.  Never blocks; NULL when all are out.  The last `reserved` ones go
 * to callers that say `flush` (the flush path's share, D20).  own: how many the caller's inode has; it gets 7/8 of what the
 * others leave, and one in any case: an origin that does not answer must not hold them all.
 */
struct bounce;
extern int bounce_create (struct budget *, size_t size, unsigned count, unsigned reserved, struct bounce **);
extern void bounce_free (struct bounce *);
extern void *bounce_take (struct bounce *, bool flush, unsigned own);
extern void bounce_give (struct bounce *, void *);
extern size_t bounce_size (struct bounce *);

#endif /* PC_MEMFILE_H */
