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
            float r = pm_round_code(row[k] / s);
            q[i * cols + k] = s > 0 ? (int8_t)(int32_t)(r > most ? most : r < -most ? -most : r) : 0;
        }
    }
}

static void pr_quantize_dynamic(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale) { pr_quantize_rows(x, n, cols, 127.0f, q, scale); }
static void pr_quantize_int4(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale) { pr_quantize_rows(x, n, cols, 7.0f, q, scale); }

static void pr_dequantize(const int8_t *q, const float *scale, int64_t n, int64_t cols, float *y) {
#pragma omp parallel for schedule(static) if (n * cols > PR_PARALLEL)
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < cols; k++) y[i * cols + k] = (float)q[i * cols + k] * scale[i];
}

static int64_t pr_quantize_static(const float *x, int64_t n, int64_t cols, float given, int8_t *q, float *scale) {
    int64_t clipped = 0;
#pragma omp parallel for schedule(static) reduction(+ : clipped) if (n * cols > PR_PARALLEL)
    for (int64_t i = 0; i < n; i++) {
        const float *row = x + i * cols;
        bool finite = pr_row_max(row, cols) <= FLT_MAX, some = finite && given > 0;
        int32_t c = 0; /* as wide as the values, for the vectors' sake; a row is shorter */
        scale[i] = finite ? given : NAN;
        for (int64_t k = 0; k < cols; k++) {
            float v = some ? row[k] / given : 0;
            float r = pm_round_code(v > 1e6f ? 1e6f : v < -1e6f ? -1e6f : v);
            c += (r > 127.0f) | (r < -127.0f);
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
            if (v_dim) memcpy(v + (i * heads + h) * v_dim, src + nope, (size_t)v_dim * sizeof *v);
        }
}

/* x, y: n rows of heads, each of `width` values. A copy of every head's first `some` values, heads first, or from there back. */
static void pr_split_heads(const float *x, int64_t heads, int64_t width, int64_t n, int64_t some, float *copy) {
    for (int64_t h = 0; h < heads; h++)
        for (int64_t i = 0; i < n; i++) memcpy(copy + (h * n + i) * some, x + (i * heads + h) * width, (size_t)some * sizeof *copy);
}
static void pr_join_heads(const float *copy, int64_t heads, int64_t width, int64_t n, int64_t some, float *y) {
    for (int64_t h = 0; h < heads; h++)
        for (int64_t i = 0; i < n; i++) memcpy(y + (i * heads + h) * width, copy + (h * n + i) * some, (size_t)some * sizeof *copy);
}

/* Through an ISA's own products, a list of heads. One row is contiguous as it lies. */
static inline void pr_gemm_heads(void (*gemm_list)(const dsb_product *, int64_t), const dsb_wmat *w, int64_t heads, const float *x, int64_t n, int64_t tail, float *y) {
    int64_t cols = w->cols, rows = w->rows, in = n > 1 ? n * cols : cols + tail, out = n > 1 ? n * rows : rows + tail;
    dsb_product *list = calloc((size_t)heads, sizeof *list + sizeof(dsb_act));
    float *copy = n > 1 ? malloc((size_t)(heads * n * (cols + rows)) * sizeof *copy) : NULL, *to = copy ? copy + heads * n * cols : y;
    if (!list || (n > 1 && !copy)) abort(); /* no larger than its inputs and outputs */
    dsb_act *act = (dsb_act *)(list + heads);
    if (copy) pr_split_heads(x, heads, cols + tail, n, cols, copy);
    for (int64_t h = 0; h < heads; h++) {
        act[h] = (dsb_act){.n = n, .cols = cols, .f32 = (copy ? copy : x) + h * in};
        list[h] = (dsb_product){&w[h], &act[h], to + h * out};
    }
    if (n > 0) gemm_list(list, heads);
    if (copy) pr_join_heads(to, heads, rows + tail, n, rows, y);
    for (int64_t i = 0; tail && i < n * heads; i++) memcpy(y + i * (rows + tail) + rows, x + i * (cols + tail) + cols, (size_t)tail * sizeof *y);
    free(copy);
    free(list);
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
#pragma omp parallel for schedule(static) if (n > 1 << 17)
    for (int64_t i = 0; i < n; i++) x[i] = dsb_f16_to_f32(dsb_f32_to_f16(x[i]));
}

static void pr_load_bf16(const uint16_t *src, int64_t n, float *dst) {
#pragma omp parallel for schedule(static) if (n > 1 << 17)
    for (int64_t i = 0; i < n; i++) dst[i] = dsb_bf16_to_f32(src[i]);
}

static void pr_store_bf16(const float *src, int64_t n, uint16_t *dst) {
#pragma omp parallel for schedule(static) if (n > 1 << 17)
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

/* Lane sums of one block; the arrays lie on the stack so that the compiler keeps them in vectors. */
typedef struct pr_sums {
    double xx[8], yy[8], xy[8], dd[8], md[8];
    float mx[8], my[8];
    int32_t bad[8];
} pr_sums;

/* Eight elements; x NULL: zeros. */
static inline __attribute__((always_inline)) void pr_moment_lanes(pr_sums *s, const float *x, const float *y) {
    for (int j = 0; j < 8; j++) {
        float xf = x ? x[j] : 0, yf = y[j];
        bool fin = (fabsf(xf) <= FLT_MAX) & (fabsf(yf) <= FLT_MAX);
        xf = fin ? xf : 0;
        yf = fin ? yf : 0;
        double dx = (double)xf, dy = (double)yf, d = dx - dy, ad = fabs(d);
        float ax = fabsf(xf), ay = fabsf(yf);
        s->bad[j] += !fin;
        s->xx[j] += dx * dx;
        s->yy[j] += dy * dy;
        s->xy[j] += dx * dy;
        s->dd[j] += d * d;
        s->md[j] = ad > s->md[j] ? ad : s->md[j];
        s->mx[j] = ax > s->mx[j] ? ax : s->mx[j];
        s->my[j] = ay > s->my[j] ? ay : s->my[j];
    }
}

/* Each block is its own partial; partials are added in order, so threads change nothing. */

static void pr_moment_block(const float *x, const float *y, int64_t n, dsb_moments *out) {
    pr_sums s = {0};
    int64_t i = 0, bad = 0;
    if (x)
        for (; i + 8 <= n; i += 8) pr_moment_lanes(&s, x + i, y + i);
    else
        for (; i + 8 <= n; i += 8) pr_moment_lanes(&s, NULL, y + i);
    if (i < n) { /* zeros add nothing */
        float a[8] = {0}, b[8] = {0};
        for (int j = 0; i + j < n; j++) {
            a[j] = x ? x[i + j] : 0;
            b[j] = y[i + j];
        }
        pr_moment_lanes(&s, a, b);
    }
    for (int j = 0; j < 8; j++) bad += s.bad[j];
    *out = (dsb_moments){.n = n, .nonfinite = bad, .first_bad = -1, .xx = pr_tree(s.xx), .yy = pr_tree(s.yy), .xy = pr_tree(s.xy), .dd = pr_tree(s.dd)};
    for (int j = 0; j < 8; j++) {
        if (s.md[j] > out->max_diff) out->max_diff = s.md[j];
        if ((double)s.mx[j] > out->max_x) out->max_x = (double)s.mx[j];
        if ((double)s.my[j] > out->max_y) out->max_y = (double)s.my[j];
    }
    for (i = 0; bad && i < n; i++)
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

#endif
