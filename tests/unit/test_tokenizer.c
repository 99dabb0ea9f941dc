/* Tokenizers: ids equal to the `tokenizers` library's (tests/fixtures/tokenizer), BOS, and a message for each bad tokenizer.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/json.h"
#include "datasets/regex.h"
#include "datasets/tokenizer.h"
#include "tests/unit/temp_files.h"

#define TINY "tests/fixtures/tokenizer/tiny.json"
#define TINY_VECTORS "tests/fixtures/tokenizer/vectors.json"
#define SPM "tests/fixtures/tokenizer/spm.json"
#define SPM_VECTORS "tests/fixtures/tokenizer/spm_vectors.json"
#define SHARED "../shared/data/tokenizers/"

static json_t *load(const char *path) {
    json_t *doc;
    dsb_err err;
    if (dsb_json_load(&doc, path, &err)) fail_msg("%s", err.text);
    return doc;
}

static dsb_tokenizer *open_json(const json_t *doc) {
    dsb_tokenizer *tok = NULL;
    dsb_err err;
    char *text = json_dumps(doc, JSON_COMPACT);
    assert_non_null(text);
    if (dsb_tokenizer_open_bytes(&tok, "tokenizer.json", text, strlen(text), &err)) fail_msg("%s", err.text);
    free(text);
    return tok;
}

static dsb_tokenizer *open_path(const char *path) {
    dsb_tokenizer *tok = NULL;
    dsb_err err;
    if (dsb_tokenizer_open(&tok, path, &err)) fail_msg("%s", err.text);
    return tok;
}

/* {"text": …, key: [ids]}: 1 if the ids differ, and a line that says where. */
static int check_case(const dsb_tokenizer *tok, const char *what, const json_t *c, const char *key) {
    const json_t *text = json_object_get(c, "text"), *want = json_object_get(c, key);
    int32_t *ids;
    size_t n;
    dsb_err err;
    if (dsb_tokenizer_encode(tok, "case", json_string_value(text), json_string_length(text), false, &ids, &n, &err)) fail_msg("%s: %s", what, err.text);
    size_t at = 0;
    while (at < n && at < json_array_size(want) && ids[at] == json_integer_value(json_array_get(want, at))) at++;
    int bad = at < n || at < json_array_size(want);
    if (bad) print_error("%s: '%s': token %zu differs (%zu ids, wanted %zu)\n", what, json_string_value(text), at, n, json_array_size(want));
    free(ids);
    return bad;
}

static void check_cases(const dsb_tokenizer *tok, const char *what, const json_t *cases, const char *key, size_t at_least) {
    int bad = 0;
    size_t i;
    const json_t *c;
    assert_true(json_array_size(cases) >= at_least);
    json_array_foreach((json_t *)cases, i, c) bad += check_case(tok, what, c, key);
    assert_int_equal(bad, 0);
}

/* Calls `check` for every variant of a base: the tokenizer, its name, its cases. */
typedef void (*variant_check)(const dsb_tokenizer *tok, const char *name, const json_t *cases);

static void each_variant(const char *base_file, const char *vectors, variant_check check) {
    json_t *base = load(base_file), *variants = load(vectors), *v;
    size_t i;
    assert_true(json_array_size(variants) >= 20);
    json_array_foreach(variants, i, v) {
        json_t *doc = json_deep_copy(base);
        json_object_update(doc, json_object_get(v, "patch"));
        dsb_tokenizer *tok = open_json(doc);
        check(tok, json_string_value(json_object_get(v, "name")), json_object_get(v, "cases"));
        dsb_tokenizer_close(tok);
        json_decref(doc);
    }
    json_decref(variants);
    json_decref(base);
}

static void check_ids(const dsb_tokenizer *tok, const char *name, const json_t *cases) { check_cases(tok, name, cases, "ids", 40); }

static void test_tokenizer__ids_of_the_library(void **state) { each_variant(TINY, TINY_VECTORS, check_ids); }
static void test_tokenizer__ids_of_the_library_over_characters(void **state) { each_variant(SPM, SPM_VECTORS, check_ids); }

/* A text put in pieces gives the ids of the whole. All cases, one after another, over and over: long enough that words are looked for
 * many times before the text ends. */
static void check_pieces(const dsb_tokenizer *tok, const char *name, const json_t *cases) {
    enum { N = 300000 };
    char *text = malloc(N);
    size_t n = 0, n_ids, n_want;
    const int32_t *ids;
    int32_t *want;
    uint32_t random = 12345;
    dsb_token_stream *whole, *stream;
    dsb_err err;
    assert_non_null(text);
    for (size_t i = 0; n < N - 1000; i++) {
        const json_t *t = json_object_get(json_array_get(cases, i % json_array_size(cases)), "text");
        memcpy(text + n, json_string_value(t), json_string_length(t));
        n += json_string_length(t);
        if (i % 3 == 0) text[n++] = ' ';
    }
    assert_int_equal(dsb_token_stream_open(&whole, tok, "whole", false, NULL), DSB_OK);
    assert_int_equal(dsb_token_stream_put(whole, text, n, true, &ids, &n_want, NULL), DSB_OK);
    want = malloc(n_want * sizeof *want + 1);
    memcpy(want, ids, n_want * sizeof *want);
    dsb_token_stream_close(whole);
    assert_int_equal(dsb_token_stream_open(&stream, tok, "pieces", false, NULL), DSB_OK);
    for (size_t at = 0, done = 0, piece; at < n; at += piece, done += n_ids) {
        random = random * 1664525 + 1013904223;
        piece = (random >> 16) % 20000;
        if (piece > n - at) piece = n - at;
        if (dsb_token_stream_put(stream, text + at, piece, at + piece == n, &ids, &n_ids, &err)) fail_msg("%s: %s", name, err.text);
        if (done + n_ids > n_want || (n_ids && memcmp(ids, want + done, n_ids * sizeof *ids) != 0)) fail_msg("%s: the ids before byte %zu differ", name, at + piece);
        if (at + piece == n) assert_int_equal(done + n_ids, n_want);
    }
    dsb_token_stream_close(stream);
    free(want);
    free(text);
}

static void test_tokenizer__pieces_give_the_ids_of_the_whole(void **state) {
    each_variant(TINY, TINY_VECTORS, check_pieces);
    each_variant(SPM, SPM_VECTORS, check_pieces);
}

static void test_tokenizer__ids_of_the_builtin_model(void **state) {
    const char *vectors = "tests/fixtures/dsmoe-tiny-logits/tokenizer_vectors.json", *model = "models/dsmoe-tiny/tokenizer.json";
    if (access(vectors, R_OK) != 0 || access(model, R_OK) != 0) skip();
    dsb_tokenizer *tok = open_path(model);
    json_t *cases = load(vectors);
    check_cases(tok, model, cases, "ids", 20);
    json_decref(cases);
    dsb_tokenizer_close(tok);
}

static void test_tokenizer__ids_of_deepseek_v3(void **state) {
    if (access(SHARED "deepseek_vectors.json", R_OK) != 0) skip();
    dsb_tokenizer *tok = open_path(SHARED "deepseek-v3");
    json_t *doc = load(SHARED "deepseek_vectors.json");
    check_cases(tok, "deepseek-v3", json_object_get(doc, "cases"), "ids_v3", 400);
    json_decref(doc);
    dsb_tokenizer_close(tok);
}

/* llama.cpp's vocabulary tests: texts, each ended by a mark, and a line of ids for each. DeepSeek LLM's vocabulary is V2's. */
static void test_tokenizer__ids_of_llama_cpp(void **state) {
    static const char mark[] = "\n__ggml_vocab_test__\n", stem[] = SHARED "llama.cpp/ggml-vocab-deepseek-llm.gguf";
    char path[128];
    dsb_map in, out;
    if (access(SHARED "deepseek-v2/tokenizer.json", R_OK) != 0) skip();
    snprintf(path, sizeof path, "%s.inp", stem);
    assert_int_equal(dsb_map_open(&in, path, NULL), DSB_OK);
    snprintf(path, sizeof path, "%s.out", stem);
    assert_int_equal(dsb_map_open(&out, path, NULL), DSB_OK);
    dsb_tokenizer *tok = open_path(SHARED "deepseek-v2");
    const char *text = (const char *)in.data, *end = text + in.size, *next;
    char *lines = strndup((const char *)out.data, out.size), *line = lines;
    int n_case = 0, bad = 0;
    for (; (next = memmem(text, (size_t)(end - text), mark, sizeof mark - 1)); text = next + sizeof mark - 1, n_case++) {
        char *stop = strchr(line, '\n');
        assert_non_null(stop);
        *stop = 0;
        int32_t *ids;
        size_t n, i = 0;
        assert_int_equal(dsb_tokenizer_encode(tok, path, text, (size_t)(next - text), false, &ids, &n, NULL), DSB_OK);
        char *p = line, *after;
        for (long want = strtol(p, &after, 10); after != p; want = strtol(p = after, &after, 10), i++)
            if (i >= n || ids[i] != want) break;
        if (i != n || after != p) print_error("text %d: token %zu differs: '%.*s'\n", n_case, i, (int)(next - text), text), bad++;
        free(ids);
        line = stop + 1;
    }
    assert_int_equal(bad, 0);
    assert_true(n_case >= 40);
    free(lines);
    dsb_tokenizer_close(tok);
    dsb_map_close(&in);
    dsb_map_close(&out);
}

static void test_tokenizer__token_bytes_give_the_text_back(void **state) {
    static const char text[] = "Hello\n\t \xf0\x9f\x99\x82 \xc3\xa9 x\0y";
    dsb_tokenizer *tok = open_path(TINY);
    int32_t *ids;
    size_t n, at = 0;
    const uint8_t *bytes;
    dsb_err err;
    assert_int_equal(dsb_tokenizer_encode(tok, "x", text, sizeof text - 1, false, &ids, &n, NULL), DSB_OK);
    for (size_t i = 0, len; i < n; i++, at += len) {
        assert_int_equal(dsb_tokenizer_token_bytes(tok, ids[i], &bytes, &len, NULL), DSB_OK);
        assert_true(at + len <= sizeof text - 1);
        assert_memory_equal(bytes, text + at, len);
    }
    assert_int_equal(at, sizeof text - 1);
    free(ids);
    refused(dsb_tokenizer_token_bytes(tok, -1, &bytes, &n, &err), &err, DSB_EINPUT, TINY, "no token has id -1");
    refused(dsb_tokenizer_token_bytes(tok, (int32_t)dsb_tokenizer_vocab_size(tok), &bytes, &n, &err), &err, DSB_EINPUT, "no token has id", NULL);
    dsb_tokenizer_close(tok);
}

static void test_tokenizer__text_that_is_not_utf8(void **state) {
    dsb_tokenizer *tok = open_path(TINY);
    int32_t *ids = NULL;
    size_t n;
    dsb_err err;
    refused(dsb_tokenizer_encode(tok, "a.txt", "ab\xff", 3, false, &ids, &n, &err), &err, DSB_EINPUT, "a.txt: ", "byte 0xff at offset 2");
    assert_null(ids);
    refused(dsb_tokenizer_encode(tok, "a.txt", "ab", 2, true, &ids, &n, &err), &err, DSB_EINPUT, TINY, "names no BOS token");
    assert_int_equal(dsb_tokenizer_encode(tok, "a.txt", "", 0, false, &ids, &n, NULL), DSB_OK);
    assert_true(!ids && n == 0);
    dsb_tokenizer_close(tok);
}

/* Under NFC, a letter and its accent are what the accented letter is. */
static void test_tokenizer__nfc_composes(void **state) {
    json_t *doc = load(TINY);
    int32_t *ids, *ids2;
    size_t n, n2;
    json_object_set_new(doc, "normalizer", json_pack("{s:s, s:[{s:s}]}", "type", "Sequence", "normalizers", "type", "NFC"));
    dsb_tokenizer *tok = open_json(doc);
    assert_int_equal(dsb_tokenizer_encode(tok, "a.txt", "caf\xc3\xa9", 5, false, &ids, &n, NULL), DSB_OK);
    assert_int_equal(dsb_tokenizer_encode(tok, "a.txt", "cafe\xcc\x81", 6, false, &ids2, &n2, NULL), DSB_OK);
    assert_int_equal(n, n2);
    assert_memory_equal(ids, ids2, n * sizeof *ids);
    free(ids);
    free(ids2);
    dsb_tokenizer_close(tok);
    json_decref(doc);
}

/* BOS: where the post-processor puts one, or tokenizer_config.json says so; a bos_token alone only names it. */
static void test_tokenizer__bos(void **state) {
    json_t *doc = load(TINY);
    char *plain = json_dumps(doc, 0);
    temp_dir t;
    dsb_err err;
    dsb_tokenizer *tok;
    int32_t *ids;
    size_t n;
    temp_make(&t);
    temp_text(&t, "tokenizer.json", plain);
    static const struct {
        const char *config;
        bool adds;
        int32_t id;
    } want[] = {{"{}", false, -1},
                {"{\"bos_token\": \"<s>\"}", false, 0},
                {"{\"bos_token\": null, \"add_bos_token\": false}", false, -1},
                {"{\"bos_token\": {\"content\": \"</s>\"}, \"add_bos_token\": true}", true, 1}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        temp_text(&t, "tokenizer_config.json", want[i].config);
        tok = open_path(t.path);
        assert_int_equal(dsb_tokenizer_adds_bos(tok), want[i].adds);
        assert_int_equal(dsb_tokenizer_bos_id(tok), want[i].id);
        dsb_tokenizer_close(tok);
    }
    temp_text(&t, "tokenizer_config.json", "{\"add_bos_token\": true, \"bos_token\": \"<none>\"}");
    refused(dsb_tokenizer_open(&tok, t.path, &err), &err, DSB_EINPUT, t.file, "<none>");
    temp_text(&t, "tokenizer_config.json", "[]");
    refused(dsb_tokenizer_open(&tok, t.path, &err), &err, DSB_EINPUT, t.file, "no object");
    json_object_set_new(doc, "post_processor", json_pack("{s:s, s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:{s:{s:s, s:[i]}}}", "type", "TemplateProcessing", "single", "SpecialToken", "id", "<s>", "type_id", 0, "Sequence", "id", "A",
                                                         "type_id", 0, "special_tokens", "<s>", "id", "<s>", "ids", 0));
    tok = open_json(doc);
    assert_true(dsb_tokenizer_adds_bos(tok) && dsb_tokenizer_bos_id(tok) == 0);
    assert_int_equal(dsb_tokenizer_encode(tok, "x", "", 0, true, &ids, &n, NULL), DSB_OK);
    assert_true(n == 1 && ids[0] == 0);
    free(ids);
    dsb_tokenizer_close(tok);
    free(plain);
    json_decref(doc);
    temp_remove(&t);
}

static void test_tokenizer__missing_files(void **state) {
    temp_dir t;
    dsb_tokenizer *tok;
    dsb_err err;
    temp_make(&t);
    refused(dsb_tokenizer_open(&tok, t.path, &err), &err, DSB_EINPUT, t.path, "/tokenizer.json: can't be opened");
    refused(dsb_tokenizer_open(&tok, "/nonexistent", &err), &err, DSB_EINPUT, "/nonexistent: can't be opened", NULL);
    assert_null(tok);
    temp_remove(&t);
}

/* Oniguruma and PCRE2 read these alike only after a rewriting. */
static void test_regex__translations(void **state) {
    static const struct {
        const char *from, *to;
    } want[] = {{"\\s+(?!\\S)", "\\p{White_Space}+(?!\\P{White_Space})"}, {"[^\\s\\d]", "[^\\p{White_Space}\\p{Nd}]"}, {"\\p{Han}\\p{^L}\\P{^N}", "\\p{sc:Han}\\P{L}\\p{N}"},
                {"\\u4e00", "\\x{4e00}"}, {"\\x41", "\\x{41}"}, {"\\x{41}+", "\\x{41}+"}, {"\\x{20}{2}", "\\x{20}{2}"}, {"(?i:'s)|a{2,3}?", "(?i:'s)|a{2,3}?"}, {"{", "{"}, {"", ""}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        char *out;
        size_t n;
        assert_int_equal(dsb_regex_translate("x", want[i].from, strlen(want[i].from), &out, &n, NULL), DSB_OK);
        if (n != strlen(want[i].to) || memcmp(out, want[i].to, n) != 0) fail_msg("'%s' becomes '%.*s', wanted '%s'", want[i].from, (int)n, out, want[i].to);
        free(out);
    }
    static const char *const unread[] = {"\\", "\\p", "\\pL", "\\p{", "\\p{}", "\\p{a-b}", "\\u12", "\\x8f", "\\x{", "\\x{}", "\\x{41", "\\x{g}", "\\h", "\\G", "\\1", "\\\xc3\xa9", "(?<n>a)", "(?i)a(?i)", "(*F)", "[]a]", "[a[b]]", "[a&&b]", "a{,2}", "a{2}+", "a{2}?"};
    for (size_t i = 0; i < sizeof unread / sizeof *unread; i++) {
        char *out;
        size_t n;
        dsb_err err;
        refused(dsb_regex_translate("t.json", unread[i], strlen(unread[i]), &out, &n, &err), &err, DSB_EUNSUPPORTED, "t.json: pre-tokenizer pattern: ", "at byte");
        assert_null(out);
    }
}

static const struct {
    const char *file, *part;
    dsb_status status;
} k_bad[] = {
    {"added_clash", "added token \"<s>\" has id 1, which the vocabulary gives to \"b\"", DSB_EINPUT},
    {"added_id", "\"id\" is -3", DSB_EINPUT},
    {"added_no_content", "\"content\" is missing", DSB_EINPUT},
    {"added_type", "\"special\" is an integer; true or false is wanted", DSB_EINPUT},
    {"after_byte_level", "\"Digits\" comes after ByteLevel", DSB_EUNSUPPORTED},
    {"array", "no object; a tokenizer.json", DSB_EINPUT},
    {"backreference", "an escape at byte 3", DSB_EUNSUPPORTED},
    {"behavior", "behavior \"Shuffled\"", DSB_EUNSUPPORTED},
    {"dropout", "\"dropout\" is 0.1", DSB_EUNSUPPORTED},
    {"empty", "not valid JSON at line 1", DSB_EINPUT},
    {"empty_vocab", "\"vocab\" is missing, empty or no object", DSB_EINPUT},
    {"huge_id", "the id of \"a\" in \"vocab\"", DSB_EINPUT},
    {"intersection", "an intersection of classes", DSB_EUNSUPPORTED},
    {"merge_of_number", "merge 0 is no pair of tokens", DSB_EINPUT},
    {"merge_of_three", "merge 0 is no pair of tokens", DSB_EINPUT},
    {"merge_pair_of_one", "merge 0 is no pair of tokens", DSB_EINPUT},
    {"merge_unknown_left", "merge 0 needs the token \"z\"", DSB_EINPUT},
    {"merge_unknown_result", "merge 0 needs the token \"ba\"", DSB_EINPUT},
    {"merge_unknown_right", "merge 0 needs the token \"z\"", DSB_EINPUT},
    {"metaspace", "replacement \"__\" is no single character", DSB_EINPUT},
    {"negative_id", "the id of \"a\" in \"vocab\"", DSB_EINPUT},
    {"nested_class", "a class within a class", DSB_EUNSUPPORTED},
    {"no_merges", "\"merges\" is missing", DSB_EINPUT},
    {"no_model", "\"model\" is missing", DSB_EINPUT},
    {"no_pattern", "Split: \"pattern\" is no", DSB_EINPUT},
    {"no_vocab", "\"vocab\" is missing", DSB_EINPUT},
    {"normalizers", "\"normalizers\" is no array", DSB_EINPUT},
    {"normalizer", "normalizer type \"Lowercase\"", DSB_EUNSUPPORTED},
    {"open_class", "pattern \"[a\": missing terminating ]", DSB_EINPUT},
    {"optional_repeat", "an optional repeat at byte 1", DSB_EUNSUPPORTED},
    {"post_processor", "post_processor type \"BertProcessing\"", DSB_EUNSUPPORTED},
    {"prepend", "\"prepend\" is missing", DSB_EINPUT},
    {"prepend_scheme", "prepend_scheme \"sometimes\"", DSB_EUNSUPPORTED},
    {"punctuation", "behavior \"Doubled\"", DSB_EUNSUPPORTED},
    {"property", "\\p{Nonsense}", DSB_EINPUT},
    {"repeated_repeat", "a repeated repeat at byte 1", DSB_EUNSUPPORTED},
    {"replace", "normalizer Replace: ", DSB_EINPUT},
    {"same_id", "id 0 is given twice", DSB_EINPUT},
    {"suffix", "\"end_of_word_suffix\" is \"</w>\"", DSB_EUNSUPPORTED},
    {"template", "the token \"<s>\" has no id", DSB_EINPUT},
    {"template_of_two", "puts two tokens before the text", DSB_EUNSUPPORTED},
    {"text_id", "the id of \"a\" in \"vocab\"", DSB_EINPUT},
    {"truncated", "not valid JSON at line 1, column 200", DSB_EINPUT},
    {"unigram", "model type \"Unigram\"", DSB_EUNSUPPORTED},
    {"unknown_token", "\"unk_token\" \"z\" is no token of the vocabulary", DSB_EINPUT},
};

static void test_tokenizer__bad_files_say_why(void **state) {
    for (size_t i = 0; i < sizeof k_bad / sizeof *k_bad; i++) {
        char path[128];
        dsb_tokenizer *tok;
        dsb_err err;
        snprintf(path, sizeof path, "tests/fixtures/tokenizer/bad/%s.json", k_bad[i].file);
        refused(dsb_tokenizer_open(&tok, path, &err), &err, k_bad[i].status, path, k_bad[i].part);
        assert_null(tok);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenizer__ids_of_the_library),
        cmocka_unit_test(test_tokenizer__ids_of_the_library_over_characters),
        cmocka_unit_test(test_tokenizer__pieces_give_the_ids_of_the_whole),
        cmocka_unit_test(test_tokenizer__ids_of_the_builtin_model),
        cmocka_unit_test(test_tokenizer__ids_of_deepseek_v3),
        cmocka_unit_test(test_tokenizer__ids_of_llama_cpp),
        cmocka_unit_test(test_tokenizer__token_bytes_give_the_text_back),
        cmocka_unit_test(test_tokenizer__text_that_is_not_utf8),
        cmocka_unit_test(test_tokenizer__nfc_composes),
        cmocka_unit_test(test_tokenizer__bos),
        cmocka_unit_test(test_tokenizer__missing_files),
        cmocka_unit_test(test_regex__translations),
        cmocka_unit_test(test_tokenizer__bad_files_say_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
