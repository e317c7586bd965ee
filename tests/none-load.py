# SPDX-License-Identifier: BSD-3-Clause
#
# none-load.py - clients of cache=none while the origin is killed, forgets, and comes back.
#
# Run inside tests/client.py by tests/plugin-model-none.sh:
#
#   load = Load(SOCKET, THREADS, SEED, DURABLE)
#   load.get_going()           every thread has done something since
#   load.stop()                the end, after a last flush that succeeds; prints what happened
#
# Nothing is sent again in that mode, so writes may be lost with the origin, and reads may show it at once.  But (D17,
# DUR-7) a flush that succeeds means that whatever was acknowledged before it was sent is durable, on all connections with
# multi-conn and on its own without; unless a flush has failed on the same connection, which has told it.  Which of the two
# the server answered first nobody here can say, if the write had begun when the reply of the flush came: so only what began
# later is expected.  What was told on one connection is still to be told on the others.
#
# Each thread owns blocks, which nobody else writes.  What a block may hold is the last content that is known to be durable
# and all that was written since, whether acknowledged or not.

import mmap
import random
import struct
import threading
import time

BLOCK = 4096
BLOCKS = 64                                # a thread


class Written:
    """One content of a block; acked: when its reply came, None if never."""

    def __init__(self, tag, began, acked=None):
        self.tag, self.began, self.acked = tag, began, acked


class Worker(threading.Thread):
    def __init__(self, load, number, seed):
        super().__init__(daemon=True)
        self.load, self.number = load, number
        self.h = connect(load.path)        # noqa: F821, client.py's
        self.h.set_strict_mode(0)
        self.rnd = random.Random(seed * 1000 + number)
        self.contents = [[Written(0, 0, 0)] for _ in range(BLOCKS)]
        self.told = 0                      # when the reply of its last flush that failed came
        self.done = self.errors = self.failed = self.flushed = self.refused = 0
        self.enough = False
        self.wrong = None

    def at(self, block):
        return (self.number * BLOCKS + block) * BLOCK

    def read(self, block):
        got = self.h.pread(BLOCK, self.at(block))
        tag, = struct.unpack_from("<Q", got)
        assert got == got[:8] * (BLOCK // 8), "a block of pieces at %d" % self.at(block)
        with self.load.lock:
            may = [w.tag for w in self.contents[block]]
        assert tag in may, "%x at %d, not one of %s" % (tag, self.at(block), may)

    def write(self, block):
        with self.load.lock:
            w = Written(self.rnd.getrandbits(60) << 4 | 1, self.load.tick())
            self.contents[block].append(w)
        data = w.tag.to_bytes(8, "little") * (BLOCK // 8)
        self.h.pwrite(data, self.at(block))
        with self.load.lock:
            w.acked = self.load.tick()

    def flush(self):
        load = self.load
        with load.lock:
            sent = load.tick()
        try:
            self.h.flush()
        except nbd.Error:                  # noqa: F821
            with load.lock:
                self.told = load.tick()
            self.failed += 1
            raise
        with load.lock:
            for w in load.together(self):
                w.see_durable(sent, self.told)
        self.flushed += 1

    def see_durable(self, sent, told):
        """A flush that was sent then has succeeded, where one had failed by told; the lock is held."""
        for block, contents in enumerate(self.contents):
            covered = [i for i, w in enumerate(contents)
                       if w.acked is not None and told < w.began and w.acked < sent]
            if not covered:
                continue
            last = covered[-1]
            tag, = struct.unpack_from("<Q", self.load.durable, self.at(block))
            assert tag in [w.tag for w in contents[last:]], \
                "a flush has succeeded, and the write at %d is lost" % self.at(block)
            del contents[:last]

    def refuse(self, block):
        """Half a block."""
        if self.h.get_block_size(nbd.SIZE_MINIMUM) != BLOCK:    # noqa: F821
            return
        at = self.at(block)
        what = self.rnd.choice([
            lambda: self.h.pread(512, at),
            lambda: self.h.pread(BLOCK, at + 512),
            lambda: self.h.pwrite(bytes(512), at + 512),
            lambda: self.h.zero(BLOCK - 1, at),
            lambda: self.h.trim(1, at),
            lambda: self.h.block_status(512, at, lambda *a: 0),
        ])
        assert errno_of(what) == "EINVAL"   # noqa: F821, client.py's
        self.refused += 1

    def one(self):
        what = self.rnd.random()
        block = self.rnd.randrange(BLOCKS)
        if what < 0.3:
            self.read(block)
        elif what < 0.92:
            self.write(block)
        elif what < 0.95:
            self.refuse(block)
        else:
            self.flush()

    def run(self):
        try:
            while not self.enough:
                try:
                    self.one()
                except nbd.Error as e:     # noqa: F821
                    # Its outcome is unknown: the origin has gone meanwhile.
                    assert e.errno == "EIO", e
                    self.errors += 1
                self.done += 1
        except Exception as e:
            self.wrong = e


class Load:
    def __init__(self, path, threads, seed, durable):
        self.path = path
        self.lock = threading.Lock()
        self.now = 0
        with open(durable, "rb") as f:
            self.durable = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
        self.workers = [Worker(self, i, seed) for i in range(threads)]
        self.multi = self.workers[0].h.can_multi_conn()
        for w in self.workers:
            w.start()

    def tick(self):
        self.now += 1
        return self.now

    def together(self, worker):
        return self.workers if self.multi else [worker]

    def look(self):
        for w in self.workers:
            if w.wrong is not None:
                raise w.wrong

    def get_going(self):
        before = [w.done for w in self.workers]
        end = time.monotonic() + 60
        pause = threading.Event()
        while not all(w.done > b + 20 for w, b in zip(self.workers, before)):
            self.look()
            assert time.monotonic() < end, "the clients do not move"
            pause.wait(0.001)
        self.look()

    def stop(self):
        for w in self.workers:
            w.enough = True
        for w in self.workers:
            w.join(60)
            assert not w.is_alive(), "a client hangs"
        self.look()
        for w in self.workers:
            errno_of(w.flush)              # noqa: F821, of what is still to be told
            w.flush()
            w.see_durable(self.now + 1, w.told)
            w.h.shutdown()
        print("multi-conn %s:" % self.multi, *["%s %d" % (n, sum(getattr(w, n) for w in self.workers))
                                               for n in ("done", "errors", "flushed", "failed", "refused")])
        assert sum(w.flushed for w in self.workers) > 0
