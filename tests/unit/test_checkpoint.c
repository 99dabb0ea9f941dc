/* Model directories: one file or shards with an index, stored integer codes, and a message for each way one can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "engine/checkpoint.h"
#include "engine/safetensors_write.h"
#include "tests/unit/temp_files.h"

typedef struct item {
    const char *name;
    dsb_dtype dtype;
    int64_t rows, cols; /* cols 0: one-dimensional */
    const void *data;
} item;

static void put_tensors(temp_dir *t, const char *leaf, const item *items, int n) {
    dsb_st_writer w;
    char path[128];
    snprintf(path, sizeof path, "%s/%s", t->path, leaf);
    assert_int_equal(dsb_st_writer_open(&w, path, NULL), DSB_OK);
    for (int i = 0; i < n; i++) {
        int64_t shape[] = {items[i].rows, items[i].cols};
        assert_int_equal(dsb_st_writer_declare(&w, items[i].name, items[i].dtype, items[i].cols ? 2 : 1, shape, NULL), DSB_OK);
    }
    for (int i = 0; i < n; i++) {
        size_t bytes = (size_t)(items[i].rows * (items[i].cols ? items[i].cols : 1)) * dsb_dtype_size(items[i].dtype);
        assert_int_equal(dsb_st_writer_write(&w, items[i].data, bytes, NULL), DSB_OK);
    }
    assert_int_equal(dsb_st_writer_finish(&w, NULL), DSB_OK);
    dsb_st_writer_close(&w);
}

static void open_ok(dsb_checkpoint *cp, const temp_dir *t) {
    dsb_err err;
    if (dsb_checkpoint_open(cp, t->path, &err)) fail_msg("%s", err.text);
}

static const float k_two[] = {1, 2};
static const uint16_t k_half[] = {0x3f80, 0x4000, 0xbf80, 0x0000}; /* bf16: 1, 2, -1, 0 */
static const item k_a = {"a", DSB_F32, 2, 0, k_two}, k_b = {"b", DSB_BF16, 2, 2, k_half};

static void test_checkpoint__single_file(void **state) {
    temp_dir t;
    dsb_checkpoint cp;
    dsb_err err;
    dsb_dtype stored;
    float x[4];
    const item items[] = {k_a, k_b};
    temp_make(&t);
    put_tensors(&t, "model.safetensors", items, 2);
    open_ok(&cp, &t);
    assert_int_equal(cp.n_file, 1);
    assert_int_equal(cp.bytes, 16);
    assert_int_equal(dsb_checkpoint_read(&cp, "b", 2, 2, x, &stored, NULL), DSB_OK);
    assert_true(stored == DSB_BF16 && x[0] == 1 && x[1] == 2 && x[2] == -1 && x[3] == 0);
    assert_int_equal(dsb_checkpoint_read(&cp, "a", 2, 0, x, NULL, NULL), DSB_OK);
    refused(dsb_checkpoint_check(&cp, "c", 2, 2, &err), &err, DSB_EINPUT, t.path, "tensor c is missing");
    refused(dsb_checkpoint_check(&cp, "b", 2, 3, &err), &err, DSB_EINPUT, "tensor b: shape is (2, 2); config.json wants (2, 3)", NULL);
    refused(dsb_checkpoint_check(&cp, "b", 4, 0, &err), &err, DSB_EINPUT, "tensor b: shape is (2, 2); config.json wants (4)", NULL);
    refused(dsb_checkpoint_check(&cp, "a", 2, 1, &err), &err, DSB_EINPUT, "tensor a: shape is (2); config.json wants (2, 1)", NULL);
    dsb_checkpoint_close(&cp);
    temp_remove(&t);
}

static void test_checkpoint__types_that_are_no_weights(void **state) {
    static const uint8_t bytes[32] = {0};
    const item items[] = {{"fp8", DSB_FP8_E4M3, 2, 2, bytes}, {"ids", DSB_I64, 2, 2, bytes}, {"codes", DSB_I8, 2, 2, bytes}};
    temp_dir t;
    dsb_checkpoint cp;
    dsb_err err;
    temp_make(&t);
    put_tensors(&t, "model.safetensors", items, 3);
    open_ok(&cp, &t);
    assert_int_equal(dsb_checkpoint_check(&cp, "fp8", 2, 2, NULL), DSB_OK);
    refused(dsb_checkpoint_check(&cp, "ids", 2, 2, &err), &err, DSB_EINPUT, "tensor ids: dtype is I64", "a float type");
    refused(dsb_checkpoint_check(&cp, "codes", 2, 2, &err), &err, DSB_EINPUT, "tensor codes: dtype is I8", NULL); /* codes without a linear's name */
    dsb_checkpoint_close(&cp);
    temp_remove(&t);
}

static void test_checkpoint__nothing_there(void **state) {
    temp_dir t;
    dsb_checkpoint cp;
    dsb_err err;
    temp_make(&t);
    refused(dsb_checkpoint_open(&cp, t.path, &err), &err, DSB_EINPUT, t.path, "/model.safetensors: can't be opened");
    refused(dsb_checkpoint_open(&cp, "/nonexistent", &err), &err, DSB_EINPUT, "/nonexistent: no model directory there", "config.json and model.safetensors");
    refused(dsb_checkpoint_open(&cp, temp_text(&t, "file", ""), &err), &err, DSB_EINPUT, t.file, "no model directory there");
    temp_text(&t, "model.safetensors", "0123456789");
    refused(dsb_checkpoint_open(&cp, t.path, &err), &err, DSB_EINPUT, "/model.safetensors: header of", "truncated");
    assert_true(!cp.dir && !cp.files && cp.n_file == 0);
    temp_remove(&t);
}

#define INDEX "model.safetensors.index.json"

static void test_checkpoint__shards(void **state) {
    temp_dir t;
    dsb_checkpoint cp;
    float x[4];
    char one[65], two[65];
    temp_make(&t);
    put_tensors(&t, "model-1.safetensors", &k_a, 1);
    put_tensors(&t, "model-2.safetensors", &k_b, 1);
    temp_text(&t, INDEX, "{\"metadata\": {}, \"weight_map\": {\"b\": \"model-2.safetensors\", \"a\": \"model-1.safetensors\"}}");
    open_ok(&cp, &t);
    assert_int_equal(cp.n_file, 2);
    assert_int_equal(dsb_checkpoint_read(&cp, "a", 2, 0, x, NULL, NULL), DSB_OK);
    assert_int_equal(dsb_checkpoint_read(&cp, "b", 2, 2, x, NULL, NULL), DSB_OK);
    assert_int_equal(dsb_checkpoint_hash(&cp, one, NULL), DSB_OK);
    dsb_checkpoint_close(&cp);
    open_ok(&cp, &t);
    assert_int_equal(dsb_checkpoint_hash(&cp, two, NULL), DSB_OK);
    assert_string_equal(one, two);
    dsb_checkpoint_close(&cp);
    temp_remove(&t);
}

static const struct {
    const char *index, *part;
} k_bad_index[] = {
    {"{", "/" INDEX ": not valid JSON"},
    {"[]", "\"weight_map\" is missing or empty"},
    {"{\"weight_map\": []}", "\"weight_map\" is missing or empty"},
    {"{\"weight_map\": {}}", "\"weight_map\" is missing or empty"},
    {"{\"weight_map\": {\"a\": 1}}", "tensor a: its shard must be a plain file name in this directory, found no string"},
    {"{\"weight_map\": {\"a\": \"\"}}", "tensor a: its shard must be a plain file name"},
    {"{\"weight_map\": {\"a\": \"..\"}}", "found .."},
    {"{\"weight_map\": {\"a\": \"../x.safetensors\"}}", "tensor a: its shard must be a plain file name in this directory, found ../x.safetensors"},
    {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "found /etc/passwd"},
    {"{\"weight_map\": {\"a\": \"sub/x.safetensors\"}}", "found sub/x.safetensors"},
    {"{\"weight_map\": {\"a\": \".\"}}", "not a regular file"},
    {"{\"weight_map\": {\"a\": \"absent.safetensors\"}}", "/absent.safetensors: can't be opened: No such file"},
    {"{\"weight_map\": {\"a\": \"a.safetensors\", \"c\": \"a.safetensors\"}}", "tensor c: a.safetensors is named as its shard, but does not hold it"},
    {"{\"weight_map\": {\"a\": \"a.safetensors\", \"b\": \"a.safetensors\", \"c\": \"b.safetensors\"}}", "tensor b: a.safetensors is named as its shard, but does not hold it"},
};

static void test_checkpoint__bad_indexes(void **state) {
    temp_dir t;
    dsb_checkpoint cp;
    dsb_err err;
    temp_make(&t);
    const item c = {"c", DSB_F32, 2, 0, k_two}, second[] = {k_b, c};
    put_tensors(&t, "a.safetensors", &k_a, 1);
    put_tensors(&t, "b.safetensors", second, 2);
    for (size_t i = 0; i < sizeof k_bad_index / sizeof *k_bad_index; i++) {
        temp_text(&t, INDEX, k_bad_index[i].index);
        refused(dsb_checkpoint_open(&cp, t.path, &err), &err, DSB_EINPUT, t.path, k_bad_index[i].part);
        assert_true(!cp.dir && !cp.files);
    }
    temp_remove(&t);
}

/* Stored codes */

static const int8_t k_codes[] = {1, -2, 127, -127};
static const int32_t k_packed[] = {(int32_t)0xfedcba98, 0x76543210}; /* codes 0 … 7, then -8 … -1 */
static const float k_scales[] = {0.5f, 2};

static void test_checkpoint__int8_codes_stay_codes(void **state) {
    const item items[] = {{"m.weight", DSB_I8, 2, 2, k_codes}, {"m.weight_scale", DSB_F32, 2, 1, k_scales}};
    temp_dir t;
    dsb_checkpoint cp;
    dsb_qtensor q;
    dsb_dtype stored;
    float w[4];
    temp_make(&t);
    put_tensors(&t, "model.safetensors", items, 2);
    open_ok(&cp, &t);
    assert_int_equal(dsb_checkpoint_check_linear(&cp, "m", 2, 2, NULL), DSB_OK);
    assert_int_equal(dsb_checkpoint_read_linear(&cp, "m", 2, 2, w, &q, &stored, NULL), DSB_OK);
    assert_true(stored == DSB_I8 && q.group == 2 && q.n_group == 1 && q.stored_bytes == 4 + 8);
    assert_memory_equal(q.codes, k_codes, 4);
    assert_true(w[0] == 0.5f && w[1] == -1 && w[2] == 254 && w[3] == -254);
    dsb_qtensor_release(&q);
    dsb_checkpoint_close(&cp);
    temp_remove(&t);
}

static void test_checkpoint__int4_codes_lowest_bits_first(void **state) {
    const item items[] = {{"m.weight_packed", DSB_I32, 1, 2, k_packed}, {"m.weight_scale", DSB_F32, 1, 2, k_scales}};
    temp_dir t;
    dsb_checkpoint cp;
    dsb_qtensor q;
    dsb_dtype stored;
    float w[16];
    temp_make(&t);
    put_tensors(&t, "model.safetensors", items, 2);
    open_ok(&cp, &t);
    assert_int_equal(dsb_checkpoint_read_linear(&cp, "m", 1, 16, w, &q, &stored, NULL), DSB_OK);
    assert_true(q.group == 8 && q.n_group == 2);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(q.codes[i], i < 8 ? i : i - 16);
        assert_true(w[i] == (i < 8 ? 0.5f * (float)i : 2 * (float)(i - 16)));
    }
    dsb_qtensor_release(&q);
    dsb_checkpoint_close(&cp);
    temp_remove(&t);
}

typedef struct bad_codes {
    item items[3];
    int n;
    dsb_status status;
    const char *part;
} bad_codes;

static const bad_codes k_bad_codes[] = {
    {{{"m.weight", DSB_I8, 2, 2, k_codes}}, 1, DSB_EINPUT, "tensor m.weight_scale is missing beside the integer codes"},
    {{{"m.weight", DSB_I8, 1, 2, k_codes}, {"m.weight_scale", DSB_F32, 2, 0, k_scales}}, 2, DSB_EINPUT, "tensor m.weight: shape is (1, 2); config.json wants (2, 2)"},
    {{{"m.weight", DSB_I8, 2, 2, k_codes}, {"m.weight_scale", DSB_F32, 1, 0, k_scales}}, 2, DSB_EINPUT, "tensor m.weight_scale: shape is (1); config.json wants (2)"},
    {{{"m.weight", DSB_I8, 2, 2, k_codes}, {"m.weight_scale", DSB_F32, 1, 2, k_scales}}, 2, DSB_EINPUT, "tensor m.weight_scale: shape is (1, 2); config.json wants (2, 2)"},
    {{{"m.weight", DSB_I8, 2, 2, k_codes}, {"m.weight_scale", DSB_I8, 2, 3, "123456"}}, 2, DSB_EINPUT, "tensor m.weight_scale: 3 groups don't divide 2 inputs"},
    {{{"m.weight", DSB_I8, 2, 2, k_codes}, {"m.weight_scale", DSB_I32, 2, 0, k_packed}}, 2, DSB_EINPUT, "tensor m.weight_scale: dtype is I32; a float type is wanted"},
    {{{"m.weight", DSB_I8, 2, 2, k_codes}, {"m.weight_scale", DSB_F32, 2, 0, k_scales}, {"m.weight_zero_point", DSB_I8, 2, 0, k_codes}}, 3, DSB_EUNSUPPORTED, "tensor m.weight_zero_point: zero points"},
    {{{"m.weight", DSB_I8, 2, 2, k_codes}, {"m.weight_scale", DSB_F32, 2, 0, k_scales}, {"m.weight_g_idx", DSB_I8, 2, 0, k_codes}}, 3, DSB_EUNSUPPORTED, "tensor m.weight_g_idx: stored codes whose inputs are reordered"},
    {{{"m.weight_packed", DSB_I8, 2, 1, k_codes}, {"m.weight_scale", DSB_F32, 2, 0, k_scales}}, 2, DSB_EINPUT, "tensor m.weight_packed: dtype is I8; I32 is wanted"},
    {{{"m.weight_packed", DSB_I32, 1, 2, k_packed}, {"m.weight_scale", DSB_F32, 2, 0, k_scales}}, 2, DSB_EINPUT, "tensor m.weight_packed: shape is (1, 2); config.json wants (2, 1)"},
    {{{"m.bias", DSB_F32, 2, 0, k_scales}}, 1, DSB_EINPUT, "tensor m.weight is missing"},
};

/* Headers alone show it, before anything is computed; reading says the same. */
static void test_checkpoint__bad_codes(void **state) {
    temp_dir t;
    temp_make(&t);
    for (size_t i = 0; i < sizeof k_bad_codes / sizeof *k_bad_codes; i++) {
        const bad_codes *b = &k_bad_codes[i];
        dsb_checkpoint cp;
        dsb_qtensor q;
        dsb_dtype stored;
        dsb_err err;
        float w[4];
        put_tensors(&t, "model.safetensors", b->items, b->n);
        open_ok(&cp, &t);
        refused(dsb_checkpoint_check_linear(&cp, "m", 2, 2, &err), &err, b->status, t.path, b->part);
        refused(dsb_checkpoint_read_linear(&cp, "m", 2, 2, w, &q, &stored, &err), &err, b->status, t.path, b->part);
        assert_null(q.codes);
        dsb_checkpoint_close(&cp);
    }
    temp_remove(&t);
}

/* No integer kernel takes it: the weight is decoded. */
static void test_checkpoint__code_minus_128_is_decoded(void **state) {
    static const int8_t codes[] = {0, 1, -128, 3};
    const item items[] = {{"m.weight", DSB_I8, 2, 2, codes}, {"m.weight_scale", DSB_F32, 2, 0, k_scales}};
    temp_dir t;
    dsb_checkpoint cp;
    dsb_qtensor q;
    dsb_dtype stored;
    float w[4];
    temp_make(&t);
    put_tensors(&t, "model.safetensors", items, 2);
    open_ok(&cp, &t);
    assert_int_equal(dsb_checkpoint_read_linear(&cp, "m", 2, 2, w, &q, &stored, NULL), DSB_OK);
    assert_null(q.codes);
    assert_string_equal(q.format->name, "int8");
    assert_true(w[0] == 0 && w[1] == 0.5f && w[2] == -256 && w[3] == 6);
    dsb_qtensor_release(&q);
    dsb_checkpoint_close(&cp);
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checkpoint__single_file),
        cmocka_unit_test(test_checkpoint__types_that_are_no_weights),
        cmocka_unit_test(test_checkpoint__nothing_there),
        cmocka_unit_test(test_checkpoint__shards),
        cmocka_unit_test(test_checkpoint__bad_indexes),
        cmocka_unit_test(test_checkpoint__int8_codes_stay_codes),
        cmocka_unit_test(test_checkpoint__int4_codes_lowest_bits_first),
        cmocka_unit_test(test_checkpoint__bad_codes),
        cmocka_unit_test(test_checkpoint__code_minus_128_is_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
