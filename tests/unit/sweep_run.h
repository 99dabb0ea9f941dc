/* A short sweep over the built-in model (or a tiny one) with everything that it reports kept, for the tests of the two drivers. */
#ifndef DSB_TESTS_SWEEP_RUN_H
#define DSB_TESTS_SWEEP_RUN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "engine/model_check.h"
#include "engine/session.h"
#include "engine/sweep.h"
#include "harness/scheme_source.h"

enum { SR_SCHEMES = 64, SR_LAYERS = 16, SR_EXPERTS = 32, SR_CHUNKS = 3, SR_CTX = 24 };
static const char sr_model[] = "models/dsmoe-tiny";

typedef struct sr_tensor {
    const char *format;
    dsb_activation activation;
    bool fell_back;
    dsb_moments moments;
    size_t stored_bytes;
    int64_t group;
} sr_tensor;

typedef struct sr_run {
    dsb_arena arena;
    const char *dir;
    dsb_model m;
    dsb_scheme reference;
    int n_scheme;
    dsb_scheme_source sources[SR_SCHEMES];
    dsb_scheme schemes[SR_SCHEMES];
    bool bf16_reference; /* of the next sweep */
    int32_t tokens[SR_CHUNKS * SR_CTX], targets[SR_CHUNKS * SR_CTX];
    dsb_calibration cal;
    dsb_cover_policy cover;
    /* what the sweep said; [0] of tensors is gate, up, down */
    dsb_moments layer[SR_SCHEMES][SR_LAYERS][DSB_POINT_COUNT][DSB_KIND_COUNT][SR_CHUNKS];
    int seen[SR_SCHEMES][SR_LAYERS][DSB_POINT_COUNT][DSB_KIND_COUNT][SR_CHUNKS];
    sr_tensor expert[SR_SCHEMES][SR_LAYERS][SR_EXPERTS][3], other[SR_SCHEMES][SR_LAYERS][DSB_ROLE_COUNT];
    dsb_moments router[SR_SCHEMES][SR_LAYERS], expert_error[SR_SCHEMES][SR_LAYERS][SR_EXPERTS];
    bool same_isolated_routing[SR_SCHEMES][SR_LAYERS];
    int64_t values[SR_SCHEMES], clipped[SR_SCHEMES];
    dsb_logit_row rows[SR_SCHEMES + 1][SR_CHUNKS * SR_CTX];
} sr_run;

static dsb_status sr_on_tensor(void *ctx, int scheme, const dsb_tensor_event *e, dsb_err *err) {
    sr_run *r = ctx;
    sr_tensor t = {e->format, e->activation, e->fell_back, e->moments, e->stored_bytes, e->group};
    if (e->spec->layer < 0) return DSB_OK;
    if (e->spec->expert >= 0) r->expert[scheme][e->spec->layer][e->spec->expert][e->spec->role - DSB_ROLE_EXPERT_GATE] = t;
    else r->other[scheme][e->spec->layer][e->spec->role] = t;
    if (e->spec->role == DSB_ROLE_ROUTER) r->router[scheme][e->spec->layer] = e->moments;
    return DSB_OK;
}
static dsb_status sr_on_layer(void *ctx, const dsb_layer_event *e, dsb_err *err) {
    sr_run *r = ctx;
    r->layer[e->scheme][e->layer][e->point][e->kind][e->chunk] = *e->moments;
    r->seen[e->scheme][e->layer][e->point][e->kind][e->chunk]++;
    return DSB_OK;
}
static dsb_status sr_on_expert(void *ctx, const dsb_expert_event *e, dsb_err *err) {
    ((sr_run *)ctx)->expert_error[e->scheme][e->layer][e->expert] = *e->moments;
    return DSB_OK;
}
static dsb_status sr_on_routing(void *ctx, const dsb_routing_event *e, dsb_err *err) {
    sr_run *r = ctx;
    int64_t n = e->n_chunk * e->n_ctx;
    if (e->kind != DSB_KIND_ISOLATED) return DSB_OK;
    r->same_isolated_routing[e->scheme][e->layer] = memcmp(e->ref->idx, e->test->idx, (size_t)(n * e->ref->k) * 4) == 0 && memcmp(e->ref->scores, e->test->scores, (size_t)(n * e->ref->n_expert) * 4) == 0;
    return DSB_OK;
}
static dsb_status sr_on_logits(void *ctx, const dsb_logits_event *e, dsb_err *err) {
    memcpy(&((sr_run *)ctx)->rows[e->scheme + 1][e->first], e->rows, (size_t)e->n * sizeof *e->rows);
    return DSB_OK;
}
static dsb_status sr_on_clip(void *ctx, const dsb_clip_event *e, dsb_err *err) {
    ((sr_run *)ctx)->values[e->scheme] += e->values;
    ((sr_run *)ctx)->clipped[e->scheme] += e->clipped;
    return DSB_OK;
}
static dsb_status sr_on_block(void *ctx, int64_t layer, dsb_err *err) { return DSB_OK; }

static inline sr_run *sr_open_model(const dsb_backend *be, const char *dir) {
    sr_run *r = calloc(1, sizeof *r);
    dsb_err err = {0};
    assert_non_null(r);
    r->dir = dir;
    omp_set_num_threads(1); /* results are the same (test_sweep), and small kernels are quicker so */
    dsb_arena_init(&r->arena);
    if (dsb_model_open(&r->m, be, dir, SR_CTX, &err)) fail_msg("%s", err.text);
    assert_true(r->m.config.n_layer <= SR_LAYERS && r->m.config.n_expert <= SR_EXPERTS);
    r->reference = (dsb_scheme){.name = "reference", .source = &r->m.checkpoint, .own_source = true};
    for (int i = 0; i < SR_CHUNKS * SR_CTX; i++) r->tokens[i] = (int32_t)((uint32_t)i * 2654435761u % (uint32_t)r->m.config.vocab);
    for (int i = 0; i < SR_CHUNKS * SR_CTX; i++) r->targets[i] = i % SR_CTX < SR_CTX - 1 ? r->tokens[i + 1] : -1;
    return r;
}
static inline sr_run *sr_open_on(const dsb_backend *be) { return sr_open_model(be, sr_model); }
static inline sr_run *sr_open(void) { return sr_open_on(dsb_backend_cpu(NULL)); }
static inline void sr_close(sr_run *r) {
    for (int i = 0; i < r->n_scheme; i++) dsb_scheme_source_close(&r->sources[i]);
    dsb_calibration_release(&r->cal);
    dsb_model_close(&r->m);
    dsb_arena_release(&r->arena);
    free(r);
}
static inline void sr_add(sr_run *r, const dsb_recipe *recipe) {
    dsb_err err = {0};
    assert_true(r->n_scheme < SR_SCHEMES);
    if (dsb_scheme_source_open(&r->sources[r->n_scheme], &r->m, r->dir, recipe, NULL, &err)) fail_msg("%s", err.text);
    r->schemes[r->n_scheme] = r->sources[r->n_scheme].scheme;
    r->n_scheme++;
}
/* Presets whose blocks divide no row of a small model are left out, as a run would refuse them. */
static inline void sr_add_if_it_fits(sr_run *r, const dsb_recipe *recipe) {
    if (!dsb_model_check_recipe(&r->m, recipe, NULL, NULL)) sr_add(r, recipe);
}
static inline void sr_add_preset(sr_run *r, const char *name) {
    const dsb_recipe *recipe;
    dsb_err err = {0};
    if (dsb_recipe_preset(&recipe, &r->arena, name, &err)) fail_msg("%s", err.text);
    sr_add(r, recipe);
}
static inline void sr_add_json(sr_run *r, const char *text) {
    const dsb_recipe *recipe;
    json_t *doc;
    dsb_err err = {0};
    if (dsb_json_parse(&doc, "test", text, strlen(text), &err) || dsb_recipe_parse(&recipe, &r->arena, "test", doc, &err)) fail_msg("%s", err.text);
    json_decref(doc);
    sr_add(r, recipe);
}
/* Chunks first .. first + n_chunk, calibrated on cal_first .. cal_first + n_cal; isolated figures of every isolated_every-th. */
static inline void sr_sweep_chunks(sr_run *r, int first, int n_chunk, int cal_first, int n_cal, int isolated_every) {
    dsb_err err = {0};
    dsb_observer obs = {.ctx = r, .tensor = sr_on_tensor, .layer = sr_on_layer, .expert = sr_on_expert, .routing = sr_on_routing, .logits = sr_on_logits, .clip = sr_on_clip, .block_done = sr_on_block};
    dsb_sweep_plan plan = {.m = &r->m, .n_scheme = r->n_scheme, .schemes = r->schemes, .n_chunk = n_chunk, .n_ctx = SR_CTX, .tokens = r->tokens + first * SR_CTX, .targets = r->targets + first * SR_CTX,
                           .n_cal_chunk = n_cal, .cal_tokens = r->tokens + cal_first * SR_CTX, .cover = r->cover, .bf16_reference = r->bf16_reference, .isolated_every = isolated_every, .obs = &obs};
    if (dsb_sweep_run(&plan, &r->cal, &err)) fail_msg("%s", err.text);
}
/* Calibrates on the first n_cal chunks; isolated figures of chunks 0 and 2. */
static inline void sr_sweep(sr_run *r, int n_cal) { sr_sweep_chunks(r, 0, SR_CHUNKS, 0, n_cal, 2); }

#endif
