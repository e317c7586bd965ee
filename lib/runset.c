/* SPDX-License-Identifier: BSD-3-Clause
 *
 * runset - bits, classes and lists behind runset.h.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "runset.h"

#define NONE UINT32_MAX
#define FULL UINT64_MAX

/* Where a run of 16 or more should begin: an aligned cluster is one buffer of 64 KiB
 * that the next taker finds whole again (D20).
 */
#define CLUSTER_STARTS UINT64_C (0x0001000100010001)

static uint64_t
mask (unsigned from, unsigned len)
{
  return (len == RUNSET_GROUP ? FULL : (UINT64_C (1) << len) - 1) << from;
}

/* Bits at which a run of n ones begins; w has one. */
static uint64_t
run_starts (uint64_t w, unsigned n)
{
  unsigned have = 1;

  while (have < n) {
    unsigned step = have < n - have ? have : n - have;

    w &= w >> step;
    have += step;
  }
  return w;
}

static unsigned
class_of (uint64_t w)
{
  unsigned class = 0;

  for (unsigned step = 1; w != 0; step *= 2) {
    class++;
    if (step == RUNSET_GROUP)
      break;
    w &= w >> step;
  }
  return class;
}

/* The smallest class whose every group has a run of n <= 64. */
static unsigned
class_for (unsigned n)
{
  return n <= 1 ? 1 : 33 - __builtin_clz (n - 1);
}

size_t
runset_footprint (uint32_t size)
{
  size_t groups = ((size_t) size + RUNSET_GROUP - 1) / RUNSET_GROUP;

  return groups * (sizeof (uint64_t) + sizeof (struct runset_link));
}

int
runset_init (struct runset *s, uint32_t size)
{
  assert (size > 0);
  s->size = size;
  s->ngroups = ((uint64_t) size + RUNSET_GROUP - 1) / RUNSET_GROUP;
  s->count = 0;
  for (unsigned c = 0; c < RUNSET_NR_CLASSES; c++)
    s->head[c] = NONE;

  /* One allocation: words first, links behind. */
  s->word = calloc (s->ngroups, sizeof *s->word + sizeof *s->link);
  if (s->word == NULL)
    return ENOMEM;
  s->link = (struct runset_link *) (s->word + s->ngroups);
  return 0;
}

void
runset_release (struct runset *s)
{
  free (s->word);
  s->word = NULL;
}

static void
unlist (struct runset *s, uint32_t g, unsigned class)
{
  struct runset_link *l = &s->link[g];

  if (l->prev == NONE)
    s->head[class] = l->next;
  else
    s->link[l->prev].next = l->next;
  if (l->next != NONE)
    s->link[l->next].prev = l->prev;
}

static void
enlist (struct runset *s, uint32_t g, unsigned class)
{
  struct runset_link *l = &s->link[g];

  /* At the head: what was freed last is warm in the processor's caches. */
  l->prev = NONE;
  l->next = s->head[class];
  if (l->next != NONE)
    s->link[l->next].prev = g;
  s->head[class] = g;
}

static void
set_word (struct runset *s, uint32_t g, uint64_t w)
{
  unsigned from = class_of (s->word[g]);
  unsigned to = class_of (w);

  s->word[g] = w;
  if (from == to)
    return;
  if (from != 0)
    unlist (s, g, from);
  if (to != 0)
    enlist (s, g, to);
}

static void
change (struct runset *s, uint32_t start, uint32_t len, bool add)
{
  assert (len <= s->size && start <= s->size - len);

  s->count += add ? len : -len;
  while (len > 0) {
    uint32_t g = start / RUNSET_GROUP;
    unsigned from = start % RUNSET_GROUP;
    unsigned n = len < RUNSET_GROUP - from ? len : RUNSET_GROUP - from;
    uint64_t m = mask (from, n);

    assert ((s->word[g] & m) == (add ? 0 : m));
    set_word (s, g, s->word[g] ^ m);
    start += n;
    len -= n;
  }
}

void
runset_add (struct runset *s, uint32_t start, uint32_t len)
{
  change (s, start, len, true);
}

void
runset_remove (struct runset *s, uint32_t start, uint32_t len)
{
  change (s, start, len, false);
}

static unsigned
ones_at_bottom (uint64_t w)
{
  return w == FULL ? RUNSET_GROUP : (unsigned) __builtin_ctzll (~w);
}

static unsigned
ones_at_top (uint64_t w)
{
  return w == FULL ? RUNSET_GROUP : (unsigned) __builtin_clzll (~w);
}

/* Lengthen [*start, *start + len) over the edges of its groups, up to want. */
static uint32_t
extend (struct runset *s, uint32_t want, uint32_t *start, uint32_t len)
{
  while (len < want && (*start + len) % RUNSET_GROUP == 0 && *start + len < s->size) {
    uint32_t n = ones_at_bottom (s->word[(*start + len) / RUNSET_GROUP]);

    if (n == 0)
      break;
    len += n < want - len ? n : want - len;
  }
  while (len < want && *start % RUNSET_GROUP == 0 && *start > 0) {
    uint32_t n = ones_at_top (s->word[*start / RUNSET_GROUP - 1]);

    if (n == 0)
      break;
    n = n < want - len ? n : want - len;
    *start -= n;
    len += n;
  }
  return len;
}

/* The longest run of group g, at most want. */
static uint32_t
longest_in (const struct runset *s, uint32_t g, uint32_t want, uint32_t *start)
{
  uint64_t w = s->word[g];
  uint64_t starts = w;
  uint32_t len = 0;

  /* After k turns a bit of w says: k + 1 ones begin here. */
  for (; w != 0 && len < want; len++) {
    starts = w;
    w &= w >> 1;
  }
  *start = g * RUNSET_GROUP + __builtin_ctzll (starts);
  return len;
}

/* A run of exactly want <= 64 inside one group, if the lists know one. */
static bool
find_exact (const struct runset *s, uint32_t want, uint32_t *start)
{
  for (unsigned c = class_for (want); c < RUNSET_NR_CLASSES; c++) {
    uint32_t g = s->head[c];
    uint64_t starts;

    if (g == NONE)
      continue;
    starts = run_starts (s->word[g], want);
    if (want >= 16 && (starts & CLUSTER_STARTS) != 0)
      starts &= CLUSTER_STARTS;
    *start = g * RUNSET_GROUP + __builtin_ctzll (starts);
    return true;
  }
  return false;
}

/* Full groups, as many as stand together.  The first on the list may stand alone, and would stay there while nobody
 * takes so little: then those behind it are looked at, up to so many.
 */
#define FULL_GROUPS_TRIED 16

static uint32_t
find_long (struct runset *s, uint32_t want, uint32_t *start)
{
  uint32_t g = s->head[RUNSET_NR_CLASSES - 1], best = 0, tries;

  for (tries = 0; tries < FULL_GROUPS_TRIED && g != NONE && best < want; tries++, g = s->link[g].next) {
    uint32_t at = g * RUNSET_GROUP, len = extend (s, want, &at, RUNSET_GROUP);

    if (len > best) {
      best = len;
      *start = at;
    }
  }
  return best;
}

uint32_t
runset_take (struct runset *s, uint32_t want, uint32_t min, uint32_t *start)
{
  uint32_t len = 0;

  assert (want > 0);
  if (s->count == 0 || s->count < min)
    return 0;

  if (want > RUNSET_GROUP)
    len = find_long (s, want, start);
  else if (find_exact (s, want, start))
    len = want;

  if (len == 0) {
    unsigned c = RUNSET_NR_CLASSES - 1;

    while (s->head[c] == NONE)
      c--;
    len = longest_in (s, s->head[c], want, start);
    len = extend (s, want, start, len);
  }
  if (len < min)
    return 0;

  runset_remove (s, *start, len);
  return len;
}

void
runset_check (const struct runset *s)
{
  uint32_t count = 0, listed = 0, nonempty = 0;
  const char *what = NULL;

  for (uint32_t g = 0; g < s->ngroups; g++) {
    count += __builtin_popcountll (s->word[g]);
    nonempty += s->word[g] != 0;
  }
  if (s->size % RUNSET_GROUP != 0 && s->word[s->ngroups - 1] >> s->size % RUNSET_GROUP != 0)
    what = "a bit above the size";
  if (count != s->count)
    what = "the count";
  for (unsigned c = 1; c < RUNSET_NR_CLASSES; c++) {
    uint32_t prev = NONE;

    for (uint32_t g = s->head[c]; g != NONE; prev = g, g = s->link[g].next) {
      if (g >= s->ngroups || s->link[g].prev != prev || ++listed > s->ngroups) {
        what = "a broken list";
        break;
      }
      if (class_of (s->word[g]) != c)
        what = "a group in another class's list";
    }
  }
  if (listed != nonempty)
    what = "a group on no list";

  if (what != NULL) {
    fprintf (stderr, "pagecache: runset: wrong: %s\n", what);
    abort ();
  }
}
