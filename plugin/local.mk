# SPDX-License-Identifier: BSD-3-Clause
#
# The nbdkit plugin.  It contains the core statically, so that it loads by
# path from the build tree with nothing in the environment (D28).
