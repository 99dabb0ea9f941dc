/* Change points: exact counts of orders, planted levels, and series without one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "metrics/change_point.h"

static dsb_change_point points[64];

static int64_t found(const double *x, int64_t n, double alpha) {
    int64_t m;
    assert_int_equal(dsb_change_points(x, n, alpha, points, &m, NULL), 0);
    return m;
}

/* Five low, five high: of 252 places of the low ranks two (first or last five) reach the sum, and no other split can: p = 2/252 = 0.79 %.
 * 1999 shuffles: sd 0.2 %, four of them. */
static void test_change_point__p_is_the_share_of_orders(void **state) {
    double x[10] = { 1, 3, 2, 5, 4, 16, 20, 18, 19, 17 };
    assert_int_equal(found(x, 10, 0.05), 1);
    assert_true(points[0].at == 5 && points[0].before == 3 && points[0].after == 18);
    assert_true(fabs(points[0].p - 2.0 / 252) < 0.008);
}

static void test_change_point__levels_and_outliers(void **state) {
    double x[60];
    for (int i = 0; i < 60; i++) x[i] = (i < 20 ? 100 : i < 45 ? 90 : 96) + (i * 7 % 5 - 2) * 0.5;
    x[7] = 10, x[30] = 1000; /* one bad night is no level */
    assert_int_equal(found(x, 60, 0.05), 2);
    assert_true(points[0].at == 20 && points[1].at == 45 && points[0].before == 100 && points[0].after == 90 && points[1].after == 96);
}

static void test_change_point__not_finite_values_keep_their_place(void **state) {
    double x[24];
    for (int i = 0; i < 24; i++) x[i] = (i < 12 ? 5 : 6) + 0.01 * (i * 5 % 7);
    x[3] = x[12] = NAN;
    assert_int_equal(found(x, 24, 0.05), 1);
    assert_int_equal(points[0].at, 13);
}

static void test_change_point__nothing_in_series_without_one(void **state) {
    double flat[30], wave[40];
    for (int i = 0; i < 30; i++) flat[i] = 7;
    for (int i = 0; i < 40; i++) wave[i] = i % 2;
    assert_int_equal(found(flat, 30, 0.05), 0);
    assert_int_equal(found(wave, 40, 0.05), 0);
    assert_int_equal(found(flat, 1, 0.05), 0);
    assert_int_equal(found(flat, 0, 0.05), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_change_point__p_is_the_share_of_orders),
        cmocka_unit_test(test_change_point__levels_and_outliers),
        cmocka_unit_test(test_change_point__not_finite_values_keep_their_place),
        cmocka_unit_test(test_change_point__nothing_in_series_without_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
