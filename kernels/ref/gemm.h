/* The reference product, y (n, rows) = x · Wᵀ, in the canonical order of kernels/backend.h. */
#ifndef DSB_KERNELS_REF_GEMM_H
#define DSB_KERNELS_REF_GEMM_H

#include "kernels/portable/products.h"

void dsb_plan_ref(pr_job *j);
void dsb_panel_block_ref(const dsb_wmat *w, const dsb_act *x, int64_t p, float *y); /* of BLOCK: all rows against panel p */

#endif
