#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# kernel-client.sh - the Linux kernel's own NBD client, with four connections,
# makes, fills, maps, trims and checks ext4 and xfs through the cache, while
# the origin dies and comes back (goals.md R6, nbd.T-80).

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"
. "$srcdir/tests/kernel-functions.sh"

# xfs wants 300 MiB, and writes 64 of them when it is made.
run_kernel 1G file_systems ext4_size=128M ext4_cache=8M xfs_size=320M \
  xfs_cache=96M mapped="$([ -n "${PC_SOAK:-}" ] && echo 64M || echo 2M)"
