/* Two runs: each gating figure's change in units of its tolerance, and the change of every layer's own error. */
#include <math.h>
#include <string.h>

#include "metrics/moments.h"
#include "reports/compare.h"
#include "reports/gnuplot.h"
#include "reports/plots/plots.h"

enum { SHOWN = 16 };

static double by_tolerance(const dsb_compare_row *r) { return r->j.diff / r->j.tolerance * (r->j.better == DSB_BETTER_HIGHER ? -1 : 1); }

/* Gating rows with the largest change first, at most SHOWN; *all: how many there are. A tolerance of 0 has no unit. */
static int pick_rows(const dsb_comparison *c, const dsb_compare_row **rows, int64_t *all) {
    int n = 0;
    *all = 0;
    for (int64_t i = 0; i < c->n_row; i++) {
        const dsb_compare_row *r = &c->rows[i];
        if (!r->j.gating || r->j.test != DSB_TEST_CHUNKS || !isfinite(r->j.diff) || !(r->j.tolerance > 0)) continue;
        ++*all;
        if (n == SHOWN && fabs(by_tolerance(rows[n - 1])) >= fabs(by_tolerance(r))) continue;
        int at = n < SHOWN ? n++ : n - 1;
        for (; at > 0 && fabs(by_tolerance(rows[at - 1])) < fabs(by_tolerance(r)); at--) rows[at] = rows[at - 1];
        rows[at] = r;
    }
    return n;
}

/* x lo hi row verdict; the first row on top. range: that holds them all. */
static void write_changes(const dsb_compare_row *const *rows, int n, double range[2], dsb_text *script) {
    range[0] = -3;
    range[1] = 3;
    dsb_plot_block(script, "$change", "figures", "change_by_tolerance\tlo\thi\trow\tverdict\tscheme\tmetric", NULL);
    for (int i = 0; i < n; i++) {
        const dsb_judgement *j = &rows[i]->j;
        double sign = j->better == DSB_BETTER_HIGHER ? -1 : 1, lo = isnan(j->lo) ? j->diff : j->lo, hi = isnan(j->hi) ? j->diff : j->hi;
        double left = fmin(sign * lo, sign * hi) / j->tolerance, right = fmax(sign * lo, sign * hi) / j->tolerance;
        dsb_plot_number(script, by_tolerance(rows[i]));
        dsb_plot_number(script, left);
        dsb_plot_number(script, right);
        range[0] = fmin(range[0], 1.5 * left);
        range[1] = fmax(range[1], 1.5 * right);
        dsb_text_printf(script, " %d %d", n - 1 - i, (int)j->verdict);
        dsb_plot_cell(script, rows[i]->head_scheme);
        dsb_plot_cell(script, rows[i]->metric);
        dsb_text_put(script, "\n");
    }
    dsb_text_put(script, "END\n");
}

static void write_names(const dsb_compare_row *const *rows, int n, dsb_arena *arena, dsb_text *script) {
    dsb_text_put(script, "set ytics (");
    for (int i = 0; i < n; i++) {
        dsb_text_put(script, i ? ", " : "");
        dsb_gnuplot_quote_tic(script, dsb_text_format(arena, "%.22s · %s", rows[i]->head_scheme, rows[i]->metric), 42);
        dsb_text_printf(script, " %d", n - 1 - i);
    }
    dsb_text_put(script, ") font ',8'\n");
}

static double layer_change(const dsb_comparison *c, const char *scheme, int64_t layer) {
    const char *base = c->base_scheme ? c->base_scheme : scheme;
    const dsb_layer_error *b = dsb_run_layer(&c->base, base, layer, "block", "isolated"), *h = dsb_run_layer(&c->head, scheme, layer, "block", "isolated");
    double x = b ? dsb_moments_nmse(&b->m) : NAN, y = h ? dsb_moments_nmse(&h->m) : NAN;
    return x > 0 && y > 0 ? log10(y / x) : x == y ? 0 : NAN;
}

static bool has_layers(const dsb_comparison *c, const char *scheme) {
    if (c->head_scheme && strcmp(scheme, c->head_scheme)) return false;
    for (int64_t l = 0; l < dsb_run_layer_count(&c->head); l++)
        if (!isnan(layer_change(c, scheme, l))) return true;
    return false;
}

/* layer scheme log10(head/base), a whole grid; returns how many schemes have a row. */
static int64_t write_layers(const dsb_comparison *c, double *most, dsb_text *script) {
    int64_t row = 0;
    *most = 0.05;
    dsb_plot_block(script, "$layers", "layers", "layer\trow\tlog10_ratio\tscheme", NULL);
    for (int64_t i = 0; i < c->head.n_scheme; i++) {
        const char *scheme = c->head.schemes[i].name;
        if (!has_layers(c, scheme)) continue;
        for (int64_t l = 0; l < dsb_run_layer_count(&c->head); l++) {
            double v = layer_change(c, scheme, l);
            if (!isnan(v)) *most = fmax(*most, fabs(v));
            dsb_text_printf(script, isnan(v) ? "%lld %lld NaN" : "%lld %lld %.5g", (long long)l, (long long)row, v);
            dsb_plot_cell(script, scheme);
            dsb_text_put(script, "\n");
        }
        row++;
    }
    dsb_text_put(script, "END\n");
    return row;
}

static void write_schemes(const dsb_comparison *c, dsb_text *script) {
    int64_t row = 0;
    dsb_text_put(script, "set ytics (");
    for (int64_t i = 0; i < c->head.n_scheme; i++) {
        const char *scheme = c->head.schemes[i].name;
        if (!has_layers(c, scheme)) continue;
        dsb_text_put(script, row ? ", " : "");
        dsb_gnuplot_quote_tic(script, scheme, DSB_PLOT_NAME_MOST);
        dsb_text_printf(script, " %lld", (long long)row++);
    }
    dsb_text_put(script, ") font ',8'\n");
}

bool dsb_plot_comparison(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    const dsb_comparison *c = s->comparison;
    const dsb_compare_row *picked[SHOWN];
    double most, range[2];
    int64_t all;
    if (!c) return false;
    int n = pick_rows(c, picked, &all);
    write_changes(picked, n, range, script);
    int64_t rows = write_layers(c, &most, script);
    if (!n && !rows) return false;
    dsb_text_put(script, "set multiplot\nunset key\n");
    if (n) {
        dsb_plot_labels(script, dsb_text_format(arena, "Change against the base in units of its tolerance: right of 1 is worse than is borne%s", all > n ? dsb_text_format(arena, " (%d largest of %lld)", n, (long long)all) : ""), "change / tolerance (linear near 0, logarithmic beyond), 95 % interval", NULL);
        write_names(picked, n, arena, script);
        dsb_text_printf(script,
                        "set lmargin at screen 0.27\nset rmargin at screen 0.96\nset tmargin at screen 0.92\nset bmargin at screen %s\nset yrange [-0.7:%d.7]\nset nonlinear x via asinh(x) inverse sinh(x)\n"
                        "set xrange [%g:%g]\nset xtics (-1000, -100, -10, -3, -1, 0, 1, 3, 10, 100, 1000, 10000)\n"
                        "set object 1 rectangle from -1, graph 0 to 1, graph 1 behind fillcolor rgb '#e9f3ec' fillstyle solid noborder\n"
                        "colour(v) = v == 4 ? 0xB3261E : v == 3 ? 0x009E73 : v == 2 ? 0x4a4a4a : 0xE69F00\n"
                        "plot $change using 1:4:2:3:(colour($5)) with xerrorbars linecolor rgb variable linewidth 1.8 pointtype 7 pointsize 0.8\n",
                        rows ? "0.53" : "0.12", n - 1, range[0], range[1]);
        dsb_text_put(script, "unset object 1\nunset nonlinear x\nunset label 99\n");
    }
    if (rows) {
        dsb_plot_labels(script, "Change of each block's own (isolated) error: brown grew, blue shrank", "layer", NULL);
        write_schemes(c, script);
        dsb_text_printf(script,
                        "set lmargin at screen 0.27\nset rmargin at screen 0.86\nset tmargin at screen %s\nset bmargin at screen 0.12\nset xtics auto\nset xrange [-0.5:%lld.5]\nset yrange [%lld.5:-0.5]\nunset grid\n"
                        "set palette defined (0 '#0b3c6f', 1 '#4f93c9', 2 '#f7f7f7', 3 '#e08a3c', 4 '#7a3206')\nset cbrange [%g:%g]\nset cblabel 'log10 of head / base'\n"
                        "plot $layers using 1:2:3 with image\n",
                        n ? "0.345" : "0.92", (long long)dsb_run_layer_count(&c->head) - 1, (long long)rows - 1, -most, most);
    }
    dsb_text_put(script, "unset multiplot\n");
    return true;
}
