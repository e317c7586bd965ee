/* SPDX-License-Identifier: BSD-3-Clause
 *
 * writeback - what is cleaned without being asked for, and when?
 *
 * For each inode, at each turn (after something became dirty, after an answer, at a tick):
 *
 *   something is short of frames                              everything, and flush what is UNSTABLE
 *   a writer is blocked                                       everything but runs that still grow; a flush when a quarter
 *                                                             of its bound is UNSTABLE, or nothing else is under way
 *   more is dirty than the background mark of throttle.h      everything but runs that still grow (inode_write_behind),
 *                                                             be it only UNSTABLE that passes the mark
 *   a generation is older than dirty_expire                   up to that generation
 *   UNSTABLE is more than throttle_flush_mark, or older       a flush (D3; the mark is F - B and not B, for a flush goes to
 *     than dirty_expire                                       each connection that wrote)
 *   nothing was written for a second                          everything, and one flush (D3)
 *   draining                                                  everything, and flush
 *
 * After an error an inode rests until inode_retry_at; a client's flush does not wait for that.
 *
 * Threads  writeback_turn: one at a time (the loop, or a simulator); no lock held.
 */
#ifndef PC_WRITEBACK_H
#define PC_WRITEBACK_H

#include "inode.h"

struct writeback_state {        /* one an inode, kept by the owner of both */
  uint64_t seen_written;        /* bytes dirtied when last looked at */
  uint64_t quiet_since_ns;
};

/* Returns when to come again at the latest (an instant), 0: when something happens. */
extern uint64_t writeback_turn (struct inode *, struct writeback_state *, bool starved, bool drain);

#endif /* PC_WRITEBACK_H */
