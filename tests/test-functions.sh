#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Answers: do tests/functions.sh and tests/run-test tell what happened?
#
# Their verdicts are those of every other test, so each is seen here once.

. tests/functions.sh

# verdict EXPECTED SCRIPT: run-test's exit status for a test of that text.
verdict () {
  local expected=$1 got=0

  printf '%s\n' "$2" > "$tmp/case.sh"
  PC_TEST_TIMEOUT=${3:-60} bash "$srcdir/tests/run-test" "$tmp/case.sh" \
    > "$tmp/case.log" 2>&1 || got=$?
  if [ "$got" -ne "$expected" ]; then
    cat "$tmp/case.log"
    fail "expected exit status $expected, got $got, of: $2"
  fi
}
source_it="cd '$builddir'; . tests/functions.sh"

verdict 0 "$source_it"
verdict 1 "$source_it; false"
verdict 1 "$source_it; fail because"
grep -q 'FAILED: because' "$tmp/case.log"
verdict 1 "$source_it; wait_until 0 false || fail late"

# Skips: fine at home, not where CI runs.
unset CI
verdict 77 "$source_it; requires_command no-such-program"
verdict 77 "$source_it; requires false"
export CI=true
verdict 1 "$source_it; requires false"
grep -q 'skips-allowed' "$tmp/case.log"
verdict 1 "echo '[  SKIPPED ] some_case'"
grep -q 'case:some_case was skipped' "$tmp/case.log"
unset CI
verdict 0 "echo '[  SKIPPED ] some_case'"

# Time, and what is left behind.
verdict 99 "tail -f /dev/null" 1
grep -q 'was killed after 1 s' "$tmp/case.log"
verdict 99 "tail -f /dev/null & exit 0"
grep -q 'left process' "$tmp/case.log"

# Clean-ups run newest first, after failures too; the folder goes.
verdict 1 "$source_it; echo \$tmp > $tmp/where
  cleanup_fn echo one; cleanup_fn echo 'two  words'; false"
[ "$(grep -A1 'two  words' "$tmp/case.log" | tail -n 1)" = one ]
[ ! -e "$(cat "$tmp/where")" ]

# Servers: started, asked, stopped; gone in any case.
verdict 0 "$source_it; start_nbdkit a memory 1M
  [ \"\$(nbdsh -u \"\$a_uri\" -c 'print (h.get_size ())')\" = 1048576 ]
  stop_nbdkit a"
verdict 0 "$source_it; start_nbdkit a memory 1M"
verdict 1 "$source_it; start_nbdkit a memory not-a-size"
grep -q 'did not start' "$tmp/case.log"
grep -q 'the end of the log of a' "$tmp/case.log"
verdict 1 "$source_it; start_nbdkit a memory 1M; kill_nbdkit a KILL
  wait_nbdkit a || { [ \$? -eq 137 ] && exit 1; }"

# A report about a server fails a test that would pass.
verdict 98 "echo a leak > \"\$PC_REPORTS/server.1\""
grep -q 'a leak' "$tmp/case.log"
# A checker that failed itself gets one more chance.
for own in 'ThreadSanitizer failed to allocate' 'LeakSanitizer has encountered a fatal error'; do
  verdict 0 "[ -n \"\${PC_AGAIN:-}\" ] || { echo '$own' > \"\$PC_REPORTS/server.1\"; exit 1; }"
  verdict 1 "echo '$own' > \"\$PC_REPORTS/server.1\"; exit 1"
  grep -q "$own" "$tmp/case.log"
done
# But for the leak that is nbdkit's own, with what hangs from it.
leak='ERROR: LeakSanitizer: detected memory leaks'
cat > "$tmp/theirs" <<END
==1==$leak

Direct leak of 280 byte(s) in 1 object(s) allocated from:
    #0 0x7f in __interceptor_malloc ../../asan_malloc_linux.cpp:69
    #1 0x55 (/usr/bin/nbdkit+0x9800)

Indirect leak of 16 byte(s) in 1 object(s) allocated from:
    #0 0x7f in __interceptor_malloc ../../asan_malloc_linux.cpp:69
    #1 0x7f in plugin_open plugin.c:465
    #2 0x55 (/usr/bin/nbdkit+0xefac)

SUMMARY: AddressSanitizer: 296 byte(s) leaked in 2 allocation(s).
END
sed 's/^Indirect/Direct/' "$tmp/theirs" > "$tmp/ours"
verdict 0 "cp $tmp/theirs \"\$PC_REPORTS/server.1\""
verdict 98 "cp $tmp/ours \"\$PC_REPORTS/server.1\""
# So do words of the checker that writes no file, in a build that has it.
export SANITIZERS=undefined
verdict 98 "$source_it; SANITIZERS=undefined
  echo 'x.c:1:2: runtime error: signed' > \"\$tmp/a.log\""
verdict 0 "$source_it; echo fine > \"\$tmp/a.log\""
