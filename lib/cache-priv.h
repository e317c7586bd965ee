/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cache-priv - what the files of the cache share; nobody else includes it.
 */
#ifndef PC_CACHE_PRIV_H
#define PC_CACHE_PRIV_H

#include <stdatomic.h>

#include "cache.h"
#include "inode.h"
#include "log.h"
#include "reclaim.h"
#include "writeback.h"

#define MAX_IDS (1u << FRAME_ID_BITS)
#define MAX_EMPTY 1000          /* exports without a file that hold nothing (D9) */

enum export_state { EXPORT_OPENING, EXPORT_READY, EXPORT_CLOSING, EXPORT_FAILED };

struct export {
  struct pagecache *pc;
  struct list_node node;        /* pc->exports; the table's lock */
  enum export_state state;
  char *name, *canonical;
  struct inode *ino;
  struct origin *origin;
  uint32_t id;
  unsigned files;               /* open handles */
  unsigned refs;                /* reclaim, turn, drain, look, who waits while it is opened: it may not be freed */
  int open_err;                 /* FAILED: why */
  bool looking;                 /* who opens it waits */
  bool configured;              /* the export that the parameters name, not a client */
  bool had_turn;                /* others that waited longer go first */
  uint64_t closed_ns;
  _Atomic bool dirty;           /* turn() shall look */
  struct writeback_state ws;
  struct pagecache_info info;

  /* cache-revalidate.c */
  _Atomic int changed_err;      /* EIO: another disk stands there now */
  _Atomic uint64_t end;         /* the origin's, where it is less than info.size */
  _Atomic bool stale;           /* to be made anew when nobody has it open */
  _Atomic uint64_t look_after_ns;
  char *differs;                /* what the last look found, if anything; the looker's */
  struct log_limit limit, urgent;       /* of what the origin has to say; of its errors */
};

struct pagecache {
  struct pagecache_options opt;
  struct cache_factory factory;
  struct clock *clock;
  struct clock real_clock;
  struct log log;

  struct budget budget;
  struct memfile *mf;
  struct bounce *bounce;
  struct populate populate;
  struct evict evict;
  void *evict_mem;
  size_t evict_len;
  struct inode_env env;
  struct reclaim_hooks reclaim_hooks;

  struct evloop *loop;
  struct evloop_work work;
  struct evloop_timer timer;
  bool started;
  bool ending;                  /* the loop's own */
  _Atomic bool draining;

  struct lock table;            /* RANK_TABLE */
  pthread_cond_t changed;       /* an export left OPENING or CLOSING */
  struct list exports;
  struct export *by_id[MAX_IDS];
  unsigned nexports, nfiles;
  struct list directs;          /* mode none */
  uint64_t next_stats_ns;

  pthread_t looker;             /* with revalidate=SECONDS */
  pthread_cond_t look_wake;
  bool looks, stop_looking;     /* the latter under the table's lock */
  struct log_limit limit, urgent;       /* of origins without an inode */
};

struct pagecache_file {
  struct pagecache *pc;
  struct export *ex;            /* NULL in mode none */
  struct direct *direct;        /* in mode none */
  struct pagecache_info info;
  bool (*gone) (void *);
  void *gone_arg;
};

/* Bytes that the origin has not made durable yet. */
static inline uint64_t
export_unsaved (struct export *ex)
{
  struct inode_dirty d = inode_get_dirty (ex->ino);

  return d.dirty + d.writing + d.unstable;
}

extern int public_errno (int err);
extern void report_why (struct pagecache *, const char *name, char *why);
extern void write_stats_file (struct pagecache *);
extern void put_export_locked (struct export *);

/* cache-options.c */
extern int cache_options_resolve (struct pagecache_options *, struct log *);

/* cache-direct.c: a file in mode none.  Ranges and flags are checked; lengths are not 0. */
extern int direct_create (struct pagecache *, struct origin *, const char *name, struct direct **);
extern void direct_close (struct direct *);
extern int direct_do (struct direct *, enum origin_cmd, void *buf, uint64_t len, uint64_t off, unsigned flags);
extern int direct_flush (struct direct *);
extern int direct_extents (struct direct *, uint64_t len, uint64_t off, bool one,
                           int (*fn) (void *, uint64_t, uint64_t, unsigned), void *arg);

/* cache-revalidate.c */
extern void cache_listen (struct inode_env *);
extern int cache_admit (struct export *, uint64_t off, uint64_t len);
extern bool cache_is_old_locked (struct export *);
extern int cache_begin_looking (struct pagecache *);
extern void cache_end_looking (struct pagecache *);

#endif /* PC_CACHE_PRIV_H */
