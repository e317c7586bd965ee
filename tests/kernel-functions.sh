# SPDX-License-Identifier: BSD-3-Clause
#
# kernel-functions.sh - a Linux kernel of our own, for tests of its NBD client.
# Sourced after functions.sh and model-functions.sh:
#
#   run_kernel MEMORY JOB [VARIABLE=VALUE]...
#
# boots user-mode-linux, a kernel that is a program: no privilege, no device
# and no network of this machine.  In it tests/kernel-guest.sh runs the
# function JOB with the variables, and must come to its end.

# Checkers spread their tables over an address space that a guest's process has
# not; what they can say of the same requests the other tests have them say.
if [ "$SANITIZERS" != no ] || [ -n "${PC_VALGRIND:-}" ]; then
  echo "with a kernel of our own the usual build is tested alone"
  exit 0
fi

PATH=$PATH:/usr/sbin:/sbin
requires_plugin
requires_command linux.uml nbd-client mkfs.ext4 e2fsck mkfs.xfs xfs_repair fio \
  fstrim
nbd_module=$(find /usr/lib/uml/modules -name nbd.ko 2> /dev/null | head -n 1)
[ -n "$nbd_module" ] || skip "needs the nbd module of user-mode-linux"

run_kernel () {
  local memory=$1 job=$2 room=$tmp variable

  shift 2
  {
    declare -p PYTHON3 NBDKIT launch testorigin plugin builddir seed nbd_module \
      job tmp
    for variable; do
      printf '%q\n' "$variable"
    done
  } > "$tmp/variables"
  # The guest's memory is a file, and faster in memory.
  if [ -w /dev/shm ] && [ "$(df --output=avail -BM /dev/shm | tr -dc 0-9)" -gt 1500 ]
  then
    room=/dev/shm
  fi
  TMPDIR=$room LD_PRELOAD="$builddir/tests/.libs/uml-xstate.so" timeout -k 5 \
    $((100 * pc_slowness)) linux.uml mem="$memory" uml_dir="$tmp" umid=guest \
    root=/dev/root rootfstype=hostfs rootflags=/ ro \
    init="$srcdir/tests/kernel-guest.sh" PC_GUEST="$tmp/variables" \
    con=null con0=fd:0,fd:1 quiet < /dev/null > "$tmp/console" 2>&1 || :
  grep -a -v '^SELinux' "$tmp/console" | tr -d '\r'
  grep -a -q '^GUEST: [0-9.]* all was well' "$tmp/console" ||
    fail "PC_SEED=$seed"
}
