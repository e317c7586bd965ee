/* SPDX-License-Identifier: BSD-3-Clause
 *
 * testorigin-control - the test origin's control socket.
 *
 * Answers: how does a test tell the origin what to hold, fail or forget?
 * The commands are listed at the head of testorigin.c.
 *
 * Threads  one that accepts, one a client; a client that waits for a door
 *          leaves the others free to open it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "testorigin.h"
#include "testorigin-gate.h"

#define MAX_CLIENTS 64
#define MAX_WORDS 8
#define WAIT_SECONDS 30

static struct {
  int listen_fd;
  pthread_t thread;
  bool started;

  pthread_mutex_t lock;
  pthread_cond_t gone;
  /* Guarded by lock. */
  int fds[MAX_CLIENTS];
  int nclients;
} ctl = {
  .listen_fd = -1,
  .lock = PTHREAD_MUTEX_INITIALIZER,
  .gone = PTHREAD_COND_INITIALIZER,
};

struct words {
  int n;
  char *w[MAX_WORDS];
};

static double
seconds_of (const struct words *a, int i)
{
  return a->n > i ? strtod (a->w[i], NULL) : WAIT_SECONDS;
}

/* A number in C's notation, signed so that a count may say "for ever". */
static int64_t
number_of (const struct words *a, int i, int64_t otherwise)
{
  return a->n > i ? strtoll (a->w[i], NULL, 0) : otherwise;
}

static int
do_door (const struct words *a)
{
  int door = a->n > 1 ? gate_door (a->w[1]) : -1;

  if (door < 0)
    return EINVAL;
  if (strcmp (a->w[0], "close") == 0)
    gate_close (door);
  else if (strcmp (a->w[0], "open") == 0)
    gate_open (door);
  else if (strcmp (a->w[0], "release") == 0)
    gate_release (door, number_of (a, 2, 1));
  else
    return gate_wait_at_door (door, number_of (a, 2, 1), seconds_of (a, 3));
  return 0;
}

static int
do_kind (const struct words *a)
{
  int kind = a->n > 1 ? gate_kind (a->w[1]) : -1;
  int err;

  if (strcmp (a->w[0], "die") == 0)
    gate_die_at (a->n > 1 ? (enum kind) kind : KINDS, number_of (a, 2, 1));
  if (kind < 0)
    return EINVAL;
  if (strcmp (a->w[0], "delay") == 0)
    gate_set_delay (kind, a->n > 2 ? strtod (a->w[2], NULL) : 0);
  else if (strcmp (a->w[0], "finished") == 0)
    return gate_wait_finished (kind, number_of (a, 2, 1), seconds_of (a, 3));
  else if (strcmp (a->w[0], "fail") == 0) {
    err = a->n > 2 ? origin_parse_errno (a->w[2]) : 0;
    return err ? gate_fail (kind, 0, UINT64_MAX, err, number_of (a, 3, -1))
               : EINVAL;
  }
  else if (strcmp (a->w[0], "fail-range") == 0) {
    err = a->n > 4 ? origin_parse_errno (a->w[4]) : 0;
    return err ? gate_fail (kind, number_of (a, 2, 0), number_of (a, 3, 0), err,
                            number_of (a, 5, -1))
               : EINVAL;
  }
  return 0;
}

static void
forget_one (struct export *e, void *opaque)
{
  (void) opaque;
  image_forget (&e->img);
}

static void
flush_one (struct export *e, void *opaque)
{
  int err = image_flush (&e->img);

  if (err)
    *(int *) opaque = err;
}

static void
print_dirty (struct export *e, void *fp)
{
  fprintf (fp, "volatile.%s=%" PRIu64 "\n", e->name,
           image_dirty_bytes (&e->img));
}

static int
do_line (const struct words *a, FILE *fp)
{
  static const char *const doors[] = { "close", "open", "wait", "release" };
  static const char *const kinds[] = {
    "die", "delay", "finished", "fail", "fail-range",
  };
  int err = 0;
  size_t i;

  for (i = 0; i < sizeof doors / sizeof doors[0]; ++i)
    if (strcmp (a->w[0], doors[i]) == 0)
      return do_door (a);
  for (i = 0; i < sizeof kinds / sizeof kinds[0]; ++i)
    if (strcmp (a->w[0], kinds[i]) == 0)
      return do_kind (a);
  if (strcmp (a->w[0], "clearfail") == 0)
    gate_clear_faults ();
  else if (strcmp (a->w[0], "forget") == 0)
    origin_each_export (forget_one, NULL);
  else if (strcmp (a->w[0], "sync") == 0)
    origin_each_export (flush_one, &err);
  else if (strcmp (a->w[0], "log") == 0)
    gate_print_log (fp);
  else if (strcmp (a->w[0], "clearlog") == 0)
    gate_clear_log ();
  else if (strcmp (a->w[0], "stats") == 0) {
    gate_print_stats (fp);
    origin_each_export (print_dirty, fp);
  }
  else if (strcmp (a->w[0], "ping") != 0)
    err = EINVAL;
  return err;
}

static void
serve (FILE *in, FILE *out)
{
  char *line = NULL;
  size_t alloc = 0;

  while (getline (&line, &alloc, in) > 0) {
    struct words a = { 0 };
    char *save = NULL, *w;
    int err;

    for (w = strtok_r (line, " \t\n", &save); w && a.n < MAX_WORDS;
         w = strtok_r (NULL, " \t\n", &save))
      a.w[a.n++] = w;
    if (a.n == 0)
      continue;
    err = do_line (&a, out);
    if (err)
      fprintf (out, "error %s\n", strerror (err));
    else
      fprintf (out, "ok\n");
    if (fflush (out) == EOF)
      break;
  }
  free (line);
}

static void *
client_thread (void *opaque)
{
  int slot = (int) (intptr_t) opaque;
  int fd = ctl.fds[slot];
  int fd2 = dup (fd);
  FILE *in = fdopen (fd2, "r");
  FILE *out = fdopen (dup (fd), "w");

  if (in && out)
    serve (in, out);
  if (in)
    fclose (in);
  if (out)
    fclose (out);
  pthread_mutex_lock (&ctl.lock);
  close (fd);
  ctl.fds[slot] = -1;
  ctl.nclients--;
  pthread_cond_broadcast (&ctl.gone);
  pthread_mutex_unlock (&ctl.lock);
  return NULL;
}

static void
new_client (int fd)
{
  pthread_t t;
  int slot;

  pthread_mutex_lock (&ctl.lock);
  for (slot = 0; slot < MAX_CLIENTS && ctl.fds[slot] != -1; ++slot)
    ;
  if (slot < MAX_CLIENTS) {
    ctl.fds[slot] = fd;
    if (pthread_create (&t, NULL, client_thread, (void *) (intptr_t) slot)
        == 0) {
      pthread_detach (t);
      ctl.nclients++;
      fd = -1;
    }
    else
      ctl.fds[slot] = -1;
  }
  pthread_mutex_unlock (&ctl.lock);
  if (fd != -1)
    close (fd);
}

static void *
accept_thread (void *opaque)
{
  (void) opaque;
  for (;;) {
    int fd = accept4 (ctl.listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd == -1) {
      if (errno == EINTR || errno == ECONNABORTED)
        continue;
      return NULL;
    }
    new_client (fd);
  }
}

int
control_listen (const char *path)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  int i;

  for (i = 0; i < MAX_CLIENTS; ++i)
    ctl.fds[i] = -1;
  if (strlen (path) >= sizeof sun.sun_path)
    return ENAMETOOLONG;
  strcpy (sun.sun_path, path);
  /* An origin that was killed left its socket behind. */
  unlink (path);
  ctl.listen_fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (ctl.listen_fd == -1
      || bind (ctl.listen_fd, (struct sockaddr *) &sun, sizeof sun) == -1
      || listen (ctl.listen_fd, 16) == -1)
    return errno;
  return 0;
}

int
control_start (void)
{
  sigset_t all, old;
  int err;

  /* Signals are nbdkit's. */
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  err = pthread_create (&ctl.thread, NULL, accept_thread, NULL);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  ctl.started = err == 0;
  return err;
}

void
control_stop (void)
{
  int i;

  if (!ctl.started)
    return;
  shutdown (ctl.listen_fd, SHUT_RDWR);
  pthread_join (ctl.thread, NULL);
  close (ctl.listen_fd);
  pthread_mutex_lock (&ctl.lock);
  for (i = 0; i < MAX_CLIENTS; ++i)
    if (ctl.fds[i] != -1)
      shutdown (ctl.fds[i], SHUT_RDWR);
  while (ctl.nclients > 0)
    pthread_cond_wait (&ctl.gone, &ctl.lock);
  pthread_mutex_unlock (&ctl.lock);
  ctl.started = false;
}
