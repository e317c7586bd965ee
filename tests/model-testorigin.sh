#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# model-testorigin.sh - the model tester finds nothing wrong with the test
# origin, however it is set up: durable image, trims that keep, odd sizes,
# commands that overtake one another, writes that fail and yet happened.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

# try SIZE "NBDX OPTIONS" ARG...
try () {
  local size=$1 options=$2

  shift 2
  rm -f "$durable"
  make_image "$size"
  start_origin "$@"
  # Words on purpose.
  # shellcheck disable=SC2086
  run_nbdx "$origin_sock" --stamped --durable "$durable" $options
  kill_origin
}

try 16M ""
try 1000001 "--check-model" trimmode=keep
try 4M "--depth 16 --ops 4000" jitter=0.001
try 8M "" minblock=512
try 8M "" fua=none fastzero=no trim=no
try 8M "" multiconn=no extents=no
try 4M "--allow-errors" bug=error-applied bugrate=20 trimmode=keep
