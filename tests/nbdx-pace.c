/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdx-pace - the model tester's two stop watches.
 *
 * Answers: does a writer that never flushes keep its pace, and do hits wait
 * for misses?
 *
 * Each prints "name=value" pairs on one line, for a shell test to judge, and
 * checks the bytes where it knows them.
 *
 * Threads  one.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbdx.h"
#include "nbdx-stamp.h"

#define WINDOWS 16

/* Drive one handle until a command has gone; false if it failed. */
static bool
wait_for_cookie (struct nbd_handle *nbd, int64_t cookie)
{
  int r;

  if (cookie == -1)
    nbd_die ("submit");
  while ((r = nbd_aio_command_completed (nbd, cookie)) == 0)
    if (nbd_poll (nbd, -1) == -1)
      nbd_die ("poll");
  return r == 1;
}

static int
compare_double (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return x < y ? -1 : x > y;
}

/* Pass number "pass" over the disk is stamped as operation pass. */
static int
verify_passes (const struct options *opt, struct nbd_handle *nbd,
               uint64_t size, uint64_t written, uint8_t *buf)
{
  uint64_t key = stamp_mix (opt->seed + 1), off, n = opt->block;
  uint64_t last = written / size, rest = written % size;

  for (off = 0; off < size && off < written; off += n) {
    uint64_t pass = off < rest ? last : last - 1;

    if (n > size - off)
      n = size - off;
    if (off < rest && n > rest - off)
      n = rest - off;
    memset (buf, 0xa5, n);
    if (!wait_for_cookie (nbd, nbd_aio_pread (nbd, buf, n, off,
                                              NBD_NULL_COMPLETION, 0)))
      nbd_die ("read");
    if (!stamp_equal (key, pass, off, buf, n)) {
      printf ("WRONG BYTES in [%" PRIu64 ", %" PRIu64 ") after pass %" PRIu64
              "\n", off, off + n, pass);
      return 1;
    }
  }
  return 0;
}

int
run_never_flush (const struct options *opt)
{
  struct nbd_handle *nbd = nbdx_connect (opt, false);
  uint64_t size = nbd_get_size (nbd), key = stamp_mix (opt->seed + 1);
  unsigned depth = opt->depth, window = 0, slot = 0, i;
  uint64_t done = 0, per_window = opt->never_flush / WINDOWS, mark = 0;
  uint64_t worst = 0, t0 = now_ns (), began = t0;
  double pace[WINDOWS], sorted[WINDOWS];
  int64_t *cookies = calloc (depth, sizeof *cookies);
  uint64_t *sent = calloc (depth, sizeof *sent);
  uint8_t **bufs = calloc (depth, sizeof *bufs);
  int r;

  if (opt->size && opt->size < size)
    size = opt->size;
  size = size / opt->block * opt->block;
  if (cookies == NULL || sent == NULL || bufs == NULL || size == 0)
    die ("--block, --depth: cannot work with these");
  for (i = 0; i < depth; ++i)
    bufs[i] = malloc (opt->block);
  /* A ring: the oldest of depth writes is waited for, in order. */
  while (done < opt->never_flush) {
    if (cookies[slot]) {
      uint64_t t;

      if (!wait_for_cookie (nbd, cookies[slot]))
        nbd_die ("write");
      t = now_ns ();
      if (t - sent[slot] > worst)
        worst = t - sent[slot];
      done += opt->block;
      while (window < WINDOWS && done >= mark + per_window) {
        pace[window++] = per_window / 1048576.0 / ((t - t0) / 1e9);
        t0 = t;
        mark += per_window;
      }
      cookies[slot] = 0;
    }
    if (done + (uint64_t) (depth - 1) * opt->block < opt->never_flush
        || done == 0) {
      static uint64_t at;

      stamp_fill (key, at / size, at % size, bufs[slot], opt->block);
      sent[slot] = now_ns ();
      cookies[slot] = nbd_aio_pwrite (nbd, bufs[slot], opt->block, at % size,
                                      NBD_NULL_COMPLETION, 0);
      at += opt->block;
    }
    slot = (slot + 1) % depth;
  }
  memcpy (sorted, pace, sizeof sorted);
  qsort (sorted, window, sizeof sorted[0], compare_double);
  for (i = 0; i < window; ++i)
    printf ("%s%.0f", i ? " " : "windows MiB/s: ", pace[i]);
  printf ("\nseconds=%.2f first=%.0f last=%.0f median=%.0f slowest=%.0f "
          "worst_ms=%.1f\n",
          (now_ns () - began) / 1e9, pace[0], pace[window - 1],
          sorted[window / 2], sorted[0], worst / 1e6);
  r = opt->no_final ? 0 : verify_passes (opt, nbd, size, done, bufs[0]);
  nbd_shutdown (nbd, 0);
  nbd_close (nbd);
  for (i = 0; i < depth; ++i)
    free (bufs[i]);
  free (bufs);
  free (sent);
  free (cookies);
  return r;
}

int
run_misses (const struct options *opt)
{
  struct nbd_handle *slow = nbdx_connect (opt, false);
  struct nbd_handle *quick = nbdx_connect (opt, false);
  uint64_t size = nbd_get_size (slow), stride, began, took = 0, t;
  uint8_t *buf = malloc ((size_t) opt->misses * 4096), page[4096];
  int64_t *cookies = calloc (opt->misses, sizeof *cookies);
  unsigned left = opt->misses, i, hits = 0, hits_alloc = 1 << 20;
  double *hit_ms = malloc (hits_alloc * sizeof *hit_ms);

  if (buf == NULL || cookies == NULL || hit_ms == NULL)
    die ("out of memory");
  if (opt->size && opt->size < size)
    size = opt->size;
  stride = size / (opt->misses + 1) / 4096 * 4096;
  if (opt->hit_while_miss && nbd_pread (quick, page, sizeof page, opt->at, 0))
    nbd_die ("read");
  began = now_ns ();
  for (i = 0; i < opt->misses; ++i) {
    cookies[i] = nbd_aio_pread (slow, buf + (size_t) i * 4096, 4096,
                                opt->at + (i + 1) * stride,
                                NBD_NULL_COMPLETION, 0);
    if (cookies[i] == -1)
      nbd_die ("submit");
  }
  while (left > 0) {
    /* With hits to be timed the slow handle is looked at between them. */
    if (nbd_poll (slow, opt->hit_while_miss ? 0 : -1) == -1)
      nbd_die ("poll");
    for (i = 0; i < opt->misses; ++i) {
      int r = cookies[i] ? nbd_aio_command_completed (slow, cookies[i]) : 0;

      if (r == -1)
        nbd_die ("read");
      if (r == 1) {
        cookies[i] = 0;
        left--;
        took = now_ns () - began;
      }
    }
    if (left > 0 && opt->hit_while_miss && hits < hits_alloc) {
      t = now_ns ();
      if (nbd_pread (quick, page, sizeof page, opt->at, 0) == -1)
        nbd_die ("read");
      /* Only those that end while every miss is still out. */
      if (left == opt->misses)
        hit_ms[hits++] = (now_ns () - t) / 1e6;
    }
  }
  printf ("misses=%u seconds=%.4f", opt->misses, took / 1e9);
  if (opt->hit_while_miss) {
    qsort (hit_ms, hits, sizeof hit_ms[0], compare_double);
    printf (" hits=%u hit_median_ms=%.4f hit_p99_ms=%.4f hit_worst_ms=%.4f",
            hits, hits ? hit_ms[hits / 2] : -1.0,
            hits ? hit_ms[(size_t) (hits * 0.99)] : -1.0,
            hits ? hit_ms[hits - 1] : -1.0);
  }
  printf ("\n");
  nbd_shutdown (slow, 0);
  nbd_shutdown (quick, 0);
  nbd_close (slow);
  nbd_close (quick);
  free (buf);
  free (cookies);
  free (hit_ms);
  return 0;
}
