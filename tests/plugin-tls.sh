#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-tls.sh - TLS to the origin: with certificates that are right, of somebody else,
# expired, self-signed or for another name; with keys; and never without TLS where it was asked
# for, not even after a reconnect (S-10, nbd.B-36, nbd.B-37, nbd.B-38, nbd.B-58).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
requires_command certtool psktool
cd "$tmp"

## Certificates, each in a folder as nbdkit and libnbd want them.

quietly () {
  "$@" > certtool.log 2>&1 || { cat certtool.log; fail "$*"; }
}

# authority NAME
authority () {
  mkdir "$1"
  quietly certtool --generate-privkey --key-type ecdsa --outfile "$1/ca-key.pem"
  printf '%s\n' "cn = $1" ca cert_signing_key 'expiration_days = 10' > template
  quietly certtool --generate-self-signed --load-privkey "$1/ca-key.pem" --template template \
    --outfile "$1/ca-cert.pem"
}

# certificate AUTHORITY FOLDER KIND LINE...: KIND server or client
certificate () {
  local ca=$1 dir=$2 kind=$3

  shift 3
  mkdir -p "$dir"
  cp "$ca/ca-cert.pem" "$dir"
  quietly certtool --generate-privkey --key-type ecdsa --outfile "$dir/$kind-key.pem"
  chmod 600 "$dir/$kind-key.pem"
  printf '%s\n' "cn = $kind" "tls_www_$kind" signing_key "$@" > template
  quietly certtool --generate-certificate --load-privkey "$dir/$kind-key.pem" \
    --load-ca-certificate "$ca/ca-cert.pem" --load-ca-privkey "$ca/ca-key.pem" \
    --template template --outfile "$dir/$kind-cert.pem"
}

authority ours
authority theirs
here='dns_name = localhost'
certificate ours right server "$here" 'expiration_days = 10'
certificate theirs strange server "$here" 'expiration_days = 10'
certificate ours othername server 'dns_name = elsewhere.example' 'expiration_days = 10'
certificate ours expired server "$here" 'activation_date = "2020-01-01 00:00:00"' \
  'expiration_date = "2020-02-01 00:00:00"'
mkdir selfsigned
cp ours/ca-cert.pem selfsigned
quietly certtool --generate-privkey --key-type ecdsa --outfile selfsigned/server-key.pem
printf '%s\n' 'cn = localhost' "$here" tls_www_server signing_key 'expiration_days = 10' > template
quietly certtool --generate-self-signed --load-privkey selfsigned/server-key.pem \
  --template template --outfile selfsigned/server-cert.pem
mkdir trust
cp ours/ca-cert.pem trust
certificate ours withclient client 'expiration_days = 10'

## Servers on TCP: a certificate is compared with a name.

# server NAME ARG...: sets port
server () {
  local name=$1

  shift
  port=$("$PYTHON3" -c 'import socket
s = socket.socket()
s.bind(("localhost", 0))
print(s.getsockname()[1])')
  "$NBDKIT" -f --exit-with-parent -P "$name.pid" -i localhost -p "$port" "$@" \
    data 'data="origin"*1000' size=1M > "$name.log" 2>&1 < /dev/null &
  cleanup_fn kill $!
  wait_until 10 test -s "$name.pid" || { cat "$name.log"; fail "no server $name"; }
}

# reads ARG...: the plugin comes up and gives the origin's bytes.
reads () {
  start_nbdkit cache "$plugin" "$@"
  nbdsh -u "$cache_uri" -c 'assert h.pread(6000, 0) == b"origin" * 1000' || fail "reads: $*"
  stop_nbdkit cache || fail "$*: ended with $?"
}

# refused REGEX ARG...: status 1, one line.
refused () {
  local want=$1 status=0

  shift
  launch "$NBDKIT" -f -U "$tmp/no.sock" "$plugin" "$@" > out 2>&1 < /dev/null || status=$?
  [ "$status" -eq 1 ] || { cat out; fail "status $status, not 1: $*"; }
  [ "$(wc -l < out)" -eq 1 ] || { cat out; fail "not one line: $*"; }
  grep -E -q "$want" out || { cat out; fail "not $want: $*"; }
}

# effect of tls, tls-certificates: the right certificate, and no other.
server right --tls=require --tls-certificates=right
right=$port
reads "nbds://localhost:$right/" tls-certificates=trust
reads hostname=localhost port="$right" tls=require tls-certificates=trust
reads hostname=localhost port="$right" tls-certificates=trust
refused "localhost:$right.*TLS" hostname=localhost port="$right" tls=off
for name in strange othername expired selfsigned; do
  server $name --tls=require --tls-certificates=$name
  refused "localhost:$port" "nbds://localhost:$port/" tls-certificates=trust
  # effect of tls-verify: whoever it is.
  reads "nbds://localhost:$port/" tls-certificates=trust tls-verify=false
done

# A server that wants to know who we are.
server both --tls=require --tls-certificates=right --tls-verify-peer
refused "localhost:$port" "nbds://localhost:$port/" tls-certificates=trust
reads "nbds://localhost:$port/" tls-certificates=withclient

# A server without TLS is not talked to in clear.
server clear
refused "localhost:$port" "nbds://localhost:$port/" tls-certificates=trust
refused "localhost:$port" "nbds://localhost:$port/" tls-certificates=trust tls-verify=false

# Refused before anybody is asked, because nothing would be verified.
refused 'does not verify' "nbds://localhost:$right/"
mkdir empty
refused 'ca-cert.pem' "nbds://localhost:$right/" tls-certificates=empty
cp -r withclient careless
chmod 644 careless/client-key.pem
refused 'chmod 600' "nbds://localhost:$right/" tls-certificates=careless
refused 'Unix socket' socket=no.sock tls-certificates=trust
refused 'tls=on: would fall back' hostname=localhost tls=on

# effect of tls-psk, tls-username: a key that both sides have.
psktool -u alice -p keys > /dev/null 2>&1
psktool -u bob -p keys > /dev/null 2>&1
psktool -u alice -p otherkeys > /dev/null 2>&1
chmod 600 keys otherkeys
server keys --tls=require --tls-psk=keys
reads "nbds://alice@localhost:$port/" tls-psk=keys
reads hostname=localhost port="$port" tls-username=bob tls-psk=keys
reads "nbds://alice@localhost:$port/?tls-psk-file=$tmp/keys"
refused "localhost:$port" "nbds://alice@localhost:$port/" tls-psk=otherkeys
refused 'no line for the user' "nbds://carol@localhost:$port/" tls-psk=keys
: > nokeys
refused 'no line for the user' "nbds://alice@localhost:$port/" tls-psk=nokeys
echo alice:xyz > badkeys
refused 'not hexadecimal' "nbds://alice@localhost:$port/" tls-psk=badkeys
grep -q -r -F -f <(cut -d: -f2 keys) --include='*.log' . && fail "a key is in a log"

# The origin comes back without TLS: nothing is sent to it, however long that lasts, and when it
# is as it was, all is well.
start_client
start_origin --tls=require --tls-psk=keys extents=no size=1M
start_nbdkit cache "$plugin" "nbds+unix://alice@/?socket=$origin_sock" tls-psk=keys reconnect=0.3 \
  cache-dirty-expire=0.05
client "h = connect('$cache_sock')
h.pwrite(pattern(1, 4096), 0)
h.flush()"
kill_origin
start_origin extents=no size=1M
client "
assert errno_of(h.pread, 4096, 65536) == 'EIO'
h.pwrite(pattern(2, 4096), 4096)
assert errno_of(h.flush) == 'EIO'
assert errno_of(h.pread, 4096, 65536) == 'EIO'"
for kind in read write flush; do
  [ "$(origin_stat $kind)" -eq 0 ] || fail "a $kind went out in clear"
done
kill_origin
start_origin --tls=require --tls-psk=keys extents=no size=1M
client "
end = time.monotonic() + 20 * $pc_slowness
while errno_of(h.flush) is not None:
    assert time.monotonic() < end, 'TLS is back, the cache is not'
with open('$durable', 'rb') as f:
    assert f.read(8192) == pattern(1, 4096) + pattern(2, 4096)
h.shutdown()"
stop_nbdkit cache || fail "the cache ended with $?"
kill_origin

# The origin comes back with another certificate, or with one of another authority: the same, and the
# log says why.  It is asked again and again, until the right one is there.
serve_tls () {
  rm -f far.pid
  "$launch" "$NBDKIT" -f --exit-with-parent -P far.pid -i localhost -p "$port" --tls=require \
    --tls-certificates="$1" "$testorigin" size=1M extents=no durable="$tmp/far" \
    control="$tmp/far.ctl" > far.log 2>&1 < /dev/null &
  far=$!
  wait_until 10 test -s far.pid || { cat far.log; fail "no server with $1"; }
}
serve_no_more () {
  [ -n "$far" ] || return 0
  kill -KILL "$far"
  wait "$far" 2> /dev/null || :
  far=
}
far=
cleanup_fn serve_no_more
far_stat () {
  "$builddir/tests/originctl" "$tmp/far.ctl" stats | sed -n "s/^$1=//p"
}
port=$("$PYTHON3" -c 'import socket
s = socket.socket()
s.bind(("localhost", 0))
print(s.getsockname()[1])')
serve_tls right
start_nbdkit cache "$plugin" "nbds://localhost:$port/" tls-certificates=trust reconnect=0.3 \
  cache-dirty-expire=0.05
client "h = connect('$cache_sock')
h.pwrite(pattern(3, 4096), 0)
h.flush()"
n=0
for name in strange othername expired selfsigned; do
  n=$((n + 1))
  serve_no_more
  serve_tls $name
  client "
assert errno_of(h.pread, 4096, 65536 * $n) == 'EIO'
assert h.pread(4096, 0) == pattern(3, 4096)
h.pwrite(pattern(3, 4096, $n * 4096), $n * 4096)
assert errno_of(h.flush) == 'EIO'"
  for kind in read write flush; do
    [ "$(far_stat $kind)" -eq 0 ] || fail "a $kind went to $name"
  done
  # Once at least; the log does not say it as often as it happens.
  wait_until $((20 * pc_slowness)) grep -q 'certificate verification' cache.log || fail "not said what is wrong"
  serve_no_more
  serve_tls right
  client "
end = time.monotonic() + 20 * $pc_slowness
while errno_of(h.flush) is not None:
    assert time.monotonic() < end, 'the certificate is the right one, and the cache is not back'
with open('$tmp/far', 'rb') as f:
    assert f.read(4096 * ($n + 1)) == pattern(3, 4096 * ($n + 1))"
done
grep 'cannot connect' cache.log > why || fail "no word about a certificate that is wrong"
# Not each time: five lines in ten seconds are enough.
at_most "lines about it" "$(wc -l < why)" 24
client "h.shutdown()"
stop_nbdkit cache || fail "the cache ended with $?"
