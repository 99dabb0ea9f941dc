/* Reference products: plain C in the canonical order of backend.h. Slow, and right. */
#include <math.h>

#include "kernels/ref/gemm.h"

static float widen(const dsb_wmat *w, int64_t at) {
    if (w->kind == DSB_W_F32) return ((const float *)w->data)[at];
    uint16_t h = ((const uint16_t *)w->data)[at];
    return w->kind == DSB_W_BF16 ? dsb_bf16_to_f32(h) : dsb_f16_to_f32(h);
}

static void panel_float(const dsb_wmat *w, const dsb_act *x, int64_t p, float *y) {
    for (int64_t i = 0; i < x->n; i++) {
        float acc[DSB_NR] = {0};
        for (int64_t k = 0; k < w->cols; k++)
            for (int64_t j = 0; j < DSB_NR; j++) acc[j] = fmaf(x->f32[i * w->cols + k], widen(w, dsb_float_at(w->kind, w->cols, p, k, j)), acc[j]);
        for (int64_t j = 0; j < DSB_NR && p * DSB_NR + j < w->rows; j++) y[i * w->rows + p * DSB_NR + j] = acc[j];
    }
}

/* Input k of the group that begins at `cell`, of the panel's output j. */
static int32_t code(const dsb_wmat *w, const int8_t *cell, int64_t j, int64_t k) {
    if (w->kind == DSB_W_I8) return cell[k / 4 * DSB_CELL + j * 4 + k % 4];
    return (cell[k / 8 * DSB_CELL + j * 4 + k % 4] >> (k % 8 < 4 ? 0 : 4) & 15) - 8;
}

static float dot_int(const dsb_wmat *w, const int8_t *x, float x_scale, int64_t row) {
    int64_t p = row / DSB_NR, j = row % DSB_NR, groups = dsb_ceil_div(w->cols, w->group), cells = dsb_row_cells(w->kind, w->cols, w->group);
    float f = 0;
    for (int64_t g = 0; g < groups; g++) {
        int64_t end = (g + 1) * w->group < w->cols ? w->group : w->cols - g * w->group;
        const int8_t *cell = (const int8_t *)w->data + (p * cells + g * dsb_cells(w->kind, w->group)) * DSB_CELL;
        int32_t acc = 0;
        for (int64_t k = 0; k < end; k++) acc += x[g * w->group + k] * code(w, cell, j, k);
        f = fmaf((float)acc, w->scales[(p * groups + g) * DSB_NR + j], f);
    }
    return f * x_scale;
}

static void panel_int(const dsb_wmat *w, const dsb_act *x, int64_t p, float *y) {
    for (int64_t i = 0; i < x->n; i++)
        for (int64_t r = p * DSB_NR; r < w->rows && r < (p + 1) * DSB_NR; r++) y[i * w->rows + r] = dot_int(w, x->q + i * w->cols, x->scale[i], r);
}

static void run(const pr_job *j, int64_t first, int64_t last, int64_t p, int64_t end) {
    (void)first, (void)last; /* a task has all rows */
    for (; p < end; p++) (j->w->kind >= DSB_W_I8 ? panel_int : j->w->kind == DSB_W_BLOCK ? dsb_panel_block_ref : panel_float)(j->w, j->x, p, j->y);
}

void dsb_plan_ref(pr_job *j) { pr_cut(j, j->x->n + 1, 1, run); }
