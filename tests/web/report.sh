#!/bin/sh
# The report in a real browser: tests/web/report.sh BUILD. Needs chromium (says so if it is missing) and tests/system/big_run's made-up run of 27 layers, 64 experts,
# 12 schemes. Checks that the page's script is allowed and runs, that nothing is fetched and nothing complained of, that a link to a layer opens it, the size, and the
# contrast of text in both colour schemes. Screenshots of a wide and a narrow window, light and dark, are left in BUILD/web to be looked at.
# The last line is "N passed, N failed".
build=$(cd "${1:-build}" && pwd) || exit 4
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
[ -n "$browser" ] || { echo "no chromium here: apt-get install chromium"; exit 0; }
passed=0 failed=0
out=$build/web
rm -rf "$out" && mkdir -p "$out" || exit 4
ok() { passed=$((passed + 1)); }
wrong() { failed=$((failed + 1)); printf 'FAILED %s: %s\n' "$1" "$2"; }
is() { if [ "$2" -eq "$3" ]; then ok; else wrong "$1" "$2 found, $3 wanted"; fi; }
for run in base head; do "$build/tests/big_run" "$out/r.db" $run 27 64 || exit 4; done
"$build/dsbench" report head --base base --db "$out/r.db" -o "$out/report.html" --quiet || exit 4
page=file://$out/report.html
browse() { timeout 180 "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$out/profile" "$@" 2>"$out/log"; }

browse --enable-logging=stderr --dump-dom "$page#layer-3" >"$out/dom.html"
is no-complaint "$(grep -c 'CONSOLE' "$out/log")" 0
if [ "$(grep -c '<th[^>]*><button' "$out/dom.html")" -gt 20 ]; then ok; else wrong script-runs "no buttons in the heads of tables: the script was refused"; fi
is layer-opens "$(grep -c '<details id="layer-3" open' "$out/dom.html")" 1
is nothing-fetched "$(grep -Ec '(src|href)="?(https?:)?//' "$out/report.html")" 0
size=$(wc -c <"$out/report.html")
if [ "$size" -le 3000000 ]; then ok; else wrong size "$size bytes, 3000000 at most are wanted"; fi
for shot in "wide 1400,1800 1" "wide-dark 1400,1800 0" "phone 390,1800 1" "phone-dark 390,1800 0"; do
    set -- $shot
    browse --window-size="$2" --blink-settings=preferredColorScheme="$3" --screenshot="$out/$1.png" "$page" >/dev/null
    if [ -s "$out/$1.png" ]; then ok; else wrong "screenshot-$1" "none was made"; fi
done

# WCAG 2: text against what it stands on, 4.5 at least. Colours as the style sheet's two blocks name them.
contrast() {
    grep -o "$1" "$out/report.html" | head -n 1 | tr ';{}' '\n\n\n' | sed -n 's/^--\([a-z]*\):#\([0-9a-f]*\)$/\1 \2/p' | awk '
        function part(h, i) { return (index("0123456789abcdef", substr(h, i, 1)) - 1) * 16 + index("0123456789abcdef", substr(h, i + 1, 1)) - 1 }
        function linear(c) { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ^ 2.4 }
        function light(h) { if (length(h) == 3) h = substr(h,1,1) substr(h,1,1) substr(h,2,1) substr(h,2,1) substr(h,3,1) substr(h,3,1); return 0.2126 * linear(part(h, 1)) + 0.7152 * linear(part(h, 3)) + 0.0722 * linear(part(h, 5)) }
        function ratio(a, b) { a = light(c[a]); b = light(c[b]); return a > b ? (a + 0.05) / (b + 0.05) : (b + 0.05) / (a + 0.05) }
        { c[$1] = $2 }
        END {
            n = split("ink paper ink page soft paper soft page accent page bad paper ink mark warn warnpaper ink warnpaper", pair, " ")
            for (i = 1; i < n; i += 2) if (ratio(pair[i], pair[i + 1]) < 4.5) { printf "%s on %s: %.2f; ", pair[i], pair[i + 1], ratio(pair[i], pair[i + 1]) }
        }'
}
for block in ':root{color-scheme:[^}]*}' '@media(prefers-color-scheme:dark){:root{[^}]*}'; do
    low=$(contrast "$block")
    if [ -z "$low" ]; then ok; else wrong contrast "$low"; fi
done
rm -rf "$out/profile" "$out/r.db"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
