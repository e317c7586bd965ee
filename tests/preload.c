/* SPDX-License-Identifier: BSD-3-Clause
 *
 * preload - loaded into servers behind a checker's library (tests/launch).
 *
 * Seen with gcc 12's libasan and libtsan and glibc 2.36: when the checker is preloaded,
 * nbdkit, also with nothing but its own file plugin, leaves glibc's lock on locales one
 * unlock too far.  The first message with a text for an errno then unbalances it for
 * good, and the exit hangs when a destructor in libp11-kit gives its locale back.  That is all
 * that anyone frees a locale for in this process, so nothing is freed.
 */
#include <config.h>

#include <locale.h>

#include "compiler.h"

extern void freelocale (locale_t);

void
freelocale (locale_t locale PC_UNUSED)
{
}
