# SPDX-License-Identifier: BSD-3-Clause
#
# PC_SUMMARY - what was found, for the person who ran configure.
# PC_SUMMARY_LINE(WHAT, VALUE) prints one dotted line of it.

AC_DEFUN([PC_SUMMARY_LINE],
[AS_ECHO(["$(printf '  %s %s' '$1' '.................................' | cut -c1-36) $2"])])

AC_DEFUN([PC_SUMMARY],
[AS_ECHO([])
AS_ECHO(["$PACKAGE_STRING"])
PC_SUMMARY_LINE([prefix], [$prefix])
PC_SUMMARY_LINE([plugins go to], [$plugindir])
PC_SUMMARY_LINE([libnbd], [$($PKG_CONFIG --modversion libnbd)])
PC_SUMMARY_LINE([nbdkit], [$($PKG_CONFIG --modversion nbdkit)])
PC_SUMMARY_LINE([libevent], [$($PKG_CONFIG --modversion libevent_core)])
PC_SUMMARY_LINE([xxhash], [$($PKG_CONFIG --modversion libxxhash)])
PC_SUMMARY_LINE([cmocka], [$($PKG_CONFIG --modversion cmocka)])
PC_SUMMARY_LINE([sanitizers], [$enable_sanitizers])
PC_SUMMARY_LINE([debug checks], [$enable_debug_checks])
PC_SUMMARY_LINE([warnings are errors], [$enable_werror])
AS_ECHO([])
])
