/* The vector that portable rows of this instruction set are written in (kernels/portable/vector.h); arm_neon.h stands before it. */
#ifndef DSB_KERNELS_NEON_VECTOR_H
#define DSB_KERNELS_NEON_VECTOR_H

#define PR_VEC float32x4_t
#define PR_WIDTH 4
#define PR_ROWS 12 /* of a tile, two vectors each: 24 sums of 32 registers */
#define PR_ZERO() vdupq_n_f32(0)
#define PR_LOAD(p) vld1q_f32(p)
#define PR_STORE(p, v) vst1q_f32(p, v)
#define PR_FMA(a, v, sum) vfmaq_n_f32(sum, v, a) /* a: one value */

#endif
