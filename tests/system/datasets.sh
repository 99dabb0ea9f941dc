# Texts that aren't one plain file, multiple choice, llama.cpp's logits files. Sourced by run.sh.
set_run="$dsbench run --model tiny --schemes bf16,dynamic-int8 --chunks 2 --context 32 --repeats 0 --db set.db"
paragraphs() { head -c 6000 "$text" | tr -d '"\\' | tr '\n\t' '  '; }
prose=$(paragraphs)
printf '{"text": "%s", "body": "x"}\n\n{"text": "%s"}\n' "$(printf %.2000s "$prose")" "${prose#??????????}" >docs.jsonl
printf '%s\n\n%s' "$(printf %.2000s "$prose")" "${prose#??????????}" >joined.txt
mkdir -p folder/b
printf '%.2000s' "$prose" >folder/a.md
printf '{"body": "%s"}\n' "${prose#??????????}" >folder/b/z.jsonl
echo no >folder/c.html
check text-joined 0 $set_run --text joined.txt --run-id joined
check text-jsonl 0 $set_run --text docs.jsonl --run-id jsonl
printf '{"model": "tiny", "text": "folder", "field": "body", "schemes": ["bf16", "dynamic-int8"], "chunks": 2, "context": 32, "throughput": {"repeats": 0}}' >set.json
check text-folder-by-suite 0 "$dsbench" run set.json --db set.db --run-id folder
equal text-same-tokens "$(sql set.db "SELECT count(DISTINCT value), count(*) FROM quality WHERE scheme = 'dynamic-int8' AND metric = 'nll'")" '1|3'
equal text-same-hash "$(sql set.db 'SELECT count(DISTINCT text_sha256) FROM run_facts')" 1
for convention in llama gptq sliding; do
    check "text-jsonl-$convention" 0 "$dsbench" run --model tiny --text docs.jsonl --schemes bf16 --convention $convention --context 32 --chunks 2 --repeats 0 --db conventions.db --run-id $convention
done
equal text-conventions-score "$(sql conventions.db 'SELECT group_concat(n_scored) FROM (SELECT n_scored FROM run ORDER BY convention)')" '62,30,47'

refused="$dsbench run --model tiny --schemes bf16 --chunks 2 --context 32 --repeats 0 --db kept.db"
refuse text-field-missing 2 'docs.jsonl, line 3|"body" is missing|--field' $refused --text docs.jsonl --field body
echo '{"text": 7}' >number.jsonl
refuse text-field-no-string 2 "number.jsonl, line 1|isn't a string" $refused --text number.jsonl
echo '{"text": "a"' >cut.jsonl
refuse text-jsonl-malformed 2 'cut.jsonl, line 1|JSON' $refused --text cut.jsonl
printf '{"text": "\351"}' >latin1.jsonl
refuse text-jsonl-not-utf8 2 'latin1.jsonl|0xe9|offset 10' $refused --text latin1.jsonl
mkdir -p linked
ln -s ../joined.txt linked/a.txt
refuse text-folder-link 2 'linked/a.txt|symbolic link' $refused --text linked
mkdir -p bare
refuse text-folder-empty 2 'bare|no *.txt' $refused --text bare

# Multiple choice, alone and beside a text.
for i in 0 1 2 3 4 5; do
    printf '{"query": "%s", "choices": ["a thing", "of some kind", "%s"], "gold": %d}\n' "$(printf '%s' "$prose" | cut -c$((i * 40 + 1))-$((i * 40 + 30)))" "$i$i" $((i % 3))
done >task.jsonl
check task-alone 0 $set_run --task task.jsonl --run-id alone
holds task-table out 'Multiple choice: task.jsonl, 6 items' acc_norm 'right→wrong'
check task-and-text 0 $set_run --task task.jsonl --text joined.txt --run-id both --out task
holds task-in-report task/report.html 'Multiple choice' task.jsonl
equal task-metrics "$(sql set.db "SELECT count(*) FROM quality WHERE run_id = 'both' AND scheme = 'bf16' AND metric IN ('acc', 'acc_norm', 'delta_acc', 'delta_acc_norm', 'acc_changed', 'acc_norm_changed', 'acc_right_to_wrong', 'acc_wrong_to_right', 'acc_norm_right_to_wrong', 'acc_norm_wrong_to_right')")" 10
equal task-items "$(sql set.db "SELECT count(*), min(item), max(item), max(gold) FROM task_item WHERE run_id = 'both'")" '18|0|5|2'
equal task-same-alone-or-not "$(sql set.db "SELECT count(*) FROM task_item a JOIN task_item b USING (scheme, item, answer, answer_norm, loglik_gold, margin) WHERE a.run_id = 'alone' AND b.run_id = 'both'")" 18
equal task-is-the-items "$(sql set.db "SELECT count(*) FROM quality q WHERE metric = 'acc' AND abs(value - (SELECT avg(answer = gold) FROM task_item i WHERE i.run_id = q.run_id AND i.scheme = q.scheme)) < 1e-12")" 6
for table in layer_error routing_layer routing_expert chunk_quality quality_detail; do
    columns=$(sql set.db "SELECT group_concat(name) FROM pragma_table_info('$table') WHERE name != 'run_id'")
    equal "task-leaves-$table" "$(sql set.db "SELECT count(*) FROM (SELECT $columns FROM $table WHERE run_id = 'both' EXCEPT SELECT $columns FROM $table WHERE run_id = 'joined')")" 0
done
check task-compare 0 "$dsbench" compare alone:bf16 alone:bf16 --db set.db
holds task-compare-rows out acc acc_norm
check task-report-json 0 "$dsbench" report alone --db set.db --json
holds task-report-json-has out '"task"' '"acc_norm"'
sql set.db "UPDATE run SET status = 'running' WHERE id = 'alone'"
check task-resume 0 "$dsbench" run --resume alone --db set.db
echo '{"query": "more", "choices": ["a", "b"], "gold": 0}' >>task.jsonl
sql set.db "UPDATE run SET status = 'running' WHERE id = 'alone'"
refuse task-resume-changed 2 'task.jsonl|task changed' "$dsbench" run --resume alone --db set.db
refuse task-missing 2 'nowhere.jsonl|No such file' $refused --task nowhere.jsonl
echo '{"query": "a", "choices": ["b"], "gold": 0}' >one.jsonl
refuse task-one-choice 2 'one.jsonl, line 1|"choices"' $refused --task one.jsonl
echo '{"query": "a", "choices": ["b", "c"], "gold": 2}' >gold.jsonl
refuse task-gold-outside 2 'gold.jsonl, line 1|"gold"|0 to 1' $refused --task gold.jsonl
printf '{"query": "%s", "choices": ["b", "c"], "gold": 0}' "$(printf %.400s "$prose")" >long.jsonl
refuse task-too-long 2 'long.jsonl, line 1|--context' $refused --task long.jsonl

# llama.cpp's logits files.
write="$dsbench logits --model tiny --text joined.txt --context 32 --chunks 8"
check logits-write 0 $write --write ref.kld
check logits-write-scheme 0 $write --write int8.kld --scheme dynamic-int8
equal logits-write-head "$(head -c 8 ref.kld)" _logits_
check logits-llama 0 "$dsbench" logits ref.kld int8.kld
holds logits-llama-both out llama_ppl_base llama_same_top kld_mean top1_agreement '120 positions'
check logits-llama-same 0 "$dsbench" logits ref.kld ref.kld --json
equal logits-llama-same-is-zero "$(sed -n 's/^  "kld_max": \(.*\),$/\1/p; s/^  "top1_agreement": \(.*\),$/\1/p' out | tr '\n' ' ')" '0.0 1.0 '
refuse logits-write-static 2 'static-int8|calibration' $write --write no.kld --scheme static-int8
refuse logits-write-no-folder 4 'nowhere/no.kld' $write --write nowhere/no.kld
refuse logits-write-and-read 2 '--write' $write --write no.kld ref.kld
[ -e no.kld ] && wrong logits-write-leaves-nothing no.kld || ok logits-write-leaves-nothing
