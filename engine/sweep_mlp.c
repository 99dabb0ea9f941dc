/* The MLP of one block: routing of every stream, then expert by expert (or the dense layer) all streams, then the residual. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sweep_internal.h"

/* Rows of a stream that go to each expert, on the host. */
typedef struct by_expert {
    int64_t *start;  /* (n_expert + 1) */
    int32_t *rows;   /* (n*k) */
    float *weight;   /* (n*k) */
} by_expert;

typedef struct mlp_plan {
    by_expert ref, calib, iso; /* iso: the reference's routing of sampled chunks, rows are 0 .. n_iso */
    by_expert *acc, *block;    /* (n_scheme) */
    float *ref_bias;           /* host, (n_expert) */
    bool mean_abs;             /* take it from each expert as it is read */
} mlp_plan;

static void by_expert_release(by_expert *b) {
    free(b->start);
    free(b->rows);
    free(b->weight);
}

static dsb_status by_expert_make(by_expert *b, const int32_t *idx, const float *weight, int64_t n, int64_t k, int64_t n_expert, dsb_err *err) {
    DSB_TRY(DSB_NEW(b->start, n_expert + 1, "routing", err));
    DSB_TRY(DSB_NEW(b->rows, n * k, "routing", err));
    DSB_TRY(DSB_NEW(b->weight, n * k, "routing", err));
    dsb_routing_by_expert(idx, weight, n, k, n_expert, b->start, b->rows, b->weight);
    return DSB_OK;
}

/* ---- routing ---- */

/* Routes n rows of a stream (all of it when rows is NULL), tile by tile, into r. */
static dsb_status route_stream(sweep *sw, const sw_stream *s, bool bf16, const dsb_router_weights *w, dsb_routing *r, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *x;
    SW_TAKE(ST_X, x, SW_TILE * d);
    for (int64_t at = 0; at < s->n; at += SW_TILE) {
        int64_t n = s->n - at < SW_TILE ? s->n - at : SW_TILE;
        sw_load(sw, s, at, n, x);
        dsb_ffn_norm(sw->m, w, bf16, x, n, x);
        DSB_TRY(dsb_router_forward(sw->m, w, x, at, n, &sw->ws, r, err));
    }
    return DSB_OK;
}

/* The scheme's router on the reference's own state, unrounded: zero drift while the router is kept. */
static dsb_status route_isolated(sweep *sw, const dsb_router_weights *w, dsb_routing *r, dsb_err *err) {
    int64_t d = sw->m->config.d_model, ctx = sw->plan->n_ctx;
    float *x;
    SW_TAKE(ST_X, x, ctx * d);
    for (int64_t j = 0; j < sw->n_iso_chunk; j++) {
        sw_load(sw, &sw->ref, sw->iso_chunks[j] * ctx, ctx, x);
        dsb_ffn_norm(sw->m, w, false, x, ctx, x);
        DSB_TRY(dsb_router_forward(sw->m, w, x, j * ctx, ctx, &sw->ws, r, err));
    }
    return DSB_OK;
}

/* The reference's routing of sampled chunks, as a routing of its own. */
static dsb_status sampled_reference(sweep *sw, dsb_routing *out, dsb_err *err) {
    const dsb_routing *r = &sw->ref_route;
    DSB_TRY(dsb_routing_alloc(out, &sw->m->config, sw->n_iso, true, err));
    for (int64_t i = 0; i < sw->n_iso; i++) {
        int64_t t = sw->iso_rows[i];
        memcpy(out->idx + i * r->k, r->idx + t * r->k, (size_t)r->k * sizeof *r->idx);
        memcpy(out->weight + i * r->k, r->weight + t * r->k, (size_t)r->k * sizeof *r->weight);
        memcpy(out->logits + i * r->n_expert, r->logits + t * r->n_expert, (size_t)r->n_expert * sizeof *r->logits);
        memcpy(out->scores + i * r->n_expert, r->scores + t * r->n_expert, (size_t)r->n_expert * sizeof *r->scores);
        out->margin[i] = r->margin[t];
    }
    return DSB_OK;
}

static dsb_status routing_event(sweep *sw, int scheme, int64_t layer, dsb_kind kind, const dsb_routing *ref, const dsb_routing *test, const float *ref_bias, const float *test_bias, dsb_err *err) {
    bool all = kind == DSB_KIND_ACCUMULATED;
    dsb_routing_event e = {.scheme = scheme, .layer = layer, .n_chunk = all ? sw->plan->n_chunk : sw->n_iso_chunk, .n_ctx = sw->plan->n_ctx,
                           .chunks = all ? sw->all_chunks : sw->iso_chunks, .kind = kind, .ref = ref, .test = test, .ref_bias = ref_bias, .test_bias = test_bias};
    return sw->plan->obs->routing(sw->plan->obs->ctx, &e, err);
}

/* Keeps what the experts need of a routing that also has scores. */
static void keep_route(dsb_routing *dst, const dsb_routing *src) {
    memcpy(dst->idx, src->idx, (size_t)(src->n * src->k) * sizeof *src->idx);
    memcpy(dst->weight, src->weight, (size_t)(src->n * src->k) * sizeof *src->weight);
    memcpy(dst->margin, src->margin, (size_t)src->n * sizeof *src->margin);
}

static dsb_status route_scheme(sweep *sw, int s, int64_t layer, const mlp_plan *p, const dsb_routing *ref_iso, dsb_routing *all, dsb_routing *iso, dsb_err *err) {
    sw_scheme *st = &sw->schemes[s];
    bool bf16 = sw->plan->schemes[s].bf16;
    float *bias = NULL;
    if (st->router.bias) {
        DSB_TRY(DSB_NEW(bias, sw->m->config.n_expert, "router bias", err));
        sw->be->download(bias, st->router.bias, (size_t)sw->m->config.n_expert * sizeof *bias);
    }
    dsb_status x = route_stream(sw, &st->acc, bf16, &st->router, all, err);
    if (!x) {
        keep_route(&st->acc_route, all);
        x = routing_event(sw, s, layer, DSB_KIND_ACCUMULATED, &sw->ref_route, all, p->ref_bias, bias, err);
    }
    if (!x) x = route_stream(sw, &st->block, bf16, &st->router, iso, err);
    if (!x) {
        keep_route(&st->block_route, iso);
        x = routing_event(sw, s, layer, DSB_KIND_BLOCK, ref_iso, iso, p->ref_bias, bias, err);
    }
    if (!x) x = route_isolated(sw, &st->router, iso, err);
    if (!x) x = routing_event(sw, s, layer, DSB_KIND_ISOLATED, ref_iso, iso, p->ref_bias, bias, err);
    free(bias);
    return x;
}

static dsb_status activity(sweep *sw, int64_t layer, dsb_err *err) {
    dsb_layer_calibration *c = &sw->cal->layers[layer];
    if (sw->calib.n == 0) return DSB_OK;
    DSB_TRY(route_stream(sw, &sw->calib, false, &sw->ref_router, &sw->cal_route, err));
    DSB_TRY(dsb_routing_mass(&sw->cal_route, sw->plan->n_ctx, c->activity, err));
    dsb_rank(c->activity, sw->m->config.n_expert, c->activity_rank);
    c->activity_known = true;
    return DSB_OK;
}

static dsb_status load_routers(sweep *sw, int64_t layer, dsb_err *err) {
    bool moe = dsb_layer_is_moe(&sw->m->config, layer);
    dsb_linear_spec spec;
    dsb_router_release(sw->be, &sw->ref_router);
    DSB_TRY(dsb_router_load_vectors(sw->m, &sw->m->checkpoint, layer, &sw->ref_router, err));
    if (moe) {
        dsb_router_spec(&sw->m->config, layer, &spec);
        DSB_TRY(sw_load_reference(sw, 0, &spec, &sw->ref_router.w, err));
    }
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        dsb_router_weights *w = &sw->schemes[s].router;
        dsb_router_release(sw->be, w);
        if (sw->plan->schemes[s].own_source) {
            dsb_router_borrow(w, &sw->ref_router);
        } else {
            DSB_TRY(dsb_router_load_vectors(sw->m, sw->plan->schemes[s].source, layer, w, err));
        }
        if (moe) DSB_TRY(sw_load_scheme(sw, 0, s, &spec, &sw->ref_router.w, &w->w, err));
    }
    return DSB_OK;
}

static dsb_status route_all(sweep *sw, int64_t layer, mlp_plan *p, dsb_err *err) {
    const dsb_config *c = &sw->m->config;
    dsb_routing all = {0}, iso = {0}, ref_iso = {0};
    if (sw->ref_router.bias) {
        DSB_TRY(DSB_NEW(p->ref_bias, c->n_expert, "router bias", err));
        sw->be->download(p->ref_bias, sw->ref_router.bias, (size_t)c->n_expert * sizeof *p->ref_bias);
    }
    DSB_TRY(activity(sw, layer, err));
    DSB_TRY(route_stream(sw, &sw->ref, false, &sw->ref_router, &sw->ref_route, err));
    dsb_status s = dsb_routing_alloc(&all, c, sw->n_tok, true, err);
    if (!s) s = dsb_routing_alloc(&iso, c, sw->n_iso, true, err);
    if (!s) s = sampled_reference(sw, &ref_iso, err);
    for (int i = 0; i < sw->plan->n_scheme && !s; i++) s = route_scheme(sw, i, layer, p, &ref_iso, &all, &iso, err);
    int64_t k = c->router.k, e = c->n_expert;
    if (!s) s = by_expert_make(&p->ref, sw->ref_route.idx, sw->ref_route.weight, sw->n_tok, k, e, err);
    if (!s) s = by_expert_make(&p->calib, sw->cal_route.idx, sw->cal_route.weight, sw->calib.n, k, e, err);
    if (!s) s = by_expert_make(&p->iso, ref_iso.idx, ref_iso.weight, sw->n_iso, k, e, err);
    for (int i = 0; i < sw->plan->n_scheme && !s; i++) {
        s = by_expert_make(&p->acc[i], sw->schemes[i].acc_route.idx, sw->schemes[i].acc_route.weight, sw->n_tok, k, e, err);
        if (!s) s = by_expert_make(&p->block[i], sw->schemes[i].block_route.idx, sw->schemes[i].block_route.weight, sw->n_iso, k, e, err);
    }
    dsb_routing_release(&all);
    dsb_routing_release(&iso);
    dsb_routing_release(&ref_iso);
    return s;
}

/* ---- experts ---- */

typedef struct expert_ctx {
    const sweep *sw;
    dsb_layer_calibration *layer;
    int64_t expert;
} expert_ctx;

static void observe_expert(void *ctx, dsb_role role, const float *x, int64_t n, int64_t cols) {
    expert_ctx *c = ctx;
    dsb_range_observer *r = c->expert >= 0 ? &c->layer->expert[c->expert * 3 + (role - DSB_ROLE_EXPERT_GATE)] : &c->layer->role[role];
    dsb_range_observe(c->sw->be, r, x, n, cols);
}

/* What one pass of rows through a feed-forward needs. */
typedef struct ffn_pass {
    const sw_stream *src;
    const int32_t *rows; /* host: rows of src, or NULL for the contiguous rows from `at` */
    int64_t at, n;
    bool bf16, round_input; /* round_input: src is the reference's f32 state read by a BF16 carrier */
    const dsb_router_weights *norm;
    const dsb_ffn_weights *w;
    dsb_role role;
    const dsb_input_observer *obs;
    dsb_workspace *ws;
} ffn_pass;

/* out (n, d_model) = ffn(norm(rows of src)); n <= SW_TILE. */
static dsb_status run_tile(sweep *sw, const ffn_pass *p, int64_t first, int64_t n, float *out, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *x;
    SW_TAKE(ST_GATHER, x, SW_TILE * d);
    if (p->rows) {
        int32_t *rows;
        SW_TAKE(ST_IDX, rows, SW_TILE);
        sw->be->upload(rows, p->rows + first, (size_t)n * sizeof *rows);
        DSB_TRY(sw_gather(sw, p->src, rows, n, x, err));
    } else {
        sw_load(sw, p->src, p->at + first, n, x);
    }
    if (p->round_input) sw->be->round_bf16(x, n * d);
    dsb_ffn_norm(sw->m, p->norm, p->bf16, x, n, x);
    if (p->role == DSB_ROLE_SHARED_GATE) return dsb_shared_forward(sw->m, p->w, p->norm, p->bf16, x, n, p->obs, p->ws, out, err);
    return dsb_ffn_forward(sw->m, p->w, p->role, p->bf16, x, n, p->obs, p->ws, out, err);
}

/* Runs the rows of one expert and adds weight * output into dst at `to` rows. keep (may be NULL): outputs as they are. */
static dsb_status run_expert(sweep *sw, const ffn_pass *p, const int32_t *to, const float *weight, float *dst, float *keep, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *out, *w;
    int32_t *rows;
    SW_TAKE(ST_OUT, out, SW_TILE * d);
    for (int64_t first = 0; first < p->n; first += SW_TILE) {
        int64_t n = p->n - first < SW_TILE ? p->n - first : SW_TILE;
        DSB_TRY(run_tile(sw, p, first, n, out, err));
        if (keep) sw->be->copy(keep + first * d, out, (size_t)(n * d) * sizeof *out);
        SW_TAKE(ST_IDX, rows, SW_TILE);
        SW_TAKE(ST_WEIGHT, w, SW_TILE);
        sw->be->upload(rows, to + first, (size_t)n * sizeof *rows);
        sw->be->upload(w, weight + first, (size_t)n * sizeof *w);
        sw->be->scatter_add(dst, rows, w, out, n, d);
    }
    return DSB_OK;
}

static int64_t expert_rows(const by_expert *b, int64_t e, int64_t *at) {
    *at = b->start[e];
    return b->start[e + 1] - *at;
}

static dsb_status load_ffn_reference(sweep *sw, const dsb_linear_spec specs[3], dsb_ffn_weights *w, dsb_err *err) {
    DSB_TRY(sw_load_reference(sw, 0, &specs[0], &w->gate, err));
    DSB_TRY(sw_load_reference(sw, 1, &specs[1], &w->up, err));
    return sw_load_reference(sw, 2, &specs[2], &w->down, err);
}

static dsb_status load_ffn_scheme(sweep *sw, int s, const dsb_linear_spec specs[3], const dsb_ffn_weights *ref, dsb_ffn_weights *w, dsb_err *err) {
    DSB_TRY(sw_load_scheme(sw, 0, s, &specs[0], &ref->gate, &w->gate, err));
    DSB_TRY(sw_load_scheme(sw, 1, s, &specs[1], &ref->up, &w->up, err));
    return sw_load_scheme(sw, 2, s, &specs[2], &ref->down, &w->down, err);
}

/* ---- mean |W| of an expert, for the rules that test it ---- */

static bool recipes_test(const sweep *sw, dsb_when when) {
    for (int i = 0; i < sw->plan->n_scheme; i++) {
        const dsb_recipe *r = sw->plan->schemes[i].recipe;
        for (int j = 0; r && j < r->n_rule; j++)
            if (r->rules[j].when == when) return true;
    }
    return false;
}

/* Of expert e, whose matrices the first three loaders have just read. */
static void mean_abs_of_loaded(sweep *sw, int64_t layer, int64_t e, const dsb_linear_spec specs[3]) {
    double sum = 0;
    int64_t n = 0;
    for (int i = 0; i < 3; i++) {
        const float *w = sw->loaders[i].w_ref;
        for (int64_t j = 0; j < specs[i].rows * specs[i].cols; j++) sum += w[j] < 0 ? -(double)w[j] : (double)w[j];
        n += specs[i].rows * specs[i].cols;
    }
    sw->cal->layers[layer].mean_abs[e] = sum / (double)n;
}

/* A rank among the block's experts decides the first of them already: only then their weights are read twice. */
static dsb_status mean_abs_beforehand(sweep *sw, int64_t layer, dsb_err *err) {
    dsb_layer_calibration *c = &sw->cal->layers[layer];
    for (int64_t e = 0; e < sw->m->config.n_expert; e++) {
        dsb_linear_spec specs[3];
        dsb_ffn_specs(&sw->m->config, layer, DSB_ROLE_EXPERT_GATE, e, specs);
        for (int i = 0; i < 3; i++) DSB_TRY(sw_load_reference(sw, i, &specs[i], NULL, err));
        mean_abs_of_loaded(sw, layer, e, specs);
    }
    dsb_rank(c->mean_abs, sw->m->config.n_expert, c->mean_abs_rank);
    return DSB_OK;
}

/* Isolated rows of expert e: their places in the reference's stream. The caller frees. */
static dsb_status isolated_sources(sweep *sw, const int32_t *iso, int64_t n, int32_t **out, dsb_err *err) {
    DSB_TRY(DSB_NEW(*out, n, "routing", err));
    for (int64_t i = 0; i < n; i++) (*out)[i] = sw->iso_rows[iso[i]];
    return DSB_OK;
}

/* Moments of an expert's outputs on isolated rows (ascending): a partial a chunk, added in the chunks' order. */
static dsb_moments moments_by_chunk(const sweep *sw, const int32_t *rows, int64_t n, const float *ref, const float *test) {
    int64_t d = sw->m->config.d_model, ctx = sw->plan->n_ctx;
    dsb_moments sum = {.first_bad = -1};
    for (int64_t from = 0, to; from < n; from = to) {
        dsb_moments part;
        for (to = from + 1; to < n && rows[to] / ctx == rows[from] / ctx;) to++;
        sw->be->moments(ref + from * d, test + from * d, (to - from) * d, &part);
        dsb_moments_add(&sum, &part);
    }
    return sum;
}

static dsb_status expert_scheme(sweep *sw, int s, int64_t layer, int64_t e, const mlp_plan *p, const dsb_ffn_weights *w, const int32_t *iso_src, const float *ref_out, float *test_out, dsb_err *err) {
    sw_scheme *st = &sw->schemes[s];
    bool bf16 = sw->plan->schemes[s].bf16;
    int64_t at, n;
    ffn_pass pass = {.bf16 = bf16, .norm = &st->router, .w = w, .role = DSB_ROLE_EXPERT_GATE, .ws = &st->ws};
    n = expert_rows(&p->acc[s], e, &at);
    pass.src = &st->acc;
    pass.rows = p->acc[s].rows + at;
    pass.n = n;
    DSB_TRY(run_expert(sw, &pass, pass.rows, p->acc[s].weight + at, st->acc.out, NULL, err));
    n = expert_rows(&p->block[s], e, &at);
    pass.src = &st->block;
    pass.rows = p->block[s].rows + at;
    pass.n = n;
    pass.ws = &sw->ws;
    DSB_TRY(run_expert(sw, &pass, pass.rows, p->block[s].weight + at, st->block.out, NULL, err));
    n = expert_rows(&p->iso, e, &at);
    if (n == 0) return DSB_OK;
    pass.src = &sw->ref;
    pass.round_input = bf16;
    pass.rows = iso_src;
    pass.n = n;
    DSB_TRY(run_expert(sw, &pass, p->iso.rows + at, p->iso.weight + at, st->iso_out, test_out, err));
    dsb_moments moments = moments_by_chunk(sw, p->iso.rows + at, n, ref_out, test_out);
    dsb_expert_event ev = {.scheme = s, .layer = layer, .expert = e, .tokens = n, .moments = &moments};
    return sw->plan->obs->expert(sw->plan->obs->ctx, &ev, err);
}

/* The reference's outputs of expert e on isolated rows, picked from those of all its rows (both ascending). */
static void pick_isolated(sweep *sw, const int32_t *all, int64_t n_all, const float *out, const int32_t *wanted, int64_t n, float *dst) {
    int64_t d = sw->m->config.d_model, j = 0;
    for (int64_t i = 0; i < n; i++) {
        while (j < n_all && all[j] != wanted[i]) j++;
        sw->be->copy(dst + i * d, out + j * d, (size_t)d * sizeof *dst);
    }
}

static dsb_status one_expert(sweep *sw, int64_t layer, int64_t e, const mlp_plan *p, float *outs[3], dsb_err *err) {
    int64_t at, n, iso_at, n_iso;
    dsb_linear_spec specs[3];
    dsb_ffn_weights ref = {0};
    int32_t *iso_src = NULL;
    expert_ctx ctx = {sw, &sw->cal->layers[layer], e};
    dsb_input_observer obs = {&ctx, observe_expert};
    dsb_ffn_specs(&sw->m->config, layer, DSB_ROLE_EXPERT_GATE, e, specs);
    dsb_status s = load_ffn_reference(sw, specs, &ref, err);
    if (!s && p->mean_abs) mean_abs_of_loaded(sw, layer, e, specs);
    ffn_pass pass = {.norm = &sw->ref_router, .w = &ref, .role = DSB_ROLE_EXPERT_GATE, .ws = &sw->ws, .src = &sw->calib, .obs = &obs};
    pass.n = expert_rows(&p->calib, e, &at);
    pass.rows = p->calib.rows + at;
    if (!s) s = run_expert(sw, &pass, pass.rows, p->calib.weight + at, sw->calib.out, NULL, err);
    n = pass.n = expert_rows(&p->ref, e, &at);
    pass.rows = p->ref.rows + at;
    pass.src = &sw->ref;
    pass.obs = NULL;
    if (!s) s = run_expert(sw, &pass, pass.rows, p->ref.weight + at, sw->ref.out, outs[0], err);
    n_iso = expert_rows(&p->iso, e, &iso_at);
    if (!s) s = isolated_sources(sw, p->iso.rows + iso_at, n_iso, &iso_src, err);
    if (!s) pick_isolated(sw, p->ref.rows + at, n, outs[0], iso_src, n_iso, outs[1]);
    for (int i = 0; i < sw->plan->n_scheme && !s; i++) {
        dsb_ffn_weights w = {0};
        s = load_ffn_scheme(sw, i, specs, &ref, &w, err);
        if (!s) s = expert_scheme(sw, i, layer, e, p, &w, iso_src, outs[1], outs[2], err);
        dsb_ffn_release(sw->be, &w);
    }
    dsb_ffn_release(sw->be, &ref);
    free(iso_src);
    return s;
}

static void zero_outputs(sweep *sw) {
    int64_t d = sw->m->config.d_model;
    if (sw->n_tok) sw->be->zero(sw->ref.out, (size_t)(sw->n_tok * d) * sizeof(float));
    if (sw->calib.n) sw->be->zero(sw->calib.out, (size_t)(sw->calib.n * d) * sizeof(float));
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        sw->be->zero(sw->schemes[s].acc.out, (size_t)(sw->n_tok * d) * sizeof(float));
        sw->be->zero(sw->schemes[s].block.out, (size_t)(sw->n_iso * d) * sizeof(float));
        sw->be->zero(sw->schemes[s].iso_out, (size_t)(sw->n_iso * d) * sizeof(float));
    }
}

static dsb_status routed_experts(sweep *sw, int64_t layer, const mlp_plan *p, dsb_err *err) {
    int64_t d = sw->m->config.d_model, most = 1;
    float *outs[3];
    char what[64];
    for (int64_t e = 0; e < sw->m->config.n_expert; e++) {
        int64_t at, n = expert_rows(&p->ref, e, &at);
        if (n > most) most = n;
    }
    SW_TAKE(ST_REF_OUT, outs[0], most * d);
    SW_TAKE(ST_LOGITS, outs[1], most * d);
    SW_TAKE(ST_TEST, outs[2], most * d);
    snprintf(what, sizeof what, "block %lld of %lld: experts", (long long)layer + 1, (long long)sw->m->config.n_layer);
    for (int64_t e = 0; e < sw->m->config.n_expert; e++) {
        DSB_TRY(one_expert(sw, layer, e, p, outs, err));
        sw_progress(sw, 0.5 / (double)sw->m->config.n_expert, what);
    }
    return DSB_OK;
}

/* ---- dense and shared: every row of every stream ---- */

/* dst (n, d_model) = or += ffn(norm(src)); rows NULL: all of src. add: rounds dst first (the routed sum), then adds. */
static dsb_status run_all(sweep *sw, ffn_pass *p, int64_t n, bool add, float *dst, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *out;
    SW_TAKE(ST_OUT, out, SW_TILE * d);
    for (int64_t first = 0; first < n; first += SW_TILE) {
        int64_t rows = n - first < SW_TILE ? n - first : SW_TILE;
        DSB_TRY(run_tile(sw, p, first, rows, out, err));
        float *to = dst + first * d;
        if (!add) {
            sw->be->copy(to, out, (size_t)(rows * d) * sizeof *out);
            continue;
        }
        if (p->bf16) sw->be->round_bf16(to, rows * d);
        sw->be->add(to, out, rows * d);
        if (p->bf16) sw->be->round_bf16(to, rows * d);
    }
    return DSB_OK;
}

static dsb_status dense_scheme(sweep *sw, int s, dsb_role role, bool add, const dsb_ffn_weights *w, dsb_err *err) {
    sw_scheme *st = &sw->schemes[s];
    bool bf16 = sw->plan->schemes[s].bf16;
    ffn_pass p = {.bf16 = bf16, .norm = &st->router, .w = w, .role = role, .ws = &st->ws, .src = &st->acc};
    DSB_TRY(run_all(sw, &p, sw->n_tok, add, st->acc.out, err));
    p.src = &st->block;
    p.ws = &sw->ws;
    DSB_TRY(run_all(sw, &p, sw->n_iso, add, st->block.out, err));
    p.src = &sw->ref;
    p.round_input = bf16;
    p.rows = sw->iso_rows;
    return run_all(sw, &p, sw->n_iso, add, st->iso_out, err);
}

/* The dense MLP, or the shared expert added to the routed ones. */
static dsb_status dense(sweep *sw, int64_t layer, dsb_role role, bool add, dsb_err *err) {
    dsb_linear_spec specs[3];
    dsb_ffn_weights ref = {0};
    expert_ctx ctx = {sw, &sw->cal->layers[layer], -1};
    dsb_input_observer obs = {&ctx, observe_expert};
    dsb_ffn_specs(&sw->m->config, layer, role, -1, specs);
    dsb_status s = load_ffn_reference(sw, specs, &ref, err);
    ffn_pass p = {.norm = &sw->ref_router, .w = &ref, .role = role, .ws = &sw->ws, .src = &sw->calib, .obs = &obs};
    if (!s) s = run_all(sw, &p, sw->calib.n, add, sw->calib.out, err);
    p.src = &sw->ref;
    p.obs = NULL;
    if (!s) s = run_all(sw, &p, sw->n_tok, add, sw->ref.out, err);
    for (int i = 0; i < sw->plan->n_scheme && !s; i++) {
        dsb_ffn_weights w = {0};
        s = load_ffn_scheme(sw, i, specs, &ref, &w, err);
        if (!s) s = dense_scheme(sw, i, role, add, &w, err);
        dsb_ffn_release(sw->be, &w);
    }
    dsb_ffn_release(sw->be, &ref);
    return s;
}

/* ---- residual and the block's figures ---- */

/* A block without a shared expert: the routed sum is the MLP's output, rounded where the carrier is BF16. */
static void round_outputs(sweep *sw) {
    int64_t d = sw->m->config.d_model;
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        if (!sw->plan->schemes[s].bf16) continue;
        sw->be->round_bf16(sw->schemes[s].acc.out, sw->n_tok * d);
        sw->be->round_bf16(sw->schemes[s].block.out, sw->n_iso * d);
        sw->be->round_bf16(sw->schemes[s].iso_out, sw->n_iso * d);
    }
}

/* Adds a stream's MLP output of one chunk (rows from `at`) to its residual; x receives the result. */
static void residual_chunk(sweep *sw, sw_stream *s, int64_t at, float *x) {
    int64_t d = sw->m->config.d_model, n = sw->plan->n_ctx;
    sw_load(sw, s, at, n, x);
    sw->be->add(x, s->out + at * d, n * d);
    if (s->bf16) sw->be->round_bf16(x, n * d);
    sw_store(sw, s, at, n, x);
}

static dsb_status finish_chunk(sweep *sw, int64_t layer, int64_t chunk, int64_t iso, float *x_ref, float *x, dsb_err *err) {
    int64_t d = sw->m->config.d_model, ctx = sw->plan->n_ctx, at = chunk * ctx;
    const float *mlp_ref = sw->ref.out + at * d;
    residual_chunk(sw, &sw->ref, at, x_ref);
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        sw_scheme *st = &sw->schemes[s];
        DSB_TRY(sw_layer_event(sw, s, layer, DSB_POINT_MLP, DSB_KIND_ACCUMULATED, chunk, mlp_ref, st->acc.out + at * d, err));
        residual_chunk(sw, &st->acc, at, x);
        DSB_TRY(sw_layer_event(sw, s, layer, DSB_POINT_BLOCK, DSB_KIND_ACCUMULATED, chunk, x_ref, x, err));
        if (iso < 0) continue;
        DSB_TRY(sw_layer_event(sw, s, layer, DSB_POINT_MLP, DSB_KIND_ISOLATED, chunk, mlp_ref, st->iso_out + iso * ctx * d, err));
        residual_chunk(sw, &st->block, iso * ctx, x);
        DSB_TRY(sw_layer_event(sw, s, layer, DSB_POINT_BLOCK, DSB_KIND_ISOLATED, chunk, x_ref, x, err));
    }
    return DSB_OK;
}

static dsb_status finish_block(sweep *sw, int64_t layer, dsb_err *err) {
    int64_t d = sw->m->config.d_model, ctx = sw->plan->n_ctx, iso = 0;
    float *x_ref, *x;
    SW_TAKE(ST_X, x_ref, ctx * d);
    SW_TAKE(ST_OUT, x, ctx * d);
    for (int64_t at = 0; at < sw->calib.n; at += ctx) residual_chunk(sw, &sw->calib, at, x);
    for (int64_t c = 0; c < sw->plan->n_chunk; c++) {
        bool sampled = iso < sw->n_iso_chunk && sw->iso_chunks[iso] == c;
        DSB_TRY(finish_chunk(sw, layer, c, sampled ? iso : -1, x_ref, x, err));
        iso += sampled;
    }
    return DSB_OK;
}

static dsb_status moe(sweep *sw, int64_t layer, dsb_err *err) {
    mlp_plan p = {0};
    dsb_status s = DSB_NEW(p.acc, sw->plan->n_scheme + 1, "routing", err);
    if (!s) s = DSB_NEW(p.block, sw->plan->n_scheme + 1, "routing", err);
    if (!s) s = route_all(sw, layer, &p, err);
    if (!s && recipes_test(sw, DSB_WHEN_MEAN_ABS_RANK_BELOW)) s = mean_abs_beforehand(sw, layer, err);
    else p.mean_abs = sw->plan->n_scheme == 0 || recipes_test(sw, DSB_WHEN_MEAN_ABS_BELOW);
    if (!s) zero_outputs(sw);
    if (!s) s = routed_experts(sw, layer, &p, err);
    if (!s && p.mean_abs) dsb_rank(sw->cal->layers[layer].mean_abs, sw->m->config.n_expert, sw->cal->layers[layer].mean_abs_rank);
    if (!s && sw->m->config.n_shared > 0) s = dense(sw, layer, DSB_ROLE_SHARED_GATE, true, err);
    if (!s && sw->m->config.n_shared == 0) round_outputs(sw);
    by_expert_release(&p.ref);
    by_expert_release(&p.calib);
    by_expert_release(&p.iso);
    for (int i = 0; i < sw->plan->n_scheme && p.acc && p.block; i++) {
        by_expert_release(&p.acc[i]);
        by_expert_release(&p.block[i]);
    }
    free(p.acc);
    free(p.block);
    free(p.ref_bias);
    return s;
}

dsb_status sw_mlp(sweep *sw, int64_t layer, dsb_err *err) {
    DSB_TRY(load_routers(sw, layer, err));
    if (dsb_layer_is_moe(&sw->m->config, layer)) {
        DSB_TRY(moe(sw, layer, err));
    } else {
        DSB_TRY(dense(sw, layer, DSB_ROLE_DENSE_GATE, false, err));
        sw_progress(sw, 0.5, "dense block");
    }
    DSB_TRY(finish_block(sw, layer, err));
    sw_progress(sw, 0.1, "block done");
    return DSB_OK;
}
