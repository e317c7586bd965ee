/* SPDX-License-Identifier: BSD-3-Clause
 *
 * plant - which of the planted errors does this server have?  PC_PLANT says it, by number (enum plant in inode-priv.h).
 *
 * Part of a build of the plugin that only tests load (tests/model-finds-plants.sh).
 */
#include <config.h>

#include <stdlib.h>

#include "inode-priv.h"

enum plant inode_plant;

static void __attribute__ ((constructor))
choose (void)
{
  const char *n = getenv ("PC_PLANT");

  if (n != NULL)
    inode_plant = (enum plant) atoi (n);
}
