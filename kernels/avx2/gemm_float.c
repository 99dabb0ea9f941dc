/* f32, BF16 and FP16 weights against f32 rows: tiles of 6 rows by 16 outputs, one FMA chain an output (k ascending). */
#include <immintrin.h>

#include "kernels/avx2/gemm.h"

enum { MR = 6 };

/* Sums of m <= MR rows, outputs 0 .. 7 and 8 .. 15. */
typedef struct sums {
    __m256 a[MR], b[MR];
} sums;

/* acc += a·b. Not the intrinsic: gcc 12 moves sums about, and some of them to memory. */
static inline __attribute__((always_inline)) void multiply_add(__m256 *acc, __m256 a, __m256 b) { __asm__("vfmadd231ps %2, %1, %0" : "+x"(*acc) : "x"(a), "x"(b)); }

static inline __attribute__((always_inline)) void add_input(sums *s, const float *x, int64_t stride, int m, __m256 w0, __m256 w1) {
    _Pragma("GCC unroll 8") for (int r = 0; r < m; r++) {
        __m256 v = _mm256_broadcast_ss(x + r * stride);
        multiply_add(&s->a[r], v, w0);
        multiply_add(&s->b[r], v, w1);
    }
}

static inline __attribute__((always_inline)) __m256 even(__m256i v) { return _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000u))); }
static inline __attribute__((always_inline)) __m256 odd(__m256i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)); }

/* Pairs of BF16 are read twice: both halves at once would not fit the registers. */
static inline __attribute__((always_inline)) void add_pairs(sums *s, const __m256i *w, int64_t cols, const float *x, int m) {
    int64_t k = 0;
    for (; k + 2 <= cols; k += 2, w += 2) {
        _mm_prefetch((const char *)w + DSB_AHEAD, _MM_HINT_T0);
        add_input(s, x + k, cols, m, even(_mm256_loadu_si256(w)), even(_mm256_loadu_si256(w + 1)));
        __asm__("" : "+r"(w)); /* the compiler would keep what it has read, and sums in memory */
        add_input(s, x + k + 1, cols, m, odd(_mm256_loadu_si256(w)), odd(_mm256_loadu_si256(w + 1)));
    }
    if (k < cols) add_input(s, x + k, cols, m, even(_mm256_loadu_si256(w)), even(_mm256_loadu_si256(w + 1)));
}

static inline __attribute__((always_inline)) void add_f16(sums *s, const __m128i *w, int64_t cols, const float *x, int m) {
    for (int64_t k = 0; k < cols; k++, w += 2) add_input(s, x + k, cols, m, _mm256_cvtph_ps(_mm_loadu_si128(w)), _mm256_cvtph_ps(_mm_loadu_si128(w + 1)));
}

static inline __attribute__((always_inline)) void add_f32(sums *s, const float *w, int64_t cols, const float *x, int m) {
    for (int64_t k = 0; k < cols; k++, w += DSB_NR) add_input(s, x + k, cols, m, _mm256_loadu_ps(w), _mm256_loadu_ps(w + 8));
}

/* m <= MR rows against panel p. */
static inline __attribute__((always_inline)) void tile(dsb_wkind kind, const dsb_wmat *w, int64_t p, const float *x, int m, float *y) {
    int64_t at = dsb_float_at(kind, w->cols, p, 0, 0) & ~(int64_t)1, width = w->rows - p * DSB_NR;
    sums s;
    _Pragma("GCC unroll 8") for (int r = 0; r < m; r++) s.a[r] = s.b[r] = _mm256_setzero_ps();
    if (kind == DSB_W_F32) add_f32(&s, (const float *)w->data + at, w->cols, x, m);
    if (kind == DSB_W_BF16) add_pairs(&s, (const __m256i *)((const uint16_t *)w->data + at), w->cols, x, m);
    if (kind == DSB_W_F16) add_f16(&s, (const __m128i *)((const uint16_t *)w->data + at), w->cols, x, m);
    _Pragma("GCC unroll 8") for (int r = 0; r < m; r++, y += w->rows) {
        float t[DSB_NR], *to = width >= DSB_NR ? y : t;
        _mm256_storeu_ps(to, s.a[r]);
        _mm256_storeu_ps(to + 8, s.b[r]);
        for (int64_t j = 0; width < DSB_NR && j < width; j++) y[j] = t[j];
    }
}

#define PF_PLAN dsb_plan_float_avx2
#include "kernels/portable/panels.h"
