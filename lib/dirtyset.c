/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: what does writing, keeping, cleaning do to what is dirty?  See dirtyset.h.
 */
#include <config.h>

#include <assert.h>

#include "dirtyset.h"

_Static_assert (sizeof (struct dirty_value) == 12, "24 bytes a segment");

static inline bool
same_value (const struct dirty_value *a, const struct dirty_value *b)
{
  return a->seq == b->seq && a->stamp == b->stamp && a->carrier == b->carrier
         && a->state == b->state && a->keep == b->keep && a->wt == b->wt;
}

#define SEGSET_NAME dirt
#define SEGSET_VALUE struct dirty_value
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_MERGE(r1, v1, r2, v2, out) \
  (same_value (v1, v2) && (*(out) = *(v1), true))
#include "segset.h"

void
dirtyset_init (struct dirtyset *ds, struct segnodes *nodes)
{
  dirt_init (&ds->set, nodes);
}

void
dirtyset_release (struct dirtyset *ds)
{
  dirt_remove_all (&ds->set);
}

uint32_t
dirtyset_need (const struct dirtyset *ds, uint32_t inserts)
{
  return dirt_need (&ds->set, inserts);
}

uint32_t
dirtyset_mark_inserts (const struct dirtyset *ds, struct range r)
{
  return dirt_edit_inserts (&ds->set, r);
}

uint32_t
dirtyset_change_inserts (const struct dirtyset *ds, struct range r)
{
  return dirt_isolate_inserts (&ds->set, r);
}

/* One pass of dirt_edit: which question is asked, with what, and who counts. */
struct pass {
  uint32_t seq;
  bool wt;
  dirtyset_change_fn *change;
  dirtyset_acct_fn *acct;
  void *arg;
};

static enum segset_verdict
tell (const struct pass *p, struct range piece, const struct dirty_value *old,
      const struct dirty_value *now)
{
  if (old && now && same_value (old, now))
    return SEGSET_LEAVE;
  if (p->acct)
    p->acct (p->arg, piece, old, now);
  return now ? SEGSET_PUT : SEGSET_DROP;
}

/* Newer than whatever is under way; what is DIRTY already waits for an older flush, and so may what is kept. */
static void
make_dirty (struct dirty_value *v, uint32_t seq)
{
  if (v->state == WB_DIRTY)
    return;
  if (v->state != WB_WRITING || !v->keep)
    v->seq = seq;
  v->state = WB_DIRTY;
  v->stamp = 0;
  v->carrier = 0;
}

static enum segset_verdict
mark (void *arg, struct range piece, const struct dirty_value *old, struct dirty_value *now)
{
  const struct pass *p = arg;

  if (old) {
    make_dirty (now, p->seq);
    now->wt &= p->wt;
  }
  else
    *now = (struct dirty_value) { .seq = p->seq, .state = WB_DIRTY, .wt = p->wt };
  return tell (p, piece, old, now);
}

void
dirtyset_mark (struct dirtyset *ds, struct range r, uint32_t seq, bool wt,
               dirtyset_acct_fn *acct, void *arg)
{
  struct pass p = { .seq = seq, .wt = wt, .acct = acct, .arg = arg };

  assert (range_len (r) <= UINT32_MAX);
  dirt_edit (&ds->set, r, mark, &p);
}

static enum segset_verdict
keep (void *arg, struct range piece, const struct dirty_value *old, struct dirty_value *now)
{
  const struct pass *p = arg;

  if (old) {
    make_dirty (now, p->seq);
    now->wt = 0;
  }
  else
    *now = (struct dirty_value) { .seq = p->seq, .state = WB_DIRTY };
  now->keep = 1;
  return tell (p, piece, old, now);
}

void
dirtyset_keep_dirty (struct dirtyset *ds, struct range r, uint32_t seq,
                     dirtyset_acct_fn *acct, void *arg)
{
  struct pass p = { .seq = seq, .acct = acct, .arg = arg };

  assert (range_len (r) <= UINT32_MAX);
  dirt_edit (&ds->set, r, keep, &p);
}

static enum segset_verdict
change (void *arg, struct range piece, const struct dirty_value *old,
        struct dirty_value *now)
{
  const struct pass *p = arg;

  if (old == NULL)
    return SEGSET_LEAVE;
  switch (p->change (p->arg, piece, now)) {
  case DIRTYSET_LEAVE:
    return SEGSET_LEAVE;
  case DIRTYSET_SET:
    assert (now->state != WB_CLEAN);
    return tell (p, piece, old, now);
  case DIRTYSET_DROP:
    return tell (p, piece, old, NULL);
  }
  assert (!"a verdict");
  return SEGSET_LEAVE;
}

void
dirtyset_change (struct dirtyset *ds, struct range r, dirtyset_change_fn *fn,
                 dirtyset_acct_fn *acct, void *arg)
{
  struct pass p = { .change = fn, .acct = acct, .arg = arg };

  dirt_edit (&ds->set, r, change, &p);
}

static enum dirtyset_verdict
drop_unkept (void *arg PC_UNUSED, struct range piece PC_UNUSED, struct dirty_value *value)
{
  return value->keep ? DIRTYSET_LEAVE : DIRTYSET_DROP;
}

void
dirtyset_mark_clean (struct dirtyset *ds, struct range r, dirtyset_acct_fn *acct, void *arg)
{
  dirtyset_change (ds, r, drop_unkept, acct, arg);
}

static enum dirtyset_verdict
drop_all (void *arg PC_UNUSED, struct range piece PC_UNUSED,
          struct dirty_value *value PC_UNUSED)
{
  return DIRTYSET_DROP;
}

void
dirtyset_drop (struct dirtyset *ds, struct range r, dirtyset_acct_fn *acct, void *arg)
{
  dirtyset_change (ds, r, drop_all, acct, arg);
}

static enum dirtyset_verdict
unkeep (void *arg PC_UNUSED, struct range piece PC_UNUSED, struct dirty_value *value)
{
  value->keep = 0;
  return DIRTYSET_SET;
}

void
dirtyset_allow_clean (struct dirtyset *ds, struct range r, dirtyset_acct_fn *acct,
                      void *arg)
{
  dirtyset_change (ds, r, unkeep, acct, arg);
}

bool
dirtyset_find (const struct dirtyset *ds, uint64_t off, struct range *seg,
               struct dirty_value *value)
{
  struct dirt_iter it = dirt_find_segment (&ds->set, off);

  if (!dirt_iter_ok (it))
    return false;
  *seg = dirt_range (it);
  *value = *dirt_value (it);
  return true;
}

bool
dirtyset_next (const struct dirtyset *ds, uint64_t from, unsigned states, uint32_t max_seq,
               struct range *seg, struct dirty_value *value)
{
  for (struct dirt_iter it = dirt_lower_bound (&ds->set, from); dirt_iter_ok (it);
       it = dirt_next (it)) {
    const struct dirty_value *v = dirt_value (it);

    if ((states & WB_BIT (v->state)) && wb_seq_is_upto (v->seq, max_seq)) {
      *seg = dirt_range (it);
      *value = *v;
      return true;
    }
  }
  return false;
}

bool
dirtyset_overlaps (const struct dirtyset *ds, struct range r, unsigned states)
{
  for (struct dirt_iter it = dirt_lower_bound (&ds->set, r.start);
       r.start < r.end && dirt_iter_ok (it) && dirt_range (it).start < r.end;
       it = dirt_next (it))
    if (states & WB_BIT (dirt_value (it)->state))
      return true;
  return false;
}

void
dirtyset_check (const struct dirtyset *ds)
{
  dirt_check (&ds->set);
  for (struct dirt_iter it = dirt_first (&ds->set); dirt_iter_ok (it); it = dirt_next (it))
    assert (dirt_value (it)->state != WB_CLEAN);
}
