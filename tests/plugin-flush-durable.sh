#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-flush-durable.sh - no flush and no FUA reply precedes durability at
# the origin, and a flush covers what every connection wrote (DUR-1, N-11,
# N-12, N-14).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

start_origin size=64M
start_cache cache=writeback cache-size=16M
start_client
client "D = '$durable'
def durable(count, offset):
    with open(D, 'rb') as f:
        f.seek(offset)
        return f.read(count)
a, b, c = [connect('$cache_sock') for i in range(3)]"

# The origin's flush held at the door before it does anything.
origin close flush
client "a.pwrite(pattern(1, 100000), 4096)
b.pwrite(pattern(2, 5000), 1000001)
b.zero(8192, 65536)
f = aio_flush(c)"
origin wait flush 1
client "assert not f.drive(50), 'a flush was answered before the origin flushed'
assert durable(100, 4096) == bytes(100)"
origin open flush
client "assert f.wait() is None
want = bytearray(pattern(1, 100000))
want[65536 - 4096:65536 - 4096 + 8192] = bytes(8192)
assert durable(100000, 4096) == want
assert durable(5000, 1000001) == pattern(2, 5000)"

# Writes held at the door: the flush that covers them waits for them, too.
origin - <<< "clearlog
close write"
client "a.pwrite(pattern(3, 40960), 8 * MIB)
f = aio_flush(c)"
origin wait write 1
client "assert not f.drive(50), 'a flush was answered before the write'"
[ "$(origin_stat flush)" -eq 0 ] || fail "the origin was flushed too early"
origin open write
client "assert f.wait() is None
assert durable(40960, 8 * MIB) == pattern(3, 40960)"

# FUA, by way of whatever the origin can.
origin close flush
client "w = aio_write(a, pattern(4, 4096), 16 * MIB, nbd.CMD_FLAG_FUA)
w.drive(50)
assert not w.finished or durable(4096, 16 * MIB) == pattern(4, 4096)"
origin open flush
client "assert w.wait() is None
assert durable(4096, 16 * MIB) == pattern(4, 4096)"

# A hit is served while a flush is out (D6).
origin close flush
client "a.pwrite(pattern(5, 4096), 0)
f = aio_flush(c)"
origin wait flush 1
client "assert b.pread(4096, 0) == pattern(5, 4096)
a.pwrite(pattern(6, 4096), 0)
assert b.pread(4096, 0) == pattern(6, 4096)
assert not f.drive(0)"
origin open flush
client "assert f.wait() is None
a.flush()
assert durable(4096, 0) == pattern(6, 4096)"
stop_client
stop_nbdkit cache || fail "the cache ended with $?"
