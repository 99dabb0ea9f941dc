/* What the plots share: colours, styles of schemes, data blocks. Each write_* is a row of plot_table.c. */
#ifndef DSB_REPORTS_PLOTS_PLOTS_H
#define DSB_REPORTS_PLOTS_PLOTS_H

#include "reports/plot_table.h"

#define DSB_PLOT_NAME_MOST 22 /* characters of a scheme's name in a legend */

/* Line and point style i (0, 1, …) of "linecolor … dashtype … pointtype …": colour, dash and point all tell schemes apart. */
void dsb_plot_style(dsb_text *script, int64_t i, double pointsize);
const char *dsb_plot_colour(int64_t i);
/* Title (run-independent), axis labels; NULL leaves one out. */
void dsb_plot_labels(dsb_text *script, const char *title, const char *x, const char *y);
/* 1, 2 or 5 times a power of ten: about four tics over 0 .. most. */
double dsb_plot_tic_step(double most);
/* A number as gnuplot reads it; NaN and infinities as a missing value. */
void dsb_plot_number(dsb_text *script, double value);
/* Opens a data block `$name << END` that says what its columns are, for gnuplot a comment, for the CSV beside the picture its head. series: what the block is of
 * (a scheme), NULL: nothing; columns: names between tabs; s (or NULL): then a column a scheme. Close it with a line "END". */
void dsb_plot_block(dsb_text *script, const char *block, const char *series, const char *columns, const dsb_summary *s);
/* A name as a column of a data block: in double quotes. */
void dsb_plot_cell(dsb_text *script, const char *name);
/* Schemes that a plot of damage shows: all but the reference. Their index in the summary stays their style. */
bool dsb_plot_shown(const dsb_digest *d);

bool dsb_plot_error_accumulated(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_error_isolated(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_routing_drift(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_heat_drift(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_heat_load(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_pareto(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_perplexity(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_kld(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_throughput(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_kld_confidence(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_margins(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_heat_worst(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_expert_scatter(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_waterfall(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_trend(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_trend_speed(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_comparison(const dsb_summary *s, dsb_arena *arena, dsb_text *script);
bool dsb_plot_expert_error(const dsb_summary *s, dsb_arena *arena, dsb_text *script);

#endif
