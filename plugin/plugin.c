/* SPDX-License-Identifier: BSD-3-Clause
 *
 * plugin - nbdkit's table, and from there straight into pagecache.h.
 *
 * Threads  nbdkit calls load, config, config_complete, get_ready, after_fork,
 *          cleanup and unload from its main thread, the rest from up to `-t' threads for
 *          each connection at once.  One thread of ours waits for nbdkit's shutdown and
 *          begins the drain then, since cleanup comes only when the last client has
 *          gone (D27).
 * Errors   every callback that answers a client ends in reply().
 * Order    what can fail is done in get_ready: an error in after_fork comes when
 *          the parent has already said that all is well (K-4).  Threads begin in after_fork (K-6).
 *
 * nbdkit gives its callbacks no argument of ours before a client opens, so the state of
 * the plugin is the one object of this kind.
 */
#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <event2/event.h>
#include <libnbd.h>

#include "clock.h"
#include "descriptors.h"
#include "list.h"
#include "log.h"
#include "options.h"
#include "pagecache.h"
#include "reply.h"

#ifdef PC_COVERAGE
extern void __gcov_dump (void);        /* of the compiler's library */
#endif

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static struct {
  /* Written before after_fork returns, and by the main thread at the end. */
  struct options options;
  struct clock clock;
  struct log log;
  struct pagecache *cache;
  pthread_t watcher;
  bool watching, started, failed;

  _Atomic bool quitting;        /* the server ends; clients may stay a while */

  /* Written by the watcher, read after it was joined. */
  bool drained;
  int drain_err;

  /* For what clients can provoke before they have a handle. */
  struct log_limit limit;

  /* Clients that have an export open, or are about to. */
  _Atomic unsigned nclients;
  _Atomic unsigned nlistings;           /* clients that are asking for the list of exports */
  _Atomic uint64_t let_go_after_ns;     /* exports have nothing to give until then */

  /* Guarded by handles_lock: close may be skipped when nbdkit quits (K-32). */
  struct list handles;
} plugin = { .clock = CLOCK_REAL_INIT };

static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;

/* One client's connection. */
struct handle {
  struct pagecache_file *file;
  const struct pagecache_info *info;    /* fixed while open */
  struct log_name name;                 /* for messages */
  struct log_limit limit;
  _Atomic uint64_t gone_ns;             /* when the connection seemed to have ended; 0: never */
  struct list_node node;                /* in plugin.handles */
};

/* ---- Before the first client ---- */

static void
on_load (void)
{
  list_init (&plugin.handles);
  log_init (&plugin.log, reply_log_sink, NULL, &plugin.clock);
  options_init (&plugin.options);
  plugin.options.cache.log = reply_log_sink;
}

static int
config_error (int err, char *why)
{
  if (err == 0)
    return 0;
  nbdkit_error ("pagecache: %s", why != NULL ? why : strerror (err));
  free (why);
  return -1;
}

static int
on_config (const char *key, const char *value)
{
  char *why;
  int err = options_set (&plugin.options, key, value, &why);

  return config_error (err, why);
}

static int
on_config_complete (void)
{
  char *why;
  int err = options_complete (&plugin.options, &why);

  if (err == 0 && plugin.options.warning != NULL)
    log_warning (&plugin.log, "%s", plugin.options.warning);
  return config_error (err, why);
}

static int
on_get_ready (void)
{
  char *why = NULL;
  int err;

  if (sysconf (_SC_PAGESIZE) != 4096) {
    nbdkit_error ("pagecache: this host has pages of %ld bytes; the cache works with 4096"
                  " only", sysconf (_SC_PAGESIZE));
    return -1;
  }
  err = pagecache_create (&plugin.options.cache, &plugin.cache);
  if (err != 0) {
    nbdkit_error ("pagecache: the cache cannot be set up with cache-size=%ju: %s",
                  (uintmax_t) plugin.options.cache.cache_size, strerror (err));
    return -1;
  }
  /* Connect once now: an origin that is not there is said while somebody listens (D11). */
  err = pagecache_probe (plugin.cache, &why);
  return config_error (err, why);
}

static void
drain (void)
{
  uint64_t lost = 0;

  plugin.drain_err = pagecache_drain (plugin.cache, &lost);
  plugin.drained = true;
  if (plugin.drain_err != 0)
    log_error (&plugin.log, "%ju bytes that clients wrote are not at the origin: %s",
               (uintmax_t) lost, strerror (plugin.drain_err));
}

static void *
watch_for_shutdown (void *arg)
{
  (void) arg;
  /* Comes back early with ESHUTDOWN, and only then. */
  while (nbdkit_nanosleep (24 * 3600, 0) == 0)
    ;
  atomic_store (&plugin.quitting, true);
  log_debug (plugin, &plugin.log, "shutting down, draining");
  drain ();
  log_debug (plugin, &plugin.log, "drained: %s", strerror (plugin.drain_err));
  return NULL;
}

static int
on_after_fork (void)
{
  sigset_t all, before;
  int err;

  descriptors_raise ();
  err = pagecache_start (plugin.cache);
  if (err != 0) {
    nbdkit_error ("pagecache: the cache cannot be started: %s", strerror (err));
    return -1;
  }
  plugin.started = true;

  /* nbdkit's signals are for nbdkit's threads (K-13). */
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  err = pthread_create (&plugin.watcher, NULL, watch_for_shutdown, NULL);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
  if (err != 0) {
    nbdkit_error ("pagecache: a thread cannot be started: %s", strerror (err));
    return -1;
  }
  plugin.watching = true;
  return 0;
}

/* ---- After the last client ---- */

static void
close_handle (struct handle *h)
{
  pthread_mutex_lock (&handles_lock);
  list_remove (&h->node);
  pthread_mutex_unlock (&handles_lock);
  pagecache_close (h->file);
  free (h);
  atomic_fetch_sub (&plugin.nclients, 1);
}

static void
on_cleanup (void)
{
  if (!plugin.started)
    return;

  if (plugin.watching) {
    /* With -s nothing else tells the watcher that this is the end. */
    nbdkit_shutdown ();
    pthread_join (plugin.watcher, NULL);
    plugin.watching = false;
  }

  /* Connections are gone, whether close was called for them or not (K-32). */
  while (!list_is_empty (&plugin.handles))
    close_handle (container_of (list_first (&plugin.handles), struct handle, node));

  /* Once more: a client that stayed wrote after the first drain, and an origin that was
   * away then may be back.
   */
  drain ();
  plugin.failed = plugin.drain_err != 0;
}

static void
on_unload (void)
{
  if (plugin.cache != NULL)
    pagecache_free (plugin.cache);
  plugin.cache = NULL;
  options_release (&plugin.options);
  log_release (&plugin.log);

  /* nbdkit has no other way to exit with a status of ours after it has started (K-12),
   * and whoever started it must hear that writes were lost (D27).
   */
  if (plugin.failed) {
    fflush (NULL);
#ifdef PC_COVERAGE
    __gcov_dump ();             /* or what ran in this process would not count */
#endif
    _exit (EXIT_FAILURE);
  }
}

/* ---- A client comes and goes ---- */

/* A connection that seems to have ended is believed to have when that was so long ago: the server may quit, and the watcher
 * not have said so yet.
 */
#define GONE_NS (50 * NSEC_PER_MSEC)

/* Does nobody wait any more?  nbdkit's sleep looks whether the server quits or this connection has ended (K-24);
 * asked with no time to sleep it only looks.  Each time that it finds one of these it writes a line to the log: it is asked
 * no more after that.
 */
static bool
client_has_gone (void *arg)
{
  struct handle *h = arg;
  uint64_t seen_ns;

  /* While the server quits every sleep ends early, for those who are still there too: their
   * requests are carried out (D27).
   */
  if (atomic_load (&plugin.quitting))
    return false;
  seen_ns = atomic_load (&h->gone_ns);
  if (seen_ns == 0) {
    if (nbdkit_nanosleep (0, 0) != 0 && errno == ESHUTDOWN)
      atomic_store (&h->gone_ns, clock_now (&plugin.clock));
    return false;
  }
  return clock_now (&plugin.clock) >= seen_ns + GONE_NS && !atomic_load (&plugin.quitting);
}

/* Are there enough descriptors that `want' may be taken, and the reserve is left?  Exports that nobody has
 * open make way.
 */
static bool
has_descriptors (unsigned want)
{
  uint64_t now;

  want += descriptors_reserve ();
  if (descriptors_are_free (want))
    return true;
  /* Exports are walked for it: not for each of many that are refused. */
  now = clock_now (&plugin.clock);
  if (now < atomic_load (&plugin.let_go_after_ns))
    return false;
  if (!pagecache_let_go (plugin.cache))
    atomic_store (&plugin.let_go_after_ns, now + 100 * NSEC_PER_MSEC);
  return descriptors_are_free (want);
}

/* A client has connected, and nothing was said yet: here it costs nothing to be refused (S-1).
 * How many are counted is those that came to open an export: nbdkit does not tell when one
 * goes that never did.  What these hold is descriptors, so those are looked at.
 */
static int
on_preconnect (int readonly)
{
  (void) readonly;
  if (atomic_load (&plugin.nclients) >= plugin.options.clients) {
    log_limited (&plugin.log, &plugin.limit, LOG_LEVEL_ERROR, "a client is refused: %u are here (clients=%u)",
                 atomic_load (&plugin.nclients), plugin.options.clients);
    return -1;
  }
  if (!has_descriptors (0)) {
    log_limited (&plugin.log, &plugin.limit, LOG_LEVEL_ERROR, "a client is refused: descriptors are short");
    return -1;
  }
  return 0;
}

/* What an export takes at most when it is opened: a connection, or two, that are not made yet, a look at the
 * origin, and what belongs to them.
 */
#define OPEN_DESCRIPTORS 8

/* Who wants to open is counted already. */
static bool
may_open (const char *name)
{
  struct log_name q;
  const char *why;

  if (atomic_load (&plugin.nclients) > plugin.options.clients)
    why = "too many clients are here";
  else if (!has_descriptors (OPEN_DESCRIPTORS))
    why = "descriptors are short";
  else
    return true;
  log_limited (&plugin.log, &plugin.limit, LOG_LEVEL_ERROR, "%s: a client is refused: %s",
               log_quote_string (&q, name), why);
  nbdkit_set_error (EIO);
  return false;
}

static struct handle *
open_handle (const char *name, bool readonly)
{
  struct handle *h;
  int err;

  h = calloc (1, sizeof *h);
  if (h == NULL) {
    nbdkit_set_error (ENOMEM);
    return NULL;
  }
  log_quote_string (&h->name, name);
  list_node_init (&h->node);

  err = pagecache_open (plugin.cache,
                        plugin.options.cache.origin.dynamic_export ? name : NULL,
                        readonly, &h->file);
  if (err != 0) {
    struct request r = { .who = h->name.text, .what = "open", .limit = &plugin.limit };

    reply (&plugin.log, &r, err);
    free (h);
    return NULL;
  }
  h->info = pagecache_get_info (h->file);
  pagecache_set_gone (h->file, client_has_gone, h);

  pthread_mutex_lock (&handles_lock);
  list_push_back (&plugin.handles, &h->node);
  pthread_mutex_unlock (&handles_lock);
  return h;
}

static void *
on_open (int readonly)
{
  const char *name = nbdkit_export_name ();
  struct handle *h = NULL;

  if (name == NULL) {
    nbdkit_set_error (EIO);
    return NULL;
  }
  atomic_fetch_add (&plugin.nclients, 1);
  if (may_open (name))
    h = open_handle (name, readonly);
  if (h == NULL)
    atomic_fetch_sub (&plugin.nclients, 1);
  return h;
}

static void
on_close (void *handle)
{
  close_handle (handle);
}

static int
add_export (void *arg, const char *name, const char *description)
{
  if (strlen (name) > OPTIONS_EXPORT_NAME_MAX)
    return 0;
  return nbdkit_add_export (arg, name, description) == 0 ? 0 : ENOMEM;
}

/* Each has a connection to the origin of its own while it asks, and all may ask at once: that may not use up what is kept free,
 * or an origin that is lost just then is not connected to again.
 */
#define MOST_LISTINGS 16u
#define LIST_DESCRIPTORS 2

/* Who wants to list is counted already. */
static bool
may_list (void)
{
  const char *why;

  if (atomic_load (&plugin.nlistings) > MOST_LISTINGS)
    why = "too many clients are asking for it";
  else if (!has_descriptors (LIST_DESCRIPTORS))
    why = "descriptors are short";
  else
    return true;
  log_limited (&plugin.log, &plugin.limit, LOG_LEVEL_ERROR, "a client is refused the list of exports: %s", why);
  nbdkit_set_error (EIO);
  return false;
}

static int
on_list_exports (int readonly, int is_tls, struct nbdkit_exports *exports)
{
  struct request r = {
    .who = "origin", .what = "list of exports", .limit = &plugin.limit,
  };
  int ret = -1;

  (void) readonly, (void) is_tls;
  if (!plugin.options.cache.origin.dynamic_export)
    return nbdkit_use_default_export (exports);
  atomic_fetch_add (&plugin.nlistings, 1);
  if (may_list ())
    ret = reply (&plugin.log, &r, pagecache_list (plugin.cache, add_export, exports));
  atomic_fetch_sub (&plugin.nlistings, 1);
  return ret;
}

static const char *
on_default_export (int readonly, int is_tls)
{
  (void) readonly, (void) is_tls;
  /* Which export the empty name means is the origin's to say (D9). */
  return "";
}

static const char *
on_export_description (void *handle)
{
  struct handle *h = handle;

  if (h->info->description == NULL)
    return NULL;
  return nbdkit_strdup_intern (h->info->description);
}

/* ---- What the export can do: all of it known since open (K-30) ---- */

static int64_t
on_get_size (void *handle)
{
  struct handle *h = handle;

  return h->info->size;
}

static int
on_block_size (void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
  struct handle *h = handle;

  *minimum = h->info->block_min;
  *preferred = h->info->block_pref;
  *maximum = h->info->block_max;
  return 0;
}

static int
on_can_write (void *handle)
{
  struct handle *h = handle;

  return !h->info->read_only;
}

static int
on_can_flush (void *handle)
{
  struct handle *h = handle;

  return h->info->can_flush;
}

static int
on_is_rotational (void *handle)
{
  struct handle *h = handle;

  return h->info->rotational;
}

static int
on_can_trim (void *handle)
{
  struct handle *h = handle;

  return h->info->can_trim;
}

/* Always: see on_zero. */
static int
on_can_zero (void *handle)
{
  (void) handle;
  return 1;
}

/* Always: nbdkit 1.32 aborts when a client asks for a fast zero that was not offered.
 * One that the core does not have is answered with ENOTSUP (nbd.B-86).
 */
static int
on_can_fast_zero (void *handle)
{
  (void) handle;
  return 1;
}

static int
on_can_extents (void *handle)
{
  struct handle *h = handle;

  return h->info->can_extents;
}

static int
on_can_fua (void *handle)
{
  struct handle *h = handle;

  if (h->info->can_fua)
    return NBDKIT_FUA_NATIVE;
  return h->info->can_flush ? NBDKIT_FUA_EMULATE : NBDKIT_FUA_NONE;
}

static int
on_can_multi_conn (void *handle)
{
  struct handle *h = handle;

  return h->info->can_multi_conn;
}

static int
on_can_cache (void *handle)
{
  struct handle *h = handle;

  return h->info->can_cache ? NBDKIT_CACHE_NATIVE : NBDKIT_CACHE_NONE;
}

/* ---- Requests ---- */

static int
answer (struct handle *h, int err, const char *what, uint32_t count, uint64_t offset)
{
  struct request r = {
    .who = h->name.text, .what = what, .off = offset, .len = count, .limit = &h->limit,
  };

  return reply (&plugin.log, &r, err);
}

static unsigned
flags_of (uint32_t flags)
{
  return (flags & NBDKIT_FLAG_FUA ? PAGECACHE_FUA : 0)
         | (flags & NBDKIT_FLAG_MAY_TRIM ? PAGECACHE_MAY_TRIM : 0)
         | (flags & NBDKIT_FLAG_FAST_ZERO ? PAGECACHE_FAST_ZERO : 0)
         | (flags & NBDKIT_FLAG_REQ_ONE ? PAGECACHE_REQ_ONE : 0);
}

static int
on_pread (void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct handle *h = handle;

  (void) flags;
  return answer (h, pagecache_read (h->file, buf, count, offset), "read", count, offset);
}

static int
on_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
                  uint32_t flags)
{
  struct handle *h = handle;

  return answer (h, pagecache_write (h->file, buf, count, offset, flags_of (flags)), "write",
                 count, offset);
}

static int
on_flush (void *handle, uint32_t flags)
{
  struct handle *h = handle;

  (void) flags;
  return answer (h, pagecache_flush (h->file), "flush", 0, 0);
}

static int
on_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct handle *h = handle;

  return answer (h, pagecache_trim (h->file, count, offset, flags_of (flags)), "trim", count,
                 offset);
}

/* Zeros, written.  nbdkit would do this for us if we answered ENOTSUP, but up to 1.44 it
 * writes all of them at the same place when the request is longer than 64 MiB (S-7).
 */
static int
write_zeros (struct handle *h, uint64_t len, uint64_t off, unsigned flags)
{
  static const char zeros[1 << 20];
  int err = 0;

  while (len > 0 && err == 0) {
    uint64_t n = len < sizeof zeros ? len : sizeof zeros;

    err = pagecache_write (h->file, zeros, n, off, flags & PAGECACHE_FUA);
    off += n;
    len -= n;
  }
  return err;
}

static int
on_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct handle *h = handle;
  struct request r = {
    .who = h->name.text, .what = "zero", .off = offset, .len = count,
    .fast_zero = flags & NBDKIT_FLAG_FAST_ZERO, .limit = &h->limit,
  };
  int err = ENOTSUP;

  if (h->info->can_zero && (h->info->can_fast_zero || !r.fast_zero))
    err = pagecache_zero (h->file, count, offset, flags_of (flags));
  if (err == ENOTSUP && !r.fast_zero)
    err = write_zeros (h, count, offset, flags_of (flags));
  return reply (&plugin.log, &r, err);
}

struct extents_in_request {
  struct nbdkit_extents *to;
  uint64_t at, end;
};

/* nbdkit up to 1.42 dies of an extent that goes far beyond the request (S-7): what
 * reaches it is cut to the request, whoever sent it.
 */
static int
add_extent (void *arg, uint64_t off, uint64_t len, unsigned type)
{
  struct extents_in_request *x = arg;

  if (off != x->at || len == 0 || x->at == x->end)
    return 0;
  if (len > x->end - off)
    len = x->end - off;
  x->at += len;
  return nbdkit_add_extent (x->to, off, len,
                            (type & 1 ? NBDKIT_EXTENT_HOLE : 0)
                            | (type & 2 ? NBDKIT_EXTENT_ZERO : 0)) == 0 ? 0 : ENOMEM;
}

static int
on_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                          struct nbdkit_extents *extents)
{
  struct handle *h = handle;
  struct extents_in_request x = { .to = extents, .at = offset, .end = offset + count };
  int err;

  err = pagecache_extents (h->file, count, offset, flags_of (flags), add_extent, &x);
  /* nbdkit wants one at least; "data" is never wrong. */
  if (err == 0 && x.at == offset)
    err = add_extent (&x, offset, count, 0);
  return answer (h, err, "block status", count, offset);
}

static int
on_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct handle *h = handle;

  (void) flags;
  return answer (h, pagecache_prefetch (h->file, count, offset), "cache", count, offset);
}

/* ---- What this build is ---- */

static void
on_dump_plugin (void)
{
  struct nbd_handle *nbd = nbd_create ();

  printf ("pagecache_version=%s\n", pagecache_version ());
  printf ("pagecache_nbdkit_api_version=%d\n", NBDKIT_API_VERSION);
  printf ("pagecache_nbdkit_built_with=%d.%d.%d\n", NBDKIT_VERSION_MAJOR,
          NBDKIT_VERSION_MINOR, NBDKIT_VERSION_MICRO);
  if (nbd != NULL) {
    printf ("pagecache_libnbd_version=%s\n", nbd_get_version (nbd));
    printf ("pagecache_libnbd_tls=%d\n", nbd_supports_tls (nbd));
    printf ("pagecache_libnbd_uri=%d\n", nbd_supports_uri (nbd));
    nbd_close (nbd);
  }
  printf ("pagecache_libevent_version=%s\n", event_get_version ());
  printf ("pagecache_page_size=%ld\n", sysconf (_SC_PAGESIZE));
  printf ("pagecache_origins=nbd\n");
  printf ("pagecache_modes=writeback,writethrough,none,unsafe\n");
  printf ("pagecache_cache_size_min=%ju\n", (uintmax_t) PAGECACHE_SIZE_MIN);
  printf ("pagecache_cache_size_max=%ju\n", (uintmax_t) PAGECACHE_SIZE_MAX);
  printf ("pagecache_connections_max=%d\n", OPTIONS_CONNECTIONS_MAX);
  printf ("pagecache_clients_max=%d\n", OPTIONS_CLIENTS_MAX);
#ifdef PC_DEBUG
  printf ("pagecache_debug_checks=1\n");
#else
  printf ("pagecache_debug_checks=0\n");
#endif
#define PRINT_SWITCH(module) " " #module
  printf ("pagecache_debug_switches=%s\n", LOG_MODULES (PRINT_SWITCH) + 1);
}

static struct nbdkit_plugin table = {
  .name = "pagecache",
  .longname = "page cache for remote disks",
  .version = PACKAGE_VERSION,
  .description = "Fronts a remote NBD export with a page cache in memory.",
  .load = on_load,
  .unload = on_unload,
  .config = on_config,
  .config_complete = on_config_complete,
  .config_help = options_help,
  .magic_config_key = "uri",
  .dump_plugin = on_dump_plugin,
  .get_ready = on_get_ready,
  .after_fork = on_after_fork,
  .cleanup = on_cleanup,
  .list_exports = on_list_exports,
  .default_export = on_default_export,
  .preconnect = on_preconnect,
  .open = on_open,
  .close = on_close,
  .export_description = on_export_description,
  .get_size = on_get_size,
  .block_size = on_block_size,
  .can_write = on_can_write,
  .can_flush = on_can_flush,
  .is_rotational = on_is_rotational,
  .can_trim = on_can_trim,
  .can_zero = on_can_zero,
  .can_fast_zero = on_can_fast_zero,
  .can_extents = on_can_extents,
  .can_fua = on_can_fua,
  .can_multi_conn = on_can_multi_conn,
  .can_cache = on_can_cache,
  .pread = on_pread,
  .pwrite = on_pwrite,
  .flush = on_flush,
  .trim = on_trim,
  .zero = on_zero,
  .extents = on_extents,
  .cache = on_cache,
  .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN (table)
