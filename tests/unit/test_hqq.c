/* Real zero points and HQQ's search of them: closed forms, the package's own codes, and what must not matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "quantizers/hqq.h"
#include "quantizers/quantize.h"
#include "sweep_run.h"
#include "values.h"

static void quantize(dsb_qtensor *q, const char *format, const char *algorithm, int64_t group, const float *w, int64_t rows, int64_t cols) {
    dsb_err err = {0};
    if (dsb_quantize(q, dsb_format_find(format), dsb_algorithm_find(algorithm), group, DSB_ZERO_REAL, w, rows, cols, &err)) fail_msg("%s", err.text);
}

/* The range need not hold 0: its ends are codes, and decode to themselves. */
static void test_hqq__real_zero_points_span_the_range_alone(void **state) {
    static const struct {
        float w[4], scale, zero;
        int8_t codes[4];
    } k_case[] = {
        {{1, 4, 2, 2.4f}, 1, -1, {-2, 1, -1, -1}}, /* 2-bit codes are shifted by 2: Z = -1 */
        {{-4, -1, -3, -2}, 1, 4, {-2, 1, -1, 0}},
        {{-0.75f, 0.75f, 0.25f, -0.25f}, 0.5f, 1.5f, {-2, 1, 0, -1}},
    };
    for (int k = 0; k < 3; k++) {
        dsb_qtensor q;
        float y[4];
        quantize(&q, "int2", "rtn", DSB_GROUP_CHANNEL, k_case[k].w, 1, 4);
        assert_true(q.scales[0] == k_case[k].scale && q.zeros[0] == k_case[k].zero - 2);
        assert_memory_equal(q.codes, k_case[k].codes, 4);
        dsb_dequantize(&q, NULL, y);
        for (int i = 0; i < 4; i++) assert_true(i == 3 && k == 0 ? y[i] == 2 : y[i] == k_case[k].w[i]);
        assert_int_equal(q.stored_bytes, (4 * 2 + 32 + 32) / 8);
        dsb_qtensor_release(&q);
    }
}

/* Alike, nearly alike, huge and 0: steps stay finite, and a value is missed by half a step and the last places of the zero point at most. */
static void test_hqq__groups_of_one_value_and_of_extremes(void **state) {
    static const float k_w[][4] = {{0, 0, 0, 0}, {3, 3, 3, 3}, {-1e-3f, -1e-3f, -1e-3f, -1e-3f}, {1e30f, 1e30f, 1e30f, 1.0001e30f}, {-FLT_MAX, FLT_MAX, 0, 1}, {1e-45f, 0, 0, 0}, {5, 5.000001f, 5, 5}};
    for (int a = 0; a < 2; a++)
        for (int k = 0; k < 7; k++) {
            dsb_qtensor q;
            float y[4];
            quantize(&q, "int4", a ? "hqq" : "rtn", DSB_GROUP_CHANNEL, k_w[k], 1, 4);
            dsb_dequantize(&q, NULL, y);
            for (int i = 0; i < 4; i++) assert_true(fabs((double)y[i] - (double)k_w[k][i]) <= 0.75 * (a ? 2 : 1) * (double)q.scales[0]);
            dsb_qtensor_release(&q);
        }
}

/* The package works in f32 as we do. Of 0 .. top, |w/S| and |Q| are within 2·top; a step rounds w, S and its inverse, products and
 * differences (8 roundings of 2^-24 of that), the package's mean n more; zero points are kept in parts of 2^-16. Steps add up (the
 * fixture's script says why), and no w/S + Z lies near a tie, so codes are the same. */
static void test_hqq__codes_and_zero_points_are_the_packages(void **state) {
    json_t *doc, *c, *v;
    size_t k, i;
    dsb_err err = {0};
    if (dsb_json_load(&doc, "tests/fixtures/hqq_vectors.json", &err)) fail_msg("%s", err.text);
    assert_int_equal(json_array_size(doc), 8);
    json_array_foreach(doc, k, c) {
        float w[64];
        char format[8];
        int64_t bits = json_integer_value(json_object_get(c, "bits")), n = (int64_t)json_array_size(json_object_get(c, "w")), half = 1 << (bits - 1), top = 2 * half - 1;
        double steps = json_number_value(json_object_get(c, "steps")), zero = json_number_value(json_object_get(c, "zero")), scale = json_number_value(json_object_get(c, "scale"));
        double bound = 0x1p-16 + steps * 2 * (double)top * (8 + (double)n) * 0x1p-24;
        dsb_qtensor q;
        assert_in_range(n, 1, 64);
        json_array_foreach(json_object_get(c, "w"), i, v) w[i] = (float)json_number_value(v);
        snprintf(format, sizeof format, "int%d", (int)bits);
        quantize(&q, format, "hqq", DSB_GROUP_CHANNEL, w, 1, n);
        json_array_foreach(json_object_get(c, "codes"), i, v) assert_int_equal(q.codes[i] + half, json_integer_value(v));
        assert_true(fabs((double)q.scales[0] - scale) <= scale * 0x1p-22);
        if (!(fabs((double)q.zeros[0] + (double)half - zero) <= bound)) fail_msg("group %d: zero point %.9g, the package's is %.9g; within %g is wanted", (int)k, (double)q.zeros[0] + (double)half, zero, bound);
        dsb_qtensor_release(&q);
    }
    json_decref(doc);
}

/* Where the shrinkage keeps nothing, the zero point is the mean of Q − w/S: the least squares of the codes chosen last but one, so that the error
 * of a fixed point has no mean. */
static void test_hqq__a_fixed_point_leaves_no_mean_error(void **state) {
    enum { N = 32 };
    float w[N];
    uint32_t seed = 11;
    int fixed = 0;
    for (int k = 0; k < 50; k++) {
        for (int i = 0; i < N; i++) w[i] = 0.05f * bell(&seed);
        float lo = w[0], hi = w[0];
        for (int i = 1; i < N; i++) {
            lo = fminf(lo, w[i]);
            hi = fmaxf(hi, w[i]);
        }
        float scale = (hi - lo) / 15, zero = dsb_hqq_zero(w, N, scale, -lo / scale, 15), mean = 0;
        if (dsb_hqq_zero(w, N, scale, zero, 15) != zero) continue;
        fixed++;
        for (int i = 0; i < N; i++) mean += (fminf(fmaxf(rintf(w[i] / scale + zero), 0), 15) - zero - w[i] / scale) / N;
        assert_true(fabsf(mean) <= 32 * 15 * 0x1p-23f); /* sums of 32 terms up to 15 */
    }
    assert_true(fixed > 0);
}

static void test_hqq__rows_and_threads_do_not_matter(void **state) {
    enum { ROWS = 300, COLS = 250 }; /* enough for threads; a short last group */
    static float w[ROWS * COLS];
    uint32_t seed = 5;
    int threads = omp_get_max_threads();
    dsb_qtensor q[2], one;
    for (int i = 0; i < ROWS * COLS; i++) w[i] = bell(&seed);
    for (int k = 0; k < 2; k++) {
        omp_set_num_threads(k ? 3 : 1);
        quantize(&q[k], "int3", "hqq", 32, w, ROWS, COLS);
    }
    omp_set_num_threads(threads);
    assert_memory_equal(q[0].codes, q[1].codes, ROWS * COLS);
    assert_memory_equal(q[0].zeros, q[1].zeros, (size_t)(ROWS * q[0].n_group) * sizeof *q[0].zeros);
    quantize(&one, "int3", "hqq", 32, w + 7 * COLS, 1, COLS);
    assert_memory_equal(one.codes, q[0].codes + 7 * COLS, COLS);
    assert_memory_equal(one.zeros, q[0].zeros + 7 * q[0].n_group, (size_t)one.n_group * sizeof *one.zeros);
    for (int k = 0; k < 2; k++) dsb_qtensor_release(&q[k]);
    dsb_qtensor_release(&one);
}

/* What the engine multiplies, however it packs it, is what the codes decode to: negative zero points (shifted codes) and real ones included. */
static void test_hqq__products_are_those_of_the_decoded_weight(void **state) {
    sr_run *r = sr_open();
    dsb_loader loader;
    dsb_linear_spec spec;
    dsb_expert_facts facts = {0};
    sr_add_json(r, "{\"name\": \"real\", \"rules\": [{\"role\": \"lm_head\", \"format\": \"int4\", \"zero_point\": \"real\", \"algorithm\": \"hqq\"}]}");
    sr_add_json(r, "{\"name\": \"code\", \"rules\": [{\"role\": \"lm_head\", \"format\": \"int4\", \"zero_point\": true}]}");
    dsb_head_spec(&r->m.config, &spec);
    int64_t rows = spec.rows, cols = spec.cols;
    float *x = malloc((size_t)cols * sizeof *x), *y[2] = {malloc((size_t)rows * sizeof **y), malloc((size_t)rows * sizeof **y)};
    for (int64_t i = 0; i < cols; i++) x[i] = value(i);
    dsb_loader_init(&loader, &r->m);
    for (int s = 0; s < 2; s++) {
        dsb_tensor_event e;
        dsb_linear w;
        dsb_wmat decoded;
        const dsb_act act = {.n = 1, .cols = cols, .f32 = x};
        assert_int_equal(dsb_load_scheme(&loader, &r->schemes[s], &spec, &facts, NULL, NULL, NULL, &w, &e, NULL), DSB_OK);
        assert_int_equal(r->m.be->pack_float(&decoded, DSB_W_F32, loader.w_deq, rows, cols, NULL), DSB_OK);
        r->m.be->gemm(&w.w, &act, y[0]);
        r->m.be->gemm(&decoded, &act, y[1]);
        assert_memory_equal(y[0], y[1], (size_t)rows * sizeof *x);
        r->m.be->unpack(&decoded);
        dsb_linear_release(r->m.be, &w);
    }
    dsb_loader_release(&loader);
    free(x);
    for (int i = 0; i < 2; i++) free(y[i]);
    sr_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hqq__real_zero_points_span_the_range_alone),
        cmocka_unit_test(test_hqq__groups_of_one_value_and_of_extremes),
        cmocka_unit_test(test_hqq__codes_and_zero_points_are_the_packages),
        cmocka_unit_test(test_hqq__a_fixed_point_leaves_no_mean_error),
        cmocka_unit_test(test_hqq__products_are_those_of_the_decoded_weight),
        cmocka_unit_test(test_hqq__rows_and_threads_do_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
