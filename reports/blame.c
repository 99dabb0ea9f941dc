#include "reports/blame.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "metrics/moments.h"
#include "reports/text.h"

/* A layer changed by itself where an nmse moved by a tenth, or one token in 500 goes elsewhere: less is what another order of additions does. */
#define CHANGED 0.1
#define REROUTED 0.002
/* Below the error of BF16 rounding itself (2^-9 relative, 1e-6 of nmse) a ratio says nothing. */
#define NMSE_LEAST 1e-7

const char *dsb_cause_name(dsb_cause cause) {
    static const char *const names[] = { "weights", "router", "activations", "upstream" };
    return names[cause];
}

static double log_ratio(double base, double head) { return fabs(log((fmax(head, 0) + NMSE_LEAST) / (fmax(base, 0) + NMSE_LEAST))); }

typedef struct pair {
    const dsb_run_data *base, *head;
    const char *bs, *hs;
    const dsb_weights_diff *weights;
    int64_t n_weights;
} pair;

static bool nmse_at(const pair *p, int64_t layer, const char *point, const char *kind, double *base, double *head) {
    const dsb_layer_error *b = dsb_run_layer(p->base, p->bs, layer, point, kind), *h = dsb_run_layer(p->head, p->hs, layer, point, kind);
    if (!b || !h) return false;
    *base = dsb_moments_nmse(&b->m);
    *head = dsb_moments_nmse(&h->m);
    return isfinite(*base) && isfinite(*head);
}

static void rerouted(const pair *p, dsb_blame *out, const char *kind) {
    out->base_rerouted = dsb_run_routing(p->base, p->bs, out->layer, kind, "selection_change");
    out->head_rerouted = dsb_run_routing(p->head, p->hs, out->layer, kind, "selection_change");
}

/* The output of the layer that changed most on the reference's input. */
static double own_change(const pair *p, dsb_blame *out) {
    static const char *const points[] = { "attention", "mlp", "block" };
    double most = 0;
    out->point = "block";
    for (int i = 0; i < 3; i++) {
        double b, h;
        if (!nmse_at(p, out->layer, points[i], "isolated", &b, &h) || log_ratio(b, h) <= most) continue;
        most = log_ratio(b, h);
        out->point = points[i];
        out->base_nmse = b;
        out->head_nmse = h;
    }
    return most;
}

static double weights_change(const pair *p, int64_t layer) {
    for (int64_t i = 0; i < p->n_weights; i++)
        if (p->weights[i].layer == layer) return log_ratio(p->weights[i].base_nmse, p->weights[i].head_nmse);
    return 0;
}

/* One layer's row; false where it did not change. */
static bool judge_layer(const pair *p, int64_t layer, dsb_blame *out) {
    *out = (dsb_blame){ .base_scheme = p->bs, .head_scheme = p->hs, .layer = layer, .base_nmse = NAN, .head_nmse = NAN };
    double own = own_change(p, out), weights = weights_change(p, layer), b, h;
    rerouted(p, out, "isolated");
    double router = fabs(out->head_rerouted - out->base_rerouted); /* NAN: none */
    bool parts = (!strcmp(out->point, "attention") || !strcmp(out->point, "mlp")) && own >= CHANGED;
    out->score = fmax(fmax(own, weights), isnan(router) ? 0 : router);
    if (weights >= CHANGED) out->cause = DSB_CAUSE_WEIGHTS;
    else if (router >= REROUTED && !parts) out->cause = DSB_CAUSE_ROUTER;
    else if (own >= CHANGED) out->cause = DSB_CAUSE_ACTIVATIONS;
    else {
        out->cause = DSB_CAUSE_UPSTREAM;
        out->point = "block";
        rerouted(p, out, "accumulated");
        if (!nmse_at(p, layer, "block", "accumulated", &b, &h)) return false;
        out->base_nmse = b;
        out->head_nmse = h;
        out->score = log_ratio(b, h);
        return out->score >= CHANGED || fabs(out->head_rerouted - out->base_rerouted) >= REROUTED;
    }
    return true;
}

/* Own causes before those that only follow; the larger change first. */
static bool ranks_before(const dsb_blame *a, const dsb_blame *b) {
    bool own_a = a->cause != DSB_CAUSE_UPSTREAM, own_b = b->cause != DSB_CAUSE_UPSTREAM;
    return own_a != own_b ? own_a : a->score > b->score;
}

static void insert(dsb_blame *rows, int64_t *n, const dsb_blame *row) {
    int64_t at = *n;
    while (at > 0 && ranks_before(row, &rows[at - 1])) at--;
    if (at == DSB_BLAME_LAYERS) return;
    if (*n < DSB_BLAME_LAYERS) (*n)++;
    memmove(&rows[at + 1], &rows[at], (size_t)(*n - 1 - at) * sizeof *rows);
    rows[at] = *row;
}

static dsb_status name_parts(dsb_db *db, dsb_arena *arena, const dsb_scheme_pair *names, dsb_blame *b, dsb_err *err) {
    if (b->cause == DSB_CAUSE_UPSTREAM) return DSB_OK;
    if (b->cause == DSB_CAUSE_WEIGHTS) DSB_TRY(dsb_db_diff_tensors(db, arena, names, b->layer, DSB_BLAME_PARTS, &b->tensors, &b->n_tensor, err));
    return dsb_db_diff_experts(db, arena, names, b->layer, b->cause == DSB_CAUSE_ROUTER, DSB_BLAME_PARTS, &b->experts, &b->n_expert, err);
}

dsb_status dsb_blame_scheme(dsb_db *db, dsb_arena *arena, const dsb_run_data *base, const char *base_scheme, const dsb_run_data *head, const char *head_scheme, dsb_blame *rows, int64_t *n,
                            int64_t *upstream, dsb_err *err) {
    dsb_scheme_pair names = { base->run.id, base_scheme, head->run.id, head_scheme };
    pair p = { base, head, base_scheme, head_scheme, NULL, 0 };
    dsb_weights_diff *weights;
    int64_t found = 0, layers = dsb_run_layer_count(head);
    dsb_blame row;
    *upstream = 0;
    DSB_TRY(dsb_db_diff_weights(db, arena, &names, &weights, &p.n_weights, err));
    p.weights = weights;
    for (int64_t l = 0; l < layers; l++) {
        if (!judge_layer(&p, l, &row)) continue;
        *upstream += row.cause == DSB_CAUSE_UPSTREAM;
        insert(rows + *n, &found, &row);
    }
    /* Layers that follow are named only where no layer has a cause of its own. */
    while (found > 1 && rows[*n].cause != DSB_CAUSE_UPSTREAM && rows[*n + found - 1].cause == DSB_CAUSE_UPSTREAM) found--;
    for (int64_t i = 0; i < found; i++) DSB_TRY(name_parts(db, arena, &names, &rows[*n + i], err));
    *n += found;
    return DSB_OK;
}

static void put_parts(dsb_text *t, const dsb_blame *b) {
    for (int64_t i = 0; i < b->n_tensor; i++) {
        const dsb_tensor_diff *d = &b->tensors[i];
        dsb_text_printf(t, "%s%.200s nmse %.3g → %.3g", i ? ", " : "; tensors: ", d->tensor, d->base_nmse, d->head_nmse);
        if (d->base_format && d->head_format && strcmp(d->base_format, d->head_format)) dsb_text_printf(t, " (%.40s → %.40s)", d->base_format, d->head_format);
    }
    for (int64_t i = 0; i < b->n_expert; i++) {
        const dsb_expert_diff *d = &b->experts[i];
        dsb_text_printf(t, "%s%lld ", i ? ", " : "; experts: ", (long long)d->expert);
        if (b->cause == DSB_CAUSE_ROUTER) dsb_text_printf(t, "(%lld → %lld tokens)", (long long)d->base_hits, (long long)d->head_hits);
        else if (isfinite(d->base_nmse) && isfinite(d->head_nmse)) dsb_text_printf(t, "(nmse %.3g → %.3g)", d->base_nmse, d->head_nmse);
        else dsb_text_printf(t, "(no sampled token)");
    }
}

const char *dsb_blame_text(const dsb_blame *b, dsb_arena *arena) {
    dsb_text t;
    dsb_text_init(&t);
    if (b->cause == DSB_CAUSE_ROUTER) dsb_text_printf(&t, "the same state gives other experts: %.3g %% → %.3g %% of tokens", 100 * b->base_rerouted, 100 * b->head_rerouted);
    else if (b->cause == DSB_CAUSE_UPSTREAM) dsb_text_printf(&t, "by itself as it was; its input changed: nmse of the block %.3g → %.3g", b->base_nmse, b->head_nmse);
    else if (isnan(b->base_nmse)) dsb_text_put(&t, "stored otherwise; no output of the layer by itself is recorded");
    else dsb_text_printf(&t, "%s output, isolated: nmse %.3g → %.3g", b->point, b->base_nmse, b->head_nmse);
    put_parts(&t, b);
    const char *kept = dsb_text_clean(arena, t.data ? t.data : "?");
    dsb_text_release(&t);
    return kept ? kept : "?";
}
