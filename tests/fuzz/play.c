/* SPDX-License-Identifier: BSD-3-Clause
 *
 * play - runs a harness over files: those named, or its corpus.
 *
 * What a fuzzer once found stays found: "make check" plays every corpus in every build, with whatever checker it has.
 */
#include <config.h>

#include "test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

static void
play (const char *path)
{
  FILE *f = fopen (path, "rb");
  uint8_t *buf;
  size_t len;

  if (f == NULL) {
    perror (path);
    exit (2);
  }
  fseek (f, 0, SEEK_END);
  len = (size_t) ftell (f);
  rewind (f);
  buf = malloc (len ? len : 1);         /* exactly: so that a checker sees what is read behind it */
  assert_non_null (buf);
  assert_int_equal (fread (buf, 1, len, f), len);
  fclose (f);
  printf ("%s, %zu bytes\n", path, len);
  fflush (stdout);
  LLVMFuzzerTestOneInput (buf, len);
  free (buf);
}

int
main (int argc, char **argv)
{
  const char *srcdir = getenv ("srcdir");
  struct dirent **entry;
  char path[4096];
  int i, n, played = 0;

  for (i = 1; i < argc; i++)
    play (argv[i]);
  if (argc > 1)
    return 0;
  LLVMFuzzerTestOneInput ((const uint8_t *) "", 0);
  snprintf (path, sizeof path, "%s/tests/fuzz/corpus/%s", srcdir ? srcdir : ".", FUZZ_CORPUS);
  n = scandir (path, &entry, NULL, alphasort);
  for (i = 0; i < n; i++) {
    if (entry[i]->d_name[0] != '.') {
      snprintf (path, sizeof path, "%s/tests/fuzz/corpus/%s/%s", srcdir ? srcdir : ".", FUZZ_CORPUS, entry[i]->d_name);
      play (path);
      played++;
    }
    free (entry[i]);
  }
  if (n >= 0)
    free (entry);
  printf ("%d files\n", played);
  return played > 0 ? 0 : 1;
}
