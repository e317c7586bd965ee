# SPDX-License-Identifier: BSD-3-Clause
#
# The core: one convenience library of position independent objects, which
# the plugin contains (D28), and the shared library made of the same objects.
# One file a line, under the tier that lib/LAYERS gives its module.

noinst_LTLIBRARIES += %D%/libpagecache-core.la

%C%_libpagecache_core_la_SOURCES =
%C%_libpagecache_core_la_LIBADD = \
	$(LIBNBD_LIBS) \
	$(LIBEVENT_LIBS) \
	$(XXHASH_LIBS) \
	-lpthread \
	$(NULL)

# tier 0
%C%_libpagecache_core_la_SOURCES += \
	%D%/checked.h \
	%D%/compiler.h \
	$(NULL)

# tier 1
%C%_libpagecache_core_la_SOURCES += \
	%D%/clock.h \
	%D%/list.h \
	%D%/lock.c \
	%D%/lock.h \
	%D%/range.h \
	%D%/segnodes.c \
	%D%/segnodes.h \
	%D%/wbstate.h \
	$(NULL)

# tier 1.5
%C%_libpagecache_core_la_SOURCES += \
	%D%/waiter.c \
	%D%/waiter.h \
	$(NULL)

# tier 2
%C%_libpagecache_core_la_SOURCES += \
	%D%/evict.c \
	%D%/evict.h \
	%D%/log.c \
	%D%/log.h \
	%D%/readahead.c \
	%D%/readahead.h \
	%D%/segtree.h \
	%D%/throttle.c \
	%D%/throttle.h \
	%D%/uri.c \
	%D%/uri.h \
	$(NULL)

# tier 3
%C%_libpagecache_core_la_SOURCES += \
	%D%/budget.c \
	%D%/budget.h \
	%D%/evloop.c \
	%D%/evloop.h \
	%D%/runset.c \
	%D%/runset.h \
	%D%/segset.h \
	$(NULL)

# tier 4
%C%_libpagecache_core_la_SOURCES += \
	%D%/memfile.c \
	%D%/memfile.h \
	%D%/populate.c \
	%D%/populate.h \
	$(NULL)

# tier 5
%C%_libpagecache_core_la_SOURCES += \
	%D%/dirtyset.c \
	%D%/dirtyset.h \
	%D%/framerefs.c \
	%D%/framerefs.h \
	%D%/mappingset.c \
	%D%/mappingset.h \
	%D%/rangeset.c \
	%D%/rangeset.h \
	%D%/zeroset.c \
	%D%/zeroset.h \
	$(NULL)

# tier 6
%C%_libpagecache_core_la_SOURCES += \
	%D%/origin.c \
	%D%/origin.h \
	$(NULL)

# tier 7
%C%_libpagecache_core_la_SOURCES += \
	%D%/nbdcheck.c \
	%D%/nbddrive.c \
	%D%/nbddrive.h \
	%D%/nbdkicks.c \
	%D%/nbdkicks.h \
	%D%/nbdlink.c \
	%D%/nbdlink.h \
	%D%/nbdpool.c \
	%D%/nbdpool.h \
	%D%/nbdtend.c \
	%D%/nbdtend.h \
	%D%/nbdwire.c \
	%D%/nbdwire.h \
	%D%/origin-mem.c \
	%D%/origin-mem.h \
	%D%/origin-nbd.c \
	%D%/origin-nbd.h \
	$(NULL)

# tier 8
%C%_libpagecache_core_la_SOURCES += \
	%D%/inode-attr.c \
	%D%/inode-attr.h \
	%D%/inode-check.c \
	%D%/inode-core.c \
	%D%/inode-evict.c \
	%D%/inode-extents.c \
	%D%/inode-fill.c \
	%D%/inode-holes.c \
	%D%/inode-ledger.c \
	%D%/inode-map.c \
	%D%/inode-map.h \
	%D%/inode-priv.h \
	%D%/inode-read.c \
	%D%/inode-sync.c \
	%D%/inode-wb.c \
	%D%/inode-write.c \
	%D%/inode-zero.c \
	%D%/inode.h \
	$(NULL)

# tier 9
%C%_libpagecache_core_la_SOURCES += \
	%D%/reclaim.c \
	%D%/reclaim.h \
	%D%/writeback.c \
	%D%/writeback.h \
	$(NULL)

# tier 10
%C%_libpagecache_core_la_SOURCES += \
	%D%/cache-core.c \
	%D%/cache-direct.c \
	%D%/cache-end.c \
	%D%/cache-io.c \
	%D%/cache-nbd.c \
	%D%/cache-options.c \
	%D%/cache-priv.h \
	%D%/cache-revalidate.c \
	%D%/cache.h \
	$(NULL)

# The shared library exports what begins with pagecache_ and nothing else.
lib_LTLIBRARIES += %D%/libpagecache.la

%C%_libpagecache_la_SOURCES =
%C%_libpagecache_la_LIBADD = %D%/libpagecache-core.la
%C%_libpagecache_la_LDFLAGS = \
	$(AM_LDFLAGS) \
	-no-undefined \
	-version-info 0:0:0 \
	-Wl,--version-script=$(srcdir)/%D%/libpagecache.syms \
	$(NULL)
%C%_libpagecache_la_DEPENDENCIES = \
	%D%/libpagecache-core.la \
	%D%/libpagecache.syms \
	$(NULL)

# What a program that uses the library needs.
include_HEADERS += %D%/pagecache.h
pkgconfig_DATA += %D%/pagecache.pc

EXTRA_DIST += \
	%D%/LAYERS \
	%D%/README.md \
	%D%/RULES.md \
	%D%/libpagecache.syms \
	$(NULL)
