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
    for (int64_t at = 0, half = rows / 2, bytes = 0; at < rows; at += half) { /* rows read apart: the same codes, and all bytes together */
        dsb_qtensor part;
        int64_t n = at + 2 * half > rows ? rows - at : half;
        half = n;
        assert_int_equal(dsb_checkpoint_read_rows(&cp, stem, rows, cols, at, n, w, &part, &dtype, NULL), DSB_OK);
        assert_true((part.codes != NULL) == (q.codes != NULL) && (!q.codes || part.n_group == q.n_group));
        if (q.codes) assert_memory_equal(part.codes, q.codes + at * cols, (size_t)(n * cols));
        if (q.codes) assert_memory_equal(part.scales, q.scales + at * q.n_group, (size_t)(n * q.n_group) * sizeof *q.scales);
        bytes += (int64_t)part.stored_bytes;
        if (at + n == rows) assert_int_equal(bytes, q.stored_bytes);
        dsb_qtensor_release(&part);
    }
    if (q.codes) {
        dsb_dequantize(&q, NULL, w);
        same_floats(w, want, rows * cols);
    }
    dsb_qtensor_release(&q);
    dsb_checkpoint_close(&cp);
    free(w);
}

static const float *floats(const char *name) { return (const float *)(const void *)vector(name)->data; }

/* A linear "m" of these two parts gives the oracle's values. */
static void parts_give(const as parts[2], int64_t rows, int64_t cols, const char *deq, const char *format) {
    temp_dir t;
    vector(parts[0].vector);
    temp_make(&t);
    put(&t, parts, 2);
    same_linear(&t, "m", rows, cols, floats(deq), format);
    temp_remove(&t);
}

static void test_stored__fp8_blocks(void **state) {
    const as parts[] = {{"fp8_block128.q", "m.weight", DSB_FP8_E4M3, 0, {0}}, {"fp8_block128.scale_inv", "m.weight_scale_inv", -1, 0, {0}}};
    parts_give(parts, 150, 200, "fp8_block128.deq", "fp8_e4m3");
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

/* compressed-tensors: packed along the inputs, zero points along the outputs. */
static void test_stored__compressed_tensors(void **state) {
    static const struct {
        const char *name, *format;
        bool zeros;
    } k_case[] = {{"sym_g32", "int4", false}, {"asym_g64", "int4", true}, {"sym_channel_odd", "int4", false}, {"sym_channel_int8", "int8", false}};
    vector("mat.normal");
    for (int k = 0; k < 4; k++) {
        char packed[64], scale[64], zero[64], deq[64], codes[64];
        temp_dir t;
        snprintf(packed, sizeof packed, "ct_pack.%s.weight_packed", k_case[k].name);
        snprintf(scale, sizeof scale, "ct_pack.%s.weight_scale", k_case[k].name);
        snprintf(zero, sizeof zero, "ct_pack.%s.weight_zero_point", k_case[k].name);
        snprintf(deq, sizeof deq, "ct_pack.%s.deq", k_case[k].name);
        snprintf(codes, sizeof codes, "ct_pack.%s.q", k_case[k].name);
        const as parts[] = {{packed, "m.weight_packed", -1, 0, {0}}, {scale, "m.weight_scale", -1, 0, {0}}, {zero, "m.weight_zero_point", -1, 0, {0}}};
        temp_make(&t);
        put(&t, parts, k_case[k].zeros ? 3 : 2);
        same_linear(&t, "m", vector(deq)->shape[0], vector(deq)->shape[1], floats(deq), k_case[k].format);
        const as plain[] = {{codes, "m.weight", -1, 0, {0}}, {scale, "m.weight_scale", -1, 0, {0}}};
        if (!k_case[k].zeros) { /* naive-quantized: a byte a code */
            put(&t, plain, 2);
            same_linear(&t, "m", vector(deq)->shape[0], vector(deq)->shape[1], floats(deq), "int8");
        }
        temp_remove(&t);
    }
}

/* Stored (inputs, outputs): the linear's weight is the transpose. */
static void same_transposed(const temp_dir *t, const char *deq, const char *format) {
    int64_t cols = vector(deq)->shape[0], rows = vector(deq)->shape[1];
    float *want = malloc((size_t)(rows * cols) * sizeof *want);
    assert_non_null(want);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) want[r * cols + c] = floats(deq)[c * rows + r];
    same_linear(t, "m", rows, cols, want, format);
    free(want);
}

static void test_stored__gptq_zero_points_of_both_versions_and_reordered_inputs(void **state) {
    temp_dir t;
    vector("gptqpack.qweight");
    temp_make(&t);
    for (int v = 1; v <= 2; v++)
        for (int ordered = 0; ordered < 2; ordered++) {
            const as parts[] = {{"gptqpack.qweight", "m.qweight", -1, 0, {0}}, {"gptqpack.scales", "m.scales", -1, 0, {0}}, {v == 1 ? "gptqpack.qzeros" : "gptqpack.qzeros_v2", "m.qzeros", -1, 0, {0}},
                                {ordered ? "gptqpack.g_idx_actorder" : "gptqpack.g_idx", "m.g_idx", -1, 0, {0}}};
            put(&t, parts, 4);
            temp_text(&t, "config.json", v == 1 ? "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 32}}"
                                                : "{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4, \"group_size\": 32, \"checkpoint_format\": \"gptq_v2\"}}");
            same_transposed(&t, ordered ? "gptqpack.deq_actorder" : "gptqpack.deq", "int4");
        }
    temp_remove(&t);
}

/* Three bits as AutoGPTQ's own code packs them: ten values in a word, the eleventh over its end, and so on; a zero point of 0 is stored as 7. */
static void test_stored__gptq_3_bits(void **state) {
    enum { IN = 32, OUT = 2 };
    uint32_t q[OUT][IN], words[3][OUT] = {{0}}, zeros[1] = {3 | 7 << 3};
    const float scales[OUT] = {0.5f, 2};
    static const struct {
        const char *name;
        dsb_dtype dtype;
        int64_t shape[2];
    } k_part[] = {{"m.qweight", DSB_I32, {3, OUT}}, {"m.qzeros", DSB_I32, {1, 1}}, {"m.scales", DSB_F32, {1, OUT}}};
    float want[OUT * IN];
    char path[128];
    dsb_st_writer w;
    temp_dir t;
    for (int o = 0; o < OUT; o++) {
        for (int i = 0; i < IN; i++) {
            q[o][i] = (uint32_t)(5 * i + 3 * o + i / 7) & 7;
            want[o * IN + i] = ((float)q[o][i] - (o ? 0.0f : 4.0f)) * scales[o];
        }
        for (int i = 0; i < 10; i++) {
            words[0][o] |= q[o][i] << (3 * i);
            words[1][o] |= q[o][11 + i] << (3 * i + 1);
            words[2][o] |= q[o][22 + i] << (3 * i + 2);
        }
        words[0][o] |= q[o][10] << 30;
        words[1][o] |= (q[o][10] >> 2 & 1) | q[o][21] << 31;
        words[2][o] |= q[o][21] >> 1 & 3;
    }
    temp_make(&t);
    snprintf(path, sizeof path, "%s/model.safetensors", t.path);
    assert_int_equal(dsb_st_writer_open(&w, path, NULL), DSB_OK);
    for (int i = 0; i < 3; i++) assert_int_equal(dsb_st_writer_declare(&w, k_part[i].name, k_part[i].dtype, 2, k_part[i].shape, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_write(&w, words, sizeof words, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_write(&w, zeros, sizeof zeros, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_write(&w, scales, sizeof scales, NULL), DSB_OK);
    assert_int_equal(dsb_st_writer_finish(&w, NULL), DSB_OK);
    dsb_st_writer_close(&w);
    temp_text(&t, "quantize_config.json", "{\"bits\": 3, \"group_size\": -1, \"desc_act\": false}");
    same_linear(&t, "m", OUT, IN, want, "int3");
    temp_remove(&t);
}

static void test_stored__awq(void **state) {
    const as parts[] = {{"awq.qweight", "m.qweight", -1, 0, {0}}, {"awq.scales", "m.scales", -1, 0, {0}}, {"awq.qzeros", "m.qzeros", -1, 0, {0}}};
    temp_dir t;
    vector("awq.qweight");
    temp_make(&t);
    put(&t, parts, 3);
    temp_text(&t, "config.json", "{\"quantization_config\": {\"quant_method\": \"awq\", \"bits\": 4, \"group_size\": 32, \"version\": \"gemm\", \"zero_point\": true}}");
    same_transposed(&t, "awq.deq", "int4");
    temp_remove(&t);
}

/* The checkpoint stores the global scale's reciprocal, and compressed-tensors divides the block's scale by it first. */
static void test_stored__nvfp4(void **state) {
    static const char *const k_kind[] = {"normal", "outlier", "zerorow"};
    vector("nvfp4.normal.deq");
    for (int k = 0; k < 3; k++) {
        char packed[64], scale[64], global[64], deq[64];
        temp_dir t;
        snprintf(packed, sizeof packed, "nvfp4.%s.packed", k_kind[k]);
        snprintf(scale, sizeof scale, "nvfp4.%s.scale_e4m3", k_kind[k]);
        snprintf(global, sizeof global, "nvfp4.%s.global_scale", k_kind[k]);
        snprintf(deq, sizeof deq, "nvfp4.%s.deq", k_kind[k]);
        int64_t rows = vector(deq)->shape[0], cols = vector(deq)->shape[1];
        float *want = malloc((size_t)(rows * cols) * sizeof *want), g = floats(global)[0];
        assert_non_null(want);
        dsb_decode_nvfp4(vector(packed)->data, vector(scale)->data, g, (size_t)(rows * cols), want);
        same_floats(want, floats(deq), rows * cols);
        /* As stored: the file's "global scale" is here the factor itself, so that the values are code * (scale / factor). */
        for (int64_t i = 0; i < rows * cols; i++) want[i] = dsb_e2m1_value[vector(packed)->data[i / 2] >> i % 2 * 4 & 15] * (dsb_e4m3_to_f32(vector(scale)->data[i / 16]) / g);
        const as parts[] = {{packed, "m.weight_packed", -1, 0, {0}}, {scale, "m.weight_scale", DSB_FP8_E4M3, 0, {0}}, {global, "m.weight_global_scale", -1, 0, {0}}};
        temp_make(&t);
        put(&t, parts, 3);
        same_linear(&t, "m", rows, cols, want, "nvfp4");
        free(want);
        temp_remove(&t);
    }
}

static void test_stored__mxfp4_of_compressed_tensors(void **state) {
    const as parts[] = {{"mxfp4.normal.packed", "m.weight_packed", -1, 0, {0}}, {"mxfp4.normal.scale_e8m0", "m.weight_scale", -1, 0, {0}}};
    parts_give(parts, 64, 256, "mxfp4.normal.deq", "mxfp4");
}

/* float-quantized: E4M3 with a scale an output. */
static void test_stored__fp8_channels(void **state) {
    const as parts[] = {{"fp8.e4m3fn.odd.channel.q", "m.weight", DSB_FP8_E4M3, 0, {0}}, {"fp8.e4m3fn.odd.channel.scale", "m.weight_scale", -1, 0, {0}}};
    float *want = malloc(33 * 130 * sizeof *want);
    temp_dir t;
    assert_non_null(want);
    vector("fp8.e4m3fn.odd.channel.q");
    for (int i = 0; i < 33 * 130; i++) want[i] = floats("fp8.e4m3fn.decode")[vector("fp8.e4m3fn.odd.channel.q")->data[i]] * floats("fp8.e4m3fn.odd.channel.scale")[i / 130];
    temp_make(&t);
    put(&t, parts, 2);
    same_linear(&t, "m", 33, 130, want, "fp8_e4m3");
    free(want);
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stored__e8m0_and_e2m1),
        cmocka_unit_test(test_stored__fp8_blocks),
        cmocka_unit_test(test_stored__mxfp4_of_gpt_oss),
        cmocka_unit_test(test_stored__compressed_tensors),
        cmocka_unit_test(test_stored__gptq_zero_points_of_both_versions_and_reordered_inputs),
        cmocka_unit_test(test_stored__gptq_3_bits),
        cmocka_unit_test(test_stored__awq),
        cmocka_unit_test(test_stored__nvfp4),
        cmocka_unit_test(test_stored__mxfp4_of_compressed_tensors),
        cmocka_unit_test(test_stored__fp8_channels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
