# SPDX-License-Identifier: BSD-3-Clause
"""jobs - what a client does to a server, and what it measures.

A job is called with the Bed and the Server and returns a dict of numbers;
"requests" counts what the server was asked.  The work is fixed: the same
requests at the same places each time, so that two commits can be compared.
job.work() says what it is.
"""

import json
import math
import os
import random
import re
import select
import shutil
import statistics
import subprocess
import time

import nbd

from servers import Broken, MIB, OriginSpec, PAGE, WrongBytes, wait_for

FIO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fio")


def run_client(bed, argv, patience=1, **kwargs):
    limit = bed.options.timeout * patience
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=limit, cwd=bed.folder, **kwargs)
    except subprocess.TimeoutExpired:
        raise Broken("%s: no end after %d s" % (argv[0], limit))
    except FileNotFoundError:
        raise Broken("needs " + argv[0])
    if done.returncode != 0:
        raise Broken("%s ended with %d: %s" % (
            argv[0], done.returncode,
            done.stderr.decode(errors="replace").strip()[-300:]))
    return done.stdout


class Fio:
    """A job of contrib/fio, with other numbers for some of its options."""

    def __init__(self, name, **options):
        self.name, self.options = name, options

    def but(self, **options):
        return Fio(self.name, **{**self.options, **options})

    def text(self):
        """The job file, with options replaced."""
        wanted = dict(self.options)
        lines = []
        with open(os.path.join(FIO, self.name + ".fio")) as f:
            for line in f.read().splitlines():
                key = line.split("=", 1)[0]
                if key in wanted:
                    line = "%s=%s" % (key, wanted.pop(key))
                lines.append(line)
        if wanted:
            raise Broken("%s.fio has no %s" % (self.name, ", ".join(wanted)))
        return "\n".join(lines) + "\n"

    def work(self):
        return {"fio": [x for x in self.text().splitlines()
                        if x and x[0] not in "#[" and "uri" not in x]}

    def __call__(self, bed, server):
        path = bed.path("fio")
        with open(path, "w") as f:
            f.write(self.text())
        out = run_client(bed, ["fio", "--output-format=json", path],
                         env={**os.environ, "URI": server.uri})
        # The nbd engine says hello before the JSON.
        out = json.loads(out[out.index(b"{\n"):])
        parts = [j[k] for j in out["jobs"] for k in ("read", "write")
                 if j[k]["total_ios"]]
        if any(j["error"] for j in out["jobs"]) or not parts:
            raise Broken("fio: error %s" % [j["error"] for j in out["jobs"]])
        seconds = max(p["runtime"] for p in parts) / 1000
        ios = sum(p["total_ios"] for p in parts)
        size = sum(p["io_bytes"] for p in parts)
        rates = [p["bw_bytes"] for p in parts]
        return {"iops": ios / seconds, "mibs": size / seconds / MIB,
                "requests": ios, "seconds": seconds,
                "fairness": min(rates) / max(rates)}


class Nbdcopy:
    """Everything, to nowhere."""

    def __init__(self, request_size=256 << 10, size=None):
        self.request_size, self.size = request_size, size

    def work(self):
        return {"nbdcopy": "--request-size=%d" % self.request_size}

    def __call__(self, bed, server):
        h = nbd.NBD()
        h.connect_uri(server.uri)
        size = h.get_size()
        h.shutdown()
        begin = time.perf_counter()
        run_client(bed, ["nbdcopy", "--request-size=%d" % self.request_size,
                         server.uri, "null:"])
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "mibs": size / MIB / seconds,
                "requests": size // self.request_size}


class Python:
    """A function of this file, with fixed arguments."""

    def __init__(self, f, **kwargs):
        self.f, self.kwargs = f, kwargs

    def work(self):
        return {self.f.__name__: self.kwargs}

    def __call__(self, bed, server):
        try:
            return self.f(bed, server, **self.kwargs)
        except nbd.Error as e:
            server.check()
            raise Broken("%s: %s" % (self.f.__name__, e))


def connect(server, export=""):
    """The name goes into the URI: one without a name means the export ""."""
    h = nbd.NBD()
    where, mark, rest = server.uri.partition("?")
    h.connect_uri(where + export + mark + rest)
    return h


def timed(f, *args):
    begin = time.perf_counter()
    f(*args)
    return time.perf_counter() - begin


def warm_up(bed, server, size):
    """Everything once, in requests of 1 MiB, sixteen at a time."""
    h = connect(server)
    todo = [(nbd.Buffer(min(MIB, size - o)), o) for o in range(0, size, MIB)]
    end = time.monotonic() + bed.options.timeout
    pending = []
    while todo or pending:
        while todo and len(pending) < 16:
            pending.append(h.aio_pread(*todo.pop(0)))
        h.poll(1000)
        pending = [c for c in pending if not h.aio_command_completed(c)]
        if time.monotonic() > end:
            raise Broken("%s: not warm after %d s"
                         % (server.name, bed.options.timeout))
    h.shutdown()


def round_trip(bed, server, kind, count):
    """What one command costs, sent to this server: the median of COUNT."""
    h = connect(server)
    if kind == "flush":
        h.flush()
        each = [timed(h.flush) for _ in range(count)]
    else:
        each = [timed(h.pread, PAGE, i * PAGE) for i in range(count)]
    h.shutdown()
    return {"ms": statistics.median(each) * 1000}


def hits_among_misses(bed, server, size, misses, batches, window):
    """Latency of hits on one connection while misses wait on another."""
    rng = random.Random(5)
    pages = rng.sample(range(size // PAGE), 16 + misses * batches)
    hot, cold = pages[:16], pages[16:]
    slow, quick = connect(server), connect(server)
    for page in hot:                    # twice: who admits on the second
        for _ in range(2):
            cookie = quick.aio_pread(nbd.Buffer(PAGE), page * PAGE)
            while not quick.aio_command_completed(cookie):
                quick.poll(1000)
    each = []
    for batch in range(batches):
        cookies = [slow.aio_pread(nbd.Buffer(PAGE), page * PAGE)
                   for page in cold[batch * misses:][:misses]]
        end = time.perf_counter() + window
        i = 0
        while time.perf_counter() < end:
            page = hot[i % len(hot)]
            begin = time.perf_counter()
            got = quick.pread(PAGE, page * PAGE)
            each.append(time.perf_counter() - begin)
            if got != bed.data.at(page * PAGE, PAGE):
                raise WrongBytes("page %d" % page)
            i += 1
        while cookies:
            slow.poll(1000)
            cookies = [c for c in cookies if not slow.aio_command_completed(c)]
    slow.shutdown()
    quick.shutdown()
    each.sort()
    return {"p99_ms": each[min(len(each) - 1, len(each) * 99 // 100)] * 1000,
            "median_ms": statistics.median(each) * 1000, "requests": len(each)}


def write_and_flush(bed, server, size, writes, length, places):
    """WRITES of LENGTH bytes one after the other, then a flush.

    PLACES: "random", "contiguous" or "last".  What was written is compared
    with what the origin has made durable, where we can look at that.
    """
    rng = random.Random(bed.count)
    h = connect(server)
    if places == "random":
        at = [page * PAGE for page in rng.sample(range(size // PAGE), writes)]
    elif places == "contiguous":
        begin = rng.randrange(size // MIB) * MIB
        at = [begin + i * length for i in range(writes)]
    else:
        at = [size - 64 * MIB + i * length for i in range(writes)]
    # A first write and flush: connections are opened, a window is mapped.
    h.pwrite(bytes(PAGE), 0)
    h.flush()
    blocks = [rng.randbytes(length) for _ in at]
    written = timed(lambda: [h.pwrite(b, o) for b, o in zip(blocks, at)])
    flushed = timed(h.flush)
    for b, o in zip(blocks, at):
        if h.pread(length, o) != b:
            raise WrongBytes("read after flush at %d" % o)
    h.shutdown()
    if server.origin and server.origin.durable and server.name[:7] == "subject":
        with open(server.origin.durable, "rb") as f:
            for b, o in zip(blocks, at):
                f.seek(o)
                if f.read(length) != b:
                    raise WrongBytes("not durable after flush at %d" % o)
    return {"iops": writes / written, "flush_ms": flushed * 1000,
            "requests": writes}


def origin_counts(bed, origin):
    """The test origin's counters."""
    out = run_client(bed, [bed.options.originctl, origin.control, "stats"])
    return {m[1]: int(m[2]) for m in
            re.finditer(r"^(\w+)=(\d+)$", out.decode(), re.M)}


def read_holes(bed, server, size):
    """What the origin is asked while a hole is read, in requests of 256 KiB."""
    before = origin_counts(bed, server.origin)
    h = connect(server)
    for offset in range(0, size, 256 << 10):
        if h.pread(256 << 10, offset).count(0) != 256 << 10:
            raise WrongBytes("a hole that is not zero at %d" % offset)
    h.shutdown()
    after = origin_counts(bed, server.origin)
    each = size / (128 * MIB)
    return {"reads": (after["read"] - before["read"]) / each,
            "statuses": (after["extents"] - before["extents"]) / each,
            "requests": size // (256 << 10)}


def scattered_writes(bed, server, size, writes, length, seed):
    """WRITES of LENGTH bytes, one after the other, none near another; whole
    pages are aligned, the others are not.  Nothing of it is in the cache."""
    rng = random.Random(seed * 1000003 + bed.count)
    shift = 0 if length == PAGE else 300
    at = [page * PAGE + shift
          for page in rng.sample(range(0, size // PAGE - 8, 4), writes)]
    block = rng.randbytes(length)
    h = connect(server)
    took = timed(lambda: [h.pwrite(block, o) for o in at])
    if h.pread(length, at[-1]) != block:
        raise WrongBytes("at %d" % at[-1])
    h.shutdown()
    return {"iops": writes / took, "requests": writes}


def paced_writes(bed, _, size, rate, rtt, share, seconds, front):
    """Writes of 64 KiB one after the other, at SHARE of what an origin of
    RATE bytes a second was measured to take: how long does each last?"""
    for f in ("rate", "delay"):
        if subprocess.run([bed.options.nbdkit, "--filter=" + f, "null",
                           "--version"], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode:
            raise Broken("needs nbdkit's filter " + f)
    origin = bed.nbdkit("origin", [
        "--filter=delay", "--filter=rate", "memory", str(size),
        "rate=%d" % (rate * 8), "wdelay=%dms" % (rtt * 1000)])
    h, block, done, pending = connect(origin), nbd.Buffer(MIB), 0, []
    # The filter lets two seconds' worth through at once before it limits.
    for _ in range(2):
        done, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < 3:
            while len(pending) < 16:
                pending.append(h.aio_pwrite(block, done % size // MIB * MIB))
            h.poll(1000)
            left = [c for c in pending if not h.aio_command_completed(c)]
            done += (len(pending) - len(left)) * MIB
            pending = left
        measured = done / (time.perf_counter() - begin)
    alone = [timed(h.pwrite, bytes(64 << 10), i << 16) for i in range(9)]
    h.shutdown()

    server = bed.front("subject", origin, front)
    h, each, at = connect(server), [], 0
    step = (64 << 10) / (measured * share)
    block = bed.data.at(0, 64 << 10)
    due = begin = time.perf_counter()
    while due - begin < seconds:
        now = time.perf_counter()
        if now < due:
            select.select([], [], [], due - now)
        each.append(timed(h.pwrite, block, at))
        at = (at + len(block)) % size
        due += step
    took = time.perf_counter() - begin
    h.flush()
    h.shutdown()
    server.stop()
    origin.stop()
    each.sort()
    return {"p99_ms": each[len(each) * 99 // 100] * 1000,
            "worst_ms": each[-1] * 1000,
            "median_ms": statistics.median(each) * 1000,
            "rtt_ms": statistics.median(alone) * 1000,
            "mibs": len(each) / 16 / took, "origin_mibs": measured / MIB,
            "requests": len(each)}


# Memory

def high_water(bed, server, buffers, cache):
    """Resident beyond the cache and nbdkit's request buffers."""
    return {"mib": (server.resident("VmHWM") - buffers - cache) / MIB}


def touch(bed, server, size, step, length, write):
    """LENGTH bytes at every STEP of SIZE, read or written."""
    h = connect(server)
    places = range(0, size, step)
    for offset in places:
        if write:
            h.pwrite(bed.data.at(offset, length), offset)
        elif h.pread(length, offset) != bed.data.at(offset, length):
            raise WrongBytes("at %d" % offset)
    found = {"pages": len(places) * max(1, length // PAGE),
             "requests": len(places)}
    if write:
        # Counted while they are dirty: the file is written each 10 s.
        old = server.stats_time()
        if not wait_for(25, lambda: server.stats_time() != old, 0.1):
            raise Broken("cache-stats was not written in 25 s")
        stats = server.stats()
        found["metadata"] = stats.get("metadata_bytes", math.nan)
        found["dirty"] = stats.get("dirty_bytes", 0)
    h.shutdown()
    return found


def resident_of(bed, size, front):
    """An otherwise idle server before an export of that size."""
    origin = bed.origin_test(OriginSpec("test", size))
    server = bed.front("subject", origin, front)
    h = connect(server)
    at = size // 2
    h.pwrite(bed.data.at(0, PAGE), at)
    h.flush()
    if h.pread(PAGE, at) != bed.data.at(0, PAGE):
        raise WrongBytes("at %d" % at)
    found = server.resident()
    h.shutdown()
    server.stop()
    origin.stop()
    return found


def huge_export(bed, _, front):
    """What 8 TiB cost over 1 MiB."""
    small = resident_of(bed, MIB, front)
    return {"mib": (resident_of(bed, 8 << 40, front) - small) / MIB}


def idle_exports(bed, _, front, count):
    """What an export costs that nobody uses any more: what the program counts
    for it, and what else got resident, which is its origin connection."""
    origin = bed.origin_test(OriginSpec("test", MIB))
    counted = []
    for n in (8, 8 + count):
        server = bed.front("subject", origin, front)
        for i in range(n):
            if i == 8:
                before = server.resident("RssAnon")
            h = connect(server, "export-%d" % i)
            h.get_size()
            h.shutdown()
        after = server.resident("RssAnon")
        server.stop()
        stats = server.stats()
        exports = server.exports()
        if exports != n:
            raise Broken("%d exports where %d were opened" % (exports, n))
        counted.append(stats.get("metadata_bytes", math.nan) / exports)
    origin.stop()
    inode = (counted[1] - counted[0]) / count / 1024
    return {"inode": inode, "requests": count,
            "connection": (after - before) / count / 1024 - inode}


def tables(bed, _, small, large):
    """Bytes of tables that a frame has, used or not: two cache sizes less
    their buffers (a 16th of the cache, D13), over the frames between them."""
    origin = bed.origin_test(OriginSpec("test", MIB))
    found = []
    for front in (small, large):
        server = bed.front("subject", origin, front)
        h = connect(server)
        h.pread(PAGE, 0)
        h.shutdown()
        server.stop()
        found.append(server.stats().get("metadata_bytes", math.nan))
    origin.stop()
    size = large.cache_size - small.cache_size
    return {"each": (found[1] - found[0] - size / 16) /
            (size * 29 / 32 / PAGE), "requests": 2}


# What other programs measure

def segments(bed, _, count, rounds):
    """tests/bench-segset: ours of absl::btree_map's; the worst of each kind."""
    if not os.path.exists(bed.options.segset):
        raise Broken("needs %s (absl and boost)" % bed.options.segset)
    # Ten million ranges in six sets take 200 s on the machine of the README.
    out = run_client(bed, [bed.options.segset, str(count), str(rounds)],
                     patience=5)
    m = re.search(r"^segset of absl\s+(.*)$", out.decode(), re.M)
    if not m:
        raise Broken("bench-segset printed no comparison")
    words = [float(w) for w in m[1].split()]
    return {"insert": words[0], "find": words[1], "walk": words[2],
            "cut": words[3], "load": words[4], "time": max(words[:4]),
            "memory": max(words[5:]), "requests": count}


def traces(bed, _):
    """tests/bench-traces: its own verdict on the goals for the hit ratio."""
    if not os.path.exists(bed.options.traces):
        raise Broken("needs " + bed.options.traces)
    path = bed.path("json")
    done = subprocess.run([bed.options.traces, "--json", path],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          timeout=bed.options.timeout,
                          env={**os.environ, "srcdir": bed.options.srcdir})
    text = done.stdout.decode(errors="replace").strip()
    if "skipped" in text:
        raise Broken("needs recorded traces (TRACES=DIR)")
    if done.returncode not in (0, 1) or not os.path.exists(path):
        raise Broken(text[-200:])
    with open(path) as f:
        found = json.load(f)
    miss = [c["ours"] for c in found["cells"]]
    return {"goals_hold": int(found["goals_hold"]),
            "mean_miss": statistics.mean(miss), "requests": len(miss)}


# Instructions

# nbdkit itself only: our plugin's name begins like it.
NOT_OURS = re.compile(r"/(nbdkit|(libc|ld-linux-x86-64|libgcc_s|libgnutls|"
                      r"libpthread|vgpreload_[^/]*)([-.][^/]*)?)$")


def callgrind_cost(path):
    """Instructions in each object of a callgrind profile, without callees."""
    cost, names, current, skip = {}, {}, "?", False
    with open(path) as f:
        for line in f:
            m = re.match(r"ob=\((\d+)\)(?: (.*))?", line)
            if m:
                current = names.setdefault(m[1], m[2] or "?")
            elif line.startswith("cob=("):
                m = re.match(r"cob=\((\d+)\)(?: (.*))?", line)
                names.setdefault(m[1], m[2] or "?")
            elif line.startswith("calls="):
                skip = True             # the next line is the callee's
            elif line[:1].isdigit() or line[:1] in "+-*":
                if not skip and len(line.split()) > 1:
                    cost[current] = cost.get(current, 0) + int(line.split()[1])
                skip = False
    return cost


def instructions(bed, _, size, hits, origin, front):
    """Of one hit, outside nbdkit and libc: twice the hits less once."""
    if not shutil.which("valgrind"):
        raise Broken("needs valgrind")
    source = bed.origin(origin)
    found = []
    for n in (hits, 2 * hits):
        out = bed.path("callgrind")
        server = bed.front("subject", source, front, prefix=(
            "valgrind", "--quiet", "--tool=callgrind",
            "--callgrind-out-file=" + out))
        warm_up(bed, server, size)
        h = connect(server)
        rng = random.Random(3)
        for _ in range(n):
            h.pread(PAGE, rng.randrange(size // PAGE) * PAGE)
        h.shutdown()
        server.stop(60)
        found.append(callgrind_cost(out))
    source.stop()
    each = {k: (found[1][k] - found[0].get(k, 0)) / hits for k in found[1]}

    def of(pattern):
        return sum(v for k, v in each.items()
                   if re.search(pattern, os.path.basename(k)))
    return {"each": sum(v for k, v in each.items() if not NOT_OURS.search(k)),
            "plugin": of("pagecache"), "libc": of(r"^libc\."),
            "nbdkit": of("^nbdkit$"), "requests": hits}
