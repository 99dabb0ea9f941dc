/* Routing of one block: every stream through its router, the comparison with the reference's, rows by expert. */
#include <stdlib.h>
#include <string.h>

#include "engine/sweep_internal.h"

static void by_expert_release(sw_by_expert *b) {
    free(b->start);
    free(b->rows);
    free(b->weight);
}

static dsb_status by_expert_make(sw_by_expert *b, const int32_t *idx, const float *weight, int64_t n, int64_t k, int64_t n_expert, dsb_err *err) {
    DSB_TRY(DSB_NEW(b->start, n_expert + 1, "routing", err));
    DSB_TRY(DSB_NEW(b->rows, n * k, "routing", err));
    DSB_TRY(DSB_NEW(b->weight, n * k, "routing", err));
    dsb_routing_by_expert(idx, weight, n, k, n_expert, b->start, b->rows, b->weight);
    return DSB_OK;
}

void sw_routes_release(const sweep *sw, sw_routes *r) {
    by_expert_release(&r->ref);
    by_expert_release(&r->calib);
    by_expert_release(&r->iso);
    for (int i = 0; i < sw->plan->n_scheme && r->acc && r->block && r->own; i++) {
        by_expert_release(&r->acc[i]);
        by_expert_release(&r->block[i]);
        by_expert_release(&r->own[i]);
    }
    free(r->acc);
    free(r->block);
    free(r->own);
    free(r->ref_bias);
    *r = (sw_routes){0};
}

/* Routes n rows of a stream (all of it when rows is NULL), tile by tile, into r. */
dsb_status sw_route_stream(sweep *sw, const sw_stream *s, bool bf16, const dsb_router_weights *w, dsb_routing *r, dsb_err *err) {
    int64_t d = sw->m->config.d_model;
    float *x;
    SW_TAKE(ST_X, x, sw->rows * d);
    for (int64_t at = 0; at < s->n; at += sw->rows) {
        int64_t n = s->n - at < sw->rows ? s->n - at : sw->rows;
        DSB_TRY(sw_load(sw, s, at, n, x, err));
        dsb_ffn_norm(sw->m, w, bf16, x, n, x);
        DSB_TRY(dsb_router_forward(sw->m, w, x, at, n, &sw->ws, r, err));
    }
    return DSB_OK;
}

/* The scheme's router on the reference's own state, unrounded: zero drift while the router is kept. */
static dsb_status route_isolated(sweep *sw, int64_t rotation, const dsb_router_weights *w, dsb_routing *r, dsb_err *err) {
    int64_t d = sw->m->config.d_model, ctx = sw->plan->n_ctx;
    float *x;
    SW_TAKE(ST_X, x, ctx * d);
    for (int64_t j = 0; j < sw->n_iso_chunk; j++) {
        DSB_TRY(sw_load(sw, &sw->ref, sw->iso_chunks[j] * ctx, ctx, x, err));
        dsb_rotate_rows(sw->be, rotation, x, ctx, d);
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

static dsb_status route_scheme(sweep *sw, int s, int64_t layer, const sw_routes *p, const dsb_routing *ref_iso, dsb_routing *all, dsb_routing *iso, dsb_err *err) {
    sw_scheme *st = &sw->schemes[s];
    bool bf16 = sw->plan->schemes[s].bf16;
    float *bias = NULL;
    if (st->router.bias) {
        DSB_TRY(DSB_NEW(bias, sw->m->config.n_expert, "router bias", err));
        sw->be->download(bias, st->router.bias, (size_t)sw->m->config.n_expert * sizeof *bias);
    }
    dsb_status x = sw_route_stream(sw, &st->acc, bf16, &st->router, all, err);
    if (!x) {
        keep_route(&st->acc_route, all);
        x = routing_event(sw, s, layer, DSB_KIND_ACCUMULATED, &sw->ref_route, all, p->ref_bias, bias, err);
    }
    if (!x) x = sw_route_stream(sw, &st->block, bf16, &st->router, iso, err);
    if (!x) {
        keep_route(&st->block_route, iso);
        x = routing_event(sw, s, layer, DSB_KIND_BLOCK, ref_iso, iso, p->ref_bias, bias, err);
    }
    if (!x) x = route_isolated(sw, sw_rotation(sw, s), &st->router, iso, err);
    if (!x) x = routing_event(sw, s, layer, DSB_KIND_ISOLATED, ref_iso, iso, p->ref_bias, bias, err);
    free(bias);
    return x;
}

static dsb_status activity(sweep *sw, int64_t layer, dsb_err *err) {
    dsb_layer_calibration *c = &sw->cal->layers[layer];
    if (sw->calib.rows.n == 0) return DSB_OK;
    DSB_TRY(dsb_routing_mass(&sw->calib.route, sw->plan->n_ctx, c->activity, err));
    dsb_rank(c->activity, sw->m->config.n_expert, c->activity_rank);
    c->activity_known = true;
    return DSB_OK;
}

dsb_status sw_load_routers(sweep *sw, int64_t layer, dsb_err *err) {
    bool moe = dsb_layer_is_moe(&sw->m->config, layer);
    dsb_linear_spec spec;
    dsb_router_release(sw->be, &sw->ref_router);
    DSB_TRY(dsb_router_load_vectors(sw->m, &sw->m->checkpoint, layer, 0, &sw->ref_router, err));
    if (moe) {
        dsb_router_spec(&sw->m->config, layer, &spec);
        DSB_TRY(sw_load_reference(sw, &spec, &sw->ref_router.w, err));
        DSB_TRY(sw_calib_see_stream(sw, &sw->calib, -1, &spec, sw->ref_router.norm, err));
        for (int s = 0; s < sw->plan->n_scheme; s++) DSB_TRY(sw_calib_see_stream(sw, &sw->schemes[s].own, s, &spec, sw->ref_router.norm, err));
        DSB_TRY(sw_route_stream(sw, &sw->calib.rows, false, &sw->ref_router, &sw->calib.route, err));
    }
    for (int s = 0; s < sw->plan->n_scheme; s++) {
        dsb_router_weights *w = &sw->schemes[s].router;
        dsb_router_release(sw->be, w);
        if (sw->plan->schemes[s].own_source && !sw_rotation(sw, s)) {
            dsb_router_borrow(w, &sw->ref_router);
        } else {
            DSB_TRY(dsb_router_load_vectors(sw->m, sw->plan->schemes[s].source, layer, sw_rotation(sw, s), w, err));
        }
        if (moe) DSB_TRY(sw_load_router(sw, s, &spec, err));
    }
    return DSB_OK;
}

dsb_status sw_route(sweep *sw, int64_t layer, sw_routes *p, dsb_err *err) {
    const dsb_config *c = &sw->m->config;
    dsb_routing all = {0}, iso = {0}, ref_iso = {0};
    *p = (sw_routes){0};
    DSB_TRY(DSB_NEW(p->acc, sw->plan->n_scheme + 1, "routing", err));
    DSB_TRY(DSB_NEW(p->block, sw->plan->n_scheme + 1, "routing", err));
    DSB_TRY(DSB_NEW(p->own, sw->plan->n_scheme + 1, "routing", err));
    if (sw->ref_router.bias) {
        DSB_TRY(DSB_NEW(p->ref_bias, c->n_expert, "router bias", err));
        sw->be->download(p->ref_bias, sw->ref_router.bias, (size_t)c->n_expert * sizeof *p->ref_bias);
    }
    DSB_TRY(activity(sw, layer, err));
    DSB_TRY(sw_route_stream(sw, &sw->ref, false, &sw->ref_router, &sw->ref_route, err));
    dsb_status s = dsb_routing_alloc(&all, c, sw->n_tok, true, err);
    if (!s) s = dsb_routing_alloc(&iso, c, sw->n_iso, true, err);
    if (!s) s = sampled_reference(sw, &ref_iso, err);
    for (int i = 0; i < sw->plan->n_scheme && !s; i++) s = route_scheme(sw, i, layer, p, &ref_iso, &all, &iso, err);
    int64_t k = c->router.k, e = c->n_expert;
    if (!s) s = by_expert_make(&p->ref, sw->ref_route.idx, sw->ref_route.weight, sw->n_tok, k, e, err);
    if (!s) s = by_expert_make(&p->calib, sw->calib.route.idx, sw->calib.route.weight, sw->calib.rows.n, k, e, err);
    if (!s) s = by_expert_make(&p->iso, ref_iso.idx, ref_iso.weight, sw->n_iso, k, e, err);
    for (int i = 0; i < sw->plan->n_scheme && !s; i++) {
        s = by_expert_make(&p->acc[i], sw->schemes[i].acc_route.idx, sw->schemes[i].acc_route.weight, sw->n_tok, k, e, err);
        if (!s) s = by_expert_make(&p->block[i], sw->schemes[i].block_route.idx, sw->schemes[i].block_route.weight, sw->n_iso, k, e, err);
        if (!s) s = by_expert_make(&p->own[i], sw->schemes[i].own.route.idx, sw->schemes[i].own.route.weight, sw->schemes[i].own.rows.n, k, e, err);
    }
    dsb_routing_release(&all);
    dsb_routing_release(&iso);
    dsb_routing_release(&ref_iso);
    return s;
}
