/* Encoders of GGUF's K formats: 256 values, sub-blocks with small integer scales (and minima), f16 ones above them. The search is of
 * least squares: each sub-block's own scale over a few ranges, then the integers around it, then the f16 scales for the codes chosen. */
#include <string.h>

#include "quantizers/ggml_blocks.h"
#include "quantizers/scale_search.h"

enum { ROUNDS = 2 };

/* What f16 gives back of a scale; beyond its range the largest, so that blocks stay finite. */
static float half_of(float x) { return dsb_f16_to_f32(dsb_f32_to_f16(x > 65504.0f ? 65504.0f : x > -65504.0f ? x : -65504.0f)); }


/* Formats with a minimum: x ≈ d·q − m, 0 ≤ q ≤ hi, m ≥ 0 */

/* Least squares for d and m of given codes; m stays at 0 where it would be negative. */
INLINE void refit(const run *b, const sums *s, vec *d, vec *m) {
    vec det = b->n * s->qq - s->q * s->q, zero = {0};
    vec both = (b->n * s->xq - b->sx * s->q) / det, under = (s->q * s->xq - s->qq * b->sx) / det;
    ivec some = s->qq > 0, good = some & (det > 0) & (under >= 0) & (both > 0);
    *d = pick(good, both, pick(some & (s->xq > 0), s->xq / s->qq, zero));
    *m = pick(good, under, pick(some, zero, most(-b->sx / b->n, zero))); /* all codes are 0: the mean */
}

INLINE void fit_affine(const run *b, float hi, vec *best_d, vec *best_m, int how) {
    int tries = hi > 3 ? 9 : 4; /* of ranges around the whole one, in codes */
    float first = hi > 3 ? hi * -0.09375f : -0.3f, step = hi > 3 ? hi * 0.03125f : 0.5f;
    vec lo = {0}, top = {0}, best = all(INFINITY);
    for (int j = 0; j < 16; j++) {
        lo = least(lo, b->x[j]);
        top = most(top, b->x[j]);
    }
    if (how & PAIRS) {
        lo = least(lo, neighbour(lo));
        top = most(top, neighbour(top));
    }
    *best_d = (vec){0};
    *best_m = -lo;
    for (int k = 0; k < tries; k++) {
        vec d = (top - lo) / (hi + first + step * (float)k), m = -lo;
        for (int fit = 0; fit < 2; fit++) {
            vec inverse = inverse_of(d);
            sums s = code_sums(b, m, inverse, 0, hi, how);
            refit(b, &s, &d, &m);
            /* Σ p·(d·q − m − x)² but for Σ p·x² */
            vec e = d * (d * s.qq - 2 * (s.xq + m * s.q)) + m * (m * b->n + 2 * b->sx);
            ivec better = (inverse != 0) & (e < best);
            best = pick(better, e, best);
            *best_d = pick(better, d, *best_d);
            *best_m = pick(better, m, *best_m);
        }
    }
}

typedef struct affine {
    float d, dmin; /* as f16 gives them back */
    vec scale, min; /* integers */
} affine;

/* The integers around d/D and m/M that leave least; the sum of what they leave. */
INLINE float choose_integers(const run *b, float hi, float top, vec d, vec m, affine *a, int how) {
    vec best = all(INFINITY), zero = {0};
    vec rd = a->d > 0 ? rounded(clamped(d / a->d, 0, top)) : zero, rm = a->dmin > 0 ? rounded(clamped(m / a->dmin, 0, top)) : zero;
    for (int k = -1; k <= 1; k++)
        for (int l = -1; l <= 1; l++) {
            vec scale = clamped(rd + (float)k, 0, top), min = clamped(rm + (float)l, 0, top), step = a->d * scale;
            vec e = error_of(b, step, a->dmin * min, 0, hi, how);
            ivec better = e < best;
            best = pick(better, e, best);
            a->scale = pick(better, scale, a->scale);
            a->min = pick(better, min, a->min);
        }
    return total(best, how);
}

/* D and M by least squares for the integers and codes that stand. */
INLINE void refit_affine(const run *b, float hi, affine *a, int how) {
    vec step = a->d * a->scale;
    sums s = code_sums(b, a->dmin * a->min, inverse_of(step), 0, hi, how);
    float aa = total(a->scale * a->scale * s.qq, how), ab = -total(a->scale * a->min * s.q, how), bb = total(a->min * a->min * b->n, how);
    float xa = total(a->scale * s.xq, how), xb = -total(a->min * b->sx, how);
    float det = aa * bb - ab * ab, d = det > 0 ? (xa * bb - xb * ab) / det : aa > 0 ? xa / aa : a->d, m = det > 0 ? (aa * xb - ab * xa) / det : a->dmin;
    if (d > 0 && m >= 0) {
        a->d = half_of(d);
        a->dmin = half_of(m);
    }
}

INLINE float largest_of(vec v) {
    float top = 0;
    for (int l = 0; l < LANES; l++) top = v[l] > top ? v[l] : top;
    return top;
}

/* Fills codes (256) with q, scale and min with each sub-block's integers. */
INLINE void affine_block(const float *w, const float *p, float hi, float top, affine *out, int8_t *codes, int how) {
    run b;
    vec d, m;
    float best = INFINITY;
    load_run(&b, w, p, how);
    fit_affine(&b, hi, &d, &m, how);
    affine a = {.d = half_of(largest_of(d) / top), .dmin = half_of(largest_of(m) / top)};
    for (int round = 0; round < ROUNDS; round++) {
        float e = choose_integers(&b, hi, top, d, m, &a, how);
        if (!(e < best)) break;
        *out = a;
        best = e;
        if (round + 1 < ROUNDS) refit_affine(&b, hi, &a, how);
    }
    put_codes(&b, out->d * out->scale, out->dmin * out->min, 0, hi, codes);
}


/* Formats without: x ≈ d·q, lo ≤ q ≤ −lo − 1, scales of either sign */

INLINE float choose_signed(const run *b, float lo, float low, vec d, float D, vec *scale, int how) {
    vec best = all(INFINITY), r = D != 0 ? rounded(clamped(d / D, low, -low - 1)) : (vec){0};
    for (int k = -1; k <= 1; k++) {
        vec sc = clamped(r + (float)k, low, -low - 1), e = error_of(b, D * sc, (vec){0}, lo, -lo - 1, how);
        ivec better = e < best;
        best = pick(better, e, best);
        *scale = pick(better, sc, *scale);
    }
    return total(best, how);
}

/* 16 sub-blocks; scales low .. -low-1. codes (256) are q; returns the f16 scale. */
INLINE float signed_block(const float *w, const float *p, float lo, float low, vec *scale, int8_t *codes, int how) {
    run b;
    float top = 0, best = INFINITY, out = 0;
    vec trial = {0};
    load_run(&b, w, p, how);
    vec d = fit_signed(&b, lo, how);
    for (int l = 0; l < LANES; l++) top = fabsf(d[l]) > fabsf(top) ? d[l] : top;
    float D = half_of(top / low);
    for (int round = 0; round < ROUNDS; round++) {
        float e = choose_signed(&b, lo, low, d, D, &trial, how);
        if (!(e < best)) break;
        best = e;
        out = D;
        *scale = trial;
        if (round + 1 == ROUNDS) break;
        sums s = code_sums(&b, (vec){0}, inverse_of(D * trial), lo, -lo - 1, how);
        float num = total(trial * s.xq, how), den = total(trial * trial * s.qq, how);
        if (den > 0) D = half_of(num / den);
    }
    put_codes(&b, out * *scale, (vec){0}, lo, -lo - 1, codes);
    return out;
}


/* Packing: planes of codes as base/ggml.c reads them */

/* 2-bit planes: four in a byte, 128 values in 32 bytes. */
INLINE void put_planes(const uint8_t *codes, uint8_t *q) {
    for (int half = 0; half < 2; half++)
        for (int i = 0; i < 32; i++) {
            const uint8_t *c = codes + 128 * half + i;
            q[32 * half + i] = (uint8_t)((c[0] & 3) | (c[32] & 3) << 2 | (c[64] & 3) << 4 | (c[96] & 3) << 6);
        }
}

/* One bit of each: bit k of byte i is value 32·k + i. */
INLINE void put_high(const uint8_t *codes, int shift, uint8_t *high) {
    for (int i = 0; i < 32; i++) {
        int bits = 0;
        for (int k = 0; k < 8; k++) bits |= (codes[32 * k + i] >> shift & 1) << k;
        high[i] = (uint8_t)bits;
    }
}

/* Nibbles: the first half of a run of 2·n values is low. */
INLINE void put_nibbles(const uint8_t *codes, int n, uint8_t *q) {
    for (int at = 0; at < BLOCK / 2; at += n)
        for (int i = 0; i < n; i++) q[at + i] = (uint8_t)((codes[2 * at + i] & 15) | (codes[2 * at + n + i] & 15) << 4);
}

INLINE void put_q2_K(const float *w, const float *p, uint8_t *block, int how) {
    dsb_block_q2_K *b = (dsb_block_q2_K *)block;
    affine a = {0};
    uint8_t codes[BLOCK];
    affine_block(w, p, 3, 15, &a, (int8_t *)codes, how);
    for (int s = 0; s < 16; s++) b->scales[s] = (uint8_t)((int)a.scale[s] | (int)a.min[s] << 4);
    put_planes(codes, b->q);
    dsb_put_half(b->d, a.d);
    dsb_put_half(b->dmin, a.dmin);
}

/* Eight 6-bit scales and minima in 12 bytes: the last four's high bits lie above the first four. */
INLINE void put_scales(const affine *a, uint8_t *out) {
    for (int s = 0; s < 4; s++) {
        int scale = (int)a->scale[2 * s], min = (int)a->min[2 * s], scale4 = (int)a->scale[2 * s + 8], min4 = (int)a->min[2 * s + 8];
        out[s] = (uint8_t)(scale | (scale4 >> 4) << 6);
        out[s + 4] = (uint8_t)(min | (min4 >> 4) << 6);
        out[s + 8] = (uint8_t)((scale4 & 15) | (min4 & 15) << 4);
    }
}

/* What q4_K and q5_K begin with: scale, minimum and the sub-blocks' own lie alike in both; the low nibbles go to q. */
INLINE void begin_affine(const float *w, const float *p, float hi, dsb_block_q4_K *head, uint8_t *codes, uint8_t *q, int how) {
    affine a = {0};
    affine_block(w, p, hi, 63, &a, (int8_t *)codes, how | PAIRS);
    dsb_put_half(head->d, a.d);
    dsb_put_half(head->dmin, a.dmin);
    put_scales(&a, head->scales);
    put_nibbles(codes, 32, q);
}

INLINE void put_q4_K(const float *w, const float *p, uint8_t *block, int how) {
    dsb_block_q4_K *b = (dsb_block_q4_K *)block;
    uint8_t codes[BLOCK];
    begin_affine(w, p, 15, b, codes, b->q, how);
}

INLINE void put_q5_K(const float *w, const float *p, uint8_t *block, int how) {
    dsb_block_q5_K *b = (dsb_block_q5_K *)block;
    uint8_t codes[BLOCK];
    begin_affine(w, p, 31, (dsb_block_q4_K *)block, codes, b->q, how);
    put_high(codes, 4, b->high);
}

INLINE void put_q3_K(const float *w, const float *p, uint8_t *block, int how) {
    dsb_block_q3_K *b = (dsb_block_q3_K *)block;
    vec scale = {0};
    uint8_t codes[BLOCK];
    float d = signed_block(w, p, -4, -32, &scale, (int8_t *)codes, how);
    memset(b->scales, 0, sizeof b->scales);
    for (int i = 0; i < BLOCK; i++) codes[i] = (uint8_t)(codes[i] + 4);
    for (int s = 0; s < 16; s++) {
        int v = (int)scale[s] + 32;
        b->scales[s % 8] |= (uint8_t)((v & 15) << s / 8 * 4);
        b->scales[8 + s % 4] |= (uint8_t)((v >> 4) << s / 4 * 2);
    }
    put_planes(codes, b->q);
    put_high(codes, 2, b->high);
    dsb_put_half(b->d, d);
}

INLINE void put_q6_K(const float *w, const float *p, uint8_t *block, int how) {
    dsb_block_q6_K *b = (dsb_block_q6_K *)block;
    vec scale = {0};
    uint8_t codes[BLOCK], high[BLOCK];
    float d = signed_block(w, p, -32, -128, &scale, (int8_t *)codes, how);
    for (int i = 0; i < BLOCK; i++) {
        codes[i] = (uint8_t)(codes[i] + 32);
        high[i] = codes[i] >> 4;
    }
    put_nibbles(codes, 64, b->low);
    put_planes(high, b->high);
    for (int s = 0; s < 16; s++) b->scales[s] = (int8_t)(int)scale[s];
    dsb_put_half(b->d, d);
}

#define ENCODER(type)                                                                          \
    DSB_CLONES void dsb_encode_##type(const float *w, const float *importance, uint8_t *block) { \
        if (importance) put_##type(w, importance, block, WEIGHED);                              \
        else put_##type(w, NULL, block, 0);                                                     \
    }
ENCODER(q2_K)
ENCODER(q3_K)
ENCODER(q4_K)
ENCODER(q5_K)
ENCODER(q6_K)
