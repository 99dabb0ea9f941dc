/* Routing drift: closed forms over hand-made tokens. 6 experts, 2 a token, 3 groups of 2 unless said. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "metrics/routing.h"

enum { E = 6, K = 2, N = 3 };

/* Token 0: same set. Token 1: expert 1 → 4. Token 2: both changed, {0, 2} → {3, 5}. */
static const int32_t REF[N * K] = { 0, 1, 1, 2, 0, 2 }, TEST[N * K] = { 0, 1, 2, 4, 3, 5 };
static const float REF_W[N * K] = { 0.75f, 0.25f, 1.5f, 0.5f, 0.5f, 0.5f }, TEST_W[N * K] = { 0.25f, 0.75f, 0.5f, 0.5f, 0.75f, 0.25f };
static const float REF_S[N * E] = {
    0.5f, 0.3f, 0.1f, 0.05f, 0.03f, 0.02f, 0.1f, 0.4f, 0.3f, 0.1f, 0.05f, 0.05f, 0.3f, 0.1f, 0.25f, 0.2f, 0.1f, 0.05f,
};
static const float TEST_S[N * E] = {
    0.5f, 0.3f, 0.1f, 0.05f, 0.03f, 0.02f, 0.1f, 0.1f, 0.3f, 0.1f, 0.35f, 0.05f, 0.1f, 0.1f, 0.05f, 0.4f, 0.05f, 0.3f,
};
static const float MARGIN[N] = { 0.2f, 0.2f, 0.05f };

static dsb_routing_pair pair_of(void) {
    return (dsb_routing_pair){ .n = N, .ref_idx = REF, .test_idx = TEST, .ref_weight = REF_W, .test_weight = TEST_W, .ref_scores = REF_S, .test_scores = TEST_S, .ref_margin = MARGIN };
}

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-12 + 1e-12 * fabs(want))) fail_msg("got %.17g, wanted %.17g", got, want);
}

static double value(const dsb_figures *f, const char *name) { return dsb_figures_find(f, name)->value; }

static void test_routing__sets_and_weights_by_hand(void **state) {
    dsb_routing_acc acc;
    dsb_figures f = { 0 };
    dsb_routing_pair p = pair_of();
    int32_t changed[N];
    p.changed = changed;
    assert_int_equal(dsb_routing_acc_init(&acc, E, K, 3, NULL), 0);
    dsb_routing_acc_add(&acc, &p);
    dsb_routing_acc_figures(&acc, &f);
    assert_true(changed[0] == 0 && changed[1] == 1 && changed[2] == 2);
    near(value(&f, "selection_change"), 2.0 / 3);
    near(value(&f, "slot_change"), 3.0 / 6);
    near(value(&f, "jaccard"), (1 + 1.0 / 3 + 0) / 3);
    near(value(&f, "top1_change"), 1); /* weights swap in token 0; ties go to the lower id in token 1 */
    near(value(&f, "gate_l1"), (0.5 + 0.5 * (0.75 + 0.25 + 0.5) + 1) / 3);
    near(value(&f, "mass_lost"), (0 + 0.75 + 1) / 3);
    near(value(&f, "group_change"), 2.0 / 3); /* token 1: groups {0, 1} → {1, 2}; token 2: {0, 1} → {1, 2} */
    dsb_routing_acc_release(&acc);
}

static void test_routing__scores_by_hand(void **state) {
    dsb_routing_acc acc;
    dsb_figures f = { 0 };
    dsb_routing_pair p = pair_of();
    dsb_routing_acc_init(&acc, E, K, 1, NULL);
    dsb_routing_acc_add(&acc, &p);
    dsb_routing_acc_figures(&acc, &f);
    double kld = 0;
    for (int i = 0; i < N; i++) {
        double sa = 0, sb = 0;
        for (int e = 0; e < E; e++) sa += REF_S[i * E + e], sb += TEST_S[i * E + e];
        for (int e = 0; e < E; e++) kld += REF_S[i * E + e] / sa * log(REF_S[i * E + e] / sa / (TEST_S[i * E + e] / sb));
    }
    near(value(&f, "router_kld"), kld / N);
    /* token 1: 1, 2, 0, 3 stand above expert 4, and 5 ties with it: rank 5; token 2: expert 3 is third, 5 last */
    near(value(&f, "rank_of_new"), (5 + 3 + 6) / 3.0);
    assert_true(isnan(value(&f, "group_change")));
    dsb_routing_acc_release(&acc);
}

static void test_routing__load_by_hand(void **state) {
    dsb_routing_acc acc;
    dsb_figures f = { 0 };
    dsb_routing_pair p = pair_of();
    static const int64_t ref[E] = { 2, 2, 2, 0, 0, 0 }, test[E] = { 1, 1, 1, 1, 1, 1 }, away[E] = { 1, 1, 1, 0, 0, 0 }, toward[E] = { 0, 0, 0, 1, 1, 1 };
    dsb_routing_acc_init(&acc, E, K, 1, NULL);
    dsb_routing_acc_add(&acc, &p);
    dsb_routing_acc_figures(&acc, &f);
    assert_memory_equal(acc.hits_ref, ref, sizeof ref);
    assert_memory_equal(acc.hits_test, test, sizeof test);
    assert_memory_equal(acc.moved_away, away, sizeof away);
    assert_memory_equal(acc.moved_toward, toward, sizeof toward);
    near(value(&f, "load_cv_ref"), 1);
    near(value(&f, "load_cv"), 0);
    near(value(&f, "load_entropy_ref"), log(3));
    near(value(&f, "load_entropy"), log(6));
    near(value(&f, "load_tv"), 0.5);
    near(value(&f, "experts_gained_all"), 3);
    near(value(&f, "experts_lost_all"), 0);
    assert_int_equal(dsb_load_of(ref, E).unused, 3);
    dsb_routing_acc_release(&acc);
}

static void test_routing__identical_is_zero(void **state) {
    dsb_routing_acc acc;
    dsb_figures f = { 0 };
    dsb_routing_pair p = pair_of();
    p.test_idx = p.ref_idx;
    p.test_weight = p.ref_weight;
    p.test_scores = p.ref_scores;
    dsb_routing_acc_init(&acc, E, K, 3, NULL);
    dsb_routing_acc_add(&acc, &p);
    dsb_routing_acc_figures(&acc, &f);
    static const char *const zero[] = { "selection_change", "slot_change", "top1_change", "gate_l1", "mass_lost", "router_kld", "group_change", "predicted_change", "load_tv" };
    for (size_t i = 0; i < sizeof zero / sizeof zero[0]; i++) assert_true(value(&f, zero[i]) == 0);
    assert_true(value(&f, "jaccard") == 1 && isnan(value(&f, "rank_of_new")));
    dsb_routing_acc_release(&acc);
}

static void test_routing__without_scores_or_tokens_is_nan(void **state) {
    dsb_routing_acc acc;
    dsb_figures f = { 0 };
    dsb_routing_pair p = pair_of();
    p.ref_scores = p.test_scores = p.ref_margin = NULL;
    dsb_routing_acc_init(&acc, E, K, 1, NULL);
    dsb_routing_acc_figures(&acc, &f);
    assert_true(isnan(value(&f, "selection_change")) && isnan(value(&f, "load_cv")));
    dsb_routing_acc_add(&acc, &p);
    dsb_routing_acc_figures(&acc, &f);
    near(value(&f, "selection_change"), 2.0 / 3);
    assert_true(isnan(value(&f, "router_kld")) && isnan(value(&f, "rank_of_new")) && isnan(value(&f, "predicted_change")));
    dsb_routing_acc_release(&acc);
}

static void test_routing__merge_in_order_is_add_in_order(void **state) {
    dsb_routing_acc one, sum, part;
    dsb_figures f = { 0 }, g = { 0 };
    dsb_routing_pair p = pair_of(), second = pair_of();
    second.test_scores = REF_S;
    dsb_routing_acc_init(&one, E, K, 3, NULL);
    dsb_routing_acc_init(&sum, E, K, 3, NULL);
    dsb_routing_acc_init(&part, E, K, 3, NULL);
    dsb_routing_acc_add(&one, &p);
    dsb_routing_acc_add(&one, &second);
    dsb_routing_acc_add(&part, &p);
    dsb_routing_acc_merge(&sum, &part);
    dsb_routing_acc_clear(&part);
    assert_int_equal(part.n + part.hits_ref[0], 0);
    dsb_routing_acc_add(&part, &second);
    dsb_routing_acc_merge(&sum, &part);
    dsb_routing_acc_figures(&one, &f);
    dsb_routing_acc_figures(&sum, &g);
    for (int i = 0; i < f.n; i++) assert_memory_equal(&f.item[i].value, &g.item[i].value, sizeof(double));
    dsb_routing_acc_release(&one);
    dsb_routing_acc_release(&sum);
    dsb_routing_acc_release(&part);
}

/* 1000 tokens of 2 experts, 1 chosen: margins 1/1000 … 1, the score error swaps them below 0.25. */
static void test_routing__deciles_and_prediction(void **state) {
    enum { M = 1000 };
    static int32_t ref[M], test[M];
    static float w[M], rs[2 * M], ts[2 * M], margin[M];
    dsb_routing_acc acc;
    dsb_figures f = { 0 };
    dsb_margin_decile d[10];
    for (int i = 0; i < M; i++) {
        margin[i] = (float)(i + 1) / M;
        rs[2 * i] = margin[i];
        ts[2 * i + 1] = 0.25f;
        ts[2 * i] = margin[i];
        test[i] = margin[i] < 0.25f;
        w[i] = 1;
    }
    dsb_routing_pair p = { .n = M, .ref_idx = ref, .test_idx = test, .ref_weight = w, .test_weight = w, .ref_scores = rs, .test_scores = ts, .ref_margin = margin };
    dsb_routing_acc_init(&acc, 2, 1, 1, NULL);
    dsb_routing_acc_add(&acc, &p);
    dsb_routing_acc_figures(&acc, &f);
    dsb_routing_acc_deciles(&acc, d);
    near(value(&f, "selection_change"), 249.0 / M);
    /* |error| = 0.25 for all: half of the tokens with a margin below it, as its sign is taken for unknown; 0.25 is a bin's
     * lower edge, so margins in that bin, [0.25, 0.2726), count a quarter each: 249/2 + 23/4 */
    near(value(&f, "predicted_change"), (249 / 2.0 + 23 / 4.0) / M);
    int64_t n = 0;
    for (int i = 0; i < 10; i++) {
        n += d[i].n;
        assert_true(d[i].margin_lo < d[i].margin_hi && (i == 0 || d[i].margin_lo >= d[i - 1].margin_hi));
        assert_in_range(d[i].n, 50, 150); /* a bin at margin m is 9 % of m wide: at most 83 tokens */
    }
    assert_int_equal(n, M);
    assert_true(d[0].change_rate == 1 && d[0].predicted_rate == 0.5 && d[9].change_rate == 0 && d[9].predicted_rate == 0);
    dsb_routing_acc_release(&acc);
}

/* The bias decides who is at the boundary: without it 1 follows 0, with it 2 does. */
static void test_routing__prediction_uses_the_bias(void **state) {
    static const int32_t idx[] = { 0 };
    static const float w[] = { 1 }, rs[] = { 0.75f, 0.5f, 0.25f }, ts[] = { 0.75f, 0.625f, 0.25f }, bias[] = { 0, -0.375f, 0 }, margin[] = { 0.5f };
    dsb_routing_acc acc;
    dsb_routing_pair p = { .n = 1, .ref_idx = idx, .test_idx = idx, .ref_weight = w, .test_weight = w, .ref_scores = rs, .test_scores = ts, .ref_margin = margin };
    dsb_routing_acc_init(&acc, 3, 1, 1, NULL);
    dsb_routing_acc_add(&acc, &p);
    assert_int_equal(acc.error_zero, 0);
    dsb_routing_acc_clear(&acc);
    p.ref_bias = p.test_bias = bias;
    dsb_routing_acc_add(&acc, &p);
    assert_int_equal(acc.error_zero, 1);
    dsb_routing_acc_release(&acc);
}

static void test_routing__bad_shapes_are_refused(void **state) {
    dsb_routing_acc acc;
    dsb_err err;
    assert_int_equal(dsb_routing_acc_init(&acc, 4, 5, 1, &err), DSB_EINPUT);
    assert_int_equal(dsb_routing_acc_init(&acc, 4, 0, 1, &err), DSB_EINPUT);
    assert_int_equal(dsb_routing_acc_init(&acc, 6, 2, 4, &err), DSB_EINPUT);
    assert_string_equal(err.text, "routing: 4 groups don't divide 6 experts");
    dsb_routing_acc_release(&acc);
}

static void test_routing_across__by_hand(void **state) {
    static const int32_t layer0[] = { 0, 1, 0, 0 }, layer1[] = { 0, 2, 1, 0 };
    static const double kld[] = { 0, 0.3, 0.1, NAN };
    const int32_t *changed[] = { layer0, layer1 };
    int64_t first[2];
    dsb_routing_across_figures f;
    assert_int_equal(dsb_routing_across(changed, 2, 4, kld, first, &f, NULL), 0);
    near(f.any_change, 0.5);
    near(f.first_layer_mean, 0.5);
    assert_true(first[0] == 1 && first[1] == 1);
    near(f.slots_kld_correlation, 1); /* 0, 3, 1 against 0, 0.3, 0.1 */
    dsb_routing_across(changed, 1, 1, NULL, NULL, &f, NULL);
    assert_true(f.any_change == 0 && isnan(f.first_layer_mean) && isnan(f.slots_kld_correlation));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routing__sets_and_weights_by_hand),
        cmocka_unit_test(test_routing__scores_by_hand),
        cmocka_unit_test(test_routing__load_by_hand),
        cmocka_unit_test(test_routing__identical_is_zero),
        cmocka_unit_test(test_routing__without_scores_or_tokens_is_nan),
        cmocka_unit_test(test_routing__merge_in_order_is_add_in_order),
        cmocka_unit_test(test_routing__deciles_and_prediction),
        cmocka_unit_test(test_routing__prediction_uses_the_bias),
        cmocka_unit_test(test_routing__bad_shapes_are_refused),
        cmocka_unit_test(test_routing_across__by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
