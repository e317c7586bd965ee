#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-many-clients.sh - more clients than may come, than there are descriptors for, and hundreds that
# never finish their handshake (nbd.B-90): who is there notices nothing, who comes too many is hung up on,
# and when they have gone all is as it was.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
make_image 4M
start_origin
start_client
client "
import socket
def hung_up(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10 * $pc_slowness)
    s.connect(path)
    try:
        return s.recv(16) == b''
    except ConnectionResetError:
        return True
def hits(h):
    worst = 0
    for i in range(50):
        t = time.monotonic()
        h.pread(4096, 4096 * i)
        worst = max(worst, time.monotonic() - t)
    print('the slowest of 50 hits: %.1f ms' % (worst * 1000))
    # A wait for anybody would be longer, and so is a turn of a busy machine now and then.
    assert worst < 1 * $pc_slowness, worst"

# effect of clients: so many, and no more, in every mode.

for mode in writeback none; do
  start_cache clients=3 cache=$mode
  client "
c = [connect('$cache_sock') for i in range(3)]
hits(c[0])
for i in range(20):
    assert hung_up('$cache_sock')
hits(c[0])
c.pop().shutdown()
end = time.monotonic() + 20
while True:
    try:
        c.append(connect('$cache_sock'))
        break
    except nbd.Error:
        assert time.monotonic() < end
hits(c[2])
for h in c:
    h.shutdown()"
  grep -q 'a client is refused: 3 are here (clients=3)' "$cache_log" || fail "no word about it"
  stop_nbdkit cache || fail "the cache ended with $?"
  : > "$cache_log"
done

# Many come at once to open what is slow to open: more of them than may stay.
start_nbdkit slow "$testorigin" control="$tmp/slow.ctl" size=1M rdelay=0.01
start_nbdkit cache "$plugin" socket="$slow_sock" dynamic-export=true clients=4
client "
import threading
opened, refused = [], []
def come(i):
    try:
        opened.append(connect('$cache_sock', 'e%d' % i))
    except nbd.Error:
        refused.append(i)
t = [threading.Thread(target=come, args=(i,)) for i in range(24)]
for x in t:
    x.start()
for x in t:
    x.join()
print('%d opened, %d refused' % (len(opened), len(refused)))
assert len(opened) <= 4 and len(refused) >= 20
for h in opened:
    h.pread(4096, 0)
    h.shutdown()"
stop_nbdkit cache || fail "the cache ended with $?"

## 200 descriptors, 40 clients that stay in the handshake, then 300.

PC_NOFILE=200 start_cache cache-size=16M
descriptors () {
  find "/proc/$cache_pid/fd" -mindepth 1 | wc -l
}
client "
h = connect('$cache_sock')
h.pread(4 * MIB, 0)
hits(h)"
before=$(descriptors)
for n in 40 300; do
  client "
silent = []
greeted = 0
for i in range($n):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20 * $pc_slowness)
    s.connect('$cache_sock')
    silent.append(s)
    try:
        greeted += s.recv(18)[:8] == b'NBDMAGIC'
        # Each stops at another place.
        s.send([b'', b'\0\0', b'\0\0\0\3', b'\0\0\0\3IHAVEOPT\0\0\0\7\0\0\0\1'][i % 4])
    except OSError:
        pass
print('%d of $n are greeted' % greeted)
assert greeted == $n if $n == 40 else 20 < greeted < 70, greeted
hits(h)
h.pwrite(pattern($n % 255, 65536), 0)
h.flush()
assert h.pread(65536, 0) == pattern($n % 255, 65536)"
  at_most "descriptors" "$(descriptors)" 199
  client "
for s in silent:
    s.close()"
  as_before () { [ "$(descriptors)" -le "$before" ]; }
  wait_until 20 as_before || fail "$(descriptors) descriptors, before it were $before"
  client "
w = connect('$cache_sock')
hits(w)
w.shutdown()"
done
grep -q 'a client is refused: descriptors are short' "$cache_log" || fail "no word about it"
! grep -q 'Too many open files' "$cache_log" || fail "nbdkit had no descriptors left"
at_most "lines in the log" "$(grep -c 'pagecache: ' "$cache_log")" 40
client "h.shutdown()"
stop_nbdkit cache || fail "the cache ended with $?"

## Enough descriptors, and hundreds at the same moment.

start_cache cache-size=16M
client "
h = connect('$cache_sock')
h.pread(4 * MIB, 0)
hits(h)
silent = []
for i in range(400):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20 * $pc_slowness)
    s.connect('$cache_sock')
    silent.append(s)
hits(h)
assert all(s.recv(18)[:8] == b'NBDMAGIC' for s in silent)
hits(h)
w = connect('$cache_sock')
hits(w)
w.shutdown()
for s in silent:
    s.close()"
wait_until 20 as_before || fail "$(descriptors) descriptors, before it were $before"
client "h.shutdown()"
stop_nbdkit cache || fail "the cache ended with $?"
stop_client
