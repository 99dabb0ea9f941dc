/* GPTQ and AWQ: against the oracle's codes, against the algorithm written out plainly, and by what they promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/safetensors.h"
#include "quantizers/awq.h"
#include "quantizers/gptq.h"
#include "values.h"

static const char k_vectors[] = "../shared/oracle/quant_vectors.safetensors";
enum { ROWS = 24, COLS = 70, TOKENS = 300 }; /* a short last group of 32 */

static uint32_t random_state;
static float random_value(void) { return bell(&random_state); }

/* Inputs that follow one another, of channels of uneven size; channel 5 is dead. */
static void make_case(float *w, float *x, dsb_input_stats *s) {
    random_state = 7;
    for (int i = 0; i < ROWS * COLS; i++) w[i] = random_value();
    for (int t = 0; t < TOKENS; t++) {
        float last = 0;
        for (int c = 0; c < COLS; c++) {
            last = 0.8f * last + random_value();
            x[t * COLS + c] = c == 5 ? 0 : last * (c % 7 == 0 ? 8.0f : 1.0f);
        }
    }
    *s = (dsb_input_stats){0};
    assert_int_equal(dsb_input_stats_begin(s, DSB_NEED_CHANNELS | DSB_NEED_GRAM, COLS, NULL), DSB_OK);
    dsb_input_stats_add(s, dsb_backend_cpu(NULL), x, TOKENS);
}

static void gptq(dsb_qtensor *q, const char *format, bool affine, const float *w, int64_t rows, const dsb_input_stats *s, bool act_order, int64_t block) {
    dsb_err err = {0};
    assert_int_equal(dsb_qtensor_begin(q, dsb_format_find(format), 32, affine, w, rows, s->cols, NULL), DSB_OK);
    if (dsb_gptq(q, w, s, 0.01, act_order, block, &err)) fail_msg("%s", err.text);
}

static double loss(const dsb_qtensor *q, const float *w, const dsb_input_stats *s) {
    float *v = malloc((size_t)(q->rows * q->cols) * sizeof *v);
    dsb_dequantize(q, NULL, v);
    double sum = dsb_input_loss(s, w, v, q->rows);
    free(v);
    return sum;
}

static double rtn_loss(const char *format, bool affine, const float *w, const dsb_input_stats *s) {
    dsb_qtensor q;
    assert_int_equal(dsb_quantize_rtn(&q, dsb_format_find(format), 32, affine, w, ROWS, COLS, NULL), DSB_OK);
    double sum = loss(&q, w, s);
    dsb_qtensor_release(&q);
    return sum;
}

static void copy_of(const dsb_st_file *f, const char *name, float **out, int64_t *rows) {
    const dsb_st_tensor *t = dsb_st_find(f, name);
    assert_non_null(t);
    *out = malloc(t->bytes);
    memcpy(*out, t->data, t->bytes);
    *rows = t->shape[0];
}

/* The oracle works in f64 with scales in f64, ours are f32: the same codes, as no weight lies within 1e-7 of a tie there. */
static void test_algorithms__oracle_gptq_codes_are_exact(void **state) {
    static const struct {
        const char *codes;
        int64_t block;
    } k_case[] = {{"gptq.asym_block128.q", 128}, {"gptq.asym_block32.q", 32}};
    dsb_st_file f;
    dsb_input_stats s = {0};
    float *w, *x;
    int64_t rows, tokens;
    if (access(k_vectors, R_OK) != 0) skip();
    assert_int_equal(dsb_st_open(&f, k_vectors, NULL), DSB_OK);
    copy_of(&f, "gptq.W", &w, &rows);
    copy_of(&f, "gptq.X", &x, &tokens);
    assert_int_equal(dsb_input_stats_begin(&s, DSB_NEED_GRAM, 96, NULL), DSB_OK);
    dsb_input_stats_add(&s, dsb_backend_cpu(NULL), x, tokens);
    for (int k = 0; k < 2; k++) {
        dsb_qtensor q;
        gptq(&q, "int4", true, w, rows, &s, false, k_case[k].block);
        const uint8_t *wanted = dsb_st_find(&f, k_case[k].codes)->data;
        for (int64_t i = 0; i < rows * 96; i++)
            if (q.codes[i] + 8 != wanted[i] && i % 96 != 17) fail_msg("%s: code (%lld, %lld) is %d, %d is wanted", k_case[k].codes, (long long)(i / 96), (long long)(i % 96), q.codes[i] + 8, wanted[i]);
        dsb_qtensor_release(&q);
    }
    dsb_input_stats_release(&s);
    dsb_st_close(&f);
    free(w);
    free(x);
}

/* The definition without factor or blocks: after each column the best change of all that follow, by the inverse of what is left of H
 * (Frantar et al., eq. 2), found by Gaussian elimination. Symmetric, scales of the stored weights. */
static void test_algorithms__gptq_is_optimal_rounding_column_by_column(void **state) {
    enum { N = 12, R = 3 };
    float w[R * N], x[64 * N];
    dsb_input_stats s = {0};
    dsb_qtensor q;
    random_state = 3;
    for (int i = 0; i < R * N; i++) w[i] = random_value();
    for (int i = 0; i < 64 * N; i++) x[i] = random_value() + (i % N ? 0.7f * x[i - 1] : 0);
    assert_int_equal(dsb_input_stats_begin(&s, DSB_NEED_GRAM, N, NULL), DSB_OK);
    dsb_input_stats_add(&s, dsb_backend_cpu(NULL), x, 64);
    gptq(&q, "int4", false, w, R, &s, false, DSB_GPTQ_BLOCK);
    double h[N][N], mean = 0;
    for (int i = 0; i < N; i++) mean += 2.0 / 64 * s.gram[i * N + i] / N;
    for (int r = 0; r < R; r++) {
        double now[N];
        for (int i = 0; i < N; i++) now[i] = (double)w[r * N + i];
        for (int c = 0; c < N; c++) {
            double code = rint(now[c] / (double)q.scales[r]), e;
            assert_int_equal(q.codes[r * N + c], (int)fmax(-7, fmin(7, code)));
            e = now[c] - (double)q.scales[r] * q.codes[r * N + c];
            /* δ of the rest minimises (δ, −e) H (δ, −e)ᵀ: H_rest δ = e · H[rest, c] */
            double a[N][N + 1];
            int n = N - c - 1;
            for (int i = 0; i < N; i++)
                for (int j = 0; j < N; j++) h[i][j] = 2.0 / 64 * s.gram[i * N + j] + (i == j ? 0.01 * mean : 0);
            for (int i = 0; i < n; i++) {
                for (int j = 0; j < n; j++) a[i][j] = h[c + 1 + i][c + 1 + j];
                a[i][n] = e * h[c + 1 + i][c];
            }
            for (int p = 0; p < n; p++)
                for (int i = 0; i < n; i++) {
                    double m = a[i][p] / a[p][p];
                    for (int j = p; j <= n && i != p; j++) a[i][j] -= m * a[p][j];
                }
            for (int i = 0; i < n; i++) now[c + 1 + i] += a[i][n] / a[i][i];
        }
    }
    dsb_qtensor_release(&q);
    dsb_input_stats_release(&s);
}

static void test_algorithms__gptq_and_awq_leave_less_error_than_rounding(void **state) {
    float w[ROWS * COLS], x[TOKENS * COLS], in_scale[COLS], v[ROWS * COLS];
    dsb_input_stats s;
    dsb_qtensor q;
    make_case(w, x, &s);
    for (int affine = 0; affine < 2; affine++)
        for (int order = 0; order < 2; order++) {
            gptq(&q, "int3", affine, w, ROWS, &s, order, DSB_GPTQ_BLOCK);
            assert_true(loss(&q, w, &s) < rtn_loss("int3", affine, w, &s));
            for (int r = 0; r < ROWS; r++) assert_int_equal(q.codes[r * COLS + 5], affine ? q.zeros[r * q.n_group] : 0); /* a dead input's weights are 0 */
            dsb_qtensor_release(&q);
        }
    assert_int_equal(dsb_awq_scale(in_scale, dsb_format_find("int3"), 32, false, w, ROWS, COLS, &s, NULL), DSB_OK);
    for (int i = 0; i < ROWS * COLS; i++) v[i] = w[i] / in_scale[i % COLS];
    assert_int_equal(dsb_quantize_rtn(&q, dsb_format_find("int3"), 32, false, v, ROWS, COLS, NULL), DSB_OK);
    dsb_dequantize(&q, NULL, v);
    for (int i = 0; i < ROWS * COLS; i++) v[i] *= in_scale[i % COLS];
    assert_true(dsb_input_loss(&s, w, v, ROWS) < rtn_loss("int3", false, w, &s));
    dsb_qtensor_release(&q);
    dsb_input_stats_release(&s);
}

static void test_algorithms__do_not_depend_on_threads(void **state) {
    float w[ROWS * COLS], x[TOKENS * COLS], scale[2][COLS];
    dsb_input_stats s;
    dsb_qtensor q[2];
    int threads = omp_get_max_threads();
    for (int k = 0; k < 2; k++) {
        omp_set_num_threads(k ? 3 : 1);
        make_case(w, x, &s);
        gptq(&q[k], "int4", false, w, ROWS, &s, false, DSB_GPTQ_BLOCK);
        assert_int_equal(dsb_awq_scale(scale[k], dsb_format_find("int4"), 32, false, w, ROWS, COLS, &s, NULL), DSB_OK);
        dsb_input_stats_release(&s);
    }
    omp_set_num_threads(threads);
    assert_memory_equal(q[0].codes, q[1].codes, ROWS * COLS);
    assert_memory_equal(scale[0], scale[1], sizeof scale[0]);
    dsb_qtensor_release(&q[0]);
    dsb_qtensor_release(&q[1]);
}

/* The factor that statistics keep is made once, and anew for another order of columns and for other tokens. */
static void test_algorithms__gptq_keeps_the_factor_of_these_tokens(void **state) {
    float w[ROWS * COLS], x[TOKENS * COLS];
    dsb_input_stats kept, fresh;
    dsb_qtensor a, b;
    make_case(w, x, &kept);
    for (int k = 0; k < 4; k++) { /* as made, again, in order of activation, after more tokens */
        bool order = k == 2;
        const double *before = kept.factor->upper;
        make_case(w, x, &fresh);
        if (k == 3) {
            dsb_input_stats_add(&kept, dsb_backend_cpu(NULL), x, 3);
            dsb_input_stats_add(&fresh, dsb_backend_cpu(NULL), x, 3);
            assert_null(kept.factor->upper);
        }
        gptq(&a, "int4", false, w, ROWS, &kept, order, DSB_GPTQ_BLOCK);
        gptq(&b, "int4", false, w, ROWS, &fresh, order, DSB_GPTQ_BLOCK);
        assert_true(k != 1 || kept.factor->upper == before);
        assert_memory_equal(a.codes, b.codes, ROWS * COLS);
        dsb_qtensor_release(&a);
        dsb_qtensor_release(&b);
        dsb_input_stats_release(&fresh);
    }
    dsb_input_stats_release(&kept);
}

static void test_algorithms__gptq_says_what_it_lacks(void **state) {
    float w[4] = {1, 2, 3, 4}, x[4] = {0};
    dsb_input_stats s = {0};
    dsb_qtensor q;
    dsb_err err = {0};
    assert_int_equal(dsb_input_stats_begin(&s, DSB_NEED_GRAM, 4, NULL), DSB_OK);
    assert_int_equal(dsb_qtensor_begin(&q, dsb_format_find("int4"), 32, false, w, 1, 4, NULL), DSB_OK);
    assert_int_equal(dsb_gptq(&q, w, &s, 0.01, false, DSB_GPTQ_BLOCK, &err), DSB_EINTERNAL); /* no token */
    x[0] = NAN;
    dsb_input_stats_add(&s, dsb_backend_cpu(NULL), x, 1);
    assert_int_equal(dsb_gptq(&q, w, &s, 0.01, false, DSB_GPTQ_BLOCK, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, "no inverse"));
    dsb_qtensor_release(&q);
    dsb_input_stats_release(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_algorithms__oracle_gptq_codes_are_exact),
        cmocka_unit_test(test_algorithms__gptq_is_optimal_rounding_column_by_column),
        cmocka_unit_test(test_algorithms__gptq_and_awq_leave_less_error_than_rounding),
        cmocka_unit_test(test_algorithms__do_not_depend_on_threads),
        cmocka_unit_test(test_algorithms__gptq_keeps_the_factor_of_these_tokens),
        cmocka_unit_test(test_algorithms__gptq_says_what_it_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
