/* SPDX-License-Identifier: BSD-3-Clause
 *
 * testorigin - an nbdkit plugin that is the origin in our tests.
 *
 * Answers: what does the cache do when its origin is slow, stubborn, forgetful
 * or wrong?  It delays every command (nbdkit's delay filter leaves flush
 * alone), keeps what was written apart from what is durable, forgets the
 * former when it is killed, holds commands at doors, fails by script and
 * remembers every command that reached it.
 *
 *   nbdkit -U o.sock tests/.libs/nbdkit-testorigin-plugin.so \
 *          size=64M durable=disk.img control=o.ctl delay=0.005
 *
 * Parameters (SIZE as nbdkit's, SECONDS may have a fraction)
 *
 *   size=SIZE            of every export; default: what the durable file has
 *   durable=PATH         the file that flush writes to, or with exports= the
 *                        folder of such files; default: memory, which dies
 *                        with the process
 *   exports=A,B,...      export names; default: any name, all the same disk
 *   default=A            what the empty name means (then A is told to the
 *                        client as the canonical name); default: refused when
 *                        exports= was given
 *   delay=SECONDS        of every command; then for one kind alone:
 *   rdelay wdelay fdelay tdelay zdelay cdelay edelay
 *                        read write flush trim zero cache extents
 *   jitter=SECONDS       a random part on top, which reorders commands
 *   fua=native|none      flush=yes|no   trim=yes|no   zero=yes|no
 *   fastzero=yes|no      multiconn=yes|no   extents=yes|no   cache=yes|no
 *   readonly=yes|no      defaults: native, yes, yes, yes, yes, yes, yes, yes, no
 *   trimmode=keep|zero   after a trim of whole pages: the old bytes, or zeros
 *                        (default)
 *   minblock= prefblock= maxblock=SIZE
 *                        advertised, and kept: a command that is not aligned
 *                        gets EINVAL and counts as misaligned
 *   control=PATH         the control socket
 *   log=FILE             a line as each command comes and one as it goes
 *   bug=NAME             do it wrong now and then, to prove a tester; see bugs[]
 *   bugrate=N            once in N commands (default 200)
 *
 * Control: one command a line; the answer is any number of lines and then
 * "ok" or "error TEXT".  KIND is read, write, flush, trim, zero, cache,
 * extents or all; DOOR is KIND (before the effect) or KIND.reply (after it).
 *
 *   close DOOR                 commands wait there
 *   open DOOR                  nobody waits any more
 *   wait DOOR N [SECONDS]      until N commands wait there (30 s at most)
 *   release DOOR N             let N pass the closed door
 *   finished KIND N [SECONDS]  until N have been answered since clearlog
 *   fail KIND ERRNO [COUNT]    the next COUNT fail (default: all), no effect
 *   fail-range KIND START END ERRNO [COUNT]
 *   clearfail
 *   delay KIND SECONDS
 *   forget                     lose what was not flushed, as a crash would
 *   sync                       make it all durable, as a flush would
 *   die [KIND N]               SIGKILL ourselves, now or when the N-th comes
 *   log, clearlog, stats, ping
 *
 * Threads  PARALLEL; nbdkit's workers, plus those of the control socket.
 * A command held at a door does not end when its client goes away, and is
 * then carried out late: just what a lost connection may do (nbd.N-93).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "testorigin.h"
#include "testorigin-gate.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define MAX_EXPORTS 64

enum bug {
  BUG_NONE,
  BUG_LOST_WRITE,               /* a write is answered and dropped */
  BUG_STALE_READ,               /* a read gives a page as it was before */
  BUG_FLUSH_NOTHING,            /* no flush makes anything durable */
  BUG_FUA_VOLATILE,             /* no FUA does */
  BUG_TRIM_OTHER,               /* a trim leaves another sector's bytes */
  BUG_ZERO_SHORT,               /* a zero misses its last byte */
  BUG_WRITE_SHIFTED,            /* a write lands 512 bytes too far */
  BUG_TORN_READ,                /* two halves of a page from two moments */
  BUG_TORN_WRITE,               /* the same the other way round */
  BUG_FALSE_ZERO,               /* extents call data zeros */
  BUG_ERROR_APPLIED,            /* no bug: a write fails, yet has happened */
};

static const char *const bugs[] = {
  "none", "lost-write", "stale-read", "flush-nothing", "fua-volatile",
  "trim-other", "zero-short", "write-shifted", "torn-read", "torn-write",
  "false-zero", "error-applied",
};

static struct {
  /* Fixed after get_ready. */
  int64_t size;
  const char *durable, *exports_list, *default_name, *control, *log;
  int fua, flush, trim, zero, fastzero, multiconn, extents, cache, readonly;
  bool trim_keep;
  uint32_t minblock, prefblock, maxblock;
  enum bug bug;
  unsigned bugrate;
  struct export exports[MAX_EXPORTS];
  size_t nexports;

  atomic_uint next_conn, bug_count;
  /* BUG_STALE_READ: one page as it once was; guarded by stale_lock. */
  pthread_mutex_t stale_lock;
  struct export *stale_of;
  uint64_t stale_off;
  uint8_t stale[IMAGE_PAGE];
} o = {
  .size = -1,
  .fua = NBDKIT_FUA_NATIVE,
  .flush = 1, .trim = 1, .zero = 1, .fastzero = 1, .multiconn = 1,
  .extents = 1, .cache = 1,
  .bugrate = 200,
  .stale_lock = PTHREAD_MUTEX_INITIALIZER,
};

struct conn {
  unsigned id;
  struct export *e;
};

/* Is this the one command in bugrate that goes wrong? */
static bool
strikes (enum bug bug)
{
  return o.bug == bug
    && atomic_fetch_add (&o.bug_count, 1) % o.bugrate == o.bugrate - 1;
}

struct export *
origin_export (const char *name)
{
  size_t i;

  if (o.exports_list == NULL)
    return &o.exports[0];
  if (name[0] == '\0' && o.default_name)
    name = o.default_name;
  for (i = 0; i < o.nexports; ++i)
    if (strcmp (name, o.exports[i].name) == 0)
      return &o.exports[i];
  return NULL;
}

void
origin_each_export (void (*fn) (struct export *, void *), void *opaque)
{
  size_t i;

  for (i = 0; i < o.nexports; ++i)
    fn (&o.exports[i], opaque);
}

int
origin_parse_errno (const char *name)
{
  static const struct { const char *name; int err; } known[] = {
    { "EPERM", EPERM }, { "EIO", EIO }, { "ENOMEM", ENOMEM },
    { "EINVAL", EINVAL }, { "ENOSPC", ENOSPC }, { "EOVERFLOW", EOVERFLOW },
    { "ENOTSUP", ENOTSUP }, { "ESHUTDOWN", ESHUTDOWN },
  };
  size_t i;

  for (i = 0; i < sizeof known / sizeof known[0]; ++i)
    if (strcmp (name, known[i].name) == 0)
      return known[i].err;
  return 0;
}

static int
config_switch (const char *key, const char *value)
{
  static const struct { const char *key; int *var; } switches[] = {
    { "flush", &o.flush }, { "trim", &o.trim }, { "zero", &o.zero },
    { "fastzero", &o.fastzero }, { "multiconn", &o.multiconn },
    { "extents", &o.extents }, { "cache", &o.cache },
    { "readonly", &o.readonly },
  };
  size_t i;

  for (i = 0; i < sizeof switches / sizeof switches[0]; ++i)
    if (strcmp (key, switches[i].key) == 0) {
      *switches[i].var = nbdkit_parse_bool (value);
      return *switches[i].var == -1 ? -1 : 1;
    }
  return 0;
}

static int
config_delay (const char *key, const char *value)
{
  static const char *const keys[] = {
    "rdelay", "wdelay", "fdelay", "tdelay", "zdelay", "cdelay", "edelay",
    "delay",
  };
  char *end;
  double d;
  int k;

  if (strcmp (key, "jitter") != 0) {
    for (k = 0; k <= KINDS && strcmp (key, keys[k]) != 0; ++k)
      ;
    if (k > KINDS)
      return 0;
  }
  else
    k = -1;
  d = strtod (value, &end);
  if (*end || end == value || !(d >= 0 && d < 3600)) {
    nbdkit_error ("%s=%s: not a number of seconds", key, value);
    return -1;
  }
  if (k < 0)
    gate_set_jitter (d);
  else
    gate_set_delay (k, d);
  return 1;
}

/* A value out of a list of words; -1 and a message if it is none of them. */
static int
one_of (const char *key, const char *value, const char *const *words, size_t n)
{
  size_t i;

  for (i = 0; i < n; ++i)
    if (strcmp (value, words[i]) == 0)
      return i;
  nbdkit_error ("%s=%s: unknown value", key, value);
  return -1;
}

static int
config_word (const char *key, const char *value)
{
  int i;

  if (strcmp (key, "fua") == 0) {
    i = one_of (key, value, (const char *[]) { "none", "native" }, 2);
    if (i >= 0)
      o.fua = i ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
  }
  else if (strcmp (key, "trimmode") == 0) {
    i = one_of (key, value, (const char *[]) { "zero", "keep" }, 2);
    o.trim_keep = i == 1;
  }
  else if (strcmp (key, "bug") == 0) {
    i = one_of (key, value, bugs, sizeof bugs / sizeof bugs[0]);
    if (i >= 0)
      o.bug = i;
  }
  else
    return 0;
  return i < 0 ? -1 : 1;
}

static int
config_size (const char *key, const char *value)
{
  uint32_t *block = NULL;
  int64_t n;

  if (strcmp (key, "minblock") == 0)
    block = &o.minblock;
  else if (strcmp (key, "prefblock") == 0)
    block = &o.prefblock;
  else if (strcmp (key, "maxblock") == 0)
    block = &o.maxblock;
  else if (strcmp (key, "size") != 0)
    return 0;
  n = nbdkit_parse_size (value);
  if (n < 0 || (block && n > UINT32_MAX))
    return -1;
  if (block)
    *block = n;
  else
    o.size = n;
  return 1;
}

static int
origin_config (const char *key, const char *value)
{
  int r;

  if ((r = config_switch (key, value)) || (r = config_delay (key, value))
      || (r = config_word (key, value)) || (r = config_size (key, value)))
    return r < 0 ? -1 : 0;
  if (strcmp (key, "exports") == 0)
    o.exports_list = value;
  else if (strcmp (key, "default") == 0)
    o.default_name = value;
  else if (strcmp (key, "bugrate") == 0)
    return nbdkit_parse_unsigned (key, value, &o.bugrate);
  else if (strcmp (key, "durable") == 0)
    return (o.durable = nbdkit_absolute_path (value)) ? 0 : -1;
  else if (strcmp (key, "control") == 0)
    return (o.control = nbdkit_absolute_path (value)) ? 0 : -1;
  else if (strcmp (key, "log") == 0)
    return (o.log = nbdkit_absolute_path (value)) ? 0 : -1;
  else {
    nbdkit_error ("unknown parameter '%s'", key);
    return -1;
  }
  return 0;
}

static int
origin_config_complete (void)
{
  if (o.size < 0 && o.durable == NULL) {
    nbdkit_error ("size= or durable= is needed");
    return -1;
  }
  if (o.bugrate == 0) {
    nbdkit_error ("bugrate=0: must be 1 or more");
    return -1;
  }
  return 0;
}

static int
add_export (const char *name, const char *file)
{
  struct export *e = &o.exports[o.nexports];
  int err;

  if (o.nexports == MAX_EXPORTS) {
    nbdkit_error ("exports=%s: more than %d", o.exports_list, MAX_EXPORTS);
    return -1;
  }
  e->name = name;
  err = image_init (&e->img, file, o.size);
  if (err) {
    errno = err;
    nbdkit_error ("%s: %m", file ? file : "memory");
    return -1;
  }
  o.nexports++;
  return 0;
}

static int
origin_get_ready (void)
{
  const char *p;
  int err;

  if (o.exports_list == NULL) {
    if (add_export ("", o.durable) == -1)
      return -1;
  }
  for (p = o.exports_list; p && *p;) {
    size_t n = strcspn (p, ",");
    char *name = strndup (p, n), *file = NULL;
    int r;

    if (name == NULL
        || (o.durable && asprintf (&file, "%s/%s", o.durable, name) == -1)) {
      nbdkit_error ("%m");
      return -1;
    }
    r = add_export (name, file);
    free (file);
    if (r == -1)
      return -1;
    p += n + (p[n] == ',');
  }
  if (o.log && (err = gate_open_log (o.log)) != 0) {
    errno = err;
    nbdkit_error ("log=%s: %m", o.log);
    return -1;
  }
  if (o.control && (err = control_listen (o.control)) != 0) {
    errno = err;
    nbdkit_error ("control=%s: %m", o.control);
    return -1;
  }
  return 0;
}

static int
origin_after_fork (void)
{
  return o.control && control_start () != 0 ? -1 : 0;
}

/* No flush here: an origin that ends owes durability to nobody who did not
 * ask for it, so a clean end forgets as much as a kill does.
 */
static void
origin_cleanup (void)
{
  if (o.control)
    control_stop ();
}

static void
origin_unload (void)
{
  size_t i;

  for (i = 0; i < o.nexports; ++i) {
    image_release (&o.exports[i].img);
    if (o.exports_list)
      free ((char *) o.exports[i].name);
  }
}

static int
origin_list_exports (int readonly, int is_tls, struct nbdkit_exports *exports)
{
  size_t i;

  (void) readonly;
  (void) is_tls;
  for (i = 0; i < o.nexports; ++i)
    if (nbdkit_add_export (exports, o.exports[i].name, NULL) == -1)
      return -1;
  return 0;
}

static const char *
origin_default_export (int readonly, int is_tls)
{
  (void) readonly;
  (void) is_tls;
  if (o.default_name)
    return o.default_name;
  return o.exports_list ? NULL : "";
}

static void *
origin_open (int readonly)
{
  const char *name = nbdkit_export_name ();
  struct conn *c;
  struct export *e;

  (void) readonly;
  if (name == NULL)
    return NULL;
  e = origin_export (name);
  if (e == NULL) {
    nbdkit_error ("no export named '%s'", name);
    errno = ENOENT;
    return NULL;
  }
  c = malloc (sizeof *c);
  if (c == NULL)
    return NULL;
  c->id = ++o.next_conn;
  c->e = e;
  gate_connection (1);
  return c;
}

static void
origin_close (void *handle)
{
  gate_connection (-1);
  free (handle);
}

static int64_t
origin_get_size (void *handle)
{
  struct conn *c = handle;

  return c->e->img.size;
}

#define SWITCH(fn, value)                       \
  static int                                    \
  fn (void *handle)                             \
  {                                             \
    (void) handle;                              \
    return value;                               \
  }
SWITCH (origin_can_write, !o.readonly)
SWITCH (origin_can_flush, o.flush)
SWITCH (origin_can_trim, o.trim)
SWITCH (origin_can_zero, o.zero)
SWITCH (origin_can_fast_zero, o.fastzero)
SWITCH (origin_can_fua, o.fua)
SWITCH (origin_can_multi_conn, o.multiconn)
SWITCH (origin_can_extents, o.extents)
SWITCH (origin_can_cache, o.cache ? NBDKIT_CACHE_NATIVE : NBDKIT_CACHE_NONE)

static int
origin_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                   uint32_t *maximum)
{
  (void) handle;
  *minimum = *preferred = *maximum = 0;
  if (o.minblock || o.prefblock || o.maxblock) {
    *minimum = o.minblock ? o.minblock : 1;
    *preferred = o.prefblock ? o.prefblock : 4096;
    if (*preferred < *minimum)
      *preferred = *minimum;
    *maximum = o.maxblock ? o.maxblock : 32 * 1024 * 1024;
  }
  return 0;
}

/* Every command begins and ends alike; what lies between is do_*(). */

static int
begin (struct passage *p, struct conn *c, enum kind kind, uint64_t off,
       uint64_t len, uint32_t flags)
{
  int err;

  *p = (struct passage) {
    .kind = kind, .conn = c->id, .export = c->e->name, .off = off, .len = len,
    .flags = (flags & NBDKIT_FLAG_FUA ? GATE_FUA : 0)
      | (flags & NBDKIT_FLAG_MAY_TRIM ? GATE_MAY_TRIM : 0)
      | (flags & NBDKIT_FLAG_FAST_ZERO ? GATE_FAST : 0),
  };
  err = gate_enter (p);
  if (!err && o.minblock > 1 && kind != KIND_FLUSH
      && (off % o.minblock
          || (len % o.minblock && off + len != c->e->img.size))) {
    gate_misaligned ();
    err = EINVAL;
  }
  return err;
}

static int
end (struct passage *p, int err)
{
  gate_leave (p, err);
  if (err) {
    nbdkit_set_error (err);
    return -1;
  }
  return 0;
}

/* Give the page that was put aside, if it is the one asked for. */
static void
read_stale (struct export *e, uint8_t *buf, uint64_t off, uint64_t len)
{
  pthread_mutex_lock (&o.stale_lock);
  if (o.stale_of == e && off <= o.stale_off
      && o.stale_off + IMAGE_PAGE <= off + len) {
    memcpy (buf + (o.stale_off - off), o.stale, IMAGE_PAGE);
    o.stale_of = NULL;
  }
  pthread_mutex_unlock (&o.stale_lock);
}

/* Two reads with time for a write between them. */
static void
read_torn (struct export *e, uint8_t *buf, uint64_t off, uint64_t len)
{
  uint64_t done = 0;

  while (done < len) {
    uint64_t half = IMAGE_PAGE / 2 - (off + done) % (IMAGE_PAGE / 2);

    if (half > len - done)
      half = len - done;
    image_read (&e->img, buf + done, off + done, half);
    sched_yield ();
    done += half;
  }
}

static int
do_read (struct export *e, void *buf, uint64_t off, uint64_t len)
{
  if (o.bug == BUG_TORN_READ)
    read_torn (e, buf, off, len);
  else
    image_read (&e->img, buf, off, len);
  if (o.bug == BUG_STALE_READ)
    read_stale (e, buf, off, len);
  return 0;
}

static int
do_write (struct export *e, const void *buf, uint64_t off, uint64_t len,
          bool fua)
{
  uint64_t page = (off + IMAGE_PAGE - 1) / IMAGE_PAGE * IMAGE_PAGE, half;
  int err;

  switch (o.bug) {
  case BUG_LOST_WRITE:
    if (strikes (BUG_LOST_WRITE))
      return 0;
    break;
  case BUG_STALE_READ:
    if (page + IMAGE_PAGE <= off + len && strikes (BUG_STALE_READ)) {
      pthread_mutex_lock (&o.stale_lock);
      o.stale_of = e;
      o.stale_off = page;
      image_read (&e->img, o.stale, page, IMAGE_PAGE);
      pthread_mutex_unlock (&o.stale_lock);
    }
    break;
  case BUG_WRITE_SHIFTED:
    if (off + len + 512 <= e->img.size && strikes (BUG_WRITE_SHIFTED))
      off += 512;
    break;
  case BUG_TORN_WRITE:
    half = IMAGE_PAGE / 2 - off % (IMAGE_PAGE / 2);
    if (half < len) {
      err = image_write (&e->img, buf, off, half, fua);
      if (err)
        return err;
      sched_yield ();
      return image_write (&e->img, (const uint8_t *) buf + half, off + half,
                          len - half, fua);
    }
    break;
  case BUG_ERROR_APPLIED:
    if (strikes (BUG_ERROR_APPLIED)) {
      image_write (&e->img, buf, off, len, fua);
      return EIO;
    }
    break;
  default:
    break;
  }
  return image_write (&e->img, buf, off, len, fua);
}

static int
do_trim (struct export *e, uint64_t off, uint64_t len, bool fua)
{
  if (len >= 1024 && off >= 512 && strikes (BUG_TRIM_OTHER)) {
    uint8_t sector[512];
    uint64_t at = (off + 511) & ~UINT64_C (511);

    image_read (&e->img, sector, at - 512, sizeof sector);
    return image_write (&e->img, sector, at, sizeof sector, fua);
  }
  return image_trim (&e->img, off, len, o.trim_keep, fua);
}

static int
do_zero (struct export *e, uint64_t off, uint64_t len, bool may_trim, bool fua)
{
  if (len > 1 && strikes (BUG_ZERO_SHORT))
    len--;
  return image_zero (&e->img, off, len, may_trim, fua);
}

static bool
really_fua (uint32_t flags)
{
  return (flags & NBDKIT_FLAG_FUA) && o.bug != BUG_FUA_VOLATILE;
}

static int
origin_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
              uint32_t flags)
{
  struct conn *c = handle;
  struct passage p;
  int err = begin (&p, c, KIND_READ, offset, count, flags);

  return end (&p, err ? err : do_read (c->e, buf, offset, count));
}

static int
origin_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
               uint32_t flags)
{
  struct conn *c = handle;
  struct passage p;
  int err = begin (&p, c, KIND_WRITE, offset, count, flags);

  return end (&p, err ? err : do_write (c->e, buf, offset, count,
                                        really_fua (flags)));
}

static int
origin_flush (void *handle, uint32_t flags)
{
  struct conn *c = handle;
  struct passage p;
  int err = begin (&p, c, KIND_FLUSH, 0, 0, flags);

  if (!err && o.bug != BUG_FLUSH_NOTHING)
    err = image_flush (&c->e->img);
  return end (&p, err);
}

static int
origin_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct conn *c = handle;
  struct passage p;
  int err = begin (&p, c, KIND_TRIM, offset, count, flags);

  return end (&p, err ? err : do_trim (c->e, offset, count,
                                       really_fua (flags)));
}

static int
origin_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct conn *c = handle;
  struct passage p;
  int err = begin (&p, c, KIND_ZERO, offset, count, flags);

  return end (&p, err ? err : do_zero (c->e, offset, count,
                                       flags & NBDKIT_FLAG_MAY_TRIM,
                                       really_fua (flags)));
}

static int
origin_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct passage p;

  return end (&p, begin (&p, handle, KIND_CACHE, offset, count, flags));
}

static int
do_extents (struct export *e, uint64_t off, uint64_t end_off, bool one,
            struct nbdkit_extents *extents)
{
  static const uint32_t types[] = {
    [IMAGE_HOLE] = NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO,
    [IMAGE_DATA] = 0,
    [IMAGE_ZERO] = NBDKIT_EXTENT_ZERO,
    [IMAGE_TRIMMED] = NBDKIT_EXTENT_HOLE,
  };
  uint64_t until;

  for (; off < end_off; off = until) {
    uint32_t type = types[image_status (&e->img, off, end_off, &until)];

    if (strikes (BUG_FALSE_ZERO))
      type |= NBDKIT_EXTENT_ZERO;
    if (nbdkit_add_extent (extents, off, until - off, type) == -1)
      return errno;
    if (one)
      break;
  }
  return 0;
}

static int
origin_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                struct nbdkit_extents *extents)
{
  struct conn *c = handle;
  struct passage p;
  int err = begin (&p, c, KIND_EXTENTS, offset, count, 0);

  if (!err)
    err = do_extents (c->e, offset, offset + count,
                      flags & NBDKIT_FLAG_REQ_ONE, extents);
  return end (&p, err);
}

static struct nbdkit_plugin plugin = {
  .name = "testorigin",
  .version = "1",
  .longname = "the origin of pagecache's tests",
  .unload = origin_unload,
  .config = origin_config,
  .config_complete = origin_config_complete,
  .get_ready = origin_get_ready,
  .after_fork = origin_after_fork,
  .cleanup = origin_cleanup,
  .list_exports = origin_list_exports,
  .default_export = origin_default_export,
  .open = origin_open,
  .close = origin_close,
  .get_size = origin_get_size,
  .can_write = origin_can_write,
  .can_flush = origin_can_flush,
  .can_trim = origin_can_trim,
  .can_zero = origin_can_zero,
  .can_fast_zero = origin_can_fast_zero,
  .can_fua = origin_can_fua,
  .can_multi_conn = origin_can_multi_conn,
  .can_extents = origin_can_extents,
  .can_cache = origin_can_cache,
  .block_size = origin_block_size,
  .pread = origin_pread,
  .pwrite = origin_pwrite,
  .flush = origin_flush,
  .trim = origin_trim,
  .zero = origin_zero,
  .cache = origin_cache,
  .extents = origin_extents,
};

/* The macro defines it without declaring it. */
extern struct nbdkit_plugin *plugin_init (void);

NBDKIT_REGISTER_PLUGIN (plugin)
