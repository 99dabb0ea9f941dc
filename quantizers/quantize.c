#include "quantizers/quantize.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"
#include "base/memory.h"
#include "kernels/backend.h"
#include "quantizers/codec.h"
#include "quantizers/hqq.h"
#include "quantizers/observer.h"

/* One group of n weights, symmetric: q = round(w/scale). A scale of 0 gives codes 0. */
DSB_CLONES static void encode_symmetric(const float *w, int64_t n, int qmax, float scale, int8_t *codes) {
    float top = (float)qmax;
    if (!(scale > 0)) {
        memset(codes, 0, (size_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float v = w[i] / scale;
        v = v > top ? top : v < -top ? -top : v;
        codes[i] = (int8_t)(int32_t)dsb_round_even(v);
    }
}

/* Min-max with zero inside, as torchao: the scale is at least the smallest normal number, q multiplies by its reciprocal. */
INLINE void affine_scale(float lo, float hi, double bits, float *scale, float *zero) {
    float qmax = (float)((1 << (int)bits) - 1);
    if (lo > 0) lo = 0;
    if (hi < 0) hi = 0;
    float s = (hi - lo) / qmax;
    if (isinf(s)) s = hi / qmax - lo / qmax; /* the range itself overflows */
    if (!(s > FLT_MIN)) s = FLT_MIN;
    float z = -rintf(lo / s);
    *scale = s;
    *zero = z < 0 ? 0 : z > qmax ? qmax : z;
}

/* A zero point that is exact however it is shifted: in parts of 2^-16 of a step. */
INLINE float zero_in_parts(float zero) { return fabsf(zero) < 256 ? rintf(zero * 0x1p16f) * 0x1p-16f : zero; }

/* Min-max, 0 inside or not. Steps are no smaller than 2^-20 of the weights, so that the zero point's own last place is a part of one. */
INLINE void real_scale(float lo, float hi, double bits, float *scale, float *zero) {
    float qmax = (float)((1 << (int)bits) - 1), s = (hi - lo) / qmax, least = fmaxf(fmaxf(fabsf(lo), fabsf(hi)) * 0x1p-20f, FLT_MIN);
    if (isinf(s)) s = hi / qmax - lo / qmax;
    if (!(s > least)) s = least;
    *scale = s;
    *zero = zero_in_parts(-lo / s);
}

DSB_CLONES static void encode_affine(const float *w, int64_t n, double bits, float scale, float zero, int8_t *codes) {
    int qmax = (1 << (int)bits) - 1, half = 1 << ((int)bits - 1);
    float inverse = 1.0f / scale;
    for (int64_t i = 0; i < n; i++) {
        float v = w[i] * inverse, q = dsb_round_even(v > 1e6f ? 1e6f : v < -1e6f ? -1e6f : v) + zero;
        codes[i] = (int8_t)(int32_t)((q < 0 ? 0 : q > (float)qmax ? (float)qmax : q) - (float)half);
    }
}

/* The zero point is added before rounding. */
DSB_CLONES static void encode_real(const float *w, int64_t n, double bits, float scale, float zero, int8_t *codes) {
    int qmax = (1 << (int)bits) - 1, half = 1 << ((int)bits - 1);
    float inverse = 1.0f / scale;
    for (int64_t i = 0; i < n; i++) {
        float q = dsb_round_even(w[i] * inverse + zero);
        codes[i] = (int8_t)(int32_t)((q < 0 ? 0 : q > (float)qmax ? (float)qmax : q) - (float)half);
    }
}

/* Integers in the order of their numbers, so that loops over them vectorise; and back. */
static inline int32_t order_of(float x) {
    int32_t u = (int32_t)dsb_f32_bits(x);
    return u ^ (u >> 31 & INT32_MAX);
}
static inline float number_of(int32_t order) { return dsb_f32_from_bits((uint32_t)(order ^ (order >> 31 & INT32_MAX))); }

/* Widens lo .. hi. */
DSB_CLONES static void min_max(const float *w, int64_t n, float *lo, float *hi) {
    int32_t least = order_of(*lo), most = order_of(*hi);
    for (int64_t i = 0; i < n; i++) {
        int32_t v = order_of(w[i]);
        least = v < least ? v : least;
        most = v > most ? v : most;
    }
    *lo = number_of(least);
    *hi = number_of(most);
}

/* The range of a group: its ends, 0 inside unless zero points are real; symmetric: its largest magnitude as hi. */
static void whole_range(const float *w, int64_t n, dsb_zero affine, float *lo, float *hi) {
    if (affine) {
        *lo = *hi = affine == DSB_ZERO_REAL ? w[0] : 0;
        min_max(w, n, lo, hi);
    } else {
        *hi = dsb_largest(w, n);
        *lo = 0;
    }
}

/* heap[0] is the least of n: a new one takes its place. */
static void replace_least(int32_t *heap, int64_t n, int32_t v) {
    int64_t at = 0;
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && heap[child + 1] < heap[child];
        if (heap[child] >= v) break;
        heap[at] = heap[child];
    }
    heap[at] = v;
}

/* The number that k others are not below: of magnitudes, of values (sign 1) or of their negatives (sign -1). heap: room for k + 1. */
static float after_largest(const float *w, int64_t n, int64_t k, int sign, int32_t *heap) {
    for (int64_t i = 0; i <= k; i++) heap[i] = INT32_MIN;
    for (int64_t i = 0; i < n; i++) {
        int32_t v = order_of(sign == 0 ? fabsf(w[i]) : sign > 0 ? w[i] : -w[i]);
        if (v > heap[0]) replace_least(heap, k + 1, v);
    }
    return number_of(heap[0]);
}

/* Leaves out the n/1000 largest on either side. */
static void percentile_range(const float *w, int64_t n, dsb_zero affine, float *lo, float *hi, int32_t *heap) {
    int64_t drop = n / 1000;
    whole_range(w, n, affine, lo, hi);
    if (drop == 0) return;
    float top = after_largest(w, n, drop, affine != DSB_ZERO_NONE, heap), low = affine ? after_largest(w, n, drop, -1, heap) : 0;
    *hi = top > 0 ? top : 0;
    *lo = low > 0 ? -low : 0;
}

/* Scale and zero point of a range. */
INLINE void range_scale(const dsb_qtensor *q, float lo, float hi, float *scale, float *zero) {
    if (q->affine == DSB_ZERO_REAL) real_scale(lo, hi, q->format->bits, scale, zero);
    else if (q->affine) affine_scale(lo, hi, q->format->bits, scale, zero);
    else *scale = hi / (float)q->format->qmax;
}

/* Squared error over n weights: codes in a loop of their own, sums in eight lanes, so that both vectorise; the same on every machine. */
INLINE double range_error(const float *w, int64_t n, float scale, float zero, float low, float high) {
    enum { PIECE = 256 };
    float e[PIECE], inverse = scale > 0 ? 1.0f / scale : 0, a[8];
    double sum = 0;
    int32_t least = (int32_t)dsb_f32_bits(DSB_ROUNDER + low), most = (int32_t)dsb_f32_bits(DSB_ROUNDER + high);
    if (isinf(inverse)) return INFINITY; /* a subnormal scale: the whole range does */
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t size = at + PIECE < n ? PIECE : n - at, i = 0;
        memset(a, 0, sizeof a);
        for (int64_t k = 0; k < size; k++) { /* the clamp compares bits of what is near 1.5 · 2^23, as integers: they rise with it */
            int32_t u = (int32_t)dsb_f32_bits(w[at + k] * inverse + (DSB_ROUNDER + zero));
            u = u > least ? u : least;
            u = u < most ? u : most;
            e[k] = w[at + k] - (dsb_f32_from_bits((uint32_t)u) - DSB_ROUNDER - zero) * scale;
        }
        for (; i + 8 <= size; i += 8)
            for (int j = 0; j < 8; j++) a[j] += e[i + j] * e[i + j];
        for (int j = 0; i + j < size; j++) a[j] += e[i + j] * e[i + j];
        sum += (double)dsb_lanes(a);
    }
    return sum;
}

DSB_CLONES static void mse_range(const dsb_qtensor *q, const float *w, int64_t n, float *lo, float *hi) {
    enum { STEPS = 40 };
    float all_lo, all_hi, scale;
    double best = INFINITY;
    whole_range(w, n, q->affine, &all_lo, &all_hi);
    *lo = all_lo;
    *hi = all_hi;
    for (int k = 0; k < STEPS; k++) {
        float zero = 0;
        float share = 1 - (float)k / 60, low = q->affine ? 0 : (float)-q->format->qmax, high = q->affine ? (float)((1 << (int)q->format->bits) - 1) : (float)q->format->qmax;
        range_scale(q, all_lo * share, all_hi * share, &scale, &zero);
        double e = range_error(w, n, scale, zero, low, high);
        if (e >= best) continue;
        best = e;
        *lo = all_lo * share;
        *hi = all_hi * share;
    }
}

/* The range that the KL calibrator gives all magnitudes of a matrix. */
static double kl_range(const dsb_qtensor *q, const float *w) {
    uint64_t bins[DSB_BINS] = {0};
    int64_t n = q->rows * q->cols;
    dsb_backend_cpu(NULL)->histogram(w, n, bins);
    return dsb_calibrated_range(&(dsb_range_observer){.absmax = dsb_largest(w, n), .n_token = 1, .bins = bins}, DSB_CAL_KL, 100, q->format->qmax);
}

static void group_scale(const dsb_qtensor *q, const dsb_algorithm *how, float most, const float *w, int64_t n, int32_t *scratch, float *scale, float *zero) {
    float lo, hi;
    if (how->range == DSB_RANGE_MSE) mse_range(q, w, n, &lo, &hi);
    else if (how->range == DSB_RANGE_PERCENTILE) percentile_range(w, n, q->affine, &lo, &hi, scratch);
    else whole_range(w, n, q->affine, &lo, &hi);
    range_scale(q, fmaxf(lo, -most), fminf(hi, most), scale, zero);
    if (how->method == DSB_METHOD_HQQ) *zero = zero_in_parts(dsb_hqq_zero(w, n, *scale, *zero, (1 << (int)q->format->bits) - 1));
}

/* zero is not shifted. */
static void encode_group(const dsb_qtensor *q, const float *w, int64_t n, float scale, float zero, int8_t *codes) {
    if (q->affine == DSB_ZERO_REAL) encode_real(w, n, q->format->bits, scale, zero, codes);
    else if (q->affine) encode_affine(w, n, q->format->bits, scale, zero, codes);
    else encode_symmetric(w, n, q->format->qmax, scale, codes);
}

static float half_of(const dsb_qtensor *q) { return (float)(1 << ((int)q->format->bits - 1)); }

static void encode_row(dsb_qtensor *q, const dsb_algorithm *how, float most, const float *w, int64_t r, bool one_scale, float scale, float zero, int32_t *scratch) {
    for (int64_t g = 0; g < q->n_group; g++) {
        int64_t at = r * q->cols + g * q->group, n = (g + 1) * q->group < q->cols ? q->group : q->cols - g * q->group;
        if (!one_scale) group_scale(q, how, most, w + at, n, scratch, &scale, &zero);
        encode_group(q, w + at, n, scale, zero, q->codes + at);
        if (q->affine) q->zeros[r * q->n_group + g] = zero - half_of(q);
        q->scales[r * q->n_group + g] = scale;
    }
}

static dsb_status encode_all(dsb_qtensor *q, const dsb_algorithm *how, const float *w, dsb_err *err) {
    bool one_scale = q->asked == DSB_GROUP_TENSOR, ok = true;
    int64_t room = (one_scale ? q->rows * q->cols : q->group) / 1000 + 1;
    float scale = 0, zero = 0, most = how->range == DSB_RANGE_KL ? (float)kl_range(q, w) : INFINITY;
    int32_t *scratch = NULL;
    if (one_scale) {
        DSB_TRY(DSB_NEW(scratch, room, "weights in order", err));
        group_scale(q, how, most, w, q->rows * q->cols, scratch, &scale, &zero);
        free(scratch);
        room = 1;
    }
#pragma omp parallel private(scratch) if (q->rows * q->cols > 1 << 16)
    {
        scratch = malloc((size_t)room * sizeof *scratch);
        if (!scratch) {
#pragma omp atomic write
            ok = false;
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < q->rows; r++)
            if (scratch) encode_row(q, how, most, w, r, one_scale, scale, zero, scratch);
        free(scratch);
    }
    return ok ? DSB_OK : dsb_fail(err, DSB_ENOMEM, "no memory for weights in order");
}

/* Codes at their bits, packed a row; scales in f32, as the kernels read them; zero points at the codes' bits, or in f32 where they are real. */
static size_t stored(const dsb_qtensor *q, int64_t group_asked) {
    double n_scale = (double)(group_asked == DSB_GROUP_TENSOR ? 1 : q->rows * q->n_group);
    double bits = (double)(q->rows * q->cols) * q->format->bits + n_scale * 32 + n_scale * dsb_zero_bits(q->affine, q->format);
    return (size_t)((bits + 7) / 8);
}

DSB_CLONES static bool row_is_finite(const float *w, int64_t n) { return isfinite(dsb_largest(w, n)); }

static dsb_status check_weights(const dsb_qtensor *q, const float *w, dsb_err *err) {
    int64_t cols = q->cols, n = q->rows * cols, bad = n;
#pragma omp parallel for schedule(static) reduction(min : bad) if (n > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++) {
        if (row_is_finite(w + r * cols, cols)) continue;
        for (int64_t c = 0; c < cols && r * cols < bad; c++)
            if (!isfinite(w[r * cols + c])) bad = r * cols + c;
    }
    if (bad == n) return DSB_OK;
    return dsb_fail(err, DSB_ENONFINITE, "element (%lld, %lld) of (%lld, %lld) is %s; finite weights are wanted", (long long)(bad / cols), (long long)(bad % cols), (long long)q->rows, (long long)cols, isnan(w[bad]) ? "NaN" : "infinite");
}

static dsb_status encode_raw(dsb_qtensor *q, const float *w, const float *importance, dsb_err *err) {
    const dsb_format *f = q->format;
    if (!dsb_format_divides(f, q->cols)) return dsb_fail(err, DSB_EINPUT, "rows of %lld weights don't split into %s's blocks of %lld; a fallback format is wanted", (long long)q->cols, f->name, (long long)f->block);
    f->codec->layout(q);
    int64_t n_scale = q->scale_rows * q->scale_cols;
    dsb_status s = DSB_NEW(q->raw, q->raw_rows * q->raw_cols, "codes", err);
    if (!s && n_scale && f->scale_bits == 8) s = DSB_NEW(q->scale_codes, n_scale, "scales", err);
    if (!s && n_scale && f->scale_bits == 32) s = DSB_NEW(q->scales, n_scale, "scales", err);
    if (!s) {
        f->codec->encode(q, w, importance);
        q->stored_bytes = (f->global_scale ? sizeof q->global : 0) + (size_t)(q->raw_rows * q->raw_cols + n_scale * f->scale_bits / 8);
    }
    return s;
}

dsb_status dsb_quantize_rtn(dsb_qtensor *out, const dsb_format *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    return dsb_quantize(out, format, dsb_algorithm_find("rtn"), group, affine, w, rows, cols, err);
}

/* Shape and groups; nothing is allocated. */
static void lay_out(dsb_qtensor *out, const dsb_format *format, int64_t group, dsb_zero affine, int64_t rows, int64_t cols) {
    *out = (dsb_qtensor){.format = format, .rows = rows, .cols = cols, .affine = affine, .asked = group};
    out->group = group > 0 && group < cols ? group : cols;
    out->n_group = cols ? (cols + out->group - 1) / out->group : 0;
}

size_t dsb_integer_bytes(const dsb_format *f, int64_t group, int64_t rows, int64_t cols) {
    dsb_qtensor q;
    lay_out(&q, f, group, DSB_ZERO_NONE, rows, cols);
    return stored(&q, group);
}

static dsb_status alloc_integers(dsb_qtensor *out, dsb_err *err) {
    DSB_TRY(DSB_NEW(out->codes, out->rows * out->cols, "codes", err));
    DSB_TRY(DSB_NEW(out->scales, out->rows * out->n_group, "scales", err));
    if (out->affine) DSB_TRY(DSB_NEW(out->zeros, out->rows * out->n_group, "zero points", err));
    out->stored_bytes = stored(out, out->asked);
    return DSB_OK;
}

dsb_status dsb_qtensor_begin(dsb_qtensor *out, const dsb_format *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    lay_out(out, format, group, affine, rows, cols);
    DSB_TRY(check_weights(out, w, err));
    dsb_status s = alloc_integers(out, err);
    if (s) dsb_qtensor_release(out);
    return s;
}

void dsb_group_scale(const dsb_qtensor *q, const float *w, int64_t n, float *scale, float *zero) {
    *zero = 0;
    group_scale(q, dsb_algorithm_find("rtn"), INFINITY, w, n, NULL, scale, zero);
    if (q->affine) *zero -= half_of(q);
}

void dsb_group_encode(const dsb_qtensor *q, const float *w, int64_t n, float scale, float zero, int8_t *codes) { encode_group(q, w, n, scale, q->affine ? zero + half_of(q) : 0, codes); }

static dsb_status quantize(dsb_qtensor *out, const dsb_format *format, const dsb_algorithm *how, int64_t group, dsb_zero affine, const float *importance, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    lay_out(out, format, group, affine, rows, cols);
    DSB_TRY(check_weights(out, w, err));
    if (format->is_float) {
        out->stored_bytes = (size_t)(rows * cols) * (size_t)format->bits / 8;
        return DSB_OK;
    }
    dsb_status s = format->codec ? encode_raw(out, w, importance, err) : alloc_integers(out, err);
    if (!s && !format->codec) s = encode_all(out, how, w, err);
    if (s) dsb_qtensor_release(out);
    return s;
}

dsb_status dsb_quantize(dsb_qtensor *out, const dsb_format *format, const dsb_algorithm *algorithm, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    return quantize(out, format, algorithm, group, affine, NULL, w, rows, cols, err);
}

dsb_status dsb_quantize_important(dsb_qtensor *out, const dsb_format *format, int64_t group, const double *sum_sq, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    double sum = 0;
    float *importance;
    for (int64_t c = 0; c < cols; c++) sum += sum_sq[c];
    if (!(sum > 0) || !isfinite(sum)) return dsb_quantize_rtn(out, format, group, false, w, rows, cols, err);
    DSB_TRY(DSB_NEW(importance, cols, "importance of columns", err));
    for (int64_t c = 0; c < cols; c++) importance[c] = (float)fmax(sum_sq[c] / (sum / (double)cols), 0x1p-10);
    dsb_status s = quantize(out, format, dsb_algorithm_find("rtn"), group, false, importance, w, rows, cols, err);
    free(importance);
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
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++)
        for (int64_t g = 0; g < q->n_group; g++) {
            int64_t at = r * q->cols + g * q->group, n = (g + 1) * q->group < q->cols ? q->group : q->cols - g * q->group;
            float zero = q->affine ? q->zeros[r * q->n_group + g] : 0, scale = q->scales[r * q->n_group + g];
#pragma omp simd
            for (int64_t i = 0; i < n; i++) dst[at + i] = ((float)q->codes[at + i] - zero) * scale;
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
