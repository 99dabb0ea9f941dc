#include "db/diff.h"

#include <string.h>

#include "db/connection.h"

#define SCHEME(run, name) "(SELECT id FROM scheme WHERE run_id = " run " AND name = " name ")"
#define LAYER_WEIGHTS(run, name) "SELECT t.layer, total(t.dd) / nullif(total(w.xx), 0) AS nmse FROM tensor_row t JOIN weight w ON w.id = t.weight_id WHERE t.scheme_id = " SCHEME(run, name) " GROUP BY t.layer"

enum { DIFF_LAYERS = 4096 }; /* more than any model has */

static dsb_status start(dsb_db *db, sqlite3_stmt **stmt, const char *sql, const dsb_scheme_pair *pair, dsb_err *err) {
    const char *const text[] = { pair->base_run, pair->base_scheme, pair->head_run, pair->head_scheme };
    DSB_TRY(dsb_db_prepare(db, stmt, sql, err));
    for (int i = 0; i < 4; i++) sqlite3_bind_text(*stmt, i + 1, text[i], -1, SQLITE_TRANSIENT);
    return DSB_OK;
}

static double real(sqlite3_stmt *stmt, int column) { return sqlite3_column_type(stmt, column) == SQLITE_NULL ? __builtin_nan("") : sqlite3_column_double(stmt, column); }

dsb_status dsb_db_diff_weights(dsb_db *db, dsb_arena *arena, const dsb_scheme_pair *pair, dsb_weights_diff **rows, int64_t *n, dsb_err *err) {
    static const char sql[] =
        "SELECT b.layer, b.nmse, h.nmse FROM (" LAYER_WEIGHTS("?1", "?2") ") b JOIN (" LAYER_WEIGHTS("?3", "?4") ") h ON h.layer = b.layer ORDER BY b.layer";
    sqlite3_stmt *stmt = NULL;
    int rc = SQLITE_DONE;
    *n = 0;
    DSB_TRY(dsb_arena_take(arena, (void **)rows, DIFF_LAYERS, sizeof **rows, "a comparison", err));
    DSB_TRY(start(db, &stmt, sql, pair, err));
    while (*n < DIFF_LAYERS && (rc = sqlite3_step(stmt)) == SQLITE_ROW) (*rows)[(*n)++] = (dsb_weights_diff){ sqlite3_column_int64(stmt, 0), real(stmt, 1), real(stmt, 2) };
    return dsb_db_end(db, stmt, rc, DSB_OK, "comparing two runs", err);
}

dsb_status dsb_db_diff_tensors(dsb_db *db, dsb_arena *arena, const dsb_scheme_pair *pair, int64_t layer, int64_t most, dsb_tensor_diff **rows, int64_t *n, dsb_err *err) {
    /* By the tables behind the views, in this order: from a row of the base over the weight's name to the head's row of the same key. */
    static const char sql[] =
        "SELECT wb.tensor, fb.format, fh.format, wb.expert, b.dd / nullif(wb.xx, 0), h.dd / nullif(wh.xx, 0) FROM tensor_row b CROSS JOIN weight wb ON wb.id = b.weight_id"
        " CROSS JOIN weight wh ON wh.tensor = wb.tensor CROSS JOIN tensor_row h ON h.scheme_id = " SCHEME("?3", "?4") " AND h.layer = b.layer AND h.weight_id = wh.id"
        " JOIN weight_format fb ON fb.id = b.format_id JOIN weight_format fh ON fh.id = h.format_id WHERE b.scheme_id = " SCHEME("?1", "?2") " AND b.layer = ?5"
        " AND (b.dd IS NOT h.dd OR wb.xx IS NOT wh.xx OR fb.format IS NOT fh.format)"
        " ORDER BY abs(ifnull(h.dd / nullif(wh.xx, 0), 0) - ifnull(b.dd / nullif(wb.xx, 0), 0)) DESC, wb.tensor LIMIT ?6";
    sqlite3_stmt *stmt = NULL;
    dsb_status s = DSB_OK;
    int rc = SQLITE_DONE;
    *n = 0;
    DSB_TRY(dsb_arena_take(arena, (void **)rows, (size_t)most, sizeof **rows, "a comparison", err));
    DSB_TRY(start(db, &stmt, sql, pair, err));
    sqlite3_bind_int64(stmt, 5, layer);
    sqlite3_bind_int64(stmt, 6, most);
    while (!s && *n < most && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        dsb_tensor_diff *r = &(*rows)[(*n)++];
        *r = (dsb_tensor_diff){ .expert = sqlite3_column_int64(stmt, 3), .base_nmse = real(stmt, 4), .head_nmse = real(stmt, 5) };
        s = dsb_row_text(stmt, 0, arena, &r->tensor, err);
        if (!s) s = dsb_row_text(stmt, 1, arena, &r->base_format, err);
        if (!s) s = dsb_row_text(stmt, 2, arena, &r->head_format, err);
    }
    return dsb_db_end(db, stmt, rc, s, "comparing two runs", err);
}

dsb_status dsb_db_diff_experts(dsb_db *db, dsb_arena *arena, const dsb_scheme_pair *pair, int64_t layer, bool by_load, int64_t most, dsb_expert_diff **rows, int64_t *n, dsb_err *err) {
    static const char sql[] =
        "WITH e AS (SELECT b.expert AS expert, max(CASE b.kind WHEN 'accumulated' THEN b.hits_test END) AS hb, max(CASE b.kind WHEN 'accumulated' THEN h.hits_test END) AS hh,"
        " max(CASE b.kind WHEN 'isolated' THEN b.nmse END) AS nb, max(CASE b.kind WHEN 'isolated' THEN h.nmse END) AS nh"
        " FROM routing_expert b JOIN routing_expert h ON h.run_id = ?3 AND h.scheme = ?4 AND h.layer = b.layer AND h.expert = b.expert AND h.kind = b.kind"
        " WHERE b.run_id = ?1 AND b.scheme = ?2 AND b.layer = ?5 GROUP BY b.expert)"
        " SELECT expert, hb, hh, nb, nh FROM e WHERE hb IS NOT hh OR nb IS NOT nh"
        " ORDER BY CASE WHEN ?6 THEN abs(hh - hb) ELSE abs(ifnull(nh, 0) - ifnull(nb, 0)) END DESC, expert LIMIT ?7";
    sqlite3_stmt *stmt = NULL;
    int rc = SQLITE_DONE;
    *n = 0;
    DSB_TRY(dsb_arena_take(arena, (void **)rows, (size_t)most, sizeof **rows, "a comparison", err));
    DSB_TRY(start(db, &stmt, sql, pair, err));
    sqlite3_bind_int64(stmt, 5, layer);
    sqlite3_bind_int(stmt, 6, by_load);
    sqlite3_bind_int64(stmt, 7, most);
    while (*n < most && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
        (*rows)[(*n)++] = (dsb_expert_diff){ sqlite3_column_int64(stmt, 0), sqlite3_column_int64(stmt, 1), sqlite3_column_int64(stmt, 2), real(stmt, 3), real(stmt, 4) };
    return dsb_db_end(db, stmt, rc, DSB_OK, "comparing two runs", err);
}
