/* SPDX-License-Identifier: BSD-3-Clause
 *
 * testorigin - what the test origin's files share: its exports and switches.
 */
#ifndef PC_TESTORIGIN_H
#define PC_TESTORIGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "testorigin-image.h"

struct export {
  const char *name;
  struct image img;
};

/* testorigin.c; NULL for a name that is no export. */
extern struct export *origin_export (const char *name);
extern void origin_each_export (void (*fn) (struct export *, void *),
                                void *opaque);
extern int origin_parse_errno (const char *name);

/* testorigin-control.c.  listen before nbdkit forks, so that whoever saw the
 * pid file can connect; start after it.  stop joins every thread.
 */
extern int control_listen (const char *path);
extern int control_start (void);
extern void control_stop (void);

#endif
