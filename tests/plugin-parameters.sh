#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-parameters.sh - what a wrong parameter is told, under a real nbdkit: status 1
# before anything was bound or created, and one line that names parameter and value.
# (tests/test-options has the rows that need no nbdkit.)

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin
cd "$tmp"
mkdir here pki

# refused LINE ARG...: the line without "nbdkit: error: pagecache: "; a regular expression
# if it begins with ^.
refused () {
  local want=$1 status=0 got

  shift
  launch "$NBDKIT" -f -U "$tmp/here/sock" -P "$tmp/here/pid" "$plugin" "$@" \
    > "$tmp/out" 2>&1 < /dev/null || status=$?
  [ "$status" -eq 1 ] || { cat "$tmp/out"; fail "status $status, not 1: $*"; }
  [ "$(wc -l < "$tmp/out")" -eq 1 ] || { cat "$tmp/out"; fail "not one line: $*"; }
  got=$(sed 's/^nbdkit: error: pagecache: //' "$tmp/out")
  case $want in
    ^*) [[ $got =~ $want ]] || fail "$* was told: $got"$'\n'"and not: $want" ;;
    *) [ "$got" = "$want" ] || fail "$* was told: $got"$'\n'"and not: $want" ;;
  esac
  [ -z "$(ls here)" ] || fail "something was left behind: $(ls here)"
}

uri=nbd://localhost:1/
size='(allowed: 1M to 512G; a number and one of b k m g t)'
seconds='(allowed: 0.001 to 604800 seconds)'

# nbd.B-1, nbd.B-2, nbd.B-3, nbd.B-4, nbd.B-5, nbd.B-8, nbd.B-9, nbd.B-13, nbd.B-14, nbd.B-15,
# nbd.B-18, nbd.B-22
refused "cache-sizes=1G: unknown parameter (did you mean cache-size?)" $uri cache-sizes=1G
refused "cache-size=: empty value $size" $uri cache-size=
refused "cache-size=1GiB: a suffix is one letter $size" $uri cache-size=1GiB
refused "cache-size=-1: negative $size" $uri cache-size=-1
refused "cache-size=0: too small $size" $uri cache-size=0
refused "cache-size=9E: too large $size" $uri cache-size=9E
refused "cache-size=549755813889: too large $size" $uri cache-size=549755813889
refused "cache-size=99999999999G: too large $size" $uri cache-size=99999999999G
refused "cache-size=2G: given twice" $uri cache-size=1G cache-size=2G
refused "uri=nbd://b/: given twice" nbd://a/ uri=nbd://b/
refused "cache=fast: unknown mode (allowed: writeback, writethrough, none or unsafe)" \
  $uri cache=fast
refused "cache=writeback : unknown mode (allowed: writeback, writethrough, none or unsafe)" \
  $uri 'cache=writeback '
refused "cache=a\\x0ab: unknown mode (allowed: writeback, writethrough, none or unsafe)" \
  $uri cache=$'a\nb'
refused "connections=0: out of range (allowed: 1 to 64)" $uri connections=0
refused "connections=x: not a number (allowed: 1 to 64)" $uri connections=x
refused "connections=65: out of range (allowed: 1 to 64)" $uri connections=65
refused "clients=0: out of range (allowed: 1 to 65535)" $uri clients=0
refused "clients=65536: out of range (allowed: 1 to 65535)" $uri clients=65536
refused "clients=all: not a number (allowed: 1 to 65535)" $uri clients=all
refused "clients=-1: negative (allowed: 1 to 65535)" $uri clients=-1
refused "timeout=0: out of range $seconds" $uri timeout=0
refused "timeout=10ms: not a number of seconds $seconds" $uri timeout=10ms
refused "reconnect=-1: negative (allowed: 0 to 604800 seconds)" $uri reconnect=-1
refused "cache-readahead=on: not a number (allowed: off, or 4K to an eighth of cache-size)" \
  $uri cache-readahead=on
refused "cache-dirty-max=101%: more than 100% (allowed: 64K to cache-size, or 1% to 100% of it)" \
  $uri cache-dirty-max=101%
refused "cache-dirty-max=2M: more than cache-size, which is 1048576 bytes" \
  $uri cache-size=1M cache-dirty-max=2M
refused "^cache-dirty-background=60%: .* more than cache-dirty-max, " \
  $uri cache-dirty-background=60%
refused "cache-dirty-expire=soon: not a number $seconds" $uri cache-dirty-expire=soon
refused "^cache-revalidate=often: not a number .allowed: never, open, or " \
  $uri cache-revalidate=often
refused "^cache-stats=no/file: its folder: No such file or directory .allowed: " \
  $uri cache-stats=no/file
refused "dynamic-export=maybe: neither true nor false (allowed: true or false)" \
  $uri dynamic-export=maybe
# effect of file, dir: none yet.
refused "file=x: not supported in this version, which has no origin for local files" file=x
refused "dir=x: not supported in this version, which has no origin for local files" dir=x

# The origin: nbd.B-16, nbd.B-30, nbd.B-31, nbd.B-32, nbd.B-33, nbd.B-34, nbd.B-35, nbd.B-36.
refused "socket=: empty value (allowed: the path of a Unix socket)" socket=
refused "hostname=: empty value (allowed: a name or an address)" hostname=
refused "^port=0: out of range .allowed: 1 to 65535, " hostname=localhost port=0
refused "port=65536: out of range (allowed: 1 to 65535)" hostname=localhost port=65536
refused "^port=nothing: neither a number nor a known service " hostname=localhost port=nothing
refused "vsock=here: not a number (allowed: a context id, 0 to 4294967295)" vsock=here
refused "^export=x.*: .* bytes .allowed: at most 4096 bytes.$" socket=x \
  export="$(printf '%04097d' 0 | tr 0 x)"
refused "^tls=maybe: unknown .allowed: off or require.$" hostname=localhost tls=maybe
refused "tls-verify=perhaps: neither true nor false (allowed: true or false)" nbds://h/ \
  tls-verify=perhaps
refused "tls-username=: empty value (allowed: a name)" nbds://h/ tls-username=
refused "^uri: missing: no origin is named" cache=none
refused "uri=$uri: contradicts socket=x: one origin, named once" $uri socket=x
refused "port=1: contradicts uri=$uri (a port belongs to hostname or vsock)" $uri port=1
refused "export=x: contradicts uri=$uri (the URI names the export)" $uri export=x
refused "^export=x: contradicts dynamic-export=1 " socket=x export=x dynamic-export=1
refused "^uri=http://x: unknown scheme http" uri=http://x
refused "^uri=nbd:host: not an NBD URI" uri=nbd:host
refused "^uri=nbd://: empty host" nbd://
refused "^uri=nbd://host:0: port 0: " nbd://host:0
refused "^uri=nbd://host:99999: port 99999: " nbd://host:99999
refused "^uri=nbd.unix:///x: .*socket" nbd+unix:///x
refused "^uri=nbds://h/.tls-certificate=pki: unknown key tls-certificate" \
  'nbds://h/?tls-certificate=pki'
refused "^uri=nbd.unix:///.socket=a&socket=b: socket is given twice" \
  'nbd+unix:///?socket=a&socket=b'
refused "tls=require: contradicts uri=$uri (nbds is with TLS)" $uri tls=require
refused "^tls=on: would fall back to clear text .* .allowed: off or require.$" $uri tls=on
refused "^tls-certificates=nowhere: No such file or directory " nbds://h/ tls-certificates=nowhere
refused "^tls-psk=pki: not a file" nbds://h/ tls-psk=pki

# Nobody there, no such name, no such export, nothing that speaks NBD: said at once, with the address
# (nbd.B-39, nbd.B-40).
refused "^.*no..host.*: .*" nbd://no..host/
# effect of vsock: the address that is tried.
refused "^nbd.vsock://.*: connect: " vsock=3 port=1
refused "^.*localhost:1.*: .*Connection refused" $uri
refused "^.*$tmp/absent.*: .*No such file or directory" socket=absent
mkdir "$durable"
start_origin size=1M exports=a,b
refused "^.*origin.sock.*nosuch.*: .*" "nbd+unix:///nosuch?socket=$origin_sock"
refused "^.*origin.sock.*nosuch.*: .*" socket="$origin_sock" export=nosuch

# A warning is a line too, and not the end (nbd.B-6).
ram=$(awk '/^MemTotal:/ { print int ($2 / 1048576) + 1 }' /proc/meminfo)
start_nbdkit cache "$plugin" "nbd+unix:///a?socket=$origin_sock" cache-size="${ram}G"
grep -q "pagecache: warning: cache-size=${ram}G: more than this machine's memory" "$cache_log" ||
  fail "no warning about a cache larger than the memory"
stop_nbdkit cache || fail "the cache ended with $?"
