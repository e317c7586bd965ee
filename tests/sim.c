/* SPDX-License-Identifier: BSD-3-Clause
 *
 * sim - the core under a scheduler that decides everything by a seed.
 *
 * Answers: is there an order of fills, writes, zeros, trims, flushes, evictions, answers, lost connections
 * and clock steps in which a wrong byte is read, or a flush answered too early?
 *
 * One thread.  Every request to the origin is held until the scheduler releases it, in any order; operations
 * are objects that it drives one step at a time; the clock moves when it says so.  A seed is a run: a failing one
 * is printed and replayed with PC_SEED=n (and PC_SIM_TRACE=1 to see the steps).
 *
 * The model: an array of bytes as they must be read (cur), a log of everything that ever wrote, which says what a byte
 * may once have been, and a flag "loose" for bytes of which only that is known (after a trim, a failed write, or a
 * lost write-through).  The log is looked into where bytes differ, which is seldom; a set of values for each byte cost
 * ten times the core's own work.
 * Operations overlap as they like.  Of those that change a byte at once either may be the last.  A read may show what one
 * made of it, unless another one that had ended well when the read began was begun after that one's end: nothing
 * that was there before.  So may each byte of the durable image at the reply to a flush.  What a
 * write-through, or a zero that must not become a hole, answered is in the origin's image.  Extents that are said to be
 * zero hold zeros.
 *
 * With `maps` each export is also mapped, writable, by a space that keeps translations until it is told to let go or
 * likes to.  A load through one sees what a read would see; a store is a write that takes no time and
 * that nobody is told of.
 */
#include <config.h>

#include "test.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inode-attr.h"
#include "inode-map.h"
#include "inode-priv.h"
#include "inode-world.h"
#include "sim.h"

#define NSLOTS 12
#define CHUNK 512               /* equal bytes are passed over by so many */
#define FEW 3                   /* operations at once, where there are few */
#define MAX_INSTALLED 64
#define MAP_AT (UINT64_C (1) << 40)

enum kind { READ, WRITE, FUA, ZERO, TRIM, FLUSH, FAST_NO_HOLE, MAP_READ, MAP_WRITE, NKINDS };

/* What a write-like operation does to a range.  Instants are counted: one for each beginning and each end. */
struct deed {
  uint64_t id;
  struct range r;
  bool zeros, trim;             /* trim: also what the byte once was (N-32) */
  bool well;                    /* it ended, and not with an error */
  bool none;                    /* it was refused before it did anything */
  uint64_t begun, ended;        /* 0: under way */
  size_t oldest;                /* all before this one had ended when it began */
};

/* What a byte may be. */
#define MANY 256
struct choice {
  struct range r;               /* the same for all of these */
  bool ever;                    /* whatever it once was */
  bool blank;                   /* or zero, as in the beginning */
  unsigned n;
  size_t deed[MANY];            /* what these made */
};

struct disk {
  struct mapping_space space;
  struct inode_translation installed[MAX_INSTALLED];
  unsigned ninstalled;
  struct world_disk *d;
  uint8_t *cur, *loose;
  struct deed *deed;
  size_t ndeeds, max_deeds;
  size_t last;                  /* the deed that explained the last byte: its neighbour's as well, most often */
};

struct slot {
  struct inode_op op;
  struct disk *disk;
  enum kind kind;
  bool busy, woken;
  uint64_t id;
  struct range r;
  unsigned flags;
  uint64_t losses;              /* of connections, when it began */
  uint8_t *buf;
  uint8_t *snap;                /* cur when it began (reads: of r; flushes: all) */
  uint8_t *loose;
  size_t deed;                  /* of a write-like op: its number */
  uint64_t begun;
};

struct sim {
  struct sim_options o;
  uint64_t rng, mem_rng;
  struct world w;
  struct disk disk[WORLD_DISKS];
  uint64_t size;
  struct slot slot[NSLOTS];
  uint64_t next_id, now;
  uint64_t done[NKINDS], errors, losses, cancels, extents, loads, stores, again, resizes;
  bool away;
};

static uint64_t
rnd (struct sim *s)
{
  /* xorshift64*: any seed but 0 */
  s->rng ^= s->rng >> 12;
  s->rng ^= s->rng << 25;
  s->rng ^= s->rng >> 27;
  return s->rng * UINT64_C (2685821657736338717);
}

/* No more bytes of a tape than the choice needs: so a byte more or less changes one choice. */
static uint64_t
below (struct sim *s, uint64_t n)
{
  uint64_t v = 0, more;

  if (s->o.tape == NULL)
    return rnd (s) % n;
  for (more = n - 1; more > 0 && s->o.tape_len > 0; more >>= 8) {
    v = v << 8 | *s->o.tape++;
    s->o.tape_len--;
  }
  return v % n;
}

static bool
one_in (struct sim *s, unsigned n)
{
  return n && below (s, n) == 0;
}

#define trace(s, ...) do { if ((s)->o.trace) fprintf (stderr, __VA_ARGS__); } while (0)

static void
violation (struct sim *s, const char *what, uint64_t off, uint64_t id, unsigned got, unsigned want)
{
  fprintf (stderr, "sim: seed %" PRIu64 ": %s at byte %" PRIu64 " (op %" PRIu64 "): got %#x, want %#x\n",
           s->o.seed, what, off, id, got, want);
  abort ();
}

/*----------------------------------------------------------------------*/

static void
wake (struct inode_op *op)
{
  ((struct slot *) op->wake_arg)->woken = true;
}

/* Some write nothing but zeros, which travel in another way. */
static bool
is_all_zero (uint64_t id)
{
  return id % 9 == 0;
}

static uint8_t
value (uint64_t id, uint64_t off)
{
  if (is_all_zero (id))
    return 0;
  return (uint8_t) (id * 37 + off * 11 + (off >> 9) * 101 + 1);
}

/* value () of all of r; the sum is cheap, a call a byte is not. */
static void
fill (uint8_t *buf, uint64_t id, struct range r)
{
  uint64_t off = r.start;

  while (off < r.end) {
    uint64_t end = (off | 511) + 1 < r.end ? (off | 511) + 1 : r.end;
    uint8_t v = value (id, off);

    for (; off < end; off++, v = (uint8_t) (is_all_zero (id) ? 0 : v + 11))
      *buf++ = v;
  }
}

static void
remember (struct disk *d, uint64_t id, struct range r, enum kind kind)
{
  if (d->ndeeds == d->max_deeds) {
    d->max_deeds = d->max_deeds ? 2 * d->max_deeds : 64;
    d->deed = realloc (d->deed, d->max_deeds * sizeof *d->deed);
  }
  d->deed[d->ndeeds++] =
    (struct deed) { .id = id, .r = r, .zeros = kind == ZERO || kind == TRIM, .trim = kind == TRIM };
}

static bool
made (const struct deed *d, uint64_t off, uint8_t v)
{
  return range_contains (d->r, off) && !d->zeros && value (d->id, off) == v;
}

/* Zero was there from the beginning. */
static bool
was_ever (struct disk *d, uint64_t off, uint8_t v)
{
  size_t i;

  if (v == 0 || (d->last < d->ndeeds && made (&d->deed[d->last], off, v)))
    return true;
  for (i = d->ndeeds; i-- > 0;)
    if (made (&d->deed[i], off, v)) {
      d->last = i;
      return true;
    }
  return false;
}

static uint8_t
op_value (const struct slot *sl, uint64_t off)
{
  return sl->kind == ZERO || sl->kind == TRIM ? 0 : value (sl->id, off);
}

static bool
is_write (enum kind k)
{
  return k == WRITE || k == FUA || k == ZERO || k == TRIM;
}

/* What may the byte at off be, for who looks since that instant: of which nothing can be left when another deed began that had
 * ended well by then.  promised: only this deed's own promise counts, and what is owed by others may be missing.
 */
static void
choose (struct sim *s, struct disk *d, uint64_t off, uint64_t since, const struct deed *promised, struct choice *c)
{
  uint64_t settled = 0;
  size_t i, stop = 0;

  c->r = (struct range) { off, UINT64_MAX };
  c->ever = false;
  c->n = 0;
  for (i = d->ndeeds; i-- > stop;) {
    const struct deed *e = &d->deed[i];

    if (e->r.end <= off)
      continue;
    if (e->r.start > off) {
      if (e->r.start < c->r.end)
        c->r.end = e->r.start;
      continue;
    }
    if (e->r.end < c->r.end)
      c->r.end = e->r.end;
    if (e->none || (e->ended && e->ended < settled))
      continue;
    if (e->trim) {
      /* One that had ended made it loose. */
      c->ever |= e->ended == 0 || e->ended > since;
      continue;
    }
    /* A write-through that fails may uncover anything. */
    if (e->ended > since && !e->well && !promised && s->o.mode == INODE_WRITETHROUGH)
      c->ever = true;
    if (c->n == MANY)
      violation (s, "too many writes at once", off, e->id, 0, 0);
    c->deed[c->n++] = i;
    if (settled == 0 && (promised ? e == promised : e->well && e->ended < since)) {
      settled = e->begun;
      stop = e->oldest;
    }
  }
  c->blank = settled == 0;
}

static bool
may_be (struct disk *d, const struct choice *c, uint64_t off, uint8_t v)
{
  unsigned i;

  if (v == 0 && c->blank)
    return true;
  for (i = 0; i < c->n; i++) {
    const struct deed *e = &d->deed[c->deed[i]];

    if (v == (e->zeros ? 0 : value (e->id, off)))
      return true;
  }
  return c->ever && was_ever (d, off, v);
}

/* Now, without having begun before. */
static bool
may_be_now (struct sim *s, struct disk *d, uint64_t off, uint8_t v)
{
  struct choice c;

  if (d->loose[off])
    return was_ever (d, off, v);
  choose (s, d, off, s->now, NULL, &c);
  return may_be (d, &c, off, v);
}

/*----------------------------------------------------------------------*/
/* Starting operations. */

static struct range
random_range (struct sim *s)
{
  static const uint64_t anchors[] = { 4096, 512, 1 << 20, 65536, 1 };
  uint64_t unit = anchors[below (s, 5)];
  uint64_t off = below (s, s->size), len;

  if (one_in (s, 3))
    off = below (s, 256 << 10) % s->size;       /* a hot spot */
  if (one_in (s, 12))
    off = s->size - 1 - below (s, 8192) % s->size;
  off = off / unit * unit;
  switch (below (s, 5)) {
  case 0: len = 1 + below (s, 700); break;
  case 1: len = 4096 * (1 + below (s, 4)); break;
  case 2: len = 1 + below (s, 20000); break;
  case 3: len = 4096; break;
  default: len = 1 + below (s, s->o.big_ops ? 600 << 10 : 40000); break;
  }
  if (unit == 1)
    off += below (s, 3) == 0 ? below (s, 4096) : 0;
  if (off >= s->size)
    off = s->size - 1;
  if (len > s->size - off)
    len = s->size - off;
  return (struct range) { off, off + len };
}

/* One of the last that was written, or its pages. */
static struct range
over_again (struct sim *s, struct disk *d)
{
  struct range r = d->deed[d->ndeeds - 1 - below (s, d->ndeeds < FEW ? d->ndeeds : FEW)].r;

  if (one_in (s, 2))
    return r;
  r.start &= ~(PAGE_SIZE - 1);
  r.end = (r.end + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
  if (r.end > s->size)
    r.end = s->size;
  return r;
}

static struct disk *
random_disk (struct sim *s)
{
  return &s->disk[s->w.ndisks > 1 ? below (s, s->w.ndisks) : 0];
}

/* sl changes its range from now on. */
static void
begin_write (struct sim *s, struct slot *sl)
{
  struct disk *d = sl->disk;
  struct deed *e;
  unsigned i;

  sl->deed = d->ndeeds;
  remember (d, sl->id, sl->r, sl->kind);
  e = &d->deed[sl->deed];
  e->begun = sl->begun;
  e->oldest = sl->deed;
  for (i = 0; i < NSLOTS; i++) {
    struct slot *o = &s->slot[i];

    if (o->busy && o->disk == d && is_write (o->kind) && o->deed < e->oldest)
      e->oldest = o->deed;
  }
}

static void
begin_look (struct sim *s, struct slot *sl)
{
  uint64_t len = range_len (sl->r);

  sl->losses = s->losses;
  sl->snap = malloc (len);
  sl->loose = malloc (len);
  memcpy (sl->snap, sl->disk->cur + sl->r.start, len);
  memcpy (sl->loose, sl->disk->loose + sl->r.start, len);
}

static unsigned
random_flags (struct sim *s, enum kind kind)
{
  unsigned flags = 0;

  switch (kind) {
  case FUA:
    return INODE_FUA;
  case ZERO:
    if (one_in (s, 2))
      flags |= one_in (s, 4) ? INODE_MAY_TRIM | INODE_FAST : INODE_MAY_TRIM;
    /* fallthrough */
  case TRIM:
    return flags | (one_in (s, 4) ? INODE_FUA : 0);
  case FAST_NO_HOLE:
    return INODE_FAST;
  default:
    return 0;
  }
}

static bool
is_map (enum kind k)
{
  return k == MAP_READ || k == MAP_WRITE;
}

static unsigned
map_access (const struct slot *sl)
{
  return sl->kind == MAP_WRITE ? INODE_MAP_WRITE : INODE_MAP_READ;
}

static struct range
some_pages (struct sim *s)
{
  struct range r = random_range (s);

  r.start &= ~(PAGE_SIZE - 1);
  r.end = (r.end + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
  if (range_len (r) > 8 * PAGE_SIZE)
    r.end = r.start + 8 * PAGE_SIZE;
  return r;
}

static void
init_op (struct slot *sl)
{
  struct inode *ino = sl->disk->d->ino;

  switch (sl->kind) {
  case READ:
    sl->buf = malloc (range_len (sl->r));
    memset (sl->buf, 0xa5, range_len (sl->r));
    inode_op_read (&sl->op, ino, sl->buf, sl->r);
    if (sl->id % 3 == 0)
      sl->op.flags |= INODE_BYPASS;
    break;
  case WRITE:
  case FUA:
    sl->buf = malloc (range_len (sl->r));
    fill (sl->buf, sl->id, sl->r);
    inode_op_write (&sl->op, ino, sl->buf, sl->r, sl->flags);
    break;
  case ZERO:
  case FAST_NO_HOLE:
    inode_op_zero (&sl->op, ino, sl->r, sl->flags);
    break;
  case TRIM:
    inode_op_trim (&sl->op, ino, sl->r, sl->flags);
    break;
  case FLUSH:
    inode_op_sync (&sl->op, ino, RANGE_ALL, sl->flags);
    break;
  case MAP_READ:
  case MAP_WRITE:
    inode_op_map (&sl->op, ino, sl->r, sl->r, map_access (sl));
    break;
  case NKINDS:
    abort ();
  }
}

static bool
begin (struct sim *s, struct slot *sl, struct disk *d, enum kind kind, unsigned flags)
{
  memset (sl, 0, sizeof *sl);
  sl->kind = kind;
  sl->flags = flags;
  sl->disk = d;
  if (kind == FLUSH)
    sl->r = (struct range) { 0, s->size };
  else if (is_map (kind))
    sl->r = some_pages (s);
  else if (s->o.few && d->ndeeds > 0 && one_in (s, 2))
    sl->r = over_again (s, d);
  else
    sl->r = random_range (s);
  sl->busy = sl->woken = true;
  sl->id = ++s->next_id;
  sl->begun = ++s->now;
  trace (s, "start op %" PRIu64 " disk %u kind %d flags %x " RANGE_FMT "\n", sl->id, (unsigned) (d - s->disk),
         (int) kind, flags, RANGE_ARG (sl->r));
  init_op (sl);
  sl->op.wake = wake;
  sl->op.wake_arg = sl;
  if (is_write (kind))
    begin_write (s, sl);
  if (!is_map (kind))
    begin_look (s, sl);
  return true;
}

static void
start (struct sim *s)
{
  static const enum kind weights[] = {
    READ, READ, READ, READ, READ, READ, READ, READ, WRITE, WRITE, WRITE, WRITE, WRITE, WRITE, WRITE, WRITE, WRITE,
    WRITE, FUA, FUA, ZERO, ZERO, TRIM, TRIM, FLUSH, FLUSH, FAST_NO_HOLE,
  };
  static const enum kind few[] = { READ, WRITE, WRITE, FUA, ZERO, ZERO, TRIM, FLUSH, FLUSH };
  struct slot *sl = NULL;
  enum kind kind;
  unsigned i, nbusy = 0;

  for (i = 0; i < NSLOTS; i++) {
    nbusy += s->slot[i].busy;
    if (!s->slot[i].busy)
      sl = &s->slot[i];
  }
  if (!sl || (s->o.few && nbusy >= FEW))
    return;
  kind = s->o.few ? few[below (s, PC_ARRAY_SIZE (few))] : weights[below (s, PC_ARRAY_SIZE (weights))];
  if (s->o.maps && one_in (s, 3))
    kind = one_in (s, 2) ? MAP_READ : MAP_WRITE;
  begin (s, sl, random_disk (s), kind, random_flags (s, kind));
}

/*----------------------------------------------------------------------*/
/* Ending them. */

static void
end_read (struct sim *s, struct slot *sl)
{
  uint64_t i, len = range_len (sl->r);
  struct choice c = { .n = 0 };

  for (i = 0; i < len; i++) {
    uint64_t off = sl->r.start + i;

    if (i % CHUNK == 0 && len - i >= CHUNK && memcmp (sl->buf + i, sl->snap + i, CHUNK) == 0) {
      i += CHUNK - 1;
      continue;
    }
    if (sl->buf[i] == sl->snap[i])
      continue;
    if (!range_contains (c.r, off))
      choose (s, sl->disk, off, sl->begun, NULL, &c);
    if (sl->loose[i] ? !was_ever (sl->disk, off, sl->buf[i]) : !may_be (sl->disk, &c, off, sl->buf[i]))
      violation (s, "wrong byte", off, sl->id, sl->buf[i], sl->snap[i]);
  }
}

/* Zeros, or bytes it once held (N-32); the edges are kept as they were. */
static void
loosen (struct sim *s, struct disk *d, struct range trimmed, struct range in)
{
  trimmed.start = (trimmed.start + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
  if (trimmed.end != s->size)
    trimmed.end &= ~(PAGE_SIZE - 1);
  if (trimmed.start >= trimmed.end)
    return;
  in = range_intersect (in, trimmed);
  if (!range_is_empty (in))
    memset (d->loose + in.start, 1, range_len (in));
}

static void
end_write (struct sim *s, struct slot *sl, int err)
{
  struct disk *d = sl->disk;
  struct deed *e = &d->deed[sl->deed];
  uint64_t first = sl->r.start, end = sl->r.end;
  size_t i;

  e->ended = ++s->now;
  e->well = !err;
  if (err)
    memset (d->loose + first, 1, end - first);  /* any of them */
  else if (sl->kind == TRIM)
    loosen (s, d, sl->r, sl->r);
  else {
    if (sl->kind == ZERO)
      memset (d->cur + first, 0, end - first);
    else
      memcpy (d->cur + first, sl->buf, end - first);
    memset (d->loose + first, 0, end - first);
    /* Trims that ended meanwhile may have come later. */
    for (i = e->oldest; i < d->ndeeds; i++)
      if (d->deed[i].trim && d->deed[i].ended > e->begun)
        loosen (s, d, d->deed[i].r, sl->r);
  }
}

/* What a flush, or the FUA of a write, promised about image. */
static void
check_image (struct sim *s, struct slot *sl, const uint8_t *image, const char *what)
{
  struct disk *d = sl->disk;
  const uint8_t *should = sl->kind == FLUSH ? sl->snap : sl->buf;       /* zeros: NULL */
  const struct deed *promised = sl->kind == FLUSH ? NULL : &d->deed[sl->deed];
  uint64_t i, len = range_len (sl->r);
  struct choice c = { .n = 0 };

  for (i = 0; i < len; i++) {
    uint64_t off = sl->r.start + i;
    uint8_t want;

    if (should && i % CHUNK == 0 && len - i >= CHUNK && memcmp (image + off, should + i, CHUNK) == 0) {
      i += CHUNK - 1;
      continue;
    }
    want = sl->kind == FLUSH ? sl->snap[i] : op_value (sl, off);
    if (image[off] == want)
      continue;
    if (sl->kind == TRIM || (sl->kind == FLUSH && sl->loose[i])) {
      if (!was_ever (d, off, image[off]))
        violation (s, "the image holds a byte that was never there", off, sl->id, image[off], want);
      continue;
    }
    if (!range_contains (c.r, off))
      choose (s, d, off, sl->begun, promised, &c);
    if (!may_be (d, &c, off, image[off]))
      violation (s, what, off, sl->id, image[off], want);
  }
}

static void
check_promise (struct sim *s, struct slot *sl)
{
  struct origin *o = sl->disk->d->origin;
  bool fua = sl->kind == FLUSH || (sl->flags & INODE_FUA);

  if (s->o.mode == INODE_UNSAFE && !(sl->kind == FLUSH && fua && (sl->flags & INODE_FUA)))
    return;
  if (fua && !s->o.no_flush)
    check_image (s, sl, origin_mem_durable (o), "answered too early");
  else if (sl->losses == s->losses
           && (fua || s->o.mode == INODE_WRITETHROUGH || (sl->kind == ZERO && !(sl->flags & INODE_MAY_TRIM))))
    check_image (s, sl, origin_mem_volatile (o), "answered before the origin had it");
}

static bool
may_fail (struct sim *s, int err)
{
  if (err == ENOMEM)
    return s->o.nomem || s->o.spare;
  if (err == EIO && s->o.nomem)
    return true;
  return s->o.errors || s->o.losses || s->o.aways || s->o.resizes;
}

static void
forget_slot (struct slot *sl)
{
  free (sl->buf);
  free (sl->snap);
  free (sl->loose);
  sl->busy = false;
}

/*----------------------------------------------------------------------*/
/* The address spaces. */

static void
uninstall (struct disk *d, unsigned i)
{
  struct inode_translation t = d->installed[i];

  d->installed[i] = d->installed[--d->ninstalled];
  inode_dec_ref (d->d->ino, &t);
}

/* More than it was told to, sometimes: a whole translation goes. */
static void
let_go (struct mapping_space *ms, struct range addrs, unsigned flags)
{
  struct disk *d = container_of (ms, struct disk, space);
  struct range offs = { addrs.start - MAP_AT, addrs.end - MAP_AT };
  unsigned i = 0;

  (void) flags;
  while (i < d->ninstalled)
    if (range_overlaps (d->installed[i].range, offs))
      uninstall (d, i);
    else
      i++;
}

static void
unmap_all (struct disk *d)
{
  while (d->ninstalled)
    uninstall (d, 0);
}

/* The second step of a fault; what it gives of a prefix is kept as well. */
static void
translate (struct sim *s, struct disk *d, const struct inode_op *op, struct range r, unsigned access)
{
  struct inode_translation ts[4];
  unsigned n, i;
  int err = inode_translate (d->d->ino, op, r, r, access, ts, PC_ARRAY_SIZE (ts), &n);

  if (!inode_translation_holds (r, r, access, ts, n, err))
    violation (s, "not a translation", r.start, 0, n, (unsigned) err);
  if (err == EAGAIN)
    s->again++;
  else if (err && err != EOVERFLOW && !(s->o.resizes && err == ENXIO))
    violation (s, "a translation failed", r.start, 0, (unsigned) err, 0);
  for (i = 0; i < n; i++) {
    if (d->ninstalled == MAX_INSTALLED)
      uninstall (d, (unsigned) below (s, MAX_INSTALLED));
    d->installed[d->ninstalled++] = ts[i];
  }
}

static void
finish_map (struct sim *s, struct slot *sl)
{
  int err = sl->op.err;

  trace (s, "mapped op %" PRIu64 " err %d\n", sl->id, err);
  s->done[sl->kind]++;
  if (err && !may_fail (s, err))
    violation (s, "an error nobody made", sl->r.start, sl->id, (unsigned) err, 0);
  if (!err)
    translate (s, sl->disk, &sl->op, sl->r, map_access (sl));
  inode_op_map_end (&sl->op);
  forget_slot (sl);
}

static void
load (struct sim *s, struct disk *d, const uint8_t *at, struct range r)
{
  uint64_t off;

  s->loads++;
  for (off = r.start; off < r.end; off++) {
    uint8_t got = at[off - r.start];

    if (got != d->cur[off] && !may_be_now (s, d, off, got))
      violation (s, "a load of a wrong byte", off, 0, got, d->cur[off]);
  }
}

static void
store (struct sim *s, struct disk *d, uint8_t *at, struct range r)
{
  struct slot now = { .kind = WRITE, .disk = d, .r = r, .id = ++s->next_id, .begun = ++s->now, .buf = at };

  s->stores++;
  trace (s, "store %" PRIu64 " disk %u " RANGE_FMT "\n", now.id, (unsigned) (d - s->disk), RANGE_ARG (r));
  begin_write (s, &now);
  fill (at, now.id, r);
  end_write (s, &now, 0);
}

static void
use_mapping (struct sim *s)
{
  struct disk *d = random_disk (s);
  const struct inode_translation *t;
  struct range r;
  uint64_t len;
  uint8_t *at;
  unsigned i;

  if (one_in (s, 8))
    translate (s, d, NULL, some_pages (s), one_in (s, 2) ? INODE_MAP_READ : INODE_MAP_WRITE);
  if (d->ninstalled == 0)
    return;
  i = (unsigned) below (s, d->ninstalled);
  if (one_in (s, 12)) {
    uninstall (d, i);
    return;
  }
  t = &d->installed[i];
  /* What a store leaves behind a shorter end is nobody's. */
  r = range_intersect (t->range, (struct range) { 0, inode_end (d->d->ino) });
  if (range_is_empty (r))
    return;
  r.start += below (s, range_len (r));
  len = 1 + below (s, 300);
  if (r.end - r.start > len)
    r.end = r.start + len;
  at = memfile_addr (s->w.mf, t->frame) + (r.start - t->range.start);
  if ((t->perms & INODE_MAP_WRITE) && one_in (s, 2))
    store (s, d, at, r);
  else
    load (s, d, at, r);
}

/*----------------------------------------------------------------------*/

static void
finish (struct sim *s, struct slot *sl)
{
  int err = sl->op.err;
  /* A fast zero whose edges would have to wait for less dirt: nothing is changed then. */
  bool refused = sl->kind == ZERO && (sl->flags & INODE_FAST) && err == ENOTSUP
                 && ((sl->r.start | sl->r.end) & (sl->disk->d->ino->unit - 1));

  trace (s, "done op %" PRIu64 " err %d\n", sl->id, err);
  s->done[sl->kind]++;
  if (sl->kind == FAST_NO_HOLE) {
    if (err != ENOTSUP && !(s->o.resizes && err == EIO))
      violation (s, "fast and no hole must be refused", sl->r.start, sl->id, (unsigned) err, ENOTSUP);
  }
  else if (err && !refused) {
    s->errors++;
    if (!may_fail (s, err))
      violation (s, "an error nobody made", sl->r.start, sl->id, (unsigned) err, 0);
  }
  if (is_write (sl->kind) && !refused)
    end_write (s, sl, err);
  else if (refused) {
    sl->disk->deed[sl->deed].none = true;
    sl->disk->deed[sl->deed].ended = ++s->now;
  }
  if (!err && sl->kind == READ)
    end_read (s, sl);
  if (!err && sl->kind != READ)
    check_promise (s, sl);
  forget_slot (sl);
}

/* Every other read goes the short way first, as those of clients do. */
static bool
is_short_hit (struct slot *sl)
{
  return sl->kind == READ && sl->id % 2 == 0 && !sl->op.begun && inode_read_hit (sl->op.ino, sl->buf, sl->r);
}

static bool
step_ops (struct sim *s)
{
  unsigned i, from = (unsigned) below (s, NSLOTS);

  for (i = 0; i < NSLOTS; i++) {
    struct slot *sl = &s->slot[(from + i) % NSLOTS];

    if (!sl->busy)
      continue;
    if (!sl->woken && !(sl->op.wake_at_ns && sl->op.wake_at_ns <= clock_now (&s->w.clock.base)))
      continue;
    sl->woken = false;
    if (!is_short_hit (sl) && !inode_op_run (&sl->op))
      return true;
    if (is_map (sl->kind))
      finish_map (s, sl);
    else
      finish (s, sl);
    return true;
  }
  return false;
}

/* A client goes.  What it wrote so far stays or not. */
static void
cancel_one (struct sim *s)
{
  struct slot *sl = &s->slot[below (s, NSLOTS)];

  if (!sl->busy || inode_op_is_lent (&sl->op))
    return;
  trace (s, "cancel op %" PRIu64 "\n", sl->id);
  s->cancels++;
  inode_op_cancel (&sl->op);
  if (is_write (sl->kind))
    end_write (s, sl, ECANCELED);
  forget_slot (sl);
}

/*----------------------------------------------------------------------*/
/* What else happens. */

static size_t
held (struct sim *s)
{
  size_t n = 0;
  unsigned i;

  for (i = 0; i < s->w.ndisks; i++)
    n += origin_mem_held_total (s->disk[i].d->origin);
  return n;
}

/* Answer one held request of any export. */
static void
release (struct sim *s, int err)
{
  size_t n = below (s, held (s));
  unsigned i;

  for (i = 0; i < s->w.ndisks; i++) {
    size_t here = origin_mem_held_total (s->disk[i].d->origin);

    if (n < here) {
      origin_mem_release_nth (s->disk[i].d->origin, n, err);
      return;
    }
    n -= here;
  }
}

static void
release_one (struct sim *s)
{
  int err = 0;

  if (held (s) == 0 || (s->o.few && !one_in (s, 4)))
    return;                     /* few operations meet only if they take long */
  if (s->away) {
    if (!one_in (s, 100))
      return;
    err = ETIMEDOUT;            /* away longer than the gate waits */
  }
  else if (s->o.errors && one_in (s, 60))
    err = one_in (s, 2) ? EIO : ENOSPC;
  release (s, err);
}

static void
lose (struct sim *s)
{
  bool apply = one_in (s, 2), forget = one_in (s, 2);

  trace (s, "connection lost, apply %d forget %d\n", apply, forget);
  s->losses++;
  origin_mem_lose (random_disk (s)->d->origin, apply, forget && !s->o.no_flush);
}

struct walk {
  struct sim *s;
  struct disk *d;
  uint64_t pos, end;
};

static int
one_extent (void *arg, uint64_t off, uint64_t len, unsigned type)
{
  struct walk *w = arg;
  uint64_t i;

  if (off != w->pos || len == 0 || len > w->end - off)
    violation (w->s, "extents do not tile the range", off, 0, (unsigned) len, type);
  w->pos = off + len;
  if (type == 0)
    return 0;
  for (i = off; i < off + len; i++)
    if (w->d->cur[i] != 0 && !may_be_now (w->s, w->d, i, 0))
      violation (w->s, "an extent of zeros, or a hole, holds data", i, 0, type, w->d->cur[i]);
  return 0;
}

/* It waits, so the origin must answer at once; to the questions of the cache as well. */
static void
ask_extents (struct sim *s)
{
  struct disk *d = random_disk (s);
  struct range r = random_range (s);
  struct walk w = { s, d, r.start, r.end };
  int err;

  if (s->away)
    return;
  s->extents++;
  origin_mem_open_door (d->d->origin, ORIGIN_STATUS);
  err = inode_extents (d->d->ino, r, one_in (s, 2), one_extent, &w);
  origin_mem_close_door (d->d->origin, ORIGIN_STATUS);
  if (err && !may_fail (s, err))
    violation (s, "extents failed", r.start, 0, (unsigned) err, 0);
  if (!err && w.pos == r.start)
    violation (s, "no extent", r.start, 0, 0, 0);
}

static void
write_back (struct sim *s)
{
  if (s->w.ndisks > 1 && one_in (s, 3))
    world_turn (&s->w, NULL, false);
  else {
    struct disk *d = random_disk (s);

    if (d->d->dirtied || s->w.starved || one_in (s, 4))
      world_turn (&s->w, d->d, one_in (s, 16));
  }
}

/* A question that would come of itself only where much reads as zeros. */
static void
learn_holes (struct sim *s)
{
  struct inode *ino = random_disk (s)->d->ino;

  inode_forget_holes (ino);
  inode_ask_holes (ino, below (s, s->size));
}

static void
resize (struct sim *s, struct disk *d, uint64_t end)
{
  trace (s, "disk %u ends at %" PRIu64 "\n", (unsigned) (d - s->disk), end);
  origin_tell_resized (d->d->origin, end);
  s->resizes++;
}

static void
seldom (struct sim *s)
{
  if (s->o.resizes && one_in (s, 12)) {
    struct disk *d = random_disk (s);

    uint64_t end = 1 + below (s, s->size);

    /* Whole blocks, as a server's size is. */
    resize (s, d, one_in (s, 2) ? s->size : s->o.block_min + ((end - 1) & ~(uint64_t) (s->o.block_min - 1)));
    return;
  }
  if (s->o.losses && one_in (s, 40))
    lose (s);
  else if (s->o.aways && one_in (s, s->away ? 20 : 60)) {
    s->away = !s->away;
    trace (s, "away %d\n", s->away);
  }
  else if (s->o.cancels && one_in (s, 8))
    cancel_one (s);
  else if (one_in (s, 6))
    world_reclaim (&s->w, 1 + (unsigned) below (s, 40));
  else if (one_in (s, 6))
    inode_prefetch (random_disk (s)->d->ino, random_range (s), true);
  else if (one_in (s, 8))
    ask_extents (s);
  else if (one_in (s, 4))
    learn_holes (s);
  else if (one_in (s, 30))
    inode_invalidate (random_disk (s)->d->ino, RANGE_ALL);
}

static void
step (struct sim *s)
{
  if (s->o.maps && one_in (s, 4)) {
    use_mapping (s);
    return;
  }
  switch (below (s, 12)) {
  case 0: case 1:
    start (s);
    break;
  case 2: case 3: case 4: case 5:
    step_ops (s);
    break;
  case 6: case 7: case 8:
    release_one (s);
    break;
  case 9:
    write_back (s);
    break;
  case 10:
    clock_fake_advance (&s->w.clock, below (s, 30 * NSEC_PER_MSEC));
    if (one_in (s, 40))
      clock_fake_advance (&s->w.clock, below (s, 3 * NSEC_PER_SEC));
    break;
  case 11:
    seldom (s);
    break;
  }
}

static bool
any_busy (struct sim *s)
{
  unsigned i;

  for (i = 0; i < NSLOTS; i++)
    if (s->slot[i].busy)
      return true;
  return false;
}

static void
say_who_waits (struct sim *s)
{
  unsigned i;

  for (i = 0; i < NSLOTS; i++) {
    struct slot *sl = &s->slot[i];

    if (sl->busy)
      fprintf (stderr, "sim: op %" PRIu64 " disk %u kind %d stage %u " RANGE_FMT " at %" PRIu64 " parked %d syncing %d\n",
               sl->id, (unsigned) (sl->disk - s->disk), (int) sl->kind, sl->op.stage, RANGE_ARG (sl->r), sl->op.pos,
               sl->op.parked, sl->op.syncing);
  }
  for (i = 0; i < s->w.ndisks; i++) {
    struct inode_dirty d = inode_get_dirty (s->disk[i].d->ino);

    fprintf (stderr, "sim: disk %u: dirty %" PRIu64 " writing %" PRIu64 " unstable %" PRIu64 "\n", i, d.dirty, d.writing,
             d.unstable);
  }
}

/* Run until nothing is under way; it must end. */
static void
settle (struct sim *s)
{
  unsigned turns = 0;

  s->away = false;
  world_fail_alloc (0, NULL);
  while (any_busy (s) || held (s)) {
    if (++turns > 400000) {
      say_who_waits (s);
      violation (s, "it does not come to rest", 0, 0, 0, 0);
    }
    while (step_ops (s))
      if (++turns > 400000)
        break;
    if (held (s))
      release (s, 0);
    else {
      clock_fake_advance (&s->w.clock, 10 * NSEC_PER_MSEC);
      world_turn (&s->w, NULL, false);
    }
  }
}

static void
final_flush (struct sim *s, struct disk *d)
{
  struct slot *sl = &s->slot[0];
  unsigned tries;

  for (tries = 0; ; tries++) {
    begin (s, sl, d, FLUSH, INODE_FUA);
    settle (s);
    if (sl->op.err == 0)
      break;
    if (tries == 3)
      violation (s, "the last flush fails although the origin is well", 0, sl->id, (unsigned) sl->op.err, 0);
  }
}

static void
drain (struct sim *s, struct disk *d)
{
  struct inode_dirty left = inode_get_dirty (d->d->ino);
  unsigned turns = 0;

  while (left.dirty + left.writing + left.unstable) {
    if (++turns > 100000)
      violation (s, "a drain does not end", 0, 0, (unsigned) left.dirty, (unsigned) left.unstable);
    clock_fake_advance (&s->w.clock, NSEC_PER_MSEC);
    world_turn (&s->w, d->d, true);
    if (held (s))
      release (s, 0);
    left = inode_get_dirty (d->d->ino);
  }
}

static void
check_all (struct sim *s)
{
  unsigned i;

  for (i = 0; i < s->w.ndisks; i++)
    inode_check (s->disk[i].d->ino);
}

static struct range
whole_mapping (struct sim *s)
{
  return (struct range) { MAP_AT, MAP_AT + ((s->size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1)) };
}

/* The first half of an export holds something from the beginning. */
static void
fill_origin (struct sim *s, struct disk *d)
{
  struct range r = { 0, s->size / 2 };

  remember (d, ++s->next_id, r, WRITE);
  d->deed[0].begun = d->deed[0].ended = ++s->now;
  d->deed[0].well = true;
  fill (d->cur, s->next_id, r);
  memcpy (origin_mem_volatile (d->d->origin), d->cur, range_len (r));
  memcpy (origin_mem_durable (d->d->origin), d->cur, range_len (r));
}

static void
build (struct sim *s)
{
  const struct sim_options *o = &s->o;
  struct origin_info info = world_info (o->size);
  struct world_options wo = { .nframes = o->nframes, .spare = o->spare, .mode = o->mode, .readahead = o->readahead };
  unsigned i;

  info.can_flush = !o->no_flush;
  info.can_fua = o->fua;
  info.can_trim = o->trim;
  info.can_zero = info.can_fast_zero = o->zero;
  info.block_min = o->block_min;
  s->size = o->size;
  world_init (&s->w, &wo);
  for (i = 0; i < (o->ndisks ? o->ndisks : 1); i++) {
    struct disk *d = &s->disk[i];

    d->d = world_add (&s->w, &info);
    origin_mem_close_all (d->d->origin);
    d->cur = calloc (1, s->size);
    d->loose = calloc (1, s->size);
    if (o->few)
      fill_origin (s, d);
    if (o->seq0)
      d->d->ino->seq = d->d->ino->gen[0].lo = d->d->ino->gen[0].hi = o->seq0;
    d->space.invalidate = let_go;
    if (o->maps)
      assert_int_equal (inode_add_mapping (d->d->ino, &d->space, whole_mapping (s), 0, true), 0);
  }
}

static void
unmap_disk (struct sim *s, struct disk *d)
{
  unmap_all (d);
  assert_int_equal (inode_mapped_frames (d->d->ino), 0);
  assert_int_equal (inode_remove_mapping (d->d->ino, &d->space, whole_mapping (s), 0, true), 0);
  /* What was kept for want of memory. */
  inode_unkeep (d->d->ino, inode_seq_now (d->d->ino));
}

static void
tear_down (struct sim *s)
{
  unsigned i, n = s->w.ndisks;

  world_release (&s->w);
  for (i = 0; i < n; i++) {
    free (s->disk[i].cur);
    free (s->disk[i].loose);
    free (s->disk[i].deed);
  }
  free (s);
}

static void
check_end (struct sim *s, struct disk *d)
{
  const uint8_t *image = s->o.no_flush ? origin_mem_volatile (d->d->origin) : origin_mem_durable (d->d->origin);
  struct inode_dirty left = inode_get_dirty (d->d->ino);
  uint64_t i;

  assert_int_equal (left.dirty + left.writing + left.unstable, 0);
  for (i = 0; i < s->size; i++)
    if (image[i] != d->cur[i] && !may_be_now (s, d, i, image[i]))
      violation (s, "the image differs at the end", i, 0, image[i], d->cur[i]);
}

void
sim_run (const struct sim_options *o)
{
  struct sim *s = calloc (1, sizeof *s);
  unsigned i, step_no;

  mallopt (M_MMAP_THRESHOLD, 64 << 20);         /* snapshots come and go: a fault a page costs more than the test */
  mallopt (M_TRIM_THRESHOLD, 512 << 20);
  s->o = *o;
  s->rng = o->seed * UINT64_C (0x9e3779b97f4a7c15) | 1;
  s->mem_rng = o->seed;
  for (i = 0; i < 8; i++)
    rnd (s);
  build (s);
  world_fail_alloc (o->nomem ? 30 : 0, &s->mem_rng);
  for (step_no = 0; step_no < o->steps && !(o->tape && s->o.tape_len == 0); step_no++) {
    step (s);
    if (o->check_every && step_no % o->check_every == 0)
      check_all (s);
  }
  for (i = 0; i < s->w.ndisks; i++) {
    resize (s, &s->disk[i], s->size);
    while (!inode_settle_size (s->disk[i].d->ino))
      ;
  }
  settle (s);
  for (i = 0; i < s->w.ndisks; i++) {
    if (o->drain)
      drain (s, &s->disk[i]);
    else
      final_flush (s, &s->disk[i]);
    if (o->maps) {
      unmap_disk (s, &s->disk[i]);
      final_flush (s, &s->disk[i]);
    }
    check_end (s, &s->disk[i]);
  }
  check_all (s);
  if (o->report)
    fprintf (stderr, "sim: seed %" PRIu64 ": %" PRIu64 " reads %" PRIu64 " writes %" PRIu64 " fua %" PRIu64
             " zeros %" PRIu64 " trims %" PRIu64 " flushes %" PRIu64 " extents, %" PRIu64 " errors, %" PRIu64
             " losses, %" PRIu64 " cancels, %" PRIu64 " faults, %" PRIu64 " to be tried again, %" PRIu64 " loads %" PRIu64
             " stores, %" PRIu64 " sizes\n", o->seed, s->done[READ], s->done[WRITE], s->done[FUA], s->done[ZERO],
             s->done[TRIM], s->done[FLUSH], s->extents, s->errors, s->losses, s->cancels,
             s->done[MAP_READ] + s->done[MAP_WRITE], s->again, s->loads, s->stores,
             s->resizes);
  tear_down (s);
}
