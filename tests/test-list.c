/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: does list.h keep its order and its links?
 */
#include "test.h"

#include <string.h>

#include "list.h"

struct item {
  char name;
  struct list_node node;
};

struct fixture {
  struct item items[4];
  struct list l;
};

static struct fixture *
fixture_init (struct fixture *f)
{
  size_t i;

  list_init (&f->l);
  for (i = 0; i < PC_ARRAY_SIZE (f->items); i++) {
    f->items[i].name = 'a' + (char) i;
    list_node_init (&f->items[i].node);
  }
  return f;
}

static void
assert_order (const struct list *l, const char *names)
{
  const struct list_node *n;
  size_t i = 0;

  list_check (l);
  list_for_each (n, l) {
    assert_true (i < strlen (names));
    assert_int_equal (container_of (n, const struct item, node)->name,
                      names[i]);
    i++;
  }
  assert_int_equal (i, strlen (names));
  assert_int_equal (list_count (l), strlen (names));
}

TEST (pushed_items_stand_in_order)
{
  struct fixture storage, *f = fixture_init (&storage);

  assert_true (list_is_empty (&f->l));
  list_push_back (&f->l, &f->items[1].node);
  list_push_back (&f->l, &f->items[2].node);
  list_push_front (&f->l, &f->items[0].node);
  list_insert_before (&f->items[2].node, &f->items[3].node);
  assert_order (&f->l, "abdc");
  assert_false (list_is_empty (&f->l));
}

TEST (a_removed_item_is_in_no_list_and_may_be_removed_again)
{
  struct fixture storage, *f = fixture_init (&storage);

  list_push_back (&f->l, &f->items[0].node);
  list_push_back (&f->l, &f->items[1].node);
  list_push_back (&f->l, &f->items[2].node);
  list_remove (&f->items[1].node);
  assert_order (&f->l, "ac");
  assert_false (list_node_is_linked (&f->items[1].node));
  list_remove (&f->items[1].node);
  assert_order (&f->l, "ac");
}

TEST (neighbours_end_with_null)
{
  struct fixture storage, *f = fixture_init (&storage);

  assert_null (list_first (&f->l));
  assert_null (list_last (&f->l));
  assert_null (list_pop_front (&f->l));
  assert_null (list_entry (list_first (&f->l), struct item, node));
  list_push_back (&f->l, &f->items[0].node);
  list_push_back (&f->l, &f->items[1].node);
  assert_ptr_equal (list_first (&f->l), &f->items[0].node);
  assert_ptr_equal (list_last (&f->l), &f->items[1].node);
  assert_ptr_equal (list_next (&f->l, &f->items[0].node), &f->items[1].node);
  assert_null (list_next (&f->l, &f->items[1].node));
  assert_ptr_equal (list_prev (&f->l, &f->items[1].node), &f->items[0].node);
  assert_null (list_prev (&f->l, &f->items[0].node));
  assert_ptr_equal (list_entry (list_pop_front (&f->l), struct item, node),
                    &f->items[0]);
  assert_order (&f->l, "b");
}

TEST (a_safe_walk_survives_removal_of_every_item)
{
  struct fixture storage, *f = fixture_init (&storage);
  struct list_node *n, *next;
  size_t i;

  for (i = 0; i < PC_ARRAY_SIZE (f->items); i++)
    list_push_back (&f->l, &f->items[i].node);
  list_for_each_safe (n, next, &f->l)
    list_remove (n);
  assert_order (&f->l, "");
}

TEST (splicing_moves_all_and_empties_the_giver)
{
  struct fixture storage, *f = fixture_init (&storage);
  struct list other = LIST_INIT (other);

  list_push_back (&f->l, &f->items[0].node);
  list_push_back (&f->l, &f->items[1].node);
  list_push_back (&other, &f->items[2].node);
  list_push_back (&other, &f->items[3].node);
  list_splice_back (&f->l, &other);
  assert_order (&f->l, "abcd");
  assert_order (&other, "");
  list_splice_back (&f->l, &other);
  assert_order (&f->l, "abcd");
  list_push_back (&other, list_pop_front (&f->l));
  list_push_back (&other, list_pop_front (&f->l));
  list_splice_front (&f->l, &other);
  assert_order (&f->l, "abcd");
  assert_order (&other, "");
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (pushed_items_stand_in_order),
    cmocka_unit_test (a_removed_item_is_in_no_list_and_may_be_removed_again),
    cmocka_unit_test (neighbours_end_with_null),
    cmocka_unit_test (a_safe_walk_survives_removal_of_every_item),
    cmocka_unit_test (splicing_moves_all_and_empties_the_giver),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
