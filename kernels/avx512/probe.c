/* f32: FMA. int8: vpdpbusd. BF16: vdpbf16ps, where the machine has it (the folder's flags leave it out). */
#include "kernels/probe.h"

#include <immintrin.h>

#include "kernels/portable/chains.h"

#define PB_VECTOR __m512i
#define PB_NOTHING _mm512_setzero_si512()
#define PB_REGISTER "v"
#define FMA(i) PB_STEP("vfmadd231ps %2, %1, %0", i)
#define DOT_BF16(i) PB_STEP("vdpbf16ps %2, %1, %0", i)
#define DOT_INT8(i) PB_STEP("vpdpbusd %2, %1, %0", i)
PB_PROBE(f32, 16, FMA, 16)
PB_PROBE(bf16, 16, DOT_BF16, 32)
PB_PROBE(int8, 16, DOT_INT8, 64)

static bool has_bf16(void) { return __builtin_cpu_supports("avx512bf16"); }

static uint64_t read(const void *p, size_t bytes) {
    const __m512i *x = p;
    __m512i acc[8];
    for (int j = 0; j < 8; j++) acc[j] = _mm512_setzero_si512();
    for (size_t i = 0; i < bytes / sizeof *x; i += 8)
        for (int j = 0; j < 8; j++) acc[j] = _mm512_xor_si512(acc[j], _mm512_load_si512(x + i + j));
    for (int j = 1; j < 8; j++) acc[0] = _mm512_xor_si512(acc[0], acc[j]);
    return (uint64_t)_mm512_reduce_or_epi64(acc[0]);
}

const dsb_probe dsb_probe_avx512 = {.isa = "avx512", .f32 = f32, .bf16 = bf16, .int8 = int8, .has_bf16 = has_bf16, .read = read};
