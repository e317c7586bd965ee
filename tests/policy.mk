# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of eviction, read-ahead and throttling.  How to add one: see tests/local.mk.

TESTS += %D%/test-evict
check_PROGRAMS += %D%/test-evict
%C%_test_evict_SOURCES = %D%/test-evict.c

TESTS += %D%/test-throttle
check_PROGRAMS += %D%/test-throttle
%C%_test_throttle_SOURCES = %D%/test-throttle.c

TESTS += %D%/test-readahead
check_PROGRAMS += %D%/test-readahead
%C%_test_readahead_SOURCES = %D%/test-readahead.c
