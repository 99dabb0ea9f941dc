/* The architectures, one row each, and what their readers share. Fields as the original modeling code of each family reads them. */
#include <stdio.h>
#include <string.h>

#include "engine/arch_internal.h"
#include "engine/gguf_model.h"

/* Fields that change nothing: bookkeeping of transformers, of training and of generation, and how weights are stored (the tensors say that themselves). */
static const char k_bookkeeping[] =
    "architectures model_type auto_map transformers_version torch_dtype dtype _name_or_path name_or_path use_cache attention_dropout initializer_range quantization_config compression_config"
    " bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id decoder_start_token_id tokenizer_class prefix task_specific_params problem_type finetuning_task id2label label2id num_labels"
    " output_attentions output_hidden_states output_router_logits router_aux_loss_coef router_jitter_noise return_dict use_return_dict torchscript use_bfloat16 tf_legacy_loss is_decoder is_encoder_decoder"
    " add_cross_attention cross_attention_hidden_size tie_encoder_decoder pruned_heads chunk_size_feed_forward max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature"
    " top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores return_dict_in_generate"
    " forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens attn_implementation _attn_implementation"
    " _attn_implementation_autoset _attn_implementation_internal experts_implementation _experts_implementation unsloth_fixed unsloth_version _commit_hash transformers.js_config pad_token";

bool arch_knows(const char *list, const char *key) {
    size_t n = strlen(key);
    for (const char *at = list; n > 0 && (at = strstr(at, key)); at += n)
        if ((at == list || at[-1] == ' ') && (at[n] == ' ' || at[n] == 0)) return !strchr(key, ' ');
    return false;
}

dsb_status arch_want_range(const char *path, const char *key, double x, double lo, double hi, dsb_err *err) {
    return x >= lo && x <= hi ? DSB_OK : dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is %g; %g to %g is wanted", path, key, x, lo, hi);
}

dsb_status arch_want_text(const json_t *j, const char *path, const char *key, const char *fallback, const char *a, const char *b, const char **out, dsb_err *err) {
    *out = fallback;
    TEXT(key, false, out);
    if (strcmp(*out, a) == 0 || (b && strcmp(*out, b) == 0)) return DSB_OK;
    return dsb_fail(err, DSB_EUNSUPPORTED, "%s: \"%s\" is \"%s\"; %s%s%s is wanted", path, key, *out, a, b ? " or " : "", b ? b : "");
}

dsb_status arch_read_size(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    const char *act;
    INT("num_hidden_layers", true, 1, DSB_MAX_LAYER, &c->n_layer);
    INT("hidden_size", true, 2, ARCH_MAX_DIM, &c->d_model);
    INT("vocab_size", true, 2, 1 << 24, &c->vocab);
    INT("max_position_embeddings", false, 1, INT32_MAX, &c->max_pos);
    INT("num_attention_heads", true, 1, ARCH_MAX_HEADS, &c->heads);
    REAL("rms_norm_eps", false, &c->rms_eps);
    if (!(c->rms_eps >= 0 && c->rms_eps < 1)) return dsb_fail(err, DSB_EINPUT, "%s: \"rms_norm_eps\" is %g; 0 to 1 is wanted", path, c->rms_eps);
    BOOL("tie_word_embeddings", false, &c->tied);
    DSB_TRY(arch_want_text(j, path, "hidden_act", "silu", "silu", NULL, &act, err));
    return c->d_model % 2 ? dsb_fail(err, DSB_EINPUT, "%s: \"hidden_size\" is %lld; it must be even", path, (long long)c->d_model) : DSB_OK;
}

dsb_status arch_read_n_expert(dsb_config *c, const json_t *j, const char *path, bool required, dsb_err *err) {
    static const char *const k_name[] = {"num_experts", "n_routed_experts", "num_local_experts"}; /* the last one is transformers 5's */
    const char *seen = NULL;
    for (int i = 0; i < 3; i++) {
        int64_t n = -1;
        INT(k_name[i], false, 0, ARCH_MAX_EXPERT, &n);
        if (n < 0) continue;
        if (seen && n != c->n_expert) return dsb_fail(err, DSB_EINPUT, "%s: \"%s\" is %lld, but \"%s\" is %lld; one number of experts is wanted", path, seen, (long long)c->n_expert, k_name[i], (long long)n);
        c->n_expert = n;
        seen = k_name[i];
    }
    return required && c->n_expert == 0 ? dsb_fail(err, DSB_EINPUT, "%s: \"num_experts\" (or num_local_experts) is missing", path) : DSB_OK;
}

dsb_status arch_read_router(dsb_config *c, const json_t *j, const char *path, dsb_err *err) {
    dsb_router_shape *r = &c->router;
    double scale = 1;
    r->n_expert = c->n_expert;
    r->n_group = r->topk_group = 1;
    r->scale = 1;
    if (c->n_expert == 0) return DSB_OK;
    INT("num_experts_per_tok", r->k == 0, 1, c->n_expert, &r->k);
    INT("n_group", false, 1, c->n_expert, &r->n_group);
    INT("topk_group", false, 1, r->n_group, &r->topk_group);
    REAL("routed_scaling_factor", false, &scale);
    DSB_TRY(arch_want_range(path, "routed_scaling_factor", scale, 1e-6, 1e6, err));
    r->scale = (float)scale;
    BOOL("norm_topk_prob", false, &r->norm_topk);
    if (c->n_expert % r->n_group) return dsb_fail(err, DSB_EINPUT, "%s: %lld experts don't split into %lld groups", path, (long long)c->n_expert, (long long)r->n_group);
    if (r->k > c->n_expert / r->n_group * r->topk_group)
        return dsb_fail(err, DSB_EINPUT, "%s: %lld experts a token can't be chosen from %lld groups of %lld", path, (long long)r->k, (long long)r->topk_group, (long long)(c->n_expert / r->n_group));
    return DSB_OK;
}

#define SIZE_FIELDS "num_hidden_layers hidden_size vocab_size max_position_embeddings num_attention_heads rms_norm_eps tie_word_embeddings hidden_act intermediate_size num_key_value_heads num_experts_per_tok" \
                    " num_experts n_routed_experts num_local_experts rope_theta rope_parameters rope_scaling attention_bias "
#define DEEPSEEK_FIELDS SIZE_FIELDS "moe_intermediate_size n_shared_experts first_k_dense_replace moe_layer_freq norm_topk_prob scoring_func mlp_bias pretraining_tp aux_loss_alpha seq_aux ep_size "
#define MLA_FIELDS DEEPSEEK_FIELDS "q_lora_rank kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim head_dim qk_head_dim n_group topk_group topk_method routed_scaling_factor rope_interleave num_nextn_predict_layers num_mtp_layers"
#define QWEN_FIELDS SIZE_FIELDS "head_dim moe_intermediate_size norm_topk_prob decoder_sparse_step mlp_only_layers sliding_window use_sliding_window max_window_layers layer_types "

static const dsb_arch_row k_arch[] = {
    {"DeepseekForCausalLM", "DeepSeek V1-MoE: softmax routing, shared experts", arch_read_deepseek_v1, DEEPSEEK_FIELDS},
    {"DeepseekV2ForCausalLM", "DeepSeek V2 and V2-Lite: MLA, YaRN, softmax routing, greedy or group-limited", arch_read_deepseek_v2, MLA_FIELDS},
    {"DeepseekV3ForCausalLM", "DeepSeek V3 and R1: MLA, YaRN, sigmoid routing with a correction bias, group-limited", arch_read_deepseek_v3, MLA_FIELDS},
    {"Qwen2MoeForCausalLM", "Qwen2-MoE: biases of q, k and v, a shared expert behind a sigmoid gate", arch_read_qwen2, QWEN_FIELDS "shared_expert_intermediate_size qkv_bias"},
    {"Qwen3MoeForCausalLM", "Qwen3-MoE: q and k normed head by head", arch_read_qwen3, QWEN_FIELDS "qkv_bias use_qk_norm shared_expert_intermediate_size"},
    {"MixtralForCausalLM", "Mixtral: gate weights of the chosen experts sum to 1, sliding window", arch_read_mixtral, SIZE_FIELDS "head_dim sliding_window"},
    {"OlmoeForCausalLM", "OLMoE: q and k normed over all heads, clip_qkv", arch_read_olmoe, SIZE_FIELDS "norm_topk_prob clip_qkv"},
    {"Glm4MoeForCausalLM", "GLM-4.5-MoE: partial RoPE, sigmoid routing with a correction bias, shared expert", arch_read_glm4,
     SIZE_FIELDS "head_dim moe_intermediate_size n_shared_experts first_k_dense_replace norm_topk_prob n_group topk_group routed_scaling_factor use_qk_norm partial_rotary_factor num_nextn_predict_layers num_mtp_layers"},
    {"GptOssForCausalLM", "GPT-OSS: attention sinks, alternating windows, clamped SwiGLU, biases, MXFP4 experts", arch_read_gpt_oss,
     SIZE_FIELDS "head_dim sliding_window layer_types swiglu_limit swiglu_alpha experts_per_token initial_context_length"},
};

int dsb_arch_list(const dsb_arch_row **rows) {
    *rows = k_arch;
    return (int)(sizeof k_arch / sizeof *k_arch);
}

/* A field that no reader knows may change the result; one that is null says nothing. */
static dsb_status check_fields(const dsb_arch_row *row, const json_t *doc, const char *path, dsb_err *err) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)doc, key, v)
        if (!json_is_null(v) && !arch_knows(k_bookkeeping, key) && !arch_knows(row->fields, key))
            return dsb_fail(err, DSB_EUNSUPPORTED, "%s: field \"%s\" is unknown for %s and may change the result; take it out if it does not", path, key, row->name);
    return DSB_OK;
}

static dsb_status read_config(dsb_config *out, const json_t *doc, const char *path, dsb_err *err) {
    const char *name = json_string_value(json_array_get(json_object_get(doc, "architectures"), 0));
    if (!name) return dsb_fail(err, DSB_EINPUT, "%s: \"architectures\" names no model class", path);
    char known[512] = "";
    for (size_t i = 0; i < sizeof k_arch / sizeof *k_arch; i++) {
        if (strcmp(k_arch[i].name, name) == 0) {
            snprintf(out->arch, sizeof out->arch, "%s", name);
            DSB_TRY(k_arch[i].read(out, doc, path, err));
            return check_fields(&k_arch[i], doc, path, err);
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
    if (dsb_gguf_is(dir)) {
        dsb_gguf_model m;
        DSB_TRY(dsb_gguf_model_open(&m, dir, err));
        dsb_status st = dsb_gguf_model_config(&m, &doc, err);
        if (!st) st = read_config(out, doc, dir, err);
        json_decref(doc);
        dsb_gguf_model_close(&m);
        return st;
    }
    if ((size_t)snprintf(path, sizeof path, "%s/config.json", dir) >= sizeof path) return dsb_fail(err, DSB_EINPUT, "%s: the path is too long", dir);
    DSB_TRY(dsb_json_load(&doc, path, err));
    dsb_status s = read_config(out, doc, path, err);
    json_decref(doc);
    return s;
}
