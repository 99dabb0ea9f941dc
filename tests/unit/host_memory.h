/* A device's table behind rows that take host memory, so that the kernel tests run on a GPU as they are: each row uploads what it reads,
 * and downloads what it writes. DSBENCH_TEST_DEVICE=cuda adds it to the levels that kernel_cases.h compares. */
#ifndef DSB_TESTS_HOST_MEMORY_H
#define DSB_TESTS_HOST_MEMORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "kernels/backend.h"

static const dsb_backend *hm_real;

static inline void *hm_in(const void *host, int64_t bytes) {
    dsb_err err;
    void *p = NULL;
    if (!host) return NULL;
    if (hm_real->alloc(&p, (size_t)bytes, "a test's input", &err)) fail_msg("%s", err.text);
    hm_real->upload(p, host, (size_t)bytes);
    return p;
}
static inline void hm_drop(void *p) {
    if (p) hm_real->release(p);
}
static inline void hm_out(void *host, void *p, int64_t bytes) {
    if (p) hm_real->download(host, p, (size_t)bytes);
    hm_drop(p);
}
#define HM_IN(x, n) __typeof__(x) d_##x = (__typeof__(x))hm_in(x, (int64_t)(n) * (int64_t)sizeof *(x))
#define HM_OUT(x, n) hm_out((void *)(x), (void *)d_##x, (int64_t)(n) * (int64_t)sizeof *(x))
#define HM_DROP(x) hm_drop((void *)d_##x)
static inline int64_t hm_span(int64_t n, int64_t stride, int64_t d) { return n > 0 ? (n - 1) * stride + d : 0; }

static inline void hm_gemm(const dsb_wmat *w, const dsb_act *x, float *y) {
    dsb_act a = *x;
    a.f32 = hm_in(x->f32, x->n * x->cols * 4);
    a.q = hm_in(x->q, x->n * x->cols);
    a.scale = hm_in(x->scale, x->n * 4);
    HM_IN(y, x->n * w->rows);
    hm_real->gemm(w, &a, d_y);
    HM_OUT(y, x->n * w->rows);
    hm_drop((void *)a.f32);
    hm_drop((void *)a.q);
    hm_drop((void *)a.scale);
}
static inline void hm_quantize(void (*row)(const float *, int64_t, int64_t, int8_t *, float *), const float *x, int64_t n, int64_t cols, int8_t *q, float *scale) {
    HM_IN(x, n * cols);
    HM_IN(q, n * cols);
    HM_IN(scale, n);
    row(d_x, n, cols, d_q, d_scale);
    HM_OUT(q, n * cols);
    HM_OUT(scale, n);
    HM_DROP(x);
}
static inline void hm_quantize_dynamic(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale) { hm_quantize(hm_real->quantize_dynamic, x, n, cols, q, scale); }
static inline void hm_quantize_int4(const float *x, int64_t n, int64_t cols, int8_t *q, float *scale) { hm_quantize(hm_real->quantize_int4, x, n, cols, q, scale); }
static inline void hm_dequantize(const int8_t *q, const float *scale, int64_t n, int64_t cols, float *y) {
    HM_IN(q, n * cols);
    HM_IN(scale, n);
    HM_IN(y, n * cols);
    hm_real->dequantize(d_q, d_scale, n, cols, d_y);
    HM_OUT(y, n * cols);
    HM_DROP(q);
    HM_DROP(scale);
}
static inline void hm_gemm_heads(const dsb_wmat *w, int64_t heads, const float *x, int64_t n, int64_t tail, float *y) {
    HM_IN(x, n * heads * (w->cols + tail));
    HM_IN(y, n * heads * (w->rows + tail));
    hm_real->gemm_heads(w, heads, d_x, n, tail, d_y);
    HM_OUT(y, n * heads * (w->rows + tail));
    HM_DROP(x);
}
static inline int64_t hm_quantize_static(const float *x, int64_t n, int64_t cols, float given, int8_t *q, float *scale) {
    HM_IN(x, n * cols);
    HM_IN(q, n * cols);
    HM_IN(scale, n);
    int64_t c = hm_real->quantize_static(d_x, n, cols, given, d_q, d_scale);
    HM_OUT(q, n * cols);
    HM_OUT(scale, n);
    HM_DROP(x);
    return c;
}
static inline int64_t hm_round_e4m3(const float *x, int64_t n, int64_t cols, float given, float *y) {
    HM_IN(x, n * cols);
    HM_IN(y, n * cols);
    int64_t c = hm_real->round_e4m3(d_x, n, cols, given, d_y);
    HM_OUT(y, n * cols);
    HM_DROP(x);
    return c;
}
static inline void hm_scale_columns(const float *x, int64_t n, int64_t cols, const float *scale, float *y) {
    HM_IN(x, n * cols);
    HM_IN(scale, cols);
    HM_IN(y, n * cols);
    hm_real->scale_columns(d_x, n, cols, d_scale, x == y ? (float *)d_x : d_y);
    hm_out(y, x == y ? (void *)d_x : d_y, n * cols * 4);
    hm_drop(x == y ? d_y : (void *)d_x);
    HM_DROP(scale);
}
static inline void hm_hadamard(const float *x, int64_t n, int64_t cols, int64_t block, float *y) {
    HM_IN(x, n * cols);
    HM_IN(y, n * cols);
    hm_real->hadamard(d_x, n, cols, block, x == y ? (float *)d_x : d_y);
    hm_out(y, x == y ? (void *)d_x : d_y, n * cols * 4);
    hm_drop(x == y ? d_y : (void *)d_x);
}
static inline void hm_rms_norm(const float *x, int64_t xs, const float *w, double eps, int64_t n, int64_t d, float *y, int64_t ys) {
    HM_IN(w, d);
    HM_IN(x, hm_span(n, xs, d));
    float *d_y = x == y ? (float *)d_x : hm_in(y, hm_span(n, ys, d) * 4);
    hm_real->rms_norm(d_x, xs, d_w, eps, n, d, d_y, ys);
    HM_OUT(y, hm_span(n, ys, d));
    if (x != y) HM_DROP(x);
    HM_DROP(w);
}
static inline void hm_rope(float *x, int64_t n, int64_t heads, int64_t rs, int64_t hs, int64_t dim, bool half, const int32_t *pos, const float *c, const float *s) {
    int64_t most = 0;
    for (int64_t i = 0; i < n; i++) most = pos[i] > most ? pos[i] : most;
    HM_IN(x, hm_span(n, rs, hm_span(heads, hs, dim)));
    HM_IN(pos, n);
    HM_IN(c, (most + 1) * (dim / 2));
    HM_IN(s, (most + 1) * (dim / 2));
    hm_real->rope(d_x, n, heads, rs, hs, dim, half, d_pos, d_c, d_s);
    HM_OUT(x, hm_span(n, rs, hm_span(heads, hs, dim)));
    HM_DROP(pos);
    HM_DROP(c);
    HM_DROP(s);
}
static inline void hm_mla_assemble(const float *kv, const float *kpe, int64_t stride, int64_t n, int64_t heads, int64_t nope, int64_t v_dim, int64_t rope, float *k, float *v) {
    HM_IN(kv, n * heads * (nope + v_dim));
    HM_IN(kpe, hm_span(n, stride, rope));
    HM_IN(k, n * heads * (nope + rope));
    HM_IN(v, n * heads * v_dim);
    hm_real->mla_assemble(d_kv, d_kpe, stride, n, heads, nope, v_dim, rope, d_k, d_v);
    HM_OUT(k, n * heads * (nope + rope));
    HM_OUT(v, n * heads * v_dim);
    HM_DROP(kv);
    HM_DROP(kpe);
}
static inline void hm_attention(const dsb_attention_shape *shape, const dsb_seq *seqs, int64_t n, const float *q, const float *k, const float *v, float *out) {
    dsb_attention_shape s = *shape;
    int64_t nq = 0, nk = 0;
    for (int64_t i = 0; i < n; i++) {
        nq = seqs[i].q0 + seqs[i].n_q > nq ? seqs[i].q0 + seqs[i].n_q : nq;
        nk = seqs[i].kv0 + seqs[i].n_kv > nk ? seqs[i].kv0 + seqs[i].n_kv : nk;
    }
    s.sinks = hm_in(shape->sinks, s.heads * 4);
    HM_IN(q, nq * s.heads * s.qk_dim);
    HM_IN(k, hm_span(nk, s.k_stride ? s.k_stride : s.kv_heads * s.qk_dim, s.kv_heads * s.qk_dim));
    HM_IN(v, hm_span(nk, s.v_stride ? s.v_stride : s.kv_heads * s.v_dim, s.kv_heads * s.v_dim));
    HM_IN(out, nq * s.heads * s.v_dim);
    hm_real->attention(&s, seqs, n, d_q, d_k, d_v, d_out);
    HM_OUT(out, nq * s.heads * s.v_dim);
    HM_DROP(q);
    HM_DROP(k);
    HM_DROP(v);
    hm_drop((void *)s.sinks);
}
static inline void hm_silu_mul(const float *g, const float *u, int64_t n, bool round, float *out) {
    HM_IN(g, n);
    HM_IN(u, n);
    HM_IN(out, n);
    hm_real->silu_mul(d_g, d_u, n, round, d_out);
    HM_OUT(out, n);
    HM_DROP(g);
    HM_DROP(u);
}
static inline void hm_swiglu_clamped(const float *g, const float *u, int64_t n, float alpha, float limit, bool round, float *out) {
    HM_IN(g, n);
    HM_IN(u, n);
    HM_IN(out, n);
    hm_real->swiglu_clamped(d_g, d_u, n, alpha, limit, round, d_out);
    HM_OUT(out, n);
    HM_DROP(g);
    HM_DROP(u);
}
static inline void hm_add_bias(float *y, const float *bias, int64_t n, int64_t d) {
    HM_IN(y, n * d);
    HM_IN(bias, d);
    hm_real->add_bias(d_y, d_bias, n, d);
    HM_OUT(y, n * d);
    HM_DROP(bias);
}
static inline void hm_clamp(float *x, int64_t n, float limit) {
    HM_IN(x, n);
    hm_real->clamp(d_x, n, limit);
    HM_OUT(x, n);
}
static inline void hm_sigmoid_gate(float *y, const float *z, int64_t n, int64_t d) {
    HM_IN(y, n * d);
    HM_IN(z, n);
    hm_real->sigmoid_gate(d_y, d_z, n, d);
    HM_OUT(y, n * d);
    HM_DROP(z);
}
static inline void hm_round_bf16(float *x, int64_t n) {
    HM_IN(x, n);
    hm_real->round_bf16(d_x, n);
    HM_OUT(x, n);
}
static inline void hm_round_f16(float *x, int64_t n) {
    HM_IN(x, n);
    hm_real->round_f16(d_x, n);
    HM_OUT(x, n);
}
static inline void hm_load_bf16(const uint16_t *src, int64_t n, float *dst) {
    HM_IN(src, n);
    HM_IN(dst, n);
    hm_real->load_bf16(d_src, n, d_dst);
    HM_OUT(dst, n);
    HM_DROP(src);
}
static inline void hm_store_bf16(const float *src, int64_t n, uint16_t *dst) {
    HM_IN(src, n);
    HM_IN(dst, n);
    hm_real->store_bf16(d_src, n, d_dst);
    HM_OUT(dst, n);
    HM_DROP(src);
}
static inline void hm_add(float *y, const float *x, int64_t n) {
    HM_IN(y, n);
    HM_IN(x, n);
    hm_real->add(d_y, d_x, n);
    HM_OUT(y, n);
    HM_DROP(x);
}
static inline int64_t hm_most(const int32_t *idx, int64_t n) {
    int64_t most = -1;
    for (int64_t i = 0; i < n; i++) most = idx[i] > most ? idx[i] : most;
    return most + 1;
}
static inline void hm_gather(const float *src, const int32_t *idx, int64_t n, int64_t d, float *dst) {
    HM_IN(src, hm_most(idx, n) * d);
    HM_IN(idx, n);
    HM_IN(dst, n * d);
    hm_real->gather(d_src, d_idx, n, d, d_dst);
    HM_OUT(dst, n * d);
    HM_DROP(src);
    HM_DROP(idx);
}
static inline void hm_scatter_add(float *acc, const int32_t *idx, const float *weight, const float *x, int64_t n, int64_t d) {
    HM_IN(acc, hm_most(idx, n) * d);
    HM_IN(idx, n);
    HM_IN(weight, n);
    HM_IN(x, n * d);
    hm_real->scatter_add(d_acc, d_idx, d_weight, d_x, n, d);
    HM_OUT(acc, hm_most(idx, n) * d);
    HM_DROP(idx);
    HM_DROP(weight);
    HM_DROP(x);
}
static inline void hm_route(const dsb_router_shape *r, const float *logits, const float *bias, int64_t n, float *scores, int32_t *idx, float *weight, float *margin) {
    HM_IN(logits, n * r->n_expert);
    HM_IN(bias, r->n_expert);
    HM_IN(scores, n * r->n_expert);
    HM_IN(idx, n * r->k);
    HM_IN(weight, n * r->k);
    HM_IN(margin, n);
    hm_real->route(r, d_logits, d_bias, n, d_scores, d_idx, d_weight, d_margin);
    HM_OUT(scores, n * r->n_expert);
    HM_OUT(idx, n * r->k);
    HM_OUT(weight, n * r->k);
    HM_OUT(margin, n);
    HM_DROP(logits);
    HM_DROP(bias);
}
static inline void hm_moments(const float *x, const float *y, int64_t n, dsb_moments *out) {
    HM_IN(x, n);
    HM_IN(y, n);
    hm_real->moments(d_x, d_y, n, out);
    HM_DROP(x);
    HM_DROP(y);
}
static inline float hm_absmax(const float *x, int64_t n) {
    HM_IN(x, n);
    float top = hm_real->absmax(d_x, n);
    HM_DROP(x);
    return top;
}
static inline void hm_histogram(const float *x, int64_t n, uint64_t *bins) {
    HM_IN(x, n);
    hm_real->histogram(d_x, n, bins);
    HM_DROP(x);
}
static inline void hm_channel_sums(const float *x, int64_t n, int64_t cols, double *sum, double *sum_abs, double *sum_sq, float *top) {
    HM_IN(x, n * cols);
    hm_real->channel_sums(d_x, n, cols, sum, sum_abs, sum_sq, top);
    HM_DROP(x);
}
static inline void hm_gram(const float *x, int64_t n, int64_t cols, double *gram) {
    HM_IN(x, n * cols);
    hm_real->gram(d_x, n, cols, gram);
    HM_DROP(x);
}
static inline void hm_logit_rows(const float *ref, const float *test, const int32_t *target, int64_t n, int64_t vocab, dsb_logit_row *out) {
    HM_IN(ref, n * vocab);
    HM_IN(test, n * vocab);
    hm_real->logit_rows(d_ref, d_test, target, n, vocab, out);
    HM_DROP(ref);
    HM_DROP(test);
}

/* The device's table, or NULL where DSBENCH_TEST_DEVICE names none; a named one that isn't there fails the test. */
static inline const dsb_backend *hm_device(void) {
    char note[1024];
    dsb_err err;
    const char *name = getenv("DSBENCH_TEST_DEVICE");
    if (!name) return NULL;
    if (!hm_real) {
        if (dsb_device_choose(name, note, sizeof note, &err)) fail_msg("%s", err.text);
        if (*note) fail_msg("%s", note);
        hm_real = dsb_device();
    }
    return hm_real;
}

static inline const dsb_backend *hm_table(void) {
    static dsb_backend t;
    const dsb_backend *real = hm_device();
    if (!real) return NULL;
    t = (dsb_backend){.name = "host memory", .isa = real->isa, .alloc = real->alloc, .release = real->release, .upload = real->upload, .download = real->download, .copy = real->copy, .zero = real->zero, .sync = real->sync,
                      .check = real->check, .pack_float = real->pack_float, .pack_int = real->pack_int, .pack_blocks = real->pack_blocks, .unpack = real->unpack, .gemm = hm_gemm, .quantize_dynamic = hm_quantize_dynamic, .quantize_static = hm_quantize_static,
                      .quantize_int4 = hm_quantize_int4, .dequantize = hm_dequantize, .gemm_heads = hm_gemm_heads, .round_e4m3 = hm_round_e4m3, .scale_columns = hm_scale_columns, .hadamard = hm_hadamard, .rms_norm = hm_rms_norm, .rope = hm_rope, .mla_assemble = hm_mla_assemble,
                      .attention = hm_attention, .silu_mul = hm_silu_mul, .swiglu_clamped = hm_swiglu_clamped, .add_bias = hm_add_bias, .clamp = hm_clamp, .sigmoid_gate = hm_sigmoid_gate, .round_bf16 = hm_round_bf16,
                      .round_f16 = hm_round_f16, .load_bf16 = hm_load_bf16, .store_bf16 = hm_store_bf16, .add = hm_add, .gather = hm_gather, .scatter_add = hm_scatter_add, .route = hm_route, .moments = hm_moments, .absmax = hm_absmax,
                      .histogram = hm_histogram, .channel_sums = hm_channel_sums, .gram = hm_gram, .logit_rows = hm_logit_rows};
    return &t;
}

#endif
