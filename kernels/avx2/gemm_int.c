/* int8 x int8 -> int32, exactly. I8: |w|·(±x) in pairs of int16 (2·127·128 < 2^15), then pairs of int32. I4: nibbles offset by 8 times x, eight
 * pairs added in int16 (8·2·15·127 < 2^15), then int32; what the offset adds, 8·Σx of the group, is where the sum begins.
 * Cells of 16 outputs, in two halves of 8; 4 activation rows share each load. Codes of activations lie within ±127. */
#include <immintrin.h>
#include <string.h>

#include "kernels/avx2/gemm.h"
#include "kernels/portable/codes.h"

enum { MR = 4, HALF = 8 };

static inline __attribute__((always_inline)) __m256i load4(const int8_t *x) {
    int32_t v;
    memcpy(&v, x, 4);
    return _mm256_set1_epi32(v);
}

/* acc[r] += the sums of `cells` cells of m rows. */
static inline __attribute__((always_inline)) void dot_i8(const uint8_t *cell, int64_t cells, const int8_t *x, int64_t stride, int m, __m256i *acc) {
    const __m256i one = _mm256_set1_epi16(1);
    for (int64_t c = 0; c < cells; c++, cell += DSB_CELL, x += 4) {
        __m256i v = _mm256_loadu_si256((const __m256i *)cell), a = _mm256_abs_epi8(v);
        for (int r = 0; r < m; r++) acc[r] = _mm256_add_epi32(acc[r], _mm256_madd_epi16(_mm256_maddubs_epi16(a, _mm256_sign_epi8(load4(x + r * stride), v)), one));
    }
}

static inline __attribute__((always_inline)) void dot_i4(const uint8_t *cell, int64_t cells, const int8_t *x, int64_t stride, int m, __m256i *acc) {
    const __m256i one = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
    while (cells > 0) {
        int64_t some = cells < 4 ? cells : 4;
        __m256i pairs[MR];
        for (int r = 0; r < m; r++) pairs[r] = _mm256_setzero_si256();
        for (int64_t c = 0; c < some; c++, cell += DSB_CELL, x += 8) {
            __m256i v = _mm256_loadu_si256((const __m256i *)cell), high = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
            v = _mm256_and_si256(v, low);
            for (int r = 0; r < m; r++) {
                pairs[r] = _mm256_add_epi16(pairs[r], _mm256_maddubs_epi16(v, load4(x + r * stride)));
                pairs[r] = _mm256_add_epi16(pairs[r], _mm256_maddubs_epi16(high, load4(x + r * stride + 4)));
            }
        }
        for (int r = 0; r < m; r++) acc[r] = _mm256_add_epi32(acc[r], _mm256_madd_epi16(pairs[r], one));
        cells -= some;
    }
}

/* m <= MR rows of codes from `row` on against half h of panel p. */
static inline __attribute__((always_inline)) void tile(const dsb_wmat *w, dsb_wkind kind, int64_t p, int h, const pr_codes *codes, int64_t row, int m, const float *x_scale, float *y) {
    int64_t groups = dsb_ceil_div(w->cols, w->group), stride = codes->stride, width = w->rows - p * DSB_NR - h * HALF;
    const uint8_t *cell = (const uint8_t *)w->data + p * dsb_row_cells(kind, w->cols, w->group) * DSB_CELL + h * DSB_CELL / 2;
    const int8_t *x = codes->q + row * stride;
    __m256 f[MR];
    for (int r = 0; r < m; r++) f[r] = _mm256_setzero_ps();
    for (int64_t g = 0; g < groups; g++) {
        int64_t len = (g + 1) * w->group < w->cols ? w->group : w->cols - g * w->group, cells = dsb_cells(kind, len);
        __m256i acc[MR];
        for (int r = 0; r < m; r++) acc[r] = kind == DSB_W_I8 ? _mm256_setzero_si256() : _mm256_set1_epi32(codes->sums[(row + r) * groups + g]);
        if (kind == DSB_W_I8) dot_i8(cell, cells, x, stride, m, acc);
        else dot_i4(cell, cells, x, stride, m, acc);
        cell += cells * DSB_CELL;
        x += cells * dsb_cell_inputs(kind);
        __m256 s = _mm256_loadu_ps(w->scales + (p * groups + g) * DSB_NR + h * HALF);
        for (int r = 0; r < m; r++) f[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[r]), s, f[r]);
    }
    for (int r = 0; r < m; r++) {
        float t[HALF], *to = y + (row + r) * w->rows + p * DSB_NR + h * HALF;
        _mm256_storeu_ps(t, _mm256_mul_ps(f[r], _mm256_set1_ps(x_scale[row + r])));
        for (int64_t j = 0; j < HALF && j < width; j++) to[j] = t[j];
    }
}

static inline __attribute__((always_inline)) void panel(const dsb_wmat *w, dsb_wkind kind, int64_t p, const pr_codes *c, int64_t first, int64_t last, const float *scale, float *y) {
    for (int h = 0; h < 2 && p * DSB_NR + h * HALF < w->rows; h++) {
        int64_t i = first;
        for (; i + MR <= last; i += MR) tile(w, kind, p, h, c, i, MR, scale, y);
        for (; i < last; i++) tile(w, kind, p, h, c, i, 1, scale, y);
    }
}

void dsb_gemm_int_avx2(const dsb_wmat *w, const dsb_act *x, float *y) {
    enum { ROWS = 128 };
    int64_t panels = dsb_ceil_div(w->rows, DSB_NR), blocks = dsb_ceil_div(x->n, ROWS);
    pr_codes c;
    pr_codes_init(&c, w, x, w->kind == DSB_W_I4 ? 8 : 0);
#pragma omp parallel for schedule(static) collapse(2) if (x->n * w->rows * w->cols > 1 << 20)
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t p = 0; p < panels; p++) {
            int64_t first = b * ROWS, last = first + ROWS < x->n ? first + ROWS : x->n;
            if (w->kind == DSB_W_I8) panel(w, DSB_W_I8, p, &c, first, last, x->scale, y);
            if (w->kind == DSB_W_I4) panel(w, DSB_W_I4, p, &c, first, last, x->scale, y);
        }
    pr_codes_release(&c);
}
