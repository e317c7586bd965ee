#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# test-bad-input.sh - does tests/BAD-INPUT.md have every rule about bad input, with tests that
# exist and cite it, or with a reason?

. tests/functions.sh

cd "$srcdir/tests"
wrong=0
complain () {
  echo "$*"
  wrong=1
}

# cites FILE [CASE] RULE: in the file; in the comment above the case, or in the case.
cites () {
  case $# in
    2) grep -E -q "nbd\.$2([^0-9]|$)" "$1" ;;
    3) awk -v head="TEST ($2)" -v rule="nbd\\.$3([^0-9]|$)" '
         $0 == head && above ~ rule { found = 1 }
         $0 == head { inside = 1 }
         inside && $0 ~ rule { found = 1 }
         /^}/ { inside = 0 }
         { above = $0 }
         END { exit !found }' "$1" ;;
  esac
}

sed -n 's/^| \([0-9-]*\) | \(.*\) | \(.*\) | \(.*\) |$/\1|\3|\4/p' BAD-INPUT.md > "$tmp/rows"
# The other numbers are nobody's.
{ seq 1 27; seq 30 58; echo 60-76; seq 80 100; } > "$tmp/want"
cut -d '|' -f 1 "$tmp/rows" | diff "$tmp/want" - > "$tmp/diff" ||
  complain "rows that are missing (<) or strange (>): $(cat "$tmp/diff")"

while IFS='|' read -r row tests why; do
  if [ "$tests" = - ]; then
    [ -n "$why" ] || complain "B-$row has neither test nor reason"
    continue
  fi
  for t in $tests; do
    t=${t//\`/}
    file=${t%%:*}
    case=${t#"$file"}
    case=${case#:}
    if [ ! -f "$file" ]; then
      complain "B-$row: there is no $file"
    elif [ -n "$case" ]; then
      grep -q "^TEST ($case)" "$file" || complain "B-$row: $file has no case $case"
      # A table of cases above the test counts as the test's.
      cites "$file" "$case" "B-$row" || cites "$file" "B-$row" ||
        complain "B-$row: $file does not cite it"
    else
      cites "$file" "B-$row" || complain "B-$row: $file does not cite it"
    fi
  done
done < "$tmp/rows"
[ "$wrong" -eq 0 ] || fail "tests/BAD-INPUT.md and the tests do not agree"
