/* tokens.json of `trace`, and what a suite's JSON may hold: each wrong value has its message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "harness/suite.h"
#include "harness/token_file.h"
#include "tests/unit/temp_files.h"

static void test_token_file__sequences(void **state) {
    temp_dir t;
    dsb_token_file f;
    dsb_err err;
    temp_make(&t);
    if (dsb_token_file_load(&f, temp_text(&t, "tokens.json", "{\"sequences\": [[1, 2, 2147483647], [0]], \"more\": 1}"), &err)) fail_msg("%s", err.text);
    assert_true(f.n_seq == 2 && f.longest == 3 && f.seqs[0].n == 3 && f.seqs[0].ids[2] == INT32_MAX && f.seqs[1].n == 1 && f.seqs[1].ids[0] == 0);
    dsb_token_file_release(&f);
    assert_true(!f.seqs && f.n_seq == 0);
    temp_remove(&t);
}

static void test_token_file__refusals(void **state) {
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "not valid JSON"},
        {"[[1, 2]]", "\"sequences\" must be an array of token arrays"},
        {"{}", "\"sequences\" must be an array of token arrays"},
        {"{\"sequences\": []}", "\"sequences\" must be an array of token arrays"},
        {"{\"sequences\": [1, 2]}", "sequence 0 is no array of token ids"},
        {"{\"sequences\": [[1], []]}", "sequence 1 is no array of token ids"},
        {"{\"sequences\": [[1], [3, -1]]}", "sequence 1: entry 1 is no token id"},
        {"{\"sequences\": [[1.0]]}", "sequence 0: entry 0 is no token id"},
        {"{\"sequences\": [[2147483648]]}", "sequence 0: entry 0 is no token id"},
        {"{\"sequences\": [[1, \"2\"]]}", "sequence 0: entry 1 is no token id"},
    };
    temp_dir t;
    dsb_token_file f;
    dsb_err err;
    temp_make(&t);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refused(dsb_token_file_load(&f, temp_text(&t, "tokens.json", bad[i].text), &err), &err, DSB_EINPUT, t.file, bad[i].part);
        assert_true(!f.seqs && f.n_seq == 0);
    }
    refused(dsb_token_file_load(&f, "/nonexistent/tokens.json", &err), &err, DSB_EINPUT, "/nonexistent/tokens.json: can't be opened", NULL);
    temp_remove(&t);
}

static void test_suite_file__refusals(void **state) {
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"[]", "s.json: a suite must be a JSON object"},
        {"{\"contxt\": 512}", "s.json: key \"contxt\" is unknown"},
        {"{\"context\": \"512\"}", "s.json: \"context\" is a string; an integer is wanted"},
        {"{\"context\": 1}", "s.json: \"context\" is 1; 2 to 1048576 is wanted"},
        {"{\"chunks\": -1}", "s.json: \"chunks\" is -1"},
        {"{\"reflow\": 1}", "s.json: \"reflow\" is an integer; true or false is wanted"},
        {"{\"model\": 1}", "s.json: \"model\" is an integer; a string is wanted"},
        {"{\"schemes\": \"bf16\"}", "s.json: \"schemes\" must be an array"},
        {"{\"schemes\": [3]}", "s.json: a recipe must be a JSON object"},
        {"{\"schemes\": [{\"name\": \"x\", \"rules\": []}]}", "s.json: \"rules\" must be an array of at least one rule"},
        {"{\"sources\": 5}", "s.json: \"sources\" must be an object"},
        {"{\"sources\": {\"bf16\": 5}}", "s.json: \"sources\": bf16 must be a directory's name"},
        {"{\"throughput\": []}", "s.json: \"throughput\" must be an object"},
        {"{\"throughput\": {\"prefill\": 64, \"decod\": 8}}", "s.json: key \"decod\" of \"throughput\" is unknown; prefill, decode and repeats are known"},
        {"{\"throughput\": {\"repeats\": 33}}", "s.json: \"repeats\" is 33; 0 to 32 is wanted"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        dsb_arena arena;
        dsb_suite s;
        dsb_err err;
        json_t *doc;
        dsb_arena_init(&arena);
        assert_int_equal(dsb_suite_default(&s, &arena, "some/model", NULL), DSB_OK);
        assert_int_equal(dsb_json_parse(&doc, "s.json", bad[i].text, strlen(bad[i].text), NULL), DSB_OK);
        refused(dsb_suite_apply(&s, &arena, "s.json", doc, &err), &err, DSB_EINPUT, bad[i].part, NULL);
        json_decref(doc);
        dsb_arena_release(&arena);
    }
}

/* A convention brings its context, whatever the order of the keys; a context that is given stays. */
static void test_suite__a_convention_brings_its_context(void **state) {
    static const struct {
        const char *text;
        int64_t n_ctx;
    } k_case[] = {{"{}", 512}, {"{\"convention\": \"gptq\"}", 2048}, {"{\"convention\": \"sliding\"}", 512}, {"{\"context\": 96, \"convention\": \"gptq\"}", 96}, {"{\"convention\": \"gptq\", \"context\": 96}", 96}};
    for (size_t i = 0; i < sizeof k_case / sizeof *k_case; i++) {
        dsb_arena arena;
        dsb_suite s;
        dsb_err err = {0};
        json_t *doc;
        dsb_arena_init(&arena);
        assert_int_equal(dsb_json_parse(&doc, "s.json", k_case[i].text, strlen(k_case[i].text), &err), DSB_OK);
        assert_int_equal(dsb_suite_default(&s, &arena, "some/model", &err), DSB_OK);
        assert_int_equal(dsb_suite_apply(&s, &arena, "s.json", doc, &err), DSB_OK);
        assert_int_equal(s.n_ctx, k_case[i].n_ctx);
        json_decref(doc);
        dsb_arena_release(&arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_suite__a_convention_brings_its_context),
        cmocka_unit_test(test_token_file__sequences),
        cmocka_unit_test(test_token_file__refusals),
        cmocka_unit_test(test_suite_file__refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
