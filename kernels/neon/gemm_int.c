/* int8 x int8 -> int32, exactly: SDOT takes four inputs of four outputs; where the machine has I8MM, SMMLA takes eight inputs of two rows by
 * two outputs. I4: nibbles offset by 8; what the offset adds, 8·Σx of the group, is where the sum begins. Tiles of 6 rows by 16 outputs. */
#include <arm_neon.h>
#include <string.h>
#include <sys/auxv.h>

#include "kernels/neon/gemm.h"

enum { MR = 6, NQ = 4, OFFSET_I4 = 8 }; /* rows, quads of outputs: 24 sums of 32 registers */

static inline __attribute__((always_inline)) int8x16_t four(const int8_t *x) {
    int32_t v;
    memcpy(&v, x, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(v));
}

/* Inputs of two rows beside one another, n of each (4 or 8) and zeros. */
static inline __attribute__((always_inline)) int8x16_t two_rows(const int8_t *x, int64_t stride, int n) {
    uint64_t a = 0, b = 0;
    memcpy(&a, x, (size_t)n);
    memcpy(&b, x + stride, (size_t)n);
    return vcombine_s8(vcreate_s8(a), vcreate_s8(b));
}

/* By its name, not by the intrinsic: the folder is compiled for machines that lack it. Clang takes no such name then. */
#ifdef __clang__
static bool has_i8mm(void) { return false; }
static inline void mmla(int32x4_t *acc, int8x16_t a, int8x16_t b) { (void)acc, (void)a, (void)b; }
#else
static bool has_i8mm(void) {
    enum { I8MM = 1 << 13 };
    return getauxval(AT_HWCAP2) & I8MM;
}
static inline __attribute__((always_inline)) void mmla(int32x4_t *acc, int8x16_t a, int8x16_t b) { __asm__(".arch_extension i8mm\n\tsmmla %0.4s, %1.16b, %2.16b" : "+w"(*acc) : "w"(a), "w"(b)); }
#endif

static inline __attribute__((always_inline)) void nibbles(const uint8_t *cell, int8x16_t low[NQ], int8x16_t high[NQ]) {
    for (int q = 0; q < NQ; q++) {
        uint8x16_t v = vld1q_u8(cell + 16 * q);
        low[q] = vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(15)));
        high[q] = vreinterpretq_s8_u8(vshrq_n_u8(v, 4));
    }
}

/* acc[r][q] += sums of `cells` cells: m rows, each by quads of outputs. */
static inline __attribute__((always_inline)) void dot(dsb_wkind kind, const uint8_t *cell, int64_t cells, const int8_t *x, int64_t stride, int m, int32x4_t acc[MR][NQ]) {
    for (int64_t c = 0; c < cells; c++, cell += DSB_CELL, x += kind == DSB_W_I4 ? 8 : 4) {
        int8x16_t v[NQ], high[NQ];
        if (kind == DSB_W_I4) nibbles(cell, v, high);
        for (int q = 0; kind == DSB_W_I8 && q < NQ; q++) v[q] = vld1q_s8((const int8_t *)cell + 16 * q);
        for (int r = 0; r < m; r++) {
            int8x16_t b = four(x + r * stride);
            for (int q = 0; q < NQ; q++) acc[r][q] = vdotq_s32(acc[r][q], v[q], b);
        }
        for (int r = 0; kind == DSB_W_I4 && r < m; r++) {
            int8x16_t b = four(x + r * stride + 4);
            for (int q = 0; q < NQ; q++) acc[r][q] = vdotq_s32(acc[r][q], high[q], b);
        }
    }
}

/* Eight inputs of a quad of outputs, the first four in `low`, against m rows: acc[r][q] and acc[r + 1][q] hold outputs 0 and 1, 2 and 3 of both rows. */
static inline __attribute__((always_inline)) void quad_mmla(int8x16_t low, int8x16_t high, const int8x16_t *rows, int m, int q, int32x4_t acc[MR][NQ]) {
    int32x4_t a = vreinterpretq_s32_s8(low), b = vreinterpretq_s32_s8(high);
    int8x16_t first = vreinterpretq_s8_s32(vzip1q_s32(a, b)), second = vreinterpretq_s8_s32(vzip2q_s32(a, b));
    for (int r = 0; r < m; r += 2) {
        mmla(&acc[r][q], rows[r / 2], first);
        mmla(&acc[r + 1][q], rows[r / 2], second);
    }
}

/* As dot, for an even m; the sums of two rows lie as SMMLA has them. */
static inline __attribute__((always_inline)) void dot_mmla(dsb_wkind kind, const uint8_t *cell, int64_t cells, const int8_t *x, int64_t stride, int m, int32x4_t acc[MR][NQ]) {
    int step = kind == DSB_W_I4 ? 1 : 2; /* cells of eight inputs */
    int8x16_t rows[MR / 2], low[NQ], high[NQ];
    for (; cells >= step; cells -= step, cell += step * DSB_CELL, x += 8) {
        for (int r = 0; r < m; r += 2) rows[r / 2] = two_rows(x + r * stride, stride, 8);
        if (kind == DSB_W_I4) nibbles(cell, low, high);
        for (int q = 0; q < NQ; q++) {
            if (kind == DSB_W_I8) low[q] = vld1q_s8((const int8_t *)cell + 16 * q), high[q] = vld1q_s8((const int8_t *)cell + DSB_CELL + 16 * q);
            quad_mmla(low[q], high[q], rows, m, q, acc);
        }
    }
    if (!cells) return;
    for (int r = 0; r < m; r += 2) rows[r / 2] = two_rows(x + r * stride, stride, 4);
    for (int q = 0; q < NQ; q++) quad_mmla(vld1q_s8((const int8_t *)cell + 16 * q), vdupq_n_s8(0), rows, m, q, acc);
}

/* From sums as SMMLA has them to rows of outputs. */
static inline __attribute__((always_inline)) void unzip(int m, int32x4_t acc[MR][NQ]) {
    for (int r = 0; r < m; r += 2)
        for (int q = 0; q < NQ; q++) {
            int32x4_t a = acc[r][q], b = acc[r + 1][q];
            acc[r][q] = vcombine_s32(vget_low_s32(a), vget_low_s32(b));
            acc[r + 1][q] = vcombine_s32(vget_high_s32(a), vget_high_s32(b));
        }
}

/* m <= MR rows of codes from `row` on against panel p. */
static inline __attribute__((always_inline)) void tile(const dsb_wmat *w, dsb_wkind kind, bool mm, int64_t p, const pr_codes *codes, int64_t row, int m, const float *x_scale, float *y) {
    int64_t groups = dsb_ceil_div(w->cols, w->group), stride = codes->stride, left = w->rows - p * DSB_NR;
    const uint8_t *cell = (const uint8_t *)w->data + p * dsb_row_cells(kind, w->cols, w->group) * DSB_CELL;
    const int8_t *x = codes->q + row * stride;
    float32x4_t f[MR][NQ];
    for (int r = 0; r < m; r++)
        for (int q = 0; q < NQ; q++) f[r][q] = vdupq_n_f32(0);
    for (int64_t g = 0; g < groups; g++) {
        int64_t len = (g + 1) * w->group < w->cols ? w->group : w->cols - g * w->group, cells = dsb_cells(kind, len);
        int32x4_t acc[MR][NQ];
        for (int r = 0; r < m; r++)
            for (int q = 0; q < NQ; q++) acc[r][q] = vdupq_n_s32(0);
        if (mm) dot_mmla(kind, cell, cells, x, stride, m, acc), unzip(m, acc);
        else dot(kind, cell, cells, x, stride, m, acc);
        cell += cells * DSB_CELL;
        x += cells * dsb_cell_inputs(kind);
        for (int r = 0; r < m; r++) {
            int32x4_t offset = vdupq_n_s32(kind == DSB_W_I4 ? codes->sums[(row + r) * groups + g] : 0);
            for (int q = 0; q < NQ; q++) f[r][q] = vfmaq_f32(f[r][q], vcvtq_f32_s32(vaddq_s32(acc[r][q], offset)), vld1q_f32(w->scales + (p * groups + g) * DSB_NR + 4 * q));
        }
    }
    for (int r = 0; r < m; r++) {
        float t[DSB_NR], *to = y + (row + r) * w->rows + p * DSB_NR;
        for (int q = 0; q < NQ; q++) vst1q_f32(left >= DSB_NR ? to + 4 * q : t + 4 * q, vmulq_n_f32(f[r][q], x_scale[row + r]));
        for (int64_t j = 0; left < DSB_NR && j < left; j++) to[j] = t[j];
    }
}

static inline __attribute__((always_inline)) void panel(const dsb_wmat *w, dsb_wkind kind, bool mm, int64_t p, const pr_codes *c, int64_t first, int64_t last, const float *scale, float *y) {
    int64_t i = first;
    for (; i + MR <= last; i += MR) tile(w, kind, mm, p, c, i, MR, scale, y);
    for (; i + 2 <= last; i += 2) tile(w, kind, mm, p, c, i, 2, scale, y);
    for (; i < last; i++) tile(w, kind, false, p, c, i, 1, scale, y);
}

static void run(const pr_job *j, int64_t first, int64_t last, int64_t p, int64_t end) {
    bool mm = has_i8mm();
    for (; p < end; p++) {
        if (j->w->kind == DSB_W_I8 && mm) panel(j->w, DSB_W_I8, true, p, &j->codes, first, last, j->x->scale, j->y);
        if (j->w->kind == DSB_W_I8 && !mm) panel(j->w, DSB_W_I8, false, p, &j->codes, first, last, j->x->scale, j->y);
        if (j->w->kind == DSB_W_I4 && mm) panel(j->w, DSB_W_I4, true, p, &j->codes, first, last, j->x->scale, j->y);
        if (j->w->kind == DSB_W_I4 && !mm) panel(j->w, DSB_W_I4, false, p, &j->codes, first, last, j->x->scale, j->y);
    }
}

void dsb_plan_int_neon(pr_job *j) {
    pr_codes_plan(&j->codes, j->w, j->w->kind == DSB_W_I4 ? OFFSET_I4 : 0);
    pr_cut(j, 126, 1, run);
}
