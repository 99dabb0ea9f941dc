/* sqlrows DB SQL [DIGITS]: runs one or more statements and prints their rows, columns separated by '|' (tests need no sqlite3 program).
 * Real numbers with DIGITS significant digits (17: exact), NULL as nothing. The file is made where it is missing. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static void print_row(sqlite3_stmt *stmt, int digits) {
    for (int i = 0; i < sqlite3_column_count(stmt); i++) {
        if (i) putchar('|');
        if (sqlite3_column_type(stmt, i) == SQLITE_FLOAT) printf("%.*g", digits, sqlite3_column_double(stmt, i));
        else if (sqlite3_column_type(stmt, i) != SQLITE_NULL) fputs((const char *)sqlite3_column_text(stmt, i), stdout);
    }
    putchar('\n');
}

static int run(sqlite3 *db, const char *sql, int digits) {
    int rc = SQLITE_OK;
    while (rc == SQLITE_OK && *sql) {
        sqlite3_stmt *stmt = NULL;
        rc = sqlite3_prepare_v2(db, sql, -1, &stmt, &sql);
        while (rc == SQLITE_OK && stmt && sqlite3_step(stmt) == SQLITE_ROW) print_row(stmt, digits);
        if (rc == SQLITE_OK) rc = sqlite3_finalize(stmt);
    }
    return rc;
}

int main(int argc, char **argv) {
    sqlite3 *db = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: sqlrows DB SQL [DIGITS]\n");
        return 2;
    }
    int rc = sqlite3_open(argv[1], &db);
    sqlite3_busy_timeout(db, 10000);
    if (rc == SQLITE_OK) rc = run(db, argv[2], argc > 3 ? (int)strtol(argv[3], NULL, 10) : 17);
    if (rc != SQLITE_OK) fprintf(stderr, "sqlrows: %s: %s\n", argv[1], sqlite3_errmsg(db));
    sqlite3_close(db);
    return rc == SQLITE_OK && fflush(stdout) == 0 ? 0 : 1;
}
