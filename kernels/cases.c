#include "kernels/cases.h"

#include <string.h>

#include "kernels/layout.h"

static int64_t group_of(const dsb_case_shape *s) { return s->group > 0 && s->group < s->cols ? s->group : s->cols; }
static int64_t kept_of(const dsb_case_shape *s) { return 1 + s->cols / 8; }

/* ---- calls ---- */

#define RUN(name) static void run_##name(const dsb_case_call *c)
#define IN(i) c->in[i]
#define OUT(i) c->out[i]
#define N c->shape.n
#define COLS c->shape.cols
#define ALL (c->shape.n * c->shape.cols)

RUN(gemm_float) { c->be->gemm(&c->w, &(dsb_act){.n = N, .cols = COLS, .f32 = IN(1)}, OUT(0)); }
RUN(gemm_int) { c->be->gemm(&c->w, &(dsb_act){.n = N, .cols = COLS, .q = IN(2), .scale = IN(3)}, OUT(0)); }
RUN(quantize_dynamic) { c->be->quantize_dynamic(IN(0), N, COLS, OUT(0), OUT(1)); }
RUN(quantize_static) { c->be->quantize_static(IN(0), N, COLS, 0.02f, OUT(0), OUT(1)); }
RUN(dequantize) { c->be->dequantize(IN(0), IN(1), N, COLS, OUT(0)); }
RUN(quantize_int4) { c->be->quantize_int4(IN(0), N, COLS, OUT(0), OUT(1)); }
RUN(round_e4m3) { c->be->round_e4m3(IN(0), N, COLS, 0, OUT(0)); }
RUN(scale_columns) { c->be->scale_columns(IN(0), N, COLS, IN(1), OUT(0)); }
RUN(hadamard) { c->be->hadamard(IN(0), N, COLS, COLS & -COLS, OUT(0)); }
RUN(rms_norm) { c->be->rms_norm(IN(0), COLS, IN(1), 1e-6, N, COLS, OUT(0), COLS); }
RUN(rope) { c->be->rope(OUT(0), N, 1, COLS, COLS, COLS / 2 * 2, false, IN(1), IN(2), IN(3)); }
RUN(rope_half) { c->be->rope(OUT(0), N, 1, COLS, COLS, COLS / 2 * 2, true, IN(1), IN(2), IN(3)); }
RUN(mla_assemble) { c->be->mla_assemble(IN(0), IN(1), COLS / 2, N, 1, COLS / 2, COLS - COLS / 2, COLS / 2, OUT(0), OUT(1)); }
RUN(attention) {
    dsb_attention_shape a = {.heads = 2, .kv_heads = 2, .qk_dim = COLS, .v_dim = COLS, .scale = 0.3f};
    c->be->attention(&a, &(dsb_seq){0, N, 0, N}, 1, IN(0), IN(1), IN(2), OUT(0));
}
RUN(attention_window) {
    dsb_attention_shape a = {.heads = 2, .kv_heads = 1, .qk_dim = COLS, .v_dim = COLS, .window = 5, .scale = 0.3f, .sinks = IN(3)};
    c->be->attention(&a, &(dsb_seq){0, N, 0, N}, 1, IN(0), IN(1), IN(2), OUT(0));
}
RUN(attention_decode) {
    dsb_attention_shape a = {.heads = 2, .kv_heads = 2, .qk_dim = COLS, .v_dim = COLS, .scale = 0.3f};
    if (N > 0) c->be->attention(&a, &(dsb_seq){0, 1, 0, N}, 1, IN(0), IN(1), IN(2), OUT(0));
}
RUN(silu_mul) { c->be->silu_mul(IN(0), IN(1), ALL, false, OUT(0)); }
RUN(silu_mul_bf16) { c->be->silu_mul(IN(0), IN(1), ALL, true, OUT(0)); }
RUN(swiglu_clamped) { c->be->swiglu_clamped(IN(0), IN(1), ALL, 1.702f, 7, false, OUT(0)); }
RUN(swiglu_clamped_bf16) { c->be->swiglu_clamped(IN(0), IN(1), ALL, 1.702f, 7, true, OUT(0)); }
RUN(add_bias) { c->be->add_bias(OUT(0), IN(1), N, COLS); }
RUN(clamp) { c->be->clamp(OUT(0), ALL, 0.5f); }
RUN(sigmoid_gate) { c->be->sigmoid_gate(OUT(0), IN(1), N, COLS); }
RUN(round_bf16) { c->be->round_bf16(OUT(0), ALL); }
RUN(round_f16) { c->be->round_f16(OUT(0), ALL); }
RUN(load_bf16) { c->be->load_bf16(IN(0), ALL, OUT(0)); }
RUN(store_bf16) { c->be->store_bf16(IN(0), ALL, OUT(0)); }
RUN(add) { c->be->add(OUT(0), IN(1), ALL); }
RUN(gather) { c->be->gather(IN(0), IN(1), N, COLS, OUT(0)); }
RUN(scatter_add) { c->be->scatter_add(OUT(0), IN(1), IN(2), IN(3), N, COLS); }
RUN(route) {
    dsb_router_shape r = {.n_expert = COLS, .k = kept_of(&c->shape), .n_group = 1, .topk_group = 1, .scoring = DSB_SCORE_SIGMOID, .norm_topk = true, .scale_after_norm = true, .scale = 2.5f};
    c->be->route(&r, IN(0), IN(1), N, OUT(0), OUT(1), OUT(2), OUT(3));
}
RUN(route_softmax) {
    dsb_router_shape r = {.n_expert = COLS, .k = kept_of(&c->shape), .scoring = DSB_SCORE_SOFTMAX, .scale = 1};
    c->be->route(&r, IN(0), NULL, N, OUT(0), OUT(1), OUT(2), OUT(3));
}
RUN(moments) { c->be->moments(IN(0), IN(1), ALL, OUT(0)); }
RUN(absmax) { *(float *)OUT(0) = c->be->absmax(IN(0), ALL); }
RUN(histogram) { c->be->histogram(IN(0), ALL, OUT(0)); }
RUN(channel_sums) { c->be->channel_sums(IN(0), N, COLS, OUT(0), OUT(1), OUT(2), OUT(3)); }
RUN(gram) { c->be->gram(IN(0), N, COLS, OUT(0)); }
RUN(logit_rows) { c->be->logit_rows(IN(0), IN(1), IN(2), N, COLS, OUT(0)); }

/* ---- the table ---- */

#define X_N DSB_EXT_N
#define X_COLS DSB_EXT_COLS
#define X_HOST_COLS (DSB_EXT_COLS | DSB_EXT_HOST)
#define X_ALL (DSB_EXT_N | DSB_EXT_COLS)
#define X_W (DSB_EXT_ROWS | DSB_EXT_COLS)
#define X_Y (DSB_EXT_N | DSB_EXT_ROWS)
#define F32(x) {DSB_DATA_F32, x}
#define MILD(x) {DSB_DATA_MILD, x}
#define CASE(row, ...) {.name = #row, .run = run_##row, __VA_ARGS__}
#define READS(...) .in = {__VA_ARGS__}
#define WRITES(...) .out = {__VA_ARGS__}
#define GEMM_FLOAT(row, wkind) {.name = #row, .run = run_gemm_float, READS(MILD(X_W), F32(X_ALL)), WRITES(MILD(X_Y)), .product = true, .kind = wkind}
#define GEMM_INT(row, wkind, codes) {.name = #row, .run = run_gemm_int, READS({codes, X_W}, MILD(DSB_EXT_ROWS | DSB_EXT_GROUPS), {DSB_DATA_I8, X_ALL}, MILD(X_N)), WRITES(MILD(X_Y)), .product = true, .kind = wkind}
#define ROPE(row) CASE(row, READS(F32(X_ALL), {DSB_DATA_ROW, X_N}, MILD(X_N | DSB_EXT_HALF), MILD(X_N | DSB_EXT_HALF)), WRITES(F32(X_ALL)), .in_place = true, .mixed = true)
#define ROUTE(row) CASE(row, READS(MILD(X_ALL), MILD(X_COLS)), WRITES(MILD(X_ALL), {DSB_DATA_COL, X_N | DSB_EXT_KEPT}, MILD(X_N | DSB_EXT_KEPT), MILD(X_N)))
#define IN_PLACE(row, ...) CASE(row, READS(F32(X_ALL), __VA_ARGS__), WRITES(F32(X_ALL)), .in_place = true)
#define HEADS (X_ALL | DSB_EXT_TWO)

static const dsb_kernel_case k_cases[] = {
    GEMM_FLOAT(gemm_f32, DSB_W_F32),
    GEMM_FLOAT(gemm_bf16, DSB_W_BF16),
    GEMM_FLOAT(gemm_f16, DSB_W_F16),
    GEMM_INT(gemm_i8, DSB_W_I8, DSB_DATA_I8),
    GEMM_INT(gemm_i4, DSB_W_I4, DSB_DATA_I4),
    CASE(quantize_dynamic, READS(F32(X_ALL)), WRITES({DSB_DATA_I8, X_ALL}, F32(X_N))),
    CASE(quantize_static, READS(F32(X_ALL)), WRITES({DSB_DATA_I8, X_ALL}, F32(X_N))),
    CASE(dequantize, READS({DSB_DATA_I8, X_ALL}, MILD(X_N)), WRITES(F32(X_ALL))),
    CASE(quantize_int4, READS(F32(X_ALL)), WRITES({DSB_DATA_I4, X_ALL}, F32(X_N))),
    CASE(round_e4m3, READS(F32(X_ALL)), WRITES(F32(X_ALL))),
    CASE(scale_columns, READS(F32(X_ALL), F32(X_COLS)), WRITES(F32(X_ALL))),
    CASE(hadamard, READS(F32(X_ALL)), WRITES(F32(X_ALL))),
    CASE(rms_norm, READS(F32(X_ALL), MILD(X_COLS)), WRITES(F32(X_ALL))),
    ROPE(rope),
    ROPE(rope_half),
    CASE(mla_assemble, READS(F32(X_ALL), F32(X_N | DSB_EXT_HALF)), WRITES(F32(X_N | DSB_EXT_HALF | DSB_EXT_TWO), F32(X_N | DSB_EXT_REST))),
    CASE(attention, READS(MILD(HEADS), MILD(HEADS), MILD(HEADS)), WRITES(MILD(HEADS)), .mixed = true, .cubic = true),
    CASE(attention_decode, READS(MILD(X_COLS | DSB_EXT_TWO), MILD(HEADS), MILD(HEADS)), WRITES(MILD(X_COLS | DSB_EXT_TWO)), .mixed = true),
    CASE(attention_window, READS(MILD(HEADS), MILD(X_ALL), MILD(X_ALL), MILD(DSB_EXT_TWO)), WRITES(MILD(HEADS)), .mixed = true, .cubic = true),
    CASE(silu_mul, READS(F32(X_ALL), F32(X_ALL)), WRITES(F32(X_ALL))),
    CASE(silu_mul_bf16, READS(F32(X_ALL), F32(X_ALL)), WRITES(F32(X_ALL))),
    CASE(swiglu_clamped, READS(F32(X_ALL), F32(X_ALL)), WRITES(F32(X_ALL))),
    CASE(swiglu_clamped_bf16, READS(F32(X_ALL), F32(X_ALL)), WRITES(F32(X_ALL))),
    IN_PLACE(add_bias, F32(X_COLS)),
    IN_PLACE(clamp),
    IN_PLACE(sigmoid_gate, F32(X_N)),
    IN_PLACE(round_bf16),
    IN_PLACE(round_f16),
    CASE(load_bf16, READS({DSB_DATA_BF16, X_ALL}), WRITES(F32(X_ALL))),
    CASE(store_bf16, READS(F32(X_ALL)), WRITES({DSB_DATA_BF16, X_ALL})),
    IN_PLACE(add, F32(X_ALL)),
    CASE(gather, READS(F32(X_ALL), {DSB_DATA_ROW, X_N}), WRITES(F32(X_ALL)), .mixed = true),
    CASE(scatter_add, READS(F32(X_ALL), {DSB_DATA_ROW, X_N}, MILD(X_N), F32(X_ALL)), WRITES(F32(X_ALL)), .in_place = true, .mixed = true),
    ROUTE(route),
    ROUTE(route_softmax),
    CASE(moments, READS(F32(X_ALL), F32(X_ALL)), WRITES({DSB_DATA_MOMENTS, DSB_EXT_HOST}), .mixed = true),
    CASE(absmax, READS(F32(X_ALL)), WRITES(F32(DSB_EXT_HOST)), .mixed = true),
    CASE(histogram, READS(F32(X_ALL)), WRITES({DSB_DATA_U64, DSB_EXT_BINS | DSB_EXT_HOST}), .adds = true, .mixed = true),
    CASE(channel_sums, READS(F32(X_ALL)), WRITES({DSB_DATA_F64, X_HOST_COLS}, {DSB_DATA_F64, X_HOST_COLS}, {DSB_DATA_F64, X_HOST_COLS}, F32(X_HOST_COLS)), .adds = true, .mixed = true),
    CASE(gram, READS(F32(X_ALL)), WRITES({DSB_DATA_F64, DSB_EXT_COLS | DSB_EXT_COLS_AGAIN | DSB_EXT_HOST}), .adds = true, .mixed = true, .cubic = true),
    CASE(logit_rows, READS(MILD(X_ALL), MILD(X_ALL), {DSB_DATA_COL, X_N | DSB_EXT_HOST}), WRITES({DSB_DATA_LOGITS, X_N | DSB_EXT_HOST})),
};

int dsb_kernel_cases(const dsb_kernel_case **rows) {
    *rows = k_cases;
    return (int)(sizeof k_cases / sizeof *k_cases);
}

/* ---- buffers ---- */

int64_t dsb_case_count(const dsb_case_buffer *b, const dsb_case_shape *s) {
    const int64_t length[] = {s->n, s->rows, s->cols, s->cols, s->cols / 2, s->cols - s->cols / 2, dsb_ceil_div(s->cols, group_of(s)), kept_of(s), 2, DSB_BINS}; /* by the extents' order */
    int64_t n = b->data != DSB_DATA_NONE;
    for (size_t i = 0; i < sizeof length / sizeof *length; i++)
        if (b->extent >> i & 1) n *= length[i];
    return n;
}

size_t dsb_case_element(dsb_case_data data, size_t *used) {
    static const struct {
        size_t bytes, used;
    } k_size[] = {
        [DSB_DATA_F32] = {4, 4}, [DSB_DATA_MILD] = {4, 4}, [DSB_DATA_I8] = {1, 1}, [DSB_DATA_I4] = {1, 1}, [DSB_DATA_BF16] = {2, 2}, [DSB_DATA_ROW] = {4, 4}, [DSB_DATA_COL] = {4, 4}, [DSB_DATA_F64] = {8, 8}, [DSB_DATA_U64] = {8, 8},
        [DSB_DATA_MOMENTS] = {sizeof(dsb_moments), sizeof(dsb_moments)},
        [DSB_DATA_LOGITS] = {sizeof(dsb_logit_row), offsetof(dsb_logit_row, nonfinite) + sizeof(int32_t)},
    };
    if (used) *used = k_size[data].used;
    return k_size[data].bytes;
}

/* Bits that look like chance: a number's place and the seed, stirred. */
static uint32_t stir(uint32_t seed, int64_t i) {
    uint32_t h = (uint32_t)i * 2654435761u ^ seed * 2246822519u;
    h = (h ^ h >> 15) * 2246822519u;
    h = (h ^ h >> 13) * 3266489917u;
    return h ^ h >> 16;
}

static float any_float(uint32_t h) {
    static const float k_odd[] = {0.0f, -0.0f, 1e-45f, -3e-40f, 1.17549435e-38f, 1e-20f, -1e18f, 3e18f};
    if (h >> 30 == 0) return k_odd[h & 7];
    return (float)((int32_t)(h & 0xffff) - 32768) / 8192.0f;
}

static void fill_one(dsb_case_data data, dsb_case_fill how, uint32_t h, void *to) {
    int most = data == DSB_DATA_I4 ? 7 : 127;
    if (how == DSB_FILL_MILD && data == DSB_DATA_F32) data = DSB_DATA_MILD;
    if (data == DSB_DATA_F32) *(float *)to = how == DSB_FILL_LARGEST ? (h & 1 ? 3e18f : -3e18f) : any_float(h);
    if (data == DSB_DATA_MILD) *(float *)to = how == DSB_FILL_LARGEST ? (h & 1 ? 2.0f : -2.0f) : (float)((int32_t)(h & 0xffff) - 32768) / 16384.0f;
    if (data == DSB_DATA_I8 || data == DSB_DATA_I4) *(int8_t *)to = (int8_t)(how == DSB_FILL_LARGEST ? (h & 1 ? most : -most) : (int)(h >> 8) % (2 * most + 1) - most);
    if (data == DSB_DATA_BF16) *(uint16_t *)to = dsb_f32_to_bf16(any_float(h));
}

void dsb_case_fill_in(const dsb_case_buffer *b, const dsb_case_shape *s, dsb_case_fill how, uint32_t seed, void *host) {
    int64_t n = dsb_case_count(b, s), row = b->extent & DSB_EXT_N && s->n > 0 ? n / s->n : 0;
    size_t size = dsb_case_element(b->data, NULL);
    for (int64_t i = 0; i < n; i++) {
        int32_t number = b->data == DSB_DATA_ROW ? (int32_t)(n - 1 - i) : (int32_t)(7 * i % s->cols);
        void *to = (uint8_t *)host + (size_t)i * size;
        if (b->data == DSB_DATA_ROW || b->data == DSB_DATA_COL) *(int32_t *)to = number;
        else if (how == DSB_FILL_ZERO_ROW && i < row) memset(to, 0, size);
        else fill_one(b->data, how, stir(seed, i), to);
    }
}

dsb_status dsb_case_pack(const dsb_kernel_case *k, dsb_case_call *c, const void *weights, const void *scales, dsb_err *err) {
    const dsb_case_shape *s = &c->shape;
    if (k->kind < DSB_W_I8) return c->be->pack_float(&c->w, k->kind, weights, s->rows, s->cols, err);
    return c->be->pack_int(&c->w, k->kind, weights, scales, group_of(s), s->rows, s->cols, err);
}
