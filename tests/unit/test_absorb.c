/* MLA over a cache of latents against the plain form with keys and values expanded: the same attention from the same input, with every kind of
 * kv_b. The output projection is the identity, so what is compared is each head's output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/block.h"
#include "values.h"

enum { HEADS = 3, NOPE = 10, ROPE = 4, V = 6, LORA = 16, QLORA = 8, D = HEADS * V, ROWS = HEADS * (NOPE + V), N = 20, WIDTH = LORA + ROPE, RANK = 2 };

typedef struct shape {
    const char *name;
    dsb_wkind kind;
    int64_t group;
    dsb_activation activation;
    bool bf16, q_lora, transformed, low_rank, bias;
} shape;

static const shape k_shapes[] = {
    {.name = "reference", .kind = DSB_W_F32},
    {.name = "reference, q-LoRA", .kind = DSB_W_F32, .q_lora = true},
    {.name = "reference of BF16 weights", .kind = DSB_W_BF16},
    {.name = "bf16", .kind = DSB_W_BF16, .bf16 = true},
    {.name = "int8, dynamic", .kind = DSB_W_I8, .group = LORA, .activation = DSB_ACT_INT8_DYNAMIC, .bf16 = true},
    {.name = "int8, dynamic, f32 carrier", .kind = DSB_W_I8, .group = LORA, .activation = DSB_ACT_INT8_DYNAMIC},
    {.name = "int8, static, q-LoRA", .kind = DSB_W_I8, .group = LORA, .activation = DSB_ACT_INT8_STATIC, .bf16 = true, .q_lora = true},
    {.name = "int4 in groups", .kind = DSB_W_I4, .group = 6, .activation = DSB_ACT_INT8_DYNAMIC, .bf16 = true},
    {.name = "int4 activations", .kind = DSB_W_I4, .group = 8, .activation = DSB_ACT_INT4_DYNAMIC, .bf16 = true},
    {.name = "fp8 activations", .kind = DSB_W_F32, .activation = DSB_ACT_FP8_DYNAMIC, .bf16 = true},
    {.name = "smooth and rotated", .kind = DSB_W_I8, .group = LORA, .activation = DSB_ACT_INT8_DYNAMIC, .bf16 = true, .transformed = true},
    {.name = "low rank and bias", .kind = DSB_W_F32, .bf16 = true, .low_rank = true, .bias = true},
};

typedef struct setup {
    const dsb_backend *be;
    dsb_model m;
    dsb_attn_weights w;
    double abs_w[ROWS][LORA], abs_bias[ROWS]; /* magnitudes of kv_b, low-rank factors multiplied out */
    float x[N * D];
} setup;

static void *device(const setup *t, const float *host, int64_t n) {
    void *p;
    assert_int_equal(t->be->alloc(&p, (size_t)n * sizeof *host, "a test", NULL), DSB_OK);
    t->be->upload(p, host, (size_t)n * sizeof *host);
    return p;
}

/* Within ±scale. */
static float *randoms(int64_t n, float scale, uint32_t seed) {
    float *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = bell(&seed) * scale;
    return x;
}

static void dense(const setup *t, dsb_linear *l, int64_t rows, int64_t cols, float scale, uint32_t seed) {
    float *w = randoms(rows * cols, scale, seed);
    assert_int_equal(t->be->pack_float(&l->w, DSB_W_F32, w, rows, cols, NULL), DSB_OK);
    free(w);
}

static float *ones(const setup *t, int64_t n) {
    float *x = randoms(n, 0.3f, 77);
    for (int64_t i = 0; i < n; i++) x[i] += 1;
    float *p = device(t, x, n);
    free(x);
    return p;
}

static void make_kv_b(setup *t, const shape *s) {
    dsb_linear *l = &t->w.kv_b;
    float *w = randoms(ROWS * LORA, 0.3f, 5);
    l->activation = s->activation;
    l->static_scale = 0.02f;
    if (s->kind >= DSB_W_I8) {
        int64_t groups = (LORA + s->group - 1) / s->group;
        float most = s->kind == DSB_W_I8 ? 127 : 7, scales[ROWS * LORA];
        int8_t codes[ROWS * LORA];
        for (int64_t i = 0; i < ROWS * groups; i++) scales[i] = 0.3f / most * (1 + (float)(i % 5) / 16);
        for (int64_t i = 0; i < ROWS * LORA; i++) {
            codes[i] = (int8_t)lrintf(w[i] / 0.3f * most);
            t->abs_w[i / LORA][i % LORA] = fabs((double)codes[i] * (double)scales[i / LORA * groups + i % LORA / s->group]);
        }
        assert_int_equal(t->be->pack_int(&l->w, s->kind, codes, scales, s->group, ROWS, LORA, NULL), DSB_OK);
    } else {
        for (int64_t i = 0; i < ROWS * LORA; i++) {
            if (s->kind == DSB_W_BF16) w[i] = dsb_bf16_to_f32(dsb_f32_to_bf16(w[i]));
            t->abs_w[i / LORA][i % LORA] = fabs((double)w[i]);
        }
        assert_int_equal(t->be->pack_float(&l->w, s->kind, w, ROWS, LORA, NULL), DSB_OK);
    }
    if (s->transformed) {
        l->in_scale = ones(t, LORA);
        l->rotation = LORA;
    }
    if (s->low_rank) {
        float *a = randoms(ROWS * RANK, 0.2f, 6), *b = randoms(RANK * LORA, 0.2f, 7);
        assert_int_equal(t->be->pack_float(&l->a, DSB_W_F32, a, ROWS, RANK, NULL), DSB_OK);
        assert_int_equal(t->be->pack_float(&l->b, DSB_W_F32, b, RANK, LORA, NULL), DSB_OK);
        for (int64_t i = 0; i < ROWS * LORA; i++)
            for (int64_t r = 0; r < RANK; r++) t->abs_w[i / LORA][i % LORA] += fabs((double)a[i / LORA * RANK + r] * (double)b[r * LORA + i % LORA]);
        free(a);
        free(b);
    }
    if (s->bias) {
        float *bias = randoms(ROWS, 0.5f, 8);
        l->bias = device(t, bias, ROWS);
        for (int64_t i = 0; i < ROWS; i++) t->abs_bias[i] = fabs((double)bias[i]);
        free(bias);
    }
    free(w);
}

static void open_setup(setup *t, const shape *s) {
    float eye[D * D] = {0}, *x = randoms(N * D, 1, 1), cosine[N * ROPE / 2], sine[N * ROPE / 2];
    *t = (setup){.be = dsb_backend_cpu(NULL)};
    t->m = (dsb_model){.be = t->be, .n_pos = N, .config = {.d_model = D, .heads = HEADS, .kv_heads = HEADS, .q_lora = s->q_lora ? QLORA : 0, .kv_lora = LORA, .nope = NOPE, .rope_dim = ROPE, .v_dim = V, .rms_eps = 1e-6, .attention_scale = 0.25f}};
    for (int i = 0; i < N * ROPE / 2; i++) {
        cosine[i] = (float)cos(0.3 * i);
        sine[i] = (float)sin(0.3 * i);
    }
    t->m.cos_table = device(t, cosine, N * ROPE / 2);
    t->m.sin_table = device(t, sine, N * ROPE / 2);
    for (int i = 0; i < N * D; i++) t->x[i] = dsb_bf16_to_f32(dsb_f32_to_bf16(x[i]));
    free(x);
    for (int i = 0; i < D; i++) eye[i * D + i] = 1;
    assert_int_equal(t->be->pack_float(&t->w.o.w, DSB_W_F32, eye, D, D, NULL), DSB_OK);
    if (s->q_lora) {
        dense(t, &t->w.q_a, QLORA, D, 0.6f, 2);
        dense(t, &t->w.q_b, HEADS * (NOPE + ROPE), QLORA, 0.6f, 3);
        t->w.q_a_norm = ones(t, QLORA);
    } else {
        dense(t, &t->w.q, HEADS * (NOPE + ROPE), D, 0.6f, 3);
    }
    dense(t, &t->w.kv_a, WIDTH, D, 0.4f, 4);
    t->w.input_norm = ones(t, D);
    t->w.kv_a_norm = ones(t, LORA);
    make_kv_b(t, s);
    assert_int_equal(dsb_attn_absorb(&t->m, &t->w, s->bf16, NULL), DSB_OK);
}

static void close_setup(setup *t) {
    dsb_attn_release(t->be, &t->w);
    t->be->release(t->m.cos_table);
    t->be->release(t->m.sin_table);
}

/* Queries before rotation, as the block makes them. */
static void queries(setup *t, const shape *s, dsb_workspace *ws, float *q) {
    float h[N * D], qa[N * QLORA];
    t->be->rms_norm(t->x, D, t->w.input_norm, 1e-6, N, D, h, D);
    if (s->bf16) t->be->round_bf16(h, N * D);
    if (!s->q_lora) {
        assert_int_equal(dsb_linear_apply(&t->m, &t->w.q, s->bf16, h, N, ws, q, NULL), DSB_OK);
        return;
    }
    assert_int_equal(dsb_linear_apply(&t->m, &t->w.q_a, s->bf16, h, N, ws, qa, NULL), DSB_OK);
    t->be->rms_norm(qa, QLORA, t->w.q_a_norm, 1e-6, N, QLORA, qa, QLORA);
    if (s->bf16) t->be->round_bf16(qa, N * QLORA);
    assert_int_equal(dsb_linear_apply(&t->m, &t->w.q_b, s->bf16, qa, N, ws, q, NULL), DSB_OK);
}

/* Σ over inputs of |weight|·|latent|, and |bias|: what row r's output is made of. */
static double magnitude(const setup *t, int64_t r, const float *latent) {
    double sum = t->abs_bias[r];
    for (int l = 0; l < LORA; l++) sum += t->abs_w[r][l] * fabs((double)latent[l]);
    return sum;
}

/* How far the two forms' outputs of query i, head h, may lie apart. u: half a BF16 unit, which the plain form rounds keys, values and low-rank
 * inner values by, and the absorbed one kv_b; G: f32 chains of under 128 operations. A score is off by e at most; so weights by a factor
 * within exp(±2e), values by U + G of their magnitude; both forms round the result. */
static double bound(const setup *t, const shape *s, const float *q, const float *cache, int i, int h, int d) {
    double u = s->bf16 ? 0x1p-9 : 0, U = 3.1 * u, G = 128 * 0x1p-24, e = 0, v = 0, pe = 0;
    const float *mine = q + (i * HEADS + h) * (NOPE + ROPE);
    for (int k = NOPE; k < NOPE + ROPE; k++) pe += (double)mine[k] * (double)mine[k];
    for (int j = 0; j <= i; j++) {
        const float *latent = cache + j * WIDTH;
        double a = 0, kpe = 0, b = magnitude(t, h * (NOPE + V) + NOPE + d, latent);
        for (int k = 0; k < NOPE; k++) a += fabs((double)mine[k]) * magnitude(t, h * (NOPE + V) + k, latent);
        for (int k = 0; k < ROPE; k++) kpe += (double)latent[LORA + k] * (double)latent[LORA + k];
        double off = 0.25 * (a * (U + G) + 1.01 * sqrt(pe * kpe) * G);
        e = off > e ? off : e;
        v = b > v ? b : v;
    }
    double weights = exp(2 * e) * (1 + 2 * G) - 1;
    return v * (weights * (1 + U) + (U + 2 * G + 2 * u) * (1 + weights) * (1 + U));
}

static void check(const shape *s) {
    setup t;
    dsb_workspace ws;
    float plain[N * D], absorbed[N * D], q[N * HEADS * (NOPE + ROPE)], cache[N * WIDTH];
    int32_t pos[N];
    dsb_seq whole = {0, N, 0, N};
    dsb_kv_cache kv = {.k = cache, .room = N};
    const int64_t pieces[] = {7, 1, 12};
    open_setup(&t, s);
    dsb_workspace_init(&ws, t.be);
    for (int i = 0; i < N; i++) pos[i] = i;
    assert_int_equal(dsb_attention_forward(&t.m, &t.w, s->bf16, t.x, N, pos, &whole, 1, NULL, NULL, &ws, plain, NULL), DSB_OK);
    for (int64_t p = 0, at = 0; p < 3; at += pieces[p++]) {
        dsb_seq seq = {0, pieces[p], 0, at + pieces[p]};
        assert_int_equal(dsb_attention_forward(&t.m, &t.w, s->bf16, t.x + at * D, pieces[p], pos + at, &seq, 1, &kv, NULL, &ws, absorbed + at * D, NULL), DSB_OK);
    }
    assert_int_equal(kv.len, N);
    assert_memory_equal(absorbed, plain, (size_t)pieces[0] * D * sizeof *plain); /* an empty cache: the plain form */
    queries(&t, s, &ws, q);
    for (int i = 0; i < N * D; i++) {
        double most = bound(&t, s, q, cache, i / D, i % D / V, i % V), off = fabs((double)plain[i] - (double)absorbed[i]);
        if (!(off <= most)) fail_msg("%s: token %d, value %d: %.9g plain, %.9g absorbed; they may differ by %.3g", s->name, i / D, i % D, (double)plain[i], (double)absorbed[i], most);
    }
    dsb_workspace_release(&ws);
    close_setup(&t);
}

static void test_absorb__attention_is_the_plain_forms(void **state) {
    for (size_t i = 0; i < sizeof k_shapes / sizeof *k_shapes; i++) check(&k_shapes[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_absorb__attention_is_the_plain_forms)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
