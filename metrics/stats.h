/* Statistics over chunks, the independent unit: means, t, permutation, bootstrap, multiplicity. All f64.
 * Source: docs/METRICS.md, "Is A worse than B?". Pinned by closed forms and by numbers of scipy (tests/unit/test_stats.c). */
#ifndef DSB_METRICS_STATS_H
#define DSB_METRICS_STATS_H

#include <stdint.h>

#include "base/status.h"

typedef struct dsb_sample {
    int64_t n;
    double mean, sd, se; /* sd with n−1; NaN where n is too small */
} dsb_sample;
dsb_sample dsb_sample_of(const double *x, int64_t n);

/* Percentile of ascending values, linear between neighbours at φ(n−1); NaN if n == 0. */
double dsb_quantile_sorted(const double *x, int64_t n, double phi);
/* Sorts in place, ascending; any NaN ends up last. */
void dsb_sort(double *x, int64_t n);
/* Pearson's correlation over pairs where both are finite; NaN if either is constant. */
double dsb_correlation(const double *x, const double *y, int64_t n);

/* Regularised incomplete beta I_x(a, b). */
double dsb_incomplete_beta(double a, double b, double x);
double dsb_t_cdf(double t, double df);
double dsb_t_quantile(double p, double df);
/* Two-sided p of mean(d) == mu0. Zero spread: 1 if the mean is mu0, else 0. NaN below 2. */
double dsb_t_test(const double *d, int64_t n, double mu0);
/* mean ± t·se. For TOST at 5 %, level = 0.90: equivalent where the interval lies inside the tolerance. */
void dsb_t_interval(const double *d, int64_t n, double level, double *lo, double *hi);
/* The smallest |effect| that a two-sided test at alpha finds with that power: (t_{1−α/2} + t_power)·se. */
double dsb_min_detectable(double se, int64_t n, double alpha, double power);
/* Two-sided p of flipping the signs of d: exact for n ≤ 16, else `reps` random flips, (1 + hits)/(1 + reps). */
double dsb_sign_flip_p(const double *d, int64_t n, int reps, uint64_t seed);

/* Bootstrap-t interval of the ratio Σsum/Σcount over chunks (count NULL: the mean of sum).
 * NaN below 4 chunks or with a non-finite sum; lo = hi = estimate where nothing varies; Student's interval where
 * more than 1 % of the 1999 resamples have no spread. DSB_ENOMEM. */
dsb_status dsb_bootstrap_t(const double *sum, const double *count, int64_t n, double level, uint64_t seed, double *lo, double *hi, dsb_err *err);

/* (SE of the mean from chunks / SE taking all n values as independent)²; chunk_start (n_chunk + 1) offsets into x. */
double dsb_design_effect(const double *x, const int64_t *chunk_start, int64_t n_chunk);

/* Holm's adjusted p, in the order given; p may be adjusted itself. DSB_ENOMEM. */
dsb_status dsb_holm(const double *p, int64_t n, double *adjusted, dsb_err *err);

/* splitmix64: all random numbers of metrics, seeded by the caller. */
typedef struct dsb_rng {
    uint64_t state;
} dsb_rng;
uint64_t dsb_rng_next(dsb_rng *rng);
int64_t dsb_rng_below(dsb_rng *rng, int64_t n); /* 0 .. n−1 */

#endif
