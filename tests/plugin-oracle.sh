#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-oracle.sh - what judges our bytes is not ours: nbdkit's sparse-random,
# which knows every byte it was ever to hold, qemu-img, and fio's verify
# (goals.md R2).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
requires_nbdkit_plugin sparse-random
requires_command nbdcopy qemu-img fio

# The far disk through the cache to a twin that refuses any other byte, and
# back again.
start_nbdkit far sparse-random 1G seed="$seed"
start_nbdkit twin sparse-random 1G seed="$seed"
start_nbdkit cache "$plugin" "$far_uri" cache-size=64M
nbdcopy "$cache_uri" "$twin_uri" || fail "a read through the cache was wrong"
nbdcopy --flush "$twin_uri" "$cache_uri" || fail "a write back was wrong"
stop_nbdkit cache || fail "the cache ended with $?"

# Dirty bytes over holes, of which nothing reaches the origin yet: copies and maps must know of them.
start_origin size=64M
for door in write zero trim; do
  origin close $door
done
start_cache cache-size=32M cache-dirty-max=90% cache-dirty-background=80% \
  cache-dirty-expire=3600
"$PYTHON3" - "$cache_sock" "$tmp/expected" <<'PY'
import os
import sys

import nbd

h = nbd.NBD()
h.connect_unix(sys.argv[1])
size = h.get_size()
with open(sys.argv[2], "wb") as f:
    f.truncate(size)
    for i in range(40):
        offset = i * (size // 40) // 512 * 512 + i * 512
        data = os.urandom(100 + 3001 * i)
        h.pwrite(data, offset)
        f.seek(offset)
        f.write(data)
    # holes again, inside and beside what is dirty
    for i in range(0, 40, 5):
        offset = i * (size // 40) // 512 * 512 + i * 512
        h.zero(50000, offset)
        f.seek(offset)
        f.write(bytes(50000))
PY
qemu-img convert -f raw -O raw "$cache_uri" "$tmp/copy"
cmp "$tmp/copy" "$tmp/expected" || fail "qemu-img convert misses dirty bytes"
nbdcopy "$cache_uri" "$tmp/copy2"
cmp "$tmp/copy2" "$tmp/expected" || fail "nbdcopy misses dirty bytes"
qemu-img compare -f raw -F raw "$cache_uri" "$tmp/expected"
qemu-img map -f raw --output=json "$cache_uri" > "$tmp/map"
"$PYTHON3" - "$tmp/map" "$tmp/expected" <<'PY'
import json
import sys

at = 0
with open(sys.argv[2], "rb") as f:
    for e in json.load(open(sys.argv[1])):
        assert e["start"] == at, "a gap in the map"
        at += e["length"]
        if e["zero"] or not e["data"]:
            f.seek(e["start"])
            assert not f.read(e["length"]).strip(b"\0"), e
    assert at == f.seek(0, 2), "the map ends early"
PY
[ "$(origin_stat write_done)" -eq 0 ] || fail "the test wants dirty bytes"
for door in write zero trim; do
  origin open $door
done
nbdsh -u "$cache_uri" -c 'h.flush()'
cmp "$durable" "$tmp/expected" || fail "the durable image is not what was written"
qemu-img compare -f raw -F raw "$cache_uri" "$origin_uri"
qemu-img map -f raw --output=json "$cache_uri" > "$tmp/map"
qemu-img map -f raw --output=json "$origin_uri" | cmp - "$tmp/map" ||
  fail "clean, the cache's map is not the origin's"

# fio's own stamps; then with trims, one command at a time as fio wants them.
cd "$tmp" || fail "no $tmp"
for job in "--rw=randwrite --iodepth=16 --numjobs=2 --size=32M --offset_increment=32M" \
    "--rw=randtrimwrite --iodepth=1 --numjobs=4 --size=16M --offset_increment=16M"; do
  # Words on purpose.
  # shellcheck disable=SC2086
  fio --name=verify --ioengine=nbd --uri="$cache_uri" --bsrange=512-64k \
    --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed="$seed" \
    --output="$tmp/fio.out" $job ||
    { cat "$tmp/fio.out"; fail "fio: $job"; }
done
