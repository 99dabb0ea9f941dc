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

/* Adds n terms, the first of which is in lane 0. */
static void pr_add_lanes(const double *x, int64_t n, double sum[8]) {
    double a[8];
    int64_t i = 0;
    memcpy(a, sum, sizeof a);
    for (; i + 8 <= n; i += 8)
        for (int j = 0; j < 8; j++) a[j] += x[i + j];
    for (int j = 0; i + j < n; j++) a[j] += x[i + j];
    memcpy(sum, a, sizeof a);
}

/* ln Σ exp(z − top), and the probabilities' unnormalised terms into e (n, padded to 8). */
static double pr_exp_sum(const float *z, int64_t n, double top, double *e) {
    double a[8] = {0};
    for (int64_t j = 0; j < n; j++) e[j] = pm_exp((double)z[j] - top);
    pr_add_lanes(e, n, a);
    return pr_tree(a);
}

/* What is the same for a row's values: maxima, 1 / sum and ln sum of reference and test. */
typedef struct pr_softmaxes {
    double top_r, top_t, inv_r, inv_t, ln_r, ln_t;
} pr_softmaxes;

/* Terms of one value at a time into arrays, which are then added in lanes: both loops become vectors. */
enum { PR_TERMS = 128 };
typedef struct pr_terms {
    double kld[PR_TERMS], rev[PR_TERMS], js[PR_TERMS], tv[PR_TERMS];
} pr_terms;

static void pr_diverge(const pr_softmaxes *c, const float *restrict r, const float *restrict t, const double *restrict er, const double *restrict et, int64_t n, pr_terms *restrict out) {
    for (int64_t i = 0; i < n; i++) {
        double p = er[i] * c->inv_r, q = et[i] * c->inv_t, m = 0.5 * (p + q), lm = pm_log(m > 1e-300 ? m : 1e-300);
        double ln_p = ((double)r[i] - c->top_r) - c->ln_r, ln_q = ((double)t[i] - c->top_t) - c->ln_t, diff = ln_p - ln_q;
        double js = 0.5 * (p * (ln_p - lm) + q * (ln_q - lm));
        out->kld[i] = p * diff;
        out->rev[i] = q * diff;
        out->js[i] = m > 1e-300 ? js : 0.0;
        out->tv[i] = 0.5 * fabs(p - q);
    }
}

static void pr_divergences(const float *r, const float *t, int64_t n, const pr_softmaxes *c, const double *er, const double *et, dsb_logit_row *out) {
    double kld[8] = {0}, rev[8] = {0}, js[8] = {0}, tv[8] = {0};
    pr_terms terms;
    for (int64_t i = 0; i < n; i += PR_TERMS) {
        int64_t some = n - i < PR_TERMS ? n - i : PR_TERMS;
        pr_diverge(c, r + i, t + i, er + i, et + i, some, &terms);
        pr_add_lanes(terms.kld, some, kld);
        pr_add_lanes(terms.rev, some, rev);
        pr_add_lanes(terms.js, some, js);
        pr_add_lanes(terms.tv, some, tv);
    }
    out->kld = pr_tree(kld);
    out->kld_reverse = 0 - pr_tree(rev);
    out->js = pr_tree(js);
    out->tv = pr_tree(tv);
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
    out->overlap5 = pm_overlap(a, b, m < 5 ? m : 5);
    out->overlap10 = pm_overlap(a, b, m);
    pr_softmaxes c = {.top_r = top_r, .top_t = top_t, .inv_r = 1.0 / sum_r, .inv_t = 1.0 / sum_t, .ln_r = log(sum_r), .ln_t = log(sum_t)};
    pr_divergences(r, t, n, &c, er, et, out);
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
