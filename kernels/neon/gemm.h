/* NEON products in the canonical order of kernels/backend.h: bit-identical to the reference. */
#ifndef DSB_KERNELS_NEON_GEMM_H
#define DSB_KERNELS_NEON_GEMM_H

#include "kernels/portable/products.h"

void dsb_plan_float_neon(pr_job *j);
void dsb_plan_int_neon(pr_job *j);
void dsb_plan_block_neon(pr_job *j);

#endif
