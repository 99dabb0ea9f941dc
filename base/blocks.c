#include "base/blocks.h"

#include "base/format.h"

const float dsb_e2m1_value[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

const float dsb_nf4_value[16] = {-1.0f,                -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0,
                                 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,  0.44070982933044434f,  0.5626170039176941f,   0.7229568362236023f,   1.0f};

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
