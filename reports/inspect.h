/* The detailed tables: layers, tensors, routing, experts, speed, coverage; worst first. Filters are shared by all. */
#ifndef DSB_REPORTS_INSPECT_H
#define DSB_REPORTS_INSPECT_H

#include "reports/grid.h"
#include "reports/run_data.h"

typedef struct dsb_filter {
    const char *scheme, *kind, *sort; /* NULL: all, all, the table's first metric */
    int64_t layer, expert;            /* -1: all */
    int64_t top;                      /* rows shown, 0: all */
    int64_t per_scheme;               /* rows shown of each scheme, 0: all */
} dsb_filter;
#define DSB_FILTER_ALL { NULL, NULL, NULL, -1, -1, 0, 0 }

/* Each fails with DSB_EUSAGE if `sort` names none of its metrics (the message lists them). */
dsb_status dsb_inspect_layers(const dsb_run_data *d, const dsb_filter *f, dsb_arena *arena, dsb_grid *out, dsb_err *err);
dsb_status dsb_inspect_tensors(const dsb_tensor_error *rows, int64_t n, const dsb_filter *f, dsb_arena *arena, dsb_grid *out, dsb_err *err);
dsb_status dsb_inspect_routing(const dsb_run_data *d, const dsb_filter *f, dsb_arena *arena, dsb_grid *out, dsb_err *err);
dsb_status dsb_inspect_experts(const dsb_run_data *d, const dsb_filter *f, dsb_arena *arena, dsb_grid *out, dsb_err *err);

/* Per scheme: routing over all layers; every throughput row; coverage of the calibration. In the record's order. */
void dsb_inspect_routing_summary(const dsb_run_data *d, dsb_arena *arena, dsb_grid *out);
void dsb_inspect_speed(const dsb_run_data *d, dsb_arena *arena, dsb_grid *out);
void dsb_inspect_coverage(const dsb_run_data *d, dsb_arena *arena, dsb_grid *out);

/* Layer by layer: least, median, most calibration tokens of an expert, and the starved experts by number (reports/experts.c). */
void dsb_inspect_coverage_layers(const dsb_run_data *d, dsb_arena *arena, dsb_grid *out);
/* Mean over layers of Spearman's correlation between a figure of experts (expert_activity, expert_mean_abs) and their sensitivity; NAN: unknown. */
double dsb_expert_agreement(const dsb_run_data *d, dsb_arena *arena, const char *kind, int64_t *n_layer);
/* Whether sparse-activity beats the other ways to spend the same bits: a sentence with its figures; false where the run hasn't the schemes. */
bool dsb_expert_guide(const dsb_run_data *d, dsb_arena *arena, char *out, size_t size);

/* Mean of a figure of scheme a less that of b, chunk by chunk, with its 95 % interval (t); false where they share fewer than 4. */
bool dsb_inspect_paired(const dsb_run_data *d, dsb_arena *arena, const char *a, const char *b, double (*value)(const dsb_chunk_quality *), double *mean, double *lo, double *hi);
/* What a scheme's compensation won beside the scheme of the run that is the same without it, and its bytes: a clause (reports/compensation.c); NULL
 * where it has none, or nothing stands beside it. */
const char *dsb_compensation_won(const dsb_run_data *d, dsb_arena *arena, const char *scheme);

/* DSB_EUSAGE, with the schemes there are, if the run has no scheme of that name (NULL is fine). */
dsb_status dsb_inspect_check_scheme(const dsb_run_data *d, const char *scheme, dsb_err *err);

#endif
