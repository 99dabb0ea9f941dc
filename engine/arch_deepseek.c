/* The DeepSeek families: V1-MoE, V2 and V2-Lite, V3 and R1. */
#include <math.h>
#include <string.h>

#include "engine/arch_internal.h"

const dsb_part_names arch_names_deepseek = {"mlp", "gate", "shared_experts", {"gate_proj", "up_proj", "down_proj"}};

/* What all three have. moe: which layers, in the original code's words. */
static dsb_status read_common(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    int64_t first_dense = 0, freq = 1;
    bool attention_bias = false, mlp_bias = false;
    c->names = &arch_names_deepseek;
    c->max_pos = 2048;
    c->rms_eps = 1e-6;
    c->rope = arch_rope_default(10000);
    DSB_TRY(arch_read_size(c, j, path, err));
    INT("intermediate_size", true, 1, ARCH_MAX_FF, &c->d_ff);
    INT("moe_intermediate_size", false, 1, ARCH_MAX_FF, &c->d_ff_expert);
    DSB_TRY(arch_read_n_expert(c, j, path, false, err));
    INT("n_shared_experts", false, 0, 1024, &c->n_shared);
    INT("first_k_dense_replace", false, 0, DSB_MAX_LAYER, &first_dense);
    INT("moe_layer_freq", false, 1, DSB_MAX_LAYER, &freq);
    for (int64_t l = first_dense; l < c->n_layer && c->n_expert > 0; l++)
        if (l % freq == 0) dsb_layer_add(&c->moe, l);
    BOOL("attention_bias", false, &attention_bias);
    BOOL("mlp_bias", false, &mlp_bias);
    if (mlp_bias) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"mlp_bias\": true can't be computed", path);
    if (c->n_expert > 0 && c->d_ff_expert == 0) return dsb_fail(err, DSB_EINPUT, "%s: \"moe_intermediate_size\" is missing", path);
    c->d_ff_shared = c->d_ff_expert * c->n_shared;
    c->qkv_bias = c->o_bias = attention_bias;
    return DSB_OK;
}

/* The original code of all three renormalises only where more than one expert is chosen. */
static void one_expert_is_never_normed(dsb_config *c) {
    if (c->router.k < 2) c->router.norm_topk = false;
}

dsb_status arch_read_deepseek_v1(dsb_config *c, const void *doc, const char *path, dsb_err *err) {
    const json_t *j = doc;
    const char *text;
    DSB_TRY(read_common(c, j, path, err));
    if (c->d_model % c->heads) return dsb_fail(err, DSB_EINPUT, "%s: %lld heads don't divide hidden_size, %lld", path, (long long)c->heads, (long long)c->d_model);
    c->kv_heads = c->heads;
    INT("num_key_value_heads", false, 1, c->heads, &c->kv_heads);
    if (c->heads % c->kv_heads) return dsb_fail(err, DSB_EINPUT, "%s: %lld heads don't split over %lld key-value heads", path, (long long)c->heads, (long long)c->kv_heads);
    c->rope_dim = c->v_dim = c->d_model / c->heads;
    if (c->rope_dim % 2) return dsb_fail(err, DSB_EINPUT, "%s: heads of %lld values can't be rotated; their size must be even", path, (long long)c->rope_dim);
    c->rope.half = true;
    c->attention_scale = (float)(1 / sqrt((double)c->rope_dim));
    DSB_TRY(arch_read_rope(c, j, path, "default linear", err));
    c->router.scoring = DSB_SCORE_SOFTMAX;
    DSB_TRY(arch_read_router(c, j, path, err));
    one_expert_is_never_normed(c);
    return arch_want_text(j, path, "scoring_func", "softmax", "softmax", NULL, &text, err);
}

/* V2 and V3: MLA and its RoPE. */
static dsb_status read_mla(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    bool interleave = true;
    DSB_TRY(read_common(c, j, path, err));
    c->kv_heads = c->heads;
    INT("q_lora_rank", false, 0, ARCH_MAX_DIM, &c->q_lora);
    INT("kv_lora_rank", true, 1, ARCH_MAX_DIM, &c->kv_lora);
    INT("qk_nope_head_dim", true, 1, 65536, &c->nope);
    INT("qk_rope_head_dim", true, 2, 65536, &c->rope_dim);
    INT("v_head_dim", true, 1, 65536, &c->v_dim);
    INT("num_nextn_predict_layers", false, 0, 64, &c->n_mtp);
    INT("num_mtp_layers", false, 0, 64, &c->n_mtp);
    if (c->rope_dim % 2) return dsb_fail(err, DSB_EINPUT, "%s: \"qk_rope_head_dim\" is %lld; it must be even", path, (long long)c->rope_dim);
    BOOL("rope_interleave", false, &interleave);
    c->rope.half = !interleave;
    DSB_TRY(arch_read_rope(c, j, path, "default linear yarn", err));
    double m = c->rope.type == DSB_ROPE_YARN && c->rope.mscale_all_dim != 0 && c->rope.factor > 1 ? 0.1 * c->rope.mscale_all_dim * log(c->rope.factor) + 1 : 1;
    c->attention_scale = (float)(m * m / sqrt((double)(c->nope + c->rope_dim)));
    return DSB_OK;
}

dsb_status arch_read_deepseek_v2(dsb_config *c, const void *doc, const char *path, dsb_err *err) {
    const json_t *j = doc;
    const char *text;
    DSB_TRY(read_mla(c, j, path, err));
    c->router.scoring = DSB_SCORE_SOFTMAX;
    c->router.group_rank = DSB_GROUP_MAX;
    DSB_TRY(arch_read_router(c, j, path, err));
    DSB_TRY(arch_want_text(j, path, "scoring_func", "softmax", "softmax", NULL, &text, err));
    DSB_TRY(arch_want_text(j, path, "topk_method", "greedy", "greedy", "group_limited_greedy", &text, err));
    if (strcmp(text, "greedy") == 0) c->router.n_group = c->router.topk_group = 1;
    one_expert_is_never_normed(c);
    return DSB_OK;
}

dsb_status arch_read_deepseek_v3(dsb_config *c, const void *doc, const char *path, dsb_err *err) {
    const json_t *j = doc;
    const char *text;
    DSB_TRY(read_mla(c, j, path, err));
    c->router.scoring = DSB_SCORE_SIGMOID;
    c->router.group_rank = DSB_GROUP_TOP2;
    c->router.norm_topk = c->router.scale_after_norm = true;
    DSB_TRY(arch_read_router(c, j, path, err));
    DSB_TRY(arch_want_text(j, path, "scoring_func", "sigmoid", "sigmoid", NULL, &text, err));
    DSB_TRY(arch_want_text(j, path, "topk_method", "noaux_tc", "noaux_tc", NULL, &text, err));
    if (c->router.n_group > 1 && c->n_expert / c->router.n_group < 2) return dsb_fail(err, DSB_EINPUT, "%s: %lld groups of one expert; groups are ranked by their two best, 2 or more are wanted", path, (long long)c->router.n_group);
    c->router_bias = true;
    one_expert_is_never_normed(c);
    return DSB_OK;
}
