/* The plots, one row each. To add one: a function in reports/plots/ and a line in plot_table.c.
 * A plot writes gnuplot commands and its data; the terminal, the size and the fonts are set for it. */
#ifndef DSB_REPORTS_PLOT_TABLE_H
#define DSB_REPORTS_PLOT_TABLE_H

#include "reports/summary.h"

typedef enum dsb_picture { DSB_PICTURE_SVG, DSB_PICTURE_PNG, DSB_PICTURE_PDF, DSB_PICTURE_TERMINAL } dsb_picture;

/* What a plot is drawn of: a run; two or more of its suite; a run and a base beside it. */
typedef enum dsb_plot_needs { DSB_PLOT_RUN, DSB_PLOT_RUNS, DSB_PLOT_BASE } dsb_plot_needs;

typedef struct dsb_plot {
    const char *name, *title; /* "pareto", what it shows in a line */
    dsb_plot_needs needs;
    /* Appends commands; false where the run has no such data. */
    bool (*write)(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
} dsb_plot;

/* The table in reading order; returns its length. */
int dsb_plot_list(const dsb_plot **rows);
const dsb_plot *dsb_plot_find(const char *name);

/* One picture. *drawn is false, and nothing is appended, where the run has no data for it. DSB_EOUTPUT as dsb_gnuplot_run. */
dsb_status dsb_plot_draw(const dsb_plot *plot, const dsb_summary *s, dsb_picture picture, dsb_text *out, bool *drawn, dsb_err *err);
/* base: a run beside it, for the plots that compare; NULL: none.
 * All plots (or the one named) of a run as files dir/NAME.svg, .png or .pdf with the data as NAME.csv, or all one after another to `out` for the terminal.
 * Goes on after a plot that fails; returns the first failure. Written paths, one a line, are appended to `out`. */
dsb_status dsb_plot_run(dsb_db *db, const char *run_id, const char *base, const char *name, dsb_picture picture, const char *dir, dsb_text *out, dsb_err *err);

#endif
