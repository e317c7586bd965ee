/* SPDX-License-Identifier: BSD-3-Clause
 *
 * descriptors - see descriptors.h.
 *
 * /proc/self/fd would tell how many are open, but is not there in every chroot.  A poll of
 * numbers, of which it says POLLNVAL when nothing is behind one, always works; the kernel gives
 * out the lowest first, so the free ones are found at the top.
 */
#include <config.h>

#include <limits.h>
#include <poll.h>
#include <sys/resource.h>

#include "descriptors.h"

#define CHUNK 256

static unsigned
limit (void)
{
  struct rlimit r;

  if (getrlimit (RLIMIT_NOFILE, &r) == -1)
    return 1024;
  return r.rlim_cur < INT_MAX ? r.rlim_cur : INT_MAX;
}

void
descriptors_raise (void)
{
  struct rlimit r;

  if (getrlimit (RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
    r.rlim_cur = r.rlim_max;
    setrlimit (RLIMIT_NOFILE, &r);      /* if not, it stays as it is */
  }
}

bool
descriptors_are_free (unsigned want)
{
  struct pollfd fds[CHUNK];
  unsigned top = limit (), n, i, got = 0;

  while (got < want && top > 0) {
    n = top < CHUNK ? top : CHUNK;
    top -= n;
    for (i = 0; i < n; i++)
      fds[i] = (struct pollfd) { .fd = top + i };
    if (poll (fds, n, 0) == -1)
      return true;              /* nobody can say: then it is tried */
    for (i = 0; i < n; i++)
      got += (fds[i].revents & POLLNVAL) != 0;
  }
  return got >= want;
}

unsigned
descriptors_reserve (void)
{
  unsigned n = limit () / 4;

  return n < 16 ? 16 : n > 1024 ? 1024 : n;
}
