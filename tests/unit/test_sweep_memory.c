/* A sweep keeps to its memory: with streams in a temporary file, one scheme's weights at a time and the vocabulary matrix read
 * again and again it tells the same bits; too little is refused before the work, a folder that can't be written is an error. */
#include "sweep_run.h"
#include "temp_files.h"

#include "base/spill.h"
#include "engine/safetensors_write.h"
#include "engine/sweep_internal.h"
#include "kernels/backend.h"

/* The backend, counting what is allocated. */
static const dsb_backend *real;
static size_t now_bytes, peak_bytes;
enum { HEAD = 64 };

static dsb_status counted_alloc(void **out, size_t bytes, const char *what, dsb_err *err) {
    char *p;
    DSB_TRY(real->alloc((void **)&p, bytes + HEAD, what, err));
    memcpy(p, &bytes, sizeof bytes);
    now_bytes += bytes;
    peak_bytes = now_bytes > peak_bytes ? now_bytes : peak_bytes;
    *out = p + HEAD;
    return DSB_OK;
}
static void counted_release(void *p) {
    size_t bytes;
    memcpy(&bytes, (char *)p - HEAD, sizeof bytes);
    now_bytes -= bytes;
    real->release((char *)p - HEAD);
}

enum { CHUNKS = 16, TOKENS = CHUNKS * SR_CTX };

/* All that a sweep tells, in whatever order: an exclusive or of hashes. */
typedef struct told {
    uint64_t layers, experts, logits, clips, tensors;
    int64_t n;
} told;

static uint64_t hash(uint64_t h, const void *data, size_t n) {
    for (const unsigned char *p = data; n > 0; n--) h = (h ^ *p++) * 1099511628211u;
    return h;
}
static dsb_status on_tensor(void *ctx, int scheme, const dsb_tensor_event *e, dsb_err *err) {
    int64_t key[] = {scheme, e->spec->layer, e->spec->expert, e->spec->role, (int64_t)e->stored_bytes};
    ((told *)ctx)->tensors ^= hash(hash(1, key, sizeof key), &e->moments, sizeof e->moments);
    ((told *)ctx)->n++;
    return DSB_OK;
}
static dsb_status on_layer(void *ctx, const dsb_layer_event *e, dsb_err *err) {
    int64_t key[] = {e->scheme, e->layer, e->chunk, e->point, e->kind};
    ((told *)ctx)->layers ^= hash(hash(2, key, sizeof key), e->moments, sizeof *e->moments);
    ((told *)ctx)->n++;
    return DSB_OK;
}
static dsb_status on_expert(void *ctx, const dsb_expert_event *e, dsb_err *err) {
    int64_t key[] = {e->scheme, e->layer, e->expert, e->tokens};
    ((told *)ctx)->experts ^= hash(hash(3, key, sizeof key), e->moments, sizeof *e->moments);
    ((told *)ctx)->n++;
    return DSB_OK;
}
static dsb_status on_logits(void *ctx, const dsb_logits_event *e, dsb_err *err) {
    for (int64_t i = 0; i < e->n; i++) {
        int64_t key[] = {e->scheme, e->first + i};
        ((told *)ctx)->logits ^= hash(hash(4, key, sizeof key), &e->rows[i], sizeof *e->rows);
        ((told *)ctx)->n++;
    }
    return DSB_OK;
}
static dsb_status on_clip(void *ctx, const dsb_clip_event *e, dsb_err *err) {
    int64_t key[] = {e->scheme, e->layer, e->values, e->clipped};
    ((told *)ctx)->clips ^= hash(5, key, sizeof key);
    ((told *)ctx)->n++;
    return DSB_OK;
}

static dsb_status on_routing(void *ctx, const dsb_routing_event *e, dsb_err *err) {
    int64_t key[] = {e->scheme, e->layer, e->kind}, n = e->n_chunk * e->n_ctx * e->test->k;
    ((told *)ctx)->experts ^= hash(hash(hash(6, key, sizeof key), e->test->idx, (size_t)n * 4), e->test->weight, (size_t)n * 4);
    ((told *)ctx)->n++;
    return DSB_OK;
}

static int32_t tokens[TOKENS], targets[TOKENS];

static void fill_tokens(const sr_run *r) {
    for (int i = 0; i < TOKENS; i++) tokens[i] = (int32_t)((uint32_t)i * 2654435761u % (uint32_t)r->m.config.vocab);
    for (int i = 0; i < TOKENS; i++) targets[i] = i % SR_CTX < SR_CTX - 1 ? tokens[i + 1] : -1;
}

static sr_run *opened(const dsb_backend *be) {
    sr_run *r = sr_open_on(be);
    fill_tokens(r);
    sr_add_preset(r, "static-int8");
    sr_add_preset(r, "qat-int8");
    sr_add_json(r, "{\"name\": \"head\", \"rules\": [{\"role\": \"lm_head\", \"format\": \"int8\", \"group\": 32}]}");
    sr_add_json(r, "{\"name\": \"turned\", \"rotate\": \"hadamard\", \"rules\": [{\"role\": \"lm_head\", \"format\": \"int8\"}, {\"role\": \"attn.*\", \"format\": \"int4\", \"algorithm\": \"gptq\", \"compensation\": \"recalibrate\"}, {\"role\": \"*\", \"format\": \"int4\", \"transform\": \"hadamard\"}]}");
    return r;
}

/* Rules under which rows can be taken apart, and such as work on a whole matrix. */
static void add_wide(sr_run *r) {
    sr_add_json(r, "{\"name\": \"by rows\", \"rules\": [{\"role\": \"dense.gate\", \"format\": \"fp8_e4m3\", \"group\": 128}, {\"role\": \"dense.up\", \"format\": \"int4\", \"group\": 32, \"activation\": \"int8-static\"},"
                   "{\"role\": \"attn.o\", \"format\": \"q4_K\", \"algorithm\": \"imatrix\"}, {\"role\": \"*\", \"format\": \"int8\", \"transform\": \"hadamard\", \"activation\": \"int8-dynamic\"}]}");
    sr_add_json(r, "{\"name\": \"whole\", \"rules\": [{\"role\": \"dense.gate\", \"format\": \"int8\", \"group\": \"tensor\"}, {\"role\": \"dense.up\", \"format\": \"int4\", \"group\": 32, \"algorithm\": \"gptq\"},"
                   "{\"role\": \"attn.o\", \"format\": \"nvfp4\"}, {\"role\": \"*\", \"format\": \"int4\", \"group\": 32, \"algorithm\": \"rtn-kl\"}]}");
    sr_add_json(r, "{\"name\": \"own inputs\", \"rules\": [{\"role\": \"dense.gate\", \"format\": \"int4\", \"group\": 32, \"zero_point\": \"real\", \"algorithm\": \"hqq\"}, {\"role\": \"*\", \"format\": \"q4_0\", \"algorithm\": \"imatrix\", \"compensation\": [\"recalibrate\"]}]}");
}

static dsb_sweep_plan plan_of(sr_run *r, const dsb_observer *obs, int64_t memory) {
    return (dsb_sweep_plan){.m = &r->m, .n_scheme = r->n_scheme, .schemes = r->schemes, .n_chunk = CHUNKS, .n_ctx = SR_CTX, .tokens = tokens, .targets = targets,
                            .n_cal_chunk = 2, .cal_tokens = tokens, .isolated_every = 3, .memory = memory, .spill_dir = "/tmp", .obs = obs};
}

/* Sweeps and closes. */
static told swept_run(sr_run *r, int64_t memory, const dsb_sweep_costs *how) {
    told t = {0};
    dsb_err err = {0};
    dsb_observer obs = {.ctx = &t, .tensor = on_tensor, .layer = on_layer, .expert = on_expert, .routing = on_routing, .logits = on_logits, .clip = on_clip, .block_done = sr_on_block};
    dsb_sweep_plan plan = plan_of(r, &obs, memory);
    plan.how = how;
    if (dsb_sweep_run(&plan, &r->cal, &err)) fail_msg("%s", err.text);
    sr_close(r);
    return t;
}
static told swept(const dsb_backend *be, int64_t memory, const dsb_sweep_costs *how, bool wide) {
    sr_run *r = opened(be);
    if (wide) add_wide(r);
    return swept_run(r, memory, how);
}

static dsb_sweep_costs costs_of(int64_t memory) {
    sr_run *r = opened(dsb_backend_cpu(NULL));
    dsb_sweep_costs costs;
    dsb_err err = {0};
    dsb_sweep_plan plan = plan_of(r, NULL, memory);
    if (dsb_sweep_costs_of(&plan, &costs, &err)) fail_msg("%s", err.text);
    sr_close(r);
    return costs;
}

/* Limits from the least to all that could be used: device memory stays below each, all tell the same. */
static void test_sweep_memory__every_limit_is_kept_with_the_same_bits(void **state) {
    dsb_sweep_costs most = costs_of(0), least = costs_of(most.least_bytes);
    assert_true(!most.spill && least.spill && least.total_bytes <= most.least_bytes);
    told first = swept(dsb_backend_cpu(NULL), 0, NULL, false);
    assert_true(first.n > 0 && first.layers && first.experts && first.logits && first.clips && first.tensors);
    real = dsb_backend_cpu(NULL);
    dsb_backend counting = *real;
    counting.alloc = counted_alloc;
    counting.release = counted_release;
    for (int i = 0; i <= 2; i++) {
        int64_t limit = most.least_bytes + (most.total_bytes - most.least_bytes) * i / 2;
        now_bytes = peak_bytes = 0;
        told t = swept(&counting, limit, NULL, false);
        if ((int64_t)peak_bytes > limit) fail_msg("limit %lld, %zu bytes of device memory", (long long)limit, peak_bytes);
        assert_memory_equal(&first, &t, sizeof t);
        assert_int_equal(now_bytes, 0);
    }
}

/* Ways that only larger models need, with tiles as small as they may be. */
static void test_sweep_memory__every_way_gives_the_same_bits(void **state) {
    told first = swept(dsb_backend_cpu(NULL), 0, NULL, true);
    for (int i = 0; i < 12; i++) {
        dsb_sweep_costs how = {.all_schemes = i & 1, .hold_head = i & 2, .spill = i & 4, .tile_weights = i >> 3, .tile_chunks = 1 + (i & 2), .head_rows = i & 2 ? 128 : 32, .head_tile = 1024};
        told t = swept(dsb_backend_cpu(NULL), 0, &how, true);
        assert_memory_equal(&first, &t, sizeof t);
    }
}

/* A GPT-OSS of one layer whose hidden size of 384 is three blocks of a Hadamard matrix, with biases on what writes the stream. */
static void write_wide_model(temp_dir *t) {
    static const struct { const char *name; int64_t shape[3]; } k_tensor[] = {
        {"lm_head.weight", {64, 384}}, {"model.embed_tokens.weight", {64, 384}}, {"model.norm.weight", {384}},
        {"model.layers.0.input_layernorm.weight", {384}}, {"model.layers.0.post_attention_layernorm.weight", {384}},
        {"model.layers.0.self_attn.q_proj.weight", {256, 384}}, {"model.layers.0.self_attn.q_proj.bias", {256}}, {"model.layers.0.self_attn.k_proj.weight", {64, 384}},
        {"model.layers.0.self_attn.k_proj.bias", {64}}, {"model.layers.0.self_attn.v_proj.weight", {64, 384}}, {"model.layers.0.self_attn.v_proj.bias", {64}},
        {"model.layers.0.self_attn.o_proj.weight", {384, 256}}, {"model.layers.0.self_attn.o_proj.bias", {384}}, {"model.layers.0.self_attn.sinks", {4}},
        {"model.layers.0.mlp.router.weight", {2, 384}}, {"model.layers.0.mlp.router.bias", {2}}, {"model.layers.0.mlp.experts.gate_up_proj", {2, 384, 512}},
        {"model.layers.0.mlp.experts.gate_up_proj_bias", {2, 512}}, {"model.layers.0.mlp.experts.down_proj", {2, 256, 384}}, {"model.layers.0.mlp.experts.down_proj_bias", {2, 384}},
    };
    enum { N = sizeof k_tensor / sizeof *k_tensor };
    char path[100];
    dsb_st_writer w;
    dsb_err err = {0};
    uint32_t state = 1;
    int64_t n[N];
    temp_text(t, "config.json", "{\"architectures\": [\"GptOssForCausalLM\"], \"model_type\": \"gpt_oss\", \"hidden_size\": 384, \"num_hidden_layers\": 1, \"num_attention_heads\": 4, \"num_key_value_heads\": 1,"
                               "\"head_dim\": 64, \"intermediate_size\": 256, \"num_local_experts\": 2, \"num_experts_per_tok\": 1, \"vocab_size\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000,"
                               "\"attention_bias\": true, \"sliding_window\": 8, \"layer_types\": [\"full_attention\"], \"max_position_embeddings\": 64, \"swiglu_limit\": 7.0}");
    snprintf(path, sizeof path, "%s/model.safetensors", t->path);
    assert_int_equal(dsb_st_writer_open(&w, path, &err), DSB_OK);
    for (int i = 0; i < N; i++) {
        int ndim = k_tensor[i].shape[2] ? 3 : k_tensor[i].shape[1] ? 2 : 1;
        n[i] = k_tensor[i].shape[0] * (ndim > 1 ? k_tensor[i].shape[1] : 1) * (ndim > 2 ? k_tensor[i].shape[2] : 1);
        assert_int_equal(dsb_st_writer_declare(&w, k_tensor[i].name, DSB_F32, ndim, k_tensor[i].shape, &err), DSB_OK);
    }
    for (int i = 0; i < N; i++)
        for (int64_t k = 0; k < n[i]; k++) {
            state = state * 1664525u + 1013904223u;
            float x = ((float)(state >> 8) * 0x1p-24f - 0.5f) * (k_tensor[i].shape[1] ? 0.2f : 1) + (strstr(k_tensor[i].name, "norm") ? 1 : 0);
            assert_int_equal(dsb_st_writer_write(&w, &x, sizeof x, &err), DSB_OK);
        }
    assert_int_equal(dsb_st_writer_finish(&w, &err), DSB_OK);
    dsb_st_writer_close(&w);
}

static sr_run *opened_rotated(const char *dir) {
    sr_run *r = sr_open_model(dsb_backend_cpu(NULL), dir);
    fill_tokens(r);
    sr_add_json(r, "{\"name\": \"turned\", \"rotate\": \"hadamard\", \"rules\": [{\"role\": \"*\", \"format\": \"int4\", \"group\": 32, \"activation\": \"int8-dynamic\", \"transform\": \"hadamard\"}]}");
    sr_add_json(r, "{\"name\": \"turned f32\", \"rotate\": \"hadamard\", \"rules\": [{\"role\": \"*\", \"format\": \"keep\"}]}");
    sr_add_preset(r, "int4-rtn");
    return r;
}

/* Rows that a rotated stream mixes come in one tile: 128 of 384. */
static void test_sweep_memory__a_rotated_streams_writers_come_in_whole_blocks_with_the_same_bits(void **state) {
    temp_dir t;
    temp_make(&t);
    write_wide_model(&t);
    assert_true(sw_tile_rows(1, 384, 256, 128) == 128 && sw_tile_rows(1, 384, 256, 384 & -384) == 128 && sw_tile_rows(16 << 20, 7168, 18432, 1024) == 1024 && sw_tile_rows(1, 2048, 10944, 2048) == 2048);
    told first = swept_run(opened_rotated(t.path), 0, NULL);
    assert_true(first.n > 0 && first.tensors && first.logits);
    for (int i = 0; i < 2; i++) {
        dsb_sweep_costs how = {.all_schemes = i, .hold_head = i, .tile_weights = 1, .tile_chunks = 2, .head_rows = 64, .head_tile = 64};
        told tiled = swept_run(opened_rotated(t.path), 0, &how);
        assert_memory_equal(&first, &tiled, sizeof tiled);
    }
    temp_remove(&t);
}

/* DeepSeek-V3's sizes in the built-in model's place: what the plan asks for. Weights that the checkpoint lacks count as f32. */
static sr_run *of_v3_size(void) {
    sr_run *r = sr_open();
    dsb_config *c = &r->m.config;
    c->n_layer = 61;
    c->d_model = 7168;
    c->vocab = 129280;
    c->heads = c->kv_heads = 128;
    c->q_lora = 1536;
    c->kv_lora = 512;
    c->nope = c->v_dim = 128;
    c->rope_dim = 64;
    c->d_ff = 18432;
    c->d_ff_expert = c->d_ff_shared = 2048;
    c->n_expert = 256;
    c->router.k = 8;
    return r;
}

static dsb_sweep_costs planned(sr_run *r, bool balance) {
    dsb_sweep_costs costs;
    dsb_err err = {0};
    dsb_sweep_plan plan = plan_of(r, NULL, 0);
    plan.cover.balance = balance;
    if (dsb_sweep_costs_of(&plan, &costs, &err)) fail_msg("%s", err.text);
    return costs;
}

/* Dense layers of 18432 x 7168, one of which is 1.6 GB in f32, five schemes that are decoded, one of them rotated, one of another checkpoint. */
static void test_sweep_memory__a_whole_v3_fits_four_gigabytes(void **state) {
    sr_run *r = of_v3_size();
    const char *schemes[] = {"bf16", "dynamic-int8", "int4-rtn", "int3-rtn", "w4a4-rotate"};
    for (int i = 0; i < 5; i++) sr_add_preset(r, schemes[i]);
    sr_add(r, NULL);
    r->schemes[5].own_source = false;
    assert_in_range(planned(r, false).least_bytes, 1, (4LL << 30) - (512 << 20)); /* the program's own beside it */
    sr_close(r);
}

/* Whatever works on whole matrices wants their memory: three of 132 M weights, in f32 under the reference and the scheme. */
static void test_sweep_memory__what_works_on_whole_matrices_is_counted(void **state) {
    static const char *const k_rules[] = {"\"group\": \"tensor\"", "\"group\": 32, \"transform\": \"smooth\"", "\"group\": 32, \"compensation\": [\"bias\"]", "\"group\": 32, \"algorithm\": \"rtn-kl\""};
    sr_run *r = of_v3_size();
    sr_add_preset(r, "int4-rtn");
    int64_t least = planned(r, false).least_bytes, dense = 3LL * 18432 * 7168;
    assert_int_equal(planned(r, false).head_tile, 2304); /* the most below 16 M weights, in steps of 128 */
    for (int i = 0; i < 4; i++) {
        char text[300];
        snprintf(text, sizeof text, "{\"name\": \"whole\", \"rules\": [{\"role\": \"dense.*\", \"format\": \"int4\", %s}, {\"role\": \"lm_head\", \"format\": \"nvfp4\"}]}", k_rules[i]);
        sr_add_json(r, text);
        dsb_sweep_costs c = planned(r, false);
        if (c.least_bytes - least < 4 * dense) fail_msg("%s: %lld bytes more", k_rules[i], (long long)(c.least_bytes - least));
        assert_int_equal(c.head_tile, 129280);
        r->n_scheme--;
        dsb_scheme_source_close(&r->sources[r->n_scheme]);
    }
    sr_close(r);
}

/* Scores of calibration tokens by which starved experts are topped up; an expert and its INT4 form for a budget by sensitivity. */
static void test_sweep_memory__scores_and_sensitivity_are_counted(void **state) {
    sr_run *r = of_v3_size();
    assert_int_equal(planned(r, true).activation_bytes - planned(r, false).activation_bytes, 8 * 256 * 2 * SR_CTX);
    r->m.config.d_ff_expert = 1 << 16;
    sr_add_preset(r, "sparse-activity");
    int64_t activity = planned(r, false).least_bytes;
    r->n_scheme--;
    dsb_scheme_source_close(&r->sources[0]);
    sr_add_preset(r, "sparse-sensitivity");
    assert_true(planned(r, false).least_bytes >= activity && planned(r, false).least_bytes > 8LL * 3 * 7168 << 16);
    sr_close(r);
}

static void test_sweep_memory__too_little_is_refused_with_the_least(void **state) {
    sr_run *r = opened(dsb_backend_cpu(NULL));
    dsb_sweep_costs costs;
    dsb_err err = {0};
    char least[64];
    dsb_sweep_plan plan = plan_of(r, NULL, 1 << 20);
    dsb_status s = dsb_sweep_costs_of(&plan, &costs, &err);
    snprintf(least, sizeof least, "at least %lld MB", (long long)(costs.least_bytes >> 20) + 1);
    refused(s, &err, DSB_EUSAGE, least, NULL);
    refused(dsb_sweep_run(&plan, &r->cal, &err), &err, DSB_EUSAGE, least, NULL);
    sr_close(r);
}

static void test_sweep_memory__a_folder_that_is_not_there_is_an_output_error(void **state) {
    sr_run *r = opened(dsb_backend_cpu(NULL));
    dsb_err err = {0};
    dsb_sweep_plan plan = plan_of(r, NULL, costs_of(0).least_bytes);
    plan.spill_dir = "/nonexistent/dsbench";
    refused(dsb_sweep_run(&plan, &r->cal, &err), &err, DSB_EOUTPUT, "/nonexistent/dsbench", "TMPDIR");
    sr_close(r);
}

static void test_spill__is_nameless_and_gives_back_what_was_written(void **state) {
    temp_dir t;
    dsb_spill s;
    dsb_err err = {0};
    char in[5000], out[5000];
    temp_make(&t);
    for (size_t i = 0; i < sizeof in; i++) in[i] = (char)(i * 7);
    assert_int_equal(dsb_spill_open(&s, t.path, 10000, &err), DSB_OK);
    assert_int_equal(temp_entries(t.path), 0);
    assert_int_equal(dsb_spill_write(&s, 4321, in, sizeof in, &err), DSB_OK);
    assert_int_equal(dsb_spill_read(&s, 4321, out, sizeof out, &err), DSB_OK);
    assert_memory_equal(in, out, sizeof in);
    refused(dsb_spill_read(&s, 9000, out, sizeof out, &err), &err, DSB_EOUTPUT, t.path, "too early");
    dsb_spill_close(&s);
    temp_remove(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sweep_memory__every_limit_is_kept_with_the_same_bits),
        cmocka_unit_test(test_sweep_memory__every_way_gives_the_same_bits),
        cmocka_unit_test(test_sweep_memory__a_rotated_streams_writers_come_in_whole_blocks_with_the_same_bits),
        cmocka_unit_test(test_sweep_memory__a_whole_v3_fits_four_gigabytes),
        cmocka_unit_test(test_sweep_memory__what_works_on_whole_matrices_is_counted),
        cmocka_unit_test(test_sweep_memory__scores_and_sensitivity_are_counted),
        cmocka_unit_test(test_sweep_memory__too_little_is_refused_with_the_least),
        cmocka_unit_test(test_sweep_memory__a_folder_that_is_not_there_is_an_output_error),
        cmocka_unit_test(test_spill__is_nameless_and_gives_back_what_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
