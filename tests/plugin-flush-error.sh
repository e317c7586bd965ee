#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-flush-error.sh - what the origin refuses is told to every flush on
# every connection, for as long as it is so, and nothing is lost meanwhile
# (D7, N-19).

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
a, b = connect('$cache_sock'), connect('$cache_sock')"

# The origin's flush fails: EIO, twice, on whichever connection asks.
origin fail flush EIO
client "a.pwrite(pattern(1, 100000), 4096)
assert errno_of(a.flush) == 'EIO'
assert errno_of(b.flush) == 'EIO'
assert errno_of(a.flush) == 'EIO'
assert b.pread(100000, 4096) == pattern(1, 100000)"
origin clearfail
client "assert errno_of(b.flush) is None
assert durable(100000, 4096) == pattern(1, 100000)
assert errno_of(a.flush) is None"

# The origin is full: the write back fails, the client's write did not.
origin fail write ENOSPC
client "a.pwrite(pattern(2, 50000), 1 * MIB)
assert errno_of(b.flush) == 'ENOSPC'
assert errno_of(a.flush) == 'ENOSPC'
assert a.pread(50000, 1 * MIB) == pattern(2, 50000)
assert errno_of(a.pwrite, pattern(3, 4096), 2 * MIB, nbd.CMD_FLAG_FUA) == 'ENOSPC'"
origin clearfail
client "assert errno_of(b.flush) is None
assert durable(50000, 1 * MIB) == pattern(2, 50000)"

# One bad place does not keep the others from becoming durable for ever.
origin fail-range write 5242880 5246976 EIO
client "a.pwrite(pattern(4, 4096), 5 * MIB)
a.pwrite(pattern(5, 4096), 6 * MIB)
assert errno_of(a.flush) == 'EIO'"
origin clearfail
client "assert errno_of(a.flush) is None
assert durable(4096, 5 * MIB) == pattern(4, 4096)
assert durable(4096, 6 * MIB) == pattern(5, 4096)"

# A read that fails is told, not remembered.
origin fail read EIO 1
client "assert errno_of(a.pread, 4096, 40 * MIB) == 'EIO'
assert a.pread(4096, 40 * MIB) == bytes(4096)"
stop_client
stop_nbdkit cache || fail "the cache ended with $?"
