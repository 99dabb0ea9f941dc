/* What the commands that read the record share: open, find the run, load it; print a text. */
#ifndef DSB_HARNESS_STORED_RUN_H
#define DSB_HARNESS_STORED_RUN_H

#include "harness/options.h"
#include "reports/grid.h"
#include "reports/run_data.h"
#include "reports/spark.h"

typedef struct dsb_stored_run {
    dsb_db *db;      /* owned */
    dsb_arena arena; /* owned */
    const char *id;
    bool csv;        /* --csv is given: tables alone, as CSV */
    dsb_run_data data;
} dsb_stored_run;

/* name: an id, a prefix, `latest`; NULL is `latest`. Close it whatever the result. */
dsb_status dsb_stored_run_open(dsb_stored_run *r, const char *db_path, const char *name, dsb_err *err);
void dsb_stored_run_close(dsb_stored_run *r);

/* For writing, but only a database that is there: a mistyped name makes none. */
dsb_status dsb_stored_db_change(dsb_db **out, const char *path, dsb_err *err);

/* A command that looks at one run: reads its options, opens the run, calls show with `what`. Returns the exit code. */
typedef dsb_status dsb_stored_run_show(dsb_stored_run *r, const void *what, bool json, dsb_err *err);
int dsb_stored_run_command(const dsb_usage *usage, int argc, char **argv, dsb_stored_run_show *show, const void *what);
/* The options that such commands share, for a dsb_filter. */
#define DSB_FILTER_PLACES(f, of_expert)                                                                   \
    { "scheme", 's', DSB_OPT_STRING, &(f).scheme, "NAME", "only this scheme", 0, 0 },                     \
    { "layer", 'l', DSB_OPT_INT, &(f).layer, "N", "only this layer", 0, 1e9 },                            \
    { "expert", 'e', DSB_OPT_INT, &(f).expert, "N", of_expert, 0, 1e9 }
#define DSB_FILTER_TOP(f) { "top", 'n', DSB_OPT_INT, &(f).top, "N", "rows shown, worst first (default 20, 0 for all)", 0, 1e9 }

/* Everything to standard output. DSB_EOUTPUT if it can't take it (a full disk). */
dsb_status dsb_print(const dsb_text *text, dsb_err *err);
/* A command's end: prints what it wrote where all went well (s), releases it, returns the exit code. */
int dsb_print_and_end(dsb_text *text, dsb_status s, dsb_err *err);
/* A table that stands worst first (worst: the key of the figure it is ranked by, NULL: none is shaded), and lines (or NULL) below it: not in JSON. */
dsb_status dsb_print_inspection(const dsb_stored_run *r, dsb_grid *g, const char *worst, const dsb_spark_lines *lines, bool json, dsb_err *err);
/* "text", "md", "json", and "csv" where csv; json true wins. DSB_EUSAGE names what there is. NULL is text. */
dsb_status dsb_format_parse(const char *name, bool json, bool csv, dsb_report_format *out, dsb_err *err);

#endif
