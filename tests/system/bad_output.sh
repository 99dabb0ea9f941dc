# Outputs that can't be written, and databases that are not ours to write. Sourced by run.sh.
run="$tiny_run --schemes bf16"
: >file
refuse out-below-a-file 4 'file/pictures' $run --db kept.db --out file/pictures
refuse out-is-a-file 4 'file|no folder' $run --db kept.db --out file
refuse out-impossible 4 '/proc/pictures' $run --db kept.db --out /proc/pictures
refuse report-impossible 4 'nowhere/page.html' "$dsbench" report kept --db kept.db -o nowhere/page.html
refuse plot-impossible 4 'file/pictures' "$dsbench" plot kept --db kept.db -o file/pictures
refuse trace-impossible 4 'nowhere/t.safetensors' "$dsbench" trace --model tiny --tokens tokens.json -o nowhere/t.safetensors
check tensor-impossible 4 "$dsbench" tensor tiny/model.safetensors --format int8 -o nowhere/t.safetensors
holds tensor-impossible-told err 'nowhere/t.safetensors'
if [ -e /dev/full ]; then
    for command in 'runs --db kept.db' 'layers kept --db kept.db' 'report kept --db kept.db --format text' 'list schemes' 'tokenize --model tiny hello.txt' 'doctor' 'compare kept kept --db kept.db' 'run --resume kept --db kept.db'; do
        "$dsbench" $command >/dev/full 2>err
        equal "full-disk-${command%% *}" "$? $(wc -l <err)" '4 1'
    done
fi

refuse bench-db-below-nothing 4 'nowhere/x.db' "$dsbench" bench --kernel rope --shape 1x2x1 --repeats 1 --db nowhere/x.db

# The database itself; kept.db stands beside it and is never touched.
refuse db-below-nothing 4 'nowhere/x.db' $run --db nowhere/x.db
refuse db-is-a-folder 2 'tiny|regular file' $run --db tiny
cp "$text" alien.db
sha=$(sha256sum alien.db)
refuse db-is-a-text 2 'alien.db|not a dsbench database' $run --db alien.db
equal db-is-a-text-untouched "$(sha256sum alien.db; ls alien.db*)" "$sha
alien.db"
sql stranger.db 'CREATE TABLE shopping (item TEXT); INSERT INTO shopping VALUES (1)'
sha=$(sha256sum stranger.db)
refuse db-of-a-stranger 2 'stranger.db|another program' $run --db stranger.db
refuse db-of-a-stranger-read 2 'stranger.db|another program' "$dsbench" runs --db stranger.db
equal db-of-a-stranger-untouched "$(sha256sum stranger.db; ls stranger.db*)" "$sha
stranger.db"
cp kept.db newer.db
sql newer.db 'PRAGMA user_version = 99'
sha=$(sha256sum newer.db)
refuse db-newer 2 'newer.db|newer dsbench|99' $run --db newer.db
refuse db-newer-read 2 'newer.db|newer dsbench' "$dsbench" layers kept --db newer.db
equal db-newer-untouched "$(sha256sum newer.db; ls newer.db* | tr '\n' ' ')" "$sha
newer.db "
head -c 20000 kept.db >half.db
sha=$(sha256sum half.db)
refuse db-damaged 2 'half.db' "$dsbench" layers kept --db half.db
equal db-damaged-untouched "$(sha256sum half.db)" "$sha"
: >empty.db
refuse db-empty-read 2 'empty.db|empty' "$dsbench" runs --db empty.db
check db-empty-is-a-new-one 0 $run --db empty.db
refuse db-missing-read 2 'missing.db|dsbench run' "$dsbench" runs --db missing.db
equal db-missing-not-made "$(ls missing.db 2>/dev/null)" ''
refuse run-id-taken 2 'kept|--run-id' $run --db kept.db --run-id kept
refuse run-id-latest 2 '--run-id|latest' $run --db kept.db --run-id latest
refuse run-id-of-two-lines 2 '--run-id' $run --db kept.db --run-id 'a
b'
refuse run-id-not-utf8 2 '--run-id' $run --db kept.db --run-id "$(printf 'a\377')"
refuse isa-unknown 2 'DSBENCH_ISA|avx9' env DSBENCH_ISA=avx9 $run --db kept.db
refuse isa-option-unknown 2 'run: --isa|avx9|ref is wanted' $run --isa avx9 --db kept.db
