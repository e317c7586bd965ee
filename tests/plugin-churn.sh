#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-churn.sh - clients come and go, exports open and close, and the origin is killed and comes back, for
# an hour in "make soak" (PC_CHURN seconds): no wrong byte, and in the end the server is as large, has as many
# descriptors and threads, as it was after the first part of that.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
if [ -n "${PC_CHURN:-}" ]; then
  seconds=$PC_CHURN
elif [ -n "${PC_SOAK:-}" ]; then
  seconds=3600
else
  seconds=6
fi
kill_every=$((seconds > 60 ? 20 : 2))
exports=64

mkdir "$durable"
start_origin size=2M delay=0.0005 exports="$(seq -s , -f e%g 0 $((exports - 1)))"
start_nbdkit cache "$plugin" socket="$origin_sock" dynamic-export=true cache-size=8M \
  cache-stats="$tmp/stats" cache-dirty-expire=1

descriptors () { find "/proc/$cache_pid/fd" -mindepth 1 | wc -l; }
threads () { find "/proc/$cache_pid/task" -mindepth 1 -maxdepth 1 | wc -l; }

pids=()
for i in 0 1; do
  "$PYTHON3" "$srcdir/tests/churn.py" "$cache_sock" "$seconds" "$((seed + i))" "${PC_CHURN_PAUSE:-10}" \
    $((i * exports / 2)) $(((i + 1) * exports / 2)) > "$tmp/churn.$i" 2>&1 &
  pids+=($!)
done
stop_clients () { kill "${pids[@]}" 2> /dev/null || :; }
cleanup_fn stop_clients
are_over () { ! kill -0 "${pids[@]}" 2> /dev/null; }

# Until the first part is over; then what it is compared with.
begin=$SECONDS
early= kills=0 kib_early=0 next_line=0 most=0
until are_over; do
  kill_origin
  restart_origin
  kills=$((kills + 1))
  wait_until $((kill_every / pc_slowness)) are_over || :
  now=$(descriptors)
  [ "$now" -le "$most" ] || most=$now
  if [ -z "$early" ] && [ $((SECONDS - begin)) -ge $((seconds / 4)) ]; then
    early=$((SECONDS - begin))
    kib_early=$(resident "$cache_pid" VmHWM)
  fi
  if [ "$SECONDS" -ge "$next_line" ]; then
    next_line=$((SECONDS + seconds / 20))
    echo "$((SECONDS - begin)) s: $(resident "$cache_pid") KiB, $now descriptors, $(threads) threads," \
      "$kills kills, frames $(sed -n 's/^e0.frames=//p' "$tmp/stats" 2> /dev/null)," \
      "metadata $(sed -n 's/^e0.metadata_bytes=//p' "$tmp/stats" 2> /dev/null)"
  fi
done
for i in 0 1; do
  wait "${pids[i]}" || { cat "$tmp/churn.$i"; fail "client $i ended with $?"; }
  cat "$tmp/churn.$i"
done

# What is left: exports, with at most five connections each, until a minute has passed, and no thread of a client's.
few_threads () { [ "$(threads)" -le 6 ]; }
wait_until 20 few_threads || fail "$(threads) threads are left"
at_most "descriptors" "$(descriptors)" $((20 + 15 * exports))
if [ "$SANITIZERS" = no ] && [ -z "${PC_VALGRIND:-}" ]; then
  at_most "KiB more than after $early s" $(( $(resident "$cache_pid" VmHWM) - kib_early )) 4096
fi
if [ "$seconds" -ge 120 ]; then
  # A connection took three.  What wakes its driver is kept for the next one.
  none_idle () { [ "$(descriptors)" -le $((30 + most / 3)) ]; }
  wait_until 70 none_idle || fail "$(descriptors) descriptors are left a minute later"
  echo "a minute later: $(descriptors) descriptors"
fi
stop_nbdkit cache || fail "the cache ended with $?"
# Nothing is left behind that was not written back.
grep -E '\.(dirty|writing|unstable)_bytes=' "$tmp/stats" > "$tmp/left" || fail "no counters"
! grep -v '=0$' "$tmp/left" || fail "not everything was written back"
