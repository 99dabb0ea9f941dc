#include "quantizers/awq.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "quantizers/transform.h"

enum { STEPS = 20 };

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

/* Squared error of outputs when w is rounded for the scaled input; turned (rows, cols) is scratch. */
static dsb_status loss_of(const dsb_input_transform *t, const dsb_format *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, const dsb_input_stats *stats, float *turned, double *loss, dsb_err *err) {
    dsb_qtensor q;
    dsb_transform_weight(t, w, rows, stats->cols, turned);
    DSB_TRY(dsb_quantize_rtn(&q, format, group, affine, turned, rows, stats->cols, err));
    dsb_dequantize(&q, NULL, turned);
    dsb_qtensor_release(&q);
    dsb_transform_undo(t, rows, stats->cols, turned);
    *loss = dsb_input_loss(stats, w, turned, rows);
    return DSB_OK;
}

dsb_status dsb_awq_scale(float *in_scale, const dsb_format *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err) {
    dsb_input_transform t = {0};
    float *turned = NULL;
    double best = INFINITY;
    dsb_status s = DSB_NEW(t.in_scale, cols, "AWQ's scales", err);
    if (!s) s = DSB_NEW(turned, rows * cols, "AWQ's weight", err);
    for (int k = 0; k < STEPS && !s; k++) {
        double loss;
        scales(stats, (double)k / STEPS, t.in_scale);
        s = loss_of(&t, format, group, affine, w, rows, stats, turned, &loss, err);
        if (s || loss >= best) continue;
        best = loss;
        memcpy(in_scale, t.in_scale, (size_t)cols * sizeof *in_scale);
    }
    dsb_transform_release(&t);
    free(turned);
    return s;
}
