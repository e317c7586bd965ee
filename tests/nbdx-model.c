/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdx-model - the operations and what each left behind; see nbdx-model.h.
 * What a reply is held against stands in nbdx-check.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef NDEBUG

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "nbdx-history.h"
#include "nbdx-model.h"
#include "nbdx-stamp.h"

static void *
grow (void *p, size_t n, size_t size)
{
  p = reallocarray (p, n, size);
  if (p == NULL) {
    perror ("nbdx");
    exit (2);
  }
  return p;
}

/* ---- candidates and segments ---- */

void
model_kill_cand (const struct model *m, struct cand *c, uint32_t killer)
{
  const struct op *was = &m->ops[c->killer], *is = &m->ops[killer];

  if (c->killer != 0 && was->state == OP_OK) {
    /* The one that was answered first says more about durability. */
    if (is->state == OP_OK && is->ret < was->ret)
      c->killer = killer;
    return;
  }
  assert (killer != 0);
  /* One with a reply is worth more than one that may still fail. */
  if (c->killer != 0 && has_effect (m, c->killer) && is->state != OP_OK)
    return;
  c->died = m->clock;
  c->killer = killer;
}

static void
seg_set (struct seg *s, const struct cand *c, uint32_t n)
{
  s->n = n;
  s->alloc = n <= 2 ? 2 : n;
  s->c = n <= 2 ? s->few : grow (NULL, n, sizeof *c);
  memcpy (s->c, c, n * sizeof *c);
}

static void
seg_release (struct seg *s)
{
  if (s->alloc > 2)
    free (s->c);
}

static void
seg_add (struct seg *s, uint32_t op)
{
  if (s->n == s->alloc) {
    struct cand *c = grow (s->alloc > 2 ? s->c : NULL, 2 * s->alloc,
                           sizeof *c);

    if (s->alloc == 2)
      memcpy (c, s->few, sizeof s->few);
    s->c = c;
    s->alloc *= 2;
  }
  s->c[s->n++] = (struct cand) { .op = op, .died = NEVER };
}

static void
seg_purge (const struct model *m, struct seg *s, uint64_t oldest)
{
  uint32_t i, n = 0;

  for (i = 0; i < s->n; ++i)
    if (m->ops[s->c[i].op].state != OP_VOID
        && !(dead_for_read (m, &s->c[i], oldest)
             && dead_for_flush (m, &s->c[i], oldest)))
      s->c[n++] = s->c[i];
  s->n = n;
}

static bool
seg_same (const struct seg *a, const struct seg *b)
{
  uint32_t i;

  if (a->n != b->n)
    return false;
  for (i = 0; i < a->n; ++i)
    if (a->c[i].op != b->c[i].op || a->c[i].killer != b->c[i].killer
        || a->c[i].died != b->c[i].died)
      return false;
  return true;
}

/* Segments live in an array; those that have not moved to the heap point into
 * themselves and must be told when the array moves.
 */
static void
atom_repoint (struct atom *a)
{
  uint32_t i;

  for (i = 0; i < a->n; ++i)
    if (a->segs[i].alloc == 2)
      a->segs[i].c = a->segs[i].few;
}

struct atom *
model_atom_get (struct model *m, uint64_t no)
{
  struct atom *a = m->atoms[no];
  struct cand first = { .op = 0, .died = NEVER };

  if (a == NULL) {
    a = grow (NULL, 1, sizeof *a);
    *a = (struct atom) { .n = 1, .alloc = 1 };
    a->segs = grow (NULL, 1, sizeof a->segs[0]);
    a->segs[0].start = 0;
    a->segs[0].end = m->atom_size;
    seg_set (&a->segs[0], &first, 1);
    m->atoms[no] = a;
  }
  return a;
}

static void
atom_split (struct atom *a, uint32_t at)
{
  uint32_t i;
  struct seg *s;

  for (i = 0; i < a->n && a->segs[i].end <= at; ++i)
    ;
  if (i == a->n || a->segs[i].start == at)
    return;
  if (a->n == a->alloc) {
    a->alloc *= 2;
    a->segs = grow (a->segs, a->alloc, sizeof a->segs[0]);
  }
  memmove (&a->segs[i + 1], &a->segs[i], (a->n - i) * sizeof a->segs[0]);
  a->n++;
  atom_repoint (a);
  s = &a->segs[i];
  seg_set (s, a->segs[i + 1].c, a->segs[i + 1].n);
  s->end = at;
  a->segs[i + 1].start = at;
}

void
model_atom_purge (const struct model *m, struct atom *a)
{
  uint64_t oldest = m->nin_flight ? m->ops[m->in_flight[0]].inv : m->clock;
  uint32_t i, n = 0;

  for (i = 0; i < a->n; ++i) {
    seg_purge (m, &a->segs[i], oldest);
    if (n > 0 && seg_same (&a->segs[n - 1], &a->segs[i])) {
      a->segs[n - 1].end = a->segs[i].end;
      seg_release (&a->segs[i]);
    }
    else
      a->segs[n++] = a->segs[i];
    atom_repoint (a);
  }
  a->n = n;
}

static void
atom_queue (struct model *m, struct atom *a, uint64_t no)
{
  if (a->queued)
    return;
  if (m->nunsettled == m->unsettled_alloc) {
    m->unsettled_alloc = m->unsettled_alloc ? 2 * m->unsettled_alloc : 1024;
    m->unsettled = grow (m->unsettled, m->unsettled_alloc,
                         sizeof m->unsettled[0]);
  }
  m->unsettled[m->nunsettled++] = no;
  a->queued = true;
}

static void
atom_remember (struct atom *a, uint32_t op)
{
  if (a->nwrites == a->writes_alloc) {
    a->writes_alloc = a->writes_alloc ? 2 * a->writes_alloc : 4;
    a->writes = grow (a->writes, a->writes_alloc, sizeof a->writes[0]);
  }
  a->writes[a->nwrites++] = op;
}

/* ---- operations ---- */

struct model *
model_create (uint64_t seed, uint64_t base, uint64_t end, uint32_t atom_size)
{
  struct model *m = grow (NULL, 1, sizeof *m);

  memset (m, 0, sizeof *m);
  m->key = stamp_mix (seed + 1);
  m->base = base;
  m->end = end;
  assert (atom_size <= MODEL_ATOM_MAX);
  m->atom_size = atom_size;
  m->natoms = (end - base + atom_size - 1) / atom_size;
  /* Untouched parts of a giant's table cost nothing. */
  m->atoms = mmap (NULL, m->natoms * sizeof m->atoms[0] + 1,
                   PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (m->atoms == MAP_FAILED) {
    perror ("nbdx: mmap");
    exit (2);
  }
  m->ops_alloc = 1024;
  m->ops = grow (NULL, m->ops_alloc, sizeof m->ops[0]);
  m->ops[0] = (struct op) {
    .off = base, .kind = OP_INITIAL, .state = OP_OK,
  };
  m->nops = 1;
  m->clock = 1;
  return m;
}

void
model_free (struct model *m)
{
  uint64_t no;
  uint32_t i;

  for (no = 0; no < m->natoms; ++no) {
    struct atom *a = m->atoms[no];

    if (a == NULL)
      continue;
    for (i = 0; i < a->n; ++i)
      seg_release (&a->segs[i]);
    free (a->segs);
    free (a->writes);
    free (a);
  }
  munmap (m->atoms, m->natoms * sizeof m->atoms[0] + 1);
  free (m->ops);
  free (m->in_flight);
  free (m->unsettled);
  free (m);
}

static bool
changes_bytes (unsigned kind)
{
  return kind == OP_WRITE || kind == OP_ZERO || kind == OP_TRIM;
}

uint32_t
model_issue (struct model *m, enum op_kind kind, unsigned conn, uint64_t off,
             uint32_t len, unsigned flags)
{
  uint32_t op = m->nops, s, e, i;
  uint64_t no, pos = off;

  if (m->nops == m->ops_alloc) {
    m->ops_alloc *= 2;
    m->ops = grow (m->ops, m->ops_alloc, sizeof m->ops[0]);
  }
  m->nops++;
  m->ops[op] = (struct op) {
    .inv = ++m->clock, .ret = NEVER, .off = off, .len = len, .kind = kind,
    .conn = conn, .flags = flags, .state = OP_IN_FLIGHT,
  };
  if (m->nin_flight == m->in_flight_alloc) {
    m->in_flight_alloc = m->in_flight_alloc ? 2 * m->in_flight_alloc : 64;
    m->in_flight = grow (m->in_flight, m->in_flight_alloc,
                         sizeof m->in_flight[0]);
  }
  m->in_flight[m->nin_flight++] = op;
  if (!changes_bytes (kind))
    return op;
  FOR_EACH_ATOM (m, pos, off + len, no, s, e) {
    struct atom *a = model_atom_get (m, no);

    if (s > 0)
      atom_split (a, s);
    if (e < m->atom_size)
      atom_split (a, e);
    for (i = 0; i < a->n; ++i)
      if (a->segs[i].start >= s && a->segs[i].end <= e)
        seg_add (&a->segs[i], op);
    if (kind == OP_WRITE)
      atom_remember (a, op);
    atom_queue (m, a, no);
  }
  return op;
}

void
model_fill (const struct model *m, uint32_t op, void *buf)
{
  stamp_fill (m->key, op, m->ops[op].off, buf, m->ops[op].len);
}

/* Everybody whose reply came before op was sent is history. */
static void
kill_predecessors (struct model *m, uint32_t op, struct atom *a, uint32_t s,
                   uint32_t e)
{
  uint32_t i, j;

  for (i = 0; i < a->n; ++i) {
    struct seg *g = &a->segs[i];

    if (g->end <= s || g->start >= e)
      continue;
    for (j = 0; j < g->n; ++j)
      if (m->ops[g->c[j].op].ret < m->ops[op].inv)
        model_kill_cand (m, &g->c[j], op);
  }
}

void
model_reply (struct model *m, uint32_t op, enum op_state state)
{
  struct op *o = &m->ops[op];
  uint64_t no, pos = o->off;
  uint32_t s, e;
  size_t i;

  assert (o->state == OP_IN_FLIGHT && state != OP_IN_FLIGHT);
  o->ret = ++m->clock;
  o->state = state;
  if (changes_bytes (o->kind))
    FOR_EACH_ATOM (m, pos, o->off + o->len, no, s, e) {
      struct atom *a = model_atom_get (m, no);

      if (state == OP_OK)
        kill_predecessors (m, op, a, s, e);
      /* While op still counts as in flight: what its own check after this
       * compares with must not be gone.
       */
      model_atom_purge (m, a);
    }
  for (i = 0; m->in_flight[i] != op; ++i)
    ;
  m->nin_flight--;
  memmove (&m->in_flight[i], &m->in_flight[i + 1],
           (m->nin_flight - i) * sizeof m->in_flight[0]);
}

void
model_check (const struct model *m)
{
  uint64_t no;
  uint32_t i, j, k;

  for (no = 0; no < m->natoms; ++no) {
    const struct atom *a = m->atoms[no];

    if (a == NULL)
      continue;
    assert (a->n > 0 && a->segs[0].start == 0);
    assert (a->segs[a->n - 1].end == m->atom_size);
    for (i = 0; i < a->n; ++i) {
      const struct seg *g = &a->segs[i];
      bool alive = false;

      assert (g->start < g->end && g->n > 0);
      assert (i == 0 || a->segs[i - 1].end == g->start);
      for (j = 0; j < g->n; ++j) {
        alive |= !dead_for_read (m, &g->c[j], NEVER);
        for (k = 0; k < j; ++k)
          assert (g->c[j].op != g->c[k].op);
      }
      assert (alive);
    }
  }
}
