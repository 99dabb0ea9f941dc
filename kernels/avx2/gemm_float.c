/* f32, BF16 and FP16 weights against f32 rows: tiles of 6 rows by 16 outputs, one FMA chain an output (k ascending). */
#include <immintrin.h>

#include "kernels/avx2/gemm.h"

enum { MR = 6 };

static inline __attribute__((always_inline)) void load16(dsb_wkind kind, const void *data, int64_t at, __m256 *a, __m256 *b) {
    if (kind == DSB_W_F32) {
        *a = _mm256_loadu_ps((const float *)data + at);
        *b = _mm256_loadu_ps((const float *)data + at + 8);
        return;
    }
    __m256i h = _mm256_loadu_si256((const __m256i *)((const uint16_t *)data + at));
    __m128i lo = _mm256_castsi256_si128(h), hi = _mm256_extracti128_si256(h, 1);
    if (kind == DSB_W_F16) {
        *a = _mm256_cvtph_ps(lo);
        *b = _mm256_cvtph_ps(hi);
    } else {
        *a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(lo), 16));
        *b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(hi), 16));
    }
}

/* m <= MR rows; y receives `width` <= 16 outputs a row. */
static inline __attribute__((always_inline)) void tile(dsb_wkind kind, const void *data, int64_t at, int64_t cols, const float *x, int m, float *y, int64_t y_stride, int64_t width) {
    __m256 a[MR], b[MR];
    for (int r = 0; r < m; r++) a[r] = b[r] = _mm256_setzero_ps();
    for (int64_t k = 0; k < cols; k++) {
        __m256 w0, w1;
        load16(kind, data, at + k * DSB_NR, &w0, &w1);
        for (int r = 0; r < m; r++) {
            __m256 v = _mm256_broadcast_ss(x + r * cols + k);
            a[r] = _mm256_fmadd_ps(v, w0, a[r]);
            b[r] = _mm256_fmadd_ps(v, w1, b[r]);
        }
    }
    for (int r = 0; r < m; r++) {
        if (width == DSB_NR) {
            _mm256_storeu_ps(y + r * y_stride, a[r]);
            _mm256_storeu_ps(y + r * y_stride + 8, b[r]);
            continue;
        }
        float t[DSB_NR];
        _mm256_storeu_ps(t, a[r]);
        _mm256_storeu_ps(t + 8, b[r]);
        for (int64_t j = 0; j < width; j++) y[r * y_stride + j] = t[j];
    }
}

/* Rows first..last against panel p; the weights of a panel stay in cache. */
static inline __attribute__((always_inline)) void panel(dsb_wkind kind, const dsb_wmat *w, const dsb_act *x, int64_t p, int64_t first, int64_t last, float *y) {
    int64_t width = w->rows - p * DSB_NR < DSB_NR ? w->rows - p * DSB_NR : DSB_NR, at = p * w->cols * DSB_NR, i = first;
    for (; i + MR <= last; i += MR) tile(kind, w->data, at, w->cols, x->f32 + i * w->cols, MR, y + i * w->rows + p * DSB_NR, w->rows, width);
    for (; i + 2 <= last; i += 2) tile(kind, w->data, at, w->cols, x->f32 + i * w->cols, 2, y + i * w->rows + p * DSB_NR, w->rows, width);
    for (; i < last; i++) tile(kind, w->data, at, w->cols, x->f32 + i * w->cols, 1, y + i * w->rows + p * DSB_NR, w->rows, width);
}

void dsb_gemm_float_avx2(const dsb_wmat *w, const dsb_act *x, float *y) {
    enum { ROWS = 96 }; /* rows a task: its inputs fit the second-level cache */
    int64_t panels = dsb_ceil_div(w->rows, DSB_NR), blocks = dsb_ceil_div(x->n, ROWS);
#pragma omp parallel for schedule(static) collapse(2) if (x->n * w->rows * w->cols > 1 << 19)
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t p = 0; p < panels; p++) {
            int64_t first = b * ROWS, last = first + ROWS < x->n ? first + ROWS : x->n;
            if (w->kind == DSB_W_F32) panel(DSB_W_F32, w, x, p, first, last, y);
            if (w->kind == DSB_W_BF16) panel(DSB_W_BF16, w, x, p, first, last, y);
            if (w->kind == DSB_W_F16) panel(DSB_W_F16, w, x, p, first, last, y);
        }
}
