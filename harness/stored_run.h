/* What the commands that read the record share: open, find the run, load it; print a text. */
#ifndef DSB_HARNESS_STORED_RUN_H
#define DSB_HARNESS_STORED_RUN_H

#include "reports/grid.h"
#include "reports/run_data.h"
#include "reports/spark.h"

typedef struct dsb_stored_run {
    dsb_db *db;      /* owned */
    dsb_arena arena; /* owned */
    const char *id;
    dsb_run_data data;
} dsb_stored_run;

/* name: an id, a prefix, `latest`; NULL is `latest`. Close it whatever the result. */
dsb_status dsb_stored_run_open(dsb_stored_run *r, const char *db_path, const char *name, dsb_err *err);
void dsb_stored_run_close(dsb_stored_run *r);

/* Everything to standard output. DSB_EOUTPUT if it can't take it (a full disk). */
dsb_status dsb_print(const dsb_text *text, dsb_err *err);
/* A table that stands worst first (worst: the key of the figure it is ranked by, NULL: none is shaded), and lines (or NULL) below it: not in JSON. */
dsb_status dsb_print_inspection(const dsb_stored_run *r, dsb_grid *g, const char *worst, const dsb_spark_lines *lines, bool json, dsb_err *err);
/* "text", "md", "json", and "csv" where csv; json true wins. DSB_EUSAGE names what there is. NULL is text. */
dsb_status dsb_format_parse(const char *name, bool json, bool csv, dsb_report_format *out, dsb_err *err);

#endif
