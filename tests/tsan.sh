#!/bin/sh
# Unit tests under ThreadSanitizer: tests/tsan.sh BUILD MAKE.
# Covers: data races between our threads inside OpenMP regions, as the unit tests run them with 4 threads.
# Not covered: code that only full runs reach, and libraries that are not instrumented (SQLite, jansson).
build=$1 make=$2
if ! command -v clang >/dev/null || ! printf '#include <omp.h>\nint main(void){return omp_get_max_threads()<0;}' | clang -fopenmp -fsanitize=thread -x c - -o /dev/null 2>/dev/null; then
    echo "tsan: needs clang with its OpenMP: apt-get install clang libomp-dev" >&2
    exit 2
fi
$make --no-print-directory BUILD="$build/tsan" CC=clang CFLAGS="-O1 -g -fsanitize=thread" all tests || exit 1
OMP_NUM_THREADS=4 DSBENCH_DATA="$build/data" TSAN_OPTIONS="allocator_may_return_null=1 ignore_noninstrumented_modules=1 exitcode=66" sh tests/run.sh "$build/tsan" unit
