/* One night: a suite is run, judged against its pinned baseline and its host's history, and written as report, JUnit and Markdown. */
#ifndef DSB_HARNESS_NIGHTLY_H
#define DSB_HARNESS_NIGHTLY_H

#include "harness/run.h"
#include "reports/compare.h"
#include "reports/history.h"

typedef struct dsb_nightly_request {
    dsb_run_request run;              /* its `out` (may be NULL: nothing is written) receives report.html, junit.xml, summary.md */
    const char *baseline;             /* RUN instead of the pinned one, or NULL */
    const dsb_tolerances *tolerances; /* NULL: the defaults */
    const char *base_build;           /* a program timed in turns with this one, or NULL; its speeds gate */
    int64_t rounds;
    bool strict;
    int64_t keep_detail;              /* newest runs of the suite that keep their details; older are thinned. Below 0: all */
} dsb_nightly_request;

typedef struct dsb_nightly_result {
    const char *run_id, *baseline; /* baseline NULL: none was pinned, nothing was judged */
    dsb_comparison comparison;
    dsb_history history;
    int code;                      /* exit code: 0 no regression, 1 regressed, 3 inconclusive or without a baseline and strict */
} dsb_nightly_result;

/* All in the arena. DSB_ENONFINITE: run, judged and written, but a figure is NaN or Inf. DSB_ECOMPARE: the baseline is of another model or text. */
dsb_status dsb_nightly(const dsb_nightly_request *request, dsb_arena *arena, dsb_nightly_result *out, dsb_err *err);
/* What `dsbench nightly` prints, and summary.md: verdict, table, causes, steps of the last nights. */
dsb_status dsb_nightly_write(const dsb_nightly_result *r, dsb_arena *arena, dsb_report_format format, dsb_text *out, dsb_err *err);

#endif
