#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-trim-over-write.sh - a trim, and zeros, of more than one request may have
# go out while a write in their midst is still under way (nbd.N-34).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

# A write that is under way stands in the middle of what is trimmed next, which
# is more than one request may have: the rest goes out, and nothing spins.
start_origin size=24G
start_cache cache-size=16M cache-dirty-expire=0.05
start_client
client "h, g = connect('$cache_sock'), connect('$cache_sock')"
origin close write
client "h.pwrite(pattern(1, 4096), 3 << 20)"
origin wait write 1
client "h.trim(4095 * MIB, 0)
h.zero(4095 * MIB, 8192 * MIB)
f = aio_flush(g)
assert h.pread(4096, 3 << 20) == bytes(4096)
h.pwrite(pattern(2, 4096), 20000 * MIB)
assert not f.drive(100)"
origin open write
client "assert f.wait() is None
h.flush()
with open('$durable', 'rb') as d:
    d.seek(3 << 20)
    assert d.read(4096) == bytes(4096)
    d.seek(20000 * MIB)
    assert d.read(4096) == pattern(2, 4096)"
stop_client
stop_nbdkit cache || fail "the cache ended with $?"
