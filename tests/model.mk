# SPDX-License-Identifier: BSD-3-Clause
#
# Tests by random operations against a plain array.  How to add one: see tests/local.mk.
