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

#ifdef DSB_AMX
#include <sys/syscall.h>
#include <unistd.h>

/* Linux gives tiles to a process that asks for them. */
static bool has_amx(void) {
    enum { REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18, TILE_AND_INT8 = 3 << 24 };
    unsigned a, b, c, d;
    return has_avx512() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & TILE_AND_INT8) == TILE_AND_INT8 && syscall(SYS_arch_prctl, REQ_XCOMP_PERM, XTILEDATA) == 0;
}
#endif
#elif defined(__aarch64__)
#include <sys/auxv.h>

/* What -march=armv8.2-a+dotprod may use: dot products and atomic instructions. */
static bool has_neon(void) {
    enum { ATOMICS = 1 << 8, DOTPROD = 1 << 20, WANTED = ATOMICS | DOTPROD };
    return (getauxval(AT_HWCAP) & WANTED) == WANTED;
}
#endif

/* Best first. */
static const struct level {
    const dsb_backend *backend;
    bool (*here)(void);
} k_levels[] = {
#if defined(__x86_64__)
#ifdef DSB_AMX
    {&dsb_backend_amx, has_amx},
#endif
    {&dsb_backend_avx512, has_avx512},
    {&dsb_backend_avx2, has_avx2},
#elif defined(__aarch64__)
    {&dsb_backend_neon, has_neon},
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

#define BLOCK_ROW(isa, t) {#isa "/gemm_" #t, #isa, "weights packed as " #t ", decoded on the fly, f32 FMA", false},
static dsb_kernel_row k_rows[] = {
    {"amx/gemm_i8", "amx", "int8 x int8 products by tiles of 16 x 64 x 16, per channel or group; few rows as avx512", false},
    {"amx/gemm_i4", "amx", "int8 x int4 products, nibbles unpacked once a block of rows", false},
    {"avx512/gemm_i8", "avx512", "int8 x int8 products, per channel or group, VNNI, 12 x 32 tiles", false},
    {"avx512/gemm_i4", "avx512", "int8 x int4 products, nibbles unpacked in registers, VNNI", false},
    {"avx512/gemm_bf16", "avx512", "vdpbf16ps where rows are BF16, else widened on the fly, f32 FMA", false},
    {"avx512/gemm_f16", "avx512", "FP16 weights widened on the fly, f32 FMA", false},
    {"avx512/gemm_f32", "avx512", "f32 FMA, 12 x 32 tiles", false},
    DSB_PACKED_TYPES(BLOCK_ROW, avx512)
    {"avx2/gemm_i8", "avx2", "int8 x int8 products, per channel or group, maddubs in exact pairs", false},
    {"avx2/gemm_i4", "avx2", "int8 x int4 products, nibbles unpacked in registers", false},
    {"avx2/gemm_bf16", "avx2", "BF16 weights widened on the fly, f32 FMA", false},
    {"avx2/gemm_f16", "avx2", "FP16 weights widened on the fly, f32 FMA", false},
    {"avx2/gemm_f32", "avx2", "f32 FMA, 6 x 16 tiles", false},
    DSB_PACKED_TYPES(BLOCK_ROW, avx2)
    {"neon/gemm_i8", "neon", "int8 x int8 products, per channel or group, SDOT, or SMMLA where I8MM is there", false},
    {"neon/gemm_i4", "neon", "int8 x int4 products, nibbles unpacked in registers, SDOT or SMMLA", false},
    {"neon/gemm_bf16", "neon", "BF16 weights widened on the fly, f32 FMA", false},
    {"neon/gemm_f16", "neon", "FP16 weights widened on the fly, f32 FMA", false},
    {"neon/gemm_f32", "neon", "f32 FMA, 6 x 16 tiles", false},
    DSB_PACKED_TYPES(BLOCK_ROW, neon)
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
    DSB_PACKED_TYPES(BLOCK_ROW, ref)
};

int dsb_kernel_list(const dsb_kernel_row **rows) {
    int n = (int)(sizeof k_rows / sizeof *k_rows);
    const dsb_backend *device = dsb_device(); /* none where DSBENCH_ISA is unknown: this list is what the message shows */
    for (int i = 0; i < n; i++) k_rows[i].available = (device && strcmp(k_rows[i].isa, device->isa) == 0) || dsb_backend_cpu(k_rows[i].isa) != NULL;
    *rows = k_rows;
    return n;
}
