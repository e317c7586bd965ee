# SPDX-License-Identifier: BSD-3-Clause
#
# Tests of the core: memory, pages, inode.  How to add one: see tests/local.mk.

TESTS += %D%/test-budget
check_PROGRAMS += %D%/test-budget
%C%_test_budget_SOURCES = %D%/test-budget.c

TESTS += %D%/test-runset
check_PROGRAMS += %D%/test-runset
%C%_test_runset_SOURCES = %D%/test-runset.c

TESTS += %D%/test-populate
check_PROGRAMS += %D%/test-populate
%C%_test_populate_SOURCES = %D%/test-populate.c

# The system calls of memfile.c are made to fail one by one.
TESTS += %D%/test-memfile
check_PROGRAMS += %D%/test-memfile
%C%_test_memfile_SOURCES = %D%/test-memfile.c
%C%_test_memfile_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=calloc,--wrap=fallocate,--wrap=ftruncate,--wrap=madvise \
	-Wl,--wrap=memfd_create,--wrap=mmap,--wrap=sysconf \
	$(NULL)

TESTS += %D%/test-log
check_PROGRAMS += %D%/test-log
%C%_test_log_SOURCES = %D%/test-log.c

# The promises of one inode, one by one.
TESTS += %D%/test-inode
check_PROGRAMS += %D%/test-inode
%C%_test_inode_SOURCES = \
	%D%/inode-bed.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/test-inode.c \
	$(NULL)
%C%_test_inode_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc \
	$(NULL)

# The same where things go wrong, or in an order that is hardly ever met.
TESTS += %D%/test-inode-rare
check_PROGRAMS += %D%/test-inode-rare
%C%_test_inode_rare_SOURCES = \
	%D%/inode-bed.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/test-inode-rare.c \
	$(NULL)
%C%_test_inode_rare_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc,--wrap=calloc,--wrap=mmap \
	-Wl,--wrap=pthread_rwlock_unlock \
	$(NULL)

# The same where there is no tree node for zeros.
TESTS += %D%/test-inode-nodes
check_PROGRAMS += %D%/test-inode-nodes
%C%_test_inode_nodes_SOURCES = \
	%D%/inode-bed.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/test-inode-nodes.c \
	$(NULL)
%C%_test_inode_nodes_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc,--wrap=zeros_nodes \
	$(NULL)

# A flush that comes at any moment of another request.
TESTS += %D%/test-inode-flush
check_PROGRAMS += %D%/test-inode-flush
%C%_test_inode_flush_SOURCES = \
	%D%/inode-bed.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/test-inode-flush.c \
	$(NULL)
%C%_test_inode_flush_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc \
	-Wl,--wrap=pthread_mutex_unlock,--wrap=pthread_rwlock_unlock \
	$(NULL)

# How long an origin may be silent, how much may be dirty, and how long a failure counts.
TESTS += %D%/test-inode-bounds
check_PROGRAMS += %D%/test-inode-bounds
%C%_test_inode_bounds_SOURCES = \
	%D%/inode-bed.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/test-inode-bounds.c \
	$(NULL)
%C%_test_inode_bounds_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc \
	$(NULL)

# What it knows of holes, and says.
TESTS += %D%/test-inode-holes
check_PROGRAMS += %D%/test-inode-holes
%C%_test_inode_holes_SOURCES = \
	%D%/inode-bed.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/test-inode-holes.c \
	$(NULL)
%C%_test_inode_holes_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc \
	$(NULL)

# What a request costs beside many holes.
TESTS += %D%/test-inode-cost
check_PROGRAMS += %D%/test-inode-cost
%C%_test_inode_cost_SOURCES = \
	%D%/inode-bed.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/test-inode-cost.c \
	$(NULL)
%C%_test_inode_cost_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc \
	$(NULL)

# Reads past the cache.
TESTS += %D%/test-inode-bypass
check_PROGRAMS += %D%/test-inode-bypass
%C%_test_inode_bypass_SOURCES = \
	%D%/inode-bed.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/test-inode-bypass.c \
	$(NULL)
%C%_test_inode_bypass_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc \
	$(NULL)

# How long it looks for memory and frames.
TESTS += %D%/test-inode-memory
check_PROGRAMS += %D%/test-inode-memory
%C%_test_inode_memory_SOURCES = \
	%D%/inode-bed.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/test-inode-memory.c \
	$(NULL)
%C%_test_inode_memory_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc \
	$(NULL)

# The core under a scheduler that a seed decides.
TESTS += %D%/test-sim
check_PROGRAMS += %D%/test-sim
%C%_test_sim_SOURCES = \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/sim.c \
	%D%/sim.h \
	%D%/test-sim.c \
	$(NULL)
%C%_test_sim_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc \
	$(NULL)

# Short runs by the hundred thousand; they go on where the last ones ended: make check-sim SEEDS=100000
EXTRA_PROGRAMS += %D%/sim-many
%C%_sim_many_SOURCES = \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/sim-many.c \
	%D%/sim.c \
	%D%/sim.h \
	$(NULL)
%C%_sim_many_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc \
	$(NULL)

SEEDS = 100000
.PHONY: check-sim
check-sim: %D%/sim-many
	%D%/sim-many --state sim.state --jobs "$$(nproc)" $(SEEDS)
DISTCLEANFILES += sim.state

# The inode once more, with errors that can be switched on: the simulation must find each.
TESTS += %D%/test-plants
check_PROGRAMS += %D%/test-plants
# Built with PC_PLANT, here and for the plugin of model-finds-plants.sh.
PLANTED_SOURCES = \
	lib/inode-attr.c \
	lib/inode-check.c \
	lib/inode-core.c \
	lib/inode-evict.c \
	lib/inode-extents.c \
	lib/inode-fill.c \
	lib/inode-holes.c \
	lib/inode-ledger.c \
	lib/inode-map.c \
	lib/inode-read.c \
	lib/inode-sync.c \
	lib/inode-wb.c \
	lib/inode-write.c \
	lib/inode-zero.c \
	lib/reclaim.c \
	lib/writeback.c \
	$(NULL)
%C%_test_plants_SOURCES = \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/sim.c \
	%D%/sim.h \
	%D%/test-plants.c \
	$(PLANTED_SOURCES) \
	$(NULL)
%C%_test_plants_CPPFLAGS = $(AM_CPPFLAGS) -DPC_PLANT
%C%_test_plants_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc \
	$(NULL)

# An export in address spaces.
TESTS += %D%/test-inode-map
check_PROGRAMS += %D%/test-inode-map
%C%_test_inode_map_SOURCES = \
	%D%/inode-space.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/test-inode-map.c \
	$(NULL)
%C%_test_inode_map_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc \
	$(NULL)

# The same where memory is short, things move between two steps, and origins fail.
TESTS += %D%/test-inode-map-rare
check_PROGRAMS += %D%/test-inode-map-rare
%C%_test_inode_map_rare_SOURCES = \
	%D%/inode-space.h \
	%D%/inode-world.c \
	%D%/inode-world.h \
	%D%/test-inode-map-rare.c \
	$(NULL)
%C%_test_inode_map_rare_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=aligned_alloc,--wrap=pthread_rwlock_unlock \
	$(NULL)

# The border of the public face, and what mode none remembers.
TESTS += %D%/test-cache-none
check_PROGRAMS += %D%/test-cache-none
%C%_test_cache_none_SOURCES = %D%/test-cache-none.c
%C%_test_cache_none_LDFLAGS = \
	$(AM_LDFLAGS) \
	-Wl,--wrap=pthread_mutex_unlock \
	$(NULL)

TESTS += %D%/test-cache
check_PROGRAMS += %D%/test-cache
%C%_test_cache_SOURCES = %D%/test-cache.c
%C%_test_cache_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=inode_create
