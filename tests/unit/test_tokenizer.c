/* Tokenizers: ids equal to the `tokenizers` library's (tests/fixtures/tokenizer), BOS, and a message for each bad tokenizer.json. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <unistd.h>

#include "base/json.h"
#include "datasets/regex.h"
#include "datasets/tokenizer.h"
#include "datasets/utf8.h"
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

/* As `tokenize` does: what has no token is left out. */
static void encode_whole(const dsb_tokenizer *tok, const char *what, const char *text, size_t n, int32_t **ids, size_t *n_ids) {
    dsb_token_stream *stream;
    const int32_t *found;
    dsb_err err;
    if (dsb_token_stream_open(&stream, tok, "case", false, &err) || dsb_token_stream_put(stream, text, n, true, &found, n_ids, &err)) fail_msg("%s: %s", what, err.text);
    *ids = malloc(*n_ids * sizeof **ids + 1);
    assert_non_null(*ids);
    if (*n_ids) memcpy(*ids, found, *n_ids * sizeof **ids);
    dsb_token_stream_close(stream);
}

/* {"text": …, key: [ids]}: 1 if the ids differ, and a line that says where. */
static int check_case(const dsb_tokenizer *tok, const char *what, const json_t *c, const char *key) {
    const json_t *text = json_object_get(c, "text"), *want = json_object_get(c, key);
    int32_t *ids;
    size_t n, at = 0;
    encode_whole(tok, what, json_string_value(text), json_string_length(text), &ids, &n);
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

/* llama.cpp's vocabulary tests: texts, each ended by a mark, and a line of ids for each. */
static void check_pairs(const dsb_tokenizer *tok, const char *stem) {
    static const char mark[] = "\n__ggml_vocab_test__\n";
    char path[512];
    dsb_map in, out;
    snprintf(path, sizeof path, "%s.inp", stem);
    assert_int_equal(dsb_map_open(&in, path, NULL), DSB_OK);
    snprintf(path, sizeof path, "%s.out", stem);
    assert_int_equal(dsb_map_open(&out, path, NULL), DSB_OK);
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
        if (i != n || after != p) print_error("%s: text %d: token %zu differs: '%.*s'\n", stem, n_case, i, (int)(next - text), text), bad++;
        free(ids);
        line = stop + 1;
    }
    assert_int_equal(bad, 0);
    assert_true(n_case >= 40);
    free(lines);
    dsb_map_close(&in);
    dsb_map_close(&out);
}

/* DeepSeek LLM's vocabulary is V2's. */
static void test_tokenizer__ids_of_llama_cpp(void **state) {
    if (access(SHARED "deepseek-v2/tokenizer.json", R_OK) != 0) skip();
    dsb_tokenizer *tok = open_path(SHARED "deepseek-v2");
    check_pairs(tok, SHARED "llama.cpp/ggml-vocab-deepseek-llm.gguf");
    dsb_tokenizer_close(tok);
}

/* A binary file that went through a text conversion: UTF-8 all along, with replacement characters where bytes were lost. */
static bool stored_as_text(const char *path) {
    dsb_map map;
    assert_int_equal(dsb_map_open(&map, path, NULL), DSB_OK);
    const char *p = (const char *)map.data;
    bool text = dsb_utf8_check(p, map.size) == map.size && memmem(p, map.size, "\xef\xbf\xbd", 3);
    dsb_map_close(&map);
    return text;
}

/* Every vocabulary of llama.cpp's models/ that lies beside its texts, there or in $DSBENCH_LLAMA_VOCABS. */
static void test_tokenizer__ids_of_llama_cpp_from_gguf(void **state) {
    static const char *const names[] = {"command-r", "deepseek-coder", "deepseek-llm", "falcon", "gpt-2", "llama-bpe", "llama-spm", "mpt", "phi-3", "qwen2", "qwen35", "refact", "starcoder"};
    const char *dir = getenv("DSBENCH_LLAMA_VOCABS");
    int n_read = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char stem[512], inp[520];
        snprintf(stem, sizeof stem, "%s/ggml-vocab-%s.gguf", dir ? dir : SHARED "llama.cpp", names[i]);
        snprintf(inp, sizeof inp, "%s.inp", stem);
        if (access(stem, R_OK) != 0 || access(inp, R_OK) != 0) continue;
        if (stored_as_text(stem)) {
            print_message("%s: skipped: damaged, it was stored as text\n", stem);
            continue;
        }
        dsb_tokenizer *tok = open_path(stem);
        check_pairs(tok, stem);
        dsb_tokenizer_close(tok);
        n_read++;
    }
    print_message("%d vocabularies of llama.cpp\n", n_read);
    if (n_read == 0) skip();
}

/* GGUF files of the tests' own */

typedef struct gguf_file {
    char data[8192];
    size_t n;
    uint64_t n_pair;
} gguf_file;

static void put(gguf_file *f, const void *p, size_t n) {
    assert_true(f->n + n <= sizeof f->data);
    memcpy(f->data + f->n, p, n);
    f->n += n;
}
static void put_u32(gguf_file *f, uint32_t x) { put(f, &x, 4); }
static void put_u64(gguf_file *f, uint64_t x) { put(f, &x, 8); }
static void put_text(gguf_file *f, const char *text) {
    put_u64(f, strlen(text));
    put(f, text, strlen(text));
}
static void put_key(gguf_file *f, const char *key, uint32_t type) {
    char name[64];
    snprintf(name, sizeof name, "tokenizer.ggml.%s", key);
    put_text(f, name);
    put_u32(f, type);
    f->n_pair++;
}
/* A list of strings; NULL ends `texts`. */
static void put_texts(gguf_file *f, const char *key, const char *const *texts) {
    uint64_t n = 0;
    while (texts[n]) n++;
    put_key(f, key, 9);
    put_u32(f, 8);
    put_u64(f, n);
    for (uint64_t i = 0; i < n; i++) put_text(f, texts[i]);
}
static void put_numbers(gguf_file *f, const char *key, uint32_t type, const void *p, uint64_t n) {
    put_key(f, key, 9);
    put_u32(f, type);
    put_u64(f, n);
    put(f, p, 4 * n);
}
static void begin_gguf(gguf_file *f, const char *model, const char *pre) {
    *f = (gguf_file){.n = 24};
    put_key(f, "model", 8);
    put_text(f, model);
    if (!pre) return;
    put_key(f, "pre", 8);
    put_text(f, pre);
}
static dsb_status open_gguf(gguf_file *f, temp_dir *t, dsb_tokenizer **tok, dsb_err *err) {
    memcpy(f->data, "GGUF\3\0\0\0\0\0\0\0\0\0\0\0", 16);
    memcpy(f->data + 16, &f->n_pair, 8);
    return dsb_tokenizer_open(tok, temp_put(t, "v.gguf", f->data, f->n), err);
}

static void check_encode(const dsb_tokenizer *tok, const char *text, size_t n_want, const int32_t *want) {
    int32_t *ids;
    size_t n;
    dsb_err err;
    if (dsb_tokenizer_encode(tok, "text", text, strlen(text), false, &ids, &n, &err)) fail_msg("%s", err.text);
    if (n != n_want || (n && memcmp(ids, want, n * sizeof *ids) != 0)) fail_msg("'%s': %zu ids, the first %d; wanted %zu", text, n, n ? ids[0] : -1, n_want);
    free(ids);
}
#define CHECK_ENCODE(tok, text, ...) check_encode(tok, text, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t), (int32_t[]){__VA_ARGS__})

/* SentencePiece's: the pair whose token has the highest score first, the leftmost of equals; a character without a token is bytes,
 * though it may be part of one; a BOS by default; a user-defined token is found in text, and after it a word begins anew. */
static void test_tokenizer__gguf_scores(void **state) {
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "\xe2\x96\x81", "a", "b", "c", "ab", "bc", "\xe2\x96\x81""a", "<0xC3>", "<0xA9>", "<!>", "\xc3\xa9""a", "cc", NULL};
    static const float scores[] = {0, 0, 0, -9, -9, -9, -9, -2, -1, -3, 0, 0, 0, -4, -5};
    static const int32_t types[] = {2, 3, 3, 1, 1, 1, 1, 1, 1, 1, 6, 6, 4, 1, 1};
    temp_dir t;
    gguf_file f;
    dsb_tokenizer *tok;
    dsb_err err;
    const uint8_t *bytes;
    size_t n;
    temp_make(&t);
    begin_gguf(&f, "llama", "default");
    put_texts(&f, "tokens", tokens);
    put_numbers(&f, "scores", 6, scores, 15);
    put_numbers(&f, "token_type", 5, types, 15);
    if (open_gguf(&f, &t, &tok, &err)) fail_msg("%s", err.text);
    assert_true(dsb_tokenizer_adds_bos(tok) && dsb_tokenizer_bos_id(tok) == 1);
    CHECK_ENCODE(tok, "abc", 9, 8);            /* bc before ab */
    CHECK_ENCODE(tok, "ccc", 3, 14, 6);        /* the left one of equals */
    CHECK_ENCODE(tok, "\xc3\xa9", 3, 10, 11);  /* bytes */
    CHECK_ENCODE(tok, "\xc3\xa9""ab", 3, 10, 11, 7);
    CHECK_ENCODE(tok, "\xc3\xa9""a", 3, 13);   /* a part without a token of its own */
    CHECK_ENCODE(tok, "a<!>a b", 9, 12, 9, 3, 5);
    CHECK_ENCODE(tok, "<!>", 12);
    assert_int_equal(dsb_tokenizer_token_bytes(tok, 9, &bytes, &n, NULL), DSB_OK);
    assert_true(n == 2 && memcmp(bytes, " a", 2) == 0);
    assert_int_equal(dsb_tokenizer_token_bytes(tok, 11, &bytes, &n, NULL), DSB_OK);
    assert_true(n == 1 && bytes[0] == 0xa9);
    dsb_tokenizer_close(tok);
    put_key(&f, "add_space_prefix", 7);
    put(&f, "", 1);
    put_key(&f, "add_bos_token", 7);
    put(&f, "", 1);
    if (open_gguf(&f, &t, &tok, &err)) fail_msg("%s", err.text);
    assert_false(dsb_tokenizer_adds_bos(tok));
    CHECK_ENCODE(tok, "abc", 4, 8);
    dsb_tokenizer_close(tok);
    temp_remove(&t);
}

static void test_tokenizer__gguf_merges(void **state) {
    static const char *const tokens[] = {"a", "b", "\xc4\xa0", "ab", "\xc4\xa0""a", "1", "12", "<s>", "!", NULL}, *const merges[] = {"a b", "\xc4\xa0 a", "1 2", "a b", NULL}, *const fewer[] = {"a b", "\xc4\xa0 a", NULL};
    temp_dir t;
    gguf_file f;
    dsb_tokenizer *tok;
    dsb_err err;
    temp_make(&t);
    begin_gguf(&f, "gpt2", "starcoder"); /* digits one by one */
    put_texts(&f, "tokens", tokens);
    put_texts(&f, "merges", fewer);
    if (open_gguf(&f, &t, &tok, &err)) fail_msg("%s", err.text);
    assert_true(!dsb_tokenizer_adds_bos(tok) && dsb_tokenizer_bos_id(tok) == -1);
    CHECK_ENCODE(tok, "ab ab11", 3, 2, 3, 5, 5); /* "a b" has the lowest rank */
    dsb_tokenizer_close(tok);
    begin_gguf(&f, "gpt2", "starcoder");
    put_texts(&f, "tokens", tokens);
    put_texts(&f, "merges", merges);
    refused(open_gguf(&f, &t, &tok, &err), &err, DSB_EINPUT, "merge 2 needs the token \"2\"", NULL);
    temp_remove(&t);
}

static void test_tokenizer__bad_gguf_vocabularies(void **state) {
    static const char *const tokens[] = {"a", "b", "ab", NULL}, *const twice[] = {"a", "b", "a", NULL}, *const latin1[] = {"a", "b\xe9", NULL}, *const merges[] = {"a b", NULL}, *const one[] = {"ab", NULL}, *const none[] = {NULL};
    static const float scores[] = {0, 1, NAN};
    static const struct {
        const char *model, *pre;
        const char *const *tokens, *const *merges;
        int n_score, n_type;
        int64_t bos;
        dsb_status status;
        const char *part;
    } bad[] = {
        {"t5", NULL, tokens, NULL, 3, 0, -1, DSB_EUNSUPPORTED, "tokenizer.ggml.model is \"t5\""},
        {"gpt2", "kimi-k2", tokens, merges, 0, 0, -1, DSB_EUNSUPPORTED, "tokenizer.ggml.pre is \"kimi-k2\""},
        {"gpt2", NULL, NULL, merges, 0, 0, -1, DSB_EINPUT, "tokenizer.ggml.tokens"},
        {"gpt2", NULL, none, merges, 0, 0, -1, DSB_EINPUT, "tokenizer.ggml.tokens is empty"},
        {"gpt2", NULL, tokens, NULL, 0, 0, -1, DSB_EINPUT, "tokenizer.ggml.merges"},
        {"gpt2", NULL, tokens, one, 0, 0, -1, DSB_EINPUT, "merge 0 is no pair of tokens"},
        {"gpt2", NULL, twice, merges, 0, 0, -1, DSB_EINPUT, "token \"a\" has two ids, 0 and 2"},
        {"gpt2", NULL, latin1, merges, 0, 0, -1, DSB_EINPUT, "token 1 isn't UTF-8 at its byte 1"},
        {"gpt2", NULL, tokens, merges, 0, 2, -1, DSB_EINPUT, "tokenizer.ggml.token_type has 2 elements, tokens 3"},
        {"gpt2", NULL, tokens, merges, 0, 0, 3, DSB_EINPUT, "bos_token_id is 3; its ids end at 2"},
        {"gpt2", "llama-bpe", tokens, merges, 0, 0, -1, DSB_EINPUT, "begins a text with a BOS token, but names none"},
        {"llama", NULL, tokens, NULL, 0, 0, -1, DSB_EINPUT, "tokenizer.ggml.scores"},
        {"llama", NULL, tokens, NULL, 2, 0, -1, DSB_EINPUT, "tokenizer.ggml.scores has 2 elements, tokens 3"},
        {"llama", NULL, tokens, NULL, 3, 0, -1, DSB_EINPUT, "the score of token 2 is not finite"},
    };
    static const int32_t types[2] = {1, 1};
    temp_dir t;
    temp_make(&t);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        gguf_file f;
        dsb_tokenizer *tok;
        dsb_err err;
        begin_gguf(&f, bad[i].model, bad[i].pre);
        if (bad[i].tokens) put_texts(&f, "tokens", bad[i].tokens);
        if (bad[i].merges) put_texts(&f, "merges", bad[i].merges);
        if (bad[i].n_score) put_numbers(&f, "scores", 6, scores, (uint64_t)bad[i].n_score);
        if (bad[i].n_type) put_numbers(&f, "token_type", 5, types, (uint64_t)bad[i].n_type);
        if (bad[i].bos >= 0) {
            put_key(&f, "bos_token_id", 4);
            put_u32(&f, (uint32_t)bad[i].bos);
        }
        refused(open_gguf(&f, &t, &tok, &err), &err, bad[i].status, "v.gguf: ", bad[i].part);
        assert_null(tok);
    }
    temp_remove(&t);
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

/* Characters cut by the pieces; the offset of a bad byte counts from the text's start. */
static void test_tokenizer__pieces_may_cut_characters(void **state) {
    static const struct {
        const char *text;
        size_t offset; /* of the bad byte; SIZE_MAX: none */
    } cases[] = {{"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82z", SIZE_MAX}, {"ab\xff", 2}, {"ab\xe2\x82", 2}, {"ab\xe2\x82z", 2}, {"\xf0\x9f\x99", 0}, {"ab\xed\xa0\x80", 2}, {"\xc3\xa9\xf4\x90\x80\x80", 2}, {"\xc0\xaf", 0}, {"a\xe0\x80", 1}};
    dsb_tokenizer *tok = open_path(TINY);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        dsb_token_stream *stream;
        dsb_err err;
        dsb_status s = DSB_OK;
        const int32_t *ids;
        size_t n = strlen(cases[i].text), n_ids;
        char want[64];
        assert_int_equal(dsb_token_stream_open(&stream, tok, "a.txt", false, NULL), DSB_OK);
        for (size_t at = 0; !s && at < n; at++) s = dsb_token_stream_put(stream, cases[i].text + at, 1, at + 1 == n, &ids, &n_ids, &err);
        snprintf(want, sizeof want, "at offset %zu isn't UTF-8", cases[i].offset);
        if (cases[i].offset == SIZE_MAX) assert_int_equal(s, DSB_OK);
        else refused(s, &err, DSB_EINPUT, "a.txt: byte 0x", want);
        dsb_token_stream_close(stream);
    }
    dsb_tokenizer_close(tok);
}

/* A pattern whose search grows without end gives up with a message. */
static void test_tokenizer__patterns_that_explode(void **state) {
    json_t *doc = load(TINY);
    json_object_set_new(doc, "pre_tokenizer", json_pack("{s:s, s:[{s:s, s:{s:s}, s:s}, {s:s}]}", "type", "Sequence", "pretokenizers", "type", "Split", "pattern", "Regex", "(?:(?:x+x+)+)+y", "behavior", "Isolated", "type", "ByteLevel"));
    dsb_tokenizer *tok = open_json(doc);
    int32_t *ids;
    size_t n;
    dsb_err err;
    char text[64];
    memset(text, 'x', sizeof text);
    memcpy(text + sizeof text - 2, "zy", 2); /* without a y nothing is searched */
    refused(dsb_tokenizer_encode(tok, "a.txt", text, sizeof text, false, &ids, &n, &err), &err, DSB_EUNSUPPORTED, "a.txt: tokenizer: one of its patterns gives up on this text: ", "limit");
    dsb_tokenizer_close(tok);
    json_decref(doc);
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
        cmocka_unit_test(test_tokenizer__ids_of_llama_cpp_from_gguf),
        cmocka_unit_test(test_tokenizer__gguf_scores),
        cmocka_unit_test(test_tokenizer__gguf_merges),
        cmocka_unit_test(test_tokenizer__bad_gguf_vocabularies),
        cmocka_unit_test(test_tokenizer__token_bytes_give_the_text_back),
        cmocka_unit_test(test_tokenizer__text_that_is_not_utf8),
        cmocka_unit_test(test_tokenizer__nfc_composes),
        cmocka_unit_test(test_tokenizer__pieces_may_cut_characters),
        cmocka_unit_test(test_tokenizer__patterns_that_explode),
        cmocka_unit_test(test_tokenizer__bos),
        cmocka_unit_test(test_tokenizer__missing_files),
        cmocka_unit_test(test_regex__translations),
        cmocka_unit_test(test_tokenizer__bad_files_say_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
