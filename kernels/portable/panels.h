/* Products of f32 rows with float weights, a panel at a time: an instruction set's gemm_float.c defines MR and
 * tile(kind, w, p, x, m, y), which multiplies m rows x, 1 to MR (6) of them, by panel p into y, the panel's place in the first of their outputs,
 * and PF_PLAN, the plan's name; then it includes this. */
#ifndef DSB_KERNELS_PORTABLE_PANELS_H
#define DSB_KERNELS_PORTABLE_PANELS_H

#include "kernels/portable/products.h"

#ifdef PF_PLAN
/* One function a shape: each keeps its sums in registers. */
#define PF_TILE(kind, m) \
    static __attribute__((noinline)) void kind##_##m(const dsb_wmat *w, int64_t p, const float *x, float *y) { tile(DSB_W_##kind, w, p, x, m, y); }
#define PF_TILES(kind) PF_TILE(kind, 1) PF_TILE(kind, 2) PF_TILE(kind, 3) PF_TILE(kind, 4) PF_TILE(kind, 5) PF_TILE(kind, 6)
PF_TILES(F32) PF_TILES(BF16) PF_TILES(F16)
_Static_assert(MR == 6, "rows of the largest tile");

/* The weights of a panel stay in cache. */
static void run(const pr_job *j, int64_t first, int64_t last, int64_t p, int64_t end) {
    static void (*const k_tile[3][MR])(const dsb_wmat *, int64_t, const float *, float *) = {
        [DSB_W_F32] = {F32_1, F32_2, F32_3, F32_4, F32_5, F32_6}, [DSB_W_BF16] = {BF16_1, BF16_2, BF16_3, BF16_4, BF16_5, BF16_6}, [DSB_W_F16] = {F16_1, F16_2, F16_3, F16_4, F16_5, F16_6}};
    const dsb_wmat *w = j->w;
    for (; p < end; p++)
        for (int64_t i = first, m; i < last; i += m) {
            m = last - i < MR ? last - i : MR;
            k_tile[w->kind][m - 1](w, p, j->x->f32 + i * w->cols, j->y + i * w->rows + p * DSB_NR);
        }
}

void PF_PLAN(pr_job *j) { pr_cut(j, 96, 1, run); } /* rows whose inputs fit the second-level cache */
#endif

#endif
