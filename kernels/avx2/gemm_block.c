/* Packed weights decoded in registers, 16 outputs in two vectors. */
#include <immintrin.h>

#include "kernels/avx2/gemm.h"

typedef struct vf {
    __m256 a, b;
} vf;
typedef struct vi {
    __m256i a, b;
} vi;
#define VF static inline __attribute__((always_inline)) vf
#define VI static inline __attribute__((always_inline)) vi
#define BOTH(type, f, ...) (type){f((v).a, ##__VA_ARGS__), f((v).b, ##__VA_ARGS__)}

VF vf_set(float x) { return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
VF vf_load(const float *p) { return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
VF vf_half(const uint8_t *p) { return (vf){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1))}; }
VF vf_mul(vf a, vf b) { return (vf){_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)}; }
VF vf_sub(vf a, vf b) { return (vf){_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)}; }
VF vf_fma(vf a, vf b, vf c) { return (vf){_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)}; }
VF vf_fms(vf a, vf b, vf c) { return (vf){_mm256_fmsub_ps(a.a, b.a, c.a), _mm256_fmsub_ps(a.b, b.b, c.b)}; }
VF vf_int(vi v) { return BOTH(vf, _mm256_cvtepi32_ps); }
VF vf_bits(vi v) { return BOTH(vf, _mm256_castsi256_ps); }
static inline __attribute__((always_inline)) void vf_store(float *p, vf v) {
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
VI vi_u8(const uint8_t *p) { return (vi){_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)), _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8)))}; }
VI vi_word(const uint8_t *p) { return (vi){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)p + 1)}; }
VI vi_sar(vi v, int n) { return BOTH(vi, _mm256_srav_epi32, _mm256_set1_epi32(n)); }
VI vi_shr(vi v, int n) { return BOTH(vi, _mm256_srlv_epi32, _mm256_set1_epi32(n)); }
VI vi_shl(vi v, int n) { return BOTH(vi, _mm256_sllv_epi32, _mm256_set1_epi32(n)); }
VI vi_and(vi v, int mask) { return BOTH(vi, _mm256_and_si256, _mm256_set1_epi32(mask)); }
VI vi_or(vi a, vi b) { return (vi){_mm256_or_si256(a.a, b.a), _mm256_or_si256(a.b, b.b)}; }
VI vi_ror(vi v, int n) { return vi_or(vi_shr(v, n & 31), vi_shl(v, 32 - (n & 31))); }
VI vi_merge(int mask, vi a, vi b) { return vi_or(vi_and(a, mask), vi_and(b, ~mask)); }
VI vi_sub(vi v, int n) { return BOTH(vi, _mm256_sub_epi32, _mm256_set1_epi32(n)); }
VI vi_max(vi v, int n) { return BOTH(vi, _mm256_max_epi32, _mm256_set1_epi32(n)); }
VF vf_nibble8(vi v) { return vf_int(vi_sub(vi_and(v, 15), 8)); }
VF vf_nibble(vi v) { return vf_int(vi_and(v, 15)); }
#include "kernels/portable/some.h"

/* Bit 3 of an index says which half of the table. */
static inline __attribute__((always_inline)) __m256 look(__m256 low, __m256 high, __m256i v) {
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, v), _mm256_permutevar8x32_ps(high, v), _mm256_castsi256_ps(_mm256_slli_epi32(v, 28)));
}
VF vf_look(const float *table, vi v) {
    __m256 low = _mm256_loadu_ps(table), high = _mm256_loadu_ps(table + 8);
    return (vf){look(low, high, v.a), look(low, high, v.b)};
}

#define PK_PLAN dsb_plan_block_avx2
enum { PK_PAIR = 1 };
#define PK_ROWS(X) X(6) X(2) X(1)
#include "kernels/portable/packed.h"
