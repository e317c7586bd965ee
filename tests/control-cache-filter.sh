#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# control-cache-filter.sh - the control of goals.md R1: what finds nothing
# wrong with our cache does find the wrong bytes that nbdkit's own cache
# filter gives once it has a bound (peers.md M1).  The same operations without
# the bound are all right, so it is the bound that the tester sees.
#
# Trim and block status are left out: the filter has neither and fails those
# for another reason (peers.md M2).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_nbdkit_filter cache
requires_nbdkit_plugin memory
requires_nbdkit_plugin nbd

mix=trim=0,status=0

start_nbdkit unbounded --filter=cache memory 32M cache=writeback
run_nbdx "$unbounded_sock" --mix $mix

start_nbdkit bounded --filter=cache memory 32M cache=writeback \
  cache-max-size=4M
find_wrong "$bounded_sock" --mix $mix

start_nbdkit far memory 32M
start_nbdkit remote --filter=cache nbd "uri=$far_uri" cache=writeback \
  cache-max-size=4M
find_wrong "$remote_sock" --mix $mix
