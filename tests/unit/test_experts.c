/* Coverage layer by layer, and whether activity is a good guide, over rows made up by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "reports/inspect.h"

static void test_experts__coverage_tells_the_least_median_most_and_who_starved(void **state) {
    enum { EXPERTS = 10 };
    dsb_calibration_coverage rows[4 + EXPERTS + 2];
    dsb_run_data d = {.coverage = rows};
    dsb_arena arena;
    dsb_grid g;
    for (int e = 0; e < 4; e++) rows[d.n_coverage++] = (dsb_calibration_coverage){"a", 1, e, 10 * e, 10, e ? NULL : "rtn"};
    for (int e = 0; e < EXPERTS; e++) rows[d.n_coverage++] = (dsb_calibration_coverage){"a", 2, e, 3, 10, "next best"};
    rows[d.n_coverage++] = (dsb_calibration_coverage){"b", 1, 0, 99, 10, NULL};  /* the same for every scheme: told once */
    rows[d.n_coverage++] = (dsb_calibration_coverage){"a", 1, -1, 99, 10, NULL}; /* a tensor that every token passes */
    dsb_arena_init(&arena);
    dsb_inspect_coverage_layers(&d, &arena, &g);
    assert_int_equal(dsb_grid_rows(&g), 2);
    const dsb_cell *c = g.cells, *second = c + g.n_column;
    assert_true(c[0].integer == 1 && c[1].real == 0 && c[2].real == 15 && c[3].real == 30 && c[4].integer == 10 && c[5].integer == 1);
    assert_string_equal(c[6].text, "0 (0)");
    assert_string_equal(c[7].text, "rtn");
    assert_true(second[0].integer == 2 && second[1].real == 3 && second[5].integer == EXPERTS);
    assert_string_equal(second[6].text, "0 (3), 1 (3), 2 (3), 3 (3), 4 (3), 5 (3), 6 (3), 7 (3) …"); /* eight by name */
    assert_string_equal(second[7].text, "next best");
    d.n_coverage = 0;
    dsb_inspect_coverage_layers(&d, &arena, &g);
    assert_int_equal(dsb_grid_rows(&g), 0);
    dsb_arena_release(&arena);
}

static void add(dsb_run_data *d, const char *kind, int64_t layer, const double *value, int n) {
    for (int i = 0; i < n; i++) d->detail[d->n_detail++] = (dsb_quality_detail){.scheme = "reference", .kind = kind, .layer = layer, .bin = i, .value = value[i]};
}

/* Spearman by hand: ranks 0 1.5 1.5 3 against 0 1 2 3 give 4.5/√(4.5·5); a reversed order −1. */
static void test_experts__agreement_is_the_mean_rank_correlation(void **state) {
    static const double k_cost[] = {1, 20, 300, 4000}, k_ties[] = {1, 2, 2, 3}, k_reversed[] = {9, 5, 3, 1}, k_same[] = {7, 7, 7, 7};
    dsb_quality_detail rows[64];
    dsb_layer_error layers[] = {{.layer = 4}};
    dsb_run_data d = {.detail = rows, .layers = layers, .n_layer_row = 1};
    dsb_arena arena;
    int64_t n;
    dsb_arena_init(&arena);
    assert_true(isnan(dsb_expert_agreement(&d, &arena, "expert_activity", &n)) && n == 0);
    for (int l = 1; l <= 4; l++) add(&d, "expert_sensitivity", l, k_cost, 4);
    add(&d, "expert_activity", 1, k_ties, 4);
    double want = 4.5 / sqrt(4.5 * 5);
    assert_true(fabs(dsb_expert_agreement(&d, &arena, "expert_activity", &n) - want) < 1e-15 && n == 1);
    add(&d, "expert_activity", 2, k_reversed, 4);
    assert_true(fabs(dsb_expert_agreement(&d, &arena, "expert_activity", &n) - (want - 1) / 2) < 1e-15 && n == 2);
    add(&d, "expert_activity", 3, k_same, 4); /* no order: says nothing */
    add(&d, "expert_activity", 4, k_cost, 2); /* not of the same experts */
    assert_true(fabs(dsb_expert_agreement(&d, &arena, "expert_activity", &n) - (want - 1) / 2) < 1e-15 && n == 2);
    assert_true(isnan(dsb_expert_agreement(&d, &arena, "expert_mean_abs", &n)));
    dsb_arena_release(&arena);
}

enum { CHUNKS = 6 };

/* KLD of a scheme's chunks: base, and a little noise that all share or not. */
static void scheme(dsb_run_data *d, const char *name, double base, double noise) {
    for (int c = 0; c < CHUNKS; c++) d->chunks[d->n_chunk_row++] = (dsb_chunk_quality){.scheme = name, .chunk = c, .kld = base + 0.01 * c + noise * (c % 2 ? 1 : -1)};
}

/* Differences of −0.1 in every chunk have no spread: the interval is that point. */
static void test_experts__the_guide_is_judged_by_paired_intervals(void **state) {
    static const struct {
        double even, mean_abs, noise;
        const char *verdict;
    } k_case[] = {{0.2, 0.3, 0, "a good guide for"}, {0.2, 0.05, 0, "a bad guide"}, {0.2, 0.1, 0, "a guide that only part"}, {0.1, 0.1, 0.2, "no guide that this text shows to help"}};
    dsb_arena arena;
    dsb_arena_init(&arena);
    for (int i = 0; i < 4; i++) {
        dsb_chunk_quality chunks[4 * CHUNKS];
        dsb_run_data d = {.chunks = chunks};
        char text[1024];
        scheme(&d, "sparse-activity", 0.1, 0);
        assert_false(dsb_expert_guide(&d, &arena, text, sizeof text)); /* nothing to judge it by */
        scheme(&d, "sparse-even", k_case[i].even, k_case[i].noise);
        scheme(&d, "sparse-mean-abs", k_case[i].mean_abs, k_case[i].noise);
        scheme(&d, "sparse-sensitivity", 0.09, 0); /* knows more than activity: no part of the verdict */
        assert_true(dsb_expert_guide(&d, &arena, text, sizeof text));
        if (!strstr(text, k_case[i].verdict)) fail_msg("'%s' isn't in: %s", k_case[i].verdict, text);
        if (!strstr(text, "sparse-sensitivity +0.01 [+0.01, +0.01]")) fail_msg("%s", text);
        assert_int_equal(strstr(text, "(not separated)") != NULL, i > 1);
        d.n_chunk_row = CHUNKS + 3; /* fewer than four chunks in common */
        assert_false(dsb_expert_guide(&d, &arena, text, sizeof text));
    }
    dsb_arena_release(&arena);
}

static void add_chunks(dsb_run_data *d, const char *scheme, double kld, double drift, double spread) {
    for (int c = 0; c < 4; c++) d->chunks[d->n_chunk_row++] = (dsb_chunk_quality){.scheme = scheme, .chunk = c, .kld = kld + (c % 2 ? spread : -spread), .selection_change = drift};
}

/* Differences of −0.2 ± 0.01 twice each: sd 0.01·√(4/3), the half width t(0.975, 3)·sd/√4 = 3.18245·0.0057735 = 0.018374. */
static void test_experts__compensation_stands_beside_the_same_recipe_without(void **state) {
    dsb_scheme_record schemes[] = {
        {.name = "reference", .weight_bytes = -1},
        {.name = "other", .recipe_json = "{\"name\":\"other\",\"rules\":[{\"role\":\"*\",\"format\":\"int3\"}]}", .weight_bytes = 9},
        {.name = "moved", .source = "elsewhere", .recipe_json = "{\"name\":\"moved\",\"rules\":[{\"role\":\"*\",\"format\":\"int4\"}]}", .weight_bytes = 9},
        {.name = "plain", .recipe_json = "{\"name\":\"plain\",\"rules\":[{\"format\":\"int4\",\"role\":\"*\"}]}", .weight_bytes = 1000000},
        {.name = "won", .weight_bytes = 1500000, .recipe_json = "{\"name\":\"won\",\"rules\":[{\"role\":\"router\",\"format\":\"keep\",\"compensation\":\"router\"},"
                                                               "{\"role\":\"*\",\"format\":\"int4\",\"compensation\":[\"bias\"],\"rank\":4}]}"},
    };
    dsb_chunk_quality chunks[16];
    dsb_run_data d = {.schemes = schemes, .n_scheme = 5, .chunks = chunks};
    dsb_arena arena;
    dsb_arena_init(&arena);
    add_chunks(&d, "plain", 0.5, 0.25, 0);
    assert_null(dsb_compensation_won(&d, &arena, "won")); /* no chunks of its own */
    add_chunks(&d, "won", 0.3, 0.20, 0.01);
    assert_string_equal(dsb_compensation_won(&d, &arena, "won"), "beside plain (the same without compensation), paired by chunk: KLD -0.2 nats a token [-0.22, -0.18], "
                                                                 "rerouted tokens -5.00 percentage points [-5.00, -5.00], +0.50 MB");
    assert_null(dsb_compensation_won(&d, &arena, "plain")); /* compensates nothing */
    assert_null(dsb_compensation_won(&d, &arena, "none"));
    d.n_scheme = 3;
    assert_null(dsb_compensation_won(&d, &arena, "won"));
    for (int i = 4; i < 8; i++) chunks[i].kld = i % 2 ? 0.8 : 0.25;
    d.n_scheme = 5;
    assert_non_null(strstr(dsb_compensation_won(&d, &arena, "won"), "; no gain in KLD is shown"));
    dsb_arena_release(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_experts__coverage_tells_the_least_median_most_and_who_starved),
        cmocka_unit_test(test_experts__agreement_is_the_mean_rank_correlation),
        cmocka_unit_test(test_experts__the_guide_is_judged_by_paired_intervals), cmocka_unit_test(test_experts__compensation_stands_beside_the_same_recipe_without),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
