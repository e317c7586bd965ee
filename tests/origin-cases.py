#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
#
# origin-cases.py - the test origin keeps its own promises.
#
# Run by testorigin.sh.  Other tests blame the cache for what they see through it; so what the origin
# says about durability, doors, faults and its log is checked here without one.

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import nbd

LAUNCH = os.environ["TESTORIGIN_LAUNCH"].split("\n")
MIB = 1 << 20
live = []


class Origin:
    def __init__(self, folder, *args):
        self.sock = folder + "/sock"
        self.ctl = folder + "/ctl"
        if os.path.exists(self.sock):
            os.unlink(self.sock)
        self.process = subprocess.Popen(
            [*LAUNCH, "-U", self.sock, "control=" + self.ctl, *args])
        live.append(self.process)
        self.deadline = time.time() + (100 if "PC_VALGRIND" in os.environ else 10)
        while not os.path.exists(self.sock):
            assert time.time() < self.deadline
            assert self.process.poll() is None
        self.connect().shutdown()

    def connect(self, name=""):
        while True:
            h = nbd.NBD()
            h.add_meta_context("base:allocation")
            h.set_export_name(name)
            try:
                h.connect_unix(self.sock)
                return h
            except nbd.Error as e:
                # bound but not yet listening
                if e.errno != "ECONNREFUSED":
                    raise
                assert time.time() < self.deadline, e

    def ask(self, *words):
        return subprocess.run(["tests/originctl", self.ctl, *words],
                              check=True, stdout=subprocess.PIPE,
                              universal_newlines=True).stdout

    def stats(self):
        return dict(l.split("=") for l in self.ask("stats").split())

    def kill(self):
        self.process.kill()
        self.process.wait()


def extents_of(h, count, offset):
    found = []
    h.block_status(count, offset, lambda m, o, e, err: found.extend(e))
    return found


def errno_of(f, *args):
    try:
        f(*args)
    except nbd.Error as e:
        return e.errno
    return None


def what_is_flushed_is_durable_and_nothing_else(d):
    durable = d + "/disk"
    o = Origin(d, "size=1M", "durable=" + durable)
    h = o.connect()
    h.pwrite(b"a" * 5000, 100)
    h.pwrite(b"b" * 100, 300000, nbd.CMD_FLAG_FUA)
    now = open(durable, "rb").read()
    assert now[100:5100] == bytes(5000)
    assert now[300000:300101] == b"b" * 100 + b"\0"
    h.flush()
    assert open(durable, "rb").read()[100:5100] == b"a" * 5000
    h.pwrite(b"c" * 5000, 200)
    h.zero(8192, 0)
    assert h.pread(8192, 0) == bytes(8192)
    o.ask("forget")
    assert h.pread(5000, 100) == b"a" * 5000
    h.pwrite(b"d" * 100, 0)
    o.kill()
    o = Origin(d, "durable=" + durable)
    h = o.connect()
    assert h.get_size() == MIB
    assert h.pread(100, 0) == bytes(100)
    assert h.pread(5000, 100) == b"a" * 5000
    o.kill()


def doors_hold_before_and_after_the_effect(d):
    o = Origin(d, "size=1M")
    h = o.connect()
    o.ask("close", "write")
    t = threading.Thread(target=h.pwrite, args=(b"x", 0))
    t.start()
    o.ask("wait", "write", "1")
    assert o.connect().pread(1, 0) == b"\0"
    o.ask("release", "write", "1")
    t.join()
    o.ask("open", "write")
    assert h.pread(1, 0) == b"x"
    o.ask("close", "write.reply")
    t = threading.Thread(target=h.pwrite, args=(b"y", 0))
    t.start()
    o.ask("wait", "write.reply", "1")
    assert o.connect().pread(1, 0) == b"y"
    assert t.is_alive()
    o.ask("open", "all")
    t.join()
    o.kill()


def faults_strike_as_often_as_told_and_change_nothing(d):
    o = Origin(d, "size=1M")
    h = o.connect()
    o.ask("fail", "write", "ENOSPC", "2")
    o.ask("fail-range", "read", "4096", "8192", "EIO")
    assert errno_of(h.pwrite, b"x", 0) == "ENOSPC"
    assert errno_of(h.pwrite, b"x", 0) == "ENOSPC"
    assert h.pread(1, 0) == b"\0"
    assert errno_of(h.pwrite, b"x", 0) is None
    assert errno_of(h.pread, 4096, 0) is None
    assert errno_of(h.pread, 4097, 0) == "EIO"
    o.ask("clearfail")
    assert errno_of(h.pread, 4097, 0) is None
    o.kill()


def extents_tell_holes_zeros_and_data_apart(d):
    o = Origin(d, "size=1M")
    h = o.connect()
    h.pwrite(b"x" * 8192, 8192)
    h.zero(4096, 65536, nbd.CMD_FLAG_NO_HOLE)
    assert extents_of(h, MIB, 0) == [8192, 3, 8192, 0, 49152, 3, 4096, 2,
                                     MIB - 69632, 3]
    h.trim(8192, 8192)
    assert extents_of(h, 65536, 0) == [65536, 3]
    o.kill()
    o = Origin(d, "size=1M", "trimmode=keep")
    h = o.connect()
    h.pwrite(b"x" * 8192, 8192)
    h.trim(8192 + 100, 8192 - 50)
    assert h.pread(8192, 8192) == b"x" * 8192
    assert extents_of(h, 65536, 0) == [8192, 3, 8192, 1, 49152, 3]
    o.kill()


def the_log_and_the_counters_tell_what_came(d):
    log = d + "/log"
    o = Origin(d, "size=1M", "log=" + log, "delay=0.02", "minblock=512")
    h = o.connect()
    began = time.time()
    h.flush()
    assert time.time() - began >= 0.02
    h.pwrite(b"x" * 512, 512, nbd.CMD_FLAG_FUA)
    h.set_strict_mode(0)
    assert errno_of(h.pread, 100, 0) == "EINVAL"
    x, y = [nbd.Buffer.from_bytearray(bytearray(b * 1024)) for b in (b"x", b"y")]
    c = [h.aio_pwrite(x, 0), h.aio_pwrite(y, 512)]
    while c:
        h.poll(-1)
        c = [k for k in c if not h.aio_command_completed(k)]
    s = o.stats()
    assert s["overlaps"] == "1" and s["misaligned"] == "1", s
    assert s["flush"] == "1" and s["write"] == "3" and s["fua"] == "1"
    lines = o.ask("log").splitlines()
    assert lines[1].startswith("2 write conn=2 export= off=512 len=512 fua")
    assert lines[1].endswith("finished_as=2 err=0")
    assert "finish 2 write conn=2 export= off=512 len=512 fua err=0\n" \
        in open(log).readlines()
    o.kill()


def exports_have_disks_of_their_own(d):
    os.mkdir(d + "/disks")
    o = Origin(d, "size=1M", "exports=a,b", "default=b",
               "durable=" + d + "/disks")
    h = o.connect("b")
    h.pwrite(b"B" * 9, 0)
    h.flush()
    assert o.connect("a").pread(9, 0) == bytes(9)
    assert o.connect("").pread(9, 0) == b"B" * 9
    assert errno_of(o.connect, "c") == "ENOENT"
    assert open(d + "/disks/b", "rb").read(9) == b"B" * 9
    o.kill()


def a_sparse_giant_costs_what_is_touched(d):
    # The thread checker, and valgrind even more, leave no room for more.
    t = 1 << (37 if "thread" in os.environ.get("SANITIZERS", "") else
              32 if "PC_VALGRIND" in os.environ else 40)
    o = Origin(d, "size=%d" % (8 * t))
    h = o.connect()
    h.pwrite(b"q" * 100, 7 * t)
    h.zero((1 << 32) - 512, 1 * t)
    h.trim((1 << 32) - 512, 2 * t)
    h.flush()
    assert h.pread(3, 7 * t + 98) == b"qq\0"
    with open("/proc/%d/status" % o.process.pid) as f:
        rss = [int(l.split()[1]) for l in f if l.startswith("VmRSS")][0]
    if t == 1 << 40 and os.environ.get("SANITIZERS", "no") == "no":
        assert rss < 64 * 1024, rss
    o.kill()


def it_dies_when_told_and_ends_when_asked(d):
    o = Origin(d, "size=1M")
    h = o.connect()
    o.ask("die", "write", "2")
    h.pwrite(b"x", 0)
    assert errno_of(h.pwrite, b"x", 0) is not None
    assert o.process.wait() == -signal.SIGKILL
    o = Origin(d, "size=1M")
    # nbdkit leaks a connection that is closing as it ends.
    while o.stats()["connections"] != "0":
        assert time.time() < o.deadline
    o.process.terminate()
    assert o.process.wait() == 0


TESTS = [
    what_is_flushed_is_durable_and_nothing_else,
    doors_hold_before_and_after_the_effect,
    faults_strike_as_often_as_told_and_change_nothing,
    extents_tell_holes_zeros_and_data_apart,
    the_log_and_the_counters_tell_what_came,
    exports_have_disks_of_their_own,
    a_sparse_giant_costs_what_is_touched,
    it_dies_when_told_and_ends_when_asked,
]

for test in TESTS:
    d = tempfile.mkdtemp(dir=os.environ.get("TMPDIR", "/tmp"))
    try:
        test(d)
        print("ok", test.__name__)
    finally:
        for p in live:
            p.kill()
            p.wait()
        live.clear()
        shutil.rmtree(d)
