/* f32, BF16 and FP16 weights against f32 rows: tiles of 6 rows by 16 outputs, one FMA chain an output (k ascending). */
#include <arm_neon.h>

#include "kernels/neon/gemm.h"

enum { MR = 6, NQ = 4 }; /* rows, quads of outputs: 24 sums of 32 registers */

/* acc += input x of m rows, `stride` apart, times 16 outputs' weights. */
static inline __attribute__((always_inline)) void add_input(float32x4_t acc[MR][NQ], const float32x4_t v[NQ], const float *x, int64_t stride, int m) {
    for (int r = 0; r < m; r++)
        for (int q = 0; q < NQ; q++) acc[r][q] = vfmaq_n_f32(acc[r][q], v[q], x[r * stride]);
}

/* Pairs of BF16, the even input in the high half. They are read twice: both halves at once would not fit the registers. */
static inline __attribute__((always_inline)) void add_pairs(float32x4_t acc[MR][NQ], const uint32_t *w, const float *x, int64_t cols, int m) {
    float32x4_t v[NQ];
    for (int64_t k = 0; k < cols; k += 2, w += DSB_NR) {
        for (int q = 0; q < NQ; q++) v[q] = vreinterpretq_f32_u32(vandq_u32(vld1q_u32(w + 4 * q), vdupq_n_u32(0xffff0000u)));
        add_input(acc, v, x + k, cols, m);
        if (k + 1 == cols) break;
        __asm__("" : "+r"(w)); /* the compiler would keep what it has read, and sums in memory */
        for (int q = 0; q < NQ; q++) v[q] = vreinterpretq_f32_u32(vshlq_n_u32(vld1q_u32(w + 4 * q), 16));
        add_input(acc, v, x + k + 1, cols, m);
    }
}

static inline __attribute__((always_inline)) void add_f16(float32x4_t acc[MR][NQ], const uint16_t *w, const float *x, int64_t cols, int m) {
    float32x4_t v[NQ];
    for (int64_t k = 0; k < cols; k++, w += DSB_NR) {
        for (int q = 0; q < NQ; q++) v[q] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(w + 4 * q)));
        add_input(acc, v, x + k, cols, m);
    }
}

static inline __attribute__((always_inline)) void add_f32(float32x4_t acc[MR][NQ], const float *w, const float *x, int64_t cols, int m) {
    float32x4_t v[NQ];
    for (int64_t k = 0; k < cols; k++, w += DSB_NR) {
        for (int q = 0; q < NQ; q++) v[q] = vld1q_f32(w + 4 * q);
        add_input(acc, v, x + k, cols, m);
    }
}

/* m <= MR rows against panel p. */
static inline __attribute__((always_inline)) void tile(dsb_wkind kind, const dsb_wmat *w, int64_t p, const float *x, int m, float *y) {
    int64_t cols = w->cols, left = w->rows - p * DSB_NR, at = p * dsb_float_inputs(kind, cols) * DSB_NR;
    float32x4_t acc[MR][NQ];
    for (int r = 0; r < m; r++)
        for (int q = 0; q < NQ; q++) acc[r][q] = vdupq_n_f32(0);
    if (kind == DSB_W_F32) add_f32(acc, (const float *)w->data + at, x, cols, m);
    if (kind == DSB_W_BF16) add_pairs(acc, (const uint32_t *)w->data + at / 2, x, cols, m);
    if (kind == DSB_W_F16) add_f16(acc, (const uint16_t *)w->data + at, x, cols, m);
    for (int r = 0; r < m; r++) {
        float t[DSB_NR], *to = y + r * w->rows;
        for (int q = 0; q < NQ; q++) vst1q_f32(left >= DSB_NR ? to + 4 * q : t + 4 * q, acc[r][q]);
        for (int64_t j = 0; left < DSB_NR && j < left; j++) to[j] = t[j];
    }
}

#define PF_PLAN dsb_plan_float_neon
#include "kernels/portable/panels.h"
