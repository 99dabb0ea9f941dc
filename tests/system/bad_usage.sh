# Command lines that are wrong. Sourced by run.sh.
run="$tiny_run --db kept.db"
refuse usage-unknown-command 2 'layer|layers' "$dsbench" layer
refuse usage-unknown-option 2 'run|--chunk|--chunks' $run --chunk 2
refuse usage-unknown-option-far 2 'run|--frobnicate|--help' $run --frobnicate
refuse usage-value-missing 2 'run|--context' $run --context
refuse usage-value-empty 2 'run|--text' $run --text=
refuse usage-no-number 2 'run|--context|long' $run --context long
refuse usage-number-and-more 2 'run|--chunks|2x' $run --chunks 2x
refuse usage-out-of-range 2 'run|--context|1|2 to' $run --context 1
refuse usage-context-beyond-model 2 'context: 2049 tokens; at most 2048|tiny/config.json' $run --context 2049
refuse usage-negative 2 'run|--chunks|-3' $run --chunks -3
refuse usage-too-large 2 'run|--chunks' $run --chunks 99999999999999999999
refuse usage-threads 2 'run|--threads|0' $run --threads 0
refuse usage-device 2 'run|--device|tpu|cpu' $run --device tpu
refuse usage-device-number 2 'run|--device|cuda:x|cuda:0' $run --device cuda:x
check usage-no-such-gpu-is-the-cpu 0 "$dsbench" list formats --device cuda:4095
holds usage-no-such-gpu-says-so err '--device cuda:4095' 'computing on the CPU'
refuse usage-flag-with-value 2 'run|--json' $run --json=yes
refuse usage-too-many-arguments 2 'run|b.json' $run a.json b.json
for command in runs layers routing plot report; do
    refuse "usage-$command-unknown-option" 2 "$command|--frobnicate" "$dsbench" $command --frobnicate --db kept.db
    [ $command = runs ] || refuse "usage-$command-unknown-run" 2 "kept.db|no run 'nope'|kept" "$dsbench" $command nope --db kept.db
done
refuse usage-layers-unknown-scheme 2 'kept|nope|dynamic-int8' "$dsbench" layers kept --scheme nope --db kept.db
refuse usage-layers-unknown-metric 2 '--sort|beauty|nmse' "$dsbench" layers kept --sort beauty --db kept.db
refuse usage-layers-unknown-kind 2 '--kind|sideways|isolated' "$dsbench" layers kept --kind sideways --db kept.db
refuse usage-routing-unknown-metric 2 '--sort|beauty|selection_change' "$dsbench" routing kept --sort beauty --db kept.db
refuse usage-plot-unknown 2 '--plot|pie|list plots' "$dsbench" plot kept --plot pie --db kept.db
refuse usage-plot-format 2 '--format|gif|svg' "$dsbench" plot kept --format gif --db kept.db
refuse usage-report-format 2 '--format|pdf|md' "$dsbench" report kept --format pdf --db kept.db
refuse usage-compare-one 2 'compare|BASE HEAD' "$dsbench" compare kept --db kept.db
refuse usage-compare-unknown-run 2 "no run 'nope'" "$dsbench" compare kept nope --db kept.db
refuse usage-compare-unknown-scheme 2 'kept|nope' "$dsbench" compare kept:nope kept:bf16 --db kept.db
refuse usage-list-unknown 2 'shemes|schemes' "$dsbench" list shemes
refuse usage-list-nothing 2 'list|schemes' "$dsbench" list
refuse usage-trace-nothing 2 'trace|--model' "$dsbench" trace
refuse usage-trace-unknown-scheme 2 'nope|int4-rtn' "$dsbench" trace --model tiny --tokens tokens.json --scheme nope -o no.safetensors
refuse usage-trace-calibrated-scheme 2 'static-int8|calibration' "$dsbench" trace --model tiny --tokens tokens.json --scheme static-int8 -o no.safetensors
refuse usage-tensor-unknown-format 2 '--format|int9|int8' "$dsbench" tensor tiny/model.safetensors --format int9 -o no.safetensors
refuse usage-tensor-no-format 2 '--format|int8' "$dsbench" tensor tiny/model.safetensors -o no.safetensors
refuse usage-tensor-bad-group 2 '--group|few' "$dsbench" tensor tiny/model.safetensors --format int8 --group few -o no.safetensors
refuse usage-logits-one 2 'logits|REF TEST' "$dsbench" logits tiny/model.safetensors
refuse usage-tokenize-no-model 2 'tokenize|--model' "$dsbench" tokenize hello.txt
bench="$dsbench bench --model tiny --text $text --db kept.db"
refuse usage-bench-format-unknown 2 "--formats|int9|did you mean 'int" $bench --formats int9
refuse usage-bench-format-empty 2 '--formats|empty' $bench --formats bf16,
refuse usage-bench-format-twice 2 'int8|twice' $bench --formats int8,int8
refuse usage-bench-scheme-unknown 2 'nope|int4-rtn' $bench --schemes nope
refuse usage-bench-calibrated 2 'static-int8|calibration|dsbench run' $bench --schemes static-int8
refuse usage-bench-group 2 'group' $bench --formats fp8_e4m3,int4 --group 99999999
refuse usage-bench-negative 2 '--prefill|-1' $bench --prefill -1
refuse usage-bench-decode-no-number 2 '--decode|many' $bench --decode many
refuse usage-bench-batch 2 '--batch|0' $bench --batch 0
refuse usage-bench-repeats 2 '--repeats|0' $bench --repeats 0
refuse usage-bench-nothing-to-do 2 '--prefill 0 --decode 0' $bench --prefill 0 --decode 0
refuse usage-bench-beyond-model 2 'at most 2048|tiny/config.json' $bench --depth 2000 --prefill 48 --decode 1
refuse usage-bench-text-too-short 2 'hello.txt' "$dsbench" bench --model tiny --text hello.txt --db kept.db
refuse usage-bench-routing 2 '--routing|sideways|zipf' $bench --routing sideways
refuse usage-bench-recorded-nothing 2 '--recorded FILE' $bench --routing recorded
refuse usage-bench-recorded-alone 2 '--routing recorded' $bench --recorded trace.safetensors
refuse usage-bench-recorded-missing 2 'nowhere.safetensors' $bench --routing recorded --recorded nowhere.safetensors
refuse usage-bench-recorded-no-trace 2 'tiny/model.safetensors|topk_indices|trace' $bench --routing recorded --recorded tiny/model.safetensors
refuse usage-bench-model-missing 2 'nowhere' "$dsbench" bench --model nowhere --db kept.db
refuse usage-bench-kernel-unknown 2 "--kernel|gemm_i9|gemm_i8" "$dsbench" bench --kernel gemm_i9 --db kept.db
refuse usage-bench-isa-unknown 2 'mmx|list kernels' "$dsbench" bench --kernel mmx/gemm_i8 --db kept.db
refuse usage-bench-shape 2 '--shape|1x2|1408x2048x512' "$dsbench" bench --kernel gemm_i8 --shape 1x2 --db kept.db
refuse usage-bench-shape-negative 2 '--shape|-4x8x1' "$dsbench" bench --kernel gemm_i8 --shape -4x8x1 --db kept.db
refuse usage-bench-shape-absurd 2 '2^28' "$dsbench" bench --kernel gemm_i8 --shape 16777216x16777216x1 --db kept.db
refuse usage-bench-shape-of-model 2 '--shape|--kernel' $bench --shape 1x2x3
refuse usage-bench-kernel-and-model 2 '--kernel|--model' $bench --kernel gemm_i8
refuse usage-bench-output 2 '--format|pdf|csv' $bench --format pdf
refuse usage-bench-busy-limit 2 '--busy-limit|101' $bench --busy-limit 101
check usage-nothing 2 "$dsbench"
holds usage-nothing-helps err 'usage: dsbench COMMAND' run compare
equal usage-no-output-left "$(ls no.safetensors* 2>/dev/null)" ''
refuse memory-no-size 2 '--memory|4X|4G' "$dsbench" run --memory 4X
refuse memory-too-little 2 '--memory 1M|at least' $tiny_run --schemes bf16 --db kept.db --memory 1M
