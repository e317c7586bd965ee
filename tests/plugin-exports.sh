#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-exports.sh - what an origin says about its exports: a description, and lists that we would not
# write: names twice, too long, no UTF-8, tens of thousands of them (nbd.B-23, nbd.B-24).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

# A server that knows one option, the list.
cat > "$tmp/lister.py" << 'END'
import socket
import struct
import sys

def names():
    yield b"twice"
    yield b"twice"
    yield b"x" * 4096
    if len(sys.argv) > 3:
        yield b"y" * 4097
    yield b"not\xffutf8"
    yield "\u00e9".encode()
    for i in range(int(sys.argv[2])):
        yield b"n%d" % i

def take(s, n):
    data = b""
    while len(data) < n:
        piece = s.recv(n - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data

def reply(opt, kind, data=b""):
    return struct.pack(">QIII", 0x3E889045565A9, opt, kind, len(data)) + data

listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(16)
while True:
    s, _ = listener.accept()
    try:
        s.sendall(struct.pack(">8sQH", b"NBDMAGIC", 0x49484156454F5054, 3))
        take(s, 4)
        while True:
            _, opt, n = struct.unpack(">8sII", take(s, 16))
            take(s, n)
            if opt == 3:
                s.sendall(b"".join(reply(3, 2, struct.pack(">I", len(n)) + n)
                                   for n in names()) + reply(3, 1))
            elif opt == 2:
                s.sendall(reply(2, 1))
                break
            else:
                s.sendall(reply(opt, 0x80000001))
    except (EOFError, OSError):
        pass
    s.close()
END

for many in 10 20000 "10 long"; do
  rm -f "$tmp/lister.sock"
  # shellcheck disable=SC2086
  "$PYTHON3" "$tmp/lister.py" "$tmp/lister.sock" $many &
  lister=$!
  cleanup_fn kill $lister
  wait_until 10 test -S "$tmp/lister.sock" || fail "no server"
  start_nbdkit cache "$plugin" socket="$tmp/lister.sock" dynamic-export=true
  # A name that the protocol does not allow: libnbd takes nothing of such a list.
  nbdsh -c "
h.set_opt_mode(True)
h.connect_unix('$cache_sock')
got = []
try:
    h.opt_list(lambda name, description: got.append(name))
except UnicodeDecodeError:
    assert False, 'a name that is no UTF-8 came through'
except nbd.Error:
    assert '$many' == '10 long' and not got
    h.opt_abort()
    raise SystemExit
h.opt_abort()
assert '$many' != '10 long'
assert 'twice' in got and 'x' * 4096 in got and '\u00e9' in got, got[:10]
assert not any(n.startswith('y') or n.startswith('not') for n in got)
assert 'n9' in got and len(got) <= 10000, len(got)
" || fail "the list of $many"
  case $many in
    *long) grep -q 'error: pagecache: export list: ' "$cache_log" || fail "no word about $many" ;;
  esac
  # It is there, and answers.
  nbdsh -c "
h.set_opt_mode(True)
h.connect_unix('$cache_sock')
h.opt_abort()"
  stop_nbdkit cache || fail "the cache ended with $?"
  kill $lister
  wait $lister 2> /dev/null || :
done

# Each that asks for the list costs a connection to the origin: more than so many at once are refused.
start_nbdkit origin "$testorigin" size=1M exports=a,b
start_nbdkit cache "$plugin" socket="$origin_sock" dynamic-export=true
kill -STOP "$origin_pid"
start_client
client "
asking = []
answers = []
for i in range(20):
    h = nbd.NBD()
    h.set_opt_mode(True)
    h.connect_unix('$cache_sock')
    h.aio_opt_list(lambda *a: 0, lambda e: answers.append(e.value) or 1)
    asking.append(h)
until = time.monotonic() + 20 * $pc_slowness
while len(answers) < 4 and time.monotonic() < until:
    for h in [h for h in asking if h.aio_get_direction()]:
        h.poll(10)
assert len(answers) == 4 and all(answers), answers"
kill -CONT "$origin_pid"
client "
until = time.monotonic() + 20 * $pc_slowness
while len(answers) < 20 and time.monotonic() < until:
    for h in [h for h in asking if h.aio_get_direction()]:
        h.poll(10)
assert len(answers) == 20 and answers.count(0) == 16, answers
h = asking = None"
grep -q 'refused the list of exports: too many' "$cache_log" || fail "no word about clients that were refused the list"
stop_nbdkit cache || fail "the cache ended with $?"
stop_nbdkit origin || fail "the origin ended with $?"

# A description is passed on.
requires_nbdkit_filter exportname
start_nbdkit words --filter=exportname memory 1M exportdesc=fixed:'the disk of the words'
for mode in writeback none; do
  start_nbdkit cache "$plugin" socket="$words_sock" cache=$mode
  nbdinfo "$cache_uri" > "$tmp/info"
  grep -q 'description: the disk of the words' "$tmp/info" ||
    { cat "$tmp/info"; fail "cache=$mode: no description"; }
  stop_nbdkit cache || fail "the cache ended with $?"
done
