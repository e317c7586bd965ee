# SPDX-License-Identifier: BSD-3-Clause
#
# model-functions.sh - the test origin, the cache over it, and the model
# tester, for shell tests.  Sourced after functions.sh:
#
#   . tests/functions.sh
#   . "$srcdir/tests/model-functions.sh"
#   start_origin size=64M delay=0.002
#   start_cache cache-size=8M
#   run_nbdx "$cache_sock" --durable "$durable"
#
# Sets  durable    the origin's durable image (a folder if exports= is given)
#       seed       of every random choice: PC_SEED, else a new one
#       origin_ctl the origin's control socket

testorigin="$builddir/tests/.libs/nbdkit-testorigin-plugin.so"
nbdx="$builddir/tests/nbdx"
durable="$tmp/durable"
origin_ctl="$tmp/origin.ctl"
seed=${PC_SEED:-$((RANDOM * 32768 + RANDOM))}
echo "PC_SEED=$seed"

# requires_plugin: the cache has been built.
requires_plugin () {
  [ -f "$plugin" ] || skip "needs $plugin"
}

# start_origin ARG...: nbdkit options may come first.
start_origin () {
  local -a options=()

  while [ $# -gt 0 ]; do
    case $1 in
      -t) options+=("$1" "$2"); shift 2 ;;
      -*) options+=("$1"); shift ;;
      *) break ;;
    esac
  done
  origin_options=("${options[@]}")
  origin_args=("$@")
  start_nbdkit origin "${options[@]}" "$testorigin" durable="$durable" \
    control="$origin_ctl" "$@"
}

# restart_origin: as it was; what was not flushed is forgotten.
restart_origin () {
  start_nbdkit origin "${origin_options[@]}" "$testorigin" \
    durable="$durable" control="$origin_ctl" "${origin_args[@]}"
}

# It may be dead already: nbdkit 1.32 aborts now and then when a client hangs
# up with replies under way, as nbdx does once it has found a wrong byte.
kill_origin () {
  kill_nbdkit origin KILL 2> /dev/null || :
  wait_nbdkit origin || :
}

origin () {
  "$builddir/tests/originctl" "$origin_ctl" "$@"
}

# origin_stat NAME: one of the counters of "origin stats".
origin_stat () {
  origin stats | sed -n "s/^$1=//p"
}

# start_cache ARG...: the plugin over the origin; nbdkit options may come first.
start_cache () {
  local -a options=()

  while [ $# -gt 0 ]; do
    case $1 in
      -t | -D) options+=("$1" "$2"); shift 2 ;;
      -*) options+=("$1"); shift ;;
      *) break ;;
    esac
  done
  start_nbdkit cache "${options[@]}" "$plugin" "$origin_uri" "$@"
}

# make_image SIZE: a durable image full of the seed's stamps (nbdx --stamped).
make_image () {
  "$nbdx" --make-image "$durable" --size "$1" --seed "$seed"
}

# run_nbdx SOCKET OPTION...: must find nothing wrong.
run_nbdx () {
  local target=$1

  shift
  "$nbdx" --seed "$seed" "$@" "$target" ||
    fail "nbdx found something wrong, PC_SEED=$seed"
}

# find_wrong SOCKET OPTION...: must find wrong bytes, not merely an error.
find_wrong () {
  local target=$1 status=0

  shift
  "$nbdx" --seed "$seed" "$@" "$target" > "$tmp/nbdx.out" || status=$?
  cat "$tmp/nbdx.out"
  [ "$status" -eq 1 ] || fail "nbdx ended with $status, not with wrong bytes"
  grep -q '^WRONG BYTES' "$tmp/nbdx.out" || fail "nbdx names no wrong bytes"
}

## A client that lives as long as the test, driven line by line

# start_client: Python with the nbd module; see client.py.
start_client () {
  coproc client { exec "$PYTHON3" "$srcdir/tests/client.py" 2>&1; }
  exec {client_in}>&"${client[1]}" {client_out}<&"${client[0]}"
  cleanup_fn kill "$client_PID"
}

# client CODE: run it; fails as the code does, prints what it prints.
client () {
  local line

  printf '%s\n.\n' "$1" >&"$client_in"
  while IFS= read -r -t 60 -u "$client_out" line; do
    case $line in
      "<ok>") return 0 ;;
      "<error>"*) echo "$line"; return 1 ;;
      *) printf '%s\n' "$line" ;;
    esac
  done
  fail "the client has gone, or has hung in: $1"
}
