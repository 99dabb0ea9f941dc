/* A week of nightly runs of the built-in model: six equal nights, and one on which a kernel sends tokens of one layer to wrong experts. It is found, located,
 * and nothing else is alarmed. The bug is planted in this program: the router's row of the backend's table is replaced; the program itself has no hook. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/mman.h>
#include <unistd.h>

#include "db/history.h"
#include "harness/nightly.h"
#include "harness/prune.h"
#include "kernels/backend.h"
#include "reports/html.h"
#include "synthetic_run.h"
#include "temp_files.h"

enum { CHUNKS = 6, BAD_NIGHT = 4, NIGHTS = 7, BAD_LAYER = 3 };
static const char suite_json[] = "{ \"name\": \"week\", \"schemes\": [\"bf16\", \"dynamic-int8\"], \"text\": \"tests/fixtures/jargon-excerpt.txt\", \"chunks\": 6, \"context\": 64, \"isolated_every\": 1,"
                                 " \"throughput\": { \"repeats\": 0 } }";

static temp_dir dir;
static char db_path[128], out_dir[128], suite_path[512];
static dsb_arena arena;
static dsb_err err;

/* The planted bug. Layers are told by their correction bias. In a layer the reference's stream passes the router first (r calls, one a tile of tokens), then
 * each scheme: its stream and its blocks (r calls each), the reference's state chunk by chunk. So of n calls r = (n - 2·CHUNKS)/5, and those of the last
 * scheme, dynamic-int8, begin at 3r + CHUNKS. n is counted on the first night. */
static void (*true_route)(const dsb_router_shape *, const float *, const float *, int64_t, float *, int32_t *, float *, float *);
static bool planted;
static float biases[64][8];
static int n_layer_seen, calls_of_layer, calls_wanted;

static void wrong_route(const dsb_router_shape *shape, const float *logits, const float *bias, int64_t n, float *scores, int32_t *idx, float *weight, float *margin) {
    true_route(shape, logits, bias, n, scores, idx, weight, margin);
    if (n_layer_seen == 0 || memcmp(biases[n_layer_seen - 1], bias, sizeof biases[0])) {
        memcpy(biases[n_layer_seen++], bias, sizeof biases[0]);
        calls_of_layer = 0;
    }
    int call = calls_of_layer++, first = 3 * (calls_wanted - 2 * CHUNKS) / 5 + CHUNKS;
    if (!planted || call < first || n_layer_seen != BAD_LAYER) return; /* layer 0 is dense: the third router is layer 3's */
    for (int64_t t = 0; t < n; t++) { /* the last expert of every token is its neighbour, off by one */
        int32_t *last = &idx[t * shape->k + shape->k - 1];
        if (*last + 1 < shape->n_expert) ++*last;
    }
}

/* The backend's table is constant: its page is opened, in this process alone. */
static void replace_route(void) {
    dsb_backend *be = (dsb_backend *)(uintptr_t)dsb_device();
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)&be->route / page * page, last = ((uintptr_t)&be->route + sizeof be->route + page - 1) / page * page;
    assert_int_equal(mprotect((void *)first, last - first, PROT_READ | PROT_WRITE), 0);
    true_route = be->route;
    be->route = wrong_route;
}

static int set_up(void **state) {
    setenv("DSBENCH_MODELS", "models", 0); /* a sanitizer's build lies one folder deeper than the program looks */
    temp_make(&dir);
    snprintf(db_path, sizeof db_path, "%s/n.db", dir.path);
    snprintf(out_dir, sizeof out_dir, "%s/out", dir.path);
    snprintf(suite_path, sizeof suite_path, "%s", temp_text(&dir, "week.json", suite_json));
    dsb_arena_init(&arena);
    err = (dsb_err){ 0 };
    return 0;
}

static int tear_down(void **state) {
    dsb_arena_release(&arena);
    temp_remove(&dir);
    return 0;
}

static dsb_nightly_result night_of(int i, const char *out) {
    char *id = dsb_arena_strdup(&arena, dsb_text_format(&arena, "night-%d", i));
    dsb_suite suite;
    dsb_nightly_result r;
    planted = i == BAD_NIGHT;
    n_layer_seen = calls_of_layer = 0;
    if (dsb_suite_load(&suite, &arena, suite_path, NULL, &err)) fail_msg("%s", err.text);
    suite.model = "models/dsmoe-tiny";
    dsb_nightly_request q = { .run = { .suite = &suite, .db = db_path, .out = out, .run_id = id, .command_line = "test", .quiet = true }, .keep_detail = -1 };
    if (dsb_nightly(&q, &arena, &r, &err)) fail_msg("%s", err.text);
    if (i == 1) calls_wanted = calls_of_layer;
    return r;
}

static void pin(const char *run_id) {
    dsb_db *db;
    dsb_baseline b = { "week", run_id, "2025-01-01T00:00:00.000Z" };
    assert_int_equal(dsb_db_open(&db, db_path, true, &err), DSB_OK);
    assert_int_equal(dsb_db_baseline_set(db, &b, &err), DSB_OK);
    dsb_db_close(db);
}

static char *slurp(const char *leaf) {
    char path[256];
    dsb_map map;
    snprintf(path, sizeof path, "%s/%s", out_dir, leaf);
    if (dsb_map_open(&map, path, &err)) fail_msg("%s", err.text);
    char *text = calloc(map.size + 1, 1);
    memcpy(text, map.data, map.size);
    dsb_map_close(&map);
    return text;
}

static void check_bad_night(const dsb_nightly_result *r) {
    assert_int_equal(r->code, 1);
    assert_true(r->comparison.alarm);
    for (int64_t i = 0; i < r->comparison.n_row; i++) {
        const dsb_compare_row *row = &r->comparison.rows[i];
        bool hit = !strcmp(row->head_scheme, "dynamic-int8");
        if (!hit) assert_true(row->j.test == DSB_TEST_NONE || row->j.identical); /* the reference and bf16 stand */
        if (hit && (!strcmp(row->metric, "selection_change") || !strcmp(row->metric, "kld_mean"))) assert_string_equal(row->verdict, "regressed");
    }
    assert_int_equal(r->comparison.n_blame, 1); /* no other layer has a cause of its own */
    assert_int_equal(r->comparison.blames[0].layer, BAD_LAYER);
    assert_int_equal(r->comparison.blames[0].cause, DSB_CAUSE_ROUTER);
    assert_true(r->comparison.blames[0].head_rerouted > 0.5);
    assert_true(r->comparison.n_upstream > 0);
    char *xml = slurp("junit.xml"), *md = slurp("summary.md"), *page = slurp("report.html");
    assert_non_null(strstr(xml, "<failure type=\"regressed\""));
    assert_non_null(strstr(md, "layer 3: router"));
    assert_non_null(strstr(page, "class=\"answer regressed\""));
    free(xml);
    free(md);
    free(page);
}

static void test_nightly__a_planted_bug_is_found_and_located_and_nothing_else_alarms(void **state) {
    dsb_nightly_result r;
    replace_route();
    for (int i = 1; i <= NIGHTS; i++) {
        bool bad = i == BAD_NIGHT;
        r = night_of(i, bad ? out_dir : NULL);
        if (i == 1) {
            assert_null(r.baseline); /* nothing pinned yet: not judged */
            assert_int_equal(r.code, 0);
            pin(r.run_id);
        } else if (bad) {
            check_bad_night(&r);
        } else {
            assert_int_equal(r.code, 0);
            assert_string_equal(dsb_compare_verdict(&r.comparison), "equivalent");
            for (int64_t k = 0; k < r.comparison.n_row; k++) assert_true(r.comparison.rows[k].j.test == DSB_TEST_NONE || r.comparison.rows[k].j.identical);
        }
    }
    /* The trend of the last night: worse from the bad night on, better from the next, no other step. */
    assert_int_equal(r.history.n, NIGHTS);
    assert_true(r.history.n_step >= 4); /* kld_mean and selection_change, there and back */
    for (int64_t i = 0; i < r.history.n_step; i++) {
        assert_true(r.history.steps[i].night == BAD_NIGHT - 1 || r.history.steps[i].night == BAD_NIGHT);
        assert_int_equal(r.history.steps[i].worse, r.history.steps[i].night == BAD_NIGHT - 1);
    }
}

static dsb_db *week_of_made_up_runs(void) {
    dsb_db *db;
    assert_int_equal(dsb_db_open(&db, db_path, true, &err), DSB_OK);
    for (int i = 0; i < 7; i++) {
        const char *id = dsb_text_format(&arena, "run-%d", i);
        if (synthetic_write(db, id, 4, 4, &err)) fail_msg("%s", err.text);
    }
    return db;
}

static int64_t count_runs(dsb_db *db) {
    dsb_run_record *runs;
    int64_t n;
    assert_int_equal(dsb_db_run_list(db, &arena, &runs, &n, &err), DSB_OK);
    return n;
}

static void test_prune__keeps_the_newest_the_baseline_and_those_named(void **state) {
    dsb_db *db = week_of_made_up_runs();
    dsb_pruned gone;
    const char *kept[] = { "run-2" };
    dsb_prune_request q = { .keep = 2, .kept_runs = kept, .n_kept_run = 1, .dry_run = true };
    dsb_baseline b = { "", "run-0", "2025-01-01T00:00:00.000Z" };
    assert_int_equal(dsb_db_baseline_set(db, &b, &err), DSB_OK);
    assert_int_equal(dsb_prune(db, &arena, &q, &gone, &err), DSB_OK);
    assert_int_equal(gone.n, 3); /* run-1, run-3, run-4 */
    assert_int_equal(count_runs(db), 7);
    q.dry_run = false;
    q.thin = true;
    assert_int_equal(dsb_prune(db, &arena, &q, &gone, &err), DSB_OK);
    assert_int_equal(gone.n, 3);
    dsb_run_data d;
    assert_int_equal(dsb_run_data_load(db, &arena, "run-3", &d, &err), DSB_OK);
    assert_int_equal(d.n_expert_row + d.n_layer_row + d.n_routing, 0);
    assert_true(d.n_quality > 0 && d.n_chunk_row > 0 && d.n_speed > 0);
    assert_int_equal(dsb_prune(db, &arena, &q, &gone, &err), DSB_OK);
    assert_int_equal(gone.n, 0); /* thin already */
    q.thin = false;
    assert_int_equal(dsb_prune(db, &arena, &q, &gone, &err), DSB_OK);
    assert_int_equal(gone.n, 3);
    assert_int_equal(count_runs(db), 4);
    assert_int_equal(dsb_db_run_remove(db, "run-0", false, &err), DSB_EUSAGE);
    assert_non_null(strstr(err.text, "pinned"));
    dsb_db_close(db);
}

/* Speed of separate runs is judged against its own host's history: another host's runs are no history. */
static void test_history__each_host_has_its_own(void **state) {
    dsb_db *db = week_of_made_up_runs();
    dsb_run_record run = synthetic_record("elsewhere", 4, 4);
    dsb_throughput t = { "bf16", "decode", 64, 512, 1, 7, 71, 70, 72, 1, 1, 1, 3.5, 1, 1, 1, 1, 1, 1, 1, 1, "k" };
    double *tps;
    int64_t n;
    assert_int_equal(dsb_db_run_get(db, &arena, "run-6", &run, &err), DSB_OK);
    assert_int_equal(dsb_db_speed_history(db, &arena, &run, &t, &tps, &n, &err), DSB_OK);
    assert_int_equal(n, 6);
    run = synthetic_record("elsewhere", 4, 4);
    run.host.name_hash = "another";
    assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_OK);
    assert_int_equal(dsb_db_speed_history(db, &arena, &run, &t, &tps, &n, &err), DSB_OK);
    assert_int_equal(n, 0);
    dsb_db_close(db);
}

/* Sixteen nights on each of two hosts in turns; from the ninth of the first host on it decodes a tenth slower. The step is found at that night, of that host alone. */
static void test_history__a_slower_build_is_a_step_of_its_host(void **state) {
    enum { OF_HOST = 16, SLOWER = 8 };
    dsb_db *db;
    dsb_history h;
    assert_int_equal(dsb_db_open(&db, db_path, true, &err), DSB_OK);
    for (int i = 0; i < 2 * OF_HOST; i++) {
        bool other = i % 2 == 0;
        dsb_run_record run = synthetic_record(dsb_text_format(&arena, "night-%02d", i), 2, 2);
        run.created_utc = dsb_text_format(&arena, "2025-01-%02dT02:30:00.000Z", i + 1 > 31 ? 31 : i + 1);
        run.suite_json = "{\"name\": \"s\"}";
        if (other) run.host.name_hash = "another";
        double tps = (other ? 20 : 100) * (!other && i / 2 >= SLOWER ? 0.9 : 1) * (1 + 0.004 * synthetic_noise(i, 3, 1));
        dsb_scheme_record scheme = { "s", NULL, NULL, NULL, NULL, 1, -1, -1, NAN, NAN };
        dsb_throughput t = { "s", "decode", 64, 512, 1, 7, tps, tps, tps, 1, 1, 1, 3.5, 1, 1, 1, 1, 1, 1, 1, 1, "k" };
        assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_OK);
        assert_int_equal(dsb_db_put_scheme(db, run.id, &scheme, &err), DSB_OK);
        assert_int_equal(dsb_db_put_throughput(db, run.id, &t, &err), DSB_OK);
        assert_int_equal(dsb_db_run_finish(db, run.id, "done", 1, 1, &err), DSB_OK);
    }
    if (dsb_history_load(db, &arena, "night-31", NULL, &h, &err)) fail_msg("%s", err.text);
    assert_int_equal(h.n, 2 * OF_HOST);
    assert_int_equal(h.n_step, 1);
    assert_int_equal(h.steps[0].night, 2 * SLOWER + 1);
    assert_true(h.steps[0].worse && h.steps[0].before > 98 && h.steps[0].after < 92);
    assert_non_null(strstr(dsb_step_text(&h, &h.steps[0], &arena), "run night-17"));
    dsb_db_close(db);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_nightly__a_planted_bug_is_found_and_located_and_nothing_else_alarms),
        T(test_prune__keeps_the_newest_the_baseline_and_those_named),
        T(test_history__each_host_has_its_own),
        T(test_history__a_slower_build_is_a_step_of_its_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
