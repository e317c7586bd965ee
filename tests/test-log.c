/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tests of lib/log: one call is one line, repeated ones are counted, names are quoted.
 */
#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

struct heard {
  unsigned lines;
  int level;
  char last[LOG_LINE_MAX], before[LOG_LINE_MAX];
};

static void
hear (void *arg, int level, const char *line)
{
  struct heard *h = arg;

  h->lines++;
  h->level = level;
  memcpy (h->before, h->last, sizeof h->before);
  assert_true (strlen (line) < sizeof h->last);
  strcpy (h->last, line);
}

static struct heard heard;
static struct clock_fake the_clock = CLOCK_FAKE_INIT;
static struct log the_log;

static int
setup (void **state PC_UNUSED)
{
  memset (&heard, 0, sizeof heard);
  log_init (&the_log, hear, &heard, &the_clock.base);
  return 0;
}

static int
teardown (void **state PC_UNUSED)
{
  log_release (&the_log);
  return 0;
}

TEST (a_message_reaches_the_sink_with_its_level)
{
  log_error (&the_log, "%s: %d", "vm1", 5);
  assert_string_equal (heard.last, "vm1: 5");
  assert_int_equal (heard.level, LOG_LEVEL_ERROR);
  log_warning (&the_log, "w");
  assert_int_equal (heard.level, LOG_LEVEL_WARNING);
  log_info (&the_log, "i");
  assert_int_equal (heard.level, LOG_LEVEL_INFO);
  assert_int_equal (heard.lines, 3);
}

TEST (a_message_is_one_line_whatever_is_in_it)
{
  log_error (&the_log, "a%sb", "\n\r\t\x7f\x1b");
  assert_string_equal (heard.last, "a?????b");
  assert_int_equal (heard.lines, 1);
}

TEST (a_long_line_is_cut_and_says_so)
{
  char text[LOG_LINE_MAX + 1];

  for (size_t len = LOG_LINE_MAX - 2; len <= LOG_LINE_MAX; len++) {
    memset (text, 'x', sizeof text);
    text[len] = '\0';
    log_info (&the_log, "%s", text);
    if (len < LOG_LINE_MAX)
      assert_string_equal (heard.last, text);
    else
      assert_string_equal (heard.last + LOG_LINE_MAX - 5, "x...");
  }
}

TEST (a_debug_line_is_said_only_when_its_switch_is_on)
{
  log_debug (inode, &the_log, "hit %d", 1);
  assert_int_equal (heard.lines, 0);
  pagecache_debug_evict = 1;
  log_debug (inode, &the_log, "hit %d", 1);
  assert_int_equal (heard.lines, 0);
  pagecache_debug_inode = 1;
  log_debug (inode, &the_log, "hit %d", 1);
  assert_string_equal (heard.last, "inode: hit 1");
  assert_int_equal (heard.level, LOG_LEVEL_DEBUG);
  pagecache_debug_evict = pagecache_debug_inode = 0;
}

TEST (repeated_messages_are_counted_and_the_count_is_told)
{
  struct log_limit limit = { 0 }, other = { 0 };

  for (int i = 0; i < 100; i++)
    log_limited (&the_log, &limit, LOG_LEVEL_WARNING, "n %d", i);
  assert_int_equal (heard.lines, LOG_LIMIT_BURST);
  log_limited (&the_log, &other, LOG_LEVEL_WARNING, "other");
  assert_string_equal (heard.last, "other");

  clock_fake_advance (&the_clock, LOG_LIMIT_NS - 1);
  log_limited (&the_log, &limit, LOG_LEVEL_WARNING, "early");
  assert_int_equal (heard.lines, LOG_LIMIT_BURST + 1);
  clock_fake_advance (&the_clock, 1);
  log_limited (&the_log, &limit, LOG_LEVEL_WARNING, "n %d", 101);
  assert_int_equal (heard.lines, LOG_LIMIT_BURST + 3);
  assert_string_equal (heard.last, "n 101");
  assert_string_equal (heard.before, "96 messages like the next one were not shown");

  /* Nothing was hidden since: no number. */
  clock_fake_advance (&the_clock, LOG_LIMIT_NS);
  log_limited (&the_log, &limit, LOG_LEVEL_WARNING, "n");
  assert_string_equal (heard.before, "n 101");
}

TEST (names_are_quoted)
{
  struct log_name q;
  char name[LOG_NAME_MAX * 2];

  assert_string_equal (log_quote_string (&q, "vm-1 disk"), "vm-1 disk");
  assert_string_equal (log_quote_string (&q, ""), "");
  assert_string_equal (log_quote (&q, "a\0b", 3), "a\\x00b");
  assert_string_equal (log_quote_string (&q, "\n\"\\\xff"), "\\x0a\\x22\\x5c\\xff");

  for (size_t len = LOG_NAME_MAX - 6; len <= LOG_NAME_MAX; len++)
    for (int c = 0; c < 256; c += 'x') {
      memset (name, c, sizeof name);
      log_quote (&q, name, len);
      assert_true (strlen (q.text) < sizeof q.text);
      if (c != 'x' || len > LOG_NAME_MAX - 4)
        assert_string_equal (q.text + strlen (q.text) - 3, "...");
      else
        assert_int_equal (strlen (q.text), len);
    }
}

TEST (without_a_sink_lines_go_to_standard_error)
{
  struct log log;
  char buf[100];
  FILE *f = tmpfile (), *saved = stderr;

  assert_non_null (f);
  log_init (&log, NULL, NULL, &the_clock.base);
  stderr = f;
  log_warning (&log, "x");
  stderr = saved;
  rewind (f);
  assert_non_null (fgets (buf, sizeof buf, f));
  assert_string_equal (buf, "pagecache: warning: x\n");
  fclose (f);
  log_release (&log);
}

#define T(name) cmocka_unit_test_setup_teardown (name, setup, teardown)

int
main (void)
{
  const struct CMUnitTest tests[] = {
    T (a_message_reaches_the_sink_with_its_level),
    T (a_message_is_one_line_whatever_is_in_it),
    T (a_long_line_is_cut_and_says_so),
    T (a_debug_line_is_said_only_when_its_switch_is_on),
    T (repeated_messages_are_counted_and_the_count_is_told),
    T (names_are_quoted),
    T (without_a_sink_lines_go_to_standard_error),
  };

  return cmocka_run_group_tests (tests, NULL, NULL);
}
