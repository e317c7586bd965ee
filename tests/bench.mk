# SPDX-License-Identifier: BSD-3-Clause
#
# The small benches, which "make bench" builds, and the test of the large one.  How to add one: see tests/local.mk.

# The hit ratio on recorded traces: TRACES=DIR make bench-traces
EXTRA_PROGRAMS += %D%/bench-traces
BENCH_NEEDS += %D%/bench-traces
%C%_bench_traces_SOURCES = %D%/bench-traces.c
%C%_bench_traces_LDADD = lib/libpagecache-core.la -lm

.PHONY: bench-traces
bench-traces: %D%/bench-traces
	srcdir='$(srcdir)' %D%/bench-traces

EXTRA_DIST += \
	%D%/bench-segset-ours.c \
	%D%/bench-segset.cc \
	%D%/bench-segset.h \
	$(NULL)

if HAVE_BENCH_SETS
BENCH_NEEDS += %D%/bench-segset
EXTRA_PROGRAMS += %D%/bench-segset
%C%_bench_segset_SOURCES = \
	%D%/bench-segset-ours.c \
	%D%/bench-segset.cc \
	%D%/bench-segset.h \
	$(NULL)
%C%_bench_segset_CXXFLAGS = -std=gnu++17 $(AM_CXXFLAGS)
%C%_bench_segset_LDADD = lib/libpagecache-core.la $(BENCH_SETS_LIBS)
endif

# What a frame costs: the run set of memfile beside a segment set.
EXTRA_PROGRAMS += %D%/bench-frames
BENCHES += %D%/bench-frames
%C%_bench_frames_SOURCES = %D%/bench-frames.c
%C%_bench_frames_LDADD = lib/libpagecache-core.la

# What the life of a page costs, without the origin and the server.
EXTRA_PROGRAMS += %D%/bench-life
BENCHES += %D%/bench-life
%C%_bench_life_SOURCES = %D%/bench-life.c
%C%_bench_life_LDADD = lib/libpagecache-core.la -lpthread

TESTS += %D%/bench-works.sh
dist_check_SCRIPTS += %D%/bench-works.sh
