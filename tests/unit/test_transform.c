/* Transforms: closed forms, statistics beside those gathered of transformed inputs, and whole models that stay what they were. */
#include "sweep_run.h"

#include "engine/rotate.h"
#include "values.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "quantizers/quantize_rule.h"

enum { ROWS = 6, COLS = 24, N = 20 };

typedef struct fixture {
    float x[N * COLS], w[ROWS * COLS], turned[ROWS * COLS], y[N * COLS];
    dsb_input_stats s;
    dsb_input_transform t;
} fixture;

static fixture *fixture_open(dsb_transform how) {
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    for (int64_t i = 0; i < N * COLS; i++) f->x[i] = value(i) * (i % COLS == 3 ? 40 : 1);
    for (int64_t i = 0; i < ROWS * COLS; i++) f->w[i] = value(i + 9999);
    assert_int_equal(dsb_input_stats_begin(&f->s, DSB_NEED_GRAM | DSB_NEED_CHANNELS, COLS, NULL), DSB_OK);
    dsb_input_stats_add(&f->s, dsb_backend_cpu(NULL), f->x, N);
    assert_int_equal(dsb_transform_find(&f->t, how, 0.25, f->w, ROWS, COLS, &f->s, NULL), DSB_OK);
    dsb_transform_weight(&f->t, f->w, ROWS, COLS, f->turned);
    memcpy(f->y, f->x, sizeof f->y);
    const dsb_backend *be = dsb_backend_cpu(NULL);
    if (f->t.in_scale) be->scale_columns(f->y, N, COLS, f->t.in_scale, f->y);
    if (f->t.rotation) be->hadamard(f->y, N, COLS, f->t.rotation, f->y);
    return f;
}
static void fixture_close(fixture *f) {
    dsb_input_stats_release(&f->s);
    dsb_transform_release(&f->t);
    free(f);
}
static void near(double got, double want, double bound) {
    if (!(fabs(got - want) <= bound)) fail_msg("%.9g, %.9g is wanted within %.3g", got, want, bound);
}

static void test_transform__hadamard_has_walshs_rows_and_is_its_own_inverse(void **state) {
    const dsb_backend *be = dsb_backend_cpu(NULL);
    float x[32], y[32];
    for (int i = 0; i < 16; i++) {
        memset(x, 0, sizeof x);
        x[16 + i] = 1; /* the second block; the first is not touched */
        be->hadamard(x, 1, 32, 16, y);
        for (int k = 0; k < 32; k++) assert_true(y[k] == (k < 16 ? 0 : __builtin_parity((unsigned)(i & (k - 16))) ? -0.25f : 0.25f));
        be->hadamard(y, 1, 32, 16, y);
        assert_memory_equal(x, y, sizeof x);
    }
    be->hadamard(x, 1, 32, 1, y); /* an odd width: no rotation */
    assert_memory_equal(x, y, sizeof x);
}

static void test_transform__smooth_shares_the_range_by_alpha(void **state) {
    fixture *f = fixture_open(DSB_TRANSFORM_SMOOTH);
    float most = 0;
    for (int j = 0; j < COLS; j++) {
        double w = 0;
        for (int r = 0; r < ROWS; r++) w = fmax(w, fabs((double)f->w[r * COLS + j]));
        near((double)f->t.in_scale[j], pow(w, 0.75) / pow((double)f->s.absmax[j], 0.25), 1e-6 * (double)f->t.in_scale[j]);
        for (int i = 0; i < N; i++) most = fmaxf(most, fabsf(f->y[i * COLS + j]));
    }
    assert_true(most == f->t.absmax); /* |x|·t in f32 grows with |x|, so the largest is the largest's */
    fixture_close(f);
}

static void test_transform__a_channel_without_a_range_stays(void **state) {
    fixture *f = fixture_open(DSB_TRANSFORM_NONE);
    assert_false(dsb_transform_changes(&f->t));
    f->s.absmax[2] = 0;
    f->s.absmax[3] = INFINITY;
    for (int r = 0; r < ROWS; r++) f->w[r * COLS + 4] = 0;
    assert_int_equal(dsb_transform_find(&f->t, DSB_TRANSFORM_SMOOTH, 0.5, f->w, ROWS, COLS, &f->s, NULL), DSB_OK);
    for (int j = 2; j < 5; j++) assert_true(f->t.in_scale[j] == 1);
    dsb_transform_release(&f->t);
    assert_int_equal(dsb_transform_find(&f->t, DSB_TRANSFORM_SMOOTH, 0.5, f->w, ROWS, COLS, NULL, NULL), DSB_OK);
    assert_false(dsb_transform_changes(&f->t)); /* nothing was seen */
    fixture_close(f);
}

/* A product of 24 terms of f32: each within 2^-24, their sum's error within 32 of it of Σ|w·x| (butterflies: 3 roundings more a factor). */
static void products_stay(dsb_transform how) {
    fixture *f = fixture_open(how);
    for (int i = 0; i < N; i++)
        for (int r = 0; r < ROWS; r++) {
            double want = 0, got = 0, x2 = 0, w2 = 0;
            for (int j = 0; j < COLS; j++) {
                want += (double)f->x[i * COLS + j] * (double)f->w[r * COLS + j];
                got += (double)f->y[i * COLS + j] * (double)f->turned[r * COLS + j];
                x2 += (double)f->x[i * COLS + j] * (double)f->x[i * COLS + j];
                w2 += (double)f->w[r * COLS + j] * (double)f->w[r * COLS + j];
            }
            near(got, want, 32 * 0x1p-24 * sqrt(x2 * w2));
        }
    dsb_transform_undo(&f->t, ROWS, COLS, f->turned);
    for (int i = 0; i < ROWS * COLS; i++) near((double)f->turned[i], (double)f->w[i], 32 * 0x1p-24); /* weights are within 1 */
    fixture_close(f);
}
static void test_transform__products_stay(void **state) {
    products_stay(DSB_TRANSFORM_SMOOTH);
    products_stay(DSB_TRANSFORM_HADAMARD);
}

/* f32 inputs are within 2^-22 of the exact transform's; products add two such errors. */
static void stats_follow(dsb_transform how) {
    fixture *f = fixture_open(how);
    dsb_input_stats seen = {0}, got;
    assert_int_equal(dsb_input_stats_begin(&seen, DSB_NEED_GRAM | DSB_NEED_CHANNELS, COLS, NULL), DSB_OK);
    dsb_input_stats_add(&seen, dsb_backend_cpu(NULL), f->y, N);
    assert_int_equal(dsb_transform_stats(&f->t, &f->s, &got, NULL), DSB_OK);
    assert_int_equal(got.n_token, N);
    double total = 0;
    for (int j = 0; j < COLS; j++) total += seen.sum_sq[j];
    for (int j = 0; j < COLS; j++) {
        near(got.sum[j], seen.sum[j], 0x1p-21 * sqrt(total * N));
        near(got.sum_sq[j], seen.sum_sq[j], 0x1p-20 * total);
        if (how == DSB_TRANSFORM_SMOOTH) near(got.sum_abs[j], seen.sum_abs[j], 0x1p-21 * sqrt(total * N));
        assert_true(got.sum_abs[j] >= seen.sum_abs[j] * (1 - 1e-6) && got.absmax[j] >= seen.absmax[j] * (1 - 1e-6f)); /* bounds, where rotated */
        for (int k = 0; k < COLS; k++) {
            near(got.gram[j * COLS + k], seen.gram[j * COLS + k], 0x1p-20 * total);
            assert_true(got.gram[j * COLS + k] == got.gram[k * COLS + j]);
        }
    }
    dsb_input_stats_release(&seen);
    dsb_input_stats_release(&got);
    fixture_close(f);
}
static void test_transform__statistics_are_those_of_the_transformed_input(void **state) {
    stats_follow(DSB_TRANSFORM_SMOOTH);
    stats_follow(DSB_TRANSFORM_HADAMARD);
}

/* One channel forty times the others: at 4 bits a channel rotating spreads it, and less of the weight's grid is lost to it. */
static void test_transform__rotation_spreads_an_outlier(void **state) {
    fixture *f = fixture_open(DSB_TRANSFORM_NONE);
    float decoded[ROWS * COLS];
    double error[2] = {0};
    for (int r = 0; r < ROWS; r++) f->w[r * COLS + 5] *= 40;
    for (int how = 0; how < 2; how++) {
        dsb_quantized z;
        dsb_rule rule = {.format = dsb_format_find("int4"), .group = DSB_GROUP_CHANNEL, .algorithm = "rtn", .transform = how ? DSB_TRANSFORM_HADAMARD : DSB_TRANSFORM_NONE};
        assert_int_equal(dsb_quantize_rule(&z, &rule, rule.format, rule.group, f->w, ROWS, COLS, NULL, decoded, NULL), DSB_OK);
        assert_int_equal(z.in.rotation, how ? 8 : 0);
        dsb_transform_undo(&z.in, ROWS, COLS, decoded);
        for (int i = 0; i < ROWS * COLS; i++) error[how] += pow((double)decoded[i] - (double)f->w[i], 2);
        dsb_quantized_release(&z);
    }
    assert_true(error[1] < error[0]);
    fixture_close(f);
}

static const char k_smooth[] = "{\"name\": \"smooth\", \"rules\": [{\"role\": \"router\", \"format\": \"f32\", \"transform\": \"smooth\"}, {\"role\": \"*\", \"format\": \"f32\", \"transform\": \"smooth\"}]}";
static const char k_hadamard[] = "{\"name\": \"hadamard\", \"rules\": [{\"role\": \"router\", \"format\": \"f32\", \"transform\": \"hadamard\"}, {\"role\": \"*\", \"format\": \"f32\", \"transform\": \"hadamard\"}]}";

static const char k_rotate[] = "{\"name\": \"rotate\", \"rotate\": \"hadamard\", \"rules\": [{\"role\": \"*\", \"format\": \"keep\"}]}";
/* Its own stream is the reference's, rotated: the re-fitted router is the stored one. */
static const char k_refit[] = "{\"name\": \"rotate+router\", \"rotate\": \"hadamard\", \"rules\": [{\"role\": \"router\", \"format\": \"keep\", \"compensation\": \"router\"}, {\"role\": \"*\", \"format\": \"keep\"}]}";
static const char k_both[] = "{\"name\": \"rotate+hadamard\", \"rotate\": \"hadamard\", \"rules\": [{\"role\": \"router\", \"format\": \"f32\"}, {\"role\": \"lm_head\", \"format\": \"f32\"}, {\"role\": \"embed\", \"format\": \"f32\"}, "
                             "{\"role\": \"*\", \"format\": \"f32\", \"transform\": \"hadamard\"}]}";

static float *logits_of(sr_run *r, const dsb_scheme *scheme) {
    dsb_session s;
    dsb_err err = {0};
    float *z = malloc((size_t)(SR_CTX * r->m.config.vocab) * sizeof *z);
    assert_non_null(z);
    if (dsb_session_open(&s, &r->m, scheme, &r->cal, SR_CTX, &err)) fail_msg("%s: %s", r->dir, err.text);
    assert_int_equal(dsb_session_forward(&s, r->tokens, SR_CTX, SR_CTX, z, NULL, NULL), DSB_OK);
    dsb_session_close(&s);
    return z;
}

/* A session has no statistics, so smooth does nothing there: rotation alone. */
static void logits_stay(sr_run *r, const dsb_scheme *scheme) {
    float *want = logits_of(r, &r->reference), *got = logits_of(r, scheme), top = 0, most = 0;
    for (int64_t i = 0; i < SR_CTX * r->m.config.vocab; i++) {
        top = fmaxf(top, fabsf(want[i]));
        most = fmaxf(most, fabsf(got[i] - want[i]));
    }
    if (!(most <= 1e-4f * top)) fail_msg("%s: %s: logits differ by %g of %g", r->dir, scheme->name, (double)most, (double)top);
    assert_true(most > 0); /* it was rotated */
    free(want);
    free(got);
}

/* Full precision and an f32 carrier: each block's output, of the model that reads its own blocks' outputs, and logits. */
static void stays_exact(const char *dir) {
    sr_run *r = sr_open_model(dsb_backend_cpu(NULL), dir);
    sr_add_json(r, k_smooth);
    sr_add_json(r, k_hadamard);
    sr_add_json(r, k_rotate);
    sr_add_json(r, k_both);
    sr_add_json(r, k_refit);
    for (int i = 0; i < r->n_scheme; i++) r->schemes[i].bf16 = false;
    sr_sweep(r, 2);
    for (int i = 0; i < r->n_scheme; i++) {
        for (int l = 0; l < r->m.config.n_layer; l++)
            for (int k = 0; k < DSB_POINT_COUNT * 2 * SR_CHUNKS; k++) {
                int point = k % DSB_POINT_COUNT, kind = k / DSB_POINT_COUNT % 2 ? DSB_KIND_ISOLATED : DSB_KIND_ACCUMULATED, c = k / DSB_POINT_COUNT / 2;
                const dsb_moments *m = &r->layer[i][l][point][kind][c];
                if (r->seen[i][l][point][kind][c] && !(m->xx > 0 && sqrt(m->dd / m->xx) <= 1e-4)) fail_msg("%s: %s: block %d, point %d, kind %d differs by %g", dir, r->schemes[i].name, l, point, kind, sqrt(m->dd / m->xx));
            }
        if (r->m.config.n_expert > 0) assert_true(r->router[i][r->m.config.n_layer - 1].dd <= 1e-8 * r->router[i][r->m.config.n_layer - 1].xx); /* compared where the stored weight is */
    }
    for (int i = 1; i < r->n_scheme; i++) logits_stay(r, &r->schemes[i]);
    sr_close(r);
}

static void test_transform__models_stay_exact_in_full_precision(void **state) {
    static const char *const k_model[] = {"deepseek_v1", "deepseek_v2", "deepseek_v3", "glm4_moe", "gpt_oss", "mixtral", "mixtral_fused", "olmoe", "qwen2_moe", "qwen3_moe"};
    for (size_t i = 0; i < sizeof k_model / sizeof *k_model; i++) {
        char dir[128];
        snprintf(dir, sizeof dir, "tests/fixtures/architectures/%s", k_model[i]);
        stays_exact(dir);
    }
    stays_exact(sr_model);
}

static void test_transform__the_oracles_models_stay_exact(void **state) {
    static const char *const k_name[] = {"deepseek_v1", "deepseek_v2", "deepseek_v2_lite", "deepseek_v3", "deepseek_v3_fp8", "glm4_moe", "gpt_oss", "mixtral", "olmoe", "qwen2_moe", "qwen3_moe"};
    const char *shared = getenv("DSBENCH_SHARED");
    for (size_t i = 0; i < sizeof k_name / sizeof *k_name; i++) {
        char dir[1024], config[1100];
        snprintf(dir, sizeof dir, "%s/oracle/dev/%s", shared && *shared ? shared : "../shared", k_name[i]);
        snprintf(config, sizeof config, "%s/config.json", dir);
        if (access(config, R_OK) != 0) skip();
        stays_exact(dir);
    }
}

/* A linear that reads the stream behind a norm g, and one that writes it: W·(g∘x) is the rotated weight's product with x·H; H·(W·x) what the writer gives. */
static void test_transform__rotated_weights_fit_the_rotated_stream(void **state) {
    enum { D = 12, N = 8 }; /* blocks of 4 */
    float w[N * D], g[D], x[D], back[D], turned[N * D], undone[N * D], writer[D * N], in[N];
    uint32_t seed = 5;
    for (int i = 0; i < N * D; i++) w[i] = bell(&seed);
    for (int i = 0; i < D; i++) x[i] = back[i] = bell(&seed), g[i] = i == 7 ? 0 : 1 + 0.5f * bell(&seed);
    for (int i = 0; i < N; i++) in[i] = bell(&seed);
    dsb_rotation reads = {.block = 4, .norm = g}, writes = {.block = 4, .writes = true};
    reads.in.in_scale = calloc(D, sizeof(float));
    for (int i = 0; i < D; i++) reads.in.in_scale[i] = i == 7 ? 0 : 1 / g[i];
    const dsb_backend *be = dsb_backend_cpu(NULL);
    dsb_rotation_apply(&reads, w, N, D, turned);
    dsb_rotate_rows(be, 4, x, 1, D);
    for (int r = 0; r < N; r++) {
        double want = 0, got = 0, size = 0;
        for (int i = 0; i < D; i++) {
            want += (double)w[r * D + i] * (double)g[i] * (double)back[i];
            got += (double)turned[r * D + i] * (double)x[i];
            size += fabs((double)turned[r * D + i] * (double)x[i]);
        }
        near(got, want, 0x1p-20 * size); /* log2(4) + 2 roundings on either side */
    }
    memcpy(undone, turned, sizeof undone);
    dsb_rotation_undo(&reads, w, N, D, undone);
    for (int i = 0; i < N * D; i++) near((double)undone[i], (double)w[i], 1e-5);
    assert_true(undone[7] == w[7]); /* a norm weight of 0 hides its column */
    dsb_rotation_apply(&writes, w, D, N, writer);
    float y[D] = {0}, z[D] = {0};
    for (int r = 0; r < D; r++)
        for (int i = 0; i < N; i++) {
            y[r] += w[r * N + i] * in[i];
            z[r] += writer[r * N + i] * in[i];
        }
    dsb_rotate_rows(be, 4, y, 1, D);
    for (int r = 0; r < D; r++) near((double)z[r], (double)y[r], 1e-5);
    dsb_rotation_undo(&writes, w, D, N, writer);
    for (int i = 0; i < N * D; i++) near((double)writer[i], (double)w[i], 1e-5);
    dsb_transform_release(&reads.in);
}

/* What a rotation can't stand beside, and a model that none turns. */
static void test_transform__a_rotation_says_what_it_lacks(void **state) {
    sr_run *r = sr_open();
    dsb_scheme_source source;
    const dsb_recipe *recipe;
    dsb_err err = {0};
    assert_int_equal(dsb_recipe_preset(&recipe, &r->arena, "w4a4-rotate", NULL), DSB_OK);
    assert_int_equal(dsb_scheme_source_open(&source, &r->m, sr_model, recipe, "models/dsmoe-tiny/qat-int8", &err), DSB_EUSAGE);
    assert_non_null(strstr(err.text, "no other checkpoint"));
    r->m.config.d_model = 63;
    assert_int_equal(dsb_model_check_recipe(&r->m, recipe, NULL, &err), DSB_EINPUT);
    assert_non_null(strstr(err.text, "hidden_size 63 is odd"));
    sr_close(r);
}

/* Real low-bit products: any number of threads gives the same bits. */
static void test_transform__results_do_not_depend_on_threads(void **state) {
    static const char *const k_scheme[] = {"smooth-int8", "int4-hadamard", "w4a4-hadamard", "w4a4-rotate"};
    sr_run *r[2];
    for (int t = 0; t < 2; t++) {
        r[t] = sr_open();
        for (int i = 0; i < 4; i++) sr_add_preset(r[t], k_scheme[i]);
        omp_set_num_threads(1 + 2 * t);
        sr_sweep(r[t], 1);
    }
    assert_memory_equal(r[0]->rows, r[1]->rows, sizeof r[0]->rows);
    assert_memory_equal(r[0]->layer, r[1]->layer, sizeof r[0]->layer);
    assert_true(r[0]->values[0] > 0); /* smooth-int8 runs with static scales */
    for (int t = 0; t < 2; t++) sr_close(r[t]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transform__hadamard_has_walshs_rows_and_is_its_own_inverse),
        cmocka_unit_test(test_transform__smooth_shares_the_range_by_alpha),
        cmocka_unit_test(test_transform__a_channel_without_a_range_stays),
        cmocka_unit_test(test_transform__products_stay),
        cmocka_unit_test(test_transform__statistics_are_those_of_the_transformed_input),
        cmocka_unit_test(test_transform__rotation_spreads_an_outlier),
        cmocka_unit_test(test_transform__models_stay_exact_in_full_precision),
        cmocka_unit_test(test_transform__the_oracles_models_stay_exact),
        cmocka_unit_test(test_transform__rotated_weights_fit_the_rotated_stream),
        cmocka_unit_test(test_transform__a_rotation_says_what_it_lacks),
        cmocka_unit_test(test_transform__results_do_not_depend_on_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
