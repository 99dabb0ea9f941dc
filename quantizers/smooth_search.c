#include "quantizers/smooth_search.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "quantizers/awq.h"

enum { STEPS = 20 };

/* The square of the largest input that a step is made for: of all tokens, or of one of its own. */
static double largest_square(const dsb_rule *rule, const dsb_input_transform *t, const dsb_input_stats *s) {
    double all = (double)t->absmax * rule->static_margin, most = 0;
    if (dsb_activation_is_static(rule->activation)) return all * all;
    for (int64_t j = 0; j < s->cols; j++) {
        double mean = s->sum_sq[j] * (double)t->in_scale[j] * (double)t->in_scale[j] / (double)s->n_token;
        most = mean > most ? mean : most; /* fmax ends gcc 12 in an internal error on aarch64 */
    }
    return fmin((double)t->absmax * (double)t->absmax, most * fmax(2 * log((double)s->cols), 1));
}

/* What rounded and cut inputs add a token: t transforms the input, v (rows, cols) reads it. */
static double input_error(const dsb_rule *rule, const dsb_input_transform *t, const float *v, int64_t rows, const dsb_input_stats *s, double *square) {
    const dsb_activation_row *acts;
    dsb_activation_list(&acts);
    if (!acts[rule->activation].integer) return 0;
    double n = (double)s->n_token, top = largest_square(rule, t, s), codes = acts[rule->activation].most, sum = 0;
    for (int64_t j = 0; j < s->cols; j++) square[j] = 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < s->cols; j++) square[j] += (double)v[r * s->cols + j] * (double)v[r * s->cols + j];
    for (int64_t j = 0; j < s->cols; j++) {
        double scale = (double)t->in_scale[j], most = (double)s->absmax[j] * scale, tail = most / log(n + 1);
        sum += square[j] * fmin(s->sum_sq[j] * scale * scale / n, top / (12 * codes * codes));
        if (dsb_activation_is_static(rule->activation) && tail > 0) sum += square[j] * 2 * tail * tail / n * exp((most - sqrt(top)) / tail);
    }
    return sum;
}

static dsb_status error_of(double alpha, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *s, float *v, double *square, double *error, dsb_err *err) {
    dsb_input_transform t;
    DSB_TRY(dsb_transform_find(&t, DSB_TRANSFORM_SMOOTH, alpha, w, rows, cols, s, err));
    dsb_status st = dsb_round_transformed(&t, format, group, rule->zero_point, w, rows, cols, v, err);
    if (!st) {
        *error = input_error(rule, &t, v, rows, s, square) * (double)s->n_token;
        dsb_transform_undo(&t, rows, cols, v);
        *error += dsb_input_loss(s, w, v, rows);
    }
    dsb_transform_release(&t);
    return st;
}

dsb_status dsb_smooth_alpha(double *alpha, const dsb_rule *rule, const dsb_format *format, int64_t group, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err) {
    float *v;
    double *square, error, best = INFINITY;
    *alpha = 0.5;
    DSB_TRY(DSB_NEW(v, rows * cols, "a smoothed weight", err));
    dsb_status s = DSB_NEW(square, cols, "a smoothed weight", err);
    for (int k = 0; k <= STEPS && !s; k++) {
        s = error_of((double)k / STEPS, rule, format, group, w, rows, cols, stats, v, square, &error, err);
        if (s || !(error < best)) continue;
        best = error;
        *alpha = (double)k / STEPS;
    }
    free(v);
    free(square);
    return s;
}
