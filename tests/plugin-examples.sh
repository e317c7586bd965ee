#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-examples.sh - every command of the manual's EXAMPLES and of README.md, as it is printed
# there but for the places: servers on the network become servers on loopback, /run and /etc/pki our
# own.  Not run: quickstart, which .ci/run is, and clients that need a kernel or a virtual machine.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
requires_command psktool
mkdir "$tmp/run" "$durable"

psktool -u client -p "$tmp/keys.psk" > /dev/null 2>&1
# Servers in the background are no children of ours: when they have ended their number
# may be somebody else's, and whoever has to reap them may take a second.
kill_if_ours () {
  ! grep -q -s -F "$tmp" "/proc/$1/cmdline" || kill -KILL "$1"
}
has_ended () {
  [ ! -e "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status" 2> /dev/null
}
free_port () {
  "$PYTHON3" -c 'import socket
s = socket.socket()
s.bind(("localhost", 0))
print(s.getsockname()[1])'
}
port=$(free_port)
tls_port=$(free_port)

# One disk behind three doors; the doors are nbdkit's nbd plugin.
start_origin size=2M exports=disk,other default=disk
ln -s "$origin_sock" "$tmp/run/origin.sock"
nbdsh -c "
h.set_export_name('disk')
h.connect_unix('$origin_sock')
h.pwrite(b'disk' * 4096, 0)
h.flush()
h.shutdown()"
start_door () {
  local name=$1

  shift
  "$NBDKIT" -f --exit-with-parent -P "$tmp/$name.pid" -i localhost "$@" nbd \
    socket="$origin_sock" dynamic-export=true > "$tmp/$name.log" 2>&1 < /dev/null &
  cleanup_fn kill $!
  wait_until 10 test -s "$tmp/$name.pid" || { cat "$tmp/$name.log"; fail "no door $name"; }
}
start_door tcp -p "$port"
start_door tls -p "$tls_port" --tls=require --tls-psk="$tmp/keys.psk"

# effect of hostname, port: see the third.  The commands, one a line.
sed -n '/^=head1 EXAMPLES/,/^=head1 PARAMETERS/p' "$srcdir/plugin/nbdkit-pagecache-plugin.pod" |
  sed -n -e ':more' -e '/^ .*\\$/ { N; s/ *\\\n */ /; b more' -e '}' -e 's/^ \(nbdkit .*\)/\1/p' \
  > "$tmp/commands"
[ "$(wc -l < "$tmp/commands")" -ge 7 ] || { cat "$tmp/commands"; fail "too few examples"; }
# And that of the unit for systemd.
sed -n '/^=head1 RUNNING/,/^=head1 REQ/p' "$srcdir/plugin/nbdkit-pagecache-plugin.pod" |
  sed -n -e '/^ .*\\$/ { N; s/ *\\\n */ /; }' -e 's|^ ExecStart=/usr/bin/\(nbdkit\) -f \(.*\)/disk.sock |\1 \2.sock |p' \
  >> "$tmp/commands"
[ "$(grep -c cache-size=512M "$tmp/commands")" -ge 3 ] || { cat "$tmp/commands"; fail "no unit"; }

while read -r command; do
  case $SANITIZERS/$command in
    *thread*/*--run*) continue ;;       # no shell with that checker preloaded
  esac
  echo "--- $command"
  here=$(sed -e "s|^nbdkit |$launch $NBDKIT -P $tmp/run/pid |" -e "s| pagecache | $plugin |" \
    -e "s|//server\.example/|//localhost:$port/|" \
    -e "s|=server\.example|=localhost port=$port|" \
    -e "s|@server\.example/|@localhost:$tls_port/|" \
    -e "s|/run/|$tmp/run/|g; s|/etc/pki/|$tmp/|; s|$tmp$tmp|$tmp|g" \
    -e "s|'nbdinfo|'env -u LD_PRELOAD nbdinfo|" <<< "$command")
  rm -f "$tmp/run/pid" "$tmp/run/pagecache.sock"
  bash -c "$here" > "$tmp/out" 2>&1 < /dev/null || { cat "$tmp/out"; fail "$here"; }
  case $command in
    *--run*)
      grep -q 'export-size: 2097152' "$tmp/out" || { cat "$tmp/out"; fail "$command"; }
      continue ;;
  esac
  wait_until 10 test -s "$tmp/run/pid" || fail "$command: no pid file"
  pid=$(cat "$tmp/run/pid")
  cleanup_fn kill_if_ours "$pid"
  nbdsh -c "
h.set_export_name('disk')
h.connect_unix('$tmp/run/pagecache.sock')
assert h.get_size() == 2 << 20
assert h.pread(16384, 0) == b'disk' * 4096
h.shutdown()" || fail "$command: a client"
  kill "$pid"
  wait_until 20 has_ended "$pid" || fail "$command: does not end"
done < "$tmp/commands"

# How to read the counters, which the second example has written.
sed -n -e '/^ awk /,/stats$/p' "$srcdir/plugin/nbdkit-pagecache-plugin.pod" | sed "s|/run/|$tmp/run/|" > "$tmp/share"
share=$(bash "$tmp/share")
[[ $share =~ ^[0-9]+\.[0-9]$ ]] || { cat "$tmp/share"; fail "the share of blocks found is $share"; }

# README.md: the server, then its clients.
sed -n '/^## Use it/,/^## Parameters/p' "$srcdir/README.md" |
  sed -n -e ':more' -e '/^ .*\\$/ { N; s/ *\\\n */ /; b more' -e '}' -e 's/^    \([a-z].*\)/\1/p' \
  > "$tmp/commands"
[ "$(wc -l < "$tmp/commands")" -ge 5 ] || { cat "$tmp/commands"; fail "too few commands"; }
rm -f "$tmp/run/pid" "$tmp/run/pagecache.sock"
cd "$tmp"
while read -r command; do
  here=$(sed -e "s|^nbdkit |$launch $NBDKIT -P $tmp/run/pid |" -e "s| build/plugin/[^ ]*\.so | $plugin |" \
    -e "s|//server/|//localhost:$port/|; s|/run/|$tmp/run/|g; s|$tmp$tmp|$tmp|g; s|--runtime=10|--runtime=1|" \
    <<< "$command")
  case $command in
    nbdkit*)
      bash -c "$here" > "$tmp/out" 2>&1 < /dev/null || { cat "$tmp/out"; fail "$command"; }
      wait_until 10 test -s "$tmp/run/pid" || fail "$command: no pid file"
      cleanup_fn kill_if_ours "$(cat "$tmp/run/pid")" ;;
    nbdcopy*)
      bash -c "$here" > "$tmp/out" 2>&1 < /dev/null || { cat "$tmp/out"; fail "$command"; }
      [ "$(head -c 16384 copy.img)" = "$(printf 'disk%.0s' {1..4096})" ] || fail "$command: bytes" ;;
    fio*)
      requires_command fio
      bash -c "$here --output-format=terse" > "$tmp/out" 2>&1 < /dev/null ||
        { cat "$tmp/out"; fail "$command"; } ;;
    qemu-system*)
      requires_command qemu-img
      qemu-img info -f raw "$(sed "s/.*file=\(.*\),format=raw.*/\1/" <<< "$here")" > "$tmp/out" 2>&1 ||
        { cat "$tmp/out"; fail "$command"; } ;;
    nbd-client*) ;;
    *) fail "a command that nobody tests: $command" ;;
  esac
done < "$tmp/commands"
pid=$(cat "$tmp/run/pid")
kill "$pid"
wait_until 20 has_ended "$pid" || fail "README.md's server does not end"

# Targets of make that the README and HACKING.md name.
grep -h -o 'make -C build [a-z][a-z-]*' "$srcdir/README.md" "$srcdir/HACKING.md" | sort -u |
while read -r _ _ _ target; do
  grep -E -q "^[a-z_ -]*\b$target( [a-z -]*)?:" "$builddir/Makefile" || fail "make has no target $target"
done
grep -o '`\(contrib\|tests\|lib\|build-aux\)/[a-zA-Z./_-]*`' "$srcdir/HACKING.md" "$srcdir/README.md" |
cut -d ':' -f 2 | tr -d '`' | sort -u |
while read -r name; do
  case $name in
    */functions.sh | */launch) [ -e "$builddir/$name" ] || fail "there is no $name" ;;
    *) [ -e "$srcdir/$name" ] || fail "there is no $name" ;;
  esac
done
