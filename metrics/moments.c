#include "metrics/moments.h"

#include <math.h>

static int undefined(const dsb_moments *m) { return m->n <= 0 || m->nonfinite > 0; }

double dsb_moments_nmse(const dsb_moments *m) {
    if (undefined(m)) return NAN;
    if (m->dd == 0) return 0;
    return m->xx > 0 ? m->dd / m->xx : NAN;
}

double dsb_moments_rel_l2(const dsb_moments *m) { return sqrt(dsb_moments_nmse(m)); }

double dsb_moments_sqnr_db(const dsb_moments *m) {
    double nmse = dsb_moments_nmse(m);
    return nmse == 0 ? INFINITY : -10 * log10(nmse);
}

double dsb_moments_cosine(const dsb_moments *m) {
    if (undefined(m) || !(m->xx > 0) || !(m->yy > 0)) return NAN;
    /* Two roots, because the product of two large sums could overflow. */
    double c = m->xy / (sqrt(m->xx) * sqrt(m->yy));
    return c > 1 ? 1 : c < -1 ? -1 : c;
}

double dsb_moments_max_abs(const dsb_moments *m) { return undefined(m) ? NAN : m->max_diff; }

double dsb_moments_f16_headroom_bits(const dsb_moments *m) {
    if (undefined(m)) return NAN;
    return m->max_y > 0 ? log2(65504 / m->max_y) : INFINITY;
}

dsb_moment_figures dsb_moments_figures(const dsb_moments *m) {
    return (dsb_moment_figures){
        .nmse = dsb_moments_nmse(m),
        .rel_l2 = dsb_moments_rel_l2(m),
        .sqnr_db = dsb_moments_sqnr_db(m),
        .cosine = dsb_moments_cosine(m),
        .max_abs = dsb_moments_max_abs(m),
        .f16_headroom_bits = dsb_moments_f16_headroom_bits(m),
    };
}
