/* AMX integer products in the canonical order of kernels/backend.h: bit-identical to the reference. What AMX has no use for is AVX-512's. */
#ifndef DSB_KERNELS_AMX_GEMM_H
#define DSB_KERNELS_AMX_GEMM_H

#include "kernels/layout.h"

void dsb_gemm_int_amx(const dsb_wmat *w, const dsb_act *x, float *y);

#endif
