/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdx-model - what a reader of the export may see, and what must be durable.
 *
 * Answers: given when each operation was sent and when its reply came, is this
 * the content of a read, of a block status, of the durable image, that some
 * order of the operations explains?
 *
 * The export is cut into atoms (4 KiB, D6), each a register of its own: every
 * operation acts on its part of an atom at one moment between its sending and
 * its reply.  An atom is a list of segments of bytes with the same history,
 * and a segment a list of candidates: operations whose bytes may be there.  A
 * candidate dies when another is known to come after it:
 *
 *   - an operation that was sent after the candidate's reply, and has been
 *     answered with success;
 *   - one whose bytes were read, where the candidate's reply had come before
 *     that one, or that read, was sent.  The order of two operations holds for
 *     the whole atom.
 *
 * A read that was sent after its death must not see it; a flush that was sent
 * after the reply of its killer must not leave it in the durable image.  A
 * read of one atom that mixes operations must be explained by one order.
 *
 * Failed operations may have happened, byte by byte; they kill nobody.  After
 * a trim a word holds zeros or what any write ever put there.
 *
 * Units    bytes from the start of the export; instants are a count of events.
 * Threads  one.
 * Errors   a violation is described on standard output, and false returned.
 * Cost     32 bytes an operation, about 130 an atom that was ever touched and
 *          4 for each write to it.
 *
 * Invariants, run by model_check ():
 *   (1) the segments of an atom tile it, none is empty
 *   (2) every segment has a candidate that is not dead
 *   (3) no operation is twice a candidate of a segment
 */
#ifndef PC_NBDX_MODEL_H
#define PC_NBDX_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum op_kind {
  OP_INITIAL, OP_READ, OP_WRITE, OP_ZERO, OP_TRIM, OP_FLUSH, OP_CACHE,
  OP_STATUS,
  OP_KINDS
};

enum op_state { OP_IN_FLIGHT, OP_OK, OP_FAILED, OP_VOID };

#define MODEL_ATOM_MAX 65536

#define OP_FUA 1
#define OP_NO_HOLE 2
#define OP_FAST 4

struct op {
  uint64_t inv, ret;            /* ret UINT64_MAX: no reply yet */
  uint64_t off;
  uint32_t len;
  uint8_t kind, conn, flags, state;
};

struct atom;

struct model {
  /* Fixed at creation. */
  uint64_t key;
  uint64_t base, end;           /* the window that operations touch */
  uint32_t atom_size;
  bool torn;                    /* atoms are not atomic; check bytes alone */
  bool stamped;                 /* the initial content is op 0's stamps */

  uint64_t clock;
  struct op *ops;
  size_t nops, ops_alloc;
  uint32_t *in_flight;          /* op numbers, ascending */
  size_t nin_flight, in_flight_alloc;
  struct atom **atoms;          /* one for each of the window's */
  uint64_t natoms;
  uint64_t *unsettled;          /* atoms to be compared after the next flush */
  size_t nunsettled, unsettled_alloc;
  uint64_t compared;            /* bytes of the durable image */
};

extern struct model *model_create (uint64_t seed, uint64_t base, uint64_t end,
                                   uint32_t atom_size);
extern void model_free (struct model *m);

/* Number of the new operation. */
extern uint32_t model_issue (struct model *m, enum op_kind kind, unsigned conn,
                             uint64_t off, uint32_t len, unsigned flags);
extern void model_fill (const struct model *m, uint32_t op, void *buf);

/* The reply came: with success, with an error, or (void) with one that says
 * that nothing was done.
 */
extern void model_reply (struct model *m, uint32_t op, enum op_state state);

extern bool model_check_read (struct model *m, uint32_t op, const void *buf);
/* hole, zero: the flags of block status for [off, off+len). */
extern bool model_check_status (struct model *m, uint32_t op, uint64_t off,
                                uint64_t len, bool hole, bool zero);
/* image: the whole durable image.  After the reply of a flush: everything
 * that may have changed; all: every byte of the window.
 */
extern bool model_check_flush (struct model *m, uint32_t op,
                               const uint8_t *image, bool all);
extern bool model_check_fua (struct model *m, uint32_t op,
                             const uint8_t *image);

extern void model_check (const struct model *m);
extern void model_print_op (const struct model *m, uint32_t op);

#endif
