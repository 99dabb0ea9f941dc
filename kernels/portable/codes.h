/* Activation codes as integer products read them: rows padded to whole cells, and their sums, by which offset weights are put right. */
#ifndef DSB_KERNELS_PORTABLE_CODES_H
#define DSB_KERNELS_PORTABLE_CODES_H

#include "kernels/layout.h"

typedef struct pr_codes {
    const int8_t *q; /* (n, stride) */
    int64_t stride;
    int32_t *sums, offset; /* (n, groups) times `offset`, negative: what an offset of the weights adds too much */
    int8_t *copy;          /* q where rows had to be padded, else NULL */
} pr_codes;

/* Rows whose groups are whole cells are read in place; others are padded group by group into a copy. */
static inline bool pr_codes_whole(const dsb_wmat *w) { return w->group % dsb_cell_inputs(w->kind) == 0 && w->cols % dsb_cell_inputs(w->kind) == 0; }

static inline void pr_codes_plan(pr_codes *c, const dsb_wmat *w, int32_t offset) {
    c->stride = pr_codes_whole(w) ? w->cols : dsb_cell_inputs(w->kind) * dsb_row_cells(w->kind, w->cols, w->group);
    c->offset = offset;
}

static inline size_t pr_codes_sum_bytes(const pr_codes *c, const dsb_wmat *w, int64_t n) { return c->offset ? (size_t)(n * dsb_ceil_div(w->cols, w->group)) * sizeof *c->sums : 0; }
static inline size_t pr_codes_bytes(const pr_codes *c, const dsb_wmat *w, int64_t n) { return pr_codes_sum_bytes(c, w, n) + (pr_codes_whole(w) ? 0 : (size_t)(n * c->stride)) + 1; }

static inline void pr_codes_place(pr_codes *c, const dsb_wmat *w, const dsb_act *x, void *room) {
    c->sums = room;
    c->copy = pr_codes_whole(w) ? NULL : (int8_t *)room + pr_codes_sum_bytes(c, w, x->n);
    c->q = c->copy ? c->copy : x->q;
}

static inline void pr_codes_row(const pr_codes *c, const dsb_wmat *w, const dsb_act *x, int64_t i) {
    int64_t unit = dsb_cell_inputs(w->kind), groups = dsb_ceil_div(w->cols, w->group), padded_group = unit * dsb_cells(w->kind, w->group);
    const int8_t *row = x->q + i * w->cols;
    for (int64_t k = 0; c->copy && k < c->stride; k++) c->copy[i * c->stride + k] = 0;
    for (int64_t g = 0; g < groups; g++) {
        int64_t first = g * w->group, len = first + w->group < w->cols ? w->group : w->cols - first;
        int32_t sum = 0;
        for (int64_t k = 0; c->offset && k < len; k++) sum += row[first + k];
        if (c->offset) c->sums[i * groups + g] = -c->offset * sum;
        for (int64_t k = 0; c->copy && k < len; k++) c->copy[i * c->stride + g * padded_group + k] = row[first + k];
    }
}

#endif
