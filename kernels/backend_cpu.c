/* Which CPU backend this machine runs, and the kernel table. */
#include <stdlib.h>
#include <string.h>

#include "kernels/layout.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* clang 14's __builtin_cpu_supports doesn't know f16c. */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}
#endif

/* Best first. */
static const struct level {
    const dsb_backend *backend;
    bool (*here)(void);
} k_levels[] = {
#if defined(__x86_64__)
    {&dsb_backend_avx512, has_avx512},
    {&dsb_backend_avx2, has_avx2},
#endif
    {&dsb_backend_ref, NULL},
};

const dsb_backend *dsb_backend_cpu(const char *isa) {
    if (!isa) isa = getenv("DSBENCH_ISA");
    for (size_t i = 0; i < sizeof k_levels / sizeof *k_levels; i++) {
        const struct level *l = &k_levels[i];
        if ((!isa || !*isa || strcmp(isa, l->backend->isa) == 0) && (!l->here || l->here())) return l->backend;
    }
    return NULL;
}

static dsb_kernel_row k_rows[] = {
    {"avx512/gemm_i8", "avx512", "int8 x int8 products, per channel or group, VNNI, 12 x 32 tiles", false},
    {"avx512/gemm_i4", "avx512", "int8 x int4 products, nibbles unpacked in registers, VNNI", false},
    {"avx512/gemm_bf16", "avx512", "BF16 weights widened on the fly, f32 FMA", false},
    {"avx512/gemm_f16", "avx512", "FP16 weights widened on the fly, f32 FMA", false},
    {"avx512/gemm_f32", "avx512", "f32 FMA, 12 x 32 tiles", false},
    {"avx2/gemm_i8", "avx2", "int8 x int8 products, per channel or group, maddubs in exact pairs", false},
    {"avx2/gemm_i4", "avx2", "int8 x int4 products, nibbles unpacked in registers", false},
    {"avx2/gemm_bf16", "avx2", "BF16 weights widened on the fly, f32 FMA", false},
    {"avx2/gemm_f16", "avx2", "FP16 weights widened on the fly, f32 FMA", false},
    {"avx2/gemm_f32", "avx2", "f32 FMA, 6 x 16 tiles", false},
    {"cuda/gemm_i8", "cuda", "int8 x int8 products on tensor cores, per channel or group, 128 x 64 tiles", false},
    {"cuda/gemm_i4", "cuda", "int8 x int4 products on tensor cores, nibbles unpacked in registers", false},
    {"cuda/gemm_bf16", "cuda", "BF16 weights widened on the fly, f32 FMA in the CPU's order", false},
    {"cuda/gemm_f16", "cuda", "FP16 weights widened on the fly, f32 FMA in the CPU's order", false},
    {"cuda/gemm_f32", "cuda", "f32 FMA in the CPU's order, 128 x 128 tiles", false},
    {"ref/gemm_i8", "ref", "plain C", true},
    {"ref/gemm_i4", "ref", "plain C", true},
    {"ref/gemm_bf16", "ref", "plain C", true},
    {"ref/gemm_f16", "ref", "plain C", true},
    {"ref/gemm_f32", "ref", "plain C", true},
};

int dsb_kernel_list(const dsb_kernel_row **rows) {
    int n = (int)(sizeof k_rows / sizeof *k_rows);
    for (int i = 0; i < n; i++) k_rows[i].available = strcmp(k_rows[i].isa, dsb_device()->isa) == 0 || dsb_backend_cpu(k_rows[i].isa) != NULL;
    *rows = k_rows;
    return n;
}
