/* Figures of a run from its rows: closed forms, missing targets, non-finite positions, buckets. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "metrics/logits.h"

enum { N = 10, CHUNKS = 5 };

/* Two positions a chunk; nll_ref i/10, test adds 0.01·i; argmax right in the reference everywhere but row 9. */
typedef struct fixture {
    dsb_logit_row rows[N];
    int32_t target[N];
    int64_t starts[CHUNKS + 1];
    dsb_logit_run run;
} fixture;

static void fixture_fill(fixture *x) {
    memset(x, 0, sizeof *x);
    for (int i = 0; i < N; i++) {
        x->target[i] = i;
        x->rows[i] = (dsb_logit_row){ .nll_ref = 0.1 * i, .nll_test = 0.11 * i, .kld = 0.001 * (i + 1), .kld_reverse = 0.002, .js = 0.003, .tv = 0.1, .p_ref = 0.5, .p_test = i % 2 ? 0.4 : 0.6,
                                      .conf_ref = 0.1 * i + 0.05, .top_ref = i < 9 ? i : 0, .top_test = i < 8 ? i : 9, .overlap5 = 4, .overlap10 = 9 };
    }
    for (int c = 0; c <= CHUNKS; c++) x->starts[c] = 2 * c;
    x->run = (dsb_logit_run){ .rows = x->rows, .target = x->target, .chunk_start = x->starts, .n_chunk = CHUNKS, .bytes_scored = 40 };
}

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-13 + 1e-13 * fabs(want))) fail_msg("got %.17g, wanted %.17g", got, want);
}

static double value(const dsb_figures *f, const char *name) {
    const dsb_figure *found = dsb_figures_find(f, name);
    assert_non_null(found);
    return found->value;
}

static void test_logits__means_and_percentiles(void **state) {
    fixture x;
    dsb_figures f;
    fixture_fill(&x);
    assert_int_equal(dsb_logit_figures(&x.run, &f, NULL), 0);
    near(value(&f, "nll"), 0.495);
    near(value(&f, "ppl"), exp(0.495));
    near(value(&f, "delta_nll"), 0.045);
    near(value(&f, "ppl_ratio"), exp(0.045));
    near(value(&f, "bits_per_byte"), 4.95 / (log(2) * 40));
    near(value(&f, "kld_mean"), 0.0055);
    near(value(&f, "kld_median"), 0.0055);
    near(value(&f, "kld_p90"), 0.0091);
    near(value(&f, "kld_p999"), 0.009991);
    near(value(&f, "kld_max"), 0.01);
    near(value(&f, "kld_reverse_mean"), 0.002);
    near(value(&f, "js_mean"), 0.003);
    near(value(&f, "tv_mean"), 0.1);
    near(value(&f, "top5_agreement"), 0.8);
    near(value(&f, "top10_agreement"), 0.9);
    near(value(&f, "delta_p_mean"), 0);
    near(value(&f, "delta_p_rms"), 0.1);
    near(value(&f, "delta_p_p05"), -0.1);
}

static void test_logits__agreement_flips_accuracy(void **state) {
    fixture x;
    dsb_figures f;
    fixture_fill(&x);
    dsb_logit_figures(&x.run, &f, NULL);
    near(value(&f, "top1_agreement"), 0.8); /* rows 8 and 9 differ */
    near(value(&f, "flips_right_to_wrong"), 1);
    near(value(&f, "flips_wrong_to_right"), 1);
    near(value(&f, "top1_accuracy"), 0.9);
    near(value(&f, "top1_accuracy_ref"), 0.9);
    near(value(&f, "accuracy_kept"), 1);
}

static void test_logits__intervals_hold_the_value_and_repeat(void **state) {
    fixture x;
    dsb_figures f = { 0 }, g = { 0 };
    fixture_fill(&x);
    dsb_logit_figures(&x.run, &f, NULL);
    dsb_logit_figures(&x.run, &g, NULL);
    assert_memory_equal(&f, &g, offsetof(dsb_figures, item) + (size_t)f.n * sizeof(dsb_figure));
    const dsb_figure *nll = dsb_figures_find(&f, "nll"), *ppl = dsb_figures_find(&f, "ppl");
    assert_true(nll->lo < nll->value && nll->value < nll->hi);
    near(ppl->lo, exp(nll->lo));
    near(ppl->hi, exp(nll->hi));
    assert_true(isnan(dsb_figures_find(&f, "kld_p99")->lo));
    assert_int_equal(nll->n, N);
}

/* delta_nll is 0.01·i: chunk means have the variance 4·2.5·10⁻⁴, positions 55/6·10⁻⁴; (4·2.5/5) / (55/6/10) = 24/11. Without the last chunk 20/9. */
static void test_logits__design_effect(void **state) {
    fixture x;
    dsb_figures f;
    fixture_fill(&x);
    assert_int_equal(dsb_logit_figures(&x.run, &f, NULL), 0);
    assert_true(fabs(value(&f, "delta_nll_design_effect") - 24.0 / 11) < 1e-12 && fabs(value(&f, "kld_mean_design_effect") - 24.0 / 11) < 1e-12);
    x.target[9] = x.target[8] = -1;
    assert_int_equal(dsb_logit_figures(&x.run, &f, NULL), 0);
    assert_true(fabs(value(&f, "delta_nll_design_effect") - 20.0 / 9) < 1e-12 && fabs(value(&f, "kld_mean_design_effect") - 24.0 / 11) < 1e-12);
    x.rows[3].nonfinite = 1;
    assert_int_equal(dsb_logit_figures(&x.run, &f, NULL), 0);
    assert_true(isnan(value(&f, "kld_mean_design_effect")));
}

static void test_logits__rows_without_target(void **state) {
    fixture x;
    dsb_figures f;
    fixture_fill(&x);
    x.target[9] = x.target[8] = -1; /* the whole last chunk */
    dsb_logit_figures(&x.run, &f, NULL);
    near(value(&f, "nll"), 0.11 * 3.5);
    near(value(&f, "kld_mean"), 0.0055);
    assert_int_equal(dsb_figures_find(&f, "nll")->n, 8);
    assert_int_equal(dsb_figures_find(&f, "kld_mean")->n, 10);
    dsb_logit_chunk c[CHUNKS];
    dsb_logit_chunks(&x.run, c);
    assert_true(isnan(c[4].nll_test) && c[4].n_target == 0);
    near(c[4].kld, 0.0095);
}

static void test_logits__nonfinite_is_never_averaged_away(void **state) {
    fixture x;
    dsb_figures f;
    int64_t count;
    fixture_fill(&x);
    x.rows[3].nonfinite = 1; /* its figures may still look like numbers */
    dsb_logit_figures(&x.run, &f, NULL);
    assert_true(isnan(value(&f, "nll")) && isnan(value(&f, "kld_mean")) && isnan(value(&f, "kld_median")) && isnan(value(&f, "top1_agreement")));
    near(value(&f, "nonfinite_positions"), 1);
    assert_int_equal(dsb_logit_first_nonfinite(&x.run, &count), 3);
    assert_int_equal(count, 1);
    dsb_logit_chunk c[CHUNKS];
    dsb_logit_chunks(&x.run, c); /* row 3 is of chunk 1 */
    assert_true(isnan(c[1].kld) && isnan(c[1].accuracy_ref) && isnan(c[1].accuracy_test));
    near(c[0].accuracy_ref, (x.rows[0].top_ref == x.target[0]) / 2.0 + (x.rows[1].top_ref == x.target[1]) / 2.0);
    near(c[0].accuracy_test, (x.rows[0].top_test == x.target[0]) / 2.0 + (x.rows[1].top_test == x.target[1]) / 2.0);
}

static void test_logits__chunk_means(void **state) {
    fixture x;
    dsb_logit_chunk c[CHUNKS];
    fixture_fill(&x);
    dsb_logit_chunks(&x.run, c);
    near(c[1].nll_ref, 0.25);
    near(c[1].nll_test, 0.275);
    near(c[1].kld, 0.0035);
    near(c[4].top1, 0);
    assert_int_equal(c[1].n, 2);
}

static void test_logits__buckets_by_confidence(void **state) {
    fixture x;
    dsb_logit_bucket b[DSB_LOGIT_BUCKETS];
    fixture_fill(&x);
    x.rows[0].conf_ref = 1;
    dsb_logit_buckets(&x.run, b);
    assert_true(b[0].n == 0 && isnan(b[0].kld_mean));
    assert_true(b[9].n == 2 && b[9].wrong_to_right == 1 && b[8].right_to_wrong == 1);
    near(b[9].kld_mean, 0.0055);
    near(b[5].kld_mean, 0.006);
}

static void test_logits__kld_histogram(void **state) {
    fixture x;
    dsb_kld_histogram h;
    fixture_fill(&x);
    for (int i = 0; i < N; i++) x.rows[i].kld = 0.0111;
    x.rows[0].kld = 0;
    x.rows[1].kld = 2e-8;
    x.rows[2].kld = 11;
    dsb_kld_histogram_fill(&x.run, &h);
    assert_true(h.under == 1 && h.over == 1 && h.bin[3] == 1 && h.bin[60] == 7);
    near(dsb_kld_bin_edge(0), 1e-8);
    near(dsb_kld_bin_edge(DSB_KLD_BINS), 10);
}

static void test_logits__reference_has_its_own_figures(void **state) {
    fixture x;
    dsb_figures f;
    fixture_fill(&x);
    dsb_logit_figures_reference(&x.run, &f, NULL);
    assert_int_equal(f.n, 4);
    near(value(&f, "nll"), 0.45);
    near(value(&f, "bits_per_byte"), 4.5 / (log(2) * 40));
    near(value(&f, "top1_accuracy"), 0.9);
}

static void test_logits__no_position_is_an_error(void **state) {
    fixture x;
    dsb_figures f;
    dsb_err err;
    fixture_fill(&x);
    x.run.n_chunk = 0;
    assert_int_equal(dsb_logit_figures(&x.run, &f, &err), DSB_EINPUT);
    x.run.n_chunk = CHUNKS;
    x.starts[1] = 5;
    assert_int_equal(dsb_logit_figures(&x.run, &f, &err), DSB_EINPUT);
    assert_string_equal(err.text, "logit figures: chunk 1 ends before it starts");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits__means_and_percentiles),
        cmocka_unit_test(test_logits__agreement_flips_accuracy),
        cmocka_unit_test(test_logits__intervals_hold_the_value_and_repeat),
        cmocka_unit_test(test_logits__design_effect),
        cmocka_unit_test(test_logits__rows_without_target),
        cmocka_unit_test(test_logits__nonfinite_is_never_averaged_away),
        cmocka_unit_test(test_logits__chunk_means),
        cmocka_unit_test(test_logits__buckets_by_confidence),
        cmocka_unit_test(test_logits__kld_histogram),
        cmocka_unit_test(test_logits__reference_has_its_own_figures),
        cmocka_unit_test(test_logits__no_position_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
