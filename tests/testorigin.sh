#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# testorigin.sh - the test origin keeps its own promises; see origin-cases.py,
# which starts many of them and needs to know how this build starts a server.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires "$PYTHON3" -c 'import nbd'
TESTORIGIN_LAUNCH=$(printf '%s\n' "$launch" "$NBDKIT" -f "$testorigin")
export TESTORIGIN_LAUNCH SANITIZERS
TMPDIR=$tmp "$PYTHON3" "$srcdir/tests/origin-cases.py"
