#include "base/moments.h"

void dsb_moments_add(dsb_moments *a, const dsb_moments *b) {
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
