/* A figure: one named number with its interval, and the flat list of them that a run stores. */
#ifndef DSB_METRICS_FIGURE_H
#define DSB_METRICS_FIGURE_H

#include <stdint.h>

typedef struct dsb_figure {
    char metric[32];      /* a name of metric_table.c */
    double value, lo, hi; /* NaN: undefined, or no interval is meaningful */
    int64_t n;            /* positions, tokens or experts behind it */
    const char *unit;     /* static */
} dsb_figure;

enum { DSB_FIGURES_MAX = 64 };

/* A list without an owner: no memory behind it. Zero it to empty it. */
typedef struct dsb_figures {
    int n;
    dsb_figure item[DSB_FIGURES_MAX];
} dsb_figures;

/* Appends; the unit and the legal range (intervals are cut to it) come from metric_table.c. A name that is not there is our bug. */
void dsb_figures_put(dsb_figures *list, const char *metric, double value, double lo, double hi, int64_t n);
/* The figure of that name, or NULL. */
const dsb_figure *dsb_figures_find(const dsb_figures *list, const char *metric);

#endif
