/* NEON products in the canonical order of kernels/backend.h: bit-identical to the reference. */
#ifndef DSB_KERNELS_NEON_GEMM_H
#define DSB_KERNELS_NEON_GEMM_H

#include "kernels/layout.h"

void dsb_gemm_float_neon(const dsb_wmat *w, const dsb_act *x, float *y);
void dsb_gemm_int_neon(const dsb_wmat *w, const dsb_act *x, float *y);
void dsb_gemm_block_neon(const dsb_wmat *w, const dsb_act *x, float *y);

#endif
