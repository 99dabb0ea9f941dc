# Without gnuplot: one clear line and exit code 4 where a picture was asked for; all else works. Sourced by run.sh.
check gnuplot-no-pictures-asked 0 env DSBENCH_GNUPLOT=no-gnuplot $tiny_run --schemes bf16 --db nogp.db
check gnuplot-missing-run 4 env PATH=/nowhere $tiny_run --schemes bf16 --db nogp.db --run-id plain --out nogp
holds gnuplot-missing-summary out 'Run plain (done)' bf16
holds gnuplot-missing-line err gnuplot 'apt-get install gnuplot-nox'
equal gnuplot-missing-one-line "$(wc -l <err)" 1
holds gnuplot-missing-page nogp/report.html '<!DOCTYPE html>' plain '</html>'
equal gnuplot-missing-run-done "$(sql nogp.db "SELECT status FROM run WHERE id = 'plain'")" done
refuse gnuplot-missing-plot 4 'gnuplot|apt-get install gnuplot-nox' env PATH=/nowhere "$dsbench" plot plain --db nogp.db
refuse gnuplot-broken-plot 4 'false' env DSBENCH_GNUPLOT=/bin/false "$dsbench" plot plain --db nogp.db
check gnuplot-missing-report 0 env PATH=/nowhere "$dsbench" report plain --db nogp.db -o nogp.html
check gnuplot-missing-doctor 0 env PATH=/nowhere "$dsbench" doctor
holds gnuplot-missing-doctor-tells out 'gnuplot-nox'
