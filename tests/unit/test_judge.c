/* Verdicts: closed forms, scipy's numbers (tests/fixtures/judge_vectors.json), and what no family may do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "judge_vectors.h"
#include "metrics/judge.h"
#include "metrics/stats.h"

enum { N = 16 };

/* base is 1; head differs by `shift` ± `spread` in turns: mean shift, sd spread·√(n/(n−1)). */
static dsb_judgement judged(dsb_better better, double shift, double spread, double tolerance, bool gating) {
    double base[N], head[N];
    dsb_judgement j;
    for (int i = 0; i < N; i++) base[i] = 1, head[i] = 1 + shift + (i % 2 ? spread : -spread);
    dsb_judgement_init(&j, better);
    j.tolerance = tolerance;
    j.gating = gating;
    assert_int_equal(dsb_judge_chunks(&j, base, head, N, NULL), 0);
    return j;
}

static dsb_verdict verdict_of(dsb_judgement j) {
    assert_int_equal(dsb_judge(&j, 1, NULL), 0);
    return j.verdict;
}

static void test_judge__verdicts_of_plain_cases(void **state) {
    const dsb_better L = DSB_BETTER_LOWER, H = DSB_BETTER_HIGHER;
    assert_int_equal(verdict_of(judged(L, 0.1, 0.01, 0.05, true)), DSB_VERDICT_REGRESSED);
    assert_int_equal(verdict_of(judged(L, 0.04, 0.01, 0.05, true)), DSB_VERDICT_EQUIVALENT);
    assert_int_equal(verdict_of(judged(L, 0.05, 0.01, 0.05, true)), DSB_VERDICT_INCONCLUSIVE);
    assert_int_equal(verdict_of(judged(L, -0.1, 0.01, 0.05, true)), DSB_VERDICT_IMPROVED);
    assert_int_equal(verdict_of(judged(L, 0.01, 0.1, 0.02, true)), DSB_VERDICT_INCONCLUSIVE);
    assert_int_equal(verdict_of(judged(H, -0.1, 0.01, 0.05, true)), DSB_VERDICT_REGRESSED);
    assert_int_equal(verdict_of(judged(H, 0.1, 0.01, 0.05, true)), DSB_VERDICT_IMPROVED);
    assert_int_equal(verdict_of(judged(DSB_BETTER_NONE, 0.1, 0.01, 0.05, false)), DSB_VERDICT_REPORTED);
    assert_int_equal(verdict_of(judged(L, 0, 0, 0, true)), DSB_VERDICT_EQUIVALENT);
}

static void test_judge__scipy(void **state) {
    json_t *doc = judge_vectors("chunks");
    for (size_t k = 0; k < json_array_size(doc); k++) {
        const json_t *c = json_array_get(doc, k);
        double base[VECTORS_MOST], head[VECTORS_MOST];
        dsb_judgement j;
        dsb_judgement_init(&j, json_is_true(json_object_get(c, "higher")) ? DSB_BETTER_HIGHER : DSB_BETTER_LOWER);
        j.tolerance = vectors_number(c, "tolerance");
        int64_t n = vectors_array(c, "base", base);
        vectors_array(c, "head", head);
        assert_int_equal(dsb_judge_chunks(&j, base, head, n, NULL), 0);
        assert_int_equal(dsb_judge(&j, 1, NULL), 0);
        vectors_near(c, "p", j.p, 1e-10);
        vectors_near(c, "p_regressed", j.p_regressed, 1e-10);
        vectors_near(c, "p_improved", j.p_improved, 1e-10);
        vectors_near(c, "lo90", j.lo90, 1e-10);
        vectors_near(c, "hi90", j.hi90, 1e-10);
        vectors_near(c, "detectable", j.detectable, 1e-10);
        vectors_near(c, "skewness", j.skewness, 1e-9);
        if (n <= 16) vectors_near(c, "p_check", j.p_check, 1e-12);
    }
    json_decref(doc);
}

/* Three gating tests of p, one that is shown: Holm's steps are over the three. */
static void test_judge__holm_over_the_gating_family_only(void **state) {
    dsb_judgement j[4];
    double shift[4] = { 0.9, 0.8, 0.2, 0.2 };
    for (int i = 0; i < 4; i++) j[i] = judged(DSB_BETTER_LOWER, shift[i], 1, 0, i < 3);
    assert_int_equal(dsb_judge(j, 4, NULL), 0);
    assert_true(fabs(j[0].p_adjusted - 3 * j[0].p_regressed) < 1e-15);
    assert_true(fabs(j[1].p_adjusted - 2 * j[1].p_regressed) < 1e-15);
    assert_true(j[2].p_adjusted == j[2].p_regressed && j[3].p_adjusted == j[3].p_regressed);
    assert_true(fabs(j[0].detectable - dsb_min_detectable(j[0].se, N, 2 * DSB_JUDGE_ALPHA / 3, DSB_JUDGE_POWER)) < 1e-14);
    assert_true(fabs(j[3].detectable - dsb_min_detectable(j[3].se, N, 2 * DSB_JUDGE_ALPHA, DSB_JUDGE_POWER)) < 1e-14);
    assert_true(dsb_judge_alarm(j, 4) && dsb_judge_open(j, 4) && !dsb_judge_alarm(j + 2, 2));
}

/* Schemes that a change doesn't touch cost the others no power. */
static void test_judge__identical_pairs_leave_the_family(void **state) {
    dsb_judgement j[12];
    for (int i = 0; i < 12; i++) j[i] = judged(DSB_BETTER_LOWER, i ? 0 : 0.6, i ? 0 : 1, 0, true);
    assert_int_equal(dsb_judge(j, 12, NULL), 0);
    assert_true(j[0].p_adjusted == j[0].p_regressed && j[0].verdict == DSB_VERDICT_REGRESSED);
    for (int i = 1; i < 12; i++) assert_true(j[i].identical && j[i].verdict == DSB_VERDICT_EQUIVALENT && j[i].p == 1);
}

/* What the pair states as detectable is found where it is planted, if the noise itself lies no lower than its 20th percentile. */
static void test_judge__a_shift_just_above_the_detectable_one_is_found(void **state) {
    dsb_judgement j = judged(DSB_BETTER_LOWER, 0, 0.3, 0.1, true), more, less;
    dsb_judge(&j, 1, NULL);
    more = judged(DSB_BETTER_LOWER, j.detectable, 0.3, 0.1, true);
    less = judged(DSB_BETTER_LOWER, j.detectable - 0.9 * dsb_t_quantile(DSB_JUDGE_POWER, N - 1) * j.se, 0.3, 0.1, true);
    assert_int_equal(verdict_of(more), DSB_VERDICT_REGRESSED);
    assert_int_equal(verdict_of(less), DSB_VERDICT_REGRESSED);
    less = judged(DSB_BETTER_LOWER, j.detectable - 1.1 * dsb_t_quantile(DSB_JUDGE_POWER, N - 1) * j.se, 0.3, 0.1, true);
    assert_int_equal(verdict_of(less), DSB_VERDICT_INCONCLUSIVE);
}

/* A t test of two or three equal differences would be certain; tosses of a coin are not. */
static void test_judge__equal_differences_are_as_certain_as_tosses(void **state) {
    double base[8] = { 0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.4 }, head[8];
    dsb_judgement j;
    for (int i = 0; i < 8; i++) head[i] = base[i] + 1.0 / 255;
    for (int n = 2; n <= 8; n++) {
        dsb_judgement_init(&j, DSB_BETTER_LOWER);
        assert_int_equal(dsb_judge_chunks(&j, base, head, n, NULL), 0);
        assert_true(j.p_regressed == ldexp(1, -n) && j.p_improved == 1);
        assert_int_equal(verdict_of(j), n < 5 ? DSB_VERDICT_INCONCLUSIVE : DSB_VERDICT_REGRESSED);
    }
}

static void test_judge__values_that_are_not_finite(void **state) {
    double base[6] = { 1, 2, NAN, 4, 5, 6 }, head[6] = { 1, 2, 3, 4, 5, 6 }, bad[6] = { 1, 2, 3, NAN, 5, 6 }, none[6] = { NAN, NAN, NAN, NAN, NAN, NAN };
    dsb_judgement j;
    dsb_judgement_init(&j, DSB_BETTER_LOWER);
    j.gating = true;
    dsb_judge_chunks(&j, base, head, 6, NULL);
    assert_true(j.n == 5 && j.identical);
    assert_int_equal(verdict_of(j), DSB_VERDICT_EQUIVALENT);
    dsb_judge_chunks(&j, base, bad, 6, NULL);
    assert_int_equal(verdict_of(j), DSB_VERDICT_REGRESSED);
    dsb_judge_chunks(&j, head, none, 6, NULL);
    assert_true(j.n == 0 && j.test == DSB_TEST_CHUNKS);
    assert_int_equal(verdict_of(j), DSB_VERDICT_REGRESSED);
    dsb_judge_chunks(&j, none, head, 6, NULL);
    assert_true(j.n == 0);
    assert_int_equal(verdict_of(j), DSB_VERDICT_REPORTED);
    dsb_judge_chunks(&j, head, base, 1, NULL);
    assert_int_equal(verdict_of(j), DSB_VERDICT_EQUIVALENT);
    dsb_judge_chunks(&j, head, head + 1, 1, NULL);
    assert_int_equal(verdict_of(j), DSB_VERDICT_INCONCLUSIVE);
}

static void test_judge__within_the_floor_is_never_better_nor_worse(void **state) {
    double floors[3] = { 0.99, NAN, 0.97 };
    dsb_judgement better = judged(DSB_BETTER_LOWER, -0.1, 0.01, 0.05, true), worse = judged(DSB_BETTER_LOWER, 0.1, 0.01, 0.05, true), beyond = worse;
    assert_true(dsb_noise_floor(floors, 3, 1) == 0.97 && dsb_noise_floor(floors, 3, 0) == 0.99 && isnan(dsb_noise_floor(floors + 1, 1, 0)));
    assert_true(dsb_within_floor(0.98, 0.97, 1) && !dsb_within_floor(0.96, 0.97, 1) && !dsb_within_floor(NAN, 1, 0) && !dsb_within_floor(0, NAN, 0));
    better.floor = worse.floor = 1.2;
    beyond.floor = 1.05;
    assert_int_equal(verdict_of(better), DSB_VERDICT_INCONCLUSIVE);
    assert_int_equal(verdict_of(worse), DSB_VERDICT_INCONCLUSIVE);
    assert_int_equal(verdict_of(beyond), DSB_VERDICT_REGRESSED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judge__verdicts_of_plain_cases),
        cmocka_unit_test(test_judge__scipy),
        cmocka_unit_test(test_judge__holm_over_the_gating_family_only),
        cmocka_unit_test(test_judge__identical_pairs_leave_the_family),
        cmocka_unit_test(test_judge__a_shift_just_above_the_detectable_one_is_found),
        cmocka_unit_test(test_judge__equal_differences_are_as_certain_as_tosses),
        cmocka_unit_test(test_judge__values_that_are_not_finite),
        cmocka_unit_test(test_judge__within_the_floor_is_never_better_nor_worse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
