/* SPDX-License-Identifier: BSD-3-Clause
 *
 * test - what every cmocka test includes first.
 *
 * Answers: in which order do config.h and cmocka's prerequisites come?
 *
 * assert() is live in tests whatever the build says.  cmocka's own macros
 * count failures per test; assert() of the code under test aborts the program,
 * which the harness reports as a failure too.
 */
#ifndef PC_TEST_H
#define PC_TEST_H

#include <config.h>

#undef NDEBUG

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "compiler.h"

/* For those who do not need the state. */
#define TEST(name) static void name (void **state PC_UNUSED)

#endif /* PC_TEST_H */
