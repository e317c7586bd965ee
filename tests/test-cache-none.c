/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test-cache-none - the border of pagecache.h, and what mode none remembers (D17).
 *
 * Each file of mode none has an origin in memory of its own; which one is whose is the order of opening.
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache-priv.h"
#include "cache.h"
#include "inode.h"
#include "log.h"
#include "origin-mem.h"

#define SIZE ((uint64_t) 1 << 20)

struct world {
  struct origin_info info;
  struct origin *origin[4096];
  _Atomic unsigned opens;
  struct pagecache *pc;
};

static int
mem_open (void *arg, const char *name, struct evloop *loop, struct origin **ret, char **canonical, char **why)
{
  struct world *w = arg;
  int err;

  (void) name;
  (void) loop;
  (void) canonical;
  (void) why;
  err = origin_mem_create (&w->info, ret);
  if (!err)
    w->origin[atomic_fetch_add (&w->opens, 1)] = *ret;
  return err;
}

static const struct origin_info all_of_it = {
  .size = SIZE, .can_flush = true, .can_fua = true, .can_trim = true, .can_zero = true, .can_fast_zero = true,
  .can_cache = true, .can_multi_conn = true, .can_extents = true, .block_min = 1, .block_pref = 4096,
  .block_max = 32 << 20,
};

static void
begin (struct world *w, enum pagecache_mode mode, struct origin_info info)
{
  struct cache_factory factory = { .open = mem_open, .arg = w };
  struct pagecache_options o;

  memset (w, 0, sizeof *w);
  w->info = info;
  pagecache_options_init (&o);
  o.mode = mode;
  o.cache_size = 2 << 20;
  o.dirty_max = 1 << 20;
  o.dirty_background = 256 << 10;
  assert_int_equal (cache_create (&o, &factory, NULL, &w->pc), 0);
  assert_int_equal (pagecache_start (w->pc), 0);
}

static struct pagecache_file *
open_one (struct world *w, const char *name)
{
  struct pagecache_file *f;

  assert_int_equal (pagecache_open (w->pc, name, false, &f), 0);
  return f;
}

static void
end (struct world *w)
{
  assert_int_equal (pagecache_drain (w->pc, NULL), 0);
  pagecache_free (w->pc);
}

struct heard {
  uint64_t at;
  unsigned n;
  int stop;
};

static int
hear (void *arg, uint64_t off, uint64_t len, unsigned type)
{
  struct heard *h = arg;

  (void) type;
  assert_int_equal (off, h->at);
  h->at += len;
  h->n++;
  return h->stop;
}

/*----------------------------------------------------------------------*/
/* What a cache is made of. */

static char said[200];

static void
keep_line (void *arg, int level, const char *line)
{
  (void) arg;
  if (level == PAGECACHE_LOG_ERROR)
    snprintf (said, sizeof said, "%s", line);
}

/* line NULL: a cache is made of these options, and its sizes are as said. */
static void
expect_options (struct pagecache_options o, const char *line, uint64_t dirty_max, uint64_t dirty_background,
                uint64_t readahead)
{
  const struct cache_factory factory = { .open = mem_open };
  struct pagecache *pc;

  o.log = keep_line;
  said[0] = 0;
  if (line) {
    assert_int_equal (cache_create (&o, &factory, NULL, &pc), EINVAL);
    assert_string_equal (said, line);
    return;
  }
  assert_int_equal (cache_create (&o, &factory, NULL, &pc), 0);
  assert_string_equal (said, "");
  assert_int_equal (cache_env (pc)->dirty_max, dirty_max);
  assert_int_equal (cache_env (pc)->dirty_background, dirty_background);
  assert_int_equal (cache_env (pc)->readahead_max, readahead);
  pagecache_free (pc);
}

TEST (defaults_follow_the_size_of_the_cache)
{
  struct pagecache_options o;

  pagecache_options_init (&o);
  expect_options (o, NULL, 128 << 20, (256 << 20) / 10, 32 << 20);
  o.cache_size = 16 << 20;
  expect_options (o, NULL, 8 << 20, (16 << 20) / 10, 2 << 20);
  o.dirty_max = 1 << 20;
  expect_options (o, NULL, 1 << 20, (1 << 20) / 5, 2 << 20);
  o.cache_size = PAGECACHE_SIZE_MIN;
  o.dirty_max = PAGECACHE_AUTO;
  expect_options (o, NULL, 512 << 10, (1 << 20) / 10, 128 << 10);
}

TEST (sizes_that_make_no_sense_are_refused_with_a_line)
{
  struct pagecache_options init, o;

  pagecache_options_init (&init);
  init.cache_size = 16 << 20;

  o = init;
  o.cache_size = PAGECACHE_SIZE_MIN - 1;
  expect_options (o, "cache_size is 1048575: it should be 1048576 to 549755813888", 0, 0, 0);
  o.cache_size = PAGECACHE_SIZE_MAX + 1;
  expect_options (o, "cache_size is 549755813889: it should be 1048576 to 549755813888", 0, 0, 0);

  o = init;
  o.dirty_max = 0;
  expect_options (o, "dirty_max is 0: it should be 65536 to 16777216", 0, 0, 0);
  o.mode = PAGECACHE_NONE;      /* has no effect there (D17) */
  expect_options (o, NULL, 0, 0, 0);
  o.mode = PAGECACHE_WRITEBACK;
  o.dirty_max = 65535;
  expect_options (o, "dirty_max is 65535: it should be 65536 to 16777216", 0, 0, 0);
  o.dirty_max = 65536;
  expect_options (o, NULL, 65536, 65536 / 5, 2 << 20);
  o.dirty_max = 16 << 20;
  expect_options (o, NULL, 16 << 20, (16 << 20) / 10, 2 << 20);
  o.dirty_max++;
  expect_options (o, "dirty_max is 16777217: it should be 65536 to 16777216", 0, 0, 0);

  o = init;
  o.dirty_background = 8 << 20;
  expect_options (o, NULL, 8 << 20, 8 << 20, 2 << 20);
  o.dirty_background++;
  expect_options (o, "dirty_background is 8388609: it should be 0 to 8388608", 0, 0, 0);
  o.dirty_background = 0;
  expect_options (o, NULL, 8 << 20, 0, 2 << 20);

  o = init;
  o.revalidate = PAGECACHE_REVALIDATE_INTERVAL;
  expect_options (o, "revalidate_ns is 0: it should be 1000000 to 18446744073709551615", 0, 0, 0);
  o.revalidate_ns = 1000000;
  expect_options (o, NULL, 8 << 20, (16 << 20) / 10, 2 << 20);
  o.mode = PAGECACHE_UNSAFE + 1;
  expect_options (o, "mode is 4: it should be 0 to 3", 0, 0, 0);
}

/*----------------------------------------------------------------------*/
/* The border. */

static uint8_t buf[SIZE];

/* Every request of this range is answered with these: of what reads, of what writes. */
static void
expect (struct pagecache_file *f, uint64_t len, uint64_t off, int reads, int writes)
{
  struct heard h = { .at = off };

  assert_int_equal (pagecache_read (f, buf, len, off), reads);
  assert_int_equal (pagecache_extents (f, len, off, 0, hear, &h), reads);
  assert_int_equal (pagecache_prefetch (f, len, off), reads);
  assert_int_equal (pagecache_trim (f, len, off, 0), reads);
  assert_int_equal (pagecache_write (f, buf, len, off, 0), writes);
  assert_int_equal (pagecache_zero (f, len, off, 0), writes);
  if (reads == 0)
    assert_int_equal (h.at, off + len);
}

TEST (a_range_ends_with_the_export_in_every_mode)
{
  static const enum pagecache_mode modes[] = {
    PAGECACHE_NONE, PAGECACHE_WRITEBACK, PAGECACHE_WRITETHROUGH, PAGECACHE_UNSAFE,
  };
  unsigned i;

  for (i = 0; i < 4; i++) {
    struct world w;
    struct pagecache_file *f;

    begin (&w, modes[i], all_of_it);
    f = open_one (&w, NULL);
    expect (f, 10, SIZE - 11, 0, 0);
    expect (f, 10, SIZE - 10, 0, 0);
    expect (f, 10, SIZE - 9, EINVAL, ENOSPC);
    expect (f, 1, SIZE - 1, 0, 0);
    expect (f, 1, SIZE, EINVAL, ENOSPC);
    expect (f, 1, SIZE + 1, EINVAL, ENOSPC);
    expect (f, 1, UINT64_MAX, EINVAL, ENOSPC);
    expect (f, UINT64_MAX, 1, EINVAL, ENOSPC);
    expect (f, UINT64_MAX, 0, EINVAL, ENOSPC);
    expect (f, UINT64_MAX, UINT64_MAX, EINVAL, ENOSPC);
    /* Nothing is asked, and nothing done. */
    expect (f, 0, SIZE, 0, 0);
    expect (f, 0, 0, 0, 0);
    expect (f, 0, SIZE + 1, EINVAL, ENOSPC);
    pagecache_close (f);
    end (&w);
  }
}

/* nbdkit does not look at that, and the origin's front asserts it. */
TEST (without_a_cache_requests_are_whole_blocks_of_the_origin)
{
  struct origin_info info = all_of_it;
  struct pagecache_file *f;
  struct world w;

  info.block_min = 4096;
  begin (&w, PAGECACHE_NONE, info);
  f = open_one (&w, NULL);
  expect (f, 512, 0, EINVAL, EINVAL);
  expect (f, 4095, 0, EINVAL, EINVAL);
  expect (f, 4097, 0, EINVAL, EINVAL);
  expect (f, 4096, 512, EINVAL, EINVAL);
  expect (f, 4096, 4095, EINVAL, EINVAL);
  expect (f, 1, SIZE - 1, EINVAL, EINVAL);
  assert_int_equal (origin_mem_log_len (w.origin[0]), 0);
  expect (f, 4096, 0, 0, 0);
  expect (f, 8192, 4096, 0, 0);
  expect (f, 4096, SIZE - 4096, 0, 0);
  pagecache_close (f);
  end (&w);

  /* The cache writes and reads what it needs around them (nbd.B-50). */
  begin (&w, PAGECACHE_WRITEBACK, info);
  f = open_one (&w, NULL);
  expect (f, 512, 0, 0, 0);
  expect (f, 1, SIZE - 1, 0, 0);
  pagecache_close (f);
  end (&w);
}

TEST (without_a_cache_what_the_origin_does_not_offer_is_refused)
{
  const struct origin_info little = { .size = SIZE, .block_min = 1, .block_pref = 4096, .block_max = 1 << 20 };
  struct origin_info info = little;
  struct heard h = { 0 };
  struct pagecache_file *f;
  struct world w;

  begin (&w, PAGECACHE_NONE, little);
  f = open_one (&w, NULL);
  assert_int_equal (pagecache_write (f, buf, 10, 0, PAGECACHE_FUA), EINVAL);
  assert_int_equal (pagecache_trim (f, 10, 0, 0), ENOTSUP);
  assert_int_equal (pagecache_zero (f, 10, 0, 0), ENOTSUP);
  assert_int_equal (pagecache_prefetch (f, 10, 0), ENOTSUP);
  assert_int_equal (pagecache_extents (f, 10, 0, 0, hear, &h), ENOTSUP);
  assert_int_equal (pagecache_flush (f), ENOTSUP);
  assert_int_equal (origin_mem_log_len (w.origin[0]), 0);
  assert_int_equal (pagecache_write (f, buf, 10, 0, 0), 0);
  assert_int_equal (pagecache_read (f, buf, 10, 0), 0);
  pagecache_close (f);
  end (&w);

  info.can_zero = info.can_trim = true;
  begin (&w, PAGECACHE_NONE, info);
  f = open_one (&w, NULL);
  assert_int_equal (pagecache_zero (f, 10, 0, PAGECACHE_FAST_ZERO), ENOTSUP);
  assert_int_equal (pagecache_zero (f, 10, 0, PAGECACHE_FUA), EINVAL);
  assert_int_equal (pagecache_trim (f, 10, 0, PAGECACHE_FUA), EINVAL);
  assert_int_equal (origin_mem_log_len (w.origin[0]), 0);
  assert_int_equal (pagecache_zero (f, 10, 0, PAGECACHE_MAY_TRIM), 0);
  assert_int_equal (pagecache_trim (f, 10, 0, 0), 0);
  pagecache_close (f);
  end (&w);
}

TEST (flags_that_mean_nothing_there_are_refused_in_every_mode)
{
  static const enum pagecache_mode modes[] = { PAGECACHE_NONE, PAGECACHE_WRITEBACK };
  const unsigned fua = PAGECACHE_FUA, all = PAGECACHE_FUA | PAGECACHE_MAY_TRIM | PAGECACHE_FAST_ZERO;
  unsigned i, flag;

  for (i = 0; i < 2; i++) {
    struct world w;
    struct pagecache_file *f;

    begin (&w, modes[i], all_of_it);
    f = open_one (&w, NULL);
    for (flag = 1; flag != 0; flag <<= 1) {
      struct heard h = { 0 };

      assert_int_equal (pagecache_write (f, buf, 10, 0, flag), flag & fua ? 0 : EINVAL);
      assert_int_equal (pagecache_trim (f, 10, 0, flag), flag & fua ? 0 : EINVAL);
      /* A cache may find that a zero is not fast. */
      assert_int_equal (pagecache_zero (f, 10, 0, flag) == EINVAL, !(flag & all));
      assert_int_equal (pagecache_extents (f, 10, 0, flag, hear, &h), flag & PAGECACHE_REQ_ONE ? 0 : EINVAL);
    }
    pagecache_close (f);
    end (&w);
  }
}

TEST (a_read_only_file_sends_nothing_in_every_mode)
{
  static const enum pagecache_mode modes[] = { PAGECACHE_NONE, PAGECACHE_WRITEBACK };
  unsigned i;

  for (i = 0; i < 2; i++) {
    struct world w;
    struct pagecache_file *f;

    begin (&w, modes[i], all_of_it);
    assert_int_equal (pagecache_open (w.pc, NULL, true, &f), 0);
    assert_true (pagecache_get_info (f)->read_only);
    assert_int_equal (pagecache_write (f, "x", 1, 0, 0), EPERM);
    assert_int_equal (pagecache_zero (f, 1, 0, 0), EPERM);
    assert_int_equal (pagecache_trim (f, 1, 0, 0), EPERM);
    assert_int_equal (pagecache_flush (f), 0);
    assert_int_equal (origin_mem_log_len (w.origin[0]), 0);
    pagecache_close (f);
    end (&w);
  }
}

TEST (without_a_cache_long_requests_go_in_parts)
{
  struct origin_info info = all_of_it;
  struct pagecache_file *f;
  static uint8_t want[SIZE];
  struct world w;
  unsigned i;

  info.block_min = 4096;
  info.block_max = 64 << 10;
  for (i = 0; i < SIZE; i++)
    want[i] = (uint8_t) (i * 7 + i / 4096);
  begin (&w, PAGECACHE_NONE, info);
  f = open_one (&w, NULL);
  assert_int_equal (pagecache_write (f, want, 200 << 10, 4096, 0), 0);
  assert_int_equal (origin_mem_count (w.origin[0], ORIGIN_WRITE), 4);
  assert_int_equal (pagecache_write (f, want, 64 << 10, 512 << 10, 0), 0);
  assert_int_equal (origin_mem_count (w.origin[0], ORIGIN_WRITE), 5);
  assert_memory_equal (origin_mem_volatile (w.origin[0]) + 4096, want, 200 << 10);
  memset (buf, 0, SIZE);
  assert_int_equal (pagecache_read (f, buf, 200 << 10, 4096), 0);
  assert_int_equal (origin_mem_count (w.origin[0], ORIGIN_READ), 4);
  assert_memory_equal (buf, want, 200 << 10);
  /* Only what carries data has that limit. */
  assert_int_equal (pagecache_zero (f, SIZE, 0, PAGECACHE_FAST_ZERO), 0);
  assert_int_equal (origin_mem_count (w.origin[0], ORIGIN_ZERO), 1);
  pagecache_close (f);
  end (&w);
}

/* An origin of any size that answers at once, and counts. */
struct vast {
  struct origin o;
  unsigned n;
};

static void
vast_submit (struct origin *o, struct origin_req *req)
{
  struct vast *v = container_of (o, struct vast, o);

  v->n++;
  if (req->cmd == ORIGIN_STATUS)
    req->extent (req, req->off, req->len, ORIGIN_EXTENT_HOLE);
  req->done (req, 0);
}

static unsigned
vast_depth (struct origin *o)
{
  (void) o;
  return 1;
}

static bool
vast_is_up (struct origin *o)
{
  (void) o;
  return true;
}

static void
vast_close (struct origin *o)
{
  (void) o;
}

static struct vast vast;

static int
vast_open (void *arg, const char *name, struct evloop *loop, struct origin **ret, char **canonical, char **why)
{
  static const struct origin_ops ops = {
    .name = "vast", .submit = vast_submit, .depth = vast_depth, .is_up = vast_is_up, .close = vast_close,
  };

  (void) arg;
  (void) name;
  (void) loop;
  (void) canonical;
  (void) why;
  memset (&vast, 0, sizeof vast);
  vast.o.ops = &ops;
  vast.o.info = all_of_it;
  vast.o.info.size = (uint64_t) 16 << 30;
  vast.o.info.block_min = 65536;
  *ret = &vast.o;
  return 0;
}

TEST (without_a_cache_ranges_may_be_longer_than_a_request_can_be)
{
  struct cache_factory factory = { .open = vast_open };
  const uint64_t most = (UINT64_C (4) << 30) - 65536, size = (uint64_t) 16 << 30;
  struct pagecache_options o;
  struct pagecache_file *f;
  struct pagecache *pc;
  struct heard h = { 0 };

  pagecache_options_init (&o);
  o.mode = PAGECACHE_NONE;
  assert_int_equal (cache_create (&o, &factory, NULL, &pc), 0);
  assert_int_equal (pagecache_start (pc), 0);
  assert_int_equal (pagecache_open (pc, NULL, false, &f), 0);
  assert_int_equal (pagecache_trim (f, most, 0, 0), 0);
  assert_int_equal (vast.n, 1);
  assert_int_equal (pagecache_trim (f, most + 65536, 0, 0), 0);
  assert_int_equal (vast.n, 3);
  /* All of it or nothing: it is not begun. */
  assert_int_equal (pagecache_zero (f, most + 65536, 0, PAGECACHE_FAST_ZERO), ENOTSUP);
  assert_int_equal (vast.n, 3);
  assert_int_equal (pagecache_zero (f, most, 0, PAGECACHE_FAST_ZERO), 0);
  assert_int_equal (vast.n, 4);
  assert_int_equal (pagecache_extents (f, size, 0, 0, hear, &h), 0);
  assert_int_equal (h.at, size);
  assert_int_equal (h.n, 5);
  h = (struct heard) { 0 };
  assert_int_equal (pagecache_extents (f, size, 0, PAGECACHE_REQ_ONE, hear, &h), 0);
  assert_int_equal (h.n, 1);
  h = (struct heard) { .stop = ENOMEM };
  assert_int_equal (pagecache_extents (f, size, 0, 0, hear, &h), ENOMEM);
  assert_int_equal (h.n, 1);
  assert_int_equal (pagecache_prefetch (f, size, 0), 0);
  pagecache_close (f);
  pagecache_free (pc);
}

/*----------------------------------------------------------------------*/
/* What was lost, and who is told (D17, DUR-7). */

static void
put (struct pagecache_file *f, uint64_t off)
{
  assert_int_equal (pagecache_write (f, "abc", 3, off, 0), 0);
}

static void
expect_flush (struct pagecache_file *f, int err)
{
  assert_int_equal (pagecache_flush (f), err);
}

TEST (a_loss_is_told_although_the_next_connection_took_a_write_since)
{
  struct pagecache_file *f;
  struct world w;

  begin (&w, PAGECACHE_NONE, all_of_it);
  f = open_one (&w, NULL);
  put (f, 0);
  origin_mem_lose (w.origin[0], false, true);
  put (f, 4096);
  expect_flush (f, EIO);
  expect_flush (f, 0);
  assert_memory_equal (origin_mem_durable (w.origin[0]) + 4096, "abc", 3);

  /* However many of them there were: once. */
  put (f, 0);
  origin_mem_lose (w.origin[0], false, true);
  put (f, 4096);
  origin_mem_lose (w.origin[0], false, true);
  expect_flush (f, EIO);
  expect_flush (f, 0);

  /* One after the other: each. */
  put (f, 0);
  origin_mem_lose (w.origin[0], false, true);
  put (f, 4096);
  expect_flush (f, EIO);
  put (f, 8192);
  origin_mem_lose (w.origin[0], false, true);
  put (f, 8192);
  expect_flush (f, EIO);
  expect_flush (f, 0);
  pagecache_close (f);
  end (&w);
}

TEST (zeros_and_trims_count_as_writes_and_what_was_durable_at_its_reply_does_not)
{
  struct pagecache_file *f;
  struct world w;

  begin (&w, PAGECACHE_NONE, all_of_it);
  f = open_one (&w, NULL);
  assert_int_equal (pagecache_zero (f, 10, 0, 0), 0);
  origin_mem_lose (w.origin[0], false, true);
  expect_flush (f, EIO);
  assert_int_equal (pagecache_trim (f, 10, 0, 0), 0);
  origin_mem_lose (w.origin[0], false, true);
  expect_flush (f, EIO);
  assert_int_equal (pagecache_write (f, "abc", 3, 0, PAGECACHE_FUA), 0);
  origin_mem_lose (w.origin[0], false, true);
  expect_flush (f, 0);
  pagecache_close (f);
  end (&w);
}

TEST (a_flush_that_fails_otherwise_leaves_the_loss_to_be_told)
{
  struct pagecache_file *f;
  struct world w;

  begin (&w, PAGECACHE_NONE, all_of_it);
  f = open_one (&w, NULL);
  put (f, 0);
  origin_mem_lose (w.origin[0], false, true);
  put (f, 4096);
  origin_mem_fail (w.origin[0], ORIGIN_FLUSH, ENOSPC, 0, 1);
  expect_flush (f, ENOSPC);
  expect_flush (f, EIO);
  expect_flush (f, 0);
  pagecache_close (f);
  end (&w);
}

struct flusher {
  pthread_t thread;
  struct pagecache_file *file;
  int err;
};

static void *
flush_it (void *arg)
{
  struct flusher *f = arg;

  f->err = pagecache_flush (f->file);
  return NULL;
}

/* A flush says nothing of a write that was acknowledged while it was under way. */
TEST (a_write_during_a_flush_is_the_next_ones)
{
  struct flusher fl;
  struct world w;

  begin (&w, PAGECACHE_NONE, all_of_it);
  fl.file = open_one (&w, NULL);
  put (fl.file, 0);
  origin_mem_close_door (w.origin[0], ORIGIN_FLUSH);
  pthread_create (&fl.thread, NULL, flush_it, &fl);
  origin_mem_wait_held (w.origin[0], ORIGIN_FLUSH, 1);
  put (fl.file, 4096);
  origin_mem_open_door (w.origin[0], ORIGIN_FLUSH);
  pthread_join (fl.thread, NULL);
  assert_int_equal (fl.err, 0);
  origin_mem_lose (w.origin[0], false, true);
  put (fl.file, 8192);
  expect_flush (fl.file, EIO);
  expect_flush (fl.file, 0);
  pagecache_close (fl.file);
  end (&w);
}

/* An origin whose first connection is held up after it has answered, while a second one is made. */
static struct {
  struct origin o;
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  bool held, go_on;
  unsigned flushes[3];          /* by carrier */
} slow = { .mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void
slow_submit (struct origin *o, struct origin_req *req)
{
  bool first = req->cmd == ORIGIN_WRITE && req->off == 0;

  (void) o;
  if (req->cmd == ORIGIN_FLUSH) {
    slow.flushes[req->carrier]++;
    req->done (req, req->carrier == 1 ? ENOTCONN : 0);
    return;
  }
  req->carrier = first ? 1 : 2;
  req->done (req, 0);
  if (!first)
    return;
  pthread_mutex_lock (&slow.mutex);
  slow.held = true;
  pthread_cond_broadcast (&slow.changed);
  while (!slow.go_on)
    pthread_cond_wait (&slow.changed, &slow.mutex);
  pthread_mutex_unlock (&slow.mutex);
}

static int
slow_open (void *arg, const char *name, struct evloop *loop, struct origin **ret, char **canonical, char **why)
{
  static const struct origin_ops ops = {
    .name = "slow", .submit = slow_submit, .depth = vast_depth, .is_up = vast_is_up, .close = vast_close,
  };

  (void) arg;
  (void) name;
  (void) loop;
  (void) canonical;
  (void) why;
  slow.o.ops = &ops;
  slow.o.info = all_of_it;
  *ret = &slow.o;
  return 0;
}

static void *
write_first (void *arg)
{
  struct flusher *f = arg;

  f->err = pagecache_write (f->file, "abc", 3, 0, 0);
  return NULL;
}

/* Both writes were acknowledged before the flush, the one on the lost connection last. */
TEST (a_slow_thread_does_not_hide_which_connection_is_the_newest)
{
  struct cache_factory factory = { .open = slow_open };
  struct pagecache_options o;
  struct pagecache *pc;
  struct flusher w;

  pagecache_options_init (&o);
  o.mode = PAGECACHE_NONE;
  assert_int_equal (cache_create (&o, &factory, NULL, &pc), 0);
  assert_int_equal (pagecache_start (pc), 0);
  assert_int_equal (pagecache_open (pc, NULL, false, &w.file), 0);
  pthread_create (&w.thread, NULL, write_first, &w);
  pthread_mutex_lock (&slow.mutex);
  while (!slow.held)
    pthread_cond_wait (&slow.changed, &slow.mutex);
  pthread_mutex_unlock (&slow.mutex);
  put (w.file, 4096);
  pthread_mutex_lock (&slow.mutex);
  slow.go_on = true;
  pthread_cond_broadcast (&slow.changed);
  pthread_mutex_unlock (&slow.mutex);
  pthread_join (w.thread, NULL);
  assert_int_equal (w.err, 0);
  expect_flush (w.file, EIO);
  assert_int_equal (slow.flushes[2], 1);
  assert_int_equal (slow.flushes[1], 0);
  expect_flush (w.file, 0);
  pagecache_close (w.file);
  pagecache_free (pc);
}

TEST (with_multi_conn_a_flush_is_for_what_all_clients_wrote)
{
  struct pagecache_file *f[20];
  struct world w;
  unsigned i;

  begin (&w, PAGECACHE_NONE, all_of_it);
  for (i = 0; i < 20; i++)
    f[i] = open_one (&w, "one");
  for (i = 0; i < 20; i += 1 + (i == 9))
    put (f[i], 4096 * i);
  expect_flush (f[10], 0);
  for (i = 0; i < 20; i++) {
    if (i != 10)
      assert_memory_equal (origin_mem_durable (w.origin[i]) + 4096 * i, "abc", 3);
    assert_int_equal (origin_mem_count (w.origin[i], ORIGIN_FLUSH), 1);
  }
  /* What is flushed is not flushed again. */
  expect_flush (f[0], 0);
  for (i = 1; i < 20; i++)
    assert_int_equal (origin_mem_count (w.origin[i], ORIGIN_FLUSH), 1);

  /* A loss is everybody's, once, whether he wrote or not. */
  put (f[19], 0);
  origin_mem_lose (w.origin[19], false, true);
  expect_flush (f[1], EIO);
  expect_flush (f[1], 0);
  for (i = 0; i < 20; i++)
    if (i != 1)
      expect_flush (f[i], EIO);
  for (i = 0; i < 20; i++)
    expect_flush (f[i], 0);

  /* Also if the one who lost it tells it, and another one's failure is nobody's loss. */
  put (f[3], 0);
  origin_mem_lose (w.origin[3], false, true);
  put (f[3], 0);
  expect_flush (f[3], EIO);
  for (i = 0; i < 20; i++)
    expect_flush (f[i], i == 3 ? 0 : EIO);
  put (f[5], 0);
  origin_mem_fail (w.origin[5], ORIGIN_FLUSH, ENOSPC, 0, 1);
  expect_flush (f[6], ENOSPC);
  expect_flush (f[6], 0);
  assert_memory_equal (origin_mem_durable (w.origin[5]), "abc", 3);
  for (i = 0; i < 20; i++)
    pagecache_close (f[i]);
  end (&w);
}

TEST (each_client_is_by_itself_without_multi_conn_or_on_another_export)
{
  struct origin_info info = all_of_it;
  struct pagecache_file *a, *b;
  struct world w;
  unsigned i;

  for (i = 0; i < 2; i++) {
    info.can_multi_conn = i == 0;
    begin (&w, PAGECACHE_NONE, info);
    a = open_one (&w, "a");
    b = open_one (&w, i == 0 ? "b" : "a");
    put (a, 0);
    expect_flush (b, 0);
    assert_int_equal (origin_mem_count (w.origin[0], ORIGIN_FLUSH), 0);
    origin_mem_lose (w.origin[0], false, true);
    expect_flush (b, 0);
    expect_flush (a, EIO);
    expect_flush (b, 0);
    put (a, 0);
    pagecache_close (a);
    expect_flush (b, 0);
    pagecache_close (b);
    end (&w);
  }
}

TEST (who_leaves_before_others_flushes_what_they_may_flush_later)
{
  struct pagecache_file *a, *b;
  struct world w;

  begin (&w, PAGECACHE_NONE, all_of_it);
  b = open_one (&w, NULL);
  a = open_one (&w, NULL);
  put (a, 0);
  pagecache_close (a);
  expect_flush (b, 0);

  a = open_one (&w, NULL);
  put (a, 0);
  origin_mem_lose (w.origin[2], false, true);
  pagecache_close (a);
  expect_flush (b, EIO);
  expect_flush (b, 0);

  /* Whether it reached the origin nobody knows now. */
  a = open_one (&w, NULL);
  put (a, 0);
  origin_mem_fail (w.origin[3], ORIGIN_FLUSH, ETIMEDOUT, 0, 1);
  pagecache_close (a);
  expect_flush (b, EIO);
  expect_flush (b, 0);

  /* The last one has nobody to do it for, and so has who wrote nothing. */
  a = open_one (&w, NULL);
  pagecache_close (a);
  put (b, 0);
  pagecache_close (b);
  end (&w);
}

/*----------------------------------------------------------------------*/

/* What another thread does when the table is let go for the nth time from now on; we wait for it. */
extern int __real_pthread_mutex_unlock (pthread_mutex_t *);
extern int __wrap_pthread_mutex_unlock (pthread_mutex_t *);

static struct pagecache *watched;
static unsigned unlocks;
static struct pagecache_file *flushes_then;
static int flushed_then;

static void *
flush_then (void *arg)
{
  (void) arg;
  flushed_then = pagecache_flush (flushes_then);
  return NULL;
}

int
__wrap_pthread_mutex_unlock (pthread_mutex_t *m)
{
  struct pagecache *pc = watched;
  int err = __real_pthread_mutex_unlock (m);
  pthread_t thread;

  if (pc && m == &pc->table.mutex && --unlocks == 0) {
    watched = NULL;
    assert_int_equal (pthread_create (&thread, NULL, flush_then, NULL), 0);
    pthread_join (thread, NULL);
  }
  return err;
}

/* Wherever in another one's flush it begins: a loss that is found and not told yet is seen by nobody as nothing to flush. */
TEST (a_loss_is_told_by_a_flush_that_begins_while_another_one_finds_it)
{
  struct pagecache_file *f[3];
  unsigned nth, who, seen = 0;
  struct world w;

  begin (&w, PAGECACHE_NONE, all_of_it);
  for (who = 0; who < 3; who++)
    f[who] = open_one (&w, "one");
  for (who = 0; who < 3; who++)
    for (nth = 1; nth <= 4; nth++) {
      put (f[0], 0);
      origin_mem_lose (w.origin[0], false, true);
      flushed_then = -1;
      flushes_then = f[who];
      unlocks = nth;
      watched = w.pc;
      expect_flush (f[1], EIO);
      watched = NULL;
      /* The flush that told it has let the table go for the last time before it returns. */
      if (flushed_then != -1 && who != 1) {
        assert_int_equal (flushed_then, EIO);
        seen++;
      }
      else if (flushed_then != -1 && flushed_then != 0)
        seen++;
      while (pagecache_flush (f[0]) != 0 || pagecache_flush (f[1]) != 0 || pagecache_flush (f[2]) != 0)
        ;
    }
  assert_true (seen >= 5);
  for (who = 0; who < 3; who++)
    pagecache_close (f[who]);
  end (&w);
}

struct worker {
  pthread_t thread;
  struct world *world;
  unsigned me, rounds;
  uint64_t rng;
  const char *bad;
};

static uint64_t
rnd (struct worker *w)
{
  w->rng ^= w->rng << 13;
  w->rng ^= w->rng >> 7;
  w->rng ^= w->rng << 17;
  return w->rng;
}

/* Opens are numbered one by one under a lock, to know whose origin is whose. */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

static struct pagecache_file *
open_mine (struct worker *w, struct origin **o)
{
  struct pagecache_file *f = NULL;

  pthread_mutex_lock (&opening);
  if (pagecache_open (w->world->pc, NULL, false, &f) == 0)
    *o = w->world->origin[atomic_load (&w->world->opens) - 1];
  pthread_mutex_unlock (&opening);
  return f;
}

/* A flush that succeeds means that all of ours since the last one is durable. */
static void *
work (void *arg)
{
  struct worker *w = arg;
  struct origin *o = NULL;
  struct pagecache_file *f = open_mine (w, &o);
  uint64_t mine[256] = { 0 }, seq = 0;
  bool unknown[256] = { false };
  unsigned i, k;

  for (i = 0; f && i < w->rounds && !w->bad; i++)
    switch (rnd (w) % 16) {
    case 0:
      origin_mem_lose (o, false, true);
      break;
    case 1:
      pagecache_close (f);
      f = open_mine (w, &o);
      memset (mine, 0, sizeof mine);
      memset (unknown, 0, sizeof unknown);
      break;
    case 2: case 3: case 4:
      if (pagecache_flush (f) != 0)
        memset (unknown, 1, sizeof unknown);
      else
        for (k = 0; k < 256; k++)
          if (!unknown[k] && memcmp (origin_mem_durable (o) + 4096 * k, &mine[k], 8) != 0)
            w->bad = "a flush succeeded and a write was lost";
      break;
    default:
      k = (unsigned) (rnd (w) % 256);
      mine[k] = ++seq;
      if (pagecache_write (f, &mine[k], 8, 4096 * k, 0) != 0)
        w->bad = "an error nobody made";
      unknown[k] = false;
    }
  if (f)
    pagecache_close (f);
  else
    w->bad = "open";
  return NULL;
}

TEST (many_clients_write_flush_come_and_go_while_connections_are_lost)
{
  struct worker t[6];
  struct world w;
  const char *seed = getenv ("PC_SEED");
  uint64_t base = seed ? strtoull (seed, NULL, 0) : 42;
  unsigned i;

  printf ("PC_SEED=%llu\n", (unsigned long long) base);
  begin (&w, PAGECACHE_NONE, all_of_it);
  for (i = 0; i < 6; i++) {
    t[i] = (struct worker) { .world = &w, .me = i, .rounds = 2000, .rng = base * 1000003 + i * 7919 + 1 };
    assert_int_equal (pthread_create (&t[i].thread, NULL, work, &t[i]), 0);
  }
  for (i = 0; i < 6; i++) {
    pthread_join (t[i].thread, NULL);
    if (t[i].bad)
      fail_msg ("thread %u: %s", i, t[i].bad);
  }
  end (&w);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (defaults_follow_the_size_of_the_cache),
    cmocka_unit_test (sizes_that_make_no_sense_are_refused_with_a_line),
    cmocka_unit_test (a_range_ends_with_the_export_in_every_mode),
    cmocka_unit_test (without_a_cache_requests_are_whole_blocks_of_the_origin),
    cmocka_unit_test (without_a_cache_what_the_origin_does_not_offer_is_refused),
    cmocka_unit_test (flags_that_mean_nothing_there_are_refused_in_every_mode),
    cmocka_unit_test (a_read_only_file_sends_nothing_in_every_mode),
    cmocka_unit_test (without_a_cache_long_requests_go_in_parts),
    cmocka_unit_test (without_a_cache_ranges_may_be_longer_than_a_request_can_be),
    cmocka_unit_test (a_loss_is_told_although_the_next_connection_took_a_write_since),
    cmocka_unit_test (zeros_and_trims_count_as_writes_and_what_was_durable_at_its_reply_does_not),
    cmocka_unit_test (a_flush_that_fails_otherwise_leaves_the_loss_to_be_told),
    cmocka_unit_test (a_write_during_a_flush_is_the_next_ones),
    cmocka_unit_test (a_slow_thread_does_not_hide_which_connection_is_the_newest),
    cmocka_unit_test (with_multi_conn_a_flush_is_for_what_all_clients_wrote),
    cmocka_unit_test (each_client_is_by_itself_without_multi_conn_or_on_another_export),
    cmocka_unit_test (who_leaves_before_others_flushes_what_they_may_flush_later),
    cmocka_unit_test (a_loss_is_told_by_a_flush_that_begins_while_another_one_finds_it),
    cmocka_unit_test (many_clients_write_flush_come_and_go_while_connections_are_lost),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
