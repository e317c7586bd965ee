/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: how are zeros, trims and holes put, dropped and moved on?  See zeroset.h.
 */
#include <config.h>

#include <assert.h>

#include "zeroset.h"

_Static_assert (sizeof (struct zero_value) == 12, "28 bytes a segment");

static inline bool
same_value (const struct zero_value *a, const struct zero_value *b)
{
  return a->seq == b->seq && a->stamp == b->stamp && a->carrier == b->carrier
         && a->state == b->state && a->kind == b->kind && a->may_trim == b->may_trim;
}

/* A test counts what is looked at. */
#ifndef ZEROSET_LOOK
#define ZEROSET_LOOK() ((void) 0)
#endif

#define SEGSET_NAME zeros
#define SEGSET_VALUE struct zero_value
#define SEGSET_LEN_TYPE uint64_t
#define SEGSET_MARK(v) (ZEROSET_LOOK (), WB_BIT ((v)->state))
#define SEGSET_TALLY(v, n) \
  (container_of (set, struct zeroset, set)->nclean += (v)->state == WB_CLEAN ? (n) : 0)
#define SEGSET_MERGE(r1, v1, r2, v2, out) \
  (same_value (v1, v2) && (*(out) = *(v1), true))
#include "segset.h"

static void
check_value (const struct zero_value *v)
{
  assert (v->kind <= ZERO_HOLE);
  assert (v->kind != ZERO_HOLE || v->state == WB_CLEAN);
}

void
zeroset_init (struct zeroset *zs, struct segnodes *nodes)
{
  zeros_init (&zs->set, nodes);
  zs->nclean = 0;
}

void
zeroset_release (struct zeroset *zs)
{
  zeros_remove_all (&zs->set);
  zs->nclean = 0;
}

uint32_t
zeroset_need (const struct zeroset *zs, uint32_t inserts)
{
  return zeros_need (&zs->set, inserts);
}

uint32_t
zeroset_change_inserts (const struct zeroset *zs, struct range r)
{
  return zeros_isolate_inserts (&zs->set, r);
}

/* One pass of zeros_edit: what is asked or put, and who counts. */
struct pass {
  const struct zero_value *put;
  zeroset_change_fn *change;
  zeroset_acct_fn *acct;
  void *arg;
};

static enum segset_verdict
tell (const struct pass *p, struct range piece, const struct zero_value *old,
      const struct zero_value *now)
{
  if (old && now && same_value (old, now))
    return SEGSET_LEAVE;
  if (p->acct)
    p->acct (p->arg, piece, old, now);
  return now ? SEGSET_PUT : SEGSET_DROP;
}

/* Only tells: zeroset_put changes all at once. */
static enum segset_verdict
tell_put (void *arg, struct range piece, const struct zero_value *old,
          struct zero_value *now PC_UNUSED)
{
  const struct pass *p = arg;

  tell (p, piece, old, p->put);
  return SEGSET_LEAVE;
}

void
zeroset_put (struct zeroset *zs, struct range r, const struct zero_value *value,
             zeroset_acct_fn *acct, void *arg)
{
  struct pass p = { .put = value, .acct = acct, .arg = arg };
  struct zero_value v = *value;
  struct zeros_gap g;

  check_value (value);
  if (r.start == r.end)
    return;
  /* Not by edit's own PUT, which fills gap by gap: a range with a thousand holes
   * would count a thousand insertions, and they could come to nothing in the end.
   */
  if (acct)
    zeros_edit (&zs->set, r, tell_put, &p);
  g = zeros_remove_range (&zs->set, r);
  zeros_insert (&zs->set, g, r, &v);
}

static enum segset_verdict
change (void *arg, struct range piece, const struct zero_value *old, struct zero_value *now)
{
  const struct pass *p = arg;

  if (old == NULL)
    return SEGSET_LEAVE;
  switch (p->change (p->arg, piece, now)) {
  case ZEROSET_LEAVE:
    return SEGSET_LEAVE;
  case ZEROSET_SET:
    check_value (now);
    return tell (p, piece, old, now);
  case ZEROSET_DROP:
    return tell (p, piece, old, NULL);
  }
  assert (!"a verdict");
  return SEGSET_LEAVE;
}

void
zeroset_change (struct zeroset *zs, struct range r, unsigned states, zeroset_change_fn *fn,
                zeroset_acct_fn *acct, void *arg)
{
  struct pass p = { .change = fn, .acct = acct, .arg = arg };
  struct zeros_iter it;

  if (states == WB_ANY) {
    zeros_edit (&zs->set, r, change, &p);
    return;
  }
  while (r.start < r.end && zeros_iter_ok (it = zeros_next_marked (&zs->set, r.start, states))
         && zeros_range (it).start < r.end) {
    struct range piece = range_intersect (zeros_range (it), r);

    zeros_edit (&zs->set, piece, change, &p);
    r.start = piece.end;
  }
}

static enum zeroset_verdict
drop_all (void *arg PC_UNUSED, struct range piece PC_UNUSED,
          struct zero_value *value PC_UNUSED)
{
  return ZEROSET_DROP;
}

void
zeroset_drop (struct zeroset *zs, struct range r, zeroset_acct_fn *acct, void *arg)
{
  zeroset_change (zs, r, WB_ANY, drop_all, acct, arg);
}

bool
zeroset_find (const struct zeroset *zs, uint64_t off, struct range *seg,
              struct zero_value *value)
{
  struct zeros_iter it = zeros_find_segment (&zs->set, off);

  if (!zeros_iter_ok (it))
    return false;
  *seg = zeros_range (it);
  *value = *zeros_value (it);
  return true;
}

bool
zeroset_next (const struct zeroset *zs, struct range r, unsigned states, uint32_t max_seq,
              struct range *seg, struct zero_value *value)
{
  struct zeros_iter it;

  while (r.start < r.end && zeros_iter_ok (it = zeros_next_marked (&zs->set, r.start, states))
         && zeros_range (it).start < r.end) {
    *seg = zeros_range (it);
    *value = *zeros_value (it);
    if (wb_seq_is_upto (value->seq, max_seq))
      return true;
    r.start = seg->end;
  }
  return false;
}

bool
zeroset_next_piece (const struct zeroset *zs, struct range r, struct range *piece,
                    struct zero_value *value)
{
  struct zeros_iter it = zeros_lower_bound (&zs->set, r.start);

  if (r.start == r.end || !zeros_iter_ok (it) || zeros_range (it).start >= r.end)
    return false;
  *piece = range_intersect (zeros_range (it), r);
  *value = *zeros_value (it);
  return true;
}

void
zeroset_check (const struct zeroset *zs)
{
  struct zeros_iter it = zeros_first (&zs->set), next;
  uint32_t nclean = 0;

  zeros_check (&zs->set);
  for (; zeros_iter_ok (it); it = next) {
    check_value (zeros_value (it));
    nclean += zeros_value (it)->state == WB_CLEAN;
    next = zeros_next (it);
    if (zeros_iter_ok (next) && zeros_range (it).end == zeros_range (next).start)
      assert (!same_value (zeros_value (it), zeros_value (next)));
  }
  assert (zs->nclean == nclean);
}
