#include "quantizers/transform.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

bool dsb_transform_changes(const dsb_input_transform *t) { return t->in_scale || t->rotation; }

/* A channel that is never used, or not finite, stays. */
static float smooth_factor(double x, double w, double alpha) {
    float t = x > 0 && w > 0 && isfinite(x) && isfinite(w) ? (float)(pow(w, 1 - alpha) / pow(x, alpha)) : 1;
    return isnormal(t) && isnormal(1 / t) ? t : 1;
}

static dsb_status find_smooth(dsb_input_transform *out, double alpha, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err) {
    DSB_TRY(DSB_NEW(out->in_scale, cols, "smoothing", err));
    float *top = out->in_scale; /* max |W_j|, then t_j */
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < cols; j++) top[j] = fmaxf(top[j], fabsf(w[r * cols + j]));
    for (int64_t j = 0; j < cols; j++) top[j] = smooth_factor((double)stats->absmax[j], (double)top[j], alpha);
    dsb_transform_see(out, stats);
    return DSB_OK;
}

void dsb_transform_see(dsb_input_transform *t, const dsb_input_stats *stats) {
    for (int64_t j = 0; j < stats->cols; j++) t->absmax = fmaxf(t->absmax, stats->absmax[j] * t->in_scale[j]);
}

dsb_status dsb_transform_find(dsb_input_transform *out, dsb_transform how, double alpha, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err) {
    *out = (dsb_input_transform){0};
    if (how == DSB_TRANSFORM_HADAMARD) out->rotation = cols & -cols;
    if (how != DSB_TRANSFORM_SMOOTH || !stats || !stats->absmax || stats->n_token == 0) return DSB_OK;
    return find_smooth(out, alpha, w, rows, cols, stats, err);
}

void dsb_transform_release(dsb_input_transform *t) {
    free(t->in_scale);
    *t = (dsb_input_transform){0};
}

void dsb_transform_weight(const dsb_input_transform *t, const float *w, int64_t rows, int64_t cols, float *to) {
    if (to != w) memcpy(to, w, (size_t)(rows * cols) * sizeof *w);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; t->in_scale && j < cols; j++) to[r * cols + j] /= t->in_scale[j];
    if (t->rotation) dsb_backend_cpu(NULL)->hadamard(to, rows, cols, t->rotation, to); /* host memory */
}

void dsb_transform_undo(const dsb_input_transform *t, int64_t rows, int64_t cols, float *w) {
    if (t->rotation) dsb_backend_cpu(NULL)->hadamard(w, rows, cols, t->rotation, w);
    if (t->in_scale) dsb_backend_cpu(NULL)->scale_columns(w, rows, cols, t->in_scale, w);
}

/* A row of f64 by H. */
static void rotate(double *x, int64_t cols, int64_t block) {
    double scale = 1 / sqrt((double)block);
    for (int64_t h = 1; h < block; h *= 2)
        for (int64_t i = 0; i < cols; i += 2 * h)
            for (int64_t k = i; k < i + h; k++) {
                double a = x[k], b = x[k + h];
                x[k] = a + b;
                x[k + h] = a - b;
            }
    for (int64_t i = 0; i < cols; i++) x[i] *= scale;
}

static void transpose(double *g, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < i; k++) {
            double a = g[i * n + k];
            g[i * n + k] = g[k * n + i];
            g[k * n + i] = a;
        }
}

static void rotate_gram(double *g, int64_t n, int64_t block) {
    for (int side = 0; side < 2; side++) {
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++) rotate(g + i * n, n, block);
        transpose(g, n);
    }
    for (int64_t i = 0; i < n; i++) /* both halves were rounded apart */
        for (int64_t k = 0; k < i; k++) g[k * n + i] = g[i * n + k];
}

static void scale_stats(const float *t, dsb_input_stats *s) {
    for (int64_t j = 0; j < s->cols; j++) {
        double f = (double)t[j];
        if (s->sum) {
            s->sum[j] *= f;
            s->sum_abs[j] *= f;
            s->sum_sq[j] *= f * f;
            s->absmax[j] *= t[j];
        }
        for (int64_t k = 0; s->gram && k < s->cols; k++) s->gram[j * s->cols + k] *= f * (double)t[k];
    }
}

static void rotate_stats(int64_t block, dsb_input_stats *s) {
    if (s->gram) rotate_gram(s->gram, s->cols, block);
    if (!s->sum) return;
    rotate(s->sum, s->cols, block);
    for (int64_t j = 0; j < s->cols; j++) {
        double sq = s->gram ? fmax(s->gram[j * s->cols + j], 0) : 0;
        s->sum_sq[j] = sq;
        s->sum_abs[j] = sqrt((double)s->n_token * sq);
        s->absmax[j] = (float)sqrt(sq);
    }
}

dsb_status dsb_transform_stats(const dsb_input_transform *t, const dsb_input_stats *in, dsb_input_stats *out, dsb_err *err) {
    size_t n = (size_t)in->cols;
    *out = (dsb_input_stats){0};
    dsb_status s = dsb_input_stats_begin(out, (in->sum ? DSB_NEED_CHANNELS : 0) | (in->gram ? DSB_NEED_GRAM : 0), in->cols, err);
    if (s) {
        dsb_input_stats_release(out);
        return s;
    }
    out->n_token = in->n_token;
    if (in->sum) memcpy(out->sum, in->sum, n * 3 * sizeof *in->sum);
    if (in->sum) memcpy(out->absmax, in->absmax, n * sizeof *in->absmax);
    if (in->gram) memcpy(out->gram, in->gram, n * n * sizeof *in->gram);
    if (t->in_scale) scale_stats(t->in_scale, out);
    if (t->rotation) rotate_stats(t->rotation, out);
    return DSB_OK;
}
