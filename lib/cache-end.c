/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cache-end - the last write-back, and what is counted: what an operator is told.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache-priv.h"

/*----------------------------------------------------------------------*/
/* The end: everything to the origin (D15, D27). */

struct name_lost {
  struct pagecache *pc;
  struct inode *ino;
  unsigned n;
  uint64_t bytes;
};

static int
name_lost (void *arg, struct range r)
{
  struct name_lost *l = arg;

  l->bytes += range_len (r);
  if (l->n++ < 100)
    log_error (&l->pc->log, "%s: lost: %" PRIu64 " bytes at %" PRIu64 " never reached the origin",
               inode_name (l->ino), range_len (r), r.start);
  return 0;
}

static int
drain_export (struct pagecache *pc, struct export *ex, uint64_t *lost)
{
  struct name_lost l = { .pc = pc, .ino = ex->ino };
  struct inode_op op;
  int err;

  if (export_unsaved (ex) == 0)
    return 0;
  inode_op_sync (&op, ex->ino, RANGE_ALL, INODE_FUA);
  /* It ends: an origin that is away fails its requests after `reconnect`; one that can be connected to and does not answer,
   * at the first that is lost so long after another was (origin.h, give_up_ns).
   */
  err = inode_op_wait (&op, NULL, NULL);
  if (err == 0)
    return 0;
  inode_dirty_ranges (ex->ino, name_lost, &l);
  if (l.n > 100)
    log_error (&pc->log, "%s: lost: and %u ranges more", inode_name (ex->ino), l.n - 100);
  if (l.n)
    log_error (&pc->log, "%s: lost: %" PRIu64 " bytes in all: %s", inode_name (ex->ino), l.bytes, strerror (err));
  *lost += l.bytes;
  return l.n ? EIO : 0;
}

int
pagecache_drain (struct pagecache *pc, uint64_t *lost_bytes)
{
  struct list_node *n;
  uint64_t lost = 0;
  int err = 0;

  if (lost_bytes)
    *lost_bytes = 0;
  atomic_store (&pc->draining, true);
  /* A client that waits for its export would keep the server from its end for all of `reconnect'. */
  if (pc->factory.cancel)
    pc->factory.cancel (pc->factory.arg);
  if (pc->opt.mode == PAGECACHE_NONE || !pc->started)
    return 0;
  /* From now on a write is at the origin before its reply. */
  atomic_store (&pc->env.mode, INODE_WRITETHROUGH);
  lock_take (&pc->table);
  list_for_each (n, &pc->exports)
    atomic_store (&container_of (n, struct export, node)->dirty, true);
  evloop_post (pc->loop, &pc->work);
  list_for_each (n, &pc->exports) {
    struct export *ex = container_of (n, struct export, node);
    int e;

    if (ex->state != EXPORT_READY)
      continue;
    ex->refs++;                 /* keeps ex, and so the place in the list */
    lock_drop (&pc->table);
    e = drain_export (pc, ex, &lost);
    lock_take (&pc->table);
    put_export_locked (ex);
    if (e)
      err = e;
  }
  lock_drop (&pc->table);
  if (lost_bytes)
    *lost_bytes = lost;
  return err;
}

/*----------------------------------------------------------------------*/
/* Counters. */

/* What the origin calls it, else what it was asked for by: by a client, or by the parameters. */
static const char *
stats_name (const struct export *ex)
{
  if (ex->canonical && ex->canonical[0])
    return ex->canonical;
  if (ex->name[0])
    return ex->name;
  return ex->origin->export_name && ex->origin->export_name[0] ? ex->origin->export_name : "default";
}

static void
say (void (*fn) (void *, const char *), void *arg, const char *name, const char *what, uint64_t value)
{
  struct log_name quoted;       /* a name is its origin's or a client's: one line stays one line (S-3) */
  char line[256];

  snprintf (line, sizeof line, "%s.%s=%" PRIu64, log_quote_string (&quoted, name), what, value);
  fn (arg, line);
}

int
pagecache_stats (struct pagecache *pc, void (*fn) (void *, const char *), void *arg)
{
  struct list_node *n;

  if (pc->opt.mode == PAGECACHE_NONE)
    return 0;
  lock_take (&pc->table);
  list_for_each (n, &pc->exports) {
    struct export *ex = container_of (n, struct export, node);
    struct origin_stats os = { 0 };
    struct inode_stats *s;
    struct inode_dirty d;
    const char *name;

    if (ex->state != EXPORT_READY)
      continue;
    ex->refs++;
    lock_drop (&pc->table);
    name = stats_name (ex);
    s = inode_get_stats (ex->ino);
    d = inode_get_dirty (ex->ino);
    origin_get_stats (ex->origin, &os);
#define X(field, text) say (fn, arg, name, #field, atomic_load_explicit (&s->field, memory_order_relaxed));
    INODE_STATS (X)
#undef X
    say (fn, arg, name, "throttled_ms", atomic_load_explicit (&s->throttled_ns, memory_order_relaxed) / NSEC_PER_MSEC);
    say (fn, arg, name, "dirty_bytes", d.dirty);
    say (fn, arg, name, "writing_bytes", d.writing);
    say (fn, arg, name, "unstable_bytes", d.unstable);
    say (fn, arg, name, "origin_reads", os.reads);
    say (fn, arg, name, "origin_writes", os.writes);
    say (fn, arg, name, "origin_flushes", os.flushes);
    say (fn, arg, name, "reconnects", os.reconnects);
    /* Of the whole cache, in each export's lines: who reads those of one export finds them. */
    say (fn, arg, name, "frames", memfile_in_use (pc->mf));
    say (fn, arg, name, "metadata_bytes", atomic_load (&pc->budget.by_class[BUDGET_META])
         + atomic_load (&pc->budget.by_class[BUDGET_FIXED]));
    lock_take (&pc->table);
    put_export_locked (ex);
  }
  lock_drop (&pc->table);
  return 0;
}

static void
stats_line (void *arg, const char *line)
{
  fprintf (arg, "%s\n", line);
}

/* Written beside and renamed, so that a reader never sees half of it. */
void
write_stats_file (struct pagecache *pc)
{
  const char *path = pc->opt.stats_file;
  char tmp[4096];
  FILE *f;

  if (strcmp (path, "-") == 0) {
    pagecache_stats (pc, stats_line, stderr);
    return;
  }
  if (snprintf (tmp, sizeof tmp, "%s.new", path) >= (int) sizeof tmp)
    return;
  f = fopen (tmp, "we");
  if (!f) {
    log_warning (&pc->log, "cache-stats=%s: %s", path, strerror (errno));
    return;
  }
  pagecache_stats (pc, stats_line, f);
  if (fclose (f) != 0 || rename (tmp, path) != 0)
    log_warning (&pc->log, "cache-stats=%s: %s", path, strerror (errno));
}
