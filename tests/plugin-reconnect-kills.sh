#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-reconnect-kills.sh - how long after the origin is back do requests wait that waited for
# it?  Eight clients under load, the origin killed again and again: no error, no wrong byte, and half
# of the times the slowest of them is done within 0.5 s (goals.md R3).
#
# PC_KILLS=N  how often [5; in "make soak" 20]

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
kills=${PC_KILLS:-$(ops_of 5 20)}

start_origin -t 64 extents=no size=16M jitter=0.0005
start_cache -t 16 cache-size=4M reconnect=60
start_client
client "
with open('$srcdir/tests/reconnect-load.py') as f:
    exec(compile(f.read(), 'reconnect-load.py', 'exec'), globals())
load = Load('$cache_sock', 8, $seed)"
for (( i = 0; i < kills; i++ )); do
  client "load.get_going()"
  kill_origin 2> /dev/null
  client "load.get_stuck(0.05 * (1 + $i % 4))"
  restart_origin
  client "load.see_end('$tmp/origin.pid')"
done
median=$(client "print('%.3f' % load.median())")
client "print('seconds from the return of the origin to the last request that waited:',
      ' '.join('%.3f' % w for w in load.waits))
load.stop('$durable')"
stop_nbdkit cache || fail "the cache ended with $?"
at_most "the median of $kills kills, in seconds" "$median" \
  "$(awk -v s=$pc_slowness 'BEGIN { print 0.5 * s }')"
