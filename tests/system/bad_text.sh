# Texts and token files that can't be measured. Sourced by run.sh.
text_run="$dsbench run --model tiny --schemes bf16 --chunks 2 --context 32 --repeats 0 --db kept.db"
refuse text-missing 2 'nowhere.txt|No such file' $text_run --text nowhere.txt
refuse text-is-a-folder 2 'tiny|no *.txt, *.md or *.jsonl' $text_run --text tiny
printf 'caf\351 au lait' >latin1.txt
refuse text-not-utf8 2 'latin1.txt|0xe9|offset 3' $text_run --text latin1.txt
{ head -c 100000 "$text"; printf '\355\240\200'; } >surrogate.txt
refuse text-surrogate 2 'surrogate.txt|0xed|offset 100000' $text_run --text surrogate.txt
{ cat "$text"; printf '\342\202'; } >cut.txt
refuse text-cut-in-a-character 2 "cut.txt|offset $(wc -c <"$text")" $text_run --text cut.txt
: >empty.txt
refuse text-empty 2 'empty.txt|too short|0 tokens|32' $text_run --text empty.txt
printf 'a few words' >short.txt
refuse text-too-short 2 'short.txt|too short|32' $text_run --text short.txt
refuse calibration-missing 2 'nowhere.txt|No such file' $text_run --text "$text" --calibration nowhere.txt --schemes static-int8
refuse calibration-too-short 2 'short.txt|too short' $text_run --text "$text" --calibration short.txt --schemes static-int8
mkdir nodata
refuse builtin-text-missing 2 'nodata/jargon.txt|make data' env DSBENCH_DATA=nodata $text_run
echo 'not the Jargon File' >nodata/jargon.txt
refuse builtin-text-altered 2 'nodata/jargon.txt|SHA-256|make data' env DSBENCH_DATA=nodata $text_run
refuse tokenize-text-missing 2 'nowhere.txt|No such file' "$dsbench" tokenize --model tiny nowhere.txt
refuse tokenize-not-utf8 2 'latin1.txt|offset 3' "$dsbench" tokenize --model tiny latin1.txt
refuse tokenize-no-tokenizer 2 'nodata|tokenizer.json' "$dsbench" tokenize --model nodata "$text"

trace="$dsbench trace --model tiny -o no.safetensors --tokens"
refuse tokens-missing 2 'nowhere.json|No such file' $trace nowhere.json
echo '{ "sequences": [] }' >t.json
refuse tokens-none 2 't.json|sequences' $trace t.json
echo '{ "sequences": [[1, "a"]] }' >t.json
refuse tokens-no-number 2 't.json|sequence 0|entry 1' $trace t.json
echo '{ "sequences": [[1, 420]] }' >t.json
refuse tokens-beyond-vocabulary 2 't.json|420' $trace t.json
echo '{ "sequences": [[]] }' >t.json
refuse tokens-empty 2 't.json|sequence 0' $trace t.json
awk 'BEGIN { printf "{ \"sequences\": [[1"; for (i = 0; i < 2048; i++) printf ", 1"; print "]] }" }' >t.json
refuse tokens-beyond-model 2 't.json: 2049 tokens; at most 2048|tiny/config.json' $trace t.json
