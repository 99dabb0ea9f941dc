#include "quantizers/quantize.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"
#include "base/memory.h"

/* One group of n weights, symmetric: q = round(w/scale). A scale of 0 gives codes 0. */
static void encode_symmetric(const float *w, int64_t n, int qmax, float scale, int8_t *codes) {
    float top = (float)qmax;
    if (!(scale > 0)) {
        memset(codes, 0, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float v = w[i] / scale;
        v = v > top ? top : v < -top ? -top : v;
        codes[i] = (int8_t)(int32_t)((v + 12582912.0f) - 12582912.0f); /* half to even */
    }
}

static float absmax(const float *w, int64_t n) {
    float a = 0;
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

static void encode_all(dsb_qtensor *q, const float *w, bool one_scale) {
    double bits = q->format->bits;
    int half = 1 << ((int)bits - 1);
    float scale = 0, lo = 0, hi = 0;
    int32_t zero = 0;
    if (one_scale && !q->affine) scale = absmax(w, q->rows * q->cols) / (float)q->format->qmax;
    if (one_scale && q->affine) {
        min_max(w, q->rows * q->cols, &lo, &hi);
        affine_scale(lo, hi, bits, &scale, &zero);
    }
#pragma omp parallel for schedule(static) firstprivate(scale, lo, hi, zero) if (q->rows * q->cols > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++)
        for (int64_t g = 0; g < q->n_group; g++) {
            int64_t at = r * q->cols + g * q->group, n = (g + 1) * q->group < q->cols ? q->group : q->cols - g * q->group;
            if (q->affine) {
                if (!one_scale) {
                    min_max(w + at, n, &lo, &hi);
                    affine_scale(lo, hi, bits, &scale, &zero);
                }
                encode_affine(w + at, n, bits, scale, zero, q->codes + at);
                q->zeros[r * q->n_group + g] = zero - half;
            } else {
                if (!one_scale) scale = absmax(w + at, n) / (float)q->format->qmax;
                encode_symmetric(w + at, n, q->format->qmax, scale, q->codes + at);
            }
            q->scales[r * q->n_group + g] = scale;
        }
}

/* Codes at their bits, packed a row; scales in f32, as the kernels read them; zero points at the codes' bits. */
static size_t stored(const dsb_qtensor *q, int64_t group_asked) {
    double n_scale = (double)(group_asked == DSB_GROUP_TENSOR ? 1 : q->rows * q->n_group);
    double bits = (double)(q->rows * q->cols) * q->format->bits + n_scale * 32 + (q->affine ? n_scale * q->format->bits : 0);
    return (size_t)((bits + 7) / 8);
}

static dsb_status check_weights(const dsb_qtensor *q, const float *w, dsb_err *err) {
    int64_t cols = q->cols, n = q->rows * cols, bad = n;
#pragma omp parallel for schedule(static) reduction(min : bad) if (n > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++) {
        uint32_t top = 0;
        for (int64_t c = 0; c < cols; c++) {
            uint32_t u = dsb_f32_bits(w[r * cols + c]) & 0x7fffffffu;
            top = u > top ? u : top;
        }
        for (int64_t c = 0; top >= 0x7f800000u && c < cols && r * cols < bad; c++)
            if (!isfinite(w[r * cols + c])) bad = r * cols + c;
    }
    if (bad == n) return DSB_OK;
    return dsb_fail(err, DSB_ENONFINITE, "element (%lld, %lld) of (%lld, %lld) is %s; finite weights are wanted", (long long)(bad / cols), (long long)(bad % cols), (long long)q->rows, (long long)cols, isnan(w[bad]) ? "NaN" : "infinite");
}

static dsb_status encode_raw(dsb_qtensor *q, const float *w, dsb_err *err) {
    const dsb_format *f = q->format;
    if (!dsb_format_divides(f, q->cols)) return dsb_fail(err, DSB_EINPUT, "rows of %lld weights don't split into %s's blocks of %lld; a fallback format is wanted", (long long)q->cols, f->name, (long long)f->block);
    f->codec->layout(q);
    int64_t n_scale = q->scale_rows * q->scale_cols;
    dsb_status s = DSB_NEW(q->raw, q->raw_rows * q->raw_cols, "codes", err);
    if (!s && n_scale && f->scale_bits == 8) s = DSB_NEW(q->scale_codes, n_scale, "scales", err);
    if (!s && n_scale && f->scale_bits == 32) s = DSB_NEW(q->scales, n_scale, "scales", err);
    if (!s) {
        f->codec->encode(q, w);
        q->stored_bytes += (size_t)(q->raw_rows * q->raw_cols + n_scale * f->scale_bits / 8);
    }
    return s;
}

dsb_status dsb_quantize_rtn(dsb_qtensor *out, const dsb_format *format, int64_t group, bool affine, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    *out = (dsb_qtensor){.format = format, .rows = rows, .cols = cols, .affine = affine, .asked = group};
    DSB_TRY(check_weights(out, w, err));
    out->group = group > 0 && group < cols ? group : cols;
    out->n_group = cols ? (cols + out->group - 1) / out->group : 0;
    if (format->is_float) {
        out->stored_bytes = (size_t)(rows * cols) * (size_t)format->bits / 8;
        return DSB_OK;
    }
    dsb_status s;
    if (format->codec) {
        s = encode_raw(out, w, err);
    } else {
        s = DSB_NEW(out->codes, rows * cols, "codes", err);
        if (!s) s = DSB_NEW(out->scales, rows * out->n_group, "scales", err);
        if (!s && affine) s = DSB_NEW(out->zeros, rows * out->n_group, "zero points", err);
        if (!s) {
            encode_all(out, w, group == DSB_GROUP_TENSOR);
            out->stored_bytes = stored(out, group);
        }
    }
    if (s) dsb_qtensor_release(out);
    return s;
}

void dsb_dequantize(const dsb_qtensor *q, const float *w, float *dst) {
    if (q->format->is_float) {
        bool half = strcmp(q->format->name, "f16") == 0, brain = strcmp(q->format->name, "bf16") == 0;
        for (int64_t i = 0; i < q->rows * q->cols; i++) dst[i] = half ? dsb_f16_to_f32(dsb_f32_to_f16(w[i])) : brain ? dsb_bf16_to_f32(dsb_f32_to_bf16(w[i])) : w[i];
        return;
    }
    if (q->format->codec) {
        q->format->codec->decode(q, dst);
        return;
    }
    for (int64_t r = 0; r < q->rows; r++)
        for (int64_t c = 0; c < q->cols; c++) {
            int64_t g = r * q->n_group + c / q->group;
            int32_t code = q->codes[r * q->cols + c] - (q->affine ? q->zeros[g] : 0);
            dst[r * q->cols + c] = (float)code * q->scales[g];
        }
}

void dsb_qtensor_release(dsb_qtensor *q) {
    free(q->codes);
    free(q->scales);
    free(q->zeros);
    free(q->raw);
    free(q->scale_codes);
    q->codes = NULL;
    q->scales = NULL;
    q->zeros = NULL;
    q->raw = q->scale_codes = NULL;
}
