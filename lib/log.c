/* SPDX-License-Identifier: BSD-3-Clause
 *
 * log - formatting, limits and quoting behind log.h.
 */
#include <config.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "log.h"

#define LOG_DEFINE_SWITCH(module) int pagecache_debug_##module;
LOG_MODULES (LOG_DEFINE_SWITCH)

static void
to_standard_error (void *arg, int level, const char *line)
{
  static const char *const words[] = { "debug", "info", "warning", "error" };

  (void) arg;
  fprintf (stderr, "pagecache: %s: %s\n", words[level], line);
}

void
log_init (struct log *log, void (*fn) (void *arg, int level, const char *line), void *arg,
          struct clock *clock)
{
  log->fn = fn ? fn : to_standard_error;
  log->arg = arg;
  log->clock = clock;
  lock_init (&log->lock, RANK_LOG);
}

void
log_release (struct log *log)
{
  lock_release (&log->lock);
}

static void
say (struct log *log, enum log_level level, const char *fmt, va_list args)
{
  char line[LOG_LINE_MAX];
  int n = vsnprintf (line, sizeof line, fmt, args);

  if (n < 0)
    return;
  if ((size_t) n >= sizeof line)
    memcpy (line + sizeof line - 4, "...", 4);

  /* Even where a name was not quoted, it must not begin a line of its own (nbd.B-22). */
  for (char *p = line; *p; p++)
    if ((unsigned char) *p < 0x20 || *p == 0x7f)
      *p = '?';
  log->fn (log->arg, level, line);
}

void
log_message (struct log *log, enum log_level level, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  say (log, level, fmt, args);
  va_end (args);
}

void
log_limited (struct log *log, struct log_limit *limit, enum log_level level, const char *fmt,
             ...)
{
  uint64_t now_ns = clock_now (log->clock);
  unsigned hidden = 0;
  bool show;
  va_list args;

  lock_take (&log->lock);
  if (limit->since_ns == 0 || now_ns - limit->since_ns >= LOG_LIMIT_NS) {
    hidden = limit->hidden;
    *limit = (struct log_limit) { .since_ns = now_ns };
  }
  show = limit->shown < LOG_LIMIT_BURST;
  if (show)
    limit->shown++;
  else
    limit->hidden++;
  lock_drop (&log->lock);

  if (hidden > 0)
    log_message (log, level, "%u messages like the next one were not shown", hidden);
  if (show) {
    va_start (args, fmt);
    say (log, level, fmt, args);
    va_end (args);
  }
}

const char *
log_quote (struct log_name *out, const char *name, size_t len)
{
  static const char hex[] = "0123456789abcdef";
  char *p = out->text;
  char *const end = out->text + sizeof out->text - sizeof "...";

  for (size_t i = 0; i < len; i++) {
    unsigned char c = name[i];
    bool plain = c >= 0x20 && c < 0x7f && c != '\\' && c != '"';

    if (p + (plain ? 1 : 4) > end) {
      memcpy (p, "...", 3);
      p += 3;
      break;
    }
    if (plain)
      *p++ = c;
    else {
      *p++ = '\\';
      *p++ = 'x';
      *p++ = hex[c >> 4];
      *p++ = hex[c & 15];
    }
  }
  *p = '\0';
  return out->text;
}

const char *
log_quote_string (struct log_name *out, const char *name)
{
  return log_quote (out, name, strlen (name));
}
