# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the plugin under a real nbdkit.  How to add one: see tests/local.mk.

# The plugin's own sources around a core that does as it is told: for its
# translation of errors and flags, which no real origin provokes on demand.
check_LTLIBRARIES += %D%/nbdkit-fakecache-plugin.la
%C%_nbdkit_fakecache_plugin_la_SOURCES = \
	$(PLUGIN_SOURCES) \
	%D%/fake-pagecache.c \
	lib/lock.c \
	lib/log.c \
	lib/uri.c \
	$(NULL)
%C%_nbdkit_fakecache_plugin_la_CPPFLAGS = $(PLUGIN_CPPFLAGS)
%C%_nbdkit_fakecache_plugin_la_LDFLAGS = $(PLUGIN_LDFLAGS) -rpath /nowhere
%C%_nbdkit_fakecache_plugin_la_LIBADD = $(LIBNBD_LIBS) $(LIBEVENT_LIBS) -lpthread

TESTS += %D%/test-options
check_PROGRAMS += %D%/test-options
%C%_test_options_SOURCES = \
	%D%/fake-pagecache.c \
	%D%/test-options.c \
	lib/lock.c \
	lib/log.c \
	lib/uri.c \
	plugin/options.c \
	plugin/options.h \
	plugin/parse.c \
	plugin/parse.h \
	$(NULL)
%C%_test_options_CPPFLAGS = $(PLUGIN_CPPFLAGS)
%C%_test_options_LDADD = $(CMOCKA_LIBS) -lpthread
%C%_test_options_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=asprintf,--wrap=getcwd,--wrap=malloc,--wrap=strdup \
	-Wl,--wrap=strndup,--wrap=vasprintf \
	$(NULL)

TESTS += %D%/plugin-errors.sh
dist_check_SCRIPTS += %D%/plugin-errors.sh

TESTS += %D%/plugin-lifecycle.sh
dist_check_SCRIPTS += %D%/plugin-lifecycle.sh

TESTS += %D%/plugin-manual.sh
dist_check_SCRIPTS += %D%/plugin-manual.sh

TESTS += %D%/plugin-parameters.sh
dist_check_SCRIPTS += %D%/plugin-parameters.sh

TESTS += %D%/plugin-effects.sh
dist_check_SCRIPTS += %D%/plugin-effects.sh

TESTS += %D%/plugin-ways.sh
dist_check_SCRIPTS += %D%/plugin-ways.sh

TESTS += %D%/plugin-requests.sh
dist_check_SCRIPTS += %D%/plugin-requests.sh
EXTRA_DIST += %D%/raw-client.py

TESTS += %D%/plugin-examples.sh
dist_check_SCRIPTS += %D%/plugin-examples.sh

TESTS += %D%/plugin-reconnect.sh
dist_check_SCRIPTS += %D%/plugin-reconnect.sh

TESTS += %D%/plugin-reconnect-changed.sh
dist_check_SCRIPTS += %D%/plugin-reconnect-changed.sh

TESTS += %D%/plugin-reconnect-kills.sh
dist_check_SCRIPTS += %D%/plugin-reconnect-kills.sh
SOAK_TESTS += %D%/plugin-reconnect-kills.sh
EXTRA_DIST += %D%/reconnect-load.py

TESTS += %D%/plugin-tls.sh
dist_check_SCRIPTS += %D%/plugin-tls.sh

TESTS += %D%/plugin-exports.sh
dist_check_SCRIPTS += %D%/plugin-exports.sh

TESTS += %D%/test-bad-input.sh
dist_check_SCRIPTS += %D%/test-bad-input.sh
EXTRA_DIST += %D%/BAD-INPUT.md
