/* Figures of a tensor or activation from its raw moments; x is the reference, y the test.
 * Source: docs/METRICS.md, "Tensors and layers". NaN where the formula has no value (no elements, a zero norm), or where
 * a non-finite element was met: it is never averaged away. */
#ifndef DSB_METRICS_MOMENTS_H
#define DSB_METRICS_MOMENTS_H

#include "base/moments.h"

double dsb_moments_nmse(const dsb_moments *m);    /* Σ(x−y)²/Σx²; 0 if both are zero */
double dsb_moments_rel_l2(const dsb_moments *m);  /* √nmse */
double dsb_moments_sqnr_db(const dsb_moments *m); /* −10·log10(nmse); +INFINITY when identical */
double dsb_moments_cosine(const dsb_moments *m);  /* Σxy/√(Σx²Σy²) */
double dsb_moments_max_abs(const dsb_moments *m); /* max|x−y| */
/* log2(65504/max|y|) of the test's activation: bits left before FP16 overflows; +INFINITY for zeros. */
double dsb_moments_f16_headroom_bits(const dsb_moments *m);

typedef struct dsb_moment_figures {
    double nmse, rel_l2, sqnr_db, cosine, max_abs, f16_headroom_bits;
} dsb_moment_figures;
/* All of them at once. */
dsb_moment_figures dsb_moments_figures(const dsb_moments *m);

#endif
