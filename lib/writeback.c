/* SPDX-License-Identifier: BSD-3-Clause
 *
 * writeback - the table of writeback.h, one inode at a time.
 */
#include <config.h>

#include "inode-attr.h"
#include "inode-map.h"
#include "writeback.h"

#define IDLE_NS NSEC_PER_SEC
#define GEN_NS (NSEC_PER_SEC / 2)       /* a generation covers at most this much of time */

static void
earlier (uint64_t *at, uint64_t candidate)
{
  if (*at == 0 || candidate < *at)
    *at = candidate;
}

uint64_t
writeback_turn (struct inode *ino, struct writeback_state *ws, bool starved, bool drain)
{
  struct inode_env *env = inode_env (ino);
  uint64_t now = clock_now (env->clock), at = 0, retry, since;
  struct inode_dirty d;
  struct inode_marks marks;
  uint64_t writes;
  bool idle, all, expired, blocked;
  uint32_t seq = 0;

  /* Before looking: what comes behind the look is told again. */
  inode_take_notice (ino);
  if (!inode_settle_size (ino))
    earlier (&at, now + NSEC_PER_SEC / 10);
  d = inode_get_dirty (ino);
  writes = inode_writes_seen (ino);
  inode_pump (ino);
  if (d.dirty + d.writing + d.unstable == 0) {
    ws->seen_written = writes;
    ws->quiet_since_ns = now;
    return at;
  }
  retry = inode_retry_at (ino);
  if (retry > now) {
    earlier (&at, retry);
    return at;
  }

  if (writes != ws->seen_written) {
    ws->seen_written = writes;
    ws->quiet_since_ns = now;
  }
  idle = now - ws->quiet_since_ns >= IDLE_NS;
  marks = inode_get_marks (ino);
  blocked = inode_wants_cleaning (ino);
  all = starved || drain || idle || blocked;
  inode_seq_tick (ino, now > GEN_NS ? now - GEN_NS : 0);
  if (d.dirty) {
    expired = now > env->dirty_expire_ns && inode_seq_older (ino, now - env->dirty_expire_ns, &seq);
    /* What is mapped writable is taken back first (CON-4), but not for being much alone: it would come again at once. */
    if (all || expired)
      inode_unkeep (ino, all ? inode_seq_now (ino) : seq);
    if (starved || drain || idle)
      inode_write_some (ino, inode_seq_now (ino), UINT32_MAX);
    else {
      if (expired)
        inode_write_some (ino, seq, UINT32_MAX);
      if (blocked || marks.clean)
        inode_write_behind (ino, inode_seq_now (ino), !blocked);
    }
  }

  since = inode_unstable_since (ino);
  if (d.unstable && since) {
    /* What was written may as well all be covered by the same flush: wait for the answers, unless a frame is needed. */
    bool settled = d.writing == 0 && d.dirty == 0;

    if (starved || ((drain || idle) && settled)
        || (blocked && (d.writing == 0 || d.unstable >= marks.flush_short))
        || d.unstable > marks.flush_at
        || (now > since && now - since >= env->dirty_expire_ns))
      inode_flush_origin (ino);
    else
      earlier (&at, since + env->dirty_expire_ns);
  }
  earlier (&at, now + (idle ? IDLE_NS : IDLE_NS / 4));
  return at;
}
