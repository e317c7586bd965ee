#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# model-memory.sh - the model tester finds nothing wrong with servers that
# cache nothing: nbdkit's memory and file plugins.  A tester that cries wolf
# would be of no use.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_nbdkit_plugin memory
requires_nbdkit_plugin file

start_nbdkit memory memory 32M
run_nbdx "$memory_sock" --check-model

# Reads and writes of a file are not atomic: only its bytes are checked.
truncate -s 20000001 "$tmp/disk"
start_nbdkit file file "$tmp/disk"
run_nbdx "$file_sock" --torn
