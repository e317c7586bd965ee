# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the ordered sets of lib/.  How to add one: see tests/local.mk.
