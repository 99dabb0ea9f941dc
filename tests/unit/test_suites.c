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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suites__each_is_read_and_named_as_its_file),
        cmocka_unit_test(test_suites__everything_has_every_preset),
        cmocka_unit_test(test_suites__formats_has_every_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
