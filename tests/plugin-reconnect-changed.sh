#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-reconnect-changed.sh - the origin comes back as something else: larger, smaller,
# read-only, under another name; and what is asked of it when a client comes (D14, D18, N-66,
# nbd.B-48, nbd.B-49, S-27).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
start_client

in_log () {
  grep -q -- "$1" "$cache_log"
}
# Where nothing is written by then, it will not be.
expect_in_log () {
  wait_until 10 in_log "$1" || fail "the log does not say: $1"
}

# Larger: whoever has it open keeps the old size; the next who comes alone has the new one,
# with what was written.  Nobody has to look for that.
start_origin extents=no size=2M
start_cache reconnect=60 cache-size=8M cache-revalidate=never
client "
h = connect('$cache_sock')
h.pwrite(pattern(1, 65536), 0)"
kill_origin
start_origin extents=no size=4M
client "
h.flush()
assert errno_of(h.pread, 512, 2 * MIB) in ('EINVAL', 'EIO')
g = connect('$cache_sock')
assert g.get_size() == 2 * MIB, 'changed while it is open'
g.shutdown()
h.shutdown()
"
expect_in_log '4194304 bytes instead of 2097152'
size_is () {
  client "
h = connect('$cache_sock')
found = h.get_size()
h.shutdown()
assert found == $1 * MIB, found" > /dev/null
}
# The last one may have gone a moment before the server knows.
wait_until 10 size_is 4 || fail "the new size is not taken by the next client"
client "
h = connect('$cache_sock')
assert h.pread(65536, 0) == pattern(1, 65536)
h.pwrite(pattern(2, 65536), 3 * MIB)
h.flush()
assert h.pread(65536, 3 * MIB) == pattern(2, 65536)
"

# Smaller: beyond the new end reads and writes fail; dirty bytes there are kept, named, and fail
# the flush; the rest goes on.
client "h.pread(65536, 2 * MIB + 65536)"
kill_origin
client "
h.pwrite(pattern(3, 65536), 2 * MIB)
h.pwrite(pattern(3, 65536), 1 * MIB)"
start_origin extents=no size=2M
expect_in_log '2097152 bytes instead of 4194304'
client "
end = time.monotonic() + 20 * $pc_slowness
while errno_of(h.pread, 4096, 512 * KIB) is not None:
    assert time.monotonic() < end
assert h.pread(65536, 1 * MIB) == pattern(3, 65536)
for at in 2 * MIB, 3 * MIB, 2 * MIB + 65536, 2 * MIB - 512:
    assert errno_of(h.pread, 65536, at) == 'EIO', at
    assert errno_of(h.pwrite, bytes(65536), at) == 'EIO', at
h.pwrite(pattern(4, 4096), 2 * MIB - 4096)
assert errno_of(h.flush) == 'EIO'
assert errno_of(h.flush) == 'EIO'
o = connect('$origin_sock')
# A flush fails as soon as it knows that it must; what can be written goes on behind it.
end = time.monotonic() + 20 * $pc_slowness
while o.pread(4096, 2 * MIB - 4096) != pattern(4, 4096):
    assert time.monotonic() < end, 'what lies before the end does not reach the origin'
    o.poll(10)
assert o.pread(65536, 1 * MIB) == pattern(3, 65536)
o.shutdown()
"
# As large as before: what was kept goes there.
kill_origin
start_origin extents=no size=4M
client "
end = time.monotonic() + 20 * $pc_slowness
while errno_of(h.flush) is not None:
    assert time.monotonic() < end, 'right again, and flush still fails'
assert h.pread(65536, 2 * MIB) == pattern(3, 65536)
with open('$durable', 'rb') as f:
    f.seek(2 * MIB)
    assert f.read(65536) == pattern(3, 65536)
h.shutdown()
"
stop_nbdkit cache || fail "the cache ended with $?"

# Smaller for good: at the end the range is named, and the status says so.
start_cache reconnect=1 cache-size=8M cache-dirty-expire=1000
client "
h = connect('$cache_sock')
h.pwrite(pattern(5, 4096), 3 * MIB)"
kill_origin
start_origin extents=no size=2M
client "
end = time.monotonic() + 20 * $pc_slowness
while errno_of(h.pread, 4096, 3 * MIB) is None:
    assert time.monotonic() < end
h.shutdown()
"
status=0
stop_nbdkit cache || status=$?
[ "$status" -eq 1 ] || fail "the cache ended with $status and bytes beyond the end"
in_log "4096 bytes at 3145728" || fail "what is lost is not named"
kill_origin

# Read-only, or by another name: every request fails, also what is cached; what was written is kept
# and goes out when the origin is right again.
rm -rf "$durable"
mkdir "$durable"
for change in "readonly=yes exports=a,b default=a" "exports=a,b default=b" \
              "exports=a,b default=a minblock=4096"; do
  rm -f "$durable"/*
  start_origin extents=no size=2M exports=a,b default=a
  start_cache reconnect=60 cache-size=8M cache-dirty-expire=1000
  client "
h = connect('$cache_sock')
h.pread(65536, 1 * MIB)
h.pwrite(pattern(6, 65536), 0)"
  kill_origin
  # shellcheck disable=SC2086
  start_origin extents=no size=2M $change
  expect_in_log 'came back as another'
  client "
assert errno_of(h.pread, 4096, 512 * KIB) == 'EIO'
assert errno_of(h.pread, 4096, 1 * MIB) == 'EIO', 'a hit of what may be another disk'
assert errno_of(h.pwrite, bytes(4096), 1 * MIB) == 'EIO'
assert errno_of(h.zero, 4096, 1 * MIB) == 'EIO'
assert errno_of(h.trim, 4096, 1 * MIB) == 'EIO'
assert errno_of(h.flush) == 'EIO'
" || fail "with $change"
  kill_origin
  start_origin extents=no size=2M exports=a,b default=a
  client "
end = time.monotonic() + 20 * $pc_slowness
while errno_of(h.flush) is not None:
    assert time.monotonic() < end, 'right again, and requests still fail'
with open('$durable/a', 'rb') as f:
    assert f.read(65536) == pattern(6, 65536)
assert h.pread(65536, 0) == pattern(6, 65536)
with open('$durable/b', 'rb') as f:
    assert not any(f.read()), 'something was written to the other disk'
" || fail "after $change"
  # Clean bytes are not believed any more.
  origin clearlog
  client "
assert h.pread(65536, 1 * MIB) == bytes(65536)
h.shutdown()"
  [ "$(origin_stat read_bytes)" -ge 65536 ] || fail "clean bytes survived: $change"
  stop_nbdkit cache || fail "the cache ended with $?"
  : > "$cache_log"
  kill_origin
done

# effect of cache-revalidate: what differs is seen when the first client comes (open), between clients
# only by those who look again (SECONDS), or not at all.  The origin is not restarted, but another
# stands at its socket; the old connection goes on.
rm -rf "$durable"
swap_origin () {                # size of the new one
  mv "$origin_sock" "$tmp/old.sock"
  old=$origin_pid
  rm -f "$origin_ctl"
  durable="$tmp/durable.$1"
  start_origin extents=no size="$1"
  origin_uri="nbd+unix:///?socket=$origin_sock"
}
for how in open never 0.05; do
  durable="$tmp/durable"
  rm -f "$durable"*
  start_origin extents=no size=2M
  start_cache cache-size=8M cache-revalidate=$how
  client "
h = connect('$cache_sock')
h.pwrite(pattern(7, 65536), 0)
h.flush()
h.shutdown()"
  swap_origin 4M
  case $how in
    open | 0.05)
      wait_until 10 size_is 4 || fail "cache-revalidate=$how: the old size"
      client "
h = connect('$cache_sock')
assert h.pread(65536, 0) == bytes(65536), 'clean pages of another disk'
h.shutdown()" || fail "cache-revalidate=$how" ;;
    never)
      size_is 2 || fail "cache-revalidate=never: looked" ;;
  esac
  stop_nbdkit cache || fail "cache-revalidate=$how: the cache ended with $?"
  kill -KILL "$old"
  wait "$old" 2> /dev/null || :
  kill_origin
done

# SECONDS: also while a client is there, who keeps the size that was told.
rm -f "$durable"*
start_origin extents=no size=2M
start_cache cache-size=8M cache-revalidate=0.05
client "
h = connect('$cache_sock')
h.pread(65536, 0)"
swap_origin 4M
expect_in_log 'is not what it was: it has 4194304 bytes instead of 2097152'
client "
assert h.pread(65536, 0) == bytes(65536) and h.get_size() == 2 * MIB
h.shutdown()"
stop_nbdkit cache || fail "cache-revalidate=0.05: the cache ended with $?"
kill -KILL "$old"
wait "$old" 2> /dev/null || :
kill_origin

# Dirty bytes are kept and reported: they belong to whom they were written for.
durable="$tmp/durable"
rm -f "$durable"*
start_origin extents=no size=2M
start_cache cache-size=8M cache-dirty-expire=1000
origin close write
client "
h = connect('$cache_sock')
h.pread(65536, 1 * MIB)
h.pwrite(pattern(8, 65536), 0)
h.shutdown()"
origin wait write 1
swap_origin 4M
client "
h = connect('$cache_sock')
assert h.get_size() == 2 * MIB
assert h.pread(65536, 0) == pattern(8, 65536)
h.shutdown()"
in_log 'is not what it was' || fail "a difference with dirty bytes is not reported"
kill -KILL "$old"
wait "$old" 2> /dev/null || :
