/* JSON fields: what is read, and one line that names file, key, found and wanted for what is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"
#include "tests/unit/temp_files.h"

static json_t *parse(const char *text) {
    json_t *doc = NULL;
    assert_int_equal(dsb_json_parse(&doc, "x.json", text, strlen(text), NULL), DSB_OK);
    return doc;
}

static void test_json__fields(void **state) {
    json_t *doc = parse("{\"i\": -3, \"big\": 9223372036854775807, \"r\": 1.5, \"whole\": 2, \"b\": true, \"s\": \"text\", \"n\": null}");
    int64_t i = 0;
    double r = 0;
    bool b = false;
    const char *s = NULL;
    assert_int_equal(dsb_json_int(doc, "x", "i", true, -3, 5, &i, NULL), DSB_OK);
    assert_int_equal(i, -3);
    assert_int_equal(dsb_json_int(doc, "x", "big", true, 0, INT64_MAX, &i, NULL), DSB_OK);
    assert_true(i == INT64_MAX);
    assert_int_equal(dsb_json_real(doc, "x", "r", true, &r, NULL), DSB_OK);
    assert_true(r == 1.5);
    assert_int_equal(dsb_json_real(doc, "x", "whole", true, &r, NULL), DSB_OK);
    assert_true(r == 2);
    assert_int_equal(dsb_json_bool(doc, "x", "b", true, &b, NULL), DSB_OK);
    assert_true(b);
    assert_int_equal(dsb_json_string(doc, "x", "s", true, &s, NULL), DSB_OK);
    assert_string_equal(s, "text");
    json_decref(doc);
}

static void test_json__absent_and_null_keep_the_default(void **state) {
    json_t *doc = parse("{\"n\": null}");
    const char *const keys[] = {"n", "absent"};
    for (int k = 0; k < 2; k++) {
        int64_t i = 7;
        double r = 7;
        bool b = true;
        const char *s = "seven";
        dsb_err err;
        assert_int_equal(dsb_json_int(doc, "x", keys[k], false, 0, 1, &i, NULL), DSB_OK);
        assert_int_equal(dsb_json_real(doc, "x", keys[k], false, &r, NULL), DSB_OK);
        assert_int_equal(dsb_json_bool(doc, "x", keys[k], false, &b, NULL), DSB_OK);
        assert_int_equal(dsb_json_string(doc, "x", keys[k], false, &s, NULL), DSB_OK);
        assert_true(i == 7 && r == 7 && b && strcmp(s, "seven") == 0);
        refused(dsb_json_int(doc, "x.json", keys[k], true, 0, 1, &i, &err), &err, DSB_EINPUT, "x.json: ", "is missing");
        refused(dsb_json_string(doc, "x.json", keys[k], true, &s, &err), &err, DSB_EINPUT, keys[k], "is missing");
    }
    json_decref(doc);
}

static void test_json__wrong_types_and_ranges(void **state) {
    json_t *doc = parse("{\"o\": {}, \"a\": [], \"s\": \"1\", \"r\": 1.0, \"i\": 5, \"t\": true}");
    int64_t i = 0;
    double r;
    bool b;
    const char *s;
    dsb_err err;
    refused(dsb_json_int(doc, "x.json", "r", true, 0, 9, &i, &err), &err, DSB_EINPUT, "x.json: \"r\" is a real number", "an integer is wanted");
    refused(dsb_json_int(doc, "x.json", "i", true, 0, 4, &i, &err), &err, DSB_EINPUT, "\"i\" is 5", "0 to 4 is wanted");
    refused(dsb_json_int(doc, "x.json", "i", true, 6, 9, &i, &err), &err, DSB_EINPUT, "\"i\" is 5", "6 to 9 is wanted");
    refused(dsb_json_real(doc, "x.json", "s", true, &r, &err), &err, DSB_EINPUT, "\"s\" is a string", "a number is wanted");
    refused(dsb_json_bool(doc, "x.json", "i", true, &b, &err), &err, DSB_EINPUT, "\"i\" is an integer", "true or false is wanted");
    refused(dsb_json_string(doc, "x.json", "o", true, &s, &err), &err, DSB_EINPUT, "\"o\" is an object", "a string is wanted");
    refused(dsb_json_string(doc, "x.json", "a", true, &s, &err), &err, DSB_EINPUT, "\"a\" is an array", NULL);
    refused(dsb_json_string(doc, "x.json", "t", true, &s, &err), &err, DSB_EINPUT, "\"t\" is a boolean", NULL);
    assert_int_equal(i, 0);
    json_decref(doc);
}

static void test_json__not_an_object(void **state) {
    json_t *doc = parse("[1, 2]");
    int64_t i = 4;
    dsb_err err;
    assert_int_equal(dsb_json_int(doc, "x", "k", false, 0, 9, &i, NULL), DSB_OK);
    refused(dsb_json_int(doc, "x.json", "k", true, 0, 9, &i, &err), &err, DSB_EINPUT, "\"k\" is missing", NULL);
    json_decref(doc);
}

static void test_json__malformed_documents_name_the_place(void **state) {
    static const char *const bad[] = {"", "{", "{\"a\": 1,}", "{\"a\": 1} x", "[1e999]", "[99999999999999999999]", "\"\xff\"", "{\"a\\u0000b\": 1}", "nul"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *doc;
        dsb_err err;
        refused(dsb_json_parse(&doc, "x.json", bad[i], strlen(bad[i]), &err), &err, DSB_EINPUT, "x.json: not valid JSON at line 1, column", NULL);
        assert_null(doc);
    }
    /* jansson reads 2048 levels; a deeper file ends in a message, not in a crash. */
    char deep[5000];
    memset(deep, '[', sizeof deep);
    json_t *doc;
    dsb_err err;
    refused(dsb_json_parse(&doc, "x.json", deep, sizeof deep, &err), &err, DSB_EINPUT, "x.json: not valid JSON", "depth");
}

static void test_json__files(void **state) {
    temp_dir t;
    json_t *doc;
    dsb_err err;
    temp_make(&t);
    assert_int_equal(dsb_json_load(&doc, temp_text(&t, "a.json", "{\"a\":\n1}"), NULL), DSB_OK);
    json_decref(doc);
    refused(dsb_json_load(&doc, temp_text(&t, "b.json", "{\n\n\"a\" 1}"), &err), &err, DSB_EINPUT, t.file, "line 3");
    refused(dsb_json_load(&doc, temp_text(&t, "empty.json", ""), &err), &err, DSB_EINPUT, t.file, "not valid JSON");
    refused(dsb_json_load(&doc, "/nonexistent/c.json", &err), &err, DSB_EINPUT, "/nonexistent/c.json: can't be opened", "No such file");
    assert_null(doc);
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json__fields),
        cmocka_unit_test(test_json__absent_and_null_keep_the_default),
        cmocka_unit_test(test_json__wrong_types_and_ranges),
        cmocka_unit_test(test_json__not_an_object),
        cmocka_unit_test(test_json__malformed_documents_name_the_place),
        cmocka_unit_test(test_json__files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
