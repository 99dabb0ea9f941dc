/* int8 x int8 -> int32 by VNNI, exactly: weights offset to unsigned bytes (by 128, nibbles by 8) times signed activations; what the
 * offset adds, offset · Σx of the group, is where the sum begins. Tiles of up to 12 rows by 2 panels of 16 outputs; where rows are few 4 panels
 * of I8, or one of I4: its groups are short, so that scales are as many streams from memory again. */
#include <immintrin.h>
#include <string.h>

#include "kernels/avx512/gemm.h"
#include "kernels/portable/codes.h"

enum { MR = 12, NP = 4, OFFSET_I8 = 128, OFFSET_I4 = 8 };

static inline __attribute__((always_inline)) __m512i load4(const int8_t *x) {
    int32_t v;
    memcpy(&v, x, 4);
    return _mm512_set1_epi32(v);
}

/* acc += u8 · s8 in fours. Not the intrinsic: gcc 12 copies each sum to another register and back around it, and most of them to memory. */
static inline __attribute__((always_inline)) void dot4(__m512i *acc, __m512i u, __m512i s) { __asm__("vpdpbusd %2, %1, %0" : "+v"(*acc) : "v"(u), "v"(s)); }

/* m <= MR rows of codes from `row` on against np <= NP panels from p on. one: a single group, whose scale the compiler then knows to be the last. */
static inline __attribute__((always_inline)) void tile(const dsb_wmat *w, dsb_wkind kind, bool one, int np, int m, int64_t p, const pr_codes *codes, int64_t row, const float *x_scale, float *y) {
    int64_t groups = one ? 1 : dsb_ceil_div(w->cols, w->group), panel = dsb_row_cells(kind, w->cols, w->group) * DSB_CELL, stride = codes->stride;
    const uint8_t *at = (const uint8_t *)w->data + p * panel;
    const float *scales = w->scales + p * groups * DSB_NR;
    const int8_t *x = codes->q + row * stride;
    const int32_t *sums = codes->sums + row * groups;
    const __m512i flip = _mm512_set1_epi8((char)0x80), low = _mm512_set1_epi8(15);
    __m512 f[MR][NP];
    for (int r = 0; r < m; r++)
        for (int j = 0; j < np; j++) f[r][j] = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g++) {
        int64_t len = (g + 1) * w->group < w->cols ? w->group : w->cols - g * w->group, cells = dsb_cells(kind, len);
        __m512i acc[MR][NP];
        for (int r = 0; r < m; r++)
            for (int j = 0; j < np; j++) acc[r][j] = _mm512_set1_epi32(sums[r * groups + g]);
        for (int64_t c = 0; c < cells; c++, at += DSB_CELL) {
            __m512i v[NP];
            for (int j = 0; j < np; j++) v[j] = _mm512_loadu_si512(at + j * panel);
            if (kind == DSB_W_I8) {
                for (int j = 0; j < np; j++) v[j] = _mm512_xor_si512(v[j], flip);
                for (int r = 0; r < m; r++) {
                    __m512i b = load4(x + r * stride);
                    for (int j = 0; j < np; j++) dot4(&acc[r][j], v[j], b);
                }
                x += 4;
            } else {
                __m512i high[NP];
                for (int j = 0; j < np; j++) high[j] = _mm512_and_si512(_mm512_srli_epi16(v[j], 4), low);
                for (int j = 0; j < np; j++) v[j] = _mm512_and_si512(v[j], low);
                for (int r = 0; r < m; r++) {
                    __m512i b = load4(x + r * stride);
                    for (int j = 0; j < np; j++) dot4(&acc[r][j], v[j], b);
                }
                for (int r = 0; r < m; r++) {
                    __m512i b = load4(x + r * stride + 4);
                    for (int j = 0; j < np; j++) dot4(&acc[r][j], high[j], b);
                }
                x += 8;
            }
        }
        for (int j = 0; j < np; j++) {
            __m512 s = _mm512_loadu_ps(scales + (j * groups + g) * DSB_NR);
            for (int r = 0; r < m; r++) f[r][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][j]), s, f[r][j]);
        }
    }
    for (int j = 0; j < np; j++) {
        int64_t first = (p + j) * DSB_NR;
        __mmask16 mask = (__mmask16)(w->rows - first < DSB_NR ? (1u << (w->rows - first)) - 1 : 0xffffu);
        for (int r = 0; r < m; r++) _mm512_mask_storeu_ps(y + (row + r) * w->rows + first, mask, _mm512_mul_ps(f[r][j], _mm512_set1_ps(x_scale[row + r])));
    }
}

/* One function a shape: each keeps its sums in registers. */
#define TILE(np, m)                                                                                                                                                        \
    static __attribute__((noinline)) void tile_##np##_##m(const dsb_wmat *w, int64_t p, const pr_codes *c, int64_t row, const float *x_scale, float *y) { \
        bool one = w->group >= w->cols;                                                                                                     \
        if (w->kind == DSB_W_I8 && one) tile(w, DSB_W_I8, true, np, m, p, c, row, x_scale, y);                                              \
        else if (w->kind == DSB_W_I8) tile(w, DSB_W_I8, false, np, m, p, c, row, x_scale, y);                                               \
        else tile(w, DSB_W_I4, false, np, m, p, c, row, x_scale, y);                                                                        \
    }
DSB_TILES(TILE)

static void rows_of_pair(const dsb_wmat *w, int64_t p, const pr_codes *c, int64_t i, int64_t last, const float *s, float *y) {
    bool many = w->kind == DSB_W_I8 && w->group >= w->cols; /* groups need twice the sums: with fewer rows both stay in registers */
    for (; many && i + 12 <= last; i += 12) tile_2_12(w, p, c, i, s, y);
    for (; i + 6 <= last; i += 6) tile_2_6(w, p, c, i, s, y);
    for (; i + 4 <= last; i += 4) tile_2_4(w, p, c, i, s, y);
    for (; i + 2 <= last; i += 2) tile_2_2(w, p, c, i, s, y);
    for (; i < last; i++) tile_2_1(w, p, c, i, s, y);
}

static void rows_of_one(const dsb_wmat *w, int64_t p, const pr_codes *c, int64_t i, int64_t last, const float *s, float *y) {
    for (; i + 12 <= last; i += 12) tile_1_12(w, p, c, i, s, y);
    for (; i + 4 <= last; i += 4) tile_1_4(w, p, c, i, s, y);
    for (; i + 2 <= last; i += 2) tile_1_2(w, p, c, i, s, y);
    for (; i < last; i++) tile_1_1(w, p, c, i, s, y);
}

static void rows_of_four(const dsb_wmat *w, int64_t p, const pr_codes *c, int64_t i, int64_t last, const float *s, float *y) {
    for (; i + 4 <= last; i += 4) tile_4_4(w, p, c, i, s, y);
    for (; i + 2 <= last; i += 2) tile_4_2(w, p, c, i, s, y);
    for (; i < last; i++) tile_4_1(w, p, c, i, s, y);
}

void dsb_gemm_int_avx512(const dsb_wmat *w, const dsb_act *x, float *y) {
    enum { FEW = 4, BLOCK_BYTES = 1 << 19 }; /* a block of rows stays in the second-level cache */
    pr_codes c;
    pr_codes_init(&c, w, x, w->kind == DSB_W_I8 ? OFFSET_I8 : OFFSET_I4);
    int64_t panels = dsb_ceil_div(w->rows, DSB_NR), at_once = x->n > FEW ? 2 : w->kind == DSB_W_I8 ? 4 : 1, block = BLOCK_BYTES / c.stride / MR * MR;
    block = block < 2 * MR ? 2 * MR : block > 16 * MR ? 16 * MR : block;
    int64_t blocks = dsb_ceil_div(x->n, block), steps = dsb_ceil_div(panels, at_once);
#pragma omp parallel for schedule(static) collapse(2) if (x->n * w->rows * w->cols > 1 << 20)
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t t = 0; t < steps; t++) {
            int64_t i = b * block, last = i + block < x->n ? i + block : x->n, p = t * at_once, end = p + at_once < panels ? p + at_once : panels;
            if (end - p == 4) rows_of_four(w, p, &c, i, last, x->scale, y), p += 4;
            for (; p + 2 <= end; p += 2) rows_of_pair(w, p, &c, i, last, x->scale, y);
            if (p < end) rows_of_one(w, p, &c, i, last, x->scale, y);
        }
    pr_codes_release(&c);
}
