/* Expert × layer: drift as small panels, one a scheme; load of the reference and how one scheme changes it. */
#include <math.h>
#include <stdio.h>
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

static bool same_layer(const dsb_routing_expert *a, const dsb_routing_expert *b) { return a->layer == b->layer && (a->scheme == b->scheme || !strcmp(a->scheme, b->scheme)); }

/* As a share of what an even spread would give. Rows of one layer stand together, so the total is near by. */
static double share_of_even(const dsb_run_data *d, const dsb_routing_expert *e) {
    const dsb_routing_expert *first = e, *end = d->experts + d->n_expert_row;
    double sum = 0;
    int64_t n = 0;
    while (first > d->experts && same_layer(first - 1, e)) first--;
    for (; first < end && same_layer(first, e); first++)
        if (is_accumulated(first, e->scheme)) {
            sum += (double)first->hits_ref;
            n++;
        }
    return sum > 0 ? (double)e->hits_ref * (double)n / sum : NAN;
}

static double load_change_percent(const dsb_run_data *d, const dsb_routing_expert *e) {
    return e->hits_ref > 0 && e->hits_test >= 0 ? 100.0 * (double)(e->hits_test - e->hits_ref) / (double)e->hits_ref : NAN;
}

static double moved_value(const dsb_run_data *d, const dsb_routing_expert *e) { return moved_percent(e); }

typedef double expert_value(const dsb_run_data *d, const dsb_routing_expert *e);

static int64_t first_moe_layer(const dsb_run_data *d) {
    int64_t first = -1;
    for (int64_t i = 0; i < d->n_expert_row; i++)
        if (first < 0 || d->experts[i].layer < first) first = d->experts[i].layer;
    return first;
}

/* "expert layer value" lines of a whole grid, as an image wants it: NaN where there is no value. Returns how many values there are. */
static int64_t write_cells(const dsb_run_data *d, const char *scheme, expert_value *value, const char *block, dsb_arena *arena, dsb_text *script) {
    int64_t n = 0, first = first_moe_layer(d), experts = dsb_run_expert_count(d), cells = first < 0 ? 0 : (dsb_run_layer_count(d) - first) * experts;
    double *grid;
    if (cells <= 0 || dsb_arena_take(arena, (void **)&grid, (size_t)cells, sizeof *grid, "a heat map", NULL)) return 0;
    for (int64_t i = 0; i < cells; i++) grid[i] = NAN;
    for (int64_t i = 0; i < d->n_expert_row; i++) {
        const dsb_routing_expert *e = &d->experts[i];
        if (!is_accumulated(e, scheme)) continue;
        double v = value(d, e);
        grid[(e->layer - first) * experts + e->expert] = v;
        n += !isnan(v);
    }
    if (!n) return 0;
    dsb_plot_block(script, block, scheme, "expert\tlayer\tvalue", NULL);
    for (int64_t i = 0; i < cells; i++) dsb_text_printf(script, isnan(grid[i]) ? "%lld %lld NaN\n" : "%lld %lld %.4g\n", (long long)(i % experts), (long long)(first + i / experts), grid[i]);
    dsb_text_put(script, "END\n");
    return n;
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
        if (write_cells(s->data, s->schemes[i].scheme->name, moved_value, block, arena, script)) shown[n++] = &s->schemes[i];
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
        dsb_text_printf(script, "plot $heat%d using 1:2:($3 < %g ? %g : $3) with image\n", i, fmax(most / 1000, 1e-3), fmax(most / 1000, 1e-3));
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
    if (!worst || !write_cells(d, worst->scheme->name, share_of_even, "$load", arena, script)) return false;
    write_cells(d, worst->scheme->name, load_change_percent, "$change", arena, script);
    double most = 1;
    for (int64_t i = 0; i < d->n_expert_row; i++)
        if (is_accumulated(&d->experts[i], worst->scheme->name)) most = fmax(most, fabs(load_change_percent(d, &d->experts[i])));
    axes(d, 16, 8, script);
    dsb_text_put(script, "set multiplot layout 2,1 margins 0.08,0.85,0.14,0.93 spacing 0,0.17\n");
    dsb_text_put(script, sequential);
    dsb_plot_labels(script, "Load of each expert under the reference", "", "layer");
    dsb_text_put(script, "set cblabel 'tokens, 1 = even share' offset 1.2,0\nset cbrange [0:*]\nplot $load using 1:2:3 with image\n");
    dsb_text_put(script, diverging);
    dsb_text_put(script, "set title 'Change of load under '.");
    dsb_gnuplot_quote(script, worst->scheme->name, 40);
    dsb_text_put(script, ".', the scheme that reroutes most'\n");
    dsb_plot_labels(script, NULL, "expert", "layer");
    dsb_text_printf(script, "unset label 99\nset cblabel 'change of tokens, %%' offset 1.2,0\nset cbrange [%g:%g]\nplot $change using 1:2:3 with image\nunset multiplot\n", -most, most);
    return true;
}

/* The layers where most tokens go elsewhere, worst first; fewer than `most` where the run has fewer. */
static int worst_layers(const dsb_run_data *d, const char *scheme, int64_t *layers, double *share, int most) {
    int n = 0;
    for (int64_t l = 0; l < dsb_run_layer_count(d); l++) {
        double v = dsb_run_routing(d, scheme, l, "accumulated", "selection_change");
        if (isnan(v)) continue;
        if (n == most && share[most - 1] >= v) continue;
        int at = n < most ? n++ : most - 1;
        while (at > 0 && share[at - 1] < v) {
            layers[at] = layers[at - 1];
            share[at] = share[at - 1];
            at--;
        }
        layers[at] = l;
        share[at] = v;
    }
    return n;
}

/* Moved tokens of the experts of these layers in one walk over the rows. (n, experts) in the arena; NULL: no memory. */
static double *moved_of_layers(const dsb_run_data *d, const char *scheme, const int64_t *layers, int n, int64_t experts, dsb_arena *arena) {
    double *moved;
    if (dsb_arena_take(arena, (void **)&moved, (size_t)(n * experts) + 1, sizeof *moved, "a heat map", NULL)) return NULL;
    for (int64_t i = 0; i < n * experts; i++) moved[i] = NAN;
    for (int64_t i = 0; i < d->n_expert_row; i++)
        for (int k = 0; k < n; k++)
            if (d->experts[i].layer == layers[k] && is_accumulated(&d->experts[i], scheme)) moved[k * experts + d->experts[i].expert] = moved_percent(&d->experts[i]);
    return moved;
}

bool dsb_plot_heat_worst(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    enum { WORST = 8 };
    const dsb_run_data *d = s->data;
    const dsb_digest *worst = most_rerouted(s);
    int64_t layers[WORST], cells = 0;
    double share[WORST];
    int n = worst ? worst_layers(d, worst->scheme->name, layers, share, WORST) : 0;
    if (!n) return false;
    int64_t experts = dsb_run_expert_count(d);
    const double *moved = moved_of_layers(d, worst->scheme->name, layers, n, experts, arena);
    if (!moved) return false;
    dsb_plot_block(script, "$worst", worst->scheme->name, "expert\trow\tmoved_percent\tlayer", NULL);
    for (int k = 0; k < n; k++)
        for (int64_t x = 0; x < experts; x++) {
            double v = moved[k * experts + x];
            dsb_text_printf(script, "%lld %d", (long long)x, k);
            if (isnan(v)) dsb_text_printf(script, " NaN %lld\n", (long long)layers[k]);
            else dsb_text_printf(script, " %.4g %lld\n", v, (long long)layers[k]);
            cells += !isnan(v);
        }
    dsb_text_put(script, "END\n");
    if (!cells) return false;
    dsb_text_put(script, sequential);
    dsb_text_put(script, "set title 'Tokens that left or joined each expert, the worst layers of '.");
    dsb_gnuplot_quote(script, worst->scheme->name, 40);
    dsb_text_put(script, "\n");
    dsb_plot_labels(script, NULL, "expert", NULL);
    dsb_text_printf(script, "set xrange [-0.5:%lld.5]\nset yrange [%d.5:-0.5]\nset xtics %lld out\nunset grid\nunset key\nset cblabel 'tokens that left or joined, %%'\nset cbrange [0:*]\nset lmargin 22\nset ytics (", (long long)experts - 1,
                    n - 1, (long long)step(experts, 16));
    for (int k = 0; k < n; k++) dsb_text_printf(script, "%s'layer %lld: %.3g %%%% rerouted' %d", k ? ", " : "", (long long)layers[k], 100 * share[k], k);
    dsb_text_put(script, ") font ',9'\nplot $worst using 1:2:3 with image\n");
    return true;
}
