#include "kernels/case.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/layout.h"

enum { GUARD = 64, PATTERN = 0xa5 };
enum { X, SCALE, K, V, MORE }; /* inputs */

/* The next of a sequence that every case begins alike. */
static uint32_t next(dsb_case *c) { return c->random = c->random * 1664525u + 1013904223u; }
/* [-1, 1) in steps of 2^-15. */
static float unit(dsb_case *c) { return (float)((int32_t)(next(c) >> 16) - 32768) / 32768.0f; }
static int8_t code_within(dsb_case *c, int most) { return (int8_t)((int)(next(c) >> 16) % (2 * most + 1) - most); }

static size_t shift_of(const dsb_case *c) { return c->fill == DSB_FILL_SHIFTED ? 4 : 0; }
/* Bytes between two copies: each as the first is aligned. */
static size_t rounded(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Host bytes as input `slot`, in every copy or once. */
static dsb_status put(dsb_case *c, int slot, const void *host, size_t bytes, bool every_copy, dsb_err *err) {
    int copies = every_copy ? c->copies : 1;
    void *p;
    c->in_stride[slot] = every_copy ? rounded(bytes) : 0;
    DSB_TRY(c->be->alloc(&p, (size_t)copies * rounded(bytes) + shift_of(c), "inputs of a kernel", err));
    c->memory[slot] = p;
    c->in[slot] = c->memory[slot] + shift_of(c);
    for (int i = 0; i < copies; i++) c->be->upload(c->in[slot] + (size_t)i * rounded(bytes), host, bytes);
    return DSB_OK;
}
static const void *input(const dsb_case *c, int slot, int copy) { return c->in[slot] + (size_t)copy * c->in_stride[slot]; }

/* n floats up to `most`; the first `zeros` of them 0 where the largest are wanted. Owned by the caller. */
static dsb_status make_floats(dsb_case *c, float **out, int64_t n, float most, int64_t zeros, dsb_err *err) {
    DSB_TRY(DSB_NEW(*out, n, "values of a kernel", err));
    for (int64_t i = 0; i < n; i++) {
        float u = unit(c);
        (*out)[i] = most * (c->fill != DSB_FILL_LARGEST ? u : i < zeros ? 0 : u < 0 ? -1 : 1);
    }
    return DSB_OK;
}
static dsb_status put_floats(dsb_case *c, int slot, int64_t n, float most, int64_t zeros, bool every_copy, dsb_err *err) {
    float *x;
    DSB_TRY(make_floats(c, &x, n, most, zeros, err));
    dsb_status s = put(c, slot, x, (size_t)n * sizeof *x, every_copy, err);
    free(x);
    return s;
}

static dsb_status make_codes(dsb_case *c, int8_t **out, int64_t n, int most, int64_t zeros, dsb_err *err) {
    DSB_TRY(DSB_NEW(*out, n, "codes of a kernel", err));
    for (int64_t i = 0; i < n; i++) {
        int8_t q = code_within(c, most);
        (*out)[i] = c->fill != DSB_FILL_LARGEST ? q : i < zeros ? 0 : (int8_t)(q < 0 ? -most : most);
    }
    return DSB_OK;
}

/* Outputs of all items between guards, on the device or on the host. */
static dsb_status add_output_at(dsb_case *c, bool host, size_t stride, size_t width, dsb_err *err) {
    dsb_case_output *o = &c->out[c->n_out++];
    size_t bytes = (size_t)c->items * stride + 2 * GUARD + shift_of(c);
    void *p;
    uint8_t *guards;
    DSB_TRY(host ? dsb_calloc(&p, bytes, 1, "outputs of a kernel", err) : c->be->alloc(&p, bytes, "outputs of a kernel", err));
    *o = (dsb_case_output){.memory = p, .p = (char *)p + GUARD + shift_of(c), .host = host, .stride = stride, .width = width};
    DSB_TRY(DSB_NEW(guards, bytes, "guards of a kernel", err));
    memset(guards, PATTERN, bytes);
    if (host) memcpy(o->memory, guards, bytes);
    else c->be->upload(o->memory, guards, bytes);
    free(guards);
    return DSB_OK;
}
static dsb_status add_output(dsb_case *c, size_t stride, size_t width, dsb_err *err) { return add_output_at(c, false, stride, width, err); }
static void fetch(const dsb_case *c, int i, void *to, const void *from, size_t bytes) {
    if (c->out[i].host) memcpy(to, from, bytes);
    else c->be->download(to, from, bytes);
}
static void *output(const dsb_case *c, int i, int64_t first) { return c->out[i].p + (size_t)first * c->out[i].stride; }

static dsb_status pack_copies(dsb_case *c, const float *w, const int8_t *codes, const float *scales, dsb_err *err) {
    const dsb_case_shape *s = &c->shape;
    DSB_TRY(DSB_NEW(c->w, c->copies, "weights of a kernel", err));
    for (int i = 0; i < c->copies; i++)
        DSB_TRY(codes ? c->be->pack_int(&c->w[i], c->row->kind, codes, scales, s->group, s->rows, s->cols, err) : c->be->pack_float(&c->w[i], c->row->kind, w, s->rows, s->cols, err));
    c->bytes = (double)c->w[0].bytes;
    return DSB_OK;
}

static dsb_status make_product(dsb_case *c, dsb_err *err) {
    const dsb_case_shape *s = &c->shape;
    bool integer = c->row->kind >= DSB_W_I8;
    float *w = NULL;
    int8_t *codes = NULL, *q = NULL;
    dsb_status st = make_floats(c, &w, integer ? s->rows * dsb_ceil_div(s->cols, s->group) : s->rows * s->cols, integer ? 0.1f : 1, 0, err);
    if (!st && integer) st = make_codes(c, &codes, s->rows * s->cols, c->row->kind == DSB_W_I8 ? 127 : 7, 0, err);
    if (!st) st = pack_copies(c, w, codes, w, err);
    if (!st && integer) st = make_codes(c, &q, s->n * s->cols, 127, s->cols, err);
    if (!st && integer) st = put(c, X, q, (size_t)(s->n * s->cols), false, err);
    if (!st && integer) st = put_floats(c, SCALE, s->n, 0.1f, 1, false, err);
    if (!st && !integer) st = put_floats(c, X, s->n * s->cols, 3, s->cols, false, err);
    free(w);
    free(codes);
    free(q);
    c->ops = 2 * (double)s->rows * (double)s->cols * (double)s->n;
    return st ? st : add_output(c, (size_t)s->rows * 4, (size_t)s->rows * 4, err);
}

static void run_product(const dsb_case *c, int copy, int64_t first, int64_t n) {
    int64_t cols = c->shape.cols;
    dsb_act x = {.n = n, .cols = cols};
    if (c->row->kind >= DSB_W_I8) {
        x.q = (const int8_t *)input(c, X, 0) + first * cols;
        x.scale = (const float *)input(c, SCALE, 0) + first;
    } else {
        x.f32 = (const float *)input(c, X, 0) + first * cols;
    }
    c->be->gemm(&c->w[copy], &x, output(c, 0, first));
}

/* Rows of c->shape.cols values, c->shape.rows of them an item, from memory in every copy. */
static dsb_status make_rows(dsb_case *c, dsb_err *err) {
    int64_t item = c->shape.rows * c->shape.cols;
    c->bytes = 4 * (double)item * (double)c->shape.n;
    return put_floats(c, X, item * c->shape.n, 3, item, true, err);
}
static const float *rows_of(const dsb_case *c, int copy, int64_t first) { return (const float *)input(c, X, copy) + first * c->shape.rows * c->shape.cols; }

static dsb_status make_quantize(dsb_case *c, dsb_err *err) {
    size_t item = (size_t)(c->shape.rows * c->shape.cols);
    DSB_TRY(make_rows(c, err));
    c->ops = 3 * (double)item * (double)c->shape.n;
    DSB_TRY(add_output(c, item, item, err));
    return add_output(c, (size_t)c->shape.rows * 4, (size_t)c->shape.rows * 4, err);
}
static void run_quantize(const dsb_case *c, int copy, int64_t first, int64_t n) { c->be->quantize_dynamic(rows_of(c, copy, first), n * c->shape.rows, c->shape.cols, output(c, 0, first), output(c, 1, first)); }

static dsb_status make_norm(dsb_case *c, dsb_err *err) {
    size_t item = (size_t)(c->shape.rows * c->shape.cols);
    DSB_TRY(make_rows(c, err));
    DSB_TRY(put_floats(c, MORE, c->shape.cols, 1, 0, false, err));
    c->ops = 4 * (double)item * (double)c->shape.n;
    return add_output(c, item * 4, item * 4, err);
}
static void run_norm(const dsb_case *c, int copy, int64_t first, int64_t n) {
    int64_t d = c->shape.cols;
    c->be->rms_norm(rows_of(c, copy, first), d, input(c, MORE, 0), 1e-6, n * c->shape.rows, d, output(c, 0, first), d);
}

static dsb_status make_silu(dsb_case *c, dsb_err *err) {
    size_t item = (size_t)(c->shape.rows * c->shape.cols);
    DSB_TRY(make_rows(c, err));
    DSB_TRY(put_floats(c, MORE, (int64_t)item * c->shape.n, 3, (int64_t)item, true, err));
    c->bytes *= 2;
    c->ops = 4 * (double)item * (double)c->shape.n;
    return add_output(c, item * 4, item * 4, err);
}
static void run_silu(const dsb_case *c, int copy, int64_t first, int64_t n) {
    int64_t item = c->shape.rows * c->shape.cols;
    c->be->silu_mul(rows_of(c, copy, first), (const float *)input(c, MORE, copy) + first * item, n * item, true, output(c, 0, first));
}

/* In place, so that an item's input is its output: copied there before. */
static dsb_status make_rope(dsb_case *c, dsb_err *err) {
    const dsb_case_shape *s = &c->shape;
    size_t item = (size_t)(s->rows * s->cols);
    int32_t *pos;
    DSB_TRY(make_rows(c, err));
    DSB_TRY(put_floats(c, K, s->n * s->cols / 2, 1, 0, false, err)); /* cosines, then sines: any numbers do */
    DSB_TRY(put_floats(c, V, s->n * s->cols / 2, 1, 0, false, err));
    DSB_TRY(DSB_NEW(pos, s->n, "positions", err));
    for (int64_t i = 0; i < s->n; i++) pos[i] = (int32_t)(s->n - 1 - i);
    dsb_status st = put(c, MORE, pos, (size_t)s->n * sizeof *pos, false, err);
    free(pos);
    c->ops = 3 * (double)item * (double)s->n;
    return st ? st : add_output(c, item * 4, item * 4, err);
}
static void run_rope(const dsb_case *c, int copy, int64_t first, int64_t n) {
    int64_t item = c->shape.rows * c->shape.cols;
    c->be->copy(output(c, 0, first), rows_of(c, copy, first), (size_t)(n * item) * 4);
    c->be->rope(output(c, 0, first), n, c->shape.rows, item, c->shape.cols, c->shape.cols, false, (const int32_t *)input(c, MORE, 0) + first, input(c, K, 0), input(c, V, 0));
}

/* As V3 routes: sigmoid scores, a bias, no groups. */
static dsb_router_shape router(const dsb_case *c) {
    return (dsb_router_shape){.n_expert = c->shape.rows, .k = c->shape.cols, .scoring = DSB_SCORE_SIGMOID, .norm_topk = true, .scale_after_norm = true, .scale = 2.5f};
}
static dsb_status make_route(dsb_case *c, dsb_err *err) {
    const dsb_case_shape *s = &c->shape;
    if (s->cols > s->rows) return dsb_fail(err, DSB_EUSAGE, "%s: %lld experts of %lld can't be chosen", c->row->name, (long long)s->cols, (long long)s->rows);
    DSB_TRY(put_floats(c, X, s->rows * s->n, 3, s->rows, true, err));
    DSB_TRY(put_floats(c, MORE, s->rows, 0.2f, 0, false, err));
    c->bytes = 4 * (double)s->rows * (double)s->n;
    c->ops = 4 * (double)s->rows * (double)s->n;
    DSB_TRY(add_output(c, (size_t)s->cols * 4, (size_t)s->cols * 4, err));
    DSB_TRY(add_output(c, (size_t)s->cols * 4, (size_t)s->cols * 4, err));
    return add_output(c, 4, 4, err);
}
static void run_route(const dsb_case *c, int copy, int64_t first, int64_t n) {
    dsb_router_shape r = router(c);
    c->be->route(&r, (const float *)input(c, X, copy) + first * r.n_expert, input(c, MORE, 0), n, NULL, output(c, 0, first), output(c, 1, first), output(c, 2, first));
}

/* heads x dimension x tokens: as many keys as tokens, in every copy. queries: of the last tokens. */
static dsb_status make_attention_of(dsb_case *c, int64_t queries, dsb_err *err) {
    const dsb_case_shape *s = &c->shape;
    int64_t keys = s->n, item = s->rows * s->cols;
    double pairs = (double)queries * (double)(keys - queries) + 0.5 * (double)queries * (double)(queries + 1);
    DSB_TRY(put_floats(c, X, item * queries, 1, item, false, err));
    DSB_TRY(put_floats(c, K, item * keys, 1, item, true, err));
    DSB_TRY(put_floats(c, V, item * keys, 1, item, true, err));
    c->ops = 4 * (double)item * pairs;
    c->bytes = 8 * (double)item * (double)keys;
    c->items = queries;
    return add_output(c, (size_t)item * 4, (size_t)item * 4, err);
}
static dsb_status make_attention(dsb_case *c, dsb_err *err) { return make_attention_of(c, c->shape.n, err); }
static dsb_status make_attention_decode(dsb_case *c, dsb_err *err) { return make_attention_of(c, 1, err); }
static void run_attention(const dsb_case *c, int copy, int64_t first, int64_t n) {
    dsb_attention_shape a = {.heads = c->shape.rows, .kv_heads = c->shape.rows, .qk_dim = c->shape.cols, .v_dim = c->shape.cols, .scale = 0.125f};
    dsb_seq seq = {.q0 = 0, .n_q = n, .kv0 = 0, .n_kv = c->shape.n - c->items + first + n};
    c->be->attention(&a, &seq, 1, (const float *)input(c, X, 0) + first * c->shape.rows * c->shape.cols, input(c, K, copy), input(c, V, copy), output(c, 0, first));
}
/* Targets and figures are the host's. */
static dsb_status make_logits(dsb_case *c, dsb_err *err) {
    const dsb_case_shape *s = &c->shape;
    if (s->rows != 1) return dsb_fail(err, DSB_EUSAGE, "%s: %lld vocabularies; 1 is wanted", c->row->name, (long long)s->rows);
    DSB_TRY(make_rows(c, err));
    DSB_TRY(put_floats(c, MORE, s->cols * s->n, 3, 0, true, err));
    DSB_TRY(DSB_NEW(c->targets, s->n, "targets", err));
    for (int64_t i = 0; i < s->n; i++) c->targets[i] = (int32_t)(next(c) % s->cols);
    c->bytes *= 2;
    c->ops = 12 * (double)s->cols * (double)s->n;
    if (shift_of(c)) c->fill = DSB_FILL_PLAIN; /* the figures are doubles */
    return add_output_at(c, true, sizeof(dsb_logit_row), offsetof(dsb_logit_row, nonfinite) + sizeof(int32_t), err);
}
static void run_logits(const dsb_case *c, int copy, int64_t first, int64_t n) {
    c->be->logit_rows(rows_of(c, copy, first), (const float *)input(c, MORE, copy) + first * c->shape.cols, c->targets + first, n, c->shape.cols, output(c, 0, first));
}

static const char k_product[] = "outputs x inputs x tokens";
/* The shapes are those of an expert of DeepSeek-V2-Lite, of its attention and its vocabulary. */
static const dsb_case_row k_cases[] = {
    {"gemm_f32", k_product, {1408, 2048, 512, 0}, DSB_ARITH_F32, DSB_W_F32, make_product, run_product, false},
    {"gemm_bf16", k_product, {1408, 2048, 512, 0}, DSB_ARITH_BF16, DSB_W_BF16, make_product, run_product, false},
    {"gemm_f16", k_product, {1408, 2048, 512, 0}, DSB_ARITH_F32, DSB_W_F16, make_product, run_product, false},
    {"gemm_i8", k_product, {1408, 2048, 512, 0}, DSB_ARITH_INT8, DSB_W_I8, make_product, run_product, false},
    {"gemm_i4", k_product, {1408, 2048, 512, 32}, DSB_ARITH_INT8, DSB_W_I4, make_product, run_product, false},
    {"attention", "heads x head dimension x tokens, each sees those before it", {16, 128, 512, 0}, DSB_ARITH_F32, 0, make_attention, run_attention, false},
    {"attention_decode", "heads x head dimension x keys, one query", {16, 128, 4096, 0}, DSB_ARITH_F32, 0, make_attention_decode, run_attention, false},
    {"quantize_dynamic", "rows a token x values x tokens, to int8", {1, 2048, 512, 0}, DSB_ARITH_F32, 0, make_quantize, run_quantize, false},
    {"rms_norm", "rows a token x values x tokens", {1, 2048, 512, 0}, DSB_ARITH_F32, 0, make_norm, run_norm, false},
    {"rope", "heads x rotated values x tokens, and their copy", {16, 64, 512, 0}, DSB_ARITH_F32, 0, make_rope, run_rope, true},
    {"silu_mul", "rows a token x values x tokens", {6, 1408, 512, 0}, DSB_ARITH_F32, 0, make_silu, run_silu, false},
    {"route", "experts x chosen x tokens", {64, 6, 512, 0}, DSB_ARITH_F32, 0, make_route, run_route, false},
    {"logit_rows", "1 x vocabulary x positions, two schemes compared", {1, 102400, 16, 0}, DSB_ARITH_F32, 0, make_logits, run_logits, false},
};

int dsb_case_list(const dsb_case_row **rows) {
    *rows = k_cases;
    return (int)(sizeof k_cases / sizeof *k_cases);
}

dsb_status dsb_case_shape_check(const dsb_case_row *row, const dsb_case_shape *s, dsb_err *err) {
    static const int64_t k_most = 1 << 24, k_values = 1 << 30;
    bool sane = s->rows >= 1 && s->cols >= 1 && s->n >= 1 && s->rows <= k_most && s->cols <= k_most && s->n <= k_most && s->rows * s->cols <= k_values && s->rows * s->n <= k_values && s->cols * s->n <= k_values;
    if (sane && row->make != make_product) sane = s->rows * s->cols * s->n <= k_values;
    if (!sane) return dsb_fail(err, DSB_EUSAGE, "%s: shape %lldx%lldx%lld (%s) is no size; each from 1, and no more than 2^30 values in one matrix are wanted", row->name, (long long)s->rows, (long long)s->cols, (long long)s->n, row->what);
    if (row->even && s->cols % 2) return dsb_fail(err, DSB_EUSAGE, "%s: %lld values don't make pairs; an even number is wanted", row->name, (long long)s->cols);
    if (s->group < 0 || s->group > s->cols) return dsb_fail(err, DSB_EUSAGE, "%s: a group of %lld inputs; 1 to the row's %lld are wanted", row->name, (long long)s->group, (long long)s->cols);
    return DSB_OK;
}

static dsb_status open_copies(dsb_case *c, int copies, dsb_err *err) {
    const dsb_case_row *row = c->row;
    *c = (dsb_case){.row = row, .be = c->be, .shape = c->shape, .fill = c->fill, .items = c->shape.n, .copies = copies, .random = 1};
    if (c->shape.group == 0) c->shape.group = c->shape.cols;
    dsb_status s = row->make(c, err);
    if (s) dsb_case_close(c);
    return s;
}

dsb_status dsb_case_open(dsb_case *c, const dsb_case_row *row, const dsb_backend *be, const dsb_case_shape *shape, dsb_case_fill fill, int copies, dsb_err *err) {
    static const double k_most = 1e9;
    enum { MOST = 1024 };
    DSB_TRY(dsb_case_shape_check(row, shape, err));
    *c = (dsb_case){.row = row, .be = be, .shape = *shape, .fill = fill};
    DSB_TRY(open_copies(c, copies ? copies : 1, err));
    if (copies) return DSB_OK;
    double wanted = 4 * (double)dsb_cache_bytes(), n = (wanted < k_most ? wanted : k_most) / c->bytes + 1;
    dsb_case_close(c);
    *c = (dsb_case){.row = row, .be = be, .shape = *shape, .fill = fill};
    return open_copies(c, n < 2 ? 2 : n > MOST ? MOST : (int)n, err);
}

void dsb_case_close(dsb_case *c) {
    if (!c->be) return;
    for (int i = 0; c->w && i < c->copies; i++) c->be->unpack(&c->w[i]);
    free(c->w);
    free(c->targets);
    for (int i = 0; i < DSB_CASE_INPUTS; i++)
        if (c->memory[i]) c->be->release(c->memory[i]);
    for (int i = 0; i < c->n_out; i++)
        if (c->out[i].host) free(c->out[i].memory);
        else if (c->out[i].memory) c->be->release(c->out[i].memory);
    *c = (dsb_case){0};
}

void dsb_case_run(const dsb_case *c, int copy) {
    c->row->run(c, copy, 0, c->items);
    c->be->sync();
}

static dsb_status wrong(const dsb_case *c, const char *what, int64_t item, size_t at, dsb_err *err) {
    return dsb_fail(err, DSB_EINTERNAL, "%s/%s, %lldx%lldx%lld group %lld: %s (item %lld, byte %zu)", c->be->isa, c->row->name, (long long)c->shape.rows, (long long)c->shape.cols, (long long)c->shape.n,
                    (long long)c->shape.group, what, (long long)item, at);
}

static dsb_status check_guards(const dsb_case *c, int i, dsb_err *err) {
    uint8_t before[GUARD], behind[GUARD];
    fetch(c, i, before, c->out[i].p - GUARD, GUARD);
    fetch(c, i, behind, output(c, i, c->items), GUARD);
    for (size_t b = 0; b < GUARD; b++) {
        if (before[b] != PATTERN) return wrong(c, "something was written before the output", 0, b, err);
        if (behind[b] != PATTERN) return wrong(c, "something was written behind the output", c->items, b, err);
    }
    return DSB_OK;
}

/* Items first .. first+n of both. */
static dsb_status compare(const dsb_case *c, const dsb_case *ref, int64_t first, int64_t n, dsb_err *err) {
    dsb_status s = DSB_OK;
    ref->row->run(ref, 0, first, n);
    ref->be->sync();
    for (int i = 0; i < c->n_out && !s; i++) {
        size_t stride = c->out[i].stride, bytes = (size_t)n * stride;
        uint8_t *got = NULL, *want = NULL;
        s = DSB_NEW(got, bytes, "outputs of a kernel", err);
        if (!s) s = DSB_NEW(want, bytes, "outputs of a kernel", err);
        if (!s) fetch(c, i, got, output(c, i, first), bytes);
        if (!s) fetch(ref, i, want, output(ref, i, first), bytes);
        for (size_t b = 0; b < bytes && !s; b++)
            if (b % stride < c->out[i].width && got[b] != want[b]) s = wrong(c, "differs from plain C", first + (int64_t)(b / stride), b % stride, err);
        free(got);
        free(want);
    }
    return s;
}

static dsb_status check_items(const dsb_case *c, const dsb_case *ref, dsb_err *err) {
    enum { FEW = 2 };
    int64_t n = c->items;
    if (c->ops < 4e7 || n <= 2 * FEW) return compare(c, ref, 0, n, err);
    DSB_TRY(compare(c, ref, 0, FEW, err));
    return compare(c, ref, n - FEW, FEW, err);
}

dsb_status dsb_case_check(const dsb_case *c, dsb_err *err) {
    dsb_case ref = {.row = c->row, .be = dsb_backend_cpu("ref"), .shape = c->shape, .fill = c->fill};
    DSB_TRY(open_copies(&ref, 1, err));
    dsb_status s = DSB_OK;
    for (int copy = 0; copy < c->copies && !s; copy += c->copies > 1 ? c->copies - 1 : 1) {
        dsb_case_run(c, copy);
        s = check_items(c, &ref, err);
    }
    for (int i = 0; i < c->n_out && !s; i++) s = check_guards(c, i, err);
    dsb_case_close(&ref);
    return s;
}
