/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Answers: is segset.h as good as absl::btree_map, boost::icl and std::map (P11 of the goals)?
 *
 *      bench-segset [RANGES [ROUNDS]]          1000000 ranges, 3 rounds
 *
 * In each round each set, in turn, gets RANGES ranges at random places, in random order, of
 * which no two touch; then as many look-ups of random keys (half of them hit), walks over all,
 * and for each of RANGES random ranges: a piece is cut out of its middle (which splits
 * it) and put back (which merges three).  The same in ascending order for insertion, since
 * sequential reads are a cache's daily bread.
 *
 * Printed are medians over the rounds: ns of CPU time for each operation, and bytes of heap for each
 * range, malloc's own 8 included, after random and after ascending insertion.  Every result
 * goes into a checksum, and all sets must have the same.
 */
#include <absl/container/btree_map.h>
#include <boost/icl/interval_map.hpp>
#include <boost/version.hpp>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <malloc.h>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vector>

#include "bench-segset.h"

namespace {

size_t heap_bytes;

/* Counts as counted_alloc of bench-segset-ours.c does. */
template <typename T> struct counting {
  using value_type = T;

  counting () = default;
  template <typename U> counting (const counting<U> &) {}

  T *
  allocate (size_t n)
  {
    void *p = malloc (n * sizeof (T));

    if (!p)
      abort ();
    heap_bytes += malloc_usable_size (p) + 8;
    return static_cast<T *> (p);
  }

  void
  deallocate (T *p, size_t)
  {
    heap_bytes -= malloc_usable_size (p) + 8;
    free (p);
  }
};

template <typename T, typename U>
bool
operator== (const counting<T> &, const counting<U> &)
{
  return true;
}

template <typename T, typename U>
bool
operator!= (const counting<T> &, const counting<U> &)
{
  return false;
}

class ours {
  segset_bench *b = segset_bench_create ();

public:
  ours () = default;
  ours (const ours &) = delete;
  ~ours () { segset_bench_free (b); }

  size_t bytes () const { return segset_bench_bytes (b); }
  size_t count () const { return segset_bench_count (b); }
  uint64_t sum () const { return segset_bench_sum (b); }
  bench_hit find (uint64_t key) const { return segset_bench_find (b, key); }

  void
  insert (uint64_t start, uint32_t len, uint32_t val)
  {
    segset_bench_insert (b, start, len, val);
  }

  void
  remove (uint64_t start, uint32_t len)
  {
    segset_bench_remove (b, start, len);
  }
};

/* Ranges in an ordered map from start to (length, value): what one would write over
 * absl::btree_map or std::map.
 */
struct piece {
  uint32_t len, val;
};

template <typename Map> class over_map {
  Map map;

public:
  size_t bytes () const { return heap_bytes; }
  size_t count () const { return map.size (); }

  uint64_t
  sum () const
  {
    uint64_t sum = 0;

    for (const auto &it : map)
      sum += it.first ^ it.second.len ^ it.second.val;
    return sum;
  }

  bench_hit
  find (uint64_t key) const
  {
    auto it = map.upper_bound (key);

    if (it == map.begin ())
      return { 0, 0, 0 };
    --it;
    if (key - it->first >= it->second.len)
      return { 0, 0, 0 };
    return { it->first, it->second.len, it->second.val };
  }

  void
  insert (uint64_t start, uint32_t len, uint32_t val)
  {
    auto next = map.lower_bound (start);
    bool joins_next = next != map.end () && next->first == start + len
                      && next->second.val == val;

    if (next != map.end () && next->first < start + len)
      abort ();
    if (next != map.begin ()) {
      auto prev = next;

      --prev;
      if (prev->first + prev->second.len > start)
        abort ();
      if (prev->first + prev->second.len == start && prev->second.val == val) {
        prev->second.len += len;
        if (joins_next) {
          prev->second.len += next->second.len;
          map.erase (next);
        }
        return;
      }
    }
    if (joins_next) {
      len += next->second.len;
      next = map.erase (next);
    }
    map.insert (next, { start, { len, val } });
  }

  void
  remove (uint64_t start, uint32_t len)
  {
    uint64_t end = start + len;
    auto it = map.upper_bound (start);

    if (it != map.begin ()) {
      --it;
      if (it->first < start && it->first + it->second.len > start) {
        uint64_t it_end = it->first + it->second.len;
        uint32_t val = it->second.val;

        it->second.len = start - it->first;
        if (it_end > end) {
          ++it;
          map.insert (it, { end, { uint32_t (it_end - end), val } });
          return;
        }
      }
      if (it->first < start)
        ++it;
    }
    while (it != map.end () && it->first < end) {
      uint64_t it_end = it->first + it->second.len;
      uint32_t val = it->second.val;

      it = map.erase (it);
      if (it_end > end) {
        map.insert (it, { end, { uint32_t (it_end - end), val } });
        return;
      }
    }
  }
};

using absl_map
  = over_map<absl::btree_map<uint64_t, piece, std::less<uint64_t>,
                             counting<std::pair<const uint64_t, piece>>>>;
using std_map = over_map<std::map<uint64_t, piece, std::less<uint64_t>,
                                  counting<std::pair<const uint64_t, piece>>>>;

class icl_map {
  using interval = boost::icl::right_open_interval<uint64_t>;
  using map_type
    = boost::icl::interval_map<uint64_t, uint32_t, boost::icl::partial_enricher, std::less,
                               boost::icl::inplace_plus, boost::icl::inter_section,
                               interval, counting>;
  map_type map;

public:
  size_t bytes () const { return heap_bytes; }
  size_t count () const { return boost::icl::interval_count (map); }

  uint64_t
  sum () const
  {
    uint64_t sum = 0;

    for (const auto &it : map)
      sum += it.first.lower () ^ (it.first.upper () - it.first.lower ()) ^ it.second;
    return sum;
  }

  bench_hit
  find (uint64_t key) const
  {
    auto it = map.find (key);

    if (it == map.end ())
      return { 0, 0, 0 };
    return { it->first.lower (), uint32_t (it->first.upper () - it->first.lower ()),
             it->second };
  }

  void
  insert (uint64_t start, uint32_t len, uint32_t val)
  {
    map.insert (std::make_pair (interval (start, start + len), val));
  }

  void
  remove (uint64_t start, uint32_t len)
  {
    map.erase (interval (start, start + len));
  }
};

/* ---- what is done ---- */

struct workload {
  struct range {
    uint64_t start;
    uint32_t len, val;
  };
  std::vector<range> ascending, random;
  std::vector<uint64_t> keys;
};

uint64_t rng_state = 0x9e3779b97f4a7c15;

uint64_t
rng ()
{
  rng_state ^= rng_state << 13;
  rng_state ^= rng_state >> 7;
  rng_state ^= rng_state << 17;
  return rng_state >> 8;
}

workload
make_workload (size_t n)
{
  workload w;

  for (size_t i = 0; i < n; i++)
    w.ascending.push_back ({ i * 16384 + rng () % 4096, uint32_t (4096 + rng () % 8192),
                             uint32_t (1 + rng () % 100) });
  w.random = w.ascending;
  for (size_t i = n; i > 1; i--)
    std::swap (w.random[i - 1], w.random[rng () % i]);
  for (size_t i = 0; i < n; i++)
    w.keys.push_back (rng () % (n * 16384));
  return w;
}

enum { INSERT, FIND, WALK, CUT, LOAD, NPHASES };
const char *const phase_names[] = { "insert", "look up", "iterate", "split+merge", "load" };

/* What one run found. */
struct run_result {
  double ns[NPHASES];
  double random_bytes, load_bytes;
  uint64_t checksum;
};

struct result {
  std::string name;
  std::vector<double> ns[NPHASES];
  run_result last;
};

/* Of this thread alone: on a machine that does other things, too, the wall clock measures them. */
double
now_ns ()
{
  struct timespec ts;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &ts);
  return ts.tv_sec * 1e9 + ts.tv_nsec;
}

template <typename F>
double
timed (size_t n, F f)
{
  double begin = now_ns ();

  f ();
  return (now_ns () - begin) / n;
}

void
mix (uint64_t &sum, uint64_t x)
{
  sum = (sum ^ x) * 0x9ddfea08eb382d69 + 1;
}

template <typename Set>
run_result
run_here (const workload &w)
{
  size_t n = w.random.size ();
  uint64_t checksum = 0;
  run_result res;

  {
    Set set;

    res.ns[INSERT] = timed (n, [&] {
      for (const auto &r : w.random)
        set.insert (r.start, r.len, r.val);
    });
    res.random_bytes = double (set.bytes ()) / n;
    mix (checksum, set.count ());
    res.ns[FIND] = timed (n, [&] {
      for (uint64_t key : w.keys) {
        bench_hit hit = set.find (key);

        mix (checksum, hit.start + hit.len + hit.val);
      }
    });
    res.ns[WALK] = timed (n * 5, [&] {
      for (int i = 0; i < 5; i++)
        mix (checksum, set.sum ());
    });
    res.ns[CUT] = timed (n, [&] {
      for (const auto &r : w.random) {
        set.remove (r.start + 1000, 1000);
        set.insert (r.start + 1000, 1000, r.val);
      }
    });
    mix (checksum, set.count ());
    mix (checksum, set.sum ());
  }
  {
    Set set;

    res.ns[LOAD] = timed (n, [&] {
      for (const auto &r : w.ascending)
        set.insert (r.start, r.len, r.val);
    });
    res.load_bytes = double (set.bytes ()) / n;
    mix (checksum, set.sum ());
    /* Pieces cut at random leave unequal parts. */
    for (size_t i = 0; i < n; i += 7)
      set.remove (w.keys[i], 20000);
    mix (checksum, set.count ());
    mix (checksum, set.sum ());
  }
  res.checksum = checksum;
  return res;
}

/* In a process of its own, so that no set gets the heap that another one left. */
template <typename Set>
void
run (const workload &w, result &res)
{
  int fds[2], status;
  pid_t pid;

  fflush (stdout);
  if (pipe (fds) == -1 || (pid = fork ()) == -1) {
    perror ("bench-segset");
    exit (1);
  }
  if (pid == 0) {
    run_result r = run_here<Set> (w);

    _exit (write (fds[1], &r, sizeof r) != sizeof r);
  }
  close (fds[1]);
  if (read (fds[0], &res.last, sizeof res.last) != sizeof res.last
      || waitpid (pid, &status, 0) == -1 || status != 0) {
    fprintf (stderr, "%s did not finish\n", res.name.c_str ());
    exit (1);
  }
  close (fds[0]);
  for (int i = 0; i < NPHASES; i++)
    res.ns[i].push_back (res.last.ns[i]);
}

double
median (std::vector<double> v)
{
  std::sort (v.begin (), v.end ());
  return v[v.size () / 2];
}

} // namespace

int
main (int argc, char **argv)
{
  size_t n = argc > 1 ? strtoull (argv[1], nullptr, 0) : 1000000;
  int rounds = argc > 2 ? atoi (argv[2]) : 3;
  workload w;
  std::vector<result> results (4);
  bool equal = true;

  if (n == 0 || rounds <= 0) {
    fprintf (stderr, "usage: %s [RANGES [ROUNDS]]\n", argv[0]);
    return 1;
  }
  w = make_workload (n);
  results[0].name = "segset";
  results[1].name = "absl::btree_map";
  results[2].name = "std::map";
  results[3].name = "boost::icl";
  for (int i = 0; i < rounds; i++) {
    run<ours> (w, results[0]);
    run<absl_map> (w, results[1]);
    run<std_map> (w, results[2]);
    run<icl_map> (w, results[3]);
  }

  printf ("%zu ranges, 16 bytes of payload, medians of %d rounds\n", n, rounds);
  printf ("%-16s", "ns each");
  for (const char *name : phase_names)
    printf (" %11s", name);
  printf (" %11s %11s\n", "B (random)", "B (load)");
  for (const auto &r : results) {
    printf ("%-16s", r.name.c_str ());
    for (const auto &ns : r.ns)
      printf (" %11.1f", median (ns));
    printf (" %11.1f %11.1f\n", r.last.random_bytes, r.last.load_bytes);
    equal = equal && r.last.checksum == results[0].last.checksum;
  }
  printf ("segset of absl  ");
  for (int i = 0; i < NPHASES; i++)
    printf (" %11.2f", median (results[0].ns[i]) / median (results[1].ns[i]));
  printf (" %11.2f %11.2f\n", results[0].last.random_bytes / results[1].last.random_bytes,
          results[0].last.load_bytes / results[1].last.load_bytes);
  if (!equal) {
    fprintf (stderr, "the sets do not agree\n");
    return 1;
  }
  return 0;
}
