# Nights of the tiny model: pinned baseline, verdicts as exit codes, files that a gate reads, pruning; hostile names stay text. Sourced by run.sh.
cat >night.json <<END
{ "name": "tiny & <b>night</b>", "model": "tiny", "text": "$text", "schemes": ["bf16", "dynamic-int8"], "chunks": 6, "context": 32, "throughput": { "repeats": 0 } }
END
night="$dsbench nightly night.json --db night.db --out night --quiet"
check nightly-first 0 $night --run-id one
holds nightly-first-junit night/junit.xml '</testsuites>'
holds nightly-first-says out 'Not judged: no baseline is pinned' 'baseline set one'
check nightly-first-strict 3 $night --strict --run-id strict
check baseline-set 0 "$dsbench" baseline set one --db night.db
check baseline-list 0 "$dsbench" baseline list --db night.db --json
holds baseline-list-has out '"run": "one"' '"suite": "tiny & <b>night</b>"'
check baseline-show 0 "$dsbench" baseline show --name 'tiny & <b>night</b>' --db night.db
check nightly-second 0 $night --run-id two
holds nightly-second-says out 'Equivalent: every figure of every chunk is the same' 'written: night/report.html'
holds nightly-junit night/junit.xml '<?xml' '<testsuite name="dynamic-int8"' 'failures="0"' '</testsuites>'
holds nightly-markdown night/summary.md '### dsbench: Equivalent'
holds nightly-page night/report.html 'id="verdict"' 'id="trend"' '</html>'
if grep -q '<b>night' night/report.html night/summary.md; then wrong nightly-names-inert "a suite's name is markup"; else ok nightly-names-inert; fi
check nightly-json 0 $night --run-id three --json
holds nightly-json-has out '"verdict": "equivalent"' '"nights": 4' '"comparison"'

# A night on which another scheme answers to the name: what compare says is nightly's exit code.
cp night.db worse.db
cat >worse.json <<END
{ "name": "dynamic-int8", "rules": [ { "role": "*", "format": "int3", "group": 8 } ] }
END
check nightly-worse-run 0 "$dsbench" run --model tiny --text "$text" --chunks 6 --context 32 --repeats 0 --recipe worse.json --db worse.db --run-id "$(printf 'bad\302\233<i>')" --quiet
check compare-worse 1 "$dsbench" compare one bad --db worse.db --junit worse.xml --format md
holds compare-worse-md out 'Regressed' 'recipe of dynamic-int8' 'weights' 'model.layers.'
holds compare-worse-junit worse.xml '<failure type="regressed"' 'layer '
if LC_ALL=C grep -q "$(printf '\302\233')" out worse.xml; then wrong compare-names-inert "a terminal's control code came through"; else ok compare-names-inert; fi
echo '{ "metrics": { "kld_mean": 99, "delta_nll": 99, "selection_change": 1 } }' >loose.json
check compare-tolerated 0 "$dsbench" compare one bad --db worse.db --tolerances loose.json
check compare-tolerance-spelt 0 "$dsbench" compare one bad --db worse.db --tolerance loose.json --json
check report-base 0 "$dsbench" report bad --base one --db worse.db -o worse.html
holds report-base-verdict worse.html 'class="answer regressed"'

# Two builds in turns: stand-ins for builds that are far slower, far faster, broken, or no build at all. Rows that a build alone has are refused.
cp night.db rounds.db
turns="$dsbench nightly night.json --db rounds.db --out turns --quiet --threads 1"
fake() {
    { printf '#!/bin/sh\necho "$@" >>calls\necho "['; sep=
      for scheme in bf16 dynamic-int8; do for phase in prefill decode; do
          printf '%s{\\"format\\": \\"%s\\", \\"phase\\": \\"%s\\", \\"tps\\": %s$(wc -l <calls)}' "$sep" $scheme $phase "$2"; sep=', '
      done; done
      printf ']"\n'; } >"$1"
    chmod +x "$1"
}
fake slow.sh 0.00
fake fast.sh 99999999
check nightly-slow-base 0 $turns --base-build ./slow.sh --rounds 5 --run-id four
holds nightly-slow-base-says out 'decode_tps' 'improved'
holds nightly-base-asked calls 'bench --model tiny --schemes bf16,dynamic-int8' '--threads 1'
check nightly-fast-base 1 $turns --base-build ./fast.sh --rounds 5 --run-id five
holds nightly-fast-base-says out 'Regressed: prefill_tps of bf16'
check nightly-broken-base 2 $turns --base-build /bin/false --run-id six
holds nightly-broken-base-says err '/bin/false ended with exit code 1'
check nightly-no-base 2 $turns --base-build ./nothing --run-id seven
holds nightly-no-base-says err "--base-build ./nothing: can't be run"
check nightly-silent-base 2 $turns --base-build /bin/true --run-id eight

check prune-dry 0 "$dsbench" runs prune --keep 1 --dry-run --db night.db
holds prune-dry-says out '2 runs would be removed' strict two
check prune-thin 0 "$dsbench" runs prune --keep 1 --keep-run two --thin --db night.db
equal prune-thin-left "$(sql night.db "SELECT (SELECT count(*) FROM run), (SELECT count(DISTINCT run_id) FROM layer_error), (SELECT count(DISTINCT run_id) FROM chunk_quality)")" '4|3|4'
check prune 0 "$dsbench" runs prune --keep 1 --db night.db
equal prune-left "$(sql night.db "SELECT group_concat(id) FROM (SELECT id FROM run ORDER BY id)")" 'one,three'
check prune-still-compares 0 "$dsbench" compare one three --db night.db

echo '{ "metrics": { "kdl_mean": 1 } }' >bad.json
refuse nightly-no-suite 2 'nowhere.json' "$dsbench" nightly nowhere.json --db kept.db
refuse nightly-bad-tolerances 2 'bad.json|kdl_mean|kld_mean' "$dsbench" nightly night.json --db kept.db --tolerances bad.json
refuse nightly-unknown-baseline 2 "no run 'nope'" "$dsbench" nightly night.json --db kept.db --baseline nope
refuse compare-bad-tolerances 2 'bad.json|kdl_mean' "$dsbench" compare kept kept --db kept.db --tolerances bad.json
refuse baseline-unknown-verb 2 "'pin' is unknown" "$dsbench" baseline pin kept --db kept.db
refuse baseline-unknown-run 2 "no run 'nope'" "$dsbench" baseline set nope --db kept.db
refuse baseline-none 2 "no baseline of 'x'" "$dsbench" baseline show --name x --db kept.db
refuse prune-without-keep 2 '--keep N is wanted' "$dsbench" runs prune --db kept.db
refuse prune-makes-no-database 2 'nowhere.db|no such database' "$dsbench" runs prune --keep 1 --db nowhere.db
refuse baseline-makes-no-database 2 'nowhere.db|no such database' "$dsbench" baseline set latest --db nowhere.db
if [ -e nowhere.db ]; then wrong no-database-was-made 'nowhere.db is there'; else ok no-database-was-made; fi
refuse prune-unknown-verb 2 "'trim' is unknown" "$dsbench" runs trim --db kept.db
