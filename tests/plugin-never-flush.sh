#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-never-flush.sh - a client that never flushes writes many times the
# cache at a steady pace: the cache flushes the origin by itself, because what
# is unstable may not leave (D3).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

start_origin size=512M
start_cache cache=writeback cache-size=64M
out=$("$nbdx" --seed "$seed" --never-flush-write "$(ops_of 1G 4G)" --depth 8 \
  --timeout 60 "$cache_sock") || { echo "$out"; fail "wrong bytes"; }
echo "$out"
at_least "flushes by the cache's own" "$(origin_stat flush_done)" 1
median=$(field median "$out")
# A cache that runs full of unstable pages stops; one that flushes in time
# has slower and faster moments, and so has a shared machine.  A checker is slow
# with what it meets for the first time.
at_least "slowest sixteenth, MiB/s" "$(field slowest "$out")" \
  "$((${median%.*} / (pc_slowness > 1 ? 20 : 5)))"
at_most "worst ms of a write" "$(field worst_ms "$out")" $((2000 * pc_slowness))
stop_nbdkit cache || fail "the cache ended with $?"
