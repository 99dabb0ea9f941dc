# Completion and manual page hold what the commands' own help tells. Sourced by run.sh.
check man 0 "$dsbench" man
cp out dsbench.1
sed 's/\\fB//g; s/\\fR//g; s/\\fI//g; s/\\-/-/g' dsbench.1 >page
check completion-bash 0 "$dsbench" completion bash
cp out completion.bash
check completion-zsh 0 "$dsbench" completion zsh
cp out _dsbench
refuse completion-of-another-shell 2 "unknown shell 'fish'|bash or zsh" "$dsbench" completion fish
refuse completion-of-none 2 'bash|zsh wanted' "$dsbench" completion
"$dsbench" --help | sed -n 's/^  \([a-z]*\)  *.*/\1/p' >commands
for command in $(cat commands); do
    "$dsbench" "$command" --help | sed -n 's/^  \(-., \|    \)--\([a-z0-9-]*\).*/\2/p' >options
    awk -v c="$command" '$0 ~ "^    " c "\\)" { on = 1 } on && /options=/ { print; exit }' completion.bash >line
    missing=
    for option in $(cat options); do
        grep -q -e "^\(-., \)\{0,1\}--$option\( \|$\)" page || missing="$missing man:--$option"
        tr " '" '\n\n' <line | grep -qx -e "--$option" || missing="$missing bash:--$option"
        awk -v c="$command" '$0 ~ "^    " c "\\)" { on = 1; next } /^    [a-z]*\)/ { on = 0 } on' _dsbench | grep -q -e "--$option[=[]" || missing="$missing zsh:--$option"
    done
    equal "help-man-completion-$command" "$(wc -l <options | awk '{ print ($1 > 5) }')$missing" 1
done
# As bash would ask: the words so far, the last of which is being completed.
completes() {
    name=$1 want=$2
    shift 2
    equal "completes-$name" "$(bash -c '. ./completion.bash; COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _dsbench; echo "${COMPREPLY[*]}"' bash "$@")" "$want"
}
if command -v bash >/dev/null; then
    completes command routing "$dsbench" rou
    completes option '--context' "$dsbench" run --conte
    completes scheme int4-awq-clip "$dsbench" run --schemes int4-awq-
    completes second-scheme bf16,int4-awq-clip "$dsbench" run --schemes bf16,int4-awq-
    completes word accumulated "$dsbench" layers --kind acc
    completes word-after-equals cuda "$dsbench" run --device = cu
    completes run kept "$dsbench" layers --db kept.db ke
    completes table formats "$dsbench" list form
    completes file hello.txt "$dsbench" run --text hel
    completes short pareto "$dsbench" plot -p par
    cp kept.db stranger-ids.db
    # An identifier that a shell would run is offered as it stands, quoted.
    $tiny_run --schemes bf16 --db stranger-ids.db --run-id 'x$(touch expanded)' --quiet >out 2>err
    completes hostile-name 'x\$\(touch\ expanded\)' "$dsbench" layers --db stranger-ids.db x
    equal hostile-name-not-run "$(ls expanded 2>/dev/null)" ''
    : >'two words'
    completes file-with-a-space 'two words' "$dsbench" run --text two
    completes words-or-run 'show' "$dsbench" baseline sh
    completes number '' "$dsbench" layers --top ''
fi
if command -v zsh >/dev/null; then check zsh-reads-it 0 zsh -n _dsbench; fi
if command -v groff >/dev/null; then
    check man-is-clean-roff 0 groff -man -Tutf8 -Kutf8 -ww dsbench.1
    equal man-has-no-warnings "$(cat err)" ''
fi
