# Every command on a run of the built-in model: what it prints, what it leaves behind. Sourced by run.sh.
main="$dsbench run --text $text --calibration $text --chunks 2 --context 64 --db a.db"
echo '{ "name": "system", "throughput": { "prefill": 64, "decode": 8, "repeats": 1 } }' >suite.json
check run-all-schemes 0 $main suite.json --out pictures --run-id first
holds run-summary out 'Run first (done)' reference bf16 dynamic-int8 static-int8 mixed-fp16-int8 sparse-expert qat-int8 qat-int4 int4-rtn int3-rtn 'A quarter of the size' 'report: pictures/report.html'
for table in tensor_error layer_error routing_layer routing_expert chunk_quality quality quality_detail throughput recipe_rule calibration_coverage; do
    n=$(sql a.db "SELECT count(*) FROM $table WHERE run_id = 'first'")
    if [ "${n:-0}" -gt 0 ]; then ok "rows-in-$table"; else wrong "rows-in-$table" "none"; fi
done
equal schemes-stored "$(sql a.db "SELECT count(*) FROM scheme WHERE run_id = 'first'")" 10
equal one-row-per-metric "$(sql a.db "SELECT count(*) FROM (SELECT 1 FROM quality GROUP BY run_id, scheme, metric HAVING count(*) > 1)")" 0
for metric in nll ppl delta_nll kld_mean kld_median kld_p99 kld_max top1_agreement; do
    equal "quality-has-$metric" "$(sql a.db "SELECT count(*) FROM quality WHERE scheme = 'int4-rtn' AND metric = '$metric' AND value IS NOT NULL AND unit IS NOT NULL")" 1
done
equal run-facts "$(sql a.db "SELECT length(model_sha256), length(text_sha256), status, n_chunk, n_ctx, convention FROM run_facts")" '64|64|done|2|64|llama'
equal command-line "$(sql a.db "SELECT command_line LIKE 'dsbench run --text %' FROM run")" 1
equal no-stray-files "$(ls a.db*)" a.db

check list-plots 0 "$dsbench" list plots --json
grep -A1 '"name"' out | tr -d '\n' | sed 's/--/\n/g' | sed -n 's/.*"name": "\([a-z_]*\)".*"needs": "a run".*/\1/p' >plots
for plot in $(cat plots); do
    if [ -s "pictures/$plot.svg" ] && grep -q '<svg' "pictures/$plot.svg"; then ok "picture-$plot"; else wrong "picture-$plot" "pictures/$plot.svg is missing or no SVG"; fi
done
holds report-page pictures/report.html '<!DOCTYPE html>' '<svg' first int3-rtn '</html>'
if grep -Eq '<(script|link|img|iframe)[^>]*(src|href)="?https?:' pictures/report.html; then wrong report-self-contained "it loads something from elsewhere"; else ok report-self-contained; fi

check run-again 0 $main --schemes dynamic-int8 --repeats 0 --run-id second --quiet
check run-json 0 $main --schemes dynamic-int8 --repeats 0 --json
holds run-json-has out '"dynamic-int8"' '"kld_mean"'

# Speed needs prefill + decode tokens of real text; where there are fewer, the run says so.
check run-short-text 0 $main --db short.db --schemes bf16 --context 32 --repeats 1 --run-id short
holds run-short-text-says out 'warning: speed is not measured: prefill + decode are 544 tokens, more than the 64'
equal run-short-text-event "$(sql short.db "SELECT count(*), max(scheme) FROM event WHERE run_id = 'short'")" '1|'
check runs 0 "$dsbench" runs --db a.db
holds runs-table out first second
check runs-json 0 "$dsbench" runs --db a.db --json
equal runs-newest-first "$(sed -n 's/.*"id": "\([^"]*\)".*/\1/p' out | tail -n 2 | tr '\n' ' ')" 'second first '

check layers 0 "$dsbench" layers first --db a.db --scheme int4-rtn --layer 3 --top 5
holds layers-rows out int4-rtn attention mlp
check layers-tensors 0 "$dsbench" layers first --db a.db --tensors --sort sqnr_db --top 3 --json
holds layers-tensors-json out '"sqnr_db"' '"tensor"'
check layers-expert 0 "$dsbench" layers first --db a.db --expert 2 --layer 3 --scheme int3-rtn
holds layers-expert-rows out experts.2
check layers-all-json 0 "$dsbench" layers first --db a.db --top 0 --json
equal layers-all-rows "$(grep -c '"scheme"' out)" "$(sql a.db "SELECT count(*) FROM layer_error WHERE run_id = 'first'")"
check tensors 0 "$dsbench" tensors first --db a.db --top 0 --json
equal tensors-all-rows "$(grep -c '"scheme"' out)" "$(sql a.db "SELECT count(*) FROM tensor_error WHERE run_id = 'first'")"
check experts 0 "$dsbench" experts first --db a.db --top 3 --sort moved
holds experts-rows out 'left or joined' "nmse of each expert's output under" 'experts 0–15'
check layers-lines 0 "$dsbench" layers first --db a.db --top 1
holds layers-lines-along out 'layers 0–7' '█'
# A reader that has seen enough is no failure and no noise; what is written to a file has no colours.
for command in 'layers first' 'tensors first' 'routing first' 'experts first' 'list schemes' 'compare first first'; do
    { "$dsbench" $command $(case $command in list*) ;; *) echo --db a.db ;; esac) 2>err; echo $? >code; } | head -n 1 >out
    equal "head-of-${command%% *}" "$(cat code) $(wc -l <err) $(wc -l <out)" '0 0 1'
done
"$dsbench" tensors first --db a.db --top 0 --json 2>err | head -c 1 >out # more than a pipe holds
equal head-of-much "$(wc -c <out) $(wc -l <err)" '1 0'
TERM=xterm "$dsbench" layers first --db a.db >out
if grep -q "$(printf '\033')" out; then wrong no-colours-in-a-file "an escape stands in it"; else ok no-colours-in-a-file; fi
check routing 0 "$dsbench" routing first --db a.db --top 4
holds routing-rows out int3-rtn
check routing-json 0 "$dsbench" routing first --db a.db --json --sort router_kld
holds routing-json-has out '"selection_change"' '"layer"'
check routing-experts 0 "$dsbench" routing first --db a.db --experts --sort moved --top 3 --json
holds routing-experts-json out '"expert"'

check plot-svg 0 "$dsbench" plot first --db a.db -p error -o svg
holds plot-svg-is svg/error.svg '<svg'
holds plot-tells-path out svg/error.svg
check plot-png 0 "$dsbench" plot first --db a.db -p error -f png -o png
equal plot-png-is "$(head -c 4 png/error.png | tail -c 3)" PNG
check plot-terminal 0 "$dsbench" plot first --db a.db -p pareto -f terminal
if [ "$(wc -l <out)" -gt 5 ]; then ok plot-terminal-draws; else wrong plot-terminal-draws "$(wc -l <out) lines"; fi

check report-page-alone 0 "$dsbench" report first --db a.db -o page.html
holds report-page-alone-has page.html '<!DOCTYPE html>' first
check report-markdown 0 "$dsbench" report first --db a.db --format md
holds report-markdown-has out '|' int4-rtn
check report-json 0 "$dsbench" report latest --db a.db --json
holds report-json-has out '"dynamic-int8"'

check compare-runs 0 "$dsbench" compare first second --db a.db
holds compare-equivalent out dynamic-int8 equivalent
check compare-schemes-json 0 "$dsbench" compare first:bf16 first:bf16 --db a.db --format json
holds compare-schemes-json-has out '"verdict"'
check compare-markdown 0 "$dsbench" compare first:dynamic-int8 second:dynamic-int8 --db a.db --format md
refuse compare-other-context 3 'not comparable|context' "$dsbench" compare first other --db "$(cp a.db b.db && $main --db b.db --context 32 --schemes bf16 --repeats 0 --run-id other >/dev/null 2>&1 && echo b.db)"

refuse compare-other-reference 3 "not comparable: the reference's arithmetic differs" "$dsbench" compare first bf --db "$(cp a.db c.db && $main --db c.db --schemes bf16 --repeats 0 --run-id bf --reference bf16 >/dev/null 2>&1 && echo c.db)"
check resume-finished 0 "$dsbench" run --db a.db --resume first
holds resume-finished-shows out 'Run first (done)'
equal resume-adds-nothing "$(sql a.db 'SELECT count(*) FROM run')" 3

check trace 0 "$dsbench" trace --model tiny --tokens tokens.json -o trace.safetensors
holds trace-names trace.safetensors seq0.logits seq0.nll seq0.hidden seq0.layer1.router_logits seq0.layer1.router_scores seq0.layer1.topk_indices seq0.layer1.topk_weights seq1.logits
check trace-scheme 0 "$dsbench" trace --model tiny --tokens tokens.json --scheme dynamic-int8 -o trace-int8.safetensors
check tensor 0 "$dsbench" tensor tiny/model.safetensors --format int4 --group 8 -o codes.safetensors
holds tensor-names codes.safetensors lm_head.weight.codes lm_head.weight.scales lm_head.weight.dequant
check tensor-affine 0 "$dsbench" tensor tiny/model.safetensors --format int8 --group channel --affine --json -o codes.safetensors
holds tensor-affine-names codes.safetensors lm_head.weight.zeros
holds tensor-json out '"sqnr_db"'
check tensor-fp8-blocks 0 "$dsbench" tensor tiny/model.safetensors --format fp8_e4m3 --group 128 -o codes.safetensors
holds tensor-fp8-names codes.safetensors lm_head.weight.codes lm_head.weight.scales lm_head.weight.dequant
check tensor-nvfp4 0 "$dsbench" tensor tiny/model.safetensors --format nvfp4 -o codes.safetensors
holds tensor-nvfp4-names codes.safetensors lm_head.weight.scales lm_head.weight.global_scale
check list-formats 0 "$dsbench" list formats --json
holds list-formats-bpw out '"bpw": 2.625' '"mxfp8"' '"iq4_nl"'

# Speed: the contract's command, on the built-in model with few tokens; a busy machine must not fail it.
check bench-contract 0 "$dsbench" bench --formats bf16,int8,int4 --prefill 16 --decode 4 --repeats 2 --text "$text" --db bench.db --json
for field in format phase tps gops gbps roofline_percent kernel busy_percent; do holds "bench-has-$field" out "\"$field\": "; done
equal bench-rows "$(grep -c '"tps": [0-9]' out)" 6
equal bench-phases "$(sed -n 's/.*"format": "\(.*\)",/\1/p; s/.*"phase": "\(.*\)",/\1/p' out | tr '\n' ' ')" 'bf16 prefill bf16 decode int8 prefill int8 decode int4 prefill int4 decode '
holds bench-kernels out gemm_i8 gemm_i4 gemm_bf16
equal bench-stored "$(sql bench.db "SELECT count(*), count(DISTINCT bench), min(tps) > 0, min(read_gbps) > 0, min(int8_gops) > 0, max(length(cpu)) > 0, max(model.name) FROM bench JOIN host ON host.id = host_id JOIN model ON model.id = model_id")" '6|1|1|1|1|1|dsmoe-tiny'
equal bench-work-is-counted "$(sql bench.db "SELECT count(*) FROM bench WHERE gops > 0 AND gbps > 0 AND seconds_min <= seconds AND seconds <= seconds_max AND (phase = 'prefill') = (p50_ms IS NULL)")" 6
again=$(sed -n 's/.*"command": "\([^"]*\)".*/\1/p' out | head -n 1)
check bench-again 0 sh -c "PATH='$build':\$PATH; $again --db again.db --format csv"
holds bench-again-is-the-same out "$again"
equal bench-csv-columns "$(awk -F, 'NR == 1 { n = NF } NR > 1 && NF < n { bad = 1 } END { print NR, bad + 0 }' out)" '7 0'
check bench-text 0 "$dsbench" bench --model tiny --schemes reference,dynamic-int8 --formats int8 --head --prefill 0 --decode 3 --depth 5 --batch 2 --repeats 1 --text "$text" --busy-limit 100 --db bench.db
holds bench-text-tells out reference dynamic-int8 int8 decode 'machine:' 'clean:' 'again: dsbench bench --model tiny --formats int8 --schemes reference,dynamic-int8 --head --prefill 0 --decode 3 --depth 5 --batch 2'
equal bench-batch-and-depth "$(sql bench.db "SELECT count(*) FROM bench WHERE batch = 2 AND depth = 5 AND n_token = 3 AND phase = 'decode'")" 3
for routing in uniform zipf; do
    check "bench-$routing" 0 "$dsbench" bench --model tiny --formats int8 --prefill 4 --decode 2 --repeats 1 --routing $routing --text "$text" --db bench.db --json
    holds "bench-$routing-told" out "\"routing\": \"$routing\""
done
check bench-recorded 0 "$dsbench" bench --model tiny --formats int8 --prefill 4 --decode 2 --repeats 1 --routing recorded --recorded trace.safetensors --text "$text" --db bench.db --json
holds bench-recorded-told out '"routing": "recorded"'
mkdir untold && cp tiny/config.json tiny/model.safetensors untold
check bench-without-tokenizer 0 "$dsbench" bench --model untold --formats int8 --prefill 4 --decode 2 --repeats 1 --db bench.db
holds bench-without-tokenizer-told out 'random tokens: the model has no tokenizer.json'
check bench-kernel 0 "$dsbench" bench --kernel gemm_i8,gemm_bf16,ref/gemm_i4 --shape 32x64x1,16x32x5 --repeats 2 --db bench.db --json
equal bench-kernel-rows "$(grep -c '"checked": "ref"' out) $(grep -c '"us": [0-9]' out)" '6 6'
equal bench-kernel-stored "$(sql bench.db "SELECT count(*), min(gops) > 0, count(DISTINCT kernel) FROM bench WHERE kind = 'kernel'")" '6|1|3'
check bench-kernel-markdown 0 "$dsbench" bench --kernel attention_decode --shape 1x8x33 --repeats 1 --db bench.db --format md
holds bench-kernel-markdown-table out '| case | shape |' 1x8x33 '- again: dsbench bench --kernel attention'

check tokenize 0 "$dsbench" tokenize --model tiny hello.txt
ids=$(cat out)
check tokenize-bos 0 "$dsbench" tokenize --model tiny --bos hello.txt
equal tokenize-bos-first "$(cat out)" "[0, ${ids#\[}"
equal tokenize-stdin "$("$dsbench" tokenize --model tiny/tokenizer.json - <hello.txt)" "$ids"

# Logits of two positions over four tokens: 0 X 1 0 and 1 0 0 0, X an f32 given by its two high bytes.
logits_file() {
    header='{"logits":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]},"tokens":{"dtype":"I32","shape":[2],"data_offsets":[32,40]}}'
    printf "\\$(printf %03o ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"
    printf "\\0\\0\\0\\0\\0\\0$1\\0\\0\\200\\077\\0\\0\\0\\0"
    printf '\0\0\200\077\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\2\0\0\0'
}
logits_file '\0\100' >ref.safetensors
logits_file '\0\100' >equal.safetensors
logits_file '\200\077' >other.safetensors
check logits-equal 0 "$dsbench" logits ref.safetensors equal.safetensors --json
holds logits-equal-json out '"kld_mean"' '"top1_agreement"'
check logits-other 0 "$dsbench" logits ref.safetensors other.safetensors
holds logits-other-table out kld_mean

for table in schemes formats algorithms archs kernels metrics plots; do
    check "list-$table" 0 "$dsbench" list $table
    if [ "$(wc -l <out)" -gt 1 ]; then ok "list-$table-rows"; else wrong "list-$table-rows" "no row"; fi
    check "list-$table-json" 0 "$dsbench" list $table --json
    holds "list-$table-json-name" out '"name"'
done
check doctor 0 "$dsbench" doctor
holds doctor-tells out gnuplot memory 'instruction sets' 'built-in model'
check doctor-json 0 "$dsbench" doctor --json
check version 0 "$dsbench" --version
check help 0 "$dsbench" --help
for command in $(sed -n 's/^  \([a-z]*\)  *.*/\1/p' out); do
    check "help-of-$command" 0 "$dsbench" "$command" --help
    holds "help-of-$command-tells" out "usage: dsbench $command" --json --db --threads --device --quiet
done
for command in run bench compare baseline nightly layers routing plot report export trace tensor logits tokenize list runs doctor; do
    check "has-$command" 0 "$dsbench" $command --help
done
