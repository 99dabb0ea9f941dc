#include "reports/spark.h"

#include <math.h>
#include <string.h>

#include "metrics/moments.h"

enum { LEVELS = 8 };

/* 0 .. LEVELS − 1; −1: no figure. */
static int level_of(double v, double lo, double hi) {
    if (isnan(v)) return -1;
    if (!(v > lo)) return 0;
    if (!(v < hi)) return LEVELS - 1;
    return (int)(log(v / lo) / log(hi / lo) * LEVELS);
}

/* The larger, or the one that is a figure. */
static double larger(double a, double b) { return isnan(a) || b > a ? b : a; }

void dsb_spark(dsb_text *out, const double *v, int64_t n, double lo, double hi) {
    static const char *const k_block[LEVELS] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
    int64_t width = n < DSB_SPARK_WIDTH ? n : DSB_SPARK_WIDTH;
    for (int64_t i = 0; i < width; i++) {
        double worst = NAN;
        for (int64_t j = i * n / width; j < (i + 1) * n / width; j++) worst = larger(worst, v[j]);
        int level = level_of(worst, lo, hi);
        dsb_text_put(out, level < 0 ? " " : k_block[level]);
    }
}

/* Figures as a table: rows have labels, columns are layers or experts. */
typedef struct plane {
    int64_t n_row, n_column;
    const char **label;
    double *v; /* (n_row, n_column), NaN: none */
} plane;

static dsb_status plane_take(plane *p, dsb_arena *arena, int64_t n_row, int64_t n_column, dsb_err *err) {
    *p = (plane){ .n_row = n_row, .n_column = n_column };
    DSB_TRY(dsb_arena_take(arena, (void **)&p->label, (size_t)n_row + 1, sizeof *p->label, "lines", err));
    DSB_TRY(dsb_arena_take(arena, (void **)&p->v, (size_t)(n_row * n_column) + 1, sizeof *p->v, "lines", err));
    for (int64_t i = 0; i < n_row * n_column; i++) p->v[i] = NAN;
    return DSB_OK;
}

static void plane_add(plane *p, int64_t row, int64_t column, double v) {
    if (row < 0 || column < 0 || column >= p->n_column) return;
    double *at = &p->v[row * p->n_column + column];
    *at = larger(*at, v);
}

/* A row a scheme that the filter takes, a column a layer. */
static dsb_status plane_of_schemes(plane *p, const dsb_run_data *d, const dsb_filter *f, dsb_arena *arena, dsb_err *err) {
    DSB_TRY(plane_take(p, arena, d->n_scheme, dsb_run_layer_count(d), err));
    for (int64_t i = 0; i < d->n_scheme; i++) p->label[i] = !f->scheme || !strcmp(f->scheme, d->schemes[i].name) ? d->schemes[i].name : NULL;
    return DSB_OK;
}

static int64_t row_of(const plane *p, const char *scheme) {
    for (int64_t i = 0; i < p->n_row; i++)
        if (p->label[i] && !strcmp(p->label[i], scheme)) return i;
    return -1;
}

static dsb_status draw(const plane *p, dsb_arena *arena, const char *what, const char *label, const char *along, dsb_spark_lines *out, dsb_err *err) {
    double lo = INFINITY, hi = 0;
    dsb_grid_head *heads;
    DSB_TRY(dsb_arena_take(arena, (void **)&heads, 4, sizeof *heads, "lines", err));
    heads[0] = (dsb_grid_head){ label, label, NULL, true };
    heads[1] = (dsb_grid_head){ "line", dsb_text_format(arena, "%ss 0–%lld", along, (long long)p->n_column - 1), NULL, true };
    heads[2] = (dsb_grid_head){ "worst", "worst", NULL, false };
    heads[3] = (dsb_grid_head){ along, dsb_text_format(arena, "at %s", along), NULL, false };
    dsb_grid_init(&out->grid, arena, heads, 4);
    for (int64_t i = 0; i < p->n_row * p->n_column; i++)
        if (p->v[i] > 0 && isfinite(p->v[i])) lo = fmin(lo, p->v[i]), hi = fmax(hi, p->v[i]);
    out->caption = dsb_text_format(arena, "%s: ▁ %.1e to █ %.1e, log scale", what, lo, hi);
    for (int64_t r = 0; r < p->n_row && hi > 0; r++) {
        const double *v = p->v + r * p->n_column;
        int64_t at = -1;
        dsb_text line;
        for (int64_t c = 0; c < p->n_column; c++)
            if (!isnan(v[c]) && (at < 0 || v[c] > v[at])) at = c;
        if (at < 0 || !p->label[r]) continue;
        dsb_text_init(&line);
        dsb_spark(&line, v, p->n_column, lo, hi);
        dsb_status s = dsb_text_check(&line, "a line", err);
        if (!s) {
            dsb_grid_text(&out->grid, p->label[r]);
            dsb_grid_text(&out->grid, line.data);
            dsb_grid_figure(&out->grid, v[at], "%.1e", v[at]);
            dsb_grid_int(&out->grid, at);
        }
        dsb_text_release(&line);
        if (s) return s;
    }
    return DSB_OK;
}

static bool one_place(const dsb_filter *f) { return f->layer >= 0 || f->expert >= 0; }

dsb_status dsb_spark_layers(const dsb_run_data *d, const dsb_filter *f, dsb_arena *arena, dsb_spark_lines *out, dsb_err *err) {
    const char *kind = f->kind ? f->kind : "accumulated";
    plane p;
    *out = (dsb_spark_lines){ .grid = { .n_column = 1 } };
    if (one_place(f)) return DSB_OK;
    DSB_TRY(plane_of_schemes(&p, d, f, arena, err));
    for (int64_t i = 0; i < d->n_layer_row; i++) {
        const dsb_layer_error *e = &d->layers[i];
        if (!strcmp(e->kind, kind) && !strcmp(e->point, "block")) plane_add(&p, row_of(&p, e->scheme), e->layer, dsb_moments_nmse(&e->m));
    }
    return draw(&p, arena, dsb_text_format(arena, "nmse of each block's output, %s", kind), "scheme", "layer", out, err);
}

dsb_status dsb_spark_routing(const dsb_run_data *d, const dsb_filter *f, dsb_arena *arena, dsb_spark_lines *out, dsb_err *err) {
    plane p;
    *out = (dsb_spark_lines){ .grid = { .n_column = 1 } };
    if (one_place(f)) return DSB_OK;
    DSB_TRY(plane_of_schemes(&p, d, f, arena, err));
    for (int64_t i = 0; i < d->n_routing; i++) {
        const dsb_routing_layer *r = &d->routing[i];
        if (!strcmp(r->metric, "selection_change") && !strcmp(r->kind, "accumulated")) plane_add(&p, row_of(&p, r->scheme), r->layer, 100 * r->value);
    }
    return draw(&p, arena, "tokens rerouted, %, each scheme on its own stream", "scheme", "layer", out, err);
}

dsb_status dsb_spark_tensors(const dsb_run_data *d, const dsb_tensor_error *rows, int64_t n, const dsb_filter *f, dsb_arena *arena, dsb_spark_lines *out, dsb_err *err) {
    plane p;
    *out = (dsb_spark_lines){ .grid = { .n_column = 1 } };
    if (one_place(f)) return DSB_OK;
    DSB_TRY(plane_of_schemes(&p, d, f, arena, err));
    for (int64_t i = 0; i < n; i++) plane_add(&p, row_of(&p, rows[i].scheme), rows[i].layer, dsb_moments_nmse(&rows[i].m));
    return draw(&p, arena, "largest nmse of a layer's weights", "scheme", "layer", out, err);
}

dsb_status dsb_spark_experts(const dsb_run_data *d, const char *scheme, const dsb_filter *f, dsb_arena *arena, dsb_spark_lines *out, dsb_err *err) {
    int64_t n_layer = dsb_run_layer_count(d);
    plane p;
    *out = (dsb_spark_lines){ .grid = { .n_column = 1 } };
    if (f->expert >= 0) return DSB_OK;
    DSB_TRY(plane_take(&p, arena, n_layer, dsb_run_expert_count(d), err));
    for (int64_t l = 0; l < n_layer; l++) p.label[l] = f->layer < 0 || f->layer == l ? dsb_text_format(arena, "%lld", (long long)l) : NULL;
    for (int64_t i = 0; i < d->n_expert_row; i++) {
        const dsb_routing_expert *e = &d->experts[i];
        if (!strcmp(e->kind, "accumulated") && !strcmp(e->scheme, scheme) && e->layer < n_layer && p.label[e->layer]) plane_add(&p, e->layer, e->expert, dsb_run_expert_nmse(d, e));
    }
    return draw(&p, arena, dsb_text_format(arena, "nmse of each expert's output under %.60s", scheme), "layer", "expert", out, err);
}
