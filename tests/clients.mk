# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the plugin between clients, origins and faults that are not ours.
# How to add one: see tests/local.mk.

# Loaded into user-mode-linux, see kernel-functions.sh.
check_LTLIBRARIES += %D%/uml-xstate.la
%C%_uml_xstate_la_SOURCES = %D%/uml-xstate.c
%C%_uml_xstate_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
%C%_uml_xstate_la_CFLAGS = $(WARN_CFLAGS) -fno-sanitize=all
%C%_uml_xstate_la_LIBADD =

# The first process inside it.
dist_check_SCRIPTS += %D%/kernel-guest.sh

EXTRA_DIST += \
	%D%/churn.py \
	%D%/crash-client.py \
	%D%/kernel-functions.sh \
	$(NULL)

CLIENTS_TESTS = \
	%D%/kernel-cgroup.sh \
	%D%/kernel-client.sh \
	%D%/plugin-churn.sh \
	%D%/plugin-crash.sh \
	%D%/plugin-hung-origin.sh \
	%D%/plugin-many-clients.sh \
	%D%/plugin-many-exports.sh \
	%D%/plugin-origins-foreign.sh \
	%D%/plugin-origins-nbdkit.sh \
	%D%/plugin-stopped-origin.sh \
	%D%/plugin-tools.sh \
	%D%/plugin-trim-over-write.sh \
	%D%/plugin-trim-storm.sh \
	$(NULL)
TESTS += $(CLIENTS_TESTS)
dist_check_SCRIPTS += $(CLIENTS_TESTS)
# Twenty seconds and more, so in "make soak" alone.
dist_check_SCRIPTS += %D%/kernel-huge.sh %D%/kernel-pressure.sh
SOAK_TESTS += \
	%D%/kernel-client.sh \
	%D%/kernel-huge.sh \
	%D%/kernel-pressure.sh \
	%D%/plugin-churn.sh \
	%D%/plugin-crash.sh \
	%D%/plugin-many-exports.sh \
	%D%/plugin-origins-foreign.sh \
	%D%/plugin-origins-nbdkit.sh \
	$(NULL)
