# SPDX-License-Identifier: BSD-3-Clause
#
# The benches, which are built by "make bench".  How to add one: see tests/local.mk.
