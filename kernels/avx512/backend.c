#include "kernels/portable/table.h"
#include "kernels/avx512/gemm.h"

static const char *const k_kernel[] = {"avx512/gemm_f32", "avx512/gemm_bf16", "avx512/gemm_f16", "avx512/gemm_i8", "avx512/gemm_i4"};

static dsb_status pack_float(dsb_wmat *out, dsb_wkind kind, const float *w, int64_t rows, int64_t cols, dsb_err *err) {
    dsb_status s = dsb_pack_float(out, kind, w, rows, cols, err);
    out->kernel = k_kernel[kind];
    return s;
}

static dsb_status pack_int(dsb_wmat *out, dsb_wkind kind, const int8_t *codes, const float *scales, int64_t group, int64_t rows, int64_t cols, dsb_err *err) {
    dsb_status s = dsb_pack_int(out, kind, codes, scales, group, rows, cols, err);
    out->kernel = k_kernel[kind];
    return s;
}

static void gemm(const dsb_wmat *w, const dsb_act *x, float *y) {
    if (w->kind >= DSB_W_I8) {
        dsb_gemm_int_avx512(w, x, y);
    } else {
        dsb_gemm_float_avx512(w, x, y);
    }
}

const dsb_backend dsb_backend_avx512 = {.isa = "avx512", .pack_float = pack_float, .pack_int = pack_int, .gemm = gemm, DSB_PORTABLE_ROWS};
