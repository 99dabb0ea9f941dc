/* tiny_model DIR: a DeepSeek-V3 checkpoint of two layers (one dense, one of four experts) with made-up weights into an existing
 * folder: config.json and model.safetensors (BF16). Tests break copies of it; its tokenizer is tests/fixtures/tokenizer/tiny.json. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "engine/block.h"
#include "engine/safetensors_write.h"
#include "engine/session.h"

static const char CONFIG[] =
    "{\n\"architectures\": [\"DeepseekV3ForCausalLM\"],\n\"hidden_act\": \"silu\",\n\"vocab_size\": 420,\n\"hidden_size\": 16,\n\"num_hidden_layers\": 2,\n\"first_k_dense_replace\": 1,\n"
    "\"num_attention_heads\": 2,\n\"q_lora_rank\": 8,\n\"kv_lora_rank\": 8,\n\"qk_nope_head_dim\": 8,\n\"qk_rope_head_dim\": 4,\n\"v_head_dim\": 8,\n\"intermediate_size\": 16,\n"
    "\"moe_intermediate_size\": 8,\n\"n_routed_experts\": 4,\n\"n_shared_experts\": 1,\n\"num_experts_per_tok\": 2,\n\"n_group\": 2,\n\"topk_group\": 1,\n\"routed_scaling_factor\": 2.0,\n"
    "\"norm_topk_prob\": true,\n\"scoring_func\": \"sigmoid\",\n\"topk_method\": \"noaux_tc\",\n\"rope_theta\": 10000.0,\n\"rope_scaling\": null,\n\"rms_norm_eps\": 1e-06,\n"
    "\"max_position_embeddings\": 2048,\n\"tie_word_embeddings\": false,\n\"attention_bias\": false\n}\n";

/* One tensor to write; cols 0: a vector of ones (norms) or zeros (the correction bias). */
typedef struct tensor {
    char name[300];
    int64_t rows, cols;
    float fill;
} tensor;

typedef struct tensors {
    tensor item[128];
    int n;
} tensors;

static void add(tensors *t, const char *name, int64_t rows, int64_t cols, float fill) {
    tensor *x = &t->item[t->n++];
    snprintf(x->name, sizeof x->name, "%s", name);
    x->rows = rows;
    x->cols = cols;
    x->fill = fill;
}

static void add_linear(tensors *t, const dsb_linear_spec *s) {
    char name[300];
    snprintf(name, sizeof name, "%s.weight", s->stem);
    add(t, name, s->rows, s->cols, 0);
}

static void add_ffn(tensors *t, const dsb_config *c, int64_t layer, dsb_role gate, int64_t expert) {
    dsb_linear_spec specs[3];
    dsb_ffn_specs(c, layer, gate, expert, specs);
    for (int i = 0; i < 3; i++) add_linear(t, &specs[i]);
}

static void add_vector(tensors *t, int64_t layer, const char *leaf, int64_t n, float fill) {
    char name[300];
    snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)layer, leaf);
    add(t, name, n, 0, fill);
}

static void add_layer(tensors *t, const dsb_config *c, int64_t layer) {
    dsb_linear_spec specs[5], router;
    for (int i = 0, n = dsb_attn_specs(c, layer, specs); i < n; i++) add_linear(t, &specs[i]);
    add_vector(t, layer, "input_layernorm.weight", c->d_model, 1);
    add_vector(t, layer, "post_attention_layernorm.weight", c->d_model, 1);
    add_vector(t, layer, "self_attn.q_a_layernorm.weight", c->q_lora, 1);
    add_vector(t, layer, "self_attn.kv_a_layernorm.weight", c->kv_lora, 1);
    if (!dsb_layer_is_moe(c, layer)) {
        add_ffn(t, c, layer, DSB_ROLE_DENSE_GATE, -1);
        return;
    }
    dsb_router_spec(c, layer, &router);
    add_linear(t, &router);
    add_vector(t, layer, "mlp.gate.e_score_correction_bias", c->n_expert, 0);
    for (int64_t e = 0; e < c->n_expert; e++) add_ffn(t, c, layer, DSB_ROLE_EXPERT_GATE, e);
    add_ffn(t, c, layer, DSB_ROLE_SHARED_GATE, -1);
}

/* Made-up weights within ±1/4, always the same. */
static uint16_t weight(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return dsb_f32_to_bf16(((float)(*state >> 16) - 32768.0f) / 131072.0f);
}

static dsb_status put(dsb_st_writer *w, const tensor *t, uint32_t *state, dsb_err *err) {
    for (int64_t i = 0; i < t->rows * (t->cols ? t->cols : 1); i++) {
        uint16_t u = t->cols ? weight(state) : dsb_f32_to_bf16(t->fill);
        DSB_TRY(dsb_st_writer_write(w, &u, sizeof u, err));
    }
    return DSB_OK;
}

static dsb_status write_weights(const tensors *t, const char *path, dsb_err *err) {
    dsb_st_writer w;
    uint32_t state = 1;
    DSB_TRY(dsb_st_writer_open(&w, path, err));
    dsb_status s = DSB_OK;
    for (int i = 0; i < t->n && !s; i++) s = dsb_st_writer_declare(&w, t->item[i].name, DSB_BF16, t->item[i].cols ? 2 : 1, (int64_t[]){ t->item[i].rows, t->item[i].cols }, err);
    for (int i = 0; i < t->n && !s; i++) s = put(&w, &t->item[i], &state, err);
    if (!s) s = dsb_st_writer_finish(&w, err);
    dsb_st_writer_close(&w);
    return s;
}

static dsb_status make(const char *dir, dsb_err *err) {
    static tensors t;
    char path[4096];
    dsb_config c;
    dsb_linear_spec head;
    snprintf(path, sizeof path, "%s/config.json", dir);
    DSB_TRY(dsb_file_write(path, CONFIG, sizeof CONFIG - 1, err));
    DSB_TRY(dsb_config_load(&c, dir, err));
    add(&t, "model.embed_tokens.weight", c.vocab, c.d_model, 0);
    for (int64_t l = 0; l < c.n_layer; l++) add_layer(&t, &c, l);
    add(&t, "model.norm.weight", c.d_model, 0, 1);
    dsb_head_spec(&c, &head);
    add_linear(&t, &head);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    return write_weights(&t, path, err);
}

int main(int argc, char **argv) {
    dsb_err err = { 0 };
    if (argc == 2 && !make(argv[1], &err)) return 0;
    fprintf(stderr, "tiny_model: %s\n", argc == 2 ? err.text : "usage: tiny_model DIR");
    return 1;
}
