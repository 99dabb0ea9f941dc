/* A suite's figures over its runs: panels of one metric each, a line a scheme, dashed lines where a figure became another one. */
#include <math.h>
#include <string.h>

#include "reports/gnuplot.h"
#include "reports/history.h"
#include "reports/plots/plots.h"

typedef struct panel {
    const char *metric, *title;
    double scale;
    bool log;
} panel;

static int64_t style_of(int64_t i) { return i > 0 ? i - 1 : 0; }

/* night, then value, lo, hi of each scheme; only nights of this host for speeds. Returns how many values there are. */
static int64_t write_panel(const dsb_summary *s, const panel *p, bool speed, int at, dsb_text *script) {
    int64_t n = 0;
    dsb_text_printf(script, "$panel%d << END\n", at);
    for (int64_t i = 0; i < s->history->n; i++) {
        dsb_text_printf(script, "%lld", (long long)i);
        for (int64_t k = 0; k < s->n; k++) {
            bool shown = (speed || dsb_plot_shown(&s->schemes[k])) && (!speed || s->history->nights[i].same_host);
            dsb_quality q = dsb_night_figure(&s->history->nights[i], s->schemes[k].scheme->name, p->metric);
            double v = shown && (!p->log || q.value > 0) ? q.value : NAN, lo = isnan(q.lo) || (p->log && !(q.lo > 0)) ? v : q.lo, hi = isnan(q.hi) ? v : q.hi;
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
    const char *separator = "plot ";
    write_steps(s->history, p, arena, script);
    dsb_plot_labels(script, p->title, last ? "run (day it began, UTC)" : "", "");
    dsb_text_put(script, p->log ? "set logscale y\nset format y '%.0e'\n" : "unset logscale y\nset format y '%g'\n");
    dsb_text_put(script, at == 0 ? "set key outside right top\n" : "unset key\nunset label 99\n");
    for (int64_t k = 0; k < s->n; k++) {
        if (!speed && !dsb_plot_shown(&s->schemes[k])) continue;
        const long long c = 3 * k + 2;
        dsb_text_printf(script, "%s$panel%d using 1:%lld:%lld:%lld with yerrorlines ", separator, at, c, c + 1, c + 2);
        dsb_plot_style(script, style_of(k), 0.7);
        dsb_text_put(script, " title ");
        dsb_gnuplot_quote(script, s->schemes[k].scheme->name, DSB_PLOT_NAME_MOST);
        separator = ", ";
    }
    dsb_text_put(script, "\n");
}

static bool trend(const dsb_summary *s, const panel *panels, int n, bool speed, dsb_arena *arena, dsb_text *script) {
    int64_t found = 0;
    if (!s->history || s->history->n < 2) return false;
    for (int i = 0; i < n; i++) found += write_panel(s, &panels[i], speed, i, script);
    if (!found) return false;
    write_dates(s->history, arena, script);
    dsb_text_printf(script, "set xrange [-0.4:%lld.4]\nset bars 0.6\nset multiplot layout %d,1 margins 0.1,0.8,0.1,0.94 spacing 0,0.1\n", (long long)s->history->n - 1, n);
    for (int i = 0; i < n; i++) plot_panel(s, &panels[i], speed, i == n - 1, i, arena, script);
    dsb_text_put(script, "unset multiplot\n");
    return true;
}

bool dsb_plot_trend(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    static const panel panels[] = { { "kld_mean", "mean KLD to the reference, nats/token, log scale", 1, true },
                                    { "delta_nll", "change of nll against the reference, nats/token", 1, false },
                                    { "selection_change", "tokens sent to other experts, %", 100, false } };
    return trend(s, panels, 3, false, arena, script);
}

bool dsb_plot_trend_speed(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    static const panel panels[] = { { "prefill_tps", "prefill, tokens/s (median and range of the repeats)", 1, false }, { "decode_tps", "decode, tokens/s (median and range of the repeats)", 1, false } };
    return trend(s, panels, 2, true, arena, script);
}
