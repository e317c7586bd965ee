/* SPDX-License-Identifier: BSD-3-Clause
 *
 * testorigin-image - the bytes of one export of the test origin, twice.
 *
 * Answers: what would a client read now, and what would it read if the origin
 * lost its power now?
 *
 * The durable image is a file (or a memfd when no file was named).  The
 * volatile image is a private mapping of it: a write lands on a page of our
 * own, a flush copies such pages into the file, and image_forget () drops them
 * so that the file shows through again, which is also what a kill -9 and a
 * new start do.
 *
 * Units    bytes from the start of the export; pages are IMAGE_PAGE bytes.
 * Threads  any; every function takes the image's own lock.
 * Errors   0 or a positive errno value.
 * Cost     memory and flush time follow the pages touched, not the size.
 *
 * Invariants
 *   (1) a page in state IMAGE_HOLE or IMAGE_ZERO holds only zeros
 *   (2) a page whose volatile bytes may differ from the file has IMAGE_DIRTY
 *       set and is listed once in dirty[]
 */
#ifndef PC_TESTORIGIN_IMAGE_H
#define PC_TESTORIGIN_IMAGE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_PAGE 4096

enum image_state {
  IMAGE_HOLE = 0,               /* not allocated, reads as zeros */
  IMAGE_DATA = 1,
  IMAGE_ZERO = 2,               /* allocated, reads as zeros */
  IMAGE_TRIMMED = 3,            /* not allocated, bytes unspecified */
};
#define IMAGE_STATE_MASK 3
#define IMAGE_DIRTY 0x80

struct image {
  /* Fixed at creation. */
  int fd;
  uint64_t size;
  size_t map_len;
  uint8_t *mem;                 /* the volatile image */

  pthread_rwlock_t lock;
  /* Guarded by lock. */
  uint8_t *state;               /* one byte a page */
  uint64_t *dirty;              /* page numbers, in no order */
  size_t ndirty, dirty_alloc;
};

/* path NULL: the durable image lives in memory and dies with the process.
 * size -1: what the file has.
 */
extern int image_init (struct image *img, const char *path, int64_t size);
extern void image_release (struct image *img);

extern void image_read (struct image *img, void *buf, uint64_t off,
                        uint64_t len);
extern int image_write (struct image *img, const void *buf, uint64_t off,
                        uint64_t len, bool fua);
extern int image_zero (struct image *img, uint64_t off, uint64_t len,
                       bool may_trim, bool fua);
/* Whole pages only.  keep: the old bytes stay, and the page's content counts
 * as unspecified; else it reads as zeros.
 */
extern int image_trim (struct image *img, uint64_t off, uint64_t len,
                       bool keep, bool fua);
extern int image_flush (struct image *img);
extern void image_forget (struct image *img);
extern uint64_t image_dirty_bytes (struct image *img);

/* State of the page at off, and how far the same state lasts (at most end). */
extern enum image_state image_status (struct image *img, uint64_t off,
                                      uint64_t end, uint64_t *until);

#endif
