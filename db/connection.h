/* The open file, for db's own sources: SQLite handle, cached statements, errors in our words. */
#ifndef DSB_DB_CONNECTION_H
#define DSB_DB_CONNECTION_H

#include <sqlite3.h>

#include "db/db.h"
#include "db/tables.h"

struct dsb_db {
    sqlite3 *handle;                    /* owned */
    sqlite3_stmt *put[DSB_TABLE_COUNT][DSB_PUT_MOST]; /* owned, made on first use */
    char *path;                         /* owned */
};

/* Turns SQLite's last error into one line: file, what was being done, SQLite's words, what to do. */
dsb_status dsb_db_fail(dsb_db *db, const char *doing, dsb_err *err);
dsb_status dsb_db_exec(dsb_db *db, const char *sql, const char *doing, dsb_err *err);
dsb_status dsb_db_prepare(dsb_db *db, sqlite3_stmt **out, const char *sql, dsb_err *err);

/* Binds a struct's fields to parameters first, first+1, …; reads columns from `first` on into a struct, text into the arena. */
void dsb_row_bind(sqlite3_stmt *stmt, int first, const dsb_table *table, const void *row);
dsb_status dsb_row_read(sqlite3_stmt *stmt, int first, const dsb_table *table, dsb_arena *arena, void *row, dsb_err *err);

/* A column's text in the arena; NULL stays NULL. */
dsb_status dsb_row_text(sqlite3_stmt *stmt, int column, dsb_arena *arena, const char **out, dsb_err *err);
/* The end of a statement that was read row by row: rc of the last step, s what reading came to. */
dsb_status dsb_db_end(dsb_db *db, sqlite3_stmt *stmt, int rc, dsb_status s, const char *doing, dsb_err *err);

/* The id of the row with these facts (host, model, dataset), made where there is none. */
dsb_status dsb_db_facts_id(dsb_db *db, const dsb_table *table, const void *facts, int64_t *id, dsb_err *err);
/* Inserts a row with n more columns, `references`, that hold ids. */
dsb_status dsb_db_insert(dsb_db *db, const dsb_table *table, const void *row, int n, const char *const *references, const int64_t *ids, dsb_err *err);

#endif
