/* Other load on the machine, from given texts of /proc/stat; and what the roofline makes of given ceilings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "harness/busy.h"
#include "kernels/roofline.h"

static dsb_cpu_times times(const char *stat, double own_s) {
    dsb_cpu_times t = {.own_s = own_s};
    if (!dsb_cpu_times_parse(&t, stat, 100)) fail_msg("not read: %s", stat);
    return t;
}

/* Two processors for ten seconds: 2000 ticks. */
static void test_busy__others_share_is_all_but_own(void **state) {
    dsb_cpu_times a = times("cpu  1000 200 300 5000 100 10 20 30 7 0\ncpu0 1 2\n", 3), b = times("cpu  1800 300 500 5600 200 20 30 180 9 0\n", 12);
    /* busy 800 + 100 + 200 + 10 + 10, stolen 150, idle 700 ticks; own 9 s. */
    assert_true(fabs(dsb_busy_percent(&a, &b) - 100 * (11.2 + 1.5 - 9) / (11.2 + 1.5 + 7)) < 1e-9);
    assert_true(fabs(dsb_steal_percent(&a, &b) - 100 * 1.5 / 19.7) < 1e-9);
}

static void test_busy__ticks_that_own_time_outruns_are_no_load(void **state) {
    dsb_cpu_times a = times("cpu  0 0 0 0 0 0 0 0\n", 0), b = times("cpu  100 0 0 100 0 0 0 0\n", 1.004);
    assert_true(dsb_busy_percent(&a, &b) == 0);
    assert_true(isnan(dsb_busy_percent(&a, &a)));
    b.own_s = -1; /* another process's figures: no more than all */
    b.idle_s = 0;
    assert_true(dsb_busy_percent(&a, &b) == 100);
}

static void test_busy__only_the_line_of_all_processors_is_read(void **state) {
    static const char *const wrong[] = {"", "cpu0 1 2 3 4 5 6 7 8\n", "cpu", "cpu 1 2 3\n", "cpu  1 2 3 x 5 6 7 8\n", "cpu  1 2 -3 4 5 6 7 8\n", "cpu  1 2 nan 4 5 6 7 8\n", "intr 5\n"};
    dsb_cpu_times t = {0};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (dsb_cpu_times_parse(&t, wrong[i], 100)) fail_msg("read: %s", wrong[i]);
    t = times("cpu  100 0 0 100 0 0 0\n", 0); /* without steal, as old kernels have it */
    assert_true(t.busy_s == 1 && t.idle_s == 1 && t.steal_s == 0);
}

static void test_busy__roofline_is_of_the_ceiling_that_binds(void **state) {
    dsb_roofline r = {.read_gbps = 10, .f32_gflops = 100, .bf16_gflops = 200, .int8_gops = 400};
    bool memory;
    double ops[DSB_ARITH_COUNT] = {[DSB_ARITH_F32] = 1e9, [DSB_ARITH_INT8] = 4e9}; /* 10 ms and 10 ms */
    assert_true(fabs(dsb_roofline_percent(&r, ops, 1e8, 0.04, &memory) - 50) < 1e-9 && !memory);
    assert_true(fabs(dsb_roofline_percent(&r, ops, 3e8, 0.04, &memory) - 75) < 1e-9 && memory);
    ops[DSB_ARITH_BF16] = 4e9;
    assert_true(fabs(dsb_roofline_percent(&r, ops, 3e8, 0.04, &memory) - 100) < 1e-9 && !memory);
    double none[DSB_ARITH_COUNT] = {0};
    assert_true(isnan(dsb_roofline_percent(&r, none, 0, 1, NULL)) && isnan(dsb_roofline_percent(&r, ops, 1, 0, NULL)));
    r.read_gbps = 0; /* not measured */
    assert_true(isnan(dsb_roofline_percent(&r, ops, 1, 1, NULL)));
    assert_true(dsb_cache_bytes() > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_busy__others_share_is_all_but_own),
        cmocka_unit_test(test_busy__ticks_that_own_time_outruns_are_no_load),
        cmocka_unit_test(test_busy__only_the_line_of_all_processors_is_read),
        cmocka_unit_test(test_busy__roofline_is_of_the_ceiling_that_binds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
