/* A table once, written six ways: aligned text, the same with a terminal's colours, Markdown, HTML; JSON and CSV (raw figures under each column's key).
 * Cells are added row by row; out of memory is remembered and told by the writer. */
#ifndef DSB_REPORTS_GRID_H
#define DSB_REPORTS_GRID_H

#include <jansson.h>
#include <stdint.h>

#include "reports/text.h"

typedef enum dsb_report_format { DSB_REPORT_TEXT, DSB_REPORT_TERMINAL, DSB_REPORT_MARKDOWN, DSB_REPORT_HTML, DSB_REPORT_JSON, DSB_REPORT_CSV } dsb_report_format;

typedef struct dsb_grid_head {
    const char *key;   /* in JSON */
    const char *title; /* over the column; NULL: the column is in JSON only */
    const char *unit;  /* under the title, or NULL */
    bool left;         /* text; figures stand right */
} dsb_grid_head;

typedef struct dsb_cell {
    const char *text; /* in the arena */
    enum { DSB_CELL_TEXT, DSB_CELL_REAL, DSB_CELL_INT, DSB_CELL_NULL } kind;
    double real;
    int64_t integer;
    enum { DSB_SHADE_NONE, DSB_SHADE_BAD, DSB_SHADE_WORST } shade; /* in a terminal: yellow, red */
} dsb_cell;

typedef struct dsb_grid {
    dsb_arena *arena; /* borrowed */
    const dsb_grid_head *heads;
    int n_column;
    dsb_cell *cells; /* (n_cell), in the arena */
    size_t n_cell, room;
    int64_t marked; /* a row that stands out in HTML, -1: none */
    bool failed;
} dsb_grid;

void dsb_grid_init(dsb_grid *g, dsb_arena *arena, const dsb_grid_head *heads, int n_column);
int64_t dsb_grid_rows(const dsb_grid *g);
/* A name; NULL shows as "–". */
void dsb_grid_text(dsb_grid *g, const char *text);
void dsb_grid_int(dsb_grid *g, int64_t value); /* below 0: "–" */
/* A figure that is undefined because n values are not finite: "n not finite", null in JSON. */
void dsb_grid_not_finite(dsb_grid *g, int64_t n);
/* A figure as it is to be read; NaN shows as "–" and is null in JSON. */
void dsb_grid_figure(dsb_grid *g, double value, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Shades a column of figures that stand worst first, larger ones worse: red within half of the first, yellow within a tenth. */
void dsb_grid_shade(dsb_grid *g, const char *key);
dsb_status dsb_grid_write(const dsb_grid *g, dsb_report_format format, dsb_text *out, dsb_err *err);
/* An array of objects, owned. NULL: no memory. */
json_t *dsb_grid_json(const dsb_grid *g);

#endif
