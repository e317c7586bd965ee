/* SPDX-License-Identifier: BSD-3-Clause
 *
 * originctl - say something to the test origin's control socket.
 *
 *   originctl SOCKET COMMAND...          one command, its words as arguments
 *   originctl SOCKET -                   commands from standard input
 *
 * Prints what the origin answers, without the final "ok".  Exit status 0: ok;
 * 1: the origin answered "error" (printed on standard error) or has gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int
connect_to (const char *path)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM, 0);

  if (fd == -1 || strlen (path) >= sizeof sun.sun_path)
    return -1;
  strcpy (sun.sun_path, path);
  if (connect (fd, (struct sockaddr *) &sun, sizeof sun) == -1) {
    close (fd);
    return -1;
  }
  return fd;
}

/* Print one answer; 0 if it ended with "ok". */
static int
answer (FILE *in)
{
  char *line = NULL;
  size_t alloc = 0;
  int r = 1;

  while (getline (&line, &alloc, in) > 0) {
    if (strcmp (line, "ok\n") == 0) {
      r = 0;
      break;
    }
    if (strncmp (line, "error ", 6) == 0) {
      fprintf (stderr, "originctl: %s", line);
      break;
    }
    fputs (line, stdout);
  }
  free (line);
  return r;
}

int
main (int argc, char *argv[])
{
  char *line = NULL;
  size_t alloc = 0;
  FILE *in, *out;
  int fd, i, r = 0;

  if (argc < 3) {
    fprintf (stderr, "usage: originctl SOCKET COMMAND...\n");
    return 2;
  }
  fd = connect_to (argv[1]);
  if (fd == -1) {
    fprintf (stderr, "originctl: %s: %s\n", argv[1], strerror (errno));
    return 1;
  }
  in = fdopen (fd, "r");
  out = fdopen (dup (fd), "w");
  if (in == NULL || out == NULL)
    return 1;
  if (strcmp (argv[2], "-") != 0) {
    for (i = 2; i < argc; ++i)
      fprintf (out, "%s%c", argv[i], i + 1 < argc ? ' ' : '\n');
    fflush (out);
    r = answer (in);
  }
  else
    while (r == 0 && getline (&line, &alloc, stdin) > 0) {
      fputs (line, out);
      fflush (out);
      r = answer (in);
    }
  free (line);
  return r;
}
