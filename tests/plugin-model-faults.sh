#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-model-faults.sh - no wrong byte while the origin is killed and comes
# back, having forgotten what was not flushed (goals.md R1, R3), and no error
# for the client; then the same with commands that fail.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

rounds=$(ops_of 6 200)
rm -f "$durable"
make_image 16M
start_origin -t 64 jitter=0.0005
start_cache cache=writeback cache-size=2M reconnect=60
"$nbdx" --seed "$seed" --stamped --durable "$durable" \
  --ops "$(ops_of 8000)" "$cache_sock" > "$tmp/nbdx.out" &
client=$!
pc_is_running () { kill -0 "$1" 2> /dev/null; }
for (( i = 0; i < rounds; i++ )); do
  # Some way into its life, wherever that is in the client's.
  origin finished write $((50 + RANDOM % 200)) 2 2> /dev/null || :
  pc_is_running "$client" || break
  kill_origin
  restart_origin
done
echo "origin killed $i times"
wait "$client" || { cat "$tmp/nbdx.out"; fail "PC_SEED=$seed"; }
cat "$tmp/nbdx.out"
[ "$i" -ge 2 ] || fail "the client was done before the origin was killed"
stop_nbdkit cache || fail "the cache ended with $?"
kill_origin

# Errors: whoever gets one knows nothing of those bytes, all others must hold.
rm -f "$durable"
make_image 16M
start_origin -t 64 jitter=0.0005
start_cache cache=writeback cache-size=2M
"$nbdx" --seed "$seed" --stamped --durable "$durable" --allow-errors \
  --ops "$(ops_of 8000)" "$cache_sock" > "$tmp/nbdx.out" &
client=$!
while pc_is_running "$client"; do
  origin - <<< "clearlog
clearfail
fail read EIO $((RANDOM % 20))
fail write ENOSPC $((RANDOM % 20))
fail flush EIO $((RANDOM % 3))
fail trim EIO $((RANDOM % 3))
fail zero EIO $((RANDOM % 3))
fail extents EIO $((RANDOM % 3))" || fail "the origin does not listen"
  origin finished write 200 1 2> /dev/null || :
done
wait "$client" || { cat "$tmp/nbdx.out"; fail "PC_SEED=$seed"; }
cat "$tmp/nbdx.out"
origin clearfail
stop_nbdkit cache || fail "the cache ended with $?"
