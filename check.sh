#!/bin/sh
# The tests: installs what is missing, builds, runs them all. The last line is "N passed, N failed".
# WERROR=1 makes a compiler warning an error.
set -u
cd "$(dirname "$0")"
mkdir -p build
rm -f build/check.count
stop() { echo "check: $1" >&2; echo "0 passed, 1 failed" | tee build/check.count; exit 1; }
sh setup.sh check || stop "set-up failed"
make --no-print-directory -j"$(nproc 2>/dev/null || echo 2)" WERROR="${WERROR:-}" all tests || stop "the build failed"
make --no-print-directory data || stop "the built-in texts could not be fetched"
exec sh tests/run.sh build
