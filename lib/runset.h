/* SPDX-License-Identifier: BSD-3-Clause
 *
 * runset - a set of small numbers from which runs of neighbours are taken.
 *
 * Answers: give me n consecutive numbers of this set, or the longest run you have.
 *
 * One bit a number, 64 numbers a group.  Every group that is not empty is on the list
 * of its class: the power of two below its longest run (1, 2, 4 ... 64).  A run of n is
 * found by looking at seven list heads and one word; runs of more than one group are
 * found by walking to full neighbours.  A run that lies across two groups without
 * filling one is seen by neither: it is handed out as two, at worst.
 *
 * Units    numbers 0 .. size - 1 (frames); ranges are a start and a length.
 * Threads  none; the owner guards it (memfile.h).
 * Errors   0 or an errno value.
 * Cost     add, remove: O(groups touched); take: O(1) up to 64, O(n / 64) above;
 *          a quarter of a byte for each number.
 *
 * Invariants, run by runset_check():
 *   (1) count == number of set bits; no bit at or above size
 *   (2) a group is on the list of the class of its longest run, an empty group on none
 */
#ifndef PC_RUNSET_H
#define PC_RUNSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RUNSET_GROUP 64
#define RUNSET_NR_CLASSES 8     /* 0: empty, not listed; c: longest run in [2^(c-1), 2^c) */

struct runset_link {
  uint32_t prev, next;
};

struct runset {
  uint32_t size, ngroups, count;
  uint64_t *word;               /* ngroups of them; bit set: the number is in the set */
  struct runset_link *link;
  uint32_t head[RUNSET_NR_CLASSES];
};

extern size_t runset_footprint (uint32_t size);         /* bytes that init will allocate */
extern int runset_init (struct runset *, uint32_t size);        /* empty */
extern void runset_release (struct runset *);

/* None, or all, of [start, start + len) must be in the set. */
extern void runset_add (struct runset *, uint32_t start, uint32_t len);
extern void runset_remove (struct runset *, uint32_t start, uint32_t len);

static inline bool
runset_has (const struct runset *s, uint32_t i)
{
  return s->word[i / RUNSET_GROUP] >> (i % RUNSET_GROUP) & 1;
}

/* Remove and return a run of at most want numbers: exactly want where it can be found
 * in O(1), from the most broken group that has it; else the longest near at hand.
 * Returns its length, or 0 (nothing removed) if that would be less than min.
 */
extern uint32_t runset_take (struct runset *, uint32_t want, uint32_t min, uint32_t *start);

extern void runset_check (const struct runset *);       /* aborts */

#endif /* PC_RUNSET_H */
