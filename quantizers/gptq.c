#include "quantizers/gptq.h"

#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "quantizers/codec.h"

/* There where LAPACK is OpenBLAS's: threads of its own would change the order of sums. */
extern void openblas_set_num_threads(int n) __attribute__((weak));

enum { ROWS = 8 }; /* that a thread takes through all columns together, so that the factor is read once for them */

typedef struct gptq {
    dsb_qtensor *q;
    const float *w;
    int64_t *order;       /* (cols): the column at each place */
    const double *factor; /* (cols, cols) upper, of the inverse of H in that order */
    const bool *dead;     /* (cols): inputs that were always 0 */
    bool act_order;
    int64_t block;
} gptq;

typedef struct column {
    double diagonal;
    int64_t at;
} column;

static int falling(const void *a, const void *b) {
    const column *x = a, *y = b;
    if (x->diagonal != y->diagonal) return x->diagonal < y->diagonal ? 1 : -1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* factor = H in order; its mean diagonal. */
static double gather(const dsb_input_stats *s, const bool *dead, const int64_t *order, double *h) {
    int64_t n = s->cols;
    double scale = 2.0 / (double)s->n_token, mean = 0;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < n; j++) h[i * n + j] = s->gram[order[i] * n + order[j]] * scale;
        if (dead[order[i]]) h[i * n + i] = 1;
        mean += h[i * n + i] / (double)n;
    }
    return mean;
}

/* The upper Cholesky factor of the inverse of H + damp·mean(diagonal). A row-major matrix's upper half is a column-major one's lower half. */
static dsb_status factorize(const gptq *g, const dsb_input_stats *s, double damp, double *h, dsb_err *err) {
    int n = (int)s->cols, tries = 0;
    if (openblas_set_num_threads) openblas_set_num_threads(1);
    for (; tries < 4; tries++, damp *= 10) {
        double mean = gather(s, g->dead, g->order, h);
        for (int64_t i = 0; i < n; i++) h[i * n + i] += damp * mean;
        if (LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'L', n, h, n) == 0 && LAPACKE_dpotri(LAPACK_COL_MAJOR, 'L', n, h, n) == 0 && LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'L', n, h, n) == 0) return DSB_OK;
    }
    return dsb_fail(err, DSB_EINPUT, "the products of %lld calibration inputs have no inverse even with \"damp\" %g; more calibration tokens are wanted", (long long)s->n_token, damp / 10);
}

/* The statistics' own, made where they have none of this kind: gate and up, and every scheme, share it. */
static dsb_status find_factor(gptq *g, const dsb_input_stats *s, double damp, dsb_err *err) {
    dsb_gram_factor *f = s->factor;
    g->factor = f->upper;
    if (f->upper && f->damp == damp && f->act_order == g->act_order) return DSB_OK;
    if (!f->upper) DSB_TRY(DSB_NEW(f->upper, s->cols * s->cols, "products of calibration inputs", err));
    dsb_status st = factorize(g, s, damp, f->upper, err);
    if (st) free(f->upper);
    if (st) f->upper = NULL;
    f->damp = damp;
    f->act_order = g->act_order;
    g->factor = f->upper;
    return st;
}

/* Scales of the groups that begin at columns from .. to, from the weights as they are now. */
static void group_scales(const gptq *g, int64_t row, const double *now, int64_t from, int64_t to, float *scratch) {
    dsb_qtensor *q = g->q;
    for (int64_t k = (from + q->group - 1) / q->group; k < q->n_group && k * q->group < to; k++) {
        int64_t at = k * q->group, n = at + q->group < q->cols ? q->group : q->cols - at;
        float zero;
        for (int64_t i = 0; i < n; i++) scratch[i] = (float)now[at + i];
        dsb_group_scale(q, scratch, n, &q->scales[row * q->n_group + k], &zero);
        if (q->affine) q->zeros[row * q->n_group + k] = zero;
    }
}

/* now[j] -= e · u[j] */
DSB_CLONES static void subtract(double *now, const double *u, double e, int64_t n) {
    for (int64_t j = 0; j < n; j++) now[j] -= e * u[j];
}

/* Rounds one weight at place i; returns its error over the factor's diagonal. */
static double round_one(const gptq *g, int64_t row, int64_t i, double w) {
    dsb_qtensor *q = g->q;
    int64_t col = g->order[i], group = row * q->n_group + col / q->group;
    int half = 1 << ((int)q->format->bits - 1);
    double scale = (double)q->scales[group], zero = q->affine ? (double)q->zeros[group] : 0;
    double low = q->affine ? -half : -q->format->qmax, high = q->affine ? half - 1 : q->format->qmax;
    double code = scale > 0 ? rint(w / scale) + zero : zero;
    code = code < low ? low : code > high ? high : code;
    q->codes[row * q->cols + col] = (int8_t)code;
    return (w - scale * (code - zero)) / g->factor[i * q->cols + i];
}

static void run_rows(const gptq *g, int64_t first, int64_t n, double *now, float *scratch) {
    int64_t cols = g->q->cols;
    for (int64_t r = 0; r < n; r++)
        for (int64_t i = 0; i < cols; i++) now[r * cols + i] = g->dead[g->order[i]] ? 0 : (double)g->w[(first + r) * cols + g->order[i]];
    for (int64_t i = 0; i < cols; i++) {
        bool begins = i % g->block == 0;
        for (int64_t r = 0; r < n && begins && !g->act_order && g->q->asked != DSB_GROUP_TENSOR; r++) group_scales(g, first + r, now + r * cols, i, i + g->block, scratch);
        for (int64_t r = 0; r < n; r++) {
            double e = round_one(g, first + r, i, now[r * cols + i]);
            if (e != 0) subtract(now + r * cols + i + 1, g->factor + i * cols + i + 1, e, cols - i - 1);
        }
    }
}

/* Scales that don't follow the updates: of the whole tensor, or of all groups when columns are out of order. */
static void fixed_scales(const gptq *g) {
    dsb_qtensor *q = g->q;
    float one = 0, zero = 0;
    if (q->asked == DSB_GROUP_TENSOR) dsb_group_scale(q, g->w, q->rows * q->cols, &one, &zero);
    for (int64_t k = 0; k < q->rows * q->n_group; k++) {
        int64_t at = k % q->n_group * q->group, n = at + q->group < q->cols ? q->group : q->cols - at;
        if (q->asked != DSB_GROUP_TENSOR) dsb_group_scale(q, g->w + k / q->n_group * q->cols + at, n, &one, &zero);
        q->scales[k] = one;
        if (q->affine) q->zeros[k] = zero;
    }
}

static dsb_status run_all(const gptq *g, dsb_err *err) {
    int64_t cols = g->q->cols;
    bool ok = true;
    if (g->act_order || g->q->asked == DSB_GROUP_TENSOR) fixed_scales(g);
#pragma omp parallel
    {
        double *now = malloc((size_t)(ROWS * cols) * sizeof *now);
        float *scratch = malloc((size_t)cols * sizeof *scratch);
        if (!now || !scratch) {
#pragma omp atomic write
            ok = false;
        }
#pragma omp for schedule(dynamic)
        for (int64_t r = 0; r < g->q->rows; r += ROWS)
            if (now && scratch) run_rows(g, r, r + ROWS < g->q->rows ? ROWS : g->q->rows - r, now, scratch);
        free(now);
        free(scratch);
    }
    return ok ? DSB_OK : dsb_fail(err, DSB_ENOMEM, "no memory for GPTQ's rows");
}

static dsb_status prepare(gptq *g, const dsb_input_stats *s, bool *dead, dsb_err *err) {
    column *columns;
    DSB_TRY(DSB_NEW(columns, s->cols, "columns in order", err));
    for (int64_t i = 0; i < s->cols; i++) {
        columns[i] = (column){s->gram[i * s->cols + i], i};
        dead[i] = columns[i].diagonal == 0;
    }
    if (g->act_order) qsort(columns, (size_t)s->cols, sizeof *columns, falling);
    for (int64_t i = 0; i < s->cols; i++) g->order[i] = columns[i].at;
    free(columns);
    return DSB_OK;
}

dsb_status dsb_gptq(dsb_qtensor *q, const float *w, const dsb_input_stats *stats, double damp, bool act_order, int64_t block, dsb_err *err) {
    gptq g = {.q = q, .w = w, .act_order = act_order, .block = block};
    bool *dead = NULL;
    if (!stats->gram || stats->n_token == 0 || stats->cols != q->cols) return dsb_fail(err, DSB_EINTERNAL, "GPTQ has no calibration inputs of %lld columns", (long long)q->cols);
    dsb_status s = DSB_NEW(g.order, q->cols, "columns in order", err);
    if (!s) s = DSB_NEW(dead, q->cols, "columns in order", err);
    g.dead = dead;
    if (!s) s = prepare(&g, stats, dead, err);
    if (!s) s = find_factor(&g, stats, damp, err);
    if (!s) s = run_all(&g, err);
    free(g.order);
    free(dead);
    return s;
}
