#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-two-exports.sh - two exports of one origin share a cache that is too
# small for either, and nothing else: what is written to one is never read
# from the other, nor written back to it (peers.md M14).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

mkdir "$durable"
# The seeds make one export's stamps look like garbage to the other's model.
"$nbdx" --make-image "$durable/a" --size 8M --seed "${seed}1"
"$nbdx" --make-image "$durable/b" --size 8M --seed "${seed}2"
start_origin exports=a,b default=a
start_cache dynamic-export=true cache-size=1M
run () {
  "$nbdx" --seed "$2" --export "$1" --stamped --durable "$durable/$1" \
    --connections 4 --ops "$(ops_of 4000)" "$cache_sock" > "$tmp/$1.out"
}
run a "${seed}1" &
a=$!
run b "${seed}2" &
b=$!
wait "$a" || { cat "$tmp/a.out"; fail "export a, PC_SEED=$seed"; }
wait "$b" || { cat "$tmp/b.out"; fail "export b, PC_SEED=$seed"; }
cat "$tmp/a.out" "$tmp/b.out"

# The default name and the name that it stands for are one disk, at once.
start_client
client "d, a = connect('$cache_sock'), connect('$cache_sock', 'a')
d.pwrite(pattern(1, 4096), 8192)
assert a.pread(4096, 8192) == pattern(1, 4096)"
client "assert errno_of(connect, '$cache_sock', 'nosuch') is not None"
stop_client
stop_nbdkit cache || fail "the cache ended with $?"
