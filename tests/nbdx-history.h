/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdx-history - how nbdx-model keeps what may be where; for its two files.
 *
 * Answers: which operations' bytes may a segment of an atom hold, and since
 * when may they not?  The idea stands in nbdx-model.h.
 */
#ifndef PC_NBDX_HISTORY_H
#define PC_NBDX_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "nbdx-model.h"

#define NEVER UINT64_MAX

struct cand {
  uint32_t op;
  uint32_t killer;              /* 0: none; the first operation kills nobody */
  uint64_t died;                /* no read sent later may see it */
};

struct seg {
  uint32_t start, end;          /* within the atom */
  uint32_t n, alloc;
  struct cand *c;               /* == few while n fits there; oldest first */
  struct cand few[2];
};

struct atom {
  uint32_t n, alloc;
  bool queued;                  /* in unsettled[] */
  struct seg *segs;
  uint32_t *writes;             /* every write that ever touched it, in order */
  uint32_t nwrites, writes_alloc;
};

static inline bool
has_effect (const struct model *m, uint32_t op)
{
  return m->ops[op].state == OP_IN_FLIGHT || m->ops[op].state == OP_OK;
}

static inline bool
dead_for_read (const struct model *m, const struct cand *c, uint64_t inv)
{
  return c->died < inv && has_effect (m, c->killer);
}

static inline bool
dead_for_flush (const struct model *m, const struct cand *c, uint64_t inv)
{
  return c->killer != 0 && m->ops[c->killer].state == OP_OK
    && m->ops[c->killer].ret < inv;
}

/* The part of [off, end) in its first atom: number, start and end in it. */
static inline uint64_t
first_atom (const struct model *m, uint64_t off, uint64_t end, uint32_t *start,
            uint32_t *stop)
{
  uint64_t no = (off - m->base) / m->atom_size;

  *start = (off - m->base) % m->atom_size;
  *stop = end - off < m->atom_size - *start ? *start + (end - off)
    : m->atom_size;
  return no;
}

#define FOR_EACH_ATOM(m, pos, until, no, s, e)                          \
  for (; (pos) < (until)                                                \
         && ((no) = first_atom (m, pos, until, &(s), &(e)), true);      \
       (pos) += (e) - (s))

static inline uint64_t
atom_offset (const struct model *m, uint64_t no)
{
  return m->base + no * m->atom_size;
}

/* c comes before killer, from now on for whoever looks. */
extern void model_kill_cand (const struct model *m, struct cand *c,
                             uint32_t killer);
extern struct atom *model_atom_get (struct model *m, uint64_t no);
/* Forget candidates that nobody who is under way may still see, and join
 * segments that have become alike.
 */
extern void model_atom_purge (const struct model *m, struct atom *a);

#endif
