# SPDX-License-Identifier: BSD-3-Clause
#
# The tests.  Each area has its own fragment.  A cmocka test is three lines:
#
#   TESTS += %D%/test-range
#   check_PROGRAMS += %D%/test-range
#   %C%_test_range_SOURCES = %D%/test-range.c
#
# and links with the core and cmocka.  A shell test is two:
#
#   TESTS += %D%/plugin-read.sh
#   dist_check_SCRIPTS += %D%/plugin-read.sh
#
# Test programs and scripts run with the build folder as the current one and
# find $srcdir in the environment.

# For programs that name no libraries of their own.
LDADD = \
	lib/libpagecache-core.la \
	$(CMOCKA_LIBS) \
	$(NULL)

EXTRA_DIST += %D%/test.h

TEST_EXTENSIONS = .sh .py

include %D%/base.mk
include %D%/core.mk
include %D%/sets.mk
include %D%/policy.mk
include %D%/origin.mk
include %D%/plugin.mk
include %D%/model.mk
include %D%/bench.mk
