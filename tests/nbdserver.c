/* SPDX-License-Identifier: BSD-3-Clause
 *
 * nbdserver - see nbdserver.h.
 */
#include <config.h>

#undef NDEBUG

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "nbdserver.h"

#define MAX_ARGS 40
#define START_SECONDS 60        /* valgrind is slow */

/* A test that fails leaves its server behind, perhaps with requests that no signal but this one ends. */
static pid_t running[64];

static void
kill_running (void)
{
  unsigned i;

  for (i = 0; i < 64; i++)
    if (running[i] != 0)
      kill (running[i], SIGKILL);
}

static void
note_running (pid_t was, pid_t is)
{
  unsigned i;

  for (i = 0; i < 64; i++)
    if (running[i] == was) {
      running[i] = is;
      return;
    }
}

static int
connect_to (const char *path)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  assert (fd != -1 && strlen (path) < sizeof sun.sun_path);
  strcpy (sun.sun_path, path);
  if (connect (fd, (struct sockaddr *) &sun, sizeof sun) == 0)
    return fd;
  close (fd);
  return -1;
}

void
nbdserver_init (struct nbdserver *s)
{
  const char *tmp = getenv ("TMPDIR");

  memset (s, 0, sizeof *s);
  snprintf (s->dir, sizeof s->dir, "%s/pc.XXXXXX", tmp != NULL && strlen (tmp) < 40 ? tmp : "/tmp");
  assert (mkdtemp (s->dir) != NULL);
  snprintf (s->socket, sizeof s->socket, "%s/o.sock", s->dir);
}

void
nbdserver_start (struct nbdserver *s, const char *args)
{
  char control[128], copy[1024], *argv[MAX_ARGS], *word, *save;
  time_t end = time (NULL) + START_SECONDS;
  const char *plugin = "tests/.libs/nbdkit-testorigin-plugin.so";
  char plugin_path[4096];
  int n = 0, fd;

  assert (s->pid == 0);
  assert (realpath (plugin, plugin_path) != NULL);
  unlink (s->socket);
  snprintf (control, sizeof control, "control=%s/o.ctl", s->dir);
  snprintf (copy, sizeof copy, "%s", args);
  argv[n++] = (char *) "tests/launch";
  argv[n++] = (char *) "nbdkit";
  argv[n++] = (char *) "-f";
  argv[n++] = (char *) "--exit-with-parent";
  argv[n++] = (char *) "-U";
  argv[n++] = s->socket;
  for (word = strtok_r (copy, " ", &save); word != NULL; word = strtok_r (NULL, " ", &save))
    if (word[0] == '-')
      argv[n++] = word;
  argv[n++] = plugin_path;
  argv[n++] = control;
  snprintf (copy, sizeof copy, "%s", args);
  for (word = strtok_r (copy, " ", &save); word != NULL; word = strtok_r (NULL, " ", &save)) {
    assert (n < MAX_ARGS - 1);
    if (word[0] != '-')
      argv[n++] = word;
  }
  argv[n] = NULL;

  s->pid = fork ();
  assert (s->pid != -1);
  if (s->pid == 0) {
    execv (argv[0], argv);
    _exit (127);
  }
  if (running[0] == 0)
    atexit (kill_running);
  note_running (0, s->pid);
  while ((fd = connect_to (s->socket)) == -1) {
    assert (waitpid (s->pid, NULL, WNOHANG) == 0);
    assert (time (NULL) < end);
    poll (NULL, 0, 2);
  }
  close (fd);
}

void
nbdserver_stop (struct nbdserver *s, int signal)
{
  if (s->pid == 0)
    return;
  kill (s->pid, signal);
  assert (waitpid (s->pid, NULL, 0) == s->pid);
  note_running (s->pid, 0);
  s->pid = 0;
}

void
nbdserver_pause (struct nbdserver *s)
{
  kill (s->pid, SIGSTOP);
  assert (waitpid (s->pid, NULL, WUNTRACED) == s->pid);
}

void
nbdserver_go_on (struct nbdserver *s)
{
  kill (s->pid, SIGCONT);
}

bool
nbdserver_died (struct nbdserver *s)
{
  if (waitpid (s->pid, NULL, WNOHANG) != s->pid)
    return false;
  note_running (s->pid, 0);
  s->pid = 0;
  return true;
}

void
nbdserver_release (struct nbdserver *s)
{
  char path[4096];
  struct dirent *entry;
  DIR *dir;

  nbdserver_stop (s, SIGKILL);
  dir = opendir (s->dir);
  assert (dir != NULL);
  while ((entry = readdir (dir)) != NULL) {
    snprintf (path, sizeof path, "%s/%s", s->dir, entry->d_name);
    unlink (path);
  }
  closedir (dir);
  rmdir (s->dir);
}

bool
nbdserver_say (struct nbdserver *s, char *answer, size_t len, const char *fmt, ...)
{
  char path[128], line[1024];
  bool ok = false;
  va_list args;
  FILE *fp;
  int fd;

  snprintf (path, sizeof path, "%s/o.ctl", s->dir);
  fd = connect_to (path);
  assert (fd != -1);
  fp = fdopen (fd, "r+");
  assert (fp != NULL);
  va_start (args, fmt);
  vfprintf (fp, fmt, args);
  va_end (args);
  fputc ('\n', fp);
  fflush (fp);
  if (len > 0)
    answer[0] = '\0';
  while (fgets (line, sizeof line, fp) != NULL) {
    if (strcmp (line, "ok\n") == 0)
      ok = true;
    if (ok || strncmp (line, "error", 5) == 0)
      break;
    if (len > 0)
      strncat (answer, line, len - strlen (answer) - 1);
  }
  fclose (fp);
  return ok;
}
