/* Pieces of the report that html.c puts in order. */
#ifndef DSB_REPORTS_HTML_PARTS_H
#define DSB_REPORTS_HTML_PARTS_H

#include "reports/summary.h"

typedef struct dsb_page {
    const dsb_summary *s;
    dsb_arena *arena;
    dsb_text *out;
    int n_plot;        /* pictures so far: each gets ids of its own */
    char missing[300]; /* why pictures are missing: the first failure */
} dsb_page;

void dsb_page_answer(dsb_page *p);
void dsb_page_warnings(dsb_page *p);
/* Notes that schemes left: of compensation. */
void dsb_page_notes(dsb_page *p);
void dsb_page_caveats(dsb_page *p);
/* Every layer as something to open: schemes, experts, tensors (reports/html_layers.c). */
dsb_status dsb_page_layers(dsb_page *p, dsb_db *db, dsb_err *err);
void dsb_page_reading(dsb_page *p);
void dsb_page_facts(dsb_page *p);
void dsb_page_recipes(dsb_page *p, const dsb_recipe_rule_row *rules, int64_t n);
/* A table, or nothing if it has no rows. */
void dsb_page_grid(dsb_page *p, const dsb_grid *g);
/* A plot with its caption, or nothing if the run has no data for it. */
void dsb_page_plot(dsb_page *p, const char *name, const char *caption);

#endif
