/* f32, BF16 and FP16 weights against f32 rows: tiles of up to 12 rows by 2 panels of 16 outputs (4 panels where rows are few), one FMA
 * chain an output, k ascending. Long rows go in blocks of k; a sum waits in y between them, which changes no bit. */
#include <immintrin.h>

#include "kernels/avx512/gemm.h"

enum { MR = 12, NP = 4 };

/* What a tile multiplies: panels from p on, rows from `row` on, inputs k0 .. k1. */
typedef struct part {
    const dsb_wmat *w;
    const float *x;
    float *y;
    int64_t p, row, k0, k1;
} part;

static inline __attribute__((always_inline)) __m512 load16(dsb_wkind kind, const void *data, int64_t at) {
    if (kind == DSB_W_F32) return _mm512_loadu_ps((const float *)data + at);
    __m256i h = _mm256_loadu_si256((const __m256i *)((const uint16_t *)data + at));
    if (kind == DSB_W_F16) return _mm512_cvtph_ps(h);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static inline __attribute__((always_inline)) void tile(const part *t, dsb_wkind kind, int np, int m) {
    int64_t cols = t->w->cols, rows = t->w->rows, at = (t->p * cols + t->k0) * DSB_NR;
    const float *x = t->x + t->row * cols;
    float *y = t->y + t->row * rows + t->p * DSB_NR;
    __m512 acc[MR][NP];
    __mmask16 mask[NP];
    for (int j = 0; j < np; j++) {
        int64_t left = rows - (t->p + j) * DSB_NR;
        mask[j] = (__mmask16)(left < DSB_NR ? (1u << left) - 1 : 0xffffu);
        for (int r = 0; r < m; r++) acc[r][j] = t->k0 ? _mm512_maskz_loadu_ps(mask[j], y + r * rows + j * DSB_NR) : _mm512_setzero_ps();
    }
    for (int64_t k = t->k0; k < t->k1; k++, at += DSB_NR) {
        __m512 v[NP];
        for (int j = 0; j < np; j++) v[j] = load16(kind, t->w->data, at + j * cols * DSB_NR);
        for (int r = 0; r < m; r++) {
            __m512 b = _mm512_set1_ps(x[r * cols + k]);
            for (int j = 0; j < np; j++) acc[r][j] = _mm512_fmadd_ps(b, v[j], acc[r][j]);
        }
    }
    for (int j = 0; j < np; j++)
        for (int r = 0; r < m; r++) _mm512_mask_storeu_ps(y + r * rows + j * DSB_NR, mask[j], acc[r][j]);
}

/* One function a shape: each keeps its sums in registers. */
#define TILE(np, m)                                                                 \
    static __attribute__((noinline)) void tile_##np##_##m(const part *t) {          \
        if (t->w->kind == DSB_W_F32) tile(t, DSB_W_F32, np, m);                     \
        else if (t->w->kind == DSB_W_BF16) tile(t, DSB_W_BF16, np, m);              \
        else tile(t, DSB_W_F16, np, m);                                             \
    }
DSB_TILES(TILE)

static void rows_of_pair(part *t, int64_t last) {
    for (; t->row + 12 <= last; t->row += 12) tile_2_12(t);
    for (; t->row + 6 <= last; t->row += 6) tile_2_6(t);
    for (; t->row + 4 <= last; t->row += 4) tile_2_4(t);
    for (; t->row + 2 <= last; t->row += 2) tile_2_2(t);
    for (; t->row < last; t->row++) tile_2_1(t);
}

static void rows_of_one(part *t, int64_t last) {
    for (; t->row + 12 <= last; t->row += 12) tile_1_12(t);
    for (; t->row + 4 <= last; t->row += 4) tile_1_4(t);
    for (; t->row + 2 <= last; t->row += 2) tile_1_2(t);
    for (; t->row < last; t->row++) tile_1_1(t);
}

static void rows_of_four(part *t, int64_t last) {
    for (; t->row + 4 <= last; t->row += 4) tile_4_4(t);
    for (; t->row + 2 <= last; t->row += 2) tile_4_2(t);
    for (; t->row < last; t->row++) tile_4_1(t);
}

/* n panels from p on, 1 to 4, against rows first .. last. */
static void panels(part t, int64_t n, int64_t first, int64_t last) {
    t.row = first;
    if (n == 4) rows_of_four(&t, last);
    if (n == 2 || n == 3) rows_of_pair(&t, last);
    if (n == 3) t.p += 2;
    t.row = n == 3 ? first : t.row;
    if (n == 1 || n == 3) rows_of_one(&t, last);
}

void dsb_gemm_float_avx512(const dsb_wmat *w, const dsb_act *x, float *y) {
    enum { FEW = 4, ROWS = 8 * MR, DEPTH = 1024 }; /* a block of rows and inputs stays in the second-level cache */
    int64_t n_panel = dsb_ceil_div(w->rows, DSB_NR), at_once = x->n <= FEW ? 4 : 2, depth = x->n <= FEW ? w->cols : DEPTH;
    int64_t blocks = dsb_ceil_div(x->n, ROWS), steps = dsb_ceil_div(n_panel, at_once);
#pragma omp parallel for schedule(static) collapse(2) if (x->n * w->rows * w->cols > 1 << 19)
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t s = 0; s < steps; s++) {
            int64_t first = b * ROWS, last = first + ROWS < x->n ? first + ROWS : x->n, p = s * at_once;
            for (int64_t k = 0; k < w->cols; k += depth)
                panels((part){.w = w, .x = x->f32, .y = y, .p = p, .k0 = k, .k1 = k + depth < w->cols ? k + depth : w->cols}, n_panel - p < at_once ? n_panel - p : at_once, first, last);
        }
}
