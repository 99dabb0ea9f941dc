/* Number formats that share a scale among a block of values, decoded to f32 exactly as their definitions say.
 * E2M1: 0 .5 1 1.5 2 3 4 6 and their negatives; E8M0: 2^(code - 127), 255 is NaN. Sources: OCP Microscaling Formats v1.0;
 * DeepSeek-V3's weight_scale_inv. Vectors: the oracle's fp8_block128.*, mxfp4.*, nvfp4.*. */
#ifndef DSB_BASE_BLOCKS_H
#define DSB_BASE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

extern const float dsb_e2m1_value[16];
float dsb_e8m0_to_f32(uint8_t code);

/* MXFP4: n values (a multiple of 32): two codes a byte, the even one in the low nibble, (n/2) bytes; scales: E8M0, (n/32). */
void dsb_decode_mxfp4(const uint8_t *packed, const uint8_t *scales, size_t n, float *dst);

/* NVFP4: n values (a multiple of 16) packed alike; scales: E4M3, (n/16); value = (code * scale) * global in f32, in that order. */
void dsb_decode_nvfp4(const uint8_t *packed, const uint8_t *scales, float global, size_t n, float *dst);

/* Row r of a matrix in blocks of block_rows x block_cols with one scale each: w (cols), already widened, is multiplied in place by
 * scale_inv (ceil(rows/block_rows), ceil(cols/block_cols)) f32; blocks at the right and lower edge may be smaller. */
void dsb_scale_block_row(float *w, int64_t row, int64_t cols, const float *scale_inv, int64_t block_rows, int64_t block_cols);

#endif
