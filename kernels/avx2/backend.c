#include "kernels/avx2/vector.h"

#include "kernels/portable/table.h"
#include "kernels/avx2/gemm.h"

static void plan(pr_job *j) {
    if (j->w->kind >= DSB_W_I8) {
        dsb_plan_int_avx2(j);
    } else if (j->w->kind == DSB_W_BLOCK) {
        dsb_plan_block_avx2(j);
    } else {
        dsb_plan_float_avx2(j);
    }
}

DSB_BACKEND(avx2, plan);
