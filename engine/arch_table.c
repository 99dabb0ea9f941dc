/* The architectures, one row each. Fields as the original modeling code of each family reads them. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "engine/arch.h"

enum { MAX_DIM = 1 << 20, MAX_LAYER = 4096, MAX_EXPERT = 65536 };

#define INT(key, required, lo, hi, out) DSB_TRY(dsb_json_int(j, path, key, required, lo, hi, out, err))
#define REAL(key, required, out) DSB_TRY(dsb_json_real(j, path, key, required, out, err))
#define BOOL(key, required, out) DSB_TRY(dsb_json_bool(j, path, key, required, out, err))

/* A number that is there and absurd is no model's: an error instead of NaN in every figure. */
static dsb_status want_range(const char *path, const char *key, double x, double lo, double hi, dsb_err *err) {
    return x >= lo && x <= hi ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is %g; %g to %g is wanted", path, key, x, lo, hi);
}

static double yarn_mscale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1; }

static dsb_status read_yarn(dsb_rope_config *r, const json_t *j, const char *path, dsb_err *err) {
    bool truncate = true;
    REAL("factor", true, &r->factor);
    REAL("beta_fast", false, &r->beta_fast);
    REAL("beta_slow", false, &r->beta_slow);
    REAL("mscale", false, &r->mscale);
    REAL("mscale_all_dim", false, &r->mscale_all_dim);
    INT("original_max_position_embeddings", true, 1, INT32_MAX, &r->original_max_pos);
    BOOL("truncate", false, &truncate);
    const json_t *amplitude = json_object_get(j, "attention_factor");
    if (!truncate || (amplitude && !json_is_null(amplitude)))
        return dsb_fail(err, DSB_EUNSUPPORTED, "%s: yarn with \"%s\" can't be computed; DeepSeek's own yarn (mscale, mscale_all_dim) is wanted", path, truncate ? "attention_factor" : "truncate");
    DSB_TRY(want_range(path, "factor", r->factor, 1, 1e6, err));
    DSB_TRY(want_range(path, "beta_slow", r->beta_slow, 1e-3, 1e6, err));
    DSB_TRY(want_range(path, "beta_fast", r->beta_fast, r->beta_slow, 1e6, err));
    DSB_TRY(want_range(path, "mscale", r->mscale, 0, 1e3, err));
    return want_range(path, "mscale_all_dim", r->mscale_all_dim, 0, 1e3, err);
}

/* transformers 5 writes "rope_parameters" with theta inside; before, "rope_theta" stood beside "rope_scaling". */
static dsb_status read_rope(dsb_config *c, const json_t *doc, const char *path, dsb_err *err) {
    const json_t *j = json_object_get(doc, "rope_parameters");
    const char *key = "rope_parameters", *type = "default";
    bool interleave = true;
    c->rope = (dsb_rope_config){.theta = 10000, .factor = 1, .beta_fast = 32, .beta_slow = 1, .mscale = 1, .mscale_all_dim = 0, .original_max_pos = 4096};
    DSB_TRY(dsb_json_real(doc, path, "rope_theta", false, &c->rope.theta, err));
    DSB_TRY(dsb_json_bool(doc, path, "rope_interleave", false, &interleave, err));
    if (!interleave) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"rope_interleave\": false can't be computed; checkpoints with interleaved RoPE pairs are wanted", path);
    if (!j || json_is_null(j)) j = json_object_get(doc, key = "rope_scaling");
    if (j && !json_is_null(j) && !json_is_object(j)) return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is no object; an object or null is wanted", path, key);
    REAL("rope_theta", false, &c->rope.theta);
    DSB_TRY(want_range(path, "rope_theta", c->rope.theta, 1.001, 1e15, err));
    DSB_TRY(dsb_json_string(j, path, "type", false, &type, err));
    DSB_TRY(dsb_json_string(j, path, "rope_type", false, &type, err));
    if (strcmp(type, "default") == 0) return DSB_OK;
    if (strcmp(type, "yarn") != 0) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: rope scaling of type \"%s\" can't be computed; default or yarn is wanted", path, type);
    return read_yarn(&c->rope, j, path, err);
}

/* Fields that both DeepSeek V2 and V3 have. */
static dsb_status read_deepseek(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    bool attention_bias = false;
    const char *act = "silu";
    INT("num_hidden_layers", true, 1, MAX_LAYER, &c->n_layer);
    INT("hidden_size", true, 2, MAX_DIM, &c->d_model);
    INT("vocab_size", true, 2, 1 << 24, &c->vocab);
    c->max_pos = 2048;
    INT("max_position_embeddings", false, 1, INT32_MAX, &c->max_pos);
    INT("num_attention_heads", true, 1, 65536, &c->heads);
    INT("q_lora_rank", false, 0, MAX_DIM, &c->q_lora);
    INT("kv_lora_rank", true, 1, MAX_DIM, &c->kv_lora);
    INT("qk_nope_head_dim", true, 1, 65536, &c->nope);
    INT("qk_rope_head_dim", true, 2, 65536, &c->rope_dim);
    INT("v_head_dim", true, 1, 65536, &c->v_dim);
    INT("intermediate_size", true, 1, 1 << 24, &c->d_ff);
    INT("moe_intermediate_size", false, 1, 1 << 24, &c->d_ff_expert);
    INT("num_local_experts", false, 0, MAX_EXPERT, &c->n_expert); /* transformers 5's name for it */
    INT("n_routed_experts", false, 0, MAX_EXPERT, &c->n_expert);
    INT("n_shared_experts", false, 0, 1024, &c->n_shared);
    INT("first_k_dense_replace", false, 0, MAX_LAYER, &c->first_dense);
    c->moe_freq = 1;
    INT("moe_layer_freq", false, 1, MAX_LAYER, &c->moe_freq);
    INT("num_nextn_predict_layers", false, 0, 64, &c->n_mtp);
    c->rms_eps = 1e-6;
    REAL("rms_norm_eps", false, &c->rms_eps);
    if (!(c->rms_eps >= 0 && c->rms_eps < 1)) return dsb_fail(err, DSB_EINPUT, "%s: \"rms_norm_eps\" is %g; 0 to 1 is wanted", path, c->rms_eps);
    BOOL("tie_word_embeddings", false, &c->tied);
    BOOL("attention_bias", false, &attention_bias);
    DSB_TRY(dsb_json_string(j, path, "hidden_act", false, &act, err));
    if (attention_bias) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"attention_bias\": true can't be computed yet", path);
    if (strcmp(act, "silu") != 0) return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"hidden_act\" is \"%s\"; silu is wanted", path, act);
    if (c->rope_dim % 2 || c->d_model % 2) return dsb_fail(err, DSB_EINPUT, "%s: hidden_size and qk_rope_head_dim must be even", path);
    if (c->n_expert > 0 && c->d_ff_expert == 0) return dsb_fail(err, DSB_EINPUT, "%s: \"moe_intermediate_size\" is missing", path);
    DSB_TRY(read_rope(c, j, path, err));
    double m = c->rope.mscale_all_dim != 0 ? yarn_mscale(c->rope.factor, c->rope.mscale_all_dim) : 1;
    c->attention_scale = (float)(m * m / sqrt((double)(c->nope + c->rope_dim)));
    return DSB_OK;
}

static dsb_status read_router(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    dsb_router_shape *r = &c->router;
    double scale = 1;
    r->n_expert = c->n_expert;
    r->n_group = r->topk_group = 1;
    if (c->n_expert == 0) return DSB_OK;
    INT("num_experts_per_tok", true, 1, c->n_expert, &r->k);
    INT("n_group", false, 1, c->n_expert, &r->n_group);
    INT("topk_group", false, 1, r->n_group, &r->topk_group);
    REAL("routed_scaling_factor", false, &scale);
    DSB_TRY(want_range(path, "routed_scaling_factor", scale, 1e-6, 1e6, err));
    r->scale = (float)scale;
    BOOL("norm_topk_prob", false, &r->norm_topk);
    if (c->n_expert % r->n_group) return dsb_fail(err, DSB_EINPUT, "%s: %lld experts don't split into %lld groups", path, (long long)c->n_expert, (long long)r->n_group);
    if (r->k > c->n_expert / r->n_group * r->topk_group)
        return dsb_fail(err, DSB_EINPUT, "%s: %lld experts a token can't be chosen from %lld groups of %lld", path, (long long)r->k, (long long)r->topk_group, (long long)(c->n_expert / r->n_group));
    return DSB_OK;
}

static dsb_status want_text(const json_t *j, const char *path, const char *key, const char *fallback, const char *a, const char *b, const char **out, dsb_err *err) {
    *out = fallback;
    DSB_TRY(dsb_json_string(j, path, key, false, out, err));
    if (strcmp(*out, a) == 0 || (b && strcmp(*out, b) == 0)) return DSB_OK;
    return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"%s\" is \"%s\"; %s%s%s is wanted", path, key, *out, a, b ? " or " : "", b ? b : "");
}

static dsb_status read_v2(dsb_config *c, const void *doc, const char *path, dsb_err *err) {
    const json_t *j = doc;
    const char *text;
    DSB_TRY(read_deepseek(c, j, path, err));
    DSB_TRY(read_router(c, j, path, err));
    DSB_TRY(want_text(j, path, "scoring_func", "softmax", "softmax", NULL, &text, err));
    DSB_TRY(want_text(j, path, "topk_method", "greedy", "greedy", "group_limited_greedy", &text, err));
    if (strcmp(text, "greedy") == 0) c->router.n_group = c->router.topk_group = 1;
    c->router.scoring = DSB_SCORE_SOFTMAX;
    c->router.group_rank = DSB_GROUP_MAX;
    c->router.scale_after_norm = false;
    /* The original V2 code renormalises only where more than one expert is chosen. */
    if (c->router.k < 2) c->router.norm_topk = false;
    return DSB_OK;
}

static dsb_status read_v3(dsb_config *c, const void *doc, const char *path, dsb_err *err) {
    const json_t *j = doc;
    const char *text;
    c->router.norm_topk = true;
    DSB_TRY(read_deepseek(c, j, path, err));
    DSB_TRY(read_router(c, j, path, err));
    DSB_TRY(want_text(j, path, "scoring_func", "sigmoid", "sigmoid", NULL, &text, err));
    DSB_TRY(want_text(j, path, "topk_method", "noaux_tc", "noaux_tc", NULL, &text, err));
    if (c->router.n_group > 1 && c->n_expert / c->router.n_group < 2) return dsb_fail(err, DSB_EINPUT, "%s: %lld groups of one expert; V3 ranks groups by their two best, 2 or more are wanted", path, (long long)c->router.n_group);
    c->router.scoring = DSB_SCORE_SIGMOID;
    c->router.group_rank = DSB_GROUP_TOP2;
    c->router.scale_after_norm = true;
    c->router_bias = true;
    if (c->router.k < 2) c->router.norm_topk = false;
    return DSB_OK;
}

static const dsb_arch_row k_arch[] = {
    {"DeepseekV2ForCausalLM", "DeepSeek V2 and V2-Lite: MLA, YaRN, softmax routing, greedy or group-limited", read_v2},
    {"DeepseekV3ForCausalLM", "DeepSeek V3 and R1: MLA, YaRN, sigmoid routing with a correction bias, group-limited", read_v3},
};

int dsb_arch_list(const dsb_arch_row **rows) {
    *rows = k_arch;
    return (int)(sizeof k_arch / sizeof *k_arch);
}

static dsb_status read_config(dsb_config *out, const json_t *doc, const char *path, dsb_err *err) {
    const char *name = json_string_value(json_array_get(json_object_get(doc, "architectures"), 0));
    if (!name) return dsb_fail(err, DSB_EINPUT, "%s: \"architectures\" names no model class", path);
    char known[256] = "";
    for (size_t i = 0; i < sizeof k_arch / sizeof *k_arch; i++) {
        if (strcmp(k_arch[i].name, name) == 0) {
            snprintf(out->arch, sizeof out->arch, "%s", name);
            return k_arch[i].read(out, doc, path, err);
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", k_arch[i].name);
    }
    return dsb_fail(err, DSB_EUNSUPPORTED, "%s: architecture \"%s\" is unknown; one of %s is wanted", path, name, known);
}

dsb_status dsb_config_load(dsb_config *out, const char *dir, dsb_err *err) {
    char path[4096];
    json_t *doc;
    *out = (dsb_config){0};
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", dir) >= sizeof path) return dsb_fail(err, DSB_EINPUT, "%s: the path is too long", dir);
    DSB_TRY(dsb_json_load(&doc, path, err));
    dsb_status s = read_config(out, doc, path, err);
    json_decref(doc);
    return s;
}

void dsb_rope_tables(const dsb_config *c, int64_t n_pos, float *cos_table, float *sin_table) {
    const dsb_rope_config *r = &c->rope;
    int64_t half = c->rope_dim / 2;
    double dim = (double)c->rope_dim;
    double low = floor(dim * log((double)r->original_max_pos / (r->beta_fast * 2 * M_PI)) / (2 * log(r->theta)));
    double high = ceil(dim * log((double)r->original_max_pos / (r->beta_slow * 2 * M_PI)) / (2 * log(r->theta)));
    if (low < 0) low = 0;
    if (high > dim - 1) high = dim - 1;
    if (high == low) high += 0.001;
    double amplitude = yarn_mscale(r->factor, r->mscale) / (r->mscale_all_dim != 0 ? yarn_mscale(r->factor, r->mscale_all_dim) : 1);
    for (int64_t i = 0; i < half; i++) {
        double freq = pow(r->theta, -2.0 * (double)i / dim);
        if (r->factor > 1) {
            double ramp = ((double)i - low) / (high - low);
            ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
            freq = freq / r->factor * ramp + freq * (1 - ramp);
        }
        float f = (float)freq; /* the models' code keeps frequencies and angles in f32 */
        for (int64_t p = 0; p < n_pos; p++) {
            float angle = (float)p * f;
            cos_table[p * half + i] = (float)(cos((double)angle) * amplitude);
            sin_table[p * half + i] = (float)(sin((double)angle) * amplitude);
        }
    }
}
