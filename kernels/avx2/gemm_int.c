/* int8 x int8 -> int32, exactly. I8: |w|·(±x) in pairs of int16 (2·127·128 < 2^15), then pairs of int32. I4: nibbles offset by 8 times x, eight
 * pairs added in int16 (8·2·15·127 < 2^15), then int32; what the offset adds, 8·Σx of the group, is where the sum begins.
 * Cells of 16 outputs, in two halves of 8; 4 activation rows share each load. Codes of activations lie within ±127. */
#include <immintrin.h>
#include <string.h>

#include "kernels/avx2/gemm.h"

enum { MR = 4, HALF = 8 };

static inline __attribute__((always_inline)) __m256i load4(const int8_t *x) {
    int32_t v;
    memcpy(&v, x, 4);
    return _mm256_set1_epi32(v);
}

/* acc += v. Not the intrinsic: gcc 12 keeps some of the sums in memory. */
static inline __attribute__((always_inline)) void add32(__m256i *acc, __m256i v) { __asm__("vpaddd %1, %0, %0" : "+x"(*acc) : "x"(v)); }
static inline __attribute__((always_inline)) void add16(__m256i *acc, __m256i v) { __asm__("vpaddw %1, %0, %0" : "+x"(*acc) : "x"(v)); }

/* acc += the sums of `cells` cells, m rows by nh halves. */
static inline __attribute__((always_inline)) void dot_i8(const uint8_t *cell, int64_t cells, const int8_t *x, int64_t stride, int m, int nh, __m256i acc[MR][2]) {
    const __m256i one = _mm256_set1_epi16(1);
    for (int64_t c = 0; c < cells; c++, cell += DSB_CELL, x += 4) {
        _mm_prefetch((const char *)cell + DSB_AHEAD, _MM_HINT_T0);
        for (int h = 0; h < nh; h++) { /* one half's weights at a time: both would take the sums' registers */
            __m256i v = _mm256_loadu_si256((const __m256i *)(cell + h * DSB_CELL / 2)), a = _mm256_abs_epi8(v);
            _Pragma("GCC unroll 4") for (int r = 0; r < m; r++) add32(&acc[r][h], _mm256_madd_epi16(_mm256_maddubs_epi16(a, _mm256_sign_epi8(load4(x + r * stride), v)), one));
            __asm__("" : "+r"(x)); /* it would keep what it has read */
        }
    }
}

static inline __attribute__((always_inline)) void dot_i4(const uint8_t *cell, int64_t cells, const int8_t *x, int64_t stride, int m, int nh, __m256i acc[MR][2]) {
    const __m256i one = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
    while (cells > 0) {
        int64_t some = cells < 4 ? cells : 4;
        __m256i pairs[MR][2];
        for (int r = 0; r < m; r++)
            for (int h = 0; h < nh; h++) pairs[r][h] = _mm256_setzero_si256();
        for (int64_t c = 0; c < some; c++, cell += DSB_CELL, x += 8) {
            _mm_prefetch((const char *)cell + DSB_AHEAD, _MM_HINT_T0);
            for (int h = 0; h < nh; h++) {
                __m256i v = _mm256_loadu_si256((const __m256i *)(cell + h * DSB_CELL / 2)), high = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
                v = _mm256_and_si256(v, low);
                for (int r = 0; r < m; r++) {
                    add16(&pairs[r][h], _mm256_maddubs_epi16(v, load4(x + r * stride)));
                    add16(&pairs[r][h], _mm256_maddubs_epi16(high, load4(x + r * stride + 4)));
                }
            }
        }
        for (int r = 0; r < m; r++)
            for (int h = 0; h < nh; h++) add32(&acc[r][h], _mm256_madd_epi16(pairs[r][h], one));
        cells -= some;
    }
}

/* m <= MR rows of codes from `row` on against nh halves of panel p, from half h0 on. */
static inline __attribute__((always_inline)) void tile(const dsb_wmat *w, dsb_wkind kind, int64_t p, int h0, int nh, const pr_codes *codes, int64_t row, int m, const float *x_scale, float *y) {
    int64_t groups = dsb_ceil_div(w->cols, w->group), stride = codes->stride, first = p * DSB_NR + h0 * HALF;
    const uint8_t *cell = (const uint8_t *)w->data + p * dsb_row_cells(kind, w->cols, w->group) * DSB_CELL + h0 * DSB_CELL / 2;
    const int8_t *x = codes->q + row * stride;
    __m256 f[MR][2];
    for (int r = 0; r < m; r++)
        for (int h = 0; h < nh; h++) f[r][h] = _mm256_setzero_ps();
    for (int64_t g = 0; g < groups; g++) {
        int64_t len = (g + 1) * w->group < w->cols ? w->group : w->cols - g * w->group, cells = dsb_cells(kind, len);
        __m256i acc[MR][2];
        for (int r = 0; r < m; r++)
            for (int h = 0; h < nh; h++) acc[r][h] = kind == DSB_W_I8 ? _mm256_setzero_si256() : _mm256_set1_epi32(codes->sums[(row + r) * groups + g]);
        if (kind == DSB_W_I8) dot_i8(cell, cells, x, stride, m, nh, acc);
        else dot_i4(cell, cells, x, stride, m, nh, acc);
        cell += cells * DSB_CELL;
        x += cells * dsb_cell_inputs(kind);
        for (int h = 0; h < nh; h++) {
            __m256 s = _mm256_loadu_ps(w->scales + (p * groups + g) * DSB_NR + (h0 + h) * HALF);
            for (int r = 0; r < m; r++) f[r][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[r][h]), s, f[r][h]);
        }
    }
    for (int r = 0; r < m; r++) {
        float t[2 * HALF];
        for (int h = 0; h < nh; h++) _mm256_storeu_ps(t + h * HALF, _mm256_mul_ps(f[r][h], _mm256_set1_ps(x_scale[row + r])));
        for (int64_t j = 0; j < nh * HALF && first + j < w->rows; j++) y[(row + r) * w->rows + first + j] = t[j];
    }
}

/* Four rows of I4 need the registers of both halves: one half after the other. */
static inline __attribute__((always_inline)) void panel(const dsb_wmat *w, dsb_wkind kind, int64_t p, const pr_codes *c, int64_t first, int64_t last, const float *scale, float *y) {
    int64_t i = first;
    for (; i + MR <= last; i += MR) {
        if (kind == DSB_W_I8) tile(w, kind, p, 0, 2, c, i, MR, scale, y);
        for (int h = 0; kind == DSB_W_I4 && h < 2; h++) tile(w, kind, p, h, 1, c, i, MR, scale, y);
    }
    for (; i < last; i++) tile(w, kind, p, 0, 2, c, i, 1, scale, y);
}

static void run(const pr_job *j, int64_t first, int64_t last, int64_t p, int64_t end) {
    for (; p < end; p++) {
        if (j->w->kind == DSB_W_I8) panel(j->w, DSB_W_I8, p, &j->codes, first, last, j->x->scale, j->y);
        if (j->w->kind == DSB_W_I4) panel(j->w, DSB_W_I4, p, &j->codes, first, last, j->x->scale, j->y);
    }
}

void dsb_plan_int_avx2(pr_job *j) {
    pr_codes_plan(&j->codes, j->w, j->w->kind == DSB_W_I4 ? 8 : 0);
    pr_cut(j, 128, 1, run);
}
