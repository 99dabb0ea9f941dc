/* Views of the record: every example of docs/database.md runs, every column is explained, and figures are what they are called. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "synthetic_run.h"

enum { LAYERS = 4, EXPERTS = 4 };
static char dir[64], path[96];
static sqlite3 *raw;

/* Two comparable runs; of the second one chunk, one layer and the time differ. */
static int set_up(void **state) {
    dsb_db *db;
    dsb_err err = { 0 };
    snprintf(dir, sizeof dir, "/tmp/dsb_test_views_XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/r.db", dir);
    if (dsb_db_open(&db, path, true, &err) || synthetic_write(db, "base", LAYERS, EXPERTS, &err) || synthetic_write(db, "head", LAYERS, EXPERTS, &err)) fail_msg("%s", err.text);
    dsb_db_close(db);
    if (sqlite3_open(path, &raw)) return -1;
    return sqlite3_exec(raw, "UPDATE run SET created_utc = '2025-02-01T12:00:00.000Z' WHERE id = 'head';"
                             "UPDATE chunk_quality SET kld = kld + 0.25 WHERE run_id = 'head' AND scheme = 'bf16' AND chunk = 3;"
                             "UPDATE quality SET value = value + 0.5 WHERE run_id = 'head' AND scheme = 'bf16' AND metric = 'kld_mean'", NULL, NULL, NULL);
}

static int tear_down(void **state) {
    sqlite3_close(raw);
    unlink(path);
    return rmdir(dir);
}

static sqlite3_stmt *prepared(const char *sql, int length) {
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(raw, sql, length, &stmt, NULL)) fail_msg("%s: %.*s", sqlite3_errmsg(raw), length < 0 ? 500 : length, sql);
    return stmt;
}

static double number(const char *sql) {
    sqlite3_stmt *stmt = prepared(sql, -1);
    if (sqlite3_step(stmt) != SQLITE_ROW) fail_msg("no row: %s", sql);
    double v = sqlite3_column_type(stmt, 0) == SQLITE_NULL ? NAN : sqlite3_column_double(stmt, 0);
    sqlite3_finalize(stmt);
    return v;
}

static void near(const char *sql, double want) {
    double got = number(sql);
    if (!(fabs(got - want) <= 1e-12 * fmax(1, fabs(want)))) fail_msg("%.17g, wanted %.17g: %s", got, want, sql);
}

static void test_views__every_example_of_the_page_runs(void **state) {
    dsb_map page;
    int examples = 0;
    if (dsb_map_open(&page, "docs/database.md", NULL)) fail_msg("docs/database.md is wanted; run the tests from the tree's root");
    const char *last = (const char *)page.data + page.size;
    for (const char *p = (const char *)page.data; (p = memmem(p, (size_t)(last - p), "```sql\n", 7)) != NULL; examples++) {
        const char *end = memmem(p + 7, (size_t)(last - p - 7), "```", 3);
        p += 7;
        assert_non_null(end);
        sqlite3_stmt *stmt = prepared(p, (int)(end - p));
        int rc = sqlite3_step(stmt);
        bool may_be_empty = memmem(p, (size_t)(end - p), "-- may be empty", 15) != NULL;
        if (rc != SQLITE_ROW && !(rc == SQLITE_DONE && may_be_empty)) fail_msg("%s: %.*s", rc == SQLITE_DONE ? "no row" : sqlite3_errmsg(raw), (int)(end - p), p);
        while (rc == SQLITE_ROW) rc = sqlite3_step(stmt);
        assert_int_equal(rc, SQLITE_DONE);
        sqlite3_finalize(stmt);
        p = end + 3;
    }
    assert_true(examples >= 15);
    dsb_map_close(&page);
}

static void test_views__about_explains_every_table_and_column(void **state) {
    sqlite3_stmt *stmt = prepared("SELECT m.name, c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite%'"
                                  " AND NOT EXISTS (SELECT 1 FROM about WHERE table_name IN (m.name, '*') AND column_name = c.name)", -1);
    if (sqlite3_step(stmt) == SQLITE_ROW) fail_msg("db/about.inc has no line for column %s.%s", sqlite3_column_text(stmt, 0), sqlite3_column_text(stmt, 1));
    sqlite3_finalize(stmt);
    stmt = prepared("SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%' AND name NOT IN (SELECT table_name FROM about WHERE column_name IS NULL)", -1);
    if (sqlite3_step(stmt) == SQLITE_ROW) fail_msg("db/about.inc has no line for %s", sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    stmt = prepared("SELECT table_name, column_name FROM about a WHERE column_name IS NOT NULL AND NOT EXISTS (SELECT 1 FROM sqlite_master m JOIN pragma_table_info(m.name) c"
                    " WHERE c.name = a.column_name AND a.table_name IN (m.name, '*'))", -1);
    if (sqlite3_step(stmt) == SQLITE_ROW) fail_msg("db/about.inc explains %s.%s, which is not there", sqlite3_column_text(stmt, 0), sqlite3_column_text(stmt, 1));
    sqlite3_finalize(stmt);
}

static void test_views__figures_are_those_of_the_tables(void **state) {
    near("SELECT block_isolated - (SELECT dd / xx FROM layer_error l WHERE l.run_id = 'base' AND l.scheme = 'int4-rtn' AND l.layer = 2 AND l.point = 'block' AND l.kind = 'isolated')"
         " FROM layer_damage WHERE run_id = 'base' AND scheme = 'int4-rtn' AND layer = 2", 0);
    near("SELECT nmse - (SELECT sum(dd) / sum(xx) FROM tensor_error t WHERE t.run_id = 'base' AND t.scheme = 'int4-rtn' AND t.role = 'expert.down')"
         " FROM role_error WHERE run_id = 'base' AND scheme = 'int4-rtn' AND role = 'expert.down'", 0);
    near("SELECT difference FROM figure_pairs WHERE base_run = 'base' AND head_run = 'head' AND scheme = 'bf16' AND metric = 'kld_mean'", 0.5);
    near("SELECT count(*) FROM figure_pairs WHERE base_run = 'base' AND head_run = 'head' AND difference <> 0", 1);
    near("SELECT sum(kld) FROM chunk_pairs WHERE base_run = 'base' AND head_run = 'head'", 0.25);
    near("SELECT sum(kld) FROM chunk_pairs WHERE base_run = 'head' AND head_run = 'base'", -0.25);
}

static void test_views__pairs_are_of_comparable_runs_only(void **state) {
    assert_int_equal(sqlite3_exec(raw, "BEGIN; UPDATE run SET n_ctx = 1024 WHERE id = 'head'", NULL, NULL, NULL), SQLITE_OK);
    near("SELECT (SELECT count(*) FROM figure_pairs) + (SELECT count(*) FROM chunk_pairs)", 0);
    assert_int_equal(sqlite3_exec(raw, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
}

/* By hand: a scheme is on the front if no other one is as small and as near with one of both better. */
static void test_views__pareto_holds_what_nothing_beats(void **state) {
    for (int i = 0; i < SYNTHETIC_SCHEMES; i++) {
        char sql[160];
        bool beaten = false;
        snprintf(sql, sizeof sql, "SELECT count(*) FROM pareto WHERE run_id = 'base' AND scheme = '%s'", synthetic_schemes[i].name);
        for (int k = 1; k < SYNTHETIC_SCHEMES; k++) {
            const synthetic_scheme *a = &synthetic_schemes[i], *b = &synthetic_schemes[k];
            beaten = beaten || (b->bpw <= a->bpw && b->kld <= a->kld && (b->bpw < a->bpw || b->kld < a->kld));
        }
        if (i) near(sql, !beaten);
    }
}

/* 8,192 positions in 32 chunks of 256: (51 + 1 − 1) / 255 = 0.2. */
static void test_views__independence(void **state) {
    assert_int_equal(sqlite3_exec(raw, "INSERT INTO quality (run_id, scheme, metric, value, n, unit) VALUES ('base', 'bf16', 'kld_mean_design_effect', 52, 8192, '1')", NULL, NULL, NULL), SQLITE_OK);
    near("SELECT chunk_correlation FROM independence WHERE metric = 'kld_mean'", 0.2);
    near("SELECT independent_positions FROM independence WHERE metric = 'kld_mean'", 8192.0 / 52);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_views__every_example_of_the_page_runs),
        cmocka_unit_test(test_views__about_explains_every_table_and_column),
        cmocka_unit_test(test_views__figures_are_those_of_the_tables),
        cmocka_unit_test(test_views__pairs_are_of_comparable_runs_only),
        cmocka_unit_test(test_views__pareto_holds_what_nothing_beats),
        cmocka_unit_test(test_views__independence),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
