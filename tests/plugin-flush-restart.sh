#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-flush-restart.sh - the origin answers writes, is killed and comes back
# without them; the next flush still makes them durable (D16, N-93).  A
# cache that takes a write's reply for durability loses them here.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

start_origin size=64M
start_cache cache=writeback cache-size=16M reconnect=30
start_client
client "D = '$durable'
def durable(count, offset):
    with open(D, 'rb') as f:
        f.seek(offset)
        return f.read(count)
h, g = connect('$cache_sock'), connect('$cache_sock')"

# The flush waits at the origin's door, all writes have been answered.
origin close flush
client "h.pwrite(pattern(1, 1 * MIB), 1 * MIB)
h.pwrite(pattern(2, 777), 12345)
h.zero(65536, 3 * MIB)
f = aio_flush(g)"
origin wait flush 1
kill_origin
client "assert durable(1000, 1 * MIB) == bytes(1000)"
restart_origin
client "assert f.wait() is None
assert durable(1 * MIB, 1 * MIB) == pattern(1, 1 * MIB)
assert durable(777, 12345) == pattern(2, 777)"

# nbdkit waits for clients that are still there.
client "h.shutdown()
g.shutdown()"

# Written through, answered, and then the crash, without any flush under way.
restart_cache cache=writethrough cache-size=16M reconnect=30
client "h, g = connect('$cache_sock'), connect('$cache_sock')
h.pwrite(pattern(3, 1 * MIB), 8 * MIB)
assert h.pread(1 * MIB, 8 * MIB) == pattern(3, 1 * MIB)"
kill_origin
restart_origin
client "assert h.pread(1 * MIB, 8 * MIB) == pattern(3, 1 * MIB)
g.flush()
assert durable(1 * MIB, 8 * MIB) == pattern(3, 1 * MIB)"

client "h.shutdown()
g.shutdown()"

# A cache smaller than what is unstable: what left it had to be durable.
restart_cache cache=writeback cache-size=2M reconnect=30
client "h = connect('$cache_sock')
for i in range(16):
    h.pwrite(pattern(i, 1 * MIB, i * MIB), 16 * MIB + i * MIB)"
kill_origin
restart_origin
client "for i in range(16):
    assert h.pread(1 * MIB, 16 * MIB + i * MIB) == pattern(i, 1 * MIB, i * MIB), i
h.flush()
for i in range(16):
    assert durable(1 * MIB, 16 * MIB + i * MIB) == pattern(i, 1 * MIB, i * MIB), i"
stop_client
stop_nbdkit cache || fail "the cache ended with $?"
