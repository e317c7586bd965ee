/* SPDX-License-Identifier: BSD-3-Clause
 *
 * testorigin-image - see testorigin-image.h.
 *
 * Everything that changes bytes runs under the exclusive lock, a read under
 * the shared one: a request sees one moment of all its bytes, which is more
 * than D6 asks of a cache, so nothing that the model tester objects to can
 * come from here unless a bug was asked for.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "testorigin-image.h"

static uint64_t
npages (const struct image *img)
{
  return (img->size + IMAGE_PAGE - 1) / IMAGE_PAGE;
}

/* The file's own holes are the only knowledge that survives a restart. */
static void
scan_file (struct image *img)
{
  off_t off = 0;

  while ((uint64_t) off < img->size) {
    off_t data = lseek (img->fd, off, SEEK_DATA);
    off_t hole;
    uint64_t p;

    if (data == -1)
      break;
    hole = lseek (img->fd, data, SEEK_HOLE);
    if (hole == -1 || (uint64_t) hole > img->size)
      hole = img->size;
    for (p = data / IMAGE_PAGE; p * IMAGE_PAGE < (uint64_t) hole; ++p)
      img->state[p] = IMAGE_DATA;
    off = hole;
  }
}

int
image_init (struct image *img, const char *path, int64_t size)
{
  pthread_rwlockattr_t attr;
  struct stat st;
  int err;

  memset (img, 0, sizeof *img);
  if (path)
    img->fd = open (path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  else
    img->fd = memfd_create ("testorigin", MFD_CLOEXEC);
  if (img->fd == -1)
    return errno;
  if (fstat (img->fd, &st) == -1)
    goto fail;
  if (size < 0)
    size = st.st_size;
  if (size != st.st_size && ftruncate (img->fd, size) == -1)
    goto fail;
  img->size = size;
  img->map_len = npages (img) * IMAGE_PAGE;
  if (img->map_len > 0) {
    img->mem = mmap (NULL, img->map_len, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_NORESERVE, img->fd, 0);
    if (img->mem == MAP_FAILED)
      goto fail;
    img->state = mmap (NULL, npages (img), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (img->state == MAP_FAILED)
      goto fail;
    scan_file (img);
  }
  /* glibc prefers readers by default; a stream of them would starve flush. */
  pthread_rwlockattr_init (&attr);
  pthread_rwlockattr_setkind_np (&attr,
                                 PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  pthread_rwlock_init (&img->lock, &attr);
  pthread_rwlockattr_destroy (&attr);
  return 0;

 fail:
  err = errno;
  if (img->mem && img->mem != MAP_FAILED)
    munmap (img->mem, img->map_len);
  close (img->fd);
  return err;
}

void
image_release (struct image *img)
{
  if (img->map_len > 0) {
    munmap (img->mem, img->map_len);
    munmap (img->state, npages (img));
  }
  pthread_rwlock_destroy (&img->lock);
  close (img->fd);
  free (img->dirty);
}

static enum image_state
page_state (const struct image *img, uint64_t p)
{
  return img->state[p] & IMAGE_STATE_MASK;
}

static int
page_dirtied (struct image *img, uint64_t p)
{
  if (img->state[p] & IMAGE_DIRTY)
    return 0;
  if (img->ndirty == img->dirty_alloc) {
    size_t n = img->dirty_alloc ? 2 * img->dirty_alloc : 1024;
    uint64_t *d = realloc (img->dirty, n * sizeof *d);

    if (d == NULL)
      return ENOMEM;
    img->dirty = d;
    img->dirty_alloc = n;
  }
  img->dirty[img->ndirty++] = p;
  img->state[p] |= IMAGE_DIRTY;
  return 0;
}

static void
page_set_state (struct image *img, uint64_t p, enum image_state s)
{
  img->state[p] = (img->state[p] & ~IMAGE_STATE_MASK) | s;
}

/* Copy volatile bytes to the file, byte exact: FUA must not carry along what
 * another command wrote beside it.
 */
static int
put_durable (struct image *img, uint64_t off, uint64_t len)
{
  if (off + len > img->size)
    len = img->size - off;
  while (len > 0) {
    ssize_t r = pwrite (img->fd, img->mem + off, len, off);

    if (r == -1)
      return errno;
    off += r;
    len -= r;
  }
  return 0;
}

/* The same for whole pages in one state: holes stay holes in the file. */
static int
put_pages_durable (struct image *img, uint64_t first, uint64_t end)
{
  if (page_state (img, first) == IMAGE_HOLE
      && fallocate (img->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                    first * IMAGE_PAGE, (end - first) * IMAGE_PAGE) == 0)
    return 0;
  return put_durable (img, first * IMAGE_PAGE, (end - first) * IMAGE_PAGE);
}

void
image_read (struct image *img, void *vbuf, uint64_t off, uint64_t len)
{
  uint8_t *buf = vbuf;

  pthread_rwlock_rdlock (&img->lock);
  while (len > 0) {
    uint64_t n = IMAGE_PAGE - off % IMAGE_PAGE;

    if (n > len)
      n = len;
    /* A hole is not read through the mapping: that would allocate it. */
    if (page_state (img, off / IMAGE_PAGE) == IMAGE_HOLE)
      memset (buf, 0, n);
    else
      memcpy (buf, img->mem + off, n);
    buf += n;
    off += n;
    len -= n;
  }
  pthread_rwlock_unlock (&img->lock);
}

int
image_write (struct image *img, const void *buf, uint64_t off, uint64_t len,
             bool fua)
{
  int err = 0;
  uint64_t p;

  pthread_rwlock_wrlock (&img->lock);
  memcpy (img->mem + off, buf, len);
  for (p = off / IMAGE_PAGE; p * IMAGE_PAGE < off + len && !err; ++p) {
    page_set_state (img, p, IMAGE_DATA);
    if (!fua)
      err = page_dirtied (img, p);
  }
  if (fua && !err)
    err = put_durable (img, off, len);
  pthread_rwlock_unlock (&img->lock);
  return err;
}

/* Zero [off, off+len) inside one page. */
static int
zero_part (struct image *img, uint64_t off, uint64_t len, bool fua)
{
  uint64_t p = off / IMAGE_PAGE;

  if (page_state (img, p) != IMAGE_HOLE && page_state (img, p) != IMAGE_ZERO) {
    memset (img->mem + off, 0, len);
    page_set_state (img, p, IMAGE_DATA);
  }
  return fua ? put_durable (img, off, len) : page_dirtied (img, p);
}

static int
zero_page (struct image *img, uint64_t p, enum image_state s, bool fua)
{
  enum image_state was = page_state (img, p);
  uint8_t *mem = img->mem + p * IMAGE_PAGE;

  /* A durable hole that stays a hole: 4 GiB of these must cost nothing. */
  if (was == IMAGE_HOLE && s == IMAGE_HOLE && !(img->state[p] & IMAGE_DIRTY))
    return 0;
  if (was != IMAGE_HOLE && was != IMAGE_ZERO)
    memset (mem, 0, IMAGE_PAGE);
  page_set_state (img, p, s);
  return fua ? put_pages_durable (img, p, p + 1) : page_dirtied (img, p);
}

int
image_zero (struct image *img, uint64_t off, uint64_t len, bool may_trim,
            bool fua)
{
  uint64_t end = off + len;
  int err = 0;

  pthread_rwlock_wrlock (&img->lock);
  while (off < end && !err) {
    uint64_t n = IMAGE_PAGE - off % IMAGE_PAGE;

    if (n > end - off)
      n = end - off;
    /* The last page of an odd sized image counts as whole. */
    if (off % IMAGE_PAGE == 0 && (n == IMAGE_PAGE || off + n == img->size))
      err = zero_page (img, off / IMAGE_PAGE,
                       may_trim ? IMAGE_HOLE : IMAGE_ZERO, fua);
    else
      err = zero_part (img, off, n, fua);
    off += n;
  }
  pthread_rwlock_unlock (&img->lock);
  return err;
}

int
image_trim (struct image *img, uint64_t off, uint64_t len, bool keep,
            bool fua)
{
  uint64_t first = (off + IMAGE_PAGE - 1) / IMAGE_PAGE;
  uint64_t last = (off + len) / IMAGE_PAGE;
  uint64_t p;
  int err = 0;

  pthread_rwlock_wrlock (&img->lock);
  if (off + len == img->size)
    last = npages (img);
  for (p = first; p < last && !err; ++p) {
    if (!keep)
      err = zero_page (img, p, IMAGE_HOLE, fua);
    else if (page_state (img, p) == IMAGE_DATA)
      page_set_state (img, p, IMAGE_TRIMMED);
  }
  pthread_rwlock_unlock (&img->lock);
  return err;
}

static int
compare_u64 (const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

int
image_flush (struct image *img)
{
  size_t i, j;
  int err = 0;

  pthread_rwlock_wrlock (&img->lock);
  if (img->ndirty > 1)
    qsort (img->dirty, img->ndirty, sizeof img->dirty[0], compare_u64);
  for (i = 0; i < img->ndirty && !err; i = j) {
    for (j = i + 1; j < img->ndirty; ++j)
      if (img->dirty[j] != img->dirty[j - 1] + 1
          || page_state (img, img->dirty[j]) != page_state (img, img->dirty[i]))
        break;
    err = put_pages_durable (img, img->dirty[i], img->dirty[j - 1] + 1);
  }
  if (!err) {
    for (i = 0; i < img->ndirty; ++i)
      img->state[img->dirty[i]] &= ~IMAGE_DIRTY;
    img->ndirty = 0;
  }
  pthread_rwlock_unlock (&img->lock);
  return err;
}

void
image_forget (struct image *img)
{
  pthread_rwlock_wrlock (&img->lock);
  if (img->map_len > 0) {
    /* Our own copies of pages go, and the file shows through again. */
    madvise (img->mem, img->map_len, MADV_DONTNEED);
    madvise (img->state, npages (img), MADV_DONTNEED);
    scan_file (img);
  }
  img->ndirty = 0;
  pthread_rwlock_unlock (&img->lock);
}

uint64_t
image_dirty_bytes (struct image *img)
{
  uint64_t r;

  pthread_rwlock_rdlock (&img->lock);
  r = (uint64_t) img->ndirty * IMAGE_PAGE;
  pthread_rwlock_unlock (&img->lock);
  return r;
}

enum image_state
image_status (struct image *img, uint64_t off, uint64_t end, uint64_t *until)
{
  uint64_t p = off / IMAGE_PAGE;
  enum image_state s;

  pthread_rwlock_rdlock (&img->lock);
  s = page_state (img, p);
  while (p * IMAGE_PAGE < end && page_state (img, p) == s)
    ++p;
  pthread_rwlock_unlock (&img->lock);
  *until = p * IMAGE_PAGE < end ? p * IMAGE_PAGE : end;
  return s;
}
