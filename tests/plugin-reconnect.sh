#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-reconnect.sh - the origin goes away for a while, for longer than `reconnect', or has
# gone before a client comes: who waits, who is served, who gets which error, and that nothing
# has to be done when it is back (D15, D16, nbd.L-24).  The origin tells no holes, which would
# be known without reading them.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
start_client
client "
def timed(f, *args, **kwargs):
    began = time.monotonic()
    return errno_of(f, *args, **kwargs), time.monotonic() - began
"

# Within `reconnect': every kind of request waits and is carried out, hits are served.
start_origin extents=no size=16M
start_cache reconnect=60 cache-size=8M
client "
h, g = connect('$cache_sock'), connect('$cache_sock')
h.pwrite(pattern(1, 65536), 0)
h.pread(65536, 1 * MIB)
"
kill_origin
client "
read = aio_read(g, 4096, 4 * MIB)
h.pwrite(pattern(2, 65536), 65536)
flush = aio_flush(g)
e, took = timed(h.pread, 65536, 0)
assert e is None and took < 5 * $pc_slowness, (e, took)
assert h.pread(65536, 0) == pattern(1, 65536)
assert h.pread(65536, 65536) == pattern(2, 65536)
assert h.pread(65536, 1 * MIB) == bytes(65536)
# Somebody who comes now.
new = connect('$cache_sock')
assert new.get_size() == 16 * MIB
assert new.pread(65536, 0) == pattern(1, 65536)
new.pwrite(pattern(3, 4096), 2 * MIB)
assert new.pread(4096, 2 * MIB) == pattern(3, 4096)
assert not read.drive(1) and not flush.drive(1)
"
restart_origin
client "
assert read.wait() is None and flush.wait() is None
new.flush()
for x in h, g, new:
    x.shutdown()
"
client "
with open('$durable', 'rb') as f:
    assert f.read(65536) == pattern(1, 65536)
    assert f.read(65536) == pattern(2, 65536)
    f.seek(2 * MIB)
    assert f.read(4096) == pattern(3, 4096)
"
# Nobody is there, and the origin goes: the next one finds what is cached.
kill_origin
client "
h = connect('$cache_sock')
assert h.pread(65536, 0) == pattern(1, 65536)
h.shutdown()
"
grep -q 'connection lost' "$cache_log" || fail "the log does not say that the origin went away"
grep -q 'connected again' "$cache_log" || fail "the log does not say that it came back"
restart_origin
stop_nbdkit cache || fail "the cache ended with $?"
kill_origin

# Longer than `reconnect': misses and flushes fail with EIO, hits and writes do not, up to
# cache-dirty-max; it is tried on, and all of it is there in the end.
rm -f "$durable"
start_origin extents=no size=16M
start_cache reconnect=0.5 cache-size=8M cache-dirty-max=1M
client "
h, g = connect('$cache_sock'), connect('$cache_sock')
h.pwrite(pattern(1, 65536), 0)
h.flush()
"
kill_origin
client "
e, took = timed(h.pread, 4096, 4 * MIB)
assert e == 'EIO', e
assert 0.4 <= took < 0.5 + 10 * $pc_slowness, 'reconnect=0.5: failed after %.3f s' % took
e, took = timed(h.pread, 4096, 5 * MIB)
assert e == 'EIO' and took < 0.4 * $pc_slowness, 'the second waited again: %.3f s' % took
assert h.pread(65536, 0) == pattern(1, 65536)
h.pwrite(pattern(2, 65536), 65536)
assert errno_of(g.flush) == 'EIO'
for i in range(12):
    assert errno_of(h.flush) == 'EIO', 'told once and forgotten'
written = 2
while written < 64 and errno_of(h.pwrite, pattern(written + 1, 65536), written * 65536) is None:
    written += 1
assert 8 <= written <= 18, '%d pieces of 64 KiB were taken with cache-dirty-max=1M' % written
e = errno_of(h.pwrite, pattern(9, 65536), 8 * MIB)
assert e == 'EIO', e
new = connect('$cache_sock')
assert new.pread(65536, 65536) == pattern(2, 65536)
assert errno_of(new.pread, 4096, 6 * MIB) == 'EIO'
new.shutdown()
"
restart_origin
client "
end = time.monotonic() + 20 * $pc_slowness
while errno_of(h.pread, 4096, 4 * MIB) is not None:
    assert time.monotonic() < end, 'the origin is back, the cache is not'
# A writer at the bound waits for the first bytes to be cleaned, and no longer.
e, took = timed(h.pwrite, pattern(9, 65536), 8 * MIB)
assert e is None and took < 3 * $pc_slowness, (e, took)
g.flush()
with open('$durable', 'rb') as f:
    for i in range(written):
        assert f.read(65536) == pattern(i + 1, 65536), i
    f.seek(8 * MIB)
    assert f.read(65536) == pattern(9, 65536)
h.shutdown()
g.shutdown()
"
grep -q 'has been away for 0.5 s' "$cache_log" || fail "the log does not say when waiting ended"
stop_nbdkit cache || fail "the cache ended with $?"
kill_origin

# reconnect=0: nobody waits.
rm -f "$durable"
start_origin extents=no size=16M
start_cache reconnect=0
client "h = connect('$cache_sock')
h.pread(4096, 0)"
kill_origin
client "
e, took = timed(h.pread, 4096, 4 * MIB)
assert e == 'EIO' and took < 3 * $pc_slowness, (e, took)
assert h.pread(4096, 0) == bytes(4096)
"
restart_origin
client "
end = time.monotonic() + 20 * $pc_slowness
while errno_of(h.pread, 4096, 4 * MIB) is not None:
    assert time.monotonic() < end, 'reconnect=0 gave up for good'
h.shutdown()
"
stop_nbdkit cache || fail "the cache ended with $?"
kill_origin

# Several exports behind one origin, each with its own clients: a new name waits for the origin
# and does not hold up the others.
rm -f "$durable"
mkdir "$durable"
start_origin extents=no size=1M exports=a,b
start_cache dynamic-export=true reconnect=60
client "h = connect('$cache_sock', 'a')
h.pread(4096, 0)
import threading
late = []
"
kill_origin
client "
t = threading.Thread(target=lambda: late.append(bytes(connect('$cache_sock', 'b').pread(512, 0))))
t.start()
assert h.pread(4096, 0) == bytes(4096)
x = connect('$cache_sock', 'a')
assert x.pread(4096, 0) == bytes(4096)
x.shutdown()
assert not late
"
restart_origin
client "
t.join(30)
assert late == [bytes(512)], late
h.shutdown()
"
