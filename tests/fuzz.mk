# SPDX-License-Identifier: BSD-3-Clause
#
# Fuzzing: FUZZ_SECONDS=600 make fuzz runs each harness for so long, on from where it last ended (contrib/fuzz); "make
# check" plays the corpora.
#
# A harness is one source file; play-NAME is a plain program over its corpus, fuzz-NAME is linked with libFuzzer and
# builds only where "make fuzz" configured.

FUZZERS = ops options origin
pc_play_sources = %D%/fuzz/fuzz.h %D%/fuzz/play.c
pc_fuzz_flags = $(AM_LDFLAGS) -fsanitize=fuzzer
# A folder: make dist takes what is in it.
EXTRA_DIST += %D%/fuzz/corpus

TESTS += %D%/fuzz/play-ops
check_PROGRAMS += %D%/fuzz/play-ops
EXTRA_PROGRAMS += %D%/fuzz/fuzz-ops
pc_fuzz_ops_sources = \
	%D%/fuzz/fuzz-ops.c \
	%D%/fuzz/fuzz.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/sim.c \
	%D%/sim.h \
	$(NULL)
%C%_fuzz_play_ops_SOURCES = $(pc_play_sources) $(pc_fuzz_ops_sources)
%C%_fuzz_play_ops_CPPFLAGS = $(AM_CPPFLAGS) -iquote $(srcdir)/%D% -DFUZZ_CORPUS='"ops"'
%C%_fuzz_play_ops_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=aligned_alloc
%C%_fuzz_fuzz_ops_SOURCES = $(pc_fuzz_ops_sources)
%C%_fuzz_fuzz_ops_CPPFLAGS = $(AM_CPPFLAGS) -iquote $(srcdir)/%D%
%C%_fuzz_fuzz_ops_LDFLAGS = $(pc_fuzz_flags) -Wl,--wrap=aligned_alloc

TESTS += %D%/fuzz/play-options
check_PROGRAMS += %D%/fuzz/play-options
EXTRA_PROGRAMS += %D%/fuzz/fuzz-options
pc_fuzz_options_sources = \
	%D%/fake-pagecache.c \
	%D%/fuzz/fuzz-options.c \
	%D%/fuzz/fuzz.h \
	lib/lock.c \
	lib/log.c \
	lib/uri.c \
	plugin/options.c \
	plugin/options.h \
	plugin/parse.c \
	plugin/parse.h \
	$(NULL)
%C%_fuzz_play_options_SOURCES = $(pc_play_sources) $(pc_fuzz_options_sources)
%C%_fuzz_play_options_CPPFLAGS = $(PLUGIN_CPPFLAGS) -iquote $(srcdir)/%D% -DFUZZ_CORPUS='"options"'
%C%_fuzz_play_options_LDADD = $(CMOCKA_LIBS) -lpthread
%C%_fuzz_fuzz_options_SOURCES = $(pc_fuzz_options_sources)
%C%_fuzz_fuzz_options_CPPFLAGS = $(PLUGIN_CPPFLAGS) -iquote $(srcdir)/%D%
%C%_fuzz_fuzz_options_LDADD = -lpthread
%C%_fuzz_fuzz_options_LDFLAGS = $(pc_fuzz_flags)

TESTS += %D%/fuzz/play-origin
check_PROGRAMS += %D%/fuzz/play-origin
EXTRA_PROGRAMS += %D%/fuzz/fuzz-origin
pc_fuzz_origin_sources = %D%/fuzz/fuzz-origin.c %D%/fuzz/fuzz.h
%C%_fuzz_play_origin_SOURCES = $(pc_play_sources) $(pc_fuzz_origin_sources)
%C%_fuzz_play_origin_CPPFLAGS = $(AM_CPPFLAGS) -iquote $(srcdir)/%D% -DFUZZ_CORPUS='"origin"'
%C%_fuzz_fuzz_origin_SOURCES = $(pc_fuzz_origin_sources)
%C%_fuzz_fuzz_origin_CPPFLAGS = $(AM_CPPFLAGS) -iquote $(srcdir)/%D%
%C%_fuzz_fuzz_origin_LDFLAGS = $(pc_fuzz_flags)

FUZZ_SECONDS = 600
.PHONY: fuzz
fuzz:
	srcdir='$(srcdir)' MAKE='$(MAKE)' FUZZERS='$(FUZZERS)' \
	  FUZZ_SECONDS='$(FUZZ_SECONDS)' $(srcdir)/contrib/fuzz
