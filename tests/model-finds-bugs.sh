#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# model-finds-bugs.sh - the model tester finds each bug that the test origin
# can be asked to have, within 10,000 operations.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

for bug in lost-write stale-read flush-nothing fua-volatile trim-other \
    zero-short write-shifted torn-read torn-write false-zero; do
  rm -f "$durable"
  make_image 8M
  start_origin bug="$bug" bugrate=50
  echo "--- $bug"
  find_wrong "$origin_sock" --stamped --durable "$durable" --ops 10000
  kill_origin
done
