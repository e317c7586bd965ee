# SPDX-License-Identifier: BSD-3-Clause
#
# Checks of the sources themselves, part of "make check" and targets by
# themselves, and the suite in builds with a checker.

PROJECT_CHECKS = \
	%D%/check-headers \
	%D%/check-layers \
	%D%/check-rules \
	%D%/check-skips \
	%D%/check-style \
	$(NULL)

TESTS += $(PROJECT_CHECKS)

EXTRA_DIST += \
	$(PROJECT_CHECKS) \
	%D%/bench/bench.py \
	%D%/bench/jobs.py \
	%D%/bench/report.py \
	%D%/bench/rows.py \
	%D%/bench/servers.py \
	%D%/bench/verdict.py \
	%D%/analyze-known \
	%D%/check-analyze \
	%D%/check-build \
	%D%/check-chroot \
	%D%/count-tests \
	%D%/cppcheck.supp \
	%D%/coverage \
	%D%/coverage-table \
	%D%/demo \
	%D%/fio/hit-256k-qd8.fio \
	%D%/fio/hit-4k-qd1.fio \
	%D%/fio/hit-4k-qd32.fio \
	%D%/fio/miss-4k.fio \
	%D%/fio/seq.fio \
	%D%/fio/write-4k.fio \
	%D%/fuzz \
	%D%/lsan.supp \
	%D%/packages \
	%D%/source-files \
	%D%/tsan.supp \
	%D%/valgrind.supp \
	$(NULL)

.PHONY: check-headers check-layers check-rules check-skips check-style
check-headers check-layers check-rules check-skips check-style:
	@srcdir='$(srcdir)'; export srcdir; $(AM_TESTS_ENVIRONMENT) \
	$(srcdir)/contrib/$@ && echo "$@: nothing to complain about"

# -O1: readable stacks and half the time of -O0.  Warnings are no errors here:
# gcc's guesses about what may be uninitialized change with optimisation and
# instrumentation, and the usual build has had its say.
SANITIZER_CONFIGURE = --enable-debug-checks CFLAGS='-g -O1'

.PHONY: check-asan check-tsan check-valgrind
check-asan:
	srcdir='$(srcdir)' MAKE='$(MAKE)' $(srcdir)/contrib/check-build asan \
	  --enable-sanitizers=address,undefined $(SANITIZER_CONFIGURE)
check-tsan:
	srcdir='$(srcdir)' MAKE='$(MAKE)' $(srcdir)/contrib/check-build tsan \
	  --enable-sanitizers=thread $(SANITIZER_CONFIGURE)
# -z nodelete: what a plugin's own variables point to is no leak just because
# nbdkit unloaded it (nbd.T-63).
check-valgrind:
	PC_VALGRIND=1 srcdir='$(srcdir)' MAKE='$(MAKE)' \
	  $(srcdir)/contrib/check-build valgrind $(SANITIZER_CONFIGURE) \
	  LDFLAGS=-Wl,-z,nodelete

# gcc -fanalyzer, clang-tidy and cppcheck: minutes.
.PHONY: check-analyze
check-analyze: config.h
	srcdir='$(srcdir)'; export srcdir; $(AM_TESTS_ENVIRONMENT) $(srcdir)/contrib/check-analyze
EXTRA_DIST += .clang-tidy

# Branches of lib/ that the suite takes, file by file.
.PHONY: coverage
coverage:
	srcdir='$(srcdir)' MAKE='$(MAKE)' PYTHON3='$(PYTHON3)' $(srcdir)/contrib/coverage

# The sub-builds go with "make distclean".
DISTCLEAN_FOLDERS = build-asan build-coverage build-fuzz build-tsan build-valgrind
distclean-local:
	rm -rf $(DISTCLEAN_FOLDERS)
