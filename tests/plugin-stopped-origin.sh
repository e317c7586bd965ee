#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-stopped-origin.sh - an origin that is stopped (SIGSTOP) says nothing
# and hangs up nothing: what is in the cache is served, to new clients too,
# what is not waits, and all goes on when the origin does, or when another
# takes its place (R4; nbd.L-26, nbd.T-33).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

timeout=$pc_slowness
# No holes: what is known to be zeros needs no origin.
make_image 16M
start_origin
cleanup_fn cont_origin
cont_origin () { kill_nbdkit origin CONT 2> /dev/null || :; }
start_cache cache-size=8M timeout="$timeout" reconnect=60
start_client
client "D = '$durable'
sock = '$cache_sock'
h = connect(sock)
h.pwrite(pattern(1, 1 * MIB), 0)
h.flush()
def durable(count, offset):
    with open(D, 'rb') as f:
        f.seek(offset)
        return f.read(count)"

# Only when all its threads have stopped is it stopped.
all_stopped () {
  ! cat "/proc/$origin_pid"/task/*/stat | sed 's/.*) //' | grep -q '^[^T]'
}
stop_origin () {
  kill_nbdkit origin STOP
  wait_until 10 all_stopped || fail "the origin does not stop"
}

# It goes on; nbdkit 1.32 may die of answers to a connection that was given up
# meanwhile (connections.c: raw_send_socket): then another takes its place.
origin_died () {
  ! grep -qs '^State:[[:space:]]*[^Z[:space:]]' "/proc/$origin_pid/status"
}
go_on () {
  kill_nbdkit origin CONT
  [ $# -eq 0 ] || origin "$@" || :
  if wait_until 1 origin_died; then
    kill_origin
    restart_origin
  fi
}

# A stop that is shorter than the patience: nobody notices.
stop_origin
client "r = aio_read(h, 4096, 8 * MIB)
w = connect(sock)
t = time.monotonic()
assert w.pread(1 * MIB, 0) == pattern(1, 1 * MIB)
w.pwrite(pattern(2, 4096), 4096)
assert h.pread(4096, 4096) == pattern(2, 4096)
print('hits, a new client and a write: %.1f ms' % ((time.monotonic() - t) * 1000))"
kill_nbdkit origin CONT
client "assert r.wait() is None
h.flush()
assert durable(4096, 4096) == pattern(2, 4096)"

# A longer one: the connection is given up and made again, in vain, as long as
# it takes.  Two rounds: once it goes on, once it is killed and replaced.
cold=12
for end in CONT KILL; do
  stop_origin
  client "t = time.monotonic()
h.pwrite(pattern(3, 65536), 2 * MIB)
f = aio_flush(w)
r = aio_read(h, 4096, $((cold++)) * MIB)
# Twice the patience, in which hits are served all the time.
worst = n = 0
while time.monotonic() - t < 2.2 * $timeout:
    s = time.monotonic()
    assert w.pread(4096, 8192) == pattern(1, 4096, 8192)
    worst = max(worst, time.monotonic() - s)
    n += 1
    f.drive(1)
    r.drive(1)
assert not f.finished, f.error
assert not r.finished, r.error
print('%d hits, the slowest %.1f ms' % (n, worst * 1000))
assert worst < 0.5 * $pc_slowness, worst"
  if [ $end = CONT ]; then
    go_on
  else
    kill_origin
    restart_origin
  fi
  client "t = time.monotonic()
assert f.wait() is None
assert r.wait() is None
print('done %.0f ms after' % ((time.monotonic() - t) * 1000))
assert durable(65536, 2 * MIB) == pattern(3, 65536)
h.zero(65536, 2 * MIB)
h.flush()"
done
# Not that it was waited for until it said something.
grep -q 'connection lost: no answer within the timeout' "$cache_log" ||
  fail "a connection on which nothing came was not given up"

# What was sent to the stopped one and carried out late is not newer than what
# was written since (nbd.N-93, nbd.KN-8).
origin close write
client "h.pwrite(pattern(4, 4096), 3 * MIB)
f = aio_flush(w)"
origin wait write 1
stop_origin
client "h.pwrite(pattern(5, 4096), 3 * MIB)
t = time.monotonic()
while time.monotonic() - t < 1.5 * $timeout:
    w.pread(4096, 8192)"
go_on open write
client "assert f.wait() is None
h.flush()
assert durable(4096, 3 * MIB) == pattern(5, 4096)
assert h.pread(4096, 3 * MIB) == pattern(5, 4096)"
stop_client
stop_nbdkit cache || fail "the cache ended with $?"
nbdsh -u "$origin_uri" -c 'h.flush()'
"$PYTHON3" - "$durable" <<'PY'
import sys
sys.path.insert(0, ".")
with open(sys.argv[1], "rb") as f:
    f.seek(3 << 20)
    data = f.read(4096)
word = int.from_bytes(data[:8], "little")
assert word & 255 == 5, word & 255
PY
