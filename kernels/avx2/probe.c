/* f32: FMA. int8: a product of byte pairs and its sum in 16 bits; no exact product of bytes does with less. */
#include "kernels/probe.h"

#include <immintrin.h>

#include "kernels/portable/chains.h"

#define PB_VECTOR __m256i
#define PB_NOTHING _mm256_setzero_si256()
#define PB_REGISTER "x"
#define FMA(i) PB_STEP("vfmadd231ps %2, %1, %0", i)
#define PAIRS(i) __asm__ volatile("vpmaddubsw %2, %1, %%ymm15\n\tvpaddw %%ymm15, %0, %0" : "+x"(acc##i) : "x"(a), "x"(b) : "xmm15");
PB_PROBE(f32, 12, FMA, 8)
PB_PROBE(int8, 12, PAIRS, 32)

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
