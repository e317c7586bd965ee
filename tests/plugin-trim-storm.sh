#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-trim-storm.sh - 8 TiB are trimmed, and 512 GiB zeroed, in pieces of
# 4 GiB as mkfs and blkdiscard do, over an origin that takes its time: it takes no
# longer than the origin does, costs no memory, and hits are served meanwhile
# (nbd.B-82).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

requires_nbdkit_plugin memory
requires_nbdkit_filter delay

start_nbdkit far -t 32 --filter=delay memory 8T delay-read=2ms delay-write=2ms \
  delay-trim=2ms delay-zero=2ms
start_nbdkit cache -t 32 "$plugin" "$far_uri" cache-size=16M
before=$(resident "$cache_pid")
start_client
client "import random, threading
sock = '$cache_sock'
h, g = connect(sock), connect(sock)
size = h.get_size()
piece = (1 << 32) - 65536
rnd = random.Random($seed)
hot = 1 << 30

# Origins are sent zeros of 32 MiB at most (nbdkit fills larger ones wrongly).
def storm(what, size):
    # dirty pages all over the place, in the storm's way
    spots = [rnd.randrange(size // 4096) * 4096 for _ in range(500)]
    for at in spots:
        h.pwrite(pattern(1, 4096), at)
    g.pwrite(pattern(2, 65536), hot)
    state = {'n': 0, 'worst': 0, 'on': True}
    def hits():
        while state['on']:
            s = time.monotonic()
            # the storm passes over it: what was there, or zeros
            assert len(g.pread(4096, hot + 4096 * (state['n'] % 16))) == 4096
            state['worst'] = max(state['worst'], time.monotonic() - s)
            state['n'] += 1
    t = threading.Thread(target=hits)
    t.start()
    start = time.monotonic()
    pending, at, n = [], 0, 0
    while at < size or pending:
        while at < size and len(pending) < 16:
            count = min(piece, size - at)
            pending.append(h.aio_trim(count, at) if what == 'trim' else h.aio_zero(count, at))
            at += count
            n += 1
        h.poll(100)
        pending = [c for c in pending if not h.aio_command_completed(c)]
    took = time.monotonic() - start
    s = time.monotonic()
    h.flush()
    flush = time.monotonic() - s
    state['on'] = False
    t.join()
    print('%s: %d commands in %.2f s, flush %.2f s; %d hits meanwhile, the slowest %.1f ms'
          % (what, n, took, flush, state['n'], state['worst'] * 1000))
    # What was before it is gone; what comes after it stays.
    for at in spots[::10]:
        assert h.pread(4096, at) == bytes(4096), at
    h.pwrite(pattern(3, 4096), spots[0])
    h.flush()
    assert h.pread(4096, spots[0]) == pattern(3, 4096)
    return took + flush, state['worst']

for what, n in ('trim', size), ('zero', size >> 4), ('trim', size):
    took, worst = storm(what, n)
    assert took < 10 * $pc_slowness, took
    assert worst < 1 * $pc_slowness, worst"
after=$(resident "$cache_pid")
[ "$SANITIZERS" != no ] || [ -n "${PC_VALGRIND:-}" ] ||
  at_most "KiB more than before" $((after - before)) $((16384 + 16384))
stop_client
stop_nbdkit cache || fail "the cache ended with $?"
