/* SPDX-License-Identifier: BSD-3-Clause
 *
 * readahead - what will be asked for next, of one export.
 *
 * Answers: given the reads so far, from any connection and in any order, which
 * ranges should be fetched now, before someone asks?
 *
 * Units    bytes of the export, nanoseconds, bytes per second.
 * Threads  none; the caller guards it (rank: read-ahead table) and calls with
 *          no stripe lock held.  Nothing here blocks or calls back.
 * Errors   none; no allocation.  A failed fetch is not reported: the read that
 *          wanted it comes as a miss and the stream goes on from there.
 * Memory   sizeof (struct readahead) <= 8 KiB an export, 64 streams.
 * Cost     an access compares with the streams by a scan of 64 cached
 *          positions (two cache lines a cache of 32); no division on the way.
 *
 * How the caller uses it, once a client's read (not once a page):
 *
 *   what = all bytes present ? (evict_touch said first use of a page fetched
 *          ahead ? READAHEAD_USED : READAHEAD_HIT)
 *        : all absent bytes already being fetched ? READAHEAD_JOIN
 *        : READAHEAD_MISS;
 *   n = readahead_access (&ra, &(struct readahead_event) {...}, out, max);
 *   for each of n: fetch what of out[i] is absent, with no one waiting, and
 *   insert with EVICT_AHEAD.
 *
 * For MISS call it before the read's own fetch is issued, so that both leave
 * together, but issue the demand first.  HIT alone may be left out while
 * readahead_is_idle ().
 * Writes are not told; a stream of reads behind written pages sees HITs.
 */
#ifndef PC_READAHEAD_H
#define PC_READAHEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "range.h"

enum readahead_what {
  READAHEAD_HIT,        /* everything was there, asked for before */
  READAHEAD_USED,       /* everything was there, some of it fetched ahead */
  READAHEAD_JOIN,       /* waits for a fetch already under way */
  READAHEAD_MISS,       /* the origin must be asked now */
};

struct readahead_event {
  uint64_t off, len;            /* the client's read; len > 0 */
  enum readahead_what what;
  uint64_t demand_bytes;        /* bytes of other reads of this export that wait
                                   for the origin now (misses and joins) */
  uint64_t now_ns;              /* monotonic */
};

struct readahead_limits {
  uint64_t size;                /* of the export, bytes */
  uint64_t window_max;          /* cache-readahead of one stream; 0 = off */
  uint64_t memory;              /* fetched ahead and unread, all streams
                                   together (a quarter of the frames) */
};

/* Ranges lie inside the export, are whole pages except at its end, cross no
 * such boundary (the lock stripe), and are between a chunk's least size and
 * this large; only the first and last of a stream's window may be smaller.
 */
#define READAHEAD_STRIPE (UINT64_C (1) << 20)
#define READAHEAD_CHUNK_MIN (UINT64_C (128) << 10)

/* A good max for readahead_access: a whole default window. */
#define READAHEAD_BATCH 32

#define READAHEAD_STREAMS 64

/* One run of reads.  Guarded, as all below, by the caller. */
struct readahead_stream {
  uint64_t next;                /* where its reader is expected */
  uint64_t end;                 /* how far was asked for ahead; beyond next in
                                   the stream's direction */
  uint64_t run;                 /* bytes read since it began */
  uint64_t used_ns;             /* last access; for the oldest to go */
  uint32_t window;              /* bytes of the next window, 0 = not open */
  uint32_t len;                 /* of the last read */
  int32_t stride;               /* from read to read where that is not len */
  uint8_t hits;                 /* reads that matched, saturating */
  int8_t dir;                   /* 1 forward, -1 backward */
  uint8_t flags;
};

struct readahead {
  struct readahead_limits limits;
  uint64_t rtt_ns;              /* least answer time seen lately, 0 = unknown */
  uint64_t rate;                /* bytes a second the origin was seen to give */
  uint64_t ahead;               /* bytes given out, not yet used or wasted */
  uint64_t done_bytes, done_since_ns;
  uint32_t accuracy;            /* share of what was given out that was used,
                                   in 1/1024 */
  uint32_t used, wasted;        /* pages since accuracy was last moved */
  uint32_t nopen;
  uint32_t nstreams;
  struct readahead_stream stream[READAHEAD_STREAMS];
};

_Static_assert (sizeof (struct readahead) <= 8192, "a table an export");

extern void readahead_init (struct readahead *ra,
                            const struct readahead_limits *limits);

/* New limits (memory shrank, the export grew).  Streams stay. */
extern void readahead_set_limits (struct readahead *ra,
                                  const struct readahead_limits *limits);

/* Note one client read; out[0..n) is to be fetched, nearest first.  If more
 * than max ranges are wanted the rest comes with the next access.
 */
extern unsigned readahead_access (struct readahead *ra,
                                  const struct readahead_event *ev,
                                  struct range out[], unsigned max);

/* Bytes of pages that were fetched ahead: read for the first time, and dropped
 * unread.  What was told by the READAHEAD_USED of an access counts here too;
 * may be called in batches.
 */
extern void readahead_feedback (struct readahead *ra, uint64_t used_bytes,
                                uint64_t wasted_bytes);

/* A read that the origin answered, demand or ahead: its bytes, how long it
 * took from submit to reply.  Feeds the round trip and rate estimates.
 */
extern void readahead_done (struct readahead *ra, uint64_t bytes,
                            uint64_t took_ns, uint64_t now_ns);

/* The pages of a range given out by readahead_access were not fetched (no
 * frames, too many requests, origin gone): its stream takes it back if it is
 * still at the stream's end.
 */
extern void readahead_declined (struct readahead *ra, struct range r);

/* No stream is open: a plain HIT would change nothing. */
extern bool readahead_is_idle (const struct readahead *ra);

/* Drop all streams (invalidate, revalidate: the bytes are gone). */
extern void readahead_reset (struct readahead *ra);

/* Abort if an invariant does not hold. */
extern void readahead_check (const struct readahead *ra);

#endif /* PC_READAHEAD_H */
