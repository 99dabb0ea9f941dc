/* f32: FMA. int8: a product of byte pairs and its sum in 16 bits; no exact product of bytes does with less. */
#include "kernels/probe.h"

#include <immintrin.h>

/* Enough sums that none waits for itself: up to two a cycle, five cycles each. By name, so that all stay in registers;
 * as assembler text, so that no compiler takes equal sums for one. */
enum { CHAINS = 12 };
#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)

#define ZERO(i) __m256i acc##i = _mm256_setzero_si256();
#define KEEP(i) __asm__ volatile("" : : "x"(acc##i));
/* name: `turns` turns of acc += a · b, one step a chain, `lanes` products each. */
#define PROBE(name, STEP, lanes)                                          \
    static double name(int64_t turns) {                                   \
        __m256i a = _mm256_setzero_si256(), b = a;                        \
        EACH_CHAIN(ZERO)                                                  \
        for (int64_t t = 0; t < turns; t++) { EACH_CHAIN(STEP) }          \
        EACH_CHAIN(KEEP)                                                  \
        return 2.0 * lanes * CHAINS * (double)turns;                      \
    }
#define FMA(i) __asm__ volatile("vfmadd231ps %2, %1, %0" : "+x"(acc##i) : "x"(a), "x"(b));
#define PAIRS(i) __asm__ volatile("vpmaddubsw %2, %1, %%ymm15\n\tvpaddw %%ymm15, %0, %0" : "+x"(acc##i) : "x"(a), "x"(b) : "xmm15");
PROBE(f32, FMA, 8)
PROBE(int8, PAIRS, 32)

static uint64_t read(const void *p, size_t bytes) {
    const __m256i *x = p;
    __m256i acc[8];
    for (int j = 0; j < 8; j++) acc[j] = _mm256_setzero_si256();
    for (size_t i = 0; i < bytes / sizeof *x; i += 8)
        for (int j = 0; j < 8; j++) acc[j] = _mm256_xor_si256(acc[j], _mm256_load_si256(x + i + j));
    for (int j = 1; j < 8; j++) acc[0] = _mm256_xor_si256(acc[0], acc[j]);
    __m128i half = _mm_xor_si128(_mm256_castsi256_si128(acc[0]), _mm256_extracti128_si256(acc[0], 1));
    return (uint64_t)(_mm_cvtsi128_si64(half) ^ _mm_extract_epi64(half, 1));
}

const dsb_probe dsb_probe_avx2 = {.isa = "avx2", .f32 = f32, .int8 = int8, .read = read};
