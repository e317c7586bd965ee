# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the core: memory, pages, inode.  How to add one: see tests/local.mk.
