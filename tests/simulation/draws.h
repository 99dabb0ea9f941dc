/* Random numbers of the simulations, and binomial bounds. Every draw comes from a seed made of its case and its number: threads change nothing. */
#ifndef DSB_TESTS_DRAWS_H
#define DSB_TESTS_DRAWS_H

#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "metrics/stats.h"

static inline dsb_rng draws_of(uint64_t what, uint64_t size, uint64_t number) {
    dsb_rng mix = { what * 1000003 + size }, rng;
    rng.state = dsb_rng_next(&mix) + number;
    rng.state = dsb_rng_next(&rng);
    return rng;
}

static inline double draw_uniform(dsb_rng *r) { return ((double)(dsb_rng_next(r) >> 11) + 0.5) * 0x1p-53; }

static inline double draw_normal(dsb_rng *r) {
    double u = draw_uniform(r), v = draw_uniform(r);
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

static inline double draw_t3(dsb_rng *r) {
    double z = draw_normal(r), a = draw_normal(r), b = draw_normal(r), c = draw_normal(r);
    return z / sqrt((a * a + b * b + c * c) / 3);
}

/* The least and the most successes of n at rate p that each leave at most `tail` beyond them. */
static inline void binomial_bounds(int64_t n, double p, double tail, int64_t *least, int64_t *most) {
    double below = 0, term;
    int sign;
    *least = *most = 0;
    for (int64_t k = 0; k <= n; k++) {
        term = exp(lgamma_r((double)n + 1, &sign) - lgamma_r((double)k + 1, &sign) - lgamma_r((double)(n - k) + 1, &sign) + (double)k * log(p) + (double)(n - k) * log1p(-p));
        if (below <= tail) *least = k;
        below += term;
        *most = k;
        if (1 - below <= tail) return;
    }
}

#endif
