/* Chunks: which tokens a chunk holds and which predictions are scored, by convention; BOS; texts that are too short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "datasets/chunks.h"
#include "tests/unit/temp_files.h"

/* A vocabulary of the ten digits, "ab" and a BOS; no merges but a+b: a text of n digits has n tokens, its ids are the digits. */
#define MODEL "\"model\": {\"type\": \"BPE\", \"vocab\": {\"0\": 0, \"1\": 1, \"2\": 2, \"3\": 3, \"4\": 4, \"5\": 5, \"6\": 6, \"7\": 7, \"8\": 8, \"9\": 9, \"a\": 10, \"b\": 11, \"ab\": 12, \"<s>\": 13}, \"merges\": [\"a b\"]}"
#define WORDS "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": false}"
static const char k_plain[] = "{" WORDS ", " MODEL "}";
static const char k_bos[] = "{" WORDS ", \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\": {\"id\": \"<s>\"}}, {\"Sequence\": {}}]}, " MODEL "}";
enum { BOS = 13 };

static dsb_tokenizer *open_text(const char *json) {
    dsb_tokenizer *tok = NULL;
    dsb_err err;
    if (dsb_tokenizer_open_bytes(&tok, "t.json", json, strlen(json), &err)) fail_msg("%s", err.text);
    return tok;
}

static dsb_chunks make(const dsb_tokenizer *tok, const char *text, dsb_convention conv, int64_t n_ctx, int64_t max, bool spread) {
    dsb_chunks c;
    dsb_err err;
    if (dsb_chunks_make(&c, tok, "text", &(dsb_text_file){.data = (char *)text, .n = strlen(text)}, conv, n_ctx, max, spread, &err)) fail_msg("%s", err.text);
    return c;
}

static void expect_chunk(const dsb_chunks *c, int64_t i, int64_t start, int64_t first, int64_t last) {
    assert_int_equal(c->start[i], start);
    assert_int_equal(c->score_first[i], first);
    assert_int_equal(c->score_last[i], last);
}

static const char k_text[] = "01234567890123456789012"; /* 23 tokens */

static void test_chunks__llama_scores_the_second_half(void **state) {
    dsb_tokenizer *tok = open_text(k_plain);
    dsb_chunks c = make(tok, k_text, DSB_CONVENTION_LLAMA, 8, 0, false);
    assert_int_equal(c.n_text_token, 23);
    assert_int_equal(c.n_available, 2); /* the 7 tokens that are left make no chunk */
    assert_int_equal(c.n_chunk, 2);
    assert_int_equal(c.n_scored, 2 * 3); /* positions 4, 5, 6 predict tokens 5, 6, 7: as llama-perplexity counts */
    for (int64_t i = 0; i < 2; i++) {
        expect_chunk(&c, i, 8 * i, 4, 6);
        assert_int_equal(c.scored_bytes[i], 3);
        for (int64_t p = 0; p < 8; p++) {
            assert_int_equal(c.tokens[8 * i + p], (8 * i + p) % 10);
            assert_int_equal(dsb_chunks_target(&c, i, p), p >= 4 && p <= 6 ? (8 * i + p + 1) % 10 : -1);
        }
    }
    dsb_chunks_release(&c);
    c = make(tok, k_text, DSB_CONVENTION_LLAMA, 7, 0, false); /* odd: 7/2 = 3 */
    expect_chunk(&c, 2, 14, 3, 5);
    dsb_chunks_release(&c);
    dsb_tokenizer_close(tok);
}

static void test_chunks__gptq_scores_every_prediction(void **state) {
    dsb_tokenizer *tok = open_text(k_plain);
    dsb_chunks c = make(tok, k_text, DSB_CONVENTION_GPTQ, 8, 0, false);
    assert_int_equal(c.n_chunk, 2);
    assert_int_equal(c.n_scored, 2 * 7);
    expect_chunk(&c, 0, 0, 0, 6);
    expect_chunk(&c, 1, 8, 0, 6);
    dsb_chunks_release(&c);
    dsb_tokenizer_close(tok);
}

/* Each token of the covered text but the first is predicted exactly once, with at least half a window before it. */
static void test_chunks__sliding_scores_each_once(void **state) {
    dsb_tokenizer *tok = open_text(k_plain);
    for (int64_t n_ctx = 4; n_ctx <= 9; n_ctx++) {
        dsb_chunks c = make(tok, k_text, DSB_CONVENTION_SLIDING, n_ctx, 0, false);
        int64_t stride = n_ctx / 2, next = 1;
        assert_int_equal(c.n_chunk, (23 - n_ctx) / stride + 1);
        for (int64_t i = 0; i < c.n_chunk; i++) {
            assert_int_equal(c.start[i], i * stride);
            for (int64_t p = 0; p < n_ctx; p++) {
                if (dsb_chunks_target(&c, i, p) < 0) continue;
                assert_int_equal(c.start[i] + p + 1, next);
                assert_int_equal(dsb_chunks_target(&c, i, p), next % 10);
                if (i > 0) assert_true(p + 1 >= n_ctx - stride);
                next++;
            }
        }
        assert_int_equal(next, c.start[c.n_chunk - 1] + n_ctx);
        assert_int_equal(c.n_scored, next - 1);
        dsb_chunks_release(&c);
    }
    dsb_tokenizer_close(tok);
}

static void test_chunks__bos_only_where_the_tokenizer_adds_it(void **state) {
    dsb_tokenizer *tok = open_text(k_bos);
    dsb_chunks c = make(tok, k_text, DSB_CONVENTION_LLAMA, 8, 0, false);
    assert_int_equal(c.n_text_token, 24);
    assert_int_equal(c.n_chunk, 3);
    for (int64_t i = 0; i < 3; i++) { /* llama.cpp puts it over the first token of every chunk */
        assert_int_equal(c.tokens[8 * i], BOS);
        for (int64_t p = 1; p < 8; p++) assert_int_equal(c.tokens[8 * i + p], (8 * i + p - 1) % 10);
    }
    dsb_chunks_release(&c);
    c = make(tok, k_text, DSB_CONVENTION_GPTQ, 8, 0, false); /* once, before the text */
    assert_int_equal(c.tokens[0], BOS);
    assert_int_equal(c.tokens[8], 7);
    dsb_chunks_release(&c);
    dsb_tokenizer_close(tok);
    tok = open_text(k_plain);
    c = make(tok, k_text, DSB_CONVENTION_LLAMA, 8, 0, false);
    assert_int_equal(c.tokens[0], 0);
    dsb_chunks_release(&c);
    dsb_tokenizer_close(tok);
}

static void test_chunks__limits_and_spreading(void **state) {
    dsb_tokenizer *tok = open_text(k_plain);
    dsb_chunks c = make(tok, k_text, DSB_CONVENTION_LLAMA, 4, 2, false);
    assert_int_equal(c.n_available, 5);
    assert_int_equal(c.n_chunk, 2);
    assert_true(c.start[0] == 0 && c.start[1] == 4);
    dsb_chunks_release(&c);
    c = make(tok, k_text, DSB_CONVENTION_LLAMA, 4, 2, true);
    assert_true(c.start[0] == 0 && c.start[1] == 8); /* chunks 0 and 2 of 5 */
    dsb_chunks_release(&c);
    c = make(tok, k_text, DSB_CONVENTION_LLAMA, 4, 100, true);
    assert_int_equal(c.n_chunk, 5);
    for (int64_t i = 0; i < 5; i++) assert_int_equal(c.start[i], 4 * i);
    dsb_chunks_release(&c);
    dsb_tokenizer_close(tok);
}

static void test_chunks__bytes_of_scored_tokens(void **state) {
    dsb_tokenizer *tok = open_text(k_plain);
    dsb_chunks c = make(tok, "0000ab1ab", DSB_CONVENTION_LLAMA, 7, 0, false); /* 0 0 0 0 ab 1 ab: targets of positions 3, 4, 5 */
    assert_int_equal(c.n_text_token, 7);
    assert_int_equal(c.scored_bytes[0], 2 + 1 + 2);
    dsb_chunks_release(&c);
    dsb_tokenizer_close(tok);
}

static void test_chunks__refusals(void **state) {
    dsb_tokenizer *tok = open_text(k_plain);
    dsb_chunks c;
    dsb_err err;
    refused(dsb_chunks_make(&c, tok, "short.txt", &(dsb_text_file){.data = "0123456", .n = 7}, DSB_CONVENTION_LLAMA, 8, 0, false, &err), &err, DSB_EINPUT, "short.txt: too short: 7 tokens found, 8 are wanted", NULL);
    assert_null(c.tokens);
    refused(dsb_chunks_make(&c, tok, "empty.txt", &(dsb_text_file){.data = "", .n = 0}, DSB_CONVENTION_GPTQ, 0, 0, false, &err), &err, DSB_EINPUT, "empty.txt: too short: 0 tokens found, 2048 are wanted", NULL);
    refused(dsb_chunks_make(&c, tok, "a.txt", &(dsb_text_file){.data = "0123\x80", .n = 5}, DSB_CONVENTION_LLAMA, 4, 0, false, &err), &err, DSB_EINPUT, "a.txt: byte 0x80 at offset 4", NULL);
    refused(dsb_chunks_make(&c, tok, "a.txt", &(dsb_text_file){.data = "0123", .n = 4}, DSB_CONVENTION_LLAMA, 3, 0, false, &err), &err, DSB_EUSAGE, "context: 3 tokens", "at least 4");
    refused(dsb_chunks_make(&c, tok, "a.txt", &(dsb_text_file){.data = "0123", .n = 4}, DSB_CONVENTION_LLAMA, -1, 0, false, &err), &err, DSB_EUSAGE, "context: -1", NULL);
    refused(dsb_chunks_make(&c, tok, "a.txt", &(dsb_text_file){.data = "0123", .n = 4}, DSB_CONVENTION_LLAMA, 4, -1, false, &err), &err, DSB_EUSAGE, "chunks: -1", NULL);
    refused(dsb_chunks_make(&c, tok, "a.txt", &(dsb_text_file){.data = "0123x", .n = 5}, DSB_CONVENTION_LLAMA, 4, 0, false, &err), &err, DSB_EINPUT, "a.txt: ", "byte 0x78");
    dsb_tokenizer_close(tok);
}

static void test_chunks__convention_names(void **state) {
    assert_int_equal(dsb_convention_find("llama"), DSB_CONVENTION_LLAMA);
    assert_int_equal(dsb_convention_find("gptq"), DSB_CONVENTION_GPTQ);
    assert_int_equal(dsb_convention_find("sliding"), DSB_CONVENTION_SLIDING);
    assert_int_equal(dsb_convention_find("Llama"), -1);
    assert_int_equal(dsb_convention_table[DSB_CONVENTION_LLAMA].n_ctx, 512);
}

static int id_of(char c) { return c == 'a' ? 10 : c - '0'; }

/* More tokens than are kept: they are made twice, and chunks are the same as those cut from all of them. A letter ends each word of digits. */
static void test_chunks__a_long_text_is_counted_and_then_picked(void **state) {
    enum { N = (1 << 24) + 12345, CTX = 1000, CHUNKS = 7 };
    dsb_tokenizer *tok = open_text("{\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}, " MODEL "}");
    dsb_chunks c;
    dsb_text_file text;
    dsb_err err;
    temp_dir t;
    char *digits = malloc(N);
    assert_non_null(digits);
    temp_make(&t);
    for (uint32_t i = 0; i < N; i++) digits[i] = i % 64 == 63 ? 'a' : (char)('0' + (i * 2654435761u >> 16) % 10);
    if (dsb_text_file_load(&text, temp_put(&t, "long.txt", digits, N), &err)) fail_msg("%s", err.text);
    if (dsb_chunks_make(&c, tok, "long", &text, DSB_CONVENTION_SLIDING, CTX, CHUNKS, true, &err)) fail_msg("%s", err.text);
    assert_int_equal(c.n_text_token, N);
    assert_int_equal(c.n_available, (N - CTX) / (CTX / 2) + 1);
    for (int64_t i = 0; i < CHUNKS; i++) {
        assert_int_equal(c.start[i], i * c.n_available / CHUNKS * (CTX / 2));
        for (int64_t p = 0; p < CTX; p++) assert_int_equal(c.tokens[i * CTX + p], id_of(digits[c.start[i] + p]));
    }
    dsb_chunks_release(&c);
    if (dsb_chunks_make(&c, tok, "long", &text, DSB_CONVENTION_SLIDING, CTX, CHUNKS, false, &err)) fail_msg("%s", err.text);
    assert_true(c.n_text_token >= (CHUNKS - 1) * CTX / 2 + CTX && c.n_text_token <= 2 << 20); /* from the start: the rest isn't read */
    for (int64_t p = 0; p < CTX; p++) assert_int_equal(c.tokens[(CHUNKS - 1) * CTX + p], id_of(digits[(CHUNKS - 1) * CTX / 2 + p]));
    dsb_chunks_release(&c);
    dsb_text_file_release(&text);
    free(digits);
    temp_remove(&t);
    dsb_tokenizer_close(tok);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks__llama_scores_the_second_half),
        cmocka_unit_test(test_chunks__gptq_scores_every_prediction),
        cmocka_unit_test(test_chunks__sliding_scores_each_once),
        cmocka_unit_test(test_chunks__bos_only_where_the_tokenizer_adds_it),
        cmocka_unit_test(test_chunks__limits_and_spreading),
        cmocka_unit_test(test_chunks__bytes_of_scored_tokens),
        cmocka_unit_test(test_chunks__refusals),
        cmocka_unit_test(test_chunks__convention_names),
        cmocka_unit_test(test_chunks__a_long_text_is_counted_and_then_picked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
