/* Runs: the row that is committed before any work, what it points at, and finding one by name. */
#include <stdio.h>
#include <string.h>

#include "db/connection.h"

/* NULLs count as equal, so IS and not a UNIQUE index. */
dsb_status dsb_db_facts_id(dsb_db *db, const dsb_table *table, const void *facts, int64_t *id, dsb_err *err) {
    for (int insert = 0; insert < 2; insert++) {
        sqlite3_str *sql = sqlite3_str_new(NULL);
        sqlite3_str_appendf(sql, insert ? "INSERT INTO %s (" : "SELECT id FROM %s WHERE ", table->name);
        for (int i = 0; i < table->n_column; i++)
            sqlite3_str_appendf(sql, insert ? "%s%s" : "%s%s IS ?%d", i ? insert ? ", " : " AND " : "", table->columns[i].name, i + 1);
        if (insert) sqlite3_str_appendall(sql, ") VALUES (");
        for (int i = 0; i < table->n_column && insert; i++) sqlite3_str_appendf(sql, "%s?%d", i ? ", " : "", i + 1);
        if (insert) sqlite3_str_appendall(sql, ")");
        char *text = sqlite3_str_finish(sql);
        sqlite3_stmt *stmt = NULL;
        dsb_status s = text ? dsb_db_prepare(db, &stmt, text, err) : dsb_fail(err, DSB_ENOMEM, "%s: out of memory", db->path);
        sqlite3_free(text);
        DSB_TRY(s);
        dsb_row_bind(stmt, 1, table, facts);
        int rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW) *id = sqlite3_column_int64(stmt, 0);
        if (rc == SQLITE_DONE && insert) *id = sqlite3_last_insert_rowid(db->handle);
        if (rc != SQLITE_ROW && rc != SQLITE_DONE) s = dsb_db_fail(db, "storing a row of facts", err);
        sqlite3_finalize(stmt);
        if (s || rc == SQLITE_ROW || insert) return s;
    }
    return DSB_OK;
}

dsb_status dsb_db_insert(dsb_db *db, const dsb_table *table, const void *row, int n, const char *const *references, const int64_t *ids, dsb_err *err) {
    sqlite3_str *sql = sqlite3_str_new(NULL);
    sqlite3_str_appendf(sql, "INSERT INTO %s (", table->name);
    for (int i = 0; i < table->n_column + n; i++) sqlite3_str_appendf(sql, "%s%s", i ? ", " : "", i < table->n_column ? table->columns[i].name : references[i - table->n_column]);
    sqlite3_str_appendall(sql, ") VALUES (?1");
    for (int i = 1; i < table->n_column + n; i++) sqlite3_str_appendf(sql, ", ?%d", i + 1);
    sqlite3_str_appendall(sql, ")");
    char *text = sqlite3_str_finish(sql), doing[64];
    sqlite3_stmt *stmt = NULL;
    dsb_status s = text ? dsb_db_prepare(db, &stmt, text, err) : dsb_fail(err, DSB_ENOMEM, "%s: out of memory", db->path);
    sqlite3_free(text);
    DSB_TRY(s);
    dsb_row_bind(stmt, 1, table, row);
    for (int i = 0; i < n; i++) sqlite3_bind_int64(stmt, table->n_column + 1 + i, ids[i]);
    sqlite3_snprintf(sizeof doing, doing, "storing a row of %s", table->name);
    if (sqlite3_step(stmt) != SQLITE_DONE) s = dsb_db_fail(db, doing, err);
    sqlite3_finalize(stmt);
    return s;
}

static dsb_status run_exists(dsb_db *db, const char *id, bool *exists, dsb_err *err) {
    sqlite3_stmt *stmt = NULL;
    DSB_TRY(dsb_db_prepare(db, &stmt, "SELECT 1 FROM run WHERE id = ?1", err));
    sqlite3_bind_text(stmt, 1, id, -1, SQLITE_TRANSIENT);
    int rc = sqlite3_step(stmt);
    *exists = rc == SQLITE_ROW;
    dsb_status s = rc == SQLITE_ROW || rc == SQLITE_DONE ? DSB_OK : dsb_db_fail(db, "looking for a run", err);
    sqlite3_finalize(stmt);
    return s;
}

static dsb_status insert_run(dsb_db *db, const dsb_run_record *run, dsb_err *err) {
    bool taken = false;
    int64_t ids[4] = { 0 };
    DSB_TRY(run_exists(db, run->id, &taken, err));
    if (taken)
        return dsb_fail(err, DSB_EUSAGE, "%s: run '%s' is there already; choose another --run-id, or go on with it: --resume %s", db->path, run->id, run->id);
    DSB_TRY(dsb_db_facts_id(db, &dsb_table_host, &run->host, &ids[0], err));
    DSB_TRY(dsb_db_facts_id(db, &dsb_table_model, &run->model, &ids[1], err));
    DSB_TRY(dsb_db_facts_id(db, &dsb_table_dataset, &run->dataset, &ids[2], err));
    DSB_TRY(dsb_db_facts_id(db, &dsb_table_dataset, &run->calibration, &ids[3], err));
    static const char *const references[] = { "host_id", "model_id", "dataset_id", "calibration_id" };
    return dsb_db_insert(db, &dsb_table_run, run, 4, references, ids, err);
}

dsb_status dsb_db_run_insert(dsb_db *db, const dsb_run_record *run, dsb_err *err) {
    DSB_TRY(dsb_db_begin(db, err));
    dsb_status s = insert_run(db, run, err);
    if (!s) s = dsb_db_commit(db, err);
    if (s) dsb_db_rollback(db);
    return s;
}

/* One statement over run ?1 with up to three more parameters, already formatted by SQLite's own %Q and %lld. */
static dsb_status change_run(dsb_db *db, const char *run_id, char *sql, const char *doing, dsb_err *err) {
    if (!sql) return dsb_fail(err, DSB_ENOMEM, "%s: out of memory while %s", db->path, doing);
    bool exists = false;
    dsb_status s = run_exists(db, run_id, &exists, err);
    if (!s && !exists) s = dsb_fail(err, DSB_EUSAGE, "%s: no run '%s' (%s)", db->path, run_id, doing);
    if (!s) s = dsb_db_exec(db, sql, doing, err);
    sqlite3_free(sql);
    return s;
}

dsb_status dsb_db_run_finish(dsb_db *db, const char *run_id, const char *status, double wall_s, int64_t peak_rss_bytes, dsb_err *err) {
    char *sql = sqlite3_mprintf("UPDATE run SET status = %Q, wall_s = %.17g, peak_rss_bytes = %lld WHERE id = %Q", status,
                                wall_s == wall_s ? wall_s : 0.0, (long long)peak_rss_bytes, run_id);
    return change_run(db, run_id, sql, "finishing the run", err);
}

dsb_status dsb_db_run_set_counts(dsb_db *db, const char *run_id, int64_t n_chunk, int64_t n_token, int64_t n_scored, dsb_err *err) {
    char *sql = sqlite3_mprintf("UPDATE run SET n_chunk = %lld, n_token = %lld, n_scored = %lld WHERE id = %Q", (long long)n_chunk,
                                (long long)n_token, (long long)n_scored, run_id);
    return change_run(db, run_id, sql, "storing the run's counts", err);
}

dsb_status dsb_db_run_delete_results(dsb_db *db, const char *run_id, dsb_err *err) {
    char *sql = sqlite3_mprintf("SAVEPOINT fresh; DELETE FROM scheme WHERE run_id = %Q; DELETE FROM event WHERE run_id = %Q; RELEASE fresh",
                                run_id, run_id);
    return change_run(db, run_id, sql, "deleting the run's results", err);
}

static dsb_status read_run(sqlite3_stmt *stmt, dsb_arena *arena, dsb_run_record *run, dsb_err *err) {
    int at = 0;
    DSB_TRY(dsb_row_read(stmt, at, &dsb_table_run, arena, run, err));
    DSB_TRY(dsb_row_read(stmt, at += dsb_table_run.n_column, &dsb_table_host, arena, &run->host, err));
    DSB_TRY(dsb_row_read(stmt, at += dsb_table_host.n_column, &dsb_table_model, arena, &run->model, err));
    DSB_TRY(dsb_row_read(stmt, at += dsb_table_model.n_column, &dsb_table_dataset, arena, &run->dataset, err));
    return dsb_row_read(stmt, at + dsb_table_dataset.n_column, &dsb_table_dataset, arena, &run->calibration, err);
}

static void append_columns(sqlite3_str *sql, const dsb_table *table, const char *alias, const char *end) {
    for (int i = 0; i < table->n_column; i++)
        sqlite3_str_appendf(sql, "%s.%s%s", alias, table->columns[i].name, i + 1 < table->n_column ? ", " : end);
}

static dsb_status select_runs(dsb_db *db, sqlite3_stmt **stmt, dsb_err *err) {
    sqlite3_str *sql = sqlite3_str_new(NULL);
    sqlite3_str_appendall(sql, "SELECT ");
    append_columns(sql, &dsb_table_run, "run", ", ");
    append_columns(sql, &dsb_table_host, "host", ", ");
    append_columns(sql, &dsb_table_model, "model", ", ");
    append_columns(sql, &dsb_table_dataset, "d", ", ");
    append_columns(sql, &dsb_table_dataset, "c", " ");
    sqlite3_str_appendall(sql, "FROM run JOIN host ON host.id = host_id JOIN model ON model.id = model_id JOIN dataset d ON d.id = dataset_id"
                               " JOIN dataset c ON c.id = calibration_id WHERE ?1 IS NULL OR run.id = ?1 ORDER BY created_utc DESC, run.rowid DESC");
    char *text = sqlite3_str_finish(sql);
    dsb_status s = text ? dsb_db_prepare(db, stmt, text, err) : dsb_fail(err, DSB_ENOMEM, "%s: out of memory", db->path);
    sqlite3_free(text);
    return s;
}

dsb_status dsb_db_run_get(dsb_db *db, dsb_arena *arena, const char *run_id, dsb_run_record *run, dsb_err *err) {
    sqlite3_stmt *stmt = NULL;
    DSB_TRY(select_runs(db, &stmt, err));
    sqlite3_bind_text(stmt, 1, run_id, -1, SQLITE_TRANSIENT);
    int rc = sqlite3_step(stmt);
    dsb_status s = rc == SQLITE_ROW ? read_run(stmt, arena, run, err)
                   : rc == SQLITE_DONE ? dsb_fail(err, DSB_EUSAGE, "%s: no run '%s'", db->path, run_id)
                                       : dsb_db_fail(db, "reading the run", err);
    sqlite3_finalize(stmt);
    return s;
}

static dsb_status count_runs(dsb_db *db, int64_t *n, dsb_err *err) {
    sqlite3_stmt *stmt = NULL;
    DSB_TRY(dsb_db_prepare(db, &stmt, "SELECT count(*) FROM run", err));
    dsb_status s = DSB_OK;
    if (sqlite3_step(stmt) == SQLITE_ROW) *n = sqlite3_column_int64(stmt, 0);
    else s = dsb_db_fail(db, "counting runs", err);
    sqlite3_finalize(stmt);
    return s;
}

dsb_status dsb_db_run_list(dsb_db *db, dsb_arena *arena, dsb_run_record **rows, int64_t *n, dsb_err *err) {
    int64_t room = 0;
    *n = 0;
    DSB_TRY(count_runs(db, &room, err));
    DSB_TRY(dsb_arena_take(arena, (void **)rows, (size_t)room + 1, sizeof **rows, "the list of runs", err));
    sqlite3_stmt *stmt = NULL;
    DSB_TRY(select_runs(db, &stmt, err));
    dsb_status s = DSB_OK;
    int rc = SQLITE_DONE;
    while (!s && *n < room && (rc = sqlite3_step(stmt)) == SQLITE_ROW) s = read_run(stmt, arena, &(*rows)[(*n)++], err);
    if (!s && rc != SQLITE_ROW && rc != SQLITE_DONE) s = dsb_db_fail(db, "listing runs", err);
    sqlite3_finalize(stmt);
    return s;
}

/* "'a', 'b', 'c' and 4 more", newest first. */
static dsb_status fail_unknown(dsb_db *db, const char *name, const char *what, const dsb_run_record *rows, int64_t n, dsb_err *err) {
    char ids[640] = "";
    size_t used = 0;
    int64_t shown = 0;
    for (; shown < n && shown < 12; shown++) {
        size_t len = strlen(rows[shown].id);
        if (used + len + 5 > sizeof ids) break;
        used += (size_t)snprintf(ids + used, sizeof ids - used, "%s%s", shown ? ", " : "", rows[shown].id);
    }
    if (!n) return dsb_fail(err, DSB_EUSAGE, "%s: %s '%s'; the database holds no run yet, make one with `dsbench run`", db->path, what, name);
    if (shown == n) return dsb_fail(err, DSB_EUSAGE, "%s: %s '%s'; there are: %s", db->path, what, name, ids);
    return dsb_fail(err, DSB_EUSAGE, "%s: %s '%s'; there are: %s and %lld more (dsbench runs)", db->path, what, name, ids, (long long)(n - shown));
}

dsb_status dsb_db_run_resolve(dsb_db *db, dsb_arena *arena, const char *name, const char **run_id, dsb_err *err) {
    dsb_run_record *rows = NULL;
    int64_t n = 0, found = 0;
    *run_id = NULL;
    DSB_TRY(dsb_db_run_list(db, arena, &rows, &n, err));
    for (int64_t i = 0; i < n; i++)
        if (!strcmp(rows[i].id, name)) {
            *run_id = rows[i].id;
            return DSB_OK;
        }
    if (!strcmp(name, "latest") && n) {
        *run_id = rows[0].id;
        return DSB_OK;
    }
    for (int64_t i = 0; i < n && *name; i++)
        if (!strncmp(rows[i].id, name, strlen(name))) {
            *run_id = rows[i].id;
            found++;
        }
    if (found == 1) return DSB_OK;
    *run_id = NULL;
    return fail_unknown(db, name, found ? "several runs begin with" : "no run", rows, n, err);
}
