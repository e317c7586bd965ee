# SPDX-License-Identifier: BSD-3-Clause
#
# Tests by random operations against a model, and the origin that they and
# the plugin's tests run over.

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

check_PROGRAMS += %D%/nbdx
%C%_nbdx_SOURCES = \
	%D%/nbdx-check.c \
	%D%/nbdx-history.h \
	%D%/nbdx-model.c \
	%D%/nbdx-model.h \
	%D%/nbdx-pace.c \
	%D%/nbdx-stamp.h \
	%D%/nbdx.c \
	%D%/nbdx.h \
	$(NULL)
%C%_nbdx_LDADD = $(LIBNBD_LIBS)

EXTRA_DIST += \
	%D%/client.py \
	%D%/model-functions.sh \
	%D%/origin-cases.py \
	$(NULL)

# The tools themselves.
MODEL_TESTS = \
	%D%/control-cache-filter.sh \
	%D%/model-finds-bugs.sh \
	%D%/model-memory.sh \
	%D%/model-testorigin.sh \
	%D%/testorigin.sh \
	$(NULL)
TESTS += $(MODEL_TESTS)
dist_check_SCRIPTS += $(MODEL_TESTS)

# The plugin with errors that can be switched on: the model tester must find each.  The objects that know about them
# come first, and what is missing from the archive: as a library of libtool's, all of it would be taken.
check_LTLIBRARIES += %D%/nbdkit-planted-plugin.la
%C%_nbdkit_planted_plugin_la_SOURCES = \
	$(PLUGIN_SOURCES) \
	%D%/plant.c \
	$(PLANTED_SOURCES) \
	$(NULL)
%C%_nbdkit_planted_plugin_la_CPPFLAGS = $(PLUGIN_CPPFLAGS) -DPC_PLANT
%C%_nbdkit_planted_plugin_la_LDFLAGS = $(PLUGIN_LDFLAGS) -rpath /nowhere
%C%_nbdkit_planted_plugin_la_LIBADD = \
	-Llib/.libs -l:libpagecache-core.a \
	$(LIBNBD_LIBS) $(LIBEVENT_LIBS) $(XXHASH_LIBS) -lpthread \
	$(NULL)
%C%_nbdkit_planted_plugin_la_DEPENDENCIES = lib/libpagecache-core.la
TESTS += %D%/model-finds-plants.sh
dist_check_SCRIPTS += %D%/model-finds-plants.sh

# The cache under nbdkit, over the test origin.
PLUGIN_MODEL_TESTS = \
	%D%/plugin-flush-durable.sh \
	%D%/plugin-flush-error.sh \
	%D%/plugin-flush-restart.sh \
	%D%/plugin-huge-export.sh \
	%D%/plugin-memory.sh \
	%D%/plugin-model-faults.sh \
	%D%/plugin-model-none.sh \
	%D%/plugin-model-origins.sh \
	%D%/plugin-model-writeback.sh \
	%D%/plugin-model-writethrough.sh \
	%D%/plugin-never-flush.sh \
	%D%/plugin-oracle.sh \
	%D%/plugin-holes.sh \
	%D%/plugin-pace.sh \
	%D%/plugin-parallel-misses.sh \
	%D%/plugin-scan.sh \
	%D%/plugin-sigterm.sh \
	%D%/plugin-two-exports.sh \
	$(NULL)
dist_check_SCRIPTS += $(PLUGIN_MODEL_TESTS)
SOAK_TESTS += \
	%D%/plugin-model-faults.sh \
	%D%/plugin-model-none.sh \
	%D%/plugin-model-origins.sh \
	%D%/plugin-model-writeback.sh \
	%D%/plugin-model-writethrough.sh \
	%D%/plugin-never-flush.sh \
	%D%/plugin-pace.sh \
	%D%/plugin-two-exports.sh \
	$(NULL)
TESTS += $(PLUGIN_MODEL_TESTS)
EXTRA_DIST += %D%/none-load.py
