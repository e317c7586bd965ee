#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# kernel-huge.sh - file systems of 8 TiB are made through the kernel's client, which trims the whole disk before: in
# bounded time, with little memory, and they hold what is put into them.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"
. "$srcdir/tests/kernel-functions.sh"

run_kernel 1G huge bound=90
