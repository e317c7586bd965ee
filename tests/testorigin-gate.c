/* SPDX-License-Identifier: BSD-3-Clause
 *
 * testorigin-gate - see testorigin-gate.h.
 *
 * One instance per process, like the plugin that it serves: nbdkit gives a
 * plugin no other place to keep it.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "testorigin-gate.h"

static const char *const kind_names[KINDS] = {
  "read", "write", "flush", "trim", "zero", "cache", "extents",
};

struct door {
  bool closed;
  uint64_t waiting;
  uint64_t permits;
};

struct fault {
  enum kind kind;               /* KINDS: any */
  uint64_t start, end;
  int err;
  int64_t count;                /* negative: for ever */
};

struct record {
  enum kind kind;
  unsigned conn, flags;
  const char *export;
  uint64_t off, len;
  uint64_t start_ns, finish_ns;
  uint64_t finished_as;         /* 0: still under way; else its place, from 1 */
  int err;
};

/* A soak run would otherwise keep every command it ever saw. */
#define MAX_RECORDS (1 << 20)
#define MAX_FAULTS 64

static struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;       /* doors, waiting and finished counts */

  /* Guarded by lock. */
  struct door doors[2 * KINDS];
  struct fault faults[MAX_FAULTS];
  size_t nfaults;
  double delay[KINDS], jitter;
  uint64_t seed;
  uint64_t die_in[KINDS];       /* 0: not at all */
  struct passage *in_flight;
  struct record *records;
  size_t nrecords, records_alloc;
  uint64_t started, finished, generation;
  uint64_t count[KINDS], done[KINDS], errors[KINDS], bytes[KINDS], fua;
  unsigned inflight_now, inflight_max;
  unsigned conns_now, conns_total;
  uint64_t overlaps, rw_overlaps, misaligned, unlogged;
  int log_fd;
} g = {
  .lock = PTHREAD_MUTEX_INITIALIZER,
  .changed = PTHREAD_COND_INITIALIZER,
  .log_fd = -1,
};

static uint64_t
now_ns (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int
gate_kind (const char *name)
{
  int k;

  for (k = 0; k < KINDS; ++k)
    if (strcmp (name, kind_names[k]) == 0)
      return k;
  return strcmp (name, "all") == 0 ? KINDS : -1;
}

int
gate_door (const char *name)
{
  char base[32];
  const char *dot = strchr (name, '.');
  int k;

  if (dot == NULL) {
    k = gate_kind (name);
    return k == KINDS ? GATE_ALL : k;
  }
  if (strcmp (dot, ".reply") != 0 || (size_t) (dot - name) >= sizeof base)
    return -1;
  memcpy (base, name, dot - name);
  base[dot - name] = '\0';
  k = gate_kind (base);
  return k < 0 || k == KINDS ? -1 : KINDS + k;
}

int
gate_open_log (const char *path)
{
  g.log_fd = open (path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  return g.log_fd == -1 ? errno : 0;
}

void
gate_set_delay (enum kind kind, double seconds)
{
  int k;

  pthread_mutex_lock (&g.lock);
  for (k = 0; k < KINDS; ++k)
    if (kind == KINDS || k == (int) kind)
      g.delay[k] = seconds;
  pthread_mutex_unlock (&g.lock);
}

void
gate_set_jitter (double seconds)
{
  g.jitter = seconds;
}

/* One line as the command comes, one as it goes, each a single write (2), so
 * that the file is complete up to the moment the process is killed.
 */
static void
log_line_locked (const char *fmt, const struct passage *p, int err)
{
  char line[256];
  int n;

  if (g.log_fd == -1)
    return;
  n = snprintf (line, sizeof line,
                "%s %" PRIu64 " %s conn=%u export=%s off=%" PRIu64
                " len=%" PRIu64 "%s%s%s err=%d\n",
                fmt, p->id, kind_names[p->kind], p->conn, p->export, p->off,
                p->len, p->flags & GATE_FUA ? " fua" : "",
                p->flags & GATE_MAY_TRIM ? " may_trim" : "",
                p->flags & GATE_FAST ? " fast" : "", err);
  if (n > (int) sizeof line)
    n = sizeof line;
  if (write (g.log_fd, line, n) != n)
    g.unlogged++;
}

static bool
is_write_like (enum kind k)
{
  return k == KIND_WRITE || k == KIND_ZERO || k == KIND_TRIM;
}

/* A well behaved cache never has two commands for one byte under way of which
 * one writes (D5, nbd.N-21); tests read these counters.
 */
static void
count_overlaps_locked (const struct passage *p)
{
  const struct passage *q;

  if (p->len == 0)
    return;
  for (q = g.in_flight; q; q = q->next) {
    if (q->export != p->export || q->off >= p->off + p->len
        || p->off >= q->off + q->len)
      continue;
    if (is_write_like (p->kind) && is_write_like (q->kind))
      g.overlaps++;
    else if ((is_write_like (p->kind) && q->kind == KIND_READ)
             || (is_write_like (q->kind) && p->kind == KIND_READ))
      g.rw_overlaps++;
  }
}

static void
record_start_locked (struct passage *p)
{
  struct record *r;

  p->generation = g.generation;
  p->id = ++g.started;
  log_line_locked ("start", p, 0);
  if (g.nrecords == MAX_RECORDS) {
    g.unlogged++;
    return;
  }
  if (g.nrecords == g.records_alloc) {
    size_t n = g.records_alloc ? 2 * g.records_alloc : 1024;

    r = realloc (g.records, n * sizeof *r);
    if (r == NULL) {
      g.unlogged++;
      return;
    }
    g.records = r;
    g.records_alloc = n;
  }
  r = &g.records[g.nrecords++];
  *r = (struct record) {
    .kind = p->kind, .conn = p->conn, .flags = p->flags, .export = p->export,
    .off = p->off, .len = p->len, .start_ns = now_ns (),
  };
}

static double
delay_locked (enum kind k)
{
  double d = g.delay[k];

  if (g.jitter > 0) {
    g.seed = g.seed * 6364136223846793005u + 1442695040888963407u;
    d += g.jitter * (double) (g.seed >> 33) / (double) (1u << 31);
  }
  return d;
}

/* ppoll rather than a condition with a deadline: nobody ever cuts a delay
 * short, and a hundred waiting commands shall not meet at one lock.
 */
static void
wait_for (double seconds)
{
  uint64_t end = now_ns () + (uint64_t) (seconds * 1e9);

  for (;;) {
    uint64_t now = now_ns ();
    struct timespec ts;

    if (now >= end)
      return;
    ts.tv_sec = (end - now) / 1000000000;
    ts.tv_nsec = (end - now) % 1000000000;
    ppoll (NULL, 0, &ts, NULL);
  }
}

static void
pass_door_locked (int door)
{
  struct door *d = &g.doors[door];

  if (!d->closed)
    return;
  d->waiting++;
  pthread_cond_broadcast (&g.changed);
  while (d->closed && d->permits == 0)
    pthread_cond_wait (&g.changed, &g.lock);
  if (d->closed)
    d->permits--;
  d->waiting--;
  pthread_cond_broadcast (&g.changed);
}

static int
fault_locked (const struct passage *p)
{
  size_t i;

  for (i = 0; i < g.nfaults; ++i) {
    struct fault *f = &g.faults[i];

    if (f->count == 0 || (f->kind != KINDS && f->kind != p->kind))
      continue;
    if (p->kind != KIND_FLUSH
        && (p->off >= f->end || f->start >= p->off + p->len))
      continue;
    if (f->count > 0)
      f->count--;
    return f->err;
  }
  return 0;
}

int
gate_enter (struct passage *p)
{
  double d;
  int err;

  pthread_mutex_lock (&g.lock);
  record_start_locked (p);
  g.count[p->kind]++;
  g.bytes[p->kind] += p->len;
  if (p->flags & GATE_FUA)
    g.fua++;
  if (++g.inflight_now > g.inflight_max)
    g.inflight_max = g.inflight_now;
  count_overlaps_locked (p);
  p->next = g.in_flight;
  p->prev = &g.in_flight;
  if (p->next)
    p->next->prev = &p->next;
  g.in_flight = p;
  if (g.die_in[p->kind] > 0 && --g.die_in[p->kind] == 0)
    kill (getpid (), SIGKILL);
  d = delay_locked (p->kind);
  if (d > 0) {
    pthread_mutex_unlock (&g.lock);
    wait_for (d);
    pthread_mutex_lock (&g.lock);
  }
  pass_door_locked (p->kind);
  err = fault_locked (p);
  pthread_mutex_unlock (&g.lock);
  return err;
}

void
gate_leave (struct passage *p, int err)
{
  pthread_mutex_lock (&g.lock);
  pass_door_locked (KINDS + p->kind);
  *p->prev = p->next;
  if (p->next)
    p->next->prev = p->prev;
  g.inflight_now--;
  g.done[p->kind]++;
  if (err)
    g.errors[p->kind]++;
  log_line_locked ("finish", p, err);
  if (p->generation == g.generation) {
    g.finished++;
    if (p->id <= g.nrecords) {
      struct record *r = &g.records[p->id - 1];

      r->finish_ns = now_ns ();
      r->finished_as = g.finished;
      r->err = err;
    }
  }
  pthread_cond_broadcast (&g.changed);
  pthread_mutex_unlock (&g.lock);
}

void
gate_connection (int change)
{
  pthread_mutex_lock (&g.lock);
  g.conns_now += change;
  if (change > 0)
    g.conns_total++;
  pthread_mutex_unlock (&g.lock);
}

void
gate_misaligned (void)
{
  pthread_mutex_lock (&g.lock);
  g.misaligned++;
  pthread_mutex_unlock (&g.lock);
}

void
gate_close (int door)
{
  int i;

  pthread_mutex_lock (&g.lock);
  /* "all" means the doors before the effect: reply doors are asked by name. */
  for (i = 0; i < 2 * KINDS; ++i)
    if (i == door || (door == GATE_ALL && i < KINDS)) {
      g.doors[i].closed = true;
      g.doors[i].permits = 0;
    }
  pthread_mutex_unlock (&g.lock);
}

void
gate_open (int door)
{
  int i;

  pthread_mutex_lock (&g.lock);
  for (i = 0; i < 2 * KINDS; ++i)
    if (i == door || door == GATE_ALL)
      g.doors[i].closed = false;
  pthread_cond_broadcast (&g.changed);
  pthread_mutex_unlock (&g.lock);
}

void
gate_release (int door, uint64_t n)
{
  pthread_mutex_lock (&g.lock);
  if (door < GATE_ALL)
    g.doors[door].permits += n;
  pthread_cond_broadcast (&g.changed);
  pthread_mutex_unlock (&g.lock);
}

static int
wait_until (const uint64_t *count, uint64_t n, double seconds)
{
  struct timespec ts;
  int err = 0;

  clock_gettime (CLOCK_REALTIME, &ts);
  ts.tv_sec += (time_t) seconds;
  ts.tv_nsec += (long) ((seconds - (double) (time_t) seconds) * 1e9);
  if (ts.tv_nsec >= 1000000000) {
    ts.tv_sec++;
    ts.tv_nsec -= 1000000000;
  }
  pthread_mutex_lock (&g.lock);
  while (*count < n && err == 0)
    err = pthread_cond_timedwait (&g.changed, &g.lock, &ts);
  if (*count >= n)
    err = 0;
  pthread_mutex_unlock (&g.lock);
  return err;
}

int
gate_wait_at_door (int door, uint64_t n, double seconds)
{
  if (door >= GATE_ALL)
    return EINVAL;
  return wait_until (&g.doors[door].waiting, n, seconds);
}

int
gate_wait_finished (enum kind kind, uint64_t n, double seconds)
{
  if (kind >= KINDS)
    return EINVAL;
  return wait_until (&g.done[kind], n, seconds);
}

int
gate_fail (enum kind kind, uint64_t start, uint64_t end, int err,
           int64_t count)
{
  size_t i;
  int r = ENOSPC;

  pthread_mutex_lock (&g.lock);
  for (i = 0; i < g.nfaults && g.faults[i].count != 0; ++i)
    ;
  if (i < MAX_FAULTS) {
    if (i == g.nfaults)
      g.nfaults++;
    g.faults[i] = (struct fault) { kind, start, end, err, count };
    r = 0;
  }
  pthread_mutex_unlock (&g.lock);
  return r;
}

void
gate_clear_faults (void)
{
  pthread_mutex_lock (&g.lock);
  g.nfaults = 0;
  pthread_mutex_unlock (&g.lock);
}

void
gate_die_at (enum kind kind, uint64_t n)
{
  if (kind >= KINDS)
    kill (getpid (), SIGKILL);
  pthread_mutex_lock (&g.lock);
  g.die_in[kind] = n;
  pthread_mutex_unlock (&g.lock);
}

uint64_t
gate_print_log (FILE *fp)
{
  size_t i;
  uint64_t n;

  pthread_mutex_lock (&g.lock);
  n = g.nrecords;
  for (i = 0; i < g.nrecords; ++i) {
    const struct record *r = &g.records[i];

    fprintf (fp,
             "%zu %s conn=%u export=%s off=%" PRIu64 " len=%" PRIu64
             "%s%s%s start_ns=%" PRIu64 " finish_ns=%" PRIu64
             " finished_as=%" PRIu64 " err=%d\n",
             i + 1, kind_names[r->kind], r->conn, r->export, r->off, r->len,
             r->flags & GATE_FUA ? " fua" : "",
             r->flags & GATE_MAY_TRIM ? " may_trim" : "",
             r->flags & GATE_FAST ? " fast" : "", r->start_ns, r->finish_ns,
             r->finished_as, r->err);
  }
  pthread_mutex_unlock (&g.lock);
  return n;
}

void
gate_clear_log (void)
{
  pthread_mutex_lock (&g.lock);
  g.generation++;
  g.nrecords = 0;
  g.started = g.finished = 0;
  memset (g.count, 0, sizeof g.count);
  memset (g.done, 0, sizeof g.done);
  memset (g.errors, 0, sizeof g.errors);
  memset (g.bytes, 0, sizeof g.bytes);
  g.fua = g.overlaps = g.rw_overlaps = g.misaligned = g.unlogged = 0;
  g.inflight_max = g.inflight_now;
  pthread_mutex_unlock (&g.lock);
}

void
gate_print_stats (FILE *fp)
{
  int k;

  pthread_mutex_lock (&g.lock);
  for (k = 0; k < KINDS; ++k)
    fprintf (fp,
             "%s=%" PRIu64 "\n%s_done=%" PRIu64 "\n%s_errors=%" PRIu64
             "\n%s_bytes=%" PRIu64 "\n%s_waiting=%" PRIu64 "\n",
             kind_names[k], g.count[k], kind_names[k], g.done[k],
             kind_names[k], g.errors[k], kind_names[k], g.bytes[k],
             kind_names[k], g.doors[k].waiting);
  fprintf (fp,
           "fua=%" PRIu64 "\nin_flight=%u\nin_flight_max=%u\n"
           "connections=%u\nconnections_total=%u\noverlaps=%" PRIu64
           "\nrw_overlaps=%" PRIu64 "\nmisaligned=%" PRIu64
           "\nunlogged=%" PRIu64 "\n",
           g.fua, g.inflight_now, g.inflight_max, g.conns_now, g.conns_total,
           g.overlaps, g.rw_overlaps, g.misaligned, g.unlogged);
  pthread_mutex_unlock (&g.lock);
}
