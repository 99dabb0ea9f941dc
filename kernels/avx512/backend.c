#include "kernels/avx512/vector.h"

#include "kernels/portable/table.h"
#include "kernels/avx512/gemm.h"

static void plan(pr_job *j) {
    if (j->w->kind >= DSB_W_I8) {
        dsb_plan_int_avx512(j);
    } else if (j->w->kind == DSB_W_BLOCK) {
        dsb_plan_block_avx512(j);
    } else {
        dsb_plan_float_avx512(j);
    }
}

DSB_BACKEND(avx512, plan);
