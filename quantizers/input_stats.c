#include "quantizers/input_stats.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "quantizers/dot.h"

static void drop_factor(dsb_input_stats *s) {
    if (!s->factor) return;
    free(s->factor->upper);
    s->factor->upper = NULL;
}

dsb_status dsb_input_stats_begin(dsb_input_stats *s, int needs, int64_t cols, dsb_err *err) {
    bool same = s->cols == cols && (!(needs & DSB_NEED_CHANNELS) || s->sum) && (!(needs & DSB_NEED_GRAM) || s->gram);
    s->n_token = 0;
    drop_factor(s);
    if (same) {
        if (s->sum) memset(s->sum, 0, (size_t)cols * 3 * sizeof *s->sum);
        if (s->absmax) memset(s->absmax, 0, (size_t)cols * sizeof *s->absmax);
        if (s->gram) memset(s->gram, 0, (size_t)(cols * cols) * sizeof *s->gram);
        return DSB_OK;
    }
    dsb_input_stats_release(s);
    s->cols = cols;
    if (needs & DSB_NEED_CHANNELS) {
        DSB_TRY(DSB_NEW(s->sum, cols * 3, "calibration", err));
        DSB_TRY(DSB_NEW(s->absmax, cols, "calibration", err));
        s->sum_abs = s->sum + cols;
        s->sum_sq = s->sum + 2 * cols;
    }
    if (!(needs & DSB_NEED_GRAM)) return DSB_OK;
    DSB_TRY(DSB_NEW(s->factor, 1, "products of calibration inputs", err));
    return DSB_NEW(s->gram, cols * cols, "products of calibration inputs", err);
}

void dsb_input_stats_add(dsb_input_stats *s, const dsb_backend *be, const float *x, int64_t n) {
    if (s->sum) be->channel_sums(x, n, s->cols, s->sum, s->sum_abs, s->sum_sq, s->absmax);
    if (s->gram) be->gram(x, n, s->cols, s->gram);
    s->n_token += n;
    drop_factor(s);
}

void dsb_input_stats_release(dsb_input_stats *s) {
    free(s->sum);
    free(s->absmax);
    free(s->gram);
    drop_factor(s);
    free(s->factor);
    *s = (dsb_input_stats){0};
}

/* e · gram · eᵀ of one row: twice the part below the diagonal, and the diagonal. */
static double row_loss(const dsb_input_stats *s, const float *w, const float *v) {
    double sum = 0;
    for (int64_t i = 0; i < s->cols; i++) {
        double e = (double)w[i] - (v ? (double)v[i] : 0);
        const double *g = s->gram + i * s->cols;
        if (e != 0) sum += e * (2 * (v ? dsb_dot_difference(g, w, v, i) : dsb_dot_df(g, w, i)) + g[i] * e);
    }
    return sum;
}

double dsb_input_loss(const dsb_input_stats *s, const float *w, const float *v, int64_t rows) {
    double total = 0, *each = malloc((size_t)(rows > 0 ? rows : 1) * sizeof *each);
    if (!each) { /* the sum row by row, in the same order */
        for (int64_t r = 0; r < rows; r++) total += row_loss(s, w + r * s->cols, v ? v + r * s->cols : NULL);
        return total;
    }
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) each[r] = row_loss(s, w + r * s->cols, v ? v + r * s->cols : NULL);
    for (int64_t r = 0; r < rows; r++) total += each[r];
    free(each);
    return total;
}
