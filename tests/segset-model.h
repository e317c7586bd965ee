/* SPDX-License-Identifier: BSD-3-Clause
 *
 * segset-model - random operations on one kind of segment set beside a plain array.
 *
 * Answers: does this instantiation of segset.h do what an array of keys would?
 *
 * A template: test-segset.c includes it once for each kind, with
 *   MODEL            prefix of the set's functions
 *   MODEL_ID(v)      the number (not 0) in the value that v points at
 *   MODEL_MAKE(id)   a value with that number
 *   MODEL_OWNS       1: values own memory, so no X_edit; model_live counts them
 *   MODEL_GAPS       1: the set tracks gaps
 *   MODEL_TALLY      an array: how many segments with a number the set says there are; its marks are 1 << number
 * and calls X_model (base, steps).  Two neighbours of the set merge if their numbers are
 * equal.  The array knows which number each of KEYS keys from BASE on has, 0 none, and at
 * which keys a segment begins.  After each step the tree is checked and compared; nodes
 * are handed out one by one as X_need says, so a bound that is too low aborts.
 */

#ifdef MODEL

#define M_CAT_(a, b) a##_##b
#define M_CAT(a, b) M_CAT_ (a, b)
#define M(name) M_CAT (MODEL, name)

struct M (model) {
  struct segnodes nodes;
  struct segset set;
  uint64_t base;
  uint32_t id[MODEL_KEYS + 1];
  bool begins[MODEL_KEYS + 1];
};

static void
M (model_compare) (struct M (model) *m)
{
  struct M (iter) it = M (first) (&m->set);
  uint32_t count = 0, tally[5] = { 0 };
  int k = 0;

  M (check) (&m->set);
  while (k < MODEL_KEYS) {
    struct range r;

    if (m->id[k] == 0) {
      k++;
      continue;
    }
    assert_true (m->begins[k]);
    assert_true (M (iter_ok) (it));
    r = M (range) (it);
    assert_int_equal (r.start - m->base, k);
    assert_int_equal (MODEL_ID (M (value) (it)), m->id[k]);
    do
      k++;
    while (k < MODEL_KEYS && m->id[k] != 0 && !m->begins[k]);
    assert_int_equal (r.end - m->base, k);
    tally[MODEL_ID (M (value) (it))]++;
    it = M (next) (it);
    count++;
  }
  assert_false (M (iter_ok) (it));
  assert_int_equal (m->set.nsegs, count);
#ifdef MODEL_TALLY
  assert_memory_equal (MODEL_TALLY, tally, sizeof tally);
#endif
  if (MODEL_OWNS)
    assert_int_equal (model_live, count);
}

/* Keys [a, b) get ID (0: nothing), as one segment. */
static void
M (model_put) (struct M (model) *m, int a, int b, uint32_t id)
{
  if (m->id[b] && a < b)
    m->begins[b] = true;
  for (int k = a; k < b; k++) {
    m->id[k] = id;
    m->begins[k] = k == a && id != 0;
  }
}

static void
M (model_split) (struct M (model) *m, int at)
{
  if (m->id[at])
    m->begins[at] = true;
}

static bool
M (model_merge) (struct M (model) *m, int at)
{
  if (at > 0 && at < MODEL_KEYS && m->id[at] && m->begins[at]
      && m->id[at - 1] == m->id[at]) {
    m->begins[at] = false;
    return true;
  }
  return false;
}

static void
M (model_reserve) (struct M (model) *m, uint32_t inserts)
{
  segnodes_trim (&m->nodes, 0);
  assert_int_equal (M (reserve) (&m->set, inserts), 0);
}

#ifdef MODEL_TALLY
static void
M (model_look_marked) (struct M (model) *m, int key, uint8_t bits)
{
  struct M (iter) it = M (next_marked) (&m->set, m->base + key, bits);

  for (; key < MODEL_KEYS && !(m->id[key] && (bits >> m->id[key] & 1)); key++)
    ;
  assert_true (M (iter_ok) (it) == (key < MODEL_KEYS));
  if (M (iter_ok) (it))
    assert_true (range_contains (M (range) (it), m->base + key));
}
#endif

/* What find and the bounds say about KEY, against a walk over the array. */
static void
M (model_look) (struct M (model) *m, int key)
{
  uint64_t at = m->base + key;
  struct M (place) p = M (find) (&m->set, at);
  struct M (iter) it;
  int first, last, g;

  assert_true (M (iter_ok) (p.seg) == (m->id[key] != 0));
  assert_true (M (gap_ok) (p.gap) == (m->id[key] == 0));
  assert_true (M (iter_equal) (p.seg, M (find_segment) (&m->set, at)));
  assert_true (M (gap_equal) (p.gap, M (find_gap) (&m->set, at)));
  if (m->id[key])
    assert_true (range_contains (M (range) (p.seg), at));
  else
    assert_true (range_contains (M (gap_range) (p.gap), at));

  for (first = key; first < MODEL_KEYS && !m->id[first]; first++)
    ;
  it = M (lower_bound) (&m->set, at);
  assert_true (M (iter_ok) (it) == (first < MODEL_KEYS));
  if (M (iter_ok) (it))
    assert_true (range_contains (M (range) (it), m->base + first));
  for (last = key; last >= 0 && !m->id[last]; last--)
    ;
  it = M (upper_bound) (&m->set, at);
  assert_true (M (iter_ok) (it) == (last >= 0));
  if (M (iter_ok) (it))
    assert_true (range_contains (M (range) (it), m->base + last));

  /* A gap bound is the gap itself, or the one at the end of KEY's segment. */
  for (g = key; g < MODEL_KEYS && m->id[g] && !(g > key && m->begins[g]); g++)
    ;
  assert_true (M (gap_range) (M (lower_bound_gap) (&m->set, at)).start
                 <= m->base + g);
  if (m->id[key])
    assert_int_equal (M (gap_range) (M (lower_bound_gap) (&m->set, at)).start - m->base, g);
  for (g = key; m->id[key] && !m->begins[g]; g--)
    ;
  if (m->id[key])
    assert_int_equal (M (gap_range) (M (upper_bound_gap) (&m->set, at)).end - m->base, g);
  else
    assert_true (M (gap_equal) (p.gap, M (upper_bound_gap) (&m->set, at)));
}

static void
M (model_sums) (struct M (model) *m, int a, int b)
{
  struct range r = { m->base + a, m->base + b };
  uint64_t span = 0;

  for (int k = a; k < b; k++)
    span += m->id[k] != 0;
  assert_int_equal (M (span_range) (&m->set, r), span);
  assert_int_equal (M (is_empty_range) (&m->set, r), span == 0);
  assert_int_equal (M (covers) (&m->set, r), span == (uint64_t) (b - a));
}

/* All gaps, forwards and backwards, with the large ones if they are tracked. */
static void
M (model_gaps) (struct M (model) *m, uint64_t min PC_UNUSED)
{
  struct M (gap) g = M (first_gap) (&m->set), back = M (last_gap) (&m->set);
  uint32_t n = 0, nback = 0;
#if MODEL_GAPS
  struct M (gap) large = M (first_large_enough_gap) (&m->set, min);
#endif

  for (; M (gap_ok) (g); g = M (gap_next_gap) (g)) {
    n++;
#if MODEL_GAPS
    if (range_len (M (gap_range) (g)) >= min) {
      assert_true (M (gap_equal) (g, large));
      large = M (next_large_enough_gap) (g, min);
    }
#endif
  }
#if MODEL_GAPS
  assert_false (M (gap_ok) (large));
  large = M (prev_large_enough_gap) (back, min);
#endif
  for (; M (gap_ok) (back); back = M (gap_prev_gap) (back)) {
    nback++;
#if MODEL_GAPS
    if (nback > 1 && range_len (M (gap_range) (back)) >= min) {
      assert_true (M (gap_equal) (back, large));
      large = M (prev_large_enough_gap) (back, min);
    }
#endif
  }
  assert_int_equal (n, m->set.nsegs + 1);
  assert_int_equal (nback, n);
}

struct M (model_pieces) {
  struct M (model) *m;
  int at;                       /* pieces come after it */
  int add;                      /* mutate: what to add */
  int stop;                     /* mutate: stop when 0 */
};

static void
M (model_gone) (void *arg, struct range piece, M (val) *value)
{
  struct M (model_pieces) *p = arg;
  int a = piece.start - p->m->base, b = piece.end - p->m->base;

  assert_true (a >= p->at && a < b);
  for (int k = a; k < b; k++)
    assert_int_equal (p->m->id[k], MODEL_ID (value));
  M (model_put) (p->m, a, b, 0);
  p->at = b;
}

static bool
M (model_mutate) (void *arg, struct range piece, M (val) *value)
{
  struct M (model_pieces) *p = arg;
  int a = piece.start - p->m->base, b = piece.end - p->m->base;
  uint32_t id = p->m->id[a];

  assert_int_equal (MODEL_ID (value), id);
  id = id % 3 + p->add;
  MODEL_ID (value) = id;
  M (model_put) (p->m, a, b, id);
  M (model_merge) (p->m, a);
  p->at = b;
  return --p->stop != 0;
}

#if !MODEL_OWNS
/* A piece's verdict follows from its number alone, so that the array can do the same. */
static enum segset_verdict
M (model_edit) (void *arg, struct range piece, const M (val) *old,
                M (val) *now)
{
  struct M (model_pieces) *p = arg;
  int a = piece.start - p->m->base, b = piece.end - p->m->base;
  uint32_t id = p->m->id[a], to = (p->add >> (2 * id)) & 3;

  assert_true (a >= p->at);
  for (int k = a; k < b; k++)
    assert_int_equal (p->m->id[k], id);
  assert_true ((old != NULL) == (id != 0));
  if (old)
    assert_int_equal (MODEL_ID (old), id);
  p->at = b;
  if (to == id)
    return SEGSET_LEAVE;
  M (model_put) (p->m, a, b, to);
  if (to == 0)
    return SEGSET_DROP;
  *now = MODEL_MAKE (to);
  M (model_merge) (p->m, a);
  return SEGSET_PUT;
}

/* Merging is right where a changed piece touches an equal one, so both sides of a border
 * need a look; which borders were touched is what the array cannot know, so this compares
 * keys only and takes the borders from the set.
 */
static void
M (model_edit_range) (struct M (model) *m, int a, int b, int how)
{
  struct range r = { m->base + a, m->base + b };
  struct M (model_pieces) p = { .m = m, .at = a, .add = how };
  uint32_t before[MODEL_KEYS + 1];

  memcpy (before, m->id, sizeof before);
  M (model_reserve) (m, M (edit_inserts) (&m->set, r));
  M (edit) (&m->set, r, M (model_edit), &p);
  for (int k = 0; k < MODEL_KEYS; k++) {
    struct M (iter) it = M (find_segment) (&m->set, m->base + k);
    uint32_t id = before[k];

    m->id[k] = k >= a && k < b ? (uint32_t) (how >> (2 * id)) & 3 : id;
    m->begins[k] = M (iter_ok) (it) && M (range) (it).start == m->base + k;
    /* No border is left beside what was changed, nor across the ends of the range. */
    if (k > 0 && m->begins[k] && m->id[k] == m->id[k - 1])
      assert_true (m->id[k] == before[k] && m->id[k - 1] == before[k - 1]);
  }
}
#endif

static void
M (model_step) (struct M (model) *m, bool grow)
{
  int a = rnd () % (MODEL_KEYS + 1), b = rnd () % (MODEL_KEYS + 1), t, free_keys = 0;
  uint32_t id = 1 + rnd () % 3;
  struct M (model_pieces) p = { .m = m };
  struct M (iter) it;
  struct range r;
  bool done;

  if (a > b)
    t = a, a = b, b = t;
  if (rnd () % (grow ? 64 : 4))
    b = a + (b - a) % (grow ? 4 : 8);
  r = (struct range) { m->base + a, m->base + b };
  for (int k = a; k < b; k++)
    free_keys += m->id[k] == 0;
  it = a < b ? M (lower_bound) (&m->set, r.start) : (struct M (iter)) { NULL, 0 };
  p.at = a;

  switch (rnd () % (grow && rnd () % 4 ? 6 : 14)) {
  case 0: case 1: case 2:
    if (a == b)
      break;
    M (model_reserve) (m, 1);
    M (val) v = MODEL_MAKE (id);
    done = M (try_insert) (&m->set, r, v);
    assert_true (done == (free_keys == b - a));
    if (done) {
      M (model_put) (m, a, b, id);
      M (model_merge) (m, a);
      M (model_merge) (m, b);
    }
    else
      MODEL_FREE (&v);
    break;
  case 3: case 4: case 5:
    if (a == b || free_keys != b - a)
      break;
    M (model_reserve) (m, 1);
    assert_true (M (try_insert_unmerged) (&m->set, r, MODEL_MAKE (id)));
    M (model_put) (m, a, b, id);
    break;
  case 6: case 7:
    M (model_reserve) (m, M (remove_range_inserts) (&m->set, r));
    struct M (gap) g = M (remove_range_with) (&m->set, r, M (model_gone), &p);
    for (int k = a; k < b; k++)
      assert_int_equal (m->id[k], 0);
    if (a < b)
      assert_true (range_is_superset (M (gap_range) (g), r));
    break;
  case 8:
    if (!M (iter_ok) (it))
      break;
    r = M (range) (it);
    segnodes_trim (&m->nodes, 0);
    assert_true (range_is_superset (M (gap_range) (M (remove) (&m->set, it)), r));
    M (model_put) (m, r.start - m->base, r.end - m->base, 0);
    break;
  case 9:
    M (model_reserve) (m, 1);
    t = m->id[a] && !m->begins[a];
    assert_int_equal (M (split_at) (&m->set, r.start), t);
    M (model_split) (m, a);
    break;
  case 10:
    if (!M (iter_ok) (it) || M (range) (it).start >= r.end)
      break;
    M (model_reserve) (m, 2);
    t = range_intersect (M (range) (it), r).start - m->base;
    it = M (isolate) (&m->set, it, r);
    assert_true (range_is_superset (r, M (range) (it)));
    assert_int_equal (M (range) (it).start - m->base, t);
    M (model_split) (m, t);
    M (model_split) (m, M (range) (it).end - m->base);
    break;
  case 11:
    segnodes_trim (&m->nodes, 0);
    if (rnd () % 2) {
      M (merge_range) (&m->set, r);
      for (t = a; t < MODEL_KEYS && !m->id[t]; t++)
        ;
      for (t++; t < b; t++)
        M (model_merge) (m, t);
    }
    else {
      M (merge_adjacent) (&m->set, r);
      /* The whole segments that hold the ends count, where they begin and end. */
      for (t = a; m->id[a] && !m->begins[t]; t--)
        ;
      M (model_merge) (m, t);
      if (b > 0 && m->id[b - 1]) {
        for (t = b; t < MODEL_KEYS && m->id[t] && !m->begins[t]; t++)
          ;
        M (model_merge) (m, t);
      }
    }
    break;
  case 12:
    M (model_reserve) (m, M (isolate_inserts) (&m->set, r));
    p.add = 1 + rnd () % 3;
    p.add = p.add == 3 ? 2 : 1;
    p.stop = rnd () % 4;
    M (mutate_range) (&m->set, r, M (model_mutate), &p);
    if (a < b) {
      /* The last piece, or what follows it if there was none to stop at. */
      for (t = p.at; t < MODEL_KEYS && !m->id[t]; t++)
        ;
      M (model_merge) (m, t);
    }
    break;
  case 13:
#if !MODEL_OWNS
    M (model_edit_range) (m, a, b, rnd () % 256);
#endif
    break;
  }
  M (model_compare) (m);
  M (model_look) (m, rnd () % MODEL_KEYS);
#ifdef MODEL_TALLY
  M (model_look_marked) (m, rnd () % MODEL_KEYS, rnd () % 32);
#endif
  M (model_sums) (m, a, b);
}

static void
M (model) (uint64_t base, int steps)
{
  static struct M (model) m;

  memset (&m, 0, sizeof m);
  m.base = base;
  segnodes_init (&m.nodes, M (NODE_SIZE), NULL, NULL, NULL);
  M (init) (&m.set, &m.nodes);
  for (int i = 0; i < steps; i++) {
    /* A tree of several levels comes and goes. */
    M (model_step) (&m, i / 500 % 2 == 0);
    if (i % 16 == 0)
      M (model_gaps) (&m, 1 + rnd () % 9);
  }
  M (remove_all) (&m.set);
  M (check) (&m.set);
  assert_int_equal (m.nodes.nused, 0);
  if (MODEL_OWNS)
    assert_int_equal (model_live, 0);
  segnodes_release (&m.nodes);
}

#undef M
#undef M_CAT
#undef M_CAT_
#undef MODEL
#undef MODEL_FREE
#undef MODEL_GAPS
#undef MODEL_ID
#undef MODEL_MAKE
#undef MODEL_TALLY
#undef MODEL_OWNS

#endif /* MODEL */
