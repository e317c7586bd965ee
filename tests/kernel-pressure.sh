#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# kernel-pressure.sh - client, file system and cache on one small machine that
# has half of its memory dirty: to get rid of one the kernel needs the cache, and the
# cache gets no page for it (nbd.KN-11).  It goes on, and every byte is there.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"
. "$srcdir/tests/kernel-functions.sh"

truncate -s 512M "$tmp/disk"
run_kernel 256M pressure megabytes=120
e2fsck -fn "$tmp/disk" || fail "the file system at the origin is broken"
