#!/bin/sh
# The program as a user runs it: tests/system/run.sh BUILD [THEME...]. One file a theme; the last line is "N passed, N failed".
# Needs only the build and this repository: the built-in model, a tiny made-up one, the text of tests/fixtures. No network, no sqlite3.
build=$(cd "${1:-build}" && pwd) || exit 4
[ $# -eq 0 ] || shift
here=$(cd "$(dirname "$0")" && pwd)
fixtures=$(cd "$here/../fixtures" && pwd)
text=$fixtures/jargon-excerpt.txt
dsbench=$build/dsbench
passed=0 failed=0
unset DSBENCH_ISA DSBENCH_GNUPLOT DSBENCH_MODELS
# One thread where the number doesn't matter (identity.sh): short runs gain nothing from more, and lose much on a busy machine.
export LC_ALL=C OMP_NUM_THREADS=1
for tool in "$dsbench" "$build/tests/sqlrows" "$build/tests/tiny_model"; do
    [ -x "$tool" ] || { echo "$tool is missing: make all tests"; echo "0 passed, 1 failed"; exit 1; }
done
tmp=$(mktemp -d) || exit 4
trap 'rm -rf "$tmp"' EXIT
trap 'exit 4' HUP INT TERM
cd "$tmp" || exit 4

ok() { passed=$((passed + 1)); printf 'ok %s\n' "$1"; }
wrong() { failed=$((failed + 1)); printf 'FAILED %s: %s\n' "$1" "$2"; }
sql() { "$build/tests/sqlrows" "$@"; }

# check NAME CODE COMMAND...: the exit code; standard output is kept in the file out, standard error in err.
check() {
    name=$1 code=$2
    shift 2
    "$@" >out 2>err </dev/null
    rc=$?
    if [ "$rc" -eq "$code" ]; then ok "$name"; else wrong "$name" "exit $rc, $code is wanted: $(head -n 1 err)"; fi
}

# holds NAME FILE WORD...: every WORD stands in FILE.
holds() {
    name=$1 file=$2
    shift 2
    for word in "$@"; do
        grep -qF -e "$word" "$file" || { wrong "$name" "'$word' isn't in $file: $(head -c 300 "$file" | tr '\n' ' ')"; return; }
    done
    ok "$name"
}

# equal NAME FOUND WANTED
equal() { if [ "$2" = "$3" ]; then ok "$1"; else wrong "$1" "'$2' found, '$3' wanted"; fi; }
same() { if cmp -s "$2" "$3"; then ok "$1"; else wrong "$1" "$2 and $3 differ: $(diff "$2" "$3" | head -n 3 | tr '\n' ' ')"; fi; }

# What a refused command must leave alone: the database byte for byte, and nothing beside it.
kept() { sha256sum kept.db; ls kept.db*; }

# refuse NAME CODE 'WORD|WORD' COMMAND...: that exit code, nothing on standard output, one line on standard error that holds every WORD, kept.db untouched.
refuse() {
    name=$1 code=$2 words=$3
    shift 3
    "$@" >out 2>err </dev/null
    rc=$?
    if [ "$rc" -ne "$code" ]; then wrong "$name" "exit $rc, $code is wanted: $(head -n 1 err)"; return; fi
    if [ "$(wc -l <err)" -ne 1 ] || [ -s out ]; then wrong "$name" "one line on stderr and none on stdout are wanted: $(cat err out | head -n 3 | tr '\n' ' ')"; return; fi
    rest="dsbench: |$words"
    while [ -n "$rest" ]; do
        word=${rest%%|*}
        case $rest in *'|'*) rest=${rest#*|} ;; *) rest= ;; esac
        grep -qF -e "$word" err || { wrong "$name" "'$word' isn't in: $(cat err)"; return; }
    done
    if [ "$(kept 2>&1)" != "$untouched" ]; then wrong "$name" "the database changed"; untouched=$(kept); return; fi
    ok "$name"
}

# A tiny model in the folder tiny, and kept.db with one run of it.
mkdir tiny
"$build/tests/tiny_model" tiny && cp "$fixtures/tokenizer/tiny.json" tiny/tokenizer.json || exit 4
echo '{ "bos_token": "<s>", "add_bos_token": false }' >tiny/tokenizer_config.json
echo '{ "sequences": [[5, 6, 7, 8], [9]] }' >tokens.json
printf 'hello world' >hello.txt
tiny_run="$dsbench run --model tiny --text $text --calibration $text --chunks 2 --context 32 --repeats 0"
$tiny_run --schemes bf16,dynamic-int8 --db kept.db --run-id kept >out 2>err || { cat err; echo "0 passed, 1 failed"; exit 1; }
untouched=$(kept)

[ $# -gt 0 ] || set -- commands nightly export completion datasets identity resume stored gnuplot bad_model bad_text bad_suite bad_output bad_usage
for theme in "$@"; do . "$here/$theme.sh"; done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
