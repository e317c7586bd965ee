#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-parallel-misses.sh - sixteen misses at once on an origin 200 ms away
# take one round trip, and a hit on another connection does not wait for them
# (goals.md P5, peers.md M3, M4).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

rm -f "$durable"
make_image 64M
start_origin -t 64 rdelay=0.2
start_cache cache-size=16M

# The origin itself, for what a round trip is on this machine at this moment.
bare=$(field seconds "$("$nbdx" --parallel-misses 16 "$origin_sock")")
out=$("$nbdx" --parallel-misses 16 --at 32M --size 16M "$cache_sock")
# Under valgrind a round trip is what it makes of the origin's sixteen threads.
at_most "seconds for 16 misses (bare: $bare)" "$(field seconds "$out")" \
  "$([ -z "${PC_VALGRIND:-}" ] && echo 0.39 || awk "BEGIN { print 2 * $bare }")"
out=$("$nbdx" --parallel-misses 16 --size 16M --hit-while-miss "$cache_sock")
echo "$out"
at_least "hits meanwhile" "$(field hits "$out")" 20
at_most "median ms of a hit" "$(field hit_median_ms "$out")" \
  "$([ "$SANITIZERS" = no ] && [ -z "${PC_VALGRIND:-}" ] && echo 1 || echo 20)"
stop_nbdkit cache || fail "the cache ended with $?"
