/* Error rates of verdicts over a few simulated runs; the tables of docs/statistics.md come from tests/simulation (`make simulate`).
 * A share lies within its binomial bounds but for one seed in 5,000. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/simulation/speed_rates.h"
#include "tests/simulation/verdict_rates.h"

enum { TIMES = 200 };

static void expect_rate(int64_t k, double p) {
    int64_t least, most;
    binomial_bounds(TIMES, p, 1e-4, &least, &most);
    if (k < least || k > most) fail_msg("%d of %d, wanted %d to %d", (int)k, TIMES, (int)least, (int)most);
}

/* Binomial(4, ½): 1 4 6 4 1 of 16. */
static void test_rates__bounds_of_four_tosses(void **state) {
    int64_t least, most;
    binomial_bounds(4, 0.5, 0.07, &least, &most);
    assert_true(least == 1 && most == 3);
    binomial_bounds(4, 0.5, 0.05, &least, &most);
    assert_true(least == 0 && most == 4);
}

static void test_rates__verdicts_over_chunks(void **state) {
    if (!read_real_differences()) fail_msg("tests/fixtures/chunk_differences.json is wanted; run the tests from the tree's root");
    static const differences kinds[] = { NORMAL, STUDENT_T3, REAL_INT4 };
    for (int k = 0; k < 3; k++) {
        verdict_rates r = verdict_rates_of(kinds[k], 16, TIMES);
        assert_int_equal(r.failed, 0);
        expect_rate(r.alarms, 0.05);
        expect_rate(r.praises, 0.05);
        expect_rate(r.found, 0.8);
        expect_rate(r.equal, 0.05);
    }
}

static void test_rates__throughput(void **state) {
    speed_rates night = speed_rates_of(judge_night, DRIFTING, 20, TIMES), builds = speed_rates_of(judge_builds, STEADY, 10, TIMES);
    expect_rate(night.alarms, 0.05);
    expect_rate(night.found, 0.8);
    expect_rate(builds.alarms, 0.05);
    expect_rate(builds.found, 0.8);
}

static void test_rates__change_points(void **state) {
    change_rates r = change_rates_of(HEAVY, 30, TIMES);
    expect_rate(r.alarms, 0.05);
    assert_true(r.found > TIMES * 9 / 10); /* three standard deviations, over 10 of 30 runs */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates__bounds_of_four_tosses),
        cmocka_unit_test(test_rates__verdicts_over_chunks),
        cmocka_unit_test(test_rates__throughput),
        cmocka_unit_test(test_rates__change_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
