/* The report: one self-contained HTML file, nothing fetched, everything from the record escaped; one script of its own, allowed by its hash, and readable
 * without it. */
#ifndef DSB_REPORTS_HTML_H
#define DSB_REPORTS_HTML_H

#include "reports/compare.h"
#include "reports/summary.h"

/* Appends the whole page, with the trend of the run's suite; comparison (or NULL): with that base, its verdict first, and its tolerances for the trend.
 * Without gnuplot the page is made without plots and says so. */
dsb_status dsb_html_report(dsb_db *db, const char *run_id, const dsb_comparison *comparison, dsb_text *out, dsb_err *err);
/* The same into a file. DSB_EOUTPUT. */
dsb_status dsb_html_write(dsb_db *db, const char *run_id, const dsb_comparison *comparison, const char *path, dsb_err *err);

#endif
