/* SPDX-License-Identifier: BSD-3-Clause
 *
 * sim - one deterministic run of the core (sim.c).  Aborts, with the seed, at the first violation.
 */
#ifndef PC_SIM_H
#define PC_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "inode.h"

struct sim_options {
  uint64_t seed;
  uint64_t size;                /* of each export */
  unsigned ndisks;              /* 0: one */
  uint32_t nframes;
  uint64_t spare;               /* budget beside the frames; 0: plenty */
  uint32_t block_min;
  uint64_t readahead;
  enum inode_mode mode;
  unsigned steps, check_every;
  bool no_flush, fua, zero, trim;       /* what the origin can do */
  bool errors, losses, aways, cancels, nomem;   /* what goes wrong */
  bool maps;                    /* an address space loads and stores, too */
  bool resizes;                 /* the origin becomes shorter, and what it was again */
  bool few;                     /* operations are few and often go over what was written last; the origin is not empty */
  uint32_t seq0;                /* the first generation; 0: 1 */
  bool drain;                   /* the end is a drain and not a flush */
  bool big_ops, trace, report;
  const uint8_t *tape;          /* decides in place of the seed; the run ends with it */
  size_t tape_len;
};

extern void sim_run (const struct sim_options *);

#endif /* PC_SIM_H */
