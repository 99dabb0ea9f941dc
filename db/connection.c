/* Opening, refusing what isn't ours, migrating, transactions. */
#include "db/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "db/schema.h"

#define BUSY_MS 30000 /* how long a write waits for another run's transaction */

dsb_status dsb_db_fail(dsb_db *db, const char *doing, dsb_err *err) {
    const char *text = sqlite3_errmsg(db->handle);
    switch (sqlite3_errcode(db->handle) & 0xff) {
    case SQLITE_NOTADB:
        return dsb_fail(err, DSB_EINPUT, "%s: not a dsbench database (no SQLite header); name another file with --db", db->path);
    case SQLITE_CORRUPT:
        return dsb_fail(err, DSB_EINPUT, "%s: damaged database while %s: %s; restore a copy or name another with --db", db->path, doing, text);
    case SQLITE_NOMEM: return dsb_fail(err, DSB_ENOMEM, "%s: out of memory while %s", db->path, doing);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return dsb_fail(err, DSB_EOUTPUT, "%s: another process kept the database locked for %d s while %s; try again", db->path,
                        BUSY_MS / 1000, doing);
    case SQLITE_READONLY:
        return dsb_fail(err, DSB_EOUTPUT, "%s: the database can't be written while %s: %s; check permissions or name another with --db",
                        db->path, doing, text);
    case SQLITE_CANTOPEN:
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_PERM:
        return dsb_fail(err, DSB_EOUTPUT, "%s: %s while %s; check disk space and permissions or name another with --db", db->path, text, doing);
    case SQLITE_ERROR: /* a table or column that isn't there: someone altered the file */
        return dsb_fail(err, DSB_EINPUT, "%s: %s while %s; the file was altered, name another with --db", db->path, text, doing);
    default: return dsb_fail(err, DSB_EINTERNAL, "%s: %s while %s", db->path, text, doing);
    }
}

dsb_status dsb_db_exec(dsb_db *db, const char *sql, const char *doing, dsb_err *err) {
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? DSB_OK : dsb_db_fail(db, doing, err);
}

dsb_status dsb_db_prepare(dsb_db *db, sqlite3_stmt **out, const char *sql, dsb_err *err) {
    return sqlite3_prepare_v2(db->handle, sql, -1, out, NULL) == SQLITE_OK ? DSB_OK : dsb_db_fail(db, "preparing a statement", err);
}

dsb_status dsb_db_end(dsb_db *db, sqlite3_stmt *stmt, int rc, dsb_status s, const char *doing, dsb_err *err) {
    if (!s && rc != SQLITE_ROW && rc != SQLITE_DONE) s = dsb_db_fail(db, doing, err);
    sqlite3_finalize(stmt);
    return s;
}

static dsb_status read_integer(dsb_db *db, const char *sql, int64_t *out, dsb_err *err) {
    sqlite3_stmt *stmt = NULL;
    DSB_TRY(dsb_db_prepare(db, &stmt, sql, err));
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW) *out = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    return rc == SQLITE_ROW ? DSB_OK : dsb_db_fail(db, "reading the header", err);
}

/* user_version 0 with tables in it or with a foreign application id is another program's file. */
static dsb_status judge_version(const dsb_db *db, int64_t version, int64_t app, int64_t tables, dsb_err *err) {
    if (app != DSB_DB_APPLICATION_ID && (tables > 0 || version != 0))
        return dsb_fail(err, DSB_EINPUT, "%s: an SQLite database of another program (application id %lld, wanted %d); name another file with --db",
                        db->path, (long long)app, DSB_DB_APPLICATION_ID);
    if (version > DSB_DB_VERSION)
        return dsb_fail(err, DSB_EINPUT, "%s: written by a newer dsbench (database version %lld, this one knows %d); update dsbench or name another file with --db",
                        db->path, (long long)version, DSB_DB_VERSION);
    return DSB_OK;
}

/* One snapshot for all three, or another run's fresh tables would look like a stranger's. */
static dsb_status read_version(dsb_db *db, int64_t *version, dsb_err *err) {
    int64_t app = 0, tables = 0;
    bool own = sqlite3_get_autocommit(db->handle);
    if (own) DSB_TRY(dsb_db_exec(db, "BEGIN", "reading the header", err));
    dsb_status s = read_integer(db, "SELECT count(*) FROM sqlite_master", &tables, err);
    if (!s) s = read_integer(db, "PRAGMA user_version", version, err);
    if (!s) s = read_integer(db, "PRAGMA application_id", &app, err);
    if (own) dsb_db_rollback(db);
    return s ? s : judge_version(db, *version, app, tables, err);
}

/* Under the write lock, so that two runs that start at once make the tables once. */
static dsb_status migrate(dsb_db *db, dsb_err *err) {
    int64_t version = 0;
    DSB_TRY(read_version(db, &version, err));
    if (version == DSB_DB_VERSION) return DSB_OK;
    DSB_TRY(dsb_db_begin(db, err));
    dsb_status s = read_version(db, &version, err);
    for (; !s && version < DSB_DB_VERSION; version++) s = dsb_db_exec(db, dsb_db_migration[version], "making tables", err);
    if (!s) s = dsb_db_exec(db, dsb_db_views, "making views", err);
    char sql[96];
    sqlite3_snprintf(sizeof sql, sql, "PRAGMA application_id = %d; PRAGMA user_version = %d", DSB_DB_APPLICATION_ID, DSB_DB_VERSION);
    if (!s) s = dsb_db_exec(db, sql, "making tables", err);
    if (!s) s = dsb_db_commit(db, err);
    if (s) dsb_db_rollback(db);
    return s;
}

/* A hostile file must not run its own code (views, triggers, virtual tables) nor have us write to its internals. */
static void harden(sqlite3 *handle) {
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DQS_DML, 0, NULL);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DQS_DDL, 0, NULL);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
    sqlite3_busy_timeout(handle, BUSY_MS);
}

/* Switching to WAL wants the file alone and doesn't call the busy handler: try again for as long as that would wait. */
static dsb_status enter_wal(dsb_db *db, dsb_err *err) {
    for (int waited = 0;; waited += 20) {
        if (sqlite3_exec(db->handle, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL", NULL, NULL, NULL) == SQLITE_OK) return DSB_OK;
        if ((sqlite3_errcode(db->handle) & 0xff) != SQLITE_BUSY || waited >= BUSY_MS) return dsb_db_fail(db, "switching to WAL", err);
        sqlite3_sleep(20);
    }
}

/* The file as a URI, so that names with '?', '#' or '%' stay names; immutable: nothing but this file is touched. */
static char *file_uri(const char *path, const char *query) {
    sqlite3_str *s = sqlite3_str_new(NULL);
    sqlite3_str_appendall(s, "file:");
    for (const char *p = path; *p; p++)
        if (*p == '?' || *p == '#' || *p == '%') sqlite3_str_appendf(s, "%%%02x", (unsigned char)*p);
        else sqlite3_str_appendchar(s, 1, *p);
    sqlite3_str_appendall(s, query);
    return sqlite3_str_finish(s);
}

static dsb_status open_handle(dsb_db *db, int flags, const char *query, dsb_err *err) {
    sqlite3_close(db->handle);
    db->handle = NULL;
    char *uri = file_uri(db->path, query);
    if (!uri) return dsb_fail(err, DSB_ENOMEM, "%s: out of memory while opening the database", db->path);
    int rc = sqlite3_open_v2(uri, &db->handle, flags | SQLITE_OPEN_URI | SQLITE_OPEN_FULLMUTEX, NULL);
    sqlite3_free(uri);
    if (!db->handle) return dsb_fail(err, DSB_ENOMEM, "%s: out of memory while opening the database", db->path);
    if (rc != SQLITE_OK) return dsb_db_fail(db, "opening", err);
    harden(db->handle);
    return DSB_OK;
}

static dsb_status open_for_writing(dsb_db *db, dsb_err *err) {
    DSB_TRY(open_handle(db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "", err));
    if (sqlite3_db_readonly(db->handle, "main") == 1)
        return dsb_fail(err, DSB_EOUTPUT, "%s: the database is write-protected; change its permissions or name another with --db", db->path);
    int64_t version = 0;
    DSB_TRY(read_version(db, &version, err)); /* before anything is written into a stranger's file */
    DSB_TRY(enter_wal(db, err));
    return migrate(db, err);
}

/* A WAL database in a read-only directory can't have its -shm file: nobody can write there either, so read it as it lies. */
static dsb_status open_for_reading(dsb_db *db, dsb_err *err) {
    int64_t version = 0;
    dsb_status s = open_handle(db, SQLITE_OPEN_READWRITE, "", err);
    if (!s) s = read_version(db, &version, err);
    if (s == DSB_EOUTPUT) {
        s = open_handle(db, SQLITE_OPEN_READONLY, "?immutable=1", err);
        if (!s) s = read_version(db, &version, err);
    }
    DSB_TRY(s);
    if (version == DSB_DB_VERSION) return DSB_OK;
    if (version == 0) return dsb_fail(err, DSB_EINPUT, "%s: an empty database; make runs with: dsbench run --db %s", db->path, db->path);
    return migrate(db, err);
}

static dsb_status check_path(const char *path, bool create, dsb_err *err) {
    struct stat st;
    if (!*path) return dsb_fail(err, DSB_EUSAGE, "--db: the file name is empty; name a file");
    if (stat(path, &st)) {
        if (create && errno == ENOENT) return DSB_OK;
        return dsb_fail(err, create ? DSB_EOUTPUT : DSB_EINPUT, "%s: %s; make a database with `dsbench run`, or name one with --db", path,
                        errno == ENOENT ? "no such database" : strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) return dsb_fail(err, DSB_EINPUT, "%s: not a regular file, so not a database; name a file with --db", path);
    return DSB_OK;
}

dsb_status dsb_db_open(dsb_db **out, const char *path, bool create, dsb_err *err) {
    *out = NULL;
    DSB_TRY(check_path(path, create, err));
    dsb_db *db = NULL;
    DSB_TRY(DSB_NEW(db, 1, "the database", err));
    db->path = strdup(path);
    dsb_status s = db->path ? DSB_OK : dsb_fail(err, DSB_ENOMEM, "%s: out of memory while opening the database", path);
    if (!s) s = create ? open_for_writing(db, err) : open_for_reading(db, err);
    if (s) {
        dsb_db_close(db);
        return s;
    }
    *out = db;
    return DSB_OK;
}

void dsb_db_close(dsb_db *db) {
    if (!db) return;
    for (int i = 0; i < DSB_TABLE_COUNT * DSB_PUT_MOST; i++) sqlite3_finalize(db->put[i / DSB_PUT_MOST][i % DSB_PUT_MOST]);
    if (db->handle) dsb_db_rollback(db);
    sqlite3_close(db->handle);
    free(db->path);
    free(db);
}

const char *dsb_db_path(const dsb_db *db) { return db->path; }

/* IMMEDIATE: waits for the write lock now, where waiting is possible, instead of failing in the middle. */
dsb_status dsb_db_begin(dsb_db *db, dsb_err *err) { return dsb_db_exec(db, "BEGIN IMMEDIATE", "starting a transaction", err); }
dsb_status dsb_db_commit(dsb_db *db, dsb_err *err) { return dsb_db_exec(db, "COMMIT", "committing", err); }
void dsb_db_rollback(dsb_db *db) {
    if (!sqlite3_get_autocommit(db->handle)) sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
}
