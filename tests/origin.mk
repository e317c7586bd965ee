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

# A loop, a server and an origin, for the tests of the NBD origin.
EXTRA_DIST += %D%/nbdtest.h
pc_nbdtest_sources = \
	%D%/evil.c \
	%D%/evil.h \
	%D%/nbdserver.c \
	%D%/nbdserver.h \
	$(NULL)

TESTS += %D%/test-nbdwire
check_PROGRAMS += %D%/test-nbdwire
%C%_test_nbdwire_SOURCES = %D%/test-nbdwire.c %D%/evil.c %D%/evil.h

TESTS += %D%/test-origin-nbd
check_PROGRAMS += %D%/test-origin-nbd
%C%_test_origin_nbd_SOURCES = %D%/test-origin-nbd.c $(pc_nbdtest_sources)

TESTS += %D%/test-origin-loss
check_PROGRAMS += %D%/test-origin-loss
%C%_test_origin_loss_SOURCES = %D%/test-origin-loss.c $(pc_nbdtest_sources)

TESTS += %D%/test-origin-evil
check_PROGRAMS += %D%/test-origin-evil
%C%_test_origin_evil_SOURCES = %D%/test-origin-evil.c $(pc_nbdtest_sources)

TESTS += %D%/test-nbddrive
check_PROGRAMS += %D%/test-nbddrive
%C%_test_nbddrive_SOURCES = %D%/test-nbddrive.c $(pc_nbdtest_sources)

TESTS += %D%/test-nbdlink
check_PROGRAMS += %D%/test-nbdlink
%C%_test_nbdlink_SOURCES = %D%/test-nbdlink.c $(pc_nbdtest_sources)
