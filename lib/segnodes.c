/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: how do spare nodes come, wait and go?  See segnodes.h.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "segnodes.h"

static void *
default_alloc (void *arg PC_UNUSED, size_t size)
{
  return malloc (size);
}

static void
default_free (void *arg PC_UNUSED, void *node, size_t size PC_UNUSED)
{
  free (node);
}

void
segnodes_init (struct segnodes *nodes, size_t size, segnodes_alloc_fn *alloc,
               segnodes_free_fn *dealloc, void *arg)
{
  assert (size >= sizeof (struct segnode) && size <= UINT32_MAX);
  assert (!alloc == !dealloc);
  *nodes = (struct segnodes) {
    .size = size,
    .alloc = alloc ? alloc : default_alloc,
    .dealloc = dealloc ? dealloc : default_free,
    .arg = arg,
  };
}

void
segnodes_release (struct segnodes *nodes)
{
  assert (nodes->nused == 0);
  segnodes_trim (nodes, 0);
}

int
segnodes_batch_alloc (const struct segnodes *nodes, uint32_t count,
                      struct segnodes_batch *batch)
{
  assert (batch->first == NULL && batch->count == 0);
  while (batch->count < count) {
    struct segnode *node = nodes->alloc (nodes->arg, nodes->size);

    if (node == NULL) {
      segnodes_batch_free (nodes, batch);
      return ENOMEM;
    }
    node->next = batch->first;
    batch->first = node;
    batch->count++;
  }
  return 0;
}

void
segnodes_batch_free (const struct segnodes *nodes, struct segnodes_batch *batch)
{
  while (batch->first) {
    struct segnode *node = batch->first;

    batch->first = node->next;
    batch->count--;
    nodes->dealloc (nodes->arg, node, nodes->size);
  }
  assert (batch->count == 0);
}

int
segnodes_reserve (struct segnodes *nodes, uint32_t want)
{
  struct segnodes_batch batch = SEGNODES_BATCH_INIT;
  uint32_t missing = segnodes_missing (nodes, want);
  int err;

  if (PC_LIKELY (missing == 0))
    return 0;
  err = segnodes_batch_alloc (nodes, missing, &batch);
  if (err)
    return err;
  segnodes_give (nodes, &batch);
  return 0;
}

void
segnodes_give (struct segnodes *nodes, struct segnodes_batch *batch)
{
  while (batch->first) {
    struct segnode *node = batch->first;

    batch->first = node->next;
    node->next = nodes->spare;
    nodes->spare = node;
  }
  nodes->nspare += batch->count;
  batch->count = 0;
}

void
segnodes_take (struct segnodes *nodes, uint32_t keep, struct segnodes_batch *batch)
{
  while (nodes->nspare > keep) {
    struct segnode *node = nodes->spare;

    nodes->spare = node->next;
    nodes->nspare--;
    node->next = batch->first;
    batch->first = node;
    batch->count++;
  }
}

void
segnodes_trim (struct segnodes *nodes, uint32_t keep)
{
  struct segnodes_batch batch = SEGNODES_BATCH_INIT;

  segnodes_take (nodes, keep, &batch);
  segnodes_batch_free (nodes, &batch);
}
