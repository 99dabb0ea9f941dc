#include "quantizers/awq.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { STEPS = 20 };

/* s of one α; channels without activation count as the least. */
static void scales(const dsb_input_stats *stats, double alpha, float *s) {
    float most = 0, least = INFINITY;
    for (int64_t c = 0; c < stats->cols; c++) {
        s[c] = (float)fmax(pow(stats->sum_abs[c] / (double)stats->n_token, alpha), 1e-4);
        most = fmaxf(most, s[c]);
        least = fminf(least, s[c]);
    }
    float norm = sqrtf(most * least);
    for (int64_t c = 0; c < stats->cols; c++) s[c] /= norm;
}

/* Squared error of outputs when w·diag(s) is rounded; scaled and decoded (rows, cols) are scratch. */
static dsb_status loss_of(const float *s, const dsb_format *format, int64_t group, bool affine, const float *w, int64_t rows, const dsb_input_stats *stats, float *scaled, float *decoded, double *loss, dsb_err *err) {
    int64_t cols = stats->cols;
    dsb_qtensor q;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) scaled[r * cols + c] = w[r * cols + c] * s[c];
    DSB_TRY(dsb_quantize_rtn(&q, format, group, affine, scaled, rows, cols, err));
    dsb_dequantize(&q, NULL, decoded);
    dsb_qtensor_release(&q);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) decoded[r * cols + c] /= s[c];
    *loss = dsb_input_loss(stats, w, decoded, rows);
    return DSB_OK;
}

dsb_status dsb_awq_scale(float *in_scale, const dsb_format *format, int64_t group, bool affine, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_err *err) {
    float *s = NULL, *scaled = NULL, *decoded = NULL;
    double best = INFINITY;
    dsb_status st = DSB_NEW(s, cols, "AWQ's scales", err);
    if (!st) st = DSB_NEW(scaled, rows * cols, "AWQ's weight", err);
    if (!st) st = DSB_NEW(decoded, rows * cols, "AWQ's weight", err);
    for (int k = 0; k < STEPS && !st; k++) {
        double loss;
        scales(stats, (double)k / STEPS, s);
        st = loss_of(s, format, group, affine, w, rows, stats, scaled, decoded, &loss, err);
        if (st || loss >= best) continue;
        best = loss;
        for (int64_t c = 0; c < cols; c++) in_scale[c] = 1 / s[c];
    }
    free(s);
    free(scaled);
    free(decoded);
    return st;
}
