/* A backend table of the portable rows with an ISA's own products: DSB_BACKEND(isa, what plans them), DSB_BACKEND_PARTS where some are another's. */
#ifndef DSB_KERNELS_PORTABLE_TABLE_H
#define DSB_KERNELS_PORTABLE_TABLE_H

#include "kernels/portable/attention.h"
#include "kernels/portable/calibrate.h"
#include "kernels/portable/logits.h"
#include "kernels/portable/products.h"
#include "kernels/portable/route.h"
#include "kernels/portable/rows.h"

#define DSB_PORTABLE_ROWS                                                                                                      \
    .name = "cpu", .alloc = dsb_cpu_alloc, .release = dsb_cpu_release, .upload = dsb_cpu_copy, .download = dsb_cpu_copy,       \
    .copy = dsb_cpu_copy, .zero = dsb_cpu_zero, .sync = dsb_cpu_sync, .check = dsb_cpu_check, .unpack = dsb_unpack,                                    \
    .quantize_dynamic = pr_quantize_dynamic, .quantize_static = pr_quantize_static, .quantize_int4 = pr_quantize_int4, .dequantize = pr_dequantize, .round_e4m3 = pr_round_e4m3, .histogram = pr_histogram, .channel_sums = pr_channel_sums, .gram = pr_gram, .scale_columns = pr_scale_columns, .hadamard = pr_hadamard, .rms_norm = pr_rms_norm, .rope = pr_rope,  \
    .mla_assemble = pr_mla_assemble, .attention = pr_attention, .silu_mul = pr_silu_mul, .round_bf16 = pr_round_bf16,          \
    .swiglu_clamped = pr_swiglu_clamped, .add_bias = pr_add_bias, .clamp = pr_clamp, .sigmoid_gate = pr_sigmoid_gate,          \
    .round_f16 = pr_round_f16, .load_bf16 = pr_load_bf16, .store_bf16 = pr_store_bf16, .add = pr_add, .gather = pr_gather,     \
    .scatter_add = pr_scatter_add, .route = pr_route, .moments = pr_moments, .absmax = pr_absmax, .logit_rows = pr_logit_rows

#define DSB_PACKED_KERNEL(isa, t) #isa "/gemm_" #t,

/* FLOATS, BLOCKS: the instruction sets whose products of floats and of packed weights it uses. */
#define DSB_BACKEND(ISA, PLAN) DSB_BACKEND_PARTS(ISA, ISA, ISA, PLAN)
#define DSB_BACKEND_PARTS(ISA, FLOATS, BLOCKS, PLAN)                                                                                                               \
    static const char *const k_kernel[] = {#FLOATS "/gemm_f32", #FLOATS "/gemm_bf16", #FLOATS "/gemm_f16", "", #ISA "/gemm_i8", #ISA "/gemm_i4"}; /* by dsb_wkind */ \
    static const char *const k_block_kernel[] = {DSB_PACKED_TYPES(DSB_PACKED_KERNEL, BLOCKS)};                                                                     \
    static dsb_status pack_float(dsb_wmat *out, dsb_wkind kind, const float *w, int64_t rows, int64_t cols, dsb_err *err) {                                        \
        dsb_status s = dsb_pack_float(out, kind, w, rows, cols, err);                                                                                              \
        out->kernel = k_kernel[kind];                                                                                                                              \
        return s;                                                                                                                                                  \
    }                                                                                                                                                              \
    static dsb_status pack_int(dsb_wmat *out, dsb_wkind kind, const int8_t *codes, const float *scales, int64_t group, int64_t rows, int64_t cols, dsb_err *err) { \
        dsb_status s = dsb_pack_int(out, kind, codes, scales, group, rows, cols, err);                                                                             \
        out->kernel = k_kernel[kind];                                                                                                                              \
        return s;                                                                                                                                                  \
    }                                                                                                                                                              \
    static dsb_status pack_blocks(dsb_wmat *out, const dsb_packed *how, const uint8_t *blocks, int64_t rows, int64_t cols, dsb_err *err) {                         \
        dsb_status s = dsb_pack_blocks(out, how, blocks, rows, cols, err);                                                                                         \
        out->kernel = k_block_kernel[how->type];                                                                                                                   \
        return s;                                                                                                                                                  \
    }                                                                                                                                                              \
    static void gemm_list(const dsb_product *list, int64_t n) { pr_products(list, n, PLAN); }                                                                  \
    static void gemm(const dsb_wmat *w, const dsb_act *x, float *y) { gemm_list(&(dsb_product){w, x, y}, 1); }                                                 \
    static void gemm_heads(const dsb_wmat *w, int64_t heads, const float *x, int64_t n, int64_t tail, float *y) { pr_gemm_heads(gemm_list, w, heads, x, n, tail, y); } \
    const dsb_backend dsb_backend_##ISA = {.isa = #ISA, .pack_float = pack_float, .pack_int = pack_int, .pack_blocks = pack_blocks, .gemm = gemm, .gemm_list = gemm_list, .gemm_heads = gemm_heads, DSB_PORTABLE_ROWS}

#endif
