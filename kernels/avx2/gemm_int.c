/* int8 x int8 -> int32, exactly: |x|·(±w) in pairs of int16 (2·127·127 < 2^15), then pairs of int32.
 * Cells of 8 outputs x 4 inputs; 4 activation rows share each load. Codes lie within ±127, int4 cells are unpacked in registers. */
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/avx2/gemm.h"

enum { MR = 4 };

static inline __attribute__((always_inline)) __m256i load_cell(dsb_wkind kind, const uint8_t *data, int64_t cell) {
    if (kind == DSB_W_I8) return _mm256_loadu_si256((const __m256i *)(data + cell * 32));
    __m128i v = _mm_loadu_si128((const __m128i *)(data + cell * 16)), mask = _mm_set1_epi8(15);
    __m256i c = _mm256_set_m128i(_mm_and_si128(_mm_srli_epi16(v, 4), mask), _mm_and_si128(v, mask));
    return _mm256_sub_epi8(c, _mm256_set1_epi8(8));
}

static inline __attribute__((always_inline)) __m256i dot4(__m256i acc, __m256i w, int32_t x) {
    __m256i v = _mm256_set1_epi32(x);
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(v), _mm256_sign_epi8(w, v));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

static inline int32_t load4(const int8_t *x) {
    int32_t v;
    memcpy(&v, x, 4);
    return v;
}

/* m <= MR rows of padded codes (cells*4 a row) against one panel of 8 outputs. */
static inline __attribute__((always_inline)) void tile(const dsb_wmat *w, dsb_wkind kind, int64_t p, const int8_t *x, int64_t x_stride, int m, const float *x_scale, float *y, int64_t width) {
    int64_t groups = dsb_ceil_div(w->cols, w->group), cell = p * dsb_row_cells(w->cols, w->group), at = 0;
    __m256 f[MR];
    for (int r = 0; r < m; r++) f[r] = _mm256_setzero_ps();
    for (int64_t g = 0; g < groups; g++) {
        int64_t len = (g + 1) * w->group < w->cols ? w->group : w->cols - g * w->group, cells = dsb_cells(len);
        __m256i acc[MR];
        for (int r = 0; r < m; r++) acc[r] = _mm256_setzero_si256();
        for (int64_t c = 0; c < cells; c++, cell++, at += 4) {
            __m256i v = load_cell(kind, w->data, cell);
            for (int r = 0; r < m; r++) acc[r] = dot4(acc[r], v, load4(x + r * x_stride + at));
        }
        __m256 s = _mm256_loadu_ps(w->scales + (p * groups + g) * DSB_NI);
        for (int r = 0; r < m; r++) f[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[r]), s, f[r]);
    }
    for (int r = 0; r < m; r++) {
        float t[DSB_NI];
        _mm256_storeu_ps(t, _mm256_mul_ps(f[r], _mm256_set1_ps(x_scale[r])));
        for (int64_t j = 0; j < width; j++) y[r * w->rows + j] = t[j];
    }
}

static inline __attribute__((always_inline)) void panel(const dsb_wmat *w, dsb_wkind kind, int64_t p, const int8_t *x, int64_t stride, int64_t n, const float *scale, float *y) {
    int64_t width = w->rows - p * DSB_NI < DSB_NI ? w->rows - p * DSB_NI : DSB_NI, i = 0;
    for (; i + MR <= n; i += MR) tile(w, kind, p, x + i * stride, stride, MR, scale + i, y + i * w->rows + p * DSB_NI, width);
    for (; i < n; i++) tile(w, kind, p, x + i * stride, stride, 1, scale + i, y + i * w->rows + p * DSB_NI, width);
}

/* Rows whose groups are multiples of 4 are read in place; others are padded group by group into a copy. */
static const int8_t *padded_rows(const dsb_wmat *w, const int8_t *x, int64_t n, int64_t *stride, int8_t **copy) {
    *stride = w->cols;
    *copy = NULL;
    if (w->group % 4 == 0 && w->cols % 4 == 0) return x;
    *stride = 4 * dsb_row_cells(w->cols, w->group);
    *copy = calloc((size_t)(n * *stride) + 1, 1);
    if (!*copy) abort(); /* as large as the activations that are there already */
    int64_t padded_group = 4 * dsb_cells(w->group);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < w->cols; k++) (*copy)[i * *stride + k / w->group * padded_group + k % w->group] = x[i * w->cols + k];
    return *copy;
}

void dsb_gemm_int_avx2(const dsb_wmat *w, const dsb_act *x, float *y) {
    enum { ROWS = 128 };
    int64_t panels = dsb_ceil_div(w->rows, DSB_NI), blocks = dsb_ceil_div(x->n, ROWS), stride;
    int8_t *copy;
    const int8_t *q = padded_rows(w, x->q, x->n, &stride, &copy);
#pragma omp parallel for schedule(static) collapse(2) if (x->n * w->rows * w->cols > 1 << 20)
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t p = 0; p < panels; p++) {
            int64_t first = b * ROWS, n = first + ROWS < x->n ? ROWS : x->n - first;
            if (w->kind == DSB_W_I8) panel(w, DSB_W_I8, p, q + first * stride, stride, n, x->scale + first, y + first * w->rows);
            if (w->kind == DSB_W_I4) panel(w, DSB_W_I4, p, q + first * stride, stride, n, x->scale + first, y + first * w->rows);
        }
    free(copy);
}
