/* safetensors: what is written is read back, and each way a header can be wrong has its message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>


#include "engine/safetensors.h"
#include "engine/safetensors_write.h"
#include "tests/unit/temp_files.h"

/* A file of a header and n_data bytes 0, 1, 2, …; announce: the header's length as the file has it. */
static const char *put_file(temp_dir *t, const char *header, uint64_t announce, size_t n_data) {
    size_t n = strlen(header);
    uint8_t *b = malloc(8 + n + n_data);
    assert_non_null(b);
    for (int i = 0; i < 8; i++) b[i] = (uint8_t)(announce >> 8 * i);
    memcpy(b + 8, header, n);
    for (size_t i = 0; i < n_data; i++) b[8 + n + i] = (uint8_t)i;
    temp_put(t, "x.safetensors", b, 8 + n + n_data);
    free(b);
    return t->file;
}

static void test_safetensors__reads_in_any_order(void **state) {
    static const char header[] = "{\"__metadata__\": {\"format\": \"pt\"}, \"z\": {\"dtype\": \"I8\", \"shape\": [2, 2], \"data_offsets\": [4, 8]},"
                                 " \"a\": {\"dtype\": \"BF16\", \"shape\": [2], \"data_offsets\": [0, 4]}, \"none\": {\"dtype\": \"F32\", \"shape\": [0, 7], \"data_offsets\": [4, 4]},"
                                 " \"scalar\": {\"dtype\": \"U8\", \"shape\": [], \"data_offsets\": [8, 9]}}   ";
    temp_dir t;
    dsb_st_file f;
    dsb_err err;
    temp_make(&t);
    if (dsb_st_open(&f, put_file(&t, header, strlen(header), 9), &err)) fail_msg("%s", err.text);
    assert_int_equal(f.n_tensor, 4);
    assert_string_equal(f.tensors[0].name, "a");
    assert_string_equal(f.tensors[3].name, "z");
    const dsb_st_tensor *z = dsb_st_find(&f, "z"), *s = dsb_st_find(&f, "scalar"), *none = dsb_st_find(&f, "none");
    assert_true(z->dtype == DSB_I8 && z->ndim == 2 && z->shape[0] == 2 && z->shape[1] == 2 && z->bytes == 4);
    assert_memory_equal(z->data, "\4\5\6\7", 4);
    assert_true(s->ndim == 0 && s->bytes == 1 && s->data[0] == 8);
    assert_true(none->bytes == 0 && none->shape[1] == 7);
    assert_null(dsb_st_find(&f, "b"));
    assert_null(dsb_st_find(&f, "__metadata__"));
    dsb_st_close(&f);
    if (dsb_st_open(&f, put_file(&t, "{}", 2, 0), &err)) fail_msg("%s", err.text);
    assert_null(dsb_st_find(&f, "a"));
    dsb_st_close(&f);
    temp_remove(&t);
}

#define A "\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}"
static const struct {
    const char *header;
    size_t n_data;
    const char *part, *part2;
} k_bad[] = {
    {"", 0, "its header is no JSON object", NULL},
    {"[]", 0, "its header is no JSON object", "another JSON value"},
    {"{" A, 8, "its header is no JSON object", NULL},
    {"{" A "} x", 8, "its header is no JSON object", NULL},
    {"{\"a\\u0000b\": 1}", 0, "its header is no JSON object", NULL},
    {"{" A ", " A "}", 8, "its header is no JSON object", "duplicate"},
    {"{\"a\": 7}", 0, "tensor a: its header entry is no object", NULL},
    {"{\"a\": {\"dtype\": \"F33\", \"shape\": [2], \"data_offsets\": [0, 8]}}", 8, "tensor a: dtype is F33", "BF16 or F32"},
    {"{\"a\": {\"dtype\": 32, \"shape\": [2], \"data_offsets\": [0, 8]}}", 8, "tensor a: dtype is missing", NULL},
    {"{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 8]}}", 8, "tensor a: shape is missing", NULL},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1, 1, 1, 1, 2], \"data_offsets\": [0, 8]}}", 8, "tensor a: shape", "over 4 dimensions"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [-2], \"data_offsets\": [0, 8]}}", 8, "tensor a: dimension 0 of its shape is negative", NULL},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2.0], \"data_offsets\": [0, 8]}}", 8, "tensor a: dimension 0 of its shape is negative, no integer", NULL},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [4611686018427387904, 4], \"data_offsets\": [0, 0]}}", 0, "tensor a: dimension 0", "absurdly large"},
    {"{\"a\": {\"dtype\": \"I8\", \"shape\": [4294967296, 4294967296], \"data_offsets\": [0, 0]}}", 0, "tensor a: dimension 1", "absurdly large"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2]}}", 8, "tensor a: data_offsets must be two integers", NULL},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8, 8]}}", 8, "tensor a: data_offsets must be two integers", NULL},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [\"0\", 8]}}", 8, "tensor a: data_offsets must be two integers", NULL},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [-8, 0]}}", 8, "tensor a: bytes -8 to 0 lie outside the file's 8 data bytes", NULL},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [8, 0]}}", 8, "tensor a: bytes 8 to 0 lie outside", NULL},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 9223372036854775807]}}", 8, "lie outside the file's 8 data bytes", "truncated?"},
    {"{" A "}", 7, "tensor a: bytes 0 to 8 lie outside the file's 7 data bytes; is it truncated?", NULL},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 4]}}", 8, "tensor a: 4 bytes stored, but its shape and F32 want 8", NULL},
    {"{" A "}", 9, "9 data bytes, but its tensors end at byte 8", NULL},
    {"{}", 1, "1 data bytes, but its tensors end at byte 0", NULL},
    {"{" A ", \"b\": {\"dtype\": \"U8\", \"shape\": [2], \"data_offsets\": [10, 12]}}", 12, "tensor b: its data begin at byte 10, after a hole; byte 8 is wanted", NULL},
    {"{" A ", \"b\": {\"dtype\": \"U8\", \"shape\": [4], \"data_offsets\": [6, 10]}}", 10, "tensor b: its data begin at byte 6, inside another tensor; byte 8 is wanted", NULL},
    {"{" A ", \"b\": {\"dtype\": \"U8\", \"shape\": [8], \"data_offsets\": [0, 8]}}", 8, "its data begin at byte 0, inside another tensor", NULL},
};

static void test_safetensors__malformed_headers(void **state) {
    temp_dir t;
    temp_make(&t);
    for (size_t i = 0; i < sizeof k_bad / sizeof *k_bad; i++) {
        dsb_st_file f;
        dsb_err err;
        put_file(&t, k_bad[i].header, strlen(k_bad[i].header), k_bad[i].n_data);
        dsb_status s = dsb_st_open(&f, t.file, &err);
        refused(s, &err, DSB_EINPUT, t.file, k_bad[i].part);
        refused(s, &err, DSB_EINPUT, k_bad[i].part2 ? k_bad[i].part2 : "", NULL);
        assert_true(!f.map.data && f.n_tensor == 0);
    }
    temp_remove(&t);
}

static void test_safetensors__truncated_before_the_data(void **state) {
    temp_dir t;
    dsb_st_file f;
    dsb_err err;
    static const char header[] = "{" A "}";
    temp_make(&t);
    refused(dsb_st_open(&f, temp_put(&t, "x", "", 0), &err), &err, DSB_EINPUT, t.file, "0 bytes; a safetensors file begins with an 8-byte header length");
    refused(dsb_st_open(&f, temp_put(&t, "x", "\2\0\0\0\0\0\0", 7), &err), &err, DSB_EINPUT, t.file, "7 bytes;");
    refused(dsb_st_open(&f, put_file(&t, header, strlen(header) + 9, 8), &err), &err, DSB_EINPUT, "announced", "follow; truncated or not a safetensors file");
    refused(dsb_st_open(&f, put_file(&t, header, UINT64_MAX, 8), &err), &err, DSB_EINPUT, "header of 18446744073709551615 bytes announced", NULL);
    refused(dsb_st_open(&f, put_file(&t, header, strlen(header) - 1, 8), &err), &err, DSB_EINPUT, "its header is no JSON object", NULL);
    refused(dsb_st_open(&f, "/nonexistent/x", &err), &err, DSB_EINPUT, "/nonexistent/x: can't be opened", NULL);
    refused(dsb_st_open(&f, t.path, &err), &err, DSB_EINPUT, t.path, "not a regular file");
    /* Every prefix of a good file is refused. */
    uint8_t whole[8 + sizeof header - 1 + 8];
    dsb_map map;
    put_file(&t, header, strlen(header), 8);
    assert_int_equal(dsb_map_open(&map, t.file, NULL), DSB_OK);
    assert_int_equal(map.size, sizeof whole);
    memcpy(whole, map.data, sizeof whole);
    dsb_map_close(&map);
    for (size_t n = 0; n < sizeof whole; n++) refused(dsb_st_open(&f, temp_put(&t, "cut", whole, n), &err), &err, DSB_EINPUT, t.file, NULL);
    temp_remove(&t);
}

static void test_safetensors__round_trip(void **state) {
    temp_dir t;
    dsb_st_writer w;
    dsb_st_file f;
    dsb_err err;
    const int64_t shape[] = {2, 3, 1, 1}, empty = 0;
    float x[6] = {1, -2, 3.5f, 0, 1e-30f, 6};
    uint8_t codes[5] = {9, 8, 7, 6, 5};
    const int64_t five = 5;
    temp_make(&t);
    temp_text(&t, "out", "");
    assert_int_equal(dsb_st_writer_open(&w, t.file, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_declare(&w, "w.\xc3\xa9 \"q\"", DSB_F32, 4, shape, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_declare(&w, "none", DSB_BF16, 1, &empty, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_declare(&w, "codes", DSB_U8, 1, &five, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_declare(&w, "codes", DSB_U8, 1, &five, &err), DSB_EINTERNAL);
    assert_int_equal(dsb_st_writer_write(&w, x, 10, NULL), DSB_OK); /* pieces need not end where tensors do */
    assert_int_equal(dsb_st_writer_write(&w, (uint8_t *)x + 10, sizeof x - 10, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_write(&w, codes, 5, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_finish(&w, NULL), DSB_OK);
    dsb_st_writer_close(&w);
    if (dsb_st_open(&f, t.file, &err)) fail_msg("%s", err.text);
    assert_int_equal(f.n_tensor, 3);
    const dsb_st_tensor *a = dsb_st_find(&f, "w.\xc3\xa9 \"q\"");
    assert_true(a && a->dtype == DSB_F32 && a->ndim == 4 && a->shape[1] == 3 && a->bytes == sizeof x);
    assert_memory_equal(a->data, x, sizeof x);
    assert_int_equal((a->data - f.map.data) % 8, 0); /* the header is padded */
    assert_memory_equal(dsb_st_find(&f, "codes")->data, codes, 5);
    assert_int_equal(dsb_st_find(&f, "none")->bytes, 0);
    dsb_st_close(&f);
    temp_remove(&t);
}

static void test_safetensors__unfinished_writes_leave_nothing(void **state) {
    temp_dir t;
    dsb_st_writer w;
    dsb_err err;
    char path[128];
    const int64_t four = 4, negative = -1;
    temp_make(&t);
    snprintf(path, sizeof path, "%s/out", t.path);
    assert_int_equal(dsb_st_writer_open(&w, path, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_declare(&w, "a", DSB_F32, 1, &negative, &err), DSB_EINTERNAL);
    assert_int_equal(dsb_st_writer_declare(&w, "a", DSB_F32, 1, &four, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_write(&w, "123", 3, NULL), DSB_OK);
    refused(dsb_st_writer_finish(&w, &err), &err, DSB_EINTERNAL, path, "3 bytes written, 16 declared");
    dsb_st_writer_close(&w);
    assert_int_equal(temp_entries(t.path), 0);
    refused(dsb_st_writer_open(&w, "/nonexistent/out", &err), &err, DSB_EOUTPUT, "/nonexistent/out: can't be written", "No such file");
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors__reads_in_any_order),
        cmocka_unit_test(test_safetensors__malformed_headers),
        cmocka_unit_test(test_safetensors__truncated_before_the_data),
        cmocka_unit_test(test_safetensors__round_trip),
        cmocka_unit_test(test_safetensors__unfinished_writes_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
