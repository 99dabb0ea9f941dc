/* The record: what is written is read back, two writers at once, files that aren't ours are refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>


#include "db/schema.h"
#include "db/tables.h"
#include "synthetic_run.h"

static char dir[64], path[96];

static int set_up(void **state) {
    snprintf(dir, sizeof dir, "/tmp/dsb_test_db_XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/r.db", dir);
    return 0;
}

static int tear_down(void **state) {
    const char *const ends[] = { "", "-wal", "-shm" };
    char file[128];
    for (int i = 0; i < 3; i++) {
        snprintf(file, sizeof file, "%s%s", path, ends[i]);
        unlink(file);
    }
    chmod(dir, 0700);
    return rmdir(dir);
}

static dsb_db *opened(bool create) {
    dsb_db *db = NULL;
    dsb_err err = { 0 };
    if (dsb_db_open(&db, path, create, &err)) fail_msg("%s", err.text);
    return db;
}

/* Runs SQL past our layer, as a stranger would. */
static void sql(const char *text) {
    sqlite3 *raw = NULL;
    assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
    assert_int_equal(sqlite3_exec(raw, text, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(raw);
}

static void test_db__a_run_is_read_back_as_written(void **state) {
    dsb_err err = { 0 };
    dsb_arena arena;
    dsb_arena_init(&arena);
    dsb_db *db = opened(true);
    if (synthetic_write(db, "first", 8, 16, &err)) fail_msg("%s", err.text);
    dsb_db_close(db);

    db = opened(false);
    dsb_run_record run;
    assert_int_equal(dsb_db_run_get(db, &arena, "first", &run, &err), DSB_OK);
    assert_string_equal(run.status, "done");
    assert_string_equal(run.command_line, "dsbench run --text 'jargon & more.txt'");
    assert_true(run.wall_s == 83.25);
    assert_int_equal(run.peak_rss_bytes, 212LL << 20);
    assert_string_equal(run.model.arch, "DeepseekV3ForCausalLM");
    assert_int_equal(run.dataset.reflowed, 1);
    assert_string_equal(run.calibration.name, "calibration");

    dsb_scheme_record *schemes;
    int64_t n;
    assert_int_equal(dsb_db_get_scheme(db, &arena, "first", NULL, &schemes, &n, &err), DSB_OK);
    assert_int_equal(n, SYNTHETIC_SCHEMES);
    for (int s = 0; s < n; s++) assert_string_equal(schemes[s].name, synthetic_schemes[s].name);
    assert_null(schemes[0].source);

    dsb_quality *quality;
    assert_int_equal(dsb_db_get_quality(db, &arena, "first", "int4-rtn", &quality, &n, &err), DSB_OK);
    assert_int_equal(n, 9);
    assert_string_equal(quality[1].metric, "delta_nll");
    assert_true(quality[1].value == 0.0224 && quality[1].lo < 0.0224 && quality[1].hi > 0.0224);
    for (int i = 0; i < n; i++)
        if (!strcmp(quality[i].metric, "kld_p99")) assert_true(isnan(quality[i].lo));

    dsb_layer_error *layers;
    assert_int_equal(dsb_db_get_layer_error(db, &arena, "first", "static-int8", &layers, &n, &err), DSB_OK);
    assert_int_equal(n, 8 * 3 * 2);
    assert_int_equal(layers[0].m.first_bad, -1);
    assert_true(layers[0].m.xy == layers[0].m.xx && layers[0].m.dd > 0);

    dsb_routing_layer *routing;
    assert_int_equal(dsb_db_get_routing_layer(db, &arena, "first", NULL, &routing, &n, &err), DSB_OK);
    assert_int_equal(n, SYNTHETIC_SCHEMES * 7 * 3 * 6 + (SYNTHETIC_SCHEMES - 1) * 7 * 3 * 11);
    dsb_routing_expert *experts;
    assert_int_equal(dsb_db_get_routing_expert(db, &arena, "first", "bf16", &experts, &n, &err), DSB_OK);
    assert_int_equal(n, 7 * 16 * 2);
    dsb_chunk_quality *chunks;
    assert_int_equal(dsb_db_get_chunk_quality(db, &arena, "first", "bf16", &chunks, &n, &err), DSB_OK);
    assert_int_equal(n, SYNTHETIC_CHUNKS);
    assert_int_equal(chunks[31].chunk, 31);
    dsb_quality_detail *detail;
    assert_int_equal(dsb_db_get_quality_detail(db, &arena, "first", "bf16", &detail, &n, &err), DSB_OK);
    assert_int_equal(n, 28 + 7 * 20 + 10);
    dsb_throughput *speed;
    assert_int_equal(dsb_db_get_throughput(db, &arena, "first", NULL, &speed, &n, &err), DSB_OK);
    assert_int_equal(n, 2 * SYNTHETIC_SCHEMES);
    dsb_tensor_error *tensors;
    assert_int_equal(dsb_db_get_tensor_error(db, &arena, "first", NULL, &tensors, &n, &err), DSB_OK);
    assert_int_equal(n, SYNTHETIC_SCHEMES);
    assert_string_equal(tensors[0].grouping, "channel");
    dsb_calibration_coverage *coverage;
    assert_int_equal(dsb_db_get_calibration_coverage(db, &arena, "first", NULL, &coverage, &n, &err), DSB_OK);
    assert_int_equal(n, 7 * 16);
    dsb_event *events;
    assert_int_equal(dsb_db_get_event(db, &arena, "first", NULL, &events, &n, &err), DSB_OK);
    assert_int_equal(n, 1);
    assert_int_equal(events[0].seq, 0);
    dsb_recipe_rule_row *rules;
    assert_int_equal(dsb_db_get_recipe_rule(db, &arena, "first", "bf16", &rules, &n, &err), DSB_OK);
    assert_int_equal(n, 1);
    assert_null(rules[0].condition);
    dsb_db_close(db);
    dsb_arena_release(&arena);
}

/* A run of 61 layers, 256 experts, 12 schemes is to fit 150 MB. What grows is tensors (3·256·60·12) and experts (2·256·60·12): bytes a row of each, and of a
 * weight's own facts, times their number. 8 layers of 64 experts stand for them; the rest of the file is counted too, which errs on the safe side. */
static void test_db__a_big_run_stays_small(void **state) {
    dsb_err err = { 0 };
    struct stat st;
    dsb_db *db = opened(true);
    if (synthetic_write_all(db, "night-20260101-120000", 8, 64, &err)) fail_msg("%s", err.text);
    dsb_db_close(db);
    assert_int_equal(stat(path, &st), 0);
    double scale = (256.0 * 60) / (64 * 7);
    assert_true((double)st.st_size * scale < 150e6);
}

/* Every column of every table is described once, and the description fits the SQL. */
static void test_db__descriptions_cover_all_columns(void **state) {
    dsb_db_close(opened(true));
    sqlite3 *raw = NULL;
    assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
    for (int t = 0; t < DSB_TABLE_COUNT; t++) {
        sqlite3_stmt *stmt = NULL;
        int found = 0;
        char *text = sqlite3_mprintf("SELECT name FROM pragma_table_info(%Q) WHERE name NOT IN ('run_id', 'id', 'kind_order')", dsb_tables[t].name);
        assert_int_equal(sqlite3_prepare_v2(raw, text, -1, &stmt, NULL), SQLITE_OK);
        while (sqlite3_step(stmt) == SQLITE_ROW) {
            bool known = false;
            for (int c = 0; c < dsb_tables[t].n_column; c++) known |= !strcmp(dsb_tables[t].columns[c].name, (const char *)sqlite3_column_text(stmt, 0));
            if (!known) fail_msg("%s.%s has no description", dsb_tables[t].name, sqlite3_column_text(stmt, 0));
            found++;
        }
        assert_int_equal(found, dsb_tables[t].n_column);
        sqlite3_finalize(stmt);
        sqlite3_free(text);
    }
    sqlite3_close(raw);
}

static void test_db__views_answer(void **state) {
    dsb_err err = { 0 };
    dsb_db *db = opened(true);
    if (synthetic_write(db, "v", 4, 4, &err)) fail_msg("%s", err.text);
    dsb_db_close(db);
    sqlite3 *raw = NULL;
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(raw, "SELECT scheme, ppl, kld_mean, prefill_tps, worst_layer_nmse, selection_change FROM scheme_summary WHERE run_id = 'v'", -1, &stmt, NULL), SQLITE_OK);
    for (int s = 0; s < SYNTHETIC_SCHEMES; s++) {
        assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
        assert_string_equal((const char *)sqlite3_column_text(stmt, 0), synthetic_schemes[s].name);
        assert_true(sqlite3_column_double(stmt, 2) == synthetic_schemes[s].kld);
        assert_true(sqlite3_column_double(stmt, 3) == synthetic_schemes[s].prefill);
        assert_int_equal(sqlite3_column_type(stmt, 4), s ? SQLITE_FLOAT : SQLITE_NULL);
    }
    sqlite3_finalize(stmt);
    const char *const views[] = { "run_facts", "tensor_figures", "worst_layer", "worst_expert" };
    for (int i = 0; i < 4; i++) {
        char *text = sqlite3_mprintf("SELECT * FROM %s", views[i]);
        assert_int_equal(sqlite3_prepare_v2(raw, text, -1, &stmt, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
        sqlite3_finalize(stmt);
        sqlite3_free(text);
    }
    sqlite3_close(raw);
}

/* One number of a view over the one run there is. */
static void view_is(const char *query, int type, double value) {
    sqlite3 *raw = NULL;
    sqlite3_stmt *stmt = NULL;
    assert_int_equal(sqlite3_open(path, &raw), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(raw, query, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_int_equal(sqlite3_column_type(stmt, 0), type);
    if (type != SQLITE_NULL) assert_true(fabs(sqlite3_column_double(stmt, 0) - value) < 1e-12);
    sqlite3_finalize(stmt);
    sqlite3_close(raw);
}

/* Sums that leave values out give no figure, and their row comes first. */
static void test_db__views_give_no_figure_where_values_are_not_finite(void **state) {
    dsb_err err = { 0 };
    dsb_db *db = opened(true);
    if (synthetic_write(db, "v", 4, 4, &err)) fail_msg("%s", err.text);
    dsb_db_close(db);
    sql("UPDATE layer_error SET nonfinite = 7 WHERE scheme = 'bf16' AND layer = 2 AND point = 'block' AND kind = 'accumulated';"
        "UPDATE tensor_row SET nonfinite = 1 WHERE scheme_id IN (SELECT id FROM scheme WHERE name = 'bf16')");
    for (int i = 0; i < 4; i++) {
        static const char *const k_figure[] = { "nmse", "rel_l2", "sqnr_db", "cosine" };
        char query[160];
        snprintf(query, sizeof query, "SELECT %s FROM worst_layer WHERE nonfinite > 0", k_figure[i]);
        view_is(query, SQLITE_NULL, 0);
        snprintf(query, sizeof query, "SELECT %s FROM tensor_figures WHERE scheme = 'bf16'", k_figure[i]);
        view_is(query, SQLITE_NULL, 0);
    }
    view_is("SELECT nonfinite FROM worst_layer LIMIT 1", SQLITE_INTEGER, 7);
    view_is("SELECT worst_layer_nmse FROM scheme_summary WHERE scheme = 'bf16'", SQLITE_NULL, 0);
    view_is("SELECT nonfinite FROM scheme_summary WHERE scheme = 'bf16'", SQLITE_INTEGER, 7);
    view_is("SELECT nonfinite FROM scheme_summary WHERE scheme = 'int4-rtn'", SQLITE_INTEGER, 0);
}

/* Counts of the own stream beside the isolated error, one row an expert; `moved` as reports have it. */
static void test_db__worst_expert_joins_both_kinds(void **state) {
    dsb_err err = { 0 };
    dsb_db *db = opened(true);
    if (synthetic_write(db, "v", 3, 2, &err)) fail_msg("%s", err.text);
    dsb_routing_expert counts = { "bf16", "accumulated", 1, 0, 30, 10, 25, 5, 1, 1, NAN }, error = { "bf16", "isolated", 1, 0, 8, -1, -1, -1, NAN, NAN, 7 };
    assert_int_equal(dsb_db_put_routing_expert(db, "v", &counts, &err), DSB_OK);
    assert_int_equal(dsb_db_put_routing_expert(db, "v", &error, &err), DSB_OK);
    dsb_db_close(db);
    view_is("SELECT count(*) FROM worst_expert", SQLITE_INTEGER, SYNTHETIC_SCHEMES * 2 * 2);
    view_is("SELECT nmse FROM worst_expert LIMIT 1", SQLITE_FLOAT, 7);
    view_is("SELECT moved FROM worst_expert LIMIT 1", SQLITE_FLOAT, 0.75);
    view_is("SELECT nmse_tokens FROM worst_expert LIMIT 1", SQLITE_INTEGER, 8);
}

static void test_db__runs_are_newest_first_and_found_by_prefix(void **state) {
    dsb_err err = { 0 };
    dsb_arena arena;
    dsb_arena_init(&arena);
    dsb_db *db = opened(true);
    const char *const ids[] = { "20250101-aa", "20250102-bb", "20250102-bc" };
    for (int i = 0; i < 3; i++) {
        dsb_run_record run = synthetic_record(ids[i], 2, 2);
        run.created_utc = i == 0 ? "2025-01-01T00:00:00Z" : "2025-01-02T00:00:00Z"; /* a tie goes to the later row */
        assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_OK);
        if (i == 0) {
            assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_EUSAGE);
            assert_non_null(strstr(err.text, "--resume"));
        }
    }
    dsb_run_record *rows;
    int64_t n;
    assert_int_equal(dsb_db_run_list(db, &arena, &rows, &n, &err), DSB_OK);
    assert_int_equal(n, 3);
    for (int i = 0; i < 3; i++) assert_string_equal(rows[i].id, ids[2 - i]);
    const char *id;
    assert_int_equal(dsb_db_run_resolve(db, &arena, "latest", &id, &err), DSB_OK);
    assert_string_equal(id, ids[2]);
    assert_int_equal(dsb_db_run_resolve(db, &arena, "20250101", &id, &err), DSB_OK);
    assert_string_equal(id, ids[0]);
    assert_int_equal(dsb_db_run_resolve(db, &arena, "20250102-b", &id, &err), DSB_EUSAGE);
    assert_non_null(strstr(err.text, "several"));
    assert_int_equal(dsb_db_run_resolve(db, &arena, "nope", &id, &err), DSB_EUSAGE);
    assert_null(id);
    for (int i = 0; i < 3; i++) assert_non_null(strstr(err.text, ids[i]));
    assert_int_equal(dsb_db_run_resolve(db, &arena, "", &id, &err), DSB_EUSAGE);
    dsb_db_close(db);
    dsb_arena_release(&arena);
}

static int64_t count_quality(dsb_db *db, const char *run) {
    dsb_arena arena;
    dsb_arena_init(&arena);
    dsb_quality *rows;
    int64_t n = -1;
    assert_int_equal(dsb_db_get_quality(db, &arena, run, NULL, &rows, &n, NULL), DSB_OK);
    dsb_arena_release(&arena);
    return n;
}

static void test_db__put_replaces_without_losing_what_hangs_on_it(void **state) {
    dsb_err err = { 0 };
    dsb_db *db = opened(true);
    if (synthetic_write(db, "r", 2, 2, &err)) fail_msg("%s", err.text);
    int64_t before = count_quality(db, "r");
    dsb_scheme_record scheme = { "bf16", "again", NULL, NULL, NULL, 1, 5, 5, 8, 8 };
    assert_int_equal(dsb_db_put_scheme(db, "r", &scheme, &err), DSB_OK);
    dsb_quality row = { "bf16", "ppl", "1", 7, NAN, INFINITY, 3 };
    assert_int_equal(dsb_db_put_quality(db, "r", &row, &err), DSB_OK);
    assert_int_equal(count_quality(db, "r"), before);
    assert_int_equal(dsb_db_run_delete_results(db, "r", &err), DSB_OK);
    assert_int_equal(count_quality(db, "r"), 0);
    assert_int_equal(dsb_db_run_delete_results(db, "gone", &err), DSB_EUSAGE);
    row.scheme = "never inserted";
    assert_int_equal(dsb_db_put_quality(db, "r", &row, &err), DSB_EINTERNAL);
    dsb_db_close(db);
}

static void test_db__an_open_transaction_is_rolled_back(void **state) {
    dsb_err err = { 0 };
    dsb_db *db = opened(true);
    dsb_run_record run = synthetic_record("r", 2, 2);
    dsb_scheme_record scheme = { "bf16", NULL, NULL, NULL, NULL, 1, 5, 5, 8, 8 };
    dsb_quality row = { "bf16", "ppl", "1", 7, NAN, NAN, 3 };
    assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_OK);
    assert_int_equal(dsb_db_put_scheme(db, "r", &scheme, &err), DSB_OK);
    assert_int_equal(dsb_db_begin(db, &err), DSB_OK);
    assert_int_equal(dsb_db_put_quality(db, "r", &row, &err), DSB_OK);
    dsb_db_close(db);
    db = opened(false);
    assert_int_equal(count_quality(db, "r"), 0);
    dsb_db_close(db);
}

/* A child writes one run block by block while the parent writes another; both open the fresh file at once. */
static void test_db__two_runs_write_at_once(void **state) {
    pid_t child = fork();
    assert_true(child >= 0);
    dsb_err err = { 0 };
    dsb_db *db = NULL;
    dsb_status s = dsb_db_open(&db, path, true, &err);
    char id[16];
    snprintf(id, sizeof id, "%s", child ? "parent" : "child");
    if (!s) s = synthetic_write(db, id, 2, 2, &err);
    for (int i = 0; i < 60 && !s; i++) {
        dsb_quality row = { "bf16", "block", "1", i, NAN, NAN, i };
        char metric[24];
        snprintf(metric, sizeof metric, "block%d", i);
        row.metric = metric;
        if (!(s = dsb_db_begin(db, &err)) && !(s = dsb_db_put_quality(db, id, &row, &err))) s = dsb_db_commit(db, &err);
    }
    if (s) fprintf(stderr, "%s: %s\n", id, err.text);
    if (!child) {
        dsb_db_close(db);
        _exit(s ? 1 : 0);
    }
    int status = -1;
    waitpid(child, &status, 0);
    assert_int_equal(s, DSB_OK);
    assert_int_equal(status, 0);
    assert_int_equal(count_quality(db, "parent"), 9 * SYNTHETIC_SCHEMES + 60);
    assert_int_equal(count_quality(db, "child"), 9 * SYNTHETIC_SCHEMES + 60);
    dsb_db_close(db);
}

static void refused(bool create, dsb_status wanted, const char *word) {
    dsb_db *db = (dsb_db *)1;
    dsb_err err = { 0 };
    assert_int_equal(dsb_db_open(&db, path, create, &err), wanted);
    assert_null(db);
    assert_null(strchr(err.text, '\n'));
    if (!strstr(err.text, word) || !strstr(err.text, path)) fail_msg("message lacks '%s' or the path: %s", word, err.text);
}

static void test_db__what_is_not_ours_is_refused(void **state) {
    refused(false, DSB_EINPUT, "no such database");
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 200; i++) fputs("a text file, not a database\n", f);
    fclose(f);
    refused(false, DSB_EINPUT, "not a dsbench database");
    refused(true, DSB_EINPUT, "not a dsbench database");
    unlink(path);
    sql("CREATE TABLE other (x); INSERT INTO other VALUES (1)");
    refused(true, DSB_EINPUT, "another program");
    unlink(path);
    dsb_db_close(opened(true));
    sql("PRAGMA user_version = 1000");
    refused(true, DSB_EINPUT, "newer dsbench");
    refused(false, DSB_EINPUT, "newer dsbench");
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    refused(true, DSB_EINPUT, "regular file");
    rmdir(path);
}

/* A file as version 1 wrote it, with a run in it. */
static void test_db__an_older_file_is_migrated(void **state) {
    char pragma[96];
    dsb_arena arena;
    dsb_run_record run;
    dsb_err err = { 0 };
    dsb_task_item item = { .scheme = "reference", .item = 0, .gold = 1, .answer = 1, .answer_norm = -1, .loglik_gold = -2.5, .margin = NAN }, *items;
    int64_t n = 0;
    sql(dsb_db_migration[0]);
    snprintf(pragma, sizeof pragma, "PRAGMA application_id = %d; PRAGMA user_version = 1", DSB_DB_APPLICATION_ID);
    sql(pragma);
    sql("INSERT INTO host (id) VALUES (1); INSERT INTO model (id) VALUES (1); INSERT INTO dataset (id) VALUES (1);"
        "INSERT INTO run (id, created_utc, status, host_id, model_id, dataset_id, calibration_id) VALUES ('old', '2025', 'done', 1, 1, 1, 1);"
        "INSERT INTO scheme (run_id, name, ordinal) VALUES ('old', 'reference', 0), ('old', 's', 1);"
        "INSERT INTO tensor_error (run_id, scheme, tensor, role, layer, expert, n, nonfinite, xx, dd, stored_bytes, n_weight, bpw, format) VALUES ('old', 's', 't', 'router', 2, -1, 4, 0, 8.0, 0.5, 2, 4, 4.0, 'int4'),"
        " ('old', 'reference', 't', 'router', 2, -1, 4, 0, 8.0, 0.0, 8, 4, 16.0, NULL);"
        "INSERT INTO routing_expert (run_id, scheme, layer, expert, kind, hits_ref) VALUES ('old', 's', 2, 1, 'isolated', 7), ('old', 's', 2, 1, 'accumulated', 28);"
        "INSERT INTO calibration_coverage (run_id, scheme, layer, expert, tokens) VALUES ('old', 's', 2, 1, 9)");
    dsb_db *db = opened(true);
    dsb_arena_init(&arena);
    assert_int_equal(dsb_db_run_get(db, &arena, "old", &run, &err), DSB_OK);
    assert_null(run.task_path);
    assert_int_equal(run.n_item, -1);
    assert_int_equal(dsb_db_put_task_item(db, "old", &item, &err), DSB_OK);
    assert_int_equal(dsb_db_get_task_item(db, &arena, "old", NULL, &items, &n, &err), DSB_OK);
    assert_int_equal(n, 1);
    assert_true(items[0].gold == 1 && items[0].answer_norm == -1 && items[0].loglik_gold == -2.5 && isnan(items[0].margin));
    dsb_tensor_error *tensors;
    assert_int_equal(dsb_db_get_tensor_error(db, &arena, "old", "s", &tensors, &n, &err), DSB_OK);
    assert_int_equal(n, 1);
    assert_true(tensors[0].m.xx == 8 && tensors[0].m.dd == 0.5 && tensors[0].bpw == 4 && tensors[0].layer == 2 && isnan(tensors[0].m.yy));
    assert_string_equal(tensors[0].format, "int4");
    assert_null(tensors[0].kernel);
    dsb_routing_expert *experts;
    assert_int_equal(dsb_db_get_routing_expert(db, &arena, "old", NULL, &experts, &n, &err), DSB_OK);
    assert_int_equal(n, 2);
    assert_true(!strcmp(experts[0].kind, "accumulated") && experts[0].hits_ref == 28 && experts[1].hits_ref == 7);
    dsb_calibration_coverage *coverage;
    assert_int_equal(dsb_db_get_calibration_coverage(db, &arena, "old", "s", &coverage, &n, &err), DSB_OK);
    assert_true(n == 1 && coverage[0].tokens == 9);
    dsb_arena_release(&arena);
    dsb_db_close(db);
}

/* A file with other views of those names, as an earlier version may have had them. */
static void test_db__views_are_made_anew_with_a_migration(void **state) {
    char pragma[64];
    dsb_db_close(opened(true));
    snprintf(pragma, sizeof pragma, "PRAGMA user_version = %d", DSB_DB_VERSION - 1);
    sql("DROP VIEW pareto; DROP VIEW about; CREATE VIEW about AS SELECT 7 AS meaning");
    sql(pragma);
    dsb_db_close(opened(true));
    view_is("SELECT count(*) FROM about WHERE table_name = 'pareto'", SQLITE_INTEGER, 1);
    view_is("SELECT count(*) FROM pareto", SQLITE_INTEGER, 0);
}

static void test_db__what_cannot_be_written_is_an_output_error(void **state) {
    dsb_db *db = NULL;
    dsb_err err = { 0 };
    char missing[160];
    snprintf(missing, sizeof missing, "%s/no/such/r.db", dir);
    assert_int_equal(dsb_db_open(&db, missing, true, &err), DSB_EOUTPUT);
    assert_int_equal(dsb_db_open(&db, "/proc/dsbench.db", true, &err), DSB_EOUTPUT); /* no one may write there, root neither */
    assert_int_equal(dsb_exit_code(DSB_EOUTPUT), 4);
    if (geteuid() == 0) return; /* root writes where it likes */
    chmod(dir, 0500);
    refused(true, DSB_EOUTPUT, "");
}

static void test_db__a_read_only_place_can_still_be_read(void **state) {
    dsb_err err = { 0 };
    dsb_db *db = opened(true);
    if (synthetic_write(db, "r", 2, 2, &err)) fail_msg("%s", err.text);
    dsb_db_close(db);
    chmod(path, 0400);
    chmod(dir, 0500);
    db = opened(false);
    assert_int_equal(count_quality(db, "r"), 9 * SYNTHETIC_SCHEMES);
    dsb_db_close(db);
    chmod(dir, 0700);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_db__a_run_is_read_back_as_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__descriptions_cover_all_columns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__views_answer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__worst_expert_joins_both_kinds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__a_big_run_stays_small, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__views_give_no_figure_where_values_are_not_finite, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__runs_are_newest_first_and_found_by_prefix, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__put_replaces_without_losing_what_hangs_on_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__an_open_transaction_is_rolled_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__two_runs_write_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__what_is_not_ours_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__an_older_file_is_migrated, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__views_are_made_anew_with_a_migration, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__what_cannot_be_written_is_an_output_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_db__a_read_only_place_can_still_be_read, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
