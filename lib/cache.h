/* SPDX-License-Identifier: BSD-3-Clause
 *
 * cache - one budget, one loop, the exports in it: what is behind pagecache.h.
 *
 * Only tests include this: to put another kind of origin under a cache.
 */
#ifndef PC_CACHE_H
#define PC_CACHE_H

#include "evloop.h"
#include "origin.h"
#include "pagecache.h"

/* Where origins come from.  name NULL: the configured export.  *why (freed by the caller) on failure.
 * open blocks; canonical (freed by the caller) may stay NULL.
 */
struct cache_factory {
  int (*probe) (void *arg, const char *name, struct origin_info *, char **why);
  int (*open) (void *arg, const char *name, struct evloop *, struct origin **, char **canonical, char **why);

  /* Connect, and compare with what open () found: 0 and a sentence (freed by the caller) or NULL; else nobody could
   * say.  Blocks for about a second at most, and for the look-up of a name.  May be NULL.
   */
  int (*look) (void *arg, const char *name, const struct origin *was, const char *canonical, char **differs);

  int (*list) (void *arg, int (*fn) (void *, const char *, const char *), void *fn_arg, char **why);

  /* Whoever is in open () or list () comes back soon with ECANCELED, and so does who calls them later.  May be NULL. */
  void (*cancel) (void *arg);

  void (*free) (void *arg);
  void *arg;
};

extern int cache_create (const struct pagecache_options *, const struct cache_factory *, struct clock *,
                         struct pagecache **);

/* The inode behind a file (NULL in mode none); for checks. */
struct inode;
extern struct inode *cache_file_inode (struct pagecache_file *);
extern struct inode_env *cache_env (struct pagecache *);

#endif /* PC_CACHE_H */
