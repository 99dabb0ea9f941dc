/* Expert × layer: drift as small panels, one a scheme; load of the reference and how one scheme changes it. */
#include <math.h>
#include <string.h>

#include "reports/gnuplot.h"
#include "reports/plots/plots.h"

#define PANELS 9

static bool is_accumulated(const dsb_routing_expert *e, const char *scheme) { return !strcmp(e->scheme, scheme) && !strcmp(e->kind, "accumulated"); }

/* Tokens that left or joined, as a share of those it had or has. */
static double moved_percent(const dsb_routing_expert *e) {
    double hits = (double)(e->hits_ref + e->hits_test);
    return hits > 0 && e->moved_away >= 0 && e->moved_to >= 0 ? 100.0 * (double)(e->moved_away + e->moved_to) / hits : NAN;
}

static double share_of_even(const dsb_run_data *d, const dsb_routing_expert *e) {
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < d->n_expert_row; i++)
        if (d->experts[i].layer == e->layer && is_accumulated(&d->experts[i], e->scheme)) {
            sum += (double)d->experts[i].hits_ref;
            n++;
        }
    return sum > 0 ? (double)e->hits_ref * (double)n / sum : NAN;
}

static double load_change_percent(const dsb_run_data *d, const dsb_routing_expert *e) {
    return e->hits_ref > 0 && e->hits_test >= 0 ? 100.0 * (double)(e->hits_test - e->hits_ref) / (double)e->hits_ref : NAN;
}

static double moved_value(const dsb_run_data *d, const dsb_routing_expert *e) { return moved_percent(e); }

typedef double expert_value(const dsb_run_data *d, const dsb_routing_expert *e);

/* "expert layer value" lines; returns how many. Layers without experts stay white. */
static int64_t write_cells(const dsb_run_data *d, const char *scheme, expert_value *value, const char *block, dsb_text *script) {
    int64_t n = 0;
    dsb_text_printf(script, "%s << END\n", block);
    for (int64_t i = 0; i < d->n_expert_row; i++) {
        const dsb_routing_expert *e = &d->experts[i];
        if (!is_accumulated(e, scheme)) continue;
        double v = value(d, e);
        if (isnan(v)) continue;
        dsb_text_printf(script, "%lld %lld", (long long)e->expert, (long long)e->layer);
        dsb_plot_number(script, v);
        dsb_text_put(script, "\n");
        n++;
    }
    dsb_text_put(script, "END\n");
    return n;
}

static int64_t first_moe_layer(const dsb_run_data *d) {
    int64_t first = -1;
    for (int64_t i = 0; i < d->n_expert_row; i++)
        if (first < 0 || d->experts[i].layer < first) first = d->experts[i].layer;
    return first;
}

static int64_t step(int64_t n, int64_t most) { return n > most ? (n + most - 1) / most : 1; }

static void axes(const dsb_run_data *d, int64_t most_x, int64_t most_y, dsb_text *script) {
    int64_t layers = dsb_run_layer_count(d), experts = dsb_run_expert_count(d), first = first_moe_layer(d);
    dsb_text_printf(script, "set xrange [-0.5:%lld.5]\nset yrange [%lld.5:%s%.1f]\nset xtics %lld out\nset ytics %lld out\nunset grid\nunset key\n",
                    (long long)experts - 1, (long long)layers - 1, "", (double)first - 0.5, (long long)step(experts, most_x), (long long)step(layers - first, most_y));
}

/* Light to dark through one hue family: order survives grey print and colour blindness (cividis-like). */
static const char sequential[] = "set palette defined (0 '#fff7e0', 1 '#fdd49e', 2 '#f4944f', 3 '#c8452c', 4 '#6b1010')\n";
static const char diverging[] = "set palette defined (0 '#0b3c6f', 1 '#4f93c9', 2 '#f7f7f7', 3 '#e08a3c', 4 '#7a3206')\n";

/* Whether fewer than PANELS schemes send more tokens elsewhere: where there are too many for a picture it shows the worst. */
static bool among_worst(const dsb_summary *s, const dsb_digest *d) {
    int worse = 0;
    for (int64_t i = 0; i < s->n; i++) worse += dsb_plot_shown(&s->schemes[i]) && (s->schemes[i].selection_change > d->selection_change || (s->schemes[i].selection_change == d->selection_change && &s->schemes[i] < d));
    return worse < PANELS;
}

bool dsb_plot_heat_drift(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    const dsb_digest *shown[PANELS];
    int n = 0, n_scheme = 0;
    for (int64_t i = 0; i < s->n; i++) {
        char block[32];
        if (!dsb_plot_shown(&s->schemes[i])) continue;
        n_scheme++;
        if (n == PANELS || !among_worst(s, &s->schemes[i])) continue;
        snprintf(block, sizeof block, "$heat%d", n);
        if (write_cells(s->data, s->schemes[i].scheme->name, moved_value, block, script)) shown[n++] = &s->schemes[i];
    }
    if (!n) return false;
    int columns = n > 4 ? 3 : n > 1 ? 2 : 1, rows = (n + columns - 1) / columns;
    dsb_text_put(script, sequential);
    axes(s->data, 4, 4, script);
    double most = 0;
    for (int64_t i = 0; i < s->data->n_expert_row; i++) most = fmax(most, moved_percent(&s->data->experts[i]));
    dsb_text_printf(script, "set logscale cb\nset cbrange [%g:%g]\nset cblabel 'tokens that left or joined, %%, log scale' offset 0.5,0\n", fmax(most / 1000, 1e-3), fmax(most, 2e-3));
    dsb_text_printf(script, "set multiplot layout %d,%d title 'Tokens that left or joined each expert: expert across, layer down%s' margins 0.06,0.86,0.13,0.87 spacing 0.045,0.13\n", rows, columns,
                    n < n_scheme ? dsb_text_format(arena, "; the %d of %d schemes that reroute most", n, n_scheme) : "");
    for (int i = 0; i < n; i++) {
        dsb_text_put(script, "set title ");
        dsb_gnuplot_quote(script, shown[i]->scheme->name, 30);
        dsb_text_put(script, " offset 0,-0.7\n");
        if (i == 0) dsb_text_put(script, "set colorbox user origin 0.885,0.09 size 0.02,0.77\n");
        else dsb_text_put(script, "unset colorbox\nunset label 99\n");
        dsb_text_printf(script, "set xlabel %s\nset ylabel %s\n", i / columns == rows - 1 ? "'expert' offset 0,0.6" : "''", i % columns ? "''" : "'layer' offset 1.2,0");
        /* A value below the scale's end is drawn at the end: zero has no logarithm. */
        dsb_text_printf(script, "plot $heat%d using 1:2:($3 < %g ? %g : $3) with image pixels\n", i, fmax(most / 1000, 1e-3), fmax(most / 1000, 1e-3));
    }
    dsb_text_put(script, "unset multiplot\n");
    return true;
}

static const dsb_digest *most_rerouted(const dsb_summary *s) {
    const dsb_digest *best = NULL;
    for (int64_t i = 0; i < s->n; i++)
        if (dsb_plot_shown(&s->schemes[i]) && !isnan(s->schemes[i].selection_change) && (!best || s->schemes[i].selection_change > best->selection_change))
            best = &s->schemes[i];
    return best;
}

bool dsb_plot_heat_load(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    const dsb_run_data *d = s->data;
    const dsb_digest *worst = most_rerouted(s);
    if (!worst || !write_cells(d, worst->scheme->name, share_of_even, "$load", script)) return false;
    write_cells(d, worst->scheme->name, load_change_percent, "$change", script);
    double most = 1;
    for (int64_t i = 0; i < d->n_expert_row; i++)
        if (is_accumulated(&d->experts[i], worst->scheme->name)) most = fmax(most, fabs(load_change_percent(d, &d->experts[i])));
    axes(d, 16, 8, script);
    dsb_text_put(script, "set multiplot layout 2,1 margins 0.08,0.85,0.14,0.93 spacing 0,0.17\n");
    dsb_text_put(script, sequential);
    dsb_plot_labels(script, "Load of each expert under the reference", "", "layer");
    dsb_text_put(script, "set cblabel 'tokens, 1 = even share' offset 1.2,0\nset cbrange [0:*]\nplot $load using 1:2:3 with image pixels\n");
    dsb_text_put(script, diverging);
    dsb_text_put(script, "set title 'Change of load under '.");
    dsb_gnuplot_quote(script, worst->scheme->name, 40);
    dsb_text_put(script, ".', the scheme that reroutes most'\n");
    dsb_plot_labels(script, NULL, "expert", "layer");
    dsb_text_printf(script, "unset label 99\nset cblabel 'change of tokens, %%' offset 1.2,0\nset cbrange [%g:%g]\nplot $change using 1:2:3 with image pixels\nunset multiplot\n", -most, most);
    return true;
}
