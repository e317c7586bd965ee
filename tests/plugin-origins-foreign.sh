#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-origins-foreign.sh - no wrong byte over the servers of others: qemu-nbd
# with a plain and a qcow2 image, and nbd-server with and without its options;
# and the image has every byte afterwards (nbd.T-23, nbd.T-83).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
PATH=$PATH:/usr/sbin:/sbin
requires_command qemu-nbd qemu-img nbd-server nbdcopy

ops=$(ops_of 1000 100000)
disk=$tmp/disk

# A server that is not nbdkit; ended at the test's end at the latest.
far=
stop_far () {
  [ -z "$far" ] || kill "$far" 2> /dev/null || :
  [ -z "$far" ] || wait_until 10 pc_is_gone "$far" || kill -KILL "$far"
  far=
}
cleanup_fn stop_far

# qemu_nbd ARG...: on $tmp/far.sock
qemu_nbd () {
  rm -f "$tmp/far.sock"
  qemu-nbd --persistent --shared=0 -x name -k "$tmp/far.sock" "$@" \
    > "$tmp/far.log" 2>&1 < /dev/null &
  far=$!
  wait_until 20 test -S "$tmp/far.sock" || { cat "$tmp/far.log"; fail "qemu-nbd"; }
  where="nbd+unix:///name?socket=$tmp/far.sock"
}

# nbd_server OPTION...: lines of its configuration.  It makes a process for
# each client; its Unix socket does not work in 3.24, so it has a port.
nbd_server () {
  port=$("$PYTHON3" -c 'import socket
s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  printf '%s\n' '[generic]' 'listenaddr = 127.0.0.1' "port = $port" \
    "user = $(id -un)" "group = $(id -gn)" '[disk]' "exportname = $disk" "$@" \
    > "$tmp/far.conf"
  rm -f "$tmp/far.pid"
  nbd-server -C "$tmp/far.conf" -p "$tmp/far.pid" > "$tmp/far.log" 2>&1 < /dev/null
  wait_until 20 test -s "$tmp/far.pid" || { cat "$tmp/far.log"; fail "nbd-server"; }
  far=$(< "$tmp/far.pid")
  where="nbd://127.0.0.1:$port/disk"
}

# through NBDX-OPTION...: the model over the cache over that server.
through () {
  start_nbdkit cache "$plugin" "$where" cache-size=1M
  run_nbdx "$cache_sock" --ops "$ops" "$@"
  stop_nbdkit cache || fail "the cache ended with $?"
}

new_disk () {
  rm -f "$disk"
  "$nbdx" --make-image "$disk" --size "$1" --seed "$seed"
}

echo "--- qemu-nbd, raw, discard"
new_disk 8M
qemu_nbd --discard=unmap --detect-zeroes=unmap -f raw "$disk"
through --stamped --durable "$disk"
stop_far

# It serves whole sectors, and lets the file grow to them.
echo "--- qemu-nbd, raw, no discard, odd"
rm "$disk"
truncate -s 3000003 "$disk"
qemu_nbd --discard=ignore -f raw "$disk"
through
stop_far

echo "--- qemu-nbd, read-only"
new_disk 4M
qemu_nbd --read-only -f raw "$disk"
through --stamped --mix read=8,cache=1,status=1
stop_far

echo "--- qemu-nbd, qcow2, discard"
qemu-img create -q -f qcow2 "$tmp/qcow2" 8M
qemu_nbd --discard=unmap -f qcow2 "$tmp/qcow2"
through
# The cache that ended took its bytes along unless they are in the image.
start_nbdkit cache "$plugin" "$where" cache-size=1M
nbdcopy "$cache_uri" "$tmp/seen"
nbdsh -u "$cache_uri" -c '
for i in range(50):
    h.pwrite(bytes([i + 1]) * (4096 + 511 * i), i * 150001)
h.zero(100000, 1 << 20)'
nbdcopy "$cache_uri" "$tmp/seen"
stop_nbdkit cache || fail "the cache ended with $?"
stop_far
qemu-img compare -f qcow2 -F raw "$tmp/qcow2" "$tmp/seen" ||
  fail "the qcow2 image does not hold what was written"
qemu-img check -q -f qcow2 "$tmp/qcow2" || fail "the qcow2 image is broken"

# A process for each connection, and an fsync for each flush.
ops=$(ops_of 300 30000)

echo "--- nbd-server, all it has"
new_disk 8M
nbd_server 'flush = true' 'fua = true' 'trim = true' 'rotational = false'
through --stamped --durable "$disk"
stop_far

echo "--- nbd-server, as little as can be"
new_disk 8M
nbd_server 'flush = false' 'fua = false' 'trim = false'
through --stamped --durable "$disk"
stop_far

echo "--- nbd-server, flush and no FUA"
new_disk 5000005
nbd_server 'flush = true' 'fua = false' 'trim = true'
through --stamped
stop_far

echo "--- nbd-server, read-only"
new_disk 4M
nbd_server 'readonly = true'
through --stamped --mix read=8,cache=1,status=1
stop_far
