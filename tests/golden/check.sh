#!/bin/sh
# Measures the golden results anew and compares them with the committed ones: tests/golden/check.sh BUILD
# One test a scheme; the last line is "N passed, N failed".
build=${1:-build}
here=$(cd "$(dirname "$0")" && pwd)
wanted=$here/results.csv
fail() { echo "FAILED golden: $1"; echo "0 passed, 1 failed"; exit 1; }
[ -s "$wanted" ] || fail "tests/golden/results.csv is missing; make golden writes it"
work=$(mktemp -d) || exit 4
trap 'rm -rf "$work"' EXIT
trap 'exit 4' HUP INT TERM
sh "$here/golden.sh" "$build" "$work/found.csv" 2>"$work/err" || fail "not measured: $(head -n 1 "$work/err")"
passed=0 failed=0
head -n 1 "$wanted" >"$work/w"
head -n 1 "$work/found.csv" >"$work/f"
cmp -s "$work/w" "$work/f" || fail "the columns are $(cat "$work/f"), $(cat "$work/w") is wanted"
for scheme in $(cat "$wanted" "$work/found.csv" | grep -v '^scheme,metric,' | cut -d, -f1 | sort -u); do
    grep "^$scheme," "$wanted" >"$work/w"
    grep "^$scheme," "$work/found.csv" >"$work/f"
    if cmp -s "$work/w" "$work/f"; then passed=$((passed + 1)); echo "ok golden-$scheme"; continue; fi
    failed=$((failed + 1))
    echo "FAILED golden-$scheme: $(diff "$work/w" "$work/f" | grep -c '^>') of $(wc -l <"$work/f") rows differ (< committed, > found); if they are meant to, make golden:"
    diff "$work/w" "$work/f" | grep '^[<>]' | head -n 6 | sed 's/^/  /'
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
