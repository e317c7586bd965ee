# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of eviction, read-ahead and throttling.  How to add one: see tests/local.mk.
