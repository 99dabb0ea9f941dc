/* AMX integer products in the canonical order of kernels/backend.h: bit-identical to the reference. What AMX has no use for is AVX-512's. */
#ifndef DSB_KERNELS_AMX_GEMM_H
#define DSB_KERNELS_AMX_GEMM_H

#include "kernels/portable/products.h"

void dsb_plan_int_amx(pr_job *j);

#endif
