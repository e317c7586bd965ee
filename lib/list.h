/* SPDX-License-Identifier: BSD-3-Clause
 *
 * list - a doubly linked list whose links live in its elements.
 *
 * Answers: what comes first, and how does an element that I hold leave the
 * list without looking for it?
 *
 * Threads  none; who embeds the list guards it, links included.
 * Errors   none: nothing is allocated.
 * Owner    the list owns nothing; an element must leave before it is freed.
 * Cost     O(1) each, but list_check and list_count, which walk.
 *
 * An element holds a struct list_node for each list that it can be in.  A
 * node that is in no list points at itself, so removing it twice is harmless
 * and list_node_is_linked can answer.
 *
 * Invariants, run by list_check():
 *   (1) going forward from the head comes back to it
 *   (2) n->next->prev == n for each node n, the head included
 */
#ifndef PC_LIST_H
#define PC_LIST_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "compiler.h"

struct list_node {
  struct list_node *next;
  struct list_node *prev;
};

struct list {
  struct list_node head;        /* of the ring; not in an element */
};

/* A list must not be moved or copied: its first and last node point to it. */
#define LIST_INIT(l) { { &(l).head, &(l).head } }

static inline void
list_node_init (struct list_node *n)
{
  n->next = n->prev = n;
}

static inline bool
list_node_is_linked (const struct list_node *n)
{
  return n->next != n;
}

static inline void
list_init (struct list *l)
{
  list_node_init (&l->head);
}

static inline bool
list_is_empty (const struct list *l)
{
  return !list_node_is_linked (&l->head);
}

/* N, which is in no list, comes right behind POS. */
static inline void
list_insert_after (struct list_node *pos, struct list_node *n)
{
  assert (!list_node_is_linked (n));
  n->prev = pos;
  n->next = pos->next;
  pos->next->prev = n;
  pos->next = n;
}

static inline void
list_insert_before (struct list_node *pos, struct list_node *n)
{
  list_insert_after (pos->prev, n);
}

static inline void
list_push_front (struct list *l, struct list_node *n)
{
  list_insert_after (&l->head, n);
}

static inline void
list_push_back (struct list *l, struct list_node *n)
{
  list_insert_before (&l->head, n);
}

/* N leaves whatever list it is in, if any. */
static inline void
list_remove (struct list_node *n)
{
  n->prev->next = n->next;
  n->next->prev = n->prev;
  list_node_init (n);
}

/* The neighbours in L; NULL where L ends. */
static inline struct list_node *
list_first (const struct list *l)
{
  return list_is_empty (l) ? NULL : l->head.next;
}

static inline struct list_node *
list_last (const struct list *l)
{
  return list_is_empty (l) ? NULL : l->head.prev;
}

static inline struct list_node *
list_next (const struct list *l, const struct list_node *n)
{
  return n->next == &l->head ? NULL : n->next;
}

static inline struct list_node *
list_prev (const struct list *l, const struct list_node *n)
{
  return n->prev == &l->head ? NULL : n->prev;
}

/* Takes the first node out; NULL when there is none. */
static inline struct list_node *
list_pop_front (struct list *l)
{
  struct list_node *n = list_first (l);

  if (n)
    list_remove (n);
  return n;
}

/* All of FROM, in order, come behind all of TO; FROM is empty after. */
static inline void
list_splice_back (struct list *to, struct list *from)
{
  struct list_node *first = from->head.next;
  struct list_node *last = from->head.prev;

  assert (to != from);
  if (list_is_empty (from))
    return;
  first->prev = to->head.prev;
  last->next = &to->head;
  to->head.prev->next = first;
  to->head.prev = last;
  list_init (from);
}

/* All of FROM, in order, come before all of TO; FROM is empty after. */
static inline void
list_splice_front (struct list *to, struct list *from)
{
  list_splice_back (from, to);
  list_splice_back (to, from);
}

static inline size_t
list_count (const struct list *l)
{
  const struct list_node *n;
  size_t count = 0;

  for (n = l->head.next; n != &l->head; n = n->next)
    count++;
  return count;
}

static inline void
list_check (const struct list *l)
{
  const struct list_node *n = &l->head;

  do {
    assert (n->next->prev == n);
    assert (n->prev->next == n);
    n = n->next;
  } while (n != &l->head);
}

/* The element of TYPE whose node MEMBER is at N; NULL for NULL. */
#define list_entry(n, type, member)                                           \
  ({                                                                          \
    struct list_node *list_entry_n_ = (n);                                    \
                                                                              \
    list_entry_n_ ? container_of (list_entry_n_, type, member) : NULL;        \
  })

/* Each NODE of L, first to last.  L may not change. */
#define list_for_each(node, l)                                                \
  for ((node) = (l)->head.next; (node) != &(l)->head; (node) = (node)->next)

/* The same, where the body may remove NODE and free its element; NEXT_ is the
 * macro's own and must stay in the list.
 */
#define list_for_each_safe(node, next_, l)                                    \
  for ((node) = (l)->head.next, (next_) = (node)->next;                       \
       (node) != &(l)->head;                                                  \
       (node) = (next_), (next_) = (node)->next)

#endif /* PC_LIST_H */
