/* A layer's routed experts on a GPU in one piece: rows sorted by expert, activations quantized once a token, gate and up in one product with SwiGLU
 * behind it, down, then each token's weighted sum over its experts in ascending order. Bits are those of the backend's single rows. */
#ifndef DSB_KERNELS_CUDA_MOE_H
#define DSB_KERNELS_CUDA_MOE_H

#include "kernels/backend.h"

typedef struct cu_moe cu_moe;
/* Experts of d inputs and ff inner values, k a token: int8 codes with a scale an output. NULL where the shape doesn't fit (d and ff multiples of 16) or memory is short. */
cu_moe *cu_moe_open(int64_t n_expert, int64_t k, int64_t d, int64_t ff);
void cu_moe_close(cu_moe *m);
/* Host codes of expert e: gate and up (ff, d), down (d, ff), scales a row. */
void cu_moe_load(cu_moe *m, int64_t e, const int8_t *const codes[3], const float *const scales[3]);
/* y (n, d) = the weighted sum of each token's experts, rounded to BF16; x, y f32 (or BF16 where bf16_io), idx (n, k) ascending experts, weight (n, k): device. */
void cu_moe_forward(cu_moe *m, const void *x, int64_t n, const int32_t *idx, const float *weight, bool bf16_io, void *y);

#endif
