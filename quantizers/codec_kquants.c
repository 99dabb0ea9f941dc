/* Encoders of GGUF's K formats: 256 values, sub-blocks with small integer scales (and minima), f16 ones above them. The search is of
 * least squares: each sub-block's own scale over a few ranges, then the integers around it, then the f16 scales for the codes chosen. */
#include <math.h>
#include <string.h>

#include "quantizers/codec.h"
#include "quantizers/ggml_blocks.h"

#define INLINE static inline __attribute__((always_inline))
enum { N = 256, MOST_SUB = 16, ROUNDS = 1 };

/* Eight lanes: two SSE registers or one of AVX, the same sums. Only + - * of them, and loads. */
typedef float lanes __attribute__((vector_size(32)));
INLINE void load(lanes *v, const float *p) { memcpy(v, p, sizeof *v); }
INLINE float sum_lanes(const lanes *v) {
    float a[8];
    memcpy(a, v, sizeof a);
    return dsb_lanes(a);
}

INLINE float clamp(float v, float lo, float hi) {
    v = v > lo ? v : lo;
    return v < hi ? v : hi;
}
INLINE int32_t bits_of(float x) { return (int32_t)dsb_f32_bits(x); }

/* q = clamp(round((x + m)·inverse), lo, hi). The clamp compares bits of the sum with the magic number, as integers: they rise with it. */
INLINE void code_row(const float *x, int n, float m, float inverse, float lo, float hi, float *q) {
    int32_t least = bits_of(DSB_ROUNDER + lo), most = bits_of(DSB_ROUNDER + hi);
    for (int i = 0; i < n; i++) {
        int32_t u = bits_of((x[i] + m) * inverse + DSB_ROUNDER);
        u = u > least ? u : least;
        u = u < most ? u : most;
        q[i] = dsb_f32_from_bits((uint32_t)u) - DSB_ROUNDER;
    }
}

/* Sums over a sub-block's codes. */
typedef struct sums {
    float q, qq, xq;
} sums;

INLINE sums code_sums(const float *x, int n, float m, float inverse, float lo, float hi) {
    lanes a = {0}, b = {0}, c = {0};
    float q[32];
    code_row(x, n, m, inverse, lo, hi, q);
    for (int i = 0; i < n; i += 8) {
        lanes v, y;
        load(&v, q + i);
        load(&y, x + i);
        a += v;
        b += v * v;
        c += y * v;
    }
    return (sums){sum_lanes(&a), sum_lanes(&b), sum_lanes(&c)};
}

/* Σ (d·q − m − x)² over the best codes. */
INLINE float error_of(const float *x, int n, float d, float m, float lo, float hi) {
    lanes a = {0};
    float q[32];
    code_row(x, n, m, d != 0 ? 1 / d : 0, lo, hi, q);
    for (int i = 0; i < n; i += 8) {
        lanes v, y;
        load(&v, q + i);
        load(&y, x + i);
        v = v * d - m - y;
        a += v * v;
    }
    return sum_lanes(&a);
}

INLINE float sum_of(const float *x, int n) {
    lanes a = {0};
    for (int i = 0; i < n; i += 8) {
        lanes y;
        load(&y, x + i);
        a += y;
    }
    return sum_lanes(&a);
}

/* Where a scale is so small that its inverse is none, codes are 0. */
INLINE bool usable(float d) { return d != 0 && isfinite(1 / d); }


/* Formats with a minimum: x ≈ d·q − m, 0 ≤ q ≤ hi, m ≥ 0 */

/* Least squares for d and m of given codes; m stays at 0 where it would be negative. */
INLINE void refit(const sums *s, float sx, float n, float *d, float *m) {
    float det = n * s->qq - s->q * s->q;
    if (!(s->qq > 0)) { /* all codes are 0 */
        *d = 0;
        *m = sx < 0 ? -sx / n : 0;
        return;
    }
    if (det > 0) {
        *d = (n * s->xq - sx * s->q) / det;
        *m = -(s->qq * sx - s->q * s->xq) / det;
        if (*m >= 0 && *d > 0) return;
    }
    *m = 0;
    *d = s->xq > 0 ? s->xq / s->qq : 0;
}

INLINE void fit_affine(const float *x, int n, float hi, float *best_d, float *best_m) {
    int tries = hi > 3 ? 9 : 4; /* of ranges around the whole one, in codes */
    float first = hi > 3 ? hi * -0.09375f : -0.3f, step = hi > 3 ? hi * 0.03125f : 0.5f, lo = 0, top = 0, sx = sum_of(x, n), best = INFINITY;
    for (int i = 0; i < n; i++) {
        lo = x[i] < lo ? x[i] : lo;
        top = x[i] > top ? x[i] : top;
    }
    *best_d = 0;
    *best_m = -lo;
    if (!usable((top - lo) / hi)) return;
    for (int k = 0; k < tries; k++) {
        float d = (top - lo) / (hi + first + step * (float)k), m = -lo;
        for (int fit = 0; fit < 2 && usable(d); fit++) {
            sums s = code_sums(x, n, m, 1 / d, 0, hi);
            refit(&s, sx, (float)n, &d, &m);
            /* Σ(d·q − m − x)² but for Σx² */
            float e = d * (d * s.qq - 2 * (s.xq + m * s.q)) + m * (m * (float)n + 2 * sx);
            if (e < best) {
                best = e;
                *best_d = d;
                *best_m = m;
            }
        }
    }
}

typedef struct affine {
    float d, dmin; /* as f16 gives them back */
    int scale[MOST_SUB], min[MOST_SUB];
} affine;

/* What f16 gives back of a scale; beyond its range the largest, so that blocks stay finite. */
INLINE float half_of(float x) { return dsb_f16_to_f32(dsb_f32_to_f16(clamp(x, -65504.0f, 65504.0f))); }

/* The integers around d/D and m/M that leave least; the sum of what they leave. */
INLINE float choose_integers(const float *x, int sub, float hi, int most, const float *d, const float *m, affine *a) {
    float total = 0;
    for (int s = 0; s < N / sub; s++) {
        const float *y = x + s * sub;
        float best = INFINITY, rd = a->d > 0 ? dsb_round_even(clamp(d[s] / a->d, 0, (float)most)) : 0, rm = a->dmin > 0 ? dsb_round_even(clamp(m[s] / a->dmin, 0, (float)most)) : 0;
        for (int k = -1; k <= 1; k++)
            for (int l = -1; l <= 1; l++) {
                float sc = clamp(rd + (float)k, 0, (float)most), mn = clamp(rm + (float)l, 0, (float)most), step = a->d * sc;
                float e = error_of(y, sub, usable(step) ? step : 0, a->dmin * mn, 0, hi);
                if (e < best) {
                    best = e;
                    a->scale[s] = (int)sc;
                    a->min[s] = (int)mn;
                }
            }
        total += best;
    }
    return total;
}

/* D and M by least squares for the integers and codes that stand. */
INLINE void refit_affine(const float *x, int sub, float hi, affine *a) {
    float aa = 0, ab = 0, bb = 0, xa = 0, xb = 0;
    for (int s = 0; s < N / sub; s++) {
        float sc = (float)a->scale[s], mn = (float)a->min[s], step = a->d * sc;
        sums c = usable(step) ? code_sums(x + s * sub, sub, a->dmin * mn, 1 / step, 0, hi) : (sums){0};
        aa += sc * sc * c.qq;
        ab -= sc * mn * c.q;
        bb += mn * mn * (float)sub;
        xa += sc * c.xq;
        xb -= mn * sum_of(x + s * sub, sub);
    }
    float det = aa * bb - ab * ab, d = det > 0 ? (xa * bb - xb * ab) / det : aa > 0 ? xa / aa : a->d, m = det > 0 ? (aa * xb - ab * xa) / det : a->dmin;
    if (d > 0 && m >= 0) {
        a->d = half_of(d);
        a->dmin = half_of(m);
    }
}

/* Fills codes (256) with q. */
INLINE void affine_block(const float *x, int sub, int hi, int most, affine *out, uint8_t *codes) {
    float d[MOST_SUB], m[MOST_SUB], top_d = 0, top_m = 0;
    for (int s = 0; s < N / sub; s++) {
        fit_affine(x + s * sub, sub, (float)hi, &d[s], &m[s]);
        top_d = d[s] > top_d ? d[s] : top_d;
        top_m = m[s] > top_m ? m[s] : top_m;
    }
    affine a = {.d = half_of(top_d / (float)most), .dmin = half_of(top_m / (float)most)};
    float best = INFINITY;
    for (int round = 0; round < ROUNDS + 1; round++) {
        float e = choose_integers(x, sub, (float)hi, most, d, m, &a);
        if (e < best) *out = a;
        if (!(e < best)) break;
        best = e;
        if (round < ROUNDS) refit_affine(x, sub, (float)hi, &a);
    }
    for (int i = 0; i < N; i++) {
        float step = out->d * (float)out->scale[i / sub], inverse = usable(step) ? 1 / step : 0;
        codes[i] = (uint8_t)dsb_round_even(clamp((x[i] + out->dmin * (float)out->min[i / sub]) * inverse, 0, (float)hi));
    }
}


/* Formats without: x ≈ d·q, lo ≤ q ≤ −lo − 1, scales of either sign */

INLINE float fit_signed(const float *x, int n, float lo) {
    int tries = lo > -8 ? 5 : 9;
    float top = 0, best = 0, best_d = 0;
    for (int i = 0; i < n; i++) top = fabsf(x[i]) > fabsf(top) ? x[i] : top;
    for (int k = 0; k < (lo > -8 ? 2 : 1) * tries && usable(top / lo); k++) { /* many codes: either end does */
        /* The extreme value at the very end comes first: it stays where nothing is better by more than rounding. */
        float d = top / ((k < tries ? lo : -lo - 1) * (1 + (lo > -8 ? 0.1f : 0.0078125f) * (float)((k + tries / 2) % tries - tries / 2)));
        for (int fit = 0; fit < 2 && usable(d); fit++) {
            sums s = code_sums(x, n, 0, 1 / d, lo, -lo - 1);
            if (!(s.qq > 0)) break;
            d = s.xq / s.qq;
            if (s.xq * d > best * (1 + 0x1p-20f)) {
                best = s.xq * d;
                best_d = d;
            }
        }
    }
    return best_d;
}

INLINE float choose_signed(const float *x, float lo, int most, const float *d, float D, int *scale) {
    float total = 0;
    for (int s = 0; s < 16; s++) {
        float best = INFINITY, r = D != 0 ? dsb_round_even(clamp(d[s] / D, (float)most, (float)-most - 1)) : 0;
        for (int k = -1; k <= 1; k++) {
            float sc = clamp(r + (float)k, (float)most, (float)-most - 1), e = error_of(x + s * 16, 16, usable(D * sc) ? D * sc : 0, 0, lo, -lo - 1);
            if (e < best) {
                best = e;
                scale[s] = (int)sc;
            }
        }
        total += best;
    }
    return total;
}

/* 16 sub-blocks; scales most .. -most-1. codes (256) are q; returns the f16 scale. */
INLINE float signed_block(const float *x, int lo, int most, int scale[16], int8_t *codes) {
    float d[16], top = 0, best = INFINITY, D, out = 0;
    int trial[16];
    for (int s = 0; s < 16; s++) {
        d[s] = fit_signed(x + s * 16, 16, (float)lo);
        top = fabsf(d[s]) > fabsf(top) ? d[s] : top;
    }
    D = half_of(top / (float)most);
    for (int round = 0; round < ROUNDS + 1; round++) {
        float e = choose_signed(x, (float)lo, most, d, D, trial), num = 0, den = 0;
        if (!(e < best)) break;
        best = e;
        out = D;
        memcpy(scale, trial, sizeof trial);
        for (int s = 0; s < 16; s++) {
            float sc = (float)trial[s];
            if (!usable(D * sc)) continue;
            sums c = code_sums(x + s * 16, 16, 0, 1 / (D * sc), (float)lo, (float)-lo - 1);
            num += sc * c.xq;
            den += sc * sc * c.qq;
        }
        if (den > 0) D = half_of(num / den);
    }
    for (int i = 0; i < N; i++) {
        float step = out * (float)scale[i / 16];
        codes[i] = (int8_t)dsb_round_even(clamp(x[i] * (usable(step) ? 1 / step : 0), (float)lo, (float)-lo - 1));
    }
    return out;
}


/* Packing: planes of codes as base/ggml.c reads them */

/* 2-bit planes: four in a byte, 128 values in 32 bytes. */
static void put_planes(const uint8_t *codes, uint8_t *q) {
    memset(q, 0, 64);
    for (int i = 0; i < N; i++) q[i / 128 * 32 + i % 32] |= (uint8_t)((codes[i] & 3) << i % 128 / 32 * 2);
}

DSB_CLONES void dsb_encode_q2_K(const float *w, uint8_t *block) {
    dsb_block_q2_K *b = (dsb_block_q2_K *)block;
    affine a = {0};
    uint8_t codes[N];
    affine_block(w, 16, 3, 15, &a, codes);
    for (int s = 0; s < 16; s++) b->scales[s] = (uint8_t)(a.scale[s] | a.min[s] << 4);
    put_planes(codes, b->q);
    dsb_put_half(b->d, a.d);
    dsb_put_half(b->dmin, a.dmin);
}

/* Eight 6-bit scales and minima in 12 bytes: the last four's high bits lie above the first four. */
static void put_scales(const affine *a, uint8_t *out) {
    for (int s = 0; s < 4; s++) {
        out[s] = (uint8_t)(a->scale[s] | (a->scale[s + 4] >> 4) << 6);
        out[s + 4] = (uint8_t)(a->min[s] | (a->min[s + 4] >> 4) << 6);
        out[s + 8] = (uint8_t)((a->scale[s + 4] & 15) | (a->min[s + 4] & 15) << 4);
    }
}

static void put_pairs(const uint8_t *codes, uint8_t *q) {
    for (int i = 0; i < 128; i++) q[i] = (uint8_t)((codes[i / 32 * 64 + i % 32] & 15) | (codes[i / 32 * 64 + 32 + i % 32] & 15) << 4);
}

/* What q4_K and q5_K begin with: scale, minimum and the sub-blocks' own lie alike in both; the low nibbles go to q. */
INLINE void begin_affine(const float *w, int hi, dsb_block_q4_K *head, uint8_t *codes, uint8_t *q) {
    affine a = {0};
    affine_block(w, 32, hi, 63, &a, codes);
    dsb_put_half(head->d, a.d);
    dsb_put_half(head->dmin, a.dmin);
    put_scales(&a, head->scales);
    put_pairs(codes, q);
}

DSB_CLONES void dsb_encode_q4_K(const float *w, uint8_t *block) {
    dsb_block_q4_K *b = (dsb_block_q4_K *)block;
    uint8_t codes[N];
    begin_affine(w, 15, b, codes, b->q);
}

DSB_CLONES void dsb_encode_q5_K(const float *w, uint8_t *block) {
    dsb_block_q5_K *b = (dsb_block_q5_K *)block;
    uint8_t codes[N];
    begin_affine(w, 31, (dsb_block_q4_K *)block, codes, b->q);
    memset(b->high, 0, sizeof b->high);
    for (int i = 0; i < N; i++) b->high[i % 32] |= (uint8_t)((codes[i] >> 4) << i / 32);
}

DSB_CLONES void dsb_encode_q3_K(const float *w, uint8_t *block) {
    dsb_block_q3_K *b = (dsb_block_q3_K *)block;
    int scale[16] = {0};
    int8_t codes[N];
    uint8_t low[N];
    float d = signed_block(w, -4, -32, scale, codes);
    memset(b->high, 0, sizeof b->high);
    memset(b->scales, 0, sizeof b->scales);
    for (int i = 0; i < N; i++) {
        int q = codes[i] + 4;
        low[i] = (uint8_t)(q & 3);
        b->high[i % 32] |= (uint8_t)((q >> 2) << i / 32);
    }
    for (int s = 0; s < 16; s++) {
        int v = scale[s] + 32;
        b->scales[s % 8] |= (uint8_t)((v & 15) << s / 8 * 4);
        b->scales[8 + s % 4] |= (uint8_t)((v >> 4) << s / 4 * 2);
    }
    put_planes(low, b->q);
    dsb_put_half(b->d, d);
}

DSB_CLONES void dsb_encode_q6_K(const float *w, uint8_t *block) {
    dsb_block_q6_K *b = (dsb_block_q6_K *)block;
    int scale[16] = {0};
    int8_t codes[N];
    float d = signed_block(w, -32, -128, scale, codes);
    memset(b->low, 0, sizeof b->low);
    memset(b->high, 0, sizeof b->high);
    for (int i = 0; i < N; i++) {
        int q = codes[i] + 32, half = i / 128, in = i % 128;
        b->low[64 * half + in % 64] |= (uint8_t)((q & 15) << in / 64 * 4);
        b->high[32 * half + in % 32] |= (uint8_t)((q >> 4) << in / 32 * 2);
    }
    for (int s = 0; s < 16; s++) b->scales[s] = (int8_t)scale[s];
    dsb_put_half(b->d, d);
}
