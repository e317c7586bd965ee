# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the plugin under a real nbdkit.  How to add one: see tests/local.mk.
