/* Tensor figures: closed forms, and where they have no value. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

#include "metrics/moments.h"

/* x = (3, 4), y = (3, 3). */
static const dsb_moments TWO = { .n = 2, .first_bad = -1, .xx = 25, .yy = 18, .xy = 21, .dd = 1, .max_diff = 1, .max_x = 4, .max_y = 3 };

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-14 * fabs(want))) fail_msg("got %.17g, wanted %.17g", got, want);
}

static void test_moments__two_point_closed_form(void **state) {
    dsb_moment_figures f = dsb_moments_figures(&TWO);
    near(f.nmse, 0.04);
    near(f.rel_l2, 0.2);
    near(f.sqnr_db, 20 * log10(5));
    near(f.cosine, 21 / sqrt(25.0 * 18));
    near(f.max_abs, 1);
    near(f.f16_headroom_bits, log2(65504.0 / 3));
}

static void test_moments__identical_is_infinitely_good(void **state) {
    dsb_moments m = { .n = 2, .xx = 25, .yy = 25, .xy = 25, .max_x = 4, .max_y = 4 };
    dsb_moment_figures f = dsb_moments_figures(&m);
    assert_true(f.nmse == 0 && f.rel_l2 == 0 && f.max_abs == 0 && f.cosine == 1);
    assert_true(isinf(f.sqnr_db) && f.sqnr_db > 0);
}

static void test_moments__undefined_is_nan(void **state) {
    dsb_moments none = { .first_bad = -1 }, zero_ref = { .n = 1, .yy = 4, .dd = 4, .max_diff = 2, .max_y = 2 }, bad = TWO;
    bad.nonfinite = 1;
    assert_true(isnan(dsb_moments_nmse(&none)) && isnan(dsb_moments_cosine(&none)) && isnan(dsb_moments_max_abs(&none)));
    assert_true(isnan(dsb_moments_nmse(&zero_ref)) && isnan(dsb_moments_cosine(&zero_ref)));
    dsb_moment_figures f = dsb_moments_figures(&bad);
    assert_true(isnan(f.nmse) && isnan(f.sqnr_db) && isnan(f.cosine) && isnan(f.max_abs) && isnan(f.f16_headroom_bits));
}

static void test_moments__cosine_survives_large_sums(void **state) {
    dsb_moments m = { .n = 1, .xx = 1e200, .yy = 1e200, .xy = -1e200 };
    near(dsb_moments_cosine(&m), -1);
}

static void test_moments__add_keeps_the_first_bad_index(void **state) {
    dsb_moments sum = { 0 }, bad = TWO;
    bad.nonfinite = 1;
    bad.first_bad = 1;
    dsb_moments_add(&sum, &TWO);
    assert_int_equal(sum.first_bad, -1);
    dsb_moments_add(&sum, &bad);
    dsb_moments_add(&sum, &bad);
    assert_int_equal(sum.first_bad, 3);
    assert_int_equal(sum.n, 6);
    assert_int_equal(sum.nonfinite, 2);
    near(sum.xx, 75);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moments__two_point_closed_form),
        cmocka_unit_test(test_moments__identical_is_infinitely_good),
        cmocka_unit_test(test_moments__undefined_is_nan),
        cmocka_unit_test(test_moments__cosine_survives_large_sums),
        cmocka_unit_test(test_moments__add_keeps_the_first_bad_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
