/* The grouped product of experts whose weights are nibbles with a scale for 32 or 128 inputs, on Hopper: INT4 (symmetric, or affine with whole zero points)
 * and MXFP4 with BF16 inputs, INT4 with INT8 ones. Weights go from shared memory through registers, where they become BF16 or INT8 exactly, to the
 * tensor cores' 64-row side; a group's sums are scaled and added in f32. INT8 inputs: in the order of the single rows, so to their bits. */
#ifndef DSB_KERNELS_CUDA_NIBBLES_CUH
#define DSB_KERNELS_CUDA_NIBBLES_CUH

#include "kernels/cuda/grouped.cuh"

enum nb_kind { NB_INT4, NB_E2M1, NB_INT4_INT8 };
enum { NB_K = 128, NB_CODES = GP_M * NB_K / 2 };

/* A chunk, 128 rows x 128 inputs: codes as the registers want them, [warpgroup][2][thread] of 4 words; then f32 scales [group][128]; INT4 with BF16
 * inputs: 136 + zero point as BF16, [group][128]. Words hold 8 nibbles: see nb_widen. */
static inline int nb_chunk(nb_kind kind, int group) { return NB_CODES + NB_K / group * GP_M * (kind == NB_INT4 ? 6 : 4); }

/* Blocks of a matrix's file form, one on the device: base/packed.h's w4a16 or mxfp4, or codes of gemm_int. */
struct nb_source {
    const uint8_t *data;
    const float *scales; /* codes: [group][padded rows] */
    int64_t stride, block, padded_rows; /* bytes of a row, of a block */
};
/* gate and up alternate by 8 rows; or one matrix (up NULL). Sets *bad where a zero point is not whole or too large. */
void cu_nibbles_pack(nb_kind kind, int group, nb_source gate, nb_source up, int64_t rows, int64_t cols, uint8_t *chunks, int *bad);
/* tokens: the map of permuted rows with boxes of `n` (8, 32, 64, 128) rows. */
void cu_nibbles_product(nb_kind kind, int group, int n, bool gated, const CUtensorMap &tokens, const gp_args &p);

#endif
