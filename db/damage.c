#include "db/damage.h"

#include "db/connection.h"

dsb_status dsb_db_role_errors(dsb_db *db, dsb_arena *arena, const char *run_id, dsb_role_error **rows, int64_t *n, dsb_err *err) {
    static const char sql[] = "SELECT s.name, w.role, t.layer, total(t.dd), total(w.xx) FROM scheme s JOIN tensor_row t ON t.scheme_id = s.id JOIN weight w ON w.id = t.weight_id"
                              " WHERE s.run_id = ?1 AND w.role IS NOT NULL GROUP BY s.name, t.layer, w.role";
    sqlite3_stmt *stmt = NULL;
    dsb_status s = DSB_OK;
    int rc = SQLITE_DONE;
    const int64_t room = 1 << 16; /* roles × layers × schemes of the largest model, four times over */
    *n = 0;
    DSB_TRY(dsb_arena_take(arena, (void **)rows, (size_t)room, sizeof **rows, "errors by role", err));
    DSB_TRY(dsb_db_prepare(db, &stmt, sql, err));
    sqlite3_bind_text(stmt, 1, run_id, -1, SQLITE_TRANSIENT);
    while (!s && *n < room && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        dsb_role_error *r = &(*rows)[(*n)++];
        *r = (dsb_role_error){ .layer = sqlite3_column_int64(stmt, 2), .dd = sqlite3_column_double(stmt, 3), .xx = sqlite3_column_double(stmt, 4) };
        s = dsb_row_text(stmt, 0, arena, &r->scheme, err);
        if (!s) s = dsb_row_text(stmt, 1, arena, &r->role, err);
    }
    return dsb_db_end(db, stmt, rc, s, "reading errors of weights", err);
}

dsb_status dsb_db_worst_tensors(dsb_db *db, dsb_arena *arena, const char *run_id, int64_t layer, int64_t most, dsb_worst_tensor **rows, int64_t *n, dsb_err *err) {
    static const char sql[] = "SELECT s.name, w.tensor, f.format, w.expert, t.dd / w.xx FROM scheme s CROSS JOIN tensor_row t ON t.scheme_id = s.id AND t.layer = ?2 CROSS JOIN weight w ON w.id = t.weight_id"
                              " CROSS JOIN weight_format f ON f.id = t.format_id WHERE s.run_id = ?1 AND w.xx > 0 AND t.dd > 0 AND t.nonfinite = 0 ORDER BY t.dd / w.xx DESC LIMIT ?3";
    sqlite3_stmt *stmt = NULL;
    dsb_status s = DSB_OK;
    int rc = SQLITE_DONE;
    *n = 0;
    DSB_TRY(dsb_arena_take(arena, (void **)rows, (size_t)most, sizeof **rows, "errors of weights", err));
    DSB_TRY(dsb_db_prepare(db, &stmt, sql, err));
    sqlite3_bind_text(stmt, 1, run_id, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(stmt, 2, layer);
    sqlite3_bind_int64(stmt, 3, most);
    while (!s && *n < most && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        dsb_worst_tensor *r = &(*rows)[(*n)++];
        *r = (dsb_worst_tensor){ .expert = sqlite3_column_int64(stmt, 3), .nmse = sqlite3_column_double(stmt, 4) };
        s = dsb_row_text(stmt, 0, arena, &r->scheme, err);
        if (!s) s = dsb_row_text(stmt, 1, arena, &r->tensor, err);
        if (!s) s = dsb_row_text(stmt, 2, arena, &r->format, err);
    }
    return dsb_db_end(db, stmt, rc, s, "reading errors of weights", err);
}
