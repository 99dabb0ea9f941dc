/* Backend rows as plain loops, included by each ISA's folder and vectorised there by the compiler: one order of operations.
 * Sums run in 8 fixed lanes (element i in lane i % 8), then a fixed tree; no fused operation but explicit fmaf. */
#ifndef DSB_KERNELS_PORTABLE_ROWS_H
#define DSB_KERNELS_PORTABLE_ROWS_H

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/layout.h"
#include "kernels/portable/math.h"

enum { PR_PARALLEL = 1 << 16 }; /* below so many elements threads cost more than they give */

static double pr_tree(const double a[8]) { return ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7])); }

static inline float pr_round_code(float v) { return (v + 12582912.0f) - 12582912.0f; } /* half to even, |v| < 2^22 */

/* The largest magnitude. Magnitudes are ordered as their bits are, NaN above Inf, so a NaN is not lost and the loop is integer arithmetic. */
static float pr_row_max(const float *x, int64_t n) {
    uint32_t top = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = dsb_f32_bits(x[i]) & 0x7fffffffu;
        top = u > top ? u : top;
    }
    return dsb_f32_from_bits(top);
}

static inline float pr_clamp_code(float r) { return r > 127.0f ? 127.0f : r < -127.0f ? -127.0f : r; }

static inline void pr_quantize_rows(const float *x, int64_t n, int64_t cols, float most, int8_t *q, float *scale) {
#pragma omp parallel for schedule(static) if (n * cols > PR_PARALLEL)
    for (int64_t i = 0; i < n; i++) {
        const float *row = x + i * cols;
        float top = pr_row_max(row, cols), s = top <= FLT_MAX ? top / most : NAN;
        scale[i] = s;
        /* A subnormal scale is a coarse one: codes may pass the largest. */
        for (int64_t k = 0; k < cols; k++) {
            float r = pr_round_code(row[k] / s);
            q[i * cols + k] = s > 0 ? (int8_t)(int32_t)(r > most ? most : r < -most ? -most : r) : 0;
        }
    }
}

static void pr_quantize_dynamic(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale) { pr_quantize_rows(x, n, cols, 127.0f, q, scale); }
static void pr_quantize_int4(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale) { pr_quantize_rows(x, n, cols, 7.0f, q, scale); }

static int64_t pr_quantize_static(const float *x, int64_t n, int64_t cols, float given, int8_t *q, float *scale) {
    int64_t clipped = 0;
#pragma omp parallel for schedule(static) reduction(+ : clipped) if (n * cols > PR_PARALLEL)
    for (int64_t i = 0; i < n; i++) {
        const float *row = x + i * cols;
        bool finite = pr_row_max(row, cols) <= FLT_MAX;
        int64_t c = 0;
        scale[i] = finite ? given : NAN;
        for (int64_t k = 0; k < cols; k++) {
            float v = finite && given > 0 ? row[k] / given : 0;
            float r = pr_round_code(v > 1e6f ? 1e6f : v < -1e6f ? -1e6f : v);
            c += r > 127.0f || r < -127.0f;
            q[i * cols + k] = (int8_t)(int32_t)pr_clamp_code(r);
        }
        clipped += c;
    }
    return clipped;
}

static void pr_rms_norm(const float *x, int64_t x_stride, const float *weight, double eps, int64_t n, int64_t d, float *y, int64_t y_stride) {
#pragma omp parallel for schedule(static) if (n * d > PR_PARALLEL)
    for (int64_t i = 0; i < n; i++) {
        const float *row = x + i * x_stride;
        double a[8] = {0};
        int64_t k = 0;
        for (; k + 8 <= d; k += 8)
            for (int j = 0; j < 8; j++) a[j] += (double)row[k + j] * (double)row[k + j];
        for (int j = 0; k + j < d; j++) a[j] += (double)row[k + j] * (double)row[k + j];
        float r = (float)(1.0 / sqrt(pr_tree(a) / (double)d + eps));
        for (k = 0; k < d; k++) y[i * y_stride + k] = row[k] * r * weight[k];
    }
}

static void pr_rope(float *x, int64_t n, int64_t heads, int64_t row_stride, int64_t head_stride, int64_t dim, bool half, const int32_t *pos, const float *cos_table, const float *sin_table) {
    int64_t pairs = dim / 2, step = half ? 1 : 2, other = half ? pairs : 1;
#pragma omp parallel for schedule(static) if (n * heads * dim > PR_PARALLEL)
    for (int64_t i = 0; i < n; i++) {
        const float *c = cos_table + pos[i] * pairs, *s = sin_table + pos[i] * pairs;
        for (int64_t h = 0; h < heads; h++) {
            float *v = x + i * row_stride + h * head_stride;
            for (int64_t j = 0; j < pairs; j++) {
                float a = v[step * j], b = v[step * j + other];
                v[step * j] = a * c[j] - b * s[j];
                v[step * j + other] = b * c[j] + a * s[j];
            }
        }
    }
}

static void pr_mla_assemble(const float *kv, const float *k_pe, int64_t kpe_stride, int64_t n, int64_t heads, int64_t nope, int64_t v_dim, int64_t rope, float *k, float *v) {
#pragma omp parallel for schedule(static) if (n * heads * nope > PR_PARALLEL)
    for (int64_t i = 0; i < n; i++)
        for (int64_t h = 0; h < heads; h++) {
            const float *src = kv + (i * heads + h) * (nope + v_dim);
            memcpy(k + (i * heads + h) * (nope + rope), src, (size_t)nope * sizeof *k);
            memcpy(k + (i * heads + h) * (nope + rope) + nope, k_pe + i * kpe_stride, (size_t)rope * sizeof *k);
            memcpy(v + (i * heads + h) * v_dim, src + nope, (size_t)v_dim * sizeof *v);
        }
}

static void pr_silu_mul(const float *gate, const float *up, int64_t n, bool round, float *out) {
#pragma omp parallel for schedule(static) if (n > PR_PARALLEL)
    for (int64_t b = 0; b < n; b += 4096) {
        int64_t end = b + 4096 < n ? b + 4096 : n;
        if (round) {
            for (int64_t i = b; i < end; i++) {
                float s = dsb_bf16_to_f32(dsb_f32_to_bf16(gate[i] / (1.0f + pm_expf(-gate[i]))));
                out[i] = dsb_bf16_to_f32(dsb_f32_to_bf16(s * up[i]));
            }
        } else {
            for (int64_t i = b; i < end; i++) out[i] = gate[i] / (1.0f + pm_expf(-gate[i])) * up[i];
        }
    }
}

static void pr_swiglu_clamped(const float *gate, const float *up, int64_t n, float alpha, float limit, bool round, float *out) {
#pragma omp parallel for schedule(static) if (n > PR_PARALLEL)
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i] > limit ? limit : gate[i], u = up[i] > limit ? limit : up[i] < -limit ? -limit : up[i];
        float y = (u + 1.0f) * (g / (1.0f + pm_expf(-(alpha * g))));
        out[i] = round ? dsb_bf16_to_f32(dsb_f32_to_bf16(y)) : y;
    }
}

static void pr_add_bias(float *y, const float *bias, int64_t n, int64_t d) {
#pragma omp parallel for schedule(static) if (n * d > 1 << 17)
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < d; k++) y[i * d + k] += bias[k];
}

static void pr_clamp(float *x, int64_t n, float limit) {
#pragma omp parallel for schedule(static) if (n > 1 << 17)
    for (int64_t i = 0; i < n; i++) x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}

static void pr_sigmoid_gate(float *y, const float *logit, int64_t n, int64_t d) {
#pragma omp parallel for schedule(static) if (n * d > 1 << 17)
    for (int64_t i = 0; i < n; i++) {
        float g = 1.0f / (1.0f + pm_expf(-logit[i]));
        for (int64_t k = 0; k < d; k++) y[i * d + k] *= g;
    }
}

static void pr_scale_columns(const float *x, int64_t n, int64_t cols, const float *scale, float *y) {
#pragma omp parallel for schedule(static) if (n * cols > PR_PARALLEL)
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < cols; k++) y[i * cols + k] = x[i * cols + k] * scale[k];
}

static void pr_hadamard(const float *x, int64_t n, int64_t cols, int64_t block, float *y) {
    float scale = (float)(1 / sqrt((double)block));
#pragma omp parallel for schedule(static) if (n * cols > PR_PARALLEL)
    for (int64_t i = 0; i < n; i++) {
        float *row = y + i * cols;
        if (x != y) memcpy(row, x + i * cols, (size_t)cols * sizeof *row);
        for (int64_t h = 1; h < block; h *= 2)
            for (int64_t at = 0; at < cols; at += 2 * h)
                for (int64_t k = at; k < at + h; k++) {
                    float a = row[k], b = row[k + h];
                    row[k] = a + b;
                    row[k + h] = a - b;
                }
        for (int64_t k = 0; k < cols; k++) row[k] *= scale;
    }
}

static void pr_round_bf16(float *x, int64_t n) {
#pragma omp parallel for schedule(static) if (n > 1 << 17)
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = dsb_f32_bits(x[i]), nan = (u & 0x7fffffffu) > 0x7f800000u;
        uint32_t r = (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u;
        x[i] = dsb_f32_from_bits(nan ? (u | 0x400000u) & 0xffff0000u : r);
    }
}

static void pr_round_f16(float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = dsb_f16_to_f32(dsb_f32_to_f16(x[i]));
}

static void pr_load_bf16(const uint16_t *src, int64_t n, float *dst) {
    for (int64_t i = 0; i < n; i++) dst[i] = dsb_bf16_to_f32(src[i]);
}

static void pr_store_bf16(const float *src, int64_t n, uint16_t *dst) {
    for (int64_t i = 0; i < n; i++) dst[i] = dsb_f32_to_bf16(src[i]);
}

static void pr_add(float *y, const float *x, int64_t n) {
#pragma omp parallel for schedule(static) if (n > 1 << 17)
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

static void pr_gather(const float *src, const int32_t *idx, int64_t n, int64_t d, float *dst) {
#pragma omp parallel for schedule(static) if (n * d > 1 << 17)
    for (int64_t i = 0; i < n; i++) memcpy(dst + i * d, src + idx[i] * d, (size_t)d * sizeof *dst);
}

static void pr_scatter_add(float *acc, const int32_t *idx, const float *weight, const float *x, int64_t n, int64_t d) {
#pragma omp parallel for schedule(static) if (n * d > 1 << 17)
    for (int64_t i = 0; i < n; i++) {
        float w = weight ? weight[i] : 1.0f, *to = acc + idx[i] * d;
        for (int64_t k = 0; k < d; k++) to[k] = fmaf(w, x[i * d + k], to[k]);
    }
}

static float pr_absmax(const float *x, int64_t n) { return pr_row_max(x, n); }

/* ---- moments ---- */

typedef struct pr_sums {
    double xx[8], yy[8], xy[8], dd[8];
    double md[8];
    float mx[8], my[8];
    int64_t bad;
} pr_sums;

static inline void pr_moment_lane(pr_sums *s, int j, float xf, float yf) {
    bool fin = fabsf(xf) <= FLT_MAX && fabsf(yf) <= FLT_MAX;
    float x = fin ? xf : 0, y = fin ? yf : 0;
    double dx = (double)x, dy = (double)y, d = dx - dy;
    s->bad += !fin;
    s->xx[j] += dx * dx;
    s->yy[j] += dy * dy;
    s->xy[j] += dx * dy;
    s->dd[j] += d * d;
    double ad = fabs(d);
    float ax = fabsf(x), ay = fabsf(y);
    s->md[j] = ad > s->md[j] ? ad : s->md[j];
    s->mx[j] = ax > s->mx[j] ? ax : s->mx[j];
    s->my[j] = ay > s->my[j] ? ay : s->my[j];
}

/* Each block is its own partial; partials are added in order, so threads change nothing. */

static void pr_moment_block(const float *x, const float *y, int64_t n, dsb_moments *out) {
    pr_sums s = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) pr_moment_lane(&s, j, x ? x[i + j] : 0, y[i + j]);
    for (int j = 0; i + j < n; j++) pr_moment_lane(&s, j, x ? x[i + j] : 0, y[i + j]);
    *out = (dsb_moments){.n = n, .nonfinite = s.bad, .first_bad = -1, .xx = pr_tree(s.xx), .yy = pr_tree(s.yy), .xy = pr_tree(s.xy), .dd = pr_tree(s.dd)};
    for (int j = 0; j < 8; j++) {
        if (s.md[j] > out->max_diff) out->max_diff = s.md[j];
        if ((double)s.mx[j] > out->max_x) out->max_x = (double)s.mx[j];
        if ((double)s.my[j] > out->max_y) out->max_y = (double)s.my[j];
    }
    for (i = 0; s.bad && i < n; i++)
        if ((x && !(fabsf(x[i]) <= FLT_MAX)) || !(fabsf(y[i]) <= FLT_MAX)) {
            out->first_bad = i; /* of the block: adding the blocks in order makes it the tensor's */
            break;
        }
}

static void pr_moments(const float *x, const float *y, int64_t n, dsb_moments *out) {
    enum { BATCH = 64 };
    dsb_moments part[BATCH];
    int64_t blocks = dsb_ceil_div(n, DSB_MOMENT_BLOCK);
    *out = (dsb_moments){.first_bad = -1};
    for (int64_t at = 0; at < blocks; at += BATCH) {
        int64_t m = blocks - at < BATCH ? blocks - at : BATCH;
#pragma omp parallel for schedule(static) if (m > 1)
        for (int64_t b = 0; b < m; b++) {
            int64_t first = (at + b) * DSB_MOMENT_BLOCK, len = n - first < DSB_MOMENT_BLOCK ? n - first : DSB_MOMENT_BLOCK;
            pr_moment_block(x ? x + first : NULL, y + first, len, &part[b]);
        }
        for (int64_t b = 0; b < m; b++) dsb_moments_add(out, &part[b]);
    }
}

/* ---- attention ---- */

enum { PR_LANES = 64 }; /* sums that stay in registers while the other index runs; on AVX2 they fill half of them */

static inline int64_t pr_lanes(int64_t n) { return (n + PR_LANES - 1) / PR_LANES * PR_LANES; }

/* y[l] = Σ a[i]·rows[i·stride + l], i ascending from 0: one fused chain each of `lanes` lanes, a constant. */
static inline __attribute__((always_inline)) void pr_chains(const float *a, const float *rows, int64_t stride, int64_t n, int lanes, float *y) {
    float sum[PR_LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        for (int l = 0; l < lanes; l++) sum[l] = fmaf(a[i], rows[i * stride + l], sum[l]);
    memcpy(y, sum, (size_t)lanes * sizeof *sum);
}

/* One query against n keys: scores in lanes over keys (kt: (qk, stride) transposed keys), softmax, weighted sum of values.
 * sink (may be NULL): one more logit, whose share of the softmax goes to no value. s has room for n rounded up to PR_LANES. */
static void pr_attend(const float *q, const float *kt, int64_t stride, const float *v, int64_t v_stride, int64_t n, int64_t qk, int64_t dv, float scale, const float *sink, float *s, float *out) {
    int64_t padded = (n + 7) / 8 * 8;
    for (int64_t j = 0; j < n; j += PR_LANES) pr_chains(q, kt + j, stride, qk, PR_LANES, s + j);
    float top = sink ? *sink : -INFINITY;
    for (int64_t j = 0; j < n; j++) {
        s[j] *= scale;
        top = s[j] > top ? s[j] : top;
    }
    for (int64_t j = 0; j < n; j++) s[j] = pm_expf(s[j] - top);
    for (int64_t j = n; j < padded; j++) s[j] = 0;
    float a[8] = {0};
    for (int64_t j = 0; j < padded; j += 8)
        for (int l = 0; l < 8; l++) a[l] += s[j + l];
    float sum = ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]));
    if (sink) sum += pm_expf(*sink - top);
    int64_t d = 0;
    for (; d + PR_LANES <= dv; d += PR_LANES) pr_chains(s, v + d, v_stride, n, PR_LANES, out + d);
    for (; d + 32 <= dv; d += 32) pr_chains(s, v + d, v_stride, n, 32, out + d);
    for (; d + 8 <= dv; d += 8) pr_chains(s, v + d, v_stride, n, 8, out + d);
    for (; d < dv; d++) pr_chains(s, v + d, v_stride, n, 1, out + d);
    for (d = 0; d < dv; d++) out[d] = out[d] / sum;
}

/* Not a power of two, so that the keys of a block don't share their place in the cache. */
static inline int64_t pr_key_stride(int64_t n_kv) { return pr_lanes(n_kv) + 16; }

/* All queries of one head of one sequence. A window's first keys are left out, so keys are read up to PR_LANES past a row's end. */
static void pr_attend_head(const dsb_attention_shape *a, const dsb_seq *seq, int64_t head, const float *q, const float *k, const float *v, float *out, float *kt, float *scores) {
    int64_t stride = pr_key_stride(seq->n_kv), qk = a->qk_dim, dv = a->v_dim, of = head / (a->heads / a->kv_heads), kr = a->kv_heads * qk, vr = a->kv_heads * dv;
    for (int64_t j = 0; j < seq->n_kv; j++)
        for (int64_t i = 0; i < qk; i++) kt[i * stride + j] = k[(seq->kv0 + j) * kr + of * qk + i];
    for (int64_t i = 0; i < qk; i++)
        for (int64_t j = seq->n_kv; j < stride; j++) kt[i * stride + j] = 0;
    for (int64_t i = 0; i < seq->n_q; i++) {
        int64_t n = seq->n_kv - seq->n_q + i + 1, first = a->window > 0 && n > a->window ? n - a->window : 0, row = seq->q0 + i;
        pr_attend(q + (row * a->heads + head) * qk, kt + first, stride, v + (seq->kv0 + first) * vr + of * dv, vr, n - first, qk, dv, a->scale, a->sinks ? a->sinks + head : NULL, scores,
                  out + (row * a->heads + head) * dv);
    }
}

static void pr_attention(const dsb_attention_shape *a, const dsb_seq *seqs, int64_t n_seq, const float *q, const float *k, const float *v, float *out) {
    int64_t longest = 0;
    for (int64_t i = 0; i < n_seq; i++) longest = seqs[i].n_kv > longest ? seqs[i].n_kv : longest;
    longest = pr_key_stride(longest);
#pragma omp parallel
    {
        float *scratch = aligned_alloc(64, (size_t)(((longest * (a->qk_dim + 1) + PR_LANES) * 4 + 63) / 64 * 64));
        if (!scratch) abort(); /* a few hundred KB beside gigabytes: nothing can go on */
#pragma omp for schedule(dynamic) collapse(2)
        for (int64_t i = 0; i < n_seq; i++)
            for (int64_t h = 0; h < a->heads; h++) pr_attend_head(a, &seqs[i], h, q, k, v, out, scratch, scratch + longest * a->qk_dim + PR_LANES);
        free(scratch);
    }
}

#endif
