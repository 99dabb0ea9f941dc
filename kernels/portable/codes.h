/* Activation codes as integer products read them: rows padded to whole cells, and their sums, by which offset weights are put right. */
#ifndef DSB_KERNELS_PORTABLE_CODES_H
#define DSB_KERNELS_PORTABLE_CODES_H

#include <stdlib.h>

#include "kernels/layout.h"

typedef struct pr_codes {
    const int8_t *q; /* (n, stride) */
    int64_t stride;
    int32_t *sums;   /* (n, groups) times `offset`, negative: what an offset of the weights adds too much */
    void *owned;
} pr_codes;

/* Rows whose groups are whole cells are read in place; others are padded group by group into a copy. */
static inline void pr_codes_init(pr_codes *c, const dsb_wmat *w, const dsb_act *x, int32_t offset) {
    int64_t unit = dsb_cell_inputs(w->kind), groups = dsb_ceil_div(w->cols, w->group), padded_group = unit * dsb_cells(w->kind, w->group);
    bool whole = w->group % unit == 0 && w->cols % unit == 0;
    c->stride = whole ? w->cols : unit * dsb_row_cells(w->kind, w->cols, w->group);
    size_t sums = offset ? (size_t)(x->n * groups) * sizeof *c->sums : 0;
    c->owned = malloc(sums + (whole ? 0 : (size_t)(x->n * c->stride)) + 1);
    if (!c->owned) abort(); /* at most as large as the activations that are there already */
    c->sums = c->owned;
    int8_t *copy = (int8_t *)c->owned + sums;
    c->q = whole ? x->q : copy;
#pragma omp parallel for schedule(static) if (x->n * w->cols > 1 << 18)
    for (int64_t i = 0; i < x->n; i++) {
        const int8_t *row = x->q + i * w->cols;
        for (int64_t k = 0; !whole && k < c->stride; k++) copy[i * c->stride + k] = 0;
        for (int64_t g = 0; g < groups; g++) {
            int64_t first = g * w->group, len = first + w->group < w->cols ? w->group : w->cols - first;
            int32_t sum = 0;
            for (int64_t k = 0; k < len; k++) sum += row[first + k];
            if (offset) c->sums[i * groups + g] = -offset * sum;
            for (int64_t k = 0; !whole && k < len; k++) copy[i * c->stride + g * padded_group + k] = row[first + k];
        }
    }
}

static inline void pr_codes_release(pr_codes *c) { free(c->owned); }

#endif
