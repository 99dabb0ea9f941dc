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
        figure[g] = pm_group_figure(r->group_rank == DSB_GROUP_MAX, sel + g * size, size);
        kept[g] = false;
    }
    for (int64_t i = 0; i < r->topk_group; i++) kept[pr_best(figure, kept, r->n_group)] = true;
    for (int64_t g = 0; g < r->n_group; g++)
        for (int64_t i = 0; !kept[g] && i < size; i++) sel[g * size + i] = 0;
}

/* Values as integers of the same order, both zeros alike; false if one is NaN. */
static bool pr_order(const float *v, int64_t n, int32_t *key) {
    int32_t nan = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t u = (int32_t)dsb_f32_bits(v[i] + 0.0f);
        nan |= v[i] != v[i];
        key[i] = u ^ (int32_t)((uint32_t)(u >> 31) >> 1);
    }
    return !nan;
}

/* Index of the largest key, ties to the lower index: two passes without branches, which become vectors. */
static int32_t pr_best_key(const int32_t *key, int32_t n) {
    int32_t top = INT32_MIN, at = n;
    for (int32_t i = 0; i < n; i++) top = key[i] > top ? key[i] : top;
    for (int32_t i = 0; i < n; i++) {
        int32_t here = key[i] == top ? i : n;
        at = here < at ? here : at;
    }
    return at;
}

/* Takes the k largest; returns the margin of the last over the best that is left. key: room for n. */
static float pr_take(const float *sel, int64_t n, int64_t k, int32_t *key, bool *taken) {
    bool ordered = pr_order(sel, n, key);
    float last = 0;
    for (int64_t i = 0; i < n; i++) taken[i] = false;
    for (int64_t i = 0; i < k; i++) {
        int64_t e = ordered ? pr_best_key(key, (int32_t)n) : pr_best(sel, taken, n);
        taken[e] = true;
        key[e] = INT32_MIN; /* below -inf */
        last = sel[e];
    }
    int64_t next = k == n ? -1 : ordered ? pr_best_key(key, (int32_t)n) : pr_best(sel, taken, n);
    return next < 0 ? INFINITY : last - sel[next];
}

static void pr_route_token(const dsb_router_shape *r, const float *logits, const float *bias, float *s, float *sel, int32_t *key, bool *taken, int32_t *idx, float *weight, float *margin) {
    int64_t n = r->n_expert, at = 0;
    float sum = 0;
    pr_scores(r->scoring, logits, n, s);
    for (int64_t i = 0; i < n; i++) sel[i] = bias ? s[i] + bias[i] : s[i];
    if (r->n_group > 1) pr_limit_groups(r, sel, sel + n, taken);
    *margin = pr_take(sel, n, r->k, key, taken);
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
        int32_t *key = malloc((size_t)e * sizeof *key);
        bool *taken = malloc((size_t)(e + 8));
        if (!tmp || !key || !taken) abort();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i++) {
            float *s = scores ? scores + i * e : tmp + 2 * e;
            pr_route_token(shape, logits + i * e, bias, s, tmp, key, taken, idx + i * shape->k, weight + i * shape->k, margin + i);
        }
        free(tmp);
        free(key);
        free(taken);
    }
}

#endif
