/* Pareto picture, perplexity with intervals, distribution of KLD. */
#include <math.h>
#include <string.h>

#include "reports/gnuplot.h"
#include "reports/plots/plots.h"

static int64_t style_of(int64_t i) { return i > 0 ? i - 1 : 0; }

/* On the front: no other scheme is both smaller (or equal) and nearer to the reference. */
static bool on_front(const dsb_summary *s, const dsb_digest *d) {
    for (int64_t i = 0; i < s->n; i++) {
        const dsb_digest *o = &s->schemes[i];
        if (o == d || !dsb_plot_shown(o) || !(o->kld.value > 0) || !(o->scheme->bpw_total > 0)) continue;
        if (o->scheme->bpw_total <= d->scheme->bpw_total && o->kld.value < d->kld.value) return false;
    }
    return true;
}

static bool has_point(const dsb_digest *d) { return dsb_plot_shown(d) && d->kld.value > 0 && d->scheme->bpw_total > 0; }

static void write_front(const dsb_summary *s, dsb_text *script) {
    double last = -1;
    dsb_plot_block(script, "$front", "front", "bits_per_weight\tkld_mean\tlo\thi\tscheme", NULL);
    for (;;) { /* ascending bits per weight, by selection: there are few schemes */
        const dsb_digest *next = NULL;
        for (int64_t i = 0; i < s->n; i++) {
            const dsb_digest *d = &s->schemes[i];
            if (has_point(d) && on_front(s, d) && d->scheme->bpw_total > last && (!next || d->scheme->bpw_total < next->scheme->bpw_total)) next = d;
        }
        if (!next) break;
        last = next->scheme->bpw_total;
        dsb_text_printf(script, "%.9g %.9g ? ?", last, next->kld.value);
        dsb_plot_cell(script, next->scheme->name);
        dsb_text_put(script, "\n");
    }
    dsb_text_put(script, "END\n");
}

bool dsb_plot_pareto(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    int64_t n = 0;
    dsb_plot_block(script, "$points", "schemes", "bits_per_weight\tkld_mean\tlo\thi\tscheme", NULL);
    for (int64_t i = 0; i < s->n; i++) {
        const dsb_digest *d = &s->schemes[i];
        bool shown = has_point(d);
        double lo = d->kld.lo > 0 ? d->kld.lo : d->kld.value, hi = d->kld.hi > 0 ? d->kld.hi : d->kld.value;
        dsb_plot_number(script, shown ? d->scheme->bpw_total : NAN);
        dsb_plot_number(script, shown ? d->kld.value : NAN);
        dsb_plot_number(script, shown ? lo : NAN);
        dsb_plot_number(script, shown ? hi : NAN);
        dsb_plot_cell(script, d->scheme->name);
        dsb_text_put(script, "\n");
        n += shown;
    }
    dsb_text_put(script, "END\n");
    if (!n) return false;
    write_front(s, script);
    dsb_plot_labels(script, "Accuracy against size: lower and further left is better", "bits per weight, all tensors, scales included",
                    "mean KLD to the reference, nats/token, log scale");
    dsb_text_put(script, "set logscale y\nset format y '%.0e'\nset xrange [0:*]\nset offsets 0,1,0,0\n"
                         "plot $front using 1:2 with steps linecolor rgb '#b0b0b0' linewidth 3 title 'Pareto front', "
                         "$front using 1:2:(strcol(5)) with labels left offset 0.7,0.5 font ',9' textcolor rgb '#333333' notitle");
    for (int64_t i = 0; i < s->n; i++) {
        if (!has_point(&s->schemes[i])) continue;
        dsb_text_printf(script, ", $points every ::%lld::%lld using 1:2:3:4 with yerrorbars ", (long long)i, (long long)i);
        dsb_plot_style(script, style_of(i), 1.4);
        dsb_text_put(script, " title ");
        dsb_gnuplot_quote(script, s->schemes[i].scheme->name, DSB_PLOT_NAME_MOST);
    }
    dsb_text_put(script, "\n");
    return true;
}

/* Asinh-like axis: tenths of a percent and tens of percent in one picture, zero in the middle. */
bool dsb_plot_perplexity(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    int64_t n = 0, row = 0;
    double left = -0.03, right = 0.1;
    for (int64_t i = 0; i < s->n; i++) {
        const dsb_quality *q = &s->schemes[i].delta_nll;
        if (!dsb_plot_shown(&s->schemes[i]) || isnan(q->value)) continue;
        left = fmin(left, 100 * expm1(fmin(q->value, isnan(q->lo) ? q->value : q->lo)));
        right = fmax(right, 100 * expm1(fmax(q->value, isnan(q->hi) ? q->value : q->hi)));
        n++;
    }
    if (!n) return false;
    dsb_plot_block(script, "$ppl", NULL, "change_percent\trow\tlo\thi\tscheme", NULL);
    for (int64_t i = 0; i < s->n; i++) {
        const dsb_quality *q = &s->schemes[i].delta_nll;
        if (!dsb_plot_shown(&s->schemes[i]) || isnan(q->value)) continue;
        dsb_plot_number(script, 100 * expm1(q->value));
        dsb_text_printf(script, " %lld", (long long)(n - ++row));
        dsb_plot_number(script, 100 * expm1(isnan(q->lo) ? q->value : q->lo));
        dsb_plot_number(script, 100 * expm1(isnan(q->hi) ? q->value : q->hi));
        dsb_plot_cell(script, s->schemes[i].scheme->name);
        dsb_text_put(script, "\n");
    }
    dsb_text_put(script, "END\nset ytics (");
    row = 0;
    for (int64_t i = 0; i < s->n; i++) {
        if (!dsb_plot_shown(&s->schemes[i]) || isnan(s->schemes[i].delta_nll.value)) continue;
        dsb_text_put(script, row ? ", " : "");
        dsb_gnuplot_quote_tic(script, s->schemes[i].scheme->name, DSB_PLOT_NAME_MOST);
        dsb_text_printf(script, " %lld", (long long)(n - ++row));
    }
    dsb_text_put(script, ")\n");
    dsb_plot_labels(script, "Change of perplexity against the reference, with 95 % intervals", "perplexity change, % (axis linear near zero, logarithmic beyond 0.1 %)", NULL);
    dsb_text_printf(script,
                    "set yrange [-0.7:%lld.7]\nset xrange [%g:%g]\nset bmargin 5\nset nonlinear x via asinh(x/0.1) inverse 0.1*sinh(x)\n"
                    "set xtics (-100, -30, -10, -3, -1, -0.3, -0.1, 0, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000)\nset xtics format '%%g'\nunset key\n"
                    "set arrow 1 from first 0, graph 0 to first 0, graph 1 nohead linecolor rgb '#444444' linewidth 1.5\nset bars 1.5\n"
                    "plot $ppl using 1:2:3:4 with xerrorbars linecolor rgb '#0072B2' linewidth 2 pointtype 7 pointsize 1.1\n",
                    (long long)n - 1, left * 1.4, right * 1.4);
    return true;
}

bool dsb_plot_kld(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    const char *separator = "plot ";
    bool any = false;
    for (int64_t i = 0; i < s->n; i++) {
        bool open = false;
        for (int64_t j = 0; j < s->data->n_detail && dsb_plot_shown(&s->schemes[i]); j++) {
            const dsb_quality_detail *b = &s->data->detail[j];
            if (strcmp(b->kind, "kld_hist") || strcmp(b->scheme, s->schemes[i].scheme->name) || !(b->lo > 0) || !(b->hi > b->lo) || b->n <= 0) continue;
            char name[48];
            snprintf(name, sizeof name, "$kld%lld", (long long)i);
            if (!open) dsb_plot_block(script, name, s->schemes[i].scheme->name, "kld\tpercent_per_decade", NULL);
            open = any = true;
            /* Share of positions a decade, so that any width of bins gives the same height. */
            dsb_text_printf(script, "%.9g %.9g\n", sqrt(b->lo * b->hi), 100 * b->value / (double)b->n / log10(b->hi / b->lo));
        }
        if (open) dsb_text_put(script, "END\n");
    }
    if (!any) return false;
    dsb_plot_labels(script, "How far each position's prediction moves: distribution of KLD", "KLD to the reference, nats, log scale", "positions per decade of KLD, %");
    dsb_text_put(script, "set logscale x\nset format x '%.0e'\nset yrange [0:*]\n");
    for (int64_t i = 0; i < s->n; i++) {
        char block[48];
        snprintf(block, sizeof block, "$kld%lld << END\n", (long long)i); /* a scheme without bins has no block */
        if (!script->data || !strstr(script->data, block)) continue;
        dsb_text_printf(script, "%s$kld%lld using 1:2 with lines ", separator, (long long)i);
        dsb_plot_style(script, style_of(i), 1.4);
        dsb_text_put(script, " title ");
        dsb_gnuplot_quote(script, s->schemes[i].scheme->name, DSB_PLOT_NAME_MOST);
        separator = ", ";
    }
    dsb_text_put(script, "\n");
    return true;
}

/* A line a scheme over ten bins of the reference's largest probability. */
bool dsb_plot_kld_confidence(const dsb_summary *s, dsb_arena *arena, dsb_text *script) {
    const dsb_run_data *d = s->data;
    int64_t found = 0;
    dsb_plot_block(script, "$confidence", NULL, "confidence\tpositions", s);
    for (int bin = 0; bin < 10; bin++) {
        double middle = 0.1 * bin + 0.05;
        int64_t n = 0;
        for (int64_t j = 0; j < d->n_detail; j++)
            if (d->detail[j].bin == bin && !strcmp(d->detail[j].kind, "kld_by_confidence") && d->detail[j].n > n) n = d->detail[j].n;
        dsb_text_printf(script, "%g %lld", middle, (long long)n);
        for (int64_t i = 0; i < s->n; i++) {
            double v = NAN;
            for (int64_t j = 0; j < d->n_detail && dsb_plot_shown(&s->schemes[i]); j++)
                if (d->detail[j].bin == bin && !strcmp(d->detail[j].kind, "kld_by_confidence") && !strcmp(d->detail[j].scheme, s->schemes[i].scheme->name) && d->detail[j].value > 0 && d->detail[j].n > 0) v = d->detail[j].value;
            found += !isnan(v);
            dsb_plot_number(script, v);
        }
        dsb_text_put(script, "\n");
    }
    dsb_text_put(script, "END\n");
    if (!found) return false;
    dsb_plot_labels(script, "KLD by how sure the reference is (bars: share of the positions)", "largest probability of the reference", "mean KLD, nats/token, log scale");
    dsb_text_put(script, "set logscale y\nset format y '%.0e'\nset xrange [0:1]\nset y2range [0:*]\nset rmargin 30\nstats $confidence using 2 nooutput\n"
                         "plot $confidence using 1:(100 * $2 / STATS_sum):(0.09) axes x1y2 with boxes fillstyle solid 0.35 noborder linecolor rgb '#d8dde3' title 'positions, %'");
    for (int64_t i = 0; i < s->n; i++) {
        if (!dsb_plot_shown(&s->schemes[i])) continue;
        dsb_text_printf(script, ", $confidence using 1:%lld with linespoints ", (long long)i + 3);
        dsb_plot_style(script, style_of(i), 0.7);
        dsb_text_put(script, " title ");
        dsb_gnuplot_quote(script, s->schemes[i].scheme->name, DSB_PLOT_NAME_MOST);
    }
    dsb_text_put(script, "\n");
    return true;
}
