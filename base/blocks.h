/* Number formats that share a scale among a block of values, decoded to f32 exactly as their definitions say.
 * E2M1: 0 .5 1 1.5 2 3 4 6 and their negatives. Sources: OCP Microscaling Formats v1.0;
 * DeepSeek-V3's weight_scale_inv. Vectors: the oracle's fp8_block128.*, mxfp4.*, nvfp4.*, nf4.*. */
#ifndef DSB_BASE_BLOCKS_H
#define DSB_BASE_BLOCKS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define DSB_E2M1_VALUES {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6}
extern const float dsb_e2m1_value[16];
/* NF4: quantiles of the normal distribution, ascending from -1 to 1. Source: QLoRA, bitsandbytes' table. */
#define DSB_NF4_VALUES                                                                                                                                                                        \
    {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0, 0.07958029955625534f, 0.16093020141124725f, \
     0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f}
extern const float dsb_nf4_value[16];

/* The nearest E2M1 code, ties to the even one, beyond 6 the largest; the sign of a zero stays. */
static inline uint8_t dsb_f32_to_e2m1(float x) {
    float a = fabsf(x);
    int c = (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) + (a >= 3.5f) + (a > 5);
    return (uint8_t)(c | (signbit(x) ? 8 : 0));
}

/* MXFP4: n values (a multiple of 32): two codes a byte, the even one in the low nibble, (n/2) bytes; scales: E8M0, (n/32). */
void dsb_decode_mxfp4(const uint8_t *packed, const uint8_t *scales, size_t n, float *dst);

/* NVFP4: n values (a multiple of 16) packed alike; scales: E4M3, (n/16); value = (code * scale) * global in f32, in that order. */
void dsb_decode_nvfp4(const uint8_t *packed, const uint8_t *scales, float global, size_t n, float *dst);

/* Row r of a matrix in blocks of block_rows x block_cols with one scale each: w (cols), already widened, is multiplied in place by
 * scale_inv (ceil(rows/block_rows), ceil(cols/block_cols)) f32; blocks at the right and lower edge may be smaller. */
void dsb_scale_block_row(float *w, int64_t row, int64_t cols, const float *scale_inv, int64_t block_rows, int64_t block_cols);

#endif
