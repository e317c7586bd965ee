# SPDX-License-Identifier: BSD-3-Clause
#
# reconnect-load.py - clients that read, write and flush while the origin dies and comes back.
#
# Run inside tests/client.py by tests/plugin-reconnect-kills.sh, which kills and
# restarts the origin between the calls of Load:
#
#   load = Load(SOCKET, THREADS, SEED)
#   load.get_going()           every thread has done something since
#   load.get_stuck(SECONDS)    a request has waited for so long
#   load.see_end(PIDFILE)      those that waited when the origin came back are done
#   load.stop(DURABLE)         flushed, and every byte is there
#
# Each thread has a connection and 2 MiB of its own, larger than its share of the cache, and knows
# what is in every block of 4096 bytes.  An error, or a byte that is not the last one
# written, ends the thread and fails the next call.

import os
import random
import threading
import time

BLOCK = 4096
BLOCKS = 512


class Worker(threading.Thread):
    def __init__(self, path, number, seed):
        super().__init__(daemon=True)
        self.h = connect(path)             # noqa: F821, client.py's
        self.base = number * BLOCK * BLOCKS
        self.rnd = random.Random(seed * 1000 + number)
        self.tags = [None] * BLOCKS
        self.began = None                  # of the request under way
        self.spans = []                    # (began, ended) of those over
        self.done = 0
        self.enough = False
        self.wrong = None

    def content(self, block):
        tag = self.tags[block]
        if tag is None:
            return bytes(BLOCK)
        return tag.to_bytes(8, "little") * (BLOCK // 8)

    def one(self):
        what = self.rnd.random()
        block = self.rnd.randrange(BLOCKS)
        at = self.base + block * BLOCK
        if what < 0.5:
            got = self.h.pread(BLOCK, at)
            assert got == self.content(block), "wrong bytes at %d" % at
        elif what < 0.97:
            tag = self.rnd.getrandbits(60)
            self.h.pwrite(tag.to_bytes(8, "little") * (BLOCK // 8), at)
            self.tags[block] = tag
        else:
            self.h.flush()

    def run(self):
        try:
            while not self.enough:
                self.began = time.time()
                self.one()
                self.spans.append((self.began, time.time()))
                self.began = None
                self.done += 1
        except Exception as e:
            self.wrong = e


class Load:
    def __init__(self, path, threads, seed):
        self.path = path
        self.workers = [Worker(path, i, seed) for i in range(threads)]
        self.waits = []
        for w in self.workers:
            w.start()

    def look(self):
        for w in self.workers:
            if w.wrong is not None:
                raise w.wrong

    def until(self, condition, what, seconds=60):
        end = time.monotonic() + seconds
        pause = threading.Event()
        while not condition():
            self.look()
            assert time.monotonic() < end, what
            pause.wait(0.001)
        self.look()

    def get_going(self):
        before = [w.done for w in self.workers]
        for w in self.workers:
            del w.spans[:]
        self.until(lambda: all(w.done > b + 20 for w, b in zip(self.workers, before)),
                   "the clients do not move")

    def get_stuck(self, seconds):
        def waits(w):
            began = w.began
            return began is not None and time.time() - began >= seconds
        self.until(lambda: any(waits(w) for w in self.workers),
                   "nothing waits for the origin")

    def see_end(self, pidfile):
        back = os.stat(pidfile).st_mtime
        self.until(lambda: all(w.began is None or w.began > back for w in self.workers),
                   "a request that waited was not done")
        ends = [end for w in self.workers for began, end in list(w.spans) if began <= back < end]
        assert ends, "nothing was waiting when the origin came back"
        self.waits.append(max(ends) - back)

    def stop(self, durable):
        for w in self.workers:
            w.enough = True
        for w in self.workers:
            w.join(60)
            assert not w.is_alive(), "a client hangs"
        self.look()
        self.workers[0].h.flush()
        with open(durable, "rb") as f:
            for w in self.workers:
                for i in range(BLOCKS):
                    want = w.content(i)
                    assert w.h.pread(BLOCK, w.base + i * BLOCK) == want, (w.base, i)
                    f.seek(w.base + i * BLOCK)
                    assert f.read(BLOCK) == want, "not durable: %d" % (w.base + i * BLOCK)
                w.h.shutdown()

    def median(self):
        waits = sorted(self.waits)
        return (waits[(len(waits) - 1) // 2] + waits[len(waits) // 2]) / 2
