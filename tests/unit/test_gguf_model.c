/* A model in GGUF under Hugging Face's names: rows put back, experts one by one, split kv_b, split files; config from metadata. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/arch.h"
#include "engine/checkpoint.h"
#include "tests/unit/gguf_file.h"

/* Tensors of f32 values that count up from a number of their own. */
typedef struct tensor {
    const char *name;
    int n_dim;
    uint64_t ne[4]; /* the contiguous one first */
    float first;
} tensor;

static size_t values_of(const tensor *t) {
    size_t n = 1;
    for (int i = 0; i < t->n_dim; i++) n *= (size_t)t->ne[i];
    return n;
}

static void put_tensors(gguf_file *f, const tensor *list, int n) {
    uint64_t at = 0;
    for (int i = 0; i < n; i++) {
        gguf_tensor(f, list[i].name, list[i].n_dim, list[i].ne, 0, at);
        at += (values_of(&list[i]) * 4 + 31) / 32 * 32;
    }
    for (int i = 0; i < n; i++) {
        gguf_align(f);
        for (size_t v = 0; v < values_of(&list[i]); v++) {
            float x = list[i].first + (float)v;
            gguf_bytes(f, &x, 4);
        }
    }
    gguf_align(f);
}

static void put_real(gguf_file *f, const char *key, float x) {
    gguf_key(f, key, DSB_GGUF_F32);
    gguf_bytes(f, &x, 4);
}

/* DeepSeek V2-Lite's kind: one layer with experts, kv_b in two. */
static const tensor k_mla[] = {
    {"token_embd.weight", 2, {4, 8}, 0},
    {"output_norm.weight", 1, {4}, 1},
    {"output.weight", 2, {4, 8}, 1},
    {"blk.0.attn_k_b.weight", 3, {2, 4, 2}, 100}, /* (heads 2, kv_lora 4, nope 2) */
    {"blk.0.attn_v_b.weight", 3, {4, 3, 2}, 200}, /* (heads 2, v 3, kv_lora 4) */
    {"blk.0.ffn_gate_inp.weight", 2, {4, 3}, 0},
    {"blk.0.ffn_gate_exps.weight", 3, {4, 2, 3}, 300}, /* (experts 3, ff 2, d 4) */
    {"blk.1.nextn.eh_proj.weight", 2, {4, 4}, 0},
};

static void put_mla(gguf_file *f) {
    gguf_begin(f, 3, 8, 22);
    gguf_text(f, "general.architecture", "deepseek2");
    gguf_u32(f, "deepseek2.block_count", 2);
    gguf_u32(f, "deepseek2.nextn_predict_layers", 1);
    gguf_u32(f, "deepseek2.context_length", 64);
    gguf_u32(f, "deepseek2.embedding_length", 4);
    gguf_u32(f, "deepseek2.feed_forward_length", 6);
    gguf_u32(f, "deepseek2.expert_feed_forward_length", 2);
    gguf_u32(f, "deepseek2.attention.head_count", 2);
    gguf_u32(f, "deepseek2.attention.head_count_kv", 1);
    put_real(f, "deepseek2.attention.layer_norm_rms_epsilon", 1e-6f);
    gguf_u32(f, "deepseek2.expert_count", 3);
    gguf_u32(f, "deepseek2.expert_used_count", 1);
    gguf_u32(f, "deepseek2.attention.kv_lora_rank", 4);
    gguf_u32(f, "deepseek2.attention.key_length", 6);
    gguf_u32(f, "deepseek2.attention.value_length", 4);
    gguf_u32(f, "deepseek2.attention.key_length_mla", 4);
    gguf_u32(f, "deepseek2.attention.value_length_mla", 3);
    gguf_u32(f, "deepseek2.rope.dimension_count", 2);
    gguf_text(f, "deepseek2.rope.scaling.type", "yarn");
    put_real(f, "deepseek2.rope.scaling.factor", 40);
    gguf_u32(f, "deepseek2.rope.scaling.original_context_length", 32);
    put_real(f, "deepseek2.rope.scaling.yarn_log_multiplier", 0.0707f);
    put_tensors(f, k_mla, 8);
}

static void test_gguf_model__mla(void **state) {
    static gguf_file f;
    temp_dir t;
    dsb_checkpoint cp;
    dsb_config c;
    dsb_err err;
    float w[10 * 4];
    put_mla(&f);
    temp_make(&t);
    temp_put(&t, "m.gguf", f.data, f.n);
    if (dsb_config_load(&c, t.file, &err) || dsb_checkpoint_open(&cp, t.file, &err)) fail_msg("%s", err.text);
    assert_string_equal(c.arch, "DeepseekV2ForCausalLM");
    assert_true(c.n_layer == 1 && c.vocab == 8 && c.nope == 2 && c.rope_dim == 2 && c.v_dim == 3 && c.kv_lora == 4 && !c.tied && c.n_expert == 3);
    assert_true(c.rms_eps == 1e-6 && c.rope.mscale == 0.707 && c.rope.mscale_all_dim == 0.707); /* the decimals that the f32 stand for */
    assert_false(dsb_checkpoint_is_quantized(&cp));
    assert_int_equal(dsb_checkpoint_read(&cp, "model.layers.0.self_attn.kv_b_proj.weight", 10, 4, w, NULL, NULL), DSB_OK);
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 4; k++) {
                float want = i < 2 ? 100 + (float)((h * 4 + k) * 2 + i) : 200 + (float)((h * 3 + i - 2) * 4 + k);
                assert_true(w[(h * 5 + i) * 4 + k] == want);
            }
    assert_int_equal(dsb_checkpoint_read(&cp, "model.layers.0.mlp.experts.2.gate_proj.weight", 2, 4, w, NULL, NULL), DSB_OK);
    assert_true(w[0] == 300 + 16 && w[7] == 300 + 23);
    assert_null(dsb_checkpoint_find(&cp, "model.layers.0.mlp.experts.3.gate_proj.weight"));
    assert_non_null(dsb_checkpoint_find(&cp, "lm_head.weight"));
    dsb_checkpoint_close(&cp);
    temp_remove(&t);
}

static void begin_llama(gguf_file *f, uint64_t n_tensor, uint64_t more) {
    gguf_begin(f, 3, n_tensor, 9 + more);
    gguf_text(f, "general.architecture", "llama");
    gguf_u32(f, "llama.block_count", 1);
    gguf_u32(f, "llama.context_length", 64);
    gguf_u32(f, "llama.embedding_length", 8);
    gguf_u32(f, "llama.feed_forward_length", 2);
    gguf_u32(f, "llama.attention.head_count", 2);
    put_real(f, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_u32(f, "llama.expert_count", 2);
    gguf_u32(f, "llama.expert_used_count", 1);
}

/* Heads of 4: the converter wrote row t*2 + j of each as row 2j + t. Old files have a tensor an expert. */
static void test_gguf_model__rows_of_interleaved_rope_are_put_back(void **state) {
    static gguf_file f;
    static const tensor k_list[] = {{"token_embd.weight", 2, {8, 4}, 0}, {"blk.0.attn_q.weight", 2, {8, 8}, 0}, {"blk.0.ffn_down.1.weight", 2, {2, 8}, 50}};
    static const int k_from[] = {0, 2, 1, 3, 4, 6, 5, 7};
    temp_dir t;
    dsb_checkpoint cp;
    dsb_config c;
    dsb_err err;
    float w[64];
    begin_llama(&f, 3, 0);
    put_tensors(&f, k_list, 3);
    temp_make(&t);
    temp_put(&t, "m.gguf", f.data, f.n);
    if (dsb_config_load(&c, t.file, &err) || dsb_checkpoint_open(&cp, t.file, &err)) fail_msg("%s", err.text);
    assert_true(strcmp(c.arch, "MixtralForCausalLM") == 0 && c.tied && c.rope.half && c.rope_dim == 4);
    assert_int_equal(dsb_checkpoint_read(&cp, "model.layers.0.self_attn.q_proj.weight", 8, 8, w, NULL, NULL), DSB_OK);
    for (int r = 0; r < 8; r++) assert_true(w[r * 8] == (float)(k_from[r] * 8));
    assert_int_equal(dsb_checkpoint_read(&cp, "model.layers.0.block_sparse_moe.experts.1.w2.weight", 8, 2, w, NULL, NULL), DSB_OK);
    assert_true(w[0] == 50);
    dsb_checkpoint_close(&cp);
    temp_remove(&t);
}

static void put_part(gguf_file *f, uint64_t no, const tensor *list) {
    if (no == 0) begin_llama(f, 1, 3);
    else gguf_begin(f, 3, 1, 3);
    gguf_u32(f, "split.no", (uint32_t)no);
    gguf_u32(f, "split.count", 2);
    gguf_u32(f, "split.tensors.count", 2);
    put_tensors(f, list, 1);
}

static void test_gguf_model__split_files(void **state) {
    static gguf_file f;
    static const tensor k_a = {"token_embd.weight", 2, {8, 4}, 0}, k_b = {"output_norm.weight", 1, {8}, 7};
    temp_dir t;
    dsb_checkpoint cp;
    dsb_err err;
    char first[600];
    float x[8];
    temp_make(&t);
    put_part(&f, 0, &k_a);
    snprintf(first, sizeof first, "%s", temp_put(&t, "m-00001-of-00002.gguf", f.data, f.n));
    refused(dsb_checkpoint_open(&cp, first, &err), &err, DSB_EINPUT, "m-00002-of-00002.gguf", "can't be opened");
    put_part(&f, 1, &k_b);
    temp_put(&t, "m-00002-of-00002.gguf", f.data, f.n);
    if (dsb_checkpoint_open(&cp, first, &err)) fail_msg("%s", err.text);
    assert_int_equal(dsb_checkpoint_read(&cp, "model.norm.weight", 8, 0, x, NULL, NULL), DSB_OK);
    assert_true(x[0] == 7 && x[7] == 14);
    dsb_checkpoint_close(&cp);
    refused(dsb_checkpoint_open(&cp, t.file, &err), &err, DSB_EINPUT, "part 2 of a split model; its first file", "-00001-of-00002.gguf");
    put_part(&f, 0, &k_b); /* another part under the second one's name */
    temp_put(&t, "m-00002-of-00002.gguf", f.data, f.n);
    refused(dsb_checkpoint_open(&cp, first, &err), &err, DSB_EINPUT, "holds part 1 of a split model; part 2 is wanted", NULL);
    put_part(&f, 1, &k_a); /* a tensor in both */
    temp_put(&t, "m-00002-of-00002.gguf", f.data, f.n);
    refused(dsb_checkpoint_open(&cp, first, &err), &err, DSB_EINPUT, "model.embed_tokens.weight is there twice", NULL);
    temp_remove(&t);
}

static void test_gguf_model__bad_ones(void **state) {
    static gguf_file f;
    static const struct {
        tensor tensor;
        dsb_status status;
        const char *part;
    } k_bad[] = {
        {{"blk.0.attn_magic.weight", 1, {8}, 0}, DSB_EUNSUPPORTED, "tensor blk.0.attn_magic.weight is unknown and may change the result"},
        {{"rope_freqs.weight", 1, {4}, 0}, DSB_EUNSUPPORTED, "tensor rope_freqs.weight is unknown"},
        {{"blk.0.attn_q.weight", 2, {8, 6}, 0}, DSB_EINPUT, "tensor blk.0.attn_q.weight: its rows don't split into heads"},
        {{"blk.0.attn_k_b.weight", 3, {2, 4, 2}, 0}, DSB_EINPUT, "tensor blk.0.attn_v_b.weight is missing beside blk.0.attn_k_b.weight"},
        {{"blk.0.ffn_up_exps.weight", 1, {8}, 0}, DSB_EINPUT, "tensor blk.0.ffn_up_exps.weight: no experts"},
    };
    temp_dir t;
    dsb_checkpoint cp;
    dsb_config c;
    dsb_err err;
    temp_make(&t);
    for (size_t i = 0; i < sizeof k_bad / sizeof *k_bad; i++) {
        begin_llama(&f, 1, 0);
        put_tensors(&f, &k_bad[i].tensor, 1);
        refused(dsb_checkpoint_open(&cp, temp_put(&t, "m.gguf", f.data, f.n), &err), &err, k_bad[i].status, t.file, k_bad[i].part);
        assert_null(cp.dir);
    }
    begin_llama(&f, 1, 0);
    put_tensors(&f, &(tensor){"output_norm.weight", 1, {8}, 0}, 1);
    refused(dsb_config_load(&c, temp_put(&t, "m.gguf", f.data, f.n), &err), &err, DSB_EINPUT, "tensor token_embd.weight is missing", NULL);
    gguf_begin(&f, 3, 0, 1);
    gguf_text(&f, "general.architecture", "mamba");
    refused(dsb_config_load(&c, temp_put(&t, "m.gguf", f.data, f.n), &err), &err, DSB_EUNSUPPORTED, "architecture \"mamba\" is unknown", "deepseek2");
    gguf_begin(&f, 3, 0, 1);
    gguf_text(&f, "general.architecture", "olmoe");
    refused(dsb_config_load(&c, temp_put(&t, "m.gguf", f.data, f.n), &err), &err, DSB_EINPUT, "key olmoe.block_count is missing", NULL);
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gguf_model__mla),
        cmocka_unit_test(test_gguf_model__rows_of_interleaved_rope_are_put_back),
        cmocka_unit_test(test_gguf_model__split_files),
        cmocka_unit_test(test_gguf_model__bad_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
