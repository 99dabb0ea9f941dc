#include "kernels/avx2/vector.h"

#include "kernels/portable/table.h"
#include "kernels/avx2/gemm.h"

static void gemm(const dsb_wmat *w, const dsb_act *x, float *y) {
    if (w->kind >= DSB_W_I8) {
        dsb_gemm_int_avx2(w, x, y);
    } else if (w->kind == DSB_W_BLOCK) {
        dsb_gemm_block_avx2(w, x, y);
    } else {
        dsb_gemm_float_avx2(w, x, y);
    }
}

DSB_BACKEND(avx2, gemm);
