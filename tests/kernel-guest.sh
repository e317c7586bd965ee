#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# kernel-guest.sh - the first process inside user-mode-linux: servers, the
# kernel's NBD client on the cache, and what tests/kernel-*.sh do with it.
#
# Started by run_kernel of kernel-functions.sh; not for use by hand.  The
# kernel's command line names PC_GUEST, a file with our variables, of which
# $job is the function to run.  The root is the host's, read only: what is
# written lies in the guest's memory.  Any failed step ends it; the last line
# of all says that there was none.

set -e -u -o pipefail

# An end of any kind is the machine's end.
halt () {
  local status=$?

  if [ "$status" -ne 0 ]; then
    echo "GUEST: failed with $status: $step"
    for log in /run/*.log; do
      echo "--- $log"
      tail -n 30 "$log"
    done
  fi
  echo o > /proc/sysrq-trigger
  # It takes a moment, in which the first process must not end.
  read -r -u "$never" || :
}

step="setting up"
step () {
  step=$*
  read -r up _ < /proc/uptime
  echo "GUEST: $up $step"
}

export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/run
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /run
mount -t tmpfs none /mnt
mkfifo /run/never
exec {never}<> /run/never
trap halt EXIT
# shellcheck source=/dev/null
. "$PC_GUEST"
export TMPDIR=/run
# A page touched for the first time costs a process in here a hundred
# microseconds: memory once had is kept.
export MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=1073741824 \
  MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_TOP_PAD_=1048576
mkdir -p /dev/shm /mnt/ext4 /mnt/xfs
mount -t tmpfs none /dev/shm

step "the module, and the loopback interface"
"$PYTHON3" - "$nbd_module" <<'PY'
import ctypes
import fcntl
import os
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(sys.argv[1], os.O_RDONLY)
if libc.syscall(313, fd, b"nbds_max=4", 0):           # finit_module
    raise OSError(ctypes.get_errno(), "finit_module")
s = socket.socket()
# SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
fcntl.ioctl(s, 0x8914, struct.pack("16sh22x", b"lo", 0x41))
PY

# until SECONDS COMMAND ARG...: of this machine's clock.
until_true () {
  local deadline=$((SECONDS + $1))

  shift
  until "$@" > /dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { echo "waited in vain for: $*"; return 1; }
    read -r -t 0.02 -u "$never" || :
  done
}

# server NAME ARG...
server () {
  local name=$1

  shift
  rm -f "/run/$name.pid" "/run/$name.sock"
  "$launch" "$NBDKIT" -f -P "/run/$name.pid" -t 8 "$@" \
    >> "/run/$name.log" 2>&1 < /dev/null &
  disown
  until_true 60 test -s "/run/$name.pid"
}

# attach DEVICE CONNECTIONS NBD-CLIENT-ARG...
attach () {
  local device=$1 connections=$2

  shift 2
  nbd-client "$@" "/dev/$device" -C "$connections" -b 4096 -t 0 > /run/client.log
  until_true 20 test -e "/sys/block/$device/pid"
  [ "$(< "/sys/block/$device/size")" -gt 0 ]
}

detach () {
  nbd-client -d "/dev/$1" > /run/client.log
  until_true 20 test ! -e "/sys/block/$1/pid"
}

# in_time SECONDS COMMAND ARG...: what it took, and no longer.
in_time () {
  local limit=$1 from to

  shift
  read -r from _ < /proc/uptime
  timeout "$limit" "$@" || { echo "not done after $limit s: $*"; return 1; }
  read -r to _ < /proc/uptime
  echo "$1: from $from to $to"
}

## The jobs

# ext4's origin forgets what was not flushed when it is killed.
start_origin () {
  server origin -i 127.0.0.1 -p 10810 "$testorigin" durable=/run/durable \
    size="$ext4_size" control=/run/origin.ctl
}

crash_origin () {
  kill -KILL "$(< /run/origin.pid)"
  start_origin
}

# Over both transports that the kernel knows.
attach_both () {
  attach nbd0 4 127.0.0.1 10809
  attach nbd1 4 -unix /run/cache-xfs.sock
}

# check_files FOLDER: are they what was written?
check_files () {
  (cd "$1" && sha256sum --quiet -c "/run/sums.${1##*/}")
}

file_systems () {
  local fs i kind pid pids=()

  step "the servers"
  start_origin
  server cache -i 127.0.0.1 -p 10809 "$plugin" nbd://127.0.0.1:10810 \
    cache-size="$ext4_cache" reconnect=60
  truncate -s "$xfs_size" /run/xfs
  server origin-xfs -U /run/origin-xfs.sock file /run/xfs
  server cache-xfs -U /run/cache-xfs.sock "$plugin" \
    socket=/run/origin-xfs.sock cache-size="$xfs_cache"

  step "attach, 4 connections each"
  attach_both

  step "mkfs.ext4"
  mkfs.ext4 -q /dev/nbd0
  mount -t ext4 -o discard /dev/nbd0 /mnt/ext4
  step "mkfs.xfs"
  mkfs.xfs -q /dev/nbd1
  mount -t xfs /dev/nbd1 /mnt/xfs

  # Pages written through mappings of both; while they go out the origin dies,
  # and comes back with what it had flushed.
  step "fio through mappings"
  cd /run
  for fs in ext4 xfs; do
    fio --name=map --directory="/mnt/$fs" --ioengine=mmap --rw=randwrite --bs=4k \
      --size="$mapped" --verify=crc32c --verify_fatal=1 --do_verify=1 \
      --verify_state_save=0 --randseed="$seed" --thread --end_fsync=1 \
      --eta=never --gtod_reduce=1 --output="/run/fio.$fs.log" &
    pids+=($!)
  done
  until_true 60 test -s /mnt/ext4/map.0.0
  crash_origin
  for pid in "${pids[@]}"; do
    wait "$pid"
  done

  step "files, some of them removed, fstrim"
  for fs in ext4 xfs; do
    mkdir "/mnt/$fs/d"
    for (( i = 0; i < 12; i++ )); do
      head -c $((RANDOM * 4 + 1)) /dev/urandom > "/mnt/$fs/d/$i"
    done
    (cd "/mnt/$fs" && sha256sum d/*[02468] map.0.0 > "/run/sums.$fs")
    rm "/mnt/$fs"/d/*[13579]
    fstrim "/mnt/$fs"
  done
  umount /mnt/ext4 /mnt/xfs

  step "fsck"
  e2fsck -fn /dev/nbd0
  xfs_repair -n /dev/nbd1 > /run/repair.log 2>&1

  step "disconnect, reconnect, read it again"
  detach nbd0
  detach nbd1
  attach_both
  mount -t ext4 /dev/nbd0 /mnt/ext4
  mount -t xfs /dev/nbd1 /mnt/xfs
  check_files /mnt/ext4
  check_files /mnt/xfs
  for fs in ext4 xfs; do
    head -c 500000 /dev/urandom > "/mnt/$fs/late"
    (cd "/mnt/$fs" && sha256sum late >> "/run/sums.$fs")
  done
  umount /mnt/ext4 /mnt/xfs

  # A crash of both: what umount flushed must be all that is needed.  At once, while the devices are there: when
  # they go the cache writes back.
  step "the same without the cache, after a crash"
  kill -KILL "$(< /run/cache.pid)" "$(< /run/cache-xfs.pid)"
  "$builddir/tests/originctl" /run/origin.ctl stats > /run/stats
  for kind in trim flush write read; do
    grep -E "^$kind=[1-9]" /run/stats
  done
  detach nbd0
  detach nbd1
  crash_origin
  attach nbd2 1 127.0.0.1 10810
  attach nbd3 1 -unix /run/origin-xfs.sock
  e2fsck -fn /dev/nbd2
  xfs_repair -n /dev/nbd3 > /run/repair.log 2>&1
  mount -t ext4 -o ro,noload /dev/nbd2 /mnt/ext4
  mount -t xfs -o ro,norecovery /dev/nbd3 /mnt/xfs
  check_files /mnt/ext4
  check_files /mnt/xfs
  umount /mnt/ext4 /mnt/xfs
  detach nbd2
  detach nbd3
}

# big_file write|check
big_file () {
  "$PYTHON3" - "$1" "$seed" "$megabytes" <<'PY'
import random
import sys
rnd = random.Random(int(sys.argv[2]))
with open("/mnt/ext4/big", "wb" if sys.argv[1] == "write" else "rb") as f:
    for i in range(int(sys.argv[3])):
        data = rnd.randbytes(1 << 20)
        if sys.argv[1] == "write":
            f.write(data)
        elif f.read(1 << 20) != data:
            raise SystemExit("wrong bytes in megabyte %d" % i)
PY
}

# Everything in this machine's memory but the origin's disk, which the host
# has.
pressure () {
  mkdir /mnt/host
  mount -t hostfs none /mnt/host -o "$tmp"
  server origin -U /run/origin.sock file /mnt/host/disk
  server cache -U /run/cache.sock "$plugin" socket=/run/origin.sock \
    cache-size=8M
  attach nbd0 4 -unix /run/cache.sock
  mkfs.ext4 -q /dev/nbd0
  mount -t ext4 /dev/nbd0 /mnt/ext4
  step "half of the memory, written and not synced"
  grep -E 'MemTotal|MemAvailable' /proc/meminfo
  # Dirty pages up to the last.
  echo 90 > /proc/sys/vm/dirty_ratio
  echo 80 > /proc/sys/vm/dirty_background_ratio
  big_file write
  grep -E 'Dirty|Writeback:' /proc/meminfo
  step "and synced"
  in_time 60 sync
  step "read again"
  echo 3 > /proc/sys/vm/drop_caches
  big_file check
  step "the end"
  umount /mnt/ext4
  detach nbd0
  kill -TERM "$(< /run/cache.pid)"
  until_true 20 test ! -d "/proc/$(< /run/cache.pid)"
  umount /mnt/host
}

# load SECONDS MEGABYTES: four clients at once, each in its quarter of the export: written, flushed, read again.
load () {
  timeout "$1" "$PYTHON3" - "$2" <<'PY'
import sys
import threading
import nbd
MIB = 1 << 20
STEP = MIB // 4
quarter = int(sys.argv[1]) * MIB // 4
wrong = []
def client(i):
    try:
        h = nbd.NBD()
        h.connect_unix("/run/cache.sock")
        for at in range(0, quarter, STEP):
            h.pwrite((i * quarter + at).to_bytes(8, "little") * (STEP // 8), i * quarter + at)
        h.flush()
        for at in range(0, quarter, STEP):
            got = h.pread(STEP, i * quarter + at)
            if got != (i * quarter + at).to_bytes(8, "little") * (STEP // 8):
                wrong.append("wrong bytes at %d" % (i * quarter + at))
    except nbd.Error as e:
        wrong.append(str(e))
clients = [threading.Thread(target=client, args=(i,)) for i in range(4)]
for c in clients:
    c.start()
for c in clients:
    c.join()
if wrong:
    raise SystemExit(wrong[0])
PY
}

# events WORD: how often that happened to the group.
events () {
  sed -n "s/^$1 //p" /mnt/groups/cache/memory.events
}

# Whoever is started belongs to the group of who starts it.
grouped_cache () {
  echo $$ > /mnt/groups/cache/cgroup.procs
  server cache -U /run/cache.sock "$plugin" socket=/run/origin.sock cache-size="${cache_mib}M"
  echo $$ > /mnt/groups/cgroup.procs
}

# What a service manager does to the cache: a group with a limit of memory.
group () {
  mkdir /mnt/groups
  mount -t cgroup2 none /mnt/groups
  echo +memory > /mnt/groups/cgroup.subtree_control
  mkdir /mnt/groups/cache
  server origin -U /run/origin.sock memory 256M
  # 24 MiB beside the cache, and 4 clients with 8 buffers of 256 KiB each.
  step "a limit that is enough"
  echo $(((cache_mib + 24 + 8) << 20)) > /mnt/groups/cache/memory.max
  grouped_cache
  load 60 100
  cat /mnt/groups/cache/memory.events
  [ "$(events oom_kill)" -eq 0 ]
  [ "$(events oom)" -eq 0 ]
  kill -TERM "$(< /run/cache.pid)"
  until_true 20 test ! -d "/proc/$(< /run/cache.pid)"

  step "a limit below cache-size"
  echo $(((cache_mib / 2 + 16) << 20)) > /mnt/groups/cache/memory.max
  grouped_cache
  ! load 60 100
  [ "$(events oom_kill)" -ge 1 ]
  until_true 20 test ! -d "/proc/$(< /run/cache.pid)"
}

# Disks of 8 TiB, made: every block is trimmed, in 4096 requests; the origin is a file without blocks.
huge () {
  truncate -s 8T /run/disk
  server origin -U /run/origin.sock file /run/disk
  server cache -U /run/cache.sock "$plugin" socket=/run/origin.sock cache-size=32M \
    cache-stats=/run/stats
  attach nbd0 4 -unix /run/cache.sock
  for fs in ext4 xfs; do
    step "mkfs.$fs"
    case $fs in
      ext4) in_time "$bound" mkfs.ext4 -q -E discard,lazy_itable_init=1,lazy_journal_init=1 /dev/nbd0 ;;
      xfs) in_time "$bound" mkfs.xfs -q -f -l size=64m /dev/nbd0 ;;
    esac
    step "a file"
    mount -t $fs /dev/nbd0 /mnt/$fs
    head -c 3000000 /dev/urandom > /mnt/$fs/f
    sha256sum /mnt/$fs/f > /run/sums.$fs
    umount /mnt/$fs
    blockdev --flushbufs /dev/nbd0
    mount -t $fs -o ro /dev/nbd0 /mnt/$fs
    sha256sum --quiet -c /run/sums.$fs
    umount /mnt/$fs
    grep -E 'VmHWM' "/proc/$(< /run/cache.pid)/status"
  done
  detach nbd0
  kill -TERM "$(< /run/cache.pid)"
  until_true 20 test ! -d "/proc/$(< /run/cache.pid)"
}

"$job"
step "all was well"
