/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: how do byte ranges, whole pages and frames go together?  See rangeset.h.
 */
#include <config.h>

#include <assert.h>

#include "rangeset.h"

static inline uint64_t
pgno_of (uint64_t off)
{
  return off >> RANGESET_PAGE_SHIFT;
}

/* FRS-1; a frame that would not fit into 32 bits follows no other. */
static inline bool
continues (struct range r1, uint32_t f1, struct range r2, uint32_t f2)
{
  return f1 + (pgno_of (r2.start) - pgno_of (r1.start)) == f2;
}

#define SEGSET_NAME ranges
#define SEGSET_VALUE uint32_t
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_MERGE(r1, v1, r2, v2, out) \
  (continues (r1, *(v1), r2, *(v2)) && (*(out) = *(v1), true))
#define SEGSET_SPLIT(r, v, at, out1, out2)                                    \
  do {                                                                        \
    *(out1) = *(v);                                                           \
    *(out2) = rangeset_frame_of ((r).start, *(v), at);                        \
  } while (0)
#include "segset.h"

static struct range
page_range (uint64_t pgoff)
{
  assert ((pgoff & (RANGESET_PAGE - 1)) == 0);
  return (struct range) {
    pgoff,
    /* The last page lacks its last byte, which no range can hold (SEG-5). */
    pgoff + RANGESET_PAGE > pgoff ? pgoff + RANGESET_PAGE : UINT64_MAX,
  };
}

static struct range
page_around (uint64_t off)
{
  return page_range (off & ~(RANGESET_PAGE - 1));
}

void
rangeset_init (struct rangeset *rs, struct segnodes *nodes)
{
  ranges_init (&rs->set, nodes);
}

void
rangeset_release (struct rangeset *rs)
{
  ranges_remove_all (&rs->set);
}

uint32_t
rangeset_need (const struct rangeset *rs, uint32_t inserts)
{
  return ranges_need (&rs->set, inserts);
}

bool
rangeset_find (const struct rangeset *rs, uint64_t off, struct range *seg, uint32_t *frame)
{
  struct ranges_iter it = ranges_find_segment (&rs->set, off);

  if (!ranges_iter_ok (it))
    return false;
  *seg = ranges_range (it);
  *frame = rangeset_frame_of (seg->start, *ranges_value (it), off);
  return true;
}

uint32_t
rangeset_frame_at (const struct rangeset *rs, uint64_t off)
{
  struct range seg;
  uint32_t frame;
  bool valid = rangeset_find (rs, off, &seg, &frame);

  assert (valid);
  return frame;
}

bool
rangeset_next (const struct rangeset *rs, struct range r, struct range *piece,
               uint32_t *frame)
{
  struct ranges_iter it = ranges_lower_bound (&rs->set, r.start);
  struct range seg;

  if (r.start == r.end || !ranges_iter_ok (it))
    return false;
  seg = ranges_range (it);
  if (seg.start >= r.end)
    return false;
  *piece = range_intersect (seg, r);
  *frame = rangeset_frame_of (seg.start, *ranges_value (it), piece->start);
  return true;
}

bool
rangeset_page_frame (const struct rangeset *rs, uint64_t pgoff, uint32_t *frame)
{
  struct range piece;

  return rangeset_next (rs, page_range (pgoff), &piece, frame);
}

bool
rangeset_page_valid (const struct rangeset *rs, uint64_t pgoff, uint64_t limit)
{
  struct range r = page_range (pgoff);

  if (limit < r.end)
    r.end = limit > r.start ? limit : r.start;
  return ranges_covers (&rs->set, r);
}

uint32_t
rangeset_page_fragments (const struct rangeset *rs, uint64_t pgoff)
{
  struct range r = page_range (pgoff);
  uint32_t n = 0;

  for (struct ranges_iter it = ranges_lower_bound (&rs->set, r.start);
       ranges_iter_ok (it) && ranges_range (it).start < r.end; it = ranges_next (it))
    n++;
  return n;
}

bool
rangeset_covers (const struct rangeset *rs, struct range r)
{
  return ranges_covers (&rs->set, r);
}

bool
rangeset_overlaps (const struct rangeset *rs, struct range r)
{
  return !ranges_is_empty_range (&rs->set, r);
}

bool
rangeset_next_gap (const struct rangeset *rs, struct range r, struct range *gap)
{
  struct ranges_iter it = ranges_lower_bound (&rs->set, r.start);

  /* Over all that is valid from r.start on. */
  while (ranges_iter_ok (it) && ranges_range (it).start <= r.start) {
    r.start = ranges_range (it).end;
    it = ranges_next (it);
  }
  if (r.start >= r.end)
    return false;
  if (ranges_iter_ok (it) && ranges_range (it).start < r.end)
    r.end = ranges_range (it).start;
  *gap = r;
  return true;
}

uint64_t
rangeset_absent_pages (const struct rangeset *rs, struct range r)
{
  uint64_t absent = pgno_of (r.end) - pgno_of (r.start);
  uint64_t next = pgno_of (r.start);    /* first page not looked at yet */

  assert (((r.start | r.end) & (RANGESET_PAGE - 1)) == 0);
  for (struct ranges_iter it = ranges_lower_bound (&rs->set, r.start);
       ranges_iter_ok (it) && ranges_range (it).start < r.end; it = ranges_next (it)) {
    struct range piece = range_intersect (ranges_range (it), r);
    uint64_t first = pgno_of (piece.start), end = pgno_of (piece.end - 1) + 1;

    if (first < next)
      first = next;
    if (end > first) {
      absent -= end - first;
      next = end;
    }
  }
  return absent;
}

void
rangeset_add (struct rangeset *rs, struct range r, uint32_t frame)
{
  ranges_insert_range (&rs->set, r, frame);
}

/* Which pages does a removal leave without a byte? */
struct removal {
  struct range r;
  rangeset_gone_fn *gone;
  void *arg;
  uint64_t head, tail;          /* the pages at the ends of r */
  bool head_stays, tail_stays;  /* has bytes outside r */
  uint64_t next;                /* pages below were told */
};

static void
removing (void *arg, struct range piece, uint32_t *frame)
{
  struct removal *rm = arg;
  uint64_t pgno = pgno_of (piece.start);

  for (; pgno <= pgno_of (piece.end - 1); pgno++) {
    if (pgno < rm->next || (pgno == rm->head && rm->head_stays)
        || (pgno == rm->tail && rm->tail_stays))
      continue;
    rm->next = pgno + 1;
    rm->gone (rm->arg, pgno << RANGESET_PAGE_SHIFT,
              *frame + (uint32_t) (pgno - pgno_of (piece.start)));
  }
}

static bool
has_bytes_outside (const struct rangeset *rs, struct range page, struct range r)
{
  return (page.start < r.start
          && rangeset_overlaps (rs, (struct range) { page.start, r.start }))
         || (r.end < page.end
             && rangeset_overlaps (rs, (struct range) { r.end, page.end }));
}

void
rangeset_remove (struct rangeset *rs, struct range r, rangeset_gone_fn *gone, void *arg)
{
  struct removal rm = { .r = r, .gone = gone, .arg = arg };

  if (r.start == r.end)
    return;
  if (gone == NULL) {
    ranges_remove_range (&rs->set, r);
    return;
  }
  rm.head = pgno_of (r.start);
  rm.tail = pgno_of (r.end - 1);
  rm.head_stays = has_bytes_outside (rs, page_around (r.start), r);
  rm.tail_stays = has_bytes_outside (rs, page_around (r.end - 1), r);
  ranges_remove_range_with (&rs->set, r, removing, &rm);
}

uint32_t
rangeset_remove_inserts (const struct rangeset *rs, struct range r)
{
  return ranges_remove_range_inserts (&rs->set, r);
}

struct new_frame {
  uint32_t now, before;
};

static enum segset_verdict
set_frame (void *arg, struct range piece PC_UNUSED, const uint32_t *old, uint32_t *now)
{
  struct new_frame *nf = arg;

  if (old == NULL)
    return SEGSET_LEAVE;
  nf->before = *old;
  *now = nf->now;
  return SEGSET_PUT;
}

uint32_t
rangeset_set_frame (struct rangeset *rs, uint64_t pgoff, uint32_t frame)
{
  struct new_frame nf = { .now = frame };
  struct range page = page_range (pgoff);

  assert (!ranges_is_empty_range (&rs->set, page));
  ranges_edit (&rs->set, page, set_frame, &nf);
  return nf.before;
}

void
rangeset_check (const struct rangeset *rs)
{
  struct ranges_iter it = ranges_first (&rs->set), next;

  ranges_check (&rs->set);
  for (; ranges_iter_ok (it); it = next) {
    struct range a = ranges_range (it), b;
    uint32_t last = rangeset_frame_of (a.start, *ranges_value (it), a.end - 1);

    next = ranges_next (it);
    if (!ranges_iter_ok (next))
      break;
    b = ranges_range (next);
    if (pgno_of (a.end - 1) == pgno_of (b.start))
      assert (*ranges_value (next) == last);
  }
}
