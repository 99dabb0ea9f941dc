# The record as CSV and JSON. Sourced by run.sh; kept.db holds one run.
check export-table 0 "$dsbench" export quality kept --db kept.db
equal export-header "$(head -n 1 out)" run_id,scheme,metric,value,lo,hi,n,unit
equal export-all-rows "$(($(wc -l <out) - 1))" "$(sql kept.db "SELECT count(*) FROM quality")"
# Every figure reads back: 17 digits hold any number, and awk prints what it read.
sql kept.db "SELECT value FROM quality WHERE value IS NOT NULL" 17 | awk '{ printf "%.17g\n", $1 }' >wanted
awk -F, 'NR > 1 && $4 != "" { printf "%.17g\n", $4 }' out >found
same export-figures-read-back found wanted
check export-view 0 "$dsbench" export scheme_summary latest --db kept.db --csv
equal export-view-schemes "$(awk -F, 'NR > 1 { print $3 }' out | tr '\n' ' ')" 'reference bf16 dynamic-int8 '
check export-quotes 0 "$dsbench" export run kept --db kept.db
holds export-quotes-doubled out '"{""name""'
check export-json 0 "$dsbench" export layer_damage --db kept.db --json
equal export-json-rows "$(grep -c '^ {"run_id":"kept"' out)" "$(sql kept.db "SELECT count(*) FROM layer_damage")"
check export-empty 0 "$dsbench" export figure_pairs kept --db kept.db
equal export-empty-has-a-header "$(wc -l <out)" 1
check export-empty-json 0 "$dsbench" export figure_pairs --db kept.db --json
equal export-empty-json-is-an-array "$(cat out)" '[]'
refuse export-unknown-table 2 "no table or view 'secrets'|scheme_summary|quality" "$dsbench" export secrets --db kept.db
refuse export-injection 2 "no table or view" "$dsbench" export 'run"; DROP TABLE run; --' --db kept.db
refuse export-no-run 2 "'host' belong to no run" "$dsbench" export host kept --db kept.db
refuse export-other-run 2 "other|kept" "$dsbench" export quality other --db kept.db
refuse export-two-formats 2 '--json and --csv' "$dsbench" export quality --csv --json --db kept.db
refuse list-two-formats 2 '--json and --csv' "$dsbench" list formats --csv --json
refuse runs-two-formats 2 '--csv' "$dsbench" runs --csv --json --db kept.db
check list-csv 0 "$dsbench" list metrics --csv
holds list-csv-row out name,unit,better,min,max,what 'kld_mean,nats/token,lower,0,,'
check runs-csv 0 "$dsbench" runs --csv --db kept.db
equal runs-csv-row "$(tail -n 1 out | cut -d, -f1,3)" kept,done
for command in layers tensors routing experts; do
    check "$command-csv" 0 "$dsbench" $command kept --db kept.db --top 3 --csv
    equal "$command-csv-is-a-table-alone" "$(head -n 1 out | cut -d, -f1) $(grep -cv , out)" 'scheme 0'
done
refuse doctor-has-no-csv 2 'unknown option --csv' "$dsbench" doctor --csv
check export-full-disk 4 sh -c "'$dsbench' export quality --db kept.db >/dev/full"
