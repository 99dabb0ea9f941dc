/* Lines over layers: error of block outputs, routing drift. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "metrics/moments.h"
#include "reports/gnuplot.h"
#include "reports/plots/plots.h"

typedef double layer_value(const dsb_run_data *d, const char *scheme, int64_t layer);

/* A column a scheme, a row a layer; what a log axis can't show is missing. Returns how many values there are. */
static int64_t write_block(const dsb_summary *s, layer_value *value, dsb_text *script) {
    int64_t found = 0, layers = dsb_run_layer_count(s->data);
    dsb_plot_block(script, "$data", NULL, "layer", s);
    for (int64_t l = 0; l < layers; l++) {
        dsb_text_printf(script, "%lld", (long long)l);
        for (int64_t i = 0; i < s->n; i++) {
            double v = dsb_plot_shown(&s->schemes[i]) ? value(s->data, s->schemes[i].scheme->name, l) : NAN;
            if (!(v > 0)) v = NAN;
            found += !isnan(v);
            dsb_plot_number(script, v);
        }
        dsb_text_put(script, "\n");
    }
    dsb_text_put(script, "END\n");
    return found;
}

static bool lines(const dsb_summary *s, layer_value *value, const char *title, const char *y, const char *format, dsb_text *script) {
    if (!write_block(s, value, script)) return false;
    int64_t layers = dsb_run_layer_count(s->data);
    dsb_plot_labels(script, title, "layer", y);
    dsb_text_printf(script, "set logscale y\nset format y '%s'\nset xrange [-0.25:%lld.25]\nset xtics %lld\n", format, (long long)layers - 1,
                    (long long)(layers > 16 ? (layers + 15) / 16 : 1));
    const char *separator = "plot ";
    for (int64_t i = 0; i < s->n; i++) {
        if (!dsb_plot_shown(&s->schemes[i])) continue;
        dsb_text_printf(script, "%s$data using 1:%lld with %s ", separator, (long long)i + 2, layers > 32 ? "lines" : "linespoints");
        if (layers > 32) dsb_text_printf(script, "linecolor rgb '%s' linewidth 1.6 ", dsb_plot_colour(i > 0 ? i - 1 : 0));
        else dsb_plot_style(script, i > 0 ? i - 1 : 0, 0.75);
        dsb_text_put(script, " title ");
        dsb_gnuplot_quote(script, s->schemes[i].scheme->name, DSB_PLOT_NAME_MOST);
        separator = ", ";
    }
    dsb_text_put(script, "\n");
    return true;
}

static double accumulated_nmse(const dsb_run_data *d, const char *scheme, int64_t layer) {
    const dsb_layer_error *e = dsb_run_layer(d, scheme, layer, "block", "accumulated");
    return e ? dsb_moments_nmse(&e->m) : NAN;
}

static double isolated_nmse(const dsb_run_data *d, const char *scheme, int64_t layer) {
    const dsb_layer_error *e = dsb_run_layer(d, scheme, layer, "block", "isolated");
    return e ? dsb_moments_nmse(&e->m) : NAN;
}

static double rerouted_percent(const dsb_run_data *d, const char *scheme, int64_t layer) {
    return 100 * dsb_run_routing(d, scheme, layer, "accumulated", "selection_change");
}

bool dsb_plot_error_accumulated(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    return lines(s, accumulated_nmse, "Error of each block's output on the scheme's own input (accumulated)", "nmse: Σ(x−y)² / Σx², log scale", "%.0e", script);
}

bool dsb_plot_error_isolated(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    return lines(s, isolated_nmse, "Error that each block adds to the reference's input (isolated)", "nmse: Σ(x−y)² / Σx², log scale", "%.0e", script);
}

bool dsb_plot_routing_drift(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    return lines(s, rerouted_percent, "Tokens sent to another set of experts than the reference's", "tokens with another set, %, log scale", "%g", script);
}
