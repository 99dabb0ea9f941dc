/* One put and one get for every table, over the column descriptions of tables.c. */
#include <string.h>

#include "db/connection.h"

void dsb_row_bind(sqlite3_stmt *stmt, int first, const dsb_table *table, const void *row) {
    for (int i = 0; i < table->n_column; i++) {
        const dsb_column *c = &table->columns[i];
        const char *field = (const char *)row + c->offset;
        int64_t integer;
        double real;
        const char *text;
        switch (c->type) {
        case DSB_COL_TEXT:
            memcpy(&text, field, sizeof text);
            sqlite3_bind_text(stmt, first + i, text, -1, SQLITE_TRANSIENT);
            break;
        case DSB_COL_REAL:
            memcpy(&real, field, sizeof real);
            sqlite3_bind_double(stmt, first + i, real); /* NaN becomes NULL */
            break;
        default:
            memcpy(&integer, field, sizeof integer);
            if (c->type == DSB_COL_COUNT && integer < 0) sqlite3_bind_null(stmt, first + i);
            else sqlite3_bind_int64(stmt, first + i, integer);
        }
    }
}

dsb_status dsb_row_text(sqlite3_stmt *stmt, int column, dsb_arena *arena, const char **out, dsb_err *err) {
    const char *text = (const char *)sqlite3_column_text(stmt, column);
    *out = text ? dsb_arena_strdup(arena, text) : NULL;
    return text && !*out ? dsb_fail(err, DSB_ENOMEM, "out of memory while reading the database") : DSB_OK;
}

dsb_status dsb_row_read(sqlite3_stmt *stmt, int first, const dsb_table *table, dsb_arena *arena, void *row, dsb_err *err) {
    for (int i = 0; i < table->n_column; i++) {
        const dsb_column *c = &table->columns[i];
        char *field = (char *)row + c->offset;
        bool null = sqlite3_column_type(stmt, first + i) == SQLITE_NULL;
        if (c->type == DSB_COL_TEXT) {
            DSB_TRY(dsb_row_text(stmt, first + i, arena, (const char **)(void *)field, err));
        } else if (c->type == DSB_COL_REAL) {
            double real = null ? __builtin_nan("") : sqlite3_column_double(stmt, first + i);
            memcpy(field, &real, sizeof real);
        } else {
            int64_t integer = null ? -1 : sqlite3_column_int64(stmt, first + i);
            memcpy(field, &integer, sizeof integer);
        }
    }
    return DSB_OK;
}

static char *put_sql(const dsb_table *table) {
    sqlite3_str *s = sqlite3_str_new(NULL);
    sqlite3_str_appendf(s, "INSERT INTO %s (run_id", table->name);
    for (int i = 0; i < table->n_column; i++) sqlite3_str_appendf(s, ", %s", table->columns[i].name);
    sqlite3_str_appendall(s, ") VALUES (?1");
    for (int i = 0; i < table->n_column; i++) sqlite3_str_appendf(s, ", ?%d", i + 2);
    /* Not OR REPLACE: that deletes first, and a scheme's rows would go with it. */
    sqlite3_str_appendall(s, ") ON CONFLICT DO UPDATE SET ");
    for (int i = 0; i < table->n_column; i++)
        sqlite3_str_appendf(s, "%s%s = excluded.%s", i ? ", " : "", table->columns[i].name, table->columns[i].name);
    return sqlite3_str_finish(s);
}

static dsb_status prepare_put(dsb_db *db, dsb_table_id id, int k, dsb_err *err) {
    const dsb_table *table = &dsb_tables[id];
    if (db->put[id][k]) return DSB_OK;
    if (table->put) return dsb_db_prepare(db, &db->put[id][k], table->put[k], err);
    char *sql = put_sql(table);
    dsb_status s = sql ? dsb_db_prepare(db, &db->put[id][k], sql, err) : dsb_fail(err, DSB_ENOMEM, "%s: out of memory", db->path);
    sqlite3_free(sql);
    return s;
}

static dsb_status put(dsb_db *db, dsb_table_id id, const char *run_id, const void *row, dsb_err *err) {
    const dsb_table *table = &dsb_tables[id];
    dsb_status s = DSB_OK;
    char doing[64];
    sqlite3_snprintf(sizeof doing, doing, "storing a row of %s", table->name);
    for (int k = 0; k < (table->put ? table->n_put : 1) && !s; k++) {
        DSB_TRY(prepare_put(db, id, k, err));
        sqlite3_stmt *stmt = db->put[id][k];
        sqlite3_bind_text(stmt, 1, run_id, -1, SQLITE_TRANSIENT);
        dsb_row_bind(stmt, 2, table, row); /* what a statement doesn't name is not bound */
        s = sqlite3_step(stmt) == SQLITE_DONE ? DSB_OK : dsb_db_fail(db, doing, err);
        sqlite3_reset(stmt);
        sqlite3_clear_bindings(stmt);
    }
    return s;
}

static sqlite3_stmt *get_stmt(dsb_db *db, const dsb_table *table, const char *run_id, const char *scheme, bool count, dsb_status *s, dsb_err *err) {
    sqlite3_str *sql = sqlite3_str_new(NULL);
    sqlite3_str_appendall(sql, "SELECT ");
    for (int i = 0; i < table->n_column && !count; i++) sqlite3_str_appendf(sql, "%s%s", i ? ", " : "", table->columns[i].name);
    sqlite3_str_appendf(sql, "%s FROM %s WHERE run_id = ?1", count ? "count(*)" : "", table->name);
    if (scheme) sqlite3_str_appendf(sql, " AND %s = ?2", table->scheme);
    if (!count) sqlite3_str_appendf(sql, " ORDER BY %s", table->order);
    char *text = sqlite3_str_finish(sql);
    sqlite3_stmt *stmt = NULL;
    *s = text ? dsb_db_prepare(db, &stmt, text, err) : dsb_fail(err, DSB_ENOMEM, "%s: out of memory", db->path);
    sqlite3_free(text);
    if (*s) return NULL;
    sqlite3_bind_text(stmt, 1, run_id, -1, SQLITE_TRANSIENT);
    if (scheme) sqlite3_bind_text(stmt, 2, scheme, -1, SQLITE_TRANSIENT);
    return stmt;
}

static dsb_status count_rows(dsb_db *db, const dsb_table *table, const char *run_id, const char *scheme, int64_t *n, dsb_err *err) {
    dsb_status s = DSB_OK;
    sqlite3_stmt *stmt = get_stmt(db, table, run_id, scheme, true, &s, err);
    DSB_TRY(s);
    if (sqlite3_step(stmt) == SQLITE_ROW) *n = sqlite3_column_int64(stmt, 0);
    else s = dsb_db_fail(db, "counting rows", err);
    sqlite3_finalize(stmt);
    return s;
}

static dsb_status get(dsb_db *db, dsb_arena *arena, dsb_table_id id, const char *run_id, const char *scheme, void **rows, int64_t *n, dsb_err *err) {
    const dsb_table *table = &dsb_tables[id];
    int64_t room = 0;
    *rows = NULL;
    *n = 0;
    DSB_TRY(count_rows(db, table, run_id, scheme, &room, err));
    DSB_TRY(dsb_arena_take(arena, rows, (size_t)room + 1, table->row_size, table->name, err));
    dsb_status s = DSB_OK;
    sqlite3_stmt *stmt = get_stmt(db, table, run_id, scheme, false, &s, err);
    DSB_TRY(s);
    int rc = SQLITE_DONE;
    while (!s && *n < room && (rc = sqlite3_step(stmt)) == SQLITE_ROW) s = dsb_row_read(stmt, 0, table, arena, (char *)*rows + (size_t)(*n)++ * table->row_size, err);
    if (!s && rc != SQLITE_ROW && rc != SQLITE_DONE) s = dsb_db_fail(db, "reading rows", err);
    sqlite3_finalize(stmt);
    return s;
}

#define ROW(name, type, id)                                                                                              \
    dsb_status dsb_db_put_##name(dsb_db *db, const char *run_id, const type *row, dsb_err *err) {                        \
        return put(db, id, run_id, row, err);                                                                            \
    }                                                                                                                    \
    GET(name, type, id)
#define GET(name, type, id)                                                                                              \
    dsb_status dsb_db_get_##name(dsb_db *db, dsb_arena *arena, const char *run_id, const char *scheme, type **rows,      \
                                 int64_t *n, dsb_err *err) {                                                             \
        return get(db, arena, id, run_id, scheme, (void **)rows, n, err);                                                \
    }
GET(scheme, dsb_scheme_record, DSB_TABLE_SCHEME)
ROW(recipe_rule, dsb_recipe_rule_row, DSB_TABLE_RECIPE_RULE)
ROW(tensor_error, dsb_tensor_error, DSB_TABLE_TENSOR_ERROR)
ROW(layer_error, dsb_layer_error, DSB_TABLE_LAYER_ERROR)
ROW(routing_layer, dsb_routing_layer, DSB_TABLE_ROUTING_LAYER)
ROW(routing_expert, dsb_routing_expert, DSB_TABLE_ROUTING_EXPERT)
ROW(chunk_quality, dsb_chunk_quality, DSB_TABLE_CHUNK_QUALITY)
ROW(quality, dsb_quality, DSB_TABLE_QUALITY)
ROW(quality_detail, dsb_quality_detail, DSB_TABLE_QUALITY_DETAIL)
ROW(task_item, dsb_task_item, DSB_TABLE_TASK_ITEM)
ROW(throughput, dsb_throughput, DSB_TABLE_THROUGHPUT)
ROW(calibration_coverage, dsb_calibration_coverage, DSB_TABLE_CALIBRATION_COVERAGE)
GET(event, dsb_event, DSB_TABLE_EVENT)

dsb_status dsb_db_put_scheme(dsb_db *db, const char *run_id, const dsb_scheme_record *row, dsb_err *err) {
    DSB_TRY(put(db, DSB_TABLE_SCHEME, run_id, row, err));
    char *sql = sqlite3_mprintf("UPDATE scheme SET id = (SELECT coalesce(max(id), 0) + 1 FROM scheme) WHERE run_id = %Q AND name = %Q AND id IS NULL", run_id, row->name);
    dsb_status s = sql ? dsb_db_exec(db, sql, "numbering a scheme", err) : dsb_fail(err, DSB_ENOMEM, "%s: out of memory", db->path);
    sqlite3_free(sql);
    return s;
}

static dsb_status next_seq(dsb_db *db, const char *run_id, int64_t *seq, dsb_err *err) {
    sqlite3_stmt *stmt = NULL;
    DSB_TRY(dsb_db_prepare(db, &stmt, "SELECT coalesce(max(seq), -1) + 1 FROM event WHERE run_id = ?1", err));
    sqlite3_bind_text(stmt, 1, run_id, -1, SQLITE_TRANSIENT);
    dsb_status s = DSB_OK;
    if (sqlite3_step(stmt) == SQLITE_ROW) *seq = sqlite3_column_int64(stmt, 0);
    else s = dsb_db_fail(db, "counting events", err);
    sqlite3_finalize(stmt);
    return s;
}

dsb_status dsb_db_put_event(dsb_db *db, const char *run_id, const dsb_event *row, dsb_err *err) {
    dsb_event event = *row;
    if (event.seq < 0) DSB_TRY(next_seq(db, run_id, &event.seq, err));
    return put(db, DSB_TABLE_EVENT, run_id, &event, err);
}
