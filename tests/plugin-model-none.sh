#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-model-none.sh - no wrong byte with cache=none: random operations
# over eight connections against the model, the durable image compared after
# every flush (goals.md R1), also where the origin's blocks are not single bytes; and no
# lost one behind a flush that succeeds while the origin is killed and comes
# back (D17, DUR-7).  "make soak" makes it a million.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

model_run none 0 "$(ops_of 10000)"
model_run none 0.001 "$(ops_of 4000 100000)"
model_run none 0.0002 "$(ops_of 2000 100000)" minblock=4096 prefblock=65536 maxblock=64K

# under_kills ORIGIN-ARG...
under_kills () {
  local i kills

  kills=$(ops_of 6 200)
  rm -f "$durable"
  start_origin -t 64 size=4M jitter=0.0005 "$@"
  start_cache cache=none reconnect=60
  start_client
  client "
with open('$srcdir/tests/none-load.py') as f:
    exec(compile(f.read(), 'none-load.py', 'exec'), globals())
load = Load('$cache_sock', 8, $seed, '$durable')"
  for (( i = 0; i < kills; i++ )); do
    client "load.get_going()"
    # Some way into its life, wherever that is in the clients'.
    origin finished write $((20 + RANDOM % 100)) 2 2> /dev/null || :
    kill_origin
    restart_origin
  done
  client "load.get_going()
load.stop()"
  stop_client
  stop_nbdkit cache || fail "the cache ended with $?"
  [ "$(origin_stat misaligned)" -eq 0 ] || fail "pieces of blocks were sent"
  kill_origin
}

under_kills minblock=4096
under_kills multiconn=no
