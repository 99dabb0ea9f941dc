# Checkpoints that are missing, cut, absurd or of another kind: exit 2, one line, the database untouched. Sourced by run.sh.
bad_run="$dsbench run --model m --text $text --calibration $text --chunks 2 --context 32 --repeats 0 --schemes bf16,dynamic-int8 --db kept.db"
fresh() { rm -rf m; cp -r tiny m; }
# of FILE SED NAME CODE WORDS: the run on a copy of the tiny model in which FILE was edited (a header's length is kept: same number of bytes).
of() {
    fresh
    sed "$2" "tiny/$1" >"m/$1"
    if cmp -s "tiny/$1" "m/$1"; then wrong "$3" "nothing was broken by $2"; return; fi
    refuse "$3" "$4" "$5" $bad_run
}

rm -rf m
refuse model-missing 2 'm/config.json|No such file' $bad_run
: >m
refuse model-is-a-file 2 'm/config.json' $bad_run
rm m
fresh; rm m/config.json
refuse config-missing 2 'm/config.json|No such file' $bad_run
fresh; : >m/config.json
refuse config-empty 2 'm/config.json|JSON' $bad_run
of config.json 's/{/[/' config-malformed 2 'm/config.json|JSON|line'
of config.json '/hidden_size/d' config-field-missing 2 'm/config.json|"hidden_size"|missing'
of config.json 's/"hidden_size": 16/"hidden_size": "16"/' config-field-type 2 'm/config.json|"hidden_size"|a string|integer'
of config.json 's/"hidden_size": 16/"hidden_size": 1000000000000/' config-field-absurd 2 'm/config.json|1000000000000|wanted'
of config.json 's/"num_hidden_layers": 2/"num_hidden_layers": -1/' config-field-negative 2 'm/config.json|"num_hidden_layers"|-1'
of config.json 's/DeepseekV3ForCausalLM/LlamaForCausalLM/' config-architecture 2 'm/config.json|LlamaForCausalLM|DeepseekV3ForCausalLM'
of config.json 's/"architectures"/"arkitectures"/' config-no-architecture 2 'm/config.json|"architectures"'
of config.json 's/"silu"/"gelu"/' config-activation 2 'm/config.json|gelu|silu'
of config.json 's/"sigmoid"/"softmax"/' config-scoring 2 'm/config.json|softmax|sigmoid'
of config.json 's/"noaux_tc"/"greedy"/' config-topk-method 2 'm/config.json|greedy|noaux_tc'
of config.json 's/"attention_bias": false/"attention_bias": true/' config-attention-bias 2 'm: tensor model.layers.0.self_attn.q_a_proj.bias|missing'
of config.json 's/"attention_bias": false/"attention_sinks": false/' config-unknown-field 2 'm/config.json|"attention_sinks"|may change the result'
of config.json 's/"rope_scaling": null/"rope_scaling": { "type": "dynamic", "factor": 2 }/' config-rope-type 2 'm/config.json|dynamic|yarn'
of config.json 's/"rope_scaling": null/"rope_scaling": 2/' config-rope-no-object 2 'm/config.json|"rope_scaling"|object'
of config.json 's/"rope_scaling": null/"rope_scaling": { "type": "yarn", "factor": 4, "original_max_position_embeddings": 64, "beta_fast": -1 }/' config-yarn-beta 2 'm/config.json|beta_fast|-1'
of config.json 's/"rope_theta": 10000.0/"rope_theta": 0/' config-rope-theta 2 'm/config.json|rope_theta'
of config.json 's/"rms_norm_eps": 1e-06/"rms_norm_eps": -1/' config-negative-eps 2 'm/config.json|rms_norm_eps|-1'
of config.json 's/"n_group": 2/"n_group": 3/' config-groups 2 'm/config.json|4 experts|3 groups'
of config.json 's/"num_experts_per_tok": 2/"num_experts_per_tok": 9/' config-too-many-experts 2 'm/config.json|num_experts_per_tok|9'
of config.json 's/"num_hidden_layers": 2/"num_hidden_layers": 3/' config-more-layers-than-stored 2 'm: tensor model.layers.2|missing'
of config.json 's/"hidden_size": 16/"hidden_size": 32/' config-other-width 2 'm: tensor model.embed_tokens.weight|(420, 16)|(420, 32)'

fresh; rm m/model.safetensors
refuse weights-missing 2 'm/model.safetensors|No such file' $bad_run
fresh; : >m/model.safetensors
refuse weights-empty 2 'm/model.safetensors|0 bytes' $bad_run
for size in 4 100 5000 30000 41000; do
    fresh; head -c $size tiny/model.safetensors >m/model.safetensors
    refuse "weights-truncated-at-$size" 2 'm/model.safetensors|' $bad_run
done
fresh; printf '\377\377\377\377\377\377\377\177' | dd of=m/model.safetensors conv=notrunc 2>dd.err
refuse weights-absurd-header-length 2 'm/model.safetensors|9223372036854775807|truncated' $bad_run
fresh; printf 'x' | dd of=m/model.safetensors bs=1 seek=8 conv=notrunc 2>dd.err
refuse weights-header-no-json 2 'm/model.safetensors|header' $bad_run
of model.safetensors 's/"shape":\[420,16\]/"shape":[-20,16]/' weights-negative-shape 2 'm/model.safetensors|model.embed_tokens.weight|negative'
of model.safetensors 's/"shape":\[420,16\]/"shape":[9e9,16]/' weights-shape-no-integer 2 'm/model.safetensors|model.embed_tokens.weight|shape'
of model.safetensors 's/"shape":\[420,16\]/"shape":[420,96]/' weights-shape-beyond-bytes 2 'm/model.safetensors|model.embed_tokens.weight|13440 bytes|80640'
of model.safetensors 's/"shape":\[420,16\]/"shape":[840, 8]/' weights-other-shape 2 'm: tensor model.embed_tokens.weight|(840, 8)|(420, 16)'
of model.safetensors 's/"data_offsets":\[0,13440\]/"data_offsets":[9,13440]/' weights-wrong-offsets 2 'm/model.safetensors|model.embed_tokens.weight|13431 bytes|13440'
of model.safetensors 's/"dtype":"BF16"/"dtype":"XF16"/' weights-unknown-dtype 2 'm/model.safetensors|model.embed_tokens.weight|XF16|BF16'
of model.safetensors 's/"dtype":"BF16"/"dtype":"I16" /' weights-integer-dtype 2 'm: tensor model.embed_tokens.weight|I16'
of model.safetensors 's/model.norm.weight/model.norn.weight/' weights-tensor-missing 2 'm: tensor model.norm.weight is missing'
of model.safetensors 's/experts.3.up_proj/experts.7.up_proj/' weights-expert-missing 2 'm: tensor model.layers.1.mlp.experts.3.up_proj.weight is missing'
of model.safetensors 's/model.norm.weight/lm_head.weight__/; s/lm_head.weight__/lm_head.weight"/' weights-header-broken 2 'm/model.safetensors|header'

fresh; rm m/model.safetensors; echo '{ "weight_map": { "lm_head.weight": "part-1.safetensors" } }' >m/model.safetensors.index.json
refuse shard-missing 2 'm/part-1.safetensors|No such file' $bad_run
echo '{ "weight_map": { "lm_head.weight": "../tiny/model.safetensors" } }' >m/model.safetensors.index.json
refuse shard-outside 2 'm/model.safetensors.index.json|lm_head.weight|../tiny' $bad_run
echo '{ "weight_map": 5 }' >m/model.safetensors.index.json
refuse shard-index-malformed 2 'm/model.safetensors.index.json|weight_map' $bad_run

fresh; rm m/tokenizer.json
refuse tokenizer-missing 2 'm/tokenizer.json|No such file' $bad_run
fresh; head -c 500 tiny/tokenizer.json >m/tokenizer.json
refuse tokenizer-truncated 2 'm/tokenizer.json|JSON|line' $bad_run
of tokenizer.json 's/"BPE"/"Unigram"/' tokenizer-other-model 2 'm/tokenizer.json|Unigram|BPE'
fresh; sed 's/"<s>"/"<x>"/; s/"id": 1,/"id": 999,/' tiny/tokenizer.json >m/tokenizer.json; printf '</s></s> and more' | cat - "$text" >special.txt
refuse tokenizer-of-another-model 2 'm/tokenizer.json|999|420' $bad_run --text special.txt

# A scheme's own checkpoint is checked as the model is.
refuse source-missing 2 'scheme qat-int8|nowhere|--scheme qat-int8=DIR' $bad_run --scheme qat-int8=nowhere
fresh; sed 's/model.norm.weight/model.norn.weight/' tiny/model.safetensors >m/model.safetensors
refuse source-tensor-missing 2 'm: tensor model.norm.weight is missing' $dsbench run --model tiny --text "$text" --schemes bf16 --scheme qat-int8=m --chunks 2 --context 32 --db kept.db
# Integer codes and their scales too, before anything is stored.
for kind in qat-int4 qat-int8; do
    source=$here/../../models/dsmoe-tiny/$kind/model.safetensors
    mkdir -p codes
    codes_run="$dsbench run --text $text --schemes bf16 --scheme $kind=codes --chunks 2 --context 32 --repeats 0 --db kept.db"
    sed '1,/o_proj.weight_scale"/s/o_proj.weight_scale"/o_proj.weight_scalx"/' "$source" >codes/model.safetensors
    refuse "codes-of-$kind-without-scale" 2 'codes: tensor model.layers.|o_proj.weight_scale is missing' $codes_run
    sed 's/"dtype":"I8"/"dtype":"U8"/g; s/"dtype":"I32"/"dtype":"F32"/g' "$source" >codes/model.safetensors
    refuse "codes-of-$kind-of-other-type" 2 'codes: tensor model.layers.|dtype is' $codes_run
done

# What only the numbers tell is found on the way: the run stays, marked as failed or non-finite.
nan() { fresh; printf '\300\177' | dd of=m/model.safetensors bs=1 seek="$1" conv=notrunc 2>dd.err; }
bytes=$(wc -c <tiny/model.safetensors)
nan $((bytes - 2))
check nan-in-head 1 $bad_run --db nan.db --run-id head
holds nan-in-head-told err 'run head' lm_head NaN
equal nan-in-head-one-line "$(wc -l <err)" 1
equal nan-in-head-marked "$(sql nan.db "SELECT status FROM run WHERE id = 'head'")" nonfinite
header=$(head -c 2 tiny/model.safetensors | od -An -tu2 | tr -d ' ')
q_a=$(head -c 8000 tiny/model.safetensors | sed -n 's/.*layers.0.self_attn.q_a_proj.weight"[^[]*\[[^]]*\],"data_offsets":\[\([0-9]*\),.*/\1/p' | head -n 1)
nan $((8 + header + q_a))
check nan-in-weight 2 $bad_run --db nan.db --run-id weight
holds nan-in-weight-told err 'm: tensor model.layers.0.self_attn.q_a_proj.weight' NaN
equal nan-in-weight-marked "$(sql nan.db "SELECT status FROM run WHERE id = 'weight'")" failed

refuse trace-model-missing 2 'nowhere/config.json' "$dsbench" trace --model nowhere --tokens tokens.json -o no.safetensors
refuse tensor-truncated 2 'cut.safetensors' "$dsbench" tensor "$(head -c 5000 tiny/model.safetensors >cut.safetensors && echo cut.safetensors)" --format int8 -o no.safetensors
refuse logits-without-tensor 2 'tiny/model.safetensors|logits' "$dsbench" logits tiny/model.safetensors tiny/model.safetensors
equal no-output-of-refused "$(ls no.safetensors* 2>/dev/null)" ''
