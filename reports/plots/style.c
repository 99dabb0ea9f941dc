/* Colours of Okabe and Ito (apart for the colour-blind) without the pale yellow, then two greys; dash and point differ as well. */
#include <math.h>
#include <string.h>

#include "reports/gnuplot.h"
#include "reports/plots/plots.h"

static const char *const colours[] = { "#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C8C8C", "#6B4E16" };
static const int points[] = { 7, 5, 9, 11, 13, 6, 4, 8, 10, 12 };
static const int dashes[] = { 1, 1, 1, 1, 1, 2, 2, 2, 4, 4 };
enum { N_STYLE = sizeof colours / sizeof *colours };

const char *dsb_plot_colour(int64_t i) { return colours[i % N_STYLE]; }

void dsb_plot_style(dsb_text *script, int64_t i, double pointsize) {
    int64_t turn = i / N_STYLE; /* more schemes than colours: the dash moves on */
    dsb_text_printf(script, "linecolor rgb '%s' dashtype %lld linewidth 1.8 pointtype %d pointsize %g", colours[i % N_STYLE],
                    (long long)((dashes[i % N_STYLE] + turn - 1) % 5 + 1), points[(i + turn) % N_STYLE], pointsize);
}

void dsb_plot_labels(dsb_text *script, const char *title, const char *x, const char *y) {
    const char *const what[] = { "title", "xlabel", "ylabel" }, *const text[] = { title, x, y };
    for (int i = 0; i < 3; i++) {
        if (!text[i]) continue;
        dsb_text_printf(script, "set %s ", what[i]);
        dsb_gnuplot_quote(script, text[i], 0);
        dsb_text_put(script, "\n");
    }
}

void dsb_plot_number(dsb_text *script, double value) {
    if (isfinite(value)) dsb_text_printf(script, " %.9g", value);
    else dsb_text_put(script, " ?");
}

bool dsb_plot_shown(const dsb_digest *d) { return d->standing != DSB_STANDING_REFERENCE; }

/* Without what would end the line, the column or the quotes. */
static void put_plain(dsb_text *script, const char *name) {
    for (const char *p = name ? name : ""; *p; p++) {
        if ((unsigned char)*p < 32 || *p == 127) dsb_text_put(script, "?");
        else if (*p == '"') dsb_text_put(script, "”");
        else dsb_text_bytes(script, p, 1);
    }
}

void dsb_plot_block(dsb_text *script, const char *block, const char *series, const char *columns, const dsb_summary *s) {
    dsb_text_printf(script, "%s << END\n#", block);
    if (series) dsb_text_put(script, "@");
    put_plain(script, series);
    dsb_text_printf(script, "\t%s", columns);
    for (int64_t i = 0; s && i < s->n; i++) {
        dsb_text_put(script, "\t");
        put_plain(script, s->schemes[i].scheme->name);
    }
    dsb_text_put(script, "\n");
}

void dsb_plot_cell(dsb_text *script, const char *name) {
    dsb_text_put(script, " \"");
    put_plain(script, name);
    dsb_text_put(script, "\"");
}

double dsb_plot_tic_step(double most) {
    double power = pow(10, floor(log10(most / 4))), rest = most / 4 / power;
    return power * (rest <= 1 ? 1 : rest <= 2 ? 2 : rest <= 5 ? 5 : 10);
}
