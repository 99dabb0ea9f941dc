#include "quantizers/quantize.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"
#include "base/memory.h"

/* Half to even; exact for |v| < 2^22, and codes are far below. */
static inline float round_even(float v) { return (v + 12582912.0f) - 12582912.0f; }
static inline float clamp(float v, float lo, float hi) { return v < lo ? lo : v > hi ? hi : v; }

/* One group of n weights, symmetric: q = round(w/scale). A scale of 0 gives codes 0. Clamping first changes nothing: the limits are integers. */
static void encode_symmetric(const float *w, int64_t n, int qmax, float scale, int8_t *codes) {
    float top = (float)qmax;
    if (!(scale > 0)) {
        memset(codes, 0, (size_t)n);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) codes[i] = (int8_t)(int32_t)round_even(clamp(w[i] / scale, -top, top));
}

static float absmax(const float *w, int64_t n) {
    float a = 0;
#pragma omp simd reduction(max : a)
    for (int64_t i = 0; i < n; i++) a = fabsf(w[i]) > a ? fabsf(w[i]) : a;
    return a;
}

/* Min-max with zero inside, as torchao: the scale is at least the smallest normal number, q multiplies by its reciprocal. */
static void affine_scale(float lo, float hi, double bits, float *scale, int32_t *zero) {
    float qmax = (float)((1 << (int)bits) - 1);
    if (lo > 0) lo = 0;
    if (hi < 0) hi = 0;
    float s = (hi - lo) / qmax;
    if (isinf(s)) s = hi / qmax - lo / qmax; /* the range itself overflows */
    if (!(s > FLT_MIN)) s = FLT_MIN;
    float z = -rintf(lo / s);
    *scale = s;
    *zero = (int32_t)(z < 0 ? 0 : z > qmax ? qmax : z);
}

static void encode_affine(const float *w, int64_t n, double bits, float scale, int32_t zero, int8_t *codes) {
    int qmax = (1 << (int)bits) - 1, half = 1 << ((int)bits - 1);
    float inverse = 1.0f / scale;
    for (int64_t i = 0; i < n; i++) {
        float q = rintf(w[i] * inverse) + (float)zero;
        int c = q < 0 ? 0 : q > (float)qmax ? qmax : (int)q;
        codes[i] = (int8_t)(c - half);
    }
}

static void min_max(const float *w, int64_t n, float *lo, float *hi) {
    *lo = *hi = 0;
    for (int64_t i = 0; i < n; i++) {
        if (w[i] < *lo) *lo = w[i];
        if (w[i] > *hi) *hi = w[i];
    }
}

static void encode_row(dsb_qtensor *q, const float *w, int64_t r, bool one_scale, float scale, int32_t zero) {
    double bits = q->format->bits;
    float lo, hi;
    for (int64_t g = 0; g < q->n_group; g++) {
        int64_t at = r * q->cols + g * q->group, n = (g + 1) * q->group < q->cols ? q->group : q->cols - g * q->group;
        if (q->affine) {
            if (!one_scale) {
                min_max(w + at, n, &lo, &hi);
                affine_scale(lo, hi, bits, &scale, &zero);
            }
            encode_affine(w + at, n, bits, scale, zero, q->codes + at);
            q->zeros[r * q->n_group + g] = zero - (1 << ((int)bits - 1));
        } else {
            if (!one_scale) scale = absmax(w + at, n) / (float)q->format->qmax;
            encode_symmetric(w + at, n, q->format->qmax, scale, q->codes + at);
        }
        q->scales[r * q->n_group + g] = scale;
    }
}

static void encode_all(dsb_qtensor *q, const float *w, bool one_scale) {
    float scale = 0, lo, hi;
    int32_t zero = 0;
    if (one_scale && !q->affine) scale = absmax(w, q->rows * q->cols) / (float)q->format->qmax;
    if (one_scale && q->affine) {
        min_max(w, q->rows * q->cols, &lo, &hi);
        affine_scale(lo, hi, q->format->bits, &scale, &zero);
    }
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++) encode_row(q, w, r, one_scale, scale, zero);
}

/* Codes at their bits, packed a row; scales in f32, as the kernels read them; zero points at the codes' bits. */
static size_t stored(const dsb_qtensor *q, int64_t group_asked) {
    double n_scale = (double)(group_asked == DSB_GROUP_TENSOR ? 1 : q->rows * q->n_group);
    double bits = (double)(q->rows * q->cols) * q->format->bits + n_scale * 32 + (q->affine ? n_scale * q->format->bits : 0);
    return (size_t)((bits + 7) / 8);
}

/* By their bits: exponents of ones alone are NaN or Inf. */
static bool all_finite(const float *w, int64_t n) {
    uint32_t top = 0;
#pragma omp parallel for simd schedule(static) reduction(max : top) if (parallel : n > 1 << 16)
    for (int64_t i = 0; i < n; i++) {
        uint32_t u = dsb_f32_bits(w[i]) & 0x7fffffffu;
        top = u > top ? u : top;
    }
    return top < 0x7f800000u;
}

dsb_status dsb_quantize_rtn(dsb_qtensor *out, const dsb_format *format, int64_t group, bool affine, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    *out = (dsb_qtensor){.format = format, .rows = rows, .cols = cols, .affine = affine};
    for (int64_t i = all_finite(w, rows * cols) ? rows * cols : 0; i < rows * cols; i++)
        if (!isfinite(w[i]))
            return dsb_fail(err, DSB_ENONFINITE, "element (%lld, %lld) of (%lld, %lld) is %s; finite weights are wanted", (long long)(i / cols), (long long)(i % cols), (long long)rows, (long long)cols, isnan(w[i]) ? "NaN" : "infinite");
    out->group = group > 0 && group < cols ? group : cols;
    out->n_group = cols ? (cols + out->group - 1) / out->group : 0;
    if (format->is_float) {
        out->stored_bytes = (size_t)(rows * cols) * (size_t)format->bits / 8;
        return DSB_OK;
    }
    dsb_status s = DSB_NEW(out->codes, rows * cols, "codes", err);
    if (!s) s = DSB_NEW(out->scales, rows * out->n_group, "scales", err);
    if (!s && affine) s = DSB_NEW(out->zeros, rows * out->n_group, "zero points", err);
    if (s) {
        dsb_qtensor_release(out);
        return s;
    }
    encode_all(out, w, group == DSB_GROUP_TENSOR);
    out->stored_bytes = stored(out, group);
    return DSB_OK;
}

void dsb_dequantize(const dsb_qtensor *q, const float *w, float *dst) {
    if (q->format->is_float) {
        bool half = strcmp(q->format->name, "f16") == 0, brain = strcmp(q->format->name, "bf16") == 0;
        for (int64_t i = 0; i < q->rows * q->cols; i++) dst[i] = half ? dsb_f16_to_f32(dsb_f32_to_f16(w[i])) : brain ? dsb_bf16_to_f32(dsb_f32_to_bf16(w[i])) : w[i];
        return;
    }
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++)
        for (int64_t g = 0; g < q->n_group; g++) {
            int64_t at = r * q->cols + g * q->group, n = (g + 1) * q->group < q->cols ? q->group : q->cols - g * q->group;
            int32_t zero = q->affine ? q->zeros[r * q->n_group + g] : 0;
            float scale = q->scales[r * q->n_group + g];
#pragma omp simd
            for (int64_t i = 0; i < n; i++) dst[at + i] = (float)(q->codes[at + i] - zero) * scale;
        }
}

void dsb_qtensor_release(dsb_qtensor *q) {
    free(q->codes);
    free(q->scales);
    free(q->zeros);
    q->codes = NULL;
    q->scales = NULL;
    q->zeros = NULL;
}
