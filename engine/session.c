#include "engine/session.h"

#include <stdlib.h>
#include <string.h>

#include "engine/rotate.h"
#include "quantizers/quantize.h"

void dsb_head_spec(const dsb_config *c, dsb_linear_spec *spec) {
    dsb_linear_spec_make(spec, DSB_ROLE_LM_HEAD, -1, -1, c->vocab, c->d_model, c->tied ? "model.embed_tokens" : "lm_head");
}

dsb_status dsb_load_final_norm(const dsb_model *m, const dsb_scheme *scheme, float **out, dsb_err *err) {
    DSB_TRY(dsb_load_vector(m, scheme->source, m->config.d_model, out, err, "model.norm.weight"));
    return dsb_scheme_rotation(scheme, &m->config) ? dsb_norm_fold(m->be, *out, m->config.d_model, err) : DSB_OK;
}

dsb_status dsb_embed(const dsb_model *m, const dsb_scheme *scheme, const int32_t *ids, int64_t n, float *out, dsb_err *err) {
    static const char k_name[] = "model.embed_tokens.weight";
    const dsb_config *c = &m->config;
    const dsb_st_tensor *t = dsb_checkpoint_find(scheme->source, k_name);
    int64_t d = c->d_model;
    if (!t) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s is missing", scheme->source->dir, k_name);
    if (t->ndim != 2 || t->shape[0] != c->vocab || t->shape[1] != d)
        return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: its shape is not (%lld, %lld) as config.json wants", scheme->source->dir, k_name, (long long)c->vocab, (long long)d);
    if (!dsb_st_is_float(t)) return dsb_fail(err, DSB_EINPUT, "%s: tensor %s: dtype is %s; a float type is wanted", scheme->source->dir, k_name, dsb_dtype_name(t->dtype));
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= c->vocab) return dsb_fail(err, DSB_EINPUT, "token %lld is %d; 0 to %lld is wanted by the model's vocabulary", (long long)i, ids[i], (long long)c->vocab - 1);
        dsb_st_row(t, ids[i], out + i * d);
    }
    dsb_rotate_rows(dsb_backend_cpu(NULL), dsb_scheme_rotation(scheme, c), out, n, d);
    const dsb_rule *rule = scheme->recipe ? dsb_recipe_match(scheme->recipe, DSB_ROLE_EMBED, k_name, NULL) : NULL;
    if (rule && rule->format) {
        int64_t group;
        const dsb_format *format = dsb_rule_format(rule, d, &group);
        if (!format) return dsb_fail(err, DSB_EINPUT, "scheme %s: rows of %lld weights of the embedding don't split into %s's blocks; a \"fallback\" that does is wanted", scheme->name, (long long)d, rule->format->name);
        if (!dsb_format_by_rows(format, group, d)) return dsb_fail(err, DSB_EUNSUPPORTED, "scheme %s: the embedding can't be quantized with scales that rows share; channel or a group size is wanted", scheme->name);
        dsb_qtensor q;
        DSB_TRY(dsb_quantize(&q, format, dsb_algorithm_find(rule->algorithm), group, rule->zero_point, out, n, d, err));
        dsb_dequantize(&q, out, out);
        dsb_qtensor_release(&q);
    }
    if (scheme->bf16)
        for (int64_t i = 0; i < n * d; i++) out[i] = dsb_bf16_to_f32(dsb_f32_to_bf16(out[i]));
    return DSB_OK;
}

static size_t linear_bytes(const dsb_linear *l) { return l->w.bytes + l->a.bytes + l->b.bytes; }

/* BF16 by BF16 could be multiplied as such; other weights, and a reference's inputs, can't. */
static dsb_arithmetic arithmetic_of(const dsb_session *s, const dsb_wmat *w, dsb_activation activation) {
    const dsb_activation_row *acts;
    dsb_activation_list(&acts);
    return acts[activation].integer ? DSB_ARITH_INT8 : s->scheme->bf16 && w->kind == DSB_W_BF16 ? DSB_ARITH_BF16 : DSB_ARITH_F32;
}

static dsb_status load_linear(dsb_session *s, dsb_loader *l, const dsb_calibration *cal, const dsb_linear_spec *spec, dsb_linear *out, dsb_err *err) {
    dsb_expert_facts facts = dsb_calibration_facts(cal, spec);
    DSB_TRY(dsb_load_scheme(l, s->scheme, spec, &facts, dsb_calibration_range(cal, spec), NULL, NULL, out, NULL, err));
    size_t bytes = linear_bytes(out);
    double share = spec->expert >= 0 ? (double)s->m->config.router.k / (double)s->m->config.n_expert : 1;
    dsb_work *work = spec->role == DSB_ROLE_LM_HEAD ? &s->head : spec->role == DSB_ROLE_ATTN_KV_B ? &s->expanded : &s->token;
    s->weight_bytes += bytes;
    s->token_bytes += (size_t)(share * (double)bytes);
    work->ops[arithmetic_of(s, &out->w, out->activation)] += share * 2 * (double)spec->rows * (double)spec->cols;
    work->ops[arithmetic_of(s, &out->b, DSB_ACT_NONE)] += share * 2 * (double)out->b.rows * (double)(spec->rows + spec->cols);
    if (spec->expert < 0) work->bytes += (double)bytes;
    return DSB_OK;
}

static dsb_status load_ffn(dsb_session *s, dsb_loader *l, const dsb_calibration *cal, int64_t layer, dsb_role gate, int64_t expert, dsb_ffn_weights *out, dsb_err *err) {
    dsb_linear_spec specs[3];
    dsb_ffn_specs(&s->m->config, layer, gate, expert, specs);
    DSB_TRY(load_linear(s, l, cal, &specs[0], &out->gate, err));
    DSB_TRY(load_linear(s, l, cal, &specs[1], &out->up, err));
    return load_linear(s, l, cal, &specs[2], &out->down, err);
}

/* A decoded token reads kv_b's absorbed parts, not itself. */
static dsb_status absorb(dsb_session *s, dsb_attn_weights *w, dsb_err *err) {
    const dsb_linear *l = &w->kv_b;
    DSB_TRY(dsb_attn_absorb(s->m, w, s->scheme->bf16, err));
    for (int64_t h = 0; h < w->absorbed_heads; h++) {
        const dsb_wmat *parts[] = {&w->absorbed_k[h], &w->absorbed_v[h]};
        for (int i = 0; i < 2; i++) {
            s->weight_bytes += parts[i]->bytes;
            s->token_bytes += parts[i]->bytes;
            s->absorbed.bytes += (double)parts[i]->bytes;
            s->absorbed.ops[DSB_ARITH_F32] += 2 * (double)parts[i]->rows * (double)parts[i]->cols; /* what lies between them stays f32 */
        }
    }
    if (w->absorbed_heads) s->token_bytes -= l->w.bytes + l->a.bytes + l->b.bytes;
    return DSB_OK;
}

/* Nothing but a product of inputs quantized per token, if at all: how. */
static bool plain(const dsb_linear *l, dsb_experts_act *act) {
    *act = l->activation == DSB_ACT_INT8_DYNAMIC ? DSB_EXPERTS_INT8 : l->activation == DSB_ACT_FP8_DYNAMIC ? DSB_EXPERTS_E4M3 : DSB_EXPERTS_PLAIN;
    return (*act != DSB_EXPERTS_PLAIN || l->activation == DSB_ACT_NONE) && !l->bias && !l->a.data && !l->in_scale && !l->rotation;
}

/* Experts that the device takes in one piece; theirs are then gone, their bytes stay counted. */
static dsb_status fuse(dsb_session *s, dsb_layer_weights *w, dsb_err *err) {
    const dsb_config *c = &s->m->config;
    const dsb_backend *be = s->m->be;
    if (!be->fuse_experts || !s->scheme->bf16 || c->swiglu_limit > 0) return DSB_OK;
    dsb_wmat *all;
    dsb_experts_act first, act;
    bool fits = plain(&w->experts[0].gate, &first);
    DSB_TRY(DSB_NEW(all, 3 * c->n_expert, "experts", err));
    for (int64_t e = 0; e < c->n_expert; e++) {
        const dsb_linear *parts[] = {&w->experts[e].gate, &w->experts[e].up, &w->experts[e].down};
        for (int i = 0; i < 3; i++) {
            fits &= plain(parts[i], &act) && act == first;
            all[3 * e + i] = parts[i]->w;
        }
    }
    dsb_status st = fits ? be->fuse_experts(&w->fused, all, c->n_expert, c->router.k, first, err) : DSB_OK;
    free(all);
    for (int64_t e = 0; !st && w->fused && e < c->n_expert; e++) {
        dsb_linear *parts[] = {&w->experts[e].gate, &w->experts[e].up, &w->experts[e].down};
        for (int i = 0; i < 3; i++) {
            size_t bytes = parts[i]->w.bytes;
            be->unpack(&parts[i]->w);
            parts[i]->w.bytes = bytes;
        }
    }
    return st;
}

static dsb_status load_layer(dsb_session *s, dsb_loader *l, const dsb_calibration *cal, int64_t layer, dsb_err *err) {
    const dsb_config *c = &s->m->config;
    dsb_layer_weights *w = &s->layers[layer];
    dsb_linear_spec specs[5], router;
    int n = dsb_attn_specs(c, layer, specs);
    for (int i = 0; i < n; i++) DSB_TRY(load_linear(s, l, cal, &specs[i], dsb_attn_linear(&w->attn, specs[i].role), err));
    DSB_TRY(dsb_attn_load_norms(s->m, s->scheme->source, layer, dsb_scheme_rotation(s->scheme, c), &w->attn, err));
    DSB_TRY(absorb(s, &w->attn, err));
    DSB_TRY(dsb_router_load_vectors(s->m, s->scheme->source, layer, dsb_scheme_rotation(s->scheme, c), &w->router, err));
    if (!dsb_layer_is_moe(c, layer)) return load_ffn(s, l, cal, layer, DSB_ROLE_DENSE_GATE, -1, &w->dense, err);
    dsb_router_spec(c, layer, &router);
    DSB_TRY(load_linear(s, l, cal, &router, &w->router.w, err));
    DSB_TRY(DSB_NEW(w->experts, c->n_expert, "experts", err));
    for (int64_t e = 0; e < c->n_expert; e++) DSB_TRY(load_ffn(s, l, cal, layer, DSB_ROLE_EXPERT_GATE, e, &w->experts[e], err));
    DSB_TRY(fuse(s, w, err));
    return c->n_shared ? load_ffn(s, l, cal, layer, DSB_ROLE_SHARED_GATE, -1, &w->dense, err) : DSB_OK;
}

static dsb_status open_parts(dsb_session *s, dsb_loader *l, const dsb_calibration *cal, int64_t room, dsb_err *err) {
    const dsb_config *c = &s->m->config;
    const dsb_backend *be = s->m->be;
    dsb_linear_spec head;
    if (room > s->m->n_pos) return dsb_fail(err, DSB_EUSAGE, "%lld tokens are wanted, but the model was opened for %lld positions", (long long)room, (long long)s->m->n_pos);
    DSB_TRY(DSB_NEW(s->layers, c->n_layer, "layers", err));
    DSB_TRY(DSB_NEW(s->kv, c->n_layer, "caches", err));
    DSB_TRY(DSB_NEW(s->seqs, s->batch, "sequences", err));
    for (int64_t i = 0; i < c->n_layer; i++) {
        DSB_TRY(load_layer(s, l, cal, i, err));
        void *p;
        DSB_TRY(be->alloc(&p, (size_t)(s->batch * room * dsb_cached_k(c)) * sizeof(float), "key cache", err));
        s->kv[i].k = p;
        if (dsb_cached_v(c)) {
            DSB_TRY(be->alloc(&p, (size_t)(s->batch * room * dsb_cached_v(c)) * sizeof(float), "value cache", err));
            s->kv[i].v = p;
        }
        s->kv[i].room = room;
    }
    DSB_TRY(dsb_load_final_norm(s->m, s->scheme, &s->final_norm, err));
    dsb_head_spec(c, &head);
    return load_linear(s, l, cal, &head, &s->lm_head, err);
}

dsb_status dsb_session_open(dsb_session *s, const dsb_model *m, const dsb_scheme *scheme, const dsb_calibration *calibration, int64_t room, dsb_err *err) {
    return dsb_session_open_batch(s, m, scheme, calibration, room, 1, err);
}

dsb_status dsb_session_open_batch(dsb_session *s, const dsb_model *m, const dsb_scheme *scheme, const dsb_calibration *calibration, int64_t room, int64_t batch, dsb_err *err) {
    dsb_loader loader;
    *s = (dsb_session){.m = m, .scheme = scheme, .batch = batch};
    dsb_workspace_init(&s->ws, m->be);
    dsb_workspace_init(&s->own_ws, m->be);
    dsb_workspace_init(&s->host_ws, NULL);
    dsb_loader_init(&loader, m);
    if (m->be->count_into) m->be->count_into(NULL); /* nobody waits for counts that nobody reads */
    dsb_status st = open_parts(s, &loader, calibration, room, err);
    dsb_loader_release(&loader);
    if (st) dsb_session_close(s);
    return st;
}

void dsb_session_close(dsb_session *s) {
    if (!s->m) return;
    const dsb_backend *be = s->m->be;
    for (int64_t i = 0; i < s->m->config.n_layer; i++) {
        if (s->layers) {
            dsb_layer_weights *w = &s->layers[i];
            dsb_attn_release(be, &w->attn);
            dsb_router_release(be, &w->router);
            dsb_ffn_release(be, &w->dense);
            for (int64_t e = 0; w->experts && e < s->m->config.n_expert; e++) dsb_ffn_release(be, &w->experts[e]);
            free(w->experts);
            if (w->fused) be->experts_release(w->fused);
        }
        if (s->kv && s->kv[i].k) be->release(s->kv[i].k);
        if (s->kv && s->kv[i].v) be->release(s->kv[i].v);
    }
    free(s->layers);
    free(s->kv);
    free(s->seqs);
    if (s->final_norm) be->release(s->final_norm);
    dsb_linear_release(be, &s->lm_head);
    dsb_workspace_release(&s->ws);
    dsb_workspace_release(&s->own_ws);
    dsb_workspace_release(&s->host_ws);
    *s = (dsb_session){0};
}

void dsb_session_rewind_to(dsb_session *s, int64_t depth) {
    if (depth > s->depth) depth = s->depth;
    for (int64_t i = 0; i < s->m->config.n_layer; i++) s->kv[i].len = depth;
    s->depth = depth;
}

void dsb_session_rewind(dsb_session *s) { dsb_session_rewind_to(s, 0); }

void dsb_routing_by_expert(const int32_t *idx, const float *weight, int64_t n, int64_t k, int64_t n_expert, int64_t *start, int32_t *rows, float *row_weight) {
    memset(start, 0, (size_t)(n_expert + 1) * sizeof *start);
    for (int64_t i = 0; i < n * k; i++) start[idx[i] + 1]++;
    for (int64_t e = 0; e < n_expert; e++) start[e + 1] += start[e];
    for (int64_t i = 0; i < n * k; i++) {
        int64_t at = start[idx[i]]++;
        rows[at] = (int32_t)(i / k);
        row_weight[at] = weight[i];
    }
    for (int64_t e = n_expert; e > 0; e--) start[e] = start[e - 1];
    start[0] = 0;
}

/* Slots of the session's own workspaces: of the device, and of the host (staging and routing). */
enum { MS_X, MS_NORM, MS_OUT, MS_GATHER, MS_EXPERT, MS_ROWS, MS_WEIGHT, MS_POS, MS_LOGITS, MS_ROUTED };
enum { HS_EMBED, HS_POS, HS_IDX, HS_WEIGHT, HS_MARGIN, HS_START, HS_ROWS, HS_ROW_WEIGHT };
#define TAKE_FROM(w, slot, ptr, count) DSB_TRY(dsb_workspace_take(w, slot, (size_t)(count) * sizeof *(ptr), (void **)&(ptr), err))
#define TAKE(slot, ptr, count) TAKE_FROM(&s->own_ws, slot, ptr, count)
#define TAKE_HOST(slot, ptr, count) TAKE_FROM(&s->host_ws, slot, ptr, count)

static size_t ffn_bytes(const dsb_ffn_weights *w) { return linear_bytes(&w->gate) + linear_bytes(&w->up) + linear_bytes(&w->down); }

/* The shared expert's output is added to the routed ones'. */
static dsb_status add_shared(dsb_session *s, const dsb_layer_weights *w, const float *x, int64_t n, float *y, dsb_err *err) {
    const dsb_model *m = s->m;
    int64_t d = m->config.d_model;
    float *out;
    if (s->scheme->bf16) m->be->round_bf16(y, n * d);
    if (m->config.n_shared == 0) return DSB_OK;
    TAKE(MS_EXPERT, out, n * d);
    DSB_TRY(dsb_shared_forward(m, &w->dense, &w->router, s->scheme->bf16, x, n, NULL, &s->ws, out, err));
    m->be->add(y, out, n * d);
    if (s->scheme->bf16) m->be->round_bf16(y, n * d);
    return DSB_OK;
}

/* Experts in one piece, routed where they are: nobody waits. idx (n, k) is looked at when the pass has ended. */
static dsb_status fused_forward(dsb_session *s, int64_t layer, const float *x, int64_t n, int32_t *idx, float *y, dsb_err *err) {
    dsb_layer_weights *w = &s->layers[layer];
    float *weight;
    TAKE(MS_WEIGHT, weight, n * s->m->config.router.k);
    DSB_TRY(dsb_router_on_device(s->m, &w->router, x, n, &s->ws, idx, weight, err));
    s->m->be->experts_forward(w->fused, x, n, idx, weight, y);
    return add_shared(s, w, x, n, y, err);
}

/* Counts what fused layers read of their experts. routed: their choices, (n_layer, n, k) on the device. */
static dsb_status count_fused(dsb_session *s, const int32_t *routed, int64_t n, dsb_err *err) {
    const dsb_config *c = &s->m->config;
    int64_t slots = n * c->router.k;
    int32_t *idx;
    bool *seen;
    TAKE_HOST(HS_IDX, idx, c->n_layer * slots);
    TAKE_HOST(HS_START, seen, c->n_expert);
    s->m->be->download(idx, routed, (size_t)(c->n_layer * slots) * sizeof *idx);
    for (int64_t l = 0; l < c->n_layer; l++) {
        if (!s->layers[l].fused) continue;
        memset(seen, 0, (size_t)c->n_expert * sizeof *seen);
        for (int64_t i = 0; i < slots; i++) {
            int32_t e = idx[l * slots + i];
            if (!seen[e]) s->done.bytes += (double)ffn_bytes(&s->layers[l].experts[e]);
            seen[e] = true;
        }
    }
    return DSB_OK;
}

/* Experts of a layer that go together, from *e on: those with rows, as long as they read their inputs alike. More rows than this at once would push
 * what lies between the products out of the cache. */
enum { UNIT_ROWS = 256 };
static int64_t next_units(const dsb_layer_weights *w, const int64_t *start, int64_t n_expert, int64_t *e, dsb_ffn_unit *units) {
    int64_t n = 0, rows = 0;
    for (; *e < n_expert && n < DSB_FFN_UNITS; ++*e) {
        int64_t count = start[*e + 1] - start[*e];
        if (count == 0) continue;
        if (n && (rows + count > UNIT_ROWS || !dsb_ffn_alike(units[0].w, &w->experts[*e]))) break;
        units[n++] = (dsb_ffn_unit){&w->experts[*e], count};
        rows += count;
    }
    return n;
}

dsb_status dsb_moe_forward(dsb_session *s, int64_t layer, const float *x, int64_t n, const dsb_routing *r, float *y, dsb_err *err) {
    const dsb_model *m = s->m;
    const dsb_backend *be = m->be;
    const dsb_layer_weights *w = &s->layers[layer];
    bool bf16 = s->scheme->bf16;
    int64_t d = m->config.d_model, most = n * r->k < UNIT_ROWS ? n * r->k : n < UNIT_ROWS ? UNIT_ROWS : n, *start;
    float *gathered, *out, *weight, *host_weight;
    int32_t *rows, *host_rows;
    TAKE_HOST(HS_START, start, r->n_expert + 1);
    TAKE_HOST(HS_ROWS, host_rows, n * r->k);
    TAKE_HOST(HS_ROW_WEIGHT, host_weight, n * r->k);
    TAKE(MS_GATHER, gathered, most * d);
    TAKE(MS_EXPERT, out, most * d);
    TAKE(MS_ROWS, rows, n * r->k);
    TAKE(MS_WEIGHT, weight, n * r->k);
    dsb_routing_by_expert(r->idx, r->weight, n, r->k, r->n_expert, start, host_rows, host_weight);
    be->upload(rows, w->fused ? r->idx : host_rows, (size_t)(n * r->k) * sizeof *rows);
    be->upload(weight, w->fused ? r->weight : host_weight, (size_t)(n * r->k) * sizeof *weight);
    for (int64_t e = 0; e < r->n_expert; e++) s->done.bytes += start[e + 1] > start[e] ? (double)ffn_bytes(&w->experts[e]) : 0;
    if (w->fused) be->experts_forward(w->fused, x, n, rows, weight, y);
    else be->zero(y, (size_t)(n * d) * sizeof *y);
    dsb_ffn_unit units[DSB_FFN_UNITS];
    for (int64_t e = 0, at = 0, n_unit; !w->fused && (n_unit = next_units(w, start, r->n_expert, &e, units)) > 0;) {
        be->gather(x, rows + at, start[e] - at, d, gathered);
        if (n_unit == 1) DSB_TRY(dsb_ffn_forward(m, units[0].w, DSB_ROLE_EXPERT_GATE, bf16, gathered, units[0].n, NULL, &s->ws, out, err));
        else DSB_TRY(dsb_ffn_units_forward(m, units, n_unit, DSB_ROLE_EXPERT_GATE, bf16, gathered, NULL, &s->ws, out, err));
        float *o = out;
        for (int64_t i = 0; i < n_unit; at += units[i].n, o += units[i++].n * d) be->scatter_add(y, rows + at, weight + at, o, units[i].n, d);
    }
    return add_shared(s, w, x, n, y, err);
}

static void force_routing(const dsb_forced_routing *f, int64_t layer, dsb_routing *r, int64_t first) {
    for (int64_t i = 0; i < r->n; i++) memcpy(r->idx + i * r->k, f->ids + (layer * f->n_row + (first + i) % f->n_row) * r->k, (size_t)r->k * sizeof *r->idx);
}

/* One block over n new rows of x, in place. routed: (n, k) of the device, where fused experts may leave their choice; or NULL. */
static dsb_status layer_forward(dsb_session *s, int64_t layer, float *x, int64_t n, const int32_t *pos, dsb_routing *trace, int32_t *routed, dsb_err *err) {
    const dsb_model *m = s->m;
    const dsb_backend *be = m->be;
    dsb_layer_weights *w = &s->layers[layer];
    bool bf16 = s->scheme->bf16;
    int64_t d = m->config.d_model;
    float *out, *normed;
    TAKE(MS_OUT, out, n * d);
    TAKE(MS_NORM, normed, n * d);
    int64_t each = n / s->batch, room = s->kv[layer].room, len = s->kv[layer].len;
    for (int64_t i = 0; i < s->batch; i++) s->seqs[i] = (dsb_seq){.q0 = i * each, .n_q = each, .kv0 = i * room, .n_kv = len + each};
    DSB_TRY(dsb_attention_forward(m, &w->attn, bf16, x, n, pos, s->seqs, s->batch, &s->kv[layer], NULL, &s->ws, out, err));
    be->add(x, out, n * d);
    if (bf16) be->round_bf16(x, n * d);
    dsb_ffn_norm(m, &w->router, bf16, x, n, normed);
    if (!dsb_layer_is_moe(&m->config, layer)) {
        DSB_TRY(dsb_ffn_forward(m, &w->dense, DSB_ROLE_DENSE_GATE, bf16, normed, n, NULL, &s->ws, out, err));
    } else if (routed) {
        DSB_TRY(fused_forward(s, layer, normed, n, routed, out, err));
    } else {
        dsb_routing own = {.n = n, .k = m->config.router.k, .n_expert = m->config.n_expert}, *r = trace ? trace : &own;
        if (!trace) { /* from the workspace: the decode loop doesn't allocate */
            TAKE_HOST(HS_IDX, own.idx, n * own.k);
            TAKE_HOST(HS_WEIGHT, own.weight, n * own.k);
            TAKE_HOST(HS_MARGIN, own.margin, n);
        }
        DSB_TRY(dsb_router_forward(m, &w->router, normed, 0, n, &s->ws, r, err));
        if (s->forced) force_routing(s->forced, layer, r, s->depth * s->batch);
        DSB_TRY(dsb_moe_forward(s, layer, normed, n, r, out, err));
    }
    be->add(x, out, n * d);
    if (bf16) be->round_bf16(x, n * d);
    return DSB_OK;
}

static void work_add(dsb_work *to, const dsb_work *w, int64_t tokens) {
    for (int a = 0; a < DSB_ARITH_COUNT; a++) to->ops[a] += (double)tokens * w->ops[a];
    to->bytes += w->bytes;
}

static dsb_status head_forward(dsb_session *s, const float *x, int64_t n, float *logits, dsb_err *err) {
    enum { ROWS = 128 };
    const dsb_model *m = s->m;
    int64_t d = m->config.d_model, v = m->config.vocab;
    float *normed, *out;
    TAKE(MS_NORM, normed, (n < ROWS ? n : ROWS) * d);
    TAKE(MS_LOGITS, out, (n < ROWS ? n : ROWS) * v);
    for (int64_t at = 0; at < n; at += ROWS) {
        int64_t rows = n - at < ROWS ? n - at : ROWS;
        m->be->rms_norm(x + at * d, d, s->final_norm, m->config.rms_eps, rows, d, normed, d);
        if (s->scheme->bf16) m->be->round_bf16(normed, rows * d);
        DSB_TRY(dsb_linear_apply(m, &s->lm_head, false, normed, rows, &s->ws, out, err));
        work_add(&s->done, &s->head, rows);
        m->be->sync();
        m->be->download(logits + at * v, out, (size_t)(rows * v) * sizeof *out);
    }
    return DSB_OK;
}

/* The last n_logits of each sequence's n rows of x, one behind the other. */
static dsb_status last_rows(dsb_session *s, const float **x, int64_t n, int64_t n_logits, dsb_err *err) {
    int64_t d = s->m->config.d_model;
    float *rows;
    if (s->batch == 1) *x += (n - n_logits) * d;
    if (s->batch == 1 || n_logits == n) return DSB_OK;
    TAKE(MS_OUT, rows, s->batch * n_logits * d);
    for (int64_t i = 0; i < s->batch; i++) s->m->be->copy(rows + i * n_logits * d, *x + ((i + 1) * n - n_logits) * d, (size_t)(n_logits * d) * sizeof *rows);
    *x = rows;
    return DSB_OK;
}

dsb_status dsb_session_forward(dsb_session *s, const int32_t *tokens, int64_t n, int64_t n_logits, float *logits, dsb_trace_sink *sink, dsb_err *err) {
    const dsb_model *m = s->m;
    int64_t d = m->config.d_model, rows = s->batch * n, rotation = dsb_scheme_rotation(s->scheme, &m->config);
    float *x, *host, *back;
    int32_t *pos, *host_pos, *routed;
    bool fused = false;
    if (n < 1 || s->depth + n > m->n_pos) return dsb_fail(err, DSB_EUSAGE, "%lld tokens after %lld don't fit the %lld positions", (long long)n, (long long)s->depth, (long long)m->n_pos);
    TAKE(MS_X, x, rows * d);
    TAKE(MS_POS, pos, rows);
    TAKE(MS_ROUTED, routed, m->config.n_layer * rows * m->config.router.k + 1);
    TAKE_HOST(HS_EMBED, host, rows * d);
    TAKE_HOST(HS_POS, host_pos, rows);
    DSB_TRY(dsb_embed(m, s->scheme, tokens, rows, host, err));
    m->be->upload(x, host, (size_t)(rows * d) * sizeof *x);
    for (int64_t i = 0; i < rows; i++) host_pos[i] = (int32_t)(s->depth + i % n);
    m->be->upload(pos, host_pos, (size_t)rows * sizeof *pos);
    for (int64_t l = 0; l < m->config.n_layer; l++) {
        dsb_routing *trace = sink && sink->routing && dsb_layer_is_moe(&m->config, l) ? &sink->routing[l] : NULL;
        bool on_device = s->layers[l].fused && !trace && !s->forced;
        fused |= on_device;
        DSB_TRY(layer_forward(s, l, x, rows, pos, trace, on_device ? routed + l * rows * m->config.router.k : NULL, err));
        if (!sink || !sink->hidden) continue;
        TAKE(MS_OUT, back, rows * d);
        m->be->copy(back, x, (size_t)(rows * d) * sizeof *x);
        dsb_rotate_rows(m->be, rotation, back, rows, d);
        m->be->download(sink->hidden + l * rows * d, back, (size_t)(rows * d) * sizeof *x);
    }
    work_add(&s->done, &s->token, rows);
    work_add(&s->done, s->depth == 0 ? &s->expanded : &s->absorbed, rows);
    s->depth += n;
    const float *last = x;
    if (n_logits > 0) {
        DSB_TRY(last_rows(s, &last, n, n_logits, err));
        DSB_TRY(head_forward(s, last, s->batch * n_logits, logits, err));
    }
    if (fused) DSB_TRY(count_fused(s, routed, rows, err));
    return m->be->check(err);
}
