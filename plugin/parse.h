/* SPDX-License-Identifier: BSD-3-Clause
 *
 * parse - text into numbers, strictly.
 *
 * Answers: what does this value say, and if it says nothing, what is wrong with it?
 *
 * nbdkit's own parsers report without the parameter's name (K-10) and some of them
 * take what looks like a number; these give the reason to the caller and take nothing
 * before, behind or instead of what the manual promises.
 *
 * Units    bytes; nanoseconds.
 * Errors   NULL, or the reason as constant text: *ret is then unchanged.
 */
#ifndef PC_PARSE_H
#define PC_PARSE_H

#include <stdbool.h>
#include <stdint.h>

/* Decimal digits and perhaps one letter: b, k, m, g, t, p, e (powers of 1024) or s
 * (sectors of 512), as nbdkit's SIZE.
 */
extern const char *parse_size (const char *, uint64_t *ret);

/* "N%", N 0 to 100. */
extern const char *parse_percent (const char *, unsigned *ret);

/* Decimal digits, perhaps a point and up to nine more. */
extern const char *parse_seconds (const char *, uint64_t *ret_ns);

/* Decimal digits. */
extern const char *parse_number (const char *, uint64_t *ret);

/* The words that nbdkit takes for yes and no, in any case. */
extern const char *parse_bool (const char *, bool *ret);

#endif /* PC_PARSE_H */
