# SPDX-License-Identifier: BSD-3-Clause
#
# PC_SANITIZERS - build with the compiler's run-time checkers?
#
#   --enable-sanitizers=address,undefined   or   --enable-sanitizers=thread
#
# The flags join $CC and not $CFLAGS: then no target can lose them by having
# flags of its own, and libtool links with them too.  nbdkit itself stays as
# it was installed, so a plugin built this way needs the checker's library
# loaded first: SANITIZER_PRELOAD names it, tests/functions.sh uses it.
#
# "-z nodelete" (nbd.T-60): nbdkit unloads plugins before the leak checker
# walks the stacks, which would then show <unknown module>.
# "no-sanitize-recover" (nbd.T-61): an undefined behaviour ends the program;
# one that was only reported hung at exit.

AC_DEFUN([PC_SANITIZERS],
[AC_ARG_ENABLE([sanitizers],
  [AS_HELP_STRING([--enable-sanitizers=LIST],
    [build with address,undefined or with thread @<:@no@:>@])],
  [], [enable_sanitizers=no])
SANITIZER_PRELOAD=
AS_CASE([$enable_sanitizers],
  [no], [],
  [yes], [AC_MSG_ERROR([--enable-sanitizers needs a list, such as address,undefined])],
  [CC="$CC -fsanitize=$enable_sanitizers -fno-sanitize-recover=all -fno-omit-frame-pointer"
   LDFLAGS="$LDFLAGS -Wl,-z,nodelete"
   AC_MSG_CHECKING([whether $CC links])
   AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [AC_MSG_RESULT([yes])],
     [AC_MSG_RESULT([no])
      AC_MSG_ERROR([the compiler cannot do --enable-sanitizers=$enable_sanitizers])])
   AS_CASE([",$enable_sanitizers,"],
     [*,address,*], [pc_libsan=libasan.so],
     [*,thread,*], [pc_libsan=libtsan.so],
     [pc_libsan=libubsan.so])
   SANITIZER_PRELOAD=`$CC -print-file-name=$pc_libsan`
   dnl A bare name means "not found": clang keeps its checkers elsewhere.
   AS_IF([test "$SANITIZER_PRELOAD" = "$pc_libsan"], [SANITIZER_PRELOAD=])])
AC_SUBST([SANITIZERS], [$enable_sanitizers])
AC_SUBST([SANITIZER_PRELOAD])
AM_CONDITIONAL([WITH_SANITIZERS], [test "$enable_sanitizers" != no])
])
