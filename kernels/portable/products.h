/* Products as one list of tasks for all threads: each a block of rows against a few panels, whose borders come from shapes alone. An instruction
 * set plans a product (pr_job: which input it reads, how it is cut, what runs a task); the loops over tasks are here. */
#ifndef DSB_KERNELS_PORTABLE_PRODUCTS_H
#define DSB_KERNELS_PORTABLE_PRODUCTS_H

#include <stdlib.h>

#include "kernels/portable/codes.h"
#include "kernels/portable/pairs.h"

typedef struct pr_job {
    const dsb_wmat *w;
    const dsb_act *x;
    float *y;
    void (*run)(const struct pr_job *j, int64_t first, int64_t last, int64_t p, int64_t end); /* rows first .. last against panels p .. end */
    int64_t size, at_once, steps; /* rows and panels of a task, tasks of all panels */
    pr_codes codes;               /* of rows that are read so: stride is not 0 */
    pr_pairs pairs;
    int64_t rows_end, tasks_end;  /* of rows that are prepared, and of tasks, of the list up to this one */
    void *owned;                  /* room of codes or pairs; NULL: none, or those of the job before */
} pr_job;

static inline void pr_cut(pr_job *j, int64_t size, int64_t at_once, void (*run)(const pr_job *, int64_t, int64_t, int64_t, int64_t)) {
    j->size = size;
    j->at_once = at_once;
    j->steps = dsb_ceil_div(dsb_ceil_div(j->w->rows, DSB_NR), at_once);
    j->run = run;
}

static inline bool pr_reads_as(const pr_job *a, const pr_job *b) {
    return a->x->n == b->x->n && a->w->cols == b->w->cols && a->x->f32 == b->x->f32 && a->x->q == b->x->q && a->codes.stride == b->codes.stride && a->pairs.stride == b->pairs.stride && a->codes.offset == b->codes.offset && (!a->codes.stride || (a->w->group == b->w->group && a->w->kind == b->w->kind));
}

/* Room for what the job reads; that of the job before where it reads the same. */
static inline void pr_take_room(pr_job *j, const pr_job *before) {
    if (!j->codes.stride && !j->pairs.stride) return;
    if (before && pr_reads_as(j, before)) {
        j->codes = before->codes;
        j->pairs = before->pairs;
        return;
    }
    j->owned = malloc(j->codes.stride ? pr_codes_bytes(&j->codes, j->w, j->x->n) : pr_pairs_bytes(&j->pairs, j->x->n));
    if (!j->owned) abort(); /* at most as large as the activations that are there already */
    if (j->codes.stride) pr_codes_place(&j->codes, j->w, j->x, j->owned);
    else pr_pairs_place(&j->pairs, j->x->n, j->owned);
}

/* The job that element i of a list of rows or tasks belongs to, `end` its field that says where its own end; *at: the element's place in it. */
static inline const pr_job *pr_find(const pr_job *jobs, int64_t n, int64_t i, size_t end, int64_t *at) {
    int64_t low = 0, high = n - 1;
#define PR_END(k) (*(const int64_t *)(const void *)((const char *)&jobs[k] + end))
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (i < PR_END(middle)) high = middle;
        else low = middle + 1;
    }
    *at = i - (low ? PR_END(low - 1) : 0);
#undef PR_END
    return &jobs[low];
}

static inline void pr_prepare(const pr_job *jobs, int64_t n, int64_t i) {
    int64_t row;
    const pr_job *j = pr_find(jobs, n, i, offsetof(pr_job, rows_end), &row);
    if (j->codes.stride) pr_codes_row(&j->codes, j->w, j->x, row);
    else pr_pairs_row(&j->pairs, j->x, row);
}

static inline void pr_run(const pr_job *jobs, int64_t n, int64_t i) {
    int64_t t, panels;
    const pr_job *j = pr_find(jobs, n, i, offsetof(pr_job, tasks_end), &t);
    int64_t first = t / j->steps * j->size, p = t % j->steps * j->at_once;
    panels = dsb_ceil_div(j->w->rows, DSB_NR);
    j->run(j, first, first + j->size < j->x->n ? first + j->size : j->x->n, p, p + j->at_once < panels ? p + j->at_once : panels);
}

static inline void pr_products(const dsb_product *list, int64_t n, void (*plan)(pr_job *)) {
    enum { FEW = 32, PARALLEL = 1 << 18 }; /* below so many values, or products of two, threads cost more than they give */
    pr_job few[FEW], *jobs = n <= FEW ? few : malloc((size_t)n * sizeof *jobs);
    if (!jobs) abort(); /* a few hundred bytes a product */
    int64_t rows = 0, tasks = 0, work = 0, values = 0;
    for (int64_t i = 0; i < n; i++) {
        pr_job *j = &jobs[i];
        *j = (pr_job){.w = list[i].w, .x = list[i].x, .y = list[i].y};
        plan(j);
        pr_take_room(j, i ? j - 1 : NULL);
        j->rows_end = rows += j->owned ? j->x->n : 0;
        j->tasks_end = tasks += dsb_ceil_div(j->x->n, j->size) * j->steps;
        values += j->owned ? j->x->n * j->w->cols : 0;
        work += j->x->n * j->w->rows * j->w->cols;
    }
    bool alone = values <= PARALLEL;
    for (int64_t i = 0; alone && i < rows; i++) pr_prepare(jobs, n, i);
    /* Each takes a share of what is left: long runs of one stream first, single tasks at the end. */
#pragma omp parallel if (work > PARALLEL)
    {
        if (!alone) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < rows; i++) pr_prepare(jobs, n, i);
        }
#pragma omp for schedule(guided) nowait
        for (int64_t i = 0; i < tasks; i++) pr_run(jobs, n, i);
    }
    for (int64_t i = 0; i < n; i++) free(jobs[i].owned);
    if (jobs != few) free(jobs);
}

#endif
