/* f32, BF16 and FP16 weights against f32 rows: tiles of up to 12 rows by 2 panels of 16 outputs, one FMA chain an output, k ascending;
 * where rows are few one panel after the other, asked for ahead of its use (gemm.h). Long rows go in blocks of k; a sum waits in y between them, which changes no bit.
 * BF16 against rows that are BF16 goes by vdpbf16ps, which is that chain (portable/pairs.h) where the machine adds a pair's products in order. */
#include <immintrin.h>

#include "kernels/avx512/gemm.h"

enum { MR = 12, NP = 2, FEW = 4 };

/* What a tile multiplies: panels from p on, rows from `row` on, inputs k0 .. k1. */
typedef struct part {
    const dsb_wmat *w;
    const float *x;
    const pr_pairs *pairs; /* or NULL: multiply x in f32 */
    float *y;
    int64_t p, row, k0, k1;
} part;

/* acc += the two products of each pair, the high halves' first. Not the intrinsic: it would want a file of its own with another flag. */
static inline __attribute__((always_inline)) void dot2(__m512 *acc, __m512i w, __m512i x) { __asm__("vdpbf16ps %2, %1, %0" : "+v"(*acc) : "v"(w), "v"(x)); }

/* Whether that is what this machine does: 2^24 + 1 is 2^24 again, and 2^24 less is 0; in any other order 1 is left. */
static bool adds_in_order(void) {
    if (!__builtin_cpu_supports("avx512bf16")) return false;
    __m512 acc = _mm512_set1_ps(0x1p24f);
    dot2(&acc, _mm512_set1_epi32(0x3f803f80), _mm512_set1_epi32((int)0x3f80cb80u));
    return _mm512_cvtss_f32(acc) == 0;
}

/* acc += x[k]·w for the np panels' weights of one input. */
static inline __attribute__((always_inline)) void add_input(__m512 acc[MR][NP], const __m512 *w, const float *x, int64_t stride, int np, int m) {
    EACH(r, m) {
        __m512 b = _mm512_set1_ps(x[r * stride]);
        EACH(j, np) acc[r][j] = _mm512_fmadd_ps(b, w[j], acc[r][j]);
    }
}

static inline __attribute__((always_inline)) void load_sums(const part *t, __m512 acc[MR][NP], __mmask16 mask[NP], int np, int m) {
    int64_t rows = t->w->rows;
    EACH(j, np) {
        int64_t left = rows - (t->p + j) * DSB_NR;
        mask[j] = (__mmask16)(left < DSB_NR ? (1u << left) - 1 : 0xffffu);
        EACH(r, m) acc[r][j] = t->k0 ? _mm512_maskz_loadu_ps(mask[j], t->y + (t->row + r) * rows + (t->p + j) * DSB_NR) : _mm512_setzero_ps();
    }
}

static inline __attribute__((always_inline)) void store_sums(const part *t, __m512 acc[MR][NP], const __mmask16 mask[NP], int np, int m) {
    EACH(j, np)
        EACH(r, m) _mm512_mask_storeu_ps(t->y + (t->row + r) * t->w->rows + (t->p + j) * DSB_NR, mask[j], acc[r][j]);
}

/* panel: bytes. Tiles of middling height are the remainders of a block, whose weights are there. */
static inline __attribute__((always_inline)) void want_ahead(const void *w, int64_t panel, int np, int m) {
    if (np == 1 && m <= FEW) _mm_prefetch((const char *)w + DSB_AHEAD, _MM_HINT_T0);
    if (m >= DSB_MANY) EACH(j, np) _mm_prefetch((const char *)w + (np + j) * panel, _MM_HINT_T1);
}

static inline __attribute__((always_inline)) void tile_pairs(const part *t, int np, int m) {
    int64_t panel = dsb_float_inputs(DSB_W_BF16, t->w->cols) * DSB_NR, stride = t->pairs->stride;
    const uint16_t *w = (const uint16_t *)t->w->data + t->p * panel + t->k0 * DSB_NR;
    const uint32_t *x = t->pairs->words + t->row * stride + t->k0 / 2;
    __m512 acc[MR][NP];
    __mmask16 mask[NP];
    load_sums(t, acc, mask, np, m);
    for (int64_t k = t->k0; k < t->k1; k += 2, w += 2 * DSB_NR, x++) {
        __m512i v[NP];
        want_ahead(w, 2 * panel, np, m);
        EACH(j, np) v[j] = _mm512_loadu_si512(w + j * panel);
        EACH(r, m) {
            __m512i b = _mm512_set1_epi32((int)x[r * stride]);
            EACH(j, np) dot2(&acc[r][j], v[j], b);
        }
    }
    store_sums(t, acc, mask, np, m);
}

static inline __attribute__((always_inline)) void tile(const part *t, dsb_wkind kind, int np, int m) {
    int64_t cols = t->w->cols, panel = dsb_float_inputs(kind, cols) * DSB_NR, at = t->p * panel + t->k0 * DSB_NR, k = t->k0;
    const float *x = t->x + t->row * cols;
    __m512 acc[MR][NP], v[NP];
    __mmask16 mask[NP];
    load_sums(t, acc, mask, np, m);
    if (kind == DSB_W_BF16) {
        const uint16_t *w = (const uint16_t *)t->w->data + at;
        const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
        for (; k < t->k1; k += 2, w += 2 * DSB_NR) {
            want_ahead(w, 2 * panel, np, m);
            EACH(j, np) v[j] = _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(w + j * panel), high));
            add_input(acc, v, x + k, cols, np, m);
            if (k + 1 == t->k1) break;
            EACH(j, np) v[j] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(w + j * panel), 16));
            add_input(acc, v, x + k + 1, cols, np, m);
        }
    }
    for (; kind == DSB_W_F32 && k < t->k1; k++, at += DSB_NR) {
        want_ahead((const float *)t->w->data + at, 4 * panel, np, m);
        EACH(j, np) v[j] = _mm512_loadu_ps((const float *)t->w->data + at + j * panel);
        add_input(acc, v, x + k, cols, np, m);
    }
    for (; kind == DSB_W_F16 && k < t->k1; k++, at += DSB_NR) {
        want_ahead((const uint16_t *)t->w->data + at, 2 * panel, np, m);
        EACH(j, np) v[j] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)((const uint16_t *)t->w->data + at + j * panel)));
        add_input(acc, v, x + k, cols, np, m);
    }
    store_sums(t, acc, mask, np, m);
}

/* One function a shape: each keeps its sums in registers. */
#define TILE(np, m)                                                                                    \
    static __attribute__((noinline)) void pairs_##np##_##m(const part *t) { tile_pairs(t, np, m); }    \
    static __attribute__((noinline)) void f32_##np##_##m(const part *t) { tile(t, DSB_W_F32, np, m); } \
    static __attribute__((noinline)) void f16_##np##_##m(const part *t) { tile(t, DSB_W_F16, np, m); } \
    static __attribute__((noinline)) void bf16_##np##_##m(const part *t) { tile(t, DSB_W_BF16, np, m); } \
    static void tile_##np##_##m(const part *t) {                                                       \
        if (t->pairs) pairs_##np##_##m(t);                                                             \
        else if (t->w->kind == DSB_W_F32) f32_##np##_##m(t);                                           \
        else if (t->w->kind == DSB_W_BF16) bf16_##np##_##m(t);                                         \
        else f16_##np##_##m(t);                                                                        \
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
    for (; t->row + 3 <= last; t->row += 3) tile_1_3(t);
    for (; t->row + 2 <= last; t->row += 2) tile_1_2(t);
    for (; t->row < last; t->row++) tile_1_1(t);
}

/* Rows by pairs and the others in turn. */
static void rows(part t, int n, int64_t first, int64_t last, const pr_pairs *pairs) {
    for (int64_t i = first, end; i < last; i = end) {
        bool may = pairs && pr_pairs_may(pairs, t.w, i);
        for (end = i + 1; end < last && (!pairs || pr_pairs_may(pairs, t.w, end) == may);) end++;
        t.pairs = may ? pairs : NULL;
        t.row = i;
        if (n == 2) rows_of_pair(&t, end);
        else rows_of_one(&t, end);
    }
}

static void run(const pr_job *j, int64_t first, int64_t last, int64_t p, int64_t end) {
    enum { DEPTH = 2048 }; /* a block of rows and inputs, and the panels it meets, stay in the second-level cache */
    int64_t cols = j->w->cols, depth = j->x->n <= FEW ? cols : DEPTH;
    for (int64_t k = 0; k < cols; k += depth)
        rows((part){.w = j->w, .x = j->x->f32, .y = j->y, .p = p, .k0 = k, .k1 = k + depth < cols ? k + depth : cols}, (int)(end - p), first, last, j->pairs.stride ? &j->pairs : NULL);
}

void dsb_plan_float_avx512(pr_job *j) {
    if (j->w->kind == DSB_W_BF16 && adds_in_order()) pr_pairs_plan(&j->pairs, j->w->cols);
    pr_cut(j, 8 * MR, j->x->n <= FEW ? 1 : 2, run);
}
