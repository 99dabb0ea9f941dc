/* config.json: what is read, old and new spellings, defaults, and a message for what is missing, wrong, absurd or can't be computed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "engine/model_check.h"
#include "engine/safetensors_write.h"
#include "tests/unit/temp_files.h"

static const char k_v3[] = "{\"architectures\": [\"DeepseekV3ForCausalLM\"], \"vocab_size\": 64, \"hidden_size\": 8, \"num_hidden_layers\": 2, \"first_k_dense_replace\": 1, \"num_attention_heads\": 2, \"q_lora_rank\": 4,"
                           " \"kv_lora_rank\": 4, \"qk_nope_head_dim\": 4, \"qk_rope_head_dim\": 4, \"v_head_dim\": 4, \"intermediate_size\": 8, \"moe_intermediate_size\": 4, \"n_routed_experts\": 8,"
                           " \"n_shared_experts\": 1, \"num_experts_per_tok\": 2, \"n_group\": 4, \"topk_group\": 2, \"routed_scaling_factor\": 2.5, \"rms_norm_eps\": 1e-5, \"max_position_embeddings\": 128}";
static const char k_v2_patch[] = "{\"architectures\": [\"DeepseekV2ForCausalLM\"], \"q_lora_rank\": null, \"topk_method\": \"greedy\", \"n_group\": 1, \"topk_group\": 1}";
#define YARN "\"factor\": 40, \"original_max_position_embeddings\": 4096"

static json_t *parse(const char *text) {
    json_t *doc;
    dsb_err err;
    if (dsb_json_parse(&doc, "test", text, strlen(text), &err)) fail_msg("%s: %s", err.text, text);
    return doc;
}

/* A family's config.json with keys replaced; "-key" in the patch takes a key away. */
static void put_config_of(temp_dir *t, const char *family, const char *patch) {
    json_t *doc = parse(family), *p = parse(patch), *v;
    const char *key;
    json_object_foreach(p, key, v) {
        if (key[0] == '-') json_object_del(doc, key + 1);
        else json_object_set(doc, key, v);
    }
    char *text = json_dumps(doc, 0);
    temp_text(t, "config.json", text);
    free(text);
    json_decref(p);
    json_decref(doc);
}

static void put_config(temp_dir *t, const char *patch) { put_config_of(t, k_v3, patch); }

static dsb_config load(temp_dir *t, const char *patch) {
    dsb_config c;
    dsb_err err;
    put_config(t, patch);
    if (dsb_config_load(&c, t->path, &err)) fail_msg("%s: %s", err.text, patch);
    return c;
}

static void test_arch__v3(void **state) {
    temp_dir t;
    temp_make(&t);
    dsb_config c = load(&t, "{}");
    assert_string_equal(c.arch, "DeepseekV3ForCausalLM");
    assert_true(c.n_layer == 2 && c.d_model == 8 && c.vocab == 64 && c.max_pos == 128 && c.heads == 2 && c.q_lora == 4 && c.kv_lora == 4);
    assert_true(c.nope == 4 && c.rope_dim == 4 && c.v_dim == 4 && c.d_ff == 8 && c.d_ff_expert == 4 && c.n_expert == 8 && c.n_shared == 1);
    assert_true(c.router.k == 2 && c.router.n_group == 4 && c.router.topk_group == 2 && c.router.scale == 2.5f && c.router.norm_topk);
    assert_true(c.router.scoring == DSB_SCORE_SIGMOID && c.router.group_rank == DSB_GROUP_TOP2 && c.router_bias && !c.tied && c.n_mtp == 0);
    assert_true(c.rms_eps == 1e-5 && c.rope.theta == 10000 && c.rope.factor == 1);
    assert_true(c.attention_scale == (float)(1 / sqrt(8)));
    assert_true(!dsb_layer_is_moe(&c, 0) && dsb_layer_is_moe(&c, 1));
    temp_remove(&t);
}

static void test_arch__v2(void **state) {
    temp_dir t;
    temp_make(&t);
    dsb_config c = load(&t, k_v2_patch);
    assert_true(c.q_lora == 0 && c.router.n_group == 1 && !c.router_bias && !c.router.norm_topk);
    assert_true(c.router.scoring == DSB_SCORE_SOFTMAX && c.router.group_rank == DSB_GROUP_MAX);
    c = load(&t, "{\"architectures\": [\"DeepseekV2ForCausalLM\"], \"topk_method\": \"group_limited_greedy\", \"norm_topk_prob\": true}");
    assert_true(c.router.n_group == 4 && c.router.topk_group == 2 && c.router.norm_topk);
    c = load(&t, "{\"architectures\": [\"DeepseekV2ForCausalLM\"], \"topk_method\": \"greedy\", \"norm_topk_prob\": true, \"num_experts_per_tok\": 1}");
    assert_true(c.router.n_group == 1 && !c.router.norm_topk); /* greedy knows no groups; one expert is never renormalized */
    temp_remove(&t);
}

static void same(const dsb_config *a, const dsb_config *b) {
    enum { POS = 9 };
    float x[2][2 * POS * 2], y[2][2 * POS * 2];
    assert_true(a->rope_dim == 4 && b->rope_dim == 4 && a->rope.half == b->rope.half);
    dsb_rope_tables(a, POS, x[0], x[1]);
    dsb_rope_tables(b, POS, y[0], y[1]);
    for (int i = 0; i < 2; i++) assert_memory_equal(x[i], y[i], POS * 2 * sizeof **x);
    assert_true(a->n_expert == b->n_expert && a->router.n_expert == b->router.n_expert && a->attention_scale == b->attention_scale);
}

static void test_arch__old_and_new_spellings_agree(void **state) {
    temp_dir t;
    temp_make(&t);
    dsb_config old = load(&t, "{\"rope_theta\": 50000, \"rope_scaling\": {\"type\": \"yarn\", " YARN ", \"mscale\": 0.7, \"mscale_all_dim\": 0.8}}");
    dsb_config new = load(&t, "{\"-n_routed_experts\": 0, \"num_local_experts\": 8, \"rope_parameters\": {\"rope_theta\": 50000, \"rope_type\": \"yarn\", " YARN ", \"mscale\": 0.7, \"mscale_all_dim\": 0.8}}");
    assert_true(old.rope.theta == 50000 && old.rope.factor == 40 && old.rope.mscale == 0.7 && old.rope.original_max_pos == 4096 && old.rope.beta_fast == 32 && old.rope.beta_slow == 1);
    same(&old, &new);
    double m = 0.1 * 0.8 * log(40) + 1;
    assert_true(fabs(old.attention_scale - m * m / sqrt(8)) < 1e-7); /* f32 has 24 bits: 0.5 ulp of 0.6 is 3e-8 */
    old = load(&t, "{\"rope_scaling\": null, \"rope_theta\": 50000}");
    new = load(&t, "{\"rope_scaling\": null, \"rope_parameters\": {\"rope_theta\": 50000, \"rope_type\": \"default\"}}");
    same(&old, &new);
    new = load(&t, "{\"rope_parameters\": {\"rope_type\": \"default\"}, \"rope_theta\": 50000}");
    same(&old, &new);
    temp_remove(&t);
}

static void test_arch__rope_tables(void **state) {
    temp_dir t;
    float cos_table[3 * 2], sin_table[3 * 2];
    temp_make(&t);
    dsb_config c = load(&t, "{}");
    dsb_rope_tables(&c, 3, cos_table, sin_table);
    for (int p = 0; p < 3; p++)
        for (int i = 0; i < 2; i++) { /* θ^(-2i/4): 1 and 0.01; angles are f32, at most 2: half an ulp is 1.2e-7 */
            double angle = p * (i ? 0.01 : 1);
            assert_true(fabs(cos_table[2 * p + i] - cos(angle)) < 3e-7 && fabs(sin_table[2 * p + i] - sin(angle)) < 3e-7);
        }
    temp_remove(&t);
}

static const struct {
    const char *patch, *part, *part2;
    dsb_status status;
} k_bad[] = {
    {"{\"-architectures\": 0}", "\"architectures\" names no model class", NULL, DSB_EINPUT},
    {"{\"architectures\": \"DeepseekV3ForCausalLM\"}", "\"architectures\" names no model class", NULL, DSB_EINPUT},
    {"{\"architectures\": [3]}", "\"architectures\" names no model class", NULL, DSB_EINPUT},
    {"{\"architectures\": [\"LlamaForCausalLM\"]}", "architecture \"LlamaForCausalLM\" is unknown", "DeepseekV2ForCausalLM, DeepseekV3ForCausalLM, Qwen2MoeForCausalLM", DSB_EUNSUPPORTED},
    {"{\"-hidden_size\": 0}", "\"hidden_size\" is missing", NULL, DSB_EINPUT},
    {"{\"hidden_size\": null}", "\"hidden_size\" is missing", NULL, DSB_EINPUT},
    {"{\"hidden_size\": \"8\"}", "\"hidden_size\" is a string", "an integer is wanted", DSB_EINPUT},
    {"{\"hidden_size\": 8.0}", "\"hidden_size\" is a real number", NULL, DSB_EINPUT},
    {"{\"hidden_size\": 9}", "must be even", NULL, DSB_EINPUT},
    {"{\"hidden_size\": 1073741824}", "\"hidden_size\" is 1073741824; 2 to 1048576 is wanted", NULL, DSB_EINPUT},
    {"{\"num_hidden_layers\": 0}", "\"num_hidden_layers\" is 0", NULL, DSB_EINPUT},
    {"{\"num_hidden_layers\": 9223372036854775807}", "\"num_hidden_layers\" is 9223372036854775807", NULL, DSB_EINPUT},
    {"{\"vocab_size\": -1}", "\"vocab_size\" is -1", NULL, DSB_EINPUT},
    {"{\"num_attention_heads\": 0}", "\"num_attention_heads\" is 0", NULL, DSB_EINPUT},
    {"{\"kv_lora_rank\": 0}", "\"kv_lora_rank\" is 0", NULL, DSB_EINPUT},
    {"{\"qk_rope_head_dim\": 3}", "must be even", NULL, DSB_EINPUT},
    {"{\"moe_layer_freq\": 0}", "\"moe_layer_freq\" is 0", NULL, DSB_EINPUT},
    {"{\"-moe_intermediate_size\": 0}", "\"moe_intermediate_size\" is missing", NULL, DSB_EINPUT},
    {"{\"-num_experts_per_tok\": 0}", "\"num_experts_per_tok\" is missing", NULL, DSB_EINPUT},
    {"{\"num_experts_per_tok\": 9}", "\"num_experts_per_tok\" is 9; 1 to 8 is wanted", NULL, DSB_EINPUT},
    {"{\"num_experts_per_tok\": 5}", "5 experts a token can't be chosen from 2 groups of 2", NULL, DSB_EINPUT},
    {"{\"n_group\": 3}", "8 experts don't split into 3 groups", NULL, DSB_EINPUT},
    {"{\"n_group\": 8, \"topk_group\": 4}", "8 groups of one expert", "2 or more are wanted", DSB_EINPUT},
    {"{\"topk_group\": 5}", "\"topk_group\" is 5; 1 to 4 is wanted", NULL, DSB_EINPUT},
    {"{\"routed_scaling_factor\": 0}", "\"routed_scaling_factor\" is 0;", "is wanted", DSB_EINPUT},
    {"{\"routed_scaling_factor\": 1e300}", "\"routed_scaling_factor\" is 1e+300", NULL, DSB_EINPUT},
    {"{\"norm_topk_prob\": 1}", "\"norm_topk_prob\" is an integer", "true or false is wanted", DSB_EINPUT},
    {"{\"rms_norm_eps\": -1e-6}", "\"rms_norm_eps\" is -1e-06; 0 to 1 is wanted", NULL, DSB_EINPUT},
    {"{\"rms_norm_eps\": \"1e-6\"}", "\"rms_norm_eps\" is a string", NULL, DSB_EINPUT},
    {"{\"rope_theta\": 1}", "\"rope_theta\" is 1;", NULL, DSB_EINPUT},
    {"{\"rope_parameters\": {\"rope_theta\": -5}}", "\"rope_theta\" is -5;", NULL, DSB_EINPUT},
    {"{\"rope_scaling\": \"yarn\"}", "\"rope_scaling\" is no object", NULL, DSB_EINPUT},
    {"{\"rope_parameters\": [1]}", "\"rope_parameters\" is no object", NULL, DSB_EINPUT},
    {"{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}", "rope scaling of type \"dynamic\" can't be computed", "yarn", DSB_EUNSUPPORTED},
    {"{\"rope_scaling\": {\"type\": \"linear\"}}", "\"factor\" is missing", NULL, DSB_EINPUT},
    {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2, \"scale_mode\": 1}}", "\"scale_mode\" in \"rope_scaling\" is unknown", NULL, DSB_EUNSUPPORTED},
    {"{\"use_mystery\": false}", "field \"use_mystery\" is unknown for DeepseekV3ForCausalLM", "may change the result", DSB_EUNSUPPORTED},
    {"{\"num_experts\": 4}", "\"num_experts\" is 4, but \"n_routed_experts\" is 8", NULL, DSB_EINPUT},
    {"{\"mlp_bias\": true}", "\"mlp_bias\": true can't be computed", NULL, DSB_EUNSUPPORTED},
    {"{\"rope_parameters\": {\"rope_type\": \"llama3\"}}", "rope scaling of type \"llama3\"", NULL, DSB_EUNSUPPORTED},
    {"{\"rope_scaling\": {\"type\": \"yarn\", \"original_max_position_embeddings\": 4096}}", "\"factor\" is missing", NULL, DSB_EINPUT},
    {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}}", "\"original_max_position_embeddings\" is missing", NULL, DSB_EINPUT},
    {"{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 0.5, \"original_max_position_embeddings\": 4096}}", "\"factor\" is 0.5; 1 to 1e+06 is wanted", NULL, DSB_EINPUT},
    {"{\"rope_scaling\": {\"type\": \"yarn\", " YARN ", \"beta_slow\": 0}}", "\"beta_slow\" is 0;", NULL, DSB_EINPUT},
    {"{\"rope_scaling\": {\"type\": \"yarn\", " YARN ", \"beta_fast\": 0.5}}", "\"beta_fast\" is 0.5; 1 to 1e+06 is wanted", NULL, DSB_EINPUT},
    {"{\"rope_scaling\": {\"type\": \"yarn\", " YARN ", \"mscale\": -1}}", "\"mscale\" is -1", NULL, DSB_EINPUT},
    {"{\"rope_scaling\": {\"type\": \"yarn\", " YARN ", \"mscale_all_dim\": 1e9}}", "\"mscale_all_dim\" is 1e+09", NULL, DSB_EINPUT},
    {"{\"rope_scaling\": {\"type\": \"yarn\", " YARN ", \"attention_factor\": 1.2}}", "yarn with \"attention_factor\" can't be computed", NULL, DSB_EUNSUPPORTED},
    {"{\"rope_scaling\": {\"type\": \"yarn\", " YARN ", \"truncate\": false}}", "yarn with \"truncate\" can't be computed", NULL, DSB_EUNSUPPORTED},
    {"{\"hidden_act\": \"gelu\"}", "\"hidden_act\" is \"gelu\"; silu is wanted", NULL, DSB_EUNSUPPORTED},
    {"{\"scoring_func\": \"softmax\"}", "\"scoring_func\" is \"softmax\"; sigmoid is wanted", NULL, DSB_EUNSUPPORTED},
    {"{\"topk_method\": \"greedy\"}", "\"topk_method\" is \"greedy\"; noaux_tc is wanted", NULL, DSB_EUNSUPPORTED},
    {"{\"architectures\": [\"DeepseekV2ForCausalLM\"], \"topk_method\": \"noaux_tc\"}", "\"topk_method\" is \"noaux_tc\"; greedy or group_limited_greedy is wanted", NULL, DSB_EUNSUPPORTED},
};

static void test_arch__bad_configs_say_why(void **state) {
    temp_dir t;
    dsb_config c;
    dsb_err err;
    temp_make(&t);
    for (size_t i = 0; i < sizeof k_bad / sizeof *k_bad; i++) {
        put_config(&t, k_bad[i].patch);
        dsb_status s = dsb_config_load(&c, t.path, &err);
        refused(s, &err, k_bad[i].status, t.file, k_bad[i].part);
        refused(s, &err, k_bad[i].status, k_bad[i].part2 ? k_bad[i].part2 : "", NULL);
    }
    temp_text(&t, "config.json", "{\"architectures\": ");
    refused(dsb_config_load(&c, t.path, &err), &err, DSB_EINPUT, t.file, "not valid JSON");
    temp_text(&t, "config.json", "[]");
    refused(dsb_config_load(&c, t.path, &err), &err, DSB_EINPUT, t.file, "\"architectures\" names no model class");
    refused(dsb_config_load(&c, "/nonexistent", &err), &err, DSB_EINPUT, "/nonexistent/config.json: can't be opened", NULL);
    char deep[5000];
    memset(deep, 'd', sizeof deep - 1);
    deep[sizeof deep - 1] = 0;
    refused(dsb_config_load(&c, deep, &err), &err, DSB_EINPUT, "ddd", NULL);
    temp_remove(&t);
}

/* One small config a family; what each reader makes of it, and of its options. */
#define SIZE "\"vocab_size\": 64, \"hidden_size\": 16, \"num_hidden_layers\": 4, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"num_experts_per_tok\": 2, "
static const char k_v1[] = "{\"architectures\": [\"DeepseekForCausalLM\"], " SIZE "\"intermediate_size\": 8, \"moe_intermediate_size\": 4, \"n_routed_experts\": 8, \"n_shared_experts\": 2, \"first_k_dense_replace\": 1}";
static const char k_qwen2[] = "{\"architectures\": [\"Qwen2MoeForCausalLM\"], " SIZE "\"intermediate_size\": 8, \"moe_intermediate_size\": 4, \"num_experts\": 8, \"shared_expert_intermediate_size\": 6}";
static const char k_qwen3[] = "{\"architectures\": [\"Qwen3MoeForCausalLM\"], " SIZE "\"intermediate_size\": 8, \"moe_intermediate_size\": 4, \"num_experts\": 8, \"head_dim\": 6}";
static const char k_mixtral[] = "{\"architectures\": [\"MixtralForCausalLM\"], " SIZE "\"intermediate_size\": 8, \"num_local_experts\": 8}";
static const char k_olmoe[] = "{\"architectures\": [\"OlmoeForCausalLM\"], " SIZE "\"intermediate_size\": 8, \"num_experts\": 8}";
static const char k_glm4[] = "{\"architectures\": [\"Glm4MoeForCausalLM\"], " SIZE "\"intermediate_size\": 8, \"moe_intermediate_size\": 4, \"n_routed_experts\": 8, \"head_dim\": 8}";
static const char k_gpt_oss[] = "{\"architectures\": [\"GptOssForCausalLM\"], " SIZE "\"intermediate_size\": 8, \"num_local_experts\": 8, \"head_dim\": 8}";

static dsb_config load_family(temp_dir *t, const char *family, const char *patch) {
    dsb_config c;
    dsb_err err;
    put_config_of(t, family, patch);
    if (dsb_config_load(&c, t->path, &err)) fail_msg("%s: %s", err.text, patch);
    return c;
}

/* Which of the four layers are in the set, lowest bit first. */
static int layers(const dsb_layer_set *s) {
    int bits = 0;
    for (int l = 0; l < 4; l++) bits |= (int)dsb_layer_in(s, l) << l;
    return bits;
}

static void test_arch__families(void **state) {
    temp_dir t;
    temp_make(&t);
    dsb_config c = load_family(&t, k_v1, "{\"moe_layer_freq\": 2, \"norm_topk_prob\": true}");
    assert_true(c.kv_lora == 0 && c.kv_heads == 2 && c.rope_dim == 4 && c.nope == 0 && c.v_dim == 4 && c.rope.half && !c.qkv_bias && c.d_ff_shared == 8 && layers(&c.moe) == 4);
    assert_true(c.router.scoring == DSB_SCORE_SOFTMAX && c.router.norm_topk && c.router.scale == 1 && !c.router_bias);
    c = load_family(&t, k_qwen2, "{}");
    assert_true(c.qkv_bias && !c.o_bias && c.shared_gate && c.d_ff_shared == 6 && layers(&c.moe) == 15 && layers(&c.sliding) == 0 && !c.router.norm_topk && c.rope.theta == 10000 && !c.head_norm);
    c = load_family(&t, k_qwen2, "{\"decoder_sparse_step\": 2, \"mlp_only_layers\": [3, 99], \"use_sliding_window\": true, \"sliding_window\": 7, \"max_window_layers\": 3}");
    assert_true(layers(&c.moe) == 2 && layers(&c.sliding) == 5 && c.window == 7);
    c = load_family(&t, k_qwen2, "{\"use_sliding_window\": true, \"sliding_window\": 7, \"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\", \"full_attention\"]}");
    assert_true(layers(&c.sliding) == 2);
    c = load_family(&t, k_qwen3, "{\"attention_bias\": true, \"sliding_window\": 5, \"-num_experts\": 0, \"num_local_experts\": 4}");
    assert_true(c.head_norm && c.qkv_bias && c.o_bias && c.n_expert == 4 && c.rope_dim == 6 && layers(&c.sliding) == 0 && c.n_shared == 0);
    c = load_family(&t, k_qwen3, "{\"use_sliding_window\": true, \"sliding_window\": 5}");
    assert_true(layers(&c.sliding) == 15 && c.window == 5);
    c = load_family(&t, k_mixtral, "{}");
    assert_true(c.d_ff_expert == 8 && c.router.norm_topk && c.rope.theta == 1e6 && layers(&c.sliding) == 0 && strcmp(c.names->moe, "block_sparse_moe") == 0);
    c = load_family(&t, k_mixtral, "{\"sliding_window\": 3, \"head_dim\": 10}");
    assert_true(layers(&c.sliding) == 15 && c.window == 3 && c.v_dim == 10);
    c = load_family(&t, k_olmoe, "{\"clip_qkv\": 2.5, \"tie_word_embeddings\": true}");
    assert_true(c.whole_norm && c.clip_qkv == 2.5 && c.tied && !c.router.norm_topk);
    c = load_family(&t, k_glm4, "{\"num_nextn_predict_layers\": 1}");
    assert_true(c.rope_dim == 4 && c.nope == 4 && c.v_dim == 8 && layers(&c.moe) == 14 && c.router_bias && c.router.scale_after_norm && c.router.norm_topk && !c.head_norm && !c.qkv_bias && c.n_mtp == 1);
    c = load_family(&t, k_glm4, "{\"rope_parameters\": {\"rope_type\": \"default\", \"partial_rotary_factor\": 0.25}, \"use_qk_norm\": true, \"attention_bias\": true}");
    assert_true(c.rope_dim == 2 && c.nope == 6 && c.head_norm && c.qkv_bias && !c.o_bias);
    c = load_family(&t, k_gpt_oss, "{}");
    assert_true(c.sinks && c.qkv_bias && c.o_bias && c.expert_bias && c.router_linear_bias && c.window == 128 && layers(&c.sliding) == 5 && c.swiglu_limit == 7 && c.router.norm_topk);
    assert_true(c.rope.type == DSB_ROPE_YARN && c.rope.factor == 32 && !c.rope.truncate && c.rope.theta == 150000);
    c = load_family(&t, k_gpt_oss, "{\"sliding_window\": null, \"rope_parameters\": {\"rope_type\": \"default\"}}");
    assert_true(layers(&c.sliding) == 0 && c.rope.type == DSB_ROPE_DEFAULT && c.rope.amplitude == 1);
    temp_remove(&t);
}

static void test_arch__scalings(void **state) {
    enum { POS = 3 };
    float x[2][2 * POS], y[2][2 * POS];
    temp_dir t;
    temp_make(&t);
    dsb_config plain = load_family(&t, k_mixtral, "{\"rope_theta\": 10000}"); /* frequencies 1 and 0.01 */
    dsb_config c = load_family(&t, k_mixtral, "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"rope_theta\": 10000}");
    dsb_rope_tables(&plain, POS, x[0], x[1]);
    dsb_rope_tables(&c, POS, y[0], y[1]);
    for (int i = 0; i < 2; i++) assert_true(y[0][2 * 2 + i] == x[0][2 * 1 + i]); /* position 2 is position 1, exactly: halving is */
    /* llama3 over 64 positions: frequency 1 turns 10 times, more than 4: kept; 0.01 turns 0.1 times, less than 1: divided by 8. */
    c = load_family(&t, k_mixtral, "{\"rope_theta\": 10000, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, \"high_freq_factor\": 4, \"original_max_position_embeddings\": 64}}");
    dsb_rope_tables(&c, POS, y[0], y[1]);
    assert_true(y[0][2] == x[0][2] && fabs(y[1][3] - sin(0.01 / 8)) < 1e-9); /* half an ulp of 1.25e-3 is 6e-11, the frequency's as much */
    c = load_family(&t, k_mixtral, "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}}");
    assert_true(c.rope.original_max_pos == c.max_pos && c.rope.amplitude == 0.1 * log(4) + 1);
    c = load_family(&t, k_mixtral, "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4, \"attention_factor\": 1.5, \"truncate\": false}}");
    assert_true(c.rope.amplitude == 1.5 && !c.rope.truncate);
    temp_remove(&t);
}

static const struct {
    const char *family, *patch, *part;
    dsb_status status;
} k_bad_family[] = {
    {k_v1, "{\"num_key_value_heads\": 3}", "4 heads don't split over 3 key-value heads", DSB_EINPUT},
    {k_v1, "{\"num_attention_heads\": 3, \"num_key_value_heads\": 3}", "3 heads don't divide hidden_size, 16", DSB_EINPUT},
    {k_v1, "{\"scoring_func\": \"sigmoid\"}", "\"scoring_func\" is \"sigmoid\"", DSB_EUNSUPPORTED},
    {k_v1, "{\"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}}", "type \"yarn\" can't be computed; one of default linear is wanted", DSB_EUNSUPPORTED},
    {k_v1, "{\"kv_lora_rank\": 4}", "field \"kv_lora_rank\" is unknown for DeepseekForCausalLM", DSB_EUNSUPPORTED},
    {k_qwen2, "{\"-num_experts\": 0}", "\"num_experts\" (or num_local_experts) is missing", DSB_EINPUT},
    {k_qwen2, "{\"mlp_only_layers\": 3}", "\"mlp_only_layers\" is no array", DSB_EINPUT},
    {k_qwen2, "{\"mlp_only_layers\": [-1]}", "\"mlp_only_layers\"[0] is no layer's number", DSB_EINPUT},
    {k_qwen2, "{\"decoder_sparse_step\": 0}", "\"decoder_sparse_step\" is 0", DSB_EINPUT},
    {k_qwen2, "{\"layer_types\": [\"full_attention\"]}", "\"layer_types\" must be an array of 4 names", DSB_EINPUT},
    {k_qwen2, "{\"attention_bias\": true}", "\"attention_bias\" is true; this family has only false", DSB_EUNSUPPORTED},
    {k_qwen2, "{\"use_qk_norm\": false}", "field \"use_qk_norm\" is unknown for Qwen2MoeForCausalLM", DSB_EUNSUPPORTED},
    {k_qwen3, "{\"use_qk_norm\": false}", "\"use_qk_norm\" is false; this family has only true", DSB_EUNSUPPORTED},
    {k_qwen3, "{\"head_dim\": 5}", "5 of a head's 5 values are rotated; an even number is wanted", DSB_EINPUT},
    {k_qwen3, "{\"partial_rotary_factor\": 0.5}", "\"partial_rotary_factor\" is 0.5; 1 to 1 is wanted", DSB_EINPUT},
    {k_qwen3, "{\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 4}}", "type \"longrope\"", DSB_EUNSUPPORTED},
    {k_qwen3, "{\"rope_parameters\": {\"full_attention\": {}}}", "\"full_attention\" in \"rope_parameters\" is unknown", DSB_EUNSUPPORTED},
    {k_qwen3, "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 4, \"low_freq_factor\": 4, \"high_freq_factor\": 4}}", "\"high_freq_factor\" is 4; more than low_freq_factor", DSB_EINPUT},
    {k_mixtral, "{\"sliding_window\": 0}", "\"sliding_window\" is 0", DSB_EINPUT},
    {k_mixtral, "{\"num_experts_per_tok\": 9}", "\"num_experts_per_tok\" is 9; 1 to 8", DSB_EINPUT},
    {k_mixtral, "{\"-num_experts_per_tok\": 0, \"num_local_experts\": 1}", "2 experts a token can't be chosen", DSB_EINPUT},
    {k_olmoe, "{\"clip_qkv\": -1}", "\"clip_qkv\" is -1", DSB_EINPUT},
    {k_olmoe, "{\"head_dim\": 8}", "field \"head_dim\" is unknown for OlmoeForCausalLM", DSB_EUNSUPPORTED},
    {k_glm4, "{\"partial_rotary_factor\": 0}", "\"partial_rotary_factor\" is 0", DSB_EINPUT},
    {k_glm4, "{\"partial_rotary_factor\": 0.2}", "1 of a head's 8 values are rotated", DSB_EINPUT},
    {k_glm4, "{\"n_group\": 8, \"topk_group\": 4}", "8 groups of one expert", DSB_EINPUT},
    {k_gpt_oss, "{\"layer_types\": [\"full_attention\", \"chunked_attention\", \"full_attention\", \"full_attention\"]}", "\"layer_types\"[1] is chunked_attention", DSB_EUNSUPPORTED},
    {k_gpt_oss, "{\"layer_types\": [1, 2, 3, 4]}", "\"layer_types\"[0] is no string", DSB_EUNSUPPORTED},
    {k_gpt_oss, "{\"swiglu_limit\": 0}", "\"swiglu_limit\" is 0", DSB_EINPUT},
    {k_gpt_oss, "{\"hidden_act\": \"gelu\"}", "\"hidden_act\" is \"gelu\"", DSB_EUNSUPPORTED},
};

static void test_arch__bad_families_say_why(void **state) {
    temp_dir t;
    dsb_config c;
    dsb_err err;
    temp_make(&t);
    for (size_t i = 0; i < sizeof k_bad_family / sizeof *k_bad_family; i++) {
        put_config_of(&t, k_bad_family[i].family, k_bad_family[i].patch);
        dsb_status s = dsb_config_load(&c, t.path, &err);
        refused(s, &err, k_bad_family[i].status, t.file, k_bad_family[i].part);
    }
    temp_remove(&t);
}

/* The tensors that a V3 model of k_v3 has, by name and shape: written one by one below, all zeros. */
static const struct {
    const char *name;
    int64_t rows, cols;
} k_tensors[] = {
    {"model.embed_tokens.weight", 64, 8},
    {"lm_head.weight", 64, 8},
    {"model.norm.weight", 8, 0},
    {"model.layers.%d.input_layernorm.weight", 8, 0},
    {"model.layers.%d.post_attention_layernorm.weight", 8, 0},
    {"model.layers.%d.self_attn.q_a_proj.weight", 4, 8},
    {"model.layers.%d.self_attn.q_a_layernorm.weight", 4, 0},
    {"model.layers.%d.self_attn.q_b_proj.weight", 16, 4},
    {"model.layers.%d.self_attn.kv_a_proj_with_mqa.weight", 8, 8},
    {"model.layers.%d.self_attn.kv_a_layernorm.weight", 4, 0},
    {"model.layers.%d.self_attn.kv_b_proj.weight", 16, 4},
    {"model.layers.%d.self_attn.o_proj.weight", 8, 8},
    {"model.layers.0.mlp.gate_proj.weight", 8, 8},
    {"model.layers.0.mlp.up_proj.weight", 8, 8},
    {"model.layers.0.mlp.down_proj.weight", 8, 8},
    {"model.layers.1.mlp.gate.weight", 8, 8},
    {"model.layers.1.mlp.gate.e_score_correction_bias", 8, 0},
    {"model.layers.1.mlp.shared_experts.gate_proj.weight", 4, 8},
    {"model.layers.1.mlp.shared_experts.up_proj.weight", 4, 8},
    {"model.layers.1.mlp.shared_experts.down_proj.weight", 8, 4},
    {"model.layers.1.mlp.experts.%d.gate_proj.weight", 4, 8},
    {"model.layers.1.mlp.experts.%d.up_proj.weight", 4, 8},
    {"model.layers.1.mlp.experts.%d.down_proj.weight", 8, 4},
};

/* All tensors but `without`; `bent` gets one row more. Either may be NULL. */
static void put_model(temp_dir *t, const char *without, const char *bent) {
    dsb_st_writer w;
    char path[128], name[128];
    snprintf(path, sizeof path, "%s/model.safetensors", t->path);
    assert_int_equal(dsb_st_writer_open(&w, path, NULL), DSB_OK);
    for (size_t i = 0; i < sizeof k_tensors / sizeof *k_tensors; i++) {
        const char *pattern = k_tensors[i].name;
        int n = strstr(pattern, "experts.%d") ? 8 : strchr(pattern, '%') ? 2 : 1;
        for (int k = 0; k < n; k++) {
            const char *cut = strstr(pattern, "%d");
            if (cut) snprintf(name, sizeof name, "%.*s%d%s", (int)(cut - pattern), pattern, k, cut + 2);
            else snprintf(name, sizeof name, "%s", pattern);
            if (without && strcmp(name, without) == 0) continue;
            int64_t shape[] = {k_tensors[i].rows + (bent && strcmp(name, bent) == 0), k_tensors[i].cols};
            assert_int_equal(dsb_st_writer_declare(&w, name, DSB_BF16, k_tensors[i].cols ? 2 : 1, shape, NULL), DSB_OK);
        }
    }
    uint8_t *zeros = calloc(1, w.declared);
    assert_non_null(zeros);
    assert_int_equal(dsb_st_writer_write(&w, zeros, w.declared, NULL), DSB_OK);
    free(zeros);
    assert_int_equal(dsb_st_writer_finish(&w, NULL), DSB_OK);
    dsb_st_writer_close(&w);
}

static dsb_status check_model(const temp_dir *t, dsb_err *err) {
    dsb_model m;
    DSB_TRY(dsb_model_open(&m, dsb_backend_cpu(NULL), t->path, 16, err));
    dsb_status s = dsb_model_check(&m, &m.checkpoint, err);
    if (!s) assert_int_equal(dsb_model_params(&m.config) * 2, m.checkpoint.bytes);
    dsb_model_close(&m);
    return s;
}

static void test_model_check__every_tensor_is_wanted_in_its_shape(void **state) {
    static const char *const names[] = {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight", "model.layers.1.input_layernorm.weight", "model.layers.0.self_attn.q_a_layernorm.weight",
                                        "model.layers.1.self_attn.kv_b_proj.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.gate.weight", "model.layers.1.mlp.gate.e_score_correction_bias",
                                        "model.layers.1.mlp.shared_experts.down_proj.weight", "model.layers.1.mlp.experts.7.gate_proj.weight"};
    temp_dir t;
    dsb_err err;
    temp_make(&t);
    put_config(&t, "{}");
    refused(check_model(&t, &err), &err, DSB_EINPUT, t.path, "/model.safetensors: can't be opened");
    put_model(&t, NULL, NULL);
    if (check_model(&t, &err)) fail_msg("%s", err.text);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char want[128];
        put_model(&t, names[i], NULL);
        snprintf(want, sizeof want, "tensor %s is missing", names[i]);
        refused(check_model(&t, &err), &err, DSB_EINPUT, t.path, want);
        put_model(&t, NULL, names[i]);
        snprintf(want, sizeof want, "tensor %s: shape is (", names[i]);
        refused(check_model(&t, &err), &err, DSB_EINPUT, t.path, want);
    }
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arch__v3),          cmocka_unit_test(test_arch__v2),
        cmocka_unit_test(test_arch__old_and_new_spellings_agree),
        cmocka_unit_test(test_arch__rope_tables), cmocka_unit_test(test_arch__bad_configs_say_why),
        cmocka_unit_test(test_arch__families),    cmocka_unit_test(test_arch__scalings),
        cmocka_unit_test(test_arch__bad_families_say_why),
        cmocka_unit_test(test_model_check__every_tensor_is_wanted_in_its_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
