/* SPDX-License-Identifier: BSD-3-Clause
 *
 * evict - which frames leave when memory is short.
 *
 * Answers: of all frames in use, which are the next to be given up?  It knows
 * frame numbers and one 64-bit key a page, nothing of bytes, exports or I/O.
 *
 * Units    frames are numbers in [0, nframes); a key names a page for ever
 *          (evict_key), a frame holds one page after the other.
 * Threads  evict_touch and evict_is_ahead take no lock and run anywhere while
 *          the caller keeps the frame (a pin); every other function runs under
 *          the caller's eviction lock (D25).
 * Errors   none: all memory comes with evict_init.
 * Memory   one block, evict_size (): 12 bytes a frame (queue slots 4.3,
 *          remembered keys 5.5, state 2) and 2 KiB; no allocation.
 * Cost     touch: one byte load, a store only when it changes; insert, forget,
 *          gone, unpick O(1), but that slots of forgotten frames are squeezed
 *          out in O(nframes) once in nframes / 16 forgets; pick looks at no
 *          more than 4 * max + 256 slots before it takes what comes.
 *
 * The policy is S3-FIFO [1]: new pages enter a small FIFO queue; used twice
 * there they move to the main queue, else they leave and their key is
 * remembered; a page that comes back while remembered goes to the main queue,
 * whose tail gives a used frame another turn.  Where we depart from it:
 *  - First fill: until the first pick, what the small queue does not hold goes
 *    straight to the main queue.  So a loop larger than the cache keeps a part
 *    of itself instead of nothing.
 *  - Keys are remembered for as many evictions as there are frames (0.9 in
 *    [1]): a loop as long as the cache is then found after one round.
 *  - The small queue's share adapts between 1/20 and 9/10.  A page that comes
 *    back soon (within 1/10 of the frames) after leaving the small queue says
 *    that this queue is too small by that much, one that comes back as soon
 *    after leaving the main queue says the same of the main queue: the two
 *    meet where one more frame is worth as much on either side.  Without it
 *    traces that suit LRU (stack-like, changing phases) lost up to a factor of
 *    2 to LRU; with windows of 1/3 and more it follows noise.
 *  - Uses are counted to 2, not to 3: a main queue full of yesterday's pages
 *    is emptied a third sooner (a sliding working set misses 3..16 % less, disk
 *    traces 0.1 % more).
 *  - Frames fetched ahead and not yet used do not count against the small
 *    queue's share, up to a quarter of all: a large window would evict itself.
 * Tried and not kept: counting to 1 in the main queue (disk traces 0.6 %
 * worse), promotion after one use (1.4 % worse), a slow turn of the main queue
 * with every eviction (0.1..0.6 % worse, loops 0.3..2 %), keys remembered for
 * 2 x the frames (1 % worse), a page back from the main queue's keys put there
 * again (1.3 % worse).  These figures compare a variant with its neighbour in a
 * simulator without batches and with exact keys, over the cells of
 * bench-traces; the module itself is 0.2 % worse than that simulator.  The
 * traces that chose are the traces that measure: expect less of others.
 *
 * [1] Yang et al., "FIFO queues are all you need for cache eviction", SOSP 23.
 *
 * Life of a frame number:
 *
 *        evict_insert             evict_pick                evict_gone
 *   OUT ------------> in a queue -----------> picked -----------------> OUT
 *        ^                |  ^                  |
 *        +-- evict_forget +  +-- evict_unpick --+
 *
 * evict_forget is also legal for a picked frame (a write replaced it while its
 * victim list was being worked off).  A picked frame belongs to who picked it:
 * it must come back through evict_gone, evict_unpick or evict_forget.
 */
#ifndef PC_EVICT_H
#define PC_EVICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Frame numbers take 27 bits of a queue slot: 512 GiB of 4 KiB frames. */
#define EVICT_MAX_FRAMES (UINT32_C (1) << 27)

/* Flags of evict_insert. */
#define EVICT_AHEAD 1u        /* fetched ahead: nobody asked for it yet */

/* Flags of evict_pick. */
#define EVICT_RUNS 1u         /* go on, up to 2 * max, while the next in line is
                                 cold and the neighbour of the frame before:
                                 what came as one run leaves as one (D20) */

#define EVICT_OTHER 2u        /* from the queue whose turn it is not, if it has
                                 any: the one whose turn it is held only what
                                 may not leave */

/* Why a picked frame comes back. */
enum evict_reason {
  EVICT_BUSY,                 /* pinned or in flight: another turn, same queue */
  EVICT_DIRTY,                /* must be cleaned first: one more life */
};

struct evict_stats {
  uint64_t inserted;          /* evict_insert */
  uint64_t inserted_ahead;    /* of these, with EVICT_AHEAD */
  uint64_t returned;          /* inserted again while its key was remembered */
  uint64_t evicted;           /* evict_gone */
  uint64_t evicted_main;      /* of these, from the main queue */
  uint64_t wasted;            /* fetched ahead and gone or forgotten unread */
  uint64_t forgotten;         /* evict_forget */
  uint64_t promoted;          /* small queue to main queue */
  uint64_t second_chances;    /* main queue's tail to its head */
  uint64_t busy;              /* evict_unpick by reason */
  uint64_t dirty;
  uint64_t scan_limits;       /* a frame taken because all were hot */
  uint64_t squeezes;          /* slots of forgotten frames collected */
};

struct evict;                 /* the end of this file */

/* A page's key: the same page gives the same key, all bits well mixed. */
static inline uint64_t
evict_key (uint64_t inode_id, uint64_t pgno)
{
  uint64_t h = pgno * UINT64_C (0x9e3779b97f4a7c15)
             + inode_id * UINT64_C (0xd1b54a32d192ed03);

  h = (h ^ (h >> 32)) * UINT64_C (0xbf58476d1ce4e5b9);
  h = (h ^ (h >> 29)) * UINT64_C (0x94d049bb133111eb);
  return h ^ (h >> 32);
}

/* Bytes that evict_init needs for frames [0, nframes). */
extern size_t evict_size (uint32_t nframes);

/* mem      evict_size (nframes) bytes aligned to 64, zeroed or not; lent until
 *          the struct is no longer used (there is no release)
 * nframes  1..EVICT_MAX_FRAMES; also the first target
 */
extern void evict_init (struct evict *e, void *mem, uint32_t nframes);

/* How many frames the cache may use now, 1..nframes: the policy's proportions
 * follow it.  Takes no frame away; the caller picks evict_excess () of them.
 */
extern void evict_set_target (struct evict *e, uint32_t target);

/* Frames in queues beyond the target. */
extern uint32_t evict_excess (const struct evict *e);

/* Forget all remembered keys and treat the next insertions as a first fill.
 * For "everything was dropped"; frames in queues stay.
 */
extern void evict_rewarm (struct evict *e);

/* key is about to be inserted or remembered: what is kept of such keys, one cache
 * line anywhere in memory, is called for.  Who has many says so for all of them
 * first, and they come together.
 * Locks    none.   Thread any.
 */
static inline void evict_expect (const struct evict *e, uint64_t key);

/* frame (OUT before) now holds the page of key.  Whoever pinned it for the page
 * before has let go: a late evict_touch of that one could take EVICT_AHEAD away,
 * and the frame would count as unread for ever.
 */
extern void evict_insert (struct evict *e, uint32_t frame, uint64_t key,
                          unsigned flags);

/* A request used the frame (once a request, not once a page line or sector).
 * Returns true if it had been fetched ahead and this was the first use: the
 * caller reports that to readahead_feedback.  Every such frame is told once,
 * here, by evict_gone or by evict_forget.  A first use does not heat the page:
 * it came because it was asked for, like any other.
 * Locks    none.   Thread any.   The caller keeps the frame from leaving.
 */
static inline bool evict_touch (struct evict *e, uint32_t frame);

/* True while nobody used a frame that was fetched ahead.  No lock. */
static inline bool evict_is_ahead (const struct evict *e, uint32_t frame);

/* frame's page was dropped by something else (trim, overwrite, error, close).
 * Its key is not remembered.  Returns true if it had been fetched ahead and
 * never used (the caller tells readahead_feedback).
 */
extern bool evict_forget (struct evict *e, uint32_t frame);

/* Take up to max victims (twice that with EVICT_RUNS) out of the queues, best
 * victim first; returns how many.  Less than max only when nothing is left.
 * Frames that were used lately stay, unless the scan bound is reached first: so
 * what is only fetched ahead takes no hot page's place (D19).
 */
extern unsigned evict_pick (struct evict *e, uint32_t out[], unsigned max,
                            unsigned flags);

/* A picked frame's page was dropped; key is that page's key.  The key is
 * remembered if the policy wants it.  Returns true if it had been fetched
 * ahead and never used.
 */
extern bool evict_gone (struct evict *e, uint32_t frame, uint64_t key);

/* A picked frame stays.  It is not picked again before the other frames of its
 * queue were looked at.
 */
extern void evict_unpick (struct evict *e, uint32_t frame,
                          enum evict_reason reason);

/* The next frames that evict_pick would look at and take, at most max, nothing
 * moved: for cleaning ahead (D25).  Looks at no more than 4 * max + 256 slots.
 */
extern unsigned evict_tail (const struct evict *e, uint32_t out[],
                            unsigned max);

/* In a queue, and would leave the next time it is looked at. */
extern bool evict_is_cold (const struct evict *e, uint32_t frame);

/* In a queue or picked. */
extern bool evict_has (const struct evict *e, uint32_t frame);

/* Picked, and not come back yet. */
extern bool evict_is_picked (const struct evict *e, uint32_t frame);

/* Frames in queues (picked ones not counted). */
extern uint32_t evict_count (const struct evict *e);

/* How many victims to pick at a time: 64 (D25), less of a small cache, where
 * 64 free frames would be a large part of it.
 */
extern unsigned evict_batch (const struct evict *e);

extern void evict_get_stats (const struct evict *e, struct evict_stats *ret);

/* Abort if an invariant does not hold.  O(nframes). */
extern void evict_check (const struct evict *e);

/* What follows is here so that the struct can be embedded and the two functions
 * of the hit path inlined; nobody outside evict.c reads it.
 */

enum evict_queue_id { EVICT_SMALL, EVICT_MAIN, EVICT_NQUEUES };

/* A chain of chunks: the oldest slot at the tail, the newest at the head. */
struct evict_queue {
  uint32_t head, tail;          /* chunks */
  uint32_t head_at, tail_at;    /* next slot to write, next slot to look at */
  uint32_t live;                /* frames whose place says this queue */
};

struct evict {
  /* Fixed at evict_init. */
  uint32_t nframes;
  uint32_t nchunks, nbuckets;
  unsigned age_shift;           /* evictions to one step of a key's age, log2 */
  uint8_t *heat;                /* a frame: its uses, or EVICT_HEAT_AHEAD; the
                                   bytes that change without the lock */
  uint8_t *place;               /* a frame: where it is, and its slot's tag */
  uint32_t *slots;              /* chunks of queue slots */
  uint32_t *next;               /* of each chunk, in its chain */
  uint32_t *ghost;              /* buckets of remembered keys */

  /* Guarded by the caller's eviction lock. */
  uint32_t target;              /* frames the cache may use */
  uint32_t small_target;        /* of these, for the small queue; adapts */
  uint32_t free_chunk, nfree;
  uint32_t picked;              /* frames handed out by evict_pick */
  bool warm;                    /* nothing was ever picked */
  struct evict_queue queue[EVICT_NQUEUES];
  uint64_t left[EVICT_NQUEUES]; /* keys remembered, by the queue they left */
  struct evict_stats stats;

  /* Any thread, atomically: first uses of frames fetched ahead.  Padded rather
   * than aligned: who embeds this may come from malloc.
   */
  char pad[64];
  uint64_t ahead_used;
};

#define EVICT_HEAT_MAX 2u
#define EVICT_HEAT_AHEAD 0x80u
#define EVICT_WAYS 16u          /* keys in a bucket: one line */

static inline uint32_t *
evict_bucket (const struct evict *e, uint64_t key)
{
  return &e->ghost[((key >> 32) * e->nbuckets >> 32) * EVICT_WAYS];
}

static inline void
evict_expect (const struct evict *e, uint64_t key)
{
  __builtin_prefetch (evict_bucket (e, key), 1);
}

static inline bool
evict_touch (struct evict *e, uint32_t frame)
{
  uint8_t *p = &e->heat[frame];
  uint8_t h = __atomic_load_n (p, __ATOMIC_RELAXED);

  /* Relaxed, and load and store apart: a use lost to another reader, or to the
   * scan that counts down, costs one frame a little of its life.
   */
  if (h < EVICT_HEAT_MAX) {
    __atomic_store_n (p, (uint8_t) (h + 1), __ATOMIC_RELAXED);
    return false;
  }
  if (h == EVICT_HEAT_MAX)
    return false;               /* nothing to change: the line stays shared */

  /* Fetched ahead.  Once in the life of such a page, so it may cost an
   * exchange: of two first readers only one is told.
   */
  if (!(__atomic_exchange_n (p, 0, __ATOMIC_RELAXED) & EVICT_HEAT_AHEAD))
    return false;
  __atomic_fetch_add (&e->ahead_used, 1, __ATOMIC_RELAXED);
  return true;
}

static inline bool
evict_is_ahead (const struct evict *e, uint32_t frame)
{
  return __atomic_load_n (&e->heat[frame], __ATOMIC_RELAXED)
         & EVICT_HEAT_AHEAD;
}

#endif /* PC_EVICT_H */
