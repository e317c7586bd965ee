# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the ordered sets of lib/.  How to add one: see tests/local.mk.

EXTRA_DIST += %D%/segset-model.h

TESTS += %D%/test-segset
check_PROGRAMS += %D%/test-segset
%C%_test_segset_SOURCES = %D%/test-segset.c
