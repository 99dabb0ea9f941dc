/* Where each weight of a block lies in a checkpoint, and loading of its vectors. */
#include <string.h>

#include "engine/block.h"

#define LAYER "model.layers.%lld."

int dsb_attn_specs(const dsb_config *c, int64_t layer, dsb_linear_spec specs[5]) {
    int64_t qk = c->heads * (c->nope + c->rope_dim);
    long long l = (long long)layer;
    int n = 0;
    if (c->q_lora) {
        dsb_linear_spec_make(&specs[n++], DSB_ROLE_ATTN_Q_A, layer, -1, c->q_lora, c->d_model, LAYER "self_attn.q_a_proj", l);
        dsb_linear_spec_make(&specs[n++], DSB_ROLE_ATTN_Q_B, layer, -1, qk, c->q_lora, LAYER "self_attn.q_b_proj", l);
    } else {
        dsb_linear_spec_make(&specs[n++], DSB_ROLE_ATTN_Q, layer, -1, qk, c->d_model, LAYER "self_attn.q_proj", l);
    }
    dsb_linear_spec_make(&specs[n++], DSB_ROLE_ATTN_KV_A, layer, -1, c->kv_lora + c->rope_dim, c->d_model, LAYER "self_attn.kv_a_proj_with_mqa", l);
    dsb_linear_spec_make(&specs[n++], DSB_ROLE_ATTN_KV_B, layer, -1, c->heads * (c->nope + c->v_dim), c->kv_lora, LAYER "self_attn.kv_b_proj", l);
    dsb_linear_spec_make(&specs[n++], DSB_ROLE_ATTN_O, layer, -1, c->d_model, c->heads * c->v_dim, LAYER "self_attn.o_proj", l);
    return n;
}

dsb_linear *dsb_attn_linear(dsb_attn_weights *w, dsb_role role) {
    switch (role) {
    case DSB_ROLE_ATTN_Q: return &w->q;
    case DSB_ROLE_ATTN_Q_A: return &w->q_a;
    case DSB_ROLE_ATTN_Q_B: return &w->q_b;
    case DSB_ROLE_ATTN_KV_A: return &w->kv_a;
    case DSB_ROLE_ATTN_KV_B: return &w->kv_b;
    default: return &w->o;
    }
}

void dsb_ffn_specs(const dsb_config *c, int64_t layer, dsb_role gate_role, int64_t expert, dsb_linear_spec specs[3]) {
    static const char *const k_name[3] = {"gate_proj", "up_proj", "down_proj"};
    long long l = (long long)layer, e = (long long)expert;
    int64_t ff = gate_role == DSB_ROLE_DENSE_GATE ? c->d_ff : gate_role == DSB_ROLE_SHARED_GATE ? c->d_ff_expert * c->n_shared : c->d_ff_expert;
    for (int i = 0; i < 3; i++) {
        int64_t rows = i == 2 ? c->d_model : ff, cols = i == 2 ? ff : c->d_model;
        dsb_role role = gate_role + (dsb_role)i;
        if (gate_role == DSB_ROLE_EXPERT_GATE) {
            dsb_linear_spec_make(&specs[i], role, layer, expert, rows, cols, LAYER "mlp.experts.%lld.%s", l, e, k_name[i]);
        } else if (gate_role == DSB_ROLE_SHARED_GATE) {
            dsb_linear_spec_make(&specs[i], role, layer, -1, rows, cols, LAYER "mlp.shared_experts.%s", l, k_name[i]);
        } else {
            dsb_linear_spec_make(&specs[i], role, layer, -1, rows, cols, LAYER "mlp.%s", l, k_name[i]);
        }
    }
}

void dsb_router_spec(const dsb_config *c, int64_t layer, dsb_linear_spec *spec) {
    dsb_linear_spec_make(spec, DSB_ROLE_ROUTER, layer, -1, c->n_expert, c->d_model, LAYER "mlp.gate", (long long)layer);
}

dsb_status dsb_attn_load_norms(const dsb_model *m, const dsb_checkpoint *cp, int64_t layer, dsb_attn_weights *w, dsb_err *err) {
    const dsb_config *c = &m->config;
    long long l = (long long)layer;
    DSB_TRY(dsb_load_vector(m, cp, c->d_model, &w->input_norm, err, LAYER "input_layernorm.weight", l));
    if (c->q_lora) DSB_TRY(dsb_load_vector(m, cp, c->q_lora, &w->q_a_norm, err, LAYER "self_attn.q_a_layernorm.weight", l));
    return dsb_load_vector(m, cp, c->kv_lora, &w->kv_a_norm, err, LAYER "self_attn.kv_a_layernorm.weight", l);
}

dsb_status dsb_router_load_vectors(const dsb_model *m, const dsb_checkpoint *cp, int64_t layer, dsb_router_weights *w, dsb_err *err) {
    const dsb_config *c = &m->config;
    long long l = (long long)layer;
    DSB_TRY(dsb_load_vector(m, cp, c->d_model, &w->norm, err, LAYER "post_attention_layernorm.weight", l));
    if (!c->router_bias || !dsb_layer_is_moe(c, layer)) return DSB_OK;
    return dsb_load_vector(m, cp, c->n_expert, &w->bias, err, LAYER "mlp.gate.e_score_correction_bias", l);
}

static void drop(const dsb_backend *be, float **p) {
    if (*p) be->release(*p);
    *p = NULL;
}

void dsb_attn_release(const dsb_backend *be, dsb_attn_weights *w) {
    dsb_linear *all[] = {&w->q, &w->q_a, &w->q_b, &w->kv_a, &w->kv_b, &w->o};
    for (int i = 0; i < 6; i++) dsb_linear_release(be, all[i]);
    if (!w->norms_borrowed) {
        drop(be, &w->input_norm);
        drop(be, &w->q_a_norm);
        drop(be, &w->kv_a_norm);
    }
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
    }
    memset(w, 0, sizeof *w);
}
