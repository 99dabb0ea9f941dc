/* Calibration: ranges and static scales, what stands in where nothing was seen, clipping, and the experts a recipe picks. */
#include "sweep_run.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

static void test_calibration__a_range_is_the_largest_of_all_batches(void **state) {
    dsb_range_observer o = {0};
    float scale;
    assert_false(dsb_static_scale(&o, 127, 1, &scale)); /* nothing seen */
    assert_true(scale == 0);
    dsb_range_observer_add(&o, 0, 3);
    assert_false(dsb_static_scale(&o, 127, 1, &scale)); /* only zeros */
    dsb_range_observer_add(&o, 254, 5);
    dsb_range_observer_add(&o, 127, 2);
    assert_true(o.absmax == 254 && o.n_token == 10 && !o.nonfinite);
    assert_true(dsb_static_scale(&o, 127, 1, &scale) && scale == 2);
    assert_true(dsb_static_scale(&o, 127, 0.5, &scale) && scale == 1);
    assert_true(dsb_static_scale(&o, 127, 1.1, &scale) && scale == (float)(254 * 1.1) / 127);
    assert_false(dsb_static_scale(&o, 127, 1e37, &scale)); /* overflows */
    dsb_range_observer_add(&o, NAN, 1);
    assert_true(o.absmax == 254 && o.nonfinite);
    assert_false(dsb_static_scale(&o, 127, 1, &scale)); /* a NaN among them: no scale to trust */
    o = (dsb_range_observer){0};
    dsb_range_observer_add(&o, INFINITY, 1);
    assert_true(o.nonfinite && o.absmax == 0);
    o = (dsb_range_observer){.absmax = 1e-45f, .n_token = 1};
    assert_false(dsb_static_scale(&o, 127, 1, &scale)); /* underflows */
}

static void count(uint64_t *bins, float x, uint64_t n) { /* n values of one magnitude */
    uint64_t one[DSB_BINS] = {0};
    dsb_backend_cpu(NULL)->histogram(&x, 1, one);
    for (int i = 0; i < DSB_BINS; i++) bins[i] += n * one[i];
}

/* 1 % of the values are 64 times as large as all others. */
static void test_calibration__calibrators_cut_what_few_values_need(void **state) {
    uint64_t bins[DSB_BINS] = {0};
    dsb_range_observer o = {.absmax = 64, .n_token = 10, .bins = bins};
    float scale;
    for (int i = 1; i <= 99; i++) count(bins, (float)i / 99, 1000);
    count(bins, 64, 1000);
    assert_true(dsb_calibrated_range(&o, DSB_CAL_MINMAX, 0, 127) == 64);
    assert_true(dsb_calibrated_range(&o, DSB_CAL_PERCENTILE, 99.5, 127) == 64);
    assert_true(dsb_calibrated_range(&o, DSB_CAL_PERCENTILE, 99, 127) == 1.0625); /* the end of 1's bin */
    assert_true(dsb_calibrated_range(&o, DSB_CAL_PERCENTILE, 50, 127) < 0.55);
    /* Whole, a step is 1/2 and leaves 1/48 for 99 %; cut to 1 it leaves 63² for 1 %: the mean square keeps the few, for 8 bits and FP8. */
    assert_true(dsb_calibrated_range(&o, DSB_CAL_MSE, 0, 127) > 60 && dsb_calibrated_range(&o, DSB_CAL_MSE, 0, 448) > 60);
    assert_true(dsb_calibrated_scale(&o, DSB_CAL_PERCENTILE, 99, 127, 2, &scale) && scale == 2.125f / 127);
    o.bins = NULL; /* without a histogram the range is the largest magnitude */
    assert_true(dsb_calibrated_range(&o, DSB_CAL_MSE, 0, 127) == 64);
    o = (dsb_range_observer){.n_token = 3, .bins = bins};
    for (int c = 0; c < DSB_CALIBRATOR_COUNT; c++) {
        assert_false(dsb_calibrated_scale(&o, (dsb_calibrator)c, 99, 127, 1, &scale)); /* only zeros */
        assert_int_equal(dsb_calibrator_find(dsb_calibrator_name((dsb_calibrator)c)), c);
    }
    assert_int_equal(dsb_calibrator_find("max"), -1);
}

/* A falling density, and one value in 10 000 at 64. Whole, all but it lies in three codes, whose shape is lost: the logarithm of the density
 * spreads by some 0.3 in the first, 0.01 of divergence and more; cut near 1 the clipped 1e-4 join a bin of 1e-3: less than 1e-3. */
static void test_calibration__divergence_cuts_lone_values(void **state) {
    uint64_t bins[DSB_BINS] = {0}, whole[DSB_BINS] = {0};
    dsb_range_observer o = {.absmax = 64, .n_token = 10, .bins = bins};
    for (int i = 1; i <= 990; i++) count(bins, (float)i / 990, (uint64_t)(1000 - i));
    memcpy(whole, bins, sizeof whole);
    count(bins, 64, 50);
    double range = dsb_calibrated_range(&o, DSB_CAL_KL, 0, 127);
    assert_true(range < 8 && range > 0.5);
    assert_true(dsb_calibrated_range(&o, DSB_CAL_KL, 0, 448) > 0.5);
    o.absmax = 1; /* without the lone value there is nothing to cut: eight bits hold the shape */
    o.bins = whole;
    assert_true(dsb_calibrated_range(&o, DSB_CAL_KL, 0, 127) > 0.75);
}

/* 2-bit codes of an even spread: the squared error's best range is inside. With f = range: (1-f)³/3 + f·(f/qmax)²/12 grows from the end. */
static void test_calibration__mean_square_cuts_an_even_spread_of_few_codes(void **state) {
    uint64_t bins[DSB_BINS] = {0};
    dsb_range_observer o = {.absmax = 1, .n_token = 1, .bins = bins};
    for (int i = 1; i <= 4096; i++) count(bins, (float)i / 4096, 1);
    double range = dsb_calibrated_range(&o, DSB_CAL_MSE, 0, 3);
    assert_true(range < 1 && range > 0.75); /* its minimum: (1-f)² = f²/36, f = 6/7, within a bin's width of 1/16 */
}

static void test_calibration__ranks_are_the_share_below(void **state) {
    static const double value[] = {3, 1, 3, 2}, same[] = {5, 5};
    double rank[4];
    dsb_rank(value, 4, rank);
    assert_true(rank[0] == 0.5 && rank[1] == 0 && rank[2] == 0.5 && rank[3] == 0.25);
    dsb_rank(same, 2, rank);
    assert_true(rank[0] == 0 && rank[1] == 0);
}

typedef struct ranges {
    const dsb_backend *be;
    float absmax[DSB_ROLE_COUNT];
} ranges;
static void on_input(void *ctx, dsb_role role, const float *x, int64_t n, int64_t cols) {
    ranges *r = ctx;
    float a = r->be->absmax(x, n * cols);
    if (a > r->absmax[role]) r->absmax[role] = a;
}

/* Every linear's range against inputs recomputed from the reference's own states (one calibration chunk). */
static void layer_ranges(sr_run *r, dsb_session *s, int64_t l, float *x) {
    const dsb_config *c = &r->m.config;
    int64_t n = SR_CTX * c->d_model;
    int32_t pos[SR_CTX];
    dsb_seq seq = {0, SR_CTX, 0, SR_CTX};
    ranges seen = {.be = r->m.be};
    dsb_input_observer obs = {&seen, on_input};
    float *out = malloc((size_t)n * sizeof *out);
    for (int i = 0; i < SR_CTX; i++) pos[i] = i;
    assert_int_equal(dsb_attention_forward(&r->m, &s->layers[l].attn, false, x, SR_CTX, pos, &seq, 1, NULL, &obs, &s->ws, out, NULL), DSB_OK);
    r->m.be->add(x, out, n);
    dsb_ffn_norm(&r->m, &s->layers[l].router, false, x, SR_CTX, x);
    bool moe = dsb_layer_is_moe(c, l);
    if (!moe || c->n_shared) assert_int_equal(dsb_ffn_forward(&r->m, &s->layers[l].dense, moe ? DSB_ROLE_SHARED_GATE : DSB_ROLE_DENSE_GATE, false, x, SR_CTX, &obs, &s->ws, out, NULL), DSB_OK);
    for (int role = 0; role < DSB_ROLE_COUNT; role++) {
        const dsb_range_observer *got = &r->cal.layers[l].role[role];
        assert_true(got->absmax == seen.absmax[role]);
        assert_int_equal(got->n_token, seen.absmax[role] > 0 ? SR_CTX : 0);
    }
    if (moe) {
        dsb_routing route;
        assert_int_equal(dsb_routing_alloc(&route, c, SR_CTX, false, NULL), DSB_OK);
        assert_int_equal(dsb_router_forward(&r->m, &s->layers[l].router, x, 0, SR_CTX, &s->ws, &route, NULL), DSB_OK);
        for (int64_t e = 0; e < c->n_expert; e++) {
            float most = 0;
            int64_t tokens = 0;
            double activity = 0;
            for (int64_t i = 0; i < SR_CTX * route.k; i++) {
                if (route.idx[i] != e) continue;
                float a = r->m.be->absmax(x + i / route.k * c->d_model, c->d_model);
                most = a > most ? a : most;
                tokens++;
                activity += (double)route.weight[i];
            }
            const dsb_range_observer *got = &r->cal.layers[l].expert[e * 3];
            assert_true(got[0].absmax == most && got[1].absmax == most && (got[2].absmax > 0) == (tokens > 0));
            for (int i = 0; i < 3; i++) assert_int_equal(got[i].n_token, tokens);
            assert_true(fabs(r->cal.layers[l].activity[e] - activity) <= 1e-12 * activity);
        }
        dsb_routing_release(&route);
    }
    free(out);
}

static void test_calibration__ranges_are_those_of_each_linear_s_inputs(void **state) {
    sr_run *r = sr_open();
    dsb_session s;
    sr_sweep(r, 1); /* no scheme: it calibrates and measures the reference alone */
    int64_t n = SR_CTX * r->m.config.d_model;
    float *hidden = malloc((size_t)(r->m.config.n_layer * n) * sizeof *hidden), *x = malloc((size_t)n * sizeof *x);
    dsb_trace_sink sink = {.hidden = hidden};
    assert_int_equal(dsb_session_open(&s, &r->m, &r->reference, NULL, SR_CTX, NULL), DSB_OK);
    assert_int_equal(dsb_session_forward(&s, r->tokens, SR_CTX, 0, NULL, &sink, NULL), DSB_OK);
    assert_int_equal(dsb_embed(&r->m, &r->reference, r->tokens, SR_CTX, x, NULL), DSB_OK);
    for (int64_t l = 0; l < r->m.config.n_layer; l++) {
        layer_ranges(r, &s, l, x);
        memcpy(x, hidden + l * n, (size_t)n * sizeof *x);
    }
    dsb_session_close(&s);
    free(hidden);
    free(x);
    sr_close(r);
}

/* Static everywhere that calibration saw a token; elsewhere dynamic, and the event says so. */
static void test_calibration__uncovered_experts_fall_back_and_say_so(void **state) {
    sr_run *r = sr_open();
    const dsb_config *c = &r->m.config;
    dsb_session s;
    sr_add_preset(r, "static-int8");
    sr_sweep(r, 1);
    assert_int_equal(dsb_session_open(&s, &r->m, &r->schemes[0], &r->cal, SR_CTX, NULL), DSB_OK);
    for (int64_t l = 0; l < c->n_layer; l++) {
        for (int role = 0; role < DSB_ROLE_COUNT; role++) {
            const sr_tensor *t = &r->other[0][l][role];
            if (!t->format || role == DSB_ROLE_ROUTER) continue;
            assert_true(!t->fell_back && t->activation == DSB_ACT_INT8_STATIC);
        }
        assert_true(s.layers[l].attn.o.static_scale == r->cal.layers[l].role[DSB_ROLE_ATTN_O].absmax / 127.0f);
        for (int64_t e = 0; dsb_layer_is_moe(c, l) && e < c->n_expert; e++)
            for (int i = 0; i < 3; i++) {
                const dsb_range_observer *range = &r->cal.layers[l].expert[e * 3 + i];
                const dsb_linear *w = i == 0 ? &s.layers[l].experts[e].gate : i == 1 ? &s.layers[l].experts[e].up : &s.layers[l].experts[e].down;
                assert_int_equal(r->expert[0][l][e][i].fell_back, range->n_token == 0);
                assert_int_equal(r->expert[0][l][e][i].activation, range->n_token ? DSB_ACT_INT8_STATIC : DSB_ACT_INT8_DYNAMIC);
                assert_true(w->static_scale == range->absmax / 127.0f);
            }
    }
    dsb_session_close(&s);
    sr_close(r);
}

/* Tokens came, but all they brought is zeros: no static scale, and another reason than no token at all. */
static void test_calibration__a_range_of_zeros_falls_back_and_says_so(void **state) {
    sr_run *r = sr_open();
    dsb_loader loader;
    dsb_linear_spec spec;
    dsb_expert_facts facts = {0};
    sr_add_json(r, "{\"name\": \"static\", \"rules\": [{\"role\": \"lm_head\", \"format\": \"int8\", \"activation\": \"int8-static\"}]}");
    dsb_head_spec(&r->m.config, &spec);
    dsb_loader_init(&loader, &r->m);
    for (int seen = 0; seen < 3; seen++) {
        dsb_range_observer range = {.n_token = seen ? 5 : 0, .absmax = seen == 2 ? 1 : 0};
        dsb_tensor_event e;
        dsb_linear w;
        assert_int_equal(dsb_load_scheme(&loader, &r->schemes[0], &spec, &facts, &range, NULL, NULL, &w, &e, NULL), DSB_OK);
        assert_int_equal(e.fell_back, seen < 2);
        assert_int_equal(e.no_range, seen == 1);
        assert_int_equal(w.activation, seen < 2 ? DSB_ACT_INT8_DYNAMIC : DSB_ACT_INT8_STATIC);
        dsb_linear_release(r->m.be, &w);
    }
    dsb_loader_release(&loader);
    sr_close(r);
}

static void test_calibration__without_chunks_every_static_linear_falls_back(void **state) {
    sr_run *r = sr_open();
    sr_add_preset(r, "static-int8");
    sr_sweep(r, 0);
    for (int64_t l = 0; l < r->m.config.n_layer; l++) assert_true(r->other[0][l][DSB_ROLE_ATTN_O].fell_back && r->other[0][l][DSB_ROLE_ATTN_O].activation == DSB_ACT_INT8_DYNAMIC);
    assert_int_equal(r->values[0], 0);
    sr_close(r);
}

/* Every static scheme of the table runs with the scales of its calibrator, and says how much it clips. */
static void test_calibration__each_calibrator_gives_its_own_scales(void **state) {
    sr_run *r = sr_open();
    static const char *const k_how[] = {"minmax", "percentile", "mse", "kl"};
    for (int i = 0; i < 8; i++) {
        char json[300];
        snprintf(json, sizeof json, "{\"name\": \"s%d\", \"rules\": [{\"role\": \"*\", \"format\": \"%s\", \"activation\": \"%s-static\", \"calibrator\": \"%s\"%s}]}", i, i < 4 ? "int8" : "fp8_e4m3", i < 4 ? "int8" : "fp8", k_how[i % 4],
                 i % 4 == 1 ? ", \"percentile\": 90" : "");
        sr_add_json(r, json);
    }
    sr_sweep(r, 3);
    for (int i = 0; i < 8; i++) {
        assert_true(r->values[i] > 0);
        assert_int_equal(r->other[i][0][DSB_ROLE_ATTN_O].activation, i < 4 ? DSB_ACT_INT8_STATIC : DSB_ACT_FP8_STATIC);
        if (i % 4 == 1) assert_true(r->clipped[i] * 50 > r->values[i]); /* a tenth is cut, of what the reference had */
    }
    const dsb_range_observer *o = &r->cal.layers[0].role[DSB_ROLE_ATTN_O];
    assert_non_null(o->bins);
    assert_true(dsb_calibrated_range(o, DSB_CAL_PERCENTILE, 90, 127) < (double)o->absmax);
    sr_close(r);
}

/* Half the range clips for certain: the chunk that was calibrated is among those run. Counted are the scheme's own
 * activations, as its session meets them, and none of the isolated passes. */
static void test_calibration__clipping_is_counted_on_the_scheme_s_own_stream(void **state) {
    sr_run *r = sr_open();
    dsb_session s;
    sr_add_json(r, "{\"name\": \"tight\", \"rules\": [{\"role\": \"*\", \"format\": \"int8\", \"activation\": \"int8-static\", \"static_margin\": 0.5}]}");
    sr_sweep(r, 1);
    assert_int_equal(dsb_session_open(&s, &r->m, &r->schemes[0], &r->cal, SR_CTX, NULL), DSB_OK);
    for (int chunk = 0; chunk < SR_CHUNKS; chunk++) {
        dsb_session_rewind(&s);
        assert_int_equal(dsb_session_forward(&s, r->tokens + chunk * SR_CTX, SR_CTX, 0, NULL, NULL, NULL), DSB_OK);
    }
    assert_true(r->clipped[0] > 0);
    assert_int_equal(r->values[0], s.ws.static_values);
    assert_int_equal(r->clipped[0], s.ws.clipped);
    dsb_session_close(&s);
    sr_close(r);
}

/* Each projection that reads the block's input counts once: here that of MLA's latent alone is static. */
static void test_calibration__every_static_projection_counts_its_inputs(void **state) {
    sr_run *r = sr_open();
    sr_add_json(r, "{\"name\": \"latent\", \"rules\": [{\"role\": \"attn.kv_a\", \"format\": \"int8\", \"activation\": \"int8-static\"}]}");
    sr_sweep(r, 1);
    assert_int_equal(r->values[0], r->m.config.n_layer * SR_CHUNKS * SR_CTX * r->m.config.d_model);
    sr_close(r);
}

static double mean_abs_by_hand(sr_run *r, int64_t layer, int64_t expert) {
    dsb_linear_spec specs[3];
    double sum = 0, n = 0;
    dsb_ffn_specs(&r->m.config, layer, DSB_ROLE_EXPERT_GATE, expert, specs);
    for (int i = 0; i < 3; i++) {
        int64_t size = specs[i].rows * specs[i].cols;
        float *w = malloc((size_t)size * sizeof *w);
        dsb_qtensor codes;
        dsb_dtype stored;
        assert_int_equal(dsb_checkpoint_read_linear(&r->m.checkpoint, specs[i].stem, specs[i].rows, specs[i].cols, w, &codes, &stored, NULL), DSB_OK);
        for (int64_t j = 0; j < size; j++) sum += fabs((double)w[j]);
        n += (double)size;
        dsb_qtensor_release(&codes);
        free(w);
    }
    return sum / n;
}

static void test_calibration__sparse_expert_picks_what_its_recipe_says(void **state) {
    sr_run *r = sr_open();
    const dsb_config *c = &r->m.config;
    int64_t low = 0, all = 0;
    sr_add_preset(r, "sparse-expert");
    sr_sweep(r, 1);
    for (int64_t l = 0; l < c->n_layer; l++) {
        const dsb_layer_calibration *cal = &r->cal.layers[l];
        double rank[SR_EXPERTS];
        if (!dsb_layer_is_moe(c, l)) continue;
        dsb_rank(cal->activity, c->n_expert, rank);
        assert_memory_equal(rank, cal->activity_rank, (size_t)c->n_expert * sizeof *rank);
        for (int64_t e = 0; e < c->n_expert; e++) {
            double want = mean_abs_by_hand(r, l, e);
            bool inactive = cal->activity_rank[e] < 0.5 || cal->mean_abs_rank[e] < 0.25;
            assert_true(fabs(cal->mean_abs[e] - want) <= 1e-12 * want); /* the same sum in another order */
            for (int i = 0; i < 3; i++) assert_string_equal(r->expert[0][l][e][i].format, inactive ? "int4" : "int8");
            low += inactive;
            all++;
        }
    }
    assert_true(low > 0 && low < all);
    sr_close(r);
}

/* Without a rank the figure is taken from the expert at hand, whose weights are read once; without a scheme ranks are left too. */
static void test_calibration__mean_abs_is_known_before_its_own_expert_is_decided(void **state) {
    sr_run *r = sr_open(), *none = sr_open();
    const dsb_config *c = &r->m.config;
    char json[256];
    double limit = 0;
    for (int64_t l = c->n_layer; l-- > 0;)
        if (dsb_layer_is_moe(c, l)) limit = mean_abs_by_hand(r, l, c->n_expert / 2);
    snprintf(json, sizeof json, "{\"name\": \"small\", \"rules\": [{\"role\": \"expert.*\", \"when\": {\"mean_abs_below\": %.17g}, \"format\": \"int4\"}, {\"role\": \"*\", \"format\": \"int8\"}]}", limit);
    sr_add_json(r, json);
    sr_sweep(r, 1);
    sr_sweep(none, 1);
    for (int64_t l = 0; l < c->n_layer; l++) {
        const dsb_layer_calibration *cal = &r->cal.layers[l];
        double rank[SR_EXPERTS];
        if (!dsb_layer_is_moe(c, l)) continue;
        dsb_rank(cal->mean_abs, c->n_expert, rank);
        assert_memory_equal(none->cal.layers[l].mean_abs, cal->mean_abs, (size_t)c->n_expert * sizeof *rank);
        assert_memory_equal(none->cal.layers[l].mean_abs_rank, rank, (size_t)c->n_expert * sizeof *rank);
        for (int64_t e = 0; e < c->n_expert; e++) {
            double want = mean_abs_by_hand(r, l, e);
            assert_true(fabs(cal->mean_abs[e] - want) <= 1e-12 * want);
            for (int i = 0; i < 3; i++) assert_string_equal(r->expert[0][l][e][i].format, cal->mean_abs[e] < limit ? "int4" : "int8");
        }
    }
    sr_close(none);
    sr_close(r);
}

/* One chunk: an expert with fewer than 12 of its tokens stands without, is topped up, or sees all. */
static void test_calibration__starved_experts_get_what_the_policy_says(void **state) {
    static const dsb_cover_policy k_policy[] = {{.min_tokens = 12}, {.min_tokens = 12, .balance = true}, {.min_tokens = 12, .starved = DSB_STARVED_ALL_TOKENS}, {.all = true}};
    static const dsb_cover k_kind[] = {DSB_COVER_NONE, DSB_COVER_NEXT_BEST, DSB_COVER_ALL, DSB_COVER_ALL};
    static const int64_t k_seen[] = {0, 12, SR_CTX, SR_CTX};
    for (int p = 0; p < 4; p++) {
        sr_run *r = sr_open();
        const dsb_config *c = &r->m.config;
        int64_t below = 0;
        sr_add_preset(r, "static-int8");
        r->cover = k_policy[p];
        sr_sweep(r, 1);
        for (int64_t l = 0; l < c->n_layer; l++) {
            const dsb_layer_calibration *cal = &r->cal.layers[l];
            int64_t sum = 0;
            for (int64_t e = 0; dsb_layer_is_moe(c, l) && e < c->n_expert; e++) {
                bool starved = p == 3 || cal->routed[e] < 12;
                sum += cal->routed[e];
                below += starved;
                assert_int_equal(cal->cover[e], starved ? k_kind[p] : DSB_COVER_ROUTED);
                assert_int_equal(cal->seen[e], starved ? k_seen[p] : cal->routed[e]);
                assert_int_equal(cal->expert[e * 3].n_token, cal->seen[e]);
                assert_int_equal(r->expert[0][l][e][0].fell_back, starved && p == 0);
            }
            assert_true(!dsb_layer_is_moe(c, l) || sum == SR_CTX * c->router.k); /* what is routed stays what it was */
        }
        assert_true(below > 0);
        sr_close(r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calibration__a_range_is_the_largest_of_all_batches),
        cmocka_unit_test(test_calibration__calibrators_cut_what_few_values_need),
        cmocka_unit_test(test_calibration__divergence_cuts_lone_values),
        cmocka_unit_test(test_calibration__mean_square_cuts_an_even_spread_of_few_codes),
        cmocka_unit_test(test_calibration__ranks_are_the_share_below),
        cmocka_unit_test(test_calibration__ranges_are_those_of_each_linear_s_inputs),
        cmocka_unit_test(test_calibration__uncovered_experts_fall_back_and_say_so),
        cmocka_unit_test(test_calibration__a_range_of_zeros_falls_back_and_says_so),
        cmocka_unit_test(test_calibration__without_chunks_every_static_linear_falls_back),
        cmocka_unit_test(test_calibration__each_calibrator_gives_its_own_scales),
        cmocka_unit_test(test_calibration__clipping_is_counted_on_the_scheme_s_own_stream),
        cmocka_unit_test(test_calibration__every_static_projection_counts_its_inputs),
        cmocka_unit_test(test_calibration__starved_experts_get_what_the_policy_says),
        cmocka_unit_test(test_calibration__sparse_expert_picks_what_its_recipe_says),
        cmocka_unit_test(test_calibration__mean_abs_is_known_before_its_own_expert_is_decided),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
