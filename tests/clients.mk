# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the plugin between clients, origins and faults that are not ours.
# How to add one: see tests/local.mk.

CLIENTS_TESTS = \
	%D%/plugin-origins-foreign.sh \
	%D%/plugin-origins-nbdkit.sh \
	%D%/plugin-trim-over-write.sh \
	$(NULL)
TESTS += $(CLIENTS_TESTS)
dist_check_SCRIPTS += $(CLIENTS_TESTS)
SOAK_TESTS += \
	%D%/plugin-origins-foreign.sh \
	%D%/plugin-origins-nbdkit.sh \
	$(NULL)
