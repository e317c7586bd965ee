/* SPDX-License-Identifier: BSD-3-Clause
 *
 * pagecache - a page cache for remote disks: the public face.
 *
 * A struct pagecache is one cache: one memory budget, one event loop, any number
 * of exports.  A struct pagecache_file is one client's handle of one export; all
 * handles of an export share one inode, so what one writes the others read at once.
 *
 * Units    bytes; ranges are [off, off + len).
 * Errors   0 or a positive errno value.  Requests (read to extents), list and drain: always one of EPERM, EIO, ENOMEM,
 *          EINVAL, ENOSPC, ENOTSUP (fast zero and missing features only), ESHUTDOWN, ECANCELED (the
 *          `gone` hook said that nobody waits any more).  create, probe, start and open: any, as the system or the
 *          network has it: ENOENT, EMFILE, ECONNREFUSED ...
 * Threads  every call from any thread, except where said; calls block.  They must not be made
 *          from a hook.
 * Life     create -> (probe) -> start -> open/close ... -> drain -> free.  create and probe
 *          start no thread and keep no connection, so a fork may come between probe and
 *          start.
 */
#ifndef PAGECACHE_H
#define PAGECACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pagecache;
struct pagecache_file;

enum pagecache_mode {
  PAGECACHE_WRITEBACK,
  PAGECACHE_WRITETHROUGH,
  PAGECACHE_NONE,
  PAGECACHE_UNSAFE,
};

enum pagecache_revalidate {
  PAGECACHE_REVALIDATE_NEVER,
  PAGECACHE_REVALIDATE_OPEN,
  PAGECACHE_REVALIDATE_INTERVAL,
};

enum pagecache_tls {
  PAGECACHE_TLS_DEFAULT,        /* as the URI says */
  PAGECACHE_TLS_OFF,
  PAGECACHE_TLS_REQUIRE,
};

/* Exactly one of uri, unix_socket, hostname, vsock_cid is set; strings are copied by create. */
struct pagecache_origin {
  const char *uri;
  const char *unix_socket;
  const char *hostname;
  const char *port;             /* NULL: 10809 */
  bool vsock;
  uint32_t vsock_cid, vsock_port;
  const char *export_name;      /* NULL: "", or what the URI names */
  bool dynamic_export;
  enum pagecache_tls tls;
  const char *tls_certificates; /* directory, absolute */
  bool tls_verify;              /* default true */
  const char *tls_username;
  const char *tls_psk;          /* file, absolute */
  unsigned connections;         /* 1..64; 0: 4 where the origin allows several */
  uint64_t timeout_ns;
  uint64_t reconnect_ns;
};

/* Bounds of cache_size; the upper one is what frames can be counted. */
#define PAGECACHE_SIZE_MIN (UINT64_C (1) << 20)
#define PAGECACHE_SIZE_MAX (UINT64_C (512) << 30)

#define PAGECACHE_DIRTY_MAX_MIN UINT64_C (65536)
#define PAGECACHE_AUTO UINT64_MAX

enum { PAGECACHE_LOG_DEBUG, PAGECACHE_LOG_INFO, PAGECACHE_LOG_WARNING, PAGECACHE_LOG_ERROR };

/* create judges all of it: what is out of range is EINVAL, and the log says which and why.  In mode none what has no effect
 * may be anything, but for cache_size.
 */
struct pagecache_options {
  struct pagecache_origin origin;
  enum pagecache_mode mode;
  uint64_t cache_size;          /* PAGECACHE_SIZE_MIN to _MAX */
  uint64_t readahead;           /* 0: off; at most an eighth of cache_size, more is cut to that */
  uint64_t dirty_max;           /* PAGECACHE_DIRTY_MAX_MIN to cache_size; PAGECACHE_AUTO: half of that */
  uint64_t dirty_background;    /* 0 to dirty_max; PAGECACHE_AUTO: a tenth of cache_size, or a fifth of dirty_max */
  uint64_t dirty_expire_ns;
  enum pagecache_revalidate revalidate;
  uint64_t revalidate_ns;       /* with INTERVAL: at least a millisecond */
  bool read_only;               /* no write-like request ever leaves */
  const char *stats_file;       /* NULL: none; "-": standard error at the end */

  /* One line without newline; from any thread.  NULL: standard error. */
  void (*log) (void *arg, int level, const char *line);
  void *log_arg;
};

/* The defaults of the manual. */
extern void pagecache_options_init (struct pagecache_options *);

extern int pagecache_create (const struct pagecache_options *, struct pagecache **);

/* Connect once, read what there is, hang up.  With dynamic_export only reachability.  No thread is
 * left.  On failure *why (freed by the caller) names host, export and reason.
 */
extern int pagecache_probe (struct pagecache *, char **why);

extern int pagecache_start (struct pagecache *);

/* Write everything back and flush, for at most as long as `reconnect` says when the origin is away; later
 * writes are written through.  0: everything is durable at the origin.  EIO: the log names what is lost; lost_bytes says
 * how much.  May be called from any thread, more than once, also while files are open.  It is for the end: whoever is
 * opening an export whose origin must be connected to first, or listing exports, gets ECANCELED, then and later.
 */
extern int pagecache_drain (struct pagecache *, uint64_t *lost_bytes);

/* Ends threads and connections.  No file may be open, or calls under way. */
extern void pagecache_free (struct pagecache *);

struct pagecache_info {
  uint64_t size;
  bool read_only, rotational;
  bool can_flush, can_fua, can_trim, can_zero, can_fast_zero, can_cache, can_multi_conn, can_extents;
  uint32_t block_min, block_pref, block_max;
  const char *description;      /* the origin's words about the export, or NULL */
};

/* name: NULL for the configured export; else asked of the origin (dynamic_export).
 * ENOENT: the origin has no such export.
 */
extern int pagecache_open (struct pagecache *, const char *name, bool read_only, struct pagecache_file **);

/* The last close of an export begins to write it back.  In mode none with can_multi_conn a close flushes what another
 * file's flush would be taken to cover.
 */
extern void pagecache_close (struct pagecache_file *);

/* Descriptors are short: the connections of exports that nobody has open are closed, as far as nothing is under way on them;
 * they are made again when needed.  True if there were any.
 */
extern bool pagecache_let_go (struct pagecache *);
extern const struct pagecache_info *pagecache_get_info (struct pagecache_file *);

/* Asked now and then by a call that waits, from the thread that waits: true makes the call give up with
 * ECANCELED.  Nothing more of it is carried out then (KN-8); what a write has put into the cache by then stays, and goes to
 * the origin.  Mode none does not ask: a request that was handed to the origin is answered by it, or after the
 * origin's timeouts.  NULL: never.
 */
extern void pagecache_set_gone (struct pagecache_file *, bool (*gone) (void *arg), void *arg);

/* Requests.  They are judged here by what pagecache_get_info says, in every mode, before anything is done:
 *   EPERM    it writes, and the file is read only
 *   EINVAL   it ends behind the end (write, zero: ENOSPC); off or len is not a multiple of block_min; a flag means nothing
 *            for this call, or is FUA without can_fua
 *   ENOTSUP  the export cannot do that: a flush, trim, zero, prefetch, extents or fast zero that is not offered
 * A len of 0 does nothing.  One of more than block_max is carried out in parts.
 */
#define PAGECACHE_FUA       1   /* write, zero, trim: durable at the reply */
#define PAGECACHE_MAY_TRIM  2   /* zero: a hole will do */
#define PAGECACHE_FAST_ZERO 4   /* zero: fast, or ENOTSUP and nothing changed */
#define PAGECACHE_REQ_ONE   8   /* extents: one is enough */

extern int pagecache_read (struct pagecache_file *, void *buf, uint64_t len, uint64_t off);
extern int pagecache_write (struct pagecache_file *, const void *buf, uint64_t len, uint64_t off, unsigned flags);

/* 0: what was answered before is durable; on every file of the export if can_multi_conn, else on this one.  In mode none
 * writes can be lost with a connection to the origin; then it fails once, with EIO, and on each open file of the export
 * if can_multi_conn.
 */
extern int pagecache_flush (struct pagecache_file *);
extern int pagecache_trim (struct pagecache_file *, uint64_t len, uint64_t off, unsigned flags);
extern int pagecache_zero (struct pagecache_file *, uint64_t len, uint64_t off, unsigned flags);
extern int pagecache_prefetch (struct pagecache_file *, uint64_t len, uint64_t off);

/* fn is called in ascending order with contiguous extents that cover [off, off + len) exactly, or
 * with REQ_ONE a first part of it; type bits as NBD's base:allocation: 1 hole, 2 zero.  fn != 0 stops, and is returned.
 */
extern int pagecache_extents (struct pagecache_file *, uint64_t len, uint64_t off, unsigned flags,
                              int (*fn) (void *arg, uint64_t off, uint64_t len, unsigned type), void *arg);

/* The origin's list of exports: fn (name, description or NULL). */
extern int pagecache_list (struct pagecache *, int (*fn) (void *arg, const char *name, const char *description),
                           void *arg);

/* Counters as `export.name=value` lines, written by fn one line at a time. */
extern int pagecache_stats (struct pagecache *, void (*fn) (void *arg, const char *line), void *arg);

extern const char *pagecache_version (void);

#ifdef __cplusplus
}
#endif

#endif /* PAGECACHE_H */
