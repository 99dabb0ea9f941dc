/* FP8 with f32 scales: scale = absmax / largest, q = w / scale, of a tensor, a row, or a block of 128 x 128 (DeepSeek-V3's).
 * Vectors: the oracle's fp8.*.channel.*, fp8_block128.*. */
#include <math.h>
#include <string.h>

#include "base/blocks.h"
#include "quantizers/codec.h"

static bool is_e5m2(const dsb_qtensor *q) { return q->format->element == DSB_FP8_E5M2; }
static int64_t block_rows(const dsb_qtensor *q) { return q->asked > 0 ? q->asked : q->asked == DSB_GROUP_TENSOR ? q->rows : 1; }
static int64_t block_cols(const dsb_qtensor *q) { return q->asked > 0 ? q->asked : q->cols; }
static int64_t blocks_of(int64_t n, int64_t block) { return n ? (n + block - 1) / block : 0; }

static void layout(dsb_qtensor *q) {
    q->raw_rows = q->rows;
    q->raw_cols = q->cols;
    q->scale_rows = blocks_of(q->rows, block_rows(q));
    q->scale_cols = blocks_of(q->cols, block_cols(q));
}

/* A scale of 0 gives codes 0; a subnormal one is coarse: values may pass the largest. */
DSB_CLONES static void encode_values(const float *w, int64_t n, float scale, float most, bool e5m2, uint8_t *out) {
    if (!(scale > 0)) {
        memset(out, 0, (size_t)n);
        return;
    }
    for (int64_t i = 0; !e5m2 && i < n; i++) out[i] = dsb_f32_to_e4m3(w[i] / scale);
    for (int64_t i = 0; e5m2 && i < n; i++) {
        float v = w[i] / scale;
        out[i] = dsb_f32_to_e5m2(v > most ? most : v < -most ? -most : v);
    }
}

static void encode(dsb_qtensor *q, const float *w, const float *importance) {
    int64_t br = block_rows(q), bc = block_cols(q);
    bool e5m2 = is_e5m2(q);
    float most = q->format->largest;
#pragma omp parallel for schedule(static) collapse(2) if (q->rows * q->cols > 1 << 16)
    for (int64_t i = 0; i < q->scale_rows; i++)
        for (int64_t j = 0; j < q->scale_cols; j++) {
            int64_t n = (j + 1) * bc < q->cols ? bc : q->cols - j * bc, end = (i + 1) * br < q->rows ? (i + 1) * br : q->rows;
            float top = 0;
            for (int64_t r = i * br; r < end; r++) top = fmaxf(top, dsb_largest(w + r * q->cols + j * bc, n));
            float scale = top / most;
            q->scales[i * q->scale_cols + j] = scale;
            for (int64_t r = i * br; r < end; r++) encode_values(w + r * q->cols + j * bc, n, scale, most, e5m2, q->raw + r * q->cols + j * bc);
        }
}

static void decode(const dsb_qtensor *q, float *dst) {
#pragma omp parallel for schedule(static) if (q->rows * q->cols > 1 << 16)
    for (int64_t r = 0; r < q->rows; r++) {
        dsb_widen_f32(q->format->element, q->raw + r * q->cols, (size_t)q->cols, dst + r * q->cols);
        dsb_scale_block_row(dst + r * q->cols, r, q->cols, q->scales, block_rows(q), block_cols(q));
    }
}

const dsb_codec dsb_codec_fp8 = {layout, encode, decode};
