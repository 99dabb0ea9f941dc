# A run that is interrupted leaves its row, and --resume finishes it with the figures of a run that was not. Sourced by run.sh.
# The interrupt comes when the first block is in the database: no time is waited for.
long="--text $text --calibration $text --chunks 12 --context 256 --repeats 0 --schemes bf16,int4-rtn --run-id long"
check resume-whole-run 0 "$dsbench" run $long --db whole.db
# A shell starts background commands with SIGINT ignored; a user's terminal doesn't.
env --default-signal=INT "$dsbench" run $long --db cut.db >out 2>err &
pid=$!
while kill -0 $pid 2>/dev/null; do
    [ -f cut.db ] && [ "$(sql cut.db "SELECT count(*) > 0 FROM layer_error" 2>/dev/null)" = 1 ] && break
done
kill -INT $pid 2>/dev/null
wait $pid
equal interrupted-exit $? 130
equal interrupted-is-marked "$(sql cut.db 'SELECT status FROM run')" running
equal interrupted-has-suite "$(sql cut.db 'SELECT length(suite_json) > 100 FROM run')" 1
check interrupted-listed 0 "$dsbench" runs --db cut.db
holds interrupted-listed-as out long running
refuse interrupted-name-taken 2 'long|--resume' "$dsbench" run $long --db cut.db
refuse resume-other-options 2 '--resume' "$dsbench" run --resume long --schemes bf16 --db cut.db
refuse resume-unknown 2 "no run 'nope'|long" "$dsbench" run --resume nope --db cut.db
check resume 0 "$dsbench" run --resume long --db cut.db
holds resume-shows out 'Run long (done)'
for db in whole cut; do
    sql $db.db "SELECT * FROM layer_error; SELECT * FROM tensor_error; SELECT * FROM routing_layer; SELECT * FROM routing_expert; SELECT * FROM chunk_quality; SELECT * FROM quality; SELECT * FROM quality_detail; SELECT * FROM scheme; SELECT * FROM recipe_rule" >$db.rows
done
same resume-gives-the-same-figures cut.rows whole.rows
equal resume-leaves-one-run "$(sql cut.db 'SELECT count(*), min(status) FROM run')" '1|done'
equal resume-sound-database "$(sql cut.db 'PRAGMA integrity_check; PRAGMA foreign_key_check')" ok

# A run goes on only over the inputs it began with.
cp "$text" moved.txt
cp -r tiny moved
$dsbench run --model moved --text moved.txt --schemes bf16 --chunks 2 --context 32 --repeats 0 --db moved.db --run-id m >out 2>err
sql moved.db "UPDATE run SET status = 'running'"
echo more >>moved.txt
refuse resume-changed-text 2 'moved.txt|changed' "$dsbench" run --resume m --db moved.db
cp "$text" moved.txt
printf '\001' | dd of=moved/model.safetensors bs=1 seek=20000 conv=notrunc 2>dd.err
refuse resume-changed-model 2 'moved|model changed' "$dsbench" run --resume m --db moved.db
cp tiny/model.safetensors moved/model.safetensors
check resume-unchanged 0 "$dsbench" run --resume m --db moved.db
rm -r moved
sql moved.db "UPDATE run SET status = 'running'"
refuse resume-model-gone 2 'moved/config.json' "$dsbench" run --resume m --db moved.db
