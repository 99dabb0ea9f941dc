/* Throughput as bars with the spread of the repeats, and experts by error. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/stats.h"
#include "reports/gnuplot.h"
#include "reports/plots/plots.h"

static void write_speeds(const dsb_summary *s, bool decode, const char *block, dsb_text *script) {
    dsb_plot_block(script, block, block + 1, "row\ttokens_per_second\tslowest\tfastest\tlabel\tscheme", NULL);
    for (int64_t i = 0; i < s->n; i++) {
        const dsb_throughput *t = decode ? s->schemes[i].decode : s->schemes[i].prefill;
        if (!t) continue;
        dsb_text_printf(script, "%lld", (long long)(s->n - 1 - i));
        dsb_plot_number(script, t->tps_median);
        dsb_plot_number(script, isnan(t->tps_min) ? t->tps_median : t->tps_min);
        dsb_plot_number(script, isnan(t->tps_max) ? t->tps_median : t->tps_max);
        dsb_text_printf(script, " %.*f", t->tps_median < 10 ? 2 : t->tps_median < 100 ? 1 : 0, t->tps_median);
        dsb_plot_cell(script, s->schemes[i].scheme->name);
        dsb_text_put(script, "\n");
    }
    dsb_text_put(script, "END\n");
}

static const dsb_throughput *any_speed(const dsb_summary *s, bool decode) {
    const dsb_throughput *found = NULL;
    for (int64_t i = 0; i < s->n && !found; i++) found = decode ? s->schemes[i].decode : s->schemes[i].prefill;
    return found;
}

static double fastest(const dsb_summary *s, bool decode) {
    double most = 0;
    for (int64_t i = 0; i < s->n; i++) {
        const dsb_throughput *t = decode ? s->schemes[i].decode : s->schemes[i].prefill;
        if (t) most = fmax(most, fmax(t->tps_median, isnan(t->tps_max) ? 0 : t->tps_max));
    }
    return most > 0 ? most : 1;
}

static void panel(const dsb_summary *s, bool decode, dsb_text *script) {
    const dsb_throughput *t = any_speed(s, decode);
    const char *block = decode ? "$decode" : "$prefill";
    if (decode) dsb_text_printf(script, "set title 'Decode: %lld tokens after %lld, batch %lld'\n", (long long)t->n_token, (long long)t->depth, (long long)t->batch);
    else dsb_text_printf(script, "set title 'Prefill: %lld tokens at once'\n", (long long)t->n_token);
    dsb_text_printf(script, "set xrange [0:%g]\nset xtics %g\n", fastest(s, decode) * 1.2, dsb_plot_tic_step(fastest(s, decode)));
    dsb_text_printf(script, "plot %s using ($2/2):1:($2/2):(0.36) with boxxyerror linecolor rgb '%s' fillstyle solid 0.85 noborder, ", block, decode ? "#E69F00" : "#56B4E9");
    dsb_text_printf(script, "%s using 2:1:3:4 with xerrorbars linecolor rgb '#222222' linewidth 1.2 pointtype -1, ", block);
    dsb_text_printf(script, "%s using 4:1:(strcol(5)) with labels left offset 0.6,0 textcolor rgb '#222222'\n", block);
}

bool dsb_plot_throughput(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    bool prefill = any_speed(s, false), decode = any_speed(s, true);
    if (!prefill && !decode) return false;
    write_speeds(s, false, "$prefill", script);
    write_speeds(s, true, "$decode", script);
    dsb_text_printf(script, "set multiplot layout 1,%d margins 0.17,0.97,0.13,0.84 spacing 0.06,0 title 'Tokens per second: median of the repeats, whiskers to the slowest and the fastest'\n", prefill + decode);
    dsb_text_printf(script, "unset key\nunset grid\nset grid xtics back linestyle 100\nset yrange [-0.6:%lld.6]\nset xlabel 'tokens/s'\nset bars 0.6\nset ytics (", (long long)s->n - 1);
    for (int64_t i = 0; i < s->n; i++) {
        dsb_text_put(script, i ? ", " : "");
        dsb_gnuplot_quote_tic(script, s->schemes[i].scheme->name, DSB_PLOT_NAME_MOST);
        dsb_text_printf(script, " %lld", (long long)(s->n - 1 - i));
    }
    dsb_text_put(script, ")\n");
    if (prefill) panel(s, false, script);
    if (prefill && decode) {
        dsb_text_put(script, "unset label 99\nset ytics (");
        for (int64_t i = 0; i < s->n; i++) dsb_text_printf(script, "%s'' %lld", i ? ", " : "", (long long)i);
        dsb_text_put(script, ")\n");
    }
    if (decode) panel(s, true, script);
    dsb_text_put(script, "unset multiplot\n");
    return true;
}

/* Ascending errors of a scheme's experts; the arena holds them. */
static int64_t sorted_errors(const dsb_run_data *d, dsb_arena *arena, const char *scheme, double **out) {
    int64_t n = 0;
    if (dsb_arena_take(arena, (void **)out, (size_t)d->n_expert_row + 1, sizeof **out, "expert errors", NULL)) return 0;
    for (int64_t i = 0; i < d->n_expert_row; i++)
        if (d->experts[i].nmse > 0 && !strcmp(d->experts[i].scheme, scheme)) (*out)[n++] = d->experts[i].nmse;
    dsb_sort(*out, n);
    return n;
}

bool dsb_plot_expert_error(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    bool *has = NULL, any = false;
    if (dsb_arena_take(arena, (void **)&has, (size_t)s->n + 1, sizeof *has, "a plot", NULL)) return false;
    for (int64_t i = 0; i < s->n; i++) {
        double *errors;
        int64_t n = dsb_plot_shown(&s->schemes[i]) ? sorted_errors(s->data, arena, s->schemes[i].scheme->name, &errors) : 0;
        if (!n) continue;
        has[i] = any = true;
        char block[48];
        snprintf(block, sizeof block, "$expert%lld", (long long)i);
        dsb_plot_block(script, block, s->schemes[i].scheme->name, "rank_percent\tnmse", NULL);
        for (int64_t j = 0, step = n / 300 + 1; j < n; j += n - j > 20 ? step : 1) /* the eye sees no more; the worst are all there */
            dsb_text_printf(script, "%.6g %.9g\n", 100.0 * ((double)j + 0.5) / (double)n, errors[j]);
        dsb_text_put(script, "END\n");
    }
    if (!any) return false;
    dsb_plot_labels(script, "Error of each expert's output, from the best expert to the worst", "experts of all layers, ordered by error, %", "nmse of the expert's output, log scale");
    dsb_text_put(script, "set logscale y\nset format y '%.0e'\nset xrange [0:100]\n");
    const char *separator = "plot ";
    for (int64_t i = 0; i < s->n; i++) {
        if (!has[i]) continue;
        dsb_text_printf(script, "%s$expert%lld using 1:2 with lines ", separator, (long long)i);
        dsb_plot_style(script, i > 0 ? i - 1 : 0, 0.75);
        dsb_text_put(script, " title ");
        dsb_gnuplot_quote(script, s->schemes[i].scheme->name, DSB_PLOT_NAME_MOST);
        separator = ", ";
    }
    dsb_text_put(script, "\n");
    return true;
}
