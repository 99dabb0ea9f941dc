/* Whether two runs can be set against each other, and what differs between them that may explain figures. */
#ifndef DSB_REPORTS_COMPARABLE_H
#define DSB_REPORTS_COMPARABLE_H

#include "reports/compare.h"

/* DSB_ECOMPARE with what differs, found on both sides: model, text, convention, reference's arithmetic, context, chunks, positions. */
dsb_status dsb_comparable(const dsb_run_record *base, const dsb_run_record *head, dsb_err *err);
/* Build, kernels, device, host, threads, calibration text, recipes of common schemes; rows in the arena. */
dsb_status dsb_run_differences(const dsb_run_data *base, const dsb_run_data *head, dsb_arena *arena, dsb_run_difference **rows, int64_t *n, dsb_err *err);

#endif
