/* SPDX-License-Identifier: BSD-3-Clause
 *
 * descriptors - how many more files may this process open?
 *
 * nbdkit 1.32 does not survive well without any: it leaks the socket of a client for which it
 * has no pipe, and looks for further ones without a pause.  So some are kept free, and who
 * would take of these is refused while that can be done in order.
 *
 * Threads  any.
 * Cost     of asking: one poll of 256 descriptors, where the numbers below the limit are free,
 *          and one more for each 256 that are not.
 */
#ifndef PC_DESCRIPTORS_H
#define PC_DESCRIPTORS_H

#include <stdbool.h>

/* As many as the administrator allows.  For the children of this process it is too late. */
extern void descriptors_raise (void);

/* Would `want' more be had now?  Others may take them in the next moment. */
extern bool descriptors_are_free (unsigned want);

/* How many should stay free: a quarter of the limit, 16 to 1024.  A client takes three before
 * anybody can refuse it, so this is for what may come in the time that a refusal takes; a burst of
 * more than that is nbdkit's alone, and only a higher limit helps.
 */
extern unsigned descriptors_reserve (void);

#endif /* PC_DESCRIPTORS_H */
