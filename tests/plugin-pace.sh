#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-pace.sh - a client that writes at 0.8 of what the origin takes is
# hardly ever held up, although it writes more than may be dirty: its pieces go
# together to the origin, cleaning keeps up, and nothing comes in gusts.  The
# bench's row "Behind" is the long version.  Small pieces in order wait for each
# other also where the origin is near.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

# One thread, 20 ms for each write of 256 KiB at most: 12.5 MiB a second.
start_origin -t 1 size=64M wdelay=0.02 fdelay=0.02 maxblock=256K
start_cache cache-size=16M connections=1
out=$(nbdsh -u "$cache_uri" -c '
import select, time
each, at = [], 0
step = 65536 / (0.8 * 12.5 * 1048576)
due = begin = time.perf_counter ()
while due - begin < 4:
  now = time.perf_counter ()
  if now < due:
    select.select ([], [], [], due - now)
  start = time.perf_counter ()
  h.pwrite (bytes ([at >> 16 & 255 | 1]) * 65536, at % (64 << 20))
  each.append (time.perf_counter () - start)
  at += 65536
  due += step
h.flush ()
each.sort ()
print ("writes=%d p99_ms=%.1f worst_ms=%.1f"
       % (len (each), each[len (each) * 99 // 100] * 1000, each[-1] * 1000))')
echo "$out"
# Each by itself would be 640 requests, four times what it takes in 4 s.
at_most "requests to the origin" "$(origin_stat write_done)" 330
at_least "writes" "$(field writes "$out")" "$([ -z "${PC_VALGRIND:-}" ] && echo 600 || echo 60)"
# On a machine that does much else at once the delays are its own.
at_most "ms for all but one in a hundred" "$(field p99_ms "$out")" \
  "$(($([ -n "${PC_SOAK:-}" ] && echo 40 || echo 100) * pc_slowness))"
stop_nbdkit cache || fail "the cache ended with $?"

# 8192 pieces of 4 KiB through a cache of 8 MiB, most of it UNSTABLE: the origin's
# answer is there before the next piece, but they go 256 KiB at a time.
kill_origin
start_origin size=64M
start_cache cache-size=8M
nbdsh -u "$cache_uri" -c '
for i in range (8192):
  h.pwrite (bytes ([i >> 8 | 1]) * 4096, i * 4096)
h.flush ()'
at_most "requests for 4 KiB pieces" "$(origin_stat write_done)" 1000
stop_nbdkit cache || fail "the cache ended with $?"
