# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of tiers 0 and 1 of lib/: arithmetic, ranges, lists; and of the harness.

TESTS += %D%/test-checked
check_PROGRAMS += %D%/test-checked
%C%_test_checked_SOURCES = %D%/test-checked.c

TESTS += %D%/test-list
check_PROGRAMS += %D%/test-list
%C%_test_list_SOURCES = %D%/test-list.c

TESTS += %D%/test-range
check_PROGRAMS += %D%/test-range
%C%_test_range_SOURCES = %D%/test-range.c

# Loaded into checked servers, see tests/launch.
check_LTLIBRARIES += %D%/preload.la
%C%_preload_la_SOURCES = %D%/preload.c
%C%_preload_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
%C%_preload_la_CFLAGS = -pthread $(WARN_CFLAGS) -fno-sanitize=all

# Tests of the harness itself.
TESTS += %D%/test-functions.sh
dist_check_SCRIPTS += %D%/test-functions.sh

TESTS += %D%/test-project-checks.sh
dist_check_SCRIPTS += %D%/test-project-checks.sh
