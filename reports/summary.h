/* What a run says about each scheme, as figures and as tables: the summary of `run`, the head of the report.
 * Everything is derived from the record here and nowhere else, so that terminal, report and JSON agree. */
#ifndef DSB_REPORTS_SUMMARY_H
#define DSB_REPORTS_SUMMARY_H

#include "reports/grid.h"
#include "reports/run_data.h"

typedef enum dsb_standing {
    DSB_STANDING_REFERENCE, DSB_STANDING_FLOOR, /* the reference; the noise floor itself */
    DSB_STANDING_WITHIN,  /* KLD not above the noise floor's: not distinguishable */
    DSB_STANDING_UNSURE,  /* outputs differ, the perplexity's interval holds zero */
    DSB_STANDING_BETTER, DSB_STANDING_WORSE, /* the perplexity's interval lies below, above zero */
    DSB_STANDING_UNKNOWN  /* no quality rows */
} dsb_standing;

/* One scheme's line; NAN where the run has no such figure. */
typedef struct dsb_digest {
    const dsb_scheme_record *scheme;
    double bytes, vs_f32_size, vs_bf16_size; /* how many times smaller than 4, 2 bytes a weight */
    dsb_quality ppl, delta_nll, kld;         /* with 95 % intervals */
    double kld_p99, top1_agreement, accuracy_kept;
    double selection_change;                 /* mean over MoE layers, accumulated */
    double worst_nmse;                       /* accumulated, at a block's output */
    int64_t worst_layer, worst_nonfinite;    /* its values that are not finite: such a layer is the worst, and has no nmse */
    const dsb_throughput *prefill, *decode;
    double prefill_vs_f32, prefill_vs_bf16, decode_vs_f32, decode_vs_bf16;
    dsb_standing standing;
} dsb_digest;

typedef struct dsb_summary {
    const dsb_run_data *data; /* borrowed */
    dsb_digest *schemes;      /* (n), by ordinal; in the arena */
    int64_t n;
    const dsb_digest *ship;     /* smallest scheme whose perplexity rises by at most 1 % (upper end of the interval) */
    const dsb_digest *frugal;   /* the same at 5 %, if it is another one */
    const dsb_digest *faithful; /* smallest KLD of all that quantize; NULL where there is none */
    /* What the run is shown beside, set by the caller; borrowed, NULL: nothing. */
    const struct dsb_history *history;       /* its suite's earlier runs (reports/history.h) */
    const struct dsb_comparison *comparison; /* a base run (reports/compare.h) */
} dsb_summary;

dsb_status dsb_summary_make(const dsb_run_data *data, dsb_arena *arena, dsb_summary *out, dsb_err *err);
const dsb_digest *dsb_summary_find(const dsb_summary *s, const char *scheme);

/* The tables: accuracy, size and speed, and the claim one reads everywhere, answered per scheme. */
void dsb_summary_accuracy(const dsb_summary *s, dsb_arena *arena, dsb_grid *out);
void dsb_summary_cost(const dsb_summary *s, dsb_arena *arena, dsb_grid *out);
void dsb_summary_claim(const dsb_summary *s, dsb_arena *arena, dsb_grid *out);
/* Multiple choice; without a row where the run had none. */
void dsb_summary_choice(const dsb_summary *s, dsb_arena *arena, dsb_grid *out);
/* "not distinguishable from bf16", "ppl +2.3 %" … in the arena. */
const char *dsb_summary_verdict(const dsb_digest *d, dsb_arena *arena);
/* One or two sentences: which scheme to ship, and why. */
void dsb_summary_answer(const dsb_summary *s, dsb_arena *arena, dsb_text *out);

/* All of it as `run` prints it: text, Markdown, or a JSON object {run, status, ship, schemes, warnings}. Reads the run from the record. */
dsb_status dsb_summary_print(dsb_db *db, const char *run_id, dsb_report_format format, dsb_text *out, dsb_err *err);

#endif
