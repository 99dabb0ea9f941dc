/* GGUF metadata -> the config.json that its model was made from, as far as it decides results. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf_internal.h"

typedef struct reader {
    dsb_gguf_model *m;
    dsb_gguf *f;
    const gguf_arch *arch;
    json_t *doc;
    dsb_err *err;
} reader;

dsb_status gguf_layers(const dsb_gguf *f, const gguf_arch *a, int64_t *out, dsb_err *err) {
    int64_t n = 0, next = 0;
    DSB_TRY(gguf_int(f, a, "block_count", true, 1, 4096, &n, err));
    DSB_TRY(gguf_int(f, a, "nextn_predict_layers", false, 0, 64, &next, err));
    if (next >= n) return dsb_fail(err, DSB_EINPUT, "%s: %lld of its %lld layers predict next tokens; fewer are wanted", f->path, (long long)next, (long long)n);
    *out = n - next;
    return DSB_OK;
}

static bool has(const reader *r, const char *tensor) { return gguf_tensor_find(r->m, tensor) != NULL; }
static void put(reader *r, const char *key, json_t *v) { json_object_set_new(r->doc, key, v); }

/* An integer of the metadata under config.json's key; absent: nothing. */
static dsb_status copy_int(reader *r, const char *from, const char *to, bool required) {
    int64_t x = -1;
    DSB_TRY(gguf_int(r->f, r->arch, from, required, 0, INT64_MAX, &x, r->err));
    if (x >= 0) put(r, to, json_integer(x));
    return DSB_OK;
}

/* Metadata are f32: the shortest decimal that is the same f32 is what config.json had. */
static double shortest(double x) {
    char text[40];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if ((float)strtod(text, NULL) == (float)x) break;
    }
    return strtod(text, NULL);
}

static dsb_status read_real(reader *r, const char *from, bool required, double *out) {
    char full[128];
    snprintf(full, sizeof full, "%s.%s", r->arch->name, from);
    double x = 0;
    DSB_TRY(dsb_gguf_real(r->f, full, required, &x, r->err));
    if (!dsb_gguf_find(r->f, full)) return DSB_OK;
    if (!isfinite(x)) return dsb_fail(r->err, DSB_EINPUT, "%s: key %s is not finite", r->f->path, full);
    *out = shortest(x);
    return DSB_OK;
}

static dsb_status copy_real(reader *r, const char *from, const char *to, bool required) {
    double x = NAN;
    DSB_TRY(read_real(r, from, required, &x));
    if (!isnan(x)) put(r, to, json_real(x));
    return DSB_OK;
}

static dsb_status read_bool(reader *r, const char *from, bool *out) {
    char full[128];
    snprintf(full, sizeof full, "%s.%s", r->arch->name, from);
    return dsb_gguf_bool(r->f, full, false, out, r->err);
}

/* rope_scaling: yarn or linear; what DeepSeek calls mscale is stored as 0.1 * mscale_all_dim, and both are equal in its models. */
static dsb_status put_rope(reader *r, bool mla, bool truncate) {
    char key[96];
    const char *type = "none";
    double factor = 0, multiplier = 0, attention = 0;
    int64_t original = 0;
    DSB_TRY(copy_real(r, "rope.freq_base", "rope_theta", false));
    snprintf(key, sizeof key, "%s.rope.scaling.type", r->arch->name);
    DSB_TRY(dsb_gguf_text(r->f, key, false, &type, r->err));
    if (has(r, "rope_freqs.weight")) return dsb_fail(r->err, DSB_EUNSUPPORTED, "%s: rope_freqs.weight: RoPE scaled by factors can't be computed", r->f->path);
    if (strcmp(type, "none") == 0) return DSB_OK;
    json_t *scaling = json_object();
    put(r, "rope_scaling", scaling);
    json_object_set_new(scaling, "rope_type", json_string(type));
    DSB_TRY(read_real(r, "rope.scaling.factor", true, &factor));
    json_object_set_new(scaling, "factor", json_real(factor));
    if (strcmp(type, "yarn") != 0) return DSB_OK;
    DSB_TRY(gguf_int(r->f, r->arch, "rope.scaling.original_context_length", true, 1, INT32_MAX, &original, r->err));
    json_object_set_new(scaling, "original_max_position_embeddings", json_integer(original));
    static const char *const k_beta[] = {"beta_fast", "beta_slow"};
    for (int i = 0; i < 2; i++) {
        double beta = NAN;
        snprintf(key, sizeof key, "rope.scaling.yarn_%s", k_beta[i]);
        DSB_TRY(read_real(r, key, false, &beta));
        if (!isnan(beta)) json_object_set_new(scaling, k_beta[i], json_real(beta));
    }
    DSB_TRY(read_real(r, "rope.scaling.yarn_log_multiplier", false, &multiplier));
    DSB_TRY(read_real(r, "rope.scaling.attn_factor", false, &attention));
    if (mla && multiplier != 0) {
        double mscale = shortest(multiplier * 10);
        json_object_set_new(scaling, "mscale", json_real(mscale));
        json_object_set_new(scaling, "mscale_all_dim", json_real(mscale));
    } else if (attention != 0) {
        json_object_set_new(scaling, "attention_factor", json_real(attention));
    }
    if (!truncate) json_object_set_new(scaling, "truncate", json_false());
    return DSB_OK;
}

static dsb_status put_common(reader *r) {
    const dsb_st_tensor *embed = gguf_tensor_find(r->m, "token_embd.weight");
    int64_t layers = 0;
    if (!embed || embed->ndim != 2) return dsb_fail(r->err, DSB_EINPUT, "%s: tensor token_embd.weight is missing or no matrix", r->f->path);
    put(r, "architectures", json_pack("[s]", r->arch->class_name));
    put(r, "vocab_size", json_integer(embed->shape[0]));
    put(r, "tie_word_embeddings", json_boolean(!has(r, "output.weight")));
    DSB_TRY(gguf_layers(r->f, r->arch, &layers, r->err));
    put(r, "num_hidden_layers", json_integer(layers));
    DSB_TRY(copy_int(r, "embedding_length", "hidden_size", true));
    DSB_TRY(copy_int(r, "context_length", "max_position_embeddings", true));
    DSB_TRY(copy_int(r, "attention.head_count", "num_attention_heads", true));
    DSB_TRY(copy_real(r, "attention.layer_norm_rms_epsilon", "rms_norm_eps", true));
    DSB_TRY(copy_int(r, "expert_count", "num_experts", true));
    return copy_int(r, "expert_used_count", "num_experts_per_tok", true);
}

/* Rows of the first tensor there is of that kind, as sizes that older files don't say. */
static int64_t rows_of(const reader *r, const char *kind) {
    char name[64];
    for (int64_t l = 0; l < 4096; l++) {
        snprintf(name, sizeof name, "blk.%lld.%s.weight", (long long)l, kind);
        const dsb_st_tensor *t = gguf_tensor_find(r->m, name);
        if (t && t->ndim >= 2) return t->shape[t->ndim - 2];
        if (l > 16) break;
    }
    return 0;
}

static dsb_status put_size(reader *r, const char *key, const char *to, const char *kind) {
    int64_t n = 0;
    DSB_TRY(gguf_int(r->f, r->arch, key, false, 0, 1 << 24, &n, r->err));
    if (n == 0) n = rows_of(r, kind);
    if (n) put(r, to, json_integer(n));
    return DSB_OK;
}

static dsb_status put_mla(reader *r) {
    int64_t kv = 0, key = 0, value = 0, rope = 0, gating = 0, groups = 0;
    bool norm = false;
    DSB_TRY(copy_int(r, "attention.q_lora_rank", "q_lora_rank", false));
    DSB_TRY(gguf_int(r->f, r->arch, "attention.kv_lora_rank", true, 1, 1 << 20, &kv, r->err));
    DSB_TRY(gguf_int(r->f, r->arch, "attention.key_length", true, 1, 1 << 20, &key, r->err));
    DSB_TRY(gguf_int(r->f, r->arch, "attention.value_length", true, 1, 1 << 20, &value, r->err));
    DSB_TRY(gguf_int(r->f, r->arch, "attention.key_length_mla", false, 1, 1 << 20, &key, r->err)); /* files with split kv_b */
    DSB_TRY(gguf_int(r->f, r->arch, "attention.value_length_mla", false, 1, 1 << 20, &value, r->err));
    DSB_TRY(gguf_int(r->f, r->arch, "rope.dimension_count", true, 1, 1 << 20, &rope, r->err));
    if (rope >= key) return dsb_fail(r->err, DSB_EINPUT, "%s: %lld of a key's %lld values are rotated; fewer are wanted", r->f->path, (long long)rope, (long long)key);
    put(r, "kv_lora_rank", json_integer(kv));
    put(r, "qk_rope_head_dim", json_integer(rope));
    put(r, "qk_nope_head_dim", json_integer(key - rope));
    put(r, "v_head_dim", json_integer(value));
    DSB_TRY(gguf_int(r->f, r->arch, "expert_gating_func", false, 0, 8, &gating, r->err));
    DSB_TRY(gguf_int(r->f, r->arch, "expert_group_count", false, 0, 65536, &groups, r->err));
    if (gating > 2) return dsb_fail(r->err, DSB_EUNSUPPORTED, "%s: expert_gating_func %lld can't be computed; 1 (softmax) or 2 (sigmoid) is wanted", r->f->path, (long long)gating);
    DSB_TRY(read_bool(r, "expert_weights_norm", &norm));
    put(r, "norm_topk_prob", json_boolean(norm));
    if (groups > 1) {
        put(r, "n_group", json_integer(groups));
        DSB_TRY(copy_int(r, "expert_group_used_count", "topk_group", true));
    }
    if (gating == 2) return DSB_OK;
    put(r, "architectures", json_pack("[s]", "DeepseekV2ForCausalLM"));
    put(r, "topk_method", json_string(groups > 1 ? "group_limited_greedy" : "greedy"));
    return DSB_OK;
}

static dsb_status put_deepseek(reader *r, bool mla) {
    DSB_TRY(put_size(r, "feed_forward_length", "intermediate_size", "ffn_gate"));
    DSB_TRY(put_size(r, "expert_feed_forward_length", "moe_intermediate_size", "ffn_gate_exps"));
    DSB_TRY(copy_int(r, "expert_shared_count", "n_shared_experts", false));
    DSB_TRY(copy_int(r, "leading_dense_block_count", "first_k_dense_replace", false));
    if (mla) {
        double scale = 0;
        DSB_TRY(read_real(r, "expert_weights_scale", false, &scale));
        if (scale != 0) put(r, "routed_scaling_factor", json_real(scale));
        DSB_TRY(put_mla(r));
    } else {
        DSB_TRY(copy_int(r, "attention.head_count_kv", "num_key_value_heads", false));
    }
    return put_rope(r, mla, true);
}

/* Grouped keys: heads of attention.key_length values, all of them rotated but in GLM. */
static dsb_status put_heads(reader *r, bool has_head_dim) {
    int64_t head = 0, value = 0, rope = 0, d = json_integer_value(json_object_get(r->doc, "hidden_size")), heads = json_integer_value(json_object_get(r->doc, "num_attention_heads"));
    DSB_TRY(copy_int(r, "attention.head_count_kv", "num_key_value_heads", false));
    DSB_TRY(gguf_int(r->f, r->arch, "attention.key_length", false, 1, 65536, &head, r->err));
    if (head == 0 && heads > 0) head = d / heads;
    value = rope = head;
    DSB_TRY(gguf_int(r->f, r->arch, "attention.value_length", false, 1, 65536, &value, r->err));
    DSB_TRY(gguf_int(r->f, r->arch, "rope.dimension_count", false, 1, 65536, &rope, r->err));
    bool partial = strcmp(r->arch->name, "glm4moe") == 0;
    if (value != head || (rope != head && !partial) || (!has_head_dim && head * heads != d))
        return dsb_fail(r->err, DSB_EUNSUPPORTED, "%s: heads of %lld key values, %lld of them rotated, and %lld values can't be computed for %s", r->f->path, (long long)head, (long long)rope, (long long)value, r->arch->name);
    if (has_head_dim) put(r, "head_dim", json_integer(head));
    if (partial) put(r, "partial_rotary_factor", json_real((double)rope / (double)head));
    return put_rope(r, false, strcmp(r->arch->name, "gpt-oss") != 0);
}

static dsb_status put_qwen(reader *r, bool third) {
    DSB_TRY(put_heads(r, true));
    DSB_TRY(put_size(r, "feed_forward_length", "intermediate_size", "ffn_gate"));
    if (!json_object_get(r->doc, "intermediate_size")) put(r, "intermediate_size", json_integer(1)); /* of dense layers, which there are none of */
    DSB_TRY(put_size(r, "expert_feed_forward_length", "moe_intermediate_size", "ffn_gate_exps"));
    put(r, "norm_topk_prob", json_boolean(third));
    if (third) put(r, "attention_bias", json_boolean(has(r, "blk.0.attn_q.bias")));
    else put(r, "qkv_bias", json_boolean(has(r, "blk.0.attn_q.bias")));
    return third ? DSB_OK : put_size(r, "expert_shared_feed_forward_length", "shared_expert_intermediate_size", "ffn_gate_shexp");
}

static dsb_status put_glm(reader *r) {
    bool norm = true;
    double scale = 0;
    DSB_TRY(put_heads(r, true));
    DSB_TRY(put_size(r, "feed_forward_length", "intermediate_size", "ffn_gate"));
    DSB_TRY(put_size(r, "expert_feed_forward_length", "moe_intermediate_size", "ffn_gate_exps"));
    DSB_TRY(copy_int(r, "expert_shared_count", "n_shared_experts", false));
    DSB_TRY(copy_int(r, "leading_dense_block_count", "first_k_dense_replace", false));
    DSB_TRY(read_bool(r, "expert_weights_norm", &norm));
    DSB_TRY(read_real(r, "expert_weights_scale", false, &scale));
    if (scale != 0) put(r, "routed_scaling_factor", json_real(scale));
    put(r, "norm_topk_prob", json_boolean(norm));
    put(r, "use_qk_norm", json_boolean(has(r, "blk.0.attn_q_norm.weight")));
    put(r, "attention_bias", json_boolean(has(r, "blk.0.attn_q.bias")));
    return DSB_OK;
}

static dsb_status put_family(reader *r) {
    const char *name = r->arch->name;
    bool oss = strcmp(name, "gpt-oss") == 0;
    if (strcmp(name, "deepseek") == 0 || strcmp(name, "deepseek2") == 0) return put_deepseek(r, name[8] == '2');
    if (strcmp(name, "qwen2moe") == 0 || strcmp(name, "qwen3moe") == 0) return put_qwen(r, name[4] == '3');
    if (strcmp(name, "glm4moe") == 0) return put_glm(r);
    bool olmoe = strcmp(name, "olmoe") == 0;
    DSB_TRY(put_heads(r, !olmoe));
    if (oss) DSB_TRY(put_size(r, "expert_feed_forward_length", "intermediate_size", "ffn_gate_exps"));
    else DSB_TRY(put_size(r, "feed_forward_length", "intermediate_size", "ffn_gate_exps"));
    if (olmoe) return copy_real(r, "attention.clamp_kqv", "clip_qkv", false);
    return copy_int(r, "attention.sliding_window", "sliding_window", false);
}

dsb_status dsb_gguf_model_config(dsb_gguf_model *m, json_t **out, dsb_err *err) {
    reader r = {.m = m, .f = &m->files[0], .doc = json_object(), .err = err};
    dsb_status s = r.doc ? gguf_arch_of(r.f, &r.arch, err) : dsb_fail(err, DSB_ENOMEM, "%s: no memory", m->files[0].path);
    if (!s) s = put_common(&r);
    if (!s) s = put_family(&r);
    if (s) json_decref(r.doc);
    *out = s ? NULL : r.doc;
    return s;
}
