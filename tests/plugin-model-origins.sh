#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# plugin-model-origins.sh - no wrong byte whatever the origin can and cannot:
# blocks (nbd.B-50), FUA, flush, trims that keep the old bytes, one connection only.

. tests/functions.sh
. "$srcdir/tests/model-functions.sh"

requires_plugin

ops=$(ops_of 2000 200000)
model_run writeback 0.0002 "$ops" multiconn=no
model_run writeback 0.0002 "$ops" fua=none trimmode=keep
model_run writeback 0.0002 "$ops" minblock=512 maxblock=64K
model_run writeback 0.0002 "$ops" minblock=4096 prefblock=65536
model_run writeback 0.0002 "$ops" minblock=65536 maxblock=65536
model_run writeback 0.0002 "$ops" trim=no zero=no fastzero=no extents=no cache=no
model_run writethrough 0.0002 "$ops" fua=none trimmode=keep multiconn=no
