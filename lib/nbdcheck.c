/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdcheck - are the invariants of a pool of connections kept?
 *
 * They are numbered in nbdpool.h.  A walk over every request: for debug builds and tests.
 */
#include <config.h>

#include <assert.h>

#include "nbdpool.h"

static void
check_driver_locked (const struct nbdconn *c)
{
  int driver = atomic_load_explicit (&c->driver, memory_order_relaxed);

  list_check (&c->followers);
  assert (c->npromises + (driver == DRIVER_WORKER)
          <= atomic_load_explicit (&c->users, memory_order_relaxed));
  if (c->state >= CONN_DYING) {
    assert (list_is_empty (&c->followers));
    return;
  }
  assert (driver != DRIVER_NOBODY || c->nflight == 0 || c->npromises > 0);
  assert (driver != DRIVER_NOBODY || c->npromises > 0 || list_is_empty (&c->followers));
  assert (driver == DRIVER_LOOP || c->kick_fd != -1);
}

static void
check_conn_locked (const struct nbdconn *c)
{
  unsigned n = 0, back = 0;
  struct list_node *node;

  list_check (&c->under_way);
  list_for_each (node, &c->under_way) {
    n++;
    back += container_of (node, struct origin_req, node)->prio != ORIGIN_PRIO_DEMAND;
  }
  assert (n == c->nflight && back == c->nback);
  assert (n <= NBDPOOL_MAX_FLIGHT && back <= NBDPOOL_MAX_BACK);
  assert (c->state == CONN_BURIED || list_is_empty (&c->unanswered));
  check_driver_locked (c);
}

void
nbdpool_check_locked (struct nbdpool *p)
{
  size_t n = list_count (&p->status_queue);
  struct list_node *node;
  unsigned i;

  for (i = 0; i < ORIGIN_NR_PRIO; i++)
    n += list_count (&p->queue[i]);
  for (i = 0; i < p->nconns; i++) {
    check_conn_locked (p->conn[i]);
    assert (p->conn[i]->state <= CONN_LEAVING && p->conn[i]->carrier != 0);
    n += p->conn[i]->nflight + list_count (&p->conn[i]->pinned);
  }
  if (p->meta != NULL) {
    check_conn_locked (p->meta);
    n += p->meta->nflight;
  }
  list_for_each (node, &p->dying) {
    struct nbdconn *c = container_of (node, struct nbdconn, node);

    check_conn_locked (c);
    assert (c->state >= CONN_DYING);
    n += c->nflight + list_count (&c->pinned);
  }
  assert (n == p->outstanding);
  assert (p->up == (p->nconns > 0 || p->parked));
  assert (!p->parked || p->nconns == 0);
}
