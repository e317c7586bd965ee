# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the origins.  How to add one: see tests/local.mk.
