/* The suites that are shipped: each is read whole, has schemes of its own names and reads back as itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <glob.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "harness/suite.h"
#include "quantizers/recipe.h"

static void load(dsb_suite *s, dsb_arena *arena, const char *path) {
    json_t *doc;
    dsb_err err = {0};
    if (dsb_suite_default(s, arena, "m", &err) || dsb_json_load(&doc, path, &err) || dsb_suite_apply(s, arena, path, doc, &err) || dsb_suite_check(s, &err)) fail_msg("%s", err.text);
    json_decref(doc);
}

static void test_suites__each_is_read_and_named_as_its_file(void **state) {
    glob_t g;
    assert_int_equal(glob("harness/suites/*.json", 0, NULL, &g), 0);
    for (size_t i = 0; i < g.gl_pathc; i++) {
        dsb_arena arena;
        dsb_suite s;
        char name[64];
        const char *json;
        dsb_err err = {0};
        dsb_arena_init(&arena);
        load(&s, &arena, g.gl_pathv[i]);
        snprintf(name, sizeof name, "harness/suites/%.32s.json", s.name);
        assert_string_equal(name, g.gl_pathv[i]);
        assert_true(s.n_scheme > 3);
        assert_string_equal(s.recipes[0]->name, "bf16"); /* the noise floor first */
        if (dsb_suite_json(&s, &arena, &json, &err)) fail_msg("%s", err.text);
        dsb_arena_release(&arena);
    }
    globfree(&g);
}

/* "*" is every preset once, but the one that reads another kind of checkpoint. */
static void test_suites__everything_has_every_preset(void **state) {
    const dsb_preset_row *rows;
    dsb_arena arena;
    dsb_suite s;
    dsb_arena_init(&arena);
    load(&s, &arena, "harness/suites/everything.json");
    int n = dsb_preset_list(&rows), at = 0;
    for (int i = 0; i < n; i++) {
        if (strcmp(rows[i].name, "as-stored") == 0) continue;
        assert_true(at < s.n_scheme);
        assert_string_equal(s.recipes[at++]->name, rows[i].name);
    }
    assert_int_equal(at, s.n_scheme);
    dsb_arena_release(&arena);
}

static void test_suites__the_references_arithmetic_is_kept(void **state) {
    dsb_arena arena;
    dsb_suite s, again;
    dsb_err err = {0};
    const char *json;
    json_t *doc = json_pack("{s:s}", "reference", "bf16");
    dsb_arena_init(&arena);
    assert_int_equal(dsb_suite_default(&s, &arena, "m", &err), DSB_OK);
    assert_false(s.bf16_reference);
    assert_int_equal(dsb_suite_apply(&s, &arena, "suite", doc, &err), DSB_OK);
    assert_true(s.bf16_reference);
    assert_int_equal(dsb_suite_json(&s, &arena, &json, &err), DSB_OK);
    json_decref(doc);
    assert_int_equal(dsb_json_parse(&doc, "suite", json, strlen(json), &err), DSB_OK);
    assert_int_equal(dsb_suite_default(&again, &arena, "m", &err), DSB_OK);
    assert_int_equal(dsb_suite_apply(&again, &arena, "suite", doc, &err), DSB_OK);
    assert_true(again.bf16_reference);
    json_object_set_new(doc, "reference", json_string("f16"));
    assert_int_equal(dsb_suite_apply(&again, &arena, "suite", doc, &err), DSB_EINPUT);
    assert_string_equal(err.text, "suite: \"reference\" is f16; f32 or bf16 is wanted");
    json_decref(doc);
    dsb_arena_release(&arena);
}

/* What a suite promises: a scheme for each format that isn't a float. */
static void test_suites__formats_has_every_format(void **state) {
    const dsb_format *rows;
    dsb_arena arena;
    dsb_suite s;
    dsb_arena_init(&arena);
    load(&s, &arena, "harness/suites/formats.json");
    for (int i = 0, n = dsb_format_list(&rows); i < n; i++) {
        int found = rows[i].is_float;
        for (int k = 0; k < s.n_scheme; k++)
            for (int j = 0; j < s.recipes[k]->n_rule; j++) found += s.recipes[k]->rules[j].format == &rows[i];
        if (!found) fail_msg("no scheme of suite formats has %s", rows[i].name);
    }
    dsb_arena_release(&arena);
}

static dsb_status apply(dsb_suite *s, dsb_arena *arena, const char *text, dsb_err *err) {
    json_t *doc;
    if (dsb_suite_default(s, arena, "m", err) || dsb_json_parse(&doc, "s.json", text, strlen(text), err)) fail_msg("%s", err->text);
    dsb_status st = dsb_suite_apply(s, arena, "s.json", doc, err);
    json_decref(doc);
    return st;
}

static void test_suites__calibration_keys_are_read_and_written(void **state) {
    dsb_arena arena;
    dsb_suite s, back;
    const char *json;
    dsb_err err = {0};
    dsb_arena_init(&arena);
    assert_int_equal(apply(&s, &arena, "{}", &err), DSB_OK);
    assert_true(s.n_cal_chunk == 16 && !s.cal_chunk_asked && s.cover.min_tokens == 0 && !s.cover.balance && !s.cover.all && s.cover.starved == DSB_STARVED_RTN);
    static const char k_all[] = "{\"calibration\": \"c.txt\", \"calibration_chunks\": 7, \"calibration_min_tokens\": 32, \"calibration_balance\": true, \"calibration_experts\": \"all\", \"calibration_starved\": \"all-tokens\"}";
    if (apply(&s, &arena, k_all, &err)) fail_msg("%s", err.text);
    assert_string_equal(s.calibration, "c.txt");
    assert_true(s.n_cal_chunk == 7 && s.cal_chunk_asked && s.cover.min_tokens == 32 && s.cover.balance && s.cover.all && s.cover.starved == DSB_STARVED_ALL_TOKENS);
    if (dsb_suite_json(&s, &arena, &json, &err) || apply(&back, &arena, json, &err)) fail_msg("%s", err.text);
    assert_memory_equal(&s.cover, &back.cover, sizeof s.cover);
    assert_true(back.n_cal_chunk == 7 && back.cal_chunk_asked);
    dsb_arena_release(&arena);
}

static void test_suites__calibration_keys_that_make_no_sense_are_refused(void **state) {
    static const struct {
        const char *json, *word;
    } k_bad[] = {
        {"{\"calibration_chunks\": -1}", "calibration_chunks"},
        {"{\"calibration_chunks\": \"few\"}", "calibration_chunks"},
        {"{\"calibration_min_tokens\": 1.5}", "calibration_min_tokens"},
        {"{\"calibration_min_tokens\": 8, \"calibration_balance\": 1}", "calibration_balance"},
        {"{\"calibration_balance\": true}", "without calibration_min_tokens"},
        {"{\"calibration_starved\": \"error\"}", "without calibration_min_tokens"},
        {"{\"calibration_min_tokens\": 8, \"calibration_starved\": \"skip\"}", "rtn, all-tokens or error"},
        {"{\"calibration_experts\": \"some\"}", "routed or all"},
        {"{\"calibration_expert\": \"all\"}", "calibration_experts"},
    };
    for (size_t i = 0; i < sizeof k_bad / sizeof *k_bad; i++) {
        dsb_arena arena;
        dsb_suite s;
        dsb_err err = {0};
        dsb_arena_init(&arena);
        if (apply(&s, &arena, k_bad[i].json, &err) != DSB_EINPUT || !strstr(err.text, "s.json") || !strstr(err.text, k_bad[i].word)) fail_msg("%s: %s", k_bad[i].json, err.text);
        dsb_arena_release(&arena);
    }
}

/* A file stands before a name; what looks like a path is one, there or not: its reader says so. */
static void test_suites__a_name_is_a_file_or_one_that_is_shipped(void **state) {
    dsb_arena arena;
    const char *path;
    dsb_err err = {0};
    char longest[80];
    dsb_arena_init(&arena);
    assert_int_equal(dsb_suite_find(&arena, "quick", &path, &err), DSB_OK);
    assert_true(strlen(path) > 11 && strcmp(path + strlen(path) - 11, "/quick.json") == 0);
    assert_int_equal(dsb_suite_find(&arena, "harness/suites/moe.json", &path, &err), DSB_OK);
    assert_string_equal(path, "harness/suites/moe.json");
    assert_int_equal(dsb_suite_find(&arena, "Makefile", &path, &err), DSB_OK);
    assert_string_equal(path, "Makefile");
    assert_int_equal(dsb_suite_find(&arena, "../quick", &path, &err), DSB_OK);
    assert_string_equal(path, "../quick");
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = 0;
    assert_int_equal(dsb_suite_find(&arena, longest, &path, &err), DSB_OK);
    assert_string_equal(path, longest);
    assert_int_equal(dsb_suite_find(&arena, "quik", &path, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, "quik: neither a file nor a suite"));
    assert_int_equal(dsb_suite_find(&arena, "harness", &path, &err), DSB_EINPUT); /* a folder is no suite */
    dsb_arena_release(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suites__each_is_read_and_named_as_its_file),
        cmocka_unit_test(test_suites__the_references_arithmetic_is_kept),
        cmocka_unit_test(test_suites__everything_has_every_preset),
        cmocka_unit_test(test_suites__formats_has_every_format),
        cmocka_unit_test(test_suites__calibration_keys_are_read_and_written),
        cmocka_unit_test(test_suites__calibration_keys_that_make_no_sense_are_refused),
        cmocka_unit_test(test_suites__a_name_is_a_file_or_one_that_is_shipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
