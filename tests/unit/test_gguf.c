/* GGUF files: every kind of entry, tensors in place, and a message for each way a file can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/gguf_file.h"

static void open_ok(dsb_gguf *g, temp_dir *t, const gguf_file *f) {
    dsb_err err;
    if (dsb_gguf_open(g, temp_put(t, "m.gguf", f->data, f->n), &err)) fail_msg("%s", err.text);
}

static void test_gguf__every_kind_of_entry(void **state) {
    static gguf_file f;
    temp_dir t;
    dsb_gguf g;
    dsb_err err;
    float pi = 3.25f;
    temp_make(&t);
    for (uint32_t version = 2; version <= 3; version++) {
        gguf_begin(&f, version, 0, 9);
        gguf_text(&f, "z.text", "h\xc3\xa9llo");
        gguf_u32(&f, "u32", 4000000000u);
        gguf_key(&f, "i8", DSB_GGUF_I8), gguf_number(&f, 0xff, 1);
        gguf_key(&f, "u64", DSB_GGUF_U64), gguf_number(&f, UINT64_MAX, 8);
        gguf_key(&f, "f32", DSB_GGUF_F32), gguf_bytes(&f, &pi, 4);
        gguf_key(&f, "yes", DSB_GGUF_BOOL), gguf_number(&f, 1, 1);
        gguf_array(&f, "words", DSB_GGUF_STRING, 3), gguf_string(&f, "a"), gguf_string(&f, ""), gguf_string(&f, "bc");
        gguf_array(&f, "ints", DSB_GGUF_I32, 2), gguf_number(&f, (uint32_t)-5, 4), gguf_number(&f, 7, 4);
        gguf_array(&f, "nested", DSB_GGUF_ARRAY, 1), gguf_number(&f, DSB_GGUF_U8, 4), gguf_number(&f, 2, 8), gguf_number(&f, 0x0201, 2);
        open_ok(&g, &t, &f);
        assert_true(dsb_gguf_is(t.file));
        int64_t x = 1;
        double r = 0;
        bool yes = false;
        const char *text = NULL;
        const dsb_gguf_string *words;
        const int64_t *ints;
        const float *reals;
        size_t n;
        assert_int_equal(dsb_gguf_int(&g, "u32", true, 0, INT64_MAX, &x, NULL), DSB_OK);
        assert_true(x == 4000000000);
        assert_int_equal(dsb_gguf_int(&g, "i8", true, -1, 1, &x, NULL), DSB_OK);
        assert_true(x == -1);
        assert_int_equal(dsb_gguf_real(&g, "f32", true, &r, NULL), DSB_OK);
        assert_true(r == 3.25);
        assert_int_equal(dsb_gguf_bool(&g, "yes", true, &yes, NULL), DSB_OK);
        assert_true(yes);
        assert_int_equal(dsb_gguf_text(&g, "z.text", true, &text, NULL), DSB_OK);
        assert_string_equal(text, "h\xc3\xa9llo");
        assert_int_equal(dsb_gguf_strings(&g, "words", true, &words, &n, NULL), DSB_OK);
        assert_true(n == 3 && words[0].n == 1 && words[1].n == 0 && words[2].n == 2 && memcmp(words[2].text, "bc", 2) == 0);
        assert_int_equal(dsb_gguf_ints(&g, "ints", true, &ints, &n, NULL), DSB_OK);
        assert_true(n == 2 && ints[0] == -5 && ints[1] == 7);
        assert_int_equal(dsb_gguf_floats(&g, "ints", true, &reals, &n, NULL), DSB_OK);
        assert_true(n == 2 && reals[0] == -5);
        assert_int_equal(dsb_gguf_ints(&g, "absent", false, &ints, &n, NULL), DSB_OK);
        assert_true(n == 0 && !ints);
        refused(dsb_gguf_int(&g, "absent", true, 0, 1, &x, &err), &err, DSB_EINPUT, t.file, "key absent is missing");
        refused(dsb_gguf_int(&g, "u64", true, 0, INT64_MAX, &x, &err), &err, DSB_EINPUT, "key u64 is -1; 0 to", NULL);
        refused(dsb_gguf_int(&g, "f32", true, 0, 1, &x, &err), &err, DSB_EINPUT, "key f32 is f32; an integer is wanted", NULL);
        refused(dsb_gguf_int(&g, "u32", true, 0, 8, &x, &err), &err, DSB_EINPUT, "key u32 is 4000000000; 0 to 8 is wanted", NULL);
        refused(dsb_gguf_strings(&g, "ints", true, &words, &n, &err), &err, DSB_EINPUT, "key ints is an array; an array of strings is wanted", NULL);
        refused(dsb_gguf_ints(&g, "nested", true, &ints, &n, &err), &err, DSB_EINPUT, "key nested is an array; an array of integers", NULL);
        dsb_gguf_close(&g);
    }
    temp_remove(&t);
}

static void test_gguf__tensors_in_place(void **state) {
    static gguf_file f;
    static const uint64_t ne[] = {2, 3}, row[] = {32};
    temp_dir t;
    dsb_gguf g;
    const float x[6] = {1, 2, 3, 4, 5, 6};
    uint8_t block[34] = {0x00, 0x3c, 5};
    temp_make(&t);
    gguf_begin(&f, 3, 2, 0);
    gguf_tensor(&f, "w", 2, ne, 0, 0);
    gguf_tensor(&f, "q", 1, row, 8, 32);
    gguf_align(&f);
    gguf_bytes(&f, x, sizeof x);
    gguf_align(&f);
    gguf_bytes(&f, block, sizeof block);
    open_ok(&g, &t, &f);
    assert_int_equal(g.n_tensor, 2);
    assert_true(strcmp(g.tensors[0].name, "q") == 0 && g.tensors[0].blocks && g.tensors[0].bytes == 34 && dsb_st_is_float(&g.tensors[0]));
    assert_true(g.tensors[1].ndim == 2 && g.tensors[1].shape[0] == 3 && g.tensors[1].shape[1] == 2 && !g.tensors[1].blocks);
    assert_memory_equal(g.tensors[1].data, x, sizeof x);
    assert_memory_equal(g.tensors[0].data, block, sizeof block);
    dsb_gguf_close(&g);
    for (size_t cut = 0; cut < f.n; cut++) { /* whatever is missing at the end is noticed */
        dsb_err err;
        refused(dsb_gguf_open(&g, temp_put(&t, "cut.gguf", f.data, cut), &err), &err, DSB_EINPUT, t.file, NULL);
    }
    temp_remove(&t);
}

/* Each maker writes a file that is wrong in one way. */
static const uint64_t k_one[] = {1, 1, 1, 1, 1}, k_huge[] = {UINT64_MAX / 2, 16}, k_33[] = {33}, k_none[] = {0, 65536};
static void m_magic(gguf_file *f) { gguf_begin(f, 3, 0, 0), f->data[0] = 'X'; }
static void m_version1(gguf_file *f) { gguf_begin(f, 1, 0, 0); }
static void m_version4(gguf_file *f) { gguf_begin(f, 4, 0, 0); }
static void m_big(gguf_file *f) { gguf_begin(f, 0x03000000, 0, 0); }
static void m_keys(gguf_file *f) { gguf_begin(f, 3, 0, UINT64_MAX); }
static void m_tensors(gguf_file *f) { gguf_begin(f, 3, UINT64_MAX, 0); }
static void m_twice(gguf_file *f) { gguf_begin(f, 3, 0, 2), gguf_u32(f, "a", 1), gguf_u32(f, "a", 2); }
static void m_type(gguf_file *f) { gguf_begin(f, 3, 0, 1), gguf_key(f, "a", (dsb_gguf_type)13), gguf_number(f, 0, 8); }
static void m_array_type(gguf_file *f) { gguf_begin(f, 3, 0, 1), gguf_array(f, "a", (dsb_gguf_type)99, 1), gguf_number(f, 0, 8); }
static void m_array(gguf_file *f) { gguf_begin(f, 3, 0, 1), gguf_array(f, "a", DSB_GGUF_U64, UINT64_MAX / 2); }
static void m_string(gguf_file *f) { gguf_begin(f, 3, 0, 1), gguf_key(f, "a", DSB_GGUF_STRING), gguf_number(f, UINT64_MAX - 7, 8); }
static void m_empty_key(gguf_file *f) { gguf_begin(f, 3, 0, 1), gguf_u32(f, "", 1), gguf_number(f, 0, 8); }
static void m_deep(gguf_file *f) {
    gguf_begin(f, 3, 0, 1), gguf_array(f, "a", DSB_GGUF_ARRAY, 1);
    for (int i = 0; i < 100; i++) gguf_number(f, DSB_GGUF_ARRAY, 4), gguf_number(f, 1, 8);
}
static void m_align(gguf_file *f) { gguf_begin(f, 3, 0, 1), gguf_u32(f, "general.alignment", 24); }
static void m_dims(gguf_file *f) { gguf_begin(f, 3, 1, 0), gguf_tensor(f, "w", 5, k_one, 0, 0); }
static void m_no_dims(gguf_file *f) { gguf_begin(f, 3, 1, 0), gguf_tensor(f, "w", 0, k_one, 0, 0), gguf_number(f, 0, 8); }
static void m_empty(gguf_file *f) { gguf_begin(f, 3, 1, 0), gguf_tensor(f, "w", 2, k_none, 0, 0); }
static void m_size(gguf_file *f) { gguf_begin(f, 3, 1, 0), gguf_tensor(f, "w", 2, k_huge, 0, 0); }
static void m_ggml(gguf_file *f) { gguf_begin(f, 3, 1, 0), gguf_tensor(f, "w", 1, k_one, 16, 0); }
static void m_ragged(gguf_file *f) { gguf_begin(f, 3, 1, 0), gguf_tensor(f, "w", 1, k_33, 8, 0); }
static void m_offset(gguf_file *f) { gguf_begin(f, 3, 1, 0), gguf_tensor(f, "w", 1, k_one, 0, 4), gguf_align(f), gguf_number(f, 0, 8); }
static void m_outside(gguf_file *f) { gguf_begin(f, 3, 1, 0), gguf_tensor(f, "w", 1, k_one, 0, UINT64_MAX - 31), gguf_align(f), gguf_number(f, 0, 8); }
static void m_overlap(gguf_file *f) { gguf_begin(f, 3, 2, 0), gguf_tensor(f, "v", 1, k_one, 0, 0), gguf_tensor(f, "w", 1, k_one, 0, 0), gguf_align(f), gguf_number(f, 0, 8); }
static void m_same_name(gguf_file *f) { gguf_begin(f, 3, 2, 0), gguf_tensor(f, "w", 1, k_one, 0, 0), gguf_tensor(f, "w", 1, k_one, 0, 32), gguf_align(f), gguf_number(f, 0, 8), gguf_align(f), gguf_number(f, 0, 8); }

static const struct {
    void (*make)(gguf_file *f);
    dsb_status status;
    const char *part;
} k_bad[] = {
    {m_magic, DSB_EINPUT, "does not begin with GGUF"},
    {m_version1, DSB_EUNSUPPORTED, "GGUF version 1; 2 or 3 is wanted"},
    {m_version4, DSB_EUNSUPPORTED, "GGUF version 4; 2 or 3 is wanted"},
    {m_big, DSB_EUNSUPPORTED, "a big-endian GGUF file"},
    {m_keys, DSB_EINPUT, "metadata keys are announced, the file is too short"},
    {m_tensors, DSB_EINPUT, "tensors are announced, the file is too short"},
    {m_twice, DSB_EINPUT, "key a is there twice"},
    {m_type, DSB_EINPUT, "key a: value type 13 is unknown"},
    {m_array_type, DSB_EINPUT, "key a: value type 99 is unknown"},
    {m_array, DSB_EINPUT, "values are announced; damaged"},
    {m_string, DSB_EINPUT, "truncated or damaged"},
    {m_empty_key, DSB_EINPUT, "a key of 0 bytes"},
    {m_deep, DSB_EINPUT, "key a: arrays within arrays"},
    {m_align, DSB_EINPUT, "general.alignment is 24; a power of two is wanted"},
    {m_dims, DSB_EINPUT, "tensor w: 5 dimensions; 1 to 4 is wanted"},
    {m_no_dims, DSB_EINPUT, "tensor w: 0 dimensions"},
    {m_empty, DSB_EINPUT, "tensor w: dimension 0 is 0"},
    {m_size, DSB_EINPUT, "tensor w: dimension 1 is absurdly large"},
    {m_ggml, DSB_EUNSUPPORTED, "tensor w: ggml type 16 (iq2_xxs) can't be read"},
    {m_ragged, DSB_EINPUT, "tensor w: rows of 33 values don't split into q8_0 blocks of 32"},
    {m_offset, DSB_EINPUT, "tensor w: its offset 4 is no multiple of 32"},
    {m_outside, DSB_EINPUT, "lie outside the file's 8 data bytes"},
    {m_overlap, DSB_EINPUT, "its data begin inside those of"},
    {m_same_name, DSB_EINPUT, "tensor w is there twice"},
};

static void test_gguf__bad_files(void **state) {
    static gguf_file f;
    temp_dir t;
    dsb_gguf g;
    dsb_err err;
    temp_make(&t);
    for (size_t i = 0; i < sizeof k_bad / sizeof *k_bad; i++) {
        k_bad[i].make(&f);
        refused(dsb_gguf_open(&g, temp_put(&t, "bad.gguf", f.data, f.n), &err), &err, k_bad[i].status, t.file, k_bad[i].part);
        assert_null(g.path);
    }
    refused(dsb_gguf_open(&g, t.path, &err), &err, DSB_EINPUT, t.path, "not a regular file");
    assert_false(dsb_gguf_is(t.path));
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf__every_kind_of_entry),
        cmocka_unit_test(test_gguf__tensors_in_place),
        cmocka_unit_test(test_gguf__bad_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
