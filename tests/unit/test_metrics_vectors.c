/* The metrics oracle (numpy f64, checked there with torch and 50-digit arithmetic) through logit_rows and moments of
 * every CPU backend here. tests/fixtures/ has three of its cases; all eight are read where ../shared is. */
#include "kernel_cases.h"

#include <stdio.h>
#include <unistd.h>

#include "base/json.h"
#include "metrics/logits.h"
#include "metrics/moments.h"
#include "metrics/stats.h"

enum { N = 20, V = 50 };
static const double TOLERANCE = 1e-9; /* absolute below 1, relative above */

typedef struct vectors {
    const char *name;
    float ref[N * V], test[N * V];
    int32_t target[N];
    const json_t *expected;
    dsb_logit_row rows[N];
    dsb_moments sum;
} vectors;

static void near(const vectors *v, const char *key, double got, double want) {
    if (!(fabs(got - want) <= TOLERANCE * fmax(1, fabs(want)))) fail_msg("%s: %s is %.17g, wanted %.17g", v->name, key, got, want);
}

static double expected(const vectors *v, const char *key) { return json_number_value(json_object_get(v->expected, key)); }
static double expected_at(const vectors *v, const char *key, size_t i) { return json_number_value(json_array_get(json_object_get(json_object_get(v->expected, "per_token"), key), i)); }

static void matrix_read(const json_t *m, float *out) {
    assert_int_equal(json_array_size(m), N);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < V; j++) out[i * V + j] = (float)json_number_value(json_array_get(json_array_get(m, i), j));
}

static void measure(vectors *v, const dsb_backend *be) {
    be->logit_rows(v->ref, v->test, v->target, N, V, v->rows);
    be->moments(v->ref, v->test, N * V, &v->sum);
}

static void check_positions(const vectors *v) {
    for (size_t i = 0; i < N; i++) {
        near(v, "nll_ref", v->rows[i].nll_ref, expected_at(v, "nll_ref", i));
        near(v, "nll_test", v->rows[i].nll_test, expected_at(v, "nll_test", i));
        near(v, "kl", v->rows[i].kld, expected_at(v, "kl", i));
        near(v, "js", v->rows[i].js, expected_at(v, "js", i));
        near(v, "top5_jaccard", v->rows[i].overlap5 / (10.0 - v->rows[i].overlap5), expected_at(v, "top5_jaccard", i));
    }
}

static void check_run(const vectors *v) {
    static const int64_t starts[] = { 0, N };
    static const struct { const char *ours, *theirs; } names[] = {
        { "nll", "mean_nll_test" }, { "ppl", "ppl_test" }, { "ppl_ratio", "ppl_ratio" }, { "delta_nll", "delta_nll_mean" }, { "kld_mean", "kl_mean" }, { "kld_median", "kl_median" },
        { "kld_p99", "kl_p99" }, { "kld_max", "kl_max" }, { "js_mean", "js_mean" }, { "top1_agreement", "top1_agreement" }, { "top5_agreement", "top5_agreement" },
    };
    dsb_logit_run run = { .rows = v->rows, .target = v->target, .chunk_start = starts, .n_chunk = 1 };
    dsb_figures f, reference;
    double delta[N];
    assert_int_equal(dsb_logit_figures(&run, &f, NULL), 0);
    assert_int_equal(dsb_logit_figures_reference(&run, &reference, NULL), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) near(v, names[i].ours, dsb_figures_find(&f, names[i].ours)->value, expected(v, names[i].theirs));
    near(v, "nll of the reference", dsb_figures_find(&reference, "nll")->value, expected(v, "mean_nll_ref"));
    near(v, "ppl of the reference", dsb_figures_find(&reference, "ppl")->value, expected(v, "ppl_ref"));
    for (int i = 0; i < N; i++) delta[i] = v->rows[i].nll_test - v->rows[i].nll_ref;
    near(v, "delta_nll_se", dsb_sample_of(delta, N).se, expected(v, "delta_nll_se"));
}

static void check_tensor(const vectors *v) {
    dsb_moment_figures m = dsb_moments_figures(&v->sum);
    near(v, "relative_l2", m.rel_l2, expected(v, "relative_l2"));
    near(v, "cosine_flat", m.cosine, expected(v, "cosine_flat"));
    if (json_is_null(json_object_get(v->expected, "sqnr_db"))) assert_true(isinf(m.sqnr_db));
    else near(v, "sqnr_db", m.sqnr_db, expected(v, "sqnr_db"));
}

static int check_file(const char *path) {
    const dsb_backend *be[KC_LEVELS];
    json_t *doc;
    const char *name;
    json_t *one;
    vectors *v = calloc(1, sizeof *v);
    assert_non_null(v);
    assert_int_equal(dsb_json_load(&doc, path, NULL), 0);
    for (size_t i = 0; i < N; i++) v->target[i] = (int32_t)json_integer_value(json_array_get(json_object_get(doc, "targets"), i));
    json_object_foreach(json_object_get(doc, "cases"), name, one) {
        v->name = name;
        v->expected = json_object_get(one, "expected");
        matrix_read(json_object_get(one, "ref"), v->ref);
        matrix_read(json_object_get(one, "test"), v->test);
        for (int k = 0, n = kc_backends(be); k < n; k++) {
            measure(v, be[k]);
            check_positions(v);
            check_run(v);
            check_tensor(v);
        }
    }
    int cases = (int)json_object_size(json_object_get(doc, "cases"));
    json_decref(doc);
    free(v);
    return cases;
}

static void test_metrics_vectors__committed_cases(void **state) { assert_int_equal(check_file("tests/fixtures/metrics_vectors.json"), 3); }

static void test_metrics_vectors__whole_oracle(void **state) {
    char path[4096];
    const char *shared = getenv("DSBENCH_SHARED");
    snprintf(path, sizeof path, "%s/oracle/metrics_vectors.json", shared ? shared : "../shared");
    if (access(path, R_OK)) skip();
    printf("metrics oracle: %d cases of %s\n", check_file(path), path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics_vectors__committed_cases),
        cmocka_unit_test(test_metrics_vectors__whole_oracle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
