/* Statistics of calibration inputs against sums written out by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "quantizers/input_stats.h"
#include "values.h"

enum { N = 37, COLS = 71 }; /* no multiple of any tile */

static void test_input_stats__are_sums_over_tokens(void **state) {
    float *x = malloc(N * COLS * sizeof *x);
    dsb_input_stats s = {0};
    (void)state;
    for (int64_t i = 0; i < N * COLS; i++) x[i] = value(i);
    assert_int_equal(dsb_input_stats_begin(&s, DSB_NEED_CHANNELS | DSB_NEED_GRAM, COLS, NULL), DSB_OK);
    dsb_input_stats_add(&s, dsb_backend_cpu(NULL), x, 10); /* in two parts: the same sums */
    dsb_input_stats_add(&s, dsb_backend_cpu(NULL), x + 10 * COLS, N - 10);
    assert_int_equal(s.n_token, N);
    for (int64_t i = 0; i < COLS; i++) {
        double sum = 0, sum_abs = 0, sum_sq = 0;
        float top = 0;
        for (int64_t r = 0; r < N; r++) {
            float v = x[r * COLS + i];
            sum += (double)v;
            sum_abs += (double)fabsf(v);
            sum_sq += (double)v * (double)v;
            top = fabsf(v) > top ? fabsf(v) : top;
        }
        assert_true(s.sum[i] == sum && s.sum_abs[i] == sum_abs && s.sum_sq[i] == sum_sq && s.absmax[i] == top);
        for (int64_t j = 0; j < COLS; j++) {
            double g = 0;
            for (int64_t r = 0; r < N; r++) g += (double)x[r * COLS + i] * (double)x[r * COLS + j];
            assert_true(s.gram[i * COLS + j] == g);
        }
    }
    dsb_input_stats_release(&s);
    free(x);
}

static void test_input_stats__loss_is_that_of_outputs(void **state) {
    enum { ROWS = 5 };
    float x[N * COLS], w[ROWS * COLS], v[ROWS * COLS];
    dsb_input_stats s = {0};
    double wanted = 0;
    (void)state;
    for (int64_t i = 0; i < N * COLS; i++) x[i] = value(i);
    for (int64_t i = 0; i < ROWS * COLS; i++) w[i] = value(i + 9999), v[i] = roundf(w[i] * 8) / 8;
    assert_int_equal(dsb_input_stats_begin(&s, DSB_NEED_GRAM, COLS, NULL), DSB_OK);
    dsb_input_stats_add(&s, dsb_backend_cpu(NULL), x, N);
    for (int64_t t = 0; t < N; t++)
        for (int64_t r = 0; r < ROWS; r++) {
            double y = 0;
            for (int64_t c = 0; c < COLS; c++) y += ((double)w[r * COLS + c] - (double)v[r * COLS + c]) * (double)x[t * COLS + c];
            wanted += y * y;
        }
    assert_true(fabs(dsb_input_loss(&s, w, v, ROWS) - wanted) <= 1e-10 * wanted); /* f64 sums of some thousand terms */
    dsb_input_stats_release(&s);
}

static void test_input_stats__begin_again_empties(void **state) {
    float x[4] = {1, -2, 3, 4};
    dsb_input_stats s = {0};
    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dsb_input_stats_begin(&s, DSB_NEED_CHANNELS, 2, NULL), DSB_OK);
        assert_null(s.gram);
        dsb_input_stats_add(&s, dsb_backend_cpu(NULL), x, 2);
        assert_true(s.sum[0] == 4 && s.sum[1] == 2 && s.absmax[1] == 4 && s.n_token == 2);
    }
    dsb_input_stats_release(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_input_stats__are_sums_over_tokens),
        cmocka_unit_test(test_input_stats__loss_is_that_of_outputs),
        cmocka_unit_test(test_input_stats__begin_again_empties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
