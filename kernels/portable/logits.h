/* Figures of one position: log-softmax of both rows in f64, divergences, agreement of the top 1, 5 and 10. */
#ifndef DSB_KERNELS_PORTABLE_LOGITS_H
#define DSB_KERNELS_PORTABLE_LOGITS_H

#include "kernels/portable/rows.h"

enum { PR_TOP = 10 };

/* The ten largest, descending, ties to the lower index; returns how many there are. */
static int pr_top(const float *z, int64_t n, int32_t top[PR_TOP]) {
    int m = 0;
    float least = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        if (m == PR_TOP && !(z[i] > least)) continue;
        int at = m < PR_TOP ? m++ : PR_TOP - 1;
        while (at > 0 && z[i] > z[top[at - 1]]) {
            top[at] = top[at - 1];
            at--;
        }
        top[at] = (int32_t)i;
        least = z[top[m - 1]];
    }
    return m;
}

static int32_t pr_overlap(const int32_t *a, const int32_t *b, int k) {
    int32_t n = 0;
    for (int i = 0; i < k; i++)
        for (int j = 0; j < k; j++) n += a[i] == b[j];
    return n;
}

/* ln Σ exp(z − top), and the probabilities' unnormalised terms into e (n, padded to 8). */
static double pr_exp_sum(const float *z, int64_t n, double top, double *e) {
    double a[8] = {0};
    int64_t i = 0;
    for (int64_t j = 0; j < n; j++) e[j] = pm_exp((double)z[j] - top);
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) a[j] += e[i + j];
    for (int j = 0; i + j < n; j++) a[j] += e[i + j];
    return pr_tree(a);
}

typedef struct pr_divergence {
    double kld[8], rev[8], js[8], tv[8];
} pr_divergence;

static inline void pr_diverge(pr_divergence *d, int j, double er, double et, double inv_r, double inv_t, double ln_r, double ln_t) {
    double p = er * inv_r, q = et * inv_t, m = 0.5 * (p + q), lm = pm_log(m > 1e-300 ? m : 1e-300);
    double diff = ln_r - ln_t;
    d->kld[j] += p * diff;
    d->rev[j] -= q * diff;
    d->js[j] += m > 1e-300 ? 0.5 * (p * (ln_r - lm) + q * (ln_t - lm)) : 0.0;
    d->tv[j] += 0.5 * fabs(p - q);
}

static void pr_divergences(const float *r, const float *t, int64_t n, double top_r, double top_t, double sum_r, double sum_t, const double *er, const double *et, dsb_logit_row *out) {
    pr_divergence d = {0};
    double inv_r = 1.0 / sum_r, inv_t = 1.0 / sum_t, lr = log(sum_r), lt = log(sum_t);
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) pr_diverge(&d, j, er[i + j], et[i + j], inv_r, inv_t, ((double)r[i + j] - top_r) - lr, ((double)t[i + j] - top_t) - lt);
    for (int j = 0; i + j < n; j++) pr_diverge(&d, j, er[i + j], et[i + j], inv_r, inv_t, ((double)r[i + j] - top_r) - lr, ((double)t[i + j] - top_t) - lt);
    out->kld = pr_tree(d.kld);
    out->kld_reverse = pr_tree(d.rev);
    out->js = pr_tree(d.js);
    out->tv = pr_tree(d.tv);
}

static void pr_logit_row(const float *r, const float *t, int32_t target, int64_t n, double *er, double *et, dsb_logit_row *out) {
    int32_t a[PR_TOP], b[PR_TOP];
    *out = (dsb_logit_row){0};
    for (int64_t i = 0; i < n; i++) out->nonfinite += !(fabsf(r[i]) <= FLT_MAX) + (t && !(fabsf(t[i]) <= FLT_MAX));
    if (out->nonfinite) return;
    int m = pr_top(r, n, a);
    double top_r = (double)r[a[0]], sum_r = pr_exp_sum(r, n, top_r, er);
    out->top_ref = a[0];
    out->conf_ref = 1.0 / sum_r;
    if (target >= 0) {
        out->nll_ref = log(sum_r) - ((double)r[target] - top_r);
        out->p_ref = er[target] / sum_r;
    }
    if (!t) return;
    pr_top(t, n, b);
    double top_t = (double)t[b[0]], sum_t = pr_exp_sum(t, n, top_t, et);
    out->top_test = b[0];
    if (target >= 0) {
        out->nll_test = log(sum_t) - ((double)t[target] - top_t);
        out->p_test = et[target] / sum_t;
    }
    out->overlap5 = pr_overlap(a, b, m < 5 ? m : 5);
    out->overlap10 = pr_overlap(a, b, m);
    pr_divergences(r, t, n, top_r, top_t, sum_r, sum_t, er, et, out);
}

static void pr_logit_rows(const float *ref, const float *test, const int32_t *target, int64_t n, int64_t vocab, dsb_logit_row *out) {
    size_t room = (size_t)((vocab + 7) / 8 * 8) * sizeof(double);
#pragma omp parallel if (n > 1)
    {
        double *er = aligned_alloc(64, (room + 63) / 64 * 64), *et = aligned_alloc(64, (room + 63) / 64 * 64);
        if (!er || !et) abort();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i++) pr_logit_row(ref + i * vocab, test ? test + i * vocab : NULL, target ? target[i] : -1, vocab, er, et, &out[i]);
        free(er);
        free(et);
    }
}

#endif
