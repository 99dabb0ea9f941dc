/* Throughput judged: scipy's Mann-Whitney, a second implementation of the forecast (tests/fixtures/judge_vectors.json), and closed forms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>

#include "judge_vectors.h"
#include "metrics/speed.h"
#include "metrics/stats.h"

static dsb_judgement asked(double tolerance) {
    dsb_judgement j;
    dsb_judgement_init(&j, DSB_BETTER_HIGHER);
    j.tolerance = tolerance;
    j.gating = true;
    return j;
}

static void test_speed__history_by_a_second_implementation(void **state) {
    json_t *doc = judge_vectors("history");
    static const char *const keys[] = { "base", "diff", "se", "p", "p_regressed", "p_improved", "lo90", "hi90", "detectable" };
    for (size_t k = 0; k < json_array_size(doc); k++) {
        const json_t *c = json_array_get(doc, k);
        double history[VECTORS_MOST];
        dsb_judgement j = asked(vectors_number(c, "tolerance"));
        int64_t n = vectors_array(c, "history", history);
        assert_int_equal(dsb_judge_history(&j, history, n, vectors_number(c, "tps"), NULL), 0);
        assert_int_equal(dsb_judge(&j, 1, NULL), 0);
        const double got[] = { j.base, j.diff, j.se, j.p, j.p_regressed, j.p_improved, j.lo90, j.hi90, j.detectable };
        for (int i = 0; i < 9; i++) vectors_near(c, keys[i], got[i], 1e-9);
    }
    json_decref(doc);
}

static void test_speed__rounds_of_scipy(void **state) {
    json_t *doc = judge_vectors("rounds");
    for (size_t k = 0; k < json_array_size(doc); k++) {
        const json_t *c = json_array_get(doc, k);
        double base[VECTORS_MOST], head[VECTORS_MOST];
        dsb_judgement j = asked(vectors_number(c, "tolerance"));
        int64_t n_base = vectors_array(c, "base", base), n_head = vectors_array(c, "head", head);
        assert_int_equal(dsb_judge_rounds(&j, base, n_base, head, n_head, NULL), 0);
        vectors_near(c, "p", j.p, 1e-9);
        vectors_near(c, "p_regressed", j.p_regressed, 1e-9);
        vectors_near(c, "p_improved", j.p_improved, 1e-9);
        vectors_near(c, "diff", j.diff, 1e-10);
    }
    json_decref(doc);
}

/* Five and five: 1 order of 252; the 90 % interval leaves out pairs that fewer than 5 % of the orders lie beyond: P(U ≤ 3) = 7/252 ≤ 5 % < P(U ≤ 4) = 12/252 … */
static void test_speed__five_rounds_in_closed_form(void **state) {
    double base[5] = { 100, 101, 102, 103, 104 }, slow[5] = { 90, 91, 92, 93, 94 };
    dsb_judgement j = asked(0);
    assert_int_equal(dsb_judge_rounds(&j, base, 5, slow, 5, NULL), 0);
    assert_int_equal(dsb_judge(&j, 1, NULL), 0);
    assert_true(fabs(j.p_regressed - 1.0 / 252) < 1e-15 && fabs(j.p_least - 1.0 / 252) < 1e-15 && fabs(j.p - 2.0 / 252) < 1e-15);
    assert_int_equal(j.verdict, DSB_VERDICT_REGRESSED);
    assert_true(j.lo90 < j.diff && j.diff < j.hi90 && j.lo <= j.lo90 && j.hi >= j.hi90 && j.hi90 < 0 && fabs(j.base - 102) < 1e-12);
    /* 4 of 252 orders have U ≤ 2 and 7 have U ≤ 3, 12 U ≤ 4 (4.76 %), 19 U ≤ 5: the 5th smallest and largest differences. */
    assert_true(fabs(j.hi90 - (94.0 / 103 - 1)) < 0.02 && fabs(j.lo90 - (90.0 / 101 - 1)) < 0.02);
    /* Among 24 families no order of 5 + 5 is rare enough. */
    dsb_judgement many[24];
    for (int i = 0; i < 24; i++) many[i] = j;
    assert_int_equal(dsb_judge(many, 24, NULL), 0);
    assert_true(isinf(many[0].detectable) && many[0].verdict != DSB_VERDICT_REGRESSED);
}

static void test_speed__too_few_are_reported(void **state) {
    double x[5] = { 100, 101, 99, 100.5, 0 };
    dsb_judgement j = asked(0.03);
    dsb_judge_history(&j, x, 5, 50, NULL); /* the fifth is no speed */
    assert_int_equal(dsb_judge(&j, 1, NULL), 0);
    assert_int_equal(j.verdict, DSB_VERDICT_REPORTED);
    assert_false(dsb_judge_alarm(&j, 1));
    j = asked(0.03);
    dsb_judge_rounds(&j, x, 4, x, 4, NULL);
    assert_int_equal(dsb_judge(&j, 1, NULL), 0);
    assert_int_equal(j.verdict, DSB_VERDICT_REPORTED);
}

/* One night at half the speed doesn't blind the nights after it: cut, it counts as 3 robust deviations. */
static void test_speed__one_bad_night_does_not_blind(void **state) {
    double x[20];
    dsb_judgement quiet = asked(0), after = asked(0);
    for (int i = 0; i < 20; i++) x[i] = 100 + (i * 7 % 5) - 2;
    dsb_judge_history(&quiet, x, 20, 94, NULL);
    x[12] = 50;
    dsb_judge_history(&after, x, 20, 94, NULL);
    assert_int_equal(dsb_judge(&quiet, 1, NULL) + dsb_judge(&after, 1, NULL), 0);
    assert_int_equal(quiet.verdict, DSB_VERDICT_REGRESSED);
    assert_int_equal(after.verdict, DSB_VERDICT_REGRESSED);
}

static void test_speed__hosts_that_never_vary(void **state) {
    double x[6] = { 100, 100, 100, 100, 100, 100 }, same[5] = { 7, 7, 7, 7, 7 };
    dsb_judgement equal = asked(0.01), slow = asked(0.01), rounds = asked(0.01);
    dsb_judge_history(&equal, x, 6, 100, NULL);
    dsb_judge_history(&slow, x, 6, 90, NULL);
    dsb_judge_rounds(&rounds, same, 5, same, 5, NULL);
    assert_int_equal(dsb_judge(&equal, 1, NULL) + dsb_judge(&slow, 1, NULL) + dsb_judge(&rounds, 1, NULL), 0);
    assert_int_equal(equal.verdict, DSB_VERDICT_EQUIVALENT);
    assert_int_equal(slow.verdict, DSB_VERDICT_REGRESSED);
    assert_int_equal(rounds.verdict, DSB_VERDICT_EQUIVALENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_speed__history_by_a_second_implementation),
        cmocka_unit_test(test_speed__rounds_of_scipy),
        cmocka_unit_test(test_speed__five_rounds_in_closed_form),
        cmocka_unit_test(test_speed__too_few_are_reported),
        cmocka_unit_test(test_speed__one_bad_night_does_not_blind),
        cmocka_unit_test(test_speed__hosts_that_never_vary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
