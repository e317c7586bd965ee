# SPDX-License-Identifier: BSD-3-Clause
#
# PC_BENCH_SETS - are the sets here that bench-segset compares ours with?
#
# Needs a C++17 compiler, boost::icl and absl::btree_map.  Without them the
# conditional HAVE_BENCH_SETS is false (as in a build with sanitizers) and "make bench" leaves that bench out;
# nothing else wants C++.

AC_DEFUN([PC_BENCH_SETS],
[AC_LANG_PUSH([C++])
pc_save_CXXFLAGS=$CXXFLAGS
pc_save_LIBS=$LIBS
CXXFLAGS="$CXXFLAGS -std=gnu++17"
BENCH_SETS_LIBS="-labsl_throw_delegate -labsl_raw_logging_internal"
LIBS="$BENCH_SETS_LIBS $LIBS"
AC_CACHE_CHECK([for absl::btree_map and boost::icl], [pc_cv_bench_sets],
  [AC_LINK_IFELSE([AC_LANG_PROGRAM([[
#include <absl/container/btree_map.h>
#include <boost/icl/interval_map.hpp>
]], [[
absl::btree_map<int, int> a;
boost::icl::interval_map<int, int> b;
a[1] = 2;
return a.at (1) + b.size ();
]])], [pc_cv_bench_sets=yes], [pc_cv_bench_sets=no])])
LIBS=$pc_save_LIBS
CXXFLAGS=$pc_save_CXXFLAGS
AC_LANG_POP([C++])
AC_SUBST([BENCH_SETS_LIBS])
AM_CONDITIONAL([HAVE_BENCH_SETS], 
  [test "$pc_cv_bench_sets,$enable_sanitizers" = yes,no])
])
