/* SPDX-License-Identifier: BSD-3-Clause
 *
 * fuzz-ops - the simulation (tests/sim.c) with bytes in place of dice: which operation, where, and what happens next is
 * read from them, and the model judges as ever.
 *
 * Four bytes describe the world, the rest is the story; it ends with the bytes.
 */
#include <config.h>

#include "test.h"

#include "fuzz.h"
#include "sim.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t len)
{
  struct tape t = { data, len };
  unsigned can = (unsigned) tape_take (&t, 1), wrong = (unsigned) tape_take (&t, 1);
  unsigned kind = (unsigned) tape_take (&t, 1), size = (unsigned) tape_take (&t, 1);
  struct sim_options o = {
    .seed = 1, .ndisks = kind & 128 ? 2 : 1, .nframes = 24 + size % 16, .mode = (enum inode_mode) (kind % 3),
    .block_min = kind & 4 ? 4096 : kind & 8 ? 512 : 1, .readahead = kind & 16 ? 32768 : 0, .steps = 3000, .check_every = 31,
    .fua = can & 1, .zero = can & 2, .trim = can & 4, .no_flush = can & 8,
    .errors = wrong & 1, .losses = wrong & 2, .aways = wrong & 4, .cancels = wrong & 8,
    .tape = t.at, .tape_len = t.left,
  };

  o.size = (32768 + size * 256) / o.block_min * o.block_min;
  if (o.block_min == 1)
    o.size += size;
  if (o.no_flush)
    o.fua = false;
  if (o.mode == INODE_UNSAFE) {
    o.drain = true;
    o.losses = o.aways = o.cancels = false;
  }
  sim_run (&o);
  return 0;
}
