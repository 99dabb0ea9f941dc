#include "db/history.h"

#include "db/connection.h"

/* Rows of one statement's first columns as text, in the arena: `width` strings a row. */
static dsb_status read_rows(dsb_db *db, sqlite3_stmt *stmt, dsb_arena *arena, int width, const char **out, int64_t room, int64_t *n, dsb_err *err) {
    int rc = SQLITE_DONE;
    *n = 0;
    while (*n < room && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        for (int i = 0; i < width; i++) {
            const char *text = (const char *)sqlite3_column_text(stmt, i);
            out[*n * width + i] = dsb_arena_strdup(arena, text ? text : "");
            if (!out[*n * width + i]) return dsb_fail(err, DSB_ENOMEM, "%s: out of memory while reading baselines", db->path);
        }
        ++*n;
    }
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? DSB_OK : dsb_db_fail(db, "reading baselines", err);
}

static dsb_status step_done(dsb_db *db, sqlite3_stmt *stmt, const char *doing, dsb_err *err) {
    dsb_status s = sqlite3_step(stmt) == SQLITE_DONE ? DSB_OK : dsb_db_fail(db, doing, err);
    sqlite3_finalize(stmt);
    return s;
}

static void bind(sqlite3_stmt *stmt, int at, const char *text) { sqlite3_bind_text(stmt, at, text, -1, SQLITE_TRANSIENT); }

dsb_status dsb_db_speed_history(dsb_db *db, dsb_arena *arena, const dsb_run_record *run, const dsb_throughput *of, double **tps, int64_t *n, dsb_err *err) {
    static const char sql[] =
        "SELECT t.tps_median FROM run r JOIN run self ON self.id = ?1 JOIN host h ON h.id = r.host_id JOIN host sh ON sh.id = self.host_id JOIN model m ON m.id = r.model_id"
        " JOIN model sm ON sm.id = self.model_id JOIN throughput t ON t.run_id = r.id AND t.scheme = ?2 AND t.phase = ?3 AND t.n_token = ?4 AND t.depth = ?5 AND t.batch = ?6"
        " WHERE r.id != self.id AND r.status = 'done' AND h.name_hash IS sh.name_hash AND h.cpu IS sh.cpu AND m.sha256 IS sm.sha256 AND r.device IS self.device AND r.isa IS self.isa"
        " AND r.threads IS self.threads AND t.tps_median > 0 AND ifnull(t.busy_percent, 0) <= ?7 AND (r.created_utc, r.rowid) < (self.created_utc, self.rowid)"
        " ORDER BY r.created_utc DESC, r.rowid DESC LIMIT ?8";
    enum { MOST = 400 };
    sqlite3_stmt *stmt = NULL;
    int rc = SQLITE_DONE;
    *n = 0;
    DSB_TRY(dsb_arena_take(arena, (void **)tps, MOST, sizeof **tps, "the history of speed", err));
    DSB_TRY(dsb_db_prepare(db, &stmt, sql, err));
    bind(stmt, 1, run->id);
    bind(stmt, 2, of->scheme);
    bind(stmt, 3, of->phase);
    const int64_t sizes[] = { of->n_token, of->depth, of->batch };
    for (int i = 0; i < 3; i++) sqlite3_bind_int64(stmt, 4 + i, sizes[i]);
    sqlite3_bind_double(stmt, 7, DSB_HISTORY_BUSY_PERCENT);
    sqlite3_bind_int(stmt, 8, MOST);
    while (*n < MOST && (rc = sqlite3_step(stmt)) == SQLITE_ROW) (*tps)[(*n)++] = sqlite3_column_double(stmt, 0);
    dsb_status s = rc == SQLITE_ROW || rc == SQLITE_DONE ? DSB_OK : dsb_db_fail(db, "reading the history of speed", err);
    sqlite3_finalize(stmt);
    for (int64_t i = 0, j = *n - 1; i < j; i++, j--) { /* newest were taken; oldest first is wanted */
        double t = (*tps)[i];
        (*tps)[i] = (*tps)[j];
        (*tps)[j] = t;
    }
    return s;
}

dsb_status dsb_db_baseline_set(dsb_db *db, const dsb_baseline *b, dsb_err *err) {
    sqlite3_stmt *stmt = NULL;
    DSB_TRY(dsb_db_prepare(db, &stmt, "INSERT INTO baseline (name, run_id, set_utc) VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET run_id = excluded.run_id, set_utc = excluded.set_utc", err));
    bind(stmt, 1, b->name);
    bind(stmt, 2, b->run_id);
    bind(stmt, 3, b->set_utc);
    return step_done(db, stmt, "pinning a baseline", err);
}

dsb_status dsb_db_baseline_get(dsb_db *db, dsb_arena *arena, const char *name, const char **run_id, dsb_err *err) {
    sqlite3_stmt *stmt = NULL;
    int64_t n;
    *run_id = NULL;
    DSB_TRY(dsb_db_prepare(db, &stmt, "SELECT run_id FROM baseline WHERE name = ?1", err));
    bind(stmt, 1, name);
    dsb_status s = read_rows(db, stmt, arena, 1, run_id, 1, &n, err);
    sqlite3_finalize(stmt);
    return s;
}

dsb_status dsb_db_baseline_list(dsb_db *db, dsb_arena *arena, dsb_baseline **rows, int64_t *n, dsb_err *err) {
    enum { MOST = 1000 };
    const char **text;
    sqlite3_stmt *stmt = NULL;
    *n = 0;
    DSB_TRY(dsb_arena_take(arena, (void **)&text, 3 * MOST, sizeof *text, "baselines", err));
    DSB_TRY(dsb_db_prepare(db, &stmt, "SELECT name, run_id, set_utc FROM baseline ORDER BY name", err));
    dsb_status s = read_rows(db, stmt, arena, 3, text, MOST, n, err);
    sqlite3_finalize(stmt);
    DSB_TRY(s);
    DSB_TRY(dsb_arena_take(arena, (void **)rows, (size_t)*n + 1, sizeof **rows, "baselines", err));
    for (int64_t i = 0; i < *n; i++) (*rows)[i] = (dsb_baseline){ text[3 * i], text[3 * i + 1], text[3 * i + 2] };
    return DSB_OK;
}

static dsb_status of_run(dsb_db *db, const char *sql, const char *run_id, dsb_err *err) {
    sqlite3_stmt *stmt = NULL;
    DSB_TRY(dsb_db_prepare(db, &stmt, sql, err));
    bind(stmt, 1, run_id);
    return step_done(db, stmt, "removing a run", err);
}

static dsb_status is_pinned(dsb_db *db, const char *run_id, bool *pinned, dsb_err *err) {
    sqlite3_stmt *stmt = NULL;
    DSB_TRY(dsb_db_prepare(db, &stmt, "SELECT 1 FROM baseline WHERE run_id = ?1", err));
    bind(stmt, 1, run_id);
    int rc = sqlite3_step(stmt);
    *pinned = rc == SQLITE_ROW;
    dsb_status s = rc == SQLITE_ROW || rc == SQLITE_DONE ? DSB_OK : dsb_db_fail(db, "reading baselines", err);
    sqlite3_finalize(stmt);
    return s;
}

dsb_status dsb_db_run_remove(dsb_db *db, const char *run_id, bool thin, dsb_err *err) {
    static const char *const details[] = {
        "DELETE FROM tensor_row WHERE scheme_id IN (SELECT id FROM scheme WHERE run_id = ?1)",   "DELETE FROM expert_row WHERE scheme_id IN (SELECT id FROM scheme WHERE run_id = ?1)",
        "DELETE FROM coverage_row WHERE scheme_id IN (SELECT id FROM scheme WHERE run_id = ?1)", "DELETE FROM layer_error WHERE run_id = ?1",
        "DELETE FROM routing_layer WHERE run_id = ?1",                                           "DELETE FROM quality_detail WHERE run_id = ?1",
        "DELETE FROM task_item WHERE run_id = ?1",
    };
    bool pinned;
    DSB_TRY(is_pinned(db, run_id, &pinned, err));
    if (pinned) return dsb_fail(err, DSB_EUSAGE, "run %s is a pinned baseline; pin another run first: dsbench baseline set RUN", run_id);
    for (size_t i = 0; i < sizeof details / sizeof *details; i++) DSB_TRY(of_run(db, details[i], run_id, err));
    if (!thin) {
        DSB_TRY(of_run(db, "DELETE FROM run WHERE id = ?1", run_id, err));
        DSB_TRY(dsb_db_exec(db, "DELETE FROM model WHERE id NOT IN (SELECT model_id FROM run UNION SELECT model_id FROM bench)", "removing a run", err));
        return dsb_db_exec(db, "DELETE FROM dataset WHERE id NOT IN (SELECT dataset_id FROM run UNION SELECT calibration_id FROM run)", "removing a run", err);
    }
    dsb_event e = { .level = "info", .text = "details were pruned: layers, tensors, experts and routing are no longer in the database", .seq = -1, .layer = -1 };
    return dsb_db_put_event(db, run_id, &e, err);
}

bool dsb_db_run_is_thin(dsb_db *db, const char *run_id) {
    sqlite3_stmt *stmt = NULL;
    if (dsb_db_prepare(db, &stmt, "SELECT 1 FROM layer_error WHERE run_id = ?1 LIMIT 1", NULL)) return false;
    bind(stmt, 1, run_id);
    bool thin = sqlite3_step(stmt) == SQLITE_DONE;
    sqlite3_finalize(stmt);
    return thin;
}

dsb_status dsb_db_shrink(dsb_db *db, dsb_err *err) {
    DSB_TRY(dsb_db_exec(db, "DELETE FROM weight WHERE id NOT IN (SELECT weight_id FROM tensor_row)", "shrinking the database", err));
    return dsb_db_exec(db, "VACUUM; PRAGMA wal_checkpoint(TRUNCATE)", "shrinking the database", err);
}
