/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: does segset.h keep SEG-6 to SEG-33, for several kinds of set?
 *
 * The kinds: the smallest tree (degree 3, so few segments make many levels) with and
 * without gap tracking, 32-bit lengths, values that own memory, nodes as in production.
 */
#include "test.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "range.h"
#include "rnd.h"
#include "segnodes.h"

#define R(start, end) ((struct range) { start, end })

/* ---- the kinds ---- */

#define EQUAL(r1, v1, r2, v2, out) (*(v1) == *(v2) && (*(out) = *(v1), true))

#define SEGSET_NAME small
#define SEGSET_VALUE uint32_t
#define SEGSET_DEGREE 3
#define SEGSET_MERGE EQUAL
#include "segset.h"

#define SEGSET_NAME gaps
#define SEGSET_VALUE uint32_t
#define SEGSET_DEGREE 3
#define SEGSET_GAPS 1
#define SEGSET_MERGE EQUAL
#include "segset.h"

#define SEGSET_NAME prod
#define SEGSET_VALUE uint32_t
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_NODE_BYTES 256
#define SEGSET_MERGE EQUAL
#include "segset.h"

/* Leaf and inner node differ, 64-bit values behind 32-bit lengths. */
#define SEGSET_NAME wide
#define SEGSET_VALUE uint64_t
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_NODE_BYTES 320
#define SEGSET_GAPS 1
#define SEGSET_MERGE EQUAL
#include "segset.h"

struct thing {
  uint32_t id;
};

static int model_live;

static struct thing *
thing_create (uint32_t id)
{
  struct thing *t = malloc (sizeof *t);

  assert_non_null (t);
  t->id = id;
  model_live++;
  return t;
}

static void
thing_free (struct thing *t)
{
  free (t);
  model_live--;
}

#define SEGSET_NAME owner
#define SEGSET_VALUE struct thing *
#define SEGSET_DEGREE 3
#define SEGSET_LEN_TYPE uint32_t
#define SEGSET_MERGE(r1, v1, r2, v2, out) \
  ((*(v1))->id == (*(v2))->id && (thing_free (*(v2)), *(out) = *(v1), true))
#define SEGSET_SPLIT(r, v, at, out1, out2)                                    \
  do {                                                                        \
    *(out1) = *(v);                                                           \
    *(out2) = thing_create ((*(v))->id);                                      \
  } while (0)
#define SEGSET_DEINIT(v) thing_free (*(v))
#include "segset.h"

/* ---- beside an array ---- */

#define MODEL_KEYS 600

#define PLAIN_ID(v) (*(v))
#define PLAIN_MAKE(id) (id)
#define PLAIN_FREE(v) ((void) (v))

#define MODEL small
#define MODEL_ID PLAIN_ID
#define MODEL_MAKE PLAIN_MAKE
#define MODEL_FREE PLAIN_FREE
#define MODEL_OWNS 0
#define MODEL_GAPS 0
#include "segset-model.h"

#define MODEL gaps
#define MODEL_ID PLAIN_ID
#define MODEL_MAKE PLAIN_MAKE
#define MODEL_FREE PLAIN_FREE
#define MODEL_OWNS 0
#define MODEL_GAPS 1
#include "segset-model.h"

#define MODEL prod
#define MODEL_ID PLAIN_ID
#define MODEL_MAKE PLAIN_MAKE
#define MODEL_FREE PLAIN_FREE
#define MODEL_OWNS 0
#define MODEL_GAPS 0
#include "segset-model.h"

#define MODEL wide
#define MODEL_ID PLAIN_ID
#define MODEL_MAKE PLAIN_MAKE
#define MODEL_FREE PLAIN_FREE
#define MODEL_OWNS 0
#define MODEL_GAPS 1
#include "segset-model.h"

#define MODEL owner
#define MODEL_ID(v) ((*(v))->id)
#define MODEL_MAKE thing_create
#define MODEL_FREE(v) thing_free (*(v))
#define MODEL_OWNS 1
#define MODEL_GAPS 0
#include "segset-model.h"

TEST (random_operations_on_the_smallest_nodes_match_an_array)
{
  small_model (0, 10000);
}

TEST (random_operations_with_gap_tracking_match_an_array)
{
  gaps_model (12345, 10000);
}

TEST (random_operations_at_the_end_of_all_keys_match_an_array)
{
  gaps_model (UINT64_MAX - MODEL_KEYS, 10000);
  wide_model (UINT64_MAX - MODEL_KEYS, 10000);
}

TEST (random_operations_with_short_lengths_match_an_array)
{
  prod_model (UINT64_C (1) << 40, 10000);
}

TEST (random_operations_on_values_that_own_memory_leak_nothing)
{
  owner_model (7, 10000);
}

int
main (void)
{
  const struct CMUnitTest tests[] = {
    cmocka_unit_test (random_operations_on_the_smallest_nodes_match_an_array),
    cmocka_unit_test (random_operations_with_gap_tracking_match_an_array),
    cmocka_unit_test (random_operations_at_the_end_of_all_keys_match_an_array),
    cmocka_unit_test (random_operations_with_short_lengths_match_an_array),
    cmocka_unit_test (random_operations_on_values_that_own_memory_leak_nothing),
  };

  rnd_begin ();
  return cmocka_run_group_tests (tests, NULL, NULL);
}
