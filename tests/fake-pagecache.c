/* SPDX-License-Identifier: BSD-3-Clause
 *
 * fake-pagecache - a core that does as it is told, to see what the plugin makes of it.
 *
 * Built with the plugin's own sources into tests/nbdkit-fakecache-plugin.so, and with
 * options.c into test-options.  An export is 4 MiB of memory; its name is a list of words
 * divided by commas that say how it behaves:
 *
 *   errno        a request at page N fails with errno N; page 0 works
 *   nozero       the origin has no zeros (nor fast ones)
 *   refuse       zeros are said to work and then fail with ENOTSUP
 *   long         each extent is 8 GiB long, more than any request
 *   silent       no extent at all
 *   readonly     no writes
 *   plain        nothing but reads and writes: no flush, FUA, trim, cache, multi-conn
 *   wait         a read waits until the client has gone
 *   blocks       64 KiB blocks at least
 *   absent       there is no such export (ENOENT)
 *
 * The environment, read by pagecache_create:
 *   FAKE_CREATE, FAKE_PROBE, FAKE_START   the errno value that call fails with
 *   FAKE_DRAIN                            bytes that every drain loses
 */
#include <config.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "pagecache.h"

#define SIZE (UINT64_C (4) << 20)

struct pagecache {
  struct pagecache_options options;
  int probe_err, start_err;
  uint64_t lost;
  unsigned drains;
};

struct pagecache_file {
  struct pagecache *cache;
  struct pagecache_info info;
  char words[256];
  uint8_t *bytes;
  pthread_mutex_t lock;
  bool (*gone) (void *arg);
  void *gone_arg;
};

static void
say (struct pagecache *c, const char *line)
{
  if (c->options.log != NULL)
    c->options.log (c->options.log_arg, PAGECACHE_LOG_ERROR, line);
}

static bool
is (const struct pagecache_file *f, const char *word)
{
  return strstr (f->words, word) != NULL;
}

static int
planned (const struct pagecache_file *f, uint64_t off)
{
  return is (f, "errno") ? (int) (off / 4096) : 0;
}

static int
number (const char *name)
{
  const char *text = getenv (name);

  return text != NULL ? atoi (text) : 0;
}

void
pagecache_options_init (struct pagecache_options *o)
{
  *o = (struct pagecache_options) {
    .origin = {
      .tls_verify = true,
      .timeout_ns = 30 * NSEC_PER_SEC,
      .reconnect_ns = 60 * NSEC_PER_SEC,
    },
    .mode = PAGECACHE_WRITEBACK,
    .cache_size = UINT64_C (256) << 20,
    .readahead = UINT64_C (32) << 20,
    .dirty_max = UINT64_C (128) << 20,
    .dirty_background = (UINT64_C (256) << 20) / 10,
    .dirty_expire_ns = 5 * NSEC_PER_SEC,
    .revalidate = PAGECACHE_REVALIDATE_OPEN,
  };
}

int
pagecache_create (const struct pagecache_options *o, struct pagecache **ret)
{
  struct pagecache *c;

  if (number ("FAKE_CREATE") != 0)
    return number ("FAKE_CREATE");
  c = calloc (1, sizeof *c);
  if (c == NULL)
    return ENOMEM;
  c->options = *o;
  c->probe_err = number ("FAKE_PROBE");
  c->start_err = number ("FAKE_START");
  c->lost = number ("FAKE_DRAIN");
  *ret = c;
  return 0;
}

int
pagecache_probe (struct pagecache *c, char **why)
{
  *why = NULL;
  if (c->probe_err != 0
      && asprintf (why, "the probe of host gave: %s", strerror (c->probe_err)) == -1)
    *why = NULL;
  return c->probe_err;
}

int
pagecache_start (struct pagecache *c)
{
  return c->start_err;
}

int
pagecache_drain (struct pagecache *c, uint64_t *lost_bytes)
{
  *lost_bytes = c->lost;
  say (c, c->drains++ == 0 ? "fake: first drain" : "fake: next drain");
  return c->lost != 0 ? EIO : 0;
}

void
pagecache_free (struct pagecache *c)
{
  say (c, "fake: freed");
  free (c);
}

int
pagecache_open (struct pagecache *c, const char *name, bool read_only,
                struct pagecache_file **ret)
{
  struct pagecache_file *f = calloc (1, sizeof *f);

  if (f == NULL)
    return ENOMEM;
  f->cache = c;
  snprintf (f->words, sizeof f->words, "%s", name != NULL ? name : "");
  if (is (f, "absent")) {
    free (f);
    return ENOENT;
  }
  f->bytes = malloc (SIZE);
  if (f->bytes == NULL) {
    free (f);
    return ENOMEM;
  }
  memset (f->bytes, 'x', SIZE);
  pthread_mutex_init (&f->lock, NULL);
  f->info = (struct pagecache_info) {
    .size = SIZE,
    .read_only = read_only || is (f, "readonly"),
    .can_flush = !is (f, "plain"),
    .can_fua = !is (f, "plain"),
    .can_trim = !is (f, "plain"),
    .can_zero = !is (f, "nozero") && !is (f, "plain"),
    .can_fast_zero = !is (f, "nozero") && !is (f, "plain"),
    .can_cache = !is (f, "plain"),
    .can_multi_conn = !is (f, "plain"),
    .can_extents = !is (f, "plain"),
    .block_min = is (f, "blocks") ? 65536 : 1,
    .block_pref = is (f, "blocks") ? 65536 : 4096,
    .block_max = 32 << 20,
    .description = is (f, "plain") ? NULL : "as told",
  };
  *ret = f;
  return 0;
}

void
pagecache_close (struct pagecache_file *f)
{
  say (f->cache, "fake: closed");
  pthread_mutex_destroy (&f->lock);
  free (f->bytes);
  free (f);
}

/* It holds nothing. */
bool
pagecache_let_go (struct pagecache *c)
{
  (void) c;
  return false;
}

const struct pagecache_info *
pagecache_get_info (struct pagecache_file *f)
{
  return &f->info;
}

void
pagecache_set_gone (struct pagecache_file *f, bool (*gone) (void *arg), void *arg)
{
  f->gone = gone;
  f->gone_arg = arg;
}

int
pagecache_read (struct pagecache_file *f, void *buf, uint64_t len, uint64_t off)
{
  if (is (f, "wait")) {
    say (f->cache, "fake: waiting");
    while (!f->gone (f->gone_arg))
      poll (NULL, 0, 1);
    say (f->cache, "fake: gave up");
    return ECANCELED;
  }
  pthread_mutex_lock (&f->lock);
  memcpy (buf, f->bytes + off, len);
  pthread_mutex_unlock (&f->lock);
  return planned (f, off);
}

int
pagecache_write (struct pagecache_file *f, const void *buf, uint64_t len, uint64_t off,
                 unsigned flags)
{
  (void) flags;
  pthread_mutex_lock (&f->lock);
  memcpy (f->bytes + off, buf, len);
  pthread_mutex_unlock (&f->lock);
  return planned (f, off);
}

int
pagecache_flush (struct pagecache_file *f)
{
  return is (f, "errno") ? ENOTCONN : 0;
}

int
pagecache_trim (struct pagecache_file *f, uint64_t len, uint64_t off, unsigned flags)
{
  (void) len, (void) flags;
  return planned (f, off);
}

int
pagecache_zero (struct pagecache_file *f, uint64_t len, uint64_t off, unsigned flags)
{
  (void) flags;
  if (is (f, "refuse"))
    return ENOTSUP;
  pthread_mutex_lock (&f->lock);
  memset (f->bytes + off, 0, len);
  pthread_mutex_unlock (&f->lock);
  return planned (f, off);
}

int
pagecache_prefetch (struct pagecache_file *f, uint64_t len, uint64_t off)
{
  (void) len;
  return planned (f, off);
}

int
pagecache_extents (struct pagecache_file *f, uint64_t len, uint64_t off, unsigned flags,
                   int (*fn) (void *arg, uint64_t off, uint64_t len, unsigned type), void *arg)
{
  int err = planned (f, off);

  (void) flags;
  if (err != 0 || is (f, "silent"))
    return err;
  if (is (f, "long"))
    return fn (arg, off, UINT64_C (8) << 30, 3);
  if (len < 2)
    return fn (arg, off, len, 3);
  err = fn (arg, off, len / 2, 3);
  return err != 0 ? err : fn (arg, off + len / 2, len - len / 2, 0);
}

int
pagecache_list (struct pagecache *c, int (*fn) (void *arg, const char *name,
                                                const char *description), void *arg)
{
  static char endless[5000];
  int err;

  (void) c;
  memset (endless, 'e', sizeof endless - 1);
  if ((err = fn (arg, "one", NULL)) != 0 || (err = fn (arg, endless, NULL)) != 0)
    return err;
  return fn (arg, "two", "the second");
}

int
pagecache_stats (struct pagecache *c, void (*fn) (void *arg, const char *line), void *arg)
{
  (void) c, (void) fn, (void) arg;
  return 0;
}

const char *
pagecache_version (void)
{
  return "fake";
}
