#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-many-exports.sh - thousands of exports opened and closed under one budget, with few descriptors:
# exports that nobody uses make way, what was written to them is at the origin, and nothing is left of
# them but what the budget allows: no descriptor, no thread, no memory.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
# Any name is an export, and all are one disk.
start_origin size=4M

PC_NOFILE=160 start_nbdkit cache "$plugin" socket="$origin_sock" dynamic-export=true cache-size=8M connections=4 \
  cache-revalidate=never
start_client

descriptors () { find "/proc/$cache_pid/fd" -mindepth 1 | wc -l; }
threads () { find "/proc/$cache_pid/task" -mindepth 1 -maxdepth 1 | wc -l; }

## So many at once as there are descriptors for, one after the other; further ones are told no.

client "
h = connect('$cache_sock', 'stays')
h.pwrite(pattern(1, 1 * MIB), 0)
kept, refused = [], 0
for i in range(60):
    try:
        c = connect('$cache_sock', 'many%d' % i)
        c.pread(4096, 4096 * i)
        kept.append(c)
    except nbd.Error as e:
        refused += 1
        # It is over at once, not when some patience is.
print('%d at once, %d refused' % (len(kept), refused))
assert 4 <= len(kept) < 30 and refused
assert h.pread(1 * MIB, 0) == pattern(1, 1 * MIB)
h.flush()
for c in kept:
    c.pread(4096, 65536)
    c.shutdown()"
grep -q 'a client is refused: descriptors are short' "$cache_log" || fail "no word about it"

## Thousands, one after the other, two at a time; each tenth writes.

# 2000 at first, for it takes as many until the caches that are kept fill the budget.
first=1000 rounds=700
[ -z "${PC_SOAK:-}" ] || rounds=20000
[ -z "${PC_VALGRIND:-}" ] || { first=10 rounds=10; }
# The server hears of a client that left a moment later, and its export is in use until then.
client "
def come(name):
    end = time.monotonic() + 10 * $pc_slowness
    while True:
        try:
            return connect('$cache_sock', name)
        except nbd.Error:
            assert time.monotonic() < end, name"
run () {
  client "
t = time.monotonic()
for i in range($1, $2):
    c = come('e%d' % i)
    d = come('f%d' % i)
    c.pread(4096, 4096 * (i % 512))
    if i % 10 == 0:
        d.pwrite(b'%8d' % i * 512, 2 * MIB)
    # An export that was closed long ago, and is still known, or is not.
    if i % 100 == 99:
        e = come('e%d' % (i - 50))
        e.pread(4096, 0)
        e.shutdown()
    c.shutdown()
    d.shutdown()
print('%d opened and closed in %.1f s' % (2 * ($2 - $1), time.monotonic() - t))"
}
tell () {
  echo "$1: $(descriptors) descriptors, $(threads) threads, $(resident "$cache_pid") KiB"
}
run 0 $first
tell "after $((2 * first))"

# What is lost with each export is lost every time; what the allocator takes when many threads come together (up to 1.6 MiB
# were seen) is not.  So it has three tries.  A checker keeps what was freed.
done=$first
for try in 1 2 3; do
  resident_before=$(resident "$cache_pid")
  run "$done" $((done + rounds))
  done=$((done + rounds))
  tell "after $((2 * done))"
  at_most "descriptors" "$(descriptors)" 160
  growth=$(($(resident "$cache_pid") - resident_before))
  if [ "$SANITIZERS" != no ] || [ -n "${PC_VALGRIND:-}" ] || [ "$growth" -le 1024 ]; then
    break
  fi
  [ "$try" -lt 3 ] || at_most "growth in KiB, three times" "$growth" 1024
done
# They were there all the time.
client "
assert h.pread(1 * MIB, 0)[:8] == pattern(1, 8)
h.flush()
h.shutdown()"
few_threads () { [ "$(threads)" -le 6 ]; }
wait_until 20 few_threads || fail "$(threads) threads are left"
! grep -q 'Too many open files' "$cache_log" || fail "there were no descriptors left"
stop_nbdkit cache || fail "the cache ended with $?"
stop_client
# The last of those that wrote: the disk is one.
"$PYTHON3" - "$durable" "$done" <<'PY'
import sys
with open(sys.argv[1], "rb") as f:
    f.seek(2 << 20)
    got = f.read(4096)
assert len(set(got[i:i + 8] for i in range(0, 4096, 8))) == 1, got[:32]
assert int(got[:8]) % 10 == 0 and int(got[:8]) < int(sys.argv[2])
PY
