#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-tools.sh - the tools that people use with NBD see an ordinary, whole
# disk: qemu-io, qemu-img bench, nbdcopy with eight connections, nbdinfo, and
# nbdfuse with a program that maps the file (goals.md R2; nbd.T-81, nbd.T-83).
# plugin-oracle.sh has qemu-img convert, compare and map, and fio.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
requires_nbdkit_plugin sparse-random
requires_command nbdcopy nbdinfo nbdfuse qemu-io qemu-img fusermount3

## nbdcopy, eight connections, both ways, a cache of a sixteenth; slow reads
## and writes so that many are under way.

start_nbdkit far sparse-random 256M seed="$seed" --filter=delay rdelay=1ms
start_nbdkit twin sparse-random 256M seed="$seed"
start_nbdkit cache "$plugin" "$far_uri" cache-size=16M connections=8
nbdcopy -C 8 --requests=32 "$cache_uri" "$twin_uri" || fail "wrong bytes came"
nbdcopy -C 8 --requests=32 --flush "$twin_uri" "$cache_uri" ||
  fail "wrong bytes went"
stop_nbdkit cache || fail "the cache ended with $?"

## qemu-io: patterns, FUA, zeros with and without unmap, discards, odd ends.

start_origin size=16777000 delay=0.001
start_cache cache-size=2M
qemu_io () {
  local c args=()

  for c; do
    args+=(-c "$c")
  done
  qemu-io -f raw "${args[@]}" "$cache_uri" > "$tmp/qemu-io.out" 2>&1 &&
    ! grep -iE 'fail|error' "$tmp/qemu-io.out" ||
    { cat "$tmp/qemu-io.out"; fail "qemu-io $*"; }
}
qemu_io 'write -P 0x11 0 1M'
# FUA: durable at the reply; a flush: all that was written.  While qemu-io is there: when it goes it flushes,
# and when the last client has gone the cache writes back.
"$PYTHON3" - "$cache_uri" "$durable" <<'PY'
import subprocess
import sys
# Without -t each of its writes has FUA.
io = subprocess.Popen(["stdbuf", "-o0", "qemu-io", "-t", "writeback", "-f", "raw", sys.argv[1]],
                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
def prompt():
    said = b""
    while not said.endswith(b"qemu-io> "):
        piece = io.stdout.read1(4096)
        assert piece, said
        said += piece
    assert b"fail" not in said and b"rror" not in said, said
def do(command):
    io.stdin.write(command.encode() + b"\n")
    io.stdin.flush()
    prompt()
prompt()
def durable(at, n):
    with open(sys.argv[2], "rb") as f:
        f.seek(at)
        return f.read(n)
# Several times: a flush of the cache's own may come in between.
for i in range(0x20, 0x28):
    do("write -P %d -f 1000 3000" % i)
    assert durable(1000, 3000) == bytes([i]) * 3000, "FUA"
    do("write -P %d 8192 4096" % i)
    do("flush")
    assert durable(8192, 4096) == bytes([i]) * 4096, "flush"
do("write -P 0x12 1000 3000")
do("write -P 0x11 8192 4096")
io.stdin.write(b"quit\n")
io.stdin.close()
assert io.wait() == 0
PY
qemu_io 'read -P 0x11 0 1000' 'read -P 0x12 1000 3000' 'read -P 0x11 4000 8000'
qemu_io 'write -z 4096 65536' 'write -z -u 131072 65536' 'write -z -u -n 262144 4096' \
  'read -P 0 4096 65536' 'read -P 0 131072 65536' 'read -P 0 262144 4096' \
  'read -P 0x11 69632 61440'
# Zeros are no trims: without -u they leave no hole.
[ "$(origin_stat trim)" -eq 0 ] || fail "zeros were sent as a trim"
qemu_io 'discard 524288 65536' 'read -P 0x11 589824 458752' \
  'write -P 0x13 16776900 100' 'read -P 0x13 16776900 100' flush
qemu_io 'aio_write -P 0x21 2M 1M' 'aio_write -P 0x22 3M 1M' \
  'aio_write -P 0x23 4M 1M' 'aio_write -z 5M 1M' aio_flush \
  'aio_read -P 0x21 2M 1M' 'aio_read -P 0x22 3M 1M' 'aio_read -P 0x23 4M 1M' \
  'aio_read -P 0 5M 1M' aio_flush
qemu_io 'read -P 0x21 2M 1M' 'read -P 0x22 3M 1M' 'read -P 0x23 4M 1M'
# Past the end: an error, and the next one works.
! qemu-io -f raw -c 'read 16777000 512' "$cache_uri" > "$tmp/qemu-io.out" 2>&1 ||
  grep -qi 'past\|beyond\|invalid\|length' "$tmp/qemu-io.out" ||
  fail "a read past the end: $(cat "$tmp/qemu-io.out")"
nbdcopy "$cache_uri" "$tmp/seen"
cmp "$tmp/seen" "$durable" || fail "qemu-io's bytes are not all at the origin"

## qemu-img bench: reads, writes, writes with flushes.

# Not past the end, which is odd: it does not cut the last one short.
qemu-img bench -f raw -c 2000 -d 32 -s 4096 "$cache_uri" > "$tmp/out"
qemu-img bench -f raw -c 200 -d 16 -s 65536 -w --pattern=7 \
  --flush-interval=20 "$cache_uri" > "$tmp/out"
qemu-img bench -f raw -c 500 -d 8 -s 512 -S 5120 -w --pattern=9 "$cache_uri" \
  > "$tmp/out"
nbdsh -u "$cache_uri" -c 'h.flush()'
nbdcopy "$cache_uri" "$tmp/seen"
cmp "$tmp/seen" "$durable" || fail "qemu-img bench's bytes are not all there"

## nbdinfo: what we say of ourselves, and the map of holes.

nbdinfo --json "$cache_uri" > "$tmp/info"
"$PYTHON3" - "$tmp/info" <<'PY'
import json
import sys
e = json.load(open(sys.argv[1]))["exports"][0]
for flag in ("can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua",
             "can_multi_conn", "can_trim", "can_zero"):
    assert e[flag], flag
assert not e["is_read_only"] and not e["is_rotational"]
assert e["export-size"] == 16777000
assert e["block_size_minimum"] == 1
PY
nbdsh -u "$cache_uri" -c 'h.trim(4 << 20, 8 << 20)' -c 'h.flush()'
stop_nbdkit cache || fail "the cache ended with $?"
start_cache cache-size=2M
nbdinfo --map "$cache_uri" > "$tmp/map"
nbdinfo --map "$origin_uri" | cmp - "$tmp/map" ||
  fail "the map of a clean cache is not the origin's"
grep -q hole "$tmp/map" || fail "no hole in the map: $(cat "$tmp/map")"

## nbdfuse: a file that programs map, and a second client that sees it all.

mkdir "$tmp/mnt"
: > "$tmp/mnt/disk"
cleanup_fn fusermount3 -u -z "$tmp/mnt/disk"
nbdfuse "$tmp/mnt/disk" "$cache_uri" > "$tmp/fuse.log" 2>&1 < /dev/null &
fuse_pid=$!
has_size () { [ "$(stat -c %s "$tmp/mnt/disk")" = 16777000 ]; }
wait_until 20 has_size || { cat "$tmp/fuse.log"; fail "nbdfuse does not come up"; }
"$PYTHON3" - "$tmp/mnt/disk" "$cache_sock" "$seed" "$durable" <<'PY'
import mmap
import os
import random
import sys

import nbd

path, sock, seed, durable = sys.argv[1:]
rnd = random.Random(int(seed))
h = nbd.NBD()
h.connect_unix(sock)
with open(path, "r+b") as f:
    size = os.fstat(f.fileno()).st_size
    m = mmap.mmap(f.fileno(), size)
    model = bytearray(m[:])
    assert model == h.pread(size, 0)
    for i in range(60):
        n = rnd.randrange(1, 20000)
        at = rnd.randrange(size - n)
        m[at:at + n] = model[at:at + n] = rnd.randbytes(n)
    m.flush()
    os.fsync(f.fileno())
    # What another client reads, and what a flush made durable.
    assert h.pread(size, 0) == model
    with open(durable, "rb") as d:
        assert d.read() == model
    m.close()
PY
fusermount3 -u "$tmp/mnt/disk"
wait "$fuse_pid" || fail "nbdfuse ended with $?"
stop_nbdkit cache || fail "the cache ended with $?"
