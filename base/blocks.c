#include "base/blocks.h"

#include "base/format.h"

const float dsb_e2m1_value[16] = DSB_E2M1_VALUES;
const float dsb_nf4_value[16] = DSB_NF4_VALUES;

void dsb_decode_mxfp4(const uint8_t *packed, const uint8_t *scales, size_t n, float *dst) {
    for (size_t i = 0; i < n; i += 2) {
        float scale = dsb_e8m0_to_f32(scales[i / 32]);
        dst[i] = dsb_e2m1_value[packed[i / 2] & 15] * scale;
        dst[i + 1] = dsb_e2m1_value[packed[i / 2] >> 4] * scale;
    }
}

void dsb_decode_nvfp4(const uint8_t *packed, const uint8_t *scales, float global, size_t n, float *dst) {
    for (size_t i = 0; i < n; i += 2) {
        float scale = dsb_e4m3_to_f32(scales[i / 16]);
        dst[i] = dsb_e2m1_value[packed[i / 2] & 15] * scale * global;
        dst[i + 1] = dsb_e2m1_value[packed[i / 2] >> 4] * scale * global;
    }
}

void dsb_scale_block_row(float *w, int64_t row, int64_t cols, const float *scale_inv, int64_t block_rows, int64_t block_cols) {
    const float *scales = scale_inv + row / block_rows * ((cols + block_cols - 1) / block_cols);
    for (int64_t c = 0; c < cols; c++) w[c] *= scales[c / block_cols];
}
