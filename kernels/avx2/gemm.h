/* AVX2 products in the canonical order of kernels/backend.h: bit-identical to the reference. */
#ifndef DSB_KERNELS_AVX2_GEMM_H
#define DSB_KERNELS_AVX2_GEMM_H

#include "kernels/portable/products.h"

void dsb_plan_float_avx2(pr_job *j);
void dsb_plan_block_avx2(pr_job *j);
void dsb_plan_int_avx2(pr_job *j);

#endif
