/* Two runs set against each other: verdicts, where they differ and why, tolerances, every form of the output; what can't be compared is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "reports/compare.h"
#include "synthetic_run.h"
#include "temp_files.h"

static temp_dir dir;
static dsb_db *db;
static dsb_arena arena;
static dsb_err err;

static int set_up(void **state) {
    char path[128];
    temp_make(&dir);
    snprintf(path, sizeof path, "%s/r.db", dir.path);
    dsb_arena_init(&arena);
    err = (dsb_err){ 0 };
    if (dsb_db_open(&db, path, true, &err) || synthetic_write(db, "demo", 8, 16, &err) || synthetic_write(db, "head", 8, 16, &err)) {
        print_error("%s\n", err.text);
        return -1;
    }
    return 0;
}

static int tear_down(void **state) {
    dsb_db_close(db);
    dsb_arena_release(&arena);
    temp_remove(&dir);
    return 0;
}

static dsb_status compared_with(const char *base, const char *head, const dsb_tolerances *tolerances, dsb_comparison *c) {
    dsb_compare_request q = { base, head, tolerances };
    return dsb_compare_make(db, &arena, &q, c, &err);
}

static dsb_comparison compared(const char *base, const char *head) {
    dsb_comparison c;
    if (compared_with(base, head, NULL, &c)) fail_msg("%s", err.text);
    return c;
}

static const dsb_compare_row *row_of(const dsb_comparison *c, const char *scheme, const char *metric) {
    for (int64_t i = 0; i < c->n_row; i++)
        if (!strcmp(c->rows[i].head_scheme, scheme) && !strcmp(c->rows[i].metric, metric)) return &c->rows[i];
    fail_msg("no row of %s, %s", scheme, metric);
    return NULL;
}

static void test_compare__identical_is_equivalent_and_worse_regresses(void **state) {
    dsb_comparison c = compared("demo", "head");
    assert_string_equal(dsb_compare_verdict(&c), "equivalent");
    assert_int_equal(c.n_row, 9 * (SYNTHETIC_SCHEMES - 1) + 4); /* of the reference: nll, size, two speeds */
    assert_int_equal(c.n_blame, 0);
    assert_non_null(strstr(dsb_compare_sentence(&c, &arena), "bit for bit"));

    c = compared("demo:bf16", "demo:int4-rtn");
    assert_true(c.alarm);
    assert_string_equal(row_of(&c, "int4-rtn", "kld_mean")->verdict, "regressed");
    assert_string_equal(row_of(&c, "int4-rtn", "top1_agreement")->verdict, "regressed"); /* higher is better */
    assert_string_equal(row_of(&c, "int4-rtn", "weight_bytes")->verdict, "improved");
    assert_string_equal(row_of(&c, "int4-rtn", "decode_tps")->verdict, "reported"); /* no history */

    c = compared("demo:int4-rtn", "demo:bf16");
    assert_false(c.alarm);
}

/* By hand: two chunks of equal weight, differences 1 and 3 -> 2; t of one degree of freedom is Cauchy's: P(T > (2 − τ)/1) is 0.15. */
static void test_compare__difference_is_paired_over_chunks(void **state) {
    for (int r = 0; r < 2; r++) {
        dsb_run_record run = synthetic_record(r ? "two-b" : "two-a", 2, 2);
        run.n_chunk = 2;
        run.n_scored = 20;
        assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_OK);
        dsb_scheme_record scheme = { "s", NULL, NULL, NULL, NULL, 1, -1, -1, NAN, NAN };
        assert_int_equal(dsb_db_put_scheme(db, run.id, &scheme, &err), DSB_OK);
        for (int c = 0; c < 2; c++) {
            dsb_chunk_quality q = { "s", c, 10, 10, 1, 1, r ? 1 + 2 * c + 5 : 5, NAN, NAN, NAN, NAN, NAN };
            assert_int_equal(dsb_db_put_chunk_quality(db, run.id, &q, &err), DSB_OK);
        }
    }
    dsb_comparison c = compared("two-a", "two-b");
    const dsb_compare_row *r = row_of(&c, "s", "kld_mean");
    assert_float_equal(r->j.diff, 2, 1e-12);
    assert_float_equal(r->j.p_regressed, 0.5 - atan(2 - r->j.tolerance) / 3.14159265358979, 1e-9);
    assert_string_equal(r->verdict, "inconclusive");
    assert_string_equal(dsb_compare_verdict(&c), "inconclusive");
    assert_true(c.open && !c.alarm);
}

static void test_compare__what_differs_is_refused(void **state) {
    struct {
        const char *id, *word;
    } cases[] = { { "model", "model" }, { "text", "text" }, { "convention", "convention" }, { "context", "context" }, { "chunks", "chunks" }, { "arithmetic", "the reference's arithmetic differs: f32 against bf16" } };
    dsb_comparison c;
    for (int i = 0; i < 6; i++) {
        dsb_run_record run = synthetic_record(cases[i].id, 8, 16);
        if (i == 0) run.model.sha256 = "aaaa";
        if (i == 1) run.dataset.sha256 = "bbbb";
        if (i == 2) run.convention = "gptq";
        if (i == 3) run.n_ctx = 2048;
        if (i == 4) run.n_chunk /= 2;
        if (i == 5) run.suite_json = "{\"reference\": \"bf16\"}";
        assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_OK);
        assert_int_equal(compared_with("demo", cases[i].id, NULL, &c), DSB_ECOMPARE);
        assert_int_equal(dsb_exit_code(DSB_ECOMPARE), 3);
        assert_non_null(strstr(err.text, cases[i].word));
    }
    assert_int_equal(compared_with("demo:nope", "demo", NULL, &c), DSB_EUSAGE);
    assert_int_equal(compared_with("gone", "demo", NULL, &c), DSB_EUSAGE);
}

/* Builds and machines may differ; that they do is said, and so is another recipe of the same name. */
static void test_compare__other_builds_and_machines_are_named(void **state) {
    dsb_run_record run = synthetic_record("other", 8, 16);
    run.build_hash = "feedbeef";
    run.host.name_hash = "ffff";
    assert_int_equal(dsb_db_run_insert(db, &run, &err), DSB_OK);
    dsb_scheme_record scheme = { "bf16", NULL, "{\"rules\": [1]}", NULL, "avx2/gemm_f32", 1, 100, 100, 16, 16 };
    assert_int_equal(dsb_db_put_scheme(db, "other", &scheme, &err), DSB_OK);
    dsb_comparison c = compared("demo", "other");
    dsb_text t;
    dsb_text_init(&t);
    assert_int_equal(dsb_compare_write(&c, &arena, DSB_REPORT_TEXT, &t, &err), DSB_OK);
    assert_non_null(strstr(t.data, "build: 0.1.0 0123abcd → 0.1.0 feedbeef"));
    assert_non_null(strstr(t.data, "host: "));
    assert_non_null(strstr(t.data, "recipe of bf16"));
    dsb_text_release(&t);
}

/* Worse by a third in every chunk of one scheme of run `head`: something to explain. */
static void worsen(const char *scheme) {
    dsb_chunk_quality *rows;
    int64_t n;
    assert_int_equal(dsb_db_get_chunk_quality(db, &arena, "head", scheme, &rows, &n, &err), DSB_OK);
    for (int64_t i = 0; i < n; i++) {
        rows[i].kld *= 1.3 + 0.01 * (double)(i % 3);
        assert_int_equal(dsb_db_put_chunk_quality(db, "head", &rows[i], &err), DSB_OK);
    }
}

static void scale_layer(const char *scheme, int64_t layer, const char *point, const char *kind, double by) {
    dsb_layer_error *rows;
    int64_t n;
    assert_int_equal(dsb_db_get_layer_error(db, &arena, "head", scheme, &rows, &n, &err), DSB_OK);
    for (int64_t i = 0; i < n; i++) {
        if (rows[i].layer != layer || strcmp(rows[i].point, point) || strcmp(rows[i].kind, kind)) continue;
        rows[i].m.dd *= by;
        assert_int_equal(dsb_db_put_layer_error(db, "head", &rows[i], &err), DSB_OK);
    }
}

static void set_rerouted(const char *scheme, int64_t layer, const char *kind, double value) {
    dsb_routing_layer r = { scheme, kind, "selection_change", "share of tokens", layer, value, 16384 };
    assert_int_equal(dsb_db_put_routing_layer(db, "head", &r, &err), DSB_OK);
}

static void test_compare__cause_router(void **state) {
    dsb_routing_expert e = { "dynamic-int8", "accumulated", 3, 5, 100, 9000, 1, 1, 1, 1, NAN };
    worsen("dynamic-int8");
    set_rerouted("dynamic-int8", 3, "isolated", 0.4);
    scale_layer("dynamic-int8", 3, "block", "isolated", 5);
    scale_layer("dynamic-int8", 5, "block", "accumulated", 5);
    assert_int_equal(dsb_db_put_routing_expert(db, "head", &e, &err), DSB_OK);
    dsb_comparison c = compared("demo", "head");
    assert_true(c.alarm);
    assert_int_equal(c.n_blame, 1);
    assert_int_equal(c.blames[0].cause, DSB_CAUSE_ROUTER);
    assert_int_equal(c.blames[0].layer, 3);
    assert_int_equal(c.blames[0].experts[0].expert, 5);
    assert_int_equal(c.n_upstream, 1);
    assert_non_null(strstr(dsb_compare_sentence(&c, &arena), "kld_mean of dynamic-int8. The largest change begins in layer 3 (router)"));
}

static void test_compare__cause_activations_and_upstream(void **state) {
    worsen("static-int8");
    scale_layer("static-int8", 2, "mlp", "isolated", 4);
    scale_layer("static-int8", 2, "block", "isolated", 3);
    worsen("bf16");
    scale_layer("bf16", 6, "block", "accumulated", 8);
    dsb_comparison c = compared("demo", "head");
    assert_int_equal(c.n_blame, 2);
    assert_int_equal(c.blames[0].cause, DSB_CAUSE_UPSTREAM); /* bf16: no layer has a cause of its own */
    assert_int_equal(c.blames[0].layer, 6);
    assert_int_equal(c.blames[1].cause, DSB_CAUSE_ACTIVATIONS);
    assert_string_equal(c.blames[1].point, "mlp");
}

static void test_compare__cause_weights_names_the_tensor(void **state) {
    worsen("int4-rtn");
    scale_layer("int4-rtn", 1, "mlp", "isolated", 4);
    dsb_tensor_error *rows;
    int64_t n;
    assert_int_equal(dsb_db_get_tensor_error(db, &arena, "head", "int4-rtn", &rows, &n, &err), DSB_OK);
    rows[0].m.dd *= 3;
    rows[0].format = "int3";
    assert_int_equal(dsb_db_put_tensor_error(db, "head", &rows[0], &err), DSB_OK);
    dsb_comparison c = compared("demo", "head");
    assert_int_equal(c.n_blame, 1);
    assert_int_equal(c.blames[0].cause, DSB_CAUSE_WEIGHTS);
    const char *text = dsb_blame_text(&c.blames[0], &arena);
    assert_non_null(strstr(text, "model.layers.1.mlp.experts.0.down_proj.weight"));
    assert_non_null(strstr(text, "(int8 → int3)"));
}

/* The reference is the yardstick: if a build moves it, schemes may stand still beside it, and it is told all the same. */
static void test_compare__a_moved_reference_is_an_alarm(void **state) {
    dsb_chunk_quality *rows;
    int64_t n;
    assert_int_equal(dsb_db_get_chunk_quality(db, &arena, "head", "reference", &rows, &n, &err), DSB_OK);
    for (int64_t i = 0; i < n; i++) {
        rows[i].nll_test += 0.01 + 1e-4 * (double)(i % 5);
        assert_int_equal(dsb_db_put_chunk_quality(db, "head", &rows[i], &err), DSB_OK);
    }
    dsb_comparison c = compared("demo", "head");
    assert_true(c.alarm);
    assert_string_equal(row_of(&c, "reference", "nll")->verdict, "regressed");
    assert_string_equal(row_of(&c, "bf16", "delta_nll")->verdict, "equivalent");
}

static dsb_status load(const char *text, dsb_tolerances *t) { return dsb_tolerances_load(t, &arena, temp_put(&dir, "t.json", text, strlen(text)), &err); }

static void test_tolerance__file_over_defaults(void **state) {
    dsb_tolerances t, shipped;
    dsb_tolerance x;
    assert_int_equal(load("{\"metrics\": {\"kld_mean\": 0.5, \"slot_change\": {\"gate\": true}}, \"schemes\": {\"bf16\": {\"kld_mean\": {\"relative\": 0.25}}}}", &t), DSB_OK);
    x = dsb_tolerance_of(&t, "bf16", "kld_mean");
    assert_true(x.absolute == 0.5 && x.relative == 0.25 && x.gate);
    assert_true(dsb_tolerance_at(&x, -4) == 1.0 && dsb_tolerance_at(&x, NAN) == 0.5);
    assert_true(dsb_tolerance_of(&t, "int4-rtn", "kld_mean").relative == dsb_tolerance_of(NULL, "", "kld_mean").relative);
    assert_true(dsb_tolerance_of(&t, "int4-rtn", "slot_change").gate);
    assert_false(dsb_tolerance_of(NULL, "int4-rtn", "slot_change").gate);
    /* The file that ships holds the defaults: nothing less, nothing else. */
    if (dsb_tolerances_load(&shipped, &arena, "harness/tolerances.json", &err)) fail_msg("%s", err.text);
    assert_int_equal(shipped.n, 11);
    for (int64_t i = 0; i < shipped.n; i++) {
        dsb_tolerance d = dsb_tolerance_of(NULL, "", shipped.rows[i].metric);
        assert_true(shipped.rows[i].absolute == d.absolute && shipped.rows[i].relative == d.relative && shipped.rows[i].gate == d.gate);
    }
}

static void test_tolerance__makes_the_verdict(void **state) {
    dsb_tolerances t;
    dsb_comparison c;
    worsen("int4-rtn"); /* kld 0.026 -> 0.034 */
    assert_int_equal(load("{\"schemes\": {\"int4-rtn\": {\"kld_mean\": 0.02}}}", &t), DSB_OK);
    assert_int_equal(compared_with("demo", "head", &t, &c), DSB_OK);
    assert_string_equal(row_of(&c, "int4-rtn", "kld_mean")->verdict, "equivalent");
    assert_int_equal(load("{\"metrics\": {\"kld_mean\": {\"gate\": false}}}", &t), DSB_OK);
    assert_int_equal(compared_with("demo", "head", &t, &c), DSB_OK);
    assert_string_equal(row_of(&c, "int4-rtn", "kld_mean")->verdict, "regressed");
    assert_false(c.alarm);
}

static void test_tolerance__bad_files_are_refused_whole(void **state) {
    static const char *const cases[][2] = {
        { "[1]", "no JSON object" }, { "{\"metrics\": 3}", "is no object" }, { "{\"metric\": {}}", "unknown key \"metric\"" }, { "{\"metrics\": {\"kld\": 1}}", "\"kld\" is no metric" },
        { "{\"metrics\": {\"kld_mean\": -1}}", "0 or more is wanted" }, { "{\"metrics\": {\"kld_mean\": \"x\"}}", "no number" }, { "{\"metrics\": {\"kld_mean\": {\"abs\": 1}}}", "unknown key \"abs\"" },
        { "{\"metrics\": {\"kld_mean\": {\"gate\": 1}}}", "neither true nor false" }, { "{\"schemes\": {\"a\": 1}}", "scheme a is no object" }, { "{\"schemes\": []}", "is no object" },
        { "{\"schemes\": {\"a\": {\"kld_mean\": 1e999}}}", "" }, { "{\"metrics\": {}", "" }, { "{\"metrics\": {\"kld_mean\": 1, \"kld_mean\": 2}}", "" },
    };
    dsb_tolerances t;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(load(cases[i][0], &t), DSB_EINPUT);
        if (!strstr(err.text, cases[i][1]) || !strstr(err.text, "t.json")) fail_msg("%s: %s", cases[i][0], err.text);
    }
    assert_int_equal(dsb_tolerances_load(&t, &arena, "/nowhere/t.json", &err), DSB_EINPUT);
}

static int64_t count(const char *text, const char *word) {
    int64_t n = 0;
    for (; (text = strstr(text, word)); text++) n++;
    return n;
}

static void test_compare__junit_fails_what_regressed(void **state) {
    dsb_text t;
    dsb_text_init(&t);
    worsen("int4-rtn");
    dsb_comparison c = compared("demo", "head");
    assert_int_equal(dsb_compare_junit(&c, &arena, false, &t, &err), DSB_OK);
    assert_int_equal(count(t.data, "<testsuite name="), SYNTHETIC_SCHEMES);
    assert_int_equal(count(t.data, "<testcase "), c.n_row);
    assert_int_equal(count(t.data, "<failure type=\"regressed\""), 1);
    assert_non_null(strstr(t.data, "<testsuite name=\"int4-rtn\" tests=\"9\" failures=\"1\" errors=\"0\" skipped=\"0\">"));
    dsb_text_release(&t);
}

/* Names come from strangers' files: in every form they are text, on one line, without a terminal's codes. */
static void test_compare__hostile_names_are_inert(void **state) {
    static const char nasty[] = "<script>alert('x')</script>\"&|`*]]>\x1b[31m\nzz";
    dsb_text t;
    for (int r = 0; r < 2; r++) {
        const char *id = r ? "head" : "demo";
        dsb_scheme_record scheme = { nasty, nasty, r ? "{}" : NULL, NULL, nasty, 99, 100 + r, 100, 8, 8 };
        assert_int_equal(dsb_db_put_scheme(db, id, &scheme, &err), DSB_OK);
        for (int c = 0; c < 4; c++) {
            dsb_chunk_quality q = { nasty, c, 10, 10, 1, 1, 1 + r + 0.1 * c * r, 1, 1, 1, 0, 0 };
            assert_int_equal(dsb_db_put_chunk_quality(db, id, &q, &err), DSB_OK);
        }
        dsb_tensor_error w = { nasty, nasty, nasty, 1, 0, synthetic_moments(1e-3 * (1 + 5 * r), 100, 1), 100, 100, 8, nasty, "channel", "rtn", nasty };
        dsb_layer_error l = { nasty, "mlp", "isolated", 1, synthetic_moments(1e-3 * (1 + 5 * r), 100, 1), 1, NAN };
        assert_int_equal(dsb_db_put_tensor_error(db, id, &w, &err), DSB_OK);
        assert_int_equal(dsb_db_put_layer_error(db, id, &l, &err), DSB_OK);
    }
    dsb_comparison c = compared("demo", "head");
    assert_int_equal(c.n_blame, 1);
    c.base_name = nasty;
    for (int form = 0; form < 4; form++) {
        dsb_text_init(&t);
        if (form == 3) assert_int_equal(dsb_compare_junit(&c, &arena, true, &t, &err), DSB_OK);
        else assert_int_equal(dsb_compare_write(&c, &arena, form == 0 ? DSB_REPORT_TEXT : form == 1 ? DSB_REPORT_MARKDOWN : DSB_REPORT_JSON, &t, &err), DSB_OK);
        assert_null(strchr(t.data, 27));
        assert_null(strstr(t.data, "\nzz"));
        if (form == 1 || form == 3) assert_null(strstr(t.data, form == 1 ? "|`" : "<script>"));
        if (form == 1) assert_null(strstr(t.data, " <script"));
        if (form == 3) assert_null(strstr(t.data, "]]>"));
        if (form == 2) {
            json_t *doc = json_loadb(t.data, t.size, 0, NULL);
            assert_non_null(doc);
            json_decref(doc);
        }
        dsb_text_release(&t);
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_compare__identical_is_equivalent_and_worse_regresses),
        T(test_compare__difference_is_paired_over_chunks),
        T(test_compare__what_differs_is_refused),
        T(test_compare__other_builds_and_machines_are_named),
        T(test_compare__cause_router),
        T(test_compare__cause_activations_and_upstream),
        T(test_compare__cause_weights_names_the_tensor),
        T(test_compare__a_moved_reference_is_an_alarm),
        T(test_tolerance__file_over_defaults),
        T(test_tolerance__makes_the_verdict),
        T(test_tolerance__bad_files_are_refused_whole),
        T(test_compare__junit_fails_what_regressed),
        T(test_compare__hostile_names_are_inert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
