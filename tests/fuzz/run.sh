#!/bin/sh
# Fuzzes every parser: tests/fuzz/run.sh BUILD MAKE [SECONDS for each]. Seeds are committed, what a run learns stays in BUILD/fuzz/corpus,
# an input that crashes is saved as BUILD/fuzz/PARSER-crash-…: make it a regression input of the parser's unit tests.
# Again with one input: BUILD/fuzz/fuzz_PARSER FILE.
build=$1/fuzz make=$2 seconds=${3:-20}
if ! command -v clang >/dev/null || ! printf '#include <omp.h>\n#include <stdint.h>\n#include <stddef.h>\nint LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) { return p == 0 && n > 0 && omp_get_max_threads() < 0; }' | clang -fopenmp -fsanitize=fuzzer,address,undefined -x c - -o /dev/null 2>/dev/null; then
    echo "fuzz: needs clang with its sanitizer runtime and OpenMP: apt-get install clang libclang-rt-dev libomp-dev" >&2
    exit 2
fi
$make --no-print-directory BUILD="$build" CC=clang CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined" fuzz-programs || exit 1
failed=0
for source in tests/fuzz/fuzz_*.c; do
    name=${source#tests/fuzz/fuzz_} name=${name%.c}
    seeds=tests/fuzz/seeds/$name
    [ "$name" = tokenizer ] && seeds="$seeds tests/fixtures/tokenizer/bad"
    mkdir -p "$build/corpus/$name"
    # OMP_NUM_THREADS: nothing here needs threads. The allocator returns NULL for absurd sizes, as without a sanitizer.
    if OMP_NUM_THREADS=1 ASAN_OPTIONS=allocator_may_return_null=1:quarantine_size_mb=8 UBSAN_OPTIONS=print_stacktrace=1 "$build/fuzz_$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=3072 -max_len=4096 -artifact_prefix="$build/$name-" \
        "$build/corpus/$name" $seeds >"$build/$name.log" 2>&1; then
        printf '%-12s %s\n' "$name" "$(grep '^Done' "$build/$name.log")"
    else
        failed=$((failed + 1))
        printf '%-12s FAILED, see %s\n' "$name" "$build/$name.log"
        grep -E 'ERROR|SUMMARY|runtime error|does not hold|Test unit written' "$build/$name.log" | head -n 8 | sed 's/^/    /'
    fi
done
[ "$failed" -eq 0 ]
