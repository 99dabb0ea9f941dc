/* GPTQ, AWQ and the search of SmoothQuant's α: against the oracle's codes, against the algorithm written out plainly, and by what they promise. */
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
#include "quantizers/quantize_rule.h"
#include "quantizers/smooth_search.h"
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

/* The definition by the tokens themselves: of ten cuts of a group the one whose outputs are least wrong, the earlier of equal ones. */
static void test_algorithms__awq_cuts_each_group_where_outputs_are_least_wrong(void **state) {
    float w[ROWS * COLS], x[TOKENS * COLS];
    dsb_input_stats s;
    int cuts = 0;
    make_case(w, x, &s);
    for (int affine = 0; affine < 2; affine++) {
        dsb_qtensor q;
        assert_int_equal(dsb_qtensor_begin(&q, dsb_format_find("int3"), 32, affine, w, ROWS, COLS, NULL), DSB_OK);
        assert_int_equal(dsb_awq_clip(&q, w, &s, NULL), DSB_OK);
        for (int k = 0; k < ROWS * 3; k++) {
            int at = k / 3 * COLS + k % 3 * 32, n = k % 3 < 2 ? 32 : COLS - 64, chosen = 0;
            float top = 0, scale[10];
            double best = INFINITY;
            for (int i = 0; i < n; i++) top = fmaxf(top, fabsf(w[at + i]));
            for (int c = 0; c < 10; c++) {
                float most = top * (1 - (float)c / 20), cut[32], y[32];
                dsb_qtensor one;
                double sum = 0;
                for (int i = 0; i < n; i++) cut[i] = fmaxf(-most, fminf(most, w[at + i]));
                assert_int_equal(dsb_quantize_rtn(&one, dsb_format_find("int3"), DSB_GROUP_CHANNEL, affine, cut, 1, n, NULL), DSB_OK);
                dsb_dequantize(&one, NULL, y);
                scale[c] = one.scales[0];
                dsb_qtensor_release(&one);
                for (int t = 0; t < TOKENS; t++) {
                    double e = 0;
                    for (int i = 0; i < n; i++) e += ((double)w[at + i] - (double)y[i]) * (double)x[t * COLS + k % 3 * 32 + i];
                    sum += e * e;
                }
                if (!(sum < best * (1 - 1e-9))) continue; /* sums of another order */
                best = sum;
                chosen = c;
            }
            assert_true(q.scales[k] == scale[chosen]);
            cuts += chosen > 0;
        }
        dsb_qtensor_release(&q);
    }
    assert_true(cuts > 0);
    dsb_input_stats_release(&s);
}

/* A rule's clipping is that of the scaled weight beside the scaled input. */
static void test_algorithms__a_rule_scales_first_and_cuts_then(void **state) {
    float w[ROWS * COLS], x[TOKENS * COLS], v[ROWS * COLS], decoded[ROWS * COLS];
    dsb_input_stats s, scaled;
    dsb_rule rule = {.format = dsb_format_find("int4"), .group = 32, .algorithm = "awq", .clip = true, .static_margin = 1};
    dsb_quantized z;
    dsb_qtensor q;
    make_case(w, x, &s);
    assert_int_equal(dsb_quantize_rule(&z, &rule, rule.format, 32, w, ROWS, COLS, &s, decoded, NULL), DSB_OK);
    assert_int_equal(dsb_transform_stats(&z.in, &s, &scaled, NULL), DSB_OK);
    dsb_transform_weight(&z.in, w, ROWS, COLS, v);
    assert_int_equal(dsb_qtensor_begin(&q, rule.format, 32, false, v, ROWS, COLS, NULL), DSB_OK);
    assert_int_equal(dsb_awq_clip(&q, v, &scaled, NULL), DSB_OK);
    assert_memory_equal(q.codes, z.q.codes, ROWS * COLS);
    assert_memory_equal(q.scales, z.q.scales, (size_t)(ROWS * q.n_group) * sizeof *q.scales);
    dsb_qtensor_release(&q);
    dsb_quantized_release(&z);
    assert_int_equal(dsb_quantize_rule(&z, &rule, rule.format, 32, w, ROWS, COLS, NULL, decoded, NULL), DSB_OK); /* nothing seen: rtn, uncut */
    assert_int_equal(dsb_quantize_rtn(&q, rule.format, 32, false, w, ROWS, COLS, NULL), DSB_OK);
    assert_true(z.starved && memcmp(q.codes, z.q.codes, ROWS * COLS) == 0);
    dsb_qtensor_release(&q);
    dsb_quantized_release(&z);
    dsb_input_stats_release(&scaled);
    dsb_input_stats_release(&s);
}

/* α by the error written out: rounded weights by the tokens, rounded inputs by the model of smooth_search.h. */
static void test_algorithms__smooth_searches_the_alpha_of_least_error(void **state) {
    float w[ROWS * COLS], x[TOKENS * COLS];
    dsb_input_stats s;
    dsb_rule rule = {.format = dsb_format_find("int8"), .algorithm = "rtn", .transform = DSB_TRANSFORM_SMOOTH, .alpha = DSB_ALPHA_SEARCH, .static_margin = 1};
    make_case(w, x, &s);
    double chosen[2];
    for (int k = 0; k < 2; k++) {
        double least = INFINITY, alpha, best = -1;
        rule.activation = k ? DSB_ACT_INT8_STATIC : DSB_ACT_NONE;
        assert_int_equal(dsb_smooth_alpha(&alpha, &rule, rule.format, DSB_GROUP_CHANNEL, w, ROWS, COLS, &s, NULL), DSB_OK);
        for (int a = 0; a <= 20; a++) {
            dsb_input_transform t;
            float v[ROWS * COLS];
            double sum = 0;
            dsb_qtensor q;
            assert_int_equal(dsb_transform_find(&t, DSB_TRANSFORM_SMOOTH, a / 20.0, w, ROWS, COLS, &s, NULL), DSB_OK);
            for (int i = 0; i < ROWS * COLS; i++) v[i] = w[i] / t.in_scale[i % COLS];
            assert_int_equal(dsb_quantize_rtn(&q, rule.format, DSB_GROUP_CHANNEL, false, v, ROWS, COLS, NULL), DSB_OK);
            dsb_dequantize(&q, NULL, v);
            dsb_qtensor_release(&q);
            for (int i = 0; i < TOKENS * ROWS; i++) {
                double e = 0;
                for (int c = 0; c < COLS; c++) e += ((double)w[i % ROWS * COLS + c] - (double)v[i % ROWS * COLS + c] * (double)t.in_scale[c]) * (double)x[i / ROWS * COLS + c];
                sum += e * e;
            }
            double step = (double)t.absmax / 127;
            for (int i = 0; i < ROWS * COLS && k; i++) {
                double in = 0;
                for (int n = 0; n < TOKENS; n++) in += pow((double)x[n * COLS + i % COLS] * (double)t.in_scale[i % COLS], 2) / TOKENS;
                double most = (double)s.absmax[i % COLS] * (double)t.in_scale[i % COLS], tail = most / log(TOKENS + 1);
                sum += (double)v[i] * (double)v[i] * TOKENS * (fmin(in, step * step / 12) + (tail > 0 ? 2 * tail * tail / TOKENS * exp((most - (double)t.absmax) / tail) : 0));
            }
            dsb_transform_release(&t);
            if (!(sum < least)) continue;
            least = sum;
            best = a / 20.0;
        }
        assert_true(alpha == best);
        chosen[k] = alpha;
    }
    assert_true(chosen[1] > chosen[0]); /* rounded inputs are worth evening out, rounded weights alone are not */
    dsb_input_stats_release(&s);
}

static void test_algorithms__do_not_depend_on_threads(void **state) {
    float w[ROWS * COLS], x[TOKENS * COLS], scale[2][COLS];
    dsb_input_stats s;
    dsb_qtensor q[2], cut[2];
    dsb_rule rule = {.format = dsb_format_find("int4"), .algorithm = "rtn", .activation = DSB_ACT_INT8_STATIC, .static_margin = 1};
    double alpha[2];
    int threads = omp_get_max_threads();
    for (int k = 0; k < 2; k++) {
        omp_set_num_threads(k ? 3 : 1);
        make_case(w, x, &s);
        gptq(&q[k], "int4", false, w, ROWS, &s, false, DSB_GPTQ_BLOCK);
        assert_int_equal(dsb_awq_scale(scale[k], dsb_format_find("int4"), 32, false, w, ROWS, COLS, &s, NULL), DSB_OK);
        assert_int_equal(dsb_qtensor_begin(&cut[k], dsb_format_find("int4"), 32, true, w, ROWS, COLS, NULL), DSB_OK);
        assert_int_equal(dsb_awq_clip(&cut[k], w, &s, NULL), DSB_OK);
        assert_int_equal(dsb_smooth_alpha(&alpha[k], &rule, rule.format, 32, w, ROWS, COLS, &s, NULL), DSB_OK);
        dsb_input_stats_release(&s);
    }
    omp_set_num_threads(threads);
    assert_memory_equal(q[0].codes, q[1].codes, ROWS * COLS);
    assert_memory_equal(scale[0], scale[1], sizeof scale[0]);
    assert_memory_equal(cut[0].codes, cut[1].codes, ROWS * COLS);
    assert_memory_equal(cut[0].zeros, cut[1].zeros, (size_t)(ROWS * cut[0].n_group) * sizeof *cut[0].zeros);
    assert_true(alpha[0] == alpha[1]);
    for (int k = 0; k < 2; k++) {
        dsb_qtensor_release(&q[k]);
        dsb_qtensor_release(&cut[k]);
    }
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
        cmocka_unit_test(test_algorithms__awq_cuts_each_group_where_outputs_are_least_wrong),
        cmocka_unit_test(test_algorithms__a_rule_scales_first_and_cuts_then),
        cmocka_unit_test(test_algorithms__smooth_searches_the_alpha_of_least_error),
        cmocka_unit_test(test_algorithms__do_not_depend_on_threads),
        cmocka_unit_test(test_algorithms__gptq_keeps_the_factor_of_these_tokens),
        cmocka_unit_test(test_algorithms__gptq_says_what_it_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
