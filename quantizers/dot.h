/* Sums, and sums of products, in f64, in eight lanes of a fixed order: they vectorise, and are the same on every machine and for any number of threads. */
#ifndef DSB_QUANTIZERS_DOT_H
#define DSB_QUANTIZERS_DOT_H

#include <stdint.h>

double dsb_sum_f(const float *a, int64_t n);
double dsb_dot_df(const double *a, const float *b, int64_t n);
double dsb_dot_dd(const double *a, const double *b, int64_t n);
/* Σ a · (b − c) */
double dsb_dot_difference(const double *a, const float *b, const float *c, int64_t n);

#endif
