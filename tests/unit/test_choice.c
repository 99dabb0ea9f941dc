/* Multiple choice from log-likelihoods: who answers what, ties, lengths, flips; figures in closed form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "metrics/choice.h"
#include "tests/unit/temp_files.h"

/* Four items of two, three, two and two choices. */
static const int64_t first[] = {0, 2, 5, 7, 9}, gold[] = {0, 2, 1, 0}, chars[] = {10, 5, 4, 1, 8, 3, 3, 2, 2};
static const double ref[] = {-10, -6, /**/ -8, -4, -4, /**/ -3, -3, /**/ -1, -2};

static double value(const dsb_figures *f, const char *metric) {
    const dsb_figure *x = dsb_figures_find(f, metric);
    if (!x) fail_msg("no %s", metric);
    return x->value;
}

static void test_choice__the_first_of_the_largest_is_the_answer(void **state) {
    dsb_choice_run run = {.n_item = 4, .first_choice = first, .gold = gold, .chars = chars};
    dsb_choice_answer a[4];
    dsb_choice_answers(&run, ref, a);
    assert_true(a[0].sum == 1 && a[0].norm == 0); /* -6 > -10, but -10/10 > -6/5 */
    assert_true(a[1].sum == 1 && a[1].norm == 2); /* a tie: the first; per character -2, -4, -0.5 */
    assert_true(a[2].sum == 0 && a[2].norm == 0); /* ties */
    assert_true(a[3].sum == 0 && a[3].norm == 0);
    assert_true(a[0].loglik == -10 && a[0].margin == -4);
    assert_true(a[1].margin == 0 && a[2].margin == 0 && a[3].margin == 1);
}

static void test_choice__figures_count_items(void **state) {
    const double test[] = {-5, -6, /**/ -8, -4, -4, /**/ -3, -2, /**/ -9, -2};
    dsb_choice_run run = {.n_item = 4, .first_choice = first, .gold = gold, .chars = chars, .ref = ref, .test = test};
    dsb_figures f;
    dsb_err err;
    assert_int_equal(dsb_choice_figures(&run, &f, &err), DSB_OK);
    /* reference: wrong, wrong, wrong, right; test: right, wrong, right, wrong */
    assert_true(value(&f, "acc") == 0.5 && value(&f, "delta_acc") == 0.25 && value(&f, "acc_changed") == 0.75);
    assert_true(value(&f, "acc_wrong_to_right") == 2 && value(&f, "acc_right_to_wrong") == 1);
    /* per character: right, right, wrong, right; test: right, right, right, wrong */
    assert_true(value(&f, "acc_norm") == 0.75 && value(&f, "delta_acc_norm") == 0 && value(&f, "acc_norm_changed") == 0.5);
    assert_true(value(&f, "acc_norm_wrong_to_right") == 1 && value(&f, "acc_norm_right_to_wrong") == 1);
    assert_int_equal(dsb_figures_find(&f, "acc")->n, 4);
    assert_true(dsb_figures_find(&f, "acc")->lo <= 0.5 && dsb_figures_find(&f, "acc")->hi >= 0.5);
    run.test = run.ref;
    run.ref = NULL;
    assert_int_equal(dsb_choice_figures(&run, &f, &err), DSB_OK);
    assert_int_equal(f.n, 2);
    assert_true(value(&f, "acc") == 0.25 && value(&f, "acc_norm") == 0.75);
}

static void test_choice__what_is_not_finite_answers_nothing(void **state) {
    double test[9];
    dsb_choice_run run = {.n_item = 4, .first_choice = first, .gold = gold, .chars = chars, .ref = ref, .test = test};
    dsb_choice_answer a[4];
    dsb_figures f;
    dsb_err err;
    memcpy(test, ref, sizeof test);
    test[3] = NAN;
    dsb_choice_answers(&run, test, a);
    assert_true(a[1].sum == -1 && a[1].norm == -1 && isnan(a[1].margin) && a[0].sum == 1);
    assert_int_equal(dsb_choice_figures(&run, &f, &err), DSB_OK);
    assert_true(isnan(value(&f, "acc")) && isnan(value(&f, "delta_acc_norm")) && isnan(value(&f, "acc_changed")));
    run.n_item = 0;
    refused(dsb_choice_figures(&run, &f, &err), &err, DSB_EINPUT, "no item", NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice__the_first_of_the_largest_is_the_answer),
        cmocka_unit_test(test_choice__figures_count_items),
        cmocka_unit_test(test_choice__what_is_not_finite_answers_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
