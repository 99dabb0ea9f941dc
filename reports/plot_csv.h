/* The data of a plot as CSV: what its script holds in data blocks, under the columns that the blocks name (reports/plots/plots.h, dsb_plot_block). */
#ifndef DSB_REPORTS_PLOT_CSV_H
#define DSB_REPORTS_PLOT_CSV_H

#include "reports/text.h"

/* Blocks of the same columns stand under one head, others below an empty line; the first column is the block's series. A missing value is empty. A text that
 * a spreadsheet would take for a formula gets a quote before it. */
void dsb_plot_csv(const char *script, dsb_text *out);

#endif
