#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-huge-export.sh - an 8 TiB export opens, reads, writes and flushes like
# a small one, and costs at most 8 MiB more (goals.md, Memory; peers.md M13).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

# ThreadSanitizer leaves no room to map the test origin's 8 TiB, and for 1 TiB only now and then; valgrind maps 32 GiB.
giant=8T
case $SANITIZERS in *thread*) giant=256G ;; esac
[ -z "${PC_VALGRIND:-}" ] || giant=16G
high=$(($(numfmt --from=iec "$giant") / 8 * 7))

# touch SIZE AT: what the cache's server has resident after a little work there.
touch_export () {
  rm -f "$durable"
  start_origin size="$1"
  start_cache cache-size=16M
  start_client
  client "h = connect('$cache_sock')
assert h.get_size() == $(numfmt --from=iec "$1")
at = $2
h.pwrite(pattern(1, 4096), at)
assert h.pread(8192, at) == pattern(1, 4096) + bytes(4096)
t = time.monotonic()
h.flush()
ms = (time.monotonic() - t) * 1000
print('flush of one page: %.2f ms' % ms)
h.pwrite(pattern(2, 4096), at)
h.block_status(65536, at, lambda *a: 0)
h.zero(65536, at + 65536)
h.trim(65536, at + 131072)
h.flush()
with open('$durable', 'rb') as f:
    f.seek(at)
    assert f.read(4096) == pattern(2, 4096)
for i in range(16):
    h.trim((1 << 32) - 4096 if h.get_size() >= 1 << 40 else 65536, i << 32
           if h.get_size() >= 1 << 40 else 0)
h.flush()"
  resident=$(resident "$cache_pid")
  stop_client
  stop_nbdkit cache || fail "the cache ended with $?"
  kill_origin
}

touch_export 1M 524288
small=$resident
touch_export "$giant" "$high"
at_most "KiB more than for 1 MiB ($small)" $((resident - small)) \
  "$([ "$SANITIZERS" = no ] && echo 8192 || echo 1048576)"

rm -f "$durable"
start_origin size="$giant"
start_cache cache-size=2M
run_nbdx "$cache_sock" --at "$high" --size 16M --ops "$(ops_of 2000)"
stop_nbdkit cache || fail "the cache ended with $?"
