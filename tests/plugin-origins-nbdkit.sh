#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-origins-nbdkit.sh - no wrong byte over nbdkit's own disks, slow,
# failing and restricted in each way that a server may be; and the disk itself
# has every byte afterwards (nbd.N-72, nbd.N-74, nbd.N-18).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
for f in delay rate error blocksize-policy multi-conn fua nozero noextents; do
  requires_nbdkit_filter "$f"
done
requires_nbdkit_plugin sparse-random

ops=$(ops_of 700 100000)
disk=$tmp/disk

# over WHAT NBDX-OPTIONS -- NBDKIT-ARG...: the cache over nbdkit with these,
# whose file is $disk; the model compares it after each flush.
over () {
  local what=$1 options=()

  shift
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  echo "--- $what"
  rm -f "$disk"
  "$nbdx" --make-image "$disk" --size "${size:-8M}" --seed "$seed"
  start_nbdkit far "$@"
  start_nbdkit cache "$plugin" "$far_uri" cache-size=1M ${extra:-}
  run_nbdx "$cache_sock" --stamped --durable "$disk" --ops "$ops" \
    "${options[@]}"
  stop_nbdkit cache || fail "$what: the cache ended with $?"
  stop_nbdkit far || fail "$what: the origin ended with $?"
}

over "file" -- file "$disk"
over "file, slow" -- --filter=delay file "$disk" rdelay=2ms wdelay=2ms
over "file, little at a time" -- --filter=rate file "$disk" rate=200M burstiness=0.1
over "file, one connection" -- --filter=multi-conn file "$disk" \
  multi-conn-mode=disable
over "file, no FUA" -- --filter=fua file "$disk"
over "file, no zeros" -- --filter=nozero file "$disk" zeromode=none
over "file, no block status" -- --filter=noextents file "$disk"
over "file, threads of the server in a row" -- -t 1 file "$disk"

# Blocks of the origin; clients have bytes.
for block in 512 4096 65536; do
  over "file, blocks of $block" -- --filter=blocksize-policy file "$disk" \
    blocksize-minimum="$block" blocksize-preferred="$block" \
    blocksize-maximum=64K blocksize-error-policy=error
done

# Ends of all kinds.
for size in 511 512 4095 4097 1000001 8388607; do
  over "file of $size bytes" -- file "$disk"
done
unset size

# Now and then an error: whoever gets one knows nothing of these bytes, all
# others hold.
over "file, errors" --allow-errors -- --filter=error file "$disk" error=EIO \
  error-pread-rate=3% error-pwrite-rate=3% error-trim-rate=5% error-zero-rate=5%

# Memory cannot be looked into: what is at the origin is asked from itself.
start_nbdkit far memory 8M
start_nbdkit cache "$plugin" "$far_uri" cache-size=1M
run_nbdx "$cache_sock" --ops "$ops"
nbdcopy "$cache_uri" "$tmp/seen"
nbdcopy "$far_uri" "$tmp/there"
cmp "$tmp/seen" "$tmp/there" || fail "the memory does not hold what was written"
stop_nbdkit cache || fail "the cache ended with $?"
stop_nbdkit far

# A read-only disk of ours and of the origin's: reads, and EPERM for the rest.
for where in far cache; do
  echo "--- read-only ($where)"
  "$nbdx" --make-image "$disk" --size 4M --seed "$seed"
  ro=()
  [ $where = cache ] || ro=(-r)
  start_nbdkit far "${ro[@]}" file "$disk"
  ro=()
  [ $where = far ] || ro=(-r)
  start_nbdkit cache "${ro[@]}" "$plugin" "$far_uri" cache-size=1M
  run_nbdx "$cache_sock" --stamped --ops "$ops" --mix read=8,cache=1,status=1
  nbdsh -u "$cache_uri" -c '
import errno
assert h.is_read_only()
h.set_strict_mode(0)
for f in (lambda: h.pwrite(b"x" * 512, 0), lambda: h.zero(512, 0),
          lambda: h.trim(512, 0)):
    try:
        f()
        raise SystemExit("no error")
    except nbd.Error as e:
        assert e.errno == "EPERM", e.errno
assert len(h.pread(512, 0)) == 512'
  stop_nbdkit cache || fail "the cache ended with $?"
  stop_nbdkit far
done

# Errors and delays before the oracle; a reader that was told of an error asks
# again, and nothing else than the truth ever comes.
start_nbdkit far --filter=error --filter=delay sparse-random 64M seed="$seed" \
  rdelay=1ms error-pread-rate=10% error=EIO
start_nbdkit twin sparse-random 64M seed="$seed"
start_nbdkit cache "$plugin" "$far_uri" cache-size=4M
"$PYTHON3" - "$cache_sock" "$twin_sock" <<'PY'
import sys

import nbd

a, b = nbd.NBD(), nbd.NBD()
a.connect_unix(sys.argv[1])
b.connect_unix(sys.argv[2])
errors = 0
for at in range(0, 64 << 20, 256 << 10):
    for _ in range(50):
        try:
            data = a.pread(256 << 10, at)
            break
        except nbd.Error as e:
            assert e.errno == "EIO", e.errno
            errors += 1
    assert data == b.pread(256 << 10, at), at
print("errors:", errors)
PY
stop_nbdkit cache || fail "the cache ended with $?"
