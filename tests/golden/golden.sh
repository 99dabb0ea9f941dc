#!/bin/sh
# Schemes x metrics on the built-in model over tests/fixtures/jargon-excerpt.txt, as CSV: tests/golden/golden.sh BUILD FILE.csv
# Committed, and reviewed by `git diff` when numbers are meant to change. Nothing is downloaded.
# Every sum has one order, whatever the threads and the instruction set (tests/system/identity.sh), so the figures are compared exactly.
# They are printed with 9 significant digits: exp, log and cos of another C library may differ in a double's last bits, and nothing else may.
set -eu
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
text=$here/../fixtures/jargon-excerpt.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 4' HUP INT TERM
export LC_ALL=C
"$build/dsbench" run --text "$text" --calibration "$text" --context 64 --chunks 8 --repeats 0 --quiet --run-id golden --db "$work/golden.db" >"$work/out"
{
    echo scheme,metric,value,lo,hi,n,unit
    "$build/tests/sqlrows" "$work/golden.db" "
        SELECT scheme, metric, value, lo, hi, n, unit FROM
            (SELECT q.run_id, scheme, metric, value, lo, hi, n, unit FROM quality q
             UNION ALL SELECT run_id, name, 'bits_per_weight', bpw_total, NULL, NULL, n_param, 'bit' FROM scheme
             UNION ALL SELECT run_id, scheme, 'nmse_of_block_' || layer, dd / xx, NULL, NULL, n, '1' FROM layer_error WHERE point = 'block' AND kind = 'accumulated'
             UNION ALL SELECT run_id, scheme, 'nmse_of_block_' || layer || '_isolated', dd / xx, NULL, NULL, n, '1' FROM layer_error WHERE point = 'block' AND kind = 'isolated') f
        JOIN scheme s ON s.run_id = f.run_id AND s.name = f.scheme ORDER BY s.ordinal, metric" 9 | tr '|' ','
} >"$work/results.csv"
cp "$work/results.csv" "$2"
