# SPDX-License-Identifier: BSD-3-Clause
#
# The tests.  Each area has its own fragment.  A cmocka test is three lines:
#
#   TESTS += %D%/test-range
#   check_PROGRAMS += %D%/test-range
#   %C%_test_range_SOURCES = %D%/test-range.c
#
# and links with the core and cmocka.  A shell test is two:
#
#   TESTS += %D%/plugin-read.sh
#   dist_check_SCRIPTS += %D%/plugin-read.sh
#
# or .py for Python.  A server that loads something of ours is started through
# tests/launch (functions.sh does), so that a build with sanitizers works:
# tests/launch nbdkit -f ... tests/.libs/nbdkit-testorigin-plugin.so
#
# A test that "make soak" runs for long (with PC_SOAK=1) adds itself to
# SOAK_TESTS.  A program that contrib/bench/bench.py starts for a row of its
# table adds itself to BENCH_NEEDS, one that "make bench" runs after it to
# BENCHES (and both to EXTRA_PROGRAMS, so that nothing else builds them).
#
# ThreadSanitizer's own look for lock orders is off: it ends when a thread holds 64 locks, which a large trim does, and the
# ranks of lib/lock.h, checked in every such build, say more.
#
# Tests run with the build folder as the current one, through tests/run-test,
# which knows about time limits, skips and valgrind.

# For programs that name no libraries of their own.
LDADD = \
	lib/libpagecache-core.la \
	$(CMOCKA_LIBS) \
	$(NULL)

EXTRA_DIST += \
	%D%/run-test \
	%D%/skips-allowed \
	%D%/test.h \
	$(NULL)

# configure makes them; a change of the .in makes them anew.
check_DATA += %D%/functions.sh %D%/launch

TEST_EXTENSIONS = .sh .py
LOG_COMPILER = $(BASH_PROG) $(srcdir)/tests/run-test
SH_LOG_COMPILER = $(LOG_COMPILER)
PY_LOG_COMPILER = $(LOG_COMPILER)

AM_TESTS_ENVIRONMENT = \
	CC='$(CC)'; export CC; \
	PC_CPPFLAGS='$(DEFS) $(DEFAULT_INCLUDES) $(AM_CPPFLAGS) $(AM_CFLAGS) $(NBDKIT_CFLAGS) $(CMOCKA_CFLAGS)'; \
	export PC_CPPFLAGS; \
	PYTHON3='$(PYTHON3)'; export PYTHON3; \
	SANITIZERS='$(SANITIZERS)'; export SANITIZERS; \
	VALGRIND='$(VALGRIND)'; export VALGRIND; \
	ASAN_OPTIONS="detect_leaks=1:$$ASAN_OPTIONS"; export ASAN_OPTIONS; \
	LSAN_OPTIONS="suppressions=$(abs_srcdir)/contrib/lsan.supp:print_suppressions=0"; \
	export LSAN_OPTIONS; \
	TSAN_OPTIONS="suppressions=$(abs_srcdir)/contrib/tsan.supp:detect_deadlocks=0"; \
	export TSAN_OPTIONS; \
	UBSAN_OPTIONS=print_stacktrace=1; export UBSAN_OPTIONS;

SOAK_TESTS =
.PHONY: soak
soak:
	PC_SOAK=1 $(MAKE) check TESTS='$(SOAK_TESTS)'

# make bench BENCH_ARGS='--only P3,P4 --compare old.json'; --help lists more.
BENCH_ARGS =
BENCHES =
BENCH_NEEDS = %D%/nbdkit-testorigin-plugin.la %D%/originctl
BENCH = srcdir='$(srcdir)' $(PYTHON3) $(srcdir)/contrib/bench/bench.py
.PHONY: bench bench-quick bench-self-check
bench: all $(BENCH_NEEDS) $(BENCHES)
	$(BENCH) --json bench.json $(BENCH_ARGS)
	@for bench in $(BENCHES); do \
	  test -f "$$bench" || bench="$(srcdir)/$$bench"; \
	  case $$bench in /*|./*|../*) ;; *) bench="./$$bench" ;; esac; \
	  srcdir='$(srcdir)' "$$bench" || exit; \
	done
bench-quick: all $(BENCH_NEEDS)
	$(BENCH) --quick --json bench-quick.json $(BENCH_ARGS)
# Does the bench notice a cache that is switched off?
bench-self-check: all $(BENCH_NEEDS)
	$(BENCH) --quick --self-check $(BENCH_ARGS)
CLEANFILES += bench.json bench-quick.json

include %D%/base.mk
include %D%/core.mk
include %D%/sets.mk
include %D%/policy.mk
include %D%/origin.mk
include %D%/plugin.mk
include %D%/model.mk
include %D%/clients.mk
include %D%/bench.mk
include %D%/fuzz.mk
