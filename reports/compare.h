/* Two stored runs, or two schemes, set against each other: paired by chunk where chunks are shared.
 * Verdicts: equivalent (identical figures), improved, regressed, inconclusive; `reported` where nothing is judged.
 * Source: docs/METRICS.md, "Is A worse than B?". Tolerances are not applied here: any significant change counts. */
#ifndef DSB_REPORTS_COMPARE_H
#define DSB_REPORTS_COMPARE_H

#include "reports/grid.h"
#include "reports/run_data.h"

/* base, head: RUN or RUN:scheme, RUN an id, `latest` or a prefix. Appends the table of differences.
 * *regressed: a gating metric (delta_nll, kld_mean, selection_change; p adjusted by Holm) got worse.
 * DSB_ECOMPARE names what differs: model, text, convention, context, number of chunks, or no scheme in common. */
dsb_status dsb_compare(dsb_db *db, const char *base, const char *head, dsb_report_format format, dsb_text *out, bool *regressed, dsb_err *err);

#endif
