#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# What a client sees of each errno of the core: the plugin's own sources around a core
# that fails as it is told (tests/fake-pagecache.c).
. tests/functions.sh
requires_nbdkit_plugin null

fake="$builddir/tests/.libs/nbdkit-fakecache-plugin.so"
start_nbdkit fake -v -D pagecache.plugin=1 "$fake" nbd://nowhere/ dynamic-export=true

# ask EXPORT PYTHON: h is connected to the export; asserts decide.
ask () {
  nbdsh -c "
import errno, nbd

def err(fn, *args, **kw):
    try:
        fn(*args, **kw)
        return 0
    except nbd.Error as e:
        return getattr(errno, e.errno)

h.set_strict_mode(0)
h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.set_export_name('$1')
h.connect_unix('$fake_sock')
size = 4 << 20
buf = bytearray(b'b' * 4096)
$2
h.shutdown()
"
}

# The seven that NBD has stay themselves; the rest, which the core does not give, is
# EIO, never EINVAL (K-25).
ask errno "
seen = {
    errno.EPERM: errno.EPERM, errno.EIO: errno.EIO, errno.ENOMEM: errno.ENOMEM,
    errno.EINVAL: errno.EINVAL, errno.ENOSPC: errno.ENOSPC,
    errno.ESHUTDOWN: errno.ESHUTDOWN,
    errno.ECANCELED: errno.ESHUTDOWN,
    errno.ENOTSUP: errno.EINVAL,
}
for e in range(134):
    want = seen.get(e, errno.EIO if e else 0)
    at = e * 4096
    got = {
        'read': err(h.pread, 4096, at),
        'write': err(h.pwrite, buf, at),
        'trim': err(h.trim, 4096, at),
        'cache': err(h.cache, 4096, at),
        'status': err(h.block_status, 4096, at, lambda *a: 0),
    }
    for what, g in got.items():
        w = want
        assert g == w, (errno.errorcode.get(e), what, g, w)

    # An ENOTSUP of a plain zero is written by hand, one of a fast zero is an answer.
    g = err(h.zero, 4096, at)
    w = errno.EINVAL if e == errno.ENOTSUP else want
    assert g == w, (errno.errorcode.get(e), 'zero', g, w)
    g = err(h.zero, 4096, at, nbd.CMD_FLAG_FAST_ZERO)
    w = errno.ENOTSUP if e == errno.ENOTSUP else want
    assert g == w, (errno.errorcode.get(e), 'fast zero', g, w)
assert err(h.flush) == errno.EIO
"

# A client cannot fill the log: some hundred failures, a handful of lines.
lines=$(grep -c 'error: pagecache: errno: ' "$fake_log")
[ "$lines" -ge 1 ] && [ "$lines" -le 10 ] ||
  fail "$lines lines about failures in the log"
grep -q 'error: pagecache: errno: read \[4096, 8192): Operation not permitted' "$fake_log" ||
  fail "the log does not say who, what and where"
! grep -q 'error: pagecache:.*cancel' -i "$fake_log" ||
  fail "a client that has gone is an error"

# Zeros where the core has none: all of them at their place, also in a request that
# is written in pieces; a fast zero is refused and changes nothing (S-7).
for export in nozero refuse; do
  ask $export "
assert err(h.zero, 4096, 8192, nbd.CMD_FLAG_FAST_ZERO) == errno.ENOTSUP
assert h.pread(4096, 8192) == b'x' * 4096
h.zero((3 << 20) + 1, 4097, nbd.CMD_FLAG_FUA)
assert h.pread(size, 0) == b'x' * 4097 + bytes((3 << 20) + 1) + b'x' * ((1 << 20) - 4098)
"
done

# Extents: cut to the request, whatever came; none is 'data' (S-7).
ask long "
for length in 1, 4096, size:
    x = []
    h.block_status(length, 0, lambda c, o, e, err: x.extend(e))
    assert x[1:2] == [3], x
    # nbdkit joins nothing here, but may say more than was asked, up to 4 GiB.
    assert x[0] >= length, x
assert err(h.block_status, 2**32 - 1, 0, lambda *a: 0) == errno.EINVAL
"
ask silent "
x = []
h.block_status(4096, 512, lambda c, o, e, err: x.extend(e))
assert x == [4096, 0], x
"
ask fine "
x = []
h.block_status(8192, 4096, lambda c, o, e, err: x.extend(e))
assert x == [4096, 3, 4096, 0], x
"

# What the handshake says is what the core said.
ask fine "
assert h.get_size() == size
assert not h.is_read_only() and not h.is_rotational()
assert h.can_flush() and h.can_fua() and h.can_trim() and h.can_zero()
assert h.can_fast_zero() and h.can_cache() and h.can_multi_conn()
assert h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
assert [h.get_block_size(s) for s in (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED,
                                      nbd.SIZE_MAXIMUM)] == [1, 4096, 32 << 20]
"
ask plain "
assert not h.can_flush() and not h.can_fua() and not h.can_trim()
assert not h.can_cache() and not h.can_multi_conn()
assert h.can_zero()
# What was not offered is refused, and the server lives; nbdkit 1.32 would not if fast zeros
# were not offered.
assert err(h.zero, 4096, 0, nbd.CMD_FLAG_FAST_ZERO) == errno.ENOTSUP
assert err(h.zero, 4096, 0, nbd.CMD_FLAG_FUA) == errno.EINVAL
assert err(h.pwrite, buf, 0, nbd.CMD_FLAG_FUA) == errno.EINVAL
assert err(h.flush) == errno.EINVAL
assert err(h.trim, 4096, 0) == errno.EINVAL
assert err(h.cache, 4096, 0) == errno.EINVAL
assert h.pread(4096, 0) == b'x' * 4096
"
ask readonly "assert h.is_read_only() and err(h.pwrite, buf, 0) == errno.EPERM"
ask blocks "assert h.get_block_size(nbd.SIZE_MINIMUM) == 65536"

nbdinfo --list "$fake_uri" > "$tmp/list"
grep -q 'export="one"' "$tmp/list" && grep -q 'export="two"' "$tmp/list" ||
  fail "the list lacks a name: $(cat "$tmp/list")"
! grep -q eeeee "$tmp/list" || fail "a name of 4999 bytes is listed"
grep -q 'description: the second' "$tmp/list" || fail "no description in the list"
nbdinfo "nbd+unix:///fine?socket=$fake_sock" | grep -q 'description: as told' ||
  fail "no description of an export"

# An export that is not there; the name in the message is quoted.
if nbdsh -u "nbd+unix:///absent%0A%22?socket=$fake_sock" -c pass 2> "$tmp/err"; then
  fail "an absent export was opened"
fi
grep -q 'absent\\x0a\\x22: open: No such file' "$fake_log" ||
  fail "the log does not name the absent export"

# A client that goes while its read waits: the core is told so (K-24).
"$PYTHON3" -m nbd -c "
h.set_export_name('wait')
h.connect_unix('$fake_sock')
h.aio_pread(nbd.Buffer(4096), 0)
while h.aio_get_direction() & nbd.AIO_DIRECTION_WRITE:
    h.poll(-1)
while True:
    h.poll(1000)
" &
client=$!
wait_until 10 grep -q 'fake: waiting' "$fake_log" || fail "the read did not come"
! grep -q 'fake: gave up' "$fake_log" || fail "gave up before the client went"
kill -KILL $client 2> /dev/null || :
wait $client || :
wait_until 10 grep -q 'fake: gave up' "$fake_log" || fail "nobody noticed that it went"
# nbdkit closes nothing that is still open when it is told to quit (K-32).
pc_closed_all () {
  [ "$(grep -c 'debug: pagecache: open returned handle 0x' "$fake_log")" -eq \
    "$(grep -c 'fake: closed' "$fake_log")" ]
}
wait_until 10 pc_closed_all || fail "a handle is not closed"

stop_nbdkit fake || fail "nbdkit exited with $?"
grep -q 'fake: first drain' "$fake_log" || fail "no drain at the end"
grep -q 'fake: freed' "$fake_log" || fail "not freed at the end"
