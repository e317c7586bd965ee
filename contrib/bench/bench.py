#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""bench - is pagecache as fast, and as small, as it is meant to be?

One run measures the page cache beside nbdkit's memory plugin (the ceiling),
its nbd plugin (bare), its cache filter, readahead filter and cache filter, and
qemu-nbd copy-on-read, all on this machine, and says of each goal whether it
holds.  verdict.py has the measuring rule, rows.py what is measured.

Run by "make bench" and "make bench-quick", or by hand in the build folder:

    contrib/bench/bench.py --only P3,P4
    contrib/bench/bench.py --json new.json --compare old.json

Bytes are compared with what the origin holds after each row: a fast wrong
answer is an error.  Exit status: 0 if all rows that can be measured here were,
with the right bytes; 1 if not (with --strict: or if one fails); 2 for a wrong
option.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import nbd                                                      # noqa: E402

import report                                                   # noqa: E402
import verdict                                                  # noqa: E402
from jobs import warm_up                                        # noqa: E402
from rows import table                                          # noqa: E402
from servers import Bed, Broken, MIB, OriginSpec, WrongBytes    # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
FORMAT = 1


class Progress:
    def __init__(self):
        self.tty = sys.stderr.isatty()

    def say(self, text):
        if self.tty:
            sys.stderr.write("\r%-78s\r" % text[:78])
            sys.stderr.flush()

    def clear(self):
        self.say("")


class Fronts:
    """The servers of a row; a warm row's live on, for rows that share them."""

    def __init__(self, bed):
        self.bed, self.key, self.origin = bed, None, None
        self.warm = {}

    def begin(self, row):
        key = (row.origin.key(), row.front.key(), row.tcp, row.warm) \
            if row.origin else None
        if key is None or key != self.key or not row.warm or \
                not all(s.alive() for s in self.bed.servers):
            self.end()
            if row.origin:
                self.origin = self.bed.origin(row.origin)
        self.key = key

    def get(self, row, role):
        """The server for a chain, and whether it is for that chain alone."""
        if role is None:
            return None, False
        if role == "origin":
            return self.origin, False
        if row.warm and role in self.warm:
            return self.warm[role], False
        server = self.bed.front(role, self.origin, row.front, row.tcp)
        if row.warm:
            warm_up(self.bed, server, row.origin.size)
            self.warm[role] = server
        return server, not row.warm

    def end(self):
        self.warm, self.key, self.origin = {}, None, None
        self.bed.stop_all()


def run_chain(bed, fronts, row, chain, values, cpu, verify):
    server, alone = fronts.get(row, chain.role)
    try:
        for label, job in chain.steps:
            before = server.cpu() if server else 0
            found = job(bed, server)
            if server:
                server.check()
                spent = cpu.setdefault(label, [0, 0])
                spent[0] += server.cpu() - before
                spent[1] += found.get("requests", 0)
            for name, value in found.items():
                values["%s.%s" % (label, name)] = value
        if verify:
            values["verified"] = bed.data.verify(
                server.uri, row.origin.size, verify)
    finally:
        if alone:
            server.stop()
    if chain.after:
        if not alone:
            raise Broken("a row that looks at the end cannot be warm")
        values.update(chain.after(server))
    if chain.role == "subject" and server.stats_file:
        values["stats"] = server.stats()


def measure(bed, fronts, row, options, progress):
    """Rounds of a row: what was measured in each, the CPU, the peers."""
    rounds = row.rounds or options.pairs
    all_values, cpu, peers = [], {}, {}
    job = row.peer_job or row.chains[0].steps[0][1]
    bad_peers = {}
    fronts.begin(row)
    for r in range(rounds):
        values = {}
        turn = r % len(row.chains)
        last = r == rounds - 1
        for chain in row.chains[turn:] + row.chains[:turn]:
            progress.say("%s  round %d of %d  %s"
                         % (row.name, r + 1, rounds, chain.role or ""))
            run_chain(bed, fronts, row, chain, values, cpu,
                      options.verify if last and row.verify and row.origin and
                      chain.role == "subject" else 0)
        all_values.append(values)
        if r >= options.peer_rounds:
            continue
        for peer in row.peers:
            if peer in bad_peers or options.quick and not row.quick_peers:
                continue
            progress.say("%s  round %d of %d  %s"
                         % (row.name, r + 1, rounds, peer))
            found = {}
            try:
                server, alone = fronts.get(row, peer)
                try:
                    found = job(bed, server)
                finally:
                    if alone:
                        server.stop()
            except (Broken, WrongBytes, nbd.Error, subprocess.SubprocessError) as e:
                # A peer that cannot do it is not our row's failure.
                bad_peers[peer] = str(e)[:200]
                continue
            peers.setdefault(peer, []).append(found[row.peer_show])
    return {"values": all_values, "bad_peers": bad_peers,
            "cpu_us": {k: t / n * 1e6 for k, (t, n) in cpu.items() if n},
            "peers": {k: statistics.median(v) for k, v in peers.items()}}


def figures_of(row, found):
    """The lines of a row's result."""
    lines = []
    for figure in row.figures:
        values = found["values"]
        measured = [figure.value(v) for v in values]
        twin = figure.twin if callable(figure.twin) else \
            row.twin if figure.twin else None
        twins = [twin(v) for v in values] if twin else []
        floors = [figure.floor(v) for v in values] if figure.floor else []
        lines.append({
            "row": row.name + figure.suffix, "title": row.title,
            "op": figure.op, "goal": figure.goal, "unit": figure.unit,
            "figure": statistics.median(measured), "rounds": measured,
            "spread": verdict.spread_of(twins), "twins": twins,
            "verdict": verdict.judge(figure.op, figure.goal, measured, twins,
                                     floors),
            "behind": {k: statistics.median(v[k] for v in values)
                       for k in figure.show},
            "cpu_us": found["cpu_us"], "peers": found["peers"],
            "peer_unit": row.peer_show, "bad_peers": found["bad_peers"],
            "verified": values[-1].get("verified", 0),
            "stats": values[-1].get("stats", {}), "work": row.work()})
    return lines


def without(row, state, why):
    return [{"row": row.name + f.suffix, "title": row.title, "op": f.op,
             "goal": f.goal, "unit": f.unit, "figure": None, "spread": None,
             "verdict": state, "why": why, "behind": {}, "cpu_us": {},
             "peers": {}, "work": row.work()} for f in row.figures]


def run_rows(rows, options, done):
    """Measure rows; the lines go to DONE one by one, so that none is lost."""
    progress = Progress()
    bed = Bed(options)
    fronts = Fronts(bed)
    try:
        for row in rows:
            begin = time.monotonic()
            try:
                lines = figures_of(row, measure(bed, fronts, row, options,
                                                progress))
            except (Broken, WrongBytes, nbd.Error, OSError, KeyError,
                    ZeroDivisionError, statistics.StatisticsError,
                    subprocess.SubprocessError) as e:
                missing = isinstance(e, Broken) and str(e).startswith("needs ")
                why = ("wrong bytes: " if isinstance(e, WrongBytes) else "") \
                    + (str(e) or type(e).__name__)
                if options.verbose:
                    traceback.print_exc()
                lines = without(row, verdict.SKIPPED if missing
                                else verdict.ERROR, why)
                fronts.end()
            for line in lines:
                line["seconds"] = time.monotonic() - begin
                line["notes"] = list(bed.notes)
            bed.notes.clear()
            done(lines)
    finally:
        progress.clear()
        bed.close()


def choose(rows, options):
    wanted = options.only.split(",") if options.only else None

    def is_wanted(row):
        if row.optional and not getattr(options, row.optional):
            return False
        if wanted is None:
            return row.quick or not options.quick
        return any(row.name == w or
                   row.name.startswith((w + ".", w + "/")) and
                   (row.quick and not options.tiny or not options.quick)
                   for w in wanted)
    return [row for row in rows if is_wanted(row)]


def self_check(options):
    """Would the bench notice?  Each thing it must notice, tried."""
    complaints = []

    def complain_unless(condition, text):
        print("  %-4s %s" % ("ok" if condition else "BAD", text), flush=True)
        if not condition:
            complaints.append(text)

    print("The bench's own checks:")
    # The measuring rule.
    j = verdict.judge
    complain_unless(j(">=", 1, [0.97] * 7, [0.96] * 7) == verdict.HOLDS,
                    "0.97 +- 0.04 reaches 1")
    complain_unless(j(">=", 1, [0.97] * 7, [1.02] * 7) == verdict.FAILS,
                    "0.97 +- 0.02 does not")
    complain_unless(j(">=", 1, [0.97] * 7, [1.2] * 7) == verdict.UNSURE,
                    "0.97 +- 0.2 says nothing")
    complain_unless(j(">=", 1, [0.1] * 7, [1.2] * 7) == verdict.FAILS,
                    "0.1 +- 0.2 does")
    complain_unless(j(">=", 1, [0.1] * 6 + [0.9], [1.2] * 7) == verdict.UNSURE,
                    "unless one round was nearly good")
    complain_unless(j("<=", 3, [3.01], []) == verdict.FAILS,
                    "a count has no spread")
    complain_unless(j("<=", 3, [float("nan")], []) == verdict.FAILS,
                    "what is unknown reaches no goal")
    complain_unless(j("<=", .3, [.9] * 7, [1] * 7, [.4] * 7) == verdict.UNSURE,
                    "a latency that the ceiling does not reach says nothing")
    complain_unless(j("<=", .3, [9] * 7, [1] * 7, [.4] * 7) == verdict.FAILS,
                    "unless it is far from the ceiling's")
    # A byte that is wrong.
    bed = Bed(options)
    try:
        origin = bed.origin(OriginSpec("memory", 2 * MIB))
        bed.data.verify(origin.uri, 2 * MIB, 2 * MIB)
        h = nbd.NBD()
        h.connect_uri(origin.uri)
        h.pwrite(b"\0" * 512, MIB + 4096)
        h.shutdown()
        try:
            bed.data.verify(origin.uri, 2 * MIB, 2 * MIB)
            complain_unless(False, "wrong bytes are noticed")
        except WrongBytes:
            complain_unless(True, "wrong bytes are noticed")
    finally:
        bed.close()
    # A cache that is switched off.
    if options.subject == "pagecache":
        options.subject_args = options.subject_args + ["cache=none"]

    def judge_lines(lines):
        for line in lines:
            row = by_name[line["title"]]
            expected = row.must_fail is True or any(
                line["row"] == row.name + s for s in row.must_fail or ())
            if expected:
                complain_unless(
                    line["verdict"] == verdict.FAILS,
                    "%s without a cache: %s (%s)"
                    % (line["row"], line["verdict"],
                       line.get("why") or report.number(line["figure"])))
    rows = [r for r in choose(table(options.work), options) if r.must_fail]
    for row in rows:
        row.peers = ()
    by_name = {r.title: r for r in rows}
    run_rows(rows, options, judge_lines)
    print("%d of the bench's own checks failed" % len(complaints)
          if complaints else "The bench notices what it must.")
    return 1 if complaints else 0


def strict(x):
    """As JSON will give it back: it knows no NaN, no tuples, none of ours."""
    if hasattr(x, "key"):
        x = x.key()
    if isinstance(x, dict):
        return {k: strict(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [strict(v) for v in x]
    return None if x != x else x


def output_of(*argv):
    try:
        return subprocess.run(argv, stdout=subprocess.PIPE, timeout=10,
                              stderr=subprocess.DEVNULL,
                              cwd=HERE).stdout.decode().strip()
    except OSError:
        return ""


def machine():
    model = ""
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"cpu": model, "cpus": os.cpu_count(), "kernel": platform.release(),
            "load": os.getloadavg(), "commit": output_of(
                "git", "describe", "--always", "--dirty"),
            "nbdkit": output_of("nbdkit", "--version"),
            "fio": output_of("fio", "--version"),
            "libnbd": nbd.NBD().get_version()}


def leave(number, _):
    """Once: timeout(1), for one, sends its signal twice, and the second must
    not end our cleaning up."""
    for n in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(n, signal.SIG_IGN)
    sys.exit(128 + number)


def parse():
    p = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--only", help="rows, by the start of their names: P3,P4")
    p.add_argument("--list", action="store_true", help="name the rows, end")
    p.add_argument("--quick", action="store_true",
                   help="fewer rows, rounds and bytes: two minutes")
    p.add_argument("--tiny", action="store_true",
                   help="one round of next to nothing, to test the bench")
    p.add_argument("--pairs", type=int, help="rounds of a row [7, quick 3]")
    p.add_argument("--json", help="write what was measured there, too")
    p.add_argument("--compare", metavar="OLD.json",
                   help="set an earlier run beside this one")
    p.add_argument("--self-check", action="store_true",
                   help="does the bench notice a cache that is off?")
    p.add_argument("--callgrind", action="store_true",
                   help="count the instructions of a hit, too (valgrind)")
    p.add_argument("--no-peers", action="store_true",
                   help="the page cache and its references alone")
    p.add_argument("--strict", action="store_true",
                   help="exit status 1 if a row fails")
    p.add_argument("--subject", default="pagecache",
                   choices=["pagecache", "bare", "filter", "readahead",
                            "qemu", "ceiling"],
                   help="measure that one as if it were the page cache")
    p.add_argument("--subject-arg", action="append", default=[],
                   dest="subject_args", metavar="KEY=VALUE",
                   help="another parameter of the page cache")
    p.add_argument("--builddir", default=None,
                   help="default: here, else build/ in the source tree")
    p.add_argument("--plugin", help="the page cache's plugin")
    p.add_argument("--launch", help="command that starts servers of ours")
    p.add_argument("--nbdkit", default=os.environ.get("NBDKIT") or "nbdkit",
                   help="the server")
    p.add_argument("--timeout", type=int, default=120,
                   help="seconds for one job of one client")
    p.add_argument("--verbose", action="store_true")
    o = p.parse_args()
    o.srcdir = os.path.realpath(os.path.join(HERE, "..", ".."))
    if o.builddir is None:
        o.builddir = "." if os.path.exists("config.status") else \
            os.path.join(o.srcdir, "build")
    o.builddir = os.path.realpath(o.builddir)

    def built(*names):
        return os.path.join(o.builddir, *names)
    o.plugin = os.path.realpath(o.plugin) if o.plugin else built(
        "plugin", ".libs", "nbdkit-pagecache-plugin.so")
    o.testorigin = built("tests", ".libs", "nbdkit-testorigin-plugin.so")
    o.originctl = built("tests", "originctl")
    o.segset = built("tests", "bench-segset")
    o.traces = built("tests", "bench-traces")
    o.quick = o.quick or o.tiny
    o.work = 1 / 64 if o.tiny else 1 / 4 if o.quick else 1.0
    o.pairs = o.pairs or (1 if o.tiny else 3 if o.quick else 7)
    o.peer_rounds = 0 if o.no_peers or o.tiny else 1 if o.quick else 3
    o.verify = (4 if o.tiny else 64 if o.quick else 512) * MIB
    return o


def main():
    options = parse()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, leave)
    if options.self_check:
        return self_check(options)
    rows = choose(table(options.work), options)
    if options.list:
        for row in rows:
            print("%-16s %s" % (row.name, row.title))
        return 0
    if not rows:
        print("bench: no such rows: %s" % options.only, file=sys.stderr)
        return 2
    run = {"format": FORMAT, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ",
                                                   time.gmtime()),
           "machine": machine(), "quick": options.quick,
           "work": options.work, "pairs": options.pairs,
           "subject": options.subject, "subject_args": options.subject_args,
           "rows": []}
    report.head(run)
    begin = time.monotonic()

    def done(lines):
        run["rows"] += lines
        for line in lines:
            report.line(line)
    try:
        run_rows(rows, options, done)
    finally:
        run["seconds"] = time.monotonic() - begin
        run["machine"]["load_at_end"] = os.getloadavg()
        if options.json:
            text = json.dumps(strict(run), indent=1, allow_nan=False)
            with open(options.json, "w") as f:
                f.write(text + "\n")
    report.tail(run)
    if options.compare:
        with open(options.compare) as f:
            report.compare(json.load(f), strict(run))
    bad = {verdict.ERROR} | ({verdict.FAILS} if options.strict else set())
    return 1 if any(r["verdict"] in bad for r in run["rows"]) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        sys.exit(141)
