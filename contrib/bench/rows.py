# SPDX-License-Identifier: BSD-3-Clause
"""rows - what is measured: one Row for each case of the goals.

A row says which origin, which servers before it, which job each of them gets
in a round, and how a figure comes out of what they measured.  A chain is a
server and the jobs that it gets, one after the other; rows that are not warm
start each chain with a fresh server.  The order of the chains rotates from
round to round.  What a job measured is named LABEL.NAME.

The twin of a row compares the reference with itself (A/A).
"""

from jobs import (Fio, Nbdcopy, Python, hits_among_misses, high_water,
                  huge_export, idle_exports, instructions, paced_writes,
                  read_holes, round_trip, scattered_writes, segments, tables,
                  touch, traces, write_and_flush)
from servers import FrontSpec, GIB, MIB, OriginSpec

KIB = 1 << 10
UNKNOWN = float("nan")          # reaches no goal
PEERS = ("bare", "filter", "readahead", "qemu")


class Figure:
    """One number against one goal; op is ">=" or "<="."""

    def __init__(self, suffix, unit, op, goal, value, show=None, twin=True,
                 floor=None):
        self.suffix, self.unit, self.op, self.goal = suffix, unit, op, goal
        self.value = value
        self.show = show or []          # what stands beside it in the table
        self.twin = twin                # False: a count, which has no noise
        self.floor = floor              # of the values: what the ceiling took


class Chain:
    def __init__(self, role, *steps, after=None):
        self.role, self.steps, self.after = role, steps, after


class Row:
    def __init__(self, name, title, origin, chains, figures, front=None,
                 twin=None, warm=False, tcp=False, peers=(), peer_job=None,
                 rounds=None, must_fail=False, quick=True, verify=True,
                 optional=None, peer_show=None, quick_peers=False):
        self.name, self.title, self.origin = name, title, origin
        self.chains, self.figures = chains, figures
        self.front = front or FrontSpec()
        if origin:
            self.front.size = origin.size
        self.twin, self.warm, self.tcp = twin, warm, tcp
        self.peers, self.peer_job, self.peer_show = peers, peer_job, peer_show
        self.rounds = rounds            # None: as many as the bench makes
        self.must_fail = must_fail      # without a cache (--self-check)
        self.quick = quick              # part of --quick
        self.quick_peers = quick_peers  # and its peers, too
        self.verify = verify            # compare with the origin's data
        self.optional = optional        # the option that asks for it

    def work(self):
        """What must be equal for two runs to be compared."""
        found = {"rtt": self.origin.rtt if self.origin else 0,
                 "size": self.origin.size if self.origin else 0,
                 "front": self.front}
        for chain in self.chains:
            for label, job in chain.steps:
                found["%s %s" % (chain.role, label)] = job.work()
        return found


def race(job, against):
    """The page cache and twice the reference, all at the same job."""
    return [Chain("subject", ("ours", job)), Chain(against, ("ref", job)),
            Chain(against + "2", ("ref2", job))]


def ratio(name):
    return lambda v: v["ours." + name] / v["ref." + name]


def twin_of(name):
    return lambda v: v["ref2." + name] / v["ref." + name]


def table(work=1.0):
    """The rows, with that share of the full work."""
    rows = []

    def n(full, least=MIB):
        return max(least, int(full * work) // MIB * MIB)

    # P1, P2: hits.  The origin is 1 ms away so that a miss cannot pass for
    # one.
    size = 128 * MIB if work == 1 else 32 * MIB if work > 0.1 else 8 * MIB

    def hits(name, title, job, unit, io_size, quick):
        for tcp in (False, True):
            for clients in (1, 4):
                suffix = ("/tcp" if tcp else "") + ("/4" if clients > 1 else "")
                rows.append(Row(
                    name + suffix, title + (", TCP" if tcp else "") +
                    (", 4 clients" if clients > 1 else ""),
                    OriginSpec("memory", size, rtt=0.001, tcp=tcp),
                    race(Fio(job, numjobs=clients, size=size,
                             io_size=n(io_size, 2 * MIB) // clients), "ceiling"),
                    [Figure("", "of ceiling", ">=", 1.0, ratio(unit),
                            ["ours." + unit, "ref." + unit])],
                    twin=twin_of(unit), warm=True, tcp=tcp,
                    peers=PEERS, must_fail=True, peer_show=unit,
                    quick_peers=not tcp and clients == 1 and name != "P1.qd1",
                    peer_job=Fio(job, numjobs=clients, size=size,
                                 io_size=n(io_size / 8) // clients),
                    quick=quick and (tcp, clients) in ((False, 1), (True, 4))))
    hits("P1.qd32", "warm random read, 4 KiB QD32", "hit-4k-qd32", "iops",
         256 * MIB, True)
    hits("P1.qd1", "warm random read, 4 KiB QD1", "hit-4k-qd1", "iops",
         32 * MIB, True)
    hits("P2", "warm sequential read, 256 KiB QD8", "hit-256k-qd8", "mibs",
         2 * GIB, True)
    rows.append(Row(
        "P1.instructions", "instructions of a hit outside nbdkit and libc",
        None, [Chain(None, ("ours", Python(
            instructions, size=8 * MIB, hits=2000,
            origin=OriginSpec("memory", 8 * MIB),
            front=FrontSpec(cache_size=64 * MIB))))],
        [Figure("", "", "<=", 2500, lambda v: v["ours.each"],
                ["ours.plugin", "ours.nbdkit", "ours.libc"], twin=False)],
        rounds=1, optional="callgrind"))

    # P3.  The yardstick is our own warm rate, but a cache that is never warm
    # must not win by that: the ceiling's half stands in.
    def yardstick(v, warm, copy):
        return min(max(v[warm], v["ceiling.mibs"] / 2), v[copy])
    for name, bs, size, least, peer in (
            ("4k", 4 * KIB, 64 * MIB, 16 * MIB, MIB),
            ("64k", 64 * KIB, 256 * MIB, 64 * MIB, 8 * MIB),
            ("1m", MIB, 512 * MIB, 128 * MIB, 64 * MIB)):
        size = n(size, least)
        job = Fio("seq", bs=bs, size=size, io_size=size)
        rows.append(Row(
            "P3." + name, "cold sequential read, %s QD1, 5 ms" % name,
            OriginSpec("memory", size, rtt=0.005),
            [Chain("subject", ("cold", job), ("warm", job), ("warm2", job)),
             Chain("ceiling", ("ceiling", job)),
             Chain("bare", ("copy", Nbdcopy())),
             Chain("bare2", ("copy2", Nbdcopy()))],
            [Figure("", "of warm, nbdcopy", ">=", 0.9,
                    lambda v: v["cold.mibs"] /
                    yardstick(v, "warm.mibs", "copy.mibs"),
                    ["cold.mibs", "warm.mibs", "copy.mibs"])],
            twin=lambda v: yardstick(v, "warm2.mibs", "copy2.mibs") /
            yardstick(v, "warm.mibs", "copy.mibs"),
            peers=PEERS, peer_show="mibs", must_fail=True,
            quick_peers=name == "64k",
            peer_job=job.but(io_size=min(size, n(peer)))))

    # P4
    for name, title, depth, front, size, goal, tcp in (
            ("P4.one", "cold random read, 4 KiB QD32, 5 ms", 32,
             FrontSpec(connections=1), 16 * MIB, 0.95, False),
            ("P4.one/tcp", "the same, TCP", 32,
             FrontSpec(connections=1), 16 * MIB, 0.95, True),
            ("P4.four", "cold random, QD64, -t 64, 4 connections, 5 ms", 64,
             FrontSpec(connections=4, workers=64), 16 * MIB, 3.0, False)):
        job = Fio("miss-4k", iodepth=depth, io_size=n(size, 4 * MIB))
        rows.append(Row(
            name, title, OriginSpec("memory", 512 * MIB, rtt=0.005, tcp=tcp),
            race(job, "bare"),
            [Figure("", "of bare", ">=", goal, ratio("iops"),
                    ["ours.iops", "ref.iops"])],
            front=front, twin=twin_of("iops"), tcp=tcp, quick=not tcp,
            peers=PEERS[1:], peer_show="iops",
            peer_job=job.but(io_size=MIB)))

    # P5
    job = Python(hits_among_misses, size=64 * MIB, misses=16,
                 batches=3 if work >= 1 else 1, window=0.15)
    rows.append(Row(
        "P5", "a hit while 16 misses wait 200 ms: p99",
        OriginSpec("memory", 64 * MIB, rtt=0.2), race(job, "ceiling"),
        [Figure("", "ms", "<=", 0.3, lambda v: v["ours.p99_ms"],
                ["ours.p99_ms", "ref.p99_ms", "ours.median_ms"],
                floor=lambda v: v["ref.p99_ms"])],
        twin=twin_of("p99_ms"), must_fail=True, verify=False,
        peers=PEERS[1:2] + PEERS[3:], peer_show="p99_ms"))

    # P6
    job = Python(write_and_flush, size=64 * MIB, writes=500, length=4 * KIB,
                 places="random")
    rtt = Python(round_trip, kind="flush", count=5)
    rows.append(Row(
        "P6", "500 random 4 KiB writes QD1, flush, 5 ms",
        OriginSpec("test", 64 * MIB, rtt=0.005, durable=True),
        race(job, "ceiling") +
        [Chain("origin", ("rtt", rtt)), Chain("origin", ("rtt2", rtt))],
        [Figure(".write", "of ceiling", ">=", 0.9, ratio("iops"),
                ["ours.iops", "ref.iops"]),
         Figure(".flush", "RTT", "<=", 12,
                lambda v: v["ours.flush_ms"] / v["rtt.ms"],
                ["ours.flush_ms", "rtt.ms"],
                twin=lambda v: v["rtt2.ms"] / v["rtt.ms"])],
        front=FrontSpec(cache_size=256 * MIB, connections=4, empty=True),
        twin=twin_of("iops"), verify=False, must_fail=(".write",),
        peers=PEERS[1:2], peer_show="flush_ms"))

    # P7
    rows.append(Row(
        "P7.contiguous", "flush of 1 MiB contiguous dirty, 10 ms",
        OriginSpec("test", 64 * MIB, rtt=0.01, durable=True),
        [Chain("subject", ("ours", Python(
            write_and_flush, size=64 * MIB, writes=4, length=256 * KIB,
            places="contiguous"))),
         Chain("origin", ("rtt", rtt)), Chain("origin", ("rtt2", rtt))],
        [Figure("", "RTT", "<=", 3, lambda v: v["ours.flush_ms"] / v["rtt.ms"],
                ["ours.flush_ms", "rtt.ms"])],
        front=FrontSpec(cache_size=256 * MIB),
        twin=lambda v: v["rtt2.ms"] / v["rtt.ms"], verify=False,
        peers=PEERS[1:2], peer_show="flush_ms"))
    rows.append(Row(
        "P7.huge", "flush of one dirty page of 8 TiB, 10 ms",
        OriginSpec("test", 8 << 40, rtt=0.01),
        [Chain("subject", ("ours", Python(
            write_and_flush, size=8 << 40, writes=1, length=4 * KIB,
            places="last"))),
         Chain("origin", ("rtt", rtt)), Chain("origin", ("rtt2", rtt))],
        [Figure("", "of 2 RTT + 1 ms", "<=", 1,
                lambda v: v["ours.flush_ms"] / (2 * v["rtt.ms"] + 1),
                ["ours.flush_ms", "rtt.ms"])],
        front=FrontSpec(cache_size=256 * MIB),
        twin=lambda v: v["rtt2.ms"] / v["rtt.ms"], verify=False,
        peers=PEERS[1:2], peer_show="flush_ms"))

    # P8, P9
    size = n(512 * MIB, 256 * MIB)
    rows.append(Row(
        "P8", "nbdcopy of %d MiB, cold, 10 ms" % (size // MIB),
        OriginSpec("memory", size, rtt=0.01), race(Nbdcopy(), "bare"),
        [Figure("", "of bare's time", "<=", 1.1, ratio("seconds"),
                ["ours.mibs", "ref.mibs"])],
        front=FrontSpec(cache_size=256 * MIB), twin=twin_of("seconds"),
        peers=PEERS[1:], peer_show="mibs", quick_peers=True))
    size = n(4 * GIB if work == 1 else 2 * GIB, 256 * MIB)
    rows.append(Row(
        "P9", "nbdcopy of %d MiB through %d MiB, RTT 0"
        % (size // MIB, size // 16 // MIB),
        OriginSpec("memory", size), race(Nbdcopy(), "bare"),
        [Figure("", "of bare", ">=", 0.95, ratio("mibs"),
                ["ours.mibs", "ref.mibs"])],
        front=FrontSpec(cache_size=size // 16), twin=twin_of("mibs"),
        peers=PEERS[1:2], peer_show="mibs"))

    # P10
    for tcp in (False, True):
        rows.append(Row(
            "P10" + ("/tcp" if tcp else ""),
            "cold random read, 4 KiB QD1, RTT 0" + (", TCP" if tcp else ""),
            OriginSpec("memory", 512 * MIB, tcp=tcp),
            race(Fio("miss-4k", iodepth=1, io_size=n(24 * MIB, 4 * MIB)),
                 "bare"),
            [Figure("", "of bare", ">=", 1.0, ratio("iops"),
                    ["ours.iops", "ref.iops"])],
            twin=twin_of("iops"), tcp=tcp, quick=not tcp, peers=PEERS[1:],
            peer_show="iops",
            peer_job=Fio("miss-4k", iodepth=1, io_size=n(4 * MIB))))

    # P11
    for name, count, rounds in (("1m", 1000000, 3), ("10m", 10000000, 1)):
        rows.append(Row(
            "P11." + name, "segment set of absl::btree_map, %s ranges" % name,
            None, [Chain(None, ("ours", Python(segments, count=count,
                                               rounds=rounds)))],
            [Figure(".time", "of absl", "<=", 1.0, lambda v: v["ours.time"],
                    ["ours.insert", "ours.find", "ours.walk", "ours.cut"],
                    twin=False),
             Figure(".memory", "of absl", "<=", 1.05,
                    lambda v: v["ours.memory"], twin=False)],
            rounds=1, quick=False))

    # P13
    size = 512 * MIB if work > 0.1 else 128 * MIB
    rows.append(Row(
        "P13", "reads of a hole, for each 128 MiB",
        OriginSpec("test", size, rtt=0.001, durable=True),
        [Chain("subject", ("ours", Python(read_holes, size=size)),
               after=lambda s: {"ours.frames": s.stats().get("frames", UNKNOWN)})],
        [Figure(".reads", "origin reads", "<=", 1, lambda v: v["ours.reads"],
                twin=False),
         Figure(".status", "block statuses", "<=", 1,
                lambda v: v["ours.statuses"], twin=False),
         Figure(".frames", "frames", "<=", 0, lambda v: v["ours.frames"],
                twin=False)],
        rounds=1, verify=False, must_fail=(".reads",)))

    # P14
    share = n(64 * MIB, 16 * MIB)
    one = Fio("seq", size=n(256 * MIB, 64 * MIB), io_size=n(256 * MIB, 64 * MIB))
    rows.append(Row(
        "P14", "8 clients, cold, 64 KiB QD1, %d MiB each, 5 ms"
        % (share // MIB), OriginSpec("memory", 8 * share, rtt=0.005),
        [Chain("subject", ("eight", Fio(
            "seq", numjobs=8, size=share, io_size=share,
            offset_increment=share))),
         Chain("subject2", ("one", one)), Chain("subject3", ("one2", one))],
        [Figure(".sum", "of one stream", ">=", 0.8,
                lambda v: v["eight.mibs"] / v["one.mibs"],
                ["eight.mibs", "one.mibs"]),
         Figure(".fair", "slowest of fastest", ">=", 0.5,
                lambda v: v["eight.fairness"])],
        twin=lambda v: v["one2.mibs"] / v["one.mibs"],
        peers=PEERS[:2], peer_show="mibs",
        peer_job=Fio("seq", numjobs=8, size=share, io_size=n(2 * MIB),
                     offset_increment=share)))

    # Writes that are no whole pages, and a steady writer.
    size, count = 512 * MIB, 8000 if work == 1 else 2000

    def writes(seed, length):
        return Python(scattered_writes, size=size, writes=count,
                      length=length, seed=seed)
    for length in (512, 1024, 5000):
        rows.append(Row(
            "Partial.%d" % length,
            "%d B unaligned writes at uncached places, 5 ms" % length,
            OriginSpec("test", size, rtt=0.005),
            [Chain("subject", ("ours", writes(1, length))),
             Chain("subject2", ("ref", writes(2, 4 * KIB))),
             Chain("subject3", ("ref2", writes(3, 4 * KIB)))],
            [Figure("", "of whole pages", ">=", 1.0, ratio("iops"),
                    ["ours.iops", "ref.iops"])],
            twin=twin_of("iops"), verify=False, quick=False,
            must_fail=True))
    rows.append(Row(
        "Behind", "64 KiB writes at 0.8 of the origin's rate, 5 ms: p99",
        None, [Chain(None, ("ours", Python(
            paced_writes, size=256 * MIB, rate=100 * MIB, rtt=0.005,
            share=0.8, seconds=60 if work == 1 else 10,
            front=FrontSpec(cache_size=256 * MIB))))],
        [Figure("", "ms beyond a round trip", "<=", 20,
                lambda v: v["ours.p99_ms"] - v["ours.rtt_ms"],
                ["ours.p99_ms", "ours.worst_ms", "ours.mibs",
                 "ours.origin_mibs"], twin=False)],
        rounds=1, quick=False))

    # Memory
    rows.append(Row(
        "Mem", "a cache of 64 MiB, 4 clients read 512 MiB",
        OriginSpec("memory", 512 * MIB),
        [Chain("subject",
               ("read", Fio("seq", bs=MIB, numjobs=4, iodepth=8,
                            size=512 * MIB, io_size=512 * MIB)),
               ("rss", Python(high_water, buffers=4 * 16 * MIB,
                              cache=64 * MIB)),
               after=lambda s: {"end.bytes":
                                s.stats().get("frames", UNKNOWN) * 4096 +
                                s.stats().get("metadata_bytes", UNKNOWN)})],
        [Figure(".resident", "MiB beyond the cache", "<=", 24,
                lambda v: v["rss.mib"], twin=False),
         Figure(".total", "MiB of 64 in the cache", "<=", 64,
                lambda v: v["end.bytes"] / MIB, twin=False)],
        front=FrontSpec(cache_size=64 * MIB), rounds=1))

    def metadata(suffix, title, goal, length, step, write, quick):
        size = 512 * MIB
        args = ("cache-readahead=off",)
        if write:
            args += ("cache-dirty-expire=600", "cache-dirty-background=50%",
                     "cache-dirty-max=90%")
        at_end = (lambda label: lambda s: {
            label + ".end": s.stats().get("metadata_bytes", UNKNOWN)})
        job = Python(touch, size=size, step=step, length=length, write=write)
        base = Python(touch, size=4096, step=4096, length=512, write=False)
        # What a page takes when it comes, and its part of the tables that
        # were there before.
        frame = Python(tables, small=FrontSpec(cache_size=128 * MIB),
                       large=FrontSpec(cache_size=256 * MIB))
        rows.append(Row(
            "Mem." + suffix, title,
            OriginSpec("memory", size),
            [Chain("subject", ("idle", base), after=at_end("idle")),
             Chain("subject2", ("ours", job), after=at_end("ours")),
             Chain(None, ("tables", frame))],
            [Figure("", "B a page", "<=", goal,
                    lambda v: (v["ours.metadata" if write else "ours.end"] -
                               v["idle.end"]) / v["ours.pages"] +
                    v["tables.each"],
                    ["ours.pages", "tables.each"], twin=False)],
            front=FrontSpec(cache_size=256 * MIB, args=args), rounds=1,
            verify=False, quick=quick))
    metadata("scattered", "metadata of a clean scattered page", 48,
             4 * KIB, 64 * KIB, False, True)
    metadata("clusters", "metadata of a clean page in 64 KiB clusters", 28,
             64 * KIB, 192 * KIB, False, True)
    metadata("dirty", "metadata of a dirty scattered page", 96,
             4 * KIB, 64 * KIB, True, False)
    metadata("partial", "metadata of a partial dirty page", 96,
             512, 64 * KIB, True, False)
    rows.append(Row(
        "Mem.huge", "an export of 8 TiB over one of 1 MiB", None,
        [Chain(None, ("ours", Python(
            huge_export, front=FrontSpec(cache_size=64 * MIB))))],
        [Figure("", "MiB", "<=", 8, lambda v: v["ours.mib"], twin=False)],
        rounds=1))
    rows.append(Row(
        "Mem.idle", "an idle export with one origin connection", None,
        [Chain(None, ("ours", Python(
            idle_exports, count=64, front=FrontSpec(
                cache_size=64 * MIB, connections=1,
                args=("dynamic-export=true",)))))],
        [Figure(".inode", "KiB counted", "<=", 16, lambda v: v["ours.inode"],
                twin=False),
         Figure(".connection", "KiB beside", "<=", 16,
                lambda v: v["ours.connection"], twin=False)],
        rounds=1))

    rows.append(Row(
        "Traces", "the hit ratio on recorded traces (bench-traces)", None,
        [Chain(None, ("ours", Python(traces)))],
        [Figure("", "all goals hold", ">=", 1, lambda v: v["ours.goals_hold"],
                ["ours.mean_miss"], twin=False)],
        rounds=1))
    return rows
