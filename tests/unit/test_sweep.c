/* The two drivers on the built-in model: the sweep's figures don't depend on threads, and decoding through the cache
 * gives the sweep's logits. Kernels are batch-invariant, so "gives" means the same bits, not a tolerance. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <omp.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sweep.h"
#include "engine/session.h"
#include "harness/scheme_source.h"

static const char k_model[] = "models/dsmoe-tiny";
static const char *const k_schemes[] = {"bf16", "dynamic-int8", "static-int8", "mixed-fp16-int8", "sparse-expert", "qat-int8", "qat-int4", "int4-rtn", "int3-rtn"};
enum { N_SCHEME = 9, N_CHUNK = 3, N_CTX = 24, MAX_EVENTS = 4096 };

typedef struct fixture {
    dsb_arena arena;
    dsb_model m;
    dsb_scheme_source sources[N_SCHEME];
    dsb_scheme schemes[N_SCHEME];
    int32_t tokens[N_CHUNK * N_CTX], targets[N_CHUNK * N_CTX];
} fixture;

/* All that a sweep reports, as bytes to compare. */
typedef struct log {
    dsb_moments layers[MAX_EVENTS];
    int n_layer, n_tensor, n_routing, n_block;
    dsb_logit_row rows[N_SCHEME + 1][N_CHUNK * N_CTX];
    int64_t changed;
} log_t;

static dsb_status on_tensor(void *ctx, int scheme, const dsb_tensor_event *e, dsb_err *err) {
    assert_true(e->stored_bytes > 0);
    ((log_t *)ctx)->n_tensor++;
    return DSB_OK;
}
static dsb_status on_layer(void *ctx, const dsb_layer_event *e, dsb_err *err) {
    log_t *l = ctx;
    assert_true(l->n_layer < MAX_EVENTS);
    assert_int_equal(e->moments->nonfinite, 0);
    l->layers[l->n_layer++] = *e->moments;
    return DSB_OK;
}
static dsb_status on_expert(void *ctx, const dsb_expert_event *e, dsb_err *err) { return DSB_OK; }
static dsb_status on_routing(void *ctx, const dsb_routing_event *e, dsb_err *err) {
    log_t *l = ctx;
    int64_t n = e->n_chunk * e->n_ctx * e->ref->k, differ = 0;
    for (int64_t i = 0; i < n; i++) differ += e->ref->idx[i] != e->test->idx[i];
    if (e->kind == DSB_KIND_ISOLATED && strncmp(k_schemes[e->scheme], "qat-", 4) != 0) assert_int_equal(differ, 0); /* the router is kept */
    l->changed += differ;
    l->n_routing++;
    return DSB_OK;
}
static dsb_status on_logits(void *ctx, const dsb_logits_event *e, dsb_err *err) {
    memcpy(&((log_t *)ctx)->rows[e->scheme + 1][e->first], e->rows, (size_t)e->n * sizeof *e->rows);
    return DSB_OK;
}
static dsb_status on_clip(void *ctx, const dsb_clip_event *e, dsb_err *err) { return DSB_OK; }
static dsb_status on_block(void *ctx, int64_t layer, dsb_err *err) {
    ((log_t *)ctx)->n_block++;
    return DSB_OK;
}

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    dsb_err err = {0};
    dsb_arena_init(&f->arena);
    if (dsb_model_open(&f->m, dsb_backend_cpu(NULL), k_model, 128, &err)) return -1;
    for (int i = 0; i < N_SCHEME; i++) {
        const dsb_recipe *r;
        if (dsb_recipe_preset(&r, &f->arena, k_schemes[i], &err)) return -1;
        if (dsb_scheme_source_open(&f->sources[i], &f->m, k_model, r, NULL, &err)) return -1;
        f->schemes[i] = f->sources[i].scheme;
    }
    for (int i = 0; i < N_CHUNK * N_CTX; i++) {
        f->tokens[i] = (int32_t)((uint32_t)i * 2654435761u % (uint32_t)f->m.config.vocab);
        f->targets[i] = i % N_CTX < N_CTX - 1 ? (int32_t)((uint32_t)(i + 1) * 2654435761u % (uint32_t)f->m.config.vocab) : -1;
    }
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    for (int i = 0; i < N_SCHEME; i++) dsb_scheme_source_close(&f->sources[i]);
    dsb_model_close(&f->m);
    dsb_arena_release(&f->arena);
    free(f);
    return 0;
}

static log_t *run(fixture *f, int threads, dsb_calibration *cal) {
    log_t *l = calloc(1, sizeof *l);
    dsb_err err = {0};
    dsb_observer obs = {.ctx = l, .tensor = on_tensor, .layer = on_layer, .expert = on_expert, .routing = on_routing, .logits = on_logits, .clip = on_clip, .block_done = on_block};
    dsb_sweep_plan plan = {.m = &f->m, .n_scheme = N_SCHEME, .schemes = f->schemes, .n_chunk = N_CHUNK, .n_ctx = N_CTX, .tokens = f->tokens, .targets = f->targets,
                           .n_cal_chunk = 2, .cal_tokens = f->tokens, .isolated_every = 2, .obs = &obs};
    omp_set_num_threads(threads);
    dsb_status s = dsb_sweep_run(&plan, cal, &err);
    if (s) fail_msg("%s", err.text);
    return l;
}

static void test_sweep__same_bits_for_any_number_of_threads(void **state) {
    dsb_calibration a, b;
    log_t *one = run(*state, 1, &a), *two = run(*state, 2, &b);
    assert_int_equal(one->n_block, ((fixture *)*state)->m.config.n_layer + 1);
    assert_true(one->n_tensor > 0 && one->n_routing > 0);
    assert_memory_equal(one, two, sizeof *one);
    dsb_calibration_release(&a);
    dsb_calibration_release(&b);
    free(one);
    free(two);
}

/* Prefill of a chunk has the sweep's figures; token by token through the cache the reference's logits are within 1e-4 of them: MLA decodes in
 * absorbed form (test_absorb bounds the schemes' attention). */
static void compare_session(fixture *f, const dsb_scheme *scheme, const dsb_calibration *cal, const dsb_logit_row *rows, bool as_reference) {
    dsb_session s;
    dsb_err err = {0};
    int64_t v = f->m.config.vocab, at = 0;
    float *z = calloc((size_t)v, sizeof *z), *whole = calloc((size_t)(v * N_CTX), sizeof *whole);
    if (dsb_session_open(&s, &f->m, scheme, cal, N_CTX, &err)) fail_msg("%s: %s", scheme->name, err.text);
    for (int c = 0; c < N_CHUNK; c++) {
        dsb_session_rewind(&s);
        assert_int_equal(dsb_session_forward(&s, f->tokens + c * N_CTX, N_CTX, N_CTX, whole, NULL, &err), DSB_OK);
        dsb_session_rewind(&s);
        for (int p = 0; p < N_CTX; p++) {
            dsb_logit_row row;
            int32_t target = f->targets[c * N_CTX + p];
            assert_int_equal(dsb_session_forward(&s, f->tokens + c * N_CTX + p, 1, 1, z, NULL, &err), DSB_OK);
            for (int64_t j = 0; j < v; j++) assert_true(as_reference ? fabsf(z[j] - whole[p * v + j]) <= 1e-4f : isfinite(z[j]));
            if (target < 0) continue;
            f->m.be->logit_rows(whole + p * v, NULL, &target, 1, v, &row);
            double sweep = as_reference ? rows[at].nll_ref : rows[at].nll_test;
            if (row.nll_ref != sweep) fail_msg("%s: chunk %d position %d: session %.17g, sweep %.17g", scheme->name, c, p, row.nll_ref, sweep);
            at++;
        }
    }
    dsb_session_close(&s);
    free(z);
    free(whole);
}

static void test_sweep__decoding_gives_the_same_logits(void **state) {
    fixture *f = *state;
    dsb_calibration cal;
    log_t *l = run(f, 2, &cal);
    omp_set_num_threads(1); /* the test above: threads change nothing, and single tokens are quicker without them */
    dsb_scheme reference = {.name = "reference", .source = &f->m.checkpoint, .own_source = true};
    compare_session(f, &reference, &cal, l->rows[0], true);
    for (int i = 0; i < N_SCHEME; i++) compare_session(f, &f->schemes[i], &cal, l->rows[i + 1], false);
    dsb_calibration_release(&cal);
    free(l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sweep__same_bits_for_any_number_of_threads, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sweep__decoding_gives_the_same_logits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
