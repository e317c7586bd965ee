/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cache-revalidate - is the origin still what it was, and what follows when it is not (D14, D18)?
 *
 * There are two ways to learn that.  The origin tells: a connection was lost, and the next one is not
 * like it.  Or we look, with a connection of its own that is closed at once: when the first file of an
 * export is opened, and every `revalidate_ns' where that is asked for.  NBD shows sizes, flags and
 * names; bytes that somebody else changed it cannot show.
 *
 *   difference seen                  files open                        none open
 *   told: size                       beyond the smaller end: EIO;      clean: made anew
 *                                    a larger one is not taken         dirty: as with files
 *   told: anything else              everything EIO until it is right  the same
 *   looked: anything                 clean pages go, once, and not     the same
 *                                    again while it differs in the
 *                                    same way; a line in the log
 *
 * In each case clean pages are dropped, because they may be another disk's (S-27), and dirty bytes stay.
 *
 * Threads  news come on the loop; a look is taken by the thread that opens, or by the one thread of
 *          this file.  A look lasts about a second at most, and as long as the look-up of a host's name, which
 *          nothing cuts short.  After one that led nowhere it is not taken
 *          again for RETRY_NS: some servers talk to one client at a time, and we are that one.
 * Locks    the table, not while looking.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cache-priv.h"

#define RETRY_NS (60 * NSEC_PER_SEC)

/*----------------------------------------------------------------------*/
/* The origin tells: on the loop. */

/* by_id[] of an inode that calls us does not change: its origin is open. */
static struct export *
export_of (struct pagecache *pc, struct inode *ino)
{
  return pc->by_id[inode_id (ino)];
}

static void
news_failed (void *arg, struct inode *ino, int err, const char *why)
{
  struct export *ex = export_of (arg, ino);

  (void) why;                   /* a notice says it */
  if (err) {
    atomic_store (&ex->stale, true);
    atomic_store (&ex->changed_err, err);
    inode_invalidate (ino, RANGE_ALL);
    return;
  }
  atomic_store (&ex->stale, false);
  atomic_store (&ex->changed_err, 0);
}

static void
news_resized (void *arg, struct inode *ino, uint64_t end)
{
  struct export *ex = export_of (arg, ino);

  atomic_store (&ex->stale, true);
  atomic_store (&ex->end, end);
  inode_invalidate (ino, RANGE_ALL);
}

/* Connections that come and go fill a limit soon; what a user must act on has one of its own. */
static void
news_notice (void *arg, struct inode *ino, int level, const char *line)
{
  struct pagecache *pc = arg;
  struct export *ex = export_of (pc, ino);

  log_limited (&pc->log, level == LOG_LEVEL_ERROR ? &ex->urgent : &ex->limit, level, "%s", line);
}

void
cache_listen (struct inode_env *env)
{
  env->news = (struct inode_news) { .failed = news_failed, .resized = news_resized, .notice = news_notice };
}

/* May a request for these bytes be carried out?  Len 0 at 0: one without a range. */
int
cache_admit (struct export *ex, uint64_t off, uint64_t len)
{
  int err = atomic_load_explicit (&ex->changed_err, memory_order_relaxed);

  if (PC_UNLIKELY (err))
    return err;
  /* Beyond the size that clients were told is not our business. */
  if (PC_UNLIKELY (off + len > atomic_load_explicit (&ex->end, memory_order_relaxed)
                   && off + len <= ex->info.size))
    return EIO;
  return 0;
}

/*----------------------------------------------------------------------*/
/* We look. */

static bool
may_look (struct export *ex)
{
  struct pagecache *pc = ex->pc;

  /* Where no connection stands the next one is compared anyway, and nobody should wait for it. */
  return pc->opt.revalidate != PAGECACHE_REVALIDATE_NEVER && pc->factory.look
         && clock_now (pc->clock) >= atomic_load (&ex->look_after_ns) && origin_is_up (ex->origin);
}

/* Is the origin another one?  No lock is held.  True: it is, and nothing of ex is worth keeping. */
static bool
look (struct export *ex, bool opening)
{
  struct pagecache *pc = ex->pc;
  char *differs = NULL;
  bool all = false;
  int err;

  err = pc->factory.look (pc->factory.arg, ex->configured ? NULL : ex->name, ex->origin, ex->canonical, &differs);
  log_debug (revalidate, &pc->log, "%s: looked: %s", ex->origin->name,
             err ? strerror (err) : differs ? differs : "as it was");
  atomic_store (&ex->look_after_ns, err ? clock_now (pc->clock) + RETRY_NS : 0);
  if (err)
    return false;
  if (!differs) {
    free (ex->differs);
    ex->differs = NULL;
  }
  else if (opening && export_unsaved (ex) == 0) {
    log_warning (&pc->log, "%s: the origin is not what it was: %s; what was cached is dropped", ex->origin->name,
                 differs);
    all = true;
  }
  /* One that grew differs at every look until nobody has it open. */
  else if (!ex->differs || strcmp (ex->differs, differs) != 0) {
    log_error (&pc->log, "%s: the origin is not what it was: %s; unchanged blocks are dropped, %" PRIu64
               " bytes that clients wrote are kept", ex->origin->name, differs, export_unsaved (ex));
    inode_invalidate (ex->ino, RANGE_ALL);
    free (ex->differs);
    ex->differs = differs;
    differs = NULL;
  }
  free (differs);
  return all;
}

/* The table is held, and is let go meanwhile; ex is READY and stays.  Nobody else looks at it then, and
 * nobody opens it. */
static bool
look_locked (struct export *ex, bool opening)
{
  struct pagecache *pc = ex->pc;
  bool ret;

  ex->looking = true;
  ex->refs++;
  lock_drop (&pc->table);
  ret = look (ex, opening);
  lock_take (&pc->table);
  ex->looking = false;
  put_export_locked (ex);
  pthread_cond_broadcast (&pc->changed);
  return ret;
}

/* The first file of ex is about to be opened; the table is held, and may be let go meanwhile.  True: ex should be
 * made anew. */
bool
cache_is_old_locked (struct export *ex)
{
  assert (ex->files == 0);
  if (may_look (ex) && look_locked (ex, true))
    return true;
  return atomic_load (&ex->stale) && export_unsaved (ex) == 0;
}

/* Exports with files, one after the other.  The table is held, and is let go meanwhile. */
static void
look_at_all_locked (struct pagecache *pc)
{
  struct list_node *n;

  list_for_each (n, &pc->exports) {
    struct export *ex = container_of (n, struct export, node);

    if (ex->state != EXPORT_READY || ex->files == 0 || ex->looking || !may_look (ex))
      continue;
    ex->refs++;                 /* keeps ex, and so the place in the list */
    look_locked (ex, false);
    put_export_locked (ex);
    if (pc->stop_looking)
      return;
  }
}

static void *
look_now_and_then (void *arg)
{
  struct pagecache *pc = arg;

  lock_take (&pc->table);
  while (!pc->stop_looking) {
    uint64_t at = clock_now (pc->clock) + pc->opt.revalidate_ns;
    struct timespec until = { .tv_sec = at / NSEC_PER_SEC, .tv_nsec = at % NSEC_PER_SEC };

    if (pthread_cond_timedwait (&pc->look_wake, &pc->table.mutex, &until) == ETIMEDOUT && !pc->stop_looking)
      look_at_all_locked (pc);
  }
  lock_drop (&pc->table);
  return NULL;
}

int
cache_begin_looking (struct pagecache *pc)
{
  pthread_condattr_t attr;
  sigset_t all, before;
  int err;

  if (pc->opt.revalidate != PAGECACHE_REVALIDATE_INTERVAL || pc->opt.mode == PAGECACHE_NONE || !pc->factory.look)
    return 0;
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&pc->look_wake, &attr);
  pthread_condattr_destroy (&attr);
  sigfillset (&all);            /* signals are for the program's own threads (K-13) */
  pthread_sigmask (SIG_SETMASK, &all, &before);
  err = pthread_create (&pc->looker, NULL, look_now_and_then, pc);
  pthread_sigmask (SIG_SETMASK, &before, NULL);
  if (err)
    pthread_cond_destroy (&pc->look_wake);
  pc->looks = !err;
  return err;
}

void
cache_end_looking (struct pagecache *pc)
{
  if (!pc->looks)
    return;
  lock_take (&pc->table);
  pc->stop_looking = true;
  pthread_cond_signal (&pc->look_wake);
  lock_drop (&pc->table);
  pthread_join (pc->looker, NULL);
  pthread_cond_destroy (&pc->look_wake);
  pc->looks = false;
}
