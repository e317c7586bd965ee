#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-memory.sh - while 2 GiB go through it, the server never holds more
# than the cache's bound, nbdkit's own request buffers and 24 MiB, and what it
# counts is within the bound; a server holds next to nothing before its first
# client; an export that nobody uses and its connection take 16 KiB each
# (goals.md, Memory).
#
# Bytes a page: test-inode.  An export of 8 TiB: plugin-huge-export.sh.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
if [ "$SANITIZERS" != no ] || [ -n "${PC_VALGRIND:-}" ]; then
  echo "a checker's memory is not ours to judge"
  exit 0
fi

start_origin size=1G
start_cache cache=writeback cache-size=64M cache-stats="$tmp/stats"
# 1 GiB written, then read back and compared.
"$nbdx" --seed "$seed" --never-flush-write 1G --depth 16 --block 256K \
  "$cache_sock" || fail "wrong bytes"
# 16 workers a connection, each with a buffer of its largest request; the
# tester has one connection.
at_most "KiB at most resident" "$(resident "$cache_pid" VmHWM)" \
  $(( (64 + 24) * 1024 + 16 * 256 ))
stop_nbdkit cache || fail "the cache ended with $?"
at_most "bytes in frames and metadata" "$(
  awk -F= '/\.frames=/ { n += 4096 * $2 } /\.metadata_bytes=/ { n += $2 }
           END { print n }' "$tmp/stats")" $((64 << 20))
at_least "frames" "$(sed -n 's/.*\.frames=//p' "$tmp/stats")" 12000

# What is taken beforehand: nothing until somebody comes, then a quarter of the cache.
quarter_is_there () {
  [ "$(resident "$cache_pid" RssShmem)" -ge $((16 * 1024)) ]
}

start_cache cache-size=64M
at_most "KiB of frames before the first client" \
  "$(resident "$cache_pid" RssShmem)" 1024
start_client
client "h = connect('$cache_sock')"
wait_until 20 quarter_is_there || fail "no quarter of the cache after 20 s"
at_most "KiB of frames after it" "$(resident "$cache_pid" RssShmem)" \
  $((16 * 1024 + 1024))
stop_client
stop_nbdkit cache || fail "the cache ended with $?"

# Exports that were opened, read and left, each with a connection.  What is
# counted for one has a tree node in it, for the page that was read.
kill_origin
rm -f "$durable"
start_nbdkit origin "$testorigin" size=1M control="$origin_ctl"

# exports COUNT: what metadata_bytes says, and KiB that 8 and that many take.
exports () {
  start_cache cache-size=16M dynamic-export=true connections=1 \
    cache-stats="$tmp/stats"
  start_client
  use_exports 0 8
  few=$(resident "$cache_pid" RssAnon)
  use_exports 8 "$1"
  many=$(resident "$cache_pid" RssAnon)
  stop_client
  stop_nbdkit cache || fail "the cache ended with $?"
  [ "$(grep -c '\.metadata_bytes=' "$tmp/stats")" -eq "$1" ] ||
    fail "there are not $1 exports"
  counted=$(sed -n 's/.*\.metadata_bytes=//p' "$tmp/stats" | tail -n 1)
}

use_exports () {
  client "for i in range($1, $2):
    h = connect('$cache_sock', 'export-%d' % i)
    assert h.pread(4096, 0) == bytes(4096)
    h.shutdown()"
}

exports 8
least=$counted
exports 72
each=$(((counted - least) / 64))
at_most "bytes counted for an export" $each $((16384 + 1088))
at_most "KiB resident for an export and its connection" \
  $(((many - few) / 64)) 32
