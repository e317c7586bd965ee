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
 * Errors   none; no allocation.  A fetch that failed need not be
 *          reported: the read that wants it comes as a miss and the stream goes
 *          on from there.
 * Memory   sizeof (struct readahead) <= 8 KiB an export, 64 streams.
 * Cost     the stream of the last read is tried first (a few compares); else a
 *          scan of 64 streams, for a hit of the open ones.  Divisions only when something is
 *          given out, or went past the cache.
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
 * together, but issue the demand first.  HIT alone may be left out where
 * readahead_may_follow () says no: of random hits beside a stream nearly all.
 * Writes are not told; a stream of reads behind written pages sees HITs.
 *
 * The policy.  A read belongs to a stream if it starts where the stream's last
 * one ended, or near: 16 workers of one nbdkit connection bring a client's reads
 * in any order, and a client has several connections.  A stream is opened by
 * two reads that follow exactly, or by eight near ones that left out less than
 * they read; backward by three; with a constant stride by three equal steps.
 * From then on as much is fetched ahead as the stream has proven to read: its
 * run, so that when it ends no more than half of all was for nothing (without
 * that rule 60..90 % of what was fetched on disk traces was waste).  The reader
 * finds 256 KiB at once, and the run doubles each round trip.
 *
 *   window = run, at least 256 KiB, at most
 *            window_max, a share of memory, and
 *            max (8 MiB, 2 x bandwidth x delay); and
 *            while less than half of what was fetched is used:
 *            max (run / 4, q * BDP / (1 - 2q)), where fetching s bytes that are
 *            used with probability q still pays (it saves q of a round trip and
 *            costs 1 - q of s on the wire).
 *
 * What is ahead of the reader is refilled a chunk at a time, so the next chunk
 * leaves when the reader is a window less a chunk away from needing it.
 *
 * A client that keeps much in flight by itself (nbdcopy: 64 requests of
 * 256 KiB) needs none of this, and would only find its reads behind ours: while
 * other reads wait for more than clamp (2 x BDP, 256 KiB, 4 MiB), or overtake each
 * other by as much, nothing is given out.
 *
 * Nor does it need the cache, once it has read more than fits in there: what it
 * reads now would have left before it could come by again, and would take other
 * things with it.  That is a scan (readahead_is_scan): `scan' bytes read in
 * order and not there before, by clients who keep at least under way what the
 * way to the origin holds, and never less for a whole second.  What is read from
 * then on need not be kept, nor fetched ahead.  Should somebody read the same
 * again shortly (a second reader behind the first, or beside it), that was wrong:
 * it ends, and takes twice as long to be believed the next time.
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
  bool bypass;                  /* what it brings is not kept */
  bool shared;                  /* waits for what another one's bypass brings */
  uint64_t now_ns;              /* monotonic */
};

struct readahead_limits {
  uint64_t size;                /* of the export, bytes */
  uint64_t window_max;          /* cache-readahead of one stream; 0 = off */
  uint64_t memory;              /* fetched ahead and unread, all streams
                                   together (a quarter of the frames) */
  uint64_t scan;                /* read in order, this is more than the cache
                                   holds; 0: nothing is a scan */
};

/* Ranges lie inside the export, are whole pages except at its end and cross no
 * such boundary (the lock stripe).  A sequential stream's are aligned pieces of
 * 128 KiB to 1 MiB, a 16th of its window, but for the first and last; a strided
 * one's are its blocks.
 */
#define READAHEAD_STRIPE (UINT64_C (1) << 20)
#define READAHEAD_CHUNK_MIN (UINT64_C (128) << 10)

/* A good max for readahead_access: a whole default window in 1 MiB pieces. */
#define READAHEAD_BATCH 32

#define READAHEAD_STREAMS 64

/* One run of reads, in whole pages.  dir -1: positions count down from top, so
 * that one code serves both directions.  Guarded, as all below, by the caller.
 */
struct readahead_stream {
  uint64_t end;                 /* how far was given out (strided: the last
                                   block given out); at least its pos */
  uint64_t run;                 /* bytes read since it began */
  uint64_t last_off;            /* of the last read, as the client counts */
  uint64_t low;                 /* least position read, of late */
  uint32_t near_run, near_span; /* bytes read and passed over, lately */
  uint32_t len;                 /* of the last read */
  uint32_t used;                /* at the last read: 2^20 ns, about a ms */
  int32_t stride;               /* from the read before to the last, or 0 */
  uint8_t hits;                 /* reads that matched, saturating as the next */
  uint8_t seq;                  /* of these in a row: exactly at pos */
  uint8_t steps;                /* of these in a row: by the same stride */
  int8_t dir : 2;               /* 1, -1, or 0 while one read was seen */
  bool taken : 1, open : 1, strided : 1;
};

/* Of what a scan passed lately, so many MiB are remembered. */
#define READAHEAD_PASSED 16

struct readahead {
  struct readahead_limits limits;
  uint64_t top;                 /* size, rounded up to a stripe */

  /* The origin, as far as seen; 0 = not yet. */
  uint64_t rtt_ns;              /* least answer time of late */
  uint64_t rate;                /* most bytes a second of late */
  uint64_t done_bytes, done_since_ns;
  uint64_t depth;               /* by how much reads overtake others of their
                                   stream, of late: the client keeps as much
                                   under way */
  uint64_t queued_ns;           /* when we last kept the origin busy, or the client did: its
                                   replies are late then */

  uint64_t places;              /* readahead_places () */
  uint64_t places_ns;           /* when they were last looked for in all streams */
  bool places_old;              /* a stream was shut since */

  bool scan;                    /* readahead_is_scan () */
  uint8_t doubt;                /* it was none so often */
  uint8_t passed_next;          /* which of passed[] is forgotten next */
  uint64_t scanned;             /* bytes that it has read */
  uint64_t scan_ns;             /* when it last did, with enough under way */
  struct {
    uint64_t place, bytes;      /* a MiB, and what was read past the cache of it */
  } passed[READAHEAD_PASSED];

  uint32_t accuracy;            /* used of what was resolved, in 1/1024 */
  uint64_t used_bytes, wasted_bytes; /* since accuracy was last moved */

  uint64_t last_off;            /* of the last read that began a stream */
  unsigned last;                /* stream of the last match */
  uint64_t opened;              /* bit i: stream i is open */
  uint64_t pos[READAHEAD_STREAMS]; /* where each stream's reader is expected */
  struct readahead_stream stream[READAHEAD_STREAMS];
};

_Static_assert (READAHEAD_STREAMS == 64, "a bit each");
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

/* Bytes of pages that were fetched ahead: read for the first time (evict_touch
 * said so), and dropped unread (evict_gone or evict_forget said so).  May be
 * called in batches.
 */
extern void readahead_feedback (struct readahead *ra, uint64_t used_bytes,
                                uint64_t wasted_bytes);

/* A read that the origin answered, demand or ahead: its bytes, how long it
 * took from submit to reply.  Feeds the round trip and rate estimates.
 */
extern void readahead_done (struct readahead *ra, uint64_t bytes,
                            uint64_t took_ns, uint64_t now_ns);

/* A range given out by readahead_access was not fetched (no frames, too many
 * requests, origin gone): its stream will give it, and what follows it, out
 * again, and less at once.  Not for ranges that were there already.
 */
extern void readahead_declined (struct readahead *ra, struct range r);

/* Are those who read in order now going through more than the cache holds?  Then
 * what they miss is not worth keeping.  As of the last read that was told.
 */
static inline bool
readahead_is_scan (const struct readahead *ra)
{
  return ra->scan;
}

/* Where the next reads of open streams are expected, of those that were read in
 * the last seconds: a bit for each region of 16 MiB, folded to 64; 0: nowhere.
 * The caller keeps a copy of it, which it may ask without the lock.
 */
static inline uint64_t
readahead_places (const struct readahead *ra)
{
  return ra->places;
}

#define READAHEAD_REGION_SHIFT 24

static inline uint64_t
readahead_place (uint64_t off)
{
  return UINT64_C (1) << ((off >> READAHEAD_REGION_SHIFT) * UINT64_C (0x9e3779b97f4a7c15) >> 58);
}

/* May a read of len bytes at off belong to an open stream?  A backward stream
 * meets it at its end.
 */
static inline bool
readahead_may_follow (uint64_t places, uint64_t off, uint64_t len)
{
  return places != 0 && (places & (readahead_place (off) | readahead_place (off + len))) != 0;
}

/* Drop all streams (invalidate, revalidate: the bytes are gone). */
extern void readahead_reset (struct readahead *ra);

/* Abort if an invariant does not hold. */
extern void readahead_check (const struct readahead *ra);

#endif /* PC_READAHEAD_H */
