/* SPDX-License-Identifier: BSD-3-Clause
 *
 * inode-space - address spaces that map an export, for tests.
 *
 * Answers: how does a test map, fault, store and unmap without an address space?
 *
 * The spaces are fakes: a list of what is installed, and of what they were told.  A store is a memcpy into a frame that
 * a writable translation names; nothing else tells the inode of it.
 */
#ifndef PC_INODE_SPACE_H
#define PC_INODE_SPACE_H

#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "inode-map.h"
#include "inode-world.h"

#define P PAGE_SIZE
#define MAX_INSTALLED 256

/* An address space: what it was given, at which address. */
struct space {
  struct mapping_space base;
  struct world *w;
  struct inode *ino;
  struct inode_translation t[MAX_INSTALLED];
  uint64_t distance[MAX_INSTALLED];     /* address less offset */
  unsigned n;
  unsigned calls, private_calls;
  struct range last;            /* what it was told last */
};

static inline void
space_drop (struct space *s, struct range addrs)
{
  unsigned i = 0;

  while (i < s->n) {
    struct inode_translation t = s->t[i], part = t;
    struct range offs = { addrs.start - s->distance[i], addrs.end - s->distance[i] }, in;

    in = range_intersect (t.range, offs);
    if (range_is_empty (in)) {
      i++;
      continue;
    }
    part.range = in;
    part.frame = t.frame + (uint32_t) ((in.start - t.range.start) >> PAGE_SHIFT);
    /* What is left of it: in front, behind. */
    if (in.end < t.range.end) {
      assert_true (s->n < MAX_INSTALLED);
      s->distance[s->n] = s->distance[i];
      s->t[s->n] = t;
      s->t[s->n].range.start = in.end;
      s->t[s->n++].frame = t.frame + (uint32_t) ((in.end - t.range.start) >> PAGE_SHIFT);
    }
    if (t.range.start < in.start)
      s->t[i].range.end = in.start;
    else {
      s->t[i] = s->t[--s->n];
      s->distance[i] = s->distance[s->n];
    }
    inode_dec_ref (s->ino, &part);
  }
}

static inline void
space_invalidate (struct mapping_space *ms, struct range addrs, unsigned flags)
{
  struct space *s = (struct space *) ms;

  s->calls++;
  s->private_calls += (flags & MAPPING_PRIVATE) != 0;
  s->last = addrs;
  space_drop (s, addrs);
}

static inline struct space
space_of (struct world *w)
{
  return (struct space) { .base = { .invalidate = space_invalidate }, .w = w, .ino = w->disk[0].ino };
}

static inline struct range
pages (uint64_t first, uint64_t n)
{
  return (struct range) { first * P, (first + n) * P };
}

/*----------------------------------------------------------------------*/

static inline struct world *
new_world_of (const struct origin_info *info, const struct world_options *o)
{
  struct world *w = malloc (sizeof *w);
  uint64_t i;

  world_init (w, o);
  world_add (w, info);
  for (i = 0; i < info->size; i++)
    origin_mem_volatile (w->disk[0].origin)[i] = origin_mem_durable (w->disk[0].origin)[i] = (uint8_t) ('a' + i / P % 26);
  return w;
}

static inline struct world *
new_world (uint64_t size)
{
  struct origin_info info = world_info (size);
  struct world_options o = { .nframes = 256 };

  return new_world_of (&info, &o);
}

static inline void
free_world (struct world *w)
{
  inode_check (w->disk[0].ino);
  world_release (w);
  free (w);
}

static inline void
wake (struct inode_op *op)
{
  *(bool *) op->wake_arg = true;
}

/* Run an op; answers come by themselves, or the op waits for what the test opens. */
static inline bool
turn (struct world *w, struct inode_op *op)
{
  static bool woken;
  unsigned tries;

  op->wake = wake;
  op->wake_arg = &woken;
  for (tries = 0; tries < 100; tries++) {
    if (inode_op_run (op))
      return true;
    if (origin_mem_held_total (w->disk[0].origin))
      return false;
    clock_fake_advance (&w->clock, 20 * NSEC_PER_MSEC);
    world_turn (w, NULL, false);
  }
  return false;
}

static inline int
run (struct world *w, struct inode_op *op)
{
  assert_true (turn (w, op));
  return op->err;
}

static inline int
flush (struct world *w)
{
  struct inode_op op;

  inode_op_sync (&op, w->disk[0].ino, RANGE_ALL, 0);
  return run (w, &op);
}

static inline void
read_is (struct world *w, uint64_t off, uint64_t len, const char *want)
{
  uint8_t *buf = malloc (len);
  struct inode_op op;
  uint64_t i;

  inode_op_read (&op, w->disk[0].ino, buf, (struct range) { off, off + len });
  assert_int_equal (run (w, &op), 0);
  for (i = 0; i < len; i++)
    assert_int_equal (buf[i], want[1] ? want[i] : want[0]);
  free (buf);
}

static inline int
write_at (struct world *w, uint64_t off, uint64_t len, char c)
{
  uint8_t *buf = malloc (len);
  struct inode_op op;
  int err;

  memset (buf, c, len);
  inode_op_write (&op, w->disk[0].ino, buf, (struct range) { off, off + len }, 0);
  err = run (w, &op);
  free (buf);
  return err;
}

static inline uint8_t *
frame_at (struct world *w, const struct inode_translation *t, uint64_t off)
{
  return memfile_addr (w->mf, t->frame) + (off - t->range.start);
}

/* What a page fault does. */
static inline int
fault_in (struct space *s, struct range req, struct range opt, unsigned access, uint64_t distance)
{
  struct inode_translation ts[16];
  struct inode_op op;
  unsigned n, i, tries;
  bool prepared = false;
  int err = EAGAIN;

  for (tries = 0; tries < 20 && err == EAGAIN; tries++) {
    err = inode_translate (s->ino, prepared ? &op : NULL, req, opt, access, ts, 16, &n);
    assert_true (inode_translation_holds (req, opt, access, ts, n, err));
    if (prepared)
      inode_op_map_end (&op);
    prepared = false;
    if (err == EAGAIN) {
      for (i = 0; i < n; i++)
        inode_dec_ref (s->ino, &ts[i]);
      inode_op_map (&op, s->ino, req, opt, access);
      err = run (s->w, &op);
      prepared = err == 0;
      if (err == 0)
        err = EAGAIN;
      n = 0;
    }
  }
  for (i = 0; i < n; i++) {
    /* What was there is replaced. */
    space_drop (s, (struct range) { ts[i].range.start + distance, ts[i].range.end + distance });
    s->t[s->n] = ts[i];
    s->distance[s->n++] = distance;
  }
  return err;
}

static inline int
fault (struct space *s, struct range r, unsigned access)
{
  return fault_in (s, r, r, access, UINT64_C (1) << 40);
}

static inline struct range
addrs (struct range r)
{
  return (struct range) { r.start + (UINT64_C (1) << 40), r.end + (UINT64_C (1) << 40) };
}

static inline void
map (struct space *s, struct range r, bool writable)
{
  assert_int_equal (inode_add_mapping (s->ino, &s->base, addrs (r), r.start, writable), 0);
}

static inline void
unmap (struct space *s, struct range r, bool writable)
{
  space_drop (s, addrs (r));
  assert_int_equal (inode_remove_mapping (s->ino, &s->base, addrs (r), r.start, writable), 0);
}

/* The mapped byte at off. */
static inline uint8_t *
at (struct space *s, uint64_t off)
{
  unsigned i;

  for (i = 0; i < s->n; i++)
    if (range_contains (s->t[i].range, off))
      return frame_at (s->w, &s->t[i], off);
  fail ();
  return NULL;
}

static inline void
store (struct space *s, uint64_t off, const char *what)
{
  unsigned i;

  for (i = 0; i < s->n; i++)
    if (range_contains (s->t[i].range, off))
      assert_true (s->t[i].perms & INODE_MAP_WRITE);
  memcpy (at (s, off), what, strlen (what));
}

static inline uint64_t
dirty_bytes (struct world *w)
{
  struct inode_dirty d = inode_get_dirty (w->disk[0].ino);

  return d.dirty + d.writing + d.unstable;
}

static inline bool
durable_is (struct world *w, uint64_t off, const char *what)
{
  return memcmp (origin_mem_durable (w->disk[0].origin) + off, what, strlen (what)) == 0;
}

#endif /* PC_INODE_SPACE_H */
