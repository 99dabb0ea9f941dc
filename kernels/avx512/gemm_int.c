/* int8 x int8 -> int32 by VNNI, exactly: weights offset to unsigned bytes (by 128, nibbles by 8) times signed activations; what the
 * offset adds, offset · Σx of the group, is where the sum begins. Tiles of up to 12 rows by 2 panels of 16 outputs. Where rows are few the
 * weights come from memory: one panel after the other, a single stream, asked for two pages ahead of its use. */
#include <immintrin.h>
#include <string.h>

#include "kernels/avx512/gemm.h"

enum { MR = 12, NP = 2, FEW = 4, OFFSET_I8 = 128, OFFSET_I4 = 8 };

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
    EACH(r, m)
        EACH(j, np) f[r][j] = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g++) {
        int64_t len = (g + 1) * w->group < w->cols ? w->group : w->cols - g * w->group, cells = dsb_cells(kind, len);
        __m512i acc[MR][NP];
        EACH(r, m)
            EACH(j, np) acc[r][j] = _mm512_set1_epi32(sums[r * groups + g]);
        for (int64_t c = 0; c < cells; c++, at += DSB_CELL) {
            __m512i v[NP];
            EACH(j, np) {
                v[j] = _mm512_loadu_si512(at + j * panel);
                if (m >= DSB_MANY) _mm_prefetch((const char *)at + (np + j) * panel, _MM_HINT_T1);
            }
            if (kind == DSB_W_I8) {
                EACH(j, np) v[j] = _mm512_xor_si512(v[j], flip);
                EACH(r, m) {
                    __m512i b = load4(x + r * stride);
                    EACH(j, np) dot4(&acc[r][j], v[j], b);
                }
                x += 4;
            } else {
                __m512i high[NP];
                EACH(j, np) high[j] = _mm512_and_si512(_mm512_srli_epi16(v[j], 4), low);
                EACH(j, np) v[j] = _mm512_and_si512(v[j], low);
                EACH(r, m) {
                    __m512i b = load4(x + r * stride);
                    EACH(j, np) dot4(&acc[r][j], v[j], b);
                }
                EACH(r, m) {
                    __m512i b = load4(x + r * stride + 4);
                    EACH(j, np) dot4(&acc[r][j], high[j], b);
                }
                x += 8;
            }
        }
        EACH(j, np) {
            __m512 s = _mm512_loadu_ps(scales + (j * groups + g) * DSB_NR);
            EACH(r, m) f[r][j] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][j]), s, f[r][j]);
        }
    }
    EACH(j, np) {
        int64_t first = (p + j) * DSB_NR;
        __mmask16 mask = (__mmask16)(w->rows - first < DSB_NR ? (1u << (w->rows - first)) - 1 : 0xffffu);
        EACH(r, m) _mm512_mask_storeu_ps(y + (row + r) * w->rows + first, mask, _mm512_mul_ps(f[r][j], _mm512_set1_ps(x_scale[row + r])));
    }
}

/* m <= FEW rows against panel p, cells in turn to `ways` sums each, so that none waits for the one before. */
static inline __attribute__((always_inline)) void stream(const dsb_wmat *w, dsb_wkind kind, int ways, int m, int64_t p, const pr_codes *codes, const float *x_scale, float *y) {
    enum { WAYS = 4 };
    int64_t groups = dsb_ceil_div(w->cols, w->group), stride = codes->stride, first = p * DSB_NR;
    const uint8_t *at = (const uint8_t *)w->data + p * dsb_row_cells(kind, w->cols, w->group) * DSB_CELL;
    const float *scales = w->scales + p * groups * DSB_NR;
    const int8_t *x = codes->q;
    const __m512i flip = _mm512_set1_epi8((char)0x80), low = _mm512_set1_epi8(15);
    __m512 f[FEW];
    EACH(r, m) f[r] = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g++, scales += DSB_NR) {
        int64_t len = (g + 1) * w->group < w->cols ? w->group : w->cols - g * w->group, cells = dsb_cells(kind, len);
        __m512i acc[FEW][WAYS];
        EACH(r, m) {
            acc[r][0] = _mm512_set1_epi32(codes->sums[r * groups + g]);
            for (int u = 1; u < WAYS; u++) acc[r][u] = _mm512_setzero_si512();
        }
        while (cells > 0) {
            int some = cells < ways ? 1 : ways;
            EACH(u, ways) {
                if (u == some) break;
                __m512i v = _mm512_loadu_si512(at);
                _mm_prefetch((const char *)at + DSB_AHEAD, _MM_HINT_T0);
                if (kind == DSB_W_I8) {
                    v = _mm512_xor_si512(v, flip);
                    EACH(r, m) dot4(&acc[r][u], v, load4(x + r * stride));
                } else {
                    __m512i high = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
                    v = _mm512_and_si512(v, low);
                    EACH(r, m) dot4(&acc[r][2 * u], v, load4(x + r * stride));
                    EACH(r, m) dot4(&acc[r][2 * u + 1], high, load4(x + r * stride + 4));
                }
                at += DSB_CELL;
                x += dsb_cell_inputs(kind);
            }
            cells -= some;
        }
        _mm_prefetch((const char *)scales + DSB_AHEAD, _MM_HINT_T0);
        __m512 s = _mm512_loadu_ps(scales);
        EACH(r, m) {
            __m512i sum = _mm512_add_epi32(_mm512_add_epi32(acc[r][0], acc[r][1]), _mm512_add_epi32(acc[r][2], acc[r][3]));
            f[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), s, f[r]);
        }
    }
    __mmask16 mask = (__mmask16)(w->rows - first < DSB_NR ? (1u << (w->rows - first)) - 1 : 0xffffu);
    EACH(r, m) _mm512_mask_storeu_ps(y + r * w->rows + first, mask, _mm512_mul_ps(f[r], _mm512_set1_ps(x_scale[r])));
}

#define STREAM(m)                                                                                                                                   \
    static __attribute__((noinline)) void stream_i8_##m(const dsb_wmat *w, int64_t p, const pr_codes *c, const float *x_scale, float *y) { stream(w, DSB_W_I8, 4, m, p, c, x_scale, y); } \
    static __attribute__((noinline)) void stream_i4_##m(const dsb_wmat *w, int64_t p, const pr_codes *c, const float *x_scale, float *y) { stream(w, DSB_W_I4, 2, m, p, c, x_scale, y); }
STREAM(1) STREAM(2) STREAM(3) STREAM(4)

static void run_few(const pr_job *j, int64_t first, int64_t last, int64_t p, int64_t end) {
    static void (*const k_stream[2][FEW])(const dsb_wmat *, int64_t, const pr_codes *, const float *, float *) = {{stream_i8_1, stream_i8_2, stream_i8_3, stream_i8_4}, {stream_i4_1, stream_i4_2, stream_i4_3, stream_i4_4}};
    for (; p < end; p++) k_stream[j->w->kind == DSB_W_I4][last - first - 1](j->w, p, &j->codes, j->x->scale, j->y);
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
    for (; i + 3 <= last; i += 3) tile_1_3(w, p, c, i, s, y);
    for (; i + 2 <= last; i += 2) tile_1_2(w, p, c, i, s, y);
    for (; i < last; i++) tile_1_1(w, p, c, i, s, y);
}

static void run_many(const pr_job *j, int64_t first, int64_t last, int64_t p, int64_t end) {
    if (end - p == 2) rows_of_pair(j->w, p, &j->codes, first, last, j->x->scale, j->y);
    else rows_of_one(j->w, p, &j->codes, first, last, j->x->scale, j->y);
}

void dsb_plan_int_avx512(pr_job *j) {
    enum { BLOCK_BYTES = 1 << 19 }; /* a block of rows stays in the second-level cache */
    pr_codes_plan(&j->codes, j->w, j->w->kind == DSB_W_I8 ? OFFSET_I8 : OFFSET_I4);
    int64_t block = BLOCK_BYTES / j->codes.stride / MR * MR;
    if (j->x->n <= FEW) pr_cut(j, FEW, 1, run_few);
    else pr_cut(j, block < 2 * MR ? 2 * MR : block > 16 * MR ? 16 * MR : block, 2, run_many);
}
