#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-holes.sh - a hole of the origin is not fetched: for each 128 MiB of
# it one read and one block status at most, and no frame (goals.md P13).  A
# disk full of data is never asked for holes.  What is written into a hole is
# there, also when it has left the cache.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

# read_all SOCKET: every byte in requests of 256 KiB; prints how many were not
# zero.
read_all () {
  nbdsh -u "nbd+unix:///?socket=$1" -c '
size = h.get_size ()
print (sum (len (b) - b.count (0)
            for b in (h.pread (min (262144, size - o), o)
                      for o in range (0, size, 262144))))'
}

# A hole of 512 MiB but for 4 KiB in the middle of it.
rm -f "$durable"
truncate -s 512M "$durable"
printf 'x%.0s' {1..4096} |
  dd of="$durable" bs=4096 seek=65537 conv=notrunc status=none
start_origin rdelay=0.001 edelay=0.001
start_cache cache-size=16M cache-stats="$tmp/stats"
nonzero=$(read_all "$cache_sock")
[ "$nonzero" -eq 4096 ] || fail "$nonzero bytes are not zero"
# One read at the beginning, and what read-ahead fetched beside the data.
reads=$(origin_stat read) statuses=$(origin_stat extents)
echo "512 MiB with a page in it: $reads reads, $statuses block statuses"
[ "$reads" -le 12 ] || fail "$reads reads of the origin"
[ "$statuses" -le 4 ] || fail "$statuses block statuses"

# Again, and nothing at all is asked.
origin clearlog
nonzero=$(read_all "$cache_sock")
[ "$nonzero" -eq 4096 ] || fail "$nonzero bytes are not zero the second time"
[ "$(origin_stat extents)" -le "$statuses" ] || fail "asked again"

# Bytes written into the hole, flushed, and pushed out by other writes.
nbdsh -u "$cache_uri" -c '
h.pwrite (b"1" * 1000, 100 * 1048576 + 500)
h.flush ()
for o in range (300 * 1048576, 340 * 1048576, 1048576):
  h.pwrite (b"2" * 1048576, o)
h.flush ()
got = h.pread (8192, 100 * 1048576 - 4096)
assert got == bytes (4096 + 500) + b"1" * 1000 + bytes (4096 - 1500), "lost"
assert h.pread (1048576, 339 * 1048576) == b"2" * 1048576'
stop_nbdkit cache || fail "the cache ended with $?"
frames=$(sed -n 's/.*frames=//p' "$tmp/stats" | tail -n 1)
echo "frames at the end: $frames"
stop_nbdkit origin || :

# A disk full of data.
rm -f "$durable"
make_image 16M
start_origin
start_cache cache-size=4M
read_all "$cache_sock" > "$tmp/count"
[ "$(origin_stat extents)" -eq 0 ] ||
  fail "a disk full of data was asked for holes $(origin_stat extents) times"
stop_nbdkit cache || fail "the cache ended with $?"
