/* SPDX-License-Identifier: BSD-3-Clause
 *
 * lock - mutexes and reader-writer locks that know their place.
 *
 * A thread takes a lock only if its rank is above every rank it holds, so two
 * locks of one rank are never held together and no cycle can form.  The enum
 * below is the order; with PC_DEBUG each take and drop checks it and aborts
 * with both names.  Without PC_DEBUG a lock costs what pthreads costs.
 *
 *   rank            guards                                      held during
 *   RANK_TABLE      which inodes exist, opens in progress       look-up
 *   RANK_ATTR       size and attributes of one inode            a few stores, size changes
 *   RANK_MM_MAP     an address space's list of mappings         look-up
 *   RANK_MAPS       who maps one inode                          set arithmetic
 *   RANK_MM_ACTIVE  installed translations of an address space  set arithmetic
 *   RANK_STRIPE     one of an inode's stripes (D6)              set arithmetic, one page copy
 *                                                               (readers: at most 64 KiB)
 *   RANK_ZEROS      zero and trim ranges of one inode           set arithmetic
 *   RANK_SYNC       generations, flush tokens, write requests   list surgery
 *   RANK_RA         read-ahead streams of one inode             a table look-up
 *   RANK_EVICT      the eviction queues                         one batch
 *   RANK_MEMFILE    free frames, budget, who waits for memory   list surgery
 *   RANK_ORIGIN     an origin's queues and connections          list surgery
 *   RANK_LOOP       work posted to the event loop               list surgery
 *   RANK_WAIT       one waiting thread's flag                   a store
 *   RANK_LOG        the log sink                                one write
 *
 * No lock is held while an origin is called, while a completion is called or
 * while memory is asked of the system: lock_assert_none_held().
 *
 * Source   D6, D21; architecture, section 4; MM-3, CIN-1.
 */
#ifndef PC_LOCK_H
#define PC_LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum lock_rank {
  RANK_NONE,
  RANK_TABLE,
  RANK_ATTR,
  RANK_MM_MAP,
  RANK_MAPS,
  RANK_MM_ACTIVE,
  RANK_STRIPE,
  RANK_ZEROS,
  RANK_SYNC,
  RANK_RA,
  RANK_EVICT,
  RANK_MEMFILE,
  RANK_ORIGIN,
  RANK_LOOP,
  RANK_WAIT,
  RANK_LOG,
};

struct lock {
  pthread_mutex_t mutex;
  enum lock_rank rank;
};

struct rwlock {
  pthread_rwlock_t rw;
  enum lock_rank rank;
  _Atomic uint32_t tally;       /* free for the lock's owner: what those count who take it, in a line that they write anyway */
};

#ifdef PC_DEBUG
extern void lock_rank_take (enum lock_rank rank);
extern void lock_rank_drop (enum lock_rank rank);
extern bool lock_rank_held (enum lock_rank rank);
extern void lock_assert_none_held (void);
#define lock_assert_held(l) lock_assert_rank_ ((l)->rank)
extern void lock_assert_rank_ (enum lock_rank rank);
#else
#define lock_rank_take(r) ((void) (r))
#define lock_rank_drop(r) ((void) (r))
#define lock_assert_none_held() ((void) 0)
#define lock_assert_held(l) ((void) (l))
#endif

static inline void
lock_init (struct lock *l, enum lock_rank rank)
{
  pthread_mutex_init (&l->mutex, NULL);
  l->rank = rank;
}

static inline void
lock_release (struct lock *l)
{
  pthread_mutex_destroy (&l->mutex);
}

static inline void
lock_take (struct lock *l)
{
  lock_rank_take (l->rank);
  pthread_mutex_lock (&l->mutex);
}

static inline void
lock_drop (struct lock *l)
{
  pthread_mutex_unlock (&l->mutex);
  lock_rank_drop (l->rank);
}

static inline void
rwlock_init (struct rwlock *l, enum lock_rank rank)
{
  pthread_rwlock_init (&l->rw, NULL);
  l->rank = rank;
  atomic_init (&l->tally, 0);
}

static inline void
rwlock_release (struct rwlock *l)
{
  pthread_rwlock_destroy (&l->rw);
}

static inline void
rwlock_take_shared (struct rwlock *l)
{
  lock_rank_take (l->rank);
  pthread_rwlock_rdlock (&l->rw);
}

static inline void
rwlock_take (struct rwlock *l)
{
  lock_rank_take (l->rank);
  pthread_rwlock_wrlock (&l->rw);
}

static inline void
rwlock_drop (struct rwlock *l)
{
  pthread_rwlock_unlock (&l->rw);
  lock_rank_drop (l->rank);
}

/* One more of the same rank as the one held last.  For who takes all locks of a kind in their one order, where nobody
 * else takes two; the first is taken, and the last dropped, with the functions above.
 */
static inline void
rwlock_take_next (struct rwlock *l)
{
  lock_assert_held (l);
  pthread_rwlock_wrlock (&l->rw);
}

static inline void
rwlock_drop_next (struct rwlock *l)
{
  lock_assert_held (l);
  pthread_rwlock_unlock (&l->rw);
}

#endif /* PC_LOCK_H */
