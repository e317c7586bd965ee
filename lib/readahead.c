/* SPDX-License-Identifier: BSD-3-Clause
 *
 * readahead - what will be asked for next, of one export (readahead.h has the
 *             policy).
 *
 * Positions.  pos and end of a stream count in its own direction: offsets for
 * forward streams, distances from top for backward ones, so a backward reader
 * moves up like any other and stripes stay stripes.  A stream that saw one read
 * (dir 0) counts as forward and may still turn round.
 *
 * Invariants, run by readahead_check():
 *   (1) pos and end of a taken stream that is not strided are whole pages, and
 *       pos <= end <= top
 *   (2) an open stream has a direction or a stride
 *   (3) accuracy <= 1
 */
#include <config.h>

#include <assert.h>
#include <string.h>

#include "compiler.h"
#include "readahead.h"

#define PAGE UINT64_C (4096)
#define KIB UINT64_C (1024)
#define MIB (KIB * KIB)
#define NS_PER_S UINT64_C (1000000000)

/* A window of two least chunks: one is read while the other comes. */
#define WINDOW_MIN (2 * READAHEAD_CHUNK_MIN)

/* Enough for 1 MiB reads at depth 1 over 5 ms on the machine where 8 MiB of
 * window gave 650 MiB/s and 16 MiB 1100: the rest is bandwidth x delay.
 */
#define WINDOW_USUAL (8 * MIB)

/* How far a read may lie from its stream, either way: as far as a client's 16
 * workers can shuffle reads of its size, and a MiB behind in any case.
 */
#define WORKERS 16
#define NEAR_BEHIND_MIN MIB
#define NEAR_MAX (4 * MIB)

#define SEQ_TO_OPEN 2
#define SEQ_TO_OPEN_BACKWARD 3
#define HITS_TO_OPEN 8
#define STEPS_TO_OPEN 2

/* A stream unread for so long has no reader: ZFS' 2 s. */
#define STALE_NS (2 * NS_PER_S)

/* Accuracy moves by a quarter each so many bytes. */
#define ACCURACY_STEP (256 * PAGE)
#define ACCURACY_ONE 1024u

/* Nothing of ours is under way when nothing was given out for so long. */
#define QUIET_NS NS_PER_S

/* Rate is taken over so long at least. */
#define RATE_NS (NS_PER_S / 50)

static uint64_t
round_down (uint64_t x, uint64_t unit)
{
  return x & ~(unit - 1);
}

static uint64_t
round_up (uint64_t x, uint64_t unit)
{
  return round_down (x + unit - 1, unit);
}

static uint64_t
clamp (uint64_t x, uint64_t least, uint64_t most)
{
  if (x > most)
    x = most;
  return x < least ? least : x;
}

static uint64_t
distance (uint64_t a, uint64_t b)
{
  return a > b ? a - b : b - a;
}

static void
count_up (uint8_t *n)
{
  if (*n < UINT8_MAX)
    (*n)++;
}

void
readahead_init (struct readahead *ra, const struct readahead_limits *limits)
{
  memset (ra, 0, sizeof *ra);
  ra->accuracy = ACCURACY_ONE;
  readahead_set_limits (ra, limits);
}

void
readahead_reset (struct readahead *ra)
{
  memset (ra->pos, 0, sizeof ra->pos);
  memset (ra->stream, 0, sizeof ra->stream);
  ra->places = ra->opened = 0;
  ra->last_off = 0;
  ra->last = 0;
  ra->scan = false;
  ra->scanned = 0;
  memset (ra->passed, 0, sizeof ra->passed);
}

void
readahead_set_limits (struct readahead *ra,
                      const struct readahead_limits *limits)
{
  /* No export of 2^63 bytes or more exists in NBD. */
  assert (limits->size < UINT64_C (1) << 63);
  if (limits->size != ra->limits.size)
    readahead_reset (ra);       /* backward streams count from the end */
  ra->limits = *limits;
  ra->top = round_up (limits->size, READAHEAD_STRIPE);
}

/* The origin. */

void
readahead_done (struct readahead *ra, uint64_t bytes, uint64_t took_ns,
                uint64_t now_ns)
{
  /* The least, but not for ever: the way may have become longer.  Unless what
   * we gave out stands in line there, which would feed on itself, or what the
   * client keeps under way: for nbdcopy at an origin next door a "round trip"
   * was the time in its own queue, and its product with the rate so much that
   * this found too little under way.
   */
  if (ra->rtt_ns == 0 || took_ns < ra->rtt_ns)
    ra->rtt_ns = took_ns > 0 ? took_ns : 1;
  else if (now_ns > ra->queued_ns + QUIET_NS)
    ra->rtt_ns += (took_ns - ra->rtt_ns) / 64;

  ra->done_bytes += bytes;
  if (now_ns < ra->done_since_ns) {
    ra->done_since_ns = now_ns;
    ra->done_bytes = 0;
  }
  else if (now_ns - ra->done_since_ns >= RATE_NS) {
    uint64_t ns = now_ns - ra->done_since_ns, rate = 0;

    /* The most, likewise; a pause is no sample. */
    if (ns < NS_PER_S)
      rate = ra->done_bytes * 1000 / (ns / 1000 + 1) * 1000;
    if (rate < ra->rate - ra->rate / 64)
      rate = ra->rate - ra->rate / 64;
    ra->rate = rate;
    ra->done_since_ns = now_ns;
    ra->done_bytes = 0;
  }
}

static uint64_t
get_bdp (const struct readahead *ra)
{
  /* rate < 2^40 and rtt < 2^37 ns (two minutes) fit after the shift. */
  return (ra->rate >> 10) * (ra->rtt_ns >> 10) / (NS_PER_S >> 20);
}

void
readahead_feedback (struct readahead *ra, uint64_t used_bytes,
                    uint64_t wasted_bytes)
{
  uint64_t sum;
  int32_t now;

  ra->used_bytes += used_bytes;
  ra->wasted_bytes += wasted_bytes;
  sum = ra->used_bytes + ra->wasted_bytes;
  if (sum < ACCURACY_STEP)
    return;
  now = (int32_t) (ra->used_bytes * ACCURACY_ONE / sum);
  ra->accuracy = (uint32_t) ((int32_t) ra->accuracy
                             + (now - (int32_t) ra->accuracy) / 4);
  if (now == (int32_t) ACCURACY_ONE && ra->accuracy + 4 > ACCURACY_ONE)
    ra->accuracy = ACCURACY_ONE; /* the division never arrives */
  ra->used_bytes = ra->wasted_bytes = 0;
}

/* Streams. */

/* As a stream keeps it: compared around the wrap, 26 days to either side. */
static uint32_t
time_of (uint64_t ns)
{
  return (uint32_t) (ns >> 20);
}

static bool
is_stale (const struct readahead_stream *s, uint64_t now_ns)
{
  return (int32_t) (time_of (now_ns) - s->used) > (int32_t) time_of (STALE_NS);
}

static void
shut (struct readahead *ra, unsigned i)
{
  struct readahead_stream *s = &ra->stream[i];

  s->open = s->strided = false;
  s->end = ra->pos[i];
  s->run = 0;
  ra->opened &= ~(UINT64_C (1) << i);
  ra->places_old = true;
}

static void
set_open (struct readahead *ra, unsigned i)
{
  ra->stream[i].open = true;
  ra->opened |= UINT64_C (1) << i;
}

/* Where reads of stream i may start, or end if it goes backward. */
static uint64_t
places_of (const struct readahead *ra, unsigned i)
{
  const struct readahead_stream *s = &ra->stream[i];
  uint64_t pos = s->dir < 0 ? ra->top - ra->pos[i] : ra->pos[i];
  uint64_t places = readahead_place (pos > NEAR_MAX ? pos - NEAR_MAX : 0) | readahead_place (pos + NEAR_MAX);

  if (s->strided)
    places |= readahead_place (s->last_off + (uint64_t) (int64_t) s->stride);
  return places;
}

/* After a read of the last stream.  All open ones are looked at when this one
 * comes to another region, when one was shut, and once in a while, for a stream
 * without a reader would have the hits in its region told for ever.
 */
static void
see_places (struct readahead *ra, uint64_t now_ns)
{
  const struct readahead_stream *last = &ra->stream[ra->last];

  if (!ra->places_old && now_ns < ra->places_ns + STALE_NS
      && (!last->open || (places_of (ra, ra->last) & ~ra->places) == 0))
    return;
  ra->places = 0;
  for (uint64_t rest = ra->opened; rest != 0; rest &= rest - 1) {
    unsigned i = (unsigned) __builtin_ctzll (rest);

    if (!is_stale (&ra->stream[i], now_ns))
      ra->places |= places_of (ra, i);
  }
  ra->places_ns = now_ns;
  ra->places_old = false;
}

/* Where r starts in the direction of s. */
static uint64_t
start_in (const struct readahead *ra, const struct readahead_stream *s,
          struct range r)
{
  return s->dir < 0 ? ra->top - r.end : r.start;
}

/* Whole pages of a client's read; the last page may reach beyond size. */
static struct range
pages_of (const struct readahead *ra, const struct readahead_event *ev)
{
  uint64_t end = ra->limits.size - ev->off < ev->len ? ra->limits.size
                                                     : ev->off + ev->len;

  return (struct range) { round_down (ev->off, PAGE), round_up (end, PAGE) };
}

/* How well a read fits a stream, in rising order. */
enum fit {
  FIT_NOT,
  FIT_STEP,                     /* as far from the last as that from the one
                                   before, which may be chance */
  FIT_NEAR,
  FIT_STRIDE,                   /* the next step of a strided stream */
  FIT_EXACT,                    /* where the last one ended */
};

static enum fit
get_fit (const struct readahead *ra, unsigned i, struct range r)
{
  const struct readahead_stream *s = &ra->stream[i];
  uint64_t start, far, reach;
  bool step;

  if (!s->taken)
    return FIT_NOT;
  start = start_in (ra, s, r);
  if (start == ra->pos[i] || (s->dir == 0 && r.end == s->last_off))
    return FIT_EXACT;
  step = s->stride != 0
         && r.start == s->last_off + (uint64_t) (int64_t) s->stride;
  if (step && s->strided)
    return FIT_STRIDE;
  reach = clamp (WORKERS * (uint64_t) s->len,
                 start < ra->pos[i] ? NEAR_BEHIND_MIN : 0, NEAR_MAX);
  far = distance (start, ra->pos[i]);
  return far <= reach ? FIT_NEAR : step ? FIT_STEP : FIT_NOT;
}

/* The stream that r belongs to, and how well; among all, or a hit among the open
 * ones, for to the others it is no news.
 */
static enum fit
find (const struct readahead *ra, struct range r, bool hit, unsigned *ret)
{
  enum fit best = FIT_NOT;
  uint64_t nearest = UINT64_MAX, rest;

  *ret = ra->last;
  if (get_fit (ra, ra->last, r) == FIT_EXACT)
    return FIT_EXACT;
  for (rest = hit ? ra->opened : UINT64_MAX; rest != 0 && best < FIT_EXACT; rest &= rest - 1) {
    unsigned i = (unsigned) __builtin_ctzll (rest);
    enum fit fit = get_fit (ra, i, r);
    uint64_t far;

    if (fit == FIT_NOT || fit < best)
      continue;
    far = distance (start_in (ra, &ra->stream[i], r), ra->pos[i]);
    if (fit > best || far < nearest) {
      *ret = i;
      best = fit;
      nearest = far;
    }
  }
  return best;
}

/* The one to give up: unused, else the oldest that led nowhere or was left,
 * else the oldest.  So a flood of random reads takes its own streams only; of
 * equally old ones it takes one after the other, for each may yet get its second
 * read.
 */
static unsigned
find_victim (const struct readahead *ra, uint64_t now_ns)
{
  unsigned found = READAHEAD_STREAMS;
  bool found_lonely = false;

  for (unsigned n = 1; n <= READAHEAD_STREAMS; n++) {
    unsigned i = (ra->last + n) % READAHEAD_STREAMS;
    const struct readahead_stream *s = &ra->stream[i];
    bool lonely = s->hits == 0 || is_stale (s, now_ns);

    if (!s->taken)
      return i;
    if (found == READAHEAD_STREAMS || (lonely && !found_lonely)
        || (lonely == found_lonely
            && (int32_t) (s->used - ra->stream[found].used) < 0)) {
      found = i;
      found_lonely = lonely;
    }
  }
  return found;
}

static int32_t
get_stride (uint64_t from, uint64_t to)
{
  int64_t d = (int64_t) (to - from);

  return d > INT32_MAX || d < -INT32_MAX ? 0 : (int32_t) d;
}

static unsigned
begin (struct readahead *ra, struct range r, uint64_t now_ns)
{
  unsigned i = find_victim (ra, now_ns);
  struct readahead_stream *s = &ra->stream[i];
  uint32_t len = (uint32_t) clamp (r.end - r.start, 0, UINT32_MAX / 2);

  if (s->open)
    shut (ra, i);
  memset (s, 0, sizeof *s);
  s->taken = true;
  ra->pos[i] = s->end = r.end;
  s->run = r.end - r.start;
  s->near_run = s->near_span = s->len = len;
  s->last_off = s->low = r.start;
  s->stride = get_stride (ra->last_off, r.start);
  s->used = time_of (now_ns);
  ra->last_off = r.start;
  ra->last = i;
  return i;
}

/* r is one more step of stream from, which is not open: a stream of its own
 * carries the steps on, for from may be the first read of another reader, whose
 * second read is yet to come (readers that start together at equal distances
 * look like steps).
 */
static unsigned
begin_step (struct readahead *ra, unsigned from, struct range r,
            uint64_t now_ns)
{
  int32_t stride = ra->stream[from].stride;
  uint8_t steps = ra->stream[from].steps;
  unsigned i;

  ra->stream[from].stride = 0;
  ra->stream[from].steps = 0;
  i = begin (ra, r, now_ns);
  ra->stream[i].stride = stride;
  ra->stream[i].steps = steps;
  count_up (&ra->stream[i].steps);
  return i;
}

static void
reverse (struct readahead *ra, unsigned i, int8_t dir)
{
  struct readahead_stream *s = &ra->stream[i];
  uint64_t pos = ra->pos[i];

  s->dir = dir;
  ra->pos[i] = s->end = ra->top - s->low;
  s->low = ra->top - pos;
  s->seq = 0;
}

/* The second read of a stream says which way it goes.  Backward is believed
 * only while every read follows exactly: of shuffled forward reads the first
 * two may well come in the wrong order, and all the others would then lie
 * behind.
 */
static void
turn (struct readahead *ra, unsigned i, struct range r)
{
  struct readahead_stream *s = &ra->stream[i];

  if (s->dir == 0) {
    s->dir = 1;
    if (r.end == s->last_off && r.start != ra->pos[i])
      reverse (ra, i, -1);
  }
  else if (s->dir < 0 && !s->open && start_in (ra, s, r) != ra->pos[i])
    reverse (ra, i, 1);
}

/* A strided stream's reader is at off: what was given out begins there at least,
 * and if it is missing though given out, less is enough.
 */
static void
keep_steps_ahead (struct readahead_stream *s, uint64_t off,
                  enum readahead_what what)
{
  bool passed = s->stride > 0 ? s->end <= off : s->end >= off;

  if (!passed && what == READAHEAD_MISS && s->steps > 1)
    s->steps = 1;
  if (passed || what == READAHEAD_MISS)
    s->end = off;
}

/* r belongs to stream i. */
static void
advance (struct readahead *ra, unsigned i, struct range r,
         const struct readahead_event *ev)
{
  struct readahead_stream *s = &ra->stream[i];
  uint32_t len = (uint32_t) clamp (r.end - r.start, 0, UINT32_MAX / 2);
  int32_t stride;
  uint64_t start, over, late;

  turn (ra, i, r);
  start = start_in (ra, s, r);
  over = start + len > ra->pos[i] ? start + len - ra->pos[i] : 0;

  if (over > 0 || ev->what != READAHEAD_HIT)
    count_up (&s->hits);
  /* In a row: a late comer that is no news (another piece of a page) does not
   * break it, any other does, else chance adds up over hours of random reads.
   */
  if (start == ra->pos[i])
    count_up (&s->seq);
  else if (over > 0 || ev->what != READAHEAD_HIT)
    s->seq = 0;

  stride = get_stride (s->last_off, r.start);
  if (stride != 0 && stride == s->stride)
    count_up (&s->steps);
  else if (stride != 0)
    s->steps = 0;
  if (stride != 0)
    s->stride = stride;

  /* Depth falls slowly, for of many in flight most may come in order; and one
   * that was not overtaken but lies near by chance is not enough.
   */
  late = start < ra->pos[i] && !s->strided && ev->what != READAHEAD_HIT ? ra->pos[i] - start : 0;
  ra->depth -= ra->depth / 64;
  if (late > ra->depth && late <= WORKERS * (uint64_t) len)
    ra->depth += (late - ra->depth) / 4;

  /* A late comer behind pos counts as read only if it was not there yet, so
   * that reading one place again and again proves nothing.
   */
  if (over > 0 || ev->what != READAHEAD_HIT) {
    s->run += over > 0 && over < len ? over : len;
    s->near_run += over > 0 && over < len ? (uint32_t) over : len;
  }
  s->near_span += (uint32_t) clamp (over, 0, UINT32_MAX / 4);
  if (start < s->low) {
    s->near_span += (uint32_t) clamp (s->low - start, 0, UINT32_MAX / 4);
    s->low = start;
  }
  if (s->near_span > NEAR_MAX && s->near_span > 64 * (uint64_t) len) {
    s->near_span /= 2;
    s->near_run /= 2;
    if (s->low + s->near_span < start + len)
      s->low = round_down (start + len - s->near_span, PAGE);
  }

  /* What was given out and is not there went unread: too much for now. */
  if (ev->what == READAHEAD_MISS && s->open && !s->strided
      && start >= ra->pos[i] && start + len <= s->end) {
    s->run /= 2;
    s->end = start + len;
  }

  ra->pos[i] += over;
  if (s->strided)
    keep_steps_ahead (s, r.start, ev->what);
  else if (s->end < ra->pos[i])
    s->end = ra->pos[i];
  s->len = len;
  s->last_off = r.start;
  s->used = time_of (ev->now_ns);
  ra->last = i;
}

/* Open or shut stream i by what it did lately. */
static void
judge (struct readahead *ra, unsigned i)
{
  struct readahead_stream *s = &ra->stream[i];
  uint32_t step = (uint32_t) (s->stride < 0 ? -s->stride : s->stride);

  if (s->strided) {
    if (s->steps > 0)
      return;
    shut (ra, i);
  }
  if (s->open) {
    if (s->seq == 0 && s->near_run < s->near_span / 4)
      shut (ra, i);
    return;
  }
  if (s->hits >= HITS_TO_OPEN && s->near_run >= s->near_span / 2) {
    set_open (ra, i);
    s->end = ra->pos[i];
  }
  else if (s->seq >= (s->dir < 0 ? SEQ_TO_OPEN_BACKWARD : SEQ_TO_OPEN)) {
    set_open (ra, i);
    s->end = ra->pos[i];
    /* What lay near before these reads proves nothing. */
    if (s->near_run < s->near_span / 2) {
      s->run = (s->seq + 1) * (uint64_t) s->len;
      s->near_run = s->near_span = s->run > NEAR_MAX ? NEAR_MAX
                                                     : (uint32_t) s->run;
      s->low = ra->pos[i] - s->near_span;
    }
  }
  else if (s->steps >= STEPS_TO_OPEN && step > s->len) {
    s->strided = true;
    set_open (ra, i);
    s->end = s->last_off;
  }
}

/* How much to give out. */

static uint64_t
ahead_of (const struct readahead *ra, unsigned i)
{
  const struct readahead_stream *s = &ra->stream[i];

  if (!s->strided)
    return s->end - ra->pos[i];
  return distance (s->end, s->last_off)
         / (uint64_t) (s->stride < 0 ? -(int64_t) s->stride : s->stride)
         * s->len;
}

/* Bytes that stream i should be ahead of its reader. */
static uint64_t
get_window (struct readahead *ra, unsigned i, uint64_t now_ns)
{
  struct readahead_stream *s = &ra->stream[i];
  uint64_t bdp = get_bdp (ra), most, others = 0, left, w;
  unsigned nopen = 1;

  for (uint64_t rest = ra->opened & ~(UINT64_C (1) << i); rest != 0; rest &= rest - 1) {
    unsigned j = (unsigned) __builtin_ctzll (rest);

    if (is_stale (&ra->stream[j], now_ns)) {
      shut (ra, j);
      continue;
    }
    nopen++;
    others += ahead_of (ra, j);
  }

  /* A window that limits the rate is a product of the two, so twice of it is
   * growth; where the line is the limit this is not.
   */
  most = 2 * bdp > WINDOW_USUAL ? 2 * bdp : WINDOW_USUAL;
  if (most > ra->limits.window_max)
    most = ra->limits.window_max;
  if (most > ra->limits.memory / nopen)
    most = ra->limits.memory / nopen;
  left = others < ra->limits.memory ? ra->limits.memory - others : 0;
  if (most > left)
    most = left;

  w = clamp (s->run, WINDOW_MIN, UINT64_MAX);
  if (ra->accuracy < ACCURACY_ONE / 2) {
    uint64_t pays = bdp * ra->accuracy / (ACCURACY_ONE - 2 * ra->accuracy);

    if (pays < s->run / 4)
      pays = s->run / 4;
    if (w > pays)
      w = pays;
  }
  return w < most ? w : most;
}

/* [start, end) in the direction of s as a range of the export; false if it lies
 * outside.
 */
static bool
to_export (const struct readahead *ra, const struct readahead_stream *s,
           uint64_t start, uint64_t end, struct range *ret)
{
  struct range r = { start, end };

  if (s->dir < 0)
    r = (struct range) { ra->top - end, ra->top - start };
  if (r.end > ra->limits.size)
    r.end = ra->limits.size;
  *ret = r;
  return r.start < r.end;
}

static unsigned
plan_run (struct readahead *ra, unsigned i, uint64_t window,
          struct range out[], unsigned max)
{
  struct readahead_stream *s = &ra->stream[i];
  uint64_t chunk = READAHEAD_CHUNK_MIN, target, first;
  unsigned n = 0;

  while (chunk < READAHEAD_STRIPE && chunk < window / 16)
    chunk *= 2;
  target = ra->pos[i] + window;
  first = s->end;
  /* Whole chunks; but a window too small for them is used as it is. */
  if (round_down (target, chunk) > first)
    target = round_down (target, chunk);
  else if (first > ra->pos[i] || target < first + READAHEAD_CHUNK_MIN / 2)
    return 0;
  else
    target = round_down (target, PAGE);
  if (target > ra->top)
    target = ra->top;

  while (n < max && s->end < target) {
    uint64_t end = round_down (s->end, chunk) + chunk;

    if (end > target)
      end = target;
    if (to_export (ra, s, s->end, end, &out[n]))
      n++;
    s->end = end;
  }
  return n;
}

/* Blocks of len at each step from end on. */
static unsigned
plan_steps (struct readahead *ra, unsigned i, uint64_t window,
            struct range out[], unsigned max)
{
  struct readahead_stream *s = &ra->stream[i];
  uint64_t nblocks = window / s->len, ahead = ahead_of (ra, i) / s->len;
  unsigned n = 0;

  /* As many as have been proven, twice. */
  if (nblocks > 2 * (uint64_t) s->steps)
    nblocks = 2 * (uint64_t) s->steps;
  for (; ahead < nblocks; ahead++) {
    uint64_t off = s->end + (uint64_t) (int64_t) s->stride, end, cut;

    /* Unsigned: below 0 is beyond the end, too. */
    if (off >= ra->limits.size)
      break;
    end = off + s->len < ra->limits.size ? off + s->len : ra->limits.size;
    if (n + 1 + (end - 1) / READAHEAD_STRIPE - off / READAHEAD_STRIPE > max)
      break;
    for (; off < end; off = cut) {
      cut = round_down (off, READAHEAD_STRIPE) + READAHEAD_STRIPE;
      if (cut > end)
        cut = end;
      out[n++] = (struct range) { off, cut };
    }
    s->end += (uint64_t) (int64_t) s->stride;
  }
  return n;
}

/* Would fetching ahead only stand in the way of what the client itself keeps
 * under way?  That is what waits for the origin; or, where what was fetched
 * ahead leaves nothing to wait for, how far reads overtake each other.
 */
#define ENOUGH_MAX (4 * MIB)

static bool
is_client_ahead (const struct readahead *ra, const struct readahead_event *ev)
{
  uint64_t enough = clamp (2 * get_bdp (ra), MIB / 4, ENOUGH_MAX);

  return ev->demand_bytes > enough || (ra->rate > 0 && ra->depth > enough);
}

/* Has it at least what the way to the origin holds?  It would lose little if it
 * were never read ahead for.
 */
static bool
is_client_enough (const struct readahead *ra, const struct readahead_event *ev)
{
  uint64_t enough = clamp (get_bdp (ra), READAHEAD_CHUNK_MIN, ENOUGH_MAX);

  return ev->demand_bytes > enough || (ra->rate > 0 && ra->depth > enough);
}

/* Scans. */

#define DOUBT_MAX 8

/* What a client has under way varies, where the machine is busy from nothing to all
 * it may have.  So much read with too little, more than with enough, is the end of
 * its scan.
 */
#define SCAN_SLACK (16 * MIB)

/* Of what goes past one MiB in so many is remembered, as many as are twice of
 * what the cache holds: what was gone for longer would not be there anyway.  Does
 * one of them come again?  Any MiB may be one, for a few that many readers want
 * again and again are to be seen among a lot that nobody does.
 */
static bool
is_read_again (struct readahead *ra, const struct readahead_event *ev)
{
  uint64_t each = clamp (ra->limits.scan / MIB / (READAHEAD_PASSED / 2), 1, UINT64_MAX);
  uint64_t most = clamp (2 * ra->limits.scan / MIB / each, 2, READAHEAD_PASSED);
  uint64_t place = ev->off / MIB + 1; /* 0: none */
  unsigned i = 0;

  if (!ev->bypass || (place * UINT64_C (0x9e3779b97f4a7c15) >> 32) % each != 0)
    return false;
  while (i < most && ra->passed[i].place != place)
    i++;
  if (i == most) {
    i = ra->passed_next++ % (unsigned) most;
    ra->passed[i].place = place;
    ra->passed[i].bytes = 0;
  }
  ra->passed[i].bytes += ev->len;
  return ra->passed[i].bytes > MIB + ev->len;   /* reads need not begin where it does */
}

/* For a second nobody had enough under way: whoever reads now, in small pieces or in steps too, is not the scan's client. */
static void
end_scan (struct readahead *ra, uint64_t now_ns)
{
  if (now_ns <= ra->scan_ns + QUIET_NS)
    return;
  ra->scan = false;
  ra->scanned = 0;
  ra->doubt = 0;
}

/* A read of an open stream that was not there before. */
static void
note_scan (struct readahead *ra, const struct readahead_event *ev)
{
  uint64_t limit = ra->limits.scan << ra->doubt;
  bool enough = is_client_enough (ra, ev), again = ev->shared || is_read_again (ra, ev);

  if (ra->limits.scan == 0)
    return;
  if ((enough || again) && ev->now_ns > ra->scan_ns)
    ra->scan_ns = ev->now_ns;
  if (again) {
    memset (ra->passed, 0, sizeof ra->passed);
    ra->scanned = 0;
    if (ra->scan && ra->doubt < DOUBT_MAX)
      ra->doubt++;              /* once, however many were under way */
  }
  else if (enough)
    ra->scanned = clamp (ra->scanned + ev->len, 0, limit + SCAN_SLACK);
  else if (ra->scan)
    ra->scanned -= clamp (ev->len, 0, ra->scanned);
  ra->scan = ra->scanned > ra->limits.scan << ra->doubt;
}

static unsigned
give_out (struct readahead *ra, const struct readahead_event *ev,
          struct range out[], unsigned max)
{
  struct readahead_stream *s;
  struct range r;
  uint64_t window;
  enum fit fit;
  unsigned i, n;

  if (ra->limits.window_max == 0 || ev->len == 0
      || ev->off >= ra->limits.size)
    return 0;
  r = pages_of (ra, ev);
  fit = find (ra, r, ev->what == READAHEAD_HIT, &i);
  if (fit <= FIT_STEP) {
    if (ev->what == READAHEAD_HIT)
      return 0;
    i = fit == FIT_NOT ? begin (ra, r, ev->now_ns)
                       : begin_step (ra, i, r, ev->now_ns);
  }
  else
    advance (ra, i, r, ev);
  s = &ra->stream[i];
  if (ev->what == READAHEAD_HIT)
    return 0;                   /* read before: no sign that more is wanted */
  judge (ra, i);
  end_scan (ra, ev->now_ns);
  if (s->open && !s->strided)
    note_scan (ra, ev);
  if (ra->scan || is_client_ahead (ra, ev)) {
    ra->queued_ns = ev->now_ns;
    return 0;
  }
  if (!s->open)
    return 0;
  window = get_window (ra, i, ev->now_ns);
  n = s->strided ? plan_steps (ra, i, window, out, max)
                 : plan_run (ra, i, window, out, max);
  if (n > 0)
    ra->queued_ns = ev->now_ns;
  return n;
}

unsigned
readahead_access (struct readahead *ra, const struct readahead_event *ev,
                  struct range out[], unsigned max)
{
  unsigned n = give_out (ra, ev, out, max);

  see_places (ra, ev->now_ns);
  return n;
}

void
readahead_declined (struct readahead *ra, struct range r)
{
  for (unsigned i = 0; i < READAHEAD_STREAMS; i++) {
    struct readahead_stream *s = &ra->stream[i];
    uint64_t start = start_in (ra, s, r);

    if (!s->taken || !s->open || s->strided || start < ra->pos[i]
        || start >= s->end)
      continue;
    s->end = start;
    s->run /= 2;
    return;
  }
}

void
readahead_check (const struct readahead *ra)
{
  assert (ra->accuracy <= ACCURACY_ONE); /* (3) */
  assert (ra->last < READAHEAD_STREAMS);
  for (unsigned i = 0; i < READAHEAD_STREAMS; i++) {
    const struct readahead_stream *s = &ra->stream[i];

    assert ((ra->opened >> i & 1) == (s->taken && s->open));
    if (!s->taken)
      continue;
    if (!s->strided) {          /* (1) */
      assert (ra->pos[i] <= s->end && s->end <= ra->top);
      assert ((ra->pos[i] & (PAGE - 1)) == 0 && (s->end & (PAGE - 1)) == 0);
    }
    if (s->open)                /* (2) */
      assert (s->strided ? s->stride != 0 : s->dir != 0);
  }
}
