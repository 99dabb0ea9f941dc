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
check usage-nothing 2 "$dsbench"
holds usage-nothing-helps err 'usage: dsbench COMMAND' run compare
equal usage-no-output-left "$(ls no.safetensors* 2>/dev/null)" ''
refuse memory-no-size 2 '--memory|4X|4G' "$dsbench" run --memory 4X
refuse memory-too-little 2 '--memory 1M|at least' $tiny_run --schemes bf16 --db kept.db --memory 1M
