/* Integer and float formats: closed forms, bounds that hold for any matrix, and the oracle's vectors where they are there. */
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

#include "base/format.h"
#include "engine/checkpoint.h"
#include "engine/safetensors_write.h"
#include "kernels/backend.h"
#include "quantizers/observer.h"
#include "quantizers/quantize.h"

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))
static const char k_vectors[] = "../shared/oracle/quant_vectors.safetensors";

static void quantize(dsb_qtensor *q, const char *format, int64_t group, dsb_zero affine, const float *w, int64_t rows, int64_t cols) {
    dsb_err err = {0};
    if (dsb_quantize_rtn(q, dsb_format_find(format), group, affine, w, rows, cols, &err)) fail_msg("%s", err.text);
}

/* Codes, scales and (affine) zeros of one row of cols weights. */
static void row_is(const char *format, int64_t group, bool affine, const float *w, int64_t cols, const int8_t *codes, const float *scales, const float *zeros) {
    dsb_qtensor q;
    quantize(&q, format, group, affine, w, 1, cols);
    assert_memory_equal(q.codes, codes, (size_t)cols);
    assert_memory_equal(q.scales, scales, (size_t)q.n_group * sizeof *scales);
    if (affine) assert_memory_equal(q.zeros, zeros, (size_t)q.n_group * sizeof *zeros);
    else assert_null(q.zeros);
    dsb_qtensor_release(&q);
}
#define F(...) ((const float[]){__VA_ARGS__})
#define C(...) ((const int8_t[]){__VA_ARGS__})

static void test_quantize__symmetric_codes_round_ties_to_even(void **state) {
    row_is("int8", DSB_GROUP_CHANNEL, false, F(127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -127), 7, C(127, 0, 2, 2, 0, -2, -127), F(1), NULL);
    row_is("int4", DSB_GROUP_CHANNEL, false, F(-7, 0.5f, 1.5f, 2.5f, 6.5f), 5, C(-7, 0, 2, 2, 6), F(1), NULL);
    row_is("int3", DSB_GROUP_CHANNEL, false, F(1.5f, 0.25f, 0.75f, -1.5f), 4, C(3, 0, 2, -3), F(0.5f), NULL);
    row_is("int2", DSB_GROUP_CHANNEL, false, F(4, 2, -2, -2.0000002f, -4), 5, C(1, 0, 0, -1, -1), F(4), NULL);
}

static void test_quantize__last_group_of_a_row_may_be_short(void **state) {
    row_is("int4", 3, false, F(7, 1, 0, 0, 14, 2, 0, 0, 0, -21), 10, C(7, 1, 0, 0, 7, 1, 0, 0, 0, -7), F(1, 2, 0, 3), NULL);
    row_is("int8", 3, true, F(0, 255, 1, -510), 4, C(-128, 127, -127, -128), F(1, 2), F(-128, 127));
    row_is("int8", 100, false, F(127, 1), 2, C(127, 1), F(1), NULL); /* a group longer than the row is a channel */
}

static void test_quantize__one_scale_a_tensor_is_repeated(void **state) {
    static const float w[] = {1, 2, 3, -254, 0, 4};
    static const int8_t codes[] = {0, 1, 2, -127, 0, 2}; /* 1/2 and 3/2 are ties */
    dsb_qtensor q;
    quantize(&q, "int8", DSB_GROUP_TENSOR, false, w, 2, 3);
    assert_memory_equal(q.codes, codes, sizeof codes);
    assert_true(q.n_group == 1 && q.scales[0] == 2 && q.scales[1] == 2);
    dsb_qtensor_release(&q);
}

static void test_quantize__affine_spans_the_range_and_holds_zero(void **state) {
    row_is("int4", DSB_GROUP_CHANNEL, true, F(-7, 8, 0, 0.5f, 1.5f), 5, C(-8, 7, -1, -1, 1), F(1), F(-1));
    row_is("int3", DSB_GROUP_CHANNEL, true, F(-3, 4, 0), 3, C(-4, 3, -1), F(1), F(-1));
    row_is("int2", DSB_GROUP_CHANNEL, true, F(3, 2, 1), 3, C(1, 0, -1), F(1), F(-2));                  /* positive only: zero is the lowest code */
    row_is("int2", DSB_GROUP_CHANNEL, true, F(-3, -2, 0), 3, C(-2, -1, 1), F(1), F(1));                /* negative only: the highest */
    row_is("int8", DSB_GROUP_CHANNEL, true, F(0, 0), 2, C(-128, -128), F(FLT_MIN), F(-128));           /* as torchao: never a scale of 0 */
    row_is("int8", DSB_GROUP_CHANNEL, true, F(-FLT_MAX, FLT_MAX), 2, C(-128, 127), F(FLT_MAX / 255 * 2), F(0)); /* the range overflows, its 255th doesn't */
}

static void test_quantize__extremes(void **state) {
    row_is("int8", DSB_GROUP_CHANNEL, false, F(0, -0.0f), 2, C(0, 0), F(0), NULL);
    row_is("int8", DSB_GROUP_CHANNEL, false, F(1e-45f, -1e-45f), 2, C(0, 0), F(0), NULL);              /* the scale underflows */
    row_is("int8", DSB_GROUP_CHANNEL, false, F(177e-45f * 1.40129846f, 0), 2, C(127, 0), F(1e-45f), NULL); /* a subnormal scale is coarse */
    row_is("int4", DSB_GROUP_CHANNEL, false, F(FLT_MAX, -FLT_MAX), 2, C(7, -7), F(FLT_MAX / 7), NULL);
}

static uint32_t random_state;
static float random_weight(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return ldexpf((float)((int32_t)(random_state >> 8) - (1 << 23)), -25);
}

/* |w − dequantized| ≤ half a step, and a step more where a zero point was rounded; the division and the product of f32 add
 * a part of 2^-22 of the value itself. Codes stay within their range. */
static void check_bounds(const dsb_qtensor *q, const float *w) {
    int half = 1 << ((int)q->format->bits - 1), least = q->affine ? -half : -q->format->qmax, most = q->affine ? half - 1 : q->format->qmax;
    float *back = malloc((size_t)(q->rows * q->cols) * sizeof *back);
    dsb_dequantize(q, NULL, back);
    for (int64_t i = 0; i < q->rows * q->cols; i++) {
        double scale = (double)q->scales[i / q->cols * q->n_group + i % q->cols / q->group];
        assert_in_range(q->codes[i] + half, least + half, most + half);
        assert_true(fabs((double)w[i] - (double)back[i]) <= (q->affine ? 1.0 : 0.5) * scale + fabs((double)w[i]) * 0x1p-22);
        if (w[i] == 0) assert_true(back[i] == 0);
    }
    free(back);
}

static void test_quantize__errors_stay_within_half_a_step(void **state) {
    enum { ROWS = 5, COLS = 67 };
    static const char *const k_format[] = {"int8", "int4", "int3", "int2"};
    static const int64_t k_group[] = {DSB_GROUP_TENSOR, DSB_GROUP_CHANNEL, 1, 3, 32, 64};
    float w[ROWS * COLS];
    random_state = 3;
    for (int i = 0; i < ROWS * COLS; i++) w[i] = i / COLS == 2 || i % 7 == 0 ? 0 : random_weight() * (float)(1 << i % 5); /* row 2 is zero */
    for (int f = 0; f < COUNT(k_format); f++)
        for (int g = 0; g < COUNT(k_group); g++)
            for (int affine = 0; affine < 2; affine++) {
                dsb_qtensor q;
                quantize(&q, k_format[f], k_group[g], affine, w, ROWS, COLS);
                check_bounds(&q, w);
                dsb_qtensor_release(&q);
            }
}

/* Codes that are quantized again from their own values stay: what a checkpoint holds is a fixed point. */
static void test_quantize__quantizing_twice_changes_nothing(void **state) {
    enum { COLS = 64 };
    static const char *const k_format[] = {"int8", "int4", "int3", "int2"};
    float w[COLS], once[COLS], twice[COLS];
    for (int i = 0; i < COLS; i++) w[i] = random_weight();
    for (int f = 0; f < COUNT(k_format); f++) {
        dsb_qtensor a, b;
        quantize(&a, k_format[f], 32, false, w, 1, COLS);
        dsb_dequantize(&a, NULL, once);
        quantize(&b, k_format[f], 32, false, once, 1, COLS);
        dsb_dequantize(&b, NULL, twice);
        assert_memory_equal(a.codes, b.codes, COLS);
        dsb_qtensor_release(&a);
        dsb_qtensor_release(&b);
    }
}

static double square_error(const char *format, const char *algorithm, int64_t group, bool affine, const float *w, int64_t rows, int64_t cols) {
    dsb_qtensor q;
    dsb_err err = {0};
    double sum = 0;
    float *y = malloc((size_t)(rows * cols) * sizeof *y);
    if (dsb_quantize(&q, dsb_format_find(format), dsb_algorithm_find(algorithm), group, affine, w, rows, cols, &err)) fail_msg("%s", err.text);
    dsb_dequantize(&q, NULL, y);
    for (int64_t i = 0; i < rows * cols; i++) sum += ((double)y[i] - (double)w[i]) * ((double)y[i] - (double)w[i]);
    dsb_qtensor_release(&q);
    free(y);
    return sum;
}

/* The whole range is the first that the search tries: it never does worse, but for the last place of the error's own sum. */
static void test_quantize__the_mse_range_is_never_worse(void **state) {
    enum { ROWS = 8, COLS = 67 };
    static const char *const k_format[] = {"int8", "int4", "int3", "int2"};
    static const int64_t k_group[] = {DSB_GROUP_TENSOR, DSB_GROUP_CHANNEL, 32};
    float w[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++) w[i] = i / COLS == 2 ? 0 : random_weight() * random_weight() + (i / COLS == 4 ? 0.3f : 0);
    for (int f = 0; f < COUNT(k_format); f++)
        for (int g = 0; g < COUNT(k_group); g++)
            for (int affine = 0; affine < 2; affine++) {
                double whole = square_error(k_format[f], "rtn", k_group[g], affine, w, ROWS, COLS), least = square_error(k_format[f], "rtn-mse", k_group[g], affine, w, ROWS, COLS);
                assert_true(least <= whole * (1 + 1e-5));
                if (f > 0 && g < 2 && !affine) assert_true(least < whole);
            }
    static const float one[] = {1, 1, 1, 1};
    assert_true(square_error("int4", "rtn-mse", DSB_GROUP_CHANNEL, false, one, 1, 4) == 0);
}

static void test_quantize__percentile_leaves_out_the_thousandth(void **state) {
    enum { N = 2000 };
    float w[N];
    dsb_qtensor q;
    for (int i = 0; i < N; i++) w[i] = (float)(i % 2 ? -1 : 1) * (float)(i < 1990 ? 127 : 200 + i);
    assert_int_equal(dsb_quantize(&q, dsb_format_find("int8"), dsb_algorithm_find("rtn-percentile"), DSB_GROUP_CHANNEL, false, w, 1, N, NULL), DSB_OK);
    assert_true(q.scales[0] == 2197.0f / 127); /* the two largest, 2199 and 2198, are cut */
    assert_int_equal(q.codes[N - 1], -127);
    dsb_qtensor_release(&q);
    assert_int_equal(dsb_quantize(&q, dsb_format_find("int8"), dsb_algorithm_find("rtn-percentile"), DSB_GROUP_CHANNEL, true, w, 1, N, NULL), DSB_OK);
    assert_true(q.scales[0] == (2194.0f + 2195.0f) / 255); /* two on either side: 2198, 2196 and 2199, 2197 */
    dsb_qtensor_release(&q);
    assert_int_equal(dsb_quantize(&q, dsb_format_find("int8"), dsb_algorithm_find("rtn-percentile"), 500, false, w, 1, N, NULL), DSB_OK);
    assert_true(q.scales[3] == 2199.0f / 127); /* a group under 1000 keeps all */
    dsb_qtensor_release(&q);
}

/* The range is the calibrator's of the whole matrix, its groups' own where that is less; one range a tensor. */
static void test_quantize__the_kl_range_is_the_calibrators(void **state) {
    enum { ROWS = 40, COLS = 130, G = 32, GROUPS = 5 };
    static const char *const k_format[] = {"int8", "int4"};
    float w[ROWS * COLS], top = 0;
    int cut = 0;
    uint64_t bins[DSB_BINS] = {0};
    for (int i = 0; i < ROWS * COLS; i++) w[i] = random_weight() * random_weight() * random_weight();
    for (int i = 0; i < ROWS * COLS; i++) top = fmaxf(top, fabsf(w[i]));
    dsb_backend_cpu(NULL)->histogram(w, ROWS * COLS, bins);
    dsb_range_observer o = {.absmax = top, .n_token = 1, .bins = bins};
    for (int f = 0; f < 2; f++) {
        const dsb_format *format = dsb_format_find(k_format[f]);
        float most = (float)dsb_calibrated_range(&o, DSB_CAL_KL, 100, format->qmax);
        dsb_qtensor q;
        assert_int_equal(dsb_quantize(&q, format, dsb_algorithm_find("rtn-kl"), G, false, w, ROWS, COLS, NULL), DSB_OK);
        for (int k = 0; k < ROWS * GROUPS; k++) {
            float own = 0;
            for (int i = 0; i < G && k % GROUPS * G + i < COLS; i++) own = fmaxf(own, fabsf(w[k / GROUPS * COLS + k % GROUPS * G + i]));
            assert_true(q.scales[k] == fminf(own, most) / (float)format->qmax);
            cut += own > most;
        }
        dsb_qtensor_release(&q);
        assert_int_equal(dsb_quantize(&q, format, dsb_algorithm_find("rtn-kl"), DSB_GROUP_TENSOR, false, w, ROWS, COLS, NULL), DSB_OK);
        assert_true(q.scales[0] == most / (float)format->qmax);
        dsb_qtensor_release(&q);
        assert_int_equal(dsb_quantize(&q, format, dsb_algorithm_find("rtn-kl"), DSB_GROUP_TENSOR, true, w, ROWS, COLS, NULL), DSB_OK);
        assert_true(q.scales[0] <= 2 * most / (float)(2 * format->qmax + 1) * (1 + 0x1p-23f));
        dsb_qtensor_release(&q);
    }
    assert_in_range(cut, 1, 2 * ROWS * GROUPS - 1);
    static const float none[4] = {0};
    assert_true(square_error("int4", "rtn-kl", DSB_GROUP_TENSOR, false, none, 1, 4) == 0);
}

static void test_quantize__ranges_do_not_depend_on_threads(void **state) {
    enum { ROWS = 300, COLS = 250 };
    static const char *const k_algorithm[] = {"rtn", "rtn-percentile", "rtn-mse", "rtn-kl"};
    static float w[ROWS * COLS];
    int threads = omp_get_max_threads();
    for (int i = 0; i < ROWS * COLS; i++) w[i] = random_weight() * random_weight();
    for (int a = 0; a < COUNT(k_algorithm); a++)
        for (int64_t group = DSB_GROUP_TENSOR; group <= 32; group += 33) {
            dsb_qtensor q[2];
            for (int k = 0; k < 2; k++) {
                omp_set_num_threads(k ? 3 : 1);
                assert_int_equal(dsb_quantize(&q[k], dsb_format_find("int4"), dsb_algorithm_find(k_algorithm[a]), group, true, w, ROWS, COLS, NULL), DSB_OK);
            }
            assert_memory_equal(q[0].codes, q[1].codes, ROWS * COLS);
            assert_memory_equal(q[0].scales, q[1].scales, (size_t)(ROWS * q[0].n_group) * sizeof *q[0].scales);
            for (int k = 0; k < 2; k++) dsb_qtensor_release(&q[k]);
        }
    omp_set_num_threads(threads);
}

static void test_quantize__stored_bytes_count_codes_scales_and_zeros(void **state) {
    static const struct {
        const char *format;
        int64_t group;
        dsb_zero affine;
        size_t bits; /* of 3 x 10 */
    } k_case[] = {
        {"int8", DSB_GROUP_CHANNEL, false, 30 * 8 + 3 * 32}, {"int8", DSB_GROUP_TENSOR, false, 30 * 8 + 32}, {"int4", 4, false, 30 * 4 + 9 * 32},
        {"int4", 4, DSB_ZERO_CODE, 30 * 4 + 9 * (32 + 4)},            {"int3", 10, false, 30 * 3 + 3 * 32},           {"int2", DSB_GROUP_CHANNEL, true, 30 * 2 + 3 * (32 + 2)},
        {"int4", 4, DSB_ZERO_REAL, 30 * 4 + 9 * (32 + 32)}, {"f32", DSB_GROUP_CHANNEL, false, 30 * 32},          {"bf16", DSB_GROUP_CHANNEL, false, 30 * 16},
    };
    float w[30];
    for (int i = 0; i < 30; i++) w[i] = random_weight();
    for (int i = 0; i < COUNT(k_case); i++) {
        dsb_qtensor q;
        quantize(&q, k_case[i].format, k_case[i].group, k_case[i].affine, w, 3, 10);
        assert_int_equal(q.stored_bytes, (k_case[i].bits + 7) / 8);
        dsb_qtensor_release(&q);
    }
}

static void test_quantize__float_formats_round_in_place(void **state) {
    static const float w[] = {1.00390625f, 70000, 1e-45f, -3}, bf16[] = {1, 70144, 0, -3}, f16[] = {1.00390625f, INFINITY, 0, -3};
    float y[4];
    dsb_qtensor q;
    static const struct {
        const char *format;
        const float *want;
    } k_case[] = {{"f32", w}, {"bf16", bf16}, {"f16", f16}};
    for (int i = 0; i < COUNT(k_case); i++) {
        memcpy(y, w, sizeof y);
        quantize(&q, k_case[i].format, DSB_GROUP_CHANNEL, false, y, 1, 4);
        assert_null(q.codes);
        dsb_dequantize(&q, y, y);
        assert_memory_equal(y, k_case[i].want, sizeof y);
        dsb_qtensor_release(&q);
    }
}

static void test_quantize__bad_weights_are_named(void **state) {
    float w[6] = {1, 2, 3, 4, NAN, 6};
    dsb_qtensor q;
    dsb_err err = {0};
    assert_int_equal(dsb_quantize_rtn(&q, dsb_format_find("int8"), DSB_GROUP_CHANNEL, false, w, 2, 3, &err), DSB_ENONFINITE);
    assert_non_null(strstr(err.text, "element (1, 1) of (2, 3) is NaN"));
    w[4] = -INFINITY;
    assert_int_equal(dsb_quantize_rtn(&q, dsb_format_find("int4"), 32, true, w, 2, 3, &err), DSB_ENONFINITE);
    assert_non_null(strstr(err.text, "infinite"));
    assert_null(dsb_format_find("int5"));
}

/* ---- the oracle ---- */

static const dsb_st_tensor *vector(const dsb_st_file *f, const char *base, const char *part) {
    char name[160];
    snprintf(name, sizeof name, "%s.%s", base, part);
    return dsb_st_find(f, name);
}

/* The scales of a result as the vectors hold them: one, or one a row and group. */
static void same_parts(const dsb_st_file *f, const char *base, const dsb_qtensor *q, bool one_scale, const char *zeros) {
    int64_t n = q->rows * q->cols, n_scale = one_scale ? 1 : q->rows * q->n_group;
    int half = 1 << ((int)q->format->bits - 1), bad = 0;
    const dsb_st_tensor *codes = vector(f, base, "q"), *scale = vector(f, base, "scale"), *zero = zeros ? vector(f, base, zeros) : NULL, *deq = vector(f, base, "deq");
    assert_non_null(codes);
    assert_non_null(scale);
    assert_int_equal(codes->bytes, n);
    assert_int_equal(scale->bytes, n_scale * 4);
    for (int64_t i = 0; i < n; i++) bad += (uint8_t)(q->codes[i] + (q->affine ? half : 0)) != codes->data[i];
    bad += memcmp(q->scales, scale->data, scale->bytes) != 0;
    for (int64_t i = 0; zero && i < n_scale; i++) {
        int32_t z;
        memcpy(&z, zero->data + 4 * i, 4);
        bad += q->zeros[i] + half != z;
    }
    if (deq) {
        float *back = malloc((size_t)n * sizeof *back);
        dsb_dequantize(q, NULL, back);
        bad += memcmp(back, deq->data, deq->bytes) != 0;
        free(back);
    }
    if (bad) fail_msg("%s: %d differences", base, bad);
}

/* int8sym.MATRIX.GROUP and affine_u8/u4.MATRIX.GROUP; returns whether the vector is one of these. */
static bool check_vector(const dsb_st_file *f, const char *name) {
    char family[32], matrix[32], group[32], base[128], input[64];
    if (sscanf(name, "%31[^.].%31[^.].%31[^.].q", family, matrix, group) != 3) return false;
    bool affine = strncmp(family, "affine_u", 8) == 0;
    if ((!affine && strcmp(family, "int8sym") != 0) || strcmp(name + strlen(name) - 2, ".q") != 0) return false;
    snprintf(base, sizeof base, "%s.%s.%s", family, matrix, group);
    snprintf(input, sizeof input, "mat.%s", matrix);
    const dsb_st_tensor *w = dsb_st_find(f, input);
    assert_non_null(w);
    int64_t g = strcmp(group, "tensor") == 0 ? DSB_GROUP_TENSOR : strcmp(group, "channel") == 0 ? DSB_GROUP_CHANNEL : strtol(group + 5, NULL, 10);
    float *x = malloc(w->bytes);
    memcpy(x, w->data, w->bytes);
    dsb_qtensor q;
    quantize(&q, strcmp(family, "affine_u4") == 0 ? "int4" : "int8", g, affine, x, w->shape[0], w->shape[1]);
    same_parts(f, base, &q, g == DSB_GROUP_TENSOR, affine ? "zero_point" : NULL);
    dsb_qtensor_release(&q);
    free(x);
    return true;
}

static void test_quantize__oracle_vectors_are_exact(void **state) {
    dsb_st_file f;
    dsb_err err = {0};
    int n = 0;
    if (access(k_vectors, R_OK) != 0) skip();
    if (dsb_st_open(&f, k_vectors, &err)) fail_msg("%s", err.text);
    for (int64_t i = 0; i < f.n_tensor; i++) n += check_vector(&f, f.tensors[i].name);
    dsb_st_close(&f);
    assert_int_equal(n, 25 + 28);
}

/* Writes one vector's packed codes and scales as a checkpoint of one linear. */
static void write_packed(const char *dir, const dsb_st_tensor *packed, const dsb_st_tensor *scale, dsb_err *err) {
    dsb_st_writer w;
    char path[256];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(dsb_st_writer_open(&w, path, err), DSB_OK);
    assert_int_equal(dsb_st_writer_declare(&w, "x.weight_packed", DSB_I32, 2, packed->shape, err), DSB_OK);
    assert_int_equal(dsb_st_writer_declare(&w, "x.weight_scale", DSB_F32, 2, scale->shape, err), DSB_OK);
    assert_int_equal(dsb_st_writer_write(&w, packed->data, packed->bytes, err), DSB_OK);
    assert_int_equal(dsb_st_writer_write(&w, scale->data, scale->bytes, err), DSB_OK);
    assert_int_equal(dsb_st_writer_finish(&w, err), DSB_OK);
    dsb_st_writer_close(&w);
}

/* compressed-tensors' own packing, read as a QAT export is. */
static void test_quantize__oracle_packed_int4_is_read_exactly(void **state) {
    static const char *const k_base[] = {"ct_pack.sym_g32", "ct_pack.sym_channel_odd"};
    dsb_st_file f;
    dsb_err err = {0};
    if (access(k_vectors, R_OK) != 0) skip();
    if (dsb_st_open(&f, k_vectors, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < COUNT(k_base); i++) {
        char dir[] = "/tmp/dsbench-test-XXXXXX", path[256];
        dsb_checkpoint cp;
        dsb_qtensor q;
        dsb_dtype stored;
        const dsb_st_tensor *codes = vector(&f, k_base[i], "q"), *deq = vector(&f, k_base[i], "deq");
        assert_non_null(mkdtemp(dir));
        write_packed(dir, vector(&f, k_base[i], "weight_packed"), vector(&f, k_base[i], "weight_scale"), &err);
        float *w = malloc(deq->bytes);
        if (dsb_checkpoint_open(&cp, dir, &err) || dsb_checkpoint_read_linear(&cp, "x", codes->shape[0], codes->shape[1], w, &q, &stored, &err)) fail_msg("%s", err.text);
        assert_memory_equal(q.codes, codes->data, codes->bytes);
        assert_memory_equal(w, deq->data, deq->bytes);
        dsb_qtensor_release(&q);
        dsb_checkpoint_close(&cp);
        free(w);
        snprintf(path, sizeof path, "%s/model.safetensors", dir);
        unlink(path);
        rmdir(dir);
    }
    dsb_st_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantize__symmetric_codes_round_ties_to_even),
        cmocka_unit_test(test_quantize__last_group_of_a_row_may_be_short),
        cmocka_unit_test(test_quantize__one_scale_a_tensor_is_repeated),
        cmocka_unit_test(test_quantize__affine_spans_the_range_and_holds_zero),
        cmocka_unit_test(test_quantize__extremes),
        cmocka_unit_test(test_quantize__errors_stay_within_half_a_step),
        cmocka_unit_test(test_quantize__quantizing_twice_changes_nothing),
        cmocka_unit_test(test_quantize__the_mse_range_is_never_worse),
        cmocka_unit_test(test_quantize__percentile_leaves_out_the_thousandth),
        cmocka_unit_test(test_quantize__the_kl_range_is_the_calibrators),
        cmocka_unit_test(test_quantize__ranges_do_not_depend_on_threads),
        cmocka_unit_test(test_quantize__stored_bytes_count_codes_scales_and_zeros),
        cmocka_unit_test(test_quantize__float_formats_round_in_place),
        cmocka_unit_test(test_quantize__bad_weights_are_named),
        cmocka_unit_test(test_quantize__oracle_vectors_are_exact),
        cmocka_unit_test(test_quantize__oracle_packed_int4_is_read_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
