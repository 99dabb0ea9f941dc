/* Statistics against closed forms and against scipy 1.17 (its numbers are written here). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "metrics/stats.h"

static const double D[12] = { 0.31, -0.12, 0.45, 0.22, 0.08, -0.27, 0.51, 0.19, 0.36, -0.05, 0.14, 0.27 };

static void near_rel(double got, double want, double rel) {
    if (!(fabs(got - want) <= rel * fabs(want))) fail_msg("got %.17g, wanted %.17g", got, want);
}

static void test_rng__is_splitmix64(void **state) {
    dsb_rng rng = { 0 };
    assert_true(dsb_rng_next(&rng) == 0xe220a8397b1dcdafu);
    assert_true(dsb_rng_next(&rng) == 0x6e789e6aa1b965f4u);
    for (int i = 0; i < 1000; i++) {
        int64_t x = dsb_rng_below(&rng, 3);
        assert_true(x >= 0 && x < 3);
    }
}

static void test_sample__mean_sd_se(void **state) {
    dsb_sample s = dsb_sample_of(D, 12), one = dsb_sample_of(D, 1), none = dsb_sample_of(D, 0);
    near_rel(s.mean, 0.17416666666666666, 1e-14);
    near_rel(s.sd, 0.2330609882464765, 1e-14);
    near_rel(s.se, 0.06727891215085172, 1e-14);
    assert_true(one.mean == D[0] && isnan(one.sd) && isnan(none.mean));
}

static void test_quantile__linear_at_phi_n_minus_1(void **state) {
    double x[] = { 3, 1, 4, 1, 5, 9, 2, 6 }, with_nan[] = { NAN, 2, 1 };
    dsb_sort(x, 8);
    assert_true(dsb_quantile_sorted(x, 8, 0) == 1 && dsb_quantile_sorted(x, 8, 0.5) == 3.5 && dsb_quantile_sorted(x, 8, 1) == 9);
    near_rel(dsb_quantile_sorted(x, 8, 0.9), 6.9, 1e-15);
    near_rel(dsb_quantile_sorted(x, 8, 0.99), 8.79, 1e-15);
    dsb_sort(with_nan, 3);
    assert_true(with_nan[0] == 1 && with_nan[1] == 2 && isnan(with_nan[2]));
    assert_true(isnan(dsb_quantile_sorted(x, 0, 0.5)));
}

static void test_correlation__scipy_pearsonr(void **state) {
    double x[] = { 3, 1, 4, 1, 5, 9, 2, 6, NAN }, y[] = { 2, 7, 1, 8, 2, 8, 1, 8, 5 }, flat[] = { 1, 1, 1 };
    near_rel(dsb_correlation(x, y, 9), 0.2096553190730121, 1e-14);
    near_rel(dsb_correlation(x, x, 8), 1, 1e-15);
    assert_true(isnan(dsb_correlation(x, flat, 3)));
}

static void test_incomplete_beta__closed_forms_and_scipy(void **state) {
    /* I_x(1/2, 1/2) = (2/π)·asin √x; I_x(2, 3) = x²(6 − 8x + 3x²) */
    near_rel(dsb_incomplete_beta(0.5, 0.5, 0.3), 2 / M_PI * asin(sqrt(0.3)), 1e-13);
    near_rel(dsb_incomplete_beta(2, 3, 0.7), 0.49 * (6 - 5.6 + 1.47), 1e-13);
    near_rel(dsb_incomplete_beta(15.5, 0.5, 0.99), 0.5797860758026341, 1e-12);
    near_rel(dsb_incomplete_beta(200, 0.5, 0.2), 7.158517712299899e-142, 1e-11);
    near_rel(dsb_incomplete_beta(0.01, 5, 0.5), 0.9998897842885545, 1e-13);
    near_rel(dsb_incomplete_beta(500, 500, 0.51), 0.7364243916434143, 1e-11);
    assert_true(dsb_incomplete_beta(2, 3, 0) == 0 && dsb_incomplete_beta(2, 3, 1) == 1);
}

static void test_t__cdf_of_scipy(void **state) {
    near_rel(dsb_t_cdf(-40, 1), 0.007956089912025812, 1e-12);
    near_rel(dsb_t_cdf(0.5, 2), 2.0 / 3, 1e-13); /* ½ + t/(2√(2+t²)) */
    near_rel(dsb_t_cdf(-3, 5), 0.015049623948731293, 1e-12);
    near_rel(dsb_t_cdf(-40, 31), 1.5090709622210297e-28, 1e-11);
    near_rel(dsb_t_cdf(2, 1000), 0.97711482675337432, 1e-13); /* mpmath, 40 digits: scipy's 11th digit is off */
    assert_true(dsb_t_cdf(0, 7) == 0.5);
}

static void test_t__quantile_of_scipy(void **state) {
    static const struct { double p, df, t; } want[] = {
        { 0.9, 1, 3.0776835371752544 }, { 0.999, 1, 318.30883898555015 }, { 0.975, 2, 4.302652729749462 }, { 0.95, 5, 2.0150483733330233 },
        { 0.975, 31, 2.039513446396408 }, { 0.999, 31, 3.3748992804233016 }, { 0.975, 1000, 1.9623390808264083 },
    };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        near_rel(dsb_t_quantile(want[i].p, want[i].df), want[i].t, 1e-11);
        near_rel(dsb_t_quantile(1 - want[i].p, want[i].df), -want[i].t, 1e-11);
    }
    assert_true(dsb_t_quantile(0.5, 3) == 0 && isnan(dsb_t_quantile(1, 3)) && isnan(dsb_t_quantile(0.5, 0)));
}

static void test_t_test__scipy_ttest_1samp(void **state) {
    double same[] = { 0.5, 0.5, 0.5 };
    near_rel(dsb_t_test(D, 12, 0), 0.025195375739660998, 1e-12);
    near_rel(dsb_t_test(D, 12, 0.1), 0.2938328387385412, 1e-12);
    assert_true(dsb_t_test(same, 3, 0.5) == 1 && dsb_t_test(same, 3, 0) == 0 && isnan(dsb_t_test(D, 1, 0)));
}

static void test_t_interval__scipy(void **state) {
    double lo, hi;
    dsb_t_interval(D, 12, 0.90, &lo, &hi);
    near_rel(lo, 0.05334148971602902, 1e-11);
    near_rel(hi, 0.29499184361730424, 1e-12);
    dsb_t_interval(D, 12, 0.95, &lo, &hi);
    near_rel(lo, 0.026086779435533003, 1e-11);
    near_rel(hi, 0.3222465538978003, 1e-12);
}

static void test_min_detectable__sum_of_two_quantiles(void **state) {
    double want = (dsb_t_quantile(0.975, 31) + dsb_t_quantile(0.8, 31)) * 0.25;
    near_rel(dsb_min_detectable(0.25, 32, 0.05, 0.8), want, 1e-15);
    assert_true(isnan(dsb_min_detectable(0.25, 1, 0.05, 0.8)));
}

static void test_sign_flip__exact_and_random(void **state) {
    double zeros[20] = { 0 }, same[3] = { 1, 1, 1 }, many[24];
    near_rel(dsb_sign_flip_p(D, 12, 0, 0), 120.0 / 4096, 1e-15); /* scipy.stats.permutation_test, exact */
    near_rel(dsb_sign_flip_p(same, 3, 0, 0), 2.0 / 8, 1e-15);
    assert_true(dsb_sign_flip_p(zeros, 20, 999, 1) == 1);
    for (int i = 0; i < 24; i++) many[i] = 1; /* the observed sum needs all signs alike: 2 in 2^24 */
    near_rel(dsb_sign_flip_p(many, 24, 999, 1), 1.0 / 1000, 1e-15);
}

static void test_bootstrap_t__second_implementation(void **state) {
    static const double sum[] = { 3, 1, 4, 1, 5, 9 }, count[] = { 2, 1, 3, 2, 2, 4 };
    double lo, hi;
    assert_int_equal(dsb_bootstrap_t(D, NULL, 12, 0.95, 7, &lo, &hi, NULL), 0);
    near_rel(lo, 0.014603110107669348, 1e-10); /* numpy, same generator */
    near_rel(hi, 0.31396462765092037, 1e-10);
    dsb_bootstrap_t(sum, count, 6, 0.95, 11, &lo, &hi, NULL);
    near_rel(lo, 0.7767212279267671, 1e-10);
    near_rel(hi, 2.7895420811462643, 1e-10);
}

static void test_bootstrap_t__edges(void **state) {
    static const double flat[] = { 0.1, 0.1, 0.1, 0.1, 0.1 }, bad[] = { 1, 2, NAN, 4 }, one_differs[] = { 0, 0, 0, 0, 1 };
    double lo, hi;
    dsb_bootstrap_t(flat, NULL, 5, 0.95, 1, &lo, &hi, NULL);
    near_rel(lo, 0.1, 1e-15);
    assert_true(lo == hi);
    dsb_bootstrap_t(D, NULL, 3, 0.95, 1, &lo, &hi, NULL);
    assert_true(isnan(lo) && isnan(hi));
    dsb_bootstrap_t(bad, NULL, 4, 0.95, 1, &lo, &hi, NULL);
    assert_true(isnan(lo) && isnan(hi));
    dsb_bootstrap_t(one_differs, NULL, 5, 0.95, 1, &lo, &hi, NULL);
    near_rel(lo, 0.2 - dsb_t_quantile(0.975, 4) * 0.2, 1e-12); /* a third of the resamples are all zeros */
    near_rel(hi, 0.2 + dsb_t_quantile(0.975, 4) * 0.2, 1e-12);
}

/* 400 samples of 16 sums of uniforms: the share of intervals that hold the true mean is binomial(400, 0.95),
 * whose sd is 1.1 %; four of them on either side. */
static void test_bootstrap_t__covers_the_mean(void **state) {
    dsb_rng rng = { 42 };
    int held = 0;
    for (int s = 0; s < 400; s++) {
        double x[16], lo, hi;
        for (int i = 0; i < 16; i++) {
            x[i] = 0;
            for (int j = 0; j < 4; j++) x[i] += (double)(dsb_rng_next(&rng) >> 11) * 0x1p-53;
        }
        dsb_bootstrap_t(x, NULL, 16, 0.95, (uint64_t)s, &lo, &hi, NULL);
        held += lo <= 2 && 2 <= hi;
    }
    assert_in_range(held, 380 - 18, 380 + 18);
}

static void test_design_effect__chunks_of_copies(void **state) {
    /* m equal values a chunk: SE_chunk² = s²/C with s² over C−1, SE_token² = (C−1)s²m/((Cm−1)·Cm): ratio (Cm−1)/(C−1). */
    double x[12];
    int64_t start[] = { 0, 4, 8, 12 };
    for (int i = 0; i < 12; i++) x[i] = i / 4 == 0 ? 1 : i / 4 == 1 ? 2 : 6;
    near_rel(dsb_design_effect(x, start, 3), 11.0 / 2, 1e-13);
    assert_true(isnan(dsb_design_effect(x, start, 1)));
}

static void test_holm__worked_example(void **state) {
    double p[] = { 0.01, 0.04, 0.03, 0.005 };
    assert_int_equal(dsb_holm(p, 4, p, NULL), 0);
    near_rel(p[3], 0.02, 1e-15);
    near_rel(p[0], 0.03, 1e-15);
    near_rel(p[2], 0.06, 1e-15);
    near_rel(p[1], 0.06, 1e-15); /* 0.04·1, raised to the one before */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rng__is_splitmix64),
        cmocka_unit_test(test_sample__mean_sd_se),
        cmocka_unit_test(test_quantile__linear_at_phi_n_minus_1),
        cmocka_unit_test(test_correlation__scipy_pearsonr),
        cmocka_unit_test(test_incomplete_beta__closed_forms_and_scipy),
        cmocka_unit_test(test_t__cdf_of_scipy),
        cmocka_unit_test(test_t__quantile_of_scipy),
        cmocka_unit_test(test_t_test__scipy_ttest_1samp),
        cmocka_unit_test(test_t_interval__scipy),
        cmocka_unit_test(test_min_detectable__sum_of_two_quantiles),
        cmocka_unit_test(test_sign_flip__exact_and_random),
        cmocka_unit_test(test_bootstrap_t__second_implementation),
        cmocka_unit_test(test_bootstrap_t__edges),
        cmocka_unit_test(test_bootstrap_t__covers_the_mean),
        cmocka_unit_test(test_design_effect__chunks_of_copies),
        cmocka_unit_test(test_holm__worked_example),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
