#include "kernels/avx512/vector.h"

#include "kernels/portable/table.h"
#include "kernels/amx/gemm.h"
#include "kernels/avx512/gemm.h"

static void gemm(const dsb_wmat *w, const dsb_act *x, float *y) {
    if (w->kind >= DSB_W_I8) {
        dsb_gemm_int_amx(w, x, y);
    } else if (w->kind == DSB_W_BLOCK) {
        dsb_gemm_block_avx512(w, x, y);
    } else {
        dsb_gemm_float_avx512(w, x, y);
    }
}

DSB_BACKEND_PARTS(amx, avx512, avx512, gemm);
