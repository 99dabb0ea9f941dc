#include "quantizers/compensation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/format.h"
#include "base/memory.h"
#include "quantizers/codec.h"
#include "quantizers/dot.h"

void dsb_correction_release(dsb_correction *c) {
    free(c->a);
    free(c->b);
    free(c->bias);
    *c = (dsb_correction){0};
}

void dsb_correction_add(const dsb_correction *c, int64_t rows, int64_t cols, float *w) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < c->rank; k++)
            for (int64_t i = 0; i < cols; i++) w[r * cols + i] += c->a[r * c->rank + k] * c->b[k * cols + i];
}

static bool has_tokens(const dsb_input_stats *s) { return s && s->n_token > 0 && s->gram; }

/* λ: keeps what few tokens say from being taken for all. */
static double ridge(const dsb_input_stats *s, double damp) {
    double sum = 0;
    for (int64_t i = 0; i < s->cols; i++) sum += s->gram[i * s->cols + i];
    return damp * sum / (double)s->cols;
}

static double row_form(const dsb_input_stats *s, double lambda, const float *a, const float *b) {
    double sum = 0;
    for (int64_t i = 0; i < s->cols; i++)
        if (a[i] != 0) sum += (double)a[i] * (dsb_dot_df(s->gram + i * s->cols, b, s->cols) + lambda * (double)b[i]);
    return sum;
}

/* ---- scales ---- */

dsb_status dsb_fit_row_scales(const dsb_input_stats *s, double damp, const float *w, dsb_qtensor *q, float *decoded, dsb_err *err) {
    double lambda = ridge(s, damp);
    (void)err;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < q->rows; r++) {
        const float *v = decoded + r * q->cols;
        double own = row_form(s, lambda, v, v), with = row_form(s, lambda, v, w + r * q->cols);
        float factor = (float)(with / own);
        if (!(own > 0) || !(factor > 0) || isinf(factor)) continue;
        for (int64_t g = 0; g < q->n_group; g++) q->scales[r * q->n_group + g] *= factor;
    }
    dsb_dequantize(q, w, decoded);
    return DSB_OK;
}

/* Room for one row's normal equations: G s = b over its groups' scales. */
typedef struct normal {
    int64_t n, group;
    double *code;                   /* (cols): Q − Z */
    double *g, *b, *x, *r, *p, *gp; /* (n, n) and (n) */
} normal;

static void normal_release(normal *m) {
    free(m->code);
    free(m->g);
}

static bool normal_init(normal *m, const dsb_qtensor *q) {
    int64_t n = q->n_group;
    *m = (normal){.n = n, .group = q->group};
    m->code = malloc((size_t)q->cols * sizeof *m->code);
    m->g = malloc((size_t)(n * n + 5 * n) * sizeof *m->g);
    if (!m->code || !m->g) return false;
    m->b = m->g + n * n;
    m->x = m->b + n;
    m->r = m->x + n;
    m->p = m->r + n;
    m->gp = m->p + n;
    return true;
}

static void normal_fill(normal *m, const dsb_input_stats *s, double lambda, const float *w) {
    memset(m->g, 0, (size_t)(m->n * m->n + m->n) * sizeof *m->g); /* b follows g */
    for (int64_t i = 0; i < s->cols; i++) {
        const double *h = s->gram + i * s->cols;
        int64_t gi = i / m->group;
        if (m->code[i] == 0) continue;
        m->b[gi] += m->code[i] * (dsb_dot_df(h, w, s->cols) + lambda * (double)w[i]);
        for (int64_t j = 0; j < m->n; j++) {
            int64_t at = j * m->group, len = s->cols - at < m->group ? s->cols - at : m->group;
            m->g[gi * m->n + j] += m->code[i] * dsb_dot_dd(h + at, m->code + at, len);
        }
        m->g[gi * m->n + gi] += lambda * m->code[i] * m->code[i];
    }
}

/* Conjugate gradients from x; every step lessens the loss. */
static void normal_descend(normal *m) {
    int64_t n = m->n;
    for (int64_t i = 0; i < n; i++) m->p[i] = m->r[i] = m->b[i] - dsb_dot_dd(m->g + i * n, m->x, n);
    double rr = dsb_dot_dd(m->r, m->r, n), first = dsb_dot_dd(m->b, m->b, n);
    for (int64_t step = 0; step < 2 * n && rr > 1e-24 * first; step++) {
        for (int64_t i = 0; i < n; i++) m->gp[i] = dsb_dot_dd(m->g + i * n, m->p, n);
        double curve = dsb_dot_dd(m->p, m->gp, n);
        if (!(curve > 0)) return;
        double a = rr / curve, before = rr;
        for (int64_t i = 0; i < n; i++) m->x[i] += a * m->p[i], m->r[i] -= a * m->gp[i];
        rr = dsb_dot_dd(m->r, m->r, n);
        for (int64_t i = 0; i < n; i++) m->p[i] = m->r[i] + rr / before * m->p[i];
    }
}

dsb_status dsb_fit_group_scales(const dsb_input_stats *s, double damp, const float *w, dsb_qtensor *q, float *decoded, dsb_err *err) {
    double lambda = ridge(s, damp);
    bool failed = false;
#pragma omp parallel
    {
        normal m;
        bool ready = normal_init(&m, q);
        if (!ready) {
#pragma omp atomic write
            failed = true;
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < q->rows; r++) {
            if (!ready) continue;
            float *scale = q->scales + r * q->n_group;
            for (int64_t i = 0; i < q->cols; i++) m.code[i] = (double)q->codes[r * q->cols + i] - (q->zeros ? (double)q->zeros[r * q->n_group + i / q->group] : 0);
            for (int64_t g = 0; g < q->n_group; g++) m.x[g] = (double)scale[g];
            normal_fill(&m, s, lambda, w + r * q->cols);
            normal_descend(&m);
            bool fine = true;
            for (int64_t g = 0; g < q->n_group; g++) fine &= isfinite((float)m.x[g]) && ((float)m.x[g] > 0 || scale[g] == 0);
            for (int64_t g = 0; g < q->n_group && fine; g++) scale[g] = scale[g] == 0 ? 0 : (float)m.x[g];
        }
        normal_release(&m);
    }
    if (failed) return dsb_fail(err, DSB_ENOMEM, "no memory for the scales of a tensor");
    dsb_dequantize(q, w, decoded);
    return DSB_OK;
}

/* ---- low rank ---- */

/* Vectors of length n, k of them, made orthonormal in their order, twice for rounding; what depends on those before becomes zero. */
static void orthonormal(double *u, int64_t k, int64_t n) {
    for (int64_t i = 0; i < k; i++) {
        double *v = u + i * n, size = sqrt(dsb_dot_dd(v, v, n)), left;
        for (int twice = 0; twice < 2; twice++)
            for (int64_t j = 0; j < i; j++) {
                double c = dsb_dot_dd(v, u + j * n, n);
                for (int64_t x = 0; x < n; x++) v[x] -= c * u[j * n + x];
            }
        left = sqrt(dsb_dot_dd(v, v, n));
        bool fresh = left > 1e-10 * size;
        for (int64_t x = 0; x < n; x++) v[x] = fresh ? v[x] / left : 0;
    }
}

/* Eigenvectors (rows of v) of the symmetric s (k, k) by Jacobi's rotations; s becomes its diagonal. */
static void jacobi(double *s, double *v, int64_t k) {
    for (int64_t i = 0; i < k * k; i++) v[i] = i % (k + 1) == 0;
    for (int sweep = 0; sweep < 30; sweep++)
        for (int64_t p = 0; p < k; p++)
            for (int64_t q = p + 1; q < k; q++) {
                double off = s[p * k + q];
                if (off * off <= 1e-30 * fabs(s[p * k + p] * s[q * k + q])) continue;
                double theta = (s[q * k + q] - s[p * k + p]) / (2 * off), t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1)), c = 1 / sqrt(t * t + 1), d = t * c;
                for (int64_t i = 0; i < k; i++) {
                    double a = s[i * k + p], b = s[i * k + q];
                    s[i * k + p] = c * a - d * b;
                    s[i * k + q] = d * a + c * b;
                }
                for (int64_t i = 0; i < k; i++) {
                    double a = s[p * k + i], b = s[q * k + i], x = v[p * k + i], y = v[q * k + i];
                    s[p * k + i] = c * a - d * b;
                    s[q * k + i] = d * a + c * b;
                    v[p * k + i] = c * x - d * y;
                    v[q * k + i] = d * x + c * y;
                }
            }
}

/* t (k, cols) = u (k, rows) · e. */
DSB_CLONES static void times_e(const double *u, int64_t rows, const float *e, int64_t cols, double *t) {
    memset(t, 0, (size_t)cols * sizeof *t);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < cols; i++) t[i] += u[r] * (double)e[r * cols + i];
}

typedef struct factors {
    int64_t rows, cols, k;
    const float *e;
    const dsb_input_stats *s; /* NULL: plain squares */
    double lambda;
    double *u, *t, *ht; /* (k, rows), (k, cols), (k, cols) */
} factors;

/* t = u·e and ht = t·(H + λ). */
static void project(factors *f) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < f->k; i++) {
        double *t = f->t + i * f->cols, *ht = f->ht + i * f->cols;
        times_e(f->u + i * f->rows, f->rows, f->e, f->cols, t);
        for (int64_t c = 0; c < f->cols; c++) ht[c] = f->s ? dsb_dot_dd(f->s->gram + c * f->cols, t, f->cols) + f->lambda * t[c] : t[c];
    }
}

static float to_bf16(double x) { return dsb_bf16_to_f32(dsb_f32_to_bf16((float)x)); }

/* The rank largest of k directions: a = their u, b = a's own projection of e, which no other b betters. */
static dsb_status take_factors(const factors *f, int64_t rank, dsb_correction *out, dsb_err *err) {
    int64_t k = f->k;
    double *s, *v;
    int64_t *order;
    DSB_TRY(DSB_NEW(s, 2 * k * k + k, "low-rank factors", err));
    v = s + k * k;
    order = (int64_t *)(v + k * k);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j <= i; j++) s[i * k + j] = s[j * k + i] = dsb_dot_dd(f->t + i * f->cols, f->ht + j * f->cols, f->cols);
    jacobi(s, v, k);
    for (int64_t i = 0; i < k; i++) {
        int64_t at = i;
        for (; at > 0 && s[order[at - 1] * (k + 1)] < s[i * (k + 1)]; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    out->rank = rank;
    dsb_status st = DSB_NEW(out->a, f->rows * rank, "low-rank factors", err);
    if (!st) st = DSB_NEW(out->b, rank * f->cols, "low-rank factors", err);
    for (int64_t i = 0; i < rank && !st; i++) {
        const double *mix = v + order[i] * k;
        for (int64_t r = 0; r < f->rows; r++) {
            double sum = 0;
            for (int64_t j = 0; j < k; j++) sum += mix[j] * f->u[j * f->rows + r];
            out->a[r * rank + i] = to_bf16(sum);
        }
        for (int64_t c = 0; c < f->cols; c++) {
            double sum = 0;
            for (int64_t j = 0; j < k; j++) sum += mix[j] * f->t[j * f->cols + c];
            out->b[i * f->cols + c] = to_bf16(sum);
        }
    }
    free(s);
    return st;
}

/* Subspace iteration on E (H + λ) Eᵀ with eight directions more than wanted, from a fixed start. Its best rank-r subspace U gives A = U, B = Uᵀ E:
 * the best approximation of E·S, S Sᵀ = H + λ, is U Uᵀ E S, so that S is never formed. */
dsb_status dsb_fit_low_rank(const dsb_input_stats *s, double damp, const float *e, int64_t rows, int64_t cols, int64_t rank, dsb_correction *out, dsb_err *err) {
    enum { MORE = 8, STEPS = 6 };
    int64_t small = rows < cols ? rows : cols;
    factors f = {.rows = rows, .cols = cols, .e = e, .s = has_tokens(s) ? s : NULL};
    if (rank > small) rank = small;
    f.k = rank + MORE < small ? rank + MORE : small;
    if (f.s) f.lambda = ridge(s, damp);
    DSB_TRY(DSB_NEW(f.u, f.k * (rows + 2 * cols), "low-rank factors", err));
    f.t = f.u + f.k * rows;
    f.ht = f.t + f.k * cols;
    uint64_t seed = 0x9E3779B97F4A7C15u;
    for (int64_t i = 0; i < f.k * rows; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        f.u[i] = (double)(seed >> 11) * 0x1p-52 - 1; /* no signs: few of them are easily dependent */
    }
    orthonormal(f.u, f.k, rows);
    for (int step = 0; step < STEPS; step++) {
        project(&f);
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < f.k; i++)
            for (int64_t r = 0; r < rows; r++) f.u[i * rows + r] = dsb_dot_df(f.ht + i * cols, e + r * cols, cols);
        orthonormal(f.u, f.k, rows);
    }
    project(&f);
    dsb_status st = take_factors(&f, rank, out, err);
    free(f.u);
    return st;
}

/* ---- ridge least squares ---- */

/* h (n, n) = its Cholesky factor, below and on the diagonal; false: not positive. */
static bool cholesky(double *h, int64_t n) {
    for (int64_t j = 0; j < n; j++) {
        double *hj = h + j * n, top = hj[j] - dsb_dot_dd(hj, hj, j);
        if (!(top > 0)) return false;
        hj[j] = sqrt(top);
#pragma omp parallel for schedule(static) if (n - j > 64)
        for (int64_t i = j + 1; i < n; i++) h[i * n + j] = (h[i * n + j] - dsb_dot_dd(h + i * n, hj, j)) / hj[j];
    }
    return true;
}

dsb_status dsb_fit_residual(const dsb_input_stats *s, double damp, const double *c, int64_t rows, float *w, dsb_err *err) {
    int64_t n = s->cols;
    double *l, *x, lambda;
    if (!has_tokens(s)) return dsb_fail(err, DSB_EINPUT, "calibration saw no token");
    lambda = ridge(s, damp);
    DSB_TRY(DSB_NEW(l, n * n, "products of calibration inputs", err));
    dsb_status st = DSB_NEW(x, rows * n, "a router", err);
    if (st) {
        free(l);
        return st;
    }
    memcpy(l, s->gram, (size_t)(n * n) * sizeof *l);
    for (int64_t i = 0; i < n; i++) l[i * n + i] += lambda;
    if (cholesky(l, n)) {
        memcpy(x, c, (size_t)(rows * n) * sizeof *x);
#pragma omp parallel for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            double *y = x + r * n;
            for (int64_t i = 0; i < n; i++) y[i] = (y[i] - dsb_dot_dd(l + i * n, y, i)) / l[i * n + i];
            for (int64_t i = n; i-- > 0;) {
                y[i] /= l[i * n + i];
                for (int64_t j = 0; j < i; j++) y[j] -= y[i] * l[i * n + j];
            }
            for (int64_t i = 0; i < n; i++) w[r * n + i] = (float)((double)w[r * n + i] + y[i]);
        }
    } else {
        st = dsb_fail(err, DSB_EINPUT, "products of calibration inputs are not finite, or zero");
    }
    free(l);
    free(x);
    return st;
}

/* ---- all of a rule ---- */

/* Mean of (W − Ŵ) x over the tokens. */
static dsb_status fit_bias(const dsb_input_stats *s, const float *e, int64_t rows, float **bias, dsb_err *err) {
    DSB_TRY(DSB_NEW(*bias, rows, "a bias", err));
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) (*bias)[r] = (float)(dsb_dot_df(s->sum, e + r * s->cols, s->cols) / (double)s->n_token);
    return DSB_OK;
}

/* Σ ‖e x − bias‖². */
static double loss_of(const dsb_input_stats *s, const float *e, int64_t rows, const float *bias) {
    double sum = dsb_input_loss(s, e, NULL, rows);
    for (int64_t r = 0; bias && r < rows; r++) sum += (double)bias[r] * ((double)s->n_token * (double)bias[r] - 2 * dsb_dot_df(s->sum, e + r * s->cols, s->cols));
    return sum;
}

static void subtract(const float *w, const float *v, int64_t n, float *e) {
    for (int64_t i = 0; i < n; i++) e[i] = w[i] - v[i];
}

static dsb_status compensate(const dsb_rule *rule, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *s, dsb_qtensor *q, float *decoded, float *e, dsb_correction *out, dsb_compensated *won, dsb_err *err) {
    int64_t n = rows * cols;
    bool tokens = has_tokens(s), scales = tokens && q->scales && q->codes;
    double total = tokens ? dsb_input_loss(s, w, NULL, rows) : 0;
    subtract(w, decoded, n, e);
    if (tokens && total > 0) won->loss_before = won->loss_after = loss_of(s, e, rows, NULL) / total;
    if (tokens && won->loss_before < rule->threshold) return DSB_OK;
    if (scales && rule->compensation & DSB_COMP_SCALE) {
        DSB_TRY(dsb_fit_row_scales(s, rule->damp, w, q, decoded, err));
        won->done |= DSB_COMP_SCALE;
    }
    if (scales && rule->compensation & DSB_COMP_SCALE_GRADIENT) {
        DSB_TRY(dsb_fit_group_scales(s, rule->damp, w, q, decoded, err));
        won->done |= DSB_COMP_SCALE_GRADIENT;
    }
    subtract(w, decoded, n, e);
    if (rule->compensation & DSB_COMP_LOW_RANK) {
        DSB_TRY(dsb_fit_low_rank(s, rule->damp, e, rows, cols, rule->rank, out, err));
        won->done |= DSB_COMP_LOW_RANK;
        won->bytes += (size_t)(out->rank * (rows + cols)) * 2;
        memcpy(e, decoded, (size_t)n * sizeof *e);
        dsb_correction_add(out, rows, cols, e);
        subtract(w, e, n, e);
    }
    if (tokens && s->sum && rule->compensation & DSB_COMP_BIAS) {
        DSB_TRY(fit_bias(s, e, rows, &out->bias, err));
        won->done |= DSB_COMP_BIAS;
        won->bytes += (size_t)rows * sizeof *out->bias;
    }
    if (total > 0) won->loss_after = loss_of(s, e, rows, out->bias) / total;
    return DSB_OK;
}

dsb_status dsb_compensate(const dsb_rule *rule, const float *w, int64_t rows, int64_t cols, const dsb_input_stats *stats, dsb_qtensor *q, float *decoded, dsb_correction *out, dsb_compensated *won, dsb_err *err) {
    int wanted = rule->compensation & (DSB_COMP_SCALE | DSB_COMP_SCALE_GRADIENT | DSB_COMP_LOW_RANK | DSB_COMP_BIAS);
    double start = dsb_now_s();
    float *e;
    *out = (dsb_correction){0};
    *won = (dsb_compensated){0};
    if (!wanted) return DSB_OK;
    won->starved = !has_tokens(stats);
    if (won->starved && !(wanted & DSB_COMP_LOW_RANK)) return DSB_OK;
    DSB_TRY(DSB_NEW(e, rows * cols, "an error", err));
    dsb_status s = compensate(rule, w, rows, cols, stats, q, decoded, e, out, won, err);
    free(e);
    if (s) dsb_correction_release(out);
    won->ms = (dsb_now_s() - start) * 1e3;
    return s;
}
