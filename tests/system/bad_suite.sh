# Schemes, recipes and suites that are misspelled or malformed. Sourced by run.sh.
run="$tiny_run --db kept.db"
refuse scheme-unknown 2 'int5-rtn|int4-rtn' $run --schemes bf16,int5-rtn
refuse scheme-twice 2 'bf16|twice' $run --schemes bf16,bf16
refuse scheme-none-named 2 "','|list schemes" $run --schemes ,
refuse scheme-source-without-folder 2 '--scheme qat-int8|NAME=DIR' $run --scheme qat-int8
refuse scheme-source-unknown 2 'nope' $run --scheme nope=tiny
refuse convention-unknown 2 'strided|llama' $run --convention strided

# recipe NAME WORDS JSON
recipe() {
    printf '%s' "$3" >r.json
    refuse "$1" 2 "r.json|$2" $run --recipe r.json
}
refuse recipe-missing 2 'nowhere.json|No such file' $run --recipe nowhere.json
recipe recipe-empty 'JSON' ''
recipe recipe-malformed 'JSON|line 1' '{ "name": "x", "rules": ['
recipe recipe-key-twice 'JSON|duplicate' '{ "name": "x", "rules": [{ "role": "*", "format": "int8", "format": "int4" }] }'
recipe recipe-rotate-unknown '"rotate" is walsh|hadamard' '{ "name": "x", "rotate": "walsh", "rules": [{ "role": "*", "format": "int8" }] }'
recipe recipe-rotate-static 'rule 1|"activation" is static|"rotate"' '{ "name": "x", "rotate": "hadamard", "rules": [{ "role": "*", "format": "int8", "activation": "int8-static" }] }'
recipe recipe-no-object 'object' '[]'
recipe recipe-no-name '"name"' '{ "rules": [{ "role": "*", "format": "int8" }] }'
recipe recipe-reserved-name 'reference' '{ "name": "reference", "rules": [{ "role": "*", "format": "int8" }] }'
recipe recipe-no-rules '"rules"' '{ "name": "x", "rules": [] }'
recipe recipe-unknown-key 'rulez' '{ "name": "x", "rulez": [] }'
recipe rule-unknown-key 'rule 1|formt|format' '{ "name": "x", "rules": [{ "role": "*", "formt": "int8" }] }'
recipe rule-unknown-format 'rule 2|int9|int8' '{ "name": "x", "rules": [{ "role": "router", "format": "keep" }, { "role": "*", "format": "int9" }] }'
recipe rule-unknown-role 'rule 1|atn.*|attn' '{ "name": "x", "rules": [{ "role": "atn.*", "format": "int8" }] }'
recipe rule-unknown-algorithm 'rule 1|magic|rtn' '{ "name": "x", "rules": [{ "role": "*", "format": "int8", "algorithm": "magic" }] }'
recipe rule-unknown-activation 'rule 1|int7|int8-dynamic' '{ "name": "x", "rules": [{ "role": "*", "format": "int8", "activation": "int7" }] }'
recipe rule-bad-group 'rule 1|group' '{ "name": "x", "rules": [{ "role": "*", "format": "int8", "group": -4 }] }'
recipe rule-bad-test 'rule 1|activity_rank_below' '{ "name": "x", "rules": [{ "role": "expert.*", "format": "int8", "when": { "activity_rank_below": 7 } }] }'
recipe rule-block-group 'rule 1|"group" is 16|32' '{ "name": "x", "rules": [{ "role": "*", "format": "mxfp4", "group": 16 }] }'
recipe rule-unknown-fallback 'rule 1|"fallback" is q9' '{ "name": "x", "rules": [{ "role": "*", "format": "q4_K", "fallback": "q9" }] }'
recipe rule-integer-activation 'rule 1|int8-dynamic|integer' '{ "name": "x", "rules": [{ "role": "*", "format": "nf4", "activation": "int8-dynamic" }] }'
recipe rule-calibrator-of-nothing 'rule 1|"calibrator"|static' '{ "name": "x", "rules": [{ "role": "*", "format": "int8", "calibrator": "kl" }] }'
recipe rule-range-of-no-integers 'rule 1|rtn-mse|integer' '{ "name": "x", "rules": [{ "role": "*", "format": "fp8_e4m3", "algorithm": "rtn-mse" }] }'
# Rows of the tiny model are of 16 weights and less: found before any work.
for rule in '"format": "q4_K"' '"format": "mxfp4", "fallback": "q8_0"'; do
    printf '{ "name": "x", "rules": [{ "role": "*", %s }] }' "$rule" >r.json
    refuse "rule-block-without-fallback" 2 'scheme x: rule 1|blocks of|"fallback"' $run --recipe r.json
done
recipe rule-no-object 'rule 1' '{ "name": "x", "rules": [8] }'
recipe rule-without-match 'rule 1|role' '{ "name": "x", "rules": [{ "format": "int8" }] }'

printf '{ "name": "x", "rules": [{ "role": "embed", "format": "q4_K" }, { "role": "*", "format": "keep" }] }' >r.json
refuse rule-block-of-the-embedding 2 'scheme x: rule 1|model.embed_tokens.weight|"fallback"' $run --recipe r.json

# suite NAME WORDS JSON
suite() {
    printf '%s' "$3" >s.json
    refuse "$1" 2 "$2" $run s.json
}
refuse suite-missing 2 'nowhere.json|No such file' $run nowhere.json
suite suite-empty 's.json|JSON' ''
suite suite-malformed 's.json|JSON|line 1' '{ "chunks": 2, }'
suite suite-no-object 's.json|object' '[1]'
suite suite-unknown-key 's.json|chunkz|chunks' '{ "chunkz": 2 }'
suite suite-wrong-type 's.json|"context"|integer' '{ "context": "long" }'
suite suite-out-of-range 's.json|"context"|-5' '{ "context": -5 }'
suite suite-unknown-scheme 'int5-rtn|int4-rtn' '{ "schemes": ["int5-rtn"] }'
suite suite-schemes-no-array 's.json|"schemes"' '{ "schemes": "bf16" }'
suite suite-bad-recipe 's.json|rule 1|int9' '{ "schemes": [{ "name": "x", "rules": [{ "role": "*", "format": "int9" }] }] }'
suite suite-bad-throughput 's.json|"throughput"' '{ "throughput": 3 }'
suite suite-throughput-unknown-key 's.json|repeat|repeats' '{ "throughput": { "repeat": 3 } }'
suite suite-sources-no-object 's.json|"sources"' '{ "sources": ["tiny"] }'
suite suite-calibration-too-short "$text|chunks of 32 tokens found, 100000|\"calibration_chunks\"" '{ "calibration_chunks": 100000, "schemes": ["static-int8"] }'
echo '{ "model": "nowhere" }' >s.json
refuse suite-model-missing 2 'nowhere/config.json' "$dsbench" run s.json --text "$text" --db kept.db

# A rule that decides nothing is told, with the run and in its summary; the run goes on.
printf '%s' '{ "name": "typo", "rules": [{ "match": "*.gate_projj.*", "format": "int4" }, { "role": "*", "format": "int8" }, { "role": "expert.up", "format": "int4" }] }' >r.json
check rule-that-matches-nothing 0 $tiny_run --db typo.db --run-id typo --recipe r.json
holds rule-that-matches-nothing-shown out 'rule 1 (*.gate_projj.*) matches no tensor'
equal rule-that-matches-nothing-stored "$(sql typo.db "SELECT count(*) FROM event WHERE level = 'warning' AND (text LIKE 'scheme typo: rule 1 (%' OR text LIKE 'scheme typo: rule 3 (expert.up) matches no tensor of the model that an earlier rule leaves%')")" 2
