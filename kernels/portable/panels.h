/* Products of f32 rows with float weights, a panel at a time: an instruction set's gemm_float.c defines MR and
 * tile(kind, w, p, x, m, y), which multiplies m rows x, 1, 2 or MR of them, by panel p into y, the panel's place in the first of their outputs,
 * and PF_PLAN, the plan's name; then it includes this. */
#ifndef DSB_KERNELS_PORTABLE_PANELS_H
#define DSB_KERNELS_PORTABLE_PANELS_H

#include "kernels/portable/products.h"

#ifdef PF_PLAN
/* Rows first..last against panel p; the weights of a panel stay in cache. */
static inline __attribute__((always_inline)) void panel(dsb_wkind kind, const dsb_wmat *w, const dsb_act *x, int64_t p, int64_t first, int64_t last, float *y) {
    int64_t i = first;
    for (; i + MR <= last; i += MR) tile(kind, w, p, x->f32 + i * w->cols, MR, y + i * w->rows + p * DSB_NR);
    for (; i + 2 <= last; i += 2) tile(kind, w, p, x->f32 + i * w->cols, 2, y + i * w->rows + p * DSB_NR);
    for (; i < last; i++) tile(kind, w, p, x->f32 + i * w->cols, 1, y + i * w->rows + p * DSB_NR);
}

static void run(const pr_job *j, int64_t first, int64_t last, int64_t p, int64_t end) {
    for (; p < end; p++) {
        if (j->w->kind == DSB_W_F32) panel(DSB_W_F32, j->w, j->x, p, first, last, j->y);
        if (j->w->kind == DSB_W_BF16) panel(DSB_W_BF16, j->w, j->x, p, first, last, j->y);
        if (j->w->kind == DSB_W_F16) panel(DSB_W_F16, j->w, j->x, p, first, last, j->y);
    }
}

void PF_PLAN(pr_job *j) { pr_cut(j, 96, 1, run); } /* rows whose inputs fit the second-level cache */
#endif

#endif
