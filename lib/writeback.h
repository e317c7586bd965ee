/* SPDX-License-Identifier: BSD-3-Clause
 *
 * writeback - what is cleaned without being asked for, and when?
 *
 * For each inode, at each turn (after something became dirty, after an answer, at a tick):
 *
 *   something is short of frames, or a writer is blocked      everything, and flush what is UNSTABLE
 *   more is dirty than dirty_background                       everything, down to 0.9 of it
 *   a generation is older than dirty_expire                   up to that generation
 *   UNSTABLE is more than dirty_background, or older than     a flush (D3)
 *     dirty_expire
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
