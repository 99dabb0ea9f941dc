/* Change points of a series over runs: from which run on is the level another one?
 * Binary segmentation; a split is kept where the largest standardised sum of ranks before it beats what shuffled orders of the same values give:
 * a permutation test, so the false-alarm rate of a series without change is alpha for any noise that is exchangeable, outliers and ties included.
 * Segments left and right of a split are tested at half its alpha, so that all those of one depth together stay within alpha.
 * For figures of a deterministic engine (equal builds give equal bits) no such test is needed: every change is real, and dsb_judge over the chunks
 * of consecutive runs says whether it is one for the worse. This is for throughput and other noisy series.
 * Sources: Pettitt 1979 (rank test); Scott, Knott 1974 (segmentation); Matteson, James 2014 (permutations). False alarms and power: docs/statistics.md. */
#ifndef DSB_METRICS_CHANGE_POINT_H
#define DSB_METRICS_CHANGE_POINT_H

#include <stdint.h>

#include "base/status.h"

typedef struct dsb_change_point {
    int64_t at;           /* the first run of the new level */
    double before, after; /* medians of the segments on either side */
    double p;             /* of the split in its segment */
} dsb_change_point;

/* x (n) oldest first; not-finite values are left out (at counts them). points has room for n; ascending. alpha: DSB_JUDGE_ALPHA.
 * Deterministic: fixed seed. DSB_ENOMEM. */
dsb_status dsb_change_points(const double *x, int64_t n, double alpha, dsb_change_point *points, int64_t *n_point, dsb_err *err);

#endif
