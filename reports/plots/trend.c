/* A suite's figures over its runs: panels of one metric each, a line a scheme, dashed lines where a figure became another one. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "reports/gnuplot.h"
#include "reports/history.h"
#include "reports/plots/plots.h"

typedef struct panel {
    const char *metric, *title;
    double scale;
    enum { PLAIN, LOG, AROUND_ZERO } axis; /* AROUND_ZERO: linear near it, logarithmic beyond */
} panel;

/* As in the other plots; of speeds the reference has a line too. */
static int64_t style_of(bool speed, int64_t i) { return speed ? i : i > 0 ? i - 1 : 0; }

/* night, then value, lo, hi of each scheme; only nights of this host for speeds. Returns how many values there are. */
static int64_t write_panel(const dsb_summary *s, const panel *p, bool speed, int at, dsb_arena *arena, dsb_text *script) {
    int64_t n = 0;
    char block[32];
    dsb_text columns;
    dsb_text_init(&columns);
    snprintf(block, sizeof block, "$panel%d", at);
    dsb_text_put(&columns, "run");
    for (int64_t k = 0; k < s->n; k++) {
        const char *name = dsb_text_clean(arena, s->schemes[k].scheme->name);
        dsb_text_printf(&columns, "\t%s\t%s low\t%s high", name ? name : "?", name ? name : "?", name ? name : "?");
    }
    dsb_plot_block(script, block, p->metric, columns.data ? columns.data : "", NULL);
    dsb_text_release(&columns);
    for (int64_t i = 0; i < s->history->n; i++) {
        dsb_text_printf(script, "%lld", (long long)i);
        for (int64_t k = 0; k < s->n; k++) {
            bool shown = (speed || dsb_plot_shown(&s->schemes[k])) && (!speed || s->history->nights[i].same_host);
            dsb_quality q = dsb_night_figure(&s->history->nights[i], s->schemes[k].scheme->name, p->metric);
            double v = shown && (p->axis != LOG || q.value > 0) ? q.value : NAN, lo = isnan(q.lo) || (p->axis == LOG && !(q.lo > 0)) ? v : q.lo, hi = isnan(q.hi) ? v : q.hi;
            n += !isnan(v);
            dsb_plot_number(script, p->scale * v);
            dsb_plot_number(script, isnan(v) ? NAN : p->scale * lo);
            dsb_plot_number(script, isnan(v) ? NAN : p->scale * hi);
        }
        dsb_text_put(script, "\n");
    }
    dsb_text_put(script, "END\n");
    return n;
}

/* Dates of at most eight nights. */
static void write_dates(const dsb_history *h, dsb_arena *arena, dsb_text *script) {
    int64_t step = (h->n + 7) / 8;
    dsb_text_put(script, "set xtics (");
    for (int64_t i = 0; i < h->n; i += step) {
        const char *utc = h->nights[i].data.run.created_utc;
        dsb_text_put(script, i ? ", " : "");
        dsb_gnuplot_quote_tic(script, utc && strlen(utc) > 10 ? dsb_text_format(arena, "%.5s", utc + 5) : "?", 5);
        dsb_text_printf(script, " %lld", (long long)i);
    }
    dsb_text_put(script, ")\n");
}

/* Nights of a panel's metric where some scheme's figure changed; the build is named on the first panel that has it. */
static void write_steps(const dsb_history *h, const panel *p, dsb_arena *arena, dsb_text *script) {
    int64_t last = -1;
    int tag = 1;
    for (int t = 1; t <= 12; t++) dsb_text_printf(script, "unset arrow %d\nunset label %d\n", t, t);
    for (int64_t i = 0; i < h->n_step && tag <= 12; i++) {
        const dsb_step *step = &h->steps[i];
        const dsb_run_record *r = &h->nights[step->night].data.run;
        if (strcmp(step->metric, p->metric) || step->night == last) continue;
        last = step->night;
        dsb_text_printf(script, "set arrow %d from %lld.0, graph 0 to %lld.0, graph 1 nohead dashtype 2 linewidth 1.5 linecolor rgb '%s'\nset label %d ", tag, (long long)last, (long long)last,
                        step->worse ? "#B3261E" : "#009E73", tag);
        dsb_gnuplot_quote(script, dsb_text_format(arena, "%.8s", r->build_hash && *r->build_hash ? r->build_hash : r->build_version ? r->build_version : "?"), 8);
        bool right = last * 2 > h->n;
        dsb_text_printf(script, " at %lld.0, graph 0.93 %s offset %s,0 font ',9' textcolor rgb '%s'\n", (long long)last, right ? "right" : "left", right ? "-0.6" : "0.6", step->worse ? "#B3261E" : "#009E73");
        tag++;
    }
}

static void plot_panel(const dsb_summary *s, const panel *p, bool speed, bool last, int at, dsb_arena *arena, dsb_text *script) {
    static const char *const axes[] = { "unset logscale y\nset ytics nomirror autofreq font ',9'\nset format y '%g'\n", "set logscale y\nset ytics nomirror autofreq font ',9'\nset format y '%g'\n",
                                        "unset logscale y\nset nonlinear y via asinh(y/0.002) inverse 0.002*sinh(y)\nset ytics nomirror (-1, -0.1, -0.01, 0, 0.01, 0.1, 1) font ',9'\nset format y '%g'\n" };
    const char *separator = "plot ";
    write_steps(s->history, p, arena, script);
    dsb_plot_labels(script, p->title, last ? "run (day it began, UTC)" : "", "");
    dsb_text_put(script, axes[p->axis]);
    for (int64_t k = 0; k < s->n; k++) {
        if (!speed && !dsb_plot_shown(&s->schemes[k])) continue;
        const long long c = 3 * k + 2;
        dsb_text_printf(script, "%s$panel%d using 1:%lld:%lld:%lld with yerrorlines ", separator, at, c, c + 1, c + 2);
        dsb_plot_style(script, style_of(speed, k), 0.7);
        dsb_text_put(script, " notitle");
        separator = ", ";
    }
    dsb_text_put(script, p->axis == AROUND_ZERO ? "\nunset nonlinear y\n" : "\n");
}

/* One legend for all panels: gnuplot makes it no taller than the plot it belongs to, so that it gets an empty one as tall as the picture. */
static void write_legend(const dsb_summary *s, bool speed, dsb_text *script) {
    const char *separator = "plot [0:1] [0:1] ";
    dsb_text_put(script, "set lmargin at screen 0.1\nset rmargin at screen 0.8\nset tmargin at screen 0.97\nset bmargin at screen 0.1\nunset border\nunset tics\nunset grid\nset key outside right top\n");
    for (int64_t k = 0; k < s->n; k++) {
        if (!speed && !dsb_plot_shown(&s->schemes[k])) continue;
        dsb_text_printf(script, "%sNaN with linespoints ", separator);
        dsb_plot_style(script, style_of(speed, k), 0.7);
        dsb_text_put(script, " title ");
        dsb_gnuplot_quote(script, s->schemes[k].scheme->name, DSB_PLOT_NAME_MOST);
        separator = ", ";
    }
    dsb_text_put(script, "\nunset key\nunset label 99\nset border 3 linestyle 101\nset tics nomirror textcolor rgb '#222222'\nset grid back linestyle 100\n");
}

static bool trend(const dsb_summary *s, const panel *panels, int n, bool speed, dsb_arena *arena, dsb_text *script) {
    const panel *shown[4];
    int found = 0;
    if (!s->history || s->history->n < 2) return false;
    for (int i = 0; i < n; i++)
        if (write_panel(s, &panels[i], speed, found, arena, script)) shown[found++] = &panels[i];
    if (!found) return false;
    dsb_text_put(script, "set multiplot\n");
    write_legend(s, speed, script);
    write_dates(s->history, arena, script);
    dsb_text_printf(script, "set xrange [-0.4:%lld.4]\nset bars 0.6\n", (long long)s->history->n - 1);
    for (int i = 0; i < found; i++) {
        double height = 0.84 / found, top = 0.94 - i * height;
        dsb_text_printf(script, "set tmargin at screen %g\nset bmargin at screen %g\nset yrange [*:*]\n", top, top - height + (i < found - 1 ? 0.12 : 0));
        plot_panel(s, shown[i], speed, i == found - 1, i, arena, script);
    }
    dsb_text_put(script, "unset multiplot\n");
    return true;
}

bool dsb_plot_trend(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    static const panel panels[] = { { "kld_mean", "mean KLD to the reference, nats/token, log scale", 1, LOG },
                                    { "delta_nll", "change of nll against the reference, nats/token", 1, AROUND_ZERO },
                                    { "selection_change", "tokens sent to other experts, %, log scale", 100, LOG } };
    return trend(s, panels, 3, false, arena, script);
}

bool dsb_plot_trend_speed(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    static const panel panels[] = { { "prefill_tps", "prefill, tokens/s (median and range of the repeats)", 1, PLAIN }, { "decode_tps", "decode, tokens/s (median and range of the repeats)", 1, PLAIN } };
    return trend(s, panels, 2, true, arena, script);
}
