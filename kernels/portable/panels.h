/* Products of f32 rows with float weights, a panel at a time: an instruction set's gemm_float.c defines MR and
 * tile(kind, w, p, x, m, y), which multiplies m rows x, 1, 2 or MR of them, by panel p into y, the panel's place in the first of their outputs,
 * and PF_GEMM, the product's name; then it includes this. */
#ifndef DSB_KERNELS_PORTABLE_PANELS_H
#define DSB_KERNELS_PORTABLE_PANELS_H

#include "kernels/layout.h"

#ifdef PF_GEMM
/* Rows first..last against panel p; the weights of a panel stay in cache. */
static inline __attribute__((always_inline)) void panel(dsb_wkind kind, const dsb_wmat *w, const dsb_act *x, int64_t p, int64_t first, int64_t last, float *y) {
    int64_t i = first;
    for (; i + MR <= last; i += MR) tile(kind, w, p, x->f32 + i * w->cols, MR, y + i * w->rows + p * DSB_NR);
    for (; i + 2 <= last; i += 2) tile(kind, w, p, x->f32 + i * w->cols, 2, y + i * w->rows + p * DSB_NR);
    for (; i < last; i++) tile(kind, w, p, x->f32 + i * w->cols, 1, y + i * w->rows + p * DSB_NR);
}

void PF_GEMM(const dsb_wmat *w, const dsb_act *x, float *y) {
    enum { ROWS = 96 }; /* rows a task: its inputs fit the second-level cache */
    int64_t panels = dsb_ceil_div(w->rows, DSB_NR), blocks = dsb_ceil_div(x->n, ROWS);
#pragma omp parallel for schedule(static) collapse(2) if (x->n * w->rows * w->cols > 1 << 19)
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t p = 0; p < panels; p++) {
            int64_t first = b * ROWS, last = first + ROWS < x->n ? first + ROWS : x->n;
            if (w->kind == DSB_W_F32) panel(DSB_W_F32, w, x, p, first, last, y);
            if (w->kind == DSB_W_BF16) panel(DSB_W_BF16, w, x, p, first, last, y);
            if (w->kind == DSB_W_F16) panel(DSB_W_F16, w, x, p, first, last, y);
        }
}
#endif

#endif
