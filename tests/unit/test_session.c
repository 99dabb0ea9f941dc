/* The two drivers against each other: the cache, the definitions of isolated and accumulated error, and the schemes' own weights.
 * Kernels are batch-invariant, so every comparison here is of bits. */
#include "sweep_run.h"

#include <math.h>

#include "base/format.h"

static void open_session(dsb_session *s, sr_run *r, const dsb_scheme *scheme) {
    dsb_err err = {0};
    if (dsb_session_open(s, &r->m, scheme, r->cal.layers ? &r->cal : NULL, SR_CTX, &err)) fail_msg("%s: %s", scheme->name, err.text);
}

static void test_session__prefill_in_pieces_is_prefill_at_once(void **state) {
    static const int64_t k_piece[] = {5, 1, 7, 11};
    sr_run *r = sr_open();
    const dsb_preset_row *presets;
    for (int i = 0, n = dsb_preset_list(&presets); i < n; i++) {
        const dsb_recipe *recipe;
        assert_int_equal(dsb_recipe_preset(&recipe, &r->arena, presets[i].name, NULL), DSB_OK);
        sr_add_if_it_fits(r, recipe);
    }
    sr_sweep(r, 1);
    int64_t v = r->m.config.vocab;
    float *whole = malloc((size_t)(SR_CTX * v) * sizeof *whole), *part = malloc((size_t)(SR_CTX * v) * sizeof *part);
    for (int i = -1; i < r->n_scheme; i++) {
        dsb_session s;
        open_session(&s, r, i < 0 ? &r->reference : &r->schemes[i]);
        assert_int_equal(dsb_session_forward(&s, r->tokens, SR_CTX, SR_CTX, whole, NULL, NULL), DSB_OK);
        dsb_session_rewind(&s);
        for (int64_t p = 0, at = 0; p < 4; at += k_piece[p++]) assert_int_equal(dsb_session_forward(&s, r->tokens + at, k_piece[p], k_piece[p], part + at * v, NULL, NULL), DSB_OK);
        assert_int_equal(s.depth, SR_CTX);
        assert_memory_equal(part, whole, (size_t)(k_piece[0] * v) * sizeof *whole);
        /* Later pieces are absorbed: of the reference within 1e-4; see test_absorb for the schemes. */
        for (int64_t j = k_piece[0] * v; j < SR_CTX * v; j++) assert_true(i < 0 ? fabsf(part[j] - whole[j]) <= 1e-4f : isfinite(part[j]));
        assert_int_not_equal(dsb_session_forward(&s, r->tokens, 1, 0, NULL, NULL, NULL), DSB_OK); /* the cache is full */
        dsb_session_close(&s);
    }
    free(whole);
    free(part);
    sr_close(r);
}

/* Sequences that go forward together get the bits that each gets alone; rewinding keeps what stands before. */
static void batch_is_alone(const char *model) {
    enum { BATCH = 3, HEAD = 5, TAIL = SR_CTX - HEAD };
    sr_run *r = sr_open_model(dsb_backend_cpu(NULL), model);
    sr_add_preset(r, "dynamic-int8");
    int64_t v = r->m.config.vocab;
    float *alone = malloc((size_t)(BATCH * SR_CTX * v) * sizeof *alone), *later = malloc((size_t)(BATCH * TAIL * v) * sizeof *later), *whole = malloc((size_t)(BATCH * SR_CTX * v) * sizeof *whole);
    int32_t part[BATCH * TAIL];
    for (int b = 0; b < BATCH; b++) memcpy(part + b * TAIL, r->tokens + b * SR_CTX + HEAD, TAIL * sizeof *part);
    for (int i = -1; i < r->n_scheme; i++) {
        dsb_session s;
        const dsb_scheme *scheme = i < 0 ? &r->reference : &r->schemes[i];
        open_session(&s, r, scheme);
        for (int b = 0; b < BATCH; b++) {
            dsb_session_rewind(&s);
            assert_int_equal(dsb_session_forward(&s, r->tokens + b * SR_CTX, SR_CTX, SR_CTX, alone + b * SR_CTX * v, NULL, NULL), DSB_OK);
            dsb_session_rewind_to(&s, HEAD);
            assert_int_equal(s.depth, HEAD);
            assert_int_equal(dsb_session_forward(&s, part + b * TAIL, TAIL, TAIL, later + b * TAIL * v, NULL, NULL), DSB_OK);
        }
        assert_true(s.done.bytes > 2 * BATCH * (s.token.bytes + s.head.bytes));
        dsb_session_close(&s);
        assert_int_equal(dsb_session_open_batch(&s, &r->m, scheme, NULL, SR_CTX, BATCH, NULL), DSB_OK);
        assert_int_equal(dsb_session_forward(&s, r->tokens, SR_CTX, SR_CTX, whole, NULL, NULL), DSB_OK);
        assert_memory_equal(whole, alone, (size_t)(BATCH * SR_CTX * v) * sizeof *whole);
        dsb_session_rewind_to(&s, HEAD);
        assert_int_equal(dsb_session_forward(&s, part, TAIL, 2, whole, NULL, NULL), DSB_OK);
        for (int b = 0; b < BATCH; b++) assert_memory_equal(whole + b * 2 * v, later + ((b + 1) * TAIL - 2) * v, (size_t)(2 * v) * sizeof *whole);
        dsb_session_close(&s);
    }
    free(alone);
    free(later);
    free(whole);
    sr_close(r);
}

static void test_session__a_batch_is_its_sequences_each_alone(void **state) {
    batch_is_alone(sr_model);
    batch_is_alone("tests/fixtures/architectures/gpt_oss"); /* grouped keys, windows, sinks, biases */
}

/* Given experts replace the router's own choice, and the counted bytes are theirs. */
static void test_session__forced_experts_are_those_that_run(void **state) {
    sr_run *r = sr_open();
    const dsb_config *c = &r->m.config;
    int64_t k = c->router.k;
    int32_t *ids = calloc((size_t)(c->n_layer * 2 * k), sizeof *ids);
    for (int64_t i = 0; i < c->n_layer * 2; i++)
        for (int64_t j = 0; j < k; j++) ids[i * k + j] = (int32_t)(i % 2 ? c->n_expert - k + j : j);
    dsb_forced_routing forced = {.ids = ids, .n_row = 2};
    dsb_session s;
    dsb_trace_sink sink = {.routing = calloc((size_t)c->n_layer, sizeof *sink.routing)};
    open_session(&s, r, &r->reference);
    s.forced = &forced;
    for (int64_t l = 0; l < c->n_layer; l++)
        if (dsb_layer_is_moe(c, l)) assert_int_equal(dsb_routing_alloc(&sink.routing[l], c, 3, true, NULL), DSB_OK);
    assert_int_equal(dsb_session_forward(&s, r->tokens, 3, 0, NULL, &sink, NULL), DSB_OK);
    double want = s.token.bytes + s.expanded.bytes;
    for (int64_t l = 0; l < c->n_layer; l++) {
        if (!dsb_layer_is_moe(c, l)) continue;
        for (int64_t t = 0; t < 3; t++) assert_memory_equal(sink.routing[l].idx + t * k, ids + t % 2 * k, (size_t)k * sizeof *ids);
        for (int64_t j = 0; j < 2 * k; j++) {
            const dsb_ffn_weights *w = &s.layers[l].experts[ids[j]];
            want += (double)(w->gate.w.bytes + w->up.w.bytes + w->down.w.bytes);
        }
        dsb_routing_release(&sink.routing[l]);
    }
    assert_true(s.done.bytes == want); /* the two rows' experts are all different */
    free(sink.routing);
    free(ids);
    dsb_session_close(&s);
    sr_close(r);
}

/* Hidden states of a chunk after every block. */
static float *trace(dsb_session *s, sr_run *r, int chunk) {
    float *hidden = malloc((size_t)(r->m.config.n_layer * SR_CTX * r->m.config.d_model) * sizeof *hidden);
    dsb_trace_sink sink = {.hidden = hidden};
    dsb_session_rewind(s);
    assert_int_equal(dsb_session_forward(s, r->tokens + chunk * SR_CTX, SR_CTX, 0, NULL, &sink, NULL), DSB_OK);
    return hidden;
}

static void test_session__carriers_hold_bf16_values(void **state) {
    sr_run *r = sr_open();
    sr_add_preset(r, "bf16");
    sr_add_preset(r, "dynamic-int8");
    for (int i = 0; i < r->n_scheme; i++) {
        dsb_session s;
        open_session(&s, r, &r->schemes[i]);
        float *hidden = trace(&s, r, 0);
        for (int64_t j = 0; j < r->m.config.n_layer * SR_CTX * r->m.config.d_model; j++) assert_true(hidden[j] == dsb_bf16_to_f32(dsb_f32_to_bf16(hidden[j])));
        free(hidden);
        dsb_session_close(&s);
    }
    sr_close(r);
}

/* One chunk of one layer, every part by hand from the reference's own states. */
typedef struct parts {
    float *x;             /* (SR_CTX, d_model): block input */
    float *attention, *post, *mlp, *block;
    dsb_routing routing;  /* of a MoE layer */
} parts;

static void parts_init(parts *p, const dsb_model *m) {
    size_t n = (size_t)(SR_CTX * m->config.d_model);
    float **all[] = {&p->x, &p->attention, &p->post, &p->mlp, &p->block};
    for (int i = 0; i < 5; i++) *all[i] = calloc(n, sizeof(float));
    assert_int_equal(dsb_routing_alloc(&p->routing, &m->config, SR_CTX, true, NULL), DSB_OK);
}
static void parts_release(parts *p) {
    free(p->x);
    free(p->attention);
    free(p->post);
    free(p->mlp);
    free(p->block);
    dsb_routing_release(&p->routing);
}

static void attention_of(dsb_session *s, int64_t layer, const float *x, float *out) {
    int32_t pos[SR_CTX];
    dsb_seq seq = {0, SR_CTX, 0, SR_CTX};
    for (int i = 0; i < SR_CTX; i++) pos[i] = i;
    assert_int_equal(dsb_attention_forward(s->m, &s->layers[layer].attn, s->scheme->bf16, x, SR_CTX, pos, &seq, 1, NULL, NULL, &s->ws, out, NULL), DSB_OK);
}

/* mlp = the MLP of `post`; its routing is `given`, or its own, left in p. */
static void mlp_of(dsb_session *s, int64_t layer, const float *post, const dsb_routing *given, parts *p) {
    const dsb_model *m = s->m;
    float *normed = malloc((size_t)(SR_CTX * m->config.d_model) * sizeof *normed);
    dsb_ffn_norm(m, &s->layers[layer].router, s->scheme->bf16, post, SR_CTX, normed);
    if (!dsb_layer_is_moe(&m->config, layer)) {
        assert_int_equal(dsb_ffn_forward(m, &s->layers[layer].dense, DSB_ROLE_DENSE_GATE, s->scheme->bf16, normed, SR_CTX, NULL, &s->ws, p->mlp, NULL), DSB_OK);
    } else {
        if (!given) assert_int_equal(dsb_router_forward(m, &s->layers[layer].router, normed, 0, SR_CTX, &s->ws, &p->routing, NULL), DSB_OK);
        assert_int_equal(dsb_moe_forward(s, layer, normed, SR_CTX, given ? given : &p->routing, p->mlp, NULL), DSB_OK);
    }
    free(normed);
}

/* out = carrier(a + b) */
static void residual(const dsb_session *s, const float *a, const float *b, float *out) {
    int64_t n = SR_CTX * s->m->config.d_model;
    memcpy(out, a, (size_t)n * sizeof *out);
    s->m->be->add(out, b, n);
    if (s->scheme->bf16) s->m->be->round_bf16(out, n);
}
static void carried(const dsb_session *s, const float *x, float *out) {
    int64_t n = SR_CTX * s->m->config.d_model;
    memcpy(out, x, (size_t)n * sizeof *out);
    if (s->scheme->bf16) s->m->be->round_bf16(out, n);
}

static void same_moments(sr_run *r, int scheme, int64_t layer, dsb_point point, dsb_kind kind, int chunk, const float *ref, const float *test) {
    dsb_moments m;
    const dsb_moments *got = &r->layer[scheme][layer][point][kind][chunk];
    r->m.be->moments(ref, test, SR_CTX * r->m.config.d_model, &m);
    if (r->seen[scheme][layer][point][kind][chunk] != 1 || m.dd != got->dd || m.xx != got->xx || m.xy != got->xy || m.max_diff != got->max_diff || m.n != got->n)
        fail_msg("%s: layer %lld, point %d, kind %d, chunk %d: the sweep has %.17g, by hand %.17g", r->schemes[scheme].name, (long long)layer, point, kind, chunk, got->dd, m.dd);
}

static void reference_parts(dsb_session *ref, int64_t layer, const float *x, parts *p) {
    memcpy(p->x, x, (size_t)(SR_CTX * ref->m->config.d_model) * sizeof *x);
    attention_of(ref, layer, p->x, p->attention);
    residual(ref, p->x, p->attention, p->post);
    mlp_of(ref, layer, p->post, NULL, p);
    residual(ref, p->post, p->mlp, p->block);
}

/* METRICS.md: attention and block from the reference's block input, the MLP from its post-attention input with its routing. */
static void isolated_by_hand(sr_run *r, dsb_session *s, int scheme, int64_t layer, int chunk, const parts *ref, parts *mine) {
    carried(s, ref->x, mine->x);
    attention_of(s, layer, mine->x, mine->attention);
    same_moments(r, scheme, layer, DSB_POINT_ATTENTION, DSB_KIND_ISOLATED, chunk, ref->attention, mine->attention);
    residual(s, mine->x, mine->attention, mine->post);
    mlp_of(s, layer, mine->post, NULL, mine);
    residual(s, mine->post, mine->mlp, mine->block);
    same_moments(r, scheme, layer, DSB_POINT_BLOCK, DSB_KIND_ISOLATED, chunk, ref->block, mine->block);
    carried(s, ref->post, mine->post);
    mlp_of(s, layer, mine->post, &ref->routing, mine);
    same_moments(r, scheme, layer, DSB_POINT_MLP, DSB_KIND_ISOLATED, chunk, ref->mlp, mine->mlp);
}

static void chunk_by_hand(sr_run *r, dsb_session *ref, dsb_session *s, int scheme, int chunk) {
    int64_t d = r->m.config.d_model;
    float *x = malloc((size_t)(SR_CTX * d) * sizeof *x), *ref_hidden = trace(ref, r, chunk), *own_hidden = trace(s, r, chunk);
    parts a, b;
    parts_init(&a, &r->m);
    parts_init(&b, &r->m);
    assert_int_equal(dsb_embed(&r->m, &r->reference, r->tokens + chunk * SR_CTX, SR_CTX, x, NULL), DSB_OK);
    for (int64_t l = 0; l < r->m.config.n_layer; l++) {
        const float *out = ref_hidden + l * SR_CTX * d;
        reference_parts(ref, l, x, &a);
        assert_memory_equal(a.block, out, (size_t)(SR_CTX * d) * sizeof *out);
        same_moments(r, scheme, l, DSB_POINT_BLOCK, DSB_KIND_ACCUMULATED, chunk, out, own_hidden + l * SR_CTX * d);
        if (chunk % 2 == 0) isolated_by_hand(r, s, scheme, l, chunk, &a, &b);
        memcpy(x, out, (size_t)(SR_CTX * d) * sizeof *x);
    }
    parts_release(&a);
    parts_release(&b);
    free(x);
    free(ref_hidden);
    free(own_hidden);
}

static void test_session__isolated_and_accumulated_errors_are_what_metrics_defines(void **state) {
    static const char *const k_scheme[] = {"bf16", "static-int8", "sparse-expert", "qat-int4"};
    sr_run *r = sr_open();
    dsb_session ref, s;
    for (int i = 0; i < 4; i++) sr_add_preset(r, k_scheme[i]);
    sr_sweep(r, 1);
    open_session(&ref, r, &r->reference);
    for (int i = 0; i < r->n_scheme; i++) {
        open_session(&s, r, &r->schemes[i]);
        for (int chunk = 0; chunk < SR_CHUNKS; chunk++) chunk_by_hand(r, &ref, &s, i, chunk);
        dsb_session_close(&s);
    }
    dsb_session_close(&ref);
    sr_close(r);
}

static void test_session__isolated_figures_use_sampled_chunks_alone(void **state) {
    sr_run *r = sr_open();
    sr_add_preset(r, "dynamic-int8");
    sr_sweep(r, 0);
    for (int64_t l = 0; l < r->m.config.n_layer; l++)
        for (int p = 0; p < DSB_POINT_COUNT; p++)
            for (int c = 0; c < SR_CHUNKS; c++) {
                assert_int_equal(r->seen[0][l][p][DSB_KIND_ISOLATED][c], c % 2 == 0);
                assert_int_equal(r->seen[0][l][p][DSB_KIND_ACCUMULATED][c], 1);
                assert_int_equal(r->seen[0][l][p][DSB_KIND_BLOCK][c], 0);
            }
    sr_close(r);
}

/* Chunks may be split over processes: sums of all are those of each alone, added in their order. */
static void test_session__sums_are_those_of_single_chunks(void **state) {
    sr_run *whole = sr_open(), *alone[SR_CHUNKS];
    sr_add_preset(whole, "dynamic-int8");
    sr_sweep_chunks(whole, 0, SR_CHUNKS, 0, SR_CHUNKS, 1);
    for (int c = 0; c < SR_CHUNKS; c++) {
        alone[c] = sr_open();
        sr_add_preset(alone[c], "dynamic-int8");
        sr_sweep_chunks(alone[c], c, 1, c, 1, 1);
    }
    for (int64_t l = 0; l < whole->m.config.n_layer; l++)
        for (int64_t e = 0; dsb_layer_is_moe(&whole->m.config, l) && e < whole->m.config.n_expert; e++) {
            const dsb_moments *got = &whole->expert_error[0][l][e];
            dsb_moments sum = {.first_bad = -1};
            double activity = 0;
            for (int c = 0; c < SR_CHUNKS; c++) {
                dsb_moments_add(&sum, &alone[c]->expert_error[0][l][e]);
                activity += alone[c]->cal.layers[l].activity[e];
            }
            assert_true(whole->cal.layers[l].activity[e] == activity);
            assert_true(got->n == sum.n && got->xx == sum.xx && got->xy == sum.xy && got->yy == sum.yy && got->dd == sum.dd && got->max_diff == sum.max_diff);
        }
    for (int c = 0; c < SR_CHUNKS; c++) sr_close(alone[c]);
    sr_close(whole);
}

/* A recipe that keeps everything differs from the reference by its carrier alone; its router not at all. */
static void test_session__kept_routers_have_no_isolated_error(void **state) {
    sr_run *r = sr_open();
    sr_add_preset(r, "int3-rtn");
    sr_add_json(r, "{\"name\": \"all\", \"rules\": [{\"role\": \"router\", \"format\": \"int2\"}]}");
    sr_sweep(r, 0);
    bool moved = false;
    for (int64_t l = 0; l < r->m.config.n_layer; l++) {
        if (!dsb_layer_is_moe(&r->m.config, l)) continue;
        assert_true(r->same_isolated_routing[0][l] && r->router[0][l].dd == 0);
        assert_true(r->router[1][l].dd > 0);
        moved |= !r->same_isolated_routing[1][l];
    }
    assert_true(moved); /* 2-bit routers can't give the same scores everywhere */
    sr_close(r);
}

static void test_session__a_source_brings_its_own_norms_and_routers(void **state) {
    sr_run *r = sr_open();
    dsb_session s;
    sr_add_preset(r, "qat-int8");
    assert_true(!r->schemes[0].own_source && r->schemes[0].source != &r->m.checkpoint);
    open_session(&s, r, &r->schemes[0]);
    int64_t d = r->m.config.d_model, e = r->m.config.n_expert;
    float *want = malloc((size_t)(d * e) * sizeof *want), *eye = calloc((size_t)(d * d), sizeof *eye), *got = malloc((size_t)(d * e) * sizeof *got);
    for (int64_t i = 0; i < d; i++) eye[i * d + i] = 1;
    for (int64_t l = 0; l < r->m.config.n_layer; l++) {
        char name[128];
        snprintf(name, sizeof name, "model.layers.%lld.input_layernorm.weight", (long long)l);
        assert_int_equal(dsb_checkpoint_read(r->schemes[0].source, name, d, 0, want, NULL, NULL), DSB_OK);
        assert_memory_equal(s.layers[l].attn.input_norm, want, (size_t)d * sizeof *want);
        snprintf(name, sizeof name, "model.layers.%lld.post_attention_layernorm.weight", (long long)l);
        assert_int_equal(dsb_checkpoint_read(r->schemes[0].source, name, d, 0, want, NULL, NULL), DSB_OK);
        assert_memory_equal(s.layers[l].router.norm, want, (size_t)d * sizeof *want);
        if (!dsb_layer_is_moe(&r->m.config, l)) continue;
        snprintf(name, sizeof name, "model.layers.%lld.mlp.gate.weight", (long long)l);
        assert_int_equal(dsb_checkpoint_read(r->schemes[0].source, name, e, d, want, NULL, NULL), DSB_OK);
        assert_int_equal(dsb_linear_apply(&r->m, &s.layers[l].router.w, false, eye, d, &s.ws, got, NULL), DSB_OK);
        for (int64_t i = 0; i < e * d; i++) assert_true(got[i % d * e + i / d] == want[i]);
    }
    free(want);
    free(eye);
    free(got);
    dsb_session_close(&s);
    sr_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session__prefill_in_pieces_is_prefill_at_once),
        cmocka_unit_test(test_session__a_batch_is_its_sequences_each_alone),
        cmocka_unit_test(test_session__forced_experts_are_those_that_run),
        cmocka_unit_test(test_session__carriers_hold_bf16_values),
        cmocka_unit_test(test_session__isolated_and_accumulated_errors_are_what_metrics_defines),
        cmocka_unit_test(test_session__isolated_figures_use_sampled_chunks_alone),
        cmocka_unit_test(test_session__sums_are_those_of_single_chunks),
        cmocka_unit_test(test_session__kept_routers_have_no_isolated_error),
        cmocka_unit_test(test_session__a_source_brings_its_own_norms_and_routers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
