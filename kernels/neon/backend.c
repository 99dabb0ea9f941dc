#include <arm_neon.h>

#include "kernels/neon/vector.h"

#include "kernels/portable/table.h"
#include "kernels/neon/gemm.h"

static void plan(pr_job *j) {
    if (j->w->kind >= DSB_W_I8) {
        dsb_plan_int_neon(j);
    } else if (j->w->kind == DSB_W_BLOCK) {
        dsb_plan_block_neon(j);
    } else {
        dsb_plan_float_neon(j);
    }
}

DSB_BACKEND(neon, plan);
