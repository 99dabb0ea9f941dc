/* Kernel rows against closed forms, on every instruction set of this machine. Source: the comments of kernels/backend.h. */
#include "kernel_cases.h"

#include <float.h>

#include "base/format.h"

static int n_backend;
static const dsb_backend *backend[KC_LEVELS];
#define EACH(be) for (int b_ = 0; b_ < n_backend; b_++) for (const dsb_backend *be = backend[b_]; be; be = NULL)

static void test_kernels__dynamic_codes_round_ties_to_even(void **state) {
    static const float x[] = {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -126.5f, 0};
    static const int8_t want[] = {127, 0, 2, 2, 0, -2, -126, 0};
    EACH(be) {
        int8_t q[8];
        float scale;
        be->quantize_dynamic(x, 1, 8, q, &scale);
        assert_true(scale == 1);
        assert_memory_equal(q, want, sizeof q);
    }
}

/* 177 smallest subnormals over 127 round to one of them: the quotient is 177, which is no code. */
static void test_kernels__dynamic_codes_of_subnormals_stay_within_127(void **state) {
    static const float tiny = 1.40129846e-45f;
    const float x[] = {177 * tiny, -177 * tiny, 3 * tiny, 0}, least[] = {tiny, -tiny, 0, 0};
    EACH(be) {
        int8_t q[4];
        float scale;
        be->quantize_dynamic(x, 1, 4, q, &scale);
        assert_true(scale == tiny);
        assert_true(q[0] == 127 && q[1] == -127 && q[2] == 3 && q[3] == 0);
        be->quantize_dynamic(least, 1, 4, q, &scale); /* the scale underflows */
        assert_true(scale == 0 && q[0] == 0 && q[1] == 0);
    }
}

static void test_kernels__static_codes_clip_and_count(void **state) {
    static const float x[] = {127.49f, 127.6f, -127.6f, 1e30f, -1e30f, 2.5f, 0, -1.5f};
    static const int8_t want[] = {127, 127, -127, 127, -127, 2, 0, -2};
    EACH(be) {
        int8_t q[8];
        float scale[2];
        assert_int_equal(be->quantize_static(x, 1, 8, 1, q, scale), 4);
        assert_memory_equal(q, want, sizeof q);
        assert_int_equal(be->quantize_static(x, 2, 4, 0, q, scale), 0);
        assert_true(q[0] == 0 && scale[0] == 0 && scale[1] == 0);
    }
}

/* A bad activation must reach the figures, not become code 0 or 127. */
static void test_kernels__quantized_rows_keep_nan_and_inf(void **state) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    EACH(be) for (int i = 0; i < 3; i++) {
        float x[] = {1, 2, 3, 4, 5, 6}, scale[2], one = 1, y[2];
        int8_t q[6], w[] = {1, 1, 1};
        dsb_wmat m;
        x[4] = bad[i];
        assert_int_equal(be->pack_int(&m, DSB_W_I8, w, &one, 3, 1, 3, NULL), DSB_OK);
        be->quantize_dynamic(x, 2, 3, q, scale);
        be->gemm(&m, &(dsb_act){.n = 2, .cols = 3, .q = q, .scale = scale}, y);
        assert_true(isfinite(y[0]) && isnan(y[1]));
        assert_int_equal(be->quantize_static(x, 2, 3, 1, q, scale), 0);
        be->gemm(&m, &(dsb_act){.n = 2, .cols = 3, .q = q, .scale = scale}, y);
        assert_true(y[0] == 6 && isnan(y[1]));
        be->unpack(&m);
    }
}

static void test_kernels__rms_norm_closed_form(void **state) {
    static const float x[] = {2, -2, 2, -2, 2, -2, 2, -2, 2}, w[] = {1, 1, 3, 3, 0.5f, 0.5f, 0, 0, 1}, zero[9];
    static const float want[] = {1, -1, 3, -3, 0.5f, -0.5f, 0, -0.0f, 1};
    EACH(be) {
        float y[9];
        be->rms_norm(x, 9, w, 0, 1, 9, y, 9);
        assert_memory_equal(y, want, sizeof y);
        be->rms_norm(zero, 9, w, 1e-6, 1, 9, y, 9);
        for (int i = 0; i < 9; i++) assert_true(y[i] == 0);
        static const float two[] = {3, 4};
        be->rms_norm(two, 2, w, 12.5, 1, 2, y, 2); /* √(12.5 + 12.5) = 5; one rounding of the root and one of the product */
        kc_near(y[0], 0.6, 0.6 * 2 * FLT_EPSILON);
        kc_near(y[1], 0.8, 0.8 * 2 * FLT_EPSILON);
    }
}

static void test_kernels__rope_stands_still_at_zero_and_turns_a_quarter(void **state) {
    static const float cosine[] = {1, 1, 0, 0}, sine[] = {0, 0, 1, 1}; /* positions 0 and 1 */
    static const int32_t pos[] = {0, 1};
    static const float want[] = {1, 2, 3, 4, 9, -2, 1, -4, 3, 9};
    EACH(be) {
        float x[] = {1, 2, 3, 4, 9, 1, 2, 3, 4, 9};
        be->rope(x, 2, 1, 5, 5, 4, false, pos, cosine, sine);
        for (int i = 0; i < 10; i++) assert_true(x[i] == want[i]);
    }
}

/* Pairs (0, 2) and (1, 3) of four values; the fifth stands. */
static void test_kernels__rope_of_halves(void **state) {
    static const float cosine[] = {0, 1}, sine[] = {1, 0}, want[] = {-3, 2, 1, 4, 9};
    static const int32_t pos[] = {0};
    EACH(be) {
        float x[] = {1, 2, 3, 4, 9};
        be->rope(x, 1, 1, 5, 5, 4, true, pos, cosine, sine);
        for (int i = 0; i < 5; i++) assert_true(x[i] == want[i]);
    }
}

/* Four equal keys: a window of two means the last two values; two heads of queries share one head of keys; a sink as strong as
 * each of two keys takes a third. */
static void test_kernels__attention_windows_groups_and_sinks(void **state) {
    static const float v[] = {1, 3, 5, 16}, sinks[] = {-1000, 0};
    EACH(be) {
        float q[8] = {0}, k[4] = {1, 1, 1, 1}, out[8];
        dsb_seq seq = {0, 4, 0, 4};
        dsb_attention_shape shape = {.heads = 2, .kv_heads = 1, .qk_dim = 1, .v_dim = 1, .window = 2, .scale = 1, .sinks = sinks};
        be->attention(&shape, &seq, 1, q, k, v, out);
        assert_true(out[0] == 1 && out[2] == 2 && out[4] == 4 && out[6] == 10.5f);
        /* A sum, a division and a handful of roundings. */
        kc_near(out[1], 0.5, 8 * FLT_EPSILON);
        kc_near(out[3], 4.0 / 3, 16 * FLT_EPSILON);
        kc_near(out[7], 7, 64 * FLT_EPSILON);
        shape.window = 0;
        be->attention(&shape, &seq, 1, q, k, v, out);
        assert_true(out[6] == 6.25f);
        kc_near(out[7], 5, 64 * FLT_EPSILON);
    }
}

static void test_kernels__biases_clamps_and_gates(void **state) {
    static const float bias[] = {1, -2}, zero[] = {0, 0}, gate[] = {0, 100, -2, NAN}, up[] = {5, 100, -100, 1};
    EACH(be) {
        float y[] = {1, 2, 3, 4}, x[] = {5, -5, 0.5f, NAN}, out[4];
        be->add_bias(y, bias, 2, 2);
        assert_true(y[0] == 2 && y[1] == 0 && y[2] == 4 && y[3] == 2);
        be->sigmoid_gate(y, zero, 2, 2);
        assert_true(y[0] == 1 && y[1] == 0 && y[2] == 2 && y[3] == 1);
        be->clamp(x, 4, 2);
        assert_true(x[0] == 2 && x[1] == -2 && x[2] == 0.5f && isnan(x[3]));
        be->swiglu_clamped(gate, up, 4, 1.5f, 7, false, out);
        /* expf to 2 ulp and four roundings, relative to the value. */
        assert_true(out[0] == 0 && isnan(out[3]));
        kc_near(out[1], 8 * 7 / (1 + exp(-1.5 * 7)), 8 * 56 * FLT_EPSILON);
        kc_near(out[2], -6 * -2 / (1 + exp(1.5 * 2)), 8 * FLT_EPSILON);
        be->swiglu_clamped(gate, up, 4, 1.5f, 7, true, y);
        for (int i = 0; i < 3; i++) assert_true(y[i] == dsb_bf16_to_f32(dsb_f32_to_bf16(out[i])));
    }
}

/* out = v for one key, the mean for equal keys, ¾ and ¼ where the scores differ by ln 3; query 0 sees key 0 alone. */
static void test_kernels__attention_closed_forms(void **state) {
    static const float v[] = {1, -8, 3, 4, 5, 16, 7, 2}; /* 4 keys of 2 values */
    dsb_attention_shape shape = {.heads = 1, .kv_heads = 1, .qk_dim = 1, .v_dim = 2, .scale = 0.5f};
    EACH(be) {
        float q[] = {2, 2, 2, 2}, k[] = {5, 5, 5, 5}, out[8];
        dsb_seq seq = {0, 4, 0, 4};
        be->attention(&shape, &seq, 1, q, k, v, out);
        assert_true(out[0] == 1 && out[1] == -8);
        assert_true(out[2] == 2 && out[3] == -2);
        assert_true(out[6] == 4 && out[7] == 3.5f);
        seq = (dsb_seq){0, 1, 0, 2};
        k[0] = (float)log(3);
        k[1] = 0;
        be->attention(&shape, &seq, 1, q, k, v, out);
        /* Scores and softmax in f32: ln 3 to half an ulp, exp to 2 ulp, and a handful of roundings of values up to 8. */
        kc_near(out[0], 0.75 * 1 + 0.25 * 3, 16 * FLT_EPSILON);
        kc_near(out[1], 0.75 * -8 + 0.25 * 4, 64 * FLT_EPSILON);
        k[1] = NAN;
        be->attention(&shape, &seq, 1, q, k, v, out);
        assert_true(isnan(out[0]) && isnan(out[1]));
    }
}

static void test_kernels__silu_closed_forms(void **state) {
    static const float gate[] = {0, 1, -1, 100, -100, 0.5f, NAN}, up[] = {5, 1, 1, 2, 1, -4, 1};
    EACH(be) {
        float y[7], r[7];
        be->silu_mul(gate, up, 7, false, y);
        assert_true(y[0] == 0);
        kc_near(y[1], 1 / (1 + exp(-1)), 4 * FLT_EPSILON); /* exp is within 2 ulp; then three roundings below 1 */
        kc_near(y[2], -1 / (1 + exp(1)), 4 * FLT_EPSILON);
        assert_true(y[3] == 200);
        kc_near(y[4], 0, 1e-30);
        kc_near(y[5], -2 / (1 + exp(-0.5)), 8 * FLT_EPSILON);
        assert_true(isnan(y[6]));
        be->silu_mul(gate, up, 7, true, r);
        for (int i = 0; i < 6; i++) {
            assert_true(r[i] == dsb_bf16_to_f32(dsb_f32_to_bf16(r[i])));
            kc_near(r[i], y[i], fabs(y[i]) * 0x1p-7); /* two roundings to 8 bits, half a unit each */
        }
        assert_true(isnan(r[6]));
    }
}

static void test_kernels__bf16_rounds_to_even_and_is_stored_exactly(void **state) {
    static const float x[] = {1.00390625f, 1.01171875f, -1.00390625f, FLT_MAX, INFINITY, -0.0f, 1e-45f}, want[] = {1, 1.015625f, -1, INFINITY, INFINITY, -0.0f, 0};
    EACH(be) {
        float y[7], all[65536], odd = dsb_f32_from_bits(0x7f800001u), back; /* a NaN whose mark BF16 has no room for */
        static uint16_t h[65536], again[65536];
        memcpy(y, x, sizeof y);
        be->round_bf16(y, 7);
        assert_memory_equal(y, want, sizeof y);
        for (int i = 0; i < 65536; i++) h[i] = (uint16_t)i;
        be->load_bf16(h, 65536, all);
        be->store_bf16(all, 65536, again);
        for (int i = 0; i < 65536; i++)
            if (again[i] != h[i]) assert_true(isnan(all[i]) && (again[i] & ~0x40) == (h[i] & ~0x40)); /* a NaN may become a quiet one */
        be->round_bf16(&odd, 1);
        be->store_bf16(&odd, 1, h);
        be->load_bf16(h, 1, &back);
        assert_true(isnan(odd) && dsb_f32_bits(odd) == dsb_f32_bits(back));
    }
}

static void test_kernels__f16_rounds_to_even_and_overflows(void **state) {
    static const float x[] = {65504, 65519.996f, 65520, -65520, 0x1p-24f, 0x1p-25f, 0x1.8p-24f, 1.00048828125f, 1.00146484375f};
    static const float want[] = {65504, 65504, INFINITY, -INFINITY, 0x1p-24f, 0, 0x1p-23f, 1, 1.001953125f};
    EACH(be) {
        float y[9];
        memcpy(y, x, sizeof y);
        be->round_f16(y, 9);
        for (int i = 0; i < 9; i++) assert_true(y[i] == want[i]);
    }
}

static void test_kernels__absmax(void **state) {
    static const float x[] = {-3, 2, 0, 1, -0.5f}, inf[] = {1, -INFINITY, 2}, nan[] = {1, NAN, INFINITY};
    EACH(be) {
        assert_true(be->absmax(x, 5) == 3 && be->absmax(x + 1, 4) == 2 && be->absmax(x, 0) == 0);
        assert_true(be->absmax(inf, 3) == INFINITY && isnan(be->absmax(nan, 3)));
    }
}

static void test_kernels__moments_closed_form(void **state) {
    static const float x[] = {3, 4, 16777216}, y[] = {3, -3, -1};
    EACH(be) {
        dsb_moments m;
        be->moments(x, y, 2, &m);
        assert_true(m.n == 2 && m.xx == 25 && m.yy == 18 && m.xy == -3 && m.dd == 49 && m.max_diff == 7 && m.max_x == 4 && m.max_y == 3);
        be->moments(x + 2, y + 2, 1, &m);
        assert_true(m.max_diff == 16777217); /* in f64: the difference of two f32 need not be one */
        be->moments(x, y, 0, &m);
        assert_true(m.n == 0 && m.xx == 0 && m.first_bad == -1);
    }
}

/* Sums are made block by block; the index must be the tensor's all the same. */
static void test_kernels__moments_find_the_first_bad_element(void **state) {
    enum { N = 200000 };
    static const int64_t at[] = {0, 5, 32768, 100001, N - 1};
    float *x = kc_floats(N, 1), *y = kc_floats(N, 1);
    EACH(be) for (int i = 0; i < 5; i++) {
        dsb_moments m;
        float keep = y[at[i]];
        y[at[i]] = NAN;
        x[N - 1] = INFINITY;
        be->moments(x, y, N, &m);
        assert_int_equal(m.first_bad, at[i]);
        assert_int_equal(m.nonfinite, at[i] == N - 1 ? 1 : 2);
        assert_true(isfinite(m.xx) && isfinite(m.dd) && isfinite(m.max_diff));
        y[at[i]] = keep;
        x[N - 1] = 0.5f;
    }
    kc_free(x);
    kc_free(y);
}

/* Logits (a, 0) have p = 1/(1 + e^-a). Everything is f64 with functions below 4e-16: 1e-15 of figures near 1 is a few ulp. */
static void test_kernels__logit_rows_two_point_closed_form(void **state) {
    static const float ref[] = {1, 0}, test[] = {-2, 0};
    static const int32_t target[] = {0};
    double p = 1 / (1 + exp(-1)), q = 1 / (1 + exp(2)), m = 0.5 * (p + q), n = 1 - m;
    double kld = p * log(p / q) + (1 - p) * log((1 - p) / (1 - q)), reverse = q * log(q / p) + (1 - q) * log((1 - q) / (1 - p));
    double js = 0.5 * (p * log(p / m) + (1 - p) * log((1 - p) / n)) + 0.5 * (q * log(q / m) + (1 - q) * log((1 - q) / n));
    EACH(be) {
        dsb_logit_row r;
        be->logit_rows(ref, test, target, 1, 2, &r);
        kc_near(r.nll_ref, -log(p), 2e-15);
        kc_near(r.nll_test, -log(q), 4e-15);
        kc_near(r.kld, kld, 4e-15);
        kc_near(r.kld_reverse, reverse, 4e-15);
        kc_near(r.js, js, 2e-15);
        kc_near(r.tv, p - q, 1e-15);
        kc_near(r.p_ref, p, 1e-15);
        kc_near(r.p_test, q, 1e-15);
        kc_near(r.conf_ref, p, 1e-15);
        assert_true(r.top_ref == 0 && r.top_test == 1 && r.overlap5 == 2 && r.overlap10 == 2 && r.nonfinite == 0);
        be->logit_rows(ref, ref, NULL, 1, 2, &r);
        assert_true(r.kld == 0 && r.kld_reverse == 0 && r.tv == 0 && r.nll_ref == 0 && r.p_ref == 0);
        kc_near(r.js, 0, 1e-15);
        be->logit_rows(ref, NULL, target, 1, 2, &r);
        kc_near(r.nll_ref, -log(p), 2e-15);
        assert_true(r.nll_test == 0 && r.kld == 0);
    }
}

/* exp(-750) underflows; ln q does not. */
static void test_kernels__logit_rows_far_apart_stay_finite(void **state) {
    static const float ref[] = {0, 0}, test[] = {750, 0};
    static const int32_t target[] = {1};
    EACH(be) {
        dsb_logit_row r;
        be->logit_rows(ref, test, target, 1, 2, &r);
        kc_near(r.kld, 375 - log(2), 1e-12);
        kc_near(r.nll_test, 750, 1e-12);
        kc_near(r.tv, 0.5, 1e-15);
        assert_true(isfinite(r.js) && isfinite(r.kld_reverse));
    }
}

static void test_kernels__logit_rows_top_ties_go_to_the_lower_index(void **state) {
    float ref[12], test[12];
    for (int i = 0; i < 12; i++) {
        ref[i] = 1;                 /* top 5: 0 1 2 3 4, top 10: 0 .. 9 */
        test[i] = i < 2 ? 0 : 1;    /* top 5: 2 3 4 5 6, top 10: 2 .. 11 */
    }
    EACH(be) {
        dsb_logit_row r;
        be->logit_rows(ref, test, NULL, 1, 12, &r);
        assert_true(r.top_ref == 0 && r.top_test == 2 && r.overlap5 == 3 && r.overlap10 == 8);
    }
}

static void test_kernels__logit_rows_count_what_is_not_finite(void **state) {
    static const float ref[] = {1, NAN, 2, 1, 2, 3}, test[] = {INFINITY, 1, 1, 1, 2, 3};
    static const int32_t target[] = {0, 0};
    EACH(be) {
        dsb_logit_row r[2];
        be->logit_rows(ref, test, target, 2, 3, r);
        assert_true(r[0].nonfinite == 2 && r[0].kld == 0 && r[0].nll_ref == 0);
        assert_true(r[1].nonfinite == 0 && r[1].kld == 0 && r[1].nll_ref > 0);
    }
}

typedef struct routed {
    int32_t idx[8];
    float weight[8], scores[16], margin;
} routed;
static routed route(const dsb_backend *be, const dsb_router_shape *shape, const float *logits, const float *bias) {
    routed r;
    be->route(shape, logits, bias, 1, r.scores, r.idx, r.weight, &r.margin);
    return r;
}
static void same_experts(const routed *r, int64_t k, const int32_t *want) { assert_memory_equal(r->idx, want, (size_t)k * sizeof *want); }

static void test_kernels__route_ties_go_to_the_lower_expert(void **state) {
    static const float logits[6];
    dsb_router_shape v3 = {.n_expert = 6, .k = 3, .scoring = DSB_SCORE_SIGMOID, .norm_topk = true, .scale_after_norm = true, .scale = 2.5f};
    EACH(be) {
        dsb_router_shape v2 = {.n_expert = 6, .k = 3, .scoring = DSB_SCORE_SOFTMAX, .scale = 16};
        routed r = route(be, &v3, logits, NULL);
        same_experts(&r, 3, (int32_t[]){0, 1, 2});
        assert_true(r.margin == 0 && r.scores[5] == 0.5f);
        for (int i = 0; i < 3; i++) kc_near(r.weight[i], 2.5 / 3, 2.5 / 3 * 2 * FLT_EPSILON);
        r = route(be, &v2, logits, NULL);
        same_experts(&r, 3, (int32_t[]){0, 1, 2});
        for (int i = 0; i < 3; i++) kc_near(r.weight[i], 16.0 / 6, 16.0 / 6 * 2 * FLT_EPSILON);
        v2.norm_topk = true; /* V2 scales only weights that it did not normalise */
        r = route(be, &v2, logits, NULL);
        kc_near(r.weight[0], 1.0 / 3, FLT_EPSILON);
        v2.norm_topk = false;
        v2.k = 6;
        r = route(be, &v2, logits, NULL);
        assert_true(isinf(r.margin) && r.margin > 0);
    }
}

/* The bias chooses; the weights are those of the scores. */
static void test_kernels__route_bias_selects_but_does_not_weigh(void **state) {
    static const float logits[] = {0, 0, 0, 0}, bias[] = {0, 0, 0.25f, 0.5f};
    dsb_router_shape v3 = {.n_expert = 4, .k = 1, .scoring = DSB_SCORE_SIGMOID, .scale_after_norm = true, .scale = 2};
    EACH(be) {
        routed r = route(be, &v3, logits, bias);
        assert_int_equal(r.idx[0], 3);
        assert_true(r.weight[0] == 1 && r.margin == 0.25f && r.scores[3] == 0.5f);
    }
}

/* Groups of two. The best single score lies in group 0, the best pair in group 1: V2 and V3 disagree. */
static void test_kernels__route_groups_rank_by_max_or_by_two_best(void **state) {
    static const float logits[] = {3, -9, 2, 2, 0, 0};
    dsb_router_shape shape = {.n_expert = 6, .k = 2, .n_group = 3, .topk_group = 1, .scoring = DSB_SCORE_SIGMOID, .group_rank = DSB_GROUP_TOP2, .scale = 1};
    EACH(be) {
        routed r = route(be, &shape, logits, NULL);
        same_experts(&r, 2, (int32_t[]){2, 3});
        kc_near(r.margin, 1 / (1 + exp(-2)), 4 * FLT_EPSILON); /* against a masked 0 */
        shape.group_rank = DSB_GROUP_MAX;
        r = route(be, &shape, logits, NULL);
        same_experts(&r, 2, (int32_t[]){0, 1});
        shape.group_rank = DSB_GROUP_TOP2;
    }
}

/* As in the original code: experts outside the kept groups count as 0, so they pass kept ones whose bias made them negative. */
static void test_kernels__route_masked_experts_are_zero_not_minus_infinity(void **state) {
    static const float logits[] = {0, 0, 0, 0}, bias[] = {0.25f, -2, -0.75f, -0.75f};
    dsb_router_shape shape = {.n_expert = 4, .k = 2, .n_group = 2, .topk_group = 1, .scoring = DSB_SCORE_SIGMOID, .group_rank = DSB_GROUP_MAX, .scale = 1};
    EACH(be) {
        routed r = route(be, &shape, logits, bias);
        same_experts(&r, 2, (int32_t[]){0, 2});
    }
}

/* Nothing is promised of the choice but that it is one: k different experts. */
static void test_kernels__route_survives_nan(void **state) {
    static const float logits[] = {NAN, 1, NAN, NAN, 2, NAN};
    dsb_router_shape shape = {.n_expert = 6, .k = 4, .n_group = 3, .topk_group = 2, .scoring = DSB_SCORE_SOFTMAX, .group_rank = DSB_GROUP_TOP2, .norm_topk = true, .scale = 1};
    for (int scoring = DSB_SCORE_SOFTMAX; scoring <= DSB_SCORE_SIGMOID; scoring++)
        EACH(be) {
            shape.scoring = (dsb_scoring)scoring;
            routed r = route(be, &shape, logits, NULL);
            for (int i = 0; i < 4; i++) assert_true(r.idx[i] >= 0 && r.idx[i] < 6 && (i == 0 || r.idx[i] > r.idx[i - 1]));
            assert_true(isnan(r.weight[0]));
        }
}

int main(void) {
    n_backend = kc_backends(backend);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels__dynamic_codes_round_ties_to_even),
        cmocka_unit_test(test_kernels__dynamic_codes_of_subnormals_stay_within_127),
        cmocka_unit_test(test_kernels__static_codes_clip_and_count),
        cmocka_unit_test(test_kernels__quantized_rows_keep_nan_and_inf),
        cmocka_unit_test(test_kernels__rms_norm_closed_form),
        cmocka_unit_test(test_kernels__rope_stands_still_at_zero_and_turns_a_quarter),
        cmocka_unit_test(test_kernels__rope_of_halves),
        cmocka_unit_test(test_kernels__attention_closed_forms),
        cmocka_unit_test(test_kernels__attention_windows_groups_and_sinks),
        cmocka_unit_test(test_kernels__biases_clamps_and_gates),
        cmocka_unit_test(test_kernels__silu_closed_forms),
        cmocka_unit_test(test_kernels__bf16_rounds_to_even_and_is_stored_exactly),
        cmocka_unit_test(test_kernels__f16_rounds_to_even_and_overflows),
        cmocka_unit_test(test_kernels__absmax),
        cmocka_unit_test(test_kernels__moments_closed_form),
        cmocka_unit_test(test_kernels__moments_find_the_first_bad_element),
        cmocka_unit_test(test_kernels__logit_rows_two_point_closed_form),
        cmocka_unit_test(test_kernels__logit_rows_far_apart_stay_finite),
        cmocka_unit_test(test_kernels__logit_rows_top_ties_go_to_the_lower_index),
        cmocka_unit_test(test_kernels__logit_rows_count_what_is_not_finite),
        cmocka_unit_test(test_kernels__route_ties_go_to_the_lower_expert),
        cmocka_unit_test(test_kernels__route_bias_selects_but_does_not_weigh),
        cmocka_unit_test(test_kernels__route_groups_rank_by_max_or_by_two_best),
        cmocka_unit_test(test_kernels__route_masked_experts_are_zero_not_minus_infinity),
        cmocka_unit_test(test_kernels__route_survives_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
