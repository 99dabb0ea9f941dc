/* The layers one by one: a strip of links, then for each layer what every scheme does there, its worst experts, its worst tensors. */
#include <math.h>
#include <string.h>

#include "metrics/moments.h"
#include "reports/html_parts.h"

enum { WORST = 5 };

typedef struct worst_expert {
    const dsb_routing_expert *e;
    double nmse;
} worst_expert;

static double nmse_of(const dsb_run_data *d, const char *scheme, int64_t layer, const char *point, const char *kind) {
    const dsb_layer_error *e = dsb_run_layer(d, scheme, layer, point, kind);
    return e ? dsb_moments_nmse(&e->m) : NAN;
}

/* The largest own error of the layer over the schemes, and whose it is. */
static double worst_of(const dsb_summary *s, int64_t layer, const char **scheme) {
    double most = NAN;
    *scheme = NULL;
    for (int64_t i = 0; i < s->n; i++) {
        double v = nmse_of(s->data, s->schemes[i].scheme->name, layer, "block", "isolated");
        if (isfinite(v) && !(v <= most)) {
            most = v;
            *scheme = s->schemes[i].scheme->name;
        }
    }
    return most;
}

/* The worst experts of every layer in one walk over the rows. (layers, WORST) */
static worst_expert *worst_experts(const dsb_run_data *d, int64_t layers, dsb_arena *arena) {
    worst_expert *out = NULL;
    if (!layers || dsb_arena_take(arena, (void **)&out, (size_t)layers * WORST, sizeof *out, "the worst experts", NULL)) return NULL;
    for (int64_t i = 0; i < d->n_expert_row; i++) {
        const dsb_routing_expert *e = &d->experts[i];
        if (e->layer < 0 || strcmp(e->kind, "accumulated")) continue;
        double nmse = dsb_run_expert_nmse(d, e);
        worst_expert *of = out + e->layer * WORST;
        if (isnan(nmse) || (of[WORST - 1].e && of[WORST - 1].nmse >= nmse)) continue;
        int at = WORST - 1;
        for (; at > 0 && (!of[at - 1].e || of[at - 1].nmse < nmse); at--) of[at] = of[at - 1];
        of[at] = (worst_expert){ e, nmse };
    }
    return out;
}

/* From the least to the largest of the layers, on a log scale: 0 .. 1. */
static double heat(double v, double least, double most) { return isfinite(v) && most > least ? log(v / least) / log(most / least) : 0; }

static void strip(dsb_page *p, int64_t layers) {
    double least = INFINITY, most = 0;
    const char *scheme;
    for (int64_t l = 0; l < layers; l++) {
        double v = worst_of(p->s, l, &scheme);
        if (!(v > 0)) continue;
        least = fmin(least, v);
        most = fmax(most, v);
    }
    dsb_text_put(p->out, "<p class=\"strip\">");
    for (int64_t l = 0; l < layers; l++) {
        double v = worst_of(p->s, l, &scheme);
        dsb_text_printf(p->out, "<a href=\"#layer-%lld\" style=\"--h:%.0f%%\"", (long long)l, 45 * (v > 0 ? heat(v, least, most) : 0));
        if (v > 0) {
            dsb_text_printf(p->out, " title=\"largest isolated nmse %.2e: ", v);
            dsb_text_html(p->out, scheme);
            dsb_text_put(p->out, "\"");
        }
        dsb_text_printf(p->out, ">%lld</a>", (long long)l);
    }
    dsb_text_put(p->out, "</p>\n");
}

static void schemes_of(dsb_page *p, int64_t layer) {
    static const dsb_grid_head heads[] = {
        { "scheme", "scheme", NULL, true },
        { "attention", "attention", "isolated nmse", false },
        { "mlp", "MLP", "isolated nmse", false },
        { "block", "block", "isolated nmse", false },
        { "accumulated", "block", "own stream, nmse", false },
        { "router", "rerouted", "router alone, %", false },
        { "after_attention", "rerouted", "after attention, %", false },
        { "own", "rerouted", "own stream, %", false },
    };
    static const char *const kinds[] = { "isolated", "block", "accumulated" };
    const dsb_run_data *d = p->s->data;
    dsb_grid g;
    dsb_grid_init(&g, p->arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < p->s->n; i++) {
        const char *scheme = p->s->schemes[i].scheme->name;
        const double v[] = { nmse_of(d, scheme, layer, "attention", "isolated"), nmse_of(d, scheme, layer, "mlp", "isolated"), nmse_of(d, scheme, layer, "block", "isolated"), nmse_of(d, scheme, layer, "block", "accumulated") };
        if (isnan(v[0]) && isnan(v[1]) && isnan(v[2]) && isnan(v[3])) continue;
        dsb_grid_text(&g, scheme);
        for (int k = 0; k < 4; k++) dsb_grid_figure(&g, v[k], "%.2e", v[k]);
        for (int k = 0; k < 3; k++) {
            double share = 100 * dsb_run_routing(d, scheme, layer, kinds[k], "selection_change");
            dsb_grid_figure(&g, share, "%.2f", share);
        }
    }
    dsb_page_grid(p, &g);
}

static void experts_of(dsb_page *p, const worst_expert *worst) {
    static const dsb_grid_head heads[] = { { "expert", "expert", NULL, false },       { "scheme", "scheme", NULL, true },          { "nmse", "output error", "nmse, isolated", false }, { "hits_ref", "tokens", "reference", false },
                                           { "hits_test", "tokens", "scheme", false }, { "away", "left", NULL, false },             { "to", "joined", NULL, false } };
    dsb_grid g;
    dsb_grid_init(&g, p->arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int k = 0; worst && k < WORST && worst[k].e; k++) {
        const dsb_routing_expert *e = worst[k].e;
        dsb_grid_int(&g, e->expert);
        dsb_grid_text(&g, e->scheme);
        dsb_grid_figure(&g, worst[k].nmse, "%.2e", worst[k].nmse);
        dsb_grid_int(&g, e->hits_ref);
        dsb_grid_int(&g, e->hits_test);
        dsb_grid_int(&g, e->moved_away);
        dsb_grid_int(&g, e->moved_to);
    }
    if (!dsb_grid_rows(&g)) return;
    dsb_text_put(p->out, "<h4>Worst experts</h4>\n");
    dsb_page_grid(p, &g);
}

static dsb_status tensors_of(dsb_page *p, dsb_db *db, int64_t layer, dsb_err *err) {
    static const dsb_grid_head heads[] = { { "tensor", "tensor", NULL, true }, { "scheme", "scheme", NULL, true }, { "format", "format", NULL, true }, { "nmse", "weight error", "nmse", false } };
    dsb_worst_tensor *rows;
    int64_t n;
    dsb_grid g;
    DSB_TRY(dsb_db_worst_tensors(db, p->arena, p->s->data->run.id, layer, WORST, &rows, &n, err));
    dsb_grid_init(&g, p->arena, heads, (int)(sizeof heads / sizeof *heads));
    for (int64_t i = 0; i < n; i++) {
        dsb_grid_text(&g, rows[i].tensor);
        dsb_grid_text(&g, rows[i].scheme);
        dsb_grid_text(&g, rows[i].format);
        dsb_grid_figure(&g, rows[i].nmse, "%.2e", rows[i].nmse);
    }
    if (n) dsb_text_put(p->out, "<h4>Worst tensors</h4>\n");
    dsb_page_grid(p, &g);
    return DSB_OK;
}

dsb_status dsb_page_layers(dsb_page *p, dsb_db *db, dsb_err *err) {
    int64_t layers = dsb_run_layer_count(p->s->data);
    worst_expert *worst = worst_experts(p->s->data, layers, p->arena);
    const char *scheme;
    if (!layers) return DSB_OK;
    dsb_text_put(p->out, "<section id=\"each-layer\"><h2>Layer by layer</h2><p class=\"soft\">The darker, the larger the worst scheme's own (isolated) error. Open one: schemes, experts, tensors.</p>\n");
    strip(p, layers);
    for (int64_t l = 0; l < layers; l++) {
        double v = worst_of(p->s, l, &scheme);
        dsb_text_printf(p->out, "<details id=\"layer-%lld\"><summary>Layer %lld", (long long)l, (long long)l);
        if (isfinite(v)) {
            dsb_text_printf(p->out, ": isolated nmse up to %.2e, ", v);
            dsb_text_html(p->out, scheme);
        }
        dsb_text_put(p->out, "</summary>\n");
        schemes_of(p, l);
        experts_of(p, worst ? worst + l * WORST : NULL);
        DSB_TRY(tensors_of(p, db, l, err));
        dsb_text_put(p->out, "</details>\n");
    }
    dsb_text_put(p->out, "</section>\n");
    return DSB_OK;
}
