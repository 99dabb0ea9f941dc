/* The metric table: names that fit, occur once, and the ones other programs rely on. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "metrics/figure.h"
#include "metrics/metric_table.h"

static void test_metric_table__names_fit_and_occur_once(void **state) {
    const dsb_metric *rows;
    int n = dsb_metric_list(&rows);
    for (int i = 0; i < n; i++) {
        assert_true(strlen(rows[i].name) < sizeof(((dsb_figure *)0)->metric));
        assert_ptr_equal(dsb_metric_find(rows[i].name), &rows[i]);
        assert_true(rows[i].min < rows[i].max && rows[i].unit[0] && rows[i].what[0]);
    }
    assert_null(dsb_metric_find("no_such_metric"));
}

static void test_metric_table__names_that_outside_checks_rely_on(void **state) {
    static const char *const names[] = { "nll", "ppl", "delta_nll", "ppl_ratio", "bits_per_byte", "kld_mean", "kld_median", "kld_p99", "kld_max",
                                         "top1_agreement", "selection_change", "slot_change", "any_change", "first_layer_mean", "slots_kld_correlation", "nmse", "sqnr_db", "prefill_tps", "decode_tps", "bpw" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) assert_non_null(dsb_metric_find(names[i]));
    assert_string_equal(dsb_better_name(dsb_metric_find("kld_mean")->better), "lower");
    assert_string_equal(dsb_better_name(dsb_metric_find("top1_agreement")->better), "higher");
}

static void test_figures__intervals_are_cut_to_the_legal_range(void **state) {
    dsb_figures list = { 0 };
    dsb_figures_put(&list, "top1_agreement", 0.99, 0.97, 1.01, 10);
    dsb_figures_put(&list, "kld_mean", 1e-4, -1e-5, 3e-4, 10);
    dsb_figures_put(&list, "kld_max", NAN, NAN, NAN, 10);
    assert_true(list.item[0].hi == 1 && list.item[0].lo == 0.97);
    assert_true(list.item[1].lo == 0);
    assert_true(isnan(list.item[2].value) && isnan(list.item[2].lo));
    assert_ptr_equal(dsb_figures_find(&list, "kld_mean"), &list.item[1]);
    assert_null(dsb_figures_find(&list, "nll"));
    assert_string_equal(list.item[1].unit, "nats/token");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metric_table__names_fit_and_occur_once),
        cmocka_unit_test(test_metric_table__names_that_outside_checks_rely_on),
        cmocka_unit_test(test_figures__intervals_are_cut_to_the_legal_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
