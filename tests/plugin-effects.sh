#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-effects.sh - what each parameter does, as far as a client or the origin sees it.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
cd "$tmp"                       # relative paths are relative to this
start_client
mkdir "$durable"
restart_origin_as_before () {
  start_origin size=16M extents=no exports=a,b default=a fua=native
}
restart_origin_as_before

# cache SOCKET ARG...: over the origin's socket, however it is named.
with () {
  start_nbdkit cache "$plugin" "$@"
}

done_with () {
  stop_nbdkit cache || fail "the cache ended with $?"
}

# effect of uri, socket, export: the origin, named in every way; export a and b differ.
client "
for name in 'a', 'b':
    o = connect('$origin_sock', name)
    o.pwrite(name.encode() * 4096, 0)
    o.flush()
    o.shutdown()
def first(path, name=''):
    h = connect(path, name)
    b = bytes(h.pread(4096, 0))
    h.shutdown()
    assert len(set(b)) == 1
    return chr(b[0])
"
for words in "socket=origin.sock export=b" \
             "nbd+unix:///b?socket=origin.sock" \
             "uri=nbd+unix:///b?socket=$origin_sock"; do
  # shellcheck disable=SC2086
  with $words
  client "assert first('$cache_sock') == 'b'"
  client "assert first('$cache_sock', 'whatever') == 'b'"
  done_with
done
with socket=origin.sock
client "assert first('$cache_sock') == 'a'"
done_with

# effect of dynamic-export: the client's name counts, "" is what the origin makes of it, and an
# export that is not there is refused to the one who asks for it.
with socket=origin.sock dynamic-export=true
client "
assert first('$cache_sock', 'b') == 'b'
assert first('$cache_sock', 'a') == 'a'
assert first('$cache_sock', '') == 'a'
assert errno_of(connect, '$cache_sock', 'c')
assert first('$cache_sock', 'b') == 'b'
h = nbd.NBD()
h.set_opt_mode(True)
h.connect_unix('$cache_sock')
names = []
h.opt_list(lambda name, description: names.append(name))
h.opt_abort()
assert sorted(n for n in names if n) == ['a', 'b'], names
"
done_with

# effect of cache: who has a write when it is acknowledged, and when it is flushed.
tag=0
for mode in writeback writethrough unsafe none; do
  tag=$((tag + 1))
  origin sync
  origin clearlog
  # What an idle cache writes of itself says nothing of what a flush does.
  [ $mode != unsafe ] || origin close write
  with socket=origin.sock cache=$mode cache-dirty-expire=1000
  client "
h = connect('$cache_sock')
h.pwrite(pattern($tag, 4096), 8192)
o = connect('$origin_sock', 'a')
there = bytes(o.pread(4096, 8192)) == pattern($tag, 4096)
assert there == ('$mode' in ('writethrough', 'none')), 'after the write: %s' % there
h.flush()
there = bytes(o.pread(4096, 8192)) == pattern($tag, 4096)
assert there == ('$mode' != 'unsafe'), 'after the flush: %s' % there
"
  flushed=$(origin_stat flush_done)
  case $mode in
    unsafe) ;;
    *) [ "$flushed" -gt 0 ] || fail "cache=$mode: a flush did not reach the origin" ;;
  esac
  client "h.pwrite(pattern($tag, 512), 12288, nbd.CMD_FLAG_FUA) if h.can_fua() else 0
assert '$mode' == 'unsafe' or not h.can_fua() or bytes(o.pread(512, 12288)) == pattern($tag, 512)
h.shutdown()"
  origin open write
  done_with
  client "assert bytes(o.pread(4096, 8192)) == pattern($tag, 4096), 'after the end'
o.shutdown()"
done

# effect of cache-dirty-expire: without any flush, in time.
with socket=origin.sock cache-dirty-expire=0.05
client "
h = connect('$cache_sock')
h.pwrite(pattern(77, 4096), 16384)
o = connect('$origin_sock', 'a')
end = time.monotonic() + 10 * $pc_slowness
while bytes(o.pread(4096, 16384)) != pattern(77, 4096):
    assert time.monotonic() < end, 'not written back'
    h.poll(10)
h.shutdown()
o.shutdown()
"
done_with

# effect of cache-readahead: the origin is asked for what was asked for; the default asks for more.
for readahead in off 1M; do
  origin clearlog
  with socket=origin.sock cache-readahead=$readahead
  client "
h = connect('$cache_sock')
for i in range(16):
    h.pread(65536, (i + 32) * 65536)
h.shutdown()
"
  done_with
  bytes=$(origin_stat read_bytes)
  case $readahead in
    off) [ "$bytes" -eq 1048576 ] || fail "read-ahead is off, and $bytes bytes were read" ;;
    *) [ "$bytes" -gt 1048576 ] || fail "read-ahead is on, and $bytes bytes were read" ;;
  esac
done

# effect of cache-size: what was read is served again from memory if it fits, and not if it does not.
for size in 2M 64M; do
  with socket=origin.sock cache-size=$size cache-readahead=off
  client "
h = connect('$cache_sock')
def all():
    for i in range(64):
        h.pread(131072, 131072 * i)
all()"
  origin clearlog
  client "all()
h.shutdown()"
  again=$(origin_stat read_bytes)
  case $size in
    2M) [ "$again" -gt 0 ] || fail "8 MiB were kept in a cache of 2 MiB" ;;
    *) [ "$again" -eq 0 ] || fail "$again bytes were read twice into 64 MiB" ;;
  esac
  done_with
done

# effect of cache-dirty-max, cache-dirty-background: never more than that is missing at the origin,
# and below the second nothing is sent.
with socket=origin.sock cache-size=16M cache-dirty-max=1M cache-dirty-background=512k \
  cache-dirty-expire=1000
origin clearlog
client "
h = connect('$cache_sock')
for i in range(64):
    h.pwrite(pattern(3, 4096), 4096 * i)
"
[ "$(origin_stat write_bytes)" -eq 0 ] || fail "written back below cache-dirty-background"
client "
for i in range(1024):
    h.pwrite(pattern(4, 4096), 4096 * i)
h.shutdown()
"
[ "$(origin_stat write_bytes)" -ge $((3 << 20)) ] ||
  fail "only $(origin_stat write_bytes) of 4 MiB were written back over a bound of 1 MiB"
done_with

# effect of connections: as many as said at most, where the origin allows several; block status has
# one of its own there.
stop_client
kill_origin
start_origin -t 64 size=16M extents=no rdelay=0.01 exports=a,b default=a
for n in 1 3; do
  with socket=origin.sock connections=$n cache-readahead=off
  start_client
  client "
h = connect('$cache_sock')
def count():
    with open('/proc/net/unix') as f:
        return sum(line.split()[-1] == '$origin_sock' and line.split()[5] == '03' for line in f)
# The one that looked at the start may not have gone yet.
end = time.monotonic() + 10 * $pc_slowness
while count() > 1 + ($n > 1):
    assert time.monotonic() < end, '%d connections before anything was asked' % count()
p = [aio_read(h, 4096, 4096 * i) for i in range(256)]
most = 0
while not all(x.finished for x in p):
    h.poll(1)
    for x in p:
        x.drive(0)
    most = max(most, count())
assert 1 <= most <= $n + ($n > 1), '%d connections' % most
assert $n == 1 or most > 2, 'only %d connections' % most
h.shutdown()"
  stop_client
  done_with
done
kill_origin
restart_origin_as_before
start_client

# An origin without flush: one is offered all the same, and said to mean little (D4, nbd.B-43).
kill_origin
start_origin size=16M flush=no fua=none exports=a,b default=a
with socket=origin.sock
client "
h = connect('$cache_sock')
h.pwrite(pattern(5, 4096), 0)
h.flush()
o = connect('$origin_sock', 'a')
assert o.pread(4096, 0) == pattern(5, 4096)
o.shutdown()
h.shutdown()"
[ "$(grep -c 'warning: .*no flush' "$cache_log")" -eq 1 ] || fail "no warning, or several"
done_with
kill_origin
restart_origin_as_before

# A trim that the origin refuses is a wish that was not granted, no error (nbd.B-57).
with socket=origin.sock
origin fail trim EINVAL
client "
h = connect('$cache_sock')
h.pwrite(pattern(6, 65536), 1 * MIB)
h.flush()
h.trim(65536, 1 * MIB)
h.flush()
assert h.pread(65536, 1 * MIB) in (bytes(65536), pattern(6, 65536))
h.shutdown()"
origin clearfail
done_with

# effect of timeout, reconnect: an origin that is silent, one that is away.  Long enough for a handshake.
short=0.2
[ "$pc_slowness" -eq 1 ] || short=$pc_slowness
with socket=origin.sock reconnect=0 timeout="$short"
client "
h = connect('$cache_sock')
h.pread(4096, 0)"
kill_origin
client "
assert bytes(h.pread(4096, 0)), 'a hit needs no origin'
began = time.monotonic()
assert errno_of(h.pread, 4096, 1 * MIB) == 'EIO'
assert time.monotonic() - began < 5 + 5 * $short, 'reconnect=0 waited'
h.shutdown()
"
restart_origin
done_with

with socket=origin.sock reconnect=60
client "h = connect('$cache_sock')"
kill_origin
restart_origin
client "
assert len(h.pread(4096, 2 * MIB)) == 4096
h.shutdown()
"
done_with

with socket=origin.sock timeout="$short" reconnect="$short"
origin close read
client "
h = connect('$cache_sock')
assert errno_of(h.pread, 4096, 3 * MIB) == 'EIO', 'a silent origin'
h.shutdown()
"
origin open read
done_with

# effect of cache-stats: at the end at least, one number a line; - is standard error.
with socket=origin.sock cache-stats=stats
client "h = connect('$cache_sock')
h.pread(4096, 0)
h.pread(4096, 0)
h.shutdown()"
done_with
grep -E -q '^[^=]*\.hits=[0-9]+$' stats || { cat stats; fail "no hits in cache-stats"; }
! grep -E -v '^[^=]+\.[a-z_]+=[0-9]+$' stats || fail "not a counter"
for name in hits misses joined fills fill_bytes readahead_bytes readahead_wasted bypass_bytes evicted \
            dirty_bytes writing_bytes unstable_bytes writeback_bytes writeback_errors \
            origin_reads origin_writes origin_flushes reconnects throttled_ms frames \
            metadata_bytes; do
  grep -q "\.$name=" stats || fail "cache-stats lacks $name"
done
# A line begins with the export's name.
names () {
  local want=$1

  shift
  with "$@" cache-stats=stats
  client "h = connect('$cache_sock')
h.shutdown()"
  done_with
  [ "$(sed 's/\.[a-z_]*=[0-9]*$//' stats | sort -u)" = "$want" ] || { cat stats; fail "names of $*"; }
}
names a socket=origin.sock
names a socket=origin.sock export=a
kill_origin
durable="$tmp/durable.named"
mkdir "$durable"
start_origin size=1M exports=disk,other
names disk socket=origin.sock export=disk
names other "uri=nbd+unix:///other?socket=origin.sock"
# Whatever an export is called, a line is a counter.
kill_origin
durable="$tmp/durable.any"
start_origin size=1M
names default socket=origin.sock
names thing socket=origin.sock export=thing
with socket=origin.sock dynamic-export=true cache-stats=stats
client "
for name in 'x\\ny=1', 'n' * 3000, 'a.b=c', '%s%n':
    h = connect('$cache_sock', name)
    h.pread(512, 0)
    h.shutdown()"
done_with
! grep -E -v '^[ -~]+\.[a-z_]+=[0-9]+$' stats || fail "not a counter"
[ "$(grep -c '\.hits=' stats)" -eq 4 ] || fail "not the counters of four exports"
with socket=origin.sock cache-stats=-
client "h = connect('$cache_sock')
h.shutdown()"
done_with
grep -E -q '\.hits=[0-9]+$' "$cache_log" || fail "cache-stats=-: nothing on standard error"
