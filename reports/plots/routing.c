/* Why routing drifts, and what an expert's load has to do with its error. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reports/gnuplot.h"
#include "reports/plots/plots.h"

static int64_t style_of(int64_t i) { return i > 0 ? i - 1 : 0; }

typedef struct decile {
    double margin, rate, predicted; /* means over layers, by tokens */
} decile;

static void read_deciles(const dsb_run_data *d, const char *scheme, decile out[10]) {
    double n[2][10] = { { 0 } };
    memset(out, 0, 10 * sizeof *out);
    for (int64_t i = 0; i < d->n_detail; i++) {
        const dsb_quality_detail *q = &d->detail[i];
        bool measured = !strcmp(q->kind, "margin_decile"), predicted = !strcmp(q->kind, "margin_decile_predicted");
        if ((!measured && !predicted) || strcmp(q->scheme, scheme) || q->bin < 0 || q->bin > 9 || q->n <= 0 || !isfinite(q->value)) continue;
        decile *x = &out[q->bin];
        n[predicted][q->bin] += (double)q->n;
        if (predicted) x->predicted += (double)q->n * q->value;
        else x->rate += (double)q->n * q->value;
        if (measured && isfinite(q->lo) && isfinite(q->hi)) x->margin += (double)q->n * (q->lo + q->hi) / 2;
    }
    for (int b = 0; b < 10; b++) {
        out[b].rate = n[0][b] > 0 ? out[b].rate / n[0][b] : NAN;
        out[b].margin = n[0][b] > 0 ? out[b].margin / n[0][b] : NAN;
        out[b].predicted = n[1][b] > 0 ? out[b].predicted / n[1][b] : NAN;
    }
}

bool dsb_plot_margins(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    bool *has = NULL, any = false;
    if (dsb_arena_take(arena, (void **)&has, (size_t)s->n + 1, sizeof *has, "a plot", NULL)) return false;
    for (int64_t i = 0; i < s->n; i++) {
        decile x[10];
        char block[48];
        if (!dsb_plot_shown(&s->schemes[i])) continue;
        read_deciles(s->data, s->schemes[i].scheme->name, x);
        snprintf(block, sizeof block, "$margin%lld", (long long)i);
        dsb_plot_block(script, block, s->schemes[i].scheme->name, "decile\tmargin\trerouted_percent\tpredicted_percent", NULL);
        for (int b = 0; b < 10; b++) {
            dsb_text_printf(script, "%d", b + 1);
            dsb_plot_number(script, x[b].margin);
            dsb_plot_number(script, x[b].rate > 0 ? 100 * x[b].rate : NAN);
            dsb_plot_number(script, x[b].predicted > 0 ? 100 * x[b].predicted : NAN);
            dsb_text_put(script, "\n");
            has[i] = has[i] || x[b].rate > 0;
        }
        dsb_text_put(script, "END\n");
        any = any || has[i];
    }
    if (!any) return false;
    dsb_plot_labels(script, "Tokens sent elsewhere, by how clear the reference's choice was (dots: what the score error alone predicts)",
                    "decile of the margin of that choice (1: closest), all layers", "tokens with another set, %, log scale");
    dsb_text_put(script, "set logscale y\nset format y '%g'\nset xrange [0.7:10.3]\nset xtics 1\n");
    const char *separator = "plot ";
    for (int64_t i = 0; i < s->n; i++) {
        if (!has[i]) continue;
        dsb_text_printf(script, "%s$margin%lld using 1:3 with linespoints ", separator, (long long)i);
        dsb_plot_style(script, style_of(i), 0.7);
        dsb_text_put(script, " title ");
        dsb_gnuplot_quote(script, s->schemes[i].scheme->name, DSB_PLOT_NAME_MOST);
        dsb_text_printf(script, ", $margin%lld using 1:4 with lines linecolor rgb '%s' linewidth 1 dashtype 3 notitle", (long long)i, dsb_plot_colour(style_of(i)));
        separator = ", ";
    }
    dsb_text_put(script, "\n");
    return true;
}

/* Load as a share of the layer's even share against error; at most about `MOST` experts a scheme, evenly taken. */
static int64_t write_scatter(const dsb_run_data *d, const char *scheme, const char *block, dsb_text *script) {
    enum { MOST = 500 };
    int64_t n = 0, rows = 0, at = 0;
    for (int64_t i = 0; i < d->n_expert_row; i++) rows += !strcmp(d->experts[i].scheme, scheme);
    int64_t step = rows / 2 / MOST + 1, experts = dsb_run_expert_count(d);
    double even = (double)d->run.n_token * (double)d->run.model.k / (double)(experts ? experts : 1);
    dsb_plot_block(script, block, scheme, "load\tnmse\tlayer\texpert", NULL);
    for (int64_t i = 0; i < d->n_expert_row; i++) {
        const dsb_routing_expert *e = &d->experts[i];
        if (strcmp(e->kind, "accumulated") || strcmp(e->scheme, scheme) || at++ % step) continue;
        double nmse = dsb_run_expert_nmse(d, e);
        if (!(nmse > 0) || !(e->hits_ref > 0) || !(even > 0)) continue;
        dsb_text_printf(script, "%.4g %.4g %lld %lld\n", (double)e->hits_ref / even, nmse, (long long)e->layer, (long long)e->expert);
        n++;
    }
    dsb_text_put(script, "END\n");
    return n;
}

bool dsb_plot_expert_scatter(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    bool *has = NULL, any = false;
    if (dsb_arena_take(arena, (void **)&has, (size_t)s->n + 1, sizeof *has, "a plot", NULL)) return false;
    for (int64_t i = 0; i < s->n; i++) {
        char block[48];
        snprintf(block, sizeof block, "$scatter%lld", (long long)i);
        has[i] = dsb_plot_shown(&s->schemes[i]) && write_scatter(s->data, s->schemes[i].scheme->name, block, script) > 0;
        any = any || has[i];
    }
    if (!any) return false;
    dsb_plot_labels(script, "Each expert's error against its load: do the busy experts suffer?", "tokens, 1 = even share", "nmse of the expert's output, log scale");
    dsb_text_put(script, "set logscale xy\nset format y '%.0e'\n");
    const char *separator = "plot ";
    for (int64_t i = 0; i < s->n; i++) {
        if (!has[i]) continue;
        dsb_text_printf(script, "%s$scatter%lld using 1:2 with points ", separator, (long long)i);
        dsb_text_printf(script, "linecolor rgb '%s' pointtype 7 pointsize 0.35 title ", dsb_plot_colour(style_of(i)));
        dsb_gnuplot_quote(script, s->schemes[i].scheme->name, DSB_PLOT_NAME_MOST);
        separator = ", ";
    }
    dsb_text_put(script, "\n");
    return true;
}
