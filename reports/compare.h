/* Two stored runs, or two schemes, set against each other: paired by chunk where chunks are shared; verdicts by metrics/judge.h with the
 * tolerances of reports/tolerance.h; where they differ and why by reports/blame.h.
 * Source: docs/METRICS.md, "Is A worse than B?". Written as text, Markdown, JSON or JUnit. */
#ifndef DSB_REPORTS_COMPARE_H
#define DSB_REPORTS_COMPARE_H

#include "metrics/judge.h"
#include "reports/blame.h"
#include "reports/grid.h"
#include "reports/tolerance.h"

typedef struct dsb_compare_request {
    const char *base, *head;           /* RUN or RUN:scheme; RUN an id, `latest` or a prefix */
    const dsb_tolerances *tolerances;  /* NULL: the defaults */
} dsb_compare_request;

typedef struct dsb_compare_row {
    const char *base_scheme, *head_scheme, *metric, *unit;
    double base, head;   /* as shown: of speeds what was measured, judged or not */
    dsb_judgement j;     /* its verdict; test NONE of what is exact (sizes) or not judged */
    const char *verdict; /* of j, else equivalent, improved, regressed of a size, reported */
} dsb_compare_row;

/* A fact of the runs that differs and may explain figures: build, host, recipe … */
typedef struct dsb_run_difference {
    const char *what, *base, *head;
} dsb_run_difference;

typedef struct dsb_comparison {
    dsb_run_data base, head;
    const char *base_name, *head_name;     /* as asked */
    const dsb_tolerances *tolerances;      /* as asked, borrowed; NULL: the defaults */
    const char *base_scheme, *head_scheme; /* NULL: all that both have */
    dsb_compare_row *rows;
    dsb_blame *blames;
    dsb_run_difference *differences;
    int64_t n_row, n_blame, n_difference;
    int64_t n_upstream; /* layers that only follow others, over all schemes */
    bool alarm, open;   /* a gating metric regressed; is inconclusive */
} dsb_comparison;

/* All in the arena. DSB_ECOMPARE names what differs: model, text, convention, context, number of chunks, or no scheme in common. */
dsb_status dsb_compare_make(dsb_db *db, dsb_arena *arena, const dsb_compare_request *request, dsb_comparison *out, dsb_err *err);
/* A speed of a scheme in both builds, timed in turns (n rounds): a row that gates in the place of the separate runs'; then judge_rounds, once, for all of them. */
dsb_status dsb_compare_add_rounds(dsb_comparison *c, dsb_arena *arena, const char *scheme, const char *metric, const double *base, const double *head, int64_t n, const dsb_tolerances *tolerances,
                                  dsb_err *err);
dsb_status dsb_compare_judge_rounds(dsb_comparison *c, dsb_arena *arena, dsb_err *err);
/* Some figure over chunks is another one. */
bool dsb_compare_moved(const dsb_comparison *c);
/* "regressed", "inconclusive", "improved", "equivalent": of the gating metrics together. */
const char *dsb_compare_verdict(const dsb_comparison *c);
/* One sentence: the verdict, what regressed and where it comes from. In the arena. */
const char *dsb_compare_sentence(const dsb_comparison *c, dsb_arena *arena);
/* Text, Markdown, JSON. */
dsb_status dsb_compare_write(const dsb_comparison *c, dsb_arena *arena, dsb_report_format format, dsb_text *out, dsb_err *err);
/* A test suite a scheme, a test case a metric; regressed gating ones fail, inconclusive ones are skipped (strict: fail). */
dsb_status dsb_compare_junit(const dsb_comparison *c, dsb_arena *arena, bool strict, dsb_text *out, dsb_err *err);
/* The table of rows, as HTML and Markdown show it too. */
void dsb_compare_grid(const dsb_comparison *c, dsb_arena *arena, dsb_grid *out);
/* The table of causes; without rows where nothing changed. Of the `most` largest (0: all), in the order of the schemes. */
void dsb_compare_causes(const dsb_comparison *c, int64_t most, dsb_arena *arena, dsb_grid *out);

#endif
