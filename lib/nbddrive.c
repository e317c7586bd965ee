/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbddrive - leading and following.
 */
#include <config.h>

#include <assert.h>

#include "nbddrive.h"

enum role { ROLE_NONE, ROLE_LEADS, ROLE_FOLLOWS };

/* The calling thread is the driver, and counted in users. */
static void
lead (struct nbdconn *c, struct waiter *w, uint64_t until_ns)
{
  struct nbdpool *p = c->pool;
  _Atomic int *nudged;
  bool on = true;

  while (on && !waiter_is_woken (w)) {
    if (nbdwire_has_done (&c->wire))
      on = nbdpool_deliver (c);
    else if (waiter_poll (w, c->wire.link.fd, c->kick_fd, p->clock, until_ns)) {
      nbdpool_read (c);
      on = nbdpool_deliver (c);
    }
    else {
      /* Woken, kicked because the connection ends, or it is time. */
      lock_take (&p->lock);
      on = c->state < CONN_DYING && c->nflight > 0;
      lock_drop (&p->lock);
      if (until_ns != WAITER_FOR_EVER && clock_now (p->clock) >= until_ns)
        on = false;
    }
  }

  lock_take (&p->lock);
  assert (atomic_load_explicit (&c->driver, memory_order_relaxed) == DRIVER_WORKER);
  nudged = nbdpool_hand_over_locked (c);
  /* Under the lock: who buries c, or closes the pool, takes it first. */
  atomic_fetch_sub_explicit (&c->users, 1, memory_order_release);
  lock_drop (&p->lock);
  waiter_nudge_end (nudged);
}

/* Sleep among c's followers.  True: promoted. */
static bool
follow (struct nbdpool *p, struct nbdfollower *f, uint64_t until_ns)
{
  bool promoted;

  waiter_rest (f->waiter, p->clock, until_ns);
  lock_take (&p->lock);
  list_remove (&f->node);       /* if it is still there: c may have gone */
  waiter_steady (f->waiter);
  promoted = f->promoted;
  lock_drop (&p->lock);
  return promoted;
}

/* The promise is kept.  Unless the thread leads, c may go when the lock is dropped. */
static enum role
arrive_locked (struct nbdconn *c, struct nbdfollower *f, _Atomic int **nudged)
{
  bool waits = f->waiter != NULL && !waiter_is_woken (f->waiter) && c->state < CONN_DYING
    && c->nflight > 0;
  bool nobody = atomic_load_explicit (&c->driver, memory_order_relaxed) == DRIVER_NOBODY;

  assert (c->npromises > 0);
  c->npromises--;
  if (waits && nobody) {
    atomic_store_explicit (&c->driver, DRIVER_WORKER, memory_order_relaxed);
    return ROLE_LEADS;
  }
  if (waits)
    list_push_front (&c->followers, &f->node);
  else if (nobody && c->npromises == 0)
    *nudged = nbdpool_hand_over_locked (c);
  atomic_fetch_sub_explicit (&c->users, 1, memory_order_release);
  return waits ? ROLE_FOLLOWS : ROLE_NONE;
}

void
nbddrive_run (struct origin *o, void *what, struct waiter *w, uint64_t until_ns)
{
  struct nbdconn *c = what;
  struct nbdpool *p = c->pool;
  struct nbdfollower f = { .waiter = w };
  _Atomic int *nudged = NULL;
  enum role role;

  assert (o == &p->base);
  lock_assert_none_held ();
  list_node_init (&f.node);
  lock_take (&p->lock);
  role = arrive_locked (c, &f, &nudged);
  lock_drop (&p->lock);
  waiter_nudge_end (nudged);
  if (role == ROLE_FOLLOWS && follow (p, &f, until_ns))
    role = ROLE_LEADS;
  if (role == ROLE_LEADS)
    lead (c, w, until_ns);
}
