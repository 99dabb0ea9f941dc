#include "db/export.h"

#include <stdio.h>
#include <string.h>

#include "db/connection.h"

static dsb_status text_of(dsb_db *db, const char *sql, const char *name, char *out, size_t room, dsb_err *err) {
    sqlite3_stmt *stmt = NULL;
    DSB_TRY(dsb_db_prepare(db, &stmt, sql, err));
    sqlite3_bind_text(stmt, 1, name, -1, SQLITE_TRANSIENT);
    int rc = sqlite3_step(stmt);
    const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
    snprintf(out, room, "%s", text ? text : "");
    dsb_status s = rc == SQLITE_ROW || rc == SQLITE_DONE ? DSB_OK : dsb_db_fail(db, "looking for a table", err);
    sqlite3_finalize(stmt);
    return s;
}

/* The SQL of the table's rows, of one run by parameter 1. Owned by SQLite. */
static dsb_status rows_sql(dsb_db *db, const char *name, bool one_run, char **sql, dsb_err *err) {
    char found[128], column[128] = "", names[1024];
    DSB_TRY(text_of(db, "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%' AND name = ?1", name, found, sizeof found, err));
    if (!*found) {
        DSB_TRY(text_of(db, "SELECT group_concat(name, ', ') FROM (SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%' AND ?1 IS NOT NULL ORDER BY type DESC, name)", name, names, sizeof names, err));
        return dsb_fail(err, DSB_EUSAGE, "export: no table or view '%s' in %s; there are %s", name, db->path, names);
    }
    if (one_run) {
        /* What names the run: the run's own tables call it id. */
        DSB_TRY(text_of(db, "SELECT name FROM pragma_table_info(?1) WHERE name IN ('run_id', 'head_run') OR (name = 'id' AND ?1 IN ('run', 'run_facts'))", name, column, sizeof column, err));
        if (!*column) return dsb_fail(err, DSB_EUSAGE, "export: rows of '%s' belong to no run; leave the run out", name);
    }
    *sql = one_run ? sqlite3_mprintf("SELECT * FROM \"%w\" WHERE \"%w\" = ?1", name, column) : sqlite3_mprintf("SELECT * FROM \"%w\"", name);
    return *sql ? DSB_OK : dsb_fail(err, DSB_ENOMEM, "%s: out of memory", db->path);
}

static void read_cell(sqlite3_stmt *stmt, int c, dsb_db_cell *cell) {
    switch (sqlite3_column_type(stmt, c)) {
    case SQLITE_NULL: cell->kind = DSB_DB_NULL; return;
    case SQLITE_INTEGER: cell->kind = DSB_DB_INT, cell->integer = sqlite3_column_int64(stmt, c); return;
    case SQLITE_FLOAT: cell->kind = DSB_DB_REAL, cell->real = sqlite3_column_double(stmt, c); return;
    default: cell->kind = DSB_DB_TEXT, cell->text = (const char *)sqlite3_column_text(stmt, c);
    }
    if (!cell->text) cell->kind = DSB_DB_NULL;
}

static dsb_status visit_rows(dsb_db *db, sqlite3_stmt *stmt, dsb_db_visit *visit, void *to, dsb_err *err) {
    enum { COLUMNS_MOST = 128 };
    dsb_db_cell cells[COLUMNS_MOST] = { 0 };
    int n = sqlite3_column_count(stmt), rc;
    if (n > COLUMNS_MOST) return dsb_fail(err, DSB_EINPUT, "%s: a table of %d columns; at most %d are wanted, this is no file of ours", db->path, n, COLUMNS_MOST);
    for (int c = 0; c < n; c++) cells[c].column = sqlite3_column_name(stmt, c);
    DSB_TRY(visit(to, -1, cells, n, err));
    for (int64_t row = 0; (rc = sqlite3_step(stmt)) == SQLITE_ROW; row++) {
        for (int c = 0; c < n; c++) read_cell(stmt, c, &cells[c]);
        DSB_TRY(visit(to, row, cells, n, err));
    }
    return rc == SQLITE_DONE ? DSB_OK : dsb_db_fail(db, "reading a table", err);
}

dsb_status dsb_db_export(dsb_db *db, const char *name, const char *run_id, dsb_db_visit *visit, void *to, dsb_err *err) {
    char *sql;
    sqlite3_stmt *stmt = NULL;
    DSB_TRY(rows_sql(db, name, run_id != NULL, &sql, err));
    dsb_status s = dsb_db_prepare(db, &stmt, sql, err);
    sqlite3_free(sql);
    if (!s && run_id) sqlite3_bind_text(stmt, 1, run_id, -1, SQLITE_TRANSIENT);
    if (!s) s = visit_rows(db, stmt, visit, to, err);
    sqlite3_finalize(stmt);
    return s;
}
