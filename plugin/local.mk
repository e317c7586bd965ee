# SPDX-License-Identifier: BSD-3-Clause
#
# The nbdkit plugin.  It contains the core statically, so that it loads by
# path from the build tree with nothing in the environment (D28).

plugin_LTLIBRARIES += %D%/nbdkit-pagecache-plugin.la

# Shared with tests/, which builds them around a double of the core.
PLUGIN_SOURCES = \
	%D%/descriptors.c \
	%D%/descriptors.h \
	%D%/options.c \
	%D%/options.h \
	%D%/parse.c \
	%D%/parse.h \
	%D%/plugin.c \
	%D%/reply.c \
	%D%/reply.h \
	$(NULL)
PLUGIN_CPPFLAGS = $(AM_CPPFLAGS) -iquote $(srcdir)/%D% $(NBDKIT_CFLAGS)
PLUGIN_LDFLAGS = \
	$(AM_LDFLAGS) \
	-module -avoid-version -shared \
	-Wl,--version-script=$(srcdir)/%D%/plugin.syms \
	$(NULL)

%C%_nbdkit_pagecache_plugin_la_SOURCES = $(PLUGIN_SOURCES)
%C%_nbdkit_pagecache_plugin_la_CPPFLAGS = $(PLUGIN_CPPFLAGS)
%C%_nbdkit_pagecache_plugin_la_LDFLAGS = $(PLUGIN_LDFLAGS)
%C%_nbdkit_pagecache_plugin_la_LIBADD = lib/libpagecache-core.la
%C%_nbdkit_pagecache_plugin_la_DEPENDENCIES = \
	lib/libpagecache-core.la \
	%D%/plugin.syms \
	$(NULL)

EXTRA_DIST += %D%/plugin.syms

# The manual.  Perl's pod2man comes with Perl; without it everything else is built.
EXTRA_DIST += %D%/nbdkit-pagecache-plugin.pod
if HAVE_POD2MAN
man_MANS += %D%/nbdkit-pagecache-plugin.1
CLEANFILES += %D%/nbdkit-pagecache-plugin.1
%D%/nbdkit-pagecache-plugin.1: %D%/nbdkit-pagecache-plugin.pod
	$(AM_V_GEN)$(MKDIR_P) %D% && $(POD2MAN) --utf8 --errors=die --section=1 \
	  --center=pagecache --release='pagecache $(PACKAGE_VERSION)' \
	  --name=nbdkit-pagecache-plugin \
	  '$(srcdir)/%D%/nbdkit-pagecache-plugin.pod' $@.tmp && mv $@.tmp $@
endif
