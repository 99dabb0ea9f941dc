/* NF4 and the block formats with 8-bit scales: MXFP4, MXFP8 (OCP Microscaling Formats v1.0), NVFP4 (two levels of scales).
 * Vectors: the oracle's nf4.*, mxfp4.*, nvfp4.*. */
#include <math.h>

#include "base/blocks.h"
#include "quantizers/codec.h"

/* NF4 as bitsandbytes has it: groups run through the matrix as one row, the first of two codes is the high nibble. */

static int64_t nf4_group(const dsb_qtensor *q) { return q->asked > 0 ? q->asked : q->asked == DSB_GROUP_TENSOR ? q->rows * q->cols : q->cols; }

static void nf4_layout(dsb_qtensor *q) {
    int64_t n = q->rows * q->cols;
    q->raw_rows = 1;
    q->raw_cols = (n + 1) / 2;
    q->scale_rows = n ? (n + nf4_group(q) - 1) / nf4_group(q) : 0;
    q->scale_cols = 1;
}

/* The number of midpoints below x. */
static uint8_t nf4_code(float x) {
    int c = 0;
    for (int i = 0; i < 15; i++) c += x > (dsb_nf4_value[i] + dsb_nf4_value[i + 1]) / 2;
    return (uint8_t)c;
}

DSB_CLONES static void nf4_codes(const float *w, int64_t n, float inverse, float top, uint8_t *codes) {
    if (isinf(inverse)) /* a subnormal absmax */
        for (int64_t i = 0; i < n; i++) codes[i] = nf4_code(w[i] / top);
    else
        for (int64_t i = 0; i < n; i++) codes[i] = nf4_code(w[i] * inverse);
}

static void nf4_encode(dsb_qtensor *q, const float *w, const float *importance) {
    enum { PIECE = 256 };
    int64_t n = q->rows * q->cols, group = nf4_group(q);
#pragma omp parallel for schedule(static) if (n > 1 << 16)
    for (int64_t g = 0; g < q->scale_rows; g++) {
        int64_t end = (g + 1) * group < n ? (g + 1) * group : n;
        q->scales[g] = dsb_largest(w + g * group, end - g * group);
    }
    /* Pieces are even, so that no byte has two writers. */
#pragma omp parallel for schedule(static) if (n > 1 << 16)
    for (int64_t at = 0; at < n; at += PIECE) {
        uint8_t codes[PIECE + 1] = {0};
        int64_t size = at + PIECE < n ? PIECE : n - at;
        for (int64_t i = 0, to; i < size; i = to) {
            int64_t g = (at + i) / group;
            float top = q->scales[g];
            to = (g + 1) * group - at < size ? (g + 1) * group - at : size;
            nf4_codes(w + at + i, to - i, top > 0 ? 1.0f / top : 0, top, codes + i);
        }
        for (int64_t i = 0; i < size; i += 2) q->raw[(at + i) / 2] = (uint8_t)(codes[i] << 4 | codes[i + 1]);
    }
}

static void nf4_decode(const dsb_qtensor *q, float *dst) {
    int64_t group = nf4_group(q);
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t i = 0; i < q->rows * q->cols; i++) dst[i] = dsb_nf4_value[q->raw[i / 2] >> (i % 2 ? 0 : 4) & 15] * q->scales[i / group];
}

const dsb_codec dsb_codec_nf4 = {nf4_layout, nf4_encode, nf4_decode};

/* MX: the scale is the power of two that brings the largest exponent of a block to the element format's own; E8M0. */

enum { MX_BLOCK = 32, NV_BLOCK = 16, E2M1_EXPONENT = 2, E4M3_EXPONENT = 8 };
_Static_assert(MX_BLOCK % 2 == 0 && NV_BLOCK % 2 == 0, "two codes a byte");

static uint8_t e8m0_scale(float top, int element_exponent) {
    int e;
    if (top == 0) return 0;
    frexpf(top, &e); /* top = m·2^e, m in [.5, 1) */
    e = e - 1 - element_exponent;
    return (uint8_t)(e < -127 ? 0 : e > 127 ? 254 : e + 127);
}

static void mxfp4_layout(dsb_qtensor *q) {
    q->raw_rows = q->scale_rows = q->rows;
    q->raw_cols = q->cols / 2;
    q->scale_cols = q->cols / MX_BLOCK;
}

/* Products with an MX scale's inverse, a power of two, are exact but where they would be subnormal: far below half a step. */
DSB_CLONES static void e2m1_block(const float *w, int n, float inverse, uint8_t *packed) {
    uint8_t codes[MX_BLOCK];
    for (int i = 0; i < n; i++) codes[i] = dsb_f32_to_e2m1(w[i] * inverse);
    for (int i = 0; i < n; i += 2) packed[i / 2] = (uint8_t)(codes[i] | codes[i + 1] << 4);
}

static void mxfp4_encode(dsb_qtensor *q, const float *w, const float *importance) {
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t b = 0; b < q->scale_rows * q->scale_cols; b++) {
        const float *x = w + b * MX_BLOCK;
        q->scale_codes[b] = e8m0_scale(dsb_largest(x, MX_BLOCK), E2M1_EXPONENT);
        e2m1_block(x, MX_BLOCK, ldexpf(1, 127 - q->scale_codes[b]), q->raw + b * MX_BLOCK / 2);
    }
}

static void mxfp4_decode(const dsb_qtensor *q, float *dst) {
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++) dsb_decode_mxfp4(q->raw + r * q->raw_cols, q->scale_codes + r * q->scale_cols, (size_t)q->cols, dst + r * q->cols);
}

const dsb_codec dsb_codec_mxfp4 = {mxfp4_layout, mxfp4_encode, mxfp4_decode};

static void mxfp8_layout(dsb_qtensor *q) {
    mxfp4_layout(q);
    q->raw_cols = q->cols;
}

DSB_CLONES static void mxfp8_block(const float *w, float inverse, uint8_t *codes) {
    for (int i = 0; i < MX_BLOCK; i++) codes[i] = dsb_f32_to_e4m3(w[i] * inverse);
}

static void mxfp8_encode(dsb_qtensor *q, const float *w, const float *importance) {
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t b = 0; b < q->scale_rows * q->scale_cols; b++) {
        const float *x = w + b * MX_BLOCK;
        q->scale_codes[b] = e8m0_scale(dsb_largest(x, MX_BLOCK), E4M3_EXPONENT);
        mxfp8_block(x, ldexpf(1, 127 - q->scale_codes[b]), q->raw + b * MX_BLOCK);
    }
}

static void mxfp8_decode(const dsb_qtensor *q, float *dst) {
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++) {
        dsb_widen_f32(DSB_FP8_E4M3, q->raw + r * q->cols, (size_t)q->cols, dst + r * q->cols);
        for (int64_t c = 0; c < q->cols; c++) dst[r * q->cols + c] *= dsb_e8m0_to_f32(q->scale_codes[r * q->scale_cols + c / MX_BLOCK]);
    }
}

const dsb_codec dsb_codec_mxfp8 = {mxfp8_layout, mxfp8_encode, mxfp8_decode};

/* NVFP4: global = absmax / (448 · 6), a block's scale is E4M3 of its absmax / 6 / global, at least 2^-6; codes multiply by the reciprocals. */

static void nvfp4_layout(dsb_qtensor *q) {
    mxfp4_layout(q);
    q->scale_cols = q->cols / NV_BLOCK;
}

static void nvfp4_encode(dsb_qtensor *q, const float *w, const float *importance) {
    float top = 0;
#pragma omp parallel for schedule(static) reduction(max : top) if (q->rows * q->cols > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++) top = fmaxf(top, dsb_largest(w + r * q->cols, q->cols));
    q->global = top / (448.0f * 6.0f);
    float inverse = q->global > 0 && isfinite(1.0f / q->global) ? 1.0f / q->global : 0; /* all but nothing: codes 0 */
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t b = 0; b < q->scale_rows * q->scale_cols; b++) {
        const float *x = w + b * NV_BLOCK;
        float s = inverse > 0 ? dsb_largest(x, NV_BLOCK) / 6.0f / q->global : 0;
        q->scale_codes[b] = dsb_f32_to_e4m3(s < 0x1p-6f ? 0x1p-6f : s);
        e2m1_block(x, NV_BLOCK, inverse / dsb_e4m3_to_f32(q->scale_codes[b]), q->raw + b * NV_BLOCK / 2);
    }
}

static void nvfp4_decode(const dsb_qtensor *q, float *dst) {
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++) dsb_decode_nvfp4(q->raw + r * q->raw_cols, q->scale_codes + r * q->scale_cols, q->global, (size_t)q->cols, dst + r * q->cols);
}

const dsb_codec dsb_codec_nvfp4 = {nvfp4_layout, nvfp4_encode, nvfp4_decode};
