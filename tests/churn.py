# SPDX-License-Identifier: BSD-3-Clause
#
# churn.py - clients that come and go at a cache, exports that are opened and closed, for plugin-churn.sh.
#
#   churn.py CACHE-SOCKET SECONDS SEED PAUSE-MS FIRST END
#
# Each round a client opens one of the exports e[FIRST] to e[END - 1], does a few requests, checks what it reads against
# what it wrote, and leaves: in order, by closing the socket, or in the middle of the handshake.  Every
# export has one writer, which knows what is in it; all are 2 MiB.  An error ends it with status 1.

import random
import select
import socket
import sys
import time

import nbd

SIZE = 2 << 20
PAGE = 4096

path, seconds, seed, pause = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
rnd = random.Random(seed)
names = ["e%d" % i for i in range(int(sys.argv[5]), int(sys.argv[6]))]
model = {n: {} for n in names}          # page: byte
end = time.monotonic() + seconds
rounds = ops = 0


def connect(name):
    h = nbd.NBD()
    h.set_export_name(name)
    h.connect_unix(path)
    return h


def one(name):
    global ops
    h = connect(name)
    pages = model[name]
    for _ in range(rnd.randrange(1, 12)):
        ops += 1
        page = rnd.randrange(SIZE // PAGE)
        n = min(rnd.choice((1, 1, 4, 16, 64)), SIZE // PAGE - page)
        what = rnd.random()
        if what < 0.5:
            got = h.pread(n * PAGE, page * PAGE)
            for i in range(n):
                want = pages.get(page + i)
                piece = bytes(got[i * PAGE:(i + 1) * PAGE])
                assert want is None or piece == bytes([want]) * PAGE, (name, page + i, want, piece[:16])
        elif what < 0.85:
            byte = rnd.randrange(1, 256)
            h.pwrite(bytes([byte]) * (n * PAGE), page * PAGE)
            pages.update((page + i, byte) for i in range(n))
        elif what < 0.9:
            h.zero(n * PAGE, page * PAGE)
            pages.update((page + i, 0) for i in range(n))
        elif what < 0.93:
            h.trim(n * PAGE, page * PAGE)
            for i in range(n):
                pages.pop(page + i, None)
        elif what < 0.96:
            h.flush()
        else:
            h.cache(n * PAGE, page * PAGE)
    if rnd.random() < 0.5:
        h.shutdown()
    # Else the socket is closed when h goes.


while time.monotonic() < end:
    rounds += 1
    if rnd.random() < 0.1:
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        s.send(b"\0\0\0\3"[:rnd.randrange(5)])
        s.close()
    one(rnd.choice(names))
    select.select([], [], [], pause * rnd.random() / 500)
print("%d clients, %d requests" % (rounds, ops), flush=True)
