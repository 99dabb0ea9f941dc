/* Routing of one token after another: scores, group limit, top-k with ties to the lower index, gate weights.
 * Source: the original modeling code of DeepSeek V2 and V3; masked experts have selection score 0 there. */
#ifndef DSB_KERNELS_PORTABLE_ROUTE_H
#define DSB_KERNELS_PORTABLE_ROUTE_H

#include <math.h>

#include "kernels/portable/rows.h"

static void pr_scores(dsb_scoring scoring, const float *logits, int64_t n, float *s) {
    if (scoring == DSB_SCORE_SIGMOID) {
        for (int64_t i = 0; i < n; i++) s[i] = 1.0f / (1.0f + pm_expf(-logits[i]));
        return;
    }
    float top = -INFINITY;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) top = logits[i] > top ? logits[i] : top;
    for (int64_t i = 0; i < n; i++) {
        s[i] = pm_expf(logits[i] - top);
        sum += (double)s[i];
    }
    for (int64_t i = 0; i < n; i++) s[i] = (float)((double)s[i] / sum);
}

static float pr_group_figure(const dsb_router_shape *r, const float *sel, int64_t size) {
    float a = -INFINITY, b = -INFINITY;
    for (int64_t i = 0; i < size; i++) {
        if (sel[i] > a) {
            b = a;
            a = sel[i];
        } else if (sel[i] > b) {
            b = sel[i];
        }
    }
    return r->group_rank == DSB_GROUP_MAX || size < 2 ? a : a + b;
}

/* Index of the largest value not taken, ties to the lower index; -1 if all are taken or none compares (NaN). */
static int64_t pr_best(const float *v, const bool *taken, int64_t n) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (!taken[i] && (best < 0 || v[i] > v[best])) best = i;
    return best;
}

/* Selection scores of experts outside the kept groups become 0, as in the original code. */
static void pr_limit_groups(const dsb_router_shape *r, float *sel, float *figure, bool *kept) {
    int64_t size = r->n_expert / r->n_group;
    for (int64_t g = 0; g < r->n_group; g++) {
        figure[g] = pr_group_figure(r, sel + g * size, size);
        kept[g] = false;
    }
    for (int64_t i = 0; i < r->topk_group; i++) kept[pr_best(figure, kept, r->n_group)] = true;
    for (int64_t g = 0; g < r->n_group; g++)
        for (int64_t i = 0; !kept[g] && i < size; i++) sel[g * size + i] = 0;
}

static void pr_route_token(const dsb_router_shape *r, const float *logits, const float *bias, float *s, float *sel, bool *taken, int32_t *idx, float *weight, float *margin) {
    int64_t n = r->n_expert, at = 0;
    float last = 0, sum = 0;
    pr_scores(r->scoring, logits, n, s);
    for (int64_t i = 0; i < n; i++) sel[i] = bias ? s[i] + bias[i] : s[i];
    if (r->n_group > 1) pr_limit_groups(r, sel, sel + n, taken);
    for (int64_t i = 0; i < n; i++) taken[i] = false;
    for (int64_t i = 0; i < r->k; i++) {
        int64_t e = pr_best(sel, taken, n);
        taken[e] = true;
        last = sel[e];
    }
    int64_t next = pr_best(sel, taken, n);
    *margin = next < 0 ? INFINITY : last - sel[next];
    for (int64_t e = 0; e < n; e++)
        if (taken[e]) {
            idx[at] = (int32_t)e;
            weight[at++] = s[e];
            sum += s[e];
        }
    for (int64_t i = 0; i < r->k; i++) {
        if (r->norm_topk) weight[i] = weight[i] / (sum + 1e-20f);
        if (!r->norm_topk || r->scale_after_norm) weight[i] *= r->scale;
    }
}

static void pr_route(const dsb_router_shape *shape, const float *logits, const float *bias, int64_t n, float *scores, int32_t *idx, float *weight, float *margin) {
    int64_t e = shape->n_expert;
#pragma omp parallel if (n * e > PR_PARALLEL)
    {
        float *tmp = malloc((size_t)(3 * e + 8) * sizeof *tmp);
        bool *taken = malloc((size_t)(e + 8));
        if (!tmp || !taken) abort();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i++) {
            float *s = scores ? scores + i * e : tmp + 2 * e;
            pr_route_token(shape, logits + i * e, bias, s, tmp, taken, idx + i * shape->k, weight + i * shape->k, margin + i);
        }
        free(tmp);
        free(taken);
    }
}

#endif
