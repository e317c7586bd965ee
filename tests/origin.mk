# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the origins.  How to add one: see tests/local.mk.

TESTS += %D%/test-evloop
check_PROGRAMS += %D%/test-evloop
%C%_test_evloop_SOURCES = %D%/test-evloop.c

TESTS += %D%/test-origin-mem
check_PROGRAMS += %D%/test-origin-mem
%C%_test_origin_mem_SOURCES = %D%/test-origin-mem.c

TESTS += %D%/test-uri
check_PROGRAMS += %D%/test-uri
%C%_test_uri_SOURCES = %D%/test-uri.c
