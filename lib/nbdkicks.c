/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdkicks - see nbdkicks.h.
 */
#include <config.h>

#include <assert.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lock.h"
#include "nbdkicks.h"

struct nbdkicks {
  struct lock lock;             /* RANK_ORIGIN */
  struct list idle;
  unsigned nidle, nmade;        /* the difference is lent */
};

struct nbdkicks *
nbdkicks_create (void)
{
  struct nbdkicks *k = calloc (1, sizeof *k);

  if (k == NULL)
    return NULL;
  lock_init (&k->lock, RANK_ORIGIN);
  list_init (&k->idle);
  return k;
}

void
nbdkicks_free (struct nbdkicks *k)
{
  struct list_node *node;

  if (k == NULL)
    return;
  assert (k->nidle == k->nmade);
  while ((node = list_pop_front (&k->idle)) != NULL) {
    struct nbdkick *kick = list_entry (node, struct nbdkick, node);

    close (kick->fd);
    free (kick);
  }
  lock_release (&k->lock);
  free (k);
}

static struct nbdkick *
make (void)
{
  struct nbdkick *kick = calloc (1, sizeof *kick);

  if (kick == NULL)
    return NULL;
  list_node_init (&kick->node);
  kick->fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (kick->fd != -1)
    return kick;
  free (kick);
  return NULL;
}

struct nbdkick *
nbdkicks_take (struct nbdkicks *k)
{
  struct nbdkick *kick;

  lock_take (&k->lock);
  kick = list_entry (list_pop_front (&k->idle), struct nbdkick, node);
  k->nidle -= kick != NULL;
  k->nmade += kick == NULL;
  lock_drop (&k->lock);
  if (kick != NULL)
    return kick;
  kick = make ();
  if (kick == NULL) {
    lock_take (&k->lock);
    k->nmade--;
    lock_drop (&k->lock);
  }
  return kick;
}

void
nbdkicks_give (struct nbdkicks *k, struct nbdkick *kick)
{
  lock_take (&k->lock);
  list_push_front (&k->idle, &kick->node);
  k->nidle++;
  lock_drop (&k->lock);
}
