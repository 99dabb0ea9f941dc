/* Routing by layer and by scheme, throughput, calibration coverage. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reports/inspect.h"

/* One (scheme, layer): its figures on the scheme's own stream; `rows` in the record have one metric each. */
enum { SELECTION, SELECTION_BLOCK, SELECTION_ISOLATED, SLOT, TOP1, GATE_L1, MASS_LOST, ROUTER_KLD, GROUP, LOAD_CV, LOAD_TV, N_FIGURE };
static const struct figure {
    const char *name, *metric, *kind;
} figures[N_FIGURE] = {
    { "selection_change", "selection_change", "accumulated" },
    { "selection_change_block", "selection_change", "block" },
    { "selection_change_isolated", "selection_change", "isolated" },
    { "slot_change", "slot_change", "accumulated" },
    { "top1_change", "top1_change", "accumulated" },
    { "gate_l1", "gate_l1", "accumulated" },
    { "mass_lost", "mass_lost", "accumulated" },
    { "router_kld", "router_kld", "accumulated" },
    { "group_change", "group_change", "accumulated" },
    { "load_cv", "load_cv", "accumulated" },
    { "load_tv", "load_tv", "accumulated" },
};

typedef struct drift {
    const char *scheme;
    int64_t layer, order;
    double value[N_FIGURE];
    double badness;
} drift;

static int by_badness(const void *pa, const void *pb) {
    const drift *a = pa, *b = pb;
    if (a->badness != b->badness) return a->badness < b->badness ? 1 : -1;
    return a->order < b->order ? -1 : 1;
}

static int sort_index(const char *name, dsb_err *err) {
    char names[400] = "";
    for (int i = 0; i < N_FIGURE; i++) {
        if (!name || !strcmp(figures[i].name, name)) return i;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", figures[i].name);
    }
    dsb_fail(err, DSB_EUSAGE, "--sort %s: this table has no such metric; it has: %s", name, names);
    return -1;
}

static drift *find_drift(drift *list, int64_t *n, const char *scheme, int64_t layer) {
    for (int64_t i = *n - 1; i >= 0; i--) /* rows come by scheme and layer: the last one is nearly always it */
        if (list[i].layer == layer && !strcmp(list[i].scheme, scheme)) return &list[i];
    drift *d = &list[(*n)++];
    *d = (drift){ .scheme = scheme, .layer = layer, .order = *n };
    for (int k = 0; k < N_FIGURE; k++) d->value[k] = NAN;
    return d;
}

static dsb_status gather(const dsb_run_data *data, const dsb_filter *f, dsb_arena *arena, drift **out, int64_t *n, dsb_err *err) {
    *n = 0;
    DSB_TRY(dsb_arena_take(arena, (void **)out, (size_t)data->n_routing + 1, sizeof **out, "a table", err));
    for (int64_t i = 0; i < data->n_routing; i++) {
        const dsb_routing_layer *r = &data->routing[i];
        if ((f->scheme ? strcmp(f->scheme, r->scheme) : !strcmp(r->scheme, DSB_REFERENCE)) || r->layer < 0 || (f->layer >= 0 && f->layer != r->layer)) continue;
        drift *d = find_drift(*out, n, r->scheme, r->layer);
        for (int k = 0; k < N_FIGURE; k++)
            if (!strcmp(figures[k].metric, r->metric) && !strcmp(figures[k].kind, r->kind)) d->value[k] = r->value;
    }
    return DSB_OK;
}

static void percent(dsb_grid *g, double share) { dsb_grid_figure(g, share, "%.2f", 100 * share); }

static void drift_cells(dsb_grid *g, const double *v) {
    for (int k = SELECTION; k <= MASS_LOST; k++) percent(g, v[k]);
    dsb_grid_figure(g, v[ROUTER_KLD], "%.2e", v[ROUTER_KLD]);
    percent(g, v[GROUP]);
    dsb_grid_figure(g, v[LOAD_CV], "%.3f", v[LOAD_CV]);
    percent(g, v[LOAD_TV]);
}

#define DRIFT_HEADS                                                                                                                   \
    { "selection_change", "rerouted", "own stream, %", false }, { "selection_change_block", "rerouted", "after attention, %", false }, \
    { "selection_change_isolated", "rerouted", "router alone, %", false }, { "slot_change", "slots", "changed, %", false },            \
    { "top1_change", "heaviest expert", "changed, %", false }, { "gate_l1", "gate weight", "moved, %", false },                        \
    { "mass_lost", "gate weight", "lost, %", false }, { "router_kld", "router KLD", "nats/token", false },                             \
    { "group_change", "groups", "changed, %", false }, { "load_cv", "load", "cv", false }, { "load_tv", "load", "shifted, %", false }

dsb_status dsb_inspect_routing(const dsb_run_data *data, const dsb_filter *f, dsb_arena *arena, dsb_grid *g, dsb_err *err) {
    static const dsb_grid_head heads[] = { { "scheme", "scheme", NULL, true }, { "layer", "layer", NULL, false }, DRIFT_HEADS };
    drift *list;
    int64_t n = 0;
    int key = sort_index(f->sort, err);
    if (key < 0) return DSB_EUSAGE;
    DSB_TRY(gather(data, f, arena, &list, &n, err));
    for (int64_t i = 0; i < n; i++) list[i].badness = isnan(list[i].value[key]) ? -INFINITY : list[i].value[key];
    qsort(list, (size_t)n, sizeof *list, by_badness);
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < n && (f->top <= 0 || i < f->top); i++) {
        dsb_grid_text(g, list[i].scheme);
        dsb_grid_int(g, list[i].layer);
        drift_cells(g, list[i].value);
    }
    return DSB_OK;
}

void dsb_inspect_routing_summary(const dsb_run_data *data, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = { { "scheme", "scheme", NULL, true }, DRIFT_HEADS };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < data->n_scheme; i++) {
        double value[N_FIGURE];
        bool any = false;
        if (!strcmp(data->schemes[i].name, DSB_REFERENCE)) continue;
        for (int k = 0; k < N_FIGURE; k++) {
            value[k] = dsb_run_routing_mean(data, data->schemes[i].name, figures[k].kind, figures[k].metric);
            any |= !isnan(value[k]);
        }
        if (!any) continue;
        dsb_grid_text(g, data->schemes[i].name);
        drift_cells(g, value);
    }
}

/* Rows in the schemes' order, prefill before decode. */
void dsb_inspect_speed(const dsb_run_data *d, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },          { "phase", "phase", NULL, true },           { "n_token", "tokens", NULL, false },
        { "depth", "depth", NULL, false },           { "batch", "batch", NULL, false },          { "tps_median", "tokens/s", "median", false },
        { "tps_min", "tokens/s", "slowest", false }, { "tps_max", "tokens/s", "fastest", false }, { "repeats", "repeats", NULL, false },
        { "gbps", "weights", "GB/s", false },        { "gops", "arithmetic", "GOP/s", false },   { "roofline_percent", "roofline", "%", false },
        { "read_gbps", "memory reads", "GB/s", false }, { "triad_gbps", "STREAM triad", "GB/s", false }, { "peak_gops", "peak", "GOP/s", false }, { "busy_percent", "other load", "%", false },
        { "ttft_ms", "first token", "ms", false },   { "tpot_ms", "per token", "ms", false },    { "tpot_p50_ms", "per token", "ms, p50", false },
        { "tpot_p99_ms", "per token", "ms, p99", false }, { "kernel", "kernels", NULL, true },
    };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < d->n_scheme * 2; i++)
        for (int64_t j = 0; j < d->n_speed; j++) {
            const dsb_throughput *t = &d->speed[j];
            if (strcmp(t->scheme, d->schemes[i % d->n_scheme].name) || (i < d->n_scheme) != !strcmp(t->phase, "prefill")) continue;
            int digits = t->tps_median < 10 ? 2 : t->tps_median < 100 ? 1 : 0;
            dsb_grid_text(g, t->scheme);
            dsb_grid_text(g, t->phase);
            dsb_grid_int(g, t->n_token);
            dsb_grid_int(g, t->depth);
            dsb_grid_int(g, t->batch);
            dsb_grid_figure(g, t->tps_median, "%.*f", digits, t->tps_median);
            dsb_grid_figure(g, t->tps_min, "%.*f", digits, t->tps_min);
            dsb_grid_figure(g, t->tps_max, "%.*f", digits, t->tps_max);
            dsb_grid_int(g, t->repeats);
            dsb_grid_figure(g, t->gbps, "%.2f", t->gbps);
            dsb_grid_figure(g, t->gops, "%.1f", t->gops);
            dsb_grid_figure(g, t->roofline_percent, "%.0f", t->roofline_percent);
            dsb_grid_figure(g, t->read_gbps, "%.1f", t->read_gbps);
            dsb_grid_figure(g, t->triad_gbps, "%.1f", t->triad_gbps);
            dsb_grid_figure(g, t->peak_gops, "%.0f", t->peak_gops);
            dsb_grid_figure(g, t->busy_percent, "%.0f", t->busy_percent);
            dsb_grid_figure(g, t->ttft_ms, "%.1f", t->ttft_ms);
            dsb_grid_figure(g, t->tpot_ms, "%.2f", t->tpot_ms);
            dsb_grid_figure(g, t->tpot_p50_ms, "%.2f", t->tpot_p50_ms);
            dsb_grid_figure(g, t->tpot_p99_ms, "%.2f", t->tpot_p99_ms);
            dsb_grid_text(g, t->kernel);
        }
}

void dsb_inspect_coverage(const dsb_run_data *d, dsb_arena *arena, dsb_grid *g) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },        { "experts", "experts", "all layers", false }, { "uncovered", "below", "the minimum", false },
        { "minimum", "minimum", "tokens", false }, { "least", "least", "tokens", false },         { "layer", "layer", "of the least", false },
        { "expert", "expert", "of the least", false }, { "fallback", "what stands in", NULL, true },
    };
    dsb_grid_init(g, arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < d->n_scheme; i++) {
        const dsb_calibration_coverage *least = NULL;
        const char *fallback = NULL;
        int64_t n = 0, under = 0;
        for (int64_t j = 0; j < d->n_coverage; j++) {
            const dsb_calibration_coverage *c = &d->coverage[j];
            if (strcmp(c->scheme, d->schemes[i].name) || c->expert < 0) continue;
            n++;
            under += c->tokens < c->minimum;
            if (c->fallback) fallback = c->fallback;
            if (!least || c->tokens < least->tokens) least = c;
        }
        if (!n) continue;
        dsb_grid_text(g, d->schemes[i].name);
        dsb_grid_int(g, n);
        dsb_grid_int(g, under);
        dsb_grid_int(g, least->minimum);
        dsb_grid_int(g, least->tokens);
        dsb_grid_int(g, least->layer);
        dsb_grid_int(g, least->expert);
        dsb_grid_text(g, fallback);
    }
}
