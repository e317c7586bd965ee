/* SPDX-License-Identifier: BSD-3-Clause
 *
 * bench-traces - the eviction policy on recorded block traces.
 *
 * Answers: which share of page accesses would miss, beside other policies, and
 * do the goals for the hit ratio hold?
 *
 *   bench-traces [--json FILE] [DIR]
 *
 * DIR ($TRACES, else ../shared/traces beside the source tree) holds NAME.csv.zst
 * or NAME.csv, a request a line after a header: t_us,op,off512,n512.  Reads and
 * writes both count, each 4 KiB page they touch once, from the first request on.
 * Cache sizes are 1, 5, 10, 20 and 40 % of the pages that ever occur.
 *
 * LRU, FIFO, CLOCK and the optimum (the page used last in the future leaves) are
 * computed here.  Other policies come from DIR/reference.csv (trace,
 * cache_pages,policy,miss_ratio), against which our LRU is checked.
 *
 * Exit: 0 goals hold, or no traces there; 1 one does not; 2 an error.
 */
#include <config.h>

#undef NDEBUG
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compiler.h"
#include "evict.h"

static const double shares[] = { 0.01, 0.05, 0.10, 0.20, 0.40 };
#define NSHARES PC_ARRAY_SIZE (shares)

/* The goals: relative to the other's misses, the stricter reading. */
#define DISK_MEAN_OVER_BEST 0.01
#define DISK_CELL_OVER_LRU 0.05
#define LOOP_MEAN_OVER_LIRS 0.08
#define LOOP_CELL_OVER_LRU 0.12
#define LRU_TOLERANCE 0.001

enum policy {
  OURS, LRU, FIFO, CLOCK, OPTIMUM, TWOQ, ARC, LIRS, S3FIFO, SIEVE, WTINYLFU,
  NPOLICIES
};
static const char *const names[NPOLICIES] = {
  "ours", "LRU", "FIFO", "CLOCK", "Belady", "2Q", "ARC", "LIRS", "S3-FIFO",
  "SIEVE", "W-TinyLFU",
};

#define NONE UINT32_MAX

/* Accesses by page, pages numbered from 0 as they come. */
struct trace {
  char name[64];
  uint32_t *access;
  size_t n, room;
  uint32_t npages;
  bool loop, has_reference;
  uint32_t cache[NSHARES];
  double miss[NSHARES][NPOLICIES];      /* NAN: not known */
};

static void *
get_memory (size_t n, size_t size)
{
  void *p = calloc (n ? n : 1, size);

  if (p == NULL) {
    perror ("bench-traces");
    exit (2);
  }
  return p;
}

/* Page number to its number in order: open addressing. */
struct table {
  uint64_t *key;                /* page + 1, 0 = free */
  uint32_t *value;
  size_t mask;
  uint32_t n;
};

static uint32_t
number_page (struct table *t, uint64_t page)
{
  size_t i;

  if ((size_t) t->n * 2 >= t->mask) {
    struct table big = { .mask = t->mask ? t->mask * 4 + 3 : (1 << 16) - 1 };

    big.key = get_memory (big.mask + 1, sizeof *big.key);
    big.value = get_memory (big.mask + 1, sizeof *big.value);
    for (size_t k = 0; t->mask && k <= t->mask; k++)
      if (t->key[k]) {
        i = evict_key (0, t->key[k] - 1) & big.mask;
        while (big.key[i])
          i = (i + 1) & big.mask;
        big.key[i] = t->key[k];
        big.value[i] = t->value[k];
      }
    big.n = t->n;
    free (t->key);
    free (t->value);
    *t = big;
  }
  i = evict_key (0, page) & t->mask;
  while (t->key[i] && t->key[i] != page + 1)
    i = (i + 1) & t->mask;
  if (t->key[i] == 0) {
    t->key[i] = page + 1;
    t->value[i] = t->n++;
  }
  return t->value[i];
}

static void
add_access (struct trace *t, uint32_t page)
{
  if (t->n == t->room) {
    t->room = t->room ? t->room * 2 : 1 << 16;
    t->access = realloc (t->access, t->room * sizeof *t->access);
    if (t->access == NULL) {
      perror ("bench-traces");
      exit (2);
    }
  }
  t->access[t->n++] = page;
}

/* file is in the current folder and has a harmless name. */
static void
read_trace (struct trace *t, const char *file, bool packed)
{
  struct table table = { 0 };
  char command[128], line[256];
  FILE *f;
  int status;

  snprintf (command, sizeof command, "zstd -dcq -- %s", file);
  f = packed ? popen (command, "r") : fopen (file, "r");
  if (f == NULL) {
    perror (file);
    exit (2);
  }
  while (fgets (line, sizeof line, f)) {
    unsigned long long off, n;
    char op;

    if (sscanf (line, "%*[0-9.],%c,%llu,%llu", &op, &off, &n) != 3 || n == 0)
      continue;                 /* the header */
    for (uint64_t p = off / 8; p <= (off + n - 1) / 8; p++)
      add_access (t, number_page (&table, p));
  }
  status = packed ? pclose (f) : fclose (f);
  if (status != 0 || t->n == 0) {
    fprintf (stderr, "bench-traces: %s: cannot be read\n", file);
    exit (2);
  }
  t->npages = table.n;
  free (table.key);
  free (table.value);
}

/* The policies: misses of trace t with c frames. */

static size_t
run_ours (const struct trace *t, uint32_t c)
{
  struct evict e;
  void *mem = aligned_alloc (64, evict_size (c));
  uint32_t *frame_of = get_memory (t->npages, sizeof *frame_of);
  uint32_t *page_of = get_memory (c, sizeof *page_of);
  uint32_t *spare = get_memory (c, sizeof *spare), nspare = 0, out[64];
  size_t misses = 0;

  assert (mem);
  evict_init (&e, mem, c);
  for (uint32_t f = c; f-- > 0;)
    spare[nspare++] = f;
  memset (frame_of, 0xff, t->npages * sizeof *frame_of);
  for (size_t i = 0; i < t->n; i++) {
    uint32_t page = t->access[i], f = frame_of[page];

    if (f != NONE) {
      evict_touch (&e, f);
      continue;
    }
    misses++;
    if (nspare == 0) {
      unsigned n = evict_pick (&e, out, evict_batch (&e), 0);

      assert (n > 0);
      for (unsigned k = 0; k < n; k++) {
        evict_gone (&e, out[k], evict_key (1, page_of[out[k]]));
        frame_of[page_of[out[k]]] = NONE;
        spare[nspare++] = out[k];
      }
    }
    f = spare[--nspare];
    frame_of[page] = f;
    page_of[f] = page;
    evict_insert (&e, f, evict_key (1, page), 0);
  }
  evict_check (&e);
  free (mem);
  free (frame_of);
  free (page_of);
  free (spare);
  return misses;
}

/* A doubly linked list of pages with the head at index npages. */
static size_t
run_lru (const struct trace *t, uint32_t c)
{
  uint32_t head = t->npages, count = 0;
  uint32_t *next = get_memory ((size_t) head + 1, sizeof *next);
  uint32_t *prev = get_memory ((size_t) head + 1, sizeof *prev);
  size_t misses = 0;

  memset (next, 0xff, ((size_t) head + 1) * sizeof *next);
  next[head] = prev[head] = head;
  for (size_t i = 0; i < t->n; i++) {
    uint32_t page = t->access[i];

    if (next[page] != NONE) {
      next[prev[page]] = next[page];
      prev[next[page]] = prev[page];
    }
    else {
      misses++;
      if (count == c) {
        uint32_t victim = prev[head];

        prev[head] = prev[victim];
        next[prev[victim]] = head;
        next[victim] = NONE;
      }
      else
        count++;
    }
    next[page] = next[head];
    prev[page] = head;
    prev[next[head]] = page;
    next[head] = page;
  }
  free (next);
  free (prev);
  return misses;
}

/* FIFO, and with one bit a page CLOCK: a hand over a ring. */
static size_t
run_ring (const struct trace *t, uint32_t c, bool second_chance)
{
  uint32_t *ring = get_memory (c, sizeof *ring), hand = 0, count = 0;
  uint8_t *in = get_memory (t->npages, 1); /* 0 out, 1 in, 2 in and used */
  size_t misses = 0;

  for (size_t i = 0; i < t->n; i++) {
    uint32_t page = t->access[i];

    if (in[page]) {
      in[page] = second_chance ? 2 : 1;
      continue;
    }
    misses++;
    if (count < c)
      ring[count++] = page;
    else {
      while (in[ring[hand]] == 2) {
        in[ring[hand]] = 1;
        hand = (hand + 1) % c;
      }
      in[ring[hand]] = 0;
      ring[hand] = page;
      hand = (hand + 1) % c;
    }
    in[page] = 1;
  }
  free (ring);
  free (in);
  return misses;
}

/* A heap by the next use, the farthest on top; at[] finds a page in it. */
struct heap {
  uint32_t *page, *at;
  const uint32_t *use;
  uint32_t n;
};

static void
put_in_heap (struct heap *h, uint32_t i, uint32_t page)
{
  h->page[i] = page;
  h->at[page] = i;
}

static void
sift (struct heap *h, uint32_t i)
{
  uint32_t page = h->page[i];

  while (i > 0 && h->use[h->page[(i - 1) / 2]] < h->use[page]) {
    put_in_heap (h, i, h->page[(i - 1) / 2]);
    i = (i - 1) / 2;
  }
  for (;;) {
    uint32_t child = 2 * i + 1;

    if (child + 1 < h->n && h->use[h->page[child + 1]] > h->use[h->page[child]])
      child++;
    if (child >= h->n || h->use[h->page[child]] <= h->use[page])
      break;
    put_in_heap (h, i, h->page[child]);
    i = child;
  }
  put_in_heap (h, i, page);
}

static size_t
run_optimum (const struct trace *t, uint32_t c)
{
  uint32_t *next = get_memory (t->n, sizeof *next);
  uint32_t *use = get_memory (t->npages, sizeof *use);
  struct heap h = { .page = get_memory (c, sizeof (uint32_t)),
                    .at = get_memory (t->npages, sizeof (uint32_t)),
                    .use = use };
  size_t misses = 0;

  assert (t->n < NONE);
  memset (use, 0xff, t->npages * sizeof *use);
  for (size_t i = t->n; i-- > 0;) {
    next[i] = use[t->access[i]];
    use[t->access[i]] = (uint32_t) i;
  }
  memset (h.at, 0xff, t->npages * sizeof *h.at);
  for (size_t i = 0; i < t->n; i++) {
    uint32_t page = t->access[i];

    use[page] = next[i];
    if (h.at[page] == NONE) {
      misses++;
      if (h.n == c) {
        h.at[h.page[0]] = NONE;
        put_in_heap (&h, 0, page);
      }
      else {
        h.n++;
        put_in_heap (&h, h.n - 1, page);
      }
    }
    sift (&h, h.at[page]);
  }
  free (next);
  free (use);
  free (h.page);
  free (h.at);
  return misses;
}

static void
run_all (struct trace *t)
{
  for (unsigned s = 0; s < NSHARES; s++) {
    uint32_t c = (uint32_t) (t->npages * shares[s] + 1e-9);
    double n = (double) t->n;

    if (c == 0)
      c = 1;
    t->cache[s] = c;
    t->miss[s][OURS] = (double) run_ours (t, c) / n;
    t->miss[s][LRU] = (double) run_lru (t, c) / n;
    t->miss[s][FIFO] = (double) run_ring (t, c, false) / n;
    t->miss[s][CLOCK] = (double) run_ring (t, c, true) / n;
    t->miss[s][OPTIMUM] = (double) run_optimum (t, c) / n;
    for (unsigned p = TWOQ; p < NPOLICIES; p++)
      t->miss[s][p] = NAN;
  }
}

/* Take over what others reached; returns by how much LRU differs at most. */
static double
read_reference (struct trace *t, size_t ntraces)
{
  FILE *f = fopen ("reference.csv", "r");
  char line[256], trace[64], policy[32];
  double worst = 0;

  if (f == NULL) {
    printf ("No reference.csv: LRU, FIFO, CLOCK and the optimum only.\n");
    return 0;
  }
  while (fgets (line, sizeof line, f)) {
    unsigned long pages;
    double miss;

    if (sscanf (line, "%63[^,],%lu,%31[^,],%lf", trace, &pages, policy, &miss)
        != 4)
      continue;
    for (size_t i = 0; i < ntraces; i++)
      for (unsigned s = 0; s < NSHARES; s++) {
        if (strcmp (t[i].name, trace) != 0 || t[i].cache[s] != pages)
          continue;
        for (unsigned p = TWOQ; p < NPOLICIES; p++)
          if (strcmp (names[p], policy) == 0) {
            t[i].miss[s][p] = miss;
            t[i].has_reference = true;
          }
        if (strcmp (policy, "LRU") == 0
            && fabs (t[i].miss[s][LRU] - miss) > worst)
          worst = fabs (t[i].miss[s][LRU] - miss);
      }
  }
  fclose (f);
  return worst;
}

static void
print_table (const struct trace *t, size_t n)
{
  printf ("%-20s %5s %7s", "trace", "size", "pages");
  for (unsigned p = 0; p < NPOLICIES; p++)
    printf (" %9s", names[p]);
  printf (" %8s\n", "to LRU");
  for (size_t i = 0; i < n; i++)
    for (unsigned s = 0; s < NSHARES; s++) {
      printf ("%-20s %4.0f%% %7u", t[i].name, shares[s] * 100, t[i].cache[s]);
      for (unsigned p = 0; p < NPOLICIES; p++)
        if (isnan (t[i].miss[s][p]))
          printf (" %9s", "-");
        else
          printf (" %9.4f", t[i].miss[s][p]);
      printf (" %+7.1f%%\n",
              100 * (t[i].miss[s][OURS] / t[i].miss[s][LRU] - 1));
    }
}

/* Mean of policy p over the traces of a kind; NAN if one has no figure. */
static double
get_mean (const struct trace *t, size_t n, bool loop, enum policy p)
{
  double sum = 0;
  unsigned count = 0;

  for (size_t i = 0; i < n; i++)
    if (t[i].loop == loop && t[i].has_reference)
      for (unsigned s = 0; s < NSHARES; s++) {
        sum += t[i].miss[s][p];
        count++;
      }
  return count ? sum / count : NAN;
}

static bool
print_goal (const char *what, double is, double most)
{
  bool holds = is <= most;

  printf ("%-58s %8.4f <= %8.4f  %s\n", what, is, most,
          isnan (is) || isnan (most) ? "not measurable"
          : holds                    ? "holds"
                                     : "DOES NOT HOLD");
  return isnan (is) || isnan (most) || holds;
}

/* Worst cell of a kind, as a ratio to LRU. */
static double
get_worst (const struct trace *t, size_t n, bool loop)
{
  double worst = NAN;

  for (size_t i = 0; i < n; i++)
    if (t[i].loop == loop)
      for (unsigned s = 0; s < NSHARES; s++)
        worst = fmax (worst, t[i].miss[s][OURS] / t[i].miss[s][LRU]);
  return worst;
}

static bool
print_goals (const struct trace *t, size_t n, double lru_off)
{
  double best = INFINITY;
  enum policy which = LRU;
  char what[80];
  bool ok = true;

  for (unsigned loop = 0; loop < 2; loop++) {
    printf ("\nMean over %s with reference figures:", loop ? "loop traces"
                                                         : "disk traces");
    for (unsigned p = 0; p < NPOLICIES; p++)
      printf (" %s %.4f", names[p], get_mean (t, n, loop, p));
    printf ("\n");
  }
  printf ("\n");
  for (unsigned p = LRU; p < NPOLICIES; p++) {
    double mean = get_mean (t, n, false, p);

    if (p != FIFO && p != CLOCK && p != OPTIMUM && mean < best) {
      best = mean;
      which = p;
    }
  }
  if (isinf (best))
    best = NAN;
  ok &= print_goal ("our LRU differs from the reference's by at most", lru_off,
                    LRU_TOLERANCE);
  snprintf (what, sizeof what, "disk traces, mean, to the best single policy"
            " (%s) + 1 %%", names[which]);
  ok &= print_goal (what, get_mean (t, n, false, OURS),
                    best * (1 + DISK_MEAN_OVER_BEST));
  ok &= print_goal ("disk traces, worst cell, ratio to LRU",
                    get_worst (t, n, false), 1 + DISK_CELL_OVER_LRU);
  ok &= print_goal ("loop traces, mean, to LIRS + 8 %",
                    get_mean (t, n, true, OURS),
                    get_mean (t, n, true, LIRS) * (1 + LOOP_MEAN_OVER_LIRS));
  ok &= print_goal ("loop traces, worst cell, ratio to LRU",
                    get_worst (t, n, true), 1 + LOOP_CELL_OVER_LRU);
  return ok;
}

static void
write_json (FILE *f, const struct trace *t, size_t n, bool ok)
{
  fprintf (f, "{\n  \"goals_hold\": %s,\n  \"cells\": [", ok ? "true" : "false");
  for (size_t i = 0; i < n; i++)
    for (unsigned s = 0; s < NSHARES; s++) {
      fprintf (f, "%s\n    { \"trace\": \"%s\", \"share\": %g, \"pages\": %u",
               i || s ? "," : "", t[i].name, shares[s], t[i].cache[s]);
      for (unsigned p = 0; p < NPOLICIES; p++)
        if (!isnan (t[i].miss[s][p]))
          fprintf (f, ", \"%s\": %.5f", names[p], t[i].miss[s][p]);
      fprintf (f, " }");
    }
  fprintf (f, "\n  ]\n}\n");
  if (fclose (f) != 0) {
    perror ("bench-traces: --json");
    exit (2);
  }
}

static int
compare_traces (const void *a, const void *b)
{
  return strcmp (((const struct trace *) a)->name,
                 ((const struct trace *) b)->name);
}

/* Every trace of the current folder. */
static size_t
read_folder (struct trace **ret)
{
  static const char *const suffixes[] = { ".csv.zst", ".csv" };
  struct trace *t = NULL;
  struct dirent *d;
  size_t n = 0;
  DIR *dir = opendir (".");

  if (dir == NULL) {
    perror ("bench-traces");
    exit (2);
  }
  while ((d = readdir (dir)) != NULL) {
    size_t len = strlen (d->d_name);

    /* The name goes into a command line. */
    if (len >= sizeof t->name || d->d_name[0] == '.' || d->d_name[0] == '-'
        || d->d_name[strspn (d->d_name, "abcdefghijklmnopqrstuvwxyz"
                             "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")]
        || strcmp (d->d_name, "reference.csv") == 0)
      continue;
    for (unsigned k = 0; k < PC_ARRAY_SIZE (suffixes); k++) {
      size_t s = strlen (suffixes[k]);

      if (len <= s || strcmp (d->d_name + len - s, suffixes[k]) != 0)
        continue;
      t = realloc (t, (n + 1) * sizeof *t);
      if (t == NULL) {
        perror ("bench-traces");
        exit (2);
      }
      memset (&t[n], 0, sizeof t[n]);
      memcpy (t[n].name, d->d_name, len - s);
      t[n].loop = strncmp (d->d_name, "lirs_", 5) == 0;
      read_trace (&t[n++], d->d_name, k == 0);
      break;
    }
  }
  closedir (dir);
  if (n > 0)
    qsort (t, n, sizeof *t, compare_traces);
  *ret = t;
  return n;
}

int
main (int argc, char *argv[])
{
  const char *json = NULL, *dir = getenv ("TRACES"), *src = getenv ("srcdir");
  char fallback[4096];
  struct trace *t;
  FILE *f = NULL;
  double lru_off;
  size_t n;
  bool ok;

  for (int i = 1; i < argc; i++)
    if (strcmp (argv[i], "--json") == 0 && i + 1 < argc)
      json = argv[++i];
    else if (argv[i][0] == '-') {
      fprintf (stderr, "usage: bench-traces [--json FILE] [DIR]\n");
      return 2;
    }
    else
      dir = argv[i];
  if (dir == NULL || *dir == '\0') {
    snprintf (fallback, sizeof fallback, "%s/../shared/traces",
              src && *src ? src : ".");
    dir = fallback;
  }
  if (json && (f = fopen (json, "w")) == NULL) {
    perror (json);
    return 2;
  }
  if (chdir (dir) == -1) {
    printf ("bench-traces: skipped: no traces in %s (%s); TRACES=DIR names"
            " another place\n", dir, strerror (errno));
    return 0;
  }
  n = read_folder (&t);
  if (n == 0) {
    printf ("bench-traces: skipped: no NAME.csv.zst in %s\n", dir);
    return 0;
  }
  for (size_t i = 0; i < n; i++)
    run_all (&t[i]);
  lru_off = read_reference (t, n);
  print_table (t, n);
  ok = print_goals (t, n, lru_off);
  if (f)
    write_json (f, t, n, ok);
  for (size_t i = 0; i < n; i++)
    free (t[i].access);
  free (t);
  return ok ? 0 : 1;
}
