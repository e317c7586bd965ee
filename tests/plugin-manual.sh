#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The manual, the help and --dump-plugin say the same as the code.
. tests/functions.sh
requires_command podchecker

pod="$srcdir/plugin/nbdkit-pagecache-plugin.pod"
fake="$builddir/tests/.libs/nbdkit-fakecache-plugin.so"

podchecker -warnings "$pod" > "$tmp/checked" 2>&1 || { cat "$tmp/checked"; fail "podchecker"; }

# Every parameter of the table in options.c has a paragraph and is in the help; and
# the manual has no other.
sed -n '/^static const struct rule rules/,/^};/s/^  { "\([a-z-]*\)",.*/\1/p' \
  "$srcdir/plugin/options.c" | sort > "$tmp/code"
[ "$(wc -l < "$tmp/code")" -ge 25 ] || fail "the table of parameters was not found"
sed -n '/^=head1 PARAMETERS/,/^=head1 CACHING/s/^=item \[\{0,1\}B<\([a-z-]*\)=.*/\1/p' "$pod" |
  sort -u > "$tmp/manual"
diff "$tmp/code" "$tmp/manual" || fail "parameters of the code (<) and of the manual (>)"
launch "$NBDKIT" "$fake" --help > "$tmp/help"
while read -r name; do
  case $name in
    file | dir) continue ;;     # nothing to offer yet
  esac
  grep -q -- "\b$name\b" "$tmp/help" || fail "$name is not in the help"
done < "$tmp/code"

# Each is in the synopsis and in README.md, has a test of its bad values and one of what it does:
# a line "# effect of NAME, NAME: ..." in a test of the plugin.
sed -n '/^=head1 SYNOPSIS/,/^=head1 DESC/p' "$pod" > "$tmp/synopsis"
sed -n '/^## Parameters/,/^## Read on/p' "$srcdir/README.md" > "$tmp/readme"
cat "$srcdir"/tests/plugin-*.sh | sed -n 's/^ *# effect of \([^:]*\):.*/, \1,/p' > "$tmp/effects"
while read -r name; do
  grep -E -q "^refused \"\^?$name=" "$srcdir/tests/plugin-parameters.sh" ||
    fail "no test of a bad value of $name"
  grep -q ", $name," "$tmp/effects" || fail "no test of what $name does"
  case $name in
    file | dir) continue ;;
  esac
  grep -q -- "\b$name=\|\[$name=\]" "$tmp/synopsis" || fail "$name is not in the synopsis"
  grep -q -- "\`$name\`" "$tmp/readme" || fail "$name is not in README.md"
done < "$tmp/code"
grep -o ', [a-z-]*' "$tmp/effects" | cut -c 3- | sort -u | diff "$tmp/code" - ||
  fail "tests of the effects (>) of what is no parameter (<)"

# The counters of the manual are those that are written (plugin-effects.sh has them).
sed -n '/^for name in hits/,/do$/p' "$srcdir/tests/plugin-effects.sh" |
  tr -s ' ;\\' '\n' | grep -v -x -e for -e name -e in -e do -e '' | sort > "$tmp/counters"
sed -n '/^=head1 STATISTICS/,/^=head1 DEBUG/s/^ \([a-z_][a-z_]*\(, [a-z_]*\)*\)\(  .*\)\{0,1\}$/\1/p' "$pod" |
  tr -s ', ' '\n' | grep . | sort > "$tmp/told"
diff "$tmp/counters" "$tmp/told" || fail "counters that are written (<) and told (>)"

# No clock that somebody could set back (nbd.B-100).
! grep -n -E 'CLOCK_REALTIME|gettimeofday|[^_a-z]time \((NULL|&)' "$srcdir"/lib/*.c "$srcdir"/plugin/*.c ||
  fail "a clock that can be set is read"

# The values that the manual promises are those of the messages.
grep -q 'C<writeback>' "$pod" && grep -q '^=item B<cache=unsafe>' "$pod" ||
  fail "a mode is missing"

# Every debug switch of the code is exported by the plugin and listed.
launch "$NBDKIT" "$fake" --dump-plugin > "$tmp/dump"
switches=$(sed -n 's/^pagecache_debug_switches=//p' "$tmp/dump")
[ -n "$switches" ] || fail "no debug switches"
for s in $switches; do
  nm -D --defined-only "$fake" | grep -q " pagecache_debug_$s\$" ||
    fail "the switch $s is not visible to nbdkit"
  # nbdkit complains about a switch that it does not find.
  launch "$NBDKIT" -D "pagecache.$s=1" "$fake" --version > "$tmp/version" 2>&1
  ! grep -q debug "$tmp/version" || { cat "$tmp/version"; fail "-D pagecache.$s=1"; }
done
nm -D --defined-only "$fake" | awk '$2 != "A" { print $3 }' |
  grep -v -e '^pagecache_debug_' -e '^plugin_init$' -e '^_\(init\|fini\|edata\|end\|_bss_start\)$' \
  > "$tmp/visible" || :
[ ! -s "$tmp/visible" ] || { cat "$tmp/visible"; fail "visible beside plugin_init and switches"; }

for key in pagecache_version pagecache_nbdkit_api_version pagecache_libnbd_version \
           pagecache_libevent_version pagecache_page_size pagecache_modes \
           pagecache_cache_size_min pagecache_cache_size_max pagecache_connections_max \
           pagecache_clients_max \
           pagecache_debug_checks thread_model; do
  grep -q "^$key=." "$tmp/dump" || fail "--dump-plugin lacks $key"
done
grep -q '^thread_model=parallel$' "$tmp/dump" || fail "not parallel"
grep -q '^magic_config_key=uri$' "$tmp/dump" || fail "uri may not be left out"
