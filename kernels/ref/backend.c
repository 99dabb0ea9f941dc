#include "kernels/portable/table.h"
#include "kernels/ref/gemm.h"

static const char *const k_kernel[] = {"ref/gemm_f32", "ref/gemm_bf16", "ref/gemm_f16", "ref/gemm_i8", "ref/gemm_i4"};

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

const dsb_backend dsb_backend_ref = {.isa = "ref", .pack_float = pack_float, .pack_int = pack_int, .gemm = dsb_gemm_ref, DSB_PORTABLE_ROWS};
