#include "engine/block.h"

#include <stdlib.h>
#include <string.h>

/* Slots of the workspace; attention and feed-forward never hold theirs at the same time. */
enum { WS_H, WS_QA, WS_Q, WS_CKV, WS_C, WS_KV, WS_K, WS_V, WS_ATT, WS_CODES, WS_SCALES, WS_LOGITS, WS_SCORES, WS_IDX, WS_WEIGHT, WS_MARGIN, WS_RANK, WS_LOW, WS_TURNED, WS_READ, WS_LATENT, WS_TILE };

void dsb_workspace_init(dsb_workspace *ws, const dsb_backend *be) { *ws = (dsb_workspace){.be = be}; }

static void slot_release(dsb_workspace *ws, int slot) {
    if (!ws->slot[slot]) return;
    if (ws->be) ws->be->release(ws->slot[slot]);
    else free(ws->slot[slot]);
    ws->slot[slot] = NULL;
    ws->bytes[slot] = 0;
}

void dsb_workspace_release(dsb_workspace *ws) {
    for (int i = 0; i < DSB_WS_SLOTS; i++) slot_release(ws, i);
    *ws = (dsb_workspace){0};
}

dsb_status dsb_workspace_take(dsb_workspace *ws, int slot, size_t bytes, void **out, dsb_err *err) {
    if (bytes > ws->bytes[slot]) {
        slot_release(ws, slot);
        DSB_TRY(ws->be ? ws->be->alloc(&ws->slot[slot], bytes, "activations", err) : dsb_calloc(&ws->slot[slot], bytes, 1, "activations", err));
        ws->bytes[slot] = bytes;
    }
    *out = ws->slot[slot];
    return DSB_OK;
}

#define TAKE(slot, ptr, count) DSB_TRY(dsb_workspace_take(ws, slot, (size_t)(count) * sizeof *(ptr), (void **)&(ptr), err))

/* *x as l's weight is made for it: scaled and rotated, in the carrier's precision. */
static dsb_status transform_input(const dsb_model *m, const dsb_linear *l, bool bf16, const float **x, int64_t n, dsb_workspace *ws, dsb_err *err) {
    float *t;
    if (!l->in_scale && !l->rotation) return DSB_OK;
    TAKE(WS_TURNED, t, n * l->w.cols);
    if (l->in_scale) m->be->scale_columns(*x, n, l->w.cols, l->in_scale, t);
    if (l->rotation) m->be->hadamard(l->in_scale ? t : *x, n, l->w.cols, l->rotation, t);
    if (bf16) m->be->round_bf16(t, n * l->w.cols);
    *x = t;
    return DSB_OK;
}

/* x as `l` reads it: f32, rounded to BF16 or FP8, or quantized to integers. */
static dsb_status prepare_act(const dsb_linear *l, const float *x, int64_t n, dsb_workspace *ws, dsb_act *act, dsb_err *err) {
    int64_t cols = l->w.cols;
    *act = (dsb_act){.n = n, .cols = cols, .f32 = x};
    if (l->activation == DSB_ACT_NONE && !l->bf16_input) return DSB_OK;
    int8_t *q;
    float *scale;
    if (l->activation == DSB_ACT_NONE) {
        float *rounded;
        TAKE(WS_CODES, rounded, n * cols);
        ws->be->copy(rounded, x, (size_t)(n * cols) * sizeof *x);
        ws->be->round_bf16(rounded, n * cols);
        act->f32 = rounded;
        return DSB_OK;
    }
    if (l->activation == DSB_ACT_FP8_DYNAMIC || l->activation == DSB_ACT_FP8_STATIC) {
        float *rounded;
        bool fixed = l->activation == DSB_ACT_FP8_STATIC;
        TAKE(WS_CODES, rounded, n * cols);
        ws->clipped += ws->be->round_e4m3(x, n, cols, fixed ? l->static_scale : 0, rounded);
        ws->static_values += fixed ? n * cols : 0;
        act->f32 = rounded;
        return DSB_OK;
    }
    TAKE(WS_CODES, q, n * cols);
    TAKE(WS_SCALES, scale, n);
    if (l->activation == DSB_ACT_INT8_STATIC) {
        ws->clipped += ws->be->quantize_static(x, n, cols, l->static_scale, q, scale);
        ws->static_values += n * cols;
    } else if (l->activation == DSB_ACT_INT4_DYNAMIC) {
        ws->be->quantize_int4(x, n, cols, q, scale);
    } else {
        ws->be->quantize_dynamic(x, n, cols, q, scale);
    }
    *act = (dsb_act){.n = n, .cols = cols, .q = q, .scale = scale};
    return DSB_OK;
}

static bool same_act(const dsb_linear *a, const dsb_linear *b) { return a->in_scale == b->in_scale && a->rotation == b->rotation && a->activation == b->activation && a->bf16_input == b->bf16_input && (!dsb_activation_is_static(a->activation) || a->static_scale == b->static_scale); }

/* y += a·(b·x), b·x rounded as every product's output is. */
static dsb_status add_low_rank(const dsb_model *m, const dsb_linear *l, bool bf16, const float *x, int64_t n, dsb_workspace *ws, float *y, dsb_err *err) {
    dsb_act act = {.n = n, .cols = l->w.cols, .f32 = x};
    int64_t rank = l->b.rows;
    float *t, *more;
    TAKE(WS_RANK, t, n * rank);
    TAKE(WS_LOW, more, n * l->w.rows);
    m->be->gemm(&l->b, &act, t);
    if (bf16) m->be->round_bf16(t, n * rank);
    act = (dsb_act){.n = n, .cols = rank, .f32 = t};
    m->be->gemm(&l->a, &act, more);
    m->be->add(y, more, n * l->w.rows);
    return DSB_OK;
}

/* y = act · Wᵀ of a weight that is not held: outputs of one tile after the other; each depends on its own row of W alone. */
static dsb_status multiply_tiles(const dsb_model *m, const dsb_linear *l, const dsb_act *act, dsb_workspace *ws, float *y, dsb_err *err) {
    int64_t rows = l->w.rows;
    float *part;
    TAKE(WS_TILE, part, act->n * l->tiles->rows);
    for (int64_t first = 0; first < rows; first += l->tiles->rows) {
        dsb_linear tile = {0};
        dsb_status s = l->tiles->load(l->tiles, first, &tile, err);
        if (!s) m->be->gemm(&tile.w, act, part);
        for (int64_t i = 0; i < act->n && !s; i++) m->be->copy(y + i * rows + first, part + i * tile.w.rows, (size_t)tile.w.rows * sizeof *y);
        dsb_linear_release(m->be, &tile);
        if (s) return s;
    }
    return DSB_OK;
}

/* What follows a product of n rows: x is its input as the carrier holds it. */
static dsb_status finish(const dsb_model *m, const dsb_linear *l, const float *x, int64_t n, bool bf16, dsb_workspace *ws, float *y, dsb_err *err) {
    if (l->a.data) DSB_TRY(add_low_rank(m, l, bf16, x, n, ws, y, err));
    if (l->bias) m->be->add_bias(y, l->bias, n, l->w.rows);
    return DSB_OK;
}

dsb_status dsb_linear_apply(const dsb_model *m, const dsb_linear *l, bool bf16, const float *x, int64_t n, dsb_workspace *ws, float *y, dsb_err *err) {
    dsb_act act;
    DSB_TRY(transform_input(m, l, bf16, &x, n, ws, err));
    DSB_TRY(prepare_act(l, x, n, ws, &act, err));
    if (l->tiles) DSB_TRY(multiply_tiles(m, l, &act, ws, y, err));
    else m->be->gemm(&l->w, &act, y);
    DSB_TRY(finish(m, l, x, n, bf16, ws, y, err));
    if (bf16) m->be->round_bf16(y, n * l->w.rows);
    return DSB_OK;
}

static void observe(const dsb_input_observer *obs, dsb_role role, const float *x, int64_t n, int64_t cols) {
    if (obs) obs->input(obs->ctx, role, x, n, cols);
}

static void norm(const dsb_model *m, const float *x, int64_t stride, const float *w, double eps, int64_t n, int64_t d, bool bf16, float *y) {
    m->be->rms_norm(x, stride, w, eps, n, d, y, d);
    if (bf16) m->be->round_bf16(y, n * d);
}

/* The norms inside MLA use this eps whatever config.json says, as the original code does. */
static const double k_lora_eps = 1e-6;

/* q (n, heads, nope+rope), not yet rotated. */
static dsb_status project_q(const dsb_model *m, const dsb_attn_weights *w, bool bf16, const float *h, int64_t n, const dsb_input_observer *obs, dsb_workspace *ws, float **q, dsb_err *err) {
    const dsb_config *c = &m->config;
    TAKE(WS_Q, *q, n * c->heads * (c->nope + c->rope_dim));
    if (c->q_lora == 0) {
        observe(obs, DSB_ROLE_ATTN_Q, h, n, c->d_model);
        return dsb_linear_apply(m, &w->q, bf16, h, n, ws, *q, err);
    }
    float *qa;
    TAKE(WS_QA, qa, n * c->q_lora);
    observe(obs, DSB_ROLE_ATTN_Q_A, h, n, c->d_model);
    DSB_TRY(dsb_linear_apply(m, &w->q_a, bf16, h, n, ws, qa, err));
    norm(m, qa, c->q_lora, w->q_a_norm, k_lora_eps, n, c->q_lora, bf16, qa);
    observe(obs, DSB_ROLE_ATTN_Q_B, qa, n, c->q_lora);
    return dsb_linear_apply(m, &w->q_b, bf16, qa, n, ws, *q, err);
}

/* Of n rows: the normed latent (n, kv_lora), and the rotated shared part of keys, a row each `kv_lora + rope_dim` values. */
static dsb_status project_latent(const dsb_model *m, const dsb_attn_weights *w, bool bf16, const float *h, int64_t n, const int32_t *pos, const dsb_input_observer *obs, dsb_workspace *ws, float **latent, float **k_pe, dsb_err *err) {
    const dsb_config *c = &m->config;
    int64_t width = c->kv_lora + c->rope_dim;
    float *ckv;
    TAKE(WS_CKV, ckv, n * width);
    TAKE(WS_C, *latent, n * c->kv_lora);
    observe(obs, DSB_ROLE_ATTN_KV_A, h, n, c->d_model);
    DSB_TRY(dsb_linear_apply(m, &w->kv_a, bf16, h, n, ws, ckv, err));
    norm(m, ckv, width, w->kv_a_norm, k_lora_eps, n, c->kv_lora, bf16, *latent);
    observe(obs, DSB_ROLE_ATTN_KV_B, *latent, n, c->kv_lora);
    m->be->rope(ckv + c->kv_lora, n, 1, width, width, c->rope_dim, c->rope.half, pos, m->cos_table, m->sin_table);
    if (bf16) m->be->round_bf16(ckv, n * width);
    *k_pe = ckv + c->kv_lora;
    return DSB_OK;
}

/* k and v of n rows, expanded to all heads by kv_b. */
static dsb_status expand_latent(const dsb_model *m, const dsb_attn_weights *w, bool bf16, const float *latent, const float *k_pe, int64_t n, dsb_workspace *ws, float *k, float *v, dsb_err *err) {
    const dsb_config *c = &m->config;
    float *kv;
    TAKE(WS_KV, kv, n * c->heads * (c->nope + c->v_dim));
    DSB_TRY(dsb_linear_apply(m, &w->kv_b, bf16, latent, n, ws, kv, err));
    m->be->mla_assemble(kv, k_pe, c->kv_lora + c->rope_dim, n, c->heads, c->nope, c->v_dim, c->rope_dim, k, v);
    return DSB_OK;
}

/* *x (n, cols) as the product of l reads it, in f32: transformed, and codes times their scale. */
static dsb_status read_input(const dsb_model *m, const dsb_linear *l, bool bf16, const float **x, int64_t n, dsb_workspace *ws, dsb_err *err) {
    dsb_act act;
    float *y;
    DSB_TRY(transform_input(m, l, bf16, x, n, ws, err));
    DSB_TRY(prepare_act(l, *x, n, ws, &act, err));
    if (act.f32) {
        *x = act.f32;
        return DSB_OK;
    }
    TAKE(WS_READ, y, n * act.cols);
    m->be->dequantize(act.q, act.scale, n, act.cols, y);
    *x = y;
    return DSB_OK;
}

static dsb_attention_shape shape_of(const dsb_config *c, const dsb_attn_weights *w) {
    return (dsb_attention_shape){.heads = c->heads, .kv_heads = c->kv_heads, .qk_dim = c->nope + c->rope_dim, .v_dim = c->v_dim, .window = w->window, .scale = c->attention_scale, .sinks = w->sinks};
}

/* n new rows of one part behind those that each sequence of the cache has. */
static void append(const dsb_model *m, const float *rows, int64_t width, int64_t n, int64_t n_seq, const dsb_kv_cache *kv, float *part) {
    int64_t each = n / n_seq;
    for (int64_t i = 0; i < n_seq; i++) m->be->copy(part + (i * kv->room + kv->len) * width, rows + i * each * width, (size_t)(each * width) * sizeof *rows);
}

/* The cache's next rows, n / n_seq of each sequence. */
static dsb_status append_latent(const dsb_model *m, const dsb_attn_weights *w, bool bf16, const float *latent, const float *k_pe, int64_t n, int64_t n_seq, dsb_workspace *ws, dsb_kv_cache *kv, dsb_err *err) {
    const dsb_config *c = &m->config;
    int64_t width = c->kv_lora + c->rope_dim, each = n / n_seq;
    DSB_TRY(read_input(m, &w->kv_b, bf16, &latent, n, ws, err));
    for (int64_t i = 0; i < n_seq; i++)
        m->be->mla_assemble(latent + i * each * c->kv_lora, k_pe + i * each * width, width, each, 1, c->kv_lora, 0, c->rope_dim, kv->k + (i * kv->room + kv->len) * width, NULL);
    kv->len += each;
    return DSB_OK;
}

/* att (n, heads, v_dim) of queries (n, heads, nope+rope) over a cache of latents. Both halves of kv_b are one product each: what lies between
 * stays f32. A bias of its key part adds the same to all scores of a query: none. */
static dsb_status attend_latent(const dsb_model *m, const dsb_attn_weights *w, const dsb_seq *seqs, int64_t n_seq, const dsb_kv_cache *kv, const float *q, int64_t n, dsb_workspace *ws, float *att, dsb_err *err) {
    const dsb_config *c = &m->config;
    int64_t width = c->kv_lora + c->rope_dim;
    float *qa, *mean;
    TAKE(WS_KV, qa, n * c->heads * width);
    TAKE(WS_LATENT, mean, n * c->heads * c->kv_lora);
    m->be->gemm_heads(w->absorbed_k, c->heads, q, n, c->rope_dim, qa);
    dsb_attention_shape shape = shape_of(c, w);
    shape.kv_heads = 1;
    shape.qk_dim = shape.k_stride = shape.v_stride = width;
    shape.v_dim = c->kv_lora;
    m->be->attention(&shape, seqs, n_seq, qa, kv->k, kv->k, mean);
    m->be->gemm_heads(w->absorbed_v, c->heads, mean, n, 0, att);
    if (w->absorbed_bias) m->be->add_bias(att, w->absorbed_bias, n, c->heads * c->v_dim);
    return DSB_OK;
}

/* q, k or v of n rows before rotation: product, norm (weight NULL: none) and clamp. */
static dsb_status project(const dsb_model *m, const dsb_linear *l, const float *weight, dsb_role role, bool bf16, const float *h, int64_t n, const dsb_input_observer *obs, dsb_workspace *ws, float *y, dsb_err *err) {
    const dsb_config *c = &m->config;
    int64_t width = l->w.rows, d = c->whole_norm ? width : c->nope + c->rope_dim;
    observe(obs, role, h, n, c->d_model);
    DSB_TRY(dsb_linear_apply(m, l, bf16, h, n, ws, y, err));
    if (weight) norm(m, y, d, weight, c->rms_eps, n * width / d, d, bf16, y);
    if (c->clip_qkv > 0) m->be->clamp(y, n * width, (float)c->clip_qkv);
    return DSB_OK;
}

/* k and v of n rows with grouped keys: the first values of a head are rotated. */
static dsb_status project_grouped(const dsb_model *m, const dsb_attn_weights *w, bool bf16, const float *h, int64_t n, const int32_t *pos, const dsb_input_observer *obs, dsb_workspace *ws, float *k, float *v, dsb_err *err) {
    const dsb_config *c = &m->config;
    DSB_TRY(project(m, &w->k, w->k_norm, DSB_ROLE_ATTN_K, bf16, h, n, obs, ws, k, err));
    m->be->rope(k, n, c->kv_heads, dsb_key_width(c), c->nope + c->rope_dim, c->rope_dim, c->rope.half, pos, m->cos_table, m->sin_table);
    if (bf16) m->be->round_bf16(k, n * dsb_key_width(c));
    return project(m, &w->v, NULL, DSB_ROLE_ATTN_V, bf16, h, n, obs, ws, v, err);
}

/* q (n, heads, nope+rope), rotated: the last values in MLA, else the first. */
static dsb_status rotated_q(const dsb_model *m, const dsb_attn_weights *w, bool bf16, const float *h, int64_t n, const int32_t *pos, const dsb_input_observer *obs, dsb_workspace *ws, float **out, dsb_err *err) {
    const dsb_config *c = &m->config;
    int64_t qk = c->nope + c->rope_dim;
    float *q;
    if (c->kv_lora) {
        DSB_TRY(project_q(m, w, bf16, h, n, obs, ws, &q, err));
    } else {
        TAKE(WS_Q, q, n * c->heads * qk);
        DSB_TRY(project(m, &w->q, w->q_norm, DSB_ROLE_ATTN_Q, bf16, h, n, obs, ws, q, err));
    }
    m->be->rope(c->kv_lora ? q + c->nope : q, n, c->heads, c->heads * qk, qk, c->rope_dim, c->rope.half, pos, m->cos_table, m->sin_table);
    if (bf16) m->be->round_bf16(q, n * c->heads * qk);
    *out = q;
    return DSB_OK;
}

/* att (n, heads, v_dim) of MLA. */
static dsb_status attend_mla(const dsb_model *m, const dsb_attn_weights *w, bool bf16, const float *h, const float *q, int64_t n, const int32_t *pos, const dsb_seq *seqs, int64_t n_seq, dsb_kv_cache *kv, const dsb_input_observer *obs, dsb_workspace *ws, float *att, dsb_err *err) {
    const dsb_config *c = &m->config;
    float *latent, *k_pe, *k, *v;
    bool absorbed = kv && kv->len > 0;
    DSB_TRY(project_latent(m, w, bf16, h, n, pos, obs, ws, &latent, &k_pe, err));
    int64_t clipped = ws->clipped, values = ws->static_values;
    if (kv) DSB_TRY(append_latent(m, w, bf16, latent, k_pe, n, n_seq, ws, kv, err));
    if (absorbed) return attend_latent(m, w, seqs, n_seq, kv, q, n, ws, att, err);
    ws->clipped = clipped; /* the product below counts the same values */
    ws->static_values = values;
    TAKE(WS_K, k, n * dsb_key_width(c));
    TAKE(WS_V, v, n * dsb_value_width(c));
    DSB_TRY(expand_latent(m, w, bf16, latent, k_pe, n, ws, k, v, err));
    dsb_attention_shape shape = shape_of(c, w);
    if (!kv) m->be->attention(&shape, seqs, n_seq, q, k, v, att);
    for (int64_t i = 0; kv && i < n_seq; i++) { /* the cache was empty: each sequence's keys are its own rows here */
        dsb_seq own = {.q0 = seqs[i].q0, .n_q = seqs[i].n_q, .kv0 = seqs[i].q0, .n_kv = seqs[i].n_q};
        m->be->attention(&shape, &own, 1, q, k, v, att);
    }
    return DSB_OK;
}

/* The same with grouped keys. */
static dsb_status attend_grouped(const dsb_model *m, const dsb_attn_weights *w, bool bf16, const float *h, const float *q, int64_t n, const int32_t *pos, const dsb_seq *seqs, int64_t n_seq, dsb_kv_cache *kv, const dsb_input_observer *obs, dsb_workspace *ws, float *att, dsb_err *err) {
    const dsb_config *c = &m->config;
    float *k, *v, *k_new, *v_new;
    if (kv && n_seq == 1) {
        k_new = kv->k + kv->len * dsb_key_width(c);
        v_new = kv->v + kv->len * dsb_value_width(c);
    } else {
        TAKE(WS_K, k_new, n * dsb_key_width(c));
        TAKE(WS_V, v_new, n * dsb_value_width(c));
    }
    k = kv ? kv->k : k_new;
    v = kv ? kv->v : v_new;
    DSB_TRY(project_grouped(m, w, bf16, h, n, pos, obs, ws, k_new, v_new, err));
    if (kv && n_seq > 1) {
        append(m, k_new, dsb_key_width(c), n, n_seq, kv, kv->k);
        append(m, v_new, dsb_value_width(c), n, n_seq, kv, kv->v);
    }
    if (kv) kv->len += n / n_seq;
    dsb_attention_shape shape = shape_of(c, w);
    m->be->attention(&shape, seqs, n_seq, q, k, v, att);
    return DSB_OK;
}

dsb_status dsb_attention_forward(const dsb_model *m, const dsb_attn_weights *w, bool bf16, const float *x, int64_t n, const int32_t *pos, const dsb_seq *seqs, int64_t n_seq, dsb_kv_cache *kv, const dsb_input_observer *obs, dsb_workspace *ws, float *out, dsb_err *err) {
    const dsb_config *c = &m->config;
    float *h, *q, *att;
    if (kv && kv->len + n / n_seq > kv->room) return dsb_fail(err, DSB_EINTERNAL, "the cache holds %lld tokens, %lld more don't fit", (long long)kv->room, (long long)(n / n_seq));
    TAKE(WS_H, h, n * c->d_model);
    norm(m, x, c->d_model, w->input_norm, c->rms_eps, n, c->d_model, bf16, h);
    DSB_TRY(rotated_q(m, w, bf16, h, n, pos, obs, ws, &q, err));
    TAKE(WS_ATT, att, n * c->heads * c->v_dim);
    DSB_TRY((c->kv_lora ? attend_mla : attend_grouped)(m, w, bf16, h, q, n, pos, seqs, n_seq, kv, obs, ws, att, err));
    if (bf16) m->be->round_bf16(att, n * c->heads * c->v_dim);
    observe(obs, DSB_ROLE_ATTN_O, att, n, c->heads * c->v_dim);
    return dsb_linear_apply(m, &w->o, bf16, att, n, ws, out, err);
}

bool dsb_ffn_alike(const dsb_ffn_weights *a, const dsb_ffn_weights *b) { return same_act(&a->gate, &b->gate) && same_act(&a->up, &b->up) && same_act(&a->down, &b->down); }

/* Products of one matrix of each unit: rows of x (as the carrier holds them), their codes, outputs. */
typedef struct unit_products {
    const dsb_ffn_unit *units;
    int64_t n_unit, n; /* n: rows of all */
    dsb_act act[DSB_FFN_UNITS];
} unit_products;

static const dsb_linear *linear_of(const dsb_ffn_weights *w, int part) { return part == 0 ? &w->gate : part == 1 ? &w->up : &w->down; }

/* *x as all units' matrices read it. */
static dsb_status units_read(const dsb_model *m, unit_products *p, int part, bool bf16, const float **x, dsb_workspace *ws, dsb_err *err) {
    const dsb_linear *l = linear_of(p->units[0].w, part);
    int64_t cols = l->w.cols, at = 0;
    dsb_act all;
    DSB_TRY(transform_input(m, l, bf16, x, p->n, ws, err));
    DSB_TRY(prepare_act(l, *x, p->n, ws, &all, err));
    for (int64_t i = 0; i < p->n_unit; at += p->units[i++].n)
        p->act[i] = (dsb_act){.n = p->units[i].n, .cols = cols, .f32 = all.f32 ? all.f32 + at * cols : NULL, .q = all.q ? all.q + at * cols : NULL, .scale = all.scale ? all.scale + at : NULL};
    return DSB_OK;
}

/* Their products go to the list; those of matrices that are not held are made at once. */
static dsb_status units_list(const dsb_model *m, const unit_products *p, int part, dsb_workspace *ws, float *y, dsb_product *list, int64_t *n_list, dsb_err *err) {
    for (int64_t i = 0; i < p->n_unit; i++) {
        const dsb_linear *l = linear_of(p->units[i].w, part);
        if (l->tiles) DSB_TRY(multiply_tiles(m, l, &p->act[i], ws, y, err));
        else list[(*n_list)++] = (dsb_product){&l->w, &p->act[i], y};
        y += p->units[i].n * l->w.rows;
    }
    return DSB_OK;
}

static dsb_status units_finish(const dsb_model *m, const unit_products *p, int part, bool bf16, const float *x, dsb_workspace *ws, float *y, dsb_err *err) {
    int64_t at = 0, rows = 0;
    for (int64_t i = 0; i < p->n_unit; at += p->units[i++].n) {
        const dsb_linear *l = linear_of(p->units[i].w, part);
        rows = l->w.rows;
        DSB_TRY(finish(m, l, x + at * l->w.cols, p->units[i].n, bf16, ws, y + at * rows, err));
    }
    if (bf16) m->be->round_bf16(y, p->n * rows);
    return DSB_OK;
}

dsb_status dsb_ffn_units_forward(const dsb_model *m, const dsb_ffn_unit *units, int64_t n_unit, dsb_role gate_role, bool bf16, const float *x, const dsb_input_observer *obs, dsb_workspace *ws, float *out, dsb_err *err) {
    const dsb_ffn_weights *w = units[0].w;
    int64_t d = m->config.d_model, ff = w->gate.w.rows, n_list = 0;
    unit_products p = {.units = units, .n_unit = n_unit};
    dsb_product list[2 * DSB_FFN_UNITS];
    const float *in = x;
    float *g, *u;
    for (int64_t i = 0; i < n_unit; i++) p.n += units[i].n;
    TAKE(WS_Q, g, p.n * ff);
    TAKE(WS_KV, u, p.n * ff);
    observe(obs, gate_role, x, p.n, d);
    observe(obs, gate_role + 1, x, p.n, d);
    DSB_TRY(units_read(m, &p, 0, bf16, &in, ws, err));
    DSB_TRY(units_list(m, &p, 0, ws, g, list, &n_list, err));
    if (!same_act(&w->gate, &w->up)) {
        dsb_products(m->be, list, n_list);
        DSB_TRY(units_finish(m, &p, 0, bf16, in, ws, g, err));
        n_list = 0;
        in = x;
        DSB_TRY(units_read(m, &p, 1, bf16, &in, ws, err));
    }
    DSB_TRY(units_list(m, &p, 1, ws, u, list, &n_list, err));
    dsb_products(m->be, list, n_list);
    if (same_act(&w->gate, &w->up)) DSB_TRY(units_finish(m, &p, 0, bf16, in, ws, g, err));
    DSB_TRY(units_finish(m, &p, 1, bf16, in, ws, u, err));
    if (m->config.swiglu_limit > 0) m->be->swiglu_clamped(g, u, p.n * ff, m->config.swiglu_alpha, m->config.swiglu_limit, bf16, g);
    else m->be->silu_mul(g, u, p.n * ff, bf16, g);
    observe(obs, gate_role + 2, g, p.n, ff);
    in = g;
    n_list = 0;
    DSB_TRY(units_read(m, &p, 2, bf16, &in, ws, err));
    DSB_TRY(units_list(m, &p, 2, ws, out, list, &n_list, err));
    dsb_products(m->be, list, n_list);
    return units_finish(m, &p, 2, bf16, in, ws, out, err);
}

dsb_status dsb_ffn_forward(const dsb_model *m, const dsb_ffn_weights *w, dsb_role gate_role, bool bf16, const float *x, int64_t n, const dsb_input_observer *obs, dsb_workspace *ws, float *out, dsb_err *err) {
    enum { ROWS = 2048 }; /* bounds the intermediate's memory; rows are independent */
    int64_t d = m->config.d_model;
    for (int64_t at = 0; at < n; at += ROWS) {
        dsb_ffn_unit unit = {w, n - at < ROWS ? n - at : ROWS};
        DSB_TRY(dsb_ffn_units_forward(m, &unit, 1, gate_role, bf16, x + at * d, obs, ws, out + at * d, err));
    }
    return DSB_OK;
}

dsb_status dsb_shared_forward(const dsb_model *m, const dsb_ffn_weights *w, const dsb_router_weights *router, bool bf16, const float *x, int64_t n, const dsb_input_observer *obs, dsb_workspace *ws, float *out, dsb_err *err) {
    int64_t d = m->config.d_model;
    DSB_TRY(dsb_ffn_forward(m, w, DSB_ROLE_SHARED_GATE, bf16, x, n, obs, ws, out, err));
    if (!router->shared_gate.data) return DSB_OK;
    dsb_act act = {.n = n, .cols = d, .f32 = x};
    float *logit;
    TAKE(WS_LOGITS, logit, n);
    m->be->gemm(&router->shared_gate, &act, logit);
    m->be->sigmoid_gate(out, logit, n, d);
    if (bf16) m->be->round_bf16(out, n * d);
    return DSB_OK;
}

void dsb_ffn_norm(const dsb_model *m, const dsb_router_weights *w, bool bf16, const float *x, int64_t n, float *y) {
    norm(m, x, m->config.d_model, w->norm, m->config.rms_eps, n, m->config.d_model, bf16, y);
}

dsb_status dsb_routing_alloc(dsb_routing *r, const dsb_config *c, int64_t n, bool scores, dsb_err *err) {
    *r = (dsb_routing){.n = n, .k = c->router.k, .n_expert = c->n_expert};
    DSB_TRY(DSB_NEW(r->idx, n * r->k, "routing", err));
    DSB_TRY(DSB_NEW(r->weight, n * r->k, "routing", err));
    DSB_TRY(DSB_NEW(r->margin, n, "routing", err));
    if (!scores) return DSB_OK;
    DSB_TRY(DSB_NEW(r->logits, n * r->n_expert, "routing", err));
    return DSB_NEW(r->scores, n * r->n_expert, "routing", err);
}

void dsb_routing_release(dsb_routing *r) {
    free(r->logits);
    free(r->scores);
    free(r->idx);
    free(r->weight);
    free(r->margin);
    *r = (dsb_routing){0};
}

dsb_status dsb_routing_mass(const dsb_routing *r, int64_t n_ctx, double *mass, dsb_err *err) {
    double *part;
    DSB_TRY(DSB_NEW(part, r->n_expert, "gate mass", err));
    for (int64_t at = 0; at < r->n * r->k; at += n_ctx * r->k) {
        memset(part, 0, (size_t)r->n_expert * sizeof *part);
        for (int64_t i = at; i < at + n_ctx * r->k; i++) part[r->idx[i]] += (double)r->weight[i];
        for (int64_t e = 0; e < r->n_expert; e++) mass[e] += part[e];
    }
    free(part);
    return DSB_OK;
}

dsb_status dsb_router_on_device(const dsb_model *m, const dsb_router_weights *w, const float *x, int64_t n, dsb_workspace *ws, int32_t *idx, float *weight, dsb_err *err) {
    float *logits, *margin;
    TAKE(WS_LOGITS, logits, n * m->config.n_expert);
    TAKE(WS_MARGIN, margin, n);
    DSB_TRY(dsb_linear_apply(m, &w->w, false, x, n, ws, logits, err));
    m->be->route(&m->config.router, logits, w->bias, n, NULL, idx, weight, margin);
    return DSB_OK;
}

dsb_status dsb_router_forward(const dsb_model *m, const dsb_router_weights *w, const float *x, int64_t at, int64_t n, dsb_workspace *ws, dsb_routing *r, dsb_err *err) {
    const dsb_backend *be = m->be;
    int64_t e = r->n_expert, k = r->k;
    float *logits, *scores, *weight, *margin;
    int32_t *idx;
    TAKE(WS_LOGITS, logits, n * e);
    TAKE(WS_SCORES, scores, n * e);
    TAKE(WS_IDX, idx, n * k);
    TAKE(WS_WEIGHT, weight, n * k);
    TAKE(WS_MARGIN, margin, n);
    DSB_TRY(dsb_linear_apply(m, &w->w, false, x, n, ws, logits, err));
    be->route(&m->config.router, logits, w->bias, n, scores, idx, weight, margin);
    be->sync();
    be->download(r->idx + at * k, idx, (size_t)(n * k) * sizeof *idx);
    be->download(r->weight + at * k, weight, (size_t)(n * k) * sizeof *weight);
    be->download(r->margin + at, margin, (size_t)n * sizeof *margin);
    if (r->logits) be->download(r->logits + at * e, logits, (size_t)(n * e) * sizeof *logits);
    if (r->scores) be->download(r->scores + at * e, scores, (size_t)(n * e) * sizeof *scores);
    return DSB_OK;
}
