/* The families whose attention has q, k and v projections with grouped keys: Qwen2-MoE, Qwen3-MoE, Mixtral, OLMoE, GLM-4.5-MoE, GPT-OSS. */
#include <math.h>
#include <string.h>

#include "engine/arch_internal.h"

const dsb_part_names arch_names_qwen = {"mlp", "gate", "shared_expert", {"gate_proj", "up_proj", "down_proj"}};
const dsb_part_names arch_names_mixtral = {"block_sparse_moe", "gate", "", {"w1", "w3", "w2"}};
const dsb_part_names arch_names_gpt_oss = {"mlp", "router", "", {"gate_proj", "up_proj", "down_proj"}};

static const char k_rope_types[] = "default linear yarn llama3";

/* Heads, their size and RoPE. partial: half of a head is rotated, its first values, or what partial_rotary_factor says. Defaults of *c come first. */
static dsb_status read_attention(dsb_config *c, const json_t *j, const char *path, bool partial, dsb_err *err) {
    double rotary = partial ? 0.5 : 1;
    int64_t head_dim = 0;
    c->rope.half = true;
    DSB_TRY(arch_read_size(c, j, path, err));
    c->kv_heads = c->heads;
    INT("num_key_value_heads", false, 1, c->heads, &c->kv_heads);
    if (c->heads % c->kv_heads) return dsb_fail(err, DSB_EINPUT, "%s: %lld heads don't split over %lld key-value heads", path, (long long)c->heads, (long long)c->kv_heads);
    INT("head_dim", false, 1, 65536, &head_dim);
    if (head_dim == 0 && c->d_model % c->heads) return dsb_fail(err, DSB_EINPUT, "%s: %lld heads don't divide hidden_size, %lld, and \"head_dim\" is missing", path, (long long)c->heads, (long long)c->d_model);
    if (head_dim == 0) head_dim = c->d_model / c->heads;
    REAL("partial_rotary_factor", false, &rotary);
    if (json_is_object(arch_rope_object(j))) DSB_TRY(dsb_json_real(arch_rope_object(j), path, "partial_rotary_factor", false, &rotary, err));
    DSB_TRY(arch_want_range(path, "partial_rotary_factor", rotary, partial ? 1e-6 : 1, 1, err));
    c->rope_dim = (int64_t)((double)head_dim * rotary);
    c->nope = head_dim - c->rope_dim;
    c->v_dim = head_dim;
    if (c->rope_dim < 2 || c->rope_dim % 2) return dsb_fail(err, DSB_EINPUT, "%s: %lld of a head's %lld values are rotated; an even number is wanted", path, (long long)c->rope_dim, (long long)head_dim);
    c->attention_scale = (float)(1 / sqrt((double)head_dim));
    return arch_read_rope(c, j, path, k_rope_types, err);
}

static void all_layers(dsb_layer_set *s, int64_t n) {
    for (int64_t l = 0; l < n; l++) dsb_layer_add(s, l);
}

/* The window of the layers that slide; null: none does. */
static dsb_status read_window(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    INT("sliding_window", false, 1, INT32_MAX, &c->window);
    if (c->window == 0) c->sliding = (dsb_layer_set){0};
    return DSB_OK;
}

/* layer_types, where it is there, replaces what is in c->sliding. */
static dsb_status read_layer_types(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    const json_t *types = json_object_get(j, "layer_types");
    if (!types || json_is_null(types)) return DSB_OK;
    if (!json_is_array(types) || (int64_t)json_array_size(types) != c->n_layer)
        return dsb_fail(err, DSB_EINPUT, "%s: \"layer_types\" must be an array of %lld names, one a layer", path, (long long)c->n_layer);
    c->sliding = (dsb_layer_set){0};
    for (int64_t l = 0; l < c->n_layer; l++) {
        const char *type = json_string_value(json_array_get(types, (size_t)l));
        if (type && strcmp(type, "sliding_attention") == 0) dsb_layer_add(&c->sliding, l);
        else if (!type || strcmp(type, "full_attention") != 0)
            return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"layer_types\"[%lld] is %s; full_attention or sliding_attention is wanted", path, (long long)l, type ? type : "no string");
    }
    return DSB_OK;
}

/* Qwen: every decoder_sparse_step-th layer has experts, but those of mlp_only_layers. */
static dsb_status read_sparse_layers(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    int64_t step = 1;
    const json_t *only = json_object_get(j, "mlp_only_layers"), *v;
    dsb_layer_set dense = {0};
    size_t i;
    INT("decoder_sparse_step", false, 1, DSB_MAX_LAYER, &step);
    if (only && !json_is_null(only) && !json_is_array(only)) return dsb_fail(err, DSB_EINPUT, "%s: \"mlp_only_layers\" is no array", path);
    json_array_foreach((json_t *)only, i, v) {
        if (!json_is_integer(v) || json_integer_value(v) < 0) return dsb_fail(err, DSB_EINPUT, "%s: \"mlp_only_layers\"[%zu] is no layer's number", path, i);
        if (json_integer_value(v) < c->n_layer) dsb_layer_add(&dense, json_integer_value(v));
    }
    for (int64_t l = 0; l < c->n_layer; l++)
        if ((l + 1) % step == 0 && !dsb_layer_in(&dense, l)) dsb_layer_add(&c->moe, l);
    return DSB_OK;
}

static dsb_status read_qwen(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    c->names = &arch_names_qwen;
    c->max_pos = 32768;
    c->rms_eps = 1e-6;
    c->rope = arch_rope_default(10000);
    DSB_TRY(read_attention(c, j, path, false, err));
    DSB_TRY(arch_read_n_expert(c, j, path, true, err));
    DSB_TRY(read_sparse_layers(c, j, path, err));
    INT("intermediate_size", true, 1, ARCH_MAX_FF, &c->d_ff);
    INT("moe_intermediate_size", true, 1, ARCH_MAX_FF, &c->d_ff_expert);
    c->router.scoring = DSB_SCORE_SOFTMAX;
    return arch_read_router(c, j, path, err);
}

/* A field that this family's code does not read: only the value that says what the code does anyway will do. */
static dsb_status want_bool(const json_t *j, const char *path, const char *key, bool wanted, dsb_err *err) {
    bool found = wanted;
    BOOL(key, false, &found);
    return found == wanted ? DSB_OK : dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"%s\" is %s; this family has only %s", path, key, found ? "true" : "false", wanted ? "true" : "false");
}

dsb_status arch_read_qwen2(dsb_config *c, const void *doc, const char *path, dsb_err *err) {
    const json_t *j = doc;
    bool slides = false;
    int64_t window_layers = 28;
    DSB_TRY(read_qwen(c, j, path, err));
    c->qkv_bias = true;
    BOOL("qkv_bias", false, &c->qkv_bias);
    DSB_TRY(want_bool(j, path, "attention_bias", false, err)); /* its biases are qkv_bias */
    INT("shared_expert_intermediate_size", true, 0, ARCH_MAX_FF, &c->d_ff_shared);
    c->n_shared = c->d_ff_shared > 0;
    c->shared_gate = c->n_shared > 0;
    BOOL("use_sliding_window", false, &slides);
    INT("max_window_layers", false, 0, INT32_MAX, &window_layers);
    for (int64_t l = 0; slides && l < c->n_layer && l < window_layers; l += 2) dsb_layer_add(&c->sliding, l);
    DSB_TRY(read_layer_types(c, j, path, err));
    if (!slides) c->sliding = (dsb_layer_set){0};
    return slides ? read_window(c, j, path, err) : DSB_OK;
}

dsb_status arch_read_qwen3(dsb_config *c, const void *doc, const char *path, dsb_err *err) {
    const json_t *j = doc;
    bool slides = false;
    DSB_TRY(read_qwen(c, j, path, err));
    c->head_norm = true;
    BOOL("attention_bias", false, &c->qkv_bias);
    /* Qwen3-Coder's config.json has these. */
    DSB_TRY(want_bool(j, path, "qkv_bias", c->qkv_bias, err));
    DSB_TRY(want_bool(j, path, "use_qk_norm", true, err));
    INT("shared_expert_intermediate_size", false, 0, 0, &c->d_ff_shared);
    c->o_bias = c->qkv_bias;
    BOOL("use_sliding_window", false, &slides);
    if (!slides) return DSB_OK;
    all_layers(&c->sliding, c->n_layer);
    DSB_TRY(read_layer_types(c, j, path, err));
    return read_window(c, j, path, err);
}

dsb_status arch_read_mixtral(dsb_config *c, const void *doc, const char *path, dsb_err *err) {
    const json_t *j = doc;
    c->names = &arch_names_mixtral;
    c->max_pos = 131072;
    c->rms_eps = 1e-5;
    c->rope = arch_rope_default(1e6);
    DSB_TRY(read_attention(c, j, path, false, err));
    DSB_TRY(arch_read_n_expert(c, j, path, true, err));
    INT("intermediate_size", true, 1, ARCH_MAX_FF, &c->d_ff_expert);
    DSB_TRY(want_bool(j, path, "attention_bias", false, err));
    all_layers(&c->moe, c->n_layer);
    all_layers(&c->sliding, c->n_layer);
    DSB_TRY(read_window(c, j, path, err));
    c->router = (dsb_router_shape){.scoring = DSB_SCORE_SOFTMAX, .k = 2, .norm_topk = true};
    return arch_read_router(c, j, path, err);
}

dsb_status arch_read_olmoe(dsb_config *c, const void *doc, const char *path, dsb_err *err) {
    const json_t *j = doc;
    c->names = &arch_names_qwen;
    c->max_pos = 4096;
    c->rms_eps = 1e-5;
    c->rope = arch_rope_default(10000);
    DSB_TRY(read_attention(c, j, path, false, err));
    DSB_TRY(arch_read_n_expert(c, j, path, true, err));
    INT("intermediate_size", true, 1, ARCH_MAX_FF, &c->d_ff_expert);
    c->whole_norm = true;
    BOOL("attention_bias", false, &c->qkv_bias);
    c->o_bias = c->qkv_bias;
    REAL("clip_qkv", false, &c->clip_qkv);
    if (json_is_number(json_object_get(j, "clip_qkv"))) DSB_TRY(arch_want_range(path, "clip_qkv", c->clip_qkv, 1e-6, 1e6, err));
    all_layers(&c->moe, c->n_layer);
    c->router.scoring = DSB_SCORE_SOFTMAX;
    return arch_read_router(c, j, path, err);
}

dsb_status arch_read_glm4(dsb_config *c, const void *doc, const char *path, dsb_err *err) {
    const json_t *j = doc;
    int64_t first_dense = 1;
    c->names = &arch_names_deepseek;
    c->max_pos = 131072;
    c->rms_eps = 1e-5;
    c->rope = arch_rope_default(10000);
    DSB_TRY(read_attention(c, j, path, true, err));
    DSB_TRY(arch_read_n_expert(c, j, path, true, err));
    INT("intermediate_size", true, 1, ARCH_MAX_FF, &c->d_ff);
    INT("moe_intermediate_size", true, 1, ARCH_MAX_FF, &c->d_ff_expert);
    c->n_shared = 1;
    INT("n_shared_experts", false, 0, 1024, &c->n_shared);
    c->d_ff_shared = c->d_ff_expert * c->n_shared;
    INT("first_k_dense_replace", false, 0, DSB_MAX_LAYER, &first_dense);
    for (int64_t l = first_dense; l < c->n_layer; l++) dsb_layer_add(&c->moe, l);
    INT("num_nextn_predict_layers", false, 0, 64, &c->n_mtp);
    INT("num_mtp_layers", false, 0, 64, &c->n_mtp);
    BOOL("attention_bias", false, &c->qkv_bias);
    BOOL("use_qk_norm", false, &c->head_norm);
    c->router = (dsb_router_shape){.scoring = DSB_SCORE_SIGMOID, .group_rank = DSB_GROUP_TOP2, .norm_topk = true, .scale_after_norm = true};
    c->router_bias = true;
    DSB_TRY(arch_read_router(c, j, path, err));
    if (c->router.n_group > 1 && c->n_expert / c->router.n_group < 2) return dsb_fail(err, DSB_EINPUT, "%s: %lld groups of one expert; groups are ranked by their two best, 2 or more are wanted", path, (long long)c->router.n_group);
    return DSB_OK;
}

dsb_status arch_read_gpt_oss(dsb_config *c, const void *doc, const char *path, dsb_err *err) {
    const json_t *j = doc;
    double alpha = 1.702, limit = 7;
    c->names = &arch_names_gpt_oss;
    c->max_pos = 131072;
    c->rms_eps = 1e-5;
    /* Where config.json has no scaling, the family's own code has this one. */
    c->rope = (dsb_rope_config){.type = DSB_ROPE_YARN, .theta = 150000, .factor = 32, .amplitude = 0.1 * log(32) + 1, .beta_fast = 32, .beta_slow = 1, .original_max_pos = 4096};
    DSB_TRY(read_attention(c, j, path, false, err));
    DSB_TRY(arch_read_n_expert(c, j, path, true, err));
    INT("intermediate_size", true, 1, ARCH_MAX_FF, &c->d_ff_expert);
    c->qkv_bias = true;
    BOOL("attention_bias", false, &c->qkv_bias);
    c->o_bias = c->qkv_bias;
    REAL("swiglu_limit", false, &limit);
    REAL("swiglu_alpha", false, &alpha);
    DSB_TRY(arch_want_range(path, "swiglu_limit", limit, 1e-6, 1e6, err));
    DSB_TRY(arch_want_range(path, "swiglu_alpha", alpha, 1e-6, 1e6, err));
    c->swiglu_limit = (float)limit;
    c->swiglu_alpha = (float)alpha;
    c->sinks = c->router_linear_bias = c->expert_bias = true;
    all_layers(&c->moe, c->n_layer);
    for (int64_t l = 0; l < c->n_layer; l += 2) dsb_layer_add(&c->sliding, l);
    DSB_TRY(read_layer_types(c, j, path, err));
    c->window = json_object_get(j, "sliding_window") ? 0 : 128;
    DSB_TRY(read_window(c, j, path, err));
    /* softmax over the chosen experts' logits is their softmax over all, divided by its sum */
    c->router = (dsb_router_shape){.scoring = DSB_SCORE_SOFTMAX, .k = 4, .norm_topk = true};
    return arch_read_router(c, j, path, err);
}
