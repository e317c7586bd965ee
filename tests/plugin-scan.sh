#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-scan.sh - a client that reads more than the cache holds, in order and with much under way, is served past it; and gets
# what was written before it asked, in whole pages, while another client writes into the very pages that are on their way.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

start_nbdkit far memory 128M
start_nbdkit cache "$plugin" "$far_uri" cache-size=16M cache-stats="$tmp/stats"
"$PYTHON3" - "$far_sock" "$cache_sock" "$seed" <<'PY'
import random
import select
import struct
import sys

import nbd

PAGE, LEN, DEPTH, PASSES = 4096, 256 << 10, 64, 3
random.seed(int(sys.argv[3]))


def page(version):
    return struct.pack("<Q", version) * (PAGE // 8)


def connect(sock):
    h = nbd.NBD()
    h.connect_unix(sock)
    return h


h = connect(sys.argv[1])
size = h.get_size()
npages = size // PAGE
# Every page has a version, and begins with its own number.
acked = [1 + i for i in range(npages)]
for off in range(0, size, 1 << 20):
    h.pwrite(b"".join(page(v) for v in acked[off // PAGE:(off + (1 << 20)) // PAGE]), off)
h.shutdown()

# nbdkit works on 16 requests of a connection at once, of 4 MiB together: three connections keep enough of them waiting.
readers = [connect(sys.argv[2]) for i in range(3)]
writer = connect(sys.argv[2])
writes = 0


def check(buf, first, least):
    data = buf.to_bytearray()
    for i, want in enumerate(least):
        piece = data[i * PAGE:(i + 1) * PAGE]
        got = struct.unpack_from("<Q", piece)[0]
        if piece != page(got):
            sys.exit("page %d is of two moments" % (first + i))
        if got < want:
            sys.exit("page %d: read version %d, %d was answered before" % (first + i, got, want))


for turn in range(PASSES):
    # Looked at when all of it came: a client that is slow itself is not ahead of its reads.
    pos, flight, came = 0, [], []
    while pos < size or flight:
        while pos < size and len(flight) < DEPTH:
            first = pos // PAGE
            buf = nbd.Buffer(LEN)
            h = readers[pos // LEN % len(readers)]
            flight.append(((h, h.aio_pread(buf, pos)), buf, first, acked[first:first + LEN // PAGE]))
            pos += LEN
        if random.random() < 0.3:
            first = random.choice(flight)[2]
            p = first + random.randrange(LEN // PAGE)
            writer.pwrite(page(acked[p] + npages), p * PAGE)
            acked[p] += npages
            writes += 1
        select.select([h.aio_get_fd() for h in readers],
                      [h.aio_get_fd() for h in readers if h.aio_get_direction() & nbd.AIO_DIRECTION_WRITE], [])
        for h in readers:
            h.poll(0)
        for f in [f for f in flight if f[0][0].aio_command_completed(f[0][1])]:
            flight.remove(f)
            came.append(f)
    for f in came:
        check(*f[1:])
for h in readers:
    h.shutdown()
writer.flush()
writer.shutdown()
h = connect(sys.argv[1])
for p in range(npages):
    if acked[p] != p + 1 and h.pread(PAGE, p * PAGE) != page(acked[p]):
        sys.exit("page %d is not at the origin" % p)
print("%d writes between" % writes)
if writes < 50:
    sys.exit("too few to prove anything")
PY
stop_nbdkit cache || fail "the cache ended with $?"
passed=$(sed -n 's/.*\.bypass_bytes=//p' "$tmp/stats")
echo "$((passed >> 20)) MiB of $((3 * 128)) went past the cache"
[ "$passed" -gt $((64 << 20)) ] || fail "no scan was seen"
