#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-hung-origin.sh - an origin that takes connections and answers reads,
# but never a write, or never a flush, as when its disk hangs: a flush fails
# in time and again, nbdkit ends in time and says what is lost, and when the
# disk is well again nothing was (D15).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

start_origin size=64M extents=no
start_client

# Short, but a busy machine must not need longer for a connection, or a read.
slowest=$(client "
def takes():
    t = time.monotonic()
    h = connect('$origin_sock')
    h.pread(4096, 0)
    h.shutdown()
    return time.monotonic() - t
print(max(takes() for _ in range(30)))")
timeout=$(awk -v n="$pc_slowness" -v t="$slowest" 'BEGIN { t *= 20; print (t > 0.1 * n ? t : 0.1 * n) }')
echo "timeout=$timeout"
options=(timeout="$timeout" reconnect="$timeout" cache-readahead=off
         connections=1 cache-dirty-expire=3600)

# nbdkit 1.32 may die of answers to a connection that was given up meanwhile:
# then another takes its place.
origin_died () {
  ! grep -qs '^State:[[:space:]]*[^Z[:space:]]' "/proc/$origin_pid/status"
}
mend () {
  origin open all || :
  if wait_until 0 origin_died; then
    kill_origin
    restart_origin
  fi
}

client "
def flush_fails(h):
    t = time.monotonic()
    assert errno_of(h.flush) == 'EIO'
    t = time.monotonic() - t
    print('a flush failed after %.2f s' % t)
    # At most two attempts with ten times the timeout each, and a second of quarantine each.
    assert t < 3 + 30 * $timeout + 5 * $pc_slowness, t
def durable(count, offset):
    with open('$durable', 'rb') as f:
        f.seek(offset)
        return f.read(count)"
# ends TAG: nbdkit does, in time, and names the range that TAG wrote.
ends () {
  local status=0 began=$EPOCHREALTIME took

  stop_nbdkit cache 90 || status=$?
  took=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }')
  [ "$status" -eq 1 ] || fail "the cache ended with $status after losing bytes"
  at_most "seconds from SIGTERM to the end" "$took" \
    "$(awk -v n="$pc_slowness" -v t="$timeout" 'BEGIN { print 3 + 30 * t + 5 * n }')"
  grep -q "lost: 65536 bytes at $(($1 << 20))" "$cache_log" || fail "the lost range is not named"
  kill_origin
  restart_origin
}

tag=0
for cmd in write flush; do
  tag=$((tag + 1))
  start_cache "${options[@]}"
  origin close $cmd
  client "h = connect('$cache_sock')
h.pwrite(pattern($tag, 65536), $tag * MIB)
flush_fails(h)
assert len(h.pread(4096, 2$tag * MIB)) == 4096, 'it can be read from'
assert h.pread(65536, $tag * MIB) == pattern($tag, 65536)"
  if [ $cmd = write ]; then
    client "flush_fails(h)"
    mend
    client "h.flush()
assert durable(65536, $tag * MIB) == pattern($tag, 65536)"
    origin close $cmd
    client "h.pwrite(pattern(3, 65536), $tag * MIB)"
  fi
  client "h.shutdown()"
  [ "$(grep -c "a $cmd was not answered for" "$cache_log")" -eq 1 ] ||
    fail "that no $cmd was answered is not said once"
  ends $tag
done
