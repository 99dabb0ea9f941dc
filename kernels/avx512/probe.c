/* f32: FMA. int8: vpdpbusd. BF16: vdpbf16ps, where the machine has it. As assembler text: the folder's flags leave BF16 out, gcc 12 copies the sums
 * of the intrinsics around, and no compiler may take equal sums for one. */
#include "kernels/probe.h"

#include <immintrin.h>

/* Enough sums that none waits for itself: up to two a cycle, six cycles each. By name, so that all stay in registers. */
enum { CHAINS = 16 };
#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

static bool has_bf16(void) { return __builtin_cpu_supports("avx512bf16"); }

#define ZERO(i) __m512i acc##i = _mm512_setzero_si512();
#define KEEP(i) __asm__ volatile("" : : "v"(acc##i));
/* name: `turns` turns of acc += a · b, one step a chain, `lanes` products each. */
#define PROBE(name, STEP, lanes)                                          \
    static double name(int64_t turns) {                                   \
        __m512i a = _mm512_setzero_si512(), b = a;                        \
        EACH_CHAIN(ZERO)                                                  \
        for (int64_t t = 0; t < turns; t++) { EACH_CHAIN(STEP) }          \
        EACH_CHAIN(KEEP)                                                  \
        return 2.0 * lanes * CHAINS * (double)turns;                      \
    }
#define DOT(text, i) __asm__ volatile(text " %2, %1, %0" : "+v"(acc##i) : "v"(a), "v"(b));
#define FMA(i) DOT("vfmadd231ps", i)
#define DOT_BF16(i) DOT("vdpbf16ps", i)
#define DOT_INT8(i) DOT("vpdpbusd", i)
PROBE(f32, FMA, 16)
PROBE(bf16, DOT_BF16, 32)
PROBE(int8, DOT_INT8, 64)

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
