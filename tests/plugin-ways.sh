#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-ways.sh - every way to start nbdkit: in front, in the background, on standard input,
# for one command, read-only, with one thread, as another user.  In each the bytes are those
# of the origin, and what was written is there when it has ended.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
cd "$tmp"
chmod 777 "$tmp"                # for -u nobody
start_client
start_origin size=4M
chmod 777 "$origin_sock"
client "
o = connect('$origin_sock')
o.pwrite(pattern(1, 4 * MIB), 0)
o.flush()
def check_and_write(h, tag):
    assert h.get_size() == 4 * MIB
    assert h.pread(1 * MIB, 1 * MIB) == pattern(1, 1 * MIB, 1 * MIB)
    h.pwrite(pattern(tag, 4096), 4096 * tag)
def at_origin(tag):
    assert o.pread(4096, 4096 * tag) == pattern(tag, 4096)
"

# In the background: the parent says 0 when clients may come, errors come before that, and
# relative paths still mean what they meant, though nbdkit goes to / (K-8, nbd.B-17).
launch "$NBDKIT" -P bg.pid -U bg.sock "$plugin" socket=origin.sock cache-stats=bg.stats ||
  fail "nbdkit did not go to the background"
wait_until 10 test -s bg.pid || fail "no pid file"
pid=$(cat bg.pid)
cleanup_fn kill_if_ours "$pid"
# Servers in the background are no children of ours: when they have ended their number
# may be somebody else's, and whoever has to reap them may take a second.
kill_if_ours () {
  ! grep -q -s -F "$tmp" "/proc/$1/cmdline" || kill -KILL "$1"
}
has_ended () {
  [ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2> /dev/null
}
client "
h = connect('$tmp/bg.sock')
check_and_write(h, 2)
h.shutdown()"
kill "$pid"
wait_until 20 has_ended "$pid" || fail "the server in the background does not end"
client "at_origin(2)"
[ -s bg.stats ] || fail "the counters were not written where they should be"

# -s, for one client on standard input; it ends with the client.
on_stdin="exec \"$launch\" \"$NBDKIT\" -s \"$plugin\" socket=origin.sock 2>> stdin.log"
client "
h = nbd.NBD()
h.connect_command(['bash', '-c', '''$on_stdin'''])
check_and_write(h, 3)
h.flush()
h.shutdown()
at_origin(3)"
client "
h = nbd.NBD()
h.connect_command(['bash', '-c', '''$on_stdin'''])
check_and_write(h, 4)
h.shutdown()
end = time.monotonic() + 10 * $pc_slowness
while o.pread(4096, 4096 * 4) != pattern(4, 4096):
    assert time.monotonic() < end, 'not written back after -s'
    o.poll(1) if o.aio_is_processing() else None
"

# --run, with a socket of nbdkit's own: everything is at the origin when it returns.  (A shell
# with the thread checker preloaded, as nbdkit's children have it, does not start.)
case $SANITIZERS in
  *thread*) ;;
  *)
    launch "$NBDKIT" -U - "$plugin" socket=origin.sock --run "
      env -u LD_PRELOAD '$PYTHON3' -m nbd -u \"\$uri\" -c '
h.pwrite(b\"5\" * 4096, 4096 * 5)
'" || fail "--run: $?"
    client "assert o.pread(4096, 4096 * 5) == b'5' * 4096"
    status=0
    launch "$NBDKIT" -U - "$plugin" socket=origin.sock --run 'exit 7' || status=$?
    [ $status -eq 7 ] || fail "--run gives $status, not the command's 7" ;;
esac

# -r: nothing reaches the origin, the client is told (nbd.B-85).
origin clearlog
start_nbdkit cache -r "$plugin" socket=origin.sock
client "
h = connect('$cache_sock')
assert h.is_read_only()
assert h.pread(4096, 0) == pattern(1, 4096)
h.set_strict_mode(0)
assert errno_of(h.pwrite, b'x' * 512, 0) == 'EPERM'
assert errno_of(h.zero, 512, 0) == 'EPERM'
assert errno_of(h.trim, 512, 0) == 'EPERM'
h.shutdown()"
stop_nbdkit cache || fail "-r: $?"
[ "$(origin_stat write)$(origin_stat zero)$(origin_stat trim)" = 000 ] ||
  fail "-r: something was written to the origin"

# -t 1: one request of a connection at a time.
start_nbdkit cache -t 1 "$plugin" socket=origin.sock
client "
h = connect('$cache_sock')
p = [Pending(h, h.aio_pread(b, i * 65536), b)
     for i, b in ((i, nbd.Buffer(65536)) for i in range(32))]
while not all(x.finished for x in p):
    for x in p:
        x.drive(1)
assert all(bytes(x.buf.to_bytearray()) == pattern(1, 65536, i * 65536)
           for i, x in enumerate(p) if i > 1)
check_and_write(h, 6)
h.shutdown()"
stop_nbdkit cache || fail "-t 1: $?"
client "at_origin(6)"

# -u: the threads, the connections and the counters are the other user's.
if [ "$(id -u)" -eq 0 ] && id nobody > /dev/null 2>&1; then
  mkdir -m 777 theirs
  start_nbdkit cache -u nobody "$plugin" "nbd+unix:///?socket=origin.sock" \
    cache-stats=theirs/stats
  client "
h = connect('$cache_sock')
check_and_write(h, 7)
h.shutdown()"
  stop_nbdkit cache || fail "-u nobody: $?"
  client "at_origin(7)"
  [ "$(stat -c %U theirs/stats)" = nobody ] || fail "-u nobody: whose are the counters?"
fi

# -o, without names: the one export, as for anybody (nbd.B-25).
start_nbdkit cache -o "$plugin" socket=origin.sock
client "
h = nbd.NBD()
h.connect_unix('$cache_sock')
assert h.get_protocol() == 'oldstyle'
check_and_write(h, 8)
h.shutdown()"
stop_nbdkit cache || fail "-o: $?"
client "at_origin(8)"

# kill -9: what was flushed is at the origin, and starting again asks for nothing but that the old
# socket is removed (nbd.B-97, nbd.B-98).
start_nbdkit cache "$plugin" socket=origin.sock
client "
h = connect('$cache_sock')
check_and_write(h, 9)
h.flush()"
kill_nbdkit cache KILL
wait_nbdkit cache 2> /dev/null || :
client "at_origin(9)
del h"
status=0
launch "$NBDKIT" -f -U "$cache_sock" "$plugin" socket=origin.sock > stale.log 2>&1 < /dev/null ||
  status=$?
[ "$status" -eq 1 ] && grep -q "cache.sock: Address already in use" stale.log ||
  { cat stale.log; fail "a socket that was left behind: $status"; }
start_nbdkit cache "$plugin" socket=origin.sock
client "h = connect('$cache_sock')
assert h.pread(4096, 4096 * 9) == pattern(9, 4096)
h.shutdown()"
stop_nbdkit cache || fail "after kill -9: $?"

# Itself as the origin: nobody is there when it looks (nbd.B-41).
status=0
launch "$NBDKIT" -f -U self.sock "$plugin" socket=self.sock > self.log 2>&1 < /dev/null || status=$?
[ "$status" -eq 1 ] && grep -q 'self.sock.*No such file' self.log ||
  { cat self.log; fail "its own origin: $status"; }

# A size that is no multiple of anything, to the byte (nbd.B-47).
kill_origin
for size in 1 511 513 4095 4097 1048577; do
  rm -f "$durable"
  start_origin size=$size
  for mode in writeback none; do
    start_nbdkit cache "$plugin" socket=origin.sock cache=$mode
    client "
o = connect('$origin_sock')
h = connect('$cache_sock')
size = $size
assert h.get_size() == size
data = pattern(18, size)
h.pwrite(data, 0)
assert h.pread(size, 0) == data
h.pwrite(b'z', size - 1)
h.flush()
assert o.pread(size, 0) == data[:-1] + b'z'
h.set_strict_mode(0)
assert errno_of(h.pread, 1, size)
assert errno_of(h.pwrite, b'xx', size - 1)
h.zero(1, size - 1)
assert h.pread(1, size - 1) == bytes(1)
h.flush()
assert o.pread(1, size - 1) == bytes(1)
o.shutdown()
h.shutdown()"
    stop_nbdkit cache || fail "size $size, cache=$mode: $?"
  done
  kill_origin
done

# An origin of size 0, and one that is read-only (nbd.B-42, nbd.B-45).
rm -f "$durable"
start_nbdkit empty null size=0
start_nbdkit cache "$plugin" "$empty_uri"
client "
h = connect('$cache_sock')
assert h.get_size() == 0
h.shutdown()"
stop_nbdkit cache || fail "size 0: $?"
start_origin size=1M readonly=yes
for mode in writeback none; do
  start_nbdkit cache "$plugin" socket=origin.sock cache=$mode
  client "
h = connect('$cache_sock')
assert h.is_read_only()
assert h.pread(4096, 0) == bytes(4096)
h.set_strict_mode(0)
assert errno_of(h.pwrite, b'x' * 512, 0) == 'EPERM'
h.shutdown()"
  stop_nbdkit cache || fail "a read-only origin, cache=$mode: $?"
done
