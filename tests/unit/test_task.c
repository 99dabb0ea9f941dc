/* Multiple-choice files: which tokens are scored after which, how they are packed, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "datasets/task.h"
#include "tests/unit/temp_files.h"

/* Digits, a space ("Ġ"), a newline ("Ċ"), and one merge over the boundary: space and 1 are one token. */
#define MODEL "\"model\": {\"type\": \"BPE\", \"vocab\": {\"0\": 0, \"1\": 1, \"2\": 2, \"3\": 3, \"4\": 4, \"5\": 5, \"6\": 6, \"7\": 7, \"8\": 8, \"9\": 9, \"\\u0120\": 10, \"\\u010a\": 11, \"\\u01201\": 12, \"<s>\": 13, \"\\u00c3\": 14, \"\\u00a9\": 15}, \"merges\": [\"\\u0120 1\"]}"
#define WORDS "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}"
#define POST "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": {}}]}"
static const char k_plain[] = "{" WORDS ", " MODEL "}", k_bos[] = "{" WORDS ", " POST ", " MODEL "}";

static dsb_status load(dsb_task *t, temp_dir *dir, const char *tokenizer, const char *lines, int64_t n_ctx, int64_t max_pos, dsb_err *err) {
    dsb_tokenizer *tok;
    assert_int_equal(dsb_tokenizer_open_bytes(&tok, "t.json", tokenizer, strlen(tokenizer), err), DSB_OK);
    dsb_status s = dsb_task_load(t, tok, temp_text(dir, "task.jsonl", lines), n_ctx, max_pos, err);
    dsb_tokenizer_close(tok);
    return s;
}

static dsb_task loaded(temp_dir *dir, const char *tokenizer, const char *lines, int64_t n_ctx, int64_t max_pos) {
    dsb_task t;
    dsb_err err;
    if (load(&t, dir, tokenizer, lines, n_ctx, max_pos, &err)) fail_msg("%s", err.text);
    return t;
}

static void same(const int32_t *found, const int32_t *wanted, size_t n, const char *what) {
    for (size_t i = 0; i < n; i++)
        if (found[i] != wanted[i]) fail_msg("%s[%zu] is %d, wanted %d", what, i, found[i], wanted[i]);
}

static void test_task__a_choice_is_scored_behind_its_query(void **state) {
    temp_dir dir;
    temp_make(&dir);
    /* "23 1" is 2, 3, " 1"; "23 45" is 2, 3, " ", 4, 5. The last token of each is predicted and never an input. */
    dsb_task t = loaded(&dir, k_plain, "{\"query\": \"23\", \"choices\": [\"1\", \"45\"], \"gold\": 1, \"note\": [7]}\n", 8, 8);
    assert_true(t.n_item == 1 && t.n_choice == 2 && t.gold[0] == 1 && t.first_choice[1] == 2 && t.chars[0] == 1 && t.chars[1] == 2);
    assert_true(t.first_row[0] == 0 && t.first_row[1] == 1 && t.first_row[2] == 4 && t.n_cut == 0);
    assert_int_equal(t.chunks.n_chunk, 1);
    same(t.chunks.tokens, (int32_t[]){2, 3, 2, 3, 10, 4, 2, 3}, 8, "tokens");
    same(t.chunks.targets, (int32_t[]){-1, 12, -1, 10, 4, 5, -1, -1}, 8, "targets");
    same(t.chunks.positions, (int32_t[]){0, 1, 0, 1, 2, 3, 0, 1}, 8, "positions");
    assert_true(t.chunks.n_scored == 4 && t.chunks.scored_bytes[0] == 2 + 3);
    assert_int_equal(dsb_chunks_target(&t.chunks, 0, 1), 12);
    dsb_task_release(&t);
    temp_remove(&dir);
}

static void test_task__white_space_at_the_query_s_end_goes_to_the_choice(void **state) {
    temp_dir dir;
    temp_make(&dir);
    dsb_task t = loaded(&dir, k_plain, "{\"query\": \"2 \\n\", \"choices\": [\"1\", \"3\"], \"gold\": \"3\", \"target_delimiter\": \"\"}", 4, 8);
    same(t.chunks.tokens, (int32_t[]){2, 10, 11, 2, 2, 10, 11, 2}, 8, "tokens");
    same(t.chunks.targets, (int32_t[]){10, 11, 1, -1, 10, 11, 3, -1}, 8, "targets");
    assert_int_equal(t.gold[0], 1);
    dsb_task_release(&t);
    temp_remove(&dir);
}

static void test_task__bos_where_the_tokenizer_adds_one_or_the_query_is_empty(void **state) {
    temp_dir dir;
    temp_make(&dir);
    dsb_task t = loaded(&dir, k_bos, "{\"query\": \"2\", \"choices\": [\"3\", \"\u00e9\"], \"gold\": 0}\n\n{\"query\": \"\", \"choices\": [\"1\", \"4\"], \"gold\": 0}\n", 4, 8);
    assert_true(t.n_item == 2 && t.chars[1] == 1); /* é: one character, two bytes */
    assert_int_equal(t.chunks.n_chunk, 3);
    same(t.chunks.tokens, (int32_t[]){13, 2, 10, 13, 13, 2, 10, 14, 13, 13, 10, 13}, 12, "tokens");
    same(t.chunks.targets, (int32_t[]){-1, 10, 3, -1, -1, 10, 14, 15, 12, 10, 4, -1}, 12, "targets");
    dsb_task_release(&t);
    temp_remove(&dir);
}

static void test_task__a_long_query_is_cut_only_at_the_model_s_end(void **state) {
    static const char line[] = "{\"query\": \"234567\", \"choices\": [\"8\", \"98\"], \"gold\": 0}";
    temp_dir dir;
    dsb_task t;
    dsb_err err;
    temp_make(&dir);
    refused(load(&t, &dir, k_plain, line, 5, 64, &err), &err, DSB_EINPUT, "task.jsonl, line 1", "give --context 7");
    t = loaded(&dir, k_plain, line, 5, 5);
    assert_int_equal(t.n_cut, 2);
    same(t.chunks.tokens, (int32_t[]){4, 5, 6, 7, 10, 5, 6, 7, 10, 9}, 10, "tokens");
    same(t.chunks.targets, (int32_t[]){-1, -1, -1, 10, 8, -1, -1, 10, 9, 8}, 10, "targets");
    dsb_task_release(&t);
    refused(load(&t, &dir, k_plain, "{\"query\": \"2\", \"choices\": [\"8\", \"0123456\"], \"gold\": 0}", 5, 5, &err), &err, DSB_EINPUT, "choice 1 is 8 tokens", NULL);
    temp_remove(&dir);
}

static void test_task__what_is_no_item_is_refused_with_its_line(void **state) {
    static const struct { const char *lines, *words; } bad[] = {
        {"", "holds no item"},
        {"\n \n", "holds no item"},
        {"{\"query\": \"2\", \"choices\": [\"1\", \"3\"], \"gold\": 0}\n{\"query\": 3}", "line 2: \"query\" must be a string"},
        {"[1]", "line 1: not a JSON object"},
        {"{\"query\"", "line 1: not valid JSON"},
        {"{\"query\": \"2\"}", "\"choices\" must be an array"},
        {"{\"query\": \"2\", \"choices\": [\"1\"], \"gold\": 0}", "\"choices\" must be an array of 2"},
        {"{\"query\": \"2\", \"choices\": [\"1\", 3], \"gold\": 0}", "choice 1 isn't a string"},
        {"{\"query\": \"2\", \"choices\": [\"\", \"3\"], \"gold\": 0}", "choice 0 isn't a string of at least one character"},
        {"{\"query\": \"2\", \"choices\": [\"1\", \"3\"]}", "\"gold\" must be the number of the right choice, 0 to 1"},
        {"{\"query\": \"2\", \"choices\": [\"1\", \"3\"], \"gold\": 2}", "\"gold\" must be"},
        {"{\"query\": \"2\", \"choices\": [\"1\", \"3\"], \"gold\": -1}", "\"gold\" must be"},
        {"{\"query\": \"2\", \"choices\": [\"1\", \"3\"], \"gold\": \"4\"}", "\"gold\" must be"},
        {"{\"query\": \"2\", \"choices\": [\"1\", \"3\"], \"gold\": 0, \"target_delimiter\": 1}", "\"target_delimiter\" must be a string"},
        {"{\"query\": \" \\u00a0\\n\", \"choices\": [\"1\", \"3\"], \"gold\": 0}", "\"query\" is white space alone"},
        {"{\"query\": \"\\ud800\", \"choices\": [\"1\", \"3\"], \"gold\": 0}", "not valid JSON"},
        {"{\"query\": \"\xff\"}", "isn't UTF-8"},
    };
    temp_dir dir;
    dsb_task t;
    dsb_err err;
    temp_make(&dir);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refused(load(&t, &dir, k_plain, bad[i].lines, 8, 8, &err), &err, DSB_EINPUT, "task.jsonl", bad[i].words);
    refused(load(&t, &dir, k_plain, "{\"query\": \"\", \"choices\": [\"1\", \"3\"], \"gold\": 0}", 8, 8, &err), &err, DSB_EINPUT, "names no BOS", NULL);
    temp_remove(&dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_task__a_choice_is_scored_behind_its_query),
        cmocka_unit_test(test_task__white_space_at_the_query_s_end_goes_to_the_choice),
        cmocka_unit_test(test_task__bos_where_the_tokenizer_adds_one_or_the_query_is_empty),
        cmocka_unit_test(test_task__a_long_query_is_cut_only_at_the_model_s_end),
        cmocka_unit_test(test_task__what_is_no_item_is_refused_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
