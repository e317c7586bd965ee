/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-inode-nodes - is anything lost where there is no tree node for zeros?
 *
 * Whoever puts zeros into the set of an inode, or cuts them, first sees to its nodes (zeros_nodes).  A row of requests, which
 * comes to each place that does so, is played again and again; each time the call before which one more succeeded
 * fails: once for want of memory, once because memory had to be fetched, or with all that follow.  Failed once, it is
 * tried again, and no request hears of it; where memory does not come back, requests that need some end with ENOMEM,
 * after a while, and reads and flushes are as good as ever.  What is read, and what the origin has in the end, is what was
 * acknowledged; where a request failed, each byte is what it was or what it was to become.
 *
 * While the stripe is let go all that is clean leaves the cache.
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inode-bed.h"
#include "inode-map.h"

static uint8_t buf[SIZE];

/*----------------------------------------------------------------------*/

extern int __real_zeros_nodes (struct inode *, struct stripe *, uint32_t);
extern int __wrap_zeros_nodes (struct inode *, struct stripe *, uint32_t);

static struct {
  struct world *w;
  unsigned calls, from, to;     /* those from..to fail */
  int err;
  unsigned heard;               /* so many requests ended with it */
} refusal;

int
__wrap_zeros_nodes (struct inode *ino, struct stripe *st, uint32_t inserts)
{
  unsigned n = refusal.calls++;

  if (n < refusal.from || n >= refusal.to)
    return __real_zeros_nodes (ino, st, inserts);
  if (st)
    rwlock_drop (&st->lock);
  while (world_reclaim (refusal.w, 64))
    ;
  if (st)
    rwlock_take (&st->lock);
  return refusal.err;
}

/*----------------------------------------------------------------------*/
/* What each byte may be. */

enum { ORIG = 1, ZEROS = 2, ONE = 4, TWO = 8 };

static uint8_t at_first[SIZE], expected[SIZE];
static union {
  uint8_t byte[SIZE];
  uint64_t word[SIZE / 8];      /* eight at once, for the sanitizers' sake */
} may;

static uint8_t
bit_of (uint8_t v, uint64_t off)
{
  return (v == at_first[off] ? ORIG : 0) | (v == 0 ? ZEROS : 0) | (v == 1 ? ONE : 0) | (v == 2 ? TWO : 0);
}

static void
check_bytes (const uint8_t *bytes, uint64_t off, size_t len)
{
  size_t i, k;

  for (i = 0; i < len; i += PAGE) {
    if (memcmp (bytes + i, expected + off + i, len - i < PAGE ? len - i : PAGE) == 0)
      continue;
    for (k = i; k < len && k < i + PAGE; k++)
      if (!(bit_of (bytes[k], off + k) & may.byte[off + k]))
        fail_msg ("call %u: byte %llu is %u", refusal.from, (unsigned long long) (off + k), bytes[k]);
  }
}

/* r is value now, or may be. */
static void
changed (struct range r, uint8_t value, uint8_t bits, bool surely)
{
  uint64_t i;

  if (surely)
    memset (may.byte + r.start, bits, range_len (r));
  else
    for (i = r.start; i < r.end; )
      if (i % 8 == 0 && i + 8 <= r.end) {
        may.word[i / 8] |= UINT64_C (0x0101010101010101) * bits;
        i += 8;
      }
      else
        may.byte[i++] |= bits;
  memset (expected + r.start, value, range_len (r));    /* a guess, where it is not sure */
}

/*----------------------------------------------------------------------*/

enum what { READ, WRITE, FUA, ZERO, TRIM, MAP, FLUSH };

/* The origin has no data from 1 MiB on. */
static const struct step {
  enum what what;
  uint64_t off, len;
  uint8_t value;
} steps[] = {
  { READ, 0, 64 * K, 0 },
  { READ, MIB, 64 * K, 0 },                             /* learns of the hole */
  { WRITE, MIB + 5000, 300, 1 },                        /* of one page */
  { WRITE, MIB + 200 * K + 10, 70 * K, 2 },             /* both edges, and what is between */
  { ZERO, 100, 20 * K, 0 },
  { MAP, 2 * MIB, 8 * K, INODE_MAP_READ },              /* clean zeros */
  { TRIM, 32 * K, 16 * K, 0 },
  { MAP, 8 * K, 4 * K, INODE_MAP_WRITE },               /* dirty ones */
  { WRITE, 40 * K - 5, 10, 1 },
  { FUA, MIB + 8 * K + 1, 10, 2 },
  { TRIM, MIB + 512, 1 * MIB + 100 * K, 0 },
  { FLUSH, 0, 0, 0 },
  { WRITE, 2 * MIB + 20 * K + 3, 5 * K, 1 },
  { ZERO, 96 * K + 1, SIZE - 200 * K, 0 },              /* more than two MiB: in one step where nothing is */
  { WRITE, 3 * MIB - 1, 2, 2 },
  { TRIM, 1 * MIB + 700 * K, 2 * MIB, 0 },
  { FUA, 2 * MIB - 3000, 6000, 1 },
};

static struct task *
take_step (struct bed *b, const struct step *s)
{
  struct task *t;

  switch (s->what) {
  case READ: return rd (b, buf, s->off, s->len);
  case WRITE: return wr (b, s->value == 1 ? ones : twos, s->off, s->len, 0);
  case FUA: return wr (b, s->value == 1 ? ones : twos, s->off, s->len, INODE_FUA);
  case ZERO: return zero (b, s->off, s->len, INODE_MAY_TRIM);
  case TRIM: return trim (b, s->off, s->len);
  case MAP:
    t = task (b);
    inode_op_map (&t->op, b->ino, at (s->off, s->len), at (s->off, s->len), s->value);
    return begin (b, t);
  case FLUSH: return flush (b);
  }
  abort ();
}

/* Time passes, up to three minutes of it: who waits for memory gives up after one. */
static void
wait_for (struct bed *b, struct task *t)
{
  unsigned i;

  for (i = 0; i < 180 && !t->done; i++) {
    clock_fake_advance (&b->w.clock, NSEC_PER_SEC);
    world_turn (&b->w, NULL, false);
    t->woken = true;
    pump (b);
  }
  assert_true (t->done);
}

static void
play (struct bed *b, const struct step *s, bool lasting)
{
  struct range r = at (s->off, s->len);
  struct task *t = take_step (b, s);
  int err;

  wait_for (b, t);
  err = t->op.err;
  if (err && (!lasting || err != ENOMEM || s->what == READ || s->what == FLUSH))
    fail_msg ("call %u: request %u ended with %d", refusal.from, (unsigned) (s - steps), err);
  refusal.heard += err != 0;
  switch (s->what) {
  case READ: check_bytes (buf, s->off, s->len); break;
  case WRITE:
  case FUA: changed (r, s->value, s->value == 1 ? ONE : TWO, !err); break;
  case ZERO: changed (r, 0, ZEROS, !err); break;
  case TRIM: changed (r, 0, ZEROS, false); break;
  case MAP: inode_op_map_end (&t->op); break;
  case FLUSH: break;
  }
}

/* True: so many calls there were. */
static bool
refuse (unsigned nth, int err, bool lasting, uint32_t block)
{
  struct world_options o = { .nframes = 512, .dirty_max = 512 * PAGE, .dirty_background = 512 * PAGE };
  struct bed b;
  bool reached;
  unsigned i;

  set_up_blank (&b, with_blocks (SIZE, block, MIB), o);
  memcpy (origin_mem_volatile (b.o), at_first, SIZE);
  memcpy (origin_mem_durable (b.o), at_first, SIZE);
  memcpy (expected, at_first, SIZE);
  memset (may.byte, ORIG, sizeof may.byte);
  refusal.w = &b.w;
  refusal.calls = 0;
  refusal.err = err;
  refusal.from = nth;
  refusal.to = lasting ? UINT32_MAX : nth + 1;
  alarm (30);                   /* nobody runs on the spot */
  for (i = 0; i < PC_ARRAY_SIZE (steps); i++)
    play (&b, &steps[i], lasting);
  alarm (0);
  reached = refusal.calls > nth;
  refusal.to = 0;
  inode_check (b.ino);
  wait_for (&b, rd (&b, buf, 0, SIZE));
  check_bytes (buf, 0, SIZE);
  wait_for (&b, flush (&b));
  assert_ok (&b.task[b.ntasks - 1]);
  check_bytes (origin_mem_durable (b.o), 0, SIZE);
  assert_int_equal (inode_get_dirty (b.ino).dirty, 0);
  tear_down (&b);
  return reached;
}

static void
refuse_each (int err, bool lasting)
{
  static const uint32_t blocks[] = { 1, 16 * K };
  /* There is one thread, and a checker of threads or of memory takes fifty times as long. */
#ifdef __SANITIZE_THREAD__
  const unsigned step = 10;
#else
  const unsigned step = getenv ("PC_VALGRIND") != NULL ? 10 : 1;
#endif
  unsigned i, nth;

  for (i = 0; i < 2; i++) {
    refusal.heard = 0;
    for (nth = 0; refuse (nth, err, lasting, blocks[i]); nth += step)
      assert_true (nth < 500);
    printf ("# %u calls failed, one at a time%s\n", nth / step, lasting ? ", with all behind it" : "");
    assert_true (nth > 20);
    assert_true (!lasting || refusal.heard > nth / step);
  }
}

TEST (no_request_hears_of_a_node_that_there_was_not_once)
{
  refuse_each (ENOMEM, false);
}

TEST (nor_where_the_stripe_was_let_go_to_fetch_some)
{
  refuse_each (EAGAIN, false);
}

TEST (where_there_are_none_any_more_what_needs_one_fails_and_nothing_is_lost)
{
  refuse_each (ENOMEM, true);
}

static int
set_up_all (void **state)
{
  uint64_t i;

  for (i = 0; i < MIB; i++)
    at_first[i] = orig (i);
  return fill_patterns (state);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (no_request_hears_of_a_node_that_there_was_not_once),
    cmocka_unit_test (nor_where_the_stripe_was_let_go_to_fetch_some),
    cmocka_unit_test (where_there_are_none_any_more_what_needs_one_fails_and_nothing_is_lost),
  };

  return cmocka_run_group_tests (tests, set_up_all, NULL);
}
