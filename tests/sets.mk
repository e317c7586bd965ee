# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the ordered sets of lib/.  How to add one: see tests/local.mk.

EXTRA_DIST += \
	%D%/rnd.h \
	%D%/segset-model.h \
	$(NULL)

TESTS += %D%/test-segset
check_PROGRAMS += %D%/test-segset
%C%_test_segset_SOURCES = %D%/test-segset.c

TESTS += %D%/test-rangeset
check_PROGRAMS += %D%/test-rangeset
%C%_test_rangeset_SOURCES = %D%/test-rangeset.c

TESTS += %D%/test-dirtyset
check_PROGRAMS += %D%/test-dirtyset
%C%_test_dirtyset_SOURCES = %D%/test-dirtyset.c

TESTS += %D%/test-zeroset
check_PROGRAMS += %D%/test-zeroset
%C%_test_zeroset_SOURCES = %D%/test-zeroset.c

TESTS += %D%/test-framerefs
check_PROGRAMS += %D%/test-framerefs
%C%_test_framerefs_SOURCES = %D%/test-framerefs.c

TESTS += %D%/test-mappingset
check_PROGRAMS += %D%/test-mappingset
%C%_test_mappingset_SOURCES = %D%/test-mappingset.c
