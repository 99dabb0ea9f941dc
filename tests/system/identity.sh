# The same figures, bit for bit, whatever the number of threads, the run, the instruction set. Sourced by run.sh.
# Compared are all columns but the names of the kernels; times and hosts live in other tables (throughput, run, host).
columns() {
    sql "$1" "SELECT 'scheme', name, ordinal, what, recipe_json, source, weight_bytes, n_param, bpw_total, bpw_blocks FROM scheme ORDER BY 2;
        SELECT 'tensor', scheme, tensor, role, layer, expert, n, nonfinite, first_bad, xx, yy, xy, dd, max_diff, max_x, max_y, stored_bytes, n_weight, bpw, format, grouping, algorithm
            FROM tensor_error ORDER BY 2, 5, 3;
        SELECT 'layer', * FROM layer_error; SELECT 'routing', * FROM routing_layer; SELECT 'expert', * FROM routing_expert;
        SELECT 'chunk', * FROM chunk_quality; SELECT 'quality', * FROM quality; SELECT 'detail', * FROM quality_detail;
        SELECT 'coverage', * FROM calibration_coverage; SELECT 'rule', * FROM recipe_rule"
}
same_run="$dsbench run --text $text --calibration $text --chunks 3 --context 32 --repeats 0 --run-id same"
check identity-one-thread 0 $same_run --threads 1 --db one.db
check identity-two-threads 0 $same_run --threads 2 --db two.db
check identity-again 0 $same_run --threads 2 --db again.db
# The best level, plain C, and AVX2, which a machine without it refuses: then the best stands for it.
avx2=avx2
$dsbench list kernels --isa avx2 >list.out 2>&1 || avx2=
for isa in '' ref $avx2; do check "identity-tiny-$isa" 0 $tiny_run ${isa:+--isa $isa} --run-id same --db "isa$isa.db"; done
[ -n "$avx2" ] || cp isa.db isaavx2.db
for db in one two again isa isaref isaavx2; do columns $db.db >$db.rows; done
if [ "$(wc -l <one.rows)" -gt 5000 ]; then ok identity-has-rows; else wrong identity-has-rows "$(wc -l <one.rows) rows"; fi
same identity-of-two-threads two.rows one.rows
same identity-of-two-runs again.rows two.rows
same identity-of-instruction-sets isaref.rows isa.rows
same identity-of-avx2 isaavx2.rows isa.rows
for command in 'layers same --top 0' 'layers same --tensors --top 0' 'routing same --top 0' 'routing same --experts --top 0'; do
    $dsbench $command --json --db one.db >one.json
    $dsbench $command --json --db two.db >two.json
    [ -s one.json ] || echo "no output of $command" >one.json
    grep -v '"kernel"' one.json >one.plain
    grep -v '"kernel"' two.json >two.plain
    same "identity-of-$(echo "$command" | tr ' ' '-')" two.plain one.plain
done
"$dsbench" report same --json --db one.db >one.json
"$dsbench" report same --json --db two.db >two.json
# The run's own facts differ: when, how long, how much memory, how many threads, and its command line.
for f in one two; do grep -Ev '"(created|created_utc|wall_s|peak_rss_bytes|threads|command_line|cpu|host)"' $f.json >$f.plain; done
same identity-of-report two.plain one.plain
