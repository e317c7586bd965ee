#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# kernel-cgroup.sh - a group with a limit of memory a bit above what the manual says: the cache lives in it under
# load.  Below cache-size it is killed, as the manual says as well.  In a kernel of our own, where we may have groups.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"
. "$srcdir/tests/kernel-functions.sh"

run_kernel 800M group cache_mib=32
