#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# When the plugin's steps fail or come in another order than usual, with a core that
# fails as it is told (tests/fake-pagecache.c): the exit status and the one line.
. tests/functions.sh

fake="$builddir/tests/.libs/nbdkit-fakecache-plugin.so"

# run STATUS PATTERN VARIABLE=VALUE... -- ARG...
run () {
  local want=$1 pattern=$2 status=0 vars=()

  shift 2
  while [ "$1" != -- ]; do
    vars+=("$1")
    shift
  done
  shift
  launch env "${vars[@]}" "$NBDKIT" "$@" > "$tmp/out" 2>&1 < /dev/null || status=$?
  [ "$status" -eq "$want" ] || { cat "$tmp/out"; fail "status $status, not $want: $*"; }
  grep -q -- "$pattern" "$tmp/out" || { cat "$tmp/out"; fail "no $pattern: $*"; }
}

run 1 'error: pagecache: the cache cannot be set up with cache-size=268435456: Cannot allocate memory' \
  FAKE_CREATE=12 -- -f "$fake" nbd://host/
run 1 'error: pagecache: the probe of host gave: Connection refused' \
  FAKE_PROBE=111 -- "$fake" nbd://host/
# No thread to be had (nbd.B-99).
run 1 'error: pagecache: the cache cannot be started: Resource temporarily' \
  FAKE_START=11 -- -f -U "$tmp/a" -P "$tmp/a.pid" "$fake" nbd://host/

# The captive client's status is nbdkit's, and the drain is over before it returns.
# (A shell with the thread checker preloaded, as nbdkit's children have it, does not start.)
case $SANITIZERS in
  *thread*) ;;
  *)
    run 0 'fake: first drain' -- -U - "$fake" nbd://host/ \
      --run 'env -u LD_PRELOAD nbdinfo "$uri"'
    run 3 'fake: first drain' -- -U - "$fake" nbd://host/ --run 'exit 3' ;;
esac

# -s serves one client on standard input; nobody says shutdown there.
"$PYTHON3" -c "
import nbd, sys
h = nbd.NBD()
h.connect_command(sys.argv[1:])
assert h.get_size() == 4 << 20
h.pwrite(b'1' * 512, 0)
h.flush()
h.shutdown()
" "$launch" "$NBDKIT" -s "$fake" nbd://host/ 2> "$tmp/out" || { cat "$tmp/out"; fail "-s"; }
wait_until 10 grep -q 'fake: freed' "$tmp/out" || { cat "$tmp/out"; fail "-s did not end"; }

# A drain that fails is exit status 1, with no client, with one that left, and with
# one that stays until after the signal; and each handle is closed once.
export FAKE_DRAIN=4711
for client in none gone stays; do
  start_nbdkit cache "$fake" nbd://host/
  case $client in
    gone)
      nbdinfo "$cache_uri" > /dev/null ;;
    stays)
      exec {to}> >(exec "$PYTHON3" -m nbd -u "$cache_uri" -c - > /dev/null)
      echo 'h.pread(512, 0); open("'"$tmp"'/connected", "w").close()' >&$to
      # nbdsh reads its script to the end before it runs it, so give it that and
      # let it wait for a file of ours.
      echo 'import os, time
while not os.path.exists("'"$tmp"'/leave"): h.poll(10)' >&$to
      exec {to}>&-
      wait_until 10 test -e "$tmp/connected" || fail "the client is not there" ;;
  esac
  kill_nbdkit cache TERM
  if [ $client = stays ]; then
    wait_until 10 grep -q 'fake: first drain' "$cache_log" ||
      fail "no drain while a client is attached (D27)"
    ! grep -q 'fake: next drain' "$cache_log" || fail "ended while a client is attached"
    touch "$tmp/leave"
  fi
  status=0
  wait_nbdkit cache || status=$?
  [ $status -eq 1 ] || fail "$client: exit status $status after a failed drain"
  grep -q 'error: pagecache: 4711 bytes that clients wrote are not at the origin' \
    "$cache_log" || fail "$client: the log does not say what is lost"
  grep -q 'fake: freed' "$cache_log" || fail "$client: not freed"
  rm -f "$tmp/leave" "$tmp/connected"
  : > "$cache_log"
done
