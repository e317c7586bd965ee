#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# bench-works.sh - the bench measures, writes JSON, notices a cache that is
# off, and leaves nothing behind.  Its figures are not looked at here.

. tests/functions.sh

requires test -f "$plugin"
requires_command fio
requires "$PYTHON3" -c 'import nbd'

bench=("$PYTHON3" "$srcdir/contrib/bench/bench.py" --tiny --nbdkit "$NBDKIT")
[ "$SANITIZERS" = no ] || bench+=(--launch "$launch")
mkdir "$tmp/t"
export TMPDIR="$tmp/t"

nothing_left () {
  [ -z "$(ls -A "$TMPDIR")" ] || fail "left behind: $(ls -A "$TMPDIR")"
}

# A race and a count: each row gets a figure and a verdict.
"${bench[@]}" --only P1.qd1,P13 --json "$tmp/new.json"
"$PYTHON3" - "$tmp/new.json" <<'END'
import json
import sys

run = json.load(open(sys.argv[1]))
rows = {r["row"]: r for r in run["rows"]}
assert {"P1.qd1", "P13.reads", "P13.status", "P13.frames"} <= set(rows), rows
for r in rows.values():
    assert r["verdict"] in ("holds", "fails", "not measurable now"), r
    assert r["op"] in (">=", "<=") and r["work"] and r["goal"] is not None
    assert r["figure"] is not None and r["seconds"] > 0, r
race = rows["P1.qd1"]
assert race["figure"] > 0 and race["spread"] >= 0 and race["twins"]
assert race["behind"]["ours.iops"] > 0 and "ours" in race["cpu_us"]
assert race["verified"] > 0
assert run["machine"]["cpus"] > 0 and run["seconds"] > 0
END
nothing_left

# The rest is about the bench alone, and slow with servers under a checker.
[ "$SANITIZERS" = no ] || exit 0

# Two runs beside each other: the same work can be compared.
"${bench[@]}" --only P13 --compare "$tmp/new.json" > "$tmp/compare"
grep -q '^beside ' "$tmp/compare"
sed '1,/^beside /d' "$tmp/compare" | grep -q '^P13.reads '

# Without a cache the row that counts requests fails, and the bench says so.  (Rows of time are not asked here: on a
# busy machine any verdict is right.)
"${bench[@]}" --self-check --only P13
nothing_left

# Told to stop in the midst of it.
"${bench[@]}" --only P1.qd1 > /dev/null &
pid=$!
server_is_up () {
  compgen -G "$TMPDIR/pagecache-bench.*/*.sock" > /dev/null
}
wait_until 20 server_is_up || fail "no server of the bench's after 20 s"
kill -TERM "$pid"
status=0
wait "$pid" || status=$?
[ "$status" -eq 143 ] || fail "exit status $status after SIGTERM"
nothing_left

"${bench[@]}" --only nonsense 2> /dev/null && fail "no such row, no complaint"
"${bench[@]}" --list > "$tmp/list"
grep -q '^P14 ' "$tmp/list"
