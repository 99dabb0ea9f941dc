/* A device whose memory the host can't touch: the CPU's rows behind addresses of a region without access rights. The engine
 * must give the CPU's bits on it; reading or writing such an address itself ends the test, so does a row given host memory. */
#include "sweep_run.h"

#include "host_memory.h"

#include "harness/bench.h"
#include "harness/bench_case.h"
#include "quantizers/quantize.h"

#include <sys/mman.h>

static const size_t k_room = (size_t)1 << 32; /* reserved: pages cost memory only when touched */
static const dsb_backend *cpu;
static char *device, *real; /* device + x is what the engine sees of real + x */
static size_t used;

/* The address behind a device address. */
static void *behind(const void *p) {
    size_t at = (size_t)((const char *)p - device);
    if (!p) return NULL;
    if ((const char *)p < device || at >= used) fail_msg("a row of the backend table got an address that is not the device's");
    return real + at;
}
#define D(p) ((__typeof__(p))behind(p))

static dsb_status d_alloc(void **out, size_t bytes, const char *what, dsb_err *err) {
    size_t size = (bytes + 127) / 64 * 64; /* never reused: zeros, as alloc promises */
    if (size > k_room - used) return dsb_fail(err, DSB_ENOMEM, "the test's device is full");
    *out = device + used;
    used += size;
    return DSB_OK;
}
static void d_release(void *p) { behind(p); }
static void host(const void *p) {
    if ((const char *)p >= device && (const char *)p < device + k_room) fail_msg("host memory is wanted, the device's was given");
}
static void d_upload(void *dst, const void *src, size_t n) { host(src); cpu->upload(D(dst), src, n); }
static void d_download(void *dst, const void *src, size_t n) { host(dst); cpu->download(dst, D(src), n); }
static void d_copy(void *dst, const void *src, size_t n) { cpu->copy(D(dst), D(src), n); }
static void d_zero(void *p, size_t n) { cpu->zero(D(p), n); }
static void d_gemm(const dsb_wmat *w, const dsb_act *x, float *y) {
    dsb_act a = *x;
    a.f32 = D(x->f32);
    a.q = D(x->q);
    a.scale = D(x->scale);
    cpu->gemm(w, &a, D(y));
}
static void d_quantize_dynamic(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale) { cpu->quantize_dynamic(D(x), n, cols, D(q), D(scale)); }
static void d_dequantize(const int8_t *q, const float *scale, int64_t n, int64_t cols, float *y) { cpu->dequantize(D(q), D(scale), n, cols, D(y)); }
static void d_gemm_heads(const dsb_wmat *w, int64_t heads, const float *x, int64_t n, int64_t tail, float *y) { cpu->gemm_heads(w, heads, D(x), n, tail, D(y)); }
static void d_quantize_int4(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale) { cpu->quantize_int4(D(x), n, cols, D(q), D(scale)); }
/* Counts of static scales come when the device settles too. */
static struct {
    int64_t n, *sum;
} owed_count[8192];
static int n_owed_count;
static int64_t *count_sum;
static void settle_counts(void) {
    for (int i = 0; i < n_owed_count; i++) *owed_count[i].sum += owed_count[i].n;
    n_owed_count = 0;
}
static void d_count_into(int64_t *sum) { count_sum = sum; }
static int64_t counted(int64_t n) {
    if (n_owed_count == 8192) settle_counts();
    if (count_sum) owed_count[n_owed_count].n = n, owed_count[n_owed_count++].sum = count_sum;
    return 0;
}
static int64_t d_round_e4m3(const float *x, int64_t n, int64_t cols, float given, float *y) { return counted(cpu->round_e4m3(D(x), n, cols, given, D(y))); }
static void d_histogram(const float *x, int64_t n, uint64_t *bins) { cpu->histogram(D(x), n, bins); }
static int64_t d_quantize_static(const float *x, int64_t n, int64_t cols, float given, int8_t *q, float *scale) { return counted(cpu->quantize_static(D(x), n, cols, given, D(q), D(scale))); }
static void d_rms_norm(const float *x, int64_t xs, const float *w, double eps, int64_t n, int64_t d, float *y, int64_t ys) { cpu->rms_norm(D(x), xs, D(w), eps, n, d, D(y), ys); }
static void d_rope(float *x, int64_t n, int64_t heads, int64_t rs, int64_t hs, int64_t dim, bool half, const int32_t *pos, const float *c, const float *s) { cpu->rope(D(x), n, heads, rs, hs, dim, half, D(pos), D(c), D(s)); }
static void d_mla_assemble(const float *kv, const float *kpe, int64_t stride, int64_t n, int64_t heads, int64_t nope, int64_t v_dim, int64_t rope, float *k, float *v) {
    cpu->mla_assemble(D(kv), D(kpe), stride, n, heads, nope, v_dim, rope, D(k), D(v));
}
static void d_attention(const dsb_attention_shape *shape, const dsb_seq *seqs, int64_t n, const float *q, const float *k, const float *v, float *out) {
    dsb_attention_shape s = *shape;
    s.sinks = D(shape->sinks);
    cpu->attention(&s, seqs, n, D(q), D(k), D(v), D(out));
}
static void d_silu_mul(const float *g, const float *u, int64_t n, bool round, float *out) { cpu->silu_mul(D(g), D(u), n, round, D(out)); }
static void d_swiglu_clamped(const float *g, const float *u, int64_t n, float alpha, float limit, bool round, float *out) { cpu->swiglu_clamped(D(g), D(u), n, alpha, limit, round, D(out)); }
static void d_add_bias(float *y, const float *bias, int64_t n, int64_t d) { cpu->add_bias(D(y), D(bias), n, d); }
static void d_clamp(float *x, int64_t n, float limit) { cpu->clamp(D(x), n, limit); }
static void d_sigmoid_gate(float *y, const float *z, int64_t n, int64_t d) { cpu->sigmoid_gate(D(y), D(z), n, d); }
static void d_scale_columns(const float *x, int64_t n, int64_t cols, const float *scale, float *y) { cpu->scale_columns(D(x), n, cols, D(scale), D(y)); }
static void d_hadamard(const float *x, int64_t n, int64_t cols, int64_t block, float *y) { cpu->hadamard(D(x), n, cols, block, D(y)); }
static void d_round_bf16(float *x, int64_t n) { cpu->round_bf16(D(x), n); }
static void d_round_f16(float *x, int64_t n) { cpu->round_f16(D(x), n); }
static void d_load_bf16(const uint16_t *src, int64_t n, float *dst) { cpu->load_bf16(D(src), n, D(dst)); }
static void d_store_bf16(const float *src, int64_t n, uint16_t *dst) { cpu->store_bf16(D(src), n, D(dst)); }
static void d_add(float *y, const float *x, int64_t n) { cpu->add(D(y), D(x), n); }
static void d_gather(const float *src, const int32_t *idx, int64_t n, int64_t d, float *dst) { cpu->gather(D(src), D(idx), n, d, D(dst)); }
static void d_scatter_add(float *acc, const int32_t *idx, const float *w, const float *x, int64_t n, int64_t d) { cpu->scatter_add(D(acc), D(idx), D(w), D(x), n, d); }
static void d_route(const dsb_router_shape *shape, const float *z, const float *bias, int64_t n, float *scores, int32_t *idx, float *w, float *margin) { cpu->route(shape, D(z), D(bias), n, D(scores), D(idx), D(w), D(margin)); }
static void d_moments(const float *x, const float *y, int64_t n, dsb_moments *out) { host(out); cpu->moments(D(x), D(y), n, out); }
/* Experts in one piece, by the single rows. Their weights are kept: the engine's unpacking leaves them. */
struct dsb_experts {
    dsb_wmat *w;
    int64_t n_expert, k;
};
enum { FUSED_MOST = 256 };
static dsb_experts *fused[FUSED_MOST];
static int n_fused;
static void d_unpack(dsb_wmat *w) {
    for (int i = 0; i < n_fused; i++)
        for (int64_t j = 0; fused[i] && j < 3 * fused[i]->n_expert; j++)
            if (fused[i]->w[j].data == w->data) {
                *w = (dsb_wmat){0};
                return;
            }
    cpu->unpack(w);
}
static dsb_status d_fuse_experts(dsb_experts **out, const dsb_wmat *w, int64_t n_expert, int64_t k, dsb_experts_act act, dsb_err *err) {
    *out = NULL;
    if (act != DSB_EXPERTS_INT8) return DSB_OK;
    for (int64_t i = 0; i < 3 * n_expert; i++)
        if (act != DSB_EXPERTS_INT8 || w[i].kind != DSB_W_I8 || w[i].group < w[i].cols) return DSB_OK;
    assert_true(n_fused < FUSED_MOST);
    DSB_TRY(DSB_NEW(*out, 1, "experts", err));
    **out = (dsb_experts){.n_expert = n_expert, .k = k};
    DSB_TRY(DSB_NEW((*out)->w, 3 * n_expert, "experts", err));
    memcpy((*out)->w, w, (size_t)(3 * n_expert) * sizeof *w);
    fused[n_fused++] = *out;
    return DSB_OK;
}
static void d_experts_release(dsb_experts *e) {
    for (int i = 0; i < n_fused; i++)
        if (fused[i] == e) fused[i] = NULL;
    for (int64_t i = 0; i < 3 * e->n_expert; i++) cpu->unpack(&e->w[i]);
    free(e->w);
    free(e);
}
/* One row through one matrix, as an INT8 linear of a BF16 carrier. */
static void one_linear(const dsb_wmat *w, const float *x, float *y) {
    int8_t q[4096];
    float scale;
    assert_true(w->cols <= 4096);
    cpu->quantize_dynamic(x, 1, w->cols, q, &scale);
    cpu->gemm(w, &(dsb_act){.n = 1, .cols = w->cols, .q = q, .scale = &scale}, y);
    cpu->round_bf16(y, w->rows);
}
static void d_experts_forward(dsb_experts *e, const float *x, int64_t n, const int32_t *idx, const float *weight, float *y) {
    int64_t d = e->w[0].cols, ff = e->w[0].rows;
    float g[4096], u[4096], out[4096], *to = D(y);
    assert_true(d <= 4096 && ff <= 4096);
    memset(to, 0, (size_t)(n * d) * sizeof *to);
    for (int64_t i = 0; i < n * e->k; i++) {
        const dsb_wmat *w = e->w + 3 * D(idx)[i];
        one_linear(&w[0], D(x) + i / e->k * d, g);
        one_linear(&w[1], D(x) + i / e->k * d, u);
        cpu->silu_mul(g, u, ff, true, g);
        one_linear(&w[2], g, out);
        cpu->scatter_add(to + i / e->k * d, &(int32_t){0}, &D(weight)[i], out, 1, d);
    }
    cpu->round_bf16(to, n * d);
}

/* Figures come when the device settles, no earlier. */
static struct {
    dsb_moments one, *sum;
} owed[8192];
static int n_owed;
static void d_settle(void) {
    for (int i = 0; i < n_owed; i++) dsb_moments_add(owed[i].sum, &owed[i].one);
    n_owed = 0;
    settle_counts();
}
static void d_moments_later(const float *x, const float *y, int64_t n, dsb_moments *sum) {
    if (n_owed == 8192) d_settle();
    cpu->moments(D(x), D(y), n, &owed[n_owed].one);
    owed[n_owed++].sum = sum;
}
/* Stored weights whole on the device: their forms are what quantizers make of them, their figures come when it settles. */
static dsb_status d_whole_open(dsb_whole *out, const uint16_t *bf16, int64_t rows, int64_t cols, dsb_err *err) {
    host(bf16);
    *out = (dsb_whole){.rows = rows, .cols = cols};
    DSB_TRY(DSB_NEW(out->words, rows * cols, "a weight", err));
    DSB_TRY(DSB_NEW(out->wide, rows * cols, "a weight", err));
    for (int64_t i = 0; i < rows * cols; i++) out->wide[i] = dsb_bf16_to_f32(bf16[i]);
    return DSB_OK;
}
static void d_whole_close(dsb_whole *w) {
    free(w->words);
    free(w->wide);
    *w = (dsb_whole){0};
}
static dsb_status d_whole_pack(dsb_wmat *out, const dsb_whole *w, dsb_err *err) { return cpu->pack_float(out, DSB_W_BF16, w->wide, w->rows, w->cols, err); }
static int n_rounded;
static void owe(const float *x, const float *y, int64_t n, dsb_moments *sum) {
    for (int64_t at = 0; at < n; at += DSB_MOMENT_BLOCK) {
        if (n_owed == 8192) d_settle();
        cpu->moments(x + at, y + at, n - at < DSB_MOMENT_BLOCK ? n - at : DSB_MOMENT_BLOCK, &owed[n_owed].one);
        owed[n_owed++].sum = sum;
    }
}
static dsb_status d_whole_round(dsb_wmat *out, const dsb_whole *w, int64_t group, int qmax, dsb_moments *sum, dsb_err *err) {
    dsb_qtensor q;
    float *decoded;
    n_rounded++;
    DSB_TRY(dsb_quantize_rtn(&q, dsb_format_find(qmax > 7 ? "int8" : qmax == 7 ? "int4" : qmax == 3 ? "int3" : "int2"), group, DSB_ZERO_NONE, w->wide, w->rows, w->cols, err));
    DSB_TRY(DSB_NEW(decoded, w->rows * w->cols, "a weight", err));
    dsb_dequantize(&q, NULL, decoded);
    if (sum) owe(w->wide, decoded, w->rows * w->cols, sum);
    free(decoded);
    dsb_status s = cpu->pack_int(out, qmax > 7 ? DSB_W_I8 : DSB_W_I4, q.codes, q.scales, group, w->rows, w->cols, err);
    dsb_qtensor_release(&q);
    return s;
}
static void d_whole_moments(const dsb_whole *w, dsb_moments *sum) { owe(w->wide, w->wide, w->rows * w->cols, sum); }
static float d_absmax(const float *x, int64_t n) { return cpu->absmax(D(x), n); }
static void d_channel_sums(const float *x, int64_t n, int64_t cols, double *sum, double *sum_abs, double *sum_sq, float *top) {
    host(sum);
    cpu->channel_sums(D(x), n, cols, sum, sum_abs, sum_sq, top);
}
static void d_gram(const float *x, int64_t n, int64_t cols, double *gram) {
    host(gram);
    cpu->gram(D(x), n, cols, gram);
}
static void d_facts(dsb_device_facts *out) { *out = (dsb_device_facts){.name = "test", .cache_bytes = 1 << 12}; }
static void d_logit_rows(const float *ref, const float *test, const int32_t *target, int64_t n, int64_t vocab, dsb_logit_row *out) {
    host(target);
    host(out);
    cpu->logit_rows(D(ref), D(test), target, n, vocab, out);
}

/* Packed weights stay the CPU's: they are the backend's own, the engine has no address in them. */
static dsb_backend device_backend(void) {
    return (dsb_backend){.name = "test", .isa = cpu->isa, .alloc = d_alloc, .release = d_release, .upload = d_upload, .download = d_download, .copy = d_copy, .zero = d_zero, .sync = cpu->sync, .check = cpu->check,
                         .pack_float = cpu->pack_float, .pack_int = cpu->pack_int, .unpack = d_unpack, .fuse_experts = d_fuse_experts, .experts_forward = d_experts_forward, .experts_release = d_experts_release, .gemm = d_gemm, .quantize_dynamic = d_quantize_dynamic, .quantize_static = d_quantize_static, .quantize_int4 = d_quantize_int4, .dequantize = d_dequantize, .gemm_heads = d_gemm_heads, .round_e4m3 = d_round_e4m3, .histogram = d_histogram, .scale_columns = d_scale_columns, .hadamard = d_hadamard,
                         .rms_norm = d_rms_norm, .rope = d_rope, .mla_assemble = d_mla_assemble, .attention = d_attention, .silu_mul = d_silu_mul, .swiglu_clamped = d_swiglu_clamped, .add_bias = d_add_bias, .clamp = d_clamp, .sigmoid_gate = d_sigmoid_gate, .round_bf16 = d_round_bf16, .round_f16 = d_round_f16,
                         .load_bf16 = d_load_bf16, .store_bf16 = d_store_bf16, .add = d_add, .gather = d_gather, .scatter_add = d_scatter_add, .route = d_route, .moments = d_moments, .absmax = d_absmax,
                         .logit_rows = d_logit_rows, .channel_sums = d_channel_sums, .gram = d_gram, .facts = d_facts, .moments_later = d_moments_later, .settle = d_settle, .count_into = d_count_into, .whole_open = d_whole_open, .whole_close = d_whole_close, .whole_pack = d_whole_pack, .whole_round = d_whole_round, .whole_moments = d_whole_moments};
}

static int setup(void **state) {
    cpu = dsb_backend_cpu(NULL);
    device = mmap(NULL, k_room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    real = mmap(NULL, k_room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return device == MAP_FAILED || real == MAP_FAILED;
}
static int teardown(void **state) { return munmap(device, k_room) || munmap(real, k_room); }

/* A sweep with calibration, then every scheme's session: all of a prompt, and one more token from the cache. */
static sr_run *whole_run(const dsb_backend *be, const char *dir, float **logits) {
    static const char *const k_scheme[] = {"static-int8", "dynamic-int8", "sparse-expert", "int3-rtn", "qat-int4"};
    sr_run *r = sr_open_model(be, dir);
    int64_t v = r->m.config.vocab;
    for (int i = 0; i < 4 + (dir == sr_model); i++) sr_add_preset(r, k_scheme[i]); /* the built-in model alone has a QAT export */
    sr_sweep(r, 1);
    *logits = calloc((size_t)((r->n_scheme + 1) * SR_CTX * v), sizeof **logits);
    for (int i = 0; i <= r->n_scheme; i++) {
        dsb_session s;
        dsb_err err = {0};
        float *z = *logits + i * SR_CTX * v;
        if (dsb_session_open(&s, &r->m, i ? &r->schemes[i - 1] : &r->reference, &r->cal, SR_CTX, &err)) fail_msg("%s", err.text);
        assert_int_equal(dsb_session_forward(&s, r->tokens, SR_CTX - 1, SR_CTX - 1, z, NULL, &err), DSB_OK);
        assert_int_equal(dsb_session_forward(&s, r->tokens + SR_CTX - 1, 1, 1, z + (SR_CTX - 1) * v, NULL, &err), DSB_OK);
        dsb_session_close(&s);
    }
    return r;
}

static void check_tensor(const sr_tensor *want, const sr_tensor *got) {
    if (!want->format) return;
    assert_string_equal(got->format, want->format);
    assert_memory_equal(&got->moments, &want->moments, sizeof want->moments);
    assert_int_equal(got->activation, want->activation);
    assert_int_equal(got->stored_bytes, want->stored_bytes);
    assert_int_equal(got->group, want->group);
}

static void check_same(const dsb_backend *be, const char *dir) {
    float *want, *got;
    sr_run *a = whole_run(cpu, dir, &want), *b = whole_run(be, dir, &got);
    assert_memory_equal(got, want, (size_t)((a->n_scheme + 1) * SR_CTX * a->m.config.vocab) * sizeof *want);
    assert_memory_equal(b->layer, a->layer, sizeof a->layer);
    assert_memory_equal(b->router, a->router, sizeof a->router);
    assert_memory_equal(b->rows, a->rows, sizeof a->rows);
    assert_memory_equal(b->clipped, a->clipped, sizeof a->clipped);
    assert_memory_equal(b->expert_error, a->expert_error, sizeof a->expert_error);
    for (size_t i = 0; i < sizeof a->expert / sizeof a->expert[0][0][0][0]; i++) check_tensor(&a->expert[0][0][0][0] + i, &b->expert[0][0][0][0] + i);
    for (size_t i = 0; i < sizeof a->other / sizeof a->other[0][0][0]; i++) check_tensor(&a->other[0][0][0] + i, &b->other[0][0][0] + i);
    free(want);
    free(got);
    sr_close(a);
    sr_close(b);
}

static void check_model(const char *dir) {
    dsb_backend be = device_backend();
    check_same(&be, dir);
    assert_true(used > 0);
    assert_true(n_rounded > 0);
    assert_true(n_fused > 0 || strcmp(dir, sr_model) != 0);
}

static void test_device__the_engine_never_touches_device_memory(void **state) { check_model(sr_model); }
/* Sinks, biases and the clamped SwiGLU; the gated shared expert; clamped q, k and v; group-limited routing with a correction bias. */
static void test_device__nor_in_other_architectures(void **state) {
    check_model("tests/fixtures/architectures/gpt_oss");
    check_model("tests/fixtures/architectures/qwen2_moe");
    check_model("tests/fixtures/architectures/olmoe");
    check_model("tests/fixtures/architectures/glm4_moe");
}

/* A benchmark of each kernel gives a device's rows its own memory, and finds plain C's figures there. */
static void test_device__every_bench_case_lies_in_its_memory(void **state) {
    const dsb_kernel_case *k;
    dsb_backend be = device_backend();
    for (int i = 0, n = dsb_bench_cases(&k); i < n; i++) {
        dsb_bench_case c;
        dsb_err err = {0};
        dsb_case_shape shape = {.n = 5, .rows = k[i].product ? 24 : 1, .cols = 32};
        if (k[i].kind == DSB_W_BLOCK) continue;
        if (dsb_bench_case_open(&c, &k[i], &be, &shape, 0, &err) || dsb_bench_case_verify(&c, &err)) fail_msg("%s", err.text);
        dsb_bench_case_close(&c);
    }
}

/* Experts in one piece are held to the CPU's single rows before they are timed. */
static void test_device__experts_are_benchmarked_in_its_memory(void **state) {
    dsb_backend be = device_backend();
    dsb_bench_kernels b = {.repeats = 2, .n_expert = 8, .top_k = 3};
    dsb_bench_job job = {.be = &be, .shape = {.n = 5, .rows = 32, .cols = 64}};
    dsb_roofline roof = {0};
    dsb_bench_row row;
    dsb_arena arena;
    dsb_err err = {0};
    double seconds[2];
    dsb_arena_init(&arena);
    if (dsb_bench_experts_check(&b, &job, &err) || dsb_bench_experts_run(&b, &job, &arena, &roof, seconds, &row, &err)) fail_msg("%s", err.text);
    assert_string_equal(row.shape, "32x64x5, 3 of 8");
    assert_true(row.gops > 0 && row.gbps > 0);
    dsb_arena_release(&arena);
}

static const char *const k_every[] = {"deepseek_v1", "deepseek_v2", "deepseek_v3", "glm4_moe", "gpt_oss", "mixtral", "mixtral_fused", "olmoe", "qwen2_moe", "qwen3_moe"};

/* The reference, integer schemes, calibration, routing and metrics: all bits are the CPU's. */
static void test_device__a_gpu_gives_the_cpus_bits(void **state) {
    const dsb_backend *gpu = hm_device();
    dsb_err err;
    if (!gpu) skip();
    check_same(gpu, sr_model);
    for (size_t i = 0; i < sizeof k_every / sizeof *k_every; i++) {
        char dir[128];
        snprintf(dir, sizeof dir, "tests/fixtures/architectures/%s", k_every[i]);
        check_same(gpu, dir);
    }
    if (gpu->check(&err)) fail_msg("%s", err.text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_device__the_engine_never_touches_device_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_device__nor_in_other_architectures, setup, teardown),
        cmocka_unit_test_setup_teardown(test_device__every_bench_case_lies_in_its_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_device__experts_are_benchmarked_in_its_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_device__a_gpu_gives_the_cpus_bits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
