#include "quantizers/awq.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "quantizers/codec.h"
#include "quantizers/dot.h"

enum { STEPS = 20, CUTS = 10 };

/* in_scale = 1/s of one α; channels without activation count as the least. */
static void scales(const dsb_input_stats *stats, double alpha, float *in_scale) {
    float most = 0, least = INFINITY;
    for (int64_t c = 0; c < stats->cols; c++) {
        in_scale[c] = (float)fmax(pow(stats->sum_abs[c] / (double)stats->n_token, alpha), 1e-4);
        most = fmaxf(most, in_scale[c]);
        least = fminf(least, in_scale[c]);
    }
    float norm = sqrtf(most * least);
    for (int64_t c = 0; c < stats->cols; c++) in_scale[c] = 1 / (in_scale[c] / norm);
}

dsb_status dsb_round_transformed(const dsb_input_transform *t, const dsb_format *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, float *v, dsb_err *err) {
    dsb_qtensor q;
    dsb_transform_weight(t, w, rows, cols, v);
    DSB_TRY(dsb_quantize_rtn(&q, format, group, affine, v, rows, cols, err));
    dsb_dequantize(&q, v, v);
    dsb_qtensor_release(&q);
    return DSB_OK;
}

dsb_status dsb_awq_scale(float *in_scale, const dsb_format *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err) {
    dsb_input_transform t = {0};
    float *turned = NULL;
    double best = INFINITY;
    dsb_status s = DSB_NEW(t.in_scale, cols, "AWQ's scales", err);
    if (!s) s = DSB_NEW(turned, rows * cols, "AWQ's weight", err);
    for (int k = 0; k < STEPS && !s; k++) {
        scales(stats, (double)k / STEPS, t.in_scale);
        s = dsb_round_transformed(&t, format, group, affine, w, rows, cols, turned, err);
        if (s) break;
        dsb_transform_undo(&t, rows, cols, turned);
        double loss = dsb_input_loss(stats, w, turned, rows);
        if (loss >= best) continue;
        best = loss;
        memcpy(in_scale, t.in_scale, (size_t)cols * sizeof *in_scale);
    }
    dsb_transform_release(&t);
    free(turned);
    return s;
}

typedef struct cut {
    float *w, *e; /* (group) cut, and its error */
    int8_t *codes;
} cut;

/* Error of a group of n inputs from `first`, whose weights are cut at ±most. */
static double cut_loss(const dsb_qtensor *q, const cut *c, const float *w, int64_t first, int64_t n, float most, const dsb_input_stats *s, float *scale, float *zero) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) c->w[i] = fmaxf(-most, fminf(most, w[i]));
    dsb_group_scale(q, c->w, n, scale, zero);
    dsb_group_encode(q, c->w, n, *scale, *zero, c->codes);
    for (int64_t i = 0; i < n; i++) {
        const double *g = s->gram + (first + i) * s->cols + first;
        c->e[i] = w[i] - ((float)c->codes[i] - *zero) * *scale;
        sum += (double)c->e[i] * (2 * dsb_dot_df(g, c->e, i) + g[i] * (double)c->e[i]);
    }
    return sum;
}

static void cut_group(dsb_qtensor *q, const cut *c, const float *w, int64_t r, int64_t g, const dsb_input_stats *s) {
    int64_t first = g * q->group, n = first + q->group < q->cols ? q->group : q->cols - first;
    float top = dsb_largest(w, n), scale, zero;
    double best = INFINITY;
    for (int k = 0; k < CUTS; k++) {
        double loss = cut_loss(q, c, w, first, n, top * (1 - (float)k / STEPS), s, &scale, &zero);
        if (k && !(loss < best)) continue;
        best = loss;
        q->scales[r * q->n_group + g] = scale;
        if (q->zeros) q->zeros[r * q->n_group + g] = zero;
        memcpy(q->codes + r * q->cols + first, c->codes, (size_t)n);
    }
}

dsb_status dsb_awq_clip(dsb_qtensor *q, const float *w, const dsb_input_stats *stats, dsb_err *err) {
    bool failed = false;
#pragma omp parallel
    {
        cut c = {malloc((size_t)q->group * sizeof *c.w), malloc((size_t)q->group * sizeof *c.e), malloc((size_t)q->group)};
        bool ready = c.w && c.e && c.codes;
        if (!ready) {
#pragma omp atomic write
            failed = true;
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < q->rows; r++)
            for (int64_t g = 0; g < q->n_group && ready; g++) cut_group(q, &c, w + r * q->cols + g * q->group, r, g, stats);
        free(c.w);
        free(c.e);
        free(c.codes);
    }
    return failed ? dsb_fail(err, DSB_ENOMEM, "no memory for AWQ's clipping") : DSB_OK;
}
