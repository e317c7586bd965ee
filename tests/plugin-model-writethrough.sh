#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-model-writethrough.sh - no wrong byte with cache=writethrough: random operations
# over eight connections against the model, the durable image compared after
# every flush (goals.md R1).  "make soak" makes it a million.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

model_run writethrough 0 "$(ops_of 10000)"
model_run writethrough 0.001 "$(ops_of 4000 100000)"
