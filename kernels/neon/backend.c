#include <arm_neon.h>

#include "kernels/neon/vector.h"

#include "kernels/portable/table.h"
#include "kernels/neon/gemm.h"

static void gemm(const dsb_wmat *w, const dsb_act *x, float *y) {
    if (w->kind >= DSB_W_I8) {
        dsb_gemm_int_neon(w, x, y);
    } else if (w->kind == DSB_W_BLOCK) {
        dsb_gemm_block_neon(w, x, y);
    } else {
        dsb_gemm_float_neon(w, x, y);
    }
}

DSB_BACKEND(neon, gemm);
