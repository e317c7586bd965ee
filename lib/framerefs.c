/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: how are ranges of frames counted up and down?  See framerefs.h.
 */
#include <config.h>

#include <assert.h>

#include "framerefs.h"

#define SEGSET_NAME counts
#define SEGSET_VALUE uint32_t
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_MERGE(r1, v1, r2, v2, out) \
  (*(v1) == *(v2) && (*(out) = *(v1), true))
#include "segset.h"

void
framerefs_init (struct framerefs *fr, struct segnodes *nodes)
{
  counts_init (&fr->set, nodes);
}

void
framerefs_release (struct framerefs *fr)
{
  counts_remove_all (&fr->set);
}

uint32_t
framerefs_need (const struct framerefs *fr, uint32_t inserts)
{
  return counts_need (&fr->set, inserts);
}

uint32_t
framerefs_get_inserts (const struct framerefs *fr, struct range frames)
{
  return counts_edit_inserts (&fr->set, frames);
}

uint32_t
framerefs_put_inserts (const struct framerefs *fr, struct range frames)
{
  return counts_isolate_inserts (&fr->set, frames);
}

struct pass {
  framerefs_edge_fn *edge;
  void *arg;
};

/* X_edit merges what it puts backwards only, so that the next segment is met as it was and
 * gets its own count (FRF-5).
 */
static enum segset_verdict
get (void *arg, struct range piece, const uint32_t *old, uint32_t *now)
{
  const struct pass *p = arg;

  if (old == NULL && p->edge)
    p->edge (p->arg, piece);
  assert (old == NULL || *old < UINT32_MAX);
  *now = old ? *old + 1 : 1;
  return SEGSET_PUT;
}

void
framerefs_get (struct framerefs *fr, struct range frames, framerefs_edge_fn *used, void *arg)
{
  struct pass p = { used, arg };

  assert (frames.end <= UINT32_MAX);
  counts_edit (&fr->set, frames, get, &p);
}

static enum segset_verdict
put (void *arg, struct range piece, const uint32_t *old, uint32_t *now)
{
  const struct pass *p = arg;

  assert (old != NULL);         /* somebody puts what he has not got */
  if (*old > 1) {
    *now = *old - 1;
    return SEGSET_PUT;
  }
  if (p->edge)
    p->edge (p->arg, piece);
  return SEGSET_DROP;
}

void
framerefs_put (struct framerefs *fr, struct range frames, framerefs_edge_fn *unused,
               void *arg)
{
  struct pass p = { unused, arg };

  counts_edit (&fr->set, frames, put, &p);
}

uint32_t
framerefs_count (const struct framerefs *fr, uint32_t frame)
{
  struct counts_iter it = counts_find_segment (&fr->set, frame);

  return counts_iter_ok (it) ? *counts_value (it) : 0;
}

uint64_t
framerefs_used (const struct framerefs *fr, struct range frames)
{
  return counts_span_range (&fr->set, frames);
}

void
framerefs_check (const struct framerefs *fr)
{
  struct counts_iter it = counts_first (&fr->set), next;

  counts_check (&fr->set);
  for (; counts_iter_ok (it); it = next) {
    assert (*counts_value (it) > 0);
    next = counts_next (it);
    if (counts_iter_ok (next) && counts_range (it).end == counts_range (next).start)
      assert (*counts_value (it) != *counts_value (next));
  }
}
