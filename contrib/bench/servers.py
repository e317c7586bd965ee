# SPDX-License-Identifier: BSD-3-Clause
"""servers - which servers a bench row can be run against, and their lives.

A Bed is one run's folder and processes.  bed.origin() starts the disk far
away, bed.front() what stands before it: "subject" (the page cache), "bare"
(nbdkit's nbd plugin), "filter" (its cache filter), "readahead" (its readahead
filter over that), "qemu" (qemu-nbd copy-on-read), or "ceiling" (nbdkit's
memory plugin, which has the data itself).

Every process is ended when the bed is closed, and when we are killed.
"""

import ctypes
import mmap
import os
import random
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import nbd

PAGE = 4096
MIB = 1 << 20
GIB = 1 << 30
TICK = os.sysconf("SC_CLK_TCK")

# The period of the data: a prime number of pages, so that no two places a
# round distance apart hold the same bytes.
TILE = 16381 * PAGE

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


class Broken(Exception):
    """The row cannot be measured: a server or a client did not do its job."""


class WrongBytes(Exception):
    """What was read is not what was written."""


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_for(seconds, condition, step=0.005):
    """True as soon as it holds, False when it did not in that time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        select.select([], [], [], step)
    return True


class OriginSpec:
    """The disk far away.

    kind      "memory": nbdkit's, full of data; "test": the project's own,
              empty, which delays flush, too
    rtt       seconds, of each command
    durable   "test" only: keep what is durable where we can look at it
    """

    def __init__(self, kind, size, rtt=0, tcp=False, durable=False, args=()):
        self.kind, self.size, self.rtt = kind, size, rtt
        self.tcp, self.durable, self.args = tcp, durable, tuple(args)

    def key(self):
        return tuple(sorted(self.__dict__.items()))


class FrontSpec:
    """What stands before it; connections and args are the page cache's.

    empty     the memory plugin needs no data: the row writes
    """

    def __init__(self, cache_size=GIB, connections=None, workers=None,
                 empty=False, args=()):
        self.cache_size, self.connections = cache_size, connections
        self.workers, self.empty, self.args = workers, empty, tuple(args)
        self.size = 0                   # the origin's, set by the row

    def threads(self):
        return ["-t", str(self.workers)] if self.workers else []

    def key(self):
        return tuple(sorted(self.__dict__.items()))


class Data:
    """The bytes of every origin: a random tile, repeated."""

    def __init__(self):
        tile = random.Random(14).randbytes(TILE)
        self.twice = mmap.mmap(-1, 2 * TILE)
        self.twice[:TILE] = tile
        self.twice[TILE:] = tile
        self.view = memoryview(self.twice)

    def at(self, offset, length):
        assert length <= TILE
        start = offset % TILE
        return self.view[start:start + length]

    def fill(self, uri, size):
        h = nbd.NBD()
        h.connect_uri(uri)
        step = MIB
        for offset in range(0, size, step):
            n = min(step, size - offset)
            h.pwrite(bytes(self.at(offset, n)), offset)
        h.shutdown()

    def verify(self, uri, size, sample):
        """Compare what the server gives; no more than SAMPLE bytes of it."""
        h = nbd.NBD()
        h.connect_uri(uri)
        step = min(MIB, size)
        places = list(range(0, size - step + 1, step))
        if len(places) * step > sample:
            rng = random.Random(size)
            places = sorted(rng.sample(places, max(1, sample // step)))
        for offset in places:
            got = h.pread(step, offset)
            if got != self.at(offset, step):
                want = bytes(self.at(offset, step))
                at = next(i for i in range(step) if got[i] != want[i])
                raise WrongBytes("byte %d is not what the origin holds"
                                 % (offset + at))
        h.shutdown()
        return len(places) * step


class Server:
    """A process that serves NBD."""

    def __init__(self, bed, name, argv, uri, ready, pidfile=None):
        self.bed, self.name, self.uri = bed, name, uri
        self.log = os.path.join(bed.folder, name + ".log")
        self.ended_badly = None
        self.control = self.durable = self.origin = self.stats_file = None
        # In a session of its own: a Ctrl-C is for us, who end servers in
        # order, and what kills a server's group does not hit us.
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent, cwd=bed.folder,
                # The cache filter keeps its file there.
                env={**os.environ, "TMPDIR": bed.folder})
        bed.servers.append(self)
        if not wait_for(20, lambda: ready() or self.process.poll() is not None) \
                or not ready():
            self.stop()
            raise Broken("%s did not start: %s\n%s"
                         % (name, " ".join(map(shlex.quote, argv)),
                            self.log_tail()))

    @property
    def pid(self):
        return self.process.pid

    def log_tail(self, lines=6):
        with open(self.log, errors="replace") as log:
            return "".join(log.readlines()[-lines:]).strip()

    def cpu(self):
        """Seconds, user and system, of all threads there ever were."""
        with open("/proc/%d/stat" % self.pid) as f:
            words = f.read().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / TICK

    def resident(self, field="VmRSS"):
        """Bytes; VmHWM is the highest it ever was."""
        with open("/proc/%d/status" % self.pid) as f:
            return int(re.search(field + r":\s*(\d+) kB", f.read())[1]) * 1024

    def alive(self):
        return self.process.poll() is None

    def check(self):
        if not self.alive():
            raise Broken("%s has ended with %s: %s"
                         % (self.name, self.process.returncode,
                            self.log_tail()))

    def stop(self, seconds=15):
        """The usual end; a server that does not is killed, and that noted."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                self.ended_badly = "not ended %d s after SIGTERM" % seconds
                self.process.kill()
                self.process.wait()
        status = self.process.returncode
        if status not in (0, -signal.SIGTERM) and not self.ended_badly:
            self.ended_badly = "ended with %d" % status
        if self in self.bed.servers:
            self.bed.servers.remove(self)
            if self.ended_badly:
                self.bed.notes.append("%s: %s" % (self.name, self.ended_badly))
        return status

    def stats_time(self):
        """When the page cache last wrote its counters; 0: never."""
        try:
            return os.stat(self.stats_file).st_mtime_ns
        except (OSError, TypeError):
            return 0

    def stats(self):
        """What the page cache wrote about itself, exports summed up."""
        found = {}
        if self.stats_time():
            with open(self.stats_file) as f:
                for line in f:
                    m = re.match(r".*\.(\w+)=(\d+)$", line)
                    if m:
                        found[m[1]] = found.get(m[1], 0) + int(m[2])
        return found

    def exports(self):
        """Of how many exports it wrote."""
        with open(self.stats_file) as f:
            return len(set(line.split(".")[0] for line in f if "." in line))


class Bed:
    """One run's folder, processes and choices."""

    def __init__(self, options):
        self.options = options
        self.servers, self.notes = [], []
        # Sockets need a short path.
        self.folder = tempfile.mkdtemp(prefix="pagecache-bench.")
        self.data = Data()
        self.count = 0

    def close(self):
        """Newest first: a cache before its origin, so that it can clean."""
        for server in reversed(list(self.servers)):
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop_all(self, keep=()):
        for server in reversed(list(self.servers)):
            if server not in keep:
                server.stop()

    def path(self, suffix):
        self.count += 1
        return os.path.join(self.folder, "%d.%s" % (self.count, suffix))

    def launch(self, words):
        return shlex.split(self.options.launch or "") + words

    def nbdkit(self, name, args, tcp=False, prefix=()):
        pidfile = self.path("pid")
        if tcp:
            # Asked of the kernel and given back: somebody else may get it
            # meanwhile, then nbdkit does not start and the row says so.
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                port = s.getsockname()[1]
            where = ["-i", "127.0.0.1", "-p", str(port)]
            uri = "nbd://127.0.0.1:%d/" % port
        else:
            sock = self.path("sock")
            where = ["-U", sock]
            uri = "nbd+unix:///?socket=" + sock
        self.count += 1
        # -r is not given: servers that may be written to offer multi-conn
        # as they would in use.
        return Server(
            self, "%s-%d" % (name, self.count),
            list(prefix) + [self.options.nbdkit, "-f", "--exit-with-parent",
                            "-P", pidfile] + where + args, uri,
            lambda: os.path.exists(pidfile) and os.path.getsize(pidfile) > 0)

    # Origins

    def origin(self, spec):
        return getattr(self, "origin_" + spec.kind)(spec)

    def origin_memory(self, spec):
        """nbdkit's memory plugin, full of data; flush is not delayed."""
        need = spec.size * 2
        if available_memory() < need:
            raise Broken("needs %d MiB of memory" % (need // MIB))
        delay = []
        args = ["memory", str(spec.size)]
        if spec.rtt:
            delay = ["--filter=delay"]
            args += ["rdelay=%dms" % (spec.rtt * 1000),
                     "delay-extents=%dms" % (spec.rtt * 1000)]
        server = self.nbdkit("origin", delay + args, tcp=spec.tcp)
        self.data.fill(server.uri, spec.size)
        return server

    def origin_test(self, spec):
        """The project's test origin, which delays every command."""
        if not os.path.exists(self.options.testorigin):
            raise Broken("needs " + self.options.testorigin)
        control = self.path("ctl")
        args = [self.options.testorigin, "control=" + control]
        if spec.durable:
            durable = self.path("disk")
            with open(durable, "wb") as f:
                f.truncate(spec.size)
            args.append("durable=" + durable)
        else:
            durable = None
            args.append("size=%d" % spec.size)
        if spec.rtt:
            args.append("delay=%g" % spec.rtt)
        server = self.nbdkit("origin", args + list(spec.args), tcp=spec.tcp,
                             prefix=self.launch([]))
        server.control, server.durable = control, durable
        return server

    # What stands before an origin

    def front(self, kind, origin, spec, tcp=False, prefix=()):
        """KIND may have a number: several servers of one kind in a row."""
        kind = kind.rstrip("0123456789")
        if kind == "subject" and self.options.subject != "pagecache":
            kind = self.options.subject
        if kind == "subject":
            server = self.front_subject(origin, spec, tcp, prefix)
        else:
            server = getattr(self, "front_" + kind)(origin, spec, tcp)
        server.origin = origin
        return server

    def front_subject(self, origin, spec, tcp, prefix):
        if not os.path.exists(self.options.plugin):
            raise Broken("needs " + self.options.plugin)
        stats = self.path("stats")
        args = spec.threads() + [self.options.plugin, origin.uri,
                                 "cache-size=%d" % spec.cache_size,
                                 "cache-stats=" + stats]
        if spec.connections:
            args.append("connections=%d" % spec.connections)
        server = self.nbdkit(
            "subject", args + list(spec.args) + self.options.subject_args,
            tcp, prefix or self.launch([]))
        server.stats_file = stats
        return server

    def front_bare(self, origin, spec, tcp):
        return self.nbdkit("bare", spec.threads() + ["nbd", origin.uri], tcp)

    def front_filter(self, origin, spec, tcp):
        return self.nbdkit(
            "filter", spec.threads() + ["--filter=cache", "nbd", origin.uri,
                                        "cache=writeback",
                                        "cache-on-read=true"], tcp)

    def front_readahead(self, origin, spec, tcp):
        return self.nbdkit(
            "readahead", spec.threads() + ["--filter=readahead",
                                           "--filter=cache", "nbd", origin.uri,
                                           "cache=writeback",
                                           "cache-on-read=true"], tcp)

    def front_qemu(self, origin, spec, tcp):
        """Copy-on-read into a qcow2 file that is never flushed."""
        if not shutil.which("qemu-nbd") or not shutil.which("qemu-img"):
            raise Broken("needs qemu-nbd and qemu-img")
        overlay, sock = self.path("qcow2"), self.path("sock")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw",
                        "-b", origin.uri, overlay], check=True, timeout=20)
        where, uri = ["-k", sock], "nbd+unix:///?socket=" + sock

        def ready():
            return os.path.exists(sock)
        if tcp:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                port = s.getsockname()[1]
            where = ["-b", "127.0.0.1", "-p", str(port)]
            uri = "nbd://127.0.0.1:%d/" % port

            def ready():
                with socket.socket() as s:
                    return s.connect_ex(("127.0.0.1", port)) == 0
        return Server(
            self, "qemu-%d" % self.count,
            ["qemu-nbd", "-t", "-e", "64", "--cache=unsafe"] + where +
            ["--image-opts", "driver=copy-on-read,file.driver=qcow2,"
             "file.file.driver=file,file.file.filename=" + overlay], uri, ready)

    def front_ceiling(self, origin, spec, tcp):
        server = self.nbdkit("ceiling", spec.threads() +
                             ["memory", str(spec.size)], tcp)
        if not spec.empty:
            self.data.fill(server.uri, spec.size)
        return server


def available_memory():
    with open("/proc/meminfo") as f:
        return int(re.search(r"MemAvailable:\s*(\d+)", f.read())[1]) * 1024
