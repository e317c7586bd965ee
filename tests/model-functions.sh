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
  cleanup_fn kill_client "$client_PID"
}

kill_client () {
  kill "$1" 2> /dev/null || :
}

# client CODE: run it; fails as the code does, prints what it prints.
client () {
  local line

  printf '%s\n.\n' "$1" >&"$client_in"
  while IFS= read -r -t $((60 + 20 * pc_slowness)) -u "$client_out" line; do
    case $line in
      "<ok>") return 0 ;;
      "<error>"*) echo "$line"; return 1 ;;
      *) printf '%s\n' "$line" ;;
    esac
  done
  fail "the client has gone, or has hung in: $1"
}

# model_run MODE SECONDS-OF-DELAY OPS ORIGIN-ARG...: R1 of goals.md.  Eight
# connections over a cache of an eighth of what they work on.
model_run () {
  local mode=$1 delay=$2 ops=$3

  shift 3
  rm -f "$durable"
  make_image 16M
  start_origin -t 64 delay="$delay" jitter="$delay" "$@"
  start_cache cache="$mode" cache-size=2M
  echo "--- cache=$mode delay=$delay $*"
  run_nbdx "$cache_sock" --stamped --durable "$durable" --connections 8 \
    --ops "$ops"
  # A cache that sends two commands for one byte at once has no say in which
  # of them wins (nbd.N-21); without a cache that is the client's business.
  if [ "$mode" != none ]; then
    [ "$(origin_stat overlaps)" -eq 0 ] ||
      fail "overlapping commands were sent to the origin"
  fi
  [ "$(origin_stat misaligned)" -eq 0 ] ||
    fail "commands smaller than the origin's blocks were sent"
  stop_nbdkit cache || fail "the cache ended with $?"
  kill_origin
}

# ops_of QUICK [SOAK]: how many operations, here and in "make soak".  A quarter is enough for valgrind, which looks for
# another kind of fault and takes thirty times as long.
ops_of () {
  if [ -n "${PC_SOAK:-}" ]; then
    echo "${2:-1000000}"
  elif [ -n "${PC_VALGRIND:-}" ]; then
    echo $((($(numfmt --from=iec "$1") + 3) / 4))
  else
    echo "$1"
  fi
}

# resident PID [FIELD]: KiB; VmHWM is the highest it ever was.
resident () {
  sed -n "s/^${2:-VmRSS}:[^0-9]*\([0-9]*\) kB/\1/p" "/proc/$1/status"
}

# at_most WHAT VALUE LIMIT, at_least WHAT VALUE LIMIT: fractions are fine.
at_most () {
  echo "$1: $2 (at most $3)"
  awk -v v="$2" -v l="$3" 'BEGIN { exit !(v <= l) }' ||
    fail "$1 is $2, more than $3"
}

at_least () {
  echo "$1: $2 (at least $3)"
  awk -v v="$2" -v l="$3" 'BEGIN { exit !(v >= l) }' ||
    fail "$1 is $2, less than $3"
}

# field NAME TEXT: the value in "... NAME=value ...".
field () {
  printf '%s\n' "$2" | sed -n "s/.*\<$1=\([^ ]*\).*/\1/p" | tail -n 1
}

# stop_client: it ends, and its connections with it.  Closing its input would
# not do: servers that were started meanwhile hold the other end, too.
stop_client () {
  printf 'raise SystemExit\n.\n' >&"$client_in"
  wait "$client_PID" 2> /dev/null || :
}

# restart_cache ARG...: drained, then anew with these.
restart_cache () {
  stop_nbdkit cache || fail "the cache ended with $?"
  start_cache "$@"
}
