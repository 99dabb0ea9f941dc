/* Packed weights decoded in registers, 16 outputs a vector: levels of 4-bit codes are one permutation. */
#include <immintrin.h>

#include "kernels/avx512/gemm.h"

typedef __m512 vf;
typedef __m512i vi;
#define VF static inline __attribute__((always_inline)) vf
#define VI static inline __attribute__((always_inline)) vi
static inline __attribute__((always_inline)) __mmask16 some(int n) { return (__mmask16)((1u << n) - 1); }

VF vf_set(float x) { return _mm512_set1_ps(x); }
VF vf_load(const float *p) { return _mm512_loadu_ps(p); }
VF vf_load_some(const float *p, int n) { return _mm512_maskz_loadu_ps(some(n), p); }
VF vf_half(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
VF vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
VF vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
VF vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
VF vf_fms(vf a, vf b, vf c) { return _mm512_fmsub_ps(a, b, c); }
VF vf_int(vi v) { return _mm512_cvtepi32_ps(v); }
VF vf_bits(vi v) { return _mm512_castsi512_ps(v); }
VF vf_look(const float *table, vi v) { return _mm512_permutexvar_ps(v, _mm512_loadu_ps(table)); }
VF vf_nibble8(vi v) { return vf_look((const float[16]){-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}, v); }
VF vf_nibble(vi v) { return vf_look((const float[16]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, v); }
static inline __attribute__((always_inline)) void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
static inline __attribute__((always_inline)) void vf_store_some(float *p, vf v, int n) { _mm512_mask_storeu_ps(p, some(n), v); }
VI vi_u8(const uint8_t *p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)); }
VI vi_word(const uint8_t *p) { return _mm512_loadu_si512(p); }
VI vi_sar(vi v, int n) { return _mm512_srav_epi32(v, _mm512_set1_epi32(n)); }
VI vi_shr(vi v, int n) { return _mm512_srlv_epi32(v, _mm512_set1_epi32(n)); }
VI vi_shl(vi v, int n) { return _mm512_sllv_epi32(v, _mm512_set1_epi32(n)); }
VI vi_ror(vi v, int n) { return _mm512_rorv_epi32(v, _mm512_set1_epi32(n)); }
VI vi_merge(int mask, vi a, vi b) { return _mm512_ternarylogic_epi32(_mm512_set1_epi32(mask), a, b, 0xca); }
VI vi_and(vi v, int mask) { return _mm512_and_si512(v, _mm512_set1_epi32(mask)); }
VI vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
VI vi_sub(vi v, int n) { return _mm512_sub_epi32(v, _mm512_set1_epi32(n)); }
VI vi_max(vi v, int n) { return _mm512_max_epi32(v, _mm512_set1_epi32(n)); }

#define PK_PLAN dsb_plan_block_avx512
enum { PK_PAIR = 2 };
#define PK_ROWS(X) X(12) X(6) X(4) X(2) X(1)
#include "kernels/portable/packed.h"
