/* Rows of `dsbench bench`, with the machine and the model that they are of. */
#include "db/connection.h"

static dsb_status put(dsb_db *db, const dsb_host_facts *host, const dsb_model_facts *model, const dsb_bench_row *rows, int64_t n, dsb_err *err) {
    static const char *const references[] = { "host_id", "model_id" };
    int64_t ids[2];
    DSB_TRY(dsb_db_facts_id(db, &dsb_table_host, host, &ids[0], err));
    DSB_TRY(dsb_db_facts_id(db, &dsb_table_model, model, &ids[1], err));
    for (int64_t i = 0; i < n; i++) DSB_TRY(dsb_db_insert(db, &dsb_table_bench, &rows[i], 2, references, ids, err));
    return DSB_OK;
}

dsb_status dsb_db_put_bench(dsb_db *db, const dsb_host_facts *host, const dsb_model_facts *model, const dsb_bench_row *rows, int64_t n, dsb_err *err) {
    DSB_TRY(dsb_db_begin(db, err));
    dsb_status s = put(db, host, model, rows, n, err);
    if (!s) s = dsb_db_commit(db, err);
    if (s) dsb_db_rollback(db);
    return s;
}
