# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the origins.  How to add one: see tests/local.mk.

TESTS += %D%/test-evloop
check_PROGRAMS += %D%/test-evloop
%C%_test_evloop_SOURCES = %D%/test-evloop.c
