# SPDX-License-Identifier: BSD-3-Clause
#
# raw-client.py SOCKET SIZE - a client that asks for what no library would ask for.
#
# Speaks NBD by hand over a Unix socket to a writable export of SIZE bytes, sends each
# request below and prints what was answered if it is not what should be; exit
# status 1 then.  After each the connection, or a new one where the server may hang up,
# must still serve a plain read.

import os
import socket
import struct
import sys

EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = \
    1, 5, 12, 22, 28, 75, 95, 108
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST = 1, 2, 4, 8, 16

path, size = sys.argv[1], int(sys.argv[2])
failures = 0


class Gone(Exception):
    """The server has hung up."""


class Client:
    def __init__(self, name=b"", structured=False):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        self.s.connect(path)
        self.cookie = 0
        magic, opt, flags = struct.unpack(">8sQH", self.take(18))
        assert magic == b"NBDMAGIC" and opt == 0x49484156454F5054
        self.s.sendall(struct.pack(">I", flags & 3))
        self.structured = structured
        if structured:
            assert self.option(8)[0][0] == 1
            assert self.option(10, struct.pack(">I", len(name)) + name
                               + struct.pack(">II", 1, 15)
                               + b"base:allocation")[-1][0] == 1
        answers = self.option(7, struct.pack(">I", len(name)) + name
                              + struct.pack(">HH", 1, 3))
        self.refused = answers[-1][0] != 1
        if not self.refused:
            info = [d for t, d in answers if t == 3 and d[:2] == b"\0\0"][0]
            self.size, self.flags = struct.unpack(">QH", info[2:])

    def take(self, n):
        data, at = bytearray(n), 0
        while at < n:
            got = self.s.recv_into(memoryview(data)[at:])
            if not got:
                raise Gone
            at += got
        return bytes(data)

    def option(self, opt, data=b""):
        """All answers to an option, as (type, data)."""
        self.s.sendall(struct.pack(">8sII", b"IHAVEOPT", opt, len(data)) + data)
        answers = []
        while True:
            magic, _, kind, n = struct.unpack(">QIII", self.take(20))
            assert magic == 0x3E889045565A9
            answers.append((kind, self.take(n)))
            if kind == 1 or kind >> 31:
                return answers

    def send(self, cmd, off, count, flags=0, payload=b"", magic=0x25609513):
        self.cookie += 1
        self.s.sendall(struct.pack(">IHHQQI", magic, flags, cmd, self.cookie,
                                   off, count) + payload)

    def receive(self, length=0):
        """(error, data or extents) of the next reply."""
        magic, = struct.unpack(">I", self.take(4))
        if magic == 0x67446698:
            err, _ = struct.unpack(">IQ", self.take(12))
            return err, self.take(length) if err == 0 else b""
        assert magic == 0x668E33EF
        data, err = b"", 0
        while True:
            flags, kind, _, n = struct.unpack(">HHQI", self.take(16))
            chunk = self.take(n)
            if kind >> 15:
                err = struct.unpack(">I", chunk[:4])[0]
            elif kind == 1:
                data += chunk[8:]
            elif kind == 2:
                data += bytes(struct.unpack(">QI", chunk)[1])
            elif kind == 5:
                data = [struct.unpack(">II", chunk[i:i + 8])
                        for i in range(4, len(chunk), 8)]
            if flags & 1:
                return err, data
            self.take(4)

    def ask(self, cmd, off, count, flags=0, payload=b""):
        self.send(cmd, off, count, flags, payload)
        return self.receive(count if cmd == READ else 0)


def check(what, got, *allowed):
    global failures
    if got not in allowed:
        print("%s: %s instead of %s" % (what, got, " or ".join(map(str, allowed))))
        failures += 1


def alive(c, what):
    check(what + ": a read after it", c.ask(READ, 0, 512)[0], 0)


top = 2**64 - 1
most = 2**32 - 1
c = Client()
check("the size", c.size, size)

# Past the end, at its edge, and where sums wrap (nbd.B-80): reads say EINVAL, writes ENOSPC
# or EINVAL, and the connection stays.
for off, count in ((size, 1), (size - 1, 2), (size + 1, 1), (2**63, 512),
                   (2**63 - 1, 1), (top, 1), (top - 511, 512), (top - 1, 4096),
                   (size - 512, 4096), (2**63 - 4096, 8192)):
    where = "[%d, +%d)" % (off, count)
    check("read " + where, c.ask(READ, off, count)[0], EINVAL)
    check("write " + where, c.ask(WRITE, off, count, 0, bytes(count))[0], ENOSPC, EINVAL)
    for cmd, name in ((TRIM, "trim "), (ZEROES, "zero "), (CACHE, "cache ")):
        check(name + where, c.ask(cmd, off, count)[0], ENOSPC, EINVAL)
alive(c, "past the end")

# Nothing at all: no effect, an answer.
for cmd in (READ, WRITE, TRIM, ZEROES, CACHE):
    check("length 0, command %d" % cmd, c.ask(cmd, 0, 0)[0], 0, EINVAL, ENOSPC)
    check("length 0 at the end, command %d" % cmd, c.ask(cmd, size, 0)[0], 0, EINVAL, ENOSPC)
alive(c, "length 0")

# The longest length there is, for what carries no data (nbd.B-82).
for cmd in (TRIM, ZEROES, CACHE):
    for flags in (0, FUA, NO_HOLE if cmd == ZEROES else 0):
        check("2^32-1, command %d" % cmd, c.ask(cmd, 0, most, flags)[0],
              EINVAL, ENOSPC, *([0] if size >= most else []))
check("a read of 2^32-1", c.ask(READ, 0, most)[0], EINVAL, ENOMEM)
check("a read of 64 MiB + 1", c.ask(READ, 0, (64 << 20) + 1)[0], EINVAL, ENOMEM)
alive(c, "2^32-1")

# The largest write that nbdkit takes, through a cache that is much smaller, and one byte more
# (nbd.B-7, nbd.B-81).
big = os.urandom(1 << 20) * 64
if size >= len(big):
    check("a write of 64 MiB", c.ask(WRITE, 0, len(big), 0, big)[0], 0)
    check("what it wrote", c.ask(READ, 0, len(big))[1] == big, True)
    check("a write of 64 MiB + 1", c.ask(WRITE, 0, len(big) + 1, 0, big + b"x")[0],
          EINVAL, ENOMEM)
    check("a zero of all that", c.ask(ZEROES, 0, len(big))[0], 0)
    alive(c, "64 MiB")

# Flags that belong elsewhere or to nobody, and commands that do not exist (nbd.B-83, nbd.B-84).
check("FUA on a read", c.ask(READ, 0, 512, FUA)[0], 0, EINVAL)
check("DF without structured replies", c.ask(READ, 0, 512, DF)[0], EINVAL, 0)
check("NO_HOLE on a write", c.ask(WRITE, 0, 512, NO_HOLE, bytes(512))[0], EINVAL)
check("an unknown flag", c.ask(WRITE, 0, 512, 0x8000, bytes(512))[0], EINVAL)
check("REQ_ONE on a trim", c.ask(TRIM, 0, 512, REQ_ONE)[0], EINVAL)
check("FAST_ZERO on a flush", c.ask(FLUSH, 0, 0, FAST)[0], EINVAL)
for cmd in (8, 77, 65535):
    check("command %d" % cmd, c.ask(cmd, 0, 512)[0], EINVAL)
check("a flush with a range", c.ask(FLUSH, 4096, 4096)[0], EINVAL, 0)
check("block status without structured replies", c.ask(STATUS, 0, 512)[0], EINVAL)
alive(c, "flags")

# A fast zero is an answer in any case, and none changes what it refuses (nbd.B-86).
mark = os.urandom(4096)
check("a write", c.ask(WRITE, 8192, 4096, FUA, mark)[0], 0)
for flags in (FAST, FAST | NO_HOLE, FAST | FUA):
    err = c.ask(ZEROES, 8192, 4096, flags)[0]
    check("a fast zero, flags %d" % flags, err, 0, ENOTSUP)
    got = c.ask(READ, 8192, 4096)[1]
    check("what it left", got == (mark if err else bytes(4096)), True)
    check("a write", c.ask(WRITE, 8192, 4096, 0, mark)[0], 0)

# Block status up to the longest length; extents lie inside the request, or go at most
# to the end of the export.
s = Client(structured=True)
for off, count in ((0, size), (0, 1), (size - 1, 1), (512, 512), (1, size - 1)):
    for flags in (0, REQ_ONE):
        err, extents = s.ask(STATUS, off, count, flags)
        check("status [%d, +%d)" % (off, count), err, 0)
        told = sum(n for n, _ in extents)
        check("extents of [%d, +%d)" % (off, count),
              told > 0 and off + told <= size and (told >= count or flags == REQ_ONE)
              and all(n > 0 for n, _ in extents), True)
check("status of 2^32-1", s.ask(STATUS, 0, most)[0], EINVAL)
check("status past the end", s.ask(STATUS, size, 1)[0], EINVAL)
check("status of nothing", s.ask(STATUS, 0, 0)[0], EINVAL, 0)
check("a structured read", s.ask(READ, 8192, 4096)[1], mark)
check("the same, whole", s.ask(READ, 8192, 4096, DF)[1], mark)
alive(s, "structured")

# Half a write, and gone: nothing of it is applied (nbd.B-87).
h = Client()
h.send(WRITE, 8192, 4096, 0, b"x" * 2048)
h.s.close()
# A read, and gone without a look at the answer; sixteen, and no more to say (nbd.B-88).  nbdkit 1.32
# aborts now and then when a client with several requests under way hangs up both ways.
h = Client()
h.send(READ, 0, 4096)
h.s.close()
h = Client()
for i in range(16):
    h.send(READ, 4096 * i, 4096)
h.s.shutdown(socket.SHUT_WR)
try:
    while h.s.recv(65536):
        pass
except OSError:
    pass
h.s.close()
alive(c, "clients that went")
check("after half a write", c.ask(READ, 8192, 4096)[1], mark)

# A client that never reads its answers keeps its own threads waiting (nbd.B-89).
deaf = Client()
for i in range(64):
    deaf.send(READ, 0, 1 << 20)
alive(c, "a client that does not read")

# Many that stop in the handshake, at each step (nbd.B-90).
stuck = []
for i in range(200):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendall(b"\0\0\0\1IHAVEOPT\0\0\0\7\0\0\0\6"[:i % 20])
    stuck.append(s)
alive(c, "200 handshakes that wait")
alive(Client(), "a client that came after them")
for s in stuck:
    s.close()
# It reads them after all: nbdkit 1.32 does not survive it if such a client hangs up.
check("answers that waited", [deaf.receive(1 << 20)[0] for i in range(64)], [0] * 64)

# Two clients write the same place at once: each sector is one's or the other's (nbd.B-93).
one, two = Client(), Client()
for i in range(20):
    one.send(WRITE, 512, 262144, 0, b"1" * 262144)
    two.send(WRITE, 131072 + 512 * i, 262144, 0, b"2" * 262144)
    check("a write", (one.receive()[0], two.receive()[0]), (0, 0))
    got = c.ask(READ, 131072 + 512 * i, 131072)[1]
    check("sectors of two writers",
          all(got[j:j + 512] in (b"1" * 512, b"2" * 512) for j in range(0, 130048, 512)), True)

# Not NBD: hung up on, and nobody else minds.
for junk in (b"GET / HTTP/1.0\r\n\r\n", b"\0" * 64, b"\xff" * 4096):
    g = Client()
    try:
        g.s.sendall(junk)
        g.s.shutdown(socket.SHUT_WR)
        while g.s.recv(65536):
            pass
    except OSError:
        pass
    g.s.close()
alive(c, "junk")

# Many handshakes that lead nowhere, with names of all kinds (nbd.B-91, nbd.B-92).
for name in (b"", b"../../etc/passwd", b"x" * 4096, b"\n\n", b"%s%n", "\u00e9".encode(),
             b"a/b", b"."):
    Client(name).s.close()
for i in range(200):
    Client(b"n%d" % i).s.close()
alive(c, "many clients")

sys.exit(1 if failures else 0)
