# SPDX-License-Identifier: BSD-3-Clause
#
# The benches, which are built by "make bench".  How to add one: see tests/local.mk.

# The hit ratio on recorded traces: TRACES=DIR make bench-traces
EXTRA_PROGRAMS += %D%/bench-traces
BENCHES += %D%/bench-traces
%C%_bench_traces_SOURCES = %D%/bench-traces.c
%C%_bench_traces_LDADD = lib/libpagecache-core.la -lm

.PHONY: bench-traces
bench-traces: %D%/bench-traces
	srcdir='$(srcdir)' %D%/bench-traces
