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

enum export_state { EXPORT_OPENING, EXPORT_READY, EXPORT_CLOSING };

struct export {
  struct pagecache *pc;
  struct list_node node;        /* pc->exports; the table's lock */
  enum export_state state;
  char *name, *canonical;
  struct inode *ino;
  struct origin *origin;
  uint32_t id;
  unsigned files;               /* open handles */
  unsigned refs;                /* reclaim, turn, drain: it may not be freed */
  bool had_turn;                /* others that waited longer go first */
  uint64_t closed_ns;
  _Atomic bool dirty;           /* turn() shall look */
  struct writeback_state ws;
  struct pagecache_info info;
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
  uint64_t next_stats_ns;
};

struct pagecache_file {
  struct pagecache *pc;
  struct export *ex;            /* NULL in mode none */
  struct origin *origin;        /* mode none: its own */
  _Atomic uint32_t carrier;     /* and the connection that took its last write */
  struct pagecache_info info;
  bool read_only;
  bool (*gone) (void *);
  void *gone_arg;
};

extern int public_errno (int err);
extern void report_why (struct pagecache *, const char *name, char *why);
extern void write_stats_file (struct pagecache *);
extern void put_export_locked (struct export *);

#endif /* PC_CACHE_PRIV_H */
