/* Formats of raw codes: exact against the oracle's vectors, closed forms, and bounds that follow from the definitions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/blocks.h"
#include "base/ggml.h"
#include "engine/safetensors.h"
#include "quantizers/quantize.h"
#include "values.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
static const char k_vectors[] = "../shared/oracle/quant_vectors.safetensors";

static void quantize(dsb_qtensor *q, const char *format, int64_t group, const float *w, int64_t rows, int64_t cols) {
    dsb_err err = {0};
    const dsb_format *f = dsb_format_find(format);
    assert_non_null(f);
    if (dsb_quantize_rtn(q, f, group, false, w, rows, cols, &err)) fail_msg("%s", err.text);
}

static uint32_t random_state;
static float random_weight(void) { return bell(&random_state); }

static double square_error(const dsb_qtensor *q, const float *w) {
    int64_t n = q->rows * q->cols;
    double sum = 0;
    float *y = malloc((size_t)n * sizeof *y);
    dsb_dequantize(q, NULL, y);
    for (int64_t i = 0; i < n; i++) sum += ((double)y[i] - (double)w[i]) * ((double)y[i] - (double)w[i]);
    free(y);
    return sum;
}

/* ---- every format ---- */

static void test_codecs__bytes_are_those_of_bits_per_weight(void **state) {
    static const struct {
        const char *format;
        double bpw;
    } k_case[] = {{"nf4", 4.5}, {"mxfp4", 4.25}, {"mxfp8", 8.25}, {"q8_0", 8.5}, {"q4_0", 4.5}, {"q5_0", 5.5}, {"q2_K", 2.625}, {"q3_K", 3.4375}, {"q4_K", 4.5}, {"q5_K", 5.5}, {"q6_K", 6.5625}, {"iq4_nl", 4.5}};
    enum { ROWS = 3, COLS = 512, N = ROWS * COLS };
    float w[N];
    dsb_qtensor q;
    for (int i = 0; i < N; i++) w[i] = random_weight();
    for (int i = 0; i < COUNT(k_case); i++) {
        const dsb_format *f = dsb_format_find(k_case[i].format);
        quantize(&q, f->name, f->group, w, ROWS, COLS);
        assert_true(dsb_format_bpw(f) == k_case[i].bpw);
        assert_int_equal(q.stored_bytes * 8, k_case[i].bpw * N);
        dsb_qtensor_release(&q);
    }
    quantize(&q, "nvfp4", 16, w, ROWS, COLS);
    assert_int_equal(q.stored_bytes, N / 2 + N / 16 + 4);
    dsb_qtensor_release(&q);
    static const struct {
        int64_t group;
        size_t scales;
    } k_fp8[] = {{DSB_GROUP_TENSOR, 1}, {DSB_GROUP_CHANNEL, ROWS}, {128, 4}};
    for (int i = 0; i < COUNT(k_fp8); i++) {
        quantize(&q, "fp8_e4m3", k_fp8[i].group, w, ROWS, COLS);
        assert_int_equal(q.stored_bytes, N + 4 * k_fp8[i].scales);
        dsb_qtensor_release(&q);
    }
}

/* Zeros stay zeros, and what a format holds already is held exactly. */
static void test_codecs__zeros_and_own_values_stay(void **state) {
    enum { N = 512 };
    const dsb_format *rows;
    float w[N], once[N], zero[N] = {0};
    for (int i = 0; i < N; i++) w[i] = random_weight();
    for (int i = 0, n = dsb_format_list(&rows); i < n; i++) {
        dsb_qtensor q;
        if (!rows[i].codec) continue;
        quantize(&q, rows[i].name, rows[i].group, zero, 2, N / 2);
        assert_true(square_error(&q, zero) == 0);
        dsb_qtensor_release(&q);
        if (rows[i].block == 256 || strcmp(rows[i].name, "iq4_nl") == 0 || strcmp(rows[i].name, "nvfp4") == 0) continue; /* they search, or have two scales */
        quantize(&q, rows[i].name, rows[i].group, w, 2, N / 2);
        dsb_dequantize(&q, NULL, once);
        dsb_qtensor_release(&q);
        quantize(&q, rows[i].name, rows[i].group, once, 2, N / 2);
        if (rows[i].ggml == 0) assert_true(square_error(&q, once) <= 0x1p-44 * N); /* a scale's last place */
        dsb_qtensor_release(&q);
    }
}

static void test_codecs__results_do_not_depend_on_threads(void **state) {
    enum { ROWS = 130, COLS = 1024 };
    const dsb_format *rows;
    int threads = omp_get_max_threads();
    float *w = malloc(ROWS * COLS * sizeof *w);
    for (int i = 0; i < ROWS * COLS; i++) w[i] = random_weight();
    for (int i = 0, n = dsb_format_list(&rows); i < n; i++) {
        dsb_qtensor a, b;
        if (rows[i].is_float) continue;
        omp_set_num_threads(1);
        quantize(&a, rows[i].name, rows[i].group, w, ROWS, COLS);
        omp_set_num_threads(3);
        quantize(&b, rows[i].name, rows[i].group, w, ROWS, COLS);
        if (a.raw) assert_memory_equal(a.raw, b.raw, (size_t)(a.raw_rows * a.raw_cols));
        else assert_memory_equal(a.codes, b.codes, ROWS * COLS);
        dsb_qtensor_release(&a);
        dsb_qtensor_release(&b);
    }
    omp_set_num_threads(threads);
    free(w);
}

static void test_codecs__rows_that_do_not_divide_are_refused(void **state) {
    static const char *const k_format[] = {"mxfp4", "mxfp8", "nvfp4", "q8_0", "q4_K", "iq4_nl"};
    float w[40] = {1};
    for (int i = 0; i < COUNT(k_format); i++) {
        dsb_qtensor q;
        dsb_err err = {0};
        const dsb_format *f = dsb_format_find(k_format[i]);
        assert_false(dsb_format_divides(f, 40));
        assert_int_equal(dsb_quantize_rtn(&q, f, f->group, false, w, 1, 40, &err), DSB_EINPUT);
        assert_non_null(strstr(err.text, "rows of 40 weights don't split"));
    }
    assert_true(dsb_format_divides(dsb_format_find("nf4"), 40) && dsb_format_divides(dsb_format_find("fp8_e4m3"), 40));
}

static void test_codecs__groups_are_the_formats_own(void **state) {
    static const struct {
        const char *format;
        int64_t group;
        bool ok;
    } k_case[] = {{"fp8_e4m3", DSB_GROUP_TENSOR, true}, {"fp8_e5m2", DSB_GROUP_CHANNEL, true}, {"fp8_e4m3", 128, true}, {"fp8_e4m3", 64, false}, {"nf4", 48, true},
                  {"mxfp4", 32, true}, {"mxfp4", 16, false}, {"mxfp8", DSB_GROUP_CHANNEL, false}, {"nvfp4", 16, true}, {"q4_K", 32, false}, {"int4", 7, true}, {"bf16", 32, false}};
    for (int i = 0; i < COUNT(k_case); i++) assert_true(dsb_format_takes_group(dsb_format_find(k_case[i].format), k_case[i].group, NULL) == k_case[i].ok);
}

/* ---- bounds from the definitions ---- */

/* A code's relative error is at most 2^-4 (e4m3) or 2^-3 (e5m2) of the value; under the smallest normal number half its step of the scale. */
static void test_codecs__fp8_errors_stay_within_half_a_step(void **state) {
    enum { ROWS = 130, COLS = 140 };
    static const int64_t k_group[] = {DSB_GROUP_TENSOR, DSB_GROUP_CHANNEL, 128};
    float *w = malloc(ROWS * COLS * sizeof *w), *y = malloc(ROWS * COLS * sizeof *y);
    for (int i = 0; i < ROWS * COLS; i++) w[i] = i / COLS == 7 ? 0 : random_weight() * (float)(1 << i % 9);
    for (int e5m2 = 0; e5m2 < 2; e5m2++)
        for (int g = 0; g < COUNT(k_group); g++) {
            dsb_qtensor q;
            quantize(&q, e5m2 ? "fp8_e5m2" : "fp8_e4m3", k_group[g], w, ROWS, COLS);
            dsb_dequantize(&q, NULL, y);
            for (int i = 0; i < ROWS * COLS; i++) {
                int64_t r = i / COLS, c = i % COLS, at = k_group[g] == DSB_GROUP_TENSOR ? 0 : k_group[g] == 128 ? r / 128 * q.scale_cols + c / 128 : r;
                double step = ldexp((double)q.scales[at], e5m2 ? -17 : -10), part = fabs((double)w[i]) * (e5m2 ? 0x1p-3 : 0x1p-4);
                assert_true(fabs((double)y[i] - (double)w[i]) <= (step > part ? step : part) * (1 + 0x1p-20));
            }
            dsb_qtensor_release(&q);
        }
    free(w);
    free(y);
}

static void test_codecs__mx_scales_are_powers_of_two(void **state) {
    float w[64] = {6, 5, -0.25f, 0.75f, -5.1f}, y[64];
    dsb_qtensor q;
    w[32] = 0x1.8p-10f;
    quantize(&q, "mxfp4", 32, w, 1, 64);
    assert_true(q.scale_codes[0] == 127 && q.scale_codes[1] == 127 - 10 - 2);
    dsb_dequantize(&q, NULL, y);
    assert_true(y[0] == 6 && y[1] == 4 && y[2] == 0 && signbit(y[2]) && y[3] == 1 && y[4] == -6 && y[32] == w[32]); /* ties to the even code */
    dsb_qtensor_release(&q);
    quantize(&q, "mxfp8", 32, w, 1, 64);
    assert_true(q.scale_codes[0] == 127 + 2 - 8 && q.scale_codes[1] == 127 - 10 - 8);
    dsb_dequantize(&q, NULL, y);
    for (int i = 0; i < 64; i++) assert_true(fabsf(y[i] - w[i]) <= fabsf(w[i]) * 0x1p-4f);
    dsb_qtensor_release(&q);
}

/* A uniform grid over a sub-block's own range, with scales of finite precision above it, is one thing the search may choose. */
static void test_codecs__searched_blocks_beat_plain_rounding(void **state) {
    enum { ROWS = 32, COLS = 512, N = ROWS * COLS };
    static const struct {
        const char *format, *plain;
        int64_t group;
    } k_case[] = {{"q2_K", "int2", 16}, {"q3_K", "int3", 16}, {"q4_K", "int4", 32}, {"iq4_nl", "q4_0", 32}};
    float *w = malloc(N * sizeof *w);
    for (int i = 0; i < N; i++) w[i] = random_weight();
    for (int i = 0; i < COUNT(k_case); i++) {
        dsb_qtensor a, b;
        quantize(&a, k_case[i].format, dsb_format_find(k_case[i].format)->group, w, ROWS, COLS);
        quantize(&b, k_case[i].plain, k_case[i].group, w, ROWS, COLS);
        assert_true(square_error(&a, w) < square_error(&b, w));
        dsb_qtensor_release(&a);
        dsb_qtensor_release(&b);
    }
    free(w);
}

/* Blocks that hold one value, one outlier, or values that are almost nothing come out finite and close. */
static void test_codecs__odd_blocks(void **state) {
    static const char *const k_format[] = {"q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_nl", "q8_0", "q4_0", "q5_0", "mxfp4", "mxfp8", "nvfp4", "nf4"};
    float w[256];
    for (int kind = 0; kind < 5; kind++) {
        double sum = 0;
        for (int i = 0; i < 256; i++) {
            w[i] = kind == 0 ? -0.3f : kind == 1 ? (i == 77 ? 1000.0f : 0) : kind == 2 ? 1e-42f * (float)(i - 128) : kind == 3 ? 0.5f + 0.001f * (float)(i % 3) : (i < 128 ? 0 : (float)(i % 5) - 2);
            sum += (double)w[i] * (double)w[i];
        }
        for (int f = 0; f < COUNT(k_format); f++) {
            dsb_qtensor q;
            quantize(&q, k_format[f], dsb_format_find(k_format[f])->group, w, 1, 256);
            double e = square_error(&q, w);
            assert_true(isfinite(e) && e <= sum); /* codes of 0 leave as much */
            if (kind < 2) assert_true(e <= sum / 4); /* one value alone: within a half of the largest step (E2M1: 4 to 6) */
            dsb_qtensor_release(&q);
        }
    }
}

/* Scales beyond f16's range stop at its end. */
static void test_codecs__k_formats_stay_finite(void **state) {
    static const char *const k_format[] = {"q2_K", "q3_K", "q4_K", "q5_K", "q6_K"};
    float w[256] = {0};
    for (int i = 0; i < 256; i += 3) w[i] = i % 2 ? 3e9f : -4e9f;
    for (int f = 0; f < COUNT(k_format); f++) {
        dsb_qtensor q;
        quantize(&q, k_format[f], 256, w, 1, 256);
        double e = square_error(&q, w);
        assert_true(isfinite(e) && e < 86 * 16e18);
        dsb_qtensor_release(&q);
    }
}

/* What calibration says of columns: uneven ones, or all alike. */
static double weighed_error(const dsb_qtensor *q, const float *w, const double *importance) {
    int64_t n = q->rows * q->cols;
    double sum = 0;
    float *y = malloc((size_t)n * sizeof *y);
    dsb_dequantize(q, NULL, y);
    for (int64_t i = 0; i < n; i++) sum += importance[i % q->cols] * ((double)y[i] - (double)w[i]) * ((double)y[i] - (double)w[i]);
    free(y);
    return sum;
}

/* The search minimises the very sum that is compared; alike, it is the plain one (q4_0 and q5_0 don't search without). */
static void test_codecs__importance_of_columns_lessens_the_weighed_error(void **state) {
    enum { ROWS = 24, COLS = 512, N = ROWS * COLS };
    static const char *const k_format[] = {"q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "iq4_nl", "q4_0", "q5_0"};
    float *w = malloc(N * sizeof *w);
    double uneven[COLS], alike[COLS];
    for (int i = 0; i < N; i++) w[i] = random_weight();
    for (int i = 0; i < COLS; i++) {
        uneven[i] = i % 37 == 0 ? 100 : i % 5 == 0 ? 0 : 0.1 + fabs((double)random_weight());
        alike[i] = 3;
    }
    for (int i = 0; i < COUNT(k_format); i++) {
        dsb_qtensor plain, a, b;
        const dsb_format *f = dsb_format_find(k_format[i]);
        quantize(&plain, f->name, f->group, w, ROWS, COLS);
        assert_int_equal(dsb_quantize_important(&a, f, f->group, uneven, w, ROWS, COLS, NULL), DSB_OK);
        assert_int_equal(dsb_quantize_important(&b, f, f->group, alike, w, ROWS, COLS, NULL), DSB_OK);
        assert_true(weighed_error(&a, w, uneven) < weighed_error(&plain, w, uneven));
        if (i < 6) assert_memory_equal(b.raw, plain.raw, (size_t)(plain.raw_rows * plain.raw_cols));
        else assert_true(square_error(&b, w) <= square_error(&plain, w));
        dsb_qtensor_release(&plain);
        dsb_qtensor_release(&a);
        dsb_qtensor_release(&b);
    }
    free(w);
}

/* ---- the oracle ---- */

static const dsb_st_tensor *part(const dsb_st_file *f, const char *family, const char *matrix, const char *name) {
    char full[160];
    snprintf(full, sizeof full, "%s.%s.%s", family, matrix, name);
    const dsb_st_tensor *t = dsb_st_find(f, full);
    if (!t) fail_msg("%s is not there", full);
    return t;
}

static void same(const dsb_st_tensor *t, const void *found, size_t bytes) {
    assert_int_equal(t->bytes, bytes);
    if (memcmp(t->data, found, bytes) != 0) fail_msg("%s differs", t->name);
}

static void same_values(const dsb_st_tensor *t, const dsb_qtensor *q) {
    float *y = malloc(t->bytes);
    dsb_dequantize(q, NULL, y);
    same(t, y, (size_t)(q->rows * q->cols) * sizeof *y);
    free(y);
}

static void oracle_open(dsb_st_file *f) {
    dsb_err err = {0};
    if (access(k_vectors, R_OK) != 0) skip();
    if (dsb_st_open(f, k_vectors, &err)) fail_msg("%s", err.text);
}

static void oracle_quantize(const dsb_st_file *f, dsb_qtensor *q, const char *format, int64_t group, const char *matrix) {
    char name[64];
    snprintf(name, sizeof name, "mat.%s", matrix);
    const dsb_st_tensor *t = dsb_st_find(f, name);
    float *w = malloc(t->bytes);
    memcpy(w, t->data, t->bytes);
    quantize(q, format, group, w, t->shape[0], t->shape[1]);
    free(w);
}

static void test_codecs__oracle_fp8_is_exact(void **state) {
    static const char *const k_matrix[] = {"normal", "odd", "outlier", "zerorow", "extreme"};
    dsb_st_file f;
    dsb_qtensor q;
    oracle_open(&f);
    for (int i = 0; i < 2 * COUNT(k_matrix); i++) {
        const char *family = i % 2 ? "fp8.e5m2" : "fp8.e4m3fn", *m = k_matrix[i / 2];
        oracle_quantize(&f, &q, i % 2 ? "fp8_e5m2" : "fp8_e4m3", DSB_GROUP_CHANNEL, m);
        same(part(&f, family, m, "channel.q"), q.raw, (size_t)(q.rows * q.cols));
        same(part(&f, family, m, "channel.scale"), q.scales, (size_t)q.rows * 4);
        dsb_qtensor_release(&q);
    }
    const dsb_st_tensor *t = dsb_st_find(&f, "fp8_block128.w");
    quantize(&q, "fp8_e4m3", 128, (const float *)(const void *)t->data, t->shape[0], t->shape[1]);
    same(dsb_st_find(&f, "fp8_block128.q"), q.raw, (size_t)(q.rows * q.cols));
    same(dsb_st_find(&f, "fp8_block128.scale_inv"), q.scales, 16);
    same_values(dsb_st_find(&f, "fp8_block128.deq"), &q);
    dsb_qtensor_release(&q);
    dsb_st_close(&f);
}

static void test_codecs__oracle_fp4_is_exact(void **state) {
    static const char *const k_matrix[] = {"normal", "outlier", "zerorow"};
    dsb_st_file f;
    dsb_qtensor q;
    oracle_open(&f);
    for (int i = 0; i < COUNT(k_matrix); i++) {
        const char *m = k_matrix[i];
        oracle_quantize(&f, &q, "mxfp4", 32, m);
        same(part(&f, "mxfp4", m, "packed"), q.raw, (size_t)(q.raw_rows * q.raw_cols));
        same(part(&f, "mxfp4", m, "scale_e8m0"), q.scale_codes, (size_t)(q.scale_rows * q.scale_cols));
        same_values(part(&f, "mxfp4", m, "deq"), &q);
        dsb_qtensor_release(&q);
        oracle_quantize(&f, &q, "nvfp4", 16, m);
        same(part(&f, "nvfp4", m, "packed"), q.raw, (size_t)(q.raw_rows * q.raw_cols));
        same(part(&f, "nvfp4", m, "scale_e4m3"), q.scale_codes, (size_t)(q.scale_rows * q.scale_cols));
        same(part(&f, "nvfp4", m, "global_scale"), &q.global, 4);
        same_values(part(&f, "nvfp4", m, "deq"), &q);
        dsb_qtensor_release(&q);
    }
    /* Of subnormal rows the exact OCP arithmetic: torchao bounds its divisor from below. */
    oracle_quantize(&f, &q, "mxfp4", 32, "extreme");
    same(part(&f, "mxfp4", "extreme", "spec.scale_e8m0"), q.scale_codes, (size_t)(q.scale_rows * q.scale_cols));
    const dsb_st_tensor *codes = part(&f, "mxfp4", "extreme", "spec.codes");
    for (int64_t i = 0; i < q.rows * q.cols; i++) assert_int_equal(q.raw[i / 2] >> i % 2 * 4 & 15, codes->data[i]);
    dsb_qtensor_release(&q);
    dsb_st_close(&f);
}

static void test_codecs__oracle_nf4_is_exact(void **state) {
    static const char *const k_matrix[] = {"normal", "outlier", "zerorow", "odd"};
    dsb_st_file f;
    oracle_open(&f);
    same(dsb_st_find(&f, "nf4.table"), dsb_nf4_value, sizeof dsb_nf4_value);
    for (int i = 0; i < COUNT(k_matrix); i++) {
        dsb_qtensor q;
        oracle_quantize(&f, &q, "nf4", 64, k_matrix[i]);
        same(part(&f, "nf4", k_matrix[i], "packed"), q.raw, (size_t)q.raw_cols);
        same(part(&f, "nf4", k_matrix[i], "absmax"), q.scales, (size_t)q.scale_rows * 4);
        same_values(part(&f, "nf4", k_matrix[i], "deq"), &q);
        dsb_qtensor_release(&q);
    }
    dsb_st_close(&f);
}

static void test_codecs__oracle_gguf_is_exact(void **state) {
    static const char *const k_format[] = {"q8_0", "q4_0", "q5_0"}, *const k_family[] = {"gguf_quantize.Q8_0", "gguf_quantize.Q4_0", "gguf_quantize.Q5_0"}, *const k_matrix[] = {"normal", "outlier", "zerorow"};
    dsb_st_file f;
    oracle_open(&f);
    for (int i = 0; i < COUNT(k_format) * COUNT(k_matrix); i++) {
        dsb_qtensor q;
        oracle_quantize(&f, &q, k_format[i / 3], 32, k_matrix[i % 3]);
        same(part(&f, k_family[i / 3], k_matrix[i % 3], "bytes"), q.raw, (size_t)(q.raw_rows * q.raw_cols));
        dsb_qtensor_release(&q);
    }
    dsb_st_close(&f);
}

/* Squared errors that llama.cpp's own quantizers (ggml_quantize_chunk, no importance matrix) leave on the oracle's matrices. */
static void test_codecs__k_formats_leave_no_more_than_llama_cpp(void **state) {
    static const struct {
        const char *format;
        double normal, outlier;
    } k_theirs[] = {{"q2_K", 3.51995, 5.51831}, {"q3_K", 0.906409, 0.854524}, {"q4_K", 0.206425, 0.567605}, {"q5_K", 0.0523094, 0.283075}, {"q6_K", 0.0125849, 0.129358}, {"iq4_nl", 0.230562, 0.826061}};
    dsb_st_file f;
    oracle_open(&f);
    for (int i = 0; i < COUNT(k_theirs); i++)
        for (int m = 0; m < 2; m++) {
            dsb_qtensor q;
            const dsb_st_tensor *t = dsb_st_find(&f, m ? "mat.outlier" : "mat.normal");
            oracle_quantize(&f, &q, k_theirs[i].format, dsb_format_find(k_theirs[i].format)->group, m ? "outlier" : "normal");
            assert_true(square_error(&q, (const float *)(const void *)t->data) <= (m ? k_theirs[i].outlier : k_theirs[i].normal));
            dsb_qtensor_release(&q);
        }
    dsb_st_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codecs__bytes_are_those_of_bits_per_weight),
        cmocka_unit_test(test_codecs__zeros_and_own_values_stay),
        cmocka_unit_test(test_codecs__results_do_not_depend_on_threads),
        cmocka_unit_test(test_codecs__rows_that_do_not_divide_are_refused),
        cmocka_unit_test(test_codecs__groups_are_the_formats_own),
        cmocka_unit_test(test_codecs__fp8_errors_stay_within_half_a_step),
        cmocka_unit_test(test_codecs__mx_scales_are_powers_of_two),
        cmocka_unit_test(test_codecs__searched_blocks_beat_plain_rounding),
        cmocka_unit_test(test_codecs__odd_blocks),
        cmocka_unit_test(test_codecs__k_formats_stay_finite),
        cmocka_unit_test(test_codecs__importance_of_columns_lessens_the_weighed_error),
        cmocka_unit_test(test_codecs__oracle_fp8_is_exact),
        cmocka_unit_test(test_codecs__oracle_fp4_is_exact),
        cmocka_unit_test(test_codecs__oracle_nf4_is_exact),
        cmocka_unit_test(test_codecs__oracle_gguf_is_exact),
        cmocka_unit_test(test_codecs__k_formats_leave_no_more_than_llama_cpp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
