/* SPDX-License-Identifier: BSD-3-Clause
 *
 * log - one line at a time to whoever listens.
 *
 * Answers: how does a module say something to the operator, without knowing who
 * shows it, without saying it a thousand times, and without a peer's bytes
 * getting into it?
 *
 * A line says who, where, what, and what follows: "vm1 [1048576, 1114112): the origin
 * gave EIO; 3 readers told".  No data of an export and no key is ever in one (D30).
 *
 *   ERROR    what a user must act on
 *   WARNING  what a user will want to have known
 *   INFO     what happened and ended well
 *   DEBUG    steps; one switch for each module, `-D pagecache.MODULE=1' with nbdkit
 *
 * Units    nanoseconds for limits.
 * Threads  any, with any lock held below RANK_LOG.
 * Errors   none: what cannot be said is dropped.
 * Cost     a debug line that is switched off is one load and one branch.
 */
#ifndef PC_LOG_H
#define PC_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clock.h"
#include "compiler.h"
#include "lock.h"

enum log_level {                /* the numbers of PAGECACHE_LOG_* */
  LOG_LEVEL_DEBUG,
  LOG_LEVEL_INFO,
  LOG_LEVEL_WARNING,
  LOG_LEVEL_ERROR,
};

/* Longer lines are cut and end in "...". */
#define LOG_LINE_MAX 1024

struct log {
  void (*fn) (void *arg, int level, const char *line);
  void *arg;
  struct clock *clock;
  struct lock lock;             /* RANK_LOG: guards every struct log_limit used with this log */
};

/* fn NULL: standard error.  The clock is for limits only and must outlive the log. */
extern void log_init (struct log *, void (*fn) (void *arg, int level, const char *line),
                      void *arg, struct clock *);
extern void log_release (struct log *);

/* Bytes of the line below 0x20, and 0x7f, become '?': one call, one line. */
extern void log_message (struct log *, enum log_level, const char *fmt, ...) PC_PRINTF (3, 4);

#define log_error(log, ...) log_message (log, LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(log, ...) log_message (log, LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(log, ...) log_message (log, LOG_LEVEL_INFO, __VA_ARGS__)

/* Messages that a peer can cause as often as it likes (S-3) name a limit: LOG_LIMIT_BURST
 * of them are shown in LOG_LIMIT_NS, the others counted; the first one after that
 * is preceded by their number.  All zeros is a fresh limit.
 */
#define LOG_LIMIT_BURST 5
#define LOG_LIMIT_NS (10 * NSEC_PER_SEC)

struct log_limit {
  uint64_t since_ns;
  unsigned shown, hidden;
};

extern void log_limited (struct log *, struct log_limit *, enum log_level, const char *fmt, ...)
  PC_PRINTF (4, 5);

/* Somebody else's name, fit to be shown: printable ASCII without quote and backslash
 * stays, other bytes become \xNN, and what is too long ends in "...".
 */
#define LOG_NAME_MAX 160

struct log_name {
  char text[LOG_NAME_MAX];
};

extern const char *log_quote (struct log_name *, const char *name, size_t len);
extern const char *log_quote_string (struct log_name *, const char *name);

/* The modules that have a switch; also the list in the manual. */
#define LOG_MODULES(X) \
  X (cache) \
  X (dirtyset) \
  X (evict) \
  X (evloop) \
  X (inflight) \
  X (inode) \
  X (memfile) \
  X (origin) \
  X (plugin) \
  X (readahead) \
  X (reclaim) \
  X (revalidate) \
  X (throttle) \
  X (writeback)

#define LOG_DECLARE_SWITCH(module) extern int pagecache_debug_##module;
LOG_MODULES (LOG_DECLARE_SWITCH)
#undef LOG_DECLARE_SWITCH

/* log_debug (inode, log, "%s: fill of ...", ...) */
#define log_debug(module, log, ...)                                           \
  do {                                                                        \
    if (PC_UNLIKELY (pagecache_debug_##module))                               \
      log_message (log, LOG_LEVEL_DEBUG, #module ": " __VA_ARGS__);           \
  } while (0)

#endif /* PC_LOG_H */
