#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Answers: do the scripts of contrib/ complain about what they are for, and
# about nothing else?

. tests/functions.sh

tree="$tmp/tree"
mkdir -p "$tree/lib" "$tree/plugin" "$tree/tests" "$tree/contrib"
cp "$srcdir/contrib/source-files" "$tree/contrib/"
spdx='/* SPDX-License-Identifier: BSD-3-Clause */'

# put FILE LINE...: a file with its licence line.
put () {
  local file=$1

  shift
  printf '%s\n' "$spdx" "$@" > "$tree/$file"
}

fine () {
  srcdir="$tree" "$srcdir/contrib/$1" > "$tmp/out" 2>&1 ||
    { cat "$tmp/out"; fail "$1 complains, expected: fine"; }
}

# wrong CHECK TEXT: it fails and says TEXT.
wrong () {
  if srcdir="$tree" "$srcdir/contrib/$1" > "$tmp/out" 2>&1; then
    fail "$1 is content, expected: $2"
  fi
  grep -qF -- "$2" "$tmp/out" || { cat "$tmp/out"; fail "$1 does not say: $2"; }
}

lines () {
  local i

  for (( i = 0; i < $1; i++ )); do
    echo '  x++;'
  done
}

## Layers
printf '0 low\n1 mid\n1 mad\n2 top\n' > "$tree/lib/LAYERS"
put lib/low.h
put lib/mid.h '#include "low.h"'
put lib/mad.h '#include <stdio.h>'
put lib/top.h '#include "mid.h"'
put lib/top.c '#include "top.h"' '#include "low.h"'
fine check-layers
put lib/low.h '#include "mid.h"'
wrong check-layers 'lib/low.h:2: tier 0 includes mid.h of tier 1'
put lib/low.h
put lib/mad.h '#include "mid.h"'
wrong check-layers 'lib/mad.h:2: tier 1 includes mid.h of tier 1'
put lib/mad.h '#include <nbdkit-plugin.h>'
wrong check-layers 'knows nothing of nbdkit'
put lib/mad.h '#include "reply.h"'
wrong check-layers 'reply.h, which is not in lib/LAYERS'
put lib/mad.h
put lib/new.c
wrong check-layers 'module new is not in lib/LAYERS'
rm "$tree/lib/new.c"

## Headers
fine check-headers
put lib/top.h 'extern size_t f (void);'
wrong check-headers 'top.h does not compile alone'
put lib/top.h 'struct s { int i; };'
wrong check-headers 'top.h does not compile alone'
put lib/top.h

## Rules
# The ids are put together here, so that this file cites none of them.
s=SEG l=L d=D
printf -- '- **%s-1** One.\n- **%s7** Seven.\n- **nbd.%s-2** Two.\n' $s $d $l \
  > "$tree/lib/RULES.md"
put lib/top.c "/* $s-1, ${d}7; nbd.$l-2 of BSD-3 in UTF-8, 0x${d}8, P${d}9. */"
fine check-rules
put lib/top.c "/* $s-11. */"
wrong check-rules "lib/top.c:2: $s-11 is not in lib/RULES.md"
put lib/top.c "/* ${d}8 */"
wrong check-rules "${d}8 is not in lib/RULES.md"
put lib/top.c "/* $l-2 */"
wrong check-rules "say sem.$l-2 or nbd.$l-2"
put lib/top.c "/* sem.$s-1 */"
fine check-rules
put lib/top.c "/* sem.$l-2 */"
wrong check-rules "sem.$l-2 is not in lib/RULES.md"
put lib/top.c
printf -- '- **%s-1** Again.\n' $s >> "$tree/lib/RULES.md"
wrong check-rules "$s-1 is stated twice"

## Style
echo "# $spdx" > "$tree/lib/RULES.md"
echo "# $spdx" > "$tree/lib/LAYERS"
echo "# $spdx" > "$tree/tests/skips-allowed"
fine check-style
echo 'int x;' > "$tree/lib/top.c"
wrong check-style 'lib/top.c:1: no line SPDX'
put lib/top.c "/* FIX""ME */"
wrong check-style 'lib/top.c:2: a note to do something later'
put lib/top.c '#define TEMPLATE "x.XXXXXX"'
fine check-style
put lib/top.c 'int' 'f (void)' '{' "$(lines 80)" '}'
fine check-style
put lib/top.c 'int' 'f (void)' '{' "$(lines 81)" '}'
wrong check-style 'f has 81 lines'
put lib/top.c '/* LONG: a table */' 'int' 'f (void)' '{' "$(lines 81)" '}'
fine check-style
put lib/top.c '/* LONG: a table */' 'int' 'f (void)' '{' "$(lines 81)" '}' \
  'int' 'g (void)' '{' "$(lines 81)" '}'
wrong check-style 'g has 81 lines'
put lib/top.c "$(lines 999)"
fine check-style
put lib/top.c "$(lines 1000)"
wrong check-style 'at most 1000 lines'
put lib/top.c '/* LONG: one table */' '#include <stdio.h>' "$(lines 1000)"
fine check-style
put lib/top.c 'int f (void) {'
wrong check-style 'on its own line'
put lib/top.c
nap=sleep
put tests/test-a.c "  u$nap (5);"
wrong check-style 'tests/test-a.c:2: tests wait for conditions'
put tests/test-a.c
put tests/b.sh "$nap 1"
wrong check-style 'tests/b.sh:2: tests wait for conditions'
put tests/b.sh "# a server may $nap as long as it likes"
fine check-style

## Skips
printf '# SPDX\nb no kernel\n' > "$tree/tests/skips-allowed"
fine check-skips
printf 'b\n' > "$tree/tests/skips-allowed"
wrong check-skips 'b without a reason'
printf 'c no kernel\n' > "$tree/tests/skips-allowed"
wrong check-skips 'no test c'
printf 'test-a:some_case no kernel\n' > "$tree/tests/skips-allowed"
wrong check-skips 'no test test-a:some_case'
put tests/test-a.c 'TEST (some_case)'
fine check-skips
