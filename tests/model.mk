# SPDX-License-Identifier: BSD-3-Clause
#
# Tests by random operations against a plain array, and the origin that they
# and the plugin's tests run over.

# The test origin: an nbdkit plugin that is never installed; -rpath is what
# makes libtool build a shared object of a convenience library.
check_LTLIBRARIES += %D%/nbdkit-testorigin-plugin.la
%C%_nbdkit_testorigin_plugin_la_SOURCES = \
	%D%/testorigin-control.c \
	%D%/testorigin-gate.c \
	%D%/testorigin-gate.h \
	%D%/testorigin-image.c \
	%D%/testorigin-image.h \
	%D%/testorigin.c \
	%D%/testorigin.h \
	$(NULL)
%C%_nbdkit_testorigin_plugin_la_CFLAGS = $(AM_CFLAGS) $(NBDKIT_CFLAGS)
%C%_nbdkit_testorigin_plugin_la_LDFLAGS = \
	-module -avoid-version -shared -rpath /nowhere \
	$(NULL)
%C%_nbdkit_testorigin_plugin_la_LIBADD =

check_PROGRAMS += %D%/originctl
%C%_originctl_SOURCES = %D%/originctl.c
%C%_originctl_LDADD =

TESTS += %D%/testorigin.py
dist_check_SCRIPTS += %D%/testorigin.py
