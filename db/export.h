/* A table or view of the record, row by row as it stands, for `dsbench export`. */
#ifndef DSB_DB_EXPORT_H
#define DSB_DB_EXPORT_H

#include "db/db.h"

typedef struct dsb_db_cell {
    const char *column;
    enum { DSB_DB_NULL, DSB_DB_TEXT, DSB_DB_INT, DSB_DB_REAL } kind;
    const char *text; /* borrowed until the next row */
    int64_t integer;
    double real;
} dsb_db_cell;

/* Called once before the first row with row −1 (columns alone), then for each row from 0. */
typedef dsb_status dsb_db_visit(void *to, int64_t row, const dsb_db_cell *cells, int n, dsb_err *err);

/* run_id: that run's rows (of pairs of runs: where it is the head), NULL: all. DSB_EUSAGE lists the names there are where `name` is none, and says so where its rows
 * belong to no run. */
dsb_status dsb_db_export(dsb_db *db, const char *name, const char *run_id, dsb_db_visit *visit, void *to, dsb_err *err);

#endif
