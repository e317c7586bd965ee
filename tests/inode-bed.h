/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-bed - one inode over an origin with doors, and the operations that a test has under way.
 *
 * Answers: how does a test begin an operation, hold what it asks of the origin, let that go, and see how it ended?
 *
 * One thread, one clock that stands still.  An operation is a task: it runs as far as it can when it begins, and again
 * whenever it was woken (pump).  tear_down checks that all that were begun are done, and the inode's invariants.
 */
#ifndef PC_INODE_BED_H
#define PC_INODE_BED_H

#include "test.h"

#include <errno.h>
#include <string.h>

#include "inode-priv.h"
#include "inode-world.h"

#define K 1024
#define PAGE 4096
#define MIB ((uint64_t) 1 << 20)
#define SIZE ((uint64_t) 4 << 20)
#define NTASKS 200
#ifndef PATTERN                 /* the longest write */
#define PATTERN SIZE
#endif

static uint8_t ones[PATTERN], twos[PATTERN];

struct task {
  struct inode_op op;
  bool begun, done, woken;
};

struct bed {
  struct world w;
  struct origin *o;
  struct inode *ino;
  struct task task[NTASKS];
  unsigned ntasks;
};

/* Before all tests of a program. */
static inline int
fill_patterns (void **state)
{
  (void) state;
  memset (ones, 1, sizeof ones);
  memset (twos, 2, sizeof twos);
  return 0;
}

/* Before each: one that failed may have left memory refused. */
static inline int
calm (void **state)
{
  (void) state;
  world_refuse (false);
  world_fail_alloc_nth (-1);
  return 0;
}

static inline void
wake (struct inode_op *op)
{
  ((struct task *) op->wake_arg)->woken = true;
}

/* Whoever was woken runs, until nobody is. */
static inline void
pump (struct bed *b)
{
  unsigned i;
  bool again;

  do {
    again = false;
    for (i = 0; i < b->ntasks; i++) {
      struct task *t = &b->task[i];

      if (t->done || !t->woken)
        continue;
      t->woken = false;
      again = true;
      t->done = inode_op_run (&t->op);
    }
  } while (again);
}

/* All that were begun are done; room for more. */
static inline void
forget_tasks (struct bed *b)
{
  memset (b->task, 0, sizeof b->task);
  b->ntasks = 0;
}

static inline struct task *
begin (struct bed *b, struct task *t)
{
  t->op.wake = wake;
  t->op.wake_arg = t;
  t->done = false;
  t->begun = t->woken = true;
  pump (b);
  return t;
}

static inline struct task *
task (struct bed *b)
{
  assert_true (b->ntasks < NTASKS);
  b->task[b->ntasks] = (struct task) { .done = false };
  return &b->task[b->ntasks++];
}

static inline struct range
at (uint64_t off, uint64_t len)
{
  return (struct range) { off, off + len };
}

static inline struct task *
rd (struct bed *b, void *buf, uint64_t off, uint64_t len)
{
  struct task *t = task (b);

  inode_op_read (&t->op, b->ino, buf, at (off, len));
  return begin (b, t);
}

static inline struct task *
wr (struct bed *b, const void *buf, uint64_t off, uint64_t len, unsigned flags)
{
  struct task *t = task (b);

  inode_op_write (&t->op, b->ino, buf, at (off, len), flags);
  return begin (b, t);
}

static inline struct task *
zero (struct bed *b, uint64_t off, uint64_t len, unsigned flags)
{
  struct task *t = task (b);

  inode_op_zero (&t->op, b->ino, at (off, len), flags);
  return begin (b, t);
}

static inline struct task *
trim (struct bed *b, uint64_t off, uint64_t len)
{
  struct task *t = task (b);

  inode_op_trim (&t->op, b->ino, at (off, len), 0);
  return begin (b, t);
}

static inline struct task *
flush (struct bed *b)
{
  struct task *t = task (b);

  inode_op_sync (&t->op, b->ino, RANGE_ALL, 0);
  return begin (b, t);
}

/* Done, and with this answer.  Macros only for the line that is printed. */
static inline int
answer_of (const struct task *t)
{
  return t->done ? t->op.err : -1;
}

#define assert_err(t, e) assert_int_equal (answer_of (t), e)
#define assert_ok(t) assert_err (t, 0)

static inline void
close_door (struct bed *b, enum origin_cmd cmd)
{
  origin_mem_close_door (b->o, cmd);
}

static inline void
open_door (struct bed *b, enum origin_cmd cmd)
{
  origin_mem_open_door (b->o, cmd);
  pump (b);
}

/* Answer one held request with err. */
static inline void
answer (struct bed *b, size_t nth, int err)
{
  assert_int_equal (origin_mem_release_nth (b->o, nth, err), 0);
  pump (b);
}

static inline size_t
count (struct bed *b, enum origin_cmd cmd)
{
  return origin_mem_count (b->o, cmd);
}

/* Byte i of the origin, at first. */
static inline uint8_t
orig (uint64_t i)
{
  return (uint8_t) (1 + i % 199);
}

/* An origin of zeros; 256 frames unless o says otherwise. */
static inline void
set_up_blank (struct bed *b, struct origin_info info, struct world_options o)
{
  memset (b, 0, sizeof *b);
  if (o.nframes == 0)
    o.nframes = 256;
  world_init (&b->w, &o);
  b->o = world_add (&b->w, &info)->origin;
  b->ino = b->w.disk[0].ino;
}

static inline void
set_up_with (struct bed *b, struct origin_info info, struct world_options o)
{
  uint64_t i;

  set_up_blank (b, info, o);
  for (i = 0; i < info.size; i++)
    origin_mem_volatile (b->o)[i] = origin_mem_durable (b->o)[i] = orig (i);
}

/* So little memory that no stripe keeps tree nodes for later: each insertion asks for its own. */
static inline struct world_options
tight_options (void)
{
  return (struct world_options) { .nframes = 256, .spare = 1 << 20 };
}

/* An origin without a byte of data. */
static inline void
set_up_hole (struct bed *b, uint64_t size, struct world_options o)
{
  if (o.nframes == 0)
    o.nframes = 1024;
  set_up_blank (b, world_info (size), o);
}

static inline struct origin_info
with_blocks (uint64_t size, uint32_t min, uint32_t max)
{
  struct origin_info info = world_info (size);

  info.block_min = min;
  info.block_max = max;
  return info;
}

static inline void
set_up (struct bed *b)
{
  set_up_with (b, world_info (SIZE), (struct world_options) { 0 });
}

static inline void
tear_down (struct bed *b)
{
  unsigned i;

  for (i = 0; i < b->ntasks; i++)
    if (b->task[i].begun)
      assert_true (b->task[i].done);
  inode_check (b->ino);
  world_release (&b->w);
}

/* Make all of it clean, and forget that it ever was dirty. */
static inline void
clean (struct bed *b)
{
  assert_ok (flush (b));
  origin_mem_log_clear (b->o);
}

static inline void
assert_is (const uint8_t *buf, uint8_t v, size_t len)
{
  size_t i;

  for (i = 0; i < len; i++)
    assert_int_equal (buf[i], v);
}

static inline void
assert_orig (const uint8_t *buf, uint64_t off, size_t len)
{
  size_t i;

  for (i = 0; i < len; i++)
    assert_int_equal (buf[i], orig (off + i));
}

#endif /* PC_INODE_BED_H */
