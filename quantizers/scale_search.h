/* What the encoders of GGUF's formats search with: 256 weights as 16 lanes of 16, so that a sub-block of 16 is a lane, one of 32 is
 * two neighbours, and one instruction serves all of them. Sums run over a lane's weights in their order: the same bits whatever the
 * machine's vectors are. Errors are weighed by p, the importance of a weight's column, or not at all (p NULL). */
#ifndef DSB_QUANTIZERS_SCALE_SEARCH_H
#define DSB_QUANTIZERS_SCALE_SEARCH_H

#include <math.h>

#include "quantizers/codec.h"

enum { LANES = 16, BLOCK = 256 };
enum { PAIRS = 1, WEIGHED = 2 }; /* how: sub-blocks of 32; by importance. Constants where the functions are inlined */

typedef float vec __attribute__((vector_size(64)));
typedef int32_t ivec __attribute__((vector_size(64)));

typedef struct run { /* x[j] lane l: weight 16·l + j */
    vec x[16], p[16], px[16];
    vec n, sx; /* of a sub-block: Σ p, Σ p·x */
} run;
typedef struct sums {
    vec q, qq, xq; /* Σ p·q, p·q², p·x·q of a sub-block */
} sums;

INLINE vec all(float v) { return (vec){0} + v; }
INLINE vec pick(ivec mask, vec a, vec b) { return (vec)((mask & (ivec)a) | (~mask & (ivec)b)); }
INLINE vec least(vec a, vec b) { return pick(a < b, a, b); }
INLINE vec most(vec a, vec b) { return pick(a > b, a, b); }
INLINE vec clamped(vec v, float lo, float hi) { return least(most(v, all(lo)), all(hi)); }
INLINE vec magnitude(vec v) { return (vec)((ivec)v & 0x7fffffff); }
INLINE vec rounded(vec v) { return (v + DSB_ROUNDER) - DSB_ROUNDER; }
#ifdef __clang__
#define LANES_OF(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else /* GCC has that one since 12 only */
#define LANES_OF(v, ...) __builtin_shuffle(v, (ivec){__VA_ARGS__})
#endif
INLINE vec neighbour(vec v) { return LANES_OF(v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14); }
/* The value of largest magnitude of each sub-block, with its sign: of equal ones the first lane's, in both lanes. */
INLINE vec extreme_of(const vec *x, int how) {
    vec top = {0};
    for (int j = 0; j < 16; j++) top = pick(magnitude(x[j]) > magnitude(top), x[j], top);
    if (!(how & PAIRS)) return top;
    top = pick(magnitude(neighbour(top)) > magnitude(top), neighbour(top), top);
    return LANES_OF(top, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14);
}
/* A lane's sum to its sub-block's. */
INLINE vec joined(vec v, int how) { return how & PAIRS ? v + neighbour(v) : v; }
/* All sub-blocks together, in one fixed order. */
INLINE float total(vec v, int how) {
    float sum = 0;
    for (int l = 0; l < LANES; l += how & PAIRS ? 2 : 1) sum += v[l];
    return sum;
}

/* Where a scale is so small that its inverse is none, codes are 0. */
INLINE vec inverse_of(vec d) {
    vec inverse = 1.0f / d;
    return pick((ivec)magnitude(inverse) < 0x7f800000, inverse, (vec){0});
}

INLINE void load_run(run *b, const float *w, const float *p, int how) {
    for (int j = 0; j < 16; j++)
        for (int l = 0; l < LANES; l++) b->x[j][l] = w[16 * l + j];
    vec n = {0}, sx = {0};
    for (int j = 0; j < 16; j++) {
        if (how & WEIGHED) {
            for (int l = 0; l < LANES; l++) b->p[j][l] = p[16 * l + j];
            b->px[j] = b->p[j] * b->x[j];
        }
        n += how & WEIGHED ? b->p[j] : all(1);
        sx += how & WEIGHED ? b->px[j] : b->x[j];
    }
    b->n = joined(n, how);
    b->sx = joined(sx, how);
}

/* q = clamp(round(v·inverse), lo, hi). The clamp compares bits of the sum with the magic number, as integers: they rise with it. */
INLINE vec code_of(vec v, vec inverse, float lo, float hi) {
    ivec u = (ivec)(v * inverse + DSB_ROUNDER);
    int32_t first = (int32_t)dsb_f32_bits(DSB_ROUNDER + lo), last = (int32_t)dsb_f32_bits(DSB_ROUNDER + hi);
    for (int l = 0; l < LANES; l++) {
        int32_t x = u[l] > first ? u[l] : first;
        u[l] = x < last ? x : last;
    }
    return (vec)u - DSB_ROUNDER;
}

/* Of the codes of x + m. */
INLINE sums code_sums(const run *b, vec m, vec inverse, float lo, float hi, int how) {
    sums s = {{0}, {0}, {0}};
#pragma GCC unroll 4
    for (int j = 0; j < 16; j++) {
        vec q = code_of(b->x[j] + m, inverse, lo, hi), pq = how & WEIGHED ? b->p[j] * q : q;
        s.q += pq;
        s.qq += pq * q;
        s.xq += (how & WEIGHED ? b->px[j] : b->x[j]) * q;
    }
    return (sums){joined(s.q, how), joined(s.qq, how), joined(s.xq, how)};
}

/* Σ p·(d·q − m − x)² over the best codes of each sub-block. */
INLINE vec error_of(const run *b, vec d, vec m, float lo, float hi, int how) {
    vec sum = {0}, inverse = inverse_of(d);
#pragma GCC unroll 4
    for (int j = 0; j < 16; j++) {
        vec v = b->x[j] + m, e = v - d * code_of(v, inverse, lo, hi);
        sum += how & WEIGHED ? b->p[j] * e * e : e * e;
    }
    return joined(sum, how);
}

/* Codes of 256 weights in their order. */
INLINE void put_codes(const run *b, vec d, vec m, float lo, float hi, int8_t *codes) {
    vec inverse = inverse_of(d);
    int8_t lanes[16][LANES];
    for (int j = 0; j < 16; j++) {
        ivec q = (ivec)(code_of(b->x[j] + m, inverse, lo, hi) + DSB_ROUNDER); /* the lowest byte is the integer's */
        for (int l = 0; l < LANES; l++) lanes[j][l] = (int8_t)q[l];
    }
    for (int l = 0; l < LANES; l++)
        for (int j = 0; j < 16; j++) codes[16 * l + j] = lanes[j][l];
}

/* Of TOGETHER tries at once, as their sums wait for one another: Σ p·q², p·x·q of each. */
enum { TOGETHER = 5 };
INLINE void fit_sums(const run *b, const vec *inverse, float lo, int n, vec *qq, vec *xq, int how) {
    for (int t = 0; t < n; t++) qq[t] = xq[t] = (vec){0};
    for (int j = 0; j < 16; j++) {
#pragma GCC unroll 8
        for (int t = 0; t < n; t++) {
            vec q = code_of(b->x[j], inverse[t], lo, -lo - 1), pq = how & WEIGHED ? b->p[j] * q : q;
            qq[t] += pq * q;
            xq[t] += (how & WEIGHED ? b->px[j] : b->x[j]) * q;
        }
    }
    for (int t = 0; t < n; t++) {
        qq[t] = joined(qq[t], how);
        xq[t] = joined(xq[t], how);
    }
}

/* x ≈ d·q, lo ≤ q ≤ −lo − 1, d of either sign: the extreme value at the end, and scales around, each refitted by least squares. */
INLINE vec fit_signed(const run *b, float lo, int how) {
    bool few = lo > -8, apart = how & PAIRS; /* few codes, or 32 weights under one scale: the best may lie further off */
    int tries = few ? 5 : apart ? 13 : 9, all_tries = (few || apart ? 2 : 1) * tries, group = few ? 5 : apart ? 2 : 3;
    float step = few ? 0.1f : apart ? 0.02f : 0.0078125f;
    vec top = extreme_of(b->x, how), best = {0}, best_d = {0};
    for (int first = 0; first < all_tries; first += group) { /* either end may hold the extreme */
        vec d[2][TOGETHER], gain[2][TOGETHER], inverse[TOGETHER], qq[TOGETHER], xq[TOGETHER];
        /* The extreme value at the very end comes first: it stays where nothing is better by more than rounding. */
        for (int t = 0, k = first; t < group; t++, k++) inverse[t] = inverse_of(top / ((k < tries ? lo : -lo - 1) * (1 + step * (float)((k + tries / 2) % tries - tries / 2))));
        for (int fit = 0; fit < 2; fit++) {
            fit_sums(b, inverse, lo, group, qq, xq, how);
            for (int t = 0; t < group; t++) {
                d[fit][t] = xq[t] / qq[t]; /* no number where all codes are 0: never better */
                gain[fit][t] = xq[t] * d[fit][t];
                inverse[t] = inverse_of(d[fit][t]);
            }
        }
        for (int i = 0; i < 2 * group; i++) {
            ivec better = gain[i % 2][i / 2] > best * (1 + 0x1p-20f);
            best = pick(better, gain[i % 2][i / 2], best);
            best_d = pick(better, d[i % 2][i / 2], best_d);
        }
    }
    return best_d;
}

#endif
