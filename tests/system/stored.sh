# A pre-quantized checkpoint is the scheme as-stored, beside the reference it is given, or beside its own decoded form. Sourced by run.sh.
qat=$here/../../models/dsmoe-tiny/qat-int8
full=$here/../../models/dsmoe-tiny
short="--text $text --chunks 2 --context 32 --repeats 0 --schemes bf16 --db stored.db"
check stored-beside-reference 0 "$dsbench" run --model "$qat" --reference "$full" $short --run-id beside
equal stored-schemes "$(sql stored.db "SELECT group_concat(name, ' ') FROM (SELECT name FROM scheme WHERE run_id = 'beside' ORDER BY ordinal)")" 'reference as-stored bf16'
equal stored-codes-run-as-integers "$(sql stored.db "SELECT kernels LIKE '%/gemm_i8%' FROM scheme WHERE name = 'as-stored'")" 1
cp -r "$qat" prequantized
cp "$full"/tokenizer*.json prequantized/
check stored-alone 0 "$dsbench" run --model prequantized $short --run-id alone
equal stored-alone-schemes "$(sql stored.db "SELECT group_concat(name, ' ') FROM (SELECT name FROM scheme WHERE run_id = 'alone' ORDER BY ordinal)")" 'reference as-stored bf16'
equal stored-says-so "$(sql stored.db "SELECT count(*) FROM event WHERE run_id = 'alone' AND text LIKE '%pre-quantized: the reference is its stored weights decoded%'")" 1
# Its weights are those of the decoded reference, to the last bit.
equal stored-weights-have-no-error "$(sql stored.db "SELECT count(*) > 0, max(dd) FROM tensor_error WHERE run_id = 'alone' AND scheme = 'as-stored'")" '1|0'
printf '{"sequences": [[1, 2, 3]]}' >stored.json
check stored-trace 0 "$dsbench" trace --model prequantized --scheme as-stored --tokens stored.json -o stored.safetensors
sed 's/"compressed-tensors"/"bitsandbytes"/' "$qat/config.json" >prequantized/config.json
refuse stored-unknown-method 2 'prequantized/config.json|bitsandbytes' "$dsbench" trace --model prequantized --tokens stored.json -o stored.safetensors
