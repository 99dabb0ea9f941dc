#!/bin/sh
# Runs the tests of a build: tests/run.sh BUILD [unit [NAME...]], unit test programs alone or the named ones. The last line is "N passed, N failed"; BUILD/check.count holds it too.
# A test program writes its results as XML: output of the tested code can't be mistaken for them, and a crash leaves no file.
build=${1:-build}
which=${2:-all}
shift $(($# < 2 ? $# : 2))
names=" $* "
passed=0 failed=0 skipped=0
# Threads that spin while they wait starve each other on a busy machine.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"
export CMOCKA_MESSAGE_OUTPUT=XML DSBENCH_BIN="${DSBENCH_BIN:-$build/dsbench}"
[ -d "$build/data" ] && export DSBENCH_DATA="${DSBENCH_DATA:-$build/data}"
xml=$build/tests/xml
rm -rf "$xml"
mkdir -p "$xml" || exit 4

# sum FIELD: over the <testsuite ...> lines of a test program's files.
sum() { cat "$xml/$name".*.xml 2>/dev/null | awk -v f="$1" '/<testsuite /{ if (match($0, " " f "=\"[0-9]+\"")) s += substr($0, RSTART + length(f) + 3, RLENGTH - length(f) - 4) } END { print s + 0 }'; }

unit() {
    name=$1 log=$build/tests/$1.log
    CMOCKA_XML_FILE="$xml/$name.%g.xml" "$build/tests/$name" >"$log" 2>&1
    rc=$?
    t=$(sum tests) f=$(($(sum failures) + $(sum errors))) s=$(sum skipped)
    if [ "$rc" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; t=$((t + 1)); printf '%s: ended with status %s before its results\n' "$name" "$rc"; fi
    passed=$((passed + t - f - s)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '%-40s %4d passed%s%s\n' "$name" $((t - f - s)) "$([ "$s" -gt 0 ] && printf ', %d skipped' "$s")" "$([ "$f" -gt 0 ] && printf ', %d FAILED' "$f")"
    if [ "$f" -gt 0 ]; then
        awk '/<testcase /{ name = $0; sub(/.*name="/, "", name); sub(/".*/, "", name) } /<failure>|<error>/{ print "  " name; show = 1 } show { print "    " $0 } /<\/failure>|<\/error>/{ show = 0 }' "$xml/$name".*.xml 2>/dev/null | sed 's/<!\[CDATA\[//; s/\]\]>//; s/<[^>]*>//g'
        tail -n 40 "$log" | sed 's/^/    /'
    fi
}

# A script that prints "N passed, N failed" as its last line.
script() {
    name=$1; shift
    out=$("$@" 2>&1); rc=$?
    last=$(printf '%s\n' "$out" | tail -n 1)
    p=$(printf '%s\n' "$last" | sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1/p')
    f=$(printf '%s\n' "$last" | sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\2/p')
    if [ -z "$p" ] || { [ "$rc" -ne 0 ] && [ "$f" -eq 0 ]; }; then p=${p:-0}; f=$((${f:-0} + 1)); fi
    passed=$((passed + p)) failed=$((failed + f))
    printf '%-40s %4d passed%s\n' "$name" "$p" "$([ "$f" -gt 0 ] && printf ', %d FAILED' "$f")"
    [ "$f" -eq 0 ] || printf '%s\n' "$out" | grep -v '^ok ' | sed 's/^/    /'
}

for source in tests/unit/test_*.c; do
    name=${source#tests/unit/}
    case $names in *[a-z]*) case $names in *" ${name%.c} "*) ;; *) continue ;; esac ;; esac
    unit "${name%.c}"
done
if [ "$which" = all ]; then
    script system sh tests/system/run.sh "$build"
    script golden sh tests/golden/check.sh "$build"
fi
[ "$skipped" -eq 0 ] || echo "$skipped skipped (what they need is not on this machine)"
echo "$passed passed, $failed failed" | tee "$build/check.count"
[ "$failed" -eq 0 ]
