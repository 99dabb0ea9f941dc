/* Figures along layers or experts as one line of blocks, for a terminal: where the damage lies, at a glance beside the tables that rank it. */
#ifndef DSB_REPORTS_SPARK_H
#define DSB_REPORTS_SPARK_H

#include "reports/inspect.h"

enum { DSB_SPARK_WIDTH = 64 }; /* blocks of a line at most: where there are more figures, one shows the largest of several */

/* ▁ for lo and below, █ for hi and above, by logarithm between; a space where there is no figure (NaN). */
void dsb_spark(dsb_text *out, const double *v, int64_t n, double lo, double hi);

/* A line a scheme (of experts: a layer of one scheme), all on one scale, with the worst figure and where it is. */
typedef struct dsb_spark_lines {
    const char *caption; /* what is drawn, and the scale; in the arena */
    dsb_grid grid;       /* no rows: nothing to draw */
} dsb_spark_lines;

/* nmse of blocks' outputs, of the filter's kind or accumulated; share of tokens rerouted; largest nmse of a layer's weights. */
dsb_status dsb_spark_layers(const dsb_run_data *d, const dsb_filter *f, dsb_arena *arena, dsb_spark_lines *out, dsb_err *err);
dsb_status dsb_spark_routing(const dsb_run_data *d, const dsb_filter *f, dsb_arena *arena, dsb_spark_lines *out, dsb_err *err);
dsb_status dsb_spark_tensors(const dsb_run_data *d, const dsb_tensor_error *rows, int64_t n, const dsb_filter *f, dsb_arena *arena, dsb_spark_lines *out, dsb_err *err);
/* Along the experts of each layer: nmse of an expert's output. */
dsb_status dsb_spark_experts(const dsb_run_data *d, const char *scheme, const dsb_filter *f, dsb_arena *arena, dsb_spark_lines *out, dsb_err *err);

#endif
