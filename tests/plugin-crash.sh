#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-crash.sh - kill -9 of the cache, of its origin, of both, again and
# again under load: what was flushed is there, nothing older comes back, and
# nothing needs to be repaired (nbd.B-97, nbd.T-40).
#
# The origin forgets what was not flushed when it dies; crash-client.py knows
# what it was promised.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

rounds=$(ops_of 8 600)
RANDOM=$((seed % 32768))
start_origin -t 64 size=8M jitter=0.0005
start_cache cache-size=2M reconnect=30

coproc client { exec "$PYTHON3" "$srcdir/tests/crash-client.py" "$cache_sock" \
  "$seed" "$rounds" 2>&1; }
exec {to}>&"${client[1]}" {from}<&"${client[0]}"
cleanup_fn kill_client "$client_PID"

# nbdkit 1.32 aborts now and then when a client dies with replies under way:
# the origin is an nbdkit, too.
origin_is_quiet () {
  pc_is_gone "$origin_pid" ||
    [ "$(origin_stat connections 2> /dev/null || :)" = 0 ]
}
for (( i = 0; i < rounds; i++ )); do
  IFS= read -r -t 60 -u "$from" line || fail "the client says nothing"
  [ "$line" = load ] || { echo "$line"; cat <&"$from"; fail "PC_SEED=$seed"; }
  # Some way into the work, wherever that is.
  origin - <<< "clearlog
finished write $((RANDOM % 40)) 1" > "$tmp/out" 2>&1 || :
  case $((i % 4)) in
    1)
      # First the origin, which comes back, then the cache, with what it had
      # not sent again.
      kill_origin
      restart_origin
      origin - <<< "finished write $((RANDOM % 20)) 1" > "$tmp/out" 2>&1 || :
      kill_nbdkit cache KILL
      wait_nbdkit cache || : ;;
    2)
      # Both at once.
      kill_nbdkit cache KILL
      kill_origin
      wait_nbdkit cache || :
      restart_origin ;;
    *)
      kill_nbdkit cache KILL
      wait_nbdkit cache || : ;;
  esac
  # The origin may still work on what the dead one sent it (nbd.N-93); then it
  # loses what nobody had it flush, so that this alone is left.
  wait_until 10 origin_is_quiet || fail "the origin does not come to rest"
  if pc_is_gone "$origin_pid"; then
    wait_nbdkit origin || :
    restart_origin
  else
    origin forget
  fi
  start_cache cache-size=2M reconnect=30
  echo >&"$to"
done
while IFS= read -r -t 60 -u "$from" line; do
  echo "$line"
  case $line in *"sectors checked") break ;; esac
done
case $line in
  "$rounds rounds"*) ;;
  *) fail "PC_SEED=$seed" ;;
esac
stop_nbdkit cache || fail "the cache ended with $?"
