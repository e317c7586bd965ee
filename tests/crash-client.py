#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
#
# crash-client.py SOCKET SEED ROUNDS - writes to a server that is killed again
# and again, and holds it to what it promised: of each sector of 4 KiB, what
# was flushed, or written with FUA, is there afterwards, or something that was
# sent later; never anything older and never anything else.
#
# Prints "load" when a round's writes are under way; the one who kills answers
# on standard input when the server has been killed and runs again.  Ends with
# "ROUNDS rounds, N writes, N flushes, N sectors checked".
#
# Several connections; no sector has two writes in flight, so that their order
# is known.  A flush covers what had been answered before it was sent, on any
# connection (nbd.N-11, nbd.N-12).

import random
import sys

import nbd

SECTOR = 4096
SECTORS = 2048
CONNECTIONS = 4
DEPTH = 8


def content(sector, seq):
    """What write number seq puts there; 0 is what was there first."""
    if seq == 0:
        return bytes(SECTOR)
    return (sector << 40 | seq).to_bytes(8, "little") * (SECTOR // 8)


class Promises:
    def __init__(self):
        self.seq = 0
        self.written = [[0] for _ in range(SECTORS)]   # seqs that may be there
        self.answered = [0] * SECTORS                  # the last answered
        self.busy = set()
        self.writes = self.flushes = self.checked = 0

    def durable(self, sector, seq):
        """Nothing before seq may be seen any more."""
        w = self.written[sector]
        while w[0] < seq:
            w.pop(0)


class Load:
    """One life of the server: from connecting to its death."""

    def __init__(self, path, promises, rnd):
        self.p, self.rnd = promises, rnd
        self.handles = []
        for _ in range(CONNECTIONS):
            h = nbd.NBD()
            h.connect_unix(path)
            self.handles.append(h)
        self.pending = [{} for _ in self.handles]

    def send(self, i):
        h, p, rnd = self.handles[i], self.p, self.rnd
        if rnd.random() < 0.03:
            covered = list(p.answered)
            self.pending[i][h.aio_flush()] = ("flush", covered, 0)
            return
        sector = rnd.randrange(SECTORS)
        if sector in p.busy:
            return
        p.seq += 1
        fua = rnd.random() < 0.05
        p.written[sector].append(p.seq)
        p.busy.add(sector)
        buf = nbd.Buffer.from_bytearray(bytearray(content(sector, p.seq)))
        cookie = h.aio_pwrite(buf, sector * SECTOR,
                              flags=nbd.CMD_FLAG_FUA if fua else 0)
        self.pending[i][cookie] = ("fua" if fua else "write", sector, p.seq)

    def take(self, i, cookie):
        kind, what, seq = self.pending[i].pop(cookie)
        p = self.p
        if kind == "flush":
            p.flushes += 1
            for sector, at_least in enumerate(what):
                if at_least:
                    p.durable(sector, at_least)
            return
        p.writes += 1
        p.answered[what] = seq
        p.busy.discard(what)
        if kind == "fua":
            p.durable(what, seq)

    def turn(self, i):
        """False when the server has gone."""
        h = self.handles[i]
        try:
            while len(self.pending[i]) < DEPTH:
                self.send(i)
            h.poll(0 if any(self.pending) else 10)
            for cookie in list(self.pending[i]):
                if h.aio_command_completed(cookie):
                    self.take(i, cookie)
        except nbd.Error:
            if h.aio_is_dead() or h.aio_is_closed():
                return False
            raise
        return True

    def until_dead(self):
        i = n = 0
        while self.turn(i):
            i = (i + 1) % CONNECTIONS
            n += 1
            if n == 20:
                print("load", flush=True)
        self.p.busy.clear()


def check(path, p):
    """What the server that came after it has; from then on that is known."""
    h = nbd.NBD()
    h.connect_unix(path)
    image = h.pread(SECTOR * SECTORS, 0)
    for sector in range(SECTORS):
        data = image[sector * SECTOR:][:SECTOR]
        for seq in p.written[sector]:
            if data == content(sector, seq):
                break
        else:
            word = int.from_bytes(data[:8], "little")
            raise SystemExit("WRONG BYTES: sector %d holds %d:%d%s, legal are %s"
                             % (sector, word >> 40, word & (1 << 40) - 1,
                                "" if data == data[:8] * (SECTOR // 8)
                                else " and others", p.written[sector]))
        # Read from the origin, written by nobody since: nothing else is there.
        p.written[sector] = [seq]
        p.answered[sector] = seq
        p.checked += 1
    h.shutdown()


def main():
    path, seed, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rnd, p = random.Random(seed), Promises()
    for _ in range(rounds):
        Load(path, p, rnd).until_dead()
        if not sys.stdin.readline():
            raise SystemExit("nobody started the server again")
        check(path, p)
    print("%d rounds, %d writes, %d flushes, %d sectors checked"
          % (rounds, p.writes, p.flushes, p.checked))


main()
