#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# model-finds-plants.sh - the model tester finds each of the errors that the
# inode can be built with (enum plant in lib/inode-priv.h) over the real
# plugin, nbdkit and an origin with latency, within 20,000 operations; without
# one it finds nothing.  tests/test-plants says the same of the simulation.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

# Planted errors are data races too, and a thread checker's report is not what is looked for here.
case $SANITIZERS in
  *thread*) echo "not under ThreadSanitizer"; exit 0 ;;
esac

planted="$builddir/tests/.libs/nbdkit-planted-plugin.so"
[ -f "$planted" ] || skip "needs $planted"
plugin=$planted
# Not 6, a hole that is none: this image has no holes.  tests/test-plants finds that one.
plants=(1 2 3 4 5 7)

# plant N [MODE [SIZE]]: the world in which the six differ; the names are those of the enum.
plant () {
  export PC_PLANT=$1
  rm -f "$durable"
  make_image "${3:-8M}"
  start_origin -t 32 delay=0.001 jitter=0.002
  start_cache cache="${2:-writeback}" cache-size=1M
  unset PC_PLANT
  echo "--- plant $1"
}

# fail_now_and_then: one write of twenty, until there is no origin any more.
fail_now_and_then () {
  while origin - <<< "clearlog
fail write EIO 1" 2> /dev/null; do
    origin finished write 20 1 2> /dev/null || :
  done
}

# find_plant SOCKET OPTION...: wrong bytes, or the server's own checks of its
# structures, where the build has them, were quicker.
find_plant () {
  local target=$1 status=0

  shift
  : > "$cache_log"
  "$nbdx" --seed "$seed" "$@" "$target" > "$tmp/nbdx.out" || status=$?
  # A server that ends by its own checks leaves nbdx with a wrong answer, or with none to send to.
  if grep -m 1 'Assertion' "$cache_log"; then
    [ "$status" -ne 0 ] || fail "nbdx ended with $status"
    return
  fi
  [ "$status" -eq 1 ] || { cat "$tmp/nbdx.out"; fail "nbdx ended with $status"; }
  grep -m 1 '^WRONG BYTES' "$tmp/nbdx.out" ||
    { cat "$tmp/nbdx.out"; fail "nbdx names no wrong bytes"; }
  grep '^nbdx: WRONG' "$tmp/nbdx.out"
}

options=(--stamped --durable "$durable" --connections 8)

plant 0
run_nbdx "$cache_sock" "${options[@]}" --ops 1500
stop_nbdkit cache || fail "the cache ended with $?"
kill_origin

for n in "${plants[@]}"; do
  plant "$n"
  find_plant "$cache_sock" "${options[@]}" --ops 20000
  kill_nbdkit cache KILL 2> /dev/null || :
  wait_nbdkit cache || :
  kill_origin
done

# 9, a failed write-through takes another one's bytes: where it is written through, writes fail, and they meet.
through=(--stamped --durable "$durable" --connections 8 --depth 8 --max-len 32K --mix write=70,read=30
         --allow-errors)
for n in 0 9; do
  plant "$n" writethrough 256K
  fail_now_and_then &
  failing=$!
  if [ "$n" -eq 0 ]; then
    run_nbdx "$cache_sock" "${through[@]}" --ops 3000
  else
    find_plant "$cache_sock" "${through[@]}" --ops 20000
  fi
  kill_nbdkit cache KILL 2> /dev/null || :
  wait_nbdkit cache || :
  kill_origin
  wait "$failing" || :
done
