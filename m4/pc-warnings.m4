# SPDX-License-Identifier: BSD-3-Clause
#
# PC_WARNINGS - which of our warnings does this compiler know?
#
# The flags go to WARN_CFLAGS, so a packager's CFLAGS stay the packager's.
#   --enable-werror   a warning is an error (the checks build so; a release
#                     does not, as tomorrow's compiler warns of more).

AC_DEFUN([PC_WARNINGS],
[AC_ARG_ENABLE([werror],
  [AS_HELP_STRING([--enable-werror], [treat warnings as errors @<:@no@:>@])],
  [], [enable_werror=no])
WARN_CFLAGS=
pc_save_CFLAGS=$CFLAGS
for pc_flag in \
    -Wall -Wextra -Wshadow -Wvla -Wmissing-prototypes -Wstrict-prototypes \
    -Wold-style-definition -Wpointer-arith -Wwrite-strings -Wundef \
    -Wformat=2 -Wno-format-nonliteral -Wimplicit-fallthrough \
    -Wthread-safety; do
  AC_MSG_CHECKING([whether $CC takes $pc_flag])
  CFLAGS="$pc_save_CFLAGS -Werror $pc_flag"
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])],
    [AC_MSG_RESULT([yes])
     WARN_CFLAGS="$WARN_CFLAGS $pc_flag"],
    [AC_MSG_RESULT([no])])
done
CFLAGS=$pc_save_CFLAGS
AS_IF([test "$enable_werror" = yes], [WARN_CFLAGS="$WARN_CFLAGS -Werror"])
AC_SUBST([WARN_CFLAGS])
])

# PC_DEBUG_CHECKS - run each structure's x_check() and the lock ranks?
#
#   --enable-debug-checks   defines PC_DEBUG.  The x_check() functions exist
#                           in every build; this decides who calls them.

AC_DEFUN([PC_DEBUG_CHECKS],
[AC_ARG_ENABLE([debug-checks],
  [AS_HELP_STRING([--enable-debug-checks],
    [check invariants while running, slowly @<:@no@:>@])],
  [], [enable_debug_checks=no])
AS_IF([test "$enable_debug_checks" != no],
  [AC_DEFINE([PC_DEBUG], [1], [Define to check invariants while running.])])
])
