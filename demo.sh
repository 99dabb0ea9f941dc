#!/bin/sh
# The main job: installs what is missing, builds, measures nine quantization schemes on the built-in model, draws the report.
set -eu
cd "$(dirname "$0")"
sh setup.sh demo
jobs=$(nproc 2>/dev/null || echo 2)
make --no-print-directory -j"$jobs" all
make --no-print-directory data
build/dsbench run --out build/demo "$@"
echo
echo "report: $(pwd)/build/demo/report.html"
echo "more:   build/dsbench layers latest · build/dsbench routing latest · build/dsbench --help"
