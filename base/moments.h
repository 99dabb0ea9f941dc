/* What kernels reduce and metrics read: sums over a tensor, figures of one row of logits. Plain data, no owner. */
#ifndef DSB_BASE_MOMENTS_H
#define DSB_BASE_MOMENTS_H

#include <stdint.h>

#include "base/format.h"

/* Sums over elements of reference x and test y, f64, in one fixed order. Derived figures: docs/METRICS.md, "Tensors and layers". */
typedef struct dsb_moments {
    int64_t n, nonfinite; /* elements; those of y (or x) that are NaN or Inf: counted, kept out of the sums */
    int64_t first_bad;    /* index of the first non-finite element, or -1 */
    double xx, yy, xy, dd; /* Σx², Σy², Σxy, Σ(x−y)² */
    double max_diff, max_x, max_y; /* max |x−y|, |x|, |y| */
} dsb_moments;

/* One position's figures, reference logits p against test logits q over a vocabulary; f64 sums. All in nats. */
typedef struct dsb_logit_row {
    double nll_ref, nll_test;          /* of the target; 0 if target < 0 */
    double kld, kld_reverse, js, tv;
    double p_ref, p_test;              /* probability of the target */
    double conf_ref;                   /* the reference's largest probability */
    int32_t top_ref, top_test;         /* argmax, ties to the lower index */
    int32_t overlap5, overlap10;       /* |top-k ∩ top-k|, ties to the lower index */
    int32_t nonfinite;                 /* non-finite logits in either row */
} dsb_logit_row;

/* What the sums are partials of: elements of a tensor, blocks added in their order. Sums of a part that begins a block go on where those before it ended. */
enum { DSB_MOMENT_BLOCK = 32768 };

/* Adds b to a: chunks are added in their order, so that sums don't depend on threads. */
DSB_INLINE void dsb_moments_add(dsb_moments *a, const dsb_moments *b) {
    /* Asked of the count, not of first_bad: a zeroed accumulator is a valid empty one. */
    if (!a->nonfinite) a->first_bad = b->nonfinite ? a->n + b->first_bad : -1;
    a->n += b->n;
    a->nonfinite += b->nonfinite;
    a->xx += b->xx;
    a->yy += b->yy;
    a->xy += b->xy;
    a->dd += b->dd;
    if (b->max_diff > a->max_diff) a->max_diff = b->max_diff;
    if (b->max_x > a->max_x) a->max_x = b->max_x;
    if (b->max_y > a->max_y) a->max_y = b->max_y;
}

#endif
