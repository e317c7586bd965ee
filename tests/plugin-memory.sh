#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-memory.sh - while 2 GiB go through it, the server never holds more
# than the cache's bound, nbdkit's own request buffers and 24 MiB (goals.md).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
if [ "$SANITIZERS" != no ] || [ -n "${PC_VALGRIND:-}" ]; then
  echo "a checker's memory is not ours to judge"
  exit 0
fi

start_origin size=1G
start_cache cache=writeback cache-size=64M
# 1 GiB written, then read back and compared.
"$nbdx" --seed "$seed" --never-flush-write 1G --depth 16 --block 256K \
  "$cache_sock" || fail "wrong bytes"
# 16 workers a connection, each with a buffer of its largest request; the
# tester has one connection.
at_most "KiB at most resident" "$(resident "$cache_pid" VmHWM)" \
  $(( (64 + 24) * 1024 + 16 * 256 ))
stop_nbdkit cache || fail "the cache ended with $?"
