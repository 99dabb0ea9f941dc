#!/bin/sh
# Checks what a compiler doesn't: tests/lint/lint.sh CC BUILD, from the root of the tree; installs and changes nothing.
# Layering (who may include whom), headers that compile alone, include guards, banned functions, lengths, names of tests, whitespace,
# paths of one machine, shell syntax. One line a finding, "file:line: what; what is wanted"; the last line counts them.
# Exit: 0 clean · 1 findings.
export LC_ALL=C
cc=${1:-gcc} build=${2:-build}
work=$(mktemp -d) || exit 4
trap 'rm -rf "$work"' EXIT

# What git would commit; without git every file but the build's. Data that must stay byte for byte are no text.
{ git ls-files --cached --others --exclude-standard 2>/dev/null || find . -type f ! -path './.git/*' ! -path "./$build/*" | sed 's|^\./||'; } | sort -u |
    grep -vE '^tests/fixtures/|^tests/.*/(bad|corpus|seeds)/|^models/dsmoe-tiny/|\.(png|svg|safetensors|gguf|db|gz|xz|pyc)$' |
    while read -r f; do [ -f "$f" ] && [ -s "$f" ] && echo "$f"; done >"$work/files"
command -v "${cc%% *}" >/dev/null || { echo "lint: no compiler '$cc' here" >&2; exit 1; }
[ -s "$work/files" ] || { echo "lint: no files here; the root of the tree is wanted" >&2; exit 1; }

{
    xargs awk -f tests/lint/lint.awk <"$work/files"

    while read -r f; do
        [ -z "$(tail -c 1 "$f")" ] || echo "$f:$(wc -l <"$f"): no newline at the end of the file; one is wanted"
    done <"$work/files"

    xargs grep -l '^#!/bin/sh' <"$work/files" | while read -r f; do
        sh -n "$f" 2>"$work/sh" || echo "$f:$(sed -n '1s/.*: \([0-9][0-9]*\): .*/\1/p' "$work/sh"): sh -n refuses it; POSIX shell is wanted ($(head -n 1 "$work/sh"))"
    done

    grep '\.h$' "$work/files" | xargs -P 2 -n 12 $cc -std=gnu11 -I. -D_GNU_SOURCE $(pkg-config --cflags jansson sqlite3 libpcre2-8 libutf8proc nettle 2>/dev/null) \
        -Werror=implicit-function-declaration -fsyntax-only -x c 2>&1 |
        sed -n 's/^\([^ :]*:[0-9]*\):[0-9]*: \(fatal \)\{0,1\}error: /\1: does not compile alone; the headers it uses are wanted: /p'
} >"$work/found"

cat "$work/found"
n=$(grep -vc '^warning: ' "$work/found")
[ "$n" -eq 0 ] && { echo "lint: clean"; exit 0; }
echo "lint: $n findings"
exit 1
