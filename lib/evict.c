/* SPDX-License-Identifier: BSD-3-Clause
 *
 * evict - which frames leave when memory is short (evict.h has the policy).
 *
 * A queue is a chain of chunks of slots out of one pool that both queues share,
 * so no slot is reserved for a queue that does not need it.  A slot is a frame
 * number and a tag; it is live while place[frame] names that queue and that
 * tag, so a frame is forgotten by changing its place and nothing else.  Dead
 * slots are dropped when the tail passes them or squeezed out when the pool is
 * empty.  A frame may be forgotten and put back so often that its tag comes
 * round while its old slot is still there: then the old slot counts, the frame
 * is looked at too early, and the newer slot dies with the next tag.  Links
 * instead of slots would spare all that and cost 4 bytes a frame more.
 *
 * A bucket of the ghost table is one cache line of 16 keys.  A key is
 * remembered as 18 bits of itself, the queue it left (1 bit) and when (13 bits,
 * counted in steps of 1/1024 of the frames evicted from that queue); a false
 * match (1 in 16,000 look-ups) only sends a new page to the main queue.
 *
 * Invariants, run by evict_check():
 *   (1) queue[q].live = number of frames whose place says q
 *   (2) picked = number of frames whose place says picked
 *   (3) every frame in q has a slot in q's chain that names its tag
 *   (4) every chunk is in exactly one chain or free
 *   (5) 1 <= small_target <= target <= nframes
 *   (6) no slot is looked at twice: a chain's tail_at is below CHUNK
 *
 * The heat of a frame outside is anything: who pinned it before it was
 * forgotten may touch it afterwards.  evict_insert starts it afresh.
 */
#include <config.h>

#include <assert.h>
#include <string.h>

#include "compiler.h"
#include "evict.h"

#define CHUNK 64u               /* slots: 256 bytes, four lines */
#define NONE UINT32_MAX

/* place[]: state in the low bits, tag above. */
enum { OUT, SMALL, MAIN, PICKED_SMALL, PICKED_MAIN, SEEN };
#define STATE_BITS 3u
#define STATE(p) ((p) & ((1u << STATE_BITS) - 1))
#define TAG(p) ((p) >> STATE_BITS)
#define NTAGS (1u << (8 - STATE_BITS))
#define FRAME_BITS 27u
#define SLOT(frame, tag) ((frame) | (uint32_t) (tag) << FRAME_BITS)
#define SLOT_FRAME(s) ((s) & (EVICT_MAX_FRAMES - 1))
#define SLOT_TAG(s) ((s) >> FRAME_BITS)

_Static_assert (SMALL == EVICT_SMALL + 1 && MAIN == EVICT_MAIN + 1
                && PICKED_SMALL == EVICT_SMALL + 3
                && PICKED_MAIN == EVICT_MAIN + 3, "queue from state");
_Static_assert (NTAGS == 1u << (32 - FRAME_BITS), "a slot holds every tag");

/* A remembered key: fingerprint, queue, age; 0 is an empty way. */
#define AGE_BITS 13u
#define AGE_MASK ((1u << AGE_BITS) - 1)
#define AGE_STEPS 1024u         /* of nframes evictions */
#define KEY_QUEUE(k) ((k) >> AGE_BITS & 1)
#define KEY_PRINT(k) ((k) >> (AGE_BITS + 1))

#define SCAN_PER_VICTIM 4u
#define SCAN_SPARE 256u

static size_t
aligned (size_t n)
{
  return (n + 63) & ~(size_t) 63;
}

/* Each queue may leave one chunk at either end nearly empty. */
static uint32_t
count_chunks (uint32_t nframes)
{
  return (nframes + nframes / 16 + CHUNK - 1) / CHUNK + 2 * EVICT_NQUEUES + 1;
}

/* The keys that matter are nframes of the small queue's and a tenth of the
 * main queue's; a quarter more room keeps full buckets rare.
 */
static uint32_t
count_buckets (uint32_t nframes)
{
  return (uint32_t) (((uint64_t) nframes * 11 / 8 + EVICT_WAYS - 1) / EVICT_WAYS);
}

size_t
evict_size (uint32_t nframes)
{
  size_t nchunks = count_chunks (nframes);

  return aligned (count_buckets (nframes) * (size_t) EVICT_WAYS * sizeof (uint32_t))
         + aligned (nchunks * CHUNK * sizeof (uint32_t))
         + aligned (nchunks * sizeof (uint32_t))
         + 2 * aligned (nframes);
}

static void
start_small_target (struct evict *e)
{
  e->small_target = e->target / 10 ? e->target / 10 : 1;
}

void
evict_init (struct evict *e, void *mem, uint32_t nframes)
{
  char *p = mem;

  assert (nframes > 0 && nframes <= EVICT_MAX_FRAMES);
  assert (((uintptr_t) mem & 63) == 0);

  memset (e, 0, sizeof *e);
  memset (mem, 0, evict_size (nframes));
  e->nframes = e->target = nframes;
  e->nchunks = count_chunks (nframes);
  e->nbuckets = count_buckets (nframes);
  while (nframes >> e->age_shift > AGE_STEPS)
    e->age_shift++;

  e->ghost = (uint32_t *) p;
  p += aligned (e->nbuckets * (size_t) EVICT_WAYS * sizeof (uint32_t));
  e->slots = (uint32_t *) p;
  p += aligned (e->nchunks * (size_t) CHUNK * sizeof (uint32_t));
  e->next = (uint32_t *) p;
  p += aligned (e->nchunks * sizeof (uint32_t));
  e->heat = (uint8_t *) p;
  e->place = (uint8_t *) p + aligned (nframes);

  e->free_chunk = NONE;
  for (uint32_t c = e->nchunks; c-- > 0;) {
    e->next[c] = e->free_chunk;
    e->free_chunk = c;
  }
  e->nfree = e->nchunks;
  for (unsigned q = 0; q < EVICT_NQUEUES; q++)
    e->queue[q].head = e->queue[q].tail = NONE;
  start_small_target (e);
  e->warm = true;
}

void
evict_set_target (struct evict *e, uint32_t target)
{
  assert (target > 0 && target <= e->nframes);
  if (target > e->target)
    e->warm = true;             /* the new part is a first fill, too */
  e->target = target;
  start_small_target (e);
}

uint32_t
evict_count (const struct evict *e)
{
  return e->queue[EVICT_SMALL].live + e->queue[EVICT_MAIN].live;
}

uint32_t
evict_excess (const struct evict *e)
{
  uint32_t n = evict_count (e);

  return n > e->target ? n - e->target : 0;
}

unsigned
evict_batch (const struct evict *e)
{
  uint32_t n = e->target / 64;

  return n < 1 ? 1 : n > 64 ? 64 : n;
}

void
evict_rewarm (struct evict *e)
{
  memset (e->ghost, 0, e->nbuckets * (size_t) EVICT_WAYS * sizeof (uint32_t));
  start_small_target (e);
  e->warm = true;
}

/* Queues. */

static void
free_chunk (struct evict *e, uint32_t c)
{
  e->next[c] = e->free_chunk;
  e->free_chunk = c;
  e->nfree++;
}

static void
append_chunk (struct evict *e, struct evict_queue *qu)
{
  uint32_t c = e->free_chunk;

  assert (c != NONE);
  e->free_chunk = e->next[c];
  e->nfree--;
  e->next[c] = NONE;
  if (qu->head == NONE) {
    qu->tail = c;
    qu->tail_at = 0;
  }
  else
    e->next[qu->head] = c;
  qu->head = c;
  qu->head_at = 0;
}

static bool
slot_is_live (const struct evict *e, enum evict_queue_id q, uint32_t slot)
{
  uint8_t p = e->place[SLOT_FRAME (slot)];

  return STATE (p) == q + 1u && TAG (p) == SLOT_TAG (slot);
}

/* Slots are visited from tail to head by (chunk, at). */
struct walk {
  uint32_t c, at;
};

static bool
walk_next (const struct evict *e, const struct evict_queue *qu,
           struct walk *w, uint32_t *ret)
{
  if (w->c == NONE || (w->c == qu->head && w->at == qu->head_at))
    return false;
  *ret = e->slots[w->c * CHUNK + w->at];
  if (++w->at == CHUNK && w->c != qu->head) {
    w->c = e->next[w->c];
    w->at = 0;
  }
  return true;
}

/* Move the live slots of a queue together at its tail.  A frame of two live
 * looking slots keeps the older: SEEN makes the second one dead.
 */
static void
squeeze (struct evict *e, enum evict_queue_id q)
{
  struct evict_queue *qu = &e->queue[q];
  struct walk r = { qu->tail, qu->tail_at }, w = r;
  uint32_t slot, rest, n = 0;

  while (walk_next (e, qu, &r, &slot))
    if (slot_is_live (e, q, slot)) {
      uint8_t *p = &e->place[SLOT_FRAME (slot)];

      *p = (uint8_t) (*p - (q + 1u) + SEEN);
      if (w.at == CHUNK) {
        w.c = e->next[w.c];
        w.at = 0;
      }
      e->slots[w.c * CHUNK + w.at++] = slot;
      n++;
    }
  assert (n == qu->live);
  if (w.c == NONE)
    return;

  qu->head = w.c;
  qu->head_at = w.at;
  rest = e->next[w.c];
  e->next[w.c] = NONE;
  while (rest != NONE) {
    uint32_t c = rest;

    rest = e->next[c];
    free_chunk (e, c);
  }
  for (w = (struct walk) { qu->tail, qu->tail_at };
       walk_next (e, qu, &w, &slot);) {
    uint8_t *p = &e->place[SLOT_FRAME (slot)];

    *p = (uint8_t) (*p - SEEN + q + 1u);
  }
}

/* frame, in no queue, becomes the newest of q. */
static void
push (struct evict *e, enum evict_queue_id q, uint32_t frame)
{
  struct evict_queue *qu = &e->queue[q];
  unsigned tag = (TAG (e->place[frame]) + 1u) % NTAGS;

  if (qu->head == NONE || qu->head_at == CHUNK) {
    if (e->nfree == 0) {
      squeeze (e, EVICT_SMALL);
      squeeze (e, EVICT_MAIN);
      e->stats.squeezes++;
    }
    if (qu->head == NONE || qu->head_at == CHUNK)
      append_chunk (e, qu);
  }
  e->slots[qu->head * CHUNK + qu->head_at++] = SLOT (frame, tag);
  e->place[frame] = (uint8_t) (tag << STATE_BITS | (q + 1u));
  qu->live++;
}

/* The oldest slot of q, which is gone then; false if there is none. */
static bool
pop_slot (struct evict *e, enum evict_queue_id q, uint32_t *ret)
{
  struct evict_queue *qu = &e->queue[q];

  if (qu->tail == NONE)
    return false;
  if (qu->tail == qu->head && qu->tail_at == qu->head_at)
    return false;
  *ret = e->slots[qu->tail * CHUNK + qu->tail_at++];
  if (qu->tail == qu->head) {
    if (qu->tail_at == qu->head_at)
      qu->tail_at = qu->head_at = 0; /* empty: start its one chunk again */
  }
  else if (qu->tail_at == CHUNK) {
    uint32_t c = qu->tail;

    qu->tail = e->next[c];
    qu->tail_at = 0;
    free_chunk (e, c);
  }
  return true;
}

static void
set_state (struct evict *e, uint32_t frame, unsigned state)
{
  e->place[frame] =
    (uint8_t) (TAG (e->place[frame]) << STATE_BITS | state);
}

/* Remembered keys. */

static uint32_t
make_print (uint64_t key)
{
  uint32_t p = (uint32_t) key >> (AGE_BITS + 1);

  return p ? p : 1;
}

/* How many evictions from its queue ago the key was remembered. */
static uint64_t
key_distance (const struct evict *e, uint32_t k)
{
  uint32_t now = (uint32_t) (e->left[KEY_QUEUE (k)] >> e->age_shift);

  return (uint64_t) ((now - k) & AGE_MASK) << e->age_shift;
}

static void
remember (struct evict *e, uint64_t key, enum evict_queue_id q)
{
  uint32_t *b = evict_bucket (e, key), print = make_print (key);
  unsigned way = 0;
  uint64_t oldest = 0;

  for (unsigned i = 0; i < EVICT_WAYS; i++) {
    uint64_t d;

    if (b[i] == 0 || KEY_PRINT (b[i]) == print) {
      way = i;
      break;
    }
    d = key_distance (e, b[i]);
    if (KEY_QUEUE (b[i]) == EVICT_MAIN)
      d *= 10;                  /* these are of use a tenth as long */
    if (d >= oldest) {
      oldest = d;
      way = i;
    }
  }
  b[way] = print << (AGE_BITS + 1) | (uint32_t) q << AGE_BITS
           | ((uint32_t) (e->left[q] >> e->age_shift) & AGE_MASK);
  e->left[q]++;
}

/* The small queue's share moves by one frame towards the side that would have
 * kept this page.
 */
static void
adapt (struct evict *e, enum evict_queue_id q)
{
  uint32_t low = e->target / 20 ? e->target / 20 : 1;
  uint32_t high = e->target - e->target / 10;

  if (q == EVICT_SMALL && e->small_target < high)
    e->small_target++;
  else if (q == EVICT_MAIN && e->small_target > low)
    e->small_target--;
}

/* Was key remembered, and does it belong in the main queue?  Forgets it. */
static bool
recall (struct evict *e, uint64_t key)
{
  uint32_t *b = evict_bucket (e, key), print = make_print (key);

  for (unsigned i = 0; i < EVICT_WAYS; i++)
    if (b[i] && KEY_PRINT (b[i]) == print) {
      enum evict_queue_id q = KEY_QUEUE (b[i]);
      uint64_t d = key_distance (e, b[i]);

      b[i] = 0;
      if (d > e->target)
        return false;
      if (d <= e->target / 10)
        adapt (e, q);
      if (q == EVICT_MAIN)
        return false;           /* it had its chance: measured 1.3 % worse */
      e->stats.returned++;
      return true;
    }
  return false;
}

/* The public ones. */

/* Fetched ahead and neither used, gone nor forgotten. */
static uint32_t
count_unread (const struct evict *e)
{
  uint64_t used = __atomic_load_n (&e->ahead_used, __ATOMIC_RELAXED);
  uint64_t over = used + e->stats.wasted;

  return (uint32_t) (e->stats.inserted_ahead - over);
}

static uint32_t
small_limit (const struct evict *e)
{
  uint32_t ahead = count_unread (e);

  if (ahead > e->target / 4)
    ahead = e->target / 4;
  return e->small_target + ahead;
}

void
evict_insert (struct evict *e, uint32_t frame, uint64_t key, unsigned flags)
{
  bool main;

  assert (frame < e->nframes);
  assert (STATE (e->place[frame]) == OUT);

  e->stats.inserted++;
  main = recall (e, key);
  if (e->warm && e->queue[EVICT_SMALL].live >= small_limit (e))
    main = true;
  if (flags & EVICT_AHEAD)
    e->stats.inserted_ahead++;
  __atomic_store_n (&e->heat[frame],
                    flags & EVICT_AHEAD ? EVICT_HEAT_AHEAD : 0,
                    __ATOMIC_RELAXED);
  push (e, main ? EVICT_MAIN : EVICT_SMALL, frame);
}

/* A frame goes out; says whether it was never used after being fetched ahead.
 * The exchange meets evict_touch's: exactly one of them sees the flag.
 */
static bool
go_out (struct evict *e, uint32_t frame)
{
  uint8_t h = __atomic_exchange_n (&e->heat[frame], 0, __ATOMIC_RELAXED);

  set_state (e, frame, OUT);
  if (!(h & EVICT_HEAT_AHEAD))
    return false;
  e->stats.wasted++;
  return true;
}

bool
evict_forget (struct evict *e, uint32_t frame)
{
  unsigned state = STATE (e->place[frame]);

  assert (state == SMALL || state == MAIN || state == PICKED_SMALL
          || state == PICKED_MAIN);
  if (state == SMALL || state == MAIN)
    e->queue[state - 1].live--;
  else
    e->picked--;
  e->stats.forgotten++;
  return go_out (e, frame);
}

bool
evict_gone (struct evict *e, uint32_t frame, uint64_t key)
{
  unsigned state = STATE (e->place[frame]);
  bool wasted;

  assert (state == PICKED_SMALL || state == PICKED_MAIN);
  e->picked--;
  e->stats.evicted++;
  if (state == PICKED_MAIN)
    e->stats.evicted_main++;
  wasted = go_out (e, frame);
  /* What nobody asked for is nothing to remember. */
  if (!wasted)
    remember (e, key, state == PICKED_MAIN ? EVICT_MAIN : EVICT_SMALL);
  return wasted;
}

void
evict_unpick (struct evict *e, uint32_t frame, enum evict_reason reason)
{
  unsigned state = STATE (e->place[frame]);

  assert (state == PICKED_SMALL || state == PICKED_MAIN);
  switch (reason) {
  case EVICT_BUSY:
    e->stats.busy++;
    break;
  case EVICT_DIRTY:
    e->stats.dirty++;
    break;
  }
  e->picked--;
  push (e, state == PICKED_MAIN ? EVICT_MAIN : EVICT_SMALL, frame);
}

bool
evict_is_picked (const struct evict *e, uint32_t frame)
{
  unsigned state = STATE (e->place[frame]);

  return state == PICKED_SMALL || state == PICKED_MAIN;
}

static uint8_t
get_heat (const struct evict *e, uint32_t frame)
{
  uint8_t h = __atomic_load_n (&e->heat[frame], __ATOMIC_RELAXED);

  return h & EVICT_HEAT_AHEAD ? 0 : h;
}

/* Would a frame at q's tail leave? */
static bool
is_cold_in (const struct evict *e, enum evict_queue_id q, uint32_t frame)
{
  return get_heat (e, frame) < (q == EVICT_SMALL ? 2 : 1);
}

static void
take (struct evict *e, enum evict_queue_id q, uint32_t frame)
{
  e->queue[q].live--;
  e->picked++;
  set_state (e, frame, PICKED_SMALL + q);
}

/* The frame of a live slot of q's tail stays: used frames of the small queue
 * move up, those of the main queue pay a use for another turn.
 */
static void
keep (struct evict *e, enum evict_queue_id q, uint32_t frame)
{
  uint8_t h = get_heat (e, frame);

  e->queue[q].live--;
  if (q == EVICT_SMALL) {
    e->stats.promoted++;
    h = 0;
  }
  else {
    e->stats.second_chances++;
    h--;
  }
  __atomic_store_n (&e->heat[frame], h, __ATOMIC_RELAXED);
  push (e, EVICT_MAIN, frame);
}

/* Which queue pays next. */
static enum evict_queue_id
choose (const struct evict *e)
{
  return e->queue[EVICT_MAIN].live == 0
             || e->queue[EVICT_SMALL].live >= small_limit (e)
           ? EVICT_SMALL
           : EVICT_MAIN;
}

/* The run that the last victim was part of goes on leaving, up to most. */
static unsigned
finish_run (struct evict *e, enum evict_queue_id q, uint32_t out[], unsigned n,
            unsigned most)
{
  while (n < most) {
    struct walk w = { e->queue[q].tail, e->queue[q].tail_at };
    uint32_t slot;

    if (!walk_next (e, &e->queue[q], &w, &slot))
      break;
    if (!slot_is_live (e, q, slot)) {
      pop_slot (e, q, &slot);
      continue;
    }
    if (SLOT_FRAME (slot) != out[n - 1] + 1
        || !is_cold_in (e, q, SLOT_FRAME (slot)))
      break;
    pop_slot (e, q, &slot);
    take (e, q, SLOT_FRAME (slot));
    out[n++] = SLOT_FRAME (slot);
  }
  return n;
}

unsigned
evict_pick (struct evict *e, uint32_t out[], unsigned max, unsigned flags)
{
  uint64_t budget = (uint64_t) SCAN_PER_VICTIM * max + SCAN_SPARE;
  enum evict_queue_id last = EVICT_SMALL;
  unsigned n = 0;

  e->warm = false;

  while (n < max && evict_count (e) > 0) {
    enum evict_queue_id q = choose (e);
    uint32_t slot, frame;

    if (flags & EVICT_OTHER && e->queue[!q].live > 0)
      q = !q;
    if (!pop_slot (e, q, &slot))
      break;                    /* not reached: q has a live frame */
    if (!slot_is_live (e, q, slot))
      continue;                 /* each dead slot is met once */
    frame = SLOT_FRAME (slot);
    if (budget == 0)
      e->stats.scan_limits++;
    if (budget == 0 || is_cold_in (e, q, frame)) {
      take (e, q, frame);
      out[n++] = frame;
      last = q;
    }
    else
      keep (e, q, frame);
    if (budget > 0)
      budget--;
  }
  if (flags & EVICT_RUNS && n == max && n > 0)
    n = finish_run (e, last, out, n, 2 * max);
  return n;
}

unsigned
evict_tail (const struct evict *e, uint32_t out[], unsigned max)
{
  enum evict_queue_id q = choose (e);
  uint64_t budget = (uint64_t) SCAN_PER_VICTIM * max + SCAN_SPARE;
  unsigned n = 0;

  for (unsigned turn = 0; turn < EVICT_NQUEUES; turn++, q = !q) {
    const struct evict_queue *qu = &e->queue[q];
    struct walk w = { qu->tail, qu->tail_at };
    uint32_t slot;

    for (; n < max && budget > 0 && walk_next (e, qu, &w, &slot); budget--)
      if (slot_is_live (e, q, slot) && is_cold_in (e, q, SLOT_FRAME (slot)))
        out[n++] = SLOT_FRAME (slot);
  }
  return n;
}

bool
evict_is_cold (const struct evict *e, uint32_t frame)
{
  unsigned state = STATE (e->place[frame]);

  return (state == SMALL || state == MAIN)
         && is_cold_in (e, (enum evict_queue_id) (state - 1), frame);
}

bool
evict_has (const struct evict *e, uint32_t frame)
{
  return STATE (e->place[frame]) != OUT;
}

void
evict_get_stats (const struct evict *e, struct evict_stats *ret)
{
  *ret = e->stats;
}

/* (3) and the chains of (4); returns the chunks of q. */
static uint32_t
check_queue (const struct evict *e, enum evict_queue_id q)
{
  const struct evict_queue *qu = &e->queue[q];
  struct walk w = { qu->tail, qu->tail_at };
  uint32_t slot, n = 0, chunks = 0;

  if (qu->tail != NONE)
    assert (qu->tail_at < CHUNK); /* (6) */
  for (uint32_t c = qu->tail; c != NONE; c = e->next[c]) {
    assert (++chunks <= e->nchunks);
    if (e->next[c] == NONE)
      assert (c == qu->head);
  }
  while (walk_next (e, qu, &w, &slot)) {
    assert (SLOT_FRAME (slot) < e->nframes);
    n += slot_is_live (e, q, slot);
  }
  assert (n >= qu->live);       /* more only where a tag came round */
  return chunks;
}

void
evict_check (const struct evict *e)
{
  uint32_t live[EVICT_NQUEUES] = { 0, 0 }, picked = 0, chunks = 0;

  for (uint32_t f = 0; f < e->nframes; f++)
    switch (STATE (e->place[f])) {
    case OUT:
      break;
    case SMALL:
    case MAIN:
      live[STATE (e->place[f]) - 1]++;
      break;
    case PICKED_SMALL:
    case PICKED_MAIN:
      picked++;
      break;
    default:
      assert (!"a place that is none");
    }
  assert (picked == e->picked); /* (2) */
  for (unsigned q = 0; q < EVICT_NQUEUES; q++) {
    assert (live[q] == e->queue[q].live); /* (1) */
    chunks += check_queue (e, q);
  }
  assert (chunks + e->nfree == e->nchunks); /* (4) */
  assert (e->small_target >= 1 && e->small_target <= e->target
          && e->target <= e->nframes); /* (5) */
}
