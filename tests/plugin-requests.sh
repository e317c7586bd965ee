#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-requests.sh - requests that no library sends: tests/raw-client.py against every
# mode, and what the server is like afterwards.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
modes="writeback writethrough unsafe none"
kinds="false true"
# Three minutes each there, and what it looks for depends little on the mode.
[ -z "${PC_VALGRIND:-}" ] || modes=writeback kinds=true
for mode in $modes; do
  for dynamic in $kinds; do
    [ $dynamic = false ] || [ $mode = writeback ] || continue
    # Large enough for the largest request, once.
    size=8
    [ $mode != writethrough ] || size=72
    start_origin size=${size}M
    start_cache cache=$mode dynamic-export=$dynamic cache-size=2M
    timeout $((60 * pc_slowness)) "$PYTHON3" "$srcdir/tests/raw-client.py" "$cache_sock" $((size << 20)) ||
      fail "cache=$mode dynamic-export=$dynamic"
    # The log is not the client's to fill.
    lines=$(wc -l < "$cache_log")
    [ "$lines" -lt 2000 ] || fail "$lines lines in the log"
    stop_nbdkit cache || fail "cache=$mode: the server ended with $?"
    : > "$cache_log"
    kill_origin
  done
done
