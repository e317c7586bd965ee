/* SPDX-License-Identifier: BSD-3-Clause
 *
 * uml-xstate - preloaded into user-mode-linux: the registers of its processes
 * are set in the size that the host's kernel demands.
 *
 * Linux takes the extended registers of a traced process only as a whole
 * (PTRACE_SETREGSET, NT_X86_XSTATE: a shorter buffer gives EFAULT).  The whole
 * is 11008 bytes on processors with AMX; user-mode-linux 6.1 has room for
 * 2696, enough for all vector registers and the protection keys, and
 * panics at its first process.  What it does not know its processes do not
 * use: we give the rest in its initial state.
 *
 * Threads  UML traces its processes with one thread alone and does not
 *          preempt itself there: one buffer is enough.  It cannot stand on the
 *          stack, which is one of UML's own kernel, of 16 KiB.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef __x86_64__
#include <cpuid.h>

/* Where the header's bit vector of what is not initial stands. */
#define XSTATE_BV 512
#define XSTATE_MAX 65536

static uint8_t whole[XSTATE_MAX] __attribute__ ((aligned (64)));

/* What the processor says, asked once: under a hypervisor each CPUID is a trap
 * into it, and this runs at each change of context.  ALL has one bit for each
 * component of which UML's buffer, of FOR_LEN bytes, has all. */
static struct {
  size_t for_len, whole_len;
  uint64_t all;
} known;

static void
ask_processor (size_t len)
{
  unsigned i, a, b, c, d;

  /* B is the size of what is switched on, C of what there is at most. */
  __cpuid_count (13, 0, a, b, c, d);
  known.whole_len = b;
  known.all = 3;                /* x87 and SSE stand at fixed places */
  for (i = 2; i < 63; i++) {
    __cpuid_count (13, i, a, b, c, d);
    if (a && b && (size_t) b + a <= len)
      known.all |= UINT64_C (1) << i;
  }
  known.for_len = len;
}

static long
set_xstate (pid_t pid, const struct iovec *from)
{
  struct iovec iov = { whole, 0 };
  uint64_t bv;

  if (known.for_len != from->iov_len)
    ask_processor (from->iov_len);
  if (known.whole_len > sizeof whole || from->iov_len >= known.whole_len ||
      from->iov_len < XSTATE_BV + sizeof bv)
    return syscall (SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, from);
  memcpy (whole, from->iov_base, from->iov_len);
  memcpy (&bv, whole + XSTATE_BV, sizeof bv);
  bv &= known.all;
  memcpy (whole + XSTATE_BV, &bv, sizeof bv);
  iov.iov_len = known.whole_len;
  return syscall (SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &iov);
}
#endif

/* In place of the C library's, with its habit for the PEEK requests. */
long
ptrace (enum __ptrace_request request, ...)
{
  va_list ap;
  pid_t pid;
  void *addr, *data;
  long word, r;

  va_start (ap, request);
  pid = va_arg (ap, pid_t);
  addr = va_arg (ap, void *);
  data = va_arg (ap, void *);
  va_end (ap);
  switch ((int) request) {
  case PTRACE_PEEKTEXT:
  case PTRACE_PEEKDATA:
  case PTRACE_PEEKUSER:
    r = syscall (SYS_ptrace, request, pid, addr, &word);
    if (r == -1)
      return r;
    errno = 0;
    return word;
#ifdef __x86_64__
  case PTRACE_SETREGSET:
    if ((uintptr_t) addr == NT_X86_XSTATE)
      return set_xstate (pid, data);
#endif
    /* fallthrough */
  default:
    return syscall (SYS_ptrace, request, pid, addr, data);
  }
}
