/* SPDX-License-Identifier: BSD-3-Clause
 *
 * parse - the digits behind parse.h.
 */
#include <config.h>

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "clock.h"
#include "compiler.h"
#include "parse.h"

static const char too_large[] = "too large";

/* Digits at *p, which is moved behind them. */
static const char *
digits (const char **p, uint64_t *ret)
{
  uint64_t n = 0;

  if (**p == '-')
    return "negative";
  if (!isdigit ((unsigned char) **p))
    return "not a number";
  for (; isdigit ((unsigned char) **p); (*p)++)
    if (__builtin_mul_overflow (n, 10, &n) || __builtin_add_overflow (n, **p - '0', &n))
      return too_large;
  *ret = n;
  return NULL;
}

const char *
parse_number (const char *text, uint64_t *ret)
{
  uint64_t n;
  const char *why = digits (&text, &n);

  if (why != NULL)
    return why;
  if (*text != '\0')
    return "something stands behind the number";
  *ret = n;
  return NULL;
}

const char *
parse_size (const char *text, uint64_t *ret)
{
  static const char powers[] = "bkmgtpe";
  const char *power;
  uint64_t n, unit = 1;
  const char *why = digits (&text, &n);

  if (why != NULL)
    return why;
  if (*text == '.' || *text == ',')
    return "a size has no fraction";
  if (*text != '\0') {
    int c = tolower ((unsigned char) *text);

    if (c == 's')
      unit = 512;
    else if ((power = strchr (powers, c)) != NULL)
      unit = UINT64_C (1) << 10 * (power - powers);
    else
      return "unknown suffix";
    if (text[1] != '\0')
      return "a suffix is one letter";
  }
  if (__builtin_mul_overflow (n, unit, &n) || n > INT64_MAX)
    return too_large;
  *ret = n;
  return NULL;
}

const char *
parse_percent (const char *text, unsigned *ret)
{
  uint64_t n;
  const char *why = digits (&text, &n);

  if (why != NULL)
    return why;
  if (strcmp (text, "%") != 0)
    return "a percentage is whole and ends in %";
  if (n > 100)
    return "more than 100%";
  *ret = n;
  return NULL;
}

const char *
parse_seconds (const char *text, uint64_t *ret_ns)
{
  uint64_t n, unit = NSEC_PER_SEC;
  const char *why = digits (&text, &n);

  if (why != NULL)
    return why;
  if (__builtin_mul_overflow (n, NSEC_PER_SEC, &n))
    return too_large;
  if (*text == '.') {
    text++;
    if (!isdigit ((unsigned char) *text))
      return "no digits behind the point";
    for (; isdigit ((unsigned char) *text); text++) {
      unit /= 10;
      if (unit == 0)
        return "more than nine digits behind the point";
      if (__builtin_add_overflow (n, (uint64_t) (*text - '0') * unit, &n))
        return too_large;
    }
  }
  if (*text != '\0')
    return "not a number of seconds";
  *ret_ns = n;
  return NULL;
}

const char *
parse_bool (const char *text, bool *ret)
{
  static const char *const yes[] = { "1", "true", "t", "yes", "y", "on" };
  static const char *const no[] = { "0", "false", "f", "no", "n", "off" };

  for (size_t i = 0; i < PC_ARRAY_SIZE (yes); i++) {
    if (strcasecmp (text, yes[i]) == 0) {
      *ret = true;
      return NULL;
    }
    if (strcasecmp (text, no[i]) == 0) {
      *ret = false;
      return NULL;
    }
  }
  return "neither true nor false";
}
