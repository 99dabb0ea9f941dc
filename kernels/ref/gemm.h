/* The reference product, y (n, rows) = x · Wᵀ, in the canonical order of kernels/backend.h. */
#ifndef DSB_KERNELS_REF_GEMM_H
#define DSB_KERNELS_REF_GEMM_H

#include "kernels/layout.h"

void dsb_gemm_ref(const dsb_wmat *w, const dsb_act *x, float *y);
void dsb_gemm_block_ref(const dsb_wmat *w, const dsb_act *x, float *y); /* of BLOCK */

#endif
