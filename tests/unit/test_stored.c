/* Weights as checkpoints store them against the oracle's vectors (where ../shared is there): exact, bit for bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/blocks.h"
#include "engine/safetensors_write.h"
#include "engine/stored.h"
#include "tests/unit/temp_files.h"

static const char k_vectors[] = "../shared/oracle/quant_vectors.safetensors";
static dsb_st_file g_vectors;

static const dsb_st_tensor *vector(const char *name) {
    if (!g_vectors.path && access(k_vectors, R_OK) != 0) skip();
    if (!g_vectors.path) assert_int_equal(dsb_st_open(&g_vectors, k_vectors, NULL), DSB_OK);
    const dsb_st_tensor *t = dsb_st_find(&g_vectors, name);
    if (!t) fail_msg("%s: tensor %s is missing", k_vectors, name);
    return t;
}

/* A part of a weight: an oracle's tensor under another name, maybe as another type or in another shape. */
typedef struct as {
    const char *vector, *name;
    int dtype; /* -1: its own */
    int ndim;  /* 0: its own shape */
    int64_t shape[4];
} as;

static void put(temp_dir *t, const as *parts, int n) {
    dsb_st_writer w;
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", t->path);
    assert_int_equal(dsb_st_writer_open(&w, path, NULL), DSB_OK);
    for (int i = 0; i < n; i++) {
        const dsb_st_tensor *v = vector(parts[i].vector);
        dsb_dtype dtype = parts[i].dtype < 0 ? v->dtype : (dsb_dtype)parts[i].dtype;
        assert_int_equal(dsb_st_writer_declare(&w, parts[i].name, dtype, parts[i].ndim ? parts[i].ndim : v->ndim, parts[i].ndim ? parts[i].shape : v->shape, NULL), DSB_OK);
    }
    for (int i = 0; i < n; i++) assert_int_equal(dsb_st_writer_write(&w, vector(parts[i].vector)->data, vector(parts[i].vector)->bytes, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_finish(&w, NULL), DSB_OK);
    dsb_st_writer_close(&w);
}

static void same_floats(const float *got, const float *want, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (dsb_f32_bits(got[i]) != dsb_f32_bits(want[i])) fail_msg("element %lld is %.9g, wanted %.9g", (long long)i, (double)got[i], (double)want[i]);
}

/* Reads linear `stem` of the folder; its rows, and a range of them, are those wanted. */
static void same_linear(const temp_dir *t, const char *stem, int64_t rows, int64_t cols, const float *want, const char *format) {
    dsb_checkpoint cp;
    dsb_stored s;
    dsb_qtensor q;
    dsb_dtype dtype;
    dsb_err err;
    float *w = malloc((size_t)(rows * cols) * sizeof *w);
    assert_non_null(w);
    if (dsb_checkpoint_open(&cp, t->path, &err) || dsb_checkpoint_read_linear(&cp, stem, rows, cols, w, &q, &dtype, &err)) fail_msg("%s", err.text);
    same_floats(w, want, rows * cols);
    assert_string_equal(q.format->name, format);
    assert_int_equal(dsb_stored_find(&cp, stem, rows, cols, &s, NULL), DSB_OK);
    assert_int_equal(dsb_stored_decode(&s, rows / 2, rows - rows / 2, w, NULL), DSB_OK);
    same_floats(w, want + rows / 2 * cols, (rows - rows / 2) * cols);
    if (q.codes) {
        dsb_dequantize(&q, NULL, w);
        same_floats(w, want, rows * cols);
    }
    dsb_qtensor_release(&q);
    dsb_checkpoint_close(&cp);
    free(w);
}

static const float *floats(const char *name) { return (const float *)(const void *)vector(name)->data; }

static void test_stored__fp8_blocks(void **state) {
    const as parts[] = {{"fp8_block128.q", "m.weight", DSB_FP8_E4M3, 0, {0}}, {"fp8_block128.scale_inv", "m.weight_scale_inv", -1, 0, {0}}};
    temp_dir t;
    vector("fp8_block128.q");
    temp_make(&t);
    put(&t, parts, 2);
    same_linear(&t, "m", 150, 200, floats("fp8_block128.deq"), "fp8_e4m3");
    temp_remove(&t);
}

static void test_stored__mxfp4_of_gpt_oss(void **state) {
    static const char *const k_kind[] = {"normal", "outlier", "zerorow", "extreme"};
    vector("mxfp4.normal.deq");
    for (int k = 0; k < 4; k++) {
        char blocks[64], scales[64], deq[64];
        temp_dir t;
        snprintf(blocks, sizeof blocks, "mxfp4.%s.packed", k_kind[k]);
        snprintf(scales, sizeof scales, "mxfp4.%s.scale_e8m0", k_kind[k]);
        snprintf(deq, sizeof deq, "mxfp4.%s.deq", k_kind[k]);
        int64_t rows = vector(deq)->shape[0], cols = vector(deq)->shape[1], half = rows / 4;
        /* As two experts: of gate and up, interleaved row by row, and of down. */
        const as parts[] = {{blocks, "x.experts.gate_up_proj_blocks", -1, 4, {2, rows / 2, cols / 32, 16}}, {scales, "x.experts.gate_up_proj_scales", -1, 3, {2, rows / 2, cols / 32}},
                            {blocks, "x.experts.down_proj_blocks", -1, 4, {2, rows / 2, cols / 32, 16}}, {scales, "x.experts.down_proj_scales", -1, 3, {2, rows / 2, cols / 32}}};
        float *want = malloc((size_t)(half * cols) * sizeof *want);
        assert_non_null(want);
        temp_make(&t);
        put(&t, parts, 4);
        for (int64_t r = 0; r < half; r++) memcpy(want + r * cols, floats(deq) + (rows / 2 + 2 * r + 1) * cols, (size_t)cols * sizeof *want);
        same_linear(&t, "x.experts.1.up_proj", half, cols, want, "mxfp4");
        for (int64_t r = 0; r < half; r++) memcpy(want + r * cols, floats(deq) + 2 * r * cols, (size_t)cols * sizeof *want);
        same_linear(&t, "x.experts.0.gate_proj", half, cols, want, "mxfp4");
        same_linear(&t, "x.experts.1.down_proj", rows / 2, cols, floats(deq) + rows / 2 * cols, "mxfp4");
        free(want);
        temp_remove(&t);
    }
}

static void test_stored__e8m0_and_e2m1(void **state) {
    assert_true(dsb_e8m0_to_f32(127) == 1 && dsb_e8m0_to_f32(0) == 0x1p-127f && dsb_e8m0_to_f32(254) == 0x1p127f);
    assert_true(dsb_e8m0_to_f32(255) != dsb_e8m0_to_f32(255));
    for (int i = 0; i < 8; i++) {
        assert_true(dsb_e2m1_value[i] == (i < 2 ? (float)i / 2 : (1 + (float)(i % 2) / 2) * (float)(1 << (i / 2 - 1))));
        assert_true(dsb_e2m1_value[i + 8] == -dsb_e2m1_value[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored__e8m0_and_e2m1),
        cmocka_unit_test(test_stored__fp8_blocks),
        cmocka_unit_test(test_stored__mxfp4_of_gpt_oss),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
