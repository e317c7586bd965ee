/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdx-check - is this reply one that nbdx-model's history explains?  See
 * nbdx-model.h; a violation is told here, too.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "nbdx-history.h"
#include "nbdx-model.h"
#include "nbdx-stamp.h"

/* How a violation is told: what was compared with whose claim. */
struct claim {
  const char *what;
  uint32_t op;
};

/* ---- does this content fit? ---- */

static bool
all_zero (const uint8_t *buf, size_t len)
{
  return len == 0 || (buf[0] == 0 && memcmp (buf, buf + 1, len - 1) == 0);
}

static bool
op_wrote (const struct model *m, uint32_t op, uint64_t off, uint64_t len)
{
  const struct op *o = &m->ops[op];

  if (o->kind == OP_INITIAL)
    return m->stamped;
  return o->kind == OP_WRITE && o->state != OP_VOID && o->off <= off
    && off + len <= o->off + o->len;
}

/* A byte of a word that no single write explains: any write that ever covered
 * it.  Words cut by odd writes come here.
 */
static bool
byte_once_held (const struct model *m, uint64_t off, uint8_t v)
{
  const struct atom *a = m->atoms[(off - m->base) / m->atom_size];
  uint32_t i;

  if (v == 0 || (m->stamped && stamp_byte (m->key, 0, off) == v))
    return true;
  for (i = a->nwrites; i-- > 0;)
    if (op_wrote (m, a->writes[i], off, 1)
        && stamp_byte (m->key, a->writes[i], off) == v)
      return true;
  return false;
}

/* After a trim: each word is zero, or what a write put there once. */
static bool
once_held (const struct model *m, uint64_t off, const uint8_t *buf, size_t len)
{
  uint64_t v, op;
  size_t i;

  while (len > 0) {
    if (off % 8 || len < 8) {
      if (!byte_once_held (m, off, *buf))
        return false;
      off++, buf++, len--;
      continue;
    }
    memcpy (&v, buf, 8);
    if (v != 0
        && !(stamp_decode (m->key, v, off / 8, &op) && op < m->nops
             && op_wrote (m, op, off, 8)))
      for (i = 0; i < 8; ++i)
        if (!byte_once_held (m, off + i, buf[i]))
          return false;
    off += 8, buf += 8, len -= 8;
  }
  return true;
}

static bool
matches (const struct model *m, uint32_t op, uint64_t off, const uint8_t *buf,
         size_t len)
{
  switch (m->ops[op].kind) {
  case OP_INITIAL:
    return m->stamped ? stamp_equal (m->key, 0, off, buf, len)
      : all_zero (buf, len);
  case OP_WRITE:
    return stamp_equal (m->key, op, off, buf, len);
  case OP_ZERO:
    return all_zero (buf, len);
  default:
    return once_held (m, off, buf, len);
  }
}

/* Which candidates may be seen?  For a read those not dead when it was sent,
 * for the durable image those that a flush (or the FUA write fua) leaves.
 */
struct legal {
  enum { FOR_READ, FOR_FLUSH, FOR_FUA } what;
  uint64_t inv;
  uint32_t fua;
};

static bool
is_legal (const struct model *m, const struct cand *c, const struct legal *l)
{
  if (m->ops[c->op].state == OP_VOID)
    return false;
  switch (l->what) {
  case FOR_READ:
    return !dead_for_read (m, c, l->inv);
  case FOR_FLUSH:
    return !dead_for_flush (m, c, l->inv);
  default:
    return c->op == l->fua || !(m->ops[c->op].ret < m->ops[l->fua].inv);
  }
}

/* Byte by byte, some legal candidate each: where nothing promises that an
 * operation is whole.
 */
static bool
matches_torn (const struct model *m, const struct seg *g,
              const struct legal *l, uint64_t off, const uint8_t *buf,
              size_t len, size_t *bad)
{
  size_t i;
  uint32_t j;

  for (i = 0; i < len; ++i) {
    for (j = 0; j < g->n; ++j)
      if (is_legal (m, &g->c[j], l)
          && matches (m, g->c[j].op, off + i, buf + i, 1))
        break;
    if (j == g->n) {
      *bad = i;
      return false;
    }
  }
  return true;
}

static bool
has_failed (const struct model *m, const struct seg *g)
{
  uint32_t j;

  for (j = 0; j < g->n; ++j)
    if (m->ops[g->c[j].op].state == OP_FAILED)
      return true;
  return false;
}

#define SEEN_NONE UINT32_MAX

/* Whose bytes are these?  *seen: the only one that it can be, or SEEN_NONE. */
static bool
match_seg (const struct model *m, const struct seg *g, const struct legal *l,
           uint64_t off, const uint8_t *buf, size_t len, uint32_t *seen,
           size_t *bad)
{
  uint32_t j, n = 0;

  *seen = SEEN_NONE;
  for (j = g->n; j-- > 0;) {
    if (!is_legal (m, &g->c[j], l) || !matches (m, g->c[j].op, off, buf, len))
      continue;
    n++;
    *seen = g->c[j].op;
  }
  if (n > 1 || (n == 1 && (m->ops[*seen].state == OP_FAILED
                           || m->ops[*seen].kind == OP_TRIM)))
    *seen = SEEN_NONE;
  if (n > 0)
    return true;
  if (m->torn || l->what != FOR_READ || has_failed (m, g))
    return matches_torn (m, g, l, off, buf, len, bad);
  /* Name the first byte that nobody explains, or the first one. */
  if (matches_torn (m, g, l, off, buf, len, bad))
    *bad = 0;
  return false;
}

/* ---- telling a violation ---- */

static const char *const kind_names[OP_KINDS] = {
  "initial", "read", "write", "zero", "trim", "flush", "cache", "status",
};
static const char *const state_names[] = { "in flight", "ok", "failed", "void" };

void
model_print_op (const struct model *m, uint32_t op)
{
  const struct op *o = &m->ops[op];

  printf ("op %" PRIu32 " %s%s%s%s connection %u [%" PRIu64 ", %" PRIu64
          ") sent %" PRIu64 " ",
          op, kind_names[o->kind], o->flags & OP_FUA ? " fua" : "",
          o->flags & OP_NO_HOLE ? " no-hole" : "",
          o->flags & OP_FAST ? " fast" : "", o->conn, o->off, o->off + o->len,
          o->inv);
  if (o->ret == NEVER)
    printf ("in flight\n");
  else
    printf ("replied %" PRIu64 " %s\n", o->ret, state_names[o->state]);
}

/* Who wrote the word v, if it was meant for here, or for anywhere else? */
static void
print_origin_of (const struct model *m, uint64_t v, uint64_t word)
{
  uint64_t op, w;

  if (v == 0) {
    printf ("  got: zeros\n");
    return;
  }
  if (stamp_decode (m->key, v, word, &op) && op < m->nops) {
    printf ("  got what was written here by ");
    model_print_op (m, op);
    return;
  }
  for (w = m->base / 8; w < m->end / 8 && w < m->base / 8 + (1 << 28); ++w)
    if (stamp_decode (m->key, v, w, &op) && op < m->nops) {
      printf ("  got what was written at %" PRIu64 ", %+" PRId64
              " bytes away, by ",
              w * 8, (int64_t) (w - word) * 8);
      model_print_op (m, op);
      return;
    }
  printf ("  got: nothing that was ever written whole\n");
}

static void
print_history (const struct model *m, uint64_t off)
{
  uint32_t op = m->nops, n = 0;

  printf ("  latest operations here:\n");
  while (op-- > 1 && n < 12)
    if (m->ops[op].off <= off && off < m->ops[op].off + m->ops[op].len) {
      printf ("    ");
      model_print_op (m, op);
      n++;
    }
}

/* buf holds len bytes from off, of which number bad is the wrong one. */
static void
report (const struct model *m, const struct claim *claim,
        const struct seg *g, const struct legal *l, uint64_t off,
        const uint8_t *buf, size_t len, size_t bad)
{
  uint64_t word = (off + bad) / 8, v;
  uint32_t j;
  size_t i;

  printf ("WRONG BYTES at %" PRIu64 " (sector %" PRIu64 " + %" PRIu64
          ", atom %" PRIu64 "): %s\n  by ",
          off + bad, (off + bad) / 512, (off + bad) % 512,
          (off + bad - m->base) / m->atom_size, claim->what);
  model_print_op (m, claim->op);
  printf ("  got bytes:");
  for (i = bad; i < len && i < bad + 16; ++i)
    printf (" %02x", buf[i]);
  printf ("\n");
  if (word * 8 < off && bad + 8 < len)
    word++;
  if (word * 8 >= off && word * 8 + 8 <= off + len) {
    memcpy (&v, buf + (word * 8 - off), 8);
    print_origin_of (m, v, word);
  }
  printf ("  legal would be the bytes of:\n");
  for (j = 0; g && j < g->n; ++j)
    if (is_legal (m, &g->c[j], l)) {
      printf ("    ");
      model_print_op (m, g->c[j].op);
    }
  print_history (m, off + bad);
}

/* ---- reads ---- */

#define MAX_SEEN 32

struct seen {
  uint32_t op;
  uint32_t start, end;          /* of the atom's bytes where it was seen */
};

static bool
covers (const struct model *m, uint32_t op, uint64_t start, uint64_t end)
{
  const struct op *o = &m->ops[op];

  return o->kind == OP_INITIAL
    || (o->off < end && start < o->off + o->len);
}

/* Is there one order of these operations that leaves each of seen[] on top?
 * before[i][j]: i must come before j.  Candidates that were surely there when
 * the read was sent take part, too: they may stand between two others.
 */
static bool
one_moment (const struct model *m, const struct atom *a, uint64_t no,
            const struct seen *seen, unsigned nseen, uint64_t inv)
{
  uint32_t nodes[2 * MAX_SEEN];
  bool before[2 * MAX_SEEN][2 * MAX_SEEN] = { 0 };
  uint64_t at = atom_offset (m, no);
  unsigned n = 0, i, j, k;
  uint32_t x, y;

  for (i = 0; i < nseen; ++i) {
    for (j = 0; j < n && nodes[j] != seen[i].op; ++j)
      ;
    if (j == n)
      nodes[n++] = seen[i].op;
  }
  for (x = 0; x < a->n; ++x)
    for (y = 0; y < a->segs[x].n && n < 2 * MAX_SEEN; ++y) {
      uint32_t op = a->segs[x].c[y].op;

      if (m->ops[op].state != OP_OK || m->ops[op].ret >= inv)
        continue;
      for (j = 0; j < n && nodes[j] != op; ++j)
        ;
      if (j == n)
        nodes[n++] = op;
    }
  for (i = 0; i < n; ++i)
    for (j = 0; j < n; ++j)
      if (i != j && m->ops[nodes[i]].ret < m->ops[nodes[j]].inv)
        before[i][j] = true;
  for (k = 0; k < nseen; ++k)
    for (i = 0; i < n; ++i)
      for (j = 0; j < n; ++j)
        if (i != j && nodes[j] == seen[k].op
            && covers (m, nodes[i], at + seen[k].start, at + seen[k].end))
          before[i][j] = true;
  for (k = 0; k < n; ++k)
    for (i = 0; i < n; ++i)
      for (j = 0; j < n; ++j)
        before[i][j] |= before[i][k] && before[k][j];
  for (i = 0; i < n; ++i)
    if (before[i][i])
      return false;
  return true;
}

/* The read that was sent at inv saw these bytes of seen->op: whoever wrote
 * there, too, and was answered before that operation or the read was sent, came
 * before it.  Two operations come in one order everywhere in the atom.
 */
static void
pin (struct model *m, struct atom *a, uint64_t no, const struct seen *seen,
     uint64_t inv)
{
  uint64_t at = atom_offset (m, no);
  uint32_t op = seen->op, i, j, k;
  uint64_t limit = m->ops[op].inv > inv ? m->ops[op].inv : inv;

  for (i = 0; i < a->n; ++i) {
    struct seg *g = &a->segs[i];

    for (k = 0; k < g->n && g->c[k].op != op; ++k)
      ;
    if (k == g->n)
      continue;
    for (j = 0; j < g->n; ++j)
      if (j != k && m->ops[g->c[j].op].ret < limit
          && m->ops[g->c[j].op].state == OP_OK
          && covers (m, g->c[j].op, at + seen->start, at + seen->end))
        model_kill_cand (m, &g->c[j], op);
  }
}

static bool
check_read_atom (struct model *m, uint32_t op, uint64_t no, uint32_t s,
                 uint32_t e, const uint8_t *buf)
{
  struct legal l = { .what = FOR_READ, .inv = m->ops[op].inv };
  struct claim claim = { "a read gave bytes that it must not see", op };
  struct atom *a = m->atoms[no];
  uint64_t at = atom_offset (m, no);
  struct seen seen[MAX_SEEN];
  unsigned nseen = 0;
  uint32_t i, who;
  size_t bad = 0;
  bool many = false;

  if (a == NULL) {
    if (matches (m, 0, at + s, buf, e - s))
      return true;
    a = model_atom_get (m, no);
  }
  for (i = 0; i < a->n; ++i) {
    struct seg *g = &a->segs[i];
    uint32_t from = g->start > s ? g->start : s;
    uint32_t to = g->end < e ? g->end : e;

    if (from >= to)
      continue;
    if (!match_seg (m, g, &l, at + from, buf + (from - s), to - from, &who,
                    &bad)) {
      report (m, &claim, g, &l, at + from, buf + (from - s), to - from, bad);
      return false;
    }
    if (who != SEEN_NONE && nseen < MAX_SEEN) {
      many |= nseen > 0 && seen[0].op != who;
      seen[nseen++] = (struct seen) { who, from, to };
    }
  }
  if (m->torn)
    return true;
  if (many && !one_moment (m, a, no, seen, nseen, l.inv)) {
    claim.what = "a read gave two moments of one atom";
    report (m, &claim, NULL, &l, at + s, buf, e - s, 0);
    printf ("  seen were:\n");
    for (i = 0; i < nseen; ++i) {
      printf ("    [%" PRIu64 ", %" PRIu64 ") of ", at + seen[i].start,
              at + seen[i].end);
      model_print_op (m, seen[i].op);
    }
    return false;
  }
  if (a->n > 1 || a->segs[0].n > 1) {
    for (i = 0; i < nseen; ++i)
      pin (m, a, no, &seen[i], l.inv);
    model_atom_purge (m, a);
  }
  return true;
}

bool
model_check_read (struct model *m, uint32_t op, const void *vbuf)
{
  const struct op o = m->ops[op];
  const uint8_t *buf = vbuf;
  uint64_t no, pos = o.off;
  uint32_t s, e;

  FOR_EACH_ATOM (m, pos, o.off + o.len, no, s, e)
    if (!check_read_atom (m, op, no, s, e, buf + (pos - o.off)))
      return false;
  return true;
}

/* ---- block status ---- */

static bool
may_be_zero (const struct model *m, const struct seg *g, const struct legal *l)
{
  uint32_t j;

  for (j = 0; j < g->n; ++j) {
    const struct op *o = &m->ops[g->c[j].op];

    if (is_legal (m, &g->c[j], l)
        && (o->kind == OP_ZERO || o->kind == OP_TRIM
            || (o->kind == OP_INITIAL && !m->stamped)))
      return true;
  }
  return false;
}

bool
model_check_status (struct model *m, uint32_t op, uint64_t off, uint64_t len,
                    bool hole, bool zero)
{
  struct legal l = { .what = FOR_READ, .inv = m->ops[op].inv };
  struct claim claim = {
    zero ? "block status calls data zeros" : "block status calls data a hole",
    op
  };
  uint64_t no, pos = off;
  uint32_t s, e, i;

  /* "Data" is always a true answer (nbd.N-51). */
  if (!hole && !zero)
    return true;
  FOR_EACH_ATOM (m, pos, off + len, no, s, e) {
    struct atom *a = m->atoms[no];

    if (a == NULL) {
      if (!m->stamped)
        continue;
      a = model_atom_get (m, no);
    }
    for (i = 0; i < a->n; ++i)
      if (a->segs[i].start < e && s < a->segs[i].end
          && !may_be_zero (m, &a->segs[i], &l)) {
        report (m, &claim, &a->segs[i], &l,
                atom_offset (m, no) + a->segs[i].start, NULL, 0, 0);
        return false;
      }
  }
  return true;
}

/* ---- the durable image ---- */

/* The origin goes on writing to the image while it is looked at, and a byte is compared with one candidate after the
 * other: what was the second one's when compared with the first and the first one's when compared with the second was
 * taken for nobody's.  So all comparisons are with one copy; it may be torn between two that are both legal, as the image is.
 */
static bool
check_durable (struct model *m, const struct claim *claim,
               const struct legal *l, uint64_t no, uint32_t s, uint32_t e,
               const uint8_t *image)
{
  uint64_t at = atom_offset (m, no);
  struct atom *a = m->atoms[no];
  uint8_t copy[MODEL_ATOM_MAX];
  uint32_t i, who;
  size_t bad = 0;

  m->compared += e - s;
  memcpy (copy, image + at + s, e - s);
  if (a == NULL) {
    if (matches (m, 0, at + s, copy, e - s))
      return true;
    a = model_atom_get (m, no);
  }
  for (i = 0; i < a->n; ++i) {
    struct seg *g = &a->segs[i];
    uint32_t from = g->start > s ? g->start : s;
    uint32_t to = g->end < e ? g->end : e;

    if (from < to
        && !match_seg (m, g, l, at + from, copy + (from - s), to - from, &who, &bad)) {
      report (m, claim, g, l, at + from, copy + (from - s), to - from, bad);
      return false;
    }
  }
  return true;
}

/* Nothing of it is in the air: comparing it once after a flush is enough. */
static bool
is_settled (const struct model *m, const struct atom *a, uint64_t inv)
{
  uint32_t i, j;

  for (i = 0; i < a->n; ++i)
    for (j = 0; j < a->segs[i].n; ++j)
      if (m->ops[a->segs[i].c[j].op].ret > inv)
        return false;
  return true;
}

bool
model_check_flush (struct model *m, uint32_t op, const uint8_t *image,
                   bool all)
{
  struct legal l = { .what = FOR_FLUSH, .inv = m->ops[op].inv };
  struct claim claim = { "the durable image lacks bytes after a flush", op };
  size_t i, n = 0;
  uint64_t no, pos;
  uint32_t s, e;

  if (all) {
    pos = m->base;
    FOR_EACH_ATOM (m, pos, m->end, no, s, e)
      if (!check_durable (m, &claim, &l, no, s, e, image))
        return false;
  }
  for (i = 0; i < m->nunsettled; ++i) {
    struct atom *a = m->atoms[m->unsettled[i]];

    no = m->unsettled[i];
    pos = atom_offset (m, no);
    e = m->end - pos < m->atom_size ? m->end - pos : m->atom_size;
    if (!all && !check_durable (m, &claim, &l, no, 0, e, image))
      return false;
    model_atom_purge (m, a);
    if (is_settled (m, a, l.inv))
      a->queued = false;
    else
      m->unsettled[n++] = no;
  }
  m->nunsettled = n;
  return true;
}

bool
model_check_fua (struct model *m, uint32_t op, const uint8_t *image)
{
  struct legal l = { .what = FOR_FUA, .fua = op };
  struct claim claim = {
    "the durable image lacks the bytes of a FUA command", op
  };
  const struct op *o = &m->ops[op];
  uint64_t no, pos = o->off;
  uint32_t s, e;

  FOR_EACH_ATOM (m, pos, o->off + o->len, no, s, e)
    if (!check_durable (m, &claim, &l, no, s, e, image))
      return false;
  return true;
}
