#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
#
# client.py - an NBD client that a shell test drives, for as long as it wants.
#
# Reads pieces of Python from standard input, each ended by a line with a
# single dot; runs each in one name space, then prints "<ok>" or "<error> why".
# With it come nbd, os, time and what is defined below.

import os                       # noqa: F401, for the pieces
import sys
import time
import traceback

import nbd

KIB = 1 << 10
MIB = 1 << 20


def connect(path, export=""):
    """A connection to the Unix socket."""
    h = nbd.NBD()
    h.add_meta_context("base:allocation")
    h.set_export_name(export)
    h.connect_unix(path)
    return h


def pattern(tag, count, offset=0):
    """Bytes that tell their offset, in words of 8, and the tag."""
    first, last = offset // 8, (offset + count + 7) // 8
    b = b"".join((w << 8 | tag).to_bytes(8, "little")
                 for w in range(first, last))
    return b[offset - first * 8:][:count]


def errno_of(f, *args, **kwargs):
    """The name of the errno that f fails with, or None."""
    try:
        f(*args, **kwargs)
    except nbd.Error as e:
        return e.errno
    return None


class Pending:
    """A command under way; drive() lets its connection move."""

    def __init__(self, h, cookie, buf=None):
        self.h, self.cookie, self.buf = h, cookie, buf
        self.error = None
        self.finished = False
        self.drive(0)

    def drive(self, milliseconds):
        if not self.finished:
            self.h.poll(milliseconds)
            try:
                self.finished = self.h.aio_command_completed(self.cookie)
            except nbd.Error as e:
                self.finished, self.error = True, e.errno
        return self.finished

    def wait(self, seconds=30):
        """The errno's name, None for success; an assertion if it hangs."""
        end = time.monotonic() + seconds
        while not self.drive(50):
            assert time.monotonic() < end, "no reply within %s s" % seconds
        return self.error


def aio_flush(h):
    return Pending(h, h.aio_flush())


def aio_write(h, data, offset, flags=0):
    buf = nbd.Buffer.from_bytearray(bytearray(data))
    return Pending(h, h.aio_pwrite(buf, offset, flags=flags), buf)


def aio_read(h, count, offset):
    buf = nbd.Buffer(count)
    return Pending(h, h.aio_pread(buf, offset), buf)


def main():
    space = globals()
    piece = []
    for line in sys.stdin:
        if line != ".\n":
            piece.append(line)
            continue
        try:
            exec("".join(piece), space)
            print("<ok>", flush=True)
        except Exception as e:
            traceback.print_exc(file=sys.stdout)
            print("<error> %s" % str(e).replace("\n", " "), flush=True)
        piece = []


main()
