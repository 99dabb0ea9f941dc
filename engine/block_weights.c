/* Where each weight of a block lies in a checkpoint, and loading of its vectors. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/block.h"
#include "engine/rotate.h"

#define LAYER "model.layers.%lld."

static int grouped_specs(const dsb_config *c, int64_t layer, dsb_linear_spec specs[5]) {
    static const char k_name[] = "qkvo";
    static const dsb_role k_role[] = {DSB_ROLE_ATTN_Q, DSB_ROLE_ATTN_K, DSB_ROLE_ATTN_V, DSB_ROLE_ATTN_O};
    int64_t inside = c->heads * c->v_dim, rows[] = {c->heads * (c->nope + c->rope_dim), dsb_key_width(c), dsb_value_width(c), c->d_model};
    for (int i = 0; i < 4; i++) {
        dsb_linear_spec_make(&specs[i], k_role[i], layer, -1, rows[i], i == 3 ? inside : c->d_model, LAYER "self_attn.%c_proj", (long long)layer, k_name[i]);
        specs[i].bias = i == 3 ? c->o_bias : c->qkv_bias;
    }
    return 4;
}

int dsb_attn_specs(const dsb_config *c, int64_t layer, dsb_linear_spec specs[5]) {
    int64_t qk = c->heads * (c->nope + c->rope_dim);
    long long l = (long long)layer;
    int n = 0;
    if (c->kv_lora == 0) return grouped_specs(c, layer, specs);
    if (c->q_lora) {
        dsb_linear_spec_make(&specs[n++], DSB_ROLE_ATTN_Q_A, layer, -1, c->q_lora, c->d_model, LAYER "self_attn.q_a_proj", l);
        specs[0].bias = c->qkv_bias;
        dsb_linear_spec_make(&specs[n++], DSB_ROLE_ATTN_Q_B, layer, -1, qk, c->q_lora, LAYER "self_attn.q_b_proj", l);
    } else {
        dsb_linear_spec_make(&specs[n++], DSB_ROLE_ATTN_Q, layer, -1, qk, c->d_model, LAYER "self_attn.q_proj", l);
    }
    dsb_linear_spec_make(&specs[n], DSB_ROLE_ATTN_KV_A, layer, -1, c->kv_lora + c->rope_dim, c->d_model, LAYER "self_attn.kv_a_proj_with_mqa", l);
    specs[n++].bias = c->qkv_bias;
    dsb_linear_spec_make(&specs[n++], DSB_ROLE_ATTN_KV_B, layer, -1, c->heads * (c->nope + c->v_dim), c->kv_lora, LAYER "self_attn.kv_b_proj", l);
    dsb_linear_spec_make(&specs[n], DSB_ROLE_ATTN_O, layer, -1, c->d_model, c->heads * c->v_dim, LAYER "self_attn.o_proj", l);
    specs[n++].bias = c->o_bias;
    return n;
}

dsb_linear *dsb_attn_linear(dsb_attn_weights *w, dsb_role role) {
    switch (role) {
    case DSB_ROLE_ATTN_Q: return &w->q;
    case DSB_ROLE_ATTN_Q_A: return &w->q_a;
    case DSB_ROLE_ATTN_Q_B: return &w->q_b;
    case DSB_ROLE_ATTN_KV_A: return &w->kv_a;
    case DSB_ROLE_ATTN_KV_B: return &w->kv_b;
    case DSB_ROLE_ATTN_K: return &w->k;
    case DSB_ROLE_ATTN_V: return &w->v;
    default: return &w->o;
    }
}

void dsb_ffn_specs(const dsb_config *c, int64_t layer, dsb_role gate_role, int64_t expert, dsb_linear_spec specs[3]) {
    static const char *const k_name[3] = {"gate_proj", "up_proj", "down_proj"};
    long long l = (long long)layer, e = (long long)expert;
    int64_t ff = gate_role == DSB_ROLE_DENSE_GATE ? c->d_ff : gate_role == DSB_ROLE_SHARED_GATE ? c->d_ff_shared : c->d_ff_expert;
    for (int i = 0; i < 3; i++) {
        int64_t rows = i == 2 ? c->d_model : ff, cols = i == 2 ? ff : c->d_model;
        dsb_role role = gate_role + (dsb_role)i;
        if (gate_role == DSB_ROLE_EXPERT_GATE) {
            dsb_linear_spec_make(&specs[i], role, layer, expert, rows, cols, LAYER "%s.experts.%lld.%s", l, c->names->moe, e, c->names->expert[i]);
            specs[i].bias = c->expert_bias;
        } else if (gate_role == DSB_ROLE_SHARED_GATE) {
            dsb_linear_spec_make(&specs[i], role, layer, -1, rows, cols, LAYER "%s.%s.%s", l, c->names->moe, c->names->shared, k_name[i]);
        } else {
            dsb_linear_spec_make(&specs[i], role, layer, -1, rows, cols, LAYER "mlp.%s", l, k_name[i]);
        }
    }
}

void dsb_router_spec(const dsb_config *c, int64_t layer, dsb_linear_spec *spec) {
    dsb_linear_spec_make(spec, DSB_ROLE_ROUTER, layer, -1, c->n_expert, c->d_model, LAYER "%s.%s", (long long)layer, c->names->moe, c->names->router);
    spec->bias = c->router_linear_bias;
}

/* Vectors of a layer, in one list for loading, checking and counting: first those of attention. */
typedef struct vector_row {
    const char *name; /* after the layer's */
    int64_t n;        /* 0: there is none */
    size_t at;        /* its pointer in dsb_attn_weights, or in dsb_router_weights */
} vector_row;
enum { N_VECTOR = 8, N_ATTN_VECTOR = 6 };

static void list_vectors(const dsb_config *c, int64_t layer, vector_row out[N_VECTOR]) {
    int64_t head = c->nope + c->rope_dim, q_norm = c->whole_norm ? c->heads * head : c->head_norm ? head : 0, k_norm = c->whole_norm ? dsb_key_width(c) : q_norm;
    const vector_row rows[N_VECTOR] = {
        {"input_layernorm.weight", c->d_model, offsetof(dsb_attn_weights, input_norm)},
        {"self_attn.q_a_layernorm.weight", c->q_lora, offsetof(dsb_attn_weights, q_a_norm)},
        {"self_attn.kv_a_layernorm.weight", c->kv_lora, offsetof(dsb_attn_weights, kv_a_norm)},
        {"self_attn.q_norm.weight", q_norm, offsetof(dsb_attn_weights, q_norm)},
        {"self_attn.k_norm.weight", k_norm, offsetof(dsb_attn_weights, k_norm)},
        {"self_attn.sinks", c->sinks ? c->heads : 0, offsetof(dsb_attn_weights, sinks)},
        {"post_attention_layernorm.weight", c->d_model, offsetof(dsb_router_weights, norm)},
        {"mlp.gate.e_score_correction_bias", c->router_bias && dsb_layer_is_moe(c, layer) ? c->n_expert : 0, offsetof(dsb_router_weights, bias)},
    };
    memcpy(out, rows, sizeof rows);
}

static dsb_status load_vectors(const dsb_model *m, const dsb_checkpoint *cp, int64_t layer, int first, int end, void *weights, dsb_err *err) {
    vector_row v[N_VECTOR];
    list_vectors(&m->config, layer, v);
    for (int i = first; i < end; i++)
        if (v[i].n) DSB_TRY(dsb_load_vector(m, cp, v[i].n, (float **)(void *)((char *)weights + v[i].at), err, LAYER "%s", (long long)layer, v[i].name));
    return DSB_OK;
}

dsb_status dsb_attn_load_norms(const dsb_model *m, const dsb_checkpoint *cp, int64_t layer, int64_t rotation, dsb_attn_weights *w, dsb_err *err) {
    w->window = dsb_layer_in(&m->config.sliding, layer) ? m->config.window : 0;
    DSB_TRY(load_vectors(m, cp, layer, 0, N_ATTN_VECTOR, w, err));
    return rotation ? dsb_norm_fold(m->be, w->input_norm, m->config.d_model, err) : DSB_OK;
}

static bool has_shared_gate(const dsb_config *c, int64_t layer) { return c->shared_gate && dsb_layer_is_moe(c, layer); }

static void shared_gate_stem(int64_t layer, char stem[96]) { snprintf(stem, 96, LAYER "mlp.shared_expert_gate", (long long)layer); }

/* One row that reads the stream through a norm (device). */
static dsb_status fold(const dsb_model *m, const float *norm, int64_t rotation, float *row, dsb_err *err) {
    int64_t d = m->config.d_model;
    dsb_rotation r = {.block = rotation};
    DSB_TRY(DSB_NEW(r.norm, d, "a norm", err));
    m->be->download(r.norm, norm, (size_t)d * sizeof *r.norm);
    dsb_rotation_apply(&r, row, 1, d, row);
    dsb_rotation_release(&r);
    return DSB_OK;
}

static dsb_status load_shared_gate(const dsb_model *m, const dsb_checkpoint *cp, int64_t layer, int64_t rotation, dsb_router_weights *w, dsb_err *err) {
    int64_t d = m->config.d_model;
    dsb_qtensor codes = {0};
    dsb_dtype stored;
    char stem[96];
    float *host;
    shared_gate_stem(layer, stem);
    DSB_TRY(DSB_NEW(host, d, stem, err));
    dsb_status s = dsb_checkpoint_read_linear(cp, stem, 1, d, host, &codes, &stored, err);
    if (!s && rotation) s = fold(m, w->norm, rotation, host, err);
    if (!s) s = m->be->pack_float(&w->shared_gate, DSB_W_F32, host, 1, d, err);
    dsb_qtensor_release(&codes);
    free(host);
    return s;
}

dsb_status dsb_router_load_vectors(const dsb_model *m, const dsb_checkpoint *cp, int64_t layer, int64_t rotation, dsb_router_weights *w, dsb_err *err) {
    DSB_TRY(load_vectors(m, cp, layer, N_ATTN_VECTOR, N_VECTOR, w, err));
    if (has_shared_gate(&m->config, layer)) DSB_TRY(load_shared_gate(m, cp, layer, rotation, w, err));
    return rotation ? dsb_norm_fold(m->be, w->norm, m->config.d_model, err) : DSB_OK;
}

dsb_status dsb_block_check_vectors(const dsb_config *c, const dsb_checkpoint *cp, int64_t layer, dsb_err *err) {
    vector_row v[N_VECTOR];
    char name[256];
    list_vectors(c, layer, v);
    for (int i = 0; i < N_VECTOR; i++) {
        snprintf(name, sizeof name, LAYER "%s", (long long)layer, v[i].name);
        if (v[i].n) DSB_TRY(dsb_checkpoint_check(cp, name, v[i].n, 0, err));
    }
    if (!has_shared_gate(c, layer)) return DSB_OK;
    shared_gate_stem(layer, name);
    return dsb_checkpoint_check_linear(cp, name, 1, c->d_model, err);
}

static int64_t bias_values(const dsb_linear_spec *s, int n) {
    int64_t sum = 0;
    for (int i = 0; i < n; i++) sum += s[i].bias ? s[i].rows : 0;
    return sum;
}

int64_t dsb_block_vector_values(const dsb_config *c) {
    int64_t sum = c->d_model;
    for (int64_t l = 0; l < c->n_layer; l++) {
        vector_row v[N_VECTOR];
        dsb_linear_spec s[5];
        list_vectors(c, l, v);
        for (int i = 0; i < N_VECTOR; i++) sum += v[i].n;
        sum += bias_values(s, dsb_attn_specs(c, l, s));
        if (!dsb_layer_is_moe(c, l)) continue;
        dsb_router_spec(c, l, s);
        sum += bias_values(s, 1) + (has_shared_gate(c, l) ? c->d_model : 0);
        dsb_ffn_specs(c, l, DSB_ROLE_EXPERT_GATE, 0, s);
        sum += c->n_expert * bias_values(s, 3);
    }
    return sum;
}

void dsb_attn_borrow(dsb_attn_weights *w, const dsb_attn_weights *from) {
    w->input_norm = from->input_norm;
    w->q_a_norm = from->q_a_norm;
    w->kv_a_norm = from->kv_a_norm;
    w->q_norm = from->q_norm;
    w->k_norm = from->k_norm;
    w->sinks = from->sinks;
    w->window = from->window;
    w->norms_borrowed = true;
}

void dsb_router_borrow(dsb_router_weights *w, const dsb_router_weights *from) {
    w->norm = from->norm;
    w->bias = from->bias;
    w->shared_gate = from->shared_gate;
    w->borrowed = true;
}

static void drop(const dsb_backend *be, float **p) {
    if (*p) be->release(*p);
    *p = NULL;
}

static void unpack_heads(const dsb_backend *be, dsb_wmat *w, int64_t heads) {
    for (int64_t h = 0; w && h < heads; h++)
        if (w[h].data) be->unpack(&w[h]);
    free(w);
}

void dsb_attn_release(const dsb_backend *be, dsb_attn_weights *w) {
    unpack_heads(be, w->absorbed_k, w->absorbed_heads);
    unpack_heads(be, w->absorbed_v, w->absorbed_heads);
    drop(be, &w->absorbed_bias);
    dsb_linear *all[] = {&w->q, &w->q_a, &w->q_b, &w->kv_a, &w->kv_b, &w->k, &w->v, &w->o};
    float **vectors[] = {&w->input_norm, &w->q_a_norm, &w->kv_a_norm, &w->q_norm, &w->k_norm, &w->sinks};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) dsb_linear_release(be, all[i]);
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors && !w->norms_borrowed; i++) drop(be, vectors[i]);
    memset(w, 0, sizeof *w);
}

void dsb_ffn_release(const dsb_backend *be, dsb_ffn_weights *w) {
    dsb_linear_release(be, &w->gate);
    dsb_linear_release(be, &w->up);
    dsb_linear_release(be, &w->down);
}

void dsb_router_release(const dsb_backend *be, dsb_router_weights *w) {
    dsb_linear_release(be, &w->w);
    if (!w->borrowed) {
        drop(be, &w->norm);
        drop(be, &w->bias);
        if (w->shared_gate.data) be->unpack(&w->shared_gate);
    }
    memset(w, 0, sizeof *w);
}
